"""Every learning rate schedule against PyTorch: the rates and momenta of each step, and what is saved."""

from __future__ import annotations

import inspect
import json
import warnings
from typing import Any

import numpy as np
import pytest

import gpunet as gn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

# A line makes the schedule ``s`` of a module's ``lr_scheduler`` for an optimizer ``o`` of two groups, rates 0.1 and
# 0.05.
CASES: list[tuple[str, Any]] = [
    ("StepLR", lambda s, o: s.StepLR(o, 3)),
    ("StepLR gamma", lambda s, o: s.StepLR(o, step_size=7, gamma=0.5)),
    ("MultiStepLR", lambda s, o: s.MultiStepLR(o, [3, 10, 10, 30])),
    ("MultiStepLR gamma", lambda s, o: s.MultiStepLR(o, milestones=(0, 5), gamma=2.0)),
    ("ConstantLR", lambda s, o: s.ConstantLR(o)),
    ("ConstantLR options", lambda s, o: s.ConstantLR(o, factor=0.2, total_iters=9)),
    ("LinearLR", lambda s, o: s.LinearLR(o)),
    ("LinearLR down", lambda s, o: s.LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=12)),
    ("LinearLR one", lambda s, o: s.LinearLR(o, 0.1, 0.5, 1)),
    ("ExponentialLR", lambda s, o: s.ExponentialLR(o, gamma=0.9)),
    ("PolynomialLR", lambda s, o: s.PolynomialLR(o)),
    ("PolynomialLR power", lambda s, o: s.PolynomialLR(o, total_iters=20, power=2.5)),
    ("LambdaLR", lambda s, o: s.LambdaLR(o, lambda epoch: 0.95**epoch)),
    ("LambdaLR list", lambda s, o: s.LambdaLR(o, lr_lambda=[lambda e: 1 / (1 + e), lambda e: e // 3])),
    ("MultiplicativeLR", lambda s, o: s.MultiplicativeLR(o, lambda epoch: 0.95)),
    ("MultiplicativeLR list", lambda s, o: s.MultiplicativeLR(o, lr_lambda=[lambda e: 0.9, lambda e: 1 + 1 / (1 + e)])),
    ("CosineAnnealingLR", lambda s, o: s.CosineAnnealingLR(o, 10)),
    ("CosineAnnealingLR minimum", lambda s, o: s.CosineAnnealingLR(o, T_max=7, eta_min=0.01)),
    ("CosineAnnealingLR one", lambda s, o: s.CosineAnnealingLR(o, T_max=1, eta_min=0.01)),
    ("CosineAnnealingWarmRestarts", lambda s, o: s.CosineAnnealingWarmRestarts(o, 5)),
    ("CosineAnnealingWarmRestarts growing",
     lambda s, o: s.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2, eta_min=0.001)),
    ("CyclicLR", lambda s, o: s.CyclicLR(o, 0.001, 0.1, step_size_up=5)),
    ("CyclicLR triangular2", lambda s, o: s.CyclicLR(o, [0.01, 0.02], [0.1, 0.3], 4, 7, mode="triangular2")),
    ("CyclicLR exp_range",
     lambda s, o: s.CyclicLR(o, 0.01, 0.1, 6, mode="exp_range", gamma=0.97, base_momentum=0.5, max_momentum=0.95)),
    ("CyclicLR function", lambda s, o: s.CyclicLR(o, 0.01, 0.1, 6, mode="", scale_fn=lambda x: 1 / x)),
    ("CyclicLR function of iterations",
     lambda s, o: s.CyclicLR(o, 0.01, 0.1, 6, scale_fn=lambda x: 0.99**x, scale_mode="iterations")),
    ("CyclicLR alone", lambda s, o: s.CyclicLR(o, 0.01, 0.1, 3, 1, cycle_momentum=False)),
    ("OneCycleLR", lambda s, o: s.OneCycleLR(o, 0.4, total_steps=51)),
    ("OneCycleLR linear",
     lambda s, o: s.OneCycleLR(o, [0.4, 0.2], epochs=11, steps_per_epoch=5, anneal_strategy="linear")),
    ("OneCycleLR three phases", lambda s, o: s.OneCycleLR(o, 0.4, total_steps=60, three_phase=True, pct_start=0.4)),
    ("OneCycleLR momenta",
     lambda s, o: s.OneCycleLR(o, 0.4, total_steps=60, base_momentum=[0.5, 0.6], max_momentum=0.99, div_factor=3.0,
                               final_div_factor=7.0)),
    ("OneCycleLR alone", lambda s, o: s.OneCycleLR(o, 0.4, total_steps=60, cycle_momentum=False)),
    ("SequentialLR",
     lambda s, o: s.SequentialLR(o, [s.ConstantLR(o, 0.1, 20), s.ExponentialLR(o, 0.9)], milestones=[10])),
    ("SequentialLR warmup",
     lambda s, o: s.SequentialLR(o, [s.LinearLR(o, 0.01, total_iters=5), s.CosineAnnealingLR(o, 40)], [5])),
    ("SequentialLR three",
     lambda s, o: s.SequentialLR(o, [s.LinearLR(o), s.StepLR(o, 4), s.PolynomialLR(o, 20)], [7, 20])),
    ("SequentialLR of one", lambda s, o: s.SequentialLR(o, [s.StepLR(o, 4)], [])),
    ("SequentialLR nested",
     lambda s, o: s.SequentialLR(
         o, [s.SequentialLR(o, [s.LinearLR(o, 0.1, total_iters=4), s.StepLR(o, 2)], [4]), s.ExponentialLR(o, 0.8)],
         [9])),
    ("ChainedScheduler", lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 20), s.ExponentialLR(o, 0.9)])),
    ("ChainedScheduler three",
     lambda s, o: s.ChainedScheduler([s.LinearLR(o), s.StepLR(o, 10), s.ExponentialLR(o, 0.99)], optimizer=o)),
    ("SWALR", lambda s, o: s.SWALR(o, 0.5)),
    ("SWALR linear", lambda s, o: s.SWALR(o, swa_lr=[0.5, 0.01], anneal_epochs=7, anneal_strategy="linear")),
    ("SWALR at once", lambda s, o: s.SWALR(o, 0.5, anneal_epochs=0)),
]  # fmt: skip
IDS = [label for label, _ in CASES]
OPTIMIZERS = {"SGD": {"momentum": 0.9}, "AdamW": {}}


