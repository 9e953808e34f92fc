"""From a few settings to a trainer: what ``gpunet train`` trains, and how a trained model is opened again."""

from __future__ import annotations

import copy
import inspect
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from os import PathLike
from typing import Any

import numpy as np

import gpunet.nn.functional as F
from gpunet import models
from gpunet._version import __version__
from gpunet.autograd import Tensor, empty, no_grad
from gpunet.backend.devices import META, Device
from gpunet.backend.errors import CheckpointError
from gpunet.backend.random import Generator, manual_seed
from gpunet.backend.threads import get_num_threads
from gpunet.data import DataLoader, DatasetInfo, ImageSplits
from gpunet.data.transforms import Compose, Normalize, RandomAffine, Transform
from gpunet.nn import Module
from gpunet.optim import SGD
from gpunet.optim.lr_scheduler import OneCycleLR
from gpunet.training.checkpoint import read_checkpoint
from gpunet.training.recipes import Recipe
from gpunet.training.run import RunFolder, RunFolderError
from gpunet.training.trainer import Trainer

# Evaluation keeps nothing for a backward pass, so its batches may be larger.
EVALUATION_BATCH_SIZE = 256


@dataclass(frozen=True)
class TrainingConfig:
    """All that a run depends on, as ``config.json`` holds it.

    Attributes:
        model: a name that ``gpunet.models.get_model`` knows.
        data: a name or file that ``gpunet.data.get_dataset`` knows.
        seed: of the weights, the order of the data, its augmentation and dropout.
        device: as given: ``"auto"`` is decided anew where the run goes on.
        recipe: how the model is trained.
    """

    model: str = "cifar_resnet20"
    data: str = "digits"
    seed: int = 0
    device: str = "auto"
    recipe: Recipe = field(default_factory=Recipe)

    def replace(self, **changes: Any) -> TrainingConfig:
        """The same settings with some changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return {
            "model": self.model,
            "data": self.data,
            "seed": self.seed,
            "device": self.device,
            "recipe": self.recipe.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "the settings") -> TrainingConfig:
        """The settings that ``to_dict`` made plain. Other keys are left aside.

        Args:
            where: named in errors, the file the values came from.

        Raises:
            RunFolderError: a setting is missing, of the wrong type or out of its range.
        """
        settings = _checked(cls, values, where, "")
        recipe = _checked(Recipe, settings["recipe"], where, "recipe.")
        try:
            settings["recipe"] = Recipe(**recipe)
        except ValueError as error:
            raise RunFolderError(f"{where}: recipe: {error}") from error
        return cls(**settings)


def _checked(kind: type[Any], values: Mapping[str, Any], where: str, prefix: str) -> dict[str, Any]:
    """The values of a dataclass's fields, each found and of its default's type."""
    defaults = kind()
    found = {}
    for entry in fields(kind):
        name = f"{prefix}{entry.name}"
        if entry.name not in values:
            raise RunFolderError(f"{where} has no {name!r}")
        value, wanted = values[entry.name], type(getattr(defaults, entry.name))
        if wanted is Recipe:
            wanted = dict
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            raise RunFolderError(f"{where}: {name!r} must be of type {wanted.__name__}, got {value!r}")
        found[entry.name] = value
    return found


def describe_run(config: TrainingConfig, splits: ImageSplits, device: Device) -> dict[str, Any]:
    """What ``config.json`` holds: the settings, the data set's description, and where the run began."""
    return {
        "gpunet": __version__,
        **config.to_dict(),
        "dataset": splits.info.to_dict(),
        "images": {"train": len(splits.train), "test": len(splits.test)},
        "environment": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "platform": platform.platform(),
            "device": str(device),
            "threads": get_num_threads(),
        },
    }


def read_settings(folder: RunFolder) -> tuple[TrainingConfig, DatasetInfo]:
    """The settings of a run and the description of its data set, from its ``config.json``.

    Raises:
        RunFolderError: the file cannot be read, or something in it is missing or wrong.
    """
    values = folder.read_config()
    where = str(folder.config_path)
    config = TrainingConfig.from_dict(values, where)
    try:
        info = DatasetInfo.from_dict(values.get("dataset", {}))
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{where}: 'dataset': {error}") from error
    return config, info


