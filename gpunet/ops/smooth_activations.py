"""Smooth activations, and those with an exponential on one side.

    sigmoid      1 / (1 + exp(-x))                     logsigmoid   -log(1 + exp(-x))
    elu          x > 0: x, else a (exp(x) - 1)         celu         max(x, 0) + min(a (exp(x / a) - 1), 0)
    selu         s elu(x) (Klambauer et al. 2017)      softplus     log(1 + exp(b x)) / b; x where b x > threshold
    gelu         x P(X <= x), X standard normal, or 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
    silu         x sigmoid(x)                          mish         x tanh(log(1 + exp(x)))
    softsign     x / (1 + |x|)                         tanhshrink   x - tanh(x)

What is kept for backward is the input or the output, as ``gpunet.ops.activations`` explains.
"""

from __future__ import annotations

import math
from typing import Any

from gpunet.ops.activations import Activation, one_or
from gpunet.ops.base import register
from gpunet.ops.chunked import Work, select
from gpunet.ops.dtypes import BOOL
from gpunet.ops.special import erf

__all__ = ["log1p_exp_negative", "sigmoid_of"]

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946
_SQRT_HALF = math.sqrt(0.5)
_NORMAL = 1 / math.sqrt(2 * math.pi)
_GELU_TANH = math.sqrt(2 / math.pi)


def sigmoid_of(work: Work, x: Any, out: Any) -> None:
    """1 / (1 + exp(-x)). An overflow gives the right limit, and small results keep their digits."""
    m = work.module
    m.negative(x, out=out)
    m.exp(out, out=out)
    m.add(out, 1.0, out=out)
    m.reciprocal(out, out=out)


def _sigmoid(work: Work, x: Any, y: Any) -> None:
    sigmoid_of(work, x, y)


def _sigmoid_slope(work: Work, grad: Any, y: Any, dx: Any) -> None:
    m = work.module
    part = work("a")
    m.subtract(1.0, y, out=part)
    m.multiply(part, y, out=part)
    m.multiply(part, grad, out=dx)


def _tanh(work: Work, x: Any, y: Any) -> None:
    work.module.tanh(x, out=y)


def _tanh_slope(work: Work, grad: Any, y: Any, dx: Any) -> None:
    m = work.module
    part = work("a")
    m.subtract(1.0, y, out=part)  # 1 - y^2 would lose the digits of a y near 1
    m.add(y, 1.0, out=dx)
    m.multiply(part, dx, out=dx)
    m.multiply(dx, grad, out=dx)


def _elu(work: Work, x: Any, y: Any, *, alpha: float) -> None:
    m = work.module
    part = work("a")
    m.minimum(x, 0, out=part)
    m.expm1(part, out=part)
    m.multiply(part, alpha, out=part)
    m.maximum(x, 0, out=y)
    m.add(y, part, out=y)


def _elu_slope(work: Work, grad: Any, x: Any, dx: Any, *, alpha: float) -> None:
    m = work.module
    m.minimum(x, 0, out=dx)
    m.exp(dx, out=dx)
    if alpha != 1:
        factor = work("a")
        one_or(work, x, alpha, factor)
        m.multiply(dx, factor, out=dx)
    m.multiply(dx, grad, out=dx)


def _selu(work: Work, x: Any, y: Any) -> None:
    _elu(work, x, y, alpha=SELU_ALPHA)
    work.module.multiply(y, SELU_SCALE, out=y)


def _selu_slope(work: Work, grad: Any, x: Any, dx: Any) -> None:
    _elu_slope(work, grad, x, dx, alpha=SELU_ALPHA)
    work.module.multiply(dx, SELU_SCALE, out=dx)


def _celu(work: Work, x: Any, y: Any, *, alpha: float) -> None:
    m = work.module
    part = work("a")
    m.multiply(x, 1.0 / alpha, out=part)
    m.minimum(part, 0, out=part)
    m.expm1(part, out=part)
    m.multiply(part, alpha, out=part)
    m.maximum(x, 0, out=y)
    m.add(y, part, out=y)


def _celu_slope(work: Work, grad: Any, x: Any, dx: Any, *, alpha: float) -> None:
    m = work.module
    m.minimum(x, 0, out=dx)
    m.multiply(dx, 1.0 / alpha, out=dx)
    m.exp(dx, out=dx)
    m.multiply(dx, grad, out=dx)


def _check_celu(alpha: float) -> None:
    if alpha == 0:
        raise ValueError("celu: alpha must not be zero")


