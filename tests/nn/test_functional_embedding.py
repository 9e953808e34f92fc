"""``embedding`` and ``embedding_bag`` against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet.testing.parity import Case, case, check_case

RNG = np.random.default_rng(8)
SENTENCE = np.array([0, 2, 5, 2, 2, 6])
BATCH = RNG.integers(0, 7, (3, 4))
TABLE = (7, 5)


def look(label: str, index: Any, table: Any = TABLE, **kw: Any) -> Case:
    return case(f"embedding {label}", lambda m, i, w: m.nn.functional.embedding(i, w, **kw), np.asarray(index), table)


def _shortened(m: Any, i: Any, w: Any, **kw: Any) -> Any:
    """The result and the table, which is written to."""
    table = w.detach().clone().requires_grad_()
    y = m.nn.functional.embedding(i, table, **kw)
    return y, table.detach()


LOOK = [
    look("sentence", SENTENCE),
    look("batch", BATCH),
    look("3-d", BATCH.reshape(2, 3, 2)),
    look("0-d", 3),
    look("32 bits", BATCH.astype(np.int32)),
    look("empty", np.zeros((0, 4), int)),
    look("no columns", SENTENCE, (7, 0)),
    look("one row", np.zeros(4, int), (1, 3)),
    look("many", RNG.integers(0, 50, (40, 60)), (50, 33)),
    look("few of many", RNG.integers(0, 5000, 20), (5000, 3)),
    look("strided indices", np.arange(12).reshape(3, 4)[:, ::2] % 7),
    look("padding", BATCH, padding_idx=2),
    look("padding zero", SENTENCE, padding_idx=0),
    look("padding from the end", SENTENCE, padding_idx=-2),
    look("padding everywhere", np.full(4, 3), padding_idx=3),
    look("by frequency", BATCH, scale_grad_by_freq=True),
    look("by frequency with padding", BATCH, scale_grad_by_freq=True, padding_idx=1),
    case("embedding twice", lambda m, i, w: m.nn.functional.embedding(i, w) + m.nn.functional.embedding(i * 0, w),
         SENTENCE, TABLE),
    case("embedding of a transposed table", lambda m, i, w: m.nn.functional.embedding(i, w.t()), SENTENCE, (5, 7)),
    case("embedding of a computed table", lambda m, i, w: m.nn.functional.embedding(i, w * 2), SENTENCE, TABLE),
    case("embedding float16", lambda m, i, w: m.nn.functional.embedding(i, w.half()).float(), SENTENCE, TABLE,
         at_least=2e-3),
    case("embedding of integers", lambda m, i, w: m.nn.functional.embedding(i, w), SENTENCE,
         np.arange(14).reshape(7, 2)),
    *(case(f"embedding max_norm {label}", lambda m, i, w, kw=kw: _shortened(m, i, w, **kw), BATCH, TABLE)
      for label, kw in (("1", {"max_norm": 1.0}), ("of order 1", {"max_norm": 1.0, "norm_type": 1.0}),
                        ("of order 3", {"max_norm": 0.5, "norm_type": 3.0}), ("large", {"max_norm": 50.0}),
                        ("infinite order", {"max_norm": 0.5, "norm_type": float("inf")}))),
    # refused
    look("index too large", [0, 7]),
    look("index negative", [0, -1]),
    look("1-d table", SENTENCE, (7,)),
    look("3-d table", SENTENCE, (7, 2, 2)),
    case("embedding float indices", lambda m, i, w: m.nn.functional.embedding(i, w), (3,), TABLE),
    case("embedding 16-bit indices", lambda m, i, w: m.nn.functional.embedding(i, w), SENTENCE.astype(np.int16), TABLE),
    case("embedding bool indices", lambda m, i, w: m.nn.functional.embedding(i, w), SENTENCE > 2, TABLE),
]  # fmt: skip

OFFSETS = np.array([0, 2, 2, 5])
SCALES = RNG.standard_normal(len(SENTENCE))


def bag(label: str, index: Any, *offsets: Any, table: Any = TABLE, **kw: Any) -> Case:
    return case(
        f"embedding_bag {label}",
        lambda m, i, w, *o: m.nn.functional.embedding_bag(i, w, *o, **kw),
        np.asarray(index), table, *(np.asarray(o) for o in offsets),
    )  # fmt: skip


def _weighted(m: Any, i: Any, w: Any, o: Any, s: Any, mode: str) -> Any:
    return m.nn.functional.embedding_bag(i, w, o, mode=mode, per_sample_weights=s)


BAGS = [
    *(bag(f"{mode} {label}", index, *offsets, mode=mode)
      for mode in ("sum", "mean", "max")
      for label, index, offsets in (("batch", BATCH, ()), ("offsets", SENTENCE, (OFFSETS,)),
                                    ("32 bits", SENTENCE.astype(np.int32), (OFFSETS.astype(np.int32),)))),
    *(bag(f"{mode} padding", SENTENCE, OFFSETS, mode=mode, padding_idx=2) for mode in ("sum", "mean", "max")),
    *(bag(f"{mode} last offset", SENTENCE, np.array([0, 2, 2, 6]), mode=mode, include_last_offset=True)
      for mode in ("sum", "mean", "max")),
    bag("default is mean", BATCH),
    bag("by frequency", SENTENCE, OFFSETS, mode="sum", scale_grad_by_freq=True),
    bag("one long bag", RNG.integers(0, 7, 300), np.array([0]), mode="mean"),
    bag("padding from the end", BATCH, mode="sum", padding_idx=-1),
    case("embedding_bag weighted", lambda m, i, w, o, s: _weighted(m, i, w, o, s, "sum"), SENTENCE, TABLE, OFFSETS,
         SCALES),
    case("embedding_bag weighted batch", lambda m, i, w, s: _weighted(m, i, w, None, s, "sum"), BATCH, TABLE,
         BATCH.shape),
    # refused
    case("embedding_bag weighted mean", lambda m, i, w, o, s: _weighted(m, i, w, o, s, "mean"), SENTENCE, TABLE,
         OFFSETS, SCALES),
    case("embedding_bag weights of another shape", lambda m, i, w, o, s: _weighted(m, i, w, o, s, "sum"), SENTENCE,
         TABLE, OFFSETS, (3,)),
    bag("mode", BATCH, mode="median"),
    bag("no offsets", SENTENCE),
    bag("offsets with a batch", BATCH, OFFSETS),
    bag("3-d", BATCH.reshape(1, 3, 4)),
    bag("max by frequency", BATCH, mode="max", scale_grad_by_freq=True),
    bag("index too large", [[0, 7]]),
    bag("1-d table", BATCH, table=(7,)),
]  # fmt: skip

CASES = LOOK + BAGS


@pytest.mark.parity
@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    pytest.importorskip("torch")
    check_case(checked)


def test_labels_are_unique() -> None:
    labels = [checked.label for checked in CASES]
    assert len(labels) == len(set(labels))


@pytest.mark.parametrize(
    "call", [lambda i, w: F.embedding(i, w, sparse=True), lambda i, w: F.embedding_bag(i, w, sparse=True)]
)
def test_sparse_gradients_are_refused(call: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="sparse gradients are not supported; use sparse=False"):
        call(gn.tensor([[0, 1]]), gn.zeros(3, 2))


@pytest.mark.parametrize("frequency", [False, True])
def test_the_gradient_is_the_sum_over_places(frequency: bool) -> None:
    """A product with one-hot rows has the same gradient; by frequency it is divided by the number of places."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, 9, (6, 11))
    table = gn.from_numpy(rng.standard_normal((9, 4))).requires_grad_()
    seed = gn.from_numpy(rng.standard_normal((6, 11, 4)))
    F.embedding(gn.from_numpy(index), table, scale_grad_by_freq=frequency).backward(seed)
    hot = np.eye(9)[index.ravel()]
    expected = hot.T @ seed.numpy().reshape(-1, 4)
    if frequency:
        expected /= np.maximum(hot.sum(0), 1)[:, None]
    assert table.grad is not None
    np.testing.assert_allclose(table.grad.numpy(), expected, rtol=1e-12)


def test_the_gradient_repeats_bit_for_bit() -> None:
    rng = np.random.default_rng(1)
    index = gn.from_numpy(rng.integers(0, 20, (40, 50)))
    seed = gn.from_numpy(rng.standard_normal((40, 50, 8)).astype(np.float32))
    gradients = []
    for _ in range(2):
        table = gn.from_numpy(np.zeros((20, 8), np.float32)).requires_grad_()
        F.embedding(index, table).backward(seed)
        assert table.grad is not None
        gradients.append(table.grad.numpy().copy())
    np.testing.assert_array_equal(*gradients)


def test_shortening_is_seen_by_the_version_check() -> None:
    table = gn.ones(3, 4, requires_grad=True)
    y = (table * table).sum()
    F.embedding(gn.tensor([1]), table, max_norm=1.0)
    np.testing.assert_allclose(table.detach().numpy(), [[1] * 4, [0.5] * 4, [1] * 4], rtol=1e-6)
    with pytest.raises(gn.GradientError):
        y.backward()
