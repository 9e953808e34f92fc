"""Products, norms and logarithms of sums over dimensions, and distances between points.

prod:       y = x_1 x_2 ... x_n; exact gradients where elements are zero
logsumexp:  y = log(sum of exp(x)), carried from the largest element on, so that nothing overflows
norm:       y = (sum of |x|^p)^(1/p); p = 0 counts what is not zero, p = inf (-inf) is the largest (smallest) size.
            Where y is 0 the gradient is 0, of sizes that tie for an infinite p each gets its share
cdist:      d_ij = the p-norm of x_i - y_j, for batches of points

Sums of half precision are carried in float32.
"""

from __future__ import annotations

import math
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
from gpunet.ops.dtypes import INT64, compute_dtype, is_floating, to_float
from gpunet.ops.elementwise import broadcast_shapes, operand, sign, unbroadcast
from gpunet.ops.gemm import matrix_product
from gpunet.ops.reduce import expand_reduced, normalize_axes, reduced_shape, reduction_samples

__all__: list[str] = []


class Prod(Op):
    """y = the product of x over ``dim``; integers and bools multiply in int64."""

    name = "prod"

    def infer(self, *inputs: Any, dim: Any, keepdim: bool, dtype: Any) -> Inferred:
        (x,) = inputs
        axes = normalize_axes(self.name, dim, x.ndim)
        result = dtype or (x.dtype if is_floating(x.dtype) else INT64)
        return Inferred((Spec(reduced_shape(tuple(x.shape), axes, keepdim), result),))

    def forward(self, ctx: Context, *inputs: Any, dim: Any, keepdim: bool, dtype: Any) -> Any:
        (x,) = inputs
        axes = normalize_axes(self.name, dim, x.ndim)
        result = dtype or (x.dtype if is_floating(x.dtype) else INT64)
        y = x.prod(axis=axes, keepdims=keepdim, dtype=compute_dtype(result))
        ctx.save(x)
        ctx.state = axes
        return y if y.dtype == result else y.astype(result)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (x,) = ctx.saved
        module = module_of(x)
        carry = compute_dtype(x.dtype)
        # Dividing the product by an element fails at zeros: one zero alone gets the product of the others.
        zero = x == 0
        rest = module.where(zero, carry.type(1), x.astype(carry, copy=False))
        product = rest.prod(axis=ctx.state, keepdims=True)
        zeros = zero.sum(axis=ctx.state, keepdims=True)
        others = module.where(zeros == zero, product / rest, carry.type(0))
        return ((others * expand_reduced(grad, tuple(x.shape), ctx.state)).astype(x.dtype, copy=False),)

    def samples(self) -> Iterator[Sample]:
        yield from reduction_samples(dtype=None)
        x = np.random.default_rng(61).standard_normal((4, 3))
        x[1, 0] = x[0, 1] = x[2, 1] = 0.0
        yield Sample("one zero, two zeros", (x,), {"dim": (0,), "keepdim": False, "dtype": None})
        yield Sample("empty batch", (x[:0],), {"dim": (0,), "keepdim": False, "dtype": None})


register(Prod())


class LogSumExp(Op):
    """y = log(sum of exp(x)) over ``dim``; dx = dy exp(x - y)."""

    name = "logsumexp"

    def infer(self, *inputs: Any, dim: Any, keepdim: bool) -> Inferred:
        (x,) = inputs
        axes = normalize_axes(self.name, dim, x.ndim)
        return Inferred((Spec(reduced_shape(tuple(x.shape), axes, keepdim), to_float(x.dtype)),))

    def forward(self, ctx: Context, *inputs: Any, dim: Any, keepdim: bool) -> Any:
        (x,) = inputs
        module = module_of(x)
        axes = normalize_axes(self.name, dim, x.ndim)
        result = to_float(x.dtype)
        carry = compute_dtype(result)
        values = operand(x, carry)
        if any(x.shape[axis] == 0 for axis in axes):
            largest = module.zeros(reduced_shape(tuple(x.shape), axes, True), carry)
        else:
            largest = values.max(axis=axes, keepdims=True)
            # An infinite largest element would make the difference NaN.
            largest = module.where(module.isfinite(largest), largest, carry.type(0))
        y = module.log(module.exp(values - largest).sum(axis=axes, keepdims=True)) + largest
        ctx.save(x)
        ctx.state = axes, y
        return y.reshape(reduced_shape(tuple(x.shape), axes, keepdim)).astype(result, copy=False)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (x,) = ctx.saved
        axes, y = ctx.state
        module = module_of(x)
        share = module.exp(operand(x, y.dtype) - module.where(module.isinf(y), y.dtype.type(0), y))
        return ((share * expand_reduced(grad, tuple(x.shape), axes)).astype(x.dtype, copy=False),)

    def samples(self) -> Iterator[Sample]:
        yield from reduction_samples()
        x = np.random.default_rng(62).standard_normal((3, 4))
        yield Sample("large", (x * 400,), {"dim": (1,), "keepdim": False})
        yield Sample("empty batch", (x[:0],), {"dim": (1,), "keepdim": False})


