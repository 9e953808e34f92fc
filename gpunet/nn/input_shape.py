"""What a model says of its input: ``default_image_size``, the height and width of the images that it is made for.

The models of ``gpunet.models`` have it, and any model may set it. One that holds others has the first one's. A model of
sequences of numbers (N, T), int64, has a ``default_sequence_length`` instead: a T to show it with, as it takes any.
"""

from __future__ import annotations

from gpunet.nn.conv import Conv2d
from gpunet.nn.module import Module

__all__ = ["default_image_size", "default_input_shape", "default_sequence_length"]


def default_image_size(model: Module) -> int | None:
    """Height and width of the images that a model is made for; None if neither it nor what is in it says so."""
    for module in model.modules():
        size = module.__dict__.get("default_image_size")
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            return size
    return None


def default_sequence_length(model: Module) -> int | None:
    """Steps of the sequences of numbers that a model is shown with; None if it takes something else."""
    length = getattr(model, "default_sequence_length", None)
    return length if isinstance(length, int) and not isinstance(length, bool) and length > 0 else None


def default_input_shape(model: Module) -> tuple[int, ...] | None:
    """Of one sample: (C, H, W), with as many channels as the first convolution takes; of a model of sequences (T,)."""
    length = default_sequence_length(model)
    if length is not None:
        return (length,)
    size = default_image_size(model)
    if size is None:
        return None
    first = next((module for module in model.modules() if isinstance(module, Conv2d)), None)
    return (3 if first is None else first.in_channels or 3, size, size)
