"""Rows B14 and B44: a likelihood, and what maximises it."""

from __future__ import annotations

import math

import numpy as np

import gpunet as gn
from gpunet.distributions import Normal


def test_b14_the_likelihood_of_three_means() -> None:
    """B14: N(x; mu) at x0 = 1, sigma = 1, with the logarithms of the golden facts."""
    normal = Normal(gn.tensor([-1.0, 0.0, 1.0], dtype=gn.float64), 1.0)
    np.testing.assert_allclose(normal.pdf(1.0).numpy(), [0.05399097, 0.24197072, 0.39894228], atol=5e-9)
    np.testing.assert_allclose(normal.log_prob(1.0).numpy(), [-2.91893853, -1.41893853, -0.91893853], atol=5e-9)


def test_b14_the_highest_is_at_the_observation() -> None:
    """B14: over mu the maximum is at mu = 1, where the derivative vanishes; the logarithm keeps the order."""
    steps = np.arange(100)  # no two means as far from 1
    means = gn.tensor(np.concatenate([1 - 0.01 * steps, 1 + 0.0137 * steps[1:]]))
    likelihood = Normal(means, 1.0).pdf(1.0).numpy()
    assert means.numpy()[likelihood.argmax()] == 1
    np.testing.assert_array_equal(np.argsort(likelihood), np.argsort(Normal(means, 1.0).log_prob(1.0).numpy()))
    for mu, sign in ((0.5, 1), (1.0, 0), (1.5, -1)):
        parameter = gn.tensor(mu, dtype=gn.float64, requires_grad=True)
        Normal(parameter, 1.0).log_prob(1.0).backward()
        assert parameter.grad is not None
        assert abs(parameter.grad.item() - sign * 0.5) < 1e-12


def test_b14_a_density_over_x_and_none_over_sigma() -> None:
    """B14: the integral over x is 1. The same number as a function of a parameter is no density of it.

    Over mu this one's integral happens to be 1, since x and mu enter as x - mu; over sigma it is infinite: it does not
    end at 20, nor at 2,000.
    """
    x = np.linspace(-20, 20, 40_001)
    for mu in (-1.0, 0.0, 1.0):
        density = Normal(mu, 1.0).pdf(gn.tensor(x)).numpy()
        assert abs(density.sum() * (x[1] - x[0]) - 1) < 1e-9
    areas = []
    for upper in (20.0, 2_000.0):
        sigma = np.geomspace(1e-3, upper, 200_001)
        likelihood = Normal(0.0, gn.tensor(sigma)).pdf(1.0).numpy()
        areas.append(float(np.trapezoid(likelihood, sigma)))
    assert areas[0] > 1.1
    assert areas[1] - areas[0] > 0.99 * math.log(100) / math.sqrt(2 * math.pi)


def test_b14_one_observation_needs_no_sum() -> None:
    """B14: of several observations the logarithms add up, as the densities multiply."""
    observed = gn.tensor([1.0, -0.3, 2.2], dtype=gn.float64)
    normal = Normal(0.4, 1.3)
    assert abs(normal.log_prob(observed).sum().item() - math.log(normal.pdf(observed).prod().item())) < 1e-12
    one = observed[:1]
    assert normal.log_prob(one).sum().item() == normal.log_prob(one).item()


def test_b44_the_sample_mean_and_variance_maximise_the_likelihood() -> None:
    """B44: in closed form (variance divided by n), by vanishing gradients there, and by gradient descent to there."""
    observed = gn.tensor(np.random.default_rng(0).normal(2.0, 1.5, 200))
    mean, deviation = observed.mean().item(), observed.std(correction=0).item()

    def mean_log_likelihood(mu: gn.Tensor, log_sigma: gn.Tensor) -> gn.Tensor:
        return Normal(mu, log_sigma.exp()).log_prob(observed).mean()

    at = [gn.tensor(value, dtype=gn.float64, requires_grad=True) for value in (mean, math.log(deviation))]
    best = mean_log_likelihood(*at)
    best.backward()
    assert all(abs(parameter.grad.item()) < 1e-12 for parameter in at if parameter.grad is not None)
    for shift in ((0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1)):
        moved = [gn.tensor(p.item() + s, dtype=gn.float64) for p, s in zip(at, shift, strict=True)]
        assert mean_log_likelihood(*moved).item() < best.item() - 1e-3
    with_n_minus_1 = gn.tensor(math.log(observed.std().item()), dtype=gn.float64)
    assert mean_log_likelihood(at[0].detach(), with_n_minus_1).item() < best.item()

    found = [gn.zeros((), dtype=gn.float64, requires_grad=True) for _ in range(2)]
    optimizer = gn.optim.SGD(found, lr=0.3)
    for _ in range(400):
        optimizer.zero_grad()
        (-mean_log_likelihood(*found)).backward()
        optimizer.step()
    assert abs(found[0].item() - mean) < 1e-6
    assert abs(found[1].exp().item() - deviation) < 1e-6
