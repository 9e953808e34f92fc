"""DenseNet: the facts' counts, channels that grow, initial weights, gradients, and torchvision's nets."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

import gpunet as gn
from gpunet import models
from gpunet.models import DenseBlock, DenseLayer, DenseNet, Transition, make_cifar_densenet

from .beside_torchvision import compare, randomise, torchvision_models
from .counting import check_stages, count, fact, fact_input, run
from .gradients import check_gradients

NETS = ["densenet121", "densenet161", "densenet169", "densenet201"]
CIFAR = {
    "cifar_densenet_L40_k12_init16": models.cifar_densenet40_12,
    "cifar_densenet_L40_k12_init24": partial(models.cifar_densenet40_12, num_init_features=24),
    "cifar_densenet_L100_k12_init16": partial(models.cifar_densenet40_12, depth=100),
    "cifar_densenet_L100_k12_init24": partial(make_cifar_densenet, 100, 12, num_init_features=24),
    "cifar_densenetbc_L40_k12_init24": partial(models.cifar_densenet_bc_100_12, depth=40),
    "cifar_densenetbc_L100_k12_init24": models.cifar_densenet_bc_100_12,
    "cifar_densenetbc_L250_k24_init48": partial(make_cifar_densenet, 250, 24, bc=True),
    "cifar_densenetbc_L190_k40_init80": partial(make_cifar_densenet, 190, 40, bc=True),
}
# From section A8 of the facts: channels that come into each block, and that go out.
CHANNELS = {
    "densenet121": [(64, 256), (128, 512), (256, 1024), (512, 1024)],
    "densenet161": [(96, 384), (192, 768), (384, 2112), (1056, 2208)],
    "densenet169": [(64, 256), (128, 512), (256, 1280), (640, 1664)],
    "densenet201": [(64, 256), (128, 512), (256, 1792), (896, 1920)],
    "cifar_densenet_bc_100_12": [(24, 216), (108, 300), (150, 342)],
    "cifar_densenet40_12": [(16, 160), (160, 304), (304, 448)],
}


def meta(make, **options):
    with gn.device("meta"):
        return make(**options)


@pytest.mark.parametrize("name", NETS)
def test_totals(name):
    net = meta(getattr(models, name))
    assert count(net, fact_input(name)) == fact(name)
    check_stages(net, name)


@pytest.mark.parametrize("name", CIFAR)
def test_totals_for_cifar(name):
    assert count(meta(CIFAR[name]), fact_input(name)) == fact(name)


@pytest.mark.parametrize("name", CHANNELS)
def test_channels_grow_linearly_and_transitions_halve_them_b87(name):
    """Row B87: c0 + k l channels before layer l; a transition halves them."""
    net = meta(getattr(models, name))
    size = 32 if "cifar" in name else 224
    outputs = {layer.path: layer.output[0] for layer in run(net, (3, size, size))}
    for number, (inputs, expected) in enumerate(CHANNELS[name], 1):
        block = getattr(net.features, f"denseblock{number}")
        growth = block.denselayer1.conv1.out_channels if "40_12" in name else block.denselayer1.conv2.out_channels
        assert [layer.norm1.num_features for layer in block.values()] == [
            inputs + index * growth for index in range(len(block))
        ]
        assert outputs[f"features.denseblock{number}"] == expected
        if number < len(CHANNELS[name]):
            assert outputs[f"features.transition{number}"] == CHANNELS[name][number][0]


def test_every_layer_sees_all_before_it_b87():
    """Row B87: L (L + 1) / 2 links: each of L layers sees those before it and the input, which comes out unchanged."""
    gn.manual_seed(0)
    block = DenseBlock(4, 3, bn_size=4, growth_rate=2).double().eval()
    seen = {}
    for index, layer in enumerate(block.values()):
        layer.register_forward_pre_hook(lambda layer, inputs, index=index: seen.update({index: inputs[0].numpy()}))
    x = gn.tensor(np.random.default_rng(0).standard_normal((2, 3, 5, 5)))
    with gn.no_grad():
        y = block(x).numpy()
    assert y.shape == (2, 3 + 4 * 2, 5, 5)
    np.testing.assert_array_equal(y[:, :3], x.numpy())
    assert sum((array.shape[1] - 3) // 2 + 1 for array in seen.values()) == 4 * 5 / 2
    for index, array in seen.items():
        np.testing.assert_array_equal(array, y[:, : 3 + 2 * index])


def test_blocks_by_themselves():
    x = gn.zeros(2, 6, 7, 8)
    assert DenseLayer(6, 4)(x).shape == (2, 4, 7, 8)
    assert DenseLayer(6, 4, bn_size=0)(x).shape == (2, 4, 7, 8)
    layer = DenseLayer(6, 4)
    expected = layer(x).detach().numpy()
    for parts in ([x], [x[:, :2], x[:, 2:]], (x[:, :5], x[:, 5:])):  # as torchvision's block hands them to its layer
        np.testing.assert_array_equal(layer(parts).detach().numpy(), expected)
    assert Transition(6, 3)(x).shape == (2, 3, 3, 4)


def test_state_dict_keys():
    def norm(path):
        return [f"{path}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]

    keys = ["features.conv0.weight", *norm("features.norm0")]
    for number, layers in enumerate((6, 12, 24, 16), 1):
        for index in range(1, layers + 1):
            path = f"features.denseblock{number}.denselayer{index}"
            keys += [*norm(f"{path}.norm1"), f"{path}.conv1.weight", *norm(f"{path}.norm2"), f"{path}.conv2.weight"]
        if number < 4:
            path = f"features.transition{number}"
            keys += [*norm(f"{path}.norm"), f"{path}.conv.weight"]
    keys += [*norm("features.norm5"), "classifier.weight", "classifier.bias"]
    assert list(meta(models.densenet121).state_dict()) == keys


@pytest.mark.parametrize("init", ["torchvision", "paper"])
def test_initial_weights(init):
    net = DenseNet(32, (1, 1, 1, 1), 512, init=init)
    layer = net.features.denseblock1.denselayer1  # 1x1 from 512 to 128 channels, 3x3 from 128 to 32
    fans = {"torchvision": (512, 128 * 9), "paper": (128, 32 * 9)}[init]
    for conv, fan in zip((layer.conv1, layer.conv2), fans, strict=True):
        assert conv.weight.detach().numpy().std() == pytest.approx(math.sqrt(2 / fan), rel=0.02)
    bound = 1 / math.sqrt(net.classifier.in_features)
    assert 0.98 * bound < np.abs(net.classifier.weight.detach().numpy()).max() <= bound
    assert not net.classifier.bias.detach().numpy().any()


def test_dropout():
    gn.manual_seed(0)
    layer = DenseLayer(6, 400, bn_size=1, drop_rate=0.25)
    x = gn.randn(2, 6, 4, 4)
    assert (layer(x).detach().numpy() == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert (layer.eval()(x).detach().numpy() == 0).mean() < 0.01


def test_memory_efficient_changes_no_result():
    x = gn.randn(2, 3, 32, 32)
    scores = []
    for flag in (False, True):
        gn.manual_seed(0)
        net = DenseNet(4, (2, 2), 8, num_classes=5, memory_efficient=flag)
        scores.append(net(x).detach().numpy())
    np.testing.assert_array_equal(*scores)


CHECKED = {
    "large": partial(DenseNet, 3, (2, 1, 1, 1), 4),
    "torchvision": partial(DenseNet, 3, (2, 2), 5, bn_size=2, compression=0.4, init="paper"),
    "plain": partial(make_cifar_densenet, 10, 3),
    "bc": partial(make_cifar_densenet, 16, 3, bc=True),
}


@pytest.mark.parametrize("kind", CHECKED)
@pytest.mark.parametrize("training", [True, False])
def test_gradients(kind, training):
    gn.manual_seed(0)
    net = CHECKED[kind](num_classes=3)
    shape = (3, 3, 33, 34) if kind in ("large", "torchvision") else (3, 3, 9, 10)
    check_gradients(net, shape, training)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (partial(models.densenet121, num_classes=0), ValueError, "DenseNet: num_classes must be at least 1, got 0"),
        (partial(models.densenet121, num_classes=1.5), TypeError, "DenseNet: num_classes must be an integer, got 1.5"),
        (partial(models.densenet121, drop_rate=1.5), ValueError, "drop_rate: must lie in 0..1, got 1.5"),
        (partial(models.densenet121, growth_rate=0), ValueError, "DenseBlock: growth_rate must be at least 1, got 0"),
        (partial(models.densenet121, bn_size=-1), ValueError, "DenseLayer: bn_size must be at least 0, got -1"),
        (partial(models.densenet121, block_config=()), ValueError, "block_config: must name at least one block"),
        (partial(models.densenet121, block_config=(2, 0)), ValueError, "DenseBlock: num_layers must be at least 1"),
        (partial(models.densenet121, compression=0), ValueError, "compression: must lie above 0"),
        (partial(models.densenet121, init="he"), ValueError, "init: must be 'torchvision' or 'paper'"),
        (partial(make_cifar_densenet, 41, 12), ValueError, r"depth: must be 3n \+ 4 .* got 41"),
        (partial(make_cifar_densenet, 43, 12, bc=True), ValueError, r"depth: must be 6n \+ 4 .* got 43"),
    ],
)
def test_refusals(make, error, text):
    with pytest.raises(error, match=text):
        meta(make)


@pytest.mark.parametrize(
    "make, size, good, layer",
    [
        (models.densenet121, 28, 29, "features.transition3.pool"),
        (models.cifar_densenet40_12, 3, 4, "features.transition2.pool"),
    ],
)
def test_images_too_small_are_refused_with_the_layer(make, size, good, layer):
    net = meta(make).eval()
    with pytest.raises(gn.ShapeError, match=rf"avg_pool2d: kernel_size \(2, 2\) .* in layer {layer} \(AvgPool2d\)"):
        net(gn.empty((1, 3, size, size), device="meta"))
    assert net(gn.empty((1, 3, good, good), device="meta")).ndim == 2


@pytest.mark.parity
@pytest.mark.parametrize("name", NETS)
def test_it_agrees_with_torchvision(name):
    theirs = getattr(torchvision_models(), name)(num_classes=11)
    randomise(theirs)
    compare(getattr(models, name)(num_classes=11), theirs, (2, 3, 64, 72))


@pytest.mark.parity
def test_options_agree_with_torchvision():
    """Without torchvision's memory_efficient, whose recomputation counts a batch twice in the running statistics."""
    options = {"growth_rate": 6, "block_config": (3, 2, 4), "num_init_features": 11, "bn_size": 3, "num_classes": 7}
    theirs = torchvision_models().DenseNet(**options)
    randomise(theirs)
    compare(DenseNet(**options, memory_efficient=True), theirs, (2, 3, 64, 72))


