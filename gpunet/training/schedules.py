"""The learning rate that a recipe asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpunet.models.recipes import Recipe
from gpunet.optim import Optimizer
from gpunet.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

__all__ = ["ErrorWarmup", "make_schedule"]


def make_schedule(recipe: Recipe, optimizer: Optimizer, steps: int) -> LRScheduler | ErrorWarmup:
    """The schedule of a run.

    Args:
        recipe: what is asked for.
        optimizer: whose learning rate is set; it has the recipe's.
        steps: of the whole run.
    """
    schedule: LRScheduler
    if recipe.schedule == "one-cycle":
        schedule = OneCycleLR(
            optimizer,
            max_lr=recipe.learning_rate,
            total_steps=steps,
            pct_start=recipe.warmup,
            cycle_momentum=False,
        )
    else:
        schedule = LambdaLR(optimizer, _factor(recipe, steps))
    if recipe.warmup_learning_rate:
        return ErrorWarmup(optimizer, schedule, recipe.warmup_learning_rate, recipe.warmup_error)
    return schedule


def _factor(recipe: Recipe, steps: int) -> Callable[[int], float]:
    """What the learning rate is multiplied by after that many steps."""
    if recipe.schedule == "steps":
        milestones = [round(share * steps) for share in recipe.milestones]
        return lambda step: recipe.decay ** sum(step >= milestone for milestone in milestones)
    if recipe.schedule == "polynomial":
        return lambda step: max(0.0, 1.0 - step / steps) ** recipe.decay
    return lambda step: 1.0


class ErrorWarmup:
    """Holds the learning rate at a lower value until the network has begun to learn.

    He et al. 2015 train the network of 110 layers with 0.01 "until the training error is below 80%", and go on with
    0.1; the schedule runs on meanwhile. The error is an average over the steps, each weighing 2 % less than the next.

    Args:
        optimizer: whose learning rate is set.
        schedule: what it follows afterwards.
        learning_rate: until then.
        error: share of wrong answers that ends the warm-up.
    """

    MEMORY = 0.98

    def __init__(self, optimizer: Optimizer, schedule: LRScheduler, learning_rate: float, error: float) -> None:
        self.optimizer, self.schedule = optimizer, schedule
        self.learning_rate, self.error = learning_rate, error
        self.is_warming = True
        self.mean_error = 1.0
        self._hold()

    def _hold(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate

    def observe(self, correct: int, count: int) -> None:
        """Take in how many answers of a step's batch were right."""
        self.mean_error = self.MEMORY * self.mean_error + (1 - self.MEMORY) * (1 - correct / count)
        self.is_warming = self.is_warming and self.mean_error >= self.error

    def step(self) -> None:
        """Set the learning rate of the next step."""
        self.schedule.step()
        if self.is_warming:
            self._hold()

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` goes on from."""
        return {
            "schedule": self.schedule.state_dict(),
            "is_warming": self.is_warming,
            "mean_error": self.mean_error,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        self.schedule.load_state_dict(state_dict["schedule"])
        self.is_warming = bool(state_dict["is_warming"])
        self.mean_error = float(state_dict["mean_error"])
