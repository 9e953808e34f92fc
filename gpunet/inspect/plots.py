"""Pictures of a run.

Figures are drawn on Matplotlib's Agg canvas directly, never through ``pyplot``: no window, no display, and the
caller's own figures, style and backend stay as they were.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from gpunet.inspect.pictures import PlotUnavailableError

__all__ = ["PlotUnavailableError", "curve_png"]

# Colours that stay apart for colour-blind readers and in grey print (Okabe and Ito 2008).
TRAIN_COLOUR = "#0072b2"
TEST_COLOUR = "#d55e00"


def curve_png(history: Sequence[Mapping[str, float]], title: str = "") -> bytes:
    """Loss and accuracy over the epochs of a run, as the bytes of a PNG file.

    A language model's loss is drawn in bits per character.

    Args:
        history: one row per epoch with ``epoch`` and any of ``train_loss``, ``test_loss``, ``train_accuracy``,
            ``test_accuracy`` (accuracies between 0 and 1), ``train_bits_per_character``, ``test_bits_per_character``.
        title: written above the picture.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        ValueError: ``history`` is empty.
    """
    if not history:
        raise ValueError("curve_png: history is empty, there is no epoch to draw")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise PlotUnavailableError(
            "the curve needs Matplotlib, which is not installed: pip install 'gpunet[plot]'"
        ) from error

    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    loss = "bits_per_character" if any("test_bits_per_character" in row for row in history) else "loss"
    _draw(loss_axes, history, loss, 1.0)
    _draw(accuracy_axes, history, "accuracy", 100.0)
    loss_axes.set_ylabel(loss.replace("_", " "))
    loss_axes.set_ylim(bottom=0.0)
    accuracy_axes.set_ylabel("accuracy [%]")
    for axes in (loss_axes, accuracy_axes):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(True, linewidth=0.4, alpha=0.6)
        if axes.lines:
            axes.legend(frameon=False)
    if title:
        figure.suptitle(title)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _draw(axes: Any, history: Sequence[Mapping[str, float]], quantity: str, scale: float) -> None:
    for part, colour in (("train", TRAIN_COLOUR), ("test", TEST_COLOUR)):
        key = f"{part}_{quantity}"
        rows = [row for row in history if key in row]
        if not rows:
            continue
        # A marker per epoch as long as the epochs are few: one epoch alone draws no line.
        marker = "o" if len(rows) <= 30 else None
        axes.plot(
            [row["epoch"] for row in rows],
            [row[key] * scale for row in rows],
            color=colour,
            marker=marker,
            markersize=3.0,
            linewidth=1.4,
            label=part,
        )
