"""Pre-activation ResNet for CIFAR-10: He, Zhang, Ren and Sun 2016 ("Identity mappings in deep residual networks").

Deviations: the 20 and 56 layers are sizes of the first paper's (``cifar_resnet``), with this one's units. Up to 110
layers the units have two 3x3 convolutions and shortcut ``"A"``. 164 and 1001 have bottlenecks and shortcut ``"B"``, and
stride in the first 1x1 convolution, as the first author's KaimingHe/resnet-1k-layers has. Weights are drawn with
fan_out, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunet import nn
from gpunet.autograd import Tensor
from gpunet.models._initialise import choose_rules, initialise
from gpunet.models._registry import register_model
from gpunet.models.cifar_resnet import WIDTHS
from gpunet.models.preact_resnet import PreActBlock, PreActBottleneck, check_stem, stage
from gpunet.models.recipes import CIFAR, register_recipe
from gpunet.models.resnet import INIT
from gpunet.nn.arguments import check_int

__all__ = [
    "CifarPreActResNet",
    "cifar_preact_resnet20",
    "cifar_preact_resnet56",
    "cifar_preact_resnet110",
    "cifar_preact_resnet164",
    "cifar_preact_resnet1001",
]

#          output     units of depth 6n + 2    or bottlenecks, depth 9n + 2
# layer1   32x32      n x [3x3, 16] x 2        n x [1x1, 16; 3x3, 16; 1x1, 64]
# layer2   16x16      n x [3x3, 32] x 2        n x [1x1, 32; 3x3, 32; 1x1, 128]
# layer3    8x8       n x [3x3, 64] x 2        n x [1x1, 64; 3x3, 64; 1x1, 256]


class CifarPreActResNet(nn.Module):
    """A pre-activation residual network for small images.

    Args:
        depth: 6n + 2 layers, n units in each of the three stages; 9n + 2 of bottlenecks.
        num_classes: number of scores.
        in_channels: channels of the images; 32x32 in the paper, any size of at least 1x1 works.
        bottleneck: whether units are bottlenecks.
        shortcut: see ``PreActBlock``; ``"A"`` by default, ``"B"`` for bottlenecks.
        stem: see ``PreActResNet``.
        widths: channels of the three stages.
        init: ``"paper"``, the only one.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument of another type.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        *,
        bottleneck: bool = False,
        shortcut: str | None = None,
        stem: str = "activated",
        widths: Sequence[int] = WIDTHS,
        init: str = "paper",
    ) -> None:
        super().__init__()
        rules = choose_rules(init, {"paper": INIT["torchvision"]})
        check_int("CifarPreActResNet", "num_classes", num_classes, 1)
        layers = 9 if bottleneck else 6
        if check_int("CifarPreActResNet", "depth", depth, 1) < layers + 2 or (depth - 2) % layers:
            raise ValueError(f"depth: must be {layers}n + 2 with n of at least 1, got {depth}")
        blocks = (depth - 2) // layers
        block = PreActBottleneck if bottleneck else PreActBlock
        if shortcut is None:
            shortcut = "B" if bottleneck else "A"
        strides = {"stride_in_1x1": True} if bottleneck else {}
        activated = check_stem(stem)
        first, second, third = widths
        with nn.init.skip_draws():
            self.conv1 = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(first) if activated else None
            self.layer1 = stage(block, first, first, blocks, 1, shortcut, activated=activated)
            self.layer2 = stage(block, first * block.expansion, second, blocks, 2, shortcut, **strides)
            self.layer3 = stage(block, second * block.expansion, third, blocks, 2, shortcut, **strides)
            self.bn2 = nn.BatchNorm2d(third * block.expansion)
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(third * block.expansion, num_classes)
        initialise(self, rules)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to scores (N, num_classes)."""
        x = self.conv1(x)
        x = x if self.bn1 is None else self.bn1(x, activation="relu")  # 16, 32x32
        x = self.layer1(x)  # 16 or 64, 32x32
        x = self.layer2(x)  # 32 or 128, 16x16
        x = self.layer3(x)  # 64 or 256, 8x8
        x = self.bn2(x, activation="relu")
        return self.fc(self.avgpool(x).flatten(1))


@register_model(image_size=32)
def cifar_preact_resnet20(num_classes: int = 10, in_channels: int = 3, **kwargs: Any) -> CifarPreActResNet:
    """20 layers, 0.27 M parameters; see ``CifarPreActResNet``."""
    return CifarPreActResNet(20, num_classes, in_channels, **kwargs)


@register_model(image_size=32)
def cifar_preact_resnet56(num_classes: int = 10, in_channels: int = 3, **kwargs: Any) -> CifarPreActResNet:
    """56 layers, 0.85 M parameters; see ``CifarPreActResNet``."""
    return CifarPreActResNet(56, num_classes, in_channels, **kwargs)


@register_model(image_size=32)
def cifar_preact_resnet110(num_classes: int = 10, in_channels: int = 3, **kwargs: Any) -> CifarPreActResNet:
    """110 layers, 1.7 M parameters; see ``CifarPreActResNet``."""
    return CifarPreActResNet(110, num_classes, in_channels, **kwargs)


@register_model(image_size=32)
def cifar_preact_resnet164(num_classes: int = 10, in_channels: int = 3, **kwargs: Any) -> CifarPreActResNet:
    """164 layers, 1.7 M parameters; see ``CifarPreActResNet``."""
    return CifarPreActResNet(164, num_classes, in_channels, bottleneck=True, **kwargs)


@register_model(image_size=32)
def cifar_preact_resnet1001(num_classes: int = 10, in_channels: int = 3, **kwargs: Any) -> CifarPreActResNet:
    """1001 layers, 10.3 M parameters; see ``CifarPreActResNet``."""
    return CifarPreActResNet(1001, num_classes, in_channels, bottleneck=True, **kwargs)


register_recipe(
    "paper",
    CIFAR.replace(
        epochs=182,
        batch_size=128,
        learning_rate=0.1,
        weight_decay=1e-4,
        milestones=(0.5, 0.75),
        warmup_learning_rate=0.01,
        warmup_error=0.8,
        source="He et al. 2016, appendix; the warm-up ends with an error below 80 %, as in their paper of 2015, "
        "instead of after 400 steps",
    ),
    "cifar_preact_resnet20",
    "cifar_preact_resnet56",
    "cifar_preact_resnet110",
    "cifar_preact_resnet164",
    "cifar_preact_resnet1001",
)
