"""NAdam, RAdam and Adamax."""

from __future__ import annotations

from typing import Any, ClassVar

from gpunet.autograd import Tensor, ones
from gpunet.ops.adam_variants import adamax_block, nadam_block, nadam_momentum, radam_block
from gpunet.ops.updates import Block
from gpunet.optim.optimizer import Optimizer, ParamsArgument
from gpunet.optim.options import check_betas, check_not_negative, check_rate, check_switches, scalar_of

__all__ = ["Adamax", "NAdam", "RAdam"]


class _Moments(Optimizer):
    """An optimizer with a first moment, a second one or its like, and a step count kept on the host."""

    _second: ClassVar[str] = "exp_avg_sq"

    def _check_options(self, group: dict[str, Any]) -> None:
        name = type(self).__name__
        check_rate(name, group["lr"])
        check_not_negative(name, group, "eps", "weight_decay")
        check_betas(name, group["betas"])
        check_switches(name, group)

    def _state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        return ("exp_avg", self._second)

    def _begin(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Any:
        step = float(self._count(param, state, group))
        for name in self._state_names(group):
            if name is not None and name not in state:
                state[name] = self._zeros_like(param)
        return step

    @staticmethod
    def _options(group: dict[str, Any], *names: str) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        options = {name: group[name] for name in ("eps", "weight_decay", "maximize", *names)}
        return {"lr": scalar_of(group["lr"]), "beta1": beta1, "beta2": beta2, **options}


class NAdam(_Moments):
    """Adam with Nesterov momentum (Dozat 2016); the equations are in ``gpunet.ops.adam_variants``.

    Args:
        params: Tensors, or dicts with options of their own.
        lr: learning rate, a number or a Tensor of one element.
        betas: decay of the first and of the second moment.
        eps: added to the denominator.
        weight_decay: factor of the L2 penalty's gradient.
        momentum_decay: how fast the momentum grows to the first beta.
        decoupled_weight_decay: shrink the parameters instead, as AdamW does.
        foreach: accepted for PyTorch's sake; all parameters are always updated together.
        maximize: climb instead of descend.
        capturable: keep the step count on the parameter's device.
        differentiable: must be False.

    Raises:
        ValueError: a negative option, or a beta outside [0, 1).
        GradientError: differentiable.
    """

    _numbers = ("step", "mu_product")

    def __init__(
        self,
        params: ParamsArgument,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        check_not_negative("NAdam", group, "momentum_decay")

    def _begin(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Any:
        step = super()._begin(param, state, group)
        if "mu_product" not in state:
            state["mu_product"] = ones((), device=param.device if group["capturable"] else "cpu")
        product = state["mu_product"]
        product._array *= nadam_momentum(group["betas"][0], step, group["momentum_decay"])
        product._bump_version()
        return step, float(product)

    def _block(self, module: Any, dtype: Any, group: dict[str, Any], key: Any) -> Block:
        step, mu_product = key
        options = self._options(group, "momentum_decay")
        decoupled = group["decoupled_weight_decay"]
        return nadam_block(module, dtype, step=step, mu_product=mu_product, decoupled=decoupled, **options)


class RAdam(_Moments):
    """Rectified Adam (Liu et al. 2020); the equations are in ``gpunet.ops.adam_variants``.

    Args:
        params: Tensors, or dicts with options of their own.
        lr: learning rate, a number or a Tensor of one element.
        betas: decay of the first and of the second moment.
        eps: added to the denominator.
        weight_decay: factor of the L2 penalty's gradient.
        decoupled_weight_decay: shrink the parameters instead, as AdamW does.
        foreach: accepted for PyTorch's sake; all parameters are always updated together.
        maximize: climb instead of descend.
        capturable: keep the step count on the parameter's device.
        differentiable: must be False.

    Raises:
        ValueError: a negative option, or a beta outside [0, 1).
        GradientError: differentiable.
    """

    def __init__(
        self,
        params: ParamsArgument,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        return ("exp_avg", "exp_avg_sq", None)

    def _block(self, module: Any, dtype: Any, group: dict[str, Any], key: Any) -> Block:
        decoupled = group["decoupled_weight_decay"]
        return radam_block(module, dtype, step=key, decoupled=decoupled, **self._options(group))


class Adamax(_Moments):
    """Adam with the infinity norm (Kingma and Ba 2015); the equations are in ``gpunet.ops.adam_variants``.

    Args:
        params: Tensors, or dicts with options of their own.
        lr: learning rate, a number or a Tensor of one element.
        betas: decay of the first moment and of the norm.
        eps: added to the gradient's absolute value.
        weight_decay: factor of the L2 penalty's gradient.
        foreach: accepted for PyTorch's sake; all parameters are always updated together.
        maximize: climb instead of descend.
        differentiable: must be False.
        capturable: keep the step count on the parameter's device.

    Raises:
        ValueError: a negative option, or a beta outside [0, 1).
        GradientError: differentiable.
    """

    _second = "exp_inf"

    def __init__(
        self,
        params: ParamsArgument,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _block(self, module: Any, dtype: Any, group: dict[str, Any], key: Any) -> Block:
        return adamax_block(module, dtype, step=key, **self._options(group))
