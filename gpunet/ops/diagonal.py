"""Diagonals of matrices: read as a view, and written into zeros."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.reduce import normalize_axis

__all__: list[str] = []


def _axes(name: str, ndim: int, dim1: int, dim2: int) -> tuple[int, int]:
    if ndim < 2:
        raise ShapeError(f"{name}: input must have at least 2 dimensions, got {ndim}")
    first, second = normalize_axis(name, dim1, ndim), normalize_axis(name, dim2, ndim)
    if first == second:
        raise ShapeError(f"{name}: dim1 and dim2 must differ, got {dim1} and {dim2}")
    return first, second


def _view(module: Any, x: Any, offset: int, first: int, second: int) -> Any:
    """The diagonal, sharing memory, and writable where x is."""
    y = module.diagonal(x, offset, first, second)
    if module is np and x.flags.writeable:  # NumPy's is read-only until told otherwise
        y.flags.writeable = True
    return y


class Diagonal(Op):
    """y_...i = x_...i,i+offset for the dimensions dim1 and dim2; the diagonal becomes the last dimension."""

    name = "diagonal"
    is_view = True

    def infer(self, *inputs: Any, offset: int, dim1: int, dim2: int) -> Inferred:
        (x,) = inputs
        first, second = _axes(self.name, x.ndim, dim1, dim2)
        rows, columns = x.shape[first], x.shape[second]
        length = max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))
        shape = tuple(extent for axis, extent in enumerate(x.shape) if axis not in (first, second))
        return Inferred((Spec((*shape, length), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, offset: int, dim1: int, dim2: int) -> Any:
        (x,) = inputs
        first, second = _axes(self.name, x.ndim, dim1, dim2)
        ctx.state = tuple(x.shape), first, second
        return _view(module_of(x), x, offset, first, second)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        shape, first, second = ctx.state
        module = module_of(grad)
        dx = module.zeros(shape, grad.dtype)
        _view(module, dx, ctx.attributes["offset"], first, second)[...] = grad
        return (dx,)

    def samples(self) -> Iterator[Sample]:
        x = np.random.default_rng(95).standard_normal((3, 4, 5))
        yield Sample("main", (x,), {"offset": 0, "dim1": 0, "dim2": 1})
        yield Sample("above, last two", (x,), {"offset": 1, "dim1": -2, "dim2": -1})
        yield Sample("below, exchanged, transposed", (x.T,), {"offset": -2, "dim1": 2, "dim2": 0})
        yield Sample("empty batch", (x[:0],), {"offset": 0, "dim1": 1, "dim2": 2})


register(Diagonal())


class DiagEmbed(Op):
    """The last dimension of x on a diagonal of zeros, of the dimensions dim1 and dim2 of the result."""

    name = "diag_embed"

    def infer(self, *inputs: Any, offset: int, dim1: int, dim2: int) -> Inferred:
        (x,) = inputs
        if x.ndim == 0:
            raise ShapeError("diag_embed: input must have at least 1 dimension, got 0")
        first, second = _axes(self.name, x.ndim + 1, dim1, dim2)
        extent = x.shape[-1] + abs(offset)
        shape = list(x.shape[:-1])
        for axis in sorted((first, second)):
            shape.insert(axis, extent)
        return Inferred((Spec(tuple(shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, offset: int, dim1: int, dim2: int) -> Any:
        (x,) = inputs
        spec = self.infer(x, offset=offset, dim1=dim1, dim2=dim2).outputs[0]
        module = module_of(x)
        first, second = _axes(self.name, x.ndim + 1, dim1, dim2)
        ctx.state = first, second
        y = module.zeros(spec.shape, x.dtype)
        _view(module, y, offset, first, second)[...] = x
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        return (module_of(grad).diagonal(grad, ctx.attributes["offset"], *ctx.state).copy(),)

    def samples(self) -> Iterator[Sample]:
        x = np.random.default_rng(96).standard_normal((2, 3))
        yield Sample("last", (x,), {"offset": 0, "dim1": -2, "dim2": -1})
        yield Sample("above, first", (x,), {"offset": 1, "dim1": 0, "dim2": 2})
        yield Sample("below, exchanged", (x.T,), {"offset": -1, "dim1": 2, "dim2": 1})
        yield Sample("empty batch", (x[:0],), {"offset": 0, "dim1": 1, "dim2": 2})


register(DiagEmbed())
