"""Losses."""

from __future__ import annotations

from gpunet.autograd import Tensor, apply
from gpunet.ops import REGISTRY

__all__ = ["cross_entropy", "mse_loss", "nll_loss"]


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Softmax cross-entropy of logits.

    Args:
        input: logits (N, C), (C,) or (N, C, d1, ...).
        target: class indices (N,), () or (N, d1, ...), int64; or probabilities of the input's shape.
        weight: (C,), a weight for each class.
        ignore_index: label of elements that do not count.
        reduction: ``"mean"`` (over the weights of what counts), ``"sum"`` or ``"none"``.
        label_smoothing: 0 to 1.

    Raises:
        IndexError: a label outside 0..C-1; on a GPU at the next point of synchronisation.
    """
    return apply(
        REGISTRY["cross_entropy"],
        input,
        target,
        weight,
        ignore_index=int(ignore_index),
        reduction=reduction,
        label_smoothing=float(label_smoothing),
    )


def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Negative log-likelihood of class labels, from log-probabilities (N, C), (C,) or (N, C, d1, ...)."""
    return apply(REGISTRY["nll_loss"], input, target, weight, ignore_index=int(ignore_index), reduction=reduction)


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(x - t)^2, averaged, summed or element by element. Shapes broadcast."""
    return apply(REGISTRY["mse_loss"], input, target, reduction=reduction)
