"""Bad input to pooling, padding and resampling: one clear error, the same text on cpu and meta."""

from __future__ import annotations

import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.testing.bad_input import DEVICES, BadInput

# fmt: off
POOLING = [
    BadInput("max_pool1d rank", lambda z, on: F.max_pool1d(z(8), 2),
             ShapeError, "max_pool1d: input must be (N, C, L) or (C, L), got shape (8,)"),
    BadInput("max_pool1d kernel too large", lambda z, on: F.max_pool1d(z(2, 3, 2), 3),
             ShapeError, "max_pool1d: kernel_size 3 with dilation 1 covers 3 pixels, more than the padded input has "
                         "(2); input shape (2, 3, 2), padding 0"),
    BadInput("max_pool1d integers", lambda z, on: F.max_pool1d(z(2, 3, 8, dtype=gn.int32), 2),
             DTypeError, "max_pool1d: input must be floating point, got int32"),
    BadInput("max_pool1d pair", lambda z, on: F.max_pool1d(z(2, 3, 8), (2, 2)),
             TypeError, "max_pool1d: kernel_size must be an integer or a sequence of 1, got (2, 2)"),
    BadInput("max_pool2d rank", lambda z, on: F.max_pool2d(z(8, 8), 2),
             ShapeError, "max_pool2d: input must be (N, C, H, W) or (C, H, W), got shape (8, 8)"),
    BadInput("max_pool2d kernel too large", lambda z, on: F.max_pool2d(z(2, 3, 2, 8), 3),
             ShapeError, "max_pool2d: kernel_size (3, 3) with dilation (1, 1) covers 3 pixels, more than the padded "
                         "input has (2); input shape (2, 3, 2, 8), padding (0, 0)"),
    BadInput("max_pool2d kernel zero", lambda z, on: F.max_pool2d(z(2, 3, 8, 8), 0),
             ShapeError, "max_pool2d: kernel_size must be at least 1, got (0, 0)"),
    BadInput("max_pool2d kernel float", lambda z, on: F.max_pool2d(z(2, 3, 8, 8), 2.5),
             TypeError, "max_pool2d: kernel_size must be an integer or 2 of them, got 2.5"),
    BadInput("max_pool2d stride negative", lambda z, on: F.max_pool2d(z(2, 3, 8, 8), 2, -1),
             ShapeError, "max_pool2d: stride must be at least 1, got (-1, -1)"),
    BadInput("max_pool2d dilation zero", lambda z, on: F.max_pool2d(z(2, 3, 8, 8), 2, dilation=0),
             ShapeError, "max_pool2d: dilation must be at least 1, got (0, 0)"),
    BadInput("max_pool2d padding too large", lambda z, on: F.max_pool2d(z(2, 3, 8, 8), 3, padding=2),
             ShapeError, "max_pool2d: padding must be at most half of kernel_size (3, 3), got (2, 2)"),
    BadInput("max_pool2d padding negative", lambda z, on: F.max_pool2d(z(2, 3, 8, 8), 3, padding=-1),
             ShapeError, "max_pool2d: padding must not be negative, got (-1, -1)"),
    BadInput("max_pool2d integers", lambda z, on: F.max_pool2d(z(2, 3, 8, 8, dtype=gn.int64), 2),
             DTypeError, "max_pool2d: input must be floating point, got int64"),
    BadInput("max_pool2d no channels", lambda z, on: F.max_pool2d(z(2, 0, 8, 8), 2),
             ShapeError, "max_pool2d: input must not be empty except in its batch, got shape (2, 0, 8, 8)"),
    BadInput("max_pool3d rank", lambda z, on: F.max_pool3d(z(8, 8, 8), 2),
             ShapeError, "max_pool3d: input must be (N, C, D, H, W) or (C, D, H, W), got shape (8, 8, 8)"),
    BadInput("max_pool3d stride zero", lambda z, on: F.max_pool3d(z(1, 1, 8, 8, 8), 2, 0),
             ShapeError, "max_pool3d: stride must be at least 1, got (0, 0, 0)"),
    BadInput("avg_pool1d rank", lambda z, on: F.avg_pool1d(z(1, 2, 3, 4), 2),
             ShapeError, "avg_pool1d: input must be (N, C, L) or (C, L), got shape (1, 2, 3, 4)"),
    BadInput("avg_pool1d padding too large", lambda z, on: F.avg_pool1d(z(2, 3, 8), 3, 1, 2),
             ShapeError, "avg_pool1d: padding must be at most half of kernel_size 3, got 2"),
    BadInput("avg_pool2d kernel too large", lambda z, on: F.avg_pool2d(z(2, 3, 2, 8), 3),
             ShapeError, "avg_pool2d: kernel_size (3, 3) with dilation (1, 1) covers 3 pixels, more than the padded "
                         "input has (2); input shape (2, 3, 2, 8), padding (0, 0)"),
    BadInput("avg_pool2d integers", lambda z, on: F.avg_pool2d(z(2, 3, 8, 8, dtype=gn.uint8), 2),
             DTypeError, "avg_pool2d: input must be floating point, got uint8"),
    BadInput("avg_pool2d divisor zero", lambda z, on: F.avg_pool2d(z(2, 3, 8, 8), 2, divisor_override=0),
             ValueError, "avg_pool2d: divisor_override must not be zero"),
    BadInput("avg_pool2d divisor float", lambda z, on: F.avg_pool2d(z(2, 3, 8, 8), 2, divisor_override=1.5),
             TypeError, "avg_pool2d: divisor_override must be an integer or None, got 1.5"),
    BadInput("avg_pool3d rank", lambda z, on: F.avg_pool3d(z(8, 8), 2),
             ShapeError, "avg_pool3d: input must be (N, C, D, H, W) or (C, D, H, W), got shape (8, 8)"),
    BadInput("lp_pool1d rank", lambda z, on: F.lp_pool1d(z(8), 2, 2),
             ShapeError, "lp_pool1d: input must be (N, C, L) or (C, L), got shape (8,)"),
    BadInput("lp_pool1d norm zero", lambda z, on: F.lp_pool1d(z(2, 3, 8), 0, 2),
             ZeroDivisionError, "lp_pool1d: norm_type must not be zero"),
    BadInput("lp_pool2d norm name", lambda z, on: F.lp_pool2d(z(2, 3, 8, 8), "2", 2),
             TypeError, "lp_pool2d: norm_type must be a number, got '2'"),
    BadInput("lp_pool2d integers", lambda z, on: F.lp_pool2d(z(2, 3, 8, 8, dtype=gn.int64), 2, 2),
             DTypeError, "lp_pool2d: input must be floating point, got int64"),
    BadInput("lp_pool2d kernel too large", lambda z, on: F.lp_pool2d(z(2, 3, 2, 8), 2, 3),
             ShapeError, "lp_pool2d: kernel_size (3, 3) with dilation (1, 1) covers 3 pixels, more than the padded "
                         "input has (2); input shape (2, 3, 2, 8), padding (0, 0)"),
    BadInput("lp_pool3d kernel zero", lambda z, on: F.lp_pool3d(z(1, 1, 4, 4, 4), 2, 0),
             ShapeError, "lp_pool3d: kernel_size must be at least 1, got (0, 0, 0)"),
    BadInput("adaptive_avg_pool1d rank", lambda z, on: F.adaptive_avg_pool1d(z(8), 2),
             ShapeError, "adaptive_avg_pool1d: input must be (N, C, L) or (C, L), got shape (8,)"),
    BadInput("adaptive_avg_pool1d None", lambda z, on: F.adaptive_avg_pool1d(z(2, 3, 8), None),
             TypeError, "adaptive_avg_pool1d: output_size must be an integer or a sequence of 1, got None"),
    BadInput("adaptive_avg_pool2d rank", lambda z, on: F.adaptive_avg_pool2d(z(8, 8), 2),
             ShapeError, "adaptive_avg_pool2d: input must be (N, C, H, W) or (C, H, W), got shape (8, 8)"),
    BadInput("adaptive_avg_pool2d negative", lambda z, on: F.adaptive_avg_pool2d(z(2, 3, 8, 8), -1),
             ShapeError, "adaptive_avg_pool2d: output_size must not be negative, got (-1, -1)"),
    BadInput("adaptive_avg_pool2d empty image", lambda z, on: F.adaptive_avg_pool2d(z(2, 3, 0, 8), 1),
             ShapeError, "adaptive_avg_pool2d: input must not be empty except in its batch, got shape (2, 3, 0, 8)"),
    BadInput("adaptive_avg_pool2d three sizes", lambda z, on: F.adaptive_avg_pool2d(z(2, 3, 8, 8), (1, 1, 1)),
             TypeError, "adaptive_avg_pool2d: output_size must be an integer, None or 2 of them, got (1, 1, 1)"),
    BadInput("adaptive_avg_pool3d integers", lambda z, on: F.adaptive_avg_pool3d(z(1, 2, 4, 4, 4, dtype=gn.int64), 1),
             DTypeError, "adaptive_avg_pool3d: input must be floating point, got int64"),
    BadInput("adaptive_max_pool1d negative", lambda z, on: F.adaptive_max_pool1d(z(2, 3, 8), -1),
             ShapeError, "adaptive_max_pool1d: output_size must not be negative, got -1"),
    BadInput("adaptive_max_pool2d rank", lambda z, on: F.adaptive_max_pool2d(z(8, 8), 2),
             ShapeError, "adaptive_max_pool2d: input must be (N, C, H, W) or (C, H, W), got shape (8, 8)"),
    BadInput("adaptive_max_pool2d float", lambda z, on: F.adaptive_max_pool2d(z(2, 3, 8, 8), 1.5),
             TypeError, "adaptive_max_pool2d: output_size must be an integer, None or 2 of them, got 1.5"),
    BadInput("adaptive_max_pool3d rank", lambda z, on: F.adaptive_max_pool3d(z(8, 8), 2),
             ShapeError, "adaptive_max_pool3d: input must be (N, C, D, H, W) or (C, D, H, W), got shape (8, 8)"),
    BadInput("max_unpool1d rank", lambda z, on: F.max_unpool1d(z(4), z(4, dtype=gn.int64), 2),
             ShapeError, "max_unpool1d: input must be (N, C, L) or (C, L), got shape (4,)"),
    BadInput("max_unpool2d indices", lambda z, on: F.max_unpool2d(z(1, 1, 2, 2), z(1, 1, 2, 2), 2),
             DTypeError, "max_unpool2d: indices must be int64, got float32"),
    BadInput("max_unpool2d shapes", lambda z, on: F.max_unpool2d(z(1, 1, 2, 2), z(1, 1, 2, 3, dtype=gn.int64), 2),
             ShapeError, "max_unpool2d: indices must have the input's shape (1, 1, 2, 2), got (1, 1, 2, 3)"),
    BadInput("max_unpool2d size",
             lambda z, on: F.max_unpool2d(z(1, 1, 2, 2), z(1, 1, 2, 2, dtype=gn.int64), 2, output_size=(9, 4)),
             ValueError, "max_unpool2d: output_size must be less than a stride away from (4, 4), got (9, 4)"),
    BadInput("max_unpool3d integers",
             lambda z, on: F.max_unpool3d(z(1, 1, 2, 2, 2, dtype=gn.int64), z(1, 1, 2, 2, 2, dtype=gn.int64), 2),
             DTypeError, "max_unpool3d: input must be floating point, got int64"),
]

