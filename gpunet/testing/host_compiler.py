"""The C++ compiler that builds kernels for the CPU: which one it is, and what it can do."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gpunet.backend.native import process_has_symbol

__all__ = [
    "Compiler",
    "host_compiler",
    "host_compiler_missing",
    "is_sanitizing",
    "require_compiler",
    "sanitizer_environment",
]

_SANITIZE = "GPUNET_CUDA_ON_CPU_SANITIZE"
# A large frame touches each of its pages, and so the one that must not be touched.
_WANTED_FLAGS = ("-ftrivial-auto-var-init=pattern", "-fstack-clash-protection")
# To g++, one that only some branches set has the same value in the others, unless these are off.
_WANTED_SANITIZER_FLAGS = ("-fno-tree-ccp", "-fno-tree-fre")


@dataclass(frozen=True)
class Compiler:
    """A compiler of C++20.

    Attributes:
        command: its name or path, and arguments.
        version: what it says of itself.
        flags: of those that are wanted, the ones it has.
        sanitizer_flags: the same, for AddressSanitizer.
    """

    command: tuple[str, ...]
    version: str
    flags: tuple[str, ...]
    sanitizer_flags: tuple[str, ...]


def _named() -> str:
    return os.environ.get("CXX", "").strip()


def _split(named: str) -> list[str]:
    """The words of a command, in quotes where they have blanks; a path with blanks may also stand as it is."""
    if shutil.which(named) is not None:
        return [named]
    try:
        return shlex.split(named)
    except ValueError:  # a quote without its end
        return []


@cache
def _find_compiler(named: str) -> Compiler | None:
    for command in [_split(named)] if named else [["g++"], ["c++"], ["clang++"]]:
        if not command or shutil.which(command[0]) is None:
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
        return Compiler(tuple(command), version, flags, sanitizer_flags)
    return None


def host_compiler() -> str | None:
    """The C++20 compiler that runs kernels here (``$CXX``, g++, c++ or clang++), or None."""
    compiler = _find_compiler(_named())
    return shlex.join(compiler.command) if compiler is not None else None


def host_compiler_missing() -> str | None:
    """Why kernels cannot run on this machine's CPU, or None if they can."""
    if os.name != "posix":
        return "running CUDA kernels on the CPU needs a POSIX system"
    if host_compiler() is None:
        tried = f"CXX={_named()}" if _named() else "g++, c++, clang++"
        return f"no C++20 compiler to run CUDA kernels on the CPU with (tried {tried})"
    return None


def sanitizer_environment() -> dict[str, str]:
    """Environment variables for a new Python process in which kernels run under AddressSanitizer.

    Raises:
        RuntimeError: the compiler has no AddressSanitizer.
    """
    compiler = require_compiler()
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


def require_compiler() -> Compiler:
    """The compiler.

    Raises:
        RuntimeError: there is none, or kernels cannot run here.
    """
    missing = host_compiler_missing()
    compiler = _find_compiler(_named())
    if missing is not None or compiler is None:
        raise RuntimeError(missing)
    return compiler


def is_sanitizing() -> bool:
    """True in a process started with ``sanitizer_environment``.

    Raises:
        RuntimeError: only some of its variables were set.
    """
    wanted = os.environ.get(_SANITIZE, "") not in ("", "0")
    if wanted and not process_has_symbol("__asan_init"):
        raise RuntimeError(f"{_SANITIZE} is set, but Python was started without AddressSanitizer; start it with the "
                           "variables of gpunet.testing.sanitizer_environment()")  # fmt: skip
    return wanted
