"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gpunet.nn.functional as F
from gpunet.autograd import Tensor
from gpunet.nn.arguments import check_flag, check_int
from gpunet.nn.module import Module

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]

Size = int | tuple[int, ...]

_SHAPES = {1: "a sequence of 1", 2: "a pair (height, width)", 3: "three (depth, height, width)"}


class _Pooling(Module):
    """What pooling layers share: the number of spatial dimensions, and checked arguments."""

    dims: ClassVar[int] = 2

    def _checked(self, name: str, value: Any, minimum: int) -> Size:
        """The argument as it was given, since it shows in the layer's text; refused if it cannot be right."""
        layer = type(self).__name__
        if not isinstance(value, (tuple, list)):
            return check_int(layer, name, value, minimum)
        if len(value) != self.dims:
            raise ValueError(f"{layer}: {name} must be an integer or {_SHAPES[self.dims]}, got {value!r}")
        return tuple(check_int(layer, name, extent, minimum) for extent in value)

    def _single(self, size: Size) -> Size:
        """The size as a tuple, as the text of PyTorch's one-dimensional layers shows it."""
        return (size,) if self.dims == 1 and isinstance(size, int) else size

    def _flag(self, name: str, value: Any) -> bool:
        return check_flag(type(self).__name__, name, value)


class _MaxPool(_Pooling):
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
        self.kernel_size = self._checked("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else self._checked("stride", stride, 1)
        self.padding = self._checked("padding", padding, 0)
        self.dilation = self._checked("dilation", dilation, 1)
        self.return_indices = self._flag("return_indices", return_indices)
        self.ceil_mode = self._flag("ceil_mode", ceil_mode)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"ceil_mode={self.ceil_mode}"
        )

    def forward(self, input: Tensor) -> Any:
        """(N, C, spatial...) to (N, C, smaller...), and with ``return_indices`` where the maxima are."""
        function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[self.dims - 1]
        return function(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )


class MaxPool1d(_MaxPool):
    """The largest value of each window of a sequence (N, C, L); see ``MaxPool2d``."""

    dims = 1


class MaxPool2d(_MaxPool):
    """The largest value of each window.

    Args:
        kernel_size: an integer, or a pair (height, width).
        stride: an integer or a pair; the kernel's size if not given.
        padding: minus infinity on both sides; at most half the kernel.
        dilation: spacing of a window's elements.
        return_indices: give a pair of the maxima and of their places, as ``MaxUnpool2d`` wants them.
        ceil_mode: let the last window start inside the image and end outside it.

    Raises:
        ValueError, TypeError: an argument that no pooling can have.
    """


class MaxPool3d(_MaxPool):
    """The largest value of each window of a volume (N, C, D, H, W); see ``MaxPool2d``."""

    dims = 3


