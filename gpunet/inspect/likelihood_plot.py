"""The picture of a likelihood: several densities, and where one observation cuts them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet.autograd import as_tensor
from gpunet.backend.errors import ShapeError
from gpunet.distributions import Normal
from gpunet.inspect.checks import check_numbers, finite_number
from gpunet.inspect.pictures import check_path, finished, new_figure

__all__ = ["likelihood", "plot_likelihood"]

COLOURS = ("#0072b2", "#009e73", "#d55e00", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def likelihood(x0: float, means: Sequence[float] | np.ndarray, scale: float = 1.0) -> np.ndarray:
    """How likely an observation is under each mean: the normal density N(x0; mean, scale^2), float64.

    As a function of x it is a density, whose integral is 1. As a function of the mean, with x0 fixed, it is the
    likelihood: it says how well each mean explains what was seen, and is no probability of the mean. It is largest
    where the mean is x0; so is its logarithm, which keeps the order.

    Raises:
        TypeError, ShapeError: no numbers, or several for one.
        ValueError: numbers that are not finite, or a scale that is not positive.
    """
    at, places, deviation = finite_number("x0", x0), check_numbers("means", means), _scale(scale)
    return Normal(as_tensor(places), as_tensor(np.float64(deviation))).log_prob(as_tensor(np.float64(at))).exp().numpy()


def _scale(scale: Any) -> float:
    deviation = finite_number("scale", scale)
    if deviation <= 0:
        raise ValueError(f"scale: must be positive, got {deviation:g}")
    return deviation


def plot_likelihood(
    x0: float = 1.0,
    means: Sequence[float] = (-1.0, 0.0, 1.0),
    scale: float = 1.0,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Draw the normal densities of several means with the line x = x0, and beside it the likelihood of every mean.

    Args:
        x0: what was observed.
        means: of the curves.
        scale: the standard deviation of all.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.

    Returns:
        The ``matplotlib.figure.Figure`` with its two axes.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        TypeError, ShapeError: no numbers, or no vector of means.
        ValueError: no means, numbers that are not finite, or a scale that is not positive.
        OSError: the file cannot be written.
    """
    check_path(path)
    x0, scale, middles = finite_number("x0", x0), _scale(scale), check_numbers("means", means)
    if middles.ndim != 1:
        raise ShapeError(f"means: must be a vector, got shape {middles.shape}")
    if not middles.size:
        raise ValueError("means: there are none")
    at = likelihood(x0, middles, scale)
    figure = new_figure(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    low, high = min(middles.min(), x0) - 4 * scale, max(middles.max(), x0) + 4 * scale
    line = np.linspace(low, high, 401)
    for number, (mean, value) in enumerate(zip(middles, at, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        density = Normal(float(mean), float(scale)).log_prob(as_tensor(line)).exp().numpy()
        label = f"μ = {mean:g}: {value:.4f} at x0"
        left.plot(line, density, color=colour, linewidth=1.4, label=label, gid=f"density {mean:g}")
        for axes, place in ((left, x0), (right, mean)):
            axes.plot([place], [value], "o", color=colour, markersize=5, gid=f"point {mean:g}")
    left.axvline(x0, color="#444444", linewidth=1.0, linestyle="--", gid="x0")
    left.set_xlabel("x")
    left.set_ylabel("density")
    left.set_title(f"densities of x, σ = {scale:g}", fontsize=9)
    left.set_ylim(top=0.4 / scale * (1.1 + 0.07 * len(middles)))  # room for the legend above the curves
    left.legend(frameon=False, fontsize=7)
    right.plot(line, likelihood(x0, line, scale), color="#444444", linewidth=1.2, zorder=0, gid="likelihood")
    right.set_xlabel("μ")
    right.set_ylabel("likelihood")
    right.set_title(f"likelihood of μ at x0 = {x0:g}", fontsize=9)
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.14, top=0.9, wspace=0.22)
    return finished(figure, path)
