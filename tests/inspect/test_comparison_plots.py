"""Pictures that compare, and the likelihood: their numbers are the rows'."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.inspect import (
    PlotUnavailableError,
    explain_params,
    likelihood,
    plot_curves,
    plot_layer_costs,
    plot_likelihood,
    plot_param_counts,
)

pytest.importorskip("matplotlib")


def named(figure: Any, start: str = "") -> dict[str, Any]:
    found = {str(artist.get_gid() or ""): artist for artist in figure.findobj()}
    return {name.removeprefix(start): artist for name, artist in found.items() if name.startswith(start)}


# Parameters --------------------------------------------------------------------------------------------------------


def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel)


@pytest.mark.parametrize(
    ("models", "counts"),
    [
        # Row B80: two 3x3 have 0.72 of a 5x5's weights and see as much.
        (
            {"5x5": conv(128, 128, 5), "two 3x3": nn.Sequential(conv(128, 128, 3), conv(128, 128, 3))},
            {"5x5": 409_600, "two 3x3": 294_912},
        ),
        # Row B82: 1x1 before 3x3.
        (
            {"3x3": conv(128, 128, 3), "1x1, 3x3": nn.Sequential(conv(128, 32, 1), conv(32, 128, 3))},
            {"3x3": 147_456, "1x1, 3x3": 40_960},
        ),
        # Row B86: a bottleneck, and two 3x3 at its width.
        (
            {
                "bottleneck": nn.Sequential(conv(256, 64, 1), conv(64, 64, 3), conv(64, 256, 1)),
                "two 3x3": nn.Sequential(conv(256, 256, 3), conv(256, 256, 3)),
            },
            {"bottleneck": 69_632, "two 3x3": 1_179_648},
        ),
        # Row B28: a dense layer from 28x28 to 26x26, and a shared kernel.
        ({"dense": nn.Linear(784, 676), "3x3": conv(1, 1, 3)}, {"dense": 529_984, "3x3": 9}),
        ({"number": 12_345}, {"number": 12_345}),
    ],
)
def test_weights_of_alternatives(models: dict[str, Any], counts: dict[str, int]) -> None:
    """Rows B28, B80, B82, B86 and B92."""
    figure = plot_param_counts(models, title="weights")
    assert {name: bar.get_width() for name, bar in named(figure, "bar ").items()} == counts
    for name, count in counts.items():
        assert named(figure)[f"text {name}"].get_text().endswith(f"{count:,}")


def test_a_bottleneck_of_the_zoo_has_these_weights() -> None:
    """Row B86: 256-64-64-256."""
    block = gn.models.Bottleneck(256, 64)
    assert sum(weight.numel() for weight in block.parameters() if weight.ndim == 4) == 69_632
    pair = gn.models.BasicBlock(256, 256)
    assert sum(weight.numel() for weight in pair.parameters() if weight.ndim == 4) == 1_179_648


def test_the_arrows_of_alexnet() -> None:
    """Rows B68 to B75 and B92 (ex1 to ex8): the eight arrows, each with its product."""
    figure = plot_param_counts(explain_params("alexnet2012"))
    weights = [bar.get_width() for bar in named(figure, "bar ").values()]
    assert weights == [34_848, 307_200, 884_736, 663_552, 442_368, 37_748_736, 16_777_216, 4_096_000]
    texts = [text.get_text() for text in named(figure, "text ").values()]
    assert texts[0] == "11*11*3*48*2 = 34,848 (+96 biases)"
    assert texts[5].startswith("6*6*128*2*2048*2 = 37,748,736")
    layers = plot_param_counts(explain_params("lenet"))
    assert "fc1" in named(layers, "bar ")


@pytest.mark.parametrize(
    ("models", "error", "text"),
    [
        ({}, ValueError, "models: there is nothing to draw"),
        ({"a": 1.5}, TypeError, "models: 'a' must be a Module or a number, got float"),
        ([1], TypeError, "models: must be a dict or a ParamExplanation, got list"),
    ],
)
def test_nothing_to_count(models: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        plot_param_counts(models)


def test_vggs_memory_is_early_and_its_parameters_late() -> None:
    """Rows B18 and B92 (S1's 0.png): 15,237,608 numbers of activations, 138,357,544 parameters."""
    figure = plot_layer_costs("vgg16")
    left, right = figure.axes
    assert left.get_title() == "memory: 15,237,608 numbers with the image's"
    assert right.get_title() == "parameters: 138,357,544 in all"
    memory = [bar.get_width() for bar in named(figure, "memory ").values()]
    parameters = [bar.get_width() for bar in named(figure, "parameters ").values()]
    assert sum(memory) + 3 * 224 * 224 == 15_237_608
    assert sum(parameters) == 138_357_544
    assert memory[:2] == [64 * 224 * 224] * 2
    assert parameters[-3] == 25_088 * 4_096 + 4_096
    assert parameters[0] == 1_792
    with pytest.raises(ValueError, match=r"model: \d+ layers cannot be drawn"):
        plot_layer_costs("densenet121")


def test_layers_that_take_steps_first_are_drawn_with_their_steps() -> None:
    """64 characters through a model whose recurrent layers read (steps, batch, features)."""
    figure = plot_layer_costs("char_rnn")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["embedding  64×64", "rnn  64×256", "decoder  64×96"]


def test_curves() -> None:
    """Row B92 (resnet1): training losses of plain and residual networks over each other."""
    curves = {"plain, 32 layers": [2.0, 1.5, 1.2], "residual, 32 layers": [1.9, 0.4, 0.1]}
    figure = plot_curves(curves, title="degradation")
    for name, values in curves.items():
        line = named(figure, "curve ")[name]
        assert line.get_xdata().tolist() == [1, 2, 3]
        assert list(line.get_ydata()) == values
    assert figure.axes[0].get_yscale() == "log"
    assert plot_curves({"accuracy": [0.0, 0.5]}, log=False, ylabel="accuracy").axes[0].get_yscale() == "linear"
    for bad in ({}, {"a": []}):
        with pytest.raises(ValueError, match="curves: must be one or more, none of them empty"):
            plot_curves(bad)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: plot_curves([1, 2]), TypeError, "curves: must be a dict of curves by name, got list"),
        (lambda: plot_curves({"a": "abc"}), TypeError, "curves: 'a': must be numbers, got str"),
        (lambda: plot_curves({"a": [1.0, np.nan]}), ValueError, "curves: 'a': must be finite"),
        (
            lambda: plot_curves({"a": [1.0, 0.0]}),
            ValueError,
            "curves: 'a' must be above 0 on a logarithmic scale, got 0",
        ),
        (lambda: plot_curves({"a": [[1.0, 2.0]]}), gn.ShapeError, r"curves: 'a' must be a vector, got shape \(1, 2\)"),
        (lambda: plot_curves({"a": [[1.0], [1.0, 2.0]]}), TypeError, "curves: 'a': must be numbers, got list"),
        (lambda: plot_likelihood("a"), TypeError, "x0: must be numbers, got str"),
        (lambda: plot_likelihood(np.nan), ValueError, "x0: must be finite"),
        (lambda: plot_likelihood((1.0, 2.0)), gn.ShapeError, "x0: must be one number"),
        (lambda: plot_likelihood(1.0, 2.0), gn.ShapeError, "means: must be a vector"),
        (lambda: plot_likelihood(1.0, (np.inf,)), ValueError, "means: must be finite"),
        (lambda: plot_likelihood(1.0, (0.0,), -1.0), ValueError, "scale: must be positive, got -1"),
    ],
)
def test_bad_curves(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_curves_may_be_tensors() -> None:
    shown = named(plot_curves({"a": gn.tensor([2.0, 1.0])}), "curve ")["a"]
    assert list(shown.get_ydata()) == [2.0, 1.0]


# Likelihood --------------------------------------------------------------------------------------------------------


def test_likelihood_of_the_task() -> None:
    """Row B14: N(1; mu, 1) for mu = -1, 0, 1; largest at mu = x0; the logarithm keeps the order."""
    values = likelihood(1.0, (-1.0, 0.0, 1.0))
    assert values == pytest.approx([0.05399097, 0.24197072, 0.39894228], abs=5e-9)
    assert np.log(values) == pytest.approx([-2.91893853, -1.41893853, -0.91893853], abs=5e-9)
    means = np.linspace(-3, 5, 801)
    assert means[likelihood(1.0, means).argmax()] == pytest.approx(1.0)
    assert np.array_equal(np.argsort(values), np.argsort(np.log(values)))
    # A density of x, whose integral is 1.
    x = np.linspace(-12, 12, 24_001)
    density = np.array([likelihood(point, [0.5])[0] for point in x[::100]])
    assert np.trapezoid(density, x[::100]) == pytest.approx(1.0, abs=1e-6)


def test_likelihood_is_drawn_with_its_line() -> None:
    """Rows B14 and B92 (S0's picture of the pdf): three curves and the line x0 = 1."""
    figure = plot_likelihood()
    assert named(figure, "density ").keys() == {"-1", "0", "1"}
    curve = named(figure, "density ")["0"]
    x, y = curve.get_data()
    assert y == pytest.approx(np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), rel=1e-9)
    assert named(figure)["x0"].get_xdata() == [1.0, 1.0]
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["μ = -1: 0.0540 at x0", "μ = 0: 0.2420 at x0", "μ = 1: 0.3989 at x0"]
    means, values = named(figure)["likelihood"].get_data()
    assert means[values.argmax()] == pytest.approx(1.0, abs=0.03)
    with pytest.raises(ValueError, match="means: there are none"):
        plot_likelihood(means=())
    with pytest.raises(ValueError, match="scale"):
        plot_likelihood(scale=0.0)


def test_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        plot_param_counts({"a": 3, "b": 4}, tmp_path / f"{name}1.svg")
        plot_layer_costs("lenet", tmp_path / f"{name}2.svg")
        plot_curves({"a": [1.0, 0.5]}, tmp_path / f"{name}3.png")
        plot_likelihood(path=tmp_path / f"{name}4.png")
    for file in ("1.svg", "2.svg", "3.png", "4.png"):
        assert (tmp_path / f"a{file}").read_bytes() == (tmp_path / f"b{file}").read_bytes()


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    for plot in (
        lambda: plot_param_counts({"a": 3}),
        lambda: plot_layer_costs("lenet"),
        lambda: plot_curves({"a": [1.0]}),
        plot_likelihood,
    ):
        with pytest.raises(PlotUnavailableError, match=r"gpunet\[plot\]"):
            plot()
    assert gn.inspect.likelihood(1.0, [1.0])[0] == pytest.approx(0.39894228)
