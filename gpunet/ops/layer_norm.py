"""Layer normalisation (Ba, Kiros and Hinton 2016) and its form without the mean (Zhang and Sennrich 2019).

Over the last dimensions, K elements for each of the M rows that the others leave:

    layer_norm:  mean = sum x / K,  var = sum (x - mean)^2 / K,   xhat = (x - mean) / sqrt(var + eps)
    rms_norm:    mean = 0,          var = sum x^2 / K,            xhat = x / sqrt(var + eps)
    y = gamma xhat + beta

    dgamma = sum_rows g xhat,   dbeta = sum_rows g
    dx = (gamma g - s1 - xhat s2) / sqrt(var + eps),   s1 = sum gamma g / K (layer_norm alone),
                                                       s2 = sum gamma g xhat / K

x (..., *normalized_shape), gamma and beta (*normalized_shape). Half types are carried in float32. The rows are read in
the order in which they lie in memory where that keeps each of them in one piece (an NHWC batch normalised over
(C, H, W)); other inputs are copied once. The CPU path works on blocks of rows that stay in cache; sums over a row are
products with a vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.backend.memory import empty, scratch
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.channels import require_parameter_dtype, run_blocks
from gpunet.ops.dtypes import compute_dtype

__all__ = ["LayerNorm", "RMSNorm"]

Shape = tuple[int, ...]

_BLOCK = 1 << 17  # elements: the four arrays of a block share a core's second-level cache
_SHORT = 512  # elements of a row: up to here NumPy's loop over a row costs as much as what it does
_LONG = 1 << 12  # elements of a row: from here on sums over it are taken pairwise


def _physical_order(x: Any, count: int) -> Shape:
    """The axes, the last ``count`` of them kept last, each part in the order in which it lies in memory."""
    lead = x.ndim - count

    def by_stride(axes: range) -> list[int]:
        return sorted(axes, key=lambda axis: -x.strides[axis])

    order = (*by_stride(range(lead)), *by_stride(range(lead, x.ndim)))
    return order if x.transpose(order).flags.c_contiguous else tuple(range(x.ndim))


def _row_sums(rows: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The sum of each row: a product with ones where the rows are short, pairwise where digits could be lost."""
    if rows.shape[1] > _LONG:
        return np.add.reduce(rows, axis=1, out=out)
    return np.matmul(rows, np.ones(rows.shape[1], rows.dtype), out=out)


def _outer(column: Any, row: Any, shape: Shape, dtype: Any) -> np.ndarray:
    """column[r] row[c] in the thread's work array.

    A product of matrices, whose second rank is zero: NumPy would start a loop for each row, and for short rows those
    cost three times the arithmetic.
    """
    pair = np.zeros((shape[0], 2), dtype)
    pair[:, 0] = column
    other = np.zeros((2, shape[1]), dtype)
    other[0] = row
    return np.matmul(pair, other, out=scratch("layer_norm.outer", shape, dtype))


def _subtract_column(y: np.ndarray, column: np.ndarray, out: np.ndarray) -> None:
    """out = y - column[:, None]."""
    spread = _outer(column, 1, y.shape, y.dtype) if y.shape[1] < _SHORT else column[:, None]
    np.subtract(y, spread, out=out)


def _multiply(y: np.ndarray, column: np.ndarray, row: np.ndarray | None, out: np.ndarray) -> None:
    """out = y * column[:, None] * row."""
    if y.shape[1] < _SHORT:
        np.multiply(y, _outer(column, 1 if row is None else row, y.shape, y.dtype), out=out)
        return
    np.multiply(y, column[:, None], out=out)
    if row is not None:
        out *= row


