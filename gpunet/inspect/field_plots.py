"""Pictures of windows: what part of an image a layer sees, how a stack of layers sees more, and what a stride skips."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet.autograd import enable_grad, grad
from gpunet.inspect.feature_plots import image_batch, layer_output
from gpunet.inspect.pictures import check_path, closest, finished, new_figure
from gpunet.inspect.summary import run_on_meta
from gpunet.nn import Module
from gpunet.nn.functional import conv_output_size

__all__ = ["plot_convolution", "plot_receptive_field", "plot_stack"]

FIELD, SEEN, PADDING = "#d55e00", "#0072b2", "#bbbbbb"


def plot_receptive_field(
    model: Module | str,
    layer: str,
    position: tuple[int, int] | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    image: Any = None,
    input_size: Sequence[int] | None = None,
    empirical: bool = False,
    **kwargs: Any,
) -> Any:
    """Draw what a position of a layer's maps can see of the image, as a rectangle on it.

    The rectangle is that of the equations, see ``receptive_field``; where it goes past the image it lies in padding.

    Args:
        model: a model, which is only read, or the name of one.
        layer: a layer's name, as in ``receptive_field(model)``.
        position: (row, column) in the layer's maps; None is their middle.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        image: (C, H, W) or (1, C, H, W), drawn under the rectangle; its size is that of the input.
        input_size: (C, H, W) if there is no image, as for ``summary``.
        empirical: draw how strongly the position's values depend on each pixel as well: the magnitude of their
            gradient, from ``image`` or from noise. It needs a model with weights.
        kwargs: for the function that makes a model of that name.

    Returns:
        The ``matplotlib.figure.Figure``.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        UnknownModelError, ShapeError: as ``summary``.
        TypeError, ValueError: no layer has that name (the error has close ones), it gives no maps, the position is
            not on them, or a bad argument.
        OSError: the file cannot be written.
    """
    check_path(path)
    if empirical and not isinstance(model, Module):
        raise TypeError("empirical: needs a model with weights, not a name")
    figure = new_figure(5.0, 5.0)
    picture = None if image is None else _picture(image)
    if picture is not None:
        if input_size is not None:
            raise ValueError("input_size: goes without image, whose size it would be")
        input_size = picture.shape
    run = run_on_meta(model, input_size, **kwargs)
    if len(run.inputs) != 1 or len(run.inputs[0]) != 4:
        raise ValueError(f"model: {type(run.model).__name__} does not take one image (C, H, W)")
    steps = {step.name: step for step in reversed(run.steps) if step.name and step.output_shape is not None}
    closest("layer", layer, list(reversed(steps)), type(run.model).__name__)
    step, shape = steps[layer], steps[layer].output_shape
    if shape is None or len(shape) != 4 or step.field is None:
        raise ValueError(f"layer: {layer!r} gives no maps (1, C, H, W) but shape {shape}")
    row, column = _position(position, shape[2:])
    field = step.field
    (y, x), (height, width) = (
        [float(start + jump * at) for start, jump, at in zip(field.start, field.jump, (row, column), strict=True)],
        [float(size) for size in field.size],
    )
    extent = run.inputs[0][2:]
    axes = figure.add_axes((0.09, 0.05, 0.86, 0.86))
    _show(axes, picture, extent)
    title = f"{layer} at ({row}, {column}) sees {_plain(height)}×{_plain(width)} pixels"
    if empirical:
        assert isinstance(model, Module)
        strength = _strength(model, layer, (row, column), image, run.inputs[0])
        axes.imshow(
            np.ma.masked_less_equal(strength, 0.0), cmap="viridis", vmin=0.0, vmax=1.0, alpha=0.75,
            interpolation="nearest", zorder=2,
        ).set_gid("gradient")  # fmt: skip
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=FIELD, linewidth=2.0, zorder=3, gid="field")
    )
    axes.set_xlim(min(-0.5, x - 0.5) - 1, max(extent[1] - 0.5, x + width - 0.5) + 1)
    axes.set_ylim(max(extent[0] - 0.5, y + height - 0.5) + 1, min(-0.5, y - 0.5) - 1)
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=7)
    return finished(figure, path)


def plot_stack(
    windows: Sequence[int | Sequence[int]] = (3, 3, 3), path: str | os.PathLike[str] | None = None, *, title: str = ""
) -> Any:
    """Draw one line through a stack of convolutions or poolings: what one output sees, layer by layer.

    Three layers of 3x3 see 7x7 pixels with fewer weights than one of 7x7 (Simonyan and Zisserman 2015).

    Args:
        windows: of each layer, from the input up: its kernel, or (kernel, stride).
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        title: above the picture.

    Returns:
        The ``matplotlib.figure.Figure``; each cell is a rectangle on its one axes.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        ValueError: windows that are not whole numbers of at least 1, or that see more than 400 pixels.
        OSError: the file cannot be written.
    """
    check_path(path)
    pairs = _pairs(windows)
    counts = [1]
    for kernel, stride in reversed(pairs):
        counts.append((counts[-1] - 1) * stride + kernel)
    counts.reverse()  # of the input first
    if max(counts) > 400:
        raise ValueError(f"windows: they see {max(counts)} pixels, more than can be drawn (400)")
    figure = new_figure(max(4.5, 0.3 * counts[0] + 2.2), 0.8 * len(counts) + 0.5)
    from matplotlib.patches import Rectangle

    axes = figure.add_axes((0.02, 0.02, 0.96, 0.88 if title else 0.96))
    axes.set_axis_off()
    # The middle of cell i of a layer, on the input's scale.
    jump, first, middles = 1.0, 0.5, []
    for count, pair in zip(counts, [*pairs, (1, 1)], strict=True):
        middles.append([first + jump * number for number in range(count)])
        first, jump = first + (pair[0] - 1) / 2 * jump, jump * pair[1]
    for level, row in enumerate(middles):
        y = 1.6 * (len(middles) - 1 - level)
        for number, x in enumerate(row):
            axes.add_patch(
                Rectangle(
                    (x - 0.45, y), 0.9, 0.6, facecolor="#d6e6f4" if level else "white", edgecolor="#444444",
                    linewidth=0.7, gid=f"cell {level} {number}",
                )
            )  # fmt: skip
            if level:
                kernel, stride = pairs[level - 1]
                below = middles[level - 1][number * stride : number * stride + kernel]
                for end in (below[0] - 0.45, below[-1] + 0.45):
                    axes.plot([x, end], [y + 0.6, y + 1.6], color=SEEN, linewidth=0.7, zorder=0)
        if level:
            kernel, stride = pairs[level - 1]
            name = f"{kernel}×{kernel}, stride {stride}" if stride > 1 else f"{kernel}×{kernel}"
            label = f"{name}: sees {_seen(pairs[:level])}×{_seen(pairs[:level])}"
        else:
            label = f"input: {counts[0]} pixels"
        axes.text(counts[0] + 0.6, y + 0.3, label, fontsize=8, va="center", gid=f"row {level}")
    axes.set_xlim(-0.5, counts[0] + 6.5)
    axes.set_ylim(1.6 * len(middles) - 0.8, -0.4)
    if title:
        figure.text(0.5, 0.95, title, ha="center", va="center", fontsize=9, gid="title")
    return finished(figure, path)


def plot_convolution(
    input_size: int | tuple[int, int],
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Draw where a window goes: the padded input, its first windows, a dot where each one begins, and the output.

    Args:
        input_size, kernel_size, stride, padding, dilation: as ``Conv2d``; one number is for height and width.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.

    Returns:
        The ``matplotlib.figure.Figure``: on its first axes the input, on its second the output.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        ValueError, ShapeError: sizes that no convolution has, or an input of more than 64x64.
        OSError: the file cannot be written.
    """
    check_path(path)
    size, kernel, step, pad, hole = (
        _pair(name, value, least)
        for name, value, least in (
            ("input_size", input_size, 1), ("kernel_size", kernel_size, 1), ("stride", stride, 1),
            ("padding", padding, 0), ("dilation", dilation, 1),
        )
    )  # fmt: skip
    if max(size) > 64:
        raise ValueError(f"input_size: more than can be drawn (64), got {input_size!r}")
    out = tuple(conv_output_size(size[d], kernel[d], step[d], pad[d], hole[d]) for d in (0, 1))
    figure = new_figure(8.0, 4.4)
    from matplotlib.patches import Rectangle

    left, right = figure.subplots(1, 2)
    for y in range(-pad[0], size[0] + pad[0]):
        for x in range(-pad[1], size[1] + pad[1]):
            inside = 0 <= y < size[0] and 0 <= x < size[1]
            left.add_patch(
                Rectangle(
                    (x, y), 1, 1, facecolor="#d6e6f4" if inside else "white",
                    edgecolor="#666666" if inside else PADDING,
                    linestyle="-" if inside else ":", linewidth=0.7, gid="pixel" if inside else "padding",
                )
            )  # fmt: skip
    reach = [hole[d] * (kernel[d] - 1) + 1 for d in (0, 1)]
    colours = {(0, 0): FIELD, (0, 1): "#009e73", (1, 0): "#cc79a7"}
    for r in range(out[0]):
        for c in range(out[1]):
            y, x = r * step[0] - pad[0], c * step[1] - pad[1]
            left.plot([x + 0.5], [y + 0.5], ".", color="black", markersize=3, gid="begin")
            colour = colours.get((r, c))
            right.add_patch(
                Rectangle((c, r), 1, 1, facecolor=colour or "#fbe3c8", edgecolor="#666666", linewidth=0.7, gid="output")
            )
            if colour:
                offset = 0.06 * list(colours).index((r, c))
                left.add_patch(
                    Rectangle(
                        (x + offset, y + offset), reach[1] - 2 * offset, reach[0] - 2 * offset, fill=False,
                        edgecolor=colour, linewidth=2.0, zorder=3, gid=f"window {r} {c}",
                    )
                )  # fmt: skip
    for axes, (height, width), title in (
        (left, size, f"input {size[0]}×{size[1]}, kernel {kernel[0]}×{kernel[1]}, stride {step[0]}×{step[1]}, "
                     f"padding {pad[0]}×{pad[1]}"),
        (right, out, f"output {out[0]}×{out[1]}"),
    ):  # fmt: skip
        around = pad if axes is left else (0, 0)
        axes.set_xlim(-around[1] - 0.3, width + around[1] + 0.3)
        axes.set_ylim(height + around[0] + 0.3, -around[0] - 0.3)
        axes.set_aspect("equal")
        axes.set_axis_off()
        axes.set_title(title, fontsize=8)
    return finished(figure, path)


