"""Losses on classes, forward and backward in blocks of rows.

cross_entropy (labels): with log-probabilities l = log_softmax(x) over the class dimension, label t, class weights w,
smoothing e and C classes,

    loss_n = (1 - e) * (-w_t l_t) + (e / C) * sum_c (-w_c l_c)

elements whose label is ``ignore_index`` count nothing; "mean" divides by the sum of w_t over the others.
cross_entropy (probabilities): loss_n = -sum_c w_c q_c l_c with q = (1 - e) p + e / C; "mean" divides by the number of
elements.
nll_loss: loss_n = -w_t x_t from log-probabilities x.
multi_margin_loss: loss_n = w_t / C sum_{c != t} max(0, margin - x_t + x_c)^p.

All are PyTorch's definitions. Of the softmax only what is one number for each row is kept: backward computes it anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.error_word import check_values
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.chunked import Work
from gpunet.ops.dtypes import compute_dtype, is_floating
from gpunet.ops.losses import REDUCTIONS, check_reduction
from gpunet.ops.rows import Rows
from gpunet.ops.softmax import shifted_exponentials


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


def _places(module: Any, labels: Any) -> tuple[Any, ...]:
    """The index of each row's label in a block of rows."""
    if labels.ndim == 1:
        return module.arange(labels.shape[0]), labels
    return module.arange(labels.shape[0])[:, None], labels, module.arange(labels.shape[1])


def _class_axis(x: Any) -> int:
    return 0 if x.ndim == 1 else 1


def _reduced(losses: Any, divisor: Any, reduction: str, dtype: Any) -> Any:
    """The losses of all rows as the reduction wants them."""
    if reduction == "none":
        return losses.astype(dtype, copy=False)
    total = losses.sum(dtype=losses.dtype)
    return (total / divisor if reduction == "mean" else total).astype(dtype)


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
        carry = compute_dtype(x.dtype)
        axis = _class_axis(x)
        rows = Rows(tuple(x.shape), axis, x)
        logits = rows.view(x)
        w = None if weight is None else weight.astype(carry, copy=False)
        share = label_smoothing / max(x.shape[axis], 1)
        losses, answer = rows.empty_reduced(carry, module)
        largest, _ = rows.empty_reduced(carry, module)
        logarithm, _ = rows.empty_reduced(carry, module)
        labels: Any = None
        valid: Any = None
        chosen: Any = None
        if is_floating(target.dtype):
            probabilities = rows.view(target)
            divisor = carry.type(losses.size)
        else:
            labels, valid = (rows.view_reduced(array) for array in _labels(target, ignore_index, x.shape[axis]))
            chosen = valid.astype(carry) if w is None else w[labels] * valid
            divisor = chosen.sum()

        def body(block: Any, part: Any) -> None:
            given = logits[block].astype(carry, copy=False)
            shifted = Work(module, given.shape, carry)("shifted")
            top, total = shifted_exponentials(module, given, shifted)
            logs = module.log(total)
            largest[part], logarithm[part] = top[:, 0], logs[:, 0]
            if labels is None:
                module.subtract(shifted, logs, out=shifted)
                module.multiply(shifted, _smoothed(module, probabilities[block], w, share, rows, carry), out=shifted)
                losses[part] = -shifted.sum(axis=1)
                return
            found = (logs[:, 0] - shifted[_places(module, labels[part])]) * chosen[part]
            if label_smoothing:
                if w is not None:
                    module.multiply(module.subtract(shifted, logs, out=shifted), rows.along(w), out=shifted)
                    every = -shifted.sum(axis=1)
                else:
                    every = logs[:, 0] * shifted.shape[1] - shifted.sum(axis=1)
                found = found * carry.type(1 - label_smoothing) + every * carry.type(share)
            # An ignored element counts nothing, even where its logarithm is infinite.
            losses[part] = module.where(valid[part], found, carry.type(0))

        rows.run(x, carry.itemsize, body)
        if rows.count == 0:
            losses[...] = 0
        ctx.save(x, target if labels is None else None, weight)
        ctx.state = (largest, logarithm, labels, valid, chosen, divisor, share)
        return _reduced(answer, divisor, reduction, x.dtype)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        x, target, weight = ctx.saved
        largest, logarithm, labels, valid, chosen, divisor, share = ctx.state
        smoothing = ctx.attributes["label_smoothing"]
        module = module_of(grad)
        carry = compute_dtype(x.dtype)
        rows = Rows(tuple(x.shape), _class_axis(x), x)
        logits = rows.view(x)
        w = None if weight is None else weight.astype(carry, copy=False)
        scale = grad.astype(carry, copy=False)
        if ctx.attributes["reduction"] == "mean":
            scale = scale / divisor
        scale = module.broadcast_to(scale, rows.reduced.shape) if scale.ndim == 0 else scale
        scale = rows.view_reduced(scale)
        dx: Any = None
        gradient_x: Any = None
        if ctx.needs_grad[0]:
            dx, gradient_x = rows.empty(x.dtype, module)
        if labels is None:
            dq, gradient_q = rows.empty(target.dtype, module) if ctx.needs_grad[1] else (None, None)
            probabilities = rows.view(target)
        else:
            dq = gradient_q = None
            # All weights on a row's logarithms, the label's own, and those of the smoothing.
            total = carry.type(rows.count) if w is None else w.sum()
            counted = module.where(valid, scale, carry.type(0))
            own = module.where(valid, chosen * scale, carry.type(0)) * carry.type(1 - smoothing)
            spread = counted * carry.type(share)
            whole = own + spread * total if smoothing else own

        def body(block: Any, part: Any) -> None:
            given = logits[block].astype(carry, copy=False)
            work = Work(module, given.shape, carry)
            out = dx[block] if dx is not None and dx.dtype == carry else work("out")
            module.subtract(given, largest[part][:, None], out=out)
            module.subtract(out, logarithm[part][:, None], out=out)
            if labels is None:
                row = scale[part][:, None]
                if dq is not None:
                    slope = out * (row * carry.type(smoothing - 1))
                    dq[block] = slope if w is None else slope * rows.along(w)
                if dx is None:
                    return
                # d/dx of -sum_c q_c log p_c = p sum_c q_c - q
                module.exp(out, out=out)
                q = _smoothed(module, probabilities[block], w, share, rows, carry)
                module.multiply(out, q.sum(axis=1, keepdims=True), out=out)
                module.subtract(out, q, out=out)
                module.multiply(out, row, out=out)
            else:
                # d/dx of -w_t log p_t = w_t (p - onehot(t))
                module.exp(out, out=out)
                module.multiply(out, whole[part][:, None], out=out)
                if smoothing:
                    even = spread[part][:, None] if w is None else spread[part][:, None] * rows.along(w)
                    module.subtract(out, even, out=out)
                out[_places(module, labels[part])] -= own[part]
            if out.dtype != dx.dtype:
                dx[block] = out

        rows.run(x, carry.itemsize, body)
        return gradient_x, gradient_q, None

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
        blocks = rng.standard_normal((3, 5, 9000)), rng.integers(0, 5, (3, 9000))
        yield Sample("several blocks", (*blocks, rng.random(5)), {**plain, "label_smoothing": 0.1})


