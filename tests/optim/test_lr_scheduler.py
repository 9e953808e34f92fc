"""Learning rate schedules: PyTorch's numbers, step by step."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest

import gpunet as gn
from gpunet import nn, optim
from gpunet.optim import lr_scheduler

CASES: list[tuple[str, dict[str, Any]]] = [
    ("StepLR", {"step_size": 3}),
    ("StepLR", {"step_size": 1, "gamma": 0.5}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 12}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.5, "total_iters": 1}),
    ("OneCycleLR", {"max_lr": 0.4, "total_steps": 20}),
    ("OneCycleLR", {"max_lr": [0.4, 0.2], "epochs": 4, "steps_per_epoch": 5, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.4, "total_steps": 20, "three_phase": True, "pct_start": 0.4}),
    ("OneCycleLR", {"max_lr": 0.4, "total_steps": 20, "pct_start": 0.9, "div_factor": 3.0, "final_div_factor": 7.0}),
    ("OneCycleLR", {"max_lr": 0.4, "total_steps": 20, "base_momentum": [0.5, 0.6], "max_momentum": 0.99}),
    ("OneCycleLR", {"max_lr": 0.4, "total_steps": 20, "cycle_momentum": False}),
]


def make(optimizer: str = "SGD", lr: float = 0.1) -> optim.Optimizer:
    options = {"momentum": 0.9} if optimizer == "SGD" else {}
    groups = [{"params": [nn.Parameter(gn.zeros(1))]}, {"params": [nn.Parameter(gn.zeros(1))], "lr": lr / 2}]
    return getattr(optim, optimizer)(groups, lr=lr, **options)


@pytest.mark.parity
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("name, options", CASES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CASES)])
def test_schedules_agree_with_pytorch(name, options, optimizer):
    torch = pytest.importorskip("torch")
    a = make(optimizer)
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))]},
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.05},
    ]
    b = getattr(torch.optim, optimizer)(groups, lr=0.1, **({"momentum": 0.9} if optimizer == "SGD" else {}))
    ours = getattr(lr_scheduler, name)(a, **options)
    theirs = getattr(torch.optim.lr_scheduler, name)(b, **options)
    for _ in range(20):
        for p, q in zip(a.param_groups, b.param_groups, strict=True):
            for key in ("lr", "initial_lr", "momentum", "betas", "max_lr", "min_lr", "max_momentum", "base_momentum"):
                assert (key in p) == (key in q), key
                if key in p:
                    assert p[key] == pytest.approx(q[key], rel=1e-12), key
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)
        assert ours.last_epoch == theirs.last_epoch
        a.step()
        b.step()
        if name == "OneCycleLR" and ours.last_epoch == 20:
            break
        ours.step()
        theirs.step()
    assert ours.base_lrs == pytest.approx(theirs.base_lrs)


def test_step_lr_by_hand():
    optimizer = make()
    schedule = lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1)
    seen = []
    for _ in range(5):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_one_cycle_by_hand():
    optimizer = make()
    schedule = lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10, pct_start=0.5)
    seen = []
    for _ in range(10):
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        schedule.step()
    assert seen[0] == pytest.approx((1 / 25, 0.95))
    assert seen[4] == pytest.approx((1.0, 0.85))
    assert seen[9] == pytest.approx((1 / 25e4, 0.95))
    with pytest.raises(ValueError, match="OneCycleLR: step 11 is beyond the cycle's 10 steps"):
        schedule.step()


def test_a_cycle_whose_rise_has_no_length():
    optimizer = make()
    schedule = lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10, pct_start=0.1)
    assert schedule.get_last_lr()[0] == pytest.approx(1.0)
    schedule = lr_scheduler.OneCycleLR(make(), max_lr=1.0, total_steps=10, pct_start=1.0)
    assert schedule.get_last_lr()[0] == pytest.approx(1 / 25)


@pytest.mark.parametrize("name, options", [CASES[0], CASES[3], CASES[5]])
def test_a_saved_schedule_continues(name, options):
    first, second = make(), make()
    one = getattr(lr_scheduler, name)(first, **options)
    for _ in range(4):
        first.step()
        one.step()
    saved = json.loads(json.dumps(one.state_dict()))
    saved_optimizer = first.state_dict()
    other = getattr(lr_scheduler, name)(second, **options)
    other.load_state_dict(saved)
    second.load_state_dict(saved_optimizer)
    for _ in range(6):
        for optimizer, schedule in ((first, one), (second, other)):
            optimizer.step()
            schedule.step()
        assert one.get_last_lr() == other.get_last_lr()
        assert first.param_groups[1]["lr"] == second.param_groups[1]["lr"]
        assert first.param_groups[0]["momentum"] == second.param_groups[0]["momentum"]


def test_stepping_before_the_optimizer_warns_once():
    optimizer = make()
    schedule = lr_scheduler.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match=r"lr_scheduler.step\(\) was called before optimizer.step\(\)"):
        schedule.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.step()


def test_a_rate_that_is_a_tensor_is_written_in_place():
    lr = gn.tensor(0.1)
    optimizer = optim.SGD([nn.Parameter(gn.zeros(1))], lr=lr)
    schedule = lr_scheduler.StepLR(optimizer, 1)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == pytest.approx(0.01)


def test_going_on_from_an_epoch():
    optimizer = make()
    with pytest.raises(KeyError, match="group 0 must hold 'initial_lr'"):
        lr_scheduler.StepLR(optimizer, 2, last_epoch=3)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    schedule = lr_scheduler.StepLR(optimizer, 2, last_epoch=3)
    assert schedule.last_epoch == 4


@pytest.mark.parametrize(
    "call, kind, text",
    [
        (lambda: lr_scheduler.StepLR(None, 1), TypeError, "optimizer: expected an Optimizer, got NoneType"),
        (lambda: lr_scheduler.StepLR(make(), 0), ValueError, "StepLR: step_size must be at least 1, got 0"),
        (lambda: lr_scheduler.LinearLR(make(), 0.0), ValueError, "LinearLR: start_factor must be above 0"),
        (lambda: lr_scheduler.LinearLR(make(), 1.0, 2.0), ValueError, "LinearLR: end_factor must be between 0 and 1"),
        (lambda: lr_scheduler.OneCycleLR(make(), 1.0), ValueError, "OneCycleLR: give total_steps, or epochs and"),
        (
            lambda: lr_scheduler.OneCycleLR(make(), 1.0, 0),
            ValueError,
            "total_steps must be an integer of at least 1, got 0",
        ),
        (lambda: lr_scheduler.OneCycleLR(make(), 1.0, 9, pct_start=2), ValueError, "pct_start must be between 0 and 1"),
        (lambda: lr_scheduler.OneCycleLR(make(), 1.0, 9, anneal_strategy="x"), ValueError, "anneal_strategy must be"),
        (
            lambda: lr_scheduler.OneCycleLR(make(), [1.0], 9),
            ValueError,
            "max_lr must be one number or one for each of the 2",
        ),
    ],
)
def test_refusals(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


def test_the_base_classs_old_name() -> None:
    """Public programs derive from ``lr_scheduler._LRScheduler``."""

    class Halving(gn.optim.lr_scheduler._LRScheduler):
        def get_lr(self) -> list[float]:
            return [base * 0.5**self.last_epoch for base in self.base_lrs]

    optimizer = gn.optim.SGD([gn.nn.Parameter(gn.ones(2))], lr=0.8)
    scheduler = Halving(optimizer)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.4
