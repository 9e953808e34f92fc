"""Affine and bilinear maps."""

from __future__ import annotations

from gpunet.autograd import Tensor, apply
from gpunet.ops import REGISTRY

__all__ = ["bilinear", "linear"]


def linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """y = x W^T + b, with what follows it in a network.

    ``residual`` and ``activation`` are gpunet's own: y = activation(x W^T + b + residual) in one operation, which
    writes y once and keeps nothing else for backward.

    Args:
        input: (..., I).
        weight: (O, I).
        bias: (O,) or None.
        residual: (..., O), added to the result; of its dtype, or None.
        activation: ``"relu"``, applied last, or None.

    Returns:
        (..., O).

    Raises:
        ShapeError: sizes that do not fit.
        DTypeError: dtypes that differ.
        ValueError: another activation.
    """
    return apply(REGISTRY["linear"], input, weight, bias, residual, activation=activation)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_o = x^T W_o z + b_o: input1 (..., I), input2 (..., J), weight (O, I, J), bias (O,) to (..., O)."""
    return apply(REGISTRY["bilinear"], input1, input2, weight, bias)
