"""The vanilla recurrent layer (Elman 1990).

    a_t = x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh,   h_t = tanh(a_t) or max(a_t, 0)
    da_t = dh_t (1 - h_t^2)  or  dh_t where h_t > 0

``recurrent`` has the shapes. One gate: W_ih (H, I), W_hh (H, H).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.ops.base import Inferred, Sample, register
from gpunet.ops.recurrent import Recurrent, sum_of_parts
from gpunet.ops.recurrent_walk import Advance, Retreat

__all__ = ["RNN"]


class RNN(Recurrent):
    """h_t = tanh or ReLU of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh."""

    name = "rnn"
    gates = 1
    states = 1
    buffers = 1
    input_gates = hidden_gates = ((0, 1.0),)
    hidden_buffers = slice(0, 1)
    in_output = True

    def infer(self, *inputs: Any, nonlinearity: str = "tanh", **attributes: Any) -> Inferred:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"rnn: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        return super().infer(*inputs, **attributes)

    def cell(self, x_part: Any, h_part: Any, state: tuple[Any, ...], **attributes: Any) -> tuple[tuple[Any, ...], Any]:
        a = x_part + h_part
        h = np.maximum(a, 0) if attributes.get("nonlinearity") == "relu" else np.tanh(a)
        return (h,), h

    def cell_backward(
        self, grad_state: tuple[Any, ...], kept: Any, state: tuple[Any, ...], **attributes: Any
    ) -> tuple[Any, Any, tuple[Any, ...]]:
        (dh,) = grad_state
        da = np.where(kept > 0, dh, 0) if attributes.get("nonlinearity") == "relu" else dh * (1 - kept**2)
        return da, da, (np.zeros_like(dh),)

    def once(
        self, x: Any, states: tuple[Any, ...], weights: tuple[Any, ...], attributes: dict[str, Any]
    ) -> tuple[Any, ...]:
        a = sum_of_parts(x, states[0], weights)
        relu = attributes.get("nonlinearity") == "relu"
        return (np.maximum(a, 0, out=a) if relu else np.tanh(a, a),)

    def advance(self, walk: Advance, attributes: dict[str, Any]) -> tuple[Any, ...]:
        product, sums = walk.product, walk.sums[0]
        (h,) = walk.states
        relu = attributes.get("nonlinearity") == "relu"
        zero = np.array(0, sums.dtype)
        for y in walk.y:  # the products with x are there
            product(h)
            np.add(y, sums, y)
            if relu:
                np.maximum(y, zero, out=y)
            else:
                np.tanh(y, y)
            h = y
        return (h,)

    def retreat(self, walk: Retreat, attributes: dict[str, Any]) -> None:
        product, sums, gates = walk.product, walk.sums[0], walk.gates
        (dh,) = walk.grad_states
        relu = attributes.get("nonlinearity") == "relu"
        slope = gates[0]
        if relu:
            off = np.logical_not(walk.y > 0)
        else:
            off = walk.y  # not used
            np.multiply(walk.y, walk.y, slope)
            np.subtract(np.array(1, slope.dtype), slope, slope)
        zero = np.array(0, slope.dtype)
        for da, da_0, grad_y, mask in zip(gates.swapaxes(0, 1), slope, walk.grad_y, off, strict=True):
            np.add(dh, grad_y, dh)
            if relu:  # not a product with 0 or 1, which would let infinities and NaN through
                np.copyto(da_0, dh)
                np.copyto(da_0, zero, where=mask)
            else:
                np.multiply(da_0, dh, da_0)
            product(da)
            np.copyto(dh, sums)

    def samples(self) -> Iterator[Sample]:
        yield from self.make_samples({"nonlinearity": "tanh"})
        yield from self.make_samples({"nonlinearity": "relu"}, "relu, ")


register(RNN())
