"""The character model: what it computes, the product rule, and drawing from it."""

from __future__ import annotations

import itertools
import math
import re
import sys
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import models, nn
from gpunet.models import CharRNN, draw_from_logits
from gpunet.training import LanguageConfig, character_loss, prepare_language

CELLS = ("rnn", "lstm", "gru")
# The function ``char_rnn`` has taken the module's name in the package.
char_rnn_module = sys.modules[CharRNN.__module__]


def small(cell: str = "lstm", vocab_size: int = 4, **options: Any) -> CharRNN:
    gn.manual_seed(3)
    return models.char_rnn(vocab_size, cell, **{"hidden_size": 6, "num_layers": 2, "embedding_dim": 5} | options)


def strings(vocab_size: int, length: int) -> gn.Tensor:
    """All strings of a length, one a row."""
    rows = list(itertools.product(range(vocab_size), repeat=length))
    return gn.tensor(np.array(rows, np.int64).reshape(-1, length))


def parts(state: Any) -> list[np.ndarray]:
    return [part.detach().numpy() for part in (state if isinstance(state, tuple) else (state,))]


# ------------------------------------------------------------------------------------------------ what it computes


@pytest.mark.parametrize("embedding_dim", [5, 0])
@pytest.mark.parametrize("cell", CELLS)
def test_shapes_and_parameters(cell: str, embedding_dim: int) -> None:
    model = small(cell, embedding_dim=embedding_dim)
    scores, state = model(gn.zeros(3, 7, dtype=gn.int64))
    assert scores.shape == (3, 7, 4)
    assert [part.shape for part in parts(state)] == [(2, 3, 6)] * (2 if cell == "lstm" else 1)
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
    inputs = embedding_dim or 4
    layers = gates * 6 * (inputs + 6 + 2) + gates * 6 * (6 + 6 + 2)
    assert gn.inspect.count_params(model) == 4 * embedding_dim + layers + 7 * 4
    assert ("embedding.weight" in model.state_dict()) == bool(embedding_dim)
    assert not [name for name in model.state_dict() if "one_hot" in name]


def test_the_default_network() -> None:
    model = models.char_rnn()
    assert gn.inspect.count_params(model) == 886_880
    assert "886,880 parameters" in (sys.modules[CharRNN.__module__].__doc__ or "")
    assert (model.rnn.hidden_size, model.rnn.num_layers, model.cell, model.vocab_size) == (256, 2, "lstm", 96)


@pytest.mark.parametrize("cell", CELLS)
def test_one_hot_is_a_table_of_unit_vectors(cell: str) -> None:
    one_hot, table = small(cell, embedding_dim=0), small(cell, embedding_dim=4)
    with gn.no_grad():
        table.embedding.weight[...] = gn.eye(4)
    table.load_state_dict({"embedding.weight": gn.eye(4), **one_hot.state_dict()})
    x = strings(4, 3)
    np.testing.assert_array_equal(one_hot(x)[0].detach().numpy(), table(x)[0].detach().numpy())


