"""The gated recurrent unit (Cho et al. 2014), as PyTorch and cuDNN have it: the reset gate acts after the product.

    r, z = sigmoid of the first two blocks of x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh
    n = tanh(x_n + r h_n), with x_n and h_n the third blocks of x_t W_ih^T + b_ih and of h_{t-1} W_hh^T + b_hh
    h_t = (1 - z) n + z h_{t-1}

    dn = dh (1 - z),  dz = dh (h_{t-1} - n),  dh_{t-1} = dh z + ...;  dr = dn (1 - n^2) h_n;  dh_n = dn (1 - n^2) r

``recurrent`` has the shapes. Three gates in PyTorch's order: W_ih (3 H, I), W_hh (3 H, H).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.backend.memory import scratch
from gpunet.ops.base import register
from gpunet.ops.recurrent import Recurrent, sigmoid, sigmoids_and_tanh
from gpunet.ops.recurrent_products import add_parts
from gpunet.ops.recurrent_walk import Advance, Retreat

__all__ = ["GRU"]


class GRU(Recurrent):
    """h_t = (1 - z) n + z h_{t-1}."""

    name = "gru"
    gates = 3
    states = 1
    # Buffers n, r, z, and h_n: the first three get their gradient with the input weights, the last three with W_hh.
    buffers = 4
    input_gates = ((2, 1.0), (0, 0.5), (1, 0.5))
    hidden_gates = ((0, 0.5), (1, 0.5), (2, 1.0))
    hidden_buffers = slice(1, 4)
    separate = 2

    def cell(self, x_part: Any, h_part: Any, state: tuple[Any, ...], **_: Any) -> tuple[tuple[Any, ...], Any]:
        (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(x_part, 3, axis=1), np.split(h_part, 3, axis=1)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        n = np.tanh(x_n + r * h_n)
        return ((1 - z) * n + z * state[0],), (r, z, n, h_n)

    def cell_backward(
        self, grad_state: tuple[Any, ...], kept: Any, state: tuple[Any, ...], **_: Any
    ) -> tuple[Any, Any, tuple[Any, ...]]:
        (dh,) = grad_state
        r, z, n, h_n = kept
        da_n = dh * (1 - z) * (1 - n**2)
        da_z = dh * (state[0] - n) * z * (1 - z)
        da_r = da_n * h_n * r * (1 - r)
        return (
            np.concatenate([da_r, da_z, da_n], axis=1),
            np.concatenate([da_r, da_z, da_n * r], axis=1),
            (dh * z,),
        )

    def once(
        self, x: Any, states: tuple[Any, ...], weights: tuple[Any, ...], attributes: dict[str, Any]
    ) -> tuple[Any, ...]:
        (h,), (w_ih, w_hh, b_ih, b_hh) = states, weights
        hidden = h.shape[1]
        x_part, h_part = np.matmul(x, w_ih.T), np.matmul(h, w_hh.T)
        if b_ih is not None:
            x_part += b_ih
        if b_hh is not None:
            h_part += b_hh
        rz, n = x_part[:, : 2 * hidden], x_part[:, 2 * hidden :]
        rz += h_part[:, : 2 * hidden]
        sigmoids_and_tanh(rz, 2, None)
        h_part = h_part[:, 2 * hidden :]
        h_part *= rz[:, :hidden]
        n += h_part
        np.tanh(n, n)
        h = h - n
        h *= rz[:, hidden:]
        h += n
        return (h,)

    def advance(self, walk: Advance, attributes: dict[str, Any]) -> tuple[Any, ...]:
        product, sums, bias = walk.product, walk.sums, walk.bias
        (h,) = walk.states
        half = np.array(0.5, sums.dtype)
        part = scratch("recurrent.cell", h.shape, h.dtype)
        sums_rz, sums_n = sums[:2], sums[2]
        steps = walk.gates.swapaxes(0, 1)
        kept = steps[:, 3] if steps.shape[1] == 4 else [sums_n] * len(steps)
        for n, rz, (r, z), h_n, y in zip(steps[:, 0], steps[:, 1:3], steps[:, 1:3], kept, walk.y, strict=True):
            product(h)
            np.add(rz, sums_rz, rz)
            np.tanh(rz, rz)
            np.multiply(rz, half, rz)
            np.add(rz, half, rz)
            if bias is not None:
                np.add(sums_n, bias, h_n)
            elif h_n is not sums_n:
                np.copyto(h_n, sums_n)
            np.multiply(r, h_n, part)
            np.add(n, part, n)
            np.tanh(n, n)
            np.subtract(h, n, y)
            np.multiply(y, z, y)
            np.add(y, n, y)
            h = y
        return (h,)

    def retreat(self, walk: Retreat, attributes: dict[str, Any]) -> None:
        product, sums, gates = walk.product, walk.sums, walk.gates
        n, r, z, h_n = gates
        # What the gradient of h is multiplied by, of several steps at once, for n, r, z and h_n.
        dtype = n.dtype
        one = np.array(1, dtype)
        factors, part = scratch("recurrent.factors", gates.shape, dtype), scratch("recurrent.tanh", n.shape, dtype)
        by_n, by_r, by_z, by_h_n = factors
        np.multiply(n, n, by_n)
        np.subtract(one, by_n, by_n)
        np.subtract(one, z, part)
        np.multiply(by_n, part, by_n)
        np.multiply(gates[1:3], gates[1:3], factors[1:3])
        np.subtract(gates[1:3], factors[1:3], factors[1:3])
        np.multiply(by_r, h_n, by_r)
        np.multiply(by_r, by_n, by_r)
        np.subtract(walk.y_before, n, part)
        np.multiply(by_z, part, by_z)
        np.multiply(by_n, r, by_h_n)

        (dh,) = walk.grad_states
        part = scratch("recurrent.cell", dh.shape, dtype)
        steps = gates.swapaxes(0, 1)
        every = zip(steps, steps[:, 2], steps[:, 1:], factors.swapaxes(0, 1), walk.grad_y, strict=True)
        for da, update, da_hidden, factor, grad_y in every:
            np.add(dh, grad_y, dh)
            np.multiply(dh, update, part)
            np.multiply(factor, dh, da)
            product(da_hidden)
            add_parts(sums, dh)
            np.add(dh, part, dh)


register(GRU())
