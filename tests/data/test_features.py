"""Image features made by hand: what each counts, what it leaves out, and what a linear classifier makes of them."""

from __future__ import annotations

import colorsys
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.data import Digits, features
from gpunet.data.features import BagOfVisualWords, FeaturesUnavailableError, hog, hue_histogram, polar
from gpunet.nn import functional as F

NEEDS_EXTRA = pytest.mark.features


def disc(colour: tuple[float, float, float], size: int = 16) -> np.ndarray:
    return np.broadcast_to(np.array(colour).reshape(3, 1, 1), (3, size, size))


# Hue ---------------------------------------------------------------------------------------------------------------


def test_pure_red_is_all_in_the_first_bin() -> None:
    """Row B55: 10 bins as in CS231n; they sum to 1, or to the number of pixels."""
    for brightness in (1.0, 0.2, 255.0):
        histogram = hue_histogram(disc((brightness, 0, 0)))
        assert histogram.tolist() == [1.0] + [0.0] * 9
    assert hue_histogram(disc((1, 0, 0)).astype(np.uint8), normalize=False).tolist() == [256.0] + [0.0] * 9
    image = np.random.default_rng(0).random((2, 3, 20, 11))
    assert hue_histogram(image).shape == (2, 10)
    assert hue_histogram(image).sum(1).tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
    assert hue_histogram(image, bins=7, normalize=False).sum(1).tolist() == [220.0, 220.0]


def test_hues_are_those_of_the_standard_library() -> None:
    """Row B55: beside colorsys, at every colour of 17 levels, with bins none of whose borders such a colour meets."""
    levels = np.arange(17) / 16
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij")).reshape(3, 1, -1)
    hues = np.array([colorsys.rgb_to_hsv(*colour)[0] for colour in colours[:, 0].T])
    bins = 97  # a prime: only a hue of 0 is on a border
    expected = np.bincount(np.floor(hues * bins).astype(int), minlength=bins)
    assert hue_histogram(colours, bins, normalize=False).tolist() == expected.tolist()
    assert (expected > 0).sum() > 60


def test_hue_knows_neither_where_nor_how_bright() -> None:
    image = np.random.default_rng(1).random((3, 12, 12))
    shuffled = np.random.default_rng(2).permutation(image.reshape(3, -1), axis=1).reshape(3, 9, 16)
    whole = hue_histogram(image).tolist()
    assert hue_histogram(shuffled).tolist() == whole
    assert hue_histogram(image * 0.5).tolist() == whole
    # Grey has no hue, and counts as 0.
    assert hue_histogram(disc((0.4, 0.4, 0.4))).tolist() == [1.0] + [0.0] * 9


# Gradients ---------------------------------------------------------------------------------------------------------


@NEEDS_EXTRA
@pytest.mark.parametrize(
    ("shape", "length"),
    [((32, 32), 144), ((3, 240, 320), 10_800), ((1, 8, 8), 9), ((37, 39), 144)],
)
def test_the_length_of_hog(shape: tuple[int, ...], length: int) -> None:
    """Row B56: 32x32 pixels in cells of 8x8 with 9 bins are 144 numbers; 320x240 are 10,800."""
    image = np.random.default_rng(0).random(shape)
    vector = hog(image)
    assert vector.shape == (length,)
    assert vector.dtype == np.float32
    assert np.array_equal(hog(image[None] if image.ndim == 3 else image[None, None])[0].numpy(), vector.numpy())


@NEEDS_EXTRA
def test_an_edge_fills_one_bin() -> None:
    """Row B56: a vertical edge fills one orientation bin, in the cells that it goes through and in no other."""
    image = np.zeros((32, 32))
    image[:, 19:] = 1
    cells = hog(image).reshape(4, 4, 9).numpy()
    assert np.array_equal(np.nonzero(cells.any((0, 1)))[0], [0])  # the gradient is across: 0 degrees
    assert np.allclose(cells[:, :, 0], [[0, 0, 1, 0]] * 4, atol=1e-4)
    assert np.array_equal(np.nonzero(hog(image.T).reshape(16, 9).numpy().any(0))[0], [4])  # down: 80 to 100 degrees
    # Neither colour nor contrast nor sign: each cell is scaled to length 1.
    assert np.allclose(hog(1 - 0.3 * image).numpy().reshape(4, 4, 9), cells, atol=1e-3)


@NEEDS_EXTRA
def test_blocks_overlap() -> None:
    image = np.random.default_rng(0).random((32, 40))
    vector = hog(image, 6, 8, 2).reshape(3, 4, 24).numpy()
    assert np.linalg.norm(vector, axis=-1) == pytest.approx(np.ones((3, 4)), abs=1e-4)


# Visual words ------------------------------------------------------------------------------------------------------


