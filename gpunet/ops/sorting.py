"""Sorting along a dimension, and what follows from it: the largest elements, the k-th smallest, the median.

NaN counts as larger than every number; a median is NaN if any element is. Equal elements keep their order in sorts and
``topk``. The gradient of a value goes to the element it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.dtypes import BOOL, INT64, compute_dtype, is_floating
from gpunet.ops.elementwise import operand
from gpunet.ops.reduce import Extreme, normalize_axis, reduced_shape

__all__: list[str] = []

# From so many times k on, finding the k largest elements and sorting those is faster than sorting all.
_PARTITION_FROM = 8


def _order(module: Any, x: Any, axis: int, descending: bool) -> Any:
    """Indices that sort x, equal elements in their order."""
    keys = operand(x, compute_dtype(x.dtype))
    if not descending:
        return module.argsort(keys, axis=axis, kind="stable")
    backwards = module.argsort(module.flip(keys, axis), axis=axis, kind="stable")
    return x.shape[axis] - 1 - module.flip(backwards, axis)


class Picked(Op):
    """Elements of x along ``dim``, and the indices they come from. Subclasses say which."""

    def _count(self, x: Any, axis: int, attributes: dict[str, Any]) -> int | None:
        """How many elements are picked along the dimension; None: one, and the dimension goes."""
        raise NotImplementedError

    def _places(self, module: Any, x: Any, axis: int, attributes: dict[str, Any]) -> Any:
        """The indices, the dimension kept."""
        raise NotImplementedError

    def infer(self, *inputs: Any, dim: int, **attributes: Any) -> Inferred:
        (x,) = inputs
        axis = normalize_axis(self.name, dim, x.ndim)
        count = self._count(x, axis, attributes)
        shape = list(x.shape)
        if count is None:
            shape = list(reduced_shape(tuple(x.shape), (axis,), attributes["keepdim"])) if x.ndim else []
        elif x.ndim:
            shape[axis] = count
        return Inferred((Spec(tuple(shape), x.dtype), Spec(tuple(shape), INT64)))

    def forward(self, ctx: Context, *inputs: Any, dim: int, **attributes: Any) -> Any:
        (x,) = inputs
        module = module_of(x)
        if x.ndim == 0:
            ctx.state = None
            return x.copy(), module.zeros((), INT64)
        axis = normalize_axis(self.name, dim, x.ndim)
        places = self._places(module, x, axis, attributes)
        values = module.take_along_axis(x, places, axis)
        places = places.astype(INT64, copy=False)
        ctx.state = tuple(x.shape), axis, places
        if "keepdim" in attributes and not attributes["keepdim"]:
            return values.squeeze(axis), places.squeeze(axis)
        return values, places

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        grad = grad_outputs[0]
        if ctx.state is None:
            return (grad,)
        shape, axis, places = ctx.state
        module = module_of(grad)
        dx = module.zeros(shape, grad.dtype)
        module.put_along_axis(dx, places, grad.reshape(places.shape), axis)
        return (dx,)

    def _cases(self, *attributes: dict[str, Any]) -> Iterator[Sample]:
        x = np.random.default_rng(81).standard_normal((3, 4, 5))
        for position, each in enumerate(attributes):
            yield Sample(f"{position}: first", (x,), {"dim": 0, **each})
            yield Sample(f"{position}: channels last", (x[None].transpose(0, 3, 1, 2),), {"dim": -1, **each})
        yield Sample("empty batch", (x[:0],), {"dim": 1, **attributes[0]})


class Sort(Picked):
    """All elements along ``dim`` in ascending or descending order."""

    name = "sort"

    def _count(self, x: Any, axis: int, attributes: dict[str, Any]) -> int | None:
        return x.shape[axis] if x.ndim else 1

    def _places(self, module: Any, x: Any, axis: int, attributes: dict[str, Any]) -> Any:
        return _order(module, x, axis, attributes["descending"])

    def samples(self) -> Iterator[Sample]:
        yield from self._cases({"descending": False}, {"descending": True})


register(Sort())


class TopK(Picked):
    """The k largest elements along ``dim``, in descending order, or the k smallest in ascending order."""

    name = "topk"

    def _count(self, x: Any, axis: int, attributes: dict[str, Any]) -> int | None:
        k, extent = attributes["k"], x.shape[axis] if x.ndim else 1
        if x.dtype == BOOL:
            raise DTypeError("topk: not defined for bool")
        if not 0 <= k <= extent:
            raise ShapeError(f"topk: k must lie in 0..{extent}, the size of the dimension, got {k}")
        return int(k)

    def _places(self, module: Any, x: Any, axis: int, attributes: dict[str, Any]) -> Any:
        k, largest, extent = attributes["k"], attributes["largest"], x.shape[axis]
        first = (slice(None),) * axis + (slice(0, k),)
        if k * _PARTITION_FROM > extent:
            return _order(module, x, axis, largest)[first]
        keys = operand(x, compute_dtype(x.dtype))
        if largest:
            chosen = module.argpartition(keys, extent - k - 1, axis=axis)
            chosen = chosen[(slice(None),) * axis + (slice(extent - k, None),)]
        else:
            chosen = module.argpartition(keys, k, axis=axis)[first]
        chosen = module.sort(chosen, axis=axis)
        order = _order(module, module.take_along_axis(keys, chosen, axis), axis, largest)
        return module.take_along_axis(chosen, order, axis)

    def samples(self) -> Iterator[Sample]:
        yield from self._cases({"k": 2, "largest": True}, {"k": 3, "largest": False})
        x = np.random.default_rng(82).standard_normal((3, 40))
        yield Sample("few of many", (x,), {"dim": 1, "k": 3, "largest": True})
        yield Sample("few smallest", (x.T,), {"dim": 0, "k": 3, "largest": False})
        yield Sample("none", (x,), {"dim": 1, "k": 0, "largest": True})


register(TopK())


class KthValue(Picked):
    """The k-th smallest element along ``dim``, counted from 1."""

    name = "kthvalue"

    def _count(self, x: Any, axis: int, attributes: dict[str, Any]) -> int | None:
        k, extent = attributes["k"], x.shape[axis] if x.ndim else 1
        if x.dtype == BOOL:
            raise DTypeError("kthvalue: not defined for bool")
        if not 1 <= k <= extent:
            raise ShapeError(f"kthvalue: k must lie in 1..{extent}, the size of the dimension, got {k}")
        return None

    def _places(self, module: Any, x: Any, axis: int, attributes: dict[str, Any]) -> Any:
        index = (slice(None),) * axis + (slice(attributes["k"] - 1, attributes["k"]),)
        return _order(module, x, axis, False)[index]

    def samples(self) -> Iterator[Sample]:
        yield from self._cases({"k": 1, "keepdim": False}, {"k": 3, "keepdim": True})


register(KthValue())


class MedianAlong(Picked):
    """The lower median along ``dim``: of an even number of elements the smaller of the two in the middle.

    Args:
        ignore_nan: NaN does not count, unless there is nothing else.
    """

    name = "median_along"

    def _count(self, x: Any, axis: int, attributes: dict[str, Any]) -> int | None:
        public = "nanmedian" if attributes["ignore_nan"] else "median"
        if x.dtype == BOOL:
            raise DTypeError(f"{public}: not defined for bool")
        if x.ndim and x.shape[axis] == 0:
            raise ShapeError(f"{public}: input has no elements along dim, got shape {tuple(x.shape)}")
        return None

    def _places(self, module: Any, x: Any, axis: int, attributes: dict[str, Any]) -> Any:
        order = _order(module, x, axis, False)
        missing = (x != x).sum(axis=axis, keepdims=True)
        counted = x.shape[axis] - missing
        middle = module.maximum((counted - 1) // 2, 0)
        if not attributes["ignore_nan"]:
            # NaN stands behind all numbers: the first of them.
            middle = module.where(missing > 0, counted, middle)
        return module.take_along_axis(order, middle, axis)

    def samples(self) -> Iterator[Sample]:
        yield from self._cases({"ignore_nan": False, "keepdim": False}, {"ignore_nan": True, "keepdim": True})


register(MedianAlong())


class Mode(Picked):
    """The most frequent element along ``dim``, of equally frequent ones the smallest, at its last place."""

    name = "mode"

    def _count(self, x: Any, axis: int, attributes: dict[str, Any]) -> int | None:
        if x.ndim and x.shape[axis] == 0:
            raise ShapeError(f"mode: input has no elements along dim, got shape {tuple(x.shape)}")
        return None

    def _places(self, module: Any, x: Any, axis: int, attributes: dict[str, Any]) -> Any:
        order = module.moveaxis(_order(module, x, axis, False), axis, 0)
        values = module.take_along_axis(module.moveaxis(x, axis, 0), order, 0)
        best, longest = order[0], module.ones(order.shape[1:], INT64)
        run = longest
        for position in range(1, len(order)):
            run = module.where(values[position] == values[position - 1], run + 1, 1)
            # A run that ties with the longest is of a larger element; one that grows past it ends at its last place.
            best = module.where(run > longest, order[position], best)
            longest = module.maximum(longest, run)
        return module.expand_dims(best, axis)

    def samples(self) -> Iterator[Sample]:
        yield from self._cases({"keepdim": False}, {"keepdim": True})


register(Mode())


class Median(Extreme):
    """The lower median of all elements; equals share the gradient."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")

    def infer(self, *inputs: Any, dim: Any, keepdim: bool) -> Inferred:
        (x,) = inputs
        if x.dtype == BOOL:
            raise DTypeError(f"{self.name}: not defined for bool")
        if x.size == 0 and not is_floating(x.dtype):
            raise ShapeError(f"{self.name}: input has no elements, got shape {tuple(x.shape)}")
        return Inferred((Spec((), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, dim: Any, keepdim: bool) -> Any:
        (x,) = inputs
        module = module_of(x)
        if x.size == 0:
            y = module.asarray(np.nan).astype(x.dtype)
        else:
            flat = operand(x, compute_dtype(x.dtype)).reshape(-1)
            flat = module.sort(flat)
            missing = (flat != flat).sum()
            counted = flat.size - missing
            middle = module.maximum((counted - 1) // 2, 0)
            if self.name == "median":
                middle = module.where(missing > 0, counted, middle)
            y = module.asarray(flat[middle]).astype(x.dtype)
        ctx.save(x, y)
        ctx.state = tuple(range(x.ndim))
        return y

    def samples(self) -> Iterator[Sample]:
        x = np.random.default_rng(83).standard_normal((3, 4))
        yield Sample("even", (x,), {"dim": None, "keepdim": False})
        yield Sample("odd, strided", (x.T[::2, :1],), {"dim": None, "keepdim": False})


register(Median("median"))
register(Median("nanmedian"))


class SearchSorted(Op):
    """Where values belong in a sorted sequence: the index of the first element not below (``right``: above) each.

    Args:
        inputs: the sequence (..., S) and the values (..., V), leading dimensions the same; or a sequence (S,) and
            values of any shape.
    """

    name = "searchsorted"
    differentiable = False

    def infer(self, *inputs: Any, right: bool, dtype: Any, public: str = "searchsorted") -> Inferred:
        sequence, values = inputs
        if sequence.ndim == 0 or (public == "bucketize" and sequence.ndim != 1):
            rule = "1-d" if public == "bucketize" else "at least 1-d"
            raise ShapeError(f"{public}: the sorted sequence must be {rule}, got shape {tuple(sequence.shape)}")
        if sequence.ndim > 1 and tuple(sequence.shape[:-1]) != tuple(values.shape[:-1]):
            raise ShapeError(
                f"{public}: a sorted sequence of shape {tuple(sequence.shape)} needs values of the same leading "
                f"dimensions, got shape {tuple(values.shape)}"
            )
        return Inferred((Spec(tuple(values.shape), dtype),))

    def forward(self, ctx: Context, *inputs: Any, right: bool, dtype: Any, public: str = "searchsorted") -> Any:
        sequence, values = inputs
        module = module_of(sequence)
        side = "right" if right else "left"
        if sequence.ndim == 1:
            return module.searchsorted(sequence, values.reshape(-1), side=side).reshape(values.shape).astype(dtype)
        found = module.empty(values.shape, dtype)
        for index in np.ndindex(*sequence.shape[:-1]):
            found[index] = module.searchsorted(sequence[index], values[index], side=side)
        return found

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(84)
        edges = np.array([-1.0, 0.0, 0.5, 2.0])
        yield Sample("one sequence", (edges, rng.standard_normal((3, 4))), {"right": False, "dtype": INT64})
        yield Sample("right", (edges, np.array([0.0, 0.5])), {"right": True, "dtype": INT64})
        rows = np.sort(rng.standard_normal((3, 5)))
        yield Sample("rows", (rows, rng.standard_normal((3, 2))), {"right": False, "dtype": INT64})


register(SearchSorted())
