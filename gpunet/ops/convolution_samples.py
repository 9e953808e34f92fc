"""The cases that every implementation of a convolution is held to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.ops.base import Sample
from gpunet.ops.convolution_window import Sizes, conv_output_size
from gpunet.ops.windows import channels_first, channels_last

__all__ = ["conv_sample", "image_samples", "sequence_samples", "volume_samples"]


def conv_sample(
    label: str,
    x: Sizes,
    w: Sizes,
    bias: int | None = None,
    nhwc: bool = True,
    **attributes: Any,
) -> Sample:
    """A sample of a convolution, or of a transposed one; everything not given is PyTorch's default."""
    rng = np.random.default_rng(61)
    rank = len(x) - 2
    image = rng.standard_normal(x)
    if nhwc:
        image = channels_first(np.ascontiguousarray(channels_last(image)))
    base: dict[str, Any] = {"stride": (1,) * rank, "padding": ((0, 0),) * rank, "dilation": (1,) * rank, "groups": 1}
    shift = None if bias is None else rng.standard_normal(bias)
    return Sample(label, (image, rng.standard_normal(w), shift), {**base, **attributes})


def _case(
    label: str, x: Sizes, w: Sizes, bias: bool = True, residual: str = "", activation: str | None = None, **rest: Any
) -> Sample:
    """A sample of a convolution; ``residual`` is ``"NHWC"``, ``"NCHW"`` or ``"pitch"``, its memory order."""
    sample = conv_sample(label, x, w, w[0] if bias else None, **rest)
    added = None
    if residual:
        window = zip(
            x[2:], w[2:], *(sample.attributes[name] for name in ("stride", "padding", "dilation")), strict=True
        )
        values = np.random.default_rng(62).standard_normal((x[0], w[0], *(conv_output_size(*one) for one in window)))
        added = values if residual == "NCHW" else channels_first(np.ascontiguousarray(channels_last(values)))
        if residual == "pitch":
            added = np.concatenate([added, added], axis=1)[:, : w[0]]
    return Sample(label, (*sample.inputs, added), {**sample.attributes, "activation": activation})


