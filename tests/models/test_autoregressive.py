"""Autoregressive models, on windows and on a state: rows B27 and B35 to B37."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import ShapeError, nn
from gpunet.data import ARProcess, RandomWalk, Sine
from gpunet.models import AR, LatentAR
from gpunet.training import tbptt

# A seed whose 5,000 points lie well within the bound; the standard error of a coefficient is sqrt(.91 / 5000) = .0135.
SEED = 2


def test_least_squares_recovers_an_ar2_process() -> None:
    """B36: (.6, -.3) within .02 on 5,000 points."""
    model = AR(2).fit(ARProcess(5000, (0.6, -0.3), seed=SEED).values)
    np.testing.assert_allclose(model.coefficients.numpy(), [0.6, -0.3], atol=0.02)
    assert model.noise.item() == pytest.approx(1.0, abs=0.05)
    assert abs(model.linear.bias.item()) < 0.06
    # It is no luck of the seed: over 20 of them the mean is as near as 100,000 points allow (standard error .003).
    fits = [AR(2).fit(ARProcess(5000, (0.6, -0.3), seed=seed).values).coefficients.numpy() for seed in range(20)]
    np.testing.assert_allclose(np.mean(fits, axis=0), [0.6, -0.3], atol=0.02)
    np.testing.assert_allclose(np.std(fits, axis=0), 0.0135, atol=0.009)


def test_gradient_descent_comes_to_the_same() -> None:
    """B36: the two fits meet, and the loss never rises at the default rate."""
    series = ARProcess(5000, (0.6, -0.3), seed=SEED).values
    exact, walked = AR(2, dtype=gn.float64).fit(series), AR(2, dtype=gn.float64)
    losses = walked.fit_by_gradient_descent(series, steps=300)
    assert len(losses) == 301
    np.testing.assert_allclose(walked.coefficients.numpy(), exact.coefficients.numpy(), atol=1e-6)
    np.testing.assert_allclose(walked.linear.bias.item(), exact.linear.bias.item(), atol=1e-6)
    assert walked.noise.item() == pytest.approx(exact.noise.item(), rel=1e-6)
    assert losses[-1] == pytest.approx(exact.noise.item() ** 2, rel=1e-9)
    assert (np.diff(losses) <= 1e-12).all()
    with_momentum = AR(2, dtype=gn.float64).fit_by_gradient_descent(series, steps=100, momentum=0.5)
    assert with_momentum[-1] == pytest.approx(losses[-1], rel=1e-6)
    # Twice the largest curvature is where it begins to climb.
    past = np.column_stack([np.asarray(series)[1:-1], np.asarray(series)[:-2], np.ones(4998)]).astype(np.float64)
    largest = np.linalg.eigvalsh(2 * past.T @ past / len(past))[-1]
    diverging = AR(2, dtype=gn.float64).fit_by_gradient_descent(series, steps=200, lr=2.2 / largest)
    assert diverging[-1] > 1e3 * diverging[0]


def test_least_squares_is_numpys() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(60).cumsum()
    for tau, bias in itertools.product((1, 3), (True, False)):
        model = AR(tau, bias, dtype=gn.float64).fit(x)
        columns = [x[tau - lag : 60 - lag] for lag in range(1, tau + 1)] + [np.ones(60 - tau)] * bias
        wanted = np.linalg.solve(np.array(columns) @ np.array(columns).T, np.array(columns) @ x[tau:])
        np.testing.assert_allclose(model.coefficients.numpy(), wanted[:tau], rtol=1e-8)
        predicted = np.array(columns).T @ wanted
        np.testing.assert_allclose(model.predict(gn.tensor(x)).detach().numpy()[:-1], predicted, rtol=1e-8, atol=1e-8)
        assert model.noise.item() == pytest.approx(math.sqrt(((predicted - x[tau:]) ** 2).mean()), rel=1e-8)


def test_a_sine_is_predicted_from_two_values_as_far_as_one_likes() -> None:
    """B36: x_t = 2 cos(2 pi / p) x_{t-1} - x_{t-2}, and a roll-out that goes on with the wave."""
    series = Sine(400, period=25).values.double()
    model = AR(2, bias=False, dtype=gn.float64).fit(series[:200])
    np.testing.assert_allclose(model.coefficients.numpy(), [2 * math.cos(2 * math.pi / 25), -1], atol=1e-5)
    np.testing.assert_allclose(model.roll_out(series[:200], 200).numpy(), series[200:].numpy(), atol=0.02)


def test_a_roll_out_feeds_predictions_back() -> None:
    model = AR(3, dtype=gn.float64)
    x = gn.tensor([1.0, -2.0, 0.5, 3.0], dtype=gn.float64)
    values = x.tolist()
    c, b = model.coefficients.numpy(), model.linear.bias.item()
    for _ in range(5):
        values.append(c[0] * values[-1] + c[1] * values[-2] + c[2] * values[-3] + b)
    np.testing.assert_allclose(model.roll_out(x, 5).numpy(), values[4:], rtol=1e-12)
    assert model.predict(x).shape == (2,)
    np.testing.assert_allclose(model.predict(x)[-1].item(), values[4], rtol=1e-12)
    # Far ahead nothing but the mean of a stationary process is left.
    process = ARProcess(5000, (0.6, -0.3), seed=SEED)
    fitted = AR(2).fit(process.values)
    ahead = fitted.roll_out(process.values, 60)
    mean = fitted.linear.bias.item() / (1 - fitted.coefficients.sum().item())
    assert ahead[-1].item() == pytest.approx(mean, abs=1e-5)


def test_a_random_walk_is_predicted_to_stay() -> None:
    """B35: of an order 1 fit to a walk's logarithm, the coefficient is near 1."""
    walk = RandomWalk(5000, seed=1).values.double().log()
    assert AR(1, dtype=gn.float64).fit(walk).coefficients.item() == pytest.approx(1.0, abs=0.01)


