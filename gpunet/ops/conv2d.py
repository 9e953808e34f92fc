"""Two-dimensional convolution (cross-correlation, as every framework calls it).

    y[n,k,p,q]  = b[k] + sum_{c,r,s} x[n, c, p·sh + r·dh - top, q·sw + s·dw - left] w[k,c,r,s]
    dx[n,c,h,w] = sum over all k,p,q,r,s that read x[n,c,h,w] of dy[n,k,p,q] w[k,c,r,s]
    dw[k,c,r,s] = sum_{n,p,q} dy[n,k,p,q] x[n, c, p·sh + r·dh - top, q·sw + s·dw - left]
    db[k]       = sum_{n,p,q} dy[n,k,p,q]

    x (N, C, H, W), w (K, C/G, R, S), b (K,), y (N, K, P, Q), all of one floating dtype; x outside its bounds is 0.
    P = floor((H + top + bottom - dh (R-1) - 1) / sh) + 1, and Q likewise. With G groups, output channels
    k·G/K = g read input channels c·G/C = g only. Source: Dumoulin and Visin 2016, "A guide to convolution arithmetic".

Memory order: activations are logically NCHW and physically NHWC; the output is. The CPU path gathers the patches of a
block of output pixels into a matrix that stays in the cache and multiplies it by the weights, block by block on the
threads. Both gradients with respect to x and y run on the same frame: the input gradient is, for each of the sh·sw
phases of its pixels, a stride-1 convolution of dy with the part of the flipped kernel that reaches that phase, so that
no zero is ever multiplied. The weight gradient adds blocks in a fixed order. Nothing is accumulated into an output.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gpunet.backend.errors import ShapeError
from gpunet.backend.memory import empty, empty_nhwc, scratch
from gpunet.backend.threads import parallel_for, single_threaded_blas
from gpunet.ops.base import (
    Context,
    Inferred,
    Op,
    Sample,
    Spec,
    module_of,
    register,
    require_floating,
    require_same_dtype,
)
from gpunet.ops.channels import channel_sums
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.gemm import matrix_product

__all__ = ["Conv2d", "conv2d_input_gradient", "conv2d_weight_gradient", "conv_output_size"]

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
Block = tuple[int, int, int, int]  # first image, end, first output row, end

# A block's patch matrix should stay in the caches until its product is done, and be worth the calls it costs.
_PATCH_BYTES = 1 << 21
_MIN_ROWS = 192


def conv_output_size(size: int, kernel: int, stride: int = 1, padding: int | Pair = 0, dilation: int = 1) -> int:
    """Output size of a convolution or pooling along one dimension: floor((size + pads - d(k-1) - 1) / s) + 1."""
    before, after = (padding, padding) if isinstance(padding, int) else padding
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def check_window(op: str, shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Padding, dilation: Pair) -> Pair:
    """Validate a sliding window and return its output size.

    Raises:
        ShapeError: an argument out of range, or a kernel larger than the padded input.
    """
    for name, pair, low in (("kernel_size", kernel, 1), ("stride", stride, 1), ("dilation", dilation, 1)):
        if min(pair) < low:
            raise ShapeError(f"{op}: {name} must be at least {low}, got {pair}")
    if min(*padding[0], *padding[1]) < 0:
        raise ShapeError(f"{op}: padding must not be negative, got {padding}")
    if min(shape[1:]) == 0:
        raise ShapeError(f"{op}: input must not be empty except in its batch, got shape {tuple(shape)}")
    result = []
    for size, k, s, pads, d in zip(shape[-2:], kernel, stride, padding, dilation, strict=True):
        reach = d * (k - 1) + 1
        if size + sum(pads) < reach:
            raise ShapeError(
                f"{op}: kernel_size {kernel} with dilation {dilation} covers {reach} pixels, more than the padded "
                f"input has ({size + sum(pads)}); input shape {tuple(shape)}, padding {padding}"
            )
        result.append(conv_output_size(size, k, s, pads, d))
    return result[0], result[1]


class _Window(NamedTuple):
    """A sliding window as the blocks see it: where it starts relative to the input, and how it steps.

    ``start`` is the input row and column under tap (0, 0) of output pixel (0, 0): minus the padding, or, for
    gradients, anything.
    """

    kernel: Pair
    stride: Pair
    dilation: Pair
    start: Pair


def to_nhwc(x: Any) -> Any:
    """The array seen as (N, H, W, C) with contiguous channels; copied only if they are not."""
    seen = x.transpose(0, 2, 3, 1)
    channels_together = seen.shape[3] == 1 or seen.strides[3] == seen.itemsize
    if channels_together and min(seen.strides) >= 0 and not (0 in seen.strides and seen.size > 1):
        return seen
    if isinstance(seen, np.ndarray):
        copy = empty(seen.shape, seen.dtype)
        copy[...] = seen
        return copy
    return module_of(x).ascontiguousarray(seen)


def _blocks(images: int, rows: int, columns: int, depth: int, itemsize: int) -> list[Block]:
    """Cut N x P output rows into blocks (first image, last, first row, last) of cache-sized patch matrices."""
    if images * rows * columns == 0:
        return []
    pixels = max(_MIN_ROWS, _PATCH_BYTES // (depth * itemsize))
    per_block = max(1, pixels // columns)
    if per_block >= rows:
        step = max(1, per_block // rows)
        return [(n, min(n + step, images), 0, rows) for n in range(0, images, step)]
    count = -(-rows // per_block)
    height = -(-rows // count)
    return [(n, n + 1, p, min(p + height, rows)) for n in range(images) for p in range(0, rows, height)]


def _padded(
    x: np.ndarray, images: slice, top: int, left: int, height: int, width: int, region: np.ndarray | None = None
) -> np.ndarray:
    """The region of x that starts at (top, left), zero outside x; x itself where it lies inside.

    A ``region`` that a call with the same geometry returned has its zeros already: only the inside is copied.
    """
    _, h, w, c = x.shape
    if top >= 0 and left >= 0 and top + height <= h and left + width <= w:
        return x[images, top : top + height, left : left + width]
    first, begin = min(max(0, -top), height), min(max(0, -left), width)
    last, end = min(max(first, h - top), height), min(max(begin, w - left), width)
    if region is None:
        region = scratch("conv.region", (images.stop - images.start, height, width, c), x.dtype)
        region[:, :first] = 0
        region[:, last:] = 0
        region[:, first:last, :begin] = 0
        region[:, first:last, end:] = 0
    region[:, first:last, begin:end] = x[images, top + first : top + last, left + begin : left + end]
    return region


class _Patches:
    """Reads the patch matrices of blocks of output pixels, one for each group of channels.

    What a block needs around the copying itself (views, borders of zeros) is made once for each thread and reused for
    every block of whole images: Python's share of the time would otherwise be as large as NumPy's.
    """

    def __init__(self, x: np.ndarray, out_shape: Pair, window: _Window, groups: int) -> None:
        self.x = x
        self.rows, self.columns = out_shape
        self.window = window
        self.channels = x.shape[3] // groups
        self.groups = groups
        self._kept: dict[tuple[int, int], tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]] = {}

    def read(self, block: Block) -> Iterator[np.ndarray]:
        """For each group the matrix (pixels, R·S·C/G), taps in row-major order; valid until the next one."""
        first, last, row, row_end = block
        (r, s), (sh, sw), (dh, dw), (top, left) = self.window
        height = (row_end - row - 1) * sh + (r - 1) * dh + 1
        width = (self.columns - 1) * sw + (s - 1) * dw + 1
        images = slice(first, last)
        key = (threading.get_ident(), last - first)
        whole = row_end - row == self.rows
        kept = self._kept.get(key) if whole else None
        if kept is not None:
            region, copies = kept
            _padded(self.x, images, top, left, height, width, region)
        else:
            region = _padded(self.x, images, top + row * sh, left, height, width)
            copies = [self._views(region, row_end - row, group) for group in range(self.groups)]
            if whole and region.base is not self.x.base and not np.may_share_memory(region, self.x):
                self._kept[key] = region, copies
        for source, target, matrix in copies:
            if source is not target:
                np.copyto(target, source)
            yield matrix

    def _views(self, region: np.ndarray, rows: int, group: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What to copy, where to, and the result as a matrix; the first two are one where nothing has to be copied."""
        (r, s), (sh, sw), (dh, dw), _ = self.window
        c = self.channels
        region = region[..., group * c : (group + 1) * c]
        images = region.shape[0]
        n_stride, h_stride, w_stride, c_stride = region.strides
        shape: tuple[int, ...] = (images, rows, self.columns, r, s, c)
        strides: tuple[int, ...] = (n_stride, sh * h_stride, sw * w_stride, dh * h_stride, dw * w_stride, c_stride)
        if dw * w_stride == c * c_stride:
            # Neighbouring taps are neighbours in memory: copy S·C values at a time.
            shape, strides = (images, rows, self.columns, r, s * c), (*strides[:4], c_stride)
        source = as_strided(region, shape, strides, writeable=False)
        size = (images * rows * self.columns, r * s * c)
        if source.flags.c_contiguous:  # 1x1 at stride 1
            return source, source, source.reshape(size)
        target = scratch("conv.patches", shape, region.dtype)
        return source, target, target.reshape(size)


