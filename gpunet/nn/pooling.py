"""Pooling layers."""

from __future__ import annotations

from typing import Any

import gpunet.nn.functional as F
from gpunet.autograd import Tensor
from gpunet.nn.arguments import check_flag, check_int, check_pair
from gpunet.nn.module import Module

__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d"]

Size = int | tuple[int, int]


def _checked(layer: str, name: str, value: Any, minimum: int) -> Size:
    """The argument as it was given, since it shows in the layer's text; refused if it cannot be right."""
    check_pair(layer, name, value, minimum)
    return tuple(value) if isinstance(value, (tuple, list)) else int(value)


class MaxPool2d(Module):
    """The largest value of each window.

    Args:
        kernel_size: an integer, or a pair (height, width).
        stride: an integer or a pair; the kernel's size if not given.
        padding: minus infinity on both sides; at most half the kernel.
        dilation: spacing of a window's elements.
        return_indices: not supported.
        ceil_mode: let the last window start inside the image and end outside it.

    Raises:
        ValueError, TypeError: an argument that no pooling can have.
        NotImplementedError: ``return_indices``.
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = _checked("MaxPool2d", "kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else _checked("MaxPool2d", "stride", stride, 1)
        self.padding = _checked("MaxPool2d", "padding", padding, 0)
        self.dilation = _checked("MaxPool2d", "dilation", dilation, 1)
        if return_indices:
            raise NotImplementedError("MaxPool2d: return_indices=True is not supported")
        self.return_indices = False
        self.ceil_mode = check_flag("MaxPool2d", "ceil_mode", ceil_mode)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        return F.max_pool2d(input, self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """The mean of each window.

    Args:
        kernel_size: an integer, or a pair (height, width).
        stride: an integer or a pair; the kernel's size if not given.
        padding: zeros on both sides; at most half the kernel.
        ceil_mode: let the last window start inside the image and end outside it.
        count_include_pad: divide by the whole window, padding included.
        divisor_override: divide by this instead.

    Raises:
        ValueError, TypeError: an argument that no pooling can have.
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = _checked("AvgPool2d", "kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else _checked("AvgPool2d", "stride", stride, 1)
        self.padding = _checked("AvgPool2d", "padding", padding, 0)
        self.ceil_mode = check_flag("AvgPool2d", "ceil_mode", ceil_mode)
        self.count_include_pad = check_flag("AvgPool2d", "count_include_pad", count_include_pad)
        if divisor_override is not None:
            check_int("AvgPool2d", "divisor_override", divisor_override, 1)
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        return F.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """The mean of windows chosen so that the output has a given size.

    Args:
        output_size: an integer, or a pair (height, width) in which None keeps the input's size.

    Raises:
        ValueError, TypeError: a size that is no positive integer.
    """

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
        if len(sizes) != 2:
            raise ValueError(
                f"AdaptiveAvgPool2d: output_size must be an integer or a pair (height, width), got {output_size!r}"
            )
        for size in sizes:
            if size is not None:
                check_int("AdaptiveAvgPool2d", "output_size", size, 1)
        self.output_size = tuple(output_size) if isinstance(output_size, list) else output_size

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        return F.adaptive_avg_pool2d(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"
