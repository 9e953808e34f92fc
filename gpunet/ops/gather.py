"""Gathering and scattering along one dimension: gather, scatter, scatter_add, index_select and index_add.

    gather:       y[i][j][k] = x[i][index[i][j][k]][k]          for dim = 1, and alike for the others
    scatter:      y = x, then y[i][index[i][j][k]][k] = source[i][j][k]
    scatter_add:  y = x, then y[i][index[i][j][k]][k] += source[i][j][k]
    index_select: y[:, j] = x[:, index[j]]
    index_add:    y = x, then y[:, index[j]] += alpha source[:, j]

The gradients are each other: what was gathered is scatter-added, what was added is gathered. Repeated places add up in
a fixed order (``add_at``); of several values scattered to one place the last stays, on every device. Half types carry
their sums in float32. Indices are int32 or int64 and count from 0: negative ones are refused, as PyTorch refuses them.
A 0-d array counts as one of one element.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.error_word import check_values
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.dtypes import cast_scalar, compute_dtype
from gpunet.ops.indexing import add_at, segment_starts, stable_order
from gpunet.ops.reduce import normalize_axis

__all__ = ["check_index_dtype"]

Shape = tuple[int, ...]


def check_index_dtype(op: str, index: Any, name: str = "index") -> None:
    """Raise unless an index holds int32 or int64.

    Raises:
        DTypeError: it does not.
    """
    if index.dtype.name not in ("int64", "int32"):
        raise DTypeError(f"{op}: {name} must be int64 or int32, got {index.dtype.name}")


def _check_indices(index: Any, extent: int) -> None:
    """Report indices outside 0..extent-1."""
    if not index.size:
        return
    module = module_of(index)
    bad = module.asarray((index < 0) | (index >= extent))
    detail = ""
    if module is np and bad.any():
        detail = f"the dimension has size {extent}, got {int(index[bad].reshape(-1)[0])}"
    check_values("position", bad, detail)


def _as_1d(x: Any) -> Any:
    return x.reshape(1) if x.ndim == 0 else x


def _shape_1d(x: Any) -> Shape:
    return tuple(x.shape) or (1,)


def _check_along(op: str, x: Any, index: Any, dim: int, source: Any = None) -> int:
    """The axis, after checking index (and source) against x; an empty index is always fine."""
    axis = normalize_axis(op, dim, max(x.ndim, 1))
    check_index_dtype(op, index)
    if math.prod(index.shape) == 0:
        return axis
    shape, places = _shape_1d(x), _shape_1d(index)
    if len(places) != len(shape):
        raise ShapeError(f"{op}: index must have as many dimensions as input ({x.ndim}), got {index.ndim}")
    if any(own > given for d, (own, given) in enumerate(zip(places, shape, strict=True)) if d != axis):
        raise ShapeError(
            f"{op}: index must not exceed input's shape {tuple(x.shape)} except in dim {dim}, got {tuple(index.shape)}"
        )
    if source is not None:
        values = _shape_1d(source)
        if len(values) != len(places):
            raise ShapeError(f"{op}: src must have as many dimensions as index ({index.ndim}), got {source.ndim}")
        if any(own > given for own, given in zip(places, values, strict=True)):
            raise ShapeError(f"{op}: index must not exceed src's shape {tuple(source.shape)}, got {tuple(index.shape)}")
    return axis


def _corner(x: Any, shape: Shape) -> Any:
    """The part of x from its first element on that has a shape."""
    return x if tuple(x.shape) == shape else x[tuple(slice(0, extent) for extent in shape)]


def _gathered(x: Any, index: Any, axis: int) -> Any:
    """y[i] = x[i with index[i] for its entry along axis]; both at least 1-d, the indices checked."""
    if not index.size:
        return module_of(x).zeros(index.shape, x.dtype)
    shape = tuple(x.shape[d] if d == axis else extent for d, extent in enumerate(index.shape))
    return module_of(x).take_along_axis(_corner(x, shape), index, axis=axis)


def _places(module: Any, shape: Shape, index: Any, axis: int) -> Any:
    """The row-major number, in an array of a shape, of each place that an index along an axis means."""
    step = math.prod(shape[axis + 1 :])
    places = index.astype(np.int64, copy=False) * step
    stride = 1
    for d in range(len(shape) - 1, -1, -1):
        if d != axis:
            own = module.arange(index.shape[d]) * stride
            places = places + own.reshape(-1, *(1,) * (len(shape) - 1 - d))
        stride *= shape[d]
    return places.reshape(-1)


def _row_major(x: Any) -> Any:
    """A row-major copy."""
    return x.copy(order="C")


def _added(x: Any, index: Any, values: Any, axis: int) -> Any:
    """x with values added at the places of an index, carried in float32 for the half types."""
    module = module_of(x)
    y = x.astype(compute_dtype(x.dtype), order="C", copy=True)
    add_at(module, y.reshape(-1), _places(module, tuple(x.shape), index, axis), values.reshape(-1))
    return y.astype(x.dtype, copy=False)


def _written(x: Any, index: Any, values: Any, axis: int) -> Any:
    """x with values (an array of index's shape, or a number) at the places of an index; the last of several stays."""
    module = module_of(x)
    y = _row_major(x)
    places = _places(module, tuple(x.shape), index, axis)
    if not places.size:
        return y
    if hasattr(values, "dtype") and values.ndim:
        values = values.reshape(-1)
        if module is not np:  # NumPy writes in order, a GPU in any
            order = stable_order(module, places)
            last = module.concatenate([segment_starts(module, places[order])[1:] - 1, module.asarray([len(order) - 1])])
            places, values = places[order][last], values[order][last]
    y.reshape(-1)[places] = values
    return y


def _draw(*shape: int) -> Any:
    return np.random.default_rng(37).standard_normal(shape)


_INDEX = np.array([[2, 0, 2, 1], [0, 0, 1, 2]])


class Gather(Op):
    """y[i][j] = x[index[i][j]][j] for dim 0: one value of x for each element of index."""

    name = "gather"

    def infer(self, *inputs: Any, dim: int) -> Inferred:
        x, index = inputs
        _check_along(self.name, x, index, dim)
        return Inferred((Spec(tuple(index.shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, dim: int) -> Any:
        x, index = inputs
        axis = normalize_axis(self.name, dim, max(x.ndim, 1))
        ctx.state = Spec(tuple(x.shape), x.dtype)
        ctx.save(index)
        x, flat = _as_1d(x), _as_1d(index)
        if flat.size:
            _check_indices(flat, x.shape[axis])
        return _gathered(x, flat, axis).reshape(index.shape)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        like, index = ctx.state, _as_1d(ctx.saved[0])
        dx = module_of(grad).zeros(like.shape or (1,), grad.dtype)
        if index.size:
            axis = normalize_axis(self.name, ctx.attributes["dim"], dx.ndim)
            dx = _added(dx, index, grad, axis)
        return (dx.reshape(like.shape), None)

    def samples(self) -> Iterator[Sample]:
        yield Sample("rows, repeated", (_draw(3, 4), _INDEX), {"dim": 0})
        yield Sample("columns, fewer", (_draw(3, 4), _INDEX[:, :2]), {"dim": 1})
        yield Sample("negative dim, strided", (_draw(4, 3).T, _INDEX.astype(np.int32)), {"dim": -2})
        yield Sample("3-d", (_draw(2, 3, 4), _INDEX[:, :3, None]), {"dim": -1})
        yield Sample("0-d", (_draw(), np.array(0)), {"dim": 0})
        yield Sample("empty batch", (_draw(0, 4), np.zeros((0, 2), np.int64)), {"dim": 1})


register(Gather())


class Scatter(Op):
    """x with the values of src (an array, or a number) at y[index[i][j]][j], for dim 0."""

    name = "scatter"

    def infer(self, *inputs: Any, dim: int) -> Inferred:
        x, index, source = inputs
        array = source if hasattr(source, "dtype") else None
        if array is not None and array.dtype != x.dtype:
            raise DTypeError(f"{self.name}: src must have input's dtype {x.dtype.name}, got {array.dtype.name}")
        _check_along(self.name, x, index, dim, array)
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, dim: int) -> Any:
        x, index, source = inputs
        axis = normalize_axis(self.name, dim, max(x.ndim, 1))
        ctx.save(index)
        array = hasattr(source, "dtype")
        ctx.state = tuple(source.shape) if array else None
        base, flat = _as_1d(x), _as_1d(index)
        if not flat.size:
            return _row_major(x)
        _check_indices(flat, base.shape[axis])
        values = _corner(_as_1d(source), tuple(flat.shape)) if array else cast_scalar(source, x.dtype)
        return self._put(base, flat, values, axis).reshape(x.shape)

    def _put(self, x: Any, index: Any, values: Any, axis: int) -> Any:
        return _written(x, index, values, axis)

    def _kept(self, grad: Any, index: Any, axis: int) -> Any:
        """What of the gradient reaches x."""
        return _written(grad, index, grad.dtype.type(0), axis)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        index = _as_1d(ctx.saved[0])
        base = _as_1d(grad)
        axis = normalize_axis(self.name, ctx.attributes["dim"], base.ndim)
        dx: Any = None
        ds: Any = None
        if ctx.needs_grad[0]:
            dx = self._kept(base, index, axis).reshape(grad.shape) if index.size else grad
        if ctx.needs_grad[2]:
            shape = ctx.state or (1,)
            if index.size:
                ds = _gathered(base, index, axis)
            if not index.size or tuple(ds.shape) != shape:
                wide = module_of(grad).zeros(shape, grad.dtype)
                if index.size:
                    _corner(wide, tuple(index.shape))[...] = ds
                ds = wide
            ds = ds.reshape(ctx.state)
        return (dx, None, ds)

    def samples(self) -> Iterator[Sample]:
        apart = np.array([[2, 0, 1, 1], [0, 1, 2, 0]])  # no place twice: PyTorch's gradient ignores who won
        yield Sample("rows", (_draw(3, 4), apart, _draw(2, 4)), {"dim": 0})
        yield Sample("src larger", (_draw(3, 4), apart[:, :2], _draw(3, 4)), {"dim": 0})
        yield Sample("number", (_draw(3, 4), _INDEX, 1.5), {"dim": 0})
        yield Sample("columns, strided", (_draw(4, 3).T, apart[:, :1], _draw(2, 4)), {"dim": -1})
        yield Sample("empty batch", (_draw(0, 4), np.zeros((0, 2), np.int64), _draw(0, 4)), {"dim": 1})


register(Scatter())


class ScatterAdd(Scatter):
    """x with the values of src added at y[index[i][j]][j], for dim 0."""

    name = "scatter_add"

    def _put(self, x: Any, index: Any, values: Any, axis: int) -> Any:
        return _added(x, index, values, axis)

    def _kept(self, grad: Any, index: Any, axis: int) -> Any:
        return grad

    def samples(self) -> Iterator[Sample]:
        yield Sample("rows, repeated", (_draw(3, 4), _INDEX, _draw(2, 4)), {"dim": 0})
        yield Sample("src larger", (_draw(3, 4), _INDEX[:, :2], _draw(3, 4)), {"dim": 1})
        yield Sample("3-d, strided", (_draw(4, 3, 2).T, _INDEX[:, :3, None] % 2, _draw(2, 3, 1)), {"dim": -3})
        yield Sample("empty batch", (_draw(0, 4), np.zeros((0, 2), np.int64), _draw(0, 4)), {"dim": 1})


register(ScatterAdd())


def _check_vector(op: str, index: Any) -> int:
    """The number of indices of a vector, or of a 0-d array."""
    check_index_dtype(op, index)
    if index.ndim > 1:
        raise ShapeError(f"{op}: index must have one dimension, got shape {tuple(index.shape)}")
    return math.prod(index.shape)


def _rows(x: Any, axis: int) -> Any:
    """x with an axis first."""
    return x if axis == 0 else module_of(x).moveaxis(x, axis, 0)


class IndexSelect(Op):
    """The slices of x at the given positions of one dimension, in that order."""

    name = "index_select"

    def infer(self, *inputs: Any, dim: int) -> Inferred:
        x, index = inputs
        axis = normalize_axis(self.name, dim, max(x.ndim, 1))
        count = _check_vector(self.name, index)
        shape = tuple(x.shape)
        if not shape:
            if count != 1:
                raise ShapeError(f"{self.name}: index into a 0-d input must hold one element, got {count}")
            return Inferred((Spec((), x.dtype),))
        return Inferred((Spec((*shape[:axis], count, *shape[axis + 1 :]), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, dim: int) -> Any:
        x, index = inputs
        base = _as_1d(x)
        axis = normalize_axis(self.name, dim, base.ndim)
        _check_indices(index, base.shape[axis])
        ctx.state = Spec(tuple(x.shape), x.dtype)
        ctx.save(index)
        y = base.take(index.reshape(-1), axis=axis)
        return y if x.ndim else y.reshape(())

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        like, index = ctx.state, ctx.saved[0].reshape(-1)
        module = module_of(grad)
        dx = module.zeros(like.shape or (1,), compute_dtype(like.dtype))
        axis = normalize_axis(self.name, ctx.attributes["dim"], dx.ndim)
        add_at(module, _rows(dx, axis), index, _rows(_as_1d(grad), axis))
        return (dx.astype(like.dtype, copy=False).reshape(like.shape), None)

    def samples(self) -> Iterator[Sample]:
        rows = np.array([2, 0, 2])
        yield Sample("rows, repeated", (_draw(3, 4), rows), {"dim": 0})
        yield Sample("channels, channels last", (_draw(2, 4, 5, 3).transpose(0, 3, 1, 2), rows), {"dim": 1})
        yield Sample("0-d index", (_draw(3, 4), np.array(1, np.int32)), {"dim": -1})
        yield Sample("0-d", (_draw(), np.array([0])), {"dim": 0})
        yield Sample("empty batch", (_draw(0, 4), np.array([3, 1])), {"dim": 1})


register(IndexSelect())


class IndexAdd(Op):
    """x with alpha times the slices of source added at the given positions of one dimension."""

    name = "index_add"

    def infer(self, *inputs: Any, dim: int, alpha: float) -> Inferred:
        x, index, source = inputs
        axis = normalize_axis(self.name, dim, max(x.ndim, 1))
        count = _check_vector(self.name, index)
        if source.dtype != x.dtype:
            raise DTypeError(f"{self.name}: source must have input's dtype {x.dtype.name}, got {source.dtype.name}")
        shape = _shape_1d(x)
        wanted = (*shape[:axis], count, *shape[axis + 1 :])
        if _shape_1d(source) != wanted:
            raise ShapeError(f"{self.name}: source must have shape {wanted}, got {tuple(source.shape)}")
        if x.dtype.kind != "f" and x.dtype.name != "bfloat16" and isinstance(alpha, float):
            raise DTypeError(f"{self.name}: alpha must be an integer for an input of {x.dtype.name}, got {alpha}")
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, dim: int, alpha: float) -> Any:
        x, index, source = inputs
        base = _as_1d(x)
        axis = normalize_axis(self.name, dim, base.ndim)
        _check_indices(index, base.shape[axis])
        ctx.save(index)
        ctx.state = tuple(source.shape)
        carried = compute_dtype(x.dtype)
        y = base.astype(carried, copy=True)
        values = _as_1d(source) if alpha == 1 else _as_1d(source) * cast_scalar(alpha, carried)
        add_at(module_of(x), _rows(y, axis), index.reshape(-1), _rows(values, axis))
        return y.astype(x.dtype, copy=False).reshape(x.shape)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (index,) = ctx.saved
        alpha = ctx.attributes["alpha"]
        ds = None
        if ctx.needs_grad[2]:
            base = _as_1d(grad)
            axis = normalize_axis(self.name, ctx.attributes["dim"], base.ndim)
            ds = base.take(index.reshape(-1), axis=axis).reshape(ctx.state)
            if alpha != 1:
                ds = ds * grad.dtype.type(alpha)
        return (grad if ctx.needs_grad[0] else None, None, ds)

    def samples(self) -> Iterator[Sample]:
        rows = np.array([2, 0, 2])
        yield Sample("rows, repeated", (_draw(3, 4), rows, _draw(3, 4)), {"dim": 0, "alpha": 1})
        yield Sample("columns, alpha", (_draw(3, 4), rows, _draw(3, 3)), {"dim": -1, "alpha": -0.5})
        yield Sample("0-d index", (_draw(3, 4), np.array(1), _draw(1, 4)), {"dim": 0, "alpha": 2})
        yield Sample("empty batch", (_draw(0, 4), rows[:2], _draw(0, 2)), {"dim": 1, "alpha": 1})


register(IndexAdd())
