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
from gpunet.ops.recurrent import Recurrent

__all__ = ["RNN"]


class RNN(Recurrent):
    """h_t = tanh or ReLU of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh."""

    name = "rnn"
    gates = 1
    states = 1

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

    def samples(self) -> Iterator[Sample]:
        yield from self.make_samples({"nonlinearity": "tanh"})
        yield from self.make_samples({"nonlinearity": "relu"}, "relu, ")


register(RNN())
