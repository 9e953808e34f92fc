"""What the property tests have found, one case each: alpha and value in promotion, numbers for tensors, 0-d tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet.testing.parity import Case, case, check_case

pytest.importorskip("torch")
pytestmark = pytest.mark.parity

MASK = np.array([True, False, True])
SMALL = np.array([3, -2, 1], np.int16)


def _written(x: Any, change: Any) -> Any:
    y = x * 1
    change(y)
    return y


CASES = [
    case("fmax number", lambda m, x: m.fmax(x, 0.5), (3,)),
    case("hypot number", lambda m, x: m.hypot(x, 0.5), (3,)),
    case("atan2 number", lambda m, x: m.atan2(x, 0.5), (3,)),
    case("logical_and number", lambda m, x: m.logical_and(x, 1), (3,)),
    case("atan2 of bools", lambda m, x: m.atan2(m.tensor(MASK), x), (3,)),
    case("logaddexp of bools", lambda m, x: m.logaddexp(x, m.tensor(MASK)), (3,)),
    case("pow negative integers", lambda m: m.pow(m.tensor([1, 2]), m.tensor([-1, 1]))),
    case("repeat_interleave 0-d dim 0", lambda m, x: x.repeat_interleave(2, 0), ()),
    case("add alpha of bools", lambda m, x: m.add(m.tensor(SMALL), m.tensor(MASK), alpha=2), (3,)),
    case("add_ alpha of bools", lambda m, x: m.tensor(SMALL).add_(m.tensor(MASK), alpha=2), (3,)),
    case("sub alpha of bools", lambda m, x: m.sub(m.tensor(SMALL), m.tensor(MASK), alpha=2), (3,)),
    case("add alpha of half", lambda m, x: m.add(x.double(), x.half(), alpha=3), (3,), at_least=2e-3),
    case("addcmul of bools", lambda m, x: m.addcmul(m.tensor(SMALL), m.tensor(MASK), m.tensor(MASK), value=2), (3,)),
    case("addcdiv of integers", lambda m, x: m.addcdiv(x, m.tensor(SMALL), m.tensor(SMALL), value=2), (3,)),
    case("logcumsumexp integers", lambda m, x: m.tensor(SMALL).logcumsumexp(0), (3,)),
    case("logsumexp gradient of NaN", lambda m, x: (x * m.tensor([1.0, float("nan"), 1.0])).logsumexp(0), (3,)),
    case("unflatten 0-d", lambda m, x: x.unflatten(0, (1,)), ()),
    case("roll 0-d dims", lambda m, x: x.roll(1, 0), ()),
    case("squeeze 0-d twice", lambda m, x: x.squeeze((0, 0)), ()),
    case("multiply in place by another type", lambda m, x, y: _written(x, lambda z: z.mul_(y.double())), (2, 3), (3,)),
    case("divide in place by another type", lambda m, x, y: _written(x, lambda z: z.div_(y.double())), (2, 3), (3,)),
    case("divide nothing by zero", lambda m: m.zeros(0, dtype=m.int64) // 0),
]


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)
