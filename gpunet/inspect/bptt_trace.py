"""How the gradient of a loss travels back through a recurrent network: what each state gets, and from where.

A state H_t is used twice: it makes the output O_t, and it is what the next state is made from. So its gradient is a
sum of two. For the vanilla network H_t = s(X_t W_X + H_{t-1} W_H + b_1), O_t = H_t W_2 + b_2 these are

    dH_t = dO_t W_2^T + (dH_{t+1} * s'(.)) W_H^T

and the last state has the first part alone. The weights are the same at every step, so that their gradient is a sum
over steps too: it is complete only when the walk has come back to the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunet.autograd import Tensor, enable_grad, grad, no_grad, stack
from gpunet.backend.errors import ShapeError
from gpunet.inspect.bptt_terms import State, first_state, steps_of, vector

__all__ = ["BPTTTrace", "bptt_trace"]


@dataclass(frozen=True, slots=True)
class BPTTTrace:
    """The gradients on their way back; row t - 1 is step t. ``print(trace)`` is a table, the last step first.

    Attributes:
        loss: its value.
        outputs: O_t, (T, ...).
        states: h_0, ..., h_T, (T + 1, S): all S numbers of a state as one vector.
        grad_outputs: dO_t, (T, ...).
        from_output: what H_t gets from its own output, (T, S): dO_t W_2^T where the head is linear.
        from_next: what it gets from the next state, (T, S): (dH_{t+1} * s') W_H^T in a vanilla network; 0 in the last.
        grad_states: dH_t, the sum of the two.
        grad_initial: what goes on to h_0, (S,).
        grad_weights: for each weight that was asked for, what each step adds to its gradient, (T, *weight.shape).
    """

    loss: float
    outputs: np.ndarray
    states: np.ndarray
    grad_outputs: np.ndarray
    from_output: np.ndarray
    from_next: np.ndarray
    grad_states: np.ndarray
    grad_initial: np.ndarray
    grad_weights: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.grad_states)

    def __str__(self) -> str:
        wide = len(self.grad_weights)
        names = ["dW_t" if wide == 1 else f"dW{number}_t" for number in range(1, wide + 1)]
        titles = ["|dO_t|", "from O_t", "from H_t+1", "|dH_t|", *names]
        lines = [
            f"loss {self.loss:.6g}; norms of the gradients, from the last step back:",
            f"{'t':>5} " + " ".join(f"{title:>12}" for title in titles),
        ]
        columns = (self.grad_outputs, self.from_output, self.from_next, self.grad_states, *self.grad_weights)
        for t in range(len(self), 0, -1):
            lines.append(f"{t:>5} " + " ".join(f"{np.linalg.norm(column[t - 1]):>12.6g}" for column in columns))
        return "\n".join(lines)


def bptt_trace(
    step: Callable[[Tensor, State], State],
    head: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor, Any], Tensor],
    input: Tensor,
    target: Any,
    state: State | None = None,
    weights: Tensor | Sequence[Tensor] = (),
) -> BPTTTrace:
    """Run a recurrent network, walk back through it step by step, and keep what each state's gradient is made of.

    ::

        cell, head = gn.nn.RNNCell(3, 8), gn.nn.Linear(8, 2)
        print(gn.inspect.bptt_trace(cell, head, F.mse_loss, gn.randn(10, 3), gn.randn(10, 2), None, cell.weight_hh))

    Args:
        step: as ``bptt_terms`` takes it: a function of (x_t, h), a cell, or a recurrent layer in one direction.
        head: makes the output from the state h_t, of an LSTM from its h alone; a layer's h is (num_layers, ...).
        loss: ``loss(outputs, target)``, outputs (T, ...) stacked; a number.
        input: (T, ...), of a layer with ``batch_first`` (B, T, ...) if it has a batch.
        target: as the loss takes it.
        state: h_0; None are zeros, as in ``bptt_terms``.
        weights: tensors that require grad and that the step uses, to see what each step adds to their gradients.

    Raises:
        ShapeError: no steps, or a loss of several numbers.
        TypeError, ValueError: no functions, or a weight that does not require grad.
    """
    run, inputs = steps_of(step, input)
    for name, function in (("head", head), ("loss", loss)):
        if not callable(function):
            raise TypeError(f"{name}: must be a module or a function, got {type(function).__name__}")
    wanted = [weights] if isinstance(weights, Tensor) else list(weights)
    for number, weight in enumerate(wanted):
        if not isinstance(weight, Tensor) or not weight.requires_grad:
            raise ValueError(f"weights: must be tensors that require grad; number {number} is not")
    with no_grad():
        states = [first_state(run, inputs[0], state)]
        for x in inputs:
            states.append(run(x, states[-1]))
        outputs = stack([head(_output_of(parts)) for parts in states[1:]])
    with enable_grad():
        leaf = outputs.detach().requires_grad_()
        value = loss(leaf, target)
    if not isinstance(value, Tensor):
        raise TypeError(f"loss: must return a Tensor of one number, got {type(value).__name__}")
    if value.numel() != 1:
        raise ShapeError(f"loss: must return a Tensor of one number, got shape {tuple(value.shape)}")
    (grad_outputs,) = grad(value, leaf)
    assert grad_outputs is not None

    size = vector(states[0]).size
    from_output, from_next = np.zeros((len(inputs), size)), np.zeros((len(inputs), size))
    grad_weights = [np.zeros((len(inputs), *weight.shape)) for weight in wanted]
    arriving: list[Tensor | None] = [None] * len(states[0])  # from the next state
    for t in range(len(inputs), 0, -1):
        with enable_grad():
            here = [part.detach().requires_grad_() for part in states[t]]
            output = head(_output_of(here))
        own = _pulled(output, grad_outputs[t - 1], here)
        from_output[t - 1] = _joined(own, here)
        from_next[t - 1] = _joined(arriving, here)
        total = [_added(a, b, part) for a, b, part in zip(own, arriving, here, strict=True)]
        with enable_grad():
            before = [part.detach().requires_grad_() for part in states[t - 1]]
            after = run(inputs[t - 1], before)
        ends = [(part, value) for part, value in zip(after, total, strict=True) if part.requires_grad]
        sources = [*before, *wanted]
        pulled: Sequence[Tensor | None] = [None] * len(sources)
        if ends:
            pulled = grad([part for part, _ in ends], sources, [value for _, value in ends], allow_unused=True)
        arriving = list(pulled[: len(before)])
        for kept, gradient in zip(grad_weights, pulled[len(before) :], strict=True):
            if gradient is not None:
                kept[t - 1] = gradient.cpu().numpy()
    return BPTTTrace(
        float(value.item()),
        outputs.cpu().numpy(),
        np.array([vector(parts) for parts in states]),
        grad_outputs.cpu().numpy(),
        from_output,
        from_next,
        from_output + from_next,
        _joined(arriving, states[0]),
        tuple(grad_weights),
    )


def _output_of(parts: list[Tensor]) -> Tensor:
    return parts[0]  # h of an LSTM's (h, c)


def _pulled(output: Tensor, gradient: Tensor, sources: list[Tensor]) -> list[Tensor | None]:
    if not output.requires_grad:
        return [None] * len(sources)
    return list(grad(output, sources, gradient, allow_unused=True))


def _added(a: Tensor | None, b: Tensor | None, like: Tensor) -> Tensor:
    if a is None or b is None:
        kept = b if a is None else a
        return like.detach() * 0 if kept is None else kept
    return a + b


def _joined(gradients: Sequence[Tensor | None], parts: list[Tensor]) -> np.ndarray:
    """One vector of the gradients of a state's tensors; 0 where there is none."""
    return np.concatenate(
        [
            np.zeros(part.numel()) if gradient is None else gradient.cpu().numpy().astype(np.float64).ravel()
            for gradient, part in zip(gradients, parts, strict=True)
        ]
    )
