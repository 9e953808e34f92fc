"""Backpropagation through time, in full and truncated in blocks of k steps.

Werbos 1990 ("Backpropagation through time: what it does and how to do it"); Williams and Peng 1990 for the truncated
form. A sequence of T steps is cut into blocks of k. Each block starts with the state that the one before ended with,
as a number: its *value* is carried over the cut, its *gradient* is not. So the gradient of a block holds the terms of
dL_t/dW whose weight was used within that block, and no others. With k >= T there is one block, and nothing is cut.

Truncation bounds the cost: memory for k steps instead of T, and a weight update every k steps. It bounds how long a
product of Jacobians can get, and with it how far a gradient can explode. It does not help against gradients that
vanish: the terms it leaves out are just those of long range, and what is left of short range is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunet import nn
from gpunet.autograd import Tensor, stack
from gpunet.backend.errors import ShapeError

__all__ = ["Block", "TruncatedBPTT", "detach_state", "tbptt"]


@dataclass(frozen=True, slots=True)
class Block:
    """Some steps of a sequence, run.

    Attributes:
        start, stop: its steps are start, ..., stop - 1 of the sequence, counted from 0.
        input, target: its part of them.
        output: what the model made of it, with its graph.
        loss: of this block, with its graph, which reaches back to the block's first step.
        state: after its last step, without a graph: where the next block starts.
    """

    start: int
    stop: int
    input: Tensor
    target: Tensor
    output: Any
    loss: Tensor
    state: Any

    @property
    def steps(self) -> int:
        """How many steps there are in it: k, or fewer in a sequence's last block."""
        return self.stop - self.start

    def backward(self) -> None:
        """Add the gradients of this block's loss to the parameters': those of its own steps alone."""
        self.loss.backward()


