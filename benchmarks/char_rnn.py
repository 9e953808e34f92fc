"""The character model beside PyTorch's on the CPU: ``python -m benchmarks.char_rnn``.

A network of ``gpunet train --model char_rnn`` (two layers of 256 by default, on the bundled novel) is trained by
both, step by step in turn: the same initial weights, batches, Adam, clipping and learning rates, no dropout. The table
has what both reach on the held-out part, in bits per character, which sets the bound that ``tests/training`` asserts;
how long a training step takes; and how long drawing a character takes, one at a time, as ``gpunet sample`` does.

    python -m benchmarks.char_rnn [--threads 2] [--cells lstm,gru,rnn] [--steps 300] [--seeds 3] [--name NAME]

The first cell is trained with each of the seeds, the others for 40 steps with one. Before each call there is a moment's
pause: the worker threads of the side before go on spinning for milliseconds.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gpunet as gn
from benchmarks.harness import Row, compare, environment, seconds, table, write
from gpunet.data import load_text
from gpunet.training import LanguageConfig, LanguageTrainer, prepare_language

RESULTS = Path(__file__).parent / "results"
PAUSE = 0.02  # seconds
OTHERS_STEPS = 40
CHARACTERS = 200  # a timing of drawing
CONFIG = LanguageConfig(epochs=1, dropout=0.0)


class Peer:
    """PyTorch's side: the same network, optimizer and schedule."""

    def __init__(self, trainer: LanguageTrainer, config: LanguageConfig, steps: int) -> None:
        import torch

        self.torch, self.config = torch, config
        ours = trainer.model
        net = torch.nn.Module()
        net.embedding = torch.nn.Embedding(ours.vocab_size, config.embedding_dim)
        kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[config.cell]
        net.rnn = kind(config.embedding_dim, config.hidden_size, config.num_layers, batch_first=True)
        net.decoder = torch.nn.Linear(config.hidden_size, ours.vocab_size)
        net.load_state_dict({name: torch.tensor(value.numpy()) for name, value in ours.state_dict().items()})
        self.net = net
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        final = config.final_rate
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))
        )
        self.state: Any = None

    def forward(self, x: Any, state: Any) -> tuple[Any, Any]:
        """Scores and state."""
        hidden, state = self.net.rnn(self.net.embedding(x), state)
        return self.net.decoder(hidden), state

    def loss(self, scores: Any, targets: Any) -> Any:
        """Mean cross-entropy."""
        return self.torch.nn.functional.cross_entropy(scores.reshape(-1, scores.shape[-1]), targets.reshape(-1))

    def train_step(self, x: Any, y: Any) -> float:
        """One step of truncated backpropagation through time; returns the loss."""
        scores, state = self.forward(x, self.state)
        loss = self.loss(scores, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
        return float(loss.item())

    def evaluate(self, loader: Any) -> float:
        """Bits per character over the held-out streams."""
        total, count, state = 0.0, 0, None
        with self.torch.no_grad():
            for inputs, targets in loader:
                x, y = (self.torch.tensor(part.numpy()) for part in (inputs, targets))
                scores, state = self.forward(x, state)
                total += float(self.loss(scores, y)) * y.numel()
                count += y.numel()
        return total / count / math.log(2)

    def sample(self, length: int) -> list[int]:
        """Draw characters as scripts for PyTorch do."""
        torch, state, drawn = self.torch, None, []
        with torch.no_grad():
            number = torch.tensor([[1]])
            for _ in range(length):
                scores, state = self.forward(number, state)
                number = torch.multinomial(torch.softmax(scores[:, -1] / 0.8, -1), 1)
                drawn.append(number.item())
        return drawn


def train(cell: str, seed: int, steps: int, hidden: int) -> tuple[list[Row], LanguageTrainer, Peer]:
    """Train both in turn; the rows of what they reach and of a step's time."""
    import torch

    splits = load_text()
    per_epoch = len(prepare_language(CONFIG, splits, gn.device("cpu")).train_loader)
    config = CONFIG.replace(cell=cell, seed=seed, epochs=math.ceil(steps / per_epoch), hidden_size=hidden)
    trainer = prepare_language(config, splits, gn.device("cpu"))
    peer = Peer(trainer, config, config.epochs * per_epoch)
    times: dict[str, list[float]] = {"gpunet": [], "torch": []}
    worst = 0.0
    while trainer.step < steps:
        trainer.reading = peer.state = None
        for inputs, targets in trainer.train_loader:
            x, y = torch.tensor(inputs.numpy()), torch.tensor(targets.numpy())
            time.sleep(PAUSE)
            times["gpunet"].append(seconds(lambda: (trainer.train_step(inputs, targets), trainer.synchronize())))  # noqa: B023
            losses: list[float] = []
            time.sleep(PAUSE)
            times["torch"].append(seconds(lambda: losses.append(peer.train_step(x, y))))  # noqa: B023
            if trainer.step <= 20:  # then rounding has grown
                worst = max(
                    worst, abs(trainer._loss.total / trainer._loss.count - losses[0]) if trainer.step == 1 else 0
                )
            if trainer.step >= steps:
                break
    assert worst < 1e-5, worst
    assert trainer.test_loader is not None
    ours = trainer.evaluate(trainer.test_loader)["bits_per_character"]
    theirs = peer.evaluate(trainer.test_loader)
    label = f"{cell}, {config.num_layers} layers of {hidden}"
    reached = Row(
        f"{label}: held out after {steps} steps, seed {seed}", "bits/character", ours, theirs, "torch", ours / theirs,
        ours / theirs, ours / theirs, "loss of the first step agrees to 1e-5",
    )  # fmt: skip
    skipped = {name: values[5:] for name, values in times.items()}
    ratios = [a / b for a, b in zip(skipped["gpunet"], skipped["torch"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    medians = {name: statistics.median(values) * 1e3 for name, values in skipped.items()}
    step = Row(
        f"{label}: training step, {config.batch_size} streams of {config.window}", "ms", medians["gpunet"],
        medians["torch"], "torch", middle, low, high, f"{len(ratios)} steps",
    )  # fmt: skip
    return [reached, step], trainer, peer


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cells", default="lstm,gru,rnn")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=25, help="timings of drawing")
    parser.add_argument(
        "--name", default=f"char_rnn-cpu-{datetime.now(UTC):%Y-%m-%d}", help="of the files; empty writes none"
    )
    arguments = parser.parse_args()
    import torch

    gn.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    rows: list[Row] = []
    for number, cell in enumerate(arguments.cells.split(",")):
        for seed in range(arguments.seeds if number == 0 else 1):
            steps = arguments.steps if number == 0 else min(OTHERS_STEPS, arguments.steps)
            found, trainer, peer = train(cell, seed, steps, arguments.hidden)
            found = found if number == 0 else found[1:]  # so few steps are for their time alone
            rows += found
            print(table(found).split("\n", 2)[2], flush=True)
        model = trainer.model.eval()
        label = f"{cell}, {CONFIG.num_layers} layers of {arguments.hidden}"
        found = [
            compare(
                f"{label}: drawing a character",
                lambda: model.sample(CHARACTERS, [1], 0.8),  # noqa: B023
                {"torch": lambda: peer.sample(CHARACTERS)},  # noqa: B023
                rounds=arguments.rounds,
                scale=1e6 / CHARACTERS,
                unit="us",
                note=f"{CHARACTERS} at a time",
                pause=PAUSE,
            )
        ]
        rows += found
        print(table(found).split("\n", 2)[2], flush=True)
    about = {**environment(["numpy", "torch"]), "threads": arguments.threads, "load_after": os.getloadavg()[0]}
    print(table(rows))
    if arguments.name:
        write(arguments.name, rows, about, RESULTS)


if __name__ == "__main__":
    main()
