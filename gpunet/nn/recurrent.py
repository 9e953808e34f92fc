"""Recurrent layers over whole sequences: vanilla RNN, LSTM and GRU, of several layers and directions.

Each layer in each direction is one operation (``gpunet.ops.rnn``, ``lstm``, ``gru``, which have the equations); here
they are stacked. Weights are those of PyTorch by name, shape, order and gate order, so that files fit both ways.
"""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

import gpunet.nn.functional as F
from gpunet.autograd import Tensor, apply, cat, empty, is_grad_enabled, stack
from gpunet.autograd.observer import state as observer_state
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.nn import init
from gpunet.nn.arguments import check_flag, check_int
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter
from gpunet.nn.utils.rnn import PackedSequence
from gpunet.ops import REGISTRY
from gpunet.ops.dtypes import canonical_dtype, is_floating

__all__ = ["GRU", "LSTM", "RNN", "RNNBase", "check_floating_weights", "check_pair", "draw_recurrent", "require_tensors"]

# Mode -> operation, its attributes, and how many blocks of hidden_size rows the weights have.
_MODES: Final[dict[str, tuple[str, dict[str, Any], int]]] = {
    "RNN_TANH": ("rnn", {"nonlinearity": "tanh"}, 1),
    "RNN_RELU": ("rnn", {"nonlinearity": "relu"}, 1),
    "LSTM": ("lstm", {}, 4),
    "GRU": ("gru", {}, 3),
}


def draw_recurrent(layer: Module, hidden_size: int) -> None:
    """Draw all parameters from U(-k, k) with k = 1 / sqrt(hidden_size)."""
    bound = 1.0 / math.sqrt(hidden_size)
    for parameter in layer.parameters():
        init.uniform_(parameter, -bound, bound)


def require_tensors(layer: str, **arguments: Any) -> None:
    """Raise unless all arguments are Tensors.

    Raises:
        TypeError: naming the argument.
    """
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{layer}: {name} must be a Tensor, got {type(value).__name__}")


