"""Functions of mathematics, element by element: trigonometric, hyperbolic, exponential, rounding, error functions.

Integers and bools become float32 where the function only makes sense on floats. Steps such as floor have a gradient of
zero, as PyTorch's do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import DTypeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.dtypes import compute_dtype, is_floating, to_float
from gpunet.ops.elementwise import Binary, Unary, check_divisor, flat, operand, sign
from gpunet.ops.special import erf, erf_derivative, erfc, erfinv

__all__: list[str] = []

_LN2, _LN10 = math.log(2), math.log(10)


def _constant(g: Any, value: float) -> Any:
    """A number in the gradient's type, so that it does not promote."""
    return g.dtype.type(value)


# Angles. The derivative of asin is 1 / sqrt(1 - x^2), written as (1 - x)(1 + x) to keep digits near 1.
register(Unary("sin", lambda m, x: m.sin(x), lambda m, g, x: g * m.cos(x), save="x", floats=True))
register(Unary("cos", lambda m, x: m.cos(x), lambda m, g, x: -g * m.sin(x), save="x", floats=True))
register(Unary("tan", lambda m, x: m.tan(x), lambda m, g, y: g * (1 + y * y), save="y", floats=True))
register(
    Unary(
        "asin",
        lambda m, x: m.arcsin(x),
        lambda m, g, x: g / m.sqrt((1 - x) * (1 + x)),
        save="x",
        floats=True,
        domain="inside 1",
    )
)
register(
    Unary(
        "acos",
        lambda m, x: m.arccos(x),
        lambda m, g, x: -g / m.sqrt((1 - x) * (1 + x)),
        save="x",
        floats=True,
        domain="inside 1",
    )
)
register(Unary("atan", lambda m, x: m.arctan(x), lambda m, g, x: g / (1 + x * x), save="x", floats=True))
register(Unary("deg2rad", lambda m, x: m.deg2rad(x), lambda m, g, _: g * _constant(g, math.pi / 180), floats=True))
register(Unary("rad2deg", lambda m, x: m.rad2deg(x), lambda m, g, _: g * _constant(g, 180 / math.pi), floats=True))

# Hyperbolic functions.
register(Unary("sinh", lambda m, x: m.sinh(x), lambda m, g, x: g * m.cosh(x), save="x", floats=True))
register(Unary("cosh", lambda m, x: m.cosh(x), lambda m, g, x: g * m.sinh(x), save="x", floats=True))
register(Unary("asinh", lambda m, x: m.arcsinh(x), lambda m, g, x: g / m.sqrt(x * x + 1), save="x", floats=True))
register(
    Unary(
        "acosh",
        lambda m, x: m.arccosh(x),
        lambda m, g, x: g / m.sqrt((x - 1) * (x + 1)),
        save="x",
        floats=True,
        domain="above 1",
    )
)
register(
    Unary(
        "atanh",
        lambda m, x: m.arctanh(x),
        lambda m, g, x: g / ((1 - x) * (1 + x)),
        save="x",
        floats=True,
        domain="inside 1",
    )
)

# Exponentials, logarithms and powers.
register(Unary("exp2", lambda m, x: m.exp2(x), lambda m, g, y: g * y * _constant(g, _LN2), save="y", floats=True))
register(Unary("expm1", lambda m, x: m.expm1(x), lambda m, g, y: g * (y + 1), save="y", floats=True))
register(
    Unary(
        "log2",
        lambda m, x: m.log2(x),
        lambda m, g, x: g / (x * _constant(g, _LN2)),
        save="x",
        floats=True,
        domain="positive",
    )
)
register(
    Unary(
        "log10",
        lambda m, x: m.log10(x),
        lambda m, g, x: g / (x * _constant(g, _LN10)),
        save="x",
        floats=True,
        domain="positive",
    )
)
register(Unary("log1p", lambda m, x: m.log1p(x), lambda m, g, x: g / (x + 1), save="x", floats=True, domain="positive"))
register(
    Unary(
        "rsqrt",
        lambda m, x: 1 / m.sqrt(x),
        lambda m, g, y: _constant(g, -0.5) * g * (y * y * y),
        save="y",
        floats=True,
        domain="positive",
    )
)
register(Unary("reciprocal", lambda m, x: 1 / x, lambda m, g, y: -g * (y * y), save="y", floats=True))

# The error function.
register(Unary("erf", erf, lambda m, g, x: g * erf_derivative(m, x), save="x", floats=True))
register(Unary("erfc", erfc, lambda m, g, x: -g * erf_derivative(m, x), save="x", floats=True))
register(
    Unary(
        "erfinv",
        erfinv,
        lambda m, g, y: g * (m.exp(y * y) * _constant(g, math.sqrt(math.pi) / 2)),
        save="y",
        floats=True,
        domain="inside 1",
    )
)


