"""Losses, forward and backward in one pass over the data.

cross_entropy (labels): with log-probabilities l = log_softmax(x) over the class dimension, label t, class weights w,
smoothing e and C classes,

    loss_n = (1 - e) * (-w_t l_t) + (e / C) * sum_c (-w_c l_c)

elements whose label is ``ignore_index`` count nothing; "mean" divides by the sum of w_t over the others.
cross_entropy (probabilities): loss_n = -sum_c w_c q_c l_c with q = (1 - e) p + e / C; "mean" divides by the number of
elements. Both are PyTorch's definitions.
mse_loss: (x - t)^2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.error_word import check_values
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.dtypes import compute_dtype, is_floating, result_type
from gpunet.ops.elementwise import broadcast_shapes, unbroadcast
from gpunet.ops.softmax import log_softmax

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(op: str, reduction: Any) -> None:
    """Raise unless the reduction is one there is."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{op}: reduction must be one of {', '.join(map(repr, REDUCTIONS))}, got {reduction!r}")


def _infer_labels(op: str, x: Any, target: Any, weight: Any, reduction: str) -> Inferred:
    """Validate what a loss on class labels takes."""
    check_reduction(op, reduction)
    require_floating(op, "input", x)
    if x.ndim == 0:
        raise ShapeError(f"{op}: input must have a class dimension, got a 0-d tensor")
    axis = 0 if x.ndim == 1 else 1
    shape = tuple(x.shape)
    without = shape[:axis] + shape[axis + 1 :]
    if is_floating(target.dtype):
        if tuple(target.shape) != shape:
            raise ShapeError(
                f"{op}: target of probabilities must have the input's shape {shape}, got {tuple(target.shape)}"
            )
    elif target.dtype.name not in ("int64", "uint8"):
        raise DTypeError(
            f"{op}: target must hold int64 class indices or floating-point probabilities, got {target.dtype.name}"
        )
    elif tuple(target.shape) != without:
        raise ShapeError(
            f"{op}: target must have shape {without} for an input of shape {shape}, got {tuple(target.shape)}"
        )
    if weight is not None and tuple(weight.shape) != (shape[axis],):
        raise ShapeError(f"{op}: weight must have shape ({shape[axis]},), got {tuple(weight.shape)}")
    return Inferred((Spec(without if reduction == "none" else (), x.dtype),))


def _labels(target: Any, ignore_index: int, classes: int) -> tuple[Any, Any]:
    """Labels with the ignored ones made 0, and which count. Bad ones are reported, and on a GPU do not count."""
    module = module_of(target)
    valid = target != ignore_index
    labels = module.where(valid, target, 0).astype(np.int64, copy=False)
    bad = (labels < 0) | (labels >= classes)
    if module is not np or bad.any():
        check_values("target", bad, f"got {int(labels[bad][0])} with C = {classes}" if module is np else "")
        labels, valid = module.where(bad, 0, labels), valid & ~bad
    return labels, valid


