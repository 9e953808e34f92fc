"""The operations a Tensor has as methods and operators: PyTorch's names, argument orders and defaults."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpunet.autograd import function
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops import REGISTRY
from gpunet.ops.dtypes import BOOL, INT64, canonical_dtype, is_floating
from gpunet.ops.reduce import normalize_axis

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Extreme", "TensorOperations", "index_layout"]

ADD, SUB, MUL, DIV, POW = (REGISTRY[name] for name in ("add", "sub", "mul", "div", "pow"))
SLICE, GATHER, SET_INDEX = REGISTRY["slice"], REGISTRY["gather_index"], REGISTRY["set_index"]
RESHAPE, PERMUTE = REGISTRY["reshape"], REGISTRY["permute"]


class Extreme(NamedTuple):
    """What ``max(dim)`` and ``min(dim)`` return."""

    values: Tensor
    indices: Tensor


def sizes(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes given as separate integers or as one sequence."""
    if len(arguments) == 1 and not hasattr(arguments[0], "__index__"):
        if not hasattr(arguments[0], "__iter__"):
            raise TypeError(f"size: expected integers, or one sequence of them, got {arguments[0]!r}")
        arguments = tuple(arguments[0])
    return tuple(operator.index(extent) for extent in arguments)


def index_layout(index: Any, device: Any) -> tuple[tuple[Any, ...], list[Tensor]]:
    """An index as a layout of integers, slices, None and Ellipsis, and the arrays among them.

    Arrays are replaced by a tuple of their number.
    """
    from gpunet.autograd.tensor import Tensor

    layout: list[Any] = []
    arrays: list[Tensor] = []
    for item in index if isinstance(index, tuple) else (index,):
        if item is None or item is Ellipsis:
            layout.append(item)
        elif isinstance(item, slice):
            layout.append(
                slice(*(None if part is None else operator.index(part) for part in (item.start, item.stop, item.step)))
            )
        elif isinstance(item, (bool, np.bool_)):
            raise TypeError(
                "index: a bare True or False is not supported; use a mask tensor, or None for a new dimension"
            )
        elif isinstance(item, (int, np.integer)):
            layout.append(int(item))
        elif isinstance(item, Tensor) and item._array.ndim == 0 and item.dtype != BOOL:
            layout.append(item.__index__())
        else:
            if not isinstance(item, Tensor):
                array = np.asarray(list(item) if isinstance(item, range) else item)
                if array.size == 0 and not isinstance(item, np.ndarray):
                    array = array.astype(np.int64)
                item = Tensor._wrap(function.to_device_array(array, device), device)
            layout.append((len(arrays),))
            arrays.append(item)
    if sum(item is Ellipsis for item in layout) > 1:
        raise IndexError("index: an index can only have one Ellipsis (...)")
    return tuple(layout), arrays


