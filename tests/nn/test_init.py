"""Initialisers: the bounds and deviations of their papers, and PyTorch's numbers."""

from __future__ import annotations

import inspect
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


@pytest.mark.parity
def test_patterns_are_pytorchs():
    torch = pytest.importorskip("torch")
    for shape in ((3, 4), (4, 3), (5, 5), (1, 1)):
        ours, theirs = init.eye_(gn.empty(*shape)), torch.nn.init.eye_(torch.empty(*shape))
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    for shape, groups in (((4, 3, 3), 1), ((3, 5, 3, 3), 1), ((4, 2, 2, 5), 2), ((6, 2, 3, 3, 3), 3), ((2, 2, 1), 1)):
        ours, theirs = (m.nn.init.dirac_(m.empty(*shape), groups) for m in (gn, torch))
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    half = init.eye_(gn.ones(2, 3, dtype=gn.float16))
    assert (half.dtype, half.tolist()) == (np.float16, [[1, 0, 0], [0, 1, 0]])


def test_dirac_passes_channels_through():
    """With padding kept, the convolution is the identity on the channels that fit."""
    x = gn.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 5, 6)).astype(np.float32))
    layer = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    init.dirac_(layer.weight)
    np.testing.assert_array_equal(layer(x).detach().numpy(), x.numpy())


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (25, 25), (8, 3, 3, 3), (40, 3, 2, 2), (1, 5)])
def test_orthogonal(shape):
    """The fewer of rows and columns are orthonormal times the gain, and uniformly distributed signs and all."""
    matrix = values(init.orthogonal_(gn.empty(*shape, dtype=gn.float64), gain=2.0)).reshape(shape[0], -1)
    fewer = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    np.testing.assert_allclose(fewer @ fewer.T, 4 * np.eye(len(fewer)), atol=1e-12)
    generators = [gn.Generator(7), gn.Generator(7)]
    a, b = (values(init.orthogonal_(gn.empty(*shape), generator=generator)) for generator in generators)
    np.testing.assert_array_equal(a, b)


def test_orthogonal_matrices_are_uniform():
    """Every element of a Haar-distributed n x n matrix has mean 0 and variance 1 / n."""
    gn.manual_seed(1)
    drawn = np.stack([init.orthogonal_(gn.empty(4, 4, dtype=gn.float64)).numpy() for _ in range(3000)])
    assert np.abs(drawn.mean(axis=0)).max() < 5 * (0.25 / 3000) ** 0.5
    np.testing.assert_allclose((drawn**2).mean(axis=0), 0.25, atol=0.025)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.55, 1.0])
def test_sparse(sparsity):
    matrix = init.sparse_(gn.empty(50, 400), sparsity, std=0.3).numpy()
    zeros = math.ceil(sparsity * 50)
    assert ((matrix == 0).sum(axis=0) == zeros).all()
    if zeros < 50:
        assert matrix[matrix != 0].std() == pytest.approx(0.3, rel=0.02)
        assert zeros == 0 or (matrix == 0).any(axis=1).all(), "which rows differs from column to column"


@pytest.mark.parity
@pytest.mark.parametrize(
    "fill",
    [
        lambda m, t: m.nn.init.uniform_(t, -0.5, 2.0),
        lambda m, t: m.nn.init.normal_(t, 1.0, 2.0),
        lambda m, t: m.nn.init.constant_(t, 0.5),
        lambda m, t: m.nn.init.ones_(t),
        lambda m, t: m.nn.init.zeros_(t),
        lambda m, t: m.nn.init.eye_(t),
        lambda m, t: m.nn.init.xavier_uniform_(t, 2.0),
        lambda m, t: m.nn.init.xavier_normal_(t, 2.0),
        lambda m, t: m.nn.init.kaiming_uniform_(t, 0.3, "fan_out", "leaky_relu"),
        lambda m, t: m.nn.init.kaiming_normal_(t, 0.3, "fan_in", "leaky_relu"),
        lambda m, t: m.nn.init.kaiming_normal_(t, mode="fan_out", nonlinearity="selu"),
        lambda m, t: m.nn.init.trunc_normal_(t, 0.5, 1.0, -1.0, 1.5),
        lambda m, t: m.nn.init.orthogonal_(t, 2.0),
        lambda m, t: m.nn.init.sparse_(t, 0.25, 0.5),
    ],
)
def test_distributions_are_pytorchs(fill):
    """Two samples of one distribution: moments, extremes and quantiles."""
    torch = pytest.importorskip("torch")
    shape = (300, 200)
    ours, theirs = fill(gn, gn.empty(*shape)).numpy().ravel(), fill(torch, torch.empty(*shape)).numpy().ravel()
    spread = max(theirs.std(), 1e-6)
    assert abs(ours.mean() - theirs.mean()) < 6 * spread / math.sqrt(ours.size)
    assert ours.std() == pytest.approx(theirs.std(), rel=0.02)
    for level in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        assert abs(np.quantile(ours, level) - np.quantile(theirs, level)) < 0.06 * spread
    assert (ours == 0).mean() == pytest.approx((theirs == 0).mean(), abs=1e-4)


