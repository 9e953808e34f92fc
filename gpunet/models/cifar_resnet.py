"""ResNet for CIFAR-10: He, Zhang, Ren and Sun 2015 ("Deep residual learning for image recognition"), section 4.2.

Deviations: none for shortcut ``"A"``, the paper's. Shortcuts ``"B"`` and ``"C"`` project, as the paper's ImageNet nets
do, and ``"none"`` is the paper's plain net. The zero channels of shortcut A are appended after the others, and weights
are drawn with fan_out, as in the authors' reimplementation fb.resnet.torch; the paper leaves both open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunet import nn
from gpunet.autograd import Tensor
from gpunet.models._initialise import choose_rules, initialise
from gpunet.models._registry import register_model
from gpunet.models._residual import check_shortcut, normalise
from gpunet.models.recipes import CIFAR, register_recipe
from gpunet.models.resnet import INIT, BasicBlock
from gpunet.nn.arguments import check_int

__all__ = [
    "CifarResNet",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
    "cifar_resnet1202",
]

# The paper's table: depth 6n + 2, with one 3x3 convolution before the stages and one linear layer after them.
#          output     layers   filters
# layer1   32x32      2n       16
# layer2   16x16      2n       32
# layer3    8x8       2n       64
WIDTHS = (16, 32, 64)


class CifarResNet(nn.Module):
    """A residual network for small images.

    Args:
        depth: 6n + 2 layers, n blocks in each of the three stages.
        num_classes: number of scores.
        in_channels: channels of the images; 32x32 in the paper, any size of at least 1x1 works.
        shortcut: ``"A"``, no parameters: every second pixel and channels of zeros; ``"B"``: a 1x1 convolution where the
            shape changes; ``"C"``: beside every block; ``"none"``: a plain net.
        widths: channels of the three stages.
        init: ``"paper"``, the only one.

    Raises:
        ValueError: another depth, shortcut or initialisation, or fewer than one class.
        TypeError: a number that is no integer.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: str = "A",
        *,
        widths: Sequence[int] = WIDTHS,
        init: str = "paper",
    ) -> None:
        super().__init__()
        rules = choose_rules(init, {"paper": INIT["torchvision"]})
        check_int("CifarResNet", "num_classes", num_classes, 1)
        if check_int("CifarResNet", "depth", depth, 1) < 8 or (depth - 2) % 6:
            raise ValueError(f"depth: must be 6n + 2 with n of at least 1, got {depth}")
        check_shortcut(shortcut)
        first, second, third = widths
        with nn.init.skip_draws():
            self.conv1 = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(first)
            self.layer1 = _stage(depth, first, first, 1, shortcut)
            self.layer2 = _stage(depth, first, second, 2, shortcut)
            self.layer3 = _stage(depth, second, third, 2, shortcut)
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(third, num_classes)
        initialise(self, rules)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to scores (N, num_classes)."""
        x = normalise(self.bn1, self.conv1(x))  # 16, 32x32
        x = self.layer1(x)  # 16, 32x32
        x = self.layer2(x)  # 32, 16x16
        x = self.layer3(x)  # 64, 8x8
        return self.fc(self.avgpool(x).flatten(1))


def _stage(depth: int, in_channels: int, channels: int, stride: int, shortcut: str) -> nn.Sequential:
    blocks = [BasicBlock(in_channels, channels, stride, shortcut=shortcut)]
    blocks += [BasicBlock(channels, channels, shortcut=shortcut) for _ in range((depth - 2) // 6 - 1)]
    return nn.Sequential(*blocks)


@register_model(image_size=32)
def cifar_resnet20(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A", **kwargs: Any) -> CifarResNet:
    """20 layers, 0.27 M parameters; see ``CifarResNet``."""
    return CifarResNet(20, num_classes, in_channels, shortcut, **kwargs)


@register_model(image_size=32)
def cifar_resnet32(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A", **kwargs: Any) -> CifarResNet:
    """32 layers, 0.46 M parameters; see ``CifarResNet``."""
    return CifarResNet(32, num_classes, in_channels, shortcut, **kwargs)


@register_model(image_size=32)
def cifar_resnet44(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A", **kwargs: Any) -> CifarResNet:
    """44 layers, 0.66 M parameters; see ``CifarResNet``."""
    return CifarResNet(44, num_classes, in_channels, shortcut, **kwargs)


@register_model(image_size=32)
def cifar_resnet56(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A", **kwargs: Any) -> CifarResNet:
    """56 layers, 0.85 M parameters; see ``CifarResNet``."""
    return CifarResNet(56, num_classes, in_channels, shortcut, **kwargs)


@register_model(image_size=32)
def cifar_resnet110(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A", **kwargs: Any) -> CifarResNet:
    """110 layers, 1.7 M parameters; see ``CifarResNet``."""
    return CifarResNet(110, num_classes, in_channels, shortcut, **kwargs)


@register_model(image_size=32)
def cifar_resnet1202(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A", **kwargs: Any) -> CifarResNet:
    """1202 layers, 19.4 M parameters; see ``CifarResNet``."""
    return CifarResNet(1202, num_classes, in_channels, shortcut, **kwargs)


# Section 4.2: 64,000 steps of 128 of the 45,000 training images are 182 epochs; a tenth from 32,000 and 48,000 on.
_PAPER = CIFAR.replace(
    epochs=182,
    batch_size=128,
    learning_rate=0.1,
    weight_decay=1e-4,
    milestones=(0.5, 0.75),
    source="He et al. 2015, section 4.2",
)
register_recipe("paper", _PAPER, "cifar_resnet20", "cifar_resnet32", "cifar_resnet44", "cifar_resnet56")
# The deepest does not begin to learn at 0.1.
register_recipe(
    "paper", _PAPER.replace(warmup_learning_rate=0.01, warmup_error=0.8), "cifar_resnet110", "cifar_resnet1202"
)
