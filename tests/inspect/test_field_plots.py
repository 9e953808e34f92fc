"""Pictures of receptive fields, stacks and strides: their rectangles are those of the equations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.inspect import PlotUnavailableError, plot_convolution, plot_receptive_field, plot_stack, receptive_field

pytest.importorskip("matplotlib")


def named(figure: Any, start: str) -> list[Any]:
    return [artist for artist in figure.findobj() if str(artist.get_gid() or "").startswith(start)]


def rectangle(artist: Any) -> tuple[float, float, float, float]:
    """First row and column, height and width."""
    return artist.get_y(), artist.get_x(), artist.get_height(), artist.get_width()


def positive(*layers: nn.Module) -> nn.Sequential:
    """A model whose weights are positive, so that no gradient cancels."""
    model = nn.Sequential(*layers)
    with gn.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    return model


# Receptive fields --------------------------------------------------------------------------------------------------


def test_three_convolutions_see_seven_pixels() -> None:
    """B19, B92: three 3x3 of stride 1 see 7x7."""
    model = positive(*(nn.Conv2d(1, 1, 3) for _ in range(3)))
    figure = plot_receptive_field(model, "2", (4, 1), input_size=(1, 15, 15))
    (field,) = named(figure, "field")
    assert rectangle(field) == (4 - 0.5, 1 - 0.5, 7, 7)
    assert figure.axes[0].get_title() == "2 at (4, 1) sees 7×7 pixels"


@pytest.mark.parametrize("position", [None, (0, 0), (5, 2)])
def test_the_gradient_fills_the_rectangle(position: tuple[int, int] | None) -> None:
    model = positive(nn.Conv2d(2, 3, (3, 5), stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 3, dilation=2))
    extent = (25, 31)
    image = np.random.default_rng(1).random((2, *extent)) + 0.1
    figure = plot_receptive_field(model, "2", position, image=image, empirical=True)
    (field,), (gradient,) = named(figure, "field"), named(figure, "gradient")
    # As the equations have it: fields 3x5 with jump 2, start -1; then 3 with dilation 2.
    equations = receptive_field(model, (2, *extent))["2"]
    row, column = position or tuple(n // 2 for n in gn.inspect.summary(model, (2, *extent))["2"].output_shape[2:])
    top, left = (
        start + jump * at for start, jump, at in zip(equations.start, equations.jump, (row, column), strict=True)
    )
    assert rectangle(field) == (top - 0.5, left - 0.5, *equations.size)
    assert equations.size == (11, 13)
    seen = ~np.ma.getmaskarray(gradient.get_array())
    rows, columns = np.nonzero(seen)
    assert (rows.min(), columns.min()) == (max(top, 0), max(left, 0))
    assert (rows.max(), columns.max()) == (min(top + 11, extent[0]) - 1, min(left + 13, extent[1]) - 1)
    assert np.ma.max(gradient.get_array()) == 1.0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_field_that_goes_past_the_image_is_all_on_the_picture() -> None:
    """A7: resnet18's last stage sees 435 pixels of an image of 224."""
    figure = plot_receptive_field("resnet18", "layer4.1", (0, 6))
    (field,) = named(figure, "field")
    assert rectangle(field)[2:] == (435, 435)
    axes = figure.axes[0]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    y, x, height, width = rectangle(field)
    assert left < x < x + width < right
    assert top < y < y + height < bottom
    assert np.asarray(axes.images[0].get_array()).shape == (224, 224, 3)


def test_images_are_drawn_as_they_are() -> None:
    model = positive(nn.Conv2d(3, 1, 3))
    image = np.linspace(0, 4, 3 * 6 * 8).reshape(3, 6, 8)
    for given in (image, gn.tensor(image[None])):
        shown = np.asarray(plot_receptive_field(model, "0", image=given).axes[0].images[0].get_array())
        assert np.allclose(shown, image.transpose(1, 2, 0) / 4)
    grey = plot_receptive_field(positive(nn.Conv2d(1, 1, 3)), "0", image=image[:1]).axes[0].images[0].get_array()
    assert np.asarray(grey).shape == (6, 8, 3)


