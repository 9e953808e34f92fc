"""Random search: guess the weights, keep the best guess. What gradient descent is measured against."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from gpunet.autograd import Tensor, no_grad
from gpunet.backend.random import Generator, default_generator
from gpunet.nn import init
from gpunet.ops.dtypes import is_floating

__all__ = ["RandomSearch", "random_search"]


class RandomSearch(NamedTuple):
    """What a random search found.

    Attributes:
        loss: the least loss, a finite number.
        at: which try gave it, from 0.
        losses: float64, of each try.
    """

    loss: float
    at: int
    losses: np.ndarray

    @property
    def best_so_far(self) -> np.ndarray:
        """The least finite loss of all tries up to each, NaN before the first: beside it stands gradient descent's."""
        return np.fmin.accumulate(np.where(np.isfinite(self.losses), self.losses, np.nan))


def random_search(
    closure: Callable[[], Any],
    params: Iterable[Tensor],
    tries: int = 1000,
    *,
    std: float = 1.0,
    generator: Generator | None = None,
) -> RandomSearch:
    """Draw all parameters anew from N(0, std^2), as often as told, and leave the draw with the least loss in them.

    It looks at the loss alone, not at which way is down, and learns nothing from one try for the next: a linear
    classifier on ten classes comes past chance, and never near gradient descent; with more parameters it gets worse.

    ::

        linear = nn.Linear(64, 10)
        found = gn.optim.random_search(lambda: F.cross_entropy(linear(images), labels), linear.parameters())

    Args:
        closure: computes the loss with the parameters as they are. It runs without gradients.
        params: floating-point tensors.
        tries: how many.
        std: standard deviation of the draws.
        generator: where they come from; None is the stream of initial weights, which ``gn.manual_seed`` sets. The same
            seed finds the same parameters, on every device.

    Raises:
        TypeError, ValueError: not tensors, none at all, tries that are no whole number above 0, a std that is not
            positive, or a closure that gives no number.
        RuntimeError: no try had a finite loss.

        After any error, one that the closure raises too, the parameters are those from before the search.
    """
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(f"params: expected an iterable of Tensors, got {type(params).__name__}")
    parameters = list(params)
    for parameter in parameters:
        if not isinstance(parameter, Tensor) or not is_floating(parameter.dtype):
            raise TypeError("params: random search takes floating-point Tensors")
    if not parameters:
        raise ValueError("params: random search got no parameters")
    if not callable(closure):
        raise TypeError(f"closure: must be callable, got {type(closure).__name__}")
    if isinstance(tries, bool) or not isinstance(tries, int):
        raise TypeError(f"random_search: tries must be an integer, got {tries!r}")
    if tries < 1:
        raise ValueError(f"random_search: tries must be at least 1, got {tries}")
    if isinstance(std, bool) or not isinstance(std, (int, float)) or not 0 < std < math.inf:
        raise ValueError(f"random_search: std must be a number above 0, got {std!r}")
    stream = default_generator("init") if generator is None else generator

    def draw() -> None:
        for parameter in parameters:
            init.normal_(parameter, 0.0, std, stream)

    losses = np.empty(tries)
    best, before_best = -1, stream.get_state()
    with no_grad():
        found = [parameter.detach().clone() for parameter in parameters]
        try:
            for attempt in range(tries):
                before = stream.get_state()
                draw()
                losses[attempt] = _number(closure())
                if math.isfinite(losses[attempt]) and (best < 0 or losses[attempt] < losses[best]):
                    best, before_best = attempt, before
            if best < 0:
                raise RuntimeError(f"random_search: none of {tries} tries had a finite loss")
        except BaseException:
            for parameter, value in zip(parameters, found, strict=True):
                parameter.copy_(value)
            raise
        # The best one is drawn again, rather than kept in a copy.
        after = stream.get_state()
        stream.set_state(before_best)
        draw()
        stream.set_state(after)
    return RandomSearch(float(losses[best]), best, losses)


def _number(loss: Any) -> float:
    try:
        return float(loss.item() if isinstance(loss, Tensor) else loss)
    except (TypeError, ValueError) as error:
        given = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise TypeError(f"closure: must return a number, got {given}") from error
