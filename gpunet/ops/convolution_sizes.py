"""The sizes of a two-dimensional convolution as the CUDA kernels take them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Sizes2d"]


class Sizes2d(NamedTuple):
    """``CONV2D_SIZES`` of ``cuda_kernels/conv2d.cuh``, in its order; it says what they mean.

    They describe the forward convolution, whichever direction is computed. ``in_channels`` and ``out_channels`` are
    those of one group; a pitch is the number of elements from one pixel to the next.
    """

    images: int
    in_height: int
    in_width: int
    in_pitch: int
    out_height: int
    out_width: int
    out_pitch: int
    groups: int
    in_channels: int
    out_channels: int
    kernel_height: int
    kernel_width: int
    stride_height: int
    stride_width: int
    pad_top: int
    pad_left: int
    dilation_height: int
    dilation_width: int
