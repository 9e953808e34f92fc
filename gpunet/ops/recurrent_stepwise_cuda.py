"""Recurrent layers one step at a time: two launches each, the recurrent product and the cell.

The product is left as partial sums, which the cell adds as it reads them. ``cuda_kernels/rnn.cu``, ``lstm.cu`` and
``gru.cu`` have the contract; their naive kernels, which go through whole sequences with a block each, are there to be
read and compared with. The buffers are those of ``recurrent_cuda``, which has the rest of the layer.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gpunet.backend.devices import array_module
from gpunet.backend.kernels import blocks_for, get_kernel, launch
from gpunet.backend.memory import empty
from gpunet.ops.gemm_cuda import Gemm, PartialGemm, launch_sum_partials, plan_partials
from gpunet.ops.gemm_tensor_cuda import TensorPartials, plan_tensor_partials
from gpunet.ops.recurrent_layout import Layout, Step

__all__ = ["naive_backward", "naive_forward", "stepwise_backward", "stepwise_forward"]

_THREADS: Final = 256


def stepwise_forward(
    kind: str,
    layout: Layout,
    reverse: bool,
    gates: Any,
    hidden_part: Any,
    cells: Any,
    y: Any,
    h: Any,
    c: Any,
    w_hh: Any,
    b_hn: Any,
    nonlinearity: str,
    rounds: bool = False,
) -> None:
    """All steps of one layer in one direction.

    Args:
        kind: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        layout: of the N rows.
        reverse: whether the last step comes first.
        gates: (N, G H), x's products with the biases; the activated gates afterwards, if they are kept.
        hidden_part: (N, H), written, or None: of the GRU; its gates are kept if it is given.
        cells: (N, H), written, or None: of the LSTM; its gates are kept if it is given.
        y: (N, H) in the layer's dtype, written.
        h, c: (B, H), the initial states; the last ones afterwards. c is None but for the LSTM.
        w_hh: (G H, H), in the carry as all arrays but y.
        b_hn: (H,), or None: of the GRU.
        nonlinearity: ``"tanh"`` or ``"relu"``, of the vanilla layer.
        rounds: whether tensor cores may take the products, in TF32.
    """
    wide, hidden = w_hh.shape
    sizes = Gemm(1, layout.batch, wide, hidden, 0, hidden, 0, hidden, 0, wide)
    plan = _plan("nt", sizes, h, w_hh, rounds)
    partials = empty((plan.splits * plan.stride,), h.dtype, array_module(h))
    summed = partials, plan.splits, plan.stride
    own = {
        "rnn": (gates, *summed, h, nonlinearity == "relu"),
        "lstm": (gates, *summed, c, h, cells),
        "gru": (gates, *summed, b_hn, h, hidden_part),
    }[kind]
    kernel = get_kernel(kind, f"{kind}_forward_{y.dtype.name}")
    stored = _stored(y)
    for rows, size, _ in layout.walk(reverse):
        plan.launch(size, partials, h, w_hh)
        launch(kernel, _blocks(size, hidden, h.dtype), _THREADS, (*own, stored, rows.start, size, hidden))


def stepwise_backward(
    kind: str,
    layout: Layout,
    reverse: bool,
    gates: Any,
    hidden_part: Any,
    cells: Any,
    y: Any,
    h0: Any,
    c0: Any,
    w_hh: Any,
    grad_y: Any,
    grad_h: Any,
    grad_c: Any,
    dh_part: Any,
    nonlinearity: str,
    needs_h0: bool,
    rounds: bool = False,
) -> None:
    """All steps back: the gradients of the gates and of the initial states.

    Args:
        kind, layout, reverse, hidden_part, cells, y, w_hh, nonlinearity: as in ``stepwise_forward``, all of them read.
        gates: (N, G H), the activated gates, or anything for the vanilla layer; da afterwards.
        h0, c0: (B, H), the initial states; c0 is None but for the LSTM.
        grad_y: (N, H) in the layer's dtype.
        grad_h, grad_c: (B, H), the gradients of the last states; those of the initial ones afterwards. grad_c is None
            but for the LSTM.
        dh_part: (N, 3 H), written: da with its third block times r; for all but the GRU it is ``gates``.
        needs_h0: whether grad_h has to be h0's gradient afterwards.
        rounds: whether tensor cores may take the products, in TF32.
    """
    wide, hidden = w_hh.shape
    sizes = Gemm(1, layout.batch, hidden, wide, 0, wide, 0, hidden, 0, hidden)
    plan = _plan("nn", sizes, dh_part, w_hh, rounds)
    partials = empty((plan.splits * plan.stride,), gates.dtype, array_module(gates))
    summed = partials, plan.splits, plan.stride
    stored, grad_stored = _stored(y), _stored(grad_y)
    own = {
        "rnn": (gates, grad_h, *summed, nonlinearity == "relu", stored, grad_stored),
        "lstm": (gates, cells, c0, grad_h, *summed, grad_c, grad_stored),
        "gru": (gates, hidden_part, h0, grad_h, *summed, dh_part, stored, grad_stored),
    }[kind]
    kernel = get_kernel(kind, f"{kind}_backward_{y.dtype.name}")
    coming = 0
    for (rows, size, before), row_before in _steps_back(layout, reverse):
        extents = (rows.start, row_before, size, before, coming, hidden)
        launch(kernel, _blocks(size, hidden, gates.dtype), _THREADS, (*own, *extents))
        # Whoever had no step before this one is done: what comes is the gradient of h0.
        further = size if needs_h0 else before
        if further:
            plan.launch(further, partials, dh_part[rows], w_hh)
        coming = size
    if needs_h0:
        # Each sequence's rows have been left alone since its first step; the GRU's state also comes through directly.
        direct = grad_h.reshape(-1).copy() if kind == "gru" else None
        launch_sum_partials(plan.sizes, plan.splits, grad_h.reshape(-1), partials, residual=direct)


def _plan(layout: str, sizes: Gemm, left: Any, right: Any, rounds: bool) -> PartialGemm | TensorPartials:
    """How each step's product is computed."""
    plan = plan_tensor_partials(layout, sizes, left, right) if rounds else None
    return plan_partials(layout, sizes, left, right) if plan is None else plan


