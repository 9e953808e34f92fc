"""Backpropagation through time in full and in blocks: row B41, with finite differences and PyTorch's own idiom."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import ShapeError, nn
from gpunet.training import detach_state, tbptt

T, B, I, H, O = 7, 3, 2, 4, 2  # noqa: E741
KINDS = ("RNN", "LSTM", "GRU")


class Net(nn.Module):
    """A recurrent layer and a head, as PyTorch users write it."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(I, H, **options)
        self.head = nn.Linear(H, O)

    def forward(self, x: gn.Tensor, state: Any = None) -> tuple[gn.Tensor, Any]:
        output, state = self.rnn(x, state)
        return self.head(output), state


class CellNet(nn.Module):
    """The same of a cell: one step at a time, (B, I) to (output, state)."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.cell = getattr(nn, f"{type(net.rnn).__name__}Cell")(I, H).double()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(self.cell, name, getattr(net.rnn, f"{name}_l0"))
        self.head = net.head

    def forward(self, x: gn.Tensor, state: Any = None) -> tuple[gn.Tensor, Any]:
        state = self.cell(x, state)
        return self.head(state[0] if isinstance(state, tuple) else state), state


def draw(*shape: int, seed: int = 0) -> gn.Tensor:
    return gn.tensor(np.random.default_rng(seed).standard_normal(shape))


def data() -> tuple[gn.Tensor, gn.Tensor]:
    return draw(T, B, I), draw(T, B, O, seed=1)


def gradients(model: nn.Module) -> list[np.ndarray]:
    found = [parameter.grad.numpy().copy() for parameter in model.parameters()]
    model.zero_grad()
    return found


def close(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [None, T, T + 1, 1000])
def test_blocks_as_long_as_the_sequence_are_full_bptt(kind: str, k: int | None) -> None:
    """B41: k >= T equals full."""
    model, (x, y) = Net(kind).double(), data()
    F.mse_loss(model(x)[0], y).backward()
    wanted = gradients(model)
    loss = tbptt(model, F.mse_loss, k).backward(x, y)
    close(gradients(model), wanted)
    assert loss.item() == pytest.approx(F.mse_loss(model(x)[0], y).item(), rel=1e-12)
    assert not loss.requires_grad


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_the_gradient_of_a_block_has_the_terms_of_its_own_steps_alone(kind: str, k: int) -> None:
    """B41: no gradient crosses the cut. What is left out is just what the earlier blocks' copies of the weights get.

    The reference runs one untied copy of the network a block in one whole graph. Of each block's loss, only what its
    own copy gets belongs to truncated backpropagation.
    """
    model, (x, y) = Net(kind).double(), data()
    starts = range(0, T, k)
    copies = [Net(kind).double() for _ in starts]
    for one in copies:
        one.load_state_dict(model.state_dict())
    state, losses = None, []
    for one, start in zip(copies, starts, strict=True):
        output, state = one(x[start : start + k], state)  # with its graph: nothing is cut
        losses.append(F.mse_loss(output, y[start : start + k]))
    wanted = [
        [grad.numpy() for grad in gn.autograd.grad(loss, list(one.parameters()), retain_graph=True)]
        for one, loss in zip(copies, losses, strict=True)
    ]
    bptt = tbptt(model, F.mse_loss, k)
    for number, (block, parts) in enumerate(zip(bptt(x, y), wanted, strict=True)):
        block.backward()
        close(gradients(model), parts)
        assert (block.start, block.stop) == (number * k, min(number * k + k, T))
        assert block.steps == len(block.input) == len(block.output)
        np.testing.assert_allclose(block.loss.item(), losses[number].item(), rtol=1e-12)
    # The sum over blocks, each weighted with its share of the steps; and it is not the full gradient.
    bptt.backward(x, y)
    shares = [min(k, T - start) / T for start in starts]
    summed = gradients(model)
    close(summed, [sum(s * p for s, p in zip(shares, parts, strict=True)) for parts in zip(*wanted, strict=True)])
    F.mse_loss(model(x)[0], y).backward()
    full = dict(zip((name for name, _ in model.named_parameters()), gradients(model), strict=True))
    truncated = dict(zip(full, summed, strict=True))
    assert np.abs(full["rnn.weight_hh_l0"] - truncated["rnn.weight_hh_l0"]).max() > 1e-4
    np.testing.assert_allclose(full["head.weight"], truncated["head.weight"], rtol=1e-10)  # nothing of it is recurrent


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_carried_over_the_cuts(kind: str) -> None:
    """B41: outputs are those of the whole sequence, whatever k; only gradients are cut."""
    model, (x, y) = Net(kind).double(), data()
    whole, last = model(x)
    bptt = tbptt(model, F.mse_loss, 3)
    outputs = gn.cat([block.output for block in bptt(x, y)])
    np.testing.assert_allclose(outputs.detach().numpy(), whole.detach().numpy(), rtol=1e-12)
    found, wanted = (state if isinstance(state, tuple) else (state,) for state in (bptt.state, last))
    for one, other in zip(found, wanted, strict=True):
        assert not one.requires_grad
        np.testing.assert_allclose(one.numpy(), other.detach().numpy(), rtol=1e-12)
    # A stream goes on where it ended: two halves are the whole.
    list(bptt(x[:4], y[:4]))
    (block,) = tbptt(model, F.mse_loss)(x[4:], y[4:], bptt.state)
    np.testing.assert_allclose(block.output.detach().numpy(), whole[4:].detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [None, 3])
def test_cells_are_run_step_by_step(kind: str, k: int | None) -> None:
    model, (x, y) = Net(kind).double(), data()
    tbptt(model, F.mse_loss, k).backward(x, y)
    wanted = gradients(model)
    cell = CellNet(model)
    tbptt(cell, F.mse_loss, k, stepwise=True).backward(x, y)
    close(gradients(cell), wanted)
    # A bare cell's outputs are its states.
    targets = draw(T, B, H, seed=2)
    F.mse_loss(model.rnn(x)[0], targets).backward()
    wanted = gradients(model.rnn)
    tbptt(cell.cell, F.mse_loss).backward(x, targets)
    close(gradients(cell.cell), wanted)


@pytest.mark.parametrize("k", [None, 3])
def test_batch_first_is_asked_of_the_model(k: int | None) -> None:
    x, y = data()
    layer = nn.GRU(I, O).double()
    tbptt(layer, F.mse_loss, k).backward(x, y)
    wanted = gradients(layer)
    first = nn.GRU(I, O, batch_first=True).double()
    first.load_state_dict(layer.state_dict())
    tbptt(first, F.mse_loss, k).backward(x.transpose(0, 1), y.transpose(0, 1))
    close(gradients(first), wanted)
    tbptt(lambda x, h: first(x, h), F.mse_loss, k, batch_first=True).backward(x.transpose(0, 1), y.transpose(0, 1))
    close(gradients(first), wanted)
    # PyTorch's layers take a sequence without a batch as (T, I), also with batch_first.
    tbptt(layer, F.mse_loss, k).backward(x[:, 0], y[:, 0])
    wanted = gradients(layer)
    tbptt(first, F.mse_loss, k).backward(x[:, 0], y[:, 0])
    close(gradients(first), wanted)


@pytest.mark.parametrize("k", [None, 3])
def test_batch_first_is_asked_of_the_layers_of_a_model(k: int | None) -> None:
    """A network around a layer with batch_first is cut in time, as the layer itself is, and not along the batch."""
    model, (x, y) = Net("LSTM").double(), data()
    tbptt(model, F.mse_loss, k).backward(x, y)
    wanted = gradients(model)
    first = Net("LSTM", batch_first=True).double()
    first.load_state_dict(model.state_dict())
    x, y = x.transpose(0, 1), y.transpose(0, 1)
    bptt = tbptt(first, F.mse_loss, k)
    bptt.backward(x, y)
    close(gradients(first), wanted)
    assert next(bptt(x, y)).output.shape[:2] == (B, k or T)
    # What the model itself says comes first, and what the caller says before that.
    first.batch_first = False
    assert not tbptt(first, F.mse_loss).batch_first
    assert tbptt(first, F.mse_loss, batch_first=True).batch_first
    two = nn.ModuleList([nn.GRU(I, I, batch_first=True), nn.GRU(I, O)])
    assert not tbptt(two, F.mse_loss, batch_first=False).batch_first


def test_users_find_it_where_they_look() -> None:
    assert gn.training.tbptt is tbptt


def test_a_summed_loss_is_added_up() -> None:
    model, (x, y) = Net("GRU").double(), data()
    loss = nn.MSELoss(reduction="sum")
    loss(model(x)[0], y).backward()
    wanted = gradients(model)
    total = tbptt(model, loss, T).backward(x, y)
    close(gradients(model), wanted)
    assert tbptt(model, loss, 2).backward(x, y).item() == pytest.approx(total.item(), rel=1e-12)


class Wrapped(nn.Module):
    """A loss of a user's own, without a name for its reduction."""

    def __init__(self, loss: Callable[..., gn.Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: gn.Tensor, target: gn.Tensor) -> gn.Tensor:
        return self.loss(output, target)


LOSSES: dict[str, Callable[[gn.Tensor, gn.Tensor], gn.Tensor]] = {
    "partial": functools.partial(F.mse_loss, reduction="sum"),
    "lambda": lambda output, target: ((output - target) ** 2).sum(),
    "wrapped": Wrapped(nn.MSELoss(reduction="sum")),
    "mean": F.mse_loss,
    "root of a mean": lambda output, target: F.mse_loss(output, target).sqrt(),
    "largest": lambda output, target: (output - target).abs().amax(),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("k", [1, 2, 3, T])
def test_any_loss_is_that_of_the_whole_sequence(name: str, k: int) -> None:
    """The loss is the same number for every k. The head is not recurrent: nothing of its gradient is cut away."""
    model, (x, y) = Net("GRU").double(), data()
    loss = LOSSES[name]
    whole = loss(model(x)[0], y)
    whole.backward()
    wanted = gradients(model)[-2:]
    assert tbptt(model, loss, k).backward(x, y).item() == pytest.approx(whole.item(), rel=1e-12)
    close(gradients(model)[-2:], wanted)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_targets_that_are_left_out_do_not_count(k: int, weighted: bool) -> None:
    """A mean over the targets that count, of which blocks have unequal numbers; one has none at all."""
    model, x = Net("LSTM").double(), draw(T, B, I)
    labels = gn.tensor(np.random.default_rng(4).integers(0, O, (T, B)))
    labels[1, 1:] = -100
    labels[3:6] = -100  # for k = 3 the second block, for k = 1 three of them
    weight = gn.tensor([0.2, 3.0], dtype=gn.float64) if weighted else None
    criterion = nn.CrossEntropyLoss(weight=weight)

    def loss(output: gn.Tensor, target: gn.Tensor) -> gn.Tensor:
        return criterion(output.flatten(0, 1), target.flatten())

    whole = loss(model(x)[0], labels)
    whole.backward()
    wanted = gradients(model)[-2:]
    assert math.isfinite(whole.item())
    assert tbptt(model, loss, k).backward(x, labels).item() == pytest.approx(whole.item(), rel=1e-12)
    close(gradients(model)[-2:], wanted)


class Two(NamedTuple):
    mean: gn.Tensor
    more: dict[str, list[gn.Tensor]]


def test_outputs_of_any_nesting_are_joined() -> None:
    model, (x, y) = Net("RNN").double(), data()

    def nested(part: gn.Tensor, state: Any) -> tuple[Two, Any]:
        output, state = model(part, state)
        return Two(output, {"twice": [2 * output]}), state

    def loss(output: Two, target: gn.Tensor) -> gn.Tensor:
        return F.mse_loss(output.mean, target) + F.mse_loss(output.more["twice"][0], target)

    wanted = loss(nested(x, None)[0], y).item()
    assert tbptt(nested, loss, 3).backward(x, y).item() == pytest.approx(wanted, rel=1e-12)


def test_weights_may_change_between_blocks() -> None:
    """A block is run when it is asked for: with the weights that the step before has left."""
    model, (x, y) = Net("RNN").double(), data()
    optimizer = gn.optim.SGD(model.parameters(), lr=0.1)
    state, losses = None, []
    reference = Net("RNN").double()
    reference.load_state_dict(model.state_dict())
    for block in tbptt(model, F.mse_loss, 3)(x, y):
        optimizer.zero_grad()
        block.backward()
        optimizer.step()
        losses.append(block.loss.item())
    optimizer = gn.optim.SGD(reference.parameters(), lr=0.1)
    for start, found in zip(range(0, T, 3), losses, strict=True):
        output, state = reference(x[start : start + 3], state)
        loss = F.mse_loss(output, y[start : start + 3])
        assert loss.item() == pytest.approx(found, rel=1e-12)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state = state.detach()
    close([p.detach().numpy() for p in model.parameters()], [p.detach().numpy() for p in reference.parameters()])


def test_the_gradient_in_full_is_that_of_finite_differences() -> None:
    model, (x, y) = Net("LSTM").double(), data()
    weight = model.rnn.weight_hh_l0
    tbptt(model, F.mse_loss).backward(x, y)
    found = weight.grad.numpy().copy()
    for row, column in ((0, 0), (5, 2), (15, 3)):
        values = []
        for change in (1e-5, -1e-5):
            with gn.no_grad():
                weight[row, column] += change
                values.append(F.mse_loss(model(x)[0], y).item())
                weight[row, column] -= change
        assert found[row, column] == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6, abs=1e-9)


def test_long_sequences_neither_recurse_nor_keep_what_they_have_used() -> None:
    """T = 2,000, step by step: the walk is iterative, and a block's graph is freed when the next one runs."""
    gn.manual_seed(0)
    cell = nn.LSTMCell(1, 2)
    x = draw(2000, 1, 1).float()
    tbptt(cell, F.mse_loss).backward(x, gn.zeros(2000, 1, 2))
    full = gradients(cell)
    assert all(np.isfinite(grad).all() and np.abs(grad).max() > 0 for grad in full)
    outputs = []
    for block in tbptt(cell, F.mse_loss, 500)(x, gn.zeros(2000, 1, 2)):
        block.backward()
        outputs.append(block.loss)
    with pytest.raises(gn.GradientError, match="used and freed"):
        outputs[0].backward()


def test_without_gradients_it_evaluates() -> None:
    model, (x, y) = Net("GRU").double(), data()
    with gn.no_grad():
        losses = [block.loss * block.steps for block in tbptt(model, F.mse_loss, 2)(x, y)]
    assert sum(loss.item() for loss in losses) / T == pytest.approx(F.mse_loss(model(x)[0], y).item(), rel=1e-12)


class Pair(NamedTuple):
    h: gn.Tensor
    others: dict[str, Any]


def test_states_of_any_nesting_are_cut() -> None:
    w = gn.ones(2, requires_grad=True)
    state = detach_state(Pair(w * 2, {"a": [w * 3, (w * 4, None)], "step": 7}))
    assert isinstance(state, Pair)
    assert not state.h.requires_grad
    first, (second, nothing) = state.others["a"]
    assert [t.tolist() for t in (state.h, first, second)] == [[2, 2], [3, 3], [4, 4]]
    assert not first.requires_grad
    assert not second.requires_grad
    assert nothing is None
    assert state.others["step"] == 7


def test_it_runs_on_shapes_alone() -> None:
    with gn.device("meta"):
        model, x, y = Net("LSTM"), gn.zeros(T, B, I), gn.zeros(T, B, O)
    (first, *_, last) = tbptt(model, F.mse_loss, 3)(x, y)
    assert first.output.shape == (3, B, O)
    assert last.output.shape == (1, B, O)


def layer() -> nn.Module:
    return nn.RNN(I, O)


BAD: list[tuple[str, Callable[[Any], Any], type[Exception], str]] = [
    ("k of zero", lambda z: tbptt(layer(), F.mse_loss, 0),
     ValueError, "k: must be at least 1 step, or None for the whole sequence, got 0"),
    ("negative k", lambda z: tbptt(layer(), F.mse_loss, -3),
     ValueError, "k: must be at least 1 step, or None for the whole sequence, got -3"),
    ("k of a float", lambda z: tbptt(layer(), F.mse_loss, 2.0), TypeError, "k: must be an integer or None, got float"),
    ("k of a bool", lambda z: tbptt(layer(), F.mse_loss, True), TypeError, "k: must be an integer or None, got bool"),
    ("no model", lambda z: tbptt(3, F.mse_loss), TypeError, "model: must be a module or a function, got int"),
    ("a layer without a state", lambda z: tbptt(nn.Linear(1, 4), F.mse_loss, 3),
     TypeError, "model: must take (x, state), as nn.RNN and nn.RNNCell do; Linear takes (input)"),
    ("layers in a row", lambda z: tbptt(nn.Sequential(nn.RNN(I, O)), F.mse_loss, 3),
     TypeError, "model: must take (x, state), as nn.RNN and nn.RNNCell do; Sequential takes (input)"),
    ("a function without a state", lambda z: tbptt(lambda x: (x, None), F.mse_loss, 3),
     TypeError, "model: must take (x, state), as nn.RNN and nn.RNNCell do; <lambda> takes (x)"),
    ("a function that needs more", lambda z: tbptt(lambda x, h, *, scale: (x, h), F.mse_loss, 3),
     TypeError, "model: must take (x, state), as nn.RNN and nn.RNNCell do; <lambda> takes (x, h, *, scale)"),
    ("no loss", lambda z: tbptt(layer(), "mse"),
     TypeError, "loss: must be a module or a function of (output, target), got str"),
    ("no steps", lambda z: tbptt(layer(), F.mse_loss)(z(0, B, I), z(0, B, O)),
     ShapeError, "input: a sequence needs at least one step, got shape (0, 3, 2)"),
    ("no time", lambda z: tbptt(layer(), F.mse_loss)(z(), z(3)),
     ShapeError, "input: needs a dimension 0 for time, got shape ()"),
    ("too few targets", lambda z: tbptt(layer(), F.mse_loss)(z(5, B, I), z(4, B, O)),
     ShapeError, "target: must have a step for each of the input's 5 in dimension 0, got shape (4, 3, 2)"),
    ("an array", lambda z: tbptt(layer(), F.mse_loss)(np.zeros((5, B, I)), z(5, B, O)),
     TypeError, "input: must be a Tensor, got ndarray"),
    ("one output", lambda z: next(tbptt(lambda x, h: x, F.mse_loss)(z(5, B, I), z(5, B, O))),
     TypeError, "model: must return (output, state), got Tensor"),
    ("three outputs", lambda z: next(tbptt(lambda x, h: (x, h, h), F.mse_loss)(z(5, B, I), z(5, B, O))),
     TypeError, "model: must return (output, state), got 3 values"),
    ("a loss for each", lambda z: next(tbptt(lambda x, h: (x, h), lambda a, b: a - b)(z(5, B, I), z(5, B, I))),
     ShapeError, "loss: must return a Tensor of one number, got shape (5, 3, 2)"),
    ("layers that disagree",
     lambda z: tbptt(nn.ModuleList([nn.GRU(I, I, batch_first=True), nn.GRU(I, O)]), F.mse_loss),
     ValueError, "batch_first: the model's recurrent layers disagree (0: True, 1: False); give batch_first=True where "
                 "sequences are (B, T, ...), or False"),
    ("a bidirectional layer", lambda z: tbptt(nn.GRU(I, O, bidirectional=True), F.mse_loss, 2),
     ValueError, "model: a bidirectional layer has no single direction of time"),
    ("a bidirectional layer inside", lambda z: tbptt(Net("GRU", bidirectional=True), F.mse_loss, 2),
     ValueError, "model: layer 'rnn' is bidirectional; a bidirectional layer has no single direction of time"),
    ("outputs without time", lambda z: tbptt(lambda x, h: (x.flatten(0, 1), h), F.mse_loss, 2).backward(
        z(5, B, I), z(5, B, I)),
     ShapeError, "model: its output must have a step for each of the block's 2 in dimension 0, so that one loss can be "
                 "taken of all blocks, got shape (6, 2); reshape it in the loss, or run the blocks one by one"),
    ("outputs that are no tensors", lambda z: tbptt(lambda x, h: ("x", h), F.mse_loss, 2).backward(
        z(5, B, I), z(5, B, I)),
     TypeError, "model: its output must be a Tensor, or a tuple, list or dict of them, so that one loss can be taken "
                "of all blocks, got str; run the blocks one by one"),
    ("a loss of Python", lambda z: next(tbptt(lambda x, h: (x, h), lambda a, b: 1.0)(z(5, B, I), z(5, B, I))),
     TypeError, "loss: must return a Tensor of one number, got float"),
]  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("label, act, error, text", BAD, ids=[entry[0] for entry in BAD])
def test_bad_input(label: str, act: Callable[[Any], Any], error: type[Exception], text: str, device: str) -> None:
    with pytest.raises(error) as caught:
        act(lambda *shape: gn.zeros(shape, device=device))
    assert str(caught.value) == text
    assert type(caught.value) is error


@pytest.mark.parity
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype, bound", [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_training_in_blocks_as_pytorch_users_write_it(kind: str, dtype: str, bound: float, k: int) -> None:
    """B41: two passes over a sequence with clipping and SGD; weights and losses as PyTorch's with ``.detach()``."""
    torch = pytest.importorskip("torch")
    steps = 20
    rng = np.random.default_rng(3)
    x, y = (rng.standard_normal((steps, B, size)).astype(dtype) for size in (I, O))
    ours = nn.Sequential(getattr(nn, kind)(I, H, num_layers=2), nn.Linear(H, O)).to(getattr(gn, dtype))
    theirs = torch.nn.Sequential(getattr(torch.nn, kind)(I, H, num_layers=2), torch.nn.Linear(H, O))
    theirs = theirs.to(getattr(torch, dtype))
    theirs.load_state_dict({name: torch.from_numpy(value.numpy()) for name, value in ours.state_dict().items()})

    def run(m: Any, net: Any, state: Any) -> Any:
        output, state = net[0](m, state)
        return net[1](output), state

    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    wanted = []
    for _ in range(2):
        state: Any = None
        for start in range(0, steps, k):
            if state is not None:
                state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
            output, state = run(torch.from_numpy(x[start : start + k]), theirs, state)
            loss = torch.nn.functional.mse_loss(output, torch.from_numpy(y[start : start + k]))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
            optimizer.step()
            wanted.append(loss.item())
    bptt = tbptt(lambda m, state: run(m, ours, state), F.mse_loss, k)
    own = gn.optim.SGD(ours.parameters(), lr=0.1)
    found = []
    for _ in range(2):
        for block in bptt(gn.from_numpy(x), gn.from_numpy(y)):
            own.zero_grad()
            block.backward()
            nn.utils.clip_grad_norm_(ours.parameters(), 0.5)
            own.step()
            found.append(block.loss.item())
    np.testing.assert_allclose(found, wanted, rtol=10 * bound)
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        other = other.detach().numpy()
        assert np.abs(one.detach().numpy() - other).max() <= 10 * bound * np.abs(other).max(), name
