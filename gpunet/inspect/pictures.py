"""What the plots have in common: figures without windows, files by their suffix, and Matplotlib only when it is needed.

Figures are Matplotlib's, on the Agg canvas, never through ``pyplot``: no window, no display, and the caller's own
figures and backend stay as they were. The same figure gives the same bytes.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

__all__ = ["PlotUnavailableError", "check_path", "closest", "finished", "new_figure"]

SUFFIXES = (".svg", ".png")
# Agg draws no more than 2^16 pixels a side; files of half of that are the most that viewers open.
LONGEST_SIDE = 30_000


class PlotUnavailableError(RuntimeError):
    """Matplotlib, an optional dependency, is not installed."""


def check_path(path: str | os.PathLike[str] | None) -> None:
    """Refuse a file that cannot be written, before any work is done.

    Raises:
        TypeError: not a path.
        ValueError: the suffix is neither ``.svg`` nor ``.png``.
        OSError: the folder is not there or takes no files.
    """
    if path is None:
        return
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: must be a path or None, got {type(path).__name__}")
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise ValueError(f"path: must end in {' or '.join(SUFFIXES)}, got {str(target)!r}")
    if target.is_dir():
        raise IsADirectoryError(f"path: {target} is a folder")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path: there is no folder {target.parent}")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise PermissionError(f"path: cannot write {target}")


def new_figure(width: float, height: float) -> Any:
    """An empty white figure of that size in inches.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotUnavailableError(
            "the plot needs Matplotlib, which is not installed: pip install 'gpunet[plot]'"
        ) from error
    figure = Figure(figsize=(width, height), facecolor="white", dpi=100)
    FigureCanvasAgg(figure)
    return figure


def finished(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    """Write a figure to a file, if one is given, and return it."""
    if path is None:
        return figure
    import matplotlib

    target, buffer = Path(path), io.BytesIO()
    # Whatever the caller's settings: text of an SVG stays text, its ids are no random numbers, and nothing is cut off.
    with matplotlib.rc_context(
        {"svg.hashsalt": "gpunet", "svg.fonttype": "none", "savefig.bbox": None, "savefig.facecolor": "auto"}
    ):
        if target.suffix.lower() == ".svg":
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        else:
            dots = min(150.0, LONGEST_SIDE / max(figure.get_size_inches()))
            figure.savefig(buffer, format="png", dpi=dots, metadata={"Software": None})
    try:
        target.write_bytes(buffer.getvalue())
    except OSError as error:
        raise type(error)(f"path: cannot write {target}: {error.strerror or error}") from error
    return figure


def closest(argument: str, name: Any, known: Sequence[str], what: str) -> str:
    """A name out of those that there are.

    Raises:
        ValueError: it is none of them; the error has the closest ones.
    """
    if isinstance(name, str) and name in known:
        return name
    near = get_close_matches(str(name), known, 4, 0.5) or list(known[:4])
    hint = f"; close ones are {', '.join(map(repr, near))}" if near else ""
    raise ValueError(f"{argument}: {what} has no layer {name!r}{hint}")