# Rounding and signs. Integers are rounded already.
def _on_floats(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda m, x: function(m, x) if is_floating(x.dtype) else x.copy()


register(Unary("floor", _on_floats(lambda m, x: m.floor(x)), flat, refuse_bool=True))
register(Unary("ceil", _on_floats(lambda m, x: m.ceil(x)), flat, refuse_bool=True))
register(Unary("trunc", _on_floats(lambda m, x: m.trunc(x)), flat, refuse_bool=True))
register(Unary("sign", sign, flat))
register(Unary("frac", lambda m, x: x - m.trunc(x), lambda m, g, _: g, refuse_integers=True, domain="between integers"))


class Round(Op):
    """y = x rounded to ``decimals`` digits after the point, halves to the even neighbour. Its gradient is zero."""

    name = "round"

    def infer(self, *inputs: Any, decimals: int) -> Inferred:
        (x,) = inputs
        if not is_floating(x.dtype) and (decimals or x.dtype.kind == "b"):
            raise DTypeError(f"round: input must be floating point, got {x.dtype.name}")
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, decimals: int) -> Any:
        (x,) = inputs
        if not is_floating(x.dtype):
            return x.copy()
        module = module_of(x)
        if decimals == 0:
            return module.rint(x)
        scale = x.dtype.type(10.0 ** abs(decimals))
        return module.rint(x * scale) / scale if decimals > 0 else module.rint(x / scale) * scale

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        return (module_of(grad).zeros_like(grad),)

    def samples(self) -> Iterator[Sample]:
        x = np.random.default_rng(6).standard_normal((3, 4)) * 10
        for decimals in (0, 1, -1):
            yield Sample(f"{decimals} decimals", (x,), {"decimals": decimals}, differentiable=False)
        yield Sample("empty batch", (x[:0],), {"decimals": 0}, differentiable=False)


register(Round())


class Logit(Op):
    """y = log(x / (1 - x)), x first limited to eps..1 - eps where eps is given; beyond these the gradient is 0."""

    name = "logit"

    def infer(self, *inputs: Any, eps: float | None) -> Inferred:
        (x,) = inputs
        return Inferred((Spec(tuple(x.shape), to_float(x.dtype)),))

    def forward(self, ctx: Context, *inputs: Any, eps: float | None) -> Any:
        (x,) = inputs
        ctx.save(x)
        module = module_of(x)
        p = operand(x, to_float(x.dtype))
        if eps is not None:
            kind = p.dtype.type
            p = module.minimum(module.maximum(p, kind(eps)), kind(1 - eps))
        return module.log(p / (1 - p))

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (x,) = ctx.saved
        eps = ctx.attributes["eps"]
        low, beyond = (0.0, math.nan) if eps is None else (eps, 0.0)
        inside = (x >= grad.dtype.type(low)) & (x <= grad.dtype.type(1 - low))
        return (module_of(x).where(inside, grad / (x * (1 - x)), grad.dtype.type(beyond)),)

    def samples(self) -> Iterator[Sample]:
        x = np.random.default_rng(8).random((4, 5)) * 0.9 + 0.05
        yield Sample("matrix", (x,), {"eps": None})
        yield Sample("limited, transposed", (x.T,), {"eps": 0.2})
        yield Sample("empty batch", (x[:0],), {"eps": None})


register(Logit())


# Functions of two variables -------------------------------------------------------------------------------------------


def _fmod(m: Any, x: Any, y: Any) -> Any:
    check_divisor(m, x, y)
    return m.fmod(x, y)


def _log_add(m: Any, x: Any, y: Any) -> Any:
    carry = compute_dtype(x.dtype)  # ml_dtypes' bfloat16 has no logaddexp of its own
    return m.logaddexp(operand(x, carry), operand(y, carry)).astype(x.dtype, copy=False)


def _x_log_y(m: Any, x: Any, y: Any) -> Any:
    # 0 log y is 0 for every y but NaN.
    return m.where((x == 0) & (y == y), x.dtype.type(0), x * m.log(y))


def _wins(m: Any, g: Any, wins: Any) -> Any:
    return m.where(wins, g, g.dtype.type(0))


register(
    Binary(
        "atan2",
        lambda m, x, y: m.arctan2(x, y),
        (lambda m, g, x, y: g * (y / (x * x + y * y)), lambda m, g, x, y: g * (-x / (x * x + y * y))),
        save="xy",
        inputs=to_float,
        domain="nonzero",
    )
)
register(
    Binary(
        "hypot",
        lambda m, x, y: m.hypot(x, y),
        (lambda m, g, x, y: g * (x / m.hypot(x, y)), lambda m, g, x, y: g * (y / m.hypot(x, y))),
        save="xy",
        refuse_integers=True,
        domain="nonzero",
    )
)
register(
    Binary(
        "fmod",
        _fmod,
        (lambda m, g, x, y: g, lambda m, g, x, y: -g * m.trunc(x / y)),
        save="xy",
        refuse_bool=True,
        domain="about 0.1",
    )
)
register(
    Binary(
        "logaddexp",
        _log_add,
        (lambda m, g, x, y: g / (1 + m.exp(y - x)), lambda m, g, x, y: g / (1 + m.exp(x - y))),
        save="xy",
        refuse_integers=True,
    )
)
register(
    Binary(
        "xlogy",
        _x_log_y,
        (
            lambda m, g, x, y: m.where((x == 0) & (y <= 0), g.dtype.type(0), g * m.log(y)),
            lambda m, g, x, y: g * x / y,
        ),
        save="xy",
        inputs=to_float,
        domain="positive",
    )
)
# NaN loses against every number; of equals the first gets the gradient.
register(
    Binary(
        "fmax",
        lambda m, x, y: m.fmax(x, y),
        (
            lambda m, g, x, y: _wins(m, g, (x >= y) | (y != y)),
            lambda m, g, x, y: _wins(m, g, ~((x >= y) | (y != y))),
        ),
        save="xy",
    )
)
register(
    Binary(
        "fmin",
        lambda m, x, y: m.fmin(x, y),
        (
            lambda m, g, x, y: _wins(m, g, (x <= y) | (y != y)),
            lambda m, g, x, y: _wins(m, g, ~((x <= y) | (y != y))),
        ),
        save="xy",
    )
)
