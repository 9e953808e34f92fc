"""What the optimizers' updates share: equations on blocks that fit a cache, over many parameters at once.

An update reads and writes the same elements of three to five arrays in several passes. Over whole arrays every pass
goes to memory; over blocks only the first does. An optimizer's equations are a ``Block``: a function of matching pieces
of the arrays (parameter, gradient, state) and of two work arrays of the same size, which it may fill as it likes. Every
element is updated on its own, by correctly rounded operations: the result does not depend on blocks, order or threads.

Blocks are large because NumPy takes the interpreter lock between operations: with two threads and short operations they
mostly wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from gpunet.backend.devices import array_module
from gpunet.backend.memory import empty
from gpunet.backend.threads import parallel_for
from gpunet.ops.dtypes import compute_dtype

__all__ = [
    "BLOCK",
    "Block",
    "Pieces",
    "Scalar",
    "add_square",
    "apply",
    "apply_all",
    "cut",
    "flatten",
    "follow",
    "memory_order",
    "scalar_type",
    "true_gradient",
]

Scalar = Any  # a Python number, or a 0-d array of the same array module as the parameter
Block = Callable[..., None]

BLOCK = 131072
"""Elements of a block: five float32 arrays of it are 2.5 MB, about one core's L2 cache."""

_BUNDLE = 1 << 19  # elements that one thread takes at a time


class Pieces(NamedTuple):
    """Arrays of one shape, cut into matching pieces.

    Attributes:
        size: elements of one array.
        pieces: tuples of a piece of each array; None stays None.
    """

    size: int
    pieces: list[tuple[Any, ...]]


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


def cut(*arrays: Any) -> Pieces:
    """Matching pieces of NumPy arrays of one shape: one-dimensional blocks, in the order in which they lie in memory.

    Arrays whose orders differ come whole.
    """
    size = arrays[0].size
    flat = flatten(*arrays)
    if size == 0:
        return Pieces(0, [])
    if flat is None:
        return Pieces(size, [arrays])
    return Pieces(
        size,
        [
            tuple(None if array is None else array[start : start + BLOCK] for array in flat)
            for start in range(0, size, BLOCK)
        ],
    )


class _Work(threading.local):
    """Each thread's two work arrays, and the views of their beginnings that were asked for."""

    def __init__(self) -> None:
        self.views: dict[tuple[np.dtype[Any], int], tuple[np.ndarray, np.ndarray]] = {}

    def get(self, dtype: np.dtype[Any], count: int) -> tuple[np.ndarray, np.ndarray]:
        views = self.views.get((dtype, count))
        if views is None:
            if len(self.views) > 4096:
                self.views.clear()
            whole = self.views.get((dtype, BLOCK))
            if whole is None:
                whole = self.views[dtype, BLOCK] = (empty((BLOCK,), dtype), empty((BLOCK,), dtype))
            views = self.views[dtype, count] = (whole[0][:count], whole[1][:count])
        return views


_work = _Work()


def _run(block: Block, piece: tuple[Any, ...]) -> None:
    """One block on one piece of NumPy arrays."""
    first = piece[0]
    dtype = first.dtype
    if dtype.itemsize < 4:
        _run_wider(np, block, piece)
    elif first.ndim == 1 and first.size <= BLOCK:
        block(*piece, *_work.get(dtype, first.size))
    else:
        block(*piece, np.empty_like(first), np.empty_like(first))


def _run_wider(module: Any, block: Block, piece: tuple[Any, ...]) -> None:
    """Half types are computed with in single precision and rounded once."""
    dtype = compute_dtype(piece[0].dtype)
    wide = [None if array is None else array.astype(dtype) for array in piece]
    block(*wide, module.empty_like(wide[0]), module.empty_like(wide[0]))
    for position, (array, result) in enumerate(zip(piece, wide, strict=True)):
        if array is not None and position != 1:  # the gradient is only read
            array[...] = result


def apply(block: Block, *arrays: Any) -> None:
    """Update one parameter: its array, its gradient and its state, of one shape and dtype, in any memory order.

    NumPy's arrays go block by block, those of any other array module whole.
    """
    module = array_module(arrays[0])
    if module is np:
        for piece in cut(*arrays).pieces:
            _run(block, piece)
    elif arrays[0].dtype.itemsize < 4:
        _run_wider(module, block, arrays)
    else:
        block(*arrays, module.empty_like(arrays[0]), module.empty_like(arrays[0]))


def apply_all(updates: Sequence[tuple[Block, Pieces]], threads: bool = True) -> None:
    """Update many parameters on the CPU, on several threads if there is enough to do.

    Args:
        updates: what to compute, on which pieces.
        threads: False keeps to the order given, for parameters that occur more than once.
    """
    if not threads or sum(pieces.size for _, pieces in updates) < 2 * _BUNDLE:
        for block, pieces in updates:
            for piece in pieces.pieces:
                _run(block, piece)
        return
    bundles: list[list[tuple[Block, tuple[Any, ...]]]] = [[]]
    filled = 0
    for block, pieces in updates:
        for piece in pieces.pieces:
            if filled >= _BUNDLE:
                bundles.append([])
                filled = 0
            bundles[-1].append((block, piece))
            filled += piece[0].size

    def body(number: int) -> None:
        for block, piece in bundles[number]:
            _run(block, piece)

    parallel_for(len(bundles), body)


def scalar_type(module: Any, dtype: np.dtype[Any]) -> Callable[[Scalar], Any]:
    """What turns a scalar into one that an array of ``dtype`` can be multiplied by without changing type.

    On the CPU that is a 0-d array of the dtype computed in, which NumPy takes up fastest. On a GPU scalars stay where
    they are.
    """
    if module is not np:
        return _unchanged
    return lambda value: np.asarray(value, compute_dtype(dtype))


def _unchanged(value: Scalar) -> Scalar:
    return value


# Steps that several optimizers' equations have in common -----------------------------------------------------------


def true_gradient(module: Any, theta: Any, g: Any, decay: Any, maximize: bool, total: Any, work: Any) -> Any:
    """The gradient to follow: negated with ``maximize``, with ``decay * theta`` added unless decay is None.

    Returns:
        ``g`` itself, or ``total``, which then holds the result; ``work`` is overwritten.
    """
    if maximize:
        module.negative(g, out=total)
        g = total
    if decay is not None:
        module.multiply(theta, decay, out=work)
        module.add(g, work, out=total)
        g = total
    return g


def follow(module: Any, average: Any, value: Any, share: Any, work: Any) -> None:
    """average += share * (value - average)."""
    module.subtract(value, average, out=work)
    module.multiply(work, share, out=work)
    module.add(average, work, out=average)


def add_square(module: Any, average: Any, value: Any, decay: Any, share: Any, work: Any) -> None:
    """average = decay * average + share * value^2."""
    module.multiply(value, value, out=work)
    module.multiply(work, share, out=work)
    module.multiply(average, decay, out=average)
    module.add(average, work, out=average)