def _normalize_rows(
    rows: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, eps: float, centre: bool
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """y, the rows' means and 1 / sqrt(var + eps)."""
    count, length = rows.shape
    dtype = rows.dtype
    out = empty(rows.shape, dtype)
    mean = np.empty(count, dtype) if centre else None
    inverse = np.empty(count, dtype)
    step = max(1, _BLOCK // length)
    share = dtype.type(1.0 / length)

    def run(index: int) -> None:
        block = slice(index * step, (index + 1) * step)
        x, y, scale = rows[block], out[block], inverse[block]
        if mean is not None:
            middle = _row_sums(x, mean[block])
            middle *= share
            _subtract_column(x, middle, y)
            x = y
        np.vecdot(x, x, out=scale)
        scale *= share
        scale += dtype.type(eps)
        np.sqrt(scale, out=scale)
        np.reciprocal(scale, out=scale)
        _multiply(x, scale, weight, y)
        if bias is not None:
            y += _outer(1, bias, y.shape, dtype) if length < _SHORT else bias

    run_blocks(-(-count // step), rows.size, run)
    return out, mean, inverse


def _backward_rows(
    dy: np.ndarray, rows: np.ndarray, weight: np.ndarray | None, mean: np.ndarray | None, inverse: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx, dgamma and dbeta."""
    count, length = rows.shape
    dtype = rows.dtype
    dx = empty(rows.shape, dtype)
    step = max(1, _BLOCK // length)
    blocks = -(-count // step)
    parts = min(blocks, 64)
    # Short rows: each part of the blocks has its own sums. Long ones: the sums are taken column by column afterwards.
    long = length > _LONG
    sums = np.zeros((2, 1 if long else parts, length), np.float64)
    share = dtype.type(1.0 / length)
    gamma = np.ones(length, dtype) if weight is None else weight

    def run(part: int) -> None:
        for index in range(part * blocks // parts, (part + 1) * blocks // parts):
            block = slice(index * step, (index + 1) * step)
            x, g, out, scale = rows[block], dy[block], dx[block], inverse[block]
            if mean is None:
                centred = x
            else:
                centred = scratch("layer_norm.centred", x.shape, dtype)
                _subtract_column(x, mean[block], centred)
            product = np.multiply(g, centred, out=out)
            if not long:
                sums[0, part] += scale @ product
                sums[1, part] += np.ones(len(x), dtype) @ g
            second = product @ gamma
            second *= scale
            second *= scale
            second *= scale
            second *= share
            _multiply(g, scale, weight, out)
            work = centred if mean is not None else scratch("layer_norm.centred", x.shape, dtype)
            _multiply(centred, second, None, work)
            out -= work
            if mean is not None:
                first = g @ gamma
                first *= share
                first *= scale
                _subtract_column(out, first, out)

    def run_columns(index: int) -> None:
        block = slice(index * _LONG, (index + 1) * _LONG)
        for start in range(0, count, 16):
            some = slice(start, start + 16)
            g = dy[some, block]
            part = scratch("layer_norm.centred", g.shape, dtype)
            np.multiply(rows[some, block] if mean is None else rows[some, block] - mean[some, None], g, out=part)
            sums[0, 0, block] += inverse[some] @ part
            sums[1, 0, block] += g.sum(axis=0)

    run_blocks(parts, rows.size, run)
    if long:
        run_blocks(-(-length // _LONG), rows.size, run_columns)
    dgamma, dbeta = sums.sum(axis=1)
    return dx, dgamma, dbeta


class _RowNorm(Op):
    """What the two have in common."""

    autocast = "float32"
    _centred: bool

    def _infer(self, x: Any, parameters: tuple[tuple[str, Any], ...], normalized_shape: Shape, eps: float) -> Inferred:
        shape = tuple(x.shape)
        if not normalized_shape:
            raise ShapeError(f"{self.name}: normalized_shape must name at least one dimension, got ()")
        if shape[len(shape) - len(normalized_shape) :] != normalized_shape or len(shape) < len(normalized_shape):
            raise ShapeError(
                f"{self.name}: the last dimensions of input must be normalized_shape {normalized_shape}, "
                f"got an input of shape {shape}"
            )
        require_floating(self.name, "input", x)
        for name, value in parameters:
            if value is not None and tuple(value.shape) != normalized_shape:
                raise ShapeError(
                    f"{self.name}: {name} must have shape {normalized_shape}, as normalized_shape says, "
                    f"got {tuple(value.shape)}"
                )
            require_parameter_dtype(self.name, name, value, x)
        return Inferred((Spec(shape, x.dtype),))

    def supports(self, *inputs: Any, **attributes: Any) -> tuple[str, str]:
        if isinstance(inputs[0], np.ndarray):
            return "cpu", "blocks of rows that fit the L2 cache"
        return "array", "no hand-written kernel yet: array-module operations"

    def _reference(self, x: Any, weight: Any, bias: Any, normalized_shape: Shape, eps: float) -> Any:
        if x.size == 0:
            return x.copy()
        axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
        centred = x - x.mean(axis=axes, keepdims=True) if self._centred else x
        y = centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + eps)
        y = y if weight is None else y * weight
        return y if bias is None else y + bias

    def _forward(self, ctx: Context, x: Any, weight: Any, bias: Any, normalized_shape: Shape, eps: float) -> Any:
        path = self.path(x)
        if path == "reference" or x.size == 0:
            ctx.save(x, weight)
            ctx.state = (None, None, None, None if bias is None else bias.dtype)
            return self._reference(x, weight, bias, normalized_shape, eps)
        module = module_of(x)
        count = len(normalized_shape)
        order = _physical_order(x, count)
        carry = compute_dtype(x.dtype)
        rows = _as_rows(module, x, order, count, carry)
        gamma, beta = (_as_row(value, order, count, carry) for value in (weight, bias))
        if path == "cpu":
            y, mean, inverse = _normalize_rows(rows, gamma, beta, eps, self._centred)
        else:
            mean = rows.mean(axis=1) if self._centred else None
            centred = rows if mean is None else rows - mean[:, None]
            inverse = 1 / module.sqrt(module.square(centred).mean(axis=1) + carry.type(eps))
            y = centred * inverse[:, None]
            y = y if gamma is None else y * gamma
            y = y if beta is None else y + beta
        ctx.save(x, weight)
        ctx.state = (order, mean, inverse, None if bias is None else bias.dtype)
        return _from_rows(y, x, order)

    def _backward(self, ctx: Context, grad: Any) -> tuple[Any, Any, Any]:
        x, weight = ctx.saved
        order, mean, inverse, bias_dtype = ctx.state
        module = module_of(x)
        count = len(ctx.attributes["normalized_shape"])
        if x.size == 0:
            like = x.shape[x.ndim - count :]
            return (
                module.zeros_like(x),
                None if weight is None else module.zeros_like(weight),
                None if bias_dtype is None else module.zeros(like, bias_dtype),
            )
        carry = compute_dtype(x.dtype)
        rows, dy = (_as_rows(module, value, order, count, carry) for value in (x, grad))
        gamma = _as_row(weight, order, count, carry)
        if self.path(x) == "cpu":
            dx, dgamma, dbeta = _backward_rows(dy, rows, gamma, mean, inverse)
        else:
            xhat = (rows if mean is None else rows - mean[:, None]) * inverse[:, None]
            product = dy * xhat
            dgamma, dbeta = product.sum(axis=0, dtype=np.float64), dy.sum(axis=0, dtype=np.float64)
            scaled = dy if gamma is None else dy * gamma
            dx = scaled - xhat * (scaled * xhat).mean(axis=1)[:, None]
            dx = dx if mean is None else dx - scaled.mean(axis=1)[:, None]
            dx = dx * inverse[:, None]
        return (
            _from_rows(dx, x, order) if ctx.needs_grad[0] else None,
            _from_row(dgamma, x, order, count).astype(weight.dtype) if ctx.needs_grad[1] else None,
            _from_row(dbeta, x, order, count).astype(bias_dtype) if bias_dtype is not None else None,
        )

    def _cases(self) -> Iterator[tuple[str, Any, tuple[Any, Any], Shape]]:
        rng = np.random.default_rng(71)

        def case(label: str, shape: Shape, count: int, affine: str = "both", nhwc: bool = False) -> Any:
            x = rng.standard_normal(shape) * 2 + 1
            if nhwc:
                x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
            normalized = shape[len(shape) - count :]
            weight, bias = rng.standard_normal(normalized), rng.standard_normal(normalized)
            chosen = (None if affine in ("none", "bias") else weight, None if affine in ("none", "weight") else bias)
            return label, x, chosen, normalized

        yield case("features", (4, 7), 1)
        yield case("a sequence", (3, 5, 8), 1)
        yield case("two dimensions", (3, 4, 5), 2)
        yield case("images", (2, 3, 4, 5), 3)
        yield case("images, channels last", (2, 3, 4, 5), 3, nhwc=True)
        yield case("columns, channels last", (2, 3, 4, 5), 1, nhwc=True)
        yield case("everything", (3, 4), 2)
        yield case("no affine", (4, 7), 1, "none")
        yield case("weight alone", (4, 7), 1, "weight")
        yield case("several blocks", (40, 50, 64), 1)
        yield case("long rows", (3, 4100), 1)
        yield case("empty batch", (0, 5), 1)


def _as_rows(module: Any, x: Any, order: Shape, count: int, carry: Any) -> Any:
    """(M, K), in the physical order that x was found to have."""
    moved = x.transpose(order)
    rows = moved.reshape(math.prod(moved.shape[: x.ndim - count]), -1)
    return module.ascontiguousarray(rows).astype(carry, copy=False)


def _as_row(value: Any, order: Shape, count: int, carry: Any) -> Any:
    """A weight or bias as the K numbers that meet a row."""
    if value is None:
        return None
    lead = len(order) - count
    return value.transpose([axis - lead for axis in order[lead:]]).reshape(-1).astype(carry, copy=False)


def _from_rows(rows: Any, x: Any, order: Shape) -> Any:
    """Rows in x's logical shape and dtype."""
    back = sorted(range(x.ndim), key=order.__getitem__)
    return rows.reshape([x.shape[axis] for axis in order]).transpose(back).astype(x.dtype, copy=False)


def _from_row(row: Any, x: Any, order: Shape, count: int) -> Any:
    """K numbers in the logical shape of a weight."""
    lead = x.ndim - count
    axes = order[lead:]
    return row.reshape([x.shape[axis] for axis in axes]).transpose(sorted(range(count), key=axes.__getitem__))


class LayerNorm(_RowNorm):
    """Inputs x, weight, bias; y = weight (x - mean) / sqrt(var + eps) + bias over the last dimensions."""

    name = "layer_norm"
    _centred = True

    def infer(self, *inputs: Any, normalized_shape: Shape, eps: float) -> Inferred:
        x, weight, bias = inputs
        return self._infer(x, (("weight", weight), ("bias", bias)), normalized_shape, eps)

    def reference(self, *inputs: Any, normalized_shape: Shape, eps: float) -> Any:
        x, weight, bias = inputs
        return self._reference(x, weight, bias, normalized_shape, eps)

    def forward(self, ctx: Context, *inputs: Any, normalized_shape: Shape, eps: float) -> Any:
        x, weight, bias = inputs
        return self._forward(ctx, x, weight, bias, normalized_shape, eps)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        dx, dweight, dbias = self._backward(ctx, grad_outputs[0])
        return dx, dweight, dbias if ctx.needs_grad[2] else None

    def samples(self) -> Iterator[Sample]:
        for label, x, (weight, bias), shape in self._cases():
            yield Sample(label, (x, weight, bias), {"normalized_shape": shape, "eps": 1e-5})


class RMSNorm(_RowNorm):
    """Inputs x, weight; y = weight x / sqrt(mean x^2 + eps) over the last dimensions."""

    name = "rms_norm"
    _centred = False

    def infer(self, *inputs: Any, normalized_shape: Shape, eps: float) -> Inferred:
        x, weight = inputs
        return self._infer(x, (("weight", weight),), normalized_shape, eps)

    def reference(self, *inputs: Any, normalized_shape: Shape, eps: float) -> Any:
        x, weight = inputs
        return self._reference(x, weight, None, normalized_shape, eps)

    def forward(self, ctx: Context, *inputs: Any, normalized_shape: Shape, eps: float) -> Any:
        x, weight = inputs
        return self._forward(ctx, x, weight, None, normalized_shape, eps)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        return self._backward(ctx, grad_outputs[0])[:2]

    def samples(self) -> Iterator[Sample]:
        for label, x, (weight, _), shape in self._cases():
            yield Sample(label, (x, weight), {"normalized_shape": shape, "eps": 1e-5})


register(LayerNorm())
register(RMSNorm())
