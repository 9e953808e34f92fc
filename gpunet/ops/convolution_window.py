"""The windows of convolutions over any number of dimensions: their sizes, their checks, the order they are read in.

An image is logically (N, C, d1, d2, ...); a window has a size, a stride, a dilation and a padding, before and behind,
for each of the dimensions d.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from gpunet.backend.errors import ShapeError

__all__ = [
    "Geometry",
    "Padding",
    "Pair",
    "Sizes",
    "check_window",
    "conv_output_size",
    "phase_taps",
    "tap_slices",
]

Pair = tuple[int, int]
Sizes = tuple[int, ...]
Padding = tuple[Pair, ...]  # (before, after) for each dimension


class Geometry(NamedTuple):
    """How a convolution's window moves: its attributes, for any number of dimensions."""

    stride: Sizes
    padding: Padding
    dilation: Sizes
    groups: int

    @classmethod
    def of(cls, attributes: dict[str, Any]) -> Geometry:
        """What an operation's attributes say of it."""
        return cls(*(attributes[name] for name in cls._fields))


def conv_output_size(
    size: int, kernel: int, stride: int = 1, padding: int | Pair = 0, dilation: int = 1, ceil_mode: bool = False
) -> int:
    """Output size of a convolution or pooling along one dimension: floor((size + pads - d(k-1) - 1) / s) + 1.

    With ``ceil_mode`` it is rounded up, but no window starts in the padding behind the input.
    """
    before, after = (padding, padding) if isinstance(padding, int) else padding
    room = size + before + after - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + before else count


def check_window(op: str, shape: Sizes, kernel: Sizes, stride: Sizes, padding: Padding, dilation: Sizes) -> Any:
    """Validate a sliding window and return its output size, one integer for each dimension.

    Args:
        op: the operation, for the message.
        shape: of the input, (N, C, d1, ...).
        kernel, stride, padding, dilation: of the window.

    Raises:
        ShapeError: an argument out of range, or a kernel larger than the padded input.
    """
    for name, values in (("kernel_size", kernel), ("stride", stride), ("dilation", dilation)):
        if min(values) < 1:
            raise ShapeError(f"{op}: {name} must be at least 1, got {values}")
    if min(map(min, padding)) < 0:
        raise ShapeError(f"{op}: padding must not be negative, got {padding}")
    if min(shape[1:]) == 0:
        raise ShapeError(f"{op}: input must not be empty except in its batch, got shape {tuple(shape)}")
    result = []
    for size, k, s, pads, d in zip(shape[2:], kernel, stride, padding, dilation, strict=True):
        reach = d * (k - 1) + 1
        if size + sum(pads) < reach:
            raise ShapeError(
                f"{op}: kernel_size {kernel} with dilation {dilation} covers {reach} pixels, more than the padded "
                f"input has ({size + sum(pads)}); input shape {tuple(shape)}, padding {padding}"
            )
        result.append(conv_output_size(size, k, s, pads, d))
    return tuple(result)


def tap_slices(kernel: Sizes, size: Sizes, stride: Sizes, dilation: Sizes) -> Iterator[tuple[Sizes, tuple[slice, ...]]]:
    """Each tap of a kernel, in row-major order, with the slices of the padded input that it reads."""
    for tap in itertools.product(*map(range, kernel)):
        yield (
            tap,
            tuple(
                slice(index * d, index * d + (count - 1) * s + 1, s)
                for index, count, s, d in zip(tap, size, stride, dilation, strict=True)
            ),
        )


def phase_taps(phase: int, kernel: int, stride: int, pad: int, dilation: int) -> tuple[list[int], int, int]:
    """Taps that reach input positions ``phase + i·stride``, in the order in which their outputs lie.

    Output p reads input p·stride + r·dilation - pad, so position phase + i·stride is read by
    p = i + (phase + pad - r·dilation) / stride for every tap r for which that is whole.

    Returns:
        the taps from the largest r to the smallest, the offset p - i of the first, and the step between offsets.
    """
    taps = [r for r in range(kernel - 1, -1, -1) if (phase + pad - r * dilation) % stride == 0]
    if not taps:
        return [], 0, 1
    offset = (phase + pad - taps[0] * dilation) // stride
    return taps, offset, dilation // math.gcd(stride, dilation)
