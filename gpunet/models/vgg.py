"""VGG: Simonyan and Zisserman 2014 ("Very deep convolutional networks for large-scale image recognition"), table 1.

Deviations: none for A, A-LRN, B, C, D and E as the paper trains them. The names and the keys of the state are
torchvision's (``vgg16`` is D), which adds BatchNorm variants, average pooling for images of other sizes than 224, and
initial weights of its own. ``fully_conv.to_fully_conv`` makes the form that the paper tests with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunet import nn
from gpunet.autograd import Tensor
from gpunet.models._arguments import check_probability, scaled
from gpunet.models._initialise import Rules, choose_rules, gaussian, he, initialise
from gpunet.models._registry import register_model
from gpunet.models.recipes import IMAGENET, register_recipe
from gpunet.nn.arguments import check_flag, check_int

__all__ = [
    "VGG",
    "start_from_a",
    "vgg11",
    "vgg11_bn",
    "vgg11_lrn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg16_c",
    "vgg19",
    "vgg19_bn",
]

# Table 1: five blocks of convolutions, 3x3 unless a 1 follows, and max pooling 2x2/2 after each.
#          224x224           112x112     56x56                   28x28                   14x14
CONFIGURATIONS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "A":     ((64,),         (128,),     (256, 256),             (512, 512),             (512, 512)),
    "A-LRN": ((64, "LRN"),   (128,),     (256, 256),             (512, 512),             (512, 512)),
    "B":     ((64, 64),      (128, 128), (256, 256),             (512, 512),             (512, 512)),
    "C":     ((64, 64),      (128, 128), (256, 256, (256, 1)),   (512, 512, (512, 1)),   (512, 512, (512, 1))),
    "D":     ((64, 64),      (128, 128), (256, 256, 256),        (512, 512, 512),        (512, 512, 512)),
    "E":     ((64, 64),      (128, 128), (256, 256, 256, 256),   (512, 512, 512, 512),   (512, 512, 512, 512)),
}  # fmt: skip
POOLED = 7
DENSE = 4096


class VGG(nn.Module):
    """Blocks of convolutions, each followed by ReLU, and three dense layers.

    Args:
        configuration: a column of the paper's table 1, ``"A"``, ``"A-LRN"``, ``"B"``, ``"C"``, ``"D"`` or ``"E"``; or
            blocks of one's own in the same form.
        batch_norm: BatchNorm after every convolution, as torchvision's ``_bn`` nets have it.
        num_classes: number of scores.
        init_weights: False leaves every layer its own default, as in torchvision.
        dropout: probability with which an output of the first two dense layers is zeroed in training.
        in_channels: channels of the images.
        width: factor of all channels and units between the image and the scores.
        init: ``"torchvision"``, He et al.'s normal (fan_out) in convolutions and N(0, 0.01^2) in dense layers; or
            ``"paper"``, N(0, 0.1^2) everywhere, which is meant for net A (see ``start_from_a``). Biases are 0.

    Raises:
        TypeError, ValueError: an argument that no network can have.
    """

    def __init__(
        self,
        configuration: str | Sequence[Sequence[Any]] = "D",
        batch_norm: bool = False,
        num_classes: int = 1000,
        init_weights: bool = True,
        dropout: float = 0.5,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        init: str = "torchvision",
    ) -> None:
        super().__init__()
        if isinstance(configuration, str):
            if configuration not in CONFIGURATIONS:
                names = ", ".join(CONFIGURATIONS)
                raise ValueError(f"VGG: configuration must be one of {names}, got {configuration!r}")
            configuration = CONFIGURATIONS[configuration]
        num_classes = check_int("VGG", "num_classes", num_classes, 1)
        dropout = check_probability("VGG", "dropout", dropout)
        channels = check_int("VGG", "in_channels", in_channels, 1)
        rules = choose_rules(init, INITIALISERS) if check_flag("VGG", "init_weights", init_weights) else {}
        dense = scaled("VGG", DENSE, width)
        with nn.init.skip_draws():
            layers: list[nn.Module] = []
            for block in configuration:
                for entry in block:
                    if entry == "LRN":
                        # The paper's section 2.3 takes k, n, alpha and beta of Krizhevsky et al. 2012.
                        layers.append(nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0, alpha_over_size=False))
                        continue
                    kernels, size = entry if isinstance(entry, tuple) else (entry, 3)
                    kernels = scaled("VGG", kernels, width)
                    layers.append(nn.Conv2d(channels, kernels, size, padding=size // 2))
                    layers += [nn.BatchNorm2d(kernels), nn.ReLU()] if batch_norm else [nn.ReLU()]
                    channels = kernels
                layers.append(nn.MaxPool2d(2, stride=2))
            self.features = nn.Sequential(*layers)
            self.avgpool = nn.AdaptiveAvgPool2d(POOLED)
            self.classifier = nn.Sequential(
                nn.Linear(channels * POOLED * POOLED, dense), nn.ReLU(), nn.Dropout(dropout),
                nn.Linear(dense, dense), nn.ReLU(), nn.Dropout(dropout),
                nn.Linear(dense, num_classes),
            )  # fmt: skip
        initialise(self, rules)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W), H and W of at least 32, to scores (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def start_from_a(model: VGG, net_a: VGG) -> VGG:
    """Copy the first four convolutions and the dense layers of a trained net A: section 3.1 of the paper.

    The deeper nets start so. Of their convolutions, those are meant that have A's shapes: the first of blocks 1 and 2
    and the first two of block 3.

    Args:
        model: of configuration B, C, D or E; written in place.
        net_a: of configuration A, and of the same width and classes.

    Returns:
        The model.

    Raises:
        ValueError: the layers do not fit each other.
    """
    pairs = list(zip(_stem(model), _stem(net_a), strict=True))
    pairs += list(zip(_of_type(model.classifier, nn.Linear), _of_type(net_a.classifier, nn.Linear), strict=True))
    for to, source in pairs:
        if to.weight.shape != source.weight.shape:
            raise ValueError(
                f"start_from_a: a layer of shape {tuple(to.weight.shape)} cannot start from one of "
                f"{tuple(source.weight.shape)}"
            )
    for to, source in pairs:
        to.load_state_dict(source.state_dict())
    return model


def _of_type(layers: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [layer for layer in layers.modules() if isinstance(layer, kind)]


def _stem(model: VGG) -> list[nn.Conv2d]:
    blocks: list[list[nn.Conv2d]] = [[]]
    for layer in model.features:
        if isinstance(layer, nn.Conv2d):
            blocks[-1].append(layer)
        elif isinstance(layer, nn.MaxPool2d):
            blocks.append([])
    return [blocks[0][0], blocks[1][0], *blocks[2][:2]]


INITIALISERS: dict[str, Rules] = {
    "torchvision": {nn.Conv2d: he("fan_out"), nn.Linear: gaussian(0.01)},
    "paper": {nn.Conv2d: gaussian(0.1), nn.Linear: gaussian(0.1)},
}


@register_model
def vgg11(**kwargs: Any) -> VGG:
    """Net A, 11 layers, 132.9 M parameters; see ``VGG``."""
    return VGG("A", **kwargs)


@register_model
def vgg11_bn(**kwargs: Any) -> VGG:
    """Net A with BatchNorm; see ``VGG``."""
    return VGG("A", batch_norm=True, **kwargs)


@register_model
def vgg11_lrn(**kwargs: Any) -> VGG:
    """Net A-LRN, with local response normalisation after the first convolution; see ``VGG``."""
    return VGG("A-LRN", **{"init": "paper", **kwargs})


@register_model
def vgg13(**kwargs: Any) -> VGG:
    """Net B, 13 layers, 133.0 M parameters; see ``VGG``."""
    return VGG("B", **kwargs)


@register_model
def vgg13_bn(**kwargs: Any) -> VGG:
    """Net B with BatchNorm; see ``VGG``."""
    return VGG("B", batch_norm=True, **kwargs)


@register_model
def vgg16(**kwargs: Any) -> VGG:
    """Net D, 16 layers, 138.4 M parameters; see ``VGG``."""
    return VGG("D", **kwargs)


@register_model
def vgg16_bn(**kwargs: Any) -> VGG:
    """Net D with BatchNorm; see ``VGG``."""
    return VGG("D", batch_norm=True, **kwargs)


@register_model
def vgg16_c(**kwargs: Any) -> VGG:
    """Net C, 16 layers of which three convolutions are 1x1, 133.6 M parameters; see ``VGG``."""
    return VGG("C", **{"init": "paper", **kwargs})


@register_model
def vgg19(**kwargs: Any) -> VGG:
    """Net E, 19 layers, 143.7 M parameters; see ``VGG``."""
    return VGG("E", **kwargs)


@register_model
def vgg19_bn(**kwargs: Any) -> VGG:
    """Net E with BatchNorm; see ``VGG``."""
    return VGG("E", batch_norm=True, **kwargs)


# Section 3.1: 370,000 steps, the learning rate divided by 10 three times, when the validation accuracy stood still.
register_recipe(
    "paper",
    IMAGENET.replace(
        epochs=74,
        batch_size=256,
        learning_rate=0.01,
        weight_decay=5e-4,
        milestones=(0.25, 0.5, 0.75),
        source="Simonyan and Zisserman 2014, section 3.1, training scale S = 256; the learning rate falls at equal "
        "parts of the run instead of by the validation accuracy",
    ),
    "vgg11",
    "vgg11_bn",
    "vgg11_lrn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg16_c",
    "vgg19",
    "vgg19_bn",
)
