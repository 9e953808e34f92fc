"""Pictures of kernels and feature maps: every pixel comes from a weight or a value."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.inspect import PlotUnavailableError, plot_feature_maps, plot_filters

pytest.importorskip("matplotlib")


def image_of(figure: Any) -> np.ndarray:
    (image,) = figure.axes[0].images
    assert image.get_gid() == "mosaic"
    return np.asarray(image.get_array())


def tile(mosaic: np.ndarray, row: int, column: int, height: int, width: int) -> np.ndarray:
    y, x = 1 + row * (height + 1), 1 + column * (width + 1)
    return mosaic[y : y + height, x : x + width]


# Filters -----------------------------------------------------------------------------------------------------------


def test_colour_kernels_are_their_weights() -> None:
    """B92: ex1.jpg, rgb1: AlexNet's 96 kernels of 11x11x3."""
    model = gn.models.alexnet2012_grouped(num_classes=2, width=0.25)
    weight = model.conv1.weight.detach().numpy().astype(np.float64)
    mosaic = image_of(plot_filters(model, columns=8))
    count = len(weight)
    assert weight.shape[1:] == (3, 11, 11)
    assert mosaic.shape == (-(-count // 8) * 12 + 1, 8 * 12 + 1, 3)
    for number, kernel in enumerate(weight):
        expected = 0.5 + kernel.transpose(1, 2, 0) / (2 * abs(kernel).max())
        assert np.allclose(tile(mosaic, *divmod(number, 8), 11, 11), expected, rtol=0, atol=1e-12)
    assert (mosaic[0] == 1).all()
    assert (mosaic[:, ::12] == 1).all()


def test_one_scale_for_all_shows_which_kernels_are_strong() -> None:
    weight = np.zeros((3, 1, 2, 2), np.float32)
    weight[0, 0, 0, 0], weight[1, 0, 1, 1] = 4.0, -2.0
    each = image_of(plot_filters(weight, columns=3))
    every = image_of(plot_filters(gn.tensor(weight), columns=3, scale="all"))
    assert each.shape == every.shape == (4, 10)
    assert tile(each, 0, 0, 2, 2).tolist() == tile(every, 0, 0, 2, 2).tolist() == [[1.0, 0.5], [0.5, 0.5]]
    assert tile(each, 0, 1, 2, 2).tolist() == [[0.5, 0.5], [0.5, 0.0]]
    assert tile(every, 0, 1, 2, 2).tolist() == [[0.5, 0.5], [0.5, 0.25]]
    assert tile(each, 0, 2, 2, 2).tolist() == [[0.5, 0.5], [0.5, 0.5]]  # all zero, and no warning


def test_a_channel_of_deeper_kernels() -> None:
    layer = nn.Conv2d(6, 4, (2, 3))
    mosaic = image_of(plot_filters(layer, channel=5))
    kernel = layer.weight.detach().numpy().astype(np.float64)[2, 5]
    assert mosaic.shape == (2 * 3 + 1, 2 * 4 + 1)
    assert np.allclose(tile(mosaic, 1, 0, 2, 3), 0.5 + kernel / (2 * abs(kernel).max()))
    with pytest.raises(ValueError, match="channel: kernels of 6 channels have no colours; choose one from 0 to 5"):
        plot_filters(layer)
    with pytest.raises(ValueError, match="channel: must be from 0 to 5 or None, got 6"):
        plot_filters(layer, channel=6)


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        (nn.Linear(3, 2), ValueError, "source: Linear has no 2-D convolution"),
        (nn.Conv1d(3, 2, 3), ValueError, "source: Conv1d has no 2-D convolution"),
        (nn.LazyConv2d(2, 3), ValueError, "source: the convolution has no weight until"),
        (np.zeros((3, 3)), gn.ShapeError, r"source: .* got shape \(3, 3\)"),
        (np.zeros((0, 3, 2, 2)), gn.ShapeError, r"source: .* got shape \(0, 3, 2, 2\)"),
        ("alexnet", TypeError, "source: must be a Module, a Tensor or an array, got str"),
    ],
)  # fmt: skip
def test_no_filters(source: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        plot_filters(source)


@pytest.mark.parametrize("options", [{"columns": 0}, {"columns": True}, {"columns": 1.0}, {"scale": "none"}])
def test_bad_options_of_filters(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}: must be"):
        plot_filters(np.zeros((2, 3, 2, 2)), **options)


# Feature maps ------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Two convolutions, a batch normalisation that would change in training, and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2 = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, stride=2)
        self.fc, self.aux = nn.Linear(4, 2), nn.Conv2d(4, 1, 1)

    def forward(self, x: Any) -> Any:
        x = self.conv2(self.bn1(self.conv1(x)))
        return self.fc(x.mean((2, 3))) if not self.training else self.aux(x)


IMAGE = np.random.default_rng(0).random((3, 12, 10), np.float32)


def test_maps_are_the_layers_values() -> None:
    """B12, B92: cnn_basic1."""
    gn.manual_seed(0)
    model = Net().train()
    model.bn1.eval()
    figure = plot_feature_maps(model, IMAGE, "conv1", columns=3)
    values = model.conv1(gn.tensor(IMAGE[None])).detach().numpy()[0].astype(np.float64)
    mosaic = image_of(figure)
    assert mosaic.shape == (2 * 11 + 1, 3 * 9 + 1)
    for number, value in enumerate(values):
        expected = (value - value.min()) / (value.max() - value.min())
        assert np.allclose(tile(mosaic, *divmod(number, 3), 10, 8), expected, rtol=0, atol=1e-6)
    assert figure.texts[0].get_text() == "conv1: 6×10×8"
    # Modes and running statistics are as they were, and no hook is left.
    assert (model.training, model.bn1.training, model.conv2.training) == (True, False, True)
    assert model.bn1.num_batches_tracked.item() == 0
    assert not model.conv1._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


def test_chosen_maps() -> None:
    model = Net()
    every = image_of(plot_feature_maps(model, gn.tensor(IMAGE[None]), "conv2", maps=None, columns=1))
    chosen = image_of(plot_feature_maps(model, IMAGE, "conv2", maps=(3, 0), columns=1))
    first = image_of(plot_feature_maps(model, IMAGE, "conv2", maps=2, columns=1))
    height, width = 4, 3
    assert np.array_equal(tile(chosen, 0, 0, height, width), tile(every, 3, 0, height, width))
    assert np.array_equal(tile(chosen, 1, 0, height, width), tile(every, 0, 0, height, width))
    assert np.array_equal(first, every[: len(first)])


def test_a_flat_map_is_black() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1))
    with gn.no_grad():
        model[0].weight.zero_()
    assert (tile(image_of(plot_feature_maps(model, np.ones((1, 3, 3)), "0")), 0, 0, 3, 3) == 0).all()


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        ("convl", "layer: Net has no layer 'convl'; close ones are 'conv2', 'conv1'|'conv1', 'conv2'"),
        ("", "layer: Net has no layer ''"),
        (3, "layer: Net has no layer 3"),
        ("fc", r"layer: 'fc' gives no maps \(1, C, H, W\) but shape \(1, 2\)"),
        ("aux", "layer: 'aux' does not run in evaluation mode"),
    ],
)
def test_layers_without_maps(layer: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        plot_feature_maps(Net(), IMAGE, layer)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (np.zeros((12, 10), np.float32), r"image: must be one image .* got shape \(12, 10\)"),
        (np.zeros((2, 3, 12, 10), np.float32), r"image: must be one image .* got shape \(2, 3, 12, 10\)"),
        (np.zeros((1, 12, 10), np.float32), "3 channels"),
        (np.zeros((3, 2, 2), np.float32), "conv1"),
        (np.zeros((12, 10, 3), np.uint8), r"image: \(C, H, W\) is wanted, with 3 channels first, .* with \(2, 0, 1\)"),
        (np.zeros((1, 12, 10, 3), np.float32), r"image: \(C, H, W\) is wanted.* with \(0, 3, 1, 2\)"),
    ],
)
def test_images_that_do_not_fit(image: np.ndarray, text: str) -> None:
    model = Net()
    with pytest.raises(gn.ShapeError, match=text):
        plot_feature_maps(model, image, "conv1")
    assert model.training
    assert not model.conv1._forward_hooks


