"""Activations.

``inplace=True`` writes the result to the input, as PyTorch does; so do the functions whose name ends in an underscore.
"""

from __future__ import annotations

import warnings
from typing import Any

from gpunet.autograd import Tensor, apply, empty_like
from gpunet.backend.errors import DTypeError
from gpunet.backend.random import Generator
from gpunet.ops import REGISTRY
from gpunet.ops.base import require_floating
from gpunet.ops.dtypes import BOOL
from gpunet.ops.reduce import normalize_axis

__all__ = [
    "celu",
    "celu_",
    "elu",
    "elu_",
    "gelu",
    "glu",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hardtanh_",
    "leaky_relu",
    "leaky_relu_",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "relu_",
    "rrelu",
    "rrelu_",
    "selu",
    "selu_",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
    "threshold_",
]


def _activation(name: str, input: Tensor, inplace: bool = False, **attributes: Any) -> Tensor:
    result: Tensor = apply(REGISTRY[name], input, **attributes)
    return input._write(result) if inplace else result


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0); its derivative at 0 is 0."""
    return input.relu_() if inplace else input.relu()


def relu_(input: Tensor) -> Tensor:
    """max(x, 0), in place."""
    return input.relu_()


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6) (Krizhevsky 2010)."""
    if input.dtype == BOOL:
        raise DTypeError("relu6: not defined for bool")
    return hardtanh(input, 0.0, 6.0, inplace)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """min(max(x, min_val), max_val); the derivative at the bounds is 0."""
    return _activation("hardtanh", input, inplace, low=float(min_val), high=float(max_val))


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """min(max(x, min_val), max_val), in place."""
    return hardtanh(input, min_val, max_val, inplace=True)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where it is positive, else negative_slope x (Maas et al. 2013)."""
    return _activation("leaky_relu", input, inplace, slope=float(negative_slope))


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, else negative_slope x, in place."""
    return leaky_relu(input, negative_slope, inplace=True)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where it is positive, else w x (He et al. 2015).

    Args:
        input: (N, C, ...) or any shape.
        weight: (C,), or (1,) for all channels.
    """
    return apply(REGISTRY["prelu"], input, weight)


def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Leaky ReLU whose slopes are uniform in lower..upper in training, and their mean otherwise (Xu et al. 2015).

    The slopes come from gpunet's generator: not PyTorch's numbers.
    """
    if lower > upper:
        raise ValueError(f"rrelu: lower must not be greater than upper, got {lower} and {upper}")
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    require_floating("rrelu", "input", input)  # before a number is drawn
    slopes = empty_like(input).detach().uniform_(lower, upper, generator=generator)
    result = (input * slopes).where(input <= 0, input)
    return input._write(result) if inplace else result


def rrelu_(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """``rrelu`` in place."""
    return rrelu(input, lower, upper, training, inplace=True, generator=generator)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where it is positive, else alpha (exp(x) - 1) (Clevert et al. 2016)."""
    return _activation("elu", input, inplace, alpha=float(alpha))


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """x where it is positive, else alpha (exp(x) - 1), in place."""
    return elu(input, alpha, inplace=True)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """1.0507 elu(x, 1.6733): keeps mean 0 and variance 1 (Klambauer et al. 2017)."""
    return _activation("selu", input, inplace)


def selu_(input: Tensor) -> Tensor:
    """1.0507 elu(x, 1.6733), in place."""
    return selu(input, inplace=True)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """max(x, 0) + min(alpha (exp(x / alpha) - 1), 0) (Barron 2017)."""
    return _activation("celu", input, inplace, alpha=float(alpha))


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """max(x, 0) + min(alpha (exp(x / alpha) - 1), 0), in place."""
    return celu(input, alpha, inplace=True)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x P(X <= x) for a standard normal X (Hendrycks and Gimpel 2016).

    Args:
        input: any shape.
        approximate: ``"none"``, or ``"tanh"`` for 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
    """
    return _activation("gelu", input, approximate=approximate)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x), also called swish (Elfwing et al. 2018)."""
    return _activation("silu", input, inplace)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x tanh(log(1 + exp(x))) (Misra 2019)."""
    return _activation("mish", input, inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x relu6(x + 3) / 6 (Howard et al. 2019)."""
    return _activation("hardswish", input, inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(x + 3) / 6 (Howard et al. 2019)."""
    return _activation("hardsigmoid", input, inplace)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return input.sigmoid()


def logsigmoid(input: Tensor) -> Tensor:
    """-log(1 + exp(-x)), without overflow."""
    return _activation("logsigmoid", input)


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return input.tanh()


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return _activation("tanhshrink", input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta; x itself where beta x is above the threshold."""
    return _activation("softplus", input, beta=float(beta), threshold=float(threshold))


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return _activation("softsign", input)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x - lambd above lambd, x + lambd below -lambd, 0 between."""
    return _activation("softshrink", input, lambd=float(lambd))


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| is above lambd, else 0."""
    return _activation("hardshrink", input, lambd=float(lambd))


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where it is above the threshold, else ``value``."""
    return _activation("threshold", input, inplace, threshold=float(threshold), value=float(value))


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """x where it is above the threshold, else ``value``, in place."""
    return _activation("threshold", input, True, threshold=float(threshold), value=float(value))


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half of a dimension of even size, times the sigmoid of the second (Dauphin et al. 2017)."""
    return _activation("glu", input, dim=dim)


def _softmax_dim(name: str, input: Tensor, dim: int | None) -> int:
    if dim is None:
        dim = 0 if input.ndim in (0, 1, 3) else 1
        warnings.warn(
            f"{name}: dim should be given; without it, {dim} is taken for a {input.ndim}-d tensor", stacklevel=3
        )
    return normalize_axis(name, dim, input.ndim)


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """exp(x) normalised to sum 1 over ``dim``.

    Args:
        input: any shape.
        dim: the dimension; must be given, where PyTorch warns and guesses.
        _stacklevel: PyTorch's, ignored.
        dtype: what to cast the input to first.
    """
    return (input if dtype is None else input.to(dtype)).softmax(_softmax_dim("softmax", input, dim))


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax(-x); see ``softmax``."""
    return (-(input if dtype is None else input.to(dtype))).softmax(_softmax_dim("softmin", input, dim))


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """The logarithm of softmax over ``dim``; see ``softmax``."""
    return (input if dtype is None else input.to(dtype)).log_softmax(_softmax_dim("log_softmax", input, dim))


def gumbel_softmax(
    logits: Tensor,
    tau: float = 1,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Samples of a categorical distribution, differentiable (Jang et al. 2017, Maddison et al. 2017).

    Args:
        logits: unnormalised log-probabilities.
        tau: temperature.
        hard: one-hot samples, with the gradient of the soft ones.
        eps: PyTorch's, ignored.
        dim: the dimension of the classes.
        generator: of the noise: gpunet's numbers, not PyTorch's.
    """
    require_floating("gumbel_softmax", "logits", logits)
    axis = normalize_axis("gumbel_softmax", dim, logits.ndim)
    noise = -empty_like(logits).detach().exponential_(generator=generator).log()
    soft = ((logits + noise) / tau).softmax(axis)
    if not hard:
        return soft
    largest = soft.detach().max(axis, keepdim=True)[0]
    chosen = (soft.detach() == largest).to(soft.dtype)
    return chosen - soft.detach() + soft
