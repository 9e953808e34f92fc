"""The terms of backpropagation through time, and the trace of a state's gradient: rows B08, B09, B25, B40 and B41."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import ShapeError, nn
from gpunet.inspect import bptt_terms, bptt_trace


def draw(*shape: int, seed: int = 0) -> gn.Tensor:
    return gn.tensor(np.random.default_rng(seed).standard_normal(shape))


def number(value: float) -> gn.Tensor:
    return gn.tensor(value, dtype=gn.float64, requires_grad=True)


def scalar_terms(w: float = 0.9, u: float = 0.5, x: tuple[float, ...] = (1, -1, 0.5, 2)) -> Any:
    weight = number(w)
    return bptt_terms(
        lambda x, h: (weight * h + u * x).tanh(), gn.tensor(x, dtype=gn.float64), gn.zeros_like(weight), weight
    )


def linear_terms(w: float, steps: int) -> Any:
    """h_t = w h_{t-1} + 1: every Jacobian is w."""
    weight = number(w)
    return bptt_terms(lambda x, h: weight * h + x, gn.ones(steps, dtype=gn.float64), gn.zeros_like(weight), weight)


def test_the_scalar_fact() -> None:
    """B08: h = tanh(.9 h + .5 x), x = (1, -1, .5, 2): dh_4/dw = .151055291, and the terms by hand."""
    terms = scalar_terms()
    assert terms.sum().item() == pytest.approx(0.151055291, abs=5e-10)
    h = [0.0]
    for x in (1, -1, 0.5, 2):
        h.append(math.tanh(0.9 * h[-1] + 0.5 * x))
    np.testing.assert_allclose(terms.states[:, 0], h, rtol=1e-14)
    # df_i/dw = (1 - h_i^2) h_{i-1}, df_j/dh_{j-1} = (1 - h_j^2) w.
    for i, term in enumerate(terms, 1):
        factors = [(1 - h[j] ** 2) * 0.9 for j in range(4, i, -1)]
        assert (term.step, term.lag) == (i, 4 - i)
        np.testing.assert_allclose(term.jacobians.ravel(), factors, rtol=1e-14)
        np.testing.assert_allclose(term.direct, [(1 - h[i] ** 2) * h[i - 1]], rtol=1e-14)
        np.testing.assert_allclose(term.product.item(), math.prod(factors), rtol=1e-14)
        np.testing.assert_allclose(term.value, math.prod(factors) * (1 - h[i] ** 2) * h[i - 1], rtol=1e-14)
    assert terms[0].value == 0  # h_0 = 0: the first use of w does nothing

    def last(w: float) -> float:
        state = 0.0
        for x in (1, -1, 0.5, 2):
            state = math.tanh(w * state + 0.5 * x)
        return state

    assert terms.sum().item() == pytest.approx((last(0.9 + 1e-6) - last(0.9 - 1e-6)) / 2e-6, rel=1e-8)


def test_the_sum_of_any_step_and_of_a_block() -> None:
    """B08, B41: dh_t/dw for each t; truncation keeps the terms since the block's start."""
    terms = scalar_terms()
    for t in range(1, 5):
        weight, h = number(0.9), gn.zeros((), dtype=gn.float64)
        for x in (1, -1, 0.5, 2)[:t]:
            h = (weight * h + 0.5 * x).tanh()
        h.backward()
        np.testing.assert_allclose(terms.sum(t), weight.grad.item(), rtol=1e-13)
        assert len(terms.at(t)) == t
    for since in range(1, 5):
        weight, h = number(0.9), gn.zeros((), dtype=gn.float64)
        for i, x in enumerate((1, -1, 0.5, 2), 1):
            h = (weight * (h.detach() if i == since else h) + 0.5 * x).tanh()
        h.backward()
        np.testing.assert_allclose(terms.sum(since=since), weight.grad.item(), rtol=1e-13)
        np.testing.assert_allclose(terms.sum(since=since), sum(term.value for term in list(terms)[since - 1 :]))


