"""Rows of a table chosen by index (Bengio et al. 2003), and sums of them (Joulin et al. 2017).

    embedding:      y[i] = w[index[i]]
    embedding_bag:  y[b] = sum, mean or maximum of s_i w[index[i]] over the i of bag b; 0 for an empty bag

    dw[r] = sum of the gradients of all places where index is r; 0 for padding_idx, divided by the number of places
            with scale_grad_by_freq

w (V, D), index (...) of int32 or int64. The gradient's rows are sorted by index and each run of equal indices is added
up in order: the same bits each time, no atomics. An index outside 0..V-1 is an error at once on a CPU; on a GPU the
element reads row 0, and the error word reports it. For the maximum, ties go to the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.error_word import check_values
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.dtypes import compute_dtype

__all__ = ["Embedding", "EmbeddingBag", "check_indices"]


def check_indices(index: Any, rows: int) -> Any:
    """The index, flat; what is out of range has been reported and, on a GPU, replaced by 0."""
    module = module_of(index)
    flat = index.reshape(-1)
    if module is np:
        # Two passes over the extremes: cheaper than a mask, which only the error message needs.
        if flat.size and (flat.min() < 0 or flat.max() >= rows):
            bad = (flat < 0) | (flat >= rows)
            check_values("embedding", bad, f"got {int(flat[bad][0])} with {rows} rows")
        return flat
    bad = (flat < 0) | (flat >= rows)
    check_values("embedding", bad)
    return module.where(bad, 0, flat)


def _validate(op: str, weight: Any, index: Any) -> None:
    if weight.ndim != 2:
        raise ShapeError(
            f"{op}: weight must have 2 dimensions (num_embeddings, embedding_dim), got shape {tuple(weight.shape)}"
        )
    if index.dtype.name not in ("int64", "int32"):
        raise DTypeError(f"{op}: input must be int64 or int32, got {index.dtype.name}")


def _row_sums(module: Any, rows: Any, first: Any) -> Any:
    """Sums of consecutive rows, in runs that begin at ``first``."""
    if module is np:
        return np.add.reduceat(rows, first, axis=0)
    ends = module.concatenate([first[1:], module.asarray([len(rows)])])
    sums = rows[first]
    for rank in range(1, int((ends - first).max())):  # CuPy has no reduceat; as many passes as the longest run has rows
        place = module.minimum(first + rank, len(rows) - 1)
        sums += module.where((first + rank < ends)[:, None], rows[place], 0)
    return sums


def _table_gradient(grad: Any, index: Any, shape: tuple[int, int], by_frequency: bool, padding: int | None) -> Any:
    """dw from the rows' gradients (M, D)."""
    module = module_of(grad)
    carry = compute_dtype(grad.dtype)
    if padding is not None:
        kept = index != padding
        index, grad = index[kept], grad[kept]
    table = module.zeros(shape, grad.dtype)
    if index.size == 0:
        return table
    order = module.argsort(index, kind="stable") if module is np else module.argsort(index)
    ranked = index[order]
    change = module.concatenate([module.ones(1, bool), ranked[1:] != ranked[:-1]])
    first = module.nonzero(change)[0]
    if module is np:
        _write_runs(table, grad, order, ranked[first], first, by_frequency)
        return table
    sums = _row_sums(module, grad[order].astype(carry, copy=False), first)
    if by_frequency:
        ends = module.concatenate([first[1:], module.asarray([index.size])])
        sums = sums / (ends - first)[:, None].astype(carry)
    table[ranked[first]] = sums.astype(table.dtype, copy=False)
    return table


def _write_runs(table: Any, grad: Any, order: Any, targets: Any, first: Any, by_frequency: bool) -> None:
    """The sums of the runs, into the table: rows that stand alone are copied as they are."""
    lengths = np.diff(first, append=len(order))
    alone = lengths == 1
    table[targets[alone]] = grad[order[first[alone]]]
    if alone.all():
        return
    repeated = np.repeat(~alone, lengths)
    rows = grad[order[repeated]].astype(compute_dtype(grad.dtype), copy=False)
    counts = lengths[~alone]
    sums = _row_sums(np, rows, np.cumsum(counts) - counts)
    if by_frequency:
        sums /= counts[:, None].astype(sums.dtype)
    table[targets[~alone]] = sums