class RNNBase(Module):
    """What the recurrent layers share: arguments, weights, and the walk over layers and directions.

    Args:
        mode: ``"RNN_TANH"``, ``"RNN_RELU"``, ``"LSTM"`` or ``"GRU"``.
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype: as for
            ``LSTM``, whichever the mode.

    Attributes:
        weight_ih_l0: (G H, I), with G gates: 1 of the vanilla modes, 4 of the LSTM, 3 of the GRU. The others as for
            ``LSTM``.

    Raises:
        ValueError, TypeError: an argument that no recurrent layer can have.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if mode not in _MODES:
            raise ValueError(f"{name}: mode must be one of {', '.join(_MODES)}, got {mode!r}")
        self.mode = mode
        self.input_size = check_int(name, "input_size", input_size, 1)
        self.hidden_size = check_int(name, "hidden_size", hidden_size, 1)
        self.num_layers = check_int(name, "num_layers", num_layers, 1)
        self.bias = check_flag(name, "bias", bias)
        self.batch_first = check_flag(name, "batch_first", batch_first)
        self.dropout = _check_dropout(name, dropout)
        self.bidirectional = check_flag(name, "bidirectional", bidirectional)
        check_floating_weights(name, dtype)
        self.proj_size = check_int(name, "proj_size", proj_size, 0)
        if self.proj_size:
            raise ValueError(
                f"{name}: proj_size must be 0, got {proj_size}: projections are not had; put a Linear after the layer"
            )
        if self.dropout > 0 and self.num_layers == 1:
            warnings.warn(
                f"{name}: dropout acts between layers, after all but the last; with num_layers=1 dropout={dropout} "
                "does nothing",
                stacklevel=3 if type(self) is not RNNBase else 2,
            )
        self._all_weights: list[list[str]] = []
        rows = _MODES[mode][2] * self.hidden_size
        directions = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            features = self.input_size if layer == 0 else self.hidden_size * directions
            shapes: list[tuple[str, tuple[int, ...]]] = [
                ("weight_ih", (rows, features)),
                ("weight_hh", (rows, self.hidden_size)),
            ]
            if self.bias:
                shapes += [("bias_ih", (rows,)), ("bias_hh", (rows,))]
            for suffix in ("", "_reverse")[:directions]:
                for weight, shape in shapes:
                    setattr(self, f"{weight}_l{layer}{suffix}", Parameter(empty(shape, device=device, dtype=dtype)))
                self._all_weights.append([f"{weight}_l{layer}{suffix}" for weight, _ in shapes])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew."""
        draw_recurrent(self, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Nothing: weights need not lie in one block here. For scripts that call it."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The weights of each layer and direction, in the order of the states: W_ih, W_hh and b_ih, b_hh."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        plain = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0, "bidirectional": False}
        for name, value in plain.items():
            if getattr(self, name) != value:
                text += f", {name}={getattr(self, name)}"
        return text

    # Running -------------------------------------------------------------------------------------------------------

    def _run(self, input: Any, hx: tuple[Tensor, ...] | None) -> tuple[Any, list[Tensor]]:
        """Output and last states, from the input and the initial states (None: zeros)."""
        x = input.data if isinstance(input, PackedSequence) else input
        require_tensors(type(self).__name__, input=x)
        packed = isinstance(input, PackedSequence)
        self._check_input(x, packed)
        if packed:
            sizes = tuple(input.batch_sizes.tolist())
            batch = sizes[0] if sizes else 0
        else:
            sizes, batch = None, x.shape[0 if self.batch_first else 1] if x.ndim == 3 else 1
        if hx is not None:
            self._check_states(hx, batch, unbatched=x.ndim == 2 and not packed)
            if packed:
                hx = tuple(_permuted(state, input.sorted_indices) for state in hx)
        single = not packed and x.ndim == 2
        if single:
            x = x.unsqueeze(1)
            hx = None if hx is None else tuple(state.unsqueeze(1) for state in hx)
        elif self.batch_first and not packed:
            x = x.transpose(0, 1)
        y, last = self._stack(x, hx, batch, sizes)
        if packed:
            output: Any = PackedSequence(y, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
            return output, [_permuted(state, input.unsorted_indices) for state in last]
        if single:
            return y.squeeze(1), [state.squeeze(1) for state in last]
        return y.transpose(0, 1) if self.batch_first else y, last

    def _stack(
        self, x: Tensor, hx: tuple[Tensor, ...] | None, batch: int, sizes: tuple[int, ...] | None
    ) -> tuple[Tensor, list[Tensor]]:
        """All layers and directions over x, (T, B, I) or packed (N, I)."""
        name, attributes, _ = _MODES[self.mode]
        operation, count = REGISTRY[name], 2 if self.mode == "LSTM" else 1
        zeros = x.new_zeros(batch, self.hidden_size) if hx is None else None
        directions = 2 if self.bidirectional else 1
        initial = [[zeros] * count] * (self.num_layers * directions) if hx is None else _taken_apart(hx)
        last: list[list[Tensor]] = [[] for _ in range(count)]
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(directions):
                place = layer * directions + direction
                weights = [getattr(self, weight) for weight in self._all_weights[place]]
                biases = () if self.bias else (None, None)
                y, *after = apply(
                    operation,
                    x,
                    *initial[place],
                    *weights,
                    *biases,
                    reverse=direction == 1,
                    batch_sizes=sizes,
                    **attributes,
                )
                outputs.append(y)
                for states, state in zip(last, after, strict=True):
                    states.append(state)
            x = outputs[0] if directions == 1 else cat(outputs, -1)
            if self.dropout and self.training and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, True)
        return x, [_put_together(states) for states in last]

    # Checks --------------------------------------------------------------------------------------------------------

    def _check_input(self, x: Tensor, packed: bool) -> None:
        name = type(self).__name__
        shape = tuple(x.shape)
        if packed and x.ndim != 2:
            raise ShapeError(f"{name}: the data of a packed input must be 2-d (rows, features), got shape {shape}")
        if x.ndim not in (2, 3):
            order = "batch, steps" if self.batch_first else "steps, batch"
            raise ShapeError(
                f"{name}: input must be 3-d ({order}, features), or 2-d (steps, features) without a batch, "
                f"got shape {shape}"
            )
        if x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{name}: the last dimension of input must be input_size={self.input_size}, got shape {shape}"
            )
        if not packed and not x.shape[1 if self.batch_first and x.ndim == 3 else 0]:
            raise ShapeError(f"{name}: input must have at least one step, got shape {shape}")

    def _check_states(self, hx: tuple[Tensor, ...], batch: int, unbatched: bool) -> None:
        name = type(self).__name__
        count = self.num_layers * (2 if self.bidirectional else 1)
        wanted = (count, self.hidden_size) if unbatched else (count, batch, self.hidden_size)
        for place, state in enumerate(hx):
            if tuple(state.shape) != wanted:
                label = f"hx[{place}]" if self.mode == "LSTM" else "hx"
                kind = "layers * directions, hidden_size" if unbatched else "layers * directions, batch, hidden_size"
                raise ShapeError(f"{name}: {label} must have shape {wanted} ({kind}), got {tuple(state.shape)}")