def image_samples() -> Iterator[Sample]:
    """Those of conv2d."""
    case, rng = _case, np.random.default_rng(61)
    one = ((1, 1), (1, 1))
    yield case("3x3 padded", (2, 3, 5, 6), (4, 3, 3, 3), padding=one)
    yield case("batch 1, NCHW, no bias", (1, 3, 5, 5), (2, 3, 3, 3), bias=False, nhwc=False)
    yield case("1x1", (2, 4, 5, 3), (3, 4, 1, 1))
    yield case("1x1 stride 2", (2, 4, 5, 6), (3, 4, 1, 1), stride=(2, 2))
    yield case("1x1 padded", (1, 2, 3, 3), (3, 2, 1, 1), padding=one)
    yield case("stride 2", (2, 3, 7, 8), (4, 3, 3, 3), stride=(2, 2), padding=one)
    yield case("stride 3, 2, uneven pads", (2, 2, 9, 8), (3, 2, 3, 2), stride=(3, 2), padding=((2, 1), (0, 1)))
    yield case("stride larger than the kernel", (1, 2, 9, 9), (2, 2, 2, 2), stride=(4, 3))
    yield case("dilation", (2, 2, 8, 9), (3, 2, 3, 3), padding=((2, 2), (1, 1)), dilation=(2, 3))
    yield case("dilation 2, stride 2", (1, 2, 9, 10), (3, 2, 3, 3), stride=(2, 2), padding=one, dilation=(2, 2))
    yield case("dilation 2, stride 3", (1, 2, 11, 10), (2, 2, 3, 2), stride=(3, 3), padding=one, dilation=(2, 2))
    yield case("groups", (2, 4, 5, 5), (6, 2, 3, 3), padding=one, groups=2)
    yield case("groups of 3 and 5", (2, 12, 5, 4), (20, 3, 3, 2), padding=one, groups=4)
    yield case("wide groups", (2, 32, 4, 4), (48, 16, 2, 2), groups=2)
    yield case("joined groups", (1, 24, 4, 4), (48, 4, 2, 2), groups=6, stride=(1, 2))
    yield case("depthwise", (2, 3, 6, 5), (3, 1, 3, 3), padding=one, groups=3)
    yield case("depthwise 1x1", (2, 3, 6, 5), (3, 1, 1, 1), groups=3)
    yield case("depthwise stride 2", (2, 3, 7, 6), (3, 1, 3, 3), stride=(2, 2), padding=one, groups=3)
    yield case("depthwise dilation 2, stride 3", (1, 3, 9, 11), (3, 1, 3, 4), stride=(1, 3), dilation=(2, 2), groups=3)
    yield case("depthwise, long rows", (1, 5, 3, 1000), (5, 1, 3, 3), padding=one, groups=5)
    yield case("channel multiplier", (2, 3, 5, 5), (6, 1, 3, 3), padding=one, groups=3)
    yield case("pairs of channels", (2, 6, 5, 5), (9, 2, 3, 3), padding=one, groups=3, stride=(1, 2))
    yield case("one channel", (2, 1, 6, 6), (1, 1, 3, 3), padding=one)
    yield case("kernel covers the input", (2, 2, 3, 4), (3, 2, 3, 4))
    yield case("more padding than kernel", (1, 2, 3, 3), (2, 2, 2, 2), padding=((3, 3), (3, 3)))
    yield case("5x5", (1, 2, 7, 7), (2, 2, 5, 5), padding=((2, 2), (2, 2)))
    yield case("empty batch", (0, 3, 5, 5), (2, 3, 3, 3), padding=one)
    yield case("empty batch, depthwise", (0, 3, 5, 5), (3, 1, 3, 3), padding=one, groups=3)
    yield case("several blocks", (3, 16, 40, 33), (8, 16, 3, 3), padding=one)
    yield case("several blocks, depthwise", (2, 64, 70, 65), (64, 1, 3, 3), padding=one, groups=64)
    strided = case("strided input", (2, 3, 5, 12), (2, 3, 3, 3), nhwc=False)
    yield Sample("non-contiguous", (strided.inputs[0][..., ::2], *strided.inputs[1:]), strided.attributes)
    pitched = rng.standard_normal((2, 5, 5, 7)).transpose(0, 3, 1, 2)[:, 2:5]
    yield Sample("pixel pitch", (pitched, *strided.inputs[1:]), {**strided.attributes, "padding": one})
    single = rng.standard_normal((3, 1, 3, 3))
    attributes = {**strided.attributes, "padding": ((0, 0), (0, 0)), "groups": 3}
    yield Sample("pixel pitch, depthwise", (pitched, single, None, None), attributes)
    relu: dict[str, Any] = {"activation": "relu"}
    yield case("relu", (2, 3, 5, 6), (4, 3, 3, 3), padding=one, **relu)
    yield case("relu, no bias", (2, 3, 5, 6), (4, 3, 3, 3), bias=False, stride=(2, 1), **relu)
    yield case("residual", (2, 3, 5, 6), (4, 3, 3, 3), padding=one, residual="NHWC")
    yield case("residual and relu", (2, 3, 7, 6), (5, 3, 3, 3), stride=(2, 2), padding=one, residual="NHWC", **relu)
    yield case("NCHW residual", (2, 3, 5, 6), (4, 3, 3, 3), bias=False, nhwc=False, residual="NCHW", **relu)
    yield case("residual with pixel pitch", (2, 3, 5, 6), (4, 3, 2, 3), residual="pitch", **relu)
    yield case("1x1, residual and relu", (2, 4, 5, 3), (3, 4, 1, 1), residual="NHWC", **relu)
    yield case("groups, residual and relu", (2, 4, 5, 5), (6, 2, 3, 3), padding=one, groups=2, residual="NHWC", **relu)
    yield case("depthwise, residual and relu", (2, 3, 6, 5), (3, 1, 3, 3), groups=3, residual="NHWC", **relu)
    yield case("depthwise, NCHW residual", (1, 3, 7, 6), (3, 1, 3, 3), stride=(2, 2), groups=3, residual="NCHW")
    yield case("several blocks, residual and relu", (3, 16, 40, 33), (8, 16, 3, 3), residual="NHWC", **relu)
    yield case("empty batch, residual and relu", (0, 3, 5, 5), (2, 3, 3, 3), residual="NHWC", **relu)


