"""Matrix products: the one place where the CPU paths meet BLAS.

A product large enough is cut into row blocks for our threads, BLAS holding still at one thread each; how it is cut
depends on the shape alone. Half types are carried in float32.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from gpunet.backend.memory import empty
from gpunet.backend.precision import float32_products_of
from gpunet.backend.threads import get_num_threads, parallel_for, single_threaded_blas
from gpunet.ops.dtypes import compute_dtype

__all__ = ["matrix_product"]

# Below this many multiply-adds OpenBLAS stays on one thread by itself; above, it has to be told to.
_BLAS_THREADS_FROM = 1 << 18
# From here on a second thread gains more than the hand-over costs.
_PARALLEL_FROM = 1 << 23
_BLOCKS = 8


def matrix_product(a: Any, b: Any, out: Any = None, operation: Literal["matmul", "convolution"] = "matmul") -> Any:
    """``a @ b`` for matrices (M, K) and (K, N), or stacks of them.

    On a GPU it is cuBLAS's. CuPy lets it round float32 to TF32 in a product of two matrices alone, where that is
    allowed; stacks are exact.

    Args:
        a: (..., M, K).
        b: (..., K, N).
        out: where to write; (..., M, N) of the same dtype.
        operation: whose precision counts on a GPU.
    """
    dtype = a.dtype
    carry = compute_dtype(dtype)
    if carry != dtype:
        product = matrix_product(a.astype(carry), b.astype(carry), operation=operation).astype(dtype)
        if out is None:
            return product
        out[...] = product
        return out
    if not isinstance(a, np.ndarray):
        with float32_products_of(operation):
            product = a @ b
        if out is None:
            return product
        out[...] = product
        return out
    if a.ndim != 2 or b.ndim != 2:
        with single_threaded_blas():
            return np.matmul(a, b, out=out)
    rows, inner = a.shape
    columns = b.shape[1]
    macs = rows * inner * columns
    if macs < _BLAS_THREADS_FROM:
        return np.matmul(a, b, out=out)
    if out is None:
        out = empty((rows, columns), dtype)
    if macs < _PARALLEL_FROM or get_num_threads() == 1:
        with single_threaded_blas():
            return np.matmul(a, b, out=out)
    if rows >= columns:
        step = -(-rows // _BLOCKS)
        cuts = [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
        parallel_for(len(cuts), lambda i: np.matmul(a[cuts[i]], b, out=out[cuts[i]]))
    else:
        step = -(-columns // _BLOCKS)
        cuts = [slice(start, min(start + step, columns)) for start in range(0, columns, step)]
        parallel_for(len(cuts), lambda i: np.matmul(a, b[:, cuts[i]], out=out[:, cuts[i]]))
    return out
