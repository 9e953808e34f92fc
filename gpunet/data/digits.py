"""The bundled data set: 1,797 handwritten digits of 8x8 pixels, 1,437 for training and 360 for testing.

E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998, CC
BY 4.0. DIGITS.md tells how the file was made and how the test set was drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .info import DatasetInfo
from .vision import ImageDataset, ImageSplits, register_dataset

__all__ = ["DIGITS_INFO", "Digits", "load_digits", "load_digits_split"]

FILE = Path(__file__).with_name("digits.npz")
WHITE = 16

# Mean and standard deviation are those of the training images, of pixels in 0..1.
DIGITS_INFO = DatasetInfo(
    name="digits",
    classes=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
    input_shape=(1, 8, 8),
    mean=(0.30553086,),
    std=(0.37611295,),
    value_range=(0.0, 1.0),
    polarity="light-on-dark",
    ink_extent=1.0,
    licence="CC BY 4.0",
    source=(
        "E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, "
        "UCI Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49"
    ),
)


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """All digits as they were published.

    Returns:
        (images, labels): uint8 (1797, 8, 8) of 0 (paper) to 16 (ink), and uint8 (1797,).
    """
    arrays = _arrays()
    return arrays["images"].copy(), arrays["labels"].copy()


def load_digits_split() -> tuple[np.ndarray, np.ndarray]:
    """Which of the digits are for training and which for testing.

    Returns:
        (train, test): 1,437 and 360 indices, ascending.
    """
    test = _arrays()["test_index"].astype(np.int64)
    return np.setdiff1d(np.arange(len(_arrays()["labels"])), test), test


class Digits(ImageDataset):
    """The bundled digits: samples (image, label) with float32 images (1, 8, 8) in 0 (paper) to 1 (ink).

    ``info.mean`` and ``info.std`` are for ``transforms.Normalize``.

    Args:
        train: the 1,437 training images, or the 360 test images.
        transform: what is done to each image.
    """

    def __init__(self, train: bool = True, transform: Callable[[Any], Any] | None = None) -> None:
        images, labels = _part(bool(train))
        super().__init__(images, labels, DIGITS_INFO, transform)
        self.train = bool(train)


@register_dataset("digits")
def _splits() -> ImageSplits:
    return ImageSplits(Digits(train=True), Digits(train=False), DIGITS_INFO)


@cache
def _arrays() -> dict[str, np.ndarray]:
    with np.load(FILE, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@cache
def _part(train: bool) -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits()
    chosen = load_digits_split()[0 if train else 1]
    pixels = images[chosen, None].astype(np.float32) / np.float32(WHITE)
    # Shared by every Digits.
    pixels.flags.writeable = False
    return pixels, labels[chosen]
