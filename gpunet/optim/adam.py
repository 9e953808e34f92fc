"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from gpunet.autograd import Tensor, zeros
from gpunet.ops.adam import adam
from gpunet.optim.optimizer import Optimizer, ParamsArgument, check_not_negative, check_rate, scalar_of

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015); the equations are in ``gpunet.ops.adam``.

    Args:
        params: Tensors, or dicts with options of their own.
        lr: learning rate, a number or a 0-d Tensor on the parameters' device.
        betas: decay of the first and of the second moment.
        eps: added to the denominator.
        weight_decay: factor of the L2 penalty's gradient.
        amsgrad: divide by the largest second moment so far (Reddi et al. 2018).
        maximize: climb instead of descend.
        capturable: keep the step count on the parameter's device, so that a captured step can be replayed.
        decoupled_weight_decay: shrink the parameters instead, as AdamW does.

    Raises:
        ValueError: a negative option, or a beta outside [0, 1).
    """

    def __init__(
        self,
        params: ParamsArgument,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        capturable: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        name = type(self).__name__
        check_rate(name, group["lr"])
        check_not_negative(name, group, "eps", "weight_decay")
        betas = group["betas"]
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{name}: betas must be two numbers of at least 0 and below 1, got {betas}")

    def _update(self, param: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        if not state:
            state["step"] = zeros((), device=param.device if group["capturable"] else "cpu")
            state["exp_avg"] = self._zeros_like(param)
            state["exp_avg_sq"] = self._zeros_like(param)
        if group["amsgrad"] and "max_exp_avg_sq" not in state:
            state["max_exp_avg_sq"] = self._zeros_like(param)
        step = state["step"]
        step._array += 1
        step._bump_version()
        beta1, beta2 = group["betas"]
        adam(
            param._array,
            gradient._array,
            state["exp_avg"]._array,
            state["exp_avg_sq"]._array,
            state["max_exp_avg_sq"]._array if group["amsgrad"] else None,
            lr=scalar_of(group["lr"]),
            # Off the GPU the count is a plain number, whatever holds it.
            step=step._array if group["capturable"] else float(step._array),
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            decoupled=group["decoupled_weight_decay"],
            maximize=group["maximize"],
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019); the equations are in ``gpunet.ops.adam``.

    Args:
        params: Tensors, or dicts with options of their own.
        lr: learning rate, a number or a 0-d Tensor on the parameters' device.
        betas: decay of the first and of the second moment.
        eps: added to the denominator.
        weight_decay: the parameters shrink by lr * weight_decay at each step.
        amsgrad: divide by the largest second moment so far (Reddi et al. 2018).
        maximize: climb instead of descend.
        capturable: keep the step count on the parameter's device, so that a captured step can be replayed.

    Raises:
        ValueError: a negative option, or a beta outside [0, 1).
    """

    def __init__(
        self,
        params: ParamsArgument,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        capturable: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            capturable=capturable,
            decoupled_weight_decay=True,
        )
