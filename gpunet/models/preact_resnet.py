"""Pre-activation ResNet: He, Zhang, Ren and Sun 2016 ("Identity mappings in deep residual networks"), figure 1(b).

Deviations: none for ``stem="activated"``, in which the first activation comes before the first unit splits into two
paths, as the paper's appendix and the authors' fb.resnet.torch have it. ``stem="conv"`` leaves it to the first unit, as
several later implementations do. The paper's appendix has projections take the activated input; a shortcut of zeros
(``"A"``) takes it as well, as in fb.resnet.torch. Weights are drawn as in ``resnet``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from gpunet import nn
from gpunet.autograd import Tensor
from gpunet.models._initialise import choose_rules, initialise
from gpunet.models._registry import register_model
from gpunet.models._residual import make_shortcut
from gpunet.models.recipes import IMAGENET, register_recipe
from gpunet.models.resnet import BLOCKS as RESNET_BLOCKS
from gpunet.models.resnet import INIT
from gpunet.nn.arguments import check_int

__all__ = [
    "PreActBlock",
    "PreActBottleneck",
    "PreActResNet",
    "preact_resnet18",
    "preact_resnet34",
    "preact_resnet50",
    "preact_resnet101",
    "preact_resnet152",
    "preact_resnet200",
]

# Blocks in each stage: those of ResNet, and the 200 layers of the paper's table 5.
BLOCKS = {**RESNET_BLOCKS, 200: (3, 24, 36, 3)}

POSITIONS = ("pre", "post", "after_add")
STEMS = ("activated", "conv")


class _Unit(nn.Module):
    """Convolutions bn1, conv1, bn2, conv2 and so on, and a shortcut around them.

    Args:
        layers: input channels, output channels, kernel size and stride of each convolution.
        shortcut, position, activated: see ``PreActBlock``.
    """

    bn1: nn.BatchNorm2d | None
    conv1: nn.Conv2d

    def __init__(
        self, layers: Sequence[tuple[int, int, int, int]], shortcut: str, position: str, activated: bool
    ) -> None:
        super().__init__()
        if position not in POSITIONS:
            raise ValueError(f"position: must be 'pre', 'post' or 'after_add', got {position!r}")
        if activated and position != "pre":
            raise ValueError(f"activated: position must be 'pre', got {position!r}")
        pre = position == "pre"
        for number, (inputs, outputs, kernel, stride) in enumerate(layers, 1):
            norm = None if activated and number == 1 else nn.BatchNorm2d(inputs if pre else outputs)
            conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
            pair = [(f"bn{number}", norm), (f"conv{number}", conv)]
            for name, module in pair if pre else reversed(pair):
                setattr(self, name, module)
        self.position = position
        self.depth = len(layers)
        self.plain = shortcut == "none"
        stride = max(stride for *_, stride in layers)
        # A sum that is normalised or is not to be touched takes a bare projection.
        after = nn.BatchNorm2d if position == "post" else None
        self.downsample = make_shortcut(shortcut, layers[0][0], layers[-1][1], stride, after)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        return self._pre(x) if self.position == "pre" else self._post(x)

    def _pre(self, x: Tensor) -> Tensor:
        out = x if self.bn1 is None else self.bn1(x, activation="relu")
        if self.downsample is not None:
            x = self.downsample(out)
        out = self.conv1(out)
        for number in range(2, self.depth + 1):
            out = getattr(self, f"conv{number}")(getattr(self, f"bn{number}")(out, activation="relu"))
        return out if self.plain else out + x

    def _post(self, x: Tensor) -> Tensor:
        out = x
        for number in range(1, self.depth):
            out = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(out), activation="relu")
        out = getattr(self, f"conv{self.depth}")(out)
        last = getattr(self, f"bn{self.depth}")
        if self.plain:
            return last(out, activation="relu")
        x = x if self.downsample is None else self.downsample(x)
        if self.position == "after_add":
            return last(out + x, activation="relu")
        return last(out, residual=x, activation="relu")


class PreActBlock(_Unit):
    """Two 3x3 convolutions and a shortcut, with BatchNorm in one of three places.

    Args:
        in_channels: channels of the input x.
        channels: channels inside and of the output.
        stride: of the first convolution; 2 halves the image.
        shortcut: ``"A"``, zeros where the shape changes; ``"B"``, a 1x1 convolution where it changes; ``"C"``, always
            one; ``"none"``, nothing is added.
        position: of BatchNorm (figure 4 of the paper). ``"pre"``: BN, ReLU and convolution twice, then x is added;
            shortcuts that are no identity take relu(BN(x)). ``"post"``: convolution and BN twice, ReLU between and
            after the addition, as in ResNet. ``"after_add"``: as ``"post"``, with the second BN after the addition.
        activated: x is activated already: leave out the first BN and ReLU. Only for ``"pre"``.

    Raises:
        ValueError: another shortcut or position.
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        shortcut: str = "B",
        position: str = "pre",
        activated: bool = False,
    ) -> None:
        layers = ((in_channels, channels, 3, stride), (channels, channels, 3, 1))
        super().__init__(layers, shortcut, position, activated)


