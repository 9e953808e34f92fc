"""Markov chains: rows B07, B27 and B35."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import DeviceError, DTypeError, ShapeError
from gpunet.distributions import MarkovChain

INITIAL = [0.3, 0.7]
TRANSITION = [[0.9, 0.1], [0.4, 0.6]]
THREE = (
    [0.2, 0.5, 0.3],
    [[0.1, 0.6, 0.3], [0.0, 0.5, 0.5], [0.7, 0.2, 0.1]],
)


def chain() -> MarkovChain:
    return MarkovChain(gn.tensor(INITIAL, dtype=gn.float64), gn.tensor(TRANSITION, dtype=gn.float64))


def strings(states: int, length: int) -> gn.Tensor:
    return gn.tensor(list(itertools.product(range(states), repeat=length)))


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_the_probabilities_of_all_sequences_of_a_length_sum_to_one(length: int) -> None:
    """B07: P(X_1, ..., X_t) = prod P(X_s given X_{s-1}, ..., X_1), in sum 1 over all strings."""
    model = MarkovChain(*(gn.tensor(part, dtype=gn.float64) for part in THREE))
    found = model.log_prob(strings(3, length))
    assert found.shape == (3**length,)
    assert found.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    initial, transition = THREE
    for string, value in zip(itertools.product(range(3), repeat=length), found.tolist(), strict=True):
        wanted = initial[string[0]] * math.prod(transition[a][b] for a, b in itertools.pairwise(string))
        assert math.exp(value) == pytest.approx(wanted, rel=1e-12)


def joint(model: MarkovChain) -> np.ndarray:
    """P(X_1, X_2, X_3) of two states."""
    return model.log_prob(strings(2, 3)).exp().numpy().reshape(2, 2, 2)


def test_the_past_does_not_count_once_the_present_is_known() -> None:
    """B27: P(X3 given X2, X1) = P(X3 given X2), while X1 and X3 are correlated: it is *conditional* independence."""
    p = joint(chain())
    given_both = p / p.sum(axis=2, keepdims=True)
    given_one = p.sum(axis=0) / p.sum(axis=(0, 2))[:, None]
    for x1, x2, x3 in itertools.product(range(2), repeat=3):
        assert given_both[x1, x2, x3] == pytest.approx(given_one[x2, x3], rel=1e-12)
        assert given_one[x2, x3] == pytest.approx(TRANSITION[x2][x3], rel=1e-12)
    ends = p.sum(axis=1)
    covariance = ends[1, 1] - ends[1].sum() * ends[:, 1].sum()
    # Var(X_1) times the second eigenvalue (.9 + .6 - 1) once for each step between them.
    assert covariance == pytest.approx(0.3 * 0.7 * 0.5**2, rel=1e-12)


def test_it_is_the_order_that_is_probable() -> None:
    """B35: shuffling changes log_prob; that of independent draws it does not."""
    sequence = gn.tensor([0] * 30 + [1] * 10)
    shuffled = gn.tensor(np.random.default_rng(0).permutation(sequence.numpy()))
    assert chain().log_prob(sequence).item() > chain().log_prob(shuffled).item() + 5
    independent = MarkovChain([0.25, 0.75], [[0.25, 0.75]] * 2)
    assert independent.log_prob(sequence).item() == pytest.approx(independent.log_prob(shuffled).item(), rel=1e-5)


def test_what_it_draws_has_its_frequencies() -> None:
    """B27: on 20,000 drawn sequences, each joint frequency within 5 standard errors."""
    drawn = chain().sample(3, (20_000,))
    assert drawn.shape == (20_000, 3)
    assert drawn.dtype == gn.int64
    counts = np.zeros((2, 2, 2))
    np.add.at(counts, tuple(drawn.numpy().T), 1)
    p = joint(chain())
    assert (np.abs(counts / 20_000 - p) < 5 * np.sqrt(p * (1 - p) / 20_000)).all()


def test_draws_belong_to_the_generator() -> None:
    first, again = (chain().sample(50, (2, 3), gn.Generator(5)) for _ in range(2))
    assert first.shape == (2, 3, 50)
    assert first.tolist() == again.tolist()
    assert chain().sample(50, (2, 3), gn.Generator(6)).tolist() != first.tolist()
    assert chain().sample(7).shape == (7,)
    gn.manual_seed(1)
    one = chain().sample(40).tolist()
    assert chain().sample(40).tolist() != one
    gn.manual_seed(1)
    assert chain().sample(40).tolist() == one


def test_what_is_impossible_is_never_drawn() -> None:
    """Also at the end of a row, whose float32 numbers need not sum to exactly 1."""
    third = 1 / 3
    model = MarkovChain([0.0, 1.0, 0.0, 0.0], [[third, third, third, 0.0]] * 3 + [[0.0, 0.0, 0.0, 1.0]])
    drawn = model.sample(2000, (20,)).numpy()
    assert (drawn[:, 0] == 1).all()
    assert drawn.max() == 2
    assert model.log_prob(gn.tensor([0, 1])).item() == -math.inf
    assert np.isfinite(model.log_prob(gn.from_numpy(drawn)).numpy()).all()


def test_a_fit_is_what_was_counted() -> None:
    model = MarkovChain.fit([[0, 0, 1, 0], [1, 1], [0]])
    np.testing.assert_allclose(model.initial.numpy(), [2 / 3, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(model.transition.numpy(), [[0.5, 0.5], [0.5, 0.5]])
    model = MarkovChain.fit(gn.tensor([0, 0, 0, 1]), num_states=3)
    np.testing.assert_allclose(model.transition.numpy(), [[2 / 3, 1 / 3, 0], [1 / 3] * 3, [1 / 3] * 3], rtol=1e-6)
    # Laplace's rule: one more of each.
    model = MarkovChain.fit(np.array([0, 0, 0, 1]), num_states=3, smoothing=1)
    np.testing.assert_allclose(model.initial.numpy(), [2 / 4, 1 / 4, 1 / 4])
    np.testing.assert_allclose(model.transition.numpy(), [[3 / 6, 2 / 6, 1 / 6], [1 / 3] * 3, [1 / 3] * 3], rtol=1e-6)
    assert math.isfinite(model.log_prob([2, 2, 0]).item())


def test_a_fit_has_the_largest_likelihood() -> None:
    drawn = chain().sample(50, (4,))
    best = MarkovChain.fit(drawn)
    value = best.log_prob(drawn).sum().item()
    assert value > chain().log_prob(drawn).sum().item()
    for change in (0.05, -0.05):
        rows = best.transition.numpy() + np.array([[change, -change], [0, 0]], np.float32)
        assert MarkovChain(best.initial, rows).log_prob(drawn).sum().item() < value


def test_many_draws_are_fitted_back() -> None:
    """Standard errors of the 40,000 transitions are about .003."""
    fitted = MarkovChain.fit(chain().sample(400, (100,)))
    np.testing.assert_allclose(fitted.transition.numpy(), TRANSITION, atol=0.03)


def test_a_step_leaves_the_stationary_distribution_as_it_is() -> None:
    """Of two states it is (q, p) / (p + q), p and q the chances to leave them."""
    np.testing.assert_allclose(chain().stationary().numpy(), [0.8, 0.2], rtol=1e-12)
    model = MarkovChain(*THREE)
    pi = model.stationary().double().numpy()
    np.testing.assert_allclose(pi @ np.array(THREE[1]), pi, atol=1e-6)
    assert pi.sum() == pytest.approx(1.0, abs=1e-6)
    powers = np.linalg.matrix_power(np.array(THREE[1]), 200)
    np.testing.assert_allclose(np.array(THREE[0]) @ powers, pi, atol=1e-6)
    turns = MarkovChain([1.0, 0.0], [[0.0, 1.0], [1.0, 0.0]])  # periodic: one all the same
    np.testing.assert_allclose(turns.stationary().numpy(), [0.5, 0.5], rtol=1e-6)
    ends = MarkovChain([1.0, 0.0], [[0.5, 0.5], [0.0, 1.0]])  # all ends in state 1
    np.testing.assert_allclose(ends.stationary().numpy(), [0, 1], atol=1e-7)
    with pytest.raises(ValueError, match="stationary: there are several"):
        MarkovChain([0.5, 0.5], [[1.0, 0.0], [0.0, 1.0]]).stationary()


def test_log_prob_has_gradients() -> None:
    """d log P / d p_ij = (number of transitions from i to j) / p_ij."""
    initial = gn.tensor(INITIAL, dtype=gn.float64, requires_grad=True)
    transition = gn.tensor(TRANSITION, dtype=gn.float64, requires_grad=True)
    MarkovChain(initial, transition).log_prob([0, 0, 1, 0, 0]).backward()
    np.testing.assert_allclose(transition.grad.numpy(), [[2 / 0.9, 1 / 0.1], [1 / 0.4, 0]], rtol=1e-12)
    np.testing.assert_allclose(initial.grad.numpy(), [1 / 0.3, 0], rtol=1e-12)


def test_shapes_and_text() -> None:
    assert chain().log_prob(gn.zeros(2, 3, 5, dtype=gn.int64)).shape == (2, 3)
    assert chain().log_prob([1, 0]).shape == ()
    assert repr(chain()) == "MarkovChain(num_states=2)"
    moved = MarkovChain(*(gn.tensor(part, device="cpu:1") for part in (INITIAL, TRANSITION)))
    for found in (moved.log_prob(gn.tensor([0, 1])), moved.sample(3), moved.stationary()):
        assert str(found.device) == "cpu:1"
    with gn.device("meta"):
        model = MarkovChain(gn.zeros(2), gn.zeros(2, 2))
        assert model.log_prob(gn.zeros(4, 3, dtype=gn.int64)).shape == (4,)


BAD: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("a row that does not sum to 1", lambda: MarkovChain(INITIAL, [[0.9, 0.1], [0.4, 0.5]]),
     ValueError, "transition: row 1 must sum to 1, sums to 0.9"),
    ("columns that sum to 1", lambda: MarkovChain(np.array(INITIAL), np.array([[0.9, 0.2], [0.1, 0.8]])),
     ValueError, "transition: row 0 must sum to 1, sums to 1.1"),
    ("a beginning that does not", lambda: MarkovChain(np.array([0.5, 0.6]), TRANSITION),
     ValueError, "initial: must sum to 1, sums to 1.1"),
    ("a negative probability", lambda: MarkovChain(INITIAL, np.array([[1.5, -0.5], [0.5, 0.5]])),
     ValueError, "transition: row 0 must hold probabilities, not negative nor NaN, got [1.5, -0.5]"),
    ("a NaN", lambda: MarkovChain(np.array([float("nan"), 1.0]), TRANSITION),
     ValueError, "initial: must hold probabilities, not negative nor NaN, got [nan, 1.0]"),
    ("no states", lambda: MarkovChain([], TRANSITION),
     ShapeError, "initial: must be (S,), a probability for each state, got (0,)"),
    ("a square beginning", lambda: MarkovChain(TRANSITION, TRANSITION),
     ShapeError, "initial: must be (S,), a probability for each state, got (2, 2)"),
    ("another number of rows", lambda: MarkovChain([0.2, 0.3, 0.5], TRANSITION),
     ShapeError, "transition: must be (3, 3) for the 3 states of initial, got (2, 2)"),
    ("two devices", lambda: MarkovChain(gn.tensor(INITIAL, device="cpu:1"), TRANSITION),
     DeviceError, "transition: is on 'cpu' and initial on 'cpu:1'; both must be on one device"),
    ("a word", lambda: MarkovChain("even", TRANSITION),
     TypeError, "initial: must be a Tensor, an array or a list of probabilities, got str"),
    ("an empty sequence", lambda: chain().log_prob(gn.zeros(3, 0, dtype=gn.int64)),
     ShapeError, "value: a sequence needs at least one state, got shape (3, 0)"),
    ("nothing", lambda: chain().log_prob([]),
     ShapeError, "value: a sequence needs at least one state, got shape (0,)"),
    ("sequences of nothing", lambda: chain().log_prob([[], []]),
     ShapeError, "value: a sequence needs at least one state, got shape (2, 0)"),
    ("a state too many", lambda: chain().log_prob([0, 1, 2]), ValueError, "value: states must be from 0 to 1, got 2"),
    ("a negative state", lambda: chain().log_prob([0, -1]), ValueError, "value: states must be from 0 to 1, got -1"),
    ("half a state", lambda: chain().log_prob([0.5]), DTypeError, "value: states must be integers, got dtype float32"),
    ("a length of 0", lambda: chain().sample(0), ValueError, "length: a sequence needs at least one state, got 0"),
    ("a length of a float", lambda: chain().sample(2.0), TypeError, "length: must be an integer, got float"),
    ("fewer than none", lambda: chain().sample(2, (-1,)), ValueError, "sample_shape: must not be negative, got (-1,)"),
    ("a fit of nothing", lambda: MarkovChain.fit([]),
     ShapeError, "sequences: each must be (T,) with at least one state, got shape (0,)"),
    ("a fit of an empty sequence", lambda: MarkovChain.fit([[0, 1], []]),
     ShapeError, "sequences: each must be (T,) with at least one state, got shape (0,)"),
    ("a fit of numbers", lambda: MarkovChain.fit([[0.5, 1.0]]),
     DTypeError, "sequences: states must be integers, got dtype float64"),
    ("a fit of text", lambda: MarkovChain.fit("abc"),
     TypeError, "sequences: must be states (T,), (N, T), or a list of sequences, got str"),
    ("a fit of one number", lambda: MarkovChain.fit(5),
     TypeError, "sequences: must be states (T,), (N, T), or a list of sequences, got int"),
    ("a fit of a tensor without steps", lambda: MarkovChain.fit(gn.tensor(5)),
     ShapeError, "sequences: must be states (T,), (N, T), or a list of sequences, got shape ()"),
    ("a fit of words", lambda: MarkovChain.fit(["ab", "a"]),
     TypeError, "sequences: must be states (T,), (N, T), or a list of sequences, got str"),
    ("a fit of a state and a sequence", lambda: MarkovChain.fit([0, [1, 0]]),
     ShapeError, "sequences: must be states, or sequences of states, not some of each"),
    ("a fit of a sequence and a state", lambda: MarkovChain.fit([[1, 0], 0]),
     TypeError, "sequences: must be states (T,), (N, T), or a list of sequences, got int"),
    ("a fit of four dimensions", lambda: MarkovChain.fit(np.zeros((2, 2, 2, 2), int)),
     ShapeError, "sequences: each must be (T,) with at least one state, got shape (2, 2, 2)"),
    ("a fit of a negative state", lambda: MarkovChain.fit([0, -1]),
     ValueError, "sequences: states must not be negative, got -1"),
    ("a fit with too few states", lambda: MarkovChain.fit([0, 1, 2], num_states=2),
     ValueError, "sequences: states must be from 0 to 1, got 2"),
    ("negative smoothing", lambda: MarkovChain.fit([0, 1], smoothing=-1),
     ValueError, "smoothing: must be a number of at least 0, got -1"),
    ("states of a float", lambda: MarkovChain.fit([0, 1], num_states=2.0),
     TypeError, "num_states: must be an integer, got float"),
]  # fmt: skip


@pytest.mark.parametrize("label, act, error, text", BAD, ids=[entry[0] for entry in BAD])
def test_bad_input(label: str, act: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        act()
    assert str(caught.value) == text
    assert type(caught.value) is error
