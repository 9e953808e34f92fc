"""The run folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from gpunet.training import RunFolder, RunFolderError, TrainingConfig
from gpunet.training.run import METRIC_COLUMNS, write_file_atomically


def row(epoch: int) -> dict[str, float]:
    return dict.fromkeys(METRIC_COLUMNS, 0.5) | {"epoch": float(epoch)}


def test_atomic_write_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file_atomically(path, b"old")
    write_file_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    path = tmp_path / "file"
    write_file_atomically(path, b"old")

    def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        write_file_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_metrics_survive_a_half_written_line(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    for epoch in (1, 2):
        folder.append_metrics(row(epoch))
    with open(folder.metrics_path, "a") as file:
        file.write("3,0.5,0.")
    folder.rewrite_metrics([row(1), row(2)])
    folder.append_metrics(row(3))
    assert folder.read_metrics() == [row(1), row(2), row(3)]


def test_metrics_keep_every_digit_and_leave_out_what_is_missing(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    folder.append_metrics({"epoch": 1.0, "train_loss": 0.1 + 0.2, "unknown": 3.0})
    assert folder.read_metrics() == [{"epoch": 1.0, "train_loss": 0.1 + 0.2}]


def test_lock_is_for_one(tmp_path: Path) -> None:
    first = RunFolder.create(tmp_path / "run", {})
    second = RunFolder.open(tmp_path / "run")
    with pytest.raises(RunFolderError, match="another process"):
        second.lock()
    first.unlock()
    first.unlock()
    with second:
        second.lock()  # held already
        with pytest.raises(RunFolderError):
            first.lock()
    first.lock()
    first.unlock()


def test_folders_of_one_second_have_different_names(tmp_path: Path) -> None:
    folders = [RunFolder.create_numbered(tmp_path, "net", {}) for _ in range(3)]
    assert len({folder.path for folder in folders}) == 3


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    for name in (".checkpoint.safetensors.abc123.tmp", ".config.json.partial"):
        (folder.path / name).write_bytes(b"half")
    folder.remove_leftovers()
    assert {path.name for path in folder.path.iterdir()} == {".lock", "config.json", "metrics.csv"}


def test_settings_survive_the_file(tmp_path: Path) -> None:
    config = TrainingConfig(model="lenet", seed=2**62, device="cpu").replace(
        recipe=TrainingConfig().recipe.replace(epochs=3, learning_rate=0.1 + 0.2, augment=False)
    )
    folder = RunFolder.create(tmp_path / "run", config.to_dict())
    assert TrainingConfig.from_dict(folder.read_config()) == config
    values = folder.read_config()
    del values["recipe"]["momentum"]
    with pytest.raises(RunFolderError, match=r"the settings has no 'recipe\.momentum'"):
        TrainingConfig.from_dict(values)
