"""NVRTC, NVIDIA's run-time compiler: it needs neither a GPU nor a driver nor CuPy, only its own library.

CuPy compiles what it launches by itself. This is for asking what NVRTC there is, and for compiling kernels for a GPU
that is not in the machine.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

__all__ = ["NvrtcError", "compile_cubin", "nvrtc_library", "nvrtc_version", "supported_architectures"]

_CUBIN_SINCE = (11, 1)


class NvrtcError(RuntimeError):
    """NVRTC is missing or refuses a program; the message is its log."""


def _candidates() -> list[str]:
    """Libraries to try: NVIDIA's wheels (of CUDA 13, then 12), the system's, the toolkit's."""
    import ctypes.util  # it brings in what runs a compiler to look for libraries

    pattern = "nvrtc64_*.dll" if sys.platform == "win32" else "libnvrtc.so*"
    folders: list[Path] = []
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec is not None else []:
        folders += [Path(root) / package / part for package in ("cu13", "cuda_nvrtc") for part in ("lib", "bin")]
    found = [str(path) for folder in folders for path in sorted(folder.glob(pattern), reverse=True)]
    system = ctypes.util.find_library("nvrtc")
    if system is not None:
        found.append(system)
    for variable in ("CUDA_PATH", "CUDA_HOME"):
        root = os.environ.get(variable, "")
        if root:
            found += [str(path) for part in ("lib64", "lib", "bin") for path in Path(root, part).glob(pattern)]
    found += [str(path) for path in sorted(Path("/usr/local/cuda/lib64").glob(pattern))]
    return [path for path in found if ".alt." not in path and "builtins" not in path]


@cache
def _load() -> tuple[ctypes.CDLL, str] | None:
    for path in _candidates():
        try:
            # NVRTC opens its second library by its bare name, which is found only if it is loaded already.
            for builtins in sorted(Path(path).parent.glob("*nvrtc-builtins*")) if os.path.isabs(path) else []:
                if ".alt." not in builtins.name:
                    ctypes.CDLL(str(builtins))
            return ctypes.CDLL(path), path
        except OSError:
            continue
    return None


def nvrtc_library() -> str | None:
    """Path or name of the NVRTC library found, or None."""
    loaded = _load()
    return None if loaded is None else loaded[1]


def nvrtc_version() -> tuple[int, int] | None:
    """NVRTC's version, such as (13, 0), or None if there is none."""
    loaded = _load()
    if loaded is None:
        return None
    major, minor = ctypes.c_int(), ctypes.c_int()
    loaded[0].nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def supported_architectures() -> tuple[int, ...]:
    """What NVRTC compiles for, such as ``(75, 80, 90)``; empty if there is no NVRTC that could be asked (11.2)."""
    loaded = _load()
    if loaded is None or not hasattr(loaded[0], "nvrtcGetSupportedArchs"):
        return ()
    count = ctypes.c_int()
    loaded[0].nvrtcGetNumSupportedArchs(ctypes.byref(count))
    numbers = (ctypes.c_int * count.value)()
    loaded[0].nvrtcGetSupportedArchs(numbers)
    return tuple(numbers)


def compile_cubin(
    source: str, name: str, headers: Mapping[str, str], architecture: str, options: Sequence[str] = ()
) -> tuple[bytes, str]:
    """Compile a kernel file to machine code.

    Args:
        source: its text.
        name: its name in messages.
        headers: text of the headers it may include, by name.
        architecture: such as ``"sm_80"``.
        options: more options for NVRTC.

    Returns:
        The cubin and the compiler's log.

    Raises:
        NvrtcError: no NVRTC, or the program does not compile.
    """
    loaded = _load()
    version = nvrtc_version()
    if loaded is None or version is None:
        raise NvrtcError("NVRTC was not found; pip install nvidia-cuda-nvrtc")
    if version < _CUBIN_SINCE:
        raise NvrtcError(f"NVRTC {version[0]}.{version[1]} is too old to make machine code; 11.1 is the first")
    library = loaded[0]
    program = ctypes.c_void_p()
    texts = (ctypes.c_char_p * len(headers))(*(text.encode() for text in headers.values()))
    names = (ctypes.c_char_p * len(headers))(*(header.encode() for header in headers))
    status = library.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), name.encode(), ctypes.c_int(len(headers)), texts, names
    )
    if status:
        raise NvrtcError(f"nvrtcCreateProgram failed with status {status}")
    try:
        arguments = ["-std=c++17", f"-arch={architecture}", *options]
        encoded = (ctypes.c_char_p * len(arguments))(*(argument.encode() for argument in arguments))
        failed = library.nvrtcCompileProgram(program, ctypes.c_int(len(arguments)), encoded)
        log = _read(library, "ProgramLog", program).rstrip(b"\0").decode(errors="replace")
        if failed:
            raise NvrtcError(log)
        return _read(library, "CUBIN", program), log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _read(library: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, buffer)
    return buffer.raw
