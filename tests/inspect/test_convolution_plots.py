"""Pictures of channels, of the way back to one input, of pooling and of filters: the numbers on them are right."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.data import filters
from gpunet.inspect import (
    PlotUnavailableError,
    channel_parts,
    filter_gallery,
    plot_channels,
    plot_filter_gallery,
    plot_global_average,
    plot_input_gradient,
)
from gpunet.nn import functional as F

pytest.importorskip("matplotlib")
from matplotlib.colors import to_rgba


def named(figure: Any, start: str = "") -> dict[str, Any]:
    found = {str(artist.get_gid() or ""): artist for artist in figure.findobj()}
    return {name.removeprefix(start): artist for name, artist in found.items() if name.startswith(start)}


def pixels(figure: Any, name: str) -> np.ndarray:
    return np.asarray(named(figure)[name].get_array())


# Channels ----------------------------------------------------------------------------------------------------------


def test_channels_add_up_to_one_map() -> None:
    """Rows B05, B62 and B92 (rgb1): each channel has its own slice; the sum of what they give is the convolution."""
    image, layer = gn.randn(3, 9, 8, dtype=gn.float64), nn.Conv2d(3, 1, 3, bias=False, dtype=gn.float64)
    with gn.no_grad():
        layer.weight[0, 1] = 0.0
    parts = channel_parts(image, layer.weight[0])
    assert parts.parts.shape == (3, 7, 6)
    assert parts.output == pytest.approx(layer(image[None]).detach().numpy()[0, 0], abs=1e-12)
    assert parts.parts.sum(0) == pytest.approx(parts.output, abs=1e-12)
    assert np.all(parts.parts[1] == 0), "a slice of zeros leaves its channel out"
    figure = plot_channels(image, layer.weight[0], title="three channels")
    for c in range(3):
        assert np.array_equal(pixels(figure, f"input {c}"), parts.image[c])
        assert np.array_equal(pixels(figure, f"kernel {c}"), parts.kernel[c])
        assert np.array_equal(pixels(figure, f"part {c}"), parts.parts[c])
    assert np.array_equal(pixels(figure, "output"), parts.output)
    assert named(plot_channels(), "part ").keys() == {"0", "1", "2"}


def test_numbers_can_be_read_on_their_cells() -> None:
    """In contrast to its cell each number has at least the 4.5 : 1 of WCAG 2."""
    figure = plot_channels(np.ones((1, 5, 5)), np.linspace(-1, 1, 25).reshape(1, 5, 5))
    cells, numbers = named(figure)["kernel 0"], named(figure, "value 0 ")
    assert len(numbers) == 25

    def luminance(colour: Any) -> float:
        values = np.asarray(colour[:3])
        return float(
            np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        )

    for place, text in numbers.items():
        y, x = map(int, place.split())
        pair = sorted((luminance(to_rgba(text.get_color())), luminance(cells.to_rgba(cells.get_array()[y, x]))))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) > 4.5, place


@pytest.mark.parametrize(
    ("image", "kernel", "text"),
    [
        ((0, 9, 9), (0, 3, 3), r"image, kernel: must not be empty, got shapes \(0, 9, 9\) and \(0, 3, 3\)"),
        ((1, 2, 2), (1, 3, 3), r"kernel: must lie inside the image of \(2, 2\), got \(3, 3\)"),
        ((3, 8, 8), (2, 3, 3), "kernel: must have the image's 3 channels, got 2"),
        ((8, 8), (2, 3, 3), r"image, kernel: must be \(C, H, W\) and \(C, kh, kw\)"),
        ((9, 8, 8), (9, 3, 3), r"image: 9 channels are more than can be drawn \(8\)"),
    ],
)
def test_bad_channels(image: tuple[int, ...], kernel: tuple[int, ...], text: str) -> None:
    with pytest.raises(gn.ShapeError, match=text):
        plot_channels(np.zeros(image), np.zeros(kernel))


# The way back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("position", "lines", "title"),
    [
        (0, {"0 0"}, "dL/dx1 = δ1 w1 = (1)(0.5) = 0.5"),
        (1, {"0 1", "1 0"}, "dL/dx2 = δ1 w2 + δ2 w1 = (1)(-1) + (2)(0.5) = 0"),
        (2, {"0 2", "1 1", "2 0"}, "dL/dx3 = δ1 w3 + δ2 w2 + δ3 w1 = (1)(2) + (2)(-1) + (-1)(0.5) = -0.5"),
        (3, {"1 2", "2 1"}, "dL/dx4 = δ2 w3 + δ3 w2 = (2)(2) + (-1)(-1) = 5"),
        (4, {"2 2"}, "dL/dx5 = δ3 w3 = (-1)(2) = -2"),
    ],
)
def test_the_gradient_of_one_input(position: int, lines: set[str], title: str) -> None:
    """Rows B02 and B92 (the x3 picture): dx = (.5, 0, -.5, 5, -2), term by term, and as backward has it."""
    figure = plot_input_gradient(position)
    assert named(figure)["title"].get_text() == title
    assert named(figure, "back ").keys() == lines
    assert len(named(figure, "forward ")) == 9 - len(lines)
    x = gn.arange(1.0, 6.0).reshape(1, 1, 5).requires_grad_()
    F.conv1d(x, gn.tensor([[[0.5, -1.0, 2.0]]])).backward(gn.tensor([[[1.0, 2.0, -1.0]]]))
    assert x.grad is not None
    assert float(title.split()[-1]) == x.grad[0, 0, position].item()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"position": 5}, "position: must be from 0 to 4, got 5"),
        ({"grad_output": (1.0, 2.0)}, "grad_output: must be one for each of the 3 outputs of 5 inputs .* got 2"),
        ({"input_size": 2}, "grad_output: must be one for each of the 0 outputs"),
        ({"input_size": 17, "grad_output": [1.0] * 15}, "input_size: more than can be drawn"),
    ],
)
def test_bad_inputs(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        plot_input_gradient(**arguments)


# Global average pooling --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 100, 100), (1, 3, 7), (16, 2, 2)])
def test_a_map_becomes_its_mean(shape: tuple[int, ...]) -> None:
    """Rows B23 and B92 (S1's 2.png): 100x100x5 to 1x1x5, the mean over each map; any size; no weights."""
    maps = np.random.default_rng(0).random(shape)
    figure = plot_global_average(maps)
    for number, axes in enumerate(figure.axes):
        assert np.array_equal(pixels(figure, f"map {number}"), maps[number])
        assert float(axes.get_title()) == pytest.approx(maps[number].mean(), rel=1e-3)
    assert len(figure.axes) == shape[0]
    assert gn.inspect.count_params(nn.AdaptiveAvgPool2d(1)) == 0


def test_bad_maps() -> None:
    for shape in ((17, 2, 2), (2, 2), (0, 2, 2)):
        with pytest.raises(gn.ShapeError, match=r"maps: must be \(C, H, W\) with 1 to 16 channels"):
            plot_global_average(np.zeros(shape))


# Filters -----------------------------------------------------------------------------------------------------------


def test_the_gallery_shows_every_filter() -> None:
    """Rows B10, B11 and B92: kernels, and what they make of grey and of colour; a blur keeps the mean."""
    figure = plot_filter_gallery(title="filters")
    assert named(figure, "kernel ").keys() == filter_gallery().keys()
    for kind in ("grey", "colour"):
        assert named(figure, f"{kind} ").keys() == filter_gallery().keys()
    assert np.array_equal(pixels(figure, "kernel blur"), np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]))
    titles = [axes.get_title() for axes in figure.axes]
    names, means = titles[:8], [float(title.removeprefix("mean ")) for title in titles[8:16]]
    assert names[:3] == ["identity\nsum 1", "box\nsum 1", "blur\nsum 1"]
    assert names[5] == "sobel x\nsum 0"
    # Kernels that sum to 1 keep the mean: nothing becomes darker.
    assert means[1:5] == pytest.approx([means[0]] * 4, abs=0.003)
    assert means[6] == pytest.approx(0.0, abs=1e-3)
    grey, blurred = (pixels(figure, f"grey {name}") for name in ("identity", "gaussian"))
    assert np.std(np.diff(blurred)) < 0.5 * np.std(np.diff(grey)), "only detail is averaged"


