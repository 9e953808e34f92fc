"""Distances and angles between vectors along a dimension.

    cosine            sum_i x_i y_i / (|x| |y|), norms at least eps; with ``added``: / sqrt((x.x + eps) (y.y + eps))
    pairwise_distance (sum_i |x_i - y_i + eps|^p)^(1/p)

Both sides have one shape; PyTorch's definitions. For each vector a few numbers are kept, and the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.chunked import Work
from gpunet.ops.dtypes import compute_dtype, is_floating, result_type
from gpunet.ops.reduce import normalize_axis
from gpunet.ops.rows import Rows
from gpunet.ops.softmax import row_dots


class _Pairs(Op):
    """One number for each pair of vectors."""

    autocast = "float32"

    def _infer(self, op: str, x: Any, y: Any, dim: int, keepdim: bool) -> Inferred:
        if tuple(x.shape) != tuple(y.shape):
            raise ShapeError(f"{op}: inputs must have one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
        if x.ndim == 0:
            raise ShapeError(f"{op}: inputs must have at least one dimension, got 0-d tensors")
        dtype = result_type(x, y)
        if not is_floating(dtype):
            raise DTypeError(f"{op}: inputs must be floating point, got {dtype.name}")
        axis = normalize_axis(op, dim, x.ndim)
        shape = tuple(x.shape)
        return Inferred((Spec(shape[:axis] + (1,) * keepdim + shape[axis + 1 :], dtype),))

    def _rows(self, x: Any, y: Any, dim: int) -> tuple[Rows, Any, Any, Any]:
        rows = Rows(tuple(x.shape), dim % x.ndim, x, y)
        return rows, rows.view(x), rows.view(y), compute_dtype(result_type(x, y))

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(101)
        base = self.base()
        yield Sample("rows", (rng.standard_normal((3, 5)), rng.standard_normal((3, 5))), {**base, "dim": 1})
        yield Sample("columns", (rng.standard_normal((3, 5)), rng.standard_normal((3, 5))), {**base, "dim": 0})
        image = rng.standard_normal((2, 2, 3, 3, 4))
        yield Sample("channels last", tuple(x.transpose(0, 3, 1, 2) for x in image), {**base, "dim": 1})
        yield Sample("two orders", (image[0], np.asfortranarray(image[1])), {**base, "dim": -3})
        yield Sample("1-d", (rng.standard_normal(4), rng.standard_normal(4)), {**base, "dim": 0})
        wide = rng.standard_normal((2, 900, 70))
        yield Sample("several blocks", (wide[0], wide[1]), {**base, "dim": 1})
        yield Sample("empty batch", (np.zeros((0, 4)), np.zeros((0, 4))), {**base, "dim": 1})

    def base(self) -> dict[str, Any]:
        """Attributes of the samples."""
        raise NotImplementedError


class Cosine(_Pairs):
    """The cosine of the angle between two vectors."""

    name = "cosine_similarity"

    def infer(self, *inputs: Any, dim: int, eps: float, added: bool = False) -> Inferred:
        return self._infer(self.name, inputs[0], inputs[1], dim, False)

    def forward(self, ctx: Context, *inputs: Any, dim: int, eps: float, added: bool = False) -> Any:
        x, y = inputs
        module = module_of(x)
        rows, left, right, carry = self._rows(x, y, dim)
        cosines, answer = rows.empty_reduced(carry, module)
        # The reciprocals of the norms as they divide, and as their derivative has them.
        norms = tuple(rows.empty_reduced(carry, module)[0] for _ in range(4))
        cosines[...] = 0  # of vectors without elements

        def body(block: Any, part: Any) -> None:
            a, b = left[block].astype(carry, copy=False), right[block].astype(carry, copy=False)
            dot = row_dots(module, a, b)[:, 0]
            for position, vector in enumerate((a, b)):
                square = row_dots(module, vector, vector)[:, 0]
                if added:
                    norm = true = module.sqrt(square + carry.type(eps))
                else:
                    true = module.sqrt(square)
                    norm = module.maximum(true, carry.type(eps))
                norms[position][part] = 1 / norm
                # d|x|/dx = x / |x|, 0 at 0.
                norms[2 + position][part] = module.where(true == 0, 0, 1 / true)
            cosines[part] = dot * norms[0][part] * norms[1][part]

        rows.run(x, carry.itemsize, body)
        ctx.save(x, y)
        ctx.state = (cosines, norms)
        return answer.astype(result_type(x, y), copy=False)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        x, y = ctx.saved
        cosines, norms = ctx.state
        module = module_of(grad)
        rows, left, right, carry = self._rows(x, y, ctx.attributes["dim"])
        scale = rows.view_reduced(grad.astype(carry, copy=False))
        made = [
            rows.empty(value.dtype, module) if needed else (None, None)
            for value, needed in zip((x, y), ctx.needs_grad, strict=True)
        ]

        def body(block: Any, part: Any) -> None:
            sides = left[block].astype(carry, copy=False), right[block].astype(carry, copy=False)
            product = scale[part] * norms[0][part] * norms[1][part]
            for position, (out, _) in enumerate(made):
                if out is None:
                    continue
                # g (y / (|x| |y|) - x cos / |x| d|x|)
                radial = scale[part] * cosines[part] * norms[position][part] * norms[2 + position][part]
                work = Work(module, sides[0].shape, carry)
                result = out[block] if out.dtype == carry else work("out")
                module.multiply(sides[1 - position], product[:, None], out=result)
                module.multiply(sides[position], radial[:, None], out=work("radial"))
                module.subtract(result, work("radial"), out=result)
                if out.dtype != carry:
                    out[block] = result

        rows.run(x, carry.itemsize, body)
        return made[0][1], made[1][1]

    def base(self) -> dict[str, Any]:
        return {"eps": 1e-8}

    def samples(self) -> Iterator[Sample]:
        yield from super().samples()
        x = np.random.default_rng(3).standard_normal((2, 3, 4))
        yield Sample("added", (x[0], x[1]), {"dim": 1, "eps": 0.5, "added": True})


class PairwiseDistance(_Pairs):
    """The p-norm of the difference of two vectors."""

    name = "pairwise_distance"

    def infer(self, *inputs: Any, dim: int, p: float, eps: float, keepdim: bool) -> Inferred:
        return self._infer(self.name, inputs[0], inputs[1], dim, keepdim)

    def _difference(self, work: Work, a: Any, b: Any, eps: float) -> Any:
        m = work.module
        difference = m.subtract(a, b, out=work("difference"))
        return m.add(difference, eps, out=difference)

    def forward(self, ctx: Context, *inputs: Any, dim: int, p: float, eps: float, keepdim: bool) -> Any:
        x, y = inputs
        module = module_of(x)
        rows, left, right, carry = self._rows(x, y, dim)
        norms, answer = rows.empty_reduced(carry, module)
        norms[...] = 0

        def body(block: Any, part: Any) -> None:
            work = Work(module, left[block].shape, carry)
            d = self._difference(work, left[block], right[block], eps)
            if p == 2:
                norms[part] = module.sqrt(row_dots(module, d, d)[:, 0])
                return
            module.abs(d, out=d)
            if p == 1:
                norms[part] = d.sum(axis=1)
            elif p == 0:
                norms[part] = (d != 0).sum(axis=1)
            elif math.isinf(p):
                norms[part] = d.max(axis=1) if p > 0 else d.min(axis=1)
            else:
                norms[part] = module.power(module.power(d, p, out=d).sum(axis=1), 1 / p)

        rows.run(x, carry.itemsize, body)
        ctx.save(x, y)
        ctx.state = norms
        result = answer.astype(result_type(x, y), copy=False)
        return module.expand_dims(result, dim % x.ndim) if keepdim else result

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        x, y = ctx.saved
        norms = ctx.state
        p, eps, dim = ctx.attributes["p"], ctx.attributes["eps"], ctx.attributes["dim"] % x.ndim
        module = module_of(grad)
        rows, left, right, carry = self._rows(x, y, dim)
        scale = rows.view_reduced(grad.astype(carry, copy=False).reshape(rows.reduced.shape))
        dtype = result_type(x, y)
        slope, gradient = rows.empty(dtype, module)

        def body(block: Any, part: Any) -> None:
            work = Work(module, left[block].shape, carry)
            d = self._difference(work, left[block], right[block], eps)
            out = slope[block] if dtype == carry else work("out")
            norm, g = norms[part][:, None], scale[part][:, None]
            if p == 2:
                module.multiply(d, module.where(norm == 0, 0, g / norm), out=out)
            elif p == 1:
                module.multiply(module.sign(d, out=out), g, out=out)
            elif p == 0:
                out[...] = 0
            elif math.isinf(p):  # the largest elements share the gradient
                size = module.abs(d, out=work("size"))
                largest = size == norm
                out[...] = module.sign(d) * largest * (g / largest.sum(axis=1, keepdims=True))
            else:
                size = module.abs(d, out=work("size"))
                ratio = module.where(norm == 0, 0, size / norm)
                out[...] = module.sign(d) * module.where(size == 0, 0, module.power(ratio, p - 1)) * g
            if dtype != carry:
                slope[block] = out

        rows.run(x, carry.itemsize, body)
        dx = gradient.astype(x.dtype, copy=False) if ctx.needs_grad[0] else None
        dy = -gradient.astype(y.dtype, copy=False) if ctx.needs_grad[1] else None
        return dx, dy

    def base(self) -> dict[str, Any]:
        return {"p": 2.0, "eps": 1e-6, "keepdim": False}

    def samples(self) -> Iterator[Sample]:
        yield from super().samples()
        x = np.random.default_rng(5).standard_normal((2, 3, 4))
        for p in (1.0, 3.0, 0.5, math.inf):
            yield Sample(f"p {p}", (x[0], x[1]), {"dim": 1, "p": p, "eps": 1e-6, "keepdim": p == 3.0})


register(Cosine())
register(PairwiseDistance())
