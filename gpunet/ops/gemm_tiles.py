"""Which tile a product of matrices is cut into on a GPU, and into how many stretches its sum: pure functions of sizes.

The tiles are those of ``cuda_kernels/gemm_tile.cuh``. Large ones read less memory for each multiply-add, small ones
leave fewer multiprocessors idle.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

__all__ = ["Tile", "choose_short_splits", "choose_splits", "choose_tile"]


class Tile(NamedTuple):
    """A kernel's tile.

    Attributes:
        name: as in the kernel's name, before the dtype.
        rows, columns: of the output.
        depth: values of k that are multiplied between two barriers.
        threads: of a block.
    """

    name: str
    rows: int
    columns: int
    depth: int
    threads: int

    def blocks(self, rows: int, columns: int) -> tuple[int, int]:
        """Tiles down and across an output."""
        return -(-rows // self.rows), -(-columns // self.columns)


# In order of preference: from the largest to the smallest.
_VECTOR_TILES: Final = (
    Tile("128x128", 128, 128, 8, 256),
    Tile("128x64", 128, 64, 16, 256),
    Tile("64x64", 64, 64, 16, 256),
)
_NARROW_TILE: Final = Tile("128x32", 128, 32, 16, 128)
_ANY_TILE: Final = Tile("64x64_any", 64, 64, 16, 256)
_ANY_NARROW_TILE: Final = Tile("128x32_any", 128, 32, 8, 128)
_FLOAT64_TILE: Final = Tile("64x64_any", 64, 64, 8, 256)

# Two blocks on each of 128 multiprocessors. It is a constant, not the number of the GPU at hand, so that the bits do
# not depend on it.
_MANY_BLOCKS: Final = 256
# A stretch shorter than this is not worth its partial sums.
_SLABS_A_SPLIT: Final = 16
# The same where the partial sums stay in the cache and nothing else runs meanwhile: a step of a recurrent layer.
_SLABS_A_SHORT_SPLIT: Final = 4


def choose_tile(rows: int, columns: int, batch: int, dtype: Any, vectors: bool, fill: bool = True) -> Tile:
    """The tile for an output of such a size.

    Args:
        rows, columns: of the output.
        batch: how many outputs there are.
        dtype: float32 or float64.
        vectors: whether everything is aligned to sixteen bytes.
        fill: take a smaller tile where there would be too few blocks; not needed where the sum is split anyway.
    """
    if dtype == np.float64:
        return _FLOAT64_TILE
    if columns <= _NARROW_TILE.columns:
        return _NARROW_TILE if vectors else _ANY_NARROW_TILE
    if not vectors:
        return _ANY_TILE
    for tile in _VECTOR_TILES:
        down, across = tile.blocks(rows, columns)
        # A tile may be half empty only where no smaller one fits better.
        fits = columns > tile.columns // 2 and rows > tile.rows // 2
        if fits and (not fill or down * across * batch >= _MANY_BLOCKS):
            return tile
    return _VECTOR_TILES[-1]


def choose_splits(tile: Tile, rows: int, columns: int, batch: int, depth: int) -> int:
    """Into how many stretches to cut the sum over ``depth``, so that there are blocks enough."""
    down, across = tile.blocks(rows, columns)
    blocks = down * across * batch
    if blocks >= _MANY_BLOCKS:
        return 1
    slabs = -(-depth // tile.depth)
    return max(1, min(2 * _MANY_BLOCKS // blocks, slabs // _SLABS_A_SPLIT))


def choose_short_splits(tile: Tile, rows: int, columns: int, depth: int) -> int:
    """The same for a small product that others wait for: what counts is when it is done, not what it reads."""
    down, across = tile.blocks(rows, columns)
    slabs = -(-depth // tile.depth)
    # Large tiles are fewer on a multiprocessor at a time.
    most = _MANY_BLOCKS * 64 * 64 // max(tile.rows * tile.columns, 64 * 64)
    return max(1, min(most // (down * across), slabs // _SLABS_A_SHORT_SPLIT))