def test_filters_of_ones_own() -> None:
    """Rows B10 and B11: a constant stays as it is under a blur, and is 0 under Sobel; an impulse shows the kernel."""
    flat = np.full((3, 12, 12), 0.6)
    kernels = {"blur": filters.blur(), "sobel": filters.sobel()}
    figure = plot_filter_gallery(flat, kernels=kernels)
    assert pixels(figure, "colour blur") == pytest.approx(0.6 * np.ones((12, 12, 3)), abs=1e-6)
    assert pixels(figure, "colour sobel") == pytest.approx(0.5 * np.ones((12, 12, 3)), abs=1e-6)  # 0, drawn middle grey
    impulse = np.zeros((1, 7, 7))
    impulse[0, 3, 3] = 1.0
    kernel = gn.tensor([[0.0, 0.1, 0.2], [0.3, 0.4, 0.5], [0.6, 0.7, 0.8]])
    for convolve in (False, True):
        shown = pixels(plot_filter_gallery(impulse, kernels={"mine": kernel}, convolve=convolve), "grey mine")
        expected = kernel.numpy() if convolve else kernel.numpy()[::-1, ::-1]
        assert shown[2:5, 2:5] == pytest.approx(expected, abs=1e-6)


def test_bad_galleries() -> None:
    with pytest.raises(gn.ShapeError, match=r"image: must be \(3, H, W\) or \(1, H, W\), got shape \(2, 8, 8\)"):
        plot_filter_gallery(np.zeros((2, 8, 8)))
    with pytest.raises(ValueError, match="kernels: there are none"):
        plot_filter_gallery(kernels={})


