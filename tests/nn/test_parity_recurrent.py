"""Recurrent layers and cells against PyTorch: results and gradients, in both precisions, for every way to call them."""

from __future__ import annotations

import inspect
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.testing.compare import assert_agreement
from gpunet.testing.parity import case, check_case

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

KINDS: list[tuple[str, dict[str, Any]]] = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("GRU", {})]
KIND_NAMES = ["RNN", "RNN-relu", "LSTM", "GRU"]
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
# How the input comes: its lengths, if it is packed, and whether those are sorted.
INPUTS: dict[str, tuple[list[int] | None, bool]] = {
    "padded": (None, True),
    "unbatched": (None, True),
    "sorted": ([6, 5, 5, 2], True),
    "unsorted": ([2, 6, 1, 5], False),
    "shorter than the batch": ([4, 4, 3, 1], True),
}
BATCH, STEPS = 4, 6


def both(kind: str, *args: Any, dtype: str, **options: Any) -> tuple[Any, Any]:
    """The layer of both libraries, with PyTorch's weights."""
    theirs = getattr(torch.nn, kind)(*args, dtype=getattr(torch, dtype), **options)
    ours = getattr(nn, kind)(*args, dtype=dtype, **options)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    return ours, theirs


def states_of(last: Any) -> list[Any]:
    return list(last) if isinstance(last, tuple) else [last]


def follow(module: Any, layer: Any, x: np.ndarray, states: list[np.ndarray] | None, how: str) -> list[Any]:
    """Outputs, last states and all gradients of one run, for a loss that tells all of them apart."""
    rnn = module.nn.utils.rnn
    lengths, enforce_sorted = INPUTS[how]
    first = layer.batch_first
    given = module.tensor(x, requires_grad=True)
    hx = None if states is None else [module.tensor(state, requires_grad=True) for state in states]
    fed = given if lengths is None else rnn.pack_padded_sequence(given, lengths, first, enforce_sorted)
    output, last = layer(fed, None if hx is None else tuple(hx) if len(hx) == 2 else hx[0])
    results = [output]
    if lengths is not None:
        padded, found = rnn.pad_packed_sequence(output, batch_first=first)
        assert found.tolist() == lengths
        results = [output.data, padded]
    results += states_of(last)
    rng = np.random.default_rng(3)
    loss = 0
    for result in results:
        loss = loss + (result * module.tensor(rng.standard_normal(tuple(result.shape)).astype(x.dtype))).sum()
    layer.zero_grad()
    loss.backward()
    gradients = [given.grad, *(parameter.grad for parameter in layer.parameters())]
    return [value.detach().numpy() for value in (*results, *gradients, *(state.grad for state in hx or ()))]


def agree(ours: list[np.ndarray], theirs: list[np.ndarray], dtype: str, label: str) -> None:
    for place, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a.dtype == b.dtype == dtype
        assert_agreement(a, b, dtype, label=f"{label}, value {place}")


