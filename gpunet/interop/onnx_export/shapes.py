"""Translations of what moves elements: shapes, joining and cutting, padding, indexing, resampling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunet.interop.onnx_export.graph import Call, Graph, translates
from gpunet.interop.onnx_export.tracing import Extent

__all__: list[str] = []

_TO_THE_END = np.iinfo(np.int64).max


@translates("reshape")
def _reshape(graph: Graph, call: Call) -> str:
    return graph.reshape(call.inputs[0], call.shape, call.outputs[0].shape)


@translates("permute")
def _permute(graph: Graph, call: Call) -> str:
    return graph.add("Transpose", call.inputs[0], perm=[dim % call.ndim for dim in call.attributes["dims"]])


@translates("expand")
def _expand(graph: Graph, call: Call) -> str:
    after = call.outputs[0].shape
    before = (Extent(0, 1),) * (len(after) - call.ndim) + call.shape
    # A size of one stretches to nothing: it keeps what is there.
    pairs = zip(before, after, strict=True)
    return graph.add("Expand", call.inputs[0], graph.shape([Extent(0, 1) if a == b else b for a, b in pairs]))


@translates("squeeze")
def _squeeze(graph: Graph, call: Call) -> str:
    dim = call.attributes["dim"]
    named = range(call.ndim) if dim is None else sorted(axis % max(call.ndim, 1) for axis in dim)
    gone = [axis for axis in named if axis < call.ndim and call.shape[axis] == Extent(0, 1)]
    return graph.add("Squeeze", call.inputs[0], graph.integers(gone)) if gone else graph.add("Identity", call.inputs[0])


@translates("unsqueeze")
def _unsqueeze(graph: Graph, call: Call) -> str:
    return graph.add("Unsqueeze", call.inputs[0], graph.integers([call.attributes["dim"]]))


@translates("cat")
def _cat(graph: Graph, call: Call) -> str:
    dtype = call.outputs[0].dtype
    # PyTorch skips what has the shape (0,).
    taken = [index for index, value in enumerate(call.values) if value.shape != (Extent(0, 0),)] or [0]
    names = [graph.operand(call, index, dtype) for index in taken]
    return graph.add("Concat", *names, axis=call.attributes["dim"])


@translates("exchange")
def _exchange(graph: Graph, call: Call) -> Any:
    # What two devices have joined, each for itself; a graph has one device.
    names = [graph.operand(call, index, call.outputs[0].dtype) for index in (0, 1)]
    joined = graph.add("Concat", *names, axis=call.attributes["dim"])
    return (joined, graph.add("Identity", joined)) if len(call.outputs) > 1 else joined


@translates("stack")
def _stack(graph: Graph, call: Call) -> str:
    dtype, dim = call.outputs[0].dtype, call.attributes["dim"] % (call.ndim + 1)
    axes = graph.integers([dim])
    names = [graph.add("Unsqueeze", graph.operand(call, index, dtype), axes) for index in range(len(call.inputs))]
    return graph.add("Concat", *names, axis=dim)


@translates("split")
def _split(graph: Graph, call: Call) -> tuple[str, ...]:
    sizes, axis = call.attributes["sizes"], call.attributes["dim"] % call.ndim
    call.fixed([axis])
    return tuple(graph.add_several("Split", len(sizes), call.inputs[0], graph.integers(sizes), axis=axis))


@translates("repeat")
def _repeat(graph: Graph, call: Call) -> str:
    repeats = call.attributes["repeats"]
    before = (Extent(0, 1),) * (len(repeats) - call.ndim) + call.shape
    x = call.inputs[0] if len(repeats) == call.ndim else graph.reshape(call.inputs[0], call.shape, before)
    return graph.add("Tile", x, graph.integers(repeats))


@translates("flip")
def _flip(graph: Graph, call: Call) -> str:
    axes = [axis % max(call.ndim, 1) for axis in call.attributes["dims"]]
    if not axes or not call.ndim:
        return graph.add("Identity", call.inputs[0])
    last, backwards = [-1] * len(axes), [-1] * len(axes)
    ends = [-_TO_THE_END] * len(axes)
    return graph.add("Slice", call.inputs[0], *map(graph.integers, (last, ends, axes, backwards)))


@translates("tril", "triu")
def _triangle(graph: Graph, call: Call) -> str:
    diagonal = graph.constant(call.attributes["diagonal"], np.int64)
    return graph.add("Trilu", call.inputs[0], diagonal, upper=int(call.op == "triu"))


@translates("cumsum")
def _cumsum(graph: Graph, call: Call) -> str:
    call.require_dimensions()
    return graph.add(
        "CumSum", graph.operand(call, 0, call.outputs[0].dtype), graph.constant(call.attributes["dim"], np.int64)
    )


# Indexing ----------------------------------------------------------------------------------------------------------


@translates("slice")
def _slice(graph: Graph, call: Call) -> str:
    """Slices at once, then the dimensions that integers choose from taken away, then new ones put in."""
    index = call.attributes["index"]
    named = sum(1 for item in index if item is not None and item is not Ellipsis)
    if Ellipsis not in index:
        index = (*index, Ellipsis)
    cuts: list[tuple[int, int, int, int]] = []
    chosen, new = [], []
    axis = out = 0
    for item in index:
        if item is Ellipsis:
            axis, out = axis + call.ndim - named, out + call.ndim - named
        elif item is None:
            new.append(out)
            out += 1
        elif isinstance(item, slice):
            if item != slice(None) and (item.start, item.stop, item.step) not in ((None, None, 1), (0, None, None)):
                cuts.append(_cut(call, axis, item))
            axis, out = axis + 1, out + 1
        else:
            cuts.append((item, item + 1 if item != -1 else _TO_THE_END, axis, 1))
            chosen.append(axis)
            axis += 1
    x = call.inputs[0]
    if cuts:
        starts, stops, axes, steps = (graph.integers(column) for column in zip(*cuts, strict=True))
        x = graph.add("Slice", x, starts, stops, axes, steps)
    if chosen:
        x = graph.add("Squeeze", x, graph.integers(chosen))
    if new:
        x = graph.add("Unsqueeze", x, graph.integers(new))
    return x if cuts or new else graph.add("Identity", x)


def _cut(call: Call, axis: int, item: slice) -> tuple[int, int, int, int]:
    extent = call.shape[axis]
    if extent.is_fixed:
        start, stop, step = item.indices(extent.fixed)
        return start, stop, axis, step
    if item.start in (None, 0) and item.stop is None:
        return 0, _TO_THE_END, axis, item.step or 1
    if item.step in (None, 1) and (item.start, item.stop) in ((None, 1), (0, 1), (-1, None)):  # there is always one
        return item.start or 0, _TO_THE_END if item.stop is None else 1, axis, 1
    raise call.refusal("it takes a part of the batch")


@translates("gather_index")
def _gather_index(graph: Graph, call: Call) -> str:
    layout = [item for item in call.attributes["layout"] if item is not Ellipsis]
    arrays = [axis for axis, item in enumerate(layout) if isinstance(item, tuple)]
    plain = all(isinstance(item, tuple) or item == slice(None) for item in layout)
    whole = Ellipsis not in call.attributes["layout"] or call.attributes["layout"][-1] is Ellipsis
    if len(arrays) != 1 or not plain or not whole or call.values[1].dtype.kind not in "iu":
        raise call.refusal("it indexes with something other than one array of integers")
    return graph.add("Gather", call.inputs[0], call.inputs[1], axis=arrays[0])


@translates("index_select")
def _index_select(graph: Graph, call: Call) -> str:
    call.require_dimensions()
    x, places = call.inputs
    if not call.values[1].ndim:  # one place is a list of one
        places = graph.add("Reshape", places, graph.integers([-1]))
    return graph.add("Gather", x, places, axis=call.attributes["dim"])


@translates("gather")
def _gather(graph: Graph, call: Call) -> str:
    call.require_dimensions()
    return graph.add("GatherElements", *call.inputs, axis=call.attributes["dim"])


@translates("topk")
def _topk(graph: Graph, call: Call) -> tuple[str, ...]:
    k = graph.integers([call.attributes["k"]])
    largest = int(call.attributes["largest"])
    return tuple(
        graph.add_several("TopK", 2, call.inputs[0], k, axis=call.attributes["dim"], largest=largest, sorted=1)
    )


# Padding -----------------------------------------------------------------------------------------------------------

_MODES = {"pad": "constant", "reflection_pad": "reflect", "replication_pad": "edge", "circular_pad": "wrap"}


@translates(*_MODES)
def _pad(graph: Graph, call: Call) -> str:
    padding = call.attributes["padding"]
    if call.op == "circular_pad" and graph.opset < 19:
        raise call.refusal("circular padding needs opset 19")
    before, after = [0] * call.ndim, [0] * call.ndim
    for pair in range(len(padding) // 2):
        before[-1 - pair], after[-1 - pair] = padding[2 * pair : 2 * pair + 2]
    if call.op != "pad" and min(padding, default=0) < 0:
        raise call.refusal("its padding is negative")
    value = graph.constant(call.attributes["value"], call.outputs[0].dtype) if call.op == "pad" else None
    return graph.add("Pad", call.inputs[0], graph.integers([*before, *after]), value, mode=_MODES[call.op])


# Resampling and channels -------------------------------------------------------------------------------------------


@translates("interpolate1d", "interpolate2d", "interpolate3d")
def _interpolate(graph: Graph, call: Call) -> str:
    modes: dict[str, dict[str, Any]] = {
        "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "nearest-exact": {
            "mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil",
        },
        "linear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        "cubic": {"mode": "cubic", "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.75},
    }  # fmt: skip
    options = modes[call.attributes["mode"]]
    corners = call.attributes["align_corners"]
    if corners:
        options["coordinate_transformation_mode"] = "align_corners"
    axes = list(range(2, call.ndim))
    size = call.attributes["size"]
    rows = list(zip(call.fixed(axes), size, call.attributes["scales"], strict=True))
    if corners or all(scale is None or math.isclose(extent * scale, count) for extent, count, scale in rows):
        return graph.add("Resize", call.inputs[0], None, None, graph.integers(size), axes=axes, **options)
    # A scale that was given counts as it is, though the size was rounded.
    scales = [np.float32(count / extent if scale is None else scale) for extent, count, scale in rows]
    if any(math.floor(extent * scale) != count for (extent, count, _), scale in zip(rows, scales, strict=True)):
        raise call.refusal("its scale factors do not give its sizes in single precision; give sizes instead")
    return graph.add("Resize", call.inputs[0], None, graph.constant(scales, np.float32), axes=axes, **options)


@translates("pixel_shuffle")
def _pixel_shuffle(graph: Graph, call: Call) -> str:
    return graph.add("DepthToSpace", call.inputs[0], blocksize=call.attributes["factor"], mode="CRD")


@translates("pixel_unshuffle")
def _pixel_unshuffle(graph: Graph, call: Call) -> str:
    r = call.attributes["factor"]
    batch, (c, h, w) = call.shape[0], call.fixed([1, 2, 3])
    split = (batch, *(Extent(0, size) for size in (c, h // r, r, w // r, r)))
    x = graph.reshape(call.inputs[0], call.shape, split)
    x = graph.add("Transpose", x, perm=[0, 1, 3, 5, 2, 4])
    return graph.reshape(x, (batch,), call.outputs[0].shape)


@translates("channel_shuffle")
def _channel_shuffle(graph: Graph, call: Call) -> str:
    groups, (channels,) = call.attributes["groups"], call.fixed([1])
    split = (call.shape[0], Extent(0, groups), Extent(0, channels // groups), *call.shape[2:])
    x = graph.reshape(call.inputs[0], call.shape, split)
    x = graph.add("Transpose", x, perm=[0, 2, 1, *range(3, call.ndim + 1)])
    return graph.reshape(x, (call.shape[0],), call.shape)


# Reductions --------------------------------------------------------------------------------------------------------

_REDUCTIONS = {
    "sum": "ReduceSum", "mean": "ReduceMean", "prod": "ReduceProd", "amax": "ReduceMax", "amin": "ReduceMin",
    "max": "ReduceMax", "min": "ReduceMin", "logsumexp": "ReduceLogSumExp", "any": "ReduceMax", "all": "ReduceMin",
}  # fmt: skip


def _axes(call: Call) -> list[int]:
    dim = call.attributes["dim"]
    if dim is None or dim == ():
        return list(range(call.ndim))
    return [axis % max(call.ndim, 1) for axis in ((dim,) if isinstance(dim, int) else dim)]


def _reduced(graph: Graph, call: Call, kind: str, x: str) -> str:
    axes, keep = _axes(call), int(call.attributes["keepdim"])
    if not call.ndim:
        return graph.add("Identity", x)
    return graph.add(kind, x, graph.integers(axes), keepdims=keep)


@translates(*_REDUCTIONS)
def _reduce(graph: Graph, call: Call) -> str:
    dtype = call.outputs[0].dtype
    if call.op in ("any", "all"):
        bits = np.dtype(np.int32)
        truth = graph.cast(graph.operand(call, 0, np.dtype(np.bool_)), np.dtype(np.bool_), bits)
        return graph.cast(_reduced(graph, call, _REDUCTIONS[call.op], truth), bits, dtype)
    return _reduced(graph, call, _REDUCTIONS[call.op], graph.operand(call, 0, dtype))


@translates("var")
def _var(graph: Graph, call: Call) -> str:
    x, dtype = call.inputs[0], call.outputs[0].dtype
    axes = _axes(call)
    count = math.prod(call.fixed(axes))
    correction = call.attributes["correction"]
    if count <= correction:
        raise call.refusal("it divides by nothing")
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, graph.integers(axes))) if call.ndim else x
    mean = _reduced(graph, call, "ReduceMean", graph.add("Mul", centred, centred))
    return graph.add("Mul", mean, graph.constant(count / (count - correction), dtype))


def _norm_of(graph: Graph, call: Call, keepdims: int) -> str:
    """The norm of order p of the first input over ``dim``."""
    x, dtype, p = call.inputs[0], call.outputs[0].dtype, call.attributes["p"]
    axes = graph.integers(_axes(call))
    if p in (1, 2):
        return graph.add(f"ReduceL{int(p)}", x, axes, keepdims=keepdims)
    if p == 0:
        bits = graph.cast(graph.add("Equal", x, graph.constant(0, dtype)), np.dtype(np.bool_), dtype)
        other = graph.add("Sub", graph.constant(1, dtype), bits)
        return graph.add("ReduceSum", other, axes, keepdims=keepdims)
    size = graph.add("Abs", x)
    if math.isinf(p):
        return graph.add("ReduceMax" if p > 0 else "ReduceMin", size, axes, keepdims=keepdims)
    total = graph.add("ReduceSum", graph.add("Pow", size, graph.constant(p, dtype)), axes, keepdims=keepdims)
    return graph.add("Pow", total, graph.constant(1 / p, dtype))


@translates("norm")
def _norm(graph: Graph, call: Call) -> str:
    call.require_dimensions()
    return _norm_of(graph, call, int(call.attributes["keepdim"]))


@translates("normalize")
def _normalize(graph: Graph, call: Call) -> str:
    call.require_dimensions()
    eps = graph.constant(call.attributes["eps"], call.outputs[0].dtype)
    return graph.add("Div", call.inputs[0], graph.add("Max", _norm_of(graph, call, 1), eps))


@translates("max_along", "min_along")
def _extreme_along(graph: Graph, call: Call) -> tuple[str, str]:
    if not call.ndim:
        return graph.add("Identity", call.inputs[0]), graph.constant(0, np.int64)
    kind = call.op[:3].capitalize()
    axis, keep = call.attributes["dim"], int(call.attributes["keepdim"])
    value = graph.add(f"Reduce{kind}", call.inputs[0], graph.integers([axis]), keepdims=keep)
    return value, graph.add(f"Arg{kind}", call.inputs[0], axis=axis, keepdims=keep)


@translates("argmax", "argmin")
def _arg_extreme(graph: Graph, call: Call) -> str:
    kind, dim = f"Arg{call.op[3:].capitalize()}", call.attributes["dim"]
    x = call.inputs[0]
    if dim is not None and call.ndim:
        return graph.add(kind, x, axis=dim, keepdims=int(call.attributes["keepdim"]))
    place = graph.add(kind, graph.add("Reshape", x, graph.integers([-1])), axis=0, keepdims=0)
    shape = call.outputs[0].shape
    return graph.add("Reshape", place, graph.integers([1] * len(shape))) if shape else place