def _convolve(
    x: np.ndarray, weights: list[np.ndarray], window: _Window, out: np.ndarray, bias: np.ndarray | None = None
) -> None:
    """Write a convolution of x (N, H, W, C) into out (N, P, Q, K); one weight matrix (R·S·C/G, K/G) per group."""
    images, rows, columns, _ = out.shape
    depth = weights[0].shape[0]
    per_group = weights[0].shape[1]
    if out.size == 0:
        return
    blocks = _blocks(images, rows, columns, depth, x.itemsize)
    patches = _Patches(x, (rows, columns), window, len(weights))

    def run(index: int) -> None:
        block = blocks[index]
        target = out[block[0] : block[1], block[2] : block[3]]
        pixels = target.shape[0] * target.shape[1] * columns
        direct = target.flags.c_contiguous
        result = target.reshape(pixels, -1) if direct else scratch("conv.result", (pixels, out.shape[3]), out.dtype)
        for group, (patch, matrix) in enumerate(zip(patches.read(block), weights, strict=True)):
            np.matmul(patch, matrix, out=result[:, group * per_group : (group + 1) * per_group])
        if bias is not None:
            result += bias
        if not direct:
            target[...] = result.reshape(target.shape)

    _run(len(blocks), images * rows * columns * depth * per_group * len(weights), run)


