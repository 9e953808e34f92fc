"""Tensor methods as functions: ``gn.exp(x)`` for ``x.exp()``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.autograd.joining import cat
from gpunet.autograd.tensor import Tensor

__all__ = [
    "abs",
    "add",
    "allclose",
    "argmax",
    "argmin",
    "clamp",
    "clip",
    "concat",
    "div",
    "equal",
    "exp",
    "flatten",
    "log",
    "log_softmax",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mm",
    "mul",
    "neg",
    "numel",
    "permute",
    "pow",
    "relu",
    "reshape",
    "sigmoid",
    "softmax",
    "split",
    "sqrt",
    "squeeze",
    "std",
    "sub",
    "sum",
    "tanh",
    "transpose",
    "unsqueeze",
    "var",
]


def _function(name: str, doc: str) -> Callable[..., Any]:
    """The function that calls a method of its first argument."""

    def call(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}: input must be a Tensor, got {type(input).__name__}")
        return getattr(input, name)(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"{doc} See ``Tensor.{name}``."
    return call


abs = _function("abs", "Absolute value.")
exp = _function("exp", "e to the power of each element.")
log = _function("log", "Natural logarithm.")
sqrt = _function("sqrt", "Square root.")
neg = _function("neg", "-x.")
relu = _function("relu", "max(x, 0).")
sigmoid = _function("sigmoid", "1 / (1 + exp(-x)).")
tanh = _function("tanh", "Hyperbolic tangent.")
add = _function("add", "input + alpha * other.")
sub = _function("sub", "input - alpha * other.")
mul = _function("mul", "input * other.")
div = _function("div", "input / other.")
pow = _function("pow", "input to the power of other.")
matmul = _function("matmul", "Matrix product.")
mm = _function("mm", "Matrix product.")
maximum = _function("maximum", "Elementwise larger of two.")
minimum = _function("minimum", "Elementwise smaller of two.")
sum = _function("sum", "Sum over all or some dimensions.")
mean = _function("mean", "Mean over all or some dimensions.")
var = _function("var", "Variance.")
std = _function("std", "Standard deviation.")
max = _function("max", "The largest element, values and indices along a dimension, or the elementwise larger of two.")
min = _function("min", "The smallest element, values and indices along a dimension, or the elementwise smaller of two.")
argmax = _function("argmax", "First place of the largest element.")
argmin = _function("argmin", "First place of the smallest element.")
clamp = _function("clamp", "Elements limited to min..max.")
clip = _function("clip", "Elements limited to min..max.")
reshape = _function("reshape", "The elements under another shape.")
permute = _function("permute", "Dimensions in another order.")
transpose = _function("transpose", "Two dimensions exchanged.")
squeeze = _function("squeeze", "Dimensions of size one removed.")
unsqueeze = _function("unsqueeze", "A dimension of size one inserted.")
flatten = _function("flatten", "Several dimensions made one.")
split = _function("split", "Pieces along a dimension.")
softmax = _function("softmax", "Softmax over a dimension.")
log_softmax = _function("log_softmax", "Logarithm of softmax over a dimension.")
numel = _function("numel", "Number of elements.")
concat = cat


def equal(input: Tensor, other: Tensor) -> bool:
    """True if two tensors have the same shape and elements."""
    return input.shape == other.shape and bool((input == other).all())


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """True if |input - other| <= atol + rtol |other| everywhere."""
    a, b = (np.asarray(value.detach().cpu().numpy()) for value in (input, other))
    return bool(np.allclose(a, b, rtol, atol, equal_nan))
