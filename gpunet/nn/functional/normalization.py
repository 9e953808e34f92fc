"""Normalisation."""

from __future__ import annotations

from gpunet.autograd import Tensor, apply
from gpunet.ops import REGISTRY

__all__ = ["batch_norm"]


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """Batch normalisation; ``residual`` is added to the result and ``activation="relu"`` applied to the sum.

    Args:
        input: (N, C, ...).
        running_mean, running_var: (C,), written in training mode; needed in evaluation mode.
        weight, bias: (C,), the scale and shift.
        training: normalise by the batch's statistics, else by the running ones.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.
        residual: of the input's shape, added before the activation.
        activation: None or ``"relu"``.
    """
    result = apply(
        REGISTRY["batch_norm"],
        input,
        weight,
        bias,
        running_mean,
        running_var,
        residual,
        training=bool(training),
        momentum=float(momentum),
        eps=float(eps),
        activation=activation,
    )
    if training:
        for statistic in (running_mean, running_var):
            if statistic is not None:
                statistic._bump_version()
    return result
