"""Recurrent layers as ONNX, run by onnxruntime: the order of the gates, directions, layers, states, any batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.interop import ExportError

from .onnx_session import Exported, export, onnx

pytestmark = pytest.mark.onnx

KINDS: list[tuple[str, dict[str, Any]]] = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("GRU", {})]
NAMES = ["RNN", "RNN-relu", "LSTM", "GRU"]
STEPS, FEATURES, HIDDEN = 6, 3, 5


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def flat(value: Any) -> list[np.ndarray]:
    if isinstance(value, gn.Tensor):
        return [value.detach().numpy()]
    return [array for part in value for array in flat(part)]


def assert_all_same(model: nn.Module, exported: Exported, *arrays: np.ndarray) -> None:
    """Assert that all of onnxruntime's outputs are the model's."""
    with gn.no_grad():
        wanted = flat(model.eval()(*(gn.tensor(array) for array in arrays)))
    for mine, theirs in zip(wanted, exported(*arrays), strict=True):
        assert theirs.shape == mine.shape
        np.testing.assert_allclose(theirs, mine, rtol=1e-4, atol=1e-5)


class WithState(nn.Module):
    """A layer whose states come in and go out with the batch in front, as exporting for any batch takes them."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: gn.Tensor, *states: gn.Tensor) -> Any:
        given = tuple(state.transpose(0, 1) for state in states)
        output, last = self.layer(x, given if len(given) == 2 else given[0])
        return output, [state.transpose(0, 1) for state in (last if isinstance(last, tuple) else (last,))]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("kind", "options"), KINDS, ids=NAMES)
