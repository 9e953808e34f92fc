"""select, index_put, fill_diagonal_ and isin against PyTorch, and their errors."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet as gn
from gpunet import DTypeError, ShapeError
from gpunet.testing.bad_input import DEVICES, BadInput
from gpunet.testing.parity import Case, case, check_case

ROWS = np.array([2, 0, 2])
COLUMNS = np.array([1, 3, 1])

CASES: list[Case] = [
    *(case(f"select {d} {i}", lambda m, x, d=d, i=i: (x.select(d, i), m.select(x, d, i)), (3, 4, 2))
      for d, i in ((0, 1), (-1, -1), (1, 3), (1, 4), (3, 0), (0, -4))),
    case("select 0-d", lambda m, x: x.select(0, 0), ()),
    case("select writes through", lambda m, x: (y := x * 1, y.select(1, 0).zero_(), y)[2], (3, 4)),
    *(case(f"index_put {a}", lambda m, x, y, r, c, a=a: (x.index_put((r, c), y, a), m.index_put(x, (r, c), y, a)),
           (3, 4), (3,), ROWS, COLUMNS)
      for a in (True,)),
    case("index_put once", lambda m, x, y, r: x.index_put((r,), y), (3, 4), (2, 4), np.array([2, 0])),
    case("index_put rows", lambda m, x, y, r: x.index_put((r,), y, accumulate=True), (3, 4), (4,), ROWS),
    case("index_put_ adds", lambda m, x, y, r: (z := x * 1, z.index_put_((r,), y, True), z)[2], (3, 4), (3, 4), ROWS),
    case("index_put_", lambda m, x, y, r: (z := x * 1, z.index_put_((r,), y), z)[2], (3, 4), (4,), np.array([0, 2])),
    case("index_put range", lambda m, x, y, r: x.index_put((r + 2,), y), (3, 4), (4,), ROWS),
    case("index_put shape", lambda m, x, y, r: x.index_put((r,), y), (3, 4), (2,), ROWS),
    *(case(f"fill_diagonal_ {s} {w}", lambda m, x, w=w: (x * 1).fill_diagonal_(3.0, w), s)
      for s in ((3, 3), (2, 4), (7, 3), (3, 3, 3), (3, 4, 3), (3,), (0, 3)) for w in (False, True)),
    *(case(f"isin {inv}", lambda m, x, y, inv=inv: m.isin(x, y, invert=inv), np.array([[1, 2], [3, 5]]),
           np.array([5, 1, 1])) for inv in (False, True)),
    case("isin number", lambda m, x: (m.isin(x, 2), m.isin(2, x)), np.array([[1, 2], [3, 5]]),
         reversed_order=False),  # PyTorch views what it cannot
    case("isin none", lambda m, x, y: m.isin(x, y), np.array([[1, 2]]), np.zeros(0, np.int64)),
    case("isin mixed", lambda m, x, y: m.isin(x.detach(), y), np.array([1.0, 2.5, np.nan]), np.array([1, 2])),
    *(case(f"kinds {d}", lambda m, d=d: m.tensor([
        m.zeros(1, dtype=getattr(m, d)).is_complex(), m.is_complex(m.zeros(1, dtype=getattr(m, d))),
        m.zeros(1, dtype=getattr(m, d)).is_signed(), m.is_signed(m.zeros(1, dtype=getattr(m, d))),
        m.zeros(1).is_sparse])) for d in ("float32", "int64", "uint8", "bool")),
]  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize("entry", CASES, ids=repr)
def test_parity(entry: Case) -> None:
    check_case(entry)


CATALOGUE = [
    BadInput("select index", lambda z, on: z(2, 3).select(1, 3), IndexError,
             "select: index must lie in -3..2, got 3"),
    BadInput("index_put_ dtype", lambda z, on: z(3).index_put_((z(1, dtype=gn.int64),), z(1, dtype=gn.int64)),
             DTypeError,
             "index_put_: values must have dtype float32, got int64"),
    BadInput("fill_diagonal_ rank", lambda z, on: z(3).fill_diagonal_(1), ShapeError,
             "fill_diagonal_: input must have at least 2 dimensions, got shape (3,)"),
    BadInput("isin", lambda z, on: gn.isin(1, 2), TypeError,
             "isin: elements and test_elements must be a Tensor each, or one of them a number"),
]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
def test_bad_input(entry: BadInput, device: str) -> None:
    entry.check(device)
