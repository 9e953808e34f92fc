"""Network in Network: Lin, Chen and Yan 2013 ("Network in network"), in the layouts that the authors released.

Deviations: the paper gives no widths, kernels or initial weights ("proper initializations"). Widths and kernels are
those of the networks released with it, and weights are drawn from He et al. 2015's normal distribution (fan_in). Biases
are 0 but the scores', which are 2: ReLU follows them, and with 0 up to 4 of 10 classes have the score 0 for every image
at the start, and no gradient to leave it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunet import nn
from gpunet.autograd import Tensor
from gpunet.models._arguments import check_probability, scaled
from gpunet.models._initialise import Rules, choose_rules, he, initialise
from gpunet.models._registry import register_model
from gpunet.models.recipes import CIFAR, register_recipe
from gpunet.nn.arguments import check_int

__all__ = ["MLPConv", "NiN", "nin_cifar10", "nin_imagenet"]

# An mlpconv layer: kernel, stride, padding, and the channels of its three convolutions (0: one for each class). Pooling
# is 3x3/2 and its last window may hang over the edge.
# CIFAR-10, 3x32x32                               output
CIFAR10 = (
    (5, 1, 2, (192, 160, 96)),  #                 32x32
    "max", "dropout",  #                          16x16
    (5, 1, 2, (192, 192, 192)),  #                16x16
    "average", "dropout",  #                      8x8
    (3, 1, 1, (192, 192, 0)),  #                  8x8
)  # fmt: skip
# ImageNet, 3x224x224
IMAGENET = (
    (11, 4, 0, (96, 96, 96)),  #                  54x54
    "max",  #                                     27x27
    (5, 1, 2, (256, 256, 256)),  #                27x27
    "max",  #                                     13x13
    (3, 1, 1, (384, 384, 384)),  #                13x13
    "max", "dropout",  #                          6x6
    (3, 1, 1, (1024, 1024, 0)),  #                6x6
)  # fmt: skip

SCORE_BIAS = 2.0


class MLPConv(nn.Sequential):
    """A perceptron with two hidden layers that slides over the image (figure 1b of the paper).

    A convolution and two 1x1 convolutions, each followed by ReLU: at every pixel they are dense layers on what the
    kernel covers there.

    Args:
        in_channels: channels of the images.
        channels: of the three convolutions.
        kernel_size, stride, padding: of the first convolution.

    Raises:
        TypeError: channels is not a sequence.
        ValueError: they are not three.
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int], kernel_size: int, stride: int = 1, padding: int = 0
    ) -> None:
        if not hasattr(channels, "__len__") or isinstance(channels, str):
            raise TypeError(f"MLPConv: channels must be three numbers, one for each convolution, got {channels!r}")
        if len(channels) != 3:
            raise ValueError(f"MLPConv: channels must be three numbers, got {channels!r}")
        first, second, third = channels
        super().__init__(
            nn.Conv2d(in_channels, first, kernel_size, stride=stride, padding=padding), nn.ReLU(),
            nn.Conv2d(first, second, 1), nn.ReLU(),
            nn.Conv2d(second, third, 1), nn.ReLU(),
        )  # fmt: skip


class NiN(nn.Module):
    """mlpconv layers with pooling between them; the last gives one map for each class, and its mean is the score.

    As in the released networks ReLU also follows the last convolution, so that no score is negative.

    Args:
        layers: a table as above.
        num_classes: number of scores.
        in_channels: channels of the images.
        dropout: probability with which an element is zeroed in training where the table says so.
        width: factor of all channels between the image and the scores.
        init: ``"paper"`` is the only choice.

    Raises:
        TypeError, ValueError: an argument that no network can have.
    """

    def __init__(
        self,
        layers: Sequence[Any],
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.5,
        *,
        width: float = 1.0,
        init: str = "paper",
    ) -> None:
        super().__init__()
        num_classes = check_int("NiN", "num_classes", num_classes, 1)
        inputs = check_int("NiN", "in_channels", in_channels, 1)
        dropout = check_probability("NiN", "dropout", dropout)
        rules = choose_rules(init, INITIALISERS)
        with nn.init.skip_draws():
            modules: list[nn.Module] = []
            for layer in layers:
                if layer == "max":
                    modules.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
                elif layer == "average":
                    modules.append(nn.AvgPool2d(3, stride=2, ceil_mode=True))
                elif layer == "dropout":
                    modules.append(nn.Dropout(dropout))
                else:
                    kernel, stride, padding, widths = layer
                    channels = [scaled("NiN", count, width) if count else num_classes for count in widths]
                    modules.append(MLPConv(inputs, channels, kernel, stride, padding))
                    inputs = channels[-1]
            self.features = nn.Sequential(*modules)
            self.avgpool = nn.AdaptiveAvgPool2d(1)
        initialise(self, rules)
        scores = [layer for layer in self.features.modules() if isinstance(layer, nn.Conv2d)][-1]
        assert scores.bias is not None
        nn.init.constant_(scores.bias, SCORE_BIAS)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to scores (N, num_classes)."""
        return self.avgpool(self.features(x)).flatten(1)


INITIALISERS: dict[str, Rules] = {"paper": {nn.Conv2d: he("fan_in")}}


@register_model(image_size=32)
def nin_cifar10(num_classes: int = 10, in_channels: int = 3, **kwargs: Any) -> NiN:
    """For images of 32x32 pixels, any size from 4x4 works; 0.97 M parameters; see ``NiN``."""
    return NiN(CIFAR10, num_classes, in_channels, **kwargs)


@register_model
def nin_imagenet(num_classes: int = 1000, in_channels: int = 3, **kwargs: Any) -> NiN:
    """For images of 224x224 pixels, any size from 39x39 works; 7.6 M parameters; see ``NiN``."""
    return NiN(IMAGENET, num_classes, in_channels, **kwargs)


# Section 4: mini-batches of 128, the learning rate divided by 10 twice; the rest is not in the paper.
register_recipe(
    "paper",
    CIFAR.replace(
        epochs=200,
        batch_size=128,
        learning_rate=0.05,
        weight_decay=1e-4,
        milestones=(0.5, 0.75),
        source="Lin et al. 2013, section 4; learning rate, weight decay, length and size of the shifts are chosen: "
        "the paper does not give them",
    ),
    "nin_cifar10",
)
