"""Translations of pooling. Ours and ONNX's differ in what counts where a window leaves the image; sizes decide here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunet.interop.onnx_export.graph import Call, Graph, translates

__all__: list[str] = []


def _spatial(call: Call) -> tuple[int, ...]:
    return call.fixed(range(2, call.ndim))


def _overhang(call: Call) -> list[int]:
    """By how much the last window of each dimension goes beyond the padding; negative where it ends before."""
    size = [extent.fixed for extent in call.outputs[0].shape[2:]]
    dilation = call.attributes.get("dilation") or (1,) * len(size)
    options = (call.attributes[name] for name in ("kernel_size", "stride", "padding"))
    rows = zip(size, _spatial(call), *options, dilation, strict=True)
    return [
        (count - 1) * stride + step * (kernel - 1) + 1 - (extent + 2 * padding)
        for count, extent, kernel, stride, padding, step in rows
    ]


@translates("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(graph: Graph, call: Call) -> Any:
    padding = list(call.attributes["padding"])
    after = [pad + max(beyond, 0) for pad, beyond in zip(padding, _overhang(call), strict=True)]
    return _maxima(
        graph, call, kernel_shape=list(call.attributes["kernel_size"]), strides=list(call.attributes["stride"]),
        dilations=list(call.attributes["dilation"]), pads=[*padding, *after],
    )  # fmt: skip


def _maxima(graph: Graph, call: Call, **window: Any) -> Any:
    """Maxima, and where asked for their places: ONNX counts these through the whole array, we through each plane."""
    if not call.attributes.get("return_indices"):
        return graph.add("MaxPool", call.inputs[0], **window)
    y, places = graph.add_several("MaxPool", 2, call.inputs[0], **window)
    return y, graph.add("Mod", places, graph.constant(math.prod(_spatial(call)), np.int64))


@translates("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(graph: Graph, call: Call) -> str:
    x, dtype = call.inputs[0], call.values[0].dtype
    kernel, stride, padding = (list(call.attributes[name]) for name in ("kernel_size", "stride", "padding"))
    beyond, divisor = _overhang(call), call.attributes["divisor_override"]
    window = {"kernel_shape": kernel, "strides": stride}
    if max(beyond) <= 0 and divisor is None:
        counted = int(call.attributes["count_include_pad"])
        return graph.add("AveragePool", x, pads=[*padding, *padding], count_include_pad=counted, **window)
    # Zeros all around that count, and the true number of cells put right afterwards.
    after = [pad + max(more, 0) for pad, more in zip(padding, beyond, strict=True)]
    wide = graph.add("Pad", x, graph.integers([0, 0, *padding, 0, 0, *after]))
    mean = graph.add("AveragePool", wide, **window)
    if divisor is not None:
        factor = np.array(np.prod(kernel) / divisor)
    else:
        factor = np.prod(kernel) / _cells(call, kernel, stride, padding)
    return graph.add("Mul", mean, graph.constant(factor, dtype))


def _cells(call: Call, kernel: list[int], stride: list[int], padding: list[int]) -> np.ndarray:
    """How many cells each window averages: those inside the image, or inside its padding where that counts."""
    counts = np.ones(())
    margin = padding if call.attributes["count_include_pad"] else [0] * len(padding)
    size = [extent.fixed for extent in call.outputs[0].shape[2:]]
    for count, extent, k, s, p, m in zip(size, _spatial(call), kernel, stride, padding, margin, strict=True):
        starts = np.arange(count) * s - p
        inside = np.minimum(starts + k, extent + m) - np.maximum(starts, -m)
        counts = np.multiply.outer(counts, inside)
    return counts


@translates(*(f"adaptive_{kind}_pool{dims}d" for kind in ("avg", "max") for dims in (1, 2, 3)))
def _adaptive_pool(graph: Graph, call: Call) -> Any:
    largest = "max" in call.op
    spatial, size = _spatial(call), call.attributes["output_size"]
    x, places = call.inputs[0], call.attributes.get("return_indices", False)
    if set(size) == {1} and not places:
        return graph.add("GlobalMaxPool" if largest else "GlobalAveragePool", x)
    if not any(extent % count for extent, count in zip(spatial, size, strict=True)):
        kernel = [extent // count for extent, count in zip(spatial, size, strict=True)]
        if largest:
            return _maxima(graph, call, kernel_shape=kernel, strides=kernel)
        return graph.add("AveragePool", x, kernel_shape=kernel, strides=kernel)
    for axis, (extent, count) in enumerate(zip(spatial, size, strict=True), start=2):
        x = _regions(graph, x, axis, extent, count, "ReduceMax" if largest else "ReduceMean")
    return (x, None) if places else x


def _regions(graph: Graph, x: str, axis: int, extent: int, count: int, reduce: str) -> str:
    """One dimension's regions, which may overlap, each reduced by itself and joined again."""
    if extent == count:
        return x
    here = graph.integers([axis])
    parts = []
    for place in range(count):
        start, stop = place * extent // count, -(-(place + 1) * extent // count)
        part = graph.add("Slice", x, graph.integers([start]), graph.integers([stop]), here)
        parts.append(part if stop - start == 1 else graph.add(reduce, part, here))
    return parts[0] if count == 1 else graph.add("Concat", *parts, axis=axis)
