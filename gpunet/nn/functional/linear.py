"""Affine maps and what is made of classes."""

from __future__ import annotations

from gpunet.autograd import Tensor, apply
from gpunet.ops import REGISTRY

__all__ = ["linear"]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x W^T + b: input (..., I), weight (O, I), bias (O,) to (..., O)."""
    return apply(REGISTRY["linear"], input, weight, bias)
