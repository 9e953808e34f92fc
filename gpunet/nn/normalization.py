"""Normalisation by a sample's own statistics: layer, group, instance, root mean square, and local response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gpunet.nn.functional as F
from gpunet.autograd import Tensor, empty
from gpunet.backend.errors import ShapeError
from gpunet.nn import init
from gpunet.nn.arguments import check_eps, check_int
from gpunet.nn.batchnorm import TrackedNorm
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter

__all__ = [
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
]


class _Affine(Module):
    """A scale of ones and a shift of zeros, each of which may be missing."""

    weight: Parameter | None
    bias: Parameter | None

    def _make(self, shape: tuple[int, ...], weight: bool, bias: bool, device: Any, dtype: Any) -> None:
        self.register_parameter("weight", Parameter(empty(shape, device=device, dtype=dtype)) if weight else None)
        self.register_parameter("bias", Parameter(empty(shape, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1 and shift 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


def _check_shape(layer: str, value: Any) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not sizes:
        raise ShapeError(f"{layer}: normalized_shape must name at least one dimension, got ()")
    return tuple(check_int(layer, "normalized_shape", size, 0) for size in sizes)


class LayerNorm(_Affine):
    """Normalisation over the last dimensions: y = (x - mean) / sqrt(var + eps) * weight + bias.

    Ba, Kiros and Hinton 2016. The same in training and evaluation.

    Args:
        normalized_shape: the sizes of the dimensions to normalise over; one integer means the last alone.
        eps: added to the variance.
        elementwise_affine: whether there are a weight and a bias.
        bias: whether an affine layer has a bias.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight, bias: of shape ``normalized_shape``, ones and zeros, or None.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _check_shape("LayerNorm", normalized_shape)
        self.eps = check_eps("LayerNorm", eps)
        self.elementwise_affine = elementwise_affine
        self._make(self.normalized_shape, elementwise_affine, elementwise_affine and bias, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Input and output: (..., *normalized_shape)."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Division by the root mean square over the last dimensions: y = x / sqrt(mean x^2 + eps) * weight.

    Zhang and Sennrich 2019. The same in training and evaluation.

    Args:
        normalized_shape: the sizes of the dimensions to normalise over; one integer means the last alone.
        eps: added to the mean square; None means the distance from 1 to the next number of
            the type sums are carried in.
        elementwise_affine: whether there is a weight.
        device: where the weight lives.
        dtype: its floating type.

    Attributes:
        weight: of shape ``normalized_shape``, ones, or None.
    """

    weight: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _check_shape("RMSNorm", normalized_shape)
        self.eps = None if eps is None else check_eps("RMSNorm", eps)
        self.elementwise_affine = elementwise_affine
        made = Parameter(empty(self.normalized_shape, device=device, dtype=dtype)) if elementwise_affine else None
        self.register_parameter("weight", made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Input and output: (..., *normalized_shape)."""
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(_Affine):
    """Normalisation of groups of a sample's channels: y = (x - mean) / sqrt(var + eps) * weight + bias.

    Wu and He 2018. The same in training and evaluation.

    Args:
        num_groups: how many groups the channels make.
        num_channels: C, a multiple of ``num_groups``.
        eps: added to the variance.
        affine: whether there are a weight and a bias.
        device: where the parameters live.
        dtype: their floating type.
        bias: whether an affine layer has a bias.

    Attributes:
        weight, bias: (C,), ones and zeros, or None.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_groups = check_int("GroupNorm", "num_groups", num_groups, 1)
        self.num_channels = check_int("GroupNorm", "num_channels", num_channels, 1)
        if num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_channels must be divisible by num_groups, got {num_channels} and {num_groups}"
            )
        self.eps = check_eps("GroupNorm", eps)
        self.affine = affine
        self._make((self.num_channels,), affine, affine and bias, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Input and output: (N, C, ...)."""
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class _InstanceNorm(TrackedNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise each channel of each sample.

        Args:
            input: (N, C, L), (N, C, H, W) or (N, C, D, H, W), or the same without N.

        Returns:
            A tensor of the input's shape.

        Raises:
            ShapeError: an input of another rank or, in an affine layer, another number of channels.
        """
        self._check_rank(input)
        unbatched = len(input.shape) == self._ranks[0]
        channels = input.shape[0 if unbatched else 1]
        if self.affine and channels != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: input must have {self.num_features} channels, got shape {tuple(input.shape)}"
            )
        result = F.instance_norm(
            input.unsqueeze(0) if unbatched else input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return result.squeeze(0) if unbatched else result


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation over (N, C, L) or (C, L): y = (x - mean) / sqrt(var + eps) * weight + bias.

    Ulyanov, Vedaldi and Lempitsky 2016: mean and variance of each channel of each sample, in training and evaluation
    alike, unless running statistics are tracked and take their place in evaluation.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of a new batch in the running statistics.
        affine: whether there are a weight and a bias.
        track_running_stats: keep running statistics.
        device: where the parameters and buffers live.
        dtype: their floating type.
        bias: whether an affine layer has a bias.

    Attributes:
        weight, bias: (C,), ones and zeros, or None.
        running_mean, running_var: (C,), zeros and ones, or None.
        num_batches_tracked: as in PyTorch a 0 that nothing counts up, or None.
    """

    _ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Instance normalisation over (N, C, H, W) or (C, H, W); see InstanceNorm1d for the rule and the arguments."""

    _ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Instance normalisation over (N, C, D, H, W) or (C, D, H, W); see InstanceNorm1d for the rule and arguments."""

    _ranks = (4, 5)


class LocalResponseNorm(Module):
    """Local response normalisation: y_c = x_c / (k + alpha / size * sum of x^2 over the channels around c)^beta.

    Krizhevsky, Sutskever and Hinton 2012, section 3.3, where alpha is not divided by the size.

    Args:
        size: number of neighbouring channels.
        alpha: the factor of the squares.
        beta: the exponent.
        k: added to the squares.
        alpha_over_size: divide alpha by ``size``, as PyTorch and Caffe do; False is the paper's convention.
    """

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        *,
        alpha_over_size: bool = True,
    ) -> None:
        super().__init__()
        self.size = check_int("LocalResponseNorm", "size", size, 1)
        self.alpha = alpha
        self.beta = beta
        self.k = k
        self.alpha_over_size = alpha_over_size

    def forward(self, input: Tensor) -> Tensor:
        """Input and output: (N, C, ...)."""
        return F.local_response_norm(
            input, self.size, self.alpha, self.beta, self.k, alpha_over_size=self.alpha_over_size
        )

    def extra_repr(self) -> str:
        paper = "" if self.alpha_over_size else ", alpha_over_size=False"
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}{paper}"
