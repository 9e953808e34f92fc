"""Losses of each element that are likelihoods, averaged or summed in the same pass over the data.

    binary_cross_entropy -w (t log x + (1 - t) log(1 - x)), logarithms at least -100
    binary_cross_entropy_with_logits
                         w ((1 - t) x + (1 + (p - 1) t) log(1 + exp(-x))), p the weight of the positive class
    kl_div               t (log t - x), or exp(t) (t - x) of a logarithmic target
    poisson_nll_loss     exp(x) - t x, or x - t log(x + eps); full: and Stirling's log t! where t > 1
    gaussian_nll_loss    (log v + (x - t)^2 / v) / 2, v at least eps; full: and log(2 pi) / 2

PyTorch's definitions; see ``gpunet.ops.losses``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunet.backend.error_word import check_values
from gpunet.ops.base import register
from gpunet.ops.chunked import Work, select
from gpunet.ops.dtypes import BOOL
from gpunet.ops.losses import PAIR, ElementwiseLoss, negated, weighted, weighted_draw
from gpunet.ops.smooth_activations import log1p_exp_negative, sigmoid_of


def _logarithms(work: Work, x: Any, yes: Any, no: Any) -> None:
    """log x and log(1 - x), at least -100."""
    m = work.module
    m.log(x, out=yes)
    m.maximum(yes, -100.0, out=yes)
    m.negative(x, out=no)
    m.log1p(no, out=no)
    m.maximum(no, -100.0, out=no)


def _bce(work: Work, x: Any, t: Any, w: Any, out: Any) -> None:
    m = work.module
    no = work("a")
    _logarithms(work, x, out, no)  # -(no + t (yes - no))
    m.subtract(out, no, out=out)
    m.multiply(out, t, out=out)
    m.add(out, no, out=out)
    m.negative(out, out=out)
    weighted(work, out, w)


def _bce_slope(work: Work, x: Any, t: Any, w: Any, out: Any) -> None:
    m = work.module
    part = work("a")
    m.subtract(1.0, x, out=part)
    m.multiply(part, x, out=part)
    m.maximum(part, 1e-12, out=part)
    m.subtract(x, t, out=out)
    m.divide(out, part, out=out)
    weighted(work, out, w)


def _bce_target_slope(work: Work, x: Any, t: Any, w: Any, out: Any) -> None:
    no = work("a")
    _logarithms(work, x, out, no)
    work.module.subtract(no, out, out=out)
    weighted(work, out, w)


def _probabilities(module: Any, x: Any, t: Any, *others: Any) -> None:
    for kind, values in (("probability", x), ("target probability", t)):
        if module is not np:
            check_values(kind, ~((values >= 0) & (values <= 1)))
        elif values.size and not (values.min() >= 0 and values.max() <= 1):
            found = values[~((values >= 0) & (values <= 1))][0]
            check_values(kind, np.asarray(True), f"got {float(found):g}")


def _bce_logits(work: Work, x: Any, t: Any, w: Any, p: Any, out: Any) -> None:
    m = work.module
    part = work("a")
    log1p_exp_negative(work, x, out)  # log(1 + exp(-x)) = this + max(-x, 0)
    m.minimum(x, 0.0, out=part)
    m.subtract(out, part, out=out)
    if p is not None:
        _class_factor(work, t, p, part)
        m.multiply(out, part, out=out)
    m.subtract(1.0, t, out=part)
    m.multiply(part, x, out=part)
    m.add(out, part, out=out)
    weighted(work, out, w)


def _class_factor(work: Work, t: Any, p: Any, out: Any) -> None:
    """1 + (p - 1) t."""
    m = work.module
    m.subtract(p, 1.0, out=out)
    m.multiply(out, t, out=out)
    m.add(out, 1.0, out=out)


def _bce_logits_slope(work: Work, x: Any, t: Any, w: Any, p: Any, out: Any) -> None:
    m = work.module
    sigmoid_of(work, x, out)
    if p is None:
        m.subtract(out, t, out=out)
    else:  # (1 + (p - 1) t) sigmoid(x) - p t
        part = work("a")
        _class_factor(work, t, p, part)
        m.multiply(out, part, out=out)
        m.multiply(p, t, out=part)
        m.subtract(out, part, out=out)
    weighted(work, out, w)


def _bce_logits_target_slope(work: Work, x: Any, t: Any, w: Any, p: Any, out: Any) -> None:
    m = work.module
    if p is None:
        m.negative(x, out=out)
    else:  # (p - 1) log(1 + exp(-x)) - x
        part = work("a")
        log1p_exp_negative(work, x, out)
        m.minimum(x, 0.0, out=part)
        m.subtract(out, part, out=out)
        m.subtract(p, 1.0, out=part)
        m.multiply(out, part, out=out)
        m.subtract(out, x, out=out)
    weighted(work, out, w)


def _kl(work: Work, x: Any, t: Any, out: Any, *, log_target: bool) -> None:
    m = work.module
    if log_target:
        part = work("a")
        m.exp(t, out=part)
        m.subtract(t, x, out=out)
        m.multiply(out, part, out=out)
        return
    _x_log_x(work, t, out)
    m.multiply(t, x, out=work("a"))
    m.subtract(out, work("a"), out=out)


def _x_log_x(work: Work, t: Any, out: Any) -> None:
    """t log t, 0 where t is 0."""
    m = work.module
    mask = m.not_equal(t, 0, out=work("mask", BOOL))
    m.log(t, out=out)
    m.multiply(out, t, out=out)
    select(out, mask, out, work)


def _kl_slope(work: Work, x: Any, t: Any, out: Any, *, log_target: bool) -> None:
    m = work.module
    if log_target:
        m.exp(t, out=out)
        m.negative(out, out=out)
    else:
        m.negative(t, out=out)


def _kl_target_slope(work: Work, x: Any, t: Any, out: Any, *, log_target: bool) -> None:
    m = work.module
    if log_target:
        m.exp(t, out=work("a"))
        m.subtract(t, x, out=out)
    else:
        m.log(t, out=out)
        m.subtract(out, x, out=out)
    m.add(out, 1.0, out=out)
    if log_target:
        m.multiply(out, work("a"), out=out)


def _poisson(work: Work, x: Any, t: Any, out: Any, *, log_input: bool, full: bool, eps: float) -> None:
    m = work.module
    part = work("a")
    if log_input:
        m.exp(x, out=out)
        m.multiply(t, x, out=part)
        m.subtract(out, part, out=out)
    else:
        m.add(x, eps, out=part)
        m.log(part, out=part)
        m.multiply(part, t, out=part)
        m.subtract(x, part, out=out)
    if full:  # log t! = t log t - t + log(2 pi t) / 2
        mask = m.greater(t, 1, out=work("mask", BOOL))
        m.multiply(t, 2 * math.pi, out=part)
        m.log(part, out=part)
        m.multiply(part, 0.5, out=part)
        m.subtract(part, t, out=part)
        logarithm = work("b")
        m.log(t, out=logarithm)
        m.multiply(logarithm, t, out=logarithm)
        m.add(part, logarithm, out=part)
        m.add(out, select(part, mask, part, work), out=out)


def _poisson_slope(work: Work, x: Any, t: Any, out: Any, *, log_input: bool, full: bool, eps: float) -> None:
    m = work.module
    if log_input:
        m.exp(x, out=out)
        m.subtract(out, t, out=out)
    else:
        m.add(x, eps, out=out)
        m.divide(t, out, out=out)
        m.subtract(1.0, out, out=out)


def _poisson_target_slope(work: Work, x: Any, t: Any, out: Any, *, log_input: bool, full: bool, eps: float) -> None:
    m = work.module
    if log_input:
        m.negative(x, out=out)
    else:
        m.add(x, eps, out=out)
        m.log(out, out=out)
        m.negative(out, out=out)
    if full:  # log t + 1 / (2 t)
        part, half = work("a"), work("b")
        mask = m.greater(t, 1, out=work("mask", BOOL))
        m.log(t, out=part)
        m.divide(0.5, t, out=half)
        m.add(part, half, out=part)
        m.add(out, select(part, mask, part, work), out=out)


def _gaussian(work: Work, x: Any, t: Any, v: Any, out: Any, *, full: bool, eps: float) -> None:
    m = work.module
    variance = m.maximum(v, eps, out=work("a"))
    m.subtract(x, t, out=out)
    m.multiply(out, out, out=out)
    m.divide(out, variance, out=out)
    m.log(variance, out=variance)
    m.add(out, variance, out=out)
    m.multiply(out, 0.5, out=out)
    if full:
        m.add(out, 0.5 * math.log(2 * math.pi), out=out)


def _gaussian_slope(work: Work, x: Any, t: Any, v: Any, out: Any, *, full: bool, eps: float) -> None:
    m = work.module
    m.subtract(x, t, out=out)
    m.divide(out, m.maximum(v, eps, out=work("a")), out=out)


def _gaussian_variance_slope(work: Work, x: Any, t: Any, v: Any, out: Any, *, full: bool, eps: float) -> None:
    m = work.module
    variance = m.maximum(v, eps, out=work("a"))  # (1 - (x - t)^2 / v) / (2 v); the limit counts as v itself
    m.subtract(x, t, out=out)
    m.multiply(out, out, out=out)
    m.divide(out, variance, out=out)
    m.subtract(1.0, out, out=out)
    m.divide(out, variance, out=out)
    m.multiply(out, 0.5, out=out)


def _variances(module: Any, x: Any, t: Any, v: Any) -> None:
    check_values("variance", v < 0)


def _check_eps(full: bool, eps: float) -> None:
    if eps < 0:
        raise ValueError(f"gaussian_nll_loss: eps must not be negative, got {eps}")


def _probable(rng: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    return rng.random(shape) * 0.8 + 0.1, rng.random(shape), rng.random(shape) + 0.5


def _logits(rng: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    return rng.standard_normal(shape) * 3, rng.random(shape), rng.random(shape) + 0.5, rng.random(shape) + 0.5


def _positive(rng: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    return rng.random(shape) + 0.2, rng.random(shape) + rng.choice([0.3, 1.2], shape)


register(
    ElementwiseLoss(
        "binary_cross_entropy",
        (*PAIR, "weight"),
        _bce,
        (_bce_slope, _bce_target_slope, None),
        same_shape=True,
        draw=_probable,
        guard=_probabilities,
    )
)
register(
    ElementwiseLoss(
        "binary_cross_entropy_with_logits",
        (*PAIR, "weight", "pos_weight"),
        _bce_logits,
        (_bce_logits_slope, _bce_logits_target_slope, None, None),
        same_shape=True,
        draw=_logits,
    )
)
register(
    ElementwiseLoss(
        "kl_div",
        PAIR,
        _kl,
        (_kl_slope, _kl_target_slope),
        samples=({"log_target": False}, {"log_target": True}),
        draw=_positive,
    )
)
register(
    ElementwiseLoss(
        "poisson_nll_loss",
        PAIR,
        _poisson,
        (_poisson_slope, _poisson_target_slope),
        samples=tuple({"log_input": log, "full": full, "eps": 1e-8} for log in (True, False) for full in (True, False)),
        draw=_positive,
    )
)
register(
    ElementwiseLoss(
        "gaussian_nll_loss",
        (*PAIR, "var"),
        _gaussian,
        (_gaussian_slope, negated(_gaussian_slope), _gaussian_variance_slope),
        samples=({"full": False, "eps": 1e-6}, {"full": True, "eps": 1e-6}),
        draw=weighted_draw,
        check=_check_eps,
        guard=_variances,
    )
)
