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
from gpunet.ops.convolution_blocks import Block, Window, block_region, cut, run_blocks
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


def _as_rows(x: Any, order_or_none: Any, window: Window, out: Any) -> tuple[Any, Any, Window, Any]:
    """Images of one column turned by 90 degrees, since columns are what the inner loop runs along."""
    if out.shape[3] != 1 or x.shape[3] != 1 or window.kernel[2] != 1:
        return x, order_or_none, window, out
    turned = Window(*((a, c, b) for a, b, c in window))
    order = None if order_or_none is None else order_or_none.swapaxes(1, 2)
    return x.swapaxes(2, 3), order, turned, out.swapaxes(2, 3)


class _Reader:
    """Reads x' for blocks of output pixels: for each remainder a view (i, t, r, s, n, d, p, q·K) of shifted rows."""

    def __init__(self, x: np.ndarray, inner: int, k: int, columns: int, window: Window, groups: int) -> None:
        self.x, self.inner, self.k, self.columns, self.window, self.groups = x, inner, k, columns, window, groups
        self.sorted = _sorted_columns(window)
        chunks = -(-columns // max(1, _LOOP // k))
        self.chunk = -(-columns // chunks)

    def read(self, block: Block) -> list[np.ndarray]:
        """The views of a block, valid until the next; q runs over all columns."""
        window, k = self.window, self.k
        _, _, plane, plane_end, row, row_end = block
        region = block_region(self.x, block, self.columns, window)
        images, depth, height = region.shape[:3]
        stride = window.stride[2]
        long = self.columns + max(part.offset + part.step * (self._count(part) - 1) for part in self.sorted)
        itemsize = region.itemsize
        if stride == 1 and self.inner == 1 and k == region.shape[4] and region.strides[3:] == (k * itemsize, itemsize):
            image = region[None, :, :, :, None]
        else:
            shape = (self.inner, images, depth, height, len(self.sorted), long, k)
            image = scratch("conv.thin", shape, region.dtype)
            own = region.reshape(*region.shape[:4], self.groups, self.inner)
            for i in range(self.inner):
                target = image[i].reshape(*shape[1:6], self.groups, k // self.groups)
                for number, part in enumerate(self.sorted):
                    seen = own[:, :, :, part.remainder :: stride, :, i, None][:, :, :, :long]
                    target[:, :, :, number, : seen.shape[3]] = seen
        counts = (plane_end - plane, row_end - row)
        return [self._view(image, number, part, images, counts) for number, part in enumerate(self.sorted)]

    def _count(self, part: _Columns) -> int:
        return len(range(self.window.kernel[2])[part.taps])

    def _view(self, image: np.ndarray, number: int, part: _Columns, images: int, counts: Sizes) -> np.ndarray:
        (t, r, _), (sd, sh, _), (dd, dh, _), _ = self.window
        i_step, n_step, d_step, h_step, _, w_step, c_step = image.strides
        return as_strided(
            image[:, :, :, :, number, part.offset :],
            (self.inner, t, r, self._count(part), images, *counts, self.columns * self.k),
            (i_step, dd * d_step, dh * h_step, part.step * w_step, n_step, sd * d_step, sh * h_step, c_step),
            writeable=False,
        )

    def repeated(self, order: Any) -> list[np.ndarray]:
        """Weights (T, R, S, i, K) for each remainder as (i, t, r, s, q·K), the same for every column."""
        result = []
        for part in self.sorted:
            taps = order[:, :, part.taps].transpose(3, 0, 1, 2, 4)
            shape = (*taps.shape[:4], self.chunk, self.k)
            result.append(np.ascontiguousarray(np.broadcast_to(taps[..., None, :], shape)).reshape(*shape[:4], -1))
        return result

    def ranges(self) -> list[slice]:
        """The columns cut into inner loops, as positions in q·K."""
        length, step = self.columns * self.k, self.chunk * self.k
        return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _merged(block: np.ndarray) -> bool:
    """Whether a row of pixels is one stretch of memory."""
    return block.strides[4] == block.itemsize and block.strides[3] == block.shape[4] * block.itemsize


def multiply(x: np.ndarray, order: Any, window: Window, out: np.ndarray, bias: Any, groups: int) -> None:
    """Write a convolution of x (N, D, H, W, C) with weights (T, R, S, C/G, K) into out (N, D', H', W', K)."""
    x, order, window, out = _as_rows(x, order, window, out)
    images, planes, rows, columns, k = out.shape
    inner = order.shape[3]
    blocks = cut(images, (planes, rows, columns), 2 * inner * k, x.itemsize)
    reader = _Reader(x, inner, k, columns, window, groups)
    weights, ranges = reader.repeated(order), reader.ranges()
    shift = None if bias is None else np.tile(bias, reader.chunk)

    def run(index: int) -> None:
        first, last, plane, plane_end, row, row_end = blocks[index]
        target = out[first:last, plane:plane_end, row:row_end]
        direct = _merged(target)
        result = target if direct else scratch("conv.result", target.shape, out.dtype)
        lines = result.reshape(*result.shape[:3], columns * k)
        views = reader.read(blocks[index])
        for stretch in ranges:
            line = lines[..., stretch]
            length = line.shape[-1]
            for number, (view, weight) in enumerate(zip(views, weights, strict=True)):
                sum_here = line if number == 0 else scratch("conv.product", line.shape, out.dtype)
                np.einsum("itrsndpq,itrsq->ndpq", view[..., stretch], weight[..., :length], out=sum_here)
                if number:
                    line += sum_here
            if shift is not None:
                line += shift[:length]
        if not direct:
            target[...] = result

    run_blocks(len(blocks), out.size * math.prod(window.kernel) * inner, run)


def weight_gradient(dy: np.ndarray, x: np.ndarray, inner: int, window: Window, groups: int) -> Any:
    """dw as (T, R, S, C/G, K) from dy (N, D', H', W', K) and x (N, D, H, W, C)."""
    kernel, k = window.kernel, dy.shape[4]
    x, _, window, dy = _as_rows(x, None, window, dy)
    images, planes, rows, columns, _ = dy.shape
    if dy.size == 0:
        return np.zeros((*kernel, inner, k), x.dtype)
    blocks = cut(images, (planes, rows, columns), 2 * inner * k, x.itemsize)
    reader = _Reader(x, inner, k, columns, window, groups)
    chunks = min(len(blocks), 8)  # a fixed number of sums: the bits do not depend on the threads
    sums = np.zeros((chunks, inner, *window.kernel, k), x.dtype)
    ranges = reader.ranges()

    def run(chunk: int) -> None:
        for block in blocks[chunk * len(blocks) // chunks : (chunk + 1) * len(blocks) // chunks]:
            first, last, plane, plane_end, row, row_end = block
            gradient = dy[first:last, plane:plane_end, row:row_end]
            if not _merged(gradient):
                buffer = scratch("conv.gradient", gradient.shape, x.dtype)
                buffer[...] = gradient
                gradient = buffer
            lines = gradient.reshape(*gradient.shape[:3], columns * k)
            for view, part in zip(reader.read(block), reader.sorted, strict=True):
                for stretch in ranges:
                    seen = view[..., stretch]
                    product = scratch("conv.product", (*seen.shape[:4], seen.shape[-1]), x.dtype)
                    np.einsum("itrsndpq,ndpq->itrsq", seen, lines[..., stretch], out=product)
                    sums[chunk][:, :, :, part.taps] += product.reshape(*seen.shape[:4], -1, k).sum(axis=-2)

    run_blocks(chunks, dy.size * math.prod(kernel) * inner, run)
    total = sums[0]
    for chunk in range(1, chunks):
        total += sums[chunk]
    return np.ascontiguousarray(total.reshape(inner, *kernel, k).transpose(1, 2, 3, 0, 4))
