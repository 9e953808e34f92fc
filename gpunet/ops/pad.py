"""Padding with the input's own values: its mirror image, its edge, or its opposite side.

    reflection_pad:  y[j] = x[u] mirrored at 0 and n - 1 without repeating the edge, for u = j - left
    replication_pad: y[j] = x[min(max(u, 0), n - 1)]
    circular_pad:    y[j] = x[u mod n]

in each padded dimension; a negative amount crops. ``padding`` runs from the last dimension as for the constant ``pad``:
(left, right, top, bottom, ...). The output has the input's memory order. PyTorch's definitions.

Each dimension of the output is at most three stretches, each of which reads a stretch of the input (backwards, in a
mirror). Forward copies a stretch of every dimension at a time, backward adds them in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.backend.memory import empty
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.dtypes import BOOL, compute_dtype

__all__ = ["BorderPad"]

Shape = tuple[int, ...]


class _Stretch(NamedTuple):
    """A part of one dimension of the output, and the part of the input it shows; ``edge``: one cell, repeated."""

    target: slice
    source: slice
    edge: bool


def _stretches(mode: str, extent: int, before: int, after: int) -> list[_Stretch]:
    """The parts of one dimension: what lies before the input, the input itself, and what lies behind it."""
    start = max(-before, 0)
    stop = min(extent, extent + after)
    parts = [_Stretch(slice(max(before, 0), max(before, 0) + stop - start), slice(start, stop), False)]
    end = parts[0].target.stop
    if before > 0:
        parts.append(_Stretch(slice(0, before), _beyond(mode, extent, -before, 0), mode == "replicate"))
    if after > 0:
        source = _beyond(mode, extent, extent, extent + after)
        parts.append(_Stretch(slice(end, end + after), source, mode == "replicate"))
    return parts


def _beyond(mode: str, extent: int, first: int, last: int) -> slice:
    """The stretch of the input that is seen at places first .. last - 1 outside it."""
    if mode == "replicate":
        return slice(0, 1) if first < 0 else slice(extent - 1, extent)
    if mode == "circular":
        shift = extent if first < 0 else -extent
        return slice(first + shift, last + shift)
    mirror = 0 if first < 0 else 2 * (extent - 1)
    stop = mirror - last
    return slice(mirror - first, stop if stop >= 0 else None, -1)


class BorderPad(Op):
    """One of the three paddings with the input's own values."""

    def __init__(self, name: str, mode: str) -> None:
        self.name = name
        self.mode = mode

    def infer(self, *inputs: Any, padding: Shape) -> Inferred:
        (x,) = inputs
        if x.dtype == BOOL and self.mode != "circular":
            raise DTypeError(f"pad: input must be numbers for mode {self.mode!r}, got bool")
        images = x.shape if x.ndim == len(padding) // 2 + 1 else x.shape[1:]
        if self.mode != "circular" and min(images) == 0:
            raise ShapeError(f"pad: input must not be empty except in its batch, got shape {tuple(x.shape)}")
        shape = list(x.shape)
        for pair in range(len(padding) // 2):
            axis = x.ndim - 1 - pair
            before, after = padding[2 * pair], padding[2 * pair + 1]
            extent = shape[axis]
            limit, rule = (extent - 1, "less than") if self.mode == "reflect" else (extent, "at most")
            if self.mode != "replicate" and max(before, after) > limit:
                raise ShapeError(
                    f"pad: pad must be {rule} the size {extent} of dimension {axis} for mode {self.mode!r}, "
                    f"got ({before}, {after})"
                )
            shape[axis] += before + after
            if max(-before, 0) + max(-after, 0) >= extent or shape[axis] < 1:
                raise ShapeError(
                    f"pad: cropping by {before} and {after} leaves nothing of size {extent} in dimension {axis}"
                )
        return Inferred((Spec(tuple(shape), x.dtype),))

    def _copies(self, shape: Shape, padding: Shape) -> Iterator[tuple[Any, Any, Shape]]:
        """Target and source of each copy, the input itself first, and the dimensions in which one cell is repeated."""
        first = len(shape) - len(padding) // 2
        rows = [
            _stretches(self.mode, shape[axis], *padding[2 * pair : 2 * pair + 2])
            for axis in range(first, len(shape))
            for pair in (len(shape) - 1 - axis,)
        ]
        for parts in product(*rows):
            repeated = tuple(first + i for i, part in enumerate(parts) if part.edge)
            yield (..., *(part.target for part in parts)), (..., *(part.source for part in parts)), repeated

    def forward(self, ctx: Context, *inputs: Any, padding: Shape) -> Any:
        (x,) = inputs
        shape = self.infer(x, padding=padding).outputs[0].shape
        ctx.state = tuple(x.shape)
        y = _empty_as(x, shape)
        for target, source, _ in self._copies(tuple(x.shape), padding):
            y[target] = x[source]
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        dx = _empty_as(grad, ctx.state)
        carry = compute_dtype(grad.dtype)
        if carry != grad.dtype:
            dx = dx.astype(carry)
        dx[...] = 0
        for target, source, repeated in self._copies(ctx.state, ctx.attributes["padding"]):
            part = grad[target]
            dx[source] += part.sum(axis=repeated, keepdims=True, dtype=carry) if repeated else part
        return (dx.astype(grad.dtype, copy=False),)

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(17)
        image = rng.standard_normal((2, 4, 5, 3)).transpose(0, 3, 1, 2)
        yield Sample("image, channels last", (image,), {"padding": (1, 3, 0, 2)})
        yield Sample("rows", (rng.standard_normal((3, 5)),), {"padding": (2, 4)})
        yield Sample("crop", (image,), {"padding": (-1, 2, 2, -1)})
        yield Sample("volume", (rng.standard_normal((1, 2, 3, 4, 3)),), {"padding": (1, 1, 2, 0, 0, 2)})
        yield Sample("empty batch", (np.zeros((0, 3, 4)),), {"padding": (1, 1)})


def _empty_as(x: Any, shape: Shape) -> Any:
    """An uninitialised array whose channels are last in memory where those of ``x`` are."""
    module: Any = module_of(x)
    if x.ndim > 2 and x.strides[1] == x.itemsize:
        axes = (0, *range(2, x.ndim), 1)
        return empty(tuple(shape[axis] for axis in axes), x.dtype, module).transpose(
            0, x.ndim - 1, *range(1, x.ndim - 1)
        )
    return empty(shape, x.dtype, module)


for _name, _mode in (("reflection_pad", "reflect"), ("replication_pad", "replicate"), ("circular_pad", "circular")):
    register(BorderPad(_name, _mode))
