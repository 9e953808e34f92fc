"""The categorical distribution: one of K categories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from gpunet.autograd import Tensor, arange, no_grad
from gpunet.autograd.joining import broadcast_tensors
from gpunet.autograd.shapes import Size
from gpunet.autograd.types import finfo
from gpunet.backend.errors import ShapeError
from gpunet.distributions import constraints
from gpunet.distributions.constraints import Constraint
from gpunet.distributions.distribution import Distribution
from gpunet.distributions.parameters import clamped_probabilities, one_of, shape_of
from gpunet.ops.dtypes import get_default_dtype, is_floating

__all__ = ["Categorical"]


class Categorical(Distribution):
    """Category k of 0..K-1 with the probability probs[k].

    Args:
        probs: (..., K), weights of the categories; they are divided by their sum.
        logits: (..., K), logarithms of the weights, in place of them, as a network gives them; softmax(logits) are the
            probabilities.
        validate_args: check parameters and values; True if None.

    Attributes:
        probs: (..., K), probabilities that sum to 1.
        logits: (..., K), their logarithms.

    Raises:
        ValueError: both or neither of probs and logits; a negative weight, a sum of zero.
        ShapeError: no dimension of categories.
    """

    arg_constraints: ClassVar = {"probs": constraints.weights, "logits": constraints.real_vector}
    has_enumerate_support: ClassVar = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        name, given = one_of("Categorical", probs, logits)
        if not isinstance(given, Tensor):
            raise TypeError(f"Categorical: {name} must be a Tensor, got {type(given).__name__}")
        if not given.ndim or not given.shape[-1]:
            raise ShapeError(f"Categorical: {name} must be of shape (..., K) with K > 0, got {tuple(given.shape)}")
        self._given_as = name
        self._given = given if is_floating(given.dtype) else given.to(get_default_dtype())
        super().__init__(given.shape[:-1], (), validate_args)
        if name == "probs":
            self._given = self._given / self._given.sum(-1, keepdim=True)
        else:
            self._given = self._given - self._given.logsumexp(-1, keepdim=True)

    def _parameters(self) -> dict[str, Tensor]:
        return {self._given_as: self._given}

    @property
    def probs(self) -> Tensor:
        """Probabilities, which sum to 1 over the last dimension."""
        return self._given if self._given_as == "probs" else self._given.softmax(-1)

    @property
    def logits(self) -> Tensor:
        """Logarithms of the probabilities; of given ones, kept a little away from 0 and 1."""
        return self._given if self._given_as == "logits" else clamped_probabilities(self._given).log()

    @property
    def param_shape(self) -> Size:
        """Shape of the parameter."""
        return self._given.shape

    @property
    def support(self) -> Constraint:
        """0..K-1."""
        return constraints.integer_interval(0, self.param_shape[-1] - 1)

    @property
    def mean(self) -> Tensor:
        """NaN: categories have no order."""
        return self._given.new_full(self.batch_shape, math.nan)

    @property
    def mode(self) -> Tensor:
        """The most probable category."""
        return self._given.argmax(-1)

    @property
    def variance(self) -> Tensor:
        """NaN: categories have no distances."""
        return self._given.new_full(self.batch_shape, math.nan)

    def log_prob(self, value: Any) -> Tensor:
        """log(probs[value])."""
        category = self._value(value).long().unsqueeze(-1)
        category, logits = broadcast_tensors(category, self.logits)
        return logits.gather(-1, category[..., :1]).squeeze(-1)

    def entropy(self) -> Tensor:
        """-sum of p log(p); a category of probability 0 adds nothing."""
        logits = self.logits.clamp(min=finfo(self._given.dtype).min)
        return -(logits * self.probs).sum(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Categories, int64."""
        shape = self._sample_shape(sample_shape)
        count = math.prod(shape[: len(shape) - len(self.batch_shape)])
        with no_grad():
            if not math.prod(shape):
                return self._given.new_zeros(shape, dtype="int64")
            rows = self.probs.reshape(-1, self.param_shape[-1])
            return rows.multinomial(count, True).transpose(0, 1).reshape(shape)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """0..K-1 along a new first dimension."""
        count = self.param_shape[-1]
        values = arange(count, device=self._given.device).reshape(count, *(1,) * len(self.batch_shape))
        return values.expand(count, *self.batch_shape) if expand else values

    def expand(self, batch_shape: Sequence[int]) -> Categorical:
        """The same distribution with another batch shape."""
        shape = (*shape_of("Categorical", "batch_shape", batch_shape), self.param_shape[-1])
        by_name = {self._given_as: self._given.expand(shape)}
        expanded: Categorical = self._expanded(Categorical(**by_name, validate_args=False))
        return expanded
