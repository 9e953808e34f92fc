"""What the recurrent operations share: inputs, checks, the walk over the steps, the choice of implementation.

One operation is one layer in one direction over whole sequences. Every step has the same weights:

    a_t = x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh,   state_t = cell(a_t, state_{t-1})

    x (T, B, I) padded, or (N, I) packed with ``batch_sizes``;  h0 (and c0) (B, H);
    W_ih (G H, I), W_hh (G H, H), b_ih and b_hh (G H,) or None, with G gates a unit
    y as x, with H features;  h_n (and c_n) (B, H): the state after each sequence's last step
    reverse: the steps are taken from the last to the first; y_t still stands at x_t

Gradients are those of backpropagation through time (Werbos 1990): the steps in the opposite order, each taking the
gradient of its output and of the state it handed on; the weights' gradients add up over all steps, as one product.
Half types are carried in float32 and rounded where y and the states are stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.backend.kernels import uses_kernels
from gpunet.backend.threads import single_threaded_blas
from gpunet.ops import recurrent_cpu, recurrent_cuda
from gpunet.ops.base import NO_GRAD, Context, Inferred, Op, Sample, Spec, require_floating, require_same_dtype
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.recurrent_layout import Layout, make_layout
from gpunet.ops.recurrent_walk import Advance, Kept, Retreat

_ONE_THREAD = 1 << 25  # multiply-adds of a single step up to which it is not shared out

__all__ = ["Recurrent", "add_rows", "layout_of", "sigmoid", "sigmoids_and_tanh", "sum_of_parts"]


def sigmoid(a: Any) -> Any:
    """1 / (1 + e^-a), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * a))


def layout_of(x: Any, batch_sizes: tuple[int, ...] | None) -> Layout:
    """The rows of the steps of x."""
    return make_layout(*((0, 0) if batch_sizes is not None else x.shape[:2]), batch_sizes)


def add_rows(total: Any, rows: Any) -> None:
    """Add to the first rows of an array."""
    total[: len(rows)] += rows


def sum_of_parts(x: Any, h: Any, weights: tuple[Any, ...]) -> Any:
    """x W_ih^T + b_ih + h W_hh^T + b_hh, of one step."""
    w_ih, w_hh, b_ih, b_hh = weights
    a = np.matmul(x, w_ih.T)
    a += np.matmul(h, w_hh.T)
    if b_ih is not None:
        a += b_ih
    if b_hh is not None:
        a += b_hh
    return a


@lru_cache(maxsize=64)
def _sigmoid_constants(blocks: int, tanh_block: int | None, hidden: int, dtype: Any) -> tuple[Any, Any]:
    scale, shift = np.full((blocks, hidden), 0.5, dtype), np.full((blocks, hidden), 0.5, dtype)
    if tanh_block is not None:
        scale[tanh_block], shift[tanh_block] = 1, 0
    return scale.reshape(-1), shift.reshape(-1)


