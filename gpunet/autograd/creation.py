"""Making tensors. Random numbers are drawn on the CPU: the same on every device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet.autograd.function import apply, full_array, operand
from gpunet.autograd.shapes import sizes
from gpunet.autograd.tensor import Tensor, is_cupy_array
from gpunet.backend.devices import CPU, Device, current_device, device_of, transfer
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.backend.random import Generator, default_generator
from gpunet.ops import REGISTRY
from gpunet.ops.dtypes import BOOL, DEFAULT_FLOAT, INT64, canonical_dtype, is_floating

__all__ = [
    "arange",
    "as_tensor",
    "cat",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "is_tensor",
    "linspace",
    "maximum",
    "minimum",
    "ones",
    "ones_like",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "stack",
    "tensor",
    "where",
    "zeros",
    "zeros_like",
]


def is_tensor(value: Any) -> bool:
    """True for a Tensor."""
    return isinstance(value, Tensor)


def _numbers(data: Any) -> np.ndarray:
    """Numbers, sequences (of Tensors too) or arrays as a NumPy array; Python floats as float32, integers as int64."""
    if isinstance(data, (np.ndarray, np.generic)):
        return np.asarray(data)
    if isinstance(data, (list, tuple)) and data and isinstance(data[0], Tensor):
        return np.stack([part.detach().cpu().numpy() for part in data])
    try:
        array = np.asarray(data)
    except ValueError:
        array = None
    if array is None or array.dtype == object:
        raise ValueError("data: sequences must be nested evenly and hold numbers")
    has_arrays = isinstance(data, (list, tuple)) and data and isinstance(data[0], (np.ndarray, np.generic))
    if array.dtype == np.float64 and not has_arrays:
        return array.astype(DEFAULT_FLOAT)
    if array.size == 0 and isinstance(data, (list, tuple)):
        return array.astype(DEFAULT_FLOAT)
    return array


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of the data.

    Args:
        data: numbers, nested sequences, a NumPy or CuPy array, or a Tensor.
        dtype: float32 for Python floats, int64 for integers, an array's own otherwise.
        device: the default device unless given.
        requires_grad: ask for gradients.
    """
    if isinstance(data, Tensor) or is_cupy_array(data):
        source = data.detach() if isinstance(data, Tensor) else Tensor._wrap(data, device_of(data))
        moved = source.to(source._device if device is None else current_device(device))
        result = moved if dtype is None else moved.to(canonical_dtype(dtype))
        return (result.clone() if result._array is source._array else result).requires_grad_(requires_grad)
    array = _numbers(data)
    target = current_device(device)
    kind = canonical_dtype(array.dtype if dtype is None else dtype)
    if kind.kind in "iu" and array.dtype.kind in "iu" and array.size and not isinstance(data, (np.ndarray, np.generic)):
        limits = np.iinfo(kind)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            found = f"{array.min()} to {array.max()}"
            raise ValueError(f"data: {kind.name} holds {limits.min} to {limits.max}, got {found}")
    copied = np.array(array, dtype=kind, copy=True, order="C" if array.ndim < 2 else "K")
    return Tensor._wrap(transfer(copied, target), target).requires_grad_(requires_grad)


def as_tensor(data: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor that shares the data where it can: itself, or an array of the right dtype and device."""
    if isinstance(data, Tensor):
        result = data if device is None else data.to(current_device(device))
        return result if dtype is None else result.to(canonical_dtype(dtype))
    if is_cupy_array(data):
        return as_tensor(Tensor._wrap(data, device_of(data)), dtype=dtype, device=device)
    array = _numbers(data)
    target = current_device(device)
    kind = canonical_dtype(array.dtype if dtype is None else dtype)
    return Tensor._wrap(transfer(array.astype(kind, copy=False), target), target)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares a NumPy array's memory.

    Raises:
        TypeError: not a NumPy array.
        DTypeError: a dtype gpunet does not have.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected a NumPy array, got {type(array).__name__}")
    canonical_dtype(array.dtype)
    return Tensor._wrap(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")), CPU)


# NumPy 2.0 speaks DLPack 0.x, in which memory that may not be written to cannot be exported, and yet marks all that it
# is given as such.
MARKS_DLPACK_READ_ONLY = np.lib.NumpyVersion(np.__version__) < "2.1.0"


class _Writable:
    """An array's memory without the mark; NumPy keeps the object, and it the array, as the new array's base."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        interface = array.__array_interface__
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}


def from_dlpack(source: Any) -> Tensor:
    """A tensor that shares memory with any object that speaks DLPack: a PyTorch, JAX or CuPy array.

    NumPy before 2.1 takes memory from other libraries as read-only.
    """
    if isinstance(source, Tensor):
        source.__dlpack__()  # refuses what may not be shared
        return Tensor._wrap(source._array, device_of(source._array))  # cpu:1 exports as the CPU
    if isinstance(source, np.ndarray):
        return from_numpy(source)
    kind = int(source.__dlpack_device__()[0])
    if kind == 1:
        array = np.from_dlpack(source)
        if MARKS_DLPACK_READ_ONLY:
            array = np.asarray(_Writable(array))
    elif kind == 2:
        from gpunet.backend.devices import cupy

        array = cupy().from_dlpack(source)
    else:
        raise DTypeError(f"from_dlpack: only CPU and CUDA memory is supported, got DLPack device type {kind}")
    canonical_dtype(array.dtype)
    return Tensor._wrap(array, device_of(array))


