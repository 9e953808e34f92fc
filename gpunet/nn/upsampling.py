"""Layers that make images larger."""

from __future__ import annotations

from typing import Any

import gpunet.nn.functional as F
from gpunet.autograd import Tensor
from gpunet.nn.module import Module

__all__ = ["Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d"]

_MODES = ("nearest", "nearest-exact", "area", "linear", "bilinear", "bicubic", "trilinear")


class Upsample(Module):
    """Resample to another size; see ``functional.interpolate``.

    Args:
        size: the spatial size wanted; either this or ``scale_factor``.
        scale_factor: output cells an input cell.
        mode: of interpolation.
        align_corners: corner cells lie on corner cells.
        recompute_scale_factor: take the scale from the rounded size.

    Raises:
        ValueError: an unknown mode, or both or neither of size and scale.
    """

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        layer = type(self).__name__
        if mode not in _MODES:
            raise ValueError(f"{layer}: mode must be one of {', '.join(map(repr, _MODES))}, got {mode!r}")
        if (size is None) == (scale_factor is None):
            raise ValueError(f"{layer}: one of size and scale_factor must be given, got {size!r} and {scale_factor!r}")
        self.size = size
        self.scale_factor: Any = None
        if isinstance(scale_factor, (tuple, list)):
            self.scale_factor = tuple(float(factor) for factor in scale_factor)
        elif scale_factor is not None:
            self.scale_factor = float(scale_factor)
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, spatial...) to (N, C, larger...)."""
        return F.interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            recompute_scale_factor=self.recompute_scale_factor,
        )

    def extra_repr(self) -> str:
        given = f"size={self.size!r}" if self.scale_factor is None else f"scale_factor={self.scale_factor!r}"
        return f"{given}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Repeat pixels: ``Upsample`` with mode ``"nearest"``."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """Bilinear interpolation with corners on corners: ``Upsample`` with mode ``"bilinear"`` and ``align_corners``."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)
