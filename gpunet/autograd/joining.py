"""Tensors made from several others: joined, broadcast against each other, or chosen between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet.autograd.function import apply, operand, shares
from gpunet.autograd.tensor import Tensor
from gpunet.backend.errors import ShapeError
from gpunet.ops import REGISTRY
from gpunet.ops.elementwise import broadcast_shapes as common_shape
from gpunet.ops.shape import ChannelRoom

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "block_diag",
    "broadcast_shapes",
    "broadcast_tensors",
    "cartesian_prod",
    "cat",
    "cat_channels",
    "column_stack",
    "concat",
    "concatenate",
    "dstack",
    "hstack",
    "maximum",
    "meshgrid",
    "minimum",
    "row_stack",
    "stack",
    "vstack",
    "where",
]


def _listed(name: str, tensors: Any) -> list[Tensor]:
    """A sequence of tensors, at least one.

    Raises:
        TypeError: not a sequence of tensors.
        ValueError: an empty one.
    """
    if isinstance(tensors, Tensor) or not isinstance(tensors, Sequence):
        raise TypeError(f"{name}: tensors must be a list or tuple of Tensors, got {type(tensors).__name__}")
    for each in tensors:
        if not isinstance(each, Tensor):
            raise TypeError(
                f"{name}: tensors must be a list or tuple of Tensors, got one that holds {type(each).__name__}"
            )
    if not tensors:
        raise ValueError(f"{name}: tensors must hold at least one tensor")
    return list(tensors)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors joined along an existing dimension."""
    return apply(REGISTRY["cat"], *_listed("cat", tensors), dim=dim)


concat = concatenate = cat


