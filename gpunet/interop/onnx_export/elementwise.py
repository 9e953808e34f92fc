"""Translations of arithmetic, comparisons, functions of one number, activations and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.interop.onnx_export.graph import Call, Graph, translates
from gpunet.ops.base import Spec
from gpunet.ops.dtypes import BOOL, is_floating, result_type

__all__: list[str] = []


def _common(call: Call) -> Any:
    """The dtype that the operands share: with PyTorch's promotion, which ONNX does not have."""
    pairs = zip(call.inputs, call.values, strict=True)
    return result_type(*(i if v is None else Spec((1,) * v.ndim, v.dtype) for i, v in pairs if i is not None))


def _operands(graph: Graph, call: Call, dtype: Any = None) -> list[str]:
    dtype = _common(call) if dtype is None else dtype
    return [graph.operand(call, index, dtype) for index in range(len(call.inputs))]


def _result(call: Call) -> Any:
    return call.outputs[0].dtype


# Two operands ------------------------------------------------------------------------------------------------------

for _op, _kind in (
    ("add", "Add"), ("sub", "Sub"), ("mul", "Mul"), ("div", "Div"), ("pow", "Pow"),
    ("maximum", "Max"), ("minimum", "Min"),
):  # fmt: skip

    @translates(_op)
    def _arithmetic(graph: Graph, call: Call, kind: str = _kind) -> str:
        if _result(call) == BOOL:
            return graph.add({"Add": "Or", "Max": "Or"}.get(kind, "And"), *_operands(graph, call, BOOL))
        return graph.add(kind, *_operands(graph, call, _result(call)))


for _op, _kind in (
    ("eq", "Equal"), ("lt", "Less"), ("le", "LessOrEqual"), ("gt", "Greater"), ("ge", "GreaterOrEqual"),
    ("ne", "Equal"),
):  # fmt: skip

    @translates(_op)
    def _comparison(graph: Graph, call: Call, kind: str = _kind) -> str:
        dtype = _common(call)
        if dtype == BOOL and kind != "Equal":
            dtype = np.dtype(np.int32)
        y = graph.add(kind, *_operands(graph, call, dtype))
        return graph.add("Not", y) if call.op == "ne" else y


for _op, _kind in (("logical_and", "And"), ("logical_or", "Or"), ("logical_xor", "Xor")):

    @translates(_op)
    def _logic(graph: Graph, call: Call, kind: str = _kind) -> str:
        return graph.add(kind, *_operands(graph, call, BOOL))


@translates("logical_not")
def _not(graph: Graph, call: Call) -> str:
    return graph.add("Not", graph.operand(call, 0, BOOL))


@translates("fmod")
def _fmod(graph: Graph, call: Call) -> str:
    return graph.add("Mod", *_operands(graph, call), fmod=1)


@translates("remainder")
def _remainder(graph: Graph, call: Call) -> str:
    x, y = _operands(graph, call)
    if not is_floating(_result(call)):
        return graph.add("Mod", x, y)
    return graph.add("Sub", x, graph.add("Mul", graph.add("Floor", graph.add("Div", x, y)), y))


@translates("floor_divide", "div_floor")
def _floor_divide(graph: Graph, call: Call) -> str:
    if not is_floating(_result(call)):
        raise call.refusal("of integers, ONNX rounds quotients towards zero")
    return graph.add("Floor", graph.add("Div", *_operands(graph, call)))


@translates("hypot")
def _hypot(graph: Graph, call: Call) -> str:
    x, y = _operands(graph, call)
    return graph.add("Sqrt", graph.add("Add", graph.add("Mul", x, x), graph.add("Mul", y, y)))


@translates("where")
def _where(graph: Graph, call: Call) -> str:
    dtype = _result(call)
    return graph.add("Where", graph.operand(call, 0, BOOL), *(graph.operand(call, index, dtype) for index in (1, 2)))


@translates("clamp")
def _clamp(graph: Graph, call: Call) -> str:
    dtype = _result(call)
    y = graph.operand(call, 0, dtype)
    for index, kind in ((1, "Max"), (2, "Min")):
        if call.inputs[index] is not None:
            y = graph.add(kind, y, graph.operand(call, index, dtype))
    return y


# One operand -------------------------------------------------------------------------------------------------------

_PLAIN = {
    "abs": "Abs", "neg": "Neg", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal", "sin": "Sin",
    "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh",
    "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "erf": "Erf", "floor": "Floor", "ceil": "Ceil",
    "sign": "Sign", "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "selu": "Selu", "softsign": "Softsign",
    "hardswish": "HardSwish",
}  # fmt: skip


@translates(*_PLAIN)
def _plain(graph: Graph, call: Call) -> str:
    if call.op in ("floor", "ceil") and not is_floating(_result(call)):
        return str(graph.add("Identity", call.inputs[0]))
    return graph.add(_PLAIN[call.op], graph.operand(call, 0, _result(call)))


@translates("clone", "hook_point", "to_device")
def _same(graph: Graph, call: Call) -> Any:
    names = [graph.add("Identity", name) for name in call.inputs]
    return tuple(names) if len(names) > 1 else names[0]


@translates("cast")
def _cast(graph: Graph, call: Call) -> str:
    return graph.add("Cast", call.inputs[0], to=graph.type_of(_result(call)))


@translates("isnan")
def _isnan(graph: Graph, call: Call) -> str:
    return graph.add("IsNaN", call.inputs[0])


@translates("isinf")
def _isinf(graph: Graph, call: Call) -> str:
    return graph.add("IsInf", call.inputs[0])


