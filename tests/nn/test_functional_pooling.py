"""Pooling of one to three dimensions against PyTorch; ``test_functional.py`` has the longer tables of two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet.testing.parity import Case, case, check_case

pytestmark = pytest.mark.parity

RNG = np.random.default_rng(23)
NAN = np.where(RNG.random((2, 2, 9)) < 0.3, np.nan, RNG.standard_normal((2, 2, 9)))
NAN_IMAGE = np.where(RNG.random((1, 2, 6, 7)) < 0.2, np.nan, RNG.standard_normal((1, 2, 6, 7)))
INF = np.where(RNG.random((2, 2, 9)) < 0.6, -np.inf, RNG.standard_normal((2, 2, 9)))
TIES = RNG.integers(0, 3, (2, 3, 8, 9)).astype(np.float64)
POSITIVE = RNG.random((2, 3, 8, 9)) + 0.1
PLACES = np.stack([RNG.permutation(16)[:4] for _ in range(6)]).reshape(2, 3, 2, 2)
Shape = tuple[int, ...]

# label, input, positional arguments, keywords: for max_pool and avg_pool of every number of dimensions that fits.
WINDOWS: list[tuple[str, Shape, Any, dict[str, Any]]] = [
    ("2", (2, 3), (2,), {}),
    ("overlapping", (2, 3), (3, 2), {}),
    ("padded", (2, 3), (3, 2, 1), {}),
    ("stride 1", (2, 3), (5, 1, 2), {}),
    ("stride larger than the kernel", (2, 3), (2, 3), {}),
    ("ceil", (2, 3), (3, 2), {"ceil_mode": True}),
    ("ceil padded", (2, 3), (2, 3, 1), {"ceil_mode": True}),
    ("one-element sequences", (2, 3), ([3], (2,), [1]), {}),
    ("unbatched", (3,), (2,), {}),
    ("empty batch", (0, 3), (2,), {}),
    ("no channels", (2, 0), (2,), {}),
    ("padding too large", (2, 3), (3, 1, 2), {}),
    ("padding negative", (2, 3), (3, 1, -1), {}),
    ("kernel zero", (2, 3), (0,), {}),
    ("stride zero", (2, 3), (2, 0), {}),
    ("kernel too large", (2, 3), (40,), {}),
    ("kernel too large with ceil", (2, 3), (10, 2), {"ceil_mode": True}),
    ("too many dimensions", (1, 2, 3), (2,), {}),
    ("too few dimensions", (), (2,), {}),
    ("float kernel", (2, 3), (2.5,), {}),
    ("too many sizes", (2, 3), ((2, 2, 2, 2),), {}),
]
SPATIAL = {1: (9,), 2: (8, 9), 3: (6, 7, 5)}


def _call(name: str, args: Any, kw: dict[str, Any]) -> Callable[..., Any]:
    return lambda m, x: getattr(m.nn.functional, name)(x, *args, **kw)


SLIDING = [
    case(f"{kind}{dims}d {label}", _call(f"{kind}{dims}d", args, kw), (*lead, *SPATIAL[dims]), terms=125)
    for kind in ("max_pool", "avg_pool")
    for dims in (1, 3)
    for label, lead, args, kw in WINDOWS
]

MORE = [
    case("max_pool1d indices", lambda m, x: m.nn.functional.max_pool1d(x, 3, 2, 1, return_indices=True), (2, 3, 9)),
    case("max_pool1d long window", lambda m, x: m.nn.functional.max_pool1d(x, 300, 1, return_indices=True),
         (1, 2, 310)),
    case("max_pool1d dilated", lambda m, x: m.nn.functional.max_pool1d(x, 3, 1, 1, 2, True, True), (2, 3, 9)),
    case("max_pool1d NaN", lambda m, x: m.nn.functional.max_pool1d(x, 3, 1, 1, return_indices=True), NAN),
    case("max_pool1d minus infinity", lambda m, x: m.nn.functional.max_pool1d(x, 3, 1, 1, return_indices=True), INF),
    case("max_pool1d whole sequence", lambda m, x: m.nn.functional.max_pool1d(x, x.size(2)).squeeze(2), (2, 3, 9)),
    case("max_pool2d returns indices", lambda m, x: m.nn.functional.max_pool2d(x, 3, 2, 1, return_indices=True),
         (2, 3, 8, 9)),
    case("max_pool2d indices of ties", lambda m, x: m.nn.functional.max_pool2d(x, 3, 1, 1, return_indices=True), TIES),
    case("max_pool2d indices in turn", lambda m, x: m.nn.functional.max_pool2d(x, (5, 4), 1, (2, 1), 1, False, True),
         TIES),
    case("max_pool2d indices of NaN in turn",
         lambda m, x: m.nn.functional.max_pool2d(x, 4, 1, 2, return_indices=True), NAN_IMAGE),
    case("max_pool2d indices unbatched", lambda m, x: m.nn.functional.max_pool2d(x, 2, return_indices=True), (3, 8, 9)),
    case("max_pool2d indices dilated ceil",
         lambda m, x: m.nn.functional.max_pool2d(x, (3, 2), 2, 1, (2, 3), True, True), (2, 3, 9, 11)),
    case("max_pool2d whole image", lambda m, x: m.nn.functional.max_pool2d(x, x.size()[2:]), (2, 3, 12, 11)),
    case("max_pool3d indices", lambda m, x: m.nn.functional.max_pool3d(x, (2, 3, 2), 2, (1, 1, 0), return_indices=True),
         (2, 3, 6, 7, 5)),
    case("max_pool3d dilated", lambda m, x: m.nn.functional.max_pool3d(x, 2, 1, 1, (2, 1, 3), True), (1, 2, 6, 7, 5)),
    case("avg_pool1d padding not counted",
         lambda m, x: m.nn.functional.avg_pool1d(x, 3, 2, 1, True, False), (2, 3, 10), terms=9),
    case("avg_pool2d in turn", lambda m, x: m.nn.functional.avg_pool2d(x, (5, 4), 1, (2, 1)), (2, 3, 8, 9), terms=20),
    case("avg_pool2d whole image", lambda m, x: m.nn.functional.avg_pool2d(x, x.size()[2:]), (2, 3, 12, 11), terms=132),
    case("avg_pool3d divisor", lambda m, x: m.nn.functional.avg_pool3d(x, 2, 2, 1, divisor_override=3),
         (2, 3, 6, 7, 5)),
    case("avg_pool3d not counted ceil", lambda m, x: m.nn.functional.avg_pool3d(x, (3, 2, 2), 2, 1, True, False),
         (2, 3, 6, 7, 5)),
    case("avg_pool3d divisor zero", lambda m, x: m.nn.functional.avg_pool3d(x, 2, divisor_override=0), (1, 1, 4, 4, 4)),
    case("avg_pool3d window in the padding", lambda m, x: m.nn.functional.avg_pool3d(x, 2, None, 1), (2, 3, 1, 1, 1)),
    case("lp_pool1d", lambda m, x: m.nn.functional.lp_pool1d(x, 2, 3), POSITIVE[0], terms=3),
    case("lp_pool1d of 1", lambda m, x: m.nn.functional.lp_pool1d(x, 1, 2, 1), POSITIVE[0], terms=3),
    case("lp_pool2d", lambda m, x: m.nn.functional.lp_pool2d(x, 2, 3, stride=2), POSITIVE, terms=9),
    case("lp_pool2d of negatives", lambda m, x: m.nn.functional.lp_pool2d(x, 2, (3, 2), (2, 1)), (2, 3, 8, 9), terms=9),
    case("lp_pool2d odd power", lambda m, x: m.nn.functional.lp_pool2d(x, 3.0, 2), POSITIVE, terms=9),
    case("lp_pool2d fraction ceil", lambda m, x: m.nn.functional.lp_pool2d(x, 2.5, 3, 2, ceil_mode=True), POSITIVE,
         terms=9),
    case("lp_pool2d unbatched", lambda m, x: m.nn.functional.lp_pool2d(x, 2, 3), POSITIVE[0], terms=9),
    case("lp_pool2d zero", lambda m, x: m.nn.functional.lp_pool2d(x, 0, 3), POSITIVE),
    case("lp_pool3d", lambda m, x: m.nn.functional.lp_pool3d(x, 2, 2), POSITIVE[None], terms=8),
    case("max_unpool1d", lambda m, x: m.nn.functional.max_unpool1d(
        *m.nn.functional.max_pool1d(x, 2, return_indices=True), 2), (2, 3, 8)),
    case("max_unpool1d output size", lambda m, x: m.nn.functional.max_unpool1d(
        *m.nn.functional.max_pool1d(x, 2, return_indices=True), 2, output_size=(9,)), (2, 3, 9)),
    case("max_unpool2d", lambda m, x: m.nn.functional.max_unpool2d(
        *m.nn.functional.max_pool2d(x, 2, return_indices=True), 2), (2, 3, 8, 6)),
    case("max_unpool2d output shape", lambda m, x: m.nn.functional.max_unpool2d(
        *m.nn.functional.max_pool2d(x, 2, return_indices=True), 2, output_size=x.shape), (2, 3, 9, 7)),
    case("max_unpool2d output size", lambda m, x: m.nn.functional.max_unpool2d(
        *m.nn.functional.max_pool2d(x, 3, 3, 1, return_indices=True), 3, 3, 1, output_size=[8, 9]), (2, 3, 8, 9)),
    case("max_unpool2d unbatched", lambda m, x: m.nn.functional.max_unpool2d(
        *m.nn.functional.max_pool2d(x, 2, return_indices=True), 2), (3, 8, 6)),
    case("max_unpool2d places", lambda m, x, i: m.nn.functional.max_unpool2d(x, i, 2), (2, 3, 2, 2), PLACES,
         reversed_order=False),
    case("max_unpool2d size too far", lambda m, x, i: m.nn.functional.max_unpool2d(x, i, 2, output_size=(7, 4)),
         (2, 3, 2, 2), PLACES),
    case("max_unpool2d place outside", lambda m, x, i: m.nn.functional.max_unpool2d(x, i + 20, 2), (2, 3, 2, 2),
         PLACES),
    case("max_unpool2d float places", lambda m, x, i: m.nn.functional.max_unpool2d(x, i * 1.0, 2), (2, 3, 2, 2),
         PLACES),
    case("max_unpool2d wrong places", lambda m, x, i: m.nn.functional.max_unpool2d(x, i, 2), (2, 3, 2, 3), PLACES),
    case("max_unpool3d", lambda m, x: m.nn.functional.max_unpool3d(
        *m.nn.functional.max_pool3d(x, 2, return_indices=True), 2), (2, 3, 4, 6, 4)),
    case("B23: global average pooling, 100x100x5 to 1x1x5", lambda m, x: m.nn.functional.adaptive_avg_pool2d(x, 1),
         (1, 5, 100, 100), terms=10_000),
]  # fmt: skip

ADAPTIVE = [
    case(f"adaptive_{kind}_pool{dims}d {label}", _call(f"adaptive_{kind}_pool{dims}d", (size,), {}), shape, terms=210)
    for kind in ("avg", "max")
    for dims, label, shape, size in (
        (1, "1", (2, 3, 9), 1), (1, "4", (2, 3, 9), 4), (1, "3", (2, 3, 9), (3,)), (1, "larger", (2, 3, 4), 7),
        (1, "unbatched", (3, 9), 4), (1, "None", (2, 3, 9), None), (1, "wrong rank", (9,), 2),
        (1, "negative", (2, 3, 9), -1), (1, "two sizes", (2, 3, 9), (2, 2)), (1, "empty batch", (0, 3, 9), 2),
        (3, "1", (2, 3, 6, 7, 5), 1), (3, "uneven", (2, 3, 6, 7, 5), (4, 3, 2)),
        (3, "None", (2, 3, 6, 7, 5), (None, 3, None)), (3, "unbatched", (3, 6, 7, 5), 2),
        (3, "wrong rank", (6, 7), 2), (3, "two sizes", (2, 3, 6, 7, 5), (2, 2)),
    )
] + [
    case(f"adaptive_max_pool2d {label}", _call("adaptive_max_pool2d", (size,), {}), shape)
    for label, shape, size in (
        ("1", (2, 3, 5, 7), 1), ("pair", (2, 3, 5, 7), (2, 3)), ("None", (2, 3, 5, 7), (None, 3)),
        ("larger", (2, 3, 3, 2), (5, 4)), ("same size", (2, 3, 4, 4), 4), ("unbatched", (3, 5, 7), (2, 2)),
        ("empty batch", (0, 3, 4, 4), 2), ("negative", (2, 3, 4, 4), -1), ("three", (2, 3, 4, 4), (1, 1, 1)),
        ("wrong rank", (4, 4), 1), ("float", (2, 3, 4, 4), 1.5), ("dividing", (2, 3, 8, 6), (4, 2)),
        ("AlexNet's", (1, 4, 13, 13), 6), ("ties", TIES, (3, 4)),
    )
] + [
    case("adaptive_max_pool1d indices", _call("adaptive_max_pool1d", (4, True), {}), (2, 3, 9)),
    case("adaptive_max_pool2d indices", _call("adaptive_max_pool2d", ((3, 4),), {"return_indices": True}), TIES),
    case("adaptive_max_pool2d indices dividing", _call("adaptive_max_pool2d", ((4, 3), True), {}), TIES),
    case("adaptive_max_pool2d indices of NaN", _call("adaptive_max_pool2d", ((4, 3), True), {}), NAN_IMAGE),
    case("adaptive_max_pool3d indices", _call("adaptive_max_pool3d", ((2, 3, 4), True), {}), (2, 3, 6, 7, 5)),
]  # fmt: skip

DTYPES = [
    case(f"{name} {dtype}",
         lambda m, x, run=run, dtype=dtype: run(m, x.to(getattr(m, dtype))), (2, 3, 8, 9), at_least=2e-2)
    for dtype in ("float16", "bfloat16")
    for name, run in (
        ("max_pool1d", lambda m, x: m.nn.functional.max_pool1d(x[0], 3, 2)),
        ("avg_pool1d", lambda m, x: m.nn.functional.avg_pool1d(x[0], 3, 2)),
        ("adaptive_max_pool2d", lambda m, x: m.nn.functional.adaptive_max_pool2d(x, 3)),
        ("adaptive_avg_pool2d uneven", lambda m, x: m.nn.functional.adaptive_avg_pool2d(x, 3)),
    )
]  # fmt: skip

CASES = [*SLIDING, *MORE, *ADAPTIVE, *DTYPES]


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


def test_labels_are_unique() -> None:
    labels = [checked.label for checked in CASES]
    assert len(labels) == len(set(labels))


def test_overlapping_pooling_of_alexnet() -> None:
    """Row B78: pool(3, 2) on 13 gives 6."""
    assert F.max_pool2d(gn.zeros(1, 2, 13, 13), 3, 2).shape == (1, 2, 6, 6)


def test_an_infinite_gradient_stays_with_the_maximum() -> None:
    x = gn.tensor([[[1.0, 3.0, 2.0, 0.0]]], requires_grad=True)
    F.max_pool1d(x, 2, 1).backward(gn.tensor([[[float("inf"), 1.0, 1.0]]]))
    assert x.grad is not None
    assert x.grad.tolist() == [[[0.0, float("inf"), 1.0, 0.0]]]


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_images_stay_channels_last(name: str) -> None:
    x = gn.from_numpy(np.zeros((2, 8, 8, 16), np.float32)).permute(0, 3, 1, 2)
    y = getattr(F, name)(x, 3, 2, 1)
    assert y.numpy().strides[1] == 4
