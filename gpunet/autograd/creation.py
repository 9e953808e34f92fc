"""Making tensors of given values. ``sampling`` makes those of random numbers, ``joining`` those from other tensors."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np

from gpunet.autograd.filling import check_sizes
from gpunet.autograd.function import full_array
from gpunet.autograd.rearranging import integer
from gpunet.autograd.shapes import Size
from gpunet.autograd.tensor import Tensor, is_cupy_array
from gpunet.autograd.types import TYPED
from gpunet.backend.devices import CPU, Device, current_device, device_of, transfer
from gpunet.backend.errors import DTypeError
from gpunet.ops.dtypes import BOOL, INT64, canonical_dtype, get_default_dtype, is_floating, promote_types, stored_scalar

__all__ = [
    "BoolTensor",
    "ByteTensor",
    "CharTensor",
    "DoubleTensor",
    "FloatTensor",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "ShortTensor",
    "as_tensor",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "frombuffer",
    "from_numpy",
    "full",
    "full_like",
    "is_tensor",
    "linspace",
    "logspace",
    "ones",
    "ones_like",
    "scalar_tensor",
    "tensor",
    "tril_indices",
    "triu_indices",
    "zeros",
    "zeros_like",
]


def is_tensor(value: Any) -> bool:
    """True for a Tensor."""
    return isinstance(value, Tensor)


def _numbers(data: Any, dtype: Any) -> np.ndarray:
    """Numbers, sequences (of Tensors too) or arrays as a NumPy array of a dtype, or their own if None.

    Raises:
        ValueError: a Python number that the dtype does not hold.
    """
    array = _as_array(data, keep=dtype is not None)
    kind = canonical_dtype(array.dtype if dtype is None else dtype)
    if kind.kind in "iu" and array.dtype.kind in "iuf" and not isinstance(data, (np.ndarray, np.generic)):
        limits = np.iinfo(kind)
        lowest = limits.min or -limits.max  # bytes take -255..-1 as PyTorch's do
        # Python's own integers compare exactly; not NaN either.
        ends = [array.min().item(), array.max().item()] if array.size else []
        if not all(lowest <= number <= limits.max for number in ends):
            raise ValueError(
                f"data: {kind.name} holds {limits.min} to {limits.max}, got {array.min()} to {array.max()}"
            )
    with np.errstate(over="ignore"):  # numbers too large become infinite
        return array.astype(kind, copy=False)


def _as_array(data: Any, keep: bool) -> np.ndarray:
    """The data as NumPy takes them, but Python floats (unless all their digits are to be kept) in the default dtype."""
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
    if isinstance(data, (list, tuple)) and not keep:
        numbers, held = _held_types(data)
        if held:  # NumPy's scalars and arrays keep their dtypes, and meet numbers as tensors meet theirs
            kinds = [get_default_dtype() if kind is float else np.dtype(kind) for kind in numbers]
            return array.astype(reduce(promote_types, map(canonical_dtype, [*kinds, *held])), copy=False)
    if array.dtype == np.float64 and not keep:
        with np.errstate(over="ignore"):
            return array.astype(get_default_dtype())
    if array.size == 0 and isinstance(data, (list, tuple)):
        return array.astype(get_default_dtype())
    return array


def _held_types(data: Any) -> tuple[set[type], set[Any]]:
    """The types of the Python numbers in nested sequences, and the dtypes of the NumPy scalars and arrays."""
    numbers: set[type] = set()
    held: set[Any] = set()
    kinds = set(map(type, data))
    for kind in kinds:
        if kind in (bool, int, float):
            numbers.add(kind)
        elif issubclass(kind, np.generic):
            held.add(np.dtype(kind))
    if not kinds <= numbers:
        for item in data:
            if isinstance(item, (list, tuple)):
                inner = _held_types(item)
                numbers |= inner[0]
                held |= inner[1]
            elif isinstance(item, np.ndarray):
                held.add(item.dtype)
    return numbers, held


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of the data.

    Args:
        data: numbers, nested sequences, a NumPy or CuPy array, or a Tensor.
        dtype: the default for Python floats, int64 for integers, an array's own otherwise.
        device: the default device unless given.
        requires_grad: ask for gradients.
    """
    if isinstance(data, Tensor) or is_cupy_array(data):
        source = data.detach() if isinstance(data, Tensor) else Tensor._wrap(data, device_of(data))
        moved = source.to(source._device if device is None else current_device(device))
        result = moved if dtype is None else moved.to(canonical_dtype(dtype))
        return (result.clone() if result._array is source._array else result).requires_grad_(requires_grad)
    array = _numbers(data, dtype)
    target = current_device(device)
    copied = np.array(array, copy=True, order="C" if array.ndim < 2 else "K")
    return Tensor._wrap(transfer(copied, target), target).requires_grad_(requires_grad)


