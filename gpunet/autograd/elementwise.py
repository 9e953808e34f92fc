"""Functions of each element of a Tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpunet.autograd import function
from gpunet.autograd.aliases import numpy_names
from gpunet.autograd.arithmetic import check_tensors
from gpunet.autograd.mathematics import Mathematics
from gpunet.backend.errors import DTypeError
from gpunet.ops import REGISTRY
from gpunet.ops.dtypes import BOOL, INT64, canonical_dtype, is_floating

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Elementwise"]


class Elementwise(Mathematics):
    """Functions of each element of a Tensor. Mixed into Tensor."""

    __slots__ = ()

    def neg(self) -> Tensor:
        """-self."""
        return self._unary("neg")

    def positive(self) -> Tensor:
        """Itself.

        Raises:
            DTypeError: a bool tensor.
        """
        if self.dtype == BOOL:
            raise DTypeError("positive: not defined for bool")
        return self  # type: ignore[return-value]

    def abs(self) -> Tensor:
        """Absolute value; its derivative at 0 is 0."""
        return self._unary("abs")

    negative, absolute = neg, abs

    def exp(self) -> Tensor:
        """e to the power of each element."""
        return self._unary("exp")

    def log(self) -> Tensor:
        """Natural logarithm."""
        return self._unary("log")

    def sqrt(self) -> Tensor:
        """Square root."""
        return self._unary("sqrt")

    def tanh(self) -> Tensor:
        """Hyperbolic tangent."""
        return self._unary("tanh")

    def sigmoid(self) -> Tensor:
        """1 / (1 + exp(-x))."""
        return self._unary("sigmoid")

    def relu(self) -> Tensor:
        """max(x, 0); its derivative at 0 is 0."""
        return self._unary("relu")

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        """Elements limited to min..max, numbers or tensors; the gradient passes where the limits do not bind."""
        bounds = [None if bound is None else function.operand(self, bound) for bound in (min, max)]
        for name, given, bound in zip(("min", "max"), (min, max), bounds, strict=True):
            if bound is NotImplemented:
                raise TypeError(f"clamp: {name} must be a number or a Tensor, got {type(given).__name__}")
        return function.apply(REGISTRY["clamp"], self, *bounds)

    clip = clamp

    def clamp_min(self, min: Any) -> Tensor:
        """Elements below ``min`` raised to it."""
        return self.clamp(min=min)

    def clamp_max(self, max: Any) -> Tensor:
        """Elements above ``max`` lowered to it."""
        return self.clamp(max=max)

    def where(self, condition: Tensor, other: Any) -> Tensor:
        """self where the condition holds, else other."""
        check_tensors("where", condition=condition)
        return function.apply(REGISTRY["where"], condition, self, self._number_or_tensor("where", other))

    @numpy_names
    def softmax(self, dim: Any, dtype: Any = None) -> Tensor:
        """Softmax over a dimension, computed in ``dtype`` if given."""
        x = self if dtype is None else self._cast(canonical_dtype(dtype))
        return function.apply(REGISTRY["softmax"], x, dim=dim)

    @numpy_names
    def log_softmax(self, dim: Any, dtype: Any = None) -> Tensor:
        """Logarithm of softmax over a dimension, computed in ``dtype`` if given."""
        x = self if dtype is None else self._cast(canonical_dtype(dtype))
        return function.apply(REGISTRY["log_softmax"], x, dim=dim)

    # Types -----------------------------------------------------------------------------------------------------------

    def _cast(self, dtype: Any) -> Tensor:
        if self.dtype == dtype:
            return self  # type: ignore[return-value]
        return function.apply(REGISTRY["cast"], self, dtype=dtype)

    def float(self) -> Tensor:
        """As float32."""
        return self._cast(canonical_dtype("float32"))

    def double(self) -> Tensor:
        """As float64."""
        return self._cast(canonical_dtype("float64"))

    def half(self) -> Tensor:
        """As float16."""
        return self._cast(canonical_dtype("float16"))

    def bfloat16(self) -> Tensor:
        """As bfloat16; needs the ml_dtypes package."""
        return self._cast(canonical_dtype("bfloat16"))

    def long(self) -> Tensor:
        """As int64."""
        return self._cast(INT64)

    def int(self) -> Tensor:
        """As int32."""
        return self._cast(canonical_dtype("int32"))

    def bool(self) -> Tensor:
        """As bool."""
        return self._cast(BOOL)

    def type_as(self, other: Tensor) -> Tensor:
        """With another tensor's dtype."""
        return self._cast(other.dtype)

    def is_floating_point(self) -> Any:
        """True for floating-point dtypes."""
        return is_floating(self.dtype)
