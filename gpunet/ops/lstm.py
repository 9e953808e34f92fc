"""The long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i, f, g, o = the four blocks of x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh
    i, f, o <- sigmoid,  g <- tanh;   c_t = f c_{t-1} + i g;   h_t = o tanh(c_t)

    do = dh_t tanh(c_t),  dc = dc_t + dh_t o (1 - tanh(c_t)^2)
    di = dc g,  df = dc c_{t-1},  dg = dc i,  dc_{t-1} = dc f;  then through sigmoid and tanh

``recurrent`` has the shapes. Four gates in PyTorch's order: W_ih (4 H, I), W_hh (4 H, H).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.ops.base import register
from gpunet.ops.recurrent import Recurrent, sigmoid

__all__ = ["LSTM"]


class LSTM(Recurrent):
    """c_t = f c_{t-1} + i g, h_t = o tanh(c_t)."""

    name = "lstm"
    gates = 4
    states = 2

    def cell(self, x_part: Any, h_part: Any, state: tuple[Any, ...], **_: Any) -> tuple[tuple[Any, ...], Any]:
        i, f, g, o = np.split(x_part + h_part, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * state[1] + i * g
        return (o * np.tanh(c), c), (i, f, g, o, c)

    def cell_backward(
        self, grad_state: tuple[Any, ...], kept: Any, state: tuple[Any, ...], **_: Any
    ) -> tuple[Any, Any, tuple[Any, ...]]:
        dh, dc_after = grad_state
        i, f, g, o, c = kept
        tanh_c = np.tanh(c)
        dc = dc_after + dh * o * (1 - tanh_c**2)
        da = np.concatenate(
            [dc * g * i * (1 - i), dc * state[1] * f * (1 - f), dc * i * (1 - g**2), dh * tanh_c * o * (1 - o)], axis=1
        )
        return da, da, (np.zeros_like(dh), dc * f)


register(LSTM())
