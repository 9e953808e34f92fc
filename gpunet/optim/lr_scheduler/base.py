"""What all learning rate schedules share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gpunet.autograd import Tensor, no_grad
from gpunet.optim.optimizer import Optimizer

__all__ = ["LRScheduler"]


class LRScheduler:
    """Base class of the schedules: a subclass defines ``get_lr``.

    Most schedules are recursive, as PyTorch's: ``get_lr`` computes the next rate from the current one, so that a rate
    written by hand into ``param_groups`` is gone on from.

    Args:
        optimizer: whose ``param_groups[i]["lr"]`` is set, at once and at each ``step()``.
        last_epoch: number of the last step done; -1 to start, remembering the current rates as ``"initial_lr"``.

    Attributes:
        optimizer: whose rates are set.
        base_lrs: each group's initial learning rate.
        last_epoch: number of steps done since the first.

    Raises:
        TypeError: not an Optimizer.
        KeyError: a later ``last_epoch`` with groups that hold no ``"initial_lr"``.
    """

    _get_lr_called_within_step = False
    _is_initial = False
    _optimizer_steps = 0

    _not_state: tuple[str, ...] = ("optimizer", "_optimizer_steps")
    """Attributes that are not saved."""

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self._attach(optimizer)
        for number, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", number_of(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"last_epoch: to go on from {last_epoch}, the optimizer's group {number} must hold 'initial_lr'"
                )
        self.base_lrs: list[float] = [number_of(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._last_lr: list[float] = []
        self._initial_step()

    def _attach(self, optimizer: Optimizer) -> None:
        """Take the optimizer.

        Raises:
            TypeError: it is none.
        """
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: expected an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        # Steps made before the schedule existed say nothing about the order of the calls.
        self._optimizer_steps = optimizer._step_count

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_lr(self) -> list[float]:
        """The rate of each group for the current ``last_epoch``; called by ``step``."""
        raise NotImplementedError(f"{type(self).__name__} defines no get_lr()")

    def get_last_lr(self) -> list[float]:
        """The rates that were last set, one for each group."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Go to the next rate; to be called after ``optimizer.step()``.

        Args:
            epoch: go to this one instead; deprecated, as in PyTorch.
        """
        if self._step_count == 1 and self.optimizer._step_count == self._optimizer_steps:
            warnings.warn(
                "lr_scheduler.step() was called before optimizer.step(): the first rate of the schedule is skipped",
                UserWarning,
                stacklevel=2,
            )
        self._step_count += 1
        if epoch is not None:
            warn_of_epoch()
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        with self._inside_step():
            if epoch is None:
                self.last_epoch += 1
                rates = self.get_lr()
            else:
                self.last_epoch = epoch
                rates = getattr(self, "_get_closed_form_lr", self.get_lr)()
        self._set(rates)

    def _set(self, rates: Sequence[float]) -> None:
        """Write the rates into the groups."""
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            set_option(group, "lr", rate)
        self._last_lr = self._rates()

    @contextmanager
    def _inside_step(self) -> Iterator[None]:
        self._get_lr_called_within_step = True
        try:
            yield
        finally:
            self._get_lr_called_within_step = False

    def _expect_step(self) -> None:
        """Warn where ``get_lr`` is called by hand: of a recursive schedule it is the rate after the next step."""
        if not self._get_lr_called_within_step:
            warnings.warn("get_lr(): call get_last_lr() for the current rates", UserWarning, stacklevel=3)

    def _rates(self) -> list[float]:
        """The groups' current rates."""
        return [number_of(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All that the schedule remembers, as plain values."""
        return {name: value for name, value in self.__dict__.items() if name not in self._not_state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self.__dict__.update({name: value for name, value in state_dict.items() if name not in self._not_state})


def warn_of_epoch() -> None:
    """Warn of the deprecated argument of ``step``."""
    warnings.warn("lr_scheduler.step(epoch): the argument is deprecated; call step()", UserWarning, stacklevel=3)


def number_of(value: Any) -> Any:
    """An option's number, out of its Tensor if it is in one."""
    return float(value.item()) if isinstance(value, Tensor) else value


def set_option(group: dict[str, Any], name: str, value: float) -> None:
    """Write an option, into its Tensor if it is in one."""
    if isinstance(group.get(name), Tensor):
        with no_grad():
            group[name].fill_(value)
    else:
        group[name] = value


def for_each_group(owner: str, name: str, value: Any, optimizer: Optimizer) -> list[Any]:
    """One value for each group: the value itself, or a list's.

    Raises:
        ValueError: the list has another length.
    """
    if not isinstance(value, (list, tuple)):
        return [value] * len(optimizer.param_groups)
    if len(value) != len(optimizer.param_groups):
        raise ValueError(
            f"{owner}: {name} must be one number or one for each of the {len(optimizer.param_groups)} groups, "
            f"got {len(value)}"
        )
    return list(value)


def check_cycled_momentum(owner: str, optimizer: Optimizer) -> None:
    """Refuse an optimizer whose momentum cannot be set.

    Raises:
        ValueError: its defaults have neither momentum nor betas.
    """
    if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
        raise ValueError(f"{owner}: cycle_momentum needs an optimizer with momentum or betas")


def set_momentum(optimizer: Optimizer, group: dict[str, Any], momentum: float) -> None:
    """Write a group's momentum, or its first beta."""
    if "betas" in optimizer.defaults:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum


def start_momenta(optimizer: Optimizer, largest: Sequence[float], smallest: Sequence[float]) -> None:
    """Begin with the largest momenta, and remember both ends in the groups."""
    for group, high, low in zip(optimizer.param_groups, largest, smallest, strict=True):
        set_momentum(optimizer, group, high)
        group["max_momentum"] = high
        group["base_momentum"] = low


def state_of_functions(functions: Sequence[Callable[..., float] | None]) -> list[dict[str, Any] | None]:
    """What can be saved of functions: the attributes of callable objects, None for plain functions."""
    return [
        dict(function.__dict__)
        if function is not None and hasattr(type(function), "__dict__") and _is_object(function)
        else None
        for function in functions
    ]


def restore_functions(functions: Sequence[Any], saved: Sequence[dict[str, Any] | None]) -> None:
    """Put saved attributes back into callable objects."""
    for function, attributes in zip(functions, saved, strict=True):
        if attributes is not None:
            function.__dict__.update(attributes)


def _is_object(function: Any) -> bool:
    return not hasattr(function, "__code__") and hasattr(function, "__dict__")
