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

from gpunet.backend.memory import scratch
from gpunet.ops.base import register
from gpunet.ops.recurrent import Recurrent, sigmoid, sigmoids_and_tanh, sum_of_parts
from gpunet.ops.recurrent_products import add_parts
from gpunet.ops.recurrent_walk import Advance, Retreat

__all__ = ["LSTM"]


class LSTM(Recurrent):
    """c_t = f c_{t-1} + i g, h_t = o tanh(c_t)."""

    name = "lstm"
    gates = 4
    states = 2
    # Buffers o, i, f, g: those of one activation beside each other, and those that get their gradient through c.
    buffers = 4
    input_gates = hidden_gates = ((3, 0.5), (0, 0.5), (1, 0.5), (2, 1.0))
    hidden_buffers = slice(0, 4)

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

    def once(
        self, x: Any, states: tuple[Any, ...], weights: tuple[Any, ...], attributes: dict[str, Any]
    ) -> tuple[Any, ...]:
        h, c = states
        a = sum_of_parts(x, h, weights)
        sigmoids_and_tanh(a, 4, 2)
        hidden = h.shape[1]
        cell = a[:, hidden : 2 * hidden] * c
        cell += a[:, :hidden] * a[:, 2 * hidden : 3 * hidden]
        h = np.tanh(cell)
        h *= a[:, 3 * hidden :]
        return h, cell

    def advance(self, walk: Advance, attributes: dict[str, Any]) -> tuple[Any, ...]:
        product, sums = walk.product, walk.sums
        h, c = walk.states
        half = np.array(0.5, sums.dtype)
        part = scratch("recurrent.cell", c.shape, c.dtype)
        cells = [c] * len(walk.y) if walk.cells is None else walk.cells
        steps = walk.gates.swapaxes(0, 1)
        for a, oif, (o, i, f, g), y, cell in zip(steps, steps[:, :3], steps, walk.y, cells, strict=True):
            product(h)
            np.add(a, sums, a)
            np.tanh(a, a)
            np.multiply(oif, half, oif)
            np.add(oif, half, oif)
            np.multiply(f, c, cell)
            np.multiply(i, g, part)
            np.add(cell, part, cell)
            np.tanh(cell, part)
            np.multiply(o, part, y)
            h, c = y, cell
        return h, c

    def retreat(self, walk: Retreat, attributes: dict[str, Any]) -> None:
        product, sums, gates = walk.product, walk.sums, walk.gates
        o, i, f, g = gates
        # What the gradients of h and c are multiplied by, of several steps at once: da_o = dh by_o, dh/dc = through,
        # and da_i, da_f, da_g = dc by_i, dc by_f, dc by_g. With h = o tanh(c) and u = i g they are
        #   h (1 - o), o - h tanh(c), u (1 - i), f c (1 - f), i - u g
        shape, dtype = o.shape, o.dtype
        part, through = scratch("recurrent.part", shape, dtype), scratch("recurrent.through", shape, dtype)
        factors = scratch("recurrent.factors", gates.shape, dtype)
        by_o, by_i, by_f, by_g = factors
        np.tanh(walk.cells, part)
        np.multiply(o, part, by_o)  # h once more: sooner than read from memory
        np.multiply(by_o, part, part)
        np.subtract(o, part, through)
        np.multiply(by_o, o, part)
        np.subtract(by_o, part, by_o)
        np.multiply(i, g, part)
        np.multiply(part, g, by_g)
        np.subtract(i, by_g, by_g)
        np.multiply(part, i, by_i)
        np.subtract(part, by_i, by_i)
        np.multiply(f, walk.cells_before, part)
        np.multiply(part, f, by_f)
        np.subtract(part, by_f, by_f)

        dh, dc = walk.grad_states
        other = scratch("recurrent.cell", dc.shape, dtype)
        steps, factors = gates.swapaxes(0, 1), factors.swapaxes(0, 1)
        every = zip(steps, steps[:, 0], steps[:, 2], steps[:, 1:], factors[:, 0], factors[:, 1:], strict=True)
        for (da, da_o, forget, da_ifg, by_h, by_c), slope, grad_y in zip(every, through, walk.grad_y, strict=True):
            np.add(dh, grad_y, dh)
            np.multiply(dh, slope, other)
            np.add(dc, other, dc)
            np.multiply(dc, forget, other)
            np.multiply(by_c, dc, da_ifg)
            np.multiply(by_h, dh, da_o)
            dc, other = other, dc
            product(da)
            add_parts(sums, dh)
        if dc is not walk.grad_states[1]:
            np.copyto(other, dc)


register(LSTM())
