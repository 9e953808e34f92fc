"""Questions about dtypes: limits, promotion, what fits into what."""

from __future__ import annotations

import importlib
from typing import Any, Final

import numpy as np

from gpunet.ops import dtypes
from gpunet.ops.dtypes import BOOL, DType, canonical_dtype, get_default_dtype, is_floating

__all__ = ["TYPED", "can_cast", "finfo", "iinfo", "promote_types", "result_type"]


# PyTorch's old names of tensor types: constructors, and what ``x.type("torch.LongTensor")`` names.
TYPED: Final = {
    "FloatTensor": "float32",
    "DoubleTensor": "float64",
    "HalfTensor": "float16",
    "BFloat16Tensor": "bfloat16",
    "LongTensor": "int64",
    "IntTensor": "int32",
    "ShortTensor": "int16",
    "CharTensor": "int8",
    "ByteTensor": "uint8",
    "BoolTensor": "bool",
}


class finfo:
    """The limits of a floating dtype, as Python floats.

    Args:
        dtype: the default dtype if left out.

    Attributes:
        bits: bits of one number.
        eps: the distance from 1 to the next larger number.
        max: the largest number.
        min: the smallest number: -max.
        tiny: the smallest positive number of full precision; ``smallest_normal`` is the same.
        resolution: 10 to the power of minus the decimal digits it holds.
        dtype: the dtype's name.

    Raises:
        TypeError: not a floating dtype.
    """

    def __init__(self, dtype: Any = None) -> None:
        kind = get_default_dtype() if dtype is None else canonical_dtype(dtype)
        if not is_floating(kind):
            raise TypeError(f"finfo: dtype must be floating point, got {kind.name}; use iinfo")
        info: Any = np.finfo(kind) if kind.kind == "f" else importlib.import_module("ml_dtypes").finfo(kind)
        self.bits = kind.itemsize * 8
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        # NumPy rounds the resolution to the type; PyTorch gives the decimal number.
        self.resolution = float(f"1e-{info.precision}")
        self.dtype = kind.name

    def __repr__(self) -> str:
        numbers = (
            f"{name}={getattr(self, name):g}" for name in ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        )
        return f"finfo({', '.join(numbers)}, dtype={self.dtype})"


class iinfo:
    """The limits of an integer dtype: ``bits``, ``min``, ``max`` and ``dtype``, its name.

    Raises:
        TypeError: not an integer dtype.
    """

    def __init__(self, dtype: Any) -> None:
        kind = canonical_dtype(dtype)
        if kind.kind not in "iu":
            raise TypeError(f"iinfo: dtype must be an integer type, got {kind.name}; use finfo")
        info = np.iinfo(kind)
        self.bits, self.min, self.max, self.dtype = info.bits, int(info.min), int(info.max), kind.name

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


def promote_types(type1: Any, type2: Any) -> DType:
    """The smallest dtype that holds both, as arithmetic between two such tensors gives."""
    return dtypes.promote_types(canonical_dtype(type1), canonical_dtype(type2))


def result_type(tensor1: Any, tensor2: Any) -> DType:
    """The dtype of arithmetic between two tensors or numbers."""
    return dtypes.result_type(tensor1, tensor2)


def can_cast(from_: Any, to: Any) -> bool:
    """Whether one dtype's results may be stored in another, as in-place arithmetic asks: not floats in integers."""
    source, target = canonical_dtype(from_), canonical_dtype(to)
    if is_floating(source):
        return is_floating(target)
    return target != BOOL or source == BOOL
