"""Dropout."""

from __future__ import annotations

from gpunet.autograd import Tensor, apply
from gpunet.backend.random import Generator, default_generator
from gpunet.ops import REGISTRY
from gpunet.ops.base import require_floating

__all__ = ["dropout"]


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
