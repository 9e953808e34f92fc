"""How models are trained: the settings of a run as plain data, kept beside the models they belong to."""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from gpunet.models._registry import list_models

__all__ = ["Recipe", "get_recipe", "list_recipes", "recipe_for", "register_recipe"]

SCHEDULES = ("one-cycle", "steps", "polynomial", "constant")


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run: SGD with momentum, its schedule, and what is done to the images.

    The defaults are cifar_resnet20's on the bundled digits: a one-cycle learning rate (Smith and Topin 2018) and a
    mild augmentation, chosen by cross-validation within the training images
    (``python -m benchmarks.digits --cross-validate``).

    Attributes:
        epochs: passes over the training set.
        batch_size: images per step.
        learning_rate: the highest.
        momentum: of SGD.
        nesterov: Nesterov's momentum (Sutskever et al. 2013) instead of the classical one.
        weight_decay: L2 penalty, on every parameter.
        schedule: of the learning rate. ``"one-cycle"`` rises and falls again; ``"steps"`` multiplies by ``decay`` at
            each of the ``milestones``; ``"polynomial"`` is (1 - t)^decay at the share t of the run; or ``"constant"``.
        warmup: of ``"one-cycle"``: the share of the steps in which the learning rate rises to its peak.
        milestones: of ``"steps"``: shares of the run, each above 0 and below 1.
        decay: factor or power of the schedule.
        warmup_learning_rate: where above 0, the learning rate before the training error falls below ``warmup_error``.
        warmup_error: share of wrong answers, as an average over about the last 50 steps.
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016).
        auxiliary_weight: of the losses of a network's auxiliary heads, where it has any.
        resize: pixels; images are scaled until their shorter side has that many. 0 leaves them as they are.
        crop: side of the part of the image that the network sees: a random one in training, the middle one
            otherwise. 0 is the whole image.
        crop_padding: pixels of black around the image before it is cropped at random (to its own size, if ``crop`` is
            0).
        flip: whether half of the training images are mirrored, left for right.
        colour: standard deviation of the shifts along the principal components of the colours (Krizhevsky et al.
            2012), in training. Images that are grey where they come to the network have none, and stay as they are.
        augment: whether training images are changed at random at all; False switches off all of the above but the
            crop, which is then the middle one, and of the following.
        rotation: degrees, to either side.
        shift: share of the image's side, in each direction.
        zoom: share of the size, larger and smaller.
        source: where the settings are from, and what differs.

    Raises:
        ValueError: a setting out of its range.
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-3
    schedule: str = "one-cycle"
    warmup: float = 0.3
    milestones: tuple[float, ...] = ()
    decay: float = 0.1
    warmup_learning_rate: float = 0.0
    warmup_error: float = 0.8
    label_smoothing: float = 0.1
    auxiliary_weight: float = 0.3
    resize: int = 0
    crop: int = 0
    crop_padding: int = 0
    flip: bool = False
    colour: float = 0.0
    augment: bool = True
    rotation: float = 15.0
    shift: float = 0.075
    zoom: float = 0.15
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if not 0.0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate: must be above 0 and finite, got {self.learning_rate}")
        for name in ("weight_decay", "decay", "warmup_learning_rate", "auxiliary_weight", "colour"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: must not be negative, got {getattr(self, name)}")
        for name in ("resize", "crop", "crop_padding"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative, got {getattr(self, name)}")
        for name in ("momentum", "warmup", "label_smoothing", "shift", "zoom"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name}: must lie in 0..1 (1 not included), got {getattr(self, name)}")
        if not 0.0 < self.warmup_error <= 1.0:
            raise ValueError(f"warmup_error: must lie in 0..1 (0 not included), got {self.warmup_error}")
        if not 0.0 <= self.rotation <= 180.0:
            raise ValueError(f"rotation: must lie in 0..180 degrees, got {self.rotation}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule: must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        object.__setattr__(self, "milestones", tuple(float(share) for share in self.milestones))
        if not all(0.0 < share < 1.0 for share in self.milestones):
            raise ValueError(f"milestones: must be shares of the run, above 0 and below 1, got {self.milestones}")

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, for a run's ``config.json``."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def replace(self, **changes: Any) -> Recipe:
        """The same recipe with some settings changed."""
        return replace(self, **changes)


# A paper's recipe has no more than the paper says: none of the defaults that were found on the digits.
PAPER = Recipe(
    nesterov=False,
    weight_decay=0.0,
    schedule="steps",
    label_smoothing=0.0,
    rotation=0.0,
    shift=0.0,
    zoom=0.0,
)

# What is done to ImageNet's images since Krizhevsky et al. 2012, and to CIFAR's since Lee et al. 2015.
IMAGENET = PAPER.replace(resize=256, crop=224, flip=True, colour=0.1)
CIFAR = PAPER.replace(crop_padding=4, flip=True)

# What is trained by when nobody says otherwise, and on the digits. Without normalisation a net bears smaller steps and
# less decay, and takes longer. Nets that do not take images as small as the digits see them scaled up.
_PLAIN = Recipe(epochs=40, learning_rate=0.01, weight_decay=5e-4, label_smoothing=0.0)
_DIGITS = {
    "lenet": _PLAIN.replace(learning_rate=0.05),
    "nin_cifar10": _PLAIN,
    "nin_imagenet": _PLAIN.replace(resize=64),
    "alexnet": _PLAIN.replace(resize=64),
    "alexnet2012": _PLAIN.replace(resize=67),
    "alexnet2012_grouped": _PLAIN.replace(resize=67),
    "googlenet_paper": _PLAIN.replace(resize=224),  # what the auxiliary heads need
    **{name: _PLAIN.replace(resize=32) for name in ("vgg11", "vgg11_lrn", "vgg13", "vgg16", "vgg16_c", "vgg19")},
    **{name: Recipe(resize=32) for name in ("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn", "googlenet")},
    **{name: Recipe(resize=32) for name in ("densenet121", "densenet161", "densenet169", "densenet201")},
}
_RECIPES: dict[str, dict[str, Recipe]] = {}


def register_recipe(name: str, recipe: Recipe, *models: str) -> None:
    """Keep a recipe for models.

    Args:
        name: ``"paper"``, or what else it is known by. The recipe that is used when none is asked for is called
            ``"default"``.
        recipe: the settings.
        models: names of registered models.

    Raises:
        ValueError: a model has one of that name.
    """
    for model in models:
        if name in _RECIPES.setdefault(model, {}):
            raise ValueError(f"{model} has a recipe named {name!r} already")
        _RECIPES[model][name] = recipe


for _model, _recipe in _DIGITS.items():
    register_recipe("default", _recipe, _model)


def list_recipes(model: str) -> list[str]:
    """The names of a model's recipes; ``"default"`` comes first."""
    return ["default", *sorted(set(_RECIPES.get(model, {})) - {"default"})]


def get_recipe(model: str, name: str = "default") -> Recipe:
    """The recipe of that name for the model of that name.

    Raises:
        ValueError: the model has no such recipe; the message lists those it has.
    """
    if name == "default":
        return _RECIPES.get(model, {}).get(name, Recipe())
    recipe = _RECIPES.get(model, {}).get(name)
    if recipe is None:
        if model not in list_models():
            close = difflib.get_close_matches(str(model).lower(), list_models(), n=3)
            raise ValueError(f"unknown model {model!r}" + (f"; did you mean {' or '.join(close)}?" if close else ""))
        raise ValueError(f"recipe: {model} has {', '.join(list_recipes(model))}, got {name!r}")
    return recipe


def recipe_for(model: str) -> Recipe:
    """The recipe by which the model of that name is trained when nobody says otherwise."""
    return get_recipe(model)
