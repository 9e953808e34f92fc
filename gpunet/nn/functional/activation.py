"""Activations."""

from __future__ import annotations

from typing import Any

from gpunet.autograd import Tensor
from gpunet.ops.reduce import normalize_axis

__all__ = ["log_softmax", "relu", "sigmoid", "softmax", "tanh"]


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0); its derivative at 0 is 0."""
    return input.relu_() if inplace else input.relu()


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return input.tanh()


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return input.sigmoid()


def _softmax_dim(name: str, input: Tensor, dim: int | None) -> int:
    if dim is None:
        raise ValueError(f"{name}: dim must be given")
    return normalize_axis(name, dim, input.ndim)


def softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """exp(x) normalised to sum 1 over ``dim``."""
    return (input if dtype is None else input.to(dtype)).softmax(_softmax_dim("softmax", input, dim))


def log_softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """The logarithm of softmax over ``dim``."""
    return (input if dtype is None else input.to(dtype)).log_softmax(_softmax_dim("log_softmax", input, dim))
