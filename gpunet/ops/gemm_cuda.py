"""Products of matrices and sums of columns by the CUDA kernels, for dense layers and 1x1 convolutions.

``cuda_kernels/gemm.cu`` and ``column_sums.cu`` have the equations. Which kernel runs follows from sizes, strides, dtype
and alignment alone. All functions take float32 and float64.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from gpunet.backend.devices import array_module
from gpunet.backend.kernels import blocks_for, get_kernel, is_aligned, launch
from gpunet.backend.memory import empty, spanning
from gpunet.ops.gemm_tiles import Tile, choose_short_splits, choose_splits, choose_tile

__all__ = [
    "Gemm",
    "PartialGemm",
    "column_sums_cuda",
    "launch_gemm",
    "launch_sum_partials",
    "matrix_product_cuda",
    "plan_partials",
    "supports",
]

_MOST_BLOCKS: Final = 65535  # of a grid's second and third dimension
_MOST_ROWS: Final = 2**31 - 2**10
_THREADS: Final = 256


class Gemm(NamedTuple):
    """``GEMM_SIZES`` of ``cuda_kernels/gemm.cu``, in its order, but for the last two; it says what they mean."""

    batch: int
    rows: int
    columns: int
    depth: int
    left_batch: int
    left_pitch: int
    right_batch: int
    right_pitch: int
    output_batch: int
    output_pitch: int


def _has_vectors(layout: str, sizes: Gemm, *arrays: Any) -> bool:
    """Whether sixteen bytes can be moved at once: whatever is contiguous must be whole multiples of four."""
    contiguous = {"nn": (sizes.depth,), "nt": (sizes.depth,), "tn": (sizes.rows,)}[layout]
    extents = (*contiguous, sizes.columns, *sizes[4:])
    return not any(extent % 4 for extent in extents) and is_aligned(16, *arrays)


def launch_gemm(
    layout: str,
    sizes: Gemm,
    output: Any,
    left: Any,
    right: Any,
    bias: Any = None,
    residual: Any = None,
    relu: bool = False,
    naive: bool = False,
) -> None:
    """Write relu(left @ right + bias + residual) into ``output``.

    Args:
        layout: ``"nn"``, ``"nt"`` (right is stored transposed) or ``"tn"`` (left is).
        sizes: what the arrays hold.
        output, left, right, bias, residual: one-dimensional and contiguous; the last two may be None.
        relu: whether negative values become 0.
        naive: take the kernel that has one output a thread.
    """
    if min(sizes.batch, sizes.rows, sizes.columns) == 0:
        return
    name = output.dtype.name
    plain = (*sizes, 1, 0)
    if naive:
        kernel = get_kernel("gemm", f"gemm_naive_{name}")
        count = sizes.batch * sizes.rows * sizes.columns
        transposed = layout[0] == "t", layout[1] == "t"
        args = (output, left, right, bias, residual, relu, *plain, *transposed)
        launch(kernel, blocks_for(count, _THREADS), _THREADS, args)
        return
    vectors = output.dtype == np.float32 and _has_vectors(layout, sizes, output, left, right, residual)
    # Where the sum is long enough to be split, a large tile costs no parallelism.
    long = sizes.depth >= 4 * max(sizes.rows, sizes.columns)
    tile = choose_tile(sizes.rows, sizes.columns, sizes.batch, output.dtype, vectors, fill=not long)
    splits = choose_splits(tile, sizes.rows, sizes.columns, sizes.batch, sizes.depth)
    down, across = tile.blocks(sizes.rows, sizes.columns)
    kernel = get_kernel("gemm", f"gemm_{layout}_{tile.name}_{name}")
    grid = (down, across, sizes.batch * splits)
    if splits == 1:
        launch(kernel, grid, tile.threads, (output, left, right, bias, residual, relu, *plain))
        return
    one = sizes.rows * sizes.columns
    partials = empty((splits * sizes.batch * one,), output.dtype, array_module(output))
    inner = sizes._replace(output_batch=one, output_pitch=sizes.columns)
    rest = (*inner, splits, sizes.batch * one)
    launch(kernel, grid, tile.threads, (partials, left, right, None, None, False, *rest))
    launch_sum_partials(sizes, splits, output, partials, bias, residual, relu)


def launch_sum_partials(
    sizes: Gemm, splits: int, output: Any, partials: Any, bias: Any = None, residual: Any = None, relu: bool = False
) -> None:
    """Write relu(sum of ``splits`` outputs + bias + residual) into ``output``.

    Args:
        sizes: of the output; the rest is not looked at.
        splits: how many there are.
        output: one-dimensional and contiguous, like all arrays here.
        partials: (splits * batch * rows * columns,).
        bias: (batch * columns,), or None.
        residual: laid out as the output, or None.
        relu: whether negative values become 0.
    """
    kernel = get_kernel("gemm", f"gemm_sum_partials_{output.dtype.name}")
    count = sizes.batch * sizes.rows * sizes.columns
    args = (output, partials, bias, residual, relu, *sizes, splits, count)
    launch(kernel, blocks_for(count, _THREADS), _THREADS, args)


class PartialGemm(NamedTuple):
    """A product that is left as partial sums, for a kernel that adds them as it reads them.

    Attributes:
        layout: as for ``launch_gemm``.
        sizes: of the product with the most rows.
        tile: what a block computes.
        splits: how many partial sums there are.
    """

    layout: str
    sizes: Gemm
    tile: Tile
    splits: int

    @property
    def stride(self) -> int:
        """Elements from one partial sum to the next."""
        return self.sizes.rows * self.sizes.columns

    def launch(self, rows: int, partials: Any, left: Any, right: Any) -> None:
        """Write the partial sums of the first ``rows`` rows.

        Args:
            rows: at most those of the plan, at least 1.
            partials: at least ``splits * stride`` elements, contiguous and new.
            left, right: contiguous, and as well aligned as those that the plan was made for.
        """
        kernel = get_kernel("gemm", f"gemm_{self.layout}_{self.tile.name}_{partials.dtype.name}")
        down, across = self.tile.blocks(rows, self.sizes.columns)
        sizes = self.sizes._replace(rows=rows)
        args = (partials, left, right, None, None, False, *sizes, self.splits, self.stride)
        launch(kernel, (down, across, self.splits), self.tile.threads, args)


def plan_partials(layout: str, sizes: Gemm, left: Any, right: Any) -> PartialGemm:
    """How to compute a product of one batch that is one of a long sequence, each waiting for the one before.

    Args:
        layout: as for ``launch_gemm``.
        sizes: of the product with the most rows; those with fewer are cut in the same way.
        left, right: arrays as they will be multiplied.
    """
    vectors = left.dtype == np.float32 and _has_vectors(layout, sizes, left, right)
    tile = choose_tile(sizes.rows, sizes.columns, 1, left.dtype, vectors)
    splits = choose_short_splits(tile, sizes.rows, sizes.columns, sizes.depth)
    return PartialGemm(layout, sizes._replace(output_pitch=sizes.columns), tile, splits)


def supports(rows: int, columns: int, depth: int, dtype: Any) -> tuple[str, str]:
    """Whether the kernels take a product of such a size, ``"cuda"`` or ``"array"``, and which of them, or why not."""
    if dtype not in (np.float32, np.float64):
        return "array", f"the kernel is not built for {dtype.name}"
    if max(rows, depth) > _MOST_ROWS or columns > _MOST_BLOCKS * 32:
        return "array", "more rows or columns than the kernel can count"
    tile = choose_tile(rows, columns, 1, dtype, not (rows % 4 or columns % 4 or depth % 4))
    return "cuda", f"tiled product, tile {tile.name}"


def _stored(matrix: Any) -> tuple[Any, bool, int]:
    """A matrix as its kernels read it: flat, whether it is stored transposed, and the pitch of what it has as rows.

    A matrix that is contiguous along neither dimension is copied.
    """
    rows, columns = matrix.shape
    size = matrix.dtype.itemsize
    down, across = matrix.strides
    if (across == size or columns == 1) and (down >= 0 or rows == 1) and down % size == 0 and abs(down) < 2**31:
        return spanning(matrix), False, down // size if rows > 1 else columns
    if (down == size or rows == 1) and across >= 0 and across % size == 0 and across < 2**31:
        return spanning(matrix), True, across // size if columns > 1 else rows
    copy = array_module(matrix).ascontiguousarray(matrix)
    return copy.reshape(-1), False, columns


def matrix_product_cuda(
    a: Any, b: Any, bias: Any = None, residual: Any = None, activation: str | None = None, naive: bool = False
) -> Any:
    """activation(a @ b + bias + residual).

    Args:
        a: (M, K), any strides; copied only if contiguous along neither dimension.
        b: (K, N), likewise.
        bias: (N,), or None.
        residual: (M, N), or None.
        activation: ``"relu"`` or None.
        naive: take the kernel that has one output a thread.

    Returns:
        (M, N), C-contiguous.
    """
    module = array_module(a)
    (rows, depth), columns = a.shape, b.shape[1]
    output = empty((rows, columns), a.dtype, module)
    if output.size == 0:
        return output
    left, left_transposed, left_pitch = _stored(a)
    right, right_transposed, right_pitch = _stored(b)
    if left_transposed and right_transposed:
        left, left_transposed, left_pitch = module.ascontiguousarray(a).reshape(-1), False, depth
    layout = "nt"[left_transposed] + "nt"[right_transposed]
    sizes = Gemm(1, rows, columns, depth, 0, left_pitch, 0, right_pitch, 0, columns)
    added = None if residual is None else module.ascontiguousarray(residual).reshape(-1)
    shift = None if bias is None else module.ascontiguousarray(bias)
    if depth == 0:  # nothing to point at
        left = right = empty((0,), a.dtype, module)
    launch_gemm(layout, sizes, output.reshape(-1), left, right, shift, added, activation == "relu", naive)
    return output


def column_sums_cuda(matrix: Any, naive: bool = False) -> Any:
    """The sum of each column, in the matrix's dtype.

    Args:
        matrix: (M, N), of any strides; copied only if not contiguous along its rows.
        naive: take the kernel that has one output a thread.

    Returns:
        (N,).
    """
    module = array_module(matrix)
    rows, columns = matrix.shape
    if matrix.size == 0:
        return module.zeros((columns,), matrix.dtype)
    flat, transposed, pitch = _stored(matrix)
    if transposed:
        flat, pitch = module.ascontiguousarray(matrix).reshape(-1), columns
    name = matrix.dtype.name
    width = min(32, 1 << (columns - 1).bit_length())
    lanes = _THREADS // width
    across = -(-columns // width)
    splits = max(1, min(-(-512 // across), rows // (8 * lanes)))
    output = empty((columns,), matrix.dtype, module)
    target = output if splits == 1 else empty((splits * columns,), matrix.dtype, module)
    args = (target, flat, rows, columns, pitch, splits)
    if naive:
        launch(get_kernel("column_sums", f"column_sums_naive_{name}"), blocks_for(splits * columns, _THREADS), _THREADS,
               args)  # fmt: skip
    else:
        launch(get_kernel("column_sums", f"column_sums_{name}"), (across, splits), (width, lanes), args)
    if splits > 1:
        launch_sum_partials(Gemm(1, 1, columns, 0, 0, 0, 0, 0, 0, columns), splits, output, target)
    return output
