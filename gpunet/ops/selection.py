"""Limits and choices, element by element: clamp, where, nan_to_num."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import DTypeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.dtypes import BOOL, is_floating, result_type
from gpunet.ops.elementwise import broadcast_shapes, operand, shape_of, unbroadcast

__all__: list[str] = []


class Clamp(Op):
    """y = min(max(x, low), high); x, low and high broadcast, and low and high may be numbers or None.

    The gradient of x passes where low <= x <= high, the bounds included; the gradient of a bound where it binds.
    """

    name = "clamp"

    def infer(self, *inputs: Any, **attributes: Any) -> Inferred:
        x, low, high = inputs
        if low is None and high is None:
            raise ValueError("clamp: at least one of min and max must be given")
        bounds = [bound for bound in (low, high) if bound is not None]
        shape = tuple(x.shape)
        if any(shape_of(bound) != () for bound in bounds):
            shape = broadcast_shapes(self.name, shape, *map(shape_of, bounds))
        return Inferred((Spec(shape, result_type(x, *bounds)),))

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        x, low, high = inputs
        dtype = result_type(x, *(bound for bound in (low, high) if bound is not None))
        y = operand(x, dtype)
        module = module_of(x)
        if low is not None:
            y = module.maximum(y, operand(low, dtype))
        if high is not None:
            y = module.minimum(y, operand(high, dtype))
        ctx.save(x, *(bound if hasattr(bound, "dtype") else None for bound in (low, high)))
        ctx.state = tuple(None if hasattr(bound, "dtype") else bound for bound in (low, high))
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        x = ctx.saved[0]
        low, high = (number if array is None else array for array, number in zip(ctx.saved[1:], ctx.state, strict=True))
        module = module_of(x)
        zero = grad.dtype.type(0)
        dx = dlow = dhigh = None
        if ctx.needs_grad[0]:
            inside = None if low is None else x >= low
            if high is not None:
                inside = x <= high if inside is None else inside & (x <= high)
            dx = unbroadcast(grad * inside, x)
        if ctx.needs_grad[1]:
            binds = x < low if high is None else (x < low) & (low < high)
            dlow = unbroadcast(module.where(binds, grad, zero), low)
        if ctx.needs_grad[2]:
            binds = x > high if low is None else (x > high) | (high < low)
            dhigh = unbroadcast(module.where(binds, grad, zero), high)
        return dx, dlow, dhigh

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(3)
        x = rng.standard_normal((4, 5))
        yield Sample("both", (x, -0.5, 0.75))
        yield Sample("low", (x, 0.1, None))
        yield Sample("high, strided", (x.T[::2], None, 0.1))
        yield Sample("arrays", (x, rng.standard_normal(5) - 0.5, rng.standard_normal((4, 1)) + 0.5))
        yield Sample("array and number", (x, rng.standard_normal((2, 1, 1)) - 0.5, 1.0))
        yield Sample("low above high", (x, np.full(5, 0.5), np.full((4, 1), 0.25)))
        yield Sample("empty batch", (x[:0], 0.0, 1.0))


register(Clamp())


class Where(Op):
    """z = x where the condition holds, else y; all three broadcast."""

    name = "where"

    def infer(self, *inputs: Any, **attributes: Any) -> Inferred:
        condition, x, y = inputs
        if condition.dtype != BOOL:
            raise DTypeError(f"where: condition must be bool, got {condition.dtype.name}")
        shape = broadcast_shapes("where", tuple(condition.shape), shape_of(x), shape_of(y))
        return Inferred((Spec(shape, result_type(x, y)),))

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        condition, x, y = inputs
        dtype = result_type(x, y)
        ctx.save(condition)
        ctx.state = tuple(Spec(v.shape, v.dtype) if hasattr(v, "dtype") else None for v in (x, y))
        return module_of(condition).where(condition, operand(x, dtype), operand(y, dtype))

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (condition,) = ctx.saved
        like_x, like_y = ctx.state
        grad_x = unbroadcast(grad * condition, like_x) if ctx.needs_grad[1] else None
        grad_y = unbroadcast(grad * ~condition, like_y) if ctx.needs_grad[2] else None
        return None, grad_x, grad_y

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(5)
        condition = rng.random((3, 4)) > 0.5
        yield Sample("arrays", (condition, rng.standard_normal((3, 4)), rng.standard_normal((3, 4))))
        yield Sample("broadcast", (condition, rng.standard_normal(4), rng.standard_normal((2, 1, 1))))
        yield Sample("scalar", (condition, rng.standard_normal((3, 4)), 0.0))
        yield Sample("empty batch", (condition[:0], rng.standard_normal(4), 1.0))


register(Where())


class NanToNum(Op):
    """y = x, with numbers for NaN and the infinities; None means the largest and the lowest number of the type."""

    name = "nan_to_num"

    def infer(self, *inputs: Any, nan: float, posinf: float | None, neginf: float | None) -> Inferred:
        (x,) = inputs
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, nan: float, posinf: float | None, neginf: float | None) -> Any:
        (x,) = inputs
        module = module_of(x)
        if not is_floating(x.dtype):
            return x.copy()
        ctx.save(x)
        kind = x.dtype.type
        # finfo does not know bfloat16.
        largest = module.finfo(x.dtype).max if x.dtype.kind == "f" else 3.3895313892515355e38
        y = module.where(x != x, kind(nan), x)
        y = module.where(x == kind(np.inf), kind(largest if posinf is None else posinf), y)
        return module.where(x == kind(-np.inf), kind(-largest if neginf is None else neginf), y)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (x,) = ctx.saved
        return (grad * module_of(x).isfinite(x),)

    def samples(self) -> Iterator[Sample]:
        x = np.random.default_rng(4).standard_normal((3, 4))
        plain = {"nan": 0.0, "posinf": None, "neginf": None}
        yield Sample("finite", (x,), plain)
        special = np.array([np.nan, np.inf, -np.inf, 1.0])
        yield Sample("special", (special,), {"nan": 2.0, "posinf": 3.0, "neginf": -1.0}, differentiable=False)
        yield Sample("empty batch", (x[:0],), plain)


register(NanToNum())