register(LogSumExp())


def _p_norm(module: Any, size: Any, p: float, axes: tuple[int, ...]) -> Any:
    """The norm of sizes |x| over dimensions, which are kept."""
    if p == math.inf:
        return size.max(axis=axes, keepdims=True)
    if p == -math.inf:
        return size.min(axis=axes, keepdims=True)
    if p == 0:
        return (size != 0).sum(axis=axes, keepdims=True).astype(size.dtype)
    if p == 1:
        return size.sum(axis=axes, keepdims=True)
    if p == 2:
        return module.sqrt((size * size).sum(axis=axes, keepdims=True))
    return (size**p).sum(axis=axes, keepdims=True) ** (1 / p)


def _p_norm_gradient(module: Any, x: Any, y: Any, grad: Any, p: float, axes: tuple[int, ...]) -> Any:
    """The gradient of x, given the norm and its gradient with dimensions kept."""
    zero = x.dtype.type(0)
    if p == 0:
        return module.zeros_like(x)
    if p == 1:
        return sign(module, x) * grad
    if math.isinf(p):
        size = module.abs(x)
        winners = (size == y) | ((size != size) & (y != y))
        return sign(module, x) * (winners * (grad / winners.sum(axis=axes, keepdims=True).astype(x.dtype)))
    scale = module.where(y == 0, zero, grad / (y if p == 2 else y ** (p - 1)))
    if p == 2:
        return x * scale
    size = module.abs(x)
    powers = size ** (p - 1)
    if p < 1:
        powers = module.where(size == 0, zero, powers)
    return sign(module, x) * powers * scale


