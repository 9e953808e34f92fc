"""Batch normalisation (Ioffe and Szegedy 2015), with the residual addition and the ReLU that follow it.

Over all dimensions but the channels' (dimension 1), m elements for each channel:

    training:   mean = sum x / m,   var = sum (x - mean)^2 / m
                running_mean <- (1 - f) running_mean + f mean
                running_var  <- (1 - f) running_var  + f var m / (m - 1)
    evaluation: mean, var = running_mean, running_var
    xhat = (x - mean) / sqrt(var + eps),   z = gamma xhat + beta (+ residual),   y = z or max(z, 0)

    g = dy, or dy where y > 0;   dresidual = g;   dbeta = sum g;   dgamma = sum g xhat
    training:   dx = gamma / sqrt(var + eps) (g - dbeta / m - xhat dgamma / m)
    evaluation: dx = gamma / sqrt(var + eps) g

x (N, C, ...), gamma, beta, running_* (C,). Statistics of half types are carried in float32. The running statistics are
written in place, everything else is new. The CPU path reads x once for mean and variance (blocks that stay in cache,
combined by the parallel formula of Chan, Golub and LeVeque 1983), once more to normalise, add and clip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.backend.memory import empty, scratch
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.channels import channel_rows, fold_wide, run_blocks, widen
from gpunet.ops.dtypes import compute_dtype

__all__ = ["BatchNorm"]

_BLOCK = 1 << 18  # elements: large enough that the calls of a block cost little, small enough for a shared cache


def _wide_view(rows: np.ndarray) -> tuple[np.ndarray, int, list[slice]]:
    """Rows (M, C) as wide rows, how many rows make one, and the cache-sized blocks of wide rows."""
    count, channels = rows.shape
    factor = widen(count, channels)
    wide = rows.reshape(count // factor, factor * channels)
    step = max(1, _BLOCK // max(1, factor * channels))
    return wide, factor, [slice(start, min(start + step, len(wide))) for start in range(0, len(wide), step)]


def _statistics(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each column of (M, C)."""
    count, channels = rows.shape
    wide, factor, blocks = _wide_view(rows)
    sums = np.empty((len(blocks), channels), np.float64)
    squares = np.empty((len(blocks), channels), np.float64)

    def run(index: int) -> None:
        block = wide[blocks[index]]
        total = fold_wide(block.sum(axis=0, dtype=rows.dtype), channels)
        mean = total / rows.dtype.type(len(block) * factor)
        centred = np.subtract(block, np.tile(mean, factor), out=scratch("norm.centred", block.shape, rows.dtype))
        sums[index] = total
        squares[index] = fold_wide(np.einsum("ij,ij->j", centred, centred), channels)

    run_blocks(len(blocks), rows.size, run)
    sizes = np.array([(block.stop - block.start) * factor for block in blocks], np.float64)[:, None]
    mean = sums.sum(axis=0) / count
    # Between-block part: the block means' spread around the common mean.
    spread = (sizes * (sums / sizes - mean) ** 2).sum(axis=0)
    return mean, (squares.sum(axis=0) + spread) / count


def _normalize(rows: np.ndarray, scale: Any, shift: Any, residual: np.ndarray | None, relu: bool) -> np.ndarray:
    """y = rows · scale + shift (+ residual), clipped at 0 if asked."""
    out = empty(rows.shape, rows.dtype)
    wide, factor, blocks = _wide_view(rows)
    target = out.reshape(wide.shape)
    extra = None if residual is None else residual.reshape(wide.shape)
    scale, shift = (np.tile(v.astype(rows.dtype, copy=False), factor) for v in (scale, shift))
    zero = rows.dtype.type(0)

    def run(index: int) -> None:
        block = blocks[index]
        y = np.multiply(wide[block], scale, out=target[block])
        y += shift
        if extra is not None:
            y += extra[block]
        if relu:
            np.maximum(y, zero, out=y)

    run_blocks(len(blocks), rows.size, run)
    return out


