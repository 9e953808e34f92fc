"""GoogLeNet as torchvision has it: Szegedy et al. 2014 ("Going deeper with convolutions") with BatchNorm.

Deviations from the paper, all of them torchvision's: BatchNorm after every convolution, which then has no bias, and no
local response normalisation; 3x3 convolutions where the paper has 5x5; the fourth pooling is 2x2; the auxiliary heads
pool to 4x4 whatever the size; dropout of 0.2, not 0.4. ``googlenet_paper`` has none of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import gpunet.nn.functional as F
from gpunet import nn
from gpunet.autograd import Tensor, cat
from gpunet.backend.errors import ShapeError
from gpunet.models._arguments import check_probability, scaled
from gpunet.models._initialise import Rules, choose_rules, initialise
from gpunet.models._registry import register_model
from gpunet.nn.arguments import check_flag, check_int

__all__ = ["BasicConv2d", "GoogLeNet", "GoogLeNetOutputs", "Inception", "InceptionAux", "googlenet"]

# Table 1 of the paper: the channels of each inception block.
#         #1x1  #3x3 reduce  #3x3  #5x5 reduce  #5x5  pool proj     output
INCEPTION = {
    "3a": (64,      96,      128,      16,      32,      32),  #   256x28x28
    "3b": (128,    128,      192,      32,      96,      64),  #   480x28x28
    "4a": (192,     96,      208,      16,      48,      64),  #   512x14x14
    "4b": (160,    112,      224,      24,      64,      64),  #   512x14x14
    "4c": (128,    128,      256,      24,      64,      64),  #   512x14x14
    "4d": (112,    144,      288,      32,      64,      64),  #   528x14x14
    "4e": (256,    160,      320,      32,     128,     128),  #   832x14x14
    "5a": (256,    160,      320,      32,     128,     128),  #   832x7x7
    "5b": (384,    192,      384,      48,     128,     128),  #  1024x7x7
}  # fmt: skip
STEM = (64, 64, 192)  # conv1 7x7/2 112x112, conv2 1x1 56x56 and conv3 3x3 56x56
AUX_CHANNELS, AUX_UNITS = 128, 1024
IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))  # mean and deviation of red, green and blue


class GoogLeNetOutputs(NamedTuple):
    """What a GoogLeNet with auxiliary heads gives in training: scores (N, num_classes), from the deepest head up."""

    logits: Tensor
    aux_logits2: Tensor | None
    aux_logits1: Tensor | None


class BasicConv2d(nn.Module):
    """A convolution without bias, BatchNorm and ReLU; the arguments are those of ``nn.Conv2d``."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, **kwargs: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, bias=False, **kwargs)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        return self.bn(self.conv(x), activation="relu")


