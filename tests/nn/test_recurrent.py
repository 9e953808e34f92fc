"""Recurrent layers: the equations they are made of, the facts of the reference, and what they promise."""

from __future__ import annotations

import copy
import json
import math
import sys
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.autograd import gradcheck
from gpunet.nn.utils.rnn import pack_sequence, unpack_sequence

GOLDEN = json.loads((Path(__file__).parents[1] / "models" / "facts" / "golden.json").read_text())
KINDS = ["RNN", "LSTM", "GRU"]
CELLS = [("RNNCell", 1), ("LSTMCell", 4), ("GRUCell", 3)]


def draw(*shape: int, seed: int = 0) -> gn.Tensor:
    return gn.tensor(np.random.default_rng(seed).standard_normal(shape))


def close(actual: Any, expected: Any, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=tolerance, atol=tolerance)


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def make(kind: str, *args: Any, **options: Any) -> Any:
    return getattr(nn, kind)(*args, dtype=gn.float64, **options)


def states_of(last: Any) -> list[gn.Tensor]:
    return list(last) if isinstance(last, tuple) else [last]


def arrays(layer: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in layer.state_dict().items()}


# The rows of the reference -------------------------------------------------------------------------------------------


def test_b25_the_gradient_of_a_shared_weight_is_the_sum_over_its_untied_copies() -> None:
    """B25: the same W at every step; dW = sum of dW_t."""
    x = draw(4, 2, 3)
    tied = make("RNNCell", 3, 5)
    copies = [copy.deepcopy(tied) for _ in range(4)]
    h = g = draw(2, 5, seed=1)
    for t in range(4):
        h, g = tied(x[t], h), copies[t](x[t], g)
    (h * h).sum().backward()
    (g * g).sum().backward()
    for name, parameter in tied.named_parameters():
        parts = [dict(one.named_parameters())[name].grad.numpy() for one in copies]
        close(parameter.grad.numpy(), sum(parts))
        assert all(np.abs(part).max() > 0 for part in parts)


def test_b38_a_perceptron_with_a_hidden_layer() -> None:
    """B38: H = s(X W1 + b1), O = H W2 + b2."""
    net = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 3)).double()
    x = draw(5, 4)
    w1, b1, w2, b2 = (parameter.detach().numpy() for parameter in net.parameters())
    close(net(x).detach().numpy(), sigmoid(x.numpy() @ w1.T + b1) @ w2.T + b2)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_b39_the_vanilla_network(nonlinearity: str) -> None:
    """B39: H_t = s(X_t W_X + H_{t-1} W_H + b1), O_t = H_t W2 + b2, with the same three matrices at every step."""
    layer, head = make("RNN", 4, 8, nonlinearity=nonlinearity), nn.Linear(8, 3, dtype=gn.float64)
    x, h = draw(6, 2, 4), draw(1, 2, 8, seed=1)
    output, last = layer(x, h)
    scores = head(output)
    weights, state = arrays(layer), h.numpy()[0]
    for t in range(6):
        a = x.numpy()[t] @ weights["weight_ih_l0"].T + state @ weights["weight_hh_l0"].T
        a += weights["bias_ih_l0"] + weights["bias_hh_l0"]
        state = np.tanh(a) if nonlinearity == "tanh" else np.maximum(a, 0)
        close(output.detach().numpy()[t], state)
        close(scores.detach().numpy()[t], state @ head.weight.detach().numpy().T + head.bias.detach().numpy())
    close(last.detach().numpy()[0], state)


@pytest.mark.parametrize(("kind", "gates"), [("rnn", 1), ("lstm", 4), ("gru", 3)])
def test_b39_b42_b43_parameter_counts(kind: str, gates: int) -> None:
    """B39, B42, B43: with d = 4 and h = 8, 32 + 64 + 8 = 104 a gate; two biases, as PyTorch has them, make it 112."""
    layer = getattr(nn, kind.upper())(4, 8)
    count = sum(parameter.numel() for parameter in layer.parameters())
    second_bias = layer.bias_hh_l0.numel()
    assert count == gates * (4 * 8 + 8 * 8 + 8 + 8) == GOLDEN["rnn_params d4 h8 (torch two biases)"][kind]
    assert count - second_bias == gates * 104 == GOLDEN["rnn_params d4 h8 (one bias)"][kind]


