"""Pictures of what a convolution computes: through channels, over pixels, and on the way back to one input."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import gpunet.nn.functional as F
from gpunet.autograd import as_tensor, no_grad
from gpunet.backend.errors import ShapeError
from gpunet.inspect.checks import check_numbers
from gpunet.inspect.pictures import check_path, finished, new_figure

__all__ = ["ChannelParts", "channel_parts", "plot_channels", "plot_global_average", "plot_input_gradient"]

SEEN, BACKWARD = "#0072b2", "#d55e00"


class ChannelParts(NamedTuple):
    """One output map of a convolution, by input channel.

    Attributes:
        image: (C, H, W).
        kernel: (C, kh, kw), a slice for each channel of the image; they may all differ.
        parts: (C, H', W'), each channel with its own slice.
        output: (H', W'), the sum of the parts: one map, not one for each channel.
    """

    image: np.ndarray
    kernel: np.ndarray
    parts: np.ndarray
    output: np.ndarray


def channel_parts(image: Any, kernel: Any) -> ChannelParts:
    """What each channel of an image adds to one output map of a convolution without padding.

    Args:
        image: (C, H, W).
        kernel: (C, kh, kw), one filter: ``conv.weight[0]``.

    Raises:
        TypeError, ValueError: no numbers, or such as are not finite.
        ShapeError: other shapes, no pixels, or channels that do not fit.
    """
    pixels, weight = check_numbers("image", image), check_numbers("kernel", kernel)
    if pixels.ndim != 3 or weight.ndim != 3:
        raise ShapeError(f"image, kernel: must be (C, H, W) and (C, kh, kw), got {pixels.shape} and {weight.shape}")
    if len(pixels) != len(weight):
        raise ShapeError(f"kernel: must have the image's {len(pixels)} channels, got {len(weight)}")
    if not pixels.size or not weight.size:
        raise ShapeError(f"image, kernel: must not be empty, got shapes {pixels.shape} and {weight.shape}")
    if weight.shape[1] > pixels.shape[1] or weight.shape[2] > pixels.shape[2]:
        raise ShapeError(f"kernel: must lie inside the image of {pixels.shape[1:]}, got {weight.shape[1:]}")
    with no_grad():
        # A depthwise convolution keeps the channels apart; the ordinary one adds them up.
        parts = F.conv2d(as_tensor(pixels[None]), as_tensor(weight[:, None]), groups=len(weight))
        output = F.conv2d(as_tensor(pixels[None]), as_tensor(weight[None]))
    return ChannelParts(pixels, weight, parts.numpy()[0], output.numpy()[0, 0])


def plot_channels(
    image: Any = None, kernel: Any = None, path: str | os.PathLike[str] | None = None, *, title: str = ""
) -> Any:
    """Draw how a colour image becomes one map: each channel with its own slice of the kernel, and the sum of all.

    Args:
        image: (C, H, W); None is a small red, green and blue one.
        kernel: (C, kh, kw); None looks for edges in red, blurs green and leaves blue out (a slice of zeros).
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        title: above the picture.

    Returns:
        The ``matplotlib.figure.Figure``: a row of axes for each channel, and the sum at the right.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        TypeError, ShapeError, ValueError: as ``channel_parts``, or more than 8 channels.
        OSError: the file cannot be written.
    """
    check_path(path)
    new_figure(1.0, 1.0)  # without Matplotlib, fail before the work
    shown = channel_parts(
        _three_squares() if image is None else image,
        np.stack([_EDGE, _BLUR, np.zeros((3, 3))]) if kernel is None else kernel,
    )
    channels = len(shown.image)
    if channels > 8:
        raise ShapeError(f"image: {channels} channels are more than can be drawn (8)")
    figure = new_figure(8.6, 1.75 * channels + 0.7)
    grid = figure.add_gridspec(channels, 4, left=0.07, right=0.98, bottom=0.03, top=0.86 if title else 0.92, wspace=0.3)
    names = ("red", "green", "blue") if channels == 3 else tuple(f"channel {number}" for number in range(channels))
    reach = max(float(np.abs(shown.parts).max()), float(np.abs(shown.output).max()), 1e-12)
    largest = max(float(np.abs(shown.kernel).max()), 1e-12)
    for c in range(channels):
        columns: tuple[tuple[str, np.ndarray, dict[str, Any]], ...] = (
            ("input", shown.image[c], {"cmap": "gray"}),
            ("kernel", shown.kernel[c], {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}),
            ("part", shown.parts[c], {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}),
        )
        for column, (what, values, look) in enumerate(columns):
            axes = figure.add_subplot(grid[c, column])
            picture = axes.imshow(values, interpolation="nearest", **look)
            picture.set_gid(f"{what} {c}")
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 0:
                axes.set_ylabel(names[c], fontsize=8)
            if c == 0:
                axes.set_title({"input": "input", "kernel": "its slice", "part": "what it adds"}[what], fontsize=8)
            if what == "kernel" and values.size <= 25:
                for (y, x), value in np.ndenumerate(values):
                    axes.text(
                        x, y, f"{value:.3g}", ha="center", va="center", fontsize=6,
                        color=_readable_on(picture.to_rgba(value)), gid=f"value {c} {y} {x}",
                    )  # fmt: skip
    axes = figure.add_subplot(grid[:, 3])
    axes.imshow(shown.output, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest").set_gid("output")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title("their sum: one map", fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    return finished(figure, path)


def plot_input_gradient(
    position: int = 2,
    input_size: int = 5,
    weight: Sequence[float] = (0.5, -1.0, 2.0),
    grad_output: Sequence[float] = (1.0, 2.0, -1.0),
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Draw which outputs of a 1-D convolution an input went into, and so where its gradient comes from.

    O_i = sum_k w_k x_{i+k-1}, so x_j went into O_i with the weight w_{j-i+1}: dL/dx_j = sum_i delta_i w_{j-i+1}. The
    third input of five gets delta_1 w_3 + delta_2 w_2 + delta_3 w_1; those at the border get fewer terms.

    Args:
        position: which input, from 0.
        input_size: how many inputs.
        weight: the kernel w.
        grad_output: delta, the gradient of each of the input_size - kernel + 1 outputs.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.

    Returns:
        The ``matplotlib.figure.Figure``; its title has the sum.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        TypeError, ShapeError: no vectors of numbers.
        ValueError: no such position, numbers that are not finite, or sizes that do not fit.
        OSError: the file cannot be written.
    """
    check_path(path)
    w, delta = check_numbers("weight", weight), check_numbers("grad_output", grad_output)
    if isinstance(input_size, bool) or not isinstance(input_size, int):
        raise TypeError(f"input_size: must be a whole number, got {input_size!r}")
    if w.ndim != 1 or delta.ndim != 1:
        raise ShapeError(f"weight, grad_output: must be vectors, got shapes {w.shape} and {delta.shape}")
    outputs = input_size - len(w) + 1
    if outputs < 1 or len(delta) != outputs:
        raise ValueError(
            f"grad_output: must be one for each of the {max(outputs, 0)} outputs of {input_size} inputs and a kernel "
            f"of {w.size}, got {delta.size}"
        )
    if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position < input_size:
        raise ValueError(f"position: must be from 0 to {input_size - 1}, got {position!r}")
    if input_size > 16:
        raise ValueError(f"input_size: more than can be drawn (16), got {input_size}")
    width = 1.1 * input_size + 0.6
    figure = new_figure(max(width, 6.0), 3.4)
    from matplotlib.patches import Circle

    axes = figure.add_axes((0.0, 0.0, 1.0, 0.8))
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(0.0, width)
    axes.set_ylim(0.0, 2.7)

    def middle(number: int, count: int) -> float:
        return width / 2 + 1.1 * (number - (count - 1) / 2)

    terms = []
    for i in range(outputs):
        for k in range(len(w)):
            mine = i + k == position
            ends = [middle(i, outputs), middle(i + k, input_size)], [2.2, 0.5]
            axes.plot(
                *ends, color=BACKWARD if mine else "#cccccc", linewidth=2.0 if mine else 0.8, zorder=2 if mine else 1,
                gid=f"{'back' if mine else 'forward'} {i} {k}",
            )  # fmt: skip
            if mine:
                terms.append((i, k))
                # Nearer to the output, where the lines are apart.
                x, y = (0.65 * end[0] + 0.35 * end[1] for end in ends)
                axes.text(
                    x, y, f"w{k + 1} = {w[k]:g}", fontsize=7, ha="center", va="center", zorder=4,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
                )  # fmt: skip
    for row, count, y in (("x", input_size, 0.5), ("O", outputs, 2.2)):
        for number in range(count):
            mine = row == "x" and number == position
            axes.add_patch(
                Circle(
                    (middle(number, count), y), 0.32, facecolor="#fbe3c8" if mine else "#d6e6f4", edgecolor="#444444",
                    linewidth=0.8, zorder=3, gid=f"{row} {number + 1}",
                )
            )  # fmt: skip
            text = f"x{number + 1}" if row == "x" else f"O{number + 1}\nδ={delta[number]:g}"
            axes.text(middle(number, count), y, text, ha="center", va="center", fontsize=7, zorder=4)
    value = sum(delta[i] * w[k] for i, k in terms)
    names = " + ".join(f"δ{i + 1} w{k + 1}" for i, k in terms)
    numbers = " + ".join(f"({delta[i]:g})({w[k]:g})" for i, k in terms)
    figure.text(
        0.5, 0.9, f"dL/dx{position + 1} = {names} = {numbers} = {value:g}", ha="center", va="center", fontsize=9,
        gid="title",
    )  # fmt: skip
    return finished(figure, path)


