import builtins
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

from gpunet.backend.errors import ShapeError
from gpunet.data import DIGITS_INFO, DatasetInfo, Digits, load_images, prepare_image, read_image
from gpunet.data.images import area_resize, find_polarity

Image = pytest.importorskip("PIL.Image")

PHOTO_INFO = DatasetInfo("photos", ("a",), (3, 4, 4), (0.5,) * 3, (0.2,) * 3)
LIGHT, DARK = "light-on-dark", "dark-on-light"


def digit_pixels(digit):
    """A digit of the data set, (8, 8) in 0..1, as bytes."""
    return np.rint(digit * 255).astype(np.uint8)


def render_digit(digit, scale=16, polarity=LIGHT):
    pixels = digit_pixels(digit)
    return np.kron(pixels if polarity == LIGHT else 255 - pixels, np.ones((scale, scale), np.uint8))


def save(path, pixels, mode=None, **options):
    picture = Image.fromarray(pixels)
    if mode is not None:
        picture = picture.convert(mode)
    picture.save(path, **options)
    return path


def write_digit(path, width=10, height=16, scale=8, ink=255, paper=0):
    """A figure "7" of one stroke width, in a picture of width x height units."""
    canvas = np.full((height * scale, width * scale), paper, np.uint8)
    canvas[2 * scale : 3 * scale, 3 * scale : 7 * scale] = ink
    canvas[3 * scale : 10 * scale, 6 * scale : 7 * scale] = ink
    return save(path, canvas)


@pytest.mark.parametrize("polarity", [LIGHT, DARK])
def test_all_rendered_test_digits_come_back(tmp_path, polarity):
    digits = Digits(train=False).images
    paths = [
        save(tmp_path / f"{index}.png", render_digit(digit[0], polarity=polarity)) for index, digit in enumerate(digits)
    ]
    images = load_images(paths, DIGITS_INFO)
    assert images.shape == digits.shape
    assert images.dtype == np.float32
    # What is left is the rounding to bytes: half of 1/255.
    assert np.abs(images - digits).max() <= 0.5 / 255 + 1e-6
    # Polarity found is polarity given.
    assert np.array_equal(images[:20], load_images(paths[:20], DIGITS_INFO, polarity=polarity))


@pytest.mark.parametrize("polarity", [LIGHT, DARK])
@pytest.mark.parametrize("scale", [1, 3, 16])
def test_every_digit_comes_back_at_every_scale(scale, polarity):
    for digit in Digits(train=True).images[::7]:
        picture = render_digit(digit[0], scale, polarity).astype(np.float32)[None] / 255
        assert np.abs(prepare_image(picture, DIGITS_INFO) - digit).max() <= 0.5 / 255 + 1e-6


def test_a_jpeg_comes_back_nearly(tmp_path):
    digits = Digits(train=False).images[:50]
    paths = [
        save(tmp_path / f"{index}.jpg", render_digit(digit[0], polarity=DARK), quality=90)
        for index, digit in enumerate(digits)
    ]
    assert np.abs(load_images(paths, DIGITS_INFO) - digits).max() < 0.05


def test_resized_smoothly_it_is_still_the_digit(tmp_path):
    digits = Digits(train=False).images[:50]
    errors = []
    for digit in digits:
        picture = Image.fromarray(255 - digit_pixels(digit[0])).resize((100, 100), Image.Resampling.BILINEAR)
        path = tmp_path / "digit.png"
        picture.save(path)
        errors.append(np.abs(load_images([path], DIGITS_INFO)[0] - digit).mean())
    # Enlarging with interpolation blurs, which averaging does not undo.
    assert max(errors) < 0.1


def test_a_data_set_of_the_other_polarity_and_range():
    info = replace(DIGITS_INFO, polarity=DARK, value_range=(0.0, 16.0))
    digit = Digits(train=False).images[0]
    for polarity in (LIGHT, DARK):
        picture = render_digit(digit[0], polarity=polarity).astype(np.float32)[None] / 255
        assert np.abs(prepare_image(picture, info) - 16 * (1 - digit)).max() <= 16 * 0.5 / 255 + 1e-5


