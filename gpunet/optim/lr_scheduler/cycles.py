"""Schedules that go up and down: cosine annealing, cyclic rates and the one-cycle policy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gpunet.optim.lr_scheduler.base import (
    LRScheduler,
    check_cycled_momentum,
    for_each_group,
    restore_functions,
    set_momentum,
    set_option,
    start_momenta,
    state_of_functions,
)
from gpunet.optim.optimizer import Optimizer

__all__ = ["CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"]


def _check_positive(owner: str, name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{owner}: {name} must be an integer of at least 1, got {value!r}")


class CosineAnnealingLR(LRScheduler):
    """Let the rate swing along a cosine between its initial value and a minimum (Loshchilov and Hutter 2017, "SGDR").

    Args:
        optimizer: whose rates are set.
        T_max: number of steps from the initial rate to the minimum.
        eta_min: the minimum.
        last_epoch: number of the last step done; -1 to start.

    Raises:
        ValueError: T_max below 1.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: T_max must be at least 1, got {T_max}")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The current rates, moved one step along the cosine."""
        self._expect_step()
        if self._is_initial:
            return self._rates()
        if self._step_count == 1 and self.last_epoch > 0:
            return self._get_closed_form_lr()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # from the minimum, where the ratio is 0 / 0
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [
                rate + (base - self.eta_min) * rise for base, rate in zip(self.base_lrs, self._rates(), strict=True)
            ]
        now, before = (1 + math.cos(math.pi * step / self.T_max) for step in (self.last_epoch, self.last_epoch - 1))
        return [now / before * (rate - self.eta_min) + self.eta_min for rate in self._rates()]

    def _get_closed_form_lr(self) -> list[float]:
        height = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Fall along half a cosine and start again, in periods that grow (Loshchilov and Hutter 2017, "SGDR").

    Args:
        optimizer: whose rates are set.
        T_0: length of the first period.
        T_mult: each period is so many times as long as the one before.
        eta_min: the minimum.
        last_epoch: number of the last step done; -1 to start.

    Raises:
        ValueError: T_0 or T_mult that is no integer of at least 1.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        _check_positive("CosineAnnealingWarmRestarts", "T_0", T_0)
        _check_positive("CosineAnnealingWarmRestarts", "T_mult", T_mult)
        if not isinstance(eta_min, (int, float)):
            raise ValueError(f"CosineAnnealingWarmRestarts: eta_min must be a number, got {type(eta_min).__name__}")
        self.T_0 = T_0
        self.T_i = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rates after ``T_cur`` of ``T_i`` steps of the period."""
        self._expect_step()
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go to the next rate.

        Args:
            epoch: go there instead; a fraction says how much of an epoch's batches are done.

        Raises:
            ValueError: a negative epoch.
        """
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        elif epoch < 0:
            raise ValueError(f"CosineAnnealingWarmRestarts: epoch must not be negative, got {epoch}")
        elif epoch < self.T_0:
            self.T_i = self.T_0
            self.T_cur = epoch
        elif self.T_mult == 1:
            self.T_cur = epoch % self.T_0
        else:
            # Periods before this one: their lengths are a geometric series.
            periods = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
            self.T_cur = epoch - self.T_0 * (self.T_mult**periods - 1) / (self.T_mult - 1)
            self.T_i = self.T_0 * self.T_mult**periods
        self.last_epoch = math.floor(epoch)
        with self._inside_step():
            rates = self.get_lr()
        self._set(rates)


