"""Image transforms, under torchvision's names.

Every transform works on one image or on a batch, and gives the same values either way: calling it with an
image draws from the sample being loaded (see ``gpunet.data.DataLoader``: a function of seed, epoch and sample
index), and data sets that gather whole batches call ``apply`` with the numbers of all their samples at once.

Images are (C, H, W), as a Tensor or an array; what comes in goes out. Only ``ToTensor`` takes pictures and
(H, W, C).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunet.autograd import Tensor, from_numpy
from gpunet.backend.errors import DTypeError, ShapeError

from ._checks import is_number, is_positive
from ._random import uniforms

__all__ = [
    "CenterCrop",
    "Compose",
    "Grayscale",
    "Normalize",
    "PCALighting",
    "Pad",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomShift",
    "Resize",
    "ToTensor",
    "Transform",
]


class Transform:
    """An image transform that can be applied to a batch.

    Subclasses define ``apply`` and, if they are random, ``draws``.

    Attributes:
        draws: how many uniform random numbers one image takes.
    """

    draws: int = 0

    def apply(self, images: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Transform a batch.

        Args:
            images: (N, C, H, W); not changed.
            uniforms: float64 (N, draws) in [0, 1): row n decides what happens to image n.

        Returns:
            (N, C, H', W').
        """
        raise NotImplementedError(f"{type(self).__name__} must define apply")

    def __call__(self, image: Any) -> Any:
        """Transform one image (C, H, W) with the next random numbers."""
        array = _image_array(image, type(self).__name__)
        result = self.apply(array[None], uniforms(self.draws)[None] if self.draws else np.empty((1, 0)))[0]
        return from_numpy(result) if isinstance(image, Tensor) else result

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({values})"


