"""The likelihood of a mixture of normal distributions, and draws from one: mixture density networks (Bishop 1994).

    p(t) = sum over k of pi_k prod over o of N(t_o; mu_ko, sigma_ko^2)

K components, each with a mean and a standard deviation for each of O outputs.
"""

from __future__ import annotations

import math
from typing import Any

from gpunet.autograd import Tensor, no_grad, randn
from gpunet.autograd.types import finfo
from gpunet.backend.devices import on_device
from gpunet.backend.error_word import check_values
from gpunet.backend.errors import ShapeError
from gpunet.backend.random import Generator
from gpunet.ops.base import require_floating, require_same_dtype
from gpunet.ops.losses import check_reduction

__all__ = ["mdn_loss", "mdn_sample"]


def _check(name: str, log_pi: Tensor, mu: Tensor, sigma: Tensor) -> None:
    for argument, x in (("log_pi", log_pi), ("mu", mu), ("sigma", sigma)):
        require_floating(name, argument, x)
    require_same_dtype(name, log_pi=log_pi, mu=mu, sigma=sigma)
    if mu.ndim < 2 or tuple(mu.shape[:-1]) != tuple(log_pi.shape):
        raise ShapeError(
            f"{name}: mu must be (..., K, O) where log_pi is (..., K), got shapes {tuple(mu.shape)} and "
            f"{tuple(log_pi.shape)}"
        )
    if sigma.shape != mu.shape:
        raise ShapeError(f"{name}: sigma must have mu's shape {tuple(mu.shape)}, got {tuple(sigma.shape)}")


def _check_sums(log_pi: Tensor) -> None:
    """Report what are no logarithms of probabilities: probabilities themselves have an exp of at least e in sum.

    So the tolerance may be wide: what log_softmax rounds in bfloat16 passes, and so do finite differences.
    """
    with no_grad():
        sums = log_pi.detach().logsumexp(-1)
        tolerance = max(1e-2, 32 * finfo(log_pi.dtype).eps)
        bad = (~(sums.abs() <= tolerance))._array  # NaN is bad
        detail = ""
        if log_pi.device.type == "cpu" and bad.any():
            detail = f"got a sum of {math.exp(min(float(sums._array[bad][0]), 700.0)):g}"
        check_values("log probability", bad, detail)


def _first(values: Any, bad: Any) -> str:
    return f"got {float(values[bad][0]):g}" if bad.any() else ""


def mdn_loss(log_pi: Tensor, mu: Tensor, sigma: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """-log p(target) under a mixture of K normal distributions. gpunet's own.

    The logarithm of the sum is taken as logsumexp: the densities themselves underflow where a target is far from every
    component. With K = 1 it is ``gaussian_nll_loss(mu, target, sigma**2, full=True)``, summed over the outputs.

    Args:
        log_pi: (..., K), logarithms of the probabilities of the components, as log_softmax gives them.
        mu: (..., K, O), means.
        sigma: (..., K, O), standard deviations; positive.
        target: (..., O).
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, over the samples.

    Returns:
        A number, or the shape of log_pi without K.

    Raises:
        ShapeError: shapes that do not fit.
        DTypeError: dtypes that differ.
        ValueError: another reduction; a sigma that is not positive, or NaN; a log_pi whose exp does not sum to 1 over
            K, as of probabilities or scores. On a GPU values are reported at the next point of synchronisation.
    """
    check_reduction("mdn_loss", reduction)
    _check("mdn_loss", log_pi, mu, sigma)
    wanted = (*mu.shape[:-2], mu.shape[-1])
    if tuple(target.shape) != wanted:
        raise ShapeError(f"mdn_loss: target must have shape (..., O) = {wanted}, got {tuple(target.shape)}")
    require_same_dtype("mdn_loss", mu=mu, target=target)
    if not sigma.is_meta:
        with on_device(sigma.device):
            bad = ~(sigma._array > 0)
            check_values("deviation", bad, _first(sigma._array, bad) if sigma.device.type == "cpu" else "")
            _check_sums(log_pi)
    distance = (target.unsqueeze(-2) - mu) / sigma
    log_density = -0.5 * distance**2 - sigma.log() - 0.5 * math.log(2 * math.pi)
    losses = -(log_pi + log_density.sum(-1)).logsumexp(-1)
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def mdn_sample(log_pi: Tensor, mu: Tensor, sigma: Tensor, *, generator: Generator | None = None) -> Tensor:
    """A draw from each mixture: a component by its probability, then from its normal distributions. gpunet's own.

    Args:
        log_pi: (..., K), logarithms of the probabilities of the components.
        mu: (..., K, O), means.
        sigma: (..., K, O), standard deviations.
        generator: where the numbers come from; the default one if None.

    Returns:
        (..., O), without gradient.

    Raises:
        ShapeError: shapes that do not fit.
        DTypeError: dtypes that differ.
    """
    _check("mdn_sample", log_pi, mu, sigma)
    with no_grad():
        shape = (*mu.shape[:-2], mu.shape[-1])
        count, outputs = mu.shape[-2:]
        rows = log_pi.softmax(-1).reshape(-1, count)
        if not rows.shape[0] or not outputs:
            return mu.new_zeros(shape)
        chosen = rows.multinomial(1, generator=generator).reshape(-1, 1, 1).expand(-1, 1, outputs)
        centre, spread = (x.reshape(-1, count, outputs).gather(1, chosen).reshape(shape) for x in (mu, sigma))
        return centre + spread * randn(shape, generator=generator, dtype=mu.dtype, device=mu.device)