class Embedding(Op):
    """Inputs weight (V, D) and index (...); y (..., D)."""

    name = "embedding"

    def infer(self, *inputs: Any, padding_idx: int | None, scale_grad_by_freq: bool) -> Inferred:
        weight, index = inputs
        _validate(self.name, weight, index)
        if padding_idx is not None and not -weight.shape[0] <= padding_idx < weight.shape[0]:
            raise ValueError(
                f"embedding: padding_idx must lie in {-weight.shape[0]}..{weight.shape[0] - 1} for a weight of "
                f"{weight.shape[0]} rows, got {padding_idx}"
            )
        return Inferred((Spec((*index.shape, weight.shape[1]), weight.dtype),))

    def forward(self, ctx: Context, *inputs: Any, padding_idx: int | None, scale_grad_by_freq: bool) -> Any:
        weight, index = inputs
        flat = check_indices(index, weight.shape[0])
        ctx.save(index)
        ctx.state = tuple(weight.shape)
        return module_of(weight).take(weight, flat, axis=0).reshape(*index.shape, weight.shape[1])

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (index,) = ctx.saved
        shape = ctx.state
        padding = ctx.attributes["padding_idx"]
        if padding is not None:
            padding %= shape[0]
        module = module_of(grad)
        flat = index.reshape(-1)
        if module is not np:
            flat = module.clip(flat, 0, shape[0] - 1)
        rows = grad.reshape(len(flat), shape[1])
        return _table_gradient(rows, flat, shape, ctx.attributes["scale_grad_by_freq"], padding), None

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(97)
        weight = rng.standard_normal((6, 3))

        def case(label: str, index: Any, padding: int | None = None, by_frequency: bool = False) -> Sample:
            # Scaling by frequency changes the gradient alone, so that no difference quotient can show it.
            attributes = {"padding_idx": padding, "scale_grad_by_freq": by_frequency}
            plain = padding is None and not by_frequency
            return Sample(label, (weight, np.asarray(index)), attributes, differentiable=plain)

        yield case("a sentence", [0, 2, 5, 2])
        yield case("a batch", [[1, 2, 1], [1, 0, 3]])
        yield case("32 bits", np.array([[1, 2], [3, 3]], np.int32))
        yield case("one", 4)
        yield case("no repeats", [3, 1, 0])
        yield case("padding", [[1, 2, 1], [1, 0, 3]], padding=1)
        yield case("padding from the end", [5, 5, 2], padding=-1)
        yield case("by frequency", [[1, 2, 1], [1, 0, 3]], by_frequency=True)
        yield Sample("empty batch", (weight, np.zeros((0, 4), int)), {"padding_idx": None, "scale_grad_by_freq": False})


