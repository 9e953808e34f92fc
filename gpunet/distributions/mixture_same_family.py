"""Mixtures of distributions of one family, such as of normal ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from gpunet.autograd import Tensor, no_grad
from gpunet.backend.errors import ShapeError
from gpunet.distributions.categorical import Categorical
from gpunet.distributions.constraints import Constraint
from gpunet.distributions.distribution import Distribution
from gpunet.distributions.parameters import shape_of

__all__ = ["MixtureSameFamily"]


class MixtureSameFamily(Distribution):
    """p(x) = sum over k of pi_k p_k(x): a component is drawn first, and from it the value.

    A mixture of normal distributions: ``MixtureSameFamily(Categorical(pi), Normal(mu, sigma))``.

    Args:
        mixture_distribution: a Categorical over K components, with the probabilities pi.
        component_distribution: the components, whose batch has K as its last dimension.
        validate_args: check values; True if None.

    Raises:
        TypeError: not a Categorical and a Distribution.
        ShapeError: another number of components, or another batch.
    """

    arg_constraints: ClassVar = {}

    def __init__(
        self,
        mixture_distribution: Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
    ) -> None:
        name = "MixtureSameFamily"
        if not isinstance(mixture_distribution, Categorical):
            kind = type(mixture_distribution).__name__
            raise TypeError(f"{name}: mixture_distribution must be a Categorical, got {kind}")
        if not isinstance(component_distribution, Distribution):
            kind = type(component_distribution).__name__
            raise TypeError(f"{name}: component_distribution must be a Distribution, got {kind}")
        count, components = mixture_distribution.param_shape[-1], component_distribution.batch_shape
        if not components or components[-1] != count:
            raise ShapeError(
                f"{name}: component_distribution must have a batch of {count} components in its last dimension, got "
                f"batch shape {tuple(components)}"
            )
        mixed, batch = tuple(mixture_distribution.batch_shape), tuple(components[:-1])
        if mixed and any(a != b and 1 not in (a, b) for a, b in zip(reversed(mixed), reversed(batch), strict=False)):
            raise ShapeError(
                f"{name}: batches must broadcast, got {mixed} of the mixture and {batch} of its components"
            )
        self._mixture, self._component = mixture_distribution, component_distribution
        super().__init__(batch, component_distribution.event_shape, validate_args)

    @property
    def mixture_distribution(self) -> Categorical:
        """Which component."""
        return self._mixture

    @property
    def component_distribution(self) -> Distribution:
        """What each component gives."""
        return self._component

    @property
    def support(self) -> Constraint:
        """What a component may give."""
        return self._component.support

    @property
    def _axis(self) -> int:
        """The components' dimension."""
        return -1 - len(self.event_shape)

    def _probs(self) -> Tensor:
        """pi, with dimensions of size 1 in place of the event's."""
        probs = self._mixture.probs
        return probs.reshape(*probs.shape, *(1,) * len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """sum of pi_k mean_k."""
        return (self._probs() * self._component.mean).sum(self._axis)

    @property
    def variance(self) -> Tensor:
        """sum of pi_k (variance_k + (mean_k - mean)^2)."""
        far = self._component.mean - self.mean.unsqueeze(self._axis)
        return (self._probs() * (self._component.variance + far**2)).sum(self._axis)

    def log_prob(self, value: Any) -> Tensor:
        """log of the sum of pi_k p_k(x), computed from the logarithms: exp of them may underflow."""
        x = self._value(value).unsqueeze(self._axis)
        return (self._component.log_prob(x) + self._mixture.logits).logsumexp(-1)

    def cdf(self, value: Any) -> Tensor:
        """sum of pi_k cdf_k(x), for components that have one."""
        x = self._value(value).unsqueeze(self._axis)
        return (self._component.cdf(x) * self._mixture.probs).sum(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws from components drawn before."""
        wanted = shape_of("MixtureSameFamily", "sample_shape", sample_shape)
        with no_grad():
            values = self._component.sample(wanted)
            chosen = self._mixture.expand(self.batch_shape).sample(wanted)
            chosen = chosen.reshape(*chosen.shape, 1, *(1,) * len(self.event_shape))
            axis = values.ndim + self._axis
            chosen = chosen.expand(*values.shape[:axis], 1, *values.shape[axis + 1 :])
            return values.gather(axis, chosen).squeeze(axis)

    def _tensor(self, value: Any, name: str = "value") -> Tensor:
        return self._mixture._tensor(value, name)

    def expand(self, batch_shape: Sequence[int]) -> MixtureSameFamily:
        """The same distribution with another batch shape."""
        shape = shape_of("MixtureSameFamily", "batch_shape", batch_shape)
        component = self._component.expand((*shape, self._mixture.param_shape[-1]))
        expanded: MixtureSameFamily = self._expanded(MixtureSameFamily(self._mixture.expand(shape), component, False))
        return expanded

    def __repr__(self) -> str:
        return f"MixtureSameFamily({self._mixture!r}, {self._component!r})"
