"""Convolution layers."""

from __future__ import annotations

import math
from typing import Any

import gpunet.nn.functional as F
from gpunet.autograd import Tensor, empty
from gpunet.nn import init
from gpunet.nn.arguments import check_int, check_pair
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter

__all__ = ["Conv2d"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class Conv2d(Module):
    """Cross-correlation of images with a bank of filters.

    Args:
        in_channels: C, channels of the input.
        out_channels: K, number of filters.
        kernel_size: an integer, or a pair (height, width).
        stride: an integer or a pair.
        padding: zeros on both sides: an integer, a pair, ``"valid"`` (none), or ``"same"`` (the output has the input's
            size; stride 1 only).
        dilation: spacing of the filter's elements, an integer or a pair.
        groups: number of groups of channels that see only each other; divides C and K.
        bias: whether to add a bias for each filter.
        padding_mode: ``"zeros"``.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight: (K, C / groups, height, width), from U(-k, k) with k = 1 / sqrt(C / groups * height * width). In memory
            its order is (height, width, C / groups, K), the one that a matrix product reads without a transposition.
        bias: (K,), from the same, or None.

    Raises:
        ValueError, TypeError: an argument that no convolution can have.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.in_channels = check_int("Conv2d", "in_channels", in_channels, 1)
        self.out_channels = check_int("Conv2d", "out_channels", out_channels, 1)
        self.kernel_size = check_pair("Conv2d", "kernel_size", kernel_size, 1)
        self.stride = check_pair("Conv2d", "stride", stride, 1)
        self.dilation = check_pair("Conv2d", "dilation", dilation, 1)
        self.groups = check_int("Conv2d", "groups", groups, 1)
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ValueError(f"Conv2d: {name} must be divisible by groups, got {channels} and {self.groups}")
        self.padding: tuple[int, int] | str
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Conv2d: padding must be 'same', 'valid' or integers, got {padding!r}")
            if padding == "same" and self.stride != (1, 1):
                raise ValueError(f"Conv2d: padding='same' needs stride 1, got {self.stride}")
            self.padding = padding
        else:
            self.padding = check_pair("Conv2d", "padding", padding, 0)
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"Conv2d: padding_mode must be one of {', '.join(_PADDING_MODES)}, got {padding_mode!r}")
        if padding_mode != "zeros":
            raise NotImplementedError(
                f"Conv2d: padding_mode {padding_mode!r} is not supported; pad the input with F.pad and use padding=0"
            )
        self.padding_mode = padding_mode
        height, width = self.kernel_size
        in_memory = empty(
            (height, width, self.in_channels // self.groups, self.out_channels), device=device, dtype=dtype
        )
        self.weight = Parameter(in_memory.permute(3, 2, 0, 1))
        self.bias = Parameter(empty((self.out_channels,), device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight and the bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            bound = 1 / math.sqrt(fan_in)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K, H', W') with H' = floor((H + 2 pad - dilation (height - 1) - 1) / stride) + 1."""
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0, 0):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text