def sigmoids_and_tanh(a: Any, blocks: int, tanh_block: int | None) -> None:
    """Activate, in place, blocks of columns: tanh for one of them, if any, and the sigmoid for the others."""
    scale, shift = _sigmoid_constants(blocks, tanh_block, a.shape[1] // blocks, a.dtype)
    a *= scale
    np.tanh(a, a)
    a *= scale
    a += shift


class OneStep(NamedTuple):
    """What ``cell`` kept, of a layer that was run for one step."""

    kept: Any


class Recurrent(Op):
    """One recurrent layer in one direction. Subclasses define the cell.

    Attributes:
        gates: how many blocks of H rows the weights have.
        states: 1 (h), or 2 (h and c).
    """

    autocast = "lower"
    parts_with_output = True
    gates: int
    states: int
    # What ``recurrent_walk.Cell`` says of these.
    buffers: int
    input_gates: tuple[tuple[int, float], ...]
    hidden_gates: tuple[tuple[int, float], ...]
    hidden_buffers: slice
    separate: int | None = None
    in_output: bool = False

    # The cell, in plain NumPy ------------------------------------------------------------------------------------

    def cell(self, x_part: Any, h_part: Any, state: tuple[Any, ...], **attributes: Any) -> tuple[tuple[Any, ...], Any]:
        """The state after a step, from x_t W_ih^T + b_ih and h_{t-1} W_hh^T + b_hh; and what the gradient needs."""
        raise NotImplementedError

    def cell_backward(
        self, grad_state: tuple[Any, ...], kept: Any, state: tuple[Any, ...], **attributes: Any
    ) -> tuple[Any, Any, tuple[Any, ...]]:
        """The gradients of x_part, of h_part and, but for the way through h_part, of the state before."""
        raise NotImplementedError

    # The cell in place: ``recurrent_walk`` says what is where -------------------------------------------------------

    def advance(self, walk: Advance, attributes: dict[str, Any]) -> tuple[Any, ...]:
        """Run a stretch of steps, and return the states after it."""
        raise NotImplementedError

    def retreat(self, walk: Retreat, attributes: dict[str, Any]) -> None:
        """Go back through a stretch of steps."""
        raise NotImplementedError

    def once(
        self, x: Any, states: tuple[Any, ...], weights: tuple[Any, ...], attributes: dict[str, Any]
    ) -> tuple[Any, ...]:
        """The states after one step, from x (B, I), in as few calls as it takes."""
        raise NotImplementedError

    # Shapes -------------------------------------------------------------------------------------------------------

    def infer(self, *inputs: Any, reverse: bool = False, batch_sizes: Any = None, **attributes: Any) -> Inferred:
        x, *rest = inputs
        states, (w_ih, w_hh, b_ih, b_hh) = rest[: self.states], rest[self.states :]
        name = self.name
        require_floating(name, "input", x)
        if batch_sizes is None and x.ndim != 3:
            raise ShapeError(f"{name}: input must be 3-d (steps, batch, features), got shape {tuple(x.shape)}")
        if batch_sizes is not None:
            if x.ndim != 2:
                raise ShapeError(f"{name}: a packed input must be 2-d (rows, features), got shape {tuple(x.shape)}")
            if not batch_sizes or min(batch_sizes) < 1 or list(batch_sizes) != sorted(batch_sizes, reverse=True):
                raise ValueError(f"{name}: batch_sizes must be positive and never grow, got {batch_sizes}")
            if sum(batch_sizes) != x.shape[0]:
                raise ShapeError(
                    f"{name}: batch_sizes must add up to the input's {x.shape[0]} rows, got {sum(batch_sizes)}"
                )
        layout = layout_of(x, batch_sizes)
        if layout.steps == 0:
            raise ShapeError(f"{name}: input must have at least one step, got shape {tuple(x.shape)}")
        if w_hh.ndim != 2 or w_hh.shape[0] != self.gates * w_hh.shape[1]:
            raise ShapeError(
                f"{name}: weight_hh must have shape ({self.gates} * hidden_size, hidden_size), got {tuple(w_hh.shape)}"
            )
        hidden = w_hh.shape[1]
        if w_ih.ndim != 2 or w_ih.shape[0] != w_hh.shape[0]:
            raise ShapeError(
                f"{name}: weight_ih must have shape ({w_hh.shape[0]}, input_size), got {tuple(w_ih.shape)}"
            )
        if x.shape[-1] != w_ih.shape[1]:
            raise ShapeError(
                f"{name}: input must have {w_ih.shape[1]} features in its last dimension, got shape {tuple(x.shape)}"
            )
        for label, bias in (("bias_ih", b_ih), ("bias_hh", b_hh)):
            if bias is not None and tuple(bias.shape) != (w_hh.shape[0],):
                raise ShapeError(f"{name}: {label} must have shape ({w_hh.shape[0]},), got {tuple(bias.shape)}")
        for label, state in zip(("h0", "c0"), states, strict=False):
            if tuple(state.shape) != (layout.batch, hidden):
                raise ShapeError(
                    f"{name}: {label} must have shape ({layout.batch}, {hidden}), got {tuple(state.shape)}"
                )
        named = dict(zip(("h0", "c0"), states, strict=False))
        require_same_dtype(name, input=x, **named, weight_ih=w_ih, weight_hh=w_hh, bias_ih=b_ih, bias_hh=b_hh)
        last = tuple(Spec((layout.batch, hidden), x.dtype) for _ in states)
        macs = layout.rows * w_hh.shape[0] * (w_ih.shape[1] + hidden)
        return Inferred((Spec((*x.shape[:-1], hidden), x.dtype), *last), macs)

    # The equations ------------------------------------------------------------------------------------------------

    def reference(self, *inputs: Any, reverse: bool = False, batch_sizes: Any = None, **attributes: Any) -> Any:
        return self._reference_walk(inputs, reverse, batch_sizes, attributes)[0]

    def _reference_walk(self, inputs: tuple[Any, ...], reverse: bool, batch_sizes: Any, attributes: Any) -> Any:
        """The outputs, and of each step what backward needs: the step, the state before, what the cell kept."""
        x, *rest = inputs
        w_ih, w_hh, b_ih, b_hh = rest[self.states :]
        layout = layout_of(x, batch_sizes)
        rows = x.reshape(layout.rows, x.shape[-1])
        y = np.empty((layout.rows, w_hh.shape[1]), x.dtype)
        last = tuple(np.array(state) for state in rest[: self.states])  # holds h0 until a sequence's first step
        trace = []
        for step in layout.walk(reverse):
            before = tuple(state[: step.size].copy() for state in last)
            x_part = rows[step.rows] @ w_ih.T + (0 if b_ih is None else b_ih)
            h_part = before[0] @ w_hh.T + (0 if b_hh is None else b_hh)
            after, kept = self.cell(x_part, h_part, before, **attributes)
            for state, value in zip(last, after, strict=True):
                state[: step.size] = value
            y[step.rows] = after[0]
            trace.append((step, before, kept))
        return (y.reshape(*x.shape[:-1], w_hh.shape[1]), *last), trace

    def reference_backward(
        self,
        grad_outputs: tuple[Any, ...],
        inputs: tuple[Any, ...],
        reverse: bool = False,
        batch_sizes: Any = None,
        **attributes: Any,
    ) -> Any:
        x, *rest = inputs
        w_ih, w_hh, b_ih, b_hh = rest[self.states :]
        layout = layout_of(x, batch_sizes)
        rows = x.reshape(layout.rows, x.shape[-1])
        grad_y = grad_outputs[0].reshape(layout.rows, w_hh.shape[1])
        _, trace = self._reference_walk(inputs, reverse, batch_sizes, attributes)
        # The gradient of each sequence's state, from its last step back to its initial state.
        grad_last = tuple(np.array(grad) for grad in grad_outputs[1:])
        dx, dw_ih, dw_hh = np.zeros_like(rows), np.zeros_like(w_ih), np.zeros_like(w_hh)
        db_ih, db_hh = (None if bias is None else np.zeros_like(bias) for bias in (b_ih, b_hh))
        for step, before, kept in reversed(trace):
            grad_state = tuple(grad[: step.size].copy() for grad in grad_last)
            grad_state[0][...] += grad_y[step.rows]
            dx_part, dh_part, grad_before = self.cell_backward(grad_state, kept, before, **attributes)
            dx[step.rows] = dx_part @ w_ih
            dw_ih += dx_part.T @ rows[step.rows]
            dw_hh += dh_part.T @ before[0]
            if db_ih is not None:
                db_ih += dx_part.sum(axis=0)
            if db_hh is not None:
                db_hh += dh_part.sum(axis=0)
            for grad, value in zip(grad_last, grad_before, strict=True):
                grad[: step.size] = value
            grad_last[0][: step.size] += dh_part @ w_hh
        return (dx.reshape(x.shape), *grad_last, dw_ih, dw_hh, db_ih, db_hh)

    # What runs ----------------------------------------------------------------------------------------------------

    def supports(self, *inputs: Any, **attributes: Any) -> tuple[str, str]:
        if not uses_kernels(inputs[0]):
            return "cpu", "one product for the inputs of all steps, one a step for the recurrence, gates in place"
        layout = layout_of(inputs[0], attributes.get("batch_sizes"))
        return recurrent_cuda.supports(self.name, layout, inputs[self.states + 2].shape[1], inputs[0].dtype)

    def forward(
        self, ctx: Context, *inputs: Any, reverse: bool = False, batch_sizes: Any = None, **attributes: Any
    ) -> Any:
        path = self.path(*inputs, reverse=reverse, batch_sizes=batch_sizes, **attributes)
        layout = layout_of(inputs[0], batch_sizes)
        if path == "cuda":
            return self._forward_cuda(ctx, inputs, layout, reverse, attributes)
        if path != "reference" and layout.rows and inputs[-4].size and inputs[-3].size:
            keep = ctx is not NO_GRAD
            if layout.steps == 1 and inputs[0].dtype == compute_dtype(inputs[0].dtype):
                if not keep:
                    return self._forward_once(inputs, attributes)
                if layout.rows * (inputs[-4].size + inputs[-3].size) <= _ONE_THREAD:
                    return self._forward_step(ctx, inputs, attributes)
            outputs, kept = recurrent_cpu.forward_cpu(self, inputs, layout, reverse, attributes, keep)
            if keep:
                ctx.save(*inputs, outputs[0])
                ctx.state = kept
            return outputs
        outputs = self.reference(*inputs, reverse=reverse, batch_sizes=batch_sizes, **attributes)
        ctx.save(*inputs)
        return outputs

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        if isinstance(ctx.state, recurrent_cuda.Kept):
            return self._backward_cuda(ctx, grad_outputs)
        if isinstance(ctx.state, Kept):
            return self._backward_cpu(ctx, grad_outputs)
        if isinstance(ctx.state, OneStep):
            return self._backward_step(ctx, grad_outputs)
        gradients = self.reference_backward(grad_outputs, ctx.saved, **ctx.attributes)
        return tuple(gradient if wanted else None for gradient, wanted in zip(gradients, ctx.needs_grad, strict=True))

    def part_with_output(self, ctx: Context) -> None:
        *inputs, y = ctx.saved
        if isinstance(ctx.state, Kept):
            ctx.state.part_with_y()
            ctx.save(*inputs, ctx.state.y)
        else:
            ctx.save(*inputs, y.copy())

    def _forward_once(self, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> tuple[Any, ...]:
        """One step whose gradient nobody will ask for: text is drawn so, character by character."""
        x, *rest = inputs
        with single_threaded_blas():
            states = self.once(
                x if x.ndim == 2 else x[0], tuple(rest[: self.states]), tuple(rest[self.states :]), attributes
            )
        return states[0].reshape(*x.shape[:-1], -1).copy(), *states

    def _forward_step(self, ctx: Context, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> tuple[Any, ...]:
        """One step with a gradient, as cells in a loop take: nothing is brought into another order for it."""
        x, *rest = inputs
        states, (w_ih, w_hh, b_ih, b_hh) = tuple(rest[: self.states]), rest[self.states :]
        with single_threaded_blas():
            x_part, h_part = np.matmul(x if x.ndim == 2 else x[0], w_ih.T), np.matmul(states[0], w_hh.T)
        if b_ih is not None:
            x_part += b_ih
        if b_hh is not None:
            h_part += b_hh
        after, kept = self.cell(x_part, h_part, states, **attributes)
        ctx.save(*inputs)
        ctx.state = OneStep(kept)
        # Copies, for what the cell keeps may be the states themselves, and these are the caller's to write to.
        return after[0].reshape(*x.shape[:-1], -1).copy(), *(state.copy() for state in after)

    def _backward_step(self, ctx: Context, grad_outputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *rest = ctx.saved
        states, (w_ih, w_hh) = tuple(rest[: self.states]), rest[self.states : self.states + 2]
        attributes = {name: value for name, value in ctx.attributes.items() if name == "nonlinearity"}
        dh = grad_outputs[1] + grad_outputs[0].reshape(grad_outputs[1].shape)
        dx_part, dh_part, before = self.cell_backward((dh, *grad_outputs[2:]), ctx.state.kept, states, **attributes)
        found: list[Any] = [None, *before, None, None, None, None]
        x_needs, h_needs = ctx.needs_grad[:2]
        w_ih_needs, w_hh_needs, b_ih_needs, b_hh_needs = ctx.needs_grad[-4:]
        with single_threaded_blas():
            if x_needs:
                found[0] = np.matmul(dx_part, w_ih).reshape(x.shape)
            if h_needs:
                found[1] += np.matmul(dh_part, w_hh)
            if w_ih_needs:
                found[-4] = np.matmul(dx_part.T, x if x.ndim == 2 else x[0])
            if w_hh_needs:
                found[-3] = np.matmul(dh_part.T, states[0])
        if b_ih_needs:
            found[-2] = dx_part.sum(axis=0)
        if b_hh_needs:
            found[-1] = found[-2].copy() if b_ih_needs and dx_part is dh_part else dh_part.sum(axis=0)
        return tuple(grad if wanted else None for grad, wanted in zip(found, ctx.needs_grad, strict=True))

    def _backward_cpu(self, ctx: Context, grad_outputs: tuple[Any, ...]) -> tuple[Any, ...]:
        *inputs, _ = ctx.saved
        attributes = dict(ctx.attributes)
        reverse, sizes = attributes.pop("reverse", False), attributes.pop("batch_sizes", None)
        layout = layout_of(inputs[0], sizes)
        if ctx.state.is_used:  # a graph that is walked again: what the first walk overwrote is computed again
            _, ctx.state = recurrent_cpu.forward_cpu(self, tuple(inputs), layout, reverse, attributes, True)
        return recurrent_cpu.backward_cpu(
            self, ctx.state, tuple(inputs), grad_outputs, ctx.needs_grad, layout, reverse, attributes
        )

    def _forward_cuda(
        self, ctx: Context, inputs: tuple[Any, ...], layout: Layout, reverse: bool, attributes: dict[str, Any]
    ) -> tuple[Any, ...]:
        keep = any(ctx.needs_grad[i] for i in range(len(inputs)))
        x, h0, c0, w_ih, w_hh, b_ih, b_hh = self._with_cell(inputs)
        options = layout, reverse, attributes.get("nonlinearity", "tanh"), keep
        outputs, kept = recurrent_cuda.forward_cuda(self.name, x, h0, c0, w_ih, w_hh, b_ih, b_hh, *options)
        ctx.save(*inputs, outputs[0])
        ctx.state = kept
        return outputs

    def _backward_cuda(self, ctx: Context, grad_outputs: tuple[Any, ...]) -> tuple[Any, ...]:
        *inputs, y = ctx.saved
        x, h0, c0, w_ih, w_hh, b_ih, b_hh = self._with_cell(tuple(inputs))
        layout = layout_of(x, ctx.attributes.get("batch_sizes"))
        options = layout, ctx.attributes.get("reverse", False), ctx.attributes.get("nonlinearity", "tanh")
        if ctx.state.is_used:  # a graph that is walked again: what the first walk overwrote is computed again
            _, ctx.state = recurrent_cuda.forward_cuda(self.name, x, h0, c0, w_ih, w_hh, b_ih, b_hh, *options, True)
        given = x, h0, c0, w_ih, w_hh
        return recurrent_cuda.backward_cuda(self.name, ctx.state, given, y, grad_outputs, ctx.needs_grad, *options)

    def _with_cell(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs with a place for c0, whether there is one or not."""
        return inputs if self.states == 2 else (*inputs[:2], None, *inputs[2:])

    # Samples ------------------------------------------------------------------------------------------------------

    def samples(self) -> Iterator[Sample]:
        yield from self.make_samples({})

    def make_samples(self, attributes: dict[str, Any], prefix: str = "") -> Iterator[Sample]:
        """The cases of this operation with these attributes."""
        rng = np.random.default_rng(97)

        def case(
            label: str, steps: int, batch: int, features: int, hidden: int, bias: bool = True, **options: Any
        ) -> Sample:
            sizes = options.get("batch_sizes")
            shape = (steps, batch) if sizes is None else (sum(sizes),)
            scale = 1 / max(hidden, 1) ** 0.5
            x = rng.standard_normal((*shape, features))
            state = [rng.standard_normal((batch, hidden)) for _ in range(self.states)]
            weights = [scale * rng.standard_normal((self.gates * hidden, size)) for size in (features, hidden)]
            biases = [scale * rng.standard_normal(self.gates * hidden) if bias else None for _ in range(2)]
            return Sample(
                prefix + label,
                (x, *state, *weights, *biases),
                {"reverse": False, "batch_sizes": None} | attributes | options,
            )

        yield case("sequence", 5, 3, 4, 6)
        yield case("reverse", 5, 3, 4, 6, reverse=True)
        yield case("no bias", 4, 2, 3, 5, bias=False)
        yield case("one step, batch 1", 1, 1, 3, 4)
        yield case("one unit", 4, 3, 1, 1)
        yield case("packed", 4, 4, 3, 5, batch_sizes=(4, 3, 3, 1))
        yield case("packed, reverse", 4, 4, 3, 5, batch_sizes=(4, 3, 3, 1), reverse=True)
        yield case("packed, equal lengths", 3, 2, 3, 4, batch_sizes=(2, 2, 2))
        yield case("odd sizes", 7, 5, 13, 33)
        yield case("many rows", 6, 70, 20, 48)
        wide = case("batch first", 4, 3, 5, 6)
        x = np.ascontiguousarray(wide.inputs[0].swapaxes(0, 1)).swapaxes(0, 1)
        yield Sample(wide.label, (x, *wide.inputs[1:]), wide.attributes)
        yield case("empty batch", 3, 0, 4, 5)
