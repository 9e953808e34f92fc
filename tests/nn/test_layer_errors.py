"""Errors of shapes inside a network name the layer whose input does not fit."""

from __future__ import annotations

import pytest

import gpunet as gn
from gpunet import nn


class Two(nn.Module):
    """A layer in a list, which is not called itself, and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())])
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: gn.Tensor) -> gn.Tensor:
        return self.pool(self.pool(self.convs[0](x)))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("side, layer", [(2, r"convs.0.0 \(Conv2d\)"), (4, r"pool \(MaxPool2d\)")])
def test_it_is_named_from_the_outermost_module(side, layer, device):
    with gn.device(device):
        net = nn.Sequential(nn.Identity(), Two())
        with pytest.raises(gn.ShapeError, match=rf"more than the padded input has .*; in layer 1.{layer}$"):
            net(gn.ones(1, 1, side, side))
        with pytest.raises(gn.ShapeError, match=rf"; in layer {layer}$"):
            net[1](gn.ones(1, 1, side, side))


def test_with_hooks_too():
    net = nn.Sequential(nn.Linear(3, 2))
    net.register_forward_hook(lambda module, inputs, output: None)
    with pytest.raises(gn.ShapeError, match=r"; in layer 0 \(Linear\)$"):
        net(gn.ones(1, 4))


def test_a_layer_alone_is_not_named():
    with pytest.raises(gn.ShapeError) as raised:
        nn.Linear(3, 2)(gn.ones(1, 4))
    assert "in layer" not in str(raised.value)


def test_a_refusal_in_forward_itself_is_not_blamed_on_a_layer():
    class Refusing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(1, 1)

        def forward(self, x: gn.Tensor) -> gn.Tensor:
            raise gn.ShapeError("images must be square")

    with pytest.raises(gn.ShapeError, match=r"^images must be square$"):
        Refusing()(gn.ones(1, 1))
