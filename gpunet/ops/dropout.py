"""Dropout of elements (Hinton et al. 2012; Srivastava et al. 2014), of channels (Tompson et al. 2015), and alpha
dropout (Klambauer et al. 2017).

With m Bernoulli(1 - p) for each element, or for each channel of each sample:

    dropout:        y = x m / (1 - p)                    (inverted: the expectation is x's)
    alpha_dropout:  y = a (x m + alpha' (1 - m)) + b     (mean 0 and variance 1 stay)
                    alpha' = -scale alpha of SELU, a = ((1 - p) (1 + p alpha'^2))^(-1/2), b = -a p alpha'

Element i, counted in logical order, is dropped when its 32-bit random number is below p * 2^32. The numbers are the
low and high halves of the 64-bit words of Philox4x64-10 under the key and counter given, so that a CPU and a GPU
kernel draw the same mask. Channels are counted in the order (N, C).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating

ALPHA_PRIME = -1.7580993408473766  # what SELU tends to: -scale alpha

Key = tuple[int, int, int]


def keep_mask(shape: tuple[int, ...], p: float, key: Key) -> np.ndarray:
    """True where an element is kept.

    Args:
        shape: of the mask, (...) in logical order.
        p: probability of dropping, 0 to 1.
        key: seed, stream and call number.
    """
    if p >= 1.0:
        return np.zeros(shape, bool)
    size = int(np.prod(shape, dtype=np.int64))
    seed, stream, call = key
    bits = np.random.Philox(key=np.array((seed, stream), np.uint64), counter=np.array((0, call, 0, 0), np.uint64))
    words = np.asarray(bits.random_raw(-(-size // 2)), dtype="<u8").view("<u4")[:size]
    return (words >= np.uint32(min(round(p * 2.0**32), 2**32 - 1))).reshape(shape)


def _mask(x: Any, p: float, key: Key, channels: bool) -> Any:
    """The mask on x's device, in x's physical order, in a shape that broadcasts against x."""
    shape = (*x.shape[:2], *(1,) * (x.ndim - 2)) if channels else tuple(x.shape)
    kept = keep_mask(shape, p, key)
    module = module_of(x)
    if module is not np:
        return module.asarray(kept)
    if channels or x.flags.c_contiguous:
        return kept
    # Turned once here, or every product with it would read it out of order.
    ordered = np.empty_like(x, bool)
    np.copyto(ordered, kept)
    return ordered


class _Dropout(Op):
    """What the two have in common."""

    def infer(self, *inputs: Any, p: float, key: Key, channels: bool = False) -> Inferred:
        (x,) = inputs
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"{self.name}: p must lie in 0..1, got {p}")
        require_floating(self.name, "input", x)
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        kept, scale = ctx.state
        return (grad * _factor(kept, scale),) if kept.size < grad.size else (_product(grad, scale, kept),)

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(59)
        key = (1, 2, 3)
        image = rng.standard_normal((2, 3, 3, 4)).transpose(0, 3, 1, 2)
        yield Sample("half", (rng.standard_normal((4, 5)),), {"p": 0.5, "key": (0, 2, 0)})
        yield Sample("channels last", (image,), {"p": 0.2, "key": key})
        yield Sample("none", (rng.standard_normal(7),), {"p": 0.0, "key": key})
        yield Sample("everything", (rng.standard_normal(7),), {"p": 1.0, "key": key}, differentiable=False)
        yield Sample("channels", (image,), {"p": 0.4, "key": key, "channels": True})
        yield Sample("channels of rows", (rng.standard_normal((3, 4)),), {"p": 0.4, "key": key, "channels": True})
        yield Sample("empty batch", (np.zeros((0, 3)),), {"p": 0.5, "key": key})


def _product(x: Any, scale: Any, kept: Any) -> Any:
    y = x * scale
    y *= kept
    return y


def _factor(kept: Any, scale: Any) -> Any:
    """The mask as the numbers to multiply by, where it is small."""
    return kept * scale


class Dropout(_Dropout):
    """y = x m / (1 - p) with m Bernoulli(1 - p), an m for each channel if ``channels``."""

    name = "dropout"

    def reference(self, *inputs: Any, p: float, key: Key, channels: bool = False) -> Any:
        (x,) = inputs
        return np.where(_mask(x, p, key, channels), x / (1 - p) if p < 1 else 0.0, 0.0)

    def forward(self, ctx: Context, *inputs: Any, p: float, key: Key, channels: bool = False) -> Any:
        (x,) = inputs
        if self.path(*inputs, p=p) == "reference":
            return self.reference(*inputs, p=p, key=key, channels=channels)
        kept = _mask(x, p, key, channels)
        scale = x.dtype.type(1.0 / (1.0 - p) if p < 1.0 else 0.0)
        ctx.state = (kept, scale)
        return x * _factor(kept, scale) if channels else _product(x, scale, kept)


class AlphaDropout(_Dropout):
    """y = a (x m + alpha' (1 - m)) + b: what is dropped becomes what SELU tends to, and the moments stay."""

    name = "alpha_dropout"

    def reference(self, *inputs: Any, p: float, key: Key, channels: bool = False) -> Any:
        (x,) = inputs
        if p == 1:
            return x * 0
        a, b = _moments(p)
        return a * np.where(_mask(x, p, key, channels), x, ALPHA_PRIME) + b

    def forward(self, ctx: Context, *inputs: Any, p: float, key: Key, channels: bool = False) -> Any:
        (x,) = inputs
        if self.path(*inputs, p=p) == "reference":
            return self.reference(*inputs, p=p, key=key, channels=channels)
        kept = _mask(x, p, key, channels)
        a, b = _moments(p) if p < 1.0 else (0.0, 0.0)
        scale = x.dtype.type(a)
        ctx.state = (kept, scale)
        if p == 1.0:
            return x * scale
        # a (x m + alpha' (1 - m)) + b = a (x - alpha') m + (a alpha' + b)
        y = x - x.dtype.type(ALPHA_PRIME)
        if channels:
            y *= _factor(kept, scale)
        else:
            y *= scale
            y *= kept
        y += x.dtype.type(a * ALPHA_PRIME + b)
        return y


def _moments(p: float) -> tuple[float, float]:
    """a and b that keep mean 0 and variance 1."""
    a = 1 / math.sqrt((1 - p) * (1 + p * ALPHA_PRIME**2))
    return a, -a * p * ALPHA_PRIME


register(Dropout())
register(AlphaDropout())
