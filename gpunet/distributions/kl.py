"""The Kullback-Leibler divergence of two distributions."""

from __future__ import annotations

import math
from typing import Any

from gpunet.autograd import Tensor
from gpunet.autograd.joining import broadcast_shapes
from gpunet.distributions.bernoulli import Bernoulli
from gpunet.distributions.categorical import Categorical
from gpunet.distributions.distribution import Distribution
from gpunet.distributions.independent import Independent
from gpunet.distributions.normal import Normal
from gpunet.distributions.uniform import Uniform

__all__ = ["kl_divergence"]


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """KL(p || q): the expectation under p of log p(x) - log q(x), in nats.

    It is 0 where both are the same, positive otherwise, and not symmetric.

    Args:
        p: Normal, Uniform, Bernoulli, Categorical, or Independent of one of them.
        q: of the same family; or Uniform for a Normal, and Normal for a Uniform.

    Returns:
        the shape to which the batches broadcast.

    Raises:
        NotImplementedError: other families.
    """
    divergence: Any = _DIVERGENCES.get((type(p), type(q)))
    if divergence is None:
        raise NotImplementedError(f"kl_divergence: not had for {type(p).__name__} and {type(q).__name__}")
    result: Tensor = divergence(p, q)
    return result


def _normal(p: Normal, q: Normal) -> Tensor:
    ratio = (p.scale / q.scale) ** 2
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1 - ratio.log())


def _uniform(p: Uniform, q: Uniform) -> Tensor:
    divergence = ((q.high - q.low) / (p.high - p.low)).log()
    return divergence.masked_fill((q.low > p.low) | (q.high < p.high), math.inf)


def _normal_uniform(p: Normal, q: Uniform) -> Tensor:
    """Infinite: p gives values that q never gives."""
    return p.loc.new_full(broadcast_shapes(p.batch_shape, q.batch_shape), math.inf)


def _uniform_normal(p: Uniform, q: Normal) -> Tensor:
    """log(sqrt(2 pi) scale / (high - low)) + E[(x - loc)^2] / (2 scale^2), x being uniform."""
    width, middle = p.high - p.low, (p.high + p.low) / 2
    square = width**2 / 12 + (middle - q.loc) ** 2
    return (math.sqrt(2 * math.pi) * q.scale / width).log() + 0.5 * square / q.scale**2


def _bernoulli(p: Bernoulli, q: Bernoulli) -> Tensor:
    a, b = p.probs, q.probs
    return _term(a, b) + _term(1 - a, 1 - b)


def _categorical(p: Categorical, q: Categorical) -> Tensor:
    divergence = p.probs * (p.logits - q.logits)
    divergence = divergence.masked_fill((q.probs == 0).expand(divergence.shape), math.inf)
    return divergence.masked_fill((p.probs == 0).expand(divergence.shape), 0.0).sum(-1)


def _term(a: Tensor, b: Tensor) -> Tensor:
    """a log(a / b): nothing where a is 0, infinite where b alone is."""
    return a.xlogy(a) - a.xlogy(b)


def _independent(p: Independent, q: Independent) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError("kl_divergence: not had for events of different dimensions")
    return p._summed(kl_divergence(p.base_dist, q.base_dist))


_DIVERGENCES = {
    (Normal, Normal): _normal,
    (Uniform, Uniform): _uniform,
    (Normal, Uniform): _normal_uniform,
    (Uniform, Normal): _uniform_normal,
    (Bernoulli, Bernoulli): _bernoulli,
    (Categorical, Categorical): _categorical,
    (Independent, Independent): _independent,
}
