"""Products of a few rows with the weights of a recurrent layer, as fast as BLAS can make them.

A step of a recurrence multiplies few rows (a batch) by a large matrix that is the same at every step. OpenBLAS copies
both factors of a product into an order of its own ("packing"), which here takes as long as the multiplying. It has
kernels that do without for small products, of up to a million multiply-adds. So the weights are cut into panels of 64
or 32 columns, each contiguous, and one call of ``np.matmul`` on the stack of panels makes a small product of each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gpunet.backend.memory import empty

__all__ = ["Panels", "add_parts", "cut", "fill", "multiply", "multiply_stack", "panels_of", "product_into"]

_SMALL = 1_000_000  # multiply-adds up to which OpenBLAS multiplies without packing
_WIDTHS = (64, 32)  # columns of a panel: four or two vectors of 16 floats; other widths leave a slow remainder
_MOST_ROWS = 64


class Panels(NamedTuple):
    """G matrices (K, N), cut into panels of columns.

    Attributes:
        main: (G, P, K, width), or None where a panel would be too large for the small kernels.
        rest: (G, K, R), the columns that fill no panel, or None.
        rows: how many rows to multiply at a time.
    """

    main: Any
    rest: Any
    rows: int

    @property
    def depth(self) -> int:
        """K."""
        return int((self.rest if self.main is None else self.main).shape[-2])

    @property
    def columns(self) -> int:
        """How many columns are in panels."""
        return 0 if self.main is None else self.main.shape[1] * self.main.shape[3]


def _width(depth: int, rows: int | None) -> tuple[int, int]:
    """Columns of a panel of K rows, 0 for none, and how many rows to multiply by it at a time.

    Args:
        depth: K.
        rows: how many rows there are; None if they can be cut at will.
    """
    for width in _WIDTHS:
        most = _SMALL // (width * max(depth, 1))
        if rows is not None and rows <= most:
            return width, rows
        if rows is None and most >= 16:
            return width, min(_MOST_ROWS, most // 8 * 8)
    return 0, 1 << 62 if rows is None else rows


def panels_of(count: int, depth: int, columns: int, rows: int | None, dtype: Any, transposed: bool = False) -> Panels:
    """Uninitialised panels for ``count`` matrices (K, N).

    Args:
        count: G.
        depth: K.
        columns: N.
        rows: how many rows will be multiplied at a time; None if they can be cut at will.
        dtype: of the panels.
        transposed: no panels, but matrices whose columns are contiguous: for weights that are used so few times that
            to change their order takes longer.
    """
    if transposed:
        return Panels(None, empty((count, columns, depth), dtype).transpose(0, 2, 1), 1 << 62)
    width, at_once = _width(depth, rows)
    whole = columns // width if width else 0
    rest = columns - whole * width
    return Panels(
        empty((count, whole, depth, width), dtype) if whole else None,
        empty((count, depth, rest), dtype) if rest else None,
        at_once,
    )


def cut(matrices: Any) -> Panels:
    """Panels of matrices (G, K, N) that are views of them."""
    count, depth, columns = matrices.shape
    width, at_once = _width(depth, None)
    whole = columns // width if width else 0
    edge = whole * width
    main = matrices[:, :, :edge].reshape(count, depth, whole, width).transpose(0, 2, 1, 3) if whole else None
    return Panels(main, matrices[:, :, edge:] if edge < columns else None, at_once)


def fill(panels: Panels, index: int, matrix: Any, factor: float = 1.0, last: Any = None) -> None:
    """Write a matrix (K, N), of any strides and floating type, times a factor, to one place of the panels.

    Args:
        panels: where to.
        index: which of the G matrices.
        matrix: (K, N), or one row less if there is a last one.
        factor: that all is multiplied by.
        last: the last row (N,).
    """
    columns = panels.columns
    depth = len(matrix)
    if panels.main is not None:
        main = panels.main[index]
        main[:, :depth] = matrix[:, :columns].reshape(depth, len(main), -1).transpose(1, 0, 2)
        if last is not None:
            main[:, depth] = last[:columns].reshape(len(main), -1)
        if factor != 1.0:
            main *= factor
    if panels.rest is not None:
        rest = panels.rest[index]
        rest[:depth] = matrix[:, columns:]
        if last is not None:
            rest[depth] = last[columns:]
        if factor != 1.0:
            rest *= factor


def product_into(panels: Panels, out: Any, separate: bool) -> Callable[[Any], None]:
    """A function of rows a that writes their products with all G matrices to ``out`` (G, M, N).

    Args:
        panels: of the matrices.
        out: where to write.
        separate: whether a is (G, M, K), else (M, K) for all matrices.
    """
    main, rest, columns = panels.main, panels.rest, panels.columns
    matmul = np.matmul
    if main is None:
        return lambda a: matmul(a, rest, out=out)
    count, rows, _ = out.shape
    tiled = out[..., :columns].reshape(count, rows, main.shape[1], main.shape[3]).transpose(0, 2, 1, 3)
    remainder = None if rest is None else out[..., columns:]

    def product(a: Any) -> None:
        matmul(a[:, None] if separate else a, main, out=tiled)
        if remainder is not None:
            matmul(a, rest, out=remainder)

    return product


def multiply_stack(a: Any, panels: Panels, out: Any) -> None:
    """Write the products of stacked rows a (S, M, K) with all G matrices to ``out`` (G, S, M, N)."""
    main, rest, columns = panels.main, panels.rest, panels.columns
    if main is not None:
        tiled = out[..., :columns].reshape(*out.shape[:3], main.shape[1], main.shape[3]).transpose(0, 3, 1, 2, 4)
        np.matmul(a, main[:, :, None], out=tiled)
        if rest is not None:
            np.matmul(a, rest[:, None], out=out[..., columns:])
    else:  # all rows at once: what BLAS packs is packed once
        rows = a.reshape(-1, a.shape[2])
        out[...] = np.matmul(rows, rest).reshape(out.shape)


def multiply(a: Any, panels: Panels, out: Any) -> None:
    """Write the products of any number of rows to ``out`` (G, M, N); a is (M, K) or (G, M, K)."""
    main, rest, columns = panels.main, panels.rest, panels.columns
    rows, depth = a.shape[-2:]
    whole = rows - rows % panels.rows
    for start, stop in ((0, whole), (whole, rows)):
        if start == stop:
            continue
        size = panels.rows if start == 0 and whole else stop - start
        groups = (stop - start) // size
        part = a[..., start:stop, :].reshape(*a.shape[:-2], groups, size, depth)
        target = out[:, start:stop].reshape(len(out), groups, size, out.shape[2])
        if main is not None:
            shape = (*target.shape[:3], main.shape[1], main.shape[3])
            tiled = target[..., :columns].reshape(shape).transpose(0, 3, 1, 2, 4)
            np.matmul(part[:, None] if a.ndim == 3 else part, main[:, :, None], out=tiled)
        if rest is not None:
            np.matmul(part, rest[:, None], out=target[..., columns:])


def add_parts(parts: Any, out: Any) -> None:
    """Write the sum of up to four arrays (G, ...) to ``out``; the parts are used up."""
    count = len(parts)
    if count == 1:
        np.copyto(out, parts[0])
        return
    if count == 4:
        np.add(parts[:2], parts[2:], parts[:2])
    elif count == 3:
        np.add(parts[0], parts[2], parts[0])
    np.add(parts[0], parts[1], out)
