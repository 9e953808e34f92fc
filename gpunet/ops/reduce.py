"""Reductions: sum, mean, variance, extremes and where they are.

Sums of half precision are carried in float32. Results are 0-d arrays, never NumPy scalars. Ties: ``max(dim)`` and
``argmax`` take the first; the full ``max`` and ``amax`` share the gradient equally among equals. NaN wins over
every number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.dtypes import BOOL, INT64, compute_dtype, is_floating

__all__ = ["expand_reduced", "normalize_axes", "normalize_axis", "reduced_shape", "reduction_samples"]

Axes = tuple[int, ...]


def normalize_axis(op: str, axis: Any, ndim: int) -> int:
    """A dimension counted from the front.

    Raises:
        ShapeError: there is no such dimension.
    """
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(f"{op}: dim must be an integer, got {type(axis).__name__}")
    axis = axis.__index__()
    extent = max(ndim, 1)  # a 0-d tensor takes 0 and -1, as PyTorch's does
    if not -extent <= axis < extent:
        raise ShapeError(f"{op}: dim must lie in {-extent}..{extent - 1} for a {ndim}-d tensor, got {axis}")
    return axis % extent if ndim else 0


def normalize_axes(op: str, axes: Any, ndim: int) -> Axes:
    """Dimensions counted from the front; None or an empty sequence means all.

    Raises:
        ShapeError: there is no such dimension, or one is named twice.
    """
    if axes is None:
        return tuple(range(ndim))
    if hasattr(axes, "__index__") or not isinstance(axes, Sequence):
        axes = (axes,)
    found = tuple(normalize_axis(op, axis, ndim) for axis in axes)
    if len(set(found)) != len(found):
        raise ShapeError(f"{op}: dim names a dimension twice: {tuple(axes)}")
    return (found if ndim else ()) or tuple(range(ndim))


def reduced_shape(shape: tuple[int, ...], axes: Axes, keepdim: bool) -> tuple[int, ...]:
    """The shape left when ``axes`` are reduced."""
    if keepdim:
        return tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
    return tuple(extent for axis, extent in enumerate(shape) if axis not in axes)


def expand_reduced(grad: Any, shape: tuple[int, ...], axes: Axes) -> Any:
    """A reduced array with size-one dimensions where it was reduced, so that it broadcasts against the input."""
    return grad.reshape(reduced_shape(shape, axes, True))


def reduction_samples(**attributes: Any) -> Iterator[Sample]:
    """What every reduction over ``dim`` is held to."""
    rng = np.random.default_rng(17)
    x = rng.standard_normal((3, 4, 5))
    yield Sample("all", (x,), {"dim": None, "keepdim": False, **attributes})
    yield Sample("one", (x,), {"dim": (1,), "keepdim": False, **attributes})
    yield Sample("two, keepdim", (x,), {"dim": (0, -1), "keepdim": True, **attributes})
    yield Sample("channels last", (x[None].transpose(0, 3, 1, 2),), {"dim": (2, 3), "keepdim": False, **attributes})
    yield Sample("strided", (x[::2, :, ::2],), {"dim": (2,), "keepdim": False, **attributes})


class Sum(Op):
    """y = sum of x over ``dim``; integers and bools add up in int64."""

    name = "sum"

    def infer(self, *inputs: Any, dim: Any, keepdim: bool, dtype: Any = None) -> Inferred:
        (x,) = inputs
        axes = normalize_axes(self.name, dim, x.ndim)
        result = dtype or (x.dtype if is_floating(x.dtype) else INT64)
        return Inferred((Spec(reduced_shape(tuple(x.shape), axes, keepdim), result),))

    def forward(self, ctx: Context, *inputs: Any, dim: Any, keepdim: bool, dtype: Any = None) -> Any:
        (x,) = inputs
        axes = normalize_axes(self.name, dim, x.ndim)
        result = dtype or (x.dtype if is_floating(x.dtype) else INT64)
        ctx.state = (tuple(x.shape), axes, x.dtype)
        y = x.sum(axis=axes, keepdims=keepdim, dtype=compute_dtype(result))
        return y if y.dtype == result else y.astype(result)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        shape, axes, dtype = ctx.state
        grad = expand_reduced(grad, shape, axes)
        return (module_of(grad).broadcast_to(grad if grad.dtype == dtype else grad.astype(dtype), shape),)

    def samples(self) -> Iterator[Sample]:
        yield from reduction_samples(dtype=None)
        yield Sample("empty batch", (np.zeros((0, 3)),), {"dim": (0,), "keepdim": False, "dtype": None})
        yield Sample("0-d", (np.array(2.5),), {"dim": None, "keepdim": False, "dtype": None})


register(Sum())


class Mean(Op):
    """y = sum of x over ``dim``, divided by how many there are; of nothing it is NaN."""

    name = "mean"

    def infer(self, *inputs: Any, dim: Any, keepdim: bool, dtype: Any = None) -> Inferred:
        (x,) = inputs
        result = dtype or x.dtype
        if not is_floating(result):
            raise DTypeError(f"mean: input must be floating point, got {result.name}; cast it or pass dtype=")
        axes = normalize_axes(self.name, dim, x.ndim)
        return Inferred((Spec(reduced_shape(tuple(x.shape), axes, keepdim), result),))

    def forward(self, ctx: Context, *inputs: Any, dim: Any, keepdim: bool, dtype: Any = None) -> Any:
        (x,) = inputs
        axes = normalize_axes(self.name, dim, x.ndim)
        count = math.prod(x.shape[axis] for axis in axes)
        result = dtype or x.dtype
        carry = compute_dtype(result)
        ctx.state = (tuple(x.shape), axes, x.dtype, count)
        y = x.sum(axis=axes, keepdims=keepdim, dtype=carry) / carry.type(count)
        return y if y.dtype == result else y.astype(result)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        shape, axes, dtype, count = ctx.state
        grad = expand_reduced((grad / grad.dtype.type(max(count, 1))).astype(dtype), shape, axes)
        return (module_of(grad).broadcast_to(grad, shape),)

    def samples(self) -> Iterator[Sample]:
        yield from reduction_samples(dtype=None)
        yield Sample("0-d", (np.array(2.5),), {"dim": None, "keepdim": False, "dtype": None})


register(Mean())


def _mean(x: Any, axes: Axes, count: int, carry: Any) -> Any:
    """The mean in the type sums are carried in, dimensions kept; of nothing it is NaN, without NumPy's warning."""
    return x.sum(axis=axes, keepdims=True, dtype=carry) / carry.type(count)


