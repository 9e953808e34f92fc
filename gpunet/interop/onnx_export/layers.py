"""Translations of layers with weights: convolutions, linear layers, normalisations, embeddings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunet.interop.onnx_export.graph import Call, Graph, translates
from gpunet.interop.onnx_export.tracing import Extent

__all__ = ["finish"]


def finish(graph: Graph, call: Call, y: str, residual: str | None = None) -> str:
    """What may be fused into an operation: the addition of a residual, and a ReLU."""
    if residual is not None:
        y = graph.add("Add", y, residual)
    activation = call.attributes.get("activation")
    if activation is None:
        return y
    if activation != "relu":
        raise call.refusal(f"its activation {activation!r} is not known here")
    return graph.add("Relu", y)


def _pads(padding: Any) -> list[int]:
    return [before for before, _ in padding] + [after for _, after in padding]


@translates("conv1d", "conv2d", "conv3d")
def _convolution(graph: Graph, call: Call) -> str:
    x, weight, bias, residual = call.inputs
    options = call.attributes
    y = graph.add(
        "Conv", x, weight, bias, strides=list(options["stride"]), pads=_pads(options["padding"]),
        dilations=list(options["dilation"]), group=options["groups"],
    )  # fmt: skip
    return finish(graph, call, y, residual)


@translates("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed_convolution(graph: Graph, call: Call) -> str:
    options = call.attributes
    stride, padding, more = options["stride"], list(options["padding"]), list(options["output_padding"])
    for axis, (step, (before, after), extra) in enumerate(zip(stride, padding, more, strict=True)):
        if extra >= step:  # runtimes refuse this; cropping less is the same
            if extra > after:
                raise call.refusal(f"its output_padding {extra} is neither below its stride nor its padding")
            padding[axis], more[axis] = (before, after - extra), 0
    return graph.add(
        "ConvTranspose", *call.inputs, strides=list(stride), pads=_pads(padding),
        dilations=list(options["dilation"]), group=options["groups"], output_padding=more,
    )  # fmt: skip


@translates("linear")
def _linear(graph: Graph, call: Call) -> str:
    x, weight, bias, residual = call.inputs
    if call.ndim == 2:
        return finish(graph, call, graph.add("Gemm", x, weight, bias, transB=1), residual)
    y = graph.add("MatMul", x, graph.add("Transpose", weight, perm=[1, 0]))
    return finish(graph, call, y if bias is None else graph.add("Add", y, bias), residual)


@translates("matmul")
def _product(graph: Graph, call: Call) -> str:
    return graph.add("MatMul", *call.inputs)


@translates("einsum")
def _einsum(graph: Graph, call: Call) -> str:
    labels: dict[Any, str] = {}

    def letters(term: Any) -> str:
        if any(label is Ellipsis for label in term):
            raise call.refusal("it has an ellipsis")
        return "".join(labels.setdefault(label, chr(ord("a") + len(labels))) for label in term)

    terms = ",".join(letters(term) for term in call.attributes["operands"])
    return graph.add("Einsum", *call.inputs, equation=f"{terms}->{letters(call.attributes['output'])}")


# Normalisation -----------------------------------------------------------------------------------------------------


def _channels(call: Call) -> int:
    return call.fixed([1])[0]


def _per_channel(graph: Graph, call: Call, name: str) -> str:
    """(C,) as a shape that broadcasts over (N, C, ...)."""
    return graph.add("Reshape", name, graph.integers([_channels(call), *[1] * (call.ndim - 2)]))


def _scaled(graph: Graph, call: Call, y: str, weight: str | None, bias: str | None) -> str:
    """Y times the channels' weights, plus their biases."""
    if weight is not None:
        y = graph.add("Mul", y, _per_channel(graph, call, weight))
    return y if bias is None else graph.add("Add", y, _per_channel(graph, call, bias))


def _standardised(graph: Graph, call: Call, axes: list[int]) -> str:
    """(x - mean) / sqrt(var + eps), both over the axes."""
    x, dtype = call.inputs[0], call.values[0].dtype
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, graph.integers(axes)))
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), graph.integers(axes))
    spread = graph.add("Sqrt", graph.add("Add", variance, graph.constant(call.attributes["eps"], dtype)))
    return graph.add("Div", centred, spread)


