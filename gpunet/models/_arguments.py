"""Checks of the arguments that the networks have in common."""

from __future__ import annotations

from typing import Any

__all__ = ["check_probability", "scaled"]


def check_probability(network: str, name: str, value: Any) -> float:
    """The value as a float between 0 and 1.

    Raises:
        TypeError: no number.
        ValueError: out of that range.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{network}: {name} must be a number, got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{network}: {name} must be between 0 and 1, got {value}")
    return float(value)


def scaled(network: str, channels: int, width: Any) -> int:
    """A number of channels or units in a network of another width: at least 1.

    Raises:
        TypeError: the width is no number.
        ValueError: it is not positive.
    """
    if isinstance(width, bool) or not isinstance(width, (int, float)):
        raise TypeError(f"{network}: width must be a number, got {width!r}")
    if not 0 < width < float("inf"):
        raise ValueError(f"{network}: width must be positive, got {width}")
    return max(1, round(channels * width))