class Schedules:
    """A module's ``lr_scheduler`` and ``swa_utils`` under one name."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __getattr__(self, name: str) -> Any:
        optim = self.module.optim
        return getattr(optim.lr_scheduler, name, None) or getattr(optim.swa_utils, name)


def optimizer_of(m: Any, kind: str = "SGD", **options: Any) -> Any:
    groups = [{"params": [m.nn.Parameter(m.zeros(1))]}, {"params": [m.nn.Parameter(m.zeros(1))], "lr": 0.05}]
    return getattr(m.optim, kind)(groups, lr=0.1, **{**OPTIMIZERS.get(kind, {}), **options})


KEYS = ("lr", "initial_lr", "momentum", "betas", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr")


def snapshot(optimizer: Any) -> list[Any]:
    return [{key: group[key] for key in KEYS if key in group} for group in optimizer.param_groups]


def assert_same(ours: Any, theirs: Any, a: Any, b: Any) -> None:
    for x, y in zip(snapshot(a), snapshot(b), strict=True):
        assert set(x) == set(y)
        for key in x:
            assert x[key] == pytest.approx(y[key], rel=1e-12, abs=1e-16), key
    assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12, abs=1e-16)
    if not hasattr(theirs, "_schedulers"):
        assert ours.last_epoch == theirs.last_epoch
        assert getattr(ours, "base_lrs", None) == pytest.approx(getattr(theirs, "base_lrs", None))


def quietly(call: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("label, make", CASES, ids=IDS)
def test_fifty_steps(label, make, kind):
    a, b = optimizer_of(gn, kind), optimizer_of(torch, kind)
    ours, theirs = quietly(lambda: make(Schedules(gn), a)), quietly(lambda: make(Schedules(torch), b))
    for _ in range(50):
        assert_same(ours, theirs, a, b)
        for optimizer, schedule in ((a, ours), (b, theirs)):
            optimizer.step()
            quietly(schedule.step)
    assert_same(ours, theirs, a, b)


@pytest.mark.parametrize("label, make", CASES, ids=IDS)
def test_a_rate_written_by_hand_is_gone_on_from(label, make):
    a, b = optimizer_of(gn), optimizer_of(torch)
    ours, theirs = quietly(lambda: make(Schedules(gn), a)), quietly(lambda: make(Schedules(torch), b))
    for step in range(30):
        for optimizer, schedule in ((a, ours), (b, theirs)):
            optimizer.step()
            quietly(schedule.step)
            if step in (2, 11):
                optimizer.param_groups[0]["lr"] *= 0.3
                optimizer.param_groups[1]["lr"] = 0.7
        for x, y in zip(snapshot(a), snapshot(b), strict=True):
            assert x == pytest.approx(y, rel=1e-10, abs=1e-16)


@pytest.mark.parametrize("label, make", CASES, ids=IDS)
def test_a_saved_schedule_continues(label, make):
    a, b = optimizer_of(gn), optimizer_of(gn)
    one = quietly(lambda: make(Schedules(gn), a))
    for _ in range(6):
        a.step()
        one.step()
    saved, of_optimizer = json.loads(json.dumps(one.state_dict())), a.state_dict()
    other = quietly(lambda: make(Schedules(gn), b))
    other.load_state_dict(saved)
    b.load_state_dict(of_optimizer)
    for _ in range(30):
        for optimizer, schedule in ((a, one), (b, other)):
            optimizer.step()
            schedule.step()
        assert one.get_last_lr() == other.get_last_lr()
        assert snapshot(a) == snapshot(b)


@pytest.mark.parametrize("label, make", CASES, ids=IDS)
def test_what_is_saved_is_what_pytorch_saves(label, make):
    ours, theirs = (quietly(lambda m=m: make(Schedules(m), optimizer_of(m))).state_dict() for m in (gn, torch))
    hidden = {"_is_initial", "_get_lr_called_within_step", "_step_count"}
    renamed = {"_schedule_phases", "_anneal_func_type", "_phases", "anneal_strategy", "use_beta1", "base_lrs"}
    assert set(ours) - hidden - renamed == set(theirs) - hidden - renamed


PLATEAUS: list[dict[str, Any]] = [
    {},
    {"patience": 2},
    {"mode": "max", "patience": 1, "factor": 0.5},
    {"patience": 0, "threshold": 0.1, "threshold_mode": "abs", "min_lr": [0.01, 0.02]},
    {"mode": "max", "patience": 1, "threshold": 0.2, "threshold_mode": "abs", "cooldown": 3},
    {"patience": 1, "cooldown": 2, "min_lr": 0.004, "factor": 0.3},
    {"patience": 0, "eps": 0.03, "factor": 0.5},
    {"mode": "max", "patience": 2, "threshold": 0.3},
]


@pytest.mark.parametrize("options", PLATEAUS, ids=range(len(PLATEAUS)))
def test_reduce_on_plateau(options):
    a, b = optimizer_of(gn), optimizer_of(torch)
    ours = gn.optim.lr_scheduler.ReduceLROnPlateau(a, **options)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(b, **options)
    rng = np.random.default_rng(0)
    reductions = set()
    for step in range(50):
        metric = float(2.0 + rng.standard_normal() * 0.5 - 0.02 * step) if step != 20 else float("nan")
        ours.step(gn.tensor(metric, dtype=gn.float64) if step % 2 else metric)
        theirs.step(metric)
        assert_same(ours, theirs, a, b)
        for name in ("best", "num_bad_epochs", "cooldown_counter", "in_cooldown"):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), nan_ok=True)
        reductions.add(a.param_groups[0]["lr"])
        if step == 25:  # saved and loaded in the middle
            state = ours.state_dict()
            assert set(state) == set(theirs.state_dict())
            ours = gn.optim.lr_scheduler.ReduceLROnPlateau(a)
            ours.load_state_dict(state)
    assert len(reductions) > 1


def test_plateau_with_a_group_added_later():
    for options, fails in (({"min_lr": 0.01}, False), ({"min_lr": [0.01, 0.02]}, True)):
        for m in (gn, torch):
            optimizer = optimizer_of(m)
            schedule = m.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, **options)
            optimizer.add_param_group({"params": [m.nn.Parameter(m.zeros(2))], "lr": 1.0})
            schedule.step(1.0)
            if fails:
                with pytest.raises(RuntimeError):
                    schedule.step(1.0)
            else:
                schedule.step(1.0)
                assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.01, 0.1])


@pytest.mark.parametrize("multiple", [1, 2, 3])
def test_warm_restarts_by_fractions_of_epochs(multiple):
    a, b = optimizer_of(gn), optimizer_of(torch)
    ours, theirs = (
        m.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=multiple, eta_min=0.01)
        for m, o in ((gn, a), (torch, b))
    )
    for step in range(60):
        epoch = step / 4 + 0.1
        for optimizer, schedule in ((a, ours), (b, theirs)):
            optimizer.step()
            schedule.step(epoch)
        assert_same(ours, theirs, a, b)
        assert (ours.T_cur, ours.T_i) == pytest.approx((theirs.T_cur, theirs.T_i))
    for schedule in (ours, theirs):
        with pytest.raises(ValueError, match="negative"):
            schedule.step(-1)


CLOSED = [
    case for case in CASES if not case[0].startswith(("Sequential", "Chained", "Multiplicative", "SWALR", "Cosi"))
]


@pytest.mark.parametrize("label, make", CLOSED, ids=[label for label, _ in CLOSED])
def test_stepping_to_an_epoch(label, make):
    a, b = optimizer_of(gn), optimizer_of(torch)
    ours, theirs = make(Schedules(gn), a), make(Schedules(torch), b)
    for epoch in (4, 9, 2, 30):
        a.step()
        b.step()
        with pytest.warns(UserWarning, match="the argument is deprecated"):
            ours.step(epoch)
        quietly(lambda epoch=epoch: theirs.step(epoch))
        assert_same(ours, theirs, a, b)


RESUMABLE = [case for case in CASES if not case[0].startswith(("Sequential", "Chained", "SWALR"))]


@pytest.mark.parametrize("label, make", RESUMABLE, ids=[label for label, _ in RESUMABLE])
def test_going_on_from_a_last_epoch(label, make):
    class WithLastEpoch(Schedules):
        def __getattr__(self, name: str) -> Any:
            kind = super().__getattr__(name)
            return lambda *args, **kwargs: kind(*args, **kwargs, last_epoch=6)

    outcomes = []
    for m in (gn, torch):
        optimizer = optimizer_of(m)
        for group in optimizer.param_groups:
            group["initial_lr"] = 0.2
            group.update(max_lr=0.4, min_lr=0.01, max_momentum=0.95, base_momentum=0.8)
            group["lr"] = 0.15
        schedule = quietly(lambda m=m, o=optimizer: make(WithLastEpoch(m), o))
        values = [snapshot(optimizer)]
        for _ in range(12):
            optimizer.step()
            schedule.step()
            values.append(snapshot(optimizer))
        outcomes.append(values)
    for ours, theirs in zip(*outcomes, strict=True):
        for x, y in zip(ours, theirs, strict=True):
            assert x == pytest.approx(y, rel=1e-10, abs=1e-16)


def test_a_schedule_of_ones_own():
    rates = []
    for m in (gn, torch):

        class Warmup(m.optim.lr_scheduler.LRScheduler):  # type: ignore[name-defined, misc]
            def __init__(self, optimizer: Any, steps: int, last_epoch: int = -1) -> None:
                self.steps = steps
                super().__init__(optimizer, last_epoch)

            def get_lr(self) -> list[float]:
                if self.last_epoch < self.steps:
                    return [base * (self.last_epoch + 1) / self.steps for base in self.base_lrs]
                return [group["lr"] * 0.9 for group in self.optimizer.param_groups]

        optimizer = optimizer_of(m)
        schedule = Warmup(optimizer, 5)
        seen = []
        for _ in range(10):
            seen += schedule.get_last_lr()
            optimizer.step()
            schedule.step()
        assert set(schedule.state_dict()) >= {"steps", "base_lrs", "last_epoch", "_last_lr", "_step_count"}
        rates.append(seen)
    assert rates[0] == pytest.approx(rates[1], rel=1e-12)


class Halving:
    def __init__(self) -> None:
        self.every = 2

    def __call__(self, step: float) -> float:
        return 0.5 ** (step // self.every)


@pytest.mark.parametrize("name", ["LambdaLR", "CyclicLR"])
def test_callable_objects_are_saved_by_their_attributes(name):
    results = []
    for m in (gn, torch):
        schedules = m.optim.lr_scheduler

        def make(schedules: Any = schedules, m: Any = m) -> tuple[Any, Halving]:
            function = Halving()
            optimizer = optimizer_of(m)
            if name == "LambdaLR":
                return schedules.LambdaLR(optimizer, [function, lambda epoch: 1.0]), function
            return schedules.CyclicLR(optimizer, 0.1, 0.2, 3, scale_fn=function), function

        schedule, function = make()
        function.every = 7
        state = schedule.state_dict()
        results.append(state["lr_lambdas" if name == "LambdaLR" else "_scale_fn_custom"])
        other, theirs = make()
        other.load_state_dict(state)
        assert theirs.every == 7
    assert results[0] == results[1]


def test_tensor_rates_are_written_in_place():
    seen = []
    for m in (gn, torch):
        rate = m.tensor(0.1)
        optimizer = m.optim.SGD([m.nn.Parameter(m.zeros(1))], lr=rate, momentum=0.9)
        schedules = m.optim.lr_scheduler
        schedule = schedules.SequentialLR(
            optimizer, [schedules.LinearLR(optimizer, 0.5, total_iters=3), schedules.ExponentialLR(optimizer, 0.5)], [3]
        )
        values = []
        for _ in range(6):
            optimizer.step()
            quietly(schedule.step)
            values.append(rate.item())
        assert optimizer.param_groups[0]["lr"] is rate
        seen.append(values)
    assert seen[0] == pytest.approx(seen[1], rel=1e-6)


@pytest.mark.parametrize("name", [*gn.optim.lr_scheduler.__all__, "SWALR"])
def test_signatures_are_pytorchs(name):
    ours, theirs = (inspect.signature(getattr(Schedules(m), name).__init__).parameters for m in (gn, torch))
    assert [(p.name, p.default) for p in ours.values()] == [(p.name, p.default) for p in theirs.values()]


def test_every_schedule_of_pytorch_is_there():
    assert set(torch.optim.lr_scheduler.__all__) == set(gn.optim.lr_scheduler.__all__)
    assert set(torch.optim.swa_utils.__all__) == set(gn.optim.swa_utils.__all__)


BAD: list[Any] = [
    lambda s, o: s.StepLR(None, 3),
    lambda s, o: s.ConstantLR(o, factor=1.1),
    lambda s, o: s.ConstantLR(o, factor=-0.1),
    lambda s, o: s.LinearLR(o, start_factor=0.0),
    lambda s, o: s.LinearLR(o, end_factor=1.5),
    lambda s, o: s.LambdaLR(o, [lambda e: 1.0]),
    lambda s, o: s.MultiplicativeLR(o, 0.5),
    lambda s, o: s.CosineAnnealingWarmRestarts(o, 0),
    lambda s, o: s.CosineAnnealingWarmRestarts(o, 2.5),
    lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, 0),
    lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, eta_min="0"),
    lambda s, o: s.CyclicLR(o, 0.1, 0.2, mode="square"),
    lambda s, o: s.CyclicLR(o, [0.1], 0.2),
    lambda s, o: s.CyclicLR(o, 0.1, [0.2, 0.3, 0.4]),
    lambda s, o: s.OneCycleLR(o, 0.1),
    lambda s, o: s.OneCycleLR(o, 0.1, total_steps=0),
    lambda s, o: s.OneCycleLR(o, 0.1, total_steps=5, anneal_strategy="sine"),
    lambda s, o: s.ReduceLROnPlateau(o, factor=1.0),
    lambda s, o: s.ReduceLROnPlateau(o, mode="least"),
    lambda s, o: s.ReduceLROnPlateau(o, threshold_mode="part"),
    lambda s, o: s.ReduceLROnPlateau(o, min_lr=[0.1]),
    lambda s, o: s.SequentialLR(o, [], []),
    lambda s, o: s.SequentialLR(o, [s.StepLR(o, 3)], [3]),
    lambda s, o: s.SequentialLR(o, [s.ReduceLROnPlateau(o), s.StepLR(o, 3)], [3]),
    lambda s, o: s.SequentialLR(o, [s.StepLR(o, 3), s.StepLR(optimizer_of(s.module), 3)], [3]),
    lambda s, o: s.ChainedScheduler([]),
    lambda s, o: s.ChainedScheduler([s.StepLR(o, 3), s.ReduceLROnPlateau(o)]),
    lambda s, o: s.ChainedScheduler([s.StepLR(o, 3), 5]),
    lambda s, o: s.SWALR(o, 0.1, anneal_strategy="step"),
    lambda s, o: s.SWALR(o, 0.1, anneal_epochs=-1),
    lambda s, o: s.SWALR(o, [0.1]),
    lambda s, o: s.StepLR(o, 3, last_epoch=4),
]


@pytest.mark.parametrize("act", BAD, ids=range(len(BAD)))
def test_both_refuse(act):
    for m in (gn, torch):
        with pytest.raises((ValueError, TypeError, KeyError)):
            act(Schedules(m), optimizer_of(m))


def test_both_refuse_momenta_where_there_are_none():
    for m in (gn, torch):
        for make in (
            lambda s, o: s.CyclicLR(o, 0.1, 0.2),
            lambda s, o: s.OneCycleLR(o, 0.1, total_steps=9),
        ):
            with pytest.raises(ValueError, match="momentum"):
                make(m.optim.lr_scheduler, optimizer_of(m, "Adagrad"))


def test_asking_for_the_rate_by_hand_warns():
    for m in (gn, torch):
        optimizer = optimizer_of(m)
        schedule = m.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        with pytest.warns(UserWarning, match="get_last_lr"):
            assert schedule.get_lr() == pytest.approx([0.05, 0.025])
