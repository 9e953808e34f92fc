"""Multi-label hinge loss: loss_n = 1 / C sum over labels j of n, and classes i that are none, of max(0, 1 - x_j + x_i).

x (N, C) or (C,), target of its shape: int64 labels, each row's up to the first -1. PyTorch's definition. Work arrays
hold N C C elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.error_word import check_values
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.losses import REDUCTIONS, check_reduction


class MultiLabelMarginLoss(Op):
    """Hinges between the labels and the other classes."""

    name = "multilabel_margin_loss"
    autocast = "float32"

    def infer(self, *inputs: Any, reduction: str) -> Inferred:
        x, target = inputs
        check_reduction(self.name, reduction)
        require_floating(self.name, "input", x)
        if target.dtype.name != "int64":
            raise DTypeError(f"{self.name}: target must hold int64 class indices, got {target.dtype.name}")
        if x.ndim > 2 or (x.ndim and x.shape[-1] == 0):
            raise ShapeError(f"{self.name}: input must be (C,) or (N, C) with classes, got {tuple(x.shape)}")
        if tuple(target.shape) != tuple(x.shape):
            raise ShapeError(
                f"{self.name}: target must have the input's shape {tuple(x.shape)}, got {tuple(target.shape)}"
            )
        return Inferred((Spec(tuple(x.shape[:-1]) if reduction == "none" else (), x.dtype),))

    def _hinges(self, module: Any, x: Any, target: Any) -> tuple[Any, Any, Any]:
        """max(0, 1 - x_j + x_i) as (N, labels, C), 0 for what does not count; the labels, and which are given."""
        classes = x.shape[1]
        given = (target < 0).cumsum(axis=1) == 0
        labels = module.where(given, target, 0)
        places = (labels[:, :, None] == module.arange(classes)) & given[:, :, None]
        hinges = 1 - module.take_along_axis(x, labels, 1)[:, :, None] + x[:, None, :]
        counts = (hinges > 0) & given[:, :, None] & ~places.any(axis=1)[:, None, :]
        return module.where(counts, hinges, x.dtype.type(0)), counts, places

    def forward(self, ctx: Context, *inputs: Any, reduction: str) -> Any:
        x, target = inputs
        module = module_of(x)
        rows = x.reshape(-1, x.shape[-1] if x.ndim else 1).astype(compute_dtype(x.dtype), copy=False)
        target = target.reshape(rows.shape)
        check_values(
            "target", (target < -1) | (target >= rows.shape[1]), f"C = {rows.shape[1]}, and -1 ends the labels"
        )
        hinges, counts, places = self._hinges(module, rows, module.minimum(target, rows.shape[1] - 1))
        ctx.state = (counts, places, tuple(x.shape), x.dtype)
        losses = hinges.sum(axis=(1, 2)) / rows.dtype.type(rows.shape[1])
        if reduction == "none":
            return losses.reshape(x.shape[:-1]).astype(x.dtype, copy=False)
        return module.asarray(losses.mean() if reduction == "mean" else losses.sum(), x.dtype)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        counts, places, shape, dtype = ctx.state
        carry = compute_dtype(dtype)
        slopes = counts.sum(axis=1) - (counts.sum(axis=2)[:, :, None] * places).sum(axis=1)
        rows = len(counts) if ctx.attributes["reduction"] == "mean" else 1
        scale = grad.astype(carry, copy=False).reshape(-1, 1) / carry.type(max(rows, 1) * counts.shape[2])
        return (slopes.astype(carry) * scale).reshape(shape).astype(dtype, copy=False), None

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(83)
        x = rng.standard_normal((4, 5))
        labels = np.array([[1, 0, -1, 2, 3], [4, -1, 0, 1, -1], [3, 1, 2, 0, 4], [-1, 0, 0, 0, 0]])
        for reduction in REDUCTIONS:
            yield Sample(reduction, (x, labels), {"reduction": reduction})
        yield Sample("1-d", (x[0], labels[0]), {"reduction": "mean"})
        yield Sample("0-d", (x[0, 0], np.array(0)), {"reduction": "mean"}, differentiable=False)
        yield Sample("a label twice", (x[:1], np.array([[1, 1, 3, -1, 0]])), {"reduction": "sum"})
        yield Sample("empty batch", (x[:0], labels[:0]), {"reduction": "sum"})


register(MultiLabelMarginLoss())
