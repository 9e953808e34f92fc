"""Large buffers of the CPU that are used again.

A training step asks for the same sizes as the one before. What it was given is handed back when the last array that
lies in it is gone, and kept for the next of about its size: a step of which all sizes have been seen before takes
nothing from the system. Between steps nearly all of it lies idle, and stays until ``release``; whenever a new buffer is
needed, what is then idle beyond a quarter of the most that was ever in use, and 64 MB, is given back for it.

How a buffer comes back: arrays are made in a ``_Lease``, which NumPy keeps as their base, whatever views are taken of
them; when it is deleted, nobody can see its memory any more.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Any

import numpy as np

__all__ = ["ALIGNMENT", "KEPT", "aligned", "kept_bytes", "lease", "release"]

ALIGNMENT = 64  # a cache line, and the widest vector register
KEPT = 1 << 16  # bytes from which a buffer is kept: smaller ones malloc has at hand

_SLACK = 64 << 20  # bytes that may always lie idle
_STEPS = 8  # sizes of buffers between a power of two and the next: at most an eighth is wasted


class _Buffer(np.ndarray):
    """Memory that can be leased."""


class _Shelf:
    """Free buffers of one size. What is appended and popped is so in one step: no lock is held while memory comes back.

    Attributes:
        size: bytes of each.
        free: the one that was used last at the end.
        used: when one was asked for last.
    """

    __slots__ = ("free", "size", "used")

    def __init__(self, size: int) -> None:
        self.size = size
        self.free: deque[_Buffer] = deque()
        self.used = 0


_shelves: dict[int, _Shelf] = {}
_lock = threading.RLock()


class _Lease(np.ndarray):
    """All of a buffer, for as long as any array lies in it. Its base is the buffer: views of a lease have the lease."""

    # What it needs is bound, since the module's names may be gone when the interpreter ends.
    def __del__(self, shelves: dict[int, _Shelf] = _shelves, kind: type[_Buffer] = _Buffer) -> None:
        buffer = self.base
        if isinstance(buffer, kind):
            shelves[buffer.nbytes].free.append(buffer)


class _Total:
    """Bytes that all buffers have, the most that were leased at once, and how often the system was asked."""

    bytes = 0
    most = 0
    asked = 0


def _rounded(size: int) -> int:
    """The next size of a shelf."""
    step = max(4096, 1 << max(0, size.bit_length() - _STEPS.bit_length()))
    return -(-size // step) * step


def aligned(size: int) -> Any:
    """Uninitialised bytes at a multiple of 64."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -int(memory.ctypes.data) % ALIGNMENT
    return memory[start : start + size]


def lease(size: int) -> Any:
    """Uninitialised bytes, at least ``size``, at a multiple of 64, which come back by themselves.

    Make the array that is used with ``numpy.ndarray(shape, dtype, lease(size))``.

    Raises:
        MemoryError: there are no more.
    """
    rounded = _rounded(size)
    shelf = _shelves.get(rounded)
    if shelf is None:
        with _lock:
            shelf = _shelves.setdefault(rounded, _Shelf(rounded))
    shelf.used = _Total.asked
    try:
        buffer = shelf.free.pop()
    except IndexError:
        buffer = _ask_system(rounded)
    return buffer.view(_Lease)


def _ask_system(size: int) -> _Buffer:
    """A new buffer; others that were not wanted for the longest time go, if too much would lie idle."""
    with _lock:
        _Total.asked += 1
        _Total.bytes += size
        idle = kept_bytes()
        _Total.most = max(_Total.most, _Total.bytes - idle)
        too_much = idle - _Total.most // 4 - _SLACK
        if too_much > 0:
            _drop(too_much)
        try:
            return aligned(size).view(_Buffer)
        except MemoryError:
            _drop(idle)
            try:
                return aligned(size).view(_Buffer)
            except MemoryError:
                _Total.bytes -= size
                raise


def _drop(count: int) -> None:
    """Give at least so many bytes back to the system."""
    for shelf in sorted(_shelves.values(), key=lambda shelf: shelf.used):
        while shelf.free and count > 0:
            try:
                shelf.free.popleft()
            except IndexError:  # another thread was faster
                break
            count -= shelf.size
            _Total.bytes -= shelf.size


def kept_bytes() -> int:
    """Bytes that lie idle."""
    return sum(len(shelf.free) * shelf.size for shelf in list(_shelves.values()))


def release() -> None:
    """Give all idle buffers back to the system."""
    with _lock:
        _drop(kept_bytes())


def _renew_lock() -> None:
    """In a forked child another thread's lock would never be released."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
