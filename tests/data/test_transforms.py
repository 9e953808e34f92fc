import time

import numpy as np
import pytest

import gpunet.autograd as gn
from gpunet.autograd import Tensor
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.data import Digits
from gpunet.data._random import loading, sample, uniforms, uniforms_of
from gpunet.data.transforms import (
    CenterCrop,
    Compose,
    Grayscale,
    Normalize,
    Pad,
    PCALighting,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    RandomShift,
    Resize,
    ToTensor,
    Transform,
    _inverse_affine,
    _warp,
)

IMAGE = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
RANDOM = [
    RandomCrop(6),
    RandomCrop((8, 5), padding=(1, 2)),
    RandomShift(2),
    RandomShift(1.5, subpixel=True),
    RandomHorizontalFlip(0.4),
    RandomAffine(20, (0.1, 0.2), (0.8, 1.2), 10),
    RandomAffine((0, 45), interpolation="bilinear", fill=0.5),
]


def batch(count=40, channels=2, size=8, seed=0):
    return np.random.default_rng(seed).random((count, channels, size, size), np.float32)


def test_to_tensor_from_bytes():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    result = ToTensor()(pixels)
    assert isinstance(result, Tensor)
    assert result.shape == (3, 2, 4)
    assert result.dtype == np.float32
    assert np.array_equal(result.numpy(), pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255))


def test_to_tensor_from_greyscale_floats_and_bools():
    result = ToTensor()(np.eye(2))
    assert result.shape == (1, 2, 2)
    assert result.dtype == np.float64
    assert ToTensor()(np.eye(2, dtype=bool)).tolist() == [[[1.0, 0.0], [0.0, 1.0]]]


def test_to_tensor_from_a_picture():
    image = pytest.importorskip("PIL.Image")
    picture = image.fromarray(np.array([[0, 255], [51, 102]], np.uint8))
    assert ToTensor()(picture).numpy().tolist() == [[[0.0, 1.0], [pytest.approx(0.2), pytest.approx(0.4)]]]


def test_to_tensor_leaves_tensors_alone():
    tensor = gn.zeros(1, 2, 2)
    assert ToTensor()(tensor) is tensor


def test_normalize():
    transform = Normalize([1.0, 2.0], [2.0, 4.0])
    image = np.array([[[1.0, 3.0]], [[2.0, 10.0]]], np.float32)
    assert transform(image).tolist() == [[[0.0, 1.0]], [[0.0, 2.0]]]
    assert image[0, 0, 0] == 1.0
    assert Normalize(1.0, 2.0)(image).tolist() == [[[0.0, 1.0]], [[0.5, 4.5]]]


def test_what_comes_in_goes_out():
    assert isinstance(Normalize(0, 1)(gn.from_numpy(IMAGE)), Tensor)
    assert isinstance(Normalize(0, 1)(IMAGE), np.ndarray)


@pytest.mark.parametrize(
    "padding, expected",
    [
        (1, [[9, 9, 9, 9, 9], [9, 0, 1, 2, 9], [9, 3, 4, 5, 9], [9, 9, 9, 9, 9]]),
        ((1, 0), [[9, 0, 1, 2, 9], [9, 3, 4, 5, 9]]),
        ((0, 1, 2, 0), [[9, 9, 9, 9, 9], [0, 1, 2, 9, 9], [3, 4, 5, 9, 9]]),
    ],
)
def test_pad(padding, expected):
    assert Pad(padding, fill=9)(IMAGE)[0].tolist() == expected


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("edge", [0, 0, 1, 2, 2]),
        ("reflect", [1, 0, 1, 2, 1]),
        ("symmetric", [0, 0, 1, 2, 2]),
    ],
)
def test_pad_modes(mode, expected):
    assert Pad((1, 0), padding_mode=mode)(IMAGE)[0, 0].tolist() == expected


