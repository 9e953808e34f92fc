"""Convolutions and their gradients on the CPU: patches of a block of output pixels, times the weights.

Everything here works on three spatial dimensions, channels last: images are (N, D, H, W, C), one- and two-dimensional
ones have dimensions of size one (``lift``). A block's patch matrix stays in the cache until its product is done; the
blocks run on the threads. Three functions make all six operations:

    convolve         y from x and w; the gradient of a transposed convolution's input is it
    input_gradient   dx from dy and w; a transposed convolution is it. For each of the sh·sw phases of its pixels it
                     is a stride-1 convolution of dy with the part of the flipped kernel that reaches that phase, so
                     that no zero is ever multiplied
    weight_gradient  dw from dy and x, blocks added in a fixed order

Groups too small for a matrix product to be worth its call are multiplied by block-diagonal matrices, a few at a time;
the smallest (depthwise convolutions) go to ``convolution_thin``. Nothing is accumulated into an output.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gpunet.backend.memory import empty, scratch
from gpunet.ops import convolution_thin as thin
from gpunet.ops.convolution_blocks import Block, Epilogue, Window, block_region, cut, run_blocks
from gpunet.ops.convolution_window import Geometry, Sizes, phase_taps
from gpunet.ops.windows import channels_first, channels_last

__all__ = ["convolve", "input_gradient", "weight_gradient"]

# Groups of fewer channels are joined for a matrix product ...
_WORTH_A_PRODUCT = 16
# ... unless they have so few that multiplying channel by channel is faster.
_THIN = (2, 8)


def _is_thin(groups: int, inner: int, outer: int) -> bool:
    """Whether groups of so many channels in and out go channel by channel."""
    return groups > 1 and inner <= _THIN[0] and outer <= _THIN[1]


def lift(values: Any, fill: Any) -> Any:
    """Sizes of one, two or three dimensions as those of three. A single dimension becomes rows: blocks cut them."""
    count = len(values)
    return tuple(values) if count == 3 else (fill, *values, fill) if count == 1 else (fill, *values)


def _lift_pixels(x: Any) -> Any:
    """A channels-last image of one, two or three dimensions as (N, D, H, W, C)."""
    return x if x.ndim == 5 else x[:, None] if x.ndim == 4 else x[:, None, :, None]


def _lift_weight(weight: Any) -> Any:
    """(K, C/G, kernel) with a kernel of three dimensions."""
    return weight if weight.ndim == 5 else weight[:, :, None] if weight.ndim == 4 else weight[:, :, None, :, None]


class _Patches:
    """Reads the patch matrices of blocks of output pixels, one for each group of channels.

    What a block needs around the copying itself (views, borders of zeros) is made once for each thread and reused for
    every block of whole images: Python's share of the time would otherwise be as large as NumPy's.
    """

    def __init__(self, x: np.ndarray, size: Sizes, window: Window, groups: int) -> None:
        self.x = x
        self.size = size
        self.window = window
        self.channels = x.shape[4] // groups
        self.groups = groups
        self._kept: dict[tuple[int, int], tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]] = {}

    def read(self, block: Block) -> Iterator[np.ndarray]:
        """For each group the matrix (pixels, T·R·S·C/G), taps in row-major order; valid until the next one."""
        first, last, plane, plane_end, row, row_end = block
        key = (threading.get_ident(), last - first)
        whole = (plane_end - plane, row_end - row) == self.size[:2]
        kept = self._kept.get(key) if whole else None
        if kept is not None:
            region, copies = kept
            block_region(self.x, block, self.size[2], self.window, region)
        else:
            region = block_region(self.x, block, self.size[2], self.window)
            counts = (plane_end - plane, row_end - row)
            copies = [self._views(region, counts, group) for group in range(self.groups)]
            if whole and region.base is not self.x.base and not np.may_share_memory(region, self.x):
                self._kept[key] = region, copies
        for source, target, matrix in copies:
            if source is not target:
                np.copyto(target, source)
            yield matrix

    def _views(
        self, region: np.ndarray, counts: tuple[int, int], group: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What to copy, where to, and the result as a matrix; the first two are one where nothing has to be copied."""
        kernel, stride, dilation, _ = self.window
        c = self.channels
        region = region[..., group * c : (group + 1) * c]
        images = region.shape[0]
        steps = region.strides[1:4]
        pixels = tuple(a * b for a, b in zip(stride, steps, strict=True))
        taps = tuple(a * b for a, b in zip(dilation, steps, strict=True))
        shape: Sizes = (images, *counts, self.size[2], *kernel, c)
        strides: Sizes = (region.strides[0], *pixels, *taps, region.strides[4])
        if taps[2] == c * region.strides[4]:
            # Neighbouring taps are neighbours in memory: copy S·C values at a time.
            shape, strides = (*shape[:6], kernel[2] * c), (*strides[:6], region.strides[4])
        source = as_strided(region, shape, strides, writeable=False)
        size = (images * math.prod(counts) * self.size[2], math.prod(kernel) * c)
        if source.flags.c_contiguous:  # one tap at stride 1
            return source, source, source.reshape(size)
        target = scratch("conv.patches", shape, region.dtype)
        return source, target, target.reshape(size)


