"""Pre-activation ResNet: the facts' counts, the order inside the units, gradients, and the same nets in PyTorch."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import gpunet as gn
from gpunet import models
from gpunet.models import PreActBlock, PreActBottleneck, PreActResNet

from .beside_torchvision import compare, randomise
from .counting import count, fact, fact_input, run
from .gradients import check_gradients

POSITIONS = ["pre", "post", "after_add"]
BLOCKS = {"block": PreActBlock, "bottleneck": PreActBottleneck}


def meta(make, **options):
    with gn.device("meta"):
        return make(**options)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152, 200])
def test_totals(depth):
    name = f"preresnet{depth}"
    assert count(meta(getattr(models, f"preact_resnet{depth}")), fact_input(name)) == fact(name)


@pytest.mark.parametrize("depth", [50, 101, 152, 200])
def test_totals_where_every_unit_activates(depth):
    name = f"resnetv2_{depth}"
    net = meta(getattr(models, f"preact_resnet{depth}"), stem="conv")
    assert count(net, fact_input(name)) == fact(name)
    assert "bn1.weight" not in net.state_dict()
    assert "layer1.0.bn1.weight" in net.state_dict()


@pytest.mark.parametrize("stem", ["activated", "conv"])
@pytest.mark.parametrize("depth", [20, 56, 110, 164, 1001])
def test_totals_for_cifar(depth, stem):
    name = f"cifar_preresnet{depth}"
    assert count(meta(getattr(models, f"cifar_preact_resnet{depth}"), stem=stem), fact_input(name)) == fact(name)


def test_small_grey_images():
    for net in (models.cifar_preact_resnet20(in_channels=1), models.cifar_preact_resnet164(7, in_channels=1)):
        assert net(gn.zeros(2, 1, 8, 8)).shape == (2, net.fc.out_features)


def set_up(name, position, inputs=8):
    gn.manual_seed(0)
    channels = 8 if name == "block" else 2
    return BLOCKS[name](inputs, channels, position=position).double()


@pytest.mark.parametrize("name", BLOCKS)
def test_the_position_of_batchnorm_b85(name):
    """Row B85: as many parameters in each place where the shape stays, and another output, though all scales are 1."""
    blocks = [set_up(name, position) for position in POSITIONS]
    assert len({sum(p.numel() for p in block.parameters()) for block in blocks}) == 1
    x = gn.tensor(np.random.default_rng(0).standard_normal((4, 8, 5, 5)))
    pre, post, after = (block(x).detach().numpy() for block in blocks)
    for a, b in ((pre, post), (pre, after), (post, after)):
        assert np.abs(a - b).max() > 0.1
    assert (pre < 0).any()
    assert (post >= 0).all()
    assert (after >= 0).all()
    # BN after the addition: of each channel, what ReLU left is at most half of a distribution with variance 1.
    assert 0.5 < np.sqrt((after**2).mean((0, 2, 3))).mean() < 0.9


@pytest.mark.parametrize("name", BLOCKS)
def test_the_identity_is_untouched(name):
    """With its last convolution zero, a pre-activation unit is the identity, where a v1 block is a ReLU."""
    block = set_up(name, "pre")
    last = block.conv3 if name == "bottleneck" else block.conv2
    last.weight.data.zero_()
    x = gn.tensor(np.random.default_rng(0).standard_normal((2, 8, 5, 4)), requires_grad=True)
    y = block(x)
    np.testing.assert_array_equal(y.detach().numpy(), x.detach().numpy())
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.ones(x.shape))


@pytest.mark.parametrize("position, projections", [("pre", 1), ("post", 3), ("after_add", 1)])
def test_projections(position, projections):
    block = PreActBlock(4, 8, stride=2, position=position)
    assert len(list(block.downsample.parameters())) == projections
    assert block(gn.zeros(2, 4, 6, 6)).shape == (2, 8, 3, 3)


def test_the_stride():
    assert PreActBottleneck(4, 2, stride=2).conv2.stride == (2, 2)
    assert PreActBottleneck(4, 2, stride=2, stride_in_1x1=True).conv1.stride == (2, 2)
    assert meta(models.cifar_preact_resnet164).layer2[0].conv1.stride == (2, 2)


def test_shapes():
    layers = {layer.path: layer.output for layer in run(meta(models.preact_resnet50), (3, 224, 224))}
    shapes = [layers[name] for name in ("maxpool", "layer1", "layer2", "layer3", "layer4", "fc")]
    assert shapes == [(64, 56, 56), (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7), (1000,)]


CHECKED = {
    "basic": partial(PreActResNet, PreActBlock, (2, 1, 1, 1), width=4),
    "bottleneck": partial(PreActResNet, PreActBottleneck, (1, 1, 1, 1), width=4),
    "stem of convolution": partial(PreActResNet, PreActBottleneck, (1, 1, 1, 1), width=4, stem="conv"),
    "cifar": partial(models.CifarPreActResNet, 14, widths=(4, 6, 8)),
    "cifar bottleneck": partial(models.CifarPreActResNet, 11, widths=(4, 6, 8), bottleneck=True),
    "plain": partial(models.CifarPreActResNet, 14, widths=(4, 6, 8), shortcut="none"),
}


@pytest.mark.parametrize("kind", CHECKED)
@pytest.mark.parametrize("training", [True, False])
def test_gradients(kind, training):
    gn.manual_seed(0)
    net = CHECKED[kind](num_classes=3)
    check_gradients(net, (3, 3, 33, 34), training)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("shortcut", ["A", "B", "C", "none"])
def test_gradients_of_units(name, position, shortcut):
    gn.manual_seed(0)
    block = BLOCKS[name](4, 8, 2, shortcut, position)
    check_gradients(block, (2, 4, 5, 6), training=True)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (partial(models.preact_resnet18, num_classes=0), ValueError, "PreActResNet: num_classes must be at least 1"),
        (partial(models.preact_resnet18, shortcut="D"), ValueError, "shortcut: must be 'A', 'B', 'C' or 'none'"),
        (partial(models.preact_resnet18, stem="relu"), ValueError, "stem: must be 'activated' or 'conv', got 'relu'"),
        (partial(models.preact_resnet18, init="he"), ValueError, "init: must be"),
        (partial(PreActResNet, PreActBlock, (1, 1)), ValueError, "layers: must have 4 elements"),
        (partial(PreActResNet, PreActBlock, (1, 1, 1, 0)), ValueError, r"PreActResNet: layers\[3\] must be at least 1"),
        (partial(PreActBlock, 4, 4, position="before"), ValueError, "position: must be 'pre', 'post' or 'after_add'"),
        (partial(PreActBlock, 4, 4, position="post", activated=True), ValueError, "activated: position must be 'pre'"),
        (partial(models.CifarPreActResNet, 21), ValueError, r"depth: must be 6n \+ 2 .* got 21"),
        (partial(models.CifarPreActResNet, 20, bottleneck=False, num_classes=-1), ValueError, "num_classes"),
        (partial(models.CifarPreActResNet, 21, bottleneck=True), ValueError, r"depth: must be 9n \+ 2 .* got 21"),
        (partial(models.cifar_preact_resnet164, shortcut=""), ValueError, "shortcut: must be"),
    ],
)
def test_refusals(make, error, text):
    with pytest.raises(error, match=text):
        meta(make)


def torch_unit(
    torch, kind: str, inputs: int, channels: int, stride: int, shortcut: str, position: str, activated: bool
):
    """A unit written for PyTorch; shortcuts A and B."""
    nn, functional = torch.nn, torch.nn.functional

    class Unit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            outputs = channels if kind == "block" else 4 * channels
            if kind == "block":
                sizes = [(inputs, channels, 3, stride), (channels, channels, 3, 1)]
            else:
                sizes = [(inputs, channels, 1, 1), (channels, channels, 3, stride), (channels, outputs, 1, 1)]
            for number, (before, after, kernel, step) in enumerate(sizes, 1):
                if position == "pre" and not (activated and number == 1):
                    self.add_module(f"bn{number}", nn.BatchNorm2d(before))
                self.add_module(f"conv{number}", nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False))
                if position != "pre":
                    self.add_module(f"bn{number}", nn.BatchNorm2d(after))
            self.changes = inputs != outputs or stride != 1
            self.extra = outputs - inputs
            if shortcut == "B" and self.changes:
                self.downsample = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                if position == "post":
                    self.downsample = nn.Sequential(self.downsample, nn.BatchNorm2d(outputs))

        def beside(self, x):
            if not self.changes:
                return x
            if shortcut == "B":
                return self.downsample(x)
            return functional.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, self.extra))

        def forward(self, x):
            relu = torch.relu
            if position == "pre":
                out = x if activated else relu(self.bn1(x))
                beside = self.beside(out) if self.changes else x
                out = self.conv2(relu(self.bn2(self.conv1(out))))
                return beside + (out if kind == "block" else self.conv3(relu(self.bn3(out))))
            out = self.conv2(relu(self.bn1(self.conv1(x))))
            last = self.bn2
            if kind == "bottleneck":
                out, last = self.conv3(relu(self.bn2(out))), self.bn3
            return relu(last(out) + self.beside(x)) if position == "post" else relu(last(out + self.beside(x)))

    return Unit()


@pytest.mark.parity
@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("inputs, stride", [(8, 1), (6, 1), (8, 2), (5, 2)])
def test_units_agree_with_pytorch(kind, position, shortcut, inputs, stride):
    torch = pytest.importorskip("torch")
    channels = 8 if kind == "block" else 2
    theirs = torch_unit(torch, kind, inputs, channels, stride, shortcut, position, False)
    randomise(theirs)
    compare(BLOCKS[kind](inputs, channels, stride, shortcut, position), theirs, (3, inputs, 9, 8))


@pytest.mark.parity
@pytest.mark.parametrize("stem", ["activated", "conv"])
@pytest.mark.parametrize("kind, depth", [("block", 18), ("bottleneck", 50)])
def test_nets_agree_with_pytorch(kind, depth, stem):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    expansion = 1 if kind == "block" else 4

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 7, 2, 3, bias=False)
            if stem == "activated":
                self.bn1 = nn.BatchNorm2d(16)
            before = 16
            for number, blocks in enumerate({18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]):
                channels, units = 16 * 2**number, []
                for index in range(blocks):
                    stride = 2 if number and not index else 1
                    activated = stem == "activated" and number == index == 0
                    units.append(torch_unit(torch, kind, before, channels, stride, "B", "pre", activated))
                    before = channels * expansion
                setattr(self, f"layer{number + 1}", nn.Sequential(*units))
            self.bn2 = nn.BatchNorm2d(before)
            self.fc = nn.Linear(before, 7)

        def forward(self, x):
            x = self.conv1(x)
            if stem == "activated":
                x = torch.relu(self.bn1(x))
            x = nn.functional.max_pool2d(x, 3, 2, 1)
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(torch.relu(self.bn2(x)).mean((2, 3)))

    theirs = Net()
    randomise(theirs)
    make = getattr(models, f"preact_resnet{depth}")
    compare(make(num_classes=7, width=16, stem=stem), theirs, (2, 3, 64, 64))