@pytest.mark.parity
@pytest.mark.parametrize("bc", [True, False])
def test_cifar_nets_agree_with_torchvision_where_the_stem_is_replaced(bc):
    make = torchvision_models().DenseNet
    import torch

    class PlainLayer(torch.nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.norm1 = torch.nn.BatchNorm2d(channels)
            self.conv1 = torch.nn.Conv2d(channels, 4, 3, padding=1, bias=False)

        def forward(self, features):
            return self.conv1(torch.relu(self.norm1(torch.cat(features, 1))))

    first = 8 if bc else 16
    theirs = make(4, (3, 3, 3), first, num_classes=7)
    theirs.features.conv0 = torch.nn.Conv2d(3, first, 3, padding=1, bias=False)
    for name in ("norm0", "relu0", "pool0"):
        delattr(theirs.features, name)
    if not bc:
        channels = first
        for number in (1, 2, 3):
            for index in (1, 2, 3):
                setattr(theirs.features[2 * number - 1], f"denselayer{index}", PlainLayer(channels))
                channels += 4
            if number < 3:
                transition = theirs.features[2 * number]
                transition.norm = torch.nn.BatchNorm2d(channels)
                transition.conv = torch.nn.Conv2d(channels, channels, 1, bias=False)
        theirs.features.norm5 = torch.nn.BatchNorm2d(channels)
        theirs.classifier = torch.nn.Linear(channels, 7)
    randomise(theirs)
    compare(make_cifar_densenet(22 if bc else 13, 4, bc=bc, num_classes=7), theirs, (2, 3, 12, 13))
