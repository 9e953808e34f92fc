"""Tensor operations against PyTorch: forward, gradients, dtypes, shapes, and whether it raises."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.ops.dtypes import bfloat16
from gpunet.testing.parity import Case, assert_as_stated, attempt, case, check_case, compare_outcomes

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

NAN, INF = float("nan"), float("inf")
WITH_NAN = np.array([[1.0, NAN, 3.0], [NAN, NAN, -1.0], [2.0, 2.0, 0.0]])
TIES = np.array([[2.0, 5.0, 5.0, 1.0], [3.0, 3.0, 3.0, 3.0], [0.0, -1.0, -1.0, 0.0]])
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 2.5, -2.5, INF, -INF, NAN, 1e-30])
POSITIVE = np.array([[0.5, 1.0, 2.0], [3.0, 0.1, 7.0]])
INTEGERS = np.array([[3, -2, 0], [7, 5, -9]])
BOOLS = np.array([[True, False, True], [False, False, True]])
BYTES = np.array([0, 1, 200, 255], np.uint8)

ARITHMETIC = [
    case("add", lambda m, x, y: x + y, (3, 4), (3, 4)),
    case("add broadcast both", lambda m, x, y: x + y, (3, 1, 4), (2, 1)),
    case("add broadcast 0-d", lambda m, x, y: x + y, (), (2, 3)),
    case("add empty", lambda m, x, y: x + y, (0, 3), (3,)),
    case("add does not broadcast", lambda m, x, y: x + y, (3, 4), (3,)),
    case("add zero size against two", lambda m, x, y: x + y, (0,), (2,)),
    case("add alpha", lambda m, x, y: x.add(y, alpha=2.5), (3, 4), (4,)),
    case("add function", lambda m, x, y: m.add(x, y, alpha=-2), (3, 4), (4,)),
    case("add itself", lambda m, x: x + x, (3, 4)),
    case("scalar added", lambda m, x: 2 + x + 1.5, (3, 4)),
    case("bool scalar added", lambda m, x: x + True, (3,)),
    case("string added", lambda m, x: x + "1", (3,)),
    case(
        "NumPy scalars added",
        lambda m, x, y: (x + np.float64(1.5), y * np.float64(1.5), y + np.int64(2)),
        (3,),
        INTEGERS,
    ),
    case("None added", lambda m, x: x + None, (3,)),
    case("list added", lambda m, x: x * [1.0, 2.0, 3.0], (3,)),
    case("sub", lambda m, x, y: x - y, (3, 4), (1, 4)),
    case("sub alpha", lambda m, x, y: m.sub(x, y, alpha=3), (3, 4), (1, 4)),
    case("scalar minus", lambda m, x: 1 - x, (3, 4)),
    case("mul", lambda m, x, y: x * y, (3, 4), (3, 1)),
    case("mul itself", lambda m, x: x * x, (3, 4)),
    case("mul by integers", lambda m, x, y: x * y, (2, 3), INTEGERS),
    case("mul by bools", lambda m, x, y: x * y, (2, 3), BOOLS),
    case("div", lambda m, x, y: x / y, (2, 3), POSITIVE),
    case("div broadcast", lambda m, x, y: m.div(x, y), (4, 2, 3), POSITIVE),
    case("div by zero", lambda m, x: x / 0, np.array([1.0, -1.0, 0.0])),
    case("div into scalar", lambda m, x: 3 / x, POSITIVE),
    case("div integers", lambda m, x: x / 2, INTEGERS),
    case("div floor", lambda m, x: x.div(0.7, rounding_mode="floor"), (3, 4)),
    case("div unknown rounding", lambda m, x: x.div(2, rounding_mode="up"), (3, 4)),
    case("floor divide", lambda m, x: x // 0.3, (3, 4)),
    case("floor divide negative integers", lambda m, x: x // 2, INTEGERS),
    case("floor divide special", lambda m, x: x.detach() // 1.0, SPECIAL),
    case("floor divide by zero", lambda m, x: x.detach() // 0.0, SPECIAL),
    case("integer floor divide by zero", lambda m, x: x // 0, INTEGERS),
    case("remainder", lambda m, x, y: x % y, (2, 3), POSITIVE),
    case("remainder negative", lambda m, x: x % -0.7, (3, 4)),
    case("remainder integers", lambda m, x: x % 4, INTEGERS),
    case("remainder of zero integers", lambda m, x: x % 0, INTEGERS),
    case("remainder special", lambda m, x: x.detach() % 2.0, SPECIAL),
    case("scalar remainder", lambda m, x: 5 % x, POSITIVE),
    case("pow scalar", lambda m, x: x**3, (3, 4)),
    case("pow 2", lambda m, x: x**2, (3, 4)),
    case("pow 1", lambda m, x: x**1, (3, 4)),
    case("pow 0", lambda m, x: x**0, SPECIAL),
    case("pow half", lambda m, x: x**0.5, POSITIVE),
    case("pow negative", lambda m, x: x**-2, POSITIVE),
    case("pow of zero", lambda m, x: x**2, np.array([0.0, 1.0])),
    case("pow tensor", lambda m, x, y: x**y, POSITIVE, (2, 3)),
    case("pow tensor of zero base", lambda m, x, y: x**y, np.array([0.0, 0.0, 2.0]), np.array([0.0, 2.0, 0.0])),
    case("pow integer tensor exponent", lambda m, x, y: x**y, (2, 3), np.array([0, 1, 2])),
    case("pow negative base", lambda m, x: x.detach() ** 0.5, np.array([-1.0, 4.0])),
    case("scalar to the power", lambda m, x: 2**x, (3, 4)),
    case("pow integers", lambda m, x: x**3, INTEGERS),
    case("pow integers negative exponent", lambda m, x: x**-1, INTEGERS),
    case("pow integers float exponent", lambda m, x: x**2.0, INTEGERS),
    case("pow function", lambda m, x: m.pow(x, 2.5), POSITIVE),
    case("neg", lambda m, x: -x, (3, 4)),
    case("neg bool", lambda m, x: -x, BOOLS),
    case("neg bytes", lambda m, x: -x, BYTES),
    case("pos", lambda m, x: +x, (3, 4)),
    case("invert bool", lambda m, x: ~x, BOOLS),
    case("invert integers", lambda m, x: ~x, INTEGERS),
    case("invert bytes", lambda m, x: ~x, BYTES),
    case("invert floats", lambda m, x: ~x, (3,)),
    case("and", lambda m, x: x & ~x[0], BOOLS),
    case("or", lambda m, x: x | x[0], BOOLS),
    case("xor", lambda m, x: x ^ x[0], BOOLS),
    case("xor scalar", lambda m, x: x ^ True, BOOLS),
    case("and integers", lambda m, x: x & 6, INTEGERS),
    case("and floats", lambda m, x: x & x, (3,)),
    case("logical and", lambda m, x: x.logical_and(x[0]), INTEGERS),
    case("logical or", lambda m, x: x.logical_or(x[0]), INTEGERS),
    case("logical not", lambda m, x: x.logical_not(), INTEGERS),
    case("maximum", lambda m, x, y: m.maximum(x, y), (3, 4), (4,)),
    case("maximum ties", lambda m, x: m.maximum(x, x[0]), TIES),
    case("maximum NaN", lambda m, x: m.maximum(x, x[0]), WITH_NAN),
    case("minimum", lambda m, x, y: m.minimum(x, y), (3, 4), (3, 1)),
    case("minimum ties", lambda m, x: m.minimum(x, x[0]), TIES),
    case("minimum NaN", lambda m, x: m.minimum(x, x[0]), WITH_NAN),
    case("maximum scalar", lambda m, x: m.maximum(x, 1.0), (3, 4)),
    case("max of two", lambda m, x, y: m.max(x, y), (3, 4), (3, 4)),
    case("min of two", lambda m, x, y: x.min(y), (3, 4), (3, 4)),
    case("chain", lambda m, x, y: (x * y + x / (y * y + 1)) - y * 0.5, (3, 4), (3, 4)),
    case("bytes wrap", lambda m, x: x + 100, BYTES),
    case("bytes minus", lambda m, x: x - 1, BYTES),
    case("bytes plus large scalar", lambda m, x: x + 300, BYTES),
    case("bytes plus negative scalar", lambda m, x: x + -1, BYTES),
    case("in-place operators", lambda m, x, y: _in_place(x, y), (3, 4), (4,)),
    case("in-place result too large", lambda m, x, y: x.clone().add_(y), (4,), (3, 4)),
    case("in-place float into integers", lambda m, x: x.clone().add_(1.5), INTEGERS),
    case("in-place integers into bools", lambda m, x: x.clone().add_(1), BOOLS),
    case("in-place division of integers", lambda m, x: x.clone().div_(2), INTEGERS),
    case("in-place int32 keeps int32", lambda m, x: x.int().add_(x), INTEGERS),
    case("in-place float32 keeps float32", lambda m, x: x.float().add_(x.double()), (3,)),
]


def _in_place(x: Any, y: Any) -> Any:
    z = x.clone()
    z += y
    z *= 2
    z -= y
    z /= 3
    return z.add_(y, alpha=0.5).sub_(1).mul_(y).div_(2)


COMPARISON = [
    case(f"{symbol} {label}", lambda m, x, y, op=op: op(x, y), first, second)
    for symbol, op in {
        "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    }.items()
    for label, first, second in (
        ("floats", TIES, TIES[0]),
        ("NaN", WITH_NAN, WITH_NAN[::-1]),
        ("scalar", (3, 4), 0.25),
        ("integers with float scalar", INTEGERS, 2.5),
        ("integers with floats", INTEGERS, (2, 3)),
        ("bools", BOOLS, BOOLS[0]),
        ("bytes with negative scalar", BYTES, -1),
        ("bytes with large scalar", BYTES, 300),
        ("does not broadcast", (3, 4), (3,)),
    )
] + [
    case("== None", lambda m, x: x == None, (3,)),  # noqa: E711
    case("!= None", lambda m, x: x != None, (3,)),  # noqa: E711
    case("== string", lambda m, x: x == "a", (3,)),
    case("< None", lambda m, x: x < None, (3,)),
    case("eq method", lambda m, x: x.eq(2), INTEGERS),
    case("chained comparisons", lambda m, x: (x > -1) & (x < 3), INTEGERS),
    case("contains", lambda m, x: 7 in x, INTEGERS),
    case("contains not", lambda m, x: 70 in x, INTEGERS),
    case("equal", lambda m, x: m.equal(x, x.clone()), (3,)),
    case("equal other shape", lambda m, x: m.equal(x, x[None]), (3,)),
    case("allclose", lambda m, x: m.allclose(x, x + 1e-7), (3,)),
    case("allclose NaN", lambda m, x: m.allclose(x, x), WITH_NAN),
    case("allclose NaN equal", lambda m, x: m.allclose(x, x, equal_nan=True), WITH_NAN),
]  # fmt: skip

MATMUL = [
    case(f"matmul {a} {b}", lambda m, x, y: x @ y, a, b, terms=max(a[-1:] or (1,)))
    for a, b in (
        ((3, 4), (4, 2)), ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 2)), ((5, 3, 4), (4,)), ((4,), (5, 4, 2)),
        ((5, 3, 4), (4, 2)), ((3, 4), (5, 4, 2)), ((5, 3, 4), (5, 4, 2)), ((2, 1, 3, 4), (5, 4, 2)),
        ((1, 3, 4), (5, 4, 2)), ((0, 4), (4, 2)), ((3, 0), (0, 2)), ((0,), (0,)), ((5, 0, 4), (4, 2)),
        ((3, 4), (4, 0)), ((3, 4), (3, 4)), ((2, 3, 4), (3, 4, 2)), ((), (3,)), ((3,), ()), ((3,), (4,)),
        ((65, 130), (130, 70)), ((1, 1), (1, 1)), ((0, 3, 4), (4,)), ((0, 3, 4), (0, 4, 2)),
    )
] + [
    case("matmul transposed", lambda m, x, y: x.t() @ y.T, (4, 3), (2, 4)),
    case("matmul expanded", lambda m, x, y: x.expand(3, 4) @ y.expand(4, 2), (1, 4), (4, 1)),
    case("matmul itself", lambda m, x: x @ x, (3, 3)),
    case("matmul integers", lambda m, x: x @ x.t(), INTEGERS),
    case("matmul bools", lambda m, x: x @ x.t(), BOOLS),
    case("matmul mixed dtypes", lambda m, x, y: x @ y, (2, 3), INTEGERS.T),
    case("matmul of two floats", lambda m, x: x.float() @ x.double(), (3, 3)),
    case("matmul scalar", lambda m, x: x @ 2, (3, 3)),
    case("mm", lambda m, x, y: m.mm(x, y), (3, 4), (4, 2)),
    case("mm 1-d", lambda m, x, y: m.mm(x, y), (3, 4), (4,)),
    case("mv", lambda m, x, y: x.mv(y), (3, 4), (4,)),
    case("mv 2-d", lambda m, x, y: x.mv(y), (3, 4), (4, 1)),
    case("bmm", lambda m, x, y: x.bmm(y), (5, 3, 4), (5, 4, 2)),
    case("bmm does not broadcast", lambda m, x, y: x.bmm(y), (1, 3, 4), (5, 4, 2)),
    case("bmm 2-d", lambda m, x, y: x.bmm(y), (3, 4), (4, 2)),
    case("dot", lambda m, x, y: x.dot(y), (4,), (4,)),
    case("dot 2-d", lambda m, x, y: x.dot(y), (1, 4), (4, 1)),
    case("matmul function", lambda m, x, y: m.matmul(x, y), (3, 4), (4, 2)),
    case("matmul half", lambda m, x, y: x.half() @ y.half(), (3, 4), (4, 2), at_least=2e-3),  # float16: 11 bits
]  # fmt: skip

FUNCTIONS = [
    case(f"{name} {label}", lambda m, x, name=name: getattr(m, name)(x), values)
    for name in ("exp", "log", "sqrt", "abs", "relu", "sigmoid", "tanh")
    for label, values in (
        ("normal", (3, 4)),
        ("positive", POSITIVE),
        ("0-d", ()),
        ("empty", (0, 3)),
        ("special", SPECIAL),
        ("large", np.array([-800.0, -100.0, -30.0, 30.0, 100.0, 800.0])),
        ("integers", INTEGERS),
        ("bools", BOOLS),
        ("bytes", BYTES),
    )
] + [
    case("neg function", lambda m, x: m.neg(x), (3, 4)),
    case("rsqrt", lambda m, x: x.rsqrt(), POSITIVE),
    case("square", lambda m, x: x.square(), (3, 4)),
    case("square integers", lambda m, x: x.square(), INTEGERS),
    case("reciprocal", lambda m, x: x.reciprocal(), POSITIVE),
    case("reciprocal integers", lambda m, x: x.reciprocal(), INTEGERS),
    case("sign", lambda m, x: x.sign(), SPECIAL),
    case("sign integers", lambda m, x: x.sign(), INTEGERS),
    case("floor", lambda m, x: x.floor(), SPECIAL),
    case("floor integers", lambda m, x: x.floor(), INTEGERS),
    case("isnan", lambda m, x: x.isnan(), SPECIAL),
    case("isnan integers", lambda m, x: x.isnan(), INTEGERS),
    case("isfinite", lambda m, x: x.isfinite(), SPECIAL),
    case("isfinite integers", lambda m, x: x.isfinite(), INTEGERS),
    case("abs at zero", lambda m, x: x.abs(), np.array([0.0, -0.0, 1.0])),
    case("relu at zero", lambda m, x: x.relu(), np.array([0.0, -0.0, 1.0])),
    case("relu NaN", lambda m, x: x.relu(), WITH_NAN),
    case("relu in place", lambda m, x: x.clone().relu_(), (3, 4)),
    case("exp in place", lambda m, x: x.clone().exp_(), (3, 4)),
    case("sqrt in place", lambda m, x: x.clone().sqrt_(), POSITIVE),
    case("neg in place", lambda m, x: x.clone().neg_(), (3, 4)),
    case("clamp both", lambda m, x: x.clamp(-0.5, 0.5), (3, 4)),
    case("clamp low", lambda m, x: m.clamp(x, min=0), (3, 4)),
    case("clamp high", lambda m, x: m.clip(x, max=0.25), (3, 4)),
    case("clamp neither", lambda m, x: x.clamp(), (3, 4)),
    case("clamp crossed", lambda m, x: x.clamp(1, -1), (3, 4)),
    case("clamp at bounds", lambda m, x: x.clamp(-1.0, 1.0), np.array([-1.0, 1.0, 0.0, 2.0, -2.0])),
    case("clamp NaN", lambda m, x: x.clamp(-1.0, 1.0), WITH_NAN),
    case("clamp integers", lambda m, x: x.clamp(0, 5), INTEGERS),
    case("clamp integers by floats", lambda m, x: x.clamp(0.5, 5), INTEGERS),
    case("clamp bools", lambda m, x: x.clamp(0, 1), BOOLS),
    case("clamp by tensors", lambda m, x, a, b: x.clamp(a, b), (3, 4), (4,), (3, 1)),
    case("clamp by a tensor", lambda m, x, a: x.clamp(min=a), (3, 4), (4,)),
    case("clamp in place", lambda m, x: x.clone().clamp_(-0.5, 0.5), (3, 4)),
    case("clamp in place low", lambda m, x: x.clone().clip_(min=0.1), (3, 4)),
    case("where", lambda m, x, y: m.where(x > 0, x, y), (3, 4), (4,)),
    case("where broadcast", lambda m, c, x, y: m.where(c, x, y), BOOLS, (3,), (4, 1, 1)),
    case("where scalar", lambda m, c, x: m.where(c, x, 0.0), BOOLS, (3,)),
    case("where two scalars", lambda m, c: m.where(c, 1.0, 0.0), BOOLS),
    case("where integer scalars", lambda m, c: m.where(c, 1, 0), BOOLS),
    case("where integers and floats", lambda m, c, x, y: m.where(c, x, y), BOOLS, INTEGERS, (2, 3)),
    case("where condition of integers", lambda m, c, x: m.where(c, x, 0.0), INTEGERS, (2, 3)),
    case("where condition of bytes", lambda m, c, x: m.where(c, x, 0.0), BYTES, (4,)),
    case("where hides a NaN", lambda m, x: m.where(x.isnan(), 0.0, x), WITH_NAN),
    case("where method", lambda m, c, x, y: x.where(c, y), BOOLS, (2, 3), (3,)),
    case("where does not broadcast", lambda m, c, x: m.where(c, x, 0.0), BOOLS, (2,)),
    case("masked fill", lambda m, x: x.masked_fill(x > 0, -1.5), (3, 4)),
    case("masked fill broadcast", lambda m, c, x: x.masked_fill(c, 2.0), BOOLS[0], (2, 3)),
    case("masked fill integers", lambda m, c, x: x.masked_fill(c, 2), BOOLS, INTEGERS),
    case("masked fill float into integers", lambda m, c, x: x.masked_fill(c, 2.5), BOOLS, INTEGERS),
    case("masked fill in place", lambda m, c, x: x.clone().masked_fill_(c, -INF), BOOLS, (2, 3)),
    case("masked fill mask of integers", lambda m, c, x: x.masked_fill(c, 0.0), INTEGERS, (2, 3)),
    case("softmax", lambda m, x: x.softmax(1), (3, 4)),
    case("softmax first", lambda m, x: m.softmax(x, dim=0), (3, 4, 2)),
    case("softmax negative dim", lambda m, x: x.softmax(-2), (3, 4, 2)),
    case("softmax -inf", lambda m, x: x.softmax(0), np.array([-INF, 0.0, 1.0])),
    case("softmax all -inf", lambda m, x: x.softmax(0), np.array([-INF, -INF])),
    case("softmax inf", lambda m, x: x.softmax(0), np.array([INF, 0.0])),
    case("softmax NaN", lambda m, x: x.softmax(1), WITH_NAN),
    case("softmax large", lambda m, x: (x * 1000).softmax(1), (3, 4)),
    case("softmax empty", lambda m, x: x.softmax(1), (0, 4)),
    case("softmax over nothing", lambda m, x: x.softmax(1), (3, 0)),
    case("softmax 0-d", lambda m, x: x.softmax(0), ()),
    case("softmax integers", lambda m, x: x.softmax(0), INTEGERS),
    case("softmax no such dim", lambda m, x: x.softmax(2), (3, 4)),
    case("log softmax", lambda m, x: x.log_softmax(1), (3, 4)),
    case("log softmax function", lambda m, x: m.log_softmax(x, dim=-1), (3, 4)),
    case("log softmax large", lambda m, x: (x * 1000).log_softmax(0), (3, 4)),
    case("log softmax -inf", lambda m, x: x.log_softmax(0), np.array([-INF, 0.0, 1.0])),
    case("log softmax 0-d", lambda m, x: x.log_softmax(-1), ()),
    case("log softmax over nothing", lambda m, x: x.log_softmax(1), (3, 0)),
    case("log softmax many classes", lambda m, x: x.log_softmax(1), (2, 1000), terms=1000),
]  # fmt: skip

DIMS: list[tuple[str, dict[str, Any]]] = [
    ("all", {}), ("0", {"dim": 0}), ("-1", {"dim": -1}), ("keepdim", {"dim": 1, "keepdim": True}),
    ("tuple", {"dim": (0, 2)}), ("list", {"dim": [0, -1]}), ("tuple keepdim", {"dim": (0, 1), "keepdim": True}),
    ("empty tuple", {"dim": ()}), ("too large", {"dim": 3}), ("too small", {"dim": -4}), ("twice", {"dim": (0, 0)}),
    ("twice by sign", {"dim": (0, -3)}), ("all tuple", {"dim": (0, 1, 2)}), ("None", {"dim": None}),
]  # fmt: skip

REDUCTIONS = [
    case(f"{name} {label}", lambda m, x, name=name, kw=kw: getattr(x, name)(**kw), (3, 4, 5), terms=60)
    for name in ("sum", "mean", "var", "std", "amax", "amin", "any", "all")
    for label, kw in DIMS
] + [
    case(f"{name} {label}", lambda m, x, name=name, kw=kw: getattr(x, name)(**kw), values)
    for name in ("sum", "mean", "var", "std", "amax", "amin", "max", "min", "argmax", "argmin", "any", "all")
    for label, values, kw in (
        ("0-d", (), {}), ("0-d dim 0", (), {"dim": 0}), ("0-d dim -1", (), {"dim": -1}), ("0-d dim 1", (), {"dim": 1}),
        ("empty", (0,), {}), ("empty other dim", (0, 3), {"dim": 1}), ("empty dim", (0, 3), {"dim": 0}),
        ("zero by zero", (0, 0), {"dim": 0}), ("one element", (1, 1), {"dim": 1}),
        ("NaN", WITH_NAN, {}), ("NaN dim", WITH_NAN, {"dim": 0}), ("NaN dim 1", WITH_NAN, {"dim": 1}),
        ("ties", TIES, {}), ("ties dim", TIES, {"dim": 1}),
        ("integers", INTEGERS, {}), ("integers dim", INTEGERS, {"dim": 0}),
        ("bools", BOOLS, {}), ("bools dim", BOOLS, {"dim": 1}), ("bytes", BYTES, {}), ("inf", SPECIAL[:8], {}),
    )
] + [
    case(f"{name} {label}", lambda m, x, name=name, kw=kw: getattr(x, name)(**kw), (3, 4, 5))
    for name in ("max", "min", "argmax", "argmin")
    for label, kw in (
        ("dim 0", {"dim": 0}), ("dim -1", {"dim": -1}), ("keepdim", {"dim": 1, "keepdim": True}),
        ("too large", {"dim": 3}), ("tuple", {"dim": (0, 1)}), ("all", {}),
    )
] + [
    case("sum positional", lambda m, x: x.sum(1, True), (3, 4)),
    case("sum numpy dim", lambda m, x: x.sum(np.int64(1)), (3, 4)),
    case("sum bool dim", lambda m, x: x.sum(True), (3, 4)),
    case("sum float dim", lambda m, x: x.sum(1.0), (3, 4)),
    case("sum dtype", lambda m, x: x.sum(dtype=m.float64), (3, 4)),
    case("sum dim dtype", lambda m, x: x.sum(0, dtype=m.float64), (3, 4)),
    case("sum floats as integers", lambda m, x: x.detach().sum(dtype=m.int64), np.array([1.7, 2.7])),
    case("sum integers as float", lambda m, x: x.sum(dtype=m.float32), INTEGERS),
    case("sum int32", lambda m, x: x.int().sum(), INTEGERS),
    case("sum function", lambda m, x: m.sum(x, dim=(0,), keepdim=True), (3, 4)),
    case("sum many", lambda m, x: x.sum(), (200, 300), terms=60000),
    case("sum broadcast back", lambda m, x: (x.sum(1, keepdim=True) * x).sum(0), (3, 4)),
    case("mean dtype", lambda m, x: x.mean(dtype=m.float64), (3, 4)),
    case("mean integers with dtype", lambda m, x: x.mean(dtype=m.float32), INTEGERS),
    case("mean as integers", lambda m, x: x.mean(dtype=m.int64), (3, 4)),
    case("mean half", lambda m, x: x.half().mean().float(), np.full(4000, 60.0), at_least=2e-3),  # half: 2^-11
    case("mean function", lambda m, x: m.mean(x, (1, 2)), (3, 4, 5)),
    case("var biased", lambda m, x: x.var(unbiased=False), (3, 4)),
    case("var positional biased", lambda m, x: x.var(False), (3, 4)),
    case("var dim biased", lambda m, x: x.var(1, False), (3, 4)),
    case("var dim biased keepdim", lambda m, x: x.var(1, False, True), (3, 4)),
    case("var correction", lambda m, x: x.var(dim=1, correction=2), (3, 4)),
    case("var correction 0", lambda m, x: m.var(x, dim=(0, 1), correction=0, keepdim=True), (3, 4)),
    case("var of one", lambda m, x: x.var(), (1,)),
    case("var of one biased", lambda m, x: x.var(unbiased=False), (1,)),
    case("var correction too large", lambda m, x: x.var(correction=5), (3,)),
    case("var far from zero", lambda m, x: (x + 100).var(0), (50, 3), terms=50, looser=30.0),  # 100 / 1 digits lost
    case("std dim", lambda m, x: m.std(x, 1), (3, 4)),
    case("std constant", lambda m, x: x.std(1), TIES[1:2]),
    case("max values used", lambda m, x: x.max(1).values * 2, (3, 4)),
    case("max indices", lambda m, x: x.max(dim=1)[1], (3, 4)),
    case("max unpacked", lambda m, x: tuple(m.max(x, 0)), (3, 4)),
    case("min unpacked", lambda m, x: tuple(m.min(x, 1, keepdim=True)), (3, 4)),
    case("argmax function", lambda m, x: m.argmax(x, dim=1, keepdim=True), (3, 4)),
    case("argmax keepdim of all", lambda m, x: x.argmax(keepdim=True), (3, 4)),
    case("argmin transposed", lambda m, x: x.t().argmin(), (3, 4)),
    case("norm", lambda m, x: x.norm(), (3, 4)),
    case("norm 1", lambda m, x: x.norm(1), (3, 4)),
    case("norm 3", lambda m, x: x.norm(3), (3, 4)),
    case("norm inf", lambda m, x: x.norm(INF), (3, 4)),
    case("norm of zeros", lambda m, x: x.norm(), np.zeros(3)),
    case("numel", lambda m, x: m.numel(x), (3, 4)),
]  # fmt: skip

SHAPES = [
    *(
        case(f"reshape {old} {new}", lambda m, x, new=new: x.reshape(new), old)
        for old, new in (
            ((2, 6), (3, 4)), ((2, 6), (-1,)), ((2, 6), (4, -1)),
            ((2, 6), (5, -1)), ((2, 6), (-1, -1)), ((2, 6), (12,)),
            ((2, 6), (2, -2)), ((), (1, 1)), ((1,), ()), ((0, 3), (0,)), ((0, 3), (-1, 3)), ((0, 3), (0, -1)),
            ((0, 3), (5, 0)), ((2, 6), (13,)), ((2, 3), ()), ((4, 1, 3), (12,)),
        )
    ),
    case("reshape integers", lambda m, x: x.reshape(3, -1), (2, 6)),
    case("reshape function", lambda m, x: m.reshape(x, (4, 3)), (2, 6)),
    case("reshape numpy sizes", lambda m, x: x.reshape(np.int64(4), np.int32(3)), (2, 6)),
    case("reshape float size", lambda m, x: x.reshape(4.0, 3), (2, 6)),
    case("reshape after transpose", lambda m, x: x.t().reshape(-1) * m.arange(12), (3, 4)),
    case("reshape_as", lambda m, x, y: x.reshape_as(y), (2, 6), (3, 4)),
    case("view", lambda m, x: x.view(3, -1), (2, 6), reversed_order=False),
    case("view as a tuple", lambda m, x: x.view((3, 4)), (2, 6), reversed_order=False),
    case("view_as", lambda m, x, y: x.view_as(y), (2, 6), (3, 4), reversed_order=False),
    case("view after transpose", lambda m, x: x.t().view(-1), (3, 4), reversed_order=False),
    case(
        "view writes through", lambda m, x: _write_through(x.detach(), lambda y: y.view(-1)), (3, 4),
        reversed_order=False,
    ),
    case("view wrong size", lambda m, x: x.view(5), (2, 6)),
    case("permute", lambda m, x: x.permute(2, 0, 1), (2, 3, 4)),
    case("permute tuple", lambda m, x: x.permute((-1, 0, 1)), (2, 3, 4)),
    case("permute function", lambda m, x: m.permute(x, (1, 0, 2)), (2, 3, 4)),
    case("permute twice", lambda m, x: x.permute(0, 0, 1), (2, 3, 4)),
    case("permute too few", lambda m, x: x.permute(0, 1), (2, 3, 4)),
    case("permute out of range", lambda m, x: x.permute(0, 1, 3), (2, 3, 4)),
    case("permute 0-d", lambda m, x: x.permute(()), ()),
    case("transpose", lambda m, x: x.transpose(0, 2), (2, 3, 4)),
    case("transpose negative", lambda m, x: m.transpose(x, -1, -2), (2, 3, 4)),
    case("transpose out of range", lambda m, x: x.transpose(0, 3), (2, 3, 4)),
    case("transpose 0-d", lambda m, x: x.transpose(0, -1), ()),
    case("t", lambda m, x: x.t(), (2, 3)),
    case("t 1-d", lambda m, x: x.t(), (3,)),
    case("t 3-d", lambda m, x: x.t(), (2, 3, 4)),
    case("T", lambda m, x: x.T, (2, 3)),
    case("mT", lambda m, x: x.mT, (2, 3, 4)),
    case("mT 1-d", lambda m, x: x.mT, (3,)),
    case("swapaxes", lambda m, x: x.swapaxes(0, 1), (2, 3, 4)),
    case("squeeze", lambda m, x: x.squeeze(), (1, 3, 1, 2)),
    case("squeeze dim", lambda m, x: x.squeeze(2), (1, 3, 1, 2)),
    case("squeeze dim not one", lambda m, x: x.squeeze(1), (1, 3, 1, 2)),
    case("squeeze tuple", lambda m, x: m.squeeze(x, (0, -2)), (1, 3, 1, 2)),
    case("squeeze out of range", lambda m, x: x.squeeze(4), (1, 3, 1, 2)),
    case("squeeze 0-d", lambda m, x: x.squeeze(0), ()),
    case("squeeze nothing", lambda m, x: x.squeeze(), (2, 3)),
    case("unsqueeze", lambda m, x: x.unsqueeze(1), (2, 3)),
    case("unsqueeze last", lambda m, x: m.unsqueeze(x, -1), (2, 3)),
    case("unsqueeze end", lambda m, x: x.unsqueeze(2), (2, 3)),
    case("unsqueeze front by sign", lambda m, x: x.unsqueeze(-3), (2, 3)),
    case("unsqueeze out of range", lambda m, x: x.unsqueeze(3), (2, 3)),
    case("unsqueeze below range", lambda m, x: x.unsqueeze(-4), (2, 3)),
    case("unsqueeze 0-d", lambda m, x: x.unsqueeze(0), ()),
    case("expand", lambda m, x: x.expand(2, 3, 4) * 1, (3, 1)),
    case("expand keeps", lambda m, x: x.expand(-1, 4), (3, 1)),
    case("expand new by -1", lambda m, x: x.expand(-1, 3, 4), (3, 1)),
    case("expand not one", lambda m, x: x.expand(3, 4), (3, 2)),
    case("expand too few", lambda m, x: x.expand(3), (3, 1)),
    case("expand to zero", lambda m, x: x.expand(0, 3), (1, 3)),
    case("expand tuple", lambda m, x: x.expand((2, 3)), (3,)),
    case("expand 0-d", lambda m, x: x.expand(2, 3), ()),
    case("expand as", lambda m, x, y: x.expand_as(y) * y, (3, 1), (2, 3, 4)),
    case("flatten", lambda m, x: x.flatten(), (2, 3, 4)),
    case("flatten from", lambda m, x: x.flatten(1), (2, 3, 4)),
    case("flatten range", lambda m, x: m.flatten(x, 0, 1), (2, 3, 4)),
    case("flatten negative", lambda m, x: x.flatten(start_dim=-2, end_dim=-1), (2, 3, 4)),
    case("flatten 0-d", lambda m, x: x.flatten(), ()),
    case("flatten wrong order", lambda m, x: x.flatten(2, 1), (2, 3, 4)),
    case("flatten out of range", lambda m, x: x.flatten(1, 3), (2, 3, 4)),
    case("flatten empty batch", lambda m, x: x.flatten(1), (0, 3, 4)),
    case("unflatten", lambda m, x: x.unflatten(1, (2, -1)), (3, 6)),
    case("unflatten wrong", lambda m, x: x.unflatten(1, (4, -1)), (3, 6)),
    case("unflatten elsewhere", lambda m, x: x.unflatten(0, (2, 2)), (3, 6)),
    case("ravel", lambda m, x: x.ravel(), (2, 3)),
    case("cat", lambda m, x, y: m.cat([x, y]), (2, 3), (1, 3)),
    case("cat columns", lambda m, x, y: m.cat((x, y), dim=-1), (2, 3), (2, 1)),
    case("cat three", lambda m, x, y: m.cat([x, y, x], 1), (2, 3), (2, 1)),
    case("cat itself", lambda m, x: m.cat([x, x]), (2, 3)),
    case("cat one", lambda m, x: m.cat([x]), (2, 3)),
    case("cat none", lambda m: m.cat([])),
    case("cat mismatch", lambda m, x, y: m.cat([x, y]), (2, 3), (2, 4)),
    case("cat ranks", lambda m, x, y: m.cat([x, y]), (2, 3), (3,)),
    case("cat with legacy empty", lambda m, x, y: m.cat([x, y]), (2, 3), (0,)),
    case("cat with empty", lambda m, x, y: m.cat([x, y]), (2, 3), (0, 3)),
    case("cat 0-d", lambda m, x, y: m.cat([x, y]), (), ()),
    case("cat out of range", lambda m, x, y: m.cat([x, y], 2), (2, 3), (2, 3)),
    case("cat dtypes", lambda m, x, y: m.cat([x, y]), (2, 3), INTEGERS),
    case("cat keyword", lambda m, x, y: m.concat([x, y], dim=0), (2, 3), (2, 3)),
    case("stack", lambda m, x, y: m.stack([x, y]), (2, 3), (2, 3)),
    case("stack last", lambda m, x, y: m.stack((x, y), dim=-1), (2, 3), (2, 3)),
    case("stack 0-d", lambda m, x, y: m.stack([x, y]), (), ()),
    case("stack mismatch", lambda m, x, y: m.stack([x, y]), (2, 3), (3,)),
    case("stack none", lambda m: m.stack([])),
    case("stack out of range", lambda m, x, y: m.stack([x, y], 3), (2, 3), (2, 3)),
    case("stack dtypes", lambda m, x, y: m.stack([x, y]), (2, 3), INTEGERS),
    case("split", lambda m, x: x.split(2), (5, 3)),
    case("split columns", lambda m, x: m.split(x, 2, dim=1), (5, 3)),
    case("split sizes", lambda m, x: x.split([1, 2], dim=1), (5, 3)),
    case("split zero size", lambda m, x: x.split([0, 5]), (5, 3)),
    case("split wrong sizes", lambda m, x: x.split([1, 3], dim=1), (5, 3)),
    case("split by zero", lambda m, x: x.split(0), (5, 3)),
    case("split negative", lambda m, x: x.split(-1), (5, 3)),
    case("split large", lambda m, x: x.split(10), (5, 3)),
    case("split empty", lambda m, x: x.split(2), (0, 3)),
    case("split 0-d", lambda m, x: x.split(1), ()),
    case("split one used", lambda m, x: x.split(2)[1] * 3, (5, 3)),
    case("chunk", lambda m, x: x.chunk(3), (7, 2)),
    case("chunk more than there are", lambda m, x: x.chunk(5, dim=1), (7, 2)),
    case("chunk uneven", lambda m, x: x.chunk(4), (6,)),
    case("chunk zero", lambda m, x: x.chunk(0), (7, 2)),
    case("chunk empty", lambda m, x: x.chunk(3), (0, 2)),
    case("chunk 0-d", lambda m, x: x.chunk(1), ()),
    case("unbind", lambda m, x: x.unbind(), (3, 2)),
    case("unbind last", lambda m, x: x.unbind(-1), (3, 2)),
    case("unbind 0-d", lambda m, x: x.unbind(), ()),
    case("unbind out of range", lambda m, x: x.unbind(2), (3, 2)),
    case("narrow", lambda m, x: x.narrow(1, 1, 2), (3, 4)),
    case("narrow negative start", lambda m, x: x.narrow(1, -2, 2), (3, 4)),
    case("narrow nothing", lambda m, x: x.narrow(0, 3, 0), (3, 4)),
    case("narrow too long", lambda m, x: x.narrow(1, 3, 2), (3, 4)),
    case("narrow 0-d", lambda m, x: x.narrow(0, 0, 1), ()),
    case("narrow negative length", lambda m, x: x.narrow(0, 1, -1), (3, 4)),
    case("iterate", lambda m, x: [row * 2 for row in x], (3, 2)),
    case("iterate 0-d", lambda m, x: list(x), ()),
    case("clone", lambda m, x: x.clone(), (3, 2)),
    case("contiguous", lambda m, x: x.t().contiguous().view(-1), (3, 2)),
    case("size", lambda m, x: (x.size(0), x.size(-1), x.dim(), x.ndim, x.numel(), x.nelement(), len(x)), (3, 2)),
    case("size out of range", lambda m, x: x.size(2), (3, 2)),
    case("len 0-d", lambda m, x: len(x), ()),
    case("stride", lambda m, x: (x.stride(), x.stride(1), x.t().is_contiguous(), x.is_contiguous()), (3, 2)),
]  # fmt: skip


def _write_through(x: Any, view: Callable[[Any], Any]) -> Any:
    x = x.clone()
    part = view(x)
    part += 1
    return x


CASTS = [
    case(f"cast {label} to {name}", lambda m, x, name=name: x.detach().to(getattr(m, name)), values)
    for name in ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")
    for label, values in (
        ("floats", np.array([0.0, -1.7, 2.5, 100.4])), ("integers", INTEGERS), ("bools", BOOLS), ("bytes", BYTES),
        ("0-d", np.array(3)),
    )
] + [
    case("cast back", lambda m, x: x.double().float().to(m.float64) * 2, (3, 4)),
    case("cast half and back", lambda m, x: x.half().float() * 3, (3, 4), at_least=2e-3),  # half: 2^-11
    case("cast bfloat16 and back", lambda m, x: x.bfloat16().float() * 3, (3, 4), at_least=1.6e-2),  # bfloat16: 2^-8
    case("cast to integer stops the gradient", lambda m, x: x.long() * 2, (3, 4)),
    case("to nothing new", lambda m, x: x.to(x.dtype) * 2, (3, 4)),
    case("to other", lambda m, x, y: x.to(y), (3, 4), INTEGERS),
    case("to device and dtype", lambda m, x: x.to("cpu", m.float64), (3, 4)),
    case("to device keyword", lambda m, x: x.to(device="cpu", dtype=m.float32), (3, 4)),
    case("to copy", lambda m, x: x.to(m.float64, copy=True) * 2, (3, 4)),
    case("to unknown", lambda m, x: x.to(m.float64, colour=1), (3, 4)),
    case("to unknown device", lambda m, x: x.to("gpu"), (3, 4)),
    case("type_as", lambda m, x, y: x.type_as(y), (2, 3), INTEGERS),
    case("int", lambda m, x: (x.int(), x.long(), x.bool(), x.float(), x.double()), INTEGERS),
    case("is_floating_point", lambda m, x, y: (x.is_floating_point(), y.is_floating_point()), (3,), INTEGERS),
    case("element_size", lambda m, x: (x.element_size(), x.nbytes), INTEGERS),
    case("item", lambda m, x: x.detach().item(), ()),
    case("item of several", lambda m, x: x.item(), (3,)),
    case("item of one", lambda m, x: x.item(), INTEGERS[:1, :1]),
    case("tolist", lambda m, x: x.tolist(), INTEGERS),
    case("tolist 0-d", lambda m, x: x.tolist(), np.array(4)),
    case("bool of one", lambda m, x: bool(x.sum()), INTEGERS),
    case("bool of several", lambda m, x: bool(x), INTEGERS),
    case("bool of none", lambda m, x: bool(x), (0,)),
    case("int of a float", lambda m, x: int(x.detach()), np.array(-2.7)),
    case("float of an integer", lambda m, x: float(x), np.array(3)),
    case("index of an integer", lambda m, x: [10, 20, 30][x], np.array(1)),
    case("index of a float", lambda m, x: [10, 20, 30][x], np.array(1.0)),
    case("numpy that requires grad", lambda m, x: x.numpy(), (3,)),
    case("requires_grad of integers", lambda m, x: x.requires_grad_(), INTEGERS),
    case("format", lambda m, x: f"{x.detach().sum():.3f}", np.array([1.0, 2.5])),
    case("detach", lambda m, x: x.detach() * 2, (3,)),
    case("in no_grad", lambda m, x: _in_no_grad(m, x), (3,)),
]  # fmt: skip


def _in_no_grad(m: Any, x: Any) -> Any:
    with m.no_grad():
        return x * 2


CREATION = [
    case("tensor of floats", lambda m: m.tensor([[1.0, 2.0], [3.0, 4.0]])),
    case("tensor of integers", lambda m: m.tensor([1, 2, 3])),
    case("tensor of bools", lambda m: m.tensor([True, False])),
    case("tensor mixed", lambda m: m.tensor([1, 2.5, True])),
    case("tensor of a number", lambda m: (m.tensor(2), m.tensor(2.0), m.tensor(True))),
    case("tensor of nothing", lambda m: m.tensor([])),
    case("tensor of nothing nested", lambda m: m.tensor([[], []])),
    case("tensor ragged", lambda m: m.tensor([[1, 2], [3]])),
    case("tensor of strings", lambda m: m.tensor(["a"])),
    case("tensor of None", lambda m: m.tensor(None)),
    case("tensor of an array", lambda m: m.tensor(np.arange(3, dtype=np.int16))),
    case("tensor of a float64 array", lambda m: m.tensor(np.ones(3))),
    case("tensor of a NumPy scalar", lambda m: m.tensor(np.float64(2.0))),
    case("tensor of NumPy scalars", lambda m: m.tensor([np.float32(1.0), np.float32(2.0)])),
    case("tensor of tensors", lambda m: m.tensor([m.tensor(1.0), m.tensor(2.0)])),
    case("tensor of arrays", lambda m: m.tensor(np.array([np.ones(2), np.zeros(2)]))),
    case("tensor dtype", lambda m: m.tensor([1, 2], dtype=m.float64)),
    case("tensor floats to integers", lambda m: m.tensor([1.7, -2.7], dtype=m.int32)),
    case("tensor requires grad", lambda m: m.tensor([1.0], requires_grad=True) * 2),
    case("tensor of integers requires grad", lambda m: m.tensor([1], requires_grad=True)),
    case("tensor of uint16", lambda m: m.tensor(np.arange(3, dtype=np.uint16)).to(m.int64)),
    case("tensor of complex", lambda m: m.tensor([1j])),
    case("as_tensor", lambda m: m.as_tensor([1.0, 2.0], dtype=m.float64)),
    case("from_numpy of a list", lambda m: m.from_numpy([1.0])),
    case("zeros", lambda m: (m.zeros(2, 3), m.zeros((2,)), m.zeros([]), m.zeros(()), m.zeros(0))),
    case("zeros dtype", lambda m: m.zeros(2, dtype=m.int64)),
    case("zeros negative", lambda m: m.zeros(-1)),
    case("ones", lambda m: (m.ones(2, 3), m.ones((2, 1), dtype=m.bool))),
    case("full", lambda m: (m.full((2,), 3), m.full((2,), 3.0), m.full((2,), True), m.full((), 1.5))),
    case("full dtype", lambda m: m.full((2, 2), 3, dtype=m.float32)),
    case("full integer size", lambda m: m.full(2, 3)),
    case("like", lambda m, x: (m.zeros_like(x), m.ones_like(x), m.full_like(x, 3)), INTEGERS),
    case("like dtype", lambda m, x: (m.zeros_like(x, dtype=m.float32), m.full_like(x, 2.5, dtype=m.float64)), INTEGERS),
    case("new", lambda m, x: (x.new_zeros(2, 3), x.new_ones((2,)), x.new_zeros(())), INTEGERS),
    case("empty shape", lambda m: tuple(m.empty(2, 3).shape)),
    case("arange", lambda m: (m.arange(5), m.arange(2, 5), m.arange(5, 2, -1), m.arange(0, 1, 0.25), m.arange(5.0))),
    case("arange dtype", lambda m: m.arange(3, dtype=m.float32)),
    case("arange empty", lambda m: (m.arange(0), m.arange(2, 2))),
    case("arange wrong way", lambda m: m.arange(5, 2)),
    case("arange zero step", lambda m: m.arange(0, 2, 0)),
    case("linspace", lambda m: (m.linspace(0, 1, 5), m.linspace(3, -3, 4, dtype=m.float64), m.linspace(1, 2, 1))),
    case("linspace negative", lambda m: m.linspace(0, 1, -1)),
    case("eye", lambda m: (m.eye(3), m.eye(2, 3, dtype=m.int64))),
    case("eye negative", lambda m: m.eye(-1)),
    case("rand of integers", lambda m: m.rand(2, dtype=m.int64)),
    case("randint empty range", lambda m: m.randint(3, 3, (2,))),
    case("randperm", lambda m: sorted(m.randperm(5).tolist())),
    case("randperm dtype", lambda m: m.randperm(0).dtype == m.int64),
    case("randint in range", lambda m: bool(((m.randint(2, 5, (100,)) >= 2) & (m.randint(5, (100,)) < 5)).all())),
    case("randn shapes", lambda m: (tuple(m.randn(2, 3).shape), tuple(m.rand((4,)).shape), tuple(m.randn(()).shape))),
    case("is_tensor", lambda m, x: (m.is_tensor(x), m.is_tensor(1)), (2,)),
    case("Tensor of data", lambda m: m.Tensor([1, 2])),
    case("Tensor of sizes", lambda m: tuple(m.Tensor(2, 3).shape)),
]

CASES = [*ARITHMETIC, *COMPARISON, *MATMUL, *FUNCTIONS, *REDUCTIONS, *SHAPES, *CASTS, *CREATION]


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


def test_labels_are_unique() -> None:
    labels = [checked.label for checked in CASES]
    assert len(labels) == len(set(labels))


DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
SCALARS = (True, 2, 2.5)
PAIRED: dict[str, Callable[..., Any]] = {
    "add": lambda m, x, y: x + y,
    "sub": lambda m, x, y: x - y,
    "mul": lambda m, x, y: x * y,
    "div": lambda m, x, y: x / y,
    "pow": lambda m, x, y: x**y,
    "floor divide": lambda m, x, y: x // y,
    "remainder": lambda m, x, y: x % y,
    "maximum": lambda m, x, y: m.maximum(x, y),
    "minimum": lambda m, x, y: m.minimum(x, y),
    "eq": lambda m, x, y: x == y,
    "lt": lambda m, x, y: x < y,
    "and": lambda m, x, y: x & y,
    "or": lambda m, x, y: x | y,
    "where": lambda m, x, y: m.where(m.tensor([True, False, True]), x, y),
    "cat": lambda m, x, y: m.cat([x.reshape(-1), y.reshape(-1)]),
    "stack": lambda m, x, y: m.stack([x, y]),
    "matmul": lambda m, x, y: x @ y,
    "add_": lambda m, x, y: x.add_(y),
    "mul_": lambda m, x, y: x.mul_(y),
    "copy_": lambda m, x, y: x.copy_(y),
    "clamp": lambda m, x, y: x.clamp(min=y),
}


def _values(dtype: str, zero_dim: bool) -> np.ndarray:
    kind = bfloat16() if dtype == "bfloat16" else np.dtype(dtype)
    values = np.array([1, 1, 1] if dtype == "bool" else [1, 3, 2])
    return np.array(values[1] if zero_dim else values, kind)


def _operands() -> list[tuple[str, Callable[[], Any]]]:
    made: list[tuple[str, Callable[[], Any]]] = []
    for dtype in DTYPES:
        made.append((dtype, lambda dtype=dtype: _values(dtype, False)))
        made.append((f"0-d {dtype}", lambda dtype=dtype: _values(dtype, True)))
    made += [(f"scalar {value!r}", lambda value=value: value) for value in SCALARS]
    return made


@pytest.mark.parametrize("name", PAIRED)
def test_result_dtypes_of_all_pairs(name: str) -> None:
    """Every dtype, 0-d or not, and Python scalars, on either side: dtype, values, or the error."""
    run = PAIRED[name]
    problems = []
    for first_name, first in _operands():
        for second_name, second in _operands():
            if first_name.startswith("scalar") and (
                second_name.startswith("scalar") or name.endswith("_") or name in ("clamp", "where")
            ):
                continue
            if name in ("cat", "stack", "copy_", "maximum", "minimum") and "scalar" in first_name + second_name:
                continue
            ours, theirs = (attempt(module, run, [first(), second()], grad=False) for module in (gn, torch))
            found = compare_outcomes(ours, theirs, 1e-5)
            problems += [f"{first_name}, {second_name}: {text}" for text in found]
    assert_as_stated(f"dtypes of {name}", problems)


UNARY = ("exp", "log", "sqrt", "abs", "neg", "relu", "sigmoid", "tanh", "sign", "floor", "sum", "mean", "var", "amax",
         "argmax",          "square", "rsqrt", "reciprocal", "isnan", "logical_not")  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
def test_result_dtypes_of_one(name: str) -> None:
    problems = []
    for dtype in DTYPES:
        ours, theirs = (
            attempt(module, lambda m, x: getattr(x, name)(), [_values(dtype, False)], grad=False)
            for module in (gn, torch)
        )
        problems += [f"{dtype}: {text}" for text in compare_outcomes(ours, theirs, 1e-5)]
    assert_as_stated(f"dtypes of {name}", problems)
