"""How optimizers walk: on a loss of few weights, from step to step, and with gradients that are told them.

The loss is a function of the weights, never the other way round: an optimizer chooses the weights, and the loss
follows. A gradient stands at right angles to the *level set* of the loss through its point, in the space of the
weights; it is not the normal of the tangent plane of the surface that a picture shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpunet.autograd import Tensor, as_tensor, no_grad
from gpunet.backend.errors import ShapeError
from gpunet.inspect.checks import check_numbers, finite_number
from gpunet.inspect.optimizer_family import OPTIMIZER_FAMILY
from gpunet.nn import Parameter
from gpunet.optim import SGD, Optimizer

__all__ = ["Descent", "descend", "loss_grid", "optimizer_race", "optimizer_trace", "valley"]

Loss = Callable[[Tensor], Tensor]
MakesOptimizer = Callable[[list[Tensor]], Optimizer]

# Rates with which each comes down the valley within 100 steps, where the one of its trace does not.
RACE_RATES = {"Adagrad": 1.0, "RMSProp": 0.05, "Adam": 0.2, "NAdam": 0.2, "AdaMax": 0.2, "AdamW": 0.2}


class Descent(NamedTuple):
    """A walk: what the weights were before the first step and after each, and the loss there.

    Attributes:
        points: float64 (steps + 1, D).
        losses: float64 (steps + 1,).
    """

    points: np.ndarray
    losses: np.ndarray


def valley(point: Tensor) -> Tensor:
    """f(x, y) = x^2 / 2 + 10 y^2 / 2: a valley that is ten times as steep across as along.

    Raises:
        ShapeError: a point of other than two weights.
    """
    if tuple(point.shape) != (2,):
        raise ShapeError(f"valley: point must be two weights, got shape {tuple(point.shape)}")
    return 0.5 * point[0] ** 2 + 5.0 * point[1] ** 2


def descend(
    loss: Loss, start: Sequence[float] | np.ndarray, optimizer: float | str | MakesOptimizer, steps: int = 100
) -> Descent:
    """Walk down a loss, and write down every step.

    ::

        walk = gn.inspect.descend(gn.inspect.valley, (-4.0, 1.0), lambda w: gn.optim.Adam(w, lr=0.2))

    Args:
        loss: takes the weights as a float64 tensor (D,) and returns a tensor of one number.
        start: the first weights, (D,).
        optimizer: makes one for a list of tensors; a number is gradient descent with that learning rate, a name one of
            ``gn.inspect.OPTIMIZER_FAMILY`` as it is in the race.
        steps: how many. The walk ends early where the loss is no longer a finite number.

    Raises:
        ShapeError: a start that is no vector, or a loss of several numbers.
        TypeError, ValueError: a start of no numbers or that is not finite, a loss that is no Tensor or was not computed
            from the weights, no optimizer, an unknown name, or steps below 1.
    """
    weights = check_numbers("start", start)
    if weights.ndim != 1 or not weights.size:
        raise ShapeError(f"start: must be a vector of weights, got shape {weights.shape}")
    if not callable(loss):
        raise TypeError(f"loss: must be a function, got {type(loss).__name__}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps: must be a whole number of at least 1, got {steps!r}")
    parameter = Parameter(as_tensor(weights))
    walker = _maker(optimizer)([parameter])
    points, losses = [parameter.detach().numpy().copy()], []
    # A walk that goes up and away leaves the numbers that there are: that is its end, and no reason for warnings.
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps + 1):
            walker.zero_grad()
            value = _one_number(loss(parameter))
            losses.append(float(value.item()))
            if step == steps or not math.isfinite(losses[-1]):
                break
            if not value.requires_grad:
                raise ValueError("loss: must be computed from the weights that it is given, which this one is not")
            value.backward()
            walker.step()
            points.append(parameter.detach().numpy().copy())
    return Descent(np.array(points), np.array(losses))


def _one_number(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"loss: must return a Tensor of one number, got {type(value).__name__}")
    if value.numel() != 1:
        raise ShapeError(f"loss: must return one number, got shape {tuple(value.shape)}")
    return value


def loss_grid(
    loss: Loss, xlim: tuple[float, float], ylim: tuple[float, float], resolution: int = 41
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A loss of two weights on a grid: x and y (R,), and the losses (R, R) with y down the rows.

    Raises:
        TypeError, ShapeError: limits that are no numbers, or a loss that gives no Tensor of one number.
        ValueError: limits that are no intervals, or a resolution below 2.
    """
    if not callable(loss):
        raise TypeError(f"loss: must be a function, got {type(loss).__name__}")
    for name, limits in (("xlim", xlim), ("ylim", ylim)):
        array = check_numbers(name, limits)
        if array.shape != (2,) or array[0] >= array[1]:
            raise ValueError(f"{name}: must be (least, largest), got {limits!r}")
    if isinstance(resolution, bool) or not isinstance(resolution, int) or resolution < 2:
        raise ValueError(f"resolution: must be a whole number of at least 2, got {resolution!r}")
    x, y = np.linspace(*xlim, resolution), np.linspace(*ylim, resolution)
    with no_grad(), np.errstate(over="ignore", invalid="ignore"):
        values = [[float(_one_number(loss(as_tensor(np.array([a, b])))).item()) for a in x] for b in y]
    return x, y, np.array(values)


