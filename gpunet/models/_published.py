"""The weights that torchvision publishes, and what they reach on ImageNet: torchvision 0.28's own table.

gpunet downloads nothing; the table says which file to fetch.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FOLDER", "PUBLISHED", "Published", "published"]

#: Where the files are.
FOLDER = "https://download.pytorch.org/models/"


class Published(NamedTuple):
    """One file.

    Args:
        model: the network's name, here and in torchvision.
        weights: torchvision's name for this training of it.
        top1, top5: accuracy on ImageNet's validation images (224x224, one crop) in percent, or None.
        file: the file's name, which ends with the beginning of its SHA-256.
    """

    model: str
    weights: str
    top1: float | None
    top5: float | None
    file: str


PUBLISHED = (
    Published("alexnet", "IMAGENET1K_V1", 56.522, 79.066, "alexnet-owt-7be5be79.pth"),
    Published("vgg11", "IMAGENET1K_V1", 69.02, 88.628, "vgg11-8a719046.pth"),
    Published("vgg11_bn", "IMAGENET1K_V1", 70.37, 89.81, "vgg11_bn-6002323d.pth"),
    Published("vgg13", "IMAGENET1K_V1", 69.928, 89.246, "vgg13-19584684.pth"),
    Published("vgg13_bn", "IMAGENET1K_V1", 71.586, 90.374, "vgg13_bn-abd245e5.pth"),
    Published("vgg16", "IMAGENET1K_V1", 71.592, 90.382, "vgg16-397923af.pth"),
    Published("vgg16", "IMAGENET1K_FEATURES", None, None, "vgg16_features-amdegroot-88682ab5.pth"),
    Published("vgg16_bn", "IMAGENET1K_V1", 73.36, 91.516, "vgg16_bn-6c64b313.pth"),
    Published("vgg19", "IMAGENET1K_V1", 72.376, 90.876, "vgg19-dcbb9e9d.pth"),
    Published("vgg19_bn", "IMAGENET1K_V1", 74.218, 91.842, "vgg19_bn-c79401a0.pth"),
    Published("googlenet", "IMAGENET1K_V1", 69.778, 89.53, "googlenet-1378be20.pth"),
    Published("resnet18", "IMAGENET1K_V1", 69.758, 89.078, "resnet18-f37072fd.pth"),
    Published("resnet34", "IMAGENET1K_V1", 73.314, 91.42, "resnet34-b627a593.pth"),
    Published("resnet50", "IMAGENET1K_V1", 76.13, 92.862, "resnet50-0676ba61.pth"),
    Published("resnet50", "IMAGENET1K_V2", 80.858, 95.434, "resnet50-11ad3fa6.pth"),
    Published("resnet101", "IMAGENET1K_V1", 77.374, 93.546, "resnet101-63fe2227.pth"),
    Published("resnet101", "IMAGENET1K_V2", 81.886, 95.78, "resnet101-cd907fc2.pth"),
    Published("resnet152", "IMAGENET1K_V1", 78.312, 94.046, "resnet152-394f9c45.pth"),
    Published("resnet152", "IMAGENET1K_V2", 82.284, 96.002, "resnet152-f82ba261.pth"),
    Published("densenet121", "IMAGENET1K_V1", 74.434, 91.972, "densenet121-a639ec97.pth"),
    Published("densenet161", "IMAGENET1K_V1", 77.138, 93.56, "densenet161-8d451a50.pth"),
    Published("densenet169", "IMAGENET1K_V1", 75.6, 92.806, "densenet169-b2777c0a.pth"),
    Published("densenet201", "IMAGENET1K_V1", 76.896, 93.37, "densenet201-c1103571.pth"),
)


def published(model: str) -> list[Published]:
    """What torchvision publishes for a network, the best last."""
    return sorted((row for row in PUBLISHED if row.model == model), key=lambda row: row.top1 or 0.0)
