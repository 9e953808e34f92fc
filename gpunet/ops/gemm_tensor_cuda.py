"""Large products of matrices on tensor cores: ``cuda_kernels/gemm_tensor.cu``, which has the equations.

Two numbers of a half type are multiplied exactly, float32 ones after rounding to TF32; sums are float32. Which kernel
runs follows from layouts, sizes, dtypes and alignment alone.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from gpunet.backend.devices import array_module
from gpunet.backend.gpu_limits import gpu_limits
from gpunet.backend.kernels import blocks_for, get_kernel, is_aligned, launch
from gpunet.backend.memory import empty
from gpunet.ops.gemm_cuda import Gemm, launch_sum_partials
from gpunet.ops.gemm_tiles import Tile, choose_short_splits, choose_splits

__all__ = ["TensorPartials", "plan_tensor_partials", "tensor_product_cuda"]

_ARCHITECTURE: Final = 80
_THREADS: Final = 256
_EXTENT, _WORDS = 128, 16
# What a product must have for a tile of that size not to be mostly empty.
_FEWEST: Final = 64
_FEWEST_ROWS: Final = 16  # of a product whose time is that of reading its right operand
_MOST: Final = 2**31 - 2**10
_MOST_TILES: Final = 65535


def tensor_product_cuda(a: Any, b: Any, bias: Any = None, naive: bool = False, anyway: bool = False) -> Any:
    """a @ b + bias in float32, or None where no kernel takes it.

    Args:
        a: (M, K): float32, float16 or bfloat16; without gaps, in either order.
        b: (K, N), likewise, of the same dtype. Half types must be contiguous along K on both sides.
        bias: (N,) float32, or None.
        naive: take the kernel that has one output a thread.
        anyway: take products that are too small to be worth it as well.

    Returns:
        (M, N) float32, C-contiguous, or None.
    """
    (rows, depth), columns = a.shape, b.shape[1]
    if gpu_limits().architecture < _ARCHITECTURE and not naive:
        return None
    if not anyway and min(rows, columns, depth) < _FEWEST:
        return None
    left, right = _stored(a), _stored(b)
    if left is None or right is None or not rows * columns * depth:
        return None
    layout = "nt"[left[0]] + "nt"[right[0]]
    kind = "tf32" if a.dtype == np.float32 else a.dtype.name
    module = array_module(a)
    output = empty((rows, columns), np.float32, module)
    flat = output.reshape(-1)
    shift = None if bias is None else module.ascontiguousarray(bias)
    if naive:
        strides = [stride // a.itemsize for stride in (*a.strides, *b.strides)]
        args = (flat, *(_numbers(matrix) for _, matrix in (left, right)), shift, rows, columns, depth, *strides)
        launch(
            get_kernel("gemm_tensor", f"gemm_tensor_naive_{kind}"), blocks_for(output.size, _THREADS), _THREADS, args
        )
        return output
    if layout not in ("nt", "nn", "tn") or (kind != "tf32" and layout != "nt"):
        return None
    lanes = 16 // a.itemsize
    pitches = left[1].shape[1], right[1].shape[1]
    # What is contiguous in memory comes in whole vectors.
    if columns % 4 or any(extent % lanes for extent in pitches) or not is_aligned(16, left[1], right[1]):
        return None
    tile = _tile(a.itemsize)
    down, across = tile.blocks(rows, columns)
    if max(rows, depth) > _MOST or across > _MOST_TILES:
        return None
    splits = choose_splits(tile, rows, columns, 1, depth)
    target = flat if splits == 1 else empty((splits * output.size,), np.float32, module)
    extents = (rows, columns, depth, *pitches, splits, output.size)
    words = tuple(_words(matrix) for _, matrix in (left, right))
    kernel = get_kernel("gemm_tensor", f"gemm_tensor_{layout}_{kind}")
    launch(kernel, (down, across, splits), _THREADS, (target, *words, shift if splits == 1 else None, *extents))
    if splits > 1:
        launch_sum_partials(Gemm(1, rows, columns, 0, 0, 0, 0, 0, 0, columns), splits, flat, target, shift)
    return output


class TensorPartials(NamedTuple):
    """A product in TF32 that is left as partial sums: ``gemm_cuda.PartialGemm`` on tensor cores.

    Attributes:
        layout: ``"nt"`` or ``"nn"``.
        sizes: of the product with the most rows.
        splits: how many partial sums there are.
    """

    layout: str
    sizes: Gemm
    splits: int

    @property
    def stride(self) -> int:
        """Elements from one partial sum to the next."""
        return self.sizes.rows * self.sizes.columns

    def launch(self, rows: int, partials: Any, left: Any, right: Any) -> None:
        """As ``gemm_cuda.PartialGemm.launch``."""
        sizes = self.sizes
        extents = (rows, sizes.columns, sizes.depth, sizes.left_pitch, sizes.right_pitch, self.splits, self.stride)
        grid = (*_tile(4).blocks(rows, sizes.columns), self.splits)
        kernel = get_kernel("gemm_tensor", f"gemm_tensor_{self.layout}_tf32")
        launch(kernel, grid, _THREADS, (partials, left, right, None, *extents))


def plan_tensor_partials(layout: str, sizes: Gemm, left: Any, right: Any) -> TensorPartials | None:
    """How to compute one of a sequence of products that wait for each other in TF32, or None where it is not worth it.

    Args:
        layout: ``"nt"`` (right is stored transposed) or ``"nn"``.
        sizes: of the product with the most rows; those with fewer are cut in the same way.
        left, right: float32 arrays as they will be multiplied.
    """
    if gpu_limits().architecture < _ARCHITECTURE or left.dtype != np.float32:
        return None
    if sizes.rows < _FEWEST_ROWS or min(sizes.columns, sizes.depth) < _FEWEST:
        return None
    extents = (sizes.columns, sizes.depth, sizes.left_pitch, sizes.right_pitch)
    if any(extent % 4 for extent in extents) or not is_aligned(16, left, right):
        return None
    splits = choose_short_splits(_tile(4), sizes.rows, sizes.columns, sizes.depth)
    return TensorPartials(layout, sizes, splits)


def _tile(itemsize: int) -> Tile:
    return Tile("128x128", _EXTENT, _EXTENT, _WORDS * 4 // itemsize, _THREADS)


def _stored(matrix: Any) -> tuple[bool, Any] | None:
    """Whether a matrix is stored transposed, and what is stored; None where it has gaps."""
    if matrix.flags.c_contiguous:
        return False, matrix
    if matrix.T.flags.c_contiguous:
        return True, matrix.T
    return None


def _numbers(matrix: Any) -> Any:
    return matrix.view(np.uint16) if matrix.dtype.itemsize == 2 else matrix


def _words(matrix: Any) -> Any:
    return matrix.reshape(-1).view(np.uint32) if matrix.dtype.itemsize == 2 else matrix
