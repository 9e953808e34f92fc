"""ResNet: He, Zhang, Ren and Sun 2015 ("Deep residual learning for image recognition"), table 1.

``plain18``, ``plain34``, ``resnet50_v1``, ``resnet101_v1``, ``resnet152_v1`` and ``resnet34(shortcut="A"|"B"|"C")`` are
the paper's. ``resnet18`` to ``resnet152`` are torchvision's, with its options and its names in the state_dict.

Deviations:
- torchvision's bottlenecks stride in their 3x3 convolution ("v1.5"), the paper's in their first 1x1.
- ReLU is no module: normalisation, addition and ReLU are one operation.
- ``init="paper"`` draws convolutions and the linear layer from N(0, 2 / fan_in), as equation 10 of the paper's
  reference [13] has it; ``init="torchvision"`` convolutions from N(0, 2 / fan_out), the linear layer uniformly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from gpunet import nn
from gpunet.autograd import Tensor
from gpunet.models._initialise import Rules, choose_rules, he, initialise
from gpunet.models._registry import register_model
from gpunet.models._residual import NormLayer, check_shortcut, make_shortcut, normalise
from gpunet.models.recipes import IMAGENET, register_recipe
from gpunet.nn.arguments import check_int

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "plain18",
    "plain34",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet50_v1",
    "resnet101",
    "resnet101_v1",
    "resnet152",
    "resnet152_v1",
]

# Table 1: blocks in each stage. Before them 7x7, 64, stride 2 and 3x3 max pooling, stride 2; after them the mean, fc.
#          output   18 34 50 101 152
# layer1   56x56     2  3  3   3   3   [3x3, 64] x 2   or  1x1, 64;  3x3, 64;  1x1, 256
# layer2   28x28     2  4  4   4   8   [3x3, 128] x 2  or  1x1, 128; 3x3, 128; 1x1, 512
# layer3   14x14     2  6  6  23  36   [3x3, 256] x 2  or  1x1, 256; 3x3, 256; 1x1, 1024
# layer4    7x7      2  3  3   3   3   [3x3, 512] x 2  or  1x1, 512; 3x3, 512; 1x1, 2048
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


INIT: dict[str, Rules] = {
    "torchvision": {nn.Conv2d: he("fan_out")},
    "paper": {nn.Conv2d: he("fan_in"), nn.Linear: he("fan_in")},
}


class BasicBlock(nn.Module):
    """y = relu(F(x) + shortcut(x)), F being two 3x3 convolutions (figure 5, left).

    Args:
        inplanes: channels of x.
        planes: channels of y.
        stride: of the first convolution; 2 halves the image.
        downsample: what stands in for the identity; None makes what ``shortcut`` says.
        groups, base_width, dilation: 1, 64 and 1; other values are the bottleneck's.
        norm_layer: makes a normalisation of so many channels; BatchNorm2d by default.
        shortcut: ``"A"``, zeros where the shape changes; ``"B"``, a projection where it changes; ``"C"``, always a
            projection; ``"none"``, nothing is added: a plain net's block.

    Raises:
        ValueError: groups, a width or a dilation that the block has not; another shortcut.
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: NormLayer | None = None,
        *,
        shortcut: str = "B",
    ) -> None:
        super().__init__()
        for name, value, needed in (("groups", groups, 1), ("base_width", base_width, 64), ("dilation", dilation, 1)):
            if value != needed:
                raise ValueError(f"BasicBlock: {name} must be {needed}, got {value}; a Bottleneck can have others")
        norm_layer = norm_layer or nn.BatchNorm2d
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = norm_layer(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = norm_layer(planes)
        self.plain = check_shortcut(shortcut) == "none"
        self.downsample = downsample or make_shortcut(shortcut, inplanes, planes, stride, norm_layer)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inplanes, H, W) to (N, planes, H / stride, W / stride)."""
        out = normalise(self.bn1, self.conv1(x))
        return normalise(self.bn2, self.conv2(out), _beside(self, x))


class Bottleneck(nn.Module):
    """y = relu(F(x) + shortcut(x)), F being 1x1, 3x3 and 1x1 convolutions (figure 5, right).

    Args:
        inplanes: channels of x.
        planes: channels inside, and a quarter of those of y.
        stride: 2 halves the image.
        downsample: what stands in for the identity; None makes what ``shortcut`` says.
        groups: of the 3x3 convolution.
        base_width: channels of a group for each 64 of ``planes``.
        dilation: of the 3x3 convolution.
        norm_layer: makes a normalisation of so many channels; BatchNorm2d by default.
        shortcut: see ``BasicBlock``.
        stride_in_1x1: where the stride is: in the first 1x1 convolution, the paper's, or in the 3x3.

    Raises:
        ValueError: another shortcut, or sizes that a convolution refuses.
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: NormLayer | None = None,
        *,
        shortcut: str = "B",
        stride_in_1x1: bool = False,
    ) -> None:
        super().__init__()
        norm_layer = norm_layer or nn.BatchNorm2d
        width, outputs = int(planes * (base_width / 64)) * groups, planes * self.expansion
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(inplanes, width, 1, stride=first, bias=False)
        self.bn1 = norm_layer(width)
        self.conv2 = nn.Conv2d(
            width, width, 3, stride=second, padding=dilation, dilation=dilation, groups=groups, bias=False
        )
        self.bn2 = norm_layer(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = norm_layer(outputs)
        self.plain = check_shortcut(shortcut) == "none"
        self.downsample = downsample or make_shortcut(shortcut, inplanes, outputs, stride, norm_layer)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inplanes, H, W) to (N, 4 planes, H / stride, W / stride)."""
        out = normalise(self.bn1, self.conv1(x))
        out = normalise(self.bn2, self.conv2(out))
        return normalise(self.bn3, self.conv3(out), _beside(self, x))


def _beside(block: BasicBlock | Bottleneck, x: Tensor) -> Tensor | None:
    """What is added to a block's convolutions: x in the shape of y; nothing in a plain net."""
    if block.plain:
        return None
    return x if block.downsample is None else block.downsample(x)


