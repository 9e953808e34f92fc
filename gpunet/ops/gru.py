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

from gpunet.ops.base import register
from gpunet.ops.recurrent import Recurrent, sigmoid

__all__ = ["GRU"]


class GRU(Recurrent):
    """h_t = (1 - z) n + z h_{t-1}."""

    name = "gru"
    gates = 3
    states = 1

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


register(GRU())