class Inception(nn.Module):
    """Four branches side by side, whose channels are joined (figure 2b of the paper).

    Args:
        in_channels: channels of the input.
        ch1x1, ch3x3red, ch3x3, ch5x5red, ch5x5, pool_proj: a row of table 1.
        conv_block: makes a convolution with what follows it, of (in_channels, out_channels, kernel_size, padding).
        size5: side of the kernels of the third branch, 5 in the paper.
    """

    def __init__(
        self,
        in_channels: int,
        ch1x1: int,
        ch3x3red: int,
        ch3x3: int,
        ch5x5red: int,
        ch5x5: int,
        pool_proj: int,
        *,
        conv_block: Callable[..., nn.Module] = BasicConv2d,
        size5: int = 3,
    ) -> None:
        super().__init__()
        self.branch1 = conv_block(in_channels, ch1x1, kernel_size=1)
        self.branch2 = nn.Sequential(
            conv_block(in_channels, ch3x3red, kernel_size=1),
            conv_block(ch3x3red, ch3x3, kernel_size=3, padding=1),
        )
        self.branch3 = nn.Sequential(
            conv_block(in_channels, ch5x5red, kernel_size=1),
            conv_block(ch5x5red, ch5x5, kernel_size=size5, padding=size5 // 2),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True),
            conv_block(in_channels, pool_proj, kernel_size=1),
        )
        self.out_channels = ch1x1 + ch3x3 + ch5x5 + pool_proj

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, ch1x1 + ch3x3 + ch5x5 + pool_proj, H, W)."""
        return cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class InceptionAux(nn.Module):
    """An auxiliary classifier: pooling to 4x4, a 1x1 convolution and two dense layers.

    Args:
        in_channels: channels of the input.
        num_classes: number of scores.
        conv_block: see ``Inception``.
        dropout: probability between the dense layers.
        pool: what pools to 4x4; windows of a size that fits any image if not given.
        channels, units: of the convolution and the hidden dense layer.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        conv_block: Callable[..., nn.Module] = BasicConv2d,
        dropout: float = 0.7,
        *,
        pool: nn.Module | None = None,
        channels: int = AUX_CHANNELS,
        units: int = AUX_UNITS,
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4) if pool is None else pool
        self.conv = conv_block(in_channels, channels, kernel_size=1)
        self.fc1 = nn.Linear(channels * 16, units)
        self.fc2 = nn.Linear(units, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to scores (N, num_classes)."""
        x = self.pool(x)
        if tuple(x.shape[2:]) != (4, 4):
            raise ShapeError(f"InceptionAux: the pooled map must be 4x4, got shape {tuple(x.shape)}")
        x = self.conv(x).flatten(1)
        return self.fc2(self.dropout(F.relu(self.fc1(x))))


class GoogLeNet(nn.Module):
    """22 layers with weights: three convolutions, nine inception blocks of two layers each, one dense layer.

    Args:
        num_classes: number of scores.
        aux_logits: have the two auxiliary heads, which run in training only.
        transform_input: turn images normalised as torchvision's other networks want them into values from -1 to 1.
        init_weights: False leaves every layer its own default, as in torchvision.
        dropout: probability with which an input of the last layer is zeroed in training.
        dropout_aux: the same in the auxiliary heads.
        in_channels: channels of the images.
        width: factor of all channels and units between the image and the scores.
        init: ``"torchvision"``, N(0, 0.01^2) cut off at -2 and 2; or ``"paper"``, as ``googlenet_paper`` starts.

    Raises:
        TypeError, ValueError: an argument that no network can have.
    """

    conv_block: ClassVar[Callable[..., nn.Module]] = BasicConv2d
    size5: ClassVar[int] = 3
    pool4: ClassVar[int] = 2

    def __init__(
        self,
        num_classes: int = 1000,
        aux_logits: bool = True,
        transform_input: bool = False,
        init_weights: bool | None = True,
        dropout: float = 0.2,
        dropout_aux: float = 0.7,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        init: str = "torchvision",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        num_classes = check_int(name, "num_classes", num_classes, 1)
        in_channels = check_int(name, "in_channels", in_channels, 1)
        dropout = check_probability(name, "dropout", dropout)
        dropout_aux = check_probability(name, "dropout_aux", dropout_aux)
        self.aux_logits = check_flag(name, "aux_logits", aux_logits)
        self.transform_input = check_flag(name, "transform_input", transform_input)
        if self.transform_input and in_channels != 3:
            raise ValueError(f"{name}: transform_input is for 3 channels, got in_channels={in_channels}")
        rules = choose_rules(init, INITIALISERS)
        conv = type(self).conv_block
        stem = [scaled(name, channels, width) for channels in STEM]

        with nn.init.skip_draws():
            self.conv1 = conv(in_channels, stem[0], kernel_size=7, stride=2, padding=3)
            self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            self.conv2 = conv(stem[0], stem[1], kernel_size=1)
            self.conv3 = conv(stem[1], stem[2], kernel_size=3, padding=1)
            self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            channels = stem[2]
            outputs = {}
            for block, row in INCEPTION.items():
                widths = [scaled(name, count, width) for count in row]
                inception = Inception(channels, *widths, conv_block=conv, size5=self.size5)
                setattr(self, f"inception{block}", inception)
                if block == "3b":
                    self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
                elif block == "4e":
                    self.maxpool4 = nn.MaxPool2d(self.pool4, stride=2, ceil_mode=True)
                outputs[block] = channels = inception.out_channels
            self.aux1: InceptionAux | None = None
            self.aux2: InceptionAux | None = None
            if aux_logits:
                sizes = {"channels": scaled(name, AUX_CHANNELS, width), "units": scaled(name, AUX_UNITS, width)}
                self.aux1 = InceptionAux(outputs["4a"], num_classes, conv, dropout_aux, pool=self.aux_pool(), **sizes)
                self.aux2 = InceptionAux(outputs["4d"], num_classes, conv, dropout_aux, pool=self.aux_pool(), **sizes)
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.dropout = nn.Dropout(dropout)
            self.fc = nn.Linear(channels, num_classes)
        initialise(self, {} if init_weights is False else rules)
        if init == "paper" and init_weights is not False:
            scores: list[Any] = [self.fc, *[head.fc2 for head in (self.aux1, self.aux2) if head is not None]]
            for layer in scores:
                nn.init.zeros_(layer.bias)

    def aux_pool(self) -> nn.Module:
        """What the auxiliary heads pool to 4x4 with."""
        return nn.AdaptiveAvgPool2d(4)

    def stem(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, 192, H / 8, W / 8)."""
        x = self.maxpool1(self.conv1(x))  # 64x56x56
        return self.maxpool2(self.conv3(self.conv2(x)))  # 192x28x28

    def forward(self, x: Tensor) -> Tensor | GoogLeNetOutputs:
        """(N, in_channels, H, W), H and W of at least 15, to scores (N, num_classes).

        In training with auxiliary heads to the scores of all three.
        """
        if self.transform_input:
            x = cat([x[:, c : c + 1] * (std / 0.5) + (mean - 0.5) / 0.5 for c, (mean, std) in enumerate(IMAGENET)], 1)
        x = self.stem(x)
        x = self.maxpool3(self.inception3b(self.inception3a(x)))  # 480x14x14
        x = self.inception4a(x)
        aux1 = self.aux1(x) if self.aux1 is not None and self.training else None
        x = self.inception4d(self.inception4c(self.inception4b(x)))  # 528x14x14
        aux2 = self.aux2(x) if self.aux2 is not None and self.training else None
        x = self.maxpool4(self.inception4e(x))  # 832x7x7
        x = self.inception5b(self.inception5a(x))  # 1024x7x7
        x = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        return GoogLeNetOutputs(x, aux2, aux1) if self.training and self.aux_logits else x


def _xavier(layer: nn.Conv2d | nn.Linear) -> None:
    """Caffe's form of Glorot and Bengio's uniform distribution, with fan_in alone; a bias of 0.2."""
    bound = math.sqrt(3 / math.prod(layer.weight.shape[1:]))
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, 0.2)


def _truncated(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.trunc_normal_(layer.weight, std=0.01)
    if layer.bias is not None:
        bound = 1 / math.sqrt(math.prod(layer.weight.shape[1:]))  # torchvision leaves it as the layer draws it
        nn.init.uniform_(layer.bias, -bound, bound)


INITIALISERS: dict[str, Rules] = {
    "torchvision": {nn.Conv2d: _truncated, nn.Linear: _truncated},
    "paper": {nn.Conv2d: _xavier, nn.Linear: _xavier},
}


@register_model
def googlenet(**kwargs: Any) -> GoogLeNet:
    """GoogLeNet with BatchNorm, 6.6 M parameters and 6.4 M in the auxiliary heads; see ``GoogLeNet``."""
    return GoogLeNet(**kwargs)