class TensorOperations:
    """Arithmetic, comparison, reductions, shapes and indexing. Mixed into Tensor."""

    __slots__ = ()

    if TYPE_CHECKING:  # what Tensor has
        _device: Any

        @property
        def shape(self) -> tuple[int, ...]: ...

        @property
        def ndim(self) -> int: ...

        @property
        def dtype(self) -> np.dtype[Any]: ...

    # Arithmetic ----------------------------------------------------------------------------------------------------

    def _binary(self, op: Any, other: Any, swapped: bool = False) -> Any:
        other = function.operand(self, other)
        if other is NotImplemented:
            return NotImplemented
        return function.apply(op, other, self) if swapped else function.apply(op, self, other)

    def __add__(self, other: Any) -> Tensor:
        return self._binary(ADD, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Tensor:
        return self._binary(SUB, other)

    def __rsub__(self, other: Any) -> Tensor:
        return self._binary(SUB, other, True)

    def __mul__(self, other: Any) -> Tensor:
        return self._binary(MUL, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Tensor:
        return self._binary(DIV, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return self._binary(DIV, other, True)

    def __floordiv__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["floor_divide"], other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["floor_divide"], other, True)

    def __mod__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["remainder"], other)

    def __rmod__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["remainder"], other, True)

    def __pow__(self, other: Any) -> Tensor:
        return self._binary(POW, other)

    def __rpow__(self, other: Any) -> Tensor:
        return self._binary(POW, other, True)

    def __matmul__(self, other: Any) -> Tensor:
        other = function.operand(self, other)
        if not hasattr(other, "requires_grad"):  # a number has no rows
            return NotImplemented
        return function.apply(REGISTRY["matmul"], self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        other = function.operand(self, other)
        if not hasattr(other, "requires_grad"):
            return NotImplemented
        return function.apply(REGISTRY["matmul"], other, self)

    def __neg__(self) -> Tensor:
        return self._unary("neg")

    def __pos__(self) -> Tensor:
        return self  # type: ignore[return-value]

    def __abs__(self) -> Tensor:
        return self._unary("abs")

    def __invert__(self) -> Tensor:
        if self.dtype == BOOL:
            return self._unary("logical_not")
        if is_floating(self.dtype):
            raise DTypeError(f"~: defined for bool and integers, got {self.dtype.name}")
        return self ^ -1

    def __and__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["bitwise_and"], other)

    __rand__ = __and__

    def __or__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["bitwise_or"], other)

    __ror__ = __or__

    def __xor__(self, other: Any) -> Tensor:
        return self._binary(REGISTRY["bitwise_xor"], other)

    __rxor__ = __xor__

    def _compare(self, name: str, other: Any) -> Any:
        return self._binary(REGISTRY[name], other)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return self._compare("eq", other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return self._compare("ne", other)

    def __lt__(self, other: Any) -> Tensor:
        return self._compare("lt", other)

    def __le__(self, other: Any) -> Tensor:
        return self._compare("le", other)

    def __gt__(self, other: Any) -> Tensor:
        return self._compare("gt", other)

    def __ge__(self, other: Any) -> Tensor:
        return self._compare("ge", other)

    __hash__ = object.__hash__

    def add(self, other: Any, *, alpha: float = 1) -> Tensor:
        """self + alpha * other."""
        return self + (other if alpha == 1 else other * alpha)

    def sub(self, other: Any, *, alpha: float = 1) -> Tensor:
        """self - alpha * other."""
        return self - (other if alpha == 1 else other * alpha)

    def mul(self, other: Any) -> Tensor:
        """self * other."""
        return self * other

    def div(self, other: Any, *, rounding_mode: str | None = None) -> Tensor:
        """self / other; ``rounding_mode`` may be None or ``"floor"``."""
        if rounding_mode is None:
            return self / other
        if rounding_mode == "floor":
            return self // other
        raise ValueError(f"div: rounding_mode must be None or 'floor', got {rounding_mode!r}")

    def pow(self, exponent: Any) -> Tensor:
        """self raised to ``exponent``."""
        return self**exponent

    def matmul(self, other: Any) -> Tensor:
        """Matrix product self @ other."""
        return self @ other

    def _product(self, name: str, other: Any, ranks: tuple[int, int]) -> Tensor:
        """A matrix product of fixed ranks."""
        found = (self.ndim, other.ndim)
        if found != ranks:
            raise ShapeError(
                f"{name}: operands must be {ranks[0]}-d and {ranks[1]}-d, got {found[0]}-d and {found[1]}-d"
            )
        return self @ other

    def mm(self, other: Any) -> Tensor:
        """Product of two matrices."""
        return self._product("mm", other, (2, 2))

    def mv(self, other: Any) -> Tensor:
        """Product of a matrix and a vector."""
        return self._product("mv", other, (2, 1))

    def bmm(self, other: Any) -> Tensor:
        """Products of two batches of matrices, (B, N, M) and (B, M, P)."""
        if self.ndim == other.ndim == 3 and self.shape[0] != other.shape[0]:
            raise ShapeError(f"bmm: batches must be of one size, got {self.shape[0]} and {other.shape[0]}")
        return self._product("bmm", other, (3, 3))

    def dot(self, other: Any) -> Tensor:
        """Inner product of two vectors."""
        return self._product("dot", other, (1, 1))

    def eq(self, other: Any) -> Tensor:
        """Elementwise self == other."""
        return self._compare("eq", other)

    def ne(self, other: Any) -> Tensor:
        """Elementwise self != other."""
        return self._compare("ne", other)

    def lt(self, other: Any) -> Tensor:
        """Elementwise self < other."""
        return self < other

    def le(self, other: Any) -> Tensor:
        """Elementwise self <= other."""
        return self <= other

    def gt(self, other: Any) -> Tensor:
        """Elementwise self > other."""
        return self > other

    def ge(self, other: Any) -> Tensor:
        """Elementwise self >= other."""
        return self >= other

    def maximum(self, other: Any) -> Tensor:
        """Elementwise larger of two; NaN wins."""
        return self._binary(REGISTRY["maximum"], other)

    def minimum(self, other: Any) -> Tensor:
        """Elementwise smaller of two; NaN wins."""
        return self._binary(REGISTRY["minimum"], other)

    def logical_and(self, other: Any) -> Tensor:
        """Elementwise and."""
        return self._binary(REGISTRY["logical_and"], other)

    def logical_or(self, other: Any) -> Tensor:
        """Elementwise or."""
        return self._binary(REGISTRY["logical_or"], other)

    def logical_not(self) -> Tensor:
        """Elementwise not."""
        return self._unary("logical_not")

    # Functions of one variable -------------------------------------------------------------------------------------

    def _unary(self, name: str) -> Tensor:
        return function.apply(REGISTRY[name], self)

    def neg(self) -> Tensor:
        """-self."""
        return self._unary("neg")

    def exp(self) -> Tensor:
        """e to the power of each element."""
        return self._unary("exp")

    def log(self) -> Tensor:
        """Natural logarithm."""
        return self._unary("log")

    def sqrt(self) -> Tensor:
        """Square root."""
        return self._unary("sqrt")

    def rsqrt(self) -> Tensor:
        """1 / square root."""
        return 1.0 / self.sqrt()

    def square(self) -> Tensor:
        """self * self."""
        return self**2

    def reciprocal(self) -> Tensor:
        """1 / self."""
        return 1.0 / self

    def abs(self) -> Tensor:
        """Absolute value; its derivative at 0 is 0."""
        return self._unary("abs")

    def sign(self) -> Tensor:
        """-1, 0 or 1."""
        return self._unary("sign")

    def floor(self) -> Tensor:
        """Largest integer not above each element."""
        return self._unary("floor")

    def tanh(self) -> Tensor:
        """Hyperbolic tangent."""
        return self._unary("tanh")

    def sigmoid(self) -> Tensor:
        """1 / (1 + exp(-x))."""
        return self._unary("sigmoid")

    def relu(self) -> Tensor:
        """max(x, 0); its derivative at 0 is 0."""
        return self._unary("relu")

    def isnan(self) -> Tensor:
        """True where NaN."""
        return self._unary("isnan")

    def isfinite(self) -> Tensor:
        """True where neither NaN nor infinite."""
        return self._unary("isfinite")

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        """Elements limited to min..max, numbers or tensors; the gradient passes where the limits do not bind."""
        from gpunet.autograd.tensor import Tensor

        if isinstance(min, Tensor) or isinstance(max, Tensor):
            result: Any = self
            if min is not None:
                result = result.maximum(min if isinstance(min, Tensor) else function.as_operand(min, self))
            if max is not None:
                result = result.minimum(max if isinstance(max, Tensor) else function.as_operand(max, self))
            return result
        return function.apply(REGISTRY["clip"], self, low=min, high=max)

    clip = clamp

    def where(self, condition: Tensor, other: Any) -> Tensor:
        """self where the condition holds, else other."""
        return function.apply(REGISTRY["where"], condition, self, function.operand(self, other))

    def masked_fill(self, mask: Tensor, value: float) -> Tensor:
        """A copy with ``value`` where the mask is true; the dtype stays."""
        if mask.dtype != BOOL:
            raise DTypeError(f"masked_fill: mask must be bool, got {mask.dtype.name}")
        return function.apply(REGISTRY["where"], ~mask, self, value)._cast(self.dtype)

    def softmax(self, dim: int) -> Tensor:
        """Softmax over a dimension."""
        return function.apply(REGISTRY["softmax"], self, dim=dim)

    def log_softmax(self, dim: int) -> Tensor:
        """Logarithm of softmax over a dimension."""
        return function.apply(REGISTRY["log_softmax"], self, dim=dim)

    # Reductions ----------------------------------------------------------------------------------------------------

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

    # Shapes --------------------------------------------------------------------------------------------------------

    def reshape(self, *shape: Any) -> Tensor:
        """The elements, in logical order, under another shape; one size may be -1. Copies only when it must."""
        return function.apply(RESHAPE, self, shape=sizes(shape))

    def view(self, *shape: Any) -> Tensor:
        """As ``reshape``: shares the elements where the layout allows it, else copies them.

        PyTorch refuses where the layout would need a copy; gpunet's activations are physically NHWC, so
        ``x.view(n, -1)`` after a convolution copies instead. What is written to such a copy does not reach x.
        """
        return self.reshape(*shape)

    def view_as(self, other: Tensor) -> Tensor:
        """Viewed with another tensor's shape."""
        return self.reshape(other.shape)

    reshape_as = view_as

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
        parts = list(sizes)
        if parts.count(-1) == 1:
            known = 1
            for extent in parts:
                known *= extent if extent != -1 else 1
            parts[parts.index(-1)] = shape[axis] // max(known, 1)
        return self.reshape(*shape[:axis], *parts, *shape[axis + 1 :])

    def ravel(self) -> Tensor:
        """One dimension."""
        return self.reshape(-1)

    def permute(self, *dims: Any) -> Tensor:
        """Dimensions in another order."""
        return function.apply(PERMUTE, self, dims=sizes(dims))

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

    def expand(self, *shape: Any) -> Tensor:
        """Sizes of one stretched without copying; -1 keeps a size."""
        return function.apply(REGISTRY["expand"], self, shape=sizes(shape))

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
        extent = self.shape[normalize_axis("chunk", dim, self.ndim)]
        if extent == 0:
            return self.split((0,) * chunks, dim)
        return self.split(max(1, -(-extent // chunks)), dim)

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        """The slices along a dimension, without it."""
        axis = normalize_axis("unbind", dim, self.ndim)
        return tuple(self[(slice(None),) * axis + (i,)] for i in range(self.shape[axis]))

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """``length`` elements of a dimension from ``start`` on."""
        axis = normalize_axis("narrow", dim, self.ndim)
        extent = self.shape[axis]
        if -extent <= start < 0:
            start += extent
        if not 0 <= start <= extent or length < 0 or start + length > extent:
            raise ShapeError(f"narrow: start {start} and length {length} exceed dimension {dim} of size {extent}")
        return self[(slice(None),) * axis + (slice(start, start + length),)]

    # Indexing ------------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Tensor:
        layout, arrays = index_layout(index, self._device)
        if arrays:
            return function.apply(GATHER, self, *arrays, layout=layout)
        return function.apply(SLICE, self, index=layout)

    # Types ---------------------------------------------------------------------------------------------------------

    def _cast(self, dtype: Any) -> Tensor:
        if self.dtype == dtype:
            return self  # type: ignore[return-value]
        return function.apply(REGISTRY["cast"], self, dtype=dtype)

    def float(self) -> Tensor:
        """As float32."""
        return self._cast(canonical_dtype("float32"))

    def double(self) -> Tensor:
        """As float64."""
        return self._cast(canonical_dtype("float64"))

    def half(self) -> Tensor:
        """As float16."""
        return self._cast(canonical_dtype("float16"))

    def bfloat16(self) -> Tensor:
        """As bfloat16; needs the ml_dtypes package."""
        return self._cast(canonical_dtype("bfloat16"))

    def long(self) -> Tensor:
        """As int64."""
        return self._cast(INT64)

    def int(self) -> Tensor:
        """As int32."""
        return self._cast(canonical_dtype("int32"))

    def bool(self) -> Tensor:
        """As bool."""
        return self._cast(BOOL)

    def type_as(self, other: Tensor) -> Tensor:
        """With another tensor's dtype."""
        return self._cast(other.dtype)

    def is_floating_point(self) -> Any:
        """True for floating-point dtypes."""
        return is_floating(self.dtype)
