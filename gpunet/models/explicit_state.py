"""A character model whose state goes in and comes out as tensors of its own, as programs that run a graph need it."""

from __future__ import annotations

import numpy as np

from gpunet import nn
from gpunet.autograd import Tensor
from gpunet.models.char_rnn import CharRNN

__all__ = ["ExplicitState"]


class ExplicitState(nn.Module):
    """Reads on from a state: ``forward(x, h_0[, c_0])`` gives a dict of ``output``, ``h_n`` and, of an LSTM, ``c_n``.

    A graph keeps nothing from run to run, so that who reads a prompt and draws after it has to hand the state on. The
    batch comes first in the states, (B, L, H), as in all else; zeros are the state of having read nothing.

    Args:
        model: whose layers and weights these are, under the same names in the state dict.

    Attributes:
        input_names: of the forward's arguments.
    """

    def __init__(self, model: CharRNN) -> None:
        super().__init__()
        self._modules.update(model._modules)
        self._buffers.update(model._buffers)
        # Not a child: its weights would stand in the state dict a second time, under other names.
        self.__dict__["_model"] = model
        self.input_names = ("input", "h_0", "c_0") if model.cell == "lstm" else ("input", "h_0")

    def forward(self, x: Tensor, *states: Tensor) -> dict[str, Tensor]:
        """Scores (B, T, V) after each of x, int64 (B, T), and the states (B, L, H) after the last."""
        model: CharRNN = self.__dict__["_model"]
        given = tuple(state.transpose(0, 1) for state in states)
        scores, last = model(x, given if model.cell == "lstm" else given[0])
        parts = last if isinstance(last, tuple) else (last,)
        names = (name.replace("_0", "_n") for name in self.input_names[1:])
        return {"output": scores} | {name: part.transpose(0, 1) for name, part in zip(names, parts, strict=True)}

    def examples(self, batch_size: int, length: int) -> list[np.ndarray]:
        """Arguments of the forward for so many streams and steps: nothing read yet."""
        rnn, dtype = self.__dict__["_model"].rnn, self.__dict__["_model"].decoder.weight.dtype
        state = np.zeros((batch_size, rnn.num_layers, rnn.hidden_size), dtype)
        return [np.zeros((batch_size, length), np.int64), *(state for _ in self.input_names[1:])]
