"""Reading files that somebody made to harm, with everything watched that they might run."""

from __future__ import annotations

import contextlib
import io
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gpunet as gn
from gpunet.interop import load_pth

FILES = Path(__file__).parent / "files"

# What Python reports of itself when something is run, looked up for running, or written.
RUNNING = {
    "compile", "exec", "import", "marshal.loads", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.putenv",
    "os.remove", "os.rename", "os.spawn", "os.startfile", "os.system", "pickle.find_class", "socket.connect",
    "subprocess.Popen",
}  # fmt: skip
WATCHING = False
SEEN: list[str] = []


def watch(event: str, arguments: Any) -> None:
    if WATCHING and (event in RUNNING or (event == "open" and arguments[1] not in ("rb", "r"))):
        SEEN.append(event)


sys.addaudithook(watch)
load_pth(FILES / "mixed.pth")  # imports what loading imports


@contextlib.contextmanager
def nothing_runs() -> Iterator[None]:
    """Fail if anything is run, imported or written meanwhile."""
    global WATCHING
    SEEN.clear()
    WATCHING = True
    try:
        yield
    finally:
        WATCHING = False
    assert SEEN == []


def refused(content: bytes, text: str, megabytes: float | None = 8, readers: Any = (load_pth, gn.load)) -> str:
    """Read it; the text of the error, which must be one of ours, of one line, and cost little."""
    message = ""
    for read in readers:
        if megabytes is not None:
            tracemalloc.start()
        start = time.perf_counter()
        try:
            with pytest.raises(gn.CheckpointError, match=text) as caught, nothing_runs():
                read(io.BytesIO(content))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < (megabytes or 0) * 1e6 + 3 * len(content), f"{peak:,} bytes for a file of {len(content):,}"
        assert time.perf_counter() - start < 30
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 500
        assert message.isprintable()
        assert message.startswith("the file: ")
    return message
