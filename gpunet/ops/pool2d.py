"""Two-dimensional pooling: maximum, average, and averages over adaptive regions.

    max_pool2d:          y[n,c,p,q] = max of x over the window of (p, q); padding counts as -infinity
    avg_pool2d:          y[n,c,p,q] = sum of x over the window / divisor
    adaptive_avg_pool2d: y[n,c,p,q] = mean of x over rows floor(pH/P) .. ceil((p+1)H/P) - 1, columns likewise

x (N, C, H, W), y (N, C, P, Q), physically NHWC. With ``ceil_mode`` sizes round up, but no window starts in the padding
behind the input. The divisor of an average is the window's size without what ``ceil_mode`` adds beyond the padding,
with (``count_include_pad``) or without the padding, or ``divisor_override``. PyTorch's definitions.

Ties of the maximum go to the first tap in row-major order; NaN is larger than everything. The forward pass remembers
the winning tap of each window (one byte where the window has at most 256 cells), the backward pass adds dy to the
winner tap by tap, in a fixed order and without atomics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.backend.memory import empty
from gpunet.backend.threads import parallel_for
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.conv2d import Pair, check_window, conv_output_size, to_nhwc
from gpunet.ops.dtypes import compute_dtype

_BLOCK_BYTES = 1 << 18
_PARALLEL_FROM = 1 << 16


def _over_images(module: Any, images: int, size: int, itemsize: int, body: Callable[[slice], None]) -> None:
    """Run ``body`` for slices of the batch: all of it on a GPU, cache-sized blocks on the CPU's threads."""
    if module is not np or size < _PARALLEL_FROM:
        body(slice(0, images))
        return
    step = max(1, _BLOCK_BYTES * images // max(1, size * itemsize))
    blocks = [slice(start, min(start + step, images)) for start in range(0, images, step)]
    parallel_for(len(blocks), lambda index: body(blocks[index]))


def pool_output_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Output size of a pooling along one dimension."""
    if not ceil_mode:
        return conv_output_size(size, kernel, stride, padding, dilation)
    result = -(-(size + 2 * padding - dilation * (kernel - 1) - 1) // stride) + 1
    # The last window must start inside the input or the padding before it.
    return result - 1 if (result - 1) * stride >= size + padding else result


def _check_pool(op: str, x: Any, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool) -> Pair:
    if x.ndim != 4:
        raise ShapeError(f"{op}: input must be 4-d (N, C, H, W), got shape {tuple(x.shape)}")
    require_floating(op, "input", x)
    pads = ((padding[0], padding[0]), (padding[1], padding[1]))
    # Rounded up there is room for one window that is larger than the image; what it covers beyond does not count.
    checked = (1, 1) if ceil_mode else kernel
    size = check_window(op, tuple(x.shape), checked if min(kernel) > 0 else kernel, stride, pads, dilation)
    for pad, k in zip(padding, kernel, strict=True):
        if 2 * pad > k:
            raise ShapeError(f"{op}: padding must be at most half of kernel_size {kernel}, got {padding}")
    if ceil_mode:
        rows, columns = (
            pool_output_size(*values, True)
            for values in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
        )
        if min(rows, columns) < 1:
            check_window(op, tuple(x.shape), kernel, stride, pads, dilation)
        size = rows, columns
    return size


def _taps(kernel: Pair, size: Pair, stride: Pair, dilation: Pair) -> Iterator[tuple[int, slice, slice]]:
    """The number of each tap with the padded rows and columns it reads."""
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            top, left = r * dilation[0], s * dilation[1]
            yield (
                r * kernel[1] + s,
                slice(top, top + (size[0] - 1) * stride[0] + 1, stride[0]),
                slice(left, left + (size[1] - 1) * stride[1] + 1, stride[1]),
            )


def _extents(shape: tuple[int, ...], kernel: Pair, size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """Height and width of the padded input that the windows reach, at least the input with its padding before."""
    return tuple(
        max((count - 1) * s + d * (k - 1) + 1, extent + pad)
        for count, s, d, k, extent, pad in zip(size, stride, dilation, kernel, shape[2:], padding, strict=True)
    )


def _padded(x: Any, extents: Pair, padding: Pair, value: float) -> Any:
    """x (N, H, W, C) inside a larger image of ``value``; x itself where nothing is added."""
    n, h, w, c = x.shape
    if extents == (h, w):
        return x
    module = module_of(x)
    image = empty((n, *extents, c), x.dtype, module)
    top, left = padding
    image[:, :top] = value
    image[:, top + h :] = value
    image[:, top : top + h, :left] = value
    image[:, top : top + h, left + w :] = value
    image[:, top : top + h, left : left + w] = x
    return image


class MaxPool2d(Op):
    """Maximum over windows."""

    name = "max_pool2d"

    def infer(
        self, *inputs: Any, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
    ) -> Inferred:
        (x,) = inputs
        size = _check_pool(self.name, x, kernel_size, stride, padding, dilation, ceil_mode)
        return Inferred((Spec((*x.shape[:2], *size), x.dtype),))

    def reference(
        self, *inputs: Any, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
    ) -> Any:
        (x,) = inputs
        size = _check_pool(self.name, x, kernel_size, stride, padding, dilation, ceil_mode)
        y = np.full((*x.shape[:2], *size), -np.inf, x.dtype)
        for p in range(size[0]):
            for q in range(size[1]):
                for r in range(kernel_size[0]):
                    for s in range(kernel_size[1]):
                        h = p * stride[0] + r * dilation[0] - padding[0]
                        w = q * stride[1] + s * dilation[1] - padding[1]
                        if 0 <= h < x.shape[2] and 0 <= w < x.shape[3]:
                            y[:, :, p, q] = np.maximum(y[:, :, p, q], x[:, :, h, w])
        return y

    def forward(
        self,
        ctx: Context,
        *inputs: Any,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        ceil_mode: bool,
    ) -> Any:
        (x,) = inputs
        if self.path(x) == "reference":
            return self.reference(
                x, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
            )
        module = module_of(x)
        size = _check_pool(self.name, x, kernel_size, stride, padding, dilation, ceil_mode)
        source = to_nhwc(x)
        n, _, _, c = source.shape
        extents = _extents(tuple(x.shape), kernel_size, size, stride, padding, dilation)
        y = empty((n, *size, c), x.dtype, module)
        winner = None
        if ctx.needs_grad[0]:
            cells = kernel_size[0] * kernel_size[1]
            winner = empty((n, *size, c), np.uint8 if cells <= 256 else np.int32, module)

        def run(images: slice) -> None:
            image = _padded(source[images], extents, padding, -math.inf)
            best = y[images]
            for tap, rows, columns in _taps(kernel_size, size, stride, dilation):
                seen = image[:, rows, columns]
                if tap == 0:
                    best[...] = seen
                    if winner is not None:
                        winner[images] = 0
                    continue
                if winner is not None:
                    # NaN beats any number, and the first NaN stays. `~(seen <= best)` is true for both.
                    wins = ~(seen <= best)
                    wins &= best == best
                    if module is np:
                        np.copyto(winner[images], tap, where=wins, casting="unsafe")
                    else:
                        winner[images][wins] = tap
                module.maximum(best, seen, out=best)

        _over_images(module, n, math.prod(y.shape), x.dtype.itemsize, run)
        ctx.state = (winner, tuple(x.shape), size, extents)
        return y.transpose(0, 3, 1, 2)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        winner, shape, size, extents = ctx.state
        attributes = ctx.attributes
        module = module_of(grad)
        dy = to_nhwc(grad)
        n, c, h, w = shape
        padding = attributes["padding"]
        dx = module.zeros((n, *extents, c), grad.dtype)

        def run(images: slice) -> None:
            image, gradient, chosen = dx[images], dy[images], winner[images]
            for tap, rows, columns in _taps(
                attributes["kernel_size"], size, attributes["stride"], attributes["dilation"]
            ):
                image[:, rows, columns] += gradient * (chosen == tap)

        _over_images(module, n, math.prod(dy.shape), grad.dtype.itemsize, run)
        return (dx[:, padding[0] : padding[0] + h, padding[1] : padding[1] + w].transpose(0, 3, 1, 2),)

    def samples(self) -> Iterator[Sample]:
        for sample in _pool_samples():
            yield Sample(sample.label, sample.inputs, {**sample.attributes, "dilation": (1, 1), "ceil_mode": False})
        x = _image(2, 3, 8, 9)
        base = {"kernel_size": (3, 2), "stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "ceil_mode": True}
        yield Sample("ceil mode", (x,), base)
        yield Sample("dilation", (x,), {**base, "dilation": (2, 3), "ceil_mode": False})
        yield Sample(
            "window of 289 cells", (_image(1, 2, 18, 17),), {**base, "kernel_size": (17, 17), "padding": (0, 0)}
        )


def _image(*shape: int) -> Any:
    n, c, h, w = shape
    # All values differ by at least one step, so that finite differences never move a maximum.
    values = np.random.default_rng(71).permutation(n * c * h * w) / 50.0
    return values.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def _pool_samples() -> Iterator[Sample]:
    yield Sample("2x2", (_image(2, 3, 4, 6),), {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)})
    yield Sample(
        "overlapping, padded", (_image(2, 3, 7, 6),), {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1)}
    )
    nchw = np.ascontiguousarray(_image(1, 2, 6, 6))
    yield Sample("batch 1, NCHW", (nchw,), {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0)})
    yield Sample(
        "stride larger than the kernel",
        (_image(1, 1, 9, 9),),
        {"kernel_size": (2, 2), "stride": (4, 3), "padding": (0, 0)},
    )
    yield Sample(
        "non-contiguous", (_image(2, 3, 6, 12)[..., ::2],), {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)}
    )
    yield Sample(
        "several blocks", (_image(9, 16, 24, 24),), {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1)}
    )
    yield Sample("empty batch", (np.zeros((0, 3, 4, 4)),), {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)})


register(MaxPool2d())


class AvgPool2d(Op):
    """Average over windows."""

    name = "avg_pool2d"

    def infer(
        self,
        *inputs: Any,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: int | None,
    ) -> Inferred:
        (x,) = inputs
        size = _check_pool(self.name, x, kernel_size, stride, padding, (1, 1), ceil_mode)
        if divisor_override is not None and divisor_override == 0:
            raise ValueError("avg_pool2d: divisor_override must not be zero")
        return Inferred((Spec((*x.shape[:2], *size), x.dtype),))

    def _divisors(self, shape: tuple[int, ...], size: Pair, attributes: dict[str, Any]) -> Any:
        """What each window's sum is divided by: (P, Q)."""
        if attributes["divisor_override"] is not None:
            return np.full(size, float(attributes["divisor_override"]))
        counts = []
        geometry = zip(
            shape[2:], size, attributes["kernel_size"], attributes["stride"], attributes["padding"], strict=True
        )
        for extent, count, k, s, pad in geometry:
            start = np.arange(count) * s - pad
            stop = np.minimum(start + k, extent + pad)
            if not attributes["count_include_pad"]:
                start, stop = np.maximum(start, 0), np.minimum(stop, extent)
            counts.append(stop - start)
        return np.multiply.outer(*counts).astype(np.float64)

    def reference(self, *inputs: Any, **attributes: Any) -> Any:
        (x,) = inputs
        size = self.infer(x, **attributes).outputs[0].shape[2:]
        (kr, ks), (sh, sw), (top, left) = (attributes[name] for name in ("kernel_size", "stride", "padding"))
        y = np.zeros((*x.shape[:2], *size), x.dtype)
        divisors = self._divisors(tuple(x.shape), (size[0], size[1]), attributes)
        for p in range(size[0]):
            for q in range(size[1]):
                h, w = p * sh - top, q * sw - left
                window = x[:, :, max(h, 0) : max(h + kr, 0), max(w, 0) : max(w + ks, 0)]
                y[:, :, p, q] = window.sum(axis=(2, 3)) / divisors[p, q]
        return y

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        (x,) = inputs
        if self.path(x) == "reference":
            return self.reference(x, **attributes)
        module = module_of(x)
        _, _, rows_out, columns_out = self.infer(x, **attributes).outputs[0].shape
        size = (rows_out, columns_out)
        kernel, stride, padding = attributes["kernel_size"], attributes["stride"], attributes["padding"]
        source = to_nhwc(x)
        n, _, _, c = source.shape
        carry = compute_dtype(x.dtype)
        extents = _extents(tuple(x.shape), kernel, size, stride, padding, (1, 1))
        divisors = self._divisors(tuple(x.shape), size, attributes)
        scale = module.asarray((1.0 / divisors).astype(carry))[:, :, None]
        y = empty((n, *size, c), carry, module)

        def run(images: slice) -> None:
            image = _padded(source[images], extents, padding, 0.0)
            total = y[images]
            for tap, rows, columns in _taps(kernel, size, stride, (1, 1)):
                if tap == 0:
                    total[...] = image[:, rows, columns]
                else:
                    total += image[:, rows, columns]
            total *= scale

        _over_images(module, n, math.prod(y.shape), x.dtype.itemsize, run)
        ctx.state = (tuple(x.shape), size, extents, scale)
        return y.astype(x.dtype, copy=False).transpose(0, 3, 1, 2)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        shape, size, extents, scale = ctx.state
        attributes = ctx.attributes
        module = module_of(grad)
        dy = to_nhwc(grad)
        n, c, h, w = shape
        padding = attributes["padding"]
        dx = module.zeros((n, *extents, c), scale.dtype)

        def run(images: slice) -> None:
            image, gradient = dx[images], dy[images] * scale
            for _, rows, columns in _taps(attributes["kernel_size"], size, attributes["stride"], (1, 1)):
                image[:, rows, columns] += gradient

        _over_images(module, n, math.prod(dy.shape), grad.dtype.itemsize, run)
        dx = dx[:, padding[0] : padding[0] + h, padding[1] : padding[1] + w].transpose(0, 3, 1, 2)
        return (dx.astype(grad.dtype, copy=False),)

    def samples(self) -> Iterator[Sample]:
        plain = {"ceil_mode": False, "count_include_pad": True, "divisor_override": None}
        for sample in _pool_samples():
            yield Sample(sample.label, sample.inputs, {**sample.attributes, **plain})
        x = _image(2, 3, 8, 9)
        base = {"kernel_size": (3, 2), "stride": (2, 2), "padding": (1, 1), **plain}
        yield Sample("ceil mode", (x,), {**base, "ceil_mode": True})
        yield Sample("padding not counted", (x,), {**base, "count_include_pad": False})
        yield Sample("neither", (x,), {**base, "count_include_pad": False, "ceil_mode": True})
        yield Sample("divisor", (x,), {**base, "divisor_override": 5})


register(AvgPool2d())


def adaptive_regions(size: int, count: int) -> list[slice]:
    """The ``count`` regions of an adaptive pooling along a dimension; they overlap where they do not divide it."""
    return [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


class AdaptiveAvgPool2d(Op):
    """Averages over as many regions as the output has pixels."""

    name = "adaptive_avg_pool2d"

    def infer(self, *inputs: Any, output_size: Pair) -> Inferred:
        (x,) = inputs
        if x.ndim != 4:
            raise ShapeError(f"{self.name}: input must be 4-d (N, C, H, W), got shape {tuple(x.shape)}")
        if min(output_size) < 0:
            raise ShapeError(f"{self.name}: output_size must not be negative, got {output_size}")
        if min(x.shape[1:]) == 0:
            raise ShapeError(f"{self.name}: input must not be empty except in its batch, got shape {tuple(x.shape)}")
        require_floating(self.name, "input", x)
        return Inferred((Spec((*x.shape[:2], *output_size), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, output_size: Pair) -> Any:
        (x,) = inputs
        module = module_of(x)
        ctx.state = tuple(x.shape)
        source = to_nhwc(x)
        n, h, w, c = source.shape
        carry = compute_dtype(x.dtype)
        y = empty((n, *output_size, c), carry, module)
        for p, rows in enumerate(adaptive_regions(h, output_size[0])):
            for q, columns in enumerate(adaptive_regions(w, output_size[1])):
                y[:, p, q] = source[:, rows, columns].mean(axis=(1, 2), dtype=carry)
        return y.astype(x.dtype, copy=False).transpose(0, 3, 1, 2)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        module = module_of(grad)
        n, c, h, w = ctx.state
        output_size = ctx.attributes["output_size"]
        dy = grad.transpose(0, 2, 3, 1)
        if output_size == (1, 1):
            spread = module.ascontiguousarray(dy / grad.dtype.type(h * w))
            return (module.broadcast_to(spread, (n, h, w, c)).transpose(0, 3, 1, 2),)
        dx = module.zeros((n, h, w, c), grad.dtype)
        for p, rows in enumerate(adaptive_regions(h, output_size[0])):
            for q, columns in enumerate(adaptive_regions(w, output_size[1])):
                area = (rows.stop - rows.start) * (columns.stop - columns.start)
                dx[:, rows, columns] += (dy[:, p, q] / grad.dtype.type(area))[:, None, None]
        return (dx.transpose(0, 3, 1, 2),)

    def samples(self) -> Iterator[Sample]:
        yield Sample("global", (_image(2, 3, 4, 5),), {"output_size": (1, 1)})
        yield Sample("dividing", (_image(2, 3, 4, 6),), {"output_size": (2, 3)})
        yield Sample("overlapping", (_image(2, 3, 5, 7),), {"output_size": (3, 4)})
        yield Sample("larger than the input", (_image(1, 2, 3, 2),), {"output_size": (5, 4)})
        yield Sample("NCHW", (np.ascontiguousarray(_image(2, 3, 4, 5)),), {"output_size": (2, 2)})
        yield Sample("empty batch", (np.zeros((0, 3, 4, 4)),), {"output_size": (2, 2)})


register(AdaptiveAvgPool2d())