def check_floating_weights(layer: str, dtype: Any) -> None:
    """Raise unless a dtype, None for the default one, can be that of weights.

    Raises:
        DTypeError: naming the layer.
    """
    if dtype is not None and not is_floating(canonical_dtype(dtype)):
        raise DTypeError(f"{layer}: dtype must be floating point, got {canonical_dtype(dtype).name}")


def _check_dropout(layer: str, dropout: Any) -> float:
    if isinstance(dropout, bool) or not isinstance(dropout, numbers.Real) or not 0 <= float(dropout) <= 1:
        raise ValueError(f"{layer}: dropout must be a probability from 0 to 1, got {dropout!r}")
    return float(dropout)


def _is_plain(tensors: Iterable[Tensor]) -> bool:
    """Whether arrays on the CPU are all there is to tensors: no gradient to record, nobody who watches, no views.

    Text is drawn one character a call, where taking states apart as operations would take as long as the layers.
    """
    if is_grad_enabled() or observer_state.observers:
        return False
    return all(type(tensor._array) is np.ndarray and tensor._view is None for tensor in tensors)


def _taken_apart(hx: tuple[Tensor, ...]) -> list[list[Tensor]]:
    """The states of each layer and direction."""
    if _is_plain(hx):
        return [[Tensor._wrap(state._array[place], state._device) for state in hx] for place in range(hx[0].shape[0])]
    return [[state[place] for state in hx] for place in range(hx[0].shape[0])]


def _put_together(states: list[Tensor]) -> Tensor:
    """One state of all layers and directions."""
    if _is_plain(states):
        arrays = [state._array for state in states]
        return Tensor._wrap(arrays[0][None] if len(arrays) == 1 else np.stack(arrays), states[0]._device)
    return stack(states)  # of one as well: a view could not be taken out of the graph by detach_()


def _permuted(state: Tensor, order: Tensor | None) -> Tensor:
    """The states of a batch in another order."""
    return state if order is None else state.index_select(1, order.to(state.device))


def check_pair(layer: str, hx: Any) -> tuple[Any, ...]:
    """The two states of an LSTM.

    Raises:
        TypeError: something else.
    """
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        given = f"{len(hx)} of them" if isinstance(hx, (tuple, list)) else type(hx).__name__
        raise TypeError(f"{layer}: hx must be a pair of Tensors (h_0, c_0), got {given}")
    require_tensors(layer, **{f"hx[{place}]": state for place, state in enumerate(hx)})
    return tuple(hx)


class _OneState(RNNBase):
    """Layers whose state is h alone."""

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """Run over whole sequences.

        Args:
            input: (T, B, I), (B, T, I) with ``batch_first``, (T, I) without a batch, or a PackedSequence.
            hx: h_0, (L D, B, H), or (L D, H) without a batch; zeros unless given.

        Returns:
            The last layer's h_t of all steps, as the input with D H features, and h_n, the shape of h_0: the state of
            each layer and direction after each sequence's last step.

        Raises:
            ShapeError: an input or a state of another shape.
        """
        if hx is not None:
            require_tensors(type(self).__name__, hx=hx)
        output, (last,) = self._run(input, None if hx is None else (hx,))
        return output, last


