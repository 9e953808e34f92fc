"""GoogLeNet, the paper's and torchvision's: the facts, the blocks, and torchvision's numbers."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import models, nn
from gpunet.models import ConvReLU

from .beside_torchvision import compare, randomise, torchvision_models
from .counting import count, fact, rows, run

IMAGE = (3, 224, 224)
TOTALS = {
    "googlenet": ("googlenet", False),
    "googlenet_aux": ("googlenet", True),
    "googlenet_paper": ("googlenet_paper", False),
    "googlenet_paper_aux": ("googlenet_paper", True),
}
# What torchvision's spell for a row of table 1 is in the facts.
WIDTHS = ("b1x1", "b3x3red", "b3x3", "b5x5red", "b5x5", "pool_proj")


def on_meta(name: str, **options: object) -> nn.Module:
    with gn.device("meta"):
        return models.get_model(name, **options)


@pytest.mark.parametrize("row", TOTALS)
def test_totals(row):
    name, aux = TOTALS[row]
    assert count(on_meta(name, aux_logits=aux), IMAGE, training=aux) == fact(row)


@pytest.mark.parametrize("aux", [False, True])
@pytest.mark.parametrize("name", ["googlenet", "googlenet_paper"])
def test_evaluation_does_not_run_the_auxiliary_heads(name, aux):
    without = fact(name)
    assert count(on_meta(name, aux_logits=aux), IMAGE).macs == without.macs


@pytest.mark.parametrize("name, kind", [("googlenet", "torchvision"), ("googlenet_paper", "paper")])
def test_blocks(name, kind):
    """B81: widths, output channels from 256 to 1024, parameters and multiply-adds of each block."""
    layers = {layer.path: layer for layer in run(on_meta(name), IMAGE)}
    table = rows("inception")
    assert [row["block"] for row in table] == ["3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]
    for row in table:
        layer = layers[f"inception{row['block']}"]
        expected = (int(row["out"]), int(row[f"params_{kind}"]), int(row[f"macs_{kind}"]))
        assert (layer.output[0], layer.params, layer.macs) == expected, layer.path
        widths = [layers[f"{layer.path}.{branch}"].output[0] for branch in ("branch1", "branch2.0", "branch2.1")]
        widths += [layers[f"{layer.path}.{branch}"].output[0] for branch in ("branch3.0", "branch3.1", "branch4.1")]
        assert widths == [int(row[width]) for width in WIDTHS], layer.path


@pytest.mark.parametrize(
    "name, stem, heads",
    [
        ("googlenet", (9_536, 4_224, 110_976), (3_188_968, 3_191_016)),
        ("googlenet_paper", (9_472, 4_160, 110_784), (3_188_840, 3_190_888)),
    ],
)
def test_stem_and_heads(name, stem, heads):
    layers = {layer.path: layer for layer in run(on_meta(name), IMAGE, training=True)}
    assert tuple(layers[path].params for path in ("conv1", "conv2", "conv3")) == stem
    assert tuple(layers[path].params for path in ("aux1", "aux2")) == heads
    assert layers["fc"].params == 1_025_000
    assert layers["aux1.pool"].output == (512, 4, 4)
    assert layers["aux2.pool"].output == (528, 4, 4)
    assert layers["conv1"].macs == 118_013_952
    assert layers["conv2"].macs + layers["conv3"].macs == 359_661_568


@pytest.mark.parametrize("name", ["googlenet", "googlenet_paper"])
def test_sizes_along_the_way(name):
    """B81: the poolings' last windows hang over the edge; otherwise the sizes would be 55, 27, 13 and 6."""
    layers = {layer.path: layer for layer in run(on_meta(name), IMAGE)}
    path = ["conv1", "maxpool1", "conv3", "maxpool2", "inception3b", "maxpool3", "inception4e", "maxpool4"]
    path += ["inception5b", "avgpool"]
    assert [layers[place].output[1:] for place in path] == [
        (side, side) for side in (112, 56, 56, 28, 28, 14, 14, 7, 7, 1)
    ]


def test_22_layers_with_weights():
    """On the longest way, as the paper counts: three convolutions, two in each of nine blocks, one dense layer."""
    net = on_meta("googlenet_paper")
    deepest = sum(isinstance(layer, models.Inception) for layer in net.modules()) * 2
    outside = [net.conv1, net.conv2, net.conv3, net.fc]
    assert deepest + len(outside) == 22


def test_keys_of_the_state():
    expected = []

    def unit(path: str) -> None:
        expected.append(f"{path}.conv.weight")
        normalised = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        expected.extend(f"{path}.bn.{kind}" for kind in normalised)

    for path in ("conv1", "conv2", "conv3"):
        unit(path)
    for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        for branch in ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1"):
            unit(f"inception{block}.{branch}")
    for head in ("aux1", "aux2"):
        unit(f"{head}.conv")
        expected += [f"{head}.{layer}.{kind}" for layer in ("fc1", "fc2") for kind in ("weight", "bias")]
    expected += ["fc.weight", "fc.bias"]
    assert list(on_meta("googlenet").state_dict()) == expected
    assert on_meta("googlenet").conv1.bn.eps == 1e-3


