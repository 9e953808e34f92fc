"""What all distributions have: shapes, checks, and what follows from the density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from gpunet.autograd import Tensor, no_grad
from gpunet.autograd.shapes import Size
from gpunet.backend.errors import ShapeError
from gpunet.distributions.constraints import Constraint
from gpunet.distributions.parameters import shape_of

__all__ = ["Distribution"]


class Distribution:
    """A distribution, or a batch of independent ones of a family. PyTorch's ``torch.distributions.Distribution``.

    A value has the shape ``sample_shape + batch_shape + event_shape``: how many are drawn, of how many distributions,
    and the shape of one value. Numbers are drawn from the stream of ``gn.randn``: after the same ``gn.manual_seed``
    they are the same.

    Args:
        batch_shape: of the parameters.
        event_shape: of one value.
        validate_args: check parameters when it is made, and the values asked for: errors that name them in place of
            NaN. True if None. On a GPU each check waits for the device.

    Attributes:
        arg_constraints: for each parameter, the values it may have.
        has_rsample: whether draws have gradients in the parameters.
        has_enumerate_support: whether the possible values can be listed.

    Raises:
        ValueError: a parameter that has no such value.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    has_rsample: ClassVar[bool] = False
    has_enumerate_support: ClassVar[bool] = False
    _validate_by_default: ClassVar[bool] = True

    def __init__(
        self, batch_shape: Sequence[int] = (), event_shape: Sequence[int] = (), validate_args: bool | None = None
    ) -> None:
        self._batch_shape, self._event_shape = Size(batch_shape), Size(event_shape)
        self._validate_args = Distribution._validate_by_default if validate_args is None else bool(validate_args)
        if self._validate_args:
            for name, parameter in self._parameters().items():
                self._require(name, parameter, self.arg_constraints[name])

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions check their arguments where ``validate_args`` is not given.

        Raises:
            ValueError: neither True nor False.
        """
        if value not in (True, False):
            raise ValueError(f"set_default_validate_args: value must be True or False, got {value!r}")
        Distribution._validate_by_default = bool(value)

    @property
    def batch_shape(self) -> Size:
        """Shape of the parameters."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """Shape of one value."""
        return self._event_shape

    @property
    def support(self) -> Constraint:
        """The values it gives."""
        raise self._lacks("support")

    def _parameters(self) -> dict[str, Tensor]:
        """The parameters that were given, by name."""
        return {name: vars(self)[name] for name in self.arg_constraints}

    # Checks ----------------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _lacks(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{self._name}: {what} is not had")

    def _require(self, argument: str, value: Tensor, constraint: Constraint) -> None:
        """Refuse a value outside a set. On meta there are no values to look at."""
        if value.is_meta:
            return
        with no_grad():
            bad = ~constraint.check(value)
            if bool(bad.any()):
                shown = value.expand(bad.shape)[bad] if not constraint.event_dim else value[bad]
                raise ValueError(f"{self._name}: {argument} must be {constraint.text}, got {shown[0].tolist()}")

    def _tensor(self, value: Any, name: str = "value") -> Tensor:
        """A number as a tensor like the parameters; tensors as they are."""
        if isinstance(value, Tensor):
            return value
        if not isinstance(value, (int, float, np.number)):
            raise TypeError(f"{self._name}: {name} must be a Tensor or a number, got {type(value).__name__}")
        like = next(iter(self._parameters().values()))
        return like.new_tensor(value)

    def _value(self, value: Any) -> Tensor:
        """What the density is asked for, as a tensor.

        Raises:
            TypeError: neither a tensor nor a number.
            ShapeError: it does not broadcast with the distribution's shape.
            ValueError: it is not in the support.
        """
        value = self._tensor(value)
        own = (*self.batch_shape, *self.event_shape)
        pairs = zip(reversed(value.shape), reversed(own), strict=False)
        if any(a != b and 1 not in (a, b) for a, b in pairs):
            raise ShapeError(
                f"{self._name}: value must broadcast with batch_shape + event_shape {own}, got shape "
                f"{tuple(value.shape)}"
            )
        if self._validate_args:
            self._require("value", value, self.support)
        return value

    def _sample_shape(self, sample_shape: Any) -> tuple[int, ...]:
        """The shape of draws."""
        wanted = shape_of(self._name, "sample_shape", sample_shape)
        return (*wanted, *self.batch_shape, *self.event_shape)

    # Moments and densities -------------------------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        """The expectation."""
        raise self._lacks("mean")

    @property
    def mode(self) -> Tensor:
        """The value of the highest density."""
        raise self._lacks("mode")

    @property
    def variance(self) -> Tensor:
        """The expected square of the distance from the mean."""
        raise self._lacks("variance")

    @property
    def stddev(self) -> Tensor:
        """The square root of the variance."""
        return self.variance.sqrt()

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density, or of the probability where values are discrete; (..., batch_shape).

        As a function of the parameters, with the value given, it is the log-likelihood. Takes numbers too.

        Raises:
            ShapeError: a value that does not broadcast with the distribution.
            ValueError: one that the distribution never gives.
        """
        raise self._lacks("log_prob")

    def pdf(self, value: Any) -> Tensor:
        """The density, or the probability where values are discrete: exp(log_prob). gpunet's own.

        It integrates to 1 over the values. Over the parameters it is a likelihood, which does not: it compares them,
        and gives them no probability.
        """
        return self.log_prob(value).exp()

    def cdf(self, value: Any) -> Tensor:
        """The probability of what is not above ``value``."""
        raise self._lacks("cdf")

    def icdf(self, value: Any) -> Tensor:
        """The inverse of ``cdf``: below it lies the probability ``value``."""
        raise self._lacks("icdf")

    def entropy(self) -> Tensor:
        """The expectation of -log_prob, in nats."""
        raise self._lacks("entropy")

    def perplexity(self) -> Tensor:
        """exp(entropy): as many equally probable values would be as uncertain."""
        return self.entropy().exp()

    # Draws -----------------------------------------------------------------------------------------------------------

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws of shape sample_shape + batch_shape + event_shape, without gradient."""
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws as a function of the parameters and of noise that does not depend on them, with gradients.

        The reparametrisation of Kingma and Welling 2014.
        """
        raise self._lacks("rsample")

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All possible values along a new first dimension; of the shape of the batch, or 1s without ``expand``."""
        raise self._lacks("enumerate_support")

    def expand(self, batch_shape: Sequence[int]) -> Distribution:
        """The same distribution with its parameters expanded to a batch shape.

        Raises:
            ShapeError: the parameters do not broadcast to it.
        """
        raise self._lacks("expand")

    def _expanded(self, distribution: Distribution) -> Any:
        """Another one of the parameters that were checked already."""
        distribution._validate_args = self._validate_args
        return distribution

    def __repr__(self) -> str:
        shown = (
            f"{name}: {value.item() if value.numel() == 1 and not value.is_meta else tuple(value.shape)}"
            for name, value in self._parameters().items()
        )
        return f"{self._name}({', '.join(shown)})"
