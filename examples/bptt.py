"""Backpropagation through time, taken apart: its terms, what makes them unstable, truncation, and clipping.

    python examples/bptt.py [--out FOLDER]

With ``--out``, and where Matplotlib is installed, the pictures of ``gn.inspect.plot_bptt_terms`` and
``plot_bptt_trace`` are written there.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.inspect import BPTTTerms, BPTTTrace, bptt_terms, bptt_trace, repeated_factor
from gpunet.training import tbptt


def terms() -> None:
    """The derivative of h_4 by w, for h_t = tanh(w h_t-1 + 0.5 x_t), one term for each use of w."""
    w = gn.tensor(0.9, dtype=gn.float64, requires_grad=True)
    x = gn.tensor([1.0, -1.0, 0.5, 2.0], dtype=gn.float64)
    found = bptt_terms(lambda x, h: (w * h + 0.5 * x).tanh(), x, gn.zeros_like(w), w)
    print(found)
    h = gn.zeros_like(w)
    for step in x:
        h = (w * h + 0.5 * step).tanh()
    h.backward()
    assert w.grad is not None
    print(f"autograd: {w.grad.item():.9g}")


def products() -> dict[str, BPTTTerms]:
    """It is the product that vanishes or explodes, not the sum: of h_t = w h_t-1 + (1 - w), which stays at 1."""
    curves = {f"w = {w}": repeated_factor(w) for w in (0.9, 1.0, 1.1)}
    for name, one in curves.items():
        norms = one.norms()
        direct = norms.direct
        print(
            f"{name}: the product of 50 Jacobians is {norms.product[-1]:.6g}, of 10 {norms.product[10]:.6g}; "
            f"what it is multiplied with is {direct[-1]:.6g} at every lag: {bool(np.allclose(direct, direct[0]))}"
        )
    w = gn.tensor(1.0, dtype=gn.float64, requires_grad=True)
    x = gn.tensor([1.0, 1.0, -9.0, 1.0, 1.0], dtype=gn.float64)
    off = bptt_terms(lambda x, h: F.relu(w * h + x), x, gn.zeros_like(w), w)
    print(
        "a unit that is off in step 3 of 5: products",
        [term.product.item() for term in off],
        "terms",
        [term.value.item() for term in off],
    )
    return curves


def trace() -> BPTTTrace:
    """Where each state's gradient comes from: from its own output, and from the next state."""
    gn.manual_seed(0)
    cell, head = nn.RNNCell(2, 4), nn.Linear(4, 1)
    x, y = gn.randn(6, 2), gn.randn(6, 1)
    found = bptt_trace(cell, head, F.mse_loss, x, y, None, cell.weight_hh)
    print(found)
    loss = tbptt(lambda x, h: stepped(cell, head, x, h), F.mse_loss, stepwise=True).backward(x, y)
    assert cell.weight_hh.grad is not None
    difference = np.abs(cell.weight_hh.grad.numpy() - found.grad_weights[0].sum(axis=0)).max()
    print(f"loss {loss.item():.6g}; the sum over steps is the gradient of the weight: {difference < 1e-6}")
    return found


def stepped(cell: nn.Module, head: nn.Module, x: gn.Tensor, h: Any) -> tuple[gn.Tensor, gn.Tensor]:
    """One step of a cell and a head."""
    h = cell(x, h)
    return head(h), h


def truncation() -> None:
    """Blocks of k steps: the state goes on, the gradient does not.

    That bounds cost and explosion, and drops what comes from far. What is kept vanishes as it did.
    """
    gn.manual_seed(0)
    layer, x, y = nn.RNN(2, 8).double(), gn.randn(60, 4, 2, dtype=gn.float64), gn.randn(60, 4, 8, dtype=gn.float64)
    with gn.no_grad():
        layer.weight_hh_l0 *= 2.5  # so that the past counts
    full = None
    for k in (None, 60, 20, 5, 1):
        layer.zero_grad()
        loss = tbptt(layer, F.mse_loss, k).backward(x, y)
        grad = layer.weight_hh_l0.grad.numpy().copy()
        full = grad if full is None else full
        off = np.linalg.norm(grad - full) / np.linalg.norm(full)
        print(f"k = {k!s:>4}: loss {loss.item():.6f}, gradient of W_H off by {100 * off:.4g} % of the full one")
    for w in (0.9, 1.1):
        one = repeated_factor(w)
        print(
            f"w = {w}: dh_51/dw = {one.sum().item():.4g}; the terms of the last 10 steps alone are "
            f"{one.sum(since=42).item():.4g}, and the oldest of them is {one[41].value.item():.4g}, as it was"
        )


def train(clip: float | None) -> list[tuple[float, float]]:
    """Loss and gradient's norm in 400 steps of SGD: of a net whose state grows by a factor of 1.2 a step, over 40."""
    gn.manual_seed(0)
    layer, head = nn.RNN(1, 8, nonlinearity="relu"), nn.Linear(8, 1)
    with gn.no_grad():
        layer.weight_hh_l0.copy_(1.2 * gn.eye(8))
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = gn.optim.SGD(parameters, lr=0.02)
    x = gn.rand(40, 32, 1)
    y = x.mean(0)
    history = []
    for _ in range(400):
        optimizer.zero_grad()
        output, _ = layer(x)
        loss = F.mse_loss(head(output[-1]), y)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, math.inf if clip is None else clip)
        history.append((loss.item(), norm.item()))
        if not math.isfinite(history[-1][1]):
            break
        optimizer.step()
    return history


def clipping() -> None:
    """A gradient that explodes throws the weights away; scaled down to a norm of 1 it still points downhill."""
    for name, clip in (("not clipped", None), ("clipped to 1", 1.0)):
        history = train(clip)
        (first, norm), (last, last_norm) = history[0], history[-1]
        print(
            f"{name}: loss {first:.4g} with a gradient of norm {norm:.4g}, after {len(history) - 1} steps {last:.4g}, "
            f"finite: {math.isfinite(last) and math.isfinite(last_norm)}"
        )


def main() -> int:
    """Show all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for pictures")
    arguments = parser.parse_args()
    terms()
    curves = products()
    traced = trace()
    truncation()
    clipping()
    if arguments.out is not None:
        if importlib.util.find_spec("matplotlib") is None:
            print("Matplotlib is not installed: no picture is written")
        else:
            arguments.out.mkdir(parents=True, exist_ok=True)
            gn.inspect.plot_bptt_terms(curves, arguments.out / "product_against_sum.png")
            gn.inspect.plot_bptt_trace(traced, arguments.out / "gradient_trace.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
