"""The text of every layer is PyTorch's, so that a printed model reads the same."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import gpunet as gn
from gpunet import nn

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

# What the constructors must be given; the others take nothing.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "InstanceNorm1d", "InstanceNorm2d"], (4,)),
    **dict.fromkeys(["InstanceNorm3d", "LayerNorm", "LocalResponseNorm", "LocalResponseNorm2012", "RMSNorm"], (4,)),
    **dict.fromkeys([f"{kind}Pool{n}d" for kind in ("Max", "Avg") for n in (1, 2, 3)], (3,)),
    **dict.fromkeys([f"Adaptive{kind}Pool{n}d" for kind in ("Max", "Avg") for n in (1, 2, 3)], (2,)),
    **dict.fromkeys([f"Conv{kind}{n}d" for kind in ("", "Transpose") for n in (1, 2, 3)], (4, 6, 3)),
    **dict.fromkeys([f"LazyConv{kind}{n}d" for kind in ("", "Transpose") for n in (1, 2, 3)], (6, 3)),
    **dict.fromkeys([f"{kind}Pad{n}d" for kind in ("Zero", "Reflection", "Replication", "Circular")
                     for n in (1, 2, 3)], (1,)),
    **dict.fromkeys([f"ConstantPad{n}d" for n in (1, 2, 3)], (1, 0.5)),
    **dict.fromkeys([f"LPPool{n}d" for n in (1, 2, 3)], (2, 3)),
    **dict.fromkeys(["Linear", "Embedding", "GroupNorm", "Threshold"], (4, 4)),
    **dict.fromkeys(["Softmax", "LogSoftmax", "Softmin"], (1,)),
    **dict.fromkeys(["PixelShuffle", "PixelUnshuffle", "ChannelShuffle", "Unfold", "LazyLinear"], (2,)),
    "EmbeddingBag": (4, 4),
    "Bilinear": (2, 3, 4), "Fold": ((4, 4), 2), "Unflatten": (1, (2, 2)), "MaxUnpool1d": (2,), "MaxUnpool2d": (2,),
    "MaxUnpool3d": (2,), "UpsamplingBilinear2d": (None, 2), "UpsamplingNearest2d": (None, 2), "Upsample": (None, 2),
    "RNN": (3, 4), "LSTM": (3, 4), "GRU": (3, 4), "RNNCell": (3, 4), "LSTMCell": (3, 4), "GRUCell": (3, 4),
    "MultiheadAttention": (4, 2), "TransformerEncoderLayer": (4, 2, 8),
    "RNNBase": ("LSTM", 3, 4), "RNNCellBase": (3, 4, True, 2),
}  # fmt: skip

LAYERS = sorted(
    name
    for name, kind in vars(nn).items()
    if inspect.isclass(kind)
    and issubclass(kind, nn.Module)
    and hasattr(torch.nn, name)
    and name in nn.__all__
    and name != "TransformerEncoder"  # made of a layer
)

# Options that show in the text, each for one layer.
OPTIONS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("Conv2d", (4, 8, (3, 5)), {"stride": 2, "padding": (1, 2), "dilation": 2, "groups": 2, "bias": False}),
    ("Conv2d", (4, 8, 3), {"padding": "same", "padding_mode": "reflect"}),
    ("Linear", (3, 4), {"bias": False}),
    ("BatchNorm2d", (4,), {"eps": 1e-3, "momentum": None, "affine": False, "track_running_stats": False}),
    ("MaxPool2d", (2,), {"stride": 1, "padding": 1, "dilation": 2, "ceil_mode": True}),
    ("AvgPool2d", ((2, 3),), {"stride": (2, 1), "padding": 1}),
    ("AdaptiveAvgPool2d", ((None, 3),), {}),
    ("Dropout", (), {"p": 0.2, "inplace": True}),
    ("ReLU", (), {"inplace": True}),
    ("Softmax", (), {"dim": 1}),
    ("LogSoftmax", (), {"dim": -1}),
    ("Flatten", (), {"start_dim": 0, "end_dim": 2}),
]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_prints_as_pytorchs(name: str) -> None:
    arguments = ARGUMENTS.get(name, ())
    # PyTorch's attention has a Linear of another name, so that its quantization lets it be.
    expected = repr(getattr(torch.nn, name)(*arguments)).replace("NonDynamicallyQuantizableLinear", "Linear")
    assert repr(getattr(nn, name)(*arguments)) == expected


def test_an_encoder_prints_as_pytorchs() -> None:
    ours, theirs = (
        m.nn.TransformerEncoder(m.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2, m.nn.LayerNorm(4))
        for m in (gn, torch)
    )
    assert repr(ours) == repr(theirs).replace("NonDynamicallyQuantizableLinear", "Linear")


@pytest.mark.parametrize(("name", "arguments", "options"), OPTIONS)
def test_options_print_as_pytorchs(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    assert repr(getattr(nn, name)(*arguments, **options)) == repr(getattr(torch.nn, name)(*arguments, **options))


def test_the_walk_finds_the_layers() -> None:
    assert {"Conv2d", "BatchNorm2d", "Linear", "MaxPool2d", "CrossEntropyLoss", "Sequential"} <= set(LAYERS)