def test_given_polarity_wins():
    picture = np.zeros((1, 8, 8), np.float32)
    picture[0, 2:6, 3] = 1
    assert np.array_equal(prepare_image(picture, DIGITS_INFO, crop="none"), picture)
    assert np.array_equal(prepare_image(picture, DIGITS_INFO, crop="none", polarity=DARK), 1 - picture)


def test_a_drawing_on_a_large_sheet_is_framed(tmp_path):
    # Two rows above, the figure is 8 units tall and 4 wide: the frame is 8 x 8 units around it.
    expected = np.zeros((8, 8))
    expected[0, 2:6] = 1
    expected[1:, 5] = 1
    for ink, paper in ((255, 0), (0, 255)):
        path = write_digit(tmp_path / "a.png", ink=ink, paper=paper)
        assert np.abs(load_images([path], DIGITS_INFO)[0, 0] - expected).max() < 1e-6


def test_a_drawing_at_the_edge_is_framed_with_added_ground(tmp_path):
    canvas = np.full((160, 80), 255, np.uint8)
    canvas[:80, :10] = 0
    expected = np.zeros((8, 8))
    # The stroke is one unit wide and its middle lies on the border of two pixels: half of each, brightened.
    expected[:, 3:5] = 1
    result = load_images([save(tmp_path / "a.png", canvas)], DIGITS_INFO)[0, 0]
    assert np.abs(result - expected).max() < 1e-6


def test_a_small_drawing_on_a_square_sheet_is_framed_as_in_the_data_set(tmp_path):
    canvas = np.zeros((400, 400), np.uint8)
    canvas[100:180, 300:320] = 255
    path = save(tmp_path / "a.png", canvas)
    assert load_images([path], DIGITS_INFO)[0, 0].sum() == pytest.approx(16)
    # A data set that leaves a fifth of the frame free on either side.
    looser = replace(DIGITS_INFO, input_shape=(1, 10, 10), ink_extent=0.8)
    result = load_images([path], looser)[0, 0]
    assert result[0].sum() == result[-1].sum() == 0
    assert result.sum() == pytest.approx(16)


def test_paper_that_is_not_white_is_cleaned(tmp_path):
    generator = np.random.default_rng(0)
    digit = Digits(train=False).images[0, 0]
    clean = render_digit(digit, 16, DARK) / 255
    # Grey paper with a grain, and ink that is not black.
    photo = 0.25 + 0.45 * clean + 0.03 * generator.standard_normal(clean.shape)
    path = save(tmp_path / "a.png", np.clip(photo * 255, 0, 255).astype(np.uint8))
    result = load_images([path], DIGITS_INFO)[0, 0]
    assert result[digit == 0].max() < 0.1
    assert result[digit > 0.9].min() > 0.85
    assert np.abs(result - digit).mean() < 0.1


def photograph(digit, polarity, falloff, noise, seed=0):
    """A drawing on a larger sheet, lit from one side, with a camera's noise, ink and paper both greyish."""
    generator = np.random.default_rng(seed)
    drawing = np.pad(render_digit(digit, 16) / 255, ((40, 60), (30, 50)))
    drawing = 0.2 + 0.6 * (drawing if polarity == LIGHT else 1 - drawing)
    light = np.linspace(1, 1 - falloff, drawing.shape[1])
    pixels = drawing * light + noise * generator.standard_normal(drawing.shape)
    return np.clip(pixels, 0, 1).astype(np.float32)[None]


