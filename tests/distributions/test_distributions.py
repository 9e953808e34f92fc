"""Distributions without PyTorch: draws, shapes, gradients, checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import DTypeError, ShapeError
from gpunet.autograd.gradcheck import gradcheck
from gpunet.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
    Uniform,
    kl_divergence,
)

COUNT = 20_000


def mixture() -> MixtureSameFamily:
    return MixtureSameFamily(Categorical(gn.tensor([0.3, 0.7])), Normal(gn.tensor([0.0, 3.0]), gn.tensor([1.0, 0.5])))


DRAWN: dict[str, Callable[[], Distribution]] = {
    "Normal": lambda: Normal(gn.tensor([-1.0, 2.0]), gn.tensor([0.5, 3.0])),
    "Uniform": lambda: Uniform(gn.tensor([-1.0, 2.0]), gn.tensor([0.5, 3.0])),
    "Bernoulli": lambda: Bernoulli(gn.tensor([0.1, 0.6])),
    "Mixture": mixture,
    "Independent": lambda: Independent(Normal(gn.tensor([-1.0, 2.0]), 2.0), 1),
}


@pytest.mark.parametrize("name", DRAWN)
def test_draws_have_the_moments(name: str) -> None:
    """Mean within five standard errors, variance within 10 %."""
    distribution = DRAWN[name]()
    drawn = distribution.sample((COUNT,)).numpy().astype(np.float64)
    assert drawn.shape[1:] == (*distribution.batch_shape, *distribution.event_shape)
    mean, variance = distribution.mean.numpy(), distribution.variance.numpy()
    assert (abs(drawn.mean(0) - mean) < 5 * np.sqrt(variance / COUNT)).all()
    np.testing.assert_allclose(drawn.var(0), variance, rtol=0.1)
    np.testing.assert_allclose(distribution.stddev.numpy() ** 2, variance, rtol=1e-5)


def test_categories_are_drawn_by_their_probabilities() -> None:
    probs = np.array([[0.5, 0.0, 0.3, 0.2], [0.1, 0.2, 0.0, 0.7]])
    for distribution in (Categorical(gn.tensor(probs)), Categorical(logits=gn.tensor(np.log(probs + 1e-300)))):
        drawn = distribution.sample((COUNT,)).numpy()
        assert drawn.shape == (COUNT, 2)
        assert drawn.dtype == np.int64
        shares = np.stack([np.bincount(drawn[:, row], minlength=4) / COUNT for row in range(2)])
        assert (abs(shares - probs) <= 5 * np.sqrt(probs * (1 - probs) / COUNT)).all()


@pytest.mark.parametrize("name", [*DRAWN, "Categorical"])
def test_the_same_seed_draws_the_same(name: str) -> None:
    make = DRAWN.get(name, lambda: Categorical(gn.ones(2, 5)))
    drawn = []
    for seed in (1, 1, 2):
        gn.manual_seed(seed)
        drawn.append(make().sample((7,)).numpy())
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_draws_of_a_normal_distribution_are_those_of_randn() -> None:
    gn.manual_seed(5)
    drawn = Normal(2.0, 3.0).sample((4,)).numpy()
    gn.manual_seed(5)
    np.testing.assert_allclose(drawn, 2 + 3 * gn.randn(4).numpy(), rtol=1e-6)


def test_gradients_flow_through_draws() -> None:
    """d/dloc (loc + scale e) = 1 and d/dscale = e; sample has no gradient, rsample of a discrete one is not had."""
    loc, scale = gn.tensor(1.0, requires_grad=True), gn.tensor(2.0, requires_grad=True)
    drawn = Normal(loc, scale).rsample()
    drawn.backward()
    assert loc.grad is not None
    assert scale.grad is not None
    assert loc.grad.item() == 1
    assert abs(scale.grad.item() - (drawn.item() - 1) / 2) < 1e-6
    low, high = gn.tensor(1.0, requires_grad=True), gn.tensor(3.0, requires_grad=True)
    drawn = Uniform(low, high).rsample()
    drawn.backward()
    assert low.grad is not None
    assert high.grad is not None
    assert abs(high.grad.item() - (drawn.item() - 1) / 2) < 1e-6
    assert abs(low.grad.item() + high.grad.item() - 1) < 1e-6
    for distribution in (Normal(loc, scale), Uniform(low, high), Bernoulli(gn.tensor(0.5, requires_grad=True))):
        assert not distribution.sample().requires_grad
    for discrete in (Categorical(gn.ones(2)), Bernoulli(0.5), mixture()):
        with pytest.raises(NotImplementedError, match="rsample is not had"):
            discrete.rsample()


def test_gradcheck_of_log_prob_and_entropy() -> None:
    rng = np.random.default_rng(0)
    loc, value = (gn.tensor(rng.standard_normal(3), requires_grad=True) for _ in range(2))
    scale = gn.tensor(rng.random(3) + 0.5, requires_grad=True)
    logits = gn.tensor(rng.standard_normal((3, 4)), requires_grad=True)
    category = gn.tensor([0, 3, 1])
    assert gradcheck(lambda m, s, x: (Normal(m, s).log_prob(x), Normal(m, s).entropy()), (loc, scale, value))
    assert gradcheck(lambda m, s, x: (Normal(m, s).cdf(x), Normal(m, s).icdf(x.sigmoid())), (loc, scale, value))
    assert gradcheck(lambda z: (Categorical(logits=z).log_prob(category), Categorical(logits=z).entropy()), (logits,))
    assert gradcheck(lambda z: Categorical(z.exp()).log_prob(category), (logits,))
    assert gradcheck(lambda z: (Bernoulli(logits=z).entropy(), Bernoulli(z.sigmoid()).log_prob(1.0)), (loc,))

    def mixed(z: gn.Tensor, m: gn.Tensor, s: gn.Tensor, x: gn.Tensor) -> gn.Tensor:
        return MixtureSameFamily(Categorical(logits=z), Normal(m, s)).log_prob(x)

    assert gradcheck(mixed, (logits[0, :3].detach().requires_grad_(), loc, scale, value))


@pytest.mark.parametrize("name", ["Normal", "Uniform", "Mixture"])
def test_a_density_integrates_to_one_and_its_integral_is_the_cdf(name: str) -> None:
    distribution = {
        "Normal": Normal(gn.tensor(0.5, dtype=gn.float64), 1.5),
        "Uniform": Uniform(gn.tensor(-1.0, dtype=gn.float64), 2.0, validate_args=False),
        "Mixture": MixtureSameFamily(
            Categorical(gn.tensor([0.3, 0.7], dtype=gn.float64)),
            Normal(gn.tensor([0.0, 3.0], dtype=gn.float64), gn.tensor([1.0, 0.5], dtype=gn.float64)),
        ),
    }[name]
    x = np.linspace(-15, 15, 30_001)
    density = distribution.pdf(gn.tensor(x)).numpy()
    below = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2) * (x[1] - x[0])])
    assert abs(below[-1] - 1) < 2e-3
    assert abs(distribution.cdf(gn.tensor(x)).numpy() - below).max() < 2e-3


def test_divergence_of_a_uniform_from_a_normal_distribution_is_the_integral() -> None:
    """E[log p - log q] over p, by the midpoint rule; the other way round q is 0 where p is not."""
    low, high = -1.0, 2.5
    p, q = Uniform(gn.tensor(low, dtype=gn.float64), high), Normal(gn.tensor(0.3, dtype=gn.float64), 1.7)
    x = low + (np.arange(20_000) + 0.5) * (high - low) / 20_000
    wanted = (p.log_prob(gn.tensor(x)) - q.log_prob(gn.tensor(x))).mean().item()
    assert kl_divergence(p, q).item() == pytest.approx(wanted, rel=1e-7)
    backwards = kl_divergence(q, Uniform(gn.tensor([low, 0.0], dtype=gn.float64), high))
    assert backwards.tolist() == [math.inf, math.inf]


def test_a_uniform_log_prob_outside_has_the_gradient_of_its_density() -> None:
    """-inf is added to -log(high - low), whose gradient is 1 / (high - low) in low everywhere."""
    low, high = gn.tensor(1.0, requires_grad=True), gn.tensor(3.0, requires_grad=True)
    found = Uniform(low, high, validate_args=False).log_prob(gn.tensor([0.0, 2.0, 5.0]))
    assert found.tolist() == pytest.approx([-math.inf, -math.log(2), -math.inf])
    found.sum().backward()
    assert low.grad is not None
    assert high.grad is not None
    assert [low.grad.item(), high.grad.item()] == pytest.approx([1.5, -1.5])


def test_icdf_inverts_cdf() -> None:
    p = gn.linspace(0.01, 0.99, 50, dtype=gn.float64)
    for distribution in (Normal(gn.tensor(2.0, dtype=gn.float64), 3.0), Uniform(gn.tensor(2.0, dtype=gn.float64), 3.0)):
        np.testing.assert_allclose(distribution.cdf(distribution.icdf(p)).numpy(), p.numpy(), rtol=1e-9)


def test_probabilities_of_all_values_sum_to_one() -> None:
    for distribution in (Categorical(gn.tensor([[1.0, 2.0, 5.0], [1.0, 0.0, 3.0]])), Bernoulli(gn.tensor([0.2, 0.9]))):
        total = distribution.pdf(distribution.enumerate_support()).sum(0)
        np.testing.assert_allclose(total.numpy(), 1, rtol=1e-5)


def test_perplexity_counts_equally_probable_values() -> None:
    assert abs(Categorical(gn.ones(7)).perplexity().item() - 7) < 1e-4
    assert abs(Categorical(gn.tensor([1.0, 0.0, 1.0])).perplexity().item() - 2) < 1e-4


def test_divergence_is_the_expected_difference() -> None:
    """By quadrature for the normal one, exactly for the categorical one; 0 of a distribution from itself."""
    p, q = Normal(gn.tensor(0.3, dtype=gn.float64), 1.2), Normal(gn.tensor(-0.5, dtype=gn.float64), 0.8)
    x = gn.linspace(-15, 15, 30_001, dtype=gn.float64)
    expected = (p.pdf(x) * (p.log_prob(x) - q.log_prob(x))).sum().item() * 1e-3
    assert abs(kl_divergence(p, q).item() - expected) < 1e-6
    assert abs(kl_divergence(q, p).item() - expected) > 0.1
    a, b = Categorical(gn.tensor([0.2, 0.8], dtype=gn.float64)), Categorical(gn.tensor([0.5, 0.5], dtype=gn.float64))
    expected = 0.2 * math.log(0.4) + 0.8 * math.log(1.6)
    assert abs(kl_divergence(a, b).item() - expected) < 1e-12
    for same in (p, a, Uniform(0.0, 1.0), Bernoulli(0.3)):
        assert abs(kl_divergence(same, same).item()) < 1e-12


def test_many_categories_of_float16() -> None:
    """What the half type rounds in the sum is no reason to refuse it."""
    distribution = Categorical(gn.rand(3, 300).half())
    assert distribution.probs.dtype == np.float16
    assert distribution.sample((5,)).shape == (5, 3)


def test_nothing_is_drawn_of_an_empty_batch() -> None:
    assert tuple(Normal(gn.zeros(0, 3), 1.0).sample((2,)).shape) == (2, 0, 3)
    assert tuple(Categorical(gn.ones(0, 3)).sample((2,)).shape) == (2, 0)
    assert tuple(Categorical(gn.ones(2, 3)).sample((0,)).shape) == (0, 2)


def test_on_meta_there_are_shapes_alone() -> None:
    loc = gn.zeros(3, 2, device="meta")
    for distribution in (Normal(loc, 1.0), Uniform(loc, loc), Bernoulli(loc), Categorical(loc)):
        drawn = distribution.sample((4,))
        assert tuple(drawn.shape) == (4, *distribution.batch_shape)
        assert drawn.is_meta
        assert tuple(distribution.log_prob(drawn).shape) == (4, *distribution.batch_shape)


def test_repr() -> None:
    assert repr(Normal(0.0, 1.0)) == "Normal(loc: 0.0, scale: 1.0)"
    assert repr(Normal(gn.zeros(2), 1.0)) == "Normal(loc: (2,), scale: (2,))"
    assert repr(Categorical(logits=gn.zeros(2, 3))) == "Categorical(logits: (2, 3))"
    assert repr(mixture()) == "MixtureSameFamily(Categorical(probs: (2,)), Normal(loc: (2,), scale: (2,)))"


ERRORS: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("negative scale", lambda: Normal(0.0, -1.0), ValueError, "Normal: scale must be positive, got -1.0"),
    ("one bad scale", lambda: Normal(gn.zeros(3), gn.tensor([1.0, 0.0, -2.0])),
     ValueError, "Normal: scale must be positive, got 0.0"),
    ("NaN", lambda: Normal(math.nan, 1.0), ValueError, "Normal: loc must be a number, got nan"),
    ("integers", lambda: Normal(gn.tensor([1]), 1.0),
     DTypeError, "Normal: loc must be floating point, got int64"),
    ("text", lambda: Normal("0", 1.0), TypeError, "Normal: loc must be a number or a Tensor, got str"),
    ("shapes", lambda: Normal(gn.zeros(3), gn.ones(2)),
     ShapeError, "Normal: shapes (3,) and (2,) do not broadcast: sizes 3 and 2 at dimension -1 differ and neither is "
                 "1"),
    ("shape of the value", lambda: Normal(gn.zeros(3), 1.0).log_prob(gn.zeros(2)),
     ShapeError, "Normal: value must broadcast with batch_shape + event_shape (3,), got shape (2,)"),
    ("no value", lambda: Normal(0.0, 1.0).log_prob("a"),
     TypeError, "Normal: value must be a Tensor or a number, got str"),
    ("value NaN", lambda: Normal(0.0, 1.0).log_prob(math.nan), ValueError, "Normal: value must be a number, got nan"),
    ("sample shape", lambda: Normal(0.0, 1.0).sample(3),
     TypeError, "Normal: sample_shape must be a sequence of sizes, got 3"),
    ("low above high", lambda: Uniform(1.0, gn.tensor([2.0, 0.5])),
     ValueError, "Uniform: low must be below high, got 1.0 and 0.5"),
    ("value outside", lambda: Uniform(0.0, 1.0).log_prob(2.0),
     ValueError, "Uniform: value must be between 0 and 1, got 2.0"),
    ("no probability", lambda: Bernoulli(1.5), ValueError, "Bernoulli: probs must be between 0 and 1, got 1.5"),
    ("neither", lambda: Bernoulli(), ValueError, "Bernoulli: one of probs and logits must be given, got neither"),
    ("both", lambda: Categorical(gn.ones(2), gn.ones(2)),
     ValueError, "Categorical: one of probs and logits must be given, got both"),
    ("half a bit", lambda: Bernoulli(0.5).log_prob(0.5), ValueError, "Bernoulli: value must be 0 or 1, got 0.5"),
    ("negative weight", lambda: Categorical(gn.tensor([[0.5, 0.5], [-0.5, 1.5]])),
     ValueError, "Categorical: probs must be a vector of weights, none negative, with a positive and finite sum, got "
                 "[-0.5, 1.5]"),
    ("no weight", lambda: Categorical(gn.zeros(2)),
     ValueError, "Categorical: probs must be a vector of weights, none negative, with a positive and finite sum, got "
                 "[0.0, 0.0]"),
    ("no categories", lambda: Categorical(gn.tensor(1.0)),
     ShapeError, "Categorical: probs must be of shape (..., K) with K > 0, got ()"),
    ("list of weights", lambda: Categorical([0.5, 0.5]), TypeError, "Categorical: probs must be a Tensor, got list"),
    ("category too large", lambda: Categorical(gn.ones(3)).log_prob(gn.tensor([0, 3])),
     ValueError, "Categorical: value must be a whole number from 0 to 2, got 3"),
    ("half a category", lambda: Categorical(gn.ones(3)).log_prob(0.5),
     ValueError, "Categorical: value must be a whole number from 0 to 2, got 0.5"),
    ("components", lambda: MixtureSameFamily(Categorical(gn.ones(2)), Normal(gn.zeros(3), 1.0)),
     ShapeError, "MixtureSameFamily: component_distribution must have a batch of 2 components in its last dimension, "
                 "got batch shape (3,)"),
    ("component batch", lambda: MixtureSameFamily(Categorical(gn.ones(4, 2)), Normal(gn.zeros(3, 2), 1.0)),
     ShapeError, "MixtureSameFamily: batches must broadcast, got (4,) of the mixture and (3,) of its components"),
    ("mixture of normals", lambda: MixtureSameFamily(Normal(0.0, 1.0), Normal(gn.zeros(3), 1.0)),  # type: ignore[arg-type]
     TypeError, "MixtureSameFamily: mixture_distribution must be a Categorical, got Normal"),
    ("more dimensions than there are", lambda: Independent(Normal(gn.zeros(3), 1.0), 2),
     ValueError, "Independent: reinterpreted_batch_ndims must lie in 0..1, the dimensions of the batch, got 2"),
    ("independent of nothing", lambda: Independent(3, 0),  # type: ignore[arg-type]
     TypeError, "Independent: base_distribution must be a Distribution, got int"),
    ("no entropy", lambda: mixture().entropy(), NotImplementedError, "MixtureSameFamily: entropy is not had"),
    ("no divergence", lambda: kl_divergence(Normal(0.0, 1.0), Bernoulli(0.5)),
     NotImplementedError, "kl_divergence: not had for Normal and Bernoulli"),
    ("default", lambda: Distribution.set_default_validate_args(None),  # type: ignore[arg-type]
     ValueError, "set_default_validate_args: value must be True or False, got None"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "error", "text"), [entry[1:] for entry in ERRORS], ids=[entry[0] for entry in ERRORS])
def test_bad_input(act: Callable[[], Any], error: type[Exception], text: str) -> None:
    state = gn.get_rng_state()
    with pytest.raises(error) as caught:
        act()
    assert type(caught.value) is error
    assert str(caught.value) == text
    assert gn.get_rng_state() == state


def test_checks_can_be_left_out() -> None:
    assert math.isnan(Normal(0.0, -1.0, validate_args=False).log_prob(0.0).item())
    try:
        Distribution.set_default_validate_args(False)
        assert Uniform(0.0, 1.0).log_prob(2.0).item() == -math.inf
    finally:
        Distribution.set_default_validate_args(True)
    with pytest.raises(ValueError, match="value must be between"):
        Uniform(0.0, 1.0).log_prob(2.0)
