"""Mixture density networks: the facts of row B90, gradients, and draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.autograd.gradcheck import gradcheck
from gpunet.distributions import Categorical, Independent, MixtureSameFamily, Normal

# pi, mu and sigma of the golden facts, and what they give at y = 0.5.
PI, MU, SIGMA, Y, P, NLL = (0.3, 0.7), (0.0, 1.0), (1.0, 0.5), 0.5, 0.44437861, 0.81107835


def column(*values: float) -> gn.Tensor:
    return gn.tensor(values, dtype=gn.float64).unsqueeze(-1)


def draw(*shape: int, seed: int = 0) -> gn.Tensor:
    return gn.tensor(np.random.default_rng(seed).standard_normal(shape))


def test_b90_the_golden_mixture() -> None:
    """B90: p = .44437861 and nll = .81107835 at y = .5, by the loss, the distribution and the formula."""
    log_pi = gn.tensor(PI, dtype=gn.float64).log()
    loss = F.mdn_loss(log_pi, column(*MU), column(*SIGMA), gn.tensor([Y], dtype=gn.float64)).item()
    assert abs(loss - NLL) < 5e-9
    assert abs(math.exp(-loss) - P) < 5e-9
    mixture = MixtureSameFamily(
        Categorical(gn.tensor(PI, dtype=gn.float64)),
        Normal(gn.tensor(MU, dtype=gn.float64), gn.tensor(SIGMA, dtype=gn.float64)),
    )
    assert abs(mixture.pdf(Y).item() - P) < 5e-9
    assert abs(mixture.log_prob(Y).item() + NLL) < 5e-9
    by_hand = sum(
        p * math.exp(-((Y - m) ** 2) / (2 * s * s)) / (s * math.sqrt(2 * math.pi))
        for p, m, s in zip(PI, MU, SIGMA, strict=True)
    )
    assert abs(by_hand - P) < 5e-9


def test_b90_one_component_is_the_gaussian_loss() -> None:
    """B90: K = 1 is the negative log-likelihood of a normal distribution."""
    mu, sigma, target = draw(6, 1, 3), draw(6, 1, 3, seed=1).exp(), draw(6, 3, seed=2)
    zero = gn.zeros(6, 1, dtype=gn.float64)
    found = F.mdn_loss(zero, mu, sigma, target, reduction="none")
    expected = F.gaussian_nll_loss(mu[:, 0], target, sigma[:, 0] ** 2, full=True, reduction="none").sum(-1)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12)


def test_b90_pi_sums_to_one_and_sigma_is_positive() -> None:
    """B90: whatever comes in, even where exp(z) is 0 in float32; K Linear outputs become pi, K O each mu and sigma."""
    layer = nn.MDN(4, 2, 3)
    for scale in (1.0, 1e3):
        mixture = layer(gn.randn(50, 4) * scale)
        assert [tuple(x.shape) for x in mixture] == [(50, 3), (50, 3, 2), (50, 3, 2)]
        np.testing.assert_allclose(mixture.pi.sum(-1).detach().numpy(), 1, rtol=1e-5)
        assert (mixture.sigma > 0).all()
    assert (layer(gn.randn(50, 4) * 1e3).sigma.detach().numpy() <= 1.1e-6).any()  # exp(z) alone would be 0
    assert sum(p.numel() for p in layer.parameters()) == (4 + 1) * (3 + 6 + 6)
    loss = F.mdn_loss(*layer(gn.randn(50, 4) * 10), gn.randn(50, 2) * 10)
    loss.backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in layer.parameters() if p.grad is not None)


def test_the_loss_is_that_of_the_distribution() -> None:
    """As MixtureSameFamily has it, for several outputs, and every reduction."""
    log_pi, mu, sigma, target = draw(5, 3).log_softmax(-1), draw(5, 3, 2), draw(5, 3, 2, seed=3).exp(), draw(5, 2)
    mixture = MixtureSameFamily(Categorical(logits=log_pi), Independent(Normal(mu, sigma), 1))
    expected = -mixture.log_prob(target).numpy()
    np.testing.assert_allclose(F.mdn_loss(log_pi, mu, sigma, target, "none").numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(F.mdn_loss(log_pi, mu, sigma, target).item(), expected.mean(), rtol=1e-12)
    np.testing.assert_allclose(F.mdn_loss(log_pi, mu, sigma, target, "sum").item(), expected.sum(), rtol=1e-12)
    parameters = nn.MixtureParameters(log_pi, mu, sigma)
    np.testing.assert_allclose(parameters.mean.numpy(), mixture.mean.numpy(), rtol=1e-12)


def test_far_targets_have_a_finite_loss() -> None:
    """exp(-5e7) is 0: the loss is taken without it, and its gradient pulls the nearest mean."""
    mu = gn.tensor([[[0.0], [100.0]]], requires_grad=True)
    loss = F.mdn_loss(gn.tensor([[0.5, 0.5]]).log(), mu, gn.ones(1, 2, 1), gn.tensor([[10_100.0]]))
    assert abs(loss.item() / 5e7 - 1) < 1e-5
    loss.backward()
    assert mu.grad is not None
    np.testing.assert_allclose(mu.grad.numpy().ravel(), [0, -1e4], rtol=1e-5)


@pytest.mark.parametrize("dtype", [gn.float32, gn.float64])
@pytest.mark.parametrize("scale", [1e2, 1e4, 1e6])
def test_inputs_of_any_size_have_finite_losses_and_gradients(scale: float, dtype: np.dtype) -> None:
    """exp(1e4) is infinite: a deviation goes on along the tangent before that, and min_sigma holds at the other end."""
    gn.manual_seed(0)
    layer = nn.MDN(4, 2, 3, dtype=dtype)
    mixture = layer(gn.randn(50, 4, dtype=dtype) * scale)
    loss = F.mdn_loss(*mixture, gn.randn(50, 2, dtype=dtype))
    loss.backward()
    assert math.isfinite(loss.item())
    assert np.isfinite(mixture.sigma.detach().numpy()).all()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None
        assert np.isfinite(parameter.grad.numpy()).all(), name


def test_a_deviation_that_is_far_too_wide_comes_back() -> None:
    """Beyond the bend at b, where exp(b)^2 is the largest number, sigma = exp(b) (1 + z - b), and d log sigma / dz > 0.

    Below, it is exp(z) + min_sigma.
    """
    layer = nn.MDN(1, 1, 1, min_sigma=1e-6, dtype=gn.float64)
    bend = math.log(float(np.finfo(np.float64).max)) / 2
    for z, wanted, slope in ((-2.0, math.exp(-2), 1.0), (20.0, math.exp(20), 1.0), (1e4, None, 1 / (1 + 1e4 - bend))):
        layer.zero_grad()
        with gn.no_grad():
            for one in layer.parameters():
                one.fill_(0.0)
            layer.log_sigma.bias.fill_(z)
        mixture = layer(gn.zeros(1, 1, dtype=gn.float64))
        expected = math.exp(bend) * (1 + z - bend) if wanted is None else wanted + 1e-6
        assert mixture.sigma.item() == pytest.approx(expected, rel=1e-9)
        F.mdn_loss(*mixture, gn.zeros(1, 1, dtype=gn.float64)).backward()  # at the mean: log sigma alone
        assert layer.log_sigma.bias.grad is not None
        assert layer.log_sigma.bias.grad.item() == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("value, shown", [(0.0, "0"), (-2.0, "-2"), (math.nan, "nan")])
def test_deviations_must_be_positive(value: float, shown: str) -> None:
    """As Normal's, also where the component has no probability; there are no values to look at on meta."""
    sigma = gn.tensor([[[1.0], [value]]])
    log_pi = gn.tensor([[0.0, -math.inf]])
    with pytest.raises(ValueError, match=rf"^sigma: standard deviations must be positive; got {shown}$"):
        F.mdn_loss(log_pi, gn.zeros(1, 2, 1), sigma, gn.zeros(1, 1))
    on_meta = (one.to("meta") for one in (log_pi, gn.zeros(1, 2, 1), sigma, gn.zeros(1, 1)))
    assert F.mdn_loss(*on_meta).shape == ()