def test_the_block_alone():
    """B81: the branches' outputs side by side, in the paper's order."""
    block = models.Inception(5, 2, 3, 4, 3, 6, 7, conv_block=ConvReLU, size5=5).double()
    x = gn.randn(2, 5, 9, 8, dtype=gn.float64)
    y = block(x).detach().numpy()
    assert block.out_channels == 2 + 4 + 6 + 7
    assert y.shape == (2, 19, 9, 8)

    def conv(unit: ConvReLU, x: gn.Tensor) -> gn.Tensor:
        return F.relu(F.conv2d(x, unit.conv.weight, unit.conv.bias, padding=unit.conv.weight.shape[2] // 2))

    parts = [
        conv(block.branch1, x),
        conv(block.branch2[1], conv(block.branch2[0], x)),
        conv(block.branch3[1], conv(block.branch3[0], x)),
        conv(block.branch4[1], F.max_pool2d(x, 3, 1, 1)),
    ]
    assert block.branch3[1].conv.kernel_size == (5, 5)
    np.testing.assert_allclose(y, np.concatenate([part.detach().numpy() for part in parts], 1), rtol=1e-12, atol=1e-14)
    assert count_of(models.Inception(192, 64, 96, 128, 16, 32, 32)) == 155_872


def count_of(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_reducing_the_channels_first_saves_weights():
    """B82: 3x3 on 128 channels, and on 32 after a 1x1 convolution."""
    with gn.device("meta"):
        plain = nn.Conv2d(128, 128, 3, bias=False)
        reduced = nn.Sequential(nn.Conv2d(128, 32, 1, bias=False), nn.Conv2d(32, 128, 3, bias=False))
    assert count_of(plain) == 147_456
    assert [count_of(layer) for layer in reduced] == [4_096, 36_864]
    assert count_of(reduced) == 40_960


def test_the_paper_s_normalisation_and_pooling():
    net = on_meta("googlenet_paper")
    assert [each.path for each in run(net, IMAGE)][1:10] == [
        "conv1", "conv1.conv", "maxpool1", "norm1", "conv2", "conv2.conv", "conv3", "conv3.conv", "norm2",
    ]  # fmt: skip
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules())
    assert [layer.conv.kernel_size for layer in (net.inception3a.branch3[1], net.inception5b.branch3[1])] == [
        (5, 5)
    ] * 2
    # The heads average windows of 5x5; torchvision's of 4x4 at most give something else.
    x = gn.randn(1, 2, 14, 14)
    ours = net.aux_pool()(x).numpy()
    expected = [
        [x.numpy()[:, :, 3 * i : 3 * i + 5, 3 * j : 3 * j + 5].mean((2, 3)) for j in range(4)] for i in range(4)
    ]
    np.testing.assert_allclose(ours, np.array(expected).transpose(2, 3, 0, 1), rtol=1e-4, atol=1e-6)
    assert np.abs(ours - nn.AdaptiveAvgPool2d(4)(x).numpy()).max() > 0.01


def test_the_loss_counts_each_auxiliary_head_by_0_3():
    random = np.random.default_rng(0)
    logits, aux2, aux1 = (gn.tensor(random.standard_normal((4, 6))) for _ in range(3))
    target = gn.tensor([0, 5, 2, 2])

    def nll(scores: gn.Tensor) -> float:
        z = scores.numpy()
        return float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(4), target.numpy()]))

    outputs = models.GoogLeNetOutputs(logits, aux2, aux1)
    assert models.googlenet_loss(outputs, target).item() == pytest.approx(nll(logits) + 0.3 * (nll(aux1) + nll(aux2)))
    assert models.googlenet_loss(outputs, target, aux_weight=1).item() == pytest.approx(
        nll(logits) + nll(aux1) + nll(aux2)
    )
    assert models.googlenet_loss(logits, target).item() == pytest.approx(nll(logits))
    assert models.googlenet_loss(models.GoogLeNetOutputs(logits, None, None), target).item() == pytest.approx(
        nll(logits)
    )


def test_arguments_shape_the_network():
    net = models.googlenet(num_classes=7, dropout=0.1, dropout_aux=0.6, in_channels=1, width=1 / 16)
    outputs = net(gn.randn(2, 1, 40, 64))
    assert type(outputs) is models.GoogLeNetOutputs
    assert outputs._fields == ("logits", "aux_logits2", "aux_logits1")
    assert [scores.shape for scores in outputs] == [(2, 7)] * 3
    assert (net.dropout.p, net.aux1.dropout.p, net.aux2.dropout.p) == (0.1, 0.6, 0.6)
    assert net.eval()(gn.randn(2, 1, 15, 15)).shape == (2, 7)
    plain = models.googlenet_paper(num_classes=7, aux_logits=False, width=1 / 16)
    assert plain(gn.randn(2, 3, 31, 40)).shape == (2, 7)
    assert plain.dropout.p == 0.4
    assert models.googlenet_paper(width=1 / 64).aux1.dropout.p == 0.7