@pytest.mark.parametrize("polarity", [LIGHT, DARK])
@pytest.mark.parametrize("falloff, noise, bound", [(0.0, 0.02, 0.03), (0.2, 0.02, 0.06), (0.5, 0.02, 0.12)])
def test_photographs_of_drawings(polarity, falloff, noise, bound):
    errors = []
    for seed, digit in enumerate(Digits(train=False).images[:20]):
        clean = prepare_image(photograph(digit[0], LIGHT, 0, 0), DIGITS_INFO)
        result = prepare_image(photograph(digit[0], polarity, falloff, noise, seed), DIGITS_INFO)
        errors.append(np.abs(result - clean).mean())
    # It is 0.3 and more where the polarity or the frame is missed.
    assert np.median(errors) < bound
    assert np.max(errors) < 0.25


def test_specks_do_not_widen_the_frame():
    picture = np.zeros((1, 320, 160), np.float32)
    picture[0, 100:260, 80:100] = 1
    clean = prepare_image(picture, DIGITS_INFO)
    picture[0, [3, 10, 300], [150, 5, 80]] = 1
    assert np.array_equal(prepare_image(picture, DIGITS_INFO), clean)


def test_thin_strokes_are_brightened():
    picture = np.ones((1, 400, 400), np.float32)
    picture[0, 20:380, 199:201] = 0
    result = prepare_image(picture, DIGITS_INFO)[0]
    assert result.max() == pytest.approx(1.0)
    assert (result.max(1) > 0.5).all()


def test_crops():
    picture = np.zeros((1, 4, 12), np.float32)
    picture[0, :, 3:9] = 1
    info = replace(DIGITS_INFO, input_shape=(1, 4, 4))
    assert prepare_image(picture, info, crop="center", polarity=LIGHT).min() == 1
    whole = prepare_image(picture, info, crop="none", polarity=LIGHT)[0, 0]
    assert whole.tolist() == pytest.approx([0, 1, 1, 0])


def test_photographs_keep_their_colours_and_their_middle(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 4:12] = (255, 51, 102)
    result = load_images([save(tmp_path / "a.png", pixels)], PHOTO_INFO)[0]
    assert result.shape == (3, 4, 4)
    assert np.allclose(result, np.array([1, 0.2, 0.4])[:, None, None])
    assert PHOTO_INFO.normalize(result[None])[0, 0, 0, 0] == pytest.approx(2.5)


def test_a_grey_picture_for_a_network_of_three_channels(tmp_path):
    path = save(tmp_path / "a.png", np.full((4, 4), 51, np.uint8))
    assert np.allclose(load_images([path], PHOTO_INFO), 0.2)


def test_no_pictures():
    assert load_images([], DIGITS_INFO).shape == (0, 1, 8, 8)


@pytest.mark.parametrize("value", [0, 255])
def test_a_blank_sheet_is_ground(tmp_path, value):
    path = save(tmp_path / "a.png", np.full((20, 30), value, np.uint8))
    assert load_images([path], DIGITS_INFO).max() == 0


def test_border_decides_the_polarity():
    image = np.zeros((20, 20))
    image[3:17, 3:17] = 1
    # More light than dark, but the border is dark.
    image[1:19, 1:19] = 1
    assert find_polarity(image) == LIGHT
    assert find_polarity(1 - image) == DARK


# Reading