def test_b40_backpropagation_through_time() -> None:
    """B40: dH_t = dO_t W2^T + (dH_{t+1} * s') W_H^T."""
    cell, head = make("RNNCell", 3, 5), nn.Linear(5, 2, dtype=gn.float64)
    x, seeds = draw(4, 2, 3), draw(4, 2, 2, seed=1)
    states, h = [], gn.zeros(2, 5, dtype=gn.float64)
    for t in range(4):
        h = cell(x[t], h)
        h.retain_grad()
        states.append(h)
    gn.autograd.backward([head(state) for state in states], list(seeds))
    w_h, w_2 = cell.weight_hh.detach().numpy(), head.weight.detach().numpy()
    after = np.zeros((2, 5))
    for t in reversed(range(4)):
        d_h = seeds.numpy()[t] @ w_2 + after
        close(states[t].grad.numpy(), d_h)
        after = (d_h * (1 - states[t].detach().numpy() ** 2)) @ w_h


def test_b40_the_worked_recurrence() -> None:
    """B40, B09 (golden.json, "bptt"): h_t = tanh(w h_{t-1} + u x_t), dh_4/dw."""
    fact = GOLDEN["bptt"]
    layer = make("RNN", 1, 1, bias=False)
    with gn.no_grad():
        layer.weight_ih_l0.fill_(fact["u"])
        layer.weight_hh_l0.fill_(fact["w"])
    output, _ = layer(gn.tensor(fact["x"], dtype=gn.float64).reshape(4, 1, 1))
    output[3].sum().backward()
    assert layer.weight_hh_l0.grad.item() == pytest.approx(fact["dh4_dw"], rel=1e-9)


def test_b41_no_gradient_crosses_the_cut() -> None:
    """B41: with the state detached, each block gives its own terms alone; together they are less than the whole."""
    x = draw(6, 2, 3)

    def gradient(cut: bool, first: int = 0) -> np.ndarray:
        """With the loss on the steps from ``first`` on."""
        layer = make("GRU", 3, 4)
        layer.load_state_dict(start)
        before, state = layer(x[:3])
        after, _ = layer(x[3:], state.detach() if cut else state)
        gn.cat([before, after])[first:].sum().backward()
        return layer.weight_hh_l0.grad.numpy().copy()

    start = make("GRU", 3, 4).state_dict()
    second = make("GRU", 3, 4)
    second.load_state_dict(start)
    with gn.no_grad():
        _, state = second(x[:3])
    second(x[3:], state)[0].sum().backward()
    close(gradient(True, first=3), second.weight_hh_l0.grad.numpy())
    assert np.abs(gradient(False, first=3) - gradient(True, first=3)).max() > 1e-3
    whole = make("GRU", 3, 4)
    whole.load_state_dict(start)
    whole(x)[0].sum().backward()
    close(gradient(False), whole.weight_hh_l0.grad.numpy())


def test_b42_the_lstm_of_zero_weights() -> None:
    """B42 (golden.json): all gates at one half: c = f c = .5, h = o tanh(c) = .23105858."""
    fact, cell, layer = GOLDEN["lstm_zero_weights"], nn.LSTMCell(4, 8), nn.LSTM(4, 8)
    for module in (cell, layer):
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
    h0, c0 = gn.zeros(1, 8), gn.full((1, 8), float(fact["c0"]))
    h, c = cell(gn.ones(1, 4), (h0, c0))
    output, (h_n, c_n) = layer(gn.ones(1, 1, 4), (h0[None], c0[None]))
    for value in (c, c_n):
        close(value.detach().numpy(), np.full(value.shape, fact["c1"]), 1e-6)
    for value in (h, h_n, output):
        close(value.detach().numpy(), np.full(value.shape, fact["h1"]), 1e-6)


