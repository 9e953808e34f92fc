"""Recurrent layers over whole sequences in one launch, the recurrent weights kept on the GPU's chip.

The kernels are in ``cuda_kernels/rnn_persistent.cu``, ``lstm_persistent.cu`` and ``gru_persistent.cu`` and, for tensor
cores, in the files of their names with ``_tensor``; ``recurrent_persistent_plan`` says when they can run and how the
work is cut. The buffers are those of ``recurrent_cuda``, which has the rest of the layer and goes one step at a time
where there is no plan.

Blocks that wait for each other are always launched cooperatively: a plan that does not fit the GPU is an error there,
never a wait without end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.backend.devices import array_module
from gpunet.backend.gpu_limits import GPULimits, gpu_limits
from gpunet.backend.kernels import get_kernel, is_aligned, launch
from gpunet.ops.recurrent_layout import Layout
from gpunet.ops.recurrent_persistent_plan import Plan, Slicing, choose_plan

__all__ = ["Plan", "persistent_backward", "persistent_forward", "persistent_plan"]

_THREADS = 256


def persistent_plan(
    kind: str, layout: Layout, hidden: int, dtype: Any, tf32: bool, limits: GPULimits | None = None
) -> Plan | None:
    """How the kernels for whole sequences would run, or None where they cannot, or would not be worth it.

    Args:
        kind: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        layout: of the sequences.
        hidden: H.
        dtype: of x; float64 has no such kernels.
        tf32: whether float32 may be multiplied as TF32.
        limits: of the GPU; None: of the current one.
    """
    dtype = np.dtype(dtype)
    return choose_plan(
        kind, layout.steps, layout.batch, hidden, dtype, tf32, gpu_limits() if limits is None else limits
    )


def persistent_forward(
    plan: Plan,
    kind: str,
    layout: Layout,
    reverse: bool,
    gates: Any,
    hidden_part: Any,
    cells: Any,
    y: Any,
    h0: Any,
    c0: Any,
    h_n: Any,
    c_n: Any,
    w_hh: Any,
    b_hn: Any,
    nonlinearity: str,
) -> None:
    """All steps of one layer in one direction.

    Args:
        plan: of the layer, with blocks for this direction.
        kind: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        layout: of the N rows.
        reverse: whether the last step comes first.
        gates: (N, G H) float32, x's products with the biases; the activated gates afterwards, if they are kept.
        hidden_part: (N, H) float32, written, or None: of the GRU; its gates are kept if it is given.
        cells: (N, H) float32, written, or None: of the LSTM; its gates are kept if it is given.
        y: (N, H) in the layer's dtype, written.
        h0, c0: (B, H) float32; c0 None but for the LSTM.
        h_n, c_n: (B, H) float32, written; c_n None but for the LSTM. They may be h0 and c0.
        w_hh: (G H, H) in the layer's dtype.
        b_hn: (H,) float32, or None: of the GRU.
        nonlinearity: ``"tanh"`` or ``"relu"``: of the vanilla layer.
    """
    output = _rounded(y, plan, filled=False)
    weights = _words(w_hh, plan)
    own: tuple[Any, ...] = {
        "rnn": (gates, output, weights, h0, h_n, nonlinearity == "relu"),
        "lstm": (gates, cells, output, weights, h0, c0, h_n, c_n),
        "gru": (gates, b_hn, hidden_part, output, weights, h0, h_n),
    }[kind]
    _launch("forward", plan, plan.forward, kind, layout, reverse, w_hh.shape[1], w_hh.shape[1], own)
    if output.dtype.itemsize != y.dtype.itemsize:
        y[...] = output


def persistent_backward(
    plan: Plan,
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
    grad_h_n: Any,
    grad_c_n: Any,
    dh_part: Any,
    nonlinearity: str,
) -> None:
    """All steps back: the gradients of the gates and of the initial states.

    Args:
        plan, kind, layout, reverse, hidden_part, cells, y, h0, c0, w_hh, nonlinearity: as in ``persistent_forward``,
            all of them read.
        gates: (N, G H) float32, the activated gates; da afterwards.
        grad_y: (N, H) in the layer's dtype.
        grad_h_n, grad_c_n: (B, H) float32, the gradients of the last states; those of the initial ones afterwards.
            grad_c_n is None but for the LSTM.
        dh_part: (N, 3 H) float32, written: da with its third block times r; of the GRU, else None.
    """
    output, grad_output = _rounded(y, plan), _rounded(grad_y, plan)
    weights = _words(w_hh.T, plan)
    own: tuple[Any, ...] = {
        "rnn": (gates, output, grad_output, weights, grad_h_n, nonlinearity == "relu"),
        "lstm": (gates, cells, c0, grad_output, weights, grad_h_n, grad_c_n),
        "gru": (gates, hidden_part, output, h0, grad_output, weights, grad_h_n, dh_part),
    }[kind]
    _launch("backward", plan, plan.backward, kind, layout, reverse, w_hh.shape[1], w_hh.shape[0], own)


def _launch(
    direction: str,
    plan: Plan,
    slicing: Slicing | None,
    kind: str,
    layout: Layout,
    reverse: bool,
    hidden: int,
    depth: int,
    own: tuple[Any, ...],
) -> None:
    if slicing is None:
        raise ValueError(f"the plan has no blocks for going {direction}")
    module = array_module(own[0])
    size, product = ("small", plan.product[6:]) if plan.is_small else ("persistent", plan.product)
    file = f"{kind}_persistent" if product == "float32" else f"{kind}_persistent_tensor"
    kernel = get_kernel(file, f"{kind}_{size}_{direction}_{product}")
    exchange = counter = None
    if not plan.is_small:
        # Zero where no kernel writes: behind the ends of the rows.
        exchange = module.zeros((2 * layout.batch * _whole(depth, plan) // plan.elements,), np.uint32)
        counter = module.zeros((1,), np.uint32)
    offsets = module.asarray(np.array(layout.offsets, np.int64)) if layout.packed else None
    cut = slicing.units, slicing.rows, slicing.group, slicing.buffers, slicing.warps_across, slicing.pitch
    args = (*own, exchange, counter, offsets, layout.steps, layout.batch, hidden, reverse, *cut)
    grid = (slicing.slices, slicing.batch_slices)
    launch(kernel, grid, _THREADS, args, slicing.shared_memory, cooperative=not plan.is_small)


def _whole(depth: int, plan: Plan) -> int:
    """The values of a row in whole sixteen bytes."""
    count = 4 * plan.elements
    return -(-depth // count) * count


def _words(matrix: Any, plan: Plan) -> Any:
    """The weights as products take them: in 32-bit words, each row in whole sixteen bytes with zeros behind its end."""
    module, dtype = array_module(matrix), matrix.dtype
    if plan.elements == 1:
        dtype = np.dtype(np.float32)
    rows, depth = matrix.shape
    width = _whole(depth, plan)
    if width == depth:
        found = module.ascontiguousarray(matrix, dtype)
        if not is_aligned(16, found):
            found = found.copy()
    else:
        found = module.zeros((rows, width), dtype)
        found[:, :depth] = matrix
    return found.reshape(-1).view(np.uint32)


def _rounded(array: Any, plan: Plan, filled: bool = True) -> Any:
    """y or its gradient as the kernels take it: as it is, half types in 16-bit words, or in float32 for the small ones.

    Args:
        array: what is asked for.
        plan: of the layer.
        filled: whether a new array needs its values.
    """
    if array.dtype.itemsize == 4:
        return array
    if not plan.is_small:
        return array.view(np.uint16)
    return array.astype(np.float32) if filled else array_module(array).empty(array.shape, np.float32)
