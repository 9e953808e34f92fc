"""How exactly float32 numbers are multiplied on a GPU: as they are, or rounded to TF32 for its tensor cores.

TF32 keeps 10 of the 23 bits behind the point of each factor, about three decimal digits; the sums stay float32. It is
off unless a program asks for it, for matrix products and convolutions alike. CPUs and float64 are always exact.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, Literal

import numpy as np

from gpunet.backend import devices

__all__ = [
    "float32_convolution_precision",
    "float32_matmul_precision",
    "float32_products_of",
    "get_float32_matmul_precision",
    "set_float32_matmul_precision",
    "set_tf32",
]

_NAMES = ("highest", "high", "medium")
_TF32_SINCE = 80  # compute capability 8.0

# What was asked for: for matrix products and for convolutions, which PyTorch switches apart.
_chosen: dict[str, str] = {"matmul": "highest", "convolution": "highest"}

# CuPy has one setting for the process, which is kept at that of matrix products; held while it is another, and changed.
_telling = threading.RLock()
_NOTHING: Final = nullcontext()


def set_float32_matmul_precision(precision: str) -> None:
    """Say how exactly float32 matrix products and convolutions are computed on a GPU.

    PyTorch's has no say over convolutions, which use TF32 there by default; here it rules both.

    Args:
        precision: ``"highest"``, the default: exact float32. ``"high"``: TF32 is allowed, on GPUs that have it
            (compute capability 8.0); where no kernel uses it the result stays exact. ``"medium"``: as ``"high"``;
            PyTorch would allow bfloat16.

    Raises:
        ValueError: another name, of which PyTorch only warns.
    """
    if precision not in _NAMES:
        raise ValueError(f"precision: expected 'highest', 'high' or 'medium', got {precision!r}")
    _chosen["convolution"] = precision
    _choose_for_matmul(precision)


def get_float32_matmul_precision() -> str:
    """What ``set_float32_matmul_precision`` was given: ``"highest"``, ``"high"`` or ``"medium"``."""
    return _chosen["matmul"]


def set_tf32(operation: Literal["matmul", "convolution"], allowed: bool) -> None:
    """Allow or forbid TF32 for one of the two kinds of operations."""
    precision = "high" if allowed else "highest"
    if operation == "matmul":
        _choose_for_matmul(precision)
    else:
        _chosen[operation] = precision


def float32_matmul_precision() -> Literal["highest", "high"]:
    """What matrix products may do: ``"high"`` allows TF32."""
    return "highest" if _chosen["matmul"] == "highest" else "high"


def float32_convolution_precision() -> Literal["highest", "high"]:
    """What convolutions may do: ``"high"`` allows TF32."""
    return "highest" if _chosen["convolution"] == "highest" else "high"


def float32_products_of(operation: Literal["matmul", "convolution"]) -> AbstractContextManager[None]:
    """A block whose products of CuPy arrays are as exact as was chosen for this kind of operation.

    Where the two kinds differ, one thread at a time is inside of such blocks: it is not for long, as products on a GPU
    are only queued there.
    """
    if float32_matmul_precision() == float32_convolution_precision():
        return _NOTHING
    return _alone(operation)


@contextmanager
def _alone(operation: Literal["matmul", "convolution"]) -> Iterator[None]:
    with _telling:
        if operation == "matmul":
            yield
            return
        module = devices.cupy()
        _tell_cupy(module, float32_convolution_precision())
        try:
            yield
        finally:
            _tell_cupy(module)


def _choose_for_matmul(precision: str) -> None:
    with _telling:
        _chosen["matmul"] = precision
        if devices.is_cuda_in_use():
            _tell_cupy(devices.cupy())


def _tell_cupy(module: Any, precision: str | None = None) -> None:
    """Set how CuPy calls cuBLAS; None is as for matrix products. What was chosen here counts, not CUPY_TF32."""
    routines = module._core._routines_linalg
    kind = routines.COMPUTE_TYPE_DEFAULT
    wanted = float32_matmul_precision() if precision is None else precision
    if wanted == "high" and int(module.cuda.Device().compute_capability) >= _TF32_SINCE:
        kind = routines.COMPUTE_TYPE_TF32
    module._core.set_compute_type(np.float32, kind)


devices.when_cupy_loads(_tell_cupy)
