"""The gallery of image filters: what each kernel makes of a picture, in grey and in colour."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpunet.autograd import Tensor, as_tensor, no_grad
from gpunet.backend.errors import ShapeError
from gpunet.data import filters
from gpunet.inspect.checks import check_numbers
from gpunet.inspect.pictures import check_path, finished, new_figure

__all__ = ["filter_gallery", "plot_filter_gallery"]


MOST_KERNELS = 16  # that can be drawn side by side


def filter_gallery() -> dict[str, Tensor]:
    """The filters of ``gn.data.filters`` by name, each a kernel (height, width)."""
    return {
        "identity": filters.identity(),
        "box": filters.box(5),
        "blur": filters.blur(),
        "gaussian": filters.gaussian(9, 2.0),
        "sharpen": filters.sharpen(),
        "sobel x": filters.sobel("x"),
        "sobel y": filters.sobel("y"),
        "emboss": filters.emboss(),
    }


def plot_filter_gallery(
    image: Any = None,
    path: str | os.PathLike[str] | None = None,
    *,
    kernels: Mapping[str, Any] | None = None,
    convolve: bool = False,
    title: str = "",
) -> Any:
    """Draw filters: each kernel, what it makes of a grey picture, and of each channel of a coloured one.

    Above each picture stands its mean. A blur, whose kernel sums to 1, keeps the mean: it averages detail away, and
    makes nothing darker. An edge filter sums to 0, and so does what it makes of a flat picture; 0 is drawn middle grey.

    Args:
        image: (3, H, W) or (1, H, W) in 0..1; None is a disc and a ring. The grey picture is its channels' mean.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        kernels: by name, each (height, width), a Tensor, an array or a list, at most 16 of them; None are those of
            ``filter_gallery``.
        convolve: flip the kernels, as convolution does in mathematics; else they correlate, as in networks.
        title: above the picture.

    Returns:
        The ``matplotlib.figure.Figure``: a column of axes for each filter, with its kernel on top.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        TypeError: no numbers, or kernels without names.
        ShapeError, ValueError: another shape, values outside 0..1 or not finite, no kernels, or more than 16.
        OSError: the file cannot be written.
    """
    check_path(path)
    new_figure(1.0, 1.0)  # without Matplotlib, fail before the work
    picture = _disc() if image is None else as_tensor(check_numbers("image", image).astype(np.float32))
    if picture.ndim != 3 or picture.shape[0] not in (1, 3) or 0 in picture.shape:
        raise ShapeError(f"image: must be (3, H, W) or (1, H, W), got shape {tuple(picture.shape)}")
    low, high = picture.min().item(), picture.max().item()
    if low < -1e-6 or high > 1 + 1e-6:
        raise ValueError(f"image: must be in 0..1, got values from {low:g} to {high:g}; divide bytes by 255")
    given = filter_gallery() if kernels is None else kernels
    if not isinstance(given, Mapping):
        raise TypeError(f"kernels: must be a dict of kernels by name, got {type(given).__name__}")
    if not 1 <= len(given) <= MOST_KERNELS:
        raise ValueError("kernels: there are none" if not given else f"kernels: more than {MOST_KERNELS} are too many")
    chosen = {name: check_numbers(f"kernels: {name!r}", kernel) for name, kernel in given.items()}
    for name, values in chosen.items():
        if values.ndim != 2 or not values.size:
            raise ShapeError(f"kernels: {name!r} must be (height, width), got shape {values.shape}")
    apply = filters.convolve if convolve else filters.apply_filter
    rows = {"grey": picture.mean(0, keepdim=True)}
    if picture.shape[0] == 3:
        rows["colour"] = picture
    figure = new_figure(1.35 * len(chosen) + 0.3, 1.5 * (len(rows) + 1) + 0.4)
    grid = figure.subplots(len(rows) + 1, len(chosen), squeeze=False)
    with no_grad():
        for column, (name, values) in enumerate(chosen.items()):
            reach = max(float(np.abs(values).max()), 1e-12)
            axes = grid[0, column]
            axes.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest").set_gid(
                f"kernel {name}"
            )
            axes.set_title(f"{name}\nsum {values.sum():.3g}", fontsize=8)
            for row, (kind, source) in enumerate(rows.items(), 1):
                result = apply(source, values).numpy().astype(np.float64)
                mean = round(float(result.mean()), 3) + 0.0  # no -0
                # What is as often below 0 as above is shown around the middle grey.
                shown = np.clip(result + (0.5 if abs(values.sum()) < 1e-6 else 0.0), 0.0, 1.0).transpose(1, 2, 0)
                axes = grid[row, column]
                axes.imshow(
                    shown[..., 0] if kind == "grey" else shown, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest"
                ).set_gid(f"{kind} {name}")
                axes.set_title(f"mean {mean:.3f}", fontsize=7)
    for axes in grid.ravel():
        axes.set_xticks([])
        axes.set_yticks([])
    if title:
        figure.suptitle(title, fontsize=10)
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.84 if title else 0.88, wspace=0.12, hspace=0.25)
    return finished(figure, path)


def _disc(size: int = 64) -> Tensor:
    """A disc and a ring on a slope of light, moved apart in the three channels: (3, H, W)."""
    y, x = np.mgrid[0:size, 0:size] / size
    channels = []
    for shift in (-0.06, 0.0, 0.06):
        radius = np.hypot(x - 0.5 - shift, y - 0.5)
        channels.append(0.2 + 0.3 * x + 0.4 * (radius < 0.2) + 0.3 * (np.abs(radius - 0.35) < 0.03))
    return as_tensor(np.clip(channels, 0.0, 1.0).astype(np.float32))
