"""Dense heads as convolutions: the facts, and equal scores."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet as gn
from gpunet import models, nn
from gpunet.models.fully_conv import conv_to_linear_weight, linear_to_conv_weight

from .counting import count, fact, fact_input, rows, run, shape_of

NETS = {
    "alexnet": ({"width": 1 / 8}, 224),
    "alexnet2012_grouped": ({"width": 1 / 8}, 227),
    "vgg11_bn": ({"width": 1 / 16}, 224),
    "vgg16_c": ({"width": 1 / 16, "init": "torchvision"}, 224),
}


def pair(name: str, **options: object) -> tuple[nn.Module, models.FullyConvolutional]:
    net = models.get_model(name, num_classes=5, **NETS[name][0], **options).double().eval()
    return net, models.to_fully_conv(net)


@pytest.mark.parametrize("name", ["D_dense_224", "D_dense_256", "D_dense_384", "D_dense_512", "E_dense_256"])
def test_totals(name):
    with gn.device("meta"):
        net = models.to_fully_conv(models.vgg16() if name[0] == "D" else models.vgg19())
    assert count(net, fact_input(f"vgg_{name}")) == fact(f"vgg_{name}")


def test_layers():
    with gn.device("meta"):
        net = models.to_fully_conv(models.vgg16())
    layers = {layer.path: layer for layer in run(net, (3, 256, 256))}
    expected = [row for row in rows("layers") if row["model"] == "vgg_D_dense_256"]
    assert len(expected) == 21
    for row in expected:
        layer = layers[row["layer"]]
        found = (layer.type, layer.output, layer.params, layer.macs)
        assert found == (row["type"], shape_of(row["output"]), int(row["params"]), int(row["macs"])), layer.path


@pytest.mark.parametrize("pixels, side", [(224, 1), (256, 2), (383, 5), (384, 6), (512, 10)])
def test_size_of_the_map(pixels, side):
    """B79: floor(Q / 32) - 6 at Q pixels."""
    with gn.device("meta"):
        net = models.to_fully_conv(models.vgg13()).eval()
        assert net(gn.empty(1, 3, pixels, 224)).shape == (1, 1000, side, 1)


@pytest.mark.parametrize("name", NETS)
def test_scores_are_equal(name):
    """B79: dense layers and convolutions are the same where the map has the size that the dense layers take."""
    net, dense = pair(name)
    side = NETS[name][1]
    x = gn.randn(2, 3, side, side, dtype=gn.float64)
    with gn.no_grad():
        expected, scores = net(x).numpy(), dense(x).numpy()
    assert scores.shape == (2, 5, 1, 1)
    assert np.ptp(expected) > 0
    assert np.abs(scores[:, :, 0, 0] - expected).max() <= 1e-12 * np.abs(expected).max()
    assert sum(p.numel() for p in dense.parameters()) == sum(p.numel() for p in net.parameters())
    assert not any(isinstance(layer, nn.Linear) for layer in dense.modules())


@pytest.mark.parametrize("name", ["alexnet", "vgg11_bn"])
def test_each_place_of_the_map_is_the_head_on_a_window(name):
    net, dense = pair(name)
    window = 6 if name == "alexnet" else 7
    x = gn.randn(1, 3, 256, 288, dtype=gn.float64)
    with gn.no_grad():
        features = net.features(x)
        scores = dense(x).numpy()
        assert scores.shape == (1, 5, features.shape[2] - window + 1, features.shape[3] - window + 1)
        assert scores.shape[2:] == (2, 3)
        for row in range(2):
            for column in range(3):
                seen = features[:, :, row : row + window, column : column + window].flatten(1)
                expected = net.classifier(seen).numpy()
                np.testing.assert_allclose(scores[:, :, row, column], expected, rtol=1e-10, atol=1e-12)
        mean = models.to_fully_conv(net, average=True)(x).numpy()
    np.testing.assert_allclose(mean, scores.mean((2, 3)), rtol=1e-10)


def test_the_model_stays_as_it_is():
    net = models.alexnet(num_classes=5, width=1 / 16)
    before = {key: value.numpy().copy() for key, value in net.state_dict().items()}
    dense = models.to_fully_conv(net)
    assert dense.features is net.features
    assert all(layer.training for layer in dense.modules())
    assert not any(layer.training for layer in models.to_fully_conv(net.eval()).modules())
    net.train()
    with gn.no_grad():
        for parameter in dense.classifier.parameters():
            parameter.zero_()
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[key])
    assert list(dense.state_dict()) == list(before)
    dense.classifier[0].p = 0.0
    assert net.classifier[0].p == 0.5
    dense(gn.randn(1, 3, 224, 224)).sum().backward()
    assert dense.classifier[6].bias.grad is not None
    assert net.classifier[6].bias.grad is None


def test_weights_there_and_back():
    """A layer's (4, 3 * 2 * 2) weight in timm's form, (4, 3, 2, 2); rows, channels, then lines and columns."""
    weight = np.arange(48.0).reshape(4, 12)
    as_conv = linear_to_conv_weight(weight, 3)
    assert as_conv.shape == (4, 3, 2, 2)
    assert as_conv[1, 2, 1, 0] == 12 + 2 * 4 + 2
    np.testing.assert_array_equal(conv_to_linear_weight(as_conv), weight)
    assert linear_to_conv_weight(gn.tensor(weight), 12).shape == (4, 12, 1, 1)
    for channels in (5, 2):
        with pytest.raises(gn.ShapeError, match=f"weight: 12 inputs are not {channels} channels of a square map"):
            linear_to_conv_weight(weight, channels)


@pytest.mark.parametrize(
    "net, text",
    [
        (nn.Linear(3, 2), "must have features and a Sequential called classifier.* got Linear"),
        (nn.Sequential(nn.Conv2d(1, 1, 1)), "flattens the map, got Sequential"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), "Sequential has no convolutions before dense layers"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten()), "Sequential has no convolutions before dense layers"),
    ],
)
def test_other_models(net, text):
    with pytest.raises(TypeError, match=f"to_fully_conv: .*{text}"):
        models.to_fully_conv(net)


def test_a_map_that_is_not_square():
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(), nn.Linear(4 * 3 * 2, 2))
    with pytest.raises(gn.ShapeError, match="24 inputs are not 4 channels of a square map"):
        models.to_fully_conv(net)


def test_an_image_too_small():
    with gn.device("meta"):
        net = models.to_fully_conv(models.vgg11())
        with pytest.raises(gn.ShapeError, match=r"in layer classifier.0 \(Conv2d\)"):
            net(gn.empty(1, 3, 223, 224))


def test_what_shares_memory_with_the_model():
    net, dense = pair("alexnet")
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    shared = [name for name, parameter in dense.named_parameters() if id(parameter) in names]
    assert shared == [name for name, _ in net.named_parameters() if name.startswith("features.")]
    before = net.classifier[1].weight.detach().numpy().copy()
    with gn.no_grad():
        for parameter in dense.parameters():
            parameter.fill_(7)
    assert np.all(net.features[0].weight.detach().numpy() == 7)
    np.testing.assert_array_equal(net.classifier[1].weight.detach().numpy(), before)


def test_what_is_no_model():
    with pytest.raises(
        TypeError, match=r"model: expected a Module, got str; gn\.models\.get_model\('vgg16'\) makes one"
    ):
        models.to_fully_conv("vgg16")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"model: expected a Module, got int$"):
        models.to_fully_conv(3)  # type: ignore[arg-type]
