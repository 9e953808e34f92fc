"""Activations against PyTorch: every one over ordinary, special and large values, and its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.testing.parity import Case, attempt, case, check_case, compare_outcomes

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

NAN, INF = float("nan"), float("inf")
RNG = np.random.default_rng(31)
# Where the functions bend, and either side of it.
POINTS = np.array(
    [-6.0, -3.0, -1.5, -1.0, -0.5, -0.25, -0.0, 0.0, 0.25, 0.5, 1.0, 1.5, 3.0, 6.0, 19.9, 20.0, 20.1, 44.0]
)
LARGE = RNG.standard_normal((6, 7)) * 200
INFINITE = np.array([-INF, -1.0, 2.0, INF])
WITH_NAN = np.array([NAN, -1.0, 2.0])
# Several chunks of the fast path, and a rest.
MANY = (3, 5, 70, 67)


def on(label: str, run: Callable[..., Any], *inputs: Any, **bounds: Any) -> Case:
    """A case of the functions alone: ``run`` takes ``nn.functional`` and the inputs."""
    return case(label, lambda m, *tensors: run(m.nn.functional, *tensors), *inputs, **bounds)


# One entry for each way to call a function of x alone; every one meets all the inputs below.
FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "relu": lambda f, x: f.relu(x),
    "relu6": lambda f, x: f.relu6(x),
    "leaky_relu": lambda f, x: f.leaky_relu(x),
    "leaky_relu slope": lambda f, x: f.leaky_relu(x, 0.2),
    "leaky_relu steep": lambda f, x: f.leaky_relu(x, negative_slope=1.5),
    "leaky_relu negative": lambda f, x: f.leaky_relu(x, -0.5),
    "elu": lambda f, x: f.elu(x),
    "elu alpha": lambda f, x: f.elu(x, alpha=0.3),
    "selu": lambda f, x: f.selu(x),
    "celu": lambda f, x: f.celu(x),
    "celu alpha": lambda f, x: f.celu(x, 0.4),
    "gelu": lambda f, x: f.gelu(x),
    "gelu tanh": lambda f, x: f.gelu(x, approximate="tanh"),
    "silu": lambda f, x: f.silu(x),
    "mish": lambda f, x: f.mish(x),
    "hardswish": lambda f, x: f.hardswish(x),
    "hardsigmoid": lambda f, x: f.hardsigmoid(x),
    "hardtanh": lambda f, x: f.hardtanh(x),
    "hardtanh bounds": lambda f, x: f.hardtanh(x, -0.25, 1.5),
    "hardtanh inexact bounds": lambda f, x: f.hardtanh(x, min_val=-0.1, max_val=0.3),
    "sigmoid": lambda f, x: f.sigmoid(x),
    "logsigmoid": lambda f, x: f.logsigmoid(x),
    "tanh": lambda f, x: f.tanh(x),
    "tanhshrink": lambda f, x: f.tanhshrink(x),
    "softplus": lambda f, x: f.softplus(x),
    "softplus beta": lambda f, x: f.softplus(x, 2.5),
    "softplus threshold": lambda f, x: f.softplus(x, beta=1, threshold=1),
    "softplus negative threshold": lambda f, x: f.softplus(x, 1.0, -0.75),
    "softsign": lambda f, x: f.softsign(x),
    "softshrink": lambda f, x: f.softshrink(x),
    "softshrink lambd": lambda f, x: f.softshrink(x, 1.5),
    "softshrink zero": lambda f, x: f.softshrink(x, 0.0),
    "hardshrink": lambda f, x: f.hardshrink(x),
    "hardshrink lambd": lambda f, x: f.hardshrink(x, lambd=1.5),
    "hardshrink negative": lambda f, x: f.hardshrink(x, -1.0),
    "threshold": lambda f, x: f.threshold(x, 0.25, 20.0),
    "threshold zero": lambda f, x: f.threshold(x, -0.5, 0),
    "rrelu": lambda f, x: f.rrelu(x),
    "rrelu bounds": lambda f, x: f.rrelu(x, 0.1, 0.4, training=False),
    "rrelu one slope": lambda f, x: f.rrelu(x, 0.25, 0.25, training=True),
    "softmax": lambda f, x: f.softmax(x, -1),
    "softmin": lambda f, x: f.softmin(x, -1),
    "log_softmax": lambda f, x: f.log_softmax(x, -1),
    # in place, on a tensor that is no leaf
    "relu inplace": lambda f, x: f.relu(x * 1, inplace=True),
    "relu6 inplace": lambda f, x: f.relu6(x * 1, inplace=True),
    "leaky_relu inplace": lambda f, x: f.leaky_relu(x * 1, 0.1, True),
    "elu inplace": lambda f, x: f.elu(x * 1, 0.5, True),
    "selu inplace": lambda f, x: f.selu(x * 1, inplace=True),
    "celu inplace": lambda f, x: f.celu(x * 1, 2.0, inplace=True),
    "silu inplace": lambda f, x: f.silu(x * 1, inplace=True),
    "mish inplace": lambda f, x: f.mish(x * 1, inplace=True),
    "hardswish inplace": lambda f, x: f.hardswish(x * 1, inplace=True),
    "hardsigmoid inplace": lambda f, x: f.hardsigmoid(x * 1, inplace=True),
    "hardtanh inplace": lambda f, x: f.hardtanh(x * 1, inplace=True),
    "threshold inplace": lambda f, x: f.threshold(x * 1, 0.1, 0.1, True),
    "rrelu inplace": lambda f, x: f.rrelu(x * 1, inplace=True),
    "relu_": lambda f, x: f.relu_(x * 1),
    "leaky_relu_": lambda f, x: f.leaky_relu_(x * 1, 0.3),
    "elu_": lambda f, x: f.elu_(x * 1),
    "selu_": lambda f, x: f.selu_(x * 1),
    "celu_": lambda f, x: f.celu_(x * 1),
    "hardtanh_": lambda f, x: f.hardtanh_(x * 1, -0.5, 0.5),
    "threshold_": lambda f, x: f.threshold_(x * 1, 0.5, -1.0),
}

INPUTS: dict[str, Any] = {
    "points": POINTS,
    "large": LARGE,
    "infinite": INFINITE,
    "NaN": WITH_NAN,
    "image": (2, 3, 4, 5),
    "0-d": (),
    "empty": (0, 3),
    "chunks": MANY,
}


def bounds(name: str, kind: str = "") -> dict[str, float]:
    """Looser bounds where one is due."""
    if name.startswith(("hardsigmoid", "celu alpha")):
        return {"at_least": 1e-7}  # PyTorch's constants 1 / 6 and 1 / alpha are float32
    if name == "softmax" and kind == "points":
        return {"looser": 1e5}  # one probability is 1 - 1e-10, and gradients are what is left of it
    if name == "tanh" and kind == "large":
        return {"looser": 100.0}  # a rounding of tanh(9) is 1e-4 of 1 - tanh(9)^2, and the other gradients are 0
    return {}


EVERY = [
    on(f"{name} {kind}", run, x, **bounds(name, kind))
    for name, run in FUNCTIONS.items()
    for kind, x in INPUTS.items()
    if (kind != "chunks" or not ("inplace" in name or name.endswith("_")))
    and (name, kind) != ("rrelu one slope", "0-d")
]

VIEWS = [
    on(f"{name} {label}", lambda f, x, run=run, view=view: run(f, view(x)), (4, 6, 5), **bounds(name))
    for name, run in FUNCTIONS.items()
    if "inplace" not in name and not name.endswith("_")
    for label, view in (
        ("strided", lambda x: x[:, ::2, 1::2]),
        ("expanded", lambda x: x[:1].expand(3, 6, 5)),
        ("permuted", lambda x: x.permute(1, 2, 0)),
    )
]

INTEGERS = [
    on(f"{name} integers", run, np.array([-7, -1, 0, 1, 2, 9])) for name, run in FUNCTIONS.items() if " " not in name
] + [
    on(f"{name} bools", run, np.array([True, False])) for name, run in FUNCTIONS.items() if " " not in name
]  # fmt: skip

CHANNELS = [
    on("prelu one", lambda f, x, w: f.prelu(x, w), (2, 3, 4, 5), (1,), terms=120),
    on("prelu channels", lambda f, x, w: f.prelu(x, w), (2, 3, 4, 5), (3,), terms=120),
    on("prelu channels last", lambda f, x, w: f.prelu(x.permute(0, 3, 1, 2), w), (2, 4, 5, 3), (3,), terms=120),
    on("prelu many", lambda f, x, w: f.prelu(x, w), (4, 6, 70, 67), (6,), terms=20000),
    on("prelu many one", lambda f, x, w: f.prelu(x, w), (4, 6, 70, 67), (1,), terms=120000),
    on("prelu many last", lambda f, x, w: f.prelu(x.permute(0, 3, 1, 2), w), (4, 70, 67, 6), (6,), terms=20000),
    on("prelu matrix", lambda f, x, w: f.prelu(x, w), (5, 4), (4,), terms=20),
    on("prelu 3-d", lambda f, x, w: f.prelu(x, w), (2, 4, 5), (4,), terms=20),
    on("prelu 1-d", lambda f, x, w: f.prelu(x, w), (5,), (1,)),
    on("prelu 0-d", lambda f, x, w: f.prelu(x, w), (), (1,)),
    on("prelu 0-d weight", lambda f, x, w: f.prelu(x, w), (3, 4), (), terms=12),
    on("prelu zero", lambda f, x, w: f.prelu(x, w), POINTS, (1,)),
    on("prelu infinite", lambda f, x, w: f.prelu(x, w), INFINITE, np.array([0.25])),
    on("prelu NaN", lambda f, x, w: f.prelu(x, w), WITH_NAN, np.array([0.25])),
    on("prelu frozen weight", lambda f, x, w: f.prelu(x, w.detach()), (2, 3, 4), (3,)),
    on("prelu frozen input", lambda f, x, w: f.prelu(x.detach(), w), (2, 3, 4), (3,), terms=24),
    on("prelu empty", lambda f, x, w: f.prelu(x, w), (0, 3), (3,)),
    on("prelu wrong count", lambda f, x, w: f.prelu(x, w), (2, 3, 4), (4,)),
    on("prelu 1-d many", lambda f, x, w: f.prelu(x, w), (3,), (3,)),
    on("prelu matrix weight", lambda f, x, w: f.prelu(x, w), (2, 3), (1, 3)),
    on("prelu mixed dtypes", lambda f, x, w: f.prelu(x.float(), w.double()), (2, 3), (3,)),
    on("glu", lambda f, x: f.glu(x), (3, 6)),
    on("glu dim", lambda f, x: f.glu(x, 1), (2, 4, 3, 5)),
    on("glu dim first", lambda f, x: f.glu(x, dim=0), (4, 3)),
    on("glu channels last", lambda f, x: f.glu(x.permute(0, 3, 1, 2), 1), (2, 3, 5, 4)),
    on("glu many", lambda f, x: f.glu(x, -3), (2, 6, 70, 67)),
    on("glu large", lambda f, x: f.glu(x, 0), LARGE),
    on("glu odd", lambda f, x: f.glu(x), (3, 5)),
    on("glu 0-d", lambda f, x: f.glu(x), ()),
    on("glu dim too large", lambda f, x: f.glu(x, 2), (4, 4)),
    on("glu empty", lambda f, x: f.glu(x), (0, 4)),
    on("glu of nothing", lambda f, x: f.glu(x), (3, 0)),
]

DIMS: list[tuple[str, Any, dict[str, Any]]] = [
    ("first", (4, 5), {"dim": 0}),
    ("last", (4, 5), {"dim": -1}),
    ("channels", (2, 4, 3, 5), {"dim": 1}),
    ("1-d", (4,), {"dim": 0}),
    ("0-d", (), {"dim": 0}),
    ("0-d last", (), {"dim": -1}),
    ("one", (4, 1), {"dim": 1}),
    ("of nothing", (4, 0), {"dim": 1}),
    ("empty batch", (0, 4), {"dim": 1}),
    ("many rows", (900, 70), {"dim": 1}),
    ("many columns", (3, 40, 5000), {"dim": 1}),
    ("ties", np.repeat(RNG.integers(0, 2, (4, 3)).astype(float), 2, 1), {"dim": 1}),
    ("minus infinity", np.array([[-INF, 0.0, 1.0], [-INF, -INF, -INF]]), {"dim": 1}),
    ("infinity", np.array([[INF, 0.0, 1.0], [1.0, 2.0, 3.0]]), {"dim": 1}),
    ("NaN", np.array([[NAN, 0.0, 1.0], [1.0, 2.0, 3.0]]), {"dim": 1}),
    ("large", LARGE, {"dim": 1}),
    ("integers", np.arange(6).reshape(2, 3), {"dim": 1}),
    ("float dim", (4, 5), {"dim": 1.0}),
    ("dim too large", (4, 5), {"dim": 2}),
]

SOFTMAX = [
    on(f"{name} dim {label}", lambda f, x, name=name, kw=kw: getattr(f, name)(x, **kw), x, terms=5000)
    for name in ("softmax", "softmin", "log_softmax")
    for label, x, kw in DIMS
] + [
    case(f"{name} dtype", lambda m, x, name=name: getattr(m.nn.functional, name)(x, 1, dtype=m.float64), (4, 5),
         at_least=1e-6)  # the input of the second run is float32
    for name in ("softmax", "softmin", "log_softmax")
] + [
    on("softmax dim positional", lambda f, x: f.softmax(x, 0, 3), (4, 5)),
    on("gumbel_softmax of one class", lambda f, x: f.gumbel_softmax(x, tau=0.5), (4, 1)),
    on("gumbel_softmax hard of one class", lambda f, x: f.gumbel_softmax(x, 1.0, True, dim=1), (4, 1)),
]  # fmt: skip

REFUSED = [
    on("gelu unknown", lambda f, x: f.gelu(x, approximate="erf"), (3,)),
    on("celu zero", lambda f, x: f.celu(x, 0.0), (3,)),
    on("softshrink negative", lambda f, x: f.softshrink(x, -1.0), (3,)),
    on("hardtanh inverted", lambda f, x: f.hardtanh(x, 1.0, -1.0), (3,)),
    on("rrelu inverted", lambda f, x: f.rrelu(x, 0.5, 0.1), (3,)),
    on("relu_ of a leaf", lambda f, x: f.relu_(x), (3,)),
    on("elu inplace of a leaf", lambda f, x: f.elu(x, inplace=True), (3,)),
    on("threshold needs a value", lambda f, x: f.threshold(x, 1.0), (3,)),
]


@pytest.mark.parametrize("checked", EVERY + VIEWS + INTEGERS + CHANNELS + SOFTMAX + REFUSED, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "label", [label for label in FUNCTIONS if "inplace" not in label and label != "rrelu one slope"]
)
def test_half_types(label: str, name: str) -> None:
    """Computed in float32 and rounded once, as PyTorch's CPU kernels do."""
    x = np.concatenate([POINTS, RNG.standard_normal(200) * 3]).astype(np.float32)

    def run(m: Any, tensor: Any) -> Any:
        return FUNCTIONS[label](m.nn.functional, tensor.to(getattr(m, name)))

    ours, theirs = (attempt(module, run, [x.copy()]) for module in (gn, torch))
    problems = compare_outcomes(ours, theirs, {"float16": 4e-3, "bfloat16": 3e-2}[name])
    assert not problems, "\n".join(problems)


