"""What the commands on a model by name share: the size of its input, and what its function is given for it."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from gpunet import models
from gpunet.cli.console import UsageError

INPUT_HELP = (
    "size of one image (default: what the model is made for); a model by name that takes in_channels= or input_size= "
    "is made for these, any other must take such images as it is. Of a model of sequences: the number of steps"
)


def sizes(text: str) -> tuple[int, ...]:
    """``3,224,224``: channels, height and width; or ``64``: steps of a sequence."""
    try:
        numbers = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3) or min(numbers) < 1:
        raise argparse.ArgumentTypeError(
            "expected sizes of at least 1 such as 3,224,224 (channels, height, width), or 64 (steps of a sequence), "
            f"without the batch, got {text!r}"
        )
    return numbers


def check_sizes(name: str, size: tuple[int, ...] | None, sequence: bool) -> None:
    """Refuse the sizes of an image for a model of sequences, and steps for one of images.

    Raises:
        UsageError: the sizes are those of another kind of input.
    """
    if size is None or (len(size) == 1) is sequence:
        return
    if sequence:
        raise UsageError(f"argument --input: {name} takes sequences, expected a number of steps such as 64")
    raise UsageError(f"argument --input: {name} takes images, expected channels, height and width such as 3,224,224")


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
    if name in models.list_models():
        check_sizes(name, size, name in models.list_models("sequence"))
    if size is not None and len(size) == 3 and name in models.list_models():
        accepted = inspect.signature(getattr(models, name)).parameters
        if "in_channels" in accepted:
            options["in_channels"] = size[0]
        if "input_size" in accepted:
            options["input_size"] = max(size[1:])
    return options
