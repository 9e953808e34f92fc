"""Series: windows over them, and generated ones to learn from. Text is in ``gpunet.data.text``.

The values of a series are neither independent nor identically distributed: their order is what there is to learn. So a
series is cut in time, the past for training and the future for testing, never at random, and the samples are windows,

    sample i = (x_i, ..., x_{i+tau-1}),  x_{i+tau+horizon-1}

of which as many as are wanted may be shuffled into a batch: the order within each stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar, overload

import numpy as np

from gpunet.autograd import Tensor, as_tensor, from_numpy
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.backend.random import keyed_generator
from gpunet.ops.dtypes import get_default_dtype, is_floating

from ._checks import is_number, is_positive
from ._random import SERIES
from .dataset import Dataset

__all__ = ["ARProcess", "RandomWalk", "Series", "Sine", "windows"]

A = TypeVar("A", np.ndarray, Tensor)


@overload
def windows(series: A, tau: int, step: int = 1) -> A: ...


@overload
def windows(series: Sequence[Any], tau: int, step: int = 1) -> Tensor: ...


def windows(series: Any, tau: int, step: int = 1) -> Any:
    """All windows of ``tau`` values that follow each other, without copying them.

    Args:
        series: (T, ...), a Tensor, an array, or a list of numbers, which becomes a Tensor.
        tau: values in a window.
        step: from the start of one window to that of the next.

    Returns:
        (N, tau, ...) with N = (T - tau) // step + 1: a strided view of the series, which therefore cannot be written
        to. Of a Tensor that requires grad, or is not on the CPU, a copy with the series' gradient.

    Raises:
        ShapeError: no dimension, or a series shorter than a window.
        TypeError, ValueError: no series, such as a list of lists of several lengths; a window or step below 1.
    """
    series = _listed("series", series)
    _check_positive(tau=tau, step=step)
    if series.ndim == 0:
        raise ShapeError("series: needs a dimension of time, got shape ()")
    if series.shape[0] < tau:
        raise ShapeError(f"series: its {series.shape[0]} values do not fill a window of tau = {tau}")
    if isinstance(series, np.ndarray):
        return _strided(series, tau, step)
    detached = series.detach()
    if series.requires_grad or not isinstance(detached._array, np.ndarray):
        return series.unfold(0, tau, step).movedim(-1, 1)
    view = Tensor._wrap(_strided(detached._array, tau, step), series.device)
    view._counter = detached._counter  # a write to the series is seen where the windows are needed for a gradient
    return view


def _strided(array: np.ndarray, tau: int, step: int) -> np.ndarray:
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(array, tau, axis=0)[::step], -1, 1)


class Series(Dataset[tuple[Tensor, Tensor]]):
    """The windows of a series, each with the value to predict from it: inputs (tau, ...) and targets (...).

    Args:
        values: (T, ...), numbers; a Tensor or an array on the CPU, or a list. Integers become the default floating
            type.
        tau: values in a window.
        horizon: how many steps after the window's last value the target is.

    Attributes:
        values: the series, a Tensor.
        inputs: (N, tau, ...), a view of it; N = T - tau - horizon + 1.
        targets: (N, ...), a view of it.

    Raises:
        ShapeError: a series shorter than a window and its target.
        TypeError, ValueError, DTypeError: bad arguments, or values that are not numbers.
    """

    values: Tensor
    inputs: Tensor
    targets: Tensor

    def __init__(self, values: Tensor | np.ndarray | Sequence[Any], tau: int, horizon: int = 1) -> None:
        _check_positive(tau=tau, horizon=horizon)
        self.values = _floating(values)
        self.tau = int(tau)
        self.horizon = int(horizon)
        steps = int(self.values.shape[0])
        if steps < self.tau + self.horizon:
            raise ShapeError(f"values: {steps} do not fill a window of tau = {tau} and the target {horizon} after it")
        self.inputs = windows(self.values[: steps - self.horizon], self.tau)
        self.targets = self.values[self.tau + self.horizon - 1 :]

    def __len__(self) -> int:
        return int(self.targets.shape[0])

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index], self.targets[index]

    def __getbatch__(self, indices: Sequence[int]) -> list[Tensor]:
        rows = np.asarray(indices, np.int64)
        return [self.inputs[rows], self.targets[rows]]

    def split(self, test: float | int = 0.2) -> tuple[Series, Series]:
        """The past for training, the future for testing: no value is in both.

        Args:
            test: the last part of the values that is for testing: a fraction of them, or how many.

        Raises:
            TypeError, ValueError: no fraction between 0 and 1, or number above 0.
            ShapeError: one of the parts is shorter than a window and its target.
        """
        steps = int(self.values.shape[0])
        if isinstance(test, bool) or not isinstance(test, (int, float, np.integer, np.floating)):
            raise TypeError(f"test: must be a fraction or a number of values, got {type(test).__name__}")
        if isinstance(test, (int, np.integer)):
            count = int(test)
        else:
            if not 0 < test < 1:
                raise ValueError(f"test: a fraction must be above 0 and below 1, got {test:g}")
            count = round(steps * float(test))
        need = self.tau + self.horizon
        if not need <= count <= steps - need:
            raise ShapeError(
                f"test: leaves {steps - count} values for training and {count} for testing; each part needs at least "
                f"{need}, for a window and its target"
            )
        cut = steps - count
        return (
            Series(self.values[:cut], self.tau, self.horizon),
            Series(self.values[cut:], self.tau, self.horizon),
        )


class Sine(Series):
    """A sine wave, with noise if wanted: x_t = amplitude sin(2 pi t / period + phase) + noise e_t, e_t from N(0, 1).

    Without noise it follows x_t = 2 cos(2 pi / period) x_{t-1} - x_{t-2}: two values of the past tell all.

    Args:
        length: T.
        period: steps of one wave, above 2.
        amplitude, phase: of the wave; the phase in radians.
        noise: standard deviation of what is added.
        tau, horizon: as in ``Series``.
        seed: of the noise.

    Raises:
        ShapeError, TypeError, ValueError: bad arguments, such as a length that does not fill a window.
    """

    def __init__(
        self,
        length: int = 1000,
        period: float = 50.0,
        amplitude: float = 1.0,
        phase: float = 0.0,
        noise: float = 0.0,
        tau: int = 2,
        horizon: int = 1,
        seed: int = 0,
    ) -> None:
        _check_positive(length=length)
        _check_numbers(period=period, amplitude=amplitude, phase=phase, noise=noise)
        if period <= 2:
            raise ValueError(f"period: must be above 2 steps, or a slower wave has the same values, got {period:g}")
        _check_not_negative(noise=noise)
        time = np.arange(length)
        values = amplitude * np.sin(2 * math.pi * time / period + phase)
        super().__init__(_made(values + noise * _draws(seed, 0, length)), tau, horizon)


class ARProcess(Series):
    """An autoregressive process: x_t = c_1 x_{t-1} + ... + c_p x_{t-p} + noise e_t, with e_t from N(0, 1).

    The first values are run in from zero and left out, so that what is given is stationary: its distribution is the
    same at every t.

    Args:
        length: T.
        coefficients: c_1, ..., c_p. The default is a damped oscillation.
        noise: standard deviation of the innovations.
        tau: as in ``Series``; None is p.
        horizon: as in ``Series``.
        seed: of the innovations.

    Attributes:
        coefficients: those that were given.

    Raises:
        ValueError: coefficients whose process is not stationary: a root of 1 - c_1 z - ... - c_p z^p lies within the
            unit circle or on it, so that the values grow without bound.
        ShapeError, TypeError: bad arguments, such as a length that does not fill a window.
    """

    def __init__(
        self,
        length: int = 1000,
        coefficients: Sequence[float] = (0.6, -0.3),
        noise: float = 1.0,
        tau: int | None = None,
        horizon: int = 1,
        seed: int = 0,
    ) -> None:
        _check_positive(length=length)
        _check_numbers(noise=noise)
        _check_not_negative(noise=noise)
        self.coefficients = tuple(float(value) for value in coefficients)
        if not self.coefficients or not all(math.isfinite(value) for value in self.coefficients):
            raise ValueError(f"coefficients: at least one is needed, all finite, got {list(self.coefficients)}")
        # The largest root of z^p - c_1 z^(p-1) - ... - c_p is the factor by which the past fades in a step.
        fading = float(np.abs(np.roots([1.0, *(-value for value in self.coefficients)])).max(initial=0.0))
        if fading >= 1:
            raise ValueError(
                f"coefficients: {list(self.coefficients)} make no stationary process: the past grows by a factor of "
                f"{fading:g} a step, which must be below 1"
            )
        # So long that less than 1e-6 is left of the beginning.
        warm_up = 100 + (math.ceil(math.log(1e-6) / math.log(fading)) if fading > 0 else 0)
        draws = _draws(seed, 1, warm_up + length) * noise
        values = draws.tolist()
        for t in range(len(values)):
            for lag, coefficient in enumerate(self.coefficients[:t], 1):
                values[t] += coefficient * values[t - lag]
        order = len(self.coefficients)
        super().__init__(_made(np.array(values[warm_up:])), order if tau is None else tau, horizon)


class RandomWalk(Series):
    """A price: its logarithm takes independent steps, log P_t = log P_{t-1} + drift + volatility e_t, e_t from N(0, 1).

    Not stationary, and nothing but the last price tells of the next: the best prediction of a walk without drift is
    that all stays as it is.

    Args:
        length: T.
        start: the first price, above 0.
        drift, volatility: mean and standard deviation of a step of the logarithm.
        tau, horizon: as in ``Series``.
        seed: of the steps.

    Raises:
        ShapeError, TypeError, ValueError: bad arguments, such as a length that does not fill a window.
    """

    def __init__(
        self,
        length: int = 1000,
        start: float = 100.0,
        drift: float = 0.0,
        volatility: float = 0.01,
        tau: int = 1,
        horizon: int = 1,
        seed: int = 0,
    ) -> None:
        _check_positive(length=length)
        _check_numbers(start=start, drift=drift, volatility=volatility)
        if start <= 0:
            raise ValueError(f"start: a price must be above 0, got {start:g}")
        _check_not_negative(volatility=volatility)
        steps = drift + volatility * _draws(seed, 2, length - 1)
        logarithms = math.log(start) + np.concatenate([[0.0], np.cumsum(steps)])
        super().__init__(_made(np.exp(logarithms)), tau, horizon)


# What they have in common ------------------------------------------------------------------------------------------


def _draws(seed: int, kind: int, count: int) -> np.ndarray:
    """Numbers from N(0, 1) that belong to the seed alone; the first ones are the same, however many are drawn."""
    return keyed_generator(seed, SERIES, kind).standard_normal(count)


def _made(values: np.ndarray) -> np.ndarray:
    return values.astype(get_default_dtype())


def _listed(name: str, series: Any) -> Tensor | np.ndarray:
    """A Tensor or an array as it is, a list as a Tensor."""
    if isinstance(series, (Tensor, np.ndarray)):
        return series
    if not isinstance(series, (list, tuple)):
        raise TypeError(f"{name}: must be a Tensor, an array or a list of numbers, got {type(series).__name__}")
    try:
        return as_tensor(series)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: must be numbers, or lists of as many numbers each") from error


def _floating(values: Any) -> Tensor:
    values = _listed("values", values)
    if isinstance(values, Tensor):
        tensor = values.detach()
        if not isinstance(tensor._array, np.ndarray):
            raise ValueError(f"values: must be on the CPU, got a Tensor on {tensor.device}; move the batches instead")
    else:
        if values.dtype.kind not in "fiub":
            raise DTypeError(f"values: must be numbers, got dtype {values.dtype}")
        tensor = from_numpy(values if values.dtype.kind != "u" else values.astype(np.int64))
    if tensor.ndim == 0:
        raise ShapeError("values: needs a dimension of time, got shape ()")
    return tensor if is_floating(tensor.dtype) else tensor.to(get_default_dtype())


def _check_positive(**arguments: Any) -> None:
    for name, value in arguments.items():
        if not is_positive(value) and not (isinstance(value, np.integer) and value > 0):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"{name}: must be an integer, got {type(value).__name__}")
            raise ValueError(f"{name}: must be at least 1, got {value}")


def _check_numbers(**arguments: Any) -> None:
    for name, value in arguments.items():
        if not is_number(value):
            raise ValueError(f"{name}: must be a finite number, got {value!r}")


def _check_not_negative(**arguments: float) -> None:
    for name, value in arguments.items():
        if value < 0:
            raise ValueError(f"{name}: must not be negative, got {value:g}")