def _gelu(work: Work, x: Any, y: Any, *, approximate: str) -> None:
    m = work.module
    if approximate == "none":
        _normal_cdf(work, x, y)
    else:
        _gelu_inner(work, x, y)
        m.tanh(y, out=y)
        m.multiply(y, 0.5, out=y)
        m.add(y, 0.5, out=y)
    m.multiply(y, x, out=y)


def _normal_cdf(work: Work, x: Any, out: Any) -> None:
    """P(X <= x) of a standard normal X: (1 + erf(x / sqrt 2)) / 2."""
    m = work.module
    m.multiply(x, _SQRT_HALF, out=out)
    out[...] = erf(m, out)
    m.multiply(out, 0.5, out=out)
    m.add(out, 0.5, out=out)


def _gelu_inner(work: Work, x: Any, out: Any) -> None:
    """sqrt(2 / pi) (x + 0.044715 x^3)."""
    m = work.module
    m.multiply(x, x, out=out)
    m.multiply(out, 0.044715 * _GELU_TANH, out=out)
    m.add(out, _GELU_TANH, out=out)
    m.multiply(out, x, out=out)


def _gelu_slope(work: Work, grad: Any, x: Any, dx: Any, *, approximate: str) -> None:
    m = work.module
    part = work("a")
    if approximate == "none":  # cdf(x) + x pdf(x)
        _normal_cdf(work, x, dx)
        m.multiply(x, x, out=part)
        m.multiply(part, -0.5, out=part)
        m.exp(part, out=part)
        m.multiply(part, _NORMAL, out=part)
        m.multiply(part, x, out=part)
    else:  # with t = tanh(u): (1 + t) / 2 + x (1 - t^2) / 2 du/dx
        _gelu_inner(work, x, dx)
        m.tanh(dx, out=dx)
        derivative = work("b")
        m.multiply(x, x, out=part)
        m.multiply(part, 1.5 * 0.044715 * _GELU_TANH, out=part)
        m.add(part, 0.5 * _GELU_TANH, out=part)
        m.multiply(part, x, out=part)
        m.multiply(dx, dx, out=derivative)
        m.subtract(1.0, derivative, out=derivative)
        m.multiply(part, derivative, out=part)
        m.multiply(dx, 0.5, out=dx)
        m.add(dx, 0.5, out=dx)
    m.add(dx, part, out=dx)
    m.multiply(dx, grad, out=dx)


def _check_gelu(approximate: str) -> None:
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")


def _silu(work: Work, x: Any, y: Any) -> None:
    m = work.module
    m.negative(x, out=y)
    m.exp(y, out=y)
    m.add(y, 1.0, out=y)
    m.divide(x, y, out=y)


def _silu_slope(work: Work, grad: Any, x: Any, dx: Any) -> None:
    m = work.module
    part = work("a")
    sigmoid_of(work, x, dx)  # s (1 + x (1 - s))
    m.subtract(1.0, dx, out=part)
    m.multiply(part, x, out=part)
    m.add(part, 1.0, out=part)
    m.multiply(dx, part, out=dx)
    m.multiply(dx, grad, out=dx)


# Above this tanh(log(1 + exp(x))) is 1 in float64, and the powers of exp(x) below still fit float32.
_MISH_ONE = 20.0


def _mish_parts(work: Work, x: Any, e: Any, n: Any) -> None:
    """e = exp(x) and n = e (e + 2): tanh(log(1 + e)) = n / (n + 2)."""
    m = work.module
    m.minimum(x, _MISH_ONE, out=e)
    m.exp(e, out=e)
    m.add(e, 2.0, out=n)
    m.multiply(n, e, out=n)


def _mish(work: Work, x: Any, y: Any) -> None:
    m = work.module
    part = work("a")
    _mish_parts(work, x, part, y)
    m.add(y, 2.0, out=part)
    m.divide(y, part, out=y)
    m.multiply(y, x, out=y)


def _mish_slope(work: Work, grad: Any, x: Any, dx: Any) -> None:
    m = work.module
    e, n, limited = work("a"), work("b"), work("c")
    _mish_parts(work, x, e, n)  # n / (n + 2) + 4 x e (e + 1) / (n + 2)^2
    m.minimum(x, _MISH_ONE, out=limited)  # the second term is 0 above, also at infinity
    m.add(e, 1.0, out=dx)
    m.multiply(e, dx, out=e)
    m.multiply(e, 4.0, out=e)
    m.multiply(e, limited, out=e)
    m.add(n, 2.0, out=dx)
    m.divide(e, dx, out=e)
    m.add(e, n, out=e)
    m.divide(e, dx, out=dx)
    m.multiply(dx, grad, out=dx)


