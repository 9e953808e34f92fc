"""Arithmetic, comparison and products of Tensors: the operators and their methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpunet.autograd import function
from gpunet.backend.errors import DTypeError
from gpunet.ops import REGISTRY
from gpunet.ops.dtypes import BOOL, is_floating, result_type

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Arithmetic", "check_tensors"]

ADD = REGISTRY["add"]
SUB = REGISTRY["sub"]
MUL = REGISTRY["mul"]
DIV = REGISTRY["div"]
POW = REGISTRY["pow"]


def check_tensors(name: str, **arguments: Any) -> None:
    """Raise unless all arguments are Tensors.

    Raises:
        TypeError: naming the first that is not.
    """
    for argument, value in arguments.items():
        if not hasattr(value, "requires_grad"):
            raise TypeError(f"{name}: {argument} must be a Tensor, got {type(value).__name__}")


def _all(tensor: Tensor) -> bool:
    return bool(function.apply(REGISTRY["all"], tensor, dim=None, keepdim=False))


class Arithmetic:
    """Arithmetic, comparison and products of Tensors: the operators and their methods. Mixed into Tensor."""

    __slots__ = ()

    if TYPE_CHECKING:  # what Tensor has
        _device: Any

        @property
        def shape(self) -> tuple[int, ...]: ...

        @property
        def ndim(self) -> int: ...

        @property
        def dtype(self) -> np.dtype[Any]: ...

    def _binary(self, op: Any, other: Any, swapped: bool = False) -> Any:
        other = function.operand(self, other)
        if other is NotImplemented:
            return NotImplemented
        return function.apply(op, other, self) if swapped else function.apply(op, self, other)

    def _unary(self, name: str) -> Tensor:
        return function.apply(REGISTRY[name], self)

    def _number_or_tensor(self, name: str, other: Any) -> Any:
        """The other operand of a method.

        Raises:
            TypeError: neither a Tensor nor a number.
        """
        found = function.operand(self, other)
        if found is NotImplemented:
            raise TypeError(f"{name}: other must be a Tensor or a number, got {type(other).__name__}")
        return found

    def _with(self, name: str, other: Any) -> Tensor:
        """An operation with another operand, as a method."""
        return function.apply(REGISTRY[name], self, self._number_or_tensor(name, other))

    def __add__(self, other: Any) -> Tensor:
        return self._binary(ADD, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Tensor:
        return self._binary(SUB, other)

    def __rsub__(self, other: Any) -> Tensor:
        return self._binary(SUB, other, True)

    def __mul__(self, other: Any) -> Tensor:
        return self._binary(MUL, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Tensor:
        return self._binary(DIV, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return self._binary(DIV, other, True)

    def __floordiv__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["floor_divide"], other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["floor_divide"], other, True)

    def __mod__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["remainder"], other)

    def __rmod__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["remainder"], other, True)

    def __pow__(self, other: Any) -> Tensor:
        return self._binary(POW, other)

    def __rpow__(self, other: Any) -> Tensor:
        return self._binary(POW, other, True)

    def __matmul__(self, other: Any) -> Tensor:
        other = function.operand(self, other)
        if not hasattr(other, "requires_grad"):  # a number has no rows
            return NotImplemented
        return function.apply(REGISTRY["matmul"], self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        other = function.operand(self, other)
        if not hasattr(other, "requires_grad"):
            return NotImplemented
        return function.apply(REGISTRY["matmul"], other, self)

    def __neg__(self) -> Tensor:
        return self._unary("neg")

    def __pos__(self) -> Tensor:
        return self  # type: ignore[return-value]

    def __abs__(self) -> Tensor:
        return self._unary("abs")

    def __invert__(self) -> Tensor:
        if self.dtype == BOOL:
            return self._unary("logical_not")
        if is_floating(self.dtype):
            raise DTypeError(f"~: defined for bool and integers, got {self.dtype.name}")
        return self ^ -1

    def __lshift__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["bitwise_left_shift"], other)

    def __rlshift__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["bitwise_left_shift"], other, True)

    def __rshift__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["bitwise_right_shift"], other)

    def __rrshift__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["bitwise_right_shift"], other, True)

    def __and__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["bitwise_and"], other)

    __rand__ = __and__

    def __or__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["bitwise_or"], other)

    __ror__ = __or__

    def __xor__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["bitwise_xor"], other)

    __rxor__ = __xor__

    def _compare(self, name: str, other: Any) -> Any:
        return self._binary(REGISTRY[name], other)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return self._compare("eq", other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return self._compare("ne", other)

    def __lt__(self, other: Any) -> Tensor:
        return self._compare("lt", other)

    def __le__(self, other: Any) -> Tensor:
        return self._compare("le", other)

    def __gt__(self, other: Any) -> Tensor:
        return self._compare("gt", other)

    def __ge__(self, other: Any) -> Tensor:
        return self._compare("ge", other)

    __hash__ = object.__hash__

    def _scaled(self, name: str, other: Any, alpha: float) -> Any:
        """alpha * other, in the type of the sum; bools stay for the sum to refuse or take."""
        other = self._number_or_tensor(name, other)
        if alpha == 1 or (name == "sub" and (isinstance(other, bool) or getattr(other, "dtype", None) == BOOL)):
            return other
        if hasattr(other, "_cast"):
            other = other._cast(result_type(self, other))
        return other * alpha

    def add(self, other: Any, *, alpha: float = 1) -> Tensor:
        """self + alpha * other."""
        return self + self._scaled("add", other, alpha)

    def sub(self, other: Any, *, alpha: float = 1) -> Tensor:
        """self - alpha * other."""
        return self - self._scaled("sub", other, alpha)

    def mul(self, other: Any) -> Tensor:
        """self * other."""
        return self._with("mul", other)

    def div(self, other: Any, *, rounding_mode: str | None = None) -> Tensor:
        """self / other, exact, or rounded to integers with ``rounding_mode`` ``"trunc"`` or ``"floor"``.

        The gradient of a rounded quotient is zero.
        """
        if rounding_mode not in (None, "trunc", "floor"):
            raise ValueError(f"div: rounding_mode must be None, 'trunc' or 'floor', got {rounding_mode!r}")
        op = DIV if rounding_mode is None else REGISTRY[f"div_{rounding_mode}"]
        return function.apply(op, self, self._number_or_tensor("div", other))

    subtract, multiply, divide = sub, mul, div

    def true_divide(self, other: Any) -> Tensor:
        """self / other."""
        return self._with("div", other)

    def floor_divide(self, other: Any) -> Tensor:
        """self // other: the largest integer not above the quotient. No gradient."""
        return self._with("floor_divide", other)

    def pow(self, exponent: Any) -> Tensor:
        """self raised to ``exponent``."""
        return self**exponent

    def matmul(self, other: Any) -> Tensor:
        """Matrix product self @ other."""
        check_tensors("matmul", other=other)
        return self @ other

    def eq(self, other: Any) -> Tensor:
        """Elementwise self == other."""
        return self._with("eq", other)

    def ne(self, other: Any) -> Tensor:
        """Elementwise self != other."""
        return self._with("ne", other)

    def lt(self, other: Any) -> Tensor:
        """Elementwise self < other."""
        return self._with("lt", other)

    def le(self, other: Any) -> Tensor:
        """Elementwise self <= other."""
        return self._with("le", other)

    def gt(self, other: Any) -> Tensor:
        """Elementwise self > other."""
        return self._with("gt", other)

    def ge(self, other: Any) -> Tensor:
        """Elementwise self >= other."""
        return self._with("ge", other)

    not_equal, less, less_equal, greater, greater_equal = ne, lt, le, gt, ge

    def logical_and(self, other: Any) -> Tensor:
        """Elementwise and of what is not zero."""
        return self._with("logical_and", other)

    def logical_or(self, other: Any) -> Tensor:
        """Elementwise or of what is not zero."""
        return self._with("logical_or", other)

    def logical_xor(self, other: Any) -> Tensor:
        """Elementwise exclusive or of what is not zero."""
        return self._with("logical_xor", other)

    def logical_not(self) -> Tensor:
        """True where zero."""
        return self._unary("logical_not")

    def bitwise_and(self, other: Any) -> Tensor:
        """Elementwise ``&`` of integers or bools."""
        return self._with("bitwise_and", other)

    def bitwise_or(self, other: Any) -> Tensor:
        """Elementwise ``|`` of integers or bools."""
        return self._with("bitwise_or", other)

    def bitwise_xor(self, other: Any) -> Tensor:
        """Elementwise ``^`` of integers or bools."""
        return self._with("bitwise_xor", other)

    def bitwise_not(self) -> Tensor:
        """Elementwise ``~`` of integers or bools."""
        return ~self

    def bitwise_left_shift(self, other: Any) -> Tensor:
        """Elementwise ``<<`` of integers."""
        return self._with("bitwise_left_shift", other)

    def bitwise_right_shift(self, other: Any) -> Tensor:
        """Elementwise ``>>`` of integers."""
        return self._with("bitwise_right_shift", other)

    def isclose(self, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
        """True where |self - other| <= atol + rtol |other|; infinities are close to themselves."""
        check_tensors("isclose", other=other)
        return function.apply(REGISTRY["isclose"], self, other, rtol=rtol, atol=atol, equal_nan=equal_nan)

    def allclose(self, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
        """True if ``isclose`` everywhere."""
        check_tensors("allclose", other=other)
        return _all(self.isclose(other, rtol, atol, equal_nan))

    def equal(self, other: Tensor) -> bool:
        """True if the other tensor has the same shape and elements."""
        check_tensors("equal", other=other)
        return self.shape == other.shape and _all(self == other)
