"""Labelled images in memory, and the data sets known by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from gpunet.autograd import Tensor, from_numpy
from gpunet.backend.errors import DTypeError, ShapeError

from ._random import sample, uniforms_of
from .dataset import Dataset
from .info import DatasetInfo
from .transforms import apply_steps, batched

__all__ = [
    "ImageDataset",
    "ImageSplits",
    "describe",
    "get_dataset",
    "list_datasets",
    "load_npz",
    "register_dataset",
    "stratified_split",
]


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Labelled images held in memory as one array.

    A sample is (image, label): a float32 Tensor (C, H, W), transformed, and an int. A ``DataLoader`` gathers
    whole batches at once if the transform consists of ``gpunet.data.transforms``; with any other function it
    goes image by image.

    Args:
        images: float32 (N, C, H, W), of the value range that ``info`` says. Not copied.
        labels: integers (N,), 0 to the number of classes - 1.
        info: the description of the data set.
        transform: what is done to each image.

    Attributes:
        images: float32 (N, C, H, W).
        labels: int64 (N,).
        transform: may be replaced between two passes.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        info: DatasetInfo,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if images.ndim != 4 or images.shape[1:] != info.input_shape:
            raise ShapeError(f"images: expected (N, {', '.join(map(str, info.input_shape))}), got {images.shape}")
        if images.dtype != np.float32:
            raise DTypeError(f"images: expected float32, got {images.dtype}")
        if labels.shape != images.shape[:1]:
            raise ShapeError(f"labels: expected one per image ({len(images)}), got shape {labels.shape}")
        if labels.dtype.kind not in "ui":
            raise DTypeError(f"labels: expected integers, got {labels.dtype}")
        if labels.size and not (labels.min() >= 0 and labels.max() < info.num_classes):
            raise IndexError(f"labels: must be 0 to {info.num_classes - 1}, got {labels.min()} to {labels.max()}")
        self.images, self.labels, self.info = images, labels.astype(np.int64), info
        self.transform = transform

    @property
    def transform(self) -> Callable[[Any], Any] | None:
        return self._transform

    @transform.setter
    def transform(self, transform: Callable[[Any], Any] | None) -> None:
        if transform is not None and not callable(transform):
            raise TypeError(f"transform: expected a function of an image, got {type(transform).__name__}")
        self._transform = transform
        self._steps = batched(transform)

    @property
    def classes(self) -> tuple[str, ...]:
        """One name per class."""
        return self.info.classes

    @property
    def can_gather(self) -> bool:
        """Whether the transform can be applied to whole batches."""
        return self._steps is not None

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        position = range(len(self))[index]
        image: Any = from_numpy(self.images[position].copy())
        if self._transform is not None:
            with sample(position):
                image = self._transform(image)
        return image, int(self.labels[position])

    def __getbatch__(self, indices: Sequence[int]) -> list[Tensor]:
        positions = [range(len(self))[index] for index in indices]
        images = self.images[positions]
        steps = self._steps
        assert steps is not None
        if steps:
            images = apply_steps(steps, images, uniforms_of(positions, sum(step.draws for step in steps)))
        return [from_numpy(images), from_numpy(self.labels[positions])]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class ImageSplits:
    """The two parts of a data set, and its description.

    Attributes:
        train: to learn from.
        test: to measure on.
        info: computed from the training part alone.
    """

    train: ImageDataset
    test: ImageDataset
    info: DatasetInfo


def stratified_split(
    labels: np.ndarray, test_share: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Split at random such that every class has the same share in both parts, as nearly as can be.

    The test part has ``ceil(test_share * N)`` images. Each class gets its share of them rounded down, and
    what is left goes to the classes with the largest remainders, the lower class first between equals. Then,
    for one class after the other, a permutation of its images is drawn and the first so many are taken.

    Args:
        labels: (N,).
        test_share: in (0, 1).
        generator: one permutation per class is drawn from it.

    Returns:
        (train, test): indices, ascending.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size < 2:
        raise ShapeError(f"labels: expected at least two in one dimension, got shape {labels.shape}")
    if not 0 < test_share < 1:
        raise ValueError(f"test_share: must be between 0 and 1, got {test_share}")
    classes, counts = np.unique(labels, return_counts=True)
    size = min(int(np.ceil(test_share * labels.size)), labels.size - 1)
    # In whole numbers, where a remainder is exact: count * size = quota * N + remainder.
    quotas, remainders = np.divmod(counts * size, labels.size)
    for position in np.argsort(-remainders, kind="stable")[: size - quotas.sum()]:
        quotas[position] += 1
    test = np.sort(
        np.concatenate(
            [
                generator.permutation(np.flatnonzero(labels == label))[:quota]
                for label, quota in zip(classes, quotas, strict=True)
            ]
        )
    )
    return np.setdiff1d(np.arange(labels.size), test), test


def describe(
    name: str,
    train_images: np.ndarray,
    classes: Sequence[str],
    value_range: tuple[float, float] = (0.0, 1.0),
    licence: str = "",
    source: str = "",
) -> DatasetInfo:
    """The description of a data set, computed from its training images.

    Args:
        name: of the data set.
        train_images: float32 (N, C, H, W).
        classes: one name per class.
        value_range: black and white.
        licence: of the data.
        source: of the data.
    """
    pixels = train_images.astype(np.float64)
    std = pixels.std((0, 2, 3))
    polarity, ink_extent = _ink(pixels[:, 0], value_range) if train_images.shape[1] == 1 else (None, None)
    return DatasetInfo(
        name=name,
        classes=tuple(classes),
        input_shape=train_images.shape[1:],
        mean=tuple(pixels.mean((0, 2, 3)).tolist()),
        std=tuple(np.where(std > 0, std, 1.0).tolist()),
        value_range=value_range,
        polarity=polarity,
        ink_extent=ink_extent,
        licence=licence,
        source=source,
    )


def _ink(images: np.ndarray, value_range: tuple[float, float]) -> tuple[str | None, float | None]:
    """Polarity of greyscale images (N, H, W) and how much of the frame they fill; None for photographs."""
    black, white = value_range
    values = (images - black) / (white - black)
    border = np.concatenate(
        [values[:, [0, -1]].reshape(len(values), -1), values[:, :, [0, -1]].reshape(len(values), -1)], 1
    )
    # The background of a drawing is flat and either black or white, in nearly every image.
    background = np.median(border, 1)
    for polarity, is_background in (("light-on-dark", background < 0.2), ("dark-on-light", background > 0.8)):
        if is_background.mean() > 0.9:
            ink = values if polarity == "light-on-dark" else 1 - values
            marked = ink > 0.5 * ink.max((1, 2), keepdims=True)
            sides = [_extents(marked.any(axis)) / marked.shape[3 - axis] for axis in (1, 2)]
            return polarity, float(np.median(np.maximum(*sides)))
    return None, None


def _extents(marked: np.ndarray) -> np.ndarray:
    """From the first to the last True of each row."""
    return marked.shape[1] - marked.argmax(1) - marked[:, ::-1].argmax(1)


_DATASETS: dict[str, Callable[[], ImageSplits]] = {}


def register_dataset(name: str) -> Callable[[Callable[[], ImageSplits]], Callable[[], ImageSplits]]:
    """Make a function that returns ``ImageSplits`` known to ``get_dataset`` under a name. A decorator.

    Raises:
        ValueError: the name is taken.
    """

    def register(load: Callable[[], ImageSplits]) -> Callable[[], ImageSplits]:
        if name in _DATASETS:
            raise ValueError(f"name: a data set {name!r} is there already")
        _DATASETS[name] = load
        return load

    return register


def list_datasets() -> list[str]:
    """The names ``get_dataset`` knows."""
    return sorted(_DATASETS)


def get_dataset(name: str | PathLike[str]) -> ImageSplits:
    """A data set by its name, or from a file ``*.npz`` (see ``load_npz``).

    Raises:
        ValueError: no such name (the message has the nearest ones), or a file that does not hold a data set.
        FileNotFoundError: no such file.
    """
    text = str(name)
    if text in _DATASETS:
        return _DATASETS[text]()
    if text.endswith(".npz"):
        return load_npz(text)
    import difflib

    near = difflib.get_close_matches(text.lower(), _DATASETS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there is {', '.join(list_datasets())}"
    raise ValueError(f"data: unknown data set {text!r}; {hint}, or give a file that ends in .npz")


def load_npz(path: str | PathLike[str]) -> ImageSplits:
    """A data set from a NumPy file.

    The file holds ``x_train``, ``y_train``, ``x_test``, ``y_test``; or ``images`` and ``labels``, of which a
    fifth is taken for testing by ``stratified_split`` with ``numpy.random.default_rng(0)``, unless
    ``test_index`` lists the test images. Images are (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3
    channels; labels are 0, 1, 2, ...

    ``value_range``, two numbers, says what black and white are. Without it uint8 is 0 to 255, uint16 0 to
    65535, and floating point 0 to 1. Images come out as float32 in 0..1. ``classes`` may hold the names of
    the classes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file; the message names the array and the rule.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    if "images" in arrays:
        images, labels = _pick(path, arrays, "images", "labels")
        _check_labels(path, "labels", labels, images)
        if "test_index" in arrays:
            train, test = _listed_split(path, arrays["test_index"], len(images))
        else:
            train, test = stratified_split(labels, 0.2, np.random.default_rng(0))
        parts = {"images": (images[train], labels[train]), "images (test)": (images[test], labels[test])}
    else:
        x_train, y_train, x_test, y_test = _pick(path, arrays, "x_train", "y_train", "x_test", "y_test")
        _check_labels(path, "y_train", y_train, x_train)
        _check_labels(path, "y_test", y_test, x_test)
        parts = {"x_train": (x_train, y_train), "x_test": (x_test, y_test)}
    given_range = _value_range(path, arrays)
    (train_images, train_labels), (test_images, test_labels) = (
        (_prepare_images(path, key, part_images, given_range), part_labels)
        for key, (part_images, part_labels) in parts.items()
    )
    if train_images.shape[1:] != test_images.shape[1:]:
        raise ShapeError(
            f"{path}: training images are {train_images.shape[1:]}, but test images {test_images.shape[1:]}"
        )
    count = int(max(train_labels.max(), test_labels.max())) + 1
    classes = _classes(path, arrays, count)
    info = describe(path.name, train_images, classes, source=path.name)
    return ImageSplits(
        ImageDataset(train_images, train_labels, info), ImageDataset(test_images, test_labels, info), info
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    import zipfile

    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        # Opened here, because np.load leaves the file of a broken archive open.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a NumPy .npz file of plain arrays: {reason}") from error


def _pick(path: Path, arrays: dict[str, np.ndarray], *names: str) -> list[np.ndarray]:
    for name in names:
        if name not in arrays:
            raise ValueError(
                f"{path}: the array {name!r} is missing (a data set has x_train, y_train, x_test and y_test, "
                f"or images and labels); the file has {', '.join(sorted(arrays)) or 'none'}"
            )
    return [arrays[name] for name in names]


def _check_labels(path: Path, name: str, labels: np.ndarray, images: np.ndarray) -> None:
    if labels.ndim != 1 or images.ndim == 0 or len(labels) != len(images):
        raise ShapeError(f"{path}: {name}: expected one label per image, got {labels.shape} for {images.shape}")
    if labels.size < 2:
        raise ValueError(f"{path}: {name}: expected at least two images, got {labels.size}")
    if labels.dtype.kind not in "ui" or labels.min() < 0:
        raise ValueError(f"{path}: {name}: labels must be whole numbers from 0 on")


def _listed_split(path: Path, test: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    listed = test.ndim == 1 and test.size > 0 and test.dtype.kind in "ui"
    if not listed or test.min() < 0 or test.max() >= count:
        raise ValueError(f"{path}: test_index: expected indices of images, 0 to {count - 1}")
    train = np.setdiff1d(np.arange(count), test)
    if not train.size:
        raise ValueError(f"{path}: test_index: leaves no image for training")
    return train, test


def _value_range(path: Path, arrays: dict[str, np.ndarray]) -> tuple[float, float] | None:
    if "value_range" not in arrays:
        return None
    values = arrays["value_range"].reshape(-1)
    if values.size != 2 or values.dtype.kind not in "uif" or not values[0] < values[1]:
        raise ValueError(f"{path}: value_range: expected (black, white) with black < white, got {values.tolist()}")
    return float(values[0]), float(values[1])


def _prepare_images(path: Path, name: str, images: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """The images as float32 (N, C, H, W) in 0..1."""
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ShapeError(f"{path}: {name}: expected (N, H, W) or (N, C, H, W) with 1 or 3 channels, got {images.shape}")
    if images.dtype.kind not in "uif":
        raise DTypeError(f"{path}: {name}: expected numbers, got {images.dtype}")
    if value_range is None:
        known = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}
        if images.dtype.kind != "f" and images.dtype not in known:
            raise ValueError(f"{path}: {name}: {images.dtype} images need an array value_range (black, white)")
        value_range = (0.0, known.get(images.dtype, 1.0))
    low, high = images.min(), images.max()
    black, white = value_range
    if not (low >= black and high <= white):
        raise ValueError(
            f"{path}: {name}: pixels must be numbers within {black:g} to {white:g}, got {low:g} to {high:g} "
            f"(an array value_range may say otherwise)"
        )
    scaled = (images.astype(np.float64) - black) / (white - black)
    return np.ascontiguousarray(scaled, np.float32)


def _classes(path: Path, arrays: dict[str, np.ndarray], count: int) -> list[str]:
    if "classes" not in arrays:
        return [str(label) for label in range(count)]
    names = arrays["classes"]
    if names.ndim != 1 or names.dtype.kind != "U" or len(names) < count:
        raise ValueError(f"{path}: classes: expected at least {count} names, got {names.dtype} {names.shape}")
    return [str(name) for name in names]
