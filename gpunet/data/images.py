"""Pictures from files, prepared for a network that learned from another kind of picture.

A scan, a photograph or a drawing becomes an image like those of the data set: greyscale or RGB, strokes as
bright or as dark as there, framed as tightly, of the same size and range. Each step is found from the picture
or given.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterable
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError

from .info import POLARITIES, DatasetInfo

__all__ = ["CROPS", "area_resize", "find_polarity", "load_images", "prepare_image", "read_image"]

CROPS = ("auto", "center", "none")

# What Pillow may try; its other plugins run programs or are older than their files.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "PPM")
# Pillow's own limit for pictures that are meant well.
_MAX_PIXELS = 89_478_485
# ITU-R BT.601, what Pillow and scanners use.
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)

# A picture whose sides' ratio is this close to the network's is not cropped for its shape.
_SAME_ASPECT = 1.05
# A drawing that takes this share of the place it has in the data set's images is framed well enough.
_WELL_FRAMED = 0.6
# The ground is even if this share of the picture's border is within this part of the picture's range.
_EVEN_SHARE, _EVEN_WIDTH = 0.45, 0.06
# Ground at most this bright under ink at least this bright is left as it is.
_DARK_ENOUGH, _BRIGHT_ENOUGH = 0.15, 0.7


def load_images(
    paths: Iterable[str | PathLike[str]], info: DatasetInfo, *, polarity: str = "auto", crop: str = "auto"
) -> np.ndarray:
    """Read picture files and prepare them for a network trained on a data set.

    Args:
        paths: PNG, JPEG, BMP, GIF, TIFF or PPM files.
        info: the data set's description.
        polarity: see ``prepare_image``.
        crop: see ``prepare_image``.

    Returns:
        float32 (N, C, H, W) of the data set's shape and value range; ``info.normalize`` comes next.

    Raises:
        ModuleNotFoundError: Pillow is not installed.
        FileNotFoundError, ValueError: a file that is not there or is no picture; the message names it.
    """
    channels, height, width = info.input_shape
    images = [prepare_image(read_image(path, channels, polarity), info, polarity=polarity, crop=crop) for path in paths]
    return np.stack(images) if images else np.empty((0, channels, height, width), np.float32)


def read_image(path: str | PathLike[str], channels: int = 1, polarity: str = "auto") -> np.ndarray:
    """Read a picture file.

    It is turned as its camera says. What is transparent becomes paper: white under dark ink, black under
    light ink.

    Args:
        path: of the file.
        channels: 1 for greyscale, 3 for RGB.
        polarity: of the picture, if known; decides what transparent pixels become.

    Returns:
        float32 (channels, H, W) in 0 (black) to 1 (white).

    Raises:
        ModuleNotFoundError: Pillow is not installed.
        FileNotFoundError: no such file.
        ValueError: the file is no picture, is damaged or too large, or ``channels`` is neither 1 nor 3.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels: a picture has 1 (grey) or 3 (RGB), but the network takes {channels}")
    _check_choice("polarity", polarity, ("auto", *POLARITIES))
    values, alpha = _decode(Path(fspath(path)))
    if channels == 1 and values.ndim == 3:
        values = values @ _LUMA
    elif channels == 3 and values.ndim == 2:
        values = np.repeat(values[:, :, None], 3, 2)
    if alpha is not None:
        values = _on_paper(values, alpha, polarity)
    return np.ascontiguousarray(values[None] if values.ndim == 2 else values.transpose(2, 0, 1))


