"""Functions of tensors, under PyTorch's names and with its arguments.

Images are (N, C, H, W), or (C, H, W) without a batch. Activations are physically NHWC; shapes are always logical.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunet.autograd import Tensor, apply, arange
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.backend.random import Generator, default_generator
from gpunet.ops import REGISTRY
from gpunet.ops.base import require_floating
from gpunet.ops.dtypes import INT64
from gpunet.ops.reduce import normalize_axis

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "cross_entropy",
    "dropout",
    "linear",
    "log_softmax",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "pad",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]

IntPair = int | Sequence[int]


def _pair(name: str, value: Any) -> tuple[int, int]:
    """One integer for both spatial dimensions, or one for each."""
    if hasattr(value, "__index__") and not isinstance(value, bool):
        return value.__index__(), value.__index__()
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) in (1, 2):
        first, second = value[0], value[-1]
        if hasattr(first, "__index__") and hasattr(second, "__index__"):
            return first.__index__(), second.__index__()
    raise TypeError(f"{name}: expected an integer or a pair of integers, got {value!r}")


def _images(op: str, input: Tensor) -> tuple[Tensor, bool]:
    """A batch of images, and whether the batch dimension was added."""
    if input.ndim == 3:
        return input.unsqueeze(0), True
    return input, False


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x W^T + b: input (..., I), weight (O, I), bias (O,) to (..., O)."""
    return apply(REGISTRY["linear"], input, weight, bias)


def conv_padding(padding: Any, kernel: tuple[int, int], stride: Any, dilation: Any) -> Any:
    """Padding as ((top, bottom), (left, right)) from an integer, a pair, ``"valid"`` or ``"same"``.

    Raises:
        ValueError: an unknown name, or ``"same"`` with a stride other than 1.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding != "same":
            raise ValueError(f"padding: must be integers, 'valid' or 'same', got {padding!r}")
        if stride != (1, 1):
            raise ValueError(f"padding: 'same' needs a stride of 1, got {stride}")
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        # An odd total puts the extra pixel behind, as PyTorch does.
        return tuple((extent // 2, extent - extent // 2) for extent in total)
    first, second = _pair("padding", padding)
    return (first, first), (second, second)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair | str = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> Tensor:
    """Two-dimensional convolution (cross-correlation).

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (K, C / groups, R, S).
        bias: (K,) or None.
        stride: step of the window.
        padding: zeros added on each side; ``"valid"`` for none, ``"same"`` to keep the size at stride 1.
        dilation: distance between taps.
        groups: independent groups of channels.

    Returns:
        (N, K, P, Q) with P = floor((H + 2 padding - dilation (R - 1) - 1) / stride) + 1.

    Raises:
        ShapeError: channels, groups or sizes that do not fit, or a kernel larger than the padded input.
    """
    batch, single = _images("conv2d", input)
    steps, spread = _pair("stride", stride), _pair("dilation", dilation)
    kernel = weight.shape[-2:] if weight.ndim == 4 else (1, 1)
    pads = conv_padding(padding, (kernel[0], kernel[1]), steps, spread)
    result = apply(REGISTRY["conv2d"], batch, weight, bias, stride=steps, padding=pads, dilation=spread, groups=groups)
    return result.squeeze(0) if single else result


def max_pool2d(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """Maximum over windows; the first of equal elements gets the gradient, NaN counts as the largest.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: of the window.
        stride: of the window; its size if left out.
        padding: minus infinity added on each side, at most half the window.
        dilation: distance between taps.
        ceil_mode: round the output size up.
        return_indices: not supported.
    """
    if return_indices:
        raise ValueError("max_pool2d: return_indices is not supported; take the output alone")
    batch, single = _images("max_pool2d", input)
    window = _pair("kernel_size", kernel_size)
    result = apply(
        REGISTRY["max_pool2d"],
        batch,
        kernel_size=window,
        stride=window if stride is None or stride == [] else _pair("stride", stride),
        padding=_pair("padding", padding),
        dilation=_pair("dilation", dilation),
        ceil_mode=bool(ceil_mode),
    )
    return result.squeeze(0) if single else result


def avg_pool2d(
    input: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Average over windows.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: of the window.
        stride: of the window; its size if left out.
        padding: zeros added on each side, at most half the window.
        ceil_mode: round the output size up.
        count_include_pad: count the padding in the divisor.
        divisor_override: divide by this instead.
    """
    batch, single = _images("avg_pool2d", input)
    window = _pair("kernel_size", kernel_size)
    result = apply(
        REGISTRY["avg_pool2d"],
        batch,
        kernel_size=window,
        stride=window if stride is None or stride == [] else _pair("stride", stride),
        padding=_pair("padding", padding),
        ceil_mode=bool(ceil_mode),
        count_include_pad=bool(count_include_pad),
        divisor_override=divisor_override,
    )
    return result.squeeze(0) if single else result


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Averages over as many regions as the output has pixels.

    Args:
        input: (N, C, H, W) or (C, H, W).
        output_size: rows and columns of the output; None keeps the input's.
    """
    batch, single = _images("adaptive_avg_pool2d", input)
    wanted = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    if len(wanted) != 2:
        raise TypeError(f"output_size: expected an integer, None or a pair of them, got {output_size!r}")
    if batch.ndim == 4:
        wanted = [batch.shape[2 + i] if extent is None else extent for i, extent in enumerate(wanted)]
    size = _pair("output_size", [0 if extent is None else extent for extent in wanted])
    result = apply(REGISTRY["adaptive_avg_pool2d"], batch, output_size=size)
    return result.squeeze(0) if single else result


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
        for statistic in (running_mean, running_var):
            if statistic is not None:
                statistic._bump_version()
    return result


def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 - p); nothing outside training.

    The mask is a function of the generator's seed and the number of draws before: the same on CPU and GPU.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: p must lie in 0..1, got {p}")
    if not training or p == 0.0:
        return input
    require_floating("dropout", "input", input)  # before a number is drawn
    source = default_generator("dropout") if generator is None else generator
    key = (source.seed_value, source.stream, source.next_counter())
    result: Tensor = apply(REGISTRY["dropout"], input, p=float(p), key=key)
    return input._write(result) if inplace else result


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


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Softmax cross-entropy of logits.

    Args:
        input: logits (N, C), (C,) or (N, C, d1, ...).
        target: class indices (N,), () or (N, d1, ...), int64; or probabilities of the input's shape.
        weight: (C,), a weight for each class.
        ignore_index: label of elements that do not count.
        reduction: ``"mean"`` (over the weights of what counts), ``"sum"`` or ``"none"``.
        label_smoothing: 0 to 1.

    Raises:
        IndexError: a label outside 0..C-1; on a GPU at the next point of synchronisation.
    """
    return apply(
        REGISTRY["cross_entropy"],
        input,
        target,
        weight,
        ignore_index=int(ignore_index),
        reduction=reduction,
        label_smoothing=float(label_smoothing),
    )


