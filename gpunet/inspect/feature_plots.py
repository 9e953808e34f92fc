"""Pictures of what a convolution has learnt: its kernels, and the maps it makes of an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet.autograd import Tensor, as_tensor, no_grad
from gpunet.backend.errors import ShapeError
from gpunet.inspect.pictures import check_path, closest, finished, new_figure
from gpunet.nn import Conv1d, Conv2d, Conv3d, Module
from gpunet.nn.uninitialized import is_lazy

__all__ = ["image_batch", "layer_output", "mosaic", "plot_feature_maps", "plot_filters"]

TILE = 0.55  # inches
WIDEST = 12.0


def plot_filters(
    source: Module | Tensor | np.ndarray,
    path: str | os.PathLike[str] | None = None,
    *,
    channel: int | None = None,
    columns: int | None = None,
    scale: str = "each",
    title: str = "",
) -> Any:
    """Draw the kernels of a convolution side by side, in the order of its output channels.

    Kernels of three channels are drawn in colour, those of one in grey; of others one channel is. A weight of 0 is
    the middle grey, the largest magnitude black or white.

    Args:
        source: a 2-D convolution or its weight (O, C, kh, kw); of another module, its first 2-D convolution.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        channel: draw this input channel alone, in grey; None draws all of 1 or 3.
        columns: of the mosaic; None makes it about square.
        scale: ``"each"`` kernel has its own largest magnitude, or ``"all"`` have one.
        title: above the picture.

    Returns:
        The ``matplotlib.figure.Figure``; the image on its one axes is the mosaic.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        TypeError, ValueError, ShapeError: no 2-D convolution, channels that need ``channel``, or a bad argument.
        OSError: the file cannot be written.
    """
    check_path(path)
    if scale not in ("each", "all"):
        raise ValueError(f"scale: must be 'each' or 'all', got {scale!r}")
    weight = _weight(source)
    channels = weight.shape[1]
    if channel is not None:
        if isinstance(channel, bool) or not isinstance(channel, int) or not 0 <= channel < channels:
            raise ValueError(f"channel: must be from 0 to {channels - 1} or None, got {channel!r}")
        weight = weight[:, channel : channel + 1]
    elif channels not in (1, 3):
        raise ValueError(
            f"channel: kernels of {channels} channels have no colours; choose one from 0 to {channels - 1}"
        )
    axes = (1, 2, 3) if scale == "each" else None
    largest = np.abs(weight).max(axis=axes, keepdims=True)
    tiles = 0.5 + 0.5 * weight / np.where(largest > 0, largest, 1.0)
    return _drawn(mosaic(tiles.transpose(0, 2, 3, 1), columns), weight.shape[3], path, title)


def plot_feature_maps(
    model: Module,
    image: Any,
    layer: str,
    path: str | os.PathLike[str] | None = None,
    *,
    maps: int | Sequence[int] | None = 64,
    columns: int | None = None,
    title: str | None = None,
) -> Any:
    """Draw what a layer makes of an image: its channels side by side, each from its least value to its largest.

    The model runs in evaluation mode and without gradients, and is left in the modes that it had.

    Args:
        model: a model.
        image: (C, H, W) or (1, C, H, W), a Tensor on any device or an array, as the model takes it.
        layer: a module's name, as in ``model.named_modules()``; called several times, its first call counts.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        maps: how many of the first channels, or which; None is all.
        columns: of the mosaic; None makes it about square.
        title: above the picture; None is the layer's name and shape.

    Returns:
        The ``matplotlib.figure.Figure``; the image on its one axes is the mosaic.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        ShapeError: the image has not three dimensions, or does not fit the model.
        TypeError, ValueError: no layer has that name (the error has close ones), the layer gives no maps, or a bad
            argument.
        OSError: the file cannot be written.
    """
    check_path(path)
    with no_grad():
        output = layer_output(model, image_batch(model, image), layer)
    values = output.detach().cpu().numpy()[0].astype(np.float64)
    chosen = values[_chosen(maps, len(values))]
    least = chosen.min(axis=(1, 2), keepdims=True)
    span = chosen.max(axis=(1, 2), keepdims=True) - least
    # A map that is the same everywhere has no contrast to show: it is drawn black.
    tiles = (chosen - least) / np.where(span > 0, span, 1.0)
    if title is None:
        title = f"{layer}: {'×'.join(map(str, values.shape))}"
    return _drawn(mosaic(tiles[..., None], columns), values.shape[2], path, title)


def mosaic(tiles: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Tiles (N, h, w, colours) in rows with a line of white between them: (H, W, colours), or (H, W) of grey ones.

    Raises:
        ValueError: ``columns`` is not a whole number of at least 1.
    """
    count, height, width, colours = tiles.shape
    if columns is None:
        columns = int(np.ceil(np.sqrt(count)))
    if isinstance(columns, bool) or not isinstance(columns, int) or columns < 1:
        raise ValueError(f"columns: must be a whole number of at least 1 or None, got {columns!r}")
    columns = min(columns, count)
    rows = -(-count // columns)
    result = np.ones((rows * (height + 1) + 1, columns * (width + 1) + 1, colours))
    for number, tile in enumerate(tiles):
        y, x = 1 + number // columns * (height + 1), 1 + number % columns * (width + 1)
        result[y : y + height, x : x + width] = tile
    return result[..., 0] if colours == 1 else result


def image_batch(model: Module, image: Any) -> Tensor:
    """An image as a batch of one, where the model is and in its type.

    Raises:
        TypeError: no model, or nothing that is an array.
        ShapeError: not (C, H, W) or (1, C, H, W).
        ValueError: values that are not finite.
    """
    if not isinstance(model, Module):
        raise TypeError(f"model: must be a Module, got {type(model).__name__}")
    batch = as_tensor(image)
    shape = tuple(batch.shape)
    first = next((one for one in model.modules() if isinstance(one, Conv2d)), None)
    channels = None if first is None else first.in_channels
    if len(shape) in (3, 4) and channels and shape[-3] != channels == shape[-1]:
        order = "2, 0, 1" if len(shape) == 3 else "0, 3, 1, 2"
        raise ShapeError(
            f"image: (C, H, W) is wanted, with {channels} channel{'s' * (channels > 1)} first, got shape {shape}; if "
            f"they are last, transpose it with ({order}), and scale it as the model was trained (uint8 by 1 / 255)"
        )
    if len(shape) == 3:
        batch = batch.unsqueeze(0)
    elif len(shape) != 4 or shape[0] != 1:
        raise ShapeError(f"image: must be one image (C, H, W) or (1, C, H, W), got shape {shape}")
    if not np.isfinite(batch.detach().cpu().numpy().astype(np.float64)).all():
        raise ValueError("image: must be finite")
    weight = next(iter(model.parameters()), None)
    return batch if weight is None else batch.to(weight.device, weight.dtype)


def layer_output(model: Module, batch: Tensor, layer: str) -> Tensor:
    """What a layer gives in evaluation mode, (1, C, H, W).

    Raises:
        ValueError: there is no such layer, it did not run, or it gives no maps.
    """
    modules = dict(model.named_modules())
    modules.pop("", None)
    closest("layer", layer, list(modules), type(model).__name__)
    outputs: list[Any] = []
    modes = [(module, module.training) for module in model.modules()]
    handle = modules[layer].register_forward_hook(lambda module, args, output: outputs.append(output))
    try:
        model.eval()
        model(batch)
    finally:
        handle.remove()
        for module, training in modes:
            module.training = training
    if not outputs:
        raise ValueError(f"layer: {layer!r} does not run in evaluation mode")
    output = outputs[0]
    if not isinstance(output, Tensor) or output.ndim != 4:
        given = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"layer: {layer!r} gives no maps (1, C, H, W) but {given}")
    return output


