"""Numbers and tensors as parameters that broadcast, and probabilities as logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.autograd import Tensor, tensor
from gpunet.autograd.types import finfo
from gpunet.ops.base import require_floating
from gpunet.ops.dtypes import get_default_dtype
from gpunet.ops.elementwise import broadcast_shapes

__all__ = ["broadcast_parameters", "clamped_probabilities", "one_of", "shape_of"]


def broadcast_parameters(distribution: str, **parameters: Any) -> tuple[Tensor, ...]:
    """Parameters as tensors of one shape; numbers take the dtype and device of the first tensor.

    Raises:
        TypeError: neither a number nor a tensor.
        DTypeError: a tensor of integers.
        ShapeError: shapes that do not broadcast.
    """
    given = [value for value in parameters.values() if isinstance(value, Tensor)]
    dtype, device = (given[0].dtype, given[0].device) if given else (get_default_dtype(), None)
    found = []
    for name, value in parameters.items():
        if isinstance(value, Tensor):
            require_floating(distribution, name, value)
            found.append(value)
        elif isinstance(value, (int, float, np.number)):
            found.append(tensor(value, dtype=dtype, device=device))
        else:
            raise TypeError(f"{distribution}: {name} must be a number or a Tensor, got {type(value).__name__}")
    shape = broadcast_shapes(distribution, *(tuple(parameter.shape) for parameter in found))
    return tuple(parameter.expand(shape) for parameter in found)


def one_of(distribution: str, probs: Any, logits: Any) -> tuple[str, Any]:
    """The one of two parameters that is given: its name and itself.

    Raises:
        ValueError: both or neither.
    """
    if (probs is None) == (logits is None):
        given = "neither" if probs is None else "both"
        raise ValueError(f"{distribution}: one of probs and logits must be given, got {given}")
    return ("logits", logits) if probs is None else ("probs", probs)


def clamped_probabilities(probs: Tensor) -> Tensor:
    """Probabilities whose logarithms, and those of what they lack of 1, are finite."""
    eps = finfo(probs.dtype).eps
    return probs.clamp(eps, 1 - eps)


def shape_of(distribution: str, what: str, shape: Any) -> tuple[int, ...]:
    """A shape given as a sequence of sizes.

    Raises:
        TypeError: something else.
    """
    if isinstance(shape, (str, Tensor)) or not hasattr(shape, "__iter__"):
        raise TypeError(f"{distribution}: {what} must be a sequence of sizes, got {shape!r}")
    return tuple(int(size) for size in shape)
