"""Products over any indices, diagonals and distances, against PyTorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from gpunet.testing.parity import Case, case, check_case

pytest.importorskip("torch")
pytestmark = pytest.mark.parity

INTEGERS = np.array([[3, -7, 0], [12, 5, -1]])

EQUATIONS: tuple[Any, ...] = (
    ("ij->ji", (3, 4)),
    ("ij", (3, 4)),
    ("ji", (3, 4)),
    ("ij->", (3, 4)),
    ("ijk->j", (2, 3, 4)),
    ("ii->i", (4, 4)),
    ("ii", (4, 4)),
    ("iij->j", (3, 3, 2)),
    ("...ii->...i", (2, 3, 3)),
    ("...->", (2, 3)),
    ("i...->...", (2, 3, 4)),
    ("ij,jk->ik", (3, 4), (4, 5)),
    ("ij,jk", (3, 4), (4, 5)),
    ("ij,kj->ki", (3, 4), (5, 4)),
    ("ij,j->i", (3, 4), (4,)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("bhid,bhjd->bhij", (2, 2, 3, 4), (2, 2, 5, 4)),
    ("i,j->ij", (3,), (4,)),
    ("i,i->", (5,), (5,)),
    ("i,i->i", (5,), (5,)),
    ("ij,ij->", (3, 4), (3, 4)),
    ("...ij,...jk->...ik", (2, 3, 4), (4, 5)),
    ("...i,...i->...", (2, 1, 4), (3, 4)),
    ("ij,jk->k", (3, 4), (4, 5)),
    ("ii,ij->j", (3, 3), (3, 4)),
    ("ij,ij->i", (3, 1), (3, 4)),
    ("nchw,kc->nkhw", (2, 3, 4, 4), (5, 3)),
    ("i , j -> j i", (3,), (4,)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("bn,anm,bm->ba", (2, 3), (4, 3, 5), (2, 5)),
    ("i,j,k->ijk", (2,), (3,), (4,)),
    ("ij,ij,ij->j", (2, 3), (2, 3), (2, 3)),
    ("Ab,bA->A", (2, 3), (3, 2)),
    ("ij,jk->ik", (0, 4), (4, 5)),
    ("ij,jk->ik", (3, 0), (0, 5)),
    ("...ij->...", (2, 3, 4)),
    (",ij->ij", (), (2, 3)),
    ("ij,...jk->...ik", (3, 4), (2, 4, 5)),
    ("ij,jk->ik", (3, 4), (5, 6)),
    ("ij,jk", (3, 4)),
    ("ijk->i", (3, 4)),
    ("ij->k", (3, 4)),
    ("ij->ii", (3, 4)),
    ("i1->i", (3, 4)),
    ("ii->i", (3, 4)),
    ("...i...->i", (3, 4)),
)
CASES = [
    case(
        f"einsum {equation} {' '.join(map(str, shapes))}",
        lambda m, *x, equation=equation: m.einsum(equation, *x),
        *shapes,
    )
    for equation, *shapes in EQUATIONS
] + [
    case("einsum list", lambda m, x, y: m.einsum("ij,jk->ik", [x, y]), (3, 4), (4, 5)),
    case("einsum of one twice", lambda m, x: m.einsum("ij,kj->ik", x, x), (3, 4)),
    case("einsum strided", lambda m, x, y: m.einsum("ij,jk->ki", x.T, y[::2]), (4, 3), (8, 5)),
    case("einsum integers", lambda m, x: m.einsum("ij,kj->ik", x, x), INTEGERS),
    case("einsum mixed", lambda m, x, y: m.einsum("ij,ij->i", x, y), (2, 3), INTEGERS),
    case("einsum large", lambda m, x, y: m.einsum("bij,bjk->bik", x, y), (4, 40, 50), (4, 50, 30), terms=50),
    case("tensordot", lambda m, x, y: m.tensordot(x, y), (2, 3, 4), (3, 4, 5)),
    case("tensordot one", lambda m, x, y: m.tensordot(x, y, dims=1), (2, 3), (3, 4)),
    case("tensordot none", lambda m, x, y: m.tensordot(x, y, dims=0), (2, 3), (4,)),
    case("tensordot lists", lambda m, x, y: m.tensordot(x, y, dims=([1, 0], [0, 1])), (3, 4, 5), (4, 3, 2)),
    case("tensordot sizes", lambda m, x, y: m.tensordot(x, y, dims=1), (2, 3), (4, 5)),
    case("tensordot lengths", lambda m, x, y: m.tensordot(x, y, dims=([0, 1], [0])), (3, 4), (3, 4)),
    case("outer", lambda m, x, y: (m.outer(x, y), x.ger(y), m.ger(x, y)), (3,), (4,)),
    case("outer 2-d", lambda m, x, y: m.outer(x, y), (3, 1), (4,)),
    case("inner", lambda m, x, y: m.inner(x, y), (2, 3, 4), (5, 4)),
    case("inner vectors", lambda m, x, y: x.inner(y), (4,), (4,)),
    case("inner 0-d", lambda m, x, y: m.inner(x, y), (), (4,)),
    case("inner sizes", lambda m, x, y: m.inner(x, y), (3,), (4,)),
    case("mv function", lambda m, x, y: m.mv(x, y), (3, 4), (4,)),
    case("bmm function", lambda m, x, y: m.bmm(x, y), (2, 3, 4), (2, 4, 5)),
    case("mm sizes", lambda m, x, y: m.mm(x, y), (3, 4), (5, 4)),
    case("dot function", lambda m, x, y: (m.dot(x, y), m.vdot(x, y)), (4,), (4,)),
    case("dot sizes", lambda m, x, y: m.dot(x, y), (4,), (5,)),
    case("mm dtypes", lambda m, x, y: m.mm(x, y), (3, 4), np.arange(8).reshape(4, 2)),
    case("addmm", lambda m, b, x, y: m.addmm(b, x, y, beta=0.5, alpha=2), (5,), (3, 4), (4, 5)),
    case(
        "addmm without input", lambda m, b, x, y: m.addmm(b.detach(), x, y, beta=0), np.full(5, np.nan), (3, 4), (4, 5)
    ),
    case("addmm too large", lambda m, b, x, y: b.addmm(x, y), (2, 3, 5), (3, 4), (4, 5)),
    case("addmv", lambda m, b, x, y: m.addmv(b, x, y), (3,), (3, 4), (4,)),
    case("addr", lambda m, b, x, y: m.addr(b, x, y, alpha=-1), (3, 4), (3,), (4,)),
    case("baddbmm", lambda m, b, x, y: m.baddbmm(b, x, y, beta=2), (2, 3, 5), (2, 3, 4), (2, 4, 5)),
    case("addbmm", lambda m, b, x, y: m.addbmm(b, x, y), (3, 5), (2, 3, 4), (2, 4, 5)),
    case("kron", lambda m, x, y: m.kron(x, y), (2, 3), (3, 2)),
    case("kron ranks", lambda m, x, y: m.kron(x, y), (3,), (2, 2), reversed_order=False),  # PyTorch raises there
    case("cross", lambda m, x, y: (m.cross(x, y, dim=1), m.linalg.cross(x, y)), (4, 3), (4, 3)),
    case("cross default", lambda m, x, y: m.cross(x, y), (3, 4), (3, 4)),
    case("cross size", lambda m, x, y: m.cross(x, y, dim=1), (4, 2), (4, 2)),
    case("trace", lambda m, x: m.trace(x), (3, 4)),
    case("trace 3-d", lambda m, x: m.trace(x), (3, 4, 4)),
    case("diagonal", lambda m, x: (m.diagonal(x), x.diagonal(1), x.diagonal(-1, 1, 2)), (3, 4, 5)),
    case("diagonal far", lambda m, x: m.diagonal(x, 9), (3, 4)),
    case("diagonal 1-d", lambda m, x: m.diagonal(x), (3,)),
    case("diagonal same", lambda m, x: m.diagonal(x, 0, 1, -1), (3, 4)),
    case("diagonal written", lambda m, x: _filled(x), (3, 4)),
    case("diag", lambda m, x: (m.diag(x), m.diag(x, 1), x.diag(-2)), (3,)),
    case("diag matrix", lambda m, x: (m.diag(x), x.diag(1)), (3, 4)),
    case("diag 3-d", lambda m, x: m.diag(x), (3, 4, 5)),
    case("diag_embed", lambda m, x: (m.diag_embed(x), x.diag_embed(1), m.diag_embed(x, -1, 0, 2)), (2, 3)),
    case("dist", lambda m, x, y: (m.dist(x, y), x.dist(y, 1)), (3, 4), (3, 4)),
    case("dist integers", lambda m, x: m.dist(x, x), INTEGERS),
    *(
        case(f"cdist {p}", lambda m, x, y, p=p: m.cdist(x, y, p), (2, 5, 3), (2, 4, 3))
        for p in (2.0, 1.0, 3.0, math.inf)
    ),
    case("cdist broadcast", lambda m, x, y: m.cdist(x, y), (2, 1, 5, 3), (4, 3)),
    case("cdist many", lambda m, x, y: m.cdist(x, y), (40, 6), (30, 6), looser=20),  # PyTorch's cancels
    case("cdist of the same", lambda m, x: m.cdist(x, x), (4, 3)),
    case("cdist sizes", lambda m, x, y: m.cdist(x, y), (5, 3), (4, 2)),
    case("cdist 1-d", lambda m, x, y: m.cdist(x, y), (3,), (4, 3)),
    case("vecdot", lambda m, x, y: m.linalg.vecdot(x, y, dim=0), (3, 4), (3, 4)),
    case("linalg.matmul", lambda m, x, y: m.linalg.matmul(x, y), (3, 4), (4, 2)),
]


def _filled(x: Any) -> Any:
    y = x * 1
    y.diagonal().fill_(2.0)
    return y


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)
