"""What a kernel may be launched with: each argument held against the parameter it is for.

A launch should cost microseconds, so what is given nearly always (a GPU array that fits, a Python number of the
declared kind) is seen in a few comparisons; everything else goes the long way, which knows all the rules and says which
one is broken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gpunet.backend import devices
from gpunet.backend.errors import DeviceError, DTypeError, ShapeError
from gpunet.backend.kernel_files import Parameter

if TYPE_CHECKING:
    from gpunet.backend.kernels import Kernel

__all__ = ["as_count", "check_arguments", "data_address", "is_aligned", "require_resident", "require_shared_memory"]


def _plain_numbers() -> dict[str, tuple[type, Any, Any, Any]]:
    """For each scalar type: the Python type that needs no questions, what makes it one of ours, least, greatest."""
    found: dict[str, tuple[type, Any, Any, Any]] = {"bool": (bool, np.bool_, False, True)}
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        limits = np.iinfo(name)
        found[name] = (int, np.dtype(name).type, int(limits.min), int(limits.max))
    for name in ("float32", "float64"):  # neither infinity nor NaN lies between
        most = float(np.finfo(name).max)
        found[name] = (float, np.dtype(name).type, -most, most)
    return found


_PLAIN: Final = _plain_numbers()


def data_address(array: Any) -> int:
    """The address of an array's first element."""
    if isinstance(array, np.ndarray):
        return int(array.__array_interface__["data"][0])
    return int(array.data.ptr)


def is_aligned(alignment: int, *arrays: Any) -> bool:
    """True if every array that is not None starts at a multiple of ``alignment`` bytes."""
    return all(array is None or data_address(array) % alignment == 0 for array in arrays)


def require_shared_memory(kernel: Kernel, device: str, shared_memory: int, limit: int) -> None:
    """Refuse more bytes of dynamic shared memory than a block can have on a device.

    Raises:
        ShapeError: it is more.
    """
    if shared_memory > limit:
        raise ShapeError(
            f"{kernel}: shared_memory: {shared_memory} bytes, but a block on {device!r} can have at most {limit}"
        )


def require_resident(
    kernel: Kernel, device: str, grid: tuple[int, int, int], block: tuple[int, int, int], shared_memory: int, limit: int
) -> None:
    """Refuse a cooperative grid of more blocks than are on a device at once: they would wait for ever.

    Raises:
        ShapeError: it has more.
    """
    if math.prod(grid) > limit:
        raise ShapeError(
            f"{kernel}: grid: {grid} has {math.prod(grid)} blocks that wait for each other, but {device!r} holds at "
            f"most {limit} of {math.prod(block)} threads and {shared_memory} bytes of dynamic shared memory at once"
        )


