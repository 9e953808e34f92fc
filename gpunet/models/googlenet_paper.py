"""GoogLeNet: Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke and Rabinovich 2014 ("Going deeper with
convolutions"), table 1 and section 5.

Deviations: none from the table. What the paper leaves open is as in the network released with Caffe: local response
normalisation after the first pooling and before the second, over 5 channels with alpha 1e-4 / 5, beta 0.75 and k 1;
windows of the 3x3/2 poolings that hang over the edge; weights from U(-b, b) with b^2 = 3 / fan_in, and biases of 0.2,
but of 0 in the layers that give scores. The parameters that the paper's table prints are not those of its layers: they
sum to 6.8 M, the layers have 6,998,552.
"""

from __future__ import annotations

from typing import Any

import gpunet.nn.functional as F
from gpunet import nn
from gpunet.autograd import Tensor
from gpunet.models._registry import register_model
from gpunet.models.googlenet import GoogLeNet, GoogLeNetOutputs
from gpunet.models.recipes import IMAGENET, register_recipe

__all__ = ["ConvReLU", "PaperGoogLeNet", "googlenet_loss", "googlenet_paper"]


class ConvReLU(nn.Module):
    """A convolution with a bias, and ReLU; the arguments are those of ``nn.Conv2d``."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, **kwargs: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        return F.relu(self.conv(x))


class PaperGoogLeNet(GoogLeNet):
    """GoogLeNet without BatchNorm and with 5x5 convolutions; the arguments are those of ``GoogLeNet``.

    The auxiliary heads average 5x5 windows with stride 3, and so run on images of 223 to 270 pixels only; without them
    (``aux_logits=False``, or in evaluation) any size from 31 works.
    """

    conv_block = ConvReLU
    size5 = 5
    pool4 = 3

    def __init__(
        self,
        num_classes: int = 1000,
        aux_logits: bool = True,
        transform_input: bool = False,
        init_weights: bool | None = True,
        dropout: float = 0.4,
        dropout_aux: float = 0.7,
        *,
        init: str = "paper",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_classes, aux_logits, transform_input, init_weights, dropout, dropout_aux, init=init, **kwargs
        )
        self.norm1 = nn.LocalResponseNorm(5)
        self.norm2 = nn.LocalResponseNorm(5)

    def aux_pool(self) -> nn.Module:
        """5x5 windows with stride 3: from 14x14 to 4x4."""
        return nn.AvgPool2d(5, stride=3)

    def stem(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, 192, H / 8, W / 8)."""
        x = self.norm1(self.maxpool1(self.conv1(x)))  # 64x56x56
        return self.maxpool2(self.norm2(self.conv3(self.conv2(x))))  # 192x28x28


def googlenet_loss(outputs: Tensor | GoogLeNetOutputs, target: Tensor, aux_weight: float = 0.3) -> Tensor:
    """The cross-entropy of the scores, and of the auxiliary heads' with a weight: section 5 of the paper.

    Args:
        outputs: what a GoogLeNet gives, in training or in evaluation.
        target: (N,), the classes.
        aux_weight: of each auxiliary head.

    Returns:
        A scalar.
    """
    if not isinstance(outputs, tuple):
        return F.cross_entropy(outputs, target)
    loss = F.cross_entropy(outputs.logits, target)
    for scores in (outputs.aux_logits1, outputs.aux_logits2):
        if scores is not None:
            loss = loss + aux_weight * F.cross_entropy(scores, target)
    return loss


@register_model
def googlenet_paper(**kwargs: Any) -> PaperGoogLeNet:
    """The paper's GoogLeNet, 7.0 M parameters and 6.4 M in the auxiliary heads; see ``PaperGoogLeNet``."""
    return PaperGoogLeNet(**kwargs)


# Section 6. What the paper leaves open (the first learning rate, the length, the decay of weights) is BVLC's.
register_recipe(
    "paper",
    IMAGENET.replace(
        epochs=60,
        batch_size=32,
        learning_rate=0.01,
        weight_decay=2e-4,
        milestones=tuple(epoch / 60 for epoch in range(8, 60, 8)),
        decay=0.96,
        auxiliary_weight=0.3,
        colour=0.0,
        source="Szegedy et al. 2014, section 6: times 0.96 every 8 epochs; neither Polyak averaging nor crops of "
        "8 to 100 % of the area; first learning rate, length and weight decay are BVLC's",
    ),
    "googlenet_paper",
)
# models/bvlc_googlenet/quick_solver.prototxt: 2.4 million steps of 32 images.
register_recipe(
    "caffe",
    IMAGENET.replace(
        epochs=60,
        batch_size=32,
        learning_rate=0.01,
        weight_decay=2e-4,
        schedule="polynomial",
        decay=0.5,
        auxiliary_weight=0.3,
        colour=0.0,
        source="BVLC's bvlc_googlenet, the quick solver",
    ),
    "googlenet_paper",
)