def test_kernels_of_a_gallery_may_be_arrays_and_lists() -> None:
    kernel = [[0.0, 0.5], [0.5, 0.0]]
    figure = plot_filter_gallery(kernels={"list": kernel, "array": np.array(kernel), "tensor": gn.tensor(kernel)})
    for what in ("kernel", "grey", "colour"):
        for kind in ("list", "array"):
            assert np.array_equal(pixels(figure, f"{what} {kind}"), pixels(figure, f"{what} tensor"))


NAN = np.full((3, 6, 6), np.nan)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: plot_filter_gallery(NAN), ValueError, "image: must be finite"),
        (
            lambda: plot_filter_gallery(np.full((3, 6, 6), 255, np.uint8)),
            ValueError,
            "image: must be in 0..1, got .*255",
        ),
        (lambda: plot_filter_gallery("a"), TypeError, "image: must be numbers, got str"),
        (lambda: plot_filter_gallery(kernels=[1]), TypeError, "kernels: must be a dict of kernels by name, got list"),
        (lambda: plot_filter_gallery(kernels={"a": [1.0]}), gn.ShapeError, r"kernels: 'a' must be \(height, width\)"),
        (lambda: plot_filter_gallery(kernels={"a": NAN[0]}), ValueError, "kernels: 'a': must be finite"),
        (
            lambda: plot_filter_gallery(kernels={n: [[1.0]] for n in range(17)}),
            ValueError,
            "more than 16 are too many",
        ),
        (lambda: plot_channels(NAN, np.ones((3, 2, 2))), ValueError, "image: must be finite"),
        (lambda: plot_channels(np.ones((3, 6, 6)), NAN), ValueError, "kernel: must be finite"),
        (lambda: plot_global_average(NAN), ValueError, "maps: must be finite"),
        (lambda: plot_input_gradient(weight=[np.nan] * 3), ValueError, "weight: must be finite"),
        (lambda: plot_input_gradient(weight="abc"), TypeError, "weight: must be numbers, got str"),
    ],
)
def test_what_cannot_be_drawn(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        plot_channels(path=tmp_path / f"{name}1.svg")
        plot_input_gradient(path=tmp_path / f"{name}2.svg")
        plot_global_average(path=tmp_path / f"{name}3.png")
        plot_filter_gallery(path=tmp_path / f"{name}4.png")
    for file in ("1.svg", "2.svg", "3.png", "4.png"):
        assert (tmp_path / f"a{file}").read_bytes() == (tmp_path / f"b{file}").read_bytes()


@pytest.mark.parametrize("plot", [plot_channels, plot_input_gradient, plot_global_average, plot_filter_gallery])
def test_without_matplotlib(plot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(PlotUnavailableError, match=r"gpunet\[plot\]"):
        plot()
