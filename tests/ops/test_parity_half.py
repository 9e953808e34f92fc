"""float16 and bfloat16 against PyTorch: dtypes of results and gradients, and values to the digits the types have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.testing.parity import attempt, compare_outcomes

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

# A few roundings of 2^-11 and 2^-8.
BOUNDS = {"float16": 4e-3, "bfloat16": 3e-2}
LABELS = np.array([0, 1, 2, 3, 3])


def assigned(x: Any, value: Any) -> Any:
    x[0] = value
    return x


# Every input that is a shape is drawn in float32 and cast to the half type; f is nn.functional.
CASES: dict[str, tuple[Any, ...]] = {
    "linear": (lambda m, f, x, w, b: f.linear(x, w, b), (4, 5), (3, 5), (3,)),
    "conv2d": (lambda m, f, x, w, b: f.conv2d(x, w, b, padding=1, stride=2), (2, 3, 7, 7), (4, 3, 3, 3), (4,)),
    "conv2d depthwise": (lambda m, f, x, w: f.conv2d(x, w, padding=1, groups=3), (2, 3, 7, 7), (3, 1, 3, 3)),
    "max_pool2d": (lambda m, f, x: f.max_pool2d(x, 3, 2, 1), (2, 3, 7, 7)),
    "avg_pool2d": (lambda m, f, x: f.avg_pool2d(x, 3, 2, 1), (2, 3, 7, 7)),
    "adaptive_avg_pool2d": (lambda m, f, x: f.adaptive_avg_pool2d(x, 2), (2, 3, 7, 7)),
    "global average": (lambda m, f, x: f.adaptive_avg_pool2d(x, 1), (2, 3, 7, 7)),
    "batch_norm": (lambda m, f, x, w, b: f.batch_norm(x, None, None, w, b, training=True), (4, 3, 7, 7), (3,), (3,)),
    "batch_norm float32 weights": (
        lambda m, f, x, w, b: f.batch_norm(x, None, None, w.float(), b.float(), training=True),
        (4, 3, 7, 7), (3,), (3,),
    ),
    "softmax": (lambda m, f, x: x.softmax(1), (4, 7)),
    "log_softmax": (lambda m, f, x: x.log_softmax(1), (4, 7)),
    "cross_entropy": (lambda m, f, x: f.cross_entropy(x, m.tensor(LABELS), label_smoothing=0.1), (5, 4)),
    "mse_loss": (lambda m, f, x, y: f.mse_loss(x, y), (5, 4), (5, 4)),
    "sum": (lambda m, f, x: x.sum(), (50, 40)),
    "mean": (lambda m, f, x: x.mean(1), (50, 40)),
    "var": (lambda m, f, x: x.var(1), (50, 40)),
    "std": (lambda m, f, x: x.std(1), (50, 40)),
    "max": (lambda m, f, x: x.max(1), (50, 40)),
    "max of all": (lambda m, f, x: x.max(), (50, 40)),
    "argmax": (lambda m, f, x: x.argmax(1), (50, 40)),
    "gather": (lambda m, f, x: x[[0, 0, 2]], (5, 4)),
    "assign": (lambda m, f, x, v: assigned(x * 1, v), (5, 4), (4,)),
    "cat": (lambda m, f, x: m.cat([x, x]), (5, 4)),
    "cat with float32": (lambda m, f, x: m.cat([x, x.float()]), (5, 4)),
    "clamp": (lambda m, f, x: x.clamp(-0.5, 0.5), (5, 4)),
    "where": (lambda m, f, x: m.where(x > 0, x, 0.0), (5, 4)),
    "pow": (lambda m, f, x: x**2, (5, 4)),
    "functions": (lambda m, f, x: x.exp().sqrt().log().tanh().sigmoid().abs().relu(), (5, 4)),
    "arithmetic": (lambda m, f, x, y: (x * 2 + y) / 3 - y, (5, 4), (4,)),
    "with float32": (lambda m, f, x, y: x * y.float(), (5, 4), (4,)),
    "matmul": (lambda m, f, x, y: x @ y, (2, 5, 4), (4, 3)),
    "pad": (lambda m, f, x: f.pad(x, (1, 1)), (5, 4)),
    "dropout of nothing": (lambda m, f, x: f.dropout(x, 0.0), (5, 4)),
    "waves": (lambda m, f, x: (x.sin(), x.cos(), x.tan().atan(), x.sinh(), x.cosh(), x.asinh()), (5, 4)),
    "error function": (lambda m, f, x: (x.erf(), x.erfc(), m.expm1(x), m.exp2(x)), (5, 4)),
    "rounding": (lambda m, f, x: (x.floor(), x.ceil(), x.trunc(), x.round(), x.sign(), m.frac(x)), (5, 4)),
    "pairs": (lambda m, f, x, y: (m.atan2(x, y), m.hypot(x, y), m.fmax(x, y), m.logaddexp(x, y)), (5, 4), (4,)),
    "nan_to_num": (lambda m, f, x: m.nan_to_num(x * math.inf), (5, 4)),
    "prod": (lambda m, f, x: x.prod(1), (5, 4)),
    "cumsum": (lambda m, f, x: (x.cumsum(1), x.cumprod(0)), (5, 40)),
    "logsumexp": (lambda m, f, x: x.logsumexp(1), (5, 40)),
    "norm": (lambda m, f, x: (x.norm(), x.norm(1, 1), x.norm(math.inf, 0)), (5, 40)),
    "sort": (lambda m, f, x: (x.sort(1), x.topk(3, 1), x.median(1), x.kthvalue(2, 0)), (5, 7)),
    "einsum": (lambda m, f, x, y: m.einsum("ij,kj->ik", x, y), (5, 40), (3, 40)),
    "clamp tensor": (lambda m, f, x, y: x.clamp(min=y), (5, 4), (4,)),
    "item": (lambda m, f, x: x.detach().item(), ()),
    "tolist": (lambda m, f, x: x.detach().sum().tolist(), (1,)),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("label", CASES)
def test_case(label: str, name: str) -> None:
    run, *shapes = CASES[label]
    rng = np.random.default_rng(5)
    arrays = [np.asarray(rng.standard_normal(shape), np.float32) for shape in shapes]

    def cast(m: Any, *tensors: Any) -> Any:
        function: Callable[..., Any] = run
        return function(m, m.nn.functional, *(tensor.to(getattr(m, name)) for tensor in tensors))

    ours, theirs = (attempt(module, cast, [array.copy() for array in arrays]) for module in (gn, torch))
    problems = compare_outcomes(ours, theirs, BOUNDS[name])
    assert not problems, "\n".join(problems)