class Norm(Op):
    """y = the p-norm of x over ``dim``.

    Args:
        p: the order of the norm.
        public: what users called it.
    """

    name = "norm"

    def infer(self, *inputs: Any, p: float, dim: Any, keepdim: bool, public: str = "norm") -> Inferred:
        (x,) = inputs
        require_floating(public, "input", x)
        axes = normalize_axes(public, dim, x.ndim)
        if (p < 0 or p == math.inf) and any(x.shape[axis] == 0 for axis in axes):
            raise ShapeError(f"{public}: input has no elements for a norm of order {p}, got shape {tuple(x.shape)}")
        return Inferred((Spec(reduced_shape(tuple(x.shape), axes, keepdim), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, p: float, dim: Any, keepdim: bool, public: str = "norm") -> Any:
        (x,) = inputs
        axes = normalize_axes(public, dim, x.ndim)
        module = module_of(x)
        values = operand(x, compute_dtype(x.dtype))
        size = values if p == 2 else module.abs(values)
        y = _p_norm(module, size, p, axes)
        ctx.save(x)
        ctx.state = axes, y
        return y.reshape(reduced_shape(tuple(x.shape), axes, keepdim)).astype(x.dtype, copy=False)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (x,) = ctx.saved
        axes, y = ctx.state
        if ctx.attributes["p"] == 0:  # a count has no gradient
            return (None,)
        grad = expand_reduced(grad, tuple(x.shape), axes).astype(y.dtype, copy=False)
        values = operand(x, y.dtype)
        dx = _p_norm_gradient(module_of(x), values, y, grad, ctx.attributes["p"], axes)
        return (dx.astype(x.dtype, copy=False),)

    def samples(self) -> Iterator[Sample]:
        yield from reduction_samples(p=2.0)
        x = np.random.default_rng(63).standard_normal((3, 5))
        for p in (1.0, 3.0, 0.5, -1.0, math.inf, -math.inf):
            yield Sample(f"order {p}", (x,), {"p": p, "dim": (1,), "keepdim": False})
        yield Sample("order 0", (x,), {"p": 0.0, "dim": (1,), "keepdim": True}, differentiable=False)
        yield Sample("empty batch", (x[:0],), {"p": 2.0, "dim": (1,), "keepdim": False})


register(Norm())

# Differences of points are formed in pieces of at most so many elements.
_PIECE = 1 << 18
# From so many points on |x - y|^2 = |x|^2 + |y|^2 - 2 x y, in float64 for float32 points: one product.
_PRODUCT_FROM = 25


def _by_product(module: Any, x: Any, y: Any) -> Any:
    """Euclidean distances of float64 points whose digits past float32's do not matter."""
    sizes = (x * x).sum(axis=-1)[..., :, None] + (y * y).sum(axis=-1)[..., None, :]
    squares = sizes - 2 * matrix_product(x, y.swapaxes(-1, -2))
    # What is left of equal points is rounding.
    return module.sqrt(module.where(squares > 1e-14 * sizes, squares, 0.0))


class Cdist(Op):
    """d_ij = the p-norm of x_i - y_j: x (..., P, M), y (..., R, M), d (..., P, R); leading dimensions broadcast."""

    name = "cdist"

    def infer(self, *inputs: Any, p: float) -> Inferred:
        x, y = inputs
        for name, value in (("x1", x), ("x2", y)):
            if value.ndim < 2:
                raise ShapeError(f"cdist: {name} must have at least 2 dimensions, got shape {tuple(value.shape)}")
            require_floating("cdist", name, value)
        require_same_dtype("cdist", x1=x, x2=y)
        if x.shape[-1] != y.shape[-1]:
            raise ShapeError(f"cdist: points must have as many coordinates, got {x.shape[-1]} and {y.shape[-1]}")
        if not p >= 0:
            raise ValueError(f"cdist: p must not be negative, got {p}")
        stack = broadcast_shapes("cdist", tuple(x.shape[:-2]), tuple(y.shape[:-2]))
        shape = (*stack, x.shape[-2], y.shape[-2])
        return Inferred((Spec(shape, x.dtype),), math.prod(shape) * x.shape[-1])

    def forward(self, ctx: Context, *inputs: Any, p: float) -> Any:
        x, y = inputs
        spec = self.infer(x, y, p=p).outputs[0]
        module = module_of(x)
        carry = compute_dtype(x.dtype)
        if p == 2 and carry.itemsize == 4 and max(x.shape[-2], y.shape[-2]) > _PRODUCT_FROM:
            d = _by_product(module, x.astype(np.float64), y.astype(np.float64)).astype(carry)
        else:
            d = self._by_differences(module, operand(x, carry), operand(y, carry), spec.shape, p)
        ctx.save(x, y)
        ctx.state = d
        return d.astype(x.dtype, copy=False)

    def _by_differences(self, module: Any, x: Any, y: Any, shape: tuple[int, ...], p: float) -> Any:
        d = module.zeros(shape, x.dtype)
        if x.shape[-1] == 0:
            return d
        a, b = x[..., :, None, :], y[..., None, :, :]
        rows = max(1, _PIECE // max(1, math.prod(shape[:-2]) * y.shape[-2] * y.shape[-1]))
        for start in range(0, x.shape[-2], rows):
            difference = a[..., start : start + rows, :, :] - b
            size = difference if p == 2 else module.abs(difference)
            d[..., start : start + rows, :] = _p_norm(module, size, p, (-1,))[..., 0]
        return d

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        x, y = ctx.saved
        d, p = ctx.state, ctx.attributes["p"]
        module = module_of(x)
        a, b = operand(x, d.dtype), operand(y, d.dtype)
        grad = grad.astype(d.dtype, copy=False)
        if p == 2:
            # dx_i = sum over j of w_ij (x_i - y_j), with w = dd / d: two products.
            weights = module.where(d == 0, d.dtype.type(0), grad / d)
            across = weights.swapaxes(-1, -2)
            dx = weights.sum(axis=-1)[..., None] * a - matrix_product(weights, b)
            dy = across.sum(axis=-1)[..., None] * b - matrix_product(across, a)
        else:
            difference = a[..., :, None, :] - b[..., None, :, :]
            each = _p_norm_gradient(module, difference, d[..., None], grad[..., None], p, (-1,))
            dx, dy = each.sum(axis=-2), -each.sum(axis=-3)
        return tuple(
            unbroadcast(value, like) if needed else None
            for value, like, needed in zip((dx, dy), (x, y), ctx.needs_grad, strict=True)
        )

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(64)
        x, y = rng.standard_normal((2, 5, 3)), rng.standard_normal((4, 3))
        for p in (2.0, 1.0, 3.0, math.inf):
            yield Sample(f"order {p}", (x, y), {"p": p})
        yield Sample("pieces", (rng.standard_normal((600, 20)), rng.standard_normal((30, 20))), {"p": 2.0})
        yield Sample("empty batch", (x[:0], y), {"p": 2.0})


register(Cdist())