class CyclicLR(LRScheduler):
    """Let the rate go up and down linearly (Smith 2017, "Cyclical learning rates for training neural networks").

    To be stepped after every batch. Momentum goes the other way.

    Args:
        optimizer: whose rates are set.
        base_lr: the smallest rate, or one for each group.
        max_lr: the largest rate of the first cycle, or one for each group.
        step_size_up: number of steps of the rise.
        step_size_down: number of steps of the fall; as the rise if None.
        mode: ``"triangular"``, ``"triangular2"`` (half the height in each cycle) or ``"exp_range"`` (the height times
            gamma^step).
        gamma: for ``"exp_range"``.
        scale_fn: the height's factor, instead of a mode's.
        scale_mode: whether scale_fn takes the number of the ``"cycle"``, from 1, or of the ``"iterations"``.
        cycle_momentum: move SGD's momentum, or the first beta, between max_momentum and base_momentum.
        base_momentum: momentum at the largest rate, or one for each group.
        max_momentum: momentum at the smallest rate, or one for each group.
        last_epoch: number of the last step done; -1 to start.

    Raises:
        ValueError: an unknown mode, or cycle_momentum with an optimizer that has none.
    """

    _not_state = (*LRScheduler._not_state, "_scale_fn_custom")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError(f"CyclicLR: mode must be 'triangular', 'triangular2' or 'exp_range', got {mode!r}")
        base_lrs = for_each_group("CyclicLR", "base_lr", base_lr, optimizer)
        self.max_lrs = for_each_group("CyclicLR", "max_lr", max_lr, optimizer)
        if last_epoch == -1:
            for rate, group in zip(base_lrs, optimizer.param_groups, strict=True):
                set_option(group, "lr", rate)
        self.total_size = float(step_size_up) + float(step_size_up if step_size_down is None else step_size_down)
        if not step_size_up > 0 or not self.total_size >= step_size_up:
            raise ValueError(f"CyclicLR: step_size_up must be above 0, got {step_size_up}")
        self.step_ratio = step_size_up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self._scale_fn_custom = scale_fn
        self.scale_mode = ("iterations" if mode == "exp_range" else "cycle") if scale_fn is None else scale_mode
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            check_cycled_momentum("CyclicLR", optimizer)
            self.base_momentums = for_each_group("CyclicLR", "base_momentum", base_momentum, optimizer)
            self.max_momentums = for_each_group("CyclicLR", "max_momentum", max_momentum, optimizer)
            if last_epoch == -1:
                start_momenta(optimizer, self.max_momentums, self.base_momentums)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """The height's factor in cycle, or at iteration, x."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "triangular2":
            return float(1 / 2.0 ** (x - 1))
        return 1.0 if self.mode == "triangular" else float(self.gamma**x)

    def get_lr(self) -> list[float]:
        """The rates of the current step; sets the momenta too."""
        self._expect_step()
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        height *= self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for group, low, high in zip(
                self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True
            ):
                set_momentum(self.optimizer, group, high - (high - low) * height)
        return [low + (high - low) * height for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """All that the schedule remembers; of ``scale_fn``, only the attributes of a callable object."""
        (attributes,) = state_of_functions([self._scale_fn_custom])
        return {**super().state_dict(), "_scale_fn_custom": attributes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        super().load_state_dict(state_dict)
        restore_functions([self._scale_fn_custom], [state_dict["_scale_fn_custom"]])


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
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: give total_steps, or epochs and steps_per_epoch")
            _check_positive("OneCycleLR", "epochs", epochs)
            _check_positive("OneCycleLR", "steps_per_epoch", steps_per_epoch)
            total_steps = epochs * steps_per_epoch
        _check_positive("OneCycleLR", "total_steps", total_steps)
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
            for group, largest in zip(groups, for_each_group("OneCycleLR", "max_lr", max_lr, optimizer), strict=True):
                group["initial_lr"] = largest / div_factor
                group["max_lr"] = largest
                group["min_lr"] = group["initial_lr"] / final_div_factor
        if cycle_momentum:
            check_cycled_momentum("OneCycleLR", optimizer)
            if last_epoch == -1:
                largest_momenta = for_each_group("OneCycleLR", "max_momentum", max_momentum, optimizer)
                smallest_momenta = for_each_group("OneCycleLR", "base_momentum", base_momentum, optimizer)
                start_momenta(optimizer, largest_momenta, smallest_momenta)
        super().__init__(optimizer, last_epoch)

    def _anneal(self, start: float, end: float, share: float) -> float:
        """The value after a share of the way."""
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
        return (end - start) * share + start

    def get_lr(self) -> list[float]:
        """The rates of the current step; sets the momenta too."""
        self._expect_step()
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
                set_momentum(self.optimizer, group, self._anneal(group[names[2]], group[names[3]], share))
        return rates
