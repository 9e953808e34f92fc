"""``gpunet.nn.functional`` against PyTorch, awkward arguments first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet.testing.compare import agreement_bound, relative_error
from gpunet.testing.parity import Case, case, check_case

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

NAN, INF = float("nan"), float("inf")
RNG = np.random.default_rng(3)
LABELS = np.array([0, 3, 1, 2, 2])
IGNORED = np.array([0, -100, 1, -100, 2])
ALL_IGNORED = np.full(5, -100)
SPATIAL = RNG.integers(0, 4, (2, 3, 5))
WEIGHTS = np.array([0.5, 2.0, 1.0, 0.0])
PROBABILITIES = RNG.dirichlet(np.ones(4), 5)
SPATIAL_PROBABILITIES = np.moveaxis(RNG.dirichlet(np.ones(4), (2, 3, 5)), -1, 1).copy()
TIED_IMAGE = np.repeat(np.repeat(RNG.integers(0, 3, (2, 3, 4, 4)).astype(np.float64), 2, 2), 2, 3)
NAN_IMAGE = np.where(RNG.random((1, 2, 6, 6)) < 0.2, NAN, RNG.standard_normal((1, 2, 6, 6)))
INF_IMAGE = np.where(RNG.random((1, 2, 6, 6)) < 0.5, -INF, RNG.standard_normal((1, 2, 6, 6)))


def on(label: str, run: Callable[..., Any], *inputs: Any, **bounds: Any) -> Case:
    """A case of the functions alone: ``run`` takes ``nn.functional`` and the inputs."""
    return case(label, lambda m, *tensors: run(m.nn.functional, *tensors), *inputs, **bounds)


LINEAR = [
    on("linear", lambda f, x, w, b: f.linear(x, w, b), (4, 5), (3, 5), (3,)),
    on("linear no bias", lambda f, x, w: f.linear(x, w), (2, 4, 5), (3, 5)),
    on("linear 1-d", lambda f, x, w, b: f.linear(x, w, b), (5,), (3, 5), (3,)),
    on("linear 4-d", lambda f, x, w, b: f.linear(x, w, b), (2, 3, 4, 5), (6, 5), (6,)),
    on("linear empty", lambda f, x, w, b: f.linear(x, w, b), (0, 5), (3, 5), (3,)),
    on("linear no features", lambda f, x, w, b: f.linear(x, w, b), (2, 0), (3, 0), (3,)),
    on("linear large", lambda f, x, w, b: f.linear(x, w, b), (70, 300), (90, 300), (90,), terms=300),
    on("linear wrong features", lambda f, x, w: f.linear(x, w), (4, 5), (3, 4)),
    on("linear wrong bias", lambda f, x, w, b: f.linear(x, w, b), (4, 5), (3, 5), (2,)),
    on("linear bias 2-d", lambda f, x, w, b: f.linear(x, w, b), (4, 5), (3, 5), (1, 3)),
    on("linear 1-d weight", lambda f, x, w: f.linear(x, w), (4, 5), (5,)),
    on("linear 0-d", lambda f, x, w: f.linear(x, w), (), (3, 5)),
    on("linear mixed dtypes", lambda f, x, w: f.linear(x.float(), w.double()), (4, 5), (3, 5)),
    on("linear integers", lambda f, x, w: f.linear(x, w), np.ones((2, 3), int), np.ones((2, 3), int)),
]

# label, input, weight, arguments; the bias is there in every second case.
CONVOLUTIONS: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ("plain", (2, 3, 8, 9), (4, 3, 3, 3), {}),
    ("padded", (2, 3, 8, 9), (4, 3, 3, 3), {"padding": 1}),
    ("padded unevenly", (2, 3, 8, 9), (4, 3, 3, 2), {"padding": (2, 0)}),
    ("padding larger than the kernel", (1, 2, 4, 4), (3, 2, 2, 2), {"padding": 3}),
    ("strided", (2, 3, 9, 9), (4, 3, 3, 3), {"stride": 2, "padding": 1}),
    ("strided unevenly", (2, 3, 8, 9), (4, 3, 3, 3), {"stride": (1, 3)}),
    ("stride larger than the kernel", (2, 3, 9, 11), (4, 3, 2, 2), {"stride": (4, 3)}),
    ("stride leaves a rest", (1, 2, 10, 10), (3, 2, 3, 3), {"stride": 4}),
    ("dilated", (2, 3, 9, 10), (4, 3, 3, 3), {"dilation": 2}),
    ("dilated with stride", (2, 3, 11, 12), (4, 3, 3, 3), {"dilation": (2, 3), "stride": 2, "padding": 2}),
    ("dilated with stride 3", (2, 2, 13, 13), (3, 2, 3, 2), {"dilation": 2, "stride": 3, "padding": (2, 1)}),
    ("dilation equal to stride", (1, 2, 12, 12), (3, 2, 3, 3), {"dilation": 2, "stride": 2}),
    ("dilation multiple of stride", (1, 2, 14, 14), (3, 2, 3, 3), {"dilation": 4, "stride": 2, "padding": 1}),
    ("groups", (2, 4, 7, 7), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
    ("groups strided dilated", (2, 4, 11, 9), (6, 2, 3, 3), {"groups": 2, "stride": 2, "dilation": 2, "padding": 2}),
    ("depthwise", (2, 5, 7, 7), (5, 1, 3, 3), {"groups": 5, "padding": 1}),
    ("depthwise strided", (2, 5, 8, 7), (5, 1, 3, 3), {"groups": 5, "padding": 1, "stride": 2}),
    ("depthwise multiplier", (2, 3, 7, 7), (6, 1, 3, 3), {"groups": 3, "dilation": 2}),
    ("depthwise one pixel", (2, 4, 5, 5), (4, 1, 1, 1), {"groups": 4}),
    ("pointwise", (2, 6, 5, 5), (4, 6, 1, 1), {}),
    ("pointwise strided", (2, 6, 5, 5), (4, 6, 1, 1), {"stride": 2}),
    ("pointwise padded", (2, 6, 5, 5), (4, 6, 1, 1), {"padding": 1}),
    ("one channel", (1, 1, 5, 5), (1, 1, 3, 3), {"padding": 1}),
    ("kernel as large as the input", (2, 3, 4, 5), (7, 3, 4, 5), {}),
    ("kernel as large as the padded input", (2, 3, 3, 3), (7, 3, 5, 5), {"padding": 1}),
    ("row kernel", (2, 3, 4, 9), (2, 3, 1, 5), {"padding": (0, 2)}),
    ("column kernel", (2, 3, 9, 4), (2, 3, 5, 1), {"padding": (2, 0)}),
    ("one pixel input", (3, 4, 1, 1), (5, 4, 3, 3), {"padding": 1}),
    ("same", (2, 3, 6, 7), (4, 3, 3, 5), {"padding": "same"}),
    ("same even kernel", (2, 3, 6, 7), (4, 3, 4, 2), {"padding": "same"}),
    ("same even kernel dilated", (2, 3, 9, 9), (4, 3, 2, 4), {"padding": "same", "dilation": (3, 1)}),
    ("same groups", (2, 4, 6, 6), (4, 2, 3, 3), {"padding": "same", "groups": 2}),
    ("valid", (2, 3, 6, 7), (4, 3, 3, 3), {"padding": "valid", "stride": 2}),
    ("large", (4, 16, 20, 20), (24, 16, 3, 3), {"padding": 1}),
    ("many blocks", (9, 8, 33, 31), (8, 8, 3, 3), {"padding": 1, "stride": 2}),
    ("unbatched", (3, 8, 9), (4, 3, 3, 3), {"padding": 1}),
    ("unbatched strided groups", (4, 8, 9), (4, 2, 3, 3), {"stride": 2, "groups": 2}),
    ("empty batch", (0, 3, 8, 9), (4, 3, 3, 3), {"padding": 1}),
    ("sequence arguments", (2, 3, 8, 9), (4, 3, 3, 3), {"padding": [1, 2], "stride": [2, 1], "dilation": [1, 1]}),
    ("one-element sequences", (2, 3, 8, 9), (4, 3, 3, 3), {"padding": [1], "stride": (2,)}),
    # refused
    ("wrong channels", (2, 2, 8, 9), (4, 3, 3, 3), {}),
    ("wrong rank", (8, 9), (4, 3, 3, 3), {}),
    ("5-d input", (1, 2, 3, 8, 9), (4, 3, 3, 3), {}),
    ("weight of wrong rank", (2, 3, 8, 9), (4, 3, 3), {}),
    ("kernel too large", (2, 3, 4, 4), (4, 3, 5, 3), {}),
    ("dilated kernel too large", (2, 3, 4, 4), (4, 3, 3, 3), {"dilation": 2}),
    ("stride zero", (2, 3, 8, 9), (4, 3, 3, 3), {"stride": 0}),
    ("stride negative", (2, 3, 8, 9), (4, 3, 3, 3), {"stride": (1, -1)}),
    ("padding negative", (2, 3, 8, 9), (4, 3, 3, 3), {"padding": -1}),
    ("dilation zero", (2, 3, 8, 9), (4, 3, 3, 3), {"dilation": 0}),
    ("groups zero", (2, 3, 8, 9), (4, 3, 3, 3), {"groups": 0}),
    ("groups negative", (2, 3, 8, 9), (4, 3, 3, 3), {"groups": -1}),
    ("groups do not divide the outputs", (2, 4, 8, 9), (3, 2, 3, 3), {"groups": 2}),
    ("groups do not divide the inputs", (2, 5, 8, 9), (4, 2, 3, 3), {"groups": 2}),
    ("same with stride", (2, 3, 8, 9), (4, 3, 3, 3), {"padding": "same", "stride": 2}),
    ("unknown padding", (2, 3, 8, 9), (4, 3, 3, 3), {"padding": "full"}),
    ("three strides", (2, 3, 8, 9), (4, 3, 3, 3), {"stride": (1, 1, 1)}),
    ("float stride", (2, 3, 8, 9), (4, 3, 3, 3), {"stride": 1.5}),
    ("string stride", (2, 3, 8, 9), (4, 3, 3, 3), {"stride": "2"}),
    ("empty kernel", (2, 3, 8, 9), (4, 3, 0, 3), {}),
    ("empty image", (2, 3, 0, 9), (4, 3, 3, 3), {}),
    ("empty image padded", (2, 3, 0, 9), (4, 3, 3, 3), {"padding": 2}),
    ("no input channels", (2, 0, 8, 9), (4, 0, 3, 3), {}),
    ("no output channels", (2, 3, 8, 9), (0, 3, 3, 3), {}),
]

CONV = [
    case(
        f"conv2d {label}",
        lambda m, x, w, *b, kw=kw: m.nn.functional.conv2d(x, w, *b, **kw),
        x, w, *([(w[0],)] if number % 2 else []),
        terms=int(np.prod(x)),
    )
    for number, (label, x, w, kw) in enumerate(CONVOLUTIONS)
] + [
    on("conv2d wrong bias", lambda f, x, w, b: f.conv2d(x, w, b), (2, 3, 8, 9), (4, 3, 3, 3), (3,)),
    on("conv2d positional", lambda f, x, w, b: f.conv2d(x, w, b, 2, 1, 1, 1), (2, 3, 8, 9), (4, 3, 3, 3), (4,)),
    on("conv2d mixed dtypes", lambda f, x, w: f.conv2d(x.float(), w.double()), (1, 2, 4, 4), (2, 2, 3, 3)),
    on("conv2d integers", lambda f, x, w: f.conv2d(x, w), np.ones((1, 1, 3, 3), int), np.ones((1, 1, 2, 2), int)),
    on("conv2d twice", lambda f, x, w: f.conv2d(f.conv2d(x, w, padding=1).relu(), w, padding=1),
         (2, 4, 6, 6), (4, 4, 3, 3), terms=288),
    on("conv2d then view", lambda f, x, w: f.conv2d(x, w).reshape(2, -1), (2, 3, 5, 5), (4, 3, 3, 3), terms=200),
    on("conv2d of a permuted image", lambda f, x, w: f.conv2d(x.permute(0, 3, 1, 2), w),
       (2, 5, 6, 3), (4, 3, 3, 3), terms=180),
    on("conv2d of an expanded image", lambda f, x, w: f.conv2d(x.expand(2, 3, 5, 5), w),
       (2, 1, 5, 5), (4, 3, 3, 3), terms=180),
    on("conv2d of a sliced image", lambda f, x, w: f.conv2d(x[:, ::2, 1:, ::2], w),
       (2, 5, 6, 9), (4, 3, 3, 3), terms=180),
    on("conv2d expanded gradient", lambda f, x, w: f.conv2d(x, w).sum(), (2, 3, 5, 5), (4, 3, 3, 3), terms=200),
    on("conv2d frozen weight", lambda f, x, w: f.conv2d(x, w.detach()), (2, 3, 5, 5), (4, 3, 3, 3), terms=200),
    on("conv2d frozen input", lambda f, x, w: f.conv2d(x.detach(), w), (2, 3, 5, 5), (4, 3, 3, 3), terms=200),
    on("conv2d half", lambda f, x, w: f.conv2d(x.half(), w.half(), padding=1), (2, 3, 5, 5), (4, 3, 3, 3),
         at_least=2e-3),  # float16 keeps 11 bits
]  # fmt: skip

POOLS: list[tuple[str, tuple[int, ...] | np.ndarray, tuple[Any, ...], dict[str, Any]]] = [
    ("2", (2, 3, 8, 8), (2,), {}),
    ("rest dropped", (2, 3, 7, 9), (2,), {}),
    ("overlapping", (2, 3, 7, 9), (3, 2), {}),
    ("padded", (2, 3, 7, 9), (3, 2, 1), {}),
    ("uneven", (2, 3, 7, 9), ((3, 2), (2, 1), (1, 0)), {}),
    ("stride larger than the kernel", (2, 3, 9, 9), (2, (4, 3)), {}),
    ("ceil", (2, 3, 7, 9), (2,), {"ceil_mode": True}),
    ("ceil padded", (2, 3, 8, 9), (3, 2, 1), {"ceil_mode": True}),
    ("ceil window starts in the padding", (1, 1, 4, 4), (2, 3, 1), {"ceil_mode": True}),
    ("ceil large stride", (1, 1, 5, 6), (2, 4), {"ceil_mode": True}),
    ("one pixel", (2, 3, 4, 4), (1,), {}),
    ("whole image", (2, 3, 4, 5), ((4, 5),), {}),
    ("unbatched", (3, 8, 9), (2,), {}),
    ("empty batch", (0, 3, 8, 9), (2,), {}),
    ("stride None", (2, 3, 8, 8), (2, None), {}),
    ("one-element sequence", (2, 3, 8, 8), ([2],), {}),
    ("blocks", (9, 16, 25, 24), (3, 2, 1), {}),
    ("padding too large", (2, 3, 8, 8), (3, 2, 2), {}),
    ("padding negative", (2, 3, 8, 8), (3, 2, -1), {}),
    ("kernel zero", (2, 3, 8, 8), (0,), {}),
    ("stride zero", (2, 3, 8, 8), (2, 0), {}),
    ("stride negative", (2, 3, 8, 8), (2, -1), {}),
    ("kernel too large", (2, 3, 2, 8), (3,), {}),
    ("kernel too large with ceil", (2, 3, 2, 8), (3,), {"ceil_mode": True}),
    ("no rows left with ceil", (2, 3, 1, 8), (3, 2), {"ceil_mode": True}),
    ("wrong rank", (8, 8), (2,), {}),
    ("5-d", (1, 2, 3, 8, 8), (2,), {}),
    ("no channels", (2, 0, 8, 8), (2,), {}),
    ("empty image", (2, 3, 0, 8), (2,), {}),
    ("float kernel", (2, 3, 8, 8), (2.5,), {}),
    ("integers", np.arange(64).reshape(1, 1, 8, 8), (2,), {}),
    ("ties", TIED_IMAGE, (3, 2, 1), {}),
    ("NaN", NAN_IMAGE, (3, 2, 1), {}),
    ("minus infinity", INF_IMAGE, (3, 1, 1), {}),
]

POOLING = [
    on(f"{name} {label}", lambda f, x, name=name, args=args, kw=kw: getattr(f, name)(x, *args, **kw), x, terms=60)
    for name in ("max_pool2d", "avg_pool2d")
    for label, x, args, kw in POOLS
] + [
    on(f"max_pool2d {label}", lambda f, x, kw=kw: f.max_pool2d(x, **kw), x)
    for label, x, kw in (
        ("dilated", (2, 3, 9, 9), {"kernel_size": 3, "dilation": 2}),
        ("dilated padded", (2, 3, 9, 9), {"kernel_size": (3, 2), "dilation": (2, 3), "padding": 1, "stride": 2}),
        ("dilated ceil", (2, 3, 9, 10), {"kernel_size": 2, "dilation": 3, "stride": 2, "ceil_mode": True}),
        ("dilation zero", (2, 3, 9, 9), {"kernel_size": 3, "dilation": 0}),
        ("dilated too large", (2, 3, 4, 4), {"kernel_size": 3, "dilation": 2}),
        ("of many cells", (1, 2, 20, 20), {"kernel_size": 17, "stride": 1}),
    )
] + [
    on(f"avg_pool2d {label}", lambda f, x, kw=kw: f.avg_pool2d(x, **kw), x, terms=60)
    for label, x, kw in (
        ("padding not counted", (2, 3, 7, 9), {"kernel_size": 3, "padding": 1, "count_include_pad": False}),
        ("not counted ceil", (2, 3, 8, 9),
         {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False, "ceil_mode": True}),
        ("counted ceil", (2, 3, 8, 10),
         {"kernel_size": (3, 4), "stride": (2, 3), "padding": (1, 2), "ceil_mode": True}),
        ("divisor", (2, 3, 7, 9), {"kernel_size": 3, "divisor_override": 5}),
        ("negative divisor", (2, 3, 7, 9), {"kernel_size": 3, "padding": 1, "divisor_override": -2}),
        ("divisor zero", (2, 3, 7, 9), {"kernel_size": 3, "divisor_override": 0}),
        ("every argument", (2, 3, 7, 9),
         {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False}),
    )
] + [
    on(f"adaptive_avg_pool2d {label}", lambda f, x, size=size: f.adaptive_avg_pool2d(x, size), x, terms=60)
    for label, x, size in (
        ("1", (2, 3, 5, 7), 1), ("pair", (2, 3, 5, 7), (2, 3)), ("None", (2, 3, 5, 7), (None, 3)),
        ("both None", (2, 3, 5, 7), (None, None)), ("larger", (2, 3, 3, 2), (5, 4)), ("same size", (2, 3, 4, 4), 4),
        ("unbatched", (3, 5, 7), (2, 2)), ("unbatched None", (3, 5, 7), (None, 2)), ("empty batch", (0, 3, 4, 4), 2),
        ("zero", (2, 3, 4, 4), 0), ("negative", (2, 3, 4, 4), -1), ("three", (2, 3, 4, 4), (1, 1, 1)),
        ("list", (2, 3, 5, 7), [2, 2]), ("wrong rank", (4, 4), 1), ("empty image", (2, 3, 0, 4), 1),
        ("float", (2, 3, 4, 4), 1.5),
        ("one-element", (2, 3, 4, 4), (2,)), ("no channels", (2, 0, 4, 4), 2),
    )
]  # fmt: skip


def _norm(m: Any, x: Any, *rest: Any, **kw: Any) -> Any:
    """The result, and the running statistics that were passed as NumPy-backed copies."""
    names = kw.pop("names", ())
    given = dict(zip(names, rest, strict=True))
    running = {
        name: given.pop(name).detach().abs().clone() for name in ("running_mean", "running_var") if name in given
    }
    result = m.nn.functional.batch_norm(
        x, running.get("running_mean"), running.get("running_var"), given.get("weight"), given.get("bias"), **kw
    )
    return result, tuple(running.values())


ALL = ("running_mean", "running_var", "weight", "bias")
NORMS: list[tuple[str, tuple[int, ...], tuple[str, ...], dict[str, Any]]] = [
    ("train", (4, 3, 5, 6), ALL, {"training": True}),
    ("eval", (4, 3, 5, 6), ALL, {"training": False}),
    ("default is eval", (4, 3, 5, 6), ALL, {}),
    ("momentum", (4, 3, 5, 6), ALL, {"training": True, "momentum": 0.9}),
    ("momentum zero", (4, 3, 5, 6), ALL, {"training": True, "momentum": 0.0}),
    ("momentum one", (4, 3, 5, 6), ALL, {"training": True, "momentum": 1.0}),
    ("eps", (4, 3, 5, 6), ALL, {"training": True, "eps": 0.1}),
    ("eps eval", (4, 3, 5, 6), ALL, {"eps": 0.5}),
    ("no affine", (4, 3, 5, 6), ALL[:2], {"training": True}),
    ("no affine eval", (4, 3, 5, 6), ALL[:2], {}),
    ("no statistics", (4, 3, 5, 6), ALL[2:], {"training": True}),
    ("nothing", (4, 3, 5, 6), (), {"training": True}),
    ("weight alone", (4, 3, 5, 6), ("weight",), {"training": True}),
    ("bias alone", (4, 3, 5, 6), ("bias",), {"training": True}),
    ("2-d", (6, 5), ALL, {"training": True}),
    ("2-d eval", (6, 5), ALL, {}),
    ("3-d", (3, 4, 7), ALL, {"training": True}),
    ("5-d", (2, 3, 2, 3, 4), ALL, {"training": True}),
    ("one image", (1, 3, 5, 6), ALL, {"training": True}),
    ("one channel", (4, 1, 5, 6), ALL, {"training": True}),
    ("two values", (2, 3), ALL, {"training": True}),
    ("many channels", (3, 130, 3, 3), ALL, {"training": True}),
    ("blocks", (8, 16, 20, 21), ALL, {"training": True}),
    ("empty batch eval", (0, 3, 4, 4), ALL, {}),
    ("empty batch train", (0, 3, 4, 4), ALL, {"training": True}),
    ("one value for each channel", (1, 3, 1, 1), ALL, {"training": True}),
    ("one value 2-d", (1, 3), ALL, {"training": True}),
    ("one value eval", (1, 3), ALL, {}),
    ("eval without statistics", (4, 3, 5, 6), ALL[2:], {}),
    ("1-d", (4,), (), {"training": True}),
]

NORM = [
    case(
        f"batch_norm {label}",
        lambda m, x, *rest, names=names, kw=kw: _norm(m, x, *rest, names=names, **kw),
        shape, *((shape[1],) for _ in names),
        terms=int(np.prod(shape)),
        looser=500.0 if label == "two values" else 1.0,  # a gradient that would be 0 but for eps
    )
    for label, shape, names, kw in NORMS
] + [
    on("batch_norm wrong weight", lambda f, x, w: f.batch_norm(x, None, None, w, training=True), (4, 3, 5, 6), (4,)),
    on("batch_norm wrong statistics", lambda f, x, w: f.batch_norm(x, w.detach(), w.detach()), (4, 3, 5, 6), (4,)),
    on("batch_norm integers", lambda f, x: f.batch_norm(x, None, None, training=True), np.ones((4, 3), int)),
    on("batch_norm far from zero", lambda f, x: f.batch_norm(x + 1000, None, None, training=True), (64, 3, 4, 4),
         looser=1000.0),  # the input itself has lost these digits
    on("batch_norm NaN", lambda f, x: f.batch_norm(x, None, None, training=True), NAN_IMAGE),
    on("batch_norm of a permuted input", lambda f, x: f.batch_norm(x.permute(0, 3, 1, 2), None, None, training=True),
       (3, 4, 5, 2), terms=60),
]  # fmt: skip


def _fused(m: Any, x: Any, w: Any, b: Any, r: Any, training: bool, residual: bool, relu: bool) -> Any:
    """Ours fused, PyTorch's one by one."""
    mean, var = (r.detach()[0, :, 0, 0] * 1 for _ in range(2))
    var = var * var + 0.5
    if m is gn:
        return (
            m.nn.functional.batch_norm(
                x, mean, var, w, b, training, residual=r if residual else None, activation="relu" if relu else None
            ),
            mean,
            var,
        )
    y = m.nn.functional.batch_norm(x, mean, var, w, b, training)
    y = y + r if residual else y
    return (y.relu() if relu else y), mean, var


