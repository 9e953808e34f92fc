"""Single slices, writing to lists of indices and to diagonals, and membership."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunet.autograd import function
from gpunet.autograd.indexing import GATHER
from gpunet.autograd.selecting import Selecting
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops.dtypes import is_floating, promote_types
from gpunet.ops.reduce import normalize_axis

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Placing", "isin"]


class Placing(Selecting):
    """Single slices, and writing to indices and diagonals. Mixed into Tensor."""

    __slots__ = ()

    is_sparse = False

    def is_complex(self) -> bool:
        """False: there are no complex numbers."""
        return False

    def is_signed(self) -> bool:
        """Whether the dtype holds negative numbers."""
        return is_floating(self.dtype) or self.dtype.kind == "i"

    def select(self, dim: int, index: int) -> Tensor:
        """The slice at a position of a dimension, which goes; a view.

        Raises:
            IndexError: outside the dimension, or a 0-d tensor.
        """
        if not self.ndim:
            raise IndexError("select: input must have at least 1 dimension, got a 0-d tensor")
        axis = normalize_axis("select", dim, self.ndim)
        position, extent = operator.index(index), self.shape[axis]
        if not -extent <= position < extent:
            raise IndexError(f"select: index must lie in {-extent}..{extent - 1}, got {position}")
        return self[(*(slice(None),) * axis, position)]

    def index_put(self, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
        """A copy with ``out[indices] = values``.

        Args:
            indices: a tuple of index tensors (integers or masks) for the first dimensions.
            values: broadcasts to the elements chosen; of self's dtype.
            accumulate: add to what is there, repeated places in a fixed order.
        """
        result: Tensor = self.clone()  # type: ignore[attr-defined]
        return result.index_put_(indices, values, accumulate)

    def index_put_(self, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
        """``index_put`` in place."""
        from gpunet.autograd.tensor import Tensor

        if not isinstance(indices, (tuple, list)) or not all(isinstance(item, Tensor) for item in indices):
            raise TypeError("index_put_: indices must be a tuple of Tensors")
        if not isinstance(values, Tensor):
            raise TypeError(f"index_put_: values must be a Tensor, got {type(values).__name__}")
        if values.dtype != self.dtype:
            raise DTypeError(f"index_put_: values must have dtype {self.dtype.name}, got {values.dtype.name}")
        if not accumulate:
            self[tuple(indices)] = values  # type: ignore[index]
            return self  # type: ignore[return-value]
        # The places as numbers in row-major order: an index into the positions themselves.
        positions = function.wrap(
            function.to_device_array(np.arange(math.prod(self.shape)).reshape(self.shape), self._device), self._device
        )
        layout = tuple((number,) for number in range(len(indices)))
        chosen = function.apply(GATHER, positions, *indices, layout=layout)
        flat = self.reshape(-1).index_add(0, chosen.reshape(-1), values.expand(chosen.shape).reshape(-1))
        return self._put(flat.reshape(self.shape))

    def fill_diagonal_(self, fill_value: float, wrap: bool = False) -> Tensor:
        """Write a number to the main diagonal: of a matrix, or of a tensor all of whose sizes are equal.

        Args:
            fill_value: the number.
            wrap: let the diagonal of a tall matrix begin again after every row it leaves out.
        """
        shape = self.shape
        if len(shape) < 2:
            raise ShapeError(f"fill_diagonal_: input must have at least 2 dimensions, got shape {shape}")
        if len(shape) > 2 and len(set(shape)) > 1:
            raise ShapeError(f"fill_diagonal_: all sizes must be equal in more than 2 dimensions, got shape {shape}")
        count = min(shape)
        places = [np.arange(count)] * len(shape)
        if wrap and len(shape) == 2 and shape[0] > shape[1] > 0:
            flat = np.arange(0, shape[0] * shape[1], shape[1] + 1)
            places = list(np.divmod(flat, shape[1]))
        self[tuple(places)] = fill_value  # type: ignore[index]
        return self  # type: ignore[return-value]


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each element is one of others.

    Args:
        elements: a tensor or a number.
        test_elements: a tensor or a number; not both numbers.
        assume_unique: without effect.
        invert: whether it is none of them.

    Returns:
        bool, of the shape of ``elements``.

    Raises:
        TypeError: two numbers, or what is neither.
    """
    from gpunet.autograd.tensor import Tensor

    given = [value for value in (elements, test_elements) if isinstance(value, Tensor)]
    if not given or not all(isinstance(value, (Tensor, int, float)) for value in (elements, test_elements)):
        raise TypeError("isin: elements and test_elements must be a Tensor each, or one of them a number")
    own = elements if isinstance(elements, Tensor) else function.as_operand(elements, given[0])
    others = test_elements if isinstance(test_elements, Tensor) else function.as_operand(test_elements, given[0])
    kind = promote_types(own.dtype, others.dtype)
    own, others = own._cast(kind), others.reshape(-1)._cast(kind)
    if not others.numel():
        found = (own != own) & False
    else:
        ordered = others.sort()[0]
        place = ordered.searchsorted(own.reshape(-1)).clamp(max=ordered.numel() - 1)
        found = ordered[place].reshape(own.shape) == own
    return ~found if invert else found
