"""Sampling images at the points of a grid (Jaderberg et al. 2015, Spatial Transformer Networks, section 3.3).

    y[n, c, i, j] = x[n, c] at the place (u, v) of grid[n, i, j] = (gx, gy)
    u = (gx + 1) / 2 (W - 1) where corners align, else ((gx + 1) W - 1) / 2;  v likewise with gy and H

"bilinear" weights the four pixels around the place, "nearest" takes the one nearest to it (halves to even). Outside the
image there are zeros; with "border" places are moved to its edge, with "reflection" mirrored at it, about the centres
of the outer pixels where corners align, about their outer edges else. x (N, C, H, W), grid (N, Ho, Wo, 2). PyTorch's
definitions. Coordinates and sums of the half types are in float32; gradients add up in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
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
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.indexing import add_at
from gpunet.ops.windows import channels_first, channels_last

_MODES = ("bilinear", "nearest")
_PADDINGS = ("zeros", "border", "reflection")


def _places(module: Any, points: Any, extent: int, padding: str, align_corners: bool) -> tuple[Any, Any]:
    """Places of grid coordinates along a dimension, and their slopes."""
    number = points.dtype.type
    if align_corners:
        place, slope = (points + number(1)) * number((extent - 1) / 2), number((extent - 1) / 2)
    else:
        place, slope = ((points + number(1)) * number(extent) - number(1)) * number(0.5), number(extent / 2)
    slopes = module.full(place.shape, slope, place.dtype)
    if padding == "zeros":
        return place, slopes
    if padding == "reflection":
        low, span = (0.0, float(extent - 1)) if align_corners else (-0.5, float(extent))
        if span == 0:
            return module.zeros_like(place), module.zeros_like(place)
        from_low = place - number(low)
        distance = module.abs(from_low)
        flips = module.floor(distance / number(span))
        rest = module.fmod(distance, number(span))
        odd = module.fmod(flips, number(2)) != 0
        place = module.where(odd, number(span) - rest, rest) + number(low)
        slopes = module.where(odd ^ (from_low < 0), -slopes, slopes)
    last = number(extent - 1)
    slopes = module.where((place <= 0) | (place >= last), number(0), slopes)
    return module.minimum(module.maximum(place, number(0)), last), slopes


def _cell(module: Any, place: Any, extent: int) -> tuple[Any, Any]:
    """Whole places as indices inside the image, and whether they were inside."""
    inside = (place >= 0) & (place <= extent - 1)
    return module.where(inside, place, place.dtype.type(0)).astype(np.int64), inside


class GridSample(Op):
    """Bilinear or nearest samples at the points of a grid."""

    name = "grid_sample"

    def infer(self, *inputs: Any, mode: str, padding_mode: str, align_corners: bool) -> Inferred:
        x, grid = inputs
        for option, value, known in (("mode", mode, _MODES), ("padding_mode", padding_mode, _PADDINGS)):
            if value not in known:
                raise ValueError(f"grid_sample: {option} must be one of {', '.join(map(repr, known))}, got {value!r}")
        if x.ndim != 4 or grid.ndim != 4 or grid.shape[0] != x.shape[0] or grid.shape[3] != 2:
            raise ShapeError(
                f"grid_sample: input must be (N, C, H, W) and grid (N, H_out, W_out, 2), "
                f"got shapes {tuple(x.shape)} and {tuple(grid.shape)}"
            )
        if min(x.shape[2:]) == 0:
            raise ShapeError(f"grid_sample: input must have pixels, got shape {tuple(x.shape)}")
        require_floating("grid_sample", "input", x)
        require_same_dtype("grid_sample", input=x, grid=grid)
        return Inferred((Spec((*x.shape[:2], *grid.shape[1:3]), x.dtype),))

    def _corners(self, module: Any, x: Any, grid: Any, attributes: dict[str, Any]) -> tuple[list[Any], Any, Any]:
        """For each pixel that counts: its index in (N H W), its weight, and the weight's slopes in u and v."""
        height, width = x.shape[2:]
        points = grid.astype(compute_dtype(grid.dtype), copy=False)
        options = (attributes["padding_mode"], attributes["align_corners"])
        u, du = _places(module, points[..., 0], width, *options)
        v, dv = _places(module, points[..., 1], height, *options)
        image = module.arange(x.shape[0]).reshape(-1, 1, 1) * (height * width)
        zero, one = u.dtype.type(0), u.dtype.type(1)
        if attributes["mode"] == "nearest":
            left, top = module.rint(u), module.rint(v)
            ends: list[Any] = [((left, None, 0), (top, None, 0))]
        else:
            left, top = module.floor(u), module.floor(v)
            across = ((left, left + one - u, -1), (left + one, u - left, 1))
            down = ((top, top + one - v, -1), (top + one, v - top, 1))
            ends = [(a, b) for b in down for a in across]
        found = []
        for (column, right, grow_u), (row, below, grow_v) in ends:
            (j, in_width), (i, in_height) = _cell(module, column, width), _cell(module, row, height)
            inside = in_width & in_height
            index = image + i * width + j
            if right is None:
                found.append((index, inside.astype(u.dtype), None, None))
                continue
            found.append(
                (
                    index,
                    module.where(inside, right * below, zero),
                    module.where(inside, below * u.dtype.type(grow_u), zero),
                    module.where(inside, right * u.dtype.type(grow_v), zero),
                )
            )
        return found, du, dv

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        x, grid = inputs
        module = module_of(x)
        carry = compute_dtype(x.dtype)
        pixels = channels_last(x).reshape(x.shape[0] * x.shape[2] * x.shape[3], x.shape[1])
        total: Any = None
        for index, weight, _, _ in self._corners(module, x, grid, attributes)[0]:
            part = pixels[index].astype(carry, copy=False)
            part *= weight[..., None]
            total = part if total is None else module.add(total, part, out=total)
        ctx.save(x, grid)
        return channels_first(total.astype(x.dtype, copy=False))

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        x, grid = ctx.saved
        module = module_of(grad)
        carry = compute_dtype(x.dtype)
        channels = x.shape[1]
        pixels = channels_last(x)
        slope = channels_last(grad).astype(carry, copy=False)
        dx = module.zeros((x.shape[0] * x.shape[2] * x.shape[3], channels), carry)
        found, du, dv = self._corners(module, x, grid, ctx.attributes)
        along_u, along_v = module.zeros(du.shape, carry), module.zeros(dv.shape, carry)
        for index, weight, grow_u, grow_v in found:
            add_at(module, dx, index.reshape(-1), (slope * weight[..., None]).reshape(index.size, channels))
            if grow_u is not None:
                product = (pixels.reshape(dx.shape)[index] * slope).sum(axis=-1)
                along_u += product * grow_u
                along_v += product * grow_v
        dgrid = module.stack([along_u * du, along_v * dv], axis=-1).astype(grid.dtype, copy=False)
        return channels_first(dx.reshape(pixels.shape).astype(x.dtype, copy=False)), dgrid

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(53)
        x = channels_first(rng.standard_normal((2, 4, 5, 3)))
        grid = rng.uniform(-1.4, 1.4, (2, 3, 4, 2))
        for padding in _PADDINGS:
            for corners in (False, True):
                options = {"mode": "bilinear", "padding_mode": padding, "align_corners": corners}
                yield Sample(f"{padding}, corners {corners}", (x, grid), options)
                yield Sample(f"nearest, {padding}, {corners}", (x, grid), {**options, "mode": "nearest"})
        plain = {"mode": "bilinear", "padding_mode": "reflection", "align_corners": False}
        yield Sample("far outside", (x, grid * 4.3), plain)
        yield Sample("one pixel", (x[:, :, :1, :1], grid), plain)
        yield Sample("one pixel, corners", (x[:, :, :1, :1], grid), {**plain, "align_corners": True})
        yield Sample("channels first", (np.ascontiguousarray(x), grid), plain)
        yield Sample("empty batch", (x[:0], grid[:0]), plain)


register(GridSample())
