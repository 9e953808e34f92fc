"""Checking the optimizers' options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpunet.autograd import Tensor
from gpunet.backend.errors import GradientError

__all__ = ["check_betas", "check_not_negative", "check_rate", "check_switches", "scalar_of"]


def scalar_of(value: Any) -> Any:
    """An option as the updates take it: a Tensor's number, or its 0-d array where it is on a GPU."""
    if not isinstance(value, Tensor):
        return value
    return value._array.reshape(()) if value.is_cuda else value.item()


def check_rate(name: str, lr: Any) -> None:
    """Refuse a learning rate that is negative or no number.

    Raises:
        ValueError: naming the optimizer; a Tensor on a GPU is not read back to look.
    """
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError(f"{name}: lr must have one element if it is a Tensor, got shape {tuple(lr.shape)}")
        if lr.device.type != "cpu":
            return
        lr = lr.item()
    if not lr >= 0:
        raise ValueError(f"{name}: lr must not be negative, got {lr}")


def check_not_negative(name: str, group: Mapping[str, Any], *options: str) -> None:
    """Refuse options that are negative or no number.

    Raises:
        ValueError: naming the option.
    """
    for option in options:
        if not group[option] >= 0:
            raise ValueError(f"{name}: {option} must not be negative, got {group[option]}")


def check_betas(name: str, betas: Any) -> None:
    """Refuse decays outside [0, 1).

    Raises:
        ValueError: naming the optimizer.
    """
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"{name}: betas must be two numbers of at least 0 and below 1, got {betas}")


def check_switches(name: str, group: Mapping[str, Any]) -> None:
    """Refuse a step that could be differentiated through, and two ways to run at once.

    ``foreach``, ``fused`` and ``capturable`` say how PyTorch runs a step; here all parameters are always updated
    together, and these change nothing.

    Raises:
        GradientError: ``differentiable``.
        ValueError: ``foreach`` and ``fused``.
    """
    if group.get("differentiable"):
        raise GradientError(f"{name}: differentiable must be False (gradients are first-order only), got True")
    if group.get("foreach") and group.get("fused"):
        raise ValueError(f"{name}: foreach and fused must not both be True")
