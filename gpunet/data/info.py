"""What there is to know about a data set besides its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError

from ._checks import is_number, is_positive

__all__ = ["POLARITIES", "DatasetInfo"]

POLARITIES = ("light-on-dark", "dark-on-light")


@dataclass(frozen=True)
class DatasetInfo:
    """The description of an image data set: enough to prepare other pictures for a network trained on it.

    It is plain data; ``to_dict`` and ``from_dict`` take it through JSON unchanged.

    Attributes:
        name: what ``get_dataset`` finds it under, or the file it came from.
        classes: one name per class, in the order of the labels 0, 1, 2, ...
        input_shape: shape of one image, (C, H, W).
        mean: per channel, over all pixels of the training images.
        std: per channel, likewise (the population's, not the sample's).
        value_range: what black and white are in the images the data set returns.
        polarity: ``"light-on-dark"`` when strokes are brighter than what they are drawn on,
            ``"dark-on-light"`` when they are darker, None when the question has no meaning (photographs).
        ink_extent: the longer side of the drawing's bounding box, as a share of the image's side: how tightly
            to frame a picture. None when there is no drawing to frame.
        licence: of the data.
        source: where the data come from.
    """

    name: str
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    value_range: tuple[float, float] = (0.0, 1.0)
    polarity: str | None = None
    ink_extent: float | None = None
    licence: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        channels = _check_shape(self.input_shape)
        names: tuple[Any, ...] = self.classes
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError(f"classes: expected one name per class, got {self.classes!r}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != channels:
                raise ShapeError(f"{name}: expected one number per channel ({channels}), got {len(values)}")
            if not all(map(is_number, values)):
                raise ValueError(f"{name}: expected finite numbers, got {values}")
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std: must be positive, got {self.std}")
        ends: tuple[Any, ...] = self.value_range
        if len(ends) != 2 or not all(map(is_number, ends)) or not ends[0] < ends[1]:
            raise ValueError(f"value_range: expected (black, white) with black < white, got {ends}")
        if self.polarity is not None and self.polarity not in POLARITIES:
            raise ValueError(f"polarity: expected one of {', '.join(POLARITIES)} or None, got {self.polarity!r}")
        if self.ink_extent is not None and not (is_number(self.ink_extent) and 0 < self.ink_extent <= 1):
            raise ValueError(f"ink_extent: must be in (0, 1], got {self.ink_extent}")

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """(images - mean) / std per channel, float32, of images (..., C, H, W) in the value range."""
        mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (self.mean, self.std))
        return (np.asarray(images, np.float32) - mean) / std

    def to_dict(self) -> dict[str, Any]:
        """Everything, as what JSON can hold."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DatasetInfo:
        """What ``to_dict`` returned, checked.

        Raises:
            ValueError: a field is missing, unknown or of the wrong kind; the message names it.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"data set description: expected an object, got {type(values).__name__}")
        known = {field.name for field in fields(cls)}
        required = {"name", "classes", "input_shape", "mean", "std"}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"data set description: unknown field {unknown[0]!r}")
        if missing := sorted(required - set(values)):
            raise ValueError(f"data set description: field {missing[0]!r} is missing")
        checked: dict[str, Any] = {}
        for key, value in values.items():
            if key in ("name", "licence", "source"):
                if not isinstance(value, str):
                    raise ValueError(f"{key}: expected text, got {value!r}")
            elif key in ("classes", "input_shape", "mean", "std", "value_range"):
                if not isinstance(value, (list, tuple)):
                    raise ValueError(f"{key}: expected a list, got {value!r}")
                value = tuple(value)
            checked[key] = value
        return cls(**checked)


def _check_shape(shape: tuple[int, ...]) -> int:
    if len(shape) != 3 or not all(map(is_positive, shape)):
        raise ShapeError(f"input_shape: expected (C, H, W), three positive integers, got {tuple(shape)}")
    return shape[0]
