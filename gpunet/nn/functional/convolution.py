"""Convolutions."""

from __future__ import annotations

from typing import Any

from gpunet.autograd import Tensor, apply
from gpunet.nn.functional.arguments import IntPair, images, pair
from gpunet.ops import REGISTRY

__all__ = ["conv2d"]


def conv_padding(padding: Any, kernel: tuple[int, int], stride: Any, dilation: Any) -> Any:
    """Padding as ((top, bottom), (left, right)) from an integer, a pair, ``"valid"`` or ``"same"``.

    Raises:
        ValueError: an unknown name, or ``"same"`` with a stride other than 1.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding != "same":
            raise ValueError(f"padding: must be integers, 'valid' or 'same', got {padding!r}")
        if stride != (1, 1):
            raise ValueError(f"padding: 'same' needs a stride of 1, got {stride}")
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        # An odd total puts the extra pixel behind, as PyTorch does.
        return tuple((extent // 2, extent - extent // 2) for extent in total)
    first, second = pair("padding", padding)
    return (first, first), (second, second)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair | str = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> Tensor:
    """Two-dimensional convolution (cross-correlation).

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (K, C / groups, R, S).
        bias: (K,) or None.
        stride: step of the window.
        padding: zeros added on each side; ``"valid"`` for none, ``"same"`` to keep the size at stride 1.
        dilation: distance between taps.
        groups: independent groups of channels.

    Returns:
        (N, K, P, Q) with P = floor((H + 2 padding - dilation (R - 1) - 1) / stride) + 1.

    Raises:
        ShapeError: channels, groups or sizes that do not fit, or a kernel larger than the padded input.
    """
    batch, single = images("conv2d", input)
    steps, spread = pair("stride", stride), pair("dilation", dilation)
    kernel = weight.shape[-2:] if weight.ndim == 4 else (1, 1)
    pads = conv_padding(padding, (kernel[0], kernel[1]), steps, spread)
    result = apply(REGISTRY["conv2d"], batch, weight, bias, stride=steps, padding=pads, dilation=spread, groups=groups)
    return result.squeeze(0) if single else result
