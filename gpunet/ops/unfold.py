"""Unfold and fold: the patches of images as columns, and columns added up to images.

    unfold: y[n, (c, r, s), (p, q)] = x[n, c, p·sh + r·dh - top, q·sw + s·dw - left]
    fold:   y[n, c, h, w] = sum of x[n, (c, r, s), (p, q)] over all r, s, p, q that unfold reads from (h, w)

Images (N, C, H, W), columns (N, C·R·S, P·Q); what lies outside an image is 0. Each is the other's gradient. Columns are
in row-major order, as a matrix product wants them; the images that fold gives are physically NHWC.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.backend.memory import empty, empty_nhwc
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.convolution_window import Pair, Sizes, check_window, tap_slices
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.windows import over_images

__all__: list[str] = []


def _gather(x: Any, size: Pair, attributes: dict[str, Any]) -> Any:
    """The columns of x (N, C, H, W)."""
    kernel, padding = attributes["kernel_size"], attributes["padding"]
    module = module_of(x)
    n, c, h, w = x.shape
    (top, left), (height, width) = padding, (h + 2 * padding[0], w + 2 * padding[1])
    columns = empty((n, c, *kernel, *size), x.dtype, module)

    def run(images: slice) -> None:
        # Row-major first: a tap's rows are then copied as rows.
        padded = module.zeros((images.stop - images.start, c, height, width), x.dtype)
        padded[:, :, top : top + h, left : left + w] = x[images]
        for (r, s), seen in tap_slices(kernel, size, attributes["stride"], attributes["dilation"]):
            columns[images, :, r, s] = padded[(slice(None), slice(None), *seen)]

    over_images(module, n, math.prod(columns.shape), x.dtype.itemsize, run)
    return columns.reshape(n, c * math.prod(kernel), math.prod(size))


def _scatter(columns: Any, shape: Sizes, size: Pair, attributes: dict[str, Any]) -> Any:
    """Columns added up to an image of ``shape``."""
    kernel, padding = attributes["kernel_size"], attributes["padding"]
    module = module_of(columns)
    n, c, h, w = shape
    (top, left), (height, width) = padding, (h + 2 * padding[0], w + 2 * padding[1])
    split = columns.reshape(n, c, *kernel, *size)
    image = empty_nhwc((n, c, h, w), columns.dtype, module)
    carry = compute_dtype(columns.dtype)

    def run(images: slice) -> None:
        padded = module.zeros((images.stop - images.start, c, height, width), carry)
        for (r, s), seen in tap_slices(kernel, size, attributes["stride"], attributes["dilation"]):
            padded[(slice(None), slice(None), *seen)] += split[images, :, r, s]
        image[images] = padded[:, :, top : top + h, left : left + w]

    over_images(module, n, math.prod(columns.shape), columns.dtype.itemsize, run)
    return image


def _check(op: str, shape: Sizes, attributes: dict[str, Any]) -> Pair:
    padding = tuple((extent, extent) for extent in attributes["padding"])
    size: Pair = check_window(
        op, shape, attributes["kernel_size"], attributes["stride"], padding, attributes["dilation"]
    )
    return size


class Unfold(Op):
    """The patches of images as columns (im2col)."""

    name = "unfold"

    def infer(self, *inputs: Any, **attributes: Any) -> Inferred:
        (x,) = inputs
        if x.ndim != 4:
            raise ShapeError(f"unfold: input must be (N, C, H, W) or (C, H, W), got shape {tuple(x.shape)}")
        require_floating("unfold", "input", x)
        size = _check("unfold", tuple(x.shape), attributes)
        shape = (x.shape[0], x.shape[1] * math.prod(attributes["kernel_size"]), math.prod(size))
        return Inferred((Spec(shape, x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        (x,) = inputs
        size = _check("unfold", tuple(x.shape), attributes)
        ctx.state = tuple(x.shape), size
        return _gather(x, size, attributes)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        shape, size = ctx.state
        return (_scatter(grad_outputs[0], shape, size, ctx.attributes),)

    def samples(self) -> Iterator[Sample]:
        for label, shape, attributes in _CASES:
            yield Sample(label, (_draw(*shape),), attributes)
        yield Sample("channels last", (_draw(2, 5, 6, 3).transpose(0, 3, 1, 2),), _CASES[0][2])


class Fold(Op):
    """Columns added up to images (col2im)."""

    name = "fold"

    def infer(self, *inputs: Any, output_size: Pair, **attributes: Any) -> Inferred:
        (x,) = inputs
        if x.ndim != 3:
            raise ShapeError(f"fold: input must be (N, C * kernel, L) or (C * kernel, L), got shape {tuple(x.shape)}")
        require_floating("fold", "input", x)
        cells = math.prod(attributes["kernel_size"])
        if min(output_size) < 1:
            raise ShapeError(f"fold: output_size must be at least 1, got {output_size}")
        if min(attributes["kernel_size"]) > 0 and (x.shape[1] == 0 or x.shape[1] % cells):
            raise ShapeError(
                f"fold: input must have a multiple of {cells} rows for kernel_size {attributes['kernel_size']}, got "
                f"shape {tuple(x.shape)}"
            )
        shape = (x.shape[0], x.shape[1] // max(cells, 1), *output_size)
        size = _check("fold", shape, attributes)
        if x.shape[2] != math.prod(size):
            raise ShapeError(
                f"fold: input must have {math.prod(size)} columns, {size[0]} x {size[1]} windows over {output_size}, "
                f"got shape {tuple(x.shape)}"
            )
        return Inferred((Spec(shape, x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, output_size: Pair, **attributes: Any) -> Any:
        (x,) = inputs
        shape = self.infer(x, output_size=output_size, **attributes).outputs[0].shape
        size = _check("fold", shape, attributes)
        ctx.state = size
        return _scatter(x, shape, size, attributes)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        return (_gather(grad_outputs[0], ctx.state, ctx.attributes),)

    def samples(self) -> Iterator[Sample]:
        for label, (n, c, h, w), attributes in _CASES:
            size = _check("fold", (n, c, h, w), attributes)
            columns = _draw(n, c * math.prod(attributes["kernel_size"]), math.prod(size))
            yield Sample(label, (columns,), {"output_size": (h, w), **attributes})


def _draw(*shape: int) -> Any:
    return np.random.default_rng(67).standard_normal(shape)


def _window(kernel: Pair, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)) -> dict[str, Any]:
    return {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}


_CASES: list[tuple[str, Sizes, dict[str, Any]]] = [
    ("3x2 padded", (2, 3, 5, 6), _window((3, 2), padding=(1, 1))),
    ("stride, dilation", (1, 2, 9, 8), _window((2, 3), (3, 2), (1, 0), (2, 2))),
    ("stride larger than the kernel", (1, 1, 7, 7), _window((2, 2), (3, 4))),
    ("one pixel", (2, 2, 3, 3), _window((1, 1))),
    ("several blocks", (5, 8, 20, 20), _window((3, 3), padding=(1, 1))),
    ("empty batch", (0, 3, 5, 6), _window((3, 3))),
]

register(Unfold())
register(Fold())
