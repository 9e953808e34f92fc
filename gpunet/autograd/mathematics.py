"""Functions of mathematics on Tensors, element by element: of one operand, and of two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpunet.autograd import function
from gpunet.autograd.arithmetic import Arithmetic, check_tensors
from gpunet.backend.errors import DTypeError
from gpunet.ops import REGISTRY
from gpunet.ops.base import require_floating, require_same_dtype
from gpunet.ops.dtypes import BOOL, INT64, is_floating, result_type

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Mathematics"]


class Mathematics(Arithmetic):
    """Functions of mathematics, element by element. Mixed into Tensor."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _cast(self, dtype: Any) -> Tensor: ...

    def sin(self) -> Tensor:
        """Sine, of radians."""
        return self._unary("sin")

    def cos(self) -> Tensor:
        """Cosine, of radians."""
        return self._unary("cos")

    def tan(self) -> Tensor:
        """Tangent, of radians."""
        return self._unary("tan")

    def asin(self) -> Tensor:
        """Inverse of sine, in radians."""
        return self._unary("asin")

    def acos(self) -> Tensor:
        """Inverse of cosine, in radians."""
        return self._unary("acos")

    def atan(self) -> Tensor:
        """Inverse of tangent, in radians."""
        return self._unary("atan")

    def sinh(self) -> Tensor:
        """Hyperbolic sine."""
        return self._unary("sinh")

    def cosh(self) -> Tensor:
        """Hyperbolic cosine."""
        return self._unary("cosh")

    def asinh(self) -> Tensor:
        """Inverse of the hyperbolic sine."""
        return self._unary("asinh")

    def acosh(self) -> Tensor:
        """Inverse of the hyperbolic cosine."""
        return self._unary("acosh")

    def atanh(self) -> Tensor:
        """Inverse of the hyperbolic tangent."""
        return self._unary("atanh")

    def deg2rad(self) -> Tensor:
        """Degrees as radians."""
        return self._unary("deg2rad")

    def rad2deg(self) -> Tensor:
        """Radians as degrees."""
        return self._unary("rad2deg")

    def exp2(self) -> Tensor:
        """2 to the power of each element."""
        return self._unary("exp2")

    def expm1(self) -> Tensor:
        """exp(x) - 1, with all its digits near 0."""
        return self._unary("expm1")

    def log2(self) -> Tensor:
        """Logarithm to base 2."""
        return self._unary("log2")

    def log10(self) -> Tensor:
        """Logarithm to base 10."""
        return self._unary("log10")

    def log1p(self) -> Tensor:
        """log(1 + x), with all its digits near 0."""
        return self._unary("log1p")

    def rsqrt(self) -> Tensor:
        """1 / square root."""
        return self._unary("rsqrt")

    def reciprocal(self) -> Tensor:
        """1 / self."""
        return self._unary("reciprocal")

    def erf(self) -> Tensor:
        """The error function."""
        return self._unary("erf")

    def erfc(self) -> Tensor:
        """1 - erf(x), with all its digits where erf is nearly 1."""
        return self._unary("erfc")

    def erfinv(self) -> Tensor:
        """The number whose error function each element is; infinite at -1 and 1, NaN beyond."""
        return self._unary("erfinv")

    def floor(self) -> Tensor:
        """Largest integer not above each element. Its gradient is zero."""
        return self._unary("floor")

    def ceil(self) -> Tensor:
        """Smallest integer not below each element. Its gradient is zero."""
        return self._unary("ceil")

    def trunc(self) -> Tensor:
        """The integer part, towards zero. Its gradient is zero."""
        return self._unary("trunc")

    def frac(self) -> Tensor:
        """What ``trunc`` takes away."""
        return self._unary("frac")

    def sign(self) -> Tensor:
        """-1, 0 or 1. Its gradient is zero."""
        return self._unary("sign")

    def isnan(self) -> Tensor:
        """True where NaN."""
        return self._unary("isnan")

    def isinf(self) -> Tensor:
        """True where infinite."""
        return self._unary("isinf")

    def isfinite(self) -> Tensor:
        """True where neither NaN nor infinite."""
        return self._unary("isfinite")

    def isposinf(self) -> Tensor:
        """True where plus infinity."""
        return self._unary("isposinf")

    def isneginf(self) -> Tensor:
        """True where minus infinity."""
        return self._unary("isneginf")

    def signbit(self) -> Tensor:
        """True where negative."""
        return self._unary("signbit")

    arcsin, arccos, arctan, arcsinh, arccosh, arctanh, fix, sgn = asin, acos, atan, asinh, acosh, atanh, trunc, sign

    def round(self, *, decimals: int = 0) -> Tensor:
        """Rounded to ``decimals`` digits after the point, halves to the even neighbour. Its gradient is zero."""
        return function.apply(REGISTRY["round"], self, decimals=decimals)

    def square(self) -> Tensor:
        """self * self."""
        return self**2 if self.dtype != BOOL else self._cast(INT64)

    def logit(self, eps: float | None = None) -> Tensor:
        """log(x / (1 - x)); x is first limited to eps..1 - eps where ``eps`` is given."""
        return function.apply(REGISTRY["logit"], self, eps=eps)

    def nan_to_num(self, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
        """Numbers in place of NaN and the infinities; for these the type's largest and lowest unless given."""
        return function.apply(REGISTRY["nan_to_num"], self, nan=nan, posinf=posinf, neginf=neginf)

    def atan2(self, other: Any) -> Tensor:
        """The angle, -pi..pi, of the point with y = self and x = other."""
        return self._with("atan2", other)

    arctan2 = atan2

    def hypot(self, other: Any) -> Tensor:
        """sqrt(self^2 + other^2)."""
        return self._with("hypot", other)

    def fmod(self, other: Any) -> Tensor:
        """Remainder of the division towards zero: it has the sign of self."""
        return self._with("fmod", other)

    def remainder(self, other: Any) -> Tensor:
        """Remainder of the division downwards, as ``%``: it has the sign of other."""
        return self._with("remainder", other)

    def logaddexp(self, other: Any) -> Tensor:
        """log(exp(self) + exp(other)), without overflow."""
        return self._with("logaddexp", other)

    def xlogy(self, other: Any) -> Tensor:
        """self * log(other); 0 where self is 0."""
        return self._with("xlogy", other)

    def _rxlogy(self, number: float) -> Tensor:
        """number * log(self)."""
        return function.apply(REGISTRY["xlogy"], number, self)

    def fmax(self, other: Any) -> Tensor:
        """Elementwise larger of two; NaN loses."""
        return self._with("fmax", other)

    def fmin(self, other: Any) -> Tensor:
        """Elementwise smaller of two; NaN loses."""
        return self._with("fmin", other)

    def maximum(self, other: Any) -> Tensor:
        """Elementwise larger of two; NaN wins."""
        return self._with("maximum", other)

    def minimum(self, other: Any) -> Tensor:
        """Elementwise smaller of two; NaN wins."""
        return self._with("minimum", other)

    def lerp(self, end: Tensor, weight: Any) -> Tensor:
        """self + weight * (end - self): a step from self towards ``end``.

        Raises:
            TypeError: ``end`` is not a Tensor.
            DTypeError: tensors of different types, or of integers.
        """
        check_tensors("lerp", end=end)
        require_same_dtype("lerp", input=self, end=end)
        require_floating("lerp", "input", self)
        if hasattr(weight, "dtype"):
            require_same_dtype("lerp", input=self, weight=weight)
        return self + (end - self) * weight

    def addcmul(self, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
        """self + value * tensor1 * tensor2."""
        check_tensors("addcmul", tensor1=tensor1, tensor2=tensor2)
        dtype = result_type(self, tensor1, tensor2)
        product = tensor1._cast(dtype) * tensor2._cast(dtype)
        return self + (product if value == 1 else product * value)

    def addcdiv(self, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
        """self + value * tensor1 / tensor2."""
        check_tensors("addcdiv", tensor1=tensor1, tensor2=tensor2)
        dtype = result_type(self, tensor1, tensor2)
        if not is_floating(result_type(tensor1, tensor2)):
            raise DTypeError(f"addcdiv: tensor1 or tensor2 must be floating point, got {tensor1.dtype.name}")
        quotient = tensor1._cast(dtype) / tensor2._cast(dtype)
        return self + (quotient if value == 1 else quotient * value)
