"""Markov chains: sequences of states in which the last one tells all that the past tells of the next.

    P(X_1, ..., X_T) = P(X_1) prod_{t=2..T} P(X_t given X_{t-1})

The Markov assumption is that X_t is independent of X_{t-2}, X_{t-3}, ... *given* X_{t-1}. It is not that past and
present are independent: X_1 and X_3 are, in general, correlated, through X_2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet.autograd import Tensor, as_tensor, from_numpy
from gpunet.backend.errors import DeviceError, DTypeError, ShapeError
from gpunet.backend.random import Generator, default_generator
from gpunet.ops.dtypes import get_default_dtype, is_floating

__all__ = ["MarkovChain"]


class MarkovChain:
    """A chain over the states 0, ..., S - 1.

    Args:
        initial: P(X_1), (S,): not negative, in sum 1.
        transition: P(X_t = j given X_{t-1} = i) in row i, column j, (S, S): not negative, each *row* in sum 1.

    Attributes:
        initial, transition: the probabilities, Tensors; where they require grad, ``log_prob`` has their gradient.

    Raises:
        ShapeError: not as many rows and columns as states.
        DeviceError: on two devices.
        TypeError, ValueError: not numbers, not probabilities; the row is named.
    """

    def __init__(self, initial: Any, transition: Any) -> None:
        self.initial = _probabilities("initial", initial)
        self.transition = _probabilities("transition", transition)
        if self.initial.ndim != 1 or self.initial.shape[0] < 1:
            raise ShapeError(f"initial: must be (S,), a probability for each state, got {tuple(self.initial.shape)}")
        states = self.num_states
        if tuple(self.transition.shape) != (states, states):
            raise ShapeError(
                f"transition: must be ({states}, {states}) for the {states} states of initial, "
                f"got {tuple(self.transition.shape)}"
            )
        if self.initial.device != self.transition.device:
            raise DeviceError(
                f"transition: is on '{self.transition.device}' and initial on '{self.initial.device}'; both must be on "
                "one device"
            )
        if self.initial.device.type != "meta":
            _check_sums("initial", self.initial.detach().cpu().numpy()[None], named=False)
            _check_sums("transition", self.transition.detach().cpu().numpy(), named=True)

    @property
    def num_states(self) -> int:
        """S."""
        return int(self.initial.shape[0])

    @classmethod
    def fit(cls, sequences: Any, num_states: int | None = None, smoothing: float = 0.0) -> MarkovChain:
        """The chain under which the sequences are most probable: relative frequencies of what was counted.

        Args:
            sequences: states (T,), (N, T), or a list of sequences of unequal length.
            num_states: S; None is one more than the largest state there is.
            smoothing: added to every count, as if each beginning and transition had been seen so often (Laplace's rule
                with 1). Without it, what was never seen has probability 0; a state that nothing follows anywhere gets
                equal probabilities.

        Raises:
            ShapeError: no sequence, or an empty one.
            TypeError, ValueError: no states, a state that there is not, or a negative smoothing.
        """
        listed = _sequences(sequences)
        largest = max(int(sequence.max()) for sequence in listed)
        if num_states is None:
            num_states = largest + 1
        elif isinstance(num_states, bool) or not isinstance(num_states, (int, np.integer)):
            raise TypeError(f"num_states: must be an integer, got {type(num_states).__name__}")
        if isinstance(smoothing, bool) or not isinstance(smoothing, (int, float)) or not 0 <= smoothing < float("inf"):
            raise ValueError(f"smoothing: must be a number of at least 0, got {smoothing!r}")
        for sequence in listed:
            _check_states("sequences", sequence, int(num_states))
        initial = np.full(num_states, float(smoothing))
        transition = np.full((num_states, num_states), float(smoothing))
        for sequence in listed:
            initial[sequence[0]] += 1
            np.add.at(transition, (sequence[:-1], sequence[1:]), 1)
        totals = transition.sum(axis=1, keepdims=True)
        transition = np.where(totals > 0, transition / np.where(totals > 0, totals, 1), 1 / num_states)
        kind = get_default_dtype()
        return cls(from_numpy((initial / initial.sum()).astype(kind)), from_numpy(transition.astype(kind)))

    def log_prob(self, value: Any) -> Tensor:
        """log P(X_1, ..., X_T) of sequences: (..., T) of states to (...).

        -inf where a sequence is impossible. The probabilities of all S^T sequences of a length are 1 in sum.

        Raises:
            ShapeError: sequences without a state.
            TypeError, ValueError: what is no state.
        """
        states = as_tensor(value)
        if states.ndim == 0 or states.shape[-1] < 1:  # asked first: an empty list has no integers to be seen
            raise ShapeError(f"value: a sequence needs at least one state, got shape {tuple(states.shape)}")
        if states.dtype.kind not in "iu":
            raise DTypeError(f"value: states must be integers, got dtype {states.dtype}")
        if states.device.type != "meta":
            _check_states("value", states.cpu().numpy(), self.num_states)
        states = states.to(device=self.initial.device).long()
        first = self.initial.log()[states[..., 0]]
        if states.shape[-1] == 1:
            return first
        steps = self.transition.log()[states[..., :-1], states[..., 1:]]
        return first + steps.sum(-1)

    def sample(self, length: int, sample_shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Draw sequences.

        Args:
            length: T.
            sample_shape: how many, as a shape.
            generator: to draw from; the default one if None.

        Returns:
            (*sample_shape, length) of int64.

        Raises:
            TypeError, ValueError: a length below 1, or a negative size.
        """
        if isinstance(length, bool) or not isinstance(length, (int, np.integer)):
            raise TypeError(f"length: must be an integer, got {type(length).__name__}")
        if length < 1:
            raise ValueError(f"length: a sequence needs at least one state, got {length}")
        sizes = tuple(int(size) for size in sample_shape)
        if any(size < 0 for size in sizes):
            raise ValueError(f"sample_shape: must not be negative, got {sizes}")
        count = int(np.prod(sizes, dtype=np.int64))
        uniforms = (generator or default_generator()).numpy().random((length, count))
        # A uniform number falls below as many of the running sums as there are states from its own on.
        first = _running_sums(self.initial.detach().cpu().numpy())
        rows = _running_sums(self.transition.detach().cpu().numpy())
        drawn = np.empty((length, count), np.int64)
        drawn[0] = (uniforms[0][:, None] >= first).sum(axis=1)
        for t in range(1, length):
            drawn[t] = (uniforms[t][:, None] >= rows[drawn[t - 1]]).sum(axis=1)
        return from_numpy(np.ascontiguousarray(drawn.T).reshape(*sizes, length)).to(self.initial.device)

    def stationary(self) -> Tensor:
        """The distribution pi that a step leaves as it is, pi = pi P, (S,).

        Where the chain is not periodic, it is what P(X_t) comes to, whatever P(X_1) was.

        Raises:
            ValueError: there are several, as the chain falls into parts that do not reach each other.
        """
        matrix = self.transition.detach().cpu().double().numpy()
        states = self.num_states
        balance = matrix.T - np.eye(states)
        if np.linalg.matrix_rank(balance, tol=1e-9 * states) < states - 1:
            raise ValueError("stationary: there are several, as some states never reach each other nor a common one")
        system = np.concatenate([balance, np.ones((1, states))])
        solution = np.linalg.lstsq(system, np.eye(states + 1)[-1], rcond=None)[0]
        solution = np.clip(solution, 0, None)
        kind = self.transition.dtype
        return from_numpy((solution / solution.sum()).astype(kind)).to(self.initial.device)

    def __repr__(self) -> str:
        return f"MarkovChain(num_states={self.num_states})"


