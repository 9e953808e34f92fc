"""Initialisers: the bounds and deviations of their papers, and PyTorch's numbers."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.nn import init


def values(tensor: gn.Tensor) -> np.ndarray:
    return tensor.detach().numpy().ravel().astype(np.float64)


@pytest.mark.parametrize(
    "fill, bound",
    [
        (lambda t: init.uniform_(t, -0.5, 0.5), 0.5),
        (lambda t: init.xavier_uniform_(t, gain=2.0), 2.0 * math.sqrt(6 / (300 + 200))),
        (lambda t: init.kaiming_uniform_(t), math.sqrt(6 / 300)),
        (lambda t: init.kaiming_uniform_(t, a=math.sqrt(5)), math.sqrt(1 / 300)),
        (lambda t: init.kaiming_uniform_(t, mode="fan_out", nonlinearity="tanh"), 5 / 3 * math.sqrt(3 / 200)),
    ],
)
@pytest.mark.parametrize("dtype", [gn.float32, gn.float64])
def test_uniform(fill, bound, dtype):
    found = values(fill(gn.empty(200, 300, dtype=dtype)))
    assert np.abs(found).max() <= bound * (1 + 1e-6)
    assert np.abs(found).max() > 0.999 * bound
    assert abs(found.mean()) < 4 * bound / math.sqrt(3 * found.size)
    assert found.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize(
    "fill, std",
    [
        (lambda t: init.normal_(t, 0.0, 3.0), 3.0),
        (lambda t: init.xavier_normal_(t), math.sqrt(2 / (300 + 200))),
        (lambda t: init.kaiming_normal_(t, nonlinearity="relu"), math.sqrt(2 / 300)),
        (lambda t: init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu"), math.sqrt(2 / 200)),
    ],
)
def test_normal(fill, std):
    found = values(fill(gn.empty(200, 300)))
    assert found.std() == pytest.approx(std, rel=0.01)
    assert abs(found.mean()) < 4 * std / math.sqrt(found.size)
    assert abs((found**4).mean() / std**4 - 3) < 0.15


def test_truncated_normal():
    found = values(init.trunc_normal_(gn.empty(200, 300), mean=1.0, std=2.0, a=0.0, b=4.0))
    assert found.min() >= 0
    assert found.max() <= 4
    normal = NormalDist(1, 2)
    for quantile in (0.1, 0.5, 0.9):
        expected = normal.inv_cdf(normal.cdf(0) + quantile * (normal.cdf(4) - normal.cdf(0)))
        assert np.quantile(found, quantile) == pytest.approx(expected, abs=0.05)


def test_constants_and_layouts():
    weight = nn.Conv2d(2, 3, 3).weight
    assert init.constant_(weight, 0.25) is weight
    assert set(values(weight)) == {0.25}
    assert set(values(init.ones_(weight))) == {1.0}
    assert set(values(init.zeros_(weight))) == {0.0}
    generator = gn.Generator(5)
    init.normal_(weight, generator=generator)
    plain = init.normal_(gn.empty(3, 2, 3, 3), generator=gn.Generator(5))
    np.testing.assert_array_equal(values(weight), values(plain))
    assert generator.get_state()["calls"] == 1
    half = init.normal_(gn.empty(3, 2, 3, 3, dtype=gn.float16), generator=gn.Generator(5))
    np.testing.assert_allclose(values(half), values(plain), rtol=1e-3)
    assert init.normal_(gn.empty(2, 2, device="meta")).shape == (2, 2)


def test_writing_is_seen_by_the_version_counter():
    weight = nn.Parameter(gn.ones(2, 2))
    x = gn.ones(2, 2, requires_grad=True)
    out = (x * weight).sum()
    init.zeros_(weight)
    with pytest.raises(RuntimeError):
        out.backward()


@pytest.mark.parity
def test_gains_and_fans_are_pytorchs():
    torch = pytest.importorskip("torch")
    for name in ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose2d", "sigmoid", "tanh", "relu", "selu"):
        assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    for slope in (None, 0, 0.3, 1):
        ours, theirs = (m.calculate_gain("leaky_relu", slope) for m in (init, torch.nn.init))
        assert ours == pytest.approx(theirs)
    for shape in ((3, 4), (5, 4, 3, 3), (1, 1, 2), (2, 3, 4, 5, 6)):
        assert init._calculate_fan_in_and_fan_out(gn.empty(*shape)) == torch.nn.init._calculate_fan_in_and_fan_out(
            torch.empty(*shape)
        )


@pytest.mark.parametrize(
    "call, kind, text",
    [
        (lambda: init.kaiming_normal_(gn.empty(3)), gn.ShapeError, r"at least 2 dimensions.*got shape \(3,\)"),
        (lambda: init.kaiming_normal_(gn.empty(3, 3), mode="fan"), ValueError, "mode: must be 'fan_in' or 'fan_out'"),
        (lambda: init.calculate_gain("gelu"), ValueError, "nonlinearity: unknown 'gelu'"),
        (lambda: init.calculate_gain("leaky_relu", "a"), ValueError, "negative slope must be a number"),
        (lambda: init.normal_(gn.empty(3), std=-1.0), ValueError, "std: must not be negative, got -1.0"),
        (lambda: init.trunc_normal_(gn.empty(3), a=1, b=1), ValueError, "a must be below b"),
        (lambda: init.trunc_normal_(gn.empty(3), a=50, b=60), ValueError, "lies between 50 and 60"),
        (lambda: init.uniform_(gn.empty(3, dtype=gn.int64)), gn.DTypeError, "must be floating point, got int64"),
    ],
)
def test_refusals(call, kind, text):
    with pytest.raises(kind, match=text):
        call()
