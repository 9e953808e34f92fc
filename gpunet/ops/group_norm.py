"""Group normalisation (Wu and He 2018) and instance normalisation (Ulyanov, Vedaldi and Lempitsky 2016).

Each sample's channels are split into G groups (as many as channels for instance normalisation); over the m elements of
each group:

    mean = sum x / m,   var = sum (x - mean)^2 / m
    xhat = (x - mean) / sqrt(var + eps),   y = gamma xhat + beta          (gamma and beta for each channel)

    dgamma = sum_n sum g xhat,   dbeta = sum_n sum g
    dx = (gamma g - s1 / m - xhat s2 / m) / sqrt(var + eps),   s1, s2 = sums of gamma g and gamma g xhat over the group

Instance normalisation can track statistics, which then replace the sample's own in evaluation:

    running_mean <- (1 - f) running_mean + f mean_n(mean)
    running_var  <- (1 - f) running_var  + f mean_n(var m / (m - 1))

x (N, C, ...), gamma, beta, running_* (C,). Half types are carried in float32; the running statistics are written in
place. Everything is sums over a channel's elements of one sample: the CPU path takes them where the channels lie (the
last dimension of NHWC memory, or planes), combines them into groups, and writes y as scale_nc x + shift_nc.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.backend.memory import empty, scratch
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.channels import (
    as_samples,
    fold_wide,
    from_samples,
    planes_first,
    require_parameter_dtype,
    run_blocks,
    widen,
)
from gpunet.ops.dtypes import compute_dtype

__all__ = ["GroupNorm", "InstanceNorm"]

_PAIRWISE_FROM = 1 << 12  # elements: from here on sums of a plane are taken pairwise


class _Layout:
    """Sums and broadcasts over one sample, (C, L) or (L, C)."""

    def __init__(self, shape: tuple[int, ...], planes: bool, dtype: Any) -> None:
        self.planes = planes
        self.channels, self.length = (shape[1], shape[2]) if planes else (shape[2], shape[1])
        self.factor = 1 if planes else widen(self.length, self.channels)
        self.dtype = dtype

    def view(self, sample: np.ndarray) -> np.ndarray:
        """The sample as rows that are long enough for NumPy."""
        return sample if self.planes else sample.reshape(self.length // self.factor, -1)

    def spread(self, values: Any) -> Any:
        """A value for each channel, in the shape that broadcasts against ``view``."""
        values = values.astype(self.dtype, copy=False)
        return values[:, None] if self.planes else np.tile(values, self.factor)

    def sums(self, view: np.ndarray) -> np.ndarray:
        """The sum of each channel."""
        if not self.planes:
            # Sums of blocks of rows first, so that float32 keeps its digits.
            parts = [view[start : start + 64].sum(axis=0) for start in range(0, len(view), 64)]
            return fold_wide(np.add.reduce(parts, axis=0, dtype=np.float64), self.channels)
        if self.length > _PAIRWISE_FROM:
            return view.sum(axis=1).astype(np.float64)
        return np.matmul(view, np.ones(self.length, self.dtype)).astype(np.float64)

    def products(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The sum of each channel's products."""
        if self.planes:
            return np.vecdot(a, b).astype(np.float64)
        return fold_wide(np.einsum("ij,ij->j", a, b).astype(np.float64), self.channels)


def _to_groups(values: np.ndarray, groups: int) -> np.ndarray:
    """Sums over each group's channels, given to each of them again: (C,) -> (C,)."""
    parts = values.reshape(groups, -1)
    if parts.shape[1] == 1:
        return values
    return np.repeat(parts.sum(axis=1), parts.shape[1])


