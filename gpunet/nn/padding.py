"""Padding layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gpunet.nn.functional as F
from gpunet.autograd import Tensor
from gpunet.nn.module import Module

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]

Padding = int | Sequence[int]

_SIDES = {1: "(left, right)", 2: "(left, right, top, bottom)", 3: "(left, right, top, bottom, front, back)"}


class _Pad(Module):
    """What padding layers share: how much, on each side."""

    dims: ClassVar[int] = 2
    mode: ClassVar[str] = "constant"

    def __init__(self, padding: Padding) -> None:
        super().__init__()
        self.padding = self._sides(padding)

    def _sides(self, padding: Any) -> tuple[int, ...]:
        if hasattr(padding, "__index__") and not isinstance(padding, bool):
            return (padding.__index__(),) * (2 * self.dims)
        sides = padding if isinstance(padding, (tuple, list)) else ()
        if len(sides) != 2 * self.dims or not all(hasattr(side, "__index__") for side in sides):
            raise ValueError(
                f"{type(self).__name__}: padding must be an integer or {_SIDES[self.dims]}, got {padding!r}"
            )
        return tuple(side.__index__() for side in sides)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, spatial...) to (N, C, larger...)."""
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: Padding, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, spatial...) to (N, C, larger...)."""
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """Pad the last dimension with a value; see ``ConstantPad2d``."""

    dims = 1


class ConstantPad2d(_ConstantPad):
    """Pad the last two dimensions with a value.

    Args:
        padding: an integer for every side, or (left, right, top, bottom); a negative size crops.
        value: what to fill with.

    Raises:
        ValueError: another number of sides.
    """


class ConstantPad3d(_ConstantPad):
    """Pad the last three dimensions with a value; see ``ConstantPad2d``."""

    dims = 3


class _ZeroPad(_Pad):
    pass


class ZeroPad1d(_ZeroPad):
    """Pad the last dimension with zeros; see ``ConstantPad2d``."""

    dims = 1


class ZeroPad2d(_ZeroPad):
    """Pad the last two dimensions with zeros; see ``ConstantPad2d``."""


class ZeroPad3d(_ZeroPad):
    """Pad the last three dimensions with zeros; see ``ConstantPad2d``."""

    dims = 3


class _ReflectionPad(_Pad):
    mode = "reflect"


class ReflectionPad1d(_ReflectionPad):
    """Pad (N, C, L) or (C, L) with its mirror image; see ``ReflectionPad2d``."""

    dims = 1


class ReflectionPad2d(_ReflectionPad):
    """Pad (N, C, H, W) or (C, H, W) with its mirror image, in which the edge is not repeated.

    Args:
        padding: an integer for every side, or (left, right, top, bottom), less than the image's size.

    Raises:
        ValueError: another number of sides.
    """


class ReflectionPad3d(_ReflectionPad):
    """Pad (N, C, D, H, W) or (C, D, H, W) with its mirror image; see ``ReflectionPad2d``."""

    dims = 3


class _ReplicationPad(_Pad):
    mode = "replicate"


class ReplicationPad1d(_ReplicationPad):
    """Pad (N, C, L) or (C, L) with its edge; see ``ReplicationPad2d``."""

    dims = 1


class ReplicationPad2d(_ReplicationPad):
    """Pad (N, C, H, W) or (C, H, W) with its edge.

    Args:
        padding: an integer for every side, or (left, right, top, bottom).

    Raises:
        ValueError: another number of sides.
    """


class ReplicationPad3d(_ReplicationPad):
    """Pad (N, C, D, H, W) or (C, D, H, W) with its edge; see ``ReplicationPad2d``."""

    dims = 3


class _CircularPad(_Pad):
    mode = "circular"


class CircularPad1d(_CircularPad):
    """Pad (N, C, L) or (C, L) with its opposite end; see ``CircularPad2d``."""

    dims = 1


class CircularPad2d(_CircularPad):
    """Pad (N, C, H, W) or (C, H, W) with its opposite side, as on a torus.

    Args:
        padding: an integer for every side, or (left, right, top, bottom), at most the image's size.

    Raises:
        ValueError: another number of sides.
    """


class CircularPad3d(_CircularPad):
    """Pad (N, C, D, H, W) or (C, D, H, W) with its opposite side; see ``CircularPad2d``."""

    dims = 3
