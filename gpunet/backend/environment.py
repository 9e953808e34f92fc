"""What there is of CUDA on this machine: driver, CuPy, GPUs, compiler, and why something of it is not used."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gpunet._version import __version__
from gpunet.backend import cuda_runtime, devices, gpu_memory
from gpunet.backend.cuda_runtime import driver_cuda_version
from gpunet.backend.cupy_import import CUPY_SINCE
from gpunet.backend.kernel_files import kernel_file, kernel_folder, kernel_names
from gpunet.backend.threads import get_num_threads

__all__ = ["describe_environment"]

_CUPY_PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x", "cupy")
_EXHAUSTED = 1 / 20  # of a GPU's memory: less than this being free is worth a note

Answer = TypeVar("Answer")
Version = tuple[int, int]


def describe_environment() -> dict[str, Any]:
    """Everything ``gpunet info`` shows. It never raises: what cannot be found out is None, and the notes say why.

    Returns:
        A dict that JSON can hold:

        - ``gpunet``, ``python``, ``platform``, ``numpy``: versions;
        - ``threads``: CPU threads that operations use;
        - ``device``: what ``"auto"`` means here;
        - ``GPUNET_DEVICE``: that variable, if it is set;
        - ``driver``: ``cuda``, the CUDA version that the NVIDIA driver supports, as a string;
        - ``cupy``: ``version``, ``package``, ``usable``, and ``cuda``, the CUDA version it runs with;
        - ``devices``: for each GPU ``name``, ``compute_capability``, ``memory_total`` and ``memory_free`` (bytes);
        - ``nvrtc``: ``version`` and ``library``;
        - ``kernels``: ``folder``, ``files`` and ``functions`` (their number), and ``cache``, where CuPy keeps them
          compiled: its ``folder``, how many ``files`` are there, and their ``bytes``;
        - ``notes``: sentences on what was looked for and is not used, and what to do about it.
    """
    # Imported here, because `import gpunet` should not wait for what only this report needs.
    import platform

    from gpunet.backend import nvrtc

    notes: list[str] = []

    def attempt(what: str, probe: Callable[[], Answer]) -> Answer | None:
        try:
            return probe()
        except Exception as error:  # a report on a broken installation must not break over it
            notes.append(f"{what} could not be found out: {type(error).__name__}: {error}")
            return None

    packages = attempt("the installed CuPy", _cupy_packages) or {}
    driver = attempt("the driver's version", driver_cuda_version)
    usable = bool(attempt("the GPU", devices.is_cuda_available))
    chosen = attempt("the device that GPUNET_DEVICE names", lambda: str(devices.device("auto")))
    attempt("the versions of CuPy", lambda: _explain_packages(notes, packages))
    compiler, library = attempt("NVRTC", nvrtc.nvrtc_version), attempt("NVRTC", nvrtc.nvrtc_library)
    gpus: list[dict[str, Any]] = []
    if usable:
        compiler, library = _explain_compiler(notes, packages, driver, compiler, library)
        count = attempt("the number of GPUs", cuda_runtime.device_count) or 0
        for index in range(count):
            gpu = attempt(f"cuda:{index}", lambda index=index: _describe_gpu(index))  # type: ignore[misc]
            gpus.append(gpu or {"name": None, "compute_capability": None, "memory_total": 0, "memory_free": 0})
            if gpu is None:
                notes.append(f"cuda:{index} does not answer; if another program has all of its memory, or the GPU to "
                             "itself, nvidia-smi lists it")  # fmt: skip
        attempt("who uses the GPUs' memory", lambda: _explain_memory(notes, gpus))
    else:
        attempt("why no GPU is used", lambda: _explain_absence(notes, packages, driver))
    kernels = attempt("the kernels", _describe_kernels)
    cache = attempt("the cache of compiled kernels", lambda: _describe_cache(notes if packages else []))
    return {
        "gpunet": __version__,
        "python": platform.python_version(),
        "platform": attempt("the platform", platform.platform),
        "numpy": np.__version__,
        "threads": get_num_threads(),
        "device": chosen,
        "GPUNET_DEVICE": os.environ.get("GPUNET_DEVICE") or None,
        "driver": {"cuda": _dotted(driver)},
        "cupy": {
            "version": next(iter(packages.values()), None),
            "package": next(iter(packages), None),
            "usable": usable,
            "cuda": attempt("CuPy's CUDA version", _cupy_cuda_version) if usable else None,
        },
        "devices": gpus,
        "nvrtc": {"version": _dotted(compiler), "library": library},
        "kernels": None if kernels is None else kernels | {"cache": cache},
        "notes": notes,
    }


def _explain_packages(notes: list[str], packages: dict[str, str]) -> None:
    if len(packages) > 1:
        names = " and ".join(packages)
        notes.append(f"{names} are both installed and overwrite each other's files: uninstall all, install one")
    if "gpunet needs CuPy" in (devices.cuda_unavailable_reason() or ""):
        return  # it will be said as the reason why no GPU is used
    for name, version in packages.items():
        if version.partition(".")[0].isdecimal() and int(version.partition(".")[0]) < CUPY_SINCE:
            notes.append(f"{name} is {version}, but gpunet needs CuPy {CUPY_SINCE}: pip install -U '{name}'")


def _explain_absence(notes: list[str], packages: dict[str, str], driver: Version | None) -> None:
    """Say why no GPU is used, and what to do about it."""
    reason = devices.cuda_unavailable_reason()
    if reason is not None:
        notes.append(f"no GPU is used: {reason}")
    if os.environ.get("GPUNET_DEVICE", "").strip().lower() == "cpu":
        return
    if driver is None:
        notes.append("no NVIDIA driver was found (tried libcuda, which every driver installs)")
        return
    extra = "cuda13" if driver >= (13, 0) else "cuda12"
    if driver < (12, 0):
        notes.append(f"the NVIDIA driver supports CUDA {_dotted(driver)}; CuPy 14 needs 12 or newer: update the driver")
    elif not packages:
        notes.append(f"the NVIDIA driver supports CUDA {_dotted(driver)}: pip install 'gpunet[{extra}]'")
    elif "cupy-cuda13x" in packages and driver < (13, 0):
        notes.append(
            f"the NVIDIA driver supports CUDA {_dotted(driver)}, but cupy-cuda13x needs 13: update the driver, or "
            "pip uninstall cupy-cuda13x and pip install 'gpunet[cuda12]'"
        )


def _explain_compiler(
    notes: list[str],
    packages: dict[str, str],
    driver: Version | None,
    version: Version | None,
    library: str | None,
) -> tuple[Version | None, str | None]:
    """The NVRTC that CuPy compiles with, or else the one found here; say what is wrong with it."""
    extra = "cuda12" if "cupy-cuda12x" in packages else "cuda13"
    try:
        major, minor = devices.cupy().cuda.nvrtc.getVersion()
    except Exception as error:  # whatever looking for a library raises
        text = " ".join(str(error).split())
        notes.append(f"CuPy finds no NVRTC, so that no kernel can be compiled: pip install 'gpunet[{extra}]' brings it "
                     f"({type(error).__name__}: {text})")  # fmt: skip
        return version, library
    if driver is not None and major > driver[0]:
        notes.append(
            f"NVRTC is of CUDA {major}.{minor}, but the NVIDIA driver supports {_dotted(driver)}, so that what it "
            f"compiles may not load: update the driver, or install CuPy for CUDA {driver[0]} alone"
        )
    return (major, minor), library if version == (major, minor) else "found by CuPy"


def _explain_memory(notes: list[str], gpus: list[dict[str, Any]]) -> None:
    for index, gpu in enumerate(gpus):
        total = gpu["memory_total"]
        own = gpu_memory.memory_reserved(index) if total else 0
        if gpu["memory_free"] + own < _EXHAUSTED * total:
            notes.append(f"cuda:{index} has {gpu['memory_free'] >> 20} MiB of its {total >> 20} MiB free: other "
                         "programs use it (nvidia-smi lists them)")  # fmt: skip


def _dotted(version: Version | None) -> str | None:
    return None if version is None else f"{version[0]}.{version[1]}"


def _cupy_packages() -> dict[str, str]:
    """The CuPy packages that are installed, without importing them, by name."""
    import importlib.metadata

    found = {}
    for name in _CUPY_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name) or "unknown"
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cupy_cuda_version() -> str:
    version = int(devices.cupy().cuda.runtime.runtimeGetVersion())
    return f"{version // 1000}.{version % 1000 // 10}"


def _describe_gpu(index: int) -> dict[str, Any]:
    found = cuda_runtime.device_properties(index)
    free, total = gpu_memory.memory_free_and_total(index)
    return {
        "name": found.name,
        "compute_capability": f"{found.major}.{found.minor}",
        "memory_total": total,
        "memory_free": free,
    }


def _describe_kernels() -> dict[str, Any]:
    names = kernel_names()
    return {
        "folder": str(kernel_folder()),
        "files": len(names),
        "functions": sum(len(kernel_file(name).functions) for name in names),
    }


def _describe_cache(notes: list[str]) -> dict[str, Any]:
    """CuPy's own place for what it has compiled; it is not made for asking."""
    folder = Path(os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy" / "kernel_cache")
    files = list(folder.glob("*.cubin")) if folder.is_dir() else []
    nearest = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not os.access(nearest, os.W_OK):
        notes.append(f"{folder} cannot be written to, where CuPy keeps compiled kernels: set CUPY_CACHE_DIR to a "
                     "folder that can")  # fmt: skip
    if os.environ.get("CUPY_CACHE_IN_MEMORY", "") == "1":
        notes.append("CUPY_CACHE_IN_MEMORY=1 is set: every program compiles its kernels anew")
    return {"folder": str(folder), "files": len(files), "bytes": sum(file.stat().st_size for file in files)}
