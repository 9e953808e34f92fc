"""The rows of the reference about recurrent networks' equations: B25, B38 and B39."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn


def draw(*shape: int, seed: int = 0) -> gn.Tensor:
    return gn.tensor(np.random.default_rng(seed).standard_normal(shape))


def array(parameter: gn.Tensor) -> np.ndarray:
    return parameter.detach().numpy()


def test_b38_the_multilayer_perceptron() -> None:
    """B38: H = s(X W_1 + b_1), O = H W_2 + b_2; a layer's weight is W^T."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x = draw(5, 4)
    w_1, b_1, w_2, b_2 = (array(p) for p in model.parameters())
    h = np.tanh(x.numpy() @ w_1.T + b_1)
    np.testing.assert_allclose(model(x).detach().numpy(), h @ w_2.T + b_2, rtol=1e-12)
    assert sum(p.numel() for p in model.parameters()) == 4 * 8 + 8 + 8 * 3 + 3


@pytest.mark.parametrize("kind", ["layer", "cell"])
def test_b39_the_vanilla_recurrent_network(kind: str) -> None:
    """B39: H_t = s(X_t W_X + H_{t-1} W_H + b_1), O_t = H_t W_2 + b_2.

    d = 4, h = 8: 32 + 64 + 8 = 104 numbers, and 8 o + o of the output. PyTorch's layers, and so these, write b_1 as the
    sum of two vectors: 8 numbers more.
    """
    rnn: Any = nn.RNN(4, 8).double() if kind == "layer" else nn.RNNCell(4, 8).double()
    head = nn.Linear(8, 3).double()
    w_x, w_h, b_ih, b_hh = (array(p) for p in rnn.parameters())
    assert w_x.size + w_h.size + b_ih.size == 32 + 64 + 8 == 104
    assert sum(p.numel() for p in rnn.parameters()) == 104 + 8
    assert sum(p.numel() for p in head.parameters()) == 8 * 3 + 3
    x, h = draw(6, 5, 4), np.zeros((5, 8))
    outputs, states, state = [], [], None
    for step in x:
        h = np.tanh(step.numpy() @ w_x.T + h @ w_h.T + (b_ih + b_hh))
        states.append(h)
        outputs.append(h @ array(head.weight).T + array(head.bias))
        if kind == "cell":
            state = rnn(step, state)
            np.testing.assert_allclose(array(state), h, rtol=1e-10)
            np.testing.assert_allclose(array(head(state)), outputs[-1], rtol=1e-10)
    if kind == "layer":
        found, last = rnn(x)
        np.testing.assert_allclose(array(found), states, rtol=1e-10)
        np.testing.assert_allclose(array(last[0]), states[-1], rtol=1e-10)
        np.testing.assert_allclose(array(head(found)), outputs, rtol=1e-10)


def test_b39_the_matrices_are_the_same_at_every_step() -> None:
    """B39: three matrices that do not depend on t: the very same arrays, however long the sequence is."""
    cell, head = nn.RNNCell(4, 8), nn.Linear(8, 3)
    seen: list[tuple[int, ...]] = []
    used = {id(p._array) for p in (*cell.parameters(), *head.parameters())}

    def note(op: Any, inputs: Any, attributes: Any, outputs: Any, path: str) -> None:
        weights = tuple(id(t._array) for t in inputs if isinstance(t, gn.Tensor) and id(t._array) in used)
        if weights:
            seen.append(weights)

    state = None
    with gn.autograd.observe(note):
        for step in draw(7, 2, 4).float():
            state = cell(step, state)
            head(state)
    assert len(seen) == 2 * 7
    assert len(set(seen[0::2])) == len(set(seen[1::2])) == 1
    assert {one for weights in seen for one in weights} == used


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_b25_the_gradient_of_the_weight_needs_the_whole_sequence(kind: str) -> None:
    """B25: the same W at every step; dW = sum of dW_t of untied copies."""
    layer, x, v = getattr(nn, kind)(2, 3).double(), draw(5, 4, 2), draw(5, 4, 3, seed=1)
    (layer(x)[0] * v).sum().backward()
    copies = [getattr(nn, f"{kind}Cell")(2, 3).double() for _ in range(5)]
    state, total = None, 0
    for t, copy in enumerate(copies):
        copy.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
        state = copy(x[t], state)
        total = total + ((state[0] if isinstance(state, tuple) else state) * v[t]).sum()
    total.backward()
    for name, parameter in layer.named_parameters():
        parts = [getattr(copy, name.removesuffix("_l0")).grad.numpy() for copy in copies]
        np.testing.assert_allclose(parameter.grad.numpy(), sum(parts), rtol=1e-9, atol=1e-12)
        for t in range(5):  # no step can be left out
            if t > 0 or name != "weight_hh_l0":  # at the first step there is no state to weigh
                assert np.abs(parts[t]).max() > 1e-4
