"""Learning rates of recipes, step by step."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

import gpunet as gn
from gpunet.optim import SGD
from gpunet.optim.lr_scheduler import LambdaLR
from gpunet.training import ErrorWarmup, Recipe, Trainer, get_recipe, make_schedule


def rates(recipe: Recipe, steps: int) -> list[float]:
    optimizer = SGD([gn.nn.Parameter(gn.zeros(1))], lr=recipe.learning_rate)
    schedule = make_schedule(recipe, optimizer, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_steps_are_shares_of_the_run() -> None:
    """He et al. 2015: 0.1, divided by 10 at 32k and 48k of 64k iterations."""
    found = rates(Recipe(schedule="steps", learning_rate=0.1, milestones=(0.5, 0.75), decay=0.1), 64)
    assert found[:32] == pytest.approx([0.1] * 32)
    assert found[32:48] == pytest.approx([0.01] * 16)
    assert found[48:] == pytest.approx([0.001] * 16)


def test_polynomial() -> None:
    found = rates(Recipe(schedule="polynomial", learning_rate=0.01, decay=0.5), 100)
    assert found[0] == pytest.approx(0.01)
    assert found[75] == pytest.approx(0.005)  # sqrt(1 - 3/4)
    assert found == sorted(found, reverse=True)


def test_constant() -> None:
    assert rates(Recipe(schedule="constant", learning_rate=0.2), 5) == [0.2] * 5


def test_warm_up_ends_with_the_error() -> None:
    optimizer = SGD([gn.nn.Parameter(gn.zeros(1))], lr=0.1)
    schedule = make_schedule(
        Recipe(schedule="steps", milestones=(0.5,), warmup_learning_rate=0.01, warmup_error=0.8), optimizer, 1000
    )
    assert isinstance(schedule, ErrorWarmup)
    assert optimizer.param_groups[0]["lr"] == 0.01
    for _ in range(100):  # nine wrong of ten: the mean goes to 0.9
        schedule.observe(1, 10)
        optimizer.step()
        schedule.step()
        assert optimizer.param_groups[0]["lr"] == 0.01
    steps = 0
    while schedule.is_warming:
        schedule.observe(5, 10)
        optimizer.step()
        schedule.step()
        steps += 1
    # 0.5 + (m - 0.5) 0.98^n falls below 0.8, from the m that 100 steps at 0.9 leave.
    start = 0.9 + 0.1 * 0.98**100
    assert 0.5 + (start - 0.5) * 0.98**steps < 0.8 <= 0.5 + (start - 0.5) * 0.98 ** (steps - 1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    schedule.observe(0, 10)
    assert not schedule.is_warming
    for _ in range(500):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)  # the schedule ran on meanwhile


def test_warm_up_goes_on_from_its_state() -> None:
    def make() -> ErrorWarmup:
        optimizer = SGD([gn.nn.Parameter(gn.zeros(1))], lr=0.1)
        return ErrorWarmup(optimizer, LambdaLR(optimizer, lambda step: 0.99**step), 0.01, 0.8)

    one, other = make(), make()
    for _ in range(7):
        one.observe(2, 10)
        one.optimizer.step()
        one.step()
    other.load_state_dict(one.state_dict())
    other.optimizer.load_state_dict(one.optimizer.state_dict())
    for schedule in (one, other):
        while schedule.is_warming:
            schedule.observe(9, 10)
            schedule.optimizer.step()
            schedule.step()
    assert one.state_dict() == other.state_dict()
    assert one.optimizer.param_groups[0]["lr"] == other.optimizer.param_groups[0]["lr"] > 0.05


class Memory:
    """Two batches that a linear model learns at once."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Any:
        x = gn.eye(4)
        return iter([(x, gn.tensor([0, 1, 2, 3]))] * 2)


def test_the_trainer_reports_to_the_warm_up() -> None:
    gn.manual_seed(0)
    model = gn.nn.Linear(4, 4)
    optimizer = SGD(model.parameters(), lr=1.0)
    schedule = make_schedule(Recipe(schedule="constant", learning_rate=1.0, warmup_learning_rate=0.5), optimizer, 100)
    trainer = Trainer(model, optimizer, gn.nn.functional.cross_entropy, Memory(), scheduler=schedule)
    history = trainer.fit(20)
    learning_rates = [row["learning_rate"] for row in history]
    assert learning_rates[0] == 0.5
    assert learning_rates[-1] == 1.0
    # All answers are right after a few steps: 0.98^n falls below 0.8 with n = 12.
    assert 12 <= 2 * learning_rates.index(1.0) <= 20


class TwoHeads(gn.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main, self.side = gn.nn.Linear(4, 4), gn.nn.Linear(4, 4)

    def forward(self, x: gn.Tensor) -> Any:
        return (self.main(x), None, self.side(x)) if self.training else self.main(x)


def test_the_trainer_takes_networks_with_auxiliary_heads() -> None:
    model = TwoHeads()

    def loss(outputs: Any, labels: gn.Tensor) -> gn.Tensor:
        first = outputs[0] if isinstance(outputs, tuple) else outputs
        return gn.nn.functional.cross_entropy(first, labels)

    trainer = Trainer(model, SGD(model.parameters(), lr=1.0), loss, Memory(), Memory())
    assert trainer.fit(10)[-1]["test_accuracy"] == 1.0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"schedule": "cosine"}, "schedule: must be one of one-cycle, steps, polynomial, constant, got 'cosine'"),
        ({"milestones": (0.5, 1.0)}, "milestones: must be shares of the run"),
        ({"milestones": [0]}, "milestones: must be shares of the run"),
        ({"warmup_error": 0.0}, "warmup_error: must lie in 0..1"),
        ({"decay": -0.1}, "decay: must not be negative, got -0.1"),
        ({"crop": -1}, "crop: must not be negative, got -1"),
        ({"colour": float("nan")}, "colour: must not be negative, got nan"),
    ],
)
def test_settings_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Recipe(**change)


def test_a_recipe_survives_json() -> None:
    recipe = Recipe(schedule="steps", milestones=[0.5, 0.75])
    assert recipe.milestones == (0.5, 0.75)
    assert recipe.to_dict()["milestones"] == [0.5, 0.75]
    assert Recipe(**recipe.to_dict()) == recipe
    assert {entry.name for entry in dataclasses.fields(Recipe)} == set(recipe.to_dict())


def test_unknown_recipes() -> None:
    with pytest.raises(ValueError, match=r"recipe: lenet has default, got 'papers'"):
        get_recipe("lenet", "papers")
    with pytest.raises(ValueError, match=r"unknown model 'lenett'; did you mean lenet"):
        get_recipe("lenett", "paper")