def test_crop_takes_windows_of_the_padded_image():
    images = batch(300, 1)
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))
    draws = np.random.default_rng(1).random((300, 2))
    result = RandomCrop(8, padding=2).apply(images, draws)
    seen = set()
    for crop, whole in zip(result[:, 0], padded[:, 0], strict=True):
        places = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if np.array_equal(crop, whole[row : row + 8, column : column + 8])
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 25


def test_shift_moves_by_whole_pixels_all_equally_often():
    images = np.zeros((9000, 1, 5, 5), np.float32)
    images[:, :, 2, 2] = 1
    result = RandomShift(1).apply(images, np.random.default_rng(0).random((9000, 2)))
    counts = result.sum((0, 1))
    assert counts[0].sum() == counts[:, 0].sum() == 0
    # Nine places, binomial with mean 1000 and deviation 30.
    assert np.abs(counts[1:4, 1:4] - 1000).max() < 150


def test_shift_brings_in_the_fill():
    result = RandomShift(1, fill=7).apply(np.zeros((1, 1, 3, 3), np.float32), np.array([[0.0, 0.99]]))
    assert result[0, 0].tolist() == [[7, 7, 7], [0, 0, 7], [0, 0, 7]]


def test_subpixel_shift_by_a_half_is_the_mean_of_two():
    images = np.array([[[[0.0, 4.0, 8.0]]]], np.float32)
    # 0.5 is no shift along y; 0.75 of (-1, 1) is half a pixel along x.
    transform = RandomShift(1, subpixel=True)
    assert transform.apply(images, np.array([[0.75, 0.5]]))[0, 0, 0].tolist() == [2.0, 6.0, 4.0]
    assert transform.apply(images, np.array([[0.5, 0.5]]))[0, 0, 0].tolist() == [0.0, 4.0, 8.0]


def test_flip():
    images = np.stack([IMAGE, IMAGE])
    result = RandomHorizontalFlip(0.5).apply(images, np.array([[0.49], [0.5]]))
    assert np.array_equal(result[0], IMAGE[:, :, ::-1])
    assert np.array_equal(result[1], IMAGE)


def test_a_quarter_turn_is_rot90():
    image = batch(1, 2, 5)
    turned = RandomAffine((90, 90)).apply(image, np.full((1, 6), 0.5))
    # Clockwise on the screen.
    assert np.array_equal(turned, np.rot90(image, -1, (2, 3)))


def test_whole_shifts_and_no_change():
    image = batch(1, 1, 4)
    middle = np.full((1, 6), 0.5)
    assert np.array_equal(RandomAffine(0).apply(image, middle), image)
    right = middle.copy()
    right[0, 1] = 1.0
    shifted = RandomAffine(0, translate=(0.25, 0)).apply(image, right)
    assert np.array_equal(shifted[0, 0, :, 1:], image[0, 0, :, :-1])
    assert (shifted[0, 0, :, 0] == 0).all()


def test_bytes_stay_bytes():
    images = (batch(3) * 255).astype(np.uint8)
    draws = np.random.default_rng(0).random((3, 6))
    transform = RandomAffine(30, interpolation="bilinear")
    result = transform.apply(images, draws)
    assert result.dtype == np.uint8
    assert np.abs(result - transform.apply(images.astype(np.float64), draws)).max() <= 0.5 + 1e-4


@pytest.mark.parity
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("height, width", [(8, 8), (7, 10), (1, 5)])
def test_warp_is_pytorchs_grid_sample(interpolation, height, width):
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    images = generator.random((20, 3, height, width))
    parts = generator.uniform((-40, -3, -3, 0.7, -20, -10), (40, 3, 3, 1.4, 20, 10), (20, 6)).T
    matrices = _inverse_affine(*parts)
    # grid_sample's coordinates run from -1 to 1 over the image's width and height.
    scale = np.array([width / 2, height / 2])
    theta = matrices.copy()
    theta[:, :, :2] = matrices[:, :, :2] * scale / scale[:, None]
    theta[:, :, 2] /= scale
    grid = torch.nn.functional.affine_grid(torch.from_numpy(theta), images.shape, align_corners=False)
    expected = torch.nn.functional.grid_sample(
        torch.from_numpy(images), grid, mode=interpolation, padding_mode="zeros", align_corners=False
    ).numpy()
    assert np.abs(_warp(images, matrices, interpolation, 0.0) - expected).max() < 1e-12


