"""Elementwise operations: the two kinds, of one and of two operands, and arithmetic.

Each is one line of array-module code and one of its derivative; shapes broadcast and dtypes promote as PyTorch's do.
Non-differentiable points take PyTorch's value: |x|'(0) = 0, and a tie of maximum or minimum shares the
gradient equally.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpunet.backend.error_word import check_values
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.dtypes import BOOL, cast_scalar, compute_dtype, is_floating, result_type, to_float

__all__ = ["Binary", "Unary", "broadcast_shapes", "check_divisor", "flat", "operand", "shape_of", "sign", "unbroadcast"]

Shape = tuple[int, ...]


def broadcast_shapes(op: str, *shapes: Shape) -> Shape:
    """The common shape of several, sizes of one stretching.

    Raises:
        ShapeError: two sizes differ and neither is one.
    """
    result: list[int] = []
    for position in range(1, max(map(len, shapes), default=0) + 1):
        extent = 1
        for shape in shapes:
            if position <= len(shape) and shape[-position] != 1:
                if extent not in (1, shape[-position]):
                    listed = " and ".join(map(str, shapes))
                    raise ShapeError(
                        f"{op}: shapes {listed} do not broadcast: sizes {extent} and {shape[-position]} "
                        f"at dimension -{position} differ and neither is 1"
                    )
                extent = shape[-position]
        result.append(extent)
    return tuple(reversed(result))


def unbroadcast(grad: Any, like: Any) -> Any:
    """Sum a gradient over the dimensions along which ``like`` was stretched, and give it its dtype."""
    if grad.shape != like.shape:
        extra = grad.ndim - like.ndim
        stretched = tuple(range(extra)) + tuple(
            extra + axis for axis, extent in enumerate(like.shape) if extent == 1 and grad.shape[extra + axis] != 1
        )
        grad = grad.sum(axis=stretched, dtype=compute_dtype(grad.dtype)).reshape(like.shape)
    return grad if grad.dtype == like.dtype else grad.astype(like.dtype)


def operand(value: Any, dtype: Any) -> Any:
    """The operand as an array or scalar of the promoted dtype."""
    found = getattr(value, "dtype", None)
    if found is None:
        return cast_scalar(value, dtype)
    return value if found == dtype else value.astype(dtype)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or getattr(value, "dtype", None) == BOOL


def shape_of(value: Any) -> Shape:
    """The shape of an array; a Python scalar has none."""
    return getattr(value, "shape", ())


def flat(m: Any, g: Any, *_: Any) -> Any:
    """The gradient of a step function: zero, as PyTorch has it."""
    return m.zeros_like(g)


_DOMAINS: dict[str, Callable[[Any], Any]] = {
    "real": lambda x: x,
    # Away from zero, where division and abs have no derivative.
    "nonzero": lambda x: np.where(x < 0, x - 0.5, x + 0.5),
    "positive": lambda x: np.abs(x) + 0.5,
    "about 0.1": lambda x: np.copysign(0.07 + 0.04 * (np.abs(x) % 1), x),
    "inside 1": lambda x: np.clip(x, -2, 2) * 0.45,
    "inside 0..1": lambda x: np.clip(x, -2, 2) * 0.2 + 0.5,
    "above 1": lambda x: np.abs(x) + 1.5,
    "between integers": lambda x: np.floor(x * 5) + 0.25,
}


def _in_domain(values: Any, domain: str) -> Any:
    """Normal numbers moved to where a function is defined and smooth."""
    return _DOMAINS[domain](values)


class Binary(Op):
    """z = f(x, y), broadcasting.

    Args:
        name: the operation's name.
        function: z from (module, x, y).
        gradient: (dx, dy) factories from (module, dz, x, y); None where it has no derivative.
        save: what backward needs of the operands: nothing but shapes and dtypes (``""``), both (``"xy"``), or each for
            the gradient of the other (``"other"``).
        result: the dtype of the result from the promoted one.
        inputs: dtype both operands are cast to from the promoted one.
        refuse_bool: it does not take two bools.
        refuse_any_bool: nor one, as PyTorch's subtraction does not.
        refuse_integers: it takes floating operands alone.
        domain: where its samples lie.
        public: what users call it, if not by its name.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Any, Any, Any], Any],
        gradient: tuple[Callable[..., Any], Callable[..., Any]] | None = None,
        *,
        save: str = "",
        result: Callable[[Any], Any] | None = None,
        inputs: Callable[[Any], Any] | None = None,
        refuse_bool: bool = False,
        refuse_any_bool: bool = False,
        refuse_integers: bool = False,
        domain: str = "real",
        public: str = "",
    ) -> None:
        self.name = name
        self.public = public or name
        self.function = function
        self.gradient = gradient
        self.saves = save
        self.result = result
        self.inputs = inputs
        self.refuse_any_bool = refuse_any_bool
        self.refuse_bool = refuse_bool
        self.refuse_integers = refuse_integers
        self.domain = domain
        self.differentiable = gradient is not None

    def _dtype(self, x: Any, y: Any) -> Any:
        dtype = result_type(x, y)
        if self.refuse_bool and (dtype == BOOL or (self.refuse_any_bool and (_is_bool(x) or _is_bool(y)))):
            raise DTypeError(f"{self.public}: not defined for bool; cast one operand, or use a logical operation")
        if self.refuse_integers and not is_floating(dtype):
            raise DTypeError(f"{self.public}: operands must be floating point, got {dtype.name}")
        return self.inputs(dtype) if self.inputs else dtype

    def infer(self, *inputs: Any, **attributes: Any) -> Inferred:
        x, y = inputs
        dtype = self._dtype(x, y)
        shape = shape_of(x)
        if shape != shape_of(y):
            shape = broadcast_shapes(self.public, shape, shape_of(y))
        return Inferred((Spec(shape, self.result(dtype) if self.result else dtype),))

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        x, y = inputs
        dtype = self._dtype(x, y)
        module = module_of(x, y)
        z = self.function(module, operand(x, dtype), operand(y, dtype))
        self.keep(ctx, x, y)
        return z

    def keep(self, ctx: Context, x: Any, y: Any) -> None:
        """Keep for backward what it needs of the operands."""
        if self.saves == "xy":
            ctx.save(x, y)
        elif self.gradient is not None:
            # Only their shapes and dtypes are needed: keep no array alive for that.
            ctx.state = tuple(Spec(value.shape, value.dtype) if hasattr(value, "dtype") else None for value in (x, y))
            if self.saves == "other":
                # Each operand is needed for the other's gradient alone: who asks for none may overwrite it.
                ctx.save(x if ctx.needs_grad[1] else None, y if ctx.needs_grad[0] else None)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        assert self.gradient is not None
        values = ctx.saved if self.saves == "xy" else ctx.state
        module = module_of(grad)
        arguments = (module, grad, None, None)
        if self.saves:
            arguments = (module, grad, *(v if v is None else operand(v, grad.dtype) for v in ctx.saved))
        return tuple(
            unbroadcast(derivative(*arguments), like) if needed else None
            for derivative, like, needed in zip(self.gradient, values, ctx.needs_grad, strict=True)
        )

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(7)

        def draw(*shape: int) -> Any:
            return _in_domain(rng.standard_normal(shape), self.domain)

        if self.gradient is not None and self.gradient[0] is flat:
            yield Sample("steps", (draw(3, 1, 4), draw(2, 1)), differentiable=False)
            yield Sample("empty batch", (draw(0, 3), draw(3)), differentiable=False)
            return
        yield Sample("same shape", (draw(3, 4), draw(3, 4)))
        yield Sample("broadcast both", (draw(3, 1, 4), draw(2, 1)))
        yield Sample("0-d with 3-d", (draw(), draw(2, 3, 2)))
        yield Sample("scalar", (draw(2, 3), 0.25))
        yield Sample("scalar first", (0.25, draw(2, 3)))
        yield Sample("channels last", (draw(2, 4, 5, 3).transpose(0, 3, 1, 2), draw(1, 3, 1, 1)))
        yield Sample("empty batch", (draw(0, 3), draw(3)))