class ResNet(nn.Module):
    """A residual network for large images.

    Args:
        block: ``BasicBlock`` or ``Bottleneck``.
        layers: blocks in each of the four stages.
        num_classes: number of scores.
        zero_init_residual: start the last scale of each block at 0: each block starts as its shortcut and a ReLU.
        groups, width_per_group: of the bottlenecks, as in ResNeXt and wide ResNets.
        replace_stride_with_dilation: for each of the last three stages, whether to dilate instead of striding.
        norm_layer: makes a normalisation of so many channels; BatchNorm2d by default.
        shortcut: see ``BasicBlock``.
        stride_in_1x1: see ``Bottleneck``; only for those.
        width: channels of the first stage; 64 in the paper.
        in_channels: channels of the images; 224x224 in the paper, any size works.
        init: ``"torchvision"`` or ``"paper"``; see the top of the file.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument of another type.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        num_classes: int = 1000,
        zero_init_residual: bool = False,
        groups: int = 1,
        width_per_group: int = 64,
        replace_stride_with_dilation: Sequence[bool] | None = None,
        norm_layer: NormLayer | None = None,
        *,
        shortcut: str = "B",
        stride_in_1x1: bool = False,
        width: int = 64,
        in_channels: int = 3,
        init: str = "torchvision",
    ) -> None:
        super().__init__()
        rules = choose_rules(init, INIT)
        check_int("ResNet", "num_classes", num_classes, 1)
        check_int("ResNet", "width", width, 1)
        dilate = (False, *(replace_stride_with_dilation or (False, False, False)))
        if len(dilate) != 4 or len(layers) != 4:
            raise ValueError(
                "layers, replace_stride_with_dilation: must have 4 and 3 elements, "
                f"got {layers!r} and {replace_stride_with_dilation!r}"
            )
        options: dict[str, Any] = {"shortcut": check_shortcut(shortcut)}
        if issubclass(block, Bottleneck):
            options["stride_in_1x1"] = stride_in_1x1
        elif stride_in_1x1:
            raise ValueError("stride_in_1x1: a BasicBlock has no 1x1 convolution")
        make: Callable[..., nn.Module] = partial(
            block, groups=groups, base_width=width_per_group, norm_layer=norm_layer, **options
        )
        with nn.init.skip_draws():
            self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
            self.bn1 = (norm_layer or nn.BatchNorm2d)(width)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            channels, dilation = width, 1
            for number, blocks in enumerate(layers):
                check_int("ResNet", f"layers[{number}]", blocks, 1)
                planes, before = width << number, dilation
                stride = 1 if number == 0 or dilate[number] else 2
                dilation *= 2 if dilate[number] else 1
                stage = [make(channels, planes, stride, dilation=before)]
                channels = planes * block.expansion
                stage += [make(channels, planes, dilation=dilation) for _ in range(blocks - 1)]
                self.add_module(f"layer{number + 1}", nn.Sequential(*stage))
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(channels, num_classes)
        initialise(self, rules)
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, BasicBlock | Bottleneck):
                    last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                    if getattr(last, "weight", None) is not None:
                        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to scores (N, num_classes)."""
        x = self.maxpool(normalise(self.bn1, self.conv1(x)))  # 64, 56x56
        x = self.layer1(x)  # 64 or 256, 56x56
        x = self.layer2(x)  # 128 or 512, 28x28
        x = self.layer3(x)  # 256 or 1024, 14x14
        x = self.layer4(x)  # 512 or 2048, 7x7
        return self.fc(self.avgpool(x).flatten(1))


