"""Pictures of optimization: the surface of a loss with walks on it, races, and learning rates of every size."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpunet.autograd import Tensor
from gpunet.backend.errors import ShapeError
from gpunet.inspect.checks import LARGEST, check_numbers
from gpunet.inspect.descent import Descent, Loss, descend, loss_grid, optimizer_race, valley
from gpunet.inspect.pictures import check_path, finished, new_figure

__all__ = ["parabola", "plot_learning_rates", "plot_loss_surface", "plot_optimizer_race"]

# Colours that stay apart for colour-blind readers (Okabe and Ito 2008), and four more for ten walks at once; every
# other line is broken, so that neighbours differ in two ways.
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8b0000", "#6a3d9a", "#808000",
)  # fmt: skip
LINES = ("-", (0, (5, 1.2)), "-.", ":")
MOST_WALKS = len(COLOURS)
MOST_RATES = 8  # that can be drawn side by side
SEEN = 2.6  # largest |w| in the picture of a learning rate: what goes further leaves it


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
    """Draw a loss over its two weights, with walks on it; beside it the loss after each step.

    The loss is drawn as lines of equal loss, with its values, and darker where it is larger. Both weights have one
    scale, so that right angles are right angles: with a small learning rate each step of gradient descent crosses the
    line of equal loss at one. The loss depends on the weights, and with such a rate it never rises.

    Args:
        walks: by name, each over two weights, as ``descend`` gives them; at most 10.
        loss: of two weights; it is evaluated ``resolution``^2 times, and some 1,200 times to find its least value.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        xlim, ylim: what is shown of the weights; None is the walks and as much again beyond the least loss near them,
            or the least of theirs where there is none, which is in the middle. What goes further than a hundred times
            as far as the walks began is left out.
        resolution: points of the grid along each weight.
        title: above the picture.

    Returns:
        The ``matplotlib.figure.Figure``: on its first axes the surface, with a star at its least loss, on its second
        the losses.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        TypeError: walks that are no dict of ``Descent``, or a loss that is no function.
        ValueError: no walks or more than 10, walks over other than two weights, bad limits, or a loss that is
            infinite, or above 1e100, everywhere in them.
        OSError: the file cannot be written.
    """
    check_path(path)
    if not isinstance(walks, Mapping) or not all(isinstance(walk, Descent) for walk in walks.values()):
        raise TypeError(f"walks: must be a dict of what descend gives, by name, got {type(walks).__name__}")
    if not walks or any(walk.points.ndim != 2 or walk.points.shape[1] != 2 for walk in walks.values()):
        raise ValueError("walks: must be one or more over two weights each")
    if len(walks) > MOST_WALKS:
        raise ValueError(f"walks: {len(walks)} are more than can be told apart ({MOST_WALKS})")
    figure = new_figure(11.0, 4.4)
    around_x, around_y = _limits(loss, walks)
    x, y, values = loss_grid(
        loss, around_x if xlim is None else xlim, around_y if ylim is None else ylim, resolution
    )  # also checks them
    finite = np.isfinite(values) & (np.abs(values) < LARGEST)
    if not finite.any():
        raise ValueError("loss: is infinite, or above 1e100, everywhere in the picture")
    values = np.where(finite, values, np.nan)
    surface, curve = figure.add_axes((0.06, 0.13, 0.54, 0.75)), figure.add_axes((0.68, 0.13, 0.3, 0.75))
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    # Lines are closer where the loss is small: there the walks end.
    levels = np.unique(low + (high - low) * np.linspace(0.0, 1.0, 13) ** 2)
    if len(levels) > 1:
        surface.contourf(x, y, values, levels=levels, cmap="Greys", alpha=0.45)
        lines = surface.contour(x, y, values, levels=levels[1:-1], colors="#777777", linewidths=0.7)
        surface.clabel(lines, fontsize=6, fmt=lambda value: f"{value:.3g}")
        bottom_y, bottom_x = np.unravel_index(np.nanargmin(values), values.shape)
        if 0 < bottom_x < len(x) - 1 and 0 < bottom_y < len(y) - 1:
            place = _least(loss, (x[bottom_x], y[bottom_y]), (x[1] - x[0], y[1] - y[0]))
            surface.plot(*place, "*", color="white", markeredgecolor="black", markersize=11, gid="least", zorder=5)
    for number, (name, walk) in enumerate(walks.items()):
        style = {"color": COLOURS[number], "linestyle": LINES[number % len(LINES)]}
        marker = {"marker": ".", "markersize": 4} if len(walk.points) <= 40 else {}
        surface.plot(*_drawable(walk.points).T, linewidth=1.3, label=name, gid=f"path {name}", **style, **marker)
        curve.plot(_drawable(walk.losses), linewidth=1.3, label=name, gid=f"loss {name}", **style)
    surface.plot(*next(iter(walks.values())).points[0], "o", color="black", markersize=5, gid="start", zorder=5)
    surface.set_xlim(x[0], x[-1])
    surface.set_ylim(y[0], y[-1])
    surface.set_aspect("equal")
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


def _drawable(values: np.ndarray) -> np.ndarray:
    """NaN for what no picture can show."""
    return np.where(np.abs(values) < LARGEST, values, np.nan)


def _limits(loss: Loss, walks: Mapping[str, Descent]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits around the walks and the least loss, which is in the middle, so that all sides of it are seen."""
    points = np.concatenate([walk.points for walk in walks.values()])
    losses = np.concatenate([walk.losses for walk in walks.values()])
    far = 100.0 * max(1.0, max(float(np.abs(walk.points[0]).max()) for walk in walks.values()))
    kept = np.abs(points).max(1) <= far
    points, losses = points[kept], losses[kept]
    lowest = points[np.nanargmin(losses)] if np.isfinite(losses).any() else points[0]
    reach = np.maximum(np.abs(points - lowest).max(0), 1e-3)
    middle = _least(loss, lowest, reach)
    half = 1.15 * np.maximum(np.abs(points - middle).max(0), 1e-3)
    half = np.maximum(half, half.max() / 2)  # no valley is a slit
    (left, bottom), (right, top) = middle - half, middle + half
    return (float(left), float(right)), (float(bottom), float(top))


