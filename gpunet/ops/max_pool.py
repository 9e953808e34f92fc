"""Maximum pooling over one to three dimensions, over sliding windows and adaptive regions, and its reverse.

    max_pool:          y[n,c,p] = max of x over the window of p; padding counts as less than anything
    adaptive_max_pool: y[n,c,p] = max of x over floor(pH/P) .. ceil((p+1)H/P) - 1, and so in every dimension
    max_unpool:        y[n,c,indices[n,c,p]] = x[n,c,p], zero elsewhere

x (N, C, spatial...), physically channels last, as is y. With ``return_indices`` a second output gives the place of each
maximum as an index into the flattened spatial dimensions of x: int64. PyTorch's definitions.

Ties go to the first cell in row-major order; a NaN is larger than everything, and the last NaN of a window is the one
taken. The forward pass remembers the winning tap of each window (one byte where there are at most 256), the backward
pass adds dy to the winner tap by tap, in a fixed order and without atomics. Where windows are reduced one dimension
after the other there is a winner a dimension; first in the row and then among rows is first in row-major order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gpunet.backend.error_word import check_values
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.backend.memory import empty, scratch
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.dtypes import INT64
from gpunet.ops.windows import (
    Extents,
    Tap,
    adaptive_samples,
    adaptive_taps,
    axis_taps,
    channels_first,
    channels_last,
    check_adaptive,
    check_images,
    check_pool,
    distinct,
    is_partition,
    over_images,
    passes,
    pool_samples,
    taps_of,
)

# Windows of more cells than this that are the whole image are searched, not compared tap by tap.
_FEW = 16

Taps = Sequence[list[Tap]]
Axes = tuple[int, ...]

__all__ = ["AdaptiveMaxPool", "MaxPool", "MaxUnpool"]


def _numbering(taps: Taps, axes: Axes) -> tuple[int, ...]:
    """How many numbers the taps of each dimension have."""
    return tuple(max((tap.number for tap in taps[axis]), default=0) + 1 for axis in axes)


def _maxima(source: Any, shape: Extents, taps: Taps, axes: Axes, remember: bool) -> tuple[Any, Any]:
    """One pass: maxima of ``source`` (N, ..., C) over the taps along ``axes``, and the number of the winning tap."""
    module = module_of(source)
    numbers = _numbering(taps, axes)
    best = empty(shape, source.dtype, module)
    winner = empty(shape, np.uint8 if math.prod(numbers) <= 256 else np.int32, module) if remember else None
    listed = [(int(np.ravel_multi_index(number, numbers)), reads, goes) for number, reads, goes in taps_of(taps, axes)]

    def run(images: slice) -> None:
        image, top = source[images], best[images]
        chosen = None if winner is None else winner[images]
        started = False
        for number, reads, goes in listed:
            seen, kept = image[reads], top[goes]
            if not started:
                started = True
                if kept.shape == top.shape:
                    kept[...] = seen
                    if chosen is not None:
                        chosen[...] = number
                    continue
                top[...] = -math.inf
                if chosen is not None:
                    chosen[...] = _first_taps(listed, shape, chosen.dtype, module)
            if module is np and seen.strides[-2] != seen.shape[-1] * seen.itemsize:
                # Read twice, so gathered once.
                gathered = scratch("max_pool read", seen.shape, seen.dtype)
                gathered[...] = seen
                seen = gathered
            if chosen is not None:
                _challenge(chosen[goes], seen, kept, number, module)
            module.maximum(kept, seen, out=kept)
        # On a GPU looking first would cost more than the correction.
        if chosen is not None and top.size and (module is not np or np.isnan(top.max())):
            _last_nan(image, top, chosen, listed, module)

    over_images(module, shape[0], max(best.size, source.size), source.dtype.itemsize, run)
    return best, winner


def _challenge(chosen: Any, seen: Any, kept: Any, number: int, module: Any) -> None:
    """Note the tap where it beats the best so far. Numbers grow, so the maximum of numbers is the latest."""
    wins = module.greater(seen, kept)
    number_where = module.multiply(wins.view(np.uint8), chosen.dtype.type(number), dtype=chosen.dtype)
    module.maximum(chosen, number_where, out=chosen)


def _last_nan(image: Any, top: Any, chosen: Any, listed: Any, module: Any) -> None:
    """Correct the winners of windows that hold a NaN."""
    for number, reads, goes in listed:
        found = module.isnan(image[reads])
        chosen[goes] = module.where(found, chosen.dtype.type(number), chosen[goes])


def _first_taps(listed: Any, shape: Extents, dtype: Any, module: Any) -> Any:
    """The first tap of each window that is not padding: (..., 1)."""
    first = np.zeros((1, *shape[1:-1], 1), dtype)
    for number, _, goes in reversed(listed):
        first[goes] = number
    return module.asarray(first)


def _spread(dy: Any, winner: Any, shape: Extents, taps: Taps, axes: Axes) -> Any:
    """The reverse of one pass: dy added to the cells that won."""
    module = module_of(dy)
    numbers = _numbering(taps, axes)
    listed = [(int(np.ravel_multi_index(number, numbers)), reads, goes) for number, reads, goes in taps_of(taps, axes)]
    alone = is_partition(taps, axes, shape)
    dx = empty(shape, dy.dtype, module)
    bits = np.dtype(f"i{dy.dtype.itemsize}")

    def run(images: slice) -> None:
        image, gradient, chosen = dx[images], dy[images].view(bits), winner[images]
        if alone:
            image = image.view(bits)
        else:
            image[...] = 0
        for number, reads, goes in listed:
            # Bits are kept or cleared: a product with zero would turn an infinite gradient into NaN.
            kept = module.negative((chosen[goes] == number).view(np.int8))
            if alone:
                module.bitwise_and(gradient[goes], kept, out=image[reads])
            else:
                part = scratch("max_pool", kept.shape, bits) if module is np else empty(kept.shape, bits, module)
                module.bitwise_and(gradient[goes], kept, out=part)
                image[reads] += part.view(dy.dtype)

    over_images(module, shape[0], math.prod(shape), dy.dtype.itemsize, run)
    return dx


def _whole(source: Any, remember: bool) -> tuple[Any, Any]:
    """Maxima of whole images (N, ..., C), and their flat places: (N, C) each."""
    module = module_of(source)
    n, c = source.shape[0], source.shape[-1]
    cells = source.reshape(n, math.prod(source.shape[1:-1]), c)
    best = empty((n, c), source.dtype, module)
    places = empty((n, c), INT64, module) if remember else None

    def run(images: slice) -> None:
        image = cells[images]
        best[images] = image.max(axis=1)
        if places is None:
            return
        top = best[images][:, None]
        # The search runs along memory once the flags, a byte each, are turned.
        places[images] = module.ascontiguousarray((image == top).transpose(0, 2, 1)).argmax(axis=2)
        if module is not np or np.isnan(top).any():
            backwards = module.ascontiguousarray(module.isnan(image[:, ::-1]).transpose(0, 2, 1)).argmax(axis=2)
            places[images] = module.where(module.isnan(top[:, 0]), image.shape[1] - 1 - backwards, places[images])

    over_images(module, n, source.size, source.dtype.itemsize, run)
    return best, places


def _spread_whole(grad: Any, shape: Extents, places: Any) -> Any:
    """The reverse: dy in the place of each maximum."""
    module = module_of(grad)
    n, c = shape[0], shape[-1]
    dx = module.zeros((n, math.prod(shape[1:-1]), c), grad.dtype)
    dx[module.arange(n)[:, None], places, module.arange(c)] = grad.reshape(n, c)
    return channels_first(dx.reshape(shape))


class _Maximum(Op):
    """What sliding and adaptive maxima share."""

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def _size(self, x: Any, **attributes: Any) -> Extents:
        raise NotImplementedError

    def _taps(self, shape: Extents, size: Extents, **attributes: Any) -> list[list[Tap]]:
        raise NotImplementedError

    def infer(self, *inputs: Any, return_indices: bool = False, **attributes: Any) -> Inferred:
        (x,) = inputs
        shape = (*x.shape[:2], *self._size(x, **attributes))
        y = Spec(shape, x.dtype)
        return Inferred((y, Spec(shape, INT64)) if return_indices else (y,))

    def forward(self, ctx: Context, *inputs: Any, return_indices: bool = False, **attributes: Any) -> Any:
        (x,) = inputs
        if self.path(x) == "reference":
            return self.reference(x, return_indices=return_indices, **attributes)
        size = self._size(x, **attributes)
        spatial = tuple(x.shape[2:])
        taps = self._taps(spatial, size, **attributes)
        values = channels_last(x)
        if set(size) == {1} and math.prod(spatial) > _FEW and is_partition(taps, tuple(range(self.dims)), values.shape):
            y, place = _whole(values, return_indices or ctx.needs_grad[0])
            ctx.state = (None, (tuple(values.shape), place))
            y = y.reshape(*x.shape[:2], *size)
            return (y, place.reshape(y.shape)) if return_indices else y
        steps = []
        for axes in passes(taps, size, spatial):
            before = tuple(values.shape)
            shape = tuple(size[i - 1] if i - 1 in axes else extent for i, extent in enumerate(before))
            values, winner = _maxima(values, shape, taps, axes, return_indices or ctx.needs_grad[0])
            steps.append((axes, before, winner))
        ctx.state = (steps, taps)
        y = channels_first(values)
        return (y, self._places(steps, taps, spatial, size)) if return_indices else y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        steps, taps = ctx.state
        if steps is None:
            return (_spread_whole(grad_outputs[0], *taps),)
        gradient = channels_last(grad_outputs[0])
        for axes, before, winner in reversed(steps):
            gradient = _spread(gradient, winner, before, taps, axes)
        return (channels_first(gradient),)

    def _places(self, steps: Any, taps: Taps, spatial: Extents, size: Extents) -> Any:
        """The winners as indices into the flattened spatial dimensions of the input."""
        module = module_of(steps[0][2])
        place: Any = None
        for axes, _, winner in steps:
            numbers = _numbering(taps, axes)
            rest = winner
            here: dict[int, Any] = {}
            for axis, count in zip(reversed(axes), reversed(numbers), strict=True):
                table = np.zeros((size[axis], count), np.int64)
                for tap in taps[axis]:
                    table[tap.target, tap.number] = np.arange(spatial[axis])[tap.source]
                positions = np.arange(size[axis]).reshape([-1 if i == axis else 1 for i in range(len(size))] + [1])
                here[axis] = module.asarray(table)[module.asarray(positions), rest % count]
                rest = rest // count
            if place is not None:
                (axis,) = axes
                place = module.take_along_axis(place, here[axis], axis + 1)
            for axis, cell in here.items():
                step = cell * math.prod(spatial[axis + 1 :])
                place = step if place is None else place + step
        return channels_first(place)


class MaxPool(_Maximum):
    """Maximum over sliding windows."""

    def __init__(self, dims: int) -> None:
        super().__init__(dims)
        self.name = f"max_pool{dims}d"

    def _size(self, x: Any, **attributes: Any) -> Extents:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return check_pool(self.name, x, self.dims, *(attributes[name] for name in names))

    def _taps(self, shape: Extents, size: Extents, **attributes: Any) -> list[list[Tap]]:
        names = ("kernel_size", "stride", "padding", "dilation")
        rows = zip(shape, size, *(attributes[name] for name in names), strict=True)
        return [axis_taps(*row) for row in rows]

    def reference(self, *inputs: Any, return_indices: bool = False, **attributes: Any) -> Any:
        (x,) = inputs
        size = self._size(x, **attributes)
        kernel, stride, padding, dilation = (
            attributes[name] for name in ("kernel_size", "stride", "padding", "dilation")
        )
        spatial = x.shape[2:]
        y = np.full((*x.shape[:2], *size), -np.inf, x.dtype)
        places = np.full(y.shape, -1)
        for p in np.ndindex(*size):
            for r in np.ndindex(*kernel):
                cell = tuple(
                    a * s + b * d - pad for a, s, b, d, pad in zip(p, stride, r, dilation, padding, strict=True)
                )
                if all(0 <= c < extent for c, extent in zip(cell, spatial, strict=True)):
                    _reference_step(x[:, :, *cell], y[:, :, *p], places[:, :, *p], np.ravel_multi_index(cell, spatial))
        return (y, places) if return_indices else y

    def samples(self) -> Iterator[Sample]:
        for sample in pool_samples(self.dims):
            plain = {"dilation": (1,) * self.dims, "ceil_mode": False}
            yield Sample(sample.label, sample.inputs, {**sample.attributes, **plain})
        x = distinct(2, 3, *(8, 9, 7)[: self.dims])
        base = {
            "kernel_size": (3, 2, 3)[: self.dims],
            "stride": (2,) * self.dims,
            "padding": (1,) * self.dims,
            "dilation": (1,) * self.dims,
            "ceil_mode": True,
        }
        yield Sample("ceil mode", (x,), base)
        yield Sample("dilation", (x,), {**base, "dilation": (2, 3, 1)[: self.dims], "ceil_mode": False})
        yield Sample("indices", (x,), {**base, "return_indices": True})
        flat = {**base, "stride": (1,) * self.dims, "return_indices": True}
        yield Sample("one dimension at a time", (x,), {**flat, "kernel_size": (5,) * self.dims})
        if self.dims == 2:
            wide = {**base, "kernel_size": (17, 17), "padding": (0, 0)}
            yield Sample("window of 289 cells", (distinct(1, 2, 18, 17),), wide)
        if self.dims == 1:
            long = {**base, "kernel_size": (300,), "padding": (0,), "return_indices": True}
            yield Sample("window of 300 cells", (distinct(1, 2, 305),), long)


class AdaptiveMaxPool(_Maximum):
    """Maximum over as many regions as the output has cells."""

    def __init__(self, dims: int) -> None:
        super().__init__(dims)
        self.name = f"adaptive_max_pool{dims}d"

    def _size(self, x: Any, **attributes: Any) -> Extents:
        size: Extents = attributes["output_size"]
        check_adaptive(self.name, x, self.dims, size)
        return size

    def _taps(self, shape: Extents, size: Extents, **attributes: Any) -> list[list[Tap]]:
        return [adaptive_taps(extent, count) for extent, count in zip(shape, size, strict=True)]

    def reference(self, *inputs: Any, return_indices: bool = False, **attributes: Any) -> Any:
        (x,) = inputs
        size, spatial = self._size(x, **attributes), x.shape[2:]
        y = np.full((*x.shape[:2], *size), -np.inf, x.dtype)
        places = np.full(y.shape, -1)
        for p in np.ndindex(*size):
            region = [
                range(i * extent // count, -(-(i + 1) * extent // count))
                for i, extent, count in zip(p, spatial, size, strict=True)
            ]
            for offset in np.ndindex(*map(len, region)):
                cell = tuple(part[i] for part, i in zip(region, offset, strict=True))
                _reference_step(x[:, :, *cell], y[:, :, *p], places[:, :, *p], np.ravel_multi_index(cell, spatial))
        return (y, places) if return_indices else y

    def samples(self) -> Iterator[Sample]:
        yield from adaptive_samples(self.dims)
        x = distinct(2, 3, *(5, 7, 4)[: self.dims])
        size = (3, 4, 3)[: self.dims]
        yield Sample("indices", (x,), {"output_size": size, "return_indices": True})


def _reference_step(seen: Any, best: Any, place: Any, index: Any) -> None:
    wins = (seen > best) | (place < 0) | np.isnan(seen)
    best[wins], place[wins] = seen[wins], index


class MaxUnpool(Op):
    """Values put back to where the maxima came from, zero elsewhere; the last of equal places stays."""

    def __init__(self, dims: int) -> None:
        self.dims = dims
        self.name = f"max_unpool{dims}d"

    def infer(self, *inputs: Any, output_size: Extents) -> Inferred:
        x, indices = inputs
        check_images(self.name, x, self.dims)
        if indices.dtype != INT64:
            raise DTypeError(f"{self.name}: indices must be int64, got {indices.dtype.name}")
        if tuple(indices.shape) != tuple(x.shape):
            raise ShapeError(
                f"{self.name}: indices must have the input's shape {tuple(x.shape)}, got {tuple(indices.shape)}"
            )
        if min(output_size) < 1:
            raise ShapeError(f"{self.name}: output_size must be at least 1, got {output_size}")
        return Inferred((Spec((*x.shape[:2], *output_size), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, output_size: Extents) -> Any:
        x, indices = inputs
        module = module_of(x)
        n, c = x.shape[:2]
        count, cells = math.prod(x.shape[2:]), math.prod(output_size)
        values, places = (channels_last(value).reshape(n, count, c) for value in (x, indices))
        outside = (places < 0) | (places >= cells)
        check_values("index", outside, f"{self.name}: indices must lie in 0..{cells - 1}")
        if module is not np:
            values, places = module.where(outside, 0, values), module.where(outside, 0, places)
        y = module.zeros((n, cells, c), x.dtype)
        images, channels = module.arange(n)[:, None, None], module.arange(c)
        y[images, places, channels] = values
        ctx.state = (tuple(x.shape), images, places, channels)
        return channels_first(y.reshape(n, *output_size, c))

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (shape, images, places, channels) = ctx.state
        dy = channels_last(grad_outputs[0])
        flat = dy.reshape(shape[0], math.prod(dy.shape[1:-1]), shape[1])
        return (channels_first(flat[images, places, channels].reshape(shape[0], *shape[2:], shape[1])), None)

    def samples(self) -> Iterator[Sample]:
        size = (4, 5, 3)[: self.dims]
        shape = (2, 3, *(2, 3, 2)[: self.dims])
        rng = np.random.default_rng(5)
        count = math.prod(shape[2:])
        places = np.stack([rng.permutation(math.prod(size))[:count] for _ in range(6)]).reshape(shape)
        yield Sample("distinct places", (rng.standard_normal(shape), places), {"output_size": size})
        yield Sample("empty batch", (np.zeros((0, *shape[1:])), places[:0]), {"output_size": size})


for _dims in (1, 2, 3):
    register(MaxPool(_dims))
    register(AdaptiveMaxPool(_dims))
    register(MaxUnpool(_dims))
