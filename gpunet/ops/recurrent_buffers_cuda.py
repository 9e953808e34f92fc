"""What the CUDA kernels of a recurrent layer work on, however they go through its steps.

All arrays are row-major, with N rows in the order of x, B sequences, H hidden units and G gates. "Carry" is the dtype
of sums and states: float64 for float64, else float32.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gpunet.ops.recurrent_layout import Layout

__all__ = ["GATES", "Buffers", "Gradients", "Recurrence"]

GATES: Final = {"rnn": 1, "lstm": 4, "gru": 3}


class Recurrence(NamedTuple):
    """One layer in one direction over a batch of sequences.

    Attributes:
        kind: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        layout: of the N rows.
        reverse: whether the last step comes first.
        nonlinearity: ``"tanh"`` or ``"relu"``, of the vanilla layer.
        rounds: whether tensor cores may take products of float32, in TF32.
    """

    kind: str
    layout: Layout
    reverse: bool
    nonlinearity: str
    rounds: bool


class Buffers(NamedTuple):
    """What both passes read or write.

    Attributes:
        gates: (N, G H) carry: x W_ih^T with all biases but b_hn of the GRU; then, where gradients will be asked for,
            the activated gates (LSTM and GRU; of the vanilla layer y is enough); then, going back, the gradient of what
            was activated, da.
        hidden_part: (N, H) carry, h_before W_hn^T + b_hn of the GRU, written going forward; None where no gradients
            will be asked for, and but for the GRU.
        cells: (N, H) carry, c of the LSTM; None likewise.
        y: (N, H), as x, written going forward.
        h, c: (B, H) carry, the initial states. Going forward they give way to the last ones; going back they are read.
            c is None but for the LSTM.
    """

    gates: Any
    hidden_part: Any
    cells: Any
    y: Any
    h: Any
    c: Any


class Gradients(NamedTuple):
    """What a pass back has besides.

    Attributes:
        y: (N, H), as x, the gradient of y.
        h, c: (B, H) carry, the gradients of the last states; those of the initial ones afterwards. c is None but for
            the LSTM.
        dh_part: (N, G H) carry, written, of the GRU: da with its third block times r. For the others it is
            ``Buffers.gates``, for da is all of it.
    """

    y: Any
    h: Any
    c: Any
    dh_part: Any
