"""Sorting, and the largest, k-th and middle elements, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from gpunet.testing.parity import Case, case, check_case

pytest.importorskip("torch")
pytestmark = pytest.mark.parity

INTEGERS = np.array([[3, -7, 0], [12, 5, -1]])
BOOLS = np.array([[True, False, True], [False, False, True]])
WITH_NAN = np.array([[1.0, np.nan, 2.0], [np.inf, 0.5, -3.0]])

CASES = [
    *(
        case(f"{name} {label}", lambda m, x, name=name, kw=kw: getattr(m, name)(x, **kw), values)
        for name in ("sort", "argsort")
        for label, values, kw in (
            ("last", (3, 4), {}),
            ("first", (3, 4), {"dim": 0}),
            ("descending", (2, 3, 4), {"dim": 1, "descending": True}),
            ("integers", INTEGERS, {"dim": 1}),
            ("0-d", (), {}),
            ("empty", (0, 3), {"dim": 0}),
            ("too large", (3,), {"dim": 1}),
            ("stable", np.array([2, 1, 2, 1, 1, 2]), {"stable": True}),
            ("stable descending", np.array([2, 1, 2, 1, 1, 2]), {"stable": True, "descending": True}),
            ("axis", (3, 4), {"axis": 0}),
        )
    ),
    case("sort fields", lambda m, x: (x.sort().values, x.sort(0, True).indices), (3, 4)),
    case("sort NaN", lambda m, x: (x.detach().sort(1), x.detach().sort(1, descending=True)), WITH_NAN),
    case("sort bools", lambda m, x: m.sort(x, stable=True), BOOLS),
    case("msort", lambda m, x: m.msort(x), (4, 3)),
    *(
        case(f"topk {label}", lambda m, x, args=args, kw=kw: m.topk(x, *args, **kw), values)
        for label, values, args, kw in (
            ("last", (3, 4), (2,), {}),
            ("first", (3, 4), (2, 0), {}),
            ("smallest", (3, 4), (3,), {"largest": False}),
            ("all", (3, 4), (4, 1), {}),
            ("none", (3, 4), (0,), {}),
            ("few of many", (2, 60), (3,), {}),
            ("few smallest of many", (60, 2), (3, 0), {"largest": False}),
            ("too many", (3, 4), (5,), {}),
            ("negative", (3, 4), (-1,), {}),
            ("integers", np.array([[3, 9, 1], [7, 2, 5]]), (2,), {}),
            ("bools", BOOLS, (1,), {}),
            ("0-d", (), (1,), {}),
            ("channels", (2, 3, 4, 5), (2, 1), {}),
        )
    ),
    case("topk method", lambda m, x: (x.topk(1, 1, True, True).indices, x.topk(2, dim=0)[0]), (3, 4)),
    case("kthvalue", lambda m, x: m.kthvalue(x, 2), (3, 4)),
    case("kthvalue dim", lambda m, x: x.kthvalue(3, 0, keepdim=True), (3, 4)),
    case("kthvalue outside", lambda m, x: m.kthvalue(x, 0), (3, 4)),
    case("kthvalue too large", lambda m, x: m.kthvalue(x, 5), (3, 4)),
    case("median", lambda m, x: m.median(x), (3, 4)),
    case("median ties", lambda m, x: m.median(x), np.array([1.0, 2.0, 2.0, 2.0, 3.0])),
    case("median dim", lambda m, x: x.median(1), (3, 4)),
    case("median keepdim", lambda m, x: m.median(x, 0, keepdim=True), (3, 4)),
    case("median NaN", lambda m, x: (m.median(x.detach()), x.detach().median(1).values), WITH_NAN),
    case("median integers", lambda m, x: (m.median(x), x.median(0)), INTEGERS),
    case("median bools", lambda m, x: m.median(x), BOOLS),
    case("median of nothing", lambda m, x: m.median(x.detach()), (0,)),
    case("median of an empty dim", lambda m, x: m.median(x, 0), (0, 3)),
    case("nanmedian", lambda m, x: (m.nanmedian(x.detach()), x.detach().nanmedian(1)), WITH_NAN),
    case("mode", lambda m, x: m.mode(x), np.array([[1, 2, 2, 3, 3], [4, 4, 4, 0, 0]])),
    case("mode dim", lambda m, x: x.mode(0, keepdim=True), np.array([[1, 2], [1, 3], [2, 3]])),
    case("searchsorted", lambda m, x, v: m.searchsorted(x.detach().sort().values, v.detach()), (6,), (3, 4)),
    case(
        "searchsorted right",
        lambda m, x, v: m.searchsorted(x, v, right=True),
        np.array([1, 2, 2, 5]),
        np.array([[2, 5], [0, 9]]),
    ),
    case(
        "searchsorted side",
        lambda m, x, v: m.searchsorted(x, v, side="right"),
        np.array([1, 2, 2, 5]),
        np.array([2, 5]),
    ),
    case("searchsorted rows", lambda m, x, v: m.searchsorted(x.detach().sort(-1).values, v.detach()), (3, 5), (3, 2)),
    case("searchsorted number", lambda m, x: m.searchsorted(x, 2), np.array([1, 2, 2, 5])),
    case(
        "searchsorted int32", lambda m, x, v: m.searchsorted(x, v, out_int32=True), np.array([1, 2]), np.array([2, 5])
    ),
    case("searchsorted rows differ", lambda m, x, v: m.searchsorted(x, v), (3, 5), (2, 2)),
    case("bucketize", lambda m, x, b: m.bucketize(x, b), np.array([[0, 2], [5, 9]]), np.array([1, 2, 5])),
    case("bucketize right", lambda m, x, b: m.bucketize(x, b, right=True), np.array([0, 2, 5]), np.array([1, 2, 5])),
    case("bucketize 2-d", lambda m, x, b: m.bucketize(x, b), np.array([0, 2, 5]), np.array([[1, 2, 5]])),
    case(
        "accuracy",
        lambda m, x, t: (x.topk(3, 1)[1] == t[:, None]).any(1).float().mean(),
        (6, 9),
        np.array([1, 2, 3, 0, 8, 5]),
    ),
]


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)
