"""The smallest character model: it learns 'hello', and says why 'e' comes after 'h'.

    python examples/hello.py

Four characters, one-hot; each step the network says how probable each of them is as the next. Untrained it guesses;
trained to a loss of nearly nothing it writes 'ello' after 'h', by taking the likeliest character each time. The two l
must be told apart by what came before them, so a network without a state could not. Then the picture of the lecture:
scores become probabilities by softmax, and a character is drawn from them, here 100,000 times.
"""

from __future__ import annotations

import sys

import numpy as np

import gpunet as gn
import gpunet.nn.functional as F
from gpunet.data import Vocabulary
from gpunet.models import char_rnn, draw_from_logits

WORD = "hello"
# The probabilities of the lecture's picture: after 'h' the untrained network would say 'o'.
PICTURE = {"h": 0.0, "e": 0.18, "l": 0.02, "o": 0.80}


def main() -> int:
    """Train, write, draw."""
    gn.manual_seed(0)
    characters = Vocabulary("helo")
    numbers = gn.from_numpy(characters.encode(WORD))
    x, target = numbers[:-1].unsqueeze(0), numbers[1:]  # h e l l, e l l o

    model = char_rnn(len(characters), cell="rnn", hidden_size=8, num_layers=1, embedding_dim=0)
    optimizer = gn.optim.Adam(model.parameters(), lr=0.1)
    for step in range(101):
        scores, _ = model(x)
        loss = F.cross_entropy(scores[0], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step:3}: loss {loss.item():.5f}, the likeliest: {characters.decode(scores[0].argmax(-1))}")

    written = characters.decode(model.sample(4, characters.encode("h"), temperature=0))
    probability = model.log_prob(numbers.unsqueeze(0)[:, 1:], model(x[:, :1])[1]).exp().item()
    print(f"greedy from 'h': {written}; P(ello given h) = {probability:.4f}")

    with np.errstate(divide="ignore"):
        scores_of_picture = np.log(list(PICTURE.values()))
    drawn = np.bincount(draw_from_logits(scores_of_picture, 100_000), minlength=4) / 100_000
    shares = ", ".join(f"{character} {share:.4f}" for character, share in zip(PICTURE, drawn, strict=True))
    greedy = "helo"[draw_from_logits(scores_of_picture, temperature=0)[0]]
    print(f"drawn 100,000 times from h 0, e .18, l .02, o .80: {shares}; the likeliest: {greedy}")
    return 0 if written == "ello" and loss.item() < 0.01 else 1


if __name__ == "__main__":
    sys.exit(main())