def _run(count: int, macs: int, body: Any) -> None:
    """All blocks: on the threads if the work is worth handing over."""
    if count > 1 and macs > 1 << 20:
        parallel_for(count, body)
    elif macs > 1 << 18:
        with single_threaded_blas():
            for index in range(count):
                body(index)
    else:
        for index in range(count):
            body(index)


def _depthwise(x: np.ndarray, taps: np.ndarray, window: _Window, out: np.ndarray, bias: np.ndarray | None) -> None:
    """One filter per channel: taps (R, S, C) multiplied into shifted views, a block of rows at a time."""
    images, rows, columns, channels = out.shape
    if out.size == 0:
        return
    (r, s), (sh, sw), (dh, dw), (top, left) = window
    blocks = _blocks(images, rows, columns, 4 * channels, x.itemsize)

    def run(index: int) -> None:
        first, last, row, row_end = blocks[index]
        height = (row_end - row - 1) * sh + (r - 1) * dh + 1
        width = (columns - 1) * sw + (s - 1) * dw + 1
        region = _padded(x, slice(first, last), top + row * sh, left, height, width)
        shape = (last - first, row_end - row, columns, channels)
        total, product = scratch("conv.total", shape, x.dtype), scratch("conv.product", shape, x.dtype)
        total[...] = 0 if bias is None else bias
        for i in range(r):
            for j in range(s):
                seen = region[
                    :, i * dh : i * dh + (shape[1] - 1) * sh + 1 : sh, j * dw : j * dw + (columns - 1) * sw + 1 : sw
                ]
                np.multiply(seen, taps[i, j], out=product)
                np.add(total, product, out=total)
        out[first:last, row:row_end] = total

    _run(len(blocks), out.size * r * s, run)


def _weight_matrices(weight: Any, groups: int) -> list[Any]:
    """For each group the matrix (R·S·C/G, K/G) that a patch is multiplied by."""
    k, c, r, s = weight.shape
    order = weight.transpose(2, 3, 1, 0)  # (R, S, C/G, K); a view of contiguous memory in a Conv2d's own weight
    if groups == 1:
        return [order.reshape(r * s * c, k)]
    size = k // groups
    return [order[..., g * size : (g + 1) * size].reshape(r * s * c, size) for g in range(groups)]