def test_a_layer_for_any_batch(
    kind: str, options: dict[str, Any], layers: int, bidirectional: bool, bias: bool, tmp_path: Path
) -> None:
    options = {**options, "bias": bias, "bidirectional": bidirectional, "batch_first": True}
    layer = getattr(nn, kind)(FEATURES, HIDDEN, layers, **options)
    count = 2 if kind == "LSTM" else 1
    rows = layers * (2 if bidirectional else 1)
    alone = export(layer, tmp_path, (STEPS, FEATURES))
    for batch in (1, 3):
        assert_all_same(layer, alone, draw(batch, STEPS, FEATURES, seed=batch))
    model = WithState(layer)

    def inputs(batch: int) -> list[np.ndarray]:
        states = [draw(batch, rows, HIDDEN, seed=20 + place) for place in range(count)]
        return [draw(batch, STEPS, FEATURES, seed=batch), *states]

    stateful = export(model, tmp_path, example_inputs=inputs(2))
    for batch in (1, 3):
        assert_all_same(model, stateful, *inputs(batch))


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=NAMES)
def test_steps_first_and_no_batch(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    layer = getattr(nn, kind)(FEATURES, HIDDEN, 2, bidirectional=True, **options)
    for shape in ((STEPS, 1, FEATURES), (STEPS, 3, FEATURES), (STEPS, FEATURES)):
        x = draw(*shape)
        assert_all_same(layer, export(layer, tmp_path, example_inputs=x, dynamic_batch=False), x)


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells_in_a_loop(kind: str, tmp_path: Path) -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = getattr(nn, kind)(FEATURES, HIDDEN)

        def forward(self, x: gn.Tensor) -> gn.Tensor:
            state, outputs = None, []
            for t in range(x.shape[1]):
                state = self.cell(x[:, t], state)
                outputs.append(state[0] if isinstance(state, tuple) else state)
            return gn.stack(outputs, 1)

    model = Loop()
    exported = export(model, tmp_path, (STEPS, FEATURES))
    for batch in (1, 3):
        assert_all_same(model, exported, draw(batch, STEPS, FEATURES, seed=batch))


def test_what_the_file_holds(tmp_path: Path) -> None:
    """Weights under their names, gates put in order in the graph, zeros as the first state left out, nothing unused."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(FEATURES, HIDDEN, batch_first=True)

        def forward(self, x: gn.Tensor) -> gn.Tensor:
            return self.rnn(x)[1][0]

    model = Last()
    graph = onnx.load(export(model, tmp_path, (STEPS, FEATURES)).path).graph
    held = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(held[name], value.numpy())
    (node,) = [node for node in graph.node if node.op_type == "GRU"]
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    assert attributes == {"hidden_size": HIDDEN, "direction": b"forward", "linear_before_reset": 1}
    assert len(node.input) == 4  # x, W, R and B: no lengths, no initial state
    assert "Expand" not in {one.op_type for one in graph.node}  # of the zeros
    used = {name for one in graph.node for name in one.input} | {one.name for one in graph.output}
    made = [name for one in graph.node for name in one.output]
    assert [name for name in made if name not in used and name not in node.output] == []
    assert set(held) <= used


@pytest.mark.parametrize("opset", [18, 22])
def test_opsets(opset: int, tmp_path: Path) -> None:
    layer = nn.LSTM(FEATURES, HIDDEN, 2, batch_first=True, bidirectional=True)
    assert_all_same(layer, export(layer, tmp_path, (STEPS, FEATURES), opset=opset), draw(2, STEPS, FEATURES))


def test_weights_that_are_computed(tmp_path: Path) -> None:
    layer = nn.utils.weight_norm(nn.LSTM(FEATURES, HIDDEN, batch_first=True), "weight_hh_l0")
    assert_all_same(layer, export(layer, tmp_path, (STEPS, FEATURES)), draw(2, STEPS, FEATURES))


def test_dropout_between_layers_is_left_out(tmp_path: Path) -> None:
    layer = nn.GRU(FEATURES, HIDDEN, 2, batch_first=True, dropout=0.5)
    exported = export(layer, tmp_path, (STEPS, FEATURES))
    assert layer.training
    assert_all_same(layer, exported, draw(2, STEPS, FEATURES))


@pytest.mark.parametrize("embedding_dim", [0, 8], ids=["one-hot", "embedding"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_character_model(cell: str, embedding_dim: int, tmp_path: Path) -> None:
    model = gn.models.char_rnn(20, cell, 16, embedding_dim=embedding_dim, dropout=0.2)
    rng = np.random.default_rng(0)
    exported = export(model, tmp_path, example_inputs=rng.integers(0, 20, (2, STEPS)))
    for batch in (1, 3):
        assert_all_same(model, exported, rng.integers(0, 20, (batch, STEPS)))


@pytest.mark.parametrize("dynamic", [True, False])
def test_packed_batches_are_refused(dynamic: bool, tmp_path: Path) -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

        def forward(self, x: gn.Tensor) -> gn.Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, [STEPS] * len(x), batch_first=True)
            return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])[0]

    text = (
        "export: operation 'lstm' in module 'rnn' takes a packed batch, which ONNX has no form of; "
        "export a model that takes padded ones"
    )
    with pytest.raises(ExportError) as caught:
        export(Packed(), tmp_path, example_inputs=draw(2, STEPS, FEATURES), dynamic_batch=dynamic)
    assert str(caught.value) == text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_steps_first_are_refused_where_the_batch_may_have_any_size(kind: str, tmp_path: Path) -> None:
    """The first dimension is the batch, and would be the number of steps."""
    layer = getattr(nn, kind)(FEATURES, HIDDEN)
    for shape in ((STEPS, 2, FEATURES), (STEPS, FEATURES)):
        with pytest.raises(ExportError) as caught:
            export(layer, tmp_path, example_inputs=draw(*shape))
        assert str(caught.value) == (
            f"export: operation '{kind.lower()}' in the model itself goes through the batch step by step: the batch is "
            "the first dimension of the model's inputs, and the layer takes that for steps; make it with "
            "batch_first=True, or export with dynamic_batch=False for a file with one batch size"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_forward_that_turns_the_batch_around_is_exported(tmp_path: Path) -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(FEATURES, HIDDEN)

        def forward(self, x: gn.Tensor) -> gn.Tensor:
            return self.rnn(x.transpose(0, 1))[0][STEPS - 1]

    model = Turned()
    exported = export(model, tmp_path, (STEPS, FEATURES))
    for batch in (1, 3):
        assert_all_same(model, exported, draw(batch, STEPS, FEATURES))


def test_a_step_that_another_batch_does_not_have(tmp_path: Path) -> None:
    class Fifth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(FEATURES, HIDDEN)

        def forward(self, x: gn.Tensor) -> gn.Tensor:
            return self.rnn(x)[0][4]

    text = (
        r"export: the model takes a batch of 6, but not one of 2 \(.*\); the batch is the first dimension of each "
        "input: where that is steps, make recurrent layers with batch_first=True; or export with dynamic_batch=False "
        "for a file with one batch size"
    )
    with pytest.raises(ExportError, match=text):
        export(Fifth(), tmp_path, example_inputs=draw(STEPS, 2, FEATURES))
    with pytest.raises(IndexError):  # the model's own fault: it does not take its example either
        export(Fifth(), tmp_path, example_inputs=draw(4, 2, FEATURES))
    x = draw(STEPS, 2, FEATURES)
    model = Fifth()
    assert_all_same(model, export(model, tmp_path, example_inputs=x, dynamic_batch=False), x)
