"""Resampling images, and trading channels for pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet.autograd import Tensor, apply, as_tensor
from gpunet.backend.errors import ShapeError
from gpunet.nn.functional.pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from gpunet.ops import REGISTRY
from gpunet.ops.base import require_floating

__all__ = ["affine_grid", "channel_shuffle", "grid_sample", "interpolate", "pixel_shuffle", "pixel_unshuffle"]


def affine_grid(theta: Tensor, size: Any, align_corners: bool | None = None) -> Tensor:
    """The places that affine maps send the pixels of an image to, for ``grid_sample``.

    Args:
        theta: (N, 2, 3), or (N, 3, 4) for volumes: maps of coordinates in -1..1, x first.
        size: of the image wanted: (N, C, H, W) or (N, C, D, H, W).
        align_corners: whether -1 and 1 are the centres of the outer pixels, rather than their outer edges.

    Returns:
        (N, H, W, 2) or (N, D, H, W, 3).

    Raises:
        ShapeError: theta and size do not match, or a size below 1.
        DTypeError: integers.
    """
    extents = tuple(size)
    dims = len(extents) - 2
    if dims not in (2, 3) or tuple(theta.shape) != (extents[0], dims, dims + 1):
        raise ShapeError(
            f"affine_grid: theta must be (N, 2, 3) for a size (N, C, H, W) or (N, 3, 4) for (N, C, D, H, W), "
            f"got shape {tuple(theta.shape)} and size {extents}"
        )
    require_floating("affine_grid", "theta", theta)
    if min(extents) < 1:
        raise ShapeError(f"affine_grid: size must be positive, got {extents}")
    # The last dimension is x, the first coordinate.
    ends = [(count, 1.0 if align_corners else 1 - 1 / count) for count in extents[2:]]
    lines = [np.linspace(-end, end, count) if count > 1 else np.zeros(1) for count, end in ends]
    axes = np.meshgrid(*lines, indexing="ij")
    points = np.stack([*reversed(axes), np.ones(extents[2:])], axis=-1).reshape(-1, dims + 1)
    base = as_tensor(points.astype(theta.dtype), device=theta.device)
    return base.matmul(theta.transpose(1, 2)).reshape(extents[0], *extents[2:], dims)


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """The input at the places of a grid (Jaderberg et al. 2015); gradients flow to both.

    Args:
        input: (N, C, H, W).
        grid: (N, H_out, W_out, 2): (x, y), -1 and 1 at the image's ends; of the input's dtype.
        mode: ``"bilinear"`` or ``"nearest"``.
        padding_mode: what is outside: ``"zeros"``, ``"border"`` or ``"reflection"``.
        align_corners: whether -1 and 1 are the centres of the outer pixels, rather than their outer edges (None).

    Returns:
        (N, C, H_out, W_out).

    Raises:
        ShapeError: other ranks, or batches that differ.
        ValueError: another mode.
        DTypeError: integers, or two dtypes.
    """
    op = REGISTRY["grid_sample"]
    return apply(op, input, grid, mode=mode, padding_mode=padding_mode, align_corners=bool(align_corners))


# Public name of a mode: the number of spatial dimensions it is for (None: any), and the operation's name for it.
_MODES: dict[str, tuple[int | None, str]] = {
    "nearest": (None, "nearest"),
    "nearest-exact": (None, "nearest-exact"),
    "area": (None, "area"),
    "linear": (1, "linear"),
    "bilinear": (2, "linear"),
    "bicubic": (2, "cubic"),
    "trilinear": (3, "linear"),
}


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resample to another size.

    Args:
        input: (N, C, L), (N, C, H, W) or (N, C, D, H, W).
        size: the spatial size wanted, an integer or one for each dimension; either this or ``scale_factor``.
        scale_factor: output cells an input cell, a number or one for each dimension; sizes are rounded down.
        mode: ``"nearest"``, ``"nearest-exact"``, ``"area"``; ``"linear"`` for (N, C, L); ``"bilinear"`` and
            ``"bicubic"`` for (N, C, H, W); ``"trilinear"`` for (N, C, D, H, W).
        align_corners: for the last four: corner cells lie on corner cells, rather than edges on edges.
        recompute_scale_factor: take the scale from the rounded size rather than as it was given.
        antialias: not supported; blur first, or use ``"area"`` to make an image smaller.

    Raises:
        ShapeError: an input of another rank, or a size below 1.
        ValueError: both or neither of size and scale, or an option the mode does not have.
        DTypeError: integers.
    """
    if mode not in _MODES:
        raise ValueError(f"interpolate: mode must be one of {', '.join(map(repr, _MODES))}, got {mode!r}")
    wanted, name = _MODES[mode]
    dims = input.ndim - 2
    if dims not in (1, 2, 3) or (wanted is not None and dims != wanted):
        rule = "3-d to 5-d" if wanted is None else f"{wanted + 2}-d"
        raise ShapeError(f"interpolate: input must be {rule} for mode {mode!r}, got shape {tuple(input.shape)}")
    if align_corners is not None and wanted is None:
        raise ValueError(f"interpolate: align_corners must be left out for mode {mode!r}, got {align_corners!r}")
    if antialias:
        raise ValueError("interpolate: antialias must be False, got True; use mode='area' to make images smaller")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate: one of size and scale_factor must be given, got {size!r} and {scale_factor!r}")
    if recompute_scale_factor and size is not None:
        raise ValueError("interpolate: recompute_scale_factor must be left out where size is given, got True")
    spatial = tuple(input.shape[2:])
    scales: tuple[float | None, ...] = (None,) * dims
    if size is not None:
        extents = _each("size", size, dims, "__index__", "integers")
        target = tuple(extent.__index__() for extent in extents)
    else:
        factors = tuple(float(scale) for scale in _each("scale_factor", scale_factor, dims, "__float__", "numbers"))
        if min(factors) <= 0 or not all(map(math.isfinite, factors)):
            raise ValueError(f"interpolate: scale_factor must be positive, got {scale_factor!r}")
        target = tuple(math.floor(extent * factor) for extent, factor in zip(spatial, factors, strict=True))
        if not recompute_scale_factor and name != "area":
            scales = factors
    if name == "area":
        if min(target) < 1:
            raise ShapeError(f"interpolate: size must be at least 1, got {target}")
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[dims - 1](input, target)
    result: Tensor = apply(
        REGISTRY[f"interpolate{dims}d"],
        input,
        size=target,
        scales=scales,
        mode=name,
        align_corners=bool(align_corners),
    )
    return result


