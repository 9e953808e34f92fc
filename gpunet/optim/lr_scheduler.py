"""Learning rate schedules."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from gpunet.autograd import Tensor, no_grad
from gpunet.optim.optimizer import Optimizer

__all__ = ["LRScheduler", "LinearLR", "OneCycleLR", "StepLR"]


class LRScheduler:
    """Base class of the schedules: a subclass defines ``get_lr``.

    Args:
        optimizer: whose ``param_groups[i]["lr"]`` is set, at once and at each ``step()``.
        last_epoch: number of the last step done; -1 to start, remembering the current rates as ``"initial_lr"``.

    Attributes:
        base_lrs: each group's initial learning rate.
        last_epoch: number of steps done since the first.

    Raises:
        TypeError: not an Optimizer.
        KeyError: a later ``last_epoch`` with groups that hold no ``"initial_lr"``.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: expected an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        for number, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", _number(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"last_epoch: to go on from {last_epoch}, the optimizer's group {number} must hold 'initial_lr'"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._step_count = 0
        self._last_lr: list[float] = []
        # Steps made before the schedule existed say nothing about the order of the calls.
        self._optimizer_steps = optimizer._step_count
        self.step()

    def get_lr(self) -> list[float]:
        """The rate of each group for the current ``last_epoch``."""
        raise NotImplementedError(f"{type(self).__name__} defines no get_lr()")

    def get_last_lr(self) -> list[float]:
        """The rates that were last set, one for each group."""
        return self._last_lr

    def step(self) -> None:
        """Go to the next rate; to be called after ``optimizer.step()``."""
        counted = type(self.optimizer).step is Optimizer.step  # one with a step() of its own counts none
        if self._step_count == 1 and counted and self.optimizer._step_count == self._optimizer_steps:
            warnings.warn(
                "lr_scheduler.step() was called before optimizer.step(): the first rate of the schedule is skipped",
                UserWarning,
                stacklevel=2,
            )
        self._step_count += 1
        self.last_epoch += 1
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            if isinstance(group["lr"], Tensor):
                with no_grad():
                    group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def state_dict(self) -> dict[str, Any]:
        """All that the schedule remembers, as plain values."""
        return {name: value for name, value in self.__dict__.items() if name not in _NOT_STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self.__dict__.update({name: value for name, value in state_dict.items() if name not in _NOT_STATE})

    def _rates(self) -> list[float]:
        return [_number(group["lr"]) for group in self.optimizer.param_groups]


_NOT_STATE = ("optimizer", "_optimizer_steps")


def _number(value: Any) -> float:
    return float(value.item()) if isinstance(value, Tensor) else value


class StepLR(LRScheduler):
    """Multiply the rate by gamma every ``step_size`` steps.

    Args:
        optimizer: whose rates are set.
        step_size: number of steps between two changes.
        gamma: the factor.
        last_epoch: number of the last step done; -1 to start.

    Raises:
        ValueError: a step_size below 1.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: step_size must be at least 1, got {step_size}")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The current rates, multiplied by gamma if it is time."""
        if self.last_epoch == 0 or self.last_epoch % self.step_size != 0:
            return self._rates()
        return [rate * self.gamma for rate in self._rates()]


class LinearLR(LRScheduler):
    """Multiply the initial rate by a factor that goes linearly from one value to another.

    Args:
        optimizer: whose rates are set.
        start_factor: the factor at the start, above 0 and at most 1.
        end_factor: the factor at the end, from 0 to 1.
        total_iters: number of steps from one to the other.
        last_epoch: number of the last step done; -1 to start.

    Raises:
        ValueError: a factor outside its range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"LinearLR: start_factor must be above 0 and at most 1, got {start_factor}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"LinearLR: end_factor must be between 0 and 1, got {end_factor}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The current rates, moved one step along the line."""
        if self.last_epoch == 0:
            return [rate * self.start_factor for rate in self._rates()]
        if self.last_epoch > self.total_iters:
            return self._rates()
        slope = self.end_factor - self.start_factor
        previous = self.total_iters * self.start_factor + (self.last_epoch - 1) * slope
        return [rate * (1.0 + slope / previous) for rate in self._rates()]


class OneCycleLR(LRScheduler):
    """Smith and Topin 2018 ("Super-convergence"): the rate rises to a maximum and falls far below its start.

    The rate goes from max_lr / div_factor to max_lr, and from there to max_lr / div_factor / final_div_factor; momentum
    goes the other way. To be stepped after every batch.

    Args:
        optimizer: whose rates are set.
        max_lr: the largest rate, or one for each group.
        total_steps: length of the cycle, in steps; or give the next two.
        epochs: number of epochs.
        steps_per_epoch: number of steps of each.
        pct_start: share of the cycle in which the rate rises.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        cycle_momentum: move SGD's momentum, or the first beta, between base_momentum and max_momentum.
        base_momentum: momentum at the largest rate, or one for each group.
        max_momentum: momentum at the start and at the end, or one for each group.
        div_factor: how far below the maximum the rate starts.
        final_div_factor: how far below its start the rate ends.
        three_phase: fall back to the start first, and below it in a third phase.
        last_epoch: number of the last step done; -1 to start.

    Raises:
        ValueError: a number that cannot be right, or more steps than the cycle has.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: give total_steps, or epochs and steps_per_epoch")
            _check_positive("epochs", epochs)
            _check_positive("steps_per_epoch", steps_per_epoch)
            total_steps = epochs * steps_per_epoch
        _check_positive("total_steps", total_steps)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start must be between 0 and 1, got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        # Where each phase ends, and the names of the rates and momenta it goes between.
        rising, falling = ("max_momentum", "base_momentum"), ("base_momentum", "max_momentum")
        peak = float(pct_start * total_steps) - 1
        if three_phase:
            self._phases: list[tuple[float, str, str, str, str]] = [
                (peak, "initial_lr", "max_lr", *rising),
                (float(2 * pct_start * total_steps) - 2, "max_lr", "initial_lr", *falling),
                (total_steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum"),
            ]
        else:
            self._phases = [
                (peak, "initial_lr", "max_lr", *rising),
                (total_steps - 1, "max_lr", "min_lr", *falling),
            ]
        groups = optimizer.param_groups
        if last_epoch == -1:
            for group, largest in zip(groups, _for_each_group("max_lr", max_lr, optimizer), strict=True):
                group["initial_lr"] = largest / div_factor
                group["max_lr"] = largest
                group["min_lr"] = group["initial_lr"] / final_div_factor
        if cycle_momentum:
            if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
                raise ValueError("OneCycleLR: cycle_momentum needs an optimizer with momentum or betas")
            if last_epoch == -1:
                largest_momenta = _for_each_group("max_momentum", max_momentum, optimizer)
                smallest_momenta = _for_each_group("base_momentum", base_momentum, optimizer)
                for group, largest, smallest in zip(groups, largest_momenta, smallest_momenta, strict=True):
                    _set_momentum(group, largest)
                    group["max_momentum"] = largest
                    group["base_momentum"] = smallest
        super().__init__(optimizer, last_epoch)

    def _anneal(self, start: float, end: float, share: float) -> float:
        """The value after a share of the way."""
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
        return (end - start) * share + start

    def get_lr(self) -> list[float]:
        """The rates of the current step; sets the momenta too."""
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(f"OneCycleLR: step {step} is beyond the cycle's {self.total_steps} steps")
        begin = 0.0
        for phase in self._phases:
            end, *names = phase
            if step <= end or phase is self._phases[-1]:
                break
            begin = end
        # A phase of no length (a rise within the first step) is at its end.
        share = (step - begin) / (end - begin) if end != begin else 1.0
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._anneal(group[names[0]], group[names[1]], share))
            if self.cycle_momentum:
                _set_momentum(group, self._anneal(group[names[2]], group[names[3]], share))
        return rates


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"OneCycleLR: {name} must be an integer of at least 1, got {value!r}")


def _for_each_group(name: str, value: float | Sequence[float], optimizer: Optimizer) -> list[float]:
    if isinstance(value, (int, float)):
        return [value] * len(optimizer.param_groups)
    values = list(value)
    if len(values) != len(optimizer.param_groups):
        raise ValueError(
            f"OneCycleLR: {name} must be one number or one for each of the {len(optimizer.param_groups)} groups, "
            f"got {len(values)}"
        )
    return values
