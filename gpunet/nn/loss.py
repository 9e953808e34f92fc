"""Loss functions as modules."""

from __future__ import annotations

from typing import Any

import gpunet.nn.functional as F
from gpunet.autograd import Tensor
from gpunet.nn.module import Module

__all__ = ["CrossEntropyLoss", "MSELoss", "NLLLoss"]

_REDUCTIONS = ("none", "mean", "sum")


class _Loss(Module):
    def __init__(self, size_average: Any, reduce: Any, reduction: str) -> None:
        super().__init__()
        name = type(self).__name__
        if size_average is not None or reduce is not None:
            raise ValueError(
                f"{name}: size_average and reduce are no longer taken; use reduction='mean', 'sum' or 'none'"
            )
        if reduction not in _REDUCTIONS:
            raise ValueError(f"{name}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
        self.reduction = reduction


class MSELoss(_Loss):
    """Mean squared error: (input - target)^2, averaged, summed or element by element.

    Args:
        size_average, reduce: PyTorch's deprecated arguments, refused; they hold their places.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
    """

    def __init__(self, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        super().__init__(size_average, reduce, reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape."""
        return F.mse_loss(input, target, reduction=self.reduction)


class NLLLoss(_Loss):
    """Negative log-likelihood: minus the log-probability of the right class.

    Args:
        weight: (C,) factor of each class, or None.
        size_average, reduce: PyTorch's deprecated arguments, refused; they hold their places.
        ignore_index: a label that counts for nothing.
        reduction: ``"mean"`` (weighted), ``"sum"`` or ``"none"``.
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: Any = None,
        ignore_index: int = -100,
        reduce: Any = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Log-probabilities (N, C, ...) and labels (N, ...)."""
        return F.nll_loss(input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class CrossEntropyLoss(_Loss):
    """Softmax and negative log-likelihood in one.

    Args:
        weight: (C,) factor of each class, or None.
        size_average, reduce: PyTorch's deprecated arguments, refused; they hold their places.
        ignore_index: a label that counts for nothing.
        reduction: ``"mean"`` (weighted), ``"sum"`` or ``"none"``.
        label_smoothing: share of the target spread over all classes, from 0 to 1: Szegedy et al. 2016, section 7.

    Raises:
        ValueError: a smoothing outside 0 to 1, an unknown reduction.
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: Any = None,
        ignore_index: int = -100,
        reduce: Any = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"CrossEntropyLoss: label_smoothing must be between 0 and 1, got {label_smoothing}")
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Scores (N, C, ...) and labels (N, ...), or (C,) and a 0-d label."""
        return F.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