def _backward_rows(
    grad: np.ndarray,
    rows: np.ndarray,
    y: np.ndarray | None,
    mean: Any,
    inverse: Any,
    gamma: Any,
    training: bool,
    need_masked: bool,
) -> tuple[np.ndarray, np.ndarray | None, Any, Any]:
    """dx, the masked gradient (if asked or there is a mask), dgamma and dbeta."""
    count, channels = rows.shape
    dtype = rows.dtype
    wide, factor, blocks = _wide_view(rows)
    dy = grad.reshape(wide.shape)
    mask = None if y is None else y.reshape(wide.shape)
    dx = empty(rows.shape, dtype)
    target = dx.reshape(wide.shape)
    # Without a mask g is dy itself; with one it is written once, and where nobody else wants it, into dx.
    masked = empty(rows.shape, dtype) if mask is not None and need_masked else None
    g_wide = dy if mask is None else (target if masked is None else masked.reshape(wide.shape))
    wide_mean = np.tile(mean.astype(dtype), factor)
    sums = np.empty((2, len(blocks), channels), np.float64)

    def reduce(index: int) -> None:
        block = blocks[index]
        g = g_wide[block]
        if mask is not None:
            positive = np.greater(mask[block], 0, out=scratch("norm.mask", g.shape, np.bool_))
            np.multiply(dy[block], positive, out=g)
        centred = np.subtract(wide[block], wide_mean, out=scratch("norm.centred", g.shape, dtype))
        sums[0, index] = fold_wide(g.sum(axis=0), channels)
        sums[1, index] = fold_wide(np.einsum("ij,ij->j", centred, g), channels)

    run_blocks(len(blocks), rows.size, reduce)
    dbeta, dgamma = sums.sum(axis=1)
    dgamma = dgamma * inverse
    # dx = a g + b x + c with per-channel a, b, c
    a = gamma * inverse
    if training:
        b = -a * inverse * dgamma / count
        c = -a * dbeta / count - b * mean
    a_wide = np.tile(a.astype(dtype), factor)
    if training:
        b_wide, c_wide = np.tile(b.astype(dtype), factor), np.tile(c.astype(dtype), factor)

    def finish(index: int) -> None:
        block = blocks[index]
        out = np.multiply(g_wide[block], a_wide, out=target[block])
        if training:
            part = np.multiply(wide[block], b_wide, out=scratch("norm.centred", out.shape, dtype))
            part += c_wide
            out += part

    run_blocks(len(blocks), rows.size, finish)
    return dx, masked, dgamma, dbeta


def _like(rows: Any, x: Any) -> Any:
    """Rows of channels, seen in x's logical shape."""
    if x.ndim == 2:
        return rows
    shape = tuple(x.shape)
    return rows.reshape(shape[0], *shape[2:], shape[1]).transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


