"""What residual networks share: the three shortcuts of He et al. 2015, and normalisation with what follows it fused."""

from __future__ import annotations

from collections.abc import Callable

import gpunet.nn.functional as F
from gpunet import nn
from gpunet.autograd import Tensor

__all__ = ["NormLayer", "ZeroPadShortcut", "check_shortcut", "make_shortcut", "normalise"]

NormLayer = Callable[[int], nn.Module]

SHORTCUTS = ("A", "B", "C", "none")


class ZeroPadShortcut(nn.Module):
    """Shortcut A: every ``stride``-th pixel, and channels of zeros after the others. It has no parameters.

    Args:
        in_channels: channels of x.
        channels: channels that it shall have, not fewer.
        stride: step through the image.

    Raises:
        ValueError: fewer channels than before.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        if channels < in_channels:
            raise ValueError(f"shortcut: 'A' can only add channels, got {in_channels} that shall become {channels}")
        self.new_channels = channels - in_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, ceil(H / stride), ceil(W / stride))."""
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.new_channels)) if self.new_channels else x

    def extra_repr(self) -> str:
        return f"new_channels={self.new_channels}, stride={self.stride}"


def check_shortcut(shortcut: str) -> str:
    """The name of a shortcut.

    Raises:
        ValueError: another name.
    """
    if not isinstance(shortcut, str) or shortcut not in SHORTCUTS:
        *others, last = (repr(name) for name in SHORTCUTS)
        raise ValueError(f"shortcut: must be {', '.join(others)} or {last}, got {shortcut!r}")
    return shortcut


def make_shortcut(
    shortcut: str, in_channels: int, channels: int, stride: int, norm_layer: NormLayer | None
) -> nn.Module | None:
    """What takes the place of the identity beside a block, or None for the identity itself.

    Args:
        shortcut: ``"A"``, zeros where the shape changes; ``"B"``, a 1x1 convolution where the shape changes; ``"C"``, a
            1x1 convolution beside every block; ``"none"``, a plain net's.
        in_channels: before the block.
        channels: after it.
        stride: of the block.
        norm_layer: follows the convolution; None for none.

    Raises:
        ValueError: another shortcut, or A and fewer channels.
    """
    changes = stride != 1 or in_channels != channels
    if check_shortcut(shortcut) == "C" or (shortcut == "B" and changes):
        projection = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
        return projection if norm_layer is None else nn.Sequential(projection, norm_layer(channels))
    return ZeroPadShortcut(in_channels, channels, stride) if shortcut == "A" and changes else None


def normalise(norm: nn.Module, x: Tensor, residual: Tensor | None = None, relu: bool = True) -> Tensor:
    """relu(norm(x) + residual), in one operation where ``norm`` can."""
    if isinstance(norm, nn.BatchNorm2d):
        return norm(x, residual=residual, activation="relu" if relu else None)
    x = norm(x) if residual is None else norm(x) + residual
    return F.relu(x) if relu else x
