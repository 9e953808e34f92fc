"""The memory of the GPUs: how much is used, how much was used at most, and what to say when there is no more.

CuPy keeps the memory of freed arrays in a pool. All allocations of the process go through one function, its allocator,
and ``_Allocator`` stands in front of the one that was set when gpunet first uses CuPy. It changes nothing about where
memory comes from; it notes the peaks, and turns a failure into gpunet's error.

CuPy's memory hooks would see allocations too, but belong to the thread that registers them, so that an array freed by
another thread would stay counted. Here nothing is counted by hand: the pool itself is asked. That takes a pass over
all arrays, so it is asked only when what was allocated since the last answer could have made a new peak.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from typing import Any

from gpunet.backend import devices
from gpunet.backend.errors import OutOfMemoryError

__all__ = [
    "free_cached_memory",
    "is_out_of_memory",
    "max_memory_allocated",
    "max_memory_reserved",
    "memory_allocated",
    "memory_free_and_total",
    "memory_reserved",
    "memory_statistics",
    "out_of_memory",
    "reset_peak_memory",
]

_MEMORY_ALLOCATION = 2  # cudaErrorMemoryAllocation, and CUDA_ERROR_OUT_OF_MEMORY of the driver
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class _Account:
    """What is known of one GPU.

    Attributes:
        allocated_peak: the most bytes that arrays have occupied.
        reserved_peak: the most bytes that the pool has held.
        used: the bytes that arrays occupied when the pool was last asked.
        since: the bytes allocated since then: no more than ``used + since`` are occupied now.
        retries: allocations that had to be tried again after freeing what was cached.
        failures: allocations that failed.
    """

    __slots__ = ("allocated_peak", "failures", "reserved_peak", "retries", "since", "used")

    def __init__(self) -> None:
        self.allocated_peak = self.reserved_peak = self.used = self.since = self.retries = self.failures = 0


_accounts: dict[int, _Account] = {}
# A collection within may free and allocate: the same thread must be able to take it twice.
_lock = threading.RLock()


def _account(index: int) -> _Account:
    account = _accounts.get(index)
    if account is None:
        account = _accounts.setdefault(index, _Account())
    return account


class _Allocator:
    """A CuPy allocator: ``allocate`` with the peaks noted and its failures explained."""

    def __init__(self, module: Any, allocate: Any) -> None:
        self.module = module
        self.allocate = allocate
        self.pool = module.get_default_memory_pool()
        # Programs that know CuPy catch CuPy's error.
        theirs = getattr(getattr(module.cuda, "memory", None), "OutOfMemoryError", None)
        self.error: type[OutOfMemoryError] = OutOfMemoryError
        if isinstance(theirs, type):
            name, described = OutOfMemoryError.__name__, {"__doc__": OutOfMemoryError.__doc__, "__module__": __name__}
            with contextlib.suppress(TypeError):  # its memory layout forbids it
                self.error = type(name, (_AsCuPys, theirs), described)

    def __call__(self, size: int) -> Any:
        try:
            pointer = self.allocate(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            pointer = self._try_again(size)
        memory = pointer.mem
        taken = memory.size
        if taken:  # this runs for every array, so it is written out
            reserved = self.pool.total_bytes()
            account = _accounts.get(memory.device_id) or _account(memory.device_id)
            with _lock:
                account.since += taken
                if reserved > account.reserved_peak:
                    account.reserved_peak = reserved
                if account.used + account.since > account.allocated_peak < reserved:
                    self._look(account)
        return pointer

    def _look(self, account: _Account) -> None:
        account.since, account.used = 0, self.pool.used_bytes()
        account.allocated_peak = max(account.allocated_peak, account.used)

    def _try_again(self, size: int) -> Any:
        index = int(self.module.cuda.runtime.getDevice())
        _account(index).retries += 1
        gc.collect()  # arrays in reference cycles
        self.pool.free_all_blocks()
        try:
            return self.allocate(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            _account(index).failures += 1
            raise self.error(describe_shortage(self.module, index, size)) from error


class _AsCuPys(OutOfMemoryError):
    """Made with a text, whatever the class of CuPy's that it is combined with is made with."""

    def __init__(self, text: str) -> None:
        RuntimeError.__init__(self, text)
        self.text = text

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return OutOfMemoryError, (self.text,)  # another process may have no CuPy


def _install(module: Any) -> None:
    # Inside of cupy.cuda.using_allocator() the allocator cannot be set: what the program has chosen stays.
    with contextlib.suppress(ValueError):
        module.cuda.set_allocator(_Allocator(module, module.cuda.get_allocator()))