def log1p_exp_negative(work: Work, x: Any, out: Any) -> None:
    """log(1 + exp(-|x|))."""
    m = work.module
    m.abs(x, out=out)
    m.negative(out, out=out)
    m.exp(out, out=out)
    m.log1p(out, out=out)


def _logsigmoid(work: Work, x: Any, y: Any) -> None:
    m = work.module
    part = work("a")
    log1p_exp_negative(work, x, part)
    m.minimum(x, 0.0, out=y)
    m.subtract(y, part, out=y)


def _logsigmoid_slope(work: Work, grad: Any, y: Any, dx: Any) -> None:
    m = work.module
    m.expm1(y, out=dx)  # 1 - sigmoid(x) = -(exp(y) - 1)
    m.negative(dx, out=dx)
    m.multiply(dx, grad, out=dx)


def _softplus(work: Work, x: Any, y: Any, *, beta: float, threshold: float) -> None:
    m = work.module
    scaled, mask = work("a"), work("mask", BOOL)
    m.multiply(x, beta, out=scaled)
    m.less_equal(scaled, threshold, out=mask)
    log1p_exp_negative(work, scaled, y)
    select(y, mask, y, work)  # above the threshold the logarithm counts nothing
    m.maximum(scaled, 0.0, out=scaled)
    if threshold < 0:  # there too the result is x itself
        extra = work("b")
        m.multiply(x, beta, out=extra)
        m.minimum(extra, 0.0, out=extra)
        m.logical_not(mask, out=mask)
        select(extra, mask, extra, work)
        m.add(scaled, extra, out=scaled)
    m.add(y, scaled, out=y)
    m.multiply(y, 1.0 / beta, out=y)


def _softplus_slope(work: Work, grad: Any, x: Any, dx: Any, *, beta: float, threshold: float) -> None:
    m = work.module
    scaled = work("a")
    m.multiply(x, beta, out=scaled)
    mask = m.greater(scaled, threshold, out=work("mask", BOOL))
    sigmoid_of(work, scaled, dx)
    scaled[...] = mask
    m.maximum(dx, scaled, out=dx)  # a sigmoid is at most 1
    m.multiply(dx, grad, out=dx)


def _check_softplus(beta: float, threshold: float) -> None:
    if beta == 0:
        raise ValueError("softplus: beta must not be zero")


def _softsign(work: Work, x: Any, y: Any) -> None:
    m = work.module
    m.abs(x, out=y)
    m.add(y, 1.0, out=y)
    m.divide(x, y, out=y)


def _softsign_slope(work: Work, grad: Any, x: Any, dx: Any) -> None:
    m = work.module
    m.abs(x, out=dx)
    m.add(dx, 1.0, out=dx)
    m.multiply(dx, dx, out=dx)
    m.divide(grad, dx, out=dx)


def _tanhshrink(work: Work, x: Any, y: Any) -> None:
    m = work.module
    m.tanh(x, out=y)
    m.subtract(x, y, out=y)


def _tanhshrink_slope(work: Work, grad: Any, x: Any, dx: Any) -> None:
    m = work.module
    m.tanh(x, out=dx)
    m.multiply(dx, dx, out=dx)
    m.multiply(dx, grad, out=dx)


register(Activation("sigmoid", _sigmoid, _sigmoid_slope, keep="y", integers="float"))
register(Activation("tanh", _tanh, _tanh_slope, keep="y", integers="float"))
register(
    Activation(
        "elu", _elu, _elu_slope, samples=({"alpha": 1.0}, {"alpha": 0.3}, {"alpha": 2.0}, {"alpha": -1.0}), kinks=(0.0,)
    )
)
register(Activation("selu", _selu, _selu_slope, kinks=(0.0,)))
register(
    Activation("celu", _celu, _celu_slope, samples=({"alpha": 1.0}, {"alpha": 0.3}, {"alpha": 3.0}), check=_check_celu)
)
register(
    Activation(
        "gelu", _gelu, _gelu_slope, samples=({"approximate": "none"}, {"approximate": "tanh"}), check=_check_gelu
    )
)
register(Activation("silu", _silu, _silu_slope))
register(Activation("mish", _mish, _mish_slope))
register(Activation("logsigmoid", _logsigmoid, _logsigmoid_slope, keep="y"))
register(
    Activation(
        "softplus",
        _softplus,
        _softplus_slope,
        samples=({"beta": 1.0, "threshold": 20.0}, {"beta": 2.5, "threshold": 20.0}, {"beta": 0.5, "threshold": 60.0}),
        check=_check_softplus,
        autocast="float32",
    )
)
register(Activation("softsign", _softsign, _softsign_slope, integers="numbers"))
register(Activation("tanhshrink", _tanhshrink, _tanhshrink_slope, integers="numbers"))
