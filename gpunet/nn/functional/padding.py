"""Padding."""

from __future__ import annotations

from collections.abc import Sequence

from gpunet.autograd import Tensor, apply
from gpunet.ops import REGISTRY

__all__ = ["pad"]


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Constant padding.

    Args:
        input: any shape.
        pad: (left, right, top, bottom, ...) from the last dimension on; negative sizes crop.
        mode: ``"constant"``.
        value: what to fill with, 0 unless given.
    """
    if mode != "constant":
        raise ValueError(f"pad: mode must be 'constant', got {mode!r}")
    filling = 0.0 if value is None else value
    return apply(REGISTRY["pad"], input, padding=tuple(extent.__index__() for extent in pad), value=filling)
