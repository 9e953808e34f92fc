"""Normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet.autograd import Tensor, apply
from gpunet.ops import REGISTRY
from gpunet.ops.dtypes import DEFAULT_FLOAT, compute_dtype, is_floating

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "rms_norm",
]


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """Batch normalisation; ``residual`` is added to the result and ``activation="relu"`` applied to the sum.

    Args:
        input: (N, C, ...).
        running_mean, running_var: (C,), written in training mode; needed in evaluation mode.
        weight, bias: (C,), the scale and shift.
        training: normalise by the batch's statistics, else by the running ones.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.
        residual: of the input's shape, added before the activation.
        activation: None or ``"relu"``.
    """
    result = apply(
        REGISTRY["batch_norm"],
        input,
        weight,
        bias,
        running_mean,
        running_var,
        residual,
        training=bool(training),
        momentum=float(momentum),
        eps=float(eps),
        activation=activation,
    )
    if training:
        _note_written(running_mean, running_var)
    return result


def _note_written(*statistics: Tensor | None) -> None:
    """Tell the version check that an operation has written to running statistics."""
    for statistic in statistics:
        if statistic is not None:
            statistic._bump_version()


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Give each channel of each sample mean 0 and variance 1: Ulyanov, Vedaldi and Lempitsky 2016.

    Args:
        input: (N, C, ...), with more than one value for each channel of a sample.
        running_mean, running_var: (C,), moved towards the mean over the batch of the samples' mean and unbiased
            variance; read instead of them where ``use_input_stats`` is False.
        weight, bias: (C,), the scale and shift.
        use_input_stats: normalise by the samples' own statistics, else by the running ones.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.

    Raises:
        ShapeError: one value for each channel, or statistics of another size.
        ValueError: no running statistics where they are needed.
    """
    result = apply(
        REGISTRY["instance_norm"],
        input,
        weight,
        bias,
        running_mean,
        running_var,
        use_input_stats=bool(use_input_stats),
        momentum=float(momentum),
        eps=float(eps),
    )
    if use_input_stats:
        _note_written(running_mean, running_var)
    return result


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Give each group of a sample's channels mean 0 and variance 1: Wu and He 2018.

    Args:
        input: (N, C, ...).
        num_groups: how many groups the channels make; it must divide C.
        weight, bias: (C,), the scale and shift.
        eps: added to the variance.

    Raises:
        ShapeError: groups that do not divide C, or hold one value.
    """
    groups = _whole("group_norm", "num_groups", num_groups)
    return apply(REGISTRY["group_norm"], input, weight, bias, num_groups=groups, eps=float(eps))


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Give the last dimensions of every sample mean 0 and variance 1: Ba, Kiros and Hinton 2016.

    Args:
        input: (..., *normalized_shape).
        normalized_shape: the sizes of the dimensions to normalise over; one integer means the last alone.
        weight, bias: of shape ``normalized_shape``, the scale and shift.
        eps: added to the variance.

    Raises:
        ShapeError: the input does not end in ``normalized_shape``.
    """
    shape = _shape("layer_norm", normalized_shape)
    return apply(REGISTRY["layer_norm"], input, weight, bias, normalized_shape=shape, eps=float(eps))


def rms_norm(
    input: Tensor, normalized_shape: int | Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Divide the last dimensions of every sample by their root mean square: Zhang and Sennrich 2019.

    Args:
        input: (..., *normalized_shape).
        normalized_shape: the sizes of the dimensions to normalise over; one integer means the last alone.
        weight: of shape ``normalized_shape``, the scale.
        eps: added to the mean square; None means the distance from 1 to the next number of
            the type sums are carried in.

    Raises:
        ShapeError: the input does not end in ``normalized_shape``.
    """
    shape = _shape("rms_norm", normalized_shape)
    small = float(np.finfo(_carried(input.dtype)).eps) if eps is None else float(eps)
    return apply(REGISTRY["rms_norm"], input, weight, normalized_shape=shape, eps=small)


def local_response_norm(
    input: Tensor,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    alpha_over_size: bool = True,
) -> Tensor:
    """Divide by a power of the squares around in neighbouring channels: Krizhevsky, Sutskever and Hinton 2012.

    y_c = x_c / (k + a sum_j x_j^2)^beta over the ``size`` channels around c, with a = alpha / size, PyTorch's and
    Caffe's convention, or with a = alpha, the paper's (section 3.3; k = 2, size 5, alpha 1e-4, beta 0.75 there).

    Args:
        input: (N, C, ...).
        size: number of neighbouring channels.
        alpha: the factor of the squares.
        beta: the exponent.
        k: added to them.
        alpha_over_size: divide alpha by ``size``; PyTorch has no such argument and always does.
    """
    count = _whole("local_response_norm", "size", size)
    scale = float(alpha) / count if alpha_over_size and count > 0 else float(alpha)
    return apply(REGISTRY["local_response_norm"], input, size=count, scale=scale, beta=float(beta), k=float(k))


def normalize(input: Tensor, p: float = 2.0, dim: int | Sequence[int] = 1, eps: float = 1e-12) -> Tensor:
    """Scale vectors to length one: input / max(|input|_p, eps).

    Args:
        input: any shape.
        p: the order of the norm.
        dim: the dimension or dimensions along which a vector lies.
        eps: the least length to divide by.
    """
    along: Any = tuple(dim) if isinstance(dim, Sequence) else dim
    return apply(REGISTRY["normalize"], input, p=float(p), dim=along, eps=float(eps))


def _whole(op: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{op}: {name} must be an integer, got {value!r}")
    return int(value.__index__())


def _shape(op: str, value: Any) -> tuple[int, ...]:
    if hasattr(value, "__index__"):
        value = (value,)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{op}: normalized_shape must be an integer or a sequence of integers, got {value!r}")
    return tuple(_whole(op, "normalized_shape", size) for size in value)


def _carried(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return compute_dtype(dtype) if is_floating(dtype) else DEFAULT_FLOAT
