"""The shapes of Tensors: reshaping, permuting, splitting."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np

from gpunet.autograd import function
from gpunet.autograd.indexing import Indexing
from gpunet.backend.errors import ShapeError
from gpunet.ops import REGISTRY
from gpunet.ops.reduce import normalize_axis
from gpunet.ops.shape import infer_reshape

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Shapes", "Size", "named_sizes", "sizes"]

RESHAPE = REGISTRY["reshape"]
PERMUTE = REGISTRY["permute"]


class Size(tuple[int, ...]):
    """A shape: a tuple that knows how many elements it means. It prints as the tuple it is."""

    __slots__ = ()

    def numel(self) -> int:
        """The number of elements: the product of the sizes."""
        return math.prod(self)

    @overload
    def __getitem__(self, index: SupportsIndex) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Size: ...

    def __getitem__(self, index: Any) -> Any:
        part = tuple.__getitem__(self, index)
        return Size(part) if type(index) is slice else part


def sizes(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes given as separate integers or as one sequence."""
    if len(arguments) == 1 and not hasattr(arguments[0], "__index__"):
        if not hasattr(arguments[0], "__iter__"):
            raise TypeError(f"size: expected integers, or one sequence of them, got {arguments[0]!r}")
        arguments = tuple(arguments[0])
    return tuple(operator.index(extent) for extent in arguments)


def named_sizes(arguments: tuple[Any, ...], named: Any) -> tuple[int, ...]:
    """Sizes given as separate integers, as one sequence, or under PyTorch's name for them."""
    return sizes(arguments if named is None else (*arguments, named))


