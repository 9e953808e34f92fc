"""A kernel file as a library for this machine's processor: what is compiled, and where it is kept."""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpunet.backend.kernels import KernelCompileError, KernelFile, kernel_folder
from gpunet.backend.native import NativeLibrary, cache_folder
from gpunet.testing.host_compiler import is_sanitizing, require_compiler

__all__ = ["FLAGS", "HEADERS", "KernelFault", "host_library", "translation_unit"]

HEADERS = Path(__file__).resolve().parent / "cuda_headers"
FLAGS = (
    "-std=c++20", "-O2", "-g1", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-exceptions", "-fno-strict-aliasing",
    # A product and a sum stay two roundings, on every processor.
    "-ffp-contract=off",
    # Its longjmp takes the stack of a thread for an error.
    "-U_FORTIFY_SOURCE",
    # #pragma unroll is for the CUDA compilers.
    "-Wno-unknown-pragmas",
)  # fmt: skip
# Alignment is looked at here alone: in the ordinary build it would make the tiled kernels three times slower.
_SANITIZER_FLAGS = (
    "-O1", "-fsanitize=address,bounds,alignment", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer",
)  # fmt: skip


class KernelFault(RuntimeError):
    """What a kernel did wrong while it ran on the CPU."""


_DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\s*\(\s*\d+\s*\)\s*)?([\w\s]*?\w)\s+(\w+)\s*\[\s*\]\s*;")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


def translation_unit(file: KernelFile) -> str:
    """The C++ of the library: the kernel file as it is, then what makes its kernels callable."""
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


def host_library(file: KernelFile) -> NativeLibrary:
    """The library of a kernel file, compiled where neither this process nor the cache folder has it.

    Raises:
        RuntimeError: there is no C++20 compiler.
        KernelCompileError: the compiler refuses the kernel file.
        KernelFault: a parameter has another size than its declaration was taken to say.
    """
    flags = FLAGS + (_SANITIZER_FLAGS if is_sanitizing() else ())
    # The text, not the path: the same file may be there again with other contents.
    key = (file.name, file.source, file.headers_hash, flags, os.environ.get("CXX", ""))
    library = _libraries.get(key)
    if library is None:
        compiler = require_compiler()
        flags += compiler.flags + (compiler.sanitizer_flags if is_sanitizing() else ())
        wrapper = translation_unit(file)
        digest = hashlib.sha256()
        headers = [path.read_text(encoding="utf-8") for path in sorted(HEADERS.glob("*.h"))]
        for part in (platform.machine(), compiler.version, *flags, *headers, wrapper, file.source, file.headers_hash):
            digest.update(f"{len(part)}\0{part}".encode())
        folder, name = cache_folder("cuda_on_cpu"), f"{file.name}-{digest.hexdigest()[:32]}"
        library = _load(folder, name) or _build(file, wrapper, (*compiler.command, *flags), folder, name)
        _check_sizes(file, library)
        _libraries[key] = library
    return library


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()[:16]


def _load(folder: Path, name: str) -> NativeLibrary | None:
    """The library from the cache. What is behind its name says what is in it: a damaged one is taken away."""
    for path in folder.glob(f"{glob.escape(name)}-*.so"):
        try:
            if path.stem.rpartition("-")[2] == _digest(path):
                return NativeLibrary(path)
        except OSError:  # it cannot be read or loaded
            pass
        path.unlink(missing_ok=True)
    return None


def _build(file: KernelFile, wrapper: str, command: Sequence[str], cache: Path, name: str) -> NativeLibrary:
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        source = Path(folder) / f"{file.name}_on_cpu.cpp"
        source.write_text(wrapper, encoding="utf-8")
        built = Path(folder) / "library.so"
        folders = dict.fromkeys((file.path.parent, kernel_folder(), HEADERS))
        arguments = [*command, *(f"-I{path}" for path in folders), "-include", str(HEADERS / "cuda_on_cpu.h")]
        arguments += [str(source), "-o", str(built)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode or not built.exists():
            raise KernelCompileError(f"{file.name}.cu does not compile for the CPU:\n{done.stderr.strip()}")
        path = cache / f"{name}-{_digest(built)}.so"
        os.replace(built, path)
    return NativeLibrary(path)


def _check_sizes(file: KernelFile, library: NativeLibrary) -> None:
    """Hold what was read from the declarations against what the compiler made of them."""
    for name, signature in file.functions.items():
        sizes = np.zeros(max(1, len(signature.parameters)), np.uint32)
        library.call(f"cuda_on_cpu_sizes_{name}", sizes.ctypes.data)
        for parameter, size in zip(signature.parameters, sizes[: len(signature.parameters)].tolist(), strict=True):
            expected = np.dtype(np.uintp).itemsize if parameter.is_pointer else parameter.numpy_dtype.itemsize
            if size != expected:
                raise KernelFault(
                    f"{file.name}.cu: {name}: {parameter.name} has {size} bytes for the compiler, not {expected}"
                )