@register_model
def resnet18(**kwargs: Any) -> ResNet:
    """18 layers, 11.7 M parameters; see ``ResNet``."""
    return ResNet(BasicBlock, BLOCKS[18], **kwargs)


@register_model
def resnet34(**kwargs: Any) -> ResNet:
    """34 layers, 21.8 M parameters; see ``ResNet``."""
    return ResNet(BasicBlock, BLOCKS[34], **kwargs)


@register_model
def resnet50(**kwargs: Any) -> ResNet:
    """50 layers, 25.6 M parameters, stride in the 3x3 convolutions; see ``ResNet``."""
    return ResNet(Bottleneck, BLOCKS[50], **kwargs)


@register_model
def resnet101(**kwargs: Any) -> ResNet:
    """101 layers, 44.5 M parameters, stride in the 3x3 convolutions; see ``ResNet``."""
    return ResNet(Bottleneck, BLOCKS[101], **kwargs)


@register_model
def resnet152(**kwargs: Any) -> ResNet:
    """152 layers, 60.2 M parameters, stride in the 3x3 convolutions; see ``ResNet``."""
    return ResNet(Bottleneck, BLOCKS[152], **kwargs)


@register_model
def resnet50_v1(init: str = "paper", **kwargs: Any) -> ResNet:
    """The paper's 50 layers, stride in the first 1x1 convolutions; see ``ResNet``."""
    return ResNet(Bottleneck, BLOCKS[50], stride_in_1x1=True, init=init, **kwargs)


@register_model
def resnet101_v1(init: str = "paper", **kwargs: Any) -> ResNet:
    """The paper's 101 layers, stride in the first 1x1 convolutions; see ``ResNet``."""
    return ResNet(Bottleneck, BLOCKS[101], stride_in_1x1=True, init=init, **kwargs)


@register_model
def resnet152_v1(init: str = "paper", **kwargs: Any) -> ResNet:
    """The paper's 152 layers, stride in the first 1x1 convolutions; see ``ResNet``."""
    return ResNet(Bottleneck, BLOCKS[152], stride_in_1x1=True, init=init, **kwargs)


@register_model
def plain18(init: str = "paper", **kwargs: Any) -> ResNet:
    """The 18 layers without shortcuts; see ``ResNet``."""
    return ResNet(BasicBlock, BLOCKS[18], shortcut="none", init=init, **kwargs)


@register_model
def plain34(init: str = "paper", **kwargs: Any) -> ResNet:
    """The 34 layers without shortcuts, which train worse than 18; see ``ResNet``."""
    return ResNet(BasicBlock, BLOCKS[34], shortcut="none", init=init, **kwargs)


_NETS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet50_v1",
    "resnet101_v1",
    "resnet152_v1",
    "plain18",
    "plain34",
)
_SETTINGS = IMAGENET.replace(
    batch_size=256,
    learning_rate=0.1,
    weight_decay=1e-4,
)
# Section 3.4: up to 600,000 steps.
register_recipe(
    "paper",
    _SETTINGS.replace(
        epochs=120,
        milestones=(0.25, 0.5),
        source="He et al. 2015, section 3.4, at one scale (256) instead of 256 to 480; the learning rate falls at set "
        "parts of the run instead of when the error stands still",
    ),
    *_NETS,
)
register_recipe(
    "fb",
    _SETTINGS.replace(epochs=90, milestones=(1 / 3, 2 / 3), source="fb.resnet.torch, at one scale (256)"),
    *_NETS,
)
