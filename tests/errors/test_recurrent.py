"""Bad input to recurrent layers, their cells, and to packing: one clear error each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import DeviceError, DTypeError, ShapeError, nn
from gpunet.nn.utils.rnn import (
    PackedSequence,
    invert_permutation,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)
from gpunet.testing.bad_input import DEVICES, BadInput


def packed(z: Any, *lengths: int, **options: Any) -> PackedSequence:
    """A packed batch of sequences of the given lengths, with three features."""
    return pack_sequence([z(length, 3, **options) for length in lengths], enforce_sorted=False)


LAYERS = [
    BadInput("no layers", lambda z, on: nn.LSTM(3, 4, 0), ValueError, "LSTM: num_layers must be at least 1, got 0"),
    BadInput("no units", lambda z, on: nn.GRU(3, 0), ValueError, "GRU: hidden_size must be at least 1, got 0"),
    BadInput("no features", lambda z, on: nn.RNN(0, 4), ValueError, "RNN: input_size must be at least 1, got 0"),
    BadInput("half a unit", lambda z, on: nn.LSTM(3, 4.5), TypeError, "LSTM: hidden_size must be an integer, got 4.5"),
    BadInput("bias of 1", lambda z, on: nn.LSTM(3, 4, bias=1), TypeError, "LSTM: bias must be True or False, got 1"),
    BadInput(
        "batch first of a word",
        lambda z, on: nn.GRU(3, 4, batch_first="yes"),
        TypeError,
        "GRU: batch_first must be True or False, got 'yes'",
    ),
    BadInput(
        "dropout above 1",
        lambda z, on: nn.LSTM(3, 4, 2, dropout=1.5),
        ValueError,
        "LSTM: dropout must be a probability from 0 to 1, got 1.5",
    ),
    BadInput(
        "dropout of True",
        lambda z, on: nn.LSTM(3, 4, 2, dropout=True),
        ValueError,
        "LSTM: dropout must be a probability from 0 to 1, got True",
    ),
    BadInput(
        "layer of integers",
        lambda z, on: nn.LSTM(3, 4, dtype=gn.int64),
        DTypeError,
        "LSTM: dtype must be floating point, got int64",
    ),
    BadInput(
        "projections",
        lambda z, on: nn.LSTM(3, 4, proj_size=2),
        ValueError,
        "LSTM: proj_size must be 0, got 2: projections are not had; put a Linear after the layer",
    ),
    BadInput(
        "another nonlinearity",
        lambda z, on: nn.RNN(3, 4, nonlinearity="sigmoid"),
        ValueError,
        "RNN: nonlinearity must be 'tanh' or 'relu', got 'sigmoid'",
    ),
    BadInput(
        "another mode",
        lambda z, on: nn.RNNBase("lstm", 3, 4),
        ValueError,
        "RNNBase: mode must be one of RNN_TANH, RNN_RELU, LSTM, GRU, got 'lstm'",
    ),
    BadInput(
        "one dimension",
        lambda z, on: on(nn.LSTM(3, 4))(z(3)),
        ShapeError,
        "LSTM: input must be 3-d (steps, batch, features), or 2-d (steps, features) without a batch, got shape (3,)",
    ),
    BadInput(
        "four dimensions",
        lambda z, on: on(nn.GRU(3, 4, batch_first=True))(z(2, 2, 2, 3)),
        ShapeError,
        "GRU: input must be 3-d (batch, steps, features), or 2-d (steps, features) without a batch, "
        "got shape (2, 2, 2, 3)",
    ),
    BadInput(
        "wrong features",
        lambda z, on: on(nn.RNN(3, 4))(z(5, 2, 4)),
        ShapeError,
        "RNN: the last dimension of input must be input_size=3, got shape (5, 2, 4)",
    ),
    BadInput(
        "wrong features, packed",
        lambda z, on: on(nn.RNN(4, 4))(packed(z, 2, 1)),
        ShapeError,
        "RNN: the last dimension of input must be input_size=4, got shape (3, 3)",
    ),
    BadInput(
        "no steps",
        lambda z, on: on(nn.LSTM(3, 4))(z(0, 2, 3)),
        ShapeError,
        "LSTM: input must have at least one step, got shape (0, 2, 3)",
    ),
    BadInput(
        "no steps, batch first",
        lambda z, on: on(nn.LSTM(3, 4, batch_first=True))(z(2, 0, 3)),
        ShapeError,
        "LSTM: input must have at least one step, got shape (2, 0, 3)",
    ),
    BadInput(
        "no steps, unbatched",
        lambda z, on: on(nn.LSTM(3, 4, batch_first=True))(z(0, 3)),
        ShapeError,
        "LSTM: input must have at least one step, got shape (0, 3)",
    ),
    BadInput(
        "images, packed",
        lambda z, on: on(nn.LSTM(3, 4))(pack_sequence([z(2, 2, 3)])),
        ShapeError,
        "LSTM: the data of a packed input must be 2-d (rows, features), got shape (2, 2, 3)",
    ),
    BadInput(
        "another dtype",
        lambda z, on: on(nn.GRU(3, 4))(z(5, 2, 3, dtype=gn.float64)),
        DTypeError,
        "gru: weight_ih has dtype float32, but input has float64; they must be the same",
    ),
    BadInput(
        "integers",
        lambda z, on: on(nn.LSTM(3, 4))(z(5, 2, 3, dtype=gn.int64)),
        DTypeError,
        "lstm: input must be floating point, got int64",
    ),
    BadInput(
        "a state of another dtype",
        lambda z, on: on(nn.GRU(3, 4))(z(5, 2, 3), z(1, 2, 4, dtype=gn.float16)),
        DTypeError,
        "gru: h0 has dtype float16, but input has float32; they must be the same",
    ),
    BadInput(
        "a list for the input",
        lambda z, on: on(nn.LSTM(3, 4))([[[1.0, 2.0, 3.0]]]),
        TypeError,
        "LSTM: input must be a Tensor, got list",
    ),
    BadInput(
        "a state of another batch",
        lambda z, on: on(nn.GRU(3, 4))(z(5, 2, 3), z(1, 3, 4)),
        ShapeError,
        "GRU: hx must have shape (1, 2, 4) (layers * directions, batch, hidden_size), got (1, 3, 4)",
    ),
    BadInput(
        "a state of one direction for two",
        lambda z, on: on(nn.RNN(3, 4, 2, bidirectional=True))(z(5, 2, 3), z(2, 2, 4)),
        ShapeError,
        "RNN: hx must have shape (4, 2, 4) (layers * directions, batch, hidden_size), got (2, 2, 4)",
    ),
    BadInput(
        "a cell state of other units",
        lambda z, on: on(nn.LSTM(3, 4))(z(5, 2, 3), (z(1, 2, 4), z(1, 2, 5))),
        ShapeError,
        "LSTM: hx[1] must have shape (1, 2, 4) (layers * directions, batch, hidden_size), got (1, 2, 5)",
    ),
    BadInput(
        "a batch of states for no batch",
        lambda z, on: on(nn.GRU(3, 4))(z(5, 3), z(1, 1, 4)),
        ShapeError,
        "GRU: hx must have shape (1, 4) (layers * directions, hidden_size), got (1, 1, 4)",
    ),
    BadInput(
        "a state of another packed batch",
        lambda z, on: on(nn.GRU(3, 4))(packed(z, 2, 4), z(1, 3, 4)),
        ShapeError,
        "GRU: hx must have shape (1, 2, 4) (layers * directions, batch, hidden_size), got (1, 3, 4)",
    ),
    BadInput(
        "one state for an LSTM",
        lambda z, on: on(nn.LSTM(3, 4))(z(5, 2, 3), z(1, 2, 4)),
        TypeError,
        "LSTM: hx must be a pair of Tensors (h_0, c_0), got Tensor",
    ),
    BadInput(
        "three states for an LSTM",
        lambda z, on: on(nn.LSTM(3, 4))(z(5, 2, 3), (z(1, 2, 4),) * 3),
        TypeError,
        "LSTM: hx must be a pair of Tensors (h_0, c_0), got 3 of them",
    ),
    BadInput(
        "an LSTM without its cell state",
        lambda z, on: on(nn.LSTM(3, 4))(z(5, 2, 3), (z(1, 2, 4), None)),
        TypeError,
        "LSTM: hx[1] must be a Tensor, got NoneType",
    ),
    BadInput(
        "a pair of states for a GRU",
        lambda z, on: on(nn.GRU(3, 4))(z(5, 2, 3), (z(1, 2, 4), z(1, 2, 4))),
        TypeError,
        "GRU: hx must be a Tensor, got tuple",
    ),
    BadInput(
        "a pair of states for an RNN",
        lambda z, on: on(nn.RNN(3, 4))(z(5, 2, 3), (z(1, 2, 4), z(1, 2, 4))),
        TypeError,
        "RNN: hx must be a Tensor, got tuple",
    ),
]

CELLS = [
    BadInput("RNNCell", lambda z, on: nn.RNNCell(3, 0), ValueError, "RNNCell: hidden_size must be at least 1, got 0"),
    BadInput(
        "RNNCellBase",
        lambda z, on: nn.RNNCellBase(3, 4, True, 0),
        ValueError,
        "RNNCellBase: num_chunks must be at least 1, got 0",
    ),
    BadInput(
        "RNNCell nonlinearity",
        lambda z, on: nn.RNNCell(3, 4, nonlinearity="gelu"),
        ValueError,
        "RNNCell: nonlinearity must be 'tanh' or 'relu', got 'gelu'",
    ),
    BadInput(
        "cell of integers",
        lambda z, on: nn.GRUCell(3, 4, dtype=gn.int32),
        DTypeError,
        "GRUCell: dtype must be floating point, got int32",
    ),
    BadInput(
        "LSTMCell rank",
        lambda z, on: on(nn.LSTMCell(3, 4))(z(5, 2, 3)),
        ShapeError,
        "LSTMCell: input must have shape (batch, 3), or (3,) without a batch, got (5, 2, 3)",
    ),
    BadInput(
        "GRUCell features",
        lambda z, on: on(nn.GRUCell(3, 4))(z(2, 4)),
        ShapeError,
        "GRUCell: input must have shape (batch, 3), or (3,) without a batch, got (2, 4)",
    ),
    BadInput(
        "GRUCell batch",
        lambda z, on: on(nn.GRUCell(3, 4))(z(2, 3), z(3, 4)),
        ShapeError,
        "GRUCell: hx must have shape (2, 4), got (3, 4)",
    ),
    BadInput(
        "RNNCell unbatched",
        lambda z, on: on(nn.RNNCell(3, 4))(z(3), z(1, 4)),
        ShapeError,
        "RNNCell: hx must have shape (4,), got (1, 4)",
    ),
    BadInput(
        "LSTMCell cell state",
        lambda z, on: on(nn.LSTMCell(3, 4))(z(2, 3), (z(2, 4), z(2, 3))),
        ShapeError,
        "LSTMCell: hx[1] must have shape (2, 4), got (2, 3)",
    ),
    BadInput(
        "LSTMCell one state",
        lambda z, on: on(nn.LSTMCell(3, 4))(z(2, 3), z(2, 4)),
        TypeError,
        "LSTMCell: hx must be a pair of Tensors (h_0, c_0), got Tensor",
    ),
    BadInput(
        "GRUCell pair",
        lambda z, on: on(nn.GRUCell(3, 4))(z(2, 3), (z(2, 4), z(2, 4))),
        TypeError,
        "GRUCell: hx must be a Tensor, got tuple",
    ),
    BadInput(
        "GRUCell list",
        lambda z, on: on(nn.GRUCell(3, 4))([1.0, 2.0, 3.0]),
        TypeError,
        "GRUCell: input must be a Tensor, got list",
    ),
    BadInput(
        "RNNCell dtype",
        lambda z, on: on(nn.RNNCell(3, 4))(z(2, 3, dtype=gn.float64)),
        DTypeError,
        "rnn: weight_ih has dtype float32, but input has float64; they must be the same",
    ),
]

PACKING = [
    BadInput(
        "a zero length",
        lambda z, on: pack_padded_sequence(z(4, 3, 2), [4, 2, 0]),
        ValueError,
        "pack_padded_sequence: lengths must be from 1 to the input's 4 steps, got 0 for sequence 2",
    ),
    BadInput(
        "a length above T",
        lambda z, on: pack_padded_sequence(z(3, 4, 2), [5, 4, 4], batch_first=True),
        ValueError,
        "pack_padded_sequence: lengths must be from 1 to the input's 4 steps, got 5 for sequence 0",
    ),
    BadInput(
        "not sorted",
        lambda z, on: pack_padded_sequence(z(4, 3, 2), [2, 4, 1]),
        ValueError,
        "pack_padded_sequence: lengths must not grow, got [2, 4, 1]; sort the sequences or pass enforce_sorted=False",
    ),
    BadInput(
        "not sorted, a list of sequences",
        lambda z, on: pack_sequence([z(2, 3), z(4, 3)]),
        ValueError,
        "pack_sequence: lengths must not grow, got [2, 4]; sort the sequences or pass enforce_sorted=False",
    ),
    BadInput(
        "too few lengths",
        lambda z, on: pack_padded_sequence(z(4, 3, 2), [4, 2]),
        ShapeError,
        "pack_padded_sequence: lengths must be one for each of the batch's 3 sequences, got shape (2,)",
    ),
    BadInput(
        "a table of lengths",
        lambda z, on: pack_padded_sequence(z(4, 3, 2), [[4, 2, 1]]),
        ShapeError,
        "pack_padded_sequence: lengths must be one for each of the batch's 3 sequences, got shape (1, 3)",
    ),
    BadInput(
        "floats for lengths",
        lambda z, on: pack_padded_sequence(z(4, 3, 2), [4.0, 2.0, 1.0]),
        DTypeError,
        "pack_padded_sequence: lengths must be integers, got float64",
    ),
    BadInput(
        "lengths elsewhere",
        lambda z, on: pack_padded_sequence(z(4, 3, 2), gn.zeros(3, dtype=gn.int64, device="meta")),
        DeviceError,
        "pack_padded_sequence: lengths must be on the CPU, got 'meta'",
    ),
    BadInput(
        "nothing to pack",
        lambda z, on: pack_padded_sequence(z(4, 0, 2), []),
        ValueError,
        "pack_padded_sequence: there must be at least one sequence, got none",
    ),
    BadInput(
        "no lengths",
        lambda z, on: pack_padded_sequence(z(4, 3), None),
        TypeError,
        "pack_padded_sequence: lengths must be a list or a tensor of integers, got None",
    ),
    BadInput(
        "a word for lengths",
        lambda z, on: unpad_sequence(z(4, 3), "abc"),
        TypeError,
        "unpad_sequence: lengths must be a list or a tensor of integers, got 'abc'",
    ),
    BadInput(
        "a letter for padding",
        lambda z, on: pad_packed_sequence(packed(z, 4, 2), padding_value="a"),
        TypeError,
        "pad_packed_sequence: padding_value must be a number, got 'a'",
    ),
    BadInput(
        "None for padding",
        lambda z, on: pad_sequence([z(3)], padding_value=None),
        TypeError,
        "pad_sequence: padding_value must be a number, got None",
    ),
    BadInput(
        "an order that is none",
        lambda z, on: PackedSequence(z(4, 2), gn.tensor([3, 1]), gn.tensor([0, 0, 7])),
        ValueError,
        "PackedSequence: sorted_indices must hold each number from 0 to 2 once, got [0, 0, 7]",
    ),
    BadInput(
        "an inverse order that is none",
        lambda z, on: PackedSequence(z(4, 2), gn.tensor([3, 1]), gn.tensor([1, 0, 2]), gn.tensor([1, 0, -1])),
        ValueError,
        "PackedSequence: unsorted_indices must hold each number from 0 to 2 once, got [1, 0, -1]",
    ),
    BadInput(
        "an order of halves",
        lambda z, on: PackedSequence(z(4, 2), gn.tensor([3, 1]), gn.tensor([0.0, 1.0, 2.0])),
        DTypeError,
        "PackedSequence: sorted_indices must be integers, got float32",
    ),
    BadInput(
        "an order of other sequences",
        lambda z, on: pad_packed_sequence(PackedSequence(z(4, 2), gn.tensor([3, 1]), gn.tensor([1, 0]))),
        ShapeError,
        "pad_packed_sequence: indices must be those of 3 sequences, got 2",
    ),
    BadInput(
        "a vector to pack",
        lambda z, on: pack_padded_sequence(z(4), [4]),
        ShapeError,
        "pack_padded_sequence: input must have at least 2 dimensions (steps, batch, ...), got shape (4,)",
    ),
    BadInput(
        "an array to pack",
        lambda z, on: pack_padded_sequence(np.zeros((4, 3)), [4, 2, 1]),
        TypeError,
        "pack_padded_sequence: input must be a Tensor, got ndarray",
    ),
    BadInput(
        "a sequence of no steps",
        lambda z, on: pack_sequence([z(2, 3), z(0, 3)]),
        ValueError,
        "pack_sequence: sequences must have at least one step, got none in sequence 1",
    ),
    BadInput(
        "no sequences",
        lambda z, on: pack_sequence([]),
        ValueError,
        "pack_sequence: sequences must hold at least one Tensor, got none",
    ),
    BadInput(
        "no sequences to pad",
        lambda z, on: pad_sequence([]),
        ValueError,
        "pad_sequence: sequences must hold at least one Tensor, got none",
    ),
    BadInput(
        "numbers to pad",
        lambda z, on: pad_sequence([z(), z()]),
        ShapeError,
        "pad_sequence: sequences[0] must have at least 1 dimension, got shape ()",
    ),
    BadInput(
        "an array to pad",
        lambda z, on: pad_sequence([z(3), np.zeros(3)]),
        TypeError,
        "pad_sequence: sequences[1] must be a Tensor, got ndarray",
    ),
    BadInput(
        "a number to pad",
        lambda z, on: pad_sequence(3),
        TypeError,
        "pad_sequence: sequences must be a list of Tensors, got int",
    ),
    BadInput(
        "other features to pad",
        lambda z, on: pad_sequence([z(3, 2), z(3, 4)]),
        ShapeError,
        "pad_sequence: sequences must differ in their first dimension alone, got shapes (3, 2) and (3, 4)",
    ),
    BadInput(
        "another side",
        lambda z, on: pad_sequence([z(3)], padding_side="top"),
        ValueError,
        "pad_sequence: padding_side must be 'left' or 'right', got 'top'",
    ),
    BadInput(
        "a total length too short",
        lambda z, on: pad_packed_sequence(packed(z, 4, 2), total_length=3),
        ValueError,
        "pad_packed_sequence: total_length must be at least the longest sequence's 4 steps, got 3",
    ),
    BadInput(
        "a tensor that is not packed",
        lambda z, on: pad_packed_sequence(z(4, 2)),
        TypeError,
        "pad_packed_sequence: sequence must be a PackedSequence, got Tensor",
    ),
    BadInput(
        "a tensor to unpack",
        lambda z, on: unpack_sequence(z(4, 2)),
        TypeError,
        "unpack_sequence: packed_sequences must be a PackedSequence, got Tensor",
    ),
    BadInput(
        "a length above T to unpad",
        lambda z, on: unpad_sequence(z(4, 2), [5, 2]),
        ValueError,
        "unpad_sequence: lengths must be from 0 to 4, got 5 for sequence 0",
    ),
    BadInput(
        "too many lengths to unpad",
        lambda z, on: unpad_sequence(z(4, 2), [3, 2, 1], batch_first=True),
        ShapeError,
        "unpad_sequence: lengths must be one for each of the batch's 4 sequences, got shape (3,)",
    ),
    BadInput(
        "a vector to unpad",
        lambda z, on: unpad_sequence(z(4), [4]),
        ShapeError,
        "unpad_sequence: padded_sequences must have at least 2 dimensions, got shape (4,)",
    ),
    BadInput(
        "a matrix for a permutation",
        lambda z, on: invert_permutation(z(2, 2, dtype=gn.int64)),
        ShapeError,
        "invert_permutation: permutation must be 1-d, got shape (2, 2)",
    ),
    BadInput(
        "batch sizes elsewhere",
        lambda z, on: PackedSequence(z(5, 2), gn.zeros(2, dtype=gn.int64, device="meta")),
        DeviceError,
        "PackedSequence: batch_sizes must be on the CPU, got 'meta'",
    ),
    BadInput(
        "no batch sizes",
        lambda z, on: PackedSequence(z(5, 2)),
        TypeError,
        "PackedSequence: batch_sizes must be a Tensor, got NoneType",
    ),
    BadInput(
        "batch sizes that grow",
        lambda z, on: on(nn.LSTM(2, 4))(PackedSequence(z(5, 2), gn.tensor([2, 3]))),
        ValueError,
        "lstm: batch_sizes must be positive and never grow, got (2, 3)",
    ),
    BadInput(
        "batch sizes of other rows",
        lambda z, on: on(nn.LSTM(2, 4))(PackedSequence(z(5, 2), gn.tensor([3, 1]))),
        ShapeError,
        "lstm: batch_sizes must add up to the input's 5 rows, got 4",
    ),
    BadInput(
        "batch sizes of other rows, to pad",
        lambda z, on: pad_packed_sequence(PackedSequence(z(5, 2), gn.tensor([3, 1]))),
        ShapeError,
        "pad_packed_sequence: data must have the 4 rows that batch_sizes add up to, got shape (5, 2)",
    ),
    BadInput(
        "batch sizes that grow, to pad",
        lambda z, on: pad_packed_sequence(PackedSequence(z(5, 2), gn.tensor([2, 3]))),
        ValueError,
        "pad_packed_sequence: batch_sizes must be positive and never grow, got [2, 3]",
    ),
]

CATALOGUE = [*LAYERS, *CELLS, *PACKING]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
def test_bad_input(entry: BadInput, device: str) -> None:
    entry.check(device)


def test_labels_are_unique() -> None:
    labels = [entry.label for entry in CATALOGUE]
    assert len(labels) == len(set(labels))


@pytest.mark.parametrize(("place", "other"), [("cpu", "cpu:1"), ("cpu:1", "cpu"), ("meta", "cpu")])
def test_tensors_on_two_devices_are_named(place: str, other: str) -> None:
    layer = nn.LSTM(3, 4, device=place)
    states = gn.zeros(1, 2, 4, device=place), gn.zeros(1, 2, 4, device=place)
    away = gn.zeros(1, 2, 4, device=other)
    x = gn.zeros(5, 2, 3, device=place)
    pairs = {f"{place!r} and {other!r}", f"{other!r} and {place!r}"}
    for call in (
        lambda: layer(gn.zeros(5, 2, 3, device=other)),
        lambda: layer(x, (away, states[1])),
        lambda: layer(x, (states[0], away)),
        lambda: layer(pack_padded_sequence(x, [2, 5], enforce_sorted=False), (states[0], away)),
        lambda: nn.LSTMCell(3, 4, device=place)(x[0], (away[0], states[1][0])),
    ):
        with pytest.raises(DeviceError) as caught:
            call()
        assert str(caught.value).startswith("lstm: all tensors must be on one device, got ")
        assert any(pair in str(caught.value) for pair in pairs)
