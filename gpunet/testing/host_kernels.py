"""CUDA on a CPU: compile kernel files with the machine's C++ compiler and run them on NumPy arrays.

``cuda_headers/cuda_on_cpu.h``, force-included before the unchanged ``.cu``, says how a block is run and what that can
and cannot show; beside it are stand-ins for the CUDA headers that kernels include. This module builds the library,
remembers it, and puts guards around every array:

- An array is copied between two guards of 4 KiB filled with 0xFF bytes. A store past either end is found when the
  kernel returns; a load from there gives NaN or −1, which spreads into the result. Arrays that share memory still do.
- In ``order="both"`` each launch runs twice from the same state, the threads in order and in reversed order, and the
  results must be equal bit for bit.
- With AddressSanitizer the guards cannot be touched at all, and the report names the line (``sanitizer_environment``).
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gpunet.backend.kernels import Kernel, KernelCompileError, KernelFile, kernel_folder, on_host
from gpunet.backend.native import NativeLibrary, cache_folder, process_has_symbol

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

_HEADERS = Path(__file__).resolve().parent / "cuda_headers"
_GUARD = 4096
_FILL = 0xFF
_SANITIZE = "GPUNET_CUDA_ON_CPU_SANITIZE"
_SECONDS = "GPUNET_CUDA_ON_CPU_SECONDS"
_FLAGS = (
    "-std=c++20", "-O2", "-g1", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-exceptions", "-fno-strict-aliasing",
    # A product and a sum stay two roundings, on every processor.
    "-ffp-contract=off",
    # Its longjmp takes the stack of a thread for an error.
    "-U_FORTIFY_SOURCE",
    # #pragma unroll is for the CUDA compilers.
    "-Wno-unknown-pragmas",
)  # fmt: skip
# Where the compiler has them. Local variables that were never written are not zero by chance.
# A large frame touches each of its pages, and so the one that must not be touched.
_WANTED_FLAGS = ("-ftrivial-auto-var-init=pattern", "-fstack-clash-protection")
# To g++, one that only some branches set has the same value in the others, unless these are off.
_WANTED_SANITIZER_FLAGS = ("-fno-tree-ccp", "-fno-tree-fre")
# Alignment is looked at here alone: in the ordinary build it would make the tiled kernels three times slower.
_SANITIZER_FLAGS = (
    "-O1", "-fsanitize=address,bounds,alignment", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer",
)  # fmt: skip


class KernelFault(RuntimeError):
    """What a kernel did wrong while it ran on the CPU."""


@dataclass(frozen=True)
class _Compiler:
    command: tuple[str, ...]
    version: str
    flags: tuple[str, ...]  # of those wanted, the ones it has
    sanitizer_flags: tuple[str, ...]


@cache
def _find_compiler(named: str) -> _Compiler | None:
    candidates = [shlex.split(named)] if named else [["g++"], ["c++"], ["clang++"]]
    for command in candidates:
        if shutil.which(command[0]) is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder) / "probe.cpp"
            probe.write_text("#include <bit>\nint probe(float x) { return std::bit_cast<int>(x); }\n")

            def accepts(*flags: str, command: list[str] = command, probe: Path = probe) -> bool:
                line = [*command, "-std=c++20", "-fsyntax-only", "-Werror", *flags, str(probe)]
                return subprocess.run(line, capture_output=True, check=False).returncode == 0

            if not accepts():
                continue
            flags, sanitizer_flags = (
                tuple(flag for flag in wanted if accepts(flag)) for wanted in (_WANTED_FLAGS, _WANTED_SANITIZER_FLAGS)
            )
        version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False).stdout
        return _Compiler(tuple(command), version, flags, sanitizer_flags)
    return None


def host_compiler() -> str | None:
    """The C++20 compiler that runs kernels here (``$CXX``, g++, c++ or clang++), or None."""
    compiler = _find_compiler(os.environ.get("CXX", ""))
    return shlex.join(compiler.command) if compiler is not None else None


def host_compiler_missing() -> str | None:
    """Why kernels cannot run on this machine's CPU, or None if they can."""
    if os.name != "posix":
        return "running CUDA kernels on the CPU needs a POSIX system"
    if host_compiler() is None:
        tried = os.environ.get("CXX") or "g++, c++, clang++"
        return f"no C++20 compiler to run CUDA kernels on the CPU with (tried {tried})"
    return None


def sanitizer_environment() -> dict[str, str]:
    """Environment variables for a new Python process in which kernels run under AddressSanitizer.

    Raises:
        RuntimeError: the compiler has no AddressSanitizer.
    """
    compiler = _require_compiler()
    library = ""
    for name in ("libasan.so", "libclang_rt.asan.so"):
        answer = subprocess.run([*compiler.command, f"-print-file-name={name}"], capture_output=True, text=True)
        if os.path.isabs(answer.stdout.strip()):
            library = os.path.realpath(answer.stdout.strip())
            break
    if not library:
        raise RuntimeError(f"{compiler.command[0]} has no AddressSanitizer library")
    # Python itself never frees some of what it allocates.
    return {"LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0", _SANITIZE: "1"}


def _require_compiler() -> _Compiler:
    missing = host_compiler_missing()
    compiler = _find_compiler(os.environ.get("CXX", ""))
    if missing is not None or compiler is None:
        raise RuntimeError(missing)
    return compiler


