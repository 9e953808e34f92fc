"""AlexNet in one tower: the facts, and torchvision's."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet as gn
from gpunet import models, nn

from .beside_torchvision import compare, torchvision_models
from .counting import count, fact, fact_input, rows, run, shape_of


@pytest.fixture(scope="module")
def net():
    with gn.device("meta"):
        return models.alexnet()


def test_totals(net):
    assert count(net, fact_input("alexnet")) == fact("alexnet")


def test_layers(net):
    layers = {layer.path: layer for layer in run(net, fact_input("alexnet"))}
    expected = [row for row in rows("layers") if row["model"] == "alexnet"]
    assert len(expected) == 21
    for row in expected:
        layer = layers[row["layer"]]
        assert layer.type == row["type"]
        if layer.path != "classifier.0":  # the facts flatten before it
            assert layer.output == shape_of(row["output"]), layer.path
        assert (layer.params, layer.macs) == (int(row["params"]), int(row["macs"])), layer.path


def test_keys_of_the_state(net):
    places = [f"features.{i}" for i in (0, 3, 6, 8, 10)] + [f"classifier.{i}" for i in (1, 4, 6)]
    assert list(net.state_dict()) == [f"{place}.{kind}" for place in places for kind in ("weight", "bias")]


def test_arguments_shape_the_network():
    narrow = models.alexnet(num_classes=7, dropout=0.25, in_channels=1, width=1 / 16)
    assert narrow(gn.randn(2, 1, 63, 70)).shape == (2, 7)
    assert [layer.p for layer in narrow.modules() if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
    assert narrow.classifier[4].weight.shape == (256, 256)


def test_overlapping_pooling():
    """B78: windows of 3 at steps of 2 take 13 pixels to 6, and each pixel between two windows into both."""
    x = gn.zeros(1, 1, 13, 13)
    x[0, 0, 2, 2] = 1.0
    pooled = nn.MaxPool2d(3, stride=2)(x)
    assert pooled.shape == (1, 1, 6, 6)
    assert pooled.sum().item() == 4
    assert [
        layer.kernel_size for layer in models.alexnet(width=1 / 64).features if isinstance(layer, nn.MaxPool2d)
    ] == [3] * 3


def test_dropout_keeps_the_expectation():
    """B78: what is left is scaled up by 1 / (1 - p). The mean of n ones has deviation sqrt(p / (1 - p) / n)."""
    n = 100_000
    dropped = nn.Dropout(0.5)(gn.ones(n)).numpy()
    assert set(np.unique(dropped)) == {0.0, 2.0}
    assert abs(dropped.mean() - 1) < 5 / np.sqrt(n)


def test_initial_weights():
    paper = models.alexnet(width=1 / 4, init="paper")
    for path, layer in paper.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            biased = path in ("features.3", "features.8", "features.10", "classifier.1", "classifier.4")
            assert set(np.unique(layer.bias.detach().numpy())) == {float(biased)}, path
            weight = layer.weight.detach().numpy()
            assert weight.std() == pytest.approx(0.01, rel=6 / np.sqrt(2 * weight.size)), path
            assert abs(weight.mean()) < 6 * 0.01 / np.sqrt(weight.size), path
    default = models.alexnet(width=1 / 4)
    for layer in default.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            weight = layer.weight.detach().numpy()
            bound = 1 / np.sqrt(weight[0].size)
            assert 0.98 * bound < np.abs(weight).max() <= bound
            assert weight.std() == pytest.approx(bound / np.sqrt(3), rel=0.03)
            assert np.abs(layer.bias.detach().numpy()).max() <= bound


def test_gradients():
    net = models.alexnet(num_classes=3, width=1 / 32).double().eval()
    x = gn.randn(2, 3, 63, 63, dtype=gn.float64, requires_grad=True)
    assert gn.autograd.gradcheck(net, x, parameters=list(net.parameters()), fast_mode=True)


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"num_classes": 0}, ValueError, "AlexNet: num_classes must be at least 1, got 0"),
        ({"num_classes": 10.0}, TypeError, "AlexNet: num_classes must be an integer, got 10.0"),
        ({"dropout": 1.5}, ValueError, "AlexNet: dropout must be between 0 and 1, got 1.5"),
        ({"dropout": "half"}, TypeError, "AlexNet: dropout must be a number, got 'half'"),
        ({"in_channels": 0}, ValueError, "AlexNet: in_channels must be at least 1, got 0"),
        ({"width": 0}, ValueError, "AlexNet: width must be positive, got 0"),
        ({"width": None}, TypeError, "AlexNet: width must be a number, got None"),
        ({"init": "zeros"}, ValueError, "init: must be 'torchvision' or 'paper', got 'zeros'"),
    ],
)
def test_refusals(arguments, error, text):
    with pytest.raises(error, match=text):
        models.alexnet(**arguments)


def test_an_image_too_small(net):
    with pytest.raises(gn.ShapeError, match=r"has \(2\).*in layer features.12 \(MaxPool2d\)"):
        net(gn.empty(1, 3, 62, 62, device="meta"))


@pytest.mark.parity
def test_it_agrees_with_torchvision():
    theirs = torchvision_models().alexnet(num_classes=10)
    compare(models.alexnet(num_classes=10), theirs, (2, 3, 80, 64), "float32", 1e-4)
