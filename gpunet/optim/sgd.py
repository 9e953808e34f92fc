"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from gpunet.autograd import Tensor
from gpunet.ops.sgd import sgd
from gpunet.optim.optimizer import Optimizer, ParamsArgument, check_not_negative, check_rate, scalar_of

__all__ = ["SGD"]


class SGD(Optimizer):
    """Gradient descent with momentum, in PyTorch's form; the equations are in ``gpunet.ops.sgd``.

    Args:
        params: Tensors, or dicts with options of their own.
        lr: learning rate, a number or a 0-d Tensor on the parameters' device.
        momentum: factor of the velocity.
        dampening: share of the gradient kept out of the velocity.
        weight_decay: factor of the L2 penalty's gradient.
        nesterov: look ahead along the velocity: Nesterov 1983, in the form of Sutskever et al. 2013.
        maximize: climb instead of descend.

    Raises:
        ValueError: a negative option, or nesterov without momentum or with dampening.
    """

    def __init__(
        self,
        params: ParamsArgument,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        check_rate("SGD", group["lr"])
        check_not_negative("SGD", group, "momentum", "weight_decay")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                f"SGD: nesterov needs momentum and no dampening, got momentum={group['momentum']}, "
                f"dampening={group['dampening']}"
            )

    def _update(self, param: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        momentum = group["momentum"]
        buffer, first = None, False
        if momentum:
            buffer = state.get("momentum_buffer")
            if buffer is None:
                buffer, first = self._zeros_like(param), True
                state["momentum_buffer"] = buffer
        sgd(
            param._array,
            gradient._array,
            None if buffer is None else buffer._array,
            lr=scalar_of(group["lr"]),
            momentum=momentum,
            dampening=group["dampening"],
            weight_decay=group["weight_decay"],
            nesterov=group["nesterov"],
            maximize=group["maximize"],
            first=first,
        )