def _sample_statistics(layout: _Layout, x: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each channel's group."""
    own = layout.sums(x) / layout.length
    centred = np.subtract(x, layout.spread(own), out=scratch("group_norm.centred", x.shape, layout.dtype))
    squares = layout.products(centred, centred)
    share = groups / layout.channels
    mean = _to_groups(own, groups) * share
    # Chan, Golub and LeVeque 1983: what is between the channels adds to what is within them.
    return mean, _to_groups(squares / layout.length + (own - mean) ** 2, groups) * share


def _forward_samples(
    samples: np.ndarray, planes: bool, groups: int, gamma: np.ndarray, beta: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, and mean and variance (N, C)."""
    layout = _Layout(samples.shape, planes, samples.dtype)
    out = empty(samples.shape, samples.dtype)
    mean, var = np.empty((2, len(samples), layout.channels))

    def run(index: int) -> None:
        x, y = layout.view(samples[index]), layout.view(out[index])
        mean[index], var[index] = _sample_statistics(layout, x, groups)
        scale = gamma / np.sqrt(var[index] + eps)
        np.multiply(x, layout.spread(scale), out=y)
        y += layout.spread(beta - mean[index] * scale)

    run_blocks(len(samples), samples.size, run)
    return out, mean, var


def _backward_samples(
    dy: np.ndarray,
    samples: np.ndarray,
    planes: bool,
    groups: int,
    gamma: np.ndarray,
    mean: np.ndarray,
    inverse: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx, dgamma and dbeta; ``groups`` is 0 where the statistics were given and have no gradient."""
    layout = _Layout(samples.shape, planes, samples.dtype)
    dx = empty(samples.shape, samples.dtype)
    sums = np.empty((2, len(samples), layout.channels))

    def run(index: int) -> None:
        x, g, out = (layout.view(array[index]) for array in (samples, dy, dx))
        scale = inverse[index]
        centred = scratch("group_norm.centred", x.shape, layout.dtype)
        np.subtract(x, layout.spread(mean[index]), out=centred)
        shift = layout.sums(g)
        product = layout.products(centred, g) * scale
        sums[0, index], sums[1, index] = product, shift
        np.multiply(g, layout.spread(gamma * scale), out=out)
        if groups:
            count = layout.length * layout.channels // groups
            # dx = a g + b (x - mean) + c
            b = _to_groups(gamma * product, groups) * scale * scale / count
            centred *= layout.spread(b)
            out -= centred
            out -= layout.spread(_to_groups(gamma * shift, groups) * scale / count)

    run_blocks(len(samples), samples.size, run)
    dgamma, dbeta = sums.sum(axis=1)
    return dx, dgamma, dbeta


def _grouped(module: Any, x: Any, groups: int) -> tuple[Any, Any]:
    """Mean and variance (N, C) of each channel's group by array-module operations."""
    n, c = x.shape[:2]
    parts = x.reshape(n, groups, -1)
    mean = parts.mean(axis=2, dtype=np.float64)
    var = module.square(parts - mean[:, :, None].astype(parts.dtype)).mean(axis=2, dtype=np.float64)
    return module.repeat(mean, c // groups, axis=1), module.repeat(var, c // groups, axis=1)


def _channels(values: Any, x: Any) -> Any:
    """(N, C) or (C,) in a shape that broadcasts against x, in the type sums are carried in."""
    shape = (-1, x.shape[1]) + (1,) * (x.ndim - 2)
    return values.reshape(shape).astype(compute_dtype(x.dtype), copy=False)


class _SampleNorm(Op):
    """What the two have in common: statistics of groups of a sample's channels."""

    autocast = "float32"

    def _validate(self, x: Any, vectors: tuple[tuple[str, Any], ...], least: int) -> Inferred:
        if x.ndim < least:
            dots = ", ".join(("N", "C", "L")[:least])
            raise ShapeError(
                f"{self.name}: input must have at least {least} dimensions ({dots}, ...), got shape {tuple(x.shape)}"
            )
        require_floating(self.name, "input", x)
        for name, value in vectors:
            if value is not None and tuple(value.shape) != (x.shape[1],):
                raise ShapeError(
                    f"{self.name}: {name} must have shape ({x.shape[1]},) for an input of shape {tuple(x.shape)}, "
                    f"got {tuple(value.shape)}"
                )
            require_parameter_dtype(self.name, name, value, x)
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def supports(self, *inputs: Any, **attributes: Any) -> tuple[str, str]:
        if isinstance(inputs[0], np.ndarray):
            return "cpu", "sample by sample, where the channels lie"
        return "array", "no hand-written kernel yet: array-module operations"

    def _plain(self, x: Any, weight: Any, bias: Any, groups: int, eps: float, running: Any = None) -> Any:
        """The equations."""
        parts = x.reshape(x.shape[0], groups, -1)
        if running is None:
            mean = np.repeat(parts.mean(axis=2), x.shape[1] // groups, axis=1)
            var = np.repeat(parts.var(axis=2), x.shape[1] // groups, axis=1)
        else:
            mean, var = (value[None] for value in running)
        y = (x - _channels(mean, x)) / np.sqrt(_channels(var, x) + eps)
        y = y if weight is None else y * _channels(weight, x)
        return y if bias is None else y + _channels(bias, x)

    def _run(self, ctx: Context, x: Any, weight: Any, bias: Any, groups: int, eps: float, running: Any = None) -> Any:
        """y, and the mean and variance (N, C) or (1, C) it was normalised by."""
        module = module_of(x)
        carry = compute_dtype(x.dtype)
        channels = x.shape[1]
        gamma = module.ones(channels) if weight is None else weight.astype(np.float64)
        beta = module.zeros(channels) if bias is None else bias.astype(np.float64)
        planes = planes_first(x)
        if x.size == 0:
            y = module.empty_like(x)
            mean = var = module.zeros((x.shape[0], channels))
        elif running is None and self.path(x) == "cpu":
            samples = as_samples(module, x, planes, carry)
            rows, mean, var = _forward_samples(samples, planes, groups, gamma, beta, eps)
            y = from_samples(rows, x, planes)
        else:
            if running is None:
                mean, var = _grouped(module, x.astype(carry, copy=False), groups)
            else:
                mean, var = (value.astype(np.float64)[None] for value in running)
            scale = gamma / module.sqrt(var + eps)
            y = x.astype(carry, copy=False) * _channels(scale, x)
            y += _channels(beta - mean * scale, x)
            y = y.astype(x.dtype, copy=False)
        ctx.save(x, weight)
        ctx.state = (mean, 1 / module.sqrt(var + eps), gamma, None if bias is None else bias.dtype, planes)
        return y, mean, var

    def _gradients(self, ctx: Context, grad: Any, groups: int) -> tuple[Any, Any, Any]:
        """``groups`` is 0 where the statistics were given."""
        x, weight = ctx.saved
        mean, inverse, gamma, bias_dtype, planes = ctx.state
        module = module_of(x)
        n, c = x.shape[:2]
        carry = compute_dtype(x.dtype)
        if x.size == 0:
            dx, dgamma, dbeta = module.zeros_like(x), module.zeros(c), module.zeros(c)
        elif self.path(x) == "cpu":
            mean, inverse = (np.broadcast_to(value, (n, c)) for value in (mean, inverse))
            samples, dy = (as_samples(module, value, planes, carry) for value in (x, grad))
            rows, dgamma, dbeta = _backward_samples(dy, samples, planes, groups, gamma, mean, inverse)
            dx = from_samples(rows, x, planes)
        else:
            axes = tuple(range(2, x.ndim))
            g = grad.astype(carry, copy=False)
            xhat = (x.astype(carry, copy=False) - _channels(mean, x)) * _channels(inverse, x)
            shift = g.sum(axis=axes, dtype=np.float64)
            product = (g * xhat).sum(axis=axes, dtype=np.float64)
            dgamma, dbeta = product.sum(axis=0), shift.sum(axis=0)
            dx = g * _channels(gamma, x)
            if groups:
                count = x.size // n // groups
                for sums, factor in ((gamma * shift, 1), (gamma * product, xhat)):
                    shared = module.repeat(sums.reshape(n, groups, -1).sum(axis=2), c // groups, axis=1)
                    dx -= _channels(shared / count, x) * factor
            dx = (dx * _channels(inverse, x)).astype(x.dtype, copy=False)
        return (
            dx if ctx.needs_grad[0] else None,
            dgamma.astype(weight.dtype) if ctx.needs_grad[1] else None,
            dbeta.astype(bias_dtype) if ctx.needs_grad[2] else None,
        )


def _draw(rng: np.random.Generator, shape: tuple[int, ...], nhwc: bool) -> Any:
    x = rng.standard_normal(shape) * 2 + 1
    if not nhwc:
        return x
    return np.ascontiguousarray(x.transpose(0, *range(2, len(shape)), 1)).transpose(
        0, len(shape) - 1, *range(1, len(shape) - 1)
    )


class GroupNorm(_SampleNorm):
    """Inputs x, weight, bias: each of ``num_groups`` groups of a sample's channels has mean 0 and variance 1."""

    name = "group_norm"

    def infer(self, *inputs: Any, num_groups: int, eps: float) -> Inferred:
        x, weight, bias = inputs
        inferred = self._validate(x, (("weight", weight), ("bias", bias)), 2)
        if num_groups < 1:
            raise ValueError(f"group_norm: num_groups must be at least 1, got {num_groups}")
        if x.shape[1] % num_groups:
            raise ShapeError(
                f"group_norm: num_groups must divide the number of channels, got {num_groups} groups "
                f"and {x.shape[1]} channels"
            )
        if x.shape[0] * x.shape[1] // num_groups * math.prod(x.shape[2:]) == 1:
            raise ShapeError(
                "group_norm: the input must have more than one value for each group, "
                f"got an input of shape {tuple(x.shape)} and {num_groups} groups"
            )
        return inferred

    def reference(self, *inputs: Any, num_groups: int, eps: float) -> Any:
        x, weight, bias = inputs
        return self._plain(x, weight, bias, num_groups, eps) if x.size else x.copy()

    def forward(self, ctx: Context, *inputs: Any, num_groups: int, eps: float) -> Any:
        if self.path(*inputs) == "reference":
            return self.reference(*inputs, num_groups=num_groups, eps=eps)
        x, weight, bias = inputs
        return self._run(ctx, x, weight, bias, num_groups, eps)[0]

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        return self._gradients(ctx, grad_outputs[0], ctx.attributes["num_groups"])

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(79)

        def case(label: str, shape: tuple[int, ...], groups: int, nhwc: bool = True, affine: bool = True) -> Sample:
            c = shape[1]
            weight, bias = (rng.standard_normal(c), rng.standard_normal(c)) if affine else (None, None)
            return Sample(label, (_draw(rng, shape, nhwc), weight, bias), {"num_groups": groups, "eps": 1e-5})

        yield case("groups", (2, 6, 4, 5), 3)
        yield case("NCHW", (2, 6, 4, 5), 3, nhwc=False)
        yield case("one group", (2, 4, 3, 3), 1)
        yield case("a group a channel", (2, 4, 3, 3), 4)
        yield case("2-d", (3, 6), 2)
        yield case("3-d", (3, 6, 7), 2, nhwc=False)
        yield case("5-d", (2, 4, 2, 3, 2), 2)
        yield case("no affine", (2, 6, 4, 5), 2, affine=False)
        yield case("batch 1, one channel", (1, 1, 4, 5), 1)
        yield case("large", (4, 32, 33, 31), 8)
        yield case("large, NCHW", (4, 16, 67, 65), 4, nhwc=False)
        yield case("empty batch", (0, 6, 4, 5), 3)


class InstanceNorm(_SampleNorm):
    """Inputs x, weight, bias, running_mean, running_var; by the sample's own statistics, or by the running ones."""

    name = "instance_norm"

    def infer(self, *inputs: Any, use_input_stats: bool, momentum: float, eps: float) -> Inferred:
        x, weight, bias, running_mean, running_var = inputs
        named = (("weight", weight), ("bias", bias), ("running_mean", running_mean), ("running_var", running_var))
        inferred = self._validate(x, named, 3)
        if not use_input_stats and (running_mean is None or running_var is None):
            raise ValueError("instance_norm: running_mean and running_var must be given when use_input_stats is False")
        if (running_mean is None) != (running_var is None):
            raise ValueError("instance_norm: running_mean and running_var must be given together")
        if use_input_stats and math.prod(x.shape[2:]) == 1:
            raise ShapeError(
                "instance_norm: the input must have more than one value for each channel of a sample, "
                f"got an input of shape {tuple(x.shape)}"
            )
        return inferred

    def reference(self, *inputs: Any, use_input_stats: bool, momentum: float, eps: float) -> Any:
        x, weight, bias, running_mean, running_var = inputs
        if x.size == 0:
            return x.copy()
        if use_input_stats and running_mean is not None:
            planes = x.reshape(*x.shape[:2], -1)
            _move(running_mean, planes.mean(axis=2), momentum)
            _move(running_var, planes.var(axis=2, ddof=1), momentum)
        running = None if use_input_stats else (running_mean, running_var)
        return self._plain(x, weight, bias, x.shape[1], eps, running)

    def forward(self, ctx: Context, *inputs: Any, use_input_stats: bool, momentum: float, eps: float) -> Any:
        if self.path(*inputs) == "reference":
            return self.reference(*inputs, use_input_stats=use_input_stats, momentum=momentum, eps=eps)
        x, weight, bias, running_mean, running_var = inputs
        running = None if use_input_stats else (running_mean, running_var)
        y, mean, var = self._run(ctx, x, weight, bias, x.shape[1], eps, running)
        if use_input_stats and running_mean is not None and x.size:
            count = math.prod(x.shape[2:])
            _move(running_mean, mean, momentum)
            _move(running_var, var * (count / (count - 1)), momentum)
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        groups = ctx.saved[0].shape[1] if ctx.attributes["use_input_stats"] else 0
        return (*self._gradients(ctx, grad_outputs[0], groups), None, None)

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(83)

        def case(
            label: str,
            shape: tuple[int, ...],
            own: bool = True,
            nhwc: bool = True,
            affine: bool = True,
            run: bool = True,
        ) -> Sample:
            c = shape[1]
            weight, bias = (rng.standard_normal(c), rng.standard_normal(c)) if affine else (None, None)
            stats = (rng.standard_normal(c), rng.random(c) + 0.5) if run else (None, None)
            attributes = {"use_input_stats": own, "momentum": 0.1, "eps": 1e-5}
            return Sample(label, (_draw(rng, shape, nhwc), weight, bias, *stats), attributes)

        yield case("own statistics", (2, 3, 4, 5))
        yield case("NCHW", (2, 3, 4, 5), nhwc=False)
        yield case("no statistics", (2, 3, 4, 5), run=False)
        yield case("running statistics", (2, 3, 4, 5), own=False)
        yield case("running statistics, NCHW", (2, 3, 4, 5), own=False, nhwc=False)
        yield case("no affine", (2, 3, 7), run=False, affine=False, nhwc=False)
        yield case("5-d", (2, 3, 2, 3, 2))
        yield case("batch 1, one channel", (1, 1, 4, 5))
        yield case("large", (4, 16, 33, 35), run=False)
        yield case("empty batch", (0, 3, 4, 5))


def _move(running: Any, batch: Any, momentum: float) -> None:
    """Move a running statistic towards the mean of the samples' (N, C)."""
    running *= running.dtype.type(1 - momentum)
    running += (batch.mean(axis=0) * momentum).astype(running.dtype)


register(GroupNorm())
register(InstanceNorm())
