"""The normal distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from gpunet.autograd import Tensor, randn
from gpunet.distributions import constraints
from gpunet.distributions.constraints import Constraint
from gpunet.distributions.distribution import Distribution
from gpunet.distributions.parameters import broadcast_parameters, shape_of

__all__ = ["Normal"]


class Normal(Distribution):
    """N(loc, scale^2), with the density exp(-(x - loc)^2 / (2 scale^2)) / (scale sqrt(2 pi)).

    Args:
        loc: the mean; a number or a tensor.
        scale: the standard deviation; positive; broadcasts with loc.
        validate_args: check parameters and values; True if None.

    Raises:
        ValueError: a scale that is not positive, NaN.
        DTypeError: parameters of integers.
        ShapeError: they do not broadcast.
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}
    has_rsample: ClassVar = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_parameters("Normal", loc=loc, scale=scale)
        super().__init__(self.loc.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        """All numbers."""
        return constraints.real

    @property
    def mean(self) -> Tensor:
        """loc."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """loc."""
        return self.loc

    @property
    def stddev(self) -> Tensor:
        """scale."""
        return self.scale

    @property
    def variance(self) -> Tensor:
        """scale^2."""
        return self.scale**2

    def log_prob(self, value: Any) -> Tensor:
        """-(x - loc)^2 / (2 scale^2) - log(scale) - log(2 pi) / 2."""
        x = self._value(value)
        return -((x - self.loc) ** 2) / (2 * self.variance) - self.scale.log() - math.log(math.sqrt(2 * math.pi))

    def cdf(self, value: Any) -> Tensor:
        """(1 + erf((x - loc) / (scale sqrt(2)))) / 2."""
        x = self._value(value)
        return 0.5 * (1 + ((x - self.loc) / (self.scale * math.sqrt(2))).erf())

    def icdf(self, value: Any) -> Tensor:
        """loc + scale sqrt(2) erfinv(2 p - 1); NaN where p is no probability."""
        return self.loc + self.scale * (2 * self._tensor(value) - 1).erfinv() * math.sqrt(2)

    def entropy(self) -> Tensor:
        """(1 + log(2 pi)) / 2 + log(scale)."""
        return 0.5 + 0.5 * math.log(2 * math.pi) + self.scale.log()

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """loc + scale * noise, noise from N(0, 1)."""
        noise = randn(self._sample_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + noise * self.scale

    def expand(self, batch_shape: Sequence[int]) -> Normal:
        """The same distribution with another batch shape."""
        shape = shape_of("Normal", "batch_shape", batch_shape)
        expanded: Normal = self._expanded(Normal(self.loc.expand(shape), self.scale.expand(shape), False))
        return expanded
