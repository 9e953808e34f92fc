"""Bad inputs of windows and series, and the one clear error each gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.data import ARProcess, RandomWalk, Series, Sine, windows
from gpunet.testing.bad_input import DEVICES, BadInput

CATALOGUE = [
    BadInput("windows longer than the series", lambda z, on: windows(z(3), 4),
             gn.ShapeError, "series: its 3 values do not fill a window of tau = 4"),
    BadInput("windows of nothing", lambda z, on: windows(z(0), 1),
             gn.ShapeError, "series: its 0 values do not fill a window of tau = 1"),
    BadInput("windows without time", lambda z, on: windows(z(1)[0], 1),
             gn.ShapeError, "series: needs a dimension of time, got shape ()"),
    BadInput("windows of text", lambda z, on: windows("abc", 2),
             TypeError, "series: must be a Tensor, an array or a list of numbers, got str"),
    BadInput("windows of words", lambda z, on: windows(["a", "b"], 2),
             TypeError, "series: must be numbers, or lists of as many numbers each"),
    BadInput("windows of uneven lists", lambda z, on: windows([1, [2]], 2),
             TypeError, "series: must be numbers, or lists of as many numbers each"),
    BadInput("windows of a short list", lambda z, on: windows([1, 2, 3], 4),
             gn.ShapeError, "series: its 3 values do not fill a window of tau = 4"),
    BadInput("windows of tau 0", lambda z, on: windows(z(3), 0), ValueError, "tau: must be at least 1, got 0"),
    BadInput("windows of a float", lambda z, on: windows(z(3), 2.0),  # type: ignore[arg-type]
             TypeError, "tau: must be an integer, got float"),
    BadInput("windows with step 0", lambda z, on: windows(z(3), 2, 0), ValueError, "step: must be at least 1, got 0"),
]  # fmt: skip

SERIES = [
    BadInput("too short for a target", lambda z, on: Series(np.zeros(4), 4),
             gn.ShapeError, "values: 4 do not fill a window of tau = 4 and the target 1 after it"),
    BadInput("too short for the horizon", lambda z, on: Series(np.zeros(6), 4, 3),
             gn.ShapeError, "values: 6 do not fill a window of tau = 4 and the target 3 after it"),
    BadInput("tau 0", lambda z, on: Series(np.zeros(4), 0), ValueError, "tau: must be at least 1, got 0"),
    BadInput("horizon 0", lambda z, on: Series(np.zeros(4), 1, 0), ValueError, "horizon: must be at least 1, got 0"),
    BadInput("no series", lambda z, on: Series(3, 1),  # type: ignore[arg-type]
             TypeError, "values: must be a Tensor, an array or a list of numbers, got int"),
    BadInput("a list of words", lambda z, on: Series(["a", "b"], 1),
             TypeError, "values: must be numbers, or lists of as many numbers each"),
    BadInput("an empty list", lambda z, on: Series([], 1),
             gn.ShapeError, "values: 0 do not fill a window of tau = 1 and the target 1 after it"),
    BadInput("text", lambda z, on: Series(np.array(["a", "b"]), 1),
             gn.DTypeError, "values: must be numbers, got dtype <U1"),
    BadInput("no time", lambda z, on: Series(np.zeros(()), 1),
             gn.ShapeError, "values: needs a dimension of time, got shape ()"),
    BadInput("on meta", lambda z, on: Series(gn.zeros(4, device="meta"), 1),
             ValueError, "values: must be on the CPU, got a Tensor on meta; move the batches instead"),
    BadInput("test of all", lambda z, on: Series(np.zeros(20), 4).split(1.0),
             ValueError, "test: a fraction must be above 0 and below 1, got 1"),
    BadInput("test of nothing", lambda z, on: Series(np.zeros(20), 4).split(0.0),
             ValueError, "test: a fraction must be above 0 and below 1, got 0"),
    BadInput("test of text", lambda z, on: Series(np.zeros(20), 4).split("half"),  # type: ignore[arg-type]
             TypeError, "test: must be a fraction or a number of values, got str"),
    BadInput("test too small", lambda z, on: Series(np.zeros(20), 4).split(0.1),
             gn.ShapeError, "test: leaves 18 values for training and 2 for testing; each part needs at least 5, for a "
                            "window and its target"),
    BadInput("test too large", lambda z, on: Series(np.zeros(20), 4).split(16),
             gn.ShapeError, "test: leaves 4 values for training and 16 for testing; each part needs at least 5, for a "
                            "window and its target"),
    BadInput("sine of length 0", lambda z, on: Sine(0), ValueError, "length: must be at least 1, got 0"),
    BadInput("sine shorter than a window", lambda z, on: Sine(2),
             gn.ShapeError, "values: 2 do not fill a window of tau = 2 and the target 1 after it"),
    BadInput("sine of period 2", lambda z, on: Sine(period=2),
             ValueError, "period: must be above 2 steps, or a slower wave has the same values, got 2"),
    BadInput("sine of a NaN", lambda z, on: Sine(amplitude=float("nan")),
             ValueError, "amplitude: must be a finite number, got nan"),
    BadInput("sine with negative noise", lambda z, on: Sine(noise=-1.0),
             ValueError, "noise: must not be negative, got -1"),
    BadInput("an explosive process", lambda z, on: ARProcess(coefficients=(1.5,)),
             ValueError, "coefficients: [1.5] make no stationary process: the past grows by a factor of 1.5 a step, "
                         "which must be below 1"),
    BadInput("a random walk as a process", lambda z, on: ARProcess(coefficients=(1.0,)),
             ValueError, "coefficients: [1.0] make no stationary process: the past grows by a factor of 1 a step, "
                         "which must be below 1"),
    BadInput("no coefficients", lambda z, on: ARProcess(coefficients=()),
             ValueError, "coefficients: at least one is needed, all finite, got []"),
    BadInput("a price of 0", lambda z, on: RandomWalk(start=0), ValueError, "start: a price must be above 0, got 0"),
    BadInput("negative volatility", lambda z, on: RandomWalk(volatility=-0.1),
             ValueError, "volatility: must not be negative, got -0.1"),
    BadInput("a length of a float", lambda z, on: RandomWalk(10.0),  # type: ignore[arg-type]
             TypeError, "length: must be an integer, got float"),
    BadInput("a seed of text", lambda z, on: RandomWalk(10, seed="a"),  # type: ignore[arg-type]
             TypeError, "seed: expected an integer, got str"),
]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
def test_bad_windows(entry: Any, device: str) -> None:
    entry.check(device)


@pytest.mark.parametrize("entry", SERIES, ids=repr)
def test_bad_series(entry: Any) -> None:
    entry.check("cpu")
