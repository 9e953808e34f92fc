"""AlexNet in one tower, as torchvision has it: Krizhevsky 2014 ("One weird trick for parallelizing convolutional neural
networks"), after Krizhevsky, Sutskever and Hinton 2012; the network of 2012 itself is ``alexnet2012``.

Deviations from 2012: one tower, whose convolutions see all channels; fewer kernels in three of them; no local response
normalisation; dropout before the first two dense layers, not after them; conv1 pads by 2, so that images of 224 pixels
fit; and images of other sizes are pooled to 6x6 on average before the dense layers.
"""

from __future__ import annotations

from typing import Any

from gpunet import nn
from gpunet.autograd import Tensor
from gpunet.models._arguments import check_probability, scaled
from gpunet.models._initialise import Rules, choose_rules, gaussian, initialise
from gpunet.models._registry import register_model
from gpunet.nn.arguments import check_int

__all__ = ["AlexNet", "alexnet"]

# kernels, size, stride, padding, max pooling 3x3/2 after it     output for a 3x224x224 image
CONVOLUTIONS = (
    (64, 11, 4, 2, True),  # 55x55, pooled 27x27
    (192, 5, 1, 2, True),  # 27x27, pooled 13x13
    (384, 3, 1, 1, False),  # 13x13
    (256, 3, 1, 1, False),  # 13x13
    (256, 3, 1, 1, True),  # 13x13, pooled 6x6
)
POOLED = 6
DENSE = 4096


class AlexNet(nn.Module):
    """Five convolutions and three dense layers.

    Args:
        num_classes: number of scores.
        dropout: probability with which an input of the first two dense layers is zeroed in training.
        in_channels: channels of the images.
        width: factor of all channels and units between the image and the scores.
        init: ``"torchvision"``, every layer's own default; or ``"paper"``, section 5 of the paper of 2012: N(0, 0.01^2)
            and a bias of 1 in the second, fourth and fifth convolution and the hidden dense layers, 0 elsewhere.

    Raises:
        TypeError, ValueError: an argument that no network can have.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        dropout: float = 0.5,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        init: str = "torchvision",
    ) -> None:
        super().__init__()
        num_classes = check_int("AlexNet", "num_classes", num_classes, 1)
        dropout = check_probability("AlexNet", "dropout", dropout)
        channels = check_int("AlexNet", "in_channels", in_channels, 1)
        rules = choose_rules(init, INITIALISERS)
        dense = scaled("AlexNet", DENSE, width)
        with nn.init.skip_draws():
            layers: list[nn.Module] = []
            for kernels, size, stride, padding, pool in CONVOLUTIONS:
                kernels = scaled("AlexNet", kernels, width)
                layers += [nn.Conv2d(channels, kernels, size, stride=stride, padding=padding), nn.ReLU()]
                layers += [nn.MaxPool2d(3, stride=2)] if pool else []
                channels = kernels
            self.features = nn.Sequential(*layers)
            self.avgpool = nn.AdaptiveAvgPool2d(POOLED)
            self.classifier = nn.Sequential(
                nn.Dropout(dropout), nn.Linear(channels * POOLED * POOLED, dense), nn.ReLU(),
                nn.Dropout(dropout), nn.Linear(dense, dense), nn.ReLU(),
                nn.Linear(dense, num_classes),
            )  # fmt: skip
        initialise(self, rules)
        if init == "paper":
            for layer in (
                self.features[3],
                self.features[8],
                self.features[10],
                self.classifier[1],
                self.classifier[4],
            ):
                nn.init.ones_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W), H and W of at least 63, to scores (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


INITIALISERS: dict[str, Rules] = {
    "torchvision": {},
    "paper": {nn.Conv2d: gaussian(0.01), nn.Linear: gaussian(0.01)},
}


@register_model
def alexnet(num_classes: int = 1000, dropout: float = 0.5, **kwargs: Any) -> AlexNet:
    """AlexNet in one tower, 61.1 M parameters; see ``AlexNet``."""
    return AlexNet(num_classes, dropout, **kwargs)