@pytest.mark.parametrize("cell", CELLS)
def test_reading_in_parts_is_reading_at_once(cell: str) -> None:
    model = small(cell).double()
    x = strings(4, 5)[::37]
    scores, state = model(x)
    first, middle = model(x[:, :2])
    second, last = model(x[:, 2:], middle)
    np.testing.assert_allclose(gn.cat([first, second], 1).detach().numpy(), scores.detach().numpy(), atol=1e-12)
    for ours, theirs in zip(parts(last), parts(state), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    # From the state alone, the scores of what comes next.
    np.testing.assert_allclose(model.next_scores(middle).detach().numpy(), first[:, -1].detach().numpy(), atol=1e-12)


@pytest.mark.parity
@pytest.mark.parametrize("embedding_dim", [5, 0])
@pytest.mark.parametrize("cell", CELLS)
def test_scores_and_gradients_are_pytorchs(cell: str, embedding_dim: int) -> None:
    torch = pytest.importorskip("torch")
    ours = small(cell, embedding_dim=embedding_dim).double()
    kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    theirs = torch.nn.Module()
    if embedding_dim:
        theirs.embedding = torch.nn.Embedding(4, embedding_dim)
    theirs.rnn = kind(embedding_dim or 4, 6, 2, batch_first=True)
    theirs.decoder = torch.nn.Linear(6, 4)
    theirs.double().load_state_dict({name: torch.tensor(v.numpy()) for name, v in ours.state_dict().items()})
    x = np.random.default_rng(0).integers(0, 4, (3, 9))
    read = theirs.embedding if embedding_dim else lambda x: torch.nn.functional.one_hot(x, 4).double()
    expected = theirs.decoder(theirs.rnn(read(torch.tensor(x[:, :-1])))[0])
    loss = torch.nn.functional.cross_entropy(expected.reshape(-1, 4), torch.tensor(x[:, 1:]).reshape(-1))
    loss.backward()
    scores, _ = ours(gn.tensor(x[:, :-1]))
    np.testing.assert_allclose(scores.detach().numpy(), expected.detach().numpy(), atol=1e-12)
    found = character_loss(scores, gn.tensor(x[:, 1:]))
    found.backward()
    np.testing.assert_allclose(found.item(), loss.item(), rtol=1e-12)
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(
            dict(ours.named_parameters())[name].grad.numpy(), parameter.grad.numpy(), atol=1e-12, err_msg=name
        )


def test_dropout_acts_in_training_alone() -> None:
    model = small(dropout=0.5)
    x = strings(4, 3)
    first, second = (model(x)[0].detach().numpy() for _ in range(2))
    assert np.abs(first - second).max() > 0.01
    model.eval()
    first, second = (model(x)[0].detach().numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    # One layer has nothing between layers, and still the scores' input.
    single = small(dropout=0.5, num_layers=1)
    assert np.abs(single(x)[0].detach().numpy() - single(x)[0].detach().numpy()).max() > 0.01


@pytest.mark.parametrize("cell", CELLS)
def test_on_another_device(cell: str) -> None:
    """``cpu:1`` mixes with ``cpu`` as little as a GPU does."""
    here = small(cell, embedding_dim=0)
    there = small(cell, embedding_dim=0).to("cpu:1")
    x = strings(4, 3)
    scores, _ = there(x.to("cpu:1"))
    assert str(scores.device) == "cpu:1"
    np.testing.assert_array_equal(scores.cpu().detach().numpy(), here(x)[0].detach().numpy())
    assert there.sample(8, [1], 1.0, gn.Generator(2)).tolist() == here.sample(8, [1], 1.0, gn.Generator(2)).tolist()
    assert str(there.log_prob(x.to("cpu:1")).device) == "cpu:1"


def test_on_meta() -> None:
    with gn.device("meta"):
        model = models.char_rnn(10)
        scores, _ = model(gn.empty(2, 5, dtype=gn.int64))
    assert scores.shape == (2, 5, 10)
    result = gn.inspect.summary("char_rnn", vocab_size=10)
    assert result.input_shapes == ((1, 64),)
    assert result.output_shape == (1, 64, 10)


@pytest.mark.gpu
@pytest.mark.parametrize("cell", CELLS)
def test_three_steps_on_a_gpu_are_the_cpus(cell: str) -> None:
    """Losses, states and drawn characters, by the same trainer."""
    splits = gn.data.make_text_splits(*(gn.data.load_novel()[part] for part in (slice(0, 3000), slice(3000, 3400))))
    config = LanguageConfig(cell=cell, hidden_size=40, batch_size=8, window=16, dropout=0.0)
    losses, drawn = {}, {}
    for device in ("cpu", "cuda"):
        trainer = prepare_language(config, splits, gn.device(device))
        for batch in itertools.islice(trainer.train_loader, 3):
            trainer.train_step(*batch)
        assert {tensor.device.type for tensor in trainer.model.parameters()} == {device}
        losses[device] = (trainer.train_metrics()["train_loss"], trainer.evaluate(trainer.test_loader)["loss"])
        drawn[device] = trainer.model.sample(20, [3, 5], 1.0, gn.Generator(1)).tolist()
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-5)
    assert drawn["cuda"] == drawn["cpu"]


# ------------------------------------------------------------------------------------------------- the product rule


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("length", [1, 2, 4])
def test_probabilities_of_all_strings_add_up_to_one(cell: str, length: int) -> None:
    """Row B07: P(X1, ..., Xt) = prod P(Xs given Xs-1, ..., X1), so over all strings of a length the sum is 1."""
    model = small(cell, vocab_size=3).double()
    x = strings(3, length)
    log_prob = model.log_prob(x)
    assert log_prob.shape == (3**length,)
    assert abs(log_prob.exp().sum().item() - 1.0) < 1e-12
    assert log_prob.max().item() < 0
    # Also given what was read before.
    _, state = model(gn.tensor([[2, 0]]))
    repeated = (
        tuple(part.expand(2, 3**length, 6) for part in state)
        if isinstance(state, tuple)
        else state.expand(2, 3**length, 6)
    )
    given = model.log_prob(x, repeated)
    assert abs(given.exp().sum().item() - 1.0) < 1e-12
    assert np.abs((given - log_prob).detach().numpy()).max() > 1e-3


def test_the_product_rule_by_hand() -> None:
    """Row B07: log P(a, b, c) = log P(a) + log P(b given a) + log P(c given a, b)."""
    model = small("gru").double()
    a, b, c = 2, 0, 3
    steps = [
        model.next_scores(model.start())[0],
        model(gn.tensor([[a]]))[0][0, -1],
        model(gn.tensor([[a, b]]))[0][0, -1],
    ]
    by_hand = sum(
        nn.functional.log_softmax(scores, -1)[number].item() for scores, number in zip(steps, (a, b, c), strict=True)
    )
    assert abs(model.log_prob(gn.tensor([[a, b, c]])).item() - by_hand) < 1e-12
    # The product rule: P(a, b) P(c given a, b) = P(a, b, c).
    _, state = model(gn.tensor([[a, b]]))
    joined = model.log_prob(gn.tensor([[a, b]])).item() + model.log_prob(gn.tensor([[c]]), state).item()
    assert abs(joined - by_hand) < 1e-12
    assert model.log_prob(gn.empty(2, 0, dtype=gn.int64)).tolist() == [0.0, 0.0]


def test_log_prob_has_a_gradient() -> None:
    model = small("lstm").double()
    x = gn.tensor([[1, 3, 0]])
    model.log_prob(x).sum().backward()
    weight, step = model.decoder.bias, 1e-6
    values = []
    for sign in (1, -1):
        with gn.no_grad():
            weight[2] += sign * step
            values.append(model.log_prob(x).item())
            weight[2] -= sign * step
    assert abs(weight.grad[2].item() - (values[0] - values[1]) / (2 * step)) < 1e-8
    assert abs(weight.grad[2].item()) > 1e-2


# --------------------------------------------------------------------------------------------------------- drawing


HELLO = np.array([-np.inf, math.log(0.18), math.log(0.02), math.log(0.80)])  # h, e, l, o


def test_softmax_then_sampling() -> None:
    """Row B26: of p = (h 0, e .18, l .02, o .80), 100,000 draws give e .18 +- .0037, and h never."""
    drawn = draw_from_logits(HELLO, 100_000)
    share = np.bincount(drawn, minlength=4) / 100_000
    assert abs(share[1] - 0.18) < 0.0037  # three standard deviations
    assert abs(share[3] - 0.80) < 0.0038
    assert abs(share[2] - 0.02) < 0.0014
    assert share[0] == 0
    assert draw_from_logits(HELLO, temperature=0).tolist() == [3]  # argmax is o


def test_temperature_sharpens_and_flattens() -> None:
    """p^(1/T), normalised."""
    for temperature in (0.5, 2.0):
        power = np.array([0, 0.18, 0.02, 0.80]) ** (1 / temperature)
        expected = power / power.sum()
        share = np.bincount(draw_from_logits(HELLO, 100_000, temperature), minlength=4) / 100_000
        assert np.abs(share - expected).max() < 4 * 0.5 / 100_000**0.5
    # However small, it overflows into the greedy choice, and however large it draws evenly of what is possible.
    assert set(draw_from_logits(HELLO, 1000, 1e-300).tolist()) == {3}
    share = np.bincount(draw_from_logits(HELLO, 100_000, 1e300), minlength=4) / 100_000
    assert np.abs(share - [0, 1 / 3, 1 / 3, 1 / 3]).max() < 0.01


class Fixed:
    """Numbers that are not random."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self, count: int) -> np.ndarray:
        return np.full(count, self.value)


@pytest.mark.parametrize("value", [0.0, np.nextafter(1.0, 0.0)])
def test_the_ends_of_the_distribution(value: float) -> None:
    """What has no probability is not drawn, also in front and behind."""
    logits = np.array([-np.inf, 0.3, -np.inf, 0.1, -np.inf])
    (drawn,) = draw_from_logits(logits, random=Fixed(value))  # type: ignore[arg-type]
    assert drawn == (1 if value == 0.0 else 3)
    assert draw_from_logits(np.zeros(1), random=Fixed(value)).tolist() == [0]  # type: ignore[arg-type]


def test_of_equal_scores_greedy_takes_the_first() -> None:
    assert draw_from_logits(np.array([1.0, 2.0, 2.0]), 3, 0).tolist() == [1, 1, 1]
    assert draw_from_logits(gn.tensor([0.0, 5.0]), 1, 0).tolist() == [1]


def test_the_default_generator_is_used() -> None:
    gn.manual_seed(5)
    first = draw_from_logits(np.zeros(9), 20).tolist()
    second = draw_from_logits(np.zeros(9), 20).tolist()
    gn.manual_seed(5)
    assert draw_from_logits(np.zeros(9), 20).tolist() == first != second


@pytest.mark.parametrize("cell", CELLS)
def test_a_stream_is_drawn_from_what_the_model_says(cell: str) -> None:
    """Step by step, by hand, with the whole text read anew for each character."""
    model = small(cell)
    prompt = [2, 0, 3]
    drawn = model.sample(12, prompt, 0.7, gn.Generator(9)).tolist()
    random = gn.Generator(9).numpy()
    text = list(prompt)
    for _ in range(12):
        scores = model(gn.tensor([text]))[0][0, -1]
        text += draw_from_logits(scores, 1, 0.7, random).tolist()
    assert text[3:] == drawn
    greedy = model.sample(5, prompt, 0).tolist()
    for number in greedy:
        assert number == model(gn.tensor([prompt]))[0][0, -1].argmax().item()
        prompt = [*prompt, number]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("embedding_dim", [5, 0])
@pytest.mark.parametrize("cell", CELLS)
def test_single_steps_are_those_of_the_layers(
    cell: str, embedding_dim: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU characters are read without what surrounds an operation, and come out the same."""
    model = small(cell, embedding_dim=embedding_dim).to(getattr(gn, dtype))
    seen: dict[bool, list[np.ndarray]] = {True: [], False: []}
    drawn = {}
    draw = char_rnn_module.draw_from_logits
    for quick in (True, False):

        def note(scores: np.ndarray, *arguments: Any, quick: bool = quick) -> np.ndarray:
            seen[quick].append(scores)
            return draw(scores, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(char_rnn_module, "draw_from_logits", note)
            if not quick:
                patch.setattr(char_rnn_module._Steps, "take", staticmethod(lambda model: False))
            drawn[quick] = model.sample(30, [2, 1], 1.0, gn.Generator(6)).tolist()
    assert drawn[True] == drawn[False]
    np.testing.assert_allclose(seen[True], seen[False], atol=1e-5 if dtype == "float32" else 1e-12)
    assert char_rnn_module._Steps.take(model)
    assert not char_rnn_module._Steps.take(small(cell).half())


def test_streams_are_lazy_and_keep_what_was_read() -> None:
    model = small("lstm")
    stream = model.stream([1], 1.0, gn.Generator(4))
    first = [next(stream) for _ in range(6)]
    assert first == model.sample(6, [1], 1.0, gn.Generator(4)).tolist()
    assert first != model.sample(6, [1], 1.0, gn.Generator(5)).tolist()
    # The prompt may be read beforehand.
    with gn.no_grad():
        _, state = model(gn.tensor([[1]]))
    assert model.sample(6, (), 1.0, gn.Generator(4), state).tolist() == first
    # Without a prompt the first character is one of nothing read.
    expected = nn.functional.softmax(model.next_scores(model.start())[0], -1).detach().numpy()
    share = np.bincount([int(model.sample(1)[0]) for _ in range(1000)], minlength=4) / 1000
    assert np.abs(share - expected).max() < 4 * 0.5 / 1000**0.5
    assert model.sample(0).shape == (0,)


def test_drawing_is_evaluation() -> None:
    model = small("gru", dropout=0.9)
    assert model.training
    stream = model.stream([1], 0)
    first = next(stream)
    assert model.training  # between two characters too
    model.eval()
    assert model.sample(1, [1], 0).tolist() == [first]
    model.train()
    rest = [next(stream) for _ in range(9)]
    model.eval()
    assert model.sample(10, [1], 0).tolist() == [first, *rest]


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"cell": "LSTM"}, "char_rnn: cell must be one of rnn, lstm, gru, got 'LSTM'"),
        ({"vocab_size": 0}, "char_rnn: vocab_size must be at least 1, got 0"),
        ({"hidden_size": 0}, "char_rnn: hidden_size must be at least 1, got 0"),
        ({"num_layers": 0}, "char_rnn: num_layers must be at least 1, got 0"),
        ({"embedding_dim": -1}, "char_rnn: embedding_dim must be at least 0, got -1"),
        ({"dropout": 1.5}, "char_rnn: dropout must be between 0 and 1, got 1.5"),
    ],
)
def test_networks_that_are_none(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        models.char_rnn(**options)
    with pytest.raises(TypeError, match="char_rnn: hidden_size must be an integer, got float"):
        models.char_rnn(hidden_size=6.0)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_inputs_that_are_none(device: str) -> None:
    with gn.device(device):
        model = models.char_rnn(4, hidden_size=6)
        for call in (model, model.log_prob):
            with pytest.raises(gn.ShapeError, match=r"char_rnn: x must be 2-d \(batch, steps\).*, got shape \(3,\)"):
                call(gn.zeros(3, dtype=gn.int64))
            with pytest.raises(TypeError, match="char_rnn: x must be a Tensor, got list"):
                call([[1, 2]])
        with pytest.raises(
            gn.ShapeError, match=r"x must be 2-d \(batch, steps\) of at least one step, got shape \(3, 0\)"
        ):
            model(gn.zeros(3, 0, dtype=gn.int64))
        for call in (model, model.log_prob):
            with pytest.raises(gn.DTypeError, match="char_rnn: x must be int64 or int32, got float32"):
                call(gn.zeros(3, 2))
        with pytest.raises(gn.ShapeError, match=r"hx\[0\] must have shape \(2, 3, 6\)"):
            model(gn.zeros(3, 2, dtype=gn.int64), (gn.zeros(2, 4, 6), gn.zeros(2, 4, 6)))
        with pytest.raises(TypeError, match="hx must be a pair"):
            model(gn.zeros(3, 2, dtype=gn.int64), gn.zeros(2, 3, 6))


def test_a_character_that_is_none() -> None:
    """It is the input that is at fault, also where scores are picked by it."""
    for model in (small(), small(embedding_dim=0)):
        for call in (model, model.log_prob):
            for numbers, got in (([[4]], "4"), ([[0, 7]], "0 to 7"), ([[-1, 2]], "-1 to 2")):
                named = f"char_rnn: x must be numbers from 0 to 3, got {got}"
                with pytest.raises(IndexError, match=f"^{named}$"):
                    call(gn.tensor(numbers))
            assert call(gn.tensor([[0, 3]], dtype=gn.int32)) is not None


@pytest.mark.parametrize("temperature", [-0.1, -1, float("nan"), float("inf")])
def test_temperatures_that_are_none(temperature: float) -> None:
    named = re.escape("temperature: must be 0 (the likeliest character each time) or above, got ")
    for call in (lambda: small().stream([0], temperature), lambda: draw_from_logits(np.zeros(2), 1, temperature)):
        with pytest.raises(ValueError, match=named):
            call()
    with pytest.raises(TypeError, match="temperature: must be a number, got str"):
        small().sample(1, [0], "1")  # type: ignore[arg-type]


def test_prompts_and_lengths_that_are_none() -> None:
    model = small()
    with pytest.raises(IndexError, match="prompt: must be numbers from 0 to 3, got 1 to 4"):
        model.stream([1, 4])  # at once, not when the first character is asked for
    with pytest.raises(IndexError, match=r"prompt: must be numbers from 0 to 3, got 7$"):
        model.stream([7])
    with pytest.raises(gn.ShapeError, match=r"prompt: must be 1-d \(characters,\), got shape \(1, 1\)"):
        model.stream([[1]])
    with pytest.raises(gn.DTypeError, match="prompt: must be integers, got float64"):
        model.stream([0.5])
    with pytest.raises(ValueError, match="length: must not be negative, got -1"):
        model.sample(-1)
    with pytest.raises(TypeError, match="length: must be an integer, got float"):
        model.sample(1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("logits", [[np.nan, 1.0], [np.inf, 1.0], [-np.inf, -np.inf]])
def test_scores_that_are_none(logits: list[float]) -> None:
    with pytest.raises(ValueError, match="logits: the largest must be finite, got"):
        draw_from_logits(np.array(logits))
    with pytest.raises(gn.ShapeError, match="logits: must be 1-d with at least one entry"):
        draw_from_logits(np.zeros(0))