def _smoothed(module: Any, target: Any, w: Any, share: float, rows: Rows, carry: Any) -> Any:
    """w_c ((1 - e) p_c + e / C) for a block of probabilities, with e / C = ``share``."""
    q = target.astype(carry, copy=False)
    if share:
        q = q * carry.type(1 - share * rows.count) + carry.type(share)
    return q if w is None else q * rows.along(w)


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
        carry = compute_dtype(x.dtype)
        axis = _class_axis(x)
        rows = Rows(tuple(x.shape), axis, x)
        losses, answer = rows.empty_reduced(carry, module)
        labels, valid = (rows.view_reduced(array) for array in _labels(target, ignore_index, x.shape[axis]))
        chosen = valid.astype(carry) if weight is None else weight.astype(carry, copy=False)[labels] * valid
        if rows.count:
            picked = rows.view(x)[_places(module, labels)].astype(carry, copy=False)
            # An ignored element counts nothing even where its log-probability is infinite.
            losses[...] = module.where(valid, -picked * chosen, carry.type(0))
        else:
            losses[...] = 0
        divisor = chosen.sum() if reduction == "mean" else None
        ctx.state = (labels, valid, chosen, divisor, rows)
        return _reduced(answer, divisor, reduction, x.dtype)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        labels, valid, chosen, divisor, rows = ctx.state
        module = module_of(grad)
        scale = grad if divisor is None else grad / divisor
        scale = rows.view_reduced(scale) if scale.ndim else scale
        dx, gradient = rows.empty(grad.dtype, module)
        slopes = module.where(valid, -chosen * scale, chosen.dtype.type(0)).astype(grad.dtype, copy=False)

        def body(block: Any, part: Any) -> None:
            out = dx[block]
            out[...] = 0
            out[_places(module, labels[part])] = slopes[part]

        rows.run(dx, grad.dtype.itemsize, body)
        return gradient, None, None

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