FUSED = [
    case(
        f"batch_norm fused {'train' if training else 'eval'}{' residual' * residual}{' relu' * relu}",
        lambda m, x, w, b, r, flags=(training, residual, relu): _fused(m, x, w, b, r, *flags),
        (4, 3, 5, 6), (3,), (3,), (4, 3, 5, 6), terms=120,
    )
    for training in (True, False)
    for residual in (True, False)
    for relu in (True, False)
] + [
    case("batch_norm fused with itself", lambda m, x, w, b: _fused(m, x, w, b, x, True, True, True),
         (4, 3, 5, 6), (3,), (3,), terms=120),
]  # fmt: skip

REDUCTIONS = ("mean", "sum", "none")
CROSS_ENTROPY: list[tuple[str, Any, Any, dict[str, Any]]] = [
    ("labels", (5, 4), LABELS, {}),
    ("weights", (5, 4), LABELS, {"weight": WEIGHTS}),
    ("ignored", (5, 4), IGNORED, {}),
    ("ignored weights", (5, 4), IGNORED, {"weight": WEIGHTS}),
    ("all ignored", (5, 4), ALL_IGNORED, {}),
    ("all ignored smoothing", (5, 4), ALL_IGNORED, {"label_smoothing": 0.1}),
    ("another ignored", (5, 4), LABELS, {"ignore_index": 2}),
    ("ignored index beyond the classes", (5, 4), np.array([0, 255, 1, 255, 2]), {"ignore_index": 255}),
    ("smoothing", (5, 4), LABELS, {"label_smoothing": 0.1}),
    ("smoothing one", (5, 4), LABELS, {"label_smoothing": 1.0}),
    ("smoothing weights", (5, 4), LABELS, {"label_smoothing": 0.2, "weight": WEIGHTS}),
    ("smoothing weights ignored", (5, 4), IGNORED, {"label_smoothing": 0.2, "weight": WEIGHTS}),
    ("1-d", (4,), np.array(2), {}),
    ("1-d smoothing", (4,), np.array(2), {"label_smoothing": 0.3, "weight": WEIGHTS}),
    ("1-d ignored", (4,), np.array(-100), {}),
    ("spatial", (2, 4, 3, 5), SPATIAL, {}),
    ("spatial weights ignored", (2, 4, 3, 5), SPATIAL, {"weight": WEIGHTS, "ignore_index": 1}),
    ("spatial smoothing", (2, 4, 3, 5), SPATIAL, {"label_smoothing": 0.1, "weight": WEIGHTS}),
    ("3-d", (2, 4, 3), SPATIAL[:, :, 0], {}),
    ("probabilities", (5, 4), PROBABILITIES, {}),
    ("probabilities weights", (5, 4), PROBABILITIES, {"weight": WEIGHTS}),
    ("probabilities smoothing", (5, 4), PROBABILITIES, {"label_smoothing": 0.1}),
    ("probabilities smoothing weights", (5, 4), PROBABILITIES, {"label_smoothing": 0.1, "weight": WEIGHTS}),
    ("probabilities not normalised", (5, 4), PROBABILITIES * 3, {}),
    ("probabilities 1-d", (4,), PROBABILITIES[0], {}),
    ("probabilities spatial", (2, 4, 3, 5), SPATIAL_PROBABILITIES, {"weight": WEIGHTS}),
    ("large logits", RNG.standard_normal((5, 4)) * 500, LABELS, {}),
    ("minus infinity", np.array([[-INF, 0.0, 1.0, 2.0], [0.0, -INF, -INF, 1.0]]), np.array([1, 3]), {}),
    ("minus infinity at the label", np.array([[-INF, 0.0, 1.0, 2.0]]), np.array([0]), {}),
    ("NaN", np.array([[NAN, 0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0]]), np.array([1, 3]), {}),
    ("empty batch", (0, 4), LABELS[:0], {}),
    ("empty batch probabilities", (0, 4), PROBABILITIES[:0], {}),
    ("one class", (3, 1), np.zeros(3, int), {}),
    ("weights all zero", (5, 4), LABELS, {"weight": np.zeros(4)}),
    ("label too large", (5, 4), LABELS + 1, {}),
    ("label negative", (5, 4), LABELS - 1, {}),
    ("labels of wrong shape", (5, 4), LABELS[:4], {}),
    ("labels of one more dimension", (5, 4), LABELS[:, None], {}),
    ("labels int32", (5, 4), LABELS.astype(np.int32), {}),
    ("labels uint8", (5, 4), LABELS.astype(np.uint8), {}),
    ("labels bool", (5, 4), LABELS > 1, {}),
    ("probabilities of wrong shape", (5, 4), PROBABILITIES[:, :3], {}),
    ("wrong weights", (5, 4), LABELS, {"weight": WEIGHTS[:3]}),
    ("0-d", (), np.array(0), {}),
    ("smoothing too large", (5, 4), LABELS, {"label_smoothing": 1.1}),
    ("smoothing negative", (5, 4), LABELS, {"label_smoothing": -0.1}),
    ("integers", np.ones((5, 4), int), LABELS, {}),
    ("unknown reduction", (5, 4), LABELS, {"reduction": "average"}),
]


