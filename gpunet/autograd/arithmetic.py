"""Arithmetic, comparison and products of Tensors: the operators and their methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpunet.autograd import function
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops import REGISTRY
from gpunet.ops.dtypes import BOOL, is_floating

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Arithmetic"]

ADD = REGISTRY["add"]
SUB = REGISTRY["sub"]
MUL = REGISTRY["mul"]
DIV = REGISTRY["div"]
POW = REGISTRY["pow"]


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

    def add(self, other: Any, *, alpha: float = 1) -> Tensor:
        """self + alpha * other."""
        return self + (other if alpha == 1 else other * alpha)

    def sub(self, other: Any, *, alpha: float = 1) -> Tensor:
        """self - alpha * other."""
        return self - (other if alpha == 1 else other * alpha)

    def mul(self, other: Any) -> Tensor:
        """self * other."""
        return self * other

    def div(self, other: Any, *, rounding_mode: str | None = None) -> Tensor:
        """self / other; ``rounding_mode`` may be None or ``"floor"``."""
        if rounding_mode is None:
            return self / other
        if rounding_mode == "floor":
            return self // other
        raise ValueError(f"div: rounding_mode must be None or 'floor', got {rounding_mode!r}")

    def pow(self, exponent: Any) -> Tensor:
        """self raised to ``exponent``."""
        return self**exponent

    def matmul(self, other: Any) -> Tensor:
        """Matrix product self @ other."""
        return self @ other

    def _product(self, name: str, other: Any, ranks: tuple[int, int]) -> Tensor:
        """A matrix product of fixed ranks."""
        found = (self.ndim, other.ndim)
        if found != ranks:
            raise ShapeError(
                f"{name}: operands must be {ranks[0]}-d and {ranks[1]}-d, got {found[0]}-d and {found[1]}-d"
            )
        return self @ other

    def mm(self, other: Any) -> Tensor:
        """Product of two matrices."""
        return self._product("mm", other, (2, 2))

    def mv(self, other: Any) -> Tensor:
        """Product of a matrix and a vector."""
        return self._product("mv", other, (2, 1))

    def bmm(self, other: Any) -> Tensor:
        """Products of two batches of matrices, (B, N, M) and (B, M, P)."""
        if self.ndim == other.ndim == 3 and self.shape[0] != other.shape[0]:
            raise ShapeError(f"bmm: batches must be of one size, got {self.shape[0]} and {other.shape[0]}")
        return self._product("bmm", other, (3, 3))

    def dot(self, other: Any) -> Tensor:
        """Inner product of two vectors."""
        return self._product("dot", other, (1, 1))

    def eq(self, other: Any) -> Tensor:
        """Elementwise self == other."""
        return self._compare("eq", other)

    def ne(self, other: Any) -> Tensor:
        """Elementwise self != other."""
        return self._compare("ne", other)

    def lt(self, other: Any) -> Tensor:
        """Elementwise self < other."""
        return self < other

    def le(self, other: Any) -> Tensor:
        """Elementwise self <= other."""
        return self <= other

    def gt(self, other: Any) -> Tensor:
        """Elementwise self > other."""
        return self > other

    def ge(self, other: Any) -> Tensor:
        """Elementwise self >= other."""
        return self >= other

    def maximum(self, other: Any) -> Tensor:
        """Elementwise larger of two; NaN wins."""
        return self._binary(REGISTRY["maximum"], other)

    def minimum(self, other: Any) -> Tensor:
        """Elementwise smaller of two; NaN wins."""
        return self._binary(REGISTRY["minimum"], other)

    def logical_and(self, other: Any) -> Tensor:
        """Elementwise and."""
        return self._binary(REGISTRY["logical_and"], other)

    def logical_or(self, other: Any) -> Tensor:
        """Elementwise or."""
        return self._binary(REGISTRY["logical_or"], other)

    def logical_not(self) -> Tensor:
        """Elementwise not."""
        return self._unary("logical_not")