class MultiMarginLoss(Op):
    """Multi-class hinge loss. Input (C,) or (N, C)."""

    name = "multi_margin_loss"
    autocast = "float32"

    def infer(self, *inputs: Any, p: int, margin: float, reduction: str) -> Inferred:
        x, target, weight = inputs
        if p not in (1, 2):
            raise ValueError(f"multi_margin_loss: p must be 1 or 2, got {p}")
        if x.ndim not in (1, 2) or (x.ndim and x.shape[-1] == 0):
            raise ShapeError(f"multi_margin_loss: input must be (C,) or (N, C) with classes, got {tuple(x.shape)}")
        if target.dtype.name != "int64":
            raise DTypeError(f"multi_margin_loss: target must hold int64 class indices, got {target.dtype.name}")
        return _infer_labels(self.name, x, target, weight, reduction)

    def _hinges(self, module: Any, x: Any, labels: Any, margin: float, out: Any) -> None:
        """max(0, margin - x_t + x_c), and 0 for the label itself."""
        places = _places(module, labels)
        module.subtract(x, (x[places] - x.dtype.type(margin))[:, None], out=out)
        module.maximum(out, 0, out=out)
        out[places] = 0

    def forward(self, ctx: Context, *inputs: Any, p: int, margin: float, reduction: str) -> Any:
        x, target, weight = inputs
        module = module_of(x)
        carry = compute_dtype(x.dtype)
        axis = x.ndim - 1
        rows = Rows(tuple(x.shape), axis, module.ascontiguousarray(x))
        given = rows.view(x)
        losses, answer = rows.empty_reduced(carry, module)
        labels, valid = (rows.view_reduced(array) for array in _labels(target, -1 - (1 << 62), x.shape[axis]))
        chosen = valid.astype(carry) if weight is None else weight.astype(carry, copy=False)[labels] * valid
        chosen = chosen / carry.type(rows.count)

        def body(block: Any, part: Any) -> None:
            block_x = given[block].astype(carry, copy=False)
            hinges = Work(module, block_x.shape, carry)("hinges")
            self._hinges(module, block_x, labels[part], margin, hinges)
            if p == 2:
                module.multiply(hinges, hinges, out=hinges)
            losses[part] = hinges.sum(axis=1) * chosen[part]

        rows.run(x, carry.itemsize, body)
        ctx.save(x)
        ctx.state = (labels, chosen)
        return _reduced(answer, losses.size, reduction, x.dtype)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (x,) = ctx.saved
        labels, chosen = ctx.state
        module = module_of(grad)
        carry = compute_dtype(x.dtype)
        rows = Rows(tuple(x.shape), x.ndim - 1, module.ascontiguousarray(x))
        given = rows.view(x)
        scale = grad.astype(carry, copy=False)
        if ctx.attributes["reduction"] == "mean":
            scale = scale / carry.type(max(labels.size, 1))
        factor = chosen * (rows.view_reduced(scale) if scale.ndim else scale)
        dx, gradient = rows.empty(x.dtype, module)

        def body(block: Any, part: Any) -> None:
            block_x = given[block].astype(carry, copy=False)
            out = dx[block] if dx.dtype == carry else module.empty(block_x.shape, carry)
            self._hinges(module, block_x, labels[part], ctx.attributes["margin"], out)
            if ctx.attributes["p"] == 1:
                out[...] = out > 0
            else:
                module.multiply(out, 2, out=out)
            module.multiply(out, factor[part][:, None], out=out)
            out[_places(module, labels[part])] = -out.sum(axis=1)
            if out.dtype != dx.dtype:
                dx[block] = out

        rows.run(x, carry.itemsize, body)
        return gradient, None, None

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(97)
        x, labels, weight = rng.standard_normal((6, 4)), np.array([0, 3, 1, 1, 2, 2]), rng.random(4) + 0.5
        for reduction in REDUCTIONS:
            yield Sample(f"p 1 {reduction}", (x, labels, weight), {"p": 1, "margin": 1.0, "reduction": reduction})
            yield Sample(f"p 2 {reduction}", (x, labels, None), {"p": 2, "margin": 0.7, "reduction": reduction})
        plain = {"p": 1, "margin": 1.0, "reduction": "mean"}
        yield Sample("1-d", (x[0], np.array(2), None), plain)
        yield Sample("columns first", (np.asfortranarray(x), labels, None), plain)
        yield Sample("several blocks", (rng.standard_normal((900, 90)), rng.integers(0, 90, 900), None), plain)
        yield Sample("empty batch", (x[:0], labels[:0], None), {**plain, "reduction": "sum"})


register(MultiMarginLoss())