class CrossEntropy(Op):
    """Softmax cross-entropy. Input (C,), (N, C) or (N, C, d1, ...); the class dimension is 1, or 0 for a 1-d input."""

    name = "cross_entropy"
    autocast = "float32"

    def infer(self, *inputs: Any, ignore_index: int, reduction: str, label_smoothing: float) -> Inferred:
        x, target, weight = inputs
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError(f"cross_entropy: label_smoothing must lie in 0..1, got {label_smoothing}")
        return _infer_labels(self.name, x, target, weight, reduction)

    def reference(self, *inputs: Any, ignore_index: int, reduction: str, label_smoothing: float) -> Any:
        x, target, weight = inputs
        axis = 0 if x.ndim == 1 else 1
        rows = np.moveaxis(x, axis, -1)
        shape = rows.shape[:-1]
        classes = rows.shape[-1]
        w = np.ones(classes) if weight is None else weight
        rows = rows.reshape(-1, classes)
        losses, total = np.zeros(len(rows)), 0.0
        flat_target = (
            np.moveaxis(target, axis, -1).reshape(-1, classes) if is_floating(target.dtype) else target.reshape(-1)
        )
        for n, row in enumerate(rows):
            logarithm = row - row.max()
            logarithm = logarithm - math.log(sum(math.exp(value) for value in logarithm))
            if is_floating(target.dtype):
                probabilities = (1 - label_smoothing) * flat_target[n] + label_smoothing / classes
                losses[n] = -(w * probabilities * logarithm).sum()
                total += 1
            elif flat_target[n] != ignore_index:
                label = flat_target[n]
                losses[n] = -(1 - label_smoothing) * w[label] * logarithm[label]
                losses[n] -= label_smoothing / classes * (w * logarithm).sum()
                total += w[label]
        if reduction == "none":
            return losses.reshape(shape)
        return np.asarray(losses.sum() / (total if reduction == "mean" else 1.0))

    def forward(self, ctx: Context, *inputs: Any, ignore_index: int, reduction: str, label_smoothing: float) -> Any:
        x, target, weight = inputs
        if self.path(*inputs) == "reference":
            return self.reference(
                *inputs, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
            )
        module = module_of(x)
        axis = 0 if x.ndim == 1 else 1
        classes = x.shape[axis]
        logarithm = log_softmax(x, axis)
        carry = logarithm.dtype
        w = None if weight is None else weight.astype(carry, copy=False)
        kept = None
        over_classes = (-1,) + (1,) * (x.ndim - 1 - axis)
        if is_floating(target.dtype):
            q = target.astype(carry, copy=False)
            if label_smoothing:
                q = q * carry.type(1 - label_smoothing) + carry.type(label_smoothing / classes)
            if w is not None:
                q = q * w.reshape(over_classes)
            losses = -(q * logarithm).sum(axis=axis)
            divisor = carry.type(losses.size)
            ctx.state = ("probabilities", q, w, divisor, carry, target.dtype)
            if ctx.needs_grad[1]:
                kept = logarithm.copy()  # before the softmax takes its place
        else:
            labels, valid = _labels(target, ignore_index, classes)
            picked = module.take_along_axis(logarithm, module.expand_dims(labels, axis), axis).squeeze(axis)
            chosen = valid.astype(carry) if w is None else w[labels] * valid
            losses = -picked * chosen
            if label_smoothing:
                every = logarithm if w is None else logarithm * w.reshape(over_classes)
                smooth = -every.sum(axis=axis) * valid
                losses = losses * carry.type(1 - label_smoothing) + smooth * carry.type(label_smoothing / classes)
            divisor = chosen.sum()
            ctx.state = ("labels", (labels, valid, chosen), w, divisor, carry, None)
        # What backward needs is the softmax; it takes the logarithm's place.
        ctx.save(module.exp(logarithm, out=logarithm) if ctx.needs_grad[0] else None, kept)
        if reduction == "none":
            y = losses
        else:
            y = losses.sum()
            if reduction == "mean":
                y = y / divisor
        return y.astype(x.dtype)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        softmax, logarithm = ctx.saved
        kind, kept, w, divisor, carry, target_dtype = ctx.state
        module = module_of(grad)
        like = logarithm if softmax is None else softmax
        axis = 0 if like.ndim == 1 else 1
        classes = like.shape[axis]
        reduction = ctx.attributes["reduction"]
        smoothing = ctx.attributes["label_smoothing"]
        scale = grad.astype(carry, copy=False)
        if reduction == "mean":
            scale = scale / divisor
        over_classes = (-1,) + (1,) * (like.ndim - 1 - axis)
        if kind == "probabilities":
            # d/dx of -sum_c q_c log p_c = p sum_c q_c - q
            if reduction == "none":
                scale = module.expand_dims(scale, axis)
            dx = dq = None
            if softmax is not None:
                dx = softmax * kept.sum(axis=axis, keepdims=True) - kept
                dx *= scale
                dx = dx.astype(grad.dtype, copy=False)
            if logarithm is not None:
                dq = logarithm * (-scale * carry.type(1 - smoothing))
                dq = (dq if w is None else dq * w.reshape(over_classes)).astype(target_dtype, copy=False)
            return dx, dq, None
        labels, valid, chosen = kept
        # An ignored element counts nothing, even where all are ignored and the mean divides by zero.
        chosen, counted = (module.where(valid, weights * scale, 0) for weights in (chosen, carry.type(1)))
        # d/dx of -w_t log p_t = w_t (p - onehot(t))
        places = module.arange(classes).reshape(over_classes)
        onehot = places == module.expand_dims(labels, axis)
        dx = (softmax - onehot) * module.expand_dims(chosen, axis)
        if smoothing:
            total = carry.type(classes) if w is None else w.sum()
            per_class = carry.type(1) if w is None else w.reshape(over_classes)
            dx *= carry.type(1 - smoothing)
            dx += (softmax * total - per_class) * module.expand_dims(counted, axis) * carry.type(smoothing / classes)
        return dx.astype(grad.dtype, copy=False), None, None

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(47)
        x = rng.standard_normal((6, 4))
        labels = np.array([0, 3, 1, -100, 2, 2])
        weight = rng.random(4) + 0.5
        plain = {"ignore_index": -100, "reduction": "mean", "label_smoothing": 0.0}
        yield Sample("mean", (x, labels, None), plain)
        yield Sample("sum, weights", (x, labels, weight), {**plain, "reduction": "sum"})
        yield Sample("none", (x, labels, None), {**plain, "reduction": "none"})
        yield Sample("smoothing, weights", (x, labels, weight), {**plain, "label_smoothing": 0.2})
        yield Sample("ignore another", (x, np.abs(labels) % 4, None), {**plain, "ignore_index": 2})
        yield Sample("1-d", (x[0], np.array(2), None), plain)
        image = rng.standard_normal((2, 3, 3, 4)).transpose(0, 3, 1, 2)
        yield Sample("spatial, channels last", (image, rng.integers(0, 4, (2, 3, 3)), weight), plain)
        probabilities = rng.dirichlet(np.ones(4), 6)
        yield Sample("probabilities", (x, probabilities, None), plain, differentiable=False)
        smooth = {**plain, "label_smoothing": 0.1, "reduction": "none"}
        yield Sample("probabilities, all", (x, probabilities, weight), smooth, differentiable=False)
        yield Sample("large", (x * 300, labels, None), plain)
        yield Sample("empty batch", (x[:0], labels[:0], None), {**plain, "reduction": "sum"})