@pytest.mark.gpu
def test_a_gpu_is_not_waited_for_to_look_at_deviations() -> None:
    """The error comes where the loss is read, and a good sigma after it is not blamed."""
    with gn.device("cuda"):
        log_pi, zeros, target = gn.zeros(1, 2).log_softmax(-1), gn.zeros(1, 2, 1), gn.zeros(1, 1)
        loss = F.mdn_loss(log_pi, zeros, gn.tensor([[[1.0], [0.0]]]), target)
        with pytest.raises(ValueError, match=r"^sigma: standard deviations must be positive$"):
            loss.item()
        assert math.isfinite(F.mdn_loss(log_pi, zeros, zeros + 1, target).item())
        loss = F.mdn_loss(log_pi.exp(), zeros, zeros + 1, target)
        with pytest.raises(ValueError, match=r"^log_pi: must be logarithms of probabilities that sum to 1, as log_"):
            loss.item()


@pytest.mark.parametrize(
    "log_pi, shown",
    [((0.3, 0.7), "3.36361"), ((0.0, 0.0), "2"), ((-1.0, -1.0), "0.735759"), ((-math.inf, -math.inf), "0"),
     ((math.nan, 0.0), "nan")],
)  # fmt: skip
def test_probabilities_are_no_logarithms(log_pi: tuple[float, ...], shown: str) -> None:
    """exp(.3) + exp(.7) = 3.36361: what would have been a loss without a meaning; there are no values on meta."""
    given = gn.tensor([(math.log(0.4), math.log(0.6)), log_pi]), gn.zeros(2, 2, 1), gn.ones(2, 2, 1), gn.zeros(2, 1)
    rule = "log_pi: must be logarithms of probabilities that sum to 1, as log_softmax gives"
    with pytest.raises(ValueError, match=rf"^{rule}; got a sum of {shown}$"):
        F.mdn_loss(*given)
    assert F.mdn_loss(*(one.to("meta") for one in given)).shape == ()