def _is_depthwise(channels: int, weight: Any, groups: int) -> bool:
    return bool(groups > 1 and groups == channels and weight.shape[0] == channels)


def _forward_cpu(
    x: Any, weight: Any, bias: Any, stride: Pair, padding: Padding, dilation: Pair, groups: int, size: Pair
) -> Any:
    out = empty_nhwc((x.shape[0], weight.shape[0], *size), x.dtype)
    window = _Window(weight.shape[2:], stride, dilation, (-padding[0][0], -padding[1][0]))
    if _is_depthwise(x.shape[1], weight, groups):
        _depthwise(to_nhwc(x), weight[:, 0].transpose(1, 2, 0), window, out.transpose(0, 2, 3, 1), bias)
    else:
        _convolve(to_nhwc(x), _weight_matrices(weight, groups), window, out.transpose(0, 2, 3, 1), bias)
    return out


def _phase_taps(phase: int, kernel: int, stride: int, pad: int, dilation: int) -> tuple[list[int], int, int]:
    """Taps that reach input positions ``phase + i·stride``, in the order in which their outputs lie.

    Output p reads input p·stride + r·dilation - pad, so position phase + i·stride is read by
    p = i + (phase + pad - r·dilation) / stride for every tap r for which that is whole.

    Returns:
        the taps from the largest r to the smallest, the offset p - i of the first, and the step between offsets.
    """
    taps = [r for r in range(kernel - 1, -1, -1) if (phase + pad - r * dilation) % stride == 0]
    if not taps:
        return [], 0, 1
    offset = (phase + pad - taps[0] * dilation) // stride
    return taps, offset, dilation // math.gcd(stride, dilation)


