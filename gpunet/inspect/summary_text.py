"""A summary as a table: text for a terminal, HTML for a notebook."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpunet.inspect.summary import LayerSummary, Summary

__all__ = ["bytes_text", "html_table", "text_table", "without_batch"]

_COLUMNS = ("layer", "type", "output", "params", "%", "MACs", "%", "memory", "field", "jump", "start")
# Layers whose output is among the bytes, and not among the numbers that lecture notes count.
_UNCOUNTED = ("Embedding", "EmbeddingBag", "RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")
_LEFT = 3  # columns of text before the numbers


def without_batch(shape: tuple[int, ...], batch_axis: int | None) -> tuple[int, ...]:
    """(64, 1, 256) with the batch in dimension 1 as (64, 256); whole where no dimension is the batch."""
    return shape if batch_axis is None else shape[:batch_axis] + shape[batch_axis + 1 :]


def _outputs_text(shapes: tuple[tuple[int, ...], ...], batch_axes: tuple[int | None, ...]) -> str:
    """The shapes of all outputs as one sample has them, whichever of their dimensions is the batch."""
    samples = (without_batch(shape, axis) for shape, axis in zip(shapes, batch_axes, strict=True))
    return " ".join("x".join(map(str, sample)) or "1" for sample in samples)


def bytes_text(count: int) -> str:
    """A number of bytes in the unit in which it is at least 1."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"


def text_table(summary: Summary) -> str:
    """The layers under each other, and the totals below."""
    rows = _rows(summary)
    widths = [max(len(row[column]) for row in [_COLUMNS, *rows]) for column in range(len(_COLUMNS))]
    # A column that says nothing, as the field of a network without images, is left out.
    shown = [column for column in range(len(_COLUMNS)) if any(row[column] for row in rows)]

    def line(row: tuple[str, ...] | list[str]) -> str:
        cells = [
            row[column].ljust(widths[column]) if column < _LEFT else row[column].rjust(widths[column])
            for column in shown
        ]
        return "  ".join(cells).rstrip()

    body = [line(row) for row in rows]
    rule = "-" * max(map(len, [line(_COLUMNS), *body]))
    return "\n".join([_title(summary), "", line(_COLUMNS), rule, *body, rule, *_totals(summary)])


def html_table(summary: Summary) -> str:
    """The same in HTML. Names come from the model, and are escaped."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in _COLUMNS)
    body = []
    for row in _rows(summary):
        cells = [
            f'<td style="text-align:{"left" if column < _LEFT else "right"};white-space:pre">{html.escape(cell)}</td>'
            for column, cell in enumerate(row)
        ]
        body.append(f"<tr>{''.join(cells)}</tr>")
    totals = "<br>".join(map(html.escape, _totals(summary)))
    return (
        f"<table><caption>{html.escape(_title(summary))}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table><p>{totals}</p>"
    )


def _title(summary: Summary) -> str:
    inputs = ", ".join("x".join(map(str, shape)) for shape in summary.input_shapes)
    name = f"{summary.name} ({summary.model})" if summary.name else summary.model
    return f"{name}, input {inputs}, {'training' if summary.training else 'evaluation'} mode"


def _rows(summary: Summary) -> list[tuple[str, ...]]:
    deepest = float("inf") if summary.depth is None else summary.depth
    shown = [layer for layer in summary.layers if layer.depth <= deepest]
    if len(shown) > 1:
        shown = shown[1:]  # the model itself: its numbers are the totals
    # Of a module whose layers are shown, only what is its own: the columns then sum to the totals.
    opened = {
        index for index, layer in enumerate(shown[:-1]) if not layer.operation and shown[index + 1].depth > layer.depth
    }
    return [_cells(summary, layer, index in opened) for index, layer in enumerate(shown)]


def _cells(summary: Summary, layer: LayerSummary, opened: bool) -> tuple[str, ...]:
    params = 0 if layer.again else layer.own_params if opened else layer.params
    macs = 0 if opened else layer.macs
    field = layer.receptive_field
    return (
        "  " * max(0, layer.depth - 1) + (layer.name or "(model)"),
        layer.type + (" (again)" if layer.again else ""),
        _outputs_text(layer.outputs, layer.batch_axes),
        f"{params:,}" if params else "",
        _percent(params, summary.total_params),
        f"{macs:,}" if macs else "",
        _percent(macs, summary.total_macs),
        bytes_text(layer.activation_bytes) if layer.activation_bytes and not opened else "",
        *(("", "", "") if field is None else (_extents(field.size), _extents(field.jump), _extents(field.start))),
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if part and whole else ""


def _extents(values: tuple[Any, ...]) -> str:
    """One number for a square, all for others."""
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else "x".join(texts)


def _uncounted(summary: Summary) -> str:
    """Which of its layers the number of activations leaves out."""
    found = [share.type for share in summary.shares if share.type in _UNCOUNTED]
    return f" ({', '.join(found)} not counted)" if found else ""


def _totals(summary: Summary) -> list[str]:
    frozen = summary.total_params - summary.trainable_params
    trainable = f"{summary.trainable_params:,} trainable, " if frozen else ""
    lines = [
        f"parameters       {summary.total_params:,} ({trainable}{bytes_text(summary.param_bytes)})",
        f"multiply-adds    {summary.total_macs:,}",
        f"activations      {bytes_text(summary.activation_bytes)} computed; {summary.activation_floats:,} numbers in "
        f"input, convolutions, poolings and linear layers{_uncounted(summary)}",
    ]
    if summary.uncalled:
        names = ", ".join(summary.uncalled[:4]) + (", ..." if len(summary.uncalled) > 4 else "")
        lines.append(f"not called       {names} with {summary.uncalled_params:,} of the parameters")
    for share in summary.shares:
        parts = [f"{share.count:,} with {share.params:,} parameters ({100 * share.params_share:.1f} %)"]
        if share.macs:
            parts.append(f"{100 * share.macs_share:.1f} % of the multiply-adds")
        if not share.count:
            parts = parts[1:]
        lines.append(f"{share.type:<16} " + ", ".join(parts))
    return lines
