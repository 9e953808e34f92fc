"""ResNet for CIFAR-10: He, Zhang, Ren and Sun 2015 ("Deep residual learning for image recognition"), section 4.2.

Deviations: none for shortcut ``"A"``, the paper's. Shortcut ``"B"`` projects where the shape changes, as the paper's
ImageNet nets do. The zero channels of shortcut A are appended after the others, and weights are drawn with fan_out, as
in the authors' reimplementation fb.resnet.torch; the paper leaves both open.
"""

from __future__ import annotations

import gpunet.nn.functional as F
from gpunet import nn
from gpunet.autograd import Tensor
from gpunet.models._registry import register_model

__all__ = [
    "CifarResNet",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
]

# The paper's table: depth 6n + 2, with one 3x3 convolution before the stages and one linear layer after them.
#          output     layers   filters
# layer1   32x32      2n       16
# layer2   16x16      2n       32
# layer3    8x8       2n       64
WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """y = relu(F(x) + shortcut(x)), F being two 3x3 convolutions (figure 2 of the paper).

    Args:
        in_channels: channels of x.
        channels: channels of y.
        stride: of the first convolution; 2 halves the image.
        shortcut: ``"A"`` or ``"B"``; what stands in for the identity where x and y differ in shape.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - in_channels
        self.downsample: nn.Sequential | None = None
        if shortcut == "B" and (stride != 1 or self.new_channels):
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def shortcut(self, x: Tensor) -> Tensor:
        """x in the shape of y."""
        if self.downsample is not None:
            return self.downsample(x)
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.new_channels)) if self.new_channels else x

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        out = self.bn1(self.conv1(x), activation="relu")
        return self.bn2(self.conv2(out), residual=self.shortcut(x), activation="relu")


class CifarResNet(nn.Module):
    """A residual network for small images.

    Args:
        depth: 6n + 2 layers, n blocks in each of the three stages.
        num_classes: number of scores.
        in_channels: channels of the images; 32x32 in the paper, any size of at least 1x1 works.
        shortcut: ``"A"``, no parameters: every second pixel and channels of zeros; or ``"B"``: a 1x1 convolution.

    Raises:
        ValueError: another depth or shortcut.
    """

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth: must be 6n + 2 with n of at least 1, got {depth}")
        if shortcut not in ("A", "B"):
            raise ValueError(f"shortcut: must be 'A' or 'B', got {shortcut!r}")
        blocks = (depth - 2) // 6
        first, *_, last = WIDTHS
        self.conv1 = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = _stage(first, WIDTHS[0], blocks, 1, shortcut)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks, 2, shortcut)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks, 2, shortcut)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(last, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to scores (N, num_classes)."""
        x = self.bn1(self.conv1(x), activation="relu")  # 16, 32x32
        x = self.layer1(x)  # 16, 32x32
        x = self.layer2(x)  # 32, 16x16
        x = self.layer3(x)  # 64, 8x8
        return self.fc(self.avgpool(x).flatten(1))


def _stage(in_channels: int, channels: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    layers = [BasicBlock(in_channels, channels, stride, shortcut)]
    layers += [BasicBlock(channels, channels, 1, shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(*layers)


@register_model
def cifar_resnet20(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> CifarResNet:
    """20 layers, 0.27 M parameters; see ``CifarResNet``."""
    return CifarResNet(20, num_classes, in_channels, shortcut)


@register_model
def cifar_resnet32(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> CifarResNet:
    """32 layers, 0.46 M parameters; see ``CifarResNet``."""
    return CifarResNet(32, num_classes, in_channels, shortcut)


@register_model
def cifar_resnet44(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> CifarResNet:
    """44 layers, 0.66 M parameters; see ``CifarResNet``."""
    return CifarResNet(44, num_classes, in_channels, shortcut)


@register_model
def cifar_resnet56(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> CifarResNet:
    """56 layers, 0.85 M parameters; see ``CifarResNet``."""
    return CifarResNet(56, num_classes, in_channels, shortcut)


@register_model
def cifar_resnet110(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> CifarResNet:
    """110 layers, 1.7 M parameters; see ``CifarResNet``."""
    return CifarResNet(110, num_classes, in_channels, shortcut)
