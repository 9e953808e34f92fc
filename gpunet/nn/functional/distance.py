"""Distances and angles between vectors."""

from __future__ import annotations

from gpunet.autograd import Tensor, apply
from gpunet.ops import REGISTRY
from gpunet.ops.elementwise import broadcast_shapes

__all__ = ["cosine_similarity", "pairwise_distance"]


def _pair(op: str, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
    """Both tensors in their common shape."""
    if x1.shape == x2.shape:
        return x1, x2
    shape = broadcast_shapes(op, tuple(x1.shape), tuple(x2.shape))
    return x1.expand(shape), x2.expand(shape)


def cosine(op: str, x1: Tensor, x2: Tensor, dim: int, eps: float, added: bool = False) -> Tensor:
    """The cosine along a dimension; eps is the least norm, or added to the squares."""
    left, right = _pair(op, x1, x2)
    return apply(REGISTRY["cosine_similarity"], left, right, dim=dim, eps=float(eps), added=added)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along a dimension.

    Args:
        x1, x2: shapes that broadcast.
        dim: the dimension of the vectors in the common shape; the result lacks it.
        eps: the least norm to divide by.

    Raises:
        ShapeError: shapes that do not broadcast, a dimension there is not.
    """
    return cosine("cosine_similarity", x1, x2, dim, eps)


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """(sum |x1 - x2 + eps|^p)^(1/p) over the last dimension.

    Args:
        x1, x2: (N, D) or (D,); shapes that broadcast.
        p: of the norm.
        eps: added to every difference.
        keepdim: keep the last dimension, of size 1.
    """
    left, right = _pair("pairwise_distance", x1, x2)
    op = REGISTRY["pairwise_distance"]
    return apply(op, left, right, dim=-1, p=float(p), eps=float(eps), keepdim=bool(keepdim))
