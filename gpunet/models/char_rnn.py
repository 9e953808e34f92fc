"""The character model: Graves 2013 ("Generating sequences with recurrent neural networks"), section 3.

A recurrent network reads a text character by character, and after each one says how probable every character is as
the next. What it says depends on all that was read before, through a state of fixed size:

    P(x_1, ..., x_T) = prod_t P(x_t | x_1, ..., x_{t-1}),   P(x_t | x_1, ..., x_{t-1}) = softmax(W h_{t-1} + b)

with h_t the top layer's state after x_t, and h_0 = 0 where nothing was read. Deviations: layers of any of the three
cells, each reading the one below alone (the paper's read the input too, and the output all of them); LSTM without
peepholes; characters come in as learned vectors or one-hot. Two layers of 256 for 96 characters: 886,880 parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import gpunet.nn.functional as F
from gpunet import nn
from gpunet.autograd import Tensor, eye, from_numpy, no_grad
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.backend.kernels import uses_kernels
from gpunet.backend.random import Generator, default_generator
from gpunet.backend.threads import single_threaded_blas
from gpunet.data.text import describe_range
from gpunet.models._arguments import check_probability
from gpunet.models._registry import register_model
from gpunet.ops import REGISTRY
from gpunet.ops.dtypes import FLOAT32, FLOAT64

__all__ = ["CELLS", "CharRNN", "char_rnn", "draw_from_logits"]

# cell   layer     state
# rnn    h_t = tanh(...)    h
# lstm   with memory        (h, c)
# gru    with gates         h
CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
# The characters of printable ASCII, and the end of a line.
VOCABULARY, HIDDEN, LAYERS, EMBEDDING = 96, 256, 2, 64

# What a model keeps of what it has read: (L, B, H), for an LSTM two of them.
State = Any


class CharRNN(nn.Module):
    """A recurrent network over characters, which are numbers below ``vocab_size``.

    Args:
        vocab_size: V, how many characters there are.
        cell: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        hidden_size: H, units of each layer.
        num_layers: L, layers above each other.
        embedding_dim: size of the learned vector of a character; 0 gives it in as one-hot.
        dropout: in training, the probability with which elements of each layer's output are zeroed (Zaremba et al.
            2014: between the layers and before the scores, never from step to step).

    Attributes:
        batch_first: True: inputs are (B, T).

    Raises:
        ValueError, TypeError: an argument that no such network has.
    """

    batch_first = True
    #: Characters of the input that ``gn.inspect.summary`` and exports take where none is given.
    default_sequence_length = 64

    def __init__(
        self,
        vocab_size: int = VOCABULARY,
        cell: str = "lstm",
        hidden_size: int = HIDDEN,
        num_layers: int = LAYERS,
        embedding_dim: int = EMBEDDING,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("vocab_size", vocab_size, 1),
            ("hidden_size", hidden_size, 1),
            ("num_layers", num_layers, 1),
            ("embedding_dim", embedding_dim, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"char_rnn: {name} must be an integer, got {type(value).__name__}")
            if value < least:
                raise ValueError(f"char_rnn: {name} must be at least {least}, got {value}")
        if cell not in CELLS:
            raise ValueError(f"char_rnn: cell must be one of {', '.join(CELLS)}, got {cell!r}")
        self.vocab_size, self.cell = int(vocab_size), cell
        dropout = check_probability("char_rnn", "dropout", dropout)
        # A one-hot vector is a row of the identity: looked up, not multiplied.
        self.embedding = nn.Embedding(vocab_size, embedding_dim) if embedding_dim else None
        if self.embedding is None:
            self.register_buffer("one_hot", eye(self.vocab_size), persistent=False)
        self.rnn = CELLS[cell](
            embedding_dim or vocab_size, hidden_size, num_layers, dropout=dropout if num_layers > 1 else 0.0
        )
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.Linear(hidden_size, vocab_size)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Read characters, and score what may follow each.

        Args:
            x: int64 (B, T), at least one step.
            state: what was read before, as this returned it; None is nothing.

        Returns:
            Scores (B, T, V), whose softmax is P(x_{t+1} | what was read up to x_t), and the state after the last.

        Raises:
            ShapeError, DTypeError: x or the state is of another shape or type.
            IndexError: a number in x that is no character's.
        """
        hidden, state = self._read(self._checked("x", x).transpose(0, 1), state)
        return self.decoder(self.dropout(hidden)).transpose(0, 1), state

    def _read(self, steps: Tensor, state: State) -> tuple[Tensor, State]:
        """The top layer's states (T, B, H) after each of (T, B) characters, and what the layers keep."""
        vectors = F.embedding(steps, self.one_hot) if self.embedding is None else self.embedding(steps)
        hidden, state = self.rnn(vectors, state)
        return hidden, state

    def start(self, batch_size: int = 1) -> State:
        """The state of having read nothing: zeros (L, B, H), for an LSTM two of them."""
        shape = (self.rnn.num_layers, batch_size, self.rnn.hidden_size)
        states = [self.decoder.weight.new_zeros(shape) for _ in range(2 if self.cell == "lstm" else 1)]
        return tuple(states) if self.cell == "lstm" else states[0]

    def next_scores(self, state: State) -> Tensor:
        """Scores (B, V) of the next character after what was read into a state."""
        hidden = state[0] if self.cell == "lstm" else state
        return self.decoder(hidden[-1])

    def log_prob(self, x: Tensor, state: State = None) -> Tensor:
        """log P(x_1, ..., x_T) by the product rule: the sum of the log-probabilities of each given those before.

        Over all strings of a length the probabilities add up to 1.

        Args:
            x: int64 (B, T); for T = 0 the result is 0.
            state: what was read before, on which all is conditioned; None is nothing.

        Returns:
            (B,), natural logarithms.

        Raises:
            ShapeError, DTypeError, IndexError: as ``forward``.
        """
        x = self._checked("x", x, least=0)
        batch, steps = x.shape
        state = self.start(batch) if state is None else state
        if steps == 0:
            return self.decoder.weight.new_zeros(batch)
        total = self._chosen(self.next_scores(state).unsqueeze(1), x[:, :1])
        if steps > 1:
            total = total + self._chosen(self(x[:, :-1], state)[0], x[:, 1:])
        return total

    @staticmethod
    def _chosen(scores: Tensor, x: Tensor) -> Tensor:
        """The summed log-probabilities of x (B, T) by scores (B, T, V)."""
        return F.log_softmax(scores, dim=-1).gather(2, x.unsqueeze(2)).sum(dim=(1, 2))

    def stream(
        self,
        prompt: Any = (),
        temperature: float = 1.0,
        generator: Generator | None = None,
        state: State = None,
    ) -> Iterator[int]:
        """Draw characters without end, each as it is asked for.

        Args:
            prompt: numbers of the characters to begin after; they are read, not given again.
            temperature: of the softmax; below 1 likely characters get likelier. 0 takes the likeliest each time.
            generator: of the random numbers; None is the default one. One stream is one draw from it.
            state: what was read before the prompt; None is nothing.

        Returns:
            An iterator over the numbers of the characters drawn.

        Raises:
            ValueError: a temperature below 0 or not finite.
            IndexError: a number in the prompt that is no character's.
        """
        temperature = check_temperature(temperature)
        numbers = self._prompt(prompt)
        random = (default_generator() if generator is None else generator).numpy()
        return self._drawn(numbers, temperature, random, state)

    def sample(
        self,
        length: int,
        prompt: Any = (),
        temperature: float = 1.0,
        generator: Generator | None = None,
        state: State = None,
    ) -> Tensor:
        """Draw ``length`` characters: int64 (length,), on the CPU. Arguments as ``stream``."""
        if isinstance(length, bool) or not isinstance(length, (int, np.integer)):
            raise TypeError(f"length: must be an integer, got {type(length).__name__}")
        if length < 0:
            raise ValueError(f"length: must not be negative, got {length}")
        stream = self.stream(prompt, temperature, generator, state)
        return from_numpy(np.fromiter((next(stream) for _ in range(length)), np.int64, length))

    def _drawn(
        self, numbers: np.ndarray, temperature: float, random: np.random.Generator, state: State
    ) -> Iterator[int]:
        device = self.decoder.weight.device
        steps: _Steps | None = None
        while True:
            if steps is not None:
                scores = steps(int(numbers[0]))
            else:
                with _Evaluating(self), no_grad():
                    if len(numbers):
                        hidden, state = self._read(from_numpy(numbers[:, None]).to(device), state)
                        values = self.decoder(hidden[-1])
                    else:
                        state = self.start() if state is None else state
                        values = self.next_scores(state)
                    scores = values.cpu().numpy()[0]
                if _Steps.take(self):
                    steps = _Steps(self, state)
            numbers = draw_from_logits(scores, 1, temperature, random)
            yield int(numbers[0])

    def _prompt(self, prompt: Any) -> np.ndarray:
        numbers = np.asarray(prompt.cpu().numpy() if isinstance(prompt, Tensor) else prompt)
        if numbers.ndim != 1:
            raise ShapeError(f"prompt: must be 1-d (characters,), got shape {numbers.shape}")
        if numbers.size and numbers.dtype.kind not in "ui":
            raise DTypeError(f"prompt: must be integers, got {numbers.dtype.name}")
        if numbers.size and not (numbers.min() >= 0 and numbers.max() < self.vocab_size):
            raise IndexError(f"prompt: must be numbers from 0 to {self.vocab_size - 1}, got {describe_range(numbers)}")
        return numbers.astype(np.int64)

    def _checked(self, name: str, x: Any, least: int = 1) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"char_rnn: {name} must be a Tensor, got {type(x).__name__}")
        if x.ndim != 2 or x.shape[1] < least:
            step = " of at least one step" if least else ""
            raise ShapeError(f"char_rnn: {name} must be 2-d (batch, steps){step}, got shape {tuple(x.shape)}")
        if x.dtype.name not in ("int64", "int32"):
            raise DTypeError(f"char_rnn: {name} must be int64 or int32, got {x.dtype.name}")
        if x.device.type == "cpu" and x.numel():  # to look on a GPU would be to wait; there the lookup finds them
            numbers = x._array
            if not (numbers.min() >= 0 and numbers.max() < self.vocab_size):
                raise IndexError(
                    f"char_rnn: {name} must be numbers from 0 to {self.vocab_size - 1}, got {describe_range(numbers)}"
                )
        return x


