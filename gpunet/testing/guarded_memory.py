"""A kernel's arrays between guards: each is copied to where a store beside it shows, and copied back."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.backend.kernels import Kernel
from gpunet.backend.native import NativeLibrary
from gpunet.testing.host_compiler import is_sanitizing
from gpunet.testing.host_library import KernelFault

__all__ = ["GuardedMemory"]

_GUARD = 4096
_FILL = 0xFF


class _Extent:
    """A stretch of memory covered by one array, or by several that overlap, and its guarded copy."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.members: list[int] = []

    def make_copy(self) -> None:
        size = self.end - self.start
        self.buffer = np.full(size + 2 * _GUARD + 256, _FILL, np.uint8)
        base = self.buffer.__array_interface__["data"][0]
        # The copy is as well aligned as the original, and no better, so that alignment faults stay faults.
        self.offset = _GUARD + (self.start - (base + _GUARD)) % 256
        self.address = base + self.offset
        self.bytes = self.buffer[self.offset : self.offset + size]
        self.before = self.buffer[: self.offset]
        self.behind = self.buffer[self.offset + size :]


class GuardedMemory:
    """Copies of a launch's arrays between guards."""

    def __init__(self, kernel: Kernel, values: tuple[Any, ...]) -> None:
        self.kernel = kernel
        self.values = values
        self.arrays = {i: value for i, value in enumerate(values) if isinstance(value, np.ndarray) and value.size}
        self.extents: list[_Extent] = []
        bounds = sorted((array.__array_interface__["data"][0], array.nbytes, i) for i, array in self.arrays.items())
        for start, size, i in bounds:
            if not self.extents or start >= self.extents[-1].end:
                self.extents.append(_Extent(start, start + size))
            extent = self.extents[-1]
            extent.end = max(extent.end, start + size)
            extent.members.append(i)
        self._refuse_overlap()
        self.place: dict[int, _Extent] = {}
        for extent in self.extents:
            extent.make_copy()
            for i in extent.members:
                self.place[i] = extent
                self._slice(i)[...] = self.arrays[i].reshape(-1).view(np.uint8)

    def _slice(self, i: int) -> np.ndarray:
        extent = self.place[i]
        begin = self.arrays[i].__array_interface__["data"][0] - extent.start
        return extent.bytes[begin : begin + self.arrays[i].nbytes]

    def _refuse_overlap(self) -> None:
        parameters = self.kernel.signature.parameters
        for extent in self.extents:
            written = [i for i in extent.members if not parameters[i].is_const]
            restricted = [i for i in extent.members if parameters[i].is_restrict]
            if len(extent.members) > 1 and written and restricted:
                names = " and ".join(parameters[i].name for i in sorted(extent.members))
                raise KernelFault(f"{self.kernel}: {names} overlap, but are declared __restrict__ and written to")

    def run(self, library: NativeLibrary, shape: tuple[int, ...]) -> None:
        """Launch with what the C++ calls its shape: run_grid in scheduler.h."""
        keep: list[np.ndarray] = []
        nothing = np.full(2 * _GUARD, _FILL, np.uint8)  # where an empty array points to
        for i, value in enumerate(self.values):
            if value is None:
                keep.append(np.zeros((), np.uintp))
            elif i in self.arrays:
                extent = self.place[i]
                address = extent.address + self.arrays[i].__array_interface__["data"][0] - extent.start
                keep.append(np.array(address, np.uintp))
            elif isinstance(value, np.ndarray):
                keep.append(np.array(nothing.__array_interface__["data"][0] + _GUARD, np.uintp))
            else:
                keep.append(np.array(value))
        pointers = np.array([value.ctypes.data for value in keep], np.uintp)
        sizes = np.array(shape, np.uint32)
        text = np.zeros(2048, np.uint8)
        guards = [part for extent in self.extents for part in (extent.before, extent.behind)]
        sanitizing = is_sanitizing()
        if sanitizing:
            for part in guards:
                library.call("cuda_on_cpu_forbid", part.ctypes.data, part.size, 1)
        try:
            status = library.call(
                f"cuda_on_cpu_launch_{self.kernel.name}",
                sizes.ctypes.data,
                pointers.ctypes.data,
                text.ctypes.data,
                text.size,
            )
        finally:  # a KeyboardInterrupt comes out of the call
            if sanitizing:
                for part in guards:
                    library.call("cuda_on_cpu_forbid", part.ctypes.data, part.size, 0)
        if status:
            message = text.tobytes().split(b"\0", 1)[0].decode(errors="replace")
            raise KernelFault(f"{self.kernel}: {message}")
        for extent in self.extents:
            self._check_guards(extent)
        self._check_constants()
        if (nothing != _FILL).any():
            raise KernelFault(f"{self.kernel}: wrote to an empty array")

    def _check_guards(self, extent: _Extent) -> None:
        names = " or ".join(self.kernel.signature.parameters[i].name for i in sorted(extent.members))
        itemsize = self.arrays[extent.members[0]].itemsize
        behind = np.flatnonzero(extent.behind != _FILL)
        if behind.size:
            count = int(behind[0]) // itemsize + 1
            raise KernelFault(f"{self.kernel}: wrote past the end of {names}, by {count} elements or more")
        before = np.flatnonzero(extent.before != _FILL)
        if before.size:
            count = -(-(extent.before.size - int(before[-1])) // itemsize)
            raise KernelFault(f"{self.kernel}: wrote before the start of {names}, by {count} elements or more")

    def _check_constants(self) -> None:
        """What no parameter may write to is as it was."""
        parameters = self.kernel.signature.parameters
        for extent in self.extents:
            if not all(parameters[i].is_const for i in extent.members):
                continue
            for i in extent.members:
                differs = self._slice(i) != self.arrays[i].reshape(-1).view(np.uint8)
                if differs.any():
                    element = int(np.flatnonzero(differs)[0]) // self.arrays[i].itemsize
                    raise KernelFault(
                        f"{self.kernel}: wrote to {parameters[i].name}, which is declared const: element {element}"
                    )

    def require_equal(self, other: GuardedMemory) -> None:
        for mine, theirs in zip(self.extents, other.extents, strict=True):
            if not np.array_equal(mine.bytes, theirs.bytes):
                names = " or ".join(self.kernel.signature.parameters[i].name for i in sorted(mine.members))
                count = int((mine.bytes != theirs.bytes).sum())
                raise KernelFault(
                    f"{self.kernel}: {names} differs in {count} bytes when the threads run in reversed order: a "
                    "barrier is missing, or two threads write to one place"
                )

    def copy_back(self) -> None:
        for i, array in self.arrays.items():
            if not self.kernel.signature.parameters[i].is_const:
                array.reshape(-1).view(np.uint8)[...] = self._slice(i)