def _by_running_statistics(graph: Graph, call: Call) -> str:
    x, weight, bias, mean, variance = call.inputs[:5]
    dtype, channels = call.values[0].dtype, _channels(call)
    scale = weight if weight is not None else graph.constant(np.ones(channels), dtype)
    shift = bias if bias is not None else graph.constant(np.zeros(channels), dtype)
    return graph.add("BatchNormalization", x, scale, shift, mean, variance, epsilon=call.attributes["eps"])


@translates("batch_norm")
def _batch_norm(graph: Graph, call: Call) -> str:
    if call.attributes["training"]:  # a layer that keeps no statistics takes the batch's in evaluation as well
        axes = [axis for axis in range(call.ndim) if axis != 1]
        y = _scaled(graph, call, _standardised(graph, call, axes), *call.inputs[1:3])
    else:
        y = _by_running_statistics(graph, call)
    return finish(graph, call, y, call.inputs[5])


@translates("instance_norm")
def _instance_norm(graph: Graph, call: Call) -> str:
    if not call.attributes["use_input_stats"]:
        return _by_running_statistics(graph, call)
    x, weight, bias = call.inputs[:3]
    dtype, channels = call.values[0].dtype, _channels(call)
    scale = weight if weight is not None else graph.constant(np.ones(channels), dtype)
    shift = bias if bias is not None else graph.constant(np.zeros(channels), dtype)
    return graph.add("InstanceNormalization", x, scale, shift, epsilon=call.attributes["eps"])


@translates("group_norm")
def _group_norm(graph: Graph, call: Call) -> str:
    # ONNX's own GroupNormalization had other weights before opset 21, so: groups as the channels of instances.
    x, weight, bias = call.inputs
    dtype, groups = call.values[0].dtype, call.attributes["num_groups"]
    inner = math.prod(call.fixed(range(1, call.ndim))) // groups
    rows = graph.reshape(x, call.shape, (call.shape[0], Extent(0, groups), Extent(0, inner)))
    one, zero = (graph.constant(np.full(groups, value), dtype) for value in (1, 0))
    y = graph.add("InstanceNormalization", rows, one, zero, epsilon=call.attributes["eps"])
    return _scaled(graph, call, graph.reshape(y, call.shape[:1], call.shape), weight, bias)


@translates("layer_norm")
def _layer_norm(graph: Graph, call: Call) -> str:
    x, weight, bias = call.inputs
    shape = call.attributes["normalized_shape"]
    scale = weight if weight is not None else graph.constant(np.ones(shape), call.values[0].dtype)
    return graph.add("LayerNormalization", x, scale, bias, axis=call.ndim - len(shape), epsilon=call.attributes["eps"])


@translates("rms_norm")
def _rms_norm(graph: Graph, call: Call) -> str:
    x, weight = call.inputs
    axes = range(call.ndim - len(call.attributes["normalized_shape"]), call.ndim)
    square = graph.add("ReduceMean", graph.add("Mul", x, x), graph.integers(axes))
    eps = graph.constant(call.attributes["eps"], call.values[0].dtype)
    y = graph.add("Div", x, graph.add("Sqrt", graph.add("Add", square, eps)))
    return y if weight is None else graph.add("Mul", y, weight)


@translates("local_response_norm")
def _local_response_norm(graph: Graph, call: Call) -> str:
    x, dtype = call.inputs[0], call.values[0].dtype
    size, scale, beta, k = (call.attributes[name] for name in ("size", "scale", "beta", "k"))
    if size % 2 and call.ndim == 4:
        return graph.add("LRN", x, size=size, alpha=scale * size, beta=beta, bias=k)
    # LRN takes odd windows over images. Any other is an average over neighbours, taken of (N, 1, C, pixels).
    batch, channels = call.shape[0], _channels(call)
    pixels = int(np.prod(call.fixed(range(2, call.ndim)), dtype=np.int64))
    plane = (batch, Extent(0, 1), Extent(0, channels), Extent(0, pixels))
    squares = graph.reshape(graph.add("Mul", x, x), call.shape, plane)
    mean = graph.add(
        "AveragePool", squares, kernel_shape=[size, 1], pads=[size // 2, 0, (size - 1) // 2, 0], count_include_pad=1
    )
    total = graph.add("Mul", graph.reshape(mean, plane, call.shape), graph.constant(scale * size, dtype))
    denominator = graph.add("Pow", graph.add("Add", total, graph.constant(k, dtype)), graph.constant(beta, dtype))
    return graph.add("Div", x, denominator)


@translates("embedding")
def _embedding(graph: Graph, call: Call) -> str:
    weight, places = call.inputs
    return graph.add("Gather", weight, places, axis=0)
