"""``gpunet.cuda``: what a user sees of the GPU, under the names of ``torch.cuda``.

Importing it does not import CuPy, and on a machine without a GPU its questions have honest answers: nothing is
available, no device is there, no memory is used. Only what cannot be done without a GPU raises. ``docs/cuda.md`` tells
of devices, memory, streams and errors together.
"""

from __future__ import annotations

import typing as _typing

from gpunet import _missing
from gpunet.backend import cuda_runtime as _runtime
from gpunet.backend import gpu_memory as _memory
from gpunet.backend.cuda_runtime import CurrentDevice as device
from gpunet.backend.cuda_runtime import DeviceProperties
from gpunet.backend.devices import cupy as _require_gpu
from gpunet.backend.devices import is_cuda_available as _is_available
from gpunet.backend.devices import is_cuda_in_use as _is_in_use
from gpunet.backend.errors import OutOfMemoryError
from gpunet.backend.random import Generator as _Generator
from gpunet.backend.streams import (
    Event,
    Stream,
    StreamContext,
    current_stream,
    default_stream,
    set_stream,
    stream,
)

if _typing.TYPE_CHECKING:  # gn.cuda.Device would be taken for gn.cuda.device
    from gpunet.backend.devices import Device

__all__ = [
    "DeviceProperties",
    "Event",
    "OutOfMemoryError",
    "Stream",
    "StreamContext",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "empty_cache",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "init",
    "is_available",
    "is_initialized",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "memory_summary",
    "reset_peak_memory_stats",
    "set_device",
    "set_stream",
    "stream",
    "synchronize",
]

_GIB = 1 << 30


def is_available() -> bool:
    """True if a CUDA GPU can be used. ``gpunet info`` says why, where it cannot."""
    return _is_available()


def is_initialized() -> bool:
    """True if something has used the GPU, or asked whether there is one. It does not look for one itself."""
    return _is_in_use()


def init() -> None:
    """Make the GPU ready, as its first use would.

    Raises:
        DeviceError: there is no usable GPU; the message says why.
    """
    _require_gpu()


def device_count() -> int:
    """The number of GPUs; 0 if none can be used."""
    return _runtime.device_count()


def current_device() -> int:
    """The number of the GPU that ``"cuda"`` means in this thread.

    Raises:
        DeviceError: there is no usable GPU; the message says why.
    """
    return _runtime.cuda_index(None)


def set_device(device: Device | str | int | None) -> None:
    """Make a GPU the one that ``"cuda"`` means in this thread.

    Args:
        device: which one, as ``"cuda:1"`` or 1; None is the current one, and a negative number changes nothing.

    Raises:
        DeviceError: there is no such GPU; the message says why.
    """
    if not isinstance(device, int) or device >= 0:
        _runtime.set_current_device(_runtime.cuda_index(device))


def get_device_name(device: Device | str | int | None = None) -> str:
    """The name of a GPU, such as ``"NVIDIA H100"``.

    Args:
        device: which one, as ``"cuda:1"`` or 1; None is the current one.

    Raises:
        DeviceError: there is no such GPU.
    """
    return _runtime.device_name(_runtime.cuda_index(device))


def get_device_properties(device: Device | str | int | None = None) -> DeviceProperties:
    """What a GPU is and has: ``name``, ``total_memory``, ``major``, ``minor``, ``multi_processor_count`` and more.

    Args:
        device: which one; None is the current one.

    Raises:
        DeviceError: there is no such GPU.
    """
    return _runtime.device_properties(_runtime.cuda_index(device))


def get_device_capability(device: Device | str | int | None = None) -> tuple[int, int]:
    """A GPU's compute capability, such as ``(9, 0)``.

    Args:
        device: which one; None is the current one.

    Raises:
        DeviceError: there is no such GPU.
    """
    found = get_device_properties(device)
    return found.major, found.minor


def manual_seed(seed: int) -> None:
    """Nothing of its own: all random numbers come from the streams of ``gpunet.manual_seed``, whatever the device.

    Raises:
        TypeError, ValueError: not a 64-bit integer.
    """
    _Generator().manual_seed(seed)  # checks it


manual_seed_all = manual_seed


def mem_get_info(device: Device | str | int | None = None) -> tuple[int, int]:
    """Bytes of a GPU's memory that are free, whoever may ask for them, and all there are.

    What is free for CuPy's pool to take; arrays can also have what the pool holds and does not use.

    Args:
        device: which one; None is the current one.

    Raises:
        DeviceError: there is no such GPU; the message says why.
    """
    return _memory.memory_free_and_total(_runtime.cuda_index(device))


