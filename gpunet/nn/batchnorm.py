"""Batch normalisation: Ioffe and Szegedy 2015, algorithm 1 and section 3.1."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

import gpunet.nn.functional as F
from gpunet.autograd import Tensor, empty, ones, zeros
from gpunet.backend.devices import on_device
from gpunet.backend.errors import ShapeError
from gpunet.nn import init
from gpunet.nn.arguments import check_eps, check_int, check_number
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "TrackedNorm"]


class TrackedNorm(Module):
    """What normalisations with running statistics share: their parameters, their buffers and their text."""

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    # PyTorch wrote none before 0.4.1, and converted weights often lack it.
    _optional_state: ClassVar[frozenset[str]] = frozenset({"num_batches_tracked"})
    _ranks: ClassVar[tuple[int, ...]]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.num_features = check_int(name, "num_features", num_features, 1)
        if momentum is not None and not 0 <= check_number(name, "momentum", momentum) <= 1:
            raise ValueError(f"{name}: momentum must be between 0 and 1, or None, got {momentum}")
        self.eps = check_eps(name, eps)
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape = (self.num_features,)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype)) if affine else None
        self.bias = Parameter(empty(shape, device=device, dtype=dtype)) if affine and bias else None
        tracked = track_running_stats
        self.register_buffer("running_mean", zeros(shape, device=device, dtype=dtype) if tracked else None)
        self.register_buffer("running_var", ones(shape, device=device, dtype=dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", zeros((), device=device, dtype=np.int64) if tracked else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget what was seen: mean 0, variance 1, no batches."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, and no running statistics."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check_rank(self, input: Tensor) -> None:
        if len(input.shape) not in self._ranks:
            ranks = " or ".join(f"{rank}" for rank in self._ranks)
            raise ShapeError(
                f"{type(self).__name__}: input must have {ranks} dimensions, got shape {tuple(input.shape)}"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(TrackedNorm):
    def _count_batch(self) -> float:
        """Count a training batch; the weight it gets in the running statistics."""
        count = self.num_batches_tracked
        if count is None:
            return 0.0 if self.momentum is None else self.momentum
        if count.device.type != "meta":
            # Written to the array: a counter needs no tape, and this runs for every layer of every step.
            with on_device(count.device):
                count._array += 1
            count._bump_version()
        if self.momentum is not None:
            return self.momentum
        return 1.0 / max(int(count.item()), 1) if count.device.type != "meta" else 1.0

    def forward(self, input: Tensor, residual: Tensor | None = None, activation: str | None = None) -> Tensor:
        """Normalise each channel over the batch, or in evaluation by the running statistics.

        Args:
            input: (N, C) or (N, C, L) for BatchNorm1d, (N, C, H, W) for BatchNorm2d,
                (N, C, D, H, W) for BatchNorm3d.
            residual: added to the normalised value, same shape; a fused form of ``bn(x) + residual``.
            activation: ``"relu"``, applied last, or None.

        Returns:
            A tensor of the input's shape.

        Raises:
            ShapeError: an input of another rank or number of channels, or one value for each channel in training.
        """
        self._check_rank(input)
        factor = 0.0 if self.momentum is None else self.momentum
        tracking = self.training and self.track_running_stats
        if tracking:
            factor = self._count_batch()
        use_running = not self.training or self.track_running_stats
        return F.batch_norm(
            input,
            self.running_mean if use_running else None,
            self.running_var if use_running else None,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            factor,
            self.eps,
            residual=residual,
            activation=activation,
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation over (N, C) or (N, C, L): y = (x - mean) / sqrt(var + eps) * weight + bias for each channel.

    In training the mean and the (biased) variance are the batch's, and the running ones move towards the batch's mean
    and unbiased variance by ``momentum``; in evaluation the running ones are used.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of a new batch in the running statistics; None averages all batches equally.
        affine: whether there are a weight and a bias.
        track_running_stats: without them the batch's statistics are used in evaluation too.
        device: where the parameters and buffers live.
        dtype: their floating type.
        bias: whether an affine layer has a bias.

    Attributes:
        weight, bias: (C,), ones and zeros, or None.
        running_mean, running_var: (C,), zeros and ones, or None.
        num_batches_tracked: number of training batches, a 0-d int64 tensor, or None.
    """

    _ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation over (N, C, H, W): y = (x - mean) / sqrt(var + eps) * weight + bias for each channel.

    In training the mean and the (biased) variance are the batch's, and the running ones move towards the batch's mean
    and unbiased variance by ``momentum``; in evaluation the running ones are used.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of a new batch in the running statistics; None averages all batches equally.
        affine: whether there are a weight and a bias.
        track_running_stats: without them the batch's statistics are used in evaluation too.
        device: where the parameters and buffers live.
        dtype: their floating type.
        bias: whether an affine layer has a bias.

    Attributes:
        weight, bias: (C,), ones and zeros, or None.
        running_mean, running_var: (C,), zeros and ones, or None.
        num_batches_tracked: number of training batches, a 0-d int64 tensor, or None.
    """

    _ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation over (N, C, D, H, W); see BatchNorm2d for the rule, the arguments and the attributes."""

    _ranks = (5,)