def plot_global_average(maps: Any = None, path: str | os.PathLike[str] | None = None) -> Any:
    """Draw global average pooling: each map becomes one number, its mean, whatever its size; it has no weights.

    Args:
        maps: (C, H, W), at most 16 of them; None are five of 10x10.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.

    Returns:
        The ``matplotlib.figure.Figure``: an axes for each map, with its mean above it.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        TypeError, ValueError: no numbers, or such as are not finite.
        ShapeError: no maps, or more than 16.
        OSError: the file cannot be written.
    """
    check_path(path)
    if maps is None:
        y, x = np.mgrid[0:10, 0:10] / 9
        maps = np.stack([np.sin(4 * (number * x + y)) ** 2 * (number + 1) / 5 for number in range(5)])
    array = check_numbers("maps", maps)
    if array.ndim != 3 or not 1 <= array.shape[0] <= 16 or 0 in array.shape:
        raise ShapeError(f"maps: must be (C, H, W) with 1 to 16 channels, got shape {array.shape}")
    with no_grad():
        means = F.adaptive_avg_pool2d(as_tensor(array[None]), 1).numpy().ravel()
    figure = new_figure(1.5 * len(array) + 0.4, 2.2)
    for number, axes in enumerate(np.ravel(figure.subplots(1, len(array)))):
        axes.imshow(array[number], cmap="gray", interpolation="nearest").set_gid(f"map {number}")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(f"{means[number]:.4g}", fontsize=9)
    shape = "×".join(map(str, array.shape))
    figure.suptitle(f"{shape} → {len(array)}×1×1", fontsize=9)
    return finished(figure, path)


def _readable_on(colour: Any) -> str:
    """Black or white, whichever is further from a colour (r, g, b, ...) in luminance (WCAG 2, relative luminance)."""
    channels = np.asarray(colour[:3], np.float64)
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ [0.2126, 0.7152, 0.0722] > 0.179 else "white"


_EDGE = np.outer([1.0, 2.0, 1.0], [-1.0, 0.0, 1.0]) / 4
_BLUR = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0]) / 16


def _three_squares(size: int = 16) -> np.ndarray:
    """A square in each colour, one beside the other and partly over it."""
    image = np.zeros((3, size, size))
    for channel in range(3):
        start = 2 + 3 * channel
        image[channel, start : start + 6, start : start + 6] = 1.0
    return image
