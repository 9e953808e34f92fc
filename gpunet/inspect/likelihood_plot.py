"""The picture of a likelihood: several densities, and where one observation cuts them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet.autograd import as_tensor
from gpunet.distributions import Normal
from gpunet.inspect.pictures import check_path, finished, new_figure

__all__ = ["likelihood", "plot_likelihood"]

COLOURS = ("#0072b2", "#009e73", "#d55e00", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def likelihood(x0: float, means: Sequence[float] | np.ndarray, scale: float = 1.0) -> np.ndarray:
    """How likely an observation is under each mean: the normal density N(x0; mean, scale^2), float64.

    As a function of x it is a density, whose integral is 1. As a function of the mean, with x0 fixed, it is the
    likelihood: it says how well each mean explains what was seen, and is no probability of the mean. It is largest
    where the mean is x0; so is its logarithm, which keeps the order.
    """
    normal = Normal(as_tensor(np.asarray(means, np.float64)), as_tensor(np.float64(scale)))
    return normal.log_prob(as_tensor(np.float64(x0))).exp().numpy()


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
        ValueError: no means, or a scale that is not positive.
        OSError: the file cannot be written.
    """
    check_path(path)
    if not len(means):
        raise ValueError("means: there are none")
    at = likelihood(x0, means, scale)
    figure = new_figure(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    low, high = min(*means, x0, x0) - 4 * scale, max(*means, x0, x0) + 4 * scale
    line = np.linspace(low, high, 401)
    for number, (mean, value) in enumerate(zip(means, at, strict=True)):
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
    left.legend(frameon=False, fontsize=7)
    right.plot(line, likelihood(x0, line, scale), color="#444444", linewidth=1.2, zorder=0, gid="likelihood")
    right.set_xlabel("μ")
    right.set_title(f"likelihood of μ at x0 = {x0:g}", fontsize=9)
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.14, top=0.9, wspace=0.18)
    return finished(figure, path)
