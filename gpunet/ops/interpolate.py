"""Resampling images to another size: nearest, linear and cubic interpolation, one dimension after the other.

    y[j] = sum_k w[k, j] x[i[k, j]]        in each spatial dimension

With a step s of input cells an output cell, and u = s (j + 1/2) - 1/2 the place of cell j (s j where corners align):

    nearest:       i = floor(s j)                      nearest-exact: i = floor(s (j + 1/2))
    linear:        i = floor(u), floor(u) + 1          w = 1 - t, t            with t = u - floor(u), u not below 0
    cubic:         i = floor(u) - 1 .. floor(u) + 2    Keys' kernel with a = -3/4 (Keys 1981, equation 4)

Indices are clamped to the input. s = in / out, or 1 / scale where a scale is given and stands; (in - 1) / (out - 1)
where corners align. x (N, C, spatial...), physically channels last, as is y. PyTorch's definitions, down to the
precision in which it computes s and u, since a nearest neighbour hangs on it. Sums of the half types are in float32.

The backward pass is the transposed table: what each input cell was used for, in a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.backend.memory import empty, scratch
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.windows import LAYOUTS, Extents, channels_first, channels_last, over_images

__all__ = ["Interpolate"]

_CUBIC = -0.75
# Output cells that are this many apart often read input cells a fixed step apart; then slices serve instead of indices.
_PERIODS = (1, 2, 3, 4)
_ENDS = 6
_TILE_BYTES = 1 << 18


class _Piece(NamedTuple):
    """One term of some output cells: where they are, what they read, and its weights (a number if all are equal)."""

    term: int
    target: slice
    source: slice | np.ndarray
    weight: float | np.ndarray


def _step(extent: int, count: int, scale: float | None, align_corners: bool, number: Any) -> Any:
    """Input cells an output cell, in PyTorch's precision."""
    if align_corners:
        return number(extent - 1) / number(count - 1) if count > 1 else number(0)
    return number(1.0 / scale) if scale is not None and scale > 0 else number(extent) / number(count)


def _table(
    mode: str, extent: int, count: int, scale: float | None, align_corners: bool, number: Any
) -> tuple[np.ndarray, np.ndarray]:
    """What each output cell reads, and with which weights: (terms, count) each."""
    step = _step(extent, count, scale, align_corners, number)
    cells = np.arange(count).astype(number)
    centres = cells * step if align_corners else step * (cells + number(0.5)) - number(0.5)
    if mode.startswith("nearest"):
        place = cells * step if mode == "nearest" else np.maximum(centres, number(0)) + number(0.5)
        found = np.minimum(np.floor(place.astype(np.float32)).astype(np.int64), extent - 1)[None]
        return found, np.ones(found.shape, number)
    if mode == "cubic":
        first = np.minimum(np.floor(centres), extent - 1)
        t = np.clip(centres - first, 0, 1).astype(np.float64)
        indices = np.clip(first.astype(np.int64) + np.arange(-1, 3)[:, None], 0, extent - 1)
        weights = np.stack([_keys(t + 1), _keys(t), _keys(1 - t), _keys(2 - t)])
        return indices, weights.astype(number)
    place = np.maximum(centres, number(0))
    first = np.minimum(place.astype(np.int64), extent - 1)
    t = np.clip(place - first.astype(number), number(0), number(1))
    return np.stack([first, np.minimum(first + 1, extent - 1)]), np.stack([1 - t, t])