def _cross_entropy(m: Any, x: Any, t: Any, weight: Any = None, **kw: Any) -> Any:
    if weight is not None:
        weight = m.tensor(weight, dtype=x.dtype)
    return m.nn.functional.cross_entropy(x, t.detach(), weight, **kw)


LOSSES = [
    case(
        f"cross_entropy {label}{'' if reduction == 'mean' else ' ' + reduction}",
        lambda m, x, t, kw=kw, reduction=reduction: _cross_entropy(m, x, t, **{"reduction": reduction, **kw}),
        x, t, terms=60,
    )
    for label, x, t, kw in CROSS_ENTROPY
    for reduction in REDUCTIONS
] + [
    case(
        f"nll_loss {label} {reduction}",
        lambda m, x, t, kw=kw, reduction=reduction: m.nn.functional.nll_loss(
            x.log_softmax(0 if x.ndim == 1 else 1), t,
            None if not kw else m.tensor(WEIGHTS, dtype=x.dtype), reduction=reduction,
        ),
        x, t,
    )
    for label, x, t, kw in CROSS_ENTROPY
    if isinstance(x, tuple) and t.dtype != float and (not kw or (kw.get("weight") is WEIGHTS and len(kw) == 1))
    for reduction in REDUCTIONS
] + [
    on("nll_loss of probabilities", lambda f, x, t: f.nll_loss(x, t), (5, 4), PROBABILITIES),
    on("nll_loss ignore_index", lambda f, x, t: f.nll_loss(x, t, ignore_index=2), (5, 4), LABELS),
    on("cross_entropy gradient of probabilities", lambda f, x, t: f.cross_entropy(x.detach(), t.softmax(1)),
       (5, 4), (5, 4)),
    on("cross_entropy many classes", lambda f, x, t: f.cross_entropy(x, t), (64, 1000), np.arange(64) * 15, terms=1000),
    on("cross_entropy half", lambda f, x, t: f.cross_entropy(x.half(), t), (5, 4), LABELS, at_least=2e-3),  # 11 bits
] + [
    on(f"mse_loss {label} {reduction}", lambda f, x, y, reduction=reduction: f.mse_loss(x, y, reduction=reduction),
       x, y)
    for label, x, y in (
        ("plain", (3, 4), (3, 4)), ("0-d", (), ()), ("empty", (0, 4), (0, 4)),
        ("integers", (2, 3), np.arange(6).reshape(2, 3)),
        ("NaN", NAN_IMAGE, NAN_IMAGE[..., ::-1]), ("does not broadcast", (3, 4), (3,)),
        ("two integers", LABELS, LABELS),
    )
    for reduction in REDUCTIONS
] + [
    on("mse_loss unknown reduction", lambda f, x, y: f.mse_loss(x, y, reduction="average"), (3,), (3,)),
    on("mse_loss of itself", lambda f, x: f.mse_loss(x, x * 2), (3, 4)),
]  # fmt: skip