@DTYPES
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["steps first", "batch first"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("kind", "options"), KINDS, ids=KIND_NAMES)
def test_layer(
    kind: str, options: dict[str, Any], layers: int, bidirectional: bool, batch_first: bool, bias: bool, dtype: str
) -> None:
    torch.manual_seed(layers)
    options = {**options, "bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
    ours, theirs = both(kind, 3, 5, layers, dtype=dtype, **options)
    rng = np.random.default_rng(1)
    rows = layers * (2 if bidirectional else 1)
    for how, with_states in itertools.product(INPUTS, (False, True)):
        single = how == "unbatched"
        shape = (STEPS,) if single else (BATCH, STEPS) if batch_first else (STEPS, BATCH)
        x = rng.standard_normal((*shape, 3)).astype(dtype)
        size = (rows, 5) if single else (rows, BATCH, 5)
        states = [rng.standard_normal(size).astype(dtype) for _ in range(2 if kind == "LSTM" else 1)]
        found, expected = (
            follow(module, layer, x, states if with_states else None, how)
            for module, layer in ((gn, ours), (torch, theirs))
        )
        agree(found, expected, dtype, f"{how}{', states' if with_states else ''}")


@DTYPES
@pytest.mark.parametrize(("kind", "options"), KINDS, ids=KIND_NAMES)
def test_a_larger_layer(kind: str, options: dict[str, Any], dtype: str) -> None:
    torch.manual_seed(0)
    ours, theirs = both(kind, 37, 65, 3, dtype=dtype, bidirectional=True, batch_first=True, **options)
    x = np.random.default_rng(0).standard_normal((BATCH, 40, 37)).astype(dtype)
    found, expected = (follow(module, layer, x, None, "padded") for module, layer in ((gn, ours), (torch, theirs)))
    agree(found, expected, dtype, kind)


@DTYPES
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("single", [False, True], ids=["batch", "unbatched"])
@pytest.mark.parametrize("with_states", [False, True], ids=["zeros", "states"])
@pytest.mark.parametrize(
    ("kind", "options"), [(f"{kind}Cell", options) for kind, options in KINDS], ids=[f"{n} cell" for n in KIND_NAMES]
)
def test_cell(kind: str, options: dict[str, Any], with_states: bool, single: bool, bias: bool, dtype: str) -> None:
    ours, theirs = both(kind, 3, 5, dtype=dtype, bias=bias, **options)
    rng = np.random.default_rng(1)
    lead = () if single else (BATCH,)
    x = rng.standard_normal((*lead, 3)).astype(dtype)
    states = [rng.standard_normal((*lead, 5)).astype(dtype) for _ in range(2 if kind == "LSTMCell" else 1)]
    outcomes = []
    for module, layer in ((gn, ours), (torch, theirs)):
        given = [module.tensor(value, requires_grad=True) for value in (x, *(states if with_states else ()))]
        hx = tuple(given[1:]) if len(given) == 3 else given[1] if len(given) == 2 else None
        after = states_of(layer(given[0], hx))
        sum((place + 1) * (value * value).sum() for place, value in enumerate(after)).backward()
        gradients = [value.grad for value in (*given, *layer.parameters())]
        outcomes.append([value.detach().numpy() for value in (*after, *gradients)])
    agree(*outcomes, dtype, kind)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN_TANH", "RNN_RELU"])
def test_base_class_by_mode(kind: str) -> None:
    ours, theirs = both("RNNBase", kind, 3, 4, 2, dtype="float64")
    assert (ours.mode, ours.num_layers, ours.hidden_size) == (theirs.mode, theirs.num_layers, theirs.hidden_size)
    assert [[tuple(p.shape) for p in group] for group in ours.all_weights] == [
        [tuple(p.shape) for p in group] for group in theirs.all_weights
    ]
    cell, other = both("RNNCellBase", 3, 4, True, 2, dtype="float64")
    assert cell.weight_hh.shape == tuple(other.weight_hh.shape)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_weights_go_from_one_to_the_other_and_back(kind: str, tmp_path: Path) -> None:
    theirs = getattr(torch.nn, kind)(3, 4, 2, bidirectional=True)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = getattr(nn, kind)(3, 4, 2, bidirectional=True)
    ours.load_state_dict(gn.load(tmp_path / "weights.pth"))
    back = getattr(torch.nn, kind)(3, 4, 2, bidirectional=True)
    back.load_state_dict({name: torch.from_numpy(value.numpy()) for name, value in ours.state_dict().items()})
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, back.state_dict()[name])


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell", "RNNCellBase", "RNNBase"])
def test_arguments_are_pytorchs(kind: str) -> None:
    ours = inspect.signature(getattr(nn, kind)).parameters
    theirs = inspect.signature(getattr(torch.nn, kind)).parameters
    wanted = {name: parameter.default for name, parameter in theirs.items()}
    if kind in ("RNN", "LSTM", "GRU"):  # PyTorch's take whatever comes, and tell of it in their docstrings
        text = getattr(torch.nn, kind).__doc__.partition(")")[0].partition("(")[2]
        pairs = (part.partition("=") for part in text.split(","))
        plain = {"True": True, "False": False, "None": None, "'tanh'": "tanh", "": inspect.Parameter.empty}
        wanted = {name: plain[value] if value in plain else float(value) for name, _, value in pairs}
    assert {name: parameter.default for name, parameter in ours.items()} == wanted