def test_infinite_gradients_do_not_pass_where_nothing_does() -> None:
    """0 times infinity is NaN; a blocked gradient is 0, whatever it was, as in PyTorch."""
    x = np.linspace(-8, 8, 41)
    for name in ("relu", "relu6", "hardtanh", "hardsigmoid", "softshrink", "hardshrink", "threshold zero"):
        gradients = []
        for m in (gn, torch):
            tensor = m.tensor(x.tolist(), requires_grad=True)
            FUNCTIONS[name](m.nn.functional, tensor).backward(m.full((41,), INF))
            gradients.append(np.asarray(tensor.grad))
        np.testing.assert_array_equal(gradients[0], gradients[1], err_msg=name)


def test_small_results_keep_their_digits() -> None:
    """Far out where one side of a formula is lost to rounding: values from PyTorch in float64."""
    x = np.array([-80.0, -50.0, -30.0, -17.5, 17.5, 30.0, 50.0])
    for name in ("sigmoid", "logsigmoid", "softplus", "silu", "mish", "elu", "selu"):
        ours = FUNCTIONS[name](gn.nn.functional, gn.tensor(x, dtype=gn.float32)).numpy()
        theirs = FUNCTIONS[name](torch.nn.functional, torch.tensor(x)).numpy()
        # exp of a float32 argument of size 80 has a relative error of some 1e-6
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-38, err_msg=name)


