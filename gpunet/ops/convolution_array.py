"""Convolutions and their gradients on any array module: patches of the whole batch, and one matrix product a group."""

from __future__ import annotations

import math
from typing import Any

from gpunet.ops.base import module_of
from gpunet.ops.convolution_window import Geometry, Sizes, tap_slices
from gpunet.ops.epilogue import add_epilogue
from gpunet.ops.gemm import matrix_product
from gpunet.ops.windows import channels_first, channels_last

__all__ = ["convolve_array", "input_gradient_array", "weight_gradient_array"]


def _inside(sizes: Sizes, geometry: Geometry) -> tuple[slice, ...]:
    """Where the image lies inside its padding."""
    return tuple(slice(pad[0], pad[0] + extent) for pad, extent in zip(geometry.padding, sizes, strict=True))


def _padded_zeros(module: Any, n: int, sizes: Sizes, channels: Sizes, geometry: Geometry, dtype: Any) -> Any:
    extents = (extent + sum(pad) for extent, pad in zip(sizes, geometry.padding, strict=True))
    return module.zeros((n, *extents, *channels), dtype)


def _patches(x: Any, kernel: Sizes, size: Sizes, geometry: Geometry) -> Any:
    """(G, N·pixels, taps·C/G)."""
    module = module_of(x)
    n, c, *sizes = x.shape
    groups = geometry.groups
    padded = _padded_zeros(module, n, tuple(sizes), (c,), geometry, x.dtype)
    padded[(slice(None), *_inside(tuple(sizes), geometry))] = channels_last(x)
    rank = len(size)
    patches = module.empty((groups, n, *size, *kernel, c // groups), x.dtype)
    for tap, seen in tap_slices(kernel, size, geometry.stride, geometry.dilation):
        values = padded[(slice(None), *seen)].reshape(n, *size, groups, c // groups)
        target = patches[(slice(None),) * (2 + rank) + tap]
        target[...] = values.transpose(rank + 1, *range(rank + 1), rank + 2)
    return patches.reshape(groups, n * math.prod(size), math.prod(kernel) * c // groups)


def _grouped_rows(grad: Any, groups: int) -> Any:
    """dy as (G, N·pixels, K/G)."""
    k = grad.shape[1]
    return channels_last(grad).reshape(-1, groups, k // groups).transpose(1, 0, 2)


def _products(a: Any, b: Any) -> Any:
    """``a @ b`` of each group, as exactly as convolutions are to be: one group is two matrices, not a stack."""
    if a.shape[0] == 1:
        return matrix_product(a[0], b[0], operation="convolution")[None]
    return matrix_product(a, b, operation="convolution")


def convolve_array(
    x: Any,
    weight: Any,
    bias: Any,
    geometry: Geometry,
    size: Sizes,
    residual: Any = None,
    activation: str | None = None,
) -> Any:
    """y from x, w, b and r; ``size`` is y's."""
    k, per_group, *kernel = weight.shape
    groups = geometry.groups
    rank = len(kernel)
    patches = _patches(x, tuple(kernel), size, geometry)
    split = weight.reshape(groups, k // groups, per_group, *kernel)
    matrices = split.transpose(0, *range(3, 3 + rank), 2, 1).reshape(groups, -1, k // groups)
    rows = _products(patches, matrices).transpose(1, 0, 2).reshape(x.shape[0], *size, k)
    y = channels_first(module_of(x).ascontiguousarray(rows))
    if bias is not None:
        y += bias.reshape(-1, *(1,) * rank)
    add_epilogue(y, residual, activation)
    return y


def input_gradient_array(grad: Any, weight: Any, bias: Any, geometry: Geometry, shape: Sizes) -> Any:
    """dx of shape ``shape`` from dy and w, plus b if there is one, as a transposed convolution has it."""
    n, c, *sizes = shape
    k, per_group, *kernel = weight.shape
    size = tuple(grad.shape[2:])
    groups, rank = geometry.groups, len(kernel)
    split = weight.reshape(groups, k // groups, per_group, *kernel)
    matrices = split.transpose(0, 1, *range(3, 3 + rank), 2).reshape(groups, k // groups, -1)
    products = _products(_grouped_rows(grad, groups), matrices).reshape(groups, n, *size, *kernel, per_group)
    padded = _padded_zeros(module_of(grad), n, tuple(sizes), (groups, per_group), geometry, grad.dtype)
    for tap, seen in tap_slices(tuple(kernel), size, geometry.stride, geometry.dilation):
        one = products[(slice(None),) * (2 + rank) + tap]
        padded[(slice(None), *seen)] += one.transpose(*range(1, 2 + rank), 0, 2 + rank)
    joined = padded.reshape(*padded.shape[: 1 + rank], c)[(slice(None), *_inside(tuple(sizes), geometry))]
    return channels_first(joined if bias is None else joined + bias)


def weight_gradient_array(grad: Any, x: Any, shape: Sizes, geometry: Geometry) -> Any:
    """dw of shape ``shape`` from dy and x."""
    k, per_group, *kernel = shape
    patches = _patches(x, tuple(kernel), tuple(grad.shape[2:]), geometry)
    product = _products(_grouped_rows(grad, geometry.groups).transpose(0, 2, 1), patches)
    taps = product.reshape(k, *kernel, per_group)
    return taps.transpose(0, taps.ndim - 1, *range(1, taps.ndim - 1))
