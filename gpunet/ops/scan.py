"""Running sums, products and extremes along a dimension.

cumsum:   y_i = x_1 + ... + x_i;            dx_j = sum of dy_i over i >= j
cumprod:  y_i = x_1 x_2 ... x_i;            exact gradients where elements are zero
cummax:   y_i = max(x_1 ... x_i), and the last place of it; cummin alike. NaN wins over every number

Sums of half precision are carried in float32; integers and bools run in int64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.dtypes import INT64, compute_dtype, is_floating
from gpunet.ops.reduce import normalize_axis

__all__: list[str] = []


def _samples(**attributes: Any) -> Iterator[Sample]:
    x = np.random.default_rng(71).standard_normal((3, 4, 5))
    yield Sample("first", (x,), {"dim": 0, **attributes})
    yield Sample("last, channels last", (x[None].transpose(0, 3, 1, 2),), {"dim": -1, **attributes})
    yield Sample("0-d", (np.array(1.5),), {"dim": 0, **attributes})
    yield Sample("empty batch", (x[:0],), {"dim": 1, **attributes})


def _run(x: Any, method: str, axis: int, dtype: Any = None) -> Any:
    """A running sum or product; a 0-d array is its own."""
    if x.ndim == 0:
        return x.astype(dtype or x.dtype)
    return getattr(x, method)(axis=axis, dtype=dtype)


def _reverse_sum(module: Any, x: Any, axis: int) -> Any:
    """The sum of each element and all after it."""
    return module.flip(module.flip(x, axis).cumsum(axis=axis), axis) if x.ndim else x


class Cumulative(Op):
    """A running sum or product along ``dim``."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _result(self, x: Any, dtype: Any) -> Any:
        return dtype or (x.dtype if is_floating(x.dtype) else INT64)

    def infer(self, *inputs: Any, dim: int, dtype: Any) -> Inferred:
        (x,) = inputs
        normalize_axis(self.name, dim, x.ndim)
        return Inferred((Spec(tuple(x.shape), self._result(x, dtype)),))

    def forward(self, ctx: Context, *inputs: Any, dim: int, dtype: Any) -> Any:
        (x,) = inputs
        axis = normalize_axis(self.name, dim, x.ndim)
        result = self._result(x, dtype)
        y = _run(x, self.name, axis, compute_dtype(result))
        ctx.state = axis, x.dtype
        if self.name == "cumprod":
            ctx.save(x)
        return y if y.dtype == result else y.astype(result)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        axis, dtype = ctx.state
        module = module_of(grad)
        carry = compute_dtype(dtype)
        grad = grad.astype(carry, copy=False)
        if self.name == "cumsum":
            return (_reverse_sum(module, grad, axis).astype(dtype, copy=False),)
        x = ctx.saved[0].astype(carry, copy=False)
        # Dividing by an element fails at zeros. Before the first zero it does not matter, since all products from
        # there on vanish; the first zero gets what the products would be without it; after it nothing has an effect.
        zeros = _run(x == 0, "cumsum", axis, INT64)
        first = (x == 0) & (zeros == 1)
        rest = module.where(first, carry.type(1), x)
        with_it = _reverse_sum(module, grad * _run(x, "cumprod", axis), axis)
        without = _reverse_sum(module, grad * _run(rest, "cumprod", axis), axis)
        divisor = module.where(x == 0, carry.type(1), x)
        dx = module.where(first, without, module.where(zeros == 0, with_it / divisor, carry.type(0)))
        return (dx.astype(dtype, copy=False),)

    def samples(self) -> Iterator[Sample]:
        yield from _samples(dtype=None)
        x = np.random.default_rng(72).standard_normal((5, 3))
        x[2, 0] = x[1, 1] = x[3, 1] = x[0, 2] = 0.0
        yield Sample("zeros", (x,), {"dim": 0, "dtype": None})


register(Cumulative("cumsum"))
register(Cumulative("cumprod"))


