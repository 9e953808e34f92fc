"""A vanilla RNN, an LSTM and a GRU learn to write, side by side.

    python examples/char_rnn.py [--out FOLDER]

Each reads the first chapters of *Pride and Prejudice*, character by character: parallel streams, a window at a time,
the state going on from window to window (truncated backpropagation through time). What is compared is how well each
knows the chapters that follow, in bits per character: what it would take to write them down with the model's help.
Without a network, from how frequent each character is alone, it takes four and a half. The networks have about equally
many weights, and each the learning rate that suits it best: of 0.006, 0.012 and 0.024, the one that was best for other
chapters, which are neither trained nor tested on. With one rate for all the LSTM would look worst, as it wants a larger
one than the vanilla RNN. With ``--out`` and Matplotlib the curves are drawn there.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np

import gpunet as gn
from gpunet.data import TextStreams, make_text_splits
from gpunet.models import char_rnn
from gpunet.training import character_loss, tbptt

# Hidden units such that each has about 45,000 weights.
CELLS = {"rnn": 163, "lstm": 80, "gru": 94}
RATES = {"rnn": 0.012, "lstm": 0.024, "gru": 0.012}
LENGTH, HELD_OUT = 120_000, 10_000
SEEDS, EPOCHS, STREAMS, WINDOW = 2, 3, 16, 32
COLOURS = ("#0072b2", "#d55e00", "#009e73")


def main() -> int:
    """Train three, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for a picture of the curves")
    folder = parser.parse_args().out

    text = gn.data.load_novel()
    splits = make_text_splits(text[:LENGTH], text[LENGTH : LENGTH + HELD_OUT])
    characters, device = splits.vocabulary, gn.device("auto")
    frequency = np.bincount(splits.train, minlength=len(characters)) + 1.0
    by_frequency = -np.log2(frequency / frequency.sum())[splits.test].mean()
    print(f"by frequency alone: {by_frequency:.3f} bits per character")

    curves: dict[str, np.ndarray] = {}
    reached: dict[str, list[float]] = {}
    for cell, hidden in CELLS.items():
        start, runs, reached[cell] = time.perf_counter(), [], []
        for seed in range(SEEDS):
            gn.manual_seed(seed)
            model = char_rnn(len(characters), cell, hidden, num_layers=1, embedding_dim=32).to(device)
            runs.append(train(model, TextStreams(splits.train, STREAMS, WINDOW), RATES[cell]))
            with gn.no_grad():
                log_prob = model.log_prob(gn.from_numpy(splits.test[None]).to(device)).item()
            reached[cell].append(-log_prob / math.log(2) / HELD_OUT)
        curves[cell] = np.mean(runs, axis=0)
        said = characters.decode(model.sample(50, characters.encode("She "), 0.5, gn.Generator(1)))
        each, seconds = ", ".join(f"{bits:.3f}" for bits in reached[cell]), time.perf_counter() - start
        print(
            f"{cell:<4} with {gn.inspect.count_params(model):,} weights: "
            f"{np.mean(reached[cell]):.3f} bits per character ({each}), {seconds:.1f} s; She {said!r}",
            flush=True,
        )
    means = [float(np.mean(bits)) for bits in reached.values()]
    between_seeds = max(max(bits) - min(bits) for bits in reached.values())
    print(
        f"The cells lie {max(means) - min(means):.3f} bits apart, and runs of one cell up to {between_seeds:.3f}: "
        f"after {EPOCHS} passes over {LENGTH:,} characters, each at its own learning rate, that is no order of the "
        "cells. What gates are for, remembering over hundreds of steps, takes longer to learn."
    )
    if folder is not None:
        draw(folder / "char_rnn.png", curves, {cell: float(np.mean(bits)) for cell, bits in reached.items()})
    return 0 if max(means) < by_frequency - 1.0 else 1


def train(model: gn.models.CharRNN, streams: TextStreams, rate: float) -> list[float]:
    """Truncated backpropagation through time; returns the loss of each step in bits per character."""
    optimizer = gn.optim.Adam(model.parameters(), lr=rate)
    scheduler = gn.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(streams))
    bptt = tbptt(model, character_loss)
    device, losses = model.decoder.weight.device, []
    for _ in range(EPOCHS):
        state = None  # nothing read yet
        for x, y in streams:
            for block in bptt(x.to(device), y.to(device), state):
                optimizer.zero_grad()
                block.backward()
                gn.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                losses.append(block.loss.item() / math.log(2))
            state = bptt.state
            scheduler.step()
    return losses


def draw(path: Path, curves: dict[str, np.ndarray], reached: dict[str, float]) -> None:
    """The training curves, and what each reaches on the chapters that follow."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture: Matplotlib is not installed")
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    width = 20
    for (cell, losses), colour in zip(curves.items(), COLOURS, strict=True):
        means = np.convolve(losses, np.ones(width) / width, "valid")
        axes.plot(width + np.arange(len(means)), means, color=colour, linewidth=1.2, label=f"{cell}, training")
        axes.axhline(reached[cell], color=colour, linestyle=":", linewidth=1.2, label=f"{cell}, held out, at the end")
    axes.set_xlabel("step")
    axes.set_ylabel("bits per character")
    axes.set_ylim(top=5.0)
    axes.grid(True, linewidth=0.4, alpha=0.6)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"drawn to {path}")


if __name__ == "__main__":
    sys.exit(main())
