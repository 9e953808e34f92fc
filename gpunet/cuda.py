"""``gpunet.cuda``: what a user sees of the GPU, under the names of ``torch.cuda``.

Importing it does not import CuPy, and on a machine without a GPU its questions have honest answers: nothing is
available, no device is there, no memory is used. Only what cannot be done without a GPU raises.
"""

from __future__ import annotations

from gpunet import _missing
from gpunet.backend import cuda_runtime
from gpunet.backend.devices import Device, is_cuda_available
from gpunet.backend.random import Generator

__all__ = [
    "current_device",
    "device_count",
    "empty_cache",
    "get_device_name",
    "is_available",
    "manual_seed",
    "manual_seed_all",
    "memory_allocated",
    "memory_reserved",
    "synchronize",
]


def is_available() -> bool:
    """True if a CUDA GPU can be used. ``gpunet info`` says why, where it cannot."""
    return is_cuda_available()


def device_count() -> int:
    """The number of GPUs; 0 if none can be used."""
    return cuda_runtime.device_count()


def current_device() -> int:
    """The number of the GPU that ``"cuda"`` means in this thread.

    Raises:
        DeviceError: there is no usable GPU; the message says why.
    """
    return cuda_runtime.cuda_index(None)


def get_device_name(device: Device | str | int | None = None) -> str:
    """The name of a GPU, such as ``"NVIDIA H100"``.

    Args:
        device: which one, as ``"cuda:1"`` or 1; None is the current one.

    Raises:
        DeviceError: there is no such GPU.
    """
    return cuda_runtime.device_name(cuda_runtime.cuda_index(device))


def manual_seed(seed: int) -> None:
    """Nothing of its own: all random numbers come from the streams of ``gpunet.manual_seed``, whatever the device.

    Raises:
        TypeError, ValueError: not a 64-bit integer.
    """
    Generator().manual_seed(seed)  # checks it


manual_seed_all = manual_seed


def memory_allocated(device: Device | str | int | None = None) -> int:
    """Bytes of a GPU's memory that arrays occupy; 0 without a GPU.

    Args:
        device: which one; None is the current one.

    Raises:
        DeviceError: a GPU was named that is not there.
    """
    if device is None and not is_available():
        return 0
    return cuda_runtime.memory_allocated(cuda_runtime.cuda_index(device))


def memory_reserved(device: Device | str | int | None = None) -> int:
    """Bytes of a GPU's memory that are held for arrays, in use or not; 0 without a GPU.

    Args:
        device: which one; None is the current one.

    Raises:
        DeviceError: a GPU was named that is not there.
    """
    if device is None and not is_available():
        return 0
    return cuda_runtime.memory_reserved(cuda_runtime.cuda_index(device))


def synchronize(device: Device | str | int | None = None) -> None:
    """Wait until everything asked of a GPU is done.

    Args:
        device: which one; None is the current one.

    Raises:
        DeviceError: there is no such GPU; the message says why.
    """
    cuda_runtime.synchronize(cuda_runtime.cuda_index(device))


def empty_cache() -> None:
    """Give the GPU memory that no array uses back, for other programs to use. Does nothing without a GPU."""
    if is_available():
        cuda_runtime.free_cached_memory()


_missing.explain(__name__)
