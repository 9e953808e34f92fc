"""The gradient of a recurrence, term by term.

With h_t = f(x_t, h_{t-1}, w), the chain rule gives the derivative of the last state by a weight w used in every step as

    dh_T/dw = sum_{i=1..T} ( prod_{j=i+1..T} df_j/dh_{j-1} ) df_i/dw

where df_i/dw is the *direct* derivative of step i, its state before held fixed. Term i has a product of T - i
Jacobians, its *lag*. The product is what is unstable: 0.9^50 = 0.005, 1.1^50 = 117, and one factor of zero ends the
term. The direct derivative is only added; it is never multiplied with itself. (Pascanu, Mikolov and Bengio 2013, "On
the difficulty of training recurrent neural networks", section 2.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gpunet import nn
from gpunet.autograd import Tensor, cat, enable_grad, grad, zeros_like
from gpunet.backend.errors import ShapeError

__all__ = ["BPTTTerm", "BPTTTerms", "TermNorms", "bptt_terms"]

State = Any  # a Tensor, or a tuple of them


@dataclass(frozen=True, slots=True)
class BPTTTerm:
    """What one use of the weight adds to dh_t/dw. S numbers make up the state.

    Attributes:
        step: i, the step of this use, from 1.
        lag: t - i, how many Jacobians are multiplied.
        direct: df_i/dw, (S, *weight.shape).
        jacobians: df_j/dh_{j-1} for j = t, t - 1, ..., i + 1, as they stand in the product: (lag, S, S).
        product: of these, (S, S); the identity where there are none.
        value: the term itself, product times direct: state.shape + weight.shape.
    """

    step: int
    lag: int
    direct: np.ndarray
    jacobians: np.ndarray
    product: np.ndarray
    value: np.ndarray


class TermNorms(NamedTuple):
    """How large the terms of dh_t/dw and their factors are, by lag.

    Attributes:
        lag: 0, 1, ..., t - 1: how long ago the weight was used.
        product: spectral norm of the product of that many Jacobians.
        direct: Euclidean norm of the direct derivative at that lag.
        term: Euclidean norm of the term.
        partial_sum: Euclidean norm of the sum of the terms up to this lag; the last is that of dh_t/dw.
    """

    lag: np.ndarray
    product: np.ndarray
    direct: np.ndarray
    term: np.ndarray
    partial_sum: np.ndarray


class BPTTTerms:
    """The terms of dh_T/dw, the oldest first; ``terms[i]`` is that of step i + 1, ``print(terms)`` a table.

    Attributes:
        states: h_0, ..., h_T: (T + 1, S).
        jacobians: df_t/dh_{t-1} of steps 1, ..., T: (T, S, S).
        direct: df_t/dw of steps 1, ..., T: (T, S, *weight.shape).
        state_shape: of a state; (S,) where it is several tensors.
    """

    def __init__(
        self, states: np.ndarray, jacobians: np.ndarray, direct: np.ndarray, state_shape: tuple[int, ...]
    ) -> None:
        self.states = states
        self.jacobians = jacobians
        self.direct = direct
        self.state_shape = state_shape
        self._last: list[BPTTTerm] | None = None

    def at(self, t: int) -> list[BPTTTerm]:
        """The terms of dh_t/dw for any step t = 1, ..., T."""
        if isinstance(t, bool) or not isinstance(t, (int, np.integer)) or not 1 <= t <= len(self.direct):
            raise ValueError(f"t: must be a step from 1 to {len(self.direct)}, got {t!r}")
        size = self.states.shape[1]
        product = np.eye(size)
        found = []
        for i in range(t, 0, -1):
            direct = self.direct[i - 1]
            value = (product @ direct.reshape(size, -1)).reshape(self.state_shape + direct.shape[1:])
            found.append(BPTTTerm(i, t - i, direct, self.jacobians[i:t][::-1], product, value))
            product = product @ self.jacobians[i - 1]
        return found[::-1]

    def sum(self, t: int | None = None, since: int = 1) -> np.ndarray:
        """dh_t/dw, state.shape + weight.shape: what backpropagation through time finds.

        Args:
            t: the step; None is the last.
            since: add the terms of steps since, ..., t alone, as truncated backpropagation does whose block starts
                there. The others, of longer range, are left out.

        Raises:
            ValueError: no such step.
        """
        t = len(self.direct) if t is None else t
        terms = self.at(t)
        if isinstance(since, bool) or not isinstance(since, (int, np.integer)) or not 1 <= since <= t:
            raise ValueError(f"since: must be a step from 1 to {t}, got {since!r}")
        return np.sum([term.value for term in terms[since - 1 :]], axis=0)

    def norms(self, t: int | None = None) -> TermNorms:
        """How large terms and factors are, by lag; ``t`` is the step, None the last."""
        terms = self.at(len(self.direct) if t is None else t)[::-1]
        values = np.array([term.value for term in terms])
        partial = np.cumsum(values, axis=0)
        return TermNorms(
            np.arange(len(terms)),
            np.array([np.linalg.norm(term.product, 2) for term in terms]),
            np.array([np.linalg.norm(term.direct) for term in terms]),
            np.array([np.linalg.norm(value) for value in values]),
            np.array([np.linalg.norm(value) for value in partial]),
        )

    def _terms(self) -> list[BPTTTerm]:
        if self._last is None:
            self._last = self.at(len(self.direct))
        return self._last

    def __len__(self) -> int:
        return len(self.direct)

    def __getitem__(self, index: int) -> BPTTTerm:
        return self._terms()[index]

    def __iter__(self) -> Iterator[BPTTTerm]:
        return iter(self._terms())

    def __str__(self) -> str:
        steps = len(self)
        if self.states.shape[1] > 1 or self.direct[0].size > 1:
            norms = self.norms()
            lines = [
                f"dh_{steps}/dw is the sum of {steps} terms; norms of what each is made of:",
                f"{'step':>5} {'lag':>5} {'direct':>12} {'Jacobians':>12} {'term':>12}",
            ]
            for row in zip(norms.lag[::-1], norms.direct[::-1], norms.product[::-1], norms.term[::-1], strict=True):
                lines.append(f"{steps - row[0]:>5} {row[0]:>5} {row[1]:>12.6g} {row[2]:>12.6g} {row[3]:>12.6g}")
            return "\n".join([*lines, f"the sum has norm {norms.partial_sum[-1]:.9g}"])
        lines = [
            f"dh_{steps}/dw is the sum of {steps} terms, each the direct derivative times a product:",
            f"{'step':>5} {'direct':>12}   {'term':>12}   product of Jacobians",
        ]
        for term in self:
            factors = [f"{value:.6g}" for value in term.jacobians.ravel()]
            shown = factors if len(factors) <= 6 else [*factors[:3], "...", *factors[-2:]]
            product = f"{' * '.join(shown)} = {term.product.item():.6g}" if len(factors) > 1 else "".join(factors)
            lines.append(
                f"{term.step:>5} {term.direct.item():>12.6g}   {term.value.item():>12.6g}   {product or '1 (none)'}"
            )
        return "\n".join([*lines, f"the sum is {self.sum().item():.9g}"])


def bptt_terms(step: Callable[[Tensor, State], State], input: Tensor, state: State | None, weight: Tensor) -> BPTTTerms:
    """The terms that backpropagation through time adds up, each with its factors; equal to autograd's in sum.

    ::

        w = gn.tensor(0.9, dtype=gn.float64, requires_grad=True)
        x = gn.tensor([1.0, -1.0, 0.5, 2.0], dtype=gn.float64)
        print(gn.inspect.bptt_terms(lambda x, h: (w * h + 0.5 * x).tanh(), x, gn.zeros_like(w), w))

        cell = gn.nn.RNNCell(3, 4)
        terms = gn.inspect.bptt_terms(cell, gn.randn(10, 3), None, cell.weight_hh)

    For small networks: with a state of S numbers, every step keeps a Jacobian of S x S numbers and a derivative of S
    times as many as the weight has.

    Args:
        step: ``step(x_t, h) -> h``; or a cell, or a recurrent layer in one direction, which is run a step at a time.
            It returns the state alone, without an output. The state is a tensor or a tuple of them; their numbers count
            as one vector.
        input: (T, ...), of a layer with ``batch_first`` (B, T, ...) if it has a batch.
        state: h_0; None are zeros, where the step takes None for a beginning as cells and layers do.
        weight: a tensor that requires grad and that the step uses.

    Raises:
        ShapeError: no steps.
        TypeError, ValueError: no function, one that returns something besides the state, or a weight that the steps do
            not depend on.
    """
    run, inputs = steps_of(step, input)
    if not isinstance(weight, Tensor):
        raise TypeError(f"weight: must be a Tensor, got {type(weight).__name__}")
    if not weight.requires_grad:
        raise ValueError("weight: must require grad")
    current = first_state(run, inputs[0], state)
    shape = tuple(current[0].shape) if len(current) == 1 else (sum(part.numel() for part in current),)
    states, jacobians, direct, used = [vector(current)], [], [], False
    for x in inputs:
        with enable_grad():
            before = [part.detach().requires_grad_() for part in current]
            after = run(x, before)
            flat = cat([part.reshape(-1) for part in after])
        if flat.numel() != states[0].size:
            raise ShapeError(f"step: the state has {states[0].size} numbers before a step and {flat.numel()} after it")
        rows = []
        for number in range(flat.numel() if flat.requires_grad else 0):
            with enable_grad():
                entry = flat[number]
            rows.append(grad(entry, [*before, weight], retain_graph=True, allow_unused=True))
        sources = [*before, weight]
        numbers = [
            np.array([_numbers(row[place], source) for row in rows])
            if rows
            else np.zeros((flat.numel(), source.numel()))
            for place, source in enumerate(sources)
        ]
        used = used or any(row[-1] is not None for row in rows)
        jacobians.append(np.concatenate(numbers[:-1], axis=1))
        direct.append(numbers[-1].reshape(flat.numel(), *weight.shape))
        current = [part.detach() for part in after]
        states.append(vector(current))
    if not used:
        raise ValueError("weight: no step depends on it")
    return BPTTTerms(np.array(states), np.array(jacobians), np.array(direct), shape)


def _numbers(gradient: Tensor | None, source: Tensor) -> np.ndarray:
    if gradient is None:  # the step does not use it
        return np.zeros(source.numel())
    return gradient.cpu().numpy().astype(np.float64).ravel()


_ALONE = "step: must return the next state alone, a Tensor or a tuple of as many as it is given, and no output"

# Steps of whatever recurs ------------------------------------------------------------------------------------------


def steps_of(step: Any, input: Tensor) -> tuple[Callable[[Tensor, list[Tensor] | None], list[Tensor]], list[Tensor]]:
    """A function from (x_t, state or None) to the next state, states being lists of tensors; and the inputs x_t."""
    if not callable(step):
        raise TypeError(f"step: must be a function, a cell or a recurrent layer, got {type(step).__name__}")
    if not isinstance(input, Tensor):
        raise TypeError(f"input: must be a Tensor, got {type(input).__name__}")
    layer = isinstance(step, nn.RNNBase)
    time = 1 if layer and step.batch_first and input.ndim == 3 else 0
    if input.ndim <= time or input.shape[time] < 1:
        raise ShapeError(f"input: a sequence needs at least one step, got shape {tuple(input.shape)}")
    if layer and step.bidirectional:
        raise ValueError("step: a bidirectional layer has no single direction of time")

    def run(x: Tensor, state: list[Tensor] | None) -> list[Tensor]:
        given: Any = None if state is None else state[0] if len(state) == 1 else tuple(state)
        after = step(x.unsqueeze(time), given)[1] if layer else step(x, given)
        parts = list(after) if isinstance(after, (tuple, list)) else [after]
        if any(isinstance(part, (tuple, list)) for part in parts):
            raise TypeError(f"{_ALONE}, got a tuple in a tuple, as (output, state) of an LSTM is one")
        if state is not None and len(parts) != len(state):
            raise TypeError(f"{_ALONE}; it was given {len(state)} and returned {len(parts)}")
        for part in parts:
            if not isinstance(part, Tensor):
                raise TypeError(f"step: must return the next state as a Tensor or a tuple of them, got {part!r}")
        return parts

    return run, list(input.unbind(time))


def first_state(run: Callable[..., list[Tensor]], x: Tensor, state: State | None) -> list[Tensor]:
    """h_0 as a list of tensors."""
    if state is None:
        zeros = [zeros_like(part).detach() for part in run(x, None)]
        if len(zeros) > 1:  # (output, state) looks like a state of two tensors until the step is given it
            try:
                run(x, zeros)
            except (AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
                raise TypeError(f"{_ALONE}; it does not take what it returns for a state: {error}") from error
        return zeros
    parts = list(state) if isinstance(state, (tuple, list)) else [state]
    for part in parts:
        if not isinstance(part, Tensor):
            raise TypeError(f"state: must be a Tensor, a tuple of them or None, got {type(part).__name__}")
    return [part.detach() for part in parts]


def vector(parts: list[Tensor]) -> np.ndarray:
    """All numbers of a state, float64."""
    return np.concatenate([part.detach().cpu().numpy().astype(np.float64).ravel() for part in parts])
