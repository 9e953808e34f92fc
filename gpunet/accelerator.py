"""``gpunet.accelerator``: the device that is not the CPU, under the names of ``torch.accelerator``."""

from __future__ import annotations

from gpunet.backend import cuda_runtime
from gpunet.backend.devices import Device, is_cuda_available

__all__ = [
    "current_accelerator",
    "current_device_index",
    "device_count",
    "is_available",
    "synchronize",
]


def is_available() -> bool:
    """True if a GPU can be used."""
    return is_cuda_available()


def current_accelerator(check_available: bool = False) -> Device | None:
    """The GPU that tensors go to, or None where there is none.

    Args:
        check_available: PyTorch's name for what gpunet always does.
    """
    return Device("cuda", cuda_runtime.cuda_index(None)) if is_available() else None


def device_count() -> int:
    """The number of GPUs; 0 if none can be used."""
    return cuda_runtime.device_count()


def current_device_index() -> int:
    """The number of the current GPU.

    Raises:
        DeviceError: there is no usable GPU; the message says why.
    """
    return cuda_runtime.cuda_index(None)


def synchronize(device: Device | str | int | None = None) -> None:
    """Wait until everything asked of a GPU is done.

    Args:
        device: which one; None is the current one.

    Raises:
        DeviceError: there is no such GPU; the message says why.
    """
    cuda_runtime.synchronize(cuda_runtime.cuda_index(device))