LAYERS = [
    BadInput("MaxPool1d pair", lambda z, on: nn.MaxPool1d((2, 2)),
             ValueError, "MaxPool1d: kernel_size must be an integer or a sequence of 1, got (2, 2)"),
    BadInput("MaxPool1d rank", lambda z, on: on(nn.MaxPool1d(2))(z(8)),
             ShapeError, "max_pool1d: input must be (N, C, L) or (C, L), got shape (8,)"),
    BadInput("MaxPool2d stride zero", lambda z, on: nn.MaxPool2d(2, 0),
             ValueError, "MaxPool2d: stride must be at least 1, got 0"),
    BadInput("MaxPool2d flag", lambda z, on: nn.MaxPool2d(2, return_indices=1),
             TypeError, "MaxPool2d: return_indices must be True or False, got 1"),
    BadInput("MaxPool3d kernel", lambda z, on: nn.MaxPool3d((2, 2)),
             ValueError, "MaxPool3d: kernel_size must be an integer or three (depth, height, width), got (2, 2)"),
    BadInput("MaxUnpool1d kernel", lambda z, on: nn.MaxUnpool1d(0),
             ValueError, "MaxUnpool1d: kernel_size must be at least 1, got 0"),
    BadInput("MaxUnpool2d padding", lambda z, on: nn.MaxUnpool2d(2, padding=-1),
             ValueError, "MaxUnpool2d: padding must be at least 0, got -1"),
    BadInput("MaxUnpool3d kernel", lambda z, on: nn.MaxUnpool3d(1.0),
             TypeError, "MaxUnpool3d: kernel_size must be an integer, got 1.0"),
    BadInput("AvgPool1d kernel", lambda z, on: nn.AvgPool1d(0),
             ValueError, "AvgPool1d: kernel_size must be at least 1, got 0"),
    BadInput("AvgPool2d integers", lambda z, on: on(nn.AvgPool2d(2))(z(1, 1, 4, 4, dtype=gn.int64)),
             DTypeError, "avg_pool2d: input must be floating point, got int64"),
    BadInput("AvgPool3d flag", lambda z, on: nn.AvgPool3d(2, ceil_mode=1),
             TypeError, "AvgPool3d: ceil_mode must be True or False, got 1"),
    BadInput("LPPool1d norm", lambda z, on: nn.LPPool1d(0, 2),
             ValueError, "LPPool1d: norm_type must be a number other than zero, got 0"),
    BadInput("LPPool2d stride", lambda z, on: nn.LPPool2d(2, 2, 0),
             ValueError, "LPPool2d: stride must be at least 1, got 0"),
    BadInput("LPPool3d rank", lambda z, on: on(nn.LPPool3d(2, 2))(z(8, 8)),
             ShapeError, "lp_pool3d: input must be (N, C, D, H, W) or (C, D, H, W), got shape (8, 8)"),
    BadInput("AdaptiveMaxPool1d None", lambda z, on: nn.AdaptiveMaxPool1d(None),
             TypeError, "AdaptiveMaxPool1d: output_size must be an integer, got None"),
    BadInput("AdaptiveMaxPool2d three", lambda z, on: nn.AdaptiveMaxPool2d((1, 1, 1)),
             ValueError, "AdaptiveMaxPool2d: output_size must be an integer or a pair (height, width), got (1, 1, 1)"),
    BadInput("AdaptiveMaxPool3d flag", lambda z, on: nn.AdaptiveMaxPool3d(1, 1),
             TypeError, "AdaptiveMaxPool3d: return_indices must be True or False, got 1"),
    BadInput("AdaptiveAvgPool1d zero", lambda z, on: nn.AdaptiveAvgPool1d(0),
             ValueError, "AdaptiveAvgPool1d: output_size must be at least 1, got 0"),
    BadInput("AdaptiveAvgPool2d rank", lambda z, on: on(nn.AdaptiveAvgPool2d(1))(z(8, 8)),
             ShapeError, "adaptive_avg_pool2d: input must be (N, C, H, W) or (C, H, W), got shape (8, 8)"),
    BadInput("AdaptiveAvgPool3d pair", lambda z, on: nn.AdaptiveAvgPool3d((1, 1)),
             ValueError,
             "AdaptiveAvgPool3d: output_size must be an integer or three (depth, height, width), got (1, 1)"),
]
# fmt: on


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", [*POOLING, *LAYERS], ids=repr)
def test_bad_input(entry: BadInput, device: str) -> None:
    entry.check(device)


@pytest.mark.parametrize("place", [-1, 16])
def test_unpooling_refuses_places_outside(place: int) -> None:
    """Of values, not of shapes: seen where the data is."""
    with pytest.raises(IndexError, match=r"index: .*; max_unpool2d: indices must lie in 0\.\.15"):
        F.max_unpool2d(gn.ones(1, 1, 2, 2), gn.full((1, 1, 2, 2), place, dtype=gn.int64), 2)
