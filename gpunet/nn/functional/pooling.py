"""Pooling: maxima, averages and power means over windows, and over adaptive regions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gpunet.autograd import Tensor, apply
from gpunet.nn.functional.activation import relu
from gpunet.nn.functional.arguments import extents, is_integer
from gpunet.ops import REGISTRY, Spec
from gpunet.ops.windows import check_pool

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]

Extent = int | Sequence[int]


def _window(op: str, dims: int, kernel_size: Any, stride: Any, padding: Any) -> dict[str, tuple[int, ...]]:
    """The attributes that all sliding windows have."""
    kernel = extents(op, "kernel_size", kernel_size, dims)
    given = stride is not None and not (isinstance(stride, Sequence) and len(stride) == 0)
    return {
        "kernel_size": kernel,
        "stride": extents(op, "stride", stride, dims) if given else kernel,
        "padding": extents(op, "padding", padding, dims),
    }


def _pool(op: str, dims: int, input: Tensor, **attributes: Any) -> Any:
    """Run a pooling on a batch, or on one image by itself."""
    single = input.ndim == dims + 1
    result = apply(REGISTRY[op], input.unsqueeze(0) if single else input, **attributes)
    if not single:
        return result
    return tuple(part.squeeze(0) for part in result) if isinstance(result, tuple) else result.squeeze(0)


def _max_pool(
    dims: int,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    op = f"max_pool{dims}d"
    return _pool(
        op,
        dims,
        input,
        **_window(op, dims, kernel_size, stride, padding),
        dilation=extents(op, "dilation", dilation, dims),
        ceil_mode=bool(ceil_mode),
        return_indices=bool(return_indices),
    )


def max_pool1d(
    input: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum over windows of (N, C, L) or (C, L); see ``max_pool2d``."""
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum over windows; the first of equal elements gets the gradient, NaN counts as the largest.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: of the window.
        stride: of the window; its size if left out.
        padding: minus infinity added on each side, at most half the window.
        dilation: distance between taps.
        ceil_mode: round the output size up.
        return_indices: give the places of the maxima too.

    Returns:
        the maxima, (N, C, H', W') with H' = (H + 2 padding - dilation (kernel_size - 1) - 1) / stride + 1; with
        ``return_indices`` a pair of them and of int64 indices into the flattened rows and columns of the input.

    Raises:
        ShapeError: an argument out of range, or a window larger than the padded image.
        DTypeError: integers.
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum over windows of (N, C, D, H, W) or (C, D, H, W); see ``max_pool2d``."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _max_unpool(
    dims: int, input: Tensor, indices: Tensor, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Tensor:
    op = f"max_unpool{dims}d"
    window = _window(op, dims, kernel_size, stride, padding)
    default = [
        (extent - 1) * s - 2 * pad + k for extent, k, s, pad in zip(input.shape[-dims:], *window.values(), strict=False)
    ]
    size = default
    if output_size is not None:
        wanted = tuple(output_size)[-dims:] if isinstance(output_size, Sequence) else ()
        if len(wanted) != dims or len(output_size) not in (dims, dims + 2) or not all(map(is_integer, wanted)):
            raise ValueError(f"{op}: output_size must hold {dims} or {dims + 2} integers, got {output_size!r}")
        size = [extent.__index__() for extent in wanted]
        for got, usual, s in zip(size, default, window["stride"], strict=False):
            if not usual - s < got < usual + s:
                raise ValueError(
                    f"{op}: output_size must be less than a stride away from {tuple(default)}, got {tuple(size)}"
                )
    single = input.ndim == dims + 1
    images, places = (input.unsqueeze(0), indices.unsqueeze(0)) if single else (input, indices)
    result: Tensor = apply(REGISTRY[op], images, places, output_size=tuple(size))
    return result.squeeze(0) if single else result


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """The reverse of ``max_pool1d``; see ``max_unpool2d``."""
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """The reverse of ``max_pool2d``: each value back where it came from, zero elsewhere.

    Args:
        input: (N, C, H, W) or (C, H, W).
        indices: what ``max_pool2d`` gave with ``return_indices``: int64, of the input's shape.
        kernel_size: of the pooling.
        stride: of the pooling; the kernel's size if left out.
        padding: of the pooling.
        output_size: rows and columns of the result, or its whole shape, where rounding leaves a choice.

    Raises:
        ShapeError: shapes that do not belong together.
        ValueError: an output size that no such pooling could have come from.
        IndexError: an index outside the result.
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """The reverse of ``max_pool3d``; see ``max_unpool2d``."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)


