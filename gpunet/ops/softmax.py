"""Softmax and its logarithm, shifted by the largest element so that nothing overflows.

softmax:      y_i = exp(x_i - m) / sum_j exp(x_j - m),   dx = y (dy - sum_j dy_j y_j)
log_softmax:  y_i = (x_i - m) - log sum_j exp(x_j - m),  dx = dy - exp(y) sum_j dy_j
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.reduce import normalize_axis


def log_softmax(x: Any, axis: int) -> Any:
    """The logarithm of softmax in the type sums are carried in."""
    module = module_of(x)
    x = x.astype(compute_dtype(x.dtype), copy=False)
    if x.shape[axis] == 0:
        return x.copy()
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - module.log(module.exp(shifted).sum(axis=axis, keepdims=True))


class _Softmax(Op):
    autocast = "float32"

    def infer(self, *inputs: Any, dim: int) -> Inferred:
        (x,) = inputs
        require_floating(self.name, "input", x)
        normalize_axis(self.name, dim, x.ndim)
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(43)
        yield Sample("rows", (rng.standard_normal((3, 5)),), {"dim": 1})
        yield Sample("columns", (rng.standard_normal((3, 5)),), {"dim": 0})
        yield Sample("large", (rng.standard_normal((3, 5)) * 200,), {"dim": -1})
        yield Sample("channels last", (rng.standard_normal((2, 3, 3, 4)).transpose(0, 3, 1, 2),), {"dim": 1})
        yield Sample("0-d", (np.array(1.5),), {"dim": 0}, differentiable=False)
        yield Sample("empty batch", (np.zeros((0, 5)),), {"dim": 1})


class Softmax(_Softmax):
    """y_i = exp(x_i) / sum_j exp(x_j)."""

    name = "softmax"

    def forward(self, ctx: Context, *inputs: Any, dim: int) -> Any:
        (x,) = inputs
        module = module_of(x)
        if x.ndim == 0:
            y = module.ones((), x.dtype)
        elif x.size == 0:
            y = x.copy()
        else:
            y = x - x.max(axis=dim, keepdims=True)
            y = module.exp(y.astype(compute_dtype(x.dtype), copy=False))
            y /= y.sum(axis=dim, keepdims=True)
            y = y.astype(x.dtype, copy=False)
        ctx.save(y)
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (y,) = ctx.saved
        if y.ndim == 0:
            return (module_of(y).zeros((), y.dtype),)
        return (y * (grad - (grad * y).sum(axis=ctx.attributes["dim"], keepdims=True)),)


class LogSoftmax(_Softmax):
    """y_i = x_i - log sum_j exp(x_j)."""

    name = "log_softmax"

    def forward(self, ctx: Context, *inputs: Any, dim: int) -> Any:
        (x,) = inputs
        y = module_of(x).zeros((), x.dtype) if x.ndim == 0 else log_softmax(x, dim).astype(x.dtype, copy=False)
        ctx.save(y)
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (y,) = ctx.saved
        module = module_of(y)
        if y.ndim == 0:
            return (module.zeros((), y.dtype),)
        return (grad - module.exp(y) * grad.sum(axis=ctx.attributes["dim"], keepdims=True),)


register(Softmax())
register(LogSoftmax())