@NEEDS_EXTRA
def test_a_bag_of_visual_words_counts_every_patch() -> None:
    """Row B57: a histogram sums to the number of patches, and the code book is (k, d). The words are visual."""
    images = np.random.default_rng(0).random((20, 3, 14, 20))
    bag = BagOfVisualWords(k=6, patch_size=4, stride=2)
    counts = bag.fit_transform(images)
    patches = ((14 - 4) // 2 + 1) * ((20 - 4) // 2 + 1)
    assert counts.shape == (20, 6)
    assert counts.sum(1).tolist() == [patches] * 20
    assert bag.codebook.shape == (6, 3 * 4 * 4)
    assert bag.words.shape == (6, 3, 4, 4)
    assert bag.transform(images[0], normalize=True).sum().item() == pytest.approx(1.0, abs=1e-6)
    again = BagOfVisualWords(k=6, patch_size=4, stride=2).fit(images)
    assert np.array_equal(again.codebook.numpy(), bag.codebook.numpy())
    other = BagOfVisualWords(k=6, patch_size=4, stride=2, seed=1, max_patches=200).fit(images)
    assert not np.array_equal(other.codebook.numpy(), bag.codebook.numpy())


@NEEDS_EXTRA
def test_words_are_the_patterns_that_images_are_made_of() -> None:
    """Row B57: images made of four patterns give those patterns as words, whatever their contrast and place."""
    rng = np.random.default_rng(0)
    patterns = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 1]]).reshape(4, 2, 2) * 1.0
    # Each pattern ten times in an image and at least once in each contrast.
    which = np.stack([rng.permutation(np.repeat(np.arange(4), [10, 20, 30, 40])) for _ in range(5)])
    contrast = rng.uniform(0.5, 2.0, (5, 100, 1, 1))
    tiles = patterns[which] * contrast
    images = tiles.reshape(5, 10, 10, 2, 2).transpose(0, 1, 3, 2, 4).reshape(5, 1, 20, 20)
    bag = BagOfVisualWords(k=4, patch_size=2)
    counts = bag.fit_transform(images).numpy()
    assert sorted(counts[0].tolist()) == [10.0, 20.0, 30.0, 40.0]
    assert np.array_equal(counts, counts[[0] * 5])
    scaled = patterns.reshape(4, 4) - patterns.reshape(4, 4).mean(1, keepdims=True)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    found = bag.codebook.numpy()[np.argsort(counts[0])]
    assert np.allclose(found, scaled, atol=1e-5)


@NEEDS_EXTRA
def test_patches_without_a_shape_are_one_word() -> None:
    flat = np.full((1, 8, 8), 0.1)
    bag = BagOfVisualWords(k=2, patch_size=4).fit(np.concatenate([flat, np.eye(8)[None] * 2.0])[:, None])
    assert sorted(bag.transform(flat).tolist()) == [0.0, 4.0]
    assert sorted(bag.transform(0 * flat).tolist()) == [0.0, 4.0]


@NEEDS_EXTRA
def test_equal_patches_are_one_word_and_no_warning() -> None:
    with pytest.raises(ValueError, match="BagOfVisualWords: 1 different patches are too few for k = 4 words"):
        BagOfVisualWords(k=4, patch_size=2).fit(np.full((2, 1, 8, 8), 0.3))
    assert BagOfVisualWords(k=1, patch_size=2).fit(np.full((2, 1, 8, 8), 0.3)).codebook.tolist() == [[0.0] * 4]


# Linear classifiers on features ------------------------------------------------------------------------------------