def memory_allocated(device: Device | str | int | None = None) -> int:
    """Bytes of a GPU's memory that arrays occupy, in the pieces of 512 that CuPy hands out; 0 without a GPU.

    Args:
        device: which one; None is the current one.

    Raises:
        DeviceError: there are GPUs, but not the one that was named; or it is the name of none.
    """
    return 0 if _nowhere(device) else _memory.memory_allocated(_runtime.cuda_index(device))


def max_memory_allocated(device: Device | str | int | None = None) -> int:
    """The most bytes of a GPU's memory that arrays have occupied at a time; 0 without a GPU.

    Counted from the first use of the GPU, or from ``reset_peak_memory_stats``.

    Args:
        device: which one; None is the current one.

    Raises:
        DeviceError: there are GPUs, but not the one that was named; or it is the name of none.
    """
    return 0 if _nowhere(device) else _memory.max_memory_allocated(_runtime.cuda_index(device))


def memory_reserved(device: Device | str | int | None = None) -> int:
    """Bytes of a GPU's memory that are held for arrays, in use or not; 0 without a GPU.

    Args:
        device: which one; None is the current one.

    Raises:
        DeviceError: there are GPUs, but not the one that was named; or it is the name of none.
    """
    return 0 if _nowhere(device) else _memory.memory_reserved(_runtime.cuda_index(device))


def max_memory_reserved(device: Device | str | int | None = None) -> int:
    """The most bytes of a GPU's memory that have been held for arrays at a time; 0 without a GPU.

    Args:
        device: which one; None is the current one.

    Raises:
        DeviceError: there are GPUs, but not the one that was named; or it is the name of none.
    """
    return 0 if _nowhere(device) else _memory.max_memory_reserved(_runtime.cuda_index(device))


def reset_peak_memory_stats(device: Device | str | int | None = None) -> None:
    """Let ``max_memory_allocated`` and ``max_memory_reserved`` start from now. Does nothing without a GPU.

    Args:
        device: which one; None is the current one.

    Raises:
        DeviceError: there are GPUs, but not the one that was named; or it is the name of none.
    """
    if not _nowhere(device):
        _memory.reset_peak_memory(_runtime.cuda_index(device))


def memory_stats(device: Device | str | int | None = None) -> dict[str, int]:
    """Numbers about a GPU's memory, those of PyTorch's that there are; nothing without a GPU.

    Args:
        device: which one; None is the current one.

    Returns:
        ``allocated_bytes.all.current`` and ``.peak``, ``reserved_bytes.all.current`` and ``.peak``,
        ``num_alloc_retries`` (allocations that first failed) and ``num_ooms`` (those that failed for good).

    Raises:
        DeviceError: there are GPUs, but not the one that was named; or it is the name of none.
    """
    return {} if _nowhere(device) else _memory.memory_statistics(_runtime.cuda_index(device))


def memory_summary(device: Device | str | int | None = None, abbreviated: bool = False) -> str:
    """``memory_stats`` as a few lines of text.

    Args:
        device: which one; None is the current one.
        abbreviated: PyTorch's, without effect: the text is short.

    Raises:
        DeviceError: there are GPUs, but not the one that was named; or it is the name of none.
    """
    if _nowhere(device):
        return "no GPU is used"
    index = _runtime.cuda_index(device)
    found = _memory.memory_statistics(index)
    free, total = _memory.memory_free_and_total(index)
    lines = [f"memory of cuda:{index} ({_runtime.device_name(index)})   now GiB     peak GiB"]
    for name, key in (("used by arrays", "allocated_bytes"), ("held by the pool", "reserved_bytes")):
        now, peak = (found[f"{key}.all.{when}"] / _GIB for when in ("current", "peak"))
        lines.append(f"  {name:<18}{now:12.3f} {peak:12.3f}")
    lines.append(f"  {'free on the GPU':<18}{free / _GIB:12.3f} of {total / _GIB:.3f}")
    lines.append(f"  allocations tried again: {found['num_alloc_retries']}, failed: {found['num_ooms']}")
    return "\n".join(lines)


def synchronize(device: Device | str | int | None = None) -> None:
    """Wait until everything asked of a GPU is done.

    Args:
        device: which one; None is the current one.

    Raises:
        DeviceError: there is no such GPU; the message says why.
    """
    _runtime.synchronize(_runtime.cuda_index(device))


def empty_cache() -> None:
    """Give the GPU memory that no array uses back, for other programs to use. Does nothing without a GPU."""
    if is_available():
        _memory.free_cached_memory()


def _nowhere(device: Device | str | int | None) -> bool:
    """True where there is no GPU, whichever is named: nothing of its memory is used.

    Raises:
        DeviceError: it is the name of no GPU.
    """
    if is_available():
        return False
    if device is not None:
        _runtime.require_gpu_name(device)
    return True


_missing.explain(__name__)

del annotations  # of __future__: it is no name of this module's