def _is_sanitizing() -> bool:
    wanted = os.environ.get(_SANITIZE, "") not in ("", "0")
    if wanted and not process_has_symbol("__asan_init"):
        raise RuntimeError(f"{_SANITIZE} is set, but Python was started without AddressSanitizer; start it with the "
                           "variables of gpunet.testing.sanitizer_environment()")  # fmt: skip
    return wanted


def _seconds() -> int:
    """How long a launch may take."""
    value = os.environ.get(_SECONDS, "") or "60"
    if not value.isdecimal() or len(value) > 9:
        raise ValueError(f"{_SECONDS}: expected a whole number of seconds, 0 for no limit, got {value!r}")
    return int(value)


_DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\s*\(\s*\d+\s*\)\s*)?([\w\s]*?\w)\s+(\w+)\s*\[\s*\]\s*;")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


def _wrapper(file: KernelFile) -> str:
    """The translation unit: the kernel file as it is, then what makes its kernels callable."""
    text = "\n".join(_COMMENT.sub(" ", part) for part in (*file.headers.values(), file.source))
    arrays = {name: element for element, name in _DYNAMIC.findall(text)}
    lines = [f'#include "{file.path.name}"']
    for name, element in arrays.items():
        size = f"(cuda_on_cpu::MAX_DYNAMIC_BYTES + cuda_on_cpu::GUARD_BYTES) / sizeof({element})"
        lines.append(f"alignas(128) thread_local {element} {name}[{size}];")
    lines.append("static char* cuda_on_cpu::dynamic_shared_memory(int number) {")
    lines += [
        f"  if (number == {number}) return reinterpret_cast<char*>({name});" for number, name in enumerate(arrays)
    ]
    lines.append("  (void)number;\n  return nullptr;\n}")
    lines += [f"CUDA_ON_CPU_KERNEL({name})" for name in file.functions]
    return "\n".join(lines) + "\n"


_libraries: dict[tuple[Any, ...], NativeLibrary] = {}
# The library's state is global: one launch at a time.
_lock = threading.RLock()


def _library(file: KernelFile) -> NativeLibrary:
    flags = _FLAGS + (_SANITIZER_FLAGS if _is_sanitizing() else ())
    # The text, not the path: the same file may be there again with other contents.
    key = (file.name, file.source, file.headers_hash, flags, os.environ.get("CXX", ""))
    library = _libraries.get(key)
    if library is None:
        compiler = _require_compiler()
        flags += compiler.flags + (compiler.sanitizer_flags if _is_sanitizing() else ())
        wrapper = _wrapper(file)
        digest = hashlib.sha256()
        headers = [path.read_text(encoding="utf-8") for path in sorted(_HEADERS.glob("*.h"))]
        for part in (compiler.version, *flags, *headers, wrapper, file.source, file.headers_hash):
            digest.update(f"{len(part)}\0{part}".encode())
        path = cache_folder("cuda_on_cpu") / f"{file.name}-{digest.hexdigest()[:32]}.so"
        if not path.exists():
            _build(file, wrapper, (*compiler.command, *flags), path)
        library = NativeLibrary(path)
        _check_sizes(file, library)
        _libraries[key] = library
    return library


def _build(file: KernelFile, wrapper: str, command: Sequence[str], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source = Path(folder) / f"{file.name}_on_cpu.cpp"
        source.write_text(wrapper, encoding="utf-8")
        built = Path(folder) / "library.so"
        folders = dict.fromkeys((file.path.parent, kernel_folder(), _HEADERS))
        arguments = [*command, *(f"-I{path}" for path in folders), "-include", str(_HEADERS / "cuda_on_cpu.h")]
        arguments += [str(source), "-o", str(built)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KernelCompileError(f"{file.name}.cu does not compile for the CPU:\n{done.stderr.strip()}")
        os.replace(built, path)  # whoever builds the same library at the same time builds the same bytes


def _check_sizes(file: KernelFile, library: NativeLibrary) -> None:
    """Hold what was read from the declarations against what the compiler made of them."""
    for name, signature in file.functions.items():
        sizes = np.zeros(max(1, len(signature.parameters)), np.uint32)
        library.call(f"cuda_on_cpu_sizes_{name}", sizes.ctypes.data)
        for parameter, size in zip(signature.parameters, sizes.tolist(), strict=True):
            expected = np.dtype(np.uintp).itemsize if parameter.is_pointer else parameter.numpy_dtype.itemsize
            if size != expected:
                raise KernelFault(
                    f"{file.name}.cu: {name}: {parameter.name} has {size} bytes for the compiler, not {expected}"
                )


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
    if order not in orders:
        raise ValueError(f"order: expected 'forward', 'reversed' or 'both', got {order!r}")
    _require_compiler()

    def execute(
        kernel: Kernel,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        values: tuple[Any, ...],
        shared: int,
        cooperative: bool,
    ) -> None:
        with _lock:
            library = _library(kernel.file)
            seconds = _seconds()
            memories = []
            for name in orders[order]:
                memory = _GuardedMemory(kernel, values)
                memory.run(library, (*grid, *block, shared, name == "reversed", cooperative, seconds))
                _executed.setdefault((kernel.file.name, kernel.name), set()).add(name)
                memories.append(memory)
            for memory in memories[1:]:
                memory.require_equal(memories[0])
            memories[0].copy_back()

    with on_host(execute):
        yield


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


class _GuardedMemory:
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
        sanitizing = _is_sanitizing()
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

    def require_equal(self, other: _GuardedMemory) -> None:
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