def test_products_vanish_and_explode_while_what_is_added_does_not() -> None:
    """B09: .9^50 = .005154, 1.1^50 = 117.39; the additive term of each step is not multiplied."""
    for w, product in ((0.9, 0.005154), (1.1, 117.39)):
        norms = linear_terms(w, 51).norms()
        assert norms.lag[-1] == 50
        assert norms.product[-1] == pytest.approx(product, rel=1e-4)
        np.testing.assert_allclose(norms.product, w**norms.lag, rtol=1e-12)
        np.testing.assert_allclose(norms.term, norms.product * norms.direct, rtol=1e-12)
        # The direct derivative is h_{t-1} = 1 + w + ...: a sum, the same whatever comes after it.
        sums = (w ** np.arange(50, -1, -1) - 1) / (w - 1)
        np.testing.assert_allclose(norms.direct, sums, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(norms.partial_sum[-1], linear_terms(w, 51).sum(), rtol=1e-12)


def test_truncation_bounds_what_explodes_and_leaves_what_vanishes_as_it_is() -> None:
    """B41: it does not solve vanishing gradients. The terms that are kept are those of the full sum; those of long
    range are dropped.
    """
    for w in (0.9, 1.1):
        terms = linear_terms(w, 51)
        kept = [term.value.item() for term in list(terms)[41:]]
        assert terms.sum(since=42).item() == pytest.approx(sum(kept), rel=1e-12)
        assert terms[41].product.item() == pytest.approx(w**9, rel=1e-12)  # the same decay or growth over 10 steps
        dropped = sum(term.value.item() for term in list(terms)[:41])
        assert terms.sum().item() == pytest.approx(sum(kept) + dropped, rel=1e-12)
        assert dropped > 0.3 * sum(kept)


def test_a_factor_of_zero_kills_the_terms_behind_it() -> None:
    """B09: a unit that is off for one step (ReLU) ends all that came before, and leaves what comes after."""
    weight = number(1.0)
    x = gn.tensor([1.0, 1.0, -9.0, 1.0, 1.0], dtype=gn.float64)
    terms = bptt_terms(lambda x, h: F.relu(weight * h + x), x, gn.zeros_like(weight), weight)
    assert terms.jacobians.ravel().tolist() == [1, 1, 0, 1, 1]
    assert [term.product.item() for term in terms] == [0, 0, 1, 1, 1]
    assert [term.value.item() for term in terms] == [0, 0, 0, 0, 1]


def layer_of(kind: str) -> Any:
    return getattr(nn, kind)(2, 3).double()


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("name", ["weight_hh_l0", "weight_ih_l0", "bias_hh_l0"])
def test_the_terms_of_layers_and_cells_sum_to_autograds_gradient(kind: str, name: str) -> None:
    """B08: any direction in the space of states, against backward through the whole layer."""
    layer, x = layer_of(kind), draw(6, 2)
    terms = bptt_terms(layer, x, None, getattr(layer, name))
    assert len(terms) == 6
    _, state = layer(x)
    parts = state if isinstance(state, tuple) else (state,)
    directions = [draw(*part.shape, seed=place + 1) for place, part in enumerate(parts)]
    sum((part * v).sum() for part, v in zip(parts, directions, strict=True)).backward()
    wanted = getattr(layer, name).grad.numpy()
    v = np.concatenate([one.numpy().ravel() for one in directions])
    found = np.tensordot(v, terms.sum().reshape(v.size, *wanted.shape), 1)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-13)
    cell = getattr(nn, f"{kind}Cell")(2, 3).double()
    cell.load_state_dict({key.removesuffix("_l0"): value for key, value in layer.state_dict().items()})
    np.testing.assert_allclose(
        bptt_terms(cell, x, None, getattr(cell, name.removesuffix("_l0"))).sum().reshape(v.size, *wanted.shape),
        terms.sum().reshape(v.size, *wanted.shape),
        rtol=1e-10,
        atol=1e-13,
    )
    # A batch is one vector of states: nothing goes from one sequence to another.
    batch = bptt_terms(layer, x.unsqueeze(1).expand(6, 2, 2), None, getattr(layer, name))
    if kind != "LSTM":
        assert np.abs(batch.jacobians[:, :3, 3:]).max() == 0
        np.testing.assert_allclose(batch.jacobians[:, 3:, 3:], terms.jacobians, rtol=1e-10)