def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Negative log-likelihood of class labels, from log-probabilities (N, C), (C,) or (N, C, d1, ...)."""
    return apply(REGISTRY["nll_loss"], input, target, weight, ignore_index=int(ignore_index), reduction=reduction)


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(x - t)^2, averaged, summed or element by element. Shapes broadcast."""
    return apply(REGISTRY["mse_loss"], input, target, reduction=reduction)


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Constant padding.

    Args:
        input: any shape.
        pad: (left, right, top, bottom, ...) from the last dimension on; negative sizes crop.
        mode: ``"constant"``.
        value: what to fill with, 0 unless given.
    """
    if mode != "constant":
        raise ValueError(f"pad: mode must be 'constant', got {mode!r}")
    filling = 0.0 if value is None else value
    return apply(REGISTRY["pad"], input, padding=tuple(extent.__index__() for extent in pad), value=filling)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Class indices (...) as rows of zeros with a one: (..., num_classes), int64.

    Raises:
        DTypeError: not int64.
        IndexError: an index outside 0..num_classes-1.
    """
    if tensor.dtype != INT64:
        raise DTypeError(f"one_hot: input must be int64, got {tensor.dtype.name}")
    if num_classes == -1:
        if tensor.numel() == 0:
            raise ShapeError("one_hot: num_classes must be given for an empty tensor")
        num_classes = int(tensor.max().item()) + 1
    if (
        tensor.numel()
        and tensor._device.type == "cpu"
        and (int(tensor.min().item()) < 0 or int(tensor.max().item()) >= num_classes)
    ):
        raise IndexError(f"one_hot: indices must lie in 0..{num_classes - 1}")
    return (tensor.unsqueeze(-1) == arange(num_classes, device=tensor.device)).long()
