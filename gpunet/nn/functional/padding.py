"""Padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunet.autograd import Tensor, apply
from gpunet.backend.errors import ShapeError
from gpunet.ops import REGISTRY

__all__ = ["pad"]

_BORDERS = {"reflect": "reflection_pad", "replicate": "replication_pad", "circular": "circular_pad"}


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Add cells around a tensor, or crop it where a size is negative.

    Args:
        input: any shape; for the modes other than constant (N, C, ...) or (C, ...) with one to three dimensions after
            the channels, all of them padded.
        pad: (left, right, top, bottom, ...) from the last dimension on.
        mode: ``"constant"``; ``"reflect"``, the mirror image without the edge; ``"replicate"``, the edge;
            ``"circular"``, the opposite side.
        value: what to fill with, 0 unless given; for constant padding alone.

    Raises:
        ShapeError: sizes that do not belong to the input's shape, more of a mirror or of the opposite side than there
            is, or nothing left.
        ValueError: an unknown mode, or a value for one that takes none.
    """
    if not isinstance(pad, Sequence) or isinstance(pad, str) or not all(hasattr(extent, "__index__") for extent in pad):
        raise TypeError(f"pad: pad must be a sequence of integers, got {pad!r}")
    sizes = tuple(extent.__index__() for extent in pad)
    if mode == "constant":
        return _constant(input, sizes, 0.0 if value is None else value)
    if mode not in _BORDERS:
        known = ", ".join(map(repr, ("constant", *_BORDERS)))
        raise ValueError(f"pad: mode must be one of {known}, got {mode!r}")
    if value is not None and value != 0:
        raise ValueError(f"pad: value must be left out for mode {mode!r}, got {value!r}")
    dims = len(sizes) // 2
    if len(sizes) not in (2, 4, 6) or input.ndim not in (dims + 1, dims + 2):
        raise ShapeError(
            f"pad: pad must hold a pair for each dimension after the channels for mode {mode!r}, "
            f"got {len(sizes)} values for shape {tuple(input.shape)}"
        )
    if mode == "circular" and min(sizes) < 0:  # the opposite side is that of what is left
        input = _constant(input, tuple(min(size, 0) for size in sizes), 0.0)
        sizes = tuple(max(size, 0) for size in sizes)
    result: Tensor = apply(REGISTRY[_BORDERS[mode]], input, padding=sizes)
    return result


def _constant(input: Tensor, sizes: tuple[int, ...], value: Any) -> Tensor:
    result: Tensor = apply(REGISTRY["pad"], input, padding=sizes, value=value)
    return result