MODEL = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(36, 2))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("lenet", "conv3"), ValueError, "layer: LeNet has no layer 'conv3'; close ones are 'conv"),
        (("lenet", "fc1"), ValueError, r"layer: 'fc1' gives no maps \(1, C, H, W\) but shape \(1, 120\)"),
        (("lenet", "conv1", (0, 28)), ValueError, r"position: must be \(row, column\) from \(0, 0\) to \(27, 27\)"),
        (("lenet", "conv1", (-1, 0)), ValueError, "position: must be"),
        (("lenet", "conv1", (1, 2, 3)), ValueError, "position: must be"),
        (("lenet", "conv1", 3), ValueError, "position: must be"),
        (("lenet", "conv1", None, "a.pdf"), ValueError, "path: must end in"),
        (("lenett", "conv1"), gn.models.UnknownModelError, "lenet"),
        ((nn.Linear(3, 2), "x"), ValueError, r"model: Linear does not take one image"),
    ],
)
def test_bad_arguments(arguments: tuple[Any, ...], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        plot_receptive_field(*arguments)


def test_bad_images() -> None:
    with pytest.raises(gn.ShapeError, match=r"image: must be one image .* got shape \(8, 8\)"):
        plot_receptive_field(MODEL, "0", image=np.zeros((8, 8)))
    with pytest.raises(gn.ShapeError, match="must have 1 channel"):
        plot_receptive_field(MODEL, "0", image=np.zeros((3, 8, 8)))
    with pytest.raises(ValueError, match="input_size: goes without image"):
        plot_receptive_field(MODEL, "0", image=np.zeros((1, 8, 8)), input_size=(1, 8, 8))
    with pytest.raises(TypeError, match="empirical: needs a model with weights, not a name"):
        plot_receptive_field("lenet", "conv1", empirical=True)


# Stacks and strides ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("windows", "counts"),
    [((3, 3, 3), [7, 5, 3, 1]), ((7,), [7, 1]), (((3, 2), 3), [7, 3, 1]), (((11, 4), (3, 2), 5), [51, 11, 5, 1])],
)
def test_cells_of_a_stack(windows: tuple[Any, ...], counts: list[int]) -> None:
    """B19, B92: 3, 5, 7; conv1, pool1 and conv2 of AlexNet see 51 pixels."""
    figure = plot_stack(windows)
    for level, count in enumerate(counts):
        cells = named(figure, f"cell {level} ")
        assert len(cells) == count
        middles = sorted(cell.get_x() + cell.get_width() / 2 for cell in cells)
        assert np.allclose((middles[0] + middles[-1]) / 2, counts[0] / 2)  # over the middle of what they see
    labels = [text.get_text() for text in named(figure, "row ")]
    assert labels[0] == f"input: {counts[0]} pixels"
    assert labels[-1].endswith(f"sees {counts[0]}×{counts[0]}")
    pairs = [window if isinstance(window, tuple) else (window, 1) for window in windows]
    model = nn.Sequential(*(nn.MaxPool2d(kernel, stride) for kernel, stride in pairs))
    fields = receptive_field(model, (1, 64, 64))
    assert [label.split("sees ")[1] for label in labels[1:]] == [
        "×".join(map(str, fields[str(number)].size)) for number in range(len(pairs))
    ]


@pytest.mark.parametrize("windows", [(), 3, (0,), (3, (3, 0)), ((3, 1, 1),), (True,), ((3, 3),) * 6, "33"])
def test_bad_stacks(windows: Any) -> None:
    with pytest.raises(ValueError, match="windows: "):
        plot_stack(windows)


@pytest.mark.parametrize(
    ("arguments", "output"),
    [((7, 3), (5, 5)), ((7, 3, 2), (3, 3)), ((7, 3, 2, 1), (4, 4)), (((8, 6), (3, 2), (1, 2)), (6, 3)),
     ((7, 3, 1, 0, 2), (3, 3)), ((5, 5), (1, 1))],
)  # fmt: skip
def test_strides(arguments: tuple[Any, ...], output: tuple[int, int]) -> None:
    """B32, B92: stride; O = (I + 2P - K) / S + 1."""
    figure = plot_convolution(*arguments)
    cells = {(cell.get_y(), cell.get_x()) for cell in named(figure, "output")}
    assert cells == {(y, x) for y in range(output[0]) for x in range(output[1])}
    assert len(named(figure, "begin")) == output[0] * output[1]
    layer = nn.MaxPool2d(arguments[1], *arguments[2:]) if len(arguments) > 2 else nn.MaxPool2d(arguments[1], 1)
    size = arguments[0] if isinstance(arguments[0], tuple) else (arguments[0],) * 2
    field = receptive_field(nn.Sequential(layer), (1, *size))["0"]
    assert len(named(figure, "pixel")) == size[0] * size[1]
    for r, c in ((0, 0), (0, 1), (1, 0)):
        windows = named(figure, f"window {r} {c}")
        assert len(windows) == (r < output[0] and c < output[1])
        for window in windows:
            y, x, height, width = rectangle(window)
            # Drawn a little smaller than they are, so that one can be told from another.
            assert np.allclose((y + height / 2, x + width / 2), [
                start + jump * at + extent / 2
                for start, jump, at, extent in zip(field.start, field.jump, (r, c), field.size, strict=True)
            ])  # fmt: skip
            assert np.allclose((height, width), field.size, atol=0.25)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 3), "input_size: must be a whole number of at least 1"),
        ((65, 3), "input_size: more than can be drawn"),
        ((7, 0), "kernel_size: must be"),
        ((7, 3, 0), "stride: must be"),
        ((7, 3, 1, -1), "padding: must be"),
        ((7, 3, 1, 0, 0), "dilation: must be"),
        ((7, (3, 3, 3)), "kernel_size: must be"),
        ((7, True), "kernel_size: must be"),
        ((2, 3), "kernel|size"),
    ],
)
def test_bad_convolutions(arguments: tuple[Any, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        plot_convolution(*arguments)


def test_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        plot_receptive_field("lenet", "conv2", path=tmp_path / f"{name}1.svg")
        plot_stack(path=tmp_path / f"{name}2.svg", title="7×7")
        plot_convolution(7, 3, 2, path=tmp_path / f"{name}3.png")
    for file in ("1.svg", "2.svg", "3.png"):
        assert (tmp_path / f"a{file}").read_bytes() == (tmp_path / f"b{file}").read_bytes()
    assert b">7\xc3\x977</text>" in (tmp_path / "a2.svg").read_bytes()


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    for plot in (lambda: plot_receptive_field("lenet", "conv1"), plot_stack, lambda: plot_convolution(7, 3)):
        with pytest.raises(PlotUnavailableError, match=r"gpunet\[plot\]"):
            plot()
