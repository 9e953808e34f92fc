"""Distributions against PyTorch's: densities, moments, entropies and their gradients, shapes, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpunet.testing.parity import Case, case, check_case

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

RNG = np.random.default_rng(14)
LOC, SCALE = RNG.standard_normal((2, 3)), RNG.random((2, 3)) + 0.3
PROBS = RNG.random((2, 3)) * 0.8 + 0.1
WEIGHTS = RNG.random((2, 4)) + 0.1
LOGITS = RNG.standard_normal((2, 4))
CATEGORIES = np.array([[0, 3], [1, 1], [2, 0]])
BITS = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
INF, NAN = float("inf"), float("nan")

CASES: list[Case] = []


def add(label: str, run: Callable[..., Any], *inputs: Any, **bounds: Any) -> None:
    """A case of distributions: ``run`` takes the module of distributions and the inputs."""
    CASES.append(case(label, lambda m, *tensors: run(m.distributions, *tensors), *inputs, **bounds))


def of(name: str, make: Callable[..., Any], *parameters: Any, value: Any, moments: tuple[str, ...] = ()) -> None:
    """What a distribution gives: log_prob of a value that is detached where it has no gradient, moments, entropy."""
    add(f"{name} log_prob", lambda d, x, *p: make(d, *p).log_prob(x), value, *parameters)
    for moment in ("mean", "variance", "stddev", "mode", *moments):
        add(f"{name} {moment}", lambda d, *p, moment=moment: getattr(make(d, *p), moment), *parameters)
    add(f"{name} entropy", lambda d, *p: make(d, *p).entropy(), *parameters)
    add(f"{name} perplexity", lambda d, *p: make(d, *p).perplexity(), *parameters)
    add(
        f"{name} shapes",
        lambda d, *p: [
            [list(one.batch_shape), list(one.event_shape), list(one.sample().shape), list(one.sample((4, 5)).shape)]
            for one in (make(d, *p), make(d, *p).expand((5, 2, 3) if name != "Categorical" else (5, 2)))
        ],
        *parameters,
    )
    add(
        f"{name} has",
        lambda d, *p: [bool(make(d, *p).has_rsample), make(d, *p).has_enumerate_support],
        *parameters,
    )


# fmt: off
of("Normal", lambda d, a, b: d.Normal(a, b), LOC, SCALE, value=(4, 2, 3))
add("Normal numbers", lambda d, x: d.Normal(0, 2).log_prob(x), (3,))
add("Normal number and tensor", lambda d, x, s: d.Normal(0.5, s).log_prob(x), (3,), SCALE[0])
add("Normal broadcast", lambda d, x, m, s: d.Normal(m, s).log_prob(x), (4, 1, 3), LOC, SCALE[:, :1])
add("Normal cdf", lambda d, x, m, s: d.Normal(m, s).cdf(x), (4, 2, 3), LOC, SCALE)
add("Normal icdf", lambda d, p, m, s: d.Normal(m, s).icdf(p), PROBS, LOC, SCALE)
add("Normal icdf of no probability", lambda d, p: d.Normal(0.0, 1.0).icdf(p.detach()), np.array([0.0, 1.0, 2.0]))
add("Normal far value", lambda d, x: d.Normal(0.0, 1e-3).log_prob(x), np.array([0.0, 10.0, -300.0]))
add("Normal gradients of draws", lambda d, m, s: d.Normal(m, s).rsample((2,)) * 0 + m + s, LOC, SCALE)
add("Normal draws have no gradient", lambda d, m, s: d.Normal(m, s).sample().requires_grad, LOC, SCALE)
add("Normal draws have a gradient", lambda d, m, s: d.Normal(m, s).rsample().requires_grad, LOC, SCALE)
add("Normal integer value", lambda d, x: d.Normal(0.0, 1.0).log_prob(x), np.arange(3))

of("Uniform", lambda d, a, b: d.Uniform(a, a + b), LOC, SCALE, value=LOC + SCALE * 0.4)
add("Uniform at the ends", lambda d, x: d.Uniform(0.0, 2.0).log_prob(x).detach(), np.array([0.0, 2.0]))
add("Uniform outside", lambda d, x: d.Uniform(0.0, 2.0, validate_args=False).log_prob(x).detach(),
    np.array([-1.0, 3.0]))
add("Uniform outside, with gradients", lambda d, x, a, b: d.Uniform(a, a + b, validate_args=False).log_prob(x.detach()),
    np.stack([LOC + SCALE * where for where in (-0.5, 0.3, 1.7)]), LOC, SCALE)
add("Uniform cdf", lambda d, x, a, b: d.Uniform(a, a + b, validate_args=False).cdf(x), (4, 2, 3), LOC, SCALE)
add("Uniform icdf", lambda d, p, a, b: d.Uniform(a, a + b).icdf(p), PROBS, LOC, SCALE)

of("Bernoulli", lambda d, p: d.Bernoulli(p), PROBS, value=BITS, moments=("probs", "logits"))
of("Bernoulli logits", lambda d, x: d.Bernoulli(logits=x), LOC, value=BITS, moments=("probs", "logits"))
add("Bernoulli certain", lambda d, x, p: d.Bernoulli(p.detach()).log_prob(x.detach()), np.array([0.0, 1.0, 1.0]),
    np.array([0.0, 0.0, 1.0]))
add("Bernoulli certain entropy", lambda d, p: d.Bernoulli(p.detach()).entropy(), np.array([0.0, 1.0, 0.5]))
add("Bernoulli mode of each kind", lambda d, p: d.Bernoulli(p.detach()).mode, np.array([0.2, 0.5, 0.8]))
add("Bernoulli values", lambda d, p: d.Bernoulli(p).enumerate_support(), PROBS)
add("Bernoulli values without expand", lambda d, p: d.Bernoulli(p).enumerate_support(expand=False), PROBS)
add("Bernoulli param_shape", lambda d, p: list(d.Bernoulli(p).param_shape), PROBS)
add("Bernoulli number", lambda d, x: d.Bernoulli(0.3).log_prob(x.detach()), np.array([0.0, 1.0]),
    at_least=1e-6)  # the probability is of float32
add("Bernoulli broadcast", lambda d, x, p: d.Bernoulli(p).log_prob(x.detach()), BITS[:, :1], PROBS)

of("Categorical", lambda d, p: d.Categorical(p), WEIGHTS, value=CATEGORIES, moments=("probs", "logits"))
for moment in ("log_prob", "entropy", "probs", "logits", "mode"):
    add(f"Categorical of logits {moment}",
        lambda d, x, v, moment=moment: d.Categorical(logits=x).log_prob(v) if moment == "log_prob"
        else d.Categorical(logits=x).entropy() if moment == "entropy" else getattr(d.Categorical(logits=x), moment),
        LOGITS, CATEGORIES)
add("Categorical integer weights", lambda d, p: d.Categorical(p).probs, np.array([1, 2, 5]))
add("Categorical certain", lambda d, p, v: d.Categorical(p.detach()).log_prob(v), np.array([0.0, 1.0]), np.arange(2))
add("Categorical certain entropy", lambda d, p: d.Categorical(p.detach()).entropy(), np.array([0.0, 1.0, 0.0]))
add("Categorical impossible logit", lambda d, x: d.Categorical(logits=x.detach()).entropy(),
    np.array([0.3, -INF, 1.0]))
add("Categorical values", lambda d, p: d.Categorical(p).enumerate_support(), WEIGHTS)
add("Categorical values without expand", lambda d, p: d.Categorical(p).enumerate_support(expand=False), WEIGHTS)
add("Categorical floating value", lambda d, p: d.Categorical(p).log_prob(p.detach()[0] * 0 + 2), np.ones((4, 3)))
add("Categorical drawn dtype", lambda d, p: d.Categorical(p).sample((3,)) * 0, WEIGHTS)
add("Categorical param_shape", lambda d, p: list(d.Categorical(p).param_shape), WEIGHTS)


def mixture(d: Any, x: Any, m: Any, s: Any) -> Any:
    return d.MixtureSameFamily(d.Categorical(logits=x), d.Normal(m, s))


MIX = (LOGITS, RNG.standard_normal((2, 4)), RNG.random((2, 4)) + 0.3)
add("MixtureSameFamily log_prob", lambda d, v, *p: mixture(d, *p).log_prob(v), (3, 2), *MIX)
add("MixtureSameFamily mean", lambda d, *p: mixture(d, *p).mean, *MIX)
add("MixtureSameFamily variance", lambda d, *p: mixture(d, *p).variance, *MIX)
add("MixtureSameFamily cdf", lambda d, v, *p: mixture(d, *p).cdf(v), (3, 2), *MIX)
add("MixtureSameFamily far value", lambda d, v, *p: mixture(d, *p).log_prob(v * 100), (3, 2), *MIX)
add("MixtureSameFamily shapes",
    lambda d, *p: [[list(one.batch_shape), list(one.event_shape), list(one.sample((3,)).shape)]
                   for one in (mixture(d, *p), mixture(d, *p).expand((5, 2)))], *MIX)
add("MixtureSameFamily one mixture of all",
    lambda d, v, x, m, s: d.MixtureSameFamily(d.Categorical(logits=x), d.Normal(m, s)).log_prob(v),
    (3, 2), LOGITS[0], *MIX[1:])
add("MixtureSameFamily of vectors",
    lambda d, v, x, m, s: d.MixtureSameFamily(d.Categorical(logits=x), d.Independent(d.Normal(m, s), 1)).log_prob(v),
    (2, 3), LOGITS, (2, 4, 3), RNG.random((2, 4, 3)) + 0.3)
add("MixtureSameFamily moments of vectors",
    lambda d, x, m, s: [getattr(d.MixtureSameFamily(d.Categorical(logits=x), d.Independent(d.Normal(m, s), 1)), one)
                        for one in ("mean", "variance")],
    LOGITS, (2, 4, 3), RNG.random((2, 4, 3)) + 0.3)
add("MixtureSameFamily entropy", lambda d, *p: mixture(d, *p).entropy(), *MIX)
for taken in (0, 1, 2, 3):
    add(f"Independent {taken} log_prob", lambda d, v, m, s, n=taken: d.Independent(d.Normal(m, s), n).log_prob(v),
        (4, 2, 3), LOC, SCALE)
    add(f"Independent {taken} entropy", lambda d, m, s, n=taken: d.Independent(d.Normal(m, s), n).entropy(), LOC, SCALE)
    add(f"Independent {taken} shapes",
        lambda d, m, s, n=taken: [list(d.Independent(d.Normal(m, s), n).batch_shape),
                                  list(d.Independent(d.Normal(m, s), n).event_shape),
                                  list(d.Independent(d.Normal(m, s), n).rsample((3,)).shape)], LOC, SCALE)
add("Independent moments", lambda d, m, s: [getattr(d.Independent(d.Normal(m, s), 1), one)
                                            for one in ("mean", "variance", "stddev", "mode")], LOC, SCALE)
add("Independent expand", lambda d, v, m, s: d.Independent(d.Normal(m, s), 1).expand((5, 2)).log_prob(v), (2, 3), LOC,
    SCALE)

add("kl_divergence Normal", lambda d, a, b, p, q: d.kl_divergence(d.Normal(a, p), d.Normal(b, q)), LOC,
    LOC[::-1].copy(), SCALE, SCALE[::-1].copy())
add("kl_divergence Uniform inside", lambda d, a, b: d.kl_divergence(d.Uniform(a, b), d.Uniform(a - 1, b + 2)),
    LOC, LOC + SCALE)
add("kl_divergence Uniform outside",
    lambda d, a, b: d.kl_divergence(d.Uniform(a, a + b), d.Uniform(a + 0.1, a + b + 1)).detach(), LOC, SCALE)
add("kl_divergence Normal and Uniform", lambda d, m, s, a, b: d.kl_divergence(d.Normal(m, s), d.Uniform(a, a + b)),
    LOC, SCALE, LOC[::-1].copy(), SCALE)
add("kl_divergence Normal and Uniform of another shape",
    lambda d, a, b: d.kl_divergence(d.Normal(0.0, 1.0), d.Uniform(a, a + b)), LOC, SCALE)
add("kl_divergence Uniform and Normal", lambda d, a, b, m, s: d.kl_divergence(d.Uniform(a, a + b), d.Normal(m, s)),
    LOC, SCALE, LOC[::-1].copy(), SCALE[::-1].copy())
add("kl_divergence Uniform and Normal of another shape",
    lambda d, a, b: d.kl_divergence(d.Uniform(a, a + b), d.Normal(0.5, 2.0)), LOC, SCALE)
add("kl_divergence Bernoulli", lambda d, p, q: d.kl_divergence(d.Bernoulli(p), d.Bernoulli(q)), PROBS,
    PROBS[::-1].copy())
add("kl_divergence Bernoulli certain",
    lambda d, p, q: d.kl_divergence(d.Bernoulli(p.detach()), d.Bernoulli(q.detach())), np.array([0.0, 1.0, 0.5, 0.0]),
    np.array([0.3, 0.3, 0.0, 0.0]))
add("kl_divergence Categorical", lambda d, p, x: d.kl_divergence(d.Categorical(p), d.Categorical(logits=x)), WEIGHTS,
    LOGITS)
add("kl_divergence Categorical certain",
    lambda d, p, q: d.kl_divergence(d.Categorical(p.detach()), d.Categorical(q.detach())),
    np.array([[0.0, 1.0], [0.5, 0.5]]), np.array([[0.3, 0.7], [0.0, 1.0]]))
add("kl_divergence Independent",
    lambda d, a, b, p: d.kl_divergence(d.Independent(d.Normal(a, p), 1), d.Independent(d.Normal(b, p), 1)), LOC,
    LOC[::-1].copy(), SCALE)
add("kl_divergence of other families", lambda d, p: d.kl_divergence(d.Bernoulli(p), d.Normal(p, 1.0)), PROBS)

# What is refused, and what is not where nothing is checked.
for label, refused in {
    "Normal negative scale": lambda d, x: d.Normal(x, -1.0),
    "Normal scale of 0": lambda d, x: d.Normal(x, 0.0),
    "Normal parameters of different shapes": lambda d, x: d.Normal(x, x.abs()[:2] + 1),
    "Normal value of another shape": lambda d, x: d.Normal(x, 1.0).log_prob(x[:2]),
    "Normal value NaN": lambda d, x: d.Normal(x, 1.0).log_prob(x * NAN),
    "Normal sample shape": lambda d, x: d.Normal(x, 1.0).sample(3),
    "Normal expand": lambda d, x: d.Normal(x, 1.0).expand((4,)),
    "Uniform empty": lambda d, x: d.Uniform(x, x),
    "Uniform value outside": lambda d, x: d.Uniform(0.0, 1.0).log_prob(x + 10),
    "Bernoulli neither": lambda d, x: d.Bernoulli(),
    "Bernoulli no probability": lambda d, x: d.Bernoulli(x * 0 + 1.5),
    "Bernoulli value": lambda d, x: d.Bernoulli(0.5).log_prob(x * 0 + 0.5),
    "Categorical both": lambda d, x: d.Categorical(x.exp(), x),
    "Categorical negative": lambda d, x: d.Categorical(x - x.amin() - 0.1),
    "Categorical all negative": lambda d, x: d.Categorical(x * 0 - 1.0),
    "Categorical zeros": lambda d, x: d.Categorical(x * 0),
    "Categorical number": lambda d, x: d.Categorical(x.sum().exp()),
    "Categorical value too large": lambda d, x: d.Categorical(x.exp()).log_prob((x * 0 + 3).sum()),
    "Categorical value between": lambda d, x: d.Categorical(x.exp()).log_prob((x * 0 + 0.5)[0]),
    "MixtureSameFamily number of components":
        lambda d, x: d.MixtureSameFamily(d.Categorical(x.exp()), d.Normal(x[:2], 1.0)),
    "MixtureSameFamily of no Categorical": lambda d, x: d.MixtureSameFamily(d.Normal(x, 1.0), d.Normal(x, 1.0)),
}.items():
    add(label, refused, (3,))
add("Normal unchecked", lambda d, x: d.Normal(x, -1.0, validate_args=False).mean, (3,))
add("Normal number for log_prob", lambda d, m: d.Normal(m, 1.0).log_prob(0.5), (3,))
add("Normal integer parameters", lambda d, m: d.Normal(m, 1.0).log_prob(m), np.arange(3))
# fmt: on


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


def test_every_label_is_unique() -> None:
    assert len({one.label for one in CASES}) == len(CASES)