OTHERS = [
    on("softmax", lambda f, x: f.softmax(x, dim=1), (3, 4)),
    case("softmax dtype", lambda m, x: m.nn.functional.softmax(x, dim=-1, dtype=m.float64), (3, 4)),
    case("softmax of integers by dtype", lambda m, x: m.nn.functional.softmax(x, dim=0, dtype=m.float32), LABELS),
    on("softmax 4-d", lambda f, x: f.softmax(x, 1), (2, 5, 3, 3)),
    on("log_softmax", lambda f, x: f.log_softmax(x, dim=1), (3, 4)),
    case("log_softmax dtype", lambda m, x: m.nn.functional.log_softmax(x, dim=0, dtype=m.float64), (3, 4)),
    on("relu", lambda f, x: f.relu(x), (3, 4)),
    on("relu in place", lambda f, x: f.relu(x * 1, inplace=True), (3, 4)),
    on("relu in place of a leaf", lambda f, x: f.relu(x, inplace=True), (3, 4)),
    case("relu in place then used", lambda m, x: _inplace_relu(m, x), (3, 4)),
    case("relu in place of what mul needs", lambda m, x: _inplace_needed(m, x), (3, 4)),
    on("tanh", lambda f, x: f.tanh(x), (3, 4)),
    on("sigmoid", lambda f, x: f.sigmoid(x), (3, 4)),
    on("one_hot", lambda f, x: f.one_hot(x), LABELS),
    on("one_hot classes", lambda f, x: f.one_hot(x, num_classes=6), LABELS),
    on("one_hot 2-d", lambda f, x: f.one_hot(x, 4), SPATIAL),
    on("one_hot 0-d", lambda f, x: f.one_hot(x, 4), np.array(2)),
    on("one_hot too few classes", lambda f, x: f.one_hot(x, 3), LABELS),
    on("one_hot negative", lambda f, x: f.one_hot(x, 3), np.array([-1])),
    on("one_hot empty", lambda f, x: f.one_hot(x, 3), LABELS[:0]),
    on("one_hot empty without classes", lambda f, x: f.one_hot(x), LABELS[:0]),
    on("one_hot floats", lambda f, x: f.one_hot(x), (3,)),
    on("one_hot int32", lambda f, x: f.one_hot(x.int()), LABELS),
    on("one_hot zero classes", lambda f, x: f.one_hot(x, 0), LABELS),
    on("pad", lambda f, x: f.pad(x, (1, 2)), (2, 3)),
    on("pad two", lambda f, x: f.pad(x, (1, 0, 2, 3), value=2.5), (2, 3)),
    on("pad all", lambda f, x: f.pad(x, [0, 1, 2, 0, 1, 1]), (2, 3, 4)),
    on("pad crops", lambda f, x: f.pad(x, (-1, 2, 1, -1)), (3, 4)),
    on("pad crops everything", lambda f, x: f.pad(x, (-2, -2)), (3, 4)),
    on("pad crops too much", lambda f, x: f.pad(x, (-3, -2)), (3, 4)),
    on("pad crops beyond and adds", lambda f, x: f.pad(x, (-5, 4)), (3, 4)),
    on("pad nothing", lambda f, x: f.pad(x, ()), (3, 4)),
    on("pad odd", lambda f, x: f.pad(x, (1, 2, 3)), (3, 4)),
    on("pad too many", lambda f, x: f.pad(x, (1,) * 6), (3, 4)),
    on("pad integers", lambda f, x: f.pad(x, (1, 1), value=7), LABELS),
    on("pad bools", lambda f, x: f.pad(x, (1, 1), value=1), LABELS > 1),
    on("pad channels", lambda f, x: f.pad(x, (0, 0, 0, 0, 1, 2)), (2, 3, 2, 2)),
    on("pad unknown mode", lambda f, x: f.pad(x, (1, 1), mode="mirror"), (3, 4)),
    on("pad empty", lambda f, x: f.pad(x, (1, 1)), (0, 3)),
    on("dropout off", lambda f, x: f.dropout(x, 0.5, training=False), (3, 4)),
    on("dropout nothing", lambda f, x: f.dropout(x, 0.0), (3, 4)),
    on("dropout everything", lambda f, x: f.dropout(x, 1.0), (3, 4)),
    on("dropout p too large", lambda f, x: f.dropout(x, 1.5), (3, 4)),
    on("dropout p negative", lambda f, x: f.dropout(x, -0.1, training=False), (3, 4)),
    on("dropout integers", lambda f, x: f.dropout(x, 0.5), LABELS),
    on("dropout empty", lambda f, x: f.dropout(x, 0.5), (0, 4)),
    on("dropout in place off", lambda f, x: f.dropout(x * 1, 0.5, False, True), (3, 4)),
]  # fmt: skip


