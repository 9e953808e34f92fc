"""``gn.linalg``: norms of vectors and matrices under PyTorch's names."""

from __future__ import annotations

import math
from typing import Any

from gpunet.autograd import function
from gpunet.autograd.aliases import numpy_names
from gpunet.autograd.arithmetic import check_tensors
from gpunet.autograd.functions import cross as _cross
from gpunet.autograd.tensor import Tensor
from gpunet.backend.errors import ShapeError
from gpunet.ops import REGISTRY
from gpunet.ops.base import require_floating
from gpunet.ops.dtypes import canonical_dtype
from gpunet.ops.reduce import normalize_axes

__all__ = ["cross", "matmul", "matrix_norm", "norm", "vecdot", "vector_norm"]


def _typed(x: Tensor, dtype: Any) -> Tensor:
    return x if dtype is None else x._cast(canonical_dtype(dtype))


@numpy_names
def vector_norm(x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The norm of vectors: (sum of |x|^ord)^(1/ord) over dimensions, or over all elements.

    Args:
        x: a floating tensor.
        ord: a number, ``inf`` or ``-inf``.
        dim: one or several dimensions.
        keepdim: leave dimensions of size one.
        dtype: to compute in.
    """
    check_tensors("vector_norm", x=x)
    if isinstance(ord, str):
        raise TypeError(f"vector_norm: ord must be a number, got {ord!r}")
    return function.apply(
        REGISTRY["norm"], _typed(x, dtype), p=float(ord), dim=dim, keepdim=keepdim, public="vector_norm"
    )


@numpy_names
def matrix_norm(
    A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The norm of matrices: ``"fro"``, the root of the sum of squares; 1 and -1, the largest and smallest column sum
    of sizes; ``inf`` and ``-inf``, of rows.

    Raises:
        ValueError: another norm: those of singular values (2, -2, ``"nuc"``) are not there.
    """
    return _matrix_norm("matrix_norm", A, ord, dim, keepdim, dtype)


def _matrix_norm(name: str, A: Tensor, ord: Any, dim: Any, keepdim: bool, dtype: Any) -> Tensor:
    check_tensors(name, A=A)
    require_floating(name, "A", A)
    if A.ndim < 2:
        raise ShapeError(f"{name}: A must have at least 2 dimensions, got {A.ndim}")
    axes = normalize_axes(name, tuple(dim), A.ndim)
    if len(axes) != 2:
        raise ShapeError(f"{name}: dim must name 2 dimensions, got {tuple(dim)}")
    x = _typed(A, dtype)
    if ord == "fro":
        return function.apply(REGISTRY["norm"], x, p=2.0, dim=axes, keepdim=keepdim, public=name)
    if isinstance(ord, str) or abs(ord) not in (1, math.inf):
        raise ValueError(f"{name}: ord must be 'fro', 1, -1, inf or -inf, got {ord!r}")
    summed, picked = axes if abs(ord) == 1 else axes[::-1]
    sums = x.abs().sum(summed, keepdim=True)
    result = sums.amax(picked, keepdim=True) if ord > 0 else sums.amin(picked, keepdim=True)
    return result if keepdim else result.squeeze(axes)


@numpy_names
def norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The norm of vectors or matrices.

    Without ``ord`` the Euclidean one of all elements or over ``dim``. With it, of vectors where ``dim`` is one
    dimension or ``A`` is 1-d, of matrices where ``dim`` is two or ``A`` is 2-d.
    """
    check_tensors("norm", A=A)
    require_floating("norm", "A", A)
    pair = dim is not None and not hasattr(dim, "__index__") and len(dim) == 2
    if ord is not None and (pair or (dim is None and A.ndim == 2)):
        return _matrix_norm("norm", A, ord, dim if pair else (0, 1), keepdim, dtype)
    if ord is not None and dim is None and A.ndim != 1:
        raise ShapeError(f"norm: dim must be given with ord for a tensor of shape {tuple(A.shape)}")
    if isinstance(ord, str):
        raise ValueError(f"norm: ord {ord!r} is a norm of matrices; give two dimensions")
    order = 2.0 if ord is None else float(ord)
    return function.apply(REGISTRY["norm"], _typed(A, dtype), p=order, dim=dim, keepdim=keepdim)


@numpy_names
def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """Vector product along a dimension of size 3."""
    return _cross(input, other, dim)


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Matrix product."""
    check_tensors("matmul", input=input)
    return input.matmul(other)


@numpy_names
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Sum of products along a dimension; other dimensions broadcast."""
    check_tensors("vecdot", x=x, y=y)
    return (x * y).sum(dim)
