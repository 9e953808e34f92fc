"""Vectors of length one: y = x / max(|x|_p, eps) along some dimensions.

With N = |x|_p and n = max(N, eps):

    dx = dy / n - [N >= eps] (sum dy x / n^2) dN/dx
    dN/dx = sign(x) (|x| / N)^(p - 1), 0 where N is 0;  p = inf: sign(x) shared among the largest;  p = 0: 0

x (...); the sums are carried in float32 for half types.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.reduce import normalize_axes

__all__ = ["Normalize"]


def _norm(module: Any, x: Any, p: float, axes: tuple[int, ...]) -> Any:
    """|x|_p along the axes, which stay as dimensions of size one."""
    if p == 2:
        return module.sqrt(module.square(x).sum(axis=axes, keepdims=True))
    if p == 0:
        return (x != 0).sum(axis=axes, keepdims=True).astype(x.dtype)
    size = abs(x)
    if math.isinf(p):
        return size.max(axis=axes, keepdims=True) if p > 0 else size.min(axis=axes, keepdims=True)
    if p == 1:
        return size.sum(axis=axes, keepdims=True)
    return (size**p).sum(axis=axes, keepdims=True) ** (1 / p)


class Normalize(Op):
    """y = x / max(|x|_p, eps) along ``dim``."""

    name = "normalize"
    autocast = "float32"

    def infer(self, *inputs: Any, p: float, dim: Any, eps: float) -> Inferred:
        (x,) = inputs
        require_floating("normalize", "input", x)
        normalize_axes("normalize", dim, x.ndim)
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, p: float, dim: Any, eps: float) -> Any:
        (x,) = inputs
        axes = normalize_axes("normalize", dim, x.ndim)
        ctx.save(x)
        if x.size == 0:
            return x.copy()
        module = module_of(x)
        wide = x.astype(compute_dtype(x.dtype), copy=False)
        norm = _norm(module, wide, p, axes)
        ctx.state = (axes, norm)
        return (wide / module.maximum(norm, wide.dtype.type(eps))).astype(x.dtype, copy=False)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (x,) = ctx.saved
        module = module_of(x)
        if x.size == 0:
            return (module.zeros_like(x),)
        axes, norm = ctx.state
        p, eps = ctx.attributes["p"], ctx.attributes["eps"]
        wide, g = (value.astype(norm.dtype, copy=False) for value in (x, grad))
        length = module.maximum(norm, norm.dtype.type(eps))
        dx = g / length
        if p == 0:
            return (dx.astype(x.dtype, copy=False),)
        pull = (g * wide).sum(axis=axes, keepdims=True) / (length * length)
        pull = module.where(norm >= eps, pull, 0)
        safe = module.where(norm == 0, 1, norm)
        if p == 2:
            dx -= wide * (pull / safe)
        elif p == 1:
            dx -= module.sign(wide) * pull
        elif math.isinf(p):
            largest = abs(wide) == norm
            dx -= module.sign(wide) * largest * (pull / largest.sum(axis=axes, keepdims=True).astype(norm.dtype))
        else:
            dx -= module.sign(wide) * module.where(wide == 0, 0, (abs(wide) / safe) ** (p - 1)) * pull
        return (dx.astype(x.dtype, copy=False),)

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(103)
        x = rng.standard_normal((3, 4, 5))
        for p in (2.0, 1.0, 3.0, 0.5, math.inf, 0.0):
            yield Sample(f"p = {p}", (x,), {"p": p, "dim": 1, "eps": 1e-12})
        yield Sample("two dimensions", (x,), {"p": 2.0, "dim": (0, -1), "eps": 1e-12})
        yield Sample("short vectors", (x * 0.1,), {"p": 2.0, "dim": 1, "eps": 10.0})
        yield Sample("channels last", (rng.standard_normal((2, 3, 3, 4)).transpose(0, 3, 1, 2),),
                     {"p": 2.0, "dim": 1, "eps": 1e-12})  # fmt: skip
        yield Sample("empty batch", (np.zeros((0, 5)),), {"p": 2.0, "dim": 1, "eps": 1e-12})


register(Normalize())
