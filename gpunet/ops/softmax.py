"""Softmax and its logarithm, shifted by the largest element so that nothing overflows.

softmax:      y_i = exp(x_i - m) / sum_j exp(x_j - m),   dx = y (dy - sum_j dy_j y_j)
log_softmax:  y_i = (x_i - m) - log sum_j exp(x_j - m),  dx = dy - exp(y) sum_j dy_j

The half types are computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.reduce import normalize_axis
from gpunet.ops.rows import Rows

__all__ = ["row_dots", "shifted_exponentials"]


def shifted_exponentials(module: Any, x: Any, out: Any) -> tuple[Any, Any]:
    """x - m for the rows' largest elements m into ``out``; gives m and sum exp(x - m), both keeping the dimension."""
    largest = x.max(axis=1, keepdims=True)
    module.subtract(x, largest, out=out)
    return largest, module.exp(out).sum(axis=1, keepdims=True)


def row_dots(module: Any, a: Any, b: Any) -> Any:
    """sum_j a_j b_j along axis 1, which is kept."""
    if a.ndim == 2:
        return module.einsum("ij,ij->i", a, b)[:, None]
    return (a * b).sum(axis=1, keepdims=True)


class _Softmax(Op):
    autocast = "float32"

    def infer(self, *inputs: Any, dim: int) -> Inferred:
        (x,) = inputs
        require_floating(self.name, "input", x)
        normalize_axis(self.name, dim, x.ndim)
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def block(self, module: Any, x: Any, out: Any) -> None:
        """Write one block of the result."""
        raise NotImplementedError

    def gradient(self, module: Any, grad: Any, y: Any, out: Any) -> None:
        """Write one block of the gradient."""
        raise NotImplementedError

    def forward(self, ctx: Context, *inputs: Any, dim: int) -> Any:
        (x,) = inputs
        module = module_of(x)
        if x.ndim == 0:
            y = module.zeros((), x.dtype)
            self.block(module, x.reshape(1, 1), y.reshape(1, 1))
            ctx.save(y)
            return y
        carry = compute_dtype(x.dtype)
        rows = Rows(tuple(x.shape), dim % x.ndim, x)
        source, (target, y) = rows.view(x), rows.empty(x.dtype, module)

        def body(block: Any, part: Any) -> None:
            given, out = source[block].astype(carry, copy=False), target[block]
            made = out if out.dtype == carry else module.empty(out.shape, carry)
            self.block(module, given, made)
            if made is not out:
                out[...] = made

        rows.run(x, carry.itemsize, body)
        ctx.save(y)
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (y,) = ctx.saved
        module = module_of(y)
        if y.ndim == 0:
            return (module.zeros((), y.dtype),)
        carry = compute_dtype(y.dtype)
        rows = Rows(tuple(y.shape), ctx.attributes["dim"] % y.ndim, y)
        given, dy, (target, dx) = rows.view(y), rows.view(grad), rows.empty(y.dtype, module)

        def body(block: Any, part: Any) -> None:
            out = target[block]
            made = out if out.dtype == carry else module.empty(out.shape, carry)
            self.gradient(module, dy[block].astype(carry, copy=False), given[block].astype(carry, copy=False), made)
            if made is not out:
                out[...] = made

        rows.run(y, carry.itemsize, body)
        return (dx,)

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(43)
        yield Sample("rows", (rng.standard_normal((3, 5)),), {"dim": 1})
        yield Sample("columns", (rng.standard_normal((3, 5)),), {"dim": 0})
        yield Sample("large", (rng.standard_normal((3, 5)) * 200,), {"dim": -1})
        yield Sample("channels last", (rng.standard_normal((2, 3, 3, 4)).transpose(0, 3, 1, 2),), {"dim": 1})
        yield Sample("images", (rng.standard_normal((2, 4, 3, 3)),), {"dim": 1})
        yield Sample("several blocks of rows", (rng.standard_normal((900, 70)),), {"dim": 1})
        yield Sample("several blocks of columns", (rng.standard_normal((3, 7, 9000)),), {"dim": -2})
        yield Sample("0-d", (np.array(1.5),), {"dim": 0}, differentiable=False)
        yield Sample("empty batch", (np.zeros((0, 5)),), {"dim": 1})
        yield Sample("empty rows", (np.zeros((5, 0)),), {"dim": 1})


class Softmax(_Softmax):
    """y_i = exp(x_i) / sum_j exp(x_j)."""

    name = "softmax"

    def block(self, module: Any, x: Any, out: Any) -> None:
        module.subtract(x, x.max(axis=1, keepdims=True), out=out)
        module.exp(out, out=out)
        module.divide(out, out.sum(axis=1, keepdims=True), out=out)

    def gradient(self, module: Any, grad: Any, y: Any, out: Any) -> None:
        module.subtract(grad, row_dots(module, grad, y), out=out)
        module.multiply(out, y, out=out)


class LogSoftmax(_Softmax):
    """y_i = x_i - log sum_j exp(x_j)."""

    name = "log_softmax"

    def block(self, module: Any, x: Any, out: Any) -> None:
        _, total = shifted_exponentials(module, x, out)
        module.subtract(out, module.log(total), out=out)

    def gradient(self, module: Any, grad: Any, y: Any, out: Any) -> None:
        module.exp(y, out=out)
        module.multiply(out, grad.sum(axis=1, keepdims=True), out=out)
        module.subtract(grad, out, out=out)


register(Softmax())
register(LogSoftmax())
