"""Sequential and ModuleList."""

from __future__ import annotations

from collections import OrderedDict

import pytest

import gpunet as gn
from gpunet import nn


def names(net: nn.Module) -> list[str]:
    return [name for name, _ in net.named_children()]


def test_sequential_is_a_list_that_computes():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(net) == 3
    assert isinstance(net[1], nn.ReLU)
    assert net[-1] is net[2]
    assert [type(module).__name__ for module in net] == ["Linear", "ReLU", "Linear"]
    head = net[:2]
    assert isinstance(head, nn.Sequential)
    assert head[0] is net[0]
    x = gn.randn(4, 2)
    assert net(x).tolist() == net[2](head(x)).tolist()
    assert nn.Sequential()(x) is x


def test_sequential_editing():
    net = nn.Sequential(nn.ReLU())
    assert net.append(nn.Identity()) is net
    net.extend([nn.Flatten(), nn.Softmax(1)])
    net.insert(0, nn.Linear(1, 1))
    assert names(net) == ["0", "1", "2", "3", "4"]
    assert [type(m).__name__ for m in net] == ["Linear", "ReLU", "Identity", "Flatten", "Softmax"]
    net.insert(-1, nn.Dropout())
    assert isinstance(net[4], nn.Dropout)
    del net[0]
    assert names(net) == ["0", "1", "2", "3", "4"]
    assert isinstance(net.pop(-1), nn.Softmax)
    del net[1:3]
    assert [type(m).__name__ for m in net] == ["ReLU", "Dropout"]
    net[0] = nn.Identity()
    assert isinstance(net[0], nn.Identity)
    assert len(net + nn.Sequential(nn.ReLU())) == 3


def test_sequential_with_names():
    net = nn.Sequential(OrderedDict([("fc", nn.Linear(2, 2)), ("relu", nn.ReLU())]))
    assert names(net) == ["fc", "relu"]
    assert net.fc is net[0]
    assert list(net.state_dict()) == ["fc.weight", "fc.bias"]
    assert names(net[1:]) == ["relu"]
    del net[0]
    assert names(net) == ["relu"]


def test_a_slice_of_a_subclass_is_of_the_subclass():
    class Block(nn.Sequential):
        pass

    assert type(Block(nn.ReLU(), nn.ReLU())[:1]) is Block


def test_module_list():
    layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    layers += [nn.ReLU()]
    layers.insert(0, nn.Identity())
    layers.append(nn.ReLU()).extend([nn.ReLU()])
    assert len(layers) == 7
    assert names(layers) == [str(i) for i in range(7)]
    assert len(list(layers.parameters())) == 6
    assert type(layers[1:3]) is nn.ModuleList
    assert isinstance(layers.pop(0), nn.Identity)
    assert len(layers + nn.ModuleList([nn.ReLU()])) == 7
    with pytest.raises(NotImplementedError, match="ModuleList: holds modules but computes nothing"):
        layers(gn.zeros(1))


@pytest.mark.parity
def test_text_is_pytorchs():
    torch = pytest.importorskip("torch")

    def make(m):
        return m.ModuleList(
            [m.Linear(1, 2), m.Linear(1, 2), m.ReLU(), m.Sequential(m.ReLU(), m.Dropout()), m.Sequential(m.ReLU())]
        )

    assert repr(make(nn)) == repr(make(torch.nn))
    assert repr(nn.ModuleList()) == repr(torch.nn.ModuleList())


@pytest.mark.parametrize(
    "call, kind, text",
    [
        (lambda: nn.Sequential(nn.ReLU(), 3), TypeError, "Sequential: holds Modules, got int"),
        (lambda: nn.Sequential(OrderedDict(a=3)), TypeError, "Sequential: holds Modules, got int"),
        (lambda: nn.Sequential(nn.ReLU())[1], IndexError, "Sequential: index 1 is out of range for 1 modules"),
        (lambda: nn.Sequential(nn.ReLU())["0"], TypeError, "Sequential: index must be an integer or a slice, got str"),
        (lambda: nn.Sequential().insert(1, nn.ReLU()), IndexError, "Sequential: index 1 is out of range for 0 modules"),
        (lambda: nn.ModuleList([3]), TypeError, "ModuleList: holds Modules, got int"),
        (lambda: nn.ModuleList().extend(nn.ReLU()), TypeError, "takes several Modules, got one ReLU"),
    ],
)
def test_refusals(call, kind, text):
    with pytest.raises(kind, match=text):
        call()
