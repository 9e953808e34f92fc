import numpy as np
import pytest

from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.data import Digits, get_dataset, list_datasets, register_dataset
from gpunet.data.digits import FILE


def images(count=10, channels=None, dtype=np.uint8, seed=0):
    shape = (count, 6, 5) if channels is None else (count, channels, 6, 5)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_train_and_test_arrays(tmp_path):
    x_train, x_test = images(10), images(4, seed=1)
    path = save(tmp_path / "a.npz", x_train=x_train, y_train=np.arange(10) % 3, x_test=x_test, y_test=[0, 1, 2, 0])
    splits = get_dataset(path)
    assert splits.info.input_shape == (1, 6, 5)
    assert splits.info.classes == ("0", "1", "2")
    assert splits.info.name == "a.npz"
    assert np.allclose(splits.train.images[:, 0], x_train / 255, atol=1e-7)
    assert np.allclose(splits.test.images[:, 0], x_test / 255, atol=1e-7)
    assert splits.test.labels.tolist() == [0, 1, 2, 0]
    assert splits.info.mean == pytest.approx([(x_train / 255).mean()])
    assert splits.info.std == pytest.approx([(x_train / 255).std()])


def test_images_and_labels_are_split(tmp_path):
    path = save(tmp_path / "a.npz", images=images(20, channels=3), labels=np.arange(20) % 2)
    splits = get_dataset(path)
    assert (len(splits.train), len(splits.test)) == (16, 4)
    assert np.bincount(splits.test.labels).tolist() == [2, 2]
    assert len(splits.info.mean) == 3
    assert splits.info.polarity is None


def test_channels_last_becomes_channels_first(tmp_path):
    pixels = images(10, channels=3)
    path = save(tmp_path / "a.npz", images=pixels.transpose(0, 2, 3, 1), labels=np.arange(10) % 2, test_index=[0, 1])
    splits = get_dataset(path)
    assert splits.info.input_shape == (3, 6, 5)
    assert np.allclose(splits.train.images, pixels[2:] / 255, atol=1e-7)


def test_value_range_and_class_names(tmp_path):
    path = save(
        tmp_path / "a.npz",
        images=np.array([[[-1.0, 3.0]], [[1.0, 2.0]], [[3.0, 3.0]]]),
        labels=[0, 1, 0],
        test_index=[2],
        value_range=[-1.0, 3.0],
        classes=["cat", "dog"],
    )
    splits = get_dataset(path)
    assert splits.train.images.tolist() == [[[[0.0, 1.0]]], [[[0.5, 0.75]]]]
    assert splits.info.classes == ("cat", "dog")


def test_the_bundled_file_given_as_a_file_is_the_bundled_data_set():
    splits = get_dataset(FILE)
    assert np.array_equal(splits.train.images, Digits(train=True).images)
    assert np.array_equal(splits.test.labels, Digits(train=False).labels)
    assert splits.info.polarity == "light-on-dark"
    assert splits.info.ink_extent == 1.0


def test_polarity_of_drawings_is_found(tmp_path):
    digits = Digits(train=True).images[:200, 0]
    path = save(tmp_path / "a.npz", images=1 - digits, labels=np.arange(200) % 2)
    assert get_dataset(path).info.polarity == "dark-on-light"
    # With two pixels of paper all around, the drawing takes 8 of 12.
    path = save(tmp_path / "b.npz", images=np.pad(digits, ((0, 0), (2, 2), (2, 2))), labels=np.arange(200) % 2)
    info = get_dataset(path).info
    assert info.polarity == "light-on-dark"
    assert info.ink_extent == pytest.approx(8 / 12)


@pytest.mark.parametrize("name, hint", [("digit", "did you mean digits"), ("imagenet1k", "there is digits")])
def test_unknown_name(name, hint):
    with pytest.raises(ValueError, match=f"unknown data set '{name}'; {hint}"):
        get_dataset(name)


def test_registry():
    assert "digits" in list_datasets()
    with pytest.raises(ValueError, match="a data set 'digits' is there already"):
        register_dataset("digits")(lambda: None)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz: no such file"):
        get_dataset(tmp_path / "none.npz")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 truncated", FILE.read_bytes()[:5000]])
def test_not_an_npz(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz: not a NumPy \.npz file of plain arrays"):
        get_dataset(path)


def test_no_pickles(tmp_path):
    path = save(tmp_path / "a.npz", images=np.array([{}, {}], object), labels=[0, 1])
    with pytest.raises(ValueError, match=r"not a NumPy \.npz file of plain arrays"):
        get_dataset(path)


def test_a_single_array_is_not_a_data_set(tmp_path):
    path = tmp_path / "a.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"not a NumPy \.npz file of plain arrays"):
        get_dataset(path)


GOOD = {"images": images(10), "labels": np.arange(10) % 2}


@pytest.mark.parametrize(
    "changes, error, text",
    [
        ({"labels": None}, ValueError, "the array 'labels' is missing"),
        ({"images": None}, ValueError, "the array 'x_train' is missing"),
        ({"labels": np.arange(9)}, ShapeError, "labels: expected one label per image, got (9,) for (10, 6, 5)"),
        ({"labels": np.arange(10) / 2}, ValueError, "labels: labels must be whole numbers from 0 on"),
        ({"labels": np.arange(10) - 1}, ValueError, "labels: labels must be whole numbers from 0 on"),
        ({"images": images(10, channels=2)}, ShapeError, "images: expected (N, H, W) or (N, C, H, W) with 1 or 3"),
        ({"images": np.full((10, 2, 2), "a")}, DTypeError, "images: expected numbers, got <U1"),
        ({"images": np.full((10, 2, 2), np.nan)}, ValueError, "pixels must be numbers within 0 to 1, got nan"),
        ({"images": np.full((10, 2, 2), 7.0)}, ValueError, "pixels must be numbers within 0 to 1, got 7 to 7"),
        ({"images": np.zeros((10, 2, 2), int)}, ValueError, "int64 images need an array value_range"),
        ({"value_range": np.array([1, 0])}, ValueError, "value_range: expected (black, white)"),
        ({"classes": np.array(["a"])}, ValueError, "classes: expected at least 2 names"),
        ({"test_index": np.array([10])}, ValueError, "test_index: expected indices of images, 0 to 9"),
        ({"test_index": np.arange(10)}, ValueError, "test_index: leaves no image for training"),
        ({"images": images(1), "labels": np.zeros(1, int)}, ValueError, "labels: expected at least two images"),
    ],
)
def test_wrong_arrays(tmp_path, changes, error, text):
    arrays = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    with pytest.raises(error) as caught:
        get_dataset(save(tmp_path / "a.npz", **arrays))
    assert text in str(caught.value)
    assert "a.npz" in str(caught.value)


def test_two_shapes(tmp_path):
    labels = np.arange(10)
    path = save(tmp_path / "a.npz", x_train=images(), y_train=labels, x_test=images()[:, :4], y_test=labels)
    with pytest.raises(ShapeError, match=r"training images are \(1, 6, 5\), but test images \(1, 4, 5\)"):
        get_dataset(path)
