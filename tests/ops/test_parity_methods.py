"""Methods of Tensors whose functions are compared elsewhere, and a few names more, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet.testing.parity import Case, case, check_case

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

INTEGERS = np.array([[3, -2, 0], [7, 5, -9]])
SHIFTS = np.array([[1, 2, 0], [3, 1, 2]])
BOOLS = np.array([[True, False, True], [False, False, True]])
SPECIAL = np.array([0.0, -0.0, 1.5, -2.5, float("inf"), float("-inf"), float("nan")])
POSITIVE = np.array([[0.5, 1.0, 2.0], [3.0, 0.1, 7.0]])


def gradients(m: Any, x: Any, w: Any) -> Any:
    m.autograd.backward([(x * w).sum(), (x + w).mean()])
    return x.grad, w.grad


def after_accumulation(m: Any, x: Any) -> Any:
    seen: list[Any] = []
    leaf = x.detach().clone().requires_grad_()
    leaf.register_post_accumulate_grad_hook(lambda tensor: seen.append(tensor.grad.clone()))
    (leaf * leaf).sum().backward()
    return seen[0]


CASES = [
    case("argmin function", lambda m, x: (m.argmin(x), m.argmin(x, 1), m.argmin(x, dim=0, keepdim=True)), (3, 4)),
    case("autograd.backward", gradients, (3, 4), (3, 4)),
    case("post-accumulate hook", after_accumulation, (3, 4)),
    case("method addbmm", lambda m, x, a, b: x.addbmm(a, b, beta=0.5, alpha=2), (2, 3), (4, 2, 5), (4, 5, 3)),
    case("method addcmul", lambda m, x, a, b: x.addcmul(a, b, value=0.5), (2, 3), (2, 3), (3,)),
    case("method addmv", lambda m, x, a, b: x.addmv(a, b, alpha=2), (2,), (2, 3), (3,)),
    case("method addr", lambda m, x, a, b: x.addr(a, b, beta=2), (2, 3), (2,), (3,)),
    case("method baddbmm", lambda m, x, a, b: x.baddbmm(a, b), (4, 2, 3), (4, 2, 5), (4, 5, 3)),
    case("method bitwise_and", lambda m, x: (x.bitwise_and(6), x.bitwise_and(x.flip(0))), INTEGERS),
    case("method bitwise_or", lambda m, x: (x.bitwise_or(6), x.bitwise_or(x.flip(0))), INTEGERS),
    case("method bitwise_xor", lambda m, x: (x.bitwise_xor(True), x.bitwise_xor(x.flip(0))), BOOLS),
    case("method bitwise_left_shift", lambda m, x, y: (x.bitwise_left_shift(y), x << 2), INTEGERS, SHIFTS),
    case("method bitwise_right_shift", lambda m, x, y: (x.bitwise_right_shift(y), x >> 1), INTEGERS, SHIFTS),
    case("method cross", lambda m, x, y: x.cross(y, 1), (2, 3), (2, 3)),
    case("method cross of wrong size", lambda m, x, y: x.cross(y, 0), (2, 4), (2, 4)),
    case("method floor_divide", lambda m, x: x.detach().floor_divide(0.7), (3, 4)),
    case("method fmax", lambda m, x, y: x.fmax(y), SPECIAL, SPECIAL[::-1].copy()),
    case("method fmin", lambda m, x, y: x.fmin(y), SPECIAL, SPECIAL[::-1].copy()),
    case("method frac", lambda m, x: x.frac(), (3, 4)),
    case("method isclose", lambda m, x: (x.isclose(x + 1e-7), x.isclose(x + 1, atol=0.5, rtol=0.0)), (3, 4)),
    case("method isclose of NaN", lambda m, x: (x.isclose(x), x.isclose(x, equal_nan=True)), SPECIAL),
    case("method isinf", lambda m, x: (x.isinf(), x.isneginf(), x.isposinf()), SPECIAL),
    case("method isinf of integers", lambda m, x: (x.isinf(), x.isneginf(), x.isposinf()), INTEGERS),
    case("method kron", lambda m, x, y: x.kron(y), (2, 3), (3, 2)),
    case("method logaddexp", lambda m, x, y: x.logaddexp(y), (3, 4), (4,)),
    case("method logical_xor", lambda m, x: (x.logical_xor(x.flip(0)), x.long().logical_xor(x)), BOOLS),
    case("method matmul", lambda m, x, y: x.matmul(y), (2, 3, 4), (4, 5)),
    case("method maximum", lambda m, x, y: x.maximum(y), (3, 4), (4,)),
    case("method minimum", lambda m, x, y: x.minimum(y), (3, 4), (4,)),
    case("method mm", lambda m, x, y: x.mm(y), (3, 4), (4, 2)),
    case("method mm of vectors", lambda m, x, y: x.mm(y), (3, 4), (4,)),
    case("method msort", lambda m, x: x.msort(), (4, 3)),
    case("method outer", lambda m, x, y: x.outer(y), (3,), (4,)),
    case("method outer of a matrix", lambda m, x, y: x.outer(y), (3, 2), (4,)),
    case("method remainder", lambda m, x, y: (x.remainder(0.7), x.remainder(y)), (2, 3), POSITIVE),
    case("method signbit", lambda m, x: x.signbit(), SPECIAL),
    case("method sub", lambda m, x, y: (x.sub(y, alpha=2), x.sub(1.5), x.subtract(y)), (3, 4), (4,)),
    case("method trace", lambda m, x: x.trace(), (3, 4)),
    case("method trace of a vector", lambda m, x: x.trace(), (3,)),
    case("method true_divide", lambda m, x, y: (x.true_divide(y), x.true_divide(2)), (2, 3), POSITIVE),
    case("method vdot", lambda m, x, y: x.vdot(y), (4,), (4,)),
    case("method vdot of other sizes", lambda m, x, y: x.vdot(y), (4,), (3,)),
    case("method xlogy", lambda m, x, y: x.xlogy(y), (2, 3), POSITIVE),
]  # fmt: skip


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)
