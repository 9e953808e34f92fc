"""The uniform distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from gpunet.autograd import Tensor, no_grad, rand
from gpunet.distributions import constraints
from gpunet.distributions.constraints import Constraint
from gpunet.distributions.distribution import Distribution
from gpunet.distributions.parameters import broadcast_parameters, shape_of

__all__ = ["Uniform"]


class Uniform(Distribution):
    """U(low, high): the density is 1 / (high - low) from low, which it may give, to high, which it does not.

    Args:
        low: a number or a tensor.
        high: above low; broadcasts with it.
        validate_args: check parameters and values; True if None.

    Raises:
        ValueError: low is not below high.
        DTypeError: parameters of integers.
        ShapeError: they do not broadcast.
    """

    arg_constraints: ClassVar = {"low": constraints.real, "high": constraints.real}
    has_rsample: ClassVar = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = broadcast_parameters("Uniform", low=low, high=high)
        super().__init__(self.low.shape, (), validate_args)
        if self._validate_args and not self.low.is_meta:
            with no_grad():
                bad = ~(self.low < self.high)
                if bool(bad.any()):
                    low, high = self.low[bad][0].item(), self.high[bad][0].item()
                    raise ValueError(f"Uniform: low must be below high, got {low} and {high}")

    @property
    def support(self) -> Constraint:
        """Numbers from low to high."""
        return constraints.interval(self.low, self.high)

    @property
    def mean(self) -> Tensor:
        """(low + high) / 2."""
        return (self.high + self.low) / 2

    @property
    def mode(self) -> Tensor:
        """NaN: no value has a higher density than another."""
        return self.high * math.nan

    @property
    def stddev(self) -> Tensor:
        """(high - low) / sqrt(12)."""
        return (self.high - self.low) / math.sqrt(12)

    @property
    def variance(self) -> Tensor:
        """(high - low)^2 / 12."""
        return (self.high - self.low) ** 2 / 12

    def log_prob(self, value: Any) -> Tensor:
        """-log(high - low); -inf at high and, where values are not checked, outside.

        The gradient is that of -log(high - low) everywhere, as in PyTorch.
        """
        x = self._value(value)
        inside = (self.low <= x) & (x < self.high)
        outside = self.low.new_zeros(inside.shape).masked_fill(~inside, -math.inf)
        return outside - (self.high - self.low).log()

    def cdf(self, value: Any) -> Tensor:
        """(x - low) / (high - low), limited to 0..1."""
        x = self._value(value)
        return ((x - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Any) -> Tensor:
        """low + p (high - low)."""
        return self._tensor(value) * (self.high - self.low) + self.low

    def entropy(self) -> Tensor:
        """log(high - low)."""
        return (self.high - self.low).log()

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """low + noise * (high - low), noise from U(0, 1)."""
        noise = rand(self._sample_shape(sample_shape), dtype=self.low.dtype, device=self.low.device)
        return self.low + noise * (self.high - self.low)

    def expand(self, batch_shape: Sequence[int]) -> Uniform:
        """The same distribution with another batch shape."""
        shape = shape_of("Uniform", "batch_shape", batch_shape)
        expanded: Uniform = self._expanded(Uniform(self.low.expand(shape), self.high.expand(shape), False))
        return expanded
