"""Network in Network: the facts, and what its layers mean."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import models, nn
from gpunet.data import get_dataset

from .counting import count, fact, fact_input, rows, run, shape_of

NAMES = {"nin_cifar10": "nin_cifar10", "nin_imagenet": "nin_imagenet", "nin_imagenet_227": "nin_imagenet"}


@pytest.mark.parametrize("name", NAMES)
def test_totals(name):
    """B24: 966,986 parameters for CIFAR-10."""
    with gn.device("meta"):
        net = models.get_model(NAMES[name])
    assert count(net, fact_input(name)) == fact(name)


@pytest.mark.parametrize("name", ["nin_cifar10", "nin_imagenet"])
def test_layers(name):
    with gn.device("meta"):
        net = models.get_model(name)
    expected = [
        (row["type"], shape_of(row["output"]), int(row["params"]), int(row["macs"]))
        for row in rows("layers")
        if row["model"] == name
    ]
    kinds = {kind for kind, *_ in expected}
    layers = run(net, fact_input(name))
    assert [(each.type, each.output, each.params, each.macs) for each in layers if each.type in kinds] == expected
    # Counting ReLU and dropout too, the facts give the places in one sequence.
    places = [place for place, layer in enumerate(leaves(net)) if type(layer).__name__ in kinds]
    assert places == [int(row["layer"]) for row in rows("layers") if row["model"] == name]


def leaves(net: nn.Module) -> list[nn.Module]:
    return [layer for layer in net.modules() if not list(layer.children())]


def test_an_mlpconv_layer_is_a_perceptron_at_every_pixel():
    """B24: two hidden layers, on what the kernel covers."""
    block = models.MLPConv(3, (7, 6, 5), 5, stride=2, padding=1).double()
    x = gn.randn(2, 3, 9, 11, dtype=gn.float64)
    y = block(x).detach()
    patches = F.pad(x, (1, 1, 1, 1)).numpy()
    assert y.shape == (2, 5, 4, 5)
    for row in range(4):
        for column in range(5):
            hidden = patches[:, :, 2 * row : 2 * row + 5, 2 * column : 2 * column + 5].reshape(2, -1)
            for conv in (block[0], block[2], block[4]):
                weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
                hidden = np.maximum(hidden @ weight.reshape(len(weight), -1).T + bias, 0)
            np.testing.assert_allclose(y.numpy()[:, :, row, column], hidden, rtol=1e-12, atol=1e-14)


def test_global_average_pooling():
    """B23: 100x100x5 to 1x1x5, the mean of each map; no parameters; any size."""
    pool = nn.AdaptiveAvgPool2d(1)
    x = gn.randn(1, 5, 100, 100, dtype=gn.float64)
    assert pool(x).shape == (1, 5, 1, 1)
    np.testing.assert_allclose(pool(x).numpy()[0, :, 0, 0], x.numpy()[0].mean((1, 2)), rtol=1e-12)
    assert not list(pool.parameters())
    net = models.nin_cifar10(width=1 / 16).eval()
    maps = net.features(gn.randn(2, 3, 20, 29))
    assert maps.shape == (2, 10, 5, 7)
    means = maps.detach().numpy().mean((2, 3))
    np.testing.assert_allclose(net.avgpool(maps).detach().numpy()[:, :, 0, 0], means, rtol=1e-5)


def test_arguments_shape_the_network():
    net = models.nin_cifar10(num_classes=4, in_channels=1, dropout=0.25, width=1 / 8).eval()
    assert net(gn.randn(3, 1, 8, 8)).shape == (3, 4)
    assert [layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
    assert [layer.out_channels for layer in net.modules() if isinstance(layer, nn.Conv2d)][:3] == [24, 20, 12]
    assert models.nin_imagenet(num_classes=4, width=1 / 32)(gn.randn(1, 3, 39, 50)).shape == (1, 4)


def test_initial_weights():
    *hidden, scores = (layer for layer in models.nin_cifar10(width=1 / 2).modules() if isinstance(layer, nn.Conv2d))
    for layer in (*hidden, scores):
        weight = layer.weight.detach().numpy()
        assert weight.std() == pytest.approx(np.sqrt(2 / weight[0].size), rel=6 / np.sqrt(2 * weight.size))
        assert (layer.bias.detach().numpy() == (2 if layer is scores else 0)).all()


def test_classes_are_alive_at_the_start():
    """A class whose score ReLU cuts off for every image learns nothing. With biases of 0 these networks have 10."""
    splits = get_dataset("digits")
    images = (splits.train.images[:64] - splits.info.mean[0]) / splits.info.std[0]
    dead = []
    for seed in range(8):
        gn.manual_seed(seed)
        net = models.nin_cifar10(in_channels=1).eval()
        with gn.no_grad():
            dead.append(int((net(gn.tensor(images)).numpy().max(0) <= 0).sum()))
    assert sum(dead) <= 1, dead


@pytest.mark.parametrize("name, side", [("nin_cifar10", 16), ("nin_imagenet", 67)])
def test_gradients(name, side):
    net = models.get_model(name, num_classes=3, width=1 / 16, dropout=0.0).double()
    x = gn.randn(2, 3, side, side, dtype=gn.float64, requires_grad=True)
    assert gn.autograd.gradcheck(net, x, parameters=list(net.parameters()), fast_mode=True)


@pytest.mark.parity
def test_it_agrees_with_pytorch():
    """Its layers in a row, in PyTorch."""
    import torch

    net = models.nin_cifar10(width=1 / 8).double().eval()
    theirs = []
    for layer in leaves(net):
        if isinstance(layer, nn.Conv2d):
            conv = torch.nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding
            )
            with torch.no_grad():
                conv.weight.copy_(torch.tensor(layer.weight.detach().numpy()))
                conv.bias.copy_(torch.tensor(layer.bias.detach().numpy()))
            theirs.append(conv)
        elif isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
            theirs.append(getattr(torch.nn, type(layer).__name__)(3, 2, ceil_mode=True))
        elif isinstance(layer, nn.ReLU):
            theirs.append(torch.nn.ReLU())
    expected = torch.nn.Sequential(*theirs).double()
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32))
    a, b = gn.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = net(a), expected(b).mean((2, 3))
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-6, atol=1e-7)
    y.square().sum().backward()
    z.square().sum().backward()
    assert np.abs(a.grad.numpy() - b.grad.numpy()).max() <= 1e-5 * b.grad.abs().max().item()


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"num_classes": 0}, ValueError, "NiN: num_classes must be at least 1, got 0"),
        ({"num_classes": "ten"}, TypeError, "NiN: num_classes must be an integer, got 'ten'"),
        ({"dropout": 2}, ValueError, "NiN: dropout must be between 0 and 1, got 2"),
        ({"in_channels": -1}, ValueError, "NiN: in_channels must be at least 1, got -1"),
        ({"width": float("inf")}, ValueError, "NiN: width must be positive, got inf"),
        ({"init": "torchvision"}, ValueError, "init: must be 'paper', got 'torchvision'"),
    ],
)
def test_refusals(arguments, error, text):
    with pytest.raises(error, match=text):
        models.nin_cifar10(**arguments)


def test_an_mlpconv_layer_has_three_convolutions():
    with pytest.raises(ValueError, match=r"MLPConv: channels must be three numbers, got \(8, 8\)"):
        models.MLPConv(3, (8, 8), 3)
    with pytest.raises(TypeError, match="MLPConv: channels must be three numbers, one for each convolution, got 16"):
        models.MLPConv(3, 16, 5)


def test_an_image_too_small():
    with gn.device("meta"):
        net = models.nin_cifar10()
        with pytest.raises(gn.ShapeError, match=r"in layer features.4 \(AvgPool2d\)"):
            net(gn.empty(1, 3, 3, 3))
