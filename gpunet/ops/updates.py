"""What the optimizers' updates share: walking several arrays of one shape together, in blocks that fit a cache.

An update reads and writes the same elements of three to five arrays in several passes. Over whole arrays every pass
goes to memory; over blocks of 16,384 elements only the first does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from gpunet.backend.memory import scratch

__all__ = ["BLOCK", "Scalar", "blocks", "flatten", "memory_order", "scalar_type"]

Scalar = Any  # a Python number, or a 0-d array of the same array module as the parameter

BLOCK = 16384
"""Elements of a block: five float32 arrays of it are 320 KB, inside one core's L2 cache."""


@lru_cache(maxsize=4096)
def memory_order(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, ...] | None:
    """The axes from the outermost to the innermost in memory, or None if the array has gaps or overlaps."""
    # An axis of one element may have any stride: it goes first.
    axes = sorted(range(len(shape)), key=lambda axis: (shape[axis] != 1, -strides[axis], axis))
    expected = itemsize
    for axis in reversed(axes):
        if shape[axis] != 1 and strides[axis] != expected:
            return None
        expected *= shape[axis]
    return tuple(axes)


def flatten(*arrays: Any) -> list[Any] | None:
    """One-dimensional views of arrays of one shape, in the order in which all of them lie in memory; None stays None.

    Returns:
        None if the arrays' orders differ or one has gaps.
    """
    first = arrays[0]
    order = memory_order(first.shape, first.strides, first.itemsize)
    if order is None:
        return None
    for other in arrays:
        if (
            other is not None
            and other.strides != first.strides
            and memory_order(other.shape, other.strides, other.itemsize) != order
        ):
            return None
    return [None if array is None else array.transpose(order).reshape(-1) for array in arrays]


def blocks(module: Any, *arrays: Any) -> Iterator[tuple[Any, ...]]:
    """Matching pieces of arrays of one shape, each followed by two work arrays of the piece's size.

    NumPy arrays come in one-dimensional blocks, read in the order in which they lie in memory. Arrays whose orders
    differ, and those of any other array module, come whole. None stays None.
    """
    first = arrays[0]
    size = first.size
    if size == 0:
        return
    flat = flatten(*arrays) if module is np else None
    if flat is None:
        yield (*arrays, module.empty_like(first), module.empty_like(first))
        return
    work = scratch("optimizer update", (2, min(size, BLOCK)), first.dtype)
    if size <= BLOCK:
        yield (*flat, work[0], work[1])
        return
    for start in range(0, size, BLOCK):
        piece = slice(start, start + BLOCK)
        count = min(BLOCK, size - start)
        yield (*(None if array is None else array[piece] for array in flat), work[0, :count], work[1, :count])


def scalar_type(module: Any, dtype: np.dtype[Any]) -> Callable[[Scalar], Any]:
    """What turns a scalar into one that an array of ``dtype`` can be multiplied by without changing type.

    On the CPU that is the array's own scalar type: a 0-d float64 array would make NumPy compute in float64 and cast
    back. On a GPU scalars stay where they are.
    """
    return dtype.type if module is np else _unchanged


def _unchanged(value: Scalar) -> Scalar:
    return value
