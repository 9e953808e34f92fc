"""What there is of CUDA on this machine: driver, CuPy, GPUs, compiler, and why something of it is not used."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gpunet._version import __version__
from gpunet.backend import devices
from gpunet.backend.errors import DeviceError
from gpunet.backend.kernel_files import kernel_file, kernel_folder, kernel_names
from gpunet.backend.threads import get_num_threads

__all__ = [
    "cuda_index",
    "describe_environment",
    "device_count",
    "device_name",
    "driver_cuda_version",
    "free_cached_memory",
    "memory_allocated",
    "memory_reserved",
    "synchronize",
]

_CUPY_PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x", "cupy")

Answer = TypeVar("Answer")


def device_count() -> int:
    """The number of GPUs that can be used: 0 without CuPy or a driver."""
    return int(devices.cupy().cuda.runtime.getDeviceCount()) if devices.is_cuda_available() else 0


def cuda_index(device: devices.Device | str | int | None) -> int:
    """The number of the GPU that a ``device`` argument means; None is the current one.

    Raises:
        DeviceError: there is no such GPU, or the device is none.
    """
    if device is None:
        return int(devices.cupy().cuda.runtime.getDevice())
    found = devices.device(device)
    if found.type != "cuda":
        raise DeviceError(f"device: expected a CUDA device, got {str(found)!r}")
    devices.cupy()
    return found.index


def device_name(index: int) -> str:
    """The name of a GPU."""
    return bytes(devices.cupy().cuda.runtime.getDeviceProperties(index)["name"]).decode()


def memory_allocated(index: int) -> int:
    """Bytes of a GPU's memory that arrays occupy."""
    cupy = devices.cupy()
    with cupy.cuda.Device(index):
        return int(cupy.get_default_memory_pool().used_bytes())


def memory_reserved(index: int) -> int:
    """Bytes of a GPU's memory that CuPy's pool holds, in use or not."""
    cupy = devices.cupy()
    with cupy.cuda.Device(index):
        return int(cupy.get_default_memory_pool().total_bytes())


def synchronize(index: int) -> None:
    """Wait until everything asked of a GPU is done."""
    devices.cupy().cuda.Device(index).synchronize()


def free_cached_memory() -> None:
    """Give the memory that no array uses back to the driver, on all GPUs."""
    cupy = devices.cupy()
    for index in range(device_count()):
        with cupy.cuda.Device(index):
            cupy.get_default_memory_pool().free_all_blocks()
    cupy.get_default_pinned_memory_pool().free_all_blocks()


def driver_cuda_version() -> tuple[int, int] | None:
    """The newest CUDA version that the installed NVIDIA driver supports, such as (13, 0); None without a driver.

    It asks the driver itself, so it does not need CuPy.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
        version = ctypes.c_int()
        if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except (AttributeError, OSError):
        return None
    return version.value // 1000, version.value % 1000 // 10


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
          compiled;
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
    _explain(notes, usable, packages, driver)
    version = attempt("NVRTC", nvrtc.nvrtc_version)
    if usable and version is None:
        notes.append("NVRTC was not found where NVIDIA installs it; CuPy may know another place. If kernels do not "
                     "compile, pip install 'gpunet[cuda13]' (or cuda12) brings it")  # fmt: skip
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
        "devices": (attempt("the GPUs", _describe_gpus) if usable else None) or [],
        "nvrtc": {"version": _dotted(version), "library": attempt("NVRTC", nvrtc.nvrtc_library)},
        "kernels": attempt("the kernels", _describe_kernels),
        "notes": notes,
    }


def _explain(notes: list[str], usable: bool, packages: dict[str, str], driver: tuple[int, int] | None) -> None:
    """Say why the GPU is not used, and what to do about it."""
    if len(packages) > 1:
        names = " and ".join(packages)
        notes.append(f"{names} are both installed and overwrite each other's files: uninstall all, install one")
    if usable:
        return
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


def _dotted(version: tuple[int, int] | None) -> str | None:
    return None if version is None else f"{version[0]}.{version[1]}"


def _cupy_packages() -> dict[str, str]:
    """The CuPy packages that are installed, without importing them, by name."""
    import importlib.metadata

    found = {}
    for name in _CUPY_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cupy_cuda_version() -> str:
    version = int(devices.cupy().cuda.runtime.runtimeGetVersion())
    return f"{version // 1000}.{version % 1000 // 10}"


def _describe_gpus() -> list[dict[str, Any]]:
    cupy = devices.cupy()
    described = []
    for index in range(device_count()):
        capability = str(cupy.cuda.Device(index).compute_capability)
        with cupy.cuda.Device(index):
            free, total = cupy.cuda.runtime.memGetInfo()
        described.append(
            {
                "name": device_name(index),
                "compute_capability": f"{capability[:-1]}.{capability[-1]}",
                "memory_total": int(total),
                "memory_free": int(free),
            }
        )
    return described


def _describe_kernels() -> dict[str, Any]:
    names = kernel_names()
    return {
        "folder": str(kernel_folder()),
        "files": len(names),
        "functions": sum(len(kernel_file(name).functions) for name in names),
        "cache": os.environ.get("CUPY_CACHE_DIR") or str(Path.home() / ".cupy" / "kernel_cache"),
    }