def prepare_image(image: np.ndarray, info: DatasetInfo, *, polarity: str = "auto", crop: str = "auto") -> np.ndarray:
    """Make a picture look like those of a data set.

    For a data set of drawings (``info.polarity`` is set):

    1. Light: where the ground has no one brightness, because light falls on it unevenly, a smooth surface
       through it is taken off.
    2. Polarity: the picture is inverted if its strokes are darker than their ground and the data set's are lighter,
       or the other way round. ``"auto"`` finds it from the border (``find_polarity``).
    3. Levels: if the ground is greyer or the ink paler than a clean picture's, as on a photograph, ground and ink are
       stretched to black and white.
    4. Crop: ``"auto"`` leaves a picture of the network's proportions alone if the drawing fills it well, and otherwise
       frames the drawing as tightly as the data set does, adding ground where the frame reaches beyond the picture.
       ``"center"`` takes the largest part of the network's proportions from the middle, ``"none"`` everything.
    5. Strokes so thin that nothing bright is left of them at the network's size are brightened.

    A clean picture that is framed like those of the data set passes all of these unchanged.

    For photographs only the crop applies, and ``"auto"`` is ``"center"``. Then every pixel of the result
    becomes the mean of the area it covers (``area_resize``), in the data set's range.

    Args:
        image: (C, H, W) in 0 (black) to 1 (white).
        info: the data set's description.
        polarity: ``"auto"``, ``"light-on-dark"`` or ``"dark-on-light"``: the picture's.
        crop: ``"auto"``, ``"center"`` or ``"none"``.

    Returns:
        float32 (C, H, W) of the data set's shape and value range.
    """
    _check_choice("polarity", polarity, ("auto", *POLARITIES))
    _check_choice("crop", crop, CROPS)
    channels, *size = info.input_shape
    if image.ndim != 3 or image.shape[0] != channels or 0 in image.shape:
        raise ShapeError(f"image: expected ({channels}, H, W), got {image.shape}")
    if info.polarity is None and polarity != "auto":
        raise ValueError(f"polarity: the data set {info.name} has none, got {polarity!r}")
    image = np.asarray(image, np.float32)

    ground = 0.0
    if info.polarity is not None:
        image = _even_light(image)
        found = find_polarity(image.mean(0)) if polarity == "auto" else polarity
        # From here to the end of the crop ink is bright.
        image = image if found == "light-on-dark" else 1 - image
        image, ground = _clean_levels(image)
    if crop == "auto" and info.polarity is not None:
        image = _frame_drawing(image, size, info.ink_extent or 1.0, ground)
    elif crop != "none":
        image = _crop_center(image, size)
    image = area_resize(image, (size[0], size[1]))
    if info.polarity is not None and 1e-3 < image.max() < _BRIGHT_ENOUGH:
        image /= image.max()
    if info.polarity == "dark-on-light":
        image = 1 - image
    black, white = info.value_range
    return (black + image * (white - black)).astype(np.float32)


