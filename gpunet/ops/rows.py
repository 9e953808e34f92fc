"""Work along one dimension, in blocks that stay in a cache, on all cores.

An array with one dimension singled out is (outer, C, inner) in memory, or (outer, C) where that dimension is the
innermost; either way it is axis 1. A reduction over it is (outer, inner) or (outer,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.ops.base import module_of
from gpunet.ops.chunked import Layout, chunk_slices, run_slices

__all__ = ["Rows"]


class Rows:
    """Arrays of one shape with a dimension singled out, in one physical order.

    Args:
        shape: the logical shape, of at least one dimension.
        axis: the dimension, not negative.
        arrays: the first contiguous one decides on the physical order.
        order: the physical order, if it is known.
    """

    def __init__(self, shape: tuple[int, ...], axis: int, *arrays: Any, order: tuple[int, ...] | None = None) -> None:
        self.full = Layout(shape, *arrays, order=order)
        place = self.full.order.index(axis)
        self.count = shape[axis]
        self.inner = 1
        for extent in self.full.physical[place + 1 :]:
            self.inner *= extent
        self.outer = 1
        for extent in self.full.physical[:place]:
            self.outer *= extent
        order = tuple(other - (other > axis) for other in self.full.order if other != axis)
        self.reduced = Layout(shape[:axis] + shape[axis + 1 :], order=order)
        self.shape = (self.outer, self.count) if self.inner == 1 else (self.outer, self.count, self.inner)
        self.small = (self.outer,) if self.inner == 1 else (self.outer, self.inner)

    def view(self, array: Any) -> Any:
        """An array of the full shape, or one that broadcasts to it, in this order."""
        return self.full.flat(array).reshape(self.shape)

    def view_reduced(self, array: Any) -> Any:
        """An array of the shape without the dimension, in this order."""
        return self.reduced.flat(array).reshape(self.small)

    def empty(self, dtype: Any, module: Any) -> tuple[Any, Any]:
        """A new array: in this order, and in the logical shape."""
        row, logical = self.full.empty(dtype, module)
        return row.reshape(self.shape), logical

    def empty_reduced(self, dtype: Any, module: Any) -> tuple[Any, Any]:
        """A new array without the dimension: in this order, and in the logical shape."""
        row, logical = self.reduced.empty(dtype, module)
        return row.reshape(self.small), logical

    def along(self, vector: Any) -> Any:
        """A vector over the dimension, such that it broadcasts."""
        return vector if self.inner == 1 else vector[:, None]

    def run(self, like: Any, itemsize: int, body: Callable[[Any, Any], None]) -> None:
        """Call ``body(block, part)`` for index tuples of blocks of full and of reduced arrays."""
        if self.full.size == 0:
            return
        module = module_of(like)
        blocks: list[tuple[Any, Any]] = []
        if self.inner == 1:
            blocks = [(rows, rows) for rows in chunk_slices(module, self.outer, self.count, itemsize)]
        else:
            for rows in chunk_slices(module, self.outer, self.count * self.inner, itemsize):
                single = module is np and rows.stop - rows.start == 1
                columns = chunk_slices(module, self.inner, self.count, itemsize) if single else [slice(0, self.inner)]
                blocks += [((rows, slice(None), part), (rows, part)) for part in columns]
        run_slices(blocks, lambda index: body(*blocks[index]), self.full.size)
