"""Ctrl-C while the ``gpunet`` program starts: one line instead of a traceback through half-made imports.

It is the first thing the package imports, and does nothing in any other program that imports gpunet.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

__all__ = ["end", "listen"]


def _is_the_program() -> bool:
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    if name == "-m":  # what argv[0] is while `python -m` still looks for the module
        given = sys.orig_argv
        return "gpunet" in given[given.index("-m") + 1 :][:1] if "-m" in given else False
    return name in ("gpunet", "gpunet.exe", "gpunet-script.py")


def _leave(number: int, frame: FrameType | None) -> None:
    # No exception: one that is raised within an import may be swallowed, or come out as an ImportError.
    os.write(2, b"gpunet: interrupted\n")
    os._exit(130)


def listen() -> None:
    """From now on Ctrl-C is a KeyboardInterrupt again, which the command handles."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end() -> None:
    """The program has said all it had to: Ctrl-C changes its exit code no more while the interpreter shuts down."""
    if _is_the_program():
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_IGN)


# Not under nohup, nor where somebody has another handler.
if _is_the_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    with contextlib.suppress(ValueError):  # imported in another thread than the main one
        signal.signal(signal.SIGINT, _leave)
