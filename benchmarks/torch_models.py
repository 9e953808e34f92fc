"""The peers' side: the same networks in PyTorch, with the same parameter names."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: option A (subsample and pad) or B (projection)."""

    def __init__(self, in_planes: int, planes: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.change = planes - in_planes if stride != 1 or in_planes != planes else 0
        self.stride = stride
        self.downsample: Any = None
        if self.change and shortcut == "B":
            self.downsample = nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            x = self.downsample(x)
        elif self.change:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.change))
        return F.relu(out + x)


def cifar_resnet(depth: int, shortcut: str, in_channels: int = 3, num_classes: int = 10) -> nn.Module:
    """He et al. 2015, section 4.2. Built in the order in which gpunet's parameters come."""
    n = (depth - 2) // 6
    layers: list[nn.Module] = [nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    planes = 16
    for stage, width in enumerate((16, 32, 64)):
        for block in range(n):
            layers.append(BasicBlock(planes, width, 2 if stage and not block else 1, shortcut))
            planes = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))


def lenet() -> nn.Module:
    """LeNet as the tutorials write it, for (N, 3, 32, 32)."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


class PreActBlock(nn.Module):
    """A unit of He et al. 2016 with shortcut A; ``activated`` says that its input is normalised and rectified."""

    def __init__(self, in_planes: int, planes: int, stride: int, activated: bool) -> None:
        super().__init__()
        if not activated:
            self.bn1 = nn.BatchNorm2d(in_planes)
        self.activated = activated
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.change, self.stride = planes - in_planes, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = x if self.activated else F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(before))))
        if self.change:
            x = F.pad(before[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.change))
        return out + x


def cifar_preact_resnet(depth: int, in_channels: int = 3, num_classes: int = 10) -> nn.Module:
    """He et al. 2016 for CIFAR-10. Built in the order in which gpunet's parameters come."""
    layers: list[nn.Module] = [nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    planes = 16
    for stage, width in enumerate((16, 32, 64)):
        for block in range((depth - 2) // 6):
            layers.append(PreActBlock(planes, width, 2 if stage and not block else 1, not stage and not block))
            planes = width
    last = [nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes)]
    return nn.Sequential(*layers, *last)


def nin_cifar10() -> nn.Module:
    """Network in Network as released for CIFAR-10."""
    layers: list[nn.Module] = []
    channels = 3
    for size, widths, pool in (
        (5, (192, 160, 96), nn.MaxPool2d),
        (5, (192,) * 3, nn.AvgPool2d),
        (3, (192, 192, 10), None),
    ):
        for kernel, width in zip((size, 1, 1), widths, strict=True):
            layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.ReLU()]
            channels = width
        if pool is not None:
            layers += [pool(3, 2, ceil_mode=True), nn.Dropout()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
