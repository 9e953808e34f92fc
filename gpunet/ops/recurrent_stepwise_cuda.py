"""Recurrent layers one step at a time: two launches each, the recurrent product and the cell.

The product is left as partial sums, which the cell adds as it reads them. ``cuda_kernels/rnn.cu``, ``lstm.cu`` and
``gru.cu`` have the contract; their naive kernels, which go through whole sequences with a block each, are there to be
read and compared with. ``recurrent_cuda`` has the rest of the layer.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gpunet.backend.devices import array_module
from gpunet.backend.kernels import blocks_for, get_kernel, launch
from gpunet.backend.memory import empty
from gpunet.ops.gemm_cuda import Gemm, PartialGemm, launch_sum_partials, plan_partials
from gpunet.ops.gemm_tensor_cuda import TensorPartials, plan_tensor_partials
from gpunet.ops.recurrent_buffers_cuda import Buffers, Gradients, Recurrence
from gpunet.ops.recurrent_layout import Layout, Step

__all__ = ["naive_backward", "naive_forward", "stepwise_backward", "stepwise_forward"]

_THREADS: Final = 256


def stepwise_forward(layer: Recurrence, buffers: Buffers, w_hh: Any, b_hn: Any) -> None:
    """All steps of one layer in one direction.

    Args:
        layer: which.
        buffers: the activated gates are left in ``gates`` if ``hidden_part`` or ``cells`` is given.
        w_hh: (G H, H) carry.
        b_hn: (H,) carry, or None: of the GRU.
    """
    kind, (gates, hidden_part, cells, y, h, c) = layer.kind, buffers
    wide, hidden = w_hh.shape
    sizes = Gemm(1, layer.layout.batch, wide, hidden, 0, hidden, 0, hidden, 0, wide)
    plan = _plan("nt", sizes, h, w_hh, layer.rounds)
    partials = empty((plan.splits * plan.stride,), h.dtype, array_module(h))
    summed = partials, plan.splits, plan.stride
    own = {
        "rnn": (gates, *summed, h, layer.nonlinearity == "relu"),
        "lstm": (gates, *summed, c, h, cells),
        "gru": (gates, *summed, b_hn, h, hidden_part),
    }[kind]
    kernel = get_kernel(kind, f"{kind}_forward_{y.dtype.name}")
    stored = _stored(y)
    for rows, size, _ in layer.layout.walk(layer.reverse):
        plan.launch(size, partials, h, w_hh)
        launch(kernel, _blocks(size, hidden, h.dtype), _THREADS, (*own, stored, rows.start, size, hidden))


def stepwise_backward(layer: Recurrence, buffers: Buffers, w_hh: Any, grads: Gradients, needs_h0: bool = True) -> None:
    """All steps back: the gradients of the gates and of the initial states.

    Args:
        layer: which.
        buffers: of the forward pass; ``gates`` may hold anything for the vanilla layer.
        w_hh: (G H, H) carry.
        grads: of its results.
        needs_h0: whether ``grads.h`` has to be the initial state's gradient afterwards.
    """
    kind, (gates, hidden_part, cells, y, h0, c0) = layer.kind, buffers
    wide, hidden = w_hh.shape
    sizes = Gemm(1, layer.layout.batch, hidden, wide, 0, wide, 0, hidden, 0, hidden)
    plan = _plan("nn", sizes, grads.dh_part, w_hh, layer.rounds)
    partials = empty((plan.splits * plan.stride,), gates.dtype, array_module(gates))
    summed = partials, plan.splits, plan.stride
    stored, grad_stored = _stored(y), _stored(grads.y)
    own = {
        "rnn": (gates, grads.h, *summed, layer.nonlinearity == "relu", stored, grad_stored),
        "lstm": (gates, cells, c0, grads.h, *summed, grads.c, grad_stored),
        "gru": (gates, hidden_part, h0, grads.h, *summed, grads.dh_part, stored, grad_stored),
    }[kind]
    kernel = get_kernel(kind, f"{kind}_backward_{y.dtype.name}")
    coming = 0
    for (rows, size, before), row_before in _steps_back(layer.layout, layer.reverse):
        extents = (rows.start, row_before, size, before, coming, hidden)
        launch(kernel, _blocks(size, hidden, gates.dtype), _THREADS, (*own, *extents))
        # Whoever had no step before this one is done: what comes is the gradient of h0.
        further = size if needs_h0 else before
        if further:
            plan.launch(further, partials, grads.dh_part[rows], w_hh)
        coming = size
    if needs_h0:
        # Each sequence's rows have been left alone since its first step; the GRU's state also comes through directly.
        into = grads.h.reshape(-1)
        launch_sum_partials(plan.sizes, plan.splits, into, partials, residual=into.copy() if kind == "gru" else None)


def _plan(layout: str, sizes: Gemm, left: Any, right: Any, rounds: bool) -> PartialGemm | TensorPartials:
    """How each step's product is computed."""
    plan = plan_tensor_partials(layout, sizes, left, right) if rounds else None
    return plan_partials(layout, sizes, left, right) if plan is None else plan


def _steps_back(layout: Layout, reverse: bool) -> list[tuple[Step, int]]:
    """The steps from the layer's last to its first, and for each the first row of the one before it, or 0."""
    steps = list(layout.walk(reverse))
    before = [0, *(step.rows.start for step in steps[:-1])]
    return list(zip(reversed(steps), reversed(before), strict=True))


def naive_forward(layer: Recurrence, buffers: Buffers, w_hh: Any, b_hn: Any) -> None:
    """``stepwise_forward`` by the naive kernels, which round nothing; hidden_part and cells must be given."""
    gates, hidden_part, cells, y, h, c = buffers
    own = {
        "rnn": (gates, w_hh, h, layer.nonlinearity == "relu"),
        "lstm": (gates, w_hh, c, h, cells),
        "gru": (gates, w_hh, b_hn, h, hidden_part),
    }[layer.kind]
    _launch_naive(layer, "forward", y.dtype, *own, _stored(y))


def naive_backward(layer: Recurrence, buffers: Buffers, w_hh: Any, grads: Gradients, needs_h0: bool = True) -> None:
    """``stepwise_backward`` by the naive kernels, for which the initial state's gradient is no work more."""
    gates, hidden_part, cells, y, h0, c0 = buffers
    own = {
        "rnn": (gates, w_hh, grads.h, layer.nonlinearity == "relu", _stored(y)),
        "lstm": (gates, cells, c0, w_hh, grads.h, grads.c),
        "gru": (gates, hidden_part, h0, w_hh, grads.h, grads.dh_part, _stored(y)),
    }[layer.kind]
    _launch_naive(layer, "backward", y.dtype, *own, _stored(grads.y))


def _launch_naive(layer: Recurrence, direction: str, dtype: Any, *args: Any) -> None:
    kernel = get_kernel(layer.kind, f"{layer.kind}_naive_{direction}_{dtype.name}")
    layout = layer.layout
    offsets = array_module(args[0]).asarray(np.array(layout.offsets, np.int64))
    launch(kernel, layout.batch, _THREADS, (*args, offsets, layout.steps, layer.reverse, args[-1].shape[1]))


def _stored(array: Any) -> Any:
    """An array as kernels take it: half types as words of two bytes."""
    return array.view(np.uint16) if array.dtype.itemsize == 2 else array


def _blocks(size: int, hidden: int, carry: Any) -> int:
    """Blocks for one step: a thread has sixteen bytes of units where they divide the hidden size."""
    vector = 16 // carry.itemsize
    return blocks_for(size * hidden // (vector if hidden % vector == 0 else 1), _THREADS)