def _probabilities(name: str, value: Any) -> Tensor:
    if not isinstance(value, (Tensor, np.ndarray, list, tuple)):
        raise TypeError(f"{name}: must be a Tensor, an array or a list of probabilities, got {type(value).__name__}")
    tensor = as_tensor(value)
    return tensor if is_floating(tensor.dtype) else tensor.to(get_default_dtype())


def _check_sums(name: str, rows: np.ndarray, named: bool) -> None:
    kind, rows = rows.dtype, rows.astype(np.float64)
    tolerance = max(1e-6, 8 * rows.shape[1] * float(np.finfo(kind).eps) if kind.kind == "f" else 1e-2)
    for number, row in enumerate(rows):
        where = f"row {number} " if named else ""
        if not (row >= 0).all():
            raise ValueError(f"{name}: {where}must hold probabilities, not negative nor NaN, got {row.tolist()}")
        if abs(row.sum() - 1) > tolerance:
            raise ValueError(f"{name}: {where}must sum to 1, sums to {row.sum():.7g}")


def _check_states(name: str, states: np.ndarray, count: int) -> None:
    if states.size and (states.min() < 0 or states.max() >= count):
        wrong = states[(states < 0) | (states >= count)].flat[0]
        raise ValueError(f"{name}: states must be from 0 to {count - 1}, got {wrong}")


def _sequences(value: Any) -> list[np.ndarray]:
    """Sequences of integers, each (T,) with T above 0."""
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (int, np.integer)):
        arrays = [_state_array(item) for item in value]
    else:
        array = _state_array(value)
        arrays = [array] if array.ndim == 1 else list(array)
    if not arrays:
        raise ShapeError("sequences: at least one is needed")
    for array in arrays:
        if array.ndim != 1 or not array.size:
            raise ShapeError(f"sequences: each must be (T,) with at least one state, got shape {array.shape}")
        if array.dtype.kind not in "iu":
            raise DTypeError(f"sequences: states must be integers, got dtype {array.dtype}")
        if array.min() < 0:
            raise ValueError(f"sequences: states must not be negative, got {array.min()}")
    return arrays


def _state_array(value: Any) -> np.ndarray:
    """States as an array of at least one dimension, of any kind as yet."""
    given = value
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:  # a list of numbers and lists
        raise ShapeError("sequences: must be states, or sequences of states, not some of each") from error
    if array.ndim:
        return array
    if isinstance(given, (Tensor, np.ndarray)):
        raise ShapeError("sequences: must be states (T,), (N, T), or a list of sequences, got shape ()")
    raise TypeError(f"sequences: must be states (T,), (N, T), or a list of sequences, got {type(given).__name__}")


def _running_sums(probabilities: np.ndarray) -> np.ndarray:
    """Sums up to each state but the last, (..., S - 1); exactly 1 from the last possible state on."""
    sums = np.cumsum(probabilities.astype(np.float64), axis=-1)
    return (sums / sums[..., -1:])[..., :-1]