def test_dropout_drops_what_pytorchs_does() -> None:
    """Where nothing is left to chance, both are the same; where it is, the shares are."""
    shares = []
    for module in (gn, torch):
        layer = module.nn.RNN(20, 20, 3, nonlinearity="relu", bias=False, dropout=0.4)
        with module.no_grad():
            for name, parameter in layer.named_parameters():
                parameter.copy_(module.eye(20) * float(name.startswith("weight_ih")))
        output, last = layer(module.ones(60, 40, 20))
        shares.append([float((value.detach().numpy() == 0).mean()) for value in (output, *last[:, None])])
        assert shares[-1][1] == 0  # the first layer's own state is whole
    np.testing.assert_allclose(shares[0], shares[1], atol=0.1)
    assert abs(shares[0][0] - shares[1][0]) < 0.02  # 48,000 draws
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    for p, training in ((0.0, True), (1.0, True), (0.5, False)):
        ours, theirs = both("LSTM", 3, 4, 2, dtype="float64", dropout=p)
        found, expected = (
            follow(module, layer.train(training), x, None, "padded") for module, layer in ((gn, ours), (torch, theirs))
        )
        agree(found, expected, "float64", f"dropout {p}")


def test_both_warn_of_dropout_in_a_single_layer() -> None:
    for module in (nn, torch.nn):
        with pytest.warns(UserWarning, match="dropout"):
            module.GRU(3, 4, dropout=0.3)


# Both raise, or both do not: what a gpunet error says is in tests/errors.
CALLS = [
    case("LSTM empty batch", lambda m, x: m.nn.LSTM(3, 4).double()(x.double())[1][0].shape, (5, 0, 3)),
    case("LSTM no steps", lambda m, x: m.nn.LSTM(3, 4)(x.float())[0].shape, (0, 2, 3)),
    case("LSTM proj_size", lambda m, x: m.nn.LSTM(3, 4, proj_size=2).double()(x.double())[0].shape, (5, 2, 3)),
    case("RNN proj_size", lambda m, x: m.nn.RNN(3, 4, proj_size=2)(x.float())[0].shape, (5, 2, 3)),
    case("GRU wrong features", lambda m, x: m.nn.GRU(3, 4)(x.float())[0].shape, (5, 2, 4)),
    case("GRU wrong rank", lambda m, x: m.nn.GRU(3, 4)(x.float())[0].shape, (5, 2, 2, 3)),
    case("GRU another dtype", lambda m, x: m.nn.GRU(3, 4).half()(x)[0].shape, (5, 2, 3)),
    case("GRU state of another batch", lambda m, x, h: m.nn.GRU(3, 4)(x.float(), h.float()), (5, 2, 3), (1, 1, 4)),
    case("GRU unbatched state for a batch", lambda m, x, h: m.nn.GRU(3, 4)(x.float(), h.float()), (5, 2, 3), (1, 4)),
    case("LSTM state of one part", lambda m, x, h: m.nn.LSTM(3, 4)(x.float(), (h.float(),)), (5, 2, 3), (1, 2, 4)),
    case("LSTM list of states", lambda m, x, h: m.nn.LSTM(3, 4)(x.float(), [h.float(), h.float()])[0].shape, (5, 2, 3),
         (1, 2, 4)),
    case("LSTMCell three dimensions", lambda m, x: m.nn.LSTMCell(3, 4)(x.float())[0].shape, (5, 2, 3)),
    case("GRUCell state of another batch", lambda m, x, h: m.nn.GRUCell(3, 4)(x.float(), h.float()), (5, 3), (2, 4)),
    case("RNNCell unknown nonlinearity", lambda m, x: m.nn.RNNCell(3, 4, nonlinearity="sin")(x.float()), (5, 3)),
    case("RNN unknown nonlinearity", lambda m: m.nn.RNN(3, 4, nonlinearity="sin")),
    case("LSTM no layers", lambda m: m.nn.LSTM(3, 4, 0)),
    case("LSTM no units", lambda m: m.nn.LSTM(3, 0)),
    case("LSTM half a unit", lambda m: m.nn.LSTM(3, 4.5)),
    case("LSTM dropout above 1", lambda m: m.nn.LSTM(3, 4, 2, dropout=1.5)),
    case("LSTM bias of 1", lambda m: m.nn.LSTM(3, 4, bias=1)),
    case("RNNBase unknown mode", lambda m: m.nn.RNNBase("lstm", 3, 4)),
]  # fmt: skip


@pytest.mark.parametrize("checked", CALLS, ids=repr)
def test_calls(checked: Any) -> None:
    check_case(checked)
