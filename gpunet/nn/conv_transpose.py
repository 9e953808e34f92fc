"""Transposed convolution layers, and the layers that gather patches and add them up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gpunet.nn.functional as F
from gpunet.autograd import Tensor
from gpunet.backend.errors import ShapeError
from gpunet.nn.arguments import check_int
from gpunet.nn.conv import ConvLayer, Extent
from gpunet.nn.module import Module

__all__ = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Fold", "Unfold"]


class _ConvTranspose(ConvLayer):
    transposed: ClassVar[bool] = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Extent,
        stride: Extent = 1,
        padding: Extent = 0,
        output_padding: Extent = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Extent = 1,
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
            output_padding,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def _spread(self, function: Any, input: Tensor, output_size: Sequence[int] | None) -> Tensor:
        extra = self.output_padding if output_size is None else self._missing(input, output_size)
        result: Tensor = function(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )
        return result

    def _missing(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The output padding that gives a size."""
        name, dims = self._layer_name(), self._dims
        wanted = tuple(output_size)
        if input.ndim not in (dims + 1, dims + 2):
            raise ShapeError(
                f"{name}: input must have {dims + 1} or {dims + 2} dimensions, got shape {tuple(input.shape)}"
            )
        if len(wanted) == input.ndim:
            wanted = wanted[input.ndim - dims :]
        if len(wanted) != dims:
            raise ValueError(f"{name}: output_size must have {dims} or {input.ndim} elements, got {tuple(output_size)}")
        assert not isinstance(self.padding, str)
        least = tuple(
            (extent - 1) * s - 2 * p + d * (k - 1) + 1
            for extent, s, p, d, k in zip(
                input.shape[-dims:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True
            )
        )
        most = tuple(size + s - 1 for size, s in zip(least, self.stride, strict=True))
        if any(not low <= size <= high for low, size, high in zip(least, wanted, most, strict=True)):
            raise ValueError(
                f"{name}: output_size must lie between {least} and {most} for an input of shape "
                f"{tuple(input.shape)}, got {wanted}"
            )
        return tuple(size - low for size, low in zip(wanted, least, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of sequences: the gradient of ``Conv1d`` with respect to its input, as a layer.

    Args:
        in_channels: C, channels of the input.
        out_channels: K, channels of the output.
        kernel_size: R, an integer.
        stride: how far apart the input's values are spread.
        padding: cut off on both sides of the output.
        output_padding: added behind the output; smaller than the stride or the dilation.
        groups: number of groups of channels that see only each other; divides C and K.
        bias: whether to add a bias for each output channel.
        dilation: spacing of the filter's elements.
        padding_mode: ``"zeros"`` alone.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight: (C, K / groups, R), from U(-k, k) with k = 1 / sqrt(K / groups * R).
        bias: (K,), from the same, or None.

    Raises:
        ValueError, TypeError: an argument that no convolution can have.
    """

    _dims = 1

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """(N, C, L) to (N, K, L') with L' = (L - 1) stride - 2 padding + dilation (R - 1) + output_padding + 1.

        Args:
            input: (N, C, L) or (C, L).
            output_size: L' instead of an output padding, with or without the dimensions before it.
        """
        return self._spread(F.conv_transpose1d, input, output_size)


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of images: the gradient of ``Conv2d`` with respect to its input, as a layer.

    Args:
        in_channels: C, channels of the input.
        out_channels: K, channels of the output.
        kernel_size: an integer, or a pair (height, width).
        stride: how far apart the input's pixels are spread, an integer or a pair.
        padding: cut off on both sides of the output.
        output_padding: added below and to the right of the output; smaller than the stride or the dilation.
        groups: number of groups of channels that see only each other; divides C and K.
        bias: whether to add a bias for each output channel.
        dilation: spacing of the filter's elements.
        padding_mode: ``"zeros"`` alone.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight: (C, K / groups, height, width), from U(-k, k) with k = 1 / sqrt(K / groups * height * width).
        bias: (K,), from the same, or None.

    Raises:
        ValueError, TypeError: an argument that no convolution can have.
    """

    _dims = 2

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """(N, C, H, W) to (N, K, H', W'); H' = (H - 1) stride - 2 padding + dilation (height - 1) + output_padding + 1.

        Args:
            input: (N, C, H, W) or (C, H, W).
            output_size: (H', W') instead of an output padding, with or without the dimensions before them.
        """
        return self._spread(F.conv_transpose2d, input, output_size)


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of volumes: the gradient of ``Conv3d`` with respect to its input, as a layer.

    Args:
        in_channels: C, channels of the input.
        out_channels: K, channels of the output.
        kernel_size: an integer, or three (depth, height, width).
        stride: how far apart the input's pixels are spread, an integer or three.
        padding: cut off on both sides of the output.
        output_padding: added behind the output in each dimension; smaller than the stride or the dilation.
        groups: number of groups of channels that see only each other; divides C and K.
        bias: whether to add a bias for each output channel.
        dilation: spacing of the filter's elements.
        padding_mode: ``"zeros"`` alone.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight: (C, K / groups, depth, height, width), from U(-k, k) with k = 1 / sqrt of K / groups times its size.
        bias: (K,), from the same, or None.

    Raises:
        ValueError, TypeError: an argument that no convolution can have.
    """

    _dims = 3

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """(N, C, D, H, W) to (N, K, D', H', W'), each size as in ``ConvTranspose2d``.

        Args:
            input: (N, C, D, H, W) or (C, D, H, W).
            output_size: (D', H', W') instead of an output padding, with or without the dimensions before them.
        """
        return self._spread(F.conv_transpose3d, input, output_size)


def _given(layer: str, name: str, value: Any, minimum: int) -> Any:
    """An argument as it was given, whose text PyTorch shows so, if it is an integer or a pair of them."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{layer}: {name} must be an integer or a pair (height, width), got {value!r}")
        for one in value:
            check_int(layer, name, one, minimum)
    else:
        check_int(layer, name, value, minimum)
    return value


class _Windows(Module):
    def __init__(self, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = _given(name, "kernel_size", kernel_size, 1)
        self.dilation = _given(name, "dilation", dilation, 1)
        self.padding = _given(name, "padding", padding, 0)
        self.stride = _given(name, "stride", stride, 1)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Unfold(_Windows):
    """The patches that a window sees, as columns: (N, C, H, W) to (N, C * height * width, number of windows).

    Args:
        kernel_size: an integer, or a pair (height, width).
        dilation: distance between taps.
        padding: zeros added on each side.
        stride: step of the window.
    """

    def __init__(self, kernel_size: Extent, dilation: Extent = 1, padding: Extent = 0, stride: Extent = 1) -> None:
        super().__init__(kernel_size, dilation, padding, stride)

    def forward(self, input: Tensor) -> Tensor:
        """See ``functional.unfold``."""
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(_Windows):
    """Columns added up to images: (N, C * height * width, number of windows) to (N, C, H, W).

    Args:
        output_size: an integer, or a pair (H, W).
        kernel_size: an integer, or a pair (height, width).
        dilation: distance between taps.
        padding: zeros that ``Unfold`` would add on each side.
        stride: step of the window.
    """

    def __init__(
        self,
        output_size: Extent,
        kernel_size: Extent,
        dilation: Extent = 1,
        padding: Extent = 0,
        stride: Extent = 1,
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = _given("Fold", "output_size", output_size, 1)

    def forward(self, input: Tensor) -> Tensor:
        """See ``functional.fold``."""
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, {super().extra_repr()}"
