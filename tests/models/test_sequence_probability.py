"""The probability of a sequence by the product rule, of every model that gives one: rows B07 and B35."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet.models import char_rnn
from gpunet.training import tbptt

CHARACTERS = 3


def model_of(cell: str) -> Any:
    gn.manual_seed(4)
    model = char_rnn(CHARACTERS, cell=cell, hidden_size=6, num_layers=2, embedding_dim=4).double()
    with gn.no_grad():  # far from saying that everything is equally probable
        for parameter in model.parameters():
            parameter *= 3
    return model.eval()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("length", [1, 2, 4])
def test_all_strings_of_a_length_have_probability_one_together(cell: str, length: int) -> None:
    """B07: P(X_1, ..., X_t) = prod P(X_s given X_{s-1}, ..., X_1): in sum 1, and each factor by itself."""
    model = model_of(cell)
    strings = list(itertools.product(range(CHARACTERS), repeat=length))
    found = model.log_prob(gn.tensor(strings)).exp().detach().numpy()
    assert found.sum() == pytest.approx(1.0, abs=1e-9)
    assert found.max() / found.min() > 1.2
    for string, probability in list(zip(strings, found, strict=True))[:: CHARACTERS + 1]:
        wanted, state = 1.0, model.start(1)
        for character in string:
            scores = model.next_scores(state)
            wanted *= F.softmax(scores, dim=-1)[0, character].item()
            _, state = model(gn.tensor([[character]]), state)
        assert probability == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_order_of_a_text_is_what_a_trained_model_knows(cell: str) -> None:
    """B35: after some steps on "abcabc...", a shuffled text is far less probable."""
    gn.manual_seed(0)
    model = char_rnn(CHARACTERS, cell=cell, hidden_size=12, num_layers=1, embedding_dim=0)
    text = gn.tensor([[0, 1, 2] * 20])
    optimizer = gn.optim.Adam(model.parameters(), lr=0.03)
    bptt = tbptt(model, lambda scores, y: F.cross_entropy(scores.flatten(0, 1), y.flatten()), k=15)
    for _ in range(30):
        for block in bptt(text[:, :-1], text[:, 1:]):
            optimizer.zero_grad()
            block.backward()
            optimizer.step()
    shuffled = gn.from_numpy(np.random.default_rng(0).permutation(text.numpy()[0])[None])
    with gn.no_grad():
        ordered, other = model.log_prob(text).item(), model.log_prob(shuffled).item()
    assert ordered > 60 * math.log(1 / 3) / 2
    assert other < 60 * math.log(1 / 3)