def _weight(source: Any) -> np.ndarray:
    if isinstance(source, Module):
        first = next((one for one in source.modules() if isinstance(one, (Conv1d, Conv2d, Conv3d))), None)
        if not isinstance(first, Conv2d):
            raise ValueError(f"source: {type(source).__name__} has no 2-D convolution at its beginning")
        source = first.weight
    if isinstance(source, Tensor):
        if is_lazy(source):
            raise ValueError("source: the convolution has no weight until it has seen an image")
        source = source.detach().cpu().numpy()
    elif not isinstance(source, np.ndarray):
        raise TypeError(f"source: must be a Module, a Tensor or an array, got {type(source).__name__}")
    if source.ndim != 4 or 0 in source.shape:
        raise ShapeError(f"source: a 2-D convolution's weight is (O, C, kh, kw), got shape {source.shape}")
    weight = source.astype(np.float64)
    if not np.isfinite(weight).all():
        raise ValueError("source: the weights must be finite")
    return weight


def _chosen(maps: Any, count: int) -> list[int]:
    if maps is None:
        return list(range(count))
    if isinstance(maps, int) and not isinstance(maps, bool) and maps >= 1:
        return list(range(min(maps, count)))
    whole = isinstance(maps, Sequence) and all(isinstance(one, int) and not isinstance(one, bool) for one in maps)
    if not whole or not maps or min(maps) < 0 or max(maps) >= count:
        raise ValueError(f"maps: must be how many, or numbers of channels from 0 to {count - 1}, or None; got {maps!r}")
    return list(maps)


def _drawn(image: np.ndarray, side: int, path: Any, title: str) -> Any:
    """A mosaic on a figure of its form."""
    per_row = max(1, (image.shape[1] - 1) // (side + 1))
    width = min(WIDEST, max(2.0, per_row * TILE))
    head = 0.35 if title else 0.0
    picture = width * image.shape[0] / image.shape[1]
    figure = new_figure(width, picture + head)
    axes = figure.add_axes((0.0, 0.0, 1.0, picture / (picture + head)))
    axes.set_axis_off()
    axes.imshow(image, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest", aspect="equal").set_gid("mosaic")
    if title:
        figure.text(0.5, 1.0 - 0.18 / (picture + head), title, ha="center", va="center", fontsize=9, gid="title")
    return finished(figure, path)
