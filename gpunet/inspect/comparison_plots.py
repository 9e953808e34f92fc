"""Pictures that compare: parameters of alternatives, memory against parameters by layer, curves of several runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.inspect.checks import check_numbers
from gpunet.inspect.explain import ParamExplanation, explain_params, product_text
from gpunet.inspect.pictures import check_path, finished, new_figure
from gpunet.inspect.summary import summary
from gpunet.inspect.summary_text import without_batch
from gpunet.nn import Module

__all__ = ["plot_curves", "plot_layer_costs", "plot_param_counts"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
LINES = ("-", "--", ":", "-.")
MOST_LAYERS = 60


def plot_param_counts(
    models: Mapping[str, Module | int] | ParamExplanation,
    path: str | os.PathLike[str] | None = None,
    *,
    title: str = "",
) -> Any:
    """Draw how many weights alternatives have, as bars with the products that they come from.

    ::

        plot_param_counts({"one 5x5": nn.Conv2d(128, 128, 5),
                           "two 3x3": nn.Sequential(nn.Conv2d(128, 128, 3), nn.Conv2d(128, 128, 3))})

    Args:
        models: by name, or numbers; or what ``explain_params`` gives: the arrows of AlexNet's figure are drawn if it
            has them, else its layers.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        title: above the picture.

    Returns:
        The ``matplotlib.figure.Figure``; the bars are on its one axes.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        TypeError, ValueError: nothing to count, or something that has no parameters.
        OSError: the file cannot be written.
    """
    check_path(path)
    bars: list[tuple[str, int, str]] = []  # name, weights, product
    if isinstance(models, ParamExplanation):
        bars = [
            (f"{arrow.number}  {arrow.source} → {arrow.target}", arrow.weights,
             product_text(arrow.factors, arrow.weights, arrow.biases))
            for arrow in models.arrows
        ] or [(row.name, row.weights, row.text) for row in models.rows]  # fmt: skip
    elif isinstance(models, Mapping):
        for name, model in models.items():
            if isinstance(model, Module):
                found = explain_params(model)
                text = " + ".join("*".join(map(str, row.factors)) for row in found.rows if row.weights)
                bars.append((name, found.weights, f"{text} = {found.weights:,}"))
            elif isinstance(model, int) and not isinstance(model, bool) and model >= 0:
                bars.append((name, model, f"{model:,}"))
            else:
                raise TypeError(f"models: {name!r} must be a Module or a number, got {type(model).__name__}")
    else:
        raise TypeError(f"models: must be a dict or a ParamExplanation, got {type(models).__name__}")
    if not bars:
        raise ValueError("models: there is nothing to draw")
    figure = new_figure(9.0, 0.42 * len(bars) + 1.0)
    axes = figure.add_axes((0.2, 0.42 / figure.get_figheight(), 0.78, 1 - 0.85 / figure.get_figheight()))
    largest = max(1, *(count for _, count, _ in bars))
    for number, (name, count, text) in enumerate(bars):
        (bar,) = axes.barh([number], [count], color=COLOURS[0], alpha=0.35, height=0.62)
        bar.set_gid(f"bar {name}")
        axes.text(0.01 * largest, number, text, fontsize=8, va="center", gid=f"text {name}")
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars], fontsize=8)
    axes.set_xlim(0, 1.02 * largest)
    axes.invert_yaxis()
    axes.set_xlabel("weights", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if title:
        axes.set_title(title, fontsize=9)
    return finished(figure, path)


def plot_layer_costs(
    model: Module | str,
    path: str | os.PathLike[str] | None = None,
    input_size: Sequence[Any] | None = None,
    **kwargs: Any,
) -> Any:
    """Draw where a network's memory and its parameters are, layer by layer: most memory early, most parameters late.

    Memory counts the numbers that convolutions, poolings and linear layers give for one image, as lecture notes do.

    Args:
        model: a model, which is only read, or the name of one.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        input_size: (C, H, W), as for ``summary``.
        kwargs: for the function that makes a model of that name.

    Returns:
        The ``matplotlib.figure.Figure``: on its first axes the memory of each layer, on its second the parameters.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        UnknownModelError, ShapeError, TypeError: as ``summary``.
        ValueError: no such layers, or more than 60.
        OSError: the file cannot be written.
    """
    check_path(path)
    new_figure(1.0, 1.0)  # without Matplotlib, fail before the work
    found = summary(model, input_size, **kwargs)
    layers = [layer for layer in found.layers if layer.leaf and (layer.activation_floats or layer.own_params)]
    if not 1 <= len(layers) <= MOST_LAYERS:
        raise ValueError(f"model: {len(layers)} layers cannot be drawn (1 to {MOST_LAYERS} can)")
    figure = new_figure(10.0, 0.2 * len(layers) + 1.4)
    left, right = figure.subplots(1, 2, sharey=True)
    places = range(len(layers))
    for axes, what, values, total in (
        (left, "memory", [layer.activation_floats for layer in layers], found.activation_floats),
        (right, "parameters", [0 if layer.again else layer.own_params for layer in layers], found.total_params),
    ):
        for bar, layer in zip(axes.barh(places, values, color=COLOURS[0], height=0.7), layers, strict=True):
            bar.set_gid(f"{what} {layer.name}")
        unit = "numbers with the image's" if what == "memory" else "in all"
        axes.set_title(f"{what}: {total:,} {unit}", fontsize=9)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g} M")
        axes.grid(True, axis="x", linewidth=0.4, alpha=0.6)
    shapes = [without_batch(layer.output_shape or (), layer.batch_axis) for layer in layers]
    names = [f"{layer.name}  {'×'.join(map(str, shape))}" for layer, shape in zip(layers, shapes, strict=True)]
    left.set_yticks(places, names)
    left.invert_yaxis()
    tall = figure.get_figheight()
    figure.subplots_adjust(left=0.24, right=0.98, bottom=0.6 / tall, top=1 - 0.5 / tall, wspace=0.08)
    return finished(figure, path)


def plot_curves(
    curves: Mapping[str, Sequence[float]],
    path: str | os.PathLike[str] | None = None,
    *,
    xlabel: str = "epoch",
    ylabel: str = "training loss",
    log: bool = True,
    title: str = "",
) -> Any:
    """Draw curves of several runs over each other, such as the training losses of plain and residual networks.

    Args:
        curves: by name, each a number for every epoch from 1.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        xlabel, ylabel, title: on the picture.
        log: whether the values are on a logarithmic scale.

    Returns:
        The ``matplotlib.figure.Figure``, with one axes.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        TypeError, ShapeError: no dict, or curves that are no vectors of numbers.
        ValueError: no curves, an empty one, values that are not finite, or with ``log`` such as are not above 0.
        OSError: the file cannot be written.
    """
    check_path(path)
    if not isinstance(curves, Mapping):
        raise TypeError(f"curves: must be a dict of curves by name, got {type(curves).__name__}")
    arrays = {name: check_numbers(f"curves: {name!r}", values) for name, values in curves.items()}
    for name, array in arrays.items():
        if array.ndim != 1:
            raise ShapeError(f"curves: {name!r} must be a vector, got shape {array.shape}")
        if log and array.size and array.min() <= 0:
            raise ValueError(f"curves: {name!r} must be above 0 on a logarithmic scale, got {array.min():g}; log=False")
    if not arrays or not all(array.size for array in arrays.values()):
        raise ValueError("curves: must be one or more, none of them empty")
    figure = new_figure(6.5, 4.0)
    # Margins by what the labels take: those of a logarithmic axis may be long.
    figure.set_layout_engine("constrained")
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    for number, (name, values) in enumerate(arrays.items()):
        axes.plot(
            np.arange(1, len(values) + 1), values, color=COLOURS[number % len(COLOURS)],
            linestyle=LINES[number // len(COLOURS) % len(LINES)], marker="o" if len(values) <= 30 else None,
            markersize=3.0, linewidth=1.4, label=name, gid=f"curve {name}",
        )  # fmt: skip
    if log:
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(True, linewidth=0.4, alpha=0.6)
    axes.legend(frameon=False, fontsize=8)
    if title:
        axes.set_title(title, fontsize=10)
    return finished(figure, path)
