"""Dropout (Hinton et al. 2012; Srivastava et al. 2014), inverted: kept elements are scaled by 1 / (1 - p).

Element i, counted in logical order, is dropped when its 32-bit random number is below p * 2^32. The numbers are the
low and high halves of the 64-bit words of Philox4x64-10 under the key and counter given, so that a CPU and a GPU
kernel draw the same mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_floating


def keep_mask(shape: tuple[int, ...], p: float, key: tuple[int, int, int]) -> np.ndarray:
    """True where an element is kept.

    Args:
        shape: of the mask, (...) in logical order.
        p: probability of dropping, 0 to 1.
        key: seed, stream and call number.
    """
    size = int(np.prod(shape, dtype=np.int64))
    seed, stream, call = key
    bits = np.random.Philox(key=np.array((seed, stream), np.uint64), counter=np.array((0, call, 0, 0), np.uint64))
    words = np.asarray(bits.random_raw(-(-size // 2)), dtype="<u8").view("<u4")[:size]
    if p >= 1.0:
        return np.zeros(shape, bool)
    return (words >= np.uint32(min(round(p * 2.0**32), 2**32 - 1))).reshape(shape)


class Dropout(Op):
    """y = x m / (1 - p) with m Bernoulli(1 - p)."""

    name = "dropout"

    def infer(self, *inputs: Any, p: float, key: tuple[int, int, int]) -> Inferred:
        (x,) = inputs
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"dropout: p must lie in 0..1, got {p}")
        require_floating("dropout", "input", x)
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def reference(self, *inputs: Any, p: float, key: tuple[int, int, int]) -> Any:
        (x,) = inputs
        return np.where(keep_mask(x.shape, p, key), x / (1 - p) if p < 1 else 0.0, 0.0)

    def forward(self, ctx: Context, *inputs: Any, p: float, key: tuple[int, int, int]) -> Any:
        (x,) = inputs
        if self.path(*inputs, p=p) == "reference":
            return self.reference(*inputs, p=p, key=key)
        module = module_of(x)
        kept = keep_mask(tuple(x.shape), p, key)
        if module is not np:
            kept = module.asarray(kept)
        scale = x.dtype.type(1.0 / (1.0 - p) if p < 1.0 else 0.0)
        ctx.state = (kept, scale)
        y = x * scale
        y *= kept
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        kept, scale = ctx.state
        dx = grad * scale
        dx *= kept
        return (dx,)

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(59)
        yield Sample("half", (rng.standard_normal((4, 5)),), {"p": 0.5, "key": (0, 2, 0)})
        yield Sample(
            "channels last", (rng.standard_normal((2, 3, 3, 4)).transpose(0, 3, 1, 2),), {"p": 0.2, "key": (1, 2, 3)}
        )
        yield Sample("none", (rng.standard_normal(7),), {"p": 0.0, "key": (1, 2, 3)})
        yield Sample("empty batch", (np.zeros((0, 3)),), {"p": 0.5, "key": (1, 2, 3)})


register(Dropout())