class Shapes(Indexing):
    """The shapes of Tensors: reshaping, permuting, splitting. Mixed into Tensor."""

    __slots__ = ()

    def reshape(self, *sizes: Any, shape: Any = None) -> Tensor:
        """The elements, in logical order, under another shape; one size may be -1. Copies only when it must."""
        return function.apply(RESHAPE, self, shape=named_sizes(sizes, shape))

    def view(self, *shape: Any) -> Tensor:
        """As ``reshape``: shares the elements where the layout allows it, else copies them.

        PyTorch refuses where the layout would need a copy; gpunet's activations are physically NHWC, so
        ``x.view(n, -1)`` after a convolution copies instead. What is written to one of the two reaches the other when
        it is next used.

        Raises:
            TypeError: a dtype: its bytes cannot be read as another type's; ``to`` converts the values.
        """
        if len(shape) == 1 and isinstance(shape[0], (np.dtype, type)):
            raise TypeError("view: the elements' bytes cannot be seen as another dtype; use to(dtype) for their values")
        return self.reshape(*shape)

    def view_as(self, other: Tensor) -> Tensor:
        """Viewed with another tensor's shape."""
        return self.view(other.shape)

    def reshape_as(self, other: Tensor) -> Tensor:
        """Reshaped to another tensor's shape."""
        return self.reshape(other.shape)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Dimensions start..end made one."""
        shape = self.shape
        if not shape:
            return self.reshape(1)
        start, end = (normalize_axis("flatten", axis, len(shape)) for axis in (start_dim, end_dim))
        if start > end:
            raise ShapeError(f"flatten: start_dim must not come after end_dim, got {start_dim} and {end_dim}")
        count = 1
        for extent in shape[start : end + 1]:
            count *= extent
        return self.reshape(*shape[:start], count, *shape[end + 1 :])

    def unflatten(self, dim: int, sizes: Any) -> Tensor:
        """One dimension made several; one size may be -1."""
        shape = self.shape
        axis = normalize_axis("unflatten", dim, len(shape))
        if not shape:
            raise ShapeError("unflatten: input must have at least 1 dimension, got shape ()")
        if not tuple(sizes):
            raise ShapeError("unflatten: sizes must not be empty")
        try:
            parts = infer_reshape(shape[axis : axis + 1], tuple(sizes))
        except ShapeError:
            raise ShapeError(
                f"unflatten: sizes must multiply to {shape[axis]}, the size of dim {dim}, got {tuple(sizes)}"
            ) from None
        return self.reshape(*shape[:axis], *parts, *shape[axis + 1 :])

    def ravel(self) -> Tensor:
        """One dimension."""
        return self.reshape(-1)

    def permute(self, *order: Any, dims: Any = None) -> Tensor:
        """Dimensions in another order."""
        return function.apply(PERMUTE, self, dims=named_sizes(order, dims))

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Two dimensions exchanged."""
        ndim = self.ndim
        first, second = (normalize_axis("transpose", axis, ndim) for axis in (dim0, dim1))
        order = list(range(ndim))
        if ndim:
            order[first], order[second] = second, first
        return function.apply(PERMUTE, self, dims=tuple(order))

    swapaxes = swapdims = transpose

    def t(self) -> Tensor:
        """A matrix transposed."""
        if self.ndim > 2:
            raise ShapeError(f"t: input must have at most 2 dimensions, got {self.ndim}")
        return self.permute(*range(self.ndim - 1, -1, -1))

    @property
    def T(self) -> Tensor:
        """All dimensions in reverse order."""
        return self.permute(*range(self.ndim - 1, -1, -1))

    @property
    def mT(self) -> Tensor:
        """The last two dimensions exchanged."""
        if self.ndim < 2:
            raise ShapeError(f"mT: input must have at least 2 dimensions, got {self.ndim}")
        return self.transpose(-2, -1)

    def squeeze(self, dim: Any = None) -> Tensor:
        """Dimensions of size one removed, all or those named."""
        axes = None if dim is None else sizes((dim,))
        return function.apply(REGISTRY["squeeze"], self, dim=axes)

    def unsqueeze(self, dim: int) -> Tensor:
        """A dimension of size one inserted."""
        return function.apply(REGISTRY["unsqueeze"], self, dim=dim)

    def expand(self, *shape: Any, size: Any = None) -> Tensor:
        """Sizes of one stretched without copying; -1 keeps a size."""
        return function.apply(REGISTRY["expand"], self, shape=named_sizes(shape, size))

    def expand_as(self, other: Tensor) -> Tensor:
        """Expanded to another tensor's shape."""
        return self.expand(other.shape)

    broadcast_to = expand

    def split(self, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
        """Pieces of a size (the last may be smaller), or of the given sizes, along a dimension."""
        if hasattr(split_size, "__index__"):
            axis = normalize_axis("split", dim, self.ndim)
            extent = self.shape[axis] if self.ndim else 0
            if split_size < 0 or (split_size == 0 and extent):
                raise ValueError(f"split: split_size must be positive, got {split_size}")
            parts = [min(split_size, extent - start) for start in range(0, extent, max(split_size, 1))] or [0]
        else:
            parts = list(split_size)
        return function.apply(REGISTRY["split"], self, sizes=tuple(parts), dim=dim)

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most ``chunks`` pieces of equal size along a dimension."""
        if chunks < 1:
            raise ValueError(f"chunk: chunks must be at least 1, got {chunks}")
        if not self.ndim:
            raise ShapeError("chunk: a 0-d tensor cannot be split")
        extent = self.shape[normalize_axis("chunk", dim, self.ndim)]
        if extent == 0:
            return self.split((0,) * chunks, dim)
        return self.split(max(1, -(-extent // chunks)), dim)

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        """The slices along a dimension, without it."""
        if not self.ndim:
            raise ShapeError("unbind: a 0-d tensor cannot be taken apart")
        axis = normalize_axis("unbind", dim, self.ndim)
        return tuple(self[(slice(None),) * axis + (i,)] for i in range(self.shape[axis]))

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """``length`` elements of a dimension from ``start`` on."""
        if not self.ndim:
            raise ShapeError("narrow: input must have at least 1 dimension, got shape ()")
        start, length = operator.index(start), operator.index(length)
        axis = normalize_axis("narrow", dim, self.ndim)
        extent = self.shape[axis]
        if -extent <= start < 0:
            start += extent
        if not 0 <= start <= extent or length < 0 or start + length > extent:
            raise ShapeError(f"narrow: start {start} and length {length} exceed dimension {dim} of size {extent}")
        return self[(slice(None),) * axis + (slice(start, start + length),)]