def _inplace_relu(m: Any, x: Any) -> Any:
    y = x * 2
    z = m.nn.functional.relu(y, inplace=True)
    return z * 3, y * 2


def _inplace_needed(m: Any, x: Any) -> Any:
    y = x * 2
    z = y * y
    m.nn.functional.relu(y, inplace=True)
    return z


CASES = [*LINEAR, *CONV, *POOLING, *NORM, *FUSED, *LOSSES, *OTHERS]


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


def test_labels_are_unique() -> None:
    labels = [checked.label for checked in CASES]
    assert len(labels) == len(set(labels))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_statistics(p: float) -> None:
    """The mask is ours, its distribution PyTorch's: a binomial count, scaled survivors, one mask for backward."""
    x = gn.ones(200, 500, requires_grad=True)
    y = F.dropout(x, p)
    kept = y.detach().numpy() != 0
    deviation = (p * (1 - p) / kept.size) ** 0.5
    assert abs(kept.mean() - (1 - p)) < 5 * deviation
    np.testing.assert_allclose(y.detach().numpy()[kept], 1 / (1 - p), rtol=1e-6)
    assert abs(kept.mean(0) - (1 - p)).max() < 6 * (p * (1 - p) / 200) ** 0.5
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), y.detach().numpy())
    assert not np.array_equal(F.dropout(x, p).detach().numpy() != 0, kept), "the next mask is another"


def test_dropout_repeats_from_its_seed_in_any_layout() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    masks = []
    for array in (x, np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)):
        gn.manual_seed(5)
        masks.append(F.dropout(gn.from_numpy(array), 0.5).numpy())
    np.testing.assert_array_equal(*masks)


def test_bounds_hold_over_long_sums() -> None:
    """Unit variance, K terms a sum: 1e-5 max(1, sqrt(K / 4096))."""
    rng = np.random.default_rng(11)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((8, 256, 9, 9), (16, 256, 5, 5)))
    ours = F.conv2d(gn.from_numpy(x), gn.from_numpy(w)).numpy()
    exact = torch.nn.functional.conv2d(torch.from_numpy(x).double(), torch.from_numpy(w).double()).numpy()
    assert relative_error(ours, exact) <= agreement_bound(np.float32, 256 * 25)
