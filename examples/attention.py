"""Where attention looks: an encoder learns to find the position that has the key it is asked for.

    python examples/attention.py [--out FOLDER]

A sequence holds 8 keys, each with a value, and last a question: one of the keys, whose value is wanted. To answer, the
last position has to look at the position that has its key, and at no other. Nobody tells it where that is: what is
learned is the value. ``TransformerEncoder(..., need_weights=True)`` gives the list of attention weights, one entry for
each layer: each row is a query and sums to 1. With ``--out``, and where Matplotlib is installed, the weights are drawn.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn

KEYS, VALUES, PAIRS = 12, 8, 8
ASKED = VALUES  # the value that the question has


class Finder(nn.Module):
    """Keys and values as vectors that are added, one encoder layer, and scores of the values at the last position."""

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        self.key, self.value = nn.Embedding(KEYS, size), nn.Embedding(VALUES + 1, size)
        layer = nn.TransformerEncoderLayer(size, 1, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, nn.LayerNorm(size))
        self.scores = nn.Linear(size, VALUES)

    def forward(self, keys: gn.Tensor, values: gn.Tensor) -> tuple[gn.Tensor, list[gn.Tensor]]:
        """(N, length) each to the scores (N, VALUES) and the attention weights (N, length, length) of each layer."""
        encoded, attentions = self.encoder(self.key(keys) + self.value(values), need_weights=True)
        return self.scores(encoded[:, -1]), attentions


def sequences(count: int, rng: np.random.Generator) -> tuple[gn.Tensor, gn.Tensor, gn.Tensor, np.ndarray]:
    """Keys, values, answers, and the places where they are to be found."""
    keys = rng.permuted(np.tile(np.arange(KEYS), (count, 1)), axis=1)[:, :PAIRS]
    values = rng.integers(VALUES, size=(count, PAIRS))
    places = rng.integers(PAIRS, size=count)
    row = np.arange(count)
    keys = np.concatenate([keys, keys[row, places][:, None]], 1)
    answers = values[row, places]
    values = np.concatenate([values, np.full((count, 1), ASKED)], 1)
    return gn.tensor(keys), gn.tensor(values), gn.tensor(answers), places


def train(model: Finder, steps: int, rng: np.random.Generator) -> None:
    """New sequences at every step."""
    optimizer = gn.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(1, steps + 1):
        keys, values, answers, _ = sequences(64, rng)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(keys, values)[0], answers)
        loss.backward()
        optimizer.step()
        if step % (steps // 6) == 0:
            print(f"step {step}: loss {loss.item():.3f}")


def measure(model: Finder, when: str, rng: np.random.Generator) -> None:
    """How often the answer is right, and how much of the attention is where it should be."""
    keys, values, answers, places = sequences(500, rng)
    with gn.no_grad():
        scores, (weights,) = model.eval()(keys, values)
    row = np.arange(len(places))
    asked = weights[:, -1].numpy()
    print(
        f"{when}: accuracy {(scores.argmax(-1) == answers).float().mean().item():.3f} (chance {1 / VALUES:.3f}), "
        f"weight at the matching key {asked[row, places].mean():.3f} (uniform {1 / (PAIRS + 1):.3f}), "
        f"largest there {(asked.argmax(-1) == places).mean():.3f}"
    )
    model.train()


def look(model: Finder, rng: np.random.Generator, out: Path | None) -> None:
    """One question, and where the answer was looked for."""
    keys, values, answers, places = sequences(1, rng)
    with gn.no_grad():
        scores, (weights,) = model.eval()(keys, values)
    print(f"rows sum to 1: {bool(np.allclose(weights.numpy().sum(-1), 1, atol=1e-5))}")
    print("keys    ", *(f"{key:5d}" for key in keys[0, :-1].tolist()), f"   asked {keys[0, -1].item()}")
    print("values  ", *(f"{value:5d}" for value in values[0, :-1].tolist()), f"   answer {scores.argmax(-1).item()}")
    print("weights ", *(f"{weight:5.2f}" for weight in weights[0, -1, :-1].tolist()))
    assert scores.argmax(-1).item() == answers.item(), places
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("matplotlib") is None:
        print("Matplotlib is not installed: no picture is written")
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(weights[0].numpy(), vmin=0, vmax=1, cmap="Blues")
    labels = [str(key) for key in keys[0].tolist()]
    labels[-1] += "?"
    axes.set_xticks(range(PAIRS + 1), labels)
    axes.set_yticks(range(PAIRS + 1), labels)
    axes.set_xlabel("looked at (key)")
    axes.set_ylabel("looks (query)")
    figure.colorbar(picture, label="attention weight")
    figure.savefig(out / "attention.png", dpi=120)


def facts() -> None:
    """What the layer does before it has learned anything."""
    layer = nn.MultiheadAttention(512, 8, batch_first=True)
    print(f"parameters for 512 features: {gn.inspect.count_params(layer):,}")
    keys = gn.randn(1, 3, 512)
    output, weights = layer(gn.randn(1, 5, 512), keys, keys)
    print(f"5 queries, 3 keys and values: output {tuple(output.shape[1:])}, weights {tuple(weights.shape[1:])}")
    print("a query of zero looks everywhere alike:", layer(gn.zeros(1, 1, 512), keys, keys)[1].tolist())
    try:
        layer(keys, keys, keys[:, :2])
    except gn.ShapeError as error:
        print(error)


def main() -> None:
    """Facts first; then measure, train, measure again, and look."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, help="folder for the picture")
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    facts()
    gn.manual_seed(0)
    rng = np.random.default_rng(0)
    model = Finder()
    measure(model, "untrained", rng)
    train(model, arguments.steps, rng)
    measure(model, "trained", rng)
    look(model, rng, arguments.out)


if __name__ == "__main__":
    main()
