"""How the CPU cuts a convolution into blocks of output pixels, what of the input a block reads, and how it ends.

Images are (N, D, H, W, C). A block is what one thread works on at a time, small enough for its cache.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from gpunet.backend.memory import scratch
from gpunet.backend.threads import parallel_for, single_threaded_blas
from gpunet.ops.convolution_window import Sizes
from gpunet.ops.epilogue import add_epilogue

__all__ = ["Block", "Epilogue", "Window", "block_region", "cut", "run_blocks"]

Block = tuple[int, int, int, int, int, int]  # first image, end, first plane, end, first row, end

# A block's patch matrix should stay in the caches until its product is done, and be worth the calls it costs.
_PATCH_BYTES = 1 << 21
_MIN_ROWS = 192


class Window(NamedTuple):
    """A sliding window as the blocks see it: where it starts relative to the input, and how it steps.

    ``start`` is the input position under the first tap of the first output pixel: minus the padding, or, for
    gradients, anything.
    """

    kernel: Sizes
    stride: Sizes
    dilation: Sizes
    start: Sizes


class Epilogue(NamedTuple):
    """What follows the products while a block is still in the cache: y = activation(products + b + r).

    Attributes:
        bias: (K,) or None; whoever multiplies adds it.
        residual: (N, D', H', W', K) or None, in any memory order.
        activation: None or ``"relu"``.
    """

    bias: Any = None
    residual: Any = None
    activation: str | None = None

    def finish(self, result: np.ndarray, block: Block) -> None:
        """Add the residual to a block's pixels (images, planes, rows, columns, K) and apply the activation."""
        first, last, plane, plane_end, row, row_end = block
        part = None if self.residual is None else self.residual[first:last, plane:plane_end, row:row_end]
        add_epilogue(result, part, self.activation)


def cut(images: int, size: Sizes, depth: int, itemsize: int) -> list[Block]:
    """Cut output pixels into blocks (images, planes, rows from and to) whose patch matrices fit the cache."""
    planes, rows, columns = size
    if images * planes * rows * columns == 0:
        return []
    pixels = max(_MIN_ROWS, _PATCH_BYTES // max(1, depth * itemsize))
    per_block = max(1, pixels // columns)
    if per_block >= planes * rows:
        step = max(1, per_block // (planes * rows))
        return [(n, min(n + step, images), 0, planes, 0, rows) for n in range(0, images, step)]
    if per_block >= rows:
        thick = -(-planes // -(-planes // (per_block // rows)))
        starts = itertools.product(range(images), range(0, planes, thick))
        return [(n, n + 1, d, min(d + thick, planes), 0, rows) for n, d in starts]
    height = -(-rows // -(-rows // per_block))
    cells = itertools.product(range(images), range(planes), range(0, rows, height))
    return [(n, n + 1, d, d + 1, p, min(p + height, rows)) for n, d, p in cells]


def padded_region(
    x: np.ndarray, images: slice, start: Sizes, extent: Sizes, region: np.ndarray | None = None
) -> np.ndarray:
    """The region of x that starts at ``start``, zero outside x; a view of x where it lies inside.

    A ``region`` that a call with the same geometry returned has its zeros already: only the inside is copied.
    """
    spans = []
    inside = True
    for first, length, size in zip(start, extent, x.shape[1:4], strict=True):
        begin = min(max(0, -first), length)
        end = min(max(begin, size - first), length)
        inside = inside and begin == 0 and end == length
        spans.append((begin, end))
    source = x[(images, *(slice(first + a, first + b) for first, (a, b) in zip(start, spans, strict=True)))]
    if inside:
        return source
    (d, d_end), (h, h_end), (w, w_end) = spans
    if region is None:
        region = scratch("conv.region", (images.stop - images.start, *extent, x.shape[4]), x.dtype)
        for border in (
            region[:, :d],
            region[:, d_end:],
            region[:, d:d_end, :h],
            region[:, d:d_end, h_end:],
            region[:, d:d_end, h:h_end, :w],
            region[:, d:d_end, h:h_end, w_end:],
        ):
            if border.size:
                border[...] = 0
    region[:, d:d_end, h:h_end, w:w_end] = source
    return region


def reach(counts: Sizes, window: Window) -> Sizes:
    """How far the windows of so many output pixels reach, in each dimension."""
    return tuple(
        (count - 1) * s + (k - 1) * d + 1
        for count, s, k, d in zip(counts, window.stride, window.kernel, window.dilation, strict=True)
    )


def block_region(x: np.ndarray, block: Block, columns: int, window: Window, kept: Any = None) -> np.ndarray:
    """The part of x, with its padding, that a block of output pixels reads."""
    first, last, plane, plane_end, row, row_end = block
    corner = (plane, row, 0)
    start = tuple(at + o * s for at, o, s in zip(window.start, corner, window.stride, strict=True))
    extent = reach((plane_end - plane, row_end - row, columns), window)
    return padded_region(x, slice(first, last), start, extent, kept)


def run_blocks(count: int, macs: int, body: Any) -> None:
    """All blocks: on the threads if the work is worth handing over."""
    if count > 1 and macs > 1 << 20:
        parallel_for(count, body)
    elif macs > 1 << 18:
        with single_threaded_blas():
            for index in range(count):
                body(index)
    else:
        for index in range(count):
            body(index)