def test_colours_become_grey_by_luma(tmp_path):
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    result = read_image(save(tmp_path / "a.png", pixels))
    assert result[0, 0].tolist() == pytest.approx([0.299, 0.587, 0.114, 1.0])
    assert result.shape == (1, 1, 4)
    assert read_image(tmp_path / "a.png", channels=3)[:, 0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
def test_modes(tmp_path, mode):
    pixels = np.array([[0, 255], [255, 0]], np.uint8)
    suffix = "tiff" if mode == "CMYK" else "png"
    path = save(tmp_path / f"a.{suffix}", pixels, mode)
    assert read_image(path)[0].tolist() == [[0, 1], [1, 0]]


def test_sixteen_bits(tmp_path):
    pixels = np.array([[0, 65535], [13107, 32768]], np.uint16)
    result = read_image(save(tmp_path / "a.png", pixels))
    assert result[0].ravel().tolist() == pytest.approx([0, 1, 0.2, 32768 / 65535])


def test_floats(tmp_path):
    path = save(tmp_path / "a.tiff", np.array([[0.0, 0.5], [1.0, 0.25]], np.float32))
    assert read_image(path)[0].tolist() == [[0.0, 0.5], [1.0, 0.25]]


@pytest.mark.parametrize("ink, paper", [(0, 1.0), (255, 0.0)])
def test_what_is_transparent_becomes_paper(tmp_path, ink, paper):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[1:3, 1:3] = (ink, ink, ink, 255)
    path = save(tmp_path / "a.png", pixels)
    image = read_image(path)[0]
    assert image[0, 0] == paper
    assert image[1, 1] == ink / 255
    assert read_image(path, channels=3)[:, 0, 0].tolist() == [paper] * 3


def test_half_transparent_is_mixed_with_paper(tmp_path):
    path = save(tmp_path / "a.png", np.array([[[0, 51], [0, 255]]], np.uint8), mode=None)
    assert read_image(path, polarity=DARK)[0, 0].tolist() == pytest.approx([0.8, 0.0])
    assert read_image(path, polarity=LIGHT)[0, 0].tolist() == [0.0, 0.0]


def test_a_transparent_palette_entry(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    picture.putpalette([0, 0, 0, 10, 20, 30])
    picture.save(tmp_path / "a.png", transparency=1)
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [0.0, 1.0]


def test_the_cameras_orientation_is_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.png", np.array([[0, 255]], np.uint8), exif=exif)
    assert read_image(path)[0].tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize(
    "name, content, text",
    [
        ("a.png", b"", "not a picture of a known format"),
        ("a.png", b"hello", "not a picture of a known format"),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not a picture of a known format"),
        ("a.png", None, "the picture cannot be read"),
    ],
)
def test_no_picture(tmp_path, name, content, text):
    path = tmp_path / name
    if content is None:
        whole = save(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8))
        content = whole.read_bytes()[:2000]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=text) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_truncation_is_one_clear_error(tmp_path):
    messages = []
    for suffix in ("png", "jpg", "gif", "bmp", "tiff"):
        whole = save(tmp_path / f"whole.{suffix}", np.arange(256, dtype=np.uint8).reshape(16, 16)).read_bytes()
        path = tmp_path / f"cut.{suffix}"
        for length in range(0, len(whole), max(1, len(whole) // 25)):
            path.write_bytes(whole[:length])
            try:
                shape = read_image(path).shape
            except ValueError as error:
                messages.append((path, str(error)))
            else:
                assert shape == (1, 16, 16)
    assert len(messages) > 50
    assert all(message.startswith(f"{path}: ") for path, message in messages)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ValueError, match="is a folder, not a picture"):
        read_image(tmp_path)


def test_a_picture_that_is_too_large(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", np.zeros((100, 100), np.uint8))
    monkeypatch.setattr("gpunet.data.images._MAX_PIXELS", 9999)
    with pytest.raises(ValueError, match="100 x 100 pixels are too many"):
        read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="too many pixels"):
        read_image(path)


def test_without_pillow(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def no_pillow(name, *args, **kwargs):
        if name.split(".")[0] == "PIL":
            raise ModuleNotFoundError("No module named 'PIL'", name="PIL")
        return real_import(name, *args, **kwargs)

    path = save(tmp_path / "a.png", np.zeros((2, 2), np.uint8))
    monkeypatch.setattr(builtins, "__import__", no_pillow)
    with pytest.raises(ModuleNotFoundError, match=r"needs Pillow: pip install 'gpunet\[images\]'"):
        read_image(path)


@pytest.mark.parametrize(
    "change, error, text",
    [
        ({"polarity": "bright"}, ValueError, "polarity: expected one of auto, light-on-dark, dark-on-light"),
        ({"crop": "left"}, ValueError, "crop: expected one of auto, center, none, got 'left'"),
        ({"image": np.zeros((8, 8))}, ShapeError, r"image: expected \(1, H, W\), got \(8, 8\)"),
        ({"image": np.zeros((3, 8, 8))}, ShapeError, r"image: expected \(1, H, W\), got \(3, 8, 8\)"),
        ({"image": np.zeros((1, 0, 8))}, ShapeError, r"image: expected \(1, H, W\), got \(1, 0, 8\)"),
    ],
)
def test_wrong_arguments(change, error, text):
    arguments = {"image": np.zeros((1, 8, 8)), **change}
    with pytest.raises(error, match=text):
        prepare_image(arguments.pop("image"), DIGITS_INFO, **arguments)


def test_a_polarity_where_there_is_none():
    with pytest.raises(ValueError, match="polarity: the data set photos has none"):
        prepare_image(np.zeros((3, 4, 4)), PHOTO_INFO, polarity=DARK)


def test_channels_no_picture_has(tmp_path):
    with pytest.raises(ValueError, match=r"channels: a picture has 1 \(grey\) or 3 \(RGB\), but the network takes 2"):
        read_image(tmp_path / "a.png", channels=2)


# Resizing by area


@pytest.mark.parametrize(
    "row, size, expected",
    [
        ([0, 4, 8, 12], 2, [2, 10]),
        # Each new pixel covers one and a half old ones.
        ([0, 3, 6], 2, [1, 5]),
        # Five over three: 1 + 2/3, then 1/3 + 1 + 1/3, then 2/3 + 1.
        ([0, 5, 10, 15, 20], 3, [2, 10, 18]),
        # Two over three: whole, half and half, whole.
        ([0, 6], 3, [0, 3, 6]),
        ([1, 2], 4, [1, 1, 2, 2]),
        ([7], 3, [7, 7, 7]),
        ([1, 2, 3], 1, [2]),
    ],
)
def test_area_resize_by_hand(row, size, expected):
    image = np.array([row], np.float64)
    assert area_resize(image, (1, size))[0].tolist() == pytest.approx(expected)
    assert area_resize(image.T, (size, 1))[:, 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("old, new", [((7, 5), (3, 4)), ((3, 4), (7, 5)), ((64, 48), (8, 8)), ((9, 9), (9, 9))])
def test_area_resize_keeps_the_mean_and_the_dtype(old, new):
    image = np.random.default_rng(0).random((2, *old)).astype(np.float32)
    result = area_resize(image, new)
    assert result.shape == (2, *new)
    assert result.dtype == np.float32
    assert np.allclose(result.mean((1, 2)), image.mean((1, 2)), atol=1e-6)
    if old == new:
        assert np.array_equal(result, image)


@pytest.mark.parametrize("new", [(3, 4), (20, 9)])
def test_area_resize_is_the_mean_over_the_common_multiple(new):
    """Repeat every pixel until both grids divide it, then average blocks: the definition, the long way."""
    image = np.random.default_rng(1).random((6, 5))
    fine = np.kron(image, np.ones(new))
    blocks = fine.reshape(new[0], 6, new[1], 5).mean((1, 3))
    assert np.allclose(area_resize(image, new), blocks, atol=1e-12)


@pytest.mark.parity
@pytest.mark.parametrize("new", [(4, 4), (2, 8), (8, 1)])
def test_area_resize_is_pytorchs_where_it_divides(new):
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(2).random((3, 8, 8))
    expected = torch.nn.functional.interpolate(torch.from_numpy(image)[None], size=new, mode="area")[0].numpy()
    assert np.allclose(area_resize(image, new), expected, atol=1e-12)


def test_area_resize_to_nothing():
    with pytest.raises(ShapeError, match="size: must be positive, got 0"):
        area_resize(np.zeros((2, 2)), (0, 2))


def test_importing_the_package_does_not_import_pillow():
    import subprocess

    code = "import sys, gpunet.data; assert 'PIL' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_reading_warns_of_nothing(tmp_path):
    path = save(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(path)
