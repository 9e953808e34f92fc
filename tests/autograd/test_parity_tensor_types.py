"""Dtypes of mixed data, tensor types, fills of 0-d tensors and writable expansions, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.testing.parity import Case, case, check_case

MIXED: tuple[Any, ...] = (
    [np.float32(1), 2], [np.float64(1), 2], [np.float32(1), np.float64(2)], [np.int32(1), 2], [np.int32(1), 2.5],
    [2, np.float32(1)], [np.float16(1), 2.5], [1.0, np.float64(2)], [np.float32(1), np.int64(2)], [True, np.float32(1)],
    [np.float16(1), np.int32(2)], [np.uint8(3), np.int8(2)], [[np.float32(1)], [2]], [[1, 2], np.ones(2)],
    [np.ones(2, np.float32), [1, 2]], (np.float64(1),), [np.int8(3)], [True, np.int8(3)],
)  # fmt: skip

CASES: list[Case] = [
    *(case(f"tensor of {data!r}", lambda m, data=data: m.tensor(data)) for data in MIXED),
    *(case(f"as_tensor of {data!r}", lambda m, data=data: m.as_tensor(data)) for data in MIXED[:4]),
    *(
        case(f"isinstance {name} {dtype}", lambda m, n=name, d=dtype: m.tensor(
            isinstance(m.zeros(2, dtype=getattr(m, d)), getattr(m, n))))
        for name in ("FloatTensor", "DoubleTensor", "HalfTensor", "LongTensor", "IntTensor", "ShortTensor",
                     "CharTensor", "ByteTensor", "BoolTensor")
        for dtype in ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
    ),
    case("isinstance of a made one", lambda m: m.tensor(isinstance(m.FloatTensor([1.0, 2.0]), m.FloatTensor))),
    case("isinstance of a parameter", lambda m: m.tensor(isinstance(m.nn.Linear(2, 1).weight, m.FloatTensor))),
    case("isinstance of a list", lambda m: m.tensor(isinstance([1.0], m.FloatTensor))),
    case("isinstance on meta", lambda m: m.tensor(isinstance(m.zeros(2, device="meta"), m.FloatTensor))),
    case("isinstance dtype", lambda m: m.tensor([isinstance(m.ones(1).dtype, m.dtype), isinstance("int64", m.dtype)])),
    *(
        case(f"write to expand {shape}", lambda m, x, s=shape: (y := x * 1, y.expand(*s).mul_(3), y)[2], (2, 3))
        for shape in ((2, 3), (-1, 3), (2, -1), (1, 2, 3), (1, 1, -1, -1))
    ),
    case("write to broadcast_to", lambda m, x: (y := x * 1, y.broadcast_to((2, 3)).add_(1), y)[2], (2, 3)),
    case("write to a part of expand_as", lambda m, x: (y := x * 1, y.expand_as(x)[0].zero_(), y)[2], (2, 3)),
    case("write to expand of 0-d", lambda m, x: (y := x * 1, y.expand(1).mul_(3), y)[2], ()),
]  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize("entry", CASES, ids=repr)
def test_parity(entry: Case) -> None:
    check_case(entry)


FILLS = (
    ("uniform_", (2.0, 3.0), lambda x: 2 <= x < 3), ("normal_", (100.0, 1.0), lambda x: 80 < x < 120),
    ("log_normal_", (0.0, 1.0), lambda x: x > 0), ("exponential_", (2.0,), lambda x: x > 0),
    ("cauchy_", (), np.isfinite), ("geometric_", (0.5,), lambda x: x >= 1 and x == int(x)),
    ("random_", (3, 7), lambda x: x in range(3, 7)), ("bernoulli_", (1.0,), lambda x: x == 1),
)  # fmt: skip


@pytest.mark.parametrize("dtype", [gn.float16, gn.float32, gn.float64], ids=str)
@pytest.mark.parametrize(
    ("name", "arguments", "holds"), FILLS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_0_d_tensor_is_filled(name: str, arguments: tuple[Any, ...], holds: Any, dtype: Any) -> None:
    filled = getattr(gn.full((), -1.0, dtype=dtype), name)(*arguments)
    assert filled.shape == ()
    assert filled.dtype == dtype
    assert holds(filled.item())


def test_a_0_d_slope_is_drawn() -> None:
    gn.manual_seed(3)
    assert -1 / 3 < gn.nn.functional.rrelu(gn.tensor(-1.0), training=True).item() < -1 / 8
