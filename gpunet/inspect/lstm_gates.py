"""The gates of an LSTM over time: what it lets in, keeps and lets out, step by step.

    i_t, f_t, o_t = sigmoid(W x_t + U h_{t-1} + b), each with weights of its own      input, forget and output gate
    g_t = tanh(W_g x_t + U_g h_{t-1} + b_g)                                           candidate, also written C~
    c_t = f_t c_{t-1} + i_t g_t                                                       cell
    h_t = o_t tanh(c_t)                                                               output

Every gate sees the input x_t and not only the state before it, and so does the candidate. o_t is the output gate
itself; o_t tanh(c_t) is what goes out through it, the state h_t (Hochreiter and Schmidhuber 1997; Gers et al. 2000).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gpunet.autograd import Tensor, as_tensor
from gpunet.backend.errors import ShapeError
from gpunet.inspect.pictures import check_path, finished, new_figure
from gpunet.nn import LSTM, LSTMCell

__all__ = ["LSTMGates", "lstm_gates", "plot_lstm_gates"]

MOST_STEPS = 400  # that a picture can show


class LSTMGates(NamedTuple):
    """What goes on inside an LSTM, each float64 (T, H), or (T, B, H) of a batch.

    Attributes:
        i, f, o: input, forget and output gate, 0 (shut) to 1 (open).
        g: candidate for the cell, -1 to 1.
        c: cell.
        h: output.
    """

    i: np.ndarray
    f: np.ndarray
    o: np.ndarray
    g: np.ndarray
    c: np.ndarray
    h: np.ndarray


def lstm_gates(lstm: LSTM | LSTMCell, input: Any, hx: tuple[Any, Any] | None = None, *, layer: int = -1) -> LSTMGates:
    """Run an LSTM, and return its gates and cells at each step.

    It runs as in evaluation mode, without dropout, in float64, on the CPU.

    Args:
        lstm: a layer in one direction, or a cell.
        input: (T, B, I) or (T, I), (B, T, I) of a layer with ``batch_first``.
        hx: h_0 and c_0 as the layer takes them, or the cell; None are zeros.
        layer: which of several layers above each other; -1 is the last.

    Raises:
        ShapeError: an input or states of another shape.
        TypeError, ValueError: no LSTM, a bidirectional one, or no such layer.
    """
    if isinstance(lstm, LSTM):
        if lstm.bidirectional:
            raise ValueError("lstm: a bidirectional layer has no single direction of time")
        weights = [[_array(weight) for weight in layer_weights] for layer_weights in lstm.all_weights]
    elif isinstance(lstm, LSTMCell):
        own = (lstm.weight_ih, lstm.weight_hh, lstm.bias_ih, lstm.bias_hh)
        weights = [[_array(weight) for weight in own if weight is not None]]
    else:
        raise TypeError(f"lstm: must be an nn.LSTM or an nn.LSTMCell, got {type(lstm).__name__}")
    if isinstance(layer, bool) or not isinstance(layer, int) or not -len(weights) <= layer < len(weights):
        raise ValueError(f"layer: must be from {-len(weights)} to {len(weights) - 1}, got {layer!r}")
    x = _array(as_tensor(input))
    if x.ndim not in (2, 3) or x.shape[-1] != lstm.input_size:
        raise ShapeError(
            f"input: must be (steps, batch, {lstm.input_size}) or (steps, {lstm.input_size}), got shape {x.shape}"
        )
    if x.ndim == 3 and getattr(lstm, "batch_first", False):
        x = x.swapaxes(0, 1)
    if not len(x):
        raise ShapeError(f"input: a sequence needs at least one step, got shape {x.shape}")
    state_shape = (len(weights), *x.shape[1:-1], lstm.hidden_size)
    if hx is None:
        states = [np.zeros(state_shape)] * 2
    else:
        given = [_array(as_tensor(state)) for state in hx]
        states = [state[None] if isinstance(lstm, LSTMCell) else state for state in given]
        if len(states) != 2 or any(state.shape != state_shape for state in states):
            wanted = state_shape[1:] if isinstance(lstm, LSTMCell) else state_shape
            raise ShapeError(f"hx: must be two states of shape {wanted}, got {[state.shape for state in given]}")
    gates = []
    for number, matrices in enumerate(weights):
        gates.append(_run(matrices, x, states[0][number], states[1][number]))
        x = gates[-1].h
    return gates[layer]


def plot_lstm_gates(
    gates: LSTMGates,
    path: str | os.PathLike[str] | None = None,
    *,
    labels: Sequence[str] | None = None,
    title: str = "",
) -> Any:
    """Draw the gates over time: a row for each unit, a column for each step.

    Args:
        gates: of one sequence, (T, H) each, as ``lstm_gates`` gives them.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        labels: of the steps, such as the characters that were read.
        title: above the picture.

    Returns:
        The ``matplotlib.figure.Figure``, with one axes for each of i, f, o, g, c and h.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        TypeError, ShapeError, ValueError: no gates, those of a batch, more than 400 steps, or other labels than steps.
        OSError: the file cannot be written.
    """
    check_path(path)
    if not isinstance(gates, LSTMGates):
        raise TypeError(f"gates: must be those of lstm_gates, got {type(gates).__name__}")
    if gates.i.ndim != 2:
        raise ShapeError(f"gates: must be of one sequence, (T, H), got shape {gates.i.shape}")
    steps, units = gates.i.shape
    if steps > MOST_STEPS:
        raise ValueError(f"gates: {steps} steps are more than can be drawn ({MOST_STEPS})")
    if labels is not None and len(labels) != steps:
        raise ValueError(f"labels: must be one for each of the {steps} steps, got {len(labels)}")
    width, each = min(14.0, max(5.0, 0.14 * steps + 1.6)), min(2.2, max(0.7, 0.06 * units + 0.3))
    figure = new_figure(width, 6 * each + 1.0)
    names = {
        "i": "i: what comes in", "f": "f: what is kept", "o": "o: what goes out",
        "g": "g: candidate", "c": "c: cell", "h": "h: output",
    }  # fmt: skip
    from matplotlib.ticker import MaxNLocator

    all_axes = figure.subplots(6, 1, sharex=True)
    for axes, (name, label) in zip(all_axes, names.items(), strict=True):
        values = getattr(gates, name).T
        if name in "ifo":
            look = {"cmap": "viridis", "vmin": 0.0, "vmax": 1.0}
        else:
            reach = max(1.0, float(np.abs(values).max()))
            look = {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}
        shown = axes.imshow(values, aspect="auto", interpolation="nearest", **look)
        shown.set_gid(f"gate {name}")
        figure.colorbar(shown, ax=axes, pad=0.01, fraction=0.03).ax.tick_params(labelsize=6)
        axes.set_ylabel("unit", fontsize=7)
        axes.set_title(label, fontsize=8, loc="left", pad=2)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.tick_params(labelsize=6)
    if labels is None:
        all_axes[-1].set_xlabel("step", fontsize=7)
    else:
        all_axes[-1].set_xticks(range(steps), [_visible(label) for label in labels], fontsize=7)
    if title:
        figure.suptitle(title, fontsize=10)
    figure.subplots_adjust(left=0.09, right=0.97, bottom=0.06, top=0.94 if title else 0.97, hspace=0.45)
    return finished(figure, path)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float64)


def _run(weights: list[np.ndarray], x: np.ndarray, h: np.ndarray, c: np.ndarray) -> LSTMGates:
    """One layer over a sequence, (T, ..., I)."""
    w_ih, w_hh, *biases = weights
    inputs = x @ w_ih.T + sum(biases)
    steps = []
    for part in inputs:
        a, b, candidate, d = np.split(part + h @ w_hh.T, 4, axis=-1)  # in PyTorch's order i, f, g, o
        i, f, o, g = _sigmoid(a), _sigmoid(b), _sigmoid(d), np.tanh(candidate)
        c = f * c + i * g
        h = o * np.tanh(c)
        steps.append((i, f, o, g, c, h))
    return LSTMGates(*(np.stack(part) for part in zip(*steps, strict=True)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _visible(label: str) -> str:
    """White space as signs that can be seen."""
    return {" ": "␣", "\n": "↵", "\t": "⇥"}.get(label, label).replace("$", r"\$")
