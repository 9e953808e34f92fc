"""Padding against PyTorch, in every mode and for every rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet.testing.parity import Case, case, check_case

pytestmark = pytest.mark.parity

SHAPES: list[tuple[int, ...]] = [(9,), (3, 9), (2, 3, 9), (2, 3, 8, 9), (1, 2, 3, 8, 9)]
PADS: list[tuple[int, ...]] = [
    (1, 2), (0, 0), (-1, 2), (3, -2), (8, 8), (9, 8), (10, 1), (-9, 3), (1,), (),
    (1, 2, 2, 1), (0, 3, 0, 0), (-1, 2, 1, -2), (-2, -1, -1, -1), (3, 4, 5, 6), (9, 9, 1, 1),
    (1, 1, 1, 1, 1, 1), (2, 0, 1, 2, -1, 2), (1, 1, 1, 1, 3, 1), (1,) * 8,
]  # fmt: skip


def _pad(pad: tuple[int, ...], mode: str) -> Any:
    return lambda m, x: m.nn.functional.pad(x, pad, mode)


MODES: list[Case] = [
    case(f"pad {mode} {shape} by {pad}", _pad(pad, mode), shape, terms=60)
    for mode in ("reflect", "replicate", "circular")
    for shape in SHAPES
    for pad in PADS
]

MORE: list[Case] = [
    case("pad constant 5-d", lambda m, x: m.nn.functional.pad(x, (1, 2, 0, 1, 2, 0), "constant", -1.5),
         (1, 2, 3, 4, 3)),
    case("pad constant batch", lambda m, x: m.nn.functional.pad(x, (0, 0, 0, 0, 1, 1), value=3), (2, 3, 4)),
    case("pad reflect value", lambda m, x: m.nn.functional.pad(x, (1, 1), "reflect", 1.0), (2, 3, 9)),
    case("pad reflect value zero", lambda m, x: m.nn.functional.pad(x, (1, 1), "reflect", 0.0), (2, 3, 9)),
    case("pad reflect list", lambda m, x: m.nn.functional.pad(x, [1, 1], mode="reflect"), (2, 3, 9)),
    case("pad a number", lambda m, x: m.nn.functional.pad(x, 1), (2, 3, 9)),
    case("pad by floats", lambda m, x: m.nn.functional.pad(x, (1.5, 1)), (2, 3, 9)),
    case("pad channels last", lambda m, x: m.nn.functional.pad(x.permute(0, 3, 1, 2), (2, 1, 0, 3), "reflect"),
         (2, 6, 5, 3)),
] + [
    case(f"pad {mode} {label}", lambda m, x, mode=mode: m.nn.functional.pad(x, (2, 1), mode), x)
    for mode in ("reflect", "replicate", "circular")
    for label, x in (
        ("integers", np.arange(12).reshape(3, 4)), ("bools", np.arange(12).reshape(3, 4) % 3 == 0),
        ("empty batch", (0, 3, 4)), ("no channels", (2, 0, 4)), ("nothing", (2, 3, 0)),
    )
] + [
    case(f"pad {mode} {dtype}",
         lambda m, x, mode=mode, dtype=dtype: m.nn.functional.pad(x.to(getattr(m, dtype)), (2, 1, 0, 2), mode),
         (2, 3, 5, 6), at_least=2e-2)
    for mode in ("reflect", "replicate", "circular") for dtype in ("float16", "bfloat16")
]  # fmt: skip

CASES = [*MODES, *MORE]


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


def test_labels_are_unique() -> None:
    labels = [checked.label for checked in CASES]
    assert len(labels) == len(set(labels))


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_images_stay_channels_last(mode: str) -> None:
    x = gn.from_numpy(np.zeros((2, 8, 8, 16), np.float32)).permute(0, 3, 1, 2)
    assert F.pad(x, (1, 1, 1, 1), mode).numpy().strides[1] == 4