class _Steps:
    """Reads one character after the other on the CPU: what the layers compute in one step, and nothing around it.

    Checks of shapes, tensors and the record for gradients take longer there than the arithmetic of a small network.
    """

    def __init__(self, model: CharRNN, state: State) -> None:
        rnn = model.rnn
        self.op: Any = REGISTRY[model.cell]
        self.attributes = {"nonlinearity": "tanh"} if model.cell == "rnn" else {}
        self.table = model.one_hot if model.embedding is None else model.embedding.weight
        self.layers = rnn.all_weights
        bias = model.decoder.bias
        assert bias is not None
        self.decoder = model.decoder.weight, bias
        parts = [part._array for part in (state if isinstance(state, tuple) else (state,))]
        self.states = [tuple(part[layer] for part in parts) for layer in range(rnn.num_layers)]

    @staticmethod
    def take(model: CharRNN) -> bool:
        """Whether a model can be read so: on the CPU, in a type that is not rounded on the way."""
        weight = model.decoder.weight
        return weight.device.type == "cpu" and weight.dtype in (FLOAT32, FLOAT64) and not uses_kernels(weight._array)

    def __call__(self, number: int) -> np.ndarray:
        """The scores (V,) of what comes after a character."""
        x = self.table._array[number : number + 1]
        with single_threaded_blas():
            for layer, weights in enumerate(self.layers):
                arrays = tuple(weight._array for weight in weights)
                self.states[layer] = self.op.once(x, self.states[layer], arrays, self.attributes)
                x = self.states[layer][0]
            weight, bias = self.decoder
            return (np.matmul(x, weight._array.T) + bias._array)[0]