class PreActBottleneck(_Unit):
    """1x1, 3x3 and 1x1 convolutions and a shortcut, with BatchNorm in one of three places.

    Args:
        in_channels: channels of the input.
        channels: channels inside, and a quarter of the output's.
        stride: 2 halves the image.
        shortcut, position, activated: see ``PreActBlock``.
        stride_in_1x1: where the stride is: in the first 1x1 convolution, or in the 3x3.

    Raises:
        ValueError: another shortcut or position.
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        shortcut: str = "B",
        position: str = "pre",
        activated: bool = False,
        stride_in_1x1: bool = False,
    ) -> None:
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        layers = (
            (in_channels, channels, 1, first),
            (channels, channels, 3, second),
            (channels, channels * self.expansion, 1, 1),
        )
        super().__init__(layers, shortcut, position, activated)


Block = type[PreActBlock] | type[PreActBottleneck]


def stage(
    block: Block, in_channels: int, channels: int, blocks: int, stride: int, shortcut: str, **first: Any
) -> nn.Sequential:
    """Units of one width, the first of which may stride and has options of its own."""
    units = [block(in_channels, channels, stride, shortcut, **first)]
    units += [block(channels * block.expansion, channels, shortcut=shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(*units)


def check_stem(stem: str) -> bool:
    """Whether the stem activates its output.

    Raises:
        ValueError: another stem.
    """
    if not isinstance(stem, str) or stem not in STEMS:
        raise ValueError(f"stem: must be 'activated' or 'conv', got {stem!r}")
    return stem == "activated"


class PreActResNet(nn.Module):
    """A pre-activation residual network for large images.

    Args:
        block: ``PreActBlock`` or ``PreActBottleneck``.
        layers: units in each of the four stages.
        num_classes: number of scores.
        in_channels: channels of the images; 224x224 in the paper, any size works.
        shortcut: see ``PreActBlock``.
        stem: ``"activated"``: convolution, BN, ReLU and pooling, and no BN in the first unit; ``"conv"``: convolution
            and pooling, and every unit has all its BNs.
        width: channels of the first stage.
        init: ``"paper"`` or ``"torchvision"``; see ``resnet``.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument of another type.
    """

    def __init__(
        self,
        block: Block,
        layers: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        shortcut: str = "B",
        stem: str = "activated",
        width: int = 64,
        init: str = "paper",
    ) -> None:
        super().__init__()
        rules = choose_rules(init, INIT)
        check_int("PreActResNet", "num_classes", num_classes, 1)
        activated = check_stem(stem)
        if len(layers) != 4:
            raise ValueError(f"layers: must have 4 elements, got {layers!r}")
        for number, blocks in enumerate(layers):
            check_int("PreActResNet", f"layers[{number}]", blocks, 1)
        first, *others = layers
        with nn.init.skip_draws():
            self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(width) if activated else None
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            self.layer1 = stage(block, width, width, first, 1, shortcut, activated=activated)
            for number, blocks in enumerate(others, 2):
                width *= 2
                units = stage(block, width // 2 * block.expansion, width, blocks, 2, shortcut)
                self.add_module(f"layer{number}", units)
            self.bn2 = nn.BatchNorm2d(width * block.expansion)
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(width * block.expansion, num_classes)
        initialise(self, rules)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to scores (N, num_classes)."""
        x = self.conv1(x)
        x = self.maxpool(x if self.bn1 is None else self.bn1(x, activation="relu"))  # 64, 56x56
        x = self.layer1(x)  # 64 or 256, 56x56
        x = self.layer2(x)  # 128 or 512, 28x28
        x = self.layer3(x)  # 256 or 1024, 14x14
        x = self.layer4(x)  # 512 or 2048, 7x7
        x = self.bn2(x, activation="relu")
        return self.fc(self.avgpool(x).flatten(1))


@register_model
def preact_resnet18(**kwargs: Any) -> PreActResNet:
    """18 layers, 11.7 M parameters; see ``PreActResNet``."""
    return PreActResNet(PreActBlock, BLOCKS[18], **kwargs)


@register_model
def preact_resnet34(**kwargs: Any) -> PreActResNet:
    """34 layers, 21.8 M parameters; see ``PreActResNet``."""
    return PreActResNet(PreActBlock, BLOCKS[34], **kwargs)


@register_model
def preact_resnet50(**kwargs: Any) -> PreActResNet:
    """50 layers, 25.5 M parameters; see ``PreActResNet``."""
    return PreActResNet(PreActBottleneck, BLOCKS[50], **kwargs)


@register_model
def preact_resnet101(**kwargs: Any) -> PreActResNet:
    """101 layers, 44.5 M parameters; see ``PreActResNet``."""
    return PreActResNet(PreActBottleneck, BLOCKS[101], **kwargs)


@register_model
def preact_resnet152(**kwargs: Any) -> PreActResNet:
    """152 layers, 60.2 M parameters; see ``PreActResNet``."""
    return PreActResNet(PreActBottleneck, BLOCKS[152], **kwargs)


@register_model
def preact_resnet200(**kwargs: Any) -> PreActResNet:
    """200 layers, 64.7 M parameters; see ``PreActResNet``."""
    return PreActResNet(PreActBottleneck, BLOCKS[200], **kwargs)


register_recipe(
    "paper",
    IMAGENET.replace(
        epochs=90,
        batch_size=256,
        learning_rate=0.1,
        weight_decay=1e-4,
        milestones=(1 / 3, 2 / 3),
        source="He et al. 2016, section 5, with the schedule of fb.resnet.torch; at one scale (256)",
    ),
    "preact_resnet18",
    "preact_resnet34",
    "preact_resnet50",
    "preact_resnet101",
    "preact_resnet152",
    "preact_resnet200",
)