def _least(loss: Loss, middle: Any, reach: Any) -> np.ndarray:
    """The place of the least loss near a place, by looking around it ever more closely; one at the border is none."""
    start = place = np.asarray(middle, np.float64)
    reach = np.asarray(reach, np.float64)
    for _ in range(12):
        x, y, values = loss_grid(
            loss, (place[0] - reach[0], place[0] + reach[0]), (place[1] - reach[1], place[1] + reach[1]), 7
        )
        if not np.isfinite(values).any():
            return start
        row, column = np.unravel_index(np.nanargmin(np.where(np.isfinite(values), values, np.nan)), values.shape)
        place, reach = np.array([x[column], y[row]]), reach / 2
    return place if np.all(np.abs(place - start) < 1.9 * np.asarray(reach) * 2**12) else start


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

    Above, each walk on the parabola, all on one scale; a ring is the start, arrows the first steps. Below, |w| after
    each step, on a logarithmic scale: what comes down falls, what does not rises.

    Args:
        rates: one picture each, at most 8.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        steps: of each.

    Returns:
        The ``matplotlib.figure.Figure``, with one axes for each rate, and last the one of |w|.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        TypeError, ShapeError: rates that are no vector of numbers.
        ValueError: no rates or more than 8, negative or infinite ones, or steps below 1.
        OSError: the file cannot be written.
    """
    check_path(path)
    given = check_numbers("rates", rates)
    if given.ndim != 1:
        raise ShapeError(f"rates: must be a vector, got shape {given.shape}")
    if not 1 <= len(given) <= MOST_RATES:
        raise ValueError("rates: there are none" if not len(given) else f"rates: more than {MOST_RATES} are too many")
    figure = new_figure(max(2.6 * len(given) + 0.8, 5.0), 5.4)
    from matplotlib.ticker import MaxNLocator

    walks = [descend(parabola, (1.0,), float(rate), steps) for rate in given]
    grid = figure.add_gridspec(
        2, len(given), left=0.75 / figure.get_figwidth(), right=1 - 0.15 / figure.get_figwidth(), bottom=0.1, top=0.92,
        wspace=0.12, hspace=0.38,
    )  # fmt: skip
    line = np.linspace(-SEEN, SEEN, 101)
    above, below = [figure.add_subplot(grid[0, number]) for number in range(len(given))], figure.add_subplot(grid[1, :])
    for number, (axes, rate, walk) in enumerate(zip(above, given, walks, strict=True)):
        colour = COLOURS[number]
        w, height = _drawable(walk.points[:, 0]), _drawable(walk.losses)
        axes.plot(line, line**2 / 2, color="#999999", linewidth=1.0)
        axes.plot(w, height, color=colour, linewidth=0.9, marker=".", markersize=5, gid=f"path {rate:g}")
        axes.plot(
            [1.0], [0.5], "o", markerfacecolor="none", markeredgecolor="black", markersize=8, gid=f"start {rate:g}"
        )
        for step in range(min(3, len(w) - 1)):
            if np.isfinite(w[step + 1]) and w[step] != w[step + 1]:
                axes.annotate(
                    "", (w[step + 1], height[step + 1]), (w[step], height[step]), gid=f"step {rate:g} {step + 1}",
                    annotation_clip=True,
                    arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0},
                )  # fmt: skip
        axes.set_xlim(-SEEN, SEEN)
        axes.set_ylim(-0.15, SEEN**2 / 2)
        axes.set_title(f"lr {rate:g}: w = {walk.points[-1, 0]:.4g} after {len(walk.points) - 1} steps", fontsize=8)
        axes.set_xlabel("w", fontsize=8)
        axes.tick_params(labelsize=7, labelleft=number == 0)
        if number == 0:
            axes.set_ylabel("loss w²/2", fontsize=8)
        # A logarithm has no place for 0: there the line ends. Walks of one size would hide each other.
        size = np.where(w != 0, np.abs(w), np.nan)
        below.plot(
            size, color=colour, linewidth=max(3.0 - 0.8 * number, 0.9), linestyle=LINES[number % len(LINES)],
            marker="osD^vP*X"[number],
            markersize=max(10 - 2 * number, 4), markerfacecolor="none", label=f"lr {rate:g}", gid=f"size {rate:g}",
        )  # fmt: skip
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.axhline(1.0, color="#999999", linewidth=0.8)
    below.set_yscale("log")
    below.set_xlabel("step", fontsize=8)
    below.set_ylabel("|w|", fontsize=8)
    below.tick_params(labelsize=7)
    below.legend(frameon=False, fontsize=8)
    return finished(figure, path)