class _Evaluating:
    """A ``with`` block in which a model is in evaluation mode."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.was_training = model, model.training

    def __enter__(self) -> None:
        if self.was_training:
            self.model.eval()

    def __exit__(self, *error: object) -> None:
        if self.was_training:
            self.model.train()


def check_temperature(temperature: Any) -> float:
    """The temperature as a float.

    Raises:
        TypeError: no number.
        ValueError: below 0 or not finite.
    """
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float, np.floating, np.integer)):
        raise TypeError(f"temperature: must be a number, got {type(temperature).__name__}")
    if not 0.0 <= temperature < math.inf:
        raise ValueError(f"temperature: must be 0 (the likeliest character each time) or above, got {temperature}")
    return float(temperature)


def draw_from_logits(
    logits: Any, count: int = 1, temperature: float = 1.0, random: np.random.Generator | None = None
) -> np.ndarray:
    """Numbers drawn from softmax(logits / temperature), by the inverse of its distribution function.

    Args:
        logits: (V,), an array or a Tensor; -inf is a probability of 0.
        count: how many to draw.
        temperature: 0 gives the first of the largest, and takes no random number.
        random: where uniform numbers come from, one for each draw; None is gpunet's default generator.

    Returns:
        int64 (count,).

    Raises:
        ValueError: a temperature below 0; logits of which none is finite, or one is NaN or +inf.
    """
    temperature = check_temperature(temperature)
    values = np.asarray(logits.detach().cpu().numpy() if isinstance(logits, Tensor) else logits, np.float64)
    if values.ndim != 1 or not values.size:
        raise ShapeError(f"logits: must be 1-d with at least one entry, got shape {values.shape}")
    best = int(values.argmax())  # the first NaN, if there is one
    if not math.isfinite(values[best]):
        raise ValueError(f"logits: the largest must be finite, got {values[best]}")
    if temperature == 0.0:
        return np.full(count, best, np.int64)
    with np.errstate(over="ignore", under="ignore"):  # of a small temperature: the quotient is -inf then
        weights = np.exp((values - values[best]) / temperature)
    edges = np.cumsum(weights)
    random = default_generator().numpy() if random is None else random
    # Right of all edges that are equal: what has no weight is never met.
    drawn = np.searchsorted(edges, random.random(count) * edges[-1], side="right")
    return np.minimum(drawn, int(np.flatnonzero(weights)[-1]))


@register_model(kind="sequence")
def char_rnn(
    vocab_size: int = VOCABULARY,
    cell: str = "lstm",
    hidden_size: int = HIDDEN,
    num_layers: int = LAYERS,
    embedding_dim: int = EMBEDDING,
    dropout: float = 0.0,
) -> CharRNN:
    """The character model; see ``CharRNN``."""
    return CharRNN(vocab_size, cell, hidden_size, num_layers, embedding_dim, dropout)
