"""Special functions that the array modules lack: the error function and its relatives.

erf(x) = 2 / sqrt(pi) * integral of exp(-t^2) over 0..x;  erfc(x) = 1 - erf(x)

float64: W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969), with the
coefficients of his SPECFUN package; relative errors near 1e-15. float32: tanh(x P(x^2)), since NumPy's tanh is
vectorised and forgives errors of its argument where erf is nearly 1; P is the minimax fit of artanh(erf(x)) / x on
0 <= x <= 4 in the relative error of erf (Lawson's iteration), errors below 2e-7. Half types are carried in float32.

All of it is plain array-module code. On the CPU large arrays are worked off in blocks that stay in the cache, and by
all threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.backend.threads import parallel_for
from gpunet.ops.dtypes import FLOAT64, compute_dtype

__all__ = ["erf", "erf_derivative", "erfc", "erfinv"]

# Each tuple starts with the coefficient of the highest power.
_SMALL_P = (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
            3.20937758913846947e3)  # fmt: skip
_SMALL_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_MIDDLE_P = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
             2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
             1.23033935479799725e3)  # fmt: skip
_MIDDLE_Q = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
             3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3)  # fmt: skip
_LARGE_P = (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
            1.60837851487422766e-2, 6.58749161529837803e-4)  # fmt: skip
_LARGE_Q = (1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
            2.33520497626869185e-3)  # fmt: skip
_SINGLE = (1.4185306e-7, -5.6684908e-6, 8.7637425e-5, -6.1978490e-4, -1.9183048e-4, 1.02769054e-1, 1.1283792e0)

# M. Giles, "Approximating the erfinv function", GPU Computing Gems (2011), in single precision.
_INVERSE_NEAR = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 2.1858087e-04, -1.25372503e-03,
                 -4.17768164e-03, 2.46640727e-01, 1.50140941)  # fmt: skip
_INVERSE_FAR = (-2.00214257e-04, 1.00950558e-04, 1.34934322e-03, -3.67342844e-03, 5.73950773e-03, -7.6224613e-03,
                9.43887047e-03, 1.00167406, 2.83297682)  # fmt: skip

# Elements of a block: a few arrays of them fit the second-level cache, and a pass over one outweighs its call.
_BLOCK = 1 << 16


def _polynomial(module: Any, x: Any, coefficients: tuple[float, ...]) -> Any:
    """Horner's rule, in one new array."""
    kind = x.dtype.type
    y = x * kind(coefficients[0])
    for coefficient in coefficients[1:-1]:
        y += kind(coefficient)
        y *= x
    y += kind(coefficients[-1])
    return y


def _single(module: Any, x: Any, out: Any) -> Any:
    """erf of float32 numbers."""
    argument = _polynomial(module, x * x, _SINGLE)
    argument *= x
    return module.tanh(argument, out=out)


def _small(module: Any, x: Any) -> Any:
    """erf(x) for |x| <= 0.46875."""
    square = x * x
    return x * _polynomial(module, square, _SMALL_P) / _polynomial(module, square, _SMALL_Q)


def _tail(module: Any, size: Any) -> Any:
    """erfc(size) for size >= 0.46875, in float64."""
    size = module.minimum(size, 28.0)  # erfc(28) is 0 in float64, and infinity times 0 is not
    middle = module.clip(size, 0.4, 4.0)
    middle = _polynomial(module, middle, _MIDDLE_P) / _polynomial(module, middle, _MIDDLE_Q)
    large = module.maximum(size, 4.0)
    inverse = 1.0 / (large * large)
    correction = inverse * _polynomial(module, inverse, _LARGE_P) / _polynomial(module, inverse, _LARGE_Q)
    large = (1.0 / math.sqrt(math.pi) - correction) / large
    # exp(-size^2) without the rounding of the square: size = head + rest, head with few digits.
    head = module.floor(size * 16.0) * 0.0625
    decay = module.exp(-head * head) * module.exp(-(size - head) * (size + head))
    return decay * module.where(size <= 4.0, middle, large)


def _double(module: Any, x: Any, out: Any) -> Any:
    """erf of float64 numbers."""
    size = module.abs(x)
    near = _small(module, module.clip(x, -0.46875, 0.46875))
    far = module.copysign(1.0 - _tail(module, size), x)
    return _stored(module, module.where(size <= 0.46875, near, module.where(x == x, far, x)), out)