def _joined(groups: int, inner: int, outer: int) -> int:
    """How many groups of so many channels in and out to multiply at once."""
    least = min(inner, outer)
    return next(m for m in range(1, groups + 1) if groups % m == 0 and (m * least >= _WORTH_A_PRODUCT or m == groups))


def _matrices(order: Any, groups: int) -> list[Any]:
    """Weights (T, R, S, inner, outer·G) as a matrix for each set of joined groups."""
    inner, outer = order.shape[3], order.shape[4] // groups
    taps = math.prod(order.shape[:3])
    if groups == 1:
        return [order.reshape(taps * inner, outer)]
    joined = _joined(groups, inner, outer)
    split = order.reshape(taps, inner, groups // joined, joined, outer)
    if joined == 1:
        return [split[:, :, g, 0].reshape(taps * inner, outer) for g in range(groups)]
    diagonal = np.zeros((groups // joined, taps, joined, inner, joined, outer), order.dtype)
    for j in range(joined):
        diagonal[:, :, j, :, j] = split[:, :, :, j].transpose(2, 0, 1, 3)
    return list(diagonal.reshape(groups // joined, taps * joined * inner, joined * outer))


def _multiply(x: np.ndarray, order: Any, window: Window, out: np.ndarray, epilogue: Epilogue, groups: int) -> None:
    """Write a convolution of x (N, D, H, W, C) with weights (T, R, S, C/G, K) into out (N, D', H', W', K)."""
    if out.size == 0:
        return
    if _is_thin(groups, order.shape[3], order.shape[4] // groups):
        thin.multiply(x, order, window, out, epilogue, groups)
        return
    weights = _matrices(order, groups)
    images, *size, k = out.shape
    depth, width = weights[0].shape
    blocks = cut(images, (size[0], size[1], size[2]), depth, x.itemsize)
    patches = _Patches(x, tuple(size), window, len(weights))

    def run(index: int) -> None:
        first, last, plane, plane_end, row, row_end = blocks[index]
        target = out[first:last, plane:plane_end, row:row_end]
        pixels = math.prod(target.shape[:4])
        direct = target.flags.c_contiguous
        result = target.reshape(pixels, k) if direct else scratch("conv.result", (pixels, k), out.dtype)
        for group, (patch, matrix) in enumerate(zip(patches.read(blocks[index]), weights, strict=True)):
            np.matmul(patch, matrix, out=result[:, group * width : (group + 1) * width])
        if epilogue.bias is not None:
            result += epilogue.bias
        epilogue.finish(result.reshape(target.shape), blocks[index])
        if not direct:
            target[...] = result.reshape(target.shape)

    run_blocks(len(blocks), images * math.prod(size) * depth * k, run)


def convolve(
    x: Any,
    weight: Any,
    bias: Any,
    geometry: Geometry,
    size: Sizes,
    residual: Any = None,
    activation: str | None = None,
) -> Any:
    """y from x (N, C, ...), w (K, C/G, ...), b (K,) and r, which has y's shape; ``size`` is y's.

    The result is physically channels-last.
    """
    out = empty((x.shape[0], *size, weight.shape[0]), x.dtype)
    kernel = _lift_weight(weight)
    window = Window(
        kernel.shape[2:],
        lift(geometry.stride, 1),
        lift(geometry.dilation, 1),
        lift([-before for before, _ in geometry.padding], 0),
    )
    order = kernel.transpose(2, 3, 4, 1, 0)  # a view of contiguous memory in a layer's own weight
    added = None if residual is None else _lift_pixels(residual.transpose(0, *range(2, residual.ndim), 1))
    epilogue = Epilogue(bias, added, activation)
    _multiply(_lift_pixels(channels_last(x)), order, window, _lift_pixels(out), epilogue, geometry.groups)
    return channels_first(out)


def input_gradient(grad: Any, weight: Any, bias: Any, geometry: Geometry, shape: Sizes) -> Any:
    """dx of shape ``shape`` from dy and w, plus b (C,) if there is one, as a transposed convolution has it."""
    dx = empty((shape[0], *shape[2:], shape[1]), grad.dtype)
    target, dy = _lift_pixels(dx), _lift_pixels(channels_last(grad))
    kernel = _lift_weight(weight)
    groups = geometry.groups
    stride = lift(geometry.stride, 1)
    # For each dimension and phase: the taps, the offset of the first, their distance.
    phases = [
        [phase_taps(phase, k, s, pad[0], d) for phase in range(min(s, size))]
        for k, s, pad, d, size in zip(
            kernel.shape[2:],
            stride,
            lift(geometry.padding, (0, 0)),
            lift(geometry.dilation, 1),
            target.shape[1:4],
            strict=True,
        )
    ]
    k, per_group = kernel.shape[:2]
    split = kernel.reshape(groups, k // groups, *kernel.shape[1:])
    for at in itertools.product(*(range(len(phase)) for phase in phases)):
        part = target[(slice(None), *(slice(a, None, s) for a, s in zip(at, stride, strict=True)))]
        chosen = [phase[a] for phase, a in zip(phases, at, strict=True)]
        if not all(taps for taps, _, _ in chosen):
            part[...] = 0 if bias is None else bias
            continue
        used = split
        for axis, (taps, _, _) in enumerate(chosen):
            length = kernel.shape[2 + axis]
            if length > 1:
                used = used[(slice(None),) * (3 + axis) + (taps if len(taps) < length else slice(None, None, -1),)]
        count = tuple(len(taps) for taps, _, _ in chosen)
        order = used.transpose(3, 4, 5, 1, 0, 2).reshape(*count, k // groups, groups * per_group)
        offset, step = tuple(o for _, o, _ in chosen), tuple(d for _, _, d in chosen)
        _multiply(dy, order, Window(count, (1, 1, 1), step, offset), part, Epilogue(bias), groups)
    return channels_first(dx)


def weight_gradient(grad: Any, x: Any, shape: Sizes, geometry: Geometry) -> Any:
    """dw of shape ``shape`` (K, C/G, ...) from dy and x; physically (..., C/G, K)."""
    dy, source = _lift_pixels(channels_last(grad)), _lift_pixels(channels_last(x))
    k, per_group, *kernel = shape
    window = Window(
        lift(kernel, 1),
        lift(geometry.stride, 1),
        lift(geometry.dilation, 1),
        lift([-before for before, _ in geometry.padding], 0),
    )
    groups = geometry.groups
    if _is_thin(groups, per_group, k // groups):
        taps = thin.weight_gradient(dy, source, per_group, window, groups)
    else:
        taps = _weight_taps(dy, source, per_group, window, groups)
    taps = taps.reshape(*kernel, per_group, k)
    return taps.transpose(taps.ndim - 1, taps.ndim - 2, *range(len(kernel)))


def _weight_taps(dy: Any, x: Any, per_group: int, window: Window, groups: int) -> Any:
    """dw as (T, R, S, C/G, K)."""
    images, *size, k = dy.shape
    joined = _joined(groups, per_group, k // groups)
    sets, width, outer = groups // joined, joined * (k // groups), k // groups
    depth = math.prod(window.kernel) * joined * per_group
    blocks = cut(images, (size[0], size[1], size[2]), depth, x.itemsize)
    # A few sums that each add their blocks in order, and are then added in order: fixed, whatever the threads do.
    chunks = max(1, min(len(blocks), 8 if depth * width * sets < 1 << 20 else 4))
    sums = np.zeros((chunks, sets, depth, width), x.dtype)
    patches = _Patches(x, tuple(size), window, sets)

    def run(chunk: int) -> None:
        product = scratch("conv.weight", (depth, width), x.dtype)
        for block in blocks[chunk * len(blocks) // chunks : (chunk + 1) * len(blocks) // chunks]:
            first, last, plane, plane_end, row, row_end = block
            gradient = dy[first:last, plane:plane_end, row:row_end]
            for g, patch in enumerate(patches.read(block)):
                right = gradient[..., g * width : (g + 1) * width]
                if not right.flags.c_contiguous:
                    buffer = scratch("conv.gradient", right.shape, x.dtype)
                    buffer[...] = right
                    right = buffer
                np.matmul(patch.T, right.reshape(-1, width), out=product)
                sums[chunk, g] += product

    if blocks:
        run_blocks(chunks, images * math.prod(size) * depth * k, run)
    total = sums[0]
    for chunk in range(1, chunks):
        total += sums[chunk]
    taps = total.reshape(sets, -1, joined, per_group, joined, outer)
    if joined == 1:
        return np.ascontiguousarray(taps[:, :, 0, :, 0].transpose(1, 2, 0, 3)).reshape(*window.kernel, per_group, k)
    own = np.stack([taps[:, :, j, :, j] for j in range(joined)], axis=3)  # (sets, taps, C/G, joined, K/G)
    return np.ascontiguousarray(own.transpose(1, 2, 0, 3, 4)).reshape(*window.kernel, per_group, k)