def as_tensor(data: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor that shares the data where it can: itself, or an array of the right dtype and device."""
    if isinstance(data, Tensor):
        result = data if device is None else data.to(current_device(device))
        return result if dtype is None else result.to(canonical_dtype(dtype))
    if is_cupy_array(data):
        return as_tensor(Tensor._wrap(data, device_of(data)), dtype=dtype, device=device)
    array = _numbers(data, dtype)
    target = current_device(device)
    return Tensor._wrap(transfer(array, target), target)


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


def _filled(name: str, shape: tuple[Any, ...], value: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    extents = check_sizes(name, shape)
    target = current_device(device)
    kind = get_default_dtype() if dtype is None else canonical_dtype(dtype)
    if value is not None:
        value = stored_scalar(name, value, kind, finite=True)
    return Tensor._wrap(full_array(extents, value, kind, target), target).requires_grad_(requires_grad)


def shape_of(name: str, size: tuple[Any, ...], named: Any) -> tuple[Any, ...]:
    """The sizes of ``zeros(2, 3)``, ``zeros((2, 3))`` and ``zeros(size=(2, 3))``."""
    if named is None:
        if not size:
            raise TypeError(f"{name}: size must be given")
        return size
    if size:
        raise TypeError(f"{name}: size is given twice")
    return (named,)


def zeros(*shape: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of a shape."""
    return _filled("zeros", shape_of("zeros", shape, size), 0, dtype, device, requires_grad)


def ones(*shape: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of a shape."""
    return _filled("ones", shape_of("ones", shape, size), 1, dtype, device, requires_grad)


def empty(*shape: Any, size: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised elements of a shape."""
    return _filled("empty", shape_of("empty", shape, size), None, dtype, device, requires_grad)


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """One value, a number or a 0-d tensor, in a shape; the dtype follows the value unless given."""
    if isinstance(fill_value, Tensor):
        dtype = fill_value.dtype if dtype is None else dtype
        fill_value = _number("full: fill_value", fill_value)
    if not isinstance(fill_value, (bool, int, float, np.generic)):
        raise TypeError(f"full: fill_value must be a number, got {type(fill_value).__name__}")
    if dtype is None:
        dtype = BOOL if isinstance(fill_value, bool) else INT64 if isinstance(fill_value, int) else None
    return _filled("full", (size,), fill_value, dtype, device, requires_grad)


# PyTorch's memory_format and layout ask for an order in memory; gpunet chooses it, and takes memory_format for nothing.


def zeros_like(
    input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, memory_format: Any = None
) -> Tensor:
    """Zeros with another tensor's shape, dtype and device."""
    return _like("zeros_like", input, 0, dtype, device, requires_grad)


def ones_like(
    input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, memory_format: Any = None
) -> Tensor:
    """Ones with another tensor's shape, dtype and device."""
    return _like("ones_like", input, 1, dtype, device, requires_grad)


def empty_like(
    input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, memory_format: Any = None
) -> Tensor:
    """Uninitialised elements with another tensor's shape, dtype and device."""
    return _like("empty_like", input, None, dtype, device, requires_grad)


def full_like(
    input: Tensor,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """One value with another tensor's shape, dtype and device."""
    return _like("full_like", input, _number("full_like: fill_value", fill_value), dtype, device, requires_grad)


def _like(name: str, input: Any, value: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}: input must be a Tensor, got {type(input).__name__}")
    return input._new(name, (input.shape,), value, dtype, device, requires_grad)


def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A number as a 0-d tensor of the default dtype."""
    return _filled("scalar_tensor", ((),), s, dtype, device, requires_grad)


def from_host(array: np.ndarray, dtype: Any, device: Any, requires_grad: bool = False) -> Tensor:
    target: Device = current_device(device)
    kind = canonical_dtype(dtype)
    return Tensor._wrap(transfer(array.astype(kind, copy=False), target), target).requires_grad_(requires_grad)


def _number(name: str, value: Any) -> Any:
    """A Python number, from one, from a NumPy scalar or from a tensor of one element.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.item()
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    return value


def _not_bool(name: str, dtype: Any) -> Any:
    kind = canonical_dtype(dtype)
    if kind == BOOL:
        raise DTypeError(f"{name}: dtype must be a number type, got bool")
    return kind


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """start, start + step, ... below end; int64 if all three are integers, else the default dtype.

    With an integer ``dtype`` all three are cut to integers first.
    """
    if end is None:
        start, end = 0, start
    given = [_number(f"arange: {name}", value) for name, value in (("start", start), ("end", end), ("step", step))]
    whole = all(isinstance(value, int) for value in given)
    kind = _not_bool("arange", (INT64 if whole else get_default_dtype()) if dtype is None else dtype)
    if not all(math.isfinite(value) for value in given):
        raise ValueError(f"arange: start, end and step must be finite, got {given[0]}, {given[1]} and {given[2]}")
    if not is_floating(kind):
        given = [int(value) for value in given]
    first, last, stride = given
    if stride == 0:
        raise ValueError("arange: step must not be zero")
    if (last - first) * stride < 0:
        raise ValueError(f"arange: step {stride} does not lead from {first} to {last}")
    exact = all(isinstance(value, int) for value in given)
    count = -((first - last) // stride) if exact else math.ceil((last - first) / stride)
    return from_host(first + np.arange(count) * stride, kind, device, requires_grad)


def _evenly(name: str, start: Any, end: Any, steps: Any) -> np.ndarray:
    count = integer(f"{name}: steps", steps)
    if count < 0:
        raise ValueError(f"{name}: steps must not be negative, got {count}")
    return np.linspace(_number(f"{name}: start", start), _number(f"{name}: end", end), count)


def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``steps`` evenly spaced numbers from start to end, both included."""
    kind = _not_bool("linspace", get_default_dtype() if dtype is None else dtype)
    return from_host(_evenly("linspace", start, end, steps), kind, device, requires_grad)


def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``steps`` numbers from base ** start to base ** end, both included, whose exponents are evenly spaced."""
    kind = _not_bool("logspace", get_default_dtype() if dtype is None else dtype)
    exponents = _evenly("logspace", start, end, steps)
    return from_host(np.power(float(base), exponents), kind, device, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal of an (n, m) matrix of zeros."""
    check_sizes("eye", (n, n if m is None else m))
    return from_host(np.eye(n, m), get_default_dtype() if dtype is None else dtype, device, requires_grad)


def _triangle(name: str, rows: np.ndarray, columns: np.ndarray, dtype: Any, device: Any) -> Tensor:
    return from_host(np.stack([rows, columns]), _not_bool(name, INT64 if dtype is None else dtype), device)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The row and column numbers, (2, N), of the lower triangle of a (row, col) matrix."""
    check_sizes("tril_indices", (row, col))
    return _triangle("tril_indices", *np.tril_indices(row, offset, col), dtype, device)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The row and column numbers, (2, N), of the upper triangle of a (row, col) matrix."""
    check_sizes("triu_indices", (row, col))
    return _triangle("triu_indices", *np.triu_indices(row, offset, col), dtype, device)


def asarray(
    obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of any data: sharing its memory where it can, unless ``copy=True``.

    Raises:
        ValueError: ``copy=False`` where a copy is needed.
    """
    if copy:
        return tensor(obj, dtype=dtype, device=device, requires_grad=requires_grad)
    made = as_tensor(obj, dtype=dtype, device=device)
    if copy is False:
        source = obj._array if isinstance(obj, Tensor) else obj
        if not isinstance(source, np.ndarray) or not np.shares_memory(source, made._array):
            raise ValueError("asarray: a copy is needed, but copy is False")
    made = made.detach() if isinstance(obj, Tensor) and requires_grad else made
    return made.requires_grad_() if requires_grad else made


def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A 1-d tensor that shares the memory of a bytes-like object, read as elements of a dtype.

    Args:
        buffer: bytes (which cannot be written to), bytearray, array.array, memoryview, mmap.
        dtype: of the elements.
        count: how many; -1 means all.
        offset: bytes to skip.
        requires_grad: ask for gradients.

    Raises:
        ValueError: the buffer does not hold that many.
    """
    kind = canonical_dtype(dtype)
    length = memoryview(buffer).nbytes
    if not 0 <= offset < length:
        raise ValueError(f"frombuffer: offset must lie in 0..{length - 1}, got {offset}")
    if count < -1 or count == 0:
        raise ValueError(f"frombuffer: count must be positive, or -1 for all, got {count}")
    available, rest = divmod(length - offset, kind.itemsize)
    if (count == -1 and rest) or count > available:
        wanted = "whole" if count == -1 else count
        raise ValueError(f"frombuffer: {length - offset} bytes do not make {wanted} elements of {kind.name}")
    return Tensor._wrap(np.frombuffer(buffer, kind, count, offset), CPU).requires_grad_(requires_grad)


class _Typed(type):
    """Classes of PyTorch's old names of tensor types: what is theirs goes by dtype and device."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return (
            isinstance(instance, Tensor)
            and instance.dtype.name == TYPED[cls.__name__]
            and instance.device.type == "cpu"
        )


def _new_typed(cls: type, *data: Any) -> Tensor:
    dtype = TYPED[cls.__name__]
    if len(data) == 1 and not isinstance(data[0], (int, Size)):
        return tensor(data[0], dtype=dtype)
    return empty(*(data or (0,)), dtype=dtype)


def _typed(name: str) -> Any:
    """PyTorch's old constructor of a dtype: data, or sizes of an uninitialised tensor."""
    doc = (
        f"A {TYPED[name]} tensor of data, or uninitialised of given sizes, as PyTorch's ``{name}``;\n"
        f"    ``isinstance(x, {name})`` is true for the tensors of that dtype on the CPU."
    )
    return _Typed(name, (), {"__doc__": doc, "__module__": __name__, "__new__": _new_typed})


FloatTensor = _typed("FloatTensor")
DoubleTensor = _typed("DoubleTensor")
HalfTensor = _typed("HalfTensor")
LongTensor = _typed("LongTensor")
IntTensor = _typed("IntTensor")
ShortTensor = _typed("ShortTensor")
CharTensor = _typed("CharTensor")
ByteTensor = _typed("ByteTensor")
BoolTensor = _typed("BoolTensor")
