"""The training loop as a library."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gpunet import nn
from gpunet.autograd import Tensor, tensor
from gpunet.backend.random import manual_seed
from gpunet.data import DataLoader, TensorDataset
from gpunet.nn.functional import cross_entropy
from gpunet.optim import SGD
from gpunet.optim.lr_scheduler import OneCycleLR
from gpunet.training import Callback, NonFiniteError, Trainer

BATCH = 8


def make_data(count: int = 60) -> TensorDataset:
    generator = np.random.default_rng(3)
    inputs = generator.standard_normal((count, 5)).astype(np.float32)
    labels = (inputs @ generator.standard_normal((5, 3))).argmax(1)
    return TensorDataset(tensor(inputs), tensor(labels))


def make_trainer(
    epochs: int = 3, callbacks: tuple[Callback, ...] = (), dropout: float = 0.3, **options: Any
) -> Trainer:
    manual_seed(11)
    model = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))
    train, test = make_data(), make_data()
    loader = DataLoader(train, batch_size=BATCH, shuffle=True)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs * len(loader))
    return Trainer(
        model,
        optimizer,
        cross_entropy,
        loader,
        DataLoader(test, batch_size=32),
        scheduler=scheduler,
        callbacks=callbacks,
        **options,
    )


class StopAfter(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.step == self.step:
            trainer.stop_reason = "the test"


class Journal(Callback):
    def __init__(self) -> None:
        self.entries: list[str] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        self.entries.append("fit")

    def on_epoch_start(self, trainer: Trainer) -> None:
        self.entries.append(f"epoch {trainer.epoch}")

    def on_step_end(self, trainer: Trainer) -> None:
        self.entries.append(f"step {trainer.step}")

    def on_epoch_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self.entries.append(f"end of {metrics['epoch']:.0f}")

    def on_fit_end(self, trainer: Trainer) -> None:
        self.entries.append("done")


def test_the_loop_is_the_one_written_by_hand() -> None:
    trainer = make_trainer(epochs=2)
    history = trainer.fit(2)

    by_hand = make_trainer(epochs=2)
    model, optimizer, scheduler = by_hand.model, by_hand.optimizer, by_hand.scheduler
    assert scheduler is not None
    losses, right = [], 0
    for epoch in range(2):
        losses, right = [], 0
        by_hand.train_loader.set_epoch(epoch)  # type: ignore[attr-defined]
        model.train()
        for inputs, labels in by_hand.train_loader:
            logits = model(inputs)
            loss = cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            rate = optimizer.param_groups[0]["lr"]
            optimizer.step()
            scheduler.step()
            losses.append((loss.item(), len(labels.numpy())))
            right += int((logits.detach().numpy().argmax(1) == labels.numpy()).sum())
    for (name, ours), theirs in zip(trainer.model.state_dict().items(), model.state_dict().values(), strict=True):
        assert ours.numpy().tobytes() == theirs.numpy().tobytes(), name
    last = history[-1]
    assert last["train_loss"] == pytest.approx(sum(loss * count for loss, count in losses) / 60, rel=1e-12)
    assert last["train_accuracy"] == right / 60
    assert last["learning_rate"] == rate
    assert [row["epoch"] for row in history] == [1, 2]


def test_evaluation_is_in_evaluation_mode_and_changes_nothing() -> None:
    trainer = make_trainer()
    trainer.fit(1)
    before = {name: value.numpy().copy() for name, value in trainer.model.state_dict().items()}
    trainer.model.train()
    assert trainer.test_loader is not None
    first, second = trainer.evaluate(trainer.test_loader), trainer.evaluate(trainer.test_loader)
    assert (
        first
        == second
        == {
            "loss": trainer.history[0]["test_loss"],
            "accuracy": trainer.history[0]["test_accuracy"],
        }
    )
    assert trainer.model.training
    for name, value in trainer.model.state_dict().items():
        assert np.array_equal(before[name], value.numpy()), name


@pytest.mark.parametrize("stop_after", [1, 7, 8, 9, 16, 23])
def test_state_goes_on_with_the_same_bits(stop_after: int) -> None:
    """8 steps an epoch; with dropout, momentum, a schedule and a short last batch."""
    whole = make_trainer()
    whole.fit(3)
    stopped = make_trainer(callbacks=(StopAfter(stop_after),))
    stopped.fit(3)
    assert stopped.step == stop_after
    state = stopped.state_dict()

    manual_seed(99)
    resumed = make_trainer()
    resumed.load_state_dict(state)
    resumed.fit(3)
    assert resumed.step == whole.step == 24
    for (name, ours), theirs in zip(resumed.model.state_dict().items(), whole.model.state_dict().values(), strict=True):
        assert ours.numpy().tobytes() == theirs.numpy().tobytes(), name
    for ours_row, theirs_row in zip(resumed.history, whole.history, strict=True):
        for key in theirs_row.keys() - {"seconds"}:
            assert ours_row[key] == theirs_row[key], key


def test_fit_counts_epochs_that_were_finished_before() -> None:
    trainer = make_trainer(epochs=4)
    assert len(trainer.fit(2)) == 2
    assert len(trainer.fit(2)) == 2
    assert len(trainer.fit(4)) == 4
    assert trainer.seconds >= trainer.history[-1]["seconds"] > trainer.history[0]["seconds"] > 0


def test_callbacks_are_called_in_order() -> None:
    journal = Journal()
    trainer = make_trainer(callbacks=(journal, StopAfter(10)))
    trainer.fit(3)
    expected = ["fit", "epoch 0", *(f"step {n}" for n in range(1, 9)), "end of 1"]
    assert journal.entries == [*expected, "epoch 1", "step 9", "step 10", "done"]


def test_any_iterable_is_a_loader() -> None:
    trainer = make_trainer()
    trainer.train_loader = list(trainer.train_loader)  # type: ignore[assignment]
    assert trainer.fit(1)[0]["train_loss"] > 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("read_every", [1, 4, 100])
def test_a_loss_that_is_not_finite_is_named_by_its_step(value: float, read_every: int) -> None:
    trainer: Trainer

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        found = cross_entropy(logits, labels)
        return found * value if trainer.step == 4 else found

    trainer = make_trainer(read_every=read_every)
    trainer.loss_function = loss
    with pytest.raises(NonFiniteError, match=rf"the loss became {value} in step 5 \(epoch 1\)"):
        trainer.fit(1)
    assert trainer.history == []


def test_state_of_another_kind_of_run_is_refused() -> None:
    trainer = make_trainer()
    state = trainer.state_dict()
    trainer.scheduler = None
    with pytest.raises(ValueError, match="the other has none"):
        trainer.load_state_dict(state)


def test_read_every_must_be_positive() -> None:
    with pytest.raises(ValueError, match="read_every: must be at least 1, got 0"):
        make_trainer(read_every=0)
