"""DenseNet: Huang, Liu, van der Maaten and Weinberger 2017 ("Densely connected convolutional networks"), table 1.

``densenet121`` to ``densenet201`` are torchvision's, with its options and its names in the state_dict.

Deviations:
- ``init="torchvision"`` draws convolutions from N(0, 2 / fan_in); ``init="paper"`` from N(0, 2 / fan_out), as the
  authors' released program does. Both set the linear layer's bias to 0.
- ``memory_efficient=True`` is accepted, as torchvision has it, and changes nothing: activations are kept. Torchvision's
  gives the same outputs and gradients too, and counts each batch twice in the running statistics.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import gpunet.nn.functional as F
from gpunet import nn
from gpunet.autograd import Tensor
from gpunet.autograd.joining import cat, cat_channels
from gpunet.models._initialise import Rules, choose_rules, he, initialise
from gpunet.models._registry import register_model
from gpunet.models.recipes import IMAGENET, register_recipe
from gpunet.nn.arguments import check_int
from gpunet.ops.shape import ChannelRoom

__all__ = [
    "DenseBlock",
    "DenseLayer",
    "DenseNet",
    "Transition",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
]

# Table 1: growth rate k, channels of the first convolution, layers (1x1, 4k and 3x3, k) of the four blocks.
# Before them 7x7, stride 2 and 3x3 max pooling, stride 2; between them 1x1 with half the channels and 2x2 average
# pooling; after them the mean, fc. Blocks work on 56x56, 28x28, 14x14 and 7x7.
CONFIGURATIONS = {
    121: (32, 64, (6, 12, 24, 16)),
    161: (48, 96, (6, 12, 36, 24)),
    169: (32, 64, (6, 12, 32, 32)),
    201: (32, 64, (6, 12, 48, 32)),
}


def _zero_bias(layer: nn.Linear) -> None:
    layer.reset_parameters()
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


INIT: dict[str, Rules] = {
    "torchvision": {nn.Conv2d: he("fan_in"), nn.Linear: _zero_bias},
    "paper": {nn.Conv2d: he("fan_out"), nn.Linear: _zero_bias},
}


class DenseLayer(nn.Module):
    """BN, ReLU, 1x1 convolution to ``bn_size * growth_rate`` channels, BN, ReLU, 3x3 convolution to ``growth_rate``.

    Args:
        num_input_features: channels of the input.
        growth_rate: k, channels of the output.
        bn_size: width of the 1x1 convolution, in k; 0 leaves it out, and the second BN with it.
        drop_rate: probability of dropping an element of the output in training.
        memory_efficient: see the top of the file.

    Raises:
        ValueError: sizes below 1, or a drop_rate outside 0..1.
    """

    def __init__(
        self,
        num_input_features: int,
        growth_rate: int,
        bn_size: int = 4,
        drop_rate: float = 0.0,
        memory_efficient: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= drop_rate <= 1:
            raise ValueError(f"drop_rate: must lie in 0..1, got {drop_rate}")
        width = check_int("DenseLayer", "bn_size", bn_size, 0) * growth_rate
        self.norm1 = nn.BatchNorm2d(num_input_features)
        self.norm2: nn.BatchNorm2d | None = None
        if width:
            self.conv1 = nn.Conv2d(num_input_features, width, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, growth_rate, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(num_input_features, growth_rate, 3, padding=1, bias=False)
        self.drop_rate = float(drop_rate)

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """(N, num_input_features, H, W) to the new features (N, growth_rate, H, W).

        A list of Tensors that have that many channels together is taken too, as torchvision's layer takes it.
        """
        joined = cat(x, 1) if isinstance(x, (list, tuple)) else x
        out: Tensor = self.conv1(self.norm1(joined, activation="relu"))
        if self.norm2 is not None:
            out = self.conv2(self.norm2(out, activation="relu"))
        return F.dropout(out, self.drop_rate, self.training) if self.drop_rate else out


class DenseBlock(nn.ModuleDict):
    """Layers each of which sees the block's input and the outputs of all layers before it, as channels.

    Of L layers on an input of c channels, layer l has c + (l - 1) k channels coming in.

    Args:
        num_layers: L.
        num_input_features: c.
        bn_size, growth_rate, drop_rate, memory_efficient: see ``DenseLayer``.
    """

    def __init__(
        self,
        num_layers: int,
        num_input_features: int,
        bn_size: int,
        growth_rate: int,
        drop_rate: float = 0.0,
        memory_efficient: bool = False,
    ) -> None:
        super().__init__()
        check_int("DenseBlock", "num_layers", num_layers, 1)
        check_int("DenseBlock", "growth_rate", growth_rate, 1)
        for index in range(num_layers):
            channels = num_input_features + index * growth_rate
            layer = DenseLayer(channels, growth_rate, bn_size, drop_rate, memory_efficient)
            self.add_module(f"denselayer{index + 1}", layer)
        self.num_output_features = num_input_features + num_layers * growth_rate

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, H, W) to (N, c + L k, H, W)."""
        room = ChannelRoom(self.num_output_features)
        for layer in self.values():
            x = cat_channels([x, layer(x)], room)
        return x


