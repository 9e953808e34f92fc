"""Selecting elements of Tensors by indices and masks, and writing to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpunet.autograd import function
from gpunet.autograd.indexing import GATHER, SET_INDEX
from gpunet.autograd.rearranging import Rearranging, index_tensor
from gpunet.backend.errors import DeviceError, DTypeError, ShapeError
from gpunet.ops import REGISTRY
from gpunet.ops.dtypes import BOOL, stored_scalar
from gpunet.ops.elementwise import broadcast_shapes
from gpunet.ops.gather import check_index_dtype
from gpunet.ops.reduce import normalize_axis

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Selecting"]


def _check_tensor(name: str, **arguments: Any) -> None:
    """Raise unless all arguments are Tensors."""
    for argument, value in arguments.items():
        if not hasattr(value, "requires_grad"):
            raise TypeError(f"{name}: {argument} must be a Tensor, got {type(value).__name__}")


def _check_mask(name: str, mask: Any) -> None:
    _check_tensor(name, mask=mask)
    if mask.dtype != BOOL:
        raise DTypeError(f"{name}: mask must be bool, got {mask.dtype.name}")


class Selecting(Rearranging):
    """Selecting elements by indices and masks, and writing to them. Mixed into Tensor."""

    __slots__ = ()

    # Along one dimension ---------------------------------------------------------------------------------------------

    def gather(self, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
        """One element for each of index: ``out[i][j] = self[index[i][j]][j]`` for dim 0.

        Args:
            dim: the dimension along which to choose.
            index: int64 or int32, with as many dimensions as self and nowhere larger except in ``dim``; 0..size-1.
            sparse_grad: must be False; gradients are dense.
        """
        _check_tensor("gather", index=index)
        if sparse_grad:
            raise ValueError("gather: sparse_grad must be False; gradients are dense")
        return function.apply(REGISTRY["gather"], self, index, dim=dim)

    def scatter(self, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: Any = None) -> Tensor:
        """A copy with ``out[index[i][j]][j] = src[i][j]`` for dim 0; of several values for one place the last stays.

        Args:
            dim: the dimension along which index chooses.
            index: int64 or int32, with as many dimensions as self; 0..size-1.
            src: a tensor at least as large as index, or a number.
            value: a number, in place of src.
            reduce: None writes, ``"add"`` adds.
        """
        from gpunet.autograd.tensor import Tensor

        source = src if value is None else value
        if (src is None) == (value is None):
            raise TypeError("scatter: src or value must be given, and not both")
        _check_tensor("scatter", index=index)
        if reduce not in (None, "add"):
            raise ValueError(f"scatter: reduce must be None or 'add', got {reduce!r}")
        if not isinstance(source, (Tensor, int, float)):
            raise TypeError(f"scatter: src must be a Tensor or a number, got {type(source).__name__}")
        if not isinstance(source, Tensor) and reduce == "add":
            source = function.as_operand(source, self).expand(index.shape)
        return function.apply(REGISTRY["scatter" if reduce is None else "scatter_add"], self, index, source, dim=dim)

    def scatter_add(self, dim: int, index: Tensor, src: Tensor) -> Tensor:
        """A copy with ``out[index[i][j]][j] += src[i][j]`` for dim 0, repeated places in a fixed order."""
        _check_tensor("scatter_add", index=index, src=src)
        return function.apply(REGISTRY["scatter_add"], self, index, src, dim=dim)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The slices at the positions ``index`` (1-d, int64 or int32, 0..size-1) of a dimension."""
        _check_tensor("index_select", index=index)
        return function.apply(REGISTRY["index_select"], self, index, dim=dim)

    def index_add(self, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
        """A copy with ``alpha * source`` added to the slices at ``index``, repeated ones in a fixed order."""
        _check_tensor("index_add", index=index, source=source)
        return function.apply(REGISTRY["index_add"], self, index, source, dim=dim, alpha=alpha)

    def _write_slices(self, name: str, dim: int, index: Any, value: Any) -> Tensor:
        axis = normalize_axis(name, dim, max(self.ndim, 1))
        base = self if self.ndim else self.reshape(1)
        place = index if index.ndim else index.reshape(1)
        layout = (*(slice(None),) * axis, (0,))
        return function.apply(SET_INDEX, base, value, place, layout=layout).reshape(self.shape)

    def index_copy(self, dim: int, index: Tensor, source: Tensor) -> Tensor:
        """A copy with the slices at ``index`` (1-d, int64) replaced by those of ``source``."""
        _check_tensor("index_copy", index=index, source=source)
        self._check_positions("index_copy", index)
        if source.dtype != self.dtype:
            raise DTypeError(f"index_copy: source must have dtype {self.dtype.name}, got {source.dtype.name}")
        axis = normalize_axis("index_copy", dim, max(self.ndim, 1))
        shape = self.shape or (1,)
        wanted = (*shape[:axis], index.numel(), *shape[axis + 1 :])
        if (source.shape or (1,)) != wanted:
            raise ShapeError(f"index_copy: source must have shape {wanted}, got {source.shape}")
        return self._write_slices("index_copy", dim, index, source.reshape(wanted))

    def index_fill(self, dim: int, index: Tensor, value: Any) -> Tensor:
        """A copy with the slices at ``index`` (1-d, int64) set to a number or 0-d tensor."""
        from gpunet.autograd.tensor import Tensor

        _check_tensor("index_fill", index=index)
        self._check_positions("index_fill", index)
        if isinstance(value, Tensor):
            if value.ndim:
                raise ShapeError(f"index_fill: value must be a number or a 0-d tensor, got shape {value.shape}")
            value = value._cast(self.dtype)
        elif not isinstance(value, (int, float)):
            raise TypeError(f"index_fill: value must be a number or a 0-d tensor, got {type(value).__name__}")
        return self._write_slices("index_fill", dim, index, value)

    def _check_positions(self, name: str, index: Tensor) -> None:
        if index.dtype.name != "int64":
            raise DTypeError(f"{name}: index must be int64, got {index.dtype.name}")
        if index.ndim > 1:
            raise ShapeError(f"{name}: index must have one dimension, got shape {index.shape}")

    def take_along_dim(self, indices: Tensor, dim: int | None = None) -> Tensor:
        """As ``gather``, with self and indices broadcast against each other; without dim on the flattened tensors."""
        _check_tensor("take_along_dim", indices=indices)
        check_index_dtype("take_along_dim", indices, "indices")
        if dim is None:
            return self.reshape(-1).gather(0, indices.reshape(-1))
        if indices.ndim != self.ndim:
            raise ShapeError(f"take_along_dim: indices must have {self.ndim} dimensions, got {indices.ndim}")
        axis = normalize_axis("take_along_dim", dim, self.ndim)
        own, places = ([*each.shape[:axis], 1, *each.shape[axis + 1 :]] for each in (self, indices))
        common = list(broadcast_shapes("take_along_dim", tuple(own), tuple(places)))
        shapes = ((*common[:axis], each.shape[axis], *common[axis + 1 :]) for each in (self, indices))
        wide, chosen = (each.expand(shape) for each, shape in zip((self, indices), shapes, strict=True))
        return wide.gather(axis, chosen)

    # Anywhere --------------------------------------------------------------------------------------------------------

    def take(self, index: Tensor) -> Tensor:
        """The elements at row-major positions; negative ones count from the end."""
        _check_tensor("take", index=index)
        if index.dtype.name != "int64":
            raise DTypeError(f"take: index must be int64, got {index.dtype.name}")
        return function.apply(GATHER, self.reshape(-1), index, layout=((0,),))

    def masked_select(self, mask: Tensor) -> Tensor:
        """The elements where the mask (broadcast with self) is true, as one dimension in row-major order."""
        _check_mask("masked_select", mask)
        shape = broadcast_shapes("masked_select", self.shape, mask.shape)
        chosen = function.apply(GATHER, self.expand(shape), mask.expand(shape), layout=((0,),))
        return chosen.reshape(-1)

    def masked_fill(self, mask: Tensor, value: Any) -> Tensor:
        """A copy with ``value`` (a number or a 0-d tensor) where the mask (broadcast with self) is true."""
        from gpunet.autograd.tensor import Tensor

        _check_mask("masked_fill", mask)
        if isinstance(value, Tensor):
            if value.ndim:
                raise ShapeError(f"masked_fill: value must be a number or a 0-d tensor, got shape {value.shape}")
            if value._device is not self._device:
                value = value.to(self._device)
            value = value._cast(self.dtype)
        elif not isinstance(value, (int, float, np.number)):
            raise TypeError(f"masked_fill: value must be a number or a 0-d tensor, got {type(value).__name__}")
        else:
            value = stored_scalar("masked_fill", value, self.dtype, finite=True)
        return function.apply(REGISTRY["where"], ~mask, self, value)._cast(self.dtype)

    def masked_scatter(self, mask: Tensor, source: Tensor) -> Tensor:
        """A copy whose elements under the mask are replaced by the first ones of ``source``, in row-major order."""
        _check_mask("masked_scatter", mask)
        _check_tensor("masked_scatter", source=source)
        if source.dtype != self.dtype:
            raise DTypeError(f"masked_scatter: source must have dtype {self.dtype.name}, got {source.dtype.name}")
        shape = broadcast_shapes("masked_scatter", self.shape, mask.shape)
        wide, chosen, values = self.expand(shape), mask.expand(shape), source.reshape(-1)
        if not shape:
            wide, chosen = wide.reshape(1), chosen.reshape(1)
        if not mask.is_meta:
            count = int(chosen._array.sum())
            if count > values.numel():
                raise ShapeError(f"masked_scatter: source must hold at least {count} elements, got {values.numel()}")
            values = values[:count]
        return function.apply(SET_INDEX, wide, values, chosen, layout=((0,),)).reshape(shape)

    def _places(self, name: str) -> tuple[Any, ...]:
        """Where the elements are not zero: an array of positions for each dimension; a 0-d tensor has none."""
        if self.is_meta:  # type: ignore[attr-defined]
            raise DeviceError(f"{name}: the result of a tensor on 'meta' has no known shape")
        array: Any = self._array  # type: ignore[attr-defined]
        return tuple(array.reshape(1).nonzero() if not self.ndim else array.nonzero())

    def nonzero(self, *, as_tuple: bool = False) -> Any:
        """The positions of the elements that are not zero, in row-major order.

        Args:
            as_tuple: a tuple with a 1-d tensor for each dimension (what indexing takes), instead of one of
                shape (number, dimensions).
        """
        from gpunet.autograd.tensor import Tensor

        places = self._places("nonzero")
        if as_tuple:
            return tuple(Tensor._wrap(place, self._device) for place in places)
        if not self.ndim:
            return index_tensor(np.zeros((len(places[0]), 0)), self._device)
        columns = [Tensor._wrap(place, self._device) for place in places]
        return function.apply(REGISTRY["stack"], *columns, dim=1)

    def argwhere(self) -> Tensor:
        """The positions of the elements that are not zero: shape (number, dimensions)."""
        return self.nonzero()

    # In place --------------------------------------------------------------------------------------------------------

    def _put(self, result: Tensor) -> Tensor:
        return self._write(result)  # type: ignore[attr-defined]

    def scatter_(self, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: Any = None) -> Tensor:
        """``scatter`` in place."""
        return self._put(self.scatter(dim, index, src, value=value, reduce=reduce))

    def scatter_add_(self, dim: int, index: Tensor, src: Tensor) -> Tensor:
        """``scatter_add`` in place."""
        return self._put(self.scatter_add(dim, index, src))

    def index_add_(self, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
        """``index_add`` in place."""
        return self._put(self.index_add(dim, index, source, alpha=alpha))

    def index_copy_(self, dim: int, index: Tensor, source: Tensor) -> Tensor:
        """``index_copy`` in place."""
        return self._put(self.index_copy(dim, index, source))

    def index_fill_(self, dim: int, index: Tensor, value: Any) -> Tensor:
        """``index_fill`` in place."""
        return self._put(self.index_fill(dim, index, value))

    def masked_scatter_(self, mask: Tensor, source: Tensor) -> Tensor:
        """``masked_scatter`` in place."""
        return self._put(self.masked_scatter(mask, source))

    def tril_(self, diagonal: int = 0) -> Tensor:
        """``tril`` in place."""
        return self._put(self.tril(diagonal))

    def triu_(self, diagonal: int = 0) -> Tensor:
        """``triu`` in place."""
        return self._put(self.triu(diagonal))
