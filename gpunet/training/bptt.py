"""Backpropagation through time, in full and truncated in blocks of k steps.

Werbos 1990 ("Backpropagation through time: what it does and how to do it"); Williams and Peng 1990 for the truncated
form. A sequence of T steps is cut into blocks of k. Each block starts with the state that the one before ended with,
as a number: its *value* is carried over the cut, its *gradient* is not. So the gradient of a block holds the terms of
dL_t/dW whose weight was used within that block, and no others. With k >= T there is one block, and nothing is cut.

Truncation bounds the cost, where blocks are run one by one: memory for k steps instead of T, and a weight update every
k steps. It bounds how long a
product of Jacobians can get, and with it how far a gradient can explode. It does not help against gradients that
vanish: the terms it leaves out are just those of long range, and what is left of short range is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunet import nn
from gpunet.autograd import Tensor, cat, stack
from gpunet.backend.errors import ShapeError
from gpunet.nn.arguments import call_mismatch

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
        self.batch_first = _is_batch_first(model) if batch_first is None else bool(batch_first)
        for name, layer in _recurrent_layers(model):
            if layer.bidirectional:
                where = f"layer {name!r} is bidirectional; " if name else ""
                raise ValueError(f"model: {where}a bidirectional layer has no single direction of time")
        mismatch = call_mismatch(model, None, None)
        if mismatch:
            raise TypeError(f"model: must take (x, state), as nn.RNN and nn.RNNCell do; {mismatch}")
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
        """Add the truncated gradient of a sequence's loss to the parameters', and return the loss.

        The state is cut between blocks and the weights stay as they are throughout. The loss is taken once, of the
        outputs of all blocks together: with k >= T this is ``loss(model(input)[0], target).backward()``, and with a
        smaller k the loss is the same number. So no loss has to say how blocks count in it, be it a mean, a sum, a
        weighted mean or one that leaves targets out.

        Its graphs are kept until the loss is taken: the memory is that of all T steps, whatever k is. For memory of k
        steps, run the blocks one by one.

        Args:
            input, target, state: as in a call.

        Returns:
            A 0-d tensor without a graph. The state after the last step is in ``self.state``.

        Raises:
            TypeError, ShapeError: outputs of several blocks that cannot be joined, as they are not tensors, or
                tuples, lists or dicts of them, with a step for each of the block's in the dimension of time.
        """
        time, steps = self._length(input, target)
        self.state = detach_state(state)
        outputs, sizes = [], []
        for start, stop, _, _, output in self._outputs(input, target, time, steps):
            outputs.append(output)
            sizes.append(stop - start)
        whole = outputs[0] if len(outputs) == 1 else _joined(outputs, sizes, time)
        loss = self._loss_of(whole, target)
        loss.backward()
        return loss.detach()

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
        for start, stop, part, wanted, output in self._outputs(input, target, time, steps):
            yield Block(start, stop, part, wanted, output, self._loss_of(output, wanted), self.state)

    def _outputs(
        self, input: Tensor, target: Tensor, time: int, steps: int
    ) -> Iterator[tuple[int, int, Tensor, Tensor, Any]]:
        """(start, stop, input, target, output) of each block, from the state that the one before has left."""
        size = steps if self.k is None else self.k
        for start in range(0, steps, size):
            stop = min(start + size, steps)
            part, wanted = (value.narrow(time, start, stop - start) for value in (input, target))
            output, state = self._forward(part, time)
            self.state = detach_state(state)
            yield start, stop, part, wanted, output

    def _loss_of(self, output: Any, target: Tensor) -> Tensor:
        loss = self.loss(output, target)
        if not isinstance(loss, Tensor):
            raise TypeError(f"loss: must return a Tensor of one number, got {type(loss).__name__}")
        if loss.numel() != 1:
            raise ShapeError(f"loss: must return a Tensor of one number, got shape {tuple(loss.shape)}")
        return loss

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
        batch_first: input and target are (B, T, ...), not (T, B, ...): which dimension is cut into blocks. None asks
            the model's ``batch_first`` or, where a Module has none, the recurrent layers in it. A function cannot be
            asked: it counts as False. Only a recurrent layer itself takes one sequence without a batch, (T, I), with
            ``batch_first``; a network around it needs False for that.
        stepwise: the model takes one step, (B, ...), at a time; outputs are stacked.

    Returns:
        What runs sequences: calling it gives an iterator over blocks, its ``backward`` runs them all.

    Raises:
        TypeError, ValueError: a model or loss that cannot be called, or a model that takes no state; k below 1; a
            bidirectional layer, whose state at a cut depends on what comes after it (a function around the model is not
            looked into); layers of a model that disagree about ``batch_first``.
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


def _joined(outputs: list[Any], sizes: list[int], time: int) -> Any:
    """Outputs of blocks along the dimension of time: tensors, or tuples, lists and dicts of them."""
    first = outputs[0]
    if isinstance(first, Tensor):
        for output, steps in zip(outputs, sizes, strict=True):
            if output.ndim <= time or output.shape[time] != steps:
                raise ShapeError(
                    f"model: its output must have a step for each of the block's {steps} in dimension {time}, so that "
                    f"one loss can be taken of all blocks, got shape {tuple(output.shape)}; reshape it in the loss, or "
                    "run the blocks one by one"
                )
        return cat(outputs, time)
    if isinstance(first, (tuple, list)):
        parts = [_joined(list(part), sizes, time) for part in zip(*outputs, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    if isinstance(first, dict):
        return {name: _joined([output[name] for output in outputs], sizes, time) for name in first}
    raise TypeError(
        f"model: its output must be a Tensor, or a tuple, list or dict of them, so that one loss can be taken of all "
        f"blocks, got {type(first).__name__}; run the blocks one by one"
    )


def _two(result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        got = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
        raise TypeError(f"model: must return (output, state), got {got}")
    return result


def _recurrent_layers(model: Any) -> list[tuple[str, nn.RNNBase]]:
    """The recurrent layers of a Module by name; that of the module itself is empty."""
    if not isinstance(model, nn.Module):
        return []
    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.RNNBase)]


def _is_batch_first(model: Any) -> bool:
    own = getattr(model, "batch_first", None)
    if own is not None:
        return bool(own)
    layers = _recurrent_layers(model)
    found = {layer.batch_first for _, layer in layers}
    if len(found) > 1:
        listed = ", ".join(f"{name}: {layer.batch_first}" for name, layer in layers)
        raise ValueError(
            f"batch_first: the model's recurrent layers disagree ({listed}); give batch_first=True where sequences are "
            "(B, T, ...), or False"
        )
    return bool(found) and found.pop()


def _is_cell(model: Any) -> bool:
    return isinstance(model, nn.RNNCellBase)