@translates("isfinite")
def _isfinite(graph: Graph, call: Call) -> str:
    x = call.inputs[0]
    return graph.add("Not", graph.add("Or", graph.add("IsNaN", x), graph.add("IsInf", x)))


@translates("round")
def _round(graph: Graph, call: Call) -> str:
    if call.attributes["decimals"]:
        raise call.refusal("it rounds to decimals")
    return graph.add("Round" if is_floating(_result(call)) else "Identity", call.inputs[0])


Body = Callable[[Any, str, Callable[[float], str], Any], str]


def _composed(op: str, body: Body) -> None:
    """A function of one number made of several nodes: ``body(add, x, number, attributes)``."""

    @translates(op)
    def translate(graph: Graph, call: Call) -> str:
        dtype = _result(call)
        return body(
            graph.add, graph.operand(call, 0, dtype), lambda value: graph.constant(value, dtype), call.attributes
        )


_composed("rsqrt", lambda add, x, c, a: add("Reciprocal", add("Sqrt", x)))
_composed("exp2", lambda add, x, c, a: add("Pow", c(2), x))
_composed("expm1", lambda add, x, c, a: add("Sub", add("Exp", x), c(1)))
_composed("log1p", lambda add, x, c, a: add("Log", add("Add", x, c(1))))
_composed("log2", lambda add, x, c, a: add("Div", add("Log", x), c(math.log(2))))
_composed("log10", lambda add, x, c, a: add("Div", add("Log", x), c(math.log(10))))
_composed("erfc", lambda add, x, c, a: add("Sub", c(1), add("Erf", x)))
_composed("deg2rad", lambda add, x, c, a: add("Mul", x, c(math.pi / 180)))
_composed("rad2deg", lambda add, x, c, a: add("Mul", x, c(180 / math.pi)))
_composed("trunc", lambda add, x, c, a: add("Mul", add("Sign", x), add("Floor", add("Abs", x))))
_composed("silu", lambda add, x, c, a: add("Mul", x, add("Sigmoid", x)))
_composed("mish", lambda add, x, c, a: add("Mul", x, add("Tanh", add("Softplus", x))))
_composed("tanhshrink", lambda add, x, c, a: add("Sub", x, add("Tanh", x)))
_composed("logsigmoid", lambda add, x, c, a: add("Neg", add("Softplus", add("Neg", x))))
_composed("leaky_relu", lambda add, x, c, a: add("LeakyRelu", x, alpha=a["slope"]))
_composed("elu", lambda add, x, c, a: add("Elu", x, alpha=a["alpha"]))
_composed("celu", lambda add, x, c, a: add("Celu", x, alpha=a["alpha"]))
_composed("hardtanh", lambda add, x, c, a: add("Clip", x, c(a["low"]), c(a["high"])))
_composed("hardsigmoid", lambda add, x, c, a: add("HardSigmoid", x, alpha=1 / 6, beta=0.5))
_composed("hardshrink", lambda add, x, c, a: add("Shrink", x, lambd=a["lambd"], bias=0.0))
_composed("softshrink", lambda add, x, c, a: add("Shrink", x, lambd=a["lambd"], bias=a["lambd"]))
_composed(
    "threshold", lambda add, x, c, a: add("Where", add("Greater", x, c(a["threshold"])), x, c(a["value"]))
)  # fmt: skip


@translates("gelu")
def _gelu(graph: Graph, call: Call) -> str:
    add, x, dtype = graph.add, call.inputs[0], _result(call)
    half, one = graph.constant(0.5, dtype), graph.constant(1, dtype)
    if call.attributes["approximate"] == "none":
        inner = add("Erf", add("Mul", x, graph.constant(math.sqrt(0.5), dtype)))
    else:
        cube = add("Mul", add("Mul", add("Mul", x, x), x), graph.constant(0.044715, dtype))
        inner = add("Tanh", add("Mul", add("Add", x, cube), graph.constant(math.sqrt(2 / math.pi), dtype)))
    return add("Mul", add("Mul", x, half), add("Add", inner, one))


@translates("softplus")
def _softplus(graph: Graph, call: Call) -> str:
    x, dtype = call.inputs[0], _result(call)
    beta = graph.constant(call.attributes["beta"], dtype)
    scaled = x if call.attributes["beta"] == 1 else graph.add("Mul", x, beta)
    y = graph.add("Softplus", scaled)
    y = y if call.attributes["beta"] == 1 else graph.add("Div", y, beta)
    linear = graph.add("Greater", scaled, graph.constant(call.attributes["threshold"], dtype))
    return graph.add("Where", linear, x, y)


@translates("glu")
def _glu(graph: Graph, call: Call) -> str:
    axis = call.attributes["dim"] % call.ndim
    half = call.fixed([axis])[0] // 2
    a, b = graph.add_several("Split", 2, call.inputs[0], graph.integers([half, half]), axis=axis)
    return graph.add("Mul", a, graph.add("Sigmoid", b))


@translates("prelu")
def _prelu(graph: Graph, call: Call) -> str:
    x, weight = call.inputs
    if call.ndim > 2 and call.values[1].shape[0].fixed > 1:
        weight = graph.add("Reshape", weight, graph.integers([-1, *[1] * (call.ndim - 2)]))
    return graph.add("PRelu", x, weight)


@translates("softmax", "log_softmax")
def _softmax(graph: Graph, call: Call) -> str:
    call.require_dimensions()
    kind = "Softmax" if call.op == "softmax" else "LogSoftmax"
    return graph.add(kind, call.inputs[0], axis=call.attributes["dim"])
