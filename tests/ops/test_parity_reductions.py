"""Reductions and running sums against PyTorch: values, gradients, dtypes, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpunet.testing.parity import Case, case, check_case

pytest.importorskip("torch")
pytestmark = pytest.mark.parity

INTEGERS = np.array([[3, -7, 0], [12, 5, -1]])
BOOLS = np.array([[True, False, True], [False, False, True]])
ZEROS = np.array([[1.5, 0.0, 2.0], [0.0, 0.0, -1.0], [0.5, 2.0, 3.0]])
WITH_NAN = np.array([[1.0, np.nan, 2.0], [np.inf, 0.5, -3.0]])

CASES = [
    case("prod", lambda m, x: m.prod(x), (2, 3, 4)),
    case("prod dim", lambda m, x: x.prod(1, keepdim=True), (2, 3, 4)),
    case("prod zeros", lambda m, x: (x.prod(0), x.prod(1)), ZEROS),
    case("prod of all zeros", lambda m, x: x.prod(), ZEROS),
    case("prod integers", lambda m, x: m.prod(x, 0), INTEGERS),
    case("prod bools", lambda m, x: m.prod(x), BOOLS),
    case("prod dtype", lambda m, x: m.prod(x, dtype=m.float64), INTEGERS),
    case("prod empty", lambda m, x: m.prod(x, 0), (0, 3)),
    case("prod tuple", lambda m, x: m.prod(x, (0, 1)), (2, 3)),
    *(
        case(f"{name} {label}", lambda m, x, name=name, dim=dim: getattr(m, name)(x, dim), values)
        for name in ("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")
        for label, values, dim in (
            ("first", (3, 4), 0),
            ("last", (2, 3, 4), -1),
            ("0-d", (), 0),
            ("empty", (0, 3), 0),
            ("too large", (3,), 1),
            ("zeros", ZEROS + np.arange(3) * 1e-3 * (ZEROS != 0), 1),
        )
        if (name, label) not in {("cummax", "zeros"), ("cummin", "zeros")}
    ),
    case("cummax integers", lambda m, x: m.cummax(x, 1), INTEGERS),
    case("cummin ties", lambda m, x: m.cummin(x.detach(), 0), np.array([2.0, 1.0, 1.0, 3.0])),
    case("cummax NaN", lambda m, x: m.cummax(x.detach(), 1), WITH_NAN),
    case("cumsum integers", lambda m, x: (x.cumsum(0), x.cumprod(1)), INTEGERS),
    case("cumsum bools", lambda m, x: m.cumsum(x, 1), BOOLS),
    case("cumsum dtype", lambda m, x: m.cumsum(x, 0, dtype=m.float32), INTEGERS),
    case("cumprod zero columns", lambda m, x: m.cumprod(x, 0), ZEROS),
    *(
        case(f"logsumexp {label}", lambda m, x, dim=dim: m.logsumexp(x, dim), values)
        for label, values, dim in (
            ("dim", (3, 4), 1),
            ("dims", (2, 3, 4), (0, 2)),
            ("large", np.array([[800.0, 801.0], [-900.0, -901.0]]), 1),
            ("integers", INTEGERS, 0),
            ("0-d", (), 0),
            ("too large", (3,), 1),
        )
    ),
    case("logsumexp keepdim", lambda m, x: x.logsumexp(0, keepdim=True), (3, 4)),
    case("logsumexp infinite", lambda m, x: x.detach().logsumexp(1), np.array([[-np.inf, -np.inf], [np.inf, 1.0]])),
    case("logsumexp empty", lambda m, x: x.logsumexp(0), (0, 3)),
    *(
        case(f"norm {p} {label}", lambda m, x, p=p, kw=kw: m.norm(x, p, **kw), (3, 4))
        for p in ("fro", 2, 1, 3, 0.5, 0, math.inf, -math.inf, -1)
        for label, kw in (("all", {}), ("dim", {"dim": 1}), ("keepdim", {"dim": 0, "keepdim": True}))
    ),
    case("norm method", lambda m, x: (x.norm(), x.norm(dim=1), x.norm(p=1, dim=(0, 1))), (3, 4)),
    case("norm at zero", lambda m, x: x.norm(), np.zeros(3)),
    case("norm rows at zero", lambda m, x: x.norm(3, 1), np.array([[0.0, 0.0], [1.0, 2.0]])),
    case("norm infinite ties", lambda m, x: x.norm(math.inf), np.array([1.0, -2.0, 2.0])),
    case("norm integers", lambda m, x: m.norm(x), INTEGERS),
    case("norm dtype", lambda m, x: m.norm(x, dtype=m.float64), (3, 4)),
    case("norm of nothing", lambda m, x: m.norm(x), (0,)),
    case("norm infinite of nothing", lambda m, x: m.norm(x, math.inf), (0,)),
    *(
        case(f"vector_norm {p}", lambda m, x, p=p: m.linalg.vector_norm(x, p, dim=1, keepdim=True), (3, 4))
        for p in (2, 1, 0, 2.5, math.inf, -math.inf)
    ),
    case("vector_norm all", lambda m, x: m.linalg.vector_norm(x), (2, 3, 4)),
    *(
        case(f"matrix_norm {p}", lambda m, x, p=p: m.linalg.matrix_norm(x, p), (2, 3, 4))
        for p in ("fro", 1, -1, math.inf, -math.inf)
    ),
    case("matrix_norm dim", lambda m, x: m.linalg.matrix_norm(x, 1, dim=(0, 1), keepdim=True), (2, 3, 4)),
    case("matrix_norm 1-d", lambda m, x: m.linalg.matrix_norm(x), (3,)),
    case("linalg.norm", lambda m, x: m.linalg.norm(x), (2, 3, 4)),
    case("linalg.norm matrix", lambda m, x: (m.linalg.norm(x, 1), m.linalg.norm(x, "fro")), (3, 4)),
    case("linalg.norm dim", lambda m, x: m.linalg.norm(x, 3, dim=1), (3, 4)),
    case("linalg.norm dims", lambda m, x: m.linalg.norm(x, math.inf, dim=(1, 2), keepdim=True), (2, 3, 4)),
    case("linalg.norm order without dim", lambda m, x: m.linalg.norm(x, 2), (2, 3, 4)),
    case("nansum", lambda m, x: (m.nansum(x), x.nansum(1)), np.array([[1.0, np.nan, 2.0], [4.0, 0.5, -3.0]])),
    case("nansum integers", lambda m, x: m.nansum(x), INTEGERS),
    case("nanmean", lambda m, x: (m.nanmean(x), x.nanmean(0)), np.array([[1.0, np.nan, 2.0], [4.0, 0.5, -3.0]])),
    case("nanmean integers", lambda m, x: m.nanmean(x), INTEGERS),
    case("std_mean", lambda m, x: m.std_mean(x), (3, 4)),
    case("std_mean dim", lambda m, x: m.std_mean(x, 1, keepdim=True), (3, 4)),
    case("var_mean", lambda m, x: m.var_mean(x, dim=(0, 1), correction=0), (3, 4)),
    case("var_mean biased", lambda m, x: m.var_mean(x, 1, False), (3, 4)),
    case("std_mean integers", lambda m, x: m.std_mean(x), INTEGERS),
    case("aminmax", lambda m, x: m.aminmax(x), (3, 4)),
    case("aminmax dim", lambda m, x: tuple(x.aminmax(dim=1, keepdim=True)), (3, 4)),
    case("aminmax positional", lambda m, x: x.aminmax(1), (3, 4)),
    case("amax function", lambda m, x: (m.amax(x, 1), m.amin(x, (0, 1))), (3, 4)),
    case("max fields", lambda m, x: (m.max(x, 1).values, m.min(x, 0).indices), (3, 4)),
    case("all any", lambda m, x: (m.all(x), m.any(x, 1)), BOOLS),
    case("count_nonzero", lambda m, x: (m.count_nonzero(x), x.count_nonzero(1), m.count_nonzero(x, (0, 1))), INTEGERS),
    case(
        "axis names",
        lambda m, x: (
            x.sum(axis=1),
            x.mean(axis=0, keepdims=True),
            m.max(x, axis=1).values,
            x.argmax(axis=0),
            m.std(x, axis=1),
            x.cumsum(axis=0),
            x.prod(axis=1),
        ),
        (3, 4),
    ),
    case("axis and dim", lambda m, x: x.sum(dim=1, axis=1), (3, 4)),
    case("diff", lambda m, x: (m.diff(x), x.diff(n=2, dim=0)), (4, 5)),
    case("diff ends", lambda m, x, y: m.diff(x, dim=1, prepend=y, append=y), (3, 4), (3, 1)),
    case("diff bools", lambda m, x: m.diff(x), BOOLS),
    case("diff 0-d", lambda m, x: m.diff(x), ()),
    case("diff more than there are", lambda m, x: m.diff(x, n=5), (3,)),
    *(
        case(f"quantile {way}", lambda m, x, way=way: m.quantile(x, 0.3, 1, interpolation=way), (3, 6))
        for way in ("linear", "lower", "higher", "midpoint", "nearest", "cubic")
    ),
    case("quantile of all", lambda m, x: m.quantile(x, 0.5), (3, 5)),
    case("quantiles", lambda m, x: x.quantile(m.tensor([0.0, 0.25, 1.0], dtype=x.dtype), dim=0, keepdim=True), (4, 3)),
    case("quantile outside", lambda m, x: m.quantile(x, 1.5), (3,)),
    case("quantile NaN", lambda m, x: m.quantile(x.detach(), 0.5, 1), WITH_NAN),
    case("unique", lambda m, x: m.unique(x), np.array([[3, 1, 3], [2, 2, 1]])),
    case(
        "unique more",
        lambda m, x: m.unique(x, return_inverse=True, return_counts=True),
        np.array([[3, 1, 3], [2, 2, 1]]),
    ),
    case("unique counts", lambda m, x: x.unique(return_counts=True), np.array([[3, 1, 3], [2, 2, 1]])),
    case(
        "unique dim",
        lambda m, x: m.unique(x, dim=0, return_inverse=True, return_counts=True),
        np.array([[3, 1], [2, 2], [3, 1], [0, 5]]),
    ),
    case("unique floats", lambda m, x: m.unique(x.detach()), np.array([0.5, -1.0, 0.5])),
    case(
        "unique_consecutive",
        lambda m, x: m.unique_consecutive(x, return_inverse=True, return_counts=True),
        np.array([1, 1, 2, 2, 2, 1, 3]),
    ),
    case("unique_consecutive dim", lambda m, x: x.unique_consecutive(dim=1), np.array([[1, 1, 2], [0, 0, 3]])),
    case("bincount", lambda m, x: m.bincount(x), np.array([0, 3, 1, 3])),
    case("bincount minlength", lambda m, x: x.bincount(minlength=6), np.array([0, 3, 1, 3])),
    case("bincount weights", lambda m, x, w: m.bincount(x, w.detach()), np.array([0, 3, 1, 3]), (4,)),
    case("bincount negative", lambda m, x: m.bincount(x), np.array([0, -3])),
    case("bincount 2-d", lambda m, x: m.bincount(x), INTEGERS),
    case("bincount floats", lambda m, x: m.bincount(x), (3,)),
    case("bincount empty", lambda m, x: m.bincount(x), np.zeros(0, np.int64)),
    case("histc", lambda m, x: m.histc(x.detach(), 5), (3, 20)),
    case("histc range", lambda m, x: x.detach().histc(bins=4, min=-1, max=1), (3, 20)),
    case("histc one value", lambda m, x: m.histc(x.detach(), 4), np.ones(3)),
    case("histc wrong range", lambda m, x: m.histc(x.detach(), 4, 1, -1), (3,)),
    case("histc integers", lambda m, x: m.histc(x, 4), INTEGERS),
    case("product of strided", lambda m, x: (x.T.prod(0), x[:, ::2].logsumexp(1), x.T.norm(dim=0)), (3, 4)),
]


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)
