"""Receptive fields: the published ones, and those that gradients show in small networks of every kind of layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.inspect import receptive_field

# From the reference's golden figures: what one value of a layer sees, in pixels.
ALEXNET_2012 = {
    "conv1": 11, "pool1": 19, "conv2": 51, "pool2": 67, "conv3": 99, "conv4": 131, "conv5": 163, "pool5": 195,
}  # fmt: skip
VGG16 = {"features.28": 196, "features.30": 212, "classifier.0": 404}
RESNETS = {
    "resnet18": 435, "resnet34": 899, "resnet50": 427, "resnet50_v1": 483, "resnet101": 971, "resnet101_v1": 1027,
    "resnet152": 1451, "resnet152_v1": 1507,
}  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3])
def test_stacks_of_3x3(count: int) -> None:
    """B19: 3x3, 5x5, 7x7; each convolution adds two pixels, not its own three."""
    stack = nn.Sequential(*(nn.Conv2d(1, 1, 3) for _ in range(count)))
    field = receptive_field(stack, (1, 9, 9))[f"{count - 1}"]
    assert field.size == (1 + 2 * count, 1 + 2 * count)
    assert (field.jump, field.start) == ((1, 1), (0, 0))


def test_alexnet() -> None:
    fields = receptive_field("alexnet2012_grouped")
    assert {name: fields[name].size for name in ALEXNET_2012} == {name: (s, s) for name, s in ALEXNET_2012.items()}
    assert [fields[f"conv{n}"].jump for n in range(1, 6)] == [(4, 4), (8, 8), (16, 16), (16, 16), (16, 16)]
    towers = receptive_field("alexnet2012")
    assert {towers[f"tower{n}.{name}"] for n in (0, 1) for name in ["conv5"]} == {fields["conv5"]}


def test_vgg16() -> None:
    fields = receptive_field("vgg16")
    assert {name: fields[name].size for name in VGG16} == {name: (size, size) for name, size in VGG16.items()}


@pytest.mark.parametrize("name", RESNETS)
def test_resnets(name: str) -> None:
    """Through the branches of the blocks, version 1 and 1.5."""
    field = receptive_field(name, (3, 64, 64))["layer4"]
    assert field.size == (RESNETS[name],) * 2
    assert field.jump == (32, 32)


class Branches(nn.Module):
    """Two ways, joined."""

    def __init__(self, first: nn.Module, second: nn.Module, join: Callable[..., Any]) -> None:
        super().__init__()
        self.first, self.second, self.join = first, second, join

    def forward(self, x: gn.Tensor) -> gn.Tensor:
        return self.join(self.first(x), self.second(x))


class Function(nn.Module):
    def __init__(self, call: Callable[[gn.Tensor], gn.Tensor]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: gn.Tensor) -> gn.Tensor:
        return self.call(x)


def in_place(a: gn.Tensor, b: gn.Tensor) -> gn.Tensor:
    a = a * 1
    a += b
    return a


CONV = nn.Conv2d(1, 1, (3, 2), stride=(2, 1), padding=(1, 0))
# Inputs are 1x24x20. Weights are made positive, so that no gradient cancels.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv2d(1, 2, (3, 4), stride=(2, 3), padding=(1, 2), dilation=(2, 1)),
    "groups": lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 5, groups=4)),
    "same padding": lambda: nn.Conv2d(1, 1, 4, padding="same"),
    "average pooling": lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(2)),
    "ceil mode": lambda: nn.AvgPool2d(3, 2, ceil_mode=True),
    "adaptive": lambda: nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.AdaptiveAvgPool2d((6, 5))),
    "global": lambda: nn.Sequential(nn.Conv2d(1, 1, 3, stride=2), nn.AdaptiveAvgPool2d(1)),
    "transposed": lambda: nn.Sequential(nn.Conv2d(1, 1, 3, stride=2), nn.ConvTranspose2d(1, 1, 2, stride=2)),
    "transposed, wide": lambda: nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1),
    "nearest": lambda: nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 1, 3), nn.Upsample(scale_factor=1)),
    "sum": lambda: Branches(nn.Conv2d(1, 1, 5, padding=2), nn.Identity(), lambda a, b: a + b),
    "uneven sum": lambda: Branches(nn.Conv2d(1, 1, 4, padding="same"), nn.ZeroPad2d(0), lambda a, b: a + b),
    "sum in place": lambda: Branches(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 5, padding=2), in_place),
    "concatenation": lambda: Branches(
        nn.Conv2d(1, 2, 3, padding=1, stride=2), nn.AvgPool2d(5, 2, 2), lambda a, b: gn.cat([a, b], 1)
    ),
    "cropped skip": lambda: Branches(nn.Conv2d(1, 1, 5), nn.Identity(), lambda a, b: a + b[:, :, 2:-2, 2:-2]),
    "strided skip": lambda: Branches(
        nn.Conv2d(1, 1, 3, 2, 1), nn.Identity(), lambda a, b: a + F.pad(b[:, :, ::2, ::2], (0, 0, 0, 0))
    ),
    "padding": lambda: nn.Sequential(nn.ZeroPad2d((1, 2, 3, 4)), nn.Conv2d(1, 1, 3)),
    "permuted": lambda: nn.Sequential(CONV, Function(lambda x: x.permute(0, 1, 3, 2).permute(0, 1, 3, 2))),
    "split": lambda: Function(lambda x: nn.functional.avg_pool2d(gn.cat([x, x], 1), 3).split(1, dim=1)[1]),
    "squeezed": lambda: nn.Sequential(CONV, Function(lambda x: x.squeeze(1).unsqueeze(1))),
    "unshuffled": lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 1, 3)),
    "shuffled": lambda: nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.PixelShuffle(2)),
}

# Where several outputs share a pixel, or regions differ in size, fields are not quite evenly spaced.
UNEVEN = ("adaptive", "transposed", "transposed, wide", "shuffled")


@pytest.mark.parametrize("label", NETWORKS)
def test_fields_are_where_gradients_are(label: str) -> None:
    model = NETWORKS[label]().double()
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    field = receptive_field(model, (1, 24, 20))[""]
    x = gn.ones(1, 1, 24, 20, dtype=gn.float64, requires_grad=True)
    y = model(x)
    height, width = y.shape[2:]
    inside = 0
    for row, column in {(0, 0), (height // 2, width // 2), (height - 1, width - 1), (height // 2 - 1, width // 3)}:
        if row < 0:
            continue
        (gradient,) = gn.autograd.grad([y[0, :, row, column].sum()], [x], retain_graph=True)
        seen = np.argwhere(gradient.numpy()[0, 0])
        for axis, (place, extent) in enumerate(((row, 24), (column, 20))):
            low = field.start[axis] + place * field.jump[axis]
            high = low + field.size[axis] - 1
            if low < 0 or high >= extent:
                assert label in UNEVEN or not len(seen) or low <= seen[:, axis].min() <= seen[:, axis].max() <= high
                continue
            inside += 1
            first, last = int(seen[:, axis].min()), int(seen[:, axis].max())
            if label in UNEVEN:
                assert abs(first - low) <= 1, axis
                assert abs(last - high) <= 1, axis
            else:
                assert (first, last) == (low, high), axis
    assert inside or label == "global"


def test_the_start_and_the_center() -> None:
    """Araujo, Norris and Sim 2019, section 3: the padding moves the first field out of the image."""
    fields = receptive_field(nn.Sequential(nn.Conv2d(1, 1, 7, 2, 3), nn.MaxPool2d(3, 2, 1)), (1, 32, 32))
    assert fields["0"] == ((7, 7), (2, 2), (-3, -3))
    assert fields["0"].center == (0.0, 0.0)
    assert fields["1"] == ((11, 11), (4, 4), (-5, -5))


def test_other_dimensions() -> None:
    field = receptive_field(nn.Sequential(nn.Conv1d(2, 3, 5, dilation=3), nn.MaxPool1d(2)), (2, 40))["1"]
    assert field == ((14,), (2,), (0,))
    field = receptive_field(nn.Conv3d(1, 1, (1, 3, 5)), (1, 8, 8, 8))[""]
    assert field.size == (1, 3, 5)


def test_a_gate_sees_the_whole_image() -> None:
    """Squeeze and excitation: each pixel is multiplied by what all pixels say."""
    model = Branches(nn.Identity(), nn.AdaptiveAvgPool2d(1), lambda a, b: a * b)
    assert receptive_field(model, (3, 8, 8))[""].size == (8, 8)
    assert receptive_field(nn.Softmax(-1), (3, 8, 8))[""].size[0] == 1


def test_what_has_no_field() -> None:
    fields = receptive_field(
        Branches(nn.Identity(), nn.Upsample(scale_factor=2), lambda a, b: a + b[:, :, :8, :8]), (1, 8, 8)
    )
    assert "second" in fields
    assert "" not in fields  # the two do not lie on one grid
    assert receptive_field(nn.Linear(3, 4), (3,)) == {}


@pytest.mark.parametrize(
    "model",
    [
        nn.LSTM(8, 4, 2, batch_first=True),
        nn.Sequential(nn.GRUCell(8, 4)),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1),
        nn.Sequential(nn.Linear(8, 4), nn.ReLU()),
    ],
    ids=["recurrent", "cell", "attention", "linear"],
)
def test_sequences_of_features_have_none(model: nn.Module) -> None:
    """Their last dimension is no position; that of a convolved sequence is."""
    size = (8,) if isinstance(model[0] if isinstance(model, nn.Sequential) else model, nn.GRUCell) else (7, 8)
    assert receptive_field(model, size) == {}
    text = str(gn.inspect.summary(model, size))
    assert "field" not in text
    assert "jump" not in text
    assert receptive_field(nn.Sequential(nn.Conv1d(7, 2, 3), nn.Linear(6, 1)), (7, 8))["1"].size == (8,)
