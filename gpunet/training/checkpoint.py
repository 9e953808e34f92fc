"""Checkpoints: one safetensors file that holds everything the rest of a run depends on.

The tensors (weights, buffers, optimizer state) are the file's tensors; everything else (schedule, random state,
epoch, step, the numbers of the finished epochs) is JSON in its metadata. The file is written beside the old one and
renamed over it: there is always a whole checkpoint, the old or the new. A SHA-256 of all of it is part of it, so that
a disk's or a copy's error in a weight is found: no other check would see one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpunet._version import __version__
from gpunet.autograd import Tensor
from gpunet.backend.devices import array_module, on_device, to_numpy
from gpunet.backend.errors import CheckpointError
from gpunet.interop import load, save
from gpunet.nn import Module
from gpunet.ops.dtypes import is_floating
from gpunet.training.run import RunFolder, RunFolderError, describe_os_error
from gpunet.training.trainer import Callback, NonFiniteError, Trainer

FORMAT = "gpunet checkpoint"
VERSION = 1
CHECKSUM = "sha256"


def save_checkpoint(path: Path | str, trainer: Trainer) -> None:
    """Write the trainer's whole state to ``path``, atomically.

    Raises:
        NonFiniteError: a weight or buffer is NaN or infinite; nothing was written, since nothing good could come of
            a run that goes on from there.
        OSError: the file cannot be written; what was at ``path`` before is still there.
    """
    state = trainer.state_dict()
    check_finite(state["model"])
    content = {"format": FORMAT, "version": VERSION, "gpunet": __version__, **state}
    save({**content, CHECKSUM: checksum(content)}, path)


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """What ``save_checkpoint`` wrote, with tensors on the CPU.

    Raises:
        CheckpointError: the file cannot be read, is damaged or cut short, is no checkpoint, or has a newer format.
            Damage to values is found by their checksum, which the first files of this format do not have.
    """
    try:
        state = load(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {describe_os_error(error)}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of a gpunet run")
    version = state.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise CheckpointError(
            f"{path}: written in checkpoint format {version!r}, this gpunet reads up to {VERSION}: it needs a newer one"
        )
    kept = state.pop(CHECKSUM, None)
    if kept is not None and kept != checksum(state):
        raise CheckpointError(f"{path}: damaged: it is not what was saved, as its SHA-256 shows")
    return state


def checksum(state: Any) -> str:
    """The SHA-256 of what a checkpoint holds: nested dicts, lists and tuples of Tensors, arrays and plain values.

    It is the same before saving and after loading.
    """
    digest = hashlib.sha256()
    _digest(state, digest)
    return digest.hexdigest()


def _digest(value: Any, digest: hashlib._Hash) -> None:
    """Each value behind its kind and size, so that no two states give the same bytes."""
    if isinstance(value, Mapping):
        digest.update(f"dict {len(value)} ".encode())
        for key, entry in value.items():
            _digest(key, digest)
            _digest(entry, digest)
    elif isinstance(value, (list, tuple)):
        digest.update(f"{'list' if isinstance(value, list) else 'tuple'} {len(value)} ".encode())
        for entry in value:
            _digest(entry, digest)
    elif isinstance(value, (Tensor, np.ndarray, np.generic)):
        array = np.asarray(to_numpy(value._array) if isinstance(value, Tensor) else value, order="C")
        digest.update(f"array {array.dtype.name} {array.shape} ".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    else:
        text = json.dumps(value).encode()
        digest.update(f"plain {len(text)} ".encode() + text)


def load_checkpoint(path: Path | str, trainer: Trainer) -> None:
    """Put the trainer into the state that ``save_checkpoint`` wrote.

    Raises:
        CheckpointError: as ``read_checkpoint``, or the checkpoint belongs to another model, optimizer or schedule.
    """
    state = read_checkpoint(path)
    try:
        trainer.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"the checkpoint {path} does not fit this run: {reason}") from error


def require_checkpoint(folder: RunFolder) -> None:
    """Raise RunFolderError if a run has not saved anything yet; the message says how it comes to."""
    if not folder.checkpoint_path.exists():
        raise RunFolderError(
            f"the run {folder.path} has no checkpoint yet; go on with: gpunet train --resume {folder.path} "
            "(if its loss became NaN or infinite, start a new run with a lower --lr instead)"
        )


def load_trained_weights(folder: RunFolder, model: Module, name: str) -> None:
    """Give a new model of that name the weights of a run.

    Raises:
        CheckpointError: as ``read_checkpoint``, or the checkpoint belongs to another model.
    """
    state = read_checkpoint(folder.checkpoint_path)
    try:
        model.load_state_dict(state["model"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"the checkpoint {folder.checkpoint_path} does not fit {name}: {reason}") from error


def check_finite(model_state: Mapping[str, Any]) -> None:
    """Raise NonFiniteError, naming it, if a floating-point entry of a model's state has a NaN or an infinity."""
    for name, value in model_state.items():
        array = value._array
        with on_device(value.device):
            finite = not is_floating(array.dtype) or bool(array_module(array).isfinite(array).all())
        if not finite:
            raise NonFiniteError(f"{name} of the model became NaN or infinite")


class Checkpointer(Callback):
    """Saves the run into its folder after each epoch, within an epoch every so often, and when training stops.

    Args:
        folder: of the run.
        interval: seconds after which a checkpoint is written within an epoch; 0 writes one at every step.
    """

    def __init__(self, folder: RunFolder, interval: float = 60.0) -> None:
        self.folder = folder
        self.interval = interval
        self._saved_at = time.monotonic()
        self._saved_state = (0, 0)

    def on_fit_start(self, trainer: Trainer) -> None:
        self._saved_at = time.monotonic()
        # A resumed trainer is where the file is, a new one at the beginning: either way there is nothing to save.
        self._saved_state = (trainer.epoch, trainer.step)

    def on_step_end(self, trainer: Trainer) -> None:
        if time.monotonic() - self._saved_at >= self.interval:
            self._save(trainer)

    def on_epoch_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self._save(trainer)
        self.folder.append_metrics(metrics)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._saved_state != (trainer.epoch, trainer.step):
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        save_checkpoint(self.folder.checkpoint_path, trainer)
        self._saved_at = time.monotonic()
        self._saved_state = (trainer.epoch, trainer.step)

    def describe_kept(self) -> str:
        """Which checkpoint the folder holds, in words, for the end of a message."""
        if not self.folder.checkpoint_path.exists():
            return "no checkpoint had been written yet"
        epoch, step = self._saved_state
        return f"the last checkpoint (step {step}, {epoch} finished {'epoch' if epoch == 1 else 'epochs'}) is kept"