class _MaxUnpool(_Pooling):
    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        super().__init__()
        self.kernel_size = self._spread(self._checked("kernel_size", kernel_size, 1))
        self.stride = self.kernel_size if stride is None else self._spread(self._checked("stride", stride, 1))
        self.padding = self._spread(self._checked("padding", padding, 0))

    def _spread(self, size: Size) -> tuple[int, ...]:
        return (size,) * self.dims if isinstance(size, int) else size

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """(N, C, smaller...) and the places of its values to (N, C, spatial...)."""
        function = (F.max_unpool1d, F.max_unpool2d, F.max_unpool3d)[self.dims - 1]
        return function(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool1d(_MaxUnpool):
    """The reverse of ``MaxPool1d(return_indices=True)``; see ``MaxUnpool2d``."""

    dims = 1


class MaxUnpool2d(_MaxUnpool):
    """The reverse of ``MaxPool2d(return_indices=True)``: maxima back in their places, zero elsewhere.

    Args:
        kernel_size, stride, padding: those of the pooling.

    Raises:
        ValueError, TypeError: an argument that no pooling can have.
    """


class MaxUnpool3d(_MaxUnpool):
    """The reverse of ``MaxPool3d(return_indices=True)``; see ``MaxUnpool2d``."""

    dims = 3


class _AvgPool(_Pooling):
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
        self.kernel_size = self._single(self._checked("kernel_size", kernel_size, 1))
        self.stride = self.kernel_size if stride is None else self._single(self._checked("stride", stride, 1))
        self.padding = self._single(self._checked("padding", padding, 0))
        self.ceil_mode = self._flag("ceil_mode", ceil_mode)
        self.count_include_pad = self._flag("count_include_pad", count_include_pad)
        if divisor_override is not None:
            check_int(type(self).__name__, "divisor_override", divisor_override, 1)
        self.divisor_override = divisor_override

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, spatial...) to (N, C, smaller...)."""
        arguments = (self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)
        if self.dims == 1:
            return F.avg_pool1d(input, *arguments)
        return (F.avg_pool2d if self.dims == 2 else F.avg_pool3d)(input, *arguments, self.divisor_override)


class AvgPool1d(_AvgPool):
    """The mean of each window of a sequence (N, C, L); see ``AvgPool2d``."""

    dims = 1

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)


class AvgPool2d(_AvgPool):
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


class AvgPool3d(_AvgPool):
    """The mean of each window of a volume (N, C, D, H, W); see ``AvgPool2d``."""

    dims = 3


class _LPPool(_Pooling):
    def __init__(
        self, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        if isinstance(norm_type, bool) or not isinstance(norm_type, (int, float)) or norm_type == 0:
            raise ValueError(f"{type(self).__name__}: norm_type must be a number other than zero, got {norm_type!r}")
        self.norm_type = norm_type
        self.kernel_size = self._checked("kernel_size", kernel_size, 1)
        self.stride = None if stride is None else self._checked("stride", stride, 1)
        self.ceil_mode = self._flag("ceil_mode", ceil_mode)

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, spatial...) to (N, C, smaller...)."""
        function = (F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)[self.dims - 1]
        return function(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class LPPool1d(_LPPool):
    """(sum of x^p)^(1/p) over each window of a sequence (N, C, L); see ``LPPool2d``."""

    dims = 1


class LPPool2d(_LPPool):
    """(sum of x^p)^(1/p) over each window.

    Args:
        norm_type: p.
        kernel_size: an integer, or a pair (height, width).
        stride: an integer or a pair; the kernel's size if not given.
        ceil_mode: let the last window end outside the image.

    Raises:
        ValueError, TypeError: an argument that no pooling can have.
    """


class LPPool3d(_LPPool):
    """(sum of x^p)^(1/p) over each window of a volume (N, C, D, H, W); see ``LPPool2d``."""

    dims = 3


class _Adaptive(_Pooling):
    def _output_size(self, output_size: Any) -> Any:
        """The argument as it was given, checked."""
        layer = type(self).__name__
        sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * self.dims
        if len(sizes) != self.dims:
            raise ValueError(f"{layer}: output_size must be an integer or {_SHAPES[self.dims]}, got {output_size!r}")
        for size in sizes:
            if size is not None or self.dims == 1:
                check_int(layer, "output_size", size, 1)
        return tuple(output_size) if isinstance(output_size, list) else output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _AdaptiveMaxPool(_Adaptive):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size = self._output_size(output_size)
        self.return_indices = self._flag("return_indices", return_indices)

    def forward(self, input: Tensor) -> Any:
        """(N, C, spatial...) to (N, C, output_size...), and with ``return_indices`` where the maxima are."""
        function = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[self.dims - 1]
        return function(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest values of regions chosen so that the output (N, C, L) has a given length."""

    dims = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest values of regions chosen so that the output has a given size.

    Args:
        output_size: an integer, or a pair (height, width) in which None keeps the input's size.
        return_indices: give a pair of the maxima and of their places, as ``MaxUnpool2d`` wants them.

    Raises:
        ValueError, TypeError: a size that is no positive integer.
    """


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest values of regions of a volume (N, C, D, H, W); see ``AdaptiveMaxPool2d``."""

    dims = 3


class _AdaptiveAvgPool(_Adaptive):
    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = self._output_size(output_size)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, spatial...) to (N, C, output_size...)."""
        function = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[self.dims - 1]
        return function(input, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of regions chosen so that the output (N, C, L) has a given length."""

    dims = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of regions chosen so that the output has a given size; 1 is global average pooling.

    Args:
        output_size: an integer, or a pair (height, width) in which None keeps the input's size.

    Raises:
        ValueError, TypeError: a size that is no positive integer.
    """


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The means of regions of a volume (N, C, D, H, W); see ``AdaptiveAvgPool2d``."""

    dims = 3
