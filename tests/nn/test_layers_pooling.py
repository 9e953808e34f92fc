"""Pooling, padding and resampling layers: PyTorch's outputs, gradients, text and signatures."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.testing.parity import Case, case, check_case

pytestmark = pytest.mark.parity

LINE, IMAGE, VOLUME = (2, 3, 8), (2, 3, 8, 9), (1, 2, 4, 6, 5)
POSITIVE = np.random.default_rng(4).random(IMAGE) + 0.1

CASES: list[Case] = [
    case("MaxPool1d", lambda m, x: m.nn.MaxPool1d(3, 2, 1)(x), LINE),
    case("MaxPool1d indices", lambda m, x: m.nn.MaxPool1d(2, return_indices=True)(x), LINE),
    case("MaxPool1d unbatched", lambda m, x: m.nn.MaxPool1d(3, dilation=2, ceil_mode=True)(x), LINE[1:]),
    case("MaxPool2d indices", lambda m, x: m.nn.MaxPool2d((3, 2), 2, (1, 0), return_indices=True)(x), IMAGE),
    case("MaxPool2d dilated", lambda m, x: m.nn.MaxPool2d(3, 1, 1, 2, ceil_mode=True)(x), IMAGE),
    case("MaxPool3d", lambda m, x: m.nn.MaxPool3d((1, 2, 2), padding=(0, 1, 1))(x), VOLUME),
    case("MaxUnpool1d", lambda m, x: m.nn.MaxUnpool1d(2)(*m.nn.MaxPool1d(2, return_indices=True)(x)), LINE),
    case("MaxUnpool2d", lambda m, x: m.nn.MaxUnpool2d(2, stride=2)(*m.nn.MaxPool2d(2, return_indices=True)(x)), IMAGE),
    case("MaxUnpool2d size", lambda m, x: m.nn.MaxUnpool2d(2)(
        *m.nn.MaxPool2d(2, return_indices=True)(x), output_size=x.size()), IMAGE),
    case("MaxUnpool3d", lambda m, x: m.nn.MaxUnpool3d((2, 2, 1))(
        *m.nn.MaxPool3d((2, 2, 1), return_indices=True)(x)), VOLUME),
    case("AvgPool1d", lambda m, x: m.nn.AvgPool1d(3, 2, 1, True, False)(x), LINE),
    case("AvgPool2d", lambda m, x: m.nn.AvgPool2d((3, 2), (2, 1), divisor_override=4)(x), IMAGE, terms=6),
    case("AvgPool3d", lambda m, x: m.nn.AvgPool3d(2, 1, 1, ceil_mode=True)(x), VOLUME, terms=8),
    case("LPPool1d", lambda m, x: m.nn.LPPool1d(2, 3, stride=2)(x), POSITIVE[0], terms=3),
    case("LPPool2d", lambda m, x: m.nn.LPPool2d(1.2, (3, 2), stride=(2, 1))(x), POSITIVE, terms=9),
    case("LPPool3d", lambda m, x: m.nn.LPPool3d(2, 2)(x), POSITIVE[None], terms=8),
    case("AdaptiveMaxPool1d", lambda m, x: m.nn.AdaptiveMaxPool1d(3, return_indices=True)(x), LINE),
    case("AdaptiveMaxPool2d", lambda m, x: m.nn.AdaptiveMaxPool2d((None, 4))(x), IMAGE),
    case("AdaptiveMaxPool3d", lambda m, x: m.nn.AdaptiveMaxPool3d((2, 3, 4))(x), VOLUME),
    case("AdaptiveAvgPool1d", lambda m, x: m.nn.AdaptiveAvgPool1d(3)(x), LINE),
    case("AdaptiveAvgPool2d", lambda m, x: m.nn.AdaptiveAvgPool2d((3, None))(x), IMAGE),
    case("AdaptiveAvgPool3d", lambda m, x: m.nn.AdaptiveAvgPool3d(2)(x), VOLUME),
    case("ZeroPad1d", lambda m, x: m.nn.ZeroPad1d((1, 2))(x), LINE),
    case("ZeroPad2d", lambda m, x: m.nn.ZeroPad2d((1, 2, -1, 0))(x), IMAGE),
    case("ZeroPad3d", lambda m, x: m.nn.ZeroPad3d(1)(x), VOLUME),
    case("ConstantPad1d", lambda m, x: m.nn.ConstantPad1d(2, 3.5)(x), LINE),
    case("ConstantPad1d matrix", lambda m, x: m.nn.ConstantPad1d((3, 1), 1)(x), (3, 4)),
    case("ConstantPad2d", lambda m, x: m.nn.ConstantPad2d((3, 0, 2, 1), -1.0)(x), IMAGE),
    case("ConstantPad3d", lambda m, x: m.nn.ConstantPad3d((3, 0, 2, 1, 0, 1), 2)(x), VOLUME),
    case("ReflectionPad1d", lambda m, x: m.nn.ReflectionPad1d((3, 1))(x), LINE),
    case("ReflectionPad2d", lambda m, x: m.nn.ReflectionPad2d(2)(x), IMAGE),
    case("ReflectionPad2d unbatched", lambda m, x: m.nn.ReflectionPad2d((1, 1, 2, 0))(x), IMAGE[1:]),
    case("ReflectionPad3d", lambda m, x: m.nn.ReflectionPad3d(1)(x), VOLUME),
    case("ReplicationPad1d", lambda m, x: m.nn.ReplicationPad1d(2)(x), LINE),
    case("ReplicationPad2d", lambda m, x: m.nn.ReplicationPad2d((1, 1, 9, 0))(x), IMAGE),
    case("ReplicationPad3d", lambda m, x: m.nn.ReplicationPad3d((3, 3, 6, 6, 1, 1))(x), VOLUME, terms=60),
    case("CircularPad1d", lambda m, x: m.nn.CircularPad1d(3)(x), LINE),
    case("CircularPad2d", lambda m, x: m.nn.CircularPad2d((1, 1, 2, 0))(x), IMAGE),
    case("CircularPad3d", lambda m, x: m.nn.CircularPad3d((3, 3, 5, 1, 1, 1))(x), VOLUME),
    case("Upsample", lambda m, x: m.nn.Upsample(scale_factor=2)(x), IMAGE),
    case("Upsample bilinear", lambda m, x: m.nn.Upsample(size=(9, 5), mode="bilinear", align_corners=True)(x), IMAGE),
    case("Upsample recomputed", lambda m, x: m.nn.Upsample(None, (1.7, 0.6), "bicubic", False, True)(x), IMAGE,
         terms=16),
    case("Upsample linear", lambda m, x: m.nn.Upsample(scale_factor=3, mode="linear")(x), LINE),
    case("UpsamplingNearest2d", lambda m, x: m.nn.UpsamplingNearest2d(scale_factor=2)(x), IMAGE),
    case("UpsamplingBilinear2d", lambda m, x: m.nn.UpsamplingBilinear2d((12, 10))(x), IMAGE),
    case("PixelShuffle", lambda m, x: m.nn.PixelShuffle(2)(x), (2, 12, 3, 4)),
    case("PixelUnshuffle", lambda m, x: m.nn.PixelUnshuffle(2)(x), (2, 3, 4, 6)),
    case("ChannelShuffle", lambda m, x: m.nn.ChannelShuffle(3)(x), (2, 6, 3, 4)),
]  # fmt: skip

# Layers whose text is compared: name and arguments.
TEXTS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    *((f"MaxPool{d}d", (3, 2, 1), {"dilation": 2, "ceil_mode": True}) for d in (1, 2, 3)),
    ("MaxPool2d", ((3, 2),), {"return_indices": True}),
    *((f"MaxUnpool{d}d", (3,), {"padding": 1}) for d in (1, 2, 3)),
    *((f"AvgPool{d}d", (3, 2, 1), {"count_include_pad": False}) for d in (1, 2, 3)),
    *((f"LPPool{d}d", (2, 3), {}) for d in (1, 2, 3)),
    ("LPPool2d", (1.5, (3, 2)), {"stride": (1, 2), "ceil_mode": True}),
    *((f"Adaptive{kind}Pool{d}d", (3,), {}) for d in (1, 2, 3) for kind in ("Max", "Avg")),
    ("AdaptiveMaxPool2d", ((None, 2),), {}),
    *((f"{kind}Pad{d}d", (2,), {}) for d in (1, 2, 3) for kind in ("Zero", "Reflection", "Replication", "Circular")),
    *((f"ConstantPad{d}d", (2, 1.5), {}) for d in (1, 2, 3)),
    ("ReflectionPad2d", ((1, 2, 3, 4),), {}),
    ("Upsample", (), {"scale_factor": 2}),
    ("Upsample", ((4, 5),), {"mode": "bilinear", "align_corners": True}),
    ("Upsample", (), {"scale_factor": (2, 3), "mode": "nearest-exact"}),
    ("UpsamplingNearest2d", (), {"scale_factor": 2}),
    ("UpsamplingBilinear2d", (7,), {}),
    ("PixelShuffle", (2,), {}),
    ("PixelUnshuffle", (2,), {}),
    ("ChannelShuffle", (2,), {}),
]


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


@pytest.mark.parametrize("name, args, kw", TEXTS, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(TEXTS)])
def test_text_and_signature_are_pytorchs(name: str, args: tuple[Any, ...], kw: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    assert repr(getattr(nn, name)(*args, **kw)) == repr(getattr(torch.nn, name)(*args, **kw))
    ours, theirs = (list(inspect.signature(getattr(m, name).__init__).parameters.values()) for m in (nn, torch.nn))
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs]


def test_global_average_pooling() -> None:
    """Row B23: GlobalAvgPool is ``AdaptiveAvgPool2d(1)``: the mean over rows and columns, 0 parameters, any size."""
    layer = nn.AdaptiveAvgPool2d(1)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 0
    x = gn.rand(1, 5, 100, 100)
    y = layer(x)
    assert y.shape == (1, 5, 1, 1)
    np.testing.assert_allclose(y.numpy()[0, :, 0, 0], x.numpy().mean(axis=(2, 3), dtype=np.float64)[0], rtol=1e-5)
    assert layer(gn.rand(1, 5, 3, 8)).shape == (1, 5, 1, 1)
