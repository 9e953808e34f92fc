"""LeNet-5: LeCun, Bottou, Bengio and Haffner 1998 ("Gradient-based learning applied to document recognition"), fig. 2.

This is the form that tutorials teach, and it deviates from the paper: ReLU instead of the scaled tanh, max pooling
instead of trainable subsampling, every C3 map sees all of S2 instead of the subsets of the paper's table 1, and the
last layer is linear instead of radial basis functions. 1x32x32 input gives 61,706 parameters.
"""

from __future__ import annotations

import gpunet.nn.functional as F
from gpunet import nn
from gpunet.autograd import Tensor
from gpunet.models._registry import register_model

__all__ = ["LeNet", "lenet"]

# layer   maps or units   kernel   output for a 32x32 input
# C1       6              5x5      28x28
# S2                      2x2      14x14
# C3      16              5x5      10x10
# S4                      2x2      5x5
# F5     120
# F6      84
C1, C3, F5, F6 = 6, 16, 120, 84
KERNEL, POOL = 5, 2


class LeNet(nn.Module):
    """Two 5x5 convolutions, each with ReLU and 2x2 max pooling, and three linear layers.

    The paper pads 28x28 digits to 32x32. Smaller images are padded likewise: below 32x32 the first convolution pads by
    2 and keeps the image's size, and where less than 6x6 is left of it the second does the same. A 28x28 image thus
    ends as 16 maps of 5x5 as in the paper, an 8x8 one goes 8, 4, 4, 2 and ends as 16 maps of 2x2.

    Args:
        num_classes: number of scores.
        in_channels: 1 for grey images, 3 for colour.
        input_size: height and width of the images, at least 4.

    Raises:
        ValueError: images too small to be pooled twice.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, input_size: int = 32) -> None:
        super().__init__()
        self.default_image_size = input_size
        if input_size < POOL * POOL:
            raise ValueError(f"input_size: must be at least {POOL * POOL}, got {input_size}")
        same = KERNEL // 2
        padding1 = same if input_size < 32 else 0
        size = (input_size + 2 * padding1 - KERNEL + 1) // POOL
        padding2 = same if size < KERNEL + 1 else 0
        size = (size + 2 * padding2 - KERNEL + 1) // POOL
        self.conv1 = nn.Conv2d(in_channels, C1, KERNEL, padding=padding1)
        self.conv2 = nn.Conv2d(C1, C3, KERNEL, padding=padding2)
        self.fc1 = nn.Linear(C3 * size * size, F5)
        self.fc2 = nn.Linear(F5, F6)
        self.fc3 = nn.Linear(F6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, input_size, input_size) to scores (N, num_classes)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), POOL)
        x = F.max_pool2d(F.relu(self.conv2(x)), POOL)
        x = x.flatten(1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


@register_model
def lenet(num_classes: int = 10, in_channels: int = 1, input_size: int = 32) -> LeNet:
    """LeNet-5 with ReLU and max pooling; see ``LeNet``."""
    return LeNet(num_classes, in_channels, input_size)