def optimizer_trace(
    optimizer: float | str | MakesOptimizer, gradients: Sequence[float] = (1.0, 1.0, -0.5)
) -> np.ndarray:
    """Where one weight is, from 0, after each of the gradients that are told an optimizer: what it remembers shows.

    Args:
        optimizer: makes one for a list of tensors; a number is gradient descent with that learning rate, a name one of
            ``gn.inspect.OPTIMIZER_FAMILY``, with learning rate 0.1 (AdaDelta 1).
        gradients: one for each step.

    Returns:
        float64 (steps,).

    Raises:
        TypeError, ValueError: no optimizer, an unknown name, or gradients that are no finite numbers.
    """
    weight = Parameter(as_tensor(np.zeros(1)))
    walker = _maker(optimizer, race=False)([weight])
    places = []
    for gradient in gradients:
        weight.grad = as_tensor(np.array([finite_number("gradients", gradient)]))
        walker.step()
        places.append(weight.item())
    return np.array(places)


def optimizer_race(
    optimizers: Mapping[str, float | str | MakesOptimizer] | Sequence[str] | None = None,
    loss: Loss = valley,
    start: Sequence[float] = (-4.0, 1.0),
    steps: int = 100,
) -> dict[str, Descent]:
    """Let optimizers walk down the same loss from the same place.

    Args:
        optimizers: by name, as ``descend`` takes them; or names of ``gn.inspect.OPTIMIZER_FAMILY``. None are all of
            the family but SGD, which is GD where the loss has no samples. Their learning rates are chosen for the
            default valley; a race says nothing about other losses.
        loss, start, steps: as for ``descend``.
    """
    if optimizers is None:
        optimizers = [name for name in OPTIMIZER_FAMILY if name != "SGD"]
    if not isinstance(optimizers, Mapping):
        optimizers = {name: name for name in optimizers}
    return {name: descend(loss, start, one, steps) for name, one in optimizers.items()}


def _maker(optimizer: Any, race: bool = True) -> MakesOptimizer:
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZER_FAMILY:
            raise ValueError(f"optimizer: must be one of {', '.join(OPTIMIZER_FAMILY)}, got {optimizer!r}")
        relative = OPTIMIZER_FAMILY[optimizer]
        options = {"lr": RACE_RATES[optimizer]} if race and optimizer in RACE_RATES else {}
        return lambda weights: relative.make(weights, **options)
    if isinstance(optimizer, (int, float)) and not isinstance(optimizer, bool):
        return lambda weights: SGD(weights, lr=optimizer)
    if not callable(optimizer):
        raise TypeError(f"optimizer: must be a name, a learning rate or a function, got {type(optimizer).__name__}")
    return optimizer