def test_the_gradient_of_a_tied_weight_is_the_sum_over_untied_copies() -> None:
    """B25: dW = sum of dW_t of untied copies, so it needs the whole sequence."""
    cell, head, x, y = nn.RNNCell(2, 3).double(), nn.Linear(3, 1).double(), draw(5, 2), draw(5, 1)
    copies = [nn.RNNCell(2, 3).double() for _ in range(5)]
    for copy in copies:
        copy.load_state_dict(cell.state_dict())
    h, outputs = gn.zeros(3, dtype=gn.float64), []
    for copy, step in zip(copies, x, strict=True):
        h = copy(step, h)
        outputs.append(head(h))
    F.mse_loss(gn.stack(outputs), y).backward()
    untied = [copy.weight_hh.grad.numpy() for copy in copies]
    trace = bptt_trace(cell, head, F.mse_loss, x, y, weights=cell.weight_hh)
    np.testing.assert_allclose(trace.grad_weights[0], untied, rtol=1e-12, atol=1e-15)
    h, outputs = gn.zeros(3, dtype=gn.float64), []
    for step in x:
        h = cell(step, h)
        outputs.append(head(h))
    F.mse_loss(gn.stack(outputs), y).backward()
    np.testing.assert_allclose(cell.weight_hh.grad.numpy(), sum(untied), rtol=1e-12, atol=1e-15)
    assert all(np.abs(cell.weight_hh.grad.numpy() - sum(untied[:t])).max() > 1e-6 for t in range(5))


