"""Convolutions and transposed convolutions of sequences, images and volumes; unfold and fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunet.autograd import Tensor, apply
from gpunet.nn.functional.arguments import IntPair, extents, is_integer
from gpunet.ops import REGISTRY
from gpunet.ops.convolution_window import conv_output_size as _output_size

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_output_size",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "fold",
    "unfold",
]


def conv_output_size(
    size: Any, kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """Output size of a convolution or pooling: floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.

    gpunet's own; PyTorch has no such function.

    Args:
        size: of the input along one dimension, or a sequence with one for each.
        kernel, stride, padding, dilation: of the window; integers for all dimensions or one for each.
        ceil_mode: round up, as a pooling with ``ceil_mode`` does: but no window starts in the padding behind.

    Returns:
        An integer, or a tuple of them where ``size`` is a sequence.

    Raises:
        TypeError: not integers.
        ValueError: an argument out of range, or a kernel larger than the padded input.
    """
    dims = 1 if is_integer(size) else len(size)
    sizes = extents("conv_output_size", "size", size, dims)
    given = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    window = {name: extents("conv_output_size", name, value, dims) for name, value in given.items()}
    for name, values in {"size": sizes, **window}.items():
        least = 0 if name == "padding" else 1
        if min(values) < least:
            shown = given.get(name, size)
            raise ValueError(f"conv_output_size: {name} must be at least {least}, got {shown!r}")
    result = tuple(
        _output_size(extent, k, s, p, d, ceil_mode) for extent, k, s, p, d in zip(sizes, *window.values(), strict=True)
    )
    if min(result) < 1:
        raise ValueError(f"conv_output_size: kernel {kernel} is larger than the padded input of size {size}")
    return result[0] if is_integer(size) else result


def _padding(op: str, padding: Any, kernel: Sequence[int], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Any:
    """Padding before and behind in each dimension, from integers, ``"valid"`` or ``"same"``.

    Raises:
        ValueError: an unknown name, or ``"same"`` with a stride other than 1.
    """
    dims = len(stride)
    if not isinstance(padding, str):
        return tuple((extent, extent) for extent in extents(op, "padding", padding, dims))
    if padding == "valid":
        return ((0, 0),) * dims
    if padding != "same":
        raise ValueError(f"{op}: padding must be integers, 'valid' or 'same', got {padding!r}")
    if stride != (1,) * dims:
        raise ValueError(f"{op}: padding 'same' needs a stride of 1, got {stride}")
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    # An odd total puts the extra pixel behind, as PyTorch does.
    return tuple((extent // 2, extent - extent // 2) for extent in total)


def _checked_groups(op: str, groups: Any) -> int:
    if not is_integer(groups):
        raise TypeError(f"{op}: groups must be an integer, got {groups!r}")
    return int(groups.__index__())


def _apply(op: str, dims: int, input: Tensor, *rest: Any, **attributes: Any) -> Tensor:
    """Run an operation on a batch, or on one image by itself."""
    single = input.ndim == dims + 1
    result: Tensor = apply(REGISTRY[op], input.unsqueeze(0) if single else input, *rest, **attributes)
    return result.squeeze(0) if single else result


def _conv(
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    residual: Any,
    activation: Any,
) -> Tensor:
    op = f"conv{dims}d"
    steps, spread = extents(op, "stride", stride, dims), extents(op, "dilation", dilation, dims)
    kernel = weight.shape[2:] if weight.ndim == dims + 2 else (1,) * dims
    pads = _padding(op, padding, kernel, steps, spread)
    count = _checked_groups(op, groups)
    if residual is not None and input.ndim == dims + 1:  # one image by itself
        residual = residual.unsqueeze(0)
    attributes = {"stride": steps, "padding": pads, "dilation": spread, "groups": count, "activation": activation}
    return _apply(op, dims, input, weight, bias, residual, **attributes)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair | str = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """One-dimensional convolution (cross-correlation), with what follows it in a network.

    ``residual`` and ``activation`` are gpunet's own: y = activation(conv(x) + bias + residual) in one operation, which
    writes y once and keeps nothing else for backward.

    Args:
        input: (N, C, L) or (C, L).
        weight: (K, C / groups, R).
        bias: (K,) or None.
        stride: step of the window.
        padding: zeros added on each side; ``"valid"`` for none, ``"same"`` to keep the size at stride 1.
        dilation: distance between taps.
        groups: independent groups of channels.
        residual: added to the result; of its shape and dtype, or None.
        activation: ``"relu"``, applied last, or None.

    Returns:
        (N, K, P) with P = floor((L + 2 padding - dilation (R - 1) - 1) / stride) + 1.

    Raises:
        ShapeError: channels, groups, sizes or a residual that do not fit, or a kernel larger than the padded input.
        DTypeError: integers, or dtypes that differ.
        ValueError: another activation.
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups, residual, activation)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair | str = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """Two-dimensional convolution (cross-correlation), with what follows it in a network.

    ``residual`` and ``activation`` are gpunet's own: y = activation(conv(x) + bias + residual) in one operation, which
    writes y once and keeps nothing else for backward.

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (K, C / groups, R, S).
        bias: (K,) or None.
        stride: step of the window.
        padding: zeros added on each side; ``"valid"`` for none, ``"same"`` to keep the size at stride 1.
        dilation: distance between taps.
        groups: independent groups of channels.
        residual: added to the result; of its shape and dtype, or None.
        activation: ``"relu"``, applied last, or None.

    Returns:
        (N, K, P, Q) with P = floor((H + 2 padding - dilation (R - 1) - 1) / stride) + 1.

    Raises:
        ShapeError: channels, groups, sizes or a residual that do not fit, or a kernel larger than the padded input.
        DTypeError: integers, or dtypes that differ.
        ValueError: another activation.
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups, residual, activation)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair | str = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """Three-dimensional convolution (cross-correlation), with what follows it in a network.

    ``residual`` and ``activation`` are gpunet's own: y = activation(conv(x) + bias + residual) in one operation, which
    writes y once and keeps nothing else for backward.

    Args:
        input: (N, C, D, H, W) or (C, D, H, W).
        weight: (K, C / groups, T, R, S).
        bias: (K,) or None.
        stride: step of the window.
        padding: zeros added on each side; ``"valid"`` for none, ``"same"`` to keep the size at stride 1.
        dilation: distance between taps.
        groups: independent groups of channels.
        residual: added to the result; of its shape and dtype, or None.
        activation: ``"relu"``, applied last, or None.

    Returns:
        (N, K, O, P, Q), each size as in ``conv2d``.

    Raises:
        ShapeError: channels, groups, sizes or a residual that do not fit, or a kernel larger than the padded input.
        DTypeError: integers, or dtypes that differ.
        ValueError: another activation.
    """
    return _conv(3, input, weight, bias, stride, padding, dilation, groups, residual, activation)


def _conv_transpose(
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> Tensor:
    op = f"conv_transpose{dims}d"
    return _apply(
        op,
        dims,
        input,
        weight,
        bias,
        stride=extents(op, "stride", stride, dims),
        padding=tuple((extent, extent) for extent in extents(op, "padding", padding, dims)),
        output_padding=extents(op, "output_padding", output_padding, dims),
        dilation=extents(op, "dilation", dilation, dims),
        groups=_checked_groups(op, groups),
    )


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    output_padding: IntPair = 0,
    groups: int = 1,
    dilation: IntPair = 1,
) -> Tensor:
    """One-dimensional transposed convolution: the gradient of ``conv1d`` with respect to its input.

    Args:
        input: (N, C, L) or (C, L).
        weight: (C, K / groups, R).
        bias: (K,) or None.
        stride: distance between the windows that each input value is spread over.
        padding: cut off on each side of the output.
        output_padding: added behind the output; smaller than the stride or the dilation.
        groups: independent groups of channels.
        dilation: distance between taps.

    Returns:
        (N, K, P) with P = (L - 1) stride - 2 padding + dilation (R - 1) + output_padding + 1.

    Raises:
        ShapeError: channels, groups or sizes that do not fit, or nothing left of the output.
    """
    return _conv_transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    output_padding: IntPair = 0,
    groups: int = 1,
    dilation: IntPair = 1,
) -> Tensor:
    """Two-dimensional transposed convolution: the gradient of ``conv2d`` with respect to its input.

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (C, K / groups, R, S).
        bias: (K,) or None.
        stride: distance between the windows that each input pixel is spread over.
        padding: cut off on each side of the output.
        output_padding: added behind the output; smaller than the stride or the dilation.
        groups: independent groups of channels.
        dilation: distance between taps.

    Returns:
        (N, K, P, Q) with P = (H - 1) stride - 2 padding + dilation (R - 1) + output_padding + 1.

    Raises:
        ShapeError: channels, groups or sizes that do not fit, or nothing left of the output.
    """
    return _conv_transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    output_padding: IntPair = 0,
    groups: int = 1,
    dilation: IntPair = 1,
) -> Tensor:
    """Three-dimensional transposed convolution: the gradient of ``conv3d`` with respect to its input.

    Args:
        input: (N, C, D, H, W) or (C, D, H, W).
        weight: (C, K / groups, T, R, S).
        bias: (K,) or None.
        stride: distance between the windows that each input pixel is spread over.
        padding: cut off on each side of the output.
        output_padding: added behind the output; smaller than the stride or the dilation.
        groups: independent groups of channels.
        dilation: distance between taps.

    Returns:
        (N, K, O, P, Q), each size as in ``conv_transpose2d``.

    Raises:
        ShapeError: channels, groups or sizes that do not fit, or nothing left of the output.
    """
    return _conv_transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _patch_window(op: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> dict[str, tuple[int, ...]]:
    given = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    for name, value in given.items():
        if isinstance(value, Sequence) and len(value) == 1:  # a convolution would take it
            raise TypeError(f"{op}: {name} must be an integer or 2 of them, got {value!r}")
    return {name: extents(op, name, value, 2) for name, value in given.items()}


def unfold(
    input: Tensor, kernel_size: IntPair, dilation: IntPair = 1, padding: IntPair = 0, stride: IntPair = 1
) -> Tensor:
    """The patches that a window sees, as columns (im2col).

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: R and S.
        dilation: distance between taps.
        padding: zeros added on each side.
        stride: step of the window.

    Returns:
        (N, C R S, P Q): a column for each of the P x Q windows.

    Raises:
        ShapeError: an argument out of range, or a window larger than the padded input.
    """
    return _apply("unfold", 2, input, **_patch_window("unfold", kernel_size, dilation, padding, stride))


def fold(
    input: Tensor,
    output_size: IntPair,
    kernel_size: IntPair,
    dilation: IntPair = 1,
    padding: IntPair = 0,
    stride: IntPair = 1,
) -> Tensor:
    """Columns added up to images (col2im): where windows overlap, their values are summed.

    Args:
        input: (N, C R S, P Q) or (C R S, P Q), as ``unfold`` gives them.
        output_size: H and W.
        kernel_size: R and S.
        dilation: distance between taps.
        padding: zeros that ``unfold`` would add on each side.
        stride: step of the window.

    Returns:
        (N, C, H, W).

    Raises:
        ShapeError: rows or columns that do not fit the window and the output size.
    """
    window = _patch_window("fold", kernel_size, dilation, padding, stride)
    return _apply("fold", 1, input, output_size=extents("fold", "output_size", output_size, 2), **window)
