"""Recurrent layers by the CUDA kernels: one product for the inputs of all steps, then one step after the other.

``cuda_kernels/recurrent_cells.cuh`` has the equations. There are two ways through the steps, and both read and write
the same buffers:

- where the recurrent weights fit on the chip, one kernel for all steps (``recurrent_persistent_cuda``);
- else two launches a step: the recurrent product, left as partial sums, and the cell, which adds them as it reads them
  (``recurrent_stepwise_cuda``).

``recurrent_buffers_cuda`` has their shapes. A pass back leaves da, the gradient of what was activated, and dh_part,
that of what the recurrent weights gave: da itself, but for the GRU. Gradients of weights and x are then products over
all rows at once, those of biases sums of columns: dx = da W_ih, dW_ih = da^T x, dW_hh = dh_part^T h_before. For half
types and where TF32 is allowed, tensor cores take these and x W_ih^T (``gemm_tensor_cuda``); the backward pass then
multiplies in TF32. There are no atomics: the same bits at every run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

from gpunet.backend.devices import array_module
from gpunet.backend.memory import empty
from gpunet.backend.precision import float32_matmul_precision
from gpunet.ops import gemm_cuda
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.gemm import matrix_product
from gpunet.ops.gemm_cuda import column_sums_cuda, matrix_product_cuda
from gpunet.ops.gemm_tensor_cuda import tensor_product_cuda
from gpunet.ops.recurrent_buffers_cuda import GATES, Buffers, Gradients, Recurrence
from gpunet.ops.recurrent_layout import Layout
from gpunet.ops.recurrent_persistent_cuda import Plan, persistent_backward, persistent_forward, persistent_plan
from gpunet.ops.recurrent_stepwise_cuda import naive_backward, naive_forward, stepwise_backward, stepwise_forward

__all__ = ["GATES", "Kept", "backward_cuda", "forward_cuda", "states_before", "supports"]

_MOST_UNITS: Final = 2**31 - 2**10  # of all sequences in one step: the kernels count them in 32 bits


@dataclass
class Kept:
    """What a forward pass leaves for its backward pass, which uses up ``gates``.

    Attributes:
        gates: (N, G H) activated gates; None for the vanilla layer, where y is enough.
        hidden_part: (N, H) of the GRU, else None.
        cells: (N, H) of the LSTM, else None.
        is_used: whether a backward pass has overwritten the gates.
    """

    gates: Any = None
    hidden_part: Any = None
    cells: Any = None
    is_used: bool = False


def supports(kind: str, layout: Layout, hidden: int, dtype: Any) -> tuple[str, str]:
    """Whether the kernels take a layer of such a size, and how they go through its steps, or why not.

    Args:
        kind: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        layout: of x.
        hidden: H.
        dtype: of x.

    Returns:
        ``"cuda"`` or ``"reference"``, and a sentence.
    """
    if layout.batch * hidden > _MOST_UNITS:
        return "reference", f"{layout.batch * hidden} units in one step, more than the kernels can count"
    plan = _persistent_plan(kind, layout, hidden, dtype)
    if plan is not None:
        alone = ", forward" if plan.backward is None else ", backward" if plan.forward is None else ""
        return "cuda", f"one kernel for all steps{alone}, the recurrent weights on the chip"
    return "cuda", "a product and a kernel of the cell each step"


def forward_cuda(
    kind: str,
    x: Any,
    h0: Any,
    c0: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any,
    b_hh: Any,
    layout: Layout,
    reverse: bool,
    nonlinearity: str,
    keep: bool,
    naive: bool = False,
    persistent: bool = True,
) -> tuple[tuple[Any, ...], Kept | None]:
    """One layer in one direction over whole sequences.

    Args:
        kind: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        x: (T, B, I), or (N, I) packed; float16, bfloat16, float32 or float64, like all arrays here.
        h0: (B, H).
        c0: (B, H) of the LSTM, else None.
        w_ih: (G H, I).
        w_hh: (G H, H).
        b_ih, b_hh: (G H,), or None.
        layout: of x.
        reverse: whether the last step comes first.
        nonlinearity: ``"tanh"`` or ``"relu"``, of the vanilla layer.
        keep: whether gradients will be asked for.
        naive: take the kernel that goes through whole sequences with a block each.
        persistent: False takes two launches a step, whatever there is.

    Returns:
        (y, h_n) or (y, h_n, c_n) as x's dtype, and what ``backward_cuda`` needs if ``keep``.
    """
    module, carry, hidden, count = array_module(x), compute_dtype(x.dtype), w_hh.shape[1], layout.rows
    bias, b_hn = _biases(kind, b_ih, b_hh, hidden, carry)
    layer = Recurrence(kind, layout, reverse, nonlinearity, _may_round(x.dtype))
    gates = _product(_flat(x), w_ih.T, bias, layer.rounds)
    hidden_part = empty((count, hidden), carry, module) if kind == "gru" and (keep or naive) else None
    cells = empty((count, hidden), carry, module) if kind == "lstm" and (keep or naive) else None
    y = empty((count, hidden), x.dtype, module)
    h = module.array(h0, dtype=carry, order="C")
    c = None if c0 is None else module.array(c0, dtype=carry, order="C")
    buffers = Buffers(gates, hidden_part, cells, y, h, c)
    plan = None if naive or not persistent else _persistent_plan(kind, layout, hidden, x.dtype)
    if y.size == 0:
        pass
    elif plan is not None and plan.forward is not None:
        persistent_forward(plan, layer, buffers, module.ascontiguousarray(w_hh), b_hn)
    else:
        weight = module.ascontiguousarray(w_hh.astype(carry, copy=False))
        (naive_forward if naive else stepwise_forward)(layer, buffers, weight, b_hn)
    last = (h,) if c is None else (h, c)
    outputs = (y.reshape(*x.shape[:-1], hidden), *(state.astype(x.dtype, copy=False) for state in last))
    return outputs, Kept(None if kind == "rnn" else gates, hidden_part, cells) if keep else None


def backward_cuda(
    kind: str,
    kept: Kept,
    inputs: tuple[Any, ...],
    y: Any,
    grads: tuple[Any, ...],
    needs_grad: tuple[bool, ...],
    layout: Layout,
    reverse: bool,
    nonlinearity: str,
    naive: bool = False,
    persistent: bool = True,
) -> tuple[Any, ...]:
    """The gradients of ``forward_cuda``.

    Args:
        kind: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        kept: of the forward pass; its ``gates`` are overwritten.
        inputs: (x, h0, c0 or None, w_ih, w_hh).
        y: the first output.
        grads: of y and h_n, and of c_n of the LSTM.
        needs_grad: which to compute, in the order of the operation's inputs: x, h0 (, c0), w_ih, w_hh, b_ih, b_hh.
        layout: of x.
        reverse, nonlinearity: as for the forward pass.
        naive: take the kernel that goes through whole sequences with a block each.
        persistent: False takes two launches a step, whatever there is.

    Returns:
        The gradients in that order, None where none was asked for.
    """
    x, h0, c0, w_ih, w_hh = inputs
    module, dtype = array_module(x), x.dtype
    carry, hidden, count = compute_dtype(dtype), w_hh.shape[1], layout.rows
    needs = dict(zip(_names(kind), needs_grad, strict=True))
    y = module.ascontiguousarray(y.reshape(count, hidden))
    grad_y = module.ascontiguousarray(grads[0].reshape(count, hidden))
    h0 = module.ascontiguousarray(h0.astype(carry, copy=False))
    c0 = None if c0 is None else module.ascontiguousarray(c0.astype(carry, copy=False))
    dh = module.array(grads[1], dtype=carry, order="C")
    dc = None if c0 is None else module.array(grads[2], dtype=carry, order="C")
    da, kept.gates = kept.gates, None
    if da is None:
        da = empty((count, GATES[kind] * hidden), carry, module)
    else:
        kept.is_used = True
    dh_part = empty(da.shape, carry, module) if kind == "gru" else da
    layer = Recurrence(kind, layout, reverse, nonlinearity, _may_round(dtype))
    buffers = Buffers(da, kept.hidden_part, kept.cells, y, h0, c0)
    gradients = Gradients(grad_y, dh, dc, dh_part)
    plan = None if naive or not persistent else _persistent_plan(kind, layout, hidden, dtype)
    if y.size == 0:
        pass
    elif plan is not None and plan.backward is not None:
        persistent_backward(plan, layer, buffers, module.ascontiguousarray(w_hh), gradients)
    else:
        weight = module.ascontiguousarray(w_hh.astype(carry, copy=False))
        (naive_backward if naive else stepwise_backward)(layer, buffers, weight, gradients, needs["h0"])
    found: dict[str, Any] = {"h0": dh, "c0": dc}
    if needs["x"]:
        found["x"] = _product(da, w_ih.astype(carry, copy=False), None, layer.rounds).reshape(x.shape)
    if needs["w_ih"]:
        found["w_ih"] = _product(da.T, _flat(x).astype(carry, copy=False), None, layer.rounds)
    if needs["w_hh"]:
        found["w_hh"] = _product(dh_part.T, states_before(y, h0, layout, reverse), None, layer.rounds)
    if needs["b_ih"]:
        found["b_ih"] = column_sums_cuda(da)
    if needs["b_hh"]:
        found["b_hh"] = found["b_ih"].copy() if needs["b_ih"] and dh_part is da else column_sums_cuda(dh_part)
    return tuple(found[name].astype(dtype, copy=False) if wanted else None for name, wanted in needs.items())


def states_before(y: Any, h0: Any, layout: Layout, reverse: bool) -> Any:
    """h before each step: the output of the step before it, or the initial state.

    Args:
        y: (N, H).
        h0: (B, H) in the dtype of the result.
        layout: of y's rows.
        reverse: whether the last step comes first.

    Returns:
        (N, H).
    """
    module, batch = array_module(y), layout.batch
    before = empty(y.shape, h0.dtype, module)
    if not layout.packed:
        later, earlier = slice(batch, None), slice(0, layout.rows - batch)
        first = slice(0, batch) if not reverse else slice(layout.rows - batch, None)
        before[first] = h0
        before[later if not reverse else earlier] = y[earlier if not reverse else later]
        return before
    places = _places_before(layout, reverse)
    starting, sequences, going_on, sources = (module.asarray(place) for place in places)
    before[starting] = h0[sequences]
    before[going_on] = y[sources]
    return before


@lru_cache(maxsize=64)
def _places_before(layout: Layout, reverse: bool) -> tuple[np.ndarray, ...]:
    """For a packed batch: rows that start with an initial state, and whose; the other rows, and the row before each."""
    sizes = np.array(layout.batch_sizes)
    offsets = np.repeat(np.array(layout.offsets[:-1]), sizes)
    rows = np.arange(layout.rows)
    sequence = rows - offsets
    # Towards the step before: as many rows on as this step has, or as many back as the earlier one has.
    neighbour = np.append(sizes[1:], 0) if reverse else np.insert(sizes[:-1], 0, 0)
    starting = sequence >= np.repeat(neighbour, sizes)
    distance = np.repeat(sizes if reverse else -neighbour, sizes)
    return rows[starting], sequence[starting], rows[~starting], (rows + distance)[~starting]


def _persistent_plan(kind: str, layout: Layout, hidden: int, dtype: Any) -> Plan | None:
    """The plan of the kernel for all steps, or None where there is none."""
    return persistent_plan(kind, layout, hidden, dtype, float32_matmul_precision() == "high")


def _names(kind: str) -> tuple[str, ...]:
    """The operation's inputs."""
    return ("x", "h0", *(("c0",) if kind == "lstm" else ()), "w_ih", "w_hh", "b_ih", "b_hh")