def test_log_prob_is_the_sum_of_normal_densities_and_depends_on_the_order() -> None:
    """B35: shuffled, a series is far less probable; B27: the density of a value depends on its last tau alone."""
    process = ARProcess(2000, (0.9,), seed=1)
    model = AR(1, dtype=gn.float64).fit(process.values)
    x = process.values.numpy().astype(np.float64)
    c, b, noise = model.coefficients.item(), model.linear.bias.item(), model.noise.item()
    error = (x[1:] - c * x[:-1] - b) / noise
    wanted = (-(error**2) / 2 - math.log(noise) - math.log(2 * math.pi) / 2).sum()
    assert model.log_prob(process.values).item() == pytest.approx(wanted, rel=1e-9)
    shuffled = np.random.default_rng(0).permutation(x)
    assert model.log_prob(gn.tensor(shuffled)).item() < wanted - 1000
    # The order of the older past does not matter given what is in the window.
    other = gn.tensor([*x[5:0:-1], *x[6:9]])
    same = gn.tensor(x[1:9])
    steps = [model.log_prob(series[:8]) - model.log_prob(series[:7]) for series in (same, other)]
    assert steps[0].item() == pytest.approx(steps[1].item(), rel=1e-9)


def test_the_probabilities_of_a_value_integrate_to_one() -> None:
    """B07 for numbers instead of characters: over x_2 and x_3 given x_1."""
    model = AR(1, dtype=gn.float64)
    with gn.no_grad():
        model.noise.fill_(0.7)
    grid = np.linspace(-6, 6, 41)
    total = sum(math.exp(model.log_prob(gn.tensor([0.4, a, b], dtype=gn.float64)).item()) for a in grid for b in grid)
    assert total * (grid[1] - grid[0]) ** 2 == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_state_of_a_latent_model_has_one_size(cell: str) -> None:
    """B37: the input's length varies, H_t's size does not; AR(tau) reads tau values however long the past is."""
    model = LatentAR(6, cell=cell)
    shapes = set()
    for length in (1, 2, 7, 100):
        output, state = model(gn.randn(length, 3, 1))
        assert output.shape == (length, 3, 1)
        shapes.add(tuple(tuple(part.shape) for part in (state if isinstance(state, tuple) else (state,))))
    assert shapes == {((1, 3, 6),) * (2 if cell == "lstm" else 1)}
    # The state is all that is needed of the past: to go on from it is to have read everything.
    series = gn.randn(9, 3, 1)
    whole, _ = model(series)
    _, state = model(series[:5])
    np.testing.assert_allclose(
        model(series[5:], state)[0].detach().numpy(), whole[5:].detach().numpy(), rtol=1e-5, atol=1e-6
    )
    ahead = model.roll_out(series, 4)
    assert ahead.shape == (4, 3, 1)
    np.testing.assert_allclose(ahead[0].numpy(), whole[-1].detach().numpy(), rtol=1e-5, atol=1e-6)
    longer, _ = model(gn.cat([series, ahead[:3]]))
    np.testing.assert_allclose(ahead.numpy(), longer[-4:].detach().numpy(), rtol=1e-4, atol=1e-5)
    # A series of one number a step, as AR takes it: a tensor or an array of any dtype.
    for one in (series[:, 0, 0], series[:, 0, 0].numpy().astype(np.float64)):
        alone = model.roll_out(one, 4)
        assert alone.shape == (4,)
        np.testing.assert_allclose(alone.numpy(), ahead[:, 0, 0].numpy(), rtol=1e-4, atol=1e-5)