def _complement(module: Any, x: Any, out: Any) -> Any:
    """erfc of float64 numbers."""
    size = module.abs(x)
    near = 1.0 - _small(module, module.clip(x, -0.46875, 0.46875))
    tail = _tail(module, size)
    far = module.where(x < 0, 2.0 - tail, tail)
    return _stored(module, module.where(size <= 0.46875, near, module.where(x == x, far, x)), out)


def _stored(module: Any, y: Any, out: Any) -> Any:
    if out is None:
        return y
    out[...] = y
    return out


def _memory_order(x: Any) -> Any:
    """The elements as one dimension in the order they lie in memory, sharing it; None where they have gaps."""
    order = sorted(range(x.ndim), key=lambda axis: -x.strides[axis])
    dense = x.transpose(order)
    return dense.reshape(-1) if dense.flags.c_contiguous else None


def _blockwise(function: Callable[[Any, Any, Any], Any], module: Any, x: Any, out: Any) -> Any:
    """Apply a function of each element, in blocks on the CPU. The result lies in memory as x does."""
    if not isinstance(x, np.ndarray) or x.size <= _BLOCK:
        return function(module, x, out)
    if out is None:
        out = np.empty_like(x)
    flat = flat_out = None
    if x.strides == out.strides:
        flat, flat_out = _memory_order(x), _memory_order(out)
    if flat is None or flat_out is None:
        return function(module, x, out)

    def work(index: int) -> None:
        part = slice(index * _BLOCK, (index + 1) * _BLOCK)
        function(module, flat[part], flat_out[part])

    parallel_for(-(-flat.size // _BLOCK), work)
    return out


def _evaluate(single: Any, double: Any, module: Any, x: Any, out: Any) -> Any:
    """With the implementation of x's precision; the half types take single precision's."""
    if x.dtype == FLOAT64:
        return _blockwise(double, module, x, out)
    carry = compute_dtype(x.dtype)
    if carry == x.dtype:
        return _blockwise(single, module, x, out)
    return _stored(module, _blockwise(single, module, x.astype(carry), None).astype(x.dtype), out)


def erf(module: Any, x: Any, out: Any = None) -> Any:
    """The error function of each element.

    Args:
        module: NumPy or CuPy.
        x: a floating array of any shape and layout.
        out: where to write; x itself is allowed.
    """
    return _evaluate(_single, _double, module, x, out)


def _complement_single(module: Any, x: Any, out: Any) -> Any:
    # Its digits are those of the tail, which float32's erf does not have.
    return _stored(module, _complement(module, x.astype(FLOAT64), None).astype(x.dtype), out)


def erfc(module: Any, x: Any, out: Any = None) -> Any:
    """1 - erf(x), with all its digits where erf is nearly 1."""
    return _evaluate(_complement_single, _complement, module, x, out)


def erf_derivative(module: Any, x: Any) -> Any:
    """2 / sqrt(pi) * exp(-x^2)."""
    return module.exp(-x * x) * x.dtype.type(2 / math.sqrt(math.pi))


def _inverse(module: Any, x: Any, out: Any) -> Any:
    """Inverse of erf for float64 numbers: Giles' approximation, and two steps of Newton's iteration."""
    size = module.abs(x)
    inside = module.minimum(size, 1.0 - 1e-17)
    w = -module.log1p(-inside) - module.log1p(inside)
    near = _polynomial(module, module.minimum(w, 5.0) - 2.5, _INVERSE_NEAR)
    far = _polynomial(module, module.sqrt(module.maximum(w, 5.0)) - 3.0, _INVERSE_FAR)
    y = module.where(w < 5.0, near, far) * inside
    for _ in range(2):
        # The error of erf(y) where y is small, of 1 - erf(y) where erf is nearly 1: both keep their digits.
        error = module.where(y < 0.5, _double(module, y, None) - size, (1.0 - size) - _complement(module, y, None))
        y -= error * module.exp(y * y) * (math.sqrt(math.pi) / 2)
    y = module.where(size == 1.0, math.inf, module.where(size < 1.0, y, math.nan))
    return _stored(module, module.copysign(y, x), out)


def _inverse_single(module: Any, x: Any, out: Any) -> Any:
    return _stored(module, _inverse(module, x.astype(FLOAT64), None).astype(x.dtype), out)


def erfinv(module: Any, x: Any, out: Any = None) -> Any:
    """The number whose error function is x; infinite at -1 and 1, NaN beyond."""
    return _evaluate(_inverse_single, _inverse, module, x, out)