def _raised(m: Any, x: Any, y: Any) -> Any:
    """x ** y; a scalar exponent goes through the operator, which knows squares and square roots.

    Other small whole exponents are products, which take a fiftieth of the time of a power.
    """
    if not isinstance(y, np.floating) or isinstance(x, np.generic) or not is_floating(x.dtype):
        return m.power(x, y)
    exponent = float(y)
    if x.dtype.itemsize > 2 and exponent in (3.0, 4.0, -2.0, -3.0, -4.0):
        square = x * x
        product = square * square if abs(exponent) == 4.0 else square * x if abs(exponent) == 3.0 else square
        return product if exponent > 0 else 1 / product
    return x**exponent


def _power_gradient_x(m: Any, g: Any, x: Any, y: Any) -> Any:
    # 0 ** 0 has derivative 0 in x: the factor y decides before x ** (y - 1) becomes infinite.
    scalar: Any = y if isinstance(y, np.generic) else None
    if scalar is not None:
        return g * (scalar * _raised(m, x, scalar - 1)) if scalar else m.zeros_like(g)
    return g * m.where(y == 0, m.zeros((), g.dtype), y * m.power(x, y - 1))


def _power_gradient_y(m: Any, g: Any, x: Any, y: Any) -> Any:
    logarithm = m.where((y >= 0) & (x == 0), m.zeros((), g.dtype), m.power(x, y) * m.log(x))
    return g * logarithm


