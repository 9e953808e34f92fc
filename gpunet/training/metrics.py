"""Numbers that say how training goes: accuracy and running means."""

from __future__ import annotations

import math

from gpunet.autograd import Tensor
from gpunet.backend.errors import ShapeError


def correct_count(logits: Tensor, labels: Tensor) -> Tensor:
    """How many rows of ``logits`` (N, classes) have their largest entry at ``labels`` (N,).

    A 0-d tensor on the logits' device, so that counting does not wait for a GPU. A row that holds a NaN
    counts as whatever class ``argmax`` gives it; a non-finite loss is the trainer's to notice.
    """
    if logits.ndim != 2 or labels.ndim != 1 or logits.shape[0] != labels.shape[0]:
        raise ShapeError(
            f"correct_count: logits must be (N, classes) and labels (N,), got {logits.shape} and {labels.shape}"
        )
    return (logits.detach().argmax(dim=1) == labels).sum()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Fraction of rows of ``logits`` (N, classes) whose largest entry is at ``labels`` (N,), between 0 and 1.

    The accuracy of nothing is not a number: NaN for N = 0.
    """
    if logits.shape[0] == 0:
        return math.nan
    return float(correct_count(logits, labels).item()) / logits.shape[0]


class RunningMean:
    """A mean over values that arrive in groups, as the sum of each group and its size.

    Sums are Python floats (float64) added in order of arrival: the same groups give the same bits.
    """

    def __init__(self, total: float = 0.0, count: int = 0) -> None:
        self.total = total
        self.count = count

    def add(self, total: float, count: int) -> None:
        """Take in ``count`` values that sum to ``total``."""
        self.total += total
        self.count += count

    @property
    def mean(self) -> float:
        """The mean so far; NaN where nothing was added."""
        return self.total / self.count if self.count else math.nan
