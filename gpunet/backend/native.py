"""Compiled libraries: where they are kept, and calling into them. With CuPy's, the only compiled code gpunet loads."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["NativeLibrary", "cache_folder", "process_has_symbol"]


def cache_folder(purpose: str) -> Path:
    """A folder of this user's for things that can be made again; made if it is not there.

    ``GPUNET_CACHE_DIR`` names another place. Where nothing can be written, a temporary folder of this process serves.
    """
    chosen = os.environ.get("GPUNET_CACHE_DIR", "")
    if chosen:
        root = Path(chosen)
    elif sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "gpunet"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpunet"
    folder = root / purpose
    try:
        # Code is loaded from here: nobody else may write to it.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        usable = os.access(folder, os.W_OK)
    except OSError:
        usable = False
    return folder if usable else Path(_temporary_folder().name)


_temporary: tempfile.TemporaryDirectory[str] | None = None


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    global _temporary
    if _temporary is None:
        _temporary = tempfile.TemporaryDirectory(prefix="gpunet-")
    return _temporary


class NativeLibrary:
    """A shared library whose functions take addresses and unsigned sizes and return an int.

    Args:
        path: the library.

    Raises:
        OSError: it cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))

    def call(self, name: str, *arguments: int) -> int:
        """Call a function, without the interpreter lock.

        Args:
            name: the function's name.
            arguments: addresses or sizes; the memory must outlive the call.

        Raises:
            AttributeError: the library has no such function.
        """
        function = getattr(self._library, name)
        function.restype = ctypes.c_int
        return int(function(*(ctypes.c_void_p(argument) for argument in arguments)))


def process_has_symbol(name: str) -> bool:
    """True if a library that this process was started with defines ``name``."""
    try:
        process: Any = ctypes.CDLL(None)
        getattr(process, name)
    except (AttributeError, OSError, TypeError):
        return False
    return True
