"""Windows over one to three spatial dimensions, as the poolings see them.

A pooling reads each window tap by tap: tap (r, s) of all windows at once is one strided view of the input, so a pooling
is a short loop over views of whole images. Windows that overlap a lot, or are large, are taken one dimension after the
other instead, since k + k views are fewer than k * k. The regions of an adaptive pooling are windows of unequal size;
they become a view a tap and region.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.backend.memory import empty
from gpunet.backend.threads import parallel_for
from gpunet.ops.base import Sample, module_of, require_floating

__all__ = [
    "LAYOUTS",
    "Tap",
    "adaptive_samples",
    "adaptive_taps",
    "axis_taps",
    "channels_first",
    "channels_last",
    "check_adaptive",
    "check_images",
    "check_pool",
    "distinct",
    "is_partition",
    "over_images",
    "passes",
    "pool_samples",
    "taps_of",
]

Extents = tuple[int, ...]

_BLOCK_BYTES = 1 << 20
_PARALLEL_FROM = 1 << 16
# More taps than this are taken one dimension after the other.
_MANY_TAPS = 16
# What reading a cell costs where whole rows are read, relative to single pixels.
_ROWS = 0.7

LAYOUTS = {1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}


class Tap(NamedTuple):
    """A cell of the windows along one dimension: its number, what it reads, and the windows that have it."""

    number: int
    source: slice
    target: slice


def axis_taps(extent: int, count: int, kernel: int, stride: int, padding: int, dilation: int) -> list[Tap]:
    """The taps of ``count`` sliding windows along a dimension, each with the windows where it is not padding."""
    taps = []
    for number in range(kernel):
        offset = number * dilation - padding
        first = max(0, -(offset // stride))
        last = min(count, (extent - 1 - offset) // stride + 1)
        if first < last:
            start = first * stride + offset
            source = slice(start, (last - 1) * stride + offset + 1, stride)
            taps.append(Tap(number, source, slice(first, last)))
    return taps


def adaptive_taps(extent: int, count: int) -> list[Tap]:
    """The taps of ``count`` adaptive regions, which overlap where they do not divide the dimension."""
    if count and extent % count == 0:
        return axis_taps(extent, count, extent // count, extent // count, 0, 1)
    regions = [(i * extent // count, -(-(i + 1) * extent // count)) for i in range(count)]
    longest = max((stop - start for start, stop in regions), default=0)
    return [
        Tap(number, slice(start + number, start + number + 1), slice(i, i + 1))
        for number in range(longest)
        for i, (start, stop) in enumerate(regions)
        if start + number < stop
    ]


def passes(
    taps: Sequence[list[Tap]], counts: Extents, extents: Extents, rows_first: bool = False
) -> list[tuple[int, ...]]:
    """Which dimensions to reduce together, in order: all at once, or one after the other, whichever is less work.

    Args:
        taps: of each dimension.
        counts: windows in each.
        extents: cells in each.
        rows_first: start with the first dimension, whose cells are whole rows of memory and cheaper to read; the last
            dimension otherwise, so that the first of equal cells is found in row-major order.
    """
    dims = len(taps)
    order = list(range(dims)) if rows_first else list(reversed(range(dims)))
    together = math.prod(counts) * math.prod(map(len, taps))
    single, shape = 0.0, list(extents)
    for axis in order:
        shape[axis] = counts[axis]
        single += math.prod(shape) * len(taps[axis]) * (_ROWS if rows_first else 1)
    if dims == 1 or (together <= single and math.prod(map(len, taps)) <= _MANY_TAPS):
        return [tuple(range(dims))]
    return [(axis,) for axis in order]


def taps_of(taps: Sequence[list[Tap]], axes: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Any, Any]]:
    """Each tap over some dimensions of (N, ..., C): its numbers, and the indices of what it reads and where it goes."""
    dims = len(taps)
    everything = slice(None)
    for chosen in product(*(taps[axis] for axis in axes)):
        source, target = [everything] * (dims + 1), [everything] * (dims + 1)
        for axis, tap in zip(axes, chosen, strict=True):
            source[axis + 1], target[axis + 1] = tap.source, tap.target
        yield tuple(tap.number for tap in chosen), tuple(source), tuple(target)


def over_images(module: Any, images: int, size: int, itemsize: int, body: Callable[[slice], None]) -> None:
    """Run ``body`` for slices of the batch: all of it on a GPU, cache-sized blocks on the CPU's threads."""
    if module is not np or size < _PARALLEL_FROM:
        body(slice(0, images))
        return
    step = max(1, _BLOCK_BYTES * images // max(1, size * itemsize))
    blocks = [slice(start, min(start + step, images)) for start in range(0, images, step)]
    parallel_for(len(blocks), lambda index: body(blocks[index]))


def channels_last(x: Any) -> Any:
    """(N, C, ...) seen as (N, ..., C) with contiguous channels; copied only if they are not."""
    seen = x.transpose(0, *range(2, x.ndim), 1)
    strides = seen.strides
    if (seen.shape[-1] == 1 or strides[-1] == seen.itemsize) and min(strides) >= 0:
        # A broadcast dimension would make every block read the same memory; that is fine to read.
        return seen
    if module_of(x) is not np:
        return module_of(x).ascontiguousarray(seen)
    copy = empty(seen.shape, seen.dtype)
    copy[...] = seen
    return copy


def channels_first(y: Any) -> Any:
    """(N, ..., C) seen as (N, C, ...)."""
    return y.transpose(0, y.ndim - 1, *range(1, y.ndim - 1))


def check_images(op: str, x: Any, dims: int) -> None:
    """Validate a batch of images, or of sequences or volumes.

    Raises:
        ShapeError: another rank, or nothing in an image.
        DTypeError: integers.
    """
    if x.ndim != dims + 2:
        layout = LAYOUTS[dims]
        raise ShapeError(f"{op}: input must be {layout} or {layout.replace('N, ', '')}, got shape {tuple(x.shape)}")
    require_floating(op, "input", x)
    if min(x.shape[1:]) == 0:
        raise ShapeError(f"{op}: input must not be empty except in its batch, got shape {tuple(x.shape)}")


def _output_size(extent: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    room = extent + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    # The last window must start inside the input or the padding before it.
    return count - 1 if (count - 1) * stride >= extent + padding else count


def check_pool(
    op: str,
    x: Any,
    dims: int,
    kernel: Extents,
    stride: Extents,
    padding: Extents,
    dilation: Extents,
    ceil_mode: bool,
) -> Extents:
    """Validate a pooling and return its output's spatial size.

    Raises:
        ShapeError: the input's rank, an argument out of range, or a window larger than the padded input.
        DTypeError: integers.
    """
    for name, values, low in (("kernel_size", kernel, 1), ("stride", stride, 1), ("dilation", dilation, 1)):
        if min(values) < low:
            raise ShapeError(f"{op}: {name} must be at least {low}, got {_shown(values)}")
    if min(padding) < 0:
        raise ShapeError(f"{op}: padding must not be negative, got {_shown(padding)}")
    if any(2 * pad > k for pad, k in zip(padding, kernel, strict=True)):
        raise ShapeError(f"{op}: padding must be at most half of kernel_size {_shown(kernel)}, got {_shown(padding)}")
    check_images(op, x, dims)
    size = []
    for extent, k, s, pad, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        count = _output_size(extent, k, s, pad, d, ceil_mode)
        if count < 1:
            raise ShapeError(
                f"{op}: kernel_size {_shown(kernel)} with dilation {_shown(dilation)} covers {d * (k - 1) + 1} pixels, "
                f"more than the padded input has ({extent + 2 * pad}); input shape {tuple(x.shape)}, "
                f"padding {_shown(padding)}"
            )
        size.append(count)
    return tuple(size)


def check_adaptive(op: str, x: Any, dims: int, output_size: Extents) -> None:
    """Validate an adaptive pooling.

    Raises:
        ShapeError: the input's rank, or a negative size.
        DTypeError: integers.
    """
    if min(output_size) < 0:
        raise ShapeError(f"{op}: output_size must not be negative, got {_shown(output_size)}")
    check_images(op, x, dims)


def _shown(values: Extents) -> str:
    return str(values[0]) if len(values) == 1 else str(values)


def is_partition(taps: Sequence[list[Tap]], axes: tuple[int, ...], shape: Extents) -> bool:
    """Whether each cell of (N, ..., C) belongs to one window exactly: it can be written rather than added to."""
    for axis in axes:
        extent = shape[axis + 1]
        cells = sorted(cell for tap in taps[axis] for cell in range(extent)[tap.source])
        if cells != list(range(extent)):
            return False
    return True


def distinct(*shape: int) -> Any:
    """An image, physically channels last, whose values differ by a step that finite differences do not reach."""
    values = np.random.default_rng(71).permutation(math.prod(shape)) / 50.0
    return channels_first(values.reshape(shape[0], *shape[2:], shape[1]))


def pool_samples(dims: int) -> Iterator[Sample]:
    """Sliding windows that every pooling is held to."""

    def sample(label: str, x: Any, kernel: Extents, stride: Extents, padding: Extents) -> Sample:
        attributes = {"kernel_size": kernel[:dims], "stride": stride[:dims], "padding": padding[:dims]}
        return Sample(label, (x,), attributes)

    def image(n: int, c: int, *spatial: int) -> Any:
        return distinct(n, c, *spatial[:dims])

    yield sample("tiles", image(2, 3, 4, 6, 4), (2, 2, 2), (2, 2, 2), (0, 0, 0))
    yield sample("overlapping, padded", image(2, 3, 7, 6, 5), (3, 3, 3), (2, 2, 2), (1, 1, 1))
    plain = np.ascontiguousarray(image(1, 2, 6, 6, 4))
    yield sample("batch 1, channels first", plain, (3, 2, 2), (1, 2, 1), (1, 0, 1))
    yield sample("stride larger than the kernel", image(1, 1, 9, 9, 5), (2, 2, 1), (4, 3, 2), (0, 0, 0))
    yield sample("non-contiguous", image(2, 3, 6, 12, 4)[..., ::2], (2, 2, 2), (2, 2, 1), (0, 0, 0))
    yield sample("one dimension after the other", image(2, 2, 7, 8, 6), (5, 4, 3), (1, 1, 1), (2, 1, 1))
    several = (9, 16, 24, 24) if dims == 2 else (9, 16, 600) if dims == 1 else (3, 8, 14, 16, 14)
    yield sample("several blocks", distinct(*several), (3, 3, 3), (2, 2, 2), (1, 1, 1))
    yield sample("empty batch", np.zeros((0, 3, *(4, 4, 4)[:dims])), (2, 2, 2), (2, 2, 2), (0, 0, 0))


def adaptive_samples(dims: int) -> Iterator[Sample]:
    """Regions that every adaptive pooling is held to."""

    def sample(label: str, x: Any, *size: int) -> Sample:
        return Sample(label, (x,), {"output_size": size[:dims]})

    def image(n: int, c: int, *spatial: int) -> Any:
        return distinct(n, c, *spatial[:dims])

    yield sample("global", image(2, 3, 4, 5, 3), 1, 1, 1)
    yield sample("dividing", image(2, 3, 4, 6, 3), 2, 3, 3)
    yield sample("long regions", image(2, 3, 36, 2, 2), 2, 1, 2)
    yield sample("overlapping", image(2, 3, 5, 7, 4), 3, 4, 3)
    yield sample("larger than the input", image(1, 2, 3, 2, 2), 5, 4, 3)
    yield sample("channels first", np.ascontiguousarray(image(2, 3, 4, 5, 4)), 2, 2, 2)
    yield sample("empty batch", np.zeros((0, 3, *(4, 4, 4)[:dims])), 2, 2, 2)
