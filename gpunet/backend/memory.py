"""Uninitialised buffers: 64-byte aligned on the CPU, in the physical order an operation wants.

NumPy hands out large arrays at 16 bytes past a page, which costs vectorised loops 5 to 15 per cent; every buffer that
an operation allocates itself comes from here instead. Large ones are kept when they are free, for the next of their
size (``buffers``): the system would take their pages back, and give and clear them again one by one in every step.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from gpunet.backend.buffers import KEPT, aligned, lease
from gpunet.backend.devices import array_module

__all__ = ["assign", "empty", "empty_nhwc", "scratch", "spanning"]


def empty(shape: tuple[int, ...], dtype: Any, module: Any = np) -> Any:
    """An uninitialised C-ordered array of ``module``; on the CPU aligned to 64 bytes."""
    if module is not np:
        return module.empty(shape, dtype)
    dtype = np.dtype(dtype)
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size < 1024:  # too small to gain
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, lease(size) if size >= KEPT else aligned(size))


def empty_nhwc(shape: tuple[int, int, int, int], dtype: Any, module: Any = np) -> Any:
    """An uninitialised array of logical shape (N, C, H, W) whose channels are contiguous in memory."""
    n, c, h, w = shape
    return empty((n, h, w, c), dtype, module).transpose(0, 3, 1, 2)


def spanning(array: Any) -> Any:
    """A one-dimensional view of the memory from an array's first element to its last, gaps included.

    Kernels take it with the array's pitches. Strides must not be negative; the array must not be empty.
    """
    if array.flags.c_contiguous:
        return array.reshape(-1)
    size = array.dtype.itemsize
    count = 1 + sum((extent - 1) * stride for extent, stride in zip(array.shape, array.strides, strict=True)) // size
    return array_module(array).lib.stride_tricks.as_strided(array, (count,), (size,))


# Elements along the target's fastest axis written at a time where the source lies in another order: NumPy would
# go through the whole target for each of them, and fetch a cache line for one element.
_TRANSPOSED_BLOCK = 64
_TRANSPOSED_SIZE = 1 << 16


def assign(target: Any, source: Any) -> None:
    """``target[...] = source``, in blocks that stay in the cache where the two lie in memory in different orders.

    A convolution's weight from a file is such a copy: output channels are its slowest axis there and the fastest here.
    """
    transposed = (
        isinstance(target, np.ndarray)
        and isinstance(source, np.ndarray)
        and target.size >= _TRANSPOSED_SIZE
        and target.shape == source.shape
        and not np.may_share_memory(target, source)  # what is read must not have been written already
    )
    if transposed:
        fastest = min(range(target.ndim), key=lambda axis: (target.shape[axis] == 1, abs(target.strides[axis])))
        transposed = abs(source.strides[fastest]) > source.itemsize
    if not transposed:
        target[...] = source
        return
    target, source = target.swapaxes(0, fastest), source.swapaxes(0, fastest)
    for start in range(0, len(target), _TRANSPOSED_BLOCK):
        block = slice(start, start + _TRANSPOSED_BLOCK)
        target[block] = source[block]


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[str, np.ndarray] = {}


_scratch = _Scratch()


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A work array that this thread keeps for the next call of the same name; its contents are undefined.

    Only for blocks sized to fit a cache: what is kept is never more than a few megabytes for each thread.
    """
    dtype = np.dtype(dtype)
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    buffer = _scratch.buffers.get(name)
    if buffer is None or buffer.nbytes < size:
        buffer = _scratch.buffers[name] = empty((size,), np.uint8)
    return buffer[:size].view(dtype).reshape(shape)
