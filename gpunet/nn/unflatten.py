"""One dimension made several, as a layer."""

from __future__ import annotations

from collections.abc import Sequence

from gpunet.autograd import Tensor
from gpunet.nn.module import Module

__all__ = ["Unflatten"]


class Unflatten(Module):
    """Split a dimension into several.

    Args:
        dim: which one.
        unflattened_size: the sizes it becomes; one may be -1.

    Raises:
        TypeError: dim is no integer, or the sizes are no integers.
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(dim, int):
            raise TypeError(f"Unflatten: dim must be an integer, got {type(dim).__name__}")
        if not isinstance(unflattened_size, (tuple, list)) or not all(isinstance(n, int) for n in unflattened_size):
            raise TypeError(f"Unflatten: unflattened_size must be a tuple of integers, got {unflattened_size!r}")
        self.dim = dim
        self.unflattened_size = unflattened_size

    def forward(self, input: Tensor) -> Tensor:
        """(N, 6) to (N, 2, 3) with dim 1 and sizes (2, 3)."""
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
