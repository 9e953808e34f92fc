"""Where a file's bytes come from: read piece by piece into memory of their own, or viewed in a memory map."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import stat
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np

from gpunet.backend.errors import CheckpointError

__all__ = ["PathOrFile", "Source", "open_source"]

_PIECE = 2**18  # bytes

PathOrFile = str | os.PathLike[str] | IO[bytes]


class Source:
    """A file of known size. Nothing is read or allocated before it is known to be there.

    Args:
        name: the file's name for messages.
        size: in bytes.
        file: what to read from, or None.
        content: all bytes, where they are in memory or mapped, or None.
        copies: whether ``array`` gives memory of its own.
    """

    def __init__(self, name: str, size: int, file: io.FileIO | None, content: memoryview | None, copies: bool) -> None:
        self.name = name
        self.size = size
        self._file = file
        self._content = content
        self._copies = copies

    def _check(self, offset: int, count: int) -> None:
        if offset < 0 or count < 0 or offset + count > self.size:
            raise CheckpointError(f"{self.name}: cut short or damaged: it ends within its data")

    def read(self, offset: int, count: int) -> bytes:
        """A few bytes, such as a header.

        Raises:
            CheckpointError: the file ends before them.
        """
        self._check(offset, count)
        if self._content is not None:
            return bytes(self._content[offset : offset + count])
        found = bytearray(count)
        self._fill(memoryview(found), offset)
        return bytes(found)

    def array(self, offset: int, count: int) -> np.ndarray:
        """Many bytes as a uint8 array: memory of its own, or a view where the file is mapped.

        Raises:
            CheckpointError: the file ends before them.
        """
        self._check(offset, count)
        if self._content is not None:
            view = np.frombuffer(self._content[offset : offset + count], np.uint8)
            return view.copy() if self._copies else view
        found = np.empty(count, np.uint8)
        self._fill(found.data, offset)
        return found

    def array_and_crc(self, offset: int, count: int) -> tuple[np.ndarray, int]:
        """As ``array``, with the CRC-32 of the bytes, summed piece by piece while they are in the cache.

        Raises:
            CheckpointError: the file ends before them.
        """
        self._check(offset, count)
        mapped = self._content is not None
        found = self.array(offset, count) if mapped else np.empty(count, np.uint8)
        crc = 0
        for start in range(0, count, _PIECE):
            piece = found[start : start + _PIECE]
            if not mapped:
                self._fill(piece.data, offset + start)
            crc = zlib.crc32(piece.data, crc)
        return found, crc

    def _fill(self, target: memoryview, offset: int) -> None:
        assert self._file is not None
        self._file.seek(offset)
        while target:
            count = self._file.readinto(target)  # at most 2 GB at once
            if not count:  # it shrank since its size was asked for
                raise CheckpointError(f"{self.name}: cut short or damaged: it ends within its data")
            target = target[count:]


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _refuse_irregular(name: str, mode: int) -> None:
    """Refuse, before it is opened, what is no file: opening a named pipe waits for somebody to write to it."""
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{name}: is {_KINDS.get(stat.S_IFMT(mode), 'no regular file')}, not a file of weights")


@contextlib.contextmanager
def open_source(f: PathOrFile, mapped: str = "") -> Iterator[Source]:
    """Open a path, or take a file that is open.

    Args:
        f: a path, or a file open for reading in binary, which is read to its end.
        mapped: ``""``: data are read into memory of their own, which outlives whatever happens to the file.
            ``"private"``: arrays view the file, and writes to them stay in this process. ``"read"``: they may not be
            written to. A mapped file must not be cut short while its arrays live: the system ends a process that
            reads what is gone.

    Raises:
        CheckpointError: a folder, a pipe or anything else that is no regular file, or an empty file.
        FileNotFoundError: there is nothing at the path.
        TypeError: no path and no file.
    """
    if isinstance(f, (str, os.PathLike)):
        name = str(f)
        _refuse_irregular(name, os.stat(f).st_mode)
        with open(f, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise CheckpointError(f"{name}: the file is empty")
            if mapped:
                access = mmap.ACCESS_COPY if mapped == "private" else mmap.ACCESS_READ
                content = memoryview(mmap.mmap(file.fileno(), 0, access=access))
                yield Source(name, len(content), None, content, copies=False)
            else:
                yield Source(name, size, file, None, copies=True)
        return
    if not hasattr(f, "read"):
        raise TypeError(f"f: expected a path or a file open for reading, got {type(f).__name__}")
    name = str(getattr(f, "name", "the file"))
    whole = memoryview(f.read())
    if not whole:
        raise CheckpointError(f"{name}: the file is empty")
    yield Source(name, len(whole), None, whole, copies=True)
