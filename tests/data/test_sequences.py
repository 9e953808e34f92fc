"""Windows over series, and generated series: rows B35 and B36."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gpunet as gn
from gpunet.data import ARProcess, DataLoader, RandomWalk, Series, Sine, windows

KINDS = (Sine, ARProcess, RandomWalk)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_windows_are_a_view(step: int) -> None:
    """B36: row i holds values i step, ..., i step + tau - 1; nothing is copied, and nothing can be written."""
    for series in (np.arange(11.0), np.arange(22.0).reshape(11, 2), np.arange(11)):
        found = windows(series, 4, step)
        wanted = [series[start : start + 4] for start in range(0, 8, step)]
        assert found.shape == (len(wanted), 4, *series.shape[1:])
        np.testing.assert_array_equal(found, wanted)
        assert np.shares_memory(found, series)
        assert not found.flags.writeable
        tensor = gn.from_numpy(series)
        view = windows(tensor, 4, step)
        assert isinstance(view, gn.Tensor)
        np.testing.assert_array_equal(view.numpy(), wanted)
        series[5] = -7
        assert (view.numpy() == -7).sum() == (found == -7).sum() > 0
        with pytest.raises(ValueError, match="read-only"):
            view += 1


def test_a_list_is_a_series() -> None:
    """B36: as the Tensor that is made of it: integers stay integers in windows, and become floats in a Series."""
    found = windows([1, 2, 3, 4], 2)
    assert isinstance(found, gn.Tensor)
    assert (found.tolist(), found.dtype) == ([[1, 2], [2, 3], [3, 4]], gn.int64)
    assert windows(((1.0, 2.0), (3.0, 4.0)), 2).tolist() == [[[1, 2], [3, 4]]]
    series = Series([1, 2, 3, 4, 5], 3)
    assert (series.inputs.tolist(), series.targets.tolist()) == ([[1, 2, 3], [2, 3, 4]], [4, 5])
    assert series.values.dtype == gn.float32


def test_one_window_of_all() -> None:
    assert windows(np.arange(4), 4).tolist() == [[0, 1, 2, 3]]
    assert windows(np.arange(4), 4, 9).tolist() == [[0, 1, 2, 3]]


def test_windows_pass_gradients_on() -> None:
    """A value gets the gradients of all the windows it is in."""
    series = gn.arange(6, dtype=gn.float64).requires_grad_()
    windows(series, 3).sum().backward()
    assert series.grad.tolist() == [1, 2, 3, 3, 2, 1]
    assert windows(gn.zeros(6, 2, device="meta"), 3, 2).shape == (2, 3, 2)
    # What a gradient needs is known to have changed with the series.
    series, w = gn.ones(6), gn.ones(3, requires_grad=True)
    product = (windows(series, 3) * w).sum()
    series.fill_(2.0)
    with pytest.raises(gn.GradientError, match="modified in place"):
        product.backward()


@pytest.mark.parametrize("horizon", [1, 3])
def test_samples_are_windows_with_what_follows(horizon: int) -> None:
    """B36."""
    data = Series(np.arange(10, dtype=np.float32), 4, horizon)
    assert len(data) == 10 - 4 - horizon + 1
    for index in (0, len(data) - 1, -1):
        x, y = data[index]
        start = index % len(data)
        assert x.tolist() == [start, start + 1, start + 2, start + 3]
        assert y.item() == start + 3 + horizon
    assert np.shares_memory(data.inputs.numpy(), data.values.numpy())
    batches = list(DataLoader(data, batch_size=3))
    assert [tuple(x.shape) for x, _ in batches] == [(3, 4), (len(data) - 3, 4)]
    np.testing.assert_array_equal(gn.cat([y for _, y in batches]).numpy(), np.arange(10)[3 + horizon :])
    for one, other in zip(DataLoader(data, 3, collate_fn=gn.data.default_collate), batches, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    several = Series(np.arange(20.0).reshape(10, 2), 4, horizon)
    assert several[0][0].shape == (4, 2)
    assert several[0][1].tolist() == [2.0 * (3 + horizon), 2.0 * (3 + horizon) + 1]
    assert Series(np.arange(10, dtype=np.uint8), 2)[0][0].dtype == gn.float32


def test_a_series_is_cut_in_time() -> None:
    """B35: the past trains, the future tests; no value is in both, also not within a window."""
    for test, cut in ((0.2, 80), (30, 70)):
        train, later = Series(np.arange(100.0), 5, 2).split(test)
        assert train.values.tolist() == list(range(cut))
        assert later.values.tolist() == list(range(cut, 100))
        assert (train.tau, train.horizon, later.tau, later.horizon) == (5, 2, 5, 2)
        assert train.targets.max().item() < later.inputs.min().item()


@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_series_belongs_to_its_seed(kind: type[Series]) -> None:
    options = {"noise": 0.1} if kind is Sine else {}
    first, again, other = (kind(200, seed=seed, **options).values.numpy() for seed in (3, 3, 4))
    assert first.dtype == np.float32
    assert first.shape == (200,)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    # A longer one begins alike, and nothing is drawn from the default streams.
    state = gn.get_rng_state()
    np.testing.assert_allclose(kind(300, seed=3, **options).values.numpy()[:200], first, rtol=1e-6)
    assert gn.get_rng_state() == state


def test_kinds_of_series_draw_different_numbers() -> None:
    """One seed, but not the same noise in different disguises."""
    walk = np.diff(np.log(RandomWalk(501, volatility=1e-3).values.numpy().astype(np.float64)))
    white = ARProcess(500, coefficients=(0.0,)).values.numpy()
    wave = Sine(500, amplitude=0.0, noise=1.0).values.numpy()
    for one, other in ((walk, white), (walk, wave), (white, wave)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.25  # 5.6 standard errors


def test_a_sine_follows_from_its_last_two_values() -> None:
    x = Sine(300, period=20, amplitude=3.0, phase=0.5).values.numpy().astype(np.float64)
    np.testing.assert_allclose(x, 3 * np.sin(2 * np.pi * np.arange(300) / 20 + 0.5), atol=1e-5)
    np.testing.assert_allclose(x[2:], 2 * math.cos(2 * math.pi / 20) * x[1:-1] - x[:-2], atol=1e-5)


def test_an_autoregressive_process_is_stationary_from_its_first_value() -> None:
    """B36: mean, variance and correlations by the Yule-Walker equations, over 400 series, also at t = 0."""
    c_1, c_2 = 0.6, -0.3
    x = np.stack([ARProcess(40, noise=2.0, seed=seed).values.numpy() for seed in range(400)]).astype(np.float64)
    rho = c_1 / (1 - c_2)
    variance = 4 / (1 - c_1 * rho - c_2 * (c_1 * rho + c_2))
    for t in (0, 20):
        # The mean of 400 has a standard error of sqrt(variance / 400), their variance one of 7 %.
        assert abs(x[:, t].mean()) < 6 * math.sqrt(variance / 400)
        assert x[:, t].var() == pytest.approx(variance, rel=0.42)
    assert x.var() == pytest.approx(variance, rel=0.1)
    assert (x[:, 1:] * x[:, :-1]).mean() / variance == pytest.approx(rho, abs=0.05)
    residual = x[:, 2:] - c_1 * x[:, 1:-1] - c_2 * x[:, :-2]
    assert residual.std() == pytest.approx(2.0, rel=0.05)
    assert ARProcess().tau == 2
    assert ARProcess(coefficients=(0.5, 0.1, 0.1)).tau == 3


def test_a_random_walk_is_a_price() -> None:
    """B35: the logarithm takes independent steps; the series itself is anything but independent."""
    x = RandomWalk(4000, start=50.0, drift=0.001, volatility=0.02, seed=1).values.numpy().astype(np.float64)
    assert x[0] == pytest.approx(50.0)
    assert x.min() > 0
    steps = np.diff(np.log(x))
    assert steps.mean() == pytest.approx(0.001, abs=6 * 0.02 / math.sqrt(4000))
    assert steps.std() == pytest.approx(0.02, rel=0.07)
    assert abs(np.corrcoef(steps[1:], steps[:-1])[0, 1]) < 0.1
    assert np.corrcoef(x[1:], x[:-1])[0, 1] > 0.95


def test_the_default_dtype_counts() -> None:
    gn.set_default_dtype(gn.float64)
    try:
        assert RandomWalk(5).values.dtype == gn.float64
    finally:
        gn.set_default_dtype(gn.float32)
    assert Series(np.arange(5.0), 2).values.dtype == gn.float64
