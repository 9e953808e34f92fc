"""Local response normalisation across channels (Krizhevsky, Sutskever and Hinton 2012, section 3.3).

    d_c = k + alpha' sum_{j in W(c)} x_j^2,   y_c = x_c d_c^-beta
    dx_i = g_i d_i^-beta - 2 alpha' beta x_i sum_{c: i in W(c)} g_c x_c d_c^(-beta - 1)

W(c) are the n channels from c - floor(n/2) on, cut off at the ends. The paper's alpha' is alpha; PyTorch's, Caffe's and
cuda-convnet2's is alpha / n. For an even n the paper's W(c) would have n + 1 channels; PyTorch's, used here, has n.

x (N, C, ...). Half types are carried in float32. The sums over windows are taken on flat arrays whose channels have
zeros around them: shifting such an array by a channel reaches the neighbour or a zero, so that n - 1 additions of long
arrays do for every channel, whether the channels lie together (NHWC) or in planes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.backend.memory import empty, scratch
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating
from gpunet.ops.channels import as_samples, from_samples, planes_first, run_blocks
from gpunet.ops.dtypes import compute_dtype

__all__ = ["LocalResponseNorm"]

_BLOCK = 1 << 16  # elements: the arrays of a block share a core's second-level cache


def _negative_power(d: np.ndarray, beta: float, out: np.ndarray) -> np.ndarray:
    """d^-beta; the usual exponents by square roots, which cost a tenth of a power."""
    if beta == 0.75:
        np.sqrt(d, out=out)
        out *= np.sqrt(out)
        return np.reciprocal(out, out=out)
    if beta == 0.5:
        np.sqrt(d, out=out)
        return np.reciprocal(out, out=out)
    if beta == 1.0:
        return np.reciprocal(d, out=out)
    return np.power(d, d.dtype.type(-beta), out=out)


class _Windows:
    """Sums over windows of channels in blocks (R, C, L): R pixels with L = 1, or R images with L pixels."""

    def __init__(self, channels: int, inner: int, size: int) -> None:
        self.channels, self.inner, self.size = channels, inner, size
        self.before, self.after = size // 2, (size - 1) // 2

    def padded(self, name: str, rows: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        """A work array with a margin of channels, and the view of its inside; the margin is zero."""
        margin = self.size - 1
        whole = scratch(name, (rows, self.channels + margin, self.inner), dtype)
        whole[:, : self.before] = 0
        whole[:, self.before + self.channels :] = 0
        return whole, whole[:, self.before : self.before + self.channels]

    def sums(self, whole: np.ndarray) -> np.ndarray:
        """Sums of ``size`` neighbours, from each channel of the padded array on."""
        flat = whole.reshape(-1)
        total = scratch("lrn.total", flat.shape, flat.dtype)
        # In an order that doubles: 1, 2, 4, ... neighbours, then what is missing.
        reach, step = 1, self.inner
        partial = flat
        result: np.ndarray | None = None
        start = 0
        for bit in range(self.size.bit_length()):
            if self.size >> bit & 1:
                length = max(flat.size - (start + reach - 1) * step, 0)
                piece = partial[start * step : start * step + length]
                if result is None:
                    result = total
                    result[:length] = piece
                else:
                    result[:length] += piece
                start += reach
            if self.size >> (bit + 1):
                other = scratch(f"lrn.partial{bit % 2}", flat.shape, flat.dtype)
                length = max(flat.size - (2 * reach - 1) * step, 0)
                np.add(partial[:length], partial[reach * step : reach * step + length], out=other[:length])
                partial, reach = other, 2 * reach
        return total.reshape(whole.shape)[:, : self.channels]


def _window_sums(module: Any, values: Any, size: int, before: int) -> Any:
    """The same by array-module operations: sums over channels c - before ... c - before + size - 1 of (R, C, L)."""
    rows, channels, inner = values.shape
    whole = module.zeros((rows, channels + size - 1, inner), values.dtype)
    whole[:, before : before + channels] = values
    total = whole[:, :channels].copy()
    for shift in range(1, size):
        total += whole[:, shift : shift + channels]
    return total


class LocalResponseNorm(Op):
    """y = x (k + scale · sum of x^2 over ``size`` neighbouring channels)^-beta; ``scale`` is alpha'."""

    name = "local_response_norm"
    autocast = "float32"

    def infer(self, *inputs: Any, size: int, scale: float, beta: float, k: float) -> Inferred:
        (x,) = inputs
        if x.ndim < 3:
            raise ShapeError(
                f"local_response_norm: input must have at least 3 dimensions (N, C, ...), got shape {tuple(x.shape)}"
            )
        require_floating("local_response_norm", "input", x)
        if size < 1:
            raise ValueError(f"local_response_norm: size must be at least 1, got {size}")
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def reference(self, *inputs: Any, size: int, scale: float, beta: float, k: float) -> Any:
        (x,) = inputs
        d = np.empty_like(x)
        for c in range(x.shape[1]):
            first = max(c - size // 2, 0)
            d[:, c] = k + scale * (x[:, first : c + (size - 1) // 2 + 1] ** 2).sum(axis=1)
        return x * d**-beta

    def supports(self, *inputs: Any, **attributes: Any) -> tuple[str, str]:
        if isinstance(inputs[0], np.ndarray):
            return "cpu", "flat shifted additions in blocks that fit the L2 cache"
        return "array", "no hand-written kernel yet: array-module operations"

    def forward(self, ctx: Context, *inputs: Any, size: int, scale: float, beta: float, k: float) -> Any:
        (x,) = inputs
        path = self.path(*inputs)
        if path == "reference":
            return self.reference(x, size=size, scale=scale, beta=beta, k=k)
        ctx.save(x)
        if x.size == 0:
            return x.copy()
        module = module_of(x)
        carry = compute_dtype(x.dtype)
        planes = planes_first(x)
        rows = _as_blocks(module, x, planes, carry)
        if path == "cpu":
            y, d = _forward_blocks(rows, size, scale, beta, k)
        else:
            d = _window_sums(module, rows * rows, size, size // 2) * carry.type(scale) + carry.type(k)
            y = rows * d ** carry.type(-beta)
        ctx.state = (planes, d)
        return from_samples(y, x, planes)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (x,) = ctx.saved
        module = module_of(x)
        if x.size == 0:
            return (module.zeros_like(x),)
        planes, d = ctx.state
        size, scale, beta = (ctx.attributes[name] for name in ("size", "scale", "beta"))
        carry = compute_dtype(x.dtype)
        rows, g = (_as_blocks(module, value, planes, carry) for value in (x, grad))
        if self.path(x) == "cpu":
            dx = _backward_blocks(g, rows, d, size, scale, beta)
        else:
            power = d ** carry.type(-beta)
            sums = _window_sums(module, g * rows * power / d, size, (size - 1) // 2)
            dx = g * power - rows * sums * carry.type(2 * scale * beta)
        return (from_samples(dx, x, planes),)

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(89)

        def case(label: str, shape: tuple[int, ...], size: int, nhwc: bool = True, **kw: float) -> Sample:
            x = rng.standard_normal(shape) * 2
            if nhwc:
                order = (0, *range(2, len(shape)), 1)
                x = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
            return Sample(label, (x,), {"size": size, "scale": 0.2, "beta": 0.75, "k": 1.0, **kw})

        yield case("five", (2, 7, 3, 4), 5)
        yield case("NCHW", (2, 7, 3, 4), 5, nhwc=False)
        yield case("even", (2, 6, 3, 3), 4)
        yield case("even, NCHW", (2, 6, 3, 3), 2, nhwc=False)
        yield case("one", (2, 5, 3, 3), 1)
        yield case("seven", (2, 9, 3, 3), 7)
        yield case("more than the channels", (2, 3, 3, 3), 11)
        yield case("beta 0.5", (2, 6, 3, 3), 3, beta=0.5, k=2.0)
        yield case("beta 1", (2, 6, 3, 3), 3, beta=1.0)
        yield case("beta 0.6", (2, 6, 3, 3), 3, beta=0.6)
        yield case("3-d", (2, 6, 5), 3, nhwc=False)
        yield case("5-d", (2, 6, 2, 2, 3), 3)
        yield case("one channel, batch 1", (1, 1, 3, 3), 5)
        yield case("several blocks", (3, 33, 31, 29), 5)
        yield case("several blocks, NCHW", (5, 20, 31, 29), 6, nhwc=False)
        yield case("empty batch", (0, 5, 3, 3), 5)


def _as_blocks(module: Any, x: Any, planes: bool, carry: Any) -> Any:
    """(N, C, L) for planes, (N L, C, 1) for channels last."""
    rows = as_samples(module, x, planes, carry)
    return rows if planes else rows.reshape(-1, x.shape[1], 1)


def _parts(rows: np.ndarray) -> tuple[int, int]:
    """How many rows make a block, and how many blocks there are."""
    step = max(1, _BLOCK // (rows.shape[1] * rows.shape[2]))
    return step, -(-len(rows) // step)


def _forward_blocks(rows: np.ndarray, size: int, scale: float, beta: float, k: float) -> tuple[Any, Any]:
    """y and d."""
    dtype = rows.dtype
    windows = _Windows(rows.shape[1], rows.shape[2], size)
    y, d = empty(rows.shape, dtype), empty(rows.shape, dtype)
    step, count = _parts(rows)

    def run(index: int) -> None:
        block = slice(index * step, (index + 1) * step)
        x = rows[block]
        whole, inside = windows.padded("lrn.padded", len(x), dtype)
        np.multiply(x, x, out=inside)
        np.multiply(windows.sums(whole), dtype.type(scale), out=d[block])
        d[block] += dtype.type(k)
        _negative_power(d[block], beta, y[block])
        y[block] *= x

    run_blocks(count, rows.size, run)
    return y, d


def _backward_blocks(dy: np.ndarray, rows: np.ndarray, d: np.ndarray, size: int, scale: float, beta: float) -> Any:
    """dx."""
    dtype = rows.dtype
    # The channels whose windows hold i are the mirrored window of i.
    windows = _Windows(rows.shape[1], rows.shape[2], size)
    windows.before, windows.after = windows.after, windows.before
    dx = empty(rows.shape, dtype)
    step, count = _parts(rows)

    def run(index: int) -> None:
        block = slice(index * step, (index + 1) * step)
        x, out = rows[block], dx[block]
        _negative_power(d[block], beta, out)
        out *= dy[block]
        work = scratch("lrn.work", x.shape, dtype)
        np.divide(out, d[block], out=work)
        whole, inside = windows.padded("lrn.padded", len(x), dtype)
        np.multiply(work, x, out=inside)
        np.multiply(windows.sums(whole), dtype.type(2 * scale * beta), out=work)
        work *= x
        out -= work

    run_blocks(count, rows.size, run)
    return dx


register(LocalResponseNorm())