class BatchNorm(Op):
    """Batch normalisation of x (N, C, ...), optionally plus a residual and through a ReLU."""

    name = "batch_norm"
    autocast = "float32"
    epilogue = ("residual", "activation")

    def infer(self, *inputs: Any, training: bool, momentum: float, eps: float, activation: str | None) -> Inferred:
        x, weight, bias, running_mean, running_var, residual = inputs
        if x.ndim < 2:
            raise ShapeError(
                f"batch_norm: input must have at least 2 dimensions (N, C, ...), got shape {tuple(x.shape)}"
            )
        channels = x.shape[1]
        require_floating("batch_norm", "input", x)
        named = (("weight", weight), ("bias", bias), ("running_mean", running_mean), ("running_var", running_var))
        for name, value in named:
            if value is not None and tuple(value.shape) != (channels,):
                raise ShapeError(
                    f"batch_norm: {name} must have shape ({channels},) for an input of shape {tuple(x.shape)}, "
                    f"got {tuple(value.shape)}"
                )
        if residual is not None and (tuple(residual.shape) != tuple(x.shape) or residual.dtype != x.dtype):
            raise ShapeError(
                f"batch_norm: residual must have the input's shape {tuple(x.shape)} and dtype {x.dtype.name}, "
                f"got {tuple(residual.shape)} and {residual.dtype.name}"
            )
        if activation not in (None, "relu"):
            raise ValueError(f"batch_norm: activation must be None or 'relu', got {activation!r}")
        if not training and (running_mean is None or running_var is None):
            raise ValueError("batch_norm: running_mean and running_var must be given when training is False")
        if eps < 0.0:
            raise ValueError(f"batch_norm: eps must not be negative, got {eps}")
        per_channel = math.prod(x.shape) // max(channels, 1)
        if training and per_channel == 1:
            raise ShapeError(
                "batch_norm: training needs more than one value for each channel, "
                f"got an input of shape {tuple(x.shape)}"
            )
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def reference(self, *inputs: Any, training: bool, momentum: float, eps: float, activation: str | None) -> Any:
        x, weight, bias, running_mean, running_var, residual = inputs
        axes = (0, *range(2, x.ndim))
        view = (1, -1) + (1,) * (x.ndim - 2)
        if training and x.size:
            mean = x.mean(axis=axes)
            var = ((x - mean.reshape(view)) ** 2).mean(axis=axes)
            count = x.size // x.shape[1]
            if running_mean is not None:
                running_mean[...] = (1 - momentum) * running_mean + momentum * mean
                running_var[...] = (1 - momentum) * running_var + momentum * var * count / (count - 1)
        else:
            mean = np.zeros(x.shape[1]) if running_mean is None else running_mean
            var = np.ones(x.shape[1]) if running_var is None else running_var
        z = (x - mean.reshape(view)) / np.sqrt(var.reshape(view) + eps)
        z = z if weight is None else z * weight.reshape(view)
        z = z if bias is None else z + bias.reshape(view)
        z = z if residual is None else z + residual
        return np.maximum(z, 0) if activation == "relu" else z

    def supports(self, *inputs: Any, **attributes: Any) -> tuple[str, str]:
        if isinstance(inputs[0], np.ndarray):
            return "cpu", "rows of channels in blocks that fit the L2 cache"
        return "array", "no hand-written kernel yet: array-module operations"

    def forward(
        self, ctx: Context, *inputs: Any, training: bool, momentum: float, eps: float, activation: str | None
    ) -> Any:
        x, weight, bias, running_mean, running_var, residual = inputs
        path = self.path(*inputs)
        if path == "reference":
            return self.reference(*inputs, training=training, momentum=momentum, eps=eps, activation=activation)
        module = module_of(x)
        carry = compute_dtype(x.dtype)
        channels = x.shape[1]
        rows = channel_rows(x).astype(carry, copy=False)
        count = rows.shape[0]
        if training and count:
            if path == "cpu":
                mean, var = _statistics(rows)
            else:
                mean = rows.mean(axis=0, dtype=np.float64)
                var = ((rows - mean.astype(carry)) ** 2).mean(axis=0, dtype=np.float64)
            if running_mean is not None:
                _update_running(running_mean, mean, momentum)
                _update_running(running_var, var * (count / (count - 1)), momentum)
        else:
            ones, zeros = module.ones(channels), module.zeros(channels)
            mean = zeros if running_mean is None else running_mean.astype(np.float64)
            var = ones if running_var is None else running_var.astype(np.float64)
        inverse = 1.0 / module.sqrt(var + eps)
        gamma = module.ones(channels) if weight is None else weight.astype(np.float64)
        scale = gamma * inverse
        shift = -mean * scale if bias is None else bias - mean * scale
        extra = None if residual is None else channel_rows(residual).astype(carry, copy=False)
        if path == "cpu":
            y = _normalize(rows, scale, shift, extra, activation == "relu")
        else:
            y = rows * scale.astype(carry) + shift.astype(carry)
            y = y if extra is None else y + extra
            y = module.maximum(y, carry.type(0)) if activation == "relu" else y
        y = _like(y.astype(x.dtype, copy=False), x)
        ctx.save(x, weight, y if activation == "relu" else None)
        ctx.state = (mean, inverse, None if bias is None else bias.dtype)
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        x, weight, y = ctx.saved
        mean, inverse, bias_dtype = ctx.state
        module = module_of(x)
        training = ctx.attributes["training"]
        path = self.path(x)
        carry = compute_dtype(x.dtype)
        rows = channel_rows(x).astype(carry, copy=False)
        dy = channel_rows(grad).astype(carry, copy=False)
        mask = None if y is None else channel_rows(y)
        gamma = module.ones(x.shape[1]) if weight is None else weight.astype(np.float64)
        need_masked = bool(ctx.needs_grad[5])
        if path == "cpu" and rows.shape[0]:
            dx, masked, dgamma, dbeta = _backward_rows(dy, rows, mask, mean, inverse, gamma, training, need_masked)
            dresidual = (dy if masked is None else masked) if need_masked else None
        else:
            g = dy if mask is None else dy * (mask > 0)
            xhat = (rows - mean.astype(carry)) * inverse.astype(carry)
            dbeta, dgamma = g.sum(axis=0, dtype=np.float64), (g * xhat).sum(axis=0, dtype=np.float64)
            count = max(rows.shape[0], 1)
            dx = g - (dbeta / count).astype(carry) - xhat * (dgamma / count).astype(carry) if training else g
            dx = dx * (gamma * inverse).astype(carry)
            dresidual = g if need_masked else None
        return (
            _like(dx.astype(x.dtype, copy=False), x) if ctx.needs_grad[0] else None,
            dgamma.astype(weight.dtype) if ctx.needs_grad[1] else None,
            dbeta.astype(bias_dtype) if ctx.needs_grad[2] else None,
            None,
            None,
            None if dresidual is None else _like(dresidual.astype(x.dtype, copy=False), x),
        )

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(67)

        def case(label: str, *shape: int, nhwc: bool = True, **kw: Any) -> Sample:
            def draw() -> Any:
                values = rng.standard_normal(shape) * 2 + 1
                if nhwc and len(shape) == 4:
                    values = np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
                return values

            c = shape[1]
            attributes = {"training": True, "momentum": 0.1, "eps": 1e-5, "activation": None}
            affine, running, residual = kw.pop("affine", True), kw.pop("running", True), kw.pop("residual", False)
            weight, bias = (rng.standard_normal(c), rng.standard_normal(c)) if affine else (None, None)
            stats = (rng.standard_normal(c), rng.random(c) + 0.5) if running else (None, None)
            return Sample(label, (draw(), weight, bias, *stats, draw() if residual else None), {**attributes, **kw})

        yield case("training", 4, 3, 5, 6)
        yield case("NCHW", 4, 3, 5, 6, nhwc=False)
        yield case("evaluation", 4, 3, 5, 6, training=False)
        yield case("2-d", 6, 5)
        yield case("3-d", 3, 4, 7)
        yield case("residual and relu", 4, 3, 5, 6, residual=True, activation="relu")
        yield case("relu", 4, 3, 4, 4, activation="relu")
        yield case("residual", 2, 3, 4, 4, residual=True)
        yield case("evaluation, residual and relu", 2, 3, 4, 4, residual=True, activation="relu", training=False)
        yield case("no affine, no running", 4, 3, 3, 3, affine=False, running=False)
        yield case("one channel, batch 1", 1, 1, 5, 5)
        yield case("several blocks", 8, 16, 20, 20, residual=True, activation="relu")
        yield case("odd rows", 3, 130, 7, 3)
        yield case("empty batch", 0, 3, 4, 4, training=False)


def _update_running(running: Any, batch: Any, momentum: float) -> None:
    running *= running.dtype.type(1 - momentum)
    running += (batch * momentum).astype(running.dtype)


register(BatchNorm())
