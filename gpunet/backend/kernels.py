"""Launching CUDA kernels: every argument is checked against the kernel's declaration before anything runs.

CuPy passes what it is given: a Python int arrives as ``long long``, a float as ``double``, an array on another GPU as
an address that means nothing there. ``launch`` reads the types that the kernel declares, casts scalars to them, and
refuses an array of another dtype, on another device, with gaps, or badly aligned.

On CuPy arrays the kernel is compiled for the array's device at its first launch. On NumPy arrays it runs where a host
executor has been set, which is how the tests run every kernel without a GPU (``gpunet.testing.cuda_on_cpu``).
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from gpunet.backend import devices
from gpunet.backend.cuda_runtime import driver_cuda_version
from gpunet.backend.errors import DeviceError, ShapeError
from gpunet.backend.gpu_memory import is_out_of_memory, out_of_memory
from gpunet.backend.kernel_arguments import (
    as_count,
    check_arguments,
    data_address,
    is_aligned,
    require_resident,
    require_shared_memory,
)
from gpunet.backend.kernel_files import (
    KernelFile,
    Signature,
    kernel_file,
    kernel_folder,
    kernel_names,
    kernel_source,
    read_kernel_file,
)

__all__ = [
    "HostExecutor",
    "Kernel",
    "KernelCompileError",
    "KernelFile",
    "all_kernels",
    "blocks_for",
    "data_address",
    "explain_compile_log",
    "get_kernel",
    "is_aligned",
    "kernel_file",
    "kernel_folder",
    "kernel_names",
    "kernel_source",
    "launch",
    "on_host",
    "read_kernel_file",
    "uses_kernels",
]

# What every CUDA device since compute capability 3.0 allows.
_MAX_GRID: Final = (2**31 - 1, 65535, 65535)
_MAX_BLOCK: Final = (1024, 1024, 64)
# More dynamic shared memory than this has to be asked for.
_DEFAULT_SHARED_MEMORY: Final = 48 * 1024


class KernelCompileError(RuntimeError):
    """A kernel that the compiler refuses; the message shows the lines it complains about."""


@dataclass(frozen=True)
class Kernel:
    """One ``__global__`` function of a kernel file."""

    file: KernelFile
    signature: Signature

    @property
    def name(self) -> str:
        """The function's name."""
        return self.signature.name

    def __str__(self) -> str:
        return f"{self.file.name}.cu: {self.signature.name}"

    def __hash__(self) -> int:
        return hash((self.file.path, self.signature.name))


def get_kernel(file: str | KernelFile, function: str) -> Kernel:
    """The function ``function`` of a kernel file.

    Args:
        file: the file's name (``"sgd"``), or a file read with ``read_kernel_file``.
        function: the name of one of its ``__global__`` functions.

    Raises:
        KeyError: there is no such file or function; the message lists the nearest names.
    """
    if isinstance(file, str):
        known = _kernels.get((file, function))
        if known is not None:
            return known
    found = kernel_file(file) if isinstance(file, str) else file
    signature = found.functions.get(function)
    if signature is None:
        import difflib

        near = difflib.get_close_matches(function, found.functions) or list(found.functions)
        raise KeyError(f"{found.name}.cu has no kernel {function!r}; did you mean {', '.join(near)}?")
    kernel = Kernel(found, signature)
    if isinstance(file, str):
        _kernels[file, function] = kernel
    return kernel


_kernels: dict[tuple[str, str], Kernel] = {}


def all_kernels() -> tuple[Kernel, ...]:
    """Every ``__global__`` function of every kernel file."""
    return tuple(
        Kernel(kernel_file(name), signature)
        for name in kernel_names()
        for signature in kernel_file(name).functions.values()
    )


# A host executor gets what the launcher has checked: an array, a NumPy scalar or None for each parameter, the bytes of
# dynamic shared memory, and whether the launch is cooperative.
HostExecutor = Callable[[Kernel, tuple[int, int, int], tuple[int, int, int], tuple[Any, ...], int, bool], None]
_host_executor: ContextVar[HostExecutor | None] = ContextVar("gpunet_host_executor", default=None)


@contextmanager
def on_host(executor: HostExecutor) -> Iterator[None]:
    """Run the kernels launched on NumPy arrays with ``executor`` inside the block, in this thread."""
    token = _host_executor.set(executor)
    try:
        yield
    finally:
        _host_executor.reset(token)


def uses_kernels(array: Any) -> bool:
    """True if an operation on this array can run CUDA kernels: it is on a GPU, or a host executor is set."""
    return _host_executor.get() is not None or devices.array_module(array) is not np