class EmbeddingBag(Op):
    """Inputs weight (V, D), index (M,), offsets (B,) and per-index weights (M,) or None; y (B, D).

    Bag b holds the indices from offsets[b] to offsets[b + 1]; those equal to ``padding_idx`` count for nothing.
    """

    name = "embedding_bag"

    def infer(
        self, *inputs: Any, mode: str, padding_idx: int | None, scale_grad_by_freq: bool, last_offset: bool
    ) -> Inferred:
        weight, index, offsets, scales = inputs
        _validate(self.name, weight, index)
        if mode not in ("sum", "mean", "max"):
            raise ValueError(f"embedding_bag: mode must be 'sum', 'mean' or 'max', got {mode!r}")
        if index.ndim != 1 or offsets.ndim != 1:
            raise ShapeError(
                f"embedding_bag: input and offsets must have 1 dimension, got shapes {tuple(index.shape)} "
                f"and {tuple(offsets.shape)}"
            )
        if offsets.dtype.name not in ("int64", "int32"):
            raise DTypeError(f"embedding_bag: offsets must be int64 or int32, got {offsets.dtype.name}")
        if scales is not None:
            if mode != "sum":
                raise ValueError(f"embedding_bag: per_sample_weights need mode 'sum', got {mode!r}")
            if tuple(scales.shape) != tuple(index.shape):
                raise ShapeError(
                    f"embedding_bag: per_sample_weights must have the input's shape {tuple(index.shape)}, "
                    f"got {tuple(scales.shape)}"
                )
            if scales.dtype != weight.dtype:
                raise DTypeError(
                    f"embedding_bag: per_sample_weights must have the weight's dtype {weight.dtype.name}, "
                    f"got {scales.dtype.name}"
                )
        if last_offset and offsets.shape[0] < 1:
            raise ShapeError("embedding_bag: offsets must not be empty with include_last_offset=True")
        require_floating(self.name, "weight", weight)
        return Inferred((Spec((offsets.shape[0] - last_offset, weight.shape[1]), weight.dtype),))

    def forward(
        self,
        ctx: Context,
        *inputs: Any,
        mode: str,
        padding_idx: int | None,
        scale_grad_by_freq: bool,
        last_offset: bool,
    ) -> Any:
        weight, index, offsets, scales = inputs
        module = module_of(weight)
        carry = compute_dtype(weight.dtype)
        flat = check_indices(index, weight.shape[0])
        bags = len(offsets) - last_offset
        starts = offsets[:bags]
        # Which bag each index falls into: one step up at each offset.
        owner = module.searchsorted(starts, module.arange(len(flat)), side="right") - 1
        kept = owner >= 0
        if last_offset:
            kept &= module.arange(len(flat)) < offsets[-1]
        if padding_idx is not None:
            kept &= flat != padding_idx % weight.shape[0]
        place = module.nonzero(kept)[0]
        owner = owner[place]
        rows = module.take(weight, flat[place], axis=0).astype(carry, copy=False)
        out = module.zeros((bags, weight.shape[1]), carry)
        counts = module.bincount(owner, minlength=bags) if bags else module.zeros(0, np.int64)
        filled = module.nonzero(counts)[0]
        first = (module.cumsum(counts) - counts)[filled]
        winner = None
        if len(place):
            if scales is not None:
                rows = rows * scales[place][:, None].astype(carry)
            if mode == "max":
                out[filled], winner = _row_maxima(module, rows, first, counts[filled])
            else:
                out[filled] = _row_sums(module, rows, first)
        if mode == "mean":
            out /= module.maximum(counts, 1)[:, None].astype(carry)
        ctx.save(weight, index, offsets, scales)
        ctx.state = (flat, place, owner, counts, filled, winner)
        return out.astype(weight.dtype, copy=False)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        weight, _, _, scales = ctx.saved
        flat, place, owner, counts, filled, winner = ctx.state
        mode, shape = ctx.attributes["mode"], tuple(weight.shape)
        module = module_of(grad)
        rows = grad[owner]
        dscales = None
        if scales is not None and ctx.needs_grad[3]:
            dscales = module.zeros_like(scales)
            dscales[place] = (module.take(weight, flat[place], axis=0) * rows).sum(axis=1)
        if not ctx.needs_grad[0]:
            return None, None, None, dscales
        if scales is not None:
            rows = rows * scales[place][:, None]
        if mode == "mean":
            rows = rows / counts[owner][:, None].astype(grad.dtype)
        if mode == "max":
            chosen = module.zeros_like(rows)
            if winner is not None:
                chosen[winner, module.arange(shape[1])[None]] = grad[filled]
            rows = chosen
        by_frequency = ctx.attributes["scale_grad_by_freq"]
        return _table_gradient(rows, flat[place], shape, by_frequency, None), None, None, dscales

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(101)
        weight = rng.standard_normal((6, 3))
        index, offsets = np.array([0, 2, 5, 2, 1, 4, 4]), np.array([0, 3, 3])

        def case(label: str, mode: str, scales: Any = None, **kw: Any) -> Sample:
            attributes = {
                "mode": mode, "padding_idx": None, "scale_grad_by_freq": False, "last_offset": False, **kw
            }  # fmt: skip
            return Sample(
                label, (weight, index, offsets, scales), attributes, differentiable=not attributes["scale_grad_by_freq"]
            )

        for mode in ("sum", "mean", "max"):
            yield case(mode, mode)
            yield case(f"{mode}, padding", mode, padding_idx=2)
            yield case(f"{mode}, last offset", mode, last_offset=True)
        yield case("weighted", "sum", rng.standard_normal(7))
        yield case("by frequency", "sum", scale_grad_by_freq=True)
        yield Sample(
            "empty batch",
            (weight, np.zeros(0, int), np.zeros(0, int), None),
            {"mode": "sum", "padding_idx": None, "scale_grad_by_freq": False, "last_offset": False},
        )


def _row_maxima(module: Any, rows: Any, first: Any, counts: Any) -> tuple[Any, Any]:
    """The maxima of runs of rows, and which row each is from (the first of equals)."""
    best = rows[first]
    winner = module.repeat(first[:, None], rows.shape[1], axis=1)
    for rank in range(1, int(counts.max())):
        place = module.minimum(first + rank, len(rows) - 1)[:, None]
        candidate = rows[place[:, 0]]
        better = (candidate > best) & (counts > rank)[:, None]
        best = module.where(better, candidate, best)
        winner = module.where(better, place, winner)
    return best, winner


register(Embedding())
register(EmbeddingBag())