def test_a_latent_model_learns_what_one_value_does_not_tell() -> None:
    """B37: of a sine, x_t alone leaves open whether it rises or falls; the state knows."""
    wave = Sine(200, period=20).values
    one = AR(1, dtype=gn.float64).fit(wave)
    gn.manual_seed(1)
    model = LatentAR(8, cell="gru")
    optimizer = gn.optim.Adam(model.parameters(), lr=0.02)
    x, y = wave[:-1].reshape(-1, 1, 1), wave[1:].reshape(-1, 1, 1)
    bptt = tbptt(model, F.mse_loss, 40)
    for _ in range(40):
        for block in bptt(x, y):
            optimizer.zero_grad()
            block.backward()
            optimizer.step()
    with gn.no_grad():
        error = F.mse_loss(model(x)[0][20:], y[20:]).item()
    assert one.noise.item() ** 2 > 0.03
    assert error < one.noise.item() ** 2 / 5


def ar() -> AR:
    return AR(3)


BAD: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("tau 0", lambda: AR(0), ValueError, "tau: must be at least 1, got 0"),
    ("tau of a float", lambda: AR(1.0), TypeError, "tau: must be an integer, got float"),
    ("no window", lambda: ar()(gn.zeros(5, 2)), ShapeError, "AR: input must be windows (N, 3), got shape (5, 2)"),
    ("too few values", lambda: ar().fit(gn.zeros(6)),
     ShapeError, "series: 6 values are too few for the 4 unknowns of AR(3); at least 7 are needed"),
    ("several series", lambda: ar().fit(gn.zeros(60, 2)),
     ShapeError, "series: must be (T,), one number a step, got shape (60, 2)"),
    ("a list", lambda: ar().fit([1.0] * 60), TypeError, "series: must be a Tensor or an array, got list"),
    ("a NaN", lambda: ar().fit(np.array([1.0, float("nan")] * 10)),
     ValueError, "series: holds a NaN or an infinity"),
    ("shorter than the window", lambda: ar().predict(gn.zeros(2)),
     ShapeError, "series: its 2 values do not fill a window of tau = 3"),
    ("to roll out nothing", lambda: ar().roll_out(gn.zeros(5), 0), ValueError, "steps: must be at least 1, got 0"),
    ("steps 0", lambda: ar().fit_by_gradient_descent(gn.zeros(50), 0), ValueError, "steps: must be at least 1, got 0"),
    ("a rate of 0", lambda: ar().fit_by_gradient_descent(gn.zeros(50), lr=0.0),
     ValueError, "lr: must be positive, or None, got 0.0"),
    ("log_prob of a window", lambda: ar().log_prob(gn.zeros(3)),
     ShapeError, "series: must be longer than tau = 3, got 3 values"),
    ("a fit on meta", lambda: AR(3, device="meta").fit(np.zeros(50)),
     gn.DeviceError, "series: a fit needs values, which 'meta' does not have"),
    ("another cell", lambda: LatentAR(cell="elman"),
     ValueError, "cell: must be one of rnn, lstm, gru, got 'elman'"),
    ("one number a step in place of two", lambda: LatentAR(input_size=2).roll_out(gn.zeros(4), 3),
     ShapeError, "series: must be (T, B, 2) or (T, 2), got shape (4,)"),
    ("to roll out a list", lambda: LatentAR().roll_out([1.0, 2.0], 3),  # type: ignore[arg-type]
     TypeError, "series: must be a Tensor or an array, got list"),
    ("to roll nothing out", lambda: LatentAR().roll_out(gn.zeros(4, 1), 0),
     ValueError, "steps: must be at least 1, got 0"),
]  # fmt: skip


@pytest.mark.parametrize("label, act, error, text", BAD, ids=[entry[0] for entry in BAD])
def test_bad_input(label: str, act: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        act()
    assert str(caught.value) == text
    assert type(caught.value) is error


def test_the_fit_is_where_the_model_is() -> None:
    """Whatever device and dtype the series has."""
    process = ARProcess(500, seed=1).values
    wanted = AR(2).fit(process)
    moved = AR(2, dtype=gn.float64).to("cpu:1").fit(process)
    for found in (moved.coefficients, moved.noise, moved.roll_out(process, 3), moved.log_prob(process)):
        assert str(found.device) == "cpu:1"
    np.testing.assert_allclose(moved.coefficients.numpy(), wanted.coefficients.numpy(), rtol=1e-5)
    assert AR(1, dtype=gn.float64).fit(np.arange(20)).predict(gn.arange(20))[-1].item() == pytest.approx(20.0, rel=1e-9)


def test_it_is_a_module_like_others() -> None:
    model = AR(3).double().fit(np.random.default_rng(0).standard_normal(50))
    other = AR(3).double()
    other.load_state_dict(model.state_dict())
    assert set(model.state_dict()) == {"linear.weight", "linear.bias", "noise"}
    assert other.noise.item() == model.noise.item() != 1
    assert isinstance(LatentAR(4, cell="lstm", num_layers=2).rnn, nn.LSTM)
