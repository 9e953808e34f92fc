"""Any index expression, for reading, for writing and for changing views: PyTorch is the oracle, on cpu and meta."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpunet.testing.properties import LAYOUTS, assert_agreement_with_torch, laid_out, numbers

hypothesis = pytest.importorskip("hypothesis")
torch = pytest.importorskip("torch")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.parity

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=300, print_blob=False)

# What makes an index item, given the library: tensors are the library's own.
Item = Callable[[Any], Any]


def constant(value: Any) -> Item:
    return lambda m: value


def tensor_item(array: np.ndarray) -> Item:
    return lambda m: m.tensor(array.tolist(), dtype=getattr(m, array.dtype.name)).reshape(array.shape)


@st.composite
def shapes(draw: Any) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 3, 4, 4, 5]), max_size=4)))


def slices(extent: int) -> Any:
    bound = st.none() | st.integers(-extent - 1, extent + 1)
    return st.builds(slice, bound, bound, st.none() | st.integers(1, 3))


def positions(extent: int, count: int) -> Any:
    """Places along a dimension."""
    return st.just([]) if not extent else st.lists(st.integers(-extent, extent - 1), min_size=count, max_size=count)


@st.composite
def arrays_of_positions(draw: Any, extent: int, count: int) -> np.ndarray:
    shape = (
        draw(st.sampled_from([(count,), (count,), (count,), (2, count), (1,), (2, 1), (), (0,)])) if extent else (0,)
    )
    dtype = draw(st.sampled_from([np.int64, np.int64, np.int32]))
    return np.array(draw(positions(extent, int(np.prod(shape)))), dtype).reshape(shape)


BASIC = ("int", "slice", "slice", "none", "ellipsis")
ADVANCED = (*BASIC, "list", "range", "array", "tensor", "tensor", "mask array", "mask tensor", "numpy int", "0-d array")


@st.composite
def items(draw: Any, kind: str, extents: tuple[int, ...], count: int) -> Item:
    """An index item for the next of the dimensions that are left."""
    extent = extents[0]
    if kind == "slice" or (not extent and kind != "array"):
        return constant(draw(slices(extent)))
    if kind in ("int", "numpy int", "0-d array"):
        beyond = draw(st.integers(0, 9)) == 0
        place = extent if beyond else draw(st.integers(-extent, extent - 1))
        return constant({"int": place, "numpy int": np.int64(place), "0-d array": np.array(place)}[kind])
    if kind == "list":
        return constant(draw(positions(extent, count)))
    if kind == "range":
        return constant(range(min(count, extent)))
    places = draw(arrays_of_positions(extent, count))
    return constant(places) if kind == "array" else tensor_item(places)


@st.composite
def indices(draw: Any, shape: tuple[int, ...], kinds: tuple[str, ...] = ADVANCED) -> tuple[Callable[[Any], Any], bool]:
    """An index into a shape, made for a library, that mostly fits; and whether masks are in it."""
    made: list[Item] = []
    masked = False
    count = draw(st.integers(1, 3))  # what arrays broadcast to
    axis, ellipsis = 0, False
    stop = draw(st.integers(0, len(shape)))
    while axis < stop:
        kind = draw(st.sampled_from(kinds))
        if kind == "none":
            made.append(constant(None))
        elif kind == "ellipsis":
            if not ellipsis:
                made.append(constant(Ellipsis))
                axis = draw(st.integers(axis, stop))
            ellipsis = True
        elif kind.startswith("mask"):
            form = shape[axis : axis + draw(st.integers(0, 2))]
            if form and draw(st.integers(0, 14)) == 0:
                form = (form[0] + 1, *form[1:])
            mask = np.asarray(np.random.default_rng(draw(st.integers(0, 99))).random(form) > 0.5)
            made.append(constant(mask) if kind == "mask array" and form else tensor_item(mask))
            masked = True
            axis += max(1, len(form))
        else:
            made.append(draw(items(kind, shape[axis:], count)))
            axis += 1
    if draw(st.integers(0, 19)) == 0:
        made.append(constant(0))  # perhaps one too many
    single = len(made) == 1 and draw(st.booleans())

    def make(m: Any) -> Any:
        index = tuple(item(m) for item in made)
        return index[0] if single else index

    return make, masked


@st.composite
def starts(draw: Any) -> tuple[np.ndarray, str]:
    """An input, and the layout to bring it to."""
    dtype = draw(st.sampled_from(["float64", "float64", "float32", "int64", "bool", "uint8", "int32"]))
    return numbers(draw(shapes()), dtype), draw(st.sampled_from(LAYOUTS))


def shape_under(array: np.ndarray, layout: str) -> tuple[int, ...]:
    return tuple(laid_out(torch.empty(array.shape), layout).shape)


def result_shape(array: np.ndarray, layout: str, index: Callable[[Any], Any]) -> tuple[int, ...] | None:
    """The shape of what an index reads; None if it does not fit."""
    try:
        return tuple(laid_out(torch.empty(array.shape), layout)[index(torch)].shape)
    except (IndexError, ValueError, TypeError, RuntimeError):
        return None


@EXAMPLES
@given(data=st.data(), start=starts())
def test_reading(data: st.DataObject, start: tuple[np.ndarray, str]) -> None:
    x, layout = start
    shape: tuple[int, ...] | None = shape_under(x, layout)
    first = data.draw(st.none() | st.builds(lambda pair: pair[0], indices(shape, BASIC)))
    if first is not None:
        shape = result_shape(x, layout, first)
    index, masked = data.draw(indices(shape or ()))

    def run(m: Any, x: Any) -> Any:
        y = laid_out(x, layout)
        if first is not None:
            y = y[first(m)]
        return y[index(m)]

    assert_agreement_with_torch(run, [x], meta=not masked)


@st.composite
def values(draw: Any, target: tuple[int, ...], dtype: str) -> Any:
    """What is written to a place: a number, or an array that broadcasts, or nearly."""
    kind = draw(st.sampled_from(["number", "array", "array", "array"]))
    if kind == "number":
        return draw(st.sampled_from([2, -1, 0.5, True, 0]))
    shape = tuple(1 if draw(st.integers(0, 4)) == 0 else extent for extent in target)
    shape = shape[draw(st.sampled_from([0, 0, 0, 1, 2])) :]
    shape = draw(st.sampled_from([shape, shape, shape, shape, (1, *shape), (2, *shape), (*shape, 1)]))
    return numbers(shape, dtype, 3)


@EXAMPLES
@given(data=st.data(), start=starts(), augmented=st.sampled_from(["", "", "", "+", "*"]))
def test_writing(data: st.DataObject, start: tuple[np.ndarray, str], augmented: str) -> None:
    x, layout = start
    hypothesis.assume(layout != "expanded")  # no library writes to several elements in one place
    shape: tuple[int, ...] | None = shape_under(x, layout)
    first = data.draw(st.none() | st.builds(lambda pair: pair[0], indices(shape, BASIC)))
    if first is not None:
        shape = result_shape(x, layout, first)
    dtype = data.draw(st.sampled_from([x.dtype.name] * 4 + ["float32", "int64", "bool", "float64"]))
    # What is written to positions is converted as what is written to slices: stated, PyTorch refuses it.
    index, masked = data.draw(indices(shape or (), ADVANCED if dtype == x.dtype.name else BASIC))
    try:
        y = laid_out(torch.empty(x.shape), layout)
        target = tuple((y if first is None else y[first(torch)])[index(torch)].shape)
    except (IndexError, ValueError, TypeError, RuntimeError):
        target = ()
    value = data.draw(values(target, dtype))

    def run(m: Any, x: Any, value: Any) -> Any:
        base = x.clone()
        y = laid_out(base, layout)
        if first is not None:
            y = y[first(m)]
        if augmented == "+":
            y[index(m)] += value
        elif augmented == "*":
            y[index(m)] *= value
        else:
            y[index(m)] = value
        return base, y, base * 2 if base.dtype != m.bool else base

    # PyTorch records what is written to integers, sometimes, and then fails.
    assert_agreement_with_torch(run, [x, value], meta=not masked, grad=x.dtype.kind == "f")


STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "flattened": lambda m, y: y.reshape(-1),
    "transposed": lambda m, y: y.transpose(0, -1),
    "reversed dimensions": lambda m, y: y.permute(tuple(range(y.ndim - 1, -1, -1))),
    "unsqueezed": lambda m, y: y.unsqueeze(0),
    "squeezed": lambda m, y: y.squeeze(),
    "first": lambda m, y: y[0],
    "rows": lambda m, y: y[1:],
    "columns": lambda m, y: y[..., ::2],
    "narrow": lambda m, y: y.narrow(-1, 0, 1),
    "diagonal": lambda m, y: y.diagonal(),
    "select last": lambda m, y: y[..., -1],
    "itself": lambda m, y: y.view(y.shape),
}

CHANGES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "add": lambda m, y, v: y.add_(v),
    "sub twice": lambda m, y, v: y.sub_(v, alpha=2),
    "mul": lambda m, y, v: y.mul_(v),
    "div": lambda m, y, v: y.div_(v),
    "copy": lambda m, y, v: y.copy_(v),
    "fill": lambda m, y, v: y.fill_(1.5),
    "zero": lambda m, y, v: y.zero_(),
    "exp": lambda m, y, v: y.exp_(),
    "neg": lambda m, y, v: y.neg_(),
    "tanh": lambda m, y, v: y.tanh_(),
    "clamp": lambda m, y, v: y.clamp_(-0.5, 0.5),
    "masked_fill": lambda m, y, v: y.masked_fill_(y > 0, 0.25),
    "index": lambda m, y, v: y.__setitem__(0, v),
    "own part": lambda m, y, v: y[:1].mul_(y[-1:].clone()),
    "from itself": lambda m, y, v: y.add_(y.flip(0)),
}


@EXAMPLES
@given(
    data=st.data(),
    shape=st.lists(st.sampled_from([1, 2, 3, 3, 4, 0]), min_size=1, max_size=4).map(tuple),
    dtype=st.sampled_from(["float64", "float64", "float64", "float32", "int64"]),
    plan=st.lists(
        st.tuples(st.lists(st.sampled_from(sorted(STEPS)), max_size=3), st.sampled_from(sorted(CHANGES))),
        min_size=1,
        max_size=3,
    ),
)
def test_changing_views(data: st.DataObject, shape: tuple[int, ...], dtype: str, plan: list[Any]) -> None:
    x = numbers(shape, dtype)
    widths = [data.draw(st.sampled_from([(), (1,), shape[-1:], shape])) for _ in plan]
    values = [numbers(width, dtype, 5 + number) for number, width in enumerate(widths)]

    def run(m: Any, x: Any, *values: Any) -> Any:
        base = x * 1
        early = base.reshape(-1)[:2]
        for (steps, change), value in zip(plan, values, strict=True):
            y = base
            for step in steps:
                y = STEPS[step](m, y)
            CHANGES[change](m, y, value)
        return base, early * 2, base * base

    assert_agreement_with_torch(run, [x, *values])
