"""Checks of arguments, each with an error that names the argument and the rule."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["check_count", "is_number", "is_positive", "length_of"]


def is_number(value: Any) -> bool:
    """Whether this is a finite real number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_positive(value: Any) -> bool:
    """Whether this is an integer, and above zero."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_count(name: str, value: Any) -> int:
    """A whole number, zero or more."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    number: int = value.__index__()
    if number < 0:
        raise ValueError(f"{name}: must not be negative, got {number}")
    return number


def length_of(name: str, value: Any) -> int:
    """``len(value)``, or a TypeError that names the argument."""
    if not hasattr(value, "__len__"):
        raise TypeError(f"{name}: needs a length, which {type(value).__name__} does not have")
    return len(value)
