"""Bilinear map of two inputs.

    y[..., o] = sum_ij x[..., i] W[o, i, j] z[..., j] + b[o]

x (..., I), z (..., J) with the same leading dimensions, W (O, I, J), b (O,) or None. With N rows, forward is one
product (N, I) (I, O J) and a sum over j, which is a product of matrices for each row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.ops.base import (
    Context,
    Inferred,
    Op,
    Sample,
    Spec,
    module_of,
    register,
    require_floating,
    require_same_dtype,
)
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.gemm import matrix_product


class Bilinear(Op):
    """x W z + b."""

    name = "bilinear"
    autocast = "lower"

    def infer(self, *inputs: Any, **attributes: Any) -> Inferred:
        x, z, weight, bias = inputs
        require_floating(self.name, "input1", x)
        require_same_dtype(self.name, input1=x, input2=z, weight=weight, bias=bias)
        if weight.ndim != 3:
            raise ShapeError(
                f"bilinear: weight must be 3-d (out_features, in1_features, in2_features), got {tuple(weight.shape)}"
            )
        for name, value, extent in (("input1", x, weight.shape[1]), ("input2", z, weight.shape[2])):
            if value.ndim == 0 or value.shape[-1] != extent:
                raise ShapeError(
                    f"bilinear: {name} must have {extent} features in its last dimension (weight has shape "
                    f"{tuple(weight.shape)}), got shape {tuple(value.shape)}"
                )
        if tuple(x.shape[:-1]) != tuple(z.shape[:-1]):
            raise ShapeError(
                f"bilinear: input1 and input2 must agree but for their last dimension, got shapes "
                f"{tuple(x.shape)} and {tuple(z.shape)}"
            )
        outputs = weight.shape[0]
        if bias is not None and tuple(bias.shape) != (outputs,):
            raise ShapeError(f"bilinear: bias must have shape ({outputs},), got {tuple(bias.shape)}")
        rows = 1
        for extent in x.shape[:-1]:
            rows *= extent
        macs = rows * outputs * weight.shape[1] * weight.shape[2]
        return Inferred((Spec((*x.shape[:-1], outputs), x.dtype),), macs)

    def reference(self, *inputs: Any, **attributes: Any) -> Any:
        x, z, weight, bias = inputs
        y = np.einsum("...i,oij,...j->...o", x, weight, z)
        return y if bias is None else y + bias

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        x, z, weight, bias = inputs
        ctx.save(x, z, weight, bias)
        if self.path(*inputs) == "reference":
            return self.reference(*inputs)
        carry = compute_dtype(x.dtype)
        rows_x, rows_z, w = self._matrices(x, z, weight, carry)
        between = self._between(rows_x, w)
        y = (between @ rows_z[:, :, None])[:, :, 0]
        if bias is not None:
            y = y + bias.astype(carry, copy=False)
        return y.reshape(*x.shape[:-1], w.shape[0]).astype(x.dtype, copy=False)

    def _matrices(self, x: Any, z: Any, weight: Any, carry: Any) -> tuple[Any, Any, Any]:
        rows = 1
        for extent in x.shape[:-1]:
            rows *= extent
        return (
            x.astype(carry, copy=False).reshape(rows, x.shape[-1]),
            z.astype(carry, copy=False).reshape(rows, z.shape[-1]),
            weight.astype(carry, copy=False),
        )

    def _between(self, rows_x: Any, w: Any) -> Any:
        """sum_i x_i W_oij: (N, O, J)."""
        outputs, first, second = w.shape
        flat = w.transpose(1, 0, 2).reshape(first, outputs * second)
        return matrix_product(rows_x, flat).reshape(rows_x.shape[0], outputs, second)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        x, z, weight, bias = ctx.saved
        module = module_of(grad)
        carry = compute_dtype(x.dtype)
        rows_x, rows_z, w = self._matrices(x, z, weight, carry)
        outputs, first, second = w.shape
        dy = grad.astype(carry, copy=False).reshape(rows_x.shape[0], outputs)
        dx = dz = dw = db = None
        if ctx.needs_grad[0]:  # sum_oj dy_o W_oij z_j
            flat = module.ascontiguousarray(w.transpose(2, 0, 1)).reshape(second, outputs * first)
            turned = matrix_product(rows_z, flat).reshape(rows_z.shape[0], outputs, first)
            dx = (dy[:, None, :] @ turned)[:, 0].reshape(x.shape).astype(x.dtype, copy=False)
        if ctx.needs_grad[1]:
            dz = (dy[:, None, :] @ self._between(rows_x, w))[:, 0].reshape(z.shape).astype(z.dtype, copy=False)
        if ctx.needs_grad[2]:
            outer = (dy[:, :, None] * rows_x[:, None, :]).reshape(dy.shape[0], outputs * first)
            dw = matrix_product(outer.T, rows_z).reshape(w.shape).astype(weight.dtype, copy=False)
        if bias is not None and ctx.needs_grad[3]:
            db = dy.sum(axis=0).astype(bias.dtype, copy=False)
        return dx, dz, dw, db

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(109)

        def draw(*shape: int) -> Any:
            return rng.standard_normal(shape)

        yield Sample("rows", (draw(4, 3), draw(4, 5), draw(2, 3, 5), draw(2)))
        yield Sample("no bias", (draw(4, 3), draw(4, 5), draw(2, 3, 5), None))
        yield Sample("1-d", (draw(3), draw(5), draw(2, 3, 5), draw(2)))
        yield Sample("3-d", (draw(2, 3, 4), draw(2, 3, 2), draw(3, 4, 2), draw(3)))
        yield Sample("empty batch", (draw(0, 3), draw(0, 5), draw(2, 3, 5), draw(2)))


register(Bilinear())
