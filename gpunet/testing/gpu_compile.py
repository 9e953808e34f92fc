"""Compile kernels for GPUs that are not in the machine, and read from the result what they cost.

Two compilers will do, whichever the machine has: nvcc, and NVRTC, which is the one CuPy uses.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from gpunet.backend import nvrtc
from gpunet.backend.kernels import KernelCompileError, KernelFile, explain_compile_log
from gpunet.backend.native import cache_folder

__all__ = ["ARCHITECTURES", "CompiledKernel", "GPUCompiler", "compile_for_gpu", "gpu_compiler_missing", "unsupported"]

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
"""What every kernel is compiled for: Turing, Ampere, Hopper, and Blackwell where the compiler knows it."""

GPUCompiler = Literal["nvcc", "nvrtc"]

# Changed when what is read from the compilers' output changes.
_FORMAT = "1"

# What CuPy adds to the options of every kernel.
_CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")


@dataclass(frozen=True)
class CompiledKernel:
    """A ``__global__`` function in machine code.

    Attributes:
        name: the function's name.
        code_bytes: the size of its instructions.
        registers: registers of a thread.
        stack_bytes: local memory of a thread.
        spill_bytes: bytes written to and read from local memory because registers ran out.
        shared_bytes: static shared memory of a block.
    """

    name: str
    code_bytes: int
    registers: int
    stack_bytes: int
    spill_bytes: int
    shared_bytes: int


def gpu_compiler_missing(compiler: GPUCompiler, architecture: str = "") -> str | None:
    """Why the compiler cannot be used here, or not for an architecture such as ``"sm_100"``, or None if it can."""
    if compiler == "nvcc":
        if shutil.which("nvcc") is None:
            return "nvcc is not on the PATH"
    elif nvrtc.nvrtc_version() is None:
        return "NVRTC was not found (pip install nvidia-cuda-nvrtc)"
    if architecture and _number(architecture) not in _architectures(compiler):
        return f"this {compiler} does not compile for {architecture}"
    return None


@cache
def _architectures(compiler: GPUCompiler) -> frozenset[int]:
    if compiler == "nvrtc":
        return frozenset(nvrtc.supported_architectures())
    listed = subprocess.run(["nvcc", "--list-gpu-arch"], capture_output=True, text=True, check=False).stdout
    return frozenset(int(number) for number in re.findall(r"compute_(\d+)", listed))


def _number(architecture: str) -> int:
    return int(architecture.removeprefix("sm_"))


def unsupported(file: KernelFile, architecture: str) -> tuple[str, ...]:
    """The kernels of a file that say (``/* needs sm_80 */``) that this architecture does not have them."""
    number = _number(architecture)
    return tuple(name for name, signature in file.functions.items() if signature.architecture > number)


def compile_for_gpu(file: KernelFile, architecture: str, compiler: GPUCompiler) -> dict[str, CompiledKernel]:
    """Compile a kernel file to machine code.

    Args:
        file: the kernel file.
        architecture: such as ``"sm_80"``.
        compiler: ``"nvcc"`` or ``"nvrtc"``.

    Returns:
        Its kernels by name, but for those that say that they need a newer architecture.

    Raises:
        KernelCompileError: it does not compile, or one of those kernels is missing or has no more code than an empty
            one.
    """
    kernels = _compile(file.name, file.source, tuple(file.headers.items()), architecture, compiler, file)
    empty = _empty_size(architecture, compiler)
    left_out = unsupported(file, architecture)
    for name in left_out:
        kernels.pop(name, None)
    for name in file.functions.keys() - set(left_out):
        if name not in kernels:
            raise KernelCompileError(f"{file.name}.cu: {name} was not compiled for {architecture}")
        if kernels[name].code_bytes <= empty:
            raise KernelCompileError(f"{file.name}.cu: {name} is empty for {architecture}")
    return kernels


@cache
def _empty_size(architecture: str, compiler: GPUCompiler) -> int:
    source = 'extern "C" __global__ void empty(float* output) {}\n'
    return _compile("empty", source, (), architecture, compiler)["empty"].code_bytes


def _compile(
    name: str,
    source: str,
    headers: tuple[tuple[str, str], ...],
    architecture: str,
    compiler: GPUCompiler,
    file: KernelFile | None = None,
) -> dict[str, CompiledKernel]:
    """What ``_compile_now`` finds, remembered from run to run: the same compiler makes the same of the same text."""
    digest = hashlib.sha256(_version(compiler).encode())
    for part in (_FORMAT, compiler, architecture, *_CUPY_OPTIONS, name, source, *(text for h in headers for text in h)):
        digest.update(f"{len(part)}\0{part}".encode())
    path = cache_folder("gpu_compile") / f"{name}-{architecture}-{digest.hexdigest()[:32]}.json"
    try:
        return {kernel: CompiledKernel(*values) for kernel, values in json.loads(path.read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError):
        pass  # not there, or not whole
    found = _compile_now(name, source, headers, architecture, compiler, file)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as temporary:
        json.dump({kernel: astuple(values) for kernel, values in found.items()}, temporary)
    os.replace(temporary.name, path)
    return found


@cache
def _version(compiler: GPUCompiler) -> str:
    if compiler == "nvrtc":
        return f"{nvrtc.nvrtc_version()} {nvrtc.nvrtc_library()}"
    return subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=False).stdout


def _compile_now(
    name: str,
    source: str,
    headers: tuple[tuple[str, str], ...],
    architecture: str,
    compiler: GPUCompiler,
    file: KernelFile | None,
) -> dict[str, CompiledKernel]:
    if compiler == "nvrtc":
        options = ("--ptxas-options=-v", *_CUPY_OPTIONS)
        try:
            cubin, log = nvrtc.compile_cubin(source, f"{name}.cu", dict(headers), architecture, options)
        except nvrtc.NvrtcError as error:
            raise _refused(name, architecture, str(error), file) from error
    else:
        with tempfile.TemporaryDirectory() as above:
            folder = str(Path(above, "kernels"))  # a header may lie above
            for header, text in (*headers, (f"{name}.cu", source)):
                Path(folder, header).parent.mkdir(parents=True, exist_ok=True)
                Path(folder, header).write_text(text, encoding="utf-8")
            output = Path(folder, "kernels.cubin")
            command = ["nvcc", "-std=c++17", "-cubin", f"-arch={architecture}", "-Xptxas", "-v", "-I", folder]
            command += [str(Path(folder, f"{name}.cu")), "-o", str(output)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            log = done.stdout + done.stderr
            if done.returncode:
                raise _refused(name, architecture, log, file)
            cubin = output.read_bytes()
    sizes = dict(_code_sizes(cubin))
    return {function: CompiledKernel(function, sizes.get(function, 0), *cost) for function, *cost in _costs(log)}


def _refused(name: str, architecture: str, log: str, file: KernelFile | None) -> KernelCompileError:
    shown = explain_compile_log(log, file) if file is not None else log
    return KernelCompileError(f"{name}.cu does not compile for {architecture}:\n{shown}")


_COST = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


def _costs(log: str) -> Iterator[tuple[str, int, int, int, int]]:
    """Name, registers, stack, spills and shared memory of each kernel, from what ptxas says."""
    for match in _COST.finditer(log):
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        spills = int(match["stores"]) + int(match["loads"])
        yield match["name"], int(match["registers"]), int(match["stack"]), spills, int(shared[1]) if shared else 0


def _code_sizes(cubin: bytes) -> Iterator[tuple[str, int]]:
    """The size of each function's instructions: a cubin is an ELF file with a section ``.text.NAME`` for each."""
    if cubin[:5] != b"\x7fELF\x02":
        raise KernelCompileError("the compiler's output is not a 64-bit ELF file")
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    entry, count, names_index = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", cubin, table + entry * i) for i in range(count)]
    names_offset = sections[names_index][4]
    for name_offset, _, _, _, _, size in sections:
        start = names_offset + name_offset
        name = cubin[start : cubin.index(b"\0", start)].decode()
        if name.startswith(".text."):
            yield name.removeprefix(".text."), size
