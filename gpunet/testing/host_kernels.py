"""CUDA on a CPU: compile kernel files with the machine's C++ compiler and run them on NumPy arrays.

``cuda_headers/cuda_on_cpu.h``, force-included before the unchanged ``.cu``, says how a block is run and what that can
and cannot show; beside it are stand-ins for the CUDA headers that kernels include. ``host_library`` compiles,
``guarded_memory`` looks after the arrays:

- An array is copied between two guards of 4 KiB filled with 0xFF bytes. A store past either end is found when the
  kernel returns; a load from there gives NaN or −1, which spreads into the result. Arrays that share memory still do.
- In ``order="both"`` each launch runs twice from the same state, the threads in order and in reversed order, and the
  results must be equal bit for bit.
- With AddressSanitizer the guards cannot be touched at all, and the report names the line (``sanitizer_environment``).
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from gpunet.backend.kernel_arguments import require_resident, require_shared_memory
from gpunet.backend.kernels import Kernel, on_host
from gpunet.testing.guarded_memory import GuardedMemory
from gpunet.testing.host_compiler import host_compiler, host_compiler_missing, require_compiler, sanitizer_environment
from gpunet.testing.host_library import KernelFault, host_library

__all__ = [
    "KernelFault",
    "Order",
    "cuda_on_cpu",
    "executed_kernels",
    "host_compiler",
    "host_compiler_missing",
    "sanitizer_environment",
]

Order = Literal["forward", "reversed", "both"]

_SECONDS = "GPUNET_CUDA_ON_CPU_SECONDS"
# As in cuda_headers/: a block's dynamic shared memory in bytes, as on the largest GPUs, and the threads of a grid whose
# blocks wait for each other.
_MAX_SHARED_MEMORY = 227 * 1024
_MAX_COOPERATIVE_THREADS = 64 * 1024
# The library's state is global: one launch at a time.
_lock = threading.RLock()


def _seconds() -> int:
    """How long a launch may take."""
    value = os.environ.get(_SECONDS, "") or "60"
    if not value.isdecimal() or len(value) > 9:
        raise ValueError(f"{_SECONDS}: expected a whole number of seconds, 0 for no limit, got {value!r}")
    return int(value)


_executed: dict[tuple[str, str], set[str]] = {}


def executed_kernels() -> dict[tuple[str, str], set[str]]:
    """The kernels that have run on the CPU in this process: (file, function) to the orders they ran in."""
    return {key: set(orders) for key, orders in _executed.items()}


@contextmanager
def cuda_on_cpu(order: Order = "forward") -> Iterator[None]:
    """Run the CUDA kernels launched on NumPy arrays inside the block on this machine's CPU.

    Operations take the path they take on a GPU. Meant for tests: it is thousands of times slower than one. A launch
    ends with a KernelFault after 60 seconds of processor time, or what ``GPUNET_CUDA_ON_CPU_SECONDS`` says (0: never),
    and Ctrl-C ends it at any time.

    Args:
        order: in which order a block's threads take turns: ``"forward"``, ``"reversed"``, or ``"both"``: each launch
            runs in either order, and the results must be the same bits.

    Raises:
        RuntimeError: there is no C++20 compiler.
        ValueError: an unknown order; by a launch, if ``GPUNET_CUDA_ON_CPU_SECONDS`` is no whole number.
        KernelCompileError: by a launch, if the kernel does not compile.
        KernelFault: by a launch, if the kernel writes outside an array, crashes, cannot pass a barrier, never ends, or
            depends on the order.
    """
    orders: dict[str, tuple[str, ...]] = {
        "forward": ("forward",),
        "reversed": ("reversed",),
        "both": ("forward", "reversed"),
    }
    if not isinstance(order, str) or order not in orders:
        raise ValueError(f"order: expected 'forward', 'reversed' or 'both', got {order!r}")
    require_compiler()

    def execute(
        kernel: Kernel,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        values: tuple[Any, ...],
        shared: int,
        cooperative: bool,
    ) -> None:
        require_shared_memory(kernel, "cpu", shared, _MAX_SHARED_MEMORY)
        if cooperative:
            require_resident(kernel, "cpu", grid, block, shared, _MAX_COOPERATIVE_THREADS // math.prod(block))
        with _lock:
            library = host_library(kernel.file)
            seconds = _seconds()
            memories = []
            for name in orders[order]:
                memory = GuardedMemory(kernel, values)
                memory.run(library, (*grid, *block, shared, name == "reversed", cooperative, seconds))
                _executed.setdefault((kernel.file.name, kernel.name), set()).add(name)
                memories.append(memory)
            for memory in memories[1:]:
                memory.require_equal(memories[0])
            memories[0].copy_back()

    with on_host(execute):
        yield
