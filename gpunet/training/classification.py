"""From a few settings to a trainer: what ``gpunet train`` trains, and how a trained model is opened again."""

from __future__ import annotations

import copy
import inspect
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from os import PathLike
from typing import Any

import numpy as np

import gpunet.nn.functional as F
from gpunet import models
from gpunet._version import __version__
from gpunet.autograd import Tensor, empty, no_grad
from gpunet.backend.devices import META, Device
from gpunet.backend.random import Generator, manual_seed
from gpunet.backend.threads import get_num_threads
from gpunet.data import DataLoader, DatasetInfo, ImageSplits
from gpunet.data._random import loading
from gpunet.data.transforms import (
    CenterCrop,
    Compose,
    Grayscale,
    Normalize,
    PCALighting,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    Resize,
    Transform,
)
from gpunet.models.recipes import Recipe
from gpunet.nn import Module
from gpunet.optim import SGD
from gpunet.training.checkpoint import load_trained_weights, require_checkpoint
from gpunet.training.run import LANGUAGE, RunFolder, RunFolderError
from gpunet.training.schedules import make_schedule
from gpunet.training.trainer import Trainer

# Evaluation keeps nothing for a backward pass, so its batches may be larger.
EVALUATION_BATCH_SIZE = 256
# Runs that began before recipes had them have their default values.
_LATER_SETTINGS = {
    "auxiliary_weight",
    "colour",
    "crop",
    "crop_padding",
    "decay",
    "flip",
    "milestones",
    "resize",
    "schedule",
    "source",
    "warmup_error",
    "warmup_learning_rate",
}


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
        if entry.name not in values and kind is Recipe and entry.name in _LATER_SETTINGS:
            continue
        if entry.name not in values:
            raise RunFolderError(f"{where} has no {name!r}")
        value, wanted = values[entry.name], type(getattr(defaults, entry.name))
        if wanted is Recipe:
            wanted = dict
        if wanted is float and type(value) is int:
            value = float(value)
        if wanted is tuple and type(value) is list and all(type(item) in (int, float) for item in value):
            value = tuple(value)
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
        RunFolderError: the file cannot be read, or something in it is missing or wrong; or the run is one of a
            language model.
    """
    if folder.task == LANGUAGE:
        raise RunFolderError(
            f"the run {folder.path} is one of a language model, not of a classifier; gpunet sample {folder.path} "
            "lets it write"
        )
    values = folder.read_config()
    where = str(folder.config_path)
    config = TrainingConfig.from_dict(values, where)
    try:
        info = DatasetInfo.from_dict(values.get("dataset", {}))
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{where}: 'dataset': {error}") from error
    return config, info


def build_model(name: str, info: DatasetInfo, recipe: Recipe | None = None) -> Module:
    """A new model for the images and classes of a data set.

    Args:
        name: the model's.
        info: the data set's description.
        recipe: says what size the images have when they come to the model, where that is not the data set's.

    Raises:
        ValueError: no model has that name, or it does not take images of this shape.
    """
    recipe = recipe or Recipe()
    channels, height, width = model_input_size(name, info, recipe)
    arguments: dict[str, Any] = {"num_classes": info.num_classes}
    accepted = _arguments_of(name)
    if "in_channels" in accepted:
        arguments["in_channels"] = channels
    if "input_size" in accepted:
        arguments["input_size"] = max(height, width)
    model = models.get_model(name, **arguments)
    # Shapes alone: a model that does not take these images says so before anything is trained or written.
    rehearsal = _placed(copy.deepcopy(model), META).eval()
    with no_grad():
        rehearsal(empty(2, channels, height, width, device=META))
    return model


def model_input_size(name: str, info: DatasetInfo, recipe: Recipe) -> tuple[int, int, int]:
    """(C, H, W) of a data set's images as they come to a model: see ``evaluation_transform``."""
    channels = 3 if info.input_shape[0] == 1 and _is_colour_model(name) else info.input_shape[0]
    return channels, *_image_size(recipe, info)


def _placed(model: Module, device: Device | str) -> Module:
    """All of a model on one device, one that is made to spread over several too."""
    return model.to((device,) * model._device_span if model._device_span > 1 else device)


def _arguments_of(name: str) -> Mapping[str, inspect.Parameter]:
    """What the model's function takes; nothing where there is no such model."""
    # Only what is a model: the module has other attributes, and the name may come from an edited file.
    factory = getattr(models, name, None) if name in models.list_models() else None
    return {} if factory is None else inspect.signature(factory).parameters


def _is_colour_model(name: str) -> bool:
    """Whether the model takes RGB images alone."""
    accepted = _arguments_of(name)
    return bool(accepted) and "in_channels" not in accepted