class Transition(nn.Module):
    """BN, ReLU, 1x1 convolution and 2x2 average pooling, between two blocks.

    Args:
        num_input_features: channels of the input.
        num_output_features: channels of the output.
    """

    def __init__(self, num_input_features: int, num_output_features: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(num_input_features)
        self.conv = nn.Conv2d(num_input_features, num_output_features, 1, bias=False)
        self.pool = nn.AvgPool2d(2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, num_input_features, H, W) to (N, num_output_features, H / 2, W / 2), rounded down."""
        return self.pool(self.conv(self.norm(x, activation="relu")))


class DenseNet(nn.Module):
    """A densely connected network.

    Args:
        growth_rate: k, channels that each layer adds.
        block_config: layers in each block.
        num_init_features: channels of the first convolution.
        bn_size: width of the 1x1 convolutions, in k; 0 for none, the plain DenseNet of the paper's section 3.
        drop_rate: dropout after each layer.
        num_classes: number of scores.
        memory_efficient: see the top of the file.
        compression: channels that a transition keeps, as a share.
        small_images: begin with a 3x3 convolution instead of 7x7, stride 2, BN, ReLU and pooling.
        in_channels: channels of the images; at least 29x29 is needed, 4x4 with ``small_images`` and three blocks.
        init: ``"torchvision"`` or ``"paper"``; see the top of the file.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument of another type.
    """

    def __init__(
        self,
        growth_rate: int = 32,
        block_config: Sequence[int] = (6, 12, 24, 16),
        num_init_features: int = 64,
        bn_size: int = 4,
        drop_rate: float = 0.0,
        num_classes: int = 1000,
        memory_efficient: bool = False,
        *,
        compression: float = 0.5,
        small_images: bool = False,
        in_channels: int = 3,
        init: str = "torchvision",
    ) -> None:
        super().__init__()
        rules = choose_rules(init, INIT)
        check_int("DenseNet", "num_classes", num_classes, 1)
        if not block_config:
            raise ValueError("block_config: must name at least one block")
        if not 0 < compression <= 1:
            raise ValueError(f"compression: must lie above 0 and up to 1, got {compression}")
        channels = num_init_features
        with nn.init.skip_draws():
            self.features = nn.Sequential(OrderedDict(_stem(in_channels, channels, small_images)))
            for number, layers in enumerate(block_config, 1):
                block = DenseBlock(layers, channels, bn_size, growth_rate, drop_rate, memory_efficient)
                self.features.add_module(f"denseblock{number}", block)
                channels += layers * growth_rate
                if number < len(block_config):
                    kept = int(channels * compression)
                    self.features.add_module(f"transition{number}", Transition(channels, kept))
                    channels = kept
            self.features.add_module("norm5", nn.BatchNorm2d(channels))
            self.classifier = nn.Linear(channels, num_classes)
        initialise(self, rules)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to scores (N, num_classes)."""
        x = F.relu(self.features(x))
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _stem(in_channels: int, channels: int, small_images: bool) -> list[tuple[str, nn.Module]]:
    if small_images:
        return [("conv0", nn.Conv2d(in_channels, channels, 3, padding=1, bias=False))]
    return [
        ("conv0", nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False)),
        ("norm0", nn.BatchNorm2d(channels)),
        ("relu0", nn.ReLU()),
        ("pool0", nn.MaxPool2d(3, stride=2, padding=1)),
    ]


def _densenet(depth: int, options: dict[str, Any]) -> DenseNet:
    names = ("growth_rate", "num_init_features", "block_config")
    return DenseNet(**{**dict(zip(names, CONFIGURATIONS[depth], strict=True)), **options})


@register_model
def densenet121(**kwargs: Any) -> DenseNet:
    """121 layers, 8.0 M parameters; see ``DenseNet``."""
    return _densenet(121, kwargs)


@register_model
def densenet161(**kwargs: Any) -> DenseNet:
    """161 layers, 28.7 M parameters; see ``DenseNet``."""
    return _densenet(161, kwargs)


@register_model
def densenet169(**kwargs: Any) -> DenseNet:
    """169 layers, 14.1 M parameters; see ``DenseNet``."""
    return _densenet(169, kwargs)


@register_model
def densenet201(**kwargs: Any) -> DenseNet:
    """201 layers, 20.0 M parameters; see ``DenseNet``."""
    return _densenet(201, kwargs)


register_recipe(
    "paper",
    IMAGENET.replace(
        epochs=90,
        batch_size=256,
        learning_rate=0.1,
        nesterov=True,
        weight_decay=1e-4,
        milestones=(1 / 3, 2 / 3),
        source="Huang et al. 2017, section 4.2, with the augmentation of fb.resnet.torch at one scale (256)",
    ),
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
)
