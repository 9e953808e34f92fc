"""Adagrad, RMSprop, Adadelta, Rprop and ASGD."""

from __future__ import annotations

from typing import Any

from gpunet.autograd import Tensor, ones, tensor, zeros
from gpunet.ops.adaptive_rates import adadelta_block, adagrad_block, asgd_block, rmsprop_block, rprop_block
from gpunet.ops.updates import Block
from gpunet.optim.optimizer import Optimizer, ParamsArgument
from gpunet.optim.options import check_not_negative, check_rate, check_switches, scalar_of

__all__ = ["ASGD", "Adadelta", "Adagrad", "RMSprop", "Rprop"]


class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011); the equations are in ``gpunet.ops.adaptive_rates``.

    Args:
        params: Tensors, or dicts with options of their own.
        lr: learning rate, a number or a Tensor of one element.
        lr_decay: how fast the learning rate falls.
        weight_decay: factor of the L2 penalty's gradient.
        initial_accumulator_value: what the sums of squares begin with.
        eps: added to the root.
        foreach: accepted for PyTorch's sake; all parameters are always updated together.
        maximize: climb instead of descend.
        differentiable: must be False.
        fused: as ``foreach``.

    Raises:
        ValueError: a negative option.
        GradientError: differentiable.
    """

    def __init__(
        self,
        params: ParamsArgument,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)
        for group in self.param_groups:
            for param in group["params"]:
                self._new_state(param, self.state[param])

    def _check_options(self, group: dict[str, Any]) -> None:
        check_rate("Adagrad", group["lr"])
        check_not_negative("Adagrad", group, "lr_decay", "weight_decay", "initial_accumulator_value", "eps")
        check_switches("Adagrad", group)

    def _new_state(self, param: Tensor, state: dict[str, Any]) -> None:
        state["step"] = zeros(())
        state["sum"] = self._zeros_like(param).fill_(self.defaults["initial_accumulator_value"])

    def _state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        return ("sum",)

    def _begin(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> float:
        if "sum" not in state:  # a group that was added later
            self._new_state(param, state)
        return float(self._count(param, state, group))

    def _block(self, module: Any, dtype: Any, group: dict[str, Any], key: float) -> Block:
        options = {name: group[name] for name in ("lr_decay", "eps", "weight_decay", "maximize")}
        return adagrad_block(module, dtype, lr=scalar_of(group["lr"]), step=key, **options)


class RMSprop(Optimizer):
    """RMSprop (Hinton 2012); the equations are in ``gpunet.ops.adaptive_rates``.

    Args:
        params: Tensors, or dicts with options of their own.
        lr: learning rate, a number or a Tensor of one element.
        alpha: decay of the mean square.
        eps: added to the root.
        weight_decay: factor of the L2 penalty's gradient.
        momentum: factor of the velocity.
        centered: divide by the standard deviation instead.
        capturable: keep the step count on the parameter's device.
        foreach: accepted for PyTorch's sake; all parameters are always updated together.
        maximize: climb instead of descend.
        differentiable: must be False.

    Raises:
        ValueError: a negative option.
        GradientError: differentiable.
    """

    def __init__(
        self,
        params: ParamsArgument,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        check_rate("RMSprop", group["lr"])
        check_not_negative("RMSprop", group, "eps", "momentum", "weight_decay", "alpha")
        check_switches("RMSprop", group)

    def _state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        return (
            "square_avg",
            "momentum_buffer" if group["momentum"] > 0 else None,
            "grad_avg" if group["centered"] else None,
        )

    def _begin(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Any:
        self._count(param, state, group)
        for name in self._state_names(group):
            if name is not None and name not in state:
                state[name] = self._zeros_like(param)
        return None

    def _block(self, module: Any, dtype: Any, group: dict[str, Any], key: Any) -> Block:
        options = {name: group[name] for name in ("alpha", "eps", "weight_decay", "momentum", "maximize")}
        return rmsprop_block(module, dtype, lr=scalar_of(group["lr"]), **options)


class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012); the equations are in ``gpunet.ops.adaptive_rates``.

    Args:
        params: Tensors, or dicts with options of their own.
        lr: factor of the step, a number or a Tensor of one element.
        rho: decay of the means.
        eps: added under the roots.
        weight_decay: factor of the L2 penalty's gradient.
        foreach: accepted for PyTorch's sake; all parameters are always updated together.
        capturable: keep the step count on the parameter's device.
        maximize: climb instead of descend.
        differentiable: must be False.

    Raises:
        ValueError: a negative option, or rho above 1.
        GradientError: differentiable.
    """

    def __init__(
        self,
        params: ParamsArgument,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        check_rate("Adadelta", group["lr"])
        check_not_negative("Adadelta", group, "eps", "weight_decay")
        if not 0 <= group["rho"] <= 1:
            raise ValueError(f"Adadelta: rho must be between 0 and 1, got {group['rho']}")
        check_switches("Adadelta", group)

    def _state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        return ("square_avg", "acc_delta")

    def _begin(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Any:
        self._count(param, state, group)
        if "square_avg" not in state:
            state["square_avg"] = self._zeros_like(param)
            state["acc_delta"] = self._zeros_like(param)
        return None

    def _block(self, module: Any, dtype: Any, group: dict[str, Any], key: Any) -> Block:
        options = {name: group[name] for name in ("rho", "eps", "weight_decay", "maximize")}
        return adadelta_block(module, dtype, lr=scalar_of(group["lr"]), **options)


class Rprop(Optimizer):
    """Resilient propagation (Riedmiller and Braun 1993); the equations are in ``gpunet.ops.adaptive_rates``.

    Args:
        params: Tensors, or dicts with options of their own.
        lr: the first step size, a number or a Tensor of one element.
        etas: factors of the step size where the gradient has changed its sign and where it has kept it.
        step_sizes: the smallest and the largest step size.
        capturable: keep the step count on the parameter's device.
        foreach: accepted for PyTorch's sake; all parameters are always updated together.
        maximize: climb instead of descend.
        differentiable: must be False.

    Raises:
        ValueError: a negative rate, or etas that are not on either side of 1.
        GradientError: differentiable.
    """

    def __init__(
        self,
        params: ParamsArgument,
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        check_rate("Rprop", group["lr"])
        shorter, longer = group["etas"]
        if not 0 < shorter < 1 < longer:
            raise ValueError(f"Rprop: etas must be one between 0 and 1 and one above 1, got {group['etas']}")
        check_switches("Rprop", group)

    def _state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        return ("prev", "step_size")

    def _begin(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Any:
        self._count(param, state, group)
        if "prev" not in state:
            rate = group["lr"]
            state["prev"] = self._zeros_like(param)
            state["step_size"] = self._zeros_like(param).fill_(rate.item() if isinstance(rate, Tensor) else rate)
        return None

    def _block(self, module: Any, dtype: Any, group: dict[str, Any], key: Any) -> Block:
        options = {name: group[name] for name in ("etas", "step_sizes", "maximize")}
        return rprop_block(module, dtype, **options)


class ASGD(Optimizer):
    """Averaged stochastic gradient descent (Polyak and Juditsky 1992); see ``gpunet.ops.adaptive_rates``.

    The average of the parameters is in ``state[param]["ax"]``.

    Args:
        params: Tensors, or dicts with options of their own.
        lr: learning rate, a number or a Tensor of one element.
        lambd: decay of the parameters.
        alpha: power with which the rate falls.
        t0: step at which averaging begins.
        weight_decay: factor of the L2 penalty's gradient.
        foreach: accepted for PyTorch's sake; all parameters are always updated together.
        maximize: climb instead of descend.
        differentiable: must be False.
        capturable: keep the numbers on the parameter's device.

    Raises:
        ValueError: a negative rate or weight_decay.
        GradientError: differentiable.
    """

    _numbers = ("step", "eta", "mu")

    def __init__(
        self,
        params: ParamsArgument,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        check_rate("ASGD", group["lr"])
        check_not_negative("ASGD", group, "weight_decay")
        check_switches("ASGD", group)

    def _state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        return ("ax",)

    def _begin(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> tuple[float, float]:
        step = float(self._count(param, state, group))
        rate, lambd = group["lr"], group["lambd"]
        rate = float(rate.item()) if isinstance(rate, Tensor) else rate
        if "ax" not in state:
            device = param.device if group["capturable"] else "cpu"
            state["eta"], state["mu"] = tensor(float(rate), device=device), ones((), device=device)
            state["ax"] = self._zeros_like(param)
        now = float(state["eta"]), float(state["mu"])
        state["eta"].fill_(rate / (1 + lambd * rate * step) ** group["alpha"])
        state["mu"].fill_(1 / max(1.0, step - group["t0"]))
        return now

    def _block(self, module: Any, dtype: Any, group: dict[str, Any], key: tuple[float, float]) -> Block:
        options = {name: group[name] for name in ("lambd", "weight_decay", "maximize")}
        return asgd_block(module, dtype, eta=key[0], mu=key[1], **options)