def as_count(kernel: Kernel, name: str, value: Any) -> int:
    """An extent of the grid or the block, or bytes of shared memory: Python's integer or NumPy's.

    Raises:
        DTypeError: it is something else; the message names the kernel and the argument.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise DTypeError(f"{kernel}: {name}: expected integers, got {value!r} ({type(value).__name__})")
    return int(value)


def check_arguments(kernel: Kernel, args: Sequence[Any]) -> tuple[list[Any], str, devices.Device]:
    """Hold the arguments of a launch against the kernel's declaration.

    Args:
        kernel: the kernel.
        args: one value for each parameter, in order.

    Returns:
        The values, scalars as NumPy's of exactly the declared types; the first array's name; the device of them all.

    Raises:
        DTypeError, DeviceError, ShapeError, ValueError: as ``launch``.
    """
    parameters = kernel.signature.parameters
    if len(args) != len(parameters):
        names = ", ".join(parameter.name for parameter in parameters)
        raise DTypeError(f"{kernel}: expected {len(parameters)} arguments ({names}), got {len(args)}")
    gpu_array = devices.gpu_array_type()
    first = ""
    home: devices.Device | None = None
    home_index = -1
    values: list[Any] = []
    for parameter, value in zip(parameters, args, strict=True):
        kind = type(value)
        if not parameter.is_pointer:
            plain, make, least, most = _PLAIN[parameter.dtype]
            if kind is plain and least <= value <= most:
                values.append(make(value))
            else:
                values.append(_scalar(kernel, parameter, value))
            continue
        values.append(value)
        if value is None:
            if not parameter.nullable:
                raise DTypeError(f"{kernel}: {parameter.name}: needs an array, got None")
            continue
        if (
            kind is gpu_array
            and value.dtype == parameter.numpy_dtype
            and value.flags.c_contiguous
            and (value.data.ptr % parameter.alignment == 0 or not value.size)
        ):
            index = value.data.device_id
            if index == home_index:
                continue
            place = devices.Device("cuda", index)
            if home is None:
                home_index = index
        else:
            place = _check_array(kernel, parameter, value)
        if home is None:
            first, home = parameter.name, place
        elif place is not home:
            raise DeviceError(
                f"{kernel}: {parameter.name} is on {str(place)!r}, but {first} is on {str(home)!r}; all arrays "
                "must be on one device"
            )
    if home is None:
        raise DTypeError(f"{kernel}: at least one argument must be an array: it says where the kernel runs")
    return values, first, home


def _check_array(kernel: Kernel, parameter: Parameter, value: Any) -> devices.Device:
    """Refuse an array that does not fit; return where it is."""
    if not hasattr(value, "dtype") or not hasattr(value, "flags") or isinstance(value, np.generic):
        raise DTypeError(
            f"{kernel}: {parameter.name}: {parameter.declared} needs an array, got {type(value).__name__}; a scalar in "
            "device memory is an array of shape ()"
        )
    try:
        devices.array_module(value)
    except DeviceError as error:
        raise DeviceError(f"{kernel}: {parameter.name}: {error}") from None
    if value.dtype != parameter.numpy_dtype:
        order = (
            "" if value.dtype.isnative else " with its bytes in the other order (x.astype(x.dtype.newbyteorder('=')))"
        )
        raise DTypeError(
            f"{kernel}: {parameter.name}: {parameter.declared} needs dtype {parameter.dtype}, got {value.dtype.name}"
            f"{order}"
        )
    if not value.flags.c_contiguous:
        raise ShapeError(
            f"{kernel}: {parameter.name}: the array must be contiguous, got shape {value.shape} with strides "
            f"{value.strides}"
        )
    address = data_address(value)
    if address % parameter.alignment and value.size:
        raise ShapeError(
            f"{kernel}: {parameter.name}: {parameter.declared} needs an address that is a multiple of "
            f"{parameter.alignment} bytes, got one that is {address % parameter.alignment} past it"
        )
    if isinstance(value, np.ndarray) and not parameter.is_const and not value.flags.writeable:
        raise ValueError(f"{kernel}: {parameter.name}: the kernel writes to this array, but it is read-only")
    return devices.device_of(value)


def _scalar(kernel: Kernel, parameter: Parameter, value: Any) -> np.generic:
    """The value as a NumPy scalar of exactly the declared type."""
    dtype = parameter.numpy_dtype
    if not isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        raise DTypeError(f"{kernel}: {parameter.name}: {parameter.declared} needs a number, got {type(value).__name__}")
    is_flag = isinstance(value, (bool, np.bool_))
    if dtype.kind == "b":
        if not is_flag:
            raise DTypeError(f"{kernel}: {parameter.name}: bool needs True or False, got {value!r}")
        return np.bool_(value)
    if is_flag:
        raise DTypeError(f"{kernel}: {parameter.name}: {parameter.declared} needs a number, got {value!r}")
    _, make, least, most = _PLAIN[parameter.dtype]
    if dtype.kind in "iu":
        if not isinstance(value, (int, np.integer)):
            raise DTypeError(f"{kernel}: {parameter.name}: {parameter.declared} needs an integer, got {value!r}")
        if not least <= int(value) <= most:
            raise DTypeError(f"{kernel}: {parameter.name}: {parameter.declared} holds {least}..{most}, got {value}")
        return make(int(value))
    number = float(value)
    if math.isfinite(number) and abs(number) > most:
        raise DTypeError(f"{kernel}: {parameter.name}: {value!r} is too large for {parameter.declared}")
    return make(number)
