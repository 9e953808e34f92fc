"""Each family of the model zoo, small enough to learn the bundled handwritten digits in a minute on two CPU cores.

    python examples/digits_zoo.py                         # resnet18
    python examples/digits_zoo.py resnet18 densenet       # some
    python examples/digits_zoo.py --all                   # all fourteen, some minutes
    python examples/digits_zoo.py --validate vgg11        # on a fifth of the training images, which is held out

The networks are the classes of ``gpunet.models`` with fewer channels, and the digits of 8x8 pixels are scaled up as far
as a network needs. For each the test accuracy and the seconds are printed. The learning rates and epochs were chosen
with ``--validate``, without a look at the test images. Ends with status 1 if an accuracy is below 95 %.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import gpunet as gn
from gpunet import models, nn
from gpunet.data import Digits, TensorDataset
from gpunet.data.transforms import Compose, Normalize, Resize
from gpunet.utils.data import DataLoader

CLASSES, BATCH, BAR = 10, 32, 0.95
TWO = ("cpu:0", "cpu:1")
GREY: dict[str, Any] = {"num_classes": CLASSES, "in_channels": 1}


@dataclass(frozen=True)
class Variant:
    """A small network of a family, and how it is trained.

    Attributes:
        make: makes it.
        size: side of the images in pixels.
        learning_rate: the highest of a one-cycle schedule.
        epochs: passes over the training images.
    """

    make: Callable[[], nn.Module]
    size: int
    learning_rate: float
    epochs: int


def redrawn(model: nn.Module) -> nn.Module:
    """The paper's N(0, 0.01^2) suits layers as wide as the paper's; in narrow ones the signal would die away."""
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def awake(model: models.NiN) -> models.NiN:
    """ReLU follows the scores too: a class whose map starts at zero for every image would stay there for ever."""
    last = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)][-1]
    nn.init.ones_(last.bias)
    return model


class SmallPaperGoogLeNet(models.PaperGoogLeNet):
    """With auxiliary heads for small images: the paper's 5x5 windows with stride 3 want images of 224 pixels."""

    def aux_pool(self) -> nn.Module:
        return nn.AdaptiveAvgPool2d(4)


VARIANTS = {
    # AlexNet of 2012, an eighth as wide: on one device, and on two that may not touch each other's arrays.
    "alexnet2012_grouped": Variant(
        lambda: redrawn(models.alexnet2012_grouped(dropout=0.2, input_size=67, width=1 / 8, **GREY)), 67, 0.01, 12
    ),
    "alexnet2012": Variant(
        lambda: redrawn(models.alexnet2012(devices=TWO, dropout=0.2, input_size=67, width=1 / 8, **GREY)), 67, 0.01, 12
    ),
    "alexnet": Variant(lambda: redrawn(models.alexnet(dropout=0.2, width=1 / 8, **GREY)), 64, 0.005, 12),
    "vgg11": Variant(lambda: redrawn(models.vgg11(dropout=0.2, width=1 / 8, **GREY)), 32, 0.01, 10),
    "vgg11_bn": Variant(lambda: models.vgg11_bn(dropout=0.2, width=1 / 8, **GREY), 32, 0.02, 8),
    "nin": Variant(lambda: awake(models.nin_cifar10(dropout=0.2, width=1 / 4, **GREY)), 16, 0.01, 18),
    "googlenet": Variant(lambda: models.googlenet(width=1 / 8, **GREY), 32, 0.05, 12),
    "googlenet_paper": Variant(lambda: redrawn(SmallPaperGoogLeNet(width=1 / 8, **GREY)), 32, 0.01, 12),
    "resnet18": Variant(lambda: models.resnet18(width=8, **GREY), 32, 0.05, 8),
    "cifar_resnet20": Variant(lambda: models.cifar_resnet20(**GREY), 8, 0.05, 6),
    "preact_resnet18": Variant(lambda: models.preact_resnet18(width=8, **GREY), 32, 0.05, 6),
    "cifar_preact_resnet20": Variant(lambda: models.cifar_preact_resnet20(**GREY), 8, 0.05, 6),
    "densenet": Variant(lambda: models.DenseNet(8, (2, 4, 4, 2), 16, **GREY), 32, 0.05, 6),
    "cifar_densenet_bc": Variant(lambda: models.make_cifar_densenet(22, 8, bc=True, **GREY), 8, 0.05, 8),
}


