"""Convolutions of one or two input channels a group (depthwise ones) on the CPU, without matrix products.

    y[n,d,p,q,k] = sum_{i,t,r,s} x'[i, n, d·sd + t·dd, p·sh + r·dh, q·sw + s·dw, k] w[t,r,s,i,k]

x' has a copy of x for each of the inputs i of a group, in which channel k is the i-th that output channel k reads: what
is left is a product of equal channels. One ``einsum`` reads shifted views of x' and adds up all taps of a block of
pixels. NumPy is fast where its inner loop is long, so the weights are repeated for each of the q columns and a row of
q·K values is one loop; with a stride the columns are first sorted by their remainder, which makes them neighbours.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gpunet.backend.memory import scratch
from gpunet.ops.convolution_blocks import Block, Epilogue, Window, block_region, cut, run_blocks
from gpunet.ops.convolution_window import Sizes

__all__ = ["multiply", "weight_gradient"]

# Values in the inner loop: the weights of a whole kernel are repeated to this length and should stay in the cache.
_LOOP = 4096


class _Columns(NamedTuple):
    """Taps whose columns have one remainder by the stride: which they are, and where their columns lie."""

    taps: slice
    remainder: int
    offset: int
    step: int


def _sorted_columns(window: Window) -> list[_Columns]:
    """The taps of a row by the remainder of their columns; those of one remainder lie at equal distances."""
    count, stride, dilation = window.kernel[2], window.stride[2], window.dilation[2]
    apart = stride // math.gcd(stride, dilation)
    return [
        _Columns(slice(j, None, apart), j * dilation % stride, j * dilation // stride, apart * dilation // stride)
        for j in range(min(apart, count))
    ]


class _Reader:
    """Reads x' for blocks of output pixels, as views of shifted rows.

    Images of one column (sequences) are turned by 90 degrees, since the inner loop runs along columns.
    """

    def __init__(
        self, x: np.ndarray, inner: int, k: int, size: Sizes, window: Window, groups: int, blocks: list[Block]
    ) -> None:
        self.x, self.inner, self.k, self.size, self.window, self.groups = x, inner, k, size, window, groups
        self.turned = (size[2], x.shape[3], window.kernel[2], window.start[2]) == (1, 1, 1, 0)
        self.seen = Window(*((d, w, h) for d, h, w in window)) if self.turned else window
        self.sorted = _sorted_columns(self.seen)
        columns = blocks[0][5] - blocks[0][4] if self.turned else size[2]
        self.chunk = -(-columns // -(-columns // max(1, _LOOP // k)))

    def turn(self, pixels: Any) -> Any:
        """Pixels (N, D, H, W, K) as they are read."""
        return pixels.swapaxes(2, 3) if self.turned else pixels

    def read(self, block: Block) -> list[list[np.ndarray]]:
        """For each stretch and remainder a view (i, t, r, s, n, d, p, u, q·K), valid until the next block."""
        region = self.turn(block_region(self.x, block, self.size[2], self.window))
        counts = (block[3] - block[2], block[5] - block[4], self.size[2])
        planes, rows, columns = (counts[0], counts[2], counts[1]) if self.turned else counts
        stride, k, itemsize = self.seen.stride[2], self.k, region.itemsize
        images, depth, height = region.shape[:3]
        if stride == 1 and self.inner == 1 and k == region.shape[4] and region.strides[3:] == (k * itemsize, itemsize):
            image = region[None, :, :, :, None]
        else:
            long = columns + max(part.offset + part.step * (self._count(part) - 1) for part in self.sorted)
            shape = (self.inner, images, depth, height, len(self.sorted), long, k)
            image = scratch("conv.thin", shape, region.dtype)
            own = region.reshape(*region.shape[:4], self.groups, self.inner)
            for i in range(self.inner):
                target = image[i].reshape(*shape[1:6], self.groups, k // self.groups)
                for number, part in enumerate(self.sorted):
                    values = own[:, :, :, part.remainder :: stride, :, i, None][:, :, :, :long]
                    target[:, :, :, number, : values.shape[3]] = values
        return [
            [
                self._view(image, number, part, start // k, (images, planes, rows, count, length))
                for number, part in enumerate(self.sorted)
            ]
            for start, count, length in self.stretches(columns)
        ]

    def _count(self, part: _Columns) -> int:
        return len(range(self.seen.kernel[2])[part.taps])

    def _view(self, image: np.ndarray, number: int, part: _Columns, start: int, pixels: Sizes) -> np.ndarray:
        (t, r, _), (sd, sh, _), (dd, dh, _), _ = self.seen
        i_step, n_step, d_step, h_step, _, w_step, c_step = image.strides
        taps = (i_step, dd * d_step, dh * h_step, part.step * w_step)
        return as_strided(
            image[:, :, :, :, number, part.offset + start :],
            (self.inner, t, r, self._count(part), *pixels),
            (*taps, n_step, sd * d_step, sh * h_step, self.chunk * w_step, c_step),
            writeable=False,
        )

    def repeated(self, order: Any) -> list[np.ndarray]:
        """Weights (T, R, S, i, K) for each remainder as (i, t, r, s, q·K), the same for every column."""
        order = order.swapaxes(1, 2) if self.turned else order
        result = []
        for part in self.sorted:
            taps = order[:, :, part.taps].transpose(3, 0, 1, 2, 4)
            shape = (*taps.shape[:4], self.chunk, self.k)
            result.append(np.ascontiguousarray(np.broadcast_to(taps[..., None, :], shape)).reshape(*shape[:4], -1))
        return result

    def stretches(self, columns: int) -> list[tuple[int, int, int]]:
        """A row of columns as u inner loops of equal length and a rest: where each starts in q·K, u, the length."""
        full, rest = divmod(columns, self.chunk)
        length = self.chunk * self.k
        return [
            (start, count, size)
            for start, count, size in ((0, full, length), (full * length, 1, rest * self.k))
            if count * size
        ]


def _merged(block: np.ndarray) -> bool:
    """Whether a row of pixels is one stretch of memory."""
    return block.strides[4] == block.itemsize and block.strides[3] == block.shape[4] * block.itemsize


def multiply(x: np.ndarray, order: Any, window: Window, out: np.ndarray, epilogue: Epilogue, groups: int) -> None:
    """Write a convolution of x (N, D, H, W, C) with weights (T, R, S, C/G, K) into out (N, D', H', W', K)."""
    images, *size, k = out.shape
    inner = order.shape[3]
    blocks = cut(images, tuple(size), 2 * inner * k, x.itemsize)
    reader = _Reader(x, inner, k, tuple(size), window, groups, blocks)
    weights = reader.repeated(order)
    shift = None if epilogue.bias is None else np.tile(epilogue.bias, reader.chunk)

    def run(index: int) -> None:
        first, last, plane, plane_end, row, row_end = blocks[index]
        target = reader.turn(out[first:last, plane:plane_end, row:row_end])
        n, d, p, columns, _ = target.shape
        direct = _merged(target)
        result = target if direct else scratch("conv.result", target.shape, out.dtype)
        lines = result.reshape(n, d, p, columns * k)
        stretches = reader.stretches(columns)
        for (start, count, length), views in zip(stretches, reader.read(blocks[index]), strict=True):
            line = lines[..., start : start + count * length].reshape(n, d, p, count, length)
            for number, (view, weight) in enumerate(zip(views, weights, strict=True)):
                total = line if number == 0 else scratch("conv.product", line.shape, out.dtype)
                np.einsum("itrsndpuq,itrsq->ndpuq", view, weight[..., :length], out=total)
                if number:
                    line += total
            if shift is not None:
                line += shift[:length]
        epilogue.finish(reader.turn(result), blocks[index])
        if not direct:
            target[...] = result

    run_blocks(len(blocks), out.size * math.prod(window.kernel) * inner, run)


def weight_gradient(dy: np.ndarray, x: np.ndarray, inner: int, window: Window, groups: int) -> Any:
    """dw as (T, R, S, C/G, K) from dy (N, D', H', W', K) and x (N, D, H, W, C)."""
    images, *size, k = dy.shape
    if dy.size == 0:
        return np.zeros((*window.kernel, inner, k), x.dtype)
    blocks = cut(images, tuple(size), 2 * inner * k, x.itemsize)
    reader = _Reader(x, inner, k, tuple(size), window, groups, blocks)
    chunks = min(len(blocks), 8)  # a fixed number of sums: the bits do not depend on the threads
    sums = np.zeros((chunks, inner, *reader.seen.kernel, k), x.dtype)

    def run(chunk: int) -> None:
        for block in blocks[chunk * len(blocks) // chunks : (chunk + 1) * len(blocks) // chunks]:
            first, last, plane, plane_end, row, row_end = block
            gradient = reader.turn(dy[first:last, plane:plane_end, row:row_end])
            n, d, p, columns, _ = gradient.shape
            if not _merged(gradient):
                buffer = scratch("conv.gradient", gradient.shape, x.dtype)
                buffer[...] = gradient
                gradient = buffer
            lines = gradient.reshape(n, d, p, columns * k)
            stretches = reader.stretches(columns)
            for (start, count, length), views in zip(stretches, reader.read(block), strict=True):
                line = lines[..., start : start + count * length].reshape(n, d, p, count, length)
                for view, part in zip(views, reader.sorted, strict=True):
                    product = scratch("conv.product", (*view.shape[:4], length), x.dtype)
                    np.einsum("itrsndpuq,ndpuq->itrsq", view, line, out=product)
                    sums[chunk][:, :, :, part.taps] += product.reshape(*view.shape[:4], -1, k).sum(axis=-2)

    run_blocks(chunks, dy.size * math.prod(window.kernel) * inner, run)
    total = sums[0]
    for chunk in range(1, chunks):
        total += sums[chunk]
    if reader.turned:
        total = total.swapaxes(2, 3)
    return np.ascontiguousarray(total.transpose(1, 2, 3, 0, 4))
