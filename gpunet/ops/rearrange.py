"""Operations that move elements without computing: flip, roll, repeat, tril and triu. The results are copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.reduce import normalize_axis

__all__ = ["distinct_axes"]

Shape = tuple[int, ...]


def _draw(*shape: int) -> Any:
    return np.random.default_rng(41).standard_normal(shape)


def distinct_axes(op: str, dims: Sequence[int], ndim: int) -> Shape:
    """The axes that dims name.

    Raises:
        IndexError: one is out of range.
        ShapeError: one is named twice.
    """
    axes = tuple(normalize_axis(op, dim, ndim) for dim in dims)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{op}: dims names a dimension twice: {tuple(dims)}")
    return axes


class Flip(Op):
    """The elements in reverse order along the given dimensions."""

    name = "flip"

    def infer(self, *inputs: Any, dims: Shape) -> Inferred:
        (x,) = inputs
        distinct_axes(self.name, dims, x.ndim)
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, dims: Shape) -> Any:
        (x,) = inputs
        axes = distinct_axes(self.name, dims, x.ndim)
        if not x.ndim:
            return x.copy()
        return x[tuple(slice(None, None, -1 if axis in axes else 1) for axis in range(x.ndim))].copy(order="K")

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        return (self.forward(ctx, *grad_outputs, dims=ctx.attributes["dims"]),)

    def samples(self) -> Iterator[Sample]:
        yield Sample("rows", (_draw(3, 4),), {"dims": (0,)})
        yield Sample("two, channels last", (_draw(2, 4, 5, 3).transpose(0, 3, 1, 2),), {"dims": (-1, 1)})
        yield Sample("none", (_draw(3),), {"dims": ()})
        yield Sample("empty batch", (_draw(0, 3),), {"dims": (1,)})


register(Flip())


class Roll(Op):
    """The elements moved along dimensions, those that leave at the end coming back at the start.

    Without dims the elements move in row-major order.
    """

    name = "roll"

    def infer(self, *inputs: Any, shifts: Shape, dims: Shape) -> Inferred:
        (x,) = inputs
        if not shifts:
            raise ValueError("roll: shifts must hold at least one integer")
        if dims or len(shifts) != 1:
            if len(shifts) != len(dims):
                raise ShapeError(f"roll: shifts and dims must be of one length, got {len(shifts)} and {len(dims)}")
            if not x.ndim:
                raise ShapeError("roll: a 0-d tensor has no dims")
            for dim in dims:
                normalize_axis(self.name, dim, x.ndim)
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def _rolled(self, x: Any, shifts: Shape, dims: Shape) -> Any:
        if not dims:
            return module_of(x).roll(x.reshape(-1), shifts[0]).reshape(x.shape)
        for shift, dim in zip(shifts, dims, strict=True):  # one after the other: a dimension may come twice
            x = module_of(x).roll(x, shift, axis=dim)
        return x

    def forward(self, ctx: Context, *inputs: Any, shifts: Shape, dims: Shape) -> Any:
        return self._rolled(inputs[0], shifts, dims)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        shifts, dims = ctx.attributes["shifts"], ctx.attributes["dims"]
        return (self._rolled(grad_outputs[0], tuple(-shift for shift in shifts), dims),)

    def samples(self) -> Iterator[Sample]:
        yield Sample("all", (_draw(3, 4),), {"shifts": (5,), "dims": ()})
        yield Sample("rows", (_draw(3, 4),), {"shifts": (-1,), "dims": (0,)})
        yield Sample("two, strided", (_draw(4, 3).T,), {"shifts": (2, -3), "dims": (-1, 0)})
        yield Sample("empty batch", (_draw(0, 3),), {"shifts": (1,), "dims": (1,)})


register(Roll())


class Repeat(Op):
    """The array put side by side with itself ``repeats[d]`` times along each dimension; new dimensions come first."""

    name = "repeat"

    def infer(self, *inputs: Any, repeats: Shape) -> Inferred:
        (x,) = inputs
        if len(repeats) < x.ndim:
            raise ShapeError(f"repeat: repeats needs at least {x.ndim} numbers, got {len(repeats)}")
        if any(times < 0 for times in repeats):
            raise ShapeError(f"repeat: repeats must not be negative, got {repeats}")
        shape = (1,) * (len(repeats) - x.ndim) + tuple(x.shape)
        return Inferred((Spec(tuple(e * r for e, r in zip(shape, repeats, strict=True)), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, repeats: Shape) -> Any:
        (x,) = inputs
        ctx.state = tuple(x.shape)
        return module_of(x).tile(x, repeats) if repeats else x.copy()

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        repeats, shape = ctx.attributes["repeats"], ctx.state
        extra = len(repeats) - len(shape)
        split: list[int] = []
        for times, extent in zip(repeats, (1,) * extra + shape, strict=True):
            split += [times, extent]
        summed = grad.reshape(split).sum(axis=tuple(range(0, len(split), 2)), dtype=compute_dtype(grad.dtype))
        return (summed.reshape(shape).astype(grad.dtype, copy=False),)

    def samples(self) -> Iterator[Sample]:
        yield Sample("matrix", (_draw(2, 3),), {"repeats": (2, 3)})
        yield Sample("new dimensions, strided", (_draw(3, 2).T,), {"repeats": (2, 1, 1, 2)})
        yield Sample("0-d", (_draw(),), {"repeats": (3,)})
        yield Sample("empty batch", (_draw(0, 3),), {"repeats": (2, 2)})


register(Repeat())


class Triangle(Op):
    """The lower (``tril``) or upper (``triu``) triangle of matrices, the rest 0; ``diagonal`` moves its edge."""

    def __init__(self, name: str) -> None:
        self.name = name

    def infer(self, *inputs: Any, diagonal: int) -> Inferred:
        (x,) = inputs
        if x.ndim < 2:
            raise ShapeError(f"{self.name}: input must have at least 2 dimensions, got shape {tuple(x.shape)}")
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, diagonal: int) -> Any:
        (x,) = inputs
        module = module_of(x)
        rows, columns = x.shape[-2:]
        below = module.arange(columns) - module.arange(rows).reshape(-1, 1)
        kept = below <= diagonal if self.name == "tril" else below >= diagonal
        return module.where(kept, x, x.dtype.type(0))

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        return (self.forward(ctx, *grad_outputs, diagonal=ctx.attributes["diagonal"]),)

    def samples(self) -> Iterator[Sample]:
        yield Sample("square", (_draw(4, 4),), {"diagonal": 0})
        yield Sample("wide, below", (_draw(3, 5),), {"diagonal": -1})
        yield Sample("stack, strided, above", (_draw(4, 3, 2).T,), {"diagonal": 1})
        yield Sample("empty batch", (_draw(0, 3, 3),), {"diagonal": 0})


register(Triangle("tril"))
register(Triangle("triu"))
