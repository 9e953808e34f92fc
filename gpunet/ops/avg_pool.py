"""Average pooling over one to three dimensions, over sliding windows and adaptive regions.

    avg_pool:          y[n,c,p] = sum of x over the window of p / divisor
    adaptive_avg_pool: y[n,c,p] = mean of x over floor(pH/P) .. ceil((p+1)H/P) - 1, and so in every dimension

x (N, C, spatial...), physically channels last, as is y. The divisor is the window's size without what ``ceil_mode``
adds beyond the padding, with (``count_include_pad``) or without the padding, or ``divisor_override``. PyTorch's
definitions. Sums of the half types are carried in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpunet.backend.memory import empty
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.windows import (
    Extents,
    Tap,
    adaptive_samples,
    adaptive_taps,
    axis_taps,
    channels_first,
    channels_last,
    check_adaptive,
    check_pool,
    distinct,
    is_partition,
    over_images,
    passes,
    pool_samples,
    taps_of,
)

__all__ = ["AdaptiveAvgPool", "AvgPool"]

Taps = Sequence[list[Tap]]


def _sums(source: Any, shape: Extents, taps: Taps, axes: tuple[int, ...], scale: Any, carry: Any) -> Any:
    """One pass: sums of ``source`` (N, ..., C) over the taps along ``axes``, times ``scale`` if there is one."""
    module = module_of(source)
    result = empty(shape, carry, module)
    listed = list(taps_of(taps, axes))

    def run(images: slice) -> None:
        image, total = source[images], result[images]
        started = False
        for _, reads, goes in listed:
            seen, sums = image[reads], total[goes]
            if not started:
                started = True
                if sums.shape == total.shape:
                    sums[...] = seen
                    continue
                total[...] = 0
            sums += seen
        if scale is not None:
            total *= scale

    over_images(module, shape[0], max(result.size, source.size), source.dtype.itemsize, run)
    return result


def _spread(dy: Any, shape: Extents, taps: Taps, axes: tuple[int, ...], scale: Any) -> Any:
    """The reverse of one pass: dy, times ``scale`` if there is one, added to every cell of its window."""
    module = module_of(dy)
    dx = empty(shape, dy.dtype if scale is None else scale.dtype, module)
    listed = list(taps_of(taps, axes))
    alone = is_partition(taps, axes, shape)  # where no two windows share a cell, each is written once

    def run(images: slice) -> None:
        image, gradient = dx[images], dy[images]
        if scale is not None:
            gradient = gradient * scale
        if not alone:
            image[...] = 0
        for _, reads, goes in listed:
            if alone:
                image[reads] = gradient[goes]
            else:
                image[reads] += gradient[goes]

    over_images(module, shape[0], math.prod(shape), dy.dtype.itemsize, run)
    return dx


class _Mean(Op):
    """What sliding and adaptive averages share."""

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def _size(self, x: Any, **attributes: Any) -> Extents:
        raise NotImplementedError

    def _taps(self, shape: Extents, size: Extents, **attributes: Any) -> list[list[Tap]]:
        raise NotImplementedError

    def _divisors(self, shape: Extents, size: Extents, **attributes: Any) -> Any:
        """What each window's sum is divided by, float64: one number for each output cell."""
        raise NotImplementedError

    def infer(self, *inputs: Any, **attributes: Any) -> Inferred:
        (x,) = inputs
        return Inferred((Spec((*x.shape[:2], *self._size(x, **attributes)), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        (x,) = inputs
        if self.path(x) == "reference":
            return self.reference(x, **attributes)
        module = module_of(x)
        size = self._size(x, **attributes)
        spatial = tuple(x.shape[2:])
        taps = self._taps(spatial, size, **attributes)
        carry = compute_dtype(x.dtype)
        scale = (1.0 / self._divisors(spatial, size, **attributes)).astype(carry)[..., None]
        if scale.size and (scale == scale.flat[0]).all():
            scale = scale.reshape(-1)[:1]  # one number, which makes the product run over whole rows
        scale = module.asarray(scale)
        values = channels_last(x)
        steps = passes(taps, size, spatial, rows_first=True)
        shapes = []
        for axes in steps:
            shapes.append(tuple(values.shape))
            shape = tuple(size[i - 1] if i - 1 in axes else extent for i, extent in enumerate(values.shape))
            values = _sums(values, shape, taps, axes, scale if axes is steps[-1] else None, carry)
        ctx.state = (steps, shapes, taps, scale)
        return channels_first(values.astype(x.dtype, copy=False))

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        steps, shapes, taps, scale = ctx.state
        gradient = channels_last(grad)
        for axes, shape in zip(reversed(steps), reversed(shapes), strict=True):
            gradient = _spread(gradient, shape, taps, axes, scale if axes is steps[-1] else None)
        return (channels_first(gradient.astype(grad.dtype, copy=False)),)


class AvgPool(_Mean):
    """Average over sliding windows."""

    def __init__(self, dims: int) -> None:
        super().__init__(dims)
        self.name = f"avg_pool{dims}d"

    def _size(self, x: Any, **attributes: Any) -> Extents:
        if attributes["divisor_override"] == 0:
            raise ValueError(f"{self.name}: divisor_override must not be zero")
        kernel, stride, padding = (attributes[name] for name in ("kernel_size", "stride", "padding"))
        return check_pool(self.name, x, self.dims, kernel, stride, padding, (1,) * self.dims, attributes["ceil_mode"])

    def _taps(self, shape: Extents, size: Extents, **attributes: Any) -> list[list[Tap]]:
        rows = zip(shape, size, *(attributes[name] for name in ("kernel_size", "stride", "padding")), strict=True)
        return [axis_taps(extent, count, k, s, pad, 1) for extent, count, k, s, pad in rows]

    def _divisors(self, shape: Extents, size: Extents, **attributes: Any) -> Any:
        if attributes["divisor_override"] is not None:
            return np.full(size, float(attributes["divisor_override"]))
        counts = np.ones((), np.float64)
        rows = zip(shape, size, *(attributes[name] for name in ("kernel_size", "stride", "padding")), strict=True)
        for extent, count, k, s, pad in rows:
            start = np.arange(count) * s - pad
            stop = np.minimum(start + k, extent + pad)
            if not attributes["count_include_pad"]:
                start, stop = np.maximum(start, 0), np.minimum(stop, extent)
            counts = np.multiply.outer(counts, stop - start)
        return counts

    def reference(self, *inputs: Any, **attributes: Any) -> Any:
        (x,) = inputs
        size = self._size(x, **attributes)
        y = np.zeros((*x.shape[:2], *size), x.dtype)
        divisors = self._divisors(x.shape[2:], size, **attributes)
        for p in np.ndindex(*size):
            window = tuple(
                slice(max(i * s - pad, 0), max(i * s - pad + k, 0))
                for i, k, s, pad in zip(
                    p, attributes["kernel_size"], attributes["stride"], attributes["padding"], strict=True
                )
            )
            y[:, :, *p] = x[:, :, *window].sum(axis=tuple(range(2, x.ndim))) / divisors[p]
        return y

    def samples(self) -> Iterator[Sample]:
        plain = {"ceil_mode": False, "count_include_pad": True, "divisor_override": None}
        for sample in pool_samples(self.dims):
            yield Sample(sample.label, sample.inputs, {**sample.attributes, **plain})
        x = distinct(2, 3, *(8, 9, 7)[: self.dims])
        size = {"kernel_size": (3, 2, 3)[: self.dims], "stride": (2,) * self.dims, "padding": (1,) * self.dims}
        base = {**size, **plain}
        yield Sample("ceil mode", (x,), {**base, "ceil_mode": True})
        yield Sample("padding not counted", (x,), {**base, "count_include_pad": False})
        yield Sample("neither", (x,), {**base, "count_include_pad": False, "ceil_mode": True})
        yield Sample("divisor", (x,), {**base, "divisor_override": 5})


class _Even(NamedTuple):
    """What an adaptive pooling with regions of one size keeps: the shape of its input, and the output's size."""

    shape: tuple[int, ...]
    size: Extents


def _is_even(spatial: tuple[int, ...], size: Extents) -> bool:
    """Whether all regions have one size, and are so long that adding up their cells one by one would not pay."""
    if 0 in size or 0 in spatial or any(extent % count for extent, count in zip(spatial, size, strict=True)):
        return False
    return set(size) == {1} or max(extent // count for extent, count in zip(spatial, size, strict=True)) > 16


class AdaptiveAvgPool(_Mean):
    """Averages over as many regions as the output has cells."""

    def __init__(self, dims: int) -> None:
        super().__init__(dims)
        self.name = f"adaptive_avg_pool{dims}d"

    def _size(self, x: Any, **attributes: Any) -> Extents:
        size: Extents = attributes["output_size"]
        check_adaptive(self.name, x, self.dims, size)
        return size

    def _taps(self, shape: Extents, size: Extents, **attributes: Any) -> list[list[Tap]]:
        return [adaptive_taps(extent, count) for extent, count in zip(shape, size, strict=True)]

    def _divisors(self, shape: Extents, size: Extents, **attributes: Any) -> Any:
        counts = np.ones((), np.float64)
        for extent, count in zip(shape, size, strict=True):
            lengths = [-(-(i + 1) * extent // count) - i * extent // count for i in range(count)]
            counts = np.multiply.outer(counts, np.array(lengths, np.float64))
        return counts

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        (x,) = inputs
        size = self._size(x, **attributes)
        if self.path(x) == "reference" or not _is_even(tuple(x.shape[2:]), size):
            return super().forward(ctx, *inputs, **attributes)
        # Regions of one size: a mean over parts of dimensions.
        n, c, *spatial = x.shape
        ctx.state = _Even((n, c, *spatial), size)
        parts = [part for extent, count in zip(spatial, size, strict=True) for part in (count, extent // count)]
        split = channels_last(x).reshape(n, *parts, c)
        y = split.mean(axis=tuple(range(2, split.ndim - 1, 2)), dtype=compute_dtype(x.dtype))
        return channels_first(y.astype(x.dtype, copy=False))

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        if not isinstance(ctx.state, _Even):
            return super().backward(ctx, *grad_outputs)
        (n, c, *spatial), size = ctx.state
        parts = [part for extent, count in zip(spatial, size, strict=True) for part in (count, extent // count)]
        module = module_of(grad)
        spread = channels_last(grad) / grad.dtype.type(math.prod(parts[1::2]))
        if set(size) == {1}:  # one region is everything: its gradient need not be written out
            return (channels_first(module.broadcast_to(spread, (n, *spatial, c))),)
        ones = [part for count in size for part in (count, 1)]
        whole = module.broadcast_to(spread.reshape(n, *ones, c), (n, *parts, c))
        return (channels_first(whole.reshape(n, *spatial, c)),)

    def reference(self, *inputs: Any, **attributes: Any) -> Any:
        (x,) = inputs
        size = self._size(x, **attributes)
        y = np.zeros((*x.shape[:2], *size), x.dtype)
        for p in np.ndindex(*size):
            region = tuple(
                slice(i * extent // count, -(-(i + 1) * extent // count))
                for i, extent, count in zip(p, x.shape[2:], size, strict=True)
            )
            y[:, :, *p] = x[:, :, *region].mean(axis=tuple(range(2, x.ndim)))
        return y

    def samples(self) -> Iterator[Sample]:
        yield from adaptive_samples(self.dims)


for _dims in (1, 2, 3):
    register(AvgPool(_dims))
    register(AdaptiveAvgPool(_dims))
