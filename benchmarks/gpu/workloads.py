"""The convolutions that are timed: every distinct one of three networks, and depthwise ones as MobileNet has them.

The networks are written down as their papers' tables, and walked: what a layer sees follows from the layers before it.
A convolution that a network has several times is one workload with a count.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

__all__ = ["DIRECTIONS", "NETWORKS", "Conv", "Network", "network_workloads", "shrunk"]

DIRECTIONS = ("forward", "input gradient", "weight gradient")
FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Conv:
    """A 2-D convolution without bias, of square images and a square kernel.

    Attributes:
        batch: images, N.
        channels: of the input, C.
        size: height and width of the input.
        outputs: channels of the output, K.
        kernel, stride, padding, groups: as PyTorch has them.
    """

    batch: int
    channels: int
    size: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    @property
    def out_size(self) -> int:
        """Height and width of the output."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return self.batch, self.channels, self.size, self.size

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        """(K, C/G, R, S)."""
        return self.outputs, self.channels // self.groups, self.kernel, self.kernel

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        """(N, K, P, Q)."""
        return self.batch, self.outputs, self.out_size, self.out_size

    @property
    def macs(self) -> int:
        """Multiply-adds, the same in each direction; those on padding are counted, as the field does."""
        return math.prod(self.y_shape) * math.prod(self.w_shape[1:])

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each multiply-add."""
        return 2 * self.macs

    def least_bytes(self, direction: str) -> int:
        """The bytes of x, w and y, each once: what the direction must read and write in float32.

        A stride larger than the kernel passes pixels over; only the gradient to the input has to write those too.
        """
        n, c, size, _ = self.x_shape
        seen = size if direction == "input gradient" else min(size, self.out_size * self.kernel)
        return FLOAT32_BYTES * (n * c * seen * seen + math.prod(self.w_shape) + math.prod(self.y_shape))

    def terms(self, direction: str) -> int:
        """The products that are summed to one element of the result."""
        taps = self.kernel * self.kernel
        if direction == "forward":
            return self.channels // self.groups * taps
        if direction == "input gradient":
            return self.outputs // self.groups * taps
        return self.batch * self.out_size * self.out_size

    def __str__(self) -> str:
        moves = f"{self.kernel}x{self.kernel}" + (f"/{self.stride}" if self.stride != 1 else "")
        grouped = "" if self.groups == 1 else f" g{self.groups}"
        return f"{self.batch}x{self.channels}x{self.size}x{self.size} to {self.outputs}, {moves}{grouped}"


class Network(NamedTuple):
    """A network's convolutions.

    Attributes:
        name: as the table prints it.
        batch: how many images it is timed with, unless asked otherwise.
        convolutions: yields each of its convolutions, in order, for one image.
        quick: the numbers of the distinct ones that stand for it in a quick run.
    """

    name: str
    batch: int
    convolutions: list[Conv]
    quick: tuple[int, ...]


def _resnet50() -> Iterator[Conv]:
    """He et al. 2015, table 1, with the stride in the 3x3 convolution as torchvision has it (v1.5)."""
    yield Conv(1, 3, 224, 64, 7, 2, 3)
    channels, size = 64, 56
    for width, blocks, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            yield Conv(1, channels, size, width, 1)
            yield Conv(1, width, size, width, 3, stride, 1)
            yield Conv(1, width, size // stride, 4 * width, 1)
            if block == 0:
                yield Conv(1, channels, size, 4 * width, 1, stride)
            channels, size = 4 * width, size // stride


def _vgg16() -> Iterator[Conv]:
    """Simonyan and Zisserman 2014, table 1, column D; 2x2 max pooling after each group."""
    channels, size = 3, 224
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            yield Conv(1, channels, size, width, 3, 1, 1)
            channels = width
        size //= 2


def _cifar_resnet20() -> Iterator[Conv]:
    """He et al. 2015, section 4.2, with shortcut A, which has no convolutions of its own."""
    yield Conv(1, 3, 32, 16, 3, 1, 1)
    channels, size = 16, 32
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        for block in range(3):
            yield Conv(1, channels, size, width, 3, stride if block == 0 else 1, 1)
            size //= stride if block == 0 else 1
            channels = width
            yield Conv(1, channels, size, width, 3, 1, 1)


def _depthwise() -> Iterator[Conv]:
    """Howard et al. 2017 (MobileNet), table 1: the depthwise layers, each of which keeps its channels."""
    layers = [(32, 112, 1), (64, 112, 2), (128, 56, 1), (128, 56, 2), (256, 28, 1), (256, 28, 2)]
    layers += [(512, 14, 1)] * 5 + [(512, 14, 2), (1024, 7, 1)]
    for channels, size, stride in layers:
        yield Conv(1, channels, size, channels, 3, stride, 1, channels)


NETWORKS: dict[str, Network] = {
    "resnet50": Network("ResNet-50", 32, list(_resnet50()), (0, 2, 7, 12, 14, 16)),
    "vgg16": Network("VGG-16", 16, list(_vgg16()), (1, 5, 8)),
    "cifar_resnet20": Network("CIFAR ResNet-20", 128, list(_cifar_resnet20()), (0, 1, 2, 5)),
    "depthwise": Network("depthwise", 32, list(_depthwise()), (2, 3, 6)),
}


def network_workloads(name: str, batch: int | None = None, quick: bool = False) -> list[tuple[Conv, int]]:
    """The distinct convolutions of a network in the order in which they first come, each with how often it comes.

    Args:
        name: a key of ``NETWORKS``.
        batch: images; None is the network's own number.
        quick: only the few that stand for all.
    """
    network = NETWORKS[name]
    counts = Counter(network.convolutions)
    distinct = list(counts.items())
    if quick:
        distinct = [distinct[number] for number in network.quick]
    return [(replace(conv, batch=batch or network.batch), count) for conv, count in distinct]


def shrunk(conv: Conv) -> Conv:
    """The same kind of convolution on two images of a few pixels and channels, to try the benchmark on a CPU."""
    channels = min(conv.channels, 8)
    outputs = channels if conv.groups > 1 else min(conv.outputs, 12)
    groups = channels if conv.groups > 1 else 1
    size = min(conv.size, conv.kernel + 3 * conv.stride)
    return replace(conv, batch=2, channels=channels, outputs=outputs, groups=groups, size=size)
