"""Operations: arrays in, arrays out. One file for each family, its contract, reference and implementations together."""

from __future__ import annotations

from gpunet.ops import (
    batch_norm,
    conv2d,
    dropout,
    elementwise,
    gather,
    hook_point,
    indexing,
    layer_norm,
    linear,
    losses,
    pool2d,
    rearrange,
    reduce,
    shape,
    softmax,
)
from gpunet.ops.base import REGISTRY, Context, Inferred, Op, Sample, Spec, register, use_path

__all__ = [
    "REGISTRY",
    "Context",
    "Inferred",
    "Op",
    "Sample",
    "Spec",
    "batch_norm",
    "conv2d",
    "dropout",
    "elementwise",
    "gather",
    "hook_point",
    "indexing",
    "layer_norm",
    "linear",
    "losses",
    "pool2d",
    "rearrange",
    "reduce",
    "register",
    "shape",
    "softmax",
    "use_path",
]