def test_b42_the_equations_of_the_lstm() -> None:
    """B42: i, f, o sigmoid, g tanh of (x_t, h_{t-1}); c = f c + i g; h = o tanh(c)."""
    layer, cell = make("LSTM", 4, 8), make("LSTMCell", 4, 8)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x, h0, c0 = draw(5, 2, 4), draw(1, 2, 8, seed=1), draw(1, 2, 8, seed=2)
    output, (h_n, c_n) = layer(x, (h0, c0))
    weights, h, c, state = arrays(cell), h0.numpy()[0], c0.numpy()[0], (h0[0], c0[0])
    for t in range(5):
        a = x.numpy()[t] @ weights["weight_ih"].T + weights["bias_ih"] + h @ weights["weight_hh"].T + weights["bias_hh"]
        i, f, g, o = np.split(a, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        state = cell(x[t], state)
        for found in (output[t], state[0]):
            close(found.detach().numpy(), h)
        close(state[1].detach().numpy(), c)
    close(h_n.detach().numpy()[0], h)
    close(c_n.detach().numpy()[0], c)


def test_b43_the_gru_of_zero_weights() -> None:
    """B43 (golden.json): h = z h = .5."""
    fact, cell, layer = GOLDEN["gru_zero_weights"], nn.GRUCell(4, 8), nn.GRU(4, 8)
    for module in (cell, layer):
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
    h0 = gn.full((1, 8), float(fact["h0"]))
    for value in (cell(gn.ones(1, 4), h0), *layer(gn.ones(1, 1, 4), h0[None])):
        close(value.detach().numpy(), np.full(value.shape, fact["h1"]), 1e-6)


def test_b43_the_equations_of_the_gru() -> None:
    """B43: the reset gate acts on W_hn h + b_hn, after the product, as in PyTorch."""
    layer, cell = make("GRU", 4, 8), make("GRUCell", 4, 8)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x, h0 = draw(5, 2, 4), draw(1, 2, 8, seed=1)
    output, last = layer(x, h0)
    weights, h, state = arrays(cell), h0.numpy()[0], h0[0]
    for t in range(5):
        x_r, x_z, x_n = np.split(x.numpy()[t] @ weights["weight_ih"].T + weights["bias_ih"], 3, axis=1)
        h_r, h_z, h_n = np.split(h @ weights["weight_hh"].T + weights["bias_hh"], 3, axis=1)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        h = (1 - z) * np.tanh(x_n + r * h_n) + z * h
        state = cell(x[t], state)
        for found in (output[t], state):
            close(found.detach().numpy(), h)
    close(last.detach().numpy()[0], h)


# Gradients -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind: str, packed: bool) -> None:
    layer = make(kind, 2, 2, 2, bidirectional=True)
    names, count = [name for name, _ in layer.named_parameters()], 2 if kind == "LSTM" else 1
    x = draw(3, 2, 2)
    states = [draw(4, 2, 2, seed=2 + place) for place in range(count)]

    def run(x: gn.Tensor, *rest: gn.Tensor) -> tuple[gn.Tensor, ...]:
        for name, value in zip(names, rest[count:], strict=True):
            layer._parameters[name] = value  # the values that gradcheck shifts, in place of the parameters
        hx = rest[:count] if count == 2 else rest[0]
        output, last = layer(pack_sequence([x[:2, 0], x[:, 1]], enforce_sorted=False) if packed else x, hx)
        return (output.data if packed else output, *states_of(last))

    given = [x, *states, *(parameter.detach().clone() for parameter in layer.parameters())]
    assert gradcheck(run, tuple(value.requires_grad_() for value in given))


@pytest.mark.parametrize(("kind", "gates"), CELLS)
def test_gradients_of_a_cell_are_those_of_finite_differences(kind: str, gates: int) -> None:
    cell = make(kind, 2, 3)
    assert cell.weight_ih.shape == (gates * 3, 2)
    states = [draw(2, 3, seed=2 + place) for place in range(2 if kind == "LSTMCell" else 1)]

    def run(x: gn.Tensor, *hx: gn.Tensor) -> tuple[gn.Tensor, ...]:
        return tuple(states_of(cell(x, hx if len(hx) == 2 else hx[0])))

    assert gradcheck(run, tuple(value.requires_grad_() for value in (draw(2, 2), *states)))


# Two thousand steps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_memory_grows_with_the_length_and_no_faster(kind: str) -> None:
    layer = getattr(nn, kind)(4, 8)

    def peak(steps: int) -> int:
        x = gn.tensor(np.random.default_rng(0).standard_normal((steps, 1, 4)).astype(np.float32), requires_grad=True)
        layer.zero_grad()
        tracemalloc.start()
        output, _ = layer(x)
        output.sum().backward()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert np.isfinite(x.grad.numpy()).all()
        assert np.abs(x.grad.numpy()[0]).max() > 0
        return found

    peak(10)
    assert peak(2000) < 7 * peak(500)  # 4 where it is linear, 16 where it is quadratic


def test_two_thousand_cells_need_no_recursion() -> None:
    cell = make("LSTMCell", 3, 4)
    x = draw(2000, 1, 3)
    h = c = gn.zeros(1, 4, dtype=gn.float64)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    try:
        for t in range(2000):
            h, c = cell(x[t], (h, c))
        h.sum().backward()
    finally:
        sys.setrecursionlimit(limit)
    layer = make("LSTM", 3, 4)
    layer.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    layer(x)[0][-1].sum().backward()
    close(cell.weight_hh.grad.numpy(), layer.weight_hh_l0.grad.numpy(), 1e-8)


# Layers, directions, layouts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_direction_is_the_first_on_the_sequence_turned_around(kind: str) -> None:
    both, one = make(kind, 3, 4, bidirectional=True), make(kind, 3, 4)
    x = draw(5, 2, 3)
    output, last = both(x)
    for suffix, place in (("", 0), ("_reverse", 1)):
        one.load_state_dict({name: both.state_dict()[name + suffix] for name in one.state_dict()})
        alone, end = one(x.flip(0) if place else x)
        close((alone.flip(0) if place else alone).detach().numpy(), output[..., 4 * place : 4 * place + 4].detach())
        for a, b in zip(states_of(end), states_of(last), strict=True):
            close(a[0].detach().numpy(), b[place].detach().numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_layers_stand_above_each_other(kind: str) -> None:
    stacked, lower, upper = make(kind, 3, 4, 2), make(kind, 3, 4), make(kind, 4, 4)
    for layer, one in enumerate((lower, upper)):
        names = {name: name.replace("_l0", f"_l{layer}") for name in one.state_dict()}
        one.load_state_dict({name: stacked.state_dict()[there] for name, there in names.items()})
    x = draw(5, 2, 3)
    output, last = stacked(x)
    below, first = lower(x)
    above, second = upper(below)
    close(output.detach().numpy(), above.detach().numpy())
    for whole, a, b in zip(states_of(last), states_of(first), states_of(second), strict=True):
        close(whole.detach().numpy(), np.concatenate([a.detach().numpy(), b.detach().numpy()]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_carries_a_sequence_on(kind: str) -> None:
    layer, x = make(kind, 3, 4, 2), draw(7, 2, 3)
    whole, end = layer(x)
    first, state = layer(x[:3])
    second, last = layer(x[3:], state)
    close(gn.cat([first, second]).detach().numpy(), whole.detach().numpy())
    for a, b in zip(states_of(last), states_of(end), strict=True):
        close(a.detach().numpy(), b.detach().numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 3])
def test_without_gradients_the_same_is_computed(kind: str, layers: int) -> None:
    """Step by step too, as text is drawn; from states that are views of what is written to; and watched or not."""
    layer, x = make(kind, 3, 4, layers), draw(3, 2, 3)
    count = 2 if kind == "LSTM" else 1
    held = draw(count, 2, layers, 4, seed=5)
    views = [part.transpose(0, 1) for part in held]
    held.mul_(2)
    assert all(
        np.array_equal(view.numpy(), part.numpy().swapaxes(0, 1)) for view, part in zip(views, held, strict=True)
    )
    output, last = layer(x, tuple(views) if count == 2 else views[0])
    with gn.no_grad():
        state = tuple(views) if count == 2 else views[0]
        steps = []
        for t in range(3):
            y, state = layer(x[t : t + 1], state)
            steps.append(y)
        names: list[str] = []
        with gn.autograd.observe(lambda op, *_: names.append(op.name)):
            watched, _ = layer(x, tuple(views) if count == 2 else views[0])
    assert names.count(kind.lower()) == layers
    assert "slice" in names
    close(gn.cat(steps).numpy(), output.detach().numpy())
    close(watched.numpy(), output.detach().numpy())
    for a, b in zip(states_of(state), states_of(last), strict=True):
        assert not a.requires_grad
        close(a.numpy(), b.detach().numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_may_come_first_or_be_left_out(kind: str) -> None:
    layer, first = make(kind, 3, 4, 2, bidirectional=True), make(kind, 3, 4, 2, batch_first=True, bidirectional=True)
    first.load_state_dict(layer.state_dict())
    x = draw(5, 2, 3)
    output, last = layer(x)
    transposed, same = first(x.transpose(0, 1))
    close(transposed.transpose(0, 1).detach().numpy(), output.detach().numpy())
    single, end = layer(x[:, 1])
    assert single.shape == first(x[:, 1])[0].shape == (5, 8)
    close(single.detach().numpy(), output[:, 1].detach().numpy())
    for a, b, c in zip(states_of(last), states_of(same), states_of(end), strict=True):
        assert a.shape == (4, 2, 4)
        close(a.detach().numpy(), b.detach().numpy())
        close(c.detach().numpy(), a[:, 1].detach().numpy())


@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_sequence_gives_what_it_gives_alone(kind: str, enforce_sorted: bool) -> None:
    """Padding has no part in the second direction, and states come back in the batch's order."""
    layer = make(kind, 3, 4, 2, bidirectional=True)
    lengths = [6, 3, 3, 1] if enforce_sorted else [3, 1, 6, 3]
    sequences = [draw(length, 3, seed=place) for place, length in enumerate(lengths)]
    count = 2 if kind == "LSTM" else 1
    states = [draw(4, len(lengths), 4, seed=50 + place) for place in range(count)]
    hx = tuple(states) if count == 2 else states[0]
    output, last = layer(pack_sequence(sequences, enforce_sorted), hx)
    for place, (sequence, found) in enumerate(zip(sequences, unpack_sequence(output), strict=True)):
        own = tuple(state[:, place] for state in states)
        alone, end = layer(sequence, own if count == 2 else own[0])
        close(found.detach().numpy(), alone.detach().numpy())
        for a, b in zip(states_of(last), states_of(end), strict=True):
            close(a[:, place].detach().numpy(), b.detach().numpy())


# Weights -------------------------------------------------------------------------------------------------------------


def test_names_shapes_and_order_of_the_weights() -> None:
    layer = nn.GRU(5, 7, 2, bidirectional=True)
    expected = []
    for number, features in ((0, 5), (1, 14)):
        for suffix in ("", "_reverse"):
            expected += [
                (f"weight_ih_l{number}{suffix}", (21, features)),
                (f"weight_hh_l{number}{suffix}", (21, 7)),
                (f"bias_ih_l{number}{suffix}", (21,)),
                (f"bias_hh_l{number}{suffix}", (21,)),
            ]
    assert [(name, tuple(value.shape)) for name, value in layer.state_dict().items()] == expected
    held = [parameter for group in layer.all_weights for parameter in group]
    assert [id(parameter) for parameter in held] == [id(parameter) for parameter in layer.parameters()]
    layer.flatten_parameters()
    plain = nn.LSTM(5, 7, bias=False)
    assert [len(group) for group in plain.all_weights] == [2]
    cell = nn.LSTMCell(5, 7, bias=False)
    assert (cell.bias_ih, cell.bias_hh) == (None, None)
    assert list(cell.state_dict()) == ["weight_ih", "weight_hh"]


@pytest.mark.parametrize("make_layer", [lambda: nn.LSTM(30, 16, 2), lambda: nn.GRUCell(30, 16), lambda: nn.RNN(9, 16)])
def test_weights_are_drawn_evenly_up_to_one_over_the_root_of_the_units(make_layer: Any) -> None:
    gn.manual_seed(0)
    layer = make_layer()
    drawn = np.concatenate([parameter.detach().numpy().ravel() for parameter in layer.parameters()])
    bound = 1 / math.sqrt(16)
    assert 0.95 * bound < np.abs(drawn).max() <= bound
    # The variance of U(-k, k) is k^2 / 3; that of 400 draws or more strays by less than 20 %.
    assert abs(drawn.mean()) < 0.15 * bound
    assert drawn.var() == pytest.approx(bound**2 / 3, rel=0.2)
    gn.manual_seed(0)
    again = make_layer()
    for a, b in zip(layer.parameters(), again.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    layer.reset_parameters()
    assert not np.array_equal(next(layer.parameters()).detach().numpy(), next(again.parameters()).detach().numpy())


def test_device_and_dtype_of_the_weights() -> None:
    for kind in (*KINDS, "RNNCell", "LSTMCell", "GRUCell"):
        layer = getattr(nn, kind)(3, 4, device="meta", dtype=gn.float64)
        assert {(str(p.device), p.dtype.name) for p in layer.parameters()} == {("meta", "float64")}
        assert {p.dtype.name for p in layer.float().parameters()} == {"float32"}
    other = nn.LSTM(3, 4, device="cpu:1")
    output, (h, c) = other(gn.zeros(2, 1, 3, device="cpu:1"))
    assert {str(value.device) for value in (output, h, c)} == {"cpu:1"}


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_on_meta_are_those_of_the_cpu(kind: str) -> None:
    sequences = [draw(length, 3, seed=length) for length in (2, 4, 1)]
    outcomes = []
    for place in ("cpu", "meta"):
        layer = make(kind, 3, 4, 2, bidirectional=True, device=place)
        output, last = layer(pack_sequence([one.to(place) for one in sequences], enforce_sorted=False))
        padded, lengths = nn.utils.rnn.pad_packed_sequence(output)
        assert (padded.device.type, lengths.tolist()) == (place, [2, 4, 1])
        outcomes.append([tuple(value.shape) for value in (output.data, padded, *states_of(last))])
    assert outcomes[0] == outcomes[1] == [(7, 8), (4, 3, 8)] + [(4, 3, 4)] * len(states_of(last))


def test_a_layer_can_be_copied_and_its_weights_computed_from_others() -> None:
    x = draw(4, 2, 3)
    layer = make("LSTM", 3, 4)
    twin = copy.deepcopy(layer)
    close(twin(x)[0].detach().numpy(), layer(x)[0].detach().numpy())
    nn.utils.weight_norm(twin, "weight_hh_l0")
    close(twin(x)[0].detach().numpy(), layer(x)[0].detach().numpy())
    with gn.no_grad():
        twin.weight_hh_l0_g.mul_(2)
    layer.load_state_dict({**layer.state_dict(), "weight_hh_l0": layer.weight_hh_l0.detach() * 2})
    close(twin(x)[0].detach().numpy(), layer(x)[0].detach().numpy())


def test_half_types() -> None:
    gn.manual_seed(0)
    layer = nn.LSTM(3, 4, 2)
    x = draw(5, 2, 3).float()
    expected = layer(x)[0].detach().numpy()
    output, (h, _) = layer.half()(x.half())
    assert output.dtype == h.dtype == gn.float16
    close(output.detach().float().numpy(), expected, 5e-3)


# Dropout -------------------------------------------------------------------------------------------------------------


def passing_on(layers: int, dropout: float) -> nn.RNN:
    """A network that gives back a positive input, but for what dropout does between its layers."""
    layer = nn.RNN(50, 50, layers, nonlinearity="relu", bias=False, dropout=dropout)
    with gn.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(gn.eye(50) * (name.startswith("weight_ih")))
    return layer


def test_dropout_acts_between_layers_in_training_alone() -> None:
    x = gn.ones(40, 30, 50)
    layer = passing_on(2, 0.3)
    dropped, last = layer(x)
    values = dropped.detach().numpy()
    np.testing.assert_allclose(np.unique(values), [0, 1 / 0.7], rtol=1e-6)
    # 60,000 draws: the share strays by 0.0019.
    assert abs((values == 0).mean() - 0.3) < 0.02
    assert (last[0].detach().numpy() == 1).all()
    assert (layer.eval()(x)[0].detach().numpy() == 1).all()
    twice = passing_on(3, 0.3)(x)[0].detach().numpy()
    assert abs((twice != 0).mean() - 0.49) < 0.02
    gn.manual_seed(4)
    first = passing_on(2, 0.5)(x)[0].detach().numpy()
    gn.manual_seed(4)
    np.testing.assert_array_equal(first, passing_on(2, 0.5)(x)[0].detach().numpy())
    packed, _ = layer.train()(pack_sequence([x[:, 0], x[:9, 1]]))
    assert abs((packed.data.detach().numpy() == 0).mean() - 0.3) < 0.06  # of 2,450 draws, which stray by 0.0093
    assert (passing_on(2, 1.0)(x)[0].detach().numpy() == 0).all()


def test_dropout_of_a_single_layer_warns_that_it_does_nothing() -> None:
    text = "LSTM: dropout acts between layers, after all but the last; with num_layers=1 dropout=0.5 does nothing"
    with pytest.warns(UserWarning, match="dropout") as caught:
        layer = nn.LSTM(3, 4, dropout=0.5)
    assert [str(one.message) for one in caught] == [text]
    assert caught[0].filename == __file__
    x = gn.ones(3, 2, 3)
    np.testing.assert_array_equal(layer(x)[0].detach().numpy(), layer.eval()(x)[0].detach().numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nn.LSTM(3, 4, 2, dropout=0.5)


def test_a_network_learns_to_remember() -> None:
    """The first of eight signs, told at the end: only a state can carry it."""
    gn.manual_seed(0)
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (8, 64, 1)).astype(np.float32)
    x, labels = gn.tensor(signs), gn.tensor((signs[0, :, 0] > 0).astype(np.int64))
    layer, head = nn.GRU(1, 16), nn.Linear(16, 2)
    optimizer = gn.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.02)
    for _ in range(120):
        loss = F.cross_entropy(head(layer(x)[1][0]), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimizer.step()
    assert loss.item() < 0.05  # chance is log 2 = 0.69