class RNN(_OneState):
    """The vanilla recurrent network (Elman 1990): h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), or ReLU of it.

    Args:
        input_size: I, features of the input.
        hidden_size: H, features of the state.
        num_layers: L, layers above each other: each takes the output of the one below.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: whether there are b_ih and b_hh.
        batch_first: whether padded inputs and outputs are (B, T, ...) instead of (T, B, ...); states are not.
        dropout: in training, probability with which elements of each layer's output but the last one's are zeroed.
        bidirectional: whether there is a second direction, from the last step to the first; D is 2 then, else 1.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight_ih_l0: (H, I); of the layers above (H, D H), under ``weight_ih_l1`` and so on.
        weight_hh_l0: (H, H).
        bias_ih_l0, bias_hh_l0: (H,).
        weight_ih_l0_reverse: and so on, the same of the second direction. All are drawn from U(-k, k) with
            k = 1 / sqrt(H).

    Raises:
        ValueError, TypeError: an argument that no recurrent layer can have.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        mode = f"RNN_{nonlinearity.upper()}"
        sizes = input_size, hidden_size, num_layers
        super().__init__(mode, *sizes, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.

        i, f, g, o = the four blocks of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g);   h_t = sigmoid(o) tanh(c_t)

    Args:
        input_size: I, features of the input.
        hidden_size: H, features of the state.
        num_layers: L, layers above each other: each takes the output of the one below.
        bias: whether there are b_ih and b_hh.
        batch_first: whether padded inputs and outputs are (B, T, ...) instead of (T, B, ...); states are not.
        dropout: in training, probability with which elements of each layer's output but the last one's are zeroed.
        bidirectional: whether there is a second direction, from the last step to the first; D is 2 then, else 1.
        proj_size: 0; projections are not had.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight_ih_l0: (4 H, I), the gates i, f, g, o; of the layers above (4 H, D H), under ``weight_ih_l1`` and so on.
        weight_hh_l0: (4 H, H).
        bias_ih_l0, bias_hh_l0: (4 H,).
        weight_ih_l0_reverse: and so on, the same of the second direction. All are drawn from U(-k, k) with
            k = 1 / sqrt(H).

    Raises:
        ValueError, TypeError: an argument that no recurrent layer can have.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        sizes = input_size, hidden_size, num_layers
        super().__init__("LSTM", *sizes, bias, batch_first, dropout, bidirectional, proj_size, device, dtype)

    def forward(self, input: Any, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        """Run over whole sequences.

        Args:
            input: (T, B, I), (B, T, I) with ``batch_first``, (T, I) without a batch, or a PackedSequence.
            hx: h_0 and c_0, each (L D, B, H), or (L D, H) without a batch; zeros unless given.

        Returns:
            The last layer's h_t of all steps, as the input with D H features, and (h_n, c_n), the shapes of h_0 and
            c_0: the states of each layer and direction after each sequence's last step.

        Raises:
            ShapeError: an input or a state of another shape.
        """
        output, (h_n, c_n) = self._run(input, None if hx is None else check_pair("LSTM", hx))
        return output, (h_n, c_n)


class GRU(_OneState):
    """The gated recurrent unit (Cho et al. 2014), with the reset gate after the product, as in PyTorch and cuDNN.

        r, z = sigmoid of the first two blocks of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
        n = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn));   h_t = (1 - z) n + z h_{t-1}

    Args:
        input_size: I, features of the input.
        hidden_size: H, features of the state.
        num_layers: L, layers above each other: each takes the output of the one below.
        bias: whether there are b_ih and b_hh.
        batch_first: whether padded inputs and outputs are (B, T, ...) instead of (T, B, ...); states are not.
        dropout: in training, probability with which elements of each layer's output but the last one's are zeroed.
        bidirectional: whether there is a second direction, from the last step to the first; D is 2 then, else 1.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight_ih_l0: (3 H, I), the gates r, z, n; of the layers above (3 H, D H), under ``weight_ih_l1`` and so on.
        weight_hh_l0: (3 H, H).
        bias_ih_l0, bias_hh_l0: (3 H,).
        weight_ih_l0_reverse: and so on, the same of the second direction. All are drawn from U(-k, k) with
            k = 1 / sqrt(H).

    Raises:
        ValueError, TypeError: an argument that no recurrent layer can have.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        sizes = input_size, hidden_size, num_layers
        super().__init__("GRU", *sizes, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype)
