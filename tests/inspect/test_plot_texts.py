"""Every picture: its texts lie inside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import inspect, nn

pytest.importorskip("matplotlib")
from matplotlib.text import Text


def walks(count: int) -> dict[str, inspect.Descent]:
    rates = np.linspace(0.02, 0.19, count)
    return {f"lr {rate:.3f}": inspect.descend(inspect.valley, (-4.0, 1.0), float(rate), 20) for rate in rates}


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))


def picture() -> np.ndarray:
    return np.random.default_rng(0).random((3, 12, 12), np.float32)


PLOTS: dict[str, tuple[Callable[[], Any], ...]] = {
    "plot_architecture": (lambda: inspect.plot_architecture("lenet"),),
    "plot_bptt_terms": (
        inspect.plot_bptt_terms,
        lambda: inspect.plot_bptt_terms(inspect.repeated_factor(1e4, 9), title="a title"),
    ),
    "plot_bptt_trace": (inspect.plot_bptt_trace,),
    "plot_channels": (inspect.plot_channels, lambda: inspect.plot_channels(title="a title")),
    "plot_convolution": (lambda: inspect.plot_convolution(7, 3, stride=2, padding=1),),
    "plot_curves": (
        # Two values of one power of ten: the small ticks get labels, which are wide.
        lambda: inspect.plot_curves({"a": [2.0, 1.2], "b": [1.9, 0.3]}, title="a title"),
        lambda: inspect.plot_curves({"a": [2.0e-12, 9.0e-12]}, ylabel="a label that is long"),
        lambda: inspect.plot_curves({"a": [-123456.0, 123456.0]}, log=False),
    ),
    "plot_feature_maps": (lambda: inspect.plot_feature_maps(model(), picture(), "0"),),
    "plot_filter_gallery": (inspect.plot_filter_gallery, lambda: inspect.plot_filter_gallery(title="a title")),
    "plot_filters": (lambda: inspect.plot_filters(model(), title="a title"),),
    "plot_global_average": (inspect.plot_global_average,),
    "plot_input_gradient": (inspect.plot_input_gradient, lambda: inspect.plot_input_gradient(0)),
    "plot_layer_costs": (lambda: inspect.plot_layer_costs("vgg16"), lambda: inspect.plot_layer_costs("lenet")),
    "plot_learning_rates": (
        inspect.plot_learning_rates,
        lambda: inspect.plot_learning_rates((0.5,)),
        lambda: inspect.plot_learning_rates(np.linspace(0.1, 2.1, 8)),
        lambda: inspect.plot_learning_rates((1e9,)),
    ),
    "plot_likelihood": (inspect.plot_likelihood, lambda: inspect.plot_likelihood(100.0, (90.0, 110.0), 1e-3)),
    "plot_loss_surface": (lambda: inspect.plot_loss_surface(walks(10), title="a title"),),
    "plot_lstm_gates": (
        lambda: inspect.plot_lstm_gates(
            inspect.lstm_gates(nn.LSTM(3, 8), gn.randn(19, 3)), labels="the quick brown fox", title="a title"
        ),
    ),
    "plot_optimizer_family": (inspect.plot_optimizer_family,),
    "plot_optimizer_race": (inspect.plot_optimizer_race,),
    "plot_param_counts": (
        lambda: inspect.plot_param_counts(inspect.explain_params("alexnet2012"), title="a title"),
        lambda: inspect.plot_param_counts(
            {"5x5": nn.Conv2d(128, 128, 5), "two 3x3": nn.Sequential(nn.Conv2d(128, 128, 3), nn.Conv2d(128, 128, 3))}
        ),
    ),
    "plot_receptive_field": (lambda: inspect.plot_receptive_field("resnet18", "layer3.1", (7, 7)),),
    "plot_stack": (lambda: inspect.plot_stack((3, 3, 3), title="three 3x3 see 7x7"),),
}


def outside(figure: Any) -> list[str]:
    """Texts of a figure that are not wholly on it; what an axes does not draw counts as absent."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            drawn = {id(text) for tick in axis._update_ticks() for text in (tick.label1, tick.label2)}
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            every = {id(text) for tick in ticks for text in (tick.label1, tick.label2)}
            hidden |= every if not axes.axison or not axis.get_visible() else every - drawn
    found = []
    for text in figure.findobj(Text):
        if not text.get_visible() or not text.get_text().strip() or id(text) in hidden:
            continue
        box = text.get_window_extent(renderer)
        if box.x0 < 0 or box.y0 < 0 or box.x1 > figure.bbox.x1 or box.y1 > figure.bbox.y1:
            found.append(text.get_text())
    return found


@pytest.mark.parametrize(
    "draw", [pytest.param(draw, id=f"{name}-{n}") for name, draws in PLOTS.items() for n, draw in enumerate(draws)]
)
def test_texts_lie_inside_the_picture(draw: Callable[[], Any]) -> None:
    assert outside(draw()) == []


def test_a_text_outside_is_found() -> None:
    figure = inspect.plot_curves({"a": [2.0, 0.3]})
    figure.text(0.98, 0.5, "cut off", gid="cut")
    assert outside(figure) == ["cut off"]


def test_no_plot_is_left_out() -> None:
    assert PLOTS.keys() == {name for name in inspect.__all__ if name.startswith("plot_")}
