"""What ``gpunet train`` asks of what it trains."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gpunet.cli.console import UsageError
from gpunet.training import Callback, RunFolder, Trainer

__all__ = ["Kept", "Task", "given", "refuse_changes", "refuse_options"]

# An option, what was given for it, and what the run has.
Kept = tuple[str, Any, Any]


class Task(Protocol):
    """A run to be trained: a classifier of images, or a language model.

    Attributes:
        trainer: at the beginning of the run when the task is made.
        settings: what the run's ``config.json`` holds.
        epochs: of the whole run.
        title: what is trained on what.
        folder_name: how a folder for the run is called, up to the time.
        plan: how much there is to do, as a line; empty where that goes without saying.
        resume_options: what is to be given besides ``--resume RUN`` for the run to go on.
    """

    settings: Mapping[str, Any]
    epochs: int
    title: str
    folder_name: str
    plan: str
    resume_options: str

    @property
    def trainer(self) -> Trainer: ...

    def introduce(self) -> str:
        """The first line: what is trained on what, and where."""

    def describe_epoch(self, metrics: Mapping[str, float]) -> str:
        """What the line of an epoch says besides the loss."""

    def callbacks(self) -> Sequence[Callback]:
        """What else is shown."""

    def result(self) -> dict[str, Any]:
        """What ``--json`` prints, but for what all runs have; a ``warning`` among it is said to everybody."""

    def conclude(self, result: Mapping[str, Any], folder: RunFolder) -> tuple[str, list[tuple[str, str]]]:
        """The result as the beginning of a sentence, and what can be done now: (purpose, command) pairs."""


def given(**values: Any) -> dict[str, Any]:
    """The values that were given: those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def refuse_options(arguments: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """Raise UsageError if one of these options was given: they are for what is not trained here."""
    for name in names:
        if getattr(arguments, name.replace("-", "_")) is not None:
            raise UsageError(f"argument --{name}: {reason}")


def refuse_changes(path: Any, options: Sequence[Kept]) -> None:
    """Raise UsageError if an option was given with another value than the run's."""
    for option, value, kept in options:
        if value is not None and value != kept:
            raise UsageError(f"{option} {value} does not go with --resume: the run in {path} has {kept}")
