"""A place in the graph where a function sees the gradients of several tensors at once: y_i = x_i, dx = f(dy)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, register

__all__ = ["HOOK_POINT", "HookPoint"]

Change = Callable[[tuple[Any, ...]], tuple[Any, ...]]


class HookPoint(Op):
    """Its outputs are its inputs, the same arrays; in backward ``change`` takes their gradients and gives new ones.

    Gradients that did not arrive are None.
    """

    name = "hook_point"

    def infer(self, *inputs: Any, change: Change) -> Inferred:
        return Inferred(tuple(Spec(tuple(x.shape), x.dtype) for x in inputs))

    def forward(self, ctx: Context, *inputs: Any, change: Change) -> Any:
        ctx.state = change
        return inputs if len(inputs) > 1 else inputs[0]

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        changed: tuple[Any, ...] = ctx.state(grad_outputs)
        return changed

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(47)
        x, y = rng.standard_normal((2, 3)), rng.standard_normal(4)
        yield Sample("two", (x, y), {"change": _unchanged})
        yield Sample("transposed", (x.T,), {"change": _unchanged})
        yield Sample("empty batch", (x[:0],), {"change": _unchanged})


def _unchanged(gradients: tuple[Any, ...]) -> tuple[Any, ...]:
    return gradients


HOOK_POINT = register(HookPoint())
