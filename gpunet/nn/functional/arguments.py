"""Arguments that many functions share: integers or pairs of them, images with or without a batch."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gpunet.autograd import Tensor

__all__ = ["IntPair", "extents", "images", "is_integer", "name_wrong_types", "pair"]

Function = TypeVar("Function", bound=Callable[..., Any])

IntPair = int | Sequence[int]


def is_integer(value: Any) -> bool:
    """Whether a value counts as an integer: not a bool, and not a float."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


def extents(op: str, name: str, value: Any, dims: int) -> tuple[int, ...]:
    """One integer for every spatial dimension, or one for each."""
    if is_integer(value):
        return (value.__index__(),) * dims
    if isinstance(value, Sequence) and len(value) in (1, dims) and all(map(is_integer, value)):
        return tuple(part.__index__() for part in (value if len(value) == dims else [*value] * dims))
    wanted = "an integer or a sequence of 1" if dims == 1 else f"an integer or {dims} of them"
    raise TypeError(f"{op}: {name} must be {wanted}, got {value!r}")


def pair(name: str, value: Any) -> tuple[int, int]:
    """One integer for both spatial dimensions, or one for each."""
    if hasattr(value, "__index__") and not isinstance(value, bool):
        return value.__index__(), value.__index__()
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) in (1, 2):
        first, second = value[0], value[-1]
        if hasattr(first, "__index__") and hasattr(second, "__index__"):
            return first.__index__(), second.__index__()
    raise TypeError(f"{name}: expected an integer or a pair of integers, got {value!r}")


def images(op: str, input: Tensor) -> tuple[Tensor, bool]:
    """A batch of images, and whether the batch dimension was added."""
    if input.ndim == 3:
        return input.unsqueeze(0), True
    return input, False


def name_wrong_types(function: Function) -> Function:
    """The function, with an error that names the argument where something else was given for a Tensor.

    Nothing is looked at unless it fails.
    """
    name = function.__name__
    wanted = {
        parameter.name: "None" in parameter.annotation
        for parameter in inspect.signature(function).parameters.values()
        if parameter.annotation in ("Tensor", "Tensor | None")
    }

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (AttributeError, TypeError):
            given = inspect.signature(function).bind_partial(*args, **kwargs).arguments
            for argument, optional in wanted.items():
                value = given.get(argument)
                if argument in given and not isinstance(value, Tensor) and not (optional and value is None):
                    raise TypeError(f"{name}: {argument} must be a Tensor, got {type(value).__name__}") from None
            raise

    call.__module__ = "gpunet.nn.functional"  # where it is found, so that a layer that holds it can be pickled
    return call  # type: ignore[return-value]