class TruncatedBPTT:
    """A model, a loss and a length of blocks: see ``tbptt``, which makes it.

    Attributes:
        state: what the last block that was run ended with, without a graph; None before there was one.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        loss: Callable[[Any, Tensor], Tensor],
        k: int | None = None,
        *,
        batch_first: bool | None = None,
        stepwise: bool = False,
    ) -> None:
        if not callable(model):
            raise TypeError(f"model: must be a module or a function, got {type(model).__name__}")
        if not callable(loss):
            raise TypeError(f"loss: must be a module or a function of (output, target), got {type(loss).__name__}")
        if k is not None:
            if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
                raise TypeError(f"k: must be an integer or None, got {type(k).__name__}")
            if k < 1:
                raise ValueError(f"k: must be at least 1 step, or None for the whole sequence, got {k}")
        self.model = model
        self.loss = loss
        self.k = None if k is None else int(k)
        self.batch_first = bool(getattr(model, "batch_first", False)) if batch_first is None else bool(batch_first)
        self._cell = _is_cell(model)
        self.stepwise = bool(stepwise) or self._cell
        self.state: Any = None

    def __call__(self, input: Tensor, target: Tensor, state: Any = None) -> Iterator[Block]:
        """Run a sequence block by block: each when it is asked for, so that weights may change between blocks.

        Args:
            input: (T, B, ...), or (B, T, ...) if ``batch_first``.
            target: a target for each step, as long in the same dimension.
            state: to start from, as the model takes it; None for the model's own beginning. ``self.state`` goes on
                where the last sequence ended. Its gradient is cut.

        Raises:
            ShapeError: no steps, or not as many targets.
        """
        time, steps = self._length(input, target)
        self.state = detach_state(state)
        return self._run(input, target, time, steps)

    def backward(self, input: Tensor, target: Tensor, state: Any = None) -> Tensor:
        """Add the gradients of all blocks of a sequence to the parameters', and return the sequence's loss.

        The weights stay as they are throughout. A loss that is a mean over its steps is weighted with the block's
        share of them, so that the sum over blocks is the mean over the sequence: with k >= T this is
        ``loss(model(input)[0], target).backward()``. A loss with ``reduction="sum"`` is added up as it is.

        Args:
            input, target, state: as in a call.

        Returns:
            A 0-d tensor without a graph. The state after the last step is in ``self.state``.
        """
        blocks = self(input, target, state)
        _, steps = self._length(input, target)
        summed = getattr(self.loss, "reduction", "mean") == "sum"
        total: Tensor | None = None
        for block in blocks:
            part = block.loss if summed else block.loss * (block.steps / steps)
            part.backward()
            total = part.detach() if total is None else total + part.detach()
        assert total is not None  # a sequence has a step
        return total

    def _length(self, input: Tensor, target: Tensor) -> tuple[int, int]:
        """The dimension of time and how many steps there are."""
        for name, value in (("input", input), ("target", target)):
            if not isinstance(value, Tensor):
                raise TypeError(f"{name}: must be a Tensor, got {type(value).__name__}")
        time = 1 if self.batch_first else 0
        if self.batch_first and not self.stepwise and input.ndim == 2 and isinstance(self.model, nn.RNNBase):
            time = 0  # PyTorch's layers take a sequence without a batch as (T, I)
        for name, value in (("input", input), ("target", target)):
            if value.ndim <= time:
                raise ShapeError(f"{name}: needs a dimension {time} for time, got shape {tuple(value.shape)}")
        steps = int(input.shape[time])
        if steps < 1:
            raise ShapeError(f"input: a sequence needs at least one step, got shape {tuple(input.shape)}")
        if target.shape[time] != steps:
            raise ShapeError(
                f"target: must have a step for each of the input's {steps} in dimension {time}, "
                f"got shape {tuple(target.shape)}"
            )
        return time, steps

    def _run(self, input: Tensor, target: Tensor, time: int, steps: int) -> Iterator[Block]:
        size = steps if self.k is None else self.k
        for start in range(0, steps, size):
            stop = min(start + size, steps)
            part, wanted = (value.narrow(time, start, stop - start) for value in (input, target))
            output, state = self._forward(part, time)
            loss = self.loss(output, wanted)
            if not isinstance(loss, Tensor):
                raise TypeError(f"loss: must return a Tensor of one number, got {type(loss).__name__}")
            if loss.numel() != 1:
                raise ShapeError(f"loss: must return a Tensor of one number, got shape {tuple(loss.shape)}")
            self.state = detach_state(state)
            yield Block(start, stop, part, wanted, output, loss, self.state)

    def _forward(self, part: Tensor, time: int) -> tuple[Any, Any]:
        if not self.stepwise:
            return _two(self.model(part, self.state))
        outputs, state = [], self.state
        for step in part.unbind(time):
            if self._cell:
                state = self.model(step, state)
                output = state[0] if isinstance(state, tuple) else state
            else:
                output, state = _two(self.model(step, state))
            outputs.append(output)
        return stack(outputs, time), state


def tbptt(
    model: Callable[..., Any],
    loss: Callable[[Any, Tensor], Tensor],
    k: int | None = None,
    *,
    batch_first: bool | None = None,
    stepwise: bool = False,
) -> TruncatedBPTT:
    """Backpropagation through time, truncated after k steps: the state is carried on, its gradient is cut.

    ::

        bptt = gn.training.tbptt(model, loss, k=35)
        state = None
        for x, y in stream:  # (T, B, ...) each, x going on where the last one ended
            for block in bptt(x, y, state):
                optimizer.zero_grad()
                block.backward()
                gn.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            state = bptt.state

    Args:
        model: ``model(x, state) -> (output, state)``, as ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` do and a network around
            them may. The state is a tensor, or any nest of tuples, lists and dicts of them; None at the beginning.
            Or a cell (``nn.RNNCell``, ``nn.LSTMCell``, ``nn.GRUCell``), which is run step by step.
        loss: ``loss(output, target)`` of a block, a number.
        k: steps of a block; None for the whole sequence. k >= T is full backpropagation through time.
        batch_first: sequences are (B, T, ...); None asks the model's ``batch_first``, and is False if it has none.
        stepwise: the model takes one step, (B, ...), at a time; outputs are stacked.

    Returns:
        What runs sequences: calling it gives an iterator over blocks, its ``backward`` runs them all.

    Raises:
        TypeError, ValueError: a model or loss that cannot be called, k below 1.
    """
    return TruncatedBPTT(model, loss, k, batch_first=batch_first, stepwise=stepwise)


def detach_state(state: Any) -> Any:
    """The same state cut from its graph: a tensor, or tuples, lists and dicts of them; anything else as it is."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, tuple):
        parts = [detach_state(part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    if isinstance(state, list):
        return [detach_state(part) for part in state]
    if isinstance(state, dict):
        return {name: detach_state(part) for name, part in state.items()}
    return state


def _two(result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        got = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
        raise TypeError(f"model: must return (output, state), got {got}")
    return result


def _is_cell(model: Any) -> bool:
    return isinstance(model, nn.RNNCellBase)