@pytest.mark.parametrize("maps", [0, -1, True, (), (0, 6), (-1,), "ab", 1.5])
def test_maps_that_are_not_there(maps: Any) -> None:
    with pytest.raises(ValueError, match="maps: must be how many, or numbers of channels from 0 to 5"):
        plot_feature_maps(Net(), IMAGE, "conv1", maps=maps)


def test_a_name_is_no_model() -> None:
    with pytest.raises(TypeError, match="model: must be a Module, got str"):
        plot_feature_maps("resnet18", IMAGE, "conv1")  # type: ignore[arg-type]


def test_files(tmp_path: Path) -> None:
    model = Net()
    for name in ("a", "b"):
        plot_filters(model, tmp_path / f"{name}.svg", title="kernels")
        plot_feature_maps(model, IMAGE, "conv1", tmp_path / f"{name}.png")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert b">kernels</text>" in (tmp_path / "a.svg").read_bytes()
    for plot in (lambda path: plot_filters(model, path), lambda path: plot_feature_maps(model, IMAGE, "conv1", path)):
        with pytest.raises(ValueError, match=r"path: must end in \.svg or \.png"):
            plot(tmp_path / "a.jpg")


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(PlotUnavailableError, match=r"gpunet\[plot\]"):
        plot_filters(np.zeros((2, 3, 2, 2)))
    with pytest.raises(PlotUnavailableError, match=r"gpunet\[plot\]"):
        plot_feature_maps(Net(), IMAGE, "conv1")


def test_what_is_not_finite_cannot_be_drawn() -> None:
    model, image = nn.Sequential(nn.Conv2d(3, 4, 3)), np.full((3, 8, 8), np.nan, np.float32)
    with pytest.raises(ValueError, match="image: must be finite"):
        plot_feature_maps(model, image, "0")
    with pytest.raises(ValueError, match="image: must be finite"):
        gn.inspect.plot_receptive_field(model, "0", (1, 1), image=image)
    with pytest.raises(ValueError, match="source: the weights must be finite"):
        plot_filters(image[None])
