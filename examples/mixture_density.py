"""Several answers to one question: a mixture density network against least squares (Bishop 1994, section 4).

    python examples/mixture_density.py [--out FOLDER]

From t the value x = t + 0.3 sin(2 pi t) + noise is easily told; here t is to be told from x, and for many x there are
three. A network trained on squares gives their mean, which may be none of them. A mixture density network gives the
probabilities of K places and how sharply each is known. Both have one hidden layer of the same size. With ``--out``,
and where Matplotlib is installed, data, predictions and draws are drawn.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn

HIDDEN, COMPONENTS, NOISE = 24, 3, 0.05


def forwards(t: np.ndarray) -> np.ndarray:
    """The x of a t, without noise."""
    return t + 0.3 * np.sin(2 * np.pi * t)


def data(count: int, seed: int) -> tuple[gn.Tensor, gn.Tensor]:
    """x and t, each (count, 1): t is uniform, x is made of it."""
    rng = np.random.default_rng(seed)
    t = rng.random((count, 1))
    x = forwards(t) + rng.uniform(-NOISE, NOISE, (count, 1))
    return gn.tensor(x).float(), gn.tensor(t).float()


def scaled(x: gn.Tensor) -> gn.Tensor:
    """Inputs around 0 that fill the range in which tanh bends: -3 to 3."""
    return (x - 0.5) * 6


def train(model: nn.Module, loss_of: Any, x: gn.Tensor, t: gn.Tensor, steps: int) -> None:
    """All data at every step."""
    optimizer = gn.optim.Adam(model.parameters(), lr=0.02)
    schedule = gn.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model(scaled(x)), t).backward()
        optimizer.step()
        schedule.step()


def off(t: np.ndarray, x: np.ndarray) -> np.ndarray:
    """How far predictions lie from every answer: |x(t) - x|."""
    return abs(forwards(t) - x)


def main() -> None:
    """Train both, and compare what they give for data that they have not seen."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, help="folder for the picture")
    parser.add_argument("--steps", type=int, default=800)
    arguments = parser.parse_args()
    gn.manual_seed(0)
    x, t = data(600, seed=0)
    x_test, t_test = data(600, seed=1)

    squares: nn.Module = nn.Sequential(nn.Linear(1, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
    last = nn.MDN(HIDDEN, 1, COMPONENTS).spread_(0.0, 1.0)
    mixture: nn.Module = nn.Sequential(nn.Linear(1, HIDDEN), nn.Tanh(), last)
    train(squares, F.mse_loss, x, t, arguments.steps)
    train(mixture, lambda given, wanted: F.mdn_loss(*given, wanted), x, t, arguments.steps)

    with gn.no_grad():
        variance = F.mse_loss(squares(scaled(x)), t).item()
        prediction, given = squares(scaled(x_test)), mixture(scaled(x_test))
        likeliest = given.mu[gn.arange(len(x_test)), given.pi.argmax(-1)]
        drawn = F.mdn_sample(*given)
        nll = F.mdn_loss(*given, t_test).item()
        # Squares are the likelihood of one normal distribution with the same variance everywhere.
        alone = F.gaussian_nll_loss(prediction, t_test, variance, full=True).item()
        print(f"-log likelihood of unseen data: least squares {alone:.3f}, mixture {nll:.3f}")
        print(f"squared error of the means: least squares {F.mse_loss(prediction, t_test).item():.4f}, "
              f"mixture {F.mse_loss(given.mean, t_test).item():.4f}")  # fmt: skip
        for name, answer in (("least squares", prediction), ("mixture's likeliest mean", likeliest), ("draws", drawn)):
            missed = off(answer.numpy(), x_test.numpy())
            near = (missed < 0.1).mean()
            print(f"{name}: off the curve by {missed.mean():.3f} on average, {near:.3f} of them by less than 0.1")
        middle = scaled(gn.tensor([[0.5]]))
        at = mixture(middle)
        parts = sorted(
            zip(at.mu.flatten().tolist(), at.sigma.flatten().tolist(), at.pi.flatten().tolist(), strict=True)
        )
        shown = ", ".join(f"{p:.2f} at {mu:.2f} +- {sigma:.2f}" for mu, sigma, p in parts)
        print(f"at x = 0.5: least squares {squares(middle).item():.2f}; mixture {shown}")
        print(f"probabilities sum to 1: {bool(gn.allclose(given.pi.sum(-1), gn.ones(len(x_test))))}, "
              f"deviations are positive: {bool((given.sigma > 0).all())}")  # fmt: skip
    if arguments.out is not None:
        draw(arguments.out, (x_test, t_test), prediction, drawn)


def draw(out: Path, seen: tuple[gn.Tensor, gn.Tensor], prediction: gn.Tensor, drawn: gn.Tensor) -> None:
    """Data, the curve of least squares, and draws from the mixture."""
    out.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("matplotlib") is None:
        print("Matplotlib is not installed: no picture is written")
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    x, t = (one.numpy().ravel() for one in seen)
    order = np.argsort(x)
    for axes, title in ((left, "least squares"), (right, "mixture density network")):
        axes.plot(x, t, ".", color="0.75", label="data")
        axes.set_title(title)
        axes.set_xlabel("x")
    left.plot(x[order], prediction.numpy().ravel()[order], color="#d55e00", label="prediction")
    right.plot(x, drawn.numpy().ravel(), "x", color="#0072b2", markersize=4, label="draws")
    left.set_ylabel("t")
    for axes in (left, right):
        axes.legend(frameon=False)
    figure.savefig(out / "mixture_density.png", dpi=120)


if __name__ == "__main__":
    main()
