"""What a GPU can hold at once, for kernels whose blocks wait for each other."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from gpunet.backend import devices

__all__ = ["GPULimits", "gpu_limits"]


class GPULimits(NamedTuple):
    """A GPU's limits.

    Attributes:
        multiprocessors: how many there are.
        shared_memory: bytes of it that a block can have.
        architecture: 90 for compute capability 9.0.
        cooperative: whether it starts all blocks of a grid at once when asked to.
    """

    multiprocessors: int
    shared_memory: int
    architecture: int
    cooperative: bool


# Where kernels run on the CPU: few blocks, so that launches stay short, of the largest size.
_ON_CPU: Final = GPULimits(8, 227 * 1024, 90, True)


def gpu_limits() -> GPULimits:
    """The limits of the current GPU; without one, those of a small GPU, which kernels may use on the CPU."""
    if not devices.is_cuda_in_use():
        return _ON_CPU
    return _limits_of(int(devices.cupy().cuda.runtime.getDevice()))


@cache
def _limits_of(index: int) -> GPULimits:
    device = devices.cupy().cuda.Device(index)
    attributes = device.attributes
    return GPULimits(
        int(attributes["MultiProcessorCount"]),
        int(attributes["MaxSharedMemoryPerBlockOptin"]),
        int(device.compute_capability),
        bool(attributes["CooperativeLaunch"]),
    )