devices.when_cupy_loads(_install)


def is_out_of_memory(error: BaseException) -> bool:
    """True if an exception of CuPy says that the memory of the GPU does not suffice."""
    if isinstance(error, MemoryError):
        return True
    from_cuda = type(error).__name__ in ("CUDARuntimeError", "CUDADriverError")
    return from_cuda and getattr(error, "status", None) == _MEMORY_ALLOCATION


def out_of_memory(index: int, purpose: str) -> OutOfMemoryError:
    """The error for memory that something else than an array asked for in vain."""
    return OutOfMemoryError(describe_shortage(devices.cupy(), index, None, purpose))


def describe_shortage(module: Any, index: int, size: int | None, purpose: str = "") -> str:
    """What was asked for, who has the memory, and what to try. It never raises: there may be no memory to look."""
    asked = f"{_readable(size)} asked for" if size is not None else purpose
    parts = []
    others = 0
    with contextlib.suppress(Exception), module.cuda.Device(index):
        pool = module.get_default_memory_pool()
        used, reserved, limit = int(pool.used_bytes()), int(pool.total_bytes()), int(pool.get_limit())
        parts.append(f"arrays use {_readable(used)} and {_readable(reserved - used)} are cached")
        if limit:
            parts.append(f"CuPy is limited to {_readable(limit)} (CUPY_GPU_MEMORY_LIMIT or set_limit)")
        free, total = (int(number) for number in module.cuda.runtime.memGetInfo())
        parts.append(f"{_readable(free)} of the GPU's {_readable(total)} are free")
        others = total - free - reserved
        parts.append(f"other programs and CUDA itself have {_readable(others)}")
    found = "; ".join(parts) or "the GPU does not say how much it has left"
    advice = "a smaller batch, `with gn.no_grad():` where nothing is trained, gn.cuda.empty_cache()"
    if others > 1 << 30 or not parts:
        advice += ", or ending other programs on this GPU (nvidia-smi lists them)"
    return f"CUDA out of memory on 'cuda:{index}': {asked}; {found}. Try {advice}"


def _readable(size: int) -> str:
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} bytes"


def memory_allocated(index: int) -> int:
    """Bytes of a GPU's memory that arrays occupy, rounded up to the pieces that CuPy hands out."""
    module = devices.cupy()
    with module.cuda.Device(index):
        return int(module.get_default_memory_pool().used_bytes())


def memory_reserved(index: int) -> int:
    """Bytes of a GPU's memory that CuPy's pool holds, in use or not."""
    module = devices.cupy()
    with module.cuda.Device(index):
        return int(module.get_default_memory_pool().total_bytes())


def max_memory_allocated(index: int) -> int:
    """The most bytes that arrays have occupied at a time since the peaks were reset."""
    return max(_account(index).allocated_peak, memory_allocated(index))


def max_memory_reserved(index: int) -> int:
    """The most bytes that CuPy's pool has held at a time since the peaks were reset."""
    return max(_account(index).reserved_peak, memory_reserved(index))


def reset_peak_memory(index: int) -> None:
    """Let the peaks of a GPU start from what is used now."""
    with _lock:
        account = _account(index)
        account.allocated_peak = account.used = memory_allocated(index)
        account.since = 0
        account.reserved_peak = memory_reserved(index)


def memory_statistics(index: int) -> dict[str, int]:
    """What is known of a GPU's memory, under PyTorch's keys."""
    account = _account(index)
    return {
        "allocated_bytes.all.current": memory_allocated(index),
        "allocated_bytes.all.peak": max_memory_allocated(index),
        "reserved_bytes.all.current": memory_reserved(index),
        "reserved_bytes.all.peak": max_memory_reserved(index),
        "num_alloc_retries": account.retries,
        "num_ooms": account.failures,
    }


def memory_free_and_total(index: int) -> tuple[int, int]:
    """Bytes of a GPU's memory that are free, whoever asks for them, and all there are."""
    module = devices.cupy()
    with module.cuda.Device(index):
        free, total = module.cuda.runtime.memGetInfo()
    return int(free), int(total)


def free_cached_memory() -> None:
    """Give the memory that no array uses back to the driver, on all GPUs."""
    module = devices.cupy()
    for index in range(int(module.cuda.runtime.getDeviceCount())):
        with module.cuda.Device(index):
            module.get_default_memory_pool().free_all_blocks()
    module.get_default_pinned_memory_pool().free_all_blocks()