@pytest.mark.parity
def test_large_tensors_are_the_same_on_any_number_of_threads():
    fills = (init.uniform_, init.normal_, lambda t: init.trunc_normal_(t, 0.0, 1.0, -1.0, 1.5))
    threads = gn.get_num_threads()
    try:
        drawn = []
        for count in (1, 3):
            gn.set_num_threads(count)
            gn.manual_seed(5)
            drawn.append([fill(gn.empty(3, 200_001)).numpy() for fill in fills])
    finally:
        gn.set_num_threads(threads)
    for one, other in zip(*drawn, strict=True):
        np.testing.assert_array_equal(one, other)
        blocks = one.reshape(-1)[: 2 * (1 << 18)].reshape(2, -1)
        assert abs(np.corrcoef(blocks)[0, 1]) < 0.01  # blocks are independent of each other
    uniform, normal, truncated = drawn[0]
    assert uniform.mean() == pytest.approx(0.5, abs=0.002)
    assert normal.std() == pytest.approx(1.0, rel=0.005)
    assert -1.0 <= truncated.min() < -0.999
    assert 1.499 < truncated.max() <= 1.5


def test_undrawn_values():
    generator = gn.Generator(3)
    tensor = gn.full((4,), 7.0)
    with init.skip_draws():
        assert init.normal_(tensor, generator=generator) is tensor
        assert init.zeros_(gn.ones(2)).tolist() == [0.0, 0.0]
        with init.skip_draws():
            pass
        init.uniform_(tensor, generator=generator)
    assert tensor.tolist() == [7.0] * 4
    assert generator.get_state()["calls"] == 0
    init.normal_(tensor, generator=generator)
    assert tensor.tolist() == init.normal_(gn.empty(4), generator=gn.Generator(3)).tolist()
    with pytest.raises(ZeroDivisionError), init.skip_draws():
        raise ZeroDivisionError
    assert init.ones_(init.normal_(gn.empty(2))).tolist() == [1.0, 1.0]
    with init.skip_draws(), pytest.raises(gn.DTypeError):
        init.normal_(gn.empty(2, dtype=gn.int64))


def test_signatures_are_pytorchs():
    torch = pytest.importorskip("torch")
    for name in init.__all__:
        ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (init, torch.nn.init))
        assert list(ours) == list(theirs), name
        assert [p.default for p in ours.values()] == [p.default for p in theirs.values()], name


@pytest.mark.parametrize(
    "fill",
    [
        lambda t: init.eye_(t),
        lambda t: init.orthogonal_(t),
        lambda t: init.sparse_(t, 0.5),
        lambda t: init.xavier_uniform_(t),
        lambda t: init.trunc_normal_(t),
    ],
)
def test_writing_to_parameters_in_any_layout(fill):
    weight = nn.Parameter(gn.ones(4, 6))
    gn.manual_seed(3)
    assert fill(weight) is weight
    assert weight._version == 1
    assert weight.requires_grad
    turned = gn.ones(6, 4).T
    gn.manual_seed(3)
    fill(turned)
    np.testing.assert_array_equal(turned.numpy(), values(weight).reshape(4, 6).astype(np.float32))
    assert fill(gn.empty(4, 6, device="meta")).shape == (4, 6)


@pytest.mark.parametrize(
    "call, kind, text",
    [
        (lambda: init.eye_(gn.empty(3)), gn.ShapeError, r"eye_: tensor must have 2 dimensions, got shape \(3,\)"),
        (lambda: init.sparse_(gn.empty(3), 0.5), gn.ShapeError, "sparse_: tensor must have 2 dimensions"),
        (lambda: init.sparse_(gn.empty(3, 3), 1.5), ValueError, r"sparse_: sparsity must lie in 0\.\.1, got 1\.5"),
        (lambda: init.sparse_(gn.empty(3, 3), 0.5, -1), ValueError, "sparse_: std must not be negative, got -1"),
        (lambda: init.orthogonal_(gn.empty(3)), gn.ShapeError, "orthogonal_: tensor must have at least 2 dimensions"),
        (lambda: init.orthogonal_(gn.empty(3, 3, dtype=gn.int64)), gn.DTypeError, "must be floating point, got int64"),
        (lambda: init.dirac_(gn.empty(3, 3)), gn.ShapeError, "dirac_: tensor must have 3, 4 or 5 dimensions"),
        (lambda: init.dirac_(gn.empty(3, 3, 3), 2), gn.ShapeError, "dirac_: groups must divide dimension 0"),
        (lambda: init.dirac_(gn.empty(3, 3, 3), 0), ValueError, "dirac_: groups must be at least 1, got 0"),
    ],
)
def test_refusals_of_patterns(call, kind, text):
    with pytest.raises(kind, match=text):
        call()
