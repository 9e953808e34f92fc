"""Sums over all but the channel dimension, and the shapes that make them fast.

Rows of an NHWC array hold C numbers; NumPy loops once for each row, and for a small C the loops cost more than the
sums. Reading m rows as one of m·C numbers removes that cost: column j of the wide rows belongs to channel j mod C.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.backend.errors import DTypeError
from gpunet.backend.threads import parallel_for
from gpunet.ops.dtypes import compute_dtype

__all__ = [
    "as_samples",
    "channel_rows",
    "channel_sums",
    "fold_wide",
    "from_samples",
    "planes_first",
    "require_parameter_dtype",
    "run_blocks",
    "widen",
]

_WIDE = 1024
_PARALLEL_FROM = 1 << 17


def run_blocks(count: int, size: int, body: Callable[[int], None]) -> None:
    """``body`` of each block; on several threads where the blocks hold enough elements together."""
    if size >= _PARALLEL_FROM and count > 1:
        parallel_for(count, body)
    else:
        for index in range(count):
            body(index)


def widen(rows: int, channels: int) -> int:
    """How many rows to read as one: a divisor of their number that makes about a thousand columns."""
    factor = 1
    while factor * 2 * channels <= _WIDE and rows % (factor * 2) == 0:
        factor *= 2
    return factor


def fold_wide(sums: Any, channels: int) -> Any:
    """Sums over wide columns, as sums over channels: (..., m·C) -> (..., C)."""
    return sums.reshape(*sums.shape[:-1], -1, channels).sum(axis=-2)


def channel_rows(x: Any) -> Any:
    """(N, C, ...) as rows of channels (N·..., C): a view where the channels are contiguous, else a copy."""
    if x.ndim == 2:
        return x
    order = (0, *range(2, x.ndim), 1)
    return x.transpose(order).reshape(-1, x.shape[1])


def channel_sums(x: Any) -> Any:
    """Sum of x (N, C, ...) over all but dimension 1, blocks of rows first so that float32 keeps its digits."""
    rows = channel_rows(x)
    count, channels = rows.shape
    carry = compute_dtype(rows.dtype)
    if not isinstance(rows, np.ndarray) or count * channels < 4096:
        return rows.sum(axis=0, dtype=carry)
    factor = widen(count, channels)
    wide = rows.reshape(count // factor, factor * channels)
    blocks = [wide[start : start + 64].sum(axis=0, dtype=carry) for start in range(0, len(wide), 64)]
    return fold_wide(np.stack(blocks).sum(axis=0, dtype=np.float64), channels).astype(carry)


def require_parameter_dtype(op: str, name: str, value: Any, x: Any) -> None:
    """Raise unless a parameter is missing, or of x's dtype or the one its sums are carried in.

    Raises:
        DTypeError: naming the parameter.
    """
    carry = compute_dtype(x.dtype)
    if value is not None and value.dtype not in (x.dtype, carry):
        either = "" if carry == x.dtype else f" or {carry.name}"
        raise DTypeError(f"{op}: {name} must be {x.dtype.name}{either}, as the input, got {value.dtype.name}")


def planes_first(x: Any) -> bool:
    """Whether each channel's elements lie together: row-major memory, and not the natural NHWC."""
    return x.ndim > 2 and bool(x.flags.c_contiguous) and math.prod(x.shape[2:]) > 1


def as_samples(module: Any, x: Any, planes: bool, carry: Any) -> Any:
    """(N, C, L) for planes, (N, L, C) for channels last; a copy only where the memory is neither."""
    n, c = x.shape[:2]
    if planes:
        return module.ascontiguousarray(x.reshape(n, c, -1)).astype(carry, copy=False)
    moved = x.transpose(0, *range(2, x.ndim), 1)
    return module.ascontiguousarray(moved).reshape(n, -1, c).astype(carry, copy=False)


def from_samples(y: Any, x: Any, planes: bool) -> Any:
    """Back to x's shape and dtype."""
    if not planes:
        y = y.reshape(x.shape[0], *x.shape[2:], x.shape[1]).transpose(0, x.ndim - 1, *range(1, x.ndim - 1))
    return y.reshape(x.shape).astype(x.dtype, copy=False)
