"""``gpunet train`` for classifiers of images."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpunet.cli.arguments import usable_device
from gpunet.cli.console import UsageError, close_matches
from gpunet.cli.train_task import given, refuse_changes, refuse_options
from gpunet.data import get_dataset
from gpunet.models import list_models
from gpunet.training import (
    Callback,
    RunFolder,
    TrainingConfig,
    describe_run,
    get_recipe,
    prepare,
    read_settings,
)

__all__ = ["OPTIONS", "ImageTask"]

#: Options that say nothing to a language model.
OPTIONS = ("data", "recipe", "augment")


class ImageTask:
    """A classifier of images; see ``Task``.

    Args:
        config: the settings.
        data_origin, device_origin: where the data set's and the device's name were given, for errors.
    """

    def __init__(
        self, config: TrainingConfig, data_origin: str = "argument --data", device_origin: str = "argument --device"
    ) -> None:
        known = list_models()
        if config.model not in known:
            raise UsageError(f"unknown model {config.model!r}{close_matches(config.model, known)}")
        device = usable_device(config.device, device_origin)
        try:
            splits = get_dataset(config.data)
        except (OSError, ValueError) as error:
            raise UsageError(f"{data_origin}: {error}") from error
        try:
            self.trainer = prepare(config, splits, device)
        except ValueError as error:
            raise UsageError(f"the model {config.model} does not take the images of {config.data}: {error}") from error
        self.config = config
        self.settings: Mapping[str, Any] = describe_run(config, splits, device)
        self.epochs = config.recipe.epochs
        self.title = f"{config.model} on {config.data}"
        self.folder_name = f"{config.model}-{Path(config.data).stem}"
        self.plan = self.resume_options = ""

    @classmethod
    def new(cls, arguments: argparse.Namespace, others: Sequence[str]) -> ImageTask:
        """From the command's arguments.

        Args:
            arguments: parsed.
            others: options that say nothing to a classifier.
        """
        values = given(model=arguments.model, data=arguments.data, seed=arguments.seed, device=arguments.device)
        if arguments.data is not None:
            values["data"] = _data_setting(arguments.data)
        config = TrainingConfig(**values)
        if config.model in list_models():
            refuse_options(arguments, others, f"is for models of texts, not for {config.model}")
        try:
            recipe = get_recipe(config.model, "default" if arguments.recipe is None else arguments.recipe)
        except ValueError as error:
            raise UsageError(
                f"argument --{error}" if arguments.recipe is not None and config.model in list_models() else str(error)
            ) from error
        changes = given(
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            learning_rate=arguments.lr,
            weight_decay=arguments.weight_decay,
            augment=arguments.augment,
        )
        return cls(config.replace(recipe=recipe.replace(**changes)))

    @classmethod
    def settings_of(cls, arguments: argparse.Namespace, folder: RunFolder, others: Sequence[str]) -> TrainingConfig:
        """The settings of a run to be resumed, which the arguments may repeat and not change."""
        config, _ = read_settings(folder)
        if arguments.recipe is not None:
            raise UsageError("--recipe does not go with --resume: a resumed run keeps its settings")
        refuse_options(arguments, others, f"is for models of texts; the run in {folder.path} has {config.model}")
        data = None if arguments.data is None else _data_setting(arguments.data)
        refuse_changes(
            folder.path,
            [
                ("--model", arguments.model, config.model),
                ("--data", data, config.data),
                ("--epochs", arguments.epochs, config.recipe.epochs),
                ("--batch-size", arguments.batch_size, config.recipe.batch_size),
                ("--lr", arguments.lr, config.recipe.learning_rate),
                ("--weight-decay", arguments.weight_decay, config.recipe.weight_decay),
                ("--augment", arguments.augment, config.recipe.augment),
                ("--seed", arguments.seed, config.seed),
            ],
        )
        return config

    @classmethod
    def resumed(cls, arguments: argparse.Namespace, folder: RunFolder, config: TrainingConfig) -> ImageTask:
        """A run to be resumed. What was not given again comes from the file, and may have been edited there."""
        data_origin, device_origin = (
            option if value is not None else f"{folder.config_path}: {name!r}"
            for option, value, name in (
                ("argument --data", arguments.data, "data"),
                ("argument --device", arguments.device, "device"),
            )
        )
        return cls(config, data_origin, device_origin)

    def introduce(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.trainer.model.parameters())
        images = self.settings["images"]
        sizes = f"{images['train']:,} training and {images['test']:,} test images"
        config = self.config
        return (
            f"Training {config.model} ({parameters:,} parameters) on {config.data} ({sizes}) on {self.trainer.device}."
        )

    def describe_epoch(self, metrics: Mapping[str, float]) -> str:
        return f"train {metrics['train_accuracy'] * 100:6.2f} %  test {metrics['test_accuracy'] * 100:6.2f} %"

    def callbacks(self) -> Sequence[Callback]:
        return ()

    def result(self) -> dict[str, Any]:
        last = self.trainer.history[-1] if self.trainer.history else {}
        names = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
        return {"data": self.config.data, **{name: last.get(name) for name in names}}

    def conclude(self, result: Mapping[str, Any], folder: RunFolder) -> tuple[str, list[tuple[str, str]]]:
        load = f"from gpunet.training import load_model; model = load_model({str(folder.path)!r})"
        return f"Test accuracy {result['test_accuracy'] * 100:.2f} %", [
            ("classify images", f"gpunet predict {shlex.quote(str(folder.path))} image.png"),
            ("use in Python", load),
        ]


def _data_setting(data: str) -> str:
    """A file by its full path: the run may be resumed from another folder."""
    return os.path.abspath(data) if data.endswith(".npz") else data