def _keys(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel at distances of 0 to 2."""
    a, d = _CUBIC, distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, far)


def _transposed(indices: np.ndarray, weights: np.ndarray, extent: int) -> tuple[np.ndarray, np.ndarray]:
    """The table that gives each input cell what was taken from it: terms in ascending order, the rest weighted zero."""
    terms, count = indices.shape
    reader = np.tile(np.arange(count), terms)
    # One entry for each pair of cells: clamping may name one twice.
    pairs, where = np.unique(indices.reshape(-1) * count + reader, return_inverse=True)
    amount = np.zeros(len(pairs), np.float64)
    np.add.at(amount, where, weights.reshape(-1).astype(np.float64))
    cell, reads = pairs // count, pairs % count
    position = np.arange(len(pairs)) - np.searchsorted(cell, cell)
    shape = (int(position.max(initial=0)) + 1, extent)
    readers, amounts = np.zeros(shape, np.int64), np.zeros(shape, np.float64)
    readers[position, cell], amounts[position, cell] = reads, amount
    return readers, amounts.astype(weights.dtype)


def _pieces(indices: np.ndarray, weights: np.ndarray) -> tuple[_Piece, ...]:
    """The table as slices where the indices allow it, every term covering all cells or only those it adds to."""
    for period in _PERIODS:
        pieces: list[_Piece] = []
        for term in range(len(indices)):
            for phase in range(min(period, indices.shape[1])):
                found = _runs(term, indices[term, phase::period], weights[term, phase::period], phase, period)
                if found is None:
                    break
                pieces += found
            else:
                continue
            break
        else:
            return tuple(pieces)
    pieces = []
    for term in range(len(indices)):
        used = np.flatnonzero(weights[term]) if term else np.arange(indices.shape[1])
        if len(used) <= _ENDS:
            for cell in used.tolist():
                source = slice(int(indices[term, cell]), int(indices[term, cell]) + 1)
                pieces.append(_Piece(term, slice(cell, cell + 1), source, float(weights[term, cell])))
            continue
        cells = slice(int(used[0]), int(used[-1]) + 1)
        pieces.append(_Piece(term, cells, indices[term, cells].copy(), _weight(weights[term, cells])))
    return tuple(pieces)


def _weight(weights: np.ndarray) -> float | np.ndarray:
    return float(weights[0]) if len(weights) and (weights == weights[0]).all() else weights.copy()


def _runs(term: int, indices: np.ndarray, weights: np.ndarray, phase: int, period: int) -> list[_Piece] | None:
    """Slices for one phase of one term: a long run, and a few cells at its ends. None if it takes more."""
    if term:
        used = np.flatnonzero(weights)
        if len(used) == 0:
            return []
        start, stop = int(used[0]), int(used[-1]) + 1
    else:
        start, stop = 0, len(indices)
    pieces = []
    while start < stop:
        end = start + 1
        if end < stop and indices[end] > indices[start]:
            step = indices[end] - indices[start]
            while end < stop and indices[end] - indices[end - 1] == step and weights[end] == weights[start]:
                end += 1
        step = int(indices[end - 1] - indices[start]) // max(end - 1 - start, 1) or 1
        first = int(indices[start])
        source = slice(first, first + (end - 1 - start) * step + 1, step)
        target = slice(phase + start * period, phase + (end - 1) * period + 1, period)
        pieces.append(_Piece(term, target, source, float(weights[start])))
        if len(pieces) > _ENDS:
            return None
        start = end
    return pieces


@lru_cache(maxsize=256)
def _plan(
    mode: str, extent: int, count: int, scale: float | None, align_corners: bool, dtype: str, backward: bool
) -> tuple[_Piece, ...]:
    indices, weights = _table(mode, extent, count, scale, align_corners, np.dtype(dtype).type)
    if backward:
        indices, weights = _transposed(indices, weights, extent)
    return _pieces(indices, weights)


def _resample(source: Any, plans: list[tuple[int, int, tuple[_Piece, ...]]], carry: Any) -> Any:
    """(N, ..., C) along each plan's dimension to its size, a block of images through all of them at a time."""
    module = module_of(source)
    shapes = [tuple(source.shape)]
    for axis, count, _ in plans:
        shapes.append((*shapes[-1][:axis], count, *shapes[-1][axis + 1 :]))
    result = empty(shapes[-1], carry, module)

    def run(images: slice) -> None:
        values = source[images]
        for position, (axis, _, pieces) in enumerate(plans):
            if position == len(plans) - 1:
                out = result[images]
            else:
                out = _work(f"resample {position}", (len(values), *shapes[position + 1][1:]), carry, module)
            for tile in _tiles(out, axis, module):
                for piece in pieces:
                    _add_piece(values[tile], out[tile], axis, piece, module)
            values = out

    over_images(module, shapes[0][0], max(map(math.prod, shapes)), carry.itemsize, run)
    return result


def _tiles(out: Any, axis: int, module: Any) -> list[tuple[slice, ...]]:
    """Cuts through the first dimension where another is resampled, so that all terms find their sums in the cache."""
    if module is not np or axis == 1 or out.nbytes <= _TILE_BYTES:
        return [(slice(None),)]
    rows = out.shape[1]
    step = -(-rows * _TILE_BYTES // out.nbytes)
    return [(slice(None), slice(start, start + step)) for start in range(0, rows, step)]


def _work(name: str, shape: Extents, dtype: Any, module: Any) -> Any:
    """A work array, on the CPU one that the thread keeps."""
    return scratch(name, shape, dtype) if module is np else empty(shape, dtype, module)


def _add_piece(values: Any, out: Any, axis: int, piece: _Piece, module: Any) -> None:
    """Write the first term of some output cells, or add another."""
    before = (slice(None),) * axis
    place = out[*before, piece.target]
    if isinstance(piece.source, slice):
        seen = values[*before, piece.source]
    elif module is np:
        seen = scratch("resample read", place.shape, values.dtype)
        np.take(values, piece.source, axis=axis, out=seen, mode="clip")
    else:
        seen = module.take(values, module.asarray(piece.source), axis=axis)
    factor: Any = None
    if isinstance(piece.weight, np.ndarray):
        factor = module.asarray(piece.weight).reshape([-1 if i == axis else 1 for i in range(out.ndim)])
    elif piece.weight != 1:
        factor = out.dtype.type(piece.weight)
    if piece.term == 0:
        if factor is None:
            place[...] = seen
        else:
            module.multiply(seen, factor, out=place)
    elif factor is None:
        place += seen
    else:
        product = _work("resample product", place.shape, out.dtype, module)
        module.multiply(seen, factor, out=product)
        place += product


class Interpolate(Op):
    """Resampling to a size."""

    def __init__(self, dims: int) -> None:
        self.dims = dims
        self.name = f"interpolate{dims}d"

    def infer(
        self, *inputs: Any, size: Extents, scales: tuple[float | None, ...], mode: str, align_corners: bool
    ) -> Inferred:
        (x,) = inputs
        if x.ndim != self.dims + 2:
            raise ShapeError(f"interpolate: input must be {LAYOUTS[self.dims]}, got shape {tuple(x.shape)}")
        require_floating("interpolate", "input", x)
        if min(size) < 1:
            raise ShapeError(f"interpolate: size must be at least 1, got {size}")
        if min(x.shape[1:]) == 0:
            raise ShapeError(f"interpolate: input must not be empty except in its batch, got shape {tuple(x.shape)}")
        return Inferred((Spec((*x.shape[:2], *size), x.dtype),))

    def _plans(self, shape: Extents, dtype: Any, attributes: dict[str, Any], backward: bool) -> list[Any]:
        """Dimension, size and plan of each pass: those that shrink the array first, then from the last to the first."""
        rows = list(enumerate(zip(shape, attributes["size"], attributes["scales"], strict=True)))
        rows.sort(key=lambda row: (row[1][0] < row[1][1], -row[0]))
        plans = []
        for axis, (extent, count, scale) in reversed(rows) if backward else rows:
            mode, align_corners = attributes["mode"], attributes["align_corners"]
            if _is_identity(extent, count, scale):
                continue
            plan = _plan(mode, extent, count, scale, align_corners, dtype.name, backward)
            plans.append((axis + 1, extent if backward else count, plan))
        return plans

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        (x,) = inputs
        carry = compute_dtype(x.dtype)
        ctx.state = tuple(x.shape)
        values = channels_last(x)
        plans = self._plans(x.shape[2:], carry, attributes, False)
        if not plans:
            return channels_first(values.copy())
        return channels_first(_resample(values, plans, carry).astype(x.dtype, copy=False))

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        carry = compute_dtype(grad.dtype)
        plans = self._plans(ctx.state[2:], carry, ctx.attributes, True)
        if not plans:
            return (grad,)
        return (channels_first(_resample(channels_last(grad), plans, carry).astype(grad.dtype, copy=False)),)

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(13)

        def image(*spatial: int) -> Any:
            return channels_first(rng.standard_normal((2, *spatial[: self.dims], 3)))

        def options(mode: str, *size: int, align_corners: bool = False, scale: float | None = None) -> dict[str, Any]:
            dims = self.dims
            return {"size": size[:dims], "scales": (scale,) * dims, "mode": mode, "align_corners": align_corners}

        yield Sample("nearest, twice", (image(3, 4, 2),), options("nearest", 6, 8, 4))
        yield Sample("nearest, smaller", (image(7, 5, 3),), options("nearest", 3, 2, 2))
        yield Sample("nearest-exact", (image(5, 4, 3),), options("nearest-exact", 7, 3, 4))
        yield Sample("linear, twice", (image(3, 4, 2),), options("linear", 6, 8, 4))
        yield Sample("linear, corners", (image(4, 5, 3),), options("linear", 7, 3, 5, align_corners=True))
        yield Sample("linear, smaller", (image(8, 7, 5),), options("linear", 3, 2, 2))
        yield Sample("linear, scale", (image(4, 5, 3),), options("linear", 6, 7, 4, scale=1.6))
        yield Sample("one cell", (image(1, 1, 1),), options("linear", 4, 1, 2, align_corners=True))
        yield Sample("channels first", (np.ascontiguousarray(image(3, 4, 2)),), options("linear", 5, 5, 5))
        yield Sample("empty batch", (image(3, 4, 2)[:0],), options("linear", 5, 5, 5))
        if self.dims == 2:
            yield Sample("cubic", (image(5, 6),), options("cubic", 8, 4))
            yield Sample("cubic, twice, corners", (image(4, 5),), options("cubic", 8, 10, align_corners=True))
            yield Sample("several blocks", (rng.standard_normal((3, 8, 40, 40)),), options("linear", 80, 80))


def _is_identity(extent: int, count: int, scale: float | None) -> bool:
    """Whether a dimension stays as it is."""
    return extent == count and (scale is None or scale == 1)


for _dims in (1, 2, 3):
    register(Interpolate(_dims))
