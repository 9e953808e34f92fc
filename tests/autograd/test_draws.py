"""Random numbers have the distributions they are named after: frequencies and moments of fixed seeds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import gpunet as gn


def generator(seed: int = 11) -> gn.Generator:
    return gn.Generator().manual_seed(seed)


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


WEIGHTS = [0.1, 0.0, 0.4, 0.2, 0.3]
# The 0.9999 quantile of chi-square with 3 degrees of freedom.
LIMIT3 = 21.1


def test_multinomial_with_replacement_has_the_given_frequencies() -> None:
    drawn = gn.multinomial(gn.tensor(WEIGHTS) * 7, 20_000, replacement=True, generator=generator()).numpy()
    counts = np.bincount(drawn, minlength=5)
    assert counts[1] == 0
    assert chi_square(counts[[0, 2, 3, 4]], 20_000 * np.array([0.1, 0.4, 0.2, 0.3])) < LIMIT3


def test_multinomial_without_replacement_draws_one_after_the_other() -> None:
    """P(first = i, second = j) = p_i p_j / (1 - p_i)."""
    p = np.array([0.1, 0.2, 0.7])
    drawn = gn.multinomial(gn.tensor(np.tile(p, (30_000, 1))), 2, generator=generator()).numpy()
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    counts = np.array([np.all(drawn == pair, axis=1).sum() for pair in pairs])
    assert counts.sum() == 30_000
    expected = 30_000 * np.array([p[i] * p[j] / (1 - p[i]) for i, j in pairs])
    assert chi_square(counts, expected) < 25.7  # 5 degrees of freedom, 0.9999


def test_rows_of_multinomial_have_their_own_weights() -> None:
    drawn = gn.multinomial(gn.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]), 1000, replacement=True).numpy()
    assert set(drawn[0]) == {0}
    assert set(drawn[1]) == {1, 2}


@pytest.mark.parametrize(
    ("draw", "mean", "variance"),
    [
        (lambda x, g: x.normal_(2.0, 3.0, generator=g), 2, 9),
        (lambda x, g: x.uniform_(-1.0, 3.0, generator=g), 1, 16 / 12),
        (lambda x, g: x.exponential_(4.0, generator=g), 1 / 4, 1 / 16),
        (lambda x, g: x.bernoulli_(0.3, generator=g), 0.3, 0.21),
        (lambda x, g: x.random_(2, 6, generator=g), 3.5, 15 / 12),
        (lambda x, g: x.geometric_(0.25, generator=g), 4, 12),
        (lambda x, g: x.log_normal_(0.0, 0.5, generator=g), math.exp(0.125), (math.exp(0.25) - 1) * math.exp(0.25)),
        (lambda x, g: gn.poisson(x.fill_(3.0), g), 3, 3),
        (lambda x, g: gn.normal(x.fill_(1.0), 0.5, generator=g), 1, 0.25),
        (lambda x, g: gn.normal(0.0, x.fill_(2.0), generator=g), 0, 4),
        (lambda x, g: gn.bernoulli(x.fill_(0.8), generator=g), 0.8, 0.16),
        (lambda x, g: gn.randint(-3, 4, x.shape, generator=g).double(), 0, 4),
    ],
    ids=["normal", "uniform", "exponential", "bernoulli", "random", "geometric", "log_normal", "poisson",
         "normal of means", "normal of deviations", "bernoulli of probabilities", "randint"],
)  # fmt: skip
def test_moments(draw: Callable[[gn.Tensor, gn.Generator], gn.Tensor], mean: float, variance: float) -> None:
    values = draw(gn.zeros(100_000, dtype=gn.float64), generator()).numpy()
    assert abs(values.mean() - mean) < 5 * math.sqrt(variance / values.size)
    assert abs(values.var() / variance - 1) < 0.1


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_uniform_numbers_never_reach_one(name: str) -> None:
    pytest.importorskip("ml_dtypes")
    values = gn.rand(100_000, dtype=getattr(gn, name), generator=generator()).double()
    assert values.max().item() < 1
    assert values.min().item() >= 0
    assert abs(values.mean().item() - 0.5) < 0.01


def test_permutations_are_uniform() -> None:
    g = generator()
    seen: dict[tuple[int, ...], int] = {}
    for _ in range(6000):
        order = tuple(gn.randperm(3, generator=g).tolist())
        seen[order] = seen.get(order, 0) + 1
    assert len(seen) == 6
    assert chi_square(np.array(list(seen.values())), np.full(6, 1000.0)) < 25.7


def test_a_generator_is_left_to_its_own_seed() -> None:
    first = gn.randn(4, generator=generator(5))
    gn.randn(100)
    assert (gn.randn(4, generator=generator(5)) == first).all()
    assert not (gn.randn(4, generator=generator(6)) == first).all()


def test_a_seed_of_the_system_is_another_each_time() -> None:
    g = gn.Generator()
    seeds = {g.seed() for _ in range(5)}
    assert len(seeds) == 5
    assert g.initial_seed() in seeds
    assert g.clone_state().get_state() == g.get_state()


def test_random_fills_count_as_writes() -> None:
    x = gn.ones(3, requires_grad=True)
    y = x * 2
    z = y * y
    y.normal_()
    with pytest.raises(gn.GradientError):
        z.sum().backward()


def test_fork_rng_can_be_switched_off() -> None:
    gn.manual_seed(1)
    before = gn.get_rng_state()
    with gn.fork_rng(enabled=False):
        gn.rand(1)
    assert gn.get_rng_state() != before