def test_a_states_gradient_comes_from_its_output_and_from_the_next_state() -> None:
    """B40: dH_t = dO_t W2^T + (dH_{t+1} * s') W_H^T, in the notes' form H_t = tanh(X_t W_X + H_{t-1} W_H + b)."""
    w_x, w_h, b, w_2 = (draw(*shape, seed=seed).requires_grad_() for seed, shape in
                        enumerate([(3, 4), (4, 4), (4,), (4, 2)]))  # fmt: skip
    x, y, start = draw(6, 5, 3, seed=5), draw(6, 5, 2, seed=6), draw(5, 4, seed=7)

    def step(x: gn.Tensor, h: gn.Tensor) -> gn.Tensor:
        return (x @ w_x + h @ w_h + b).tanh()

    trace = bptt_trace(step, lambda h: h @ w_2, F.mse_loss, x, y, start, (w_x, w_h, b))
    h = trace.states.reshape(7, 5, 4)
    dh = trace.grad_states.reshape(6, 5, 4)
    for t in range(6):
        own = trace.grad_outputs[t] @ w_2.detach().numpy().T
        after = (dh[t + 1] * (1 - h[t + 2] ** 2)) @ w_h.detach().numpy().T if t < 5 else np.zeros((5, 4))
        np.testing.assert_allclose(trace.from_output[t].reshape(5, 4), own, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(trace.from_next[t].reshape(5, 4), after, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(dh[t], own + after, rtol=1e-12, atol=1e-15)
        assert np.abs(own).max() > 1e-3
        assert t == 5 or np.abs(after).max() > 1e-3
    # And with what autograd finds in one go.
    start = start.requires_grad_()
    states, outputs = [start], []
    for one in x:
        states.append(step(one, states[-1]))
        states[-1].retain_grad()
        outputs.append(states[-1] @ w_2)
    stacked = gn.stack(outputs)
    stacked.retain_grad()
    loss = F.mse_loss(stacked, y)
    loss.backward()
    assert trace.loss == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(trace.grad_outputs, stacked.grad.numpy(), rtol=1e-12)
    np.testing.assert_allclose(dh, [state.grad.numpy() for state in states[1:]], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(trace.grad_initial.reshape(5, 4), start.grad.numpy(), rtol=1e-12, atol=1e-15)
    for parts, weight in zip(trace.grad_weights, (w_x, w_h, b), strict=True):
        np.testing.assert_allclose(parts.sum(axis=0), weight.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_the_trace_of_an_lstm() -> None:
    """B40: a state of two tensors, whose memory has no output of its own."""
    layer, head = nn.LSTM(2, 3).double(), nn.Linear(3, 1).double()
    x, y = draw(5, 4, 2), draw(5, 4, 1)
    trace = bptt_trace(layer, lambda h: head(h[0]), F.mse_loss, x, y, None, list(layer.parameters()))
    F.mse_loss(head(layer(x)[0]), y).backward()
    for parts, weight in zip(trace.grad_weights, layer.parameters(), strict=True):
        np.testing.assert_allclose(parts.sum(axis=0), weight.grad.numpy(), rtol=1e-10, atol=1e-14)
    assert np.abs(trace.from_output[:, 12:]).max() == 0
    assert np.abs(trace.from_next[:-1, 12:]).min() > 0
    assert np.abs(trace.from_next[-1]).max() == 0


def test_what_is_printed() -> None:
    """B08, B40: tables to look at."""
    lines = str(scalar_terms()).splitlines()
    assert lines[0] == "dh_4/dw is the sum of 4 terms, each the direct derivative times a product:"
    assert lines[1].split() == ["step", "direct", "term", "product", "of", "Jacobians"]
    assert lines[3].split() == ["2", "0.458864", "0.118391", "0.295493", "*", "0.873144", "=", "0.258008"]
    assert lines[5].split() == ["4", "0.0567159", "0.0567159", "1", "(none)"]
    assert lines[-1] == "the sum is 0.151055291"
    assert "1.1 * 1.1 * 1.1 * ... * 1.1 * 1.1 = 117.391" in str(linear_terms(1.1, 51))
    cell, x = nn.RNNCell(2, 3), draw(4, 2).float()
    lines = str(bptt_terms(cell, x, None, cell.weight_hh)).splitlines()
    assert lines[0] == "dh_4/dw is the sum of 4 terms; norms of what each is made of:"
    assert [line.split()[:2] for line in lines[2:-1]] == [["1", "3"], ["2", "2"], ["3", "1"], ["4", "0"]]
    trace = bptt_trace(cell, nn.Linear(3, 1), F.mse_loss, x, gn.zeros(4, 1), None, (cell.weight_ih, cell.weight_hh))
    lines = str(trace).splitlines()
    assert lines[1].split() == ["t", "|dO_t|", "from", "O_t", "from", "H_t+1", "|dH_t|", "dW1_t", "dW2_t"]
    assert [line.split()[0] for line in lines[2:]] == ["4", "3", "2", "1"]
    assert lines[2].split()[3] == "0"
    assert len(trace) == 4


def cell() -> nn.Module:
    return nn.RNNCell(2, 3)


class Net(nn.Module):
    """What tbptt takes and bptt_terms does not: (output, state)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(2, 3)

    def forward(self, x: gn.Tensor, state: Any = None) -> Any:
        return self.rnn(x.unsqueeze(0), state)


GRU, LSTM = Net("GRU"), Net("LSTM")
ALONE = "step: must return the next state alone, a Tensor or a tuple of as many as it is given, and no output"


def square(x: Any, h: Any) -> Any:
    return h * h


BAD: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("no steps", lambda: bptt_terms(cell(), gn.zeros(0, 2), None, cell().weight_hh),
     ShapeError, "input: a sequence needs at least one step, got shape (0, 2)"),
    ("no function", lambda: bptt_terms(3, gn.zeros(4), None, number(1.0)),
     TypeError, "step: must be a function, a cell or a recurrent layer, got int"),
    ("an array", lambda: bptt_terms(square, np.zeros(4), None, number(1.0)),
     TypeError, "input: must be a Tensor, got ndarray"),
    ("no weight", lambda: bptt_terms(square, gn.zeros(4), gn.zeros(1), 1.0),
     TypeError, "weight: must be a Tensor, got float"),
    ("a fixed weight", lambda: bptt_terms(square, gn.zeros(4), gn.zeros(1), gn.ones(1)),
     ValueError, "weight: must require grad"),
    ("another weight", lambda: bptt_terms(square, gn.zeros(4), gn.ones(1), number(1.0)),
     ValueError, "weight: no step depends on it"),
    ("a state that grows", lambda: bptt_terms(lambda x, h: h.repeat(2), gn.zeros(4), gn.ones(1), number(1.0)),
     ShapeError, "step: the state has 1 numbers before a step and 2 after it"),
    ("a state of Python", lambda: bptt_terms(square, gn.zeros(4), 1.0, number(1.0)),
     TypeError, "state: must be a Tensor, a tuple of them or None, got float"),
    ("no state back", lambda: bptt_terms(lambda x, h: None, gn.zeros(4), gn.ones(1), number(1.0)),
     TypeError, "step: must return the next state as a Tensor or a tuple of them, got None"),
    ("an output and a state", lambda: bptt_terms(GRU, gn.zeros(4, 2), gn.zeros(1, 3), GRU.rnn.weight_hh_l0),
     TypeError, f"{ALONE}; it was given 1 and returned 2"),
    ("an output and a state of two", lambda: bptt_terms(LSTM, gn.zeros(4, 2), None, LSTM.rnn.weight_hh_l0),
     TypeError, f"{ALONE}, got a tuple in a tuple, as (output, state) of an LSTM is one"),
    ("both directions", lambda: bptt_terms(nn.RNN(2, 3, bidirectional=True), gn.zeros(4, 2), None, number(1.0)),
     ValueError, "step: a bidirectional layer has no single direction of time"),
    ("step 0", lambda: scalar_terms().at(0), ValueError, "t: must be a step from 1 to 4, got 0"),
    ("step 5", lambda: scalar_terms().sum(5), ValueError, "t: must be a step from 1 to 4, got 5"),
    ("since after t", lambda: scalar_terms().sum(2, since=3), ValueError, "since: must be a step from 1 to 2, got 3"),
    ("no head", lambda: bptt_trace(cell(), None, F.mse_loss, gn.zeros(4, 2), gn.zeros(4, 3)),
     TypeError, "head: must be a module or a function, got NoneType"),
    ("a loss for each", lambda: bptt_trace(cell(), gn.exp, gn.sub, gn.zeros(4, 2), gn.zeros(4, 3)),
     ShapeError, "loss: must return a Tensor of one number, got shape (4, 3)"),
    ("a weight without grad", lambda: bptt_trace(cell(), gn.exp, F.mse_loss, gn.zeros(4, 2), 0, None, gn.zeros(3)),
     ValueError, "weights: must be tensors that require grad; number 0 is not"),
]  # fmt: skip


@pytest.mark.parametrize("label, act, error, text", BAD, ids=[entry[0] for entry in BAD])
def test_bad_input(label: str, act: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        act()
    assert str(caught.value) == text
    assert type(caught.value) is error


def test_an_output_beside_the_state_is_refused_without_a_first_state_too() -> None:
    """(output, state) looks like a state of two tensors; the layer inside says why it cannot be one."""
    with pytest.raises(TypeError) as caught:
        bptt_terms(GRU, gn.zeros(4, 2), None, GRU.rnn.weight_hh_l0)
    assert str(caught.value).startswith(f"{ALONE}; it does not take what it returns for a state: ")
    terms = bptt_terms(lambda x, h: GRU(x, h)[1], gn.zeros(4, 2), None, GRU.rnn.weight_hh_l0)
    assert terms.states.shape == (5, 3)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_jacobians_are_pytorchs(kind: str) -> None:
    """B08: the sum of the terms is ``torch.autograd.functional.jacobian`` of the last state by the weight."""
    torch = pytest.importorskip("torch")
    layer, x = layer_of(kind), draw(6, 2)
    terms = bptt_terms(layer, x, None, layer.weight_hh_l0)
    theirs = getattr(torch.nn, kind)(2, 3).double()
    weights = {name: torch.from_numpy(value.numpy()) for name, value in layer.state_dict().items()}

    def last(weight: Any) -> Any:
        state = torch.func.functional_call(theirs, {**weights, "weight_hh_l0": weight}, (torch.from_numpy(x.numpy()),))[
            1
        ]
        return torch.cat([part.reshape(-1) for part in (state if isinstance(state, tuple) else (state,))])

    wanted = torch.autograd.functional.jacobian(last, weights["weight_hh_l0"]).numpy()
    np.testing.assert_allclose(terms.sum().reshape(wanted.shape), wanted, rtol=1e-10, atol=1e-13)
