"""Indexing and index assignment against PyTorch: what is selected, where gradients go, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet.testing.parity import Case, case, check_case

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

ROWS = np.array([2, 0, 2, -1])
GRID = np.array([[0, 1], [2, 2]])
BYTES = np.array([1, 0, 1], np.uint8)
MASK1 = np.array([True, False, True])
MASK2 = np.array([[True, False, True, False], [False, False, False, True], [True, True, True, True]])
NEVER = np.zeros((3, 4), bool)

# Every index is tried for reading and for assignment, with its gradients, on a tensor (3, 4, 5).
# The index may use the module (for tensors in it).
INDICES: list[tuple[str, Any]] = [
    ("integer", lambda m: 1),
    ("negative integer", lambda m: -3),
    ("integer too large", lambda m: 3),
    ("integer too small", lambda m: -4),
    ("numpy integer", lambda m: np.int32(2)),
    ("two integers", lambda m: (1, -1)),
    ("three integers", lambda m: (1, 2, 3)),
    ("four integers", lambda m: (1, 2, 3, 0)),
    ("slice", lambda m: slice(1, None)),
    ("slice negative", lambda m: slice(-2, -1)),
    ("slice step", lambda m: (slice(None), slice(None, None, 2), slice(1, 5, 3))),
    ("slice beyond", lambda m: slice(-10, 10)),
    ("slice empty", lambda m: slice(2, 1)),
    ("slice negative step", lambda m: slice(None, None, -1)),
    ("slice zero step", lambda m: slice(None, None, 0)),
    ("slice of numpy integers", lambda m: slice(np.int64(0), np.int64(2))),
    ("slice of a tensor", lambda m: slice(m.tensor(0), m.tensor(2))),
    ("slice of a float", lambda m: slice(0.0, 2.0)),
    ("everything", lambda m: slice(None)),
    ("empty tuple", lambda m: ()),
    ("ellipsis", lambda m: ...),
    ("ellipsis and integer", lambda m: (..., 1)),
    ("integer and ellipsis", lambda m: (1, ...)),
    ("ellipsis between", lambda m: (0, ..., slice(1, 3))),
    ("ellipsis for nothing", lambda m: (0, ..., 1, 2)),
    ("two ellipses", lambda m: (..., 1, ...)),
    ("None", lambda m: None),
    ("None between", lambda m: (slice(None), None, 1)),
    ("None and ellipsis", lambda m: (..., None)),
    ("None and integer", lambda m: (None, 1, None)),
    ("float", lambda m: 1.0),
    ("string", lambda m: "a"),
    ("list", lambda m: [0, 2]),
    ("list repeated", lambda m: [1, 1, 1]),
    ("list negative", lambda m: [-1, 0]),
    ("list empty", lambda m: []),
    ("list out of range", lambda m: [0, 3]),
    ("list nested", lambda m: [[0, 1], [2, 0]]),
    ("list of bools", lambda m: [True, False, True]),
    ("list of bools too short", lambda m: [True, False]),
    ("list of floats", lambda m: [0.0, 1.0]),
    ("list after a slice", lambda m: (slice(None), [0, 3])),
    ("range", lambda m: range(2)),
    ("tuple of lists", lambda m: ([0, 1], [1, 2])),
    ("tuple of lists broadcast", lambda m: ([[0], [1]], [1, 2, 3])),
    ("tuple of lists mismatched", lambda m: ([0, 1], [1, 2, 3])),
    ("array", lambda m: m.tensor(ROWS)),
    ("numpy array", lambda m: ROWS),
    ("array int32", lambda m: m.tensor(ROWS).int()),
    ("array 2-d", lambda m: m.tensor(GRID)),
    ("array 0-d", lambda m: m.tensor(1)),
    ("array 0-d in a tuple", lambda m: (slice(None), m.tensor(2))),
    ("array empty", lambda m: m.tensor(ROWS)[:0]),
    ("array empty of floats", lambda m: m.tensor([])),
    ("array out of range", lambda m: m.tensor([0, 5])),
    ("array too negative", lambda m: m.tensor([0, -4])),
    ("array last", lambda m: (..., m.tensor(ROWS))),
    ("array middle", lambda m: (slice(None), m.tensor(ROWS))),
    ("arrays adjacent", lambda m: (slice(None), m.tensor(ROWS), m.tensor([0, 1, 2, 3]))),
    ("arrays apart", lambda m: (m.tensor(ROWS) % 3, slice(None), m.tensor([0, 1, 2, 3]))),
    ("array and integer", lambda m: (m.tensor(ROWS), 1)),
    ("integer and array apart", lambda m: (0, slice(None), m.tensor(ROWS))),
    ("integer, array", lambda m: (1, m.tensor(ROWS))),
    ("slice, integer, array", lambda m: (slice(None), 1, m.tensor(ROWS))),
    ("array, slice", lambda m: (m.tensor(ROWS), slice(1, 3))),
    ("array, None", lambda m: (m.tensor(ROWS), None)),
    ("None, array", lambda m: (None, m.tensor(ROWS))),
    ("array, None, array", lambda m: (m.tensor(ROWS) % 3, None, m.tensor(ROWS))),
    ("array, ellipsis, array", lambda m: (m.tensor(ROWS) % 3, ..., m.tensor(ROWS))),
    ("array, ellipsis for nothing, array", lambda m: (m.tensor(ROWS) % 3, ..., m.tensor(ROWS), m.tensor(ROWS))),
    ("arrays broadcast", lambda m: (m.tensor(GRID), m.tensor(GRID)[0])),
    ("mask of rows", lambda m: m.tensor(MASK1)),
    ("numpy mask", lambda m: MASK1),
    ("mask of bytes", lambda m: m.tensor(BYTES)),
    ("mask 2-d", lambda m: m.tensor(MASK2)),
    ("mask never", lambda m: m.tensor(NEVER)),
    ("mask wrong size", lambda m: m.tensor(MASK1[:2])),
    ("mask and slice", lambda m: (m.tensor(MASK1), slice(1, 3))),
    ("slice and mask", lambda m: (slice(None), m.tensor(MASK2[0]))),
    ("mask and array", lambda m: (m.tensor(MASK1), m.tensor([0, 3]))),
    ("mask and array mismatched", lambda m: (m.tensor(MASK1), m.tensor([0, 3, 1]))),
    ("mask and integer", lambda m: (m.tensor(MASK1), 2)),
    ("mask 2-d and integer", lambda m: (m.tensor(MASK2), 2)),
    ("mask 2-d and None", lambda m: (m.tensor(MASK2), None)),
    ("two masks", lambda m: (m.tensor(MASK1), m.tensor(np.array([True, False, False, True])))),
    ("ellipsis and mask", lambda m: (..., m.tensor(np.array([True, False, False, True, True])))),
    ("ellipsis and mask 2-d", lambda m: (..., m.tensor(np.ones((4, 5), bool)))),
    ("bare True", lambda m: True),
    ("too many arrays", lambda m: (m.tensor(ROWS),) * 4),
    ("too many with a mask", lambda m: (m.tensor(MASK2), 1, 1)),
]

READING = [case(label, lambda m, x, index=index: x[index(m)], (3, 4, 5)) for label, index in INDICES]
ASSIGNING = [
    case(f"assign to {label}", lambda m, x, v, index=index: _assigned(x, index(m), v * 1), (3, 4, 5), ())
    for label, index in INDICES
]


def _through_view(x: Any, v: Any) -> Any:
    """A view of the whole, multiplied in place."""
    y = x * 1
    y[..., ::2].add_(v.sum())
    y.reshape(-1).mul_(v.sum())
    return y


# Writing a number where its dtype may not hold it.
WRITES: dict[str, Any] = {
    "full": lambda m, x, number: m.full((2,), number, dtype=x.dtype),
    "fill_": lambda m, x, number: x.fill_(number),
    "assignment": lambda m, x, number: _assigned_plain(x, 0, number),
    "assignment to a mask": lambda m, x, number: _assigned_plain(x, x == 0, number),
    "masked_fill": lambda m, x, number: x.masked_fill(x == 0, number),
    "new_full": lambda m, x, number: x.new_full((2,), number),
    "tensor": lambda m, x, number: m.tensor([number], dtype=x.dtype),
    "as_tensor": lambda m, x, number: m.as_tensor([number, 0], dtype=x.dtype),
}


def _assigned_plain(x: Any, index: Any, value: Any) -> Any:
    x[index] = value
    return x


def _assigned(x: Any, index: Any, value: Any) -> Any:
    x = x * 1
    x[index] = value
    return x


VALUES = [
    case(f"assign {label}", lambda m, x, v, index=index: _assigned(x, index, v), shape, value)
    for label, index, shape, value in (
        ("row", 1, (3, 4), (4,)),
        ("row of size one", 1, (3, 4), (1,)),
        ("row with leading ones", 1, (3, 4), (1, 1, 4)),
        ("row too large", 1, (3, 4), (2, 4)),
        ("row wrong", 1, (3, 4), (3,)),
        ("rows by list", [0, 2], (3, 4), (2, 4)),
        ("rows by list broadcast", [0, 2], (3, 4), (4,)),
        ("rows by list column", [0, 2], (3, 4), (2, 1)),
        ("column", (slice(None), 1), (3, 4), (3,)),
        ("column 2-d", (slice(None), 1), (3, 4), (3, 1)),
        ("block", (slice(1, 3), slice(0, 2)), (3, 4), (2, 2)),
        ("element", (1, 2), (3, 4), ()),
        ("element of size one", (1, 2), (3, 4), (1,)),
        ("everything", slice(None), (3, 4), (3, 4)),
        ("ellipsis", ..., (3, 4), (4,)),
        ("to nothing", slice(0, 0), (3, 4), (4,)),
        ("nothing to nothing", slice(0, 0), (3, 4), (0, 4)),
        ("to an empty tensor", slice(None), (0, 4), (4,)),
        ("integers", 0, (3, 2), np.array([1, 2])),
        ("bools", 0, (3, 2), np.array([True, False])),
        ("floats to integers", 0, np.array([[1, 2], [3, 4]]), np.array([1.7, -2.7])),
        ("new dimension", (None, 1), (3, 4), (1, 4)),
        ("number", 0, (3, 4), 2.5),
        ("number to integers", 0, np.array([[1, 2], [3, 4]]), 7),
        ("float to integers", 0, np.array([[1, 2], [3, 4]]), 7.9),
        ("bool", 0, (3, 4), True),
        ("number by mask", (slice(None), slice(0, 2)), (3, 4), -1),
    )
] + [
    case("assign to a leaf", lambda m, x: x.__setitem__(0, 1.0), (3, 4)),
    case("assign to a detached leaf", lambda m, x: x.detach().__setitem__(0, 1.0), (3, 4)),
    case("assign to itself reversed", lambda m, x: _assigned(x.detach(), [0, 1, 2], x.detach()[[2, 1, 0]]), (3, 4)),
    case("assign itself", lambda m, x: _assigned(x, 0, x[1]), (3, 4)),
    case("assign twice", lambda m, x, v: _assigned(_assigned(x, 0, v), 1, v * v), (3, 4), (4,)),
    case("assign by a mask of values", lambda m, x, v: _assigned(x, m.tensor(MASK2), v), (3, 4), (7,)),
    case("assign by a mask of too many", lambda m, x, v: _assigned(x, m.tensor(MASK2), v), (3, 4), (8,)),
    case("assign by a mask one", lambda m, x, v: _assigned(x, m.tensor(MASK2), v), (3, 4), (1,)),
    case("assign by a comparison", lambda m, x: _assigned(x, x > 0, 0.0), (3, 4)),
    case("assign from the graph into plain", lambda m, x, v: _assigned(x.detach(), 1, v), (3, 4), (4,)),
    case("assign then use", lambda m, x, v: (_assigned(x, [2, 0], v) ** 2).sum(1), (3, 4), (2, 4)),
    case("assign another dtype to a slice", lambda m, x: _assigned(x, slice(0, 2), m.ones(4, dtype=m.int64)), (3, 4)),
    case("assign another dtype to positions", lambda m, x: _assigned(x, [0, 2], m.ones(4, dtype=m.int64)), (3, 4)),
    case("all digits of a float", lambda m: (m.tensor([0.1, 0.7], dtype=m.float64), m.as_tensor(0.1, dtype=m.float64))),
    case("0-d array apart", lambda m, x: x[np.array(-1), None, :, [-1, 0]], (3, 4, 2)),
    case("write to a view of nothing", lambda m, x, v: _through_view(x, v), (0, 3), (3,)),
    case("write to views of nothing twice", lambda m, x, v: _through_view(x.exp(), v).exp_(), (2, 0), ()),
    *(
        case(
            f"{number} in {dtype} by {name}",
            lambda m, write=write, dtype=dtype, number=number: write(m, m.zeros(2, dtype=getattr(m, dtype)), number),
        )
        for dtype in ("uint8", "int8", "int32", "bool", "float16", "float32")
        for number in (-1, 2.7, -300, 300, 2**40, 1e10, 1e39, float("inf"), float("nan"))
        for name, write in WRITES.items()
    ),
    case("assign a list", lambda m, x: _assigned(x, 0, [1.0, 2.0, 3.0, 4.0]), (3, 4)),
    case("assign an array", lambda m, x: _assigned(x, 0, np.arange(4.0)), (3, 4)),
    case("add in place to an index", lambda m, x: _added(x, 1), (3, 4)),
    case("add in place to a slice", lambda m, x: _added(x, slice(0, 2)), (3, 4)),
    case("add in place to a list", lambda m, x: _added(x, [0, 2]), (3, 4)),
    case("write through a row", lambda m, x: _written(x.detach().clone(), 1), (3, 4)),
    case("write through a slice", lambda m, x: _written(x.detach().clone(), slice(None, None, 2)), (3, 4)),
    case("reading by a list copies", lambda m, x: _written(x.detach().clone(), [1]), (3, 4)),
    case("index an index", lambda m, x: x[1:][:, [0, 2]][..., 1], (3, 4)),
    case("repeated rows in a sum", lambda m, x: (x[m.tensor(ROWS)] * m.arange(4.0).reshape(4, 1).to(x)).sum(), (3, 4)),
    case("many repeats", lambda m, x: x[m.arange(1000) % 3], (3, 2), terms=1000),
    case("index 0-d", lambda m, x: x[0], ()),
    case("index 0-d by None", lambda m, x: x[None], ()),
    case("index 0-d by ellipsis", lambda m, x: x[...], ()),
    case("index 0-d by a mask", lambda m, x: x[m.tensor(True)], ()),
    case("index empty", lambda m, x: x[:, 1], (0, 3)),
    case("index empty by a list", lambda m, x: x[[]], (0, 3)),
    case("index empty out of range", lambda m, x: x[0], (0, 3)),
    case("index by every row", lambda m, x: m.stack([x[i] for i in range(3)]), (3, 4)),
    case("index labels", lambda m, x: x[m.arange(3), m.tensor([3, 0, 1])], (3, 4)),
]


def _added(x: Any, index: Any) -> Any:
    x = x * 1
    x[index] += 2.0
    return x


def _written(x: Any, index: Any) -> Any:
    part = x[index]
    part *= 10
    return x


CASES = [*READING, *ASSIGNING, *VALUES]


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


def test_labels_are_unique() -> None:
    labels = [checked.label for checked in CASES]
    assert len(labels) == len(set(labels))
