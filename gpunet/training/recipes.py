"""How a model is trained when nobody says otherwise."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run: SGD with momentum under a one-cycle learning rate (Smith and Topin 2018).

    The defaults are cifar_resnet20's on the bundled digits, chosen by cross-validation within the training images
    (``python -m benchmarks.digits --cross-validate``).

    Attributes:
        epochs: passes over the training set.
        batch_size: images per step.
        learning_rate: the peak of the cycle.
        momentum: of SGD.
        nesterov: Nesterov's momentum (Sutskever et al. 2013) instead of the classical one.
        weight_decay: L2 penalty, on every parameter.
        warmup: the share of the steps in which the learning rate rises to its peak.
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016).
        augment: whether training images are rotated, moved and zoomed at random, by the following.
        rotation: degrees, to either side.
        shift: share of the image's side, in each direction.
        zoom: share of the size, larger and smaller.

    Raises:
        ValueError: a setting out of its range.
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-3
    warmup: float = 0.3
    label_smoothing: float = 0.1
    augment: bool = True
    rotation: float = 15.0
    shift: float = 0.075
    zoom: float = 0.15

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if not 0.0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate: must be above 0 and finite, got {self.learning_rate}")
        if not 0.0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay: must not be negative, got {self.weight_decay}")
        for name in ("momentum", "warmup", "label_smoothing", "shift", "zoom"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name}: must lie in 0..1 (1 not included), got {getattr(self, name)}")
        if not 0.0 <= self.rotation <= 180.0:
            raise ValueError(f"rotation: must lie in 0..180 degrees, got {self.rotation}")

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, for a run's ``config.json``."""
        return asdict(self)

    def replace(self, **changes: Any) -> Recipe:
        """The same recipe with some settings changed."""
        return replace(self, **changes)


# Without normalisation a net bears smaller steps and less decay, and takes longer.
_RECIPES = {"lenet": Recipe(epochs=40, learning_rate=0.05, weight_decay=5e-4, label_smoothing=0.0)}


def recipe_for(model: str) -> Recipe:
    """The recipe of the model of that name."""
    return _RECIPES.get(model, Recipe())
