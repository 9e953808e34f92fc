"""Indexing: slices that share memory, gathers by integers and masks, and writing to an index."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gpunet.backend.error_word import check_values
from gpunet.backend.errors import DeviceError, DTypeError, ShapeError
from gpunet.ops.base import NO_GRAD, REGISTRY, Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.dtypes import BOOL, UINT8, compute_dtype
from gpunet.ops.elementwise import broadcast_shapes, unbroadcast

__all__ = ["add_at", "assign", "check_range", "segment_starts", "segment_sum", "stable_order"]

Shape = tuple[int, ...]


def _draw(*shape: int) -> Any:
    return np.random.default_rng(31).standard_normal(shape)


class Slice(Op):
    """Basic indexing: integers, slices with positive steps, None and Ellipsis. Shares the input's memory."""

    name = "slice"
    is_view = True

    def infer(self, *inputs: Any, index: Any) -> Inferred:
        (x,) = inputs
        return Inferred((Spec(_basic_shape(tuple(x.shape), index), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, index: Any) -> Any:
        (x,) = inputs
        ctx.state = (tuple(x.shape), x.dtype)
        y = x[(*index, ...) if Ellipsis not in index else index]  # a trailing Ellipsis makes NumPy return a view
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        shape, dtype = ctx.state
        dx = module_of(grad).zeros(shape, dtype)
        dx[ctx.attributes["index"]] = grad
        return (dx,)

    def samples(self) -> Iterator[Sample]:
        yield Sample("integer", (_draw(3, 4),), {"index": (1,)})
        yield Sample("slices", (_draw(5, 6),), {"index": (slice(1, None, 2), slice(None, -1))})
        yield Sample("ellipsis and None", (_draw(2, 3, 4),), {"index": (Ellipsis, None, 2)})
        yield Sample("to 0-d", (_draw(2, 3),), {"index": (-1, 0)})
        yield Sample("empty batch", (_draw(0, 3),), {"index": (slice(None), 1)})


def _basic_shape(shape: Shape, index: tuple[Any, ...]) -> Shape:
    """Shape of basic indexing.

    Raises:
        IndexError: too many indices, or an integer out of range.
        ValueError: a step that is not positive.
    """
    named = sum(1 for item in index if item is not None and item is not Ellipsis)
    if named > len(shape):
        raise IndexError(f"index: too many indices ({named}) for a {len(shape)}-d tensor")
    result: list[int] = []
    axis = 0
    for item in index:
        if item is None:
            result.append(1)
        elif item is Ellipsis:
            for _ in range(len(shape) - named):
                result.append(shape[axis])
                axis += 1
        elif isinstance(item, slice):
            if item.step is not None and item.step < 1:
                raise ValueError(f"index: the step of a slice must be positive, got {item.step}")
            result.append(len(range(*item.indices(shape[axis]))))
            axis += 1
        else:
            if not -shape[axis] <= item < shape[axis]:
                raise IndexError(f"index: {item} is out of range for dimension {axis} of size {shape[axis]}")
            axis += 1
    return (*result, *shape[axis:])


register(Slice())


def _named_dimensions(layout: Any, arrays: Sequence[Any]) -> int:
    """How many dimensions an index speaks of: a mask of all its own, anything else but None and Ellipsis of one."""
    return sum(
        arrays[item[0]].ndim if isinstance(item, tuple) and arrays[item[0]].dtype == BOOL else 1
        for item in layout
        if item is not None and item is not Ellipsis
    )


def _split_integers(layout: Any, arrays: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The integers of a layout as an index of their own, and the layout of what they leave.

    In PyTorch an integer selects before the arrays do; to NumPy it is one more array, which moves the dimensions of
    x[0, :, rows].
    """
    selection: list[Any] = []
    for item in layout:
        if isinstance(item, tuple):
            array = arrays[item[0]]
            selection.extend([slice(None)] * (array.ndim if array.dtype == BOOL else 1))
        elif item is not None:
            selection.append(slice(None) if isinstance(item, slice) else item)
    return tuple(selection), tuple(item for item in layout if not isinstance(item, int))


def _select(x: Any, arrays: Sequence[Any], layout: Any) -> tuple[Any, tuple[Any, ...]]:
    """x with the integers of the layout applied, and the index of what they leave."""
    selection, rest = _split_integers(layout, arrays)
    index = tuple(arrays[item[0]] if isinstance(item, tuple) else item for item in rest)
    return (x if len(rest) == len(layout) else x[selection]), index


def assign(x: Any, value: Any, arrays: Sequence[Any], layout: Any) -> None:
    """x[index] = value, in place; ``infer`` of ``set_index`` has checked the shapes."""
    if arrays:
        target, index = _select(x, arrays, layout)
    else:
        target, index = x, layout if Ellipsis in layout else (*layout, Ellipsis)  # so that an element is a 0-d view
    check_range(tuple(target.shape), index)
    if hasattr(value, "shape"):
        ndim = target[index].ndim
        while value.ndim > ndim and value.shape[0] == 1:
            value = value[0]
        if value.dtype != x.dtype:
            value = value.astype(x.dtype)
    target[index] = value


class Gather(Op):
    """Indexing with integer or bool arrays, mixed with slices: y = x[index].

    ``layout`` is the index with each array replaced by its position among the inputs after x, wrapped in a tuple.
    Repeated indices add up in the gradient, in a fixed order; see ``add_at``.
    """

    name = "gather_index"

    def infer(self, *inputs: Any, layout: Any) -> Inferred:
        x, *arrays = inputs
        shape = tuple(x.shape)
        named = _named_dimensions(layout, arrays)
        if named > len(shape):
            raise IndexError(f"index: too many indices ({named}) for a {len(shape)}-d tensor")
        selection, layout = _split_integers(layout, arrays)
        shape = _basic_shape(shape, selection)
        named = _named_dimensions(layout, arrays)
        broadcast: list[Shape] = []
        result: list[int] = []
        place: int | None = None
        adjacent = True
        previous_was_array = False
        axis = 0
        for item in layout:
            is_array = isinstance(item, tuple)
            if is_array:
                array = arrays[item[0]]
                if array.dtype == BOOL:
                    if tuple(array.shape) != shape[axis : axis + array.ndim]:
                        raise IndexError(
                            f"index: a mask of shape {tuple(array.shape)} does not fit the dimensions "
                            f"{shape[axis : axis + array.ndim]} it selects from"
                        )
                    if not hasattr(array, "nonzero"):
                        raise DeviceError("index: the result of a mask on 'meta' has no known shape")
                    broadcast.append((int(array.sum()),))
                    axis += array.ndim
                elif array.dtype == UINT8:
                    raise DTypeError("index: uint8 could mean a mask or indices; cast it to bool or int64")
                elif array.dtype.kind in "iu":
                    broadcast.append(tuple(array.shape))
                    axis += 1
                else:
                    raise DTypeError(f"index: indices must be integers or bools, got {array.dtype.name}")
            elif item is None:
                result.append(1)
            elif item is Ellipsis:
                skipped = len(shape) - named
                result.extend(shape[axis : axis + skipped])
                axis += skipped
            else:
                if item.step is not None and item.step < 1:
                    raise ValueError(f"index: the step of a slice must be positive, got {item.step}")
                result.append(len(range(*item.indices(shape[axis]))))
                axis += 1
            if is_array:
                if place is None:
                    place = len(result)
                elif not previous_was_array:
                    adjacent = False
            previous_was_array = is_array
        result.extend(shape[axis:])
        try:
            common = broadcast_shapes("index", *broadcast)
        except ShapeError as error:
            raise IndexError(str(error)) from None
        at = place if adjacent and place is not None else 0
        return Inferred((Spec((*result[:at], *common, *result[at:]), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, layout: Any) -> Any:
        x, *arrays = inputs
        ctx.state = (tuple(x.shape), x.dtype, len(arrays))
        ctx.save(*arrays)
        selected, index = _select(x, arrays, layout)
        check_range(tuple(selected.shape), index)
        return selected[index]

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        shape, dtype, count = ctx.state
        module = module_of(grad)
        # Which element of x each element of y came from; then equal origins are summed in sorted order.
        size = math.prod(shape)
        selected, index = _select(module.arange(size).reshape(shape), ctx.saved, ctx.attributes["layout"])
        origin = selected[index].reshape(-1)
        flat = module.zeros(size, compute_dtype(dtype))
        add_at(module, flat, origin, grad.reshape(-1))
        return (flat.reshape(shape).astype(dtype, copy=False), *([None] * count))

    def samples(self) -> Iterator[Sample]:
        rows = np.array([2, 0, 2, 2])
        yield Sample("repeated rows", (_draw(3, 4), rows), {"layout": ((0,),)})
        yield Sample("column", (_draw(3, 4), rows), {"layout": (slice(None), (0,))})
        yield Sample("pairs", (_draw(3, 4), np.array([0, 1, 2]), np.array([3, 3, -1])), {"layout": ((0,), (1,))})
        yield Sample("apart", (_draw(3, 4, 5), rows, np.array(1)), {"layout": ((0,), slice(None), (1,))})
        yield Sample("mask", (_draw(3, 4), _draw(3, 4) > 0), {"layout": ((0,),)})
        yield Sample("none", (_draw(3, 4), np.zeros(0, np.int64)), {"layout": ((0,),)})


def add_at(module: Any, target: Any, index: Any, values: Any) -> None:
    """target[index[i]] += values[i], in place, for an array of any rank indexed along its first dimension.

    Repeated indices add up in a fixed order, so that the same input gives the same bits: on a CPU in the order of
    ``index``, on a GPU sorted and summed by segment. What is to be carried in float32 comes as float32.

    Args:
        module: the array module.
        target: shape (N, ...), written to.
        index: shape (n,), within 0..N-1.
        values: shape (n, ...).
    """
    if not index.size:
        return
    values = values.astype(target.dtype, copy=False)
    if module is np:
        np.add.at(target, index, values)
        return
    order = stable_order(module, index)
    index, values = index[order], values[order]
    first = segment_starts(module, index)
    target[index[first]] += segment_sum(module, values, first)


def stable_order(module: Any, index: Any) -> Any:
    """The order that sorts integers and leaves equal ones as they were."""
    if module is np:
        return np.argsort(index, kind="stable")
    return module.lexsort(module.stack([module.arange(index.size), index]))


def segment_starts(module: Any, ordered: Any) -> Any:
    """Where in a sorted array each run of equals begins."""
    repeats = module.concatenate([module.zeros(1, bool), ordered[1:] == ordered[:-1]])
    return module.nonzero(~repeats)[0]


def segment_sum(module: Any, values: Any, first: Any) -> Any:
    """Sums of consecutive segments that begin at ``first``; the order of additions is fixed."""
    if module is np:
        return np.add.reduceat(values, first, axis=0)
    # CuPy has no reduceat: differences of running sums would lose digits, so each segment is added in its own
    # element, one rank after the other; as many passes as the longest segment has elements.
    ends = module.concatenate([first[1:], module.asarray([len(values)])])
    sums = values[first].copy()
    longest = int((ends - first).max())
    for rank in range(1, longest):
        place = first + rank
        inside = (place < ends).reshape(-1, *(1,) * (values.ndim - 1))
        sums += module.where(inside, values[module.minimum(place, len(values) - 1)], sums.dtype.type(0))
    return sums


def check_range(shape: Shape, index: tuple[Any, ...]) -> None:
    """Report indices out of range: at once on a CPU, through the error word on a GPU (where CuPy would wrap them)."""
    axis = 0
    for item in index:
        if item is Ellipsis:
            named = sum(
                1 if not hasattr(other, "dtype") or other.dtype != BOOL else other.ndim
                for other in index
                if other is not None and other is not Ellipsis
            )
            axis += len(shape) - named
        elif item is None:
            continue
        elif hasattr(item, "dtype") and item.dtype == BOOL:
            axis += item.ndim
        elif hasattr(item, "dtype"):
            extent = shape[axis]
            if item.size:
                bad = (item < -extent) | (item >= extent)
                detail = ""
                if module_of(item) is np and bad.any():
                    detail = f"dimension {axis} has size {extent}, got {int(np.asarray(item)[bad][0])}"
                check_values("index", np.asarray(bad) if module_of(item) is np else bad, detail)
            axis += 1
        else:
            axis += 1


GATHER = register(Gather())


View = tuple[tuple[Op, dict[str, Any], int], ...]


def view_of(array: Any, view: View) -> Any:
    """The view of an array that operations which share memory lead to, one (operation, attributes, output) each."""
    for op, attributes, number in view:
        made = op.forward(NO_GRAD, array, **attributes)
        array = made[number] if type(made) is tuple else made
    return array


def is_logical_view(shape: Shape, view: View) -> bool:
    """Whether the steps of a view need no copy where the elements lie in logical order, as PyTorch's do."""
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.insert(0, step)
        step *= max(extent, 1)
    # An array of one element with these strides: only its shape and strides are looked at.
    array: Any = np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), shape, strides)
    for op, attributes, number in view:
        if op.name == "reshape":
            wanted = op.infer(array, **attributes).outputs[0].shape
            found = reshaped_strides(array.shape, array.strides, wanted)
            if found is None:
                return False
            array = np.lib.stride_tricks.as_strided(array, wanted, found)
        else:
            array = view_of(array, ((op, attributes, number),))
    return True


def reshaped_strides(shape: Shape, strides: Shape, wanted: Shape) -> Shape | None:
    """The strides of a reshape that copies nothing, or None where there are none.

    Neighbouring dimensions can be merged if the step of the outer one is the inner one's whole extent; each run of
    dimensions that can is split anew.
    """
    if 0 in shape:
        return tuple(1 for _ in wanted)
    runs: list[list[int]] = []  # the elements and the innermost stride of each run
    for extent, stride in zip(shape, strides, strict=True):
        if extent == 1:
            continue
        if runs and runs[-1][1] == extent * stride:
            runs[-1] = [runs[-1][0] * extent, stride]
        else:
            runs.append([extent, stride])
    result: list[int] = []
    left, step = 1, 1
    for extent in reversed(wanted):
        if extent == 1:
            result.insert(0, step)
            continue
        if left == 1:
            if not runs:
                return None
            left, step = runs.pop()
        if left % extent:
            return None
        result.insert(0, step)
        left //= extent
        step *= extent
    return tuple(result)


def physical_order(array: Any) -> tuple[int, ...]:
    """The dimensions of an array from the slowest to the fastest."""
    return tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))


