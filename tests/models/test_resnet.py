"""ResNet: the facts' counts, the paper's shortcuts, initial weights, gradients, and torchvision's nets."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

import gpunet as gn
from gpunet import models, nn
from gpunet.models import BasicBlock, Bottleneck, ResNet

from .beside_torchvision import compare, randomise, torchvision_models
from .counting import check_stages, count, fact, fact_input, golden, run
from .gradients import check_gradients

NETS = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet50_v1", "resnet101_v1", "resnet152_v1"]
DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
SMALL = {"num_classes": 5, "width": 8}


def meta(make, **options):
    with gn.device("meta"):
        return make(**options)


@pytest.mark.parametrize("name", NETS)
def test_totals_b84(name):
    """Row B84: parameters and multiply-adds of ResNet-18 to -152."""
    assert count(meta(getattr(models, name)), fact_input(name)) == fact(name)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet50_v1", "resnet101", "resnet152"])
def test_stages(name):
    check_stages(meta(getattr(models, name)), name)


@pytest.mark.parametrize(
    "name, options, key",
    [
        ("plain18", {}, "plain18_or_18A"),
        ("resnet18", {"shortcut": "A"}, "plain18_or_18A"),
        ("plain34", {}, "resnet34_optionA_or_plain34_params"),
        ("resnet34", {"shortcut": "A"}, "resnet34_optionA_or_plain34_params"),
        ("resnet34", {"shortcut": "none"}, "resnet34_optionA_or_plain34_params"),
        ("resnet34", {"shortcut": "C"}, "resnet34_optionC_params"),
    ],
)
def test_shortcuts_and_plain_nets_b83(name, options, key):
    """Row B83: a plain network has the parameters of its residual twin with shortcut A, 21,623,848 with 34 layers."""
    net = meta(getattr(models, name), **options)
    assert sum(p.numel() for p in net.parameters()) == golden()[key]
    assert run(net, (3, 224, 224))[-1].output == (1000,)


def test_the_stride_of_v1_is_in_the_first_1x1():
    old, new = (meta(getattr(models, name)).layer2[0] for name in ("resnet50_v1", "resnet50"))
    assert (old.conv1.stride, old.conv2.stride, old.downsample[0].stride) == ((2, 2), (1, 1), (2, 2))
    assert (new.conv1.stride, new.conv2.stride, new.downsample[0].stride) == ((1, 1), (2, 2), (2, 2))


@pytest.mark.parametrize("name, convolutions", [("resnet18", 2), ("resnet34", 2), ("resnet50", 3)])
def test_state_dict_keys(name, convolutions):
    def norm(path):
        return [f"{path}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]

    keys = ["conv1.weight", *norm("bn1")]
    for stage, blocks in enumerate(DEPTHS[name], 1):
        for block in range(blocks):
            path = f"layer{stage}.{block}"
            for number in range(1, convolutions + 1):
                keys += [f"{path}.conv{number}.weight", *norm(f"{path}.bn{number}")]
            if block == 0 and (stage > 1 or convolutions == 3):
                keys += [f"{path}.downsample.0.weight", *norm(f"{path}.downsample.1")]
    assert list(meta(getattr(models, name)).state_dict()) == [*keys, "fc.weight", "fc.bias"]


def test_bottleneck_weights_b86():
    def weights(block):
        return sum(module.weight.numel() for module in block.modules() if isinstance(module, nn.Conv2d))

    assert weights(Bottleneck(256, 64)) == 69_632
    assert weights(BasicBlock(256, 256)) == 1_179_648
    assert Bottleneck(256, 64)(gn.zeros(1, 256, 4, 4)).shape == (1, 256, 4, 4)


@pytest.mark.parametrize("make", [partial(BasicBlock, 8, 8), partial(Bottleneck, 8, 2)])
def test_a_block_whose_last_layer_is_zero_is_a_relu_b22(make):
    """Rows B22 and B84: f(x) + x, then ReLU; where f gives 0, ReLU(x) is left."""
    block = make().double()
    nn.init.zeros_((block.bn3 if isinstance(block, Bottleneck) else block.bn2).weight)
    x = gn.tensor(np.random.default_rng(0).standard_normal((3, 8, 5, 4)), requires_grad=True)
    y = block(x)
    np.testing.assert_array_equal(y.detach().numpy(), np.maximum(x.detach().numpy(), 0))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), x.detach().numpy() > 0)


def test_the_gradient_contains_the_identity_b22():
    """Row B22: where no ReLU cuts, the Jacobian of a block is that of its plain twin and the identity."""
    block, plain = BasicBlock(2, 2).double().eval(), BasicBlock(2, 2, shortcut="none").double().eval()
    for net in (block, plain):
        nn.init.constant_(net.bn2.bias, 10)
    plain.load_state_dict(block.state_dict())
    x = np.random.default_rng(1).uniform(0, 1, (1, 2, 3, 3))
    jacobians = []
    for net in (block, plain):
        rows = []
        for index in range(x.size):
            leaf = gn.tensor(x, requires_grad=True)
            net(leaf).flatten()[index].backward()
            rows.append(leaf.grad.numpy().reshape(-1))
        jacobians.append(np.stack(rows))
    np.testing.assert_allclose(jacobians[0] - jacobians[1], np.eye(x.size), atol=1e-12)
    assert np.abs(jacobians[1]).max() > 1e-2


def test_shortcut_a_takes_every_second_pixel_and_appends_zeros():
    block = BasicBlock(2, 5, stride=2, shortcut="A")
    assert not list(block.downsample.parameters())
    x = np.arange(2 * 5 * 4, dtype=np.float32).reshape(1, 2, 5, 4)
    y = block.downsample(gn.tensor(x)).numpy()
    np.testing.assert_array_equal(y[:, :2], x[:, :, ::2, ::2])
    assert y.shape == (1, 5, 3, 2)
    assert not y[:, 2:].any()


def test_initial_weights_of_torchvision():
    net = models.resnet18(num_classes=100)
    weight = net.layer2[0].conv1.weight.detach().numpy()  # 64 to 128 channels
    assert weight.std() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.02)
    bound = 1 / math.sqrt(512)
    assert 0.98 * bound < np.abs(net.fc.weight.detach().numpy()).max() <= bound
    assert 0 < np.abs(net.fc.bias.detach().numpy()).max() <= bound
    assert all((m.weight.detach().numpy() == 1).all() for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_initial_weights_of_the_paper():
    net = models.plain18(num_classes=100)
    weight = net.layer2[0].conv1.weight.detach().numpy()
    assert weight.std() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    assert net.fc.weight.detach().numpy().std() == pytest.approx(math.sqrt(2 / 512), rel=0.02)
    assert not net.fc.bias.detach().numpy().any()


@pytest.mark.parametrize("name, last", [("resnet18", "bn2"), ("resnet50", "bn3")])
def test_zero_init_residual(name, last):
    net = getattr(models, name)(zero_init_residual=True, **SMALL)
    zeros = {
        path for path, m in net.named_modules() if isinstance(m, nn.BatchNorm2d) and not m.weight.detach().numpy().any()
    }
    assert zeros == {f"{path}.{last}" for path, m in net.named_modules() if isinstance(m, BasicBlock | Bottleneck)}


def test_another_normalisation():
    net = models.resnet18(norm_layer=lambda channels: nn.GroupNorm(2, channels), **SMALL)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert net(gn.zeros(1, 3, 32, 32)).shape == (1, 5)


CHECKED = {
    "basic": partial(ResNet, BasicBlock, (2, 1, 1, 1)),
    "bottleneck": partial(ResNet, Bottleneck, (1, 1, 1, 1)),
    "v1": partial(ResNet, Bottleneck, (1, 1, 1, 1), stride_in_1x1=True),
    "plain": partial(ResNet, BasicBlock, (1, 1, 1, 1), shortcut="none"),
    "A": partial(ResNet, BasicBlock, (1, 1, 1, 1), shortcut="A"),
    "C": partial(ResNet, BasicBlock, (2, 1, 1, 1), shortcut="C"),
    "group norm": partial(ResNet, BasicBlock, (1, 1, 1, 1), norm_layer=lambda channels: nn.GroupNorm(2, channels)),
    "cifar A": partial(models.CifarResNet, 14, widths=(4, 6, 8)),
    "cifar B": partial(models.CifarResNet, 14, widths=(4, 6, 8), shortcut="B"),
}


@pytest.mark.parametrize("kind", CHECKED)
@pytest.mark.parametrize("training", [True, False])
def test_gradients(kind, training):
    gn.manual_seed(0)
    options = {"num_classes": 3} if "cifar" in kind else {"num_classes": 3, "width": 4}
    net = CHECKED[kind](**options)
    check_gradients(net, (3, 3, 33, 34), training)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (partial(models.resnet18, num_classes=0), ValueError, "ResNet: num_classes must be at least 1, got 0"),
        (partial(models.resnet18, num_classes="10"), TypeError, "ResNet: num_classes must be an integer, got '10'"),
        (partial(models.resnet18, shortcut="D"), ValueError, "shortcut: must be 'A', 'B', 'C' or 'none', got 'D'"),
        (partial(models.resnet18, init="he"), ValueError, "init: must be 'torchvision' or 'paper', got 'he'"),
        (partial(models.resnet18, groups=2), ValueError, "BasicBlock: groups must be 1, got 2"),
        (partial(models.resnet18, width_per_group=128), ValueError, "BasicBlock: base_width must be 64, got 128"),
        (partial(models.resnet18, stride_in_1x1=True), ValueError, "stride_in_1x1"),
        (
            partial(models.resnet50, replace_stride_with_dilation=[True]),
            ValueError,
            "replace_stride_with_dilation: must have",
        ),
        (partial(ResNet, BasicBlock, (1, 1)), ValueError, "layers, replace_stride_with_dilation: must have"),
        (partial(ResNet, BasicBlock, (1, 0, 1, 1)), ValueError, r"ResNet: layers\[1\] must be at least 1, got 0"),
        (partial(BasicBlock, 8, 4, shortcut="A"), ValueError, "shortcut: 'A' can only add channels, got 8"),
        (partial(models.cifar_resnet20, num_classes=0), ValueError, "num_classes"),
        (partial(models.cifar_resnet20, init="torchvision"), ValueError, "init: must be 'paper'"),
    ],
)
def test_refusals(make, error, text):
    with pytest.raises(error, match=text):
        meta(make)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_it_agrees_with_torchvision(name):
    theirs = getattr(torchvision_models(), name)(num_classes=11)
    randomise(theirs)
    compare(getattr(models, name)(num_classes=11), theirs, (2, 3, 64, 72))


@pytest.mark.parity
@pytest.mark.parametrize(
    "name, options",
    [
        ("resnet50", {"groups": 4, "width_per_group": 8}),
        ("resnet50", {"replace_stride_with_dilation": [False, True, True]}),
        ("resnet18", {"norm_layer": "GroupNorm"}),
    ],
)
def test_options_agree_with_torchvision(name, options):
    import torch

    theirs_options, ours_options = dict(options), dict(options)
    if "norm_layer" in options:
        theirs_options["norm_layer"] = lambda channels: torch.nn.GroupNorm(4, channels)
        ours_options["norm_layer"] = lambda channels: nn.GroupNorm(4, channels)
    theirs = getattr(torchvision_models(), name)(num_classes=11, **theirs_options)
    randomise(theirs)
    compare(getattr(models, name)(num_classes=11, **ours_options), theirs, (2, 3, 64, 64))


@pytest.mark.parity
def test_v1_agrees_with_torchvision_where_the_stride_is_moved():
    theirs = torchvision_models().resnet50(num_classes=11)
    for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    randomise(theirs)
    compare(models.resnet50_v1(num_classes=11), theirs, (2, 3, 64, 72))
