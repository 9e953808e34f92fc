"""Checks of layers' arguments, so that a layer that cannot work is refused when it is made."""

from __future__ import annotations

import inspect
import numbers
from typing import Any

import numpy as np

from gpunet.nn.module import Module

__all__ = [
    "call_mismatch",
    "check_eps",
    "check_flag",
    "check_int",
    "check_number",
    "check_pair",
    "check_probability",
    "check_sizes",
]


def call_mismatch(function: Any, *args: Any, **kwargs: Any) -> str:
    """Whether a module or function can be called with so many arguments, and ones of these names.

    Returns:
        Nothing if it can, or if it does not say what it takes; else what is to be said of it: ``Linear takes (input)``.
    """
    forward = getattr(function, "forward", function) if isinstance(function, Module) else function
    try:
        signature = inspect.signature(forward)
    except (TypeError, ValueError):  # of a function in C
        return ""
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        name = getattr(function, "__name__", type(function).__name__)
        plain = [one.replace(annotation=one.empty, default=one.empty) for one in signature.parameters.values()]
        return f"{name} takes {inspect.Signature(plain)}"
    return ""


def check_int(layer: str, name: str, value: Any, minimum: int) -> int:
    """The value as an int of at least ``minimum``.

    Raises:
        TypeError: not an integer.
        ValueError: too small.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{layer}: {name} must be an integer, got {value!r}")
    if value < minimum:
        raise ValueError(f"{layer}: {name} must be at least {minimum}, got {value}")
    return int(value)


def check_number(layer: str, name: str, value: Any) -> Any:
    """The value, which must be a number, so that it can be compared with a bound.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{layer}: {name} must be a number, got {value!r}")
    return value


def check_eps(layer: str, value: Any, name: str = "eps") -> Any:
    """What is added to a variance: a number that is not negative.

    Raises:
        TypeError: no number.
        ValueError: a negative one, NaN.
    """
    if not check_number(layer, name, value) >= 0:
        raise ValueError(f"{layer}: {name} must not be negative, got {value}")
    return value


def check_probability(layer: str, name: str, value: Any) -> Any:
    """The value, which must be a number from 0 to 1.

    Raises:
        TypeError: no number.
        ValueError: another one, NaN.
    """
    if not 0 <= check_number(layer, name, value) <= 1:
        raise ValueError(f"{layer}: {name} must be between 0 and 1, got {value}")
    return value


def check_pair(layer: str, name: str, value: Any, minimum: int) -> tuple[int, int]:
    """An integer for both directions, or a pair (height, width), as a pair.

    Raises:
        TypeError: neither.
        ValueError: an integer too small, or a number of them other than two.
    """
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{layer}: {name} must be an integer or a pair (height, width), got {value!r}")
        return (check_int(layer, name, value[0], minimum), check_int(layer, name, value[1], minimum))
    both = check_int(layer, name, value, minimum)
    return both, both


def check_sizes(layer: str, name: str, value: Any, dims: int, minimum: int) -> tuple[int, ...]:
    """An integer for every spatial dimension, or one for each, as a tuple of ``dims``.

    Raises:
        TypeError: neither.
        ValueError: an integer too small, or another number of them.
    """
    if dims == 2:
        return check_pair(layer, name, value, minimum)
    if isinstance(value, (tuple, list)):
        if len(value) != dims:
            raise ValueError(f"{layer}: {name} must be an integer or a sequence of {dims}, got {value!r}")
        return tuple(check_int(layer, name, one, minimum) for one in value)
    return (check_int(layer, name, value, minimum),) * dims


def check_flag(layer: str, name: str, value: Any) -> bool:
    """The value, which must be True or False.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{layer}: {name} must be True or False, got {value!r}")
    return bool(value)