def build_model(name: str, info: DatasetInfo) -> Module:
    """A new model for the images and classes of a data set.

    Raises:
        ValueError: no model has that name, or it does not take images of this shape.
    """
    channels, height, width = info.input_shape
    arguments: dict[str, Any] = {"num_classes": info.num_classes, "in_channels": channels}
    # Only what is a model: the module has other attributes, and the name may come from an edited file.
    factory = getattr(models, name, None) if name in models.list_models() else None
    if factory is not None and "input_size" in inspect.signature(factory).parameters:
        arguments["input_size"] = max(height, width)
    model = models.get_model(name, **arguments)
    # Shapes alone: a model that does not take these images says so before anything is trained or written.
    rehearsal = copy.deepcopy(model).to(META).eval()
    with no_grad():
        rehearsal(empty(2, channels, height, width, device=META))
    return model


def training_transform(recipe: Recipe, info: DatasetInfo) -> Compose:
    """What is done to each training image: the recipe's random changes, then the normalisation."""
    steps: list[Transform] = []
    if recipe.augment:
        black, white = info.value_range
        steps.append(
            RandomAffine(
                recipe.rotation,
                translate=(recipe.shift, recipe.shift),
                scale=(1 - recipe.zoom, 1 + recipe.zoom),
                interpolation="bilinear",
                fill=white if info.polarity == "dark-on-light" else black,
            )
        )
    return Compose([*steps, Normalize(info.mean, info.std)])


def prepare(config: TrainingConfig, splits: ImageSplits, device: Device) -> Trainer:
    """The trainer of a run, at its beginning: model, optimizer, schedule and loaders, all from the seed.

    Args:
        config: the settings.
        splits: the data set; the transforms of its parts are set.
        device: where to train.

    Raises:
        ValueError: the model does not take the data set's images.
    """
    recipe, info = config.recipe, splits.info
    manual_seed(config.seed)
    model = build_model(config.model, info).to(device)
    splits.train.transform = training_transform(recipe, info)
    splits.test.transform = Normalize(info.mean, info.std)
    train_loader: DataLoader[Any] = DataLoader(
        splits.train,
        batch_size=recipe.batch_size,
        shuffle=True,
        generator=Generator(config.seed),
        # A last batch of one image has no variance to normalise by.
        drop_last=len(splits.train) > recipe.batch_size and len(splits.train) % recipe.batch_size == 1,
    )
    test_loader: DataLoader[Any] = DataLoader(splits.test, batch_size=EVALUATION_BATCH_SIZE)
    optimizer = SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
    scheduler = OneCycleLR(
        optimizer,
        max_lr=recipe.learning_rate,
        total_steps=recipe.epochs * len(train_loader),
        pct_start=recipe.warmup,
        cycle_momentum=False,
    )

    def loss_function(logits: Tensor, labels: Tensor) -> Tensor:
        # Smoothing is a means of training; what is measured on the test images is the plain loss.
        smoothing = recipe.label_smoothing if model.training else 0.0
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)

    return Trainer(
        model,
        optimizer,
        loss_function,
        train_loader,
        test_loader,
        scheduler=scheduler,
        device=device,
        # Not where the data lies and where the run goes on: both may change.
        settings={
            "model": config.model,
            "seed": config.seed,
            **{f"recipe.{name}": value for name, value in recipe.to_dict().items()},
        },
    )


def load_model(run: str | PathLike[str], device: Device | str = "cpu") -> Module:
    """The trained model of a run folder, in evaluation mode.

    It takes images normalised as the data set's were: ``DatasetInfo.normalize`` of ``read_settings(...)``.

    Args:
        run: the folder that ``gpunet train`` made.
        device: where the model shall be.

    Raises:
        RunFolderError: ``run`` is not a run folder, or it has no checkpoint yet.
        CheckpointError: the checkpoint is damaged or belongs to another model.
    """
    folder = RunFolder.open(run)
    config, info = read_settings(folder)
    if not folder.checkpoint_path.exists():
        raise RunFolderError(
            f"the run {folder.path} has no checkpoint yet; go on with: gpunet train --resume {folder.path} "
            "(if its loss became NaN or infinite, start a new run with a lower --lr instead)"
        )
    try:
        model = build_model(config.model, info)
    except ValueError as error:
        raise RunFolderError(f"{folder.config_path}: {error}") from error
    state = read_checkpoint(folder.checkpoint_path)
    try:
        model.load_state_dict(state["model"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"the checkpoint {folder.checkpoint_path} does not fit {config.model}: {reason}"
        ) from error
    return model.to(device).eval()