@pytest.mark.parametrize("dtype", [gn.float16, gn.bfloat16, gn.float32, gn.float64])
def test_what_log_softmax_rounds_is_taken(dtype: np.dtype) -> None:
    """The sum over 1000 components of scores from -20 to 20, in any floating dtype."""
    log_pi = (gn.rand(8, 1000, dtype=gn.float64) * 40 - 20).to(dtype).log_softmax(-1)
    mu = gn.zeros(8, 1000, 1, dtype=dtype)
    assert np.isfinite(float(F.mdn_loss(log_pi, mu, mu + 1, gn.zeros(8, 1, dtype=dtype)).item()))
    assert F.mdn_loss(log_pi[:0], mu[:0], mu[:0] + 1, gn.zeros(0, 1, dtype=dtype), "none").shape == (0,)


def test_gradients() -> None:
    layer = nn.MDN(3, 2, 2, dtype=gn.float64)
    x, target = draw(4, 3).requires_grad_(), draw(4, 2, seed=1).requires_grad_()
    assert gradcheck(lambda h, t: F.mdn_loss(*layer(h), t), (x, target), parameters=list(layer.parameters()))


def test_components_that_start_apart() -> None:
    """Means evenly between the ends, deviations half of their distance, whatever the input."""
    mixture = nn.MDN(3, 2, 4).spread_(-1.0, 3.0)(gn.randn(5, 3))
    expected = np.broadcast_to(np.array([-0.5, 0.5, 1.5, 2.5])[:, None], (5, 4, 2))
    np.testing.assert_allclose(mixture.mu.detach().numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(mixture.sigma.detach().numpy(), 0.5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"^spread_: high must be above low, got 1.0 and 1.0$"):
        nn.MDN(3, 2, 4).spread_(1.0, 1.0)


def test_draws_follow_the_mixture() -> None:
    """Two components far apart: their shares, means and deviations, each within five standard errors."""
    count = 20_000
    log_pi = gn.tensor([0.25, 0.75]).log().expand(count, 2)
    mu = gn.tensor([[-10.0, 5.0], [10.0, -5.0]]).expand(count, 2, 2)
    sigma = gn.tensor([[1.0, 0.5], [2.0, 0.1]]).expand(count, 2, 2)
    drawn = F.mdn_sample(log_pi, mu, sigma)
    assert tuple(drawn.shape) == (count, 2)
    assert not drawn.requires_grad
    found = drawn.numpy()
    first = found[:, 0] < 0
    assert abs(first.mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / count)
    for chosen, means, deviations in ((first, (-10, 5), (1.0, 0.5)), (~first, (10, -5), (2.0, 0.1))):
        part = found[chosen]  # one component gives both outputs
        error = np.array(deviations) / math.sqrt(len(part))
        assert (abs(part.mean(0) - means) < 5 * error).all()
        assert (abs(part.std(0) - deviations) < 5 * error).all()


def test_the_same_seed_draws_the_same() -> None:
    layer, x = nn.MDN(3, 2, 4), gn.randn(2, 5, 3)
    drawn = []
    for seed in (3, 3, 4):
        gn.manual_seed(seed)
        drawn.append(layer.sample(x).numpy())
    assert drawn[0].shape == (2, 5, 2)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    by_generator = [layer.sample(x, generator=gn.Generator(7)).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*by_generator)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 4, 3)])
def test_any_leading_shape(shape: tuple[int, ...]) -> None:
    layer = nn.MDN(3, 2, 4)
    mixture = layer(gn.zeros(shape))
    assert tuple(mixture.mean.shape) == (*shape[:-1], 2)
    assert tuple(layer.sample(gn.zeros(shape)).shape) == (*shape[:-1], 2)
    on_meta = layer.to("meta")
    assert tuple(on_meta.sample(gn.zeros(shape, device="meta")).shape) == (*shape[:-1], 2)
