"""Dropout of elements and of channels.

Every mask is a function of the generator's seed and the number of draws before: the same on CPU and GPU.
"""

from __future__ import annotations

from gpunet.autograd import Tensor, apply
from gpunet.backend.errors import ShapeError
from gpunet.backend.random import Generator, default_generator
from gpunet.ops import REGISTRY
from gpunet.ops.base import require_floating

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]


def _drop(
    name: str,
    input: Tensor,
    p: float,
    training: bool,
    inplace: bool,
    generator: Generator | None,
    channels: bool = False,
    operation: str = "dropout",
) -> Tensor:
    """Check, draw and drop; ``channels`` makes a decision for each (N, C) instead of each element."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: p must lie in 0..1, got {p}")
    if not training or p == 0.0:
        return input
    require_floating(name, "input", input)  # before a number is drawn
    if channels and p < 1.0 and input.ndim < 2:
        raise ShapeError(f"{name}: input must have at least 2 dimensions (N, C, ...), got shape {input.shape}")
    source = default_generator("dropout") if generator is None else generator
    key = (source.seed_value, source.stream, source.next_counter())
    result: Tensor = apply(REGISTRY[operation], input, p=float(p), key=key, channels=channels)
    return input._write(result) if inplace else result


def _drop_channels(
    name: str,
    input: Tensor,
    p: float,
    training: bool,
    inplace: bool,
    generator: Generator | None,
    unbatched: int | None,
    operation: str = "dropout",
) -> Tensor:
    """Drop channels; an input of ``unbatched`` dimensions has them first."""
    if input.ndim != unbatched or not training or p == 0:
        return _drop(name, input, p, training, inplace, generator, True, operation)
    result = _drop(name, input.unsqueeze(0), p, training, False, generator, True, operation).squeeze(0)
    return input._write(result) if inplace else result


def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 - p); nothing outside training.

    Hinton et al. 2012, Srivastava et al. 2014.

    Args:
        input: any shape.
        p: probability of zeroing, 0 to 1.
        training: False returns the input.
        inplace: write the result into the input.
        generator: stream to draw from.

    Raises:
        ValueError: p is no probability.
    """
    return _drop("dropout", input, p, training, inplace, generator)


def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Zero whole channels with probability p and scale the others by 1 / (1 - p): Tompson et al. 2015.

    Args:
        input: (N, C, L), or (C, L) without a batch.
        p: probability of zeroing, 0 to 1.
        training: False returns the input.
        inplace: write the result into the input.
        generator: stream to draw from.

    Raises:
        ShapeError: an input of another rank.
        ValueError: p is no probability.
    """
    if input.ndim not in (2, 3):
        raise ShapeError(f"dropout1d: input must have 2 or 3 dimensions, got shape {input.shape}")
    return _drop_channels("dropout1d", input, p, training, inplace, generator, 2)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Zero whole feature maps with probability p and scale the others by 1 / (1 - p): Tompson et al. 2015.

    Args:
        input: (N, C, H, W). As in PyTorch three dimensions mean (N, C, L), not an image without a batch.
        p: probability of zeroing, 0 to 1.
        training: False returns the input.
        inplace: write the result into the input.
        generator: stream to draw from.

    Raises:
        ShapeError: fewer than two dimensions.
        ValueError: p is no probability.
    """
    return _drop_channels("dropout2d", input, p, training, inplace, generator, None)


def dropout3d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Zero whole volumes with probability p and scale the others by 1 / (1 - p): Tompson et al. 2015.

    Args:
        input: (N, C, D, H, W), or (C, D, H, W) without a batch.
        p: probability of zeroing, 0 to 1.
        training: False returns the input.
        inplace: write the result into the input.
        generator: stream to draw from.

    Raises:
        ShapeError: fewer than two dimensions.
        ValueError: p is no probability.
    """
    return _drop_channels("dropout3d", input, p, training, inplace, generator, 4)


def alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Dropout that keeps mean 0 and variance 1, for SELU networks: Klambauer et al. 2017.

    A dropped element becomes what SELU tends to, and everything is scaled and shifted.

    Args:
        input: any shape.
        p: probability of dropping, 0 to 1.
        training: False, the default as in PyTorch, returns the input.
        inplace: write the result into the input.
        generator: stream to draw from.

    Raises:
        ValueError: p is no probability.
    """
    return _drop("alpha_dropout", input, p, training, inplace, generator, False, "alpha_dropout")


def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Alpha dropout of whole channels.

    Args:
        input: (N, C, ...).
        p: probability of dropping, 0 to 1.
        training: False, the default as in PyTorch, returns the input.
        inplace: write the result into the input.
        generator: stream to draw from.

    Raises:
        ShapeError: fewer than two dimensions.
        ValueError: p is no probability.
    """
    return _drop_channels("feature_alpha_dropout", input, p, training, inplace, generator, None, "alpha_dropout")
