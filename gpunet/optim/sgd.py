"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from gpunet.autograd import Tensor
from gpunet.ops.sgd import sgd, sgd_block
from gpunet.ops.updates import Block
from gpunet.optim.optimizer import Optimizer, ParamsArgument
from gpunet.optim.options import check_not_negative, check_rate, check_switches, scalar_of

__all__ = ["SGD"]


class SGD(Optimizer):
    """Gradient descent with momentum, in PyTorch's form; the equations are in ``gpunet.ops.sgd``.

    Three things that are easily confused: ``lr`` is the learning rate, which some courses (CS231n) call the step size;
    the length of the step that a parameter takes is ``lr`` times the norm of its gradient (without momentum and weight
    decay); and the batch size is the number of samples that the gradient is averaged over.

    Args:
        params: Tensors, or dicts with options of their own.
        lr: learning rate, a number or a Tensor of one element on the parameters' device.
        momentum: factor of the velocity.
        dampening: share of the gradient kept out of the velocity.
        weight_decay: factor of the L2 penalty's gradient.
        nesterov: look ahead along the velocity: Nesterov 1983, in the form of Sutskever et al. 2013.
        maximize: climb instead of descend.
        foreach: accepted for PyTorch's sake; all parameters are always updated together.
        differentiable: must be False.
        fused: as ``foreach``.

    Raises:
        ValueError: a negative option, or nesterov without momentum or with dampening.
        GradientError: differentiable.
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
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        check_rate("SGD", group["lr"])
        check_not_negative("SGD", group, "momentum", "weight_decay")
        check_switches("SGD", group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                f"SGD: nesterov needs momentum and no dampening, got momentum={group['momentum']}, "
                f"dampening={group['dampening']}"
            )

    def _state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        return ("momentum_buffer" if group["momentum"] else None,)

    def _begin(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> bool:
        if not group["momentum"] or state.get("momentum_buffer") is not None:
            return False
        state["momentum_buffer"] = self._zeros_like(param)
        return True

    def _options(self, group: dict[str, Any], first: bool) -> dict[str, Any]:
        options = {name: group[name] for name in ("momentum", "dampening", "weight_decay", "nesterov", "maximize")}
        return {"lr": scalar_of(group["lr"]), "first": first, **options}

    def _block(self, module: Any, dtype: Any, group: dict[str, Any], key: bool) -> Block:
        return sgd_block(module, dtype, **self._options(group, key))

    def _update_alone(self, group: dict[str, Any], key: bool, *arrays: Any) -> None:
        sgd(*arrays, **self._options(group, key))
