"""Predicting a series from its own past: from a window, from a state, and from the last value alone.

    python examples/autoregressive.py [--out FOLDER]

AR(tau) by least squares and by gradient descent, on a process whose coefficients are known; a latent autoregressive
model, whose state sums up a past of any length; a Markov chain. With ``--out``, and where Matplotlib is installed, a
picture of what they predict is written there.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np

import gpunet as gn
import gpunet.nn.functional as F
from gpunet.data import ARProcess, RandomWalk, Sine
from gpunet.distributions import MarkovChain
from gpunet.models import AR, LatentAR
from gpunet.training import tbptt


def window() -> None:
    """A window of fixed length: least squares and gradient descent find the same coefficients."""
    process = ARProcess(5000, (0.6, -0.3), seed=2)
    x, y = process[0]
    print(f"x_t = 0.6 x_t-1 - 0.3 x_t-2 + e_t: {len(process)} windows such as {x.numpy()} before {y.item():.4f}")
    exact = AR(2).fit(process.values)
    print("least squares    ", *(f"{value:.4f}" for value in exact.coefficients.tolist()), f"noise {exact.noise:.4f}")
    walked = AR(2)
    losses = walked.fit_by_gradient_descent(process.values, steps=200)
    print("gradient descent ", *(f"{value:.4f}" for value in walked.coefficients.tolist()), f"after {len(losses) - 1}")
    print(f"mean squared error {losses[0]:.4f} before, {losses[-1]:.4f} after")
    shuffled = gn.from_numpy(np.random.default_rng(0).permutation(process.values.numpy()))
    print(
        f"log-probability of the series {exact.log_prob(process.values).item():.0f}, "
        f"of its values shuffled {exact.log_prob(shuffled).item():.0f}"
    )
    walk = RandomWalk(5000, seed=1)
    stays = AR(1, dtype=gn.float64).fit(walk.values.double().log())
    print(f"a random walk: coefficient {stays.coefficients.item():.3f}, the last value is the prediction")


def state() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A state instead of a window: from one value at a time, as far back as it needs."""
    wave = Sine(600, period=40, noise=0.05, seed=1)
    past, future = wave.values[:400], wave.values[400:]
    gn.manual_seed(0)
    model = LatentAR(16, cell="gru")
    optimizer = gn.optim.Adam(model.parameters(), lr=0.01)
    bptt = tbptt(model, F.mse_loss, k=50)
    x, y = past[:-1].reshape(-1, 1, 1), past[1:].reshape(-1, 1, 1)
    for _ in range(60):
        for block in bptt(x, y):
            optimizer.zero_grad()
            block.backward()
            gn.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    for length in (1, 10, 300):
        _, h = model(past[:length].reshape(-1, 1, 1))
        print(f"input of {length:>3} values: state of shape {tuple(h.shape)}")
    ahead = {}
    for name, one in (("AR(1)", AR(1)), ("AR(10)", AR(10))):
        ahead[name] = one.fit(past).roll_out(past, len(future)).numpy()
    ahead["latent AR"] = model.roll_out(past.reshape(-1, 1, 1), len(future)).numpy().ravel()
    for name, values in ahead.items():
        error = np.sqrt(np.mean((values[:40] - future.numpy()[:40]) ** 2))
        print(f"{name:9s} rolled out for a period of 40: root mean squared error {error:.3f}")
    return wave.values.numpy(), ahead


def markov() -> None:
    """The last state alone: the past counts no more, once the present is known."""
    chain = MarkovChain([0.5, 0.5], [[0.9, 0.1], [0.4, 0.6]])
    gn.manual_seed(0)
    drawn = chain.sample(200, (100,))
    fitted = MarkovChain.fit(drawn)
    print("transitions fitted by counts", fitted.transition.double().numpy().round(3).tolist())
    print("stationary distribution", chain.stationary().double().numpy().round(4).tolist())
    strings = list(itertools.product(range(2), repeat=3))
    p = chain.log_prob(strings).exp().double().numpy().reshape(2, 2, 2)
    print(f"sum over all strings of length 3: {p.sum():.6f}")
    given = p / p.sum(axis=2, keepdims=True)
    print(f"P(X3=1 given X2=1) is {given[0, 1, 1]:.4f} after X1=0 and {given[1, 1, 1]:.4f} after X1=1")
    ends = p.sum(axis=1)
    print(f"yet P(X3=1 given X1=0) = {ends[0, 1] / ends[0].sum():.4f}, P(X3=1 given X1=1) = "
          f"{ends[1, 1] / ends[1].sum():.4f}")  # fmt: skip
    sequence = drawn[0]
    shuffled = gn.from_numpy(np.random.default_rng(0).permutation(sequence.numpy()))
    print(f"log-probability {chain.log_prob(sequence).item():.2f}, shuffled {chain.log_prob(shuffled).item():.2f}")


def draw(folder: Path, series: np.ndarray, ahead: dict[str, np.ndarray]) -> None:
    """Write a picture of the roll-outs."""
    if importlib.util.find_spec("matplotlib") is None:
        print("Matplotlib is not installed: no picture is written")
        return
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    start = len(series) - len(ahead["latent AR"])
    axes.plot(np.arange(start - 60, len(series)), series[start - 60 :], color="0.6", label="the series")
    for name, values in ahead.items():
        axes.plot(np.arange(start, len(series)), values, label=name)
    axes.axvline(start, color="black", linewidth=0.8)
    axes.set(xlabel="t", ylabel="x_t", title="Rolled out from the line on, each prediction from those before it")
    figure.legend(loc="outside right upper")
    figure.savefig(folder / "autoregressive.png", dpi=120)


def main() -> int:
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for a picture")
    arguments = parser.parse_args()
    window()
    series, ahead = state()
    markov()
    if arguments.out is not None:
        draw(arguments.out, series, ahead)
    return 0


if __name__ == "__main__":
    sys.exit(main())