def _copy_in_order(array: Any, order: tuple[int, ...]) -> Any:
    """A copy whose dimensions lie in a given physical order, so that the same views can be taken of it."""
    copied = module_of(array).empty(tuple(array.shape[axis] for axis in order), array.dtype)
    copied = copied.transpose(tuple(order.index(axis) for axis in range(array.ndim)))
    copied[...] = array
    return copied


class SetIndex(Op):
    """x with y[index] = value, y being x or a view of it: what writing into a tensor of the graph means.

    ``view`` is how y comes from x, as ``view_of`` takes it.
    """

    name = "set_index"

    def infer(self, *inputs: Any, layout: Any, view: View = ()) -> Inferred:
        x, value, *arrays = inputs
        place: Any = x
        for op, attributes, number in view:
            place = op.infer(place, **attributes).outputs[number]
        if any(array.dtype == BOOL and not hasattr(array, "nonzero") for array in arrays):
            # How many places a mask on the meta device selects is not known.
            return Inferred((Spec(tuple(x.shape), x.dtype),))
        if arrays:
            target = GATHER.infer(place, *arrays, layout=layout).outputs[0].shape
        else:
            target = _basic_shape(tuple(place.shape), layout)
        shape = tuple(getattr(value, "shape", ()))
        stripped = shape
        while len(stripped) > len(target) and stripped[0] == 1:
            stripped = stripped[1:]
        if len(stripped) > len(target) or broadcast_shapes("index assignment", stripped, target) != target:
            raise ShapeError(f"index assignment: a value of shape {shape} does not fit the place of shape {target}")
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, layout: Any, view: View = ()) -> Any:
        x, value, *arrays = inputs
        y = _copy_in_order(x, physical_order(x))
        assign(view_of(y, view), value, arrays, layout)
        self.keep(ctx, x, value, arrays)
        return y

    def keep(
        self, ctx: Context, x: Any, value: Any, arrays: Sequence[Any], order: tuple[int, ...] | None = None
    ) -> None:
        """Keep for backward what it needs; for who has written in place already.

        ``order`` is the physical order in which the view copies nothing, x's own unless given.
        """
        like = Spec(tuple(value.shape), value.dtype) if hasattr(value, "dtype") else None
        ctx.state = (like, physical_order(x) if order is None else order)
        ctx.save(*arrays)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (like, order), arrays, layout = ctx.state, ctx.saved, ctx.attributes["layout"]
        view = ctx.attributes.get("view", ())
        dx = None
        if ctx.needs_grad[0]:
            dx = _copy_in_order(grad, order)
            assign(view_of(dx, view), 0, arrays, layout)
        dvalue = None
        if like is not None and ctx.needs_grad[1]:
            selected, index = _select(view_of(grad, view), arrays, layout)
            piece = selected[index]
            while piece.ndim < len(like.shape):
                piece = piece[None]
            dvalue = unbroadcast(piece, like)
        return (dx, dvalue, *([None] * (len(ctx.needs_grad) - 2)))

    def samples(self) -> Iterator[Sample]:
        row = (REGISTRY["slice"], {"index": (slice(None), 1)}, 0)
        flat = (REGISTRY["reshape"], {"shape": (-1,)}, 0)
        yield Sample("row", (_draw(3, 4), _draw(4)), {"layout": (1,)})
        yield Sample("scalar", (_draw(3, 4), 0.0), {"layout": (slice(None), slice(0, 2))})
        yield Sample("array", (_draw(3, 4), _draw(2, 4), np.array([2, 0])), {"layout": ((0,),)})
        yield Sample("part of a view", (_draw(3, 2, 4), _draw(2)), {"layout": (0, slice(0, 2)), "view": (row,)})
        second = (REGISTRY["slice"], {"index": (1,)}, 0)
        yield Sample("view of a view", (_draw(3, 2, 4), _draw(6)), {"layout": (slice(6),), "view": (second, flat)})
        channels_last = _draw(2, 4, 5, 3).transpose(0, 3, 1, 2)
        yield Sample("channels last", (channels_last, _draw(4, 5)), {"layout": (0, 1)})
        piece = (REGISTRY["slice"], {"index": (0, slice(None), 1)}, 0)
        yield Sample("view, channels last", (channels_last, _draw(5)), {"layout": (2,), "view": (piece,)})


register(SetIndex())