def _filled(shape: tuple[Any, ...], value: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    extents = sizes(shape)
    if any(extent < 0 for extent in extents):
        raise ShapeError(f"size: sizes must not be negative, got {extents}")
    target = current_device(device)
    kind = DEFAULT_FLOAT if dtype is None else canonical_dtype(dtype)
    return Tensor._wrap(full_array(extents, value, kind, target), target).requires_grad_(requires_grad)


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of a shape."""
    return _filled(size, 0, dtype, device, requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of a shape."""
    return _filled(size, 1, dtype, device, requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised elements of a shape."""
    return _filled(size, None, dtype, device, requires_grad)


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """One value in a shape; the dtype follows the value unless given."""
    if dtype is None:
        dtype = BOOL if isinstance(fill_value, bool) else INT64 if isinstance(fill_value, int) else DEFAULT_FLOAT
    return _filled((size,), fill_value, dtype, device, requires_grad)


def _like(input: Tensor, value: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    return input.detach()._new((input.shape,), value, dtype, device, requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros with another tensor's shape, dtype and device."""
    return _like(input, 0, dtype, device, requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones with another tensor's shape, dtype and device."""
    return _like(input, 1, dtype, device, requires_grad)


def empty_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised elements with another tensor's shape, dtype and device."""
    return _like(input, None, dtype, device, requires_grad)


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """One value with another tensor's shape, dtype and device."""
    return _like(input, fill_value, dtype, device, requires_grad)


def _from_host(array: np.ndarray, dtype: Any, device: Any, requires_grad: bool = False) -> Tensor:
    target: Device = current_device(device)
    kind = canonical_dtype(dtype)
    return Tensor._wrap(transfer(array.astype(kind, copy=False), target), target).requires_grad_(requires_grad)


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """start, start + step, ... below end; int64 if all three are integers, else float32."""
    if end is None:
        start, end = 0, start
    if step == 0:
        raise ValueError("arange: step must not be zero")
    if (end - start) * step < 0:
        raise ValueError(f"arange: step {step} does not lead from {start} to {end}")
    if dtype is None:
        dtype = INT64 if all(isinstance(value, (int, np.integer)) for value in (start, end, step)) else DEFAULT_FLOAT
    count = math.ceil((end - start) / step)
    return _from_host(start + np.arange(count) * step, dtype, device, requires_grad)


def linspace(start: float, end: float, steps: int, *, dtype: Any = None, device: Any = None) -> Tensor:
    """``steps`` evenly spaced numbers from start to end, both included."""
    return _from_host(np.linspace(start, end, steps), DEFAULT_FLOAT if dtype is None else dtype, device)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones on the diagonal of an (n, m) matrix of zeros."""
    return _from_host(np.eye(n, m), DEFAULT_FLOAT if dtype is None else dtype, device)


def _rng(generator: Generator | None) -> np.random.Generator:
    return (default_generator() if generator is None else generator).numpy()


def _floating(name: str, dtype: Any) -> Any:
    kind = DEFAULT_FLOAT if dtype is None else canonical_dtype(dtype)
    if not is_floating(kind):
        raise DTypeError(f"{name}: dtype must be floating point, got {kind.name}")
    return kind


def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal random numbers, mean 0 and variance 1."""
    kind = _floating("randn", dtype)
    draw = np.float64 if kind.itemsize == 8 else np.float32
    return _from_host(np.asarray(_rng(generator).standard_normal(sizes(size), draw)), kind, device, requires_grad)


def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform random numbers, 0 included and 1 not."""
    kind = _floating("rand", dtype)
    draw = np.float64 if kind.itemsize == 8 else np.float32
    return _from_host(np.asarray(_rng(generator).random(sizes(size), draw)), kind, device, requires_grad)


def randn_like(input: Tensor, *, generator: Generator | None = None, dtype: Any = None) -> Tensor:
    """Normal random numbers with another tensor's shape, dtype and device."""
    return randn(input.shape, generator=generator, dtype=dtype or input.dtype, device=input.device)


def rand_like(input: Tensor, *, generator: Generator | None = None, dtype: Any = None) -> Tensor:
    """Uniform random numbers with another tensor's shape, dtype and device."""
    return rand(input.shape, generator=generator, dtype=dtype or input.dtype, device=input.device)


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Random integers from low (0 if left out) to high - 1."""
    if size is None:  # randint(high, size)
        low, high, size = 0, low, high
    if high <= low:
        raise ValueError(f"randint: high must be greater than low, got {low} and {high}")
    values = _rng(generator).integers(low, high, sizes((size,)), np.int64)
    return _from_host(np.asarray(values), INT64 if dtype is None else dtype, device)


def randperm(n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = None) -> Tensor:
    """The integers 0 to n - 1 in random order."""
    if n < 0:
        raise ValueError(f"randperm: n must not be negative, got {n}")
    return _from_host(_rng(generator).permutation(n), INT64 if dtype is None else dtype, device)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors joined along an existing dimension."""
    if not tensors:
        raise ValueError("cat: tensors must hold at least one tensor")
    return apply(REGISTRY["cat"], *tensors, dim=dim)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension."""
    if not tensors:
        raise ValueError("stack: tensors must hold at least one tensor")
    return apply(REGISTRY["stack"], *tensors, dim=dim)


def where(condition: Tensor, input: Any, other: Any) -> Tensor:
    """``input`` where the condition holds, else ``other``; tensors or numbers, broadcast."""
    first, second = (operand(condition, value) for value in (input, other))
    return apply(REGISTRY["where"], condition, first, second)


def maximum(input: Tensor, other: Tensor) -> Tensor:
    """Elementwise larger of two; NaN wins."""
    return input.maximum(other)


def minimum(input: Tensor, other: Tensor) -> Tensor:
    """Elementwise smaller of two; NaN wins."""
    return input.minimum(other)
