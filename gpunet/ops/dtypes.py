"""Data types and promotion: PyTorch's rules, not NumPy's (float32 with int64 stays float32)."""

from __future__ import annotations

import importlib
import math
from typing import Any, Final

import numpy as np

from gpunet.backend.errors import DTypeError

__all__ = [
    "DEFAULT_FLOAT",
    "bfloat16",
    "canonical_dtype",
    "cast_scalar",
    "compute_dtype",
    "get_default_dtype",
    "is_floating",
    "promote_types",
    "result_type",
    "set_default_dtype",
    "stored_scalar",
    "to_float",
]

DType = np.dtype[Any]

FLOAT16: Final = np.dtype(np.float16)
FLOAT32: Final = np.dtype(np.float32)
FLOAT64: Final = np.dtype(np.float64)
INT64: Final = np.dtype(np.int64)
UINT8: Final = np.dtype(np.uint8)
BOOL: Final = np.dtype(np.bool_)
DEFAULT_FLOAT: Final = FLOAT32

_default_float: DType = FLOAT32

_SUPPORTED: Final = {
    np.dtype(name): name
    for name in ("float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "bool")
}


def bfloat16() -> DType:
    """The bfloat16 dtype of the ml_dtypes package.

    Raises:
        DTypeError: ml_dtypes is not installed.
    """
    try:
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    except ModuleNotFoundError:
        raise DTypeError("dtype: bfloat16 needs the ml_dtypes package: pip install 'gpunet[half]'") from None


def canonical_dtype(dtype: Any) -> DType:
    """The NumPy dtype a ``dtype=`` argument means.

    Args:
        dtype: a NumPy dtype or scalar type, a name such as ``"float32"``, or Python's float (float64, as
            in PyTorch), int or bool.

    Raises:
        DTypeError: a type gpunet does not have.
    """
    if isinstance(dtype, str) and dtype == "bfloat16":
        return bfloat16()
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise DTypeError(f"dtype: {dtype!r} is not a data type") from None
    if not found.isnative:
        found = found.newbyteorder("=")
    if found in _SUPPORTED or found.name == "bfloat16":
        return found
    raise DTypeError(f"dtype: {found.name} is not supported; use one of {', '.join(_SUPPORTED.values())}, bfloat16")


def get_default_dtype() -> DType:
    """The floating dtype that ``zeros(2)``, ``tensor(1.5)`` and an integer divided by a number have."""
    return _default_float


def set_default_dtype(dtype: Any) -> None:
    """Set the floating dtype that is used where none is named, for all threads: tensors and layers made afterwards.

    Raises:
        DTypeError: not a floating dtype.
    """
    global _default_float
    found = canonical_dtype(dtype)
    if not is_floating(found):
        raise DTypeError(f"set_default_dtype: dtype must be floating point, got {found.name}")
    _default_float = found


def is_floating(dtype: DType) -> bool:
    """True for float16, bfloat16, float32 and float64."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def compute_dtype(dtype: DType) -> DType:
    """The type in which sums over many elements are carried: float32 for the half types, else the type itself."""
    return FLOAT32 if dtype.itemsize == 2 and is_floating(dtype) else dtype


def _category(dtype: DType) -> int:
    if dtype == BOOL:
        return 0
    return 2 if is_floating(dtype) else 1


_promotions: dict[tuple[DType, DType], DType] = {}


def promote_types(a: DType, b: DType) -> DType:
    """The smallest type of PyTorch's lattice that holds both."""
    if a == b:
        return a
    found = _promotions.get((a, b))
    if found is None:
        category_a, category_b = _category(a), _category(b)
        if category_a != category_b:
            # A float absorbs any integer, an integer any bool, without growing.
            found = a if category_a > category_b else b
        elif category_a == 2:
            if a.itemsize == b.itemsize == 2:
                found = FLOAT32  # float16 with bfloat16
            else:
                found = a if a.itemsize > b.itemsize else b
        else:
            found = np.promote_types(a, b)
        _promotions[a, b] = found
    return found


def result_type(*operands: Any) -> DType:
    """The dtype of an operation on arrays and Python scalars.

    As in PyTorch, an array with dimensions decides; a 0-d array, and after it a Python scalar, only raises the result
    when its kind (bool, integer, float) is higher.
    """
    dimensioned: DType | None = None
    zero_dim: DType | None = None
    scalar = -1
    for operand in operands:
        dtype = getattr(operand, "dtype", None)
        if dtype is None:
            kind = 0 if isinstance(operand, bool) else 1 if isinstance(operand, int) else 2
            scalar = max(scalar, kind)
        elif operand.ndim:
            dimensioned = dtype if dimensioned is None else promote_types(dimensioned, dtype)
        else:
            zero_dim = dtype if zero_dim is None else promote_types(zero_dim, dtype)
    result = dimensioned
    if zero_dim is not None and (result is None or _category(zero_dim) > _category(result)):
        result = zero_dim
    if result is None or scalar > _category(result):
        result = (BOOL, INT64, _default_float)[scalar]
    return result


def to_float(dtype: DType) -> DType:
    """The type of a function that only makes sense on floats: integers and bools become the default."""
    return dtype if is_floating(dtype) else _default_float


def cast_scalar(value: Any, dtype: DType) -> Any:
    """A Python scalar as a scalar of ``dtype``; integers wrap as PyTorch's do."""
    if dtype.kind in "iu" and isinstance(value, int) and not isinstance(value, bool):
        return np.array(value, np.int64).astype(dtype)[()]
    return dtype.type(value)


def stored_scalar(op: str, value: Any, dtype: DType, finite: bool = False) -> float:
    """A number as a Python number that a dtype holds, to be written there; bytes take -255..-1 as PyTorch's do.

    Args:
        op: the caller, for the message.
        value: the number.
        dtype: of the place.
        finite: refuse finite numbers that a half type rounds to infinity.

    Raises:
        ValueError: the dtype does not hold it.
    """
    if dtype == BOOL:
        return bool(value)
    if is_floating(dtype):
        with np.errstate(over="ignore"):
            stored: float = float(dtype.type(float(value)))
        fits = math.isfinite(stored) or not math.isfinite(value)
        fits = fits or (dtype.itemsize == 2 and not finite)
    else:
        limits = np.iinfo(dtype)
        fits = math.isfinite(value) and (limits.min or -limits.max) <= int(value) <= limits.max
        stored = int(np.array(int(value), np.int64).astype(dtype)) if fits else 0
    if not fits:
        raise ValueError(f"{op}: value must fit {dtype.name}, got {value}")
    return stored