def test_the_affine_matrix_inverts_shear_then_rotation_then_shift():
    angle, shift_x, shift_y, scale, shear_x, shear_y = (np.array([v]) for v in (30.0, 2.0, -1.0, 1.5, 10.0, -5.0))
    inverse = _inverse_affine(angle, shift_x, shift_y, scale, shear_x, shear_y)[0]
    a, p, q = np.deg2rad(30.0), np.deg2rad(10.0), np.deg2rad(-5.0)
    rotation = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    along_y = np.array([[1, 0], [-np.tan(q), 1]])
    along_x = np.array([[1, -np.tan(p)], [0, 1]])
    forward = 1.5 * rotation @ along_y @ along_x
    point = np.array([3.0, 4.0])
    assert np.allclose(inverse[:, :2] @ (forward @ point + [2.0, -1.0]) + inverse[:, 2], point)


@pytest.mark.parametrize("transform", RANDOM, ids=repr)
def test_a_batch_is_its_images_one_by_one(transform):
    images = batch()
    draws = np.random.default_rng(0).random((40, transform.draws))
    whole = transform.apply(images, draws)
    for index in range(40):
        single = transform.apply(images[index : index + 1], draws[index : index + 1])
        assert np.array_equal(single[0], whole[index])
    assert whole.dtype == images.dtype
    assert np.array_equal(images, batch())


def test_enlarging_is_linear_interpolation():
    """Halves between the pixels' centres, and the border repeated: 0, 1/4, 3/4, 1 of 0, 1."""
    image = np.float32([[[0, 1], [0, 1]]])
    assert Resize(4)(image).tolist() == [[[0.0, 0.25, 0.75, 1.0]] * 4]
    assert Resize((2, 4))(image).shape == (1, 2, 4)
    assert Resize(2)(image).tolist() == image.tolist()


def test_shrinking_averages():
    image = np.float32([[[0, 0, 0, 1, 1, 1, 0, 0]] * 8])
    halved = Resize((8, 4))(image)[0, 0]
    # A triangle of 4 pixels: 1/8, 3/8, 3/8, 1/8; at the border the first of them is outside.
    assert halved == pytest.approx([0.0 + 0, 3 / 8 + 1 / 8, 1 / 8 + 6 / 8, 1 / 7])
    assert Resize(4)(np.full((3, 9, 9), 7, np.uint8)).tolist() == np.full((3, 4, 4), 7).tolist()


def test_the_shorter_side_counts():
    assert Resize(4)(np.zeros((1, 8, 11), np.float32)).shape == (1, 4, 5)
    assert Resize(4)(np.zeros((1, 11, 8), np.float32)).shape == (1, 5, 4)


@pytest.mark.parity
@pytest.mark.parametrize("size, new", [((8, 8), (32, 32)), ((13, 9), (7, 20)), ((5, 7), (11, 3)), ((6, 6), (6, 6))])
def test_resize_is_pytorchs(size, new):
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(0).random((2, 3, *size), np.float32)
    theirs = torch.nn.functional.interpolate(torch.tensor(images), new, mode="bilinear", antialias=True)
    np.testing.assert_allclose(Resize(new).apply(images, None), theirs.numpy(), atol=1e-6)


def test_the_middle():
    image = np.arange(35, dtype=np.float32).reshape(1, 5, 7)
    assert CenterCrop(3)(image).tolist() == image[:, 1:4, 2:5].tolist()
    assert CenterCrop((5, 7))(image).tolist() == image.tolist()
    assert CenterCrop((4, 4))(image).tolist() == image[:, 0:4, 2:6].tolist()  # 0.5 and 1.5 go to the even number


