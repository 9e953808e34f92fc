"""Recurrent cells: one step of a layer of ``recurrent``, for loops of one's own."""

from __future__ import annotations

from typing import Any

from gpunet.autograd import Tensor, apply, empty
from gpunet.autograd.observer import state as observer_state
from gpunet.backend.errors import ShapeError
from gpunet.nn.arguments import check_flag, check_int
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter
from gpunet.nn.recurrent import check_floating_weights, check_pair, draw_recurrent, require_tensors
from gpunet.ops import REGISTRY

__all__ = ["GRUCell", "LSTMCell", "RNNCell", "RNNCellBase"]


class RNNCellBase(Module):
    """What the cells share: arguments and weights.

    Args:
        input_size: I, features of the input.
        hidden_size: H, features of the state.
        bias: whether there are b_ih and b_hh.
        num_chunks: G, how many blocks of H rows the weights have: the gates.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight_ih: (G H, I), from U(-k, k) with k = 1 / sqrt(H), as are the others.
        weight_hh: (G H, H).
        bias_ih, bias_hh: (G H,), or None.

    Raises:
        ValueError, TypeError: an argument that no cell can have.
    """

    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.input_size = check_int(name, "input_size", input_size, 1)
        self.hidden_size = check_int(name, "hidden_size", hidden_size, 1)
        self.bias = check_flag(name, "bias", bias)
        check_floating_weights(name, dtype)
        rows = check_int(name, "num_chunks", num_chunks, 1) * self.hidden_size
        self.weight_ih = Parameter(empty((rows, self.input_size), device=device, dtype=dtype))
        self.weight_hh = Parameter(empty((rows, self.hidden_size), device=device, dtype=dtype))
        self.bias_ih = Parameter(empty((rows,), device=device, dtype=dtype)) if self.bias else None
        self.bias_hh = Parameter(empty((rows,), device=device, dtype=dtype)) if self.bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew."""
        draw_recurrent(self, self.hidden_size)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if not self.bias:
            text += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text

    def _step(self, operation: str, input: Any, hx: Any, count: int, **attributes: Any) -> tuple[Tensor, ...]:
        """The states after one step: ``operation`` over a sequence of length 1."""
        name = type(self).__name__
        require_tensors(name, input=input)
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ShapeError(
                f"{name}: input must have shape (batch, {self.input_size}), or ({self.input_size},) without a batch, "
                f"got {tuple(input.shape)}"
            )
        wanted = (*input.shape[:-1], self.hidden_size)
        if hx is None:
            states = (input.new_zeros(*wanted),) * count
        else:
            states = (hx,) if count == 1 else check_pair(name, hx)
        for place, state in enumerate(states):
            label = "hx" if count == 1 else f"hx[{place}]"
            require_tensors(name, **{label: state})
            if tuple(state.shape) != wanted:
                raise ShapeError(f"{name}: {label} must have shape {wanted}, got {tuple(state.shape)}")
        single = input.ndim == 1
        if single:
            input, states = input.unsqueeze(0), tuple(state.unsqueeze(0) for state in states)
        weights = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        # Rows of a packed batch of one step take no operation more; who watches is shown the plain form.
        rows = len(input)
        sizes = (rows,) if rows and not observer_state.observers else None
        x = input.unsqueeze(0) if sizes is None else input
        _, *after = apply(REGISTRY[operation], x, *states, *weights, reverse=False, batch_sizes=sizes, **attributes)
        return tuple(state.squeeze(0) for state in after) if single else tuple(after)


class RNNCell(RNNCellBase):
    """One step of the vanilla recurrent network (Elman 1990): h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or ReLU of it.

    Args:
        input_size: I, features of the input.
        hidden_size: H, features of the state.
        bias: whether there are b_ih and b_hh.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight_ih: (H, I), from U(-k, k) with k = 1 / sqrt(H), as are the others.
        weight_hh: (H, H).
        bias_ih, bias_hh: (H,), or None.

    Raises:
        ValueError, TypeError: an argument that no cell can have.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNNCell: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """(B, I) and h (B, H) to h' (B, H); all without B for a single sequence. Zeros are h unless it is given."""
        (after,) = self._step("rnn", input, hx, 1, nonlinearity=self.nonlinearity)
        return after


class LSTMCell(RNNCellBase):
    """One step of a long short-term memory: Hochreiter and Schmidhuber 1997; ``LSTM`` has the equations.

    Args:
        input_size: I, features of the input.
        hidden_size: H, features of the state.
        bias: whether there are b_ih and b_hh.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight_ih: (4 H, I), the gates i, f, g, o; from U(-k, k) with k = 1 / sqrt(H), as are the others.
        weight_hh: (4 H, H).
        bias_ih, bias_hh: (4 H,), or None.

    Raises:
        ValueError, TypeError: an argument that no cell can have.
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(B, I) and (h, c), each (B, H), to (h', c'); all without B for a single sequence. Zeros unless given."""
        h, c = self._step("lstm", input, hx, 2)
        return h, c


class GRUCell(RNNCellBase):
    """One step of a gated recurrent unit: Cho et al. 2014; ``GRU`` has the equations.

    Args:
        input_size: I, features of the input.
        hidden_size: H, features of the state.
        bias: whether there are b_ih and b_hh.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight_ih: (3 H, I), the gates r, z, n; from U(-k, k) with k = 1 / sqrt(H), as are the others.
        weight_hh: (3 H, H).
        bias_ih, bias_hh: (3 H,), or None.

    Raises:
        ValueError, TypeError: an argument that no cell can have.
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """(B, I) and h (B, H) to h' (B, H); all without B for a single sequence. Zeros are h unless it is given."""
        (after,) = self._step("gru", input, hx, 1)
        return after
