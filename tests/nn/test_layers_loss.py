"""Loss layers: PyTorch's outputs, gradients, arguments and refusals; and what maximum likelihood finds."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet.testing.parity import Case, case, check_case

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

RNG = np.random.default_rng(41)
SHAPE = (4, 5)
PROBABLE = RNG.random(SHAPE)
SIGNS = RNG.choice([-1.0, 1.0], SHAPE)
LABELS = np.array([0, 3, 1, 4])
W = [0.5, 1.0, 2.0, 0.25, 1.5]

# label, layer from (m, dtype, reduction), inputs
LAYERS: list[tuple[str, Any, tuple[Any, ...]]] = [
    ("L1Loss", lambda m, d, r: m.nn.L1Loss(reduction=r), (SHAPE, SHAPE)),
    ("MSELoss", lambda m, d, r: m.nn.MSELoss(None, None, r), (SHAPE, SHAPE)),
    ("SmoothL1Loss", lambda m, d, r: m.nn.SmoothL1Loss(reduction=r, beta=0.5), (SHAPE, SHAPE)),
    ("HuberLoss", lambda m, d, r: m.nn.HuberLoss(r, 0.7), (SHAPE, SHAPE)),
    ("BCELoss", lambda m, d, r: m.nn.BCELoss(reduction=r), (PROBABLE, PROBABLE)),
    ("BCELoss weight", lambda m, d, r: m.nn.BCELoss(m.tensor(W, dtype=d), reduction=r), (PROBABLE, PROBABLE)),
    ("BCEWithLogitsLoss", lambda m, d, r: m.nn.BCEWithLogitsLoss(reduction=r), (SHAPE, PROBABLE)),
    ("BCEWithLogitsLoss weights", lambda m, d, r: m.nn.BCEWithLogitsLoss(
        m.tensor(W, dtype=d), reduction=r, pos_weight=m.tensor(W, dtype=d)), (SHAPE, PROBABLE)),
    ("MultiMarginLoss", lambda m, d, r: m.nn.MultiMarginLoss(2, 0.5, m.tensor(W, dtype=d), reduction=r),
     (SHAPE, LABELS)),
    ("MultiLabelSoftMarginLoss", lambda m, d, r: m.nn.MultiLabelSoftMarginLoss(m.tensor(W, dtype=d), reduction=r),
     (SHAPE, PROBABLE)),
    ("HingeEmbeddingLoss", lambda m, d, r: m.nn.HingeEmbeddingLoss(0.5, reduction=r), (SHAPE, SIGNS.astype(int))),
    ("SoftMarginLoss", lambda m, d, r: m.nn.SoftMarginLoss(reduction=r), (SHAPE, SIGNS.astype(int))),
    ("KLDivLoss", lambda m, d, r: m.nn.KLDivLoss(reduction=r), (SHAPE, PROBABLE)),
    ("KLDivLoss log", lambda m, d, r: m.nn.KLDivLoss(reduction=r, log_target=True), (SHAPE, SHAPE)),
    ("PoissonNLLLoss", lambda m, d, r: m.nn.PoissonNLLLoss(False, True, reduction=r), (PROBABLE + 0.1, PROBABLE * 3)),
    ("GaussianNLLLoss", lambda m, d, r: m.nn.GaussianNLLLoss(full=True, eps=0.1, reduction=r),
     (SHAPE, SHAPE, PROBABLE)),
    ("MarginRankingLoss", lambda m, d, r: m.nn.MarginRankingLoss(0.3, reduction=r), (SHAPE, SHAPE, SIGNS)),
    ("CosineEmbeddingLoss", lambda m, d, r: m.nn.CosineEmbeddingLoss(0.1, reduction=r),
     (SHAPE, SHAPE, SIGNS[:, 0].astype(int))),
    ("TripletMarginLoss", lambda m, d, r: m.nn.TripletMarginLoss(2.0, 1.0, 1e-3, True, reduction=r),
     (SHAPE, SHAPE, SHAPE)),
    ("TripletMarginWithDistanceLoss", lambda m, d, r: m.nn.TripletMarginWithDistanceLoss(margin=2.0, reduction=r),
     (SHAPE, SHAPE, SHAPE)),
    ("NLLLoss", lambda m, d, r: m.nn.NLLLoss(m.tensor(W, dtype=d), ignore_index=3, reduction=r), (SHAPE, LABELS)),
    ("CrossEntropyLoss", lambda m, d, r: m.nn.CrossEntropyLoss(
        m.tensor(W, dtype=d), ignore_index=3, reduction=r, label_smoothing=0.1), (SHAPE, LABELS)),
    ("CrossEntropyLoss probabilities", lambda m, d, r: m.nn.CrossEntropyLoss(reduction=r), (SHAPE, PROBABLE)),
]  # fmt: skip


def _run(m: Any, make: Any, reduction: str, *inputs: Any) -> Any:
    layer = make(m, inputs[0].dtype, reduction)
    return layer(*inputs), repr(layer), sorted(layer.state_dict())


CASES = [
    case(f"{label} {reduction}", lambda m, *xs, make=make, r=reduction: _run(m, make, r, *xs), *inputs)
    for label, make, inputs in LAYERS
    for reduction in ("mean", "sum", "none")
] + [
    case("KLDivLoss batchmean", lambda m, x, y: m.nn.KLDivLoss(reduction="batchmean")(x, y), SHAPE, PROBABLE),
]  # fmt: skip


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


NAMES = sorted({label.split()[0] for label, _, _ in LAYERS})


@pytest.mark.parametrize("name", NAMES)
def test_signature_is_pytorchs(name: str) -> None:
    ours, theirs = (
        [(p.name, p.default) for p in inspect.signature(getattr(m.nn, name).__init__).parameters.values()]
        for m in (gn, torch)
    )
    assert ours == theirs


@pytest.mark.parametrize("name", NAMES)
def test_what_reduction_replaces_is_refused(name: str) -> None:
    if "size_average" in inspect.signature(getattr(gn.nn, name).__init__).parameters:
        for argument in ("size_average", "reduce"):
            with pytest.raises(
                ValueError, match=f"^{name}: size_average and reduce are no longer taken; use reduction"
            ):
                getattr(gn.nn, name)(**{argument: True})
    with pytest.raises(ValueError, match=f"^{name}: reduction must be 'none', .*, got 'average'$"):
        getattr(gn.nn, name)(reduction="average")


def test_the_sample_moments_maximise_the_likelihood() -> None:
    """B44: gradient descent on the Gaussian likelihood ends at the sample's mean and (biased) variance."""
    sample = np.random.default_rng(2).normal(1.5, 0.8, 200)
    x = gn.tensor(sample, dtype=gn.float64)
    mean = gn.zeros((), dtype=gn.float64, requires_grad=True)
    logarithm = gn.zeros((), dtype=gn.float64, requires_grad=True)
    for _ in range(400):
        loss = F.gaussian_nll_loss(mean.expand(200), x, logarithm.exp().expand(200))
        for parameter, gradient in zip((mean, logarithm), gn.autograd.grad(loss, (mean, logarithm)), strict=True):
            parameter.data -= 0.3 * gradient
    assert abs(mean.item() - sample.mean()) < 1e-8
    assert abs(np.exp(logarithm.item()) - sample.var()) < 1e-8


def test_likelihoods_of_the_course() -> None:
    """B44: log N(1; mu, 1) for mu = -1, 0, 1 (golden.json, "likelihood")."""
    for mean, expected in ((-1.0, -2.91893853), (0.0, -1.41893853), (1.0, -0.91893853)):
        loss = F.gaussian_nll_loss(gn.tensor([mean]), gn.tensor([1.0]), gn.tensor([1.0]), full=True)
        assert abs(-loss.item() - expected) < 1e-6
