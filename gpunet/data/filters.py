"""Filters of image processing: small kernels, and the function that applies one to every channel of images.

A kernel is a float32 tensor (height, width). ``apply_filter`` slides it over each channel by itself, as a depthwise
convolution does, so grey and RGB images are treated alike::

    blurred = filters.apply_filter(images, filters.blur())
    edges = filters.apply_filter(images, filters.sobel("x"))

Neural networks correlate: they do not flip the kernel. ``convolve`` flips it, which is convolution as mathematics
defines it, (f * g)[i] = sum_j f[j] g[i - j]; for a kernel that is its own mirror image the two are one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gpunet.nn.functional as F
from gpunet.autograd import Tensor, as_tensor
from gpunet.backend.errors import ShapeError
from gpunet.ops.dtypes import is_floating

__all__ = ["apply_filter", "blur", "box", "convolve", "emboss", "gaussian", "identity", "sharpen", "sobel"]

_BORDERS = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def _kernel(values: object) -> Tensor:
    return as_tensor(np.asarray(values, np.float32))


def _check_size(name: str, size: int) -> None:
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"{name}: size must be an integer, got {size!r}")
    if size < 1:
        raise ValueError(f"{name}: size must be at least 1, got {size}")


def identity(size: int = 3) -> Tensor:
    """1 in the middle and 0 elsewhere: changes nothing.

    Args:
        size: height and width, odd.

    Raises:
        ValueError: no middle.
    """
    _check_size("identity", size)
    if size % 2 == 0:
        raise ValueError(f"identity: size must be odd, got {size}")
    kernel = np.zeros((size, size), np.float32)
    kernel[size // 2, size // 2] = 1
    return _kernel(kernel)


def blur() -> Tensor:
    """The outer product of (1/4, 1/2, 1/4) with itself: the smallest bell-shaped blur. Its sum is 1."""
    return _kernel(np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]))


def box(size: int = 3) -> Tensor:
    """The mean over a square.

    Args:
        size: its height and width.
    """
    _check_size("box", size)
    return _kernel(np.full((size, size), 1.0 / size**2))


def gaussian(size: int = 5, sigma: float = 1.0) -> Tensor:
    """exp(-(x^2 + y^2) / (2 sigma^2)) around the middle, divided by its sum.

    Args:
        size: height and width.
        sigma: standard deviation, in pixels.

    Raises:
        ValueError: a size below 1, or a sigma that is not positive.
    """
    _check_size("gaussian", size)
    if not 0 < sigma < float("inf"):
        raise ValueError(f"gaussian: sigma must be positive, got {sigma}")
    distance = np.arange(size) - (size - 1) / 2
    line = np.exp(-(distance**2) / (2 * sigma**2))
    return _kernel(np.outer(line, line) / line.sum() ** 2)


def sharpen() -> Tensor:
    """The image plus its difference from its four neighbours. Its sum is 1."""
    return _kernel([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])


def sobel(direction: str = "x") -> Tensor:
    """The derivative across (``"x"``) or down (``"y"``) the image, smoothed along the other. Its sum is 0.

    Source: Sobel and Feldman 1968, "A 3x3 isotropic gradient operator for image processing".
    """
    if direction not in ("x", "y"):
        raise ValueError(f"sobel: direction must be 'x' or 'y', got {direction!r}")
    across = np.outer([1, 2, 1], [-1, 0, 1])
    return _kernel(across if direction == "x" else across.T)


def emboss() -> Tensor:
    """The image lit from the top left: differences along the diagonal, added to it. Its sum is 1."""
    return _kernel([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])


def apply_filter(images: Any, kernel: Any, padding_mode: str = "reflect") -> Tensor:
    """Correlate every channel with a kernel; the result has the images' size.

    Args:
        images: (N, C, H, W), (C, H, W) or (H, W); a Tensor, an array or a list. Whole numbers become float32.
        kernel: (height, width), likewise; of an even size the middle is the cell before the centre.
        padding_mode: what lies outside the images: ``"reflect"`` (their mirror image), ``"replicate"`` (their edge),
            ``"circular"`` (their opposite side) or ``"zeros"``.

    Returns:
        A tensor of the images' shape and dtype.

    Raises:
        TypeError: images or a kernel that are no numbers.
        ShapeError: another rank, or a kernel too large for the images' mirror image.
        ValueError: an unknown padding mode.
    """
    if padding_mode not in _BORDERS:
        raise ValueError(f"apply_filter: padding_mode must be one of {', '.join(_BORDERS)}, got {padding_mode!r}")
    images, kernel = _numbers("apply_filter", "images", images), _numbers("apply_filter", "kernel", kernel)
    if images.ndim not in (2, 3, 4):
        raise ShapeError(
            f"apply_filter: images must be (N, C, H, W), (C, H, W) or (H, W), got shape {tuple(images.shape)}"
        )
    if kernel.ndim != 2 or 0 in kernel.shape:
        raise ShapeError(f"apply_filter: kernel must be (height, width), got shape {tuple(kernel.shape)}")
    batch = images.reshape(*(1,) * (4 - images.ndim), *images.shape)
    (height, width), channels = kernel.shape, batch.shape[1]
    around = ((width - 1) // 2, width // 2, (height - 1) // 2, height // 2)
    padded = F.pad(batch, around, _BORDERS[padding_mode])
    weight = kernel.to(images.device, images.dtype).expand(channels, 1, height, width)
    return F.conv2d(padded, weight, groups=channels).reshape(images.shape)


def convolve(images: Any, kernel: Any, padding_mode: str = "reflect") -> Tensor:
    """As ``apply_filter``, with the kernel flipped: convolution in the sense of mathematics, which commutes."""
    images, kernel = _numbers("convolve", "images", images), _numbers("convolve", "kernel", kernel)
    if kernel.ndim != 2 or 0 in kernel.shape:
        raise ShapeError(f"convolve: kernel must be (height, width), got shape {tuple(kernel.shape)}")
    return apply_filter(images, kernel.flip((0, 1)), padding_mode)


def _numbers(function: str, name: str, value: Any) -> Tensor:
    """A floating-point Tensor of what was given."""
    if not isinstance(value, Tensor):
        try:
            array = np.asarray(value)
        except (TypeError, ValueError) as error:  # lists of several lengths
            raise TypeError(f"{function}: {name} must be numbers, got {type(value).__name__}") from error
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{function}: {name} must be numbers, got {type(value).__name__}")
        # Numbers of a list are float32, as in a Tensor made from one.
        value = as_tensor(array if isinstance(value, np.ndarray) else array.astype(np.float32))
    return value if is_floating(value.dtype) else value.float()
