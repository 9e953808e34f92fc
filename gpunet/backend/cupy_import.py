"""Importing CuPy, and saying in one line why what was found cannot be used: broken, too old, or another module."""

from __future__ import annotations

import importlib
from typing import Any, Final

__all__ = ["CUPY_SINCE", "import_cupy", "in_one_line", "older_driver"]

CUPY_SINCE: Final = 14  # the first major version that gpunet runs with


def import_cupy() -> tuple[Any, str]:
    """Import CuPy.

    Returns:
        The module and ``""``; or None and why it cannot be used, in one line. It never raises.
    """
    try:
        module: Any = importlib.import_module("cupy")
    except (Exception, SystemExit) as error:  # a broken CuPy raises whatever its libraries raise
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            return None, (
                "CuPy is not installed; on a machine with an NVIDIA GPU: pip install 'gpunet[cuda13]' "
                "(or 'gpunet[cuda12]' for a CUDA 12 driver)"
            )
        return None, f"CuPy is installed but cannot be imported: {in_one_line(error)}"
    version = getattr(module, "__version__", None)
    if not isinstance(version, str) or not hasattr(module, "cuda"):
        place = getattr(module, "__file__", None) or ", ".join(getattr(module, "__path__", ())) or "nowhere"
        return None, f"what is imported as 'cupy' is not CuPy: {place}; rename or remove it"
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) < CUPY_SINCE:
        return None, (
            f"CuPy {version} is installed, but gpunet needs CuPy {CUPY_SINCE} or later: pip install -U 'cupy-cuda13x' "
            "(or 'cupy-cuda12x', whichever is there)"
        )
    return module, ""


def in_one_line(error: BaseException, named: bool = True) -> str:
    """What an exception says, without the lines that CuPy frames its messages with."""
    text = " ".join(word for word in str(error).split() if word.strip("=-*#"))
    name = type(error).__name__
    return (f"{name}: {text}" if named else text) if text else name


def older_driver(module: Any) -> str:
    """What to add where the driver is of an older CUDA than CuPy: a hint, or nothing."""
    try:
        versions = (int(module.cuda.runtime.driverGetVersion()), int(module.cuda.runtime.runtimeGetVersion()))
    except Exception:  # it only explains another error
        return ""
    driver, built = (version // 1000 for version in versions)
    if not 0 < driver < built:  # 0 is no driver
        return ""
    advice = "update the driver" + (f" or pip install 'gpunet[cuda{driver}]' instead" if driver >= 12 else "")
    return f" (the driver is of CUDA {driver}, CuPy of CUDA {built}: {advice})"