class LogCumSumExp(Op):
    """y_i = log(exp(x_1) + ... + exp(x_i)); dx_j = exp(x_j) * sum of dy_i exp(-y_i) over i >= j."""

    name = "logcumsumexp"

    def infer(self, *inputs: Any, dim: int) -> Inferred:
        (x,) = inputs
        normalize_axis(self.name, dim, x.ndim)
        require_floating(self.name, "input", x)
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, dim: int) -> Any:
        (x,) = inputs
        axis = normalize_axis(self.name, dim, x.ndim)
        module = module_of(x)
        y = x.astype(compute_dtype(x.dtype))
        if x.ndim:
            running = module.moveaxis(y, axis, 0)
            for position in range(1, len(running)):
                running[position] = module.logaddexp(running[position - 1], running[position])
        ctx.save(x)
        ctx.state = axis, y
        return y.astype(x.dtype, copy=False)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (x,) = ctx.saved
        axis, y = ctx.state
        module = module_of(grad)
        if not x.ndim:
            return (grad,)
        grads, running, values = (module.moveaxis(value.astype(y.dtype), axis, 0) for value in (grad, y, x))
        dx = module.empty_like(grads)
        # The tail sum, kept in units of exp(y_i) so that it never overflows.
        tail = module.zeros_like(grads[0]) if len(grads) else None
        for position in range(len(grads) - 1, -1, -1):
            if position + 1 < len(grads):
                tail = tail * module.exp(running[position] - running[position + 1])
            tail = tail + grads[position]
            dx[position] = tail * module.exp(values[position] - running[position])
        return (module.moveaxis(dx, 0, axis).astype(x.dtype, copy=False),)

    def samples(self) -> Iterator[Sample]:
        yield from _samples()


register(LogCumSumExp())


class RunningExtreme(Op):
    """The largest (``cummax``) or smallest (``cummin``) element so far along ``dim``, and the last place of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def infer(self, *inputs: Any, dim: int) -> Inferred:
        (x,) = inputs
        normalize_axis(self.name, dim, x.ndim)
        return Inferred((Spec(tuple(x.shape), x.dtype), Spec(tuple(x.shape), INT64)))

    def forward(self, ctx: Context, *inputs: Any, dim: int) -> Any:
        (x,) = inputs
        module = module_of(x)
        axis = normalize_axis(self.name, dim, x.ndim)
        if x.ndim == 0:
            ctx.state = None
            return x.copy(), module.zeros((), INT64)
        values = module.moveaxis(x, axis, 0)
        best, places = values.copy(), module.zeros(values.shape, INT64)
        for position in range(1, len(values)):
            new, old = values[position], best[position - 1]
            better = (new >= old if self.name == "cummax" else new <= old) | (new != new)
            best[position] = module.where(better, new, old)
            places[position] = module.where(better, position, places[position - 1])
        places = module.moveaxis(places, 0, axis)
        ctx.state = axis, places
        return module.moveaxis(best, 0, axis), places

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        grad = grad_outputs[0]
        if ctx.state is None:
            return (grad,)
        axis, places = ctx.state
        module = module_of(grad)
        dx = module.zeros(grad.shape, grad.dtype)
        if not dx.size:
            return (dx,)
        # Many results may come from one element: add up step by step.
        last = (module.moveaxis(value, axis, -1) for value in (dx, grad, places))
        into, grads, where = (value.reshape(-1, grad.shape[axis]) for value in last)
        rows = module.arange(into.shape[0])
        for position in range(into.shape[1]):
            into[rows, where[:, position]] += grads[:, position]
        shape = module.moveaxis(dx, axis, -1).shape
        return (module.moveaxis(into.reshape(shape), -1, axis),)

    def samples(self) -> Iterator[Sample]:
        yield from _samples()


register(RunningExtreme("cummax"))
register(RunningExtreme("cummin"))
