"""``residual=`` and ``activation=`` of convolutions and linear layers: PyTorch's operations one by one, fused here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import GradientError
from gpunet.autograd import gradcheck, observer
from gpunet.testing.parity import Case, attempt, case, check_case, compare_outcomes

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

NAN = float("nan")


def fused(name: str, residual: bool, relu: bool, **options: Any) -> Callable[..., Any]:
    """The line that gpunet runs as one operation and PyTorch as three."""

    def run(m: Any, x: Any, w: Any, b: Any, r: Any) -> Any:
        f = getattr(m.nn.functional, name)
        if m is gn:
            added, last = r if residual else None, "relu" if relu else None
            return f(x, w, b, **options, residual=added, activation=last)
        y = f(x, w, b, **options)
        y = y + r if residual else y
        return y.relu() if relu else y

    return run


# function, what is special, input, weight, the output's shape, options
SHAPES: list[tuple[str, str, tuple[int, ...], tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ("conv1d", "", (2, 3, 9), (4, 3, 3), (2, 4, 5), {"stride": 2, "padding": 1}),
    ("conv1d", " depthwise", (2, 3, 9), (3, 1, 3), (2, 3, 7), {"groups": 3}),
    ("conv2d", "", (2, 3, 6, 7), (4, 3, 3, 3), (2, 4, 6, 7), {"padding": 1}),
    ("conv2d", " strided", (2, 3, 7, 8), (5, 3, 3, 2), (2, 5, 4, 3), {"stride": (2, 3), "padding": (1, 0)}),
    ("conv2d", " pointwise", (2, 5, 4, 3), (4, 5, 1, 1), (2, 4, 4, 3), {}),
    ("conv2d", " groups", (2, 4, 5, 6), (6, 2, 3, 3), (2, 6, 3, 4), {"groups": 2}),
    ("conv2d", " depthwise", (2, 3, 5, 6), (6, 1, 3, 3), (2, 6, 5, 6), {"groups": 3, "padding": "same"}),
    ("conv2d", " many blocks", (2, 16, 40, 33), (8, 16, 3, 3), (2, 8, 38, 31), {}),
    ("conv2d", " one image", (3, 5, 6), (4, 3, 3, 3), (4, 3, 4), {}),
    ("conv2d", " empty batch", (0, 3, 5, 6), (4, 3, 3, 3), (0, 4, 3, 4), {}),
    ("conv3d", "", (1, 2, 4, 5, 4), (3, 2, 2, 3, 2), (1, 3, 3, 3, 3), {}),
    ("conv3d", " one volume", (2, 4, 5, 4), (3, 2, 2, 3, 2), (3, 3, 3, 3), {}),
    ("linear", "", (4, 5), (3, 5), (4, 3), {}),
    ("linear", " 3-d", (2, 3, 5), (4, 5), (2, 3, 4), {}),
    ("linear", " 1-d", (5,), (3, 5), (3,), {}),
    ("linear", " large", (300, 200), (160, 200), (300, 160), {}),
]

CASES = [
    case(
        f"{name}{label}{' residual' * residual}{' relu' * relu}",
        fused(name, residual, relu, **options), x, w, (w[0],), y,
        terms=max(int(np.prod(x)), int(np.prod(y))),
    )
    for name, label, x, w, y, options in SHAPES
    for residual, relu in ((True, True), (True, False), (False, True))
] + [
    # At z = 0 the gradient is 0, as PyTorch's; a NaN passes in both directions.
    case("conv2d relu of zeros", fused("conv2d", False, True), np.zeros((1, 2, 4, 4)), (3, 2, 3, 3), np.zeros(3),
         (1, 3, 2, 2)),
    case("conv2d relu of NaN", fused("conv2d", True, True), (1, 2, 4, 4), (3, 2, 3, 3), (3,),
         np.where(np.arange(12).reshape(1, 3, 2, 2) % 5 == 2, NAN, 1.0)),
    case("linear relu of zeros", fused("linear", True, True), np.zeros((4, 5)), (3, 5), np.zeros(3), np.zeros((4, 3))),
    case("linear relu of NaN", fused("linear", False, True), (4, 5), (3, 5), np.array([0.5, NAN, -0.5]), (4, 3)),
    # The input is its own residual: both gradients come together.
    case("conv2d with itself", lambda m, x, w: fused("conv2d", True, True, padding=1)(m, x, w, None, x),
         (2, 3, 5, 6), (3, 3, 3, 3), terms=27),
    case("conv2d residual broken up", lambda m, x, w, r: fused("conv2d", True, True)(m, x, w, None, r[:, ::2, :, 1::2]),
         (2, 3, 5, 6), (3, 3, 3, 3), (2, 6, 3, 8)),
    case("conv2d residual expanded",
         lambda m, x, w, r: fused("conv2d", True, True)(m, x, w, None, r.expand(2, 3, 3, 4)),
         (2, 3, 5, 6), (3, 3, 3, 3), (2, 1, 3, 1), terms=100),
    case("conv2d expanded gradient", lambda m, x, w, r: fused("conv2d", True, True)(m, x, w, None, r).sum(),
         (2, 3, 5, 6), (3, 3, 3, 3), (2, 3, 3, 4), terms=200),
    case("linear twice", lambda m, x, w, b: fused("linear", True, True)(m, fused("linear", True, True)(m, x, w, b, x),
                                                                         w, b, x), (4, 5), (5, 5), (5,), terms=25),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


@pytest.mark.parametrize("dtype, bound", [("float16", 4e-3), ("bfloat16", 3e-2)])
@pytest.mark.parametrize("name, x, w, y", [("conv2d", (2, 3, 6, 7), (4, 3, 3, 3), (2, 4, 4, 5)),
                                           ("linear", (4, 5), (3, 5), (4, 3))])  # fmt: skip
def test_half(name: str, x: Any, w: Any, y: Any, dtype: str, bound: float) -> None:
    rng = np.random.default_rng(6)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in (x, w, (w[0],), y)]

    def cast(m: Any, *tensors: Any) -> Any:
        return fused(name, True, True)(m, *(tensor.to(getattr(m, dtype)) for tensor in tensors))

    ours, theirs = (attempt(module, cast, [array.copy() for array in arrays]) for module in (gn, torch))
    assert not (problems := compare_outcomes(ours, theirs, bound)), "\n".join(problems)


def double(*shape: int, seed: int) -> gn.Tensor:
    return gn.tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


@pytest.mark.parametrize("name, label, x, w, y, options", [row for row in SHAPES if np.prod(row[2]) in range(1, 400)])
def test_gradients_are_those_of_differences(name, label, x, w, y, options):
    function = getattr(F, name)
    inputs = [double(*shape, seed=seed) for seed, shape in enumerate((x, w, (w[0],), y))]
    assert gradcheck(lambda x, w, b, r: function(x, w, b, **options, residual=r, activation="relu"), inputs)


@pytest.mark.parametrize("name, label, x, w, y, options", SHAPES)
def test_the_fused_operation_has_the_bits_of_its_parts(name, label, x, w, y, options):
    """On the CPU the same sums are rounded in the same order."""
    rng = np.random.default_rng(4)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in (x, w, (w[0],), y)]
    function = getattr(F, name)
    results = []
    for whole in (True, False):
        x, w, b, r = inputs = [gn.tensor(array, requires_grad=True) for array in arrays]
        out = (
            function(x, w, b, **options, residual=r, activation="relu")
            if whole
            else F.relu(function(x, w, b, **options) + r)
        )
        (out * out.detach()).sum().backward()
        results.append([out.detach().numpy(), *(value.grad.numpy() for value in inputs)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_the_output_is_kept_for_the_activation():
    x, w, r = double(1, 2, 5, 5, seed=1), double(3, 2, 3, 3, seed=2), double(1, 3, 3, 3, seed=3)
    assert F.conv2d(x, w, residual=r)._node.saved[2] is None
    y = F.conv2d(x, w, residual=r, activation="relu")
    assert [array is kept for array, kept in zip(y._node.saved, (x._array, w._array, y._array), strict=True)] == [
        True
    ] * 3
    only_residual = F.conv2d(x.detach(), w.detach(), residual=r, activation="relu")
    assert only_residual._node.saved[:2] == (None, None)
    only_residual.sum().backward()
    np.testing.assert_array_equal(r.grad.numpy(), only_residual.detach().numpy() > 0)


@pytest.mark.parametrize("name, x, w", [("conv2d", (1, 2, 5, 5), (3, 2, 3, 3)), ("linear", (4, 5), (3, 5))])
def test_writing_to_the_output_is_found(name, x, w):
    y = getattr(F, name)(double(*x, seed=1), double(*w, seed=2), activation="relu")
    y += 1
    with pytest.raises(GradientError, match=f"a tensor that '{name}' needs for its gradient was modified in place"):
        y.sum().backward()
    y = getattr(F, name)(double(*x, seed=1), double(*w, seed=2))
    y += 1  # without an activation nothing of it is needed
    y.sum().backward()


def test_the_residual_is_left_alone():
    r = gn.ones(1, 3, 3, 3)
    y = F.conv2d(gn.ones(1, 2, 5, 5), gn.ones(3, 2, 3, 3), residual=r, activation="relu")
    assert y.tolist() == [[[[19.0] * 3] * 3] * 3]
    assert r.tolist() == [[[[1.0] * 3] * 3] * 3]


def test_observers_see_one_operation():
    seen = []
    with observer.observe(
        lambda op, inputs, attributes, outputs, path: seen.append((op.name, len(inputs), attributes))
    ):
        F.linear(gn.ones(2, 3), gn.ones(4, 3), residual=gn.ones(2, 4), activation="relu")
        F.conv1d(gn.ones(1, 1, 4), gn.ones(1, 1, 2), activation="relu")
    assert [(name, count, attributes["activation"]) for name, count, attributes in seen] == [
        ("linear", 4, "relu"),
        ("conv1d", 4, "relu"),
    ]


def test_the_profile_counts_the_residual():
    x, w, r = gn.ones(1, 1, 4), gn.ones(1, 1, 2, requires_grad=True), gn.ones(1, 1, 3)
    with gn.profile() as prof:
        F.conv1d(x, w, residual=r, activation="relu").sum().backward()
    conv = next(event for event in prof.events if (event.name, event.phase) == ("conv1d", "forward"))
    assert (conv.shapes, conv.macs, conv.path) == (((1, 1, 4), (1, 1, 2), (1, 1, 3)), 6, "cpu")
    assert (conv.read, conv.written) == (4 * (4 + 2 + 3), 4 * 3)


def test_meta_knows_the_shape():
    y = F.conv2d(
        gn.zeros(2, 3, 9, 9, device="meta"),
        gn.zeros(4, 3, 3, 3, device="meta"),
        residual=gn.zeros(2, 4, 7, 7, device="meta"),
        activation="relu",
    )
    assert (y.shape, y.device.type) == ((2, 4, 7, 7), "meta")
