"""Affine and bilinear maps."""

from __future__ import annotations

from gpunet.autograd import Tensor, apply
from gpunet.ops import REGISTRY

__all__ = ["bilinear", "linear"]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x W^T + b: input (..., I), weight (O, I), bias (O,) to (..., O)."""
    return apply(REGISTRY["linear"], input, weight, bias)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_o = x^T W_o z + b_o: input1 (..., I), input2 (..., J), weight (O, I, J), bias (O,) to (..., O)."""
    return apply(REGISTRY["bilinear"], input1, input2, weight, bias)
