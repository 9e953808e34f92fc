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
- Sequences of a batch do not depend on each other. A large batch is cut into slices that run through all steps on a
  thread each, with nothing to wait for in between. The batch and the sizes alone decide how it is cut.
- Small steps are worth no second slice: two threads that call NumPy every few microseconds wait for the interpreter
  and for each other to wake up. One thread goes through the steps then, and beside it (``Beside``) others make the
  products that are not part of the recurrence: those with x of later steps, the gradients of earlier ones.
- A slice takes the products with x of a few steps at once, and then those steps, while they are in the cache. Without
  gradients that is all there is of gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gpunet.backend.memory import empty, scratch
from gpunet.backend.threads import Beside
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
from gpunet.ops.recurrent_walk import Advance, Cell, Kept, Retreat, Stretch, is_shared, share, slices_of, stretches_of

__all__ = ["backward_cpu", "forward_cpu"]

_PROJECTED_ROWS = 128
_PROJECTED_WORK = 1 << 24  # multiply-adds of a task beside the recurrence
_SCRATCH = 1 << 20  # elements of a work array that a thread keeps
_GRADIENT_ROWS = 256
_PARTS = 4  # of the weights' gradients: what is made beside the recurrence is added up
_FEW_STEPS = 4  # too few to be worth bringing the weights into another order
_CHUNK = 1 << 15  # elements of each gate for which backward's factors are made at once


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
    stretches = stretches_of(layout)[:: -1 if reverse else 1]
    is_alone = len(slices) == 1
    beside = is_alone and gates is not None and is_shared(work)

    def steps_ahead(stretch: Stretch, n: int) -> int:
        """For how many steps to have the products with x before going through them."""
        chunk = max(1, _PROJECTED_ROWS // n)
        if beside:
            return chunk * max(1, _PROJECTED_WORK // (chunk * n * cell.gates * hidden * input_panels.depth))
        if is_alone and gates is None:  # other threads are free to help with several chunks
            return max(chunk, _SCRATCH // (n * cell.gates * hidden))
        return chunk

    def projections() -> Iterator[tuple[Any, Any]]:
        for stretch in stretches:
            x_part = stretch.of_input(x, 0, stretch.size, reverse)
            out = stretch.of(gates, 0, stretch.size, reverse)[: products[0]]
            ahead = steps_ahead(stretch, stretch.size)
            for first in range(0, stretch.steps, ahead):
                yield x_part[first : first + ahead], out[:, first : first + ahead]

    def walk(index: int, tasks: Beside | None = None) -> None:
        ready = None if tasks is None else _project_beside(tasks, projections(), input_panels)
        start, stop = slices[index]
        states = tuple(state[:0] for state in initial)
        for stretch in stretches:
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
            ahead = steps_ahead(stretch, n)
            for first in range(0, stretch.steps, ahead):
                steps = slice(first, min(first + ahead, stretch.steps))
                if gates_part is None:
                    a = scratch("recurrent.gates", (products[0], steps.stop - first, n, hidden), carry)
                else:
                    a = gates_part[:, steps]
                if ready is None:
                    _project(x_part[steps], input_panels, a[: products[0]])
                else:
                    ready()
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

    if beside:
        with Beside() as tasks:
            walk(0, tasks)
    else:
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


def _project(x: Any, panels: Panels, out: Any) -> None:
    """Write the products of x (steps, n, I) with the input weights to ``out`` (G, steps, n, H), a chunk at a time."""
    steps, n, features = x.shape
    depth, chunk = panels.depth, max(1, _PROJECTED_ROWS // n)

    def body(index: int) -> None:
        part = slice(index * chunk, min((index + 1) * chunk, steps))
        # Rows start on a cache line; half types become float32 here.
        rows = scratch("recurrent.rows", (part.stop - part.start, n, -(-depth // 16) * 16), out.dtype)
        rows[..., :features] = x[part]
        rows[..., features:] = 1
        multiply_stack(rows[..., :depth], panels, out[:, part])

    share(-(-steps // chunk), body, out.size * depth)


def _project_beside(tasks: Beside, pieces: Iterator[tuple[Any, Any]], panels: Panels) -> Callable[[], None]:
    """Have other threads ``_project`` pieces (x, out), and return what waits for the next of them."""
    numbers: list[int] = []
    group: list[tuple[Any, Any]] = []
    work = 0

    def leave() -> None:
        def task(group: list[tuple[Any, Any]] = group) -> None:
            for x, out in group:
                _project(x, panels, out)

        numbers.extend([tasks.add(task)] * len(group))

    for x, out in pieces:
        group.append((x, out))
        work += out.size * panels.depth
        if work >= _PROJECTED_WORK:
            leave()
            group, work = [], 0
    if group:
        leave()
    following = iter(numbers)
    return lambda: tasks.wait(next(following))


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

    def walk(index: int, finished: Callable[[int, int], None] | None = None) -> None:
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
                if finished is not None:
                    done = min(step + chunk, stretch.steps) * stretch.size
                    if reverse:
                        finished(0, stretch.row + done)
                    else:
                        finished(stretch.row + stretch.steps * stretch.size - done, rows)

    beside = len(slices) == 1 and is_shared(work)
    found, jobs = _weight_gradients(cell, gates, x, y_before, (w_ih, w_hh), needs_grad, layout, reverse, beside)
    if beside:
        with Beside() as tasks:
            waiting = iter([*jobs, None])
            job = next(waiting)

            def finished(low: int, high: int) -> None:
                """Leave the jobs to other threads for which the rows from ``low`` to ``high`` are enough."""
                nonlocal job
                while job is not None and low <= job.rows.start and job.rows.stop <= high:
                    tasks.add(partial(job.body, tasks.wait))
                    job = next(waiting)

            walk(0, finished)
    else:
        share(len(slices), walk, work)
        share(len(jobs), lambda index: jobs[index].body(None), rows * cell.gates * hidden * (x.shape[-1] + hidden))
    if needs_grad[-1] and found[-1] is None:
        found[-1] = found[-2].copy()
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


class _Job(NamedTuple):
    """A part of the gradients of x, the weights and the biases.

    Attributes:
        rows: the rows whose gates it needs the gradients of.
        body: makes it. The argument waits for the job of a number (none of which comes later).
    """

    rows: slice
    body: Callable[[Callable[[int], None] | None], None]


def _weight_gradients(
    cell: Cell,
    gates: Any,
    x: Any,
    y_before: Any,
    parameters: tuple[Any, ...],
    needs_grad: tuple[bool, ...],
    layout: Layout,
    reverse: bool,
    in_parts: bool,
) -> tuple[list[Any], list[_Job]]:
    """Where the gradients of x, the weights and the biases will be, and the jobs that make them.

    The jobs are products over all steps; in parts, over some steps each, in the order in which backward comes by them.
    """
    w_ih, w_hh = parameters
    carry, hidden, features = gates.dtype, w_hh.shape[1], w_ih.shape[1]
    found: list[Any] = [None] * (cell.states + 5)
    at = cell.states + 1
    inputs, others = gates[: len(cell.input_gates)], gates[cell.hidden_buffers]
    count = min(_PARTS, max(1, layout.rows // _GRADIENT_ROWS)) if in_parts else 1
    parts = [slice(layout.rows * i // count, layout.rows * (i + 1) // count) for i in range(count)]
    if not reverse:
        parts.reverse()

    sums: list[tuple[Any, Any, Any]] = []  # (target, left, right): target becomes left^T right

    def products(place: int, grads: Any, order: Any, right: Any) -> None:
        columns = () if right is None else (right.shape[1],)
        total = found[place] = empty((cell.gates * hidden, *columns), carry)
        total = total.reshape(cell.gates, hidden, *columns)
        blocks = [gate for gate, _ in order]
        first = 0
        for after in range(1, len(blocks) + 1):
            # One product a block, or one for blocks that follow each other
            if not in_parts or after == len(blocks) or blocks[after] != blocks[after - 1] + 1:
                sums.append((total[blocks[first] : blocks[after - 1] + 1], grads[first:after], right))
                first = after

    if needs_grad[at + 1]:
        products(at + 1, others, cell.hidden_gates, y_before)
    if needs_grad[at]:
        rows = _row_view(x, layout.rows)
        if rows is None or rows.dtype != carry:
            rows = x.astype(carry, order="C").reshape(layout.rows, features)
        products(at, inputs, cell.input_gates, rows)
    if needs_grad[at + 2]:
        products(at + 2, inputs, cell.input_gates, None)
    if needs_grad[at + 3] and (cell.separate is not None or not needs_grad[at + 2]):
        products(at + 3, others, cell.hidden_gates, None)

    entries: list[tuple[slice, int, Any]] = [(part, index, None) for part in parts for index in range(len(sums))]
    if needs_grad[0]:
        found[0] = np.empty_like(x, dtype=carry)
        entries += [(place, -1, target) for place, target in _row_pieces(found[0], layout, cell.gates)]
    entries.sort(key=lambda entry: entry[0].stop if reverse else -entry[0].start)
    ones = np.ones(layout.rows, carry)  # BLAS adds columns up faster than NumPy
    jobs: list[_Job] = []
    before: dict[int, int] = {}  # for each of the sums, the number of its last job
    for place, index, target in entries:
        if index < 0:
            body = partial(_input_gradient, cell, inputs[:, place], w_ih, target)
        else:
            total, left, right = sums[index]
            right = None if right is None else right[place]
            body = partial(_add_product, total, left[:, place], right, ones, before.get(index))
            before[index] = len(jobs)
        jobs.append(_Job(place, body))
    return found, jobs


def _add_product(
    total: Any, left: Any, right: Any, ones: Any, before: int | None, wait: Callable[[int], None] | None
) -> None:
    """Write left^T right, or the sums of left's columns, to ``total``; add them to it after the job ``before``."""
    a, b = (ones[: left.shape[1]], left) if right is None else (left.transpose(0, 2, 1), right)
    if before is None or wait is None:
        np.matmul(a, b, out=total)
        return
    small = total.size <= _SCRATCH
    part = scratch("recurrent.part_of_gradient", total.shape, total.dtype) if small else empty(total.shape, total.dtype)
    np.matmul(a, b, out=part)
    wait(before)
    np.add(total, part, total)


def _input_gradient(cell: Cell, grads: Any, w_ih: Any, target: Any, _: Any) -> None:
    """Write the gradient of a piece of x from those of its gates (G, rows, H)."""
    count, rows, hidden = grads.shape
    features = w_ih.shape[1]
    parts = scratch("recurrent.dx", (count, rows, features), grads.dtype)
    for index, (gate, _) in enumerate(cell.input_gates):
        weight = np.asarray(w_ih[gate * hidden : (gate + 1) * hidden], grads.dtype)
        multiply(grads[index], cut(weight[None]), parts[index][None])
    add_parts(parts.reshape(count, *target.shape), target)
