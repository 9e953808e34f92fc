"""The Bernoulli distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from gpunet.autograd import Tensor, arange, no_grad
from gpunet.autograd.shapes import Size
from gpunet.distributions import constraints
from gpunet.distributions.constraints import Constraint
from gpunet.distributions.distribution import Distribution
from gpunet.distributions.parameters import broadcast_parameters, clamped_probabilities, one_of, shape_of
from gpunet.nn.functional import binary_cross_entropy_with_logits
from gpunet.ops.dtypes import result_type

__all__ = ["Bernoulli"]


class Bernoulli(Distribution):
    """1 with the probability ``probs``, else 0.

    Args:
        probs: probabilities of 1; a number or a tensor.
        logits: log(probs / (1 - probs)), in place of them.
        validate_args: check parameters and values; True if None.

    Raises:
        ValueError: both or neither of probs and logits; no probability.
        DTypeError: a tensor of integers.
    """

    arg_constraints: ClassVar = {"probs": constraints.unit_interval, "logits": constraints.real}
    has_enumerate_support: ClassVar = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        name, value = one_of("Bernoulli", probs, logits)
        (self._given,) = broadcast_parameters("Bernoulli", **{name: value})
        self._given_as = name
        super().__init__(self._given.shape, (), validate_args)

    def _parameters(self) -> dict[str, Tensor]:
        return {self._given_as: self._given}

    @property
    def probs(self) -> Tensor:
        """Probabilities of 1."""
        return self._given if self._given_as == "probs" else self._given.sigmoid()

    @property
    def logits(self) -> Tensor:
        """log(probs / (1 - probs)), of probabilities kept a little away from 0 and 1."""
        if self._given_as == "logits":
            return self._given
        inside = clamped_probabilities(self._given)
        return inside.log() - (-inside).log1p()

    @property
    def param_shape(self) -> Size:
        """Shape of the parameter."""
        return self._given.shape

    @property
    def support(self) -> Constraint:
        """0 and 1."""
        return constraints.boolean

    @property
    def mean(self) -> Tensor:
        """probs."""
        return self.probs

    @property
    def mode(self) -> Tensor:
        """The more probable value; NaN where both are as probable."""
        probs = self.probs
        return (probs >= 0.5).to(probs.dtype).masked_fill(probs == 0.5, math.nan)

    @property
    def variance(self) -> Tensor:
        """probs (1 - probs)."""
        return self.probs * (1 - self.probs)

    def log_prob(self, value: Any) -> Tensor:
        """log(probs) of 1 and log(1 - probs) of 0."""
        x = self._value(value)
        dtype = result_type(self._given, x)
        logits, x = broadcast_parameters("Bernoulli", logits=self.logits.to(dtype), value=x.to(dtype))
        return -binary_cross_entropy_with_logits(logits, x, reduction="none")

    def entropy(self) -> Tensor:
        """-p log(p) - (1 - p) log(1 - p)."""
        return binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Zeros and ones of the probabilities' dtype."""
        with no_grad():
            return self.probs.expand(self._sample_shape(sample_shape)).bernoulli()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """0 and 1 along a new first dimension."""
        values = arange(2, dtype=self._given.dtype, device=self._given.device)
        values = values.reshape(2, *(1,) * len(self.batch_shape))
        return values.expand(2, *self.batch_shape) if expand else values

    def expand(self, batch_shape: Sequence[int]) -> Bernoulli:
        """The same distribution with another batch shape."""
        given = self._given.expand(shape_of("Bernoulli", "batch_shape", batch_shape))
        expanded: Bernoulli = self._expanded(Bernoulli(**{self._given_as: given}, validate_args=False))
        return expanded