def _picture(image: Any) -> np.ndarray:
    """The image as an array (C, H, W)."""
    batch = image_batch(Module(), image)
    return batch.detach().cpu().numpy()[0]


def _show(axes: Any, picture: np.ndarray | None, extent: tuple[int, ...]) -> None:
    """The image from its least value to its largest; without one, a plain area."""
    if picture is None:
        shown = np.full((*extent, 3), 0.93)
    else:
        values = picture.astype(np.float64)
        span = values.max() - values.min()
        values = (values - values.min()) / (span if span > 0 else 1.0)
        grey = values.mean(0, keepdims=True)
        shown = (values if len(values) == 3 else np.repeat(grey, 3, 0)).transpose(1, 2, 0)
    axes.imshow(shown, interpolation="nearest", zorder=1).set_gid("image")


def _strength(model: Module, layer: str, position: tuple[int, int], image: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The magnitude of the gradient of a position's values, over the image's channels, 1 where it is largest."""
    if image is None:
        image = np.random.default_rng(0).standard_normal(shape[1:])
    batch = image_batch(model, image).detach().clone().requires_grad_(True)
    with enable_grad():
        output = layer_output(model, batch, layer)
        (gradient,) = grad(output[0, :, position[0], position[1]].sum(), batch)
    assert gradient is not None
    strength = np.abs(gradient.detach().cpu().numpy()[0].astype(np.float64)).sum(0)
    return strength / max(float(strength.max()), np.finfo(np.float64).tiny)


def _position(position: Any, extent: tuple[int, ...]) -> tuple[int, int]:
    if position is None:
        return extent[0] // 2, extent[1] // 2
    whole = isinstance(position, (tuple, list)) and all(
        isinstance(n, int) and not isinstance(n, bool) for n in position
    )
    if not whole or len(position) != 2 or not all(0 <= n < size for n, size in zip(position, extent, strict=True)):
        raise ValueError(
            f"position: must be (row, column) from (0, 0) to ({extent[0] - 1}, {extent[1] - 1}) or None, "
            f"got {position!r}"
        )
    return position[0], position[1]


def _pair(name: str, value: Any, least: int) -> tuple[int, int]:
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < least for n in pair):
        raise ValueError(f"{name}: must be a whole number of at least {least}, or two, got {value!r}")
    return pair[0], pair[1]


def _pairs(windows: Any) -> list[tuple[int, int]]:
    result = []
    for window in windows if isinstance(windows, Sequence) else ():
        pair = tuple(window) if isinstance(window, (tuple, list)) else (window, 1)
        if len(pair) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in pair):
            raise ValueError(f"windows: each must be a kernel or (kernel, stride) of at least 1, got {window!r}")
        result.append((pair[0], pair[1]))
    if not result:
        raise ValueError(f"windows: must be kernels, or pairs (kernel, stride), got {windows!r}")
    return result


def _seen(pairs: Sequence[tuple[int, int]]) -> int:
    """Pixels that one output of the stack sees."""
    size = jump = 1
    for kernel, stride in pairs:
        size, jump = size + (kernel - 1) * jump, jump * stride
    return size


def _plain(value: float) -> str:
    return f"{value:g}"
