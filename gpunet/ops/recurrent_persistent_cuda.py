"""Recurrent layers over whole sequences in one launch, the recurrent weights kept on the GPU's chip.

The kernels are in ``cuda_kernels/rnn_persistent.cu``, ``lstm_persistent.cu`` and ``gru_persistent.cu`` and, for tensor
cores, in the files of their names with ``_tensor``; ``recurrent_persistent_plan`` says when they can run and how the
work is cut. ``recurrent_cuda`` has the rest of the layer and goes one step at a time where there is no plan.

Blocks that wait for each other are always launched cooperatively: a plan that does not fit the GPU is an error there,
never a wait without end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.backend.devices import array_module
from gpunet.backend.gpu_limits import GPULimits, gpu_limits
from gpunet.backend.kernels import get_kernel, is_aligned, launch
from gpunet.ops.recurrent_buffers_cuda import Buffers, Gradients, Recurrence
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


def persistent_forward(plan: Plan, layer: Recurrence, buffers: Buffers, w_hh: Any, b_hn: Any) -> None:
    """All steps of one layer in one direction.

    Args:
        plan: of the layer, with blocks for this direction.
        layer: which.
        buffers: the activated gates are left in ``gates`` if ``hidden_part`` or ``cells`` is given.
        w_hh: (G H, H) in the layer's dtype.
        b_hn: (H,) float32, or None: of the GRU.
    """
    gates, hidden_part, cells, y, h, c = buffers
    output = _rounded(y, plan, filled=False)
    weights = _words(w_hh, plan)
    # The kernels read the initial states before they write the last ones: these may lie in the same place.
    own: tuple[Any, ...] = {
        "rnn": (gates, output, weights, h, h, layer.nonlinearity == "relu"),
        "lstm": (gates, cells, output, weights, h, c, h, c),
        "gru": (gates, b_hn, hidden_part, output, weights, h, h),
    }[layer.kind]
    _launch("forward", plan, plan.forward, layer, w_hh.shape[1], w_hh.shape[1], own)
    if output.dtype.itemsize != y.dtype.itemsize:
        y[...] = output


def persistent_backward(plan: Plan, layer: Recurrence, buffers: Buffers, w_hh: Any, grads: Gradients) -> None:
    """All steps back: the gradients of the gates and of the initial states.

    Args:
        plan: of the layer, with blocks for this direction.
        layer: which.
        buffers: of the forward pass; ``gates`` may hold anything for the vanilla layer.
        w_hh: (G H, H) in the layer's dtype.
        grads: of its results.
    """
    gates, hidden_part, cells, y, h0, c0 = buffers
    output, grad_output = _rounded(y, plan), _rounded(grads.y, plan)
    weights = _words(w_hh.T, plan)
    own: tuple[Any, ...] = {
        "rnn": (gates, output, grad_output, weights, grads.h, layer.nonlinearity == "relu"),
        "lstm": (gates, cells, c0, grad_output, weights, grads.h, grads.c),
        "gru": (gates, hidden_part, output, h0, grad_output, weights, grads.h, grads.dh_part),
    }[layer.kind]
    _launch("backward", plan, plan.backward, layer, w_hh.shape[1], w_hh.shape[0], own)


def _launch(
    direction: str,
    plan: Plan,
    slicing: Slicing | None,
    layer: Recurrence,
    hidden: int,
    depth: int,
    own: tuple[Any, ...],
) -> None:
    if slicing is None:
        raise ValueError(f"the plan has no blocks for going {direction}")
    module, kind, layout = array_module(own[0]), layer.kind, layer.layout
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
    args = (*own, exchange, counter, offsets, layout.steps, layout.batch, hidden, layer.reverse, *cut)
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
