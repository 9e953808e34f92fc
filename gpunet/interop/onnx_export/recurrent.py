"""Translations of the recurrent layers: one node for each layer and direction, with ONNX's order of the gates.

    LSTM: i, f, g, o here; i, o, f, c there.   GRU: r, z, n here; z, r, h there, with the reset gate after the product
    (linear_before_reset).   RNN: one block.

Weights stand in the file as the state dict has them; the nodes that put their blocks in order are worked out once, when
a program loads the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.interop.onnx_export.graph import Call, Graph, translates
from gpunet.interop.onnx_export.tracing import ExportError

__all__: list[str] = []

# Of each operation: ONNX's, and which of our blocks comes where in its order.
_FORMS: dict[str, tuple[str, tuple[int, ...]]] = {
    "rnn": ("RNN", (0,)),
    "gru": ("GRU", (1, 0, 2)),
    "lstm": ("LSTM", (0, 3, 1, 2)),
}


@translates("rnn", "lstm", "gru")
def _recurrent(graph: Graph, call: Call) -> tuple[str, ...]:
    kind, order = _FORMS[call.op]
    states = 2 if call.op == "lstm" else 1
    if not call.values[0].shape[0].is_fixed:
        raise ExportError(
            f"export: {call.step} goes through the batch step by step: the batch is the first dimension of the model's "
            "inputs, and the layer takes that for steps; make it with batch_first=True, or export with "
            "dynamic_batch=False for a file with one batch size"
        )
    x, *initial = call.inputs[: 1 + states]
    w_ih, w_hh, b_ih, b_hh = call.inputs[1 + states :]
    hidden = call.values[1 + states + 1].shape[1].fixed
    biases = None
    if b_ih is not None or b_hh is not None:
        zeros = np.zeros(len(order) * hidden)
        parts = [
            graph.constant(zeros, call.outputs[0].dtype) if bias is None else _reordered(graph, bias, order)
            for bias in (b_ih, b_hh)
        ]
        biases = _with_direction(graph, graph.add("Concat", *parts, axis=0))
    options: dict[str, Any] = {
        "hidden_size": hidden,
        "direction": "reverse" if call.attributes["reverse"] else "forward",
    }
    if kind == "GRU":
        options["linear_before_reset"] = 1
    if kind == "RNN":
        options["activations"] = [call.attributes["nonlinearity"].capitalize()]
    results = graph.add_several(
        kind, 1 + states, x, *(_with_direction(graph, _reordered(graph, w, order)) for w in (w_ih, w_hh)), biases, None,
        *(_initial(graph, call, place + 1, name) for place, name in enumerate(initial)), **options,
    )  # fmt: skip
    # Y is (steps, directions, batch, hidden); the last states are (directions, batch, hidden).
    axes = [1, *[0] * states]
    return tuple(graph.add("Squeeze", name, graph.integers([axis])) for name, axis in zip(results, axes, strict=True))


def _reordered(graph: Graph, weight: str, order: tuple[int, ...]) -> str:
    """The blocks of a weight in another order."""
    if len(order) == 1:
        return weight
    blocks = graph.add_several("Split", len(order), weight, axis=0, num_outputs=len(order))
    return graph.add("Concat", *(blocks[place] for place in order), axis=0)


def _with_direction(graph: Graph, name: str) -> str:
    return graph.add("Unsqueeze", name, graph.integers([0]))


def _initial(graph: Graph, call: Call, place: int, name: str) -> str | None:
    """A state before the first step; zeros need not be said."""
    value = call.values[place]
    if value.source == "constant" and not np.any(value.array):
        return None
    return _with_direction(graph, name)