def test_grey_and_colour():
    image = np.float32([[[1]], [[0]], [[0]]])
    assert Grayscale()(image) == pytest.approx(0.2989)
    assert Grayscale(3)(image).shape == (3, 1, 1)
    assert Grayscale(3)(np.float32([[[0.3]]])).tolist() == [[[np.float32(0.3)]]] * 3


def test_light_of_a_batch_is_that_of_its_images():
    images, draws = batch(5, 3), np.random.default_rng(2).random((5, 4))
    together = PCALighting().apply(images, draws)
    for image, row, result in zip(images, draws, together, strict=True):
        np.testing.assert_array_equal(PCALighting().apply(image[None], row[None])[0], result)


def test_light_is_drawn_along_the_principal_components():
    """Row B78: PCA noise is zero at alpha = 0; at 0.1 its covariance is P diag((0.1 l)^2) P^T."""
    images = batch(20_000, 3, 1)
    draws = np.random.default_rng(1).random((len(images), PCALighting.draws))
    np.testing.assert_array_equal(PCALighting(0.0).apply(images, draws), images)
    light = (PCALighting(0.1).apply(images, draws) - images)[:, :, 0, 0].astype(np.float64)
    p = PCALighting.COMPONENTS
    expected = p @ np.diag((0.1 * PCALighting.ROOTS) ** 2) @ p.T
    np.testing.assert_allclose(np.cov(light.T), expected, atol=0.03 * expected.max())
    assert np.abs(light.mean(0)).max() < 1e-3
    pixels = PCALighting(0.1).apply(batch(2, 3, 4), draws[:2]) - batch(2, 3, 4)
    assert np.ptp(pixels, axis=(2, 3)).max() < 1e-6  # the same for all pixels of an image


@pytest.mark.parametrize("transform", RANDOM, ids=repr)
def test_an_empty_batch(transform):
    shape = transform.apply(batch(1), np.zeros((1, transform.draws))).shape[1:]
    assert transform.apply(batch(0), np.empty((0, transform.draws))).shape == (0, *shape)


def test_numbers_of_many_samples_are_those_of_each():
    with loading(5, 3):
        many = uniforms_of([7, 0, 2**40], 6)
        for index, row in zip([7, 0, 2**40], many, strict=True):
            with sample(index):
                assert uniforms(2).tolist() + uniforms(4).tolist() == row.tolist()
    assert len(np.unique(many)) == 18
    assert many.min() >= 0
    assert many.max() < 1


def test_compose():
    transform = Compose([ToTensor(), Pad(1), Normalize(0, 2)])
    result = transform(np.full((2, 2), 255, np.uint8))
    assert result.shape == (1, 4, 4)
    assert result.numpy().sum() == 2.0
    assert repr(transform).startswith("Compose([ToTensor(), Pad(padding=(1, 1, 1, 1)")


