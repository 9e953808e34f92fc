"""What the commands on a model by name share: the size of its input, and what its function is given for it."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from gpunet import models

INPUT_HELP = (
    "size of one image (default: what the model is made for); a model by name that takes in_channels= or input_size= "
    "is made for these, any other must take such images as it is"
)


def sizes(text: str) -> tuple[int, ...]:
    """``3,224,224``: channels, height and width."""
    try:
        numbers = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3 or min(numbers) < 1:
        raise argparse.ArgumentTypeError(
            f"expected sizes of at least 1 such as 3,224,224 (channels, height, width), got {text!r}"
        )
    return numbers


def model_options(name: str, size: tuple[int, ...] | None, num_classes: int | None) -> dict[str, Any]:
    """What a model's function is given for ``--input`` and ``--num-classes``.

    Args:
        name: the model's; one that no model has takes nothing.
        size: (C, H, W). It decides ``in_channels`` and ``input_size`` where the function names them; a model that does
            not take images of this size says so itself, when it runs.
        num_classes: None for the model's own.
    """
    options: dict[str, Any] = {}
    if num_classes is not None:
        options["num_classes"] = num_classes
    if size is not None and name in models.list_models():
        accepted = inspect.signature(getattr(models, name)).parameters
        if "in_channels" in accepted:
            options["in_channels"] = size[0]
        if "input_size" in accepted:
            options["input_size"] = max(size[1:])
    return options
