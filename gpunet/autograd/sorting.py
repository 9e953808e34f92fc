"""Sorting Tensors, and running sums and extremes along a dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gpunet.autograd import function
from gpunet.autograd.aliases import numpy_names
from gpunet.autograd.arithmetic import check_tensors
from gpunet.autograd.placing import Placing
from gpunet.backend.errors import DeviceError
from gpunet.ops import REGISTRY
from gpunet.ops.dtypes import INT64, canonical_dtype
from gpunet.ops.reduce import normalize_axis

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Sorting", "ValuesIndices"]


class ValuesIndices(NamedTuple):
    """What ``sort``, ``topk``, ``median(dim)``, ``max(dim)`` and the like return."""

    values: Tensor
    indices: Tensor


class Sorting(Placing):
    """Sorting and running sums. Mixed into Tensor."""

    __slots__ = ()

    def _picked(self, name: str, dim: int, **attributes: Any) -> ValuesIndices:
        return ValuesIndices(*function.apply(REGISTRY[name], self, dim=dim, **attributes))

    @numpy_names
    def sort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> ValuesIndices:
        """Values in ascending or descending order along a dimension, and their indices. Always stable.

        NaN counts as larger than every number.
        """
        return self._picked("sort", dim, descending=bool(descending))

    @numpy_names
    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
        """Indices that sort along a dimension. Always stable."""
        return self.detach().sort(dim, descending).indices  # type: ignore[attr-defined]

    def msort(self) -> Tensor:
        """Values in ascending order along the first dimension."""
        return self.sort(0).values

    @numpy_names
    def topk(self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesIndices:
        """The k largest values along a dimension in descending order (or smallest, ascending), and their indices.

        Raises:
            ShapeError: the dimension has fewer than k elements.
        """
        return self._picked("topk", dim, k=k, largest=bool(largest))

    @numpy_names
    def kthvalue(self, k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
        """The k-th smallest value along a dimension, counted from 1, and its index."""
        return self._picked("kthvalue", dim, k=k, keepdim=bool(keepdim))

    def _median(self, name: str, dim: int | None, keepdim: bool) -> Any:
        if dim is None:
            return function.apply(REGISTRY[name], self, dim=None, keepdim=False)
        normalize_axis(name, dim, self.ndim)
        return self._picked("median_along", dim, ignore_nan=name == "nanmedian", keepdim=bool(keepdim))

    @numpy_names
    def median(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The median of all elements, or values and indices along a dimension.

        Of an even number of elements it is the smaller of the two in the middle; NaN if any element is.
        """
        return self._median("median", dim, keepdim)

    @numpy_names
    def nanmedian(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """As ``median``, of the elements that are not NaN."""
        return self._median("nanmedian", dim, keepdim)

    @numpy_names
    def cumsum(self, dim: int, *, dtype: Any = None) -> Tensor:
        """Running sum along a dimension; integers add up in int64."""
        kind = None if dtype is None else canonical_dtype(dtype)
        return function.apply(REGISTRY["cumsum"], self, dim=dim, dtype=kind)

    @numpy_names
    def cumprod(self, dim: int, *, dtype: Any = None) -> Tensor:
        """Running product along a dimension; integers multiply in int64."""
        kind = None if dtype is None else canonical_dtype(dtype)
        return function.apply(REGISTRY["cumprod"], self, dim=dim, dtype=kind)

    @numpy_names
    def logcumsumexp(self, dim: int) -> Tensor:
        """Logarithm of the running sum of exponentials along a dimension."""
        return function.apply(REGISTRY["logcumsumexp"], self, dim=dim)

    @numpy_names
    def cummax(self, dim: int) -> ValuesIndices:
        """The largest value so far along a dimension, and the last index of it."""
        return self._picked("cummax", dim)

    @numpy_names
    def cummin(self, dim: int) -> ValuesIndices:
        """The smallest value so far along a dimension, and the last index of it."""
        return self._picked("cummin", dim)

    def bucketize(self, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
        """The place of each element among sorted boundaries: the first of them not below (``right``: above) it."""
        check_tensors("bucketize", boundaries=boundaries)
        dtype = canonical_dtype("int32") if out_int32 else INT64
        return function.apply(
            REGISTRY["searchsorted"], boundaries, self, right=bool(right), dtype=dtype, public="bucketize"
        )

    def searchsorted(
        self, values: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None
    ) -> Tensor:
        """Where values belong in this sorted sequence (or in each of its rows) for it to stay sorted.

        Args:
            values: a tensor with the same leading dimensions, of any shape if the sequence is 1-d, or a number.
            out_int32: give int32 indices.
            right: the last such place, not the first.
            side: ``"left"`` or ``"right"``: says the same.
        """
        if side not in (None, "left", "right"):
            raise ValueError(f"searchsorted: side must be 'left' or 'right', got {side!r}")
        if side == "left" and right:
            raise ValueError("searchsorted: side is 'left', but right is True")
        values = self._number_or_tensor("searchsorted", values)
        if not hasattr(values, "dtype"):
            values = function.as_operand(values, self)
        dtype = canonical_dtype("int32") if out_int32 else INT64
        return function.apply(REGISTRY["searchsorted"], self, values, right=right or side == "right", dtype=dtype)

    def _counted(self, name: str) -> Tensor:
        """This tensor; its values decide a shape, so it must have them.

        Raises:
            DeviceError: it is on ``meta``.
        """
        if self._device.type == "meta":
            raise DeviceError(f"{name}: the shape of the result depends on values, which a tensor on 'meta' has not")
        return self  # type: ignore[return-value]
