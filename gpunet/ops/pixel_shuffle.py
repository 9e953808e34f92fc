"""Rearranging channels: into pixels, out of pixels, and among groups.

    pixel_shuffle:   y[n, c, h r + i, w r + j] = x[n, c r^2 + i r + j, h, w]     (Shi et al. 2016, equation 4)
    pixel_unshuffle: its inverse
    channel_shuffle: y[n, c g + k] = x[n, k C/g + c]                             (Zhang et al. 2018, figure 1)

x (N, C, H, W), for channel_shuffle (N, C, ...), of any dtype; outputs are physically channels last. Each is a
permutation of elements, so that the gradient is that of the inverse permutation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.backend.memory import empty
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.windows import channels_first, channels_last

__all__ = ["ChannelShuffle", "PixelShuffle", "PixelUnshuffle"]


def _ordered(x: Any) -> Any:
    """A copy in row-major order."""
    y = empty(x.shape, x.dtype, module_of(x))
    y[...] = x
    return y


def _shuffle(x: Any, r: int) -> Any:
    n, depth, h, w = x.shape
    c = depth // (r * r)
    cells = channels_last(x).reshape(n, h, w, c, r, r).transpose(0, 1, 4, 2, 5, 3)
    return channels_first(_ordered(cells).reshape(n, h * r, w * r, c))


def _unshuffle(x: Any, r: int) -> Any:
    n, c, height, width = x.shape
    h, w = height // r, width // r
    cells = channels_last(x).reshape(n, h, r, w, r, c).transpose(0, 1, 3, 5, 2, 4)
    return channels_first(_ordered(cells).reshape(n, h, w, c * r * r))


class PixelShuffle(Op):
    """Channels to pixels."""

    name = "pixel_shuffle"

    def infer(self, *inputs: Any, factor: int) -> Inferred:
        (x,) = inputs
        n, depth, h, w = x.shape
        if factor < 1:
            raise ValueError(f"{self.name}: upscale_factor must be at least 1, got {factor}")
        if depth % (factor * factor):
            raise ShapeError(
                f"{self.name}: input must have a multiple of upscale_factor^2 = {factor * factor} channels, got {depth}"
            )
        return Inferred((Spec((n, depth // (factor * factor), h * factor, w * factor), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, factor: int) -> Any:
        return _shuffle(inputs[0], factor)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        return (_unshuffle(grad_outputs[0], ctx.attributes["factor"]),)

    def samples(self) -> Iterator[Sample]:
        yield from _samples((2, 8, 3, 4), {"factor": 2})
        yield Sample("factor 1", (np.ones((1, 2, 2, 3)),), {"factor": 1})


class PixelUnshuffle(Op):
    """Pixels to channels."""

    name = "pixel_unshuffle"

    def infer(self, *inputs: Any, factor: int) -> Inferred:
        (x,) = inputs
        n, c, h, w = x.shape
        if factor < 1:
            raise ValueError(f"{self.name}: downscale_factor must be at least 1, got {factor}")
        if h % factor or w % factor:
            raise ShapeError(
                f"{self.name}: input must have rows and columns in multiples of downscale_factor {factor}, got {(h, w)}"
            )
        return Inferred((Spec((n, c * factor * factor, h // factor, w // factor), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, factor: int) -> Any:
        return _unshuffle(inputs[0], factor)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        return (_shuffle(grad_outputs[0], ctx.attributes["factor"]),)

    def samples(self) -> Iterator[Sample]:
        yield from _samples((2, 3, 4, 6), {"factor": 2})


class ChannelShuffle(Op):
    """Channels dealt out among groups."""

    name = "channel_shuffle"

    def infer(self, *inputs: Any, groups: int) -> Inferred:
        (x,) = inputs
        if x.ndim < 3:
            raise ShapeError(f"{self.name}: input must be (N, C, ...) with 3 dimensions or more, got {tuple(x.shape)}")
        if groups < 1:
            raise ValueError(f"{self.name}: groups must be at least 1, got {groups}")
        if x.shape[1] % groups:
            raise ShapeError(f"{self.name}: input must have a multiple of groups {groups} channels, got {x.shape[1]}")
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, groups: int) -> Any:
        seen = channels_last(inputs[0])
        *outer, depth = seen.shape
        dealt = seen.reshape(*outer, groups, depth // groups).swapaxes(-1, -2)
        return channels_first(_ordered(dealt).reshape(*outer, depth))

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        return (self.forward(ctx, grad, groups=max(grad.shape[1], 1) // ctx.attributes["groups"] or 1),)

    def samples(self) -> Iterator[Sample]:
        yield from _samples((2, 6, 3, 4), {"groups": 3})


def _samples(shape: tuple[int, int, int, int], attributes: dict[str, Any]) -> Iterator[Sample]:
    x = np.random.default_rng(9).standard_normal(shape)
    yield Sample("channels first", (x,), attributes)
    yield Sample("channels last", (channels_first(_ordered(channels_last(x))),), attributes)
    yield Sample("empty batch", (x[:0],), attributes)


register(PixelShuffle())
register(PixelUnshuffle())
register(ChannelShuffle())
