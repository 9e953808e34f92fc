"""Storages and tensors of ``.pth`` files: checked against each other before any memory is touched."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpunet.backend.errors import DTypeError
from gpunet.ops.dtypes import bfloat16

__all__ = ["Refused", "Storage", "StorageRef", "TensorRef", "item_size", "numpy_dtype", "swaps"]

MAX_DIMS = 64  # NumPy's
# Strides of 0 repeat elements without storing them. Within reason: what is copied later takes the whole size.
MAX_REPEATED = 2**20

_SIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1, "bytes": 1,
}  # fmt: skip


class Refused(Exception):
    """What is wrong with a file, as the end of the sentence that begins with its name."""


def item_size(dtype: str) -> int:
    """Bytes of one element.

    Raises:
        Refused: a type that neither gpunet nor NumPy has.
    """
    found = _SIZES.get(dtype)
    if found is None:
        raise Refused(f"it holds a tensor of type {dtype}, which gpunet does not have")
    return found


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """NumPy's dtype of that name.

    Raises:
        Refused: it is bfloat16, and ml_dtypes is not installed.
    """
    if dtype != "bfloat16":
        return np.dtype("uint8" if dtype == "bytes" else dtype)
    try:
        return bfloat16()
    except DTypeError as error:
        raise Refused(str(error)) from None


@dataclass
class Storage:
    """One block of bytes of the file.

    Args:
        size: in bytes.
        load: gives the bytes as a uint8 array; known from the start, or set when the storages' places are.
        swapped: whether the file's byte order is not this machine's.
    """

    size: int
    load: Callable[[], np.ndarray] | None = None
    swapped: bool = False
    _views: dict[str, np.ndarray] = field(default_factory=dict)
    _raw: np.ndarray | None = None

    def view(self, dtype: str) -> np.ndarray:
        """All whole elements, read once, so that what shares a storage in the file shares memory."""
        found = self._views.get(dtype)
        if found is None:
            if self._raw is None:
                assert self.load is not None
                self._raw = self.load()
            raw, width = self._raw, item_size(dtype)
            raw = raw[: raw.size // width * width]
            if self.swapped and width > 1:
                raw = raw.view(f"u{width}").byteswap().view(np.uint8)
            elif raw.size and raw.__array_interface__["data"][0] % width:  # in a mapped file of the old format
                raw = raw.copy()
            if dtype == "bool" and raw.size and int(raw.max()) > 1:
                raise Refused("it holds a tensor of bool with a value that is neither true nor false")
            found = self._views[dtype] = raw.view(numpy_dtype(dtype))
        return found


@dataclass(frozen=True, eq=False)
class StorageRef:
    """What a pickle means by a storage: a block, or in old files a part of one.

    Args:
        dtype: of its elements; ``"bytes"`` where the tensors say that themselves.
        start: of the part, in bytes from the block's.
        size: in bytes.
    """

    storage: Storage
    dtype: str
    start: int
    size: int


@dataclass(frozen=True, eq=False)
class TensorRef:
    """A tensor whose place in its storage has been checked."""

    storage: StorageRef
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    repeats: bool

    @classmethod
    def checked(cls, storage: StorageRef, offset: Any, shape: Any, strides: Any, dtype: str) -> TensorRef:
        """Offset, shape and strides, in elements, of a tensor that lies within its storage.

        Raises:
            Refused: it does not, or they are no such numbers.
        """
        width = item_size(dtype)
        if type(offset) is not int or offset < 0:
            raise Refused("it holds a tensor with an offset that is no count of elements")
        for what, values in (("shape", shape), ("strides", strides)):
            if type(values) is not tuple or not all(type(value) is int and value >= 0 for value in values):
                raise Refused(f"it holds a tensor with {what} that are no counts of elements")
        if len(shape) != len(strides) or len(shape) > MAX_DIMS:
            raise Refused(f"it holds a tensor of {len(shape)} dimensions with {len(strides)} strides")
        if max((*shape, *strides, offset), default=0) >= 2**62:
            raise Refused("it holds a tensor whose shape, strides or offset are impossibly large")
        count = math.prod(shape)
        if math.prod(size for size in shape if size) * width >= 2**62:
            raise Refused("it holds a tensor of an impossible shape")
        held = storage.size // width
        if count and offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) >= held:
            raise Refused(f"it holds a tensor that reaches beyond its storage of {held:,} elements")
        if count > held and count > MAX_REPEATED:
            raise Refused(f"it holds a tensor of {count:,} elements in a storage of {held:,}")
        if storage.start % width:
            raise Refused("it holds a tensor that begins within an element of its storage")
        repeats = any(size > 1 and stride == 0 for size, stride in zip(shape, strides, strict=True))
        return cls(storage, dtype, offset, shape, strides, bool(count) and repeats)

    def array(self) -> np.ndarray:
        """A view of the storage; one that repeats elements may not be written to."""
        dtype = numpy_dtype(self.dtype)
        if 0 in self.shape:
            return np.empty(self.shape, dtype)
        strides = tuple(
            stride * dtype.itemsize if size > 1 else dtype.itemsize
            for size, stride in zip(self.shape, self.strides, strict=True)
        )
        start = self.storage.start + self.offset * dtype.itemsize
        # NumPy checks once more that the view lies within the buffer.
        found = np.ndarray(self.shape, dtype, self.storage.storage.view(self.dtype), start, strides)
        if self.repeats:
            found.flags.writeable = False
        return found


def swaps(byteorder: str) -> bool:
    """Whether numbers written in that order must be turned round on this machine."""
    return byteorder != sys.byteorder