def rings(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Points on two rings around the origin, as many on each, evenly around it."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    radius = 1.0 + labels + rng.uniform(-0.2, 0.2, count)
    angle = 2 * np.pi * (np.arange(count) // 2) / (count // 2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32), labels


def accuracy(inputs: gn.Tensor, labels: np.ndarray, loss: Any) -> float:
    """Of a linear classifier after 300 steps with all points."""
    classifier, targets = nn.Linear(inputs.shape[1], 2), gn.from_numpy(labels)
    optimizer = gn.optim.SGD(classifier.parameters(), lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        loss(classifier(inputs), targets).backward()
        optimizer.step()
    return float((classifier(inputs).argmax(1).numpy() == labels).mean())


@pytest.mark.parametrize("loss", [F.cross_entropy, F.multi_margin_loss], ids=["softmax", "svm"])
def test_rings_are_separable_by_their_radius_alone(loss: Any) -> None:
    """Row B54: a line parts two rings hardly better than chance, .5; one threshold of the radius does, always.

    The best of all lines touches the inner ring and cuts a third off the outer one, which makes 2/3 of all points.
    """
    points, labels = rings()
    best = 0.0
    for angle in np.linspace(0, 2 * np.pi, 60, endpoint=False):
        along = points @ [np.cos(angle), np.sin(angle)]
        best = max(best, *(((along > offset) == labels).mean() for offset in along))
    assert 0.64 < best < 0.69
    assert accuracy(gn.from_numpy(points), labels, loss) <= best
    assert accuracy(polar(points)[:, :1], labels, loss) == 1.0


def test_polar() -> None:
    """Row B54."""
    assert polar([[3.0, 4.0], [0.0, -2.0]]).numpy() == pytest.approx(
        np.array([[5.0, np.arctan2(4, 3)], [2.0, -np.pi / 2]]), rel=1e-6
    )
    assert polar([-1.0, 0.0]).tolist() == pytest.approx([1.0, np.pi])


@NEEDS_EXTRA
def test_features_of_both_kinds_are_154_numbers() -> None:
    """Row B58: 144 + 10 dimensions, 155 with the bias: what a linear classifier with 10 classes has of weights."""
    pixels = np.kron(Digits().images[:5], np.ones((4, 4), np.float32)).repeat(3, 1)
    vectors = gn.cat([hog(pixels), hue_histogram(pixels)], 1)
    assert vectors.shape == (5, 154)
    classifier = nn.Linear(154, 10)
    assert classifier(vectors).shape == (5, 10)
    assert gn.inspect.count_params(classifier) == 155 * 10


# Refusals ----------------------------------------------------------------------------------------------------------


def image(*shape: int) -> np.ndarray:
    return np.zeros(shape)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: hue_histogram(image(1, 8, 8)), gn.ShapeError, r"must have 3 channels \(red, green, blue\), got 1"),
        (lambda: hue_histogram(image(8)), gn.ShapeError, r"images must be \(N, C, H, W\).*got shape \(8,\)"),
        (lambda: hue_histogram(image(3, 0, 8)), gn.ShapeError, "have no pixels"),
        (lambda: hue_histogram(image(3, 8, 8), 0), ValueError, "hue_histogram: bins must be at least 1, got 0"),
        (lambda: hue_histogram(image(3, 8, 8), 2.0), TypeError, "hue_histogram: bins must be an integer, got 2.0"),
        (lambda: hue_histogram(image(3, 8, 8) - 1), ValueError, "must not be negative .* got -1"),
        (lambda: hue_histogram(image(3, 8, 8) * np.nan), ValueError, "hue_histogram: images must be finite"),
        (lambda: hog(image(8, 9), cell_size=3, block_size=3), gn.ShapeError, "8x9 .* smaller than a block of 9x9"),
        (lambda: hog(image(8, 8), True), TypeError, "hog: orientations must be an integer"),
        (lambda: hog(image(8, 8), cell_size=0), ValueError, "hog: cell_size must be at least 1, got 0"),
        (lambda: hog(image(8, 8) + np.inf), ValueError, "hog: images must be finite"),
        (lambda: polar(image(4, 3)), gn.ShapeError, r"polar: points must be \(N, 2\) or \(2,\), got shape \(4, 3\)"),
        (lambda: polar("a"), TypeError, "polar: points must be numbers, got str"),
        (lambda: polar([[1.0, 2.0], [3.0]]), TypeError, "polar: points must be numbers, got list"),
        (lambda: hue_histogram("a"), TypeError, "hue_histogram: images must be numbers, got str"),
        (lambda: polar([1.0, np.nan]), ValueError, "polar: points must be finite"),
        (lambda: BagOfVisualWords(4, max_patches=2), ValueError, "max_patches must be at least k = 4, got 2"),
        (lambda: BagOfVisualWords(0), ValueError, "BagOfVisualWords: k must be at least 1, got 0"),
        (lambda: BagOfVisualWords(stride=0), ValueError, "BagOfVisualWords: stride must be at least 1, got 0"),
        (lambda: BagOfVisualWords(seed=-1), ValueError, "BagOfVisualWords: seed: must not be negative, got -1"),
        (lambda: BagOfVisualWords(k=5, patch_size=4).fit(image(8, 8)), ValueError, "4 patches are too few for k = 5"),
        (lambda: BagOfVisualWords(patch_size=9).fit(image(8, 12)), gn.ShapeError, "smaller than a patch of 9x9"),
        (lambda: BagOfVisualWords().transform(image(8, 8)), RuntimeError, r"no code book before fit\(images\)"),
        (lambda: BagOfVisualWords().codebook, RuntimeError, r"no code book before fit\(images\)"),
    ],
)  # fmt: skip
def test_bad_images(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


@NEEDS_EXTRA
def test_other_channels_than_it_was_fitted_to() -> None:
    bag = BagOfVisualWords(k=2, patch_size=4).fit(np.random.default_rng(0).random((3, 8, 8)))
    with pytest.raises(gn.ShapeError, match="fitted to images of 3 channels, got images of 1"):
        bag.transform(image(8, 8))


@pytest.mark.parametrize(
    ("missing", "call"),
    [
        ("skimage.feature", lambda: hog(image(8, 8))),
        ("sklearn.cluster", lambda: BagOfVisualWords(k=2, patch_size=4).fit(image(8, 8))),
    ],
)
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, missing: str, call: Any) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(FeaturesUnavailableError, match=r"not installed: pip install 'gpunet\[features\]'"):
        call()
    assert features.hue_histogram(image(3, 4, 4)).shape == (10,)


# The page ----------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "features.md"


@NEEDS_EXTRA
@pytest.mark.skipif(not PAGE.is_file(), reason="the page is not beside the tests")
def test_programs_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    exec("\n".join(blocks), {})  # noqa: S102 (the page is ours)
    first, second = capsys.readouterr().out.splitlines()
    assert float(first.removeprefix("test accuracy ")) > 0.88
    assert second == "(20, 16) 9.0"