def blocks_for(count: int, threads: int, limit: int = 65535) -> int:
    """Blocks of ``threads`` threads for ``count`` pieces of work in a grid-stride loop: at least 1, at most ``limit``.

    It depends on nothing but the count, so that the same work always runs on the same grid.
    """
    return max(1, min(-(-count // threads), limit))


def launch(
    kernel: Kernel,
    grid: int | Sequence[int],
    block: int | Sequence[int],
    args: Sequence[Any],
    shared_memory: int = 0,
    stream: Any = None,
    cooperative: bool = False,
) -> None:
    """Check the arguments against the kernel's declaration and run it.

    Args:
        kernel: from ``get_kernel``.
        grid: blocks, in one to three dimensions.
        block: threads of a block, in one to three dimensions.
        args: one value for each parameter, in order: an array for a pointer (None where the declaration says
            ``/* or null */``), a bool, int or float for anything else. Arrays must be C-contiguous.
        shared_memory: bytes of dynamic shared memory a block has.
        stream: the CuPy stream to launch on; None is the current one. Without meaning on the CPU.
        cooperative: start all blocks at once, so that they can wait for each other (``grid_barrier.cuh``).

    Raises:
        DTypeError: a wrong number of arguments, an array of another dtype or byte order, a scalar the type cannot
            hold, or a grid, a block or shared memory that is not given in integers.
        DeviceError: arrays on different devices, NumPy arrays outside ``gpunet.testing.cuda_on_cpu``, a GPU that is
            older than the kernel needs, no NVRTC, or a driver that is too old for it.
        ShapeError: a grid or block that CUDA does not allow, more blocks in a cooperative launch than the device holds
            at once, more shared memory than it has, or an array with gaps or badly aligned.
        ValueError: a read-only array where the kernel writes.
        KernelCompileError: the compiler refuses the kernel.
        OutOfMemoryError: the GPU has no memory left to load or run it.
    """
    grid3 = _dimensions(kernel, "grid", grid, _MAX_GRID)
    block3 = _dimensions(kernel, "block", block, _MAX_BLOCK)
    threads = block3[0] * block3[1] * block3[2]
    if threads > kernel.signature.max_threads:
        raise ShapeError(
            f"{kernel}: block: {block3} has {threads} threads, the kernel allows {kernel.signature.max_threads}"
        )
    if type(shared_memory) is not int:
        shared_memory = as_count(kernel, "shared_memory", shared_memory)
    if shared_memory < 0:
        raise ShapeError(f"{kernel}: shared_memory must not be negative, got {shared_memory}")
    values, first, home = check_arguments(kernel, args)
    if home.type == "cuda":
        _run_on_gpu(kernel, grid3, block3, values, shared_memory, stream, home.index, cooperative)
        return
    executor = _host_executor.get()
    if executor is None:
        raise DeviceError(
            f"{kernel}: {first} is a NumPy array; a CUDA kernel runs on arrays of a GPU, or inside "
            "gpunet.testing.cuda_on_cpu(): call backward() inside the block that the forward pass was in"
        )
    executor(kernel, grid3, block3, tuple(values), shared_memory, cooperative)


def _dimensions(kernel: Kernel, name: str, value: int | Sequence[int], limits: tuple[int, ...]) -> tuple[int, int, int]:
    if type(value) is int and 1 <= value <= limits[0]:
        return value, 1, 1
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    extents = tuple(as_count(kernel, name, extent) for extent in given)
    if not 1 <= len(extents) <= 3:
        raise ShapeError(f"{kernel}: {name}: expected one to three extents, got {len(extents)}")
    x, y, z = (*extents, 1, 1)[:3]
    for extent, limit in zip((x, y, z), limits, strict=True):
        if not 1 <= extent <= limit:
            raise ShapeError(f"{kernel}: {name}: {extents} is outside 1..{limits} of what CUDA allows")
    return x, y, z


class _Loaded:
    """A kernel on one GPU, ready to run.

    Attributes:
        function: CuPy's.
        shared_memory: bytes of dynamic shared memory that a block may have now.
    """

    __slots__ = ("function", "shared_memory")

    def __init__(self, function: Any) -> None:
        self.function = function
        self.shared_memory = _DEFAULT_SHARED_MEMORY


_functions: dict[tuple[str, str, str, int], _Loaded] = {}
_functions_lock = threading.Lock()
# To CuPy a null pointer is an integer 0 of a pointer's size.
_NULL: Final = np.uintp(0)
_HERE: Final = nullcontext()


def _run_on_gpu(
    kernel: Kernel,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    values: list[Any],
    shared_memory: int,
    stream: Any,
    device_index: int,
    cooperative: bool,
) -> None:
    cupy = devices.cupy()
    with _HERE if cupy.cuda.runtime.getDevice() == device_index else cupy.cuda.Device(device_index):
        loaded = _load(kernel, device_index)
        function = loaded.function
        if shared_memory > loaded.shared_memory:
            limit = int(cupy.cuda.Device(device_index).attributes["MaxSharedMemoryPerBlockOptin"])
            require_shared_memory(kernel, f"cuda:{device_index}", shared_memory, limit)
            function.max_dynamic_shared_size_bytes = loaded.shared_memory = shared_memory
        if cooperative:
            device = cupy.cuda.Device(device_index)
            _require_resident(kernel, function, device, device_index, grid, block, shared_memory)
            # RawModule(enable_cooperative_groups=True) would compile for and link NVIDIA's cooperative groups, which
            # our own grid barrier does not need; the launch is all that differs.
            function = partial(function.kernel, enable_cooperative_groups=True)
        arguments = tuple([_NULL if value is None else value for value in values])
        try:
            with _HERE if stream is None else stream:
                function(grid, block, arguments, shared_mem=shared_memory)
        except Exception as error:
            if is_out_of_memory(error):
                raise out_of_memory(device_index, f"there is not enough to run {kernel}") from error
            raise


def _require_architecture(kernel: Kernel, device: Any, device_index: int) -> None:
    needed = kernel.signature.architecture
    if needed and int(device.compute_capability) < needed:
        raise DeviceError(
            f"{kernel}: needs a GPU of compute capability {needed // 10}.{needed % 10} or later, but "
            f"'cuda:{device_index}' has {int(device.compute_capability) / 10:.1f}"
        )


def _require_resident(
    kernel: Kernel,
    function: Any,
    device: Any,
    device_index: int,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    shared_memory: int,
) -> None:
    """Refuse a cooperative grid whose blocks are not all on the GPU at once."""
    attributes = device.attributes
    if not attributes["CooperativeLaunch"]:
        raise DeviceError(f"{kernel}: 'cuda:{device_index}' has no cooperative launches")
    each = devices.cupy().cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
        function.kernel.ptr, math.prod(block), shared_memory
    )
    limit = int(each) * int(attributes["MultiProcessorCount"])
    require_resident(kernel, f"cuda:{device_index}", grid, block, shared_memory, limit)


def _load(kernel: Kernel, device_index: int) -> _Loaded:
    """The function on the current GPU; its file is compiled at the first call."""
    key = (kernel.file.source, kernel.file.headers_hash, kernel.name, device_index)
    loaded = _functions.get(key)
    if loaded is None:
        device = devices.cupy().cuda.Device(device_index)
        _require_architecture(kernel, device, device_index)
        with _functions_lock:
            if key not in _functions:
                module = _compile_for_gpu(kernel.file, device_index)
                for name, signature in kernel.file.functions.items():
                    if signature.architecture <= int(device.compute_capability):  # others are not in the compiled file
                        _functions[(*key[:2], name, device_index)] = _Loaded(module.get_function(name))
            loaded = _functions[key]
    return loaded


def _compile_for_gpu(file: KernelFile, device_index: int) -> Any:
    """CuPy's module of a kernel file, from its disk cache where it has been compiled before.

    CuPy's key for the cache covers the options and the source, but not what the source includes: the hash of the
    headers is among the options for it.
    """
    cupy = devices.cupy()
    folders = dict.fromkeys((file.path.parent, kernel_folder()))
    options = ("-std=c++17", *(f"-I{folder}" for folder in folders), f"-DGPUNET_HEADERS=0x{file.headers_hash}")
    module = cupy.RawModule(code=file.source, options=options)
    try:
        module.compile()
    except cupy.cuda.compiler.CompileException as error:
        raise KernelCompileError(
            f"{file.name}.cu does not compile:\n{explain_compile_log(str(error), file)}"
        ) from error
    except Exception as error:  # whatever looking for a library or loading the result raises
        if is_out_of_memory(error):
            raise out_of_memory(device_index, f"there is not enough to load {file.name}.cu") from error
        raise DeviceError(f"{file.name}.cu cannot be used: {_explain_failure(error)}") from error
    return module


def _explain_failure(error: Exception) -> str:
    """Why the compiler could not be run, or what it made could not be loaded."""
    text = " ".join(str(error).split())
    try:
        major, minor = devices.cupy().cuda.nvrtc.getVersion()
    except Exception:  # whatever looking for a library raises
        return f"NVRTC was not found; pip install 'gpunet[cuda13]' (or 'gpunet[cuda12]') brings it ({text})"
    driver = driver_cuda_version()
    if driver is not None and driver < (major, minor):
        return (
            f"the compiler, NVRTC, is of CUDA {major}.{minor}, newer than the NVIDIA driver, which supports "
            f"{driver[0]}.{driver[1]}; update the driver, or install CuPy and NVRTC for CUDA {driver[0]} ({text})"
        )
    return f"{text}; `gpunet info` shows what CuPy was built for and what the driver supports"


_LOG_LINE = re.compile(r"(?P<path>\S+?)[(:](?P<line>\d+)\)?(?:[:,]\d+)?: (?P<text>.*)")


def explain_compile_log(log: str, file: KernelFile) -> str:
    """A compiler's log with the source line under each complaint, where the compiler does not show it itself.

    The compilers know the kernel file under a temporary name; every name that is no header's is taken to be it.
    """
    shown: list[str] = []
    lines = log.strip().splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        match = _LOG_LINE.fullmatch(line)
        if match is None:
            shown.append(line)
            continue
        last = re.split(r"[\\/]", match["path"])[-1]
        name = next((header for header in file.headers if header.split("/")[-1] == last), f"{file.name}.cu")
        text = file.headers.get(name, file.source)
        source = text.splitlines()
        number = int(match["line"])
        shown.append(f"{name}({number}): {match['text']}")
        if 1 <= number <= len(source) and following.strip() != source[number - 1].strip():
            shown.append(f"  {source[number - 1]}")
    return "\n".join(shown)
