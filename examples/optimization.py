"""Optimization in pictures and numbers: learning rates, guessing against descending, and the race of the optimizers.

    python examples/optimization.py [--out FOLDER]

Gradient descent on w^2 / 2 with learning rates from too small to too large; a linear classifier of the bundled digits
whose weights are guessed a thousand times, beside one that goes down its gradient a hundred times; and every optimizer
of the family down the same valley. With ``--out`` and Matplotlib it draws all of it there.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import inspect, nn
from gpunet.data import Digits


def learning_rates() -> None:
    """Each step multiplies w by 1 - lr: the loss comes down for lr below 2 alone."""
    for rate in (0.1, 1.0, 1.9, 2.1):
        walk = inspect.descend(inspect.parabola, (1.0,), rate, 20)
        print(f"lr {rate}: |w| = {abs(walk.points[-1, 0]):.4g} after 20 steps from 1")


def digits(train: bool) -> tuple[gn.Tensor, gn.Tensor]:
    """Pixels from -1 to 1 as vectors, and labels."""
    data = Digits(train)
    return gn.from_numpy(data.images.reshape(len(data), 64) * 2 - 1), gn.from_numpy(data.labels.astype(np.int64))


def accuracy(classifier: nn.Linear) -> float:
    """On the test images."""
    images, labels = digits(train=False)
    with gn.no_grad():
        return float((classifier(images).argmax(1) == labels).float().mean().item())


def guess_or_descend(tries: int = 1000, steps: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """The best loss of a random search after each try, and gradient descent's after each step."""
    images, labels = digits(train=True)
    classifier = nn.Linear(64, 10)

    def loss() -> gn.Tensor:
        return F.cross_entropy(classifier(images), labels)

    found = gn.optim.random_search(loss, classifier.parameters(), tries, std=0.1)
    print(f"random search, {tries} tries: loss {found.loss:.3f}, test accuracy {accuracy(classifier):.3f} (chance 0.1)")
    classifier.reset_parameters()
    optimizer = gn.optim.SGD(classifier.parameters(), lr=0.5)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    print(f"gradient descent, {steps} steps: loss {losses[-1]:.3f}, test accuracy {accuracy(classifier):.3f}")
    return found.best_so_far, np.array(losses)


def race() -> dict[str, inspect.Descent]:
    """Down a valley that is ten times as steep across as along."""
    walks = inspect.optimizer_race()
    print("optimizer   w after the gradients 1, 1, -0.5    loss of the valley after 10 and 100 steps, from 13")
    for name, walk in walks.items():
        trace = " ".join(f"{w:+.4f}" for w in inspect.optimizer_trace(name))
        print(f"{name:9s}   {trace}             {walk.losses[10]:.3g}  {walk.losses[-1]:.3g}")
    return walks


def main() -> int:
    """Print all, and draw it if told where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    out = parser.parse_args().out
    gn.manual_seed(0)

    learning_rates()
    guessed, descended = guess_or_descend()
    walks = race()
    small = inspect.descend(inspect.valley, (-4.0, 1.0), 0.02, 60)
    large = inspect.descend(inspect.valley, (-4.0, 1.0), 0.19, 60)
    print("the loss of a walk with a small learning rate never rises:", bool(np.all(np.diff(small.losses) <= 0)))
    if out is None:
        return 0
    if importlib.util.find_spec("matplotlib") is None:
        print("Matplotlib is not installed: no pictures are drawn")
        return 0
    out.mkdir(parents=True, exist_ok=True)
    inspect.plot_learning_rates(path=out / "learning_rates.png")
    inspect.plot_loss_surface({"lr 0.02": small, "lr 0.19": large}, path=out / "loss_surface.png")
    inspect.plot_optimizer_race(walks, path=out / "race.png")
    inspect.plot_optimizer_family(out / "family.png")
    inspect.plot_curves(
        {"random search, best so far": guessed, "gradient descent": descended}, out / "guess_or_descend.png",
        xlabel="evaluations of the loss",
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
