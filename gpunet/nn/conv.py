"""Convolution layers."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import gpunet.nn.functional as F
from gpunet.autograd import Tensor, empty
from gpunet.nn import init
from gpunet.nn.arguments import check_int, check_sizes
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvLayer", "empty_kernel"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")

Extent = int | tuple[int, ...]


def empty_kernel(shape: tuple[int, ...], device: Any = None, dtype: Any = None) -> Tensor:
    """An uninitialised weight (K, C, height, width) that lies in memory as (height, width, C, K).

    A matrix product reads that order without a transposition, and it is the one that gradients come in.
    """
    in_memory = empty((*shape[2:], shape[1], shape[0]), device=device, dtype=dtype)
    last = len(shape) - 1
    return in_memory.permute(last, last - 1, *range(last - 1))


class ConvLayer(Module):
    """What convolution layers share: their arguments, their parameters, their text."""

    weight: Parameter
    bias: Parameter | None
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]

    transposed: ClassVar[bool] = False
    _dims: ClassVar[int]

    def _set_up(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        output_padding: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        Module.__init__(self)
        name, dims = self._layer_name(), self._dims
        self.in_channels = check_int(name, "in_channels", in_channels, 1)
        self.out_channels = check_int(name, "out_channels", out_channels, 1)
        self.kernel_size = check_sizes(name, "kernel_size", kernel_size, dims, 1)
        self.stride = check_sizes(name, "stride", stride, dims, 1)
        self.dilation = check_sizes(name, "dilation", dilation, dims, 1)
        self.output_padding = check_sizes(name, "output_padding", output_padding, dims, 0)
        self.groups = check_int(name, "groups", groups, 1)
        self._check_groups()
        if isinstance(padding, str) and not self.transposed:
            if padding not in ("same", "valid"):
                raise ValueError(f"{name}: padding must be 'same', 'valid' or integers, got {padding!r}")
            if padding == "same" and max(self.stride) > 1:
                raise ValueError(f"{name}: padding='same' needs stride 1, got {self.stride}")
            self.padding = padding
        else:
            self.padding = check_sizes(name, "padding", padding, dims, 0)
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"{name}: padding_mode must be one of {', '.join(_PADDING_MODES)}, got {padding_mode!r}")
        if self.transposed and padding_mode != "zeros":
            raise ValueError(f"{name}: padding_mode must be 'zeros', got {padding_mode!r}")
        self.padding_mode = padding_mode
        self._make_parameters(bias, device, dtype)

    def _layer_name(self) -> str:
        return type(self).__name__

    def _check_groups(self) -> None:
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ValueError(
                    f"{self._layer_name()}: {name} must be divisible by groups, got {channels} and {self.groups}"
                )

    def _weight_shape(self) -> tuple[int, ...]:
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        return first, second // self.groups, *self.kernel_size

    def _make_parameters(self, bias: bool, device: Any, dtype: Any) -> None:
        self.weight = Parameter(empty_kernel(self._weight_shape(), device, dtype))
        self.bias = Parameter(empty((self.out_channels,), device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight and the bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            bound = 1 / math.sqrt(fan_in)
            init.uniform_(self.bias, -bound, bound)

    def _around(self) -> list[int]:
        """What to pad with other values than zeros: (left, right, top, bottom, ...)."""
        around: list[int] = []
        for axis in reversed(range(self._dims)):
            if isinstance(self.padding, str):
                total = self.dilation[axis] * (self.kernel_size[axis] - 1) if self.padding == "same" else 0
                around += [total // 2, total - total // 2]
            else:
                around += [self.padding[axis]] * 2
        return around

    def _convolve(self, function: Any, input: Tensor) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            if input.ndim in (self._dims + 1, self._dims + 2):  # else it is the convolution's to refuse
                input = F.pad(input, self._around(), self.padding_mode)
            padding = 0
        result: Tensor = function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return result

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        plain = (0,) * self._dims
        if self.padding != plain:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self._dims:
            text += f", dilation={self.dilation}"
        if self.output_padding != plain:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class _Conv(ConvLayer):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Extent,
        stride: Extent = 1,
        padding: Extent | str = 0,
        dilation: Extent = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self._set_up(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            0,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )


class Conv1d(_Conv):
    """Cross-correlation of sequences with a bank of filters.

    Args:
        in_channels: C, channels of the input.
        out_channels: K, number of filters.
        kernel_size: R, an integer.
        stride: step of the window.
        padding: on both sides: an integer, ``"valid"`` (none), or ``"same"`` (the output has the input's size; stride 1
            only).
        dilation: spacing of the filter's elements.
        groups: number of groups of channels that see only each other; divides C and K.
        bias: whether to add a bias for each filter.
        padding_mode: what the padding holds: ``"zeros"``; ``"reflect"``, the mirror image; ``"replicate"``, the edge;
            ``"circular"``, the opposite side.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight: (K, C / groups, R), from U(-k, k) with k = 1 / sqrt(C / groups * R); in memory (R, C / groups, K).
        bias: (K,), from the same, or None.

    Raises:
        ValueError, TypeError: an argument that no convolution can have.
    """

    _dims = 1

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, L) to (N, K, L') with L' = floor((L + 2 pad - dilation (R - 1) - 1) / stride) + 1."""
        return self._convolve(F.conv1d, input)


