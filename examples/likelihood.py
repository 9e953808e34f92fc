"""A density and a likelihood are one formula read in two ways, and what maximises a likelihood.

    python examples/likelihood.py [--out FOLDER]

N(x; mu) is a density over x: its integral over x is 1. With the observation x0 in place of x it is a function of mu,
the likelihood: it says how well each mu explains x0, and is no probability of mu. With ``--out``, and where Matplotlib
is installed, both are drawn: the curves with the line x = x0, and the likelihood.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np

import gpunet as gn
from gpunet.distributions import Normal

X0 = 1.0
MEANS = (-1.0, 0.0, 1.0)


def one_observation() -> None:
    """How likely x0 = 1 is under three means, and under all of them."""
    normal = Normal(gn.tensor(MEANS, dtype=gn.float64), 1.0)
    for mu, density, logarithm in zip(MEANS, normal.pdf(X0).tolist(), normal.log_prob(X0).tolist(), strict=True):
        print(f"N({X0:g}; mu = {mu:2g}) = {density:.8f}, log {logarithm:.8f}")
    x = gn.linspace(-20, 20, 40_001, dtype=gn.float64)
    areas = [Normal(mu, 1.0).pdf(x).sum().item() * 1e-3 for mu in MEANS]
    print("integral over x:", *(f"{area:.6f}" for area in areas))
    means = gn.linspace(-3, 5, 8001, dtype=gn.float64)
    likelihood = Normal(means, 1.0).pdf(X0)
    print(f"the likelihood is largest at mu = {means[likelihood.argmax()].item():.3f}")
    # Over mu the area happens to be 1, as x and mu enter as x - mu. Over sigma it does not even end.
    for upper in (20.0, 2_000.0):
        sigma = np.geomspace(1e-3, upper, 200_001)
        area = np.trapezoid(Normal(0.0, gn.tensor(sigma)).pdf(X0).numpy(), sigma)
        print(f"area under the likelihood of sigma, up to {upper:g}: {area:.3f}")


def many_observations() -> None:
    """Mean and standard deviation of the highest likelihood: in closed form, and found by gradients."""
    observed = gn.tensor(np.random.default_rng(0).normal(2.0, 1.5, 200))
    mean, deviation = observed.mean().item(), observed.std(correction=0).item()
    print(f"closed form: mean {mean:.6f}, standard deviation {deviation:.6f} (divided by n)")
    loc, log_scale = (gn.zeros((), dtype=gn.float64, requires_grad=True) for _ in range(2))
    optimizer = gn.optim.SGD([loc, log_scale], lr=0.3)
    for step in range(301):
        optimizer.zero_grad()
        loss = -Normal(loc, log_scale.exp()).log_prob(observed).mean()
        loss.backward()
        if step in (0, 3, 10, 30, 300):
            found = f"mean {loc.item():.6f}, standard deviation {log_scale.exp().item():.6f}"
            print(f"step {step}: {found}, -log likelihood {loss.item():.6f} per observation")
        optimizer.step()


def draw(out: Path) -> None:
    """The picture of ``gn.inspect.plot_likelihood``."""
    out.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("matplotlib") is None:
        print("Matplotlib is not installed: no picture is written")
        return
    gn.inspect.plot_likelihood(X0, MEANS, path=out / "likelihood.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, help="folder for the picture")
    arguments = parser.parse_args()
    one_observation()
    many_observations()
    if arguments.out is not None:
        draw(arguments.out)
