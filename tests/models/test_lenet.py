"""LeNet."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet as gn
from gpunet import models


@pytest.mark.parametrize("size, features", [(32, 400), (28, 400), (16, 64), (8, 64), (4, 16), (64, 2704)])
def test_shapes_and_counts(size, features):
    net = models.lenet(input_size=size)
    assert net.fc1.in_features == features
    assert net(gn.zeros(2, 1, size, size)).shape == (2, 10)
    convolutions = (25 * 1 + 1) * 6 + (25 * 6 + 1) * 16
    linear = (features + 1) * 120 + (120 + 1) * 84 + (84 + 1) * 10
    assert sum(p.numel() for p in net.parameters()) == convolutions + linear


def test_the_papers_size_has_the_textbooks_count():
    assert sum(p.numel() for p in models.lenet().parameters()) == 61706


def test_too_small_images_are_refused():
    with pytest.raises(ValueError, match="input_size: must be at least 4, got 3"):
        models.lenet(input_size=3)


@pytest.mark.parity
def test_it_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    from torch.nn import functional as TF

    class LeNet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = torch.nn.Conv2d(3, 6, 5)
            self.conv2 = torch.nn.Conv2d(6, 16, 5)
            self.fc1 = torch.nn.Linear(16 * 5 * 5, 120)
            self.fc2 = torch.nn.Linear(120, 84)
            self.fc3 = torch.nn.Linear(84, 10)

        def forward(self, x):
            x = TF.max_pool2d(TF.relu(self.conv1(x)), 2)
            x = TF.max_pool2d(TF.relu(self.conv2(x)), 2)
            x = torch.flatten(x, 1)
            return self.fc3(TF.relu(self.fc2(TF.relu(self.fc1(x)))))

    theirs, ours = LeNet(), models.lenet(in_channels=3)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    labels = np.array([0, 9, 3, 3])
    a = gn.nn.functional.cross_entropy(ours(gn.tensor(x)), gn.tensor(labels))
    b = TF.cross_entropy(theirs(torch.tensor(x)), torch.tensor(labels))
    a.backward()
    b.backward()
    assert a.item() == pytest.approx(b.item(), rel=1e-5)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        difference = np.abs(p.grad.numpy() - q.grad.numpy()).max()
        assert difference <= 1e-4 * np.abs(q.grad.numpy()).max(), name
