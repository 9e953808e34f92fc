"""Normalisation, dropout and embedding layers: PyTorch's results, gradients, state, text and signatures."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.testing.compare import agreement_bound, assert_agreement, relative_error
from gpunet.testing.parity import Case, case, check_case

INDEX = np.random.default_rng(0).integers(0, 7, (3, 4))
IMAGE = (4, 6, 5, 7)

# The layer's name, its arguments and what it is given: a shape of unit normal numbers, or indices.
LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], Any]] = [
    ("LayerNorm", (7,), {}, IMAGE),
    ("LayerNorm", ((6, 5, 7),), {}, IMAGE),
    ("LayerNorm", ([5, 7], 1e-3), {"bias": False}, IMAGE),
    ("LayerNorm", (7,), {"elementwise_affine": False}, (3, 7)),
    ("LayerNorm", (7, 1e-5, True, False), {}, (7,)),
    ("RMSNorm", (7,), {}, (3, 7)),
    ("RMSNorm", ((5, 7), 1e-3), {}, IMAGE),
    ("RMSNorm", (7,), {"elementwise_affine": False}, (3, 7)),
    ("GroupNorm", (3, 6), {}, IMAGE),
    ("GroupNorm", (1, 6, 1e-3, False), {}, IMAGE),
    ("GroupNorm", (6, 6), {"bias": False}, (2, 6, 9)),
    ("GroupNorm", (2, 6), {}, (4, 6)),
    ("InstanceNorm1d", (3,), {}, (2, 3, 9)),
    ("InstanceNorm1d", (3,), {"affine": True, "track_running_stats": True}, (2, 3, 9)),
    ("InstanceNorm1d", (3,), {"affine": True, "track_running_stats": True}, (3, 9)),
    ("InstanceNorm2d", (6,), {}, IMAGE),
    ("InstanceNorm2d", (6, 1e-3, 0.3, True, True), {}, IMAGE),
    ("InstanceNorm2d", (6,), {"affine": True, "bias": False}, (6, 5, 7)),
    ("InstanceNorm2d", (6,), {"track_running_stats": True, "momentum": None}, IMAGE),
    ("InstanceNorm3d", (3,), {"affine": True}, (2, 3, 2, 4, 3)),
    ("InstanceNorm3d", (3,), {"track_running_stats": True}, (3, 2, 4, 3)),
    ("BatchNorm1d", (6,), {"track_running_stats": False}, (4, 6, 9)),
    ("BatchNorm1d", (6,), {"momentum": None, "affine": False}, (4, 6)),
    ("BatchNorm2d", (6,), {"affine": False, "momentum": None}, IMAGE),
    ("BatchNorm2d", (6, 1e-3, 0.5, False, False), {}, IMAGE),
    ("BatchNorm3d", (3,), {}, (2, 3, 2, 4, 3)),
    ("BatchNorm3d", (3,), {"affine": False, "momentum": None}, (2, 3, 2, 4, 3)),
    ("BatchNorm3d", (3,), {"track_running_stats": False, "bias": False}, (2, 3, 2, 4, 3)),
    ("LocalResponseNorm", (5,), {}, IMAGE),
    ("LocalResponseNorm", (2, 0.5, 0.5, 2.0), {}, IMAGE),
    ("LocalResponseNorm", (3,), {"alpha": 0.5, "k": 2}, (2, 5, 4)),
    ("Dropout1d", (0.0,), {}, (2, 3, 4)),
    ("Dropout2d", (1.0,), {}, IMAGE),
    ("Dropout3d", (0.0, True), {}, (2, 3, 2, 2, 3)),
    ("AlphaDropout", (0.0,), {}, (3, 4)),
    ("AlphaDropout", (1.0,), {"inplace": True}, (3, 4)),
    ("FeatureAlphaDropout", (1.0,), {}, IMAGE),
    ("Embedding", (7, 5), {}, INDEX),
    ("Embedding", (7, 5, 2), {}, INDEX),
    ("Embedding", (7, 5), {"padding_idx": -1, "scale_grad_by_freq": True}, INDEX),
    ("Embedding", (7, 5), {"max_norm": 1.0, "norm_type": 1.0}, INDEX),
    ("EmbeddingBag", (7, 5), {}, INDEX),
    ("EmbeddingBag", (7, 5), {"mode": "max", "padding_idx": 1}, INDEX),
    ("EmbeddingBag", (7, 5, 1.0, 1.0), {"mode": "sum"}, INDEX),
]


@pytest.mark.parity
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "args", "kwargs", "given"), LAYERS, ids=[f"{name}-{number}" for number, (name, *_) in enumerate(LAYERS)]
)
def test_layer_agrees_with_pytorch(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], given: Any, dtype: Any, training: bool
) -> None:
    torch = pytest.importorskip("torch")
    ours = getattr(nn, name)(*args, **kwargs).train(training).to(dtype)
    theirs = getattr(torch.nn, name)(*args, **kwargs).train(training)
    theirs.to(torch.float64 if dtype == np.float64 else torch.float32)
    assert repr(ours) == repr(theirs)
    assert [(k, v.shape, v.dtype.name) for k, v in ours.state_dict().items()] == [
        (k, tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in theirs.state_dict().items()
    ]
    rng = np.random.default_rng(1)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        if name.endswith("Norm") or "Norm" in name:  # as they begin: ones and zeros
            np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())
        values = rng.standard_normal(tuple(q.shape))
        with torch.no_grad():
            q.copy_(torch.from_numpy(values))
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    for _ in range(3):  # running statistics need more than one
        if isinstance(given, np.ndarray):
            a, b = gn.from_numpy(given), torch.from_numpy(given)
            y, z = ours(a), theirs(b)
        else:
            x = (rng.standard_normal(given) + 0.5).astype(dtype)
            a, b = gn.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
            y, z = ours(a * 1), theirs(b * 1)
        assert y.dtype == dtype
        assert_agreement(y.detach().numpy(), z.detach().numpy(), dtype, 4096)
        seed = rng.standard_normal(tuple(z.shape)).astype(dtype)
        ours.zero_grad(), theirs.zero_grad()
        y.backward(gn.tensor(seed))
        z.backward(torch.tensor(seed))
        if not isinstance(given, np.ndarray):
            assert a.grad is not None
            assert_agreement(a.grad.numpy(), b.grad.numpy(), dtype, 4096)
        for (key, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            assert p.grad is not None
            assert_agreement(p.grad.numpy(), q.grad.numpy(), dtype, 4096, key)
    for key, value in theirs.state_dict().items():
        assert relative_error(ours.state_dict()[key].detach().numpy(), value.numpy()) <= agreement_bound(dtype), key


@pytest.mark.parity
@pytest.mark.parametrize("name", sorted({name for name, *_ in LAYERS}))
def test_signature_is_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    ours = dict(inspect.signature(getattr(nn, name).__init__).parameters)
    theirs = inspect.signature(getattr(torch.nn, name).__init__).parameters
    ours.pop("alpha_over_size", None)  # the paper's convention of alpha, which PyTorch does not have
    assert list(ours) == list(theirs)
    assert [p.default for p in ours.values()] == [p.default for p in theirs.values()]


def _pretrained(m: Any, i: Any, w: Any, kind: str, **kw: Any) -> Any:
    layer = getattr(m.nn, kind).from_pretrained(w.detach(), **kw)
    y = layer(i)
    if y.requires_grad:
        (y * y).sum().backward(retain_graph=True)
    return y.detach(), layer.weight.requires_grad, layer.weight.grad


CASES = [
    case("Embedding.from_pretrained", lambda m, i, w: _pretrained(m, i, w, "Embedding"), INDEX, (7, 5)),
    case("Embedding.from_pretrained not frozen", lambda m, i, w: _pretrained(m, i, w, "Embedding", freeze=False),
         INDEX, (7, 5)),
    case("Embedding.from_pretrained padding",
         lambda m, i, w: _pretrained(m, i, w, "Embedding", freeze=False, padding_idx=3), INDEX, (7, 5)),
    case("Embedding.from_pretrained by frequency",
         lambda m, i, w: _pretrained(m, i, w, "Embedding", freeze=False, scale_grad_by_freq=True), INDEX, (7, 5)),
    case("EmbeddingBag.from_pretrained", lambda m, i, w: _pretrained(m, i, w, "EmbeddingBag"), INDEX, (7, 5)),
    case("EmbeddingBag.from_pretrained not frozen",
         lambda m, i, w: _pretrained(m, i, w, "EmbeddingBag", freeze=False, mode="sum"), INDEX, (7, 5)),
    case("EmbeddingBag with offsets",
         lambda m, i, w, o: m.nn.EmbeddingBag.from_pretrained(w.detach(), include_last_offset=True)(i, o),
         INDEX.ravel(), (7, 5), np.array([0, 3, 3, 12])),
    case("GroupNorm wrong channels", lambda m, x: m.nn.GroupNorm(2, 4)(x), (2, 6, 3)),
    case("GroupNorm groups do not divide", lambda m: m.nn.GroupNorm(4, 6)),
    case("LayerNorm wrong shape", lambda m, x: m.nn.LayerNorm(6)(x), (4, 7)),
    case("RMSNorm wrong shape", lambda m, x: m.nn.RMSNorm(6)(x), (4, 7)),
    case("InstanceNorm2d wrong channels", lambda m, x: m.nn.InstanceNorm2d(5, affine=True)(x), IMAGE),
    case("InstanceNorm1d wrong rank", lambda m, x: m.nn.InstanceNorm1d(5)(x), IMAGE),
    case("InstanceNorm2d wrong rank", lambda m, x: m.nn.InstanceNorm2d(5)(x), (4, 5)),
    case("InstanceNorm3d wrong rank", lambda m, x: m.nn.InstanceNorm3d(5)(x), (4, 5, 5)),
    case("BatchNorm3d wrong rank", lambda m, x: m.nn.BatchNorm3d(6)(x), IMAGE),
    case("LocalResponseNorm wrong rank", lambda m, x: m.nn.LocalResponseNorm(5)(x), (4, 5)),
    case("Dropout1d wrong rank", lambda m, x: m.nn.Dropout1d()(x), IMAGE),
    *(case(f"{name} p too large", lambda m, name=name: getattr(m.nn, name)(1.5))
      for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")),
]  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    pytest.importorskip("torch")
    check_case(checked)


def test_embedding_begins_as_pytorchs_does() -> None:
    """N(0, 1), and zeros for the padding; what is given is shared, not copied."""
    for layer in (nn.Embedding(500, 100, padding_idx=-3), nn.EmbeddingBag(500, 100, padding_idx=497)):
        table = layer.weight.detach().numpy()
        assert (table[497] == 0).all()
        assert (table[496] != 0).all()
        assert table.std() == pytest.approx(1, rel=0.02)
        assert abs(table.mean()) < 0.02
        assert layer.padding_idx == 497
    given = gn.ones(3, 2)
    layer = nn.Embedding.from_pretrained(given, freeze=False)
    given.fill_(5)
    assert layer.weight.tolist() == [[5, 5]] * 3
    assert nn.Embedding(3, 2, _freeze=True).weight.requires_grad is False


def test_dropout_layers_do_nothing_in_evaluation() -> None:
    x = gn.randn(2, 3, 4, 4)
    for layer in (nn.Dropout(), nn.Dropout2d(), nn.Dropout3d(), nn.AlphaDropout(), nn.FeatureAlphaDropout()):
        assert layer.eval()(x) is x
        assert layer.train()(x) is not x
    unbatched = gn.randn(3, 4)
    assert nn.Dropout1d().eval()(unbatched) is unbatched


def test_layers_on_other_devices() -> None:
    for make, shape in (
        (lambda **kw: nn.LayerNorm(4, **kw), (2, 4)),
        (lambda **kw: nn.RMSNorm(4, **kw), (2, 4)),
        (lambda **kw: nn.GroupNorm(2, 4, **kw), (2, 4, 3)),
        (lambda **kw: nn.InstanceNorm1d(4, affine=True, track_running_stats=True, **kw), (2, 4, 3)),
        (lambda **kw: nn.BatchNorm3d(4, **kw), (2, 4, 2, 2, 2)),
    ):
        for device in ("meta", "cpu:1"):
            layer = make(device=device, dtype=gn.float64)
            y = layer(gn.zeros(shape, device=device, dtype=gn.float64))
            assert (str(y.device), y.shape, y.dtype) == (device, shape, np.float64)
    for device in ("meta", "cpu:1"):
        layer = nn.Embedding(5, 3, padding_idx=0, device=device)
        assert layer(gn.zeros((2, 2), dtype=gn.int64, device=device)).shape == (2, 2, 3)