class Compose:
    """Transforms one after the other.

    Args:
        transforms: functions of an image. If all of them are ``Transform`` or ``ToTensor``, the whole is
            applied to batches too.
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        for position, transform in enumerate(transforms):
            if not callable(transform):
                raise TypeError(f"transforms: expected functions, got {transform!r} at position {position}")
        self.transforms = list(transforms)

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"


class ToTensor:
    """A picture or array (H, W) or (H, W, C) as a Tensor (C, H, W).

    uint8 becomes float32 in 0..1; other dtypes keep their values. A Tensor stays as it is (torchvision's
    raises), so that one pipeline serves data sets that give tensors and data sets that give pictures.
    """

    def __call__(self, image: Any) -> Tensor:
        if isinstance(image, Tensor):
            return image
        array = np.asarray(image)
        if array.dtype.kind not in "buif":
            raise DTypeError(f"image: expected an array or a picture, got {type(image).__name__}")
        if array.ndim not in (2, 3):
            raise ShapeError(f"image: expected (H, W) or (H, W, C), got shape {array.shape}")
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        if array.dtype == np.uint8:
            array = array.astype(np.float32) / np.float32(255)
        elif array.dtype == np.bool_:
            array = array.astype(np.float32)
        return from_numpy(np.array(array, order="C"))

    def __repr__(self) -> str:
        return "ToTensor()"


class Normalize(Transform):
    """(image - mean) / std, per channel.

    Args:
        mean: one number per channel.
        std: one number per channel, not zero.
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = _per_channel("mean", mean), _per_channel("std", std)
        if not all(self.std):
            raise ValueError(f"std: must not be zero, got {list(self.std)}")
        if len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise ShapeError(f"std: expected as many numbers as mean has ({len(self.mean)}), got {len(self.std)}")

    def apply(self, images: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        if images.dtype.kind != "f":
            raise DTypeError(f"images: Normalize needs floating point, got {images.dtype}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, images.shape[1]):
                raise ShapeError(f"{name}: expected one number per channel ({images.shape[1]}), got {len(values)}")
        mean, std = (np.asarray(values, images.dtype)[:, None, None] for values in (self.mean, self.std))
        result = images - mean
        result /= std
        return result


class Pad(Transform):
    """Add pixels around the image.

    Args:
        padding: pixels on every side; or (left and right, top and bottom); or (left, top, right, bottom).
        fill: their value.
        padding_mode: ``"constant"``, or ``"edge"``, ``"reflect"``, ``"symmetric"`` as ``numpy.pad`` has them.
    """

    def __init__(self, padding: int | Sequence[int], fill: float = 0, padding_mode: str = "constant") -> None:
        self.padding = _sides(padding)
        self.fill = fill
        modes = ("constant", "edge", "reflect", "symmetric")
        if padding_mode not in modes:
            raise ValueError(f"padding_mode: expected one of {', '.join(modes)}, got {padding_mode!r}")
        self.padding_mode = padding_mode

    def apply(self, images: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        left, top, right, bottom = self.padding
        if self.padding_mode == "constant":
            return _padded(images, self.padding, self.fill)
        limit = {"reflect": 1, "symmetric": 0, "edge": -np.inf}[self.padding_mode]
        for size, pads in ((images.shape[2], (top, bottom)), (images.shape[3], (left, right))):
            if max(pads) > size - limit:
                raise ShapeError(f"padding: {self.padding_mode} of {max(pads)} pixels needs a larger image than {size}")
        widths = ((0, 0), (0, 0), (top, bottom), (left, right))
        return np.pad(images, widths, mode=self.padding_mode)  # type: ignore[call-overload]


class Resize(Transform):
    """Scale the image, bilinearly.

    torchvision's with ``antialias=True``: an image that becomes smaller is averaged over the pixels that come together.

    Args:
        size: of the shorter side; or (H, W).
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        sizes = (size,) if isinstance(size, int) else tuple(size)
        if len(sizes) not in (1, 2) or not all(map(is_positive, sizes)):
            raise ShapeError(f"size: expected a positive integer or two of them, got {size!r}")
        self.size = sizes

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of what becomes of an image of that size."""
        if len(self.size) == 2:
            return self.size[0], self.size[1]
        # The longer side is cut off, not rounded, as torchvision does it.
        shorter = min(height, width)
        return height * self.size[0] // shorter, width * self.size[0] // shorter

    def apply(self, images: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        height, width = images.shape[2:]
        new_height, new_width = self.output_size(height, width)
        exact = images.dtype if images.dtype.kind == "f" else np.dtype(np.float32)
        rows, columns = _resize_weights(height, new_height), _resize_weights(width, new_width)
        result = rows.astype(exact) @ images.astype(exact, copy=False) @ columns.astype(exact).T
        return result if images.dtype == exact else np.rint(result).astype(images.dtype)


class CenterCrop(Transform):
    """Cut out the middle.

    Args:
        size: side of the part, or (H, W); not larger than the image.
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = _height_and_width(size)

    def apply(self, images: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        height, width = images.shape[2:]
        if self.size[0] > height or self.size[1] > width:
            raise ShapeError(f"size: {self.size} is larger than the image {(height, width)}")
        # Python's rounding of halves, which is torchvision's.
        top, left = round((height - self.size[0]) / 2), round((width - self.size[1]) / 2)
        return np.ascontiguousarray(images[:, :, top : top + self.size[0], left : left + self.size[1]])


class RandomCrop(Transform):
    """Cut out a part at a random position.

    Args:
        size: side of the part, or (H, W).
        padding: pixels to add first, as ``Pad`` takes them.
        fill, padding_mode: as for ``Pad``.
    """

    draws = 2

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = None,
        fill: float = 0,
        padding_mode: str = "constant",
    ) -> None:
        self.size = _height_and_width(size)
        self.padding = None if padding is None else _sides(padding)
        self._pad = None if padding is None else Pad(padding, fill, padding_mode)

    def apply(self, images: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        if self._pad is not None:
            images = self._pad.apply(images, uniforms)
        height, width = images.shape[2:]
        if self.size[0] > height or self.size[1] > width:
            raise ShapeError(f"size: {self.size} is larger than the image {(height, width)} with its padding")
        positions = np.array((height - self.size[0] + 1, width - self.size[1] + 1))
        rows, columns = (uniforms * positions).astype(np.intp).T
        return _windows(images, self.size, rows, columns)


class RandomShift(Transform):
    """Move the image by up to ``pixels`` to either side, up and down; what comes in from outside is ``fill``.

    For small images, where torchvision's ``RandomAffine(0, translate=...)`` is meant.

    Args:
        pixels: the largest shift. By whole pixels all shifts are equally likely.
        fill: value of what was outside.
        subpixel: shift by fractions of a pixel too (bilinear), which blurs a little.
    """

    draws = 2

    def __init__(self, pixels: float = 1, fill: float = 0.0, subpixel: bool = False) -> None:
        if not (is_number(pixels) and pixels >= 0):
            raise ValueError(f"pixels: must be a number, zero or more, got {pixels!r}")
        if not subpixel and pixels != int(pixels):
            raise ValueError(f"pixels: must be whole without subpixel=True, got {pixels}")
        self.pixels, self.fill, self.subpixel = pixels, fill, subpixel

    def apply(self, images: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        if self.subpixel:
            matrices = np.zeros((len(images), 2, 3))
            matrices[:, 0, 0] = matrices[:, 1, 1] = 1
            matrices[:, :, 2] = (2 * uniforms - 1) * self.pixels
            return _warp(images, matrices, "bilinear", self.fill)
        pad = int(self.pixels)
        rows, columns = (uniforms * (2 * pad + 1)).astype(np.intp).T
        return _windows(_padded(images, (pad, pad, pad, pad), self.fill), images.shape[2:], rows, columns)


class RandomHorizontalFlip(Transform):
    """Mirror left and right with probability ``p``."""

    draws = 1

    def __init__(self, p: float = 0.5) -> None:
        if not (is_number(p) and 0 <= p <= 1):
            raise ValueError(f"p: must be a probability in [0, 1], got {p!r}")
        self.p = p

    def apply(self, images: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        flipped = uniforms[:, 0] < self.p
        result = images.copy()
        result[flipped] = images[flipped, :, :, ::-1]
        return result


class Grayscale(Transform):
    """The brightness of an image, 0.2989 R + 0.587 G + 0.114 B; a grey image keeps its values.

    Args:
        num_output_channels: 1, or 3 equal ones for a network that takes colour images alone.
    """

    def __init__(self, num_output_channels: int = 1) -> None:
        if num_output_channels not in (1, 3):
            raise ValueError(f"num_output_channels: must be 1 or 3, got {num_output_channels!r}")
        self.num_output_channels = num_output_channels

    def apply(self, images: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        if images.shape[1] not in (1, 3):
            raise ShapeError(f"images: Grayscale needs 1 or 3 channels, got {images.shape[1]}")
        if images.shape[1] == 3:
            red, green, blue = np.moveaxis(images, 1, 0)
            images = (0.2989 * red + 0.587 * green + 0.114 * blue).astype(images.dtype)[:, None]
        return np.repeat(images, self.num_output_channels, axis=1)


class PCALighting(Transform):
    """Change the light of a colour image: Krizhevsky et al. 2012, section 4.1.

    To each pixel [p1 p2 p3] [a1 l1, a2 l2, a3 l3] is added, with p and l the principal components of the colours of
    ImageNet's training images and the roots of their variances, and a drawn from N(0, std^2) once for an image.

    Args:
        std: the paper's is 0.1, for images in 0..1.
    """

    draws = 4

    # Of ImageNet, in 0..1: the constants of fb.resnet.torch.
    ROOTS = np.array((0.2175, 0.0188, 0.0045))
    COMPONENTS = np.array(((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203)))

    def __init__(self, std: float = 0.1) -> None:
        if not (is_number(std) and std >= 0):
            raise ValueError(f"std: must be a number, zero or more, got {std!r}")
        self.std = std

    def apply(self, images: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        if images.dtype.kind != "f":
            raise DTypeError(f"images: PCALighting needs floating point, got {images.dtype}")
        if images.shape[1] != 3:
            raise ShapeError(f"images: PCALighting needs 3 channels, got {images.shape[1]}")
        radius = np.sqrt(-2 * np.log1p(-uniforms[:, (0, 1)]))  # Box and Muller 1958
        angle = 2 * np.pi * uniforms[:, (2, 3)]
        normal = np.concatenate([radius * np.cos(angle), (radius * np.sin(angle))[:, :1]], axis=1)
        light = (self.std * normal * self.ROOTS) @ self.COMPONENTS.T
        return images + light.astype(images.dtype)[:, :, None, None]


class RandomAffine(Transform):
    """Rotate, shift, scale and shear about the centre, each by a random amount.

    torchvision's, but with shifts that are not rounded to whole pixels when interpolation is bilinear.

    Args:
        degrees: rotation within (-degrees, degrees), or (from, to); positive is clockwise.
        translate: the largest shift as shares (of the width, of the height).
        scale: (from, to).
        shear: degrees along x within (-shear, shear), or (from, to), or (from x, to x, from y, to y).
        interpolation: ``"nearest"`` or ``"bilinear"``.
        fill: value of what was outside.
    """

    draws = 6

    def __init__(
        self,
        degrees: float | Sequence[float],
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: float | Sequence[float] | None = None,
        interpolation: str = "nearest",
        fill: float = 0.0,
    ) -> None:
        self.degrees = _interval("degrees", degrees)
        self.translate = _numbers("translate", (0.0, 0.0) if translate is None else translate, 2)
        if not all(0 <= share <= 1 for share in self.translate):
            raise ValueError(f"translate: expected shares in [0, 1], got {tuple(self.translate)}")
        self.scale = _numbers("scale", (1.0, 1.0) if scale is None else scale, 2)
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale: expected (from, to) with 0 < from <= to, got {tuple(self.scale)}")
        self.shear: tuple[float, ...]
        if shear is None:
            self.shear = (0.0, 0.0, 0.0, 0.0)
        elif isinstance(shear, Sequence) and len(shear) == 4:
            self.shear = _numbers("shear", shear, 4)
        else:
            self.shear = (*_interval("shear", shear), 0.0, 0.0)
        if interpolation not in ("nearest", "bilinear"):
            raise ValueError(f"interpolation: expected nearest or bilinear, got {interpolation!r}")
        self.interpolation, self.fill = interpolation, fill

    def apply(self, images: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        height, width = images.shape[2:]
        reach = np.array((self.translate[0] * width, self.translate[1] * height))
        low = np.array((self.degrees[0], *-reach, self.scale[0], self.shear[0], self.shear[2]))
        high = np.array((self.degrees[1], *reach, self.scale[1], self.shear[1], self.shear[3]))
        angle, shift_x, shift_y, scale, shear_x, shear_y = (low + uniforms * (high - low)).T
        if self.interpolation == "nearest":
            shift_x, shift_y = np.rint(shift_x), np.rint(shift_y)
        matrices = _inverse_affine(angle, shift_x, shift_y, scale, shear_x, shear_y)
        return _warp(images, matrices, self.interpolation, self.fill)


def batched(transform: Any) -> list[Transform] | None:
    """The steps of a transform that can be applied to batches, or None if one of them cannot."""
    if transform is None or isinstance(transform, ToTensor):
        return []
    if isinstance(transform, Transform):
        # A subclass with a __call__ of its own means that one.
        return [transform] if type(transform).__call__ is Transform.__call__ else None
    if type(transform) is Compose:
        steps: list[Transform] = []
        for part in transform.transforms:
            inner = batched(part)
            if inner is None:
                return None
            steps += inner
        return steps
    return None


def apply_steps(steps: list[Transform], images: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Apply the steps one after the other, each with its share of the columns of ``uniforms``."""
    start = 0
    for step in steps:
        images = step.apply(images, uniforms[:, start : start + step.draws])
        start += step.draws
    return images


def _image_array(image: Any, what: str) -> np.ndarray:
    array = image.numpy() if isinstance(image, Tensor) else image
    if not isinstance(array, np.ndarray):
        raise TypeError(f"image: {what} expects a Tensor or an array, got {type(image).__name__} (ToTensor first)")
    if array.ndim != 3:
        raise ShapeError(f"image: {what} expects (C, H, W), got shape {array.shape}")
    return array


def _padded(images: np.ndarray, sides: tuple[int, int, int, int], fill: float) -> np.ndarray:
    # np.pad would do, at five times the time for small images.
    left, top, right, bottom = sides
    count, channels, height, width = images.shape
    result = np.full((count, channels, height + top + bottom, width + left + right), fill, images.dtype)
    result[:, :, top : top + height, left : left + width] = images
    return result


def _windows(images: np.ndarray, size: Sequence[int], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Image n's window of ``size`` whose upper left corner is at (rows[n], columns[n])."""
    windows = np.lib.stride_tricks.sliding_window_view(images, tuple(size), (2, 3))
    return np.ascontiguousarray(windows[np.arange(len(images)), :, rows, columns])


def _resize_weights(old: int, new: int) -> np.ndarray:
    """(new, old): what share of each old pixel is in a new one. Pixel i covers i to i + 1."""
    scale = old / new
    reach = max(scale, 1.0)  # of a triangle as wide as the pixels that come together
    centres = (np.arange(new)[:, None] + 0.5) * scale
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(old) + 0.5 - centres) / reach)
    normalised: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return normalised


def _inverse_affine(
    angle: np.ndarray,
    shift_x: np.ndarray,
    shift_y: np.ndarray,
    scale: np.ndarray,
    shear_x: np.ndarray,
    shear_y: np.ndarray,
) -> np.ndarray:
    """Where each output pixel comes from: (N, 2, 3) matrices from centred output (x, y, 1) to input (x, y).

    The forward map is T R S: shear S, rotate and scale R, shift T, about the centre, in degrees, y down.
    """
    rotation, shear_x, shear_y = np.deg2rad(angle), np.deg2rad(shear_x), np.deg2rad(shear_y)
    a = np.cos(rotation - shear_y) / np.cos(shear_y)
    b = -a * np.tan(shear_x) - np.sin(rotation)
    c = np.sin(rotation - shear_y) / np.cos(shear_y)
    d = -c * np.tan(shear_x) + np.cos(rotation)
    # The determinant of [[a, b], [c, d]] is one, so that its inverse is [[d, -b], [-c, a]].
    inverse = np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2) / scale[:, None, None]
    shift = np.stack([shift_x, shift_y], -1)[:, :, None]
    return np.concatenate([inverse, -inverse @ shift], -1)


def _warp(images: np.ndarray, matrices: np.ndarray, interpolation: str, fill: float) -> np.ndarray:
    """Sample every image at the points its matrix gives; pixel centres are at whole numbers."""
    count, channels, height, width = images.shape
    ys, xs = np.mgrid[:height, :width].reshape(2, -1)
    points = np.stack([xs - (width - 1) / 2, ys - (height - 1) / 2, np.ones(height * width)])
    x, y = np.moveaxis(matrices @ points, 1, 0)
    x, y = x + (width - 1) / 2, y + (height - 1) / 2
    # One pixel of fill on every side, so that a point near the edge mixes with it and none needs a mask.
    padded = _padded(images, (1, 1, 1, 1), fill)
    flat = padded.reshape(count, channels, (height + 2) * (width + 2))

    def pixels(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        row, column = np.clip(row + 1, 0, height + 1), np.clip(column + 1, 0, width + 1)
        return np.take_along_axis(flat, (row * (width + 2) + column)[:, None], 2)

    if interpolation == "nearest":
        result = pixels(np.rint(y).astype(np.intp), np.rint(x).astype(np.intp))
    else:
        top, left = np.floor(y).astype(np.intp), np.floor(x).astype(np.intp)
        exact = images.dtype if images.dtype.kind == "f" else np.dtype(np.float32)
        down, right = (y - top)[:, None].astype(exact), (x - left)[:, None].astype(exact)
        upper = pixels(top, left) * (1 - right) + pixels(top, left + 1) * right
        lower = pixels(top + 1, left) * (1 - right) + pixels(top + 1, left + 1) * right
        result = upper * (1 - down) + lower * down
        if images.dtype != exact:
            result = np.rint(result).astype(images.dtype)
    return result.reshape(images.shape)


def _numbers(name: str, values: Any, count: int) -> tuple[float, ...]:
    if not isinstance(values, Sequence) or len(values) != count or not all(map(is_number, values)):
        raise ValueError(f"{name}: expected {count} numbers, got {values!r}")
    return tuple(float(value) for value in values)


def _interval(name: str, value: Any) -> tuple[float, ...]:
    if is_number(value):
        if value < 0:
            raise ValueError(f"{name}: a single number must not be negative, got {value}")
        return (-float(value), float(value))
    interval = _numbers(name, value, 2)
    if interval[0] > interval[1]:
        raise ValueError(f"{name}: expected (from, to) with from <= to, got {tuple(value)}")
    return interval


def _per_channel(name: str, values: Any) -> tuple[float, ...]:
    listed = (values,) if is_number(values) else tuple(np.asarray(values, float).reshape(-1).tolist())
    if not listed or not all(map(is_number, listed)):
        raise ValueError(f"{name}: expected finite numbers, one per channel, got {values!r}")
    return tuple(float(value) for value in listed)


def _height_and_width(size: Any) -> tuple[int, int]:
    sizes = (size, size) if isinstance(size, int) else tuple(size)
    if len(sizes) != 2 or not all(map(is_positive, sizes)):
        raise ShapeError(f"size: expected a positive integer or two of them, got {size!r}")
    return sizes


def _sides(padding: Any) -> tuple[int, int, int, int]:
    values = (padding,) if isinstance(padding, int) else tuple(padding)
    whole = all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values)
    if len(values) not in (1, 2, 4) or not whole:
        raise ShapeError(f"padding: expected 1, 2 or 4 integers, zero or more, got {padding!r}")
    if len(values) == 1:
        return (values[0],) * 4
    if len(values) == 2:
        return (values[0], values[1], values[0], values[1])
    return values
