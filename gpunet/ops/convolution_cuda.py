"""Convolutions of one and two dimensions and their gradients by the CUDA kernels.

Three kinds of kernel, chosen by sizes alone, then by alignment (``choose``):

- groups of few channels: direct kernels (``convolution_direct_cuda``);
- 1x1 with stride 1 and no padding: a product of matrices (``gemm_cuda``), the pixels being rows;
- everything else: implicit GEMM (``cuda_kernels/conv2d_forward.cu``, ``conv2d_input_grad.cu``,
  ``conv2d_weight_grad.cu``), where the weight gradient's long sum is cut into stretches that are added in order.

Images go in as they lie, if that is NHWC with a pixel pitch; anything else is copied to NHWC first. Weights lie as
(R, S, C/G, K), which is how layers keep them. One-dimensional images are images of height 1. All functions take float32
and float64.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np

from gpunet.backend.devices import array_module
from gpunet.backend.kernels import blocks_for, get_kernel, is_aligned, launch
from gpunet.backend.memory import empty, spanning
from gpunet.ops import convolution_direct_cuda as direct
from gpunet.ops.convolution_sizes import Sizes2d
from gpunet.ops.convolution_window import Geometry, Sizes
from gpunet.ops.gemm_cuda import Gemm, column_sums_cuda, launch_gemm, launch_sum_partials
from gpunet.ops.gemm_tiles import choose_splits, choose_tile

__all__ = [
    "bias_gradient_cuda",
    "choose",
    "convolve_cuda",
    "input_gradient_cuda",
    "supports",
    "weight_gradient_cuda",
]

_THREADS: Final = 256
_LARGEST_GRID: Final = 65535  # in the second and third dimension
# What the kernels count in 32 bits: pixels, one image, the weight; and positions, with room for a far-outside mark.
_MOST_ELEMENTS: Final = 2**31 - 2**10
_MOST_EXTENT: Final = 2**28


def supports(x_shape: Sizes, weight_shape: Sizes, geometry: Geometry, dtype: Any) -> tuple[str, str]:
    """Whether the kernels take a convolution: ``"cuda"`` and which of them, or ``"array"`` and why not.

    Args:
        x_shape: of the input, (N, C, ...).
        weight_shape: (K, C/G, ...).
        geometry: how the window moves.
        dtype: that the sums are carried in.
    """
    if len(x_shape) > 4:
        return "array", "three dimensions: patches and a matrix product"
    if dtype not in (np.float32, np.float64):
        return "array", f"the kernels are not built for {dtype.name}"
    sizes = _sizes(x_shape, weight_shape, geometry)
    what = _limit(sizes)
    if what is not None:
        return "array", f"{what}, more than the kernels can count"
    return "cuda", choose(sizes, dtype)[1]


def choose(sizes: Sizes2d, dtype: Any) -> tuple[str, str]:
    """The kind of kernel, ``"direct"``, ``"gemm"`` or ``"tiled"``, and a sentence that says why."""
    reason = direct.is_direct(sizes)
    if reason is not None:
        return "direct", reason
    rows = sizes.images * sizes.out_height * sizes.out_width
    vectors = not (sizes.in_channels % 4 or sizes.out_channels % 4)
    tile = choose_tile(rows, sizes.out_channels, sizes.groups, dtype, vectors)
    if _is_product(sizes):
        return "gemm", f"1x1: a product of matrices, tile {tile.name}"
    return "tiled", f"tiled implicit GEMM, tile {tile.name}"


def _is_product(sizes: Sizes2d) -> bool:
    """Whether each output pixel sees one input pixel, the one at its own place."""
    return (sizes.kernel_height, sizes.kernel_width, sizes.stride_height, sizes.stride_width) == (1, 1, 1, 1) and (
        sizes.pad_top == sizes.pad_left == 0
        and (sizes.in_height, sizes.in_width) == (sizes.out_height, sizes.out_width)
    )


def _limit(sizes: Sizes2d) -> str | None:
    """What of a convolution is too large for the kernels, or None."""
    in_pixels = sizes.images * sizes.in_height * sizes.in_width
    out_pixels = sizes.images * sizes.out_height * sizes.out_width
    if max(in_pixels, out_pixels) > _MOST_ELEMENTS:
        return f"{max(in_pixels, out_pixels)} pixels"
    image = max(sizes.in_height * sizes.in_width * sizes.in_pitch, sizes.out_height * sizes.out_width * sizes.out_pitch)
    if image > _MOST_ELEMENTS:
        return f"{image} elements in one image"
    weights = sizes.kernel_height * sizes.kernel_width * sizes.in_channels * sizes.groups * sizes.out_channels
    if weights > _MOST_ELEMENTS:
        return f"{weights} weights"
    reach = [
        max(extent, out) * max(stride, 1) + pad + kernel * dilation
        for extent, out, stride, pad, kernel, dilation in (
            (sizes.in_height, sizes.out_height, sizes.stride_height, sizes.pad_top, sizes.kernel_height,
             sizes.dilation_height),
            (sizes.in_width, sizes.out_width, sizes.stride_width, sizes.pad_left, sizes.kernel_width,
             sizes.dilation_width),
        )
    ]  # fmt: skip
    if max(reach) > _MOST_EXTENT:
        return f"a window that reaches over {max(reach)} pixels"
    phases = sizes.stride_height * sizes.stride_width * sizes.groups
    if phases > _LARGEST_GRID:
        return f"{phases} groups times phases of the stride"
    channels = max(sizes.in_channels, sizes.out_channels)
    if channels > _LARGEST_GRID * 32:
        return f"{channels} channels in a group"
    return None


def _sizes(
    x_shape: Sizes, weight_shape: Sizes, geometry: Geometry, size: Sizes | None = None, pitches: Any = None
) -> Sizes2d:
    """The sizes of the convolution, as one of two dimensions."""
    lift = len(x_shape) == 3
    n, c, *extents = x_shape
    k, per_group, *kernel = weight_shape
    pads = [before for before, _ in geometry.padding]
    if size is None:
        size = tuple(
            (extent + sum(pad) - d * (taps - 1) - 1) // s + 1
            for extent, pad, d, taps, s in zip(
                extents, geometry.padding, geometry.dilation, kernel, geometry.stride, strict=True
            )
        )
    in_pitch, out_pitch = pitches or (c, k)
    pair = (1,) if lift else ()
    window = (*pair, *kernel, *pair, *geometry.stride, *((0,) if lift else ()), *pads, *pair, *geometry.dilation)
    values = (n, *pair, *extents, in_pitch, *pair, *size, out_pitch, geometry.groups, per_group, k // geometry.groups)
    return Sizes2d._make((*values, *window))


class _Pixels(NamedTuple):
    """An image array as the kernels take it."""

    flat: Any
    pitch: int


def _pixels(x: Any) -> _Pixels:
    """The pixels of (N, C, H, W) or (N, C, W): as they lie if that is NHWC with a pitch, else copied."""
    size = x.dtype.itemsize
    n, c, *extents = x.shape
    pitch = c
    expected = None  # the next stride, from the innermost dimension outwards; those of length 1 do not matter
    fits = x.strides[1] == size or c == 1
    for length, stride in [*zip(extents[::-1], x.strides[:1:-1], strict=True), (n, x.strides[0])]:
        if length == 1:
            continue
        if expected is None:
            pitch, rest = divmod(stride, size)
            fits = fits and rest == 0 and pitch >= c
        else:
            fits = fits and stride == expected
        expected = stride * length
    if fits and pitch * math.prod(extents) <= _MOST_ELEMENTS:
        return _Pixels(spanning(x.transpose(0, *range(2, x.ndim), 1)), pitch)
    copy = array_module(x).ascontiguousarray(x.transpose(0, *range(2, x.ndim), 1))
    return _Pixels(copy.reshape(-1), c)


def _weights(weight: Any) -> Any:
    """(K, C/G, ...) as (..., C/G, K), flat: a view of what a layer keeps."""
    order = weight.transpose(*range(2, weight.ndim), 1, 0)
    return array_module(weight).ascontiguousarray(order).reshape(-1)


def _vector(values: Any) -> Any:
    return None if values is None else array_module(values).ascontiguousarray(values)


def _new_pixels(shape: Sizes, dtype: Any, module: Any) -> tuple[Any, Any]:
    """An output of logical ``shape``, physically channels-last, and its memory, flat."""
    out = empty((shape[0], *shape[2:], shape[1]), dtype, module)
    return out.transpose(0, out.ndim - 1, *range(1, out.ndim - 1)), out.reshape(-1)


def _added(residual: Any) -> Any:
    """A residual laid out as the output is."""
    if residual is None:
        return None
    order = residual.transpose(0, *range(2, residual.ndim), 1)
    return array_module(residual).ascontiguousarray(order).reshape(-1)


def _has_vectors(sizes: Sizes2d, *arrays: Any) -> bool:
    """Whether sixteen bytes can be moved at once."""
    extents = (sizes.in_channels, sizes.out_channels, sizes.in_pitch, sizes.out_pitch)
    return arrays[0].dtype == np.float32 and not any(extent % 4 for extent in extents) and is_aligned(16, *arrays)


def convolve_cuda(
    x: Any,
    weight: Any,
    bias: Any,
    geometry: Geometry,
    size: Sizes,
    residual: Any = None,
    activation: str | None = None,
    naive: bool = False,
) -> Any:
    """activation(convolution + bias + residual).

    Args:
        x: (N, C, H, W) or (N, C, W).
        weight: (K, C/G, R, S) or (K, C/G, S).
        bias: (K,), or None.
        geometry: how the window moves.
        size: of the output, (P, Q) or (Q,).
        residual: (N, K, P, Q) or (N, K, Q), or None.
        activation: ``"relu"`` or None.
        naive: take the kernel that has one output a thread.

    Returns:
        (N, K, P, Q) or (N, K, Q), physically channels-last.
    """
    module = array_module(x)
    y, flat = _new_pixels((x.shape[0], weight.shape[0], *size), x.dtype, module)
    if y.size == 0:
        return y
    source = _pixels(x)
    sizes = _sizes(x.shape, weight.shape, geometry, size, (source.pitch, weight.shape[0]))
    arrays = source.flat, _weights(weight), _vector(bias), _added(residual)
    relu = activation == "relu"
    kind = choose(sizes, x.dtype)[0]
    if kind == "direct" and not naive:
        direct.forward(sizes, *arrays, relu, flat)
    elif kind == "gemm":
        rows = sizes.images * sizes.out_height * sizes.out_width
        c, k, pitch = sizes.in_channels, sizes.out_channels, weight.shape[0]
        product = Gemm(sizes.groups, rows, k, c, c, sizes.in_pitch, k, pitch, k, sizes.out_pitch)
        launch_gemm("nn", product, flat, *arrays, relu, naive)
    else:
        _launch_gather("conv2d_forward", sizes, flat, *arrays, relu, naive)
    return y


def input_gradient_cuda(
    grad: Any,
    weight: Any,
    bias: Any,
    geometry: Geometry,
    shape: Sizes,
    residual: Any = None,
    activation: str | None = None,
    naive: bool = False,
) -> Any:
    """activation(gradient to a convolution's input + bias + residual), as a transposed convolution has it.

    Args:
        grad: (N, K, P, Q) or (N, K, Q).
        weight: (K, C/G, R, S) or (K, C/G, S).
        bias: (C,), or None.
        geometry: how the convolution's window moves.
        shape: of the result, (N, C, H, W) or (N, C, W).
        residual: of that shape, or None.
        activation: ``"relu"`` or None.
        naive: take the kernel that has one element a thread.

    Returns:
        An array of ``shape``, physically channels-last.
    """
    module = array_module(grad)
    dx, flat = _new_pixels(shape, grad.dtype, module)
    if dx.size == 0:
        return dx
    source = _pixels(grad)
    sizes = _sizes(shape, weight.shape, geometry, grad.shape[2:], (shape[1], source.pitch))
    arrays = source.flat, _weights(weight), _vector(bias), _added(residual)
    relu = activation == "relu"
    kind = choose(sizes, grad.dtype)[0]
    if kind == "direct" and not naive:
        direct.input_gradient(sizes, *arrays, relu, flat)
    elif kind == "gemm":
        rows = sizes.images * sizes.in_height * sizes.in_width
        c, k, pitch = sizes.in_channels, sizes.out_channels, weight.shape[0]
        product = Gemm(sizes.groups, rows, c, k, k, sizes.out_pitch, k, pitch, c, sizes.in_pitch)
        launch_gemm("nt", product, flat, *arrays, relu, naive)
    else:
        _launch_gather("conv2d_input_grad", sizes, flat, *arrays, relu, naive)
    return dx


def _launch_gather(
    file: str, sizes: Sizes2d, output: Any, source: Any, weight: Any, bias: Any, residual: Any, relu: bool, naive: bool
) -> None:
    """Launch the kernel of the forward pass or the input gradient."""
    name = output.dtype.name
    args = (output, source, weight, bias, residual, relu, *sizes)
    if naive:
        launch(get_kernel(file, f"{file}_naive_{name}"), blocks_for(output.size, _THREADS), _THREADS, args)
        return
    if file == "conv2d_forward":
        phases, columns = 1, sizes.out_channels
        rows = sizes.images * sizes.out_height * sizes.out_width
    else:
        phases, columns = sizes.stride_height * sizes.stride_width, sizes.in_channels
        # The first phase has the most pixels.
        height, width = -(-sizes.in_height // sizes.stride_height), -(-sizes.in_width // sizes.stride_width)
        rows = sizes.images * height * width
    vectors = _has_vectors(sizes, output, source, weight, residual)
    tile = choose_tile(rows, columns, sizes.groups * phases, output.dtype, vectors)
    down, across = tile.blocks(rows, columns)
    launch(get_kernel(file, f"{file}_{tile.name}_{name}"), (down, across, phases * sizes.groups), tile.threads, args)


def weight_gradient_cuda(grad: Any, x: Any, shape: Sizes, geometry: Geometry, naive: bool = False) -> Any:
    """The gradient to a convolution's weight.

    Args:
        grad: (N, K, P, Q) or (N, K, Q).
        x: (N, C, H, W) or (N, C, W).
        shape: of the result, (K, C/G, R, S) or (K, C/G, S).
        geometry: how the window moves.
        naive: take the kernel that has one element a thread.

    Returns:
        An array of ``shape``, physically (R, S, C/G, K).
    """
    module = array_module(grad)
    k, per_group, *kernel = shape
    dweight = empty((*kernel, per_group, k), grad.dtype, module)
    result = dweight.transpose(dweight.ndim - 1, dweight.ndim - 2, *range(len(kernel)))
    if grad.size == 0:
        dweight[...] = 0
        return result
    flat = dweight.reshape(-1)
    source, outer = _pixels(x), _pixels(grad)
    sizes = _sizes(x.shape, shape, geometry, grad.shape[2:], (source.pitch, outer.pitch))
    kind = choose(sizes, grad.dtype)[0]
    if kind == "direct" and not naive:
        direct.weight_gradient(sizes, outer.flat, source.flat, flat)
    elif kind == "gemm":
        pixels = sizes.images * sizes.out_height * sizes.out_width
        c, per = sizes.in_channels, sizes.out_channels
        product = Gemm(sizes.groups, c, per, pixels, c, sizes.in_pitch, per, sizes.out_pitch, per, k)
        launch_gemm("tn", product, flat, source.flat, outer.flat, naive=naive)
    else:
        _launch_weight_gradient(sizes, flat, outer.flat, source.flat, naive)
    return result


def _launch_weight_gradient(sizes: Sizes2d, output: Any, grad: Any, x: Any, naive: bool) -> None:
    name = output.dtype.name
    if naive:
        kernel = get_kernel("conv2d_weight_grad", f"conv2d_weight_grad_naive_{name}")
        launch(kernel, blocks_for(output.size, _THREADS), _THREADS, (output, grad, x, *sizes))
        return
    rows = sizes.kernel_height * sizes.kernel_width * sizes.in_channels
    pixels = sizes.images * sizes.out_height * sizes.out_width
    vectors = _has_vectors(sizes, output, grad, x)
    tile = choose_tile(rows, sizes.out_channels, sizes.groups, output.dtype, vectors, fill=False)
    splits = choose_splits(tile, rows, sizes.out_channels, sizes.groups, pixels)
    down, across = tile.blocks(rows, sizes.out_channels)
    kernel = get_kernel("conv2d_weight_grad", f"conv2d_weight_grad_{tile.name}_{name}")
    target = output if splits == 1 else empty((splits * output.size,), output.dtype, array_module(output))
    launch(kernel, (down, across, splits * sizes.groups), tile.threads, (target, grad, x, *sizes, splits))
    if splits > 1:
        columns = sizes.groups * sizes.out_channels
        launch_sum_partials(Gemm(1, rows, columns, 0, 0, 0, 0, 0, 0, columns), splits, output, target)


def bias_gradient_cuda(grad: Any) -> Any:
    """The sum over everything but the channels, of (N, K, P, Q) or (N, K, Q): an array (K,)."""
    if grad.size == 0:
        return array_module(grad).zeros((grad.shape[1],), grad.dtype)
    source = _pixels(grad)
    count, channels = grad.size // grad.shape[1], grad.shape[1]
    strided = array_module(grad).lib.stride_tricks.as_strided
    size = grad.dtype.itemsize
    return column_sums_cuda(strided(source.flat, (count, channels), (source.pitch * size, size)))