DEFAULT = "resnet18"


def images_of(train: bool, size: int) -> TensorDataset:
    """The digits as a network shall see them, (1, size, size)."""
    digits = Digits(train)
    prepare = Compose([Resize(size), Normalize(digits.info.mean, digits.info.std)])
    pixels = np.stack([prepare(image) for image in digits.images])
    return TensorDataset(gn.from_numpy(pixels), gn.from_numpy(digits.labels.astype(np.int64)))


def train(variant: Variant, images: TensorDataset) -> nn.Module:
    """A new network, trained with SGD and Nesterov's momentum on a one-cycle learning rate."""
    gn.manual_seed(0)
    model = variant.make()
    loader = DataLoader(images, batch_size=BATCH, shuffle=True)
    optimizer = gn.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = variant.epochs * len(loader)
    schedule = gn.optim.lr_scheduler.OneCycleLR(
        optimizer, variant.learning_rate, total_steps=steps, cycle_momentum=False
    )
    for _ in range(variant.epochs):
        for pixels, labels in loader:
            optimizer.zero_grad()
            # The cross-entropy; GoogLeNet gives scores of three heads in training, and two of them count 0.3.
            loss = models.googlenet_loss(model(pixels), labels)
            loss.backward()
            optimizer.step()
            schedule.step()
    return model


def accuracy(model: nn.Module, images: TensorDataset) -> float:
    """The share of right answers."""
    model.eval()
    right = 0
    with gn.no_grad():
        for pixels, labels in DataLoader(images, batch_size=128):
            right += int((model(pixels).argmax(1) == labels).sum().item())
    return right / len(images)


def split(images: TensorDataset) -> tuple[TensorDataset, TensorDataset]:
    """Four fifths to train on, and every fifth to choose by."""
    held_out = np.arange(len(images)) % 5 == 0
    parts = [
        TensorDataset(*(gn.from_numpy(t.numpy()[which]) for t in images.tensors)) for which in (~held_out, held_out)
    ]
    return parts[0], parts[1]


def main() -> int:
    """Train, test, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(VARIANTS)} ({DEFAULT})")
    parser.add_argument("--all", action="store_true", help="every network")
    parser.add_argument("--validate", action="store_true", help="hold out training images instead of testing")
    parser.add_argument("--lr", type=float, help="another learning rate")
    parser.add_argument("--epochs", type=int, help="more or fewer")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(VARIANTS)
    if unknown:
        parser.error(f"unknown {', '.join(sorted(unknown))}; there are {', '.join(VARIANTS)}")

    worst = 1.0
    for name in VARIANTS if arguments.all else arguments.names or [DEFAULT]:
        chosen = VARIANTS[name]
        variant = Variant(
            chosen.make, chosen.size, arguments.lr or chosen.learning_rate, arguments.epochs or chosen.epochs
        )
        start = time.perf_counter()
        images = images_of(True, variant.size)
        if arguments.validate:
            images, others = split(images)
        else:
            others = images_of(False, variant.size)
        model = train(variant, images)
        result = accuracy(model, others)
        parameters = sum(p.numel() for p in model.parameters())
        what = "validation" if arguments.validate else "test"
        print(
            f"{name:22s} {parameters:>9,} parameters, {variant.size}x{variant.size} pixels: {what} accuracy "
            f"{result:.4f}, {time.perf_counter() - start:.1f} s",
            flush=True,
        )
        worst = min(worst, result)
    return 0 if worst >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