def find_polarity(image: np.ndarray) -> str:
    """Whether the strokes of a drawing are lighter or darker than what they are drawn on.

    The picture's pixels are divided into light and dark (Otsu 1979, "A threshold selection method from
    gray-level histograms"). Most of the border is ground, not ink; where strokes cross it so often that this
    is in doubt, ground is what there is more of.

    Args:
        image: (H, W) in 0 to 1.

    Returns:
        ``"light-on-dark"`` or ``"dark-on-light"``.
    """
    if image.max() - image.min() < 1e-3:
        light_ground = image.mean() > 0.5
    else:
        light = image > _otsu(image)
        share = light[_border(image.shape, max(1, min(image.shape) // 32))].mean()
        light_ground = share > 0.5 if abs(share - 0.5) > 0.15 else light.mean() > 0.5
    return "dark-on-light" if light_ground else "light-on-dark"


def area_resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize by areas: a pixel of the result is the mean of the part of the picture it covers.

    Exact for every ratio, whole or not, up or down: a source pixel that lies across an edge counts by its
    parts. What was enlarged by a whole factor, by repeating pixels, comes back as it was.

    Args:
        image: (..., H, W).
        size: (H', W').

    Returns:
        (..., H', W') of the image's dtype.
    """
    height, width = size
    values = _resize_rows(image.astype(np.float64), width)
    return _resize_rows(values.swapaxes(-1, -2), height).swapaxes(-1, -2).astype(image.dtype)


def _resize_rows(rows: np.ndarray, new: int) -> np.ndarray:
    """Means of ``new`` equal parts of each row: differences of its running sum at the parts' edges."""
    if new <= 0:
        raise ShapeError(f"size: must be positive, got {new}")
    old = rows.shape[-1]
    # An edge lies in pixel `whole`, of which `part` in `new` is before it: whole numbers, so that nothing is rounded.
    whole, part = np.divmod(np.arange(new + 1) * old, new)
    nothing = np.zeros((*rows.shape[:-1], 1))
    sums = np.concatenate([nothing, np.cumsum(rows, -1)], -1)
    pixels = np.concatenate([rows, nothing], -1)
    return np.diff(sums[..., whole] + pixels[..., whole] * (part / new)) * (new / old)


def _decode(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W) or (H, W, 3) in 0..1, and the opacity (H, W) where there is one."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("reading pictures needs Pillow: pip install 'gpunet[images]'", name="PIL") from error
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, not a picture")
    if not path.is_file():  # to open a pipe is to wait for its other end
        raise ValueError(f"{path}: is a pipe or a device, not a picture file")
    try:
        with warnings.catch_warnings():
            # Pillow warns of files it then refuses or reads; either is said below.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as picture:
                if picture.width * picture.height > _MAX_PIXELS:
                    raise ValueError(f"{picture.width} x {picture.height} pixels are too many")
                picture.load()
                upright: Any = ImageOps.exif_transpose(picture)
                return _as_arrays(upright)
    except PermissionError:
        raise ValueError(f"{path}: may not be read") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not a picture of a known format ({', '.join(_FORMATS)})") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path}: not read, it has too many pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error) as error:
        raise ValueError(f"{path}: the picture cannot be read: {error}") from error


def _as_arrays(picture: Any) -> tuple[np.ndarray, np.ndarray | None]:
    if picture.has_transparency_data:
        values = np.asarray(picture.convert("RGBA"), np.float32) / 255
        return values[:, :, :3], values[:, :, 3]
    if picture.mode.startswith("I"):
        # 16 bits per pixel, whether Pillow holds them in 16 or in 32.
        return np.clip(np.asarray(picture).astype(np.float32) / 65535, 0, 1), None
    if picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture, np.float32))
        return np.clip(values if values.max() <= 1 else values / 255, 0, 1), None
    mode = "L" if picture.mode in ("1", "L") else "RGB"
    return np.asarray(picture.convert(mode), np.float32) / 255, None


def _on_paper(values: np.ndarray, alpha: np.ndarray, polarity: str) -> np.ndarray:
    brightness = values if values.ndim == 2 else values @ _LUMA
    if polarity == "auto":
        opaque = alpha.sum()
        dark_ink = opaque == 0 or (brightness * alpha).sum() / opaque < 0.5
    else:
        dark_ink = polarity == "dark-on-light"
    alpha = alpha if values.ndim == 2 else alpha[:, :, None]
    return values * alpha + (1 - alpha) * (1.0 if dark_ink else 0.0)


def _otsu(image: np.ndarray) -> float:
    """The threshold that puts the means of what is below and above farthest apart, weighted by sizes."""
    low, high = float(image.min()), float(image.max())
    counts, edges = np.histogram(image, 256, (low, high))
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = image.size - below
    sum_below = np.cumsum(counts * centers)
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = sum_below / below - (sum_below[-1] - sum_below) / above
        between = np.nan_to_num(below * above * distance**2)
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    # Between two classes with a gap every threshold in it is as good: take the middle.
    return float((edges[best[0] + 1] + edges[best[-1] + 1]) / 2)


def _border(shape: tuple[int, ...], depth: int) -> np.ndarray:
    border = np.ones(shape, bool)
    border[depth:-depth, depth:-depth] = False
    return border


def _even_light(image: np.ndarray) -> np.ndarray:
    """The picture without what a smooth surface through its ground explains, if the ground is uneven."""
    height, width = image.shape[1:]
    coarse = area_resize(image.mean(0), (min(height, 32), min(width, 32))).astype(np.float64)
    values = np.sort(coarse[_border(coarse.shape, 1)])
    width_in_values = _EVEN_WIDTH * (coarse.max() - coarse.min())
    within = np.searchsorted(values, values + width_in_values, "right") - np.arange(values.size)
    if within.max() >= _EVEN_SHARE * values.size:
        return image

    def terms(rows: int, columns: int) -> np.ndarray:
        y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
        return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)

    basis, target = terms(*coarse.shape).reshape(-1, 6), coarse.ravel()
    weights = np.ones_like(target)
    for _ in range(12):
        # The smallest sum of absolute distances, by weighted squares: ink is the lesser part and does not count.
        factor = np.sqrt(weights)
        solution = np.linalg.lstsq(basis * factor[:, None], target * factor, rcond=None)[0]
        weights = 1 / np.maximum(np.abs(basis @ solution - target), 1e-3)
    surface = (terms(height, width) @ solution).astype(np.float32)
    return np.clip(image - surface + np.median(surface), 0, 1)