def test_an_own_transform_is_used_in_batches_only_if_it_says_how():
    class Own(Transform):
        def apply(self, images, uniforms):
            return images + 1

    class OwnCall(Own):
        def __call__(self, image):
            return image

    assert Digits(False, Compose([Own(), Normalize(0, 1)])).can_gather
    assert not Digits(False, OwnCall()).can_gather
    assert not Digits(False, Compose([abs])).can_gather
    with pytest.raises(NotImplementedError, match="Transform must define apply"):
        Transform()(IMAGE)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: Compose([1]), TypeError, "transforms: expected functions, got 1 at position 0"),
        (lambda: Normalize([0.0], [0.0]), ValueError, "std: must not be zero"),
        (lambda: Normalize([0.0, 0.0], [1.0] * 3), ShapeError, r"std: expected as many numbers as mean has \(2\)"),
        (lambda: Normalize(float("nan"), 1.0), ValueError, "mean: expected finite numbers"),
        (lambda: Pad(-1), ShapeError, "padding: expected 1, 2 or 4 integers"),
        (lambda: Pad((1, 2, 3)), ShapeError, "padding: expected 1, 2 or 4 integers"),
        (lambda: Pad(1, padding_mode="wrap"), ValueError, "padding_mode: expected one of constant, edge"),
        (lambda: RandomCrop(0), ShapeError, "size: expected a positive integer or two"),
        (lambda: Resize(0), ShapeError, "size: expected a positive integer or two"),
        (lambda: Resize((1, 2, 3)), ShapeError, "size: expected a positive integer or two"),
        (lambda: CenterCrop(-1), ShapeError, "size: expected a positive integer or two"),
        (lambda: CenterCrop(3)(IMAGE), ShapeError, r"size: \(3, 3\) is larger than the image \(2, 3\)"),
        (lambda: Grayscale(2), ValueError, "num_output_channels: must be 1 or 3, got 2"),
        (lambda: Grayscale()(np.zeros((2, 1, 1))), ShapeError, "images: Grayscale needs 1 or 3 channels, got 2"),
        (lambda: PCALighting(-1), ValueError, "std: must be a number, zero or more"),
        (lambda: PCALighting()(IMAGE), ShapeError, "images: PCALighting needs 3 channels, got 1"),
        (lambda: PCALighting()(np.zeros((3, 1, 1), int)), DTypeError, "images: PCALighting needs floating point"),
        (lambda: RandomShift(-1), ValueError, "pixels: must be a number, zero or more"),
        (lambda: RandomShift(0.5), ValueError, "pixels: must be whole without subpixel=True"),
        (lambda: RandomHorizontalFlip(1.5), ValueError, "p: must be a probability"),
        (lambda: RandomAffine(-1), ValueError, "degrees: a single number must not be negative"),
        (lambda: RandomAffine((1, 0)), ValueError, "degrees: expected .from, to. with from <= to"),
        (lambda: RandomAffine(0, translate=(2, 0)), ValueError, "translate: expected shares in"),
        (lambda: RandomAffine(0, translate=0.1), ValueError, "translate: expected 2 numbers"),
        (lambda: RandomAffine(0, scale=(0, 1)), ValueError, "scale: expected .from, to. with 0 < from"),
        (lambda: RandomAffine(0, shear=(1, 2, 3)), ValueError, "shear: expected 2 numbers"),
        (lambda: RandomAffine(0, interpolation="cubic"), ValueError, "interpolation: expected nearest or bilinear"),
        (lambda: Normalize([0.0] * 3, [1.0] * 3)(IMAGE), ShapeError, r"mean: expected one number per channel \(1\)"),
        (lambda: Normalize(0, 1)(IMAGE.astype(int)), DTypeError, "images: Normalize needs floating point"),
        (lambda: Normalize(0, 1)(IMAGE[0]), ShapeError, r"image: Normalize expects \(C, H, W\), got shape \(2, 3\)"),
        (lambda: Normalize(0, 1)([1.0]), TypeError, r"got list \(ToTensor first\)"),
        (lambda: RandomCrop(4)(IMAGE), ShapeError, r"size: \(4, 4\) is larger than the image \(2, 3\)"),
        (
            lambda: Pad(2, padding_mode="reflect")(IMAGE),
            ShapeError,
            "padding: reflect of 2 pixels needs a larger image",
        ),
        (lambda: ToTensor()(np.zeros(3)), ShapeError, r"image: expected \(H, W\) or \(H, W, C\)"),
        (lambda: ToTensor()("picture"), DTypeError, "image: expected an array or a picture, got str"),
    ],
)
def test_wrong_arguments(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_augmenting_a_batch_of_small_images_takes_little_time():
    dataset = Digits(True, Compose([RandomAffine(10, (0.1, 0.1), interpolation="bilinear"), Normalize(0.3, 0.4)]))
    times = []
    for start in range(0, 640, 64):
        begin = time.perf_counter()
        dataset.__getbatch__(range(start, start + 64))
        times.append(time.perf_counter() - begin)
    # About a millisecond; a loop over the images takes more than ten.
    assert min(times) < 0.01