def sequence_samples() -> Iterator[Sample]:
    """Those of conv1d."""
    case = _case
    yield case("3 padded", (2, 3, 7), (4, 3, 3), padding=((1, 1),))
    yield case("one tap", (2, 3, 7), (4, 3, 1), bias=False, nhwc=False)
    yield case("stride 2, dilation 3", (2, 3, 14), (4, 3, 4), stride=(2,), dilation=(3,), padding=((2, 1),))
    yield case("stride larger than the kernel", (1, 2, 11), (3, 2, 2), stride=(4,))
    yield case("groups", (2, 4, 7), (6, 2, 3), groups=2)
    yield case("depthwise", (2, 3, 8), (3, 1, 3), padding=((1, 1),), groups=3)
    yield case("depthwise stride 2", (2, 3, 9), (6, 1, 3), stride=(2,), groups=3)
    yield case("several blocks", (2, 16, 9000), (4, 16, 3), padding=((1, 1),))
    yield case("several blocks, depthwise", (2, 16, 9000), (16, 1, 3), padding=((1, 1),), groups=16)
    yield case("residual and relu", (2, 3, 9), (4, 3, 3), stride=(2,), residual="NHWC", activation="relu")
    yield case("depthwise, NCHW residual", (2, 3, 8), (3, 1, 3), groups=3, bias=False, residual="NCHW")
    yield case("several blocks, depthwise, relu", (1, 16, 9000), (16, 1, 3), groups=16, activation="relu")
    yield case("empty batch", (0, 3, 7), (4, 3, 3))


def volume_samples() -> Iterator[Sample]:
    """Those of conv3d."""
    case = _case
    one = ((1, 1), (1, 1), (1, 1))
    yield case("3x3x3 padded", (2, 3, 4, 5, 6), (4, 3, 3, 3, 3), padding=one)
    yield case("one tap", (1, 3, 2, 3, 4), (2, 3, 1, 1, 1), bias=False, nhwc=False)
    yield case("as deep as the input", (2, 2, 3, 5, 4), (3, 2, 3, 2, 2))
    yield case("strides", (1, 2, 5, 6, 7), (3, 2, 2, 3, 3), stride=(2, 1, 3), padding=((1, 0), (1, 1), (2, 1)))
    yield case("dilations", (1, 2, 6, 5, 7), (2, 2, 2, 2, 3), dilation=(3, 2, 2), stride=(1, 2, 1), padding=one)
    yield case("groups", (1, 4, 3, 4, 4), (6, 2, 2, 3, 2), groups=2, padding=one)
    yield case("depthwise", (2, 3, 4, 4, 5), (3, 1, 3, 3, 3), groups=3, padding=one)
    yield case("depthwise stride 2", (1, 3, 4, 5, 5), (6, 1, 3, 2, 3), groups=3, padding=one, stride=(2, 2, 2))
    yield case("several blocks", (2, 8, 5, 30, 31), (4, 8, 3, 3, 3), padding=one)
    yield case("blocks of planes", (1, 8, 24, 9, 9), (4, 8, 3, 3, 3), padding=one)
    relu: dict[str, Any] = {"activation": "relu"}
    yield case("residual and relu", (2, 2, 3, 5, 4), (3, 2, 2, 3, 2), padding=one, residual="NHWC", **relu)
    yield case("NCHW residual", (1, 2, 3, 4, 4), (3, 2, 2, 2, 2), stride=(1, 2, 1), residual="NCHW")
    yield case("blocks of planes, residual", (1, 8, 24, 9, 9), (4, 8, 3, 3, 3), padding=one, residual="NHWC", **relu)
    yield case("empty batch", (0, 3, 4, 5, 5), (2, 3, 3, 3, 3), padding=one)
