"""Activations of channels: PReLU with its learnt slopes, and the gated linear unit.

    prelu  x > 0: x, else w_c x, c the channel (dimension 1), or one w for all (He et al. 2015)
    glu    a sigmoid(b) for the two halves a, b of a dimension (Dauphin et al. 2017)

The derivative of prelu at 0 is w, as PyTorch's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.ops.base import (
    Context,
    Inferred,
    Op,
    Sample,
    Spec,
    module_of,
    register,
    require_floating,
    require_same_dtype,
)
from gpunet.ops.chunked import Layout, Work, map_chunks, select, sum_chunks
from gpunet.ops.dtypes import BOOL, compute_dtype
from gpunet.ops.reduce import normalize_axis
from gpunet.ops.rows import Rows
from gpunet.ops.smooth_activations import sigmoid_of


def _value(work: Work, x: Any, w: Any, out: Any) -> None:
    m = work.module
    part = m.minimum(x, 0, out=work("a"))
    m.multiply(part, w, out=part)
    m.maximum(x, 0, out=out)
    m.add(out, part, out=out)


def _slope(work: Work, grad: Any, x: Any, w: Any, out: Any) -> Any:
    """dy where x > 0, else w dy, into ``out``; gives dy where not x > 0, else 0."""
    m = work.module
    mask = m.greater(x, 0, out=work("mask", BOOL))
    select(grad, mask, out, work)
    m.logical_not(mask, out=mask)
    below = select(grad, mask, work("below"), work)
    part = m.multiply(below, w, out=work("a"))
    m.add(out, part, out=out)
    return below


class PReLU(Op):
    """x where it is positive, else w x."""

    name = "prelu"

    def infer(self, *inputs: Any, **attributes: Any) -> Inferred:
        x, w = inputs
        require_floating(self.name, "input", x)
        require_same_dtype(self.name, input=x, weight=w)
        if w.ndim > 1:
            raise ShapeError(f"prelu: weight must be a vector, got shape {tuple(w.shape)}")
        count = w.shape[0] if w.ndim else 1
        channels = x.shape[1] if x.ndim > 1 else 1
        if count not in (1, channels):
            raise ShapeError(f"prelu: weight must have 1 element, or one for each of {channels} channels, got {count}")
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        x, w = inputs
        ctx.save(x, w)
        if w.size == 1:
            (y,) = map_chunks(Layout(tuple(x.shape), x), (x, w.reshape(())), (x.dtype,), _value)
            return y
        module = module_of(x)
        carry = compute_dtype(x.dtype)
        rows = Rows(tuple(x.shape), 1, x)
        given, (made, y) = rows.view(x), rows.empty(x.dtype, module)
        weights = rows.along(w.astype(carry, copy=False))

        def body(block: Any, part: Any) -> None:
            values = given[block].astype(carry, copy=False)
            work = Work(module, values.shape, carry)
            out = made[block] if x.dtype == carry else work("out")
            _value(work, values, weights, out)
            if x.dtype != carry:
                made[block] = out

        rows.run(x, carry.itemsize, body)
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        x, w = ctx.saved
        if w.size == 1:
            return self._backward_single(ctx, grad, x, w)
        module = module_of(x)
        carry = compute_dtype(x.dtype)
        rows = Rows(tuple(x.shape), 1, x)
        given, dy, (made, dx) = rows.view(x), rows.view(grad), rows.empty(x.dtype, module)
        weights = rows.along(w.astype(carry, copy=False))
        sums: dict[tuple[int, int], Any] = {}

        def body(block: Any, part: Any) -> None:
            values = given[block].astype(carry, copy=False)
            work = Work(module, values.shape, carry)
            out = made[block] if x.dtype == carry else work("out")
            below = _slope(work, dy[block].astype(carry, copy=False), values, weights, out)
            if x.dtype != carry:
                made[block] = out
            if ctx.needs_grad[1]:
                module.multiply(below, module.minimum(values, 0, out=work("a")), out=below)  # not 0 infinity
                key = (part.start, 0) if rows.inner == 1 else (part[0].start, part[1].start)
                sums[key] = below.sum(axis=0) if rows.inner == 1 else below.sum(axis=(0, 2))

        rows.run(x, carry.itemsize, body)
        if not ctx.needs_grad[1]:
            return dx, None
        total = module.zeros(w.shape, np.float64)
        for key in sorted(sums):  # whichever thread was first
            total += sums[key]
        return dx, total.astype(w.dtype)

    def _backward_single(self, ctx: Context, grad: Any, x: Any, w: Any) -> tuple[Any, ...]:
        layout = Layout(tuple(x.shape), x)

        def body(work: Work, dy: Any, values: Any, weight: Any, out: Any) -> None:
            _slope(work, dy, values, weight, out)

        def element(work: Work, dy: Any, values: Any, out: Any) -> None:
            mask = work.module.greater(values, 0, out=work("mask", BOOL))
            work.module.logical_not(mask, out=mask)
            select(dy, mask, out, work)
            work.module.multiply(out, work.module.minimum(values, 0, out=work("a")), out=out)  # not 0 infinity

        (dx,) = map_chunks(layout, (grad, x, w.reshape(())), (x.dtype,), body)
        if not ctx.needs_grad[1]:
            return dx, None
        return dx, sum_chunks(layout, (grad, x), compute_dtype(x.dtype), element).astype(w.dtype).reshape(w.shape)

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(103)

        def draw(*shape: int) -> Any:
            values = rng.standard_normal(shape)
            return np.where(values < 0, values - 0.1, values + 0.1)

        weight = rng.random(3)
        yield Sample("one slope", (draw(3, 5), np.array([0.25])))
        yield Sample("channels", (draw(2, 3, 4, 5), weight))
        yield Sample("channels last", (draw(2, 4, 5, 3).transpose(0, 3, 1, 2), weight))
        yield Sample("matrix", (draw(4, 3), weight))
        yield Sample("1-d", (draw(4), np.array([0.25])))
        yield Sample("several blocks", (draw(2, 3, 130, 150), weight))
        yield Sample("several blocks of rows", (draw(2, 130, 150, 3).transpose(0, 3, 1, 2), weight))
        yield Sample("one slope, several chunks", (draw(2, 3, 130, 150), weight[:1]))
        yield Sample("empty batch", (draw(0, 3), weight))


class GLU(Op):
    """The first half of a dimension, times the sigmoid of the second."""

    name = "glu"

    def infer(self, *inputs: Any, dim: int) -> Inferred:
        (x,) = inputs
        require_floating(self.name, "input", x)
        if x.ndim == 0:
            raise ShapeError("glu: input must have at least one dimension, got a 0-d tensor")
        axis = normalize_axis(self.name, dim, x.ndim)
        if x.shape[axis] % 2:
            raise ShapeError(f"glu: dimension {dim} must have an even size, got {x.shape[axis]}")
        shape = tuple(x.shape)
        return Inferred((Spec((*shape[:axis], shape[axis] // 2, *shape[axis + 1 :]), x.dtype),))

    def _rows(self, x: Any, dim: int) -> tuple[Rows, Rows]:
        """Of the input, and of the output in the same order."""
        axis = dim % x.ndim
        rows = Rows(tuple(x.shape), axis, x)
        shape = self.infer(x, dim=dim).outputs[0].shape
        return rows, Rows(shape, axis, order=rows.full.order)

    def forward(self, ctx: Context, *inputs: Any, dim: int) -> Any:
        (x,) = inputs
        module = module_of(x)
        carry = compute_dtype(x.dtype)
        rows, half = self._rows(x, dim)
        given, (made, y) = rows.view(x), half.empty(x.dtype, module)
        first, second = given[:, : half.count], given[:, half.count :]

        def body(block: Any, part: Any) -> None:
            gate = second[block].astype(carry, copy=False)
            work = Work(module, gate.shape, carry)
            out = made[block] if x.dtype == carry else work("out")
            sigmoid_of(work, gate, out)
            module.multiply(out, first[block], out=out)
            if x.dtype != carry:
                made[block] = out

        half.run(x, carry.itemsize, body)
        ctx.save(x)
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (x,) = ctx.saved
        module = module_of(x)
        carry = compute_dtype(x.dtype)
        rows, half = self._rows(x, ctx.attributes["dim"])
        given, dy, (made, dx) = rows.view(x), half.view(grad), rows.empty(x.dtype, module)
        first, second = given[:, : half.count], given[:, half.count :]

        def body(block: Any, part: Any) -> None:
            gate = second[block].astype(carry, copy=False)
            work = Work(module, gate.shape, carry)
            s, slope = work("a"), work("b")
            sigmoid_of(work, gate, s)
            module.subtract(1.0, s, out=slope)
            module.multiply(slope, first[block].astype(carry, copy=False), out=slope)
            module.multiply(s, dy[block].astype(carry, copy=False), out=s)
            module.multiply(slope, s, out=slope)
            made[:, : half.count][block] = s
            made[:, half.count :][block] = slope

        half.run(x, carry.itemsize, body)
        return (dx,)

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(107)
        yield Sample("last", (rng.standard_normal((3, 6)),), {"dim": -1})
        yield Sample("first", (rng.standard_normal((4, 3)),), {"dim": 0})
        yield Sample("channels last", (rng.standard_normal((2, 3, 3, 4)).transpose(0, 3, 1, 2),), {"dim": 1})
        yield Sample("images", (rng.standard_normal((2, 4, 3, 3)),), {"dim": 1})
        yield Sample("several blocks", (rng.standard_normal((2, 6, 130, 90)),), {"dim": 1})
        yield Sample("empty batch", (np.zeros((0, 4)),), {"dim": 1})


register(PReLU())
register(GLU())