@pytest.mark.parametrize("shape", [(), (4,), (4, 5), (2, 3, 4), (2, 3, 4, 2)])
@pytest.mark.parametrize("name", ["softmax", "softmin", "log_softmax"])
def test_without_a_dim_it_warns_and_takes_pytorchs(name: str, shape: tuple[int, ...]) -> None:
    x = np.asarray(np.random.default_rng(0).standard_normal(shape))
    with pytest.warns(UserWarning, match=f"{name}: dim should be given"):
        ours = getattr(gn.nn.functional, name)(gn.from_numpy(x))
    with pytest.warns(UserWarning, match="Implicit dimension choice"):
        theirs = getattr(torch.nn.functional, name)(torch.from_numpy(x))
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-12)


def test_gumbel_softmax_draws_the_distribution() -> None:
    """Hard samples are one-hot with the softmax's frequencies, and have the soft samples' gradient."""
    gn.manual_seed(5)
    logits = gn.tensor([0.0, 1.0, 2.0]).expand(20000, 3)
    samples = gn.nn.functional.gumbel_softmax(logits, tau=0.7, hard=True)
    assert np.array_equal(np.unique(samples.numpy().round(6)), [0.0, 1.0])
    expected = np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum()
    np.testing.assert_allclose(samples.mean(0).numpy(), expected, atol=5 * np.sqrt(0.25 / 20000))
    gradients = []
    for hard in (True, False):
        gn.manual_seed(6)
        x = gn.tensor([[0.3, -0.2, 1.0]], requires_grad=True)
        (gn.nn.functional.gumbel_softmax(x, hard=hard) * gn.tensor([1.0, 2.0, 3.0])).sum().backward()
        gradients.append(x.grad.numpy())
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-5)


def test_rrelu_draws_its_slopes() -> None:
    """Slopes of negative elements are uniform in lower..upper; positive elements pass."""
    gn.manual_seed(7)
    y = gn.nn.functional.rrelu(gn.full((20000,), -1.0), 0.2, 0.6, training=True)
    slopes = -y.numpy()
    assert slopes.min() >= 0.2
    assert slopes.max() <= 0.6
    assert abs(slopes.mean() - 0.4) < 5 * 0.4 / np.sqrt(12 * 20000)
    x = gn.tensor([1.0, 2.0])
    assert gn.nn.functional.rrelu(x, training=True).tolist() == [1.0, 2.0]
