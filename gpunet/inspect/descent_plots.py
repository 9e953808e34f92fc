"""Pictures of optimization: the surface of a loss with walks on it, races, and learning rates of every size."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpunet.autograd import Tensor
from gpunet.inspect.descent import Descent, Loss, descend, loss_grid, optimizer_race, valley
from gpunet.inspect.pictures import check_path, finished, new_figure

__all__ = ["parabola", "plot_learning_rates", "plot_loss_surface", "plot_optimizer_race"]

# Colours that stay apart for colour-blind readers (Okabe and Ito 2008), then the same with other lines.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
LINES = ("-", "--", ":")


def parabola(point: Tensor) -> Tensor:
    """f(w) = w^2 / 2, whose gradient is w: gradient descent multiplies w by 1 - lr in each step."""
    return 0.5 * (point * point).sum()


def plot_loss_surface(
    walks: Mapping[str, Descent],
    loss: Loss = valley,
    path: str | os.PathLike[str] | None = None,
    *,
    xlim: tuple[float, float] | None = None,
    ylim: tuple[float, float] | None = None,
    resolution: int = 41,
    title: str = "",
) -> Any:
    """Draw a loss over its two weights, as lines of equal loss, with walks on it; beside it the loss after each step.

    The loss depends on the weights. With a small learning rate each step of gradient descent goes at right angles to
    the line of equal loss, and the loss never rises.

    Args:
        walks: by name, each over two weights, as ``descend`` gives them.
        loss: of two weights; it is evaluated ``resolution``^2 times.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        xlim, ylim: what is shown of the weights; None goes around the walks.
        resolution: points of the grid along each weight.
        title: above the picture.

    Returns:
        The ``matplotlib.figure.Figure``: on its first axes the surface, on its second the losses.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        ValueError: no walks, walks over other than two weights, or bad limits.
        OSError: the file cannot be written.
    """
    check_path(path)
    if not walks or any(walk.points.ndim != 2 or walk.points.shape[1] != 2 for walk in walks.values()):
        raise ValueError("walks: must be one or more over two weights each")
    figure = new_figure(9.0, 4.2)
    points = np.concatenate([walk.points for walk in walks.values()])
    points = points[np.isfinite(points).all(1)]
    limits = []
    for given, values in ((xlim, points[:, 0]), (ylim, points[:, 1])):
        edge = 0.15 * max(float(np.ptp(values)), 1e-3)
        limits.append((float(values.min()) - edge, float(values.max()) + edge) if given is None else given)
    x, y, values = loss_grid(loss, limits[0], limits[1], resolution)
    surface, curve = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.12, top=0.9, wspace=0.22)
    finite = values[np.isfinite(values)]
    # Lines are closer where the loss is small: there the walks end.
    levels = np.unique(finite.min() + np.ptp(finite) * np.linspace(0.0, 1.0, 16) ** 2)
    if len(levels) > 1:
        surface.contour(x, y, values, levels=levels, colors="#999999", linewidths=0.7)
    for number, (name, walk) in enumerate(walks.items()):
        style = {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number // len(COLOURS) % len(LINES)]}
        marker = {"marker": ".", "markersize": 4} if len(walk.points) <= 40 else {}
        surface.plot(*walk.points.T, linewidth=1.2, label=name, gid=f"path {name}", **style, **marker)
        curve.plot(walk.losses, linewidth=1.2, label=name, gid=f"loss {name}", **style)
    surface.plot(*next(iter(walks.values())).points[0], "o", color="black", markersize=5, gid="start")
    surface.set_xlim(limits[0])
    surface.set_ylim(limits[1])
    surface.set_xlabel("first weight")
    surface.set_ylabel("second weight")
    curve.set_xlabel("step")
    curve.set_ylabel("loss")
    if all((walk.losses[np.isfinite(walk.losses)] > 0).all() for walk in walks.values()):
        curve.set_yscale("log")
    curve.legend(frameon=False, fontsize=7)
    if title:
        figure.suptitle(title, fontsize=10)
    return finished(figure, path)


def plot_optimizer_race(
    race: Mapping[str, Descent] | None = None,
    loss: Loss = valley,
    path: str | os.PathLike[str] | None = None,
    *,
    title: str = "the same valley, the same start",
) -> Any:
    """Draw the race of the optimizers: their walks down one loss, and how fast each comes down.

    Args:
        race: as ``optimizer_race`` gives it; None is its default, the whole family in a valley.
        loss: the one that they went down.
        path, title: as for ``plot_loss_surface``, which draws it.
    """
    check_path(path)
    new_figure(1.0, 1.0)  # without Matplotlib, fail before the work
    return plot_loss_surface(optimizer_race(loss=loss) if race is None else race, loss, path, title=title)


def plot_learning_rates(
    rates: Sequence[float] = (0.1, 1.0, 1.9, 2.1), path: str | os.PathLike[str] | None = None, *, steps: int = 20
) -> Any:
    """Draw gradient descent on w^2 / 2 from w = 1 with learning rates from too small to too large.

    Each step multiplies w by 1 - lr, so it comes down for 0 < lr < 2 alone: with 0.1 it creeps, with 1 it is there in
    one step, with 1.9 it jumps from side to side and comes down as slowly as with 0.1, with 2.1 it goes up and away.
    Elsewhere the 2 is 2 divided by the largest curvature.

    Args:
        rates: one picture each.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        steps: of each.

    Returns:
        The ``matplotlib.figure.Figure``, with one axes for each rate.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        ValueError: no rates, negative ones, or steps below 1.
        OSError: the file cannot be written.
    """
    check_path(path)
    if not len(rates):
        raise ValueError("rates: there are none")
    figure = new_figure(2.9 * len(rates), 2.9)
    walks = [descend(parabola, (1.0,), float(rate), steps) for rate in rates]
    for axes, rate, walk in zip(np.ravel(figure.subplots(1, len(rates))), rates, walks, strict=True):
        w = walk.points[:, 0]
        reach = 1.15 * float(np.abs(w).max())
        line = np.linspace(-reach, reach, 101)
        axes.plot(line, line**2 / 2, color="#999999", linewidth=1.0)
        axes.plot(w, w**2 / 2, color=COLOURS[1], linewidth=0.9, marker=".", markersize=5, gid=f"path {rate:g}")
        axes.set_title(f"lr {rate:g}: w = {w[-1]:.4g} after {steps} steps", fontsize=8)
        axes.set_xlabel("w", fontsize=8)
        axes.tick_params(labelsize=7)
    figure.subplots_adjust(left=0.05, right=0.98, bottom=0.16, top=0.88, wspace=0.25)
    return finished(figure, path)
