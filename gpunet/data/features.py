"""Image features made by hand, as they were before networks learnt theirs: colours, gradients, visual words.

Each turns images into vectors for a linear classifier. They are fixed: nothing in them learns from labels, and what
they leave out (position, say, or colour) no classifier can bring back::

    vectors = gn.cat([features.hog(images), features.hue_histogram(images)], 1)  # 144 + 10 numbers of 32x32 pixels
    scores = nn.Linear(154, 10)(vectors)

``hog`` and learning a code book need scikit-image and scikit-learn (``pip install 'gpunet[features]'``); the others
need NumPy alone. Everything is computed on the CPU, and nothing is differentiable.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from gpunet.autograd import Tensor, as_tensor, from_numpy
from gpunet.backend.errors import ShapeError

from ._checks import check_count

__all__ = ["BagOfVisualWords", "FeaturesUnavailableError", "hog", "hue_histogram", "polar"]

# Squared distances held at a time: 32 MB of float64.
DISTANCES_AT_ONCE = 1 << 22


class FeaturesUnavailableError(RuntimeError):
    """scikit-image or scikit-learn, which are optional dependencies, is not installed."""


def hue_histogram(images: Any, bins: int = 10, normalize: bool = True) -> Tensor:
    """How often each hue occurs in an image, wherever in it.

    The hue is the angle of a colour around the grey axis, 0 to 1 for red, yellow, green, cyan, blue, magenta and back
    (Smith 1978, "Color gamut transform pairs"). Bin b counts the hues in [b / bins, (b + 1) / bins), so pure red is in
    bin 0, and so is what has no hue: black, white and grey.

    Args:
        images: (N, 3, H, W) or (3, H, W), red, green and blue, of any scale: hue does not depend on brightness.
        bins: how many.
        normalize: divide by the number of pixels.

    Returns:
        float32 (N, bins) or (bins,), whose sum is 1 for each image, or its number of pixels.

    Raises:
        ShapeError: not three channels, or no pixels.
        TypeError, ValueError: bins that are no whole number above 0, or values below 0 or not finite.
    """
    _check_positive("hue_histogram", "bins", bins)
    batch, single = _batch("hue_histogram", images)
    if batch.shape[1] != 3:
        raise ShapeError(f"hue_histogram: images must have 3 channels (red, green, blue), got {batch.shape[1]}")
    _check_values("hue_histogram", batch, least=0.0)
    red, green, blue = batch[:, 0], batch[:, 1], batch[:, 2]
    largest = batch.max(axis=1)
    chroma = largest - batch.min(axis=1)
    divisor = np.where(chroma > 0, chroma, 1.0)
    sixths = np.select(
        [chroma == 0, largest == red, largest == green],
        [0.0, (green - blue) / divisor % 6, (blue - red) / divisor + 2],
        (red - green) / divisor + 4,
    )
    # A hue just below red may be rounded to a whole turn.
    which = (sixths / 6 * bins).astype(np.int64) % bins
    counts = np.stack([np.bincount(one.ravel(), minlength=bins) for one in which]).astype(np.float64)
    return _result(counts / which[0].size if normalize else counts, single)


def hog(images: Any, orientations: int = 9, cell_size: int = 8, block_size: int = 1) -> Tensor:
    """Histograms of oriented gradients (Dalal and Triggs 2005), by scikit-image: which edges there are in each cell.

    An image is cut into cells; in each, every pixel adds the magnitude of its gradient to the bin of its orientation,
    of which there are ``orientations`` over half a turn. Blocks of cells are then scaled to length 1 (L2-Hys). With
    the default of one cell a block, 32x32 pixels give 4 * 4 * 9 = 144 numbers and 320x240 give 40 * 30 * 9 = 10,800.

    A vertical edge has its gradient across, at 0 degrees: the first bin. Of images with several channels, each pixel
    counts with the channel where its gradient is largest.

    Args:
        images: (N, C, H, W), (C, H, W) or (H, W).
        orientations: bins of a cell.
        cell_size: height and width of a cell, in pixels.
        block_size: height and width of a block, in cells. Blocks overlap: they are one cell apart.

    Returns:
        float32 (N, D) or (D,), where D = (rows - b + 1) (columns - b + 1) b^2 orientations with b the block size.

    Raises:
        FeaturesUnavailableError: scikit-image is not installed.
        ShapeError: images of another rank, or smaller than a block.
        TypeError, ValueError: no whole numbers above 0, or values that are not finite.
    """
    for name, value in (("orientations", orientations), ("cell_size", cell_size), ("block_size", block_size)):
        _check_positive("hog", name, value)
    batch, single = _batch("hog", images)
    if min(batch.shape[2:]) < cell_size * block_size:
        raise ShapeError(
            f"hog: images of {batch.shape[2]}x{batch.shape[3]} pixels are smaller than a block of "
            f"{cell_size * block_size}x{cell_size * block_size}"
        )
    _check_values("hog", batch)
    try:
        from skimage.feature import hog as hog_of
    except ImportError as error:
        raise _unavailable("hog", "scikit-image") from error
    rows = [
        hog_of(
            image.transpose(1, 2, 0), orientations, (cell_size, cell_size), (block_size, block_size),
            block_norm="L2-Hys", channel_axis=-1,
        )
        for image in batch
    ]  # fmt: skip
    return _result(np.stack(rows), single)


def polar(points: Any) -> Tensor:
    """Radius and angle of points of the plane: features in which rings around the origin are apart by one threshold.

    Args:
        points: (N, 2) or (2,), x and y.

    Returns:
        float32 of the same shape: radius, and angle in (-pi, pi].

    Raises:
        TypeError: no numbers.
        ShapeError: not pairs.
        ValueError: values that are not finite.
    """
    tensor = _tensor("polar", "points", points)
    if tensor.ndim not in (1, 2) or tensor.shape[-1] != 2:
        raise ShapeError(f"polar: points must be (N, 2) or (2,), got shape {tuple(tensor.shape)}")
    array = tensor.detach().cpu().numpy().astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError("polar: points must be finite")
    x, y = np.moveaxis(array, -1, 0)
    return from_numpy(np.stack([np.hypot(x, y), np.arctan2(y, x)], -1).astype(np.float32))


class BagOfVisualWords:
    """Images as counts of visual words: which of k typical patches they are made of, wherever those are.

    ``fit`` collects patches and groups them by k-means (scikit-learn's); the middles of the groups are the words of the
    code book. ``transform`` replaces each patch of an image by its nearest word, and counts (Csurka et al. 2004,
    "Visual categorization with bags of keypoints"). The words are *visual*, that is, small pictures:
    ``gn.inspect.plot_filters(bag.words)`` shows them.

    Args:
        k: words in the code book.
        patch_size: height and width of a patch, in pixels.
        stride: pixels from one patch to the next; None is ``patch_size`` (they touch).
        normalize: take each patch's mean away and scale it to length 1, so that a word means a shape, whatever the
            light. Patches that are the same everywhere stay zero.
        max_patches: patches that ``fit`` learns from, at least ``k``; of more, it draws so many.
        seed: of that draw and of k-means. The same seed and images give the same code book.

    Attributes:
        codebook: float32 (k, d) with d = C * patch_size^2, once fitted.

    Raises:
        TypeError, ValueError: no whole numbers above 0, or fewer patches to learn from than words.
    """

    def __init__(
        self,
        k: int = 50,
        patch_size: int = 6,
        stride: int | None = None,
        *,
        normalize: bool = True,
        max_patches: int = 10_000,
        seed: int = 0,
    ) -> None:
        stride = patch_size if stride is None else stride
        for name, value in (
            ("k", k), ("patch_size", patch_size), ("stride", stride), ("max_patches", max_patches)
        ):  # fmt: skip
            _check_positive("BagOfVisualWords", name, value)
        if max_patches < k:
            raise ValueError(f"BagOfVisualWords: max_patches must be at least k = {k}, got {max_patches}")
        check_count("BagOfVisualWords: seed", seed)
        self.k, self.patch_size, self.stride = k, patch_size, stride
        self.normalize, self.max_patches, self.seed = bool(normalize), max_patches, seed
        self._codebook: np.ndarray | None = None
        self._channels = 0

    @property
    def codebook(self) -> Tensor:
        """The words as vectors, (k, d)."""
        return from_numpy(self._fitted().copy())

    @property
    def words(self) -> Tensor:
        """The words as pictures, (k, C, patch_size, patch_size)."""
        return self.codebook.reshape(self.k, self._channels, self.patch_size, self.patch_size)

    def fit(self, images: Any) -> BagOfVisualWords:
        """Learn the code book from images; their labels are not needed.

        Args:
            images: (N, C, H, W) or (C, H, W).

        Raises:
            FeaturesUnavailableError: scikit-learn is not installed.
            ShapeError: images of another rank, or smaller than a patch.
            ValueError: fewer patches than words, counting equal ones once, or values that are not finite.
        """
        batch, _ = _batch("BagOfVisualWords", images)
        _check_values("BagOfVisualWords", batch)
        patches = self._patches(batch).reshape(-1, batch.shape[1] * self.patch_size**2)
        if len(patches) < self.k:
            raise ValueError(f"BagOfVisualWords: {len(patches)} patches are too few for k = {self.k} words")
        try:
            from sklearn.cluster import KMeans
            from sklearn.exceptions import ConvergenceWarning
        except ImportError as error:
            raise _unavailable("BagOfVisualWords.fit", "scikit-learn") from error
        from threadpoolctl import threadpool_limits

        if len(patches) > self.max_patches:
            chosen = np.random.default_rng(self.seed).choice(len(patches), self.max_patches, replace=False)
            patches = patches[np.sort(chosen)]
        # With one thread, so that sums are made in one order: the same seed gives the same words.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)  # fewer groups than k: words would be there twice
            try:
                means = KMeans(self.k, init="k-means++", n_init=1, random_state=self.seed).fit(patches)
            except ConvergenceWarning as error:
                different = len(np.unique(patches, axis=0))
                raise ValueError(
                    f"BagOfVisualWords: {different} different patches are too few for k = {self.k} words"
                ) from error
        self._codebook, self._channels = means.cluster_centers_.astype(np.float32), batch.shape[1]
        return self

    def transform(self, images: Any, normalize: bool = False) -> Tensor:
        """Count the words of each image.

        Args:
            images: (N, C, H, W) or (C, H, W), with the channels of those that it was fitted to.
            normalize: divide by the number of patches.

        Returns:
            float32 (N, k) or (k,), whose sum is each image's number of patches, or 1.

        Raises:
            RuntimeError: not fitted yet.
            ShapeError: images of another rank, with other channels, or smaller than a patch.
            ValueError: values that are not finite.
        """
        words = self._fitted().astype(np.float64)
        batch, single = _batch("BagOfVisualWords", images)
        if batch.shape[1] != self._channels:
            raise ShapeError(
                f"BagOfVisualWords: fitted to images of {self._channels} channels, got images of {batch.shape[1]}"
            )
        _check_values("BagOfVisualWords", batch)
        patches = self._patches(batch)
        flat = patches.reshape(-1, words.shape[1])
        nearest = np.empty(len(flat), np.int64)
        step = max(1, DISTANCES_AT_ONCE // self.k)
        for start in range(0, len(flat), step):
            # |p - w|^2 without |p|^2, which is the same for all words.
            part = flat[start : start + step]
            nearest[start : start + step] = ((words**2).sum(1) - 2 * part @ words.T).argmin(1)
        per_image = patches.shape[1]
        counts = np.stack([np.bincount(one, minlength=self.k) for one in nearest.reshape(len(batch), per_image)])
        return _result(counts / per_image if normalize else counts, single)

    def fit_transform(self, images: Any, normalize: bool = False) -> Tensor:
        """``fit`` and then ``transform`` the same images."""
        return self.fit(images).transform(images, normalize)

    def __repr__(self) -> str:
        return f"BagOfVisualWords(k={self.k}, patch_size={self.patch_size}, stride={self.stride})"

    def _fitted(self) -> np.ndarray:
        if self._codebook is None:
            raise RuntimeError("BagOfVisualWords: there is no code book before fit(images)")
        return self._codebook

    def _patches(self, batch: np.ndarray) -> np.ndarray:
        """(N, patches of an image, d), row by row."""
        size = self.patch_size
        if min(batch.shape[2:]) < size:
            raise ShapeError(
                f"BagOfVisualWords: images of {batch.shape[2]}x{batch.shape[3]} pixels are smaller than a patch of "
                f"{size}x{size}"
            )
        windows = np.lib.stride_tricks.sliding_window_view(batch, (size, size), (2, 3))
        windows = windows[:, :, :: self.stride, :: self.stride].transpose(0, 2, 3, 1, 4, 5)
        patches = windows.reshape(len(batch), -1, batch.shape[1] * size**2)
        if self.normalize:
            patches = patches - patches.mean(-1, keepdims=True)
            length = np.linalg.norm(patches, axis=-1, keepdims=True)
            # A patch of one shade differs from its mean by rounding alone, which is no shape.
            scale = np.abs(batch).max() * math.sqrt(patches.shape[-1])
            patches = patches / np.where(length > 1e-6 * scale, length, np.inf)
        return patches


def _unavailable(function: str, package: str) -> FeaturesUnavailableError:
    return FeaturesUnavailableError(
        f"{function} needs {package}, which is not installed: pip install 'gpunet[features]'"
    )


def _check_positive(function: str, name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{function}: {name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{function}: {name} must be at least 1, got {value}")


def _tensor(function: str, name: str, value: Any) -> Tensor:
    try:
        return as_tensor(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{function}: {name} must be numbers, got {type(value).__name__}") from error


def _batch(function: str, images: Any) -> tuple[np.ndarray, bool]:
    """The images as float64 (N, C, H, W), and whether it was one alone."""
    tensor = _tensor(function, "images", images)
    shape = tuple(tensor.shape)
    if len(shape) not in (2, 3, 4):
        raise ShapeError(f"{function}: images must be (N, C, H, W), (C, H, W) or (H, W), got shape {shape}")
    if 0 in shape:
        raise ShapeError(f"{function}: images have no pixels, got shape {shape}")
    array = tensor.detach().cpu().numpy().astype(np.float64)
    return array.reshape((1,) * (4 - len(shape)) + shape), len(shape) < 4


def _check_values(function: str, batch: np.ndarray, least: float = -math.inf) -> None:
    low, high = batch.min(), batch.max()  # NaN if there is one
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{function}: images must be finite")
    if low < least:
        raise ValueError(f"{function}: images must not be negative (before any normalisation), got {low:g}")


def _result(rows: np.ndarray, single: bool) -> Tensor:
    rows = rows.astype(np.float32)
    return from_numpy(rows[0] if single else rows)