class Var(Op):
    """y = sum of (x - mean(x))^2 over ``dim``, divided by n - correction (1: Bessel's)."""

    name = "var"

    def infer(self, *inputs: Any, dim: Any, keepdim: bool, correction: float) -> Inferred:
        (x,) = inputs
        if not is_floating(x.dtype):
            raise DTypeError(f"var: input must be floating point, got {x.dtype.name}")
        axes = normalize_axes(self.name, dim, x.ndim)
        return Inferred((Spec(reduced_shape(tuple(x.shape), axes, keepdim), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, dim: Any, keepdim: bool, correction: float) -> Any:
        (x,) = inputs
        axes = normalize_axes(self.name, dim, x.ndim)
        count = math.prod(x.shape[axis] for axis in axes)
        carry = compute_dtype(x.dtype)
        centred = x - _mean(x, axes, count, carry)
        degrees = carry.type(max(count - correction, 0.0))
        y = (centred * centred).sum(axis=axes, keepdims=keepdim) / degrees
        ctx.save(x)
        ctx.state = (axes, degrees, count)
        return y if y.dtype == x.dtype else y.astype(x.dtype)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (x,) = ctx.saved
        axes, degrees, count = ctx.state
        centred = x - _mean(x, axes, count, degrees.dtype)
        grad = expand_reduced(grad, tuple(x.shape), axes) * (2 / degrees)
        return ((centred * grad).astype(x.dtype, copy=False),)

    def samples(self) -> Iterator[Sample]:
        yield from reduction_samples(correction=1.0)
        yield from reduction_samples(correction=0.0)


register(Var())


class Extreme(Op):
    """The largest (``amax``) or smallest (``amin``) element over ``dim``; equals share the gradient."""

    def __init__(self, name: str, method: str) -> None:
        self.name = name
        self.method = method

    def infer(self, *inputs: Any, dim: Any, keepdim: bool) -> Inferred:
        (x,) = inputs
        axes = normalize_axes(self.name, dim, x.ndim)
        if any(x.shape[axis] == 0 for axis in axes):
            raise ShapeError(f"{self.name}: input has no elements along dim, got shape {tuple(x.shape)}")
        return Inferred((Spec(reduced_shape(tuple(x.shape), axes, keepdim), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, dim: Any, keepdim: bool) -> Any:
        (x,) = inputs
        axes = normalize_axes(self.name, dim, x.ndim)
        y = getattr(x, self.method)(axis=axes, keepdims=keepdim)
        y = np.asarray(y) if isinstance(y, np.generic) else y
        ctx.save(x, y)
        ctx.state = axes
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        x, y = ctx.saved
        shape = tuple(x.shape)
        # Where the extreme is NaN, the NaNs are what it came from.
        largest = expand_reduced(y, shape, ctx.state)
        winners = (x == largest) | ((x != x) & (largest != largest))
        count = winners.sum(axis=ctx.state, keepdims=True).astype(grad.dtype)
        return (winners * (expand_reduced(grad, shape, ctx.state) / count),)

    def samples(self) -> Iterator[Sample]:
        yield from reduction_samples()


register(Extreme("amax", "max"))
register(Extreme("amin", "min"))
# The same, for users who called max() and min().
register(Extreme("max", "max"))
register(Extreme("min", "min"))


class ExtremeAlong(Op):
    """The largest (``max_along``) or smallest (``min_along``) element of one dimension, and its first place."""

    def __init__(self, name: str, method: str) -> None:
        self.name = name
        self.method = method

    def infer(self, *inputs: Any, dim: int, keepdim: bool) -> Inferred:
        (x,) = inputs
        name = self.name.removesuffix("_along")
        axis = normalize_axis(name, dim, x.ndim)
        if x.ndim and x.shape[axis] == 0:
            raise ShapeError(f"{name}: input has no elements along dim {dim}, got shape {tuple(x.shape)}")
        shape = reduced_shape(tuple(x.shape), (axis,), keepdim) if x.ndim else ()
        return Inferred((Spec(shape, x.dtype), Spec(shape, INT64)))

    def forward(self, ctx: Context, *inputs: Any, dim: int, keepdim: bool) -> Any:
        (x,) = inputs
        module = module_of(x)
        if x.ndim == 0:
            ctx.state = None
            return x.copy(), module.zeros((), INT64)
        axis = normalize_axis(self.name, dim, x.ndim)
        where = module.expand_dims(getattr(x, self.method)(axis=axis), axis)
        y = module.take_along_axis(x, where, axis)
        ctx.state = (tuple(x.shape), axis, where)
        if not keepdim:
            y, where = y.squeeze(axis), where.squeeze(axis)
        return y, where.astype(INT64, copy=False)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        grad = grad_outputs[0]
        if ctx.state is None:
            return (grad,)
        shape, axis, where = ctx.state
        places = module_of(grad).arange(shape[axis]).reshape((-1,) + (1,) * (len(shape) - 1 - axis))
        return ((places == where) * expand_reduced(grad, shape, (axis,)),)

    def samples(self) -> Iterator[Sample]:
        x = np.random.default_rng(19).standard_normal((3, 4, 5))
        yield Sample("first", (x,), {"dim": 0, "keepdim": False})
        yield Sample("last, keepdim", (x,), {"dim": -1, "keepdim": True})
        yield Sample("channels last", (x[None].transpose(0, 3, 1, 2),), {"dim": 1, "keepdim": False})
        yield Sample("empty batch", (x[:0],), {"dim": 1, "keepdim": False})


register(ExtremeAlong("max_along", "argmax"))
register(ExtremeAlong("min_along", "argmin"))


class ArgExtreme(Op):
    """The first place of the largest (``argmax``) or smallest (``argmin``) element, of all in logical order."""

    differentiable = False

    def __init__(self, name: str) -> None:
        self.name = name

    def infer(self, *inputs: Any, dim: int | None, keepdim: bool) -> Inferred:
        (x,) = inputs
        axes = normalize_axes(self.name, dim, x.ndim)
        if any(x.shape[axis] == 0 for axis in axes):
            raise ShapeError(f"{self.name}: input has no elements along dim, got shape {tuple(x.shape)}")
        return Inferred((Spec(reduced_shape(tuple(x.shape), axes, keepdim), INT64),))

    def forward(self, ctx: Context, *inputs: Any, dim: int | None, keepdim: bool) -> Any:
        (x,) = inputs
        axis = None if dim is None or x.ndim == 0 else normalize_axis(self.name, dim, x.ndim)
        y = getattr(x, self.name)(axis=axis, keepdims=keepdim) if x.ndim else module_of(x).zeros((), INT64)
        return y.astype(INT64)

    def samples(self) -> Iterator[Sample]:
        x = np.random.default_rng(23).standard_normal((3, 4))
        yield Sample("all", (x,), {"dim": None, "keepdim": False})
        yield Sample("one", (x,), {"dim": 1, "keepdim": False})
        yield Sample("keepdim, transposed", (x.T,), {"dim": -1, "keepdim": True})


register(ArgExtreme("argmax"))
register(ArgExtreme("argmin"))


class Truth(Op):
    """Whether ``any`` or ``all`` elements over ``dim`` are true."""

    differentiable = False

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function

    def infer(self, *inputs: Any, dim: Any, keepdim: bool) -> Inferred:
        (x,) = inputs
        axes = normalize_axes(self.name, dim, x.ndim)
        return Inferred((Spec(reduced_shape(tuple(x.shape), axes, keepdim), BOOL),))

    def forward(self, ctx: Context, *inputs: Any, dim: Any, keepdim: bool) -> Any:
        (x,) = inputs
        return self.function(x, normalize_axes(self.name, dim, x.ndim), keepdim)

    def samples(self) -> Iterator[Sample]:
        x = np.random.default_rng(29).random((3, 4)) > 0.7
        yield Sample("all", (x,), {"dim": None, "keepdim": False})
        yield Sample("one", (x,), {"dim": (1,), "keepdim": True})


register(Truth("any", lambda x, axes, keepdim: x.any(axis=axes, keepdims=keepdim)))
register(Truth("all", lambda x, axes, keepdim: x.all(axis=axes, keepdims=keepdim)))
