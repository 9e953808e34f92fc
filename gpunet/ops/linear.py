"""Linear layers and matrix products.

linear:  y = activation(z + residual),  z = x W^T + b      x (..., I), W (O, I), b (O,), residual and y (..., O)
         dx = dz W,  dW = dz^T x,  db = sum of dz over all but the last dimension;  the epilogue: ``epilogue``
matmul:  NumPy's and PyTorch's: 1-d operands gain and lose a dimension, leading dimensions broadcast
         dA = dC B^T,  dB = A^T dC
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.backend.kernels import uses_kernels
from gpunet.ops import gemm_cuda
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_same_dtype
from gpunet.ops.dtypes import BOOL, compute_dtype
from gpunet.ops.elementwise import broadcast_shapes, unbroadcast
from gpunet.ops.epilogue import add_epilogue, check_epilogue, masked_gradient, reference_epilogue
from gpunet.ops.gemm import matrix_product
from gpunet.ops.gemm_cuda import column_sums_cuda, matrix_product_cuda


def _rows(x: Any) -> Any:
    """All but the last dimension made one; -1 could not say how many rows have no elements."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _product(a: Any, b: Any, bias: Any = None, residual: Any = None, activation: str | None = None) -> Any:
    """activation(a b + bias + residual) by the array module."""
    y = matrix_product(a, b)
    if bias is not None:
        y += bias
    add_epilogue(y, residual, activation)
    return y


def _product_cuda(a: Any, b: Any, bias: Any = None, residual: Any = None, activation: str | None = None) -> Any:
    """activation(a b + bias + residual) by one kernel; half types are carried in float32 to the end."""
    carry = compute_dtype(a.dtype)
    shift, added = (value if value is None else value.astype(carry, copy=False) for value in (bias, residual))
    y = matrix_product_cuda(a.astype(carry, copy=False), b.astype(carry, copy=False), shift, added, activation)
    return y.astype(a.dtype, copy=False)


def _sums(a: Any) -> Any:
    """The sum of each column, in the dtype that sums are carried in."""
    return a.sum(axis=0, dtype=compute_dtype(a.dtype))


def _sums_cuda(a: Any) -> Any:
    return column_sums_cuda(a.astype(compute_dtype(a.dtype), copy=False))


class Linear(Op):
    """y = x W^T + b, plus a residual and through a ReLU if asked."""

    name = "linear"
    autocast = "lower"
    epilogue = ("bias", "residual", "activation")

    def infer(self, *inputs: Any, activation: str | None = None) -> Inferred:
        x, weight, bias, residual = inputs
        if weight.ndim != 2:
            raise ShapeError(f"linear: weight must be 2-d (out_features, in_features), got shape {tuple(weight.shape)}")
        if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
            raise ShapeError(
                f"linear: input must have {weight.shape[1]} features in its last dimension "
                f"(weight has shape {tuple(weight.shape)}), got shape {tuple(x.shape)}"
            )
        if bias is not None and tuple(bias.shape) != (weight.shape[0],):
            raise ShapeError(f"linear: bias must have shape ({weight.shape[0]},), got {tuple(bias.shape)}")
        require_same_dtype("linear", input=x, weight=weight, bias=bias, residual=residual)
        shape = (*x.shape[:-1], weight.shape[0])
        check_epilogue("linear", shape, residual, activation)
        return Inferred((Spec(shape, x.dtype),), math.prod(shape) * weight.shape[1])

    def reference(self, *inputs: Any, activation: str | None = None) -> Any:
        x, weight, bias, residual = inputs
        z = np.einsum("...i,oi->...o", x, weight)
        return reference_epilogue(z if bias is None else z + bias, residual, activation)

    def reference_backward(self, grad_outputs: tuple[Any, ...], inputs: tuple[Any, ...], **attributes: Any) -> Any:
        (dz,) = grad_outputs
        x, weight, bias, residual = inputs
        if attributes.get("activation") == "relu":
            dz = np.where(self.reference(*inputs, **attributes) > 0, dz, 0)
        dbias = None if bias is None else dz.sum(axis=tuple(range(dz.ndim - 1)))
        dweight = np.einsum("ro,ri->oi", _rows(dz), _rows(x))
        return np.einsum("...o,oi->...i", dz, weight), dweight, dbias, None if residual is None else dz

    def supports(self, *inputs: Any, activation: str | None = None) -> tuple[str, str]:
        x, weight = inputs[:2]
        if not uses_kernels(x):
            return "cpu", "a matrix product of the BLAS library, cut for the threads"
        rows, (outer, inner) = math.prod(x.shape[:-1]), weight.shape
        dtype = compute_dtype(x.dtype)
        # Whoever takes y's product takes those of dx and dw as well.
        products = [
            gemm_cuda.supports(*size, dtype)
            for size in ((rows, outer, inner), (rows, inner, outer), (outer, inner, rows))
        ]
        return next((choice for choice in products if choice[0] != "cuda"), products[0])

    def forward(self, ctx: Context, *inputs: Any, activation: str | None = None) -> Any:
        x, weight, bias, residual = inputs
        # Once for both directions.
        path = self.path(*inputs, activation=activation)
        if path == "reference":
            y = self.reference(*inputs, activation=activation)
        else:
            product = _product_cuda if path == "cuda" else _product
            added = None if residual is None else _rows(residual)
            y = product(_rows(x), weight.T, bias, added, activation).reshape(*x.shape[:-1], weight.shape[0])
        kept = None if activation is None else y
        ctx.save(x if ctx.needs_grad[1] else None, weight if ctx.needs_grad[0] else None, kept)
        ctx.state = path, tuple(x.shape)
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        x, weight, y = ctx.saved
        path, shape = ctx.state
        if y is not None:
            grad = masked_gradient(grad, y)
        product, sums = (_product_cuda, _sums_cuda) if path == "cuda" else (_product, _sums)
        flat = _rows(grad)
        dx = product(flat, weight).reshape(shape) if ctx.needs_grad[0] else None
        dweight = product(flat.T, _rows(x)) if ctx.needs_grad[1] else None
        dbias = sums(flat).astype(flat.dtype, copy=False) if ctx.needs_grad[2] else None
        return dx, dweight, dbias, grad if ctx.needs_grad[3] else None

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(37)

        def case(label: str, rows: tuple[int, ...], inner: int, outer: int, **options: Any) -> Sample:
            x, weight = rng.standard_normal((*rows, inner)), rng.standard_normal((outer, inner))
            bias = rng.standard_normal(outer) if options.pop("bias", True) else None
            residual = rng.standard_normal((*rows, outer)) if options.pop("residual", False) else None
            return Sample(label, (x, weight, bias, residual), {"activation": None, **options})

        yield case("batch", (5,), 3, 4)
        yield case("no bias", (5,), 3, 4, bias=False)
        yield case("1-d", (), 3, 4)
        yield case("3-d", (2, 5), 3, 1)
        transposed = rng.standard_normal((3, 5)).T, rng.standard_normal((3, 4)).T, None, None
        yield Sample("transposed", transposed, {"activation": None})
        yield case("threads", (300,), 200, 160, bias=False)
        yield case("empty batch", (0,), 3, 4)
        yield case("relu", (5,), 3, 4, activation="relu")
        yield case("residual", (5,), 3, 4, bias=False, residual=True)
        yield case("residual and relu", (2, 5), 3, 4, residual=True, activation="relu")
        yield case("1-d, residual and relu", (), 3, 4, residual=True, activation="relu")
        yield case("threads, residual and relu", (300,), 200, 160, residual=True, activation="relu")
        strided = rng.standard_normal((4, 7)).T, rng.standard_normal((3, 4)), None, rng.standard_normal((3, 7)).T
        yield Sample("transposed residual", strided, {"activation": "relu"})
        yield case("empty batch, residual and relu", (0,), 3, 4, residual=True, activation="relu")