def cat_channels(tensors: Sequence[Tensor], room: ChannelRoom) -> Tensor:
    """Tensors (N, C, H, W) joined along dim 1 in ``room``, where the first may lie already.

    The result shares the memory of the first: a write in place to either is found by backward as one to both.
    """
    listed = _listed("cat", tensors)
    joined: Tensor = apply(REGISTRY["cat"], *listed, dim=1, room=room)
    if isinstance(joined._array, np.ndarray) and shares(joined._array, listed[0]._array):
        joined._counter = listed[0]._counter
    return joined


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension."""
    return apply(REGISTRY["stack"], *_listed("stack", tensors), dim=dim)


def _each(tensors: tuple[Any, ...], function: Any, name: str) -> Any:
    """A function of one tensor, or of each of several (as arguments or as one sequence)."""
    if len(tensors) == 1 and isinstance(tensors[0], Tensor):
        return function(tensors[0])
    given = tensors[0] if len(tensors) == 1 else tensors
    return tuple(function(each) for each in _listed(name, given))


def atleast_1d(*tensors: Any) -> Any:
    """A 0-d tensor as one of one element, others as they are; of several, a tuple."""
    return _each(tensors, lambda x: x if x.ndim else x.reshape(1), "atleast_1d")


def _two(x: Tensor) -> Tensor:
    return x if x.ndim >= 2 else x.reshape(1, -1)


def atleast_2d(*tensors: Any) -> Any:
    """At least two dimensions: a vector becomes one row; of several, a tuple."""
    return _each(tensors, _two, "atleast_2d")


def _three(x: Tensor) -> Tensor:
    return x if x.ndim >= 3 else _two(x).unsqueeze(2)


def atleast_3d(*tensors: Any) -> Any:
    """At least three dimensions: a vector becomes (1, N, 1), a matrix (M, N, 1); of several, a tuple."""
    return _each(tensors, _three, "atleast_3d")


def _joined(name: str, parts: list[Tensor], dim: int) -> Tensor:
    """``cat``, whose error speaks of the function that was called."""
    try:
        return apply(REGISTRY["cat"], *parts, dim=dim)
    except ShapeError as error:
        raise ShapeError(f"{name}{str(error).removeprefix('cat')}") from None


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side: joined along dimension 1, or 0 if they have one."""
    parts = [atleast_1d(each) for each in _listed("hstack", tensors)]
    return _joined("hstack", parts, 0 if parts[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors on top of each other: joined along dimension 0, vectors as rows."""
    return _joined("vstack", [_two(each) for each in _listed("vstack", tensors)], 0)


row_stack = vstack


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors behind each other: joined along dimension 2."""
    return _joined("dstack", [_three(each) for each in _listed("dstack", tensors)], 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side, vectors as columns."""
    columns = [each if each.ndim > 1 else each.reshape(-1, 1) for each in _listed("column_stack", tensors)]
    return _joined("column_stack", columns, 1)


def _arguments(name: str, tensors: tuple[Any, ...]) -> list[Tensor]:
    """Tensors given as arguments or as one sequence."""
    return _listed(name, tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors)


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Tensors expanded to their common shape."""
    given = _arguments("broadcast_tensors", tensors)
    shape = common_shape("broadcast_tensors", *(each.shape for each in given))
    return tuple(each.expand(shape) for each in given)


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The common shape of several (integers count as shapes of one dimension)."""
    listed = [(each,) if hasattr(each, "__index__") else tuple(each) for each in shapes]
    for shape in listed:
        if any(extent < 0 for extent in shape):
            raise ShapeError(f"broadcast_shapes: sizes must not be negative, got {shape}")
    return common_shape("broadcast_shapes", *listed)


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """The coordinates of a grid: for vectors of sizes M, N, ... as many tensors of shape (M, N, ...).

    Args:
        tensors: vectors (or 0-d tensors) of one dtype.
        indexing: ``"ij"`` (the default), or ``"xy"``, which exchanges the first two dimensions.
    """
    if indexing not in (None, "ij", "xy"):
        raise ValueError(f"meshgrid: indexing must be 'ij' or 'xy', got {indexing!r}")
    given = _arguments("meshgrid", tensors)
    for each in given:
        if each.ndim > 1:
            raise ShapeError(f"meshgrid: tensors must have one dimension, got shape {each.shape}")
        if each.dtype != given[0].dtype:
            raise TypeError(f"meshgrid: tensors must be of one dtype, got {given[0].dtype.name} and {each.dtype.name}")
    shape = tuple(each.numel() for each in given)
    grids = []
    for axis, each in enumerate(given):
        grids.append(each.reshape((1,) * axis + (-1,) + (1,) * (len(given) - 1 - axis)).expand(shape))
    return tuple(grid.transpose(0, 1) for grid in grids) if indexing == "xy" and len(grids) > 1 else tuple(grids)


def cartesian_prod(*tensors: Any) -> Tensor:
    """All combinations of the elements of vectors, one in each row, the last vector running fastest."""
    given = _arguments("cartesian_prod", tensors)
    for each in given:
        if each.ndim != 1:
            raise ShapeError(f"cartesian_prod: tensors must have one dimension, got shape {each.shape}")
    if len(given) == 1:
        return given[0]
    return stack([grid.reshape(-1) for grid in meshgrid(*given)], 1)


def block_diag(*tensors: Any) -> Tensor:
    """A matrix with the given ones (vectors count as rows) along its diagonal, zeros elsewhere."""
    given = [_two(each) for each in _listed("block_diag", tensors)]
    width = sum(each.shape[1] for each in given if each.ndim == 2)
    rows, left = [], 0
    for each in given:
        if each.ndim != 2:
            raise ShapeError(f"block_diag: tensors must have at most 2 dimensions, got shape {each.shape}")
        before, after = left, width - left - each.shape[1]
        left += each.shape[1]
        rows.append(apply(REGISTRY["pad"], each, padding=(before, after), value=0))
    return cat(rows, 0)


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """``input`` where the condition holds, else ``other``; tensors or numbers, broadcast.

    With the condition alone: where it is not zero, as ``nonzero(as_tuple=True)``.
    """
    if not isinstance(condition, Tensor):
        raise TypeError(f"where: condition must be a Tensor, got {type(condition).__name__}")
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if input is None or other is None:
        raise TypeError("where: input and other must be given together")
    first, second = (operand(condition, value) for value in (input, other))
    if first is NotImplemented or second is NotImplemented:
        wrong = input if first is NotImplemented else other
        raise TypeError(f"where: input and other must be Tensors or numbers, got {type(wrong).__name__}")
    return apply(REGISTRY["where"], condition, first, second)


def maximum(input: Tensor, other: Tensor) -> Tensor:
    """Elementwise larger of two; NaN wins."""
    return input.maximum(other)


def minimum(input: Tensor, other: Tensor) -> Tensor:
    """Elementwise smaller of two; NaN wins."""
    return input.minimum(other)
