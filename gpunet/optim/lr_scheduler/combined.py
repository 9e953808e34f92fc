"""Schedules made of schedules, and the one that watches a metric."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from gpunet.optim.lr_scheduler.base import LRScheduler, for_each_group, number_of, set_option, warn_of_epoch
from gpunet.optim.optimizer import Optimizer

__all__ = ["ChainedScheduler", "ReduceLROnPlateau", "SequentialLR"]


class ReduceLROnPlateau(LRScheduler):
    """Multiply the rate by a factor when a metric has stopped improving.

    ``step(metric)`` is called after each validation.

    Args:
        optimizer: whose rates are set.
        mode: ``"min"`` if a smaller metric is better, else ``"max"``.
        factor: the factor, below 1.
        patience: number of steps without improvement that are let pass.
        threshold: how much better counts as an improvement.
        threshold_mode: whether the threshold is a share of the best value, ``"rel"``, or a difference, ``"abs"``.
        cooldown: number of steps after a reduction that do not count.
        min_lr: the smallest rate, or one for each group.
        eps: changes of the rate that are not larger are not made.

    Raises:
        ValueError: a factor of 1 or above, an unknown mode, or another number of rates than of groups.
        TypeError: not an Optimizer.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: list[float] | float = 0,
        eps: float = 1e-8,
    ) -> None:
        self._attach(optimizer)
        if not factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1, got {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau: mode must be 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"ReduceLROnPlateau: threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}")
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lrs = for_each_group("ReduceLROnPlateau", "min_lr", min_lr, optimizer)
        self.default_min_lr = None if isinstance(min_lr, (list, tuple)) else min_lr
        self.eps = eps
        self.last_epoch = 0
        self._last_lr = self._rates()
        self._reset()

    def _reset(self) -> None:
        """Forget the metrics seen."""
        self.mode_worse = math.inf if self.mode == "min" else -math.inf
        self.best = self.mode_worse
        self.cooldown_counter = 0
        self.num_bad_epochs = 0

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Look at a metric, and reduce the rates if it is time.

        Args:
            metrics: a number, or a Tensor of one element.
            epoch: deprecated, as in PyTorch.

        Raises:
            RuntimeError: a group was added, and ``min_lr`` was given for each.
        """
        current = float(metrics)
        if epoch is not None:
            warn_of_epoch()
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(current, self.best):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = self._rates()

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        if len(self.min_lrs) != len(groups):
            if self.default_min_lr is None:
                raise RuntimeError(
                    f"ReduceLROnPlateau: min_lrs must have one rate for each of the {len(groups)} groups, "
                    f"got {len(self.min_lrs)}"
                )
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, smallest in zip(groups, self.min_lrs, strict=True):
            rate = float(number_of(group["lr"]))
            reduced = max(rate * self.factor, smallest)
            if rate - reduced > self.eps:
                set_option(group, "lr", reduced)

    @property
    def in_cooldown(self) -> bool:
        """Whether steps do not count at present."""
        return self.cooldown_counter > 0

    def _is_better(self, a: float, best: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        if self.threshold_mode == "rel":
            return sign * a > sign * (best * (1.0 + sign * self.threshold))
        return sign * a > sign * (best + sign * self.threshold)


def _check_schedulers(name: str, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> Optimizer:
    """The one optimizer of several schedules.

    Raises:
        ValueError: no schedule, one that needs a metric, or several optimizers.
        TypeError: one that is no schedule.
    """
    if not schedulers:
        raise ValueError(f"{name}: schedulers must be at least one, got none")
    for number, scheduler in enumerate(schedulers):
        if not hasattr(scheduler, "optimizer"):
            raise TypeError(f"{name}: schedulers[{number}] must be a schedule, got {type(scheduler).__name__}")
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError(f"{name}: schedulers[{number}] must need no metric, got a ReduceLROnPlateau")
        optimizer = optimizer or scheduler.optimizer
        if scheduler.optimizer is not optimizer:
            raise ValueError(f"{name}: all schedulers must belong to one optimizer; schedulers[{number}] does not")
    assert optimizer is not None
    return optimizer


class _Combined(LRScheduler):
    """A schedule that holds others."""

    _not_state = (*LRScheduler._not_state, "_schedulers")

    _schedulers: list[LRScheduler]

    def state_dict(self) -> dict[str, Any]:
        """All that the schedule remembers, with those of the schedules it is made of."""
        return {**super().state_dict(), "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        super().load_state_dict(state_dict)
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)


class SequentialLR(_Combined):
    """One schedule after another.

    Args:
        optimizer: whose rates are set.
        schedulers: the schedules.
        milestones: the steps at which the second and the following ones take over, each from its own beginning.
        last_epoch: number of the last step done; -1 to start.

    Raises:
        ValueError: not one milestone less than schedules, a schedule that needs a metric, or several optimizers.
        TypeError: one that is no schedule.
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        self._attach(_check_schedulers("SequentialLR", schedulers, optimizer))
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: milestones must be one less than the {len(schedulers)} schedulers, "
                f"got {len(milestones)}"
            )
        self._schedulers = list(schedulers)
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        # Each schedule has made its first step when it was constructed: back to before that, then the first alone.
        for group in optimizer.param_groups:
            set_option(group, "lr", number_of(group["initial_lr"]))
        _undo_first_step(self)
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:  # type: ignore[override]
        """Step the schedule whose turn it is."""
        self.last_epoch += 1
        number = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[number]
        if number > 0 and self._milestones[number - 1] == self.last_epoch:
            scheduler._update_lr(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


def _undo_first_step(scheduler: LRScheduler) -> None:
    if isinstance(scheduler, _Combined):
        for inner in scheduler._schedulers:
            _undo_first_step(inner)
    else:
        scheduler.last_epoch -= 1


class ChainedScheduler(_Combined):
    """Several schedules at once: each changes the rates that the one before has set.

    Args:
        schedulers: the schedules, of one optimizer.
        optimizer: that optimizer.

    Raises:
        ValueError: no schedule, one that needs a metric, or several optimizers.
        TypeError: one that is no schedule.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._attach(_check_schedulers("ChainedScheduler", schedulers, optimizer))
        self._schedulers = list(schedulers)
        self._last_lr = self._rates()

    def step(self) -> None:  # type: ignore[override]
        """Step all of them."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._rates()
