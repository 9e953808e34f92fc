"""Questions to the GPUs and to their driver: how many, which, what they can do, and which one is current."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from gpunet.backend import devices
from gpunet.backend.devices import Device
from gpunet.backend.errors import DeviceError

__all__ = [
    "CurrentDevice",
    "DeviceProperties",
    "cuda_index",
    "device_count",
    "device_name",
    "device_properties",
    "driver_cuda_version",
    "require_gpu_name",
    "set_current_device",
    "synchronize",
]


def device_count() -> int:
    """The number of GPUs that can be used: 0 without CuPy or a driver."""
    return int(devices.cupy().cuda.runtime.getDeviceCount()) if devices.is_cuda_available() else 0


def cuda_index(device: Device | str | int | None) -> int:
    """The number of the GPU that a ``device`` argument means; None is the current one.

    Raises:
        DeviceError: there is no such GPU, or the device is none.
    """
    if device is None:
        return int(devices.cupy().cuda.runtime.getDevice())
    found = devices.device(device)
    if found.type != "cuda":
        raise DeviceError(f"device: expected a CUDA device, got {str(found)!r}")
    count = int(devices.cupy().cuda.runtime.getDeviceCount())
    if found.index >= count:  # a Device that was made where there were more
        raise DeviceError(f"device: {str(found)!r} does not exist; this machine has {count} CUDA device(s)")
    return found.index


def require_gpu_name(device: Device | str | int) -> None:
    """Refuse what could not name a GPU on any machine, without asking whether this one has it.

    Raises:
        DeviceError: a device of another type, an unknown name, a negative number, or no name.
    """
    if isinstance(device, str):
        kind, separator, number = device.partition(":")
        named = kind == "cuda" and (not separator or number.isdecimal())
    elif isinstance(device, Device):
        named = device.type == "cuda"
    else:
        named = isinstance(device, int) and not isinstance(device, bool) and device >= 0
    if not named:
        cuda_index(device)  # it says what is wrong


@dataclass(frozen=True)
class DeviceProperties:
    """What a GPU is and has. Sizes are in bytes, registers in 32-bit ones.

    Attributes:
        name: such as ``"NVIDIA H100"``.
        major: compute capability before the point.
        minor: and behind it.
        total_memory: its memory.
        multi_processor_count: multiprocessors (SMs).
        warp_size: threads of a warp.
        max_threads_per_multi_processor: threads that a multiprocessor holds at a time.
        regs_per_multiprocessor: registers of a multiprocessor.
        shared_memory_per_block: shared memory that a block has without asking for more.
        shared_memory_per_block_optin: and the most it can ask for.
        shared_memory_per_multiprocessor: shared memory of a multiprocessor.
        L2_cache_size: the cache that all multiprocessors share.
    """

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    warp_size: int = 0
    max_threads_per_multi_processor: int = 0
    regs_per_multiprocessor: int = 0
    shared_memory_per_block: int = 0
    shared_memory_per_block_optin: int = 0
    shared_memory_per_multiprocessor: int = 0
    L2_cache_size: int = 0


# Our names for what the CUDA runtime tells in every version that CuPy 14 runs with, and for what may be missing.
_ALWAYS = {
    "major": "major",
    "minor": "minor",
    "total_memory": "totalGlobalMem",
    "multi_processor_count": "multiProcessorCount",
}
_MAY_BE_MISSING = {
    "warp_size": "warpSize",
    "max_threads_per_multi_processor": "maxThreadsPerMultiProcessor",
    "regs_per_multiprocessor": "regsPerMultiprocessor",
    "shared_memory_per_block": "sharedMemPerBlock",
    "shared_memory_per_block_optin": "sharedMemPerBlockOptin",
    "shared_memory_per_multiprocessor": "sharedMemPerMultiprocessor",
    "L2_cache_size": "l2CacheSize",
}


def device_name(index: int) -> str:
    """The name of a GPU."""
    return bytes(devices.cupy().cuda.runtime.getDeviceProperties(index)["name"]).decode()


def device_properties(index: int) -> DeviceProperties:
    """What a GPU is and has; 0 for what the CUDA runtime does not tell."""
    told = devices.cupy().cuda.runtime.getDeviceProperties(index)
    numbers = {ours: int(told[theirs]) for ours, theirs in _ALWAYS.items()}
    numbers |= {ours: int(told.get(theirs, 0)) for ours, theirs in _MAY_BE_MISSING.items()}
    return DeviceProperties(bytes(told["name"]).decode(), **numbers)


def set_current_device(index: int) -> None:
    """Make a GPU the one that ``"cuda"`` means in this thread."""
    devices.cupy().cuda.Device(index).use()


class CurrentDevice:
    """A block in which a GPU is the current one of this thread.

    Args:
        device: as ``"cuda:1"`` or 1; None or a negative number changes nothing.

    Raises:
        DeviceError: there is no such GPU; the message says why.
    """

    def __init__(self, device: Device | str | int | None) -> None:
        nothing = device is None or (isinstance(device, int) and device < 0)
        self.idx = -1 if nothing else cuda_index(device)
        self._entered: list[Any] = []

    def __enter__(self) -> None:
        if self.idx >= 0:
            self._entered.append(devices.cupy().cuda.Device(self.idx))
            self._entered[-1].__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entered:
            self._entered.pop().__exit__(kind, error, trace)


def synchronize(index: int) -> None:
    """Wait until everything asked of a GPU is done."""
    devices.cupy().cuda.Device(index).synchronize()


def driver_cuda_version() -> tuple[int, int] | None:
    """The newest CUDA version that the installed NVIDIA driver supports, such as (13, 0); None without a driver.

    It asks the driver itself, so it does not need CuPy.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
        version = ctypes.c_int()
        if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except (AttributeError, OSError):
        return None
    return version.value // 1000, version.value % 1000 // 10
