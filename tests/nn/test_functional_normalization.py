"""Normalisations and dropouts of ``gpunet.nn.functional`` against PyTorch, and against the papers' numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet.testing.compare import assert_agreement
from gpunet.testing.parity import Case, attempt, case, check_case, compare_outcomes

RNG = np.random.default_rng(5)
IMAGE = (4, 6, 5, 7)
NAN_IMAGE = np.where(RNG.random(IMAGE) < 0.1, np.nan, RNG.standard_normal(IMAGE))
INF = math.inf


def layer(label: str, shape: tuple[int, ...], normalized: Any, affine: str = "wb", **kw: Any) -> Case:
    size = (normalized,) if isinstance(normalized, int) else tuple(normalized)
    bounds = {name: kw.pop(name) for name in ("looser", "terms") if name in kw}

    def run(m: Any, x: Any, *rest: Any) -> Any:
        given = dict(zip(("weight", "bias") if affine == "wb" else (("weight",) if affine == "w" else ("bias",)),
                         rest, strict=False))  # fmt: skip
        return m.nn.functional.layer_norm(x, normalized, given.get("weight"), given.get("bias"), **kw)

    return case(f"layer_norm {label}", run, shape, *([size] * len(affine)), terms=bounds.pop("terms", 4096), **bounds)


LAYER = [
    layer("features", (4, 7), (7,)),
    layer("sequence", (3, 5, 8), (8,)),
    layer("two dimensions", (3, 4, 5), (4, 5)),
    layer("images", IMAGE, IMAGE[1:]),
    layer("columns", IMAGE, (7,)),
    layer("everything", (3, 4), (3, 4)),
    layer("list", (3, 4), [4]),
    layer("no affine", (4, 7), (7,), ""),
    layer("weight alone", (4, 7), (7,), "w"),
    layer("bias alone", (4, 7), (7,), "b"),
    layer("eps", (4, 7), (7,), eps=0.5),
    layer("1-d", (7,), (7,)),
    # Detached: PyTorch's gradient is what rounding leaves of 0.
    case("layer_norm one value", lambda m, x: m.nn.functional.layer_norm(x.detach(), (1,)), (4, 1)),
    layer("short rows, many", (700, 3), (3,)),
    layer("rows longer than a loop", (9, 600), (600,)),
    layer("rows longer than a block", (3, 70000), (70000,), terms=70000),
    layer("several blocks", (60, 50, 64), (64,)),
    layer("empty batch", (0, 7), (7,)),
    layer("empty rows", (3, 0), (0,)),
    case("layer_norm far from zero", lambda m, x: m.nn.functional.layer_norm(x + 1000, (64,)), (16, 64),
         looser=1000.0),  # the input itself has lost these digits
    case("layer_norm NaN", lambda m, x: m.nn.functional.layer_norm(x, (7,)), NAN_IMAGE),
    case("layer_norm of a permuted input",
         lambda m, x, w, b: m.nn.functional.layer_norm(x.permute(0, 2, 3, 1), (6,), w, b), IMAGE, (6,), (6,)),
    case("layer_norm of a slice", lambda m, x, w: m.nn.functional.layer_norm(x[:, ::2, 1:], (4,), w), (6, 5, 5), (4,)),
    case("layer_norm float16 result", lambda m, x: m.nn.functional.layer_norm(x.half(), (64,)).float(), (8, 64),
         at_least=4e-3),
    case("layer_norm bfloat16 result", lambda m, x: m.nn.functional.layer_norm(x.bfloat16(), (64,)).float(), (8, 64),
         at_least=3e-2),
    # refused
    case("layer_norm wrong shape", lambda m, x: m.nn.functional.layer_norm(x, (6,)), (4, 7)),
    case("layer_norm more dimensions than the input", lambda m, x: m.nn.functional.layer_norm(x, (3, 4, 7)), (4, 7)),
    case("layer_norm no dimensions", lambda m, x: m.nn.functional.layer_norm(x, ()), (4, 7)),
    case("layer_norm wrong weight", lambda m, x, w: m.nn.functional.layer_norm(x, (7,), w), (4, 7), (4,)),
    case("layer_norm wrong bias", lambda m, x, w: m.nn.functional.layer_norm(x, (7,), None, w), (4, 7), (1, 7)),
    case("layer_norm integers", lambda m, x: m.nn.functional.layer_norm(x, (3,)), np.ones((2, 3), int)),
    case("layer_norm mixed dtypes", lambda m, x, w: m.nn.functional.layer_norm(x.float(), (7,), w.double()),
         (4, 7), (7,)),
]  # fmt: skip

RMS = [
    case("rms_norm", lambda m, x, w: m.nn.functional.rms_norm(x, (7,), w), (4, 7), (7,)),
    case("rms_norm no weight", lambda m, x: m.nn.functional.rms_norm(x, (7,)), (4, 7)),
    case("rms_norm eps", lambda m, x, w: m.nn.functional.rms_norm(x, (7,), w, 0.5), (4, 7), (7,)),
    case("rms_norm images", lambda m, x, w: m.nn.functional.rms_norm(x, IMAGE[1:], w), IMAGE, IMAGE[1:]),
    case("rms_norm long rows", lambda m, x, w: m.nn.functional.rms_norm(x, (5000,), w), (3, 5000), (5000,), terms=5000),
    case("rms_norm small values", lambda m, x: m.nn.functional.rms_norm(x * 1e-4, (7,)), (4, 7), looser=3.0),
    case("rms_norm float16 result", lambda m, x: m.nn.functional.rms_norm(x.half() * 0.05, (64,)).float(), (8, 64),
         at_least=4e-3),
    case("rms_norm empty", lambda m, x, w: m.nn.functional.rms_norm(x, (7,), w), (0, 7), (7,)),
    case("rms_norm wrong shape", lambda m, x: m.nn.functional.rms_norm(x, (6,)), (4, 7)),
    case("rms_norm wrong weight", lambda m, x, w: m.nn.functional.rms_norm(x, (7,), w), (4, 7), (6,)),
]  # fmt: skip

GROUPS: list[tuple[str, tuple[int, ...], int, dict[str, Any]]] = [
    ("three", IMAGE, 3, {}),
    ("one", IMAGE, 1, {}),
    ("as many as channels", IMAGE, 6, {}),
    ("eps", IMAGE, 2, {"eps": 0.5}),
    ("2-d", (4, 6), 2, {}),
    ("3-d", (4, 6, 9), 2, {}),
    ("5-d", (2, 4, 3, 2, 3), 2, {}),
    ("batch 1", (1, 4, 3, 3), 2, {}),
    ("one channel", (3, 1, 4, 4), 1, {}),
    ("many channels", (2, 96, 5, 3), 8, {}),
    ("large planes", (2, 4, 70, 66), 2, {}),
    ("empty batch", (0, 6, 4, 4), 3, {}),
    ("does not divide", IMAGE, 4, {}),
    ("no groups", IMAGE, 0, {}),
    ("one value in all", (1, 4, 1, 1), 4, {}),
    ("1-d", (4,), 2, {}),
]
GROUP = [
    case(f"group_norm {label}", lambda m, x, w, b, g=groups, kw=kw: m.nn.functional.group_norm(x, g, w, b, **kw),
         shape, *([(shape[min(1, len(shape) - 1)],)] * 2), terms=4 * int(np.prod(shape)))
    for label, shape, groups, kw in GROUPS
] + [
    case("group_norm no affine", lambda m, x: m.nn.functional.group_norm(x, 2), IMAGE),
    case("group_norm no pixels", lambda m, x: m.nn.functional.group_norm(x, 3), (2, 6, 0, 4)),
    case("group_norm one value a group", lambda m, x: m.nn.functional.group_norm(x.detach(), 4, eps=1.0), (2, 4, 1, 1)),
    case("group_norm mixed dtypes", lambda m, x, w: m.nn.functional.group_norm(x.float(), 2, w.double()), IMAGE, (6,)),
    case("instance_norm mixed dtypes", lambda m, x, w: m.nn.functional.instance_norm(x.float(), weight=w.double()),
         IMAGE, (6,)),
    case("group_norm weight alone", lambda m, x, w: m.nn.functional.group_norm(x, 2, w), IMAGE, (6,), terms=9000),
    case("group_norm far from zero", lambda m, x: m.nn.functional.group_norm(x + 1000, 2), (2, 4, 8, 8), looser=1000.0),
    case("group_norm NaN", lambda m, x: m.nn.functional.group_norm(x, 6), NAN_IMAGE),
    case("group_norm of a permuted input", lambda m, x, w: m.nn.functional.group_norm(x.permute(0, 3, 1, 2), 7, w),
         IMAGE, (7,), terms=9000),
    case("group_norm of a transposed input", lambda m, x: m.nn.functional.group_norm(x.transpose(2, 3)[:, ::2], 3),
         IMAGE),
    case("group_norm float16 result", lambda m, x: m.nn.functional.group_norm(x.half(), 2).float(), IMAGE,
         at_least=4e-3),
    case("group_norm wrong weight", lambda m, x, w: m.nn.functional.group_norm(x, 2, w), IMAGE, (5,)),
    case("group_norm integers", lambda m, x: m.nn.functional.group_norm(x, 1), np.ones((2, 3), int)),
]  # fmt: skip


def _instance(m: Any, x: Any, *rest: Any, names: tuple[str, ...], **kw: Any) -> Any:
    given = dict(zip(names, rest, strict=True))
    running = {
        name: given.pop(name).detach().abs().clone() for name in ("running_mean", "running_var") if name in given
    }
    y = m.nn.functional.instance_norm(
        x, running.get("running_mean"), running.get("running_var"), given.get("weight"), given.get("bias"), **kw
    )
    return y, tuple(running.values())


ALL = ("running_mean", "running_var", "weight", "bias")
INSTANCES: list[tuple[str, tuple[int, ...], tuple[str, ...], dict[str, Any]]] = [
    ("own statistics", IMAGE, (), {}),
    ("affine", IMAGE, ALL[2:], {}),
    ("weight alone", IMAGE, ("weight",), {}),
    ("bias alone", IMAGE, ("bias",), {}),
    ("tracked", IMAGE, ALL, {}),
    ("momentum", IMAGE, ALL, {"momentum": 0.9}),
    ("momentum zero", IMAGE, ALL, {"momentum": 0.0}),
    ("running statistics", IMAGE, ALL, {"use_input_stats": False}),
    ("running statistics alone", IMAGE, ALL[:2], {"use_input_stats": False}),
    ("eps", IMAGE, ALL, {"eps": 0.5}),
    ("3-d", (4, 6, 9), ALL, {}),
    ("5-d", (2, 3, 3, 2, 4), ALL, {}),
    ("batch 1, one channel", (1, 1, 4, 4), ALL, {}),
    ("large planes", (2, 3, 70, 66), ALL, {}),
    ("one pixel by running statistics", (2, 3, 1, 1), ALL, {"use_input_stats": False}),
    ("empty batch", (0, 3, 4, 4), (), {}),
    ("one pixel", (4, 3, 1, 1), ALL, {}),
    ("no statistics", IMAGE, (), {"use_input_stats": False}),
    ("2-d", (4, 6), (), {}),
]
INSTANCE = [
    case(f"instance_norm {label}", lambda m, x, *rest, n=names, kw=kw: _instance(m, x, *rest, names=n, **kw),
         shape, *((shape[1],) for _ in names), terms=4 * int(np.prod(shape)))
    for label, shape, names, kw in INSTANCES
] + [
    case("instance_norm NaN", lambda m, x: m.nn.functional.instance_norm(x), NAN_IMAGE),
    case("instance_norm far from zero", lambda m, x: m.nn.functional.instance_norm(x + 1000), (2, 4, 8, 8),
         looser=1000.0),
    case("instance_norm of a permuted input", lambda m, x: m.nn.functional.instance_norm(x.permute(0, 3, 1, 2)), IMAGE),
    case("instance_norm wrong weight", lambda m, x, w: m.nn.functional.instance_norm(x, weight=w), IMAGE, (5,)),
    case("instance_norm integers", lambda m, x: m.nn.functional.instance_norm(x), np.ones((2, 3, 4), int)),
]  # fmt: skip

RESPONSES: list[tuple[str, tuple[int, ...], tuple[Any, ...], dict[str, Any]]] = [
    ("defaults", IMAGE, (5,), {}),
    ("strong", IMAGE, (5, 0.5), {}),
    ("positional", IMAGE, (3, 0.5, 0.6, 2.0), {}),
    ("even", IMAGE, (4, 0.5), {}),
    ("two", IMAGE, (2, 0.5), {}),
    ("one", IMAGE, (1, 0.5), {}),
    ("more than the channels", IMAGE, (15, 0.5), {}),
    ("as many as the channels", IMAGE, (6, 0.5), {}),
    ("beta half", IMAGE, (5, 0.5), {"beta": 0.5}),
    ("beta one", IMAGE, (5, 0.5), {"beta": 1.0}),
    ("beta two", IMAGE, (5, 0.5), {"beta": 2.0}),
    ("beta zero", IMAGE, (5, 0.5), {"beta": 0.0}),
    ("k", IMAGE, (5, 0.5), {"k": 2.0}),
    ("k zero", IMAGE, (5, 0.5), {"k": 0.0}),
    ("3-d", (3, 7, 5), (3, 0.5), {}),
    ("5-d", (2, 5, 2, 3, 2), (3, 0.5), {}),
    ("one channel", (2, 1, 3, 3), (5, 0.5), {}),
    ("many channels", (2, 130, 3, 3), (7, 0.5), {}),
    ("several blocks", (4, 24, 40, 41), (5, 0.5), {}),
    ("empty batch", (0, 3, 4, 4), (5,), {}),
    ("2-d", (3, 7), (3,), {}),
    ("size zero", IMAGE, (0,), {}),
    ("size negative", IMAGE, (-1,), {}),
]
RESPONSE = [
    case(f"local_response_norm {label}",
         lambda m, x, args=args, kw=kw: m.nn.functional.local_response_norm(x, *args, **kw), shape,
         reversed_order=len(shape) != 5)  # where PyTorch itself needs a view it cannot have
    for label, shape, args, kw in RESPONSES
] + [
    case("local_response_norm NaN", lambda m, x: m.nn.functional.local_response_norm(x, 3, 0.5), NAN_IMAGE),
]  # fmt: skip

VECTORS = np.where(RNG.random((4, 5)) < 0.3, 0.0, RNG.standard_normal((4, 5)))
NORMALIZE = [
    case(f"normalize p {p}", lambda m, x, p=p: m.nn.functional.normalize(x, p), (3, 4, 5))
    for p in (2.0, 1.0, 3.0, 1.5, 0.0, INF, 2)
] + [
    case(f"normalize zeros p {p}", lambda m, x, p=p: m.nn.functional.normalize(x, p), VECTORS) for p in (2.0, 1.0, 3.0)
] + [
    case("normalize dim 0", lambda m, x: m.nn.functional.normalize(x, dim=0), (3, 4, 5)),
    case("normalize dim last", lambda m, x: m.nn.functional.normalize(x, dim=-1), (3, 4, 5)),
    case("normalize two dims", lambda m, x: m.nn.functional.normalize(x, dim=(1, 2)), (3, 4, 5)),
    case("normalize eps", lambda m, x: m.nn.functional.normalize(x, eps=2.0), (3, 4, 5)),
    case("normalize zero vector", lambda m, x: m.nn.functional.normalize(x * 0), (3, 4)),
    case("normalize 1-d", lambda m, x: m.nn.functional.normalize(x, dim=0), (5,)),
    case("normalize empty", lambda m, x: m.nn.functional.normalize(x), (0, 4)),
    case("normalize NaN", lambda m, x: m.nn.functional.normalize(x), NAN_IMAGE),
    case("normalize dim out of range", lambda m, x: m.nn.functional.normalize(x, dim=3), (3, 4, 5)),
    case("normalize 1-d by default", lambda m, x: m.nn.functional.normalize(x), (5,)),
    case("normalize integers", lambda m, x: m.nn.functional.normalize(x), np.ones((2, 3), int)),
]  # fmt: skip

DROPOUTS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "dropout1d": (lambda m: m.nn.functional.dropout1d, [(2, 3, 4), (3, 4), (2, 3, 4, 5), (4,)]),
    "dropout2d": (lambda m: m.nn.functional.dropout2d, [(2, 3, 4, 5), (2, 3, 4), (2, 3), (4,)]),
    "dropout3d": (lambda m: m.nn.functional.dropout3d, [(2, 3, 2, 2, 3), (3, 2, 2, 3), (2, 3, 2)]),
    "alpha_dropout": (lambda m: m.nn.functional.alpha_dropout, [(2, 3), (2, 3, 4, 5), (4,), (0, 3)]),
    "feature_alpha_dropout": (lambda m: m.nn.functional.feature_alpha_dropout, [(2, 3, 4), (2, 3, 4, 5), (2, 3)]),
}
DROPOUT = [
    case(f"{name} {shape} p {p} {'train' if training else 'eval'}",
         lambda m, x, get=get, p=p, t=training: get(m)(x, p, t), shape)
    for name, (get, shapes) in DROPOUTS.items()
    for shape in shapes
    for p, training in ((0.5, False), (0.0, True), (1.0, True), (1.5, True), (-0.5, False))
] + [
    case("alpha_dropout is off by default", lambda m, x: m.nn.functional.alpha_dropout(x, 0.5), (3, 4)),
    case("feature_alpha_dropout is off by default", lambda m, x: m.nn.functional.feature_alpha_dropout(x, 0.5),
         (3, 4, 2)),
    case("dropout2d everything in place", lambda m, x: m.nn.functional.dropout2d(x * 1, 1.0, True, True), (2, 3, 4, 4)),
    case("dropout1d everything in place", lambda m, x: m.nn.functional.dropout1d(x * 1, 1.0, True, True), (3, 4)),
    case("dropout3d everything in place", lambda m, x: m.nn.functional.dropout3d(x * 1, 1.0, True, True),
         (2, 3, 2, 2, 2)),
    case("alpha_dropout everything in place", lambda m, x: m.nn.functional.alpha_dropout(x * 1, 1.0, True, True),
         (3, 4)),
    case("feature_alpha_dropout everything in place",
         lambda m, x: m.nn.functional.feature_alpha_dropout(x * 1, 1.0, True, True), (3, 4, 2)),
    case("alpha_dropout integers", lambda m, x: m.nn.functional.alpha_dropout(x, 0.5, True), np.ones((2, 3), int)),
    case("dropout2d integers", lambda m, x: m.nn.functional.dropout2d(x, 0.5), np.ones((2, 3, 2, 2), int)),
    case("feature_alpha_dropout 1-d", lambda m, x: m.nn.functional.feature_alpha_dropout(x, 0.5, True), (4,)),
]  # fmt: skip

CASES = LAYER + RMS + GROUP + INSTANCE + RESPONSE + NORMALIZE + DROPOUT


@pytest.mark.parity
@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    pytest.importorskip("torch")
    check_case(checked)


def test_labels_are_unique() -> None:
    labels = [checked.label for checked in CASES]
    assert len(labels) == len(set(labels))


@pytest.mark.parity
@pytest.mark.parametrize(
    "run",
    [
        lambda m, x, w, b: m.nn.functional.layer_norm(x.half(), (64,), w.half(), b.half()),
        lambda m, x, w, b: m.nn.functional.layer_norm(x.half(), (64,), w, b),
        lambda m, x, w, b: m.nn.functional.group_norm(x.half(), 4, w.half(), b.half()),
        lambda m, x, w, b: m.nn.functional.rms_norm(x.half(), (64,), w.half()),
    ],
    ids=["layer_norm", "layer_norm with float32 weights", "group_norm", "rms_norm"],
)
def test_half_precision_with_weights(run: Callable[..., Any]) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((8, 64), (64,), (64,))]
    ours, theirs = (attempt(m, run, [array.copy() for array in arrays]) for m in (gn, torch))
    assert compare_outcomes(ours, theirs, 4e-3) == []


CHANNELS = np.arange(10, 90, 10.0).reshape(1, 8, 1, 1)
# One pixel with channels 10, 20, ... 80: section 3.3 of Krizhevsky et al. 2012 with its k = 2, n = 5, alpha = 1e-4,
# beta = 0.75, and the same with alpha divided by n.
PAPER = [5.651837, 10.708635, 14.866753, 17.999544, 20.192327, 21.619856, 26.028212, 31.330759]
DIVIDED = [5.884357, 11.631335, 17.136, 22.295521, 27.036509, 31.312555, 36.904087, 42.862499]


@pytest.mark.parametrize(("over", "expected"), [(False, PAPER), (True, DIVIDED)], ids=["paper", "alpha over n"])
def test_response_norm_has_both_conventions_of_alpha(over: bool, expected: list[float]) -> None:
    y = F.local_response_norm(gn.tensor(CHANNELS), 5, 1e-4, 0.75, 2.0, alpha_over_size=over)
    np.testing.assert_allclose(y.numpy().ravel(), expected, rtol=1e-6)
    layer_result = gn.nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0, alpha_over_size=over)(gn.tensor(CHANNELS))
    np.testing.assert_array_equal(layer_result.numpy(), y.numpy())


def test_normalised_moments() -> None:
    """Ba et al. 2016, Wu and He 2018, Ulyanov et al. 2016: mean 0 and variance 1 over what each names."""
    x = gn.from_numpy(np.random.default_rng(0).standard_normal((4, 6, 9, 8)) * 3 + 2)
    for y, axes in (
        (F.layer_norm(x, (6, 9, 8)).numpy(), (1, 2, 3)),
        (F.group_norm(x, 3).numpy().reshape(4, 3, -1), (2,)),
        (F.instance_norm(x).numpy(), (2, 3)),
    ):
        np.testing.assert_allclose(y.mean(axis=axes), 0, atol=1e-12)
        np.testing.assert_allclose(y.var(axis=axes), 1, rtol=1e-5)
    assert_agreement((F.normalize(x).numpy() ** 2).sum(1), np.ones((4, 9, 8)), np.float64)


def test_one_input_in_two_orders_gives_the_same() -> None:
    array = np.random.default_rng(1).standard_normal((3, 8, 6, 5))
    other = np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    weight = gn.from_numpy(np.random.default_rng(2).standard_normal(8))
    for call in (
        lambda x: F.group_norm(x, 4, weight),
        lambda x: F.instance_norm(x, weight=weight),
        lambda x: F.layer_norm(x, (8, 6, 5)),
        lambda x: F.local_response_norm(x, 3, 0.5),
    ):
        results = [call(gn.from_numpy(values)) for values in (array, other)]
        assert_agreement(results[0].numpy(), results[1].numpy(), np.float64)
        assert [result.stride(1) == 1 for result in results] == [False, True], "the result lies as the input does"


# Dropout: the masks are ours, their distribution the papers'. ---------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    ("drop", "shape"),
    [(F.dropout1d, (60, 50, 3)), (F.dropout2d, (60, 50, 2, 3)), (F.dropout3d, (60, 50, 2, 1, 2))],
    ids=["1d", "2d", "3d"],
)
def test_whole_channels_are_dropped(drop: Callable[..., gn.Tensor], shape: tuple[int, ...], p: float) -> None:
    x = gn.ones(*shape, requires_grad=True)
    y = drop(x, p)
    values = y.detach().numpy().reshape(60, 50, -1)
    assert (values == values[:, :, :1]).all()
    kept = values[:, :, 0] != 0
    assert abs(kept.mean() - (1 - p)) < 5 * (p * (1 - p) / kept.size) ** 0.5
    assert kept.mean(axis=1).std() > 0, "samples have masks of their own"
    np.testing.assert_allclose(values[kept], 1 / (1 - p), rtol=1e-6)
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


def test_unbatched_channels_are_dropped() -> None:
    for drop, shape in ((F.dropout1d, (200, 3)), (F.dropout3d, (200, 2, 1, 2))):
        values = drop(gn.ones(*shape), 0.5).numpy().reshape(200, -1)
        assert (values == values[:, :1]).all()
        assert 60 < (values[:, 0] != 0).sum() < 140


@pytest.mark.parametrize("p", [0.05, 0.2, 0.5])
def test_alpha_dropout_keeps_the_moments(p: float) -> None:
    """Klambauer et al. 2017, section 3: mean 0 and variance 1 stay."""
    x = gn.from_numpy(np.random.default_rng(4).standard_normal((400, 500)))
    y = F.alpha_dropout(x, p, True).numpy()
    assert abs(y.mean()) < 0.02
    assert y.var() == pytest.approx(1, abs=0.02)
    alpha = -1.0507009873554805 * 1.6732632423543772  # SELU's limit
    scale = ((1 - p) * (1 + p * alpha**2)) ** -0.5
    dropped = np.isclose(y, scale * alpha * (1 - p), rtol=1e-6)
    assert abs(dropped.mean() - p) < 5 * (p * (1 - p) / y.size) ** 0.5
    np.testing.assert_allclose(y[~dropped], scale * (x.numpy()[~dropped] - p * alpha), rtol=1e-6)


def test_alpha_dropout_of_channels() -> None:
    x = gn.from_numpy(np.random.default_rng(4).standard_normal((100, 60, 5)))
    x.requires_grad_()
    y = F.feature_alpha_dropout(x, 0.3, True)
    values = y.detach().numpy()
    dropped = (values == values[:, :, :1]).all(axis=2)
    assert abs(dropped.mean() - 0.3) < 0.03
    assert len(np.unique(values[dropped])) == 1
    assert abs(values.mean()) < 0.05
    assert values.var() == pytest.approx(1, abs=0.05)
    y.sum().backward()
    assert x.grad is not None
    assert (x.grad.numpy()[dropped] == 0).all()
    assert len(np.unique(x.grad.numpy()[~dropped])) == 1


def test_masks_repeat_from_their_seed_in_any_layout() -> None:
    array = np.random.default_rng(0).standard_normal((2, 3, 5, 4))
    other = np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for drop in (F.dropout2d, lambda x, p: F.alpha_dropout(x, p, True)):
        results = []
        for values in (array, other):
            gn.manual_seed(5)
            results.append(drop(gn.from_numpy(values), 0.5).numpy())
        np.testing.assert_array_equal(*results)
    first, second = (F.dropout2d(gn.ones(50, 40, 1, 1), generator=gn.Generator(3)).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_running_statistics_are_noticed_by_the_version_check() -> None:
    mean, var = gn.zeros(3), gn.ones(3)
    F.instance_norm(gn.randn(2, 3, 4), mean, var)
    assert (mean._version, var._version) == (1, 1)
    F.instance_norm(gn.randn(2, 3, 4), mean, var, use_input_stats=False)
    assert (mean._version, var._version) == (1, 1)