def conv2d_input_gradient(
    grad: Any, weight: Any, shape: tuple[int, ...], stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Any:
    """dx from dy on the CPU: every phase of the stride is a stride-1 convolution of dy.

    Args:
        grad: dy (N, K, P, Q).
        weight: w (K, C/G, R, S).
        shape: of x.
        stride, padding, dilation, groups: of the convolution.

    Returns:
        dx of shape ``shape``, physically NHWC.
    """
    (sh, sw), (dh, dw) = stride, dilation
    _, c, h, w = shape
    k, per_group, r, s = weight.shape
    dx = empty_nhwc((shape[0], c, h, w), grad.dtype)
    target, dy = dx.transpose(0, 2, 3, 1), to_nhwc(grad)
    depthwise = _is_depthwise(c, weight, groups)
    for a in range(min(sh, h)):
        rows, row, row_step = _phase_taps(a, r, sh, padding[0][0], dh)
        for b in range(min(sw, w)):
            columns, column, column_step = _phase_taps(b, s, sw, padding[1][0], dw)
            part = target[:, a::sh, b::sw]
            if not rows or not columns:
                part[...] = 0
                continue
            window = _Window((len(rows), len(columns)), (1, 1), (row_step, column_step), (row, column))
            taps = weight[:, :, rows][..., columns] if (sh, sw) != (1, 1) else weight[:, :, ::-1, ::-1]
            if depthwise:
                _depthwise(dy, taps[:, 0].transpose(1, 2, 0), window, part, None)
            else:
                size = k // groups
                matrices = [
                    taps[g * size : (g + 1) * size].transpose(2, 3, 0, 1).reshape(-1, per_group) for g in range(groups)
                ]
                _convolve(dy, matrices, window, part)
    return dx


def conv2d_weight_gradient(
    grad: Any, x: Any, shape: tuple[int, ...], stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Any:
    """dw from dy and x on the CPU.

    Args:
        grad: dy (N, K, P, Q).
        x: (N, C, H, W).
        shape: of w, (K, C/G, R, S).
        stride, padding, dilation, groups: of the convolution.

    Returns:
        dw of shape ``shape``, physically (R, S, C/G, K).
    """
    k, per_group, r, s = shape
    images, rows, columns = grad.shape[0], grad.shape[2], grad.shape[3]
    size = k // groups
    depth = r * s * per_group
    source, dy = to_nhwc(x), to_nhwc(grad)
    window = _Window((r, s), stride, dilation, (-padding[0][0], -padding[1][0]))
    blocks = _blocks(images, rows, columns, depth, x.itemsize)
    # A few sums that each add their blocks in order, and are then added in order: fixed, whatever the threads do.
    chunks = max(1, min(len(blocks), 8 if depth * size * groups < 1 << 20 else 4))
    sums = np.zeros((chunks, groups, depth, size), x.dtype)
    patches = _Patches(source, (rows, columns), window, groups)

    def run(chunk: int) -> None:
        product = scratch("conv.weight", (depth, size), x.dtype)
        for block in blocks[chunk * len(blocks) // chunks : (chunk + 1) * len(blocks) // chunks]:
            gradient = dy[block[0] : block[1], block[2] : block[3]]
            for g, patch in enumerate(patches.read(block)):
                right = gradient[..., g * size : (g + 1) * size]
                if not right.flags.c_contiguous:
                    buffer = scratch("conv.gradient", right.shape, x.dtype)
                    buffer[...] = right
                    right = buffer
                np.matmul(patch.T, right.reshape(-1, size), out=product)
                sums[chunk, g] += product

    if blocks:
        _run(chunks, images * rows * columns * depth * k, run)
    total = sums[0]
    for chunk in range(1, chunks):
        total += sums[chunk]
    # (G, R·S·C/G, K/G) -> (R, S, C/G, K), looked at as (K, C/G, R, S)
    taps = total.transpose(1, 0, 2).reshape(r, s, per_group, k)
    return taps.transpose(3, 2, 0, 1)


def _depthwise_weight_gradient(
    grad: Any, x: Any, shape: tuple[int, ...], stride: Pair, padding: Padding, dilation: Pair
) -> Any:
    """dw of one filter per channel: for each tap, the sum of dy times the shifted x."""
    k, _, r, s = shape
    (sh, sw), (dh, dw) = stride, dilation
    rows, columns = grad.shape[2], grad.shape[3]
    source, dy = to_nhwc(x), to_nhwc(grad)
    height, width = (rows - 1) * sh + (r - 1) * dh + 1, (columns - 1) * sw + (s - 1) * dw + 1
    result = empty((r, s, 1, k), x.dtype)
    if dy.size == 0:
        result[...] = 0
        return result.transpose(3, 2, 0, 1)
    partial = np.zeros((x.shape[0], r, s, k), x.dtype)

    def run(n: int) -> None:
        region = _padded(source, slice(n, n + 1), -padding[0][0], -padding[1][0], height, width)[0]
        product = scratch("conv.product", dy.shape[1:], x.dtype)
        for i in range(r):
            for j in range(s):
                seen = region[i * dh : i * dh + (rows - 1) * sh + 1 : sh, j * dw : j * dw + (columns - 1) * sw + 1 : sw]
                np.multiply(seen, dy[n], out=product)
                partial[n, i, j] = product.sum(axis=(0, 1))

    _run(x.shape[0], dy.size * r * s, run)
    result[:, :, 0] = partial.sum(axis=0)
    return result.transpose(3, 2, 0, 1)


class Conv2d(Op):
    """Convolution, its implementations and its gradients."""

    name = "conv2d"
    autocast = "lower"
    epilogue = ("bias",)

    def infer(self, *inputs: Any, stride: Pair, padding: Padding, dilation: Pair, groups: int) -> Inferred:
        x, weight, bias = inputs
        if x.ndim != 4:
            raise ShapeError(f"conv2d: input must be 4-d (N, C, H, W), got shape {tuple(x.shape)}")
        if weight.ndim != 4:
            raise ShapeError(f"conv2d: weight must be 4-d (K, C/groups, R, S), got shape {tuple(weight.shape)}")
        n, c = x.shape[:2]
        k, per_group, r, s = weight.shape
        if groups < 1:
            raise ShapeError(f"conv2d: groups must be at least 1, got {groups}")
        if k % groups:
            raise ShapeError(f"conv2d: groups must divide the {k} output channels, got {groups}")
        if c != per_group * groups:
            raise ShapeError(
                f"conv2d: input must have {per_group * groups} channels (weight has shape {tuple(weight.shape)} "
                f"and groups is {groups}), got {c} in shape {tuple(x.shape)}"
            )
        if bias is not None and tuple(bias.shape) != (k,):
            raise ShapeError(f"conv2d: bias must have shape ({k},), got {tuple(bias.shape)}")
        require_floating("conv2d", "input", x)
        require_same_dtype("conv2d", input=x, weight=weight, bias=bias)
        size = check_window("conv2d", tuple(x.shape), (r, s), stride, padding, dilation)
        shape = (n, k, *size)
        return Inferred((Spec(shape, x.dtype),), math.prod(shape) * per_group * r * s)

    def reference(self, *inputs: Any, stride: Pair, padding: Padding, dilation: Pair, groups: int) -> Any:
        x, weight, bias = inputs
        n, k, p, q = (
            self.infer(*inputs, stride=stride, padding=padding, dilation=dilation, groups=groups).outputs[0].shape
        )
        y = np.zeros((n, groups, k // groups, p, q), x.dtype)
        padded = np.pad(x, ((0, 0), (0, 0), *padding))
        grouped = padded.reshape(n, groups, x.shape[1] // groups, *padded.shape[2:])
        w = weight.reshape(groups, k // groups, *weight.shape[1:])
        for r, s, rows, columns in _taps(weight.shape[2:], (p, q), stride, dilation):
            y += np.einsum("ngchw,gkc->ngkhw", grouped[..., rows, columns], w[..., r, s])
        y = y.reshape(n, k, p, q)
        return y if bias is None else y + bias[:, None, None]

    def reference_backward(  # type: ignore[override]
        self,
        grad_outputs: tuple[Any, ...],
        inputs: tuple[Any, ...],
        *,
        stride: Pair,
        padding: Padding,
        dilation: Pair,
        groups: int,
    ) -> Any:
        (dy,) = grad_outputs
        x, weight, bias = inputs
        n, k, p, q = dy.shape
        padded = np.pad(x, ((0, 0), (0, 0), *padding))
        grouped = padded.reshape(n, groups, x.shape[1] // groups, *padded.shape[2:])
        w = weight.reshape(groups, k // groups, *weight.shape[1:])
        dy = dy.reshape(n, groups, k // groups, p, q)
        dx, dw = np.zeros(grouped.shape, x.dtype), np.zeros(w.shape, x.dtype)
        for r, s, rows, columns in _taps(weight.shape[2:], (p, q), stride, dilation):
            dx[..., rows, columns] += np.einsum("ngkhw,gkc->ngchw", dy, w[..., r, s])
            dw[..., r, s] = np.einsum("ngkhw,ngchw->gkc", dy, grouped[..., rows, columns])
        (top, _), (left, _) = padding
        dx = dx.reshape(padded.shape)[:, :, top : top + x.shape[2], left : left + x.shape[3]]
        db = None if bias is None else dy.sum(axis=(0, 3, 4)).reshape(k)
        return dx, dw.reshape(weight.shape), db

    def supports(self, *inputs: Any, **attributes: Any) -> tuple[str, str]:
        if isinstance(inputs[0], np.ndarray):
            return "cpu", "patches in blocks that fit the cache"
        return "array", "no hand-written kernel yet: patches and a matrix product"

    def forward(self, ctx: Context, *inputs: Any, stride: Pair, padding: Padding, dilation: Pair, groups: int) -> Any:
        x, weight, bias = inputs
        ctx.save(x if ctx.needs_grad[1] else None, weight if ctx.needs_grad[0] else None)
        ctx.state = tuple(x.shape), tuple(weight.shape), x.dtype
        path = self.path(*inputs)
        if path == "reference":
            return self.reference(*inputs, stride=stride, padding=padding, dilation=dilation, groups=groups)
        size = check_window("conv2d", tuple(x.shape), weight.shape[2:], stride, padding, dilation)
        carry = compute_dtype(x.dtype)
        result = x.dtype
        if carry != result:
            x, weight, bias = (value if value is None else value.astype(carry) for value in inputs)
        run = _forward_cpu if path == "cpu" else _forward_array
        return run(x, weight, bias, stride, padding, dilation, groups, size).astype(result, copy=False)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        x, weight = ctx.saved
        shape, weight_shape, dtype = ctx.state
        attributes = ctx.attributes
        stride, padding, dilation, groups = (
            attributes["stride"],
            attributes["padding"],
            attributes["dilation"],
            attributes["groups"],
        )
        carry = compute_dtype(dtype)
        grad = grad.astype(carry, copy=False)
        x, weight = (v if v is None else v.astype(carry, copy=False) for v in (x, weight))
        path = self.path(grad)
        dx = dweight = dbias = None
        if path == "array":
            if ctx.needs_grad[0]:
                dx = _input_gradient_array(grad, weight, shape, stride, padding, dilation, groups)
            if ctx.needs_grad[1]:
                dweight = _weight_gradient_array(grad, x, weight_shape, stride, padding, dilation, groups)
        else:
            if grad.ndim == 4 and (ctx.needs_grad[0] or ctx.needs_grad[1]):
                grad = to_nhwc(grad).transpose(0, 3, 1, 2)
            if ctx.needs_grad[0]:
                dx = conv2d_input_gradient(grad, weight, shape, stride, padding, dilation, groups)
            if ctx.needs_grad[1]:
                if groups > 1 and groups == shape[1] == weight_shape[0]:
                    dweight = _depthwise_weight_gradient(grad, x, weight_shape, stride, padding, dilation)
                else:
                    dweight = conv2d_weight_gradient(grad, x, weight_shape, stride, padding, dilation, groups)
        if ctx.needs_grad[2]:
            dbias = channel_sums(grad)
        return tuple(v if v is None else v.astype(dtype, copy=False) for v in (dx, dweight, dbias))

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(61)

        def case(
            label: str, x: tuple[int, ...], w: tuple[int, ...], bias: bool = True, nhwc: bool = True, **kw: Any
        ) -> Sample:
            image = rng.standard_normal(x)
            if nhwc:
                image = np.ascontiguousarray(image.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
            attributes = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1, **kw}
            return Sample(
                label, (image, rng.standard_normal(w), rng.standard_normal(w[0]) if bias else None), attributes
            )

        one = ((1, 1), (1, 1))
        yield case("3x3 padded", (2, 3, 5, 6), (4, 3, 3, 3), padding=one)
        yield case("batch 1, NCHW, no bias", (1, 3, 5, 5), (2, 3, 3, 3), bias=False, nhwc=False)
        yield case("1x1", (2, 4, 5, 3), (3, 4, 1, 1))
        yield case("1x1 stride 2", (2, 4, 5, 6), (3, 4, 1, 1), stride=(2, 2))
        yield case("1x1 padded", (1, 2, 3, 3), (3, 2, 1, 1), padding=one)
        yield case("stride 2", (2, 3, 7, 8), (4, 3, 3, 3), stride=(2, 2), padding=one)
        yield case("stride 3, 2, uneven pads", (2, 2, 9, 8), (3, 2, 3, 2), stride=(3, 2), padding=((2, 1), (0, 1)))
        yield case("stride larger than the kernel", (1, 2, 9, 9), (2, 2, 2, 2), stride=(4, 3))
        yield case("dilation", (2, 2, 8, 9), (3, 2, 3, 3), padding=((2, 2), (1, 1)), dilation=(2, 3))
        yield case("dilation 2, stride 2", (1, 2, 9, 10), (3, 2, 3, 3), stride=(2, 2), padding=one, dilation=(2, 2))
        yield case("dilation 2, stride 3", (1, 2, 11, 10), (2, 2, 3, 2), stride=(3, 3), padding=one, dilation=(2, 2))
        yield case("groups", (2, 4, 5, 5), (6, 2, 3, 3), padding=one, groups=2)
        yield case("depthwise", (2, 3, 6, 5), (3, 1, 3, 3), padding=one, groups=3)
        yield case("depthwise stride 2", (2, 3, 7, 6), (3, 1, 3, 3), stride=(2, 2), padding=one, groups=3)
        yield case("channel multiplier", (2, 3, 5, 5), (6, 1, 3, 3), padding=one, groups=3)
        yield case("one channel", (2, 1, 6, 6), (1, 1, 3, 3), padding=one)
        yield case("kernel covers the input", (2, 2, 3, 4), (3, 2, 3, 4))
        yield case("more padding than kernel", (1, 2, 3, 3), (2, 2, 2, 2), padding=((3, 3), (3, 3)))
        yield case("5x5", (1, 2, 7, 7), (2, 2, 5, 5), padding=((2, 2), (2, 2)))
        yield case("empty batch", (0, 3, 5, 5), (2, 3, 3, 3), padding=one)
        big = case("several blocks", (3, 16, 40, 33), (8, 16, 3, 3), padding=one)
        yield big
        strided = case("strided input", (2, 3, 5, 12), (2, 3, 3, 3), nhwc=False)
        yield Sample("non-contiguous", (strided.inputs[0][..., ::2], *strided.inputs[1:]), strided.attributes)
        pitched = rng.standard_normal((2, 5, 5, 7)).transpose(0, 3, 1, 2)[:, 2:5]
        yield Sample("pixel pitch", (pitched, *strided.inputs[1:]), {**strided.attributes, "padding": one})


def _taps(kernel: Any, size: Pair, stride: Pair, dilation: Pair) -> Iterator[tuple[int, int, slice, slice]]:
    """Each tap with the rows and columns of the padded input that it reads."""
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            top, left = r * dilation[0], s * dilation[1]
            rows = slice(top, top + (size[0] - 1) * stride[0] + 1, stride[0])
            columns = slice(left, left + (size[1] - 1) * stride[1] + 1, stride[1])
            yield r, s, rows, columns


def _array_patches(
    x: Any, kernel: Pair, size: Pair, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Any:
    """Patches of the whole batch on any array module: (G, N·P·Q, R·S·C/G)."""
    module = module_of(x)
    n, c, h, w = x.shape
    (top, bottom), (left, right) = padding
    padded = module.zeros((n, h + top + bottom, w + left + right, c), x.dtype)
    padded[:, top : top + h, left : left + w] = x.transpose(0, 2, 3, 1)
    p, q = size
    patches = module.empty((groups, n, p, q, kernel[0], kernel[1], c // groups), x.dtype)
    for r, s, rows, columns in _taps(kernel, size, stride, dilation):
        seen = padded[:, rows, columns].reshape(n, p, q, groups, c // groups)
        patches[:, :, :, :, r, s] = seen.transpose(3, 0, 1, 2, 4)
    return patches.reshape(groups, n * p * q, kernel[0] * kernel[1] * c // groups)


def _forward_array(
    x: Any, weight: Any, bias: Any, stride: Pair, padding: Padding, dilation: Pair, groups: int, size: Pair
) -> Any:
    module = module_of(x)
    k, _, r, s = weight.shape
    patches = _array_patches(x, (r, s), size, stride, padding, dilation, groups)
    matrices = weight.reshape(groups, k // groups, -1, r, s).transpose(0, 3, 4, 2, 1).reshape(groups, -1, k // groups)
    y = matrix_product(patches, matrices).transpose(1, 0, 2).reshape(x.shape[0], *size, k)
    y = module.ascontiguousarray(y if bias is None else y + bias)
    return y.transpose(0, 3, 1, 2)


def _grouped_rows(grad: Any, groups: int) -> Any:
    """dy as (G, N·P·Q, K/G)."""
    n, k, p, q = grad.shape
    return grad.transpose(0, 2, 3, 1).reshape(n * p * q, groups, k // groups).transpose(1, 0, 2)


def _input_gradient_array(
    grad: Any, weight: Any, shape: tuple[int, ...], stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Any:
    module = module_of(grad)
    n, c, h, w = shape
    k, per_group, r, s = weight.shape
    p, q = grad.shape[2:]
    matrices = (
        weight.reshape(groups, k // groups, per_group, r, s).transpose(0, 1, 3, 4, 2).reshape(groups, k // groups, -1)
    )
    columns_ = matrix_product(_grouped_rows(grad, groups), matrices).reshape(groups, n, p, q, r, s, per_group)
    (top, bottom), (left, right) = padding
    padded = module.zeros((n, h + top + bottom, w + left + right, groups, per_group), grad.dtype)
    for i, j, rows, columns in _taps((r, s), (p, q), stride, dilation):
        padded[:, rows, columns] += columns_[:, :, :, :, i, j].transpose(1, 2, 3, 0, 4)
    return padded.reshape(*padded.shape[:3], c)[:, top : top + h, left : left + w].transpose(0, 3, 1, 2)


def _weight_gradient_array(
    grad: Any, x: Any, shape: tuple[int, ...], stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Any:
    k, per_group, r, s = shape
    patches = _array_patches(x, (r, s), grad.shape[2:], stride, padding, dilation, groups)
    product = matrix_product(_grouped_rows(grad, groups).transpose(0, 2, 1), patches)
    return product.reshape(k, r, s, per_group).transpose(0, 3, 1, 2)


register(Conv2d())
