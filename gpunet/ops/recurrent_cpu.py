"""Recurrent layers with NumPy: all inputs in one product, then the steps in place.

Forward: products for the inputs of many steps (``_project``), then the recurrence, a product a step and the cell in
place. Backward: the recurrence from the other end, which overwrites the activated gates with the gradients of what
they were activated from; then the gradients of the weights and of x, products over all steps at once.

How the work is laid out, and why:

- Rows are those of x, step by step. A buffer of gates is (G, N, H), gate by gate: every pass of a step reads and
  writes contiguous memory, where gates side by side in a row would cost a call of the inner loop for each row.
- sigmoid(a) = (tanh(a / 2) + 1) / 2, so that one call of tanh takes all gates. The halving is in the weights, which
  are copied once per call anyhow (``recurrent_products`` says why).
- Biases are one more row of W_ih^T, that of a column of ones beside x.
- Sequences of a batch do not depend on each other. The batch is cut into slices that run through all steps on a
  thread each, with nothing to wait for in between. The batch and the sizes alone decide how it is cut.
- A slice takes the products with x of a few steps at once, and then those steps, while they are in the cache. Without
  gradients that is all there is of gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpunet.backend.memory import empty, scratch
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.recurrent_layout import Layout
from gpunet.ops.recurrent_products import (
    Panels,
    add_parts,
    cut,
    fill,
    multiply,
    multiply_stack,
    panels_of,
    product_into,
)
from gpunet.ops.recurrent_walk import Advance, Cell, Kept, Retreat, share, slices_of, stretches_of

__all__ = ["backward_cpu", "forward_cpu"]

_PROJECTED_ROWS = 128
_SCRATCH = 1 << 20  # elements of a work array that a thread keeps
_GRADIENT_ROWS = 256
_FEW_STEPS = 4  # too few to be worth bringing the weights into another order
_CHUNK = 1 << 14  # elements of each gate for which backward's factors are made at once


def _row_view(x: Any, rows: int) -> Any:
    """x as (N, features) if that is how it lies in memory, else None."""
    if x.ndim == 2:
        return x
    if x.shape[0] == 1 or x.shape[1] == 1 or x.strides[0] == x.shape[1] * x.strides[1]:
        return x.reshape(rows, x.shape[2])
    return None


def _row_pieces(x: Any, layout: Layout, gates: int) -> Iterator[tuple[slice, Any]]:
    """Pieces of x, (rows, I) or (steps, B, I), and which rows they are."""
    most = max(16, min(_GRADIENT_ROWS, _SCRATCH // (gates * max(1, x.shape[-1]))))
    view = _row_view(x, layout.rows)
    if view is not None:
        for start in range(0, layout.rows, most):
            rows = slice(start, min(start + most, layout.rows))
            yield rows, view[rows]
        return
    batch, steps = layout.batch, max(1, most // layout.batch)
    for step in range(0, layout.steps, steps):
        end = min(step + steps, layout.steps)
        yield slice(step * batch, end * batch), x[step:end]


def forward_cpu(
    cell: Cell, inputs: tuple[Any, ...], layout: Layout, reverse: bool, attributes: dict[str, Any], keep: bool
) -> tuple[tuple[Any, ...], Kept | None]:
    """The outputs (y, h_n[, c_n]) and what backward needs if ``keep`` says so."""
    x, *others = inputs
    initial, (w_ih, w_hh, b_ih, b_hh) = others[: cell.states], others[cell.states :]
    carry = compute_dtype(x.dtype)
    rows, batch, hidden = layout.rows, layout.batch, w_hh.shape[1]
    initial = [np.asarray(state, carry) for state in initial]
    slices = slices_of(batch, hidden, cell.gates)
    input_panels, hidden_panels = _weights(cell, w_ih, w_hh, b_ih, b_hh, slices, layout.steps, carry)

    y, y_before = _with_before(layout, hidden, carry, reverse, initial[0] if keep else None)
    cells, cells_before = None, None
    if keep and cell.states == 2:
        cells, cells_before = _with_before(layout, hidden, carry, reverse, initial[1])
    gates = None
    if cell.in_output:
        gates = y[None]
    elif keep:
        gates = empty((cell.buffers, rows, hidden), carry)
    last = [np.empty((batch, hidden), carry) for _ in initial]
    bias = None
    if cell.separate is not None and b_hh is not None:
        block = b_hh[cell.separate * hidden : (cell.separate + 1) * hidden].astype(carry)
        bias = np.tile(block, (max(stop - start for start, stop in slices), 1))
    products = len(cell.input_gates), len(cell.hidden_gates)
    work = rows * cell.gates * hidden * hidden

    def walk(index: int) -> None:
        start, stop = slices[index]
        states = tuple(state[:0] for state in initial)
        for stretch in reversed(stretches_of(layout)) if reverse else stretches_of(layout):
            n = min(stretch.size, stop) - start
            if n <= 0:
                continue
            states = _resize(states, initial, last, start, n)
            sums = scratch("recurrent.sums", (products[1], n, hidden), carry)
            product = product_into(hidden_panels, sums, False)
            x_part = stretch.of_input(x, start, start + n, reverse)
            y_part = stretch.of(y, start, start + n, reverse)
            gates_part, cells_part = (
                None if array is None else stretch.of(array, start, start + n, reverse) for array in (gates, cells)
            )
            chunk = max(1, _PROJECTED_ROWS // n)
            # A slice that is all there is has other threads to help with the products with x, of several chunks.
            ahead = chunk
            if len(slices) == 1:
                ahead = stretch.steps if gates is not None else max(chunk, _SCRATCH // (n * cell.gates * hidden))
            for first in range(0, stretch.steps, ahead):
                steps = slice(first, min(first + ahead, stretch.steps))
                if gates_part is None:
                    a = scratch("recurrent.gates", (products[0], steps.stop - first, n, hidden), carry)
                else:
                    a = gates_part[:, steps]
                _project(x_part[steps], input_panels, a[: products[0]], chunk)
                states = cell.advance(
                    Advance(
                        product,
                        sums,
                        a,
                        y_part[steps],
                        None if cells_part is None else cells_part[steps],
                        states,
                        None if bias is None else bias[:n],
                    ),
                    attributes,
                )
        for target, state in zip(last, states, strict=True):
            target[start : start + len(state)] = state

    share(len(slices), walk, work)
    stored = y if carry == x.dtype else y.astype(x.dtype)
    outputs = (
        stored.reshape(*x.shape[:-1], hidden),
        *(state if carry == x.dtype else state.astype(x.dtype) for state in last),
    )
    return outputs, Kept(None if cell.in_output else gates, cells, cells_before, y, y_before) if keep else None


def _weights(
    cell: Cell, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, slices: list[tuple[int, int]], steps: int, carry: Any
) -> tuple[Panels, Panels]:
    """W_ih^T with a last row for the biases, and W_hh^T, gate by gate."""
    hidden, features = w_hh.shape[1], w_ih.shape[1]
    most, few = max(stop - start for start, stop in slices), steps < _FEW_STEPS
    biased = b_ih is not None or b_hh is not None
    input_panels = panels_of(len(cell.input_gates), features + biased, hidden, most, carry, few)
    hidden_panels = panels_of(len(cell.hidden_gates), hidden, hidden, most, carry, few)

    def make(index: int) -> None:
        if index < len(cell.hidden_gates):
            gate, factor = cell.hidden_gates[index]
            fill(hidden_panels, index, w_hh[gate * hidden : (gate + 1) * hidden].T, factor)
            return
        index -= len(cell.hidden_gates)
        gate, factor = cell.input_gates[index]
        block = slice(gate * hidden, (gate + 1) * hidden)
        bias = None
        if biased:
            bias = np.zeros(hidden, carry)
            if b_ih is not None:
                bias += b_ih[block]
            if b_hh is not None and gate != cell.separate:
                bias += b_hh[block]
        fill(input_panels, index, w_ih[block].T, factor, bias)

    # A copied element takes as long as some multiply-adds.
    share(len(cell.hidden_gates) + len(cell.input_gates), make, 16 * (w_ih.size + w_hh.size))
    return input_panels, hidden_panels


def _with_before(layout: Layout, hidden: int, carry: Any, reverse: bool, initial: Any) -> tuple[Any, Any]:
    """A buffer (N, H) of states after each step, and if an initial state is given the view of those before each.

    Where all sequences are equally long, the two are one buffer of B more rows; else the second is None.
    """
    rows, batch = layout.rows, layout.batch
    if initial is None or layout.packed:
        return empty((rows, hidden), carry), None
    both = empty((rows + batch, hidden), carry)
    if reverse:
        both[rows:] = initial
        return both[:rows], both[batch:]
    both[:batch] = initial
    return both[batch:], both[:rows]


def _resize(states: tuple[Any, ...], initial: list[Any], last: list[Any], start: int, count: int) -> tuple[Any, ...]:
    """The states for a stretch of ``count`` sequences: those that end leave theirs, those that start take theirs."""
    had = len(states[0])
    if had == count:
        return states
    if had > count:
        for target, state in zip(last, states, strict=True):
            target[start + count : start + had] = state[count:]
        return tuple(state[:count] for state in states)
    grown = tuple(np.empty((count, state.shape[1]), state.dtype) for state in states)
    for new, state, first in zip(grown, states, initial, strict=True):
        new[:had] = state
        new[had:] = first[start + had : start + count]
    return grown


def _project(x: Any, panels: Panels, out: Any, chunk: int) -> None:
    """Write the products of x (steps, n, I) with the input weights to ``out`` (G, steps, n, H), a chunk at a time."""
    steps, n, features = x.shape
    depth = panels.depth

    def body(index: int) -> None:
        part = slice(index * chunk, min((index + 1) * chunk, steps))
        # Rows start on a cache line; half types become float32 here.
        rows = scratch("recurrent.rows", (part.stop - part.start, n, -(-depth // 16) * 16), out.dtype)
        rows[..., :features] = x[part]
        rows[..., features:] = 1
        multiply_stack(rows[..., :depth], panels, out[:, part])

    share(-(-steps // chunk), body, out.size * depth)


def backward_cpu(
    cell: Cell,
    kept: Kept,
    inputs: tuple[Any, ...],
    grad_outputs: tuple[Any, ...],
    needs_grad: tuple[bool, ...],
    layout: Layout,
    reverse: bool,
    attributes: dict[str, Any],
) -> tuple[Any, ...]:
    """The gradients of the inputs, None where none is needed. The gates kept are overwritten."""
    x, *others = inputs
    initial, (w_ih, w_hh) = others[: cell.states], others[cell.states : cell.states + 2]
    carry = kept.y.dtype
    rows, batch, hidden = layout.rows, layout.batch, w_hh.shape[1]
    y_before, cells_before = kept.y_before, kept.cells_before
    if y_before is None:
        y_before = _before(kept.y, initial[0], layout, reverse)
    if kept.cells is not None and cells_before is None:
        cells_before = _before(kept.cells, initial[1], layout, reverse)
    gates = kept.gates
    if cell.in_output:
        gates = empty((1, rows, hidden), carry)
    else:
        kept.is_used = True
    grad_y = np.asarray(grad_outputs[0].reshape(rows, hidden), carry)
    grad_states = [np.array(grad, carry) for grad in grad_outputs[1:]]
    slices = slices_of(batch, hidden, cell.gates)
    count = len(cell.hidden_gates)
    panels = panels_of(count, hidden, hidden, max(stop - start for start, stop in slices), carry)

    def make(index: int) -> None:
        gate, _ = cell.hidden_gates[index]
        fill(panels, index, w_hh[gate * hidden : (gate + 1) * hidden])

    share(count, make, 16 * w_hh.size)
    stretches = stretches_of(layout)
    work = rows * cell.gates * hidden * hidden

    def walk(index: int) -> None:
        start, stop = slices[index]
        for stretch in stretches if reverse else reversed(stretches):
            n = min(stretch.size, stop) - start
            if n <= 0:
                continue
            sums = scratch("recurrent.sums", (count, n, hidden), carry)
            arrays = [
                None if array is None else stretch.of(array, start, start + n, not reverse)
                for array in (gates, kept.y, y_before, kept.cells, cells_before, grad_y)
            ]
            states = tuple(grad[start : start + n] for grad in grad_states)
            product = product_into(panels, sums, True)
            chunk = max(1, _CHUNK // (n * hidden))
            for step in range(0, stretch.steps, chunk):
                g, h, h_before, c, c_before, dy = (
                    None if array is None else array[..., step : step + chunk, :, :] for array in arrays
                )
                cell.retreat(Retreat(product, sums, g, h, h_before, c, c_before, dy, states), attributes)

    share(len(slices), walk, work)
    found = _weight_gradients(cell, gates, x, y_before, (w_ih, w_hh), needs_grad, layout)
    for place, grad in enumerate(grad_states, 1):
        if needs_grad[place]:
            found[place] = grad
    return tuple(
        None if array is None else array if array.dtype == x.dtype else array.astype(x.dtype) for array in found
    )


def _before(after: Any, initial: Any, layout: Layout, reverse: bool) -> Any:
    """(N, H): the states before each step, where sequences differ in length, from those after it."""
    before = empty(after.shape, after.dtype)
    stretches = stretches_of(layout)
    neighbour, had = initial[:0], 0
    for stretch in reversed(stretches) if reverse else stretches:
        ours, theirs = (stretch.of(array, 0, stretch.size, reverse) for array in (before, after))
        had = min(len(neighbour), stretch.size)
        ours[0, :had] = neighbour[:had]
        ours[0, had:] = initial[had : stretch.size]
        ours[1:] = theirs[:-1]
        neighbour = theirs[-1]
    return before


def _weight_gradients(
    cell: Cell,
    gates: Any,
    x: Any,
    y_before: Any,
    parameters: tuple[Any, ...],
    needs_grad: tuple[bool, ...],
    layout: Layout,
) -> list[Any]:
    """The gradients of x, the weights and the biases, from those of the gates: products over all steps."""
    w_ih, w_hh = parameters
    carry, hidden, features = gates.dtype, w_hh.shape[1], w_ih.shape[1]
    found: list[Any] = [None] * (cell.states + 5)
    at = cell.states + 1
    inputs, others = gates[: len(cell.input_gates)], gates[cell.hidden_buffers]
    tasks: list[Callable[[], None]] = []

    def products(place: int, grads: Any, order: Any, right: Any) -> None:
        total = found[place] = empty((cell.gates * hidden, right.shape[1]), carry)
        for grad, (gate, _) in zip(grads, order, strict=True):
            target = total[gate * hidden : (gate + 1) * hidden]
            tasks.append(lambda grad=grad, target=target: np.matmul(grad.T, right, out=target))  # type: ignore[misc]

    def sums(place: int, grads: Any, order: Any) -> None:
        total = found[place] = empty((cell.gates * hidden,), carry)
        ones = np.ones(layout.rows, carry)  # BLAS adds columns up faster than NumPy
        for grad, (gate, _) in zip(grads, order, strict=True):
            target = total[gate * hidden : (gate + 1) * hidden]
            tasks.append(lambda grad=grad, target=target: np.matmul(ones, grad, out=target))  # type: ignore[misc]

    if needs_grad[at + 1]:
        products(at + 1, others, cell.hidden_gates, y_before)
    if needs_grad[at]:
        rows = _row_view(x, layout.rows)
        if rows is None or rows.dtype != carry:
            rows = x.astype(carry, order="C").reshape(layout.rows, features)
        products(at, inputs, cell.input_gates, rows)
    if needs_grad[0]:
        found[0] = np.empty_like(x, dtype=carry)
        for place, target in _row_pieces(found[0], layout, cell.gates):
            tasks.append(lambda place=place, target=target: _input_gradient(cell, inputs[:, place], w_ih, target))  # type: ignore[misc]
    if needs_grad[at + 2]:
        sums(at + 2, inputs, cell.input_gates)
    if needs_grad[at + 3] and (cell.separate is not None or not needs_grad[at + 2]):
        sums(at + 3, others, cell.hidden_gates)
    work = layout.rows * cell.gates * hidden * (features + hidden)
    share(len(tasks), lambda index: tasks[index](), work)
    if needs_grad[at + 3] and found[at + 3] is None:
        found[at + 3] = found[at + 2].copy()
    return found


def _input_gradient(cell: Cell, grads: Any, w_ih: Any, target: Any) -> None:
    """Write the gradient of a piece of x from those of its gates (G, rows, H)."""
    count, rows, hidden = grads.shape
    features = w_ih.shape[1]
    parts = scratch("recurrent.dx", (count, rows, features), grads.dtype)
    for index, (gate, _) in enumerate(cell.input_gates):
        weight = np.asarray(w_ih[gate * hidden : (gate + 1) * hidden], grads.dtype)
        multiply(grads[index], cut(weight[None]), parts[index][None])
    add_parts(parts.reshape(count, *target.shape), target)
