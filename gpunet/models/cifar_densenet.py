"""DenseNet for CIFAR-10: Huang, Liu, van der Maaten and Weinberger 2017 ("Densely connected convolutional networks").

Deviations: none from the paper's text, whose first convolution has 16 channels, 2k for the nets with bottlenecks and
compression ("BC"). The authors' released program has 2k for all; ``num_init_features=2 * k`` makes that. Weights are
drawn with fan_out, as that program does.
"""

from __future__ import annotations

from typing import Any

from gpunet.models._registry import register_model
from gpunet.models.densenet import DenseNet
from gpunet.models.recipes import CIFAR, register_recipe
from gpunet.nn.arguments import check_int

__all__ = ["cifar_densenet40_12", "cifar_densenet_bc_100_12", "make_cifar_densenet"]

# Depth L and growth rate k of the paper's table 2, and millions of parameters there.
#           L    k   M             L    k    M
# plain    40   12   1.0    BC   100   12   0.8
#         100   12   7.0         250   24  15.3
#         100   24  27.2         190   40  25.6
PLAIN_INIT_FEATURES = 16


def make_cifar_densenet(
    depth: int,
    growth_rate: int,
    bc: bool = False,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    num_init_features: int | None = None,
    drop_rate: float = 0.0,
    init: str = "paper",
) -> DenseNet:
    """A DenseNet of three blocks for small images.

    Args:
        depth: L = 3n + 4 layers, n in each block; 6n + 4 with bottlenecks, which have two.
        growth_rate: k.
        bc: bottlenecks of 4k channels, and transitions that halve the channels.
        num_classes: number of scores.
        in_channels: channels of the images; 32x32 in the paper, at least 4x4.
        num_init_features: channels of the first convolution; 16, and 2k for BC, by default.
        drop_rate: dropout after each layer; the paper has 0.2 where images are not augmented.
        init: see ``densenet``.

    Raises:
        ValueError: another depth, or an argument out of range.
        TypeError: an argument of another type.
    """
    each = 6 if bc else 3
    if check_int("make_cifar_densenet", "depth", depth, 1) < each + 4 or (depth - 4) % each:
        raise ValueError(f"depth: must be {each}n + 4 with n of at least 1, got {depth}")
    if num_init_features is None:
        num_init_features = 2 * growth_rate if bc else PLAIN_INIT_FEATURES
    return DenseNet(
        growth_rate,
        ((depth - 4) // each,) * 3,
        num_init_features,
        bn_size=4 if bc else 0,
        drop_rate=drop_rate,
        num_classes=num_classes,
        compression=0.5 if bc else 1.0,
        small_images=True,
        in_channels=in_channels,
        init=init,
    )


@register_model(image_size=32)
def cifar_densenet40_12(num_classes: int = 10, in_channels: int = 3, **kwargs: Any) -> DenseNet:
    """40 layers, k = 12, 1.0 M parameters; options of ``make_cifar_densenet``, depth and growth rate among them."""
    return _with_defaults(kwargs, num_classes, in_channels, depth=40, growth_rate=12, bc=False)


@register_model(image_size=32)
def cifar_densenet_bc_100_12(num_classes: int = 10, in_channels: int = 3, **kwargs: Any) -> DenseNet:
    """100 layers, k = 12, bottlenecks and compression, 0.8 M parameters; options of ``make_cifar_densenet``."""
    return _with_defaults(kwargs, num_classes, in_channels, depth=100, growth_rate=12, bc=True)


def _with_defaults(options: dict[str, Any], num_classes: int, in_channels: int, **defaults: Any) -> DenseNet:
    return make_cifar_densenet(**{**defaults, **options, "num_classes": num_classes, "in_channels": in_channels})


# With augmentation there is no dropout.
register_recipe(
    "paper",
    CIFAR.replace(
        epochs=300,
        batch_size=64,
        learning_rate=0.1,
        nesterov=True,
        weight_decay=1e-4,
        milestones=(0.5, 0.75),
        source="Huang et al. 2017, section 4.2 (C10+)",
    ),
    "cifar_densenet40_12",
    "cifar_densenet_bc_100_12",
)
