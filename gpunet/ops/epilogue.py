"""What may follow a convolution or a linear layer in one operation: y = activation(z + residual), z having its bias.

    activation None:   y = z + r                  dz = dr = dy
    activation relu:   y = max(z + r, 0)          dz = dr = dy where y > 0, else 0

The residual r has y's shape and dtype. At 0 the ReLU's gradient is 0; a NaN passes in both directions; both as
PyTorch's. Fused, the sum and the maximum cost no pass over memory of their own and no array but y is kept for backward.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.ops.base import module_of
from gpunet.ops.chunked import Layout, Work, map_chunks, select
from gpunet.ops.dtypes import BOOL, compute_dtype

__all__ = ["ACTIVATIONS", "add_epilogue", "check_epilogue", "masked_gradient", "reference_epilogue"]

ACTIVATIONS = (None, "relu")


def check_epilogue(op: str, shape: tuple[int, ...], residual: Any, activation: Any) -> None:
    """Refuse a residual that has not the output's ``shape``, and an activation that cannot be fused.

    Raises:
        ShapeError, ValueError: naming it.
    """
    if residual is not None and tuple(residual.shape) != shape:
        raise ShapeError(f"{op}: residual must have the output's shape {shape}, got {tuple(residual.shape)}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"{op}: activation must be None or 'relu', got {activation!r}")


def reference_epilogue(z: Any, residual: Any, activation: str | None) -> Any:
    """The equations of y."""
    z = z if residual is None else z + residual
    return np.maximum(z, 0) if activation == "relu" else z


def add_epilogue(y: Any, residual: Any, activation: str | None) -> None:
    """The equations of y, in place: ``y`` holds z and is the caller's to write."""
    if residual is not None:
        y += residual
    if activation == "relu":
        module_of(y).maximum(y, 0, out=y)


def masked_gradient(grad: Any, y: Any) -> Any:
    """dy where y > 0, else 0, in y's memory order."""

    def body(work: Work, dy: Any, kept: Any, out: Any) -> None:
        mask = work.module.less_equal(kept, 0, out=work("mask", BOOL))
        work.module.logical_not(mask, out=mask)  # so that the gradient of a NaN passes
        select(dy, mask, out, work)

    layout = Layout(tuple(y.shape), y, grad)
    (masked,) = map_chunks(layout, (grad, y), (grad.dtype,), body, compute_dtype(grad.dtype))
    return masked
