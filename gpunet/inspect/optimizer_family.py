"""The family of the optimizers: who came from whom, and what each added."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from gpunet import optim
from gpunet.inspect.pictures import check_path, finished, new_figure

__all__ = ["OPTIMIZER_FAMILY", "Relative", "plot_optimizer_family"]


@dataclass(frozen=True, slots=True)
class Relative:
    """An optimizer in the family.

    Attributes:
        year: of its paper.
        source: who, and where.
        parents: names of those that it was made from.
        adds: what it added to them.
        kind: the class in ``gpunet.optim``.
        options: what makes that class this optimizer; ``lr`` is the learning rate of ``optimizer_trace``.
    """

    year: int
    source: str
    parents: tuple[str, ...]
    adds: str
    kind: type[optim.Optimizer]
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({"lr": 0.1}))

    def make(self, params: Any, **options: Any) -> optim.Optimizer:
        """The optimizer for parameters; ``options`` go before its own."""
        return self.kind(params, **{**self.options, **options})


OPTIMIZER_FAMILY: Final[Mapping[str, Relative]] = MappingProxyType({
    "GD": Relative(1847, "Cauchy", (), "a step against the gradient of all samples", optim.SGD),
    "SGD": Relative(1951, "Robbins and Monro", ("GD",), "the gradient of a minibatch", optim.SGD),
    "Momentum": Relative(
        1964, "Polyak", ("SGD",), "a running sum of gradients", optim.SGD, {"lr": 0.1, "momentum": 0.9}
    ),
    "NAG": Relative(
        1983, "Nesterov", ("Momentum",), "the gradient ahead of the step", optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    ),
    "Adagrad": Relative(
        2011, "Duchi, Hazan and Singer", ("SGD",), "a rate for each weight: all squares so far", optim.Adagrad
    ),
    "RMSProp": Relative(
        2012, "Tieleman and Hinton, lecture", ("Adagrad",), "forgets old squares", optim.RMSprop
    ),
    "AdaDelta": Relative(
        2012, "Zeiler", ("Adagrad",), "forgets old squares; steps in the weights' unit", optim.Adadelta, {"lr": 1.0}
    ),
    "Adam": Relative(
        2014, "Kingma and Ba", ("Momentum", "RMSProp"), "both, without their bias towards 0", optim.Adam
    ),
    "AdaMax": Relative(2014, "Kingma and Ba", ("Adam",), "the largest gradient for the squares", optim.Adamax),
    "NAdam": Relative(2016, "Dozat", ("NAG", "Adam"), "looks ahead", optim.NAdam),
    "AdamW": Relative(2017, "Loshchilov and Hutter", ("Adam",), "weight decay beside the gradient", optim.AdamW),
})  # fmt: skip
"""By name, the older first; a parent stands before its children."""

WIDTH, HEIGHT, ROW = 2.6, 0.62, 1.05  # inches
# Where each stands: column, row.
PLACES = {
    "GD": (1, 0), "SGD": (1, 1), "Momentum": (0.6, 2), "Adagrad": (2, 2), "NAG": (0, 3), "RMSProp": (2, 3),
    "AdaDelta": (3, 3), "Adam": (1.5, 4), "NAdam": (0, 5), "AdaMax": (1.5, 5), "AdamW": (3, 5),
}  # fmt: skip


def plot_optimizer_family(path: str | os.PathLike[str] | None = None) -> Any:
    """Draw the family tree of the optimizers: each with its year and what it added, below those it was made from.

    Args:
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.

    Returns:
        The ``matplotlib.figure.Figure``.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        OSError: the file cannot be written.
    """
    check_path(path)
    columns, rows = (1 + max(place[n] for place in PLACES.values()) for n in (0, 1))
    width, height = columns * (WIDTH + 0.3) + 0.3, rows * ROW + 0.2
    figure = new_figure(width, height)
    from matplotlib.patches import Rectangle

    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0.0, width)
    axes.set_ylim(height, 0.0)
    corner = {name: (0.3 + column * (WIDTH + 0.3), 0.25 + row * ROW) for name, (column, row) in PLACES.items()}
    for name, relative in OPTIMIZER_FAMILY.items():
        x, y = corner[name]
        for parent in relative.parents:
            above, top = corner[parent]
            axes.annotate(
                "", (x + WIDTH / 2, y), (above + WIDTH / 2, top + HEIGHT),
                arrowprops={"arrowstyle": "-|>", "color": "#444444", "linewidth": 1.0}, gid=f"{parent} to {name}",
            )  # fmt: skip
        axes.add_patch(
            Rectangle((x, y), WIDTH, HEIGHT, facecolor="#d6e6f4", edgecolor="#444444", linewidth=0.8, gid=f"box {name}")
        )
        axes.text(
            x + WIDTH / 2, y + 0.18, f"{name} ({relative.year})", ha="center", va="center", fontsize=9, weight="bold"
        )
        words = relative.adds.split()
        half = next((n for n in range(len(words)) if len(" ".join(words[: n + 1])) > 36), len(words))
        lines = [" ".join(words[:half]), " ".join(words[half:])]
        axes.text(
            x + WIDTH / 2, y + 0.43, "\n".join(line for line in lines if line), ha="center", va="center", fontsize=6.5
        )
    return finished(figure, path)