register(Linear())


class MatMul(Op):
    """C = A B."""

    name = "matmul"
    autocast = "lower"

    def infer(self, *inputs: Any, **attributes: Any) -> Inferred:
        a, b = inputs
        if a.ndim == 0 or b.ndim == 0:
            raise ShapeError(f"matmul: operands must have at least one dimension, got {a.ndim}-d and {b.ndim}-d")
        require_same_dtype("matmul", input=a, other=b)
        if a.dtype == BOOL:
            raise DTypeError("matmul: not defined for bool; cast both operands first")
        rows = tuple(a.shape[-2:-1])
        columns = tuple(b.shape[-1:]) if b.ndim > 1 else ()
        inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
        if a.shape[-1] != inner:
            raise ShapeError(
                f"matmul: inner sizes must agree, got {a.shape[-1]} and {inner} "
                f"of shapes {tuple(a.shape)} and {tuple(b.shape)}"
            )
        stack = broadcast_shapes("matmul", tuple(a.shape[:-2]), tuple(b.shape[:-2]))
        shape = (*stack, *rows, *columns)
        return Inferred((Spec(shape, a.dtype),), math.prod(shape) * inner)

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        a, b = inputs
        ctx.save(a, b)
        if a.dtype.kind in "bui":
            return module_of(a).matmul(a, b)
        left = a[None, :] if a.ndim == 1 else a
        right = b[:, None] if b.ndim == 1 else b
        c = matrix_product(left, right)
        if a.ndim == 1:
            c = c[..., 0, :]
        return c[..., 0] if b.ndim == 1 else c

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        a, b = ctx.saved
        left = a[None, :] if a.ndim == 1 else a
        right = b[:, None] if b.ndim == 1 else b
        if b.ndim == 1:
            grad = grad[..., None]
        if a.ndim == 1:
            grad = grad[..., None, :]
        da = db = None
        if ctx.needs_grad[0]:
            da = unbroadcast(matrix_product(grad, right.swapaxes(-1, -2)), left).reshape(a.shape)
        if ctx.needs_grad[1]:
            db = unbroadcast(matrix_product(left.swapaxes(-1, -2), grad), right).reshape(b.shape)
        return da, db

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(41)
        for label, left, right in (
            ("matrices", (3, 4), (4, 2)),
            ("vectors", (4,), (4,)),
            ("matrix, vector", (3, 4), (4,)),
            ("vector, stack", (4,), (2, 4, 3)),
            ("stacks broadcast", (2, 1, 3, 4), (5, 4, 2)),
            ("empty inner", (3, 0), (0, 2)),
            ("empty batch", (0, 3, 4), (4, 2)),
        ):
            yield Sample(label, (rng.standard_normal(left), rng.standard_normal(right)))
        yield Sample("transposed", (rng.standard_normal((4, 3)).T, rng.standard_normal((2, 4)).T))


register(MatMul())
