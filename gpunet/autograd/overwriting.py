"""The in-place forms of elementwise functions, comparisons, scans and sums of products: ``x.sin_()`` and the like."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gpunet.autograd.grad_mode import state as grad_state
from gpunet.autograd.inplace import InPlace

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Overwriting"]


def _form(name: str, composed: bool = False) -> Callable[..., Tensor]:
    """The method that writes what another one gives over the tensor.

    Args:
        name: the other method.
        composed: it is made of several operations, any of which may keep the elements for backward.
    """

    def method(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        self._check_writable()
        copied = composed and grad_state.enabled
        return self._write(getattr(self.clone() if copied else self, name)(*args, **kwargs))

    method.__name__ = method.__qualname__ = f"{name}_"
    method.__doc__ = f"``{name}``, written over the tensor."
    return method


class Overwriting(InPlace):
    """In-place forms of functions. Mixed into Tensor."""

    __slots__ = ()

    sin_, cos_, tan_ = _form("sin"), _form("cos"), _form("tan")
    asin_, acos_, atan_ = _form("asin"), _form("acos"), _form("atan")
    sinh_, cosh_ = _form("sinh"), _form("cosh")
    asinh_, acosh_, atanh_ = _form("asinh"), _form("acosh"), _form("atanh")
    arcsin_, arccos_, arctan_ = asin_, acos_, atan_
    arcsinh_, arccosh_, arctanh_ = asinh_, acosh_, atanh_
    exp2_, expm1_ = _form("exp2"), _form("expm1")
    log2_, log10_, log1p_, logit_ = _form("log2"), _form("log10"), _form("log1p"), _form("logit")
    erf_, erfc_, erfinv_ = _form("erf"), _form("erfc"), _form("erfinv")
    ceil_, round_, trunc_, frac_ = _form("ceil"), _form("round"), _form("trunc"), _form("frac")
    sign_, nan_to_num_ = _form("sign"), _form("nan_to_num")
    deg2rad_, rad2deg_ = _form("deg2rad"), _form("rad2deg")
    fix_, sgn_ = trunc_, sign_
    absolute_, negative_ = InPlace.abs_, InPlace.neg_
    fmod_, atan2_, hypot_, xlogy_ = _form("fmod"), _form("atan2"), _form("hypot"), _form("xlogy")
    arctan2_ = atan2_
    eq_, ne_, lt_ = _form("eq"), _form("ne"), _form("lt")
    le_, gt_, ge_ = _form("le"), _form("gt"), _form("ge")
    not_equal_, less_, less_equal_, greater_, greater_equal_ = ne_, lt_, le_, gt_, ge_
    logical_and_, logical_or_ = _form("logical_and"), _form("logical_or")
    logical_xor_, logical_not_ = _form("logical_xor"), _form("logical_not")
    bitwise_and_, bitwise_or_ = _form("bitwise_and"), _form("bitwise_or")
    bitwise_xor_, bitwise_not_ = _form("bitwise_xor"), _form("bitwise_not")
    cumsum_, cumprod_ = _form("cumsum"), _form("cumprod")
    addcmul_, addcdiv_, lerp_ = _form("addcmul", True), _form("addcdiv", True), _form("lerp", True)
    addmm_, addmv_, addr_ = _form("addmm", True), _form("addmv", True), _form("addr", True)
    baddbmm_, addbmm_ = _form("baddbmm", True), _form("addbmm", True)
