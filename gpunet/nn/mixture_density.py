"""Mixture density networks: an output that is a distribution, not a number."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import gpunet.nn.functional as F
from gpunet.autograd import Tensor
from gpunet.autograd.types import finfo
from gpunet.backend.random import Generator
from gpunet.nn import init
from gpunet.nn.arguments import check_int, check_number
from gpunet.nn.linear import Linear
from gpunet.nn.module import Module

__all__ = ["MDN", "MixtureParameters"]


class MixtureParameters(NamedTuple):
    """A mixture of K normal distributions of O outputs for each sample, as ``F.mdn_loss`` takes it.

    Attributes:
        log_pi: (..., K), logarithms of the components' probabilities.
        mu: (..., K, O), means.
        sigma: (..., K, O), standard deviations, positive.
    """

    log_pi: Tensor
    mu: Tensor
    sigma: Tensor

    @property
    def pi(self) -> Tensor:
        """(..., K), the components' probabilities, which sum to 1."""
        return self.log_pi.exp()

    @property
    def mean(self) -> Tensor:
        """(..., O), the mixture's expectation, sum of pi_k mu_k: what a network trained on squares would give."""
        return (self.pi.unsqueeze(-1) * self.mu).sum(-2)


class MDN(Module):
    """The last layer of a mixture density network: Bishop 1994, "Mixture density networks". gpunet's own.

        pi = softmax(h W_pi^T + b_pi);  mu = h W_mu^T + b_mu;  sigma = exp(h W_sigma^T + b_sigma) + min_sigma

    Where exp would pass the square root of the dtype's largest number (1.8e19 in float32), sigma goes on along the
    tangent there: it stays finite for exponents up to about that root, and has a gradient that leads back.

    The network before it gives h. Where several outputs fit an input, squared error finds their mean, which may fit
    none; a mixture keeps them apart. Trained with ``F.mdn_loss(*layer(h), target)``.

    Args:
        in_features: size of h.
        out_features: O, numbers that are to be predicted.
        num_gaussians: K, components.
        min_sigma: what every standard deviation exceeds: a component that sits on one target must not become
            infinitely dense.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        pi, mu, log_sigma: Linear layers with K, K O and K O outputs.

    Raises:
        ValueError, TypeError: a size that is no positive integer; a min_sigma that is not positive.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_gaussians: int,
        min_sigma: float = 1e-6,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.in_features = check_int("MDN", "in_features", in_features, 1)
        self.out_features = check_int("MDN", "out_features", out_features, 1)
        self.num_gaussians = check_int("MDN", "num_gaussians", num_gaussians, 1)
        if not check_number("MDN", "min_sigma", min_sigma) > 0:
            raise ValueError(f"MDN: min_sigma must be positive, got {min_sigma}")
        self.min_sigma = min_sigma
        count, both = self.num_gaussians, self.num_gaussians * self.out_features
        self.pi = Linear(self.in_features, count, device=device, dtype=dtype)
        self.mu = Linear(self.in_features, both, device=device, dtype=dtype)
        self.log_sigma = Linear(self.in_features, both, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew."""
        for layer in (self.pi, self.mu, self.log_sigma):
            layer.reset_parameters()

    def spread_(self, low: float, high: float) -> MDN:
        """Let the components start apart: means evenly between two values, deviations half of their distance.

        At first no mean and no deviation depends on the input. Components that start alike, as those of the first
        weights do, often learn to be one wide component, from which training does not come back.

        Args:
            low: where the targets begin.
            high: where they end.

        Raises:
            ValueError: high is not above low.
        """
        if not low < high:
            raise ValueError(f"spread_: high must be above low, got {low} and {high}")
        step = (high - low) / self.num_gaussians
        for layer in (self.mu, self.log_sigma):
            init.zeros_(layer.weight)
        centres = [low + (k + 0.5) * step for k in range(self.num_gaussians) for _ in range(self.out_features)]
        for layer, values in ((self.mu, centres), (self.log_sigma, [math.log(0.5 * step)] * len(centres))):
            if layer.bias is not None:
                layer.bias.data.copy_(layer.bias.new_tensor(values))
        return self

    def forward(self, input: Tensor) -> MixtureParameters:
        """(..., in_features) to a mixture: log_pi (..., K), mu and sigma (..., K, O)."""
        shape = (*input.shape[:-1], self.num_gaussians, self.out_features)
        return MixtureParameters(
            self.pi(input).log_softmax(-1),
            self.mu(input).reshape(shape),
            _limited_exp(self.log_sigma(input)).reshape(shape) + self.min_sigma,
        )

    def sample(self, input: Tensor, *, generator: Generator | None = None) -> Tensor:
        """A draw for each input, (..., in_features) to (..., out_features), without gradient."""
        return F.mdn_sample(*self(input), generator=generator)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, num_gaussians={self.num_gaussians}, "
            f"min_sigma={self.min_sigma}"
        )


def _limited_exp(z: Tensor) -> Tensor:
    """exp up to the square root of the dtype's largest number, its tangent from there on: finite where exp is not."""
    bend = 0.5 * math.log(float(finfo(z.dtype).max))
    return z.clamp(max=bend).exp() * (1 + (z - bend).relu())
