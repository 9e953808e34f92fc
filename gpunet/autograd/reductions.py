"""Reductions of Tensors: sums, means, extremes and where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gpunet.autograd import function
from gpunet.autograd.selecting import Selecting
from gpunet.ops import REGISTRY
from gpunet.ops.dtypes import canonical_dtype

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Extreme", "Reductions"]


class Extreme(NamedTuple):
    """What ``max(dim)`` and ``min(dim)`` return."""

    values: Tensor
    indices: Tensor


class Reductions(Selecting):
    """Reductions of Tensors: sums, means, extremes and where they are. Mixed into Tensor."""

    __slots__ = ()

    def sum(self, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        """Sum over all or some dimensions; integers add up in int64."""
        kind = None if dtype is None else canonical_dtype(dtype)
        return function.apply(REGISTRY["sum"], self, dim=dim, keepdim=keepdim, dtype=kind)

    def mean(self, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        """Mean over all or some dimensions, of floating-point tensors."""
        kind = None if dtype is None else canonical_dtype(dtype)
        return function.apply(REGISTRY["mean"], self, dim=dim, keepdim=keepdim, dtype=kind)

    def var(
        self, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float = 1
    ) -> Tensor:
        """Variance, divided by n - correction (1 unless ``unbiased=False``)."""
        if isinstance(dim, bool):  # var(unbiased)
            dim, unbiased = None, dim
        if unbiased is not None:
            correction = 1 if unbiased else 0
        return function.apply(REGISTRY["var"], self, dim=dim, keepdim=keepdim, correction=float(correction))

    def std(
        self, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float = 1
    ) -> Tensor:
        """Standard deviation: the square root of ``var``."""
        return self.var(dim, unbiased, keepdim, correction=correction)._unary("root")

    def amax(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """Largest element; equals share the gradient."""
        return function.apply(REGISTRY["amax"], self, dim=dim, keepdim=keepdim)

    def amin(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """Smallest element; equals share the gradient."""
        return function.apply(REGISTRY["amin"], self, dim=dim, keepdim=keepdim)

    def _extreme(self, full: str, along: str, pair: str, dim: Any, keepdim: bool) -> Any:
        from gpunet.autograd.tensor import Tensor

        if dim is None:
            return function.apply(REGISTRY[full], self, dim=None, keepdim=False)
        if isinstance(dim, Tensor):
            return self._binary(REGISTRY[pair], dim)
        return Extreme(*function.apply(REGISTRY[along], self, dim=dim, keepdim=keepdim))

    def max(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The largest element; with ``dim``, values and the first indices; with a tensor, the elementwise larger."""
        return self._extreme("amax", "max_along", "maximum", dim, keepdim)

    def min(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The smallest element; with ``dim``, values and the first indices; with a tensor, the elementwise smaller."""
        return self._extreme("amin", "min_along", "minimum", dim, keepdim)

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """First place of the largest element, of all (counted in logical order) or along a dimension."""
        return function.apply(REGISTRY["argmax"], self, dim=dim, keepdim=keepdim)

    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """First place of the smallest element, of all (counted in logical order) or along a dimension."""
        return function.apply(REGISTRY["argmin"], self, dim=dim, keepdim=keepdim)

    def any(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """Whether any element is true."""
        return function.apply(REGISTRY["any"], self, dim=dim, keepdim=keepdim)

    def all(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """Whether all elements are true."""
        return function.apply(REGISTRY["all"], self, dim=dim, keepdim=keepdim)

    def norm(self, p: float = 2) -> Tensor:
        """The p-norm of all elements: the Euclidean one by default."""
        if p == float("inf"):
            return self.abs().amax()
        if p == 2:
            return (self * self).sum()._unary("root")
        return (self.abs() ** p).sum() ** (1.0 / p)
