"""Comparison, logic and bits: elementwise operations whose results are bools, or integers bit by bit. No gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import DTypeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_same_dtype
from gpunet.ops.dtypes import BOOL, is_floating, result_type
from gpunet.ops.elementwise import Binary, Unary, broadcast_shapes

__all__: list[str] = []


for _name, _function in (
    ("eq", lambda m, x, y: m.equal(x, y)),
    ("ne", lambda m, x, y: m.not_equal(x, y)),
    ("lt", lambda m, x, y: m.less(x, y)),
    ("le", lambda m, x, y: m.less_equal(x, y)),
    ("gt", lambda m, x, y: m.greater(x, y)),
    ("ge", lambda m, x, y: m.greater_equal(x, y)),
    ("logical_and", lambda m, x, y: m.logical_and(x, y)),
    ("logical_or", lambda m, x, y: m.logical_or(x, y)),
    ("logical_xor", lambda m, x, y: m.logical_xor(x, y)),
):
    register(Binary(_name, _function, result=lambda dtype: BOOL))


for _name, _test in (
    ("logical_not", lambda m, x: m.logical_not(x)),
    ("isnan", lambda m, x: m.isnan(x)),
    ("isinf", lambda m, x: m.isinf(x)),
    ("isfinite", lambda m, x: m.isfinite(x)),
    ("isposinf", lambda m, x: (x == m.inf) if is_floating(x.dtype) else m.zeros_like(x, BOOL)),
    ("isneginf", lambda m, x: (x == -m.inf) if is_floating(x.dtype) else m.zeros_like(x, BOOL)),
    ("signbit", lambda m, x: m.signbit(x) if is_floating(x.dtype) else x < 0),
):
    register(Unary(_name, _test, result=BOOL))


class Bitwise(Binary):
    """``&``, ``|`` and ``^``: logical on bools, bitwise on integers, undefined on floats."""

    def _dtype(self, x: Any, y: Any) -> Any:
        dtype = result_type(x, y)
        if is_floating(dtype):
            raise DTypeError(f"{self.name}: defined for bool and integers, got {dtype.name}")
        return dtype

    def samples(self) -> Iterator[Sample]:
        yield Sample("bools", (np.array([True, False, True]), np.array([[True], [False]])))
        yield Sample("integers", (np.array([12, 10]), 6))


register(Bitwise("bitwise_and", lambda m, x, y: m.bitwise_and(x, y)))
register(Bitwise("bitwise_or", lambda m, x, y: m.bitwise_or(x, y)))
register(Bitwise("bitwise_xor", lambda m, x, y: m.bitwise_xor(x, y)))


class Shift(Bitwise):
    """``<<`` and ``>>`` of integers; what is shifted by its width or more is 0, or -1."""

    def _dtype(self, x: Any, y: Any) -> Any:
        dtype = result_type(x, y)
        if dtype.kind not in "iu":
            raise DTypeError(f"{self.name}: defined for integers, got {dtype.name}")
        return dtype

    def samples(self) -> Iterator[Sample]:
        yield Sample("integers", (np.array([12, 10, -3]), np.array([[1], [2]])))
        yield Sample("scalar", (np.array([12, 10]), 2))


register(Shift("bitwise_left_shift", lambda m, x, y: m.left_shift(x, y)))
register(Shift("bitwise_right_shift", lambda m, x, y: m.right_shift(x, y)))


class IsClose(Op):
    """z = |x - y| <= atol + rtol |y|; infinities are close to themselves, NaN to NaN where ``equal_nan``."""

    name = "isclose"
    differentiable = False

    def infer(self, *inputs: Any, rtol: float, atol: float, equal_nan: bool) -> Inferred:
        x, y = inputs
        require_same_dtype(self.name, input=x, other=y)
        for name, bound in (("rtol", rtol), ("atol", atol)):
            if not bound >= 0:
                raise ValueError(f"{self.name}: {name} must not be negative, got {bound}")
        return Inferred((Spec(broadcast_shapes(self.name, tuple(x.shape), tuple(y.shape)), BOOL),))

    def forward(self, ctx: Context, *inputs: Any, rtol: float, atol: float, equal_nan: bool) -> Any:
        x, y = inputs
        module = module_of(x)
        close = x == y
        if equal_nan:
            close = close | ((x != x) & (y != y))
        if not is_floating(x.dtype):
            x, y = x.astype(np.float64), y.astype(np.float64)
        allowed = x.dtype.type(atol) + module.abs(x.dtype.type(rtol) * y)
        difference = module.abs(x - y)
        return close | ((difference <= allowed) & module.isfinite(difference))

    def samples(self) -> Iterator[Sample]:
        x = np.array([1.0, 2.0, np.inf, np.nan, 0.0])
        yield Sample("near", (x, x * 1.000001), {"rtol": 1e-5, "atol": 1e-8, "equal_nan": False})
        yield Sample("broadcast", (x, x[:1]), {"rtol": 0.5, "atol": 0.0, "equal_nan": True})
        yield Sample("integers", (np.array([1, 2]), np.array([1, 3])), {"rtol": 0.0, "atol": 0.0, "equal_nan": False})


register(IsClose())