def _each(name: str, value: Any, dims: int, method: str, kind: str) -> tuple[Any, ...]:
    """One value for every dimension, or one for each."""
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * dims
    if not all(hasattr(each, method) and not isinstance(each, bool) for each in values):
        raise TypeError(f"interpolate: {name} must be {kind}, got {value!r}")
    if len(values) != dims:
        raise ValueError(f"interpolate: {name} must be a number, or {dims} of them, got {value!r}")
    return values


def _on_images(op: str, input: Tensor, **attributes: Any) -> Tensor:
    """Run an operation on images with any number of batch dimensions."""
    if input.ndim < 3:
        raise ShapeError(f"{op}: input must be (..., C, H, W), got shape {tuple(input.shape)}")
    if input.ndim == 4:
        result: Tensor = apply(REGISTRY[op], input, **attributes)
        return result
    images = math.prod(input.shape[:-3])
    result = apply(REGISTRY[op], input.reshape(images, *input.shape[-3:]), **attributes)
    return result.reshape(*input.shape[:-3], *result.shape[1:])


def _factor(op: str, name: str, value: Any) -> int:
    if not hasattr(value, "__index__") or isinstance(value, bool):
        raise TypeError(f"{op}: {name} must be an integer, got {value!r}")
    return int(value.__index__())


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels to pixels: (..., C r^2, H, W) to (..., C, H r, W r).

    Args:
        input: images with any number of batch dimensions.
        upscale_factor: r.

    Source: Shi et al. 2016, "Real-time single image and video super-resolution", equation 4.

    Raises:
        ShapeError: the channels are no multiple of r^2.
        ValueError: r below 1.
    """
    return _on_images("pixel_shuffle", input, factor=_factor("pixel_shuffle", "upscale_factor", upscale_factor))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Pixels to channels, the reverse of ``pixel_shuffle``: (..., C, H r, W r) to (..., C r^2, H, W).

    Args:
        input: images with any number of batch dimensions.
        downscale_factor: r.

    Raises:
        ShapeError: the rows or columns are no multiple of r.
        ValueError: r below 1.
    """
    factor = _factor("pixel_unshuffle", "downscale_factor", downscale_factor)
    return _on_images("pixel_unshuffle", input, factor=factor)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Deal the channels of each group out among all groups: channel k C/g + c becomes c g + k.

    Args:
        input: (N, C, ...).
        groups: g.

    Source: Zhang et al. 2018, "ShuffleNet", figure 1.

    Raises:
        ShapeError: the channels are no multiple of g.
        ValueError: g below 1.
    """
    result: Tensor = apply(REGISTRY["channel_shuffle"], input, groups=_factor("channel_shuffle", "groups", groups))
    return result