class Conv2d(_Conv):
    """Cross-correlation of images with a bank of filters.

    Args:
        in_channels: C, channels of the input.
        out_channels: K, number of filters.
        kernel_size: an integer, or a pair (height, width).
        stride: an integer or a pair.
        padding: on both sides: an integer, a pair, ``"valid"`` (none), or ``"same"`` (the output has the input's size;
            stride 1 only).
        dilation: spacing of the filter's elements, an integer or a pair.
        groups: number of groups of channels that see only each other; divides C and K.
        bias: whether to add a bias for each filter.
        padding_mode: what the padding holds: ``"zeros"``; ``"reflect"``, the mirror image; ``"replicate"``, the edge;
            ``"circular"``, the opposite side.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight: (K, C / groups, height, width), from U(-k, k) with k = 1 / sqrt(C / groups * height * width). In memory
            its order is (height, width, C / groups, K), the one that a matrix product reads without a transposition.
        bias: (K,), from the same, or None.

    Raises:
        ValueError, TypeError: an argument that no convolution can have.
    """

    _dims = 2

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K, H', W') with H' = floor((H + 2 pad - dilation (height - 1) - 1) / stride) + 1."""
        return self._convolve(F.conv2d, input)


class Conv3d(_Conv):
    """Cross-correlation of volumes, or of images over time, with a bank of filters.

    Args:
        in_channels: C, channels of the input.
        out_channels: K, number of filters.
        kernel_size: an integer, or three (depth, height, width).
        stride: an integer or three.
        padding: on both sides: an integer, three, ``"valid"`` (none), or ``"same"`` (the output has the input's size;
            stride 1 only).
        dilation: spacing of the filter's elements, an integer or three.
        groups: number of groups of channels that see only each other; divides C and K.
        bias: whether to add a bias for each filter.
        padding_mode: what the padding holds: ``"zeros"``; ``"reflect"``, the mirror image; ``"replicate"``, the edge;
            ``"circular"``, the opposite side.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight: (K, C / groups, depth, height, width), from U(-k, k) with k = 1 / sqrt of the number of values a filter
            reads; in memory (depth, height, width, C / groups, K).
        bias: (K,), from the same, or None.

    Raises:
        ValueError, TypeError: an argument that no convolution can have.
    """

    _dims = 3

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, D, H, W) to (N, K, D', H', W'), each size as in ``Conv2d``."""
        return self._convolve(F.conv3d, input)