register(CrossEntropy())


class NLLLoss(Op):
    """Negative log-likelihood: loss_n = -w_t x[n, t] from log-probabilities x; "mean" divides by the sum of w_t."""

    name = "nll_loss"
    autocast = "float32"

    def infer(self, *inputs: Any, ignore_index: int, reduction: str) -> Inferred:
        x, target, weight = inputs
        if is_floating(target.dtype):
            raise DTypeError(f"nll_loss: target must hold int64 class indices, got {target.dtype.name}")
        return _infer_labels(self.name, x, target, weight, reduction)

    def forward(self, ctx: Context, *inputs: Any, ignore_index: int, reduction: str) -> Any:
        x, target, weight = inputs
        module = module_of(x)
        axis = 0 if x.ndim == 1 else 1
        labels, valid = _labels(target, ignore_index, x.shape[axis])
        carry = compute_dtype(x.dtype)
        chosen = valid.astype(carry) if weight is None else weight.astype(carry, copy=False)[labels] * valid
        picked = module.take_along_axis(x, module.expand_dims(labels, axis), axis).squeeze(axis)
        # An ignored element counts nothing even where its log-probability is infinite.
        losses = module.where(valid, -picked.astype(carry, copy=False) * chosen, 0)
        divisor = chosen.sum() if reduction == "mean" else None
        ctx.state = (labels, valid, chosen, divisor, tuple(x.shape), axis)
        if reduction == "none":
            return losses.astype(x.dtype, copy=False)
        total = losses.sum()
        return (total if divisor is None else total / divisor).astype(x.dtype)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        labels, valid, chosen, divisor, shape, axis = ctx.state
        module = module_of(grad)
        scale = grad if divisor is None else grad / divisor
        places = module.arange(shape[axis]).reshape((-1,) + (1,) * (len(shape) - 1 - axis))
        onehot = places == module.expand_dims(labels, axis)
        dx = onehot * module.expand_dims(module.where(valid, -chosen * scale, 0), axis)
        return dx.astype(grad.dtype, copy=False), None, None

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(79)
        x = rng.standard_normal((5, 4))
        labels = np.array([0, 3, -100, 2, 2])
        weight = rng.random(4) + 0.5
        for reduction in REDUCTIONS:
            yield Sample(reduction, (x, labels, weight), {"ignore_index": -100, "reduction": reduction})
        yield Sample("1-d", (x[0], np.array(2), None), {"ignore_index": -100, "reduction": "mean"})
        image = rng.standard_normal((2, 3, 3, 4)).transpose(0, 3, 1, 2)
        yield Sample("spatial", (image, rng.integers(0, 4, (2, 3, 3)), None), {"ignore_index": 1, "reduction": "mean"})
        yield Sample("empty batch", (x[:0], labels[:0], None), {"ignore_index": -100, "reduction": "sum"})


