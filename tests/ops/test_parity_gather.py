"""Gathering, scattering and masks against PyTorch: values, gradients, dtypes, shapes and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet.testing.parity import Case, case, check_case

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

INDEX = np.array([[2, 0, 2, 1], [0, 0, 1, 2]])
NARROW = INDEX[:, :2]
CUBE = np.array([[[0, 1], [2, 0]], [[1, 1], [0, 2]]])
ONCE = np.array([[2, 0, 1, 1], [0, 1, 2, 0]])
ROWS = np.array([2, 0, 2])
MASK = np.array([[True, False, True, False], [False, False, False, True], [True, True, True, True]])
INTEGERS = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])
BYTES = INTEGERS.astype(np.uint8)
BOOLS = np.array([[True, False], [False, True]])

GATHER = [
    case("gather", lambda m, x, i: m.gather(x, 0, i), (3, 4), INDEX),
    case("gather method", lambda m, x, i: x.gather(1, i), (3, 4), INDEX),
    case("gather negative dim", lambda m, x, i: x.gather(-1, i), (3, 4), NARROW),
    case("gather fewer", lambda m, x, i: x.gather(0, i), (3, 4), NARROW),
    case("gather 3-d", lambda m, x, i: x.gather(1, i), (2, 3, 4), CUBE),
    case("gather keywords", lambda m, x, i: m.gather(input=x, dim=1, index=i), (3, 4), NARROW),
    case("gather int32 index", lambda m, x, i: x.gather(0, i.int()), (3, 4), INDEX),
    case("gather 0-d", lambda m, x: x.gather(0, m.tensor(0)), ()),
    case("gather 1-d by 0-d", lambda m, x: x.gather(0, m.tensor(2)), (4,)),
    case("gather empty index", lambda m, x: x.gather(0, m.zeros(0, 4, dtype=m.int64)), (3, 4)),
    case("gather empty index of another rank", lambda m, x: x.gather(0, m.zeros(0, dtype=m.int64)), (3, 4)),
    case("gather empty", lambda m, x: x.gather(1, m.zeros(0, 2, dtype=m.int64)), (0, 4)),
    case("gather integers", lambda m, x, i: x.gather(0, i), INTEGERS, INDEX),
    case("gather bools", lambda m, x: x.gather(0, m.tensor([[0, 1]])), BOOLS),
    case("gather repeated", lambda m, x: (x.gather(0, m.zeros(100, 2, dtype=m.int64)) ** 2).sum(), (3, 2), terms=100),
    case("gather of labels", lambda m, x: x.gather(1, m.tensor([3, 0, 1]).unsqueeze(1)).squeeze(1), (3, 4)),
    case("gather out of range", lambda m, x: x.gather(0, m.tensor([[3]])), (3, 4)),
    case("gather negative index", lambda m, x: x.gather(0, m.tensor([[-1]])), (3, 4)),
    case("gather too large", lambda m, x: x.gather(0, m.zeros(2, 5, dtype=m.int64)), (3, 4)),
    case("gather wrong rank", lambda m, x: x.gather(0, m.tensor([0, 1])), (3, 4)),
    case("gather float index", lambda m, x: x.gather(0, m.tensor([[0.0]])), (3, 4)),
    case("gather dim out of range", lambda m, x, i: x.gather(2, i), (3, 4), INDEX),
    case("take_along_dim", lambda m, x, i: m.take_along_dim(x, i, 1), (2, 4), NARROW),
    case("take_along_dim method", lambda m, x, i: x.take_along_dim(i, dim=0), (3, 4), INDEX),
    case("take_along_dim broadcast", lambda m, x: x.take_along_dim(m.tensor([[2], [0], [1]]), 1), (3, 4)),
    case("take_along_dim broadcast input", lambda m, x: m.take_along_dim(x, m.tensor([[1, 2], [0, 3]]), 1), (1, 4)),
    case("take_along_dim flat", lambda m, x, i: x.take_along_dim(i), (3, 4), INDEX, reversed_order=False),
    case("take_along_dim argsort", lambda m, x: x.take_along_dim(x.argmax(1, keepdim=True), 1), (3, 4)),
    case("take_along_dim wrong rank", lambda m, x: x.take_along_dim(m.tensor([0]), 1), (3, 4)),
    case("take_along_dim floats", lambda m, x: x.take_along_dim(m.tensor([[0.0]]), 1), (3, 4)),
    case("take", lambda m, x, i: m.take(x, i), (3, 4), INDEX),
    case("take method negative", lambda m, x: x.take(m.tensor([-1, 5, 5])), (3, 4)),
    case("take 0-d", lambda m, x: x.take(m.tensor(3)), (3, 4)),
    case("take empty", lambda m, x: x.take(m.zeros(0, dtype=m.int64)), (3, 4)),
    case("take out of range", lambda m, x: x.take(m.tensor([12])), (3, 4)),
    case("take floats", lambda m, x: x.take(m.tensor([0.0])), (3, 4)),
]

SCATTER = [
    case("scatter", lambda m, x, i, s: m.scatter(x, 0, i, s), (3, 4), ONCE, (2, 4)),
    case("scatter method", lambda m, x, i, s: x.scatter(1, i, s), (3, 4), np.array([[3, 0], [1, 2], [0, 1]]), (3, 2)),
    case("scatter larger src without gradient", lambda m, x, i, s: x.scatter(0, i, s.detach()), (3, 4), ONCE, (3, 4)),
    case("scatter larger src", lambda m, x, i, s: x.scatter(0, i, s), (3, 4), ONCE[:, :3], (3, 4)),
    case("scatter last stays", lambda m, x, i, s: x.detach().scatter(0, i, s.detach()), (3, 4), INDEX, (2, 4)),
    case("scatter number", lambda m, x, i: x.scatter(0, i, 1.5), (3, 4), INDEX),
    case("scatter value", lambda m, x, i: x.scatter(1, i, value=-2), (3, 4), INDEX),
    case("scatter src keyword", lambda m, x, i, s: x.scatter(dim=0, index=i, src=s), (3, 4), ONCE, (2, 4)),
    case("scatter add number", lambda m, x, i: x.detach().scatter(0, i, 1.5, reduce="add"), (3, 4), INDEX),
    case("scatter add number gradient", lambda m, x, i: x.scatter(0, i, 1.5, reduce="add"), (3, 4), INDEX),
    case("scatter one hot", lambda m, y: m.zeros(3, 4).scatter(1, y, 1.0), np.array([[2], [0], [3]])),
    case("scatter into integers", lambda m, x, i: x.scatter(0, i, 7), INTEGERS, INDEX),
    case("scatter 0-d", lambda m, x, s: x.scatter(0, m.tensor(0), s), (), ()),
    case("scatter empty index", lambda m, x, s: x.scatter(0, m.zeros(0, dtype=m.int64), s), (3, 4), (3, 4)),
    case("scatter wrong dtype", lambda m, x, i: x.scatter(0, i, m.ones(2, 4, dtype=m.int64)), (3, 4), INDEX),
    case("scatter small src", lambda m, x, i, s: x.scatter(0, i, s), (3, 4), INDEX, (2, 3)),
    case("scatter out of range", lambda m, x: x.scatter(0, m.tensor([[3]]), 1.0), (3, 4)),
    case("scatter negative index", lambda m, x: x.scatter(0, m.tensor([[-1]]), 1.0), (3, 4)),
    case("scatter index too large", lambda m, x: x.scatter(0, m.zeros(2, 5, dtype=m.int64), 1.0), (3, 4)),
    case("scatter unknown reduce", lambda m, x, i, s: x.scatter(0, i, s, reduce="max"), (3, 4), INDEX, (2, 4)),
    case("scatter_add", lambda m, x, i, s: m.scatter_add(x, 0, i, s), (3, 4), INDEX, (2, 4)),
    case("scatter_add method", lambda m, x, i, s: x.scatter_add(1, i, s), (3, 4), NARROW, (2, 2)),
    case("scatter_add larger src", lambda m, x, i, s: x.scatter_add(1, i, s), (3, 4), NARROW, (3, 4)),
    case("scatter_add many", lambda m, x, s: x.scatter_add(0, m.arange(300) % 3, s), (3,), (300,), terms=100),
    case("scatter_add integers", lambda m, x, i: x.scatter_add(0, i, m.ones_like(i)), INTEGERS, INDEX),
    case("scatter_add bytes wrap", lambda m, x, i: x.scatter_add(0, i, x[:2] * 30), BYTES, INDEX),
    case("scatter_add number", lambda m, x, i: x.scatter_add(0, i, 1.0), (3, 4), INDEX),
    case("scatter_add wrong rank", lambda m, x, i, s: x.scatter_add(0, i, s), (3, 4), INDEX, (4,)),
    case("scatter_", lambda m, x, i, s: (x * 1).scatter_(0, i, s), (3, 4), ONCE, (2, 4)),
    case("scatter_ number", lambda m, y: m.zeros(3, 5).scatter_(1, y.unsqueeze(1), 1), np.array([4, 0, 2])),
    case("scatter_ value", lambda m, x, i: (x * 1).scatter_(0, i, value=0.5), (3, 4), INDEX),
    case("scatter_ leaf", lambda m, x, i: x.scatter_(0, i, 1.0), (3, 4), INDEX),
    case("scatter_add_", lambda m, x, i, s: (x * 1).scatter_add_(0, i, s), (3, 4), INDEX, (2, 4)),
    case("scatter_add_ counts", lambda m, i: m.zeros(3).scatter_add_(0, i, m.ones(4)), np.array([0, 2, 2, 0])),
]

SELECT = [
    case("index_select", lambda m, x, i: m.index_select(x, 0, i), (3, 4), ROWS),
    case("index_select method", lambda m, x, i: x.index_select(-1, i), (3, 4), ROWS),
    case("index_select middle", lambda m, x, i: x.index_select(1, i), (2, 3, 4), ROWS),
    case("index_select int32", lambda m, x, i: x.index_select(0, i.int()), (3, 4), ROWS),
    case("index_select 0-d index", lambda m, x: x.index_select(0, m.tensor(1)), (3, 4)),
    case("index_select 0-d", lambda m, x: x.index_select(0, m.tensor([0])), ()),
    case("index_select empty", lambda m, x: x.index_select(1, m.zeros(0, dtype=m.int64)), (3, 4)),
    case("index_select many", lambda m, x: x.index_select(0, m.arange(600) % 3), (3, 2), terms=200),
    case("index_select 2-d index", lambda m, x, i: x.index_select(0, i), (3, 4), INDEX),
    case("index_select negative", lambda m, x: x.index_select(0, m.tensor([-1])), (3, 4)),
    case("index_select out of range", lambda m, x: x.index_select(0, m.tensor([3])), (3, 4)),
    case("index_select floats", lambda m, x: x.index_select(0, m.tensor([0.0])), (3, 4)),
    case("index_add", lambda m, x, i, s: m.index_add(x, 0, i, s), (3, 4), ROWS, (3, 4)),
    case("index_add alpha", lambda m, x, i, s: x.index_add(1, i, s, alpha=-0.5), (3, 4), ROWS, (3, 3)),
    case("index_add wrong shape", lambda m, x, i, s: x.index_add(0, i, s), (3, 4), ROWS, (2, 4)),
    case("index_add wrong dtype", lambda m, x, i: x.index_add(0, i, m.ones(3, 4).long()), (3, 4), ROWS),
    case("index_add out of range", lambda m, x, s: x.index_add(0, m.tensor([3]), s), (3, 4), (1, 4)),
    case("index_add_", lambda m, x, i, s: (x * 1).index_add_(0, i, s), (3, 4), ROWS, (3, 4)),
    case("index_add_ alpha", lambda m, x, i, s: (x * 1).index_add_(0, i, s, alpha=2), (3, 4), ROWS, (3, 4)),
    case("index_copy", lambda m, x, s: m.index_copy(x, 0, m.tensor([2, 0]), s), (3, 4), (2, 4)),
    case("index_copy method", lambda m, x, s: x.index_copy(1, m.tensor([3, 1]), s), (3, 4), (3, 2)),
    case("index_copy wrong shape", lambda m, x, s: x.index_copy(0, m.tensor([2, 0]), s), (3, 4), (1, 4)),
    case("index_copy wrong dtype", lambda m, x: x.index_copy(0, m.tensor([2]), m.ones(1, 4).long()), (3, 4)),
    case("index_copy_", lambda m, x, s: (x * 1).index_copy_(0, m.tensor([2, 0]), s), (3, 4), (2, 4)),
    case("index_fill", lambda m, x, i: m.index_fill(x, 0, i, 2.5), (3, 4), ROWS),
    case("index_fill method", lambda m, x, i: x.index_fill(1, i, -1), (3, 4), ROWS),
    case("index_fill tensor", lambda m, x, v: x.index_fill(0, m.tensor([2, 0]), v), (3, 4), ()),
    case("index_fill negative index", lambda m, x: x.index_fill(0, m.tensor([-1]), 0.0), (3, 4)),
    case("index_fill out of range", lambda m, x: x.index_fill(0, m.tensor([3]), 0.0), (3, 4)),
    case("index_fill vector", lambda m, x, i: x.index_fill(0, i, m.ones(3)), (3, 4), ROWS),
    case("index_fill_", lambda m, x, i: (x * 1).index_fill_(0, i, 2.5), (3, 4), ROWS),
]

MASKS = [
    case("masked_select", lambda m, x, c: m.masked_select(x, c), (3, 4), MASK),
    case("masked_select method", lambda m, x, c: x.masked_select(c), (3, 4), MASK),
    case("masked_select broadcast mask", lambda m, x, c: x.masked_select(c[0]), (3, 4), MASK),
    case("masked_select broadcast input", lambda m, x, c: x.masked_select(c), (4,), MASK),
    case("masked_select 0-d", lambda m, x: x.masked_select(m.tensor(True)), ()),
    case("masked_select none", lambda m, x, c: x.masked_select(c & ~c), (3, 4), MASK),
    case("masked_select comparison", lambda m, x: x.masked_select(x > 0), (3, 4)),
    case("masked_select integers mask", lambda m, x, c: x.masked_select(c.long()), (3, 4), MASK),
    case("masked_select wrong shape", lambda m, x, c: x.masked_select(c[:2]), (3, 4), MASK),
    case("masked_fill", lambda m, x, c: m.masked_fill(x, c, 2.5), (3, 4), MASK),
    case("masked_fill method", lambda m, x, c: x.masked_fill(c, float("-inf")), (3, 4), MASK),
    case("masked_fill tensor value", lambda m, x, c, v: x.masked_fill(c, v), (3, 4), MASK, ()),
    case("masked_fill broadcast", lambda m, x, c: x.masked_fill(c, 0), (4,), MASK),
    case("masked_fill triangle", lambda m, x: x.masked_fill(m.ones(4, 4).tril() == 0, -1e9).softmax(-1), (4, 4)),
    case("masked_fill bools", lambda m, x: x.masked_fill(x, False), BOOLS),
    case("masked_fill vector", lambda m, x, c, v: x.masked_fill(c, v), (3, 4), MASK, (4,)),
    case("masked_fill_", lambda m, x, c: (x * 1).masked_fill_(c, 2.5), (3, 4), MASK),
    case("masked_scatter", lambda m, x, c, s: m.masked_scatter(x, c, s), (3, 4), MASK, (3, 4)),
    case("masked_scatter method", lambda m, x, c, s: x.masked_scatter(c, s), (3, 4), MASK, (9,)),
    case("masked_scatter broadcast", lambda m, x, c, s: x.masked_scatter(c[0], s), (3, 4), MASK, (3, 4)),
    case("masked_scatter too few", lambda m, x, c, s: x.masked_scatter(c, s), (3, 4), MASK, (2,)),
    case("masked_scatter wrong dtype", lambda m, x, c: x.masked_scatter(c, m.ones(12).long()), (3, 4), MASK),
    case("masked_scatter_", lambda m, x, c, s: (x * 1).masked_scatter_(c, s), (3, 4), MASK, (3, 4)),
    case("nonzero", lambda m, c: m.nonzero(c), MASK),
    case("nonzero method", lambda m, x: x.nonzero(), np.array([[0.0, 1.5], [-2.0, 0.0]])),
    case("nonzero as_tuple", lambda m, c: m.nonzero(c, as_tuple=True), MASK),
    case("nonzero method as_tuple", lambda m, c: c.nonzero(as_tuple=True), MASK[0]),
    case("nonzero 0-d", lambda m: (m.tensor(3.0).nonzero(), m.tensor(0).nonzero())),
    case("nonzero 0-d as_tuple", lambda m: (m.tensor(3.0).nonzero(as_tuple=True), m.tensor(0).nonzero(as_tuple=True))),
    case("nonzero empty", lambda m, x: x.nonzero(), (0, 3)),
    case("nonzero NaN", lambda m, x: x.nonzero(), np.array([np.nan, 0.0, -0.0])),
    case("argwhere", lambda m, c: m.argwhere(c), MASK),
    case("argwhere method", lambda m, x: x.argwhere(), np.array([0, 3, 0, 1])),
    case("where condition alone", lambda m, c: m.where(c), MASK),
    case("where index", lambda m, x: x[m.where(x > 0)], (3, 4)),
    case("where one missing", lambda m, c, x: m.where(c, x), MASK, (3, 4)),
    case("where method", lambda m, x, c: x.where(c, x * 2), (3, 4), MASK),
    case("isin of classes", lambda m, x: x[(x == 2) | (x == 7)], INTEGERS),
]

CASES = [*GATHER, *SCATTER, *SELECT, *MASKS]


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


def test_labels_are_unique() -> None:
    labels = [checked.label for checked in CASES]
    assert len(labels) == len(set(labels))


@pytest.mark.parametrize("run", [
    lambda m, x, i, s: x.scatter_add(0, i, s),
    lambda m, x, i, s: x.index_add(0, i[:, 0], s),
    lambda m, x, i, s: x.gather(0, i),
    lambda m, x, i, s: x.index_select(0, i[:, 0]),
], ids=["scatter_add", "index_add", "gather", "index_select"])  # fmt: skip
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_types_carry_sums_in_float32(name: str, run: Any) -> None:
    """2048 ones added one by one stay 2048 in a float16 that stops counting there, and 256 in a bfloat16."""
    pytest.importorskip("ml_dtypes")
    import gpunet as gn

    dtype = getattr(gn, name)
    index = gn.zeros(3000, 1, dtype=gn.int64)
    x = gn.zeros(1, 1, dtype=dtype).requires_grad_()
    result = run(gn, x, index, gn.ones(3000, 1, dtype=dtype))
    if result.shape == (1, 1):
        assert result.item() == gn.tensor(3000.0, dtype=dtype).item()
    else:
        result.backward(gn.ones(*result.shape, dtype=dtype))
        assert x.grad is not None
        assert x.grad.item() == gn.tensor(3000.0, dtype=dtype).item()