def _steps_back(layout: Layout, reverse: bool) -> list[tuple[Step, int]]:
    """The steps from the layer's last to its first, and for each the first row of the one before it, or 0."""
    steps = list(layout.walk(reverse))
    before = [0, *(step.rows.start for step in steps[:-1])]
    return list(zip(reversed(steps), reversed(before), strict=True))


def naive_forward(
    kind: str,
    layout: Layout,
    reverse: bool,
    gates: Any,
    hidden_part: Any,
    cells: Any,
    y: Any,
    h: Any,
    c: Any,
    w_hh: Any,
    b_hn: Any,
    nonlinearity: str,
    rounds: bool = False,
) -> None:
    """``stepwise_forward`` by the naive kernels, which round nothing; hidden_part and cells must be given."""
    own = {
        "rnn": (gates, w_hh, h, nonlinearity == "relu"),
        "lstm": (gates, w_hh, c, h, cells),
        "gru": (gates, w_hh, b_hn, h, hidden_part),
    }[kind]
    _launch_naive(kind, "forward", layout, reverse, y.dtype, *own, _stored(y))


def naive_backward(
    kind: str,
    layout: Layout,
    reverse: bool,
    gates: Any,
    hidden_part: Any,
    cells: Any,
    y: Any,
    h0: Any,
    c0: Any,
    w_hh: Any,
    grad_y: Any,
    grad_h: Any,
    grad_c: Any,
    dh_part: Any,
    nonlinearity: str,
    needs_h0: bool = True,
    rounds: bool = False,
) -> None:
    """``stepwise_backward`` by the naive kernels."""
    own = {
        "rnn": (gates, w_hh, grad_h, nonlinearity == "relu", _stored(y)),
        "lstm": (gates, cells, c0, w_hh, grad_h, grad_c),
        "gru": (gates, hidden_part, h0, w_hh, grad_h, dh_part, _stored(y)),
    }[kind]
    _launch_naive(kind, "backward", layout, reverse, y.dtype, *own, _stored(grad_y))


def _launch_naive(kind: str, direction: str, layout: Layout, reverse: bool, dtype: Any, *args: Any) -> None:
    kernel = get_kernel(kind, f"{kind}_naive_{direction}_{dtype.name}")
    offsets = array_module(args[0]).asarray(np.array(layout.offsets, np.int64))
    launch(kernel, layout.batch, _THREADS, (*args, offsets, layout.steps, reverse, args[-1].shape[1]))


def _stored(array: Any) -> Any:
    """An array as kernels take it: half types as words of two bytes."""
    return array.view(np.uint16) if array.dtype.itemsize == 2 else array


def _blocks(size: int, hidden: int, carry: Any) -> int:
    """Blocks for one step: a thread has sixteen bytes of units where they divide the hidden size."""
    vector = 16 // carry.itemsize
    return blocks_for(size * hidden // (vector if hidden % vector == 0 else 1), _THREADS)