register(NLLLoss())


class MSELoss(Op):
    """(x - t)^2, broadcasting."""

    name = "mse_loss"
    autocast = "float32"

    def infer(self, *inputs: Any, reduction: str) -> Inferred:
        x, target = inputs
        check_reduction(self.name, reduction)
        shape = broadcast_shapes(self.name, tuple(x.shape), tuple(target.shape))
        dtype = result_type(x, target)
        if not is_floating(dtype):
            raise DTypeError(f"mse_loss: input and target must be floating point, got {dtype.name}")
        return Inferred((Spec(shape if reduction == "none" else (), dtype),))

    def reference(self, *inputs: Any, reduction: str) -> Any:
        x, target = inputs
        squares = (x - target) ** 2
        return squares if reduction == "none" else np.asarray(squares.sum() if reduction == "sum" else squares.mean())

    def forward(self, ctx: Context, *inputs: Any, reduction: str) -> Any:
        x, target = inputs
        if self.path(*inputs) == "reference":
            return self.reference(*inputs, reduction=reduction)
        dtype = result_type(x, target)
        carry = compute_dtype(dtype)
        ctx.save(x, target)
        difference = x.astype(carry, copy=False) - target.astype(carry, copy=False)
        if reduction == "none":
            return (difference * difference).astype(dtype, copy=False)
        y = (difference * difference).sum()
        if reduction == "mean":
            y = y / carry.type(difference.size)
        return y.astype(dtype)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        x, target = ctx.saved
        dx = (x - target) * (grad * grad.dtype.type(2))
        if ctx.attributes["reduction"] == "mean":
            dx = dx / dx.dtype.type(max(dx.size, 1))
        grad_x = unbroadcast(dx, x) if ctx.needs_grad[0] else None
        grad_target = unbroadcast(-dx, target) if ctx.needs_grad[1] else None
        return grad_x, grad_target

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(53)
        for reduction in REDUCTIONS:
            yield Sample(
                reduction, (rng.standard_normal((3, 4)), rng.standard_normal((3, 4))), {"reduction": reduction}
            )
        yield Sample("broadcast", (rng.standard_normal((3, 4)), rng.standard_normal(4)), {"reduction": "mean"})
        yield Sample("empty batch", (np.zeros((0, 4)), np.zeros((0, 4))), {"reduction": "sum"})


register(MSELoss())
