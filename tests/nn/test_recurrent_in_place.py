"""Writing in place to what a recurrent layer returns: the output and the states are the caller's to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.nn.utils.rnn import pack_padded_sequence

KINDS = ["RNN", "LSTM", "GRU"]


def draw(*shape: int, seed: int = 0) -> gn.Tensor:
    return gn.tensor(np.random.default_rng(seed).standard_normal(shape))


def states_of(last: Any) -> list[gn.Tensor]:
    return list(last) if isinstance(last, tuple) else [last]


def add(output: gn.Tensor) -> None:
    output += 1


def clear(output: gn.Tensor) -> None:
    output[:2] = 0


def scale_unrecorded(output: gn.Tensor) -> None:
    with gn.no_grad():
        output.mul_(2).add_(1)


WRITES: dict[str, Callable[[gn.Tensor], Any]] = {
    "+=": add,
    "index": clear,
    "masked_fill_": lambda output: output.masked_fill_(output > 0, 0.5),
    "clamp_": lambda output: output.clamp_(-0.1, 0.1),
    "relu": lambda output: F.relu(output, inplace=True),
    "mul_ twice": lambda output: output.mul_(2).mul_(3),
    "without gradients": scale_unrecorded,
}


@pytest.mark.parametrize("dtype", [gn.float64, gn.float16], ids=["float64", "float16"])
@pytest.mark.parametrize("form", ["steps first", "batch first", "packed", "one sequence", "second layer"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_output_may_be_written_to(kind: str, form: str, dtype: Any) -> None:
    """The gradients are those of the same written to a copy."""
    layer = getattr(nn, kind)(3, 4, 2 if form == "second layer" else 1, batch_first=form == "batch first", dtype=dtype)
    start = draw(5, 3) if form == "one sequence" else draw(5, 5, 3)

    def gradients(write: Callable[[gn.Tensor], Any], copied: bool) -> list[np.ndarray]:
        layer.zero_grad()
        x = start.to(dtype).clone().requires_grad_()
        output, _ = layer(pack_padded_sequence(x, [5, 4, 4, 2, 1]) if form == "packed" else x)
        output = output.data if form == "packed" else output
        output = output.clone() if copied else output
        write(output)
        for _ in range(2):  # the graph is walked again
            (output**2).sum().backward(retain_graph=True)
        return [tensor.grad.numpy().copy() for tensor in (x, *layer.parameters())]

    for name, write in WRITES.items():
        for one, other in zip(gradients(write, False), gradients(write, True), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12, err_msg=name)


def test_the_copy_that_backward_needs_is_made_once_and_only_for_a_write() -> None:
    layer = nn.GRU(3, 4)
    output, _ = layer(draw(5, 2, 3).float())
    node = output._node
    assert node.saved[-1] is output._array
    output.add_(1)
    kept = node.saved[-1]
    assert not np.may_share_memory(kept, output._array)
    with gn.no_grad():
        output.add_(1)
    assert node.saved[-1] is kept


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_states_leave_the_graph_in_place(kind: str, layers: int, bidirectional: bool) -> None:
    """``for state in hidden: state.detach_()`` between the blocks of a long sequence."""
    layer = getattr(nn, kind)(3, 4, layers, bidirectional=bidirectional, dtype=gn.float64)
    x = draw(8, 2, 3)
    found = []
    for in_place in (True, False):
        layer.zero_grad()
        hidden: Any = None
        for start in (0, 4):
            output, hidden = layer(x[start : start + 4], hidden)
            output.sum().backward()
            if in_place:
                for state in states_of(hidden):
                    state.detach_()
            else:
                hidden = tuple(state.detach() for state in hidden) if kind == "LSTM" else hidden.detach()
        found.append([parameter.grad.numpy().copy() for parameter in layer.parameters()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    with gn.no_grad():
        for state in states_of(layer(x)[1]):
            state.detach_()


@pytest.mark.parametrize("kind", KINDS)
def test_states_may_be_written_to(kind: str) -> None:
    layer = getattr(nn, kind)(3, 4, dtype=gn.float64)
    output, last = layer(draw(5, 2, 3))
    for state in states_of(last):
        state.mul_(3)
    (output.sum() + sum(state.sum() for state in states_of(last))).backward()
    gradient = layer.weight_hh_l0.grad.numpy().copy()
    layer.zero_grad()
    output, last = layer(draw(5, 2, 3))
    (output.sum() + sum(3 * state.sum() for state in states_of(last))).backward()
    np.testing.assert_allclose(gradient, layer.weight_hh_l0.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_the_states_of_a_cell_may_be_written_to(kind: str) -> None:
    """What the cell keeps of them is its own."""
    cell = getattr(nn, kind)(3, 4, dtype=gn.float64)
    x = draw(2, 3).requires_grad_()
    found = []
    for copied in (False, True):
        cell.zero_grad()
        x.grad = None
        states = [state.clone() if copied else state for state in states_of(cell(x))]
        for state in states:
            state.mul_(3).add_(1)
        for _ in range(2):
            sum((state * state).sum() for state in states).backward(retain_graph=True)
        found.append([tensor.grad.numpy().copy() for tensor in (x, *cell.parameters())])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
