import hashlib
import subprocess
import sys

import numpy as np
import pytest

from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.data import DIGITS_INFO, DataLoader, Digits, get_dataset, load_digits, load_digits_split
from gpunet.data.digits import FILE
from gpunet.data.transforms import Normalize
from gpunet.data.vision import ImageDataset, stratified_split

# How often each digit occurs, as the UCI repository and scikit-learn publish it.
COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_the_published_ones():
    images, labels = load_digits()
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 16)
    assert np.bincount(labels).tolist() == COUNTS
    # The first image, from the documentation of scikit-learn.
    assert images[0].tolist() == [
        [0, 0, 5, 13, 9, 1, 0, 0],
        [0, 0, 13, 15, 10, 15, 5, 0],
        [0, 3, 15, 2, 0, 11, 8, 0],
        [0, 4, 12, 0, 0, 8, 8, 0],
        [0, 5, 8, 0, 0, 9, 8, 0],
        [0, 4, 11, 0, 1, 12, 7, 0],
        [0, 2, 14, 5, 10, 12, 0, 0],
        [0, 0, 6, 13, 10, 0, 0, 0],
    ]
    assert labels[:10].tolist() == list(range(10))


@pytest.mark.parity
def test_digits_equal_scikit_learns():
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    published = sklearn_datasets.load_digits()
    images, labels = load_digits()
    assert np.array_equal(images, published.images)
    assert np.array_equal(labels, published.target)


@pytest.mark.parity
def test_file_can_be_made_again_to_the_byte(tmp_path):
    pytest.importorskip("sklearn")
    copy = tmp_path / "digits.npz"
    command = [sys.executable, "-W", "error", "-m", "gpunet.data.make_digits", str(copy)]
    subprocess.run(command, check=True, timeout=100, capture_output=True)
    assert copy.read_bytes() == FILE.read_bytes()
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == (
        "5d97e06eebcfec89c64d0be37b17d6807068959888d2402c604c06fbea056576"
    )


def test_split_is_disjoint_stratified_and_complete():
    train, test = load_digits_split()
    assert (len(train), len(test)) == (1437, 360)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(1797))
    labels = load_digits()[1]
    # 360/1797 of each count, rounded down (355 in all), and one more for the five largest remainders:
    # 35.659, 36.461, 35.459, 36.661, 36.260, 36.461, 36.260, 35.860, 34.858, 36.060
    assert np.bincount(labels[test]).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]


def test_split_is_drawn_by_numpys_default_rng_0():
    labels = load_digits()[1]
    generator = np.random.default_rng(0)
    expected = []
    for digit, quota in enumerate([36, 37, 35, 37, 36, 36, 36, 36, 35, 36]):
        expected += generator.permutation(np.flatnonzero(labels == digit))[:quota].tolist()
    assert load_digits_split()[1].tolist() == sorted(expected)


def test_stratified_split_of_equal_classes():
    train, test = stratified_split(np.repeat([0, 1, 2], 10), 0.2, np.random.default_rng(1))
    assert len(test) == 6
    assert np.bincount(np.repeat([0, 1, 2], 10)[test]).tolist() == [2, 2, 2]
    assert not set(train) & set(test)


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_stratified_split_needs_a_share(share):
    with pytest.raises(ValueError, match="test_share: must be between 0 and 1"):
        stratified_split(np.array([0, 1]), share, np.random.default_rng(0))


def test_stratified_split_needs_labels():
    with pytest.raises(ShapeError, match="labels: expected at least two"):
        stratified_split(np.zeros((2, 2)), 0.5, np.random.default_rng(0))


@pytest.mark.parametrize("train, size", [(True, 1437), (False, 360)])
def test_digits_dataset(train, size):
    dataset = Digits(train=train)
    images, labels = load_digits()
    indices = load_digits_split()[0 if train else 1]
    assert len(dataset) == size
    image, label = dataset[3]
    assert image.shape == (1, 8, 8)
    assert image.dtype == np.float32
    assert type(label) is int
    assert np.array_equal(image.numpy()[0] * 16, images[indices[3]])
    assert label == labels[indices[3]]
    assert dataset.classes == tuple("0123456789")
    assert dataset[-1][1] == dataset[size - 1][1]


def test_index_out_of_range():
    with pytest.raises(IndexError):
        Digits(train=False)[360]


def test_a_sample_is_a_copy():
    dataset = Digits(train=False)
    before = dataset.images[0].copy()
    dataset[0][0].numpy()[...] = 7
    assert np.array_equal(dataset.images[0], before)


def test_constants_are_those_of_the_training_images():
    pixels = Digits(train=True).images.astype(np.float64)
    assert DIGITS_INFO.mean == pytest.approx([pixels.mean()], abs=1e-8)
    assert DIGITS_INFO.std == pytest.approx([pixels.std()], abs=1e-8)
    normalized = DIGITS_INFO.normalize(Digits(train=True).images)
    assert abs(normalized.mean()) < 1e-5
    assert abs(normalized.std() - 1) < 1e-5
    assert np.allclose(Normalize(DIGITS_INFO.mean, DIGITS_INFO.std).apply(Digits().images, np.empty(0)), normalized)


def test_gathered_batches_equal_collated_samples():
    dataset = Digits(train=False, transform=Normalize(0.3, 0.4))
    fast = list(DataLoader(dataset, batch_size=50))
    slow = list(DataLoader(dataset, batch_size=50, collate_fn=lambda samples: samples))
    for (images, labels), samples in zip(fast, slow, strict=True):
        assert labels.dtype == np.int64
        assert np.array_equal(images.numpy(), np.stack([image.numpy() for image, _ in samples]))
        assert labels.tolist() == [label for _, label in samples]


def test_any_function_is_a_transform():
    dataset = Digits(train=False, transform=lambda image: image.numpy().sum())
    assert not dataset.can_gather
    images, _ = next(iter(DataLoader(dataset, batch_size=4)))
    assert images.shape == (4,)
    assert images.tolist() == pytest.approx(Digits(train=False).images[:4].sum((1, 2, 3)).tolist())


def test_transform_must_be_a_function():
    with pytest.raises(TypeError, match="transform: expected a function of an image, got int"):
        Digits(transform=3)


def test_digits_are_found_by_name():
    splits = get_dataset("digits")
    assert (len(splits.train), len(splits.test)) == (1437, 360)
    assert splits.info == DIGITS_INFO


def test_an_image_dataset_checks_its_arrays():
    images, labels = np.zeros((2, 1, 8, 8), np.float32), np.zeros(2, int)
    with pytest.raises(ShapeError, match=r"images: expected \(N, 1, 8, 8\), got \(2, 8, 8\)"):
        ImageDataset(images[:, 0], labels, DIGITS_INFO)
    with pytest.raises(DTypeError, match="images: expected float32, got float64"):
        ImageDataset(images.astype(float), labels, DIGITS_INFO)
    with pytest.raises(ShapeError, match=r"labels: expected one per image \(2\)"):
        ImageDataset(images, labels[:1], DIGITS_INFO)
    with pytest.raises(DTypeError, match="labels: expected integers, got float64"):
        ImageDataset(images, labels.astype(float), DIGITS_INFO)
    with pytest.raises(IndexError, match="labels: must be 0 to 9, got 0 to 10"):
        ImageDataset(images, np.array([0, 10]), DIGITS_INFO)
