"""Several independent numbers as one vector or array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from gpunet.autograd import Tensor
from gpunet.distributions.constraints import Constraint
from gpunet.distributions.distribution import Distribution
from gpunet.distributions.parameters import shape_of

__all__ = ["Independent"]


class Independent(Distribution):
    """The last dimensions of a batch taken as one event: log-probabilities add up over them.

    ``Independent(Normal(loc, scale), 1)`` is a normal distribution of vectors whose covariance is diagonal.

    Args:
        base_distribution: the distribution of each element.
        reinterpreted_batch_ndims: how many dimensions of its batch, the last ones, become one event.
        validate_args: check values; True if None.

    Raises:
        ValueError: the batch has fewer dimensions.
    """

    arg_constraints: ClassVar = {}

    def __init__(
        self, base_distribution: Distribution, reinterpreted_batch_ndims: int, validate_args: bool | None = None
    ) -> None:
        if not isinstance(base_distribution, Distribution):
            kind = type(base_distribution).__name__
            raise TypeError(f"Independent: base_distribution must be a Distribution, got {kind}")
        batch, event = tuple(base_distribution.batch_shape), tuple(base_distribution.event_shape)
        taken = reinterpreted_batch_ndims
        if not 0 <= taken <= len(batch):
            raise ValueError(
                f"Independent: reinterpreted_batch_ndims must lie in 0..{len(batch)}, the dimensions of the batch, "
                f"got {taken}"
            )
        self.base_dist, self.reinterpreted_batch_ndims = base_distribution, taken
        super().__init__(batch[: len(batch) - taken], (*batch[len(batch) - taken :], *event), validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether the elements' draws have gradients."""
        return self.base_dist.has_rsample

    @property
    def support(self) -> Constraint:
        """The values whose elements may come."""
        return self.base_dist.support

    @property
    def mean(self) -> Tensor:
        """Of each element."""
        return self.base_dist.mean

    @property
    def mode(self) -> Tensor:
        """Of each element."""
        return self.base_dist.mode

    @property
    def variance(self) -> Tensor:
        """Of each element."""
        return self.base_dist.variance

    def _summed(self, x: Tensor) -> Tensor:
        taken = self.reinterpreted_batch_ndims
        return x.sum(tuple(range(-taken, 0))) if taken else x

    def log_prob(self, value: Any) -> Tensor:
        """The sum over the elements."""
        return self._summed(self.base_dist.log_prob(value))

    def entropy(self) -> Tensor:
        """The sum over the elements."""
        return self._summed(self.base_dist.entropy())

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws of all elements."""
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws of all elements, with gradients."""
        return self.base_dist.rsample(sample_shape)

    def expand(self, batch_shape: Sequence[int]) -> Independent:
        """The same distribution with another batch shape."""
        taken = self.reinterpreted_batch_ndims
        own = self.base_dist.batch_shape
        shape = (*shape_of("Independent", "batch_shape", batch_shape), *own[len(own) - taken :])
        expanded: Independent = self._expanded(Independent(self.base_dist.expand(shape), taken, False))
        return expanded

    def __repr__(self) -> str:
        return f"Independent({self.base_dist!r}, {self.reinterpreted_batch_ndims})"