def _power(m: Any, x: Any, y: Any) -> Any:
    if x.dtype.kind in "iu" and m is np and np.any(np.less(y, 0)):
        raise ValueError("pow: integers cannot be raised to negative integer powers; cast to float first")
    return _raised(m, x, y)


def check_divisor(m: Any, x: Any, y: Any) -> None:
    """Report integers that are divided by zero; nothing can be."""
    if y.dtype.kind in "iu" and 0 not in x.shape:
        check_values("divisor", m.asarray(y == 0))


def _floor_divide(m: Any, x: Any, y: Any) -> Any:
    check_divisor(m, x, y)
    return m.floor_divide(x, y)


def _truncated_quotient(m: Any, x: Any, y: Any) -> Any:
    check_divisor(m, x, y)
    if x.dtype.kind in "iu":
        # Towards zero: the floor, one more where it is negative and not exact.
        down = m.floor_divide(x, y)
        return down + ((down * y != x) & ((x < 0) != (y < 0))).astype(down.dtype)
    return m.trunc(m.true_divide(x, y))


def _remainder(m: Any, x: Any, y: Any) -> Any:
    check_divisor(m, x, y)
    return m.remainder(x, y)


def _share(m: Any, g: Any, wins: Any, ties: Any) -> Any:
    half = m.asarray(0.5, g.dtype)
    return g * m.where(ties, half, wins.astype(g.dtype))


register(Binary("add", lambda m, x, y: m.add(x, y), (lambda m, g, x, y: g, lambda m, g, x, y: g)))
register(
    Binary(
        "sub",
        lambda m, x, y: m.subtract(x, y),
        (lambda m, g, x, y: g, lambda m, g, x, y: -g),
        refuse_bool=True,
        refuse_any_bool=True,
    )
)
register(
    Binary("mul", lambda m, x, y: m.multiply(x, y), (lambda m, g, x, y: g * y, lambda m, g, x, y: g * x), save="other")
)
register(
    Binary(
        "div",
        lambda m, x, y: m.true_divide(x, y),
        (lambda m, g, x, y: g / y, lambda m, g, x, y: -g * (x / y) / y),
        save="xy",
        inputs=to_float,
        domain="nonzero",
    )
)
register(Binary("pow", _power, (_power_gradient_x, _power_gradient_y), save="xy", refuse_bool=True, domain="positive"))
register(
    Binary(
        "maximum",
        lambda m, x, y: m.maximum(x, y),
        (lambda m, g, x, y: _share(m, g, ~(x < y), x == y), lambda m, g, x, y: _share(m, g, ~(y < x), x == y)),
        save="xy",
    )
)
register(
    Binary(
        "minimum",
        lambda m, x, y: m.minimum(x, y),
        (lambda m, g, x, y: _share(m, g, ~(x > y), x == y), lambda m, g, x, y: _share(m, g, ~(y > x), x == y)),
        save="xy",
    )
)
register(
    Binary(
        "remainder",
        _remainder,
        (lambda m, g, x, y: g, lambda m, g, x, y: -g * m.floor_divide(x, y)),
        save="xy",
        refuse_bool=True,
        domain="nonzero",
    )
)
register(Binary("floor_divide", _floor_divide, refuse_bool=True, domain="nonzero"))
register(
    Binary("div_floor", _floor_divide, (flat, flat), refuse_bool=True, domain="nonzero", public="div"),
)
register(
    Binary("div_trunc", _truncated_quotient, (flat, flat), refuse_bool=True, domain="nonzero", public="div"),
)


