"""Bilinear maps, angles and distances against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpunet.testing.parity import Case, case, check_case

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

INF = float("inf")
ZERO_ROW = np.array([[0.0, 0.0, 0.0], [1.0, -2.0, 0.5]])
SMALL = np.array([[1e-9, -2e-9, 1e-9], [1.0, -2.0, 0.5]])
OTHER = np.array([[1.0, 2.0, 3.0], [0.5, 1.0, -1.0]])
TIED = np.array([[2.0, -2.0, 1.0], [0.0, 0.0, 0.0]])


def on(label: str, run: Callable[..., Any], *inputs: Any, **bounds: Any) -> Case:
    """A case of the functions alone: ``run`` takes ``nn.functional`` and the inputs."""
    return case(label, lambda m, *tensors: run(m.nn.functional, *tensors), *inputs, **bounds)


BILINEAR = [
    on("bilinear", lambda f, x, z, w, b: f.bilinear(x, z, w, b), (4, 3), (4, 5), (2, 3, 5), (2,)),
    on("bilinear no bias", lambda f, x, z, w: f.bilinear(x, z, w), (4, 3), (4, 5), (2, 3, 5)),
    on("bilinear 1-d", lambda f, x, z, w, b: f.bilinear(x, z, w, b), (3,), (5,), (2, 3, 5), (2,)),
    on("bilinear 3-d", lambda f, x, z, w, b: f.bilinear(x, z, w, b), (2, 6, 3), (2, 6, 5), (4, 3, 5), (4,)),
    on("bilinear large", lambda f, x, z, w, b: f.bilinear(x, z, w, b), (70, 30), (70, 40), (20, 30, 40), (20,),
       terms=1200),
    on("bilinear strided", lambda f, x, z, w: f.bilinear(x[::2], z[:, ::2], w), (4, 3), (2, 10), (2, 3, 5)),
    on("bilinear frozen weight", lambda f, x, z, w: f.bilinear(x, z, w.detach()), (4, 3), (4, 5), (2, 3, 5)),
    on("bilinear frozen inputs", lambda f, x, z, w: f.bilinear(x.detach(), z.detach(), w), (4, 3), (4, 5), (2, 3, 5)),
    on("bilinear empty", lambda f, x, z, w: f.bilinear(x, z, w), (0, 3), (0, 5), (2, 3, 5)),
    on("bilinear wrong first", lambda f, x, z, w: f.bilinear(x, z, w), (4, 2), (4, 5), (2, 3, 5)),
    on("bilinear wrong second", lambda f, x, z, w: f.bilinear(x, z, w), (4, 3), (4, 4), (2, 3, 5)),
    on("bilinear wrong rows", lambda f, x, z, w: f.bilinear(x, z, w), (4, 3), (3, 5), (2, 3, 5)),
    on("bilinear wrong weight", lambda f, x, z, w: f.bilinear(x, z, w), (4, 3), (4, 5), (3, 5)),
    on("bilinear wrong bias", lambda f, x, z, w, b: f.bilinear(x, z, w, b), (4, 3), (4, 5), (2, 3, 5), (3,)),
    on("bilinear integers", lambda f, x, z, w: f.bilinear(x, z, w),
       np.ones((4, 3), int), np.ones((4, 5), int), np.ones((2, 3, 5), int)),
]  # fmt: skip

COSINE = [
    on(f"cosine_similarity {label}", lambda f, x, y, kw=kw: f.cosine_similarity(x, y, **kw), x, y, terms=terms)
    for label, x, y, kw, terms in (
        ("rows", (4, 5), (4, 5), {}, 5),
        ("columns", (4, 5), (4, 5), {"dim": 0}, 4),
        ("images", (2, 4, 3, 5), (2, 4, 3, 5), {"dim": 1}, 4),
        ("last", (2, 3, 4), (2, 3, 4), {"dim": -1}, 4),
        ("1-d", (6,), (6,), {"dim": 0}, 6),
        ("broadcast", (4, 5), (1, 5), {}, 20),
        ("broadcast rank", (3, 4, 5), (4, 5), {"dim": 2}, 20),
        ("every pair", (4, 1, 5), (1, 3, 5), {"dim": 2}, 20),
        ("zero", ZERO_ROW, OTHER, {}, 3),
        ("below eps", SMALL, OTHER, {}, 3),
        ("large eps", (4, 5), (4, 5), {"eps": 10.0}, 5),
        ("many", (700, 90), (700, 90), {}, 90),
        ("many columns", (90, 7000), (90, 7000), {"dim": 0}, 90),
        ("large", np.full((2, 3), 1e3), OTHER * 1e4, {}, 3),
        ("empty", (0, 5), (0, 5), {}, 5),
        ("of nothing", (4, 0), (4, 0), {}, 1),
        ("wrong shapes", (4, 5), (4, 3), {}, 5),
        ("dim too large", (4, 5), (4, 5), {"dim": 2}, 5),
        ("1-d default dim", (5,), (5,), {}, 5),
        ("0-d", (), (), {"dim": 0}, 1),
        ("integers", np.arange(6).reshape(2, 3), np.arange(6).reshape(2, 3), {}, 3),
        ("integers and floats", np.arange(6).reshape(2, 3), OTHER, {}, 3),
    )
] + [
    case("cosine_similarity mixed dtypes", lambda m, x, y: m.nn.functional.cosine_similarity(x.float(), y.double()),
         (4, 5), (4, 5), at_least=1e-6),
    on("cosine_similarity one frozen", lambda f, x, y: f.cosine_similarity(x, y.detach()), (4, 5), (4, 5)),
    on("cosine_similarity channels last", lambda f, x, y: f.cosine_similarity(x.permute(0, 3, 1, 2), y),
       (2, 3, 5, 4), (2, 4, 3, 5)),
]  # fmt: skip

DISTANCE = [
    on(f"pairwise_distance {label}", lambda f, x, y, kw=kw: f.pairwise_distance(x, y, **kw), x, y, terms=terms)
    for label, x, y, kw, terms in (
        ("rows", (4, 5), (4, 5), {}, 5),
        ("keepdim", (4, 5), (4, 5), {"keepdim": True}, 5),
        ("1-d", (5,), (5,), {}, 5),
        ("3-d", (2, 4, 5), (2, 4, 5), {}, 5),
        ("broadcast", (4, 5), (1, 5), {}, 20),
        ("broadcast rank", (4, 5), (5,), {}, 20),
        ("p 1", (4, 5), (4, 5), {"p": 1}, 5),
        ("p 3", (4, 5), (4, 5), {"p": 3.0}, 5),
        ("p 1.5", (4, 5), (4, 5), {"p": 1.5, "keepdim": True}, 5),
        ("p 0.5", (4, 5), (4, 5), {"p": 0.5}, 5),
        ("p infinite", (4, 5), (4, 5), {"p": INF}, 5),
        ("p minus infinite", (4, 5), (4, 5), {"p": -INF}, 5),
        ("p infinite ties", TIED, TIED * 0, {"p": INF, "eps": 0.0}, 3),
        ("equal", OTHER, OTHER, {}, 3),
        ("equal without eps", OTHER, OTHER, {"eps": 0.0}, 3),
        ("equal p 1", OTHER, OTHER, {"p": 1, "eps": 0.0}, 3),
        ("equal p 3", OTHER, OTHER, {"p": 3, "eps": 0.0}, 3),
        ("some equal p 3", OTHER, OTHER * np.array([1.0, 2.0, 1.0]), {"p": 3, "eps": 0.0}, 3),
        ("eps", (4, 5), (4, 5), {"eps": 0.5}, 5),
        ("many", (700, 90), (700, 90), {}, 90),
        ("many p 1", (700, 90), (700, 90), {"p": 1}, 90),
        ("empty", (0, 5), (0, 5), {}, 5),
        ("of nothing", (4, 0), (4, 0), {}, 1),
        ("wrong shapes", (4, 5), (4, 3), {}, 5),
    )
] + [
    on("pairwise_distance positional", lambda f, x, y: f.pairwise_distance(x, y, 2.0, 1e-3, True), (4, 5), (4, 5)),
    on("pairwise_distance p 0", lambda f, x, y: f.pairwise_distance(x.detach(), y.detach(), 0.0), (4, 5), (4, 5)),
    on("pairwise_distance one frozen", lambda f, x, y: f.pairwise_distance(x.detach(), y), (4, 5), (4, 5)),
]  # fmt: skip


@pytest.mark.parametrize("checked", BILINEAR + COSINE + DISTANCE, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)