def _biases(kind: str, b_ih: Any, b_hh: Any, hidden: int, carry: Any) -> tuple[Any, Any]:
    """What is added to x's product, and to the GRU's third block of h's: (G H,) and (H,), or None."""
    inner = None if b_ih is None else b_ih.astype(carry)
    outer = None if b_hh is None else b_hh.astype(carry)
    if outer is None:
        return inner, None
    b_hn = None
    if kind == "gru":
        b_hn = outer[2 * hidden :].copy()
        outer[2 * hidden :] = 0
    return outer if inner is None else inner + outer, b_hn


def _flat(x: Any) -> Any:
    """All rows of x."""
    rows = x.shape[0] if x.ndim == 2 else x.shape[0] * x.shape[1]
    return x.reshape(rows, x.shape[-1])


def _may_round(dtype: Any) -> bool:
    """Whether tensor cores may take the products: they keep at least the 11 bits of TF32 and float16.

    Half types have no more than that to begin with, and their gradients will be rounded to them.
    """
    return bool(dtype.itemsize == 2 or (dtype == np.float32 and float32_matmul_precision() == "high"))


def _product(a: Any, b: Any, bias: Any, rounds: bool) -> Any:
    """a @ b + bias in the carry: on tensor cores if it may be rounded, else by the kernels that round nothing.

    The array module takes what is too large for these to count.

    Args:
        a: (M, K).
        b: (K, N), of the same dtype.
        bias: (N,) in the carry, or None.
        rounds: whether float32 may be rounded to TF32.
    """
    if rounds:
        found = tensor_product_cuda(a, b, bias)
        if found is not None:
            return found
    carry = compute_dtype(a.dtype)
    a, b = a.astype(carry, copy=False), b.astype(carry, copy=False)
    if gemm_cuda.supports(a.shape[0], b.shape[1], a.shape[1], a.dtype)[0] == "cuda":
        return matrix_product_cuda(a, b, bias)
    found = matrix_product(a, b)
    if bias is not None:
        found += bias
    return found