def test_initial_weights():
    def layers(net: nn.Module) -> list[nn.Module]:
        return [layer for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]

    for layer in layers(models.googlenet(width=1 / 4)):
        weight = layer.weight.detach().numpy()
        assert weight.std() == pytest.approx(0.01, rel=6 / np.sqrt(2 * weight.size))
        assert abs(weight.mean()) < 6 * 0.01 / np.sqrt(weight.size)
        if layer.bias is not None:  # as a layer draws it by itself
            assert 0 < np.abs(layer.bias.detach().numpy()).max() <= 1 / np.sqrt(weight[0].size)
    paper = models.googlenet_paper(width=1 / 4)
    for layer in layers(paper):
        weight = layer.weight.detach().numpy()
        bound = np.sqrt(3 / weight[0].size)
        assert 0.9 * bound < np.abs(weight).max() <= bound
        assert weight.std() == pytest.approx(bound / np.sqrt(3), rel=6 / np.sqrt(2 * weight.size))
        scores = layer in (paper.fc, paper.aux1.fc2, paper.aux2.fc2)
        assert set(layer.bias.detach().numpy()) == {np.float32(0.0 if scores else 0.2)}
    default = models.googlenet(width=1 / 4, init_weights=False).fc.weight.detach().numpy()
    assert default.std() == pytest.approx(1 / np.sqrt(3 * 256), rel=0.02)


@pytest.mark.parametrize(
    "name, side, options",
    [
        ("googlenet", 64, {"dropout": 0.0, "dropout_aux": 0.0}),
        ("googlenet_paper", 223, {"dropout": 0.0, "dropout_aux": 0.0, "width": 1 / 32}),
        ("googlenet_paper", 48, {"dropout": 0.0, "aux_logits": False}),
    ],
    ids=["torchvision", "paper", "paper without heads"],
)
def test_gradients(name, side, options):
    net = models.get_model(name, **{"num_classes": 3, "width": 1 / 16, "init": "paper", **options}).double()
    x = gn.randn(2, 3, side, side, dtype=gn.float64, requires_grad=True)
    assert gn.autograd.gradcheck(net, x, parameters=list(net.parameters()), fast_mode=True)


@pytest.mark.parametrize("name", ["googlenet", "googlenet_paper"])
@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"num_classes": 0}, ValueError, "GoogLeNet: num_classes must be at least 1, got 0"),
        ({"num_classes": None}, TypeError, "GoogLeNet: num_classes must be an integer, got None"),
        ({"dropout": 1.1}, ValueError, "GoogLeNet: dropout must be between 0 and 1, got 1.1"),
        ({"dropout_aux": -1}, ValueError, "GoogLeNet: dropout_aux must be between 0 and 1, got -1"),
        ({"aux_logits": "no"}, TypeError, "GoogLeNet: aux_logits must be True or False, got 'no'"),
        ({"in_channels": 1, "transform_input": True}, ValueError, "GoogLeNet: transform_input is for 3 channels"),
        ({"init": "he"}, ValueError, "init: must be 'torchvision' or 'paper', got 'he'"),
    ],
)
def test_refusals(name, arguments, error, text):
    with pytest.raises(error, match=text):
        models.get_model(name, **arguments)


def test_images_too_small():
    with pytest.raises(gn.ShapeError, match=r"in layer maxpool3 \(MaxPool2d\)"):
        on_meta("googlenet").eval()(gn.empty(1, 3, 14, 14, device="meta"))
    net = on_meta("googlenet_paper")
    text = r"the pooled map must be 4x4, got shape \(1, 512, 3, 3\); in layer aux1 \(InceptionAux\)"
    with pytest.raises(gn.ShapeError, match=text):
        net(gn.empty(1, 3, 222, 222, device="meta"))
    for side in (223, 270):
        assert net(gn.empty(1, 3, side, side, device="meta")).logits.shape == (1, 1000)
    with pytest.raises(gn.ShapeError, match="the pooled map must be 4x4"):
        net(gn.empty(1, 3, 271, 271, device="meta"))


@pytest.mark.parity
@pytest.mark.parametrize("aux, transform", [(True, False), (False, True)])
def test_it_agrees_with_torchvision(aux, transform):
    options = {"num_classes": 10, "aux_logits": aux, "transform_input": transform}
    theirs = torchvision_models().googlenet(init_weights=False, **options)
    randomise(theirs)
    compare(models.googlenet(**options), theirs, (3, 3, 96, 64))
