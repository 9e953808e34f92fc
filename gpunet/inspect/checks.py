"""Checks of what pictures are drawn from, each with an error that names the argument and the rule."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.autograd import Tensor
from gpunet.backend.errors import ShapeError

__all__ = ["check_numbers", "finite_number", "number_array"]

# What is larger cannot be squared in float64, and no picture shows it.
LARGEST = 1e100


def number_array(name: str, value: Any) -> np.ndarray:
    """Real numbers as float64, of a Tensor, an array, a list or one number.

    Raises:
        TypeError: no numbers.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:  # lists of several lengths
        raise TypeError(f"{name}: must be numbers, got {type(value).__name__}") from error
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: must be numbers, got {type(value).__name__}")
    return array.astype(np.float64)


def check_numbers(name: str, value: Any) -> np.ndarray:
    """``number_array`` of finite numbers, none of them too large to be drawn.

    Raises:
        TypeError: no numbers.
        ValueError: NaN, infinity, or a magnitude above 1e100.
    """
    array = number_array(name, value)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: must be finite")
    if array.size and np.abs(array).max() > LARGEST:
        raise ValueError(f"{name}: must be below 1e100 in magnitude, got {np.abs(array).max():g}")
    return array


def finite_number(name: str, value: Any) -> float:
    """One finite real number.

    Raises:
        TypeError: no number.
        ShapeError: several.
        ValueError: NaN, infinity, or a magnitude above 1e100.
    """
    array = check_numbers(name, value)
    if array.ndim:
        raise ShapeError(f"{name}: must be one number, got shape {array.shape}")
    return float(array)
