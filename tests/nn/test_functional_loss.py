"""Losses against PyTorch, with every reduction, special values and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.testing.parity import Case, attempt, case, check_case, compare_outcomes

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

NAN, INF = float("nan"), float("inf")
RNG = np.random.default_rng(37)
REDUCTIONS = ("mean", "sum", "none")
SHAPE = (4, 5)
SIGNS = RNG.choice([-1.0, 1.0], SHAPE)
ROW_SIGNS = RNG.choice([-1.0, 1.0], 4)
PROBABLE = RNG.random(SHAPE)
CERTAIN = np.array([[0.0, 1.0, 0.5, 0.0], [1.0, 0.0, 1.0, 1.0]])
HALVES = np.array([[0.0, 1.0, 1.0, 0.25], [0.0, 1.0, 0.5, 1.0]])
WEIGHTS = RNG.random(SHAPE) * 0.9 + 0.1
COUNTS = RNG.integers(0, 6, SHAPE).astype(np.float64)
LABELS = np.array([0, 3, 1, 4])
TIED = np.array([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5])
MANY = (31, 37, 67)
MANY_PROBABLE = RNG.random(MANY)


def on(label: str, run: Callable[..., Any], *inputs: Any, **bounds: Any) -> Case:
    """A case of the functions alone: ``run`` takes ``nn.functional`` and the inputs."""
    return case(label, lambda m, *tensors: run(m.nn.functional, *tensors), *inputs, **bounds)


# label, function of (f, *tensors, **reduction), inputs
# fmt: off
LOSSES: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = []


def loss(label: str, run: Callable[..., Any], *inputs: Any) -> None:
    LOSSES.append((label, run, inputs))


def _pair(f: Any, name: str, x: Any, y: Any, kw: dict[str, Any]) -> Any:
    # PyTorch's soft_margin_loss has no gradient in its target, ours has; there it is data.
    return getattr(f, name)(x, y.detach() if name == "soft_margin_loss" else y, **kw)


for name in ("l1_loss", "mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss"):
    for kind, x, y in (
        ("plain", SHAPE, SHAPE), ("image", (2, 3, 4, 5), (2, 3, 4, 5)), ("0-d", (), ()), ("empty", (0, 3), (0, 3)),
        ("many", MANY, MANY), ("ties", TIED, TIED * 0), ("equal", TIED, TIED),
        ("large", TIED * 1e6, TIED * -1e5 if name != "soft_margin_loss" else TIED * 1e-6),
        ("wrong shapes", (4, 5), (4, 3)), ("integers", np.arange(6), np.arange(6)),
        ("integer target", (6,), np.arange(6)),
    ):
        loss(f"{name} {kind}", lambda f, x, y, name=name, **kw: _pair(f, name, x, y, kw), x, y)
for name in ("l1_loss", "mse_loss", "smooth_l1_loss", "huber_loss"):
    for kind, x, y in (
        ("broadcast", (4, 5), (5,)), ("broadcast both", (4, 1), (1, 5)), ("of a number", (4, 5), ()),
        ("NaN", np.array([NAN, 1.0]), np.array([0.0, 2.0])), ("infinite", np.array([INF, 1.0]), np.array([0.0, -INF])),
    ):
        loss(f"{name} {kind}", lambda f, x, y, name=name, **kw: getattr(f, name)(x, y, **kw), x, y)
loss("mse_loss weight", lambda f, x, y, w, **kw: f.mse_loss(x, y, weight=w.detach(), **kw), SHAPE, SHAPE, WEIGHTS)
for beta in (0.5, 0.0, 2.0, -1.0):
    loss(
        f"smooth_l1_loss beta {beta}",
        lambda f, x, y, b=beta, **kw: f.smooth_l1_loss(x, y, beta=b, **kw),
        TIED,
        TIED * 0,
    )
for delta in (0.5, 2.0, 0.0, -1.0):
    loss(f"huber_loss delta {delta}",
         lambda f, x, y, d=delta, **kw: f.huber_loss(x, y, delta=d, **kw), TIED, TIED * 0)

BCE = "binary_cross_entropy"
for kind, x, y in (
    ("plain", PROBABLE, WEIGHTS), ("certain", CERTAIN, HALVES), ("many", MANY_PROBABLE, MANY_PROBABLE),
    ("0-d", np.array(0.3), np.array(1.0)), ("empty", (0, 3), (0, 3)), ("above one", PROBABLE * 2, WEIGHTS),
    ("negative", PROBABLE - 0.5, WEIGHTS), ("NaN", np.array([NAN, 0.5]), np.array([1.0, 1.0])),
    ("other shape", PROBABLE, WEIGHTS[0]), ("integers", np.array([0, 1]), np.array([0, 1])),
):
    loss(f"{BCE} {kind}", lambda f, x, y, **kw: f.binary_cross_entropy(x, y, **kw), x, y)
loss(
    f"{BCE} weight",
    lambda f, x, y, w, **kw: f.binary_cross_entropy(x, y, w.detach(), **kw),
    PROBABLE,
    PROBABLE,
    WEIGHTS,
)
loss(f"{BCE} class weights", lambda f, x, y, w, **kw: f.binary_cross_entropy(x, y, weight=w.detach(), **kw),
     PROBABLE, PROBABLE, WEIGHTS[0])
LOGITS = f"{BCE}_with_logits"
for kind, x, y in (
    ("plain", SHAPE, PROBABLE), ("image", (2, 3, 4, 5), (2, 3, 4, 5)), ("many", MANY, MANY_PROBABLE), ("0-d", (), ()),
    ("empty", (0, 3), (0, 3)), ("large", TIED * 1000, np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0])),
    ("other shape", (4, 5), (5,)), ("integer target", (4,), np.array([0, 1, 0, 1])),
):
    loss(f"{LOGITS} {kind}", lambda f, x, y, **kw: f.binary_cross_entropy_with_logits(x, y, **kw), x, y)
loss(f"{LOGITS} weight", lambda f, x, y, w, **kw: f.binary_cross_entropy_with_logits(x, y, w.detach(), **kw),
     SHAPE, PROBABLE, WEIGHTS)
loss(f"{LOGITS} pos_weight",
     lambda f, x, y, p, **kw: f.binary_cross_entropy_with_logits(x, y, pos_weight=p.detach(), **kw),
     SHAPE, PROBABLE, WEIGHTS[0] * 3)
loss(f"{LOGITS} both weights",
     lambda f, x, y, w, p, **kw: f.binary_cross_entropy_with_logits(x, y, w.detach(), pos_weight=p.detach(), **kw),
     SHAPE, PROBABLE, WEIGHTS[:, :1], WEIGHTS[0] * 3)

for log_target in (False, True):
    for kind, x, y in (("plain", SHAPE, PROBABLE), ("0-d", (), np.array(0.4)), ("empty", (0, 3), (0, 3)),
                       ("many", MANY, MANY_PROBABLE + 0.1), ("broadcast", SHAPE, PROBABLE[0])):
        loss(f"kl_div {kind}{' log' * log_target}",
             lambda f, x, y, log=log_target, **kw: f.kl_div(x, y, log_target=log, **kw), x, y)
loss("kl_div zeros", lambda f, x, y, **kw: f.kl_div(x, y.detach(), **kw), (2, 4), CERTAIN)

for kind, kw in (("plain", {}), ("rate", {"log_input": False}), ("full", {"full": True}),
                 ("full rate", {"log_input": False, "full": True, "eps": 1e-3})):
    loss(f"poisson_nll_loss {kind}",
         lambda f, x, y, options=kw, **kw: f.poisson_nll_loss(x, y.detach(), **options, **kw),
         PROBABLE + 0.1, COUNTS)
loss("poisson_nll_loss broadcast", lambda f, x, y, **kw: f.poisson_nll_loss(x, y, **kw), SHAPE, COUNTS[0])
loss("poisson_nll_loss target gradient", lambda f, x, y, **kw: f.poisson_nll_loss(x, y, full=True, **kw), SHAPE,
     PROBABLE * 4 + 0.2)

for kind, kw in (("plain", {}), ("full", {"full": True}), ("eps", {"eps": 0.4})):
    loss(f"gaussian_nll_loss {kind}",
         lambda f, x, y, v, options=kw, **kw: f.gaussian_nll_loss(x, y, v, **options, **kw),
         SHAPE, SHAPE, PROBABLE)
loss("gaussian_nll_loss one variance a row", lambda f, x, y, v, **kw: f.gaussian_nll_loss(x, y, v, **kw),
     SHAPE, SHAPE, PROBABLE[:, 0] + 0.1)
loss("gaussian_nll_loss column", lambda f, x, y, v, **kw: f.gaussian_nll_loss(x, y, v, **kw),
     SHAPE, SHAPE, PROBABLE[:, :1] + 0.1)
loss("gaussian_nll_loss number", lambda f, x, y, **kw: f.gaussian_nll_loss(x, y, 0.7, **kw), SHAPE, SHAPE)
loss("gaussian_nll_loss broadcast target", lambda f, x, y, v, **kw: f.gaussian_nll_loss(x, y, v, **kw),
     SHAPE, (4, 1), PROBABLE + 0.1)
loss("gaussian_nll_loss negative",
     lambda f, x, y, v, **kw: f.gaussian_nll_loss(x, y, v, **kw), SHAPE, SHAPE, -PROBABLE)
loss("gaussian_nll_loss wrong variance", lambda f, x, y, v, **kw: f.gaussian_nll_loss(x, y, v, **kw),
     SHAPE, SHAPE, PROBABLE[:, :2])
loss("gaussian_nll_loss eps zero", lambda f, x, y, v, **kw: f.gaussian_nll_loss(x, y, v, eps=0.0, **kw),
     SHAPE, SHAPE, PROBABLE)

for margin in (1.0, 0.5, -0.5):
    loss(f"hinge_embedding_loss margin {margin}",
         lambda f, x, y, margin=margin, **kw: f.hinge_embedding_loss(x, y.detach(), margin, **kw), SHAPE, SIGNS)
loss("hinge_embedding_loss ties", lambda f, x, **kw: f.hinge_embedding_loss(x, -(x.detach().abs() ** 0), **kw), TIED)
loss(
    "hinge_embedding_loss other targets",
    lambda f, x, y, **kw: f.hinge_embedding_loss(x, y.detach(), **kw),
    SHAPE,
    COUNTS,
)
loss("hinge_embedding_loss integer target", lambda f, x, y, **kw: f.hinge_embedding_loss(x, y, **kw),
     SHAPE, SIGNS.astype(int))
loss("hinge_embedding_loss empty", lambda f, x, y, **kw: f.hinge_embedding_loss(x, y.detach(), **kw), (0, 3), (0, 3))

for margin in (0, 0.5, -0.25):
    loss(f"margin_ranking_loss margin {margin}",
         lambda f, x, y, t, margin=margin, **kw: f.margin_ranking_loss(x, y, t, margin, **kw), SHAPE, SHAPE, SIGNS)
loss("margin_ranking_loss ties", lambda f, x, y, t, **kw: f.margin_ranking_loss(x, y, t, **kw), TIED, TIED, TIED)
loss(
    "margin_ranking_loss broadcast",
    lambda f, x, y, t, **kw: f.margin_ranking_loss(x, y, t, **kw),
    SHAPE,
    (1, 5),
    SIGNS,
)
loss(
    "margin_ranking_loss other ranks",
    lambda f, x, y, t, **kw: f.margin_ranking_loss(x, y, t, **kw),
    SHAPE,
    SHAPE,
    SIGNS[0],
)

for kind, kw in (("plain", {}), ("p 2", {"p": 2}), ("margin", {"margin": 0.3}), ("p 2 margin", {"p": 2, "margin": 2.0}),
                 ("p 3", {"p": 3})):
    loss(f"multi_margin_loss {kind}", lambda f, x, t, options=kw, **kw: f.multi_margin_loss(x, t, **options, **kw),
         SHAPE, LABELS)
loss("multi_margin_loss weight", lambda f, x, t, w, **kw: f.multi_margin_loss(x, t, weight=w.detach(), **kw),
     SHAPE, LABELS, WEIGHTS[0])
loss("multi_margin_loss 1-d", lambda f, x, t, **kw: f.multi_margin_loss(x, t, **kw), (5,), np.array(3))
loss("multi_margin_loss ties",
     lambda f, x, t, **kw: f.multi_margin_loss(x, t, **kw), np.array([[1.0, 0.0, 1.0, 2.0]]),
     np.array([0]))
loss("multi_margin_loss many", lambda f, x, t, **kw: f.multi_margin_loss(x, t, **kw), (900, 50), np.arange(900) % 50)
loss("multi_margin_loss label too large", lambda f, x, t, **kw: f.multi_margin_loss(x, t, **kw), SHAPE, LABELS + 1)
loss("multi_margin_loss label negative", lambda f, x, t, **kw: f.multi_margin_loss(x, t, **kw), SHAPE, LABELS - 1)
loss("multi_margin_loss wrong labels", lambda f, x, t, **kw: f.multi_margin_loss(x, t, **kw), SHAPE, LABELS[:3])
loss("multi_margin_loss wrong weight", lambda f, x, t, w, **kw: f.multi_margin_loss(x, t, weight=w.detach(), **kw),
     SHAPE, LABELS, WEIGHTS[0, :3])

MULTI = "multilabel_soft_margin_loss"
loss(MULTI, lambda f, x, y, **kw: f.multilabel_soft_margin_loss(x, y, **kw), SHAPE, PROBABLE)
loss(f"{MULTI} weight", lambda f, x, y, w, **kw: f.multilabel_soft_margin_loss(x, y, w.detach(), **kw),
     SHAPE, PROBABLE, WEIGHTS[0])
loss(f"{MULTI} 1-d", lambda f, x, y, **kw: f.multilabel_soft_margin_loss(x, y, **kw), (5,), PROBABLE[0])
loss(f"{MULTI} 3-d", lambda f, x, y, **kw: f.multilabel_soft_margin_loss(x, y, **kw), (2, 3, 4), (2, 3, 4))

for kind, kw in (("plain", {}), ("margin", {"margin": 0.5}), ("negative margin", {"margin": -0.5})):
    loss(f"cosine_embedding_loss {kind}",
         lambda f, x, y, t, options=kw, **kw: f.cosine_embedding_loss(x, y, t.detach(), **options, **kw),
         SHAPE, SHAPE, ROW_SIGNS)
loss("cosine_embedding_loss 1-d", lambda f, x, y, t, **kw: f.cosine_embedding_loss(x, y, t.detach(), **kw),
     (5,), (5,), np.array(-1.0))
loss("cosine_embedding_loss integer target", lambda f, x, y, t, **kw: f.cosine_embedding_loss(x, y, t, **kw),
     SHAPE, SHAPE, ROW_SIGNS.astype(int))
loss("cosine_embedding_loss wrong target", lambda f, x, y, t, **kw: f.cosine_embedding_loss(x, y, t.detach(), **kw),
     SHAPE, SHAPE, SIGNS)
loss("cosine_embedding_loss wrong shapes", lambda f, x, y, t, **kw: f.cosine_embedding_loss(x, y, t.detach(), **kw),
     SHAPE, (4, 3), ROW_SIGNS)

for kind, kw in (
    ("plain", {}), ("margin", {"margin": 3.0}), ("p 1", {"p": 1}), ("p 3", {"p": 3.0, "eps": 1e-3}),
    ("swap", {"swap": True, "margin": 2.0}), ("margin zero", {"margin": 0.0}), ("margin negative", {"margin": -1.0}),
):
    loss(f"triplet_margin_loss {kind}",
         lambda f, a, p, n, options=kw, **kw: f.triplet_margin_loss(a, p, n, **options, **kw), SHAPE, SHAPE, SHAPE)
loss("triplet_margin_loss 1-d", lambda f, a, p, n, **kw: f.triplet_margin_loss(a, p, n, **kw), (5,), (5,), (5,))
loss("triplet_margin_loss ranks", lambda f, a, p, n, **kw: f.triplet_margin_loss(a, p, n, **kw), SHAPE, SHAPE, (5,))
loss("triplet_margin_with_distance_loss", lambda f, a, p, n, **kw: f.triplet_margin_with_distance_loss(a, p, n, **kw),
     SHAPE, SHAPE, SHAPE)
loss("triplet_margin_with_distance_loss function",
     lambda f, a, p, n, **kw: f.triplet_margin_with_distance_loss(
         a, p, n, distance_function=lambda x, y: 1 - f.cosine_similarity(x, y), margin=0.5, swap=True, **kw),
     SHAPE, SHAPE, SHAPE)
# fmt: on

CASES = [
    on(f"{label} {reduction}", lambda f, *xs, run=run, r=reduction: run(f, *xs, reduction=r), *inputs,
       terms=int(np.prod(MANY)),
       at_least=1e-8 if label == f"{BCE} certain" else 0.0)  # PyTorch divides by no less than float32's 1e-12
    for label, run, inputs in LOSSES
    for reduction in REDUCTIONS
] + [
    on("kl_div batchmean", lambda f, x, y: f.kl_div(x, y, reduction="batchmean"), SHAPE, PROBABLE),
    on("kl_div batchmean log", lambda f, x, y: f.kl_div(x, y, reduction="batchmean", log_target=True), SHAPE, SHAPE),
] + [
    on(f"{name} unknown reduction", lambda f, *xs, name=name: getattr(f, name)(*xs, reduction="average"), *inputs)
    for name, inputs in (
        ("l1_loss", (SHAPE, SHAPE)), ("mse_loss", (SHAPE, SHAPE)), ("smooth_l1_loss", (SHAPE, SHAPE)),
        ("huber_loss", (SHAPE, SHAPE)), (BCE, (PROBABLE, PROBABLE)), (LOGITS, (SHAPE, PROBABLE)),
        ("kl_div", (SHAPE, PROBABLE)), ("poisson_nll_loss", (SHAPE, COUNTS)),
        ("gaussian_nll_loss", (SHAPE, SHAPE, PROBABLE)), ("soft_margin_loss", (SHAPE, SHAPE)),
        ("hinge_embedding_loss", (SHAPE, SHAPE)), ("margin_ranking_loss", (SHAPE, SHAPE, SIGNS)),
        ("multi_margin_loss", (SHAPE, LABELS)), (MULTI, (SHAPE, PROBABLE)),
        ("cosine_embedding_loss", (SHAPE, SHAPE, ROW_SIGNS)), ("triplet_margin_loss", (SHAPE, SHAPE, SHAPE)),
    )
] + [
    on(f"cross_entropy many {label}", lambda f, x, t, kw=kw: f.cross_entropy(x, t, **kw), x, t, terms=4096)
    for label, x, t, kw in (
        ("rows", (900, 70), np.arange(900) % 70, {}),
        ("rows smoothing", (900, 70), np.arange(900) % 70, {"label_smoothing": 0.1, "reduction": "sum"}),
        ("columns", (2, 20, 90, 41), RNG.integers(0, 20, (2, 90, 41)), {"label_smoothing": 0.1, "ignore_index": 3}),
        ("columns none", (2, 20, 90, 41), RNG.integers(0, 20, (2, 90, 41)), {"reduction": "none"}),
        ("probabilities", (900, 70), RNG.random((900, 70)), {"label_smoothing": 0.1}),
    )
] + [
    on("nll_loss many columns", lambda f, x, t: f.nll_loss(x, t), (2, 20, 90, 41), RNG.integers(0, 20, (2, 90, 41)),
       reversed_order=False),  # PyTorch's own gradient must be contiguous, and is not
    # Of the mean and the sum of nothing PyTorch returns uninitialised memory.
    on("multi_margin_loss empty", lambda f, x, t: f.multi_margin_loss(x, t, reduction="none"), (0, 5), LABELS[:0]),
    on("cross_entropy positional", lambda f, x, t: f.cross_entropy(x, t, None, None, 1, None, "sum", 0.1),
       SHAPE, LABELS),
    on("nll_loss positional", lambda f, x, t: f.nll_loss(x, t, None, None, 1, None, "sum"), SHAPE, LABELS),
]  # fmt: skip


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


# PyTorch has these losses for half types on the CPU.
HALF = (
    "l1_loss plain",
    "mse_loss plain",
    "smooth_l1_loss plain",
    "huber_loss plain",
    f"{LOGITS} plain",
    "margin_ranking_loss margin 0.5",
    "hinge_embedding_loss margin 1.0",
)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("label", HALF)
def test_half_types(label: str, name: str) -> None:
    """Sums are carried in float32."""
    run, inputs = next((run, inputs) for found, run, inputs in LOSSES if found == label)
    rng = np.random.default_rng(5)
    arrays = [np.asarray(rng.standard_normal(x) if isinstance(x, tuple) else x, np.float32) for x in inputs]

    def cast(m: Any, *tensors: Any) -> Any:
        return run(m.nn.functional, *(tensor.to(getattr(m, name)) for tensor in tensors))

    ours, theirs = (attempt(module, cast, [array.copy() for array in arrays]) for module in (gn, torch))
    problems = compare_outcomes(ours, theirs, {"float16": 4e-3, "bfloat16": 3e-2}[name])
    assert not problems, "\n".join(problems)
