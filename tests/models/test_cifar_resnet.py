"""CIFAR ResNet: the paper's counts, and the same net written for PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import gpunet as gn
from gpunet import models

from .counting import count, fact, fact_input


@pytest.mark.parametrize("depth, shortcut", [*itertools.product((20, 32, 44, 56, 110), "AB"), (1202, "A")])
def test_totals_b84(depth, shortcut):
    """Row B84: parameters and multiply-adds of CIFAR ResNet-20 to -1202."""
    with gn.device("meta"):
        net = models.get_model(f"cifar_resnet{depth}", shortcut=shortcut)
    name = f"cifar_resnet{depth}_{shortcut}"
    assert count(net, fact_input(name)) == fact(name)


def test_plain_nets_have_the_parameters_of_shortcut_a():
    with gn.device("meta"):
        net, plain = (models.cifar_resnet56(shortcut=shortcut) for shortcut in ("A", "none"))
    assert list(net.state_dict()) == list(plain.state_dict())
    assert count(plain, (3, 32, 32)) == count(net, (3, 32, 32))
    gn.manual_seed(0)
    net, plain = models.cifar_resnet20(), models.cifar_resnet20(shortcut="none")
    plain.load_state_dict(net.state_dict())
    x = gn.randn(2, 3, 8, 8)
    assert (net(x) - plain(x)).abs().max() > 0.1


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_small_grey_images(shortcut):
    net = models.cifar_resnet20(in_channels=1, shortcut=shortcut)
    x = gn.randn(2, 1, 8, 8)
    assert net.layer1(net.conv1(x)).shape == (2, 16, 8, 8)
    assert net(x).shape == (2, 10)
    assert net.eval()(gn.randn(1, 1, 7, 9)).shape == (1, 10)
    assert net(gn.randn(1, 1, 1, 1)).shape == (1, 10)


def test_convolutions_start_from_he_et_al():
    weight = models.cifar_resnet20().layer3[1].conv1.weight.detach().numpy()
    assert weight.std() == pytest.approx(np.sqrt(2 / (64 * 9)), rel=0.02)
    assert abs(weight.mean()) < 1e-3


@pytest.mark.parametrize(
    "options, text",
    [
        ({"depth": 21}, r"depth: must be 6n \+ 2"),
        ({"depth": 2}, "depth"),
        ({"shortcut": "D"}, "shortcut: must be 'A', 'B', 'C' or 'none', got 'D'"),
    ],
)
def test_refusals(options, text):
    with pytest.raises(ValueError, match=text):
        models.CifarResNet(**{"depth": 20, **options})


def torch_net(torch, depth: int, shortcut: str, in_channels: int):
    functional = torch.nn.functional

    class Block(torch.nn.Module):
        def __init__(self, in_planes: int, planes: int, stride: int) -> None:
            super().__init__()
            self.conv1 = torch.nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(planes)
            self.conv2 = torch.nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
            self.bn2 = torch.nn.BatchNorm2d(planes)
            self.stride, self.extra, self.downsample = stride, planes - in_planes, None
            if shortcut == "B" and stride != 1:
                self.downsample = torch.nn.Sequential(
                    torch.nn.Conv2d(in_planes, planes, 1, stride, bias=False), torch.nn.BatchNorm2d(planes)
                )

        def forward(self, x):
            out = functional.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            if self.downsample is not None:
                x = self.downsample(x)
            elif self.stride != 1:
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.extra))
            return functional.relu(out + x)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            n = (depth - 2) // 6
            self.conv1 = torch.nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(16)
            for number, (before, after) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
                blocks = [
                    Block(before if i == 0 else after, after, 2 if i == 0 and number > 1 else 1) for i in range(n)
                ]
                setattr(self, f"layer{number}", torch.nn.Sequential(*blocks))
            self.fc = torch.nn.Linear(64, 10)

        def forward(self, x):
            x = functional.relu(self.bn1(self.conv1(x)))
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.fc(x.mean((2, 3)))

    return Net()


@pytest.mark.parity
@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("shape", [(3, 3, 32, 32), (16, 1, 8, 8)], ids=["32x32", "8x8"])
def test_it_agrees_with_pytorch(shortcut, shape):
    torch = pytest.importorskip("torch")
    theirs = torch_net(torch, 20, shortcut, shape[1]).double()
    ours = models.cifar_resnet20(in_channels=shape[1], shortcut=shortcut).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal(shape), rng.integers(0, 10, shape[0])
    a, b = gn.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    loss = gn.nn.functional.cross_entropy(ours(a), gn.tensor(labels))
    expected = torch.nn.functional.cross_entropy(theirs(b), torch.tensor(labels))
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    pairs = [("input", a.grad, b.grad)]
    pairs += [(name, p.grad, q.grad) for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True)]
    for name, p, q in pairs:
        assert np.abs(p.numpy() - q.numpy()).max() <= 1e-8 * np.abs(q.numpy()).max(), name
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key].numpy(), value.numpy(), rtol=1e-9, atol=1e-12, err_msg=key)
    theirs.eval()
    ours.eval()
    with gn.no_grad():
        scores = ours(gn.tensor(x)).numpy()
    np.testing.assert_allclose(scores, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-8, atol=1e-9)
