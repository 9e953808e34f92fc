"""LeNet on the bundled handwritten digits, written as one would for PyTorch.

    python examples/lenet_digits.py [--epochs 30]

Ends with the test accuracy, and with status 1 if it is below 95 %.
"""

from __future__ import annotations

import argparse
import sys

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.utils.data import DataLoader


class LeNet(nn.Module):
    """Two convolutions and two linear layers for 1x8x8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 2 * 2, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: gn.Tensor) -> gn.Tensor:
        """(N, 1, 8, 8) to scores (N, 10)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)  # 16, 4x4
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # 32, 2x2
        x = x.view(x.size(0), -1)
        return self.fc2(F.relu(self.fc1(x)))


def main() -> int:
    """Train, test, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    epochs = parser.parse_args().epochs

    gn.manual_seed(0)
    device = gn.device("auto")
    train = DataLoader(gn.data.Digits(train=True), batch_size=32, shuffle=True)
    test = DataLoader(gn.data.Digits(train=False), batch_size=360)
    model = LeNet().to(device)
    optimizer = gn.optim.Adam(model.parameters(), lr=5e-3)

    for epoch in range(epochs):
        total = 0.0
        for images, labels in train:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / len(train):.4f}")

    model.eval()
    with gn.no_grad():
        images, labels = next(iter(test))
        accuracy = (model(images.to(device)).argmax(1) == labels.to(device)).float().mean().item()
    print(f"test accuracy {accuracy:.4f}")
    return 0 if accuracy >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