def _avg_pool(
    dims: int,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    op = f"avg_pool{dims}d"
    if divisor_override is not None and not is_integer(divisor_override):
        raise TypeError(f"{op}: divisor_override must be an integer or None, got {divisor_override!r}")
    result: Tensor = _pool(
        op,
        dims,
        input,
        **_window(op, dims, kernel_size, stride, padding),
        ceil_mode=bool(ceil_mode),
        count_include_pad=bool(count_include_pad),
        divisor_override=divisor_override,
    )
    return result


def avg_pool1d(
    input: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Average over windows of (N, C, L) or (C, L); see ``avg_pool2d``."""
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
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

    Raises:
        ShapeError: an argument out of range, or a window larger than the padded image.
        DTypeError: integers.
    """
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    input: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Average over windows of (N, C, D, H, W) or (C, D, H, W); see ``avg_pool2d``."""
    return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _lp_pool(dims: int, input: Tensor, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Tensor:
    op = f"lp_pool{dims}d"
    if isinstance(norm_type, bool) or not isinstance(norm_type, (int, float)):
        raise TypeError(f"{op}: norm_type must be a number, got {norm_type!r}")
    if norm_type == 0:
        raise ZeroDivisionError(f"{op}: norm_type must not be zero")
    window = _window(op, dims, kernel_size, stride, 0)
    shape = tuple(input.shape) if input.ndim != dims + 1 else (1, *input.shape)
    spec = Spec(shape, input.dtype)
    check_pool(op, spec, dims, window["kernel_size"], window["stride"], window["padding"], (1,) * dims, bool(ceil_mode))
    mean = _avg_pool(dims, input**norm_type, kernel_size, stride, 0, ceil_mode, True, None)
    return (mean.sign() * relu(mean.abs()) * math.prod(window["kernel_size"])) ** (1.0 / norm_type)


def lp_pool1d(
    input: Tensor, norm_type: float, kernel_size: Extent, stride: Extent | None = None, ceil_mode: bool = False
) -> Tensor:
    """Power mean over windows of (N, C, L) or (C, L); see ``lp_pool2d``."""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Tensor, norm_type: float, kernel_size: Extent, stride: Extent | None = None, ceil_mode: bool = False
) -> Tensor:
    """(sum over the window of x^p)^(1/p): the sum for p = 1, nearly the maximum for a large p.

    Args:
        input: (N, C, H, W) or (C, H, W).
        norm_type: p.
        kernel_size: of the window.
        stride: of the window; its size if left out.
        ceil_mode: round the output size up; a window that is cut counts as if its mean went on.
    """
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Tensor, norm_type: float, kernel_size: Extent, stride: Extent | None = None, ceil_mode: bool = False
) -> Tensor:
    """Power mean over windows of (N, C, D, H, W) or (C, D, H, W); see ``lp_pool2d``."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


def _adaptive(op: str, dims: int, input: Tensor, output_size: Any, **attributes: Any) -> Any:
    """Fill in the sizes that are to stay, and pool."""
    wanted = output_size if isinstance(output_size, Sequence) else (output_size,) * dims
    kept = dims > 1  # PyTorch's one-dimensional forms take no None
    allowed = len(wanted) == dims and all(is_integer(extent) or (kept and extent is None) for extent in wanted)
    if isinstance(output_size, str) or not allowed:
        what = f"an integer, None or {dims} of them" if kept else "an integer or a sequence of 1"
        raise TypeError(f"{op}: output_size must be {what}, got {output_size!r}")
    own = input.shape[-dims:] if input.ndim >= dims else (0,) * dims
    size = tuple(now if extent is None else extent.__index__() for extent, now in zip(wanted, own, strict=True))
    return _pool(op, dims, input, output_size=size, **attributes)


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima over as many regions as the output has cells, of (N, C, L) or (C, L); see ``adaptive_max_pool2d``."""
    return _adaptive("adaptive_max_pool1d", 1, input, output_size, return_indices=bool(return_indices))


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima over as many regions as the output has pixels.

    Args:
        input: (N, C, H, W) or (C, H, W).
        output_size: rows and columns of the output; None keeps the input's.
        return_indices: give the places of the maxima too, as ``max_pool2d`` does.
    """
    return _adaptive("adaptive_max_pool2d", 2, input, output_size, return_indices=bool(return_indices))


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima over regions of (N, C, D, H, W) or (C, D, H, W); see ``adaptive_max_pool2d``."""
    return _adaptive("adaptive_max_pool3d", 3, input, output_size, return_indices=bool(return_indices))


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """Averages over as many regions as the output has cells, of (N, C, L) or (C, L)."""
    result: Tensor = _adaptive("adaptive_avg_pool1d", 1, input, output_size)
    return result


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Averages over as many regions as the output has pixels; 1 is global average pooling.

    Args:
        input: (N, C, H, W) or (C, H, W).
        output_size: rows and columns of the output; None keeps the input's.
    """
    result: Tensor = _adaptive("adaptive_avg_pool2d", 2, input, output_size)
    return result


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """Averages over regions of (N, C, D, H, W) or (C, D, H, W); see ``adaptive_avg_pool2d``."""
    result: Tensor = _adaptive("adaptive_avg_pool3d", 3, input, output_size)
    return result
