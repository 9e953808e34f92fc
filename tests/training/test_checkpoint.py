"""Checkpoints."""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path

import numpy as np
import pytest

from gpunet import nn
from gpunet.autograd import tensor
from gpunet.backend.errors import CheckpointError
from gpunet.data import DataLoader, TensorDataset
from gpunet.interop import load, load_safetensors, save
from gpunet.nn.functional import cross_entropy
from gpunet.optim import SGD
from gpunet.training import (
    Checkpointer,
    NonFiniteError,
    RunFolder,
    Trainer,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from gpunet.training.checkpoint import checksum


def make_trainer(outputs: int = 3) -> Trainer:
    inputs = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    data = TensorDataset(tensor(inputs), tensor(np.arange(20) % 3))
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, outputs))
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Trainer(model, optimizer, cross_entropy, DataLoader(data, batch_size=5))


def test_file_is_plain_safetensors(tmp_path: Path) -> None:
    """Any safetensors reader finds the weights under the model's keys."""
    trainer = make_trainer()
    trainer.fit(1)
    save_checkpoint(tmp_path / "c.safetensors", trainer)
    arrays = load_safetensors(tmp_path / "c.safetensors")
    for name, value in trainer.model.state_dict().items():
        assert np.array_equal(arrays[f"model.{name}"], value.numpy()), name
    assert any(name.startswith("optimizer.") for name in arrays)


def test_everything_comes_back(tmp_path: Path) -> None:
    trainer = make_trainer()
    trainer.fit(2)
    save_checkpoint(tmp_path / "c.safetensors", trainer)
    other = make_trainer()
    load_checkpoint(tmp_path / "c.safetensors", other)
    assert (other.epoch, other.step, other.history) == (2, 8, trainer.history)
    trainer.fit(3)
    other.fit(3)
    for ours, theirs in zip(other.model.parameters(), trainer.model.parameters(), strict=True):
        assert ours.detach().numpy().tobytes() == theirs.detach().numpy().tobytes()


def test_checkpoint_of_another_model(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.safetensors", make_trainer(outputs=4))
    with pytest.raises(CheckpointError, match="does not fit this run"):
        load_checkpoint(tmp_path / "c.safetensors", make_trainer())


def test_checkpoint_of_other_settings(tmp_path: Path) -> None:
    trainer = make_trainer()
    trainer.settings = {"epochs": 3, "seed": 0}
    save_checkpoint(tmp_path / "c.safetensors", trainer)
    other = make_trainer()
    other.settings = {"epochs": 5, "seed": 0, "new": 1}  # what an older file does not say is no difference
    before = [parameter.numpy().copy() for parameter in other.model.state_dict().values()]
    with pytest.raises(CheckpointError, match=r"begun with other settings: epochs was 3 and is now 5$"):
        load_checkpoint(tmp_path / "c.safetensors", other)
    after = [parameter.numpy() for parameter in other.model.state_dict().values()]
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))
    other.settings["epochs"] = 3
    load_checkpoint(tmp_path / "c.safetensors", other)


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(path)
    save(make_trainer().model.state_dict(), path)
    with pytest.raises(CheckpointError, match="not a checkpoint of a gpunet run"):
        read_checkpoint(path)
    save({"format": "gpunet checkpoint", "version": 2}, path)
    with pytest.raises(CheckpointError, match="written in checkpoint format 2"):
        read_checkpoint(path)
    save({"format": "gpunet checkpoint", "version": 1}, path)
    with pytest.raises(CheckpointError, match="does not fit this run: it has no 'scheduler'"):
        load_checkpoint(path, make_trainer())


def test_damage_anywhere_is_found(tmp_path: Path) -> None:
    """A bit of a weight, of the optimizer's state, of the random state or of a number in the metadata."""
    path, damaged = tmp_path / "c.safetensors", tmp_path / "damaged.safetensors"
    trainer = make_trainer()
    trainer.fit(1)
    save_checkpoint(path, trainer)
    content = path.read_bytes()
    state, header = read_checkpoint(path), 8 + int.from_bytes(content[:8], "little")
    assert "sha256" not in state
    places = [*range(header, len(content), 37), len(content) - 1]  # weights and what belongs to them
    for word in (b'\\"step\\",', b'\\"learning_rate\\",'):
        places.append(content.index(word) + len(word))  # the first digit
    for place in places:
        damaged.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CheckpointError, match=r"damaged\.safetensors: damaged: it is not what was saved"):
            read_checkpoint(damaged)
        with pytest.raises(CheckpointError, match="it is not what was saved"):
            load_checkpoint(damaged, make_trainer())
    for place in range(0, header, 29):  # found in some way, or what it changes is no part of the state
        damaged.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with contextlib.suppress(CheckpointError):
            found = read_checkpoint(damaged)
            assert checksum({name: found[name] for name in state}) == checksum(state)


def test_a_checkpoint_without_a_checksum_is_read(tmp_path: Path) -> None:
    """As all were at first."""
    trainer = make_trainer()
    trainer.fit(1)
    save({"format": "gpunet checkpoint", "version": 1, "gpunet": "0.1.0", **trainer.state_dict()}, tmp_path / "c")
    other = make_trainer()
    load_checkpoint(tmp_path / "c", other)
    assert other.step == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 0.0}, {"a": -0.0}),
        ({"a": "1"}, {"a": 1}),
        ({"1": "a"}, {1: "a"}),
        ([1, 2], (1, 2)),
        ([[1], 2], [[1, 2]]),
        ({"a": None}, {"a": {}}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.zeros(3), np.zeros(3, np.int64)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(1), np.zeros(())),
        (np.float32([1, 2]), np.float32([2, 1])),
    ],
)
def test_checksums_tell_states_apart(tmp_path: Path, one: object, other: object) -> None:
    assert checksum(one) != checksum(other)
    for state in (one, other):
        save(state, tmp_path / "state")
        assert checksum(load(tmp_path / "state")) == checksum(state)


def test_a_checksum_is_of_the_values(tmp_path: Path) -> None:
    """Not of how they lie in memory; SHA-256 of bytes that are written down here."""
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert checksum(tensor(values).t()) == checksum(np.ascontiguousarray(values.T))
    kinds = b'dict 1 plain 3 "a"list 2 plain 4 nullarray uint8 (2,) \x01\x02'
    assert checksum({"a": [None, np.uint8([1, 2])]}) == hashlib.sha256(kinds).hexdigest()


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    trainer = make_trainer()
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, trainer)
    before = path.read_bytes()
    next(iter(trainer.model.parameters()))._array[0] = np.nan
    with pytest.raises(NonFiniteError, match=r"0\.weight of the model became NaN or infinite"):
        save_checkpoint(path, trainer)
    assert path.read_bytes() == before


def test_saves_within_an_epoch_when_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    folder = RunFolder.create(tmp_path / "run", {})
    saved = []

    class Clock(Checkpointer):
        def on_step_end(self, trainer: Trainer) -> None:
            clock[0] += 30.0
            super().on_step_end(trainer)
            if folder.checkpoint_path.exists():
                saved.append(read_checkpoint(folder.checkpoint_path)["progress"]["step"])
            else:
                saved.append(0)

    trainer = make_trainer()
    trainer.callbacks.append(Clock(folder, 60.0))
    trainer.fit(2)
    assert saved == [0, 2, 2, 4, 4, 6, 6, 8]