class Unary(Op):
    """y = f(x), element by element.

    Args:
        name: the operation's name.
        function: y from (module, x).
        gradient: dx from (module, dy, x or y); None where it has no derivative.
        save: ``"x"`` or ``"y"``: which of the two the derivative is written in.
        floats: integers are cast to float32 first.
        result: the dtype of the result, if not the operand's.
        refuse_bool: it does not take bools.
        refuse_integers: nor integers.
        domain: where its samples lie.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Any, Any], Any],
        gradient: Callable[[Any, Any, Any], Any] | None = None,
        *,
        save: str = "",
        floats: bool = False,
        result: Any = None,
        refuse_bool: bool = False,
        refuse_integers: bool = False,
        domain: str = "nonzero",
    ) -> None:
        self.name = name
        self.function = function
        self.gradient = gradient
        self.saves = save
        self.floats = floats
        self.result = result
        self.refuse_bool = refuse_bool
        self.refuse_integers = refuse_integers
        self.domain = domain
        self.differentiable = gradient is not None

    def infer(self, *inputs: Any, **attributes: Any) -> Inferred:
        (x,) = inputs
        if self.refuse_bool and x.dtype == BOOL:
            raise DTypeError(f"{self.name}: not defined for bool")
        if self.refuse_integers:
            require_floating(self.name, "input", x)
        dtype = self.result or (to_float(x.dtype) if self.floats else x.dtype)
        return Inferred((Spec(tuple(x.shape), dtype),))

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        (x,) = inputs
        y = self.function(module_of(x), operand(x, to_float(x.dtype)) if self.floats else x)
        if self.saves == "x":
            ctx.save(x)
        elif self.saves == "y":
            if isinstance(y, np.generic):  # NumPy turns 0-d results into scalars
                y = np.asarray(y)
            ctx.save(y)
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        assert self.gradient is not None
        return (self.gradient(module_of(grad), grad, ctx.saved[0] if ctx.saved else None),)

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(11)

        def draw(*shape: int) -> Any:
            return _in_domain(rng.standard_normal(shape), self.domain)

        if self.gradient is flat:
            yield Sample("steps", (draw(3, 5),), differentiable=False)
            yield Sample("empty batch", (draw(0, 4),), differentiable=False)
            return
        yield Sample("matrix", (draw(3, 5),))
        yield Sample("0-d", (draw(),))
        yield Sample("channels last", (draw(2, 4, 3, 3).transpose(0, 3, 1, 2),))
        yield Sample("strided", (draw(4, 6)[::2, 1::2],))
        yield Sample("empty batch", (draw(0, 4),))


def sign(m: Any, x: Any) -> Any:
    """-1, 0 or 1, of x's type."""
    if x.dtype == BOOL:
        return x.copy()
    # The sign of NaN is 0, as PyTorch has it.
    return m.where(x == x, m.sign(x), x.dtype.type(0)) if is_floating(x.dtype) else m.sign(x)


register(Unary("neg", lambda m, x: m.negative(x), lambda m, g, _: -g, refuse_bool=True))
register(Unary("exp", lambda m, x: m.exp(x), lambda m, g, y: g * y, save="y", floats=True))
register(Unary("log", lambda m, x: m.log(x), lambda m, g, x: g / x, save="x", floats=True, domain="positive"))
register(
    Unary(
        "sqrt",
        lambda m, x: m.sqrt(x),
        lambda m, g, y: g / (y.dtype.type(2) * y),
        save="y",
        floats=True,
        domain="positive",
    )
)
# The square root of a sum of squares: the gradient of a norm or a deviation that is 0 is 0, not infinite.
register(
    Unary(
        "root",
        lambda m, x: m.sqrt(x),
        lambda m, g, y: m.where(y == 0, g.dtype.type(0), g / (y.dtype.type(2) * y)),
        save="y",
        floats=True,
        domain="positive",
    )
)
register(Unary("abs", lambda m, x: m.abs(x), lambda m, g, x: g * sign(m, x), save="x", refuse_bool=True))


class Cast(Op):
    """The same values in another dtype; the gradient returns in the input's."""

    name = "cast"

    def infer(self, *inputs: Any, dtype: Any) -> Inferred:
        (x,) = inputs
        return Inferred((Spec(tuple(x.shape), dtype),))

    def forward(self, ctx: Context, *inputs: Any, dtype: Any) -> Any:
        (x,) = inputs
        ctx.state = x.dtype
        return x.astype(dtype)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        return (grad if grad.dtype == ctx.state else grad.astype(ctx.state),)

    def samples(self) -> Iterator[Sample]:
        x = np.random.default_rng(2).standard_normal((3, 4))
        yield Sample("to itself", (x,), {"dtype": np.dtype(np.float64)})
        yield Sample("channels last", (x.reshape(1, 2, 2, 3).transpose(0, 3, 1, 2),), {"dtype": np.dtype(np.float64)})
        yield Sample("empty batch", (x[:0],), {"dtype": np.dtype(np.float64)})


register(Cast())


class Clone(Op):
    """A copy in the same physical order."""

    name = "clone"

    def infer(self, *inputs: Any, **attributes: Any) -> Inferred:
        (x,) = inputs
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        (x,) = inputs
        return x.copy(order="K")

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        return grad_outputs

    def samples(self) -> Iterator[Sample]:
        x = np.random.default_rng(2).standard_normal((3, 4))
        yield Sample("matrix", (x,))
        yield Sample("transposed", (x.T,))
        yield Sample("empty batch", (x[:0],))


register(Clone())
