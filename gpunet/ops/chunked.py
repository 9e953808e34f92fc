"""Elementwise work in chunks that stay in a cache, on all cores.

A fused function of several passes over an array of megabytes would read and write memory in each of them. Here every
pass runs over one chunk before the next chunk is touched, chunks are shared out to threads, and the half types are
computed in float32 chunk by chunk, so that no copy of the whole array is made. How arrays are cut depends on their size
alone. On a GPU the one chunk is the array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunet.backend.memory import empty, scratch
from gpunet.backend.threads import parallel_for
from gpunet.ops.base import module_of
from gpunet.ops.dtypes import compute_dtype

__all__ = ["Layout", "Work", "chunk_slices", "map_chunks", "run_slices", "select", "sum_chunks"]

_CHUNK_BYTES = 1 << 19
_PARALLEL_FROM = 1 << 15


def chunk_slices(module: Any, count: int, width: int = 1, itemsize: int = 4) -> list[slice]:
    """Slices of ``count`` rows of ``width`` elements, each of a size that fits a cache; one slice on a GPU."""
    step = max(1, _CHUNK_BYTES // max(1, width * itemsize))
    if module is not np or count <= step:
        return [slice(0, count)]
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def run_slices(slices: Sequence[Any], body: Callable[[int], None], size: int) -> None:
    """Run ``body`` for the number of each slice, on threads where the work is worth it."""
    if len(slices) == 1 or size < _PARALLEL_FROM:
        for index in range(len(slices)):
            body(index)
    else:
        parallel_for(len(slices), body)


class Work:
    """The work arrays of one chunk, all of one size and type, kept by the thread for its next chunk.

    Args:
        module: NumPy or CuPy.
        shape: of the chunk.
        dtype: what it is computed in.
    """

    __slots__ = ("dtype", "module", "shape")

    def __init__(self, module: Any, shape: tuple[int, ...], dtype: Any) -> None:
        self.module = module
        self.shape = shape
        self.dtype = dtype

    def __call__(self, name: str, dtype: Any = None) -> Any:
        """An uninitialised array; the same name gives the same one."""
        if self.module is not np:
            return self.module.empty(self.shape, dtype or self.dtype)
        return scratch(f"chunk {name}", self.shape, dtype or self.dtype)


def select(values: Any, mask: Any, out: Any, work: Work) -> Any:
    """``values`` where the mask holds, else 0, whatever the value there (0 times infinity would be NaN).

    Bits are masked: several times as fast as ``where``.
    """
    module = work.module
    if module is not np:
        out[...] = module.where(mask, values, 0)
        return out
    kind = np.int32 if values.dtype.itemsize == 4 else np.int64
    bits = work("bits", kind)
    np.copyto(bits, mask)
    np.negative(bits, out=bits)
    np.bitwise_and(values.view(kind), bits, out=out.view(kind))
    return out


def _physical_order(array: Any) -> tuple[int, ...] | None:
    """The order of dimensions in which the array is contiguous; None where there is none."""
    flags = array.flags
    if flags.c_contiguous:
        return tuple(range(array.ndim))
    if flags.f_contiguous:
        return tuple(reversed(range(array.ndim)))
    order = tuple(sorted(range(array.ndim), key=lambda axis: (-array.strides[axis], -array.shape[axis])))
    return order if array.transpose(order).flags.c_contiguous else None


class Layout:
    """One physical order for arrays of one shape, in which each of them is flat.

    Args:
        shape: the logical shape, to which arrays broadcast.
        arrays: the first contiguous one of this shape decides; row-major where there is none.
        order: the dimensions from the outermost in, if it is known.
    """

    def __init__(self, shape: tuple[int, ...], *arrays: Any, order: tuple[int, ...] | None = None) -> None:
        for array in arrays:
            if order is None and array is not None and tuple(array.shape) == shape:
                order = _physical_order(array)
        self.shape = shape
        self.size = math.prod(shape)
        self.order = tuple(range(len(shape))) if order is None else order
        self.inverse = tuple(sorted(range(len(shape)), key=self.order.__getitem__))
        self.physical = tuple(shape[axis] for axis in self.order)
        self.plain = self.order == self.inverse and self.order == tuple(range(len(shape)))

    def flat(self, array: Any) -> Any:
        """The array in this order, as one row: without a copy where it is contiguous in it, or one number repeated."""
        module = module_of(array)
        if array.size == 1:
            return module.broadcast_to(array.reshape(1), (self.size,))
        if tuple(array.shape) != self.shape:
            array = module.broadcast_to(array, self.shape)
        if self.size and not any(array.strides):  # what backward of a sum gives
            return module.broadcast_to(array[(slice(0, 1),) * array.ndim].reshape(1), (self.size,))
        ordered = array if self.plain else array.transpose(self.order)
        if ordered.flags.c_contiguous:
            return ordered.reshape(self.size)
        made = empty(self.physical, array.dtype, module)
        made[...] = ordered
        return made.reshape(self.size)

    def empty(self, dtype: Any, module: Any) -> tuple[Any, Any]:
        """A new array: as one row, and in the logical shape."""
        row = empty((self.size,), dtype, module)
        made = row.reshape(self.physical)
        return row, made if self.plain else made.transpose(self.inverse)


def map_chunks(
    layout: Layout, inputs: Sequence[Any], dtypes: Sequence[Any], body: Callable[..., None], carry: Any = None
) -> tuple[Any, ...]:
    """Call ``body(work, *inputs, *outputs)`` for each chunk.

    Args:
        layout: of all arrays.
        inputs: arrays that broadcast to the layout's shape; the body sees them in the type it computes in.
        dtypes: of the outputs to make; None for one that nobody asks for, of which the body gets None.
        body: writes the outputs in place; must not write the inputs.
        carry: the type to compute in; by default that of the first output, float32 for the half types.

    Returns:
        the outputs.
    """
    module = module_of(*inputs)
    if carry is None:
        carry = compute_dtype(next(dtype for dtype in dtypes if dtype is not None))
    rows = [layout.flat(array) for array in inputs]
    made = [(None, None) if dtype is None else layout.empty(dtype, module) for dtype in dtypes]
    slices = chunk_slices(module, layout.size, 1, carry.itemsize)

    def run(index: int) -> None:
        piece = slices[index]
        work = Work(module, (piece.stop - piece.start,), carry)
        given = [_loaded(row[piece], f"input {number}", work) for number, row in enumerate(rows)]
        wanted: list[Any] = []
        for number, (row, _) in enumerate(made):
            out = None if row is None else row[piece]
            wanted.append(work(f"output {number}") if out is not None and out.dtype != carry else out)
        body(work, *given, *wanted)
        for (row, _), value in zip(made, wanted, strict=True):
            if row is not None and row.dtype != carry:
                row[piece] = value

    if layout.size:
        run_slices(slices, run, layout.size)
    return tuple(array for _, array in made)


def _loaded(row: Any, name: str, work: Work) -> Any:
    """A chunk in the type it is computed in."""
    if row.dtype == work.dtype:
        return row
    out = work(name)
    out[...] = row
    return out


def sum_chunks(layout: Layout, inputs: Sequence[Any], carry: Any, body: Callable[..., Any]) -> Any:
    """Sum over all elements of what ``body(work, *inputs, out)`` writes to ``out``; 0-d, in the type ``carry``.

    Each chunk is summed pairwise, the chunks' sums in float64.
    """
    module = module_of(*inputs)
    rows = [layout.flat(array) for array in inputs]
    slices = chunk_slices(module, layout.size, 1, carry.itemsize)
    if layout.size == 0:
        return module.zeros((), carry)
    sums = module.zeros(len(slices), carry if len(slices) == 1 else np.float64)

    def run(index: int) -> None:
        piece = slices[index]
        work = Work(module, (piece.stop - piece.start,), carry)
        out = work("sum")
        body(work, *(_loaded(row[piece], f"input {number}", work) for number, row in enumerate(rows)), out)
        sums[index] = out.sum()

    run_slices(slices, run, layout.size)
    return sums.sum().astype(carry)
