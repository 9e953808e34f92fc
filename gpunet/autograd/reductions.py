"""Reductions of Tensors: sums, means, extremes and where they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from gpunet.autograd import function
from gpunet.autograd.aliases import numpy_names
from gpunet.autograd.arithmetic import check_tensors
from gpunet.autograd.products import Products
from gpunet.autograd.sorting import ValuesIndices
from gpunet.backend.devices import array_module
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops import REGISTRY
from gpunet.ops.base import require_floating
from gpunet.ops.dtypes import BOOL, FLOAT64, INT64, canonical_dtype
from gpunet.ops.reduce import normalize_axes, normalize_axis

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Reductions"]


class MinMax(NamedTuple):
    """What ``aminmax`` returns."""

    min: Tensor
    max: Tensor


class Reductions(Products):
    """Reductions of Tensors: sums, means, extremes and where they are. Mixed into Tensor."""

    __slots__ = ()

    if TYPE_CHECKING:  # what Tensor has
        _array: Any

        def numel(self) -> int: ...

    @numpy_names
    def sum(self, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        """Sum over all or some dimensions; integers add up in int64."""
        kind = None if dtype is None else canonical_dtype(dtype)
        return function.apply(REGISTRY["sum"], self, dim=dim, keepdim=keepdim, dtype=kind)

    @numpy_names
    def mean(self, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        """Mean over all or some dimensions, of floating-point tensors."""
        kind = None if dtype is None else canonical_dtype(dtype)
        return function.apply(REGISTRY["mean"], self, dim=dim, keepdim=keepdim, dtype=kind)

    @numpy_names
    def var(
        self, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float = 1
    ) -> Tensor:
        """Variance, divided by n - correction (1 unless ``unbiased=False``)."""
        if isinstance(dim, bool):  # var(unbiased)
            dim, unbiased = None, dim
        if unbiased is not None:
            correction = 1 if unbiased else 0
        return function.apply(REGISTRY["var"], self, dim=dim, keepdim=keepdim, correction=float(correction))

    @numpy_names
    def std(
        self, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float = 1
    ) -> Tensor:
        """Standard deviation: the square root of ``var``."""
        require_floating("std", "input", self)
        normalize_axes("std", None if isinstance(dim, bool) else dim, self.ndim)
        return self.var(dim, unbiased, keepdim, correction=correction)._unary("root")

    @numpy_names
    def var_mean(
        self, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float = 1
    ) -> tuple[Tensor, Tensor]:
        """Variance and mean."""
        mean = self.mean(None if isinstance(dim, bool) else dim, keepdim)
        return self.var(dim, unbiased, keepdim, correction=correction), mean

    @numpy_names
    def std_mean(
        self, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float = 1
    ) -> tuple[Tensor, Tensor]:
        """Standard deviation and mean."""
        mean = self.mean(None if isinstance(dim, bool) else dim, keepdim)
        return self.std(dim, unbiased, keepdim, correction=correction), mean

    @numpy_names
    def amax(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """Largest element; equals share the gradient."""
        return function.apply(REGISTRY["amax"], self, dim=dim, keepdim=keepdim)

    @numpy_names
    def amin(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """Smallest element; equals share the gradient."""
        return function.apply(REGISTRY["amin"], self, dim=dim, keepdim=keepdim)

    def _extreme(self, full: str, along: str, pair: str, dim: Any, keepdim: bool) -> Any:
        from gpunet.autograd.tensor import Tensor

        if dim is None:
            return function.apply(REGISTRY[full], self, dim=None, keepdim=False)
        if isinstance(dim, Tensor):
            return self._binary(REGISTRY[pair], dim)
        return ValuesIndices(*function.apply(REGISTRY[along], self, dim=dim, keepdim=keepdim))

    @numpy_names
    def max(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The largest element; with ``dim``, values and the first indices; with a tensor, the elementwise larger."""
        return self._extreme("max", "max_along", "maximum", dim, keepdim)

    @numpy_names
    def min(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The smallest element; with ``dim``, values and the first indices; with a tensor, the elementwise smaller."""
        return self._extreme("min", "min_along", "minimum", dim, keepdim)

    @numpy_names
    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """First place of the largest element, of all (counted in logical order) or along a dimension."""
        return function.apply(REGISTRY["argmax"], self, dim=dim, keepdim=keepdim)

    @numpy_names
    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """First place of the smallest element, of all (counted in logical order) or along a dimension."""
        return function.apply(REGISTRY["argmin"], self, dim=dim, keepdim=keepdim)

    @numpy_names
    def any(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """Whether any element is true."""
        return function.apply(REGISTRY["any"], self, dim=dim, keepdim=keepdim)

    @numpy_names
    def all(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """Whether all elements are true."""
        return function.apply(REGISTRY["all"], self, dim=dim, keepdim=keepdim)

    @numpy_names
    def aminmax(self, *, dim: int | None = None, keepdim: bool = False) -> MinMax:
        """Smallest and largest element, of all or along a dimension; equals share the gradient."""
        return MinMax(self.amin(dim, keepdim), self.amax(dim, keepdim))

    @numpy_names
    def prod(self, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        """Product of all elements or along a dimension; integers multiply in int64. The gradient is exact at zeros."""
        kind = None if dtype is None else canonical_dtype(dtype)
        if dim is not None:
            dim = normalize_axis("prod", dim, self.ndim)
        return function.apply(REGISTRY["prod"], self, dim=dim, keepdim=keepdim, dtype=kind)

    @numpy_names
    def logsumexp(self, dim: Any, keepdim: bool = False) -> Tensor:
        """log(sum of exp(x)) over dimensions, without overflow."""
        return function.apply(REGISTRY["logsumexp"], self, dim=dim, keepdim=keepdim)

    @numpy_names
    def nansum(self, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        """Sum of the elements that are not NaN."""
        return self.where(self == self, 0).sum(dim, keepdim, dtype=dtype)

    @numpy_names
    def nanmean(self, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        """Mean of the elements that are not NaN."""
        require_floating("nanmean", "input", self)
        count = (self == self).sum(dim, keepdim)
        return self.nansum(dim, keepdim, dtype=dtype) / count

    @numpy_names
    def count_nonzero(self, dim: Any = None) -> Tensor:
        """How many elements are not zero."""
        return (self != 0).sum(dim)

    @numpy_names
    def norm(self, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
        """The p-norm of all elements or over dimensions: (sum of |x|^p)^(1/p), by default the Euclidean one.

        Args:
            p: a number, ``inf``, ``-inf``, or ``"fro"``: 2.
            dim: one or several dimensions.
            keepdim: leave dimensions of size one.
            dtype: to compute in.
        """
        if isinstance(p, str) and p != "fro":
            raise ValueError(f"norm: p must be a number or 'fro', got {p!r}")
        x = self if dtype is None else self._cast(canonical_dtype(dtype))
        order = 2.0 if p is None or isinstance(p, str) else float(p)
        return function.apply(REGISTRY["norm"], x, p=order, dim=dim, keepdim=keepdim)

    @numpy_names
    def diff(self, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None) -> Tensor:
        """Differences of neighbours along a dimension, n times."""
        if self.ndim == 0:
            raise ShapeError("diff: input must have at least 1 dimension, got 0")
        if n < 0:
            raise ValueError(f"diff: n must not be negative, got {n}")
        axis = normalize_axis("diff", dim, self.ndim)
        ends = [part for part in (prepend, self, append) if part is not None]
        x: Any = self if len(ends) == 1 else function.apply(REGISTRY["cat"], *ends, dim=axis)
        for _ in range(n):
            length = max(x.shape[axis] - 1, 0)
            later, earlier = x.narrow(axis, min(1, x.shape[axis]), length), x.narrow(axis, 0, length)
            x = later.logical_xor(earlier) if x.dtype == BOOL else later - earlier
        return x

    @numpy_names
    def mode(self, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
        """The most frequent value along a dimension (of equally frequent ones the smallest), and its last index."""
        return self._picked("mode", dim, keepdim=bool(keepdim))

    @numpy_names
    def quantile(
        self, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
    ) -> Tensor:
        """Quantiles of all elements or along a dimension; NaN if any element is.

        Args:
            q: a number in 0..1, or a 1-d tensor of them, which becomes the first dimension of the result.
            dim: the dimension.
            keepdim: leave a dimension of size one.
            interpolation: between two elements: ``"linear"``, ``"lower"``, ``"higher"``, ``"midpoint"``, ``"nearest"``.
        """
        require_floating("quantile", "input", self)
        if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
            raise ValueError(
                "quantile: interpolation must be 'linear', 'lower', 'higher', 'midpoint' or 'nearest', "
                f"got {interpolation!r}"
            )
        places = q.detach().tolist() if hasattr(q, "requires_grad") else q
        for place in places if isinstance(places, list) else [places]:
            if not 0 <= place <= 1:
                raise ValueError(f"quantile: q must lie in 0..1, got {place}")
        if self.numel() == 0:
            raise ShapeError(f"quantile: input has no elements, got shape {tuple(self.shape)}")
        x: Any = self.reshape(-1) if dim is None else self
        axis = normalize_axis("quantile", 0 if dim is None else dim, max(x.ndim, 1))
        x = x.reshape(1) if x.ndim == 0 else x
        ordered = x.sort(axis).values.movedim(axis, 0)
        missing = (x != x).any(axis)
        results = []
        for place in places if isinstance(places, list) else [places]:
            position = place * (x.shape[axis] - 1)
            if interpolation == "nearest":
                position = float(round(position))
            low, high = math.floor(position), math.ceil(position)
            weight = {"lower": 0.0, "higher": 1.0, "midpoint": 0.5}.get(interpolation, position - low)
            value = ordered[low] if low == high else ordered[low].lerp(ordered[high], weight)
            value = value.masked_fill(missing, math.nan)
            if keepdim:
                value = value.reshape((1,) * self.ndim) if dim is None else value.unsqueeze(axis)
            results.append(value.reshape(()) if self.ndim == 0 else value)
        return function.apply(REGISTRY["stack"], *results, dim=0) if isinstance(places, list) else results[0]

    # What is there, and how often ------------------------------------------------------------------------------------

    @numpy_names
    def unique(
        self, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
    ) -> Any:
        """The different elements, always sorted, or the different slices along a dimension. No gradient.

        Args:
            sorted: taken and not needed.
            return_inverse: also give the index, among them, of each element.
            return_counts: also give how often each is there.
            dim: compare slices along this dimension.
        """
        x = self._counted("unique")
        axis = None if dim is None else normalize_axis("unique", dim, self.ndim)
        found, inverse, counts = array_module(x._array).unique(
            x._array, return_inverse=True, return_counts=True, axis=axis
        )
        inverse = inverse.reshape(self.shape if axis is None else (-1,))
        results = [found, *([inverse] if return_inverse else []), *([counts] if return_counts else [])]
        tensors = tuple(
            function.wrap(array if position == 0 else array.astype(INT64, copy=False), self._device)
            for position, array in enumerate(results)
        )
        return tensors if len(tensors) > 1 else tensors[0]

    @numpy_names
    def unique_consecutive(
        self, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
    ) -> Any:
        """As ``unique``, but only neighbours are compared, and the order stays."""
        x: Any = self._counted("unique_consecutive").detach()
        if dim is None:
            slices = x.reshape(-1)
        else:
            slices = x.movedim(normalize_axis("unique_consecutive", dim, self.ndim), 0)
        length = slices.shape[0]
        changed = (slices[1:] != slices[:-1]).reshape(max(length - 1, 0), -1).any(1)
        place = changed.long().cumsum(0)
        first = function.apply(REGISTRY["cat"], place.new_ones(min(length, 1), dtype=BOOL), changed, dim=0)
        found = slices[first]
        results = [found if dim is None else found.movedim(0, dim)]
        place = function.apply(REGISTRY["cat"], place.new_zeros(min(length, 1)), place, dim=0)
        if return_inverse:
            results.append(place.reshape(self.shape) if dim is None else place)
        if return_counts:
            results.append(place.bincount(minlength=found.shape[0]))
        return tuple(results) if len(results) > 1 else results[0]

    def bincount(self, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
        """How often each number 0, 1, ... is there, or the sum of its weights. No gradient.

        Raises:
            DTypeError: not integers.
            ShapeError: not 1-d, or weights of another shape.
            ValueError: a negative number.
        """
        if self.dtype.kind not in "iu":
            raise DTypeError(f"bincount: input must be of integers, got {self.dtype.name}")
        if self.ndim != 1:
            raise ShapeError(f"bincount: input must be 1-d, got shape {tuple(self.shape)}")
        if weights is not None:
            check_tensors("bincount", weights=weights)
            if weights.shape != self.shape:
                raise ShapeError(f"bincount: weights must have shape {tuple(self.shape)}, got {tuple(weights.shape)}")
        if minlength < 0:
            raise ValueError(f"bincount: minlength must not be negative, got {minlength}")
        x = self._counted("bincount")._array
        module = array_module(x)
        if x.size and bool((x < 0).any()):
            raise ValueError("bincount: input must not be negative")
        counts = module.bincount(
            x.astype(INT64, copy=False), None if weights is None else weights._array, minlength=minlength
        )
        weighted = FLOAT64 if weights is None or weights.dtype.name != "float32" else weights.dtype
        kind = INT64 if weights is None else weighted
        return function.wrap(counts.astype(kind, copy=False), self._device)

    def histc(self, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
        """How many elements lie in each of equal bins of min..max; with min = max of what is there. No gradient."""
        require_floating("histc", "input", self)
        if bins < 1:
            raise ValueError(f"histc: bins must be at least 1, got {bins}")
        if max < min:
            raise ValueError(f"histc: max must not be below min, got {max} and {min}")
        if self._device.type == "meta":
            return self.new_empty(bins)  # type: ignore[attr-defined]
        x = self._array.reshape(-1)
        module = array_module(x)
        low, high = float(min), float(max)
        if low == high and x.size:
            low, high = float(x.min()), float(x.max())
        if low == high:
            low, high = low - 1, high + 1
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"histc: the range must be finite, got {low}..{high}")
        inside = x[(x >= low) & (x <= high)].astype(FLOAT64)
        place = module.minimum(((inside - low) * (bins / (high - low))).astype(INT64), bins - 1)
        return function.wrap(module.bincount(place, minlength=bins).astype(self.dtype), self._device)
