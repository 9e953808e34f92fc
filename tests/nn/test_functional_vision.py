"""Resampling and pixel shuffling against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet.testing.parity import Case, case, check_case

pytestmark = pytest.mark.parity

LINE, IMAGE, VOLUME = (2, 3, 7), (2, 3, 5, 6), (1, 2, 3, 4, 5)


def _to(label: str, x: Any, **options: Any) -> Case:
    """``interpolate`` with keywords."""
    return case(f"interpolate {label}", lambda m, t: m.nn.functional.interpolate(t, **options), x, terms=16)


SIZES: list[Case] = [
    _to(f"{mode} {shape} to {size}", shape, size=size, mode=mode)
    for shape, modes in (
        (LINE, ("nearest", "nearest-exact", "linear", "area")),
        (IMAGE, ("nearest", "nearest-exact", "bilinear", "bicubic", "area")),
        (VOLUME, ("nearest", "nearest-exact", "trilinear", "area")),
    )
    for mode in modes
    for size in (1, 3, 5, 9, 14, (2, 11, 6)[: len(shape) - 2], 0, -1, (3, 3, 3, 3))
]

SCALES: list[Case] = [
    _to(f"{mode} {len(shape)}-d times {scale}{' recomputed' if again else ''}", shape, scale_factor=scale, mode=mode,
        recompute_scale_factor=again)
    for shape, modes in ((LINE, ("nearest", "linear")), (IMAGE, ("nearest", "nearest-exact", "bilinear", "bicubic")),
                         (VOLUME, ("nearest", "trilinear")))
    for mode in modes
    for scale in (2, 0.5, 1.7, 3, 0.3, 1, (2.5, 0.6, 1)[: len(shape) - 2])
    for again in (None, True)
]  # fmt: skip

CORNERS: list[Case] = [
    _to(f"{mode} corners {kind} {value}", shape, mode=mode, align_corners=corners, **{kind: value})
    for mode, shape in (("linear", LINE), ("bilinear", IMAGE), ("bicubic", IMAGE), ("trilinear", VOLUME))
    for kind, value, corners in (
        ("size", 1, True), ("size", 9, True), ("size", 3, True), ("scale_factor", 2, True), ("scale_factor", 0.6, True),
        ("size", 8, False),
    )
]  # fmt: skip

OPTIONS: list[Case] = [
    _to("default", IMAGE, scale_factor=2),
    _to("large image", (3, 8, 40, 40), scale_factor=2, mode="bilinear"),
    _to("large image nearest", (3, 8, 40, 40), scale_factor=2),
    _to("one channel", (2, 1, 9, 9), scale_factor=2, mode="bilinear"),
    _to("size list", IMAGE, size=[3, 4]),
    _to("empty batch", (0, 3, 5, 6), size=4),
    _to("no channels", (2, 0, 5, 6), size=4),
    _to("nothing", (2, 3, 0, 6), size=4),
    _to("both", IMAGE, size=4, scale_factor=2),
    _to("neither", IMAGE),
    _to("unknown mode", IMAGE, size=4, mode="lanczos"),
    _to("linear of an image", IMAGE, size=4, mode="linear"),
    _to("bilinear of a line", LINE, size=4, mode="bilinear"),
    _to("bilinear of a volume", VOLUME, size=4, mode="bilinear"),
    _to("trilinear of an image", IMAGE, size=4, mode="trilinear"),
    _to("matrix", (5, 6), size=4),
    _to("6-d", (1, 1, 2, 2, 2, 2), size=4),
    _to("corners of nearest", IMAGE, size=4, align_corners=False),
    _to("corners of area", IMAGE, size=4, mode="area", align_corners=True),
    _to("nearest keeps the size", (2, 3, 2), scale_factor=1.3),
    _to("antialias of bilinear", IMAGE, size=4, mode="bilinear", antialias=True),
    _to("antialias of nearest", IMAGE, size=4, antialias=True),
    _to("size and recompute", IMAGE, size=4, recompute_scale_factor=True),
    _to("scale zero", IMAGE, scale_factor=0.0),
    _to("scale negative", IMAGE, scale_factor=-1.0),
    _to("too many scales", IMAGE, scale_factor=(2, 2, 2)),
    _to("float size", IMAGE, size=4.5),
    _to("integers", np.arange(30).reshape(1, 1, 5, 6), size=4, mode="bilinear"),
    _to("area scale", IMAGE, scale_factor=0.5, mode="area"),
    case("interpolate in order", lambda m, x: m.nn.functional.interpolate(x, None, 2, "bilinear", True), IMAGE),
    case("interpolate same size", lambda m, x: m.nn.functional.interpolate(x, (5, 6)) * 2, IMAGE),
] + [
    case(f"interpolate {mode} {dtype}", lambda m, x, mode=mode, dtype=dtype: m.nn.functional.interpolate(
        x.to(getattr(m, dtype)), scale_factor=2, mode=mode), IMAGE, at_least=2e-2)
    for mode in ("nearest", "bilinear", "bicubic") for dtype in ("float16", "bfloat16")
]  # fmt: skip

SHUFFLES: list[Case] = [
    case("pixel_shuffle", lambda m, x: m.nn.functional.pixel_shuffle(x, 2), (2, 12, 3, 4)),
    case("pixel_shuffle 3", lambda m, x: m.nn.functional.pixel_shuffle(x, 3), (1, 9, 3, 4)),
    case("pixel_shuffle 1", lambda m, x: m.nn.functional.pixel_shuffle(x, 1), (1, 9, 3, 4)),
    case("pixel_shuffle unbatched", lambda m, x: m.nn.functional.pixel_shuffle(x, 2), (8, 3, 4)),
    case("pixel_shuffle 5-d", lambda m, x: m.nn.functional.pixel_shuffle(x, 2), (2, 3, 8, 3, 4)),
    case("pixel_shuffle integers", lambda m, x: m.nn.functional.pixel_shuffle(x, 2), np.arange(24).reshape(1, 4, 2, 3)),
    case("pixel_shuffle empty batch", lambda m, x: m.nn.functional.pixel_shuffle(x, 2), (0, 4, 2, 3)),
    case("pixel_shuffle wrong channels", lambda m, x: m.nn.functional.pixel_shuffle(x, 2), (2, 6, 3, 4)),
    case("pixel_shuffle matrix", lambda m, x: m.nn.functional.pixel_shuffle(x, 1), (3, 4)),
    case("pixel_shuffle zero", lambda m, x: m.nn.functional.pixel_shuffle(x, 0), (2, 4, 3, 4)),
    case("pixel_shuffle float", lambda m, x: m.nn.functional.pixel_shuffle(x, 2.0), (2, 4, 3, 4)),
    case("pixel_unshuffle", lambda m, x: m.nn.functional.pixel_unshuffle(x, 2), (2, 3, 4, 6)),
    case("pixel_unshuffle unbatched", lambda m, x: m.nn.functional.pixel_unshuffle(x, 3), (3, 3, 6)),
    case("pixel_unshuffle 5-d", lambda m, x: m.nn.functional.pixel_unshuffle(x, 2), (2, 1, 3, 4, 6)),
    case("pixel_unshuffle odd", lambda m, x: m.nn.functional.pixel_unshuffle(x, 2), (2, 3, 4, 5)),
    case("pixel_unshuffle negative", lambda m, x: m.nn.functional.pixel_unshuffle(x, -1), (2, 3, 4, 5)),
    case("pixel_unshuffle vector", lambda m, x: m.nn.functional.pixel_unshuffle(x, 2), (4,)),
    case("channel_shuffle", lambda m, x: m.nn.functional.channel_shuffle(x, 3), (2, 6, 3, 4)),
    case("channel_shuffle 3-d", lambda m, x: m.nn.functional.channel_shuffle(x, 2), (2, 6, 3)),
    case("channel_shuffle wrong channels", lambda m, x: m.nn.functional.channel_shuffle(x, 4), (2, 6, 3, 4)),
    case("channel_shuffle zero", lambda m, x: m.nn.functional.channel_shuffle(x, 0), (2, 6, 3, 4)),
    case("channel_shuffle matrix", lambda m, x: m.nn.functional.channel_shuffle(x, 2), (2, 6)),
]

CASES = [*SIZES, *SCALES, *CORNERS, *OPTIONS, *SHUFFLES]


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


def test_labels_are_unique() -> None:
    labels = [checked.label for checked in CASES]
    assert len(labels) == len(set(labels))


def test_a_result_of_the_same_size_has_its_own_memory() -> None:
    x = gn.ones(1, 2, 3, 3)
    y = F.interpolate(x, (3, 3))
    y.fill_(5)
    assert x.max().item() == 1


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "area"])
def test_images_stay_channels_last(mode: str) -> None:
    x = gn.from_numpy(np.zeros((2, 8, 8, 16), np.float32)).permute(0, 3, 1, 2)
    assert F.interpolate(x, (16, 12), mode=mode).numpy().strides[1] == 4
    assert F.pixel_shuffle(x, 2).numpy().strides[1] == 4
