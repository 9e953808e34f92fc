"""A picture of an architecture: its layers from top to bottom, and what reads what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from gpunet.inspect.graph_layout import Layout, layout
from gpunet.inspect.layer_graph import Arrow, Block, Box, LayerGraph, layer_graph
from gpunet.inspect.pictures import check_path, finished, new_figure
from gpunet.nn import Module

__all__ = ["plot_architecture"]

# Inches.
COLUMN, ROW, WIDTH, HEIGHT, MARGIN = 2.0, 0.62, 1.72, 0.4, 0.3
# Arrows that go past others leave a box below its middle and come in above it.
APART = 0.08
LETTERS = 34  # that fit in a box

# Fills and edges by the kind of layer (after Okabe and Ito 2008, lightened), the first that the type's name contains.
FILLS = (
    ("norm", "#f3e3ee"),
    ("pool", "#d9ecd9"),
    ("linear", "#fbe3c8"),
    ("conv", "#d6e6f4"),
    ("input", "#ffffff"),
    ("dropout", "#eeeeee"),
)
MERGED, OTHER = "#fff6bf", "#f4f4f4"
COLOURS = {"flow": "#444444", "skip": "#d55e00", "concat": "#0072b2", "crossing": "#cc0066"}


def plot_architecture(
    model: Module | str,
    path: str | os.PathLike[str] | None = None,
    input_size: Sequence[Any] | None = None,
    *,
    depth: int | None = None,
    fold: bool = True,
    training: bool = False,
    title: str | None = None,
    **kwargs: Any,
) -> Any:
    """Draw a model: a box for each layer with the shape it gives, and arrows to what reads it.

    The layers are seen as the model runs on shapes alone. Arrows that pass layers by and are added (orange), those
    into concatenations (blue) and those from one device to another (magenta) stand out. Blocks in which layers meet
    are framed. Each box and arrow has a name in the SVG: ``box layer1.0.conv1``, ``skip bn1 to layer1.0.bn2``.

    Args:
        model: a model, which is only read, or the name of one, which is then made without memory.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        input_size: (C, H, W), as for ``summary``.
        depth: draw modules at this depth as one box each, such as 2 for the blocks of a ResNet; None draws all layers.
        fold: draw equal blocks in a row once, with their number; the layers of a dense block too, with the channels
            that each adds.
        training: as it runs in training, where auxiliary classifiers run too.
        title: above the picture; None is the model's name.
        kwargs: for the function that makes a model of that name, such as ``num_classes``.

    Returns:
        The ``matplotlib.figure.Figure``.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        UnknownModelError: no model has that name.
        ShapeError: the input does not fit.
        TypeError, ValueError: a bad argument, or a suffix that is neither ``.svg`` nor ``.png``.
        OSError: the file cannot be written.
    """
    check_path(path)
    new_figure(1.0, 1.0)  # without Matplotlib, fail before the work
    graph = layer_graph(model, input_size, depth=depth, fold=fold, training=training, **kwargs)
    return finished(draw(graph, graph.model if title is None else title), path)


def draw(graph: LayerGraph, title: str) -> Any:
    """A figure of a layer graph."""
    from matplotlib.patches import Rectangle

    places = layout(graph)
    width = (places.right - places.left) * COLUMN + 2 * MARGIN
    top = 0.1 + (0.35 if title else 0.0)
    height = top + places.rows * ROW + 0.4
    figure = new_figure(max(width, 3.4), height)
    width = max(width, 3.4)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    shift = (width - (places.right - places.left) * COLUMN) / 2
    canvas = _Canvas(axes, places, shift, top, Rectangle)
    axes.set_xlim(0.0, width)
    axes.set_ylim(height, 0.0)
    if title:
        axes.text(width / 2, 0.22, title, ha="center", va="center", fontsize=11, weight="bold", gid="title")
    for block in graph.blocks:
        canvas.frame(block)
    for arrow in graph.arrows:
        canvas.arrow(arrow)
    for box in graph.boxes:
        canvas.box(box)
    kinds = [kind for kind in COLOURS if kind != "flow" and graph.arrows_of(kind)]
    words = {"skip": "added (skip)", "concat": "concatenated", "crossing": "copied to the other device"}
    for number, kind in enumerate(kinds):
        axes.text(
            MARGIN + number * (width - 2 * MARGIN) / max(1, len(kinds)), height - 0.2, f"→ {words[kind]}",
            color=COLOURS[kind], fontsize=7, va="center", gid=f"legend {kind}",
        )  # fmt: skip
    return figure


class _Canvas:
    """The figure's one axes, whose units are inches from the top left corner."""

    def __init__(self, axes: Any, places: Layout, shift: float, top: float, rectangle: Any) -> None:
        self.axes = axes
        self.places = places
        self.shift = shift
        self.top = top
        self.rectangle = rectangle

    def x(self, column: float) -> float:
        """The middle of a column."""
        return self.shift + (column - self.places.left) * COLUMN

    def y(self, row: float) -> float:
        """The middle of a row."""
        return self.top + (row + 0.5) * ROW

    def at(self, name: str) -> tuple[float, float]:
        """The middle of a box."""
        return self.x(self.places.column[name]), self.y(self.places.row[name])

    def box(self, box: Box) -> None:
        """A rectangle with the layer's name, what it is, and the shape it gives."""
        x, y = self.at(box.name)
        self.axes.add_artist(
            self.rectangle(
                (x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, facecolor=_fill(box), edgecolor="#555555",
                linewidth=0.7, zorder=3, gid=f"box {box.name}",
            )
        )  # fmt: skip
        kind = " ".join(part for part in (_merge_word(box), box.detail) if part)
        lines = [
            line
            for line in (
                (_short_name(box.name), 5.5, "#555555"),
                (_short_text(kind), 6.5, "black"),
                (_shapes(box), 6.5, "#003a63"),
            )
            if line[0]
        ]
        for number, (text, size, colour) in enumerate(lines):
            offset = 0.125 * (number - (len(lines) - 1) / 2)
            self.axes.text(x, y + offset, text, ha="center", va="center", fontsize=size, color=colour, zorder=4)

    def arrow(self, arrow: Arrow) -> None:
        """From the lower edge of a box to the upper one of another, round what lies between."""
        from matplotlib.patches import FancyArrowPatch
        from matplotlib.path import Path

        x0, y0 = self.at(arrow.source)
        x1, y1 = self.at(arrow.target)
        start, end = y0 + HEIGHT / 2, y1 - HEIGHT / 2
        passing = self.places.passing.get((arrow.source, arrow.target))
        if passing is not None:
            side = self.x(passing)
            points = [
                (x0 + WIDTH / 2, y0 + APART),
                (side, y0 + APART),
                (side, y1 - APART),
                (x1 + WIDTH / 2, y1 - APART),
            ]
        elif arrow.kind == "crossing" and abs(x1 - x0) > WIDTH:  # from side to side, so that it is steep
            inward = WIDTH / 2 if x1 > x0 else -WIDTH / 2
            points = [(x0 + inward, y0), (x1 - inward, y1)]
        elif x0 == x1 or y1 - y0 < 1.5 * ROW:
            points = [(x0, start), (x1, end)]
        else:  # down its own branch, and over in front of the target
            points = [(x0, start), (x0, y1 - ROW + HEIGHT / 2), (x1, end)]
        self.axes.add_artist(
            FancyArrowPatch(
                path=Path(points), arrowstyle="-|>", mutation_scale=6, facecolor=COLOURS[arrow.kind],
                edgecolor=COLOURS[arrow.kind], linewidth=0.9 if arrow.kind == "flow" else 1.2, shrinkA=0, shrinkB=0,
                fill=False, zorder=2, gid=f"{arrow.kind} {arrow.source} to {arrow.target}",
            )
        )  # fmt: skip

    def frame(self, block: Block) -> None:
        """A dashed line around the boxes of a block and the arrows that pass them by."""
        inside = set(block.boxes)
        spots = [self.at(name) for name in block.boxes]
        passing = [self.x(at) for (_, target), at in self.places.passing.items() if target in inside]
        left = min(x for x, _ in spots) - WIDTH / 2 - 0.06
        right = max([x + WIDTH / 2 + 0.06 for x, _ in spots] + [x + 0.06 for x in passing])
        upper = min(y for _, y in spots) - HEIGHT / 2 - 0.07
        lower = max(y for _, y in spots) + HEIGHT / 2 + 0.05
        self.axes.add_artist(
            self.rectangle(
                (left, upper), right - left, lower - upper, facecolor="#fafafa", edgecolor="#999999", linewidth=0.6,
                linestyle="--", zorder=1, gid=f"block {block.name}",
            )
        )  # fmt: skip
        times = f" × {block.count}" if block.count > 1 else ""
        name = f"{block.name} · {block.type}{times}"
        if block.last:
            last = block.last.rpartition(".")[2]
            name = f"{block.name} … {last}\n{block.type}{times}, +{block.growth} channels each"
        self.axes.text(
            left - (0.12 if block.last else 0.07), (upper + lower) / 2, name, fontsize=6, va="center",
            ha="center", rotation=90, gid=f"times {block.name}" if times else None,
            color="#8a3c00" if times else "#777777", weight="bold" if times else "normal", zorder=4,
        )  # fmt: skip


def _fill(box: Box) -> str:
    if box.merge and not box.detail:
        return MERGED
    kind = box.type.lower()
    return next((fill for part, fill in FILLS if part in kind), OTHER)


def _merge_word(box: Box) -> str:
    if box.type == "cat":
        return "concatenate"
    return {"add": "add", "input": ""}.get(box.type, box.type)


def _short_name(name: str) -> str:
    """The end of a long name says more than its beginning; cut at a dot, so that no part is half a word."""
    if len(name) <= LETTERS:
        return name
    parts = name.split(".")
    while len(parts) > 1 and len(".".join(parts)) >= LETTERS:
        del parts[0]
    return "…" + ".".join(parts)[1 - LETTERS :]


def _short_text(text: str) -> str:
    """What a layer is, from its beginning."""
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"


def _shapes(box: Box) -> str:
    """The shape, or the first and the last of those that are folded, which differ in their channels."""
    shape = box.output_shape
    if shape is None:
        return ""
    sizes = list(map(str, shape))
    if box.last_shape is not None:
        sizes[0] = f"{shape[0]} … {box.last_shape[0]}"
    return "×".join(sizes) or "scalar"
