"""Arrays of random numbers: what the random functions and the in-place fills draw.

All are drawn on the CPU, from a counter-based stream (``gpunet.backend.random``), and moved to their device: the same
on every device. Numbers of the half types are drawn in float32 and rounded, uniform ones so that 1 never comes out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.backend.errors import DTypeError
from gpunet.backend.random import Generator, default_generator
from gpunet.ops.dtypes import BOOL, DType, is_floating

__all__ = ["check_floating", "coins", "exponentials", "integers", "normals", "stream", "uniforms"]

Shape = tuple[int, ...]

# How many whole numbers in a row a floating type holds: 0 to 2 ** bits.
_MANTISSA = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}


def stream(name: str, generator: Generator | None) -> np.random.Generator:
    """The NumPy generator of the next draw.

    Raises:
        TypeError: not a Generator.
    """
    if generator is None:
        return default_generator().numpy()
    if not isinstance(generator, Generator):
        raise TypeError(f"{name}: generator must be a gpunet.Generator, got {type(generator).__name__}")
    return generator.numpy()


def check_floating(name: str, dtype: DType) -> None:
    """Raise unless a dtype is floating.

    Raises:
        DTypeError: it is not.
    """
    if not is_floating(dtype):
        raise DTypeError(f"{name}: dtype must be floating point, got {dtype.name}")


def _drawn_as(dtype: DType) -> Any:
    return np.float64 if dtype.itemsize == 8 else np.float32


def normals(rng: np.random.Generator, shape: Shape, dtype: DType) -> np.ndarray:
    """Normal numbers of mean 0 and variance 1."""
    return np.asarray(rng.standard_normal(shape, _drawn_as(dtype)))


def uniforms(rng: np.random.Generator, shape: Shape, dtype: DType) -> np.ndarray:
    """Uniform numbers in [0, 1), as multiples of what the dtype resolves."""
    drawn = np.asarray(rng.random(shape, _drawn_as(dtype)))
    if dtype.itemsize == 2:
        steps = np.float32(1 << _MANTISSA[dtype.name])
        drawn = np.floor(drawn * steps) / steps
    return drawn


def exponentials(rng: np.random.Generator, shape: Shape, dtype: DType) -> np.ndarray:
    """Exponential numbers of rate 1."""
    return np.asarray(rng.standard_exponential(shape, _drawn_as(dtype)))


def coins(rng: np.random.Generator, probability: Any, shape: Shape) -> np.ndarray:
    """True with a probability, a number or an array that broadcasts."""
    return np.asarray(rng.random(shape) < probability)


def integers(name: str, rng: np.random.Generator, low: Any, high: Any, shape: Shape, dtype: DType) -> np.ndarray:
    """Integers from low to high - 1 that the dtype holds; None means from 0, and to the largest in a row it holds.

    Raises:
        ValueError: an empty range, or one the dtype does not hold.
    """
    if is_floating(dtype):
        largest = 1 << _MANTISSA[dtype.name]
        smallest = -largest
    elif dtype == BOOL:
        smallest, largest = 0, 1
    else:
        smallest, largest = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    first = 0 if low is None else int(low)
    last = largest if high is None else int(high) - 1
    if first > last:
        raise ValueError(f"{name}: the range from {first} to below {last + 1} holds no integer")
    if not is_floating(dtype) and (first < smallest or last > largest):
        raise ValueError(f"{name}: {dtype.name} holds {smallest} to {largest}, got {first} to below {last + 1}")
    return np.asarray(rng.integers(first, last, shape, np.int64, endpoint=True))