def _image_size(recipe: Recipe, info: DatasetInfo) -> tuple[int, int]:
    """(H, W) of the images as they come to the model."""
    if recipe.crop:
        return recipe.crop, recipe.crop
    height, width = info.input_shape[1:]
    return Resize(recipe.resize).output_size(height, width) if recipe.resize else (height, width)


def training_transform(recipe: Recipe, info: DatasetInfo, model: str = "") -> Compose:
    """What is done to each training image: the recipe's random changes, then the normalisation."""
    black, white = info.value_range
    ground = white if info.polarity == "dark-on-light" else black
    steps: list[Transform] = [Resize(recipe.resize)] if recipe.resize else []
    if not recipe.augment:
        return Compose([*steps, *_last_steps(recipe, info, model)])
    if recipe.rotation or recipe.shift or recipe.zoom:
        steps.append(
            RandomAffine(
                recipe.rotation,
                translate=(recipe.shift, recipe.shift),
                scale=(1 - recipe.zoom, 1 + recipe.zoom),
                interpolation="bilinear",
                fill=ground,
            )
        )
    if recipe.crop or recipe.crop_padding:
        steps.append(RandomCrop(_image_size(recipe, info), padding=recipe.crop_padding or None, fill=ground))
    if recipe.flip:
        steps.append(RandomHorizontalFlip())
    # Grey images have no colours to shift; those that become RGB for the model's sake get some as its own would.
    grey = info.input_shape[0] == 1 and not _is_colour_model(model)
    colour = [PCALighting(recipe.colour * (white - black))] if recipe.colour and not grey else []
    return Compose([*steps, *_last_steps(recipe.replace(crop=0), info, model, colour)])


def evaluation_transform(recipe: Recipe, info: DatasetInfo, model: str = "") -> Compose:
    """What is done to every other image.

    Scaled to the recipe's size and cut to its middle; a grey image becomes RGB for a model that takes nothing else;
    normalised.

    Args:
        recipe: the run's.
        info: the data set's description.
        model: the model's name.
    """
    steps: list[Transform] = [Resize(recipe.resize)] if recipe.resize else []
    return Compose([*steps, *_last_steps(recipe, info, model)])


def _last_steps(recipe: Recipe, info: DatasetInfo, model: str, colour: Sequence[Transform] = ()) -> list[Transform]:
    steps: list[Transform] = [CenterCrop(recipe.crop)] if recipe.crop else []
    if info.input_shape[0] == 1 and _is_colour_model(model):
        steps.append(Grayscale(3))
    return [*steps, *colour, Normalize(info.mean, info.std)]


def prepare(config: TrainingConfig, splits: ImageSplits, device: Device) -> Trainer:
    """The trainer of a run, at its beginning: model, optimizer, schedule and loaders, all from the seed.

    Args:
        config: the settings.
        splits: the data set; the transforms of its parts are set.
        device: where to train.

    Raises:
        ValueError: the model does not take the data set's images, or the recipe's changes do not go with them.
    """
    recipe, info = config.recipe, splits.info
    manual_seed(config.seed)
    model = _placed(build_model(config.model, info, recipe), device)
    splits.train.transform = training_transform(recipe, info, config.model)
    splits.test.transform = evaluation_transform(recipe, info, config.model)
    # A recipe that does not go with the images says so before anything is written. The pass keeps this from drawing
    # random numbers that are somebody else's.
    with loading(config.seed, 0):
        for part in (splits.train, splits.test):
            try:
                _ = part[0] if len(part) else None
            except (ValueError, TypeError) as error:
                raise ValueError(f"its recipe does not go with them: {error}") from error
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
    scheduler = make_schedule(recipe, optimizer, recipe.epochs * len(train_loader))

    def loss_function(outputs: Any, labels: Tensor) -> Tensor:
        # Smoothing is a means of training; what is measured on the test images is the plain loss.
        smoothing = recipe.label_smoothing if model.training else 0.0
        logits, *others = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        for auxiliary in others:
            if auxiliary is not None:
                weighted = F.cross_entropy(auxiliary, labels, label_smoothing=smoothing) * recipe.auxiliary_weight
                loss = loss + weighted
        return loss

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

    It takes images prepared as the data set's were: ``evaluation_transform`` of what ``read_settings(...)`` returns.

    Args:
        run: the folder that ``gpunet train`` made.
        device: where the model shall be.

    Raises:
        RunFolderError: ``run`` is not a run folder, or it has no checkpoint yet.
        CheckpointError: the checkpoint is damaged or belongs to another model.
    """
    folder = RunFolder.open(run)
    config, info = read_settings(folder)
    require_checkpoint(folder)
    try:
        model = build_model(config.model, info, config.recipe)
    except ValueError as error:
        raise RunFolderError(f"{folder.config_path}: {error}") from error
    load_trained_weights(folder, model, config.model)
    return _placed(model, device).eval()
