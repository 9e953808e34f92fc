"""Functions of mathematics, element by element, against PyTorch: values, gradients, dtypes, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet.testing.parity import Case, case, check_case

pytest.importorskip("torch")
pytestmark = pytest.mark.parity

INTEGERS = np.array([[3, -7, 0], [12, 5, -1]])
BOOLS = np.array([[True, False, True], [False, False, True]])

SPECIAL = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e-9])
INSIDE = np.linspace(-0.95, 0.95, 12).reshape(3, 4)
POSITIVE = np.linspace(0.1, 4.0, 12).reshape(3, 4)
ABOVE = np.linspace(1.1, 6.0, 12).reshape(3, 4)
HALVES = np.array([0.5, 1.5, -0.5, -2.5, 0.25, 14.9, -15.2])

# The names, and where they are smooth.
FUNCTIONS: dict[str, Any] = {
    **dict.fromkeys(("sin", "cos", "tan", "atan", "arctan", "sinh", "cosh", "asinh", "arcsinh", "deg2rad", "rad2deg",
                     "exp2", "expm1", "erf", "erfc", "square", "reciprocal", "floor", "ceil", "trunc", "fix", "sign",
                     "neg", "negative", "positive", "abs", "absolute", "round", "exp", "tanh", "sigmoid",
                     "relu"), (3, 4)),
    **dict.fromkeys(("asin", "acos", "arcsin", "arccos", "atanh", "arctanh", "erfinv"), INSIDE),
    **dict.fromkeys(("log", "log2", "log10", "log1p", "rsqrt", "sqrt"), POSITIVE),
    **dict.fromkeys(("acosh", "arccosh"), ABOVE),
    "logit": np.linspace(0.05, 0.95, 12).reshape(3, 4),
}  # fmt: skip
TESTS = ("isnan", "isinf", "isfinite", "isposinf", "isneginf", "signbit", "logical_not", "nan_to_num")
CASES = [
    case(f"{name} {label}", lambda m, x, name=name: getattr(m, name)(x), values)
    for name, smooth in FUNCTIONS.items()
    for label, values in (("smooth", smooth), ("0-d", np.array(0.7)), ("empty", (0, 3)), ("integers", INTEGERS),
                          ("bools", BOOLS))
    if not (name in ("acosh", "arccosh") and label == "0-d")
] + [
    case(f"{name} special", lambda m, x, name=name: getattr(x.detach(), name)(), SPECIAL) for name in FUNCTIONS
] + [
    case(f"{name} {label}", lambda m, x, name=name: getattr(m, name)(x), values)
    for name in TESTS
    for label, values in (("special", SPECIAL), ("integers", INTEGERS), ("bools", BOOLS))
] + [
    # The gradient of PyTorch's is a kind of tensor that does not convert.
    case("sgn", lambda m, x: (m.sgn(x.detach()), x.detach().sgn()), SPECIAL),
    case("sgn integers", lambda m, x: m.sgn(x), INTEGERS),
    case("frac", lambda m, x: m.frac(x), (3, 4)),
    case("frac integers", lambda m, x: m.frac(x), INTEGERS),
    case("round halves", lambda m, x: m.round(x), HALVES),
    case("round to a digit", lambda m, x: m.round(x, decimals=1), HALVES),
    case("round to tens", lambda m, x: x.round(decimals=-1), HALVES),
    case("round integers to a digit", lambda m, x: m.round(x, decimals=1), INTEGERS),
    case("logit limited", lambda m, x: m.logit(x, eps=0.2), np.array([0.0, 0.1, 0.2, 0.5, 0.9, 1.0])),
    case("logit outside", lambda m, x: x.logit(), np.array([-0.5, 0.5, 1.5])),
    case("logit limits", lambda m, x: x.detach().logit(), np.array([0.0, 1.0])),
    case("nan_to_num given", lambda m, x: m.nan_to_num(x, nan=np.inf, posinf=3.0, neginf=-4.0), SPECIAL),
    case("nan_to_num method", lambda m, x: x.nan_to_num(1.5), SPECIAL),
    case("erf tails", lambda m, x: (m.erf(x), m.erfc(x)), np.linspace(-6, 6, 50)),
    case("erfinv ends", lambda m, x: x.detach().erfinv(), np.array([-1.0, 1.0, 0.0, 1.5, -3.0, 0.999999])),
    case("erf large", lambda m, x: m.erf(x), (3, 70_000)),
    *(
        case(f"{name} {label}", lambda m, x, y, name=name: getattr(m, name)(x, y), x, y)
        for name in ("atan2", "arctan2", "hypot", "fmod", "remainder", "logaddexp", "fmax", "fmin", "maximum",
                     "minimum", "true_divide", "divide", "subtract", "multiply", "isclose")
        for label, x, y in (
            ("tensors", (3, 4), (3, 4)), ("broadcast", (3, 1), (2, 1, 4)), ("with integers", (2, 3), INTEGERS + 20),
            ("integers", INTEGERS, INTEGERS + 20), ("bools", BOOLS, BOOLS), ("does not broadcast", (3, 4), (3,)),
        )
    ),
    *(
        case(f"{name} {label}", lambda m, x, y, name=name: getattr(x, name)(y), values, other)
        for name in ("eq", "ne", "lt", "le", "gt", "ge", "not_equal", "less", "less_equal", "greater", "greater_equal")
        for label, values, other in (("number", INTEGERS, 3), ("tensor", (2, 3), INTEGERS))
    ),
    *(
        case(f"{name} function", lambda m, x, y, name=name: getattr(m, name)(x, y), (2, 3), INTEGERS)
        for name in ("eq", "ne", "lt", "le", "gt", "ge", "not_equal", "less", "less_equal", "greater", "greater_equal",
                     "logical_and", "logical_or", "logical_xor")
    ),
    *(
        case(f"{name} {label}", lambda m, x, y, name=name: getattr(m, name)(x, y), values, other)
        for name in ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift")
        for label, values, other in (
            ("integers", abs(INTEGERS), abs(INTEGERS) % 5), ("number", INTEGERS, 2), ("bools", BOOLS, BOOLS),
            ("floats", (2, 3), INTEGERS),
        )
    ),
    case("shift operators", lambda m, x: (x << 2, x >> 1), INTEGERS),
    case("bitwise_not", lambda m, x: m.bitwise_not(x), INTEGERS),
    case("bitwise_not bools", lambda m, x: x.bitwise_not(), BOOLS),
    case("bitwise_not floats", lambda m, x: x.bitwise_not(), (3,)),
    case("fmod number", lambda m, x: x.fmod(0.7), (3, 4)),
    case("fmod by zero", lambda m, x: x.fmod(0), INTEGERS),
    case("fmax NaN", lambda m, x: (m.fmax(x, x.flip(0)), m.fmin(x, x.flip(0))), np.array([np.nan, 1.0, 1.0, 2.0])),
    case("fmax ties", lambda m, x: m.fmax(x, x * 1), (3,)),
    case("logaddexp infinite", lambda m, x: m.logaddexp(x.detach(), x.detach()), np.array([np.inf, -np.inf, 800.0])),
    case("xlogy", lambda m, x, y: m.xlogy(x, y), (3, 4), POSITIVE),
    case("xlogy of zero", lambda m, x, y: m.xlogy(x, y), np.zeros(3), np.array([0.0, 2.0, 1.0])),
    case("xlogy number", lambda m, x: (m.xlogy(x, 2.0), m.xlogy(2.0, x.abs() + 1)), (3, 4)),
    case("hypot", lambda m, x, y: x.hypot(y), (3, 4), (4,)),
    case("atan2 quadrants", lambda m, x, y: x.atan2(y), np.array([1.0, -1, 1, -1]), np.array([1.0, 1, -1, -1])),
    case("clamp_min", lambda m, x: m.clamp_min(x, -0.3), (3, 4)),
    case("clamp_max", lambda m, x: m.clamp_max(x, 0.3), (3, 4)),
    case("clamp_min tensor", lambda m, x, y: x.clamp_min(y), (3, 4), (4,)),
    case("clamp_max tensor", lambda m, x, y: x.clamp_max(y), (3, 4), (4,)),
    case("clamp tensors", lambda m, x, y, z: m.clamp(x, y, z), (3, 4), (4,), (3, 1)),
    case("clamp min tensor", lambda m, x, y: m.clamp(x, min=y), (3, 4), (2, 1, 4)),
    case("clamp ties", lambda m, x, y, z: m.clamp(x, y, z), np.arange(4.0), np.array([0.0, 3, 0, 5]),
         np.array([1.0, 2, 2, 4])),
    case("clamp integers by floats", lambda m, x: x.clamp(min=0.5), INTEGERS),
    case("clip", lambda m, x: m.clip(x, -0.5, 0.5), (3, 4)),
    case("clamp neither", lambda m, x: m.clamp(x), (3,)),
    case("lerp", lambda m, x, y: m.lerp(x, y, 0.3), (3, 4), (4,)),
    case("lerp tensor", lambda m, x, y, w: x.lerp(y, w), (3, 4), (3, 4), (4,)),
    case("lerp integers", lambda m, x: m.lerp(x, x, 0.5), INTEGERS),
    case("addcmul", lambda m, x, y, z: m.addcmul(x, y, z, value=0.5), (3, 4), (4,), (3, 1)),
    case("addcdiv", lambda m, x, y: x.addcdiv(x, y, value=-2), (3, 4), POSITIVE),
    case("addcdiv integers", lambda m, x: m.addcdiv(x, x, x + 20), INTEGERS),
    case("div trunc", lambda m, x: m.div(x, 0.3, rounding_mode="trunc"), (3, 4)),
    case("div trunc integers", lambda m, x: m.div(x, 4, rounding_mode="trunc"), INTEGERS),
    case("div floor integers", lambda m, x: m.div(x, 4, rounding_mode="floor"), INTEGERS),
    case("div floor bools", lambda m, x: m.div(x, x, rounding_mode="floor"), BOOLS),
    case("div trunc by zero", lambda m, x: m.div(x, 0, rounding_mode="trunc"), INTEGERS),
    case("floor_divide function", lambda m, x: m.floor_divide(x, 4), INTEGERS),
    case("number first", lambda m, x: (m.add(2, x), m.sub(2, x), m.mul(2, x), m.div(2, x), m.pow(2, x),
                                       m.remainder(2.5, x.detach())), POSITIVE),
    case("isclose NaN", lambda m, x: m.isclose(x, x, equal_nan=True), SPECIAL),
    case("isclose bounds", lambda m, x: m.isclose(x, x * 1.05, rtol=0.1, atol=0.0), (3, 4)),
    case("isclose other dtype", lambda m, x: m.isclose(x, x.long()), (3, 4)),
    case("allclose method", lambda m, x: x.allclose(x + 1e-9), (3, 4)),
    case("equal method", lambda m, x: x.equal(x + 1), (3, 4)),
    case("logical_not floats", lambda m, x: m.logical_not(x), SPECIAL),
    case("where alone", lambda m, x: m.where(x > 0), INTEGERS),
    case("softmax axis", lambda m, x: (m.softmax(x, axis=1), x.softmax(axis=0)), (3, 4)),
    case("softmax dtype", lambda m, x: (x.softmax(1, dtype=m.float64), x.log_softmax(1, m.float64)), (3, 4)),
    case("softmax integers", lambda m, x: m.softmax(x, 1, dtype=m.float32), INTEGERS),
    case("log_softmax function", lambda m, x: m.log_softmax(x, dim=1), (3, 4)),
    case("reversed", lambda m, x: (x.T.sin(), x[:, ::2].erf()), (3, 4)),
]  # fmt: skip


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)
