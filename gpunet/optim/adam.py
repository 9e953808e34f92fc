"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from gpunet.autograd import Tensor
from gpunet.ops.adam import adam_block
from gpunet.ops.updates import Block
from gpunet.optim.optimizer import Optimizer, ParamsArgument
from gpunet.optim.options import check_betas, check_not_negative, check_rate, check_switches, scalar_of

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015); the equations are in ``gpunet.ops.adam``.

    Args:
        params: Tensors, or dicts with options of their own.
        lr: learning rate, a number or a Tensor of one element on the parameters' device.
        betas: decay of the first and of the second moment.
        eps: added to the denominator.
        weight_decay: factor of the L2 penalty's gradient.
        amsgrad: divide by the largest second moment so far (Reddi et al. 2018).
        foreach: accepted for PyTorch's sake; all parameters are always updated together.
        maximize: climb instead of descend.
        capturable: keep the step count on the parameter's device, so that a captured step can be replayed.
        differentiable: must be False.
        fused: as ``foreach``.
        decoupled_weight_decay: shrink the parameters instead, as AdamW does.

    Raises:
        ValueError: a negative option, or a beta outside [0, 1).
        GradientError: differentiable.
    """

    def __init__(
        self,
        params: ParamsArgument,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": tuple(beta.item() if isinstance(beta, Tensor) else beta for beta in betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        name = type(self).__name__
        check_rate(name, group["lr"])
        check_not_negative(name, group, "eps", "weight_decay")
        check_betas(name, group["betas"])
        check_switches(name, group)

    def _state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq" if group["amsgrad"] else None)

    def _begin(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Any:
        step = self._count(param, state, group)
        for name in self._state_names(group):
            if name is not None and name not in state:
                state[name] = self._zeros_like(param)
        # Off the GPU the count is a plain number, whatever holds it.
        return step if step.is_cuda else float(step._array)

    def _block(self, module: Any, dtype: Any, group: dict[str, Any], key: Any) -> Block:
        beta1, beta2 = group["betas"]
        return adam_block(
            module,
            dtype,
            lr=scalar_of(group["lr"]),
            step=scalar_of(key),
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
        lr: learning rate, a number or a Tensor of one element on the parameters' device.
        betas: decay of the first and of the second moment.
        eps: added to the denominator.
        weight_decay: the parameters shrink by lr * weight_decay at each step.
        amsgrad: divide by the largest second moment so far (Reddi et al. 2018).
        maximize: climb instead of descend.
        foreach: accepted for PyTorch's sake; all parameters are always updated together.
        capturable: keep the step count on the parameter's device, so that a captured step can be replayed.
        differentiable: must be False.
        fused: as ``foreach``.

    Raises:
        ValueError: a negative option, or a beta outside [0, 1).
        GradientError: differentiable.
    """

    def __init__(
        self,
        params: ParamsArgument,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
