"""Training a language model as a library: the state that goes on, what is measured, and going on bit for bit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet.data import TextSplits, TextStreams, Vocabulary, make_text_splits
from gpunet.training import (
    Callback,
    LanguageConfig,
    LanguageTrainer,
    RunFolderError,
    Trainer,
    bits_per_character,
    character_loss,
    load_checkpoint,
    prepare_language,
    save_checkpoint,
)
from gpunet.training.language import training_streams

CPU = gn.device("cpu")
SMALL = LanguageConfig(hidden_size=8, embedding_dim=4, epochs=2, batch_size=4, window=8, learning_rate=0.01)


def text() -> TextSplits:
    """Words in an order of their own: 1,350 characters to learn from, 150 to measure on."""
    random = np.random.default_rng(0)
    words = " ".join(random.choice(["one", "two", "three", "four"], 400).tolist())[:1500]
    return make_text_splits(words[:1350], words[1350:])


class StopAfter(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.step == self.step:
            trainer.stop_reason = "the test"


def state_of(trainer: Trainer) -> dict[str, np.ndarray]:
    state = trainer.state_dict()
    tensors = {f"model.{name}": value.numpy() for name, value in state["model"].items()}
    for key, value in state["optimizer"]["state"].items():
        tensors |= {f"{key}.{n}": v.numpy() for n, v in value.items() if isinstance(v, gn.Tensor)}
    return tensors | {f"reading.{n}": part.numpy() for n, part in enumerate(state["reading"] or [])}


# --------------------------------------------------------------------------------------------------- what is measured


def test_bits_and_perplexity() -> None:
    """A model that knows nothing needs log2 V bits a character, and is as uncertain as among V."""
    config = SMALL.replace(epochs=1)
    trainer = prepare_language(config, text(), CPU)
    with gn.no_grad():
        trainer.model.decoder.weight.zero_()
        trainer.model.decoder.bias.zero_()
    assert trainer.test_loader is not None
    metrics = trainer.evaluate(trainer.test_loader)
    size = len(text().vocabulary)
    assert metrics["bits_per_character"] == pytest.approx(math.log2(size), rel=1e-6)
    assert metrics["perplexity"] == pytest.approx(size, rel=1e-5)
    assert bits_per_character(math.log(2)) == 1.0


def test_the_loss_is_of_all_characters_alike() -> None:
    logits = gn.tensor(np.random.default_rng(0).standard_normal((2, 3, 5)))
    targets = gn.tensor([[0, 4, 1], [2, 2, 3]])
    rows = F.log_softmax(logits, -1).numpy().reshape(6, 5)
    by_hand = -rows[np.arange(6), targets.numpy().reshape(-1)].mean()
    assert character_loss(logits, targets).item() == pytest.approx(by_hand, rel=1e-12)


def test_the_held_out_part_is_read_with_its_state() -> None:
    """What is measured is the mean over what the streams hold, each read from its beginning with the state kept."""
    splits = text()
    trainer = prepare_language(SMALL, splits, CPU)
    metrics = trainer.evaluate(trainer.test_loader)
    model = trainer.model.eval()
    # 150 characters are one stream of 149 predictions: shorter windows change nothing.
    x = gn.tensor(splits.test[None])
    with gn.no_grad():
        loss = character_loss(model(x[:, :-1])[0], x[:, 1:]).item()
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    by_windows = trainer.evaluate(TextStreams(splits.test, 1, 7, drop_last=False))
    assert by_windows["loss"] == pytest.approx(loss, rel=1e-5)


def test_history_and_schedule() -> None:
    seen: list[float] = []

    class Rates(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            seen.append(trainer.last_learning_rate)

    trainer = prepare_language(SMALL.replace(final_rate=0.1), text(), CPU)
    trainer.callbacks.append(Rates())
    history = trainer.fit(2)
    steps = 2 * len(trainer.train_loader)
    expected = [0.01 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / steps))) for step in range(steps)]
    np.testing.assert_allclose(seen, expected, rtol=1e-12)
    assert [row["epoch"] for row in history] == [1, 2]
    for row in history:
        assert row["train_bits_per_character"] == row["train_loss"] / math.log(2)
        assert row["test_perplexity"] == math.exp(row["test_loss"])
        assert 0 <= row["test_accuracy"] <= 1
    assert history[1]["test_loss"] < history[0]["test_loss"] < math.log(len(text().vocabulary))


# --------------------------------------------------------------------------------------- truncated, with its state


def test_one_step_by_hand() -> None:
    """The second step starts from the state that the first ended with, by whose gradient nothing is changed."""
    splits = text()
    config = SMALL.replace(clip_norm=0.01, dropout=0.0, cell="gru")
    trainer = prepare_language(config, splits, CPU)
    by_hand = prepare_language(config, splits, CPU)
    batches = list(trainer.train_loader)[:2]
    for batch in batches:
        trainer.train_step(*batch)

    model, state = by_hand.model, None
    rates = [0.01, 0.01 * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi / (2 * len(trainer.train_loader)))))]
    optimizer = gn.optim.Adam(model.parameters(), lr=0.01)
    for (inputs, targets), rate in zip(batches, rates, strict=True):
        logits, after = model(inputs, state)
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        norm = gn.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        assert norm.item() > 0.02  # so that there is something to clip
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        state = after.detach()
    for (name, ours), theirs in zip(trainer.model.named_parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-5, atol=1e-7, err_msg=name)
    np.testing.assert_allclose(trainer.reading.numpy(), state.numpy(), rtol=1e-5, atol=1e-6)
    assert not trainer.reading.requires_grad


def test_an_epoch_begins_with_nothing_read() -> None:
    splits = text()
    trainer = prepare_language(SMALL, splits, CPU)
    states: list[Any] = []
    step = trainer.train_step

    def watch(inputs: gn.Tensor, labels: gn.Tensor) -> None:
        states.append(trainer.reading)
        step(inputs, labels)

    trainer.train_step = watch  # type: ignore[method-assign]
    trainer.fit(2)
    count = len(trainer.train_loader)
    assert [number for number, state in enumerate(states) if state is None] == [0, count]


def test_measuring_leaves_the_reading_as_it_is() -> None:
    trainer = prepare_language(SMALL, text(), CPU)
    trainer.train_step(*next(iter(trainer.train_loader)))
    before = [part.numpy().copy() for part in trainer.reading]
    trainer.evaluate(trainer.test_loader)
    for ours, theirs in zip(trainer.reading, before, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    assert trainer.model.training


def test_the_seed_decides() -> None:
    losses = {
        (seed, again): prepare_language(SMALL.replace(seed=seed, epochs=1), text(), CPU).fit(1)[0]["train_loss"]
        for seed, again in ((1, 0), (1, 1), (2, 0))
    }
    assert losses[1, 0] == losses[1, 1] != losses[2, 0]


# ---------------------------------------------------------------------------------------------- what an epoch reads


@pytest.mark.parametrize(
    ("length", "batch_size", "window", "sizes"),
    [
        (1864, 8, 120, [120, 112]),  # 232 a stream: nearly half would be left out
        (7290, 32, 64, [64, 64, 64, 35]),
        (201, 2, 99, [99, 1]),  # a hundredth of 100
        (205, 2, 101, [101]),  # less than a hundredth of 102
        (2 * 64 + 1, 2, 64, [64]),
        (616_291, 32, 64, [64] * 300),  # the bundled novel, 59 of whose 19,259 a stream are left out
    ],
)
def test_little_of_a_text_is_left_out(length: int, batch_size: int, window: int, sizes: list[int]) -> None:
    numbers = np.arange(length)
    streams = training_streams(numbers, batch_size, window)
    batches = list(streams)
    assert len(streams) == len(batches)
    assert [inputs.shape[1] for inputs, _ in batches] == sizes
    read = np.concatenate([inputs.numpy() for inputs, _ in batches], axis=1)
    np.testing.assert_array_equal(read.reshape(-1), np.arange(read.size))
    assert length - 1 - read.size < batch_size + 0.01 * length


def test_a_shorter_window_is_a_step_like_the_others(tmp_path: Path) -> None:
    """337 characters a stream are 11 windows of 30 and one of 7: in the schedule, and where a run goes on."""
    config = SMALL.replace(window=30, final_rate=0.1)
    whole = prepare_language(config, text(), CPU)
    assert [inputs.shape[1] for inputs, _ in whole.train_loader] == [30] * 11 + [7]
    history = whole.fit(2)
    assert whole.step == 24
    assert history[-1]["learning_rate"] == pytest.approx(0.01 * (0.1 + 0.45 * (1 + math.cos(math.pi * 23 / 24))))
    for stop in (11, 12):
        first = prepare_language(config, text(), CPU)
        first.callbacks.append(StopAfter(stop))
        first.fit(2)
        save_checkpoint(tmp_path / "state", first)
        second = prepare_language(config, text(), CPU)
        load_checkpoint(tmp_path / "state", second)
        second.fit(2)
        ours, theirs = state_of(second), state_of(whole)
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            assert array.tobytes() == theirs[name].tobytes(), (stop, name)


def test_the_loss_of_an_epoch_is_the_mean_over_its_characters() -> None:
    """A shorter window counts by its characters. The weights stay as they are: a learning rate of next to nothing."""
    config = SMALL.replace(window=300, learning_rate=1e-30, dropout=0.0)
    trainer = prepare_language(config, text(), CPU)
    batches = list(trainer.train_loader)
    assert [inputs.shape[1] for inputs, _ in batches] == [300, 37]
    x, y = (gn.cat(parts, 1) for parts in zip(*batches, strict=True))
    with gn.no_grad():
        expected = character_loss(trainer.model.eval()(x)[0], y).item()
    assert trainer.fit(1)[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


# --------------------------------------------------------------------------------------------------------- going on


@pytest.mark.parametrize(("cell", "stop"), [("lstm", 1), ("lstm", 42), ("lstm", 60), ("rnn", 41), ("gru", 60)])
def test_a_stopped_run_goes_on_with_the_same_bits(tmp_path: Path, cell: str, stop: int) -> None:
    """Within an epoch (of 42 steps), at its end, and in the next, with dropout."""
    config = SMALL.replace(cell=cell, dropout=0.3)
    whole = prepare_language(config, text(), CPU)
    assert len(whole.train_loader) == 42
    whole.fit(2)
    first = prepare_language(config, text(), CPU)
    first.callbacks.append(StopAfter(stop))
    first.fit(2)
    assert first.step == stop
    save_checkpoint(tmp_path / "state", first)
    second = prepare_language(config, text(), CPU)
    gn.manual_seed(99)  # what was drawn in between does not matter
    load_checkpoint(tmp_path / "state", second)
    second.fit(2)
    ours, theirs = state_of(second), state_of(whole)
    assert ours.keys() == theirs.keys()
    assert any(name.startswith("reading") for name in ours)
    for name, array in ours.items():
        assert array.tobytes() == theirs[name].tobytes(), name
    for mine, yours in zip(second.history, whole.history, strict=True):
        assert {k: v for k, v in mine.items() if k != "seconds"} == {k: v for k, v in yours.items() if k != "seconds"}


def test_a_state_moves_to_another_device() -> None:
    trainer = prepare_language(SMALL, text(), CPU)
    trainer.train_step(*next(iter(trainer.train_loader)))
    other = prepare_language(SMALL, text(), gn.device("cpu:1"))
    other.load_state_dict(trainer.state_dict())
    assert {str(part.device) for part in other.reading} == {"cpu:1"}
    other.train_step(*next(iter(other.train_loader)))


@pytest.mark.parametrize(
    ("change", "named"), [({"window": 9}, "window was 8 and is now 9"), ({"cell": "gru"}, "cell was 'lstm' and is now")]
)
def test_other_settings_are_refused(change: dict[str, Any], named: str) -> None:
    trainer = prepare_language(SMALL, text(), CPU)
    with pytest.raises(ValueError, match=named):
        prepare_language(SMALL.replace(**change), text(), CPU).load_state_dict(trainer.state_dict())


def test_another_text_is_refused() -> None:
    trainer = prepare_language(SMALL, text(), CPU)
    splits = text()
    other = make_text_splits(*(splits.vocabulary.decode(part[::-1]) for part in (splits.train, splits.test)))
    with pytest.raises(ValueError, match="the run was begun with other settings: text was '"):
        prepare_language(SMALL, other, CPU).load_state_dict(trainer.state_dict())


# --------------------------------------------------------------------------------------------------------- settings


def test_settings_survive_being_plain() -> None:
    config = SMALL.replace(cell="gru", text="/a/b.txt", dropout=0.25)
    assert LanguageConfig.from_dict(config.to_dict()) == config
    assert LanguageConfig.from_dict(config.to_dict() | {"clip_norm": 2, "more": 1}) == config.replace(clip_norm=2.0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epochs": 0}, "settings.json: epochs: must be at least 1, got 0"),
        ({"window": "8"}, "settings.json: 'window' must be of type int, got '8'"),
        ({"batch_size": True}, "settings.json: 'batch_size' must be of type int, got True"),
        ({"learning_rate": 0.0}, "learning_rate: must be above 0 and finite, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate: must be above 0 and finite, got nan"),
        ({"held_out": 1.0}, "held_out: must be a share above 0 and below 1, got 1.0"),
        ({"final_rate": 1.5}, "final_rate: must lie in 0..1, got 1.5"),
        ({"clip_norm": -1.0}, "clip_norm: must not be negative, got -1.0"),
        ({"weight_decay": float("inf")}, "weight_decay: must not be negative, got inf"),
    ],
)
def test_settings_that_are_none(change: Mapping[str, Any], named: str) -> None:
    with pytest.raises(RunFolderError, match=re.escape(named)):
        LanguageConfig.from_dict(SMALL.to_dict() | change, "settings.json")
    values = SMALL.to_dict()
    del values["cell"]
    with pytest.raises(RunFolderError, match="the settings has no 'cell'"):
        LanguageConfig.from_dict(values)


def test_models_that_read_no_text() -> None:
    with pytest.raises(ValueError, match="model: 'lenet' is no model of texts; there is char_rnn"):
        prepare_language(SMALL.replace(model="lenet"), text(), CPU)


def test_a_text_shorter_than_one_window() -> None:
    with pytest.raises(ValueError, match="the text is shorter than one window: 4 streams of 400 characters"):
        prepare_language(SMALL.replace(window=400), text(), CPU)


def test_clip_norm_of_a_trainer() -> None:
    for value in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="clip_norm: must be above 0 and finite, or None, got"):
            LanguageTrainer(gn.models.char_rnn(4, hidden_size=4), None, character_loss, [], clip_norm=value)


def test_a_held_out_part_of_two_characters() -> None:
    splits = make_text_splits("abcab" * 20, "ca", vocabulary=Vocabulary("abc"))
    history = prepare_language(SMALL.replace(epochs=1), splits, CPU).fit(1)
    assert math.isfinite(history[0]["test_bits_per_character"])