def _clean_levels(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The picture with black ground and white ink, and how bright the ground still is."""
    low, high = float(image.min()), float(image.max())
    if high - low < 1e-3:
        return image, low
    threshold = _otsu(image)
    ground = image[image <= threshold]
    level = float(np.median(ground))
    if level <= _DARK_ENOUGH and high >= _BRIGHT_ENOUGH:
        return image, level
    # Paper has a grain: nine tenths of it become black. The ink's own median becomes white.
    black, white = float(np.quantile(ground, 0.9)), float(np.median(image[image > threshold]))
    return np.clip((image - black) / (white - black), 0, 1), 0.0


def _frame_drawing(image: np.ndarray, size: list[int], extent: float, ground: float) -> np.ndarray:
    """The part of the picture in which the drawing stands as it does in the data set."""
    brightness = image.mean(0)
    if brightness.max() - brightness.min() < 1e-3:
        return _crop_center(image, size)
    ink = brightness > _otsu(brightness)
    height, width = brightness.shape
    if min(height / size[0], width / size[1]) > 4:
        # A stroke has neighbours; a speck, or the noise of a camera, does not.
        around = np.lib.stride_tricks.sliding_window_view(np.pad(ink, 1), (3, 3))
        ink &= around.sum((2, 3)) >= 3
    if not ink.any():
        return _crop_center(image, size)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    # One unit is what becomes one pixel of the network's input.
    unit = max((bottom - top) / size[0], (right - left) / size[1]) / extent
    unit_now = max(height / size[0], width / size[1])
    aspect = (height / size[0]) / (width / size[1])
    if 1 / _SAME_ASPECT <= aspect <= _SAME_ASPECT and unit >= _WELL_FRAMED * unit_now:
        return image
    frame = (max(1, round(unit * size[0])), max(1, round(unit * size[1])))
    first_row = round((top + bottom - frame[0]) / 2)
    first_column = round((left + right - frame[1]) / 2)
    result = np.full((len(image), *frame), ground, image.dtype)
    inside = image[
        :,
        max(first_row, 0) : max(first_row + frame[0], 0),
        max(first_column, 0) : max(first_column + frame[1], 0),
    ]
    row, column = max(-first_row, 0), max(-first_column, 0)
    result[:, row : row + inside.shape[1], column : column + inside.shape[2]] = inside
    return result


def _crop_center(image: np.ndarray, size: list[int]) -> np.ndarray:
    """The largest part of the network's proportions, from the middle."""
    height, width = image.shape[1:]
    unit = min(height / size[0], width / size[1])
    new_height, new_width = max(1, round(unit * size[0])), max(1, round(unit * size[1]))
    top, left = (height - new_height) // 2, (width - new_width) // 2
    return image[:, top : top + new_height, left : left + new_width]


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
