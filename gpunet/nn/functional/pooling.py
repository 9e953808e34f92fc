"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunet.autograd import Tensor, apply
from gpunet.nn.functional.arguments import IntPair, images, pair
from gpunet.ops import REGISTRY

__all__ = ["adaptive_avg_pool2d", "avg_pool2d", "max_pool2d"]


def max_pool2d(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """Maximum over windows; the first of equal elements gets the gradient, NaN counts as the largest.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: of the window.
        stride: of the window; its size if left out.
        padding: minus infinity added on each side, at most half the window.
        dilation: distance between taps.
        ceil_mode: round the output size up.
        return_indices: not supported.
    """
    if return_indices:
        raise ValueError("max_pool2d: return_indices is not supported; take the output alone")
    batch, single = images("max_pool2d", input)
    window = pair("kernel_size", kernel_size)
    result = apply(
        REGISTRY["max_pool2d"],
        batch,
        kernel_size=window,
        stride=window if stride is None or stride == [] else pair("stride", stride),
        padding=pair("padding", padding),
        dilation=pair("dilation", dilation),
        ceil_mode=bool(ceil_mode),
    )
    return result.squeeze(0) if single else result


def avg_pool2d(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Average over windows.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: of the window.
        stride: of the window; its size if left out.
        padding: zeros added on each side, at most half the window.
        ceil_mode: round the output size up.
        count_include_pad: count the padding in the divisor.
        divisor_override: divide by this instead.
    """
    batch, single = images("avg_pool2d", input)
    window = pair("kernel_size", kernel_size)
    result = apply(
        REGISTRY["avg_pool2d"],
        batch,
        kernel_size=window,
        stride=window if stride is None or stride == [] else pair("stride", stride),
        padding=pair("padding", padding),
        ceil_mode=bool(ceil_mode),
        count_include_pad=bool(count_include_pad),
        divisor_override=divisor_override,
    )
    return result.squeeze(0) if single else result


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Averages over as many regions as the output has pixels.

    Args:
        input: (N, C, H, W) or (C, H, W).
        output_size: rows and columns of the output; None keeps the input's.
    """
    batch, single = images("adaptive_avg_pool2d", input)
    wanted = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    if len(wanted) != 2:
        raise TypeError(f"output_size: expected an integer, None or a pair of them, got {output_size!r}")
    if batch.ndim == 4:
        wanted = [batch.shape[2 + i] if extent is None else extent for i, extent in enumerate(wanted)]
    size = pair("output_size", [0 if extent is None else extent for extent in wanted])
    result = apply(REGISTRY["adaptive_avg_pool2d"], batch, output_size=size)
    return result.squeeze(0) if single else result
