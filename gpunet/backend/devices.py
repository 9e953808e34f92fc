"""Devices: what ``gpunet.device(...)`` returns, and which array module serves an array.

Four kinds exist. ``cpu`` is NumPy; ``cpu:1`` and up are *logical* CPU devices whose arrays are NumPy's too, but which
may not be mixed with ``cpu:0``, exactly as two GPUs may not: model-parallel code can be tested on any machine.
``cuda:n`` is CuPy on GPU n. ``meta`` has shapes and dtypes and no data.

CuPy is imported when a CUDA device is first asked for, never by ``import gpunet``; with ``GPUNET_DEVICE=cpu`` in the
environment it is not imported at all.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, ClassVar, Final

import numpy as np

from gpunet.backend.cupy_import import CUPY_SINCE, import_cupy, in_one_line, older_driver
from gpunet.backend.errors import DeviceError

__all__ = [
    "CPU",
    "META",
    "Device",
    "MetaArray",
    "array_module",
    "cuda_unavailable_reason",
    "cupy",
    "current_device",
    "device",
    "get_default_device",
    "gpu_array_type",
    "is_cuda_available",
    "is_cuda_in_use",
    "on_device",
    "set_default_device",
    "to_numpy",
    "transfer",
    "when_cupy_loads",
]

_KINDS: Final = ("cpu", "cuda", "meta")


class Device:
    """A place where tensors live: ``cpu``, ``cpu:1``, ``cuda``, ``cuda:1`` or ``meta``.

    Devices are interned: equal devices are the same object, so that ``is`` compares them.

    Attributes:
        type: ``"cpu"``, ``"cuda"`` or ``"meta"``.
        index: the number of the device of that type.
    """

    __slots__ = ("index", "type")
    _interned: ClassVar[dict[tuple[str, int], Device]] = {}

    type: str
    index: int

    def __new__(cls, type: str, index: int = 0) -> Device:
        found = cls._interned.get((type, index))
        if found is None:
            found = object.__new__(cls)
            object.__setattr__(found, "type", type)
            object.__setattr__(found, "index", index)
            found = cls._interned.setdefault((type, index), found)
        return found

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Device cannot be changed")

    def __str__(self) -> str:
        if self.type == "meta" or (self.type == "cpu" and self.index == 0):
            return self.type
        return f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device({str(self)!r})"

    def __enter__(self) -> Device:
        """Make tensors here when no device is named, inside a ``with`` block of this thread."""
        _state.before.append(_state.default)
        _state.default = self
        return self

    def __exit__(self, *_: object) -> None:
        _state.default = _state.before.pop()

    def __reduce__(self) -> tuple[Any, ...]:
        return (Device, (self.type, self.index))

    def __copy__(self) -> Device:
        return self

    def __deepcopy__(self, memo: object) -> Device:
        return self

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            # PyTorch scripts compare `tensor.device == "cpu"`; "auto" or nonsense is simply not equal.
            kind, _, number = other.partition(":")
            return kind == self.type and (int(number) if number.isdecimal() else 0) == self.index
        return self is other

    def __hash__(self) -> int:
        return hash((self.type, self.index))


CPU: Final = Device("cpu", 0)
META: Final = Device("meta", 0)


class MetaArray:
    """An array without data: a shape and a dtype. What a tensor on the ``meta`` device holds."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    @property
    def nbytes(self) -> int:
        """Bytes the array would take."""
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"MetaArray(shape={self.shape}, dtype={self.dtype})"


_cupy: ModuleType | None = None
_cupy_reason: str | None = None
_cupy_lock = threading.Lock()
_preparations: list[Callable[[Any], None]] = []


def when_cupy_loads(prepare: Callable[[Any], None]) -> None:
    """Have ``prepare(cupy)`` called once, before gpunet first uses CuPy; at once where it already has.

    It runs under a lock, so it may not ask for CuPy in any other way than by its argument.
    """
    with _cupy_lock:
        _preparations.append(prepare)
        if _cupy is not None:
            prepare(_cupy)


def _probe_cupy() -> None:
    """Import CuPy once and note why it cannot be used, if it cannot."""
    global _cupy, _cupy_reason
    with _cupy_lock:
        if _cupy is not None or _cupy_reason is not None:
            return
        if os.environ.get("GPUNET_DEVICE", "").strip().lower() == "cpu":
            _cupy_reason = "GPUNET_DEVICE=cpu is set, so CuPy was not looked for"
            return
        module, reason = import_cupy()
        if module is None:
            _cupy_reason = reason
            return
        try:
            count = module.cuda.runtime.getDeviceCount()
        except Exception as error:
            _cupy_reason = (
                f"CuPy is installed but finds no usable CUDA driver: {in_one_line(error, named=False)}"
                f"{older_driver(module)}"
            )
            return
        if count == 0:
            _cupy_reason = "CuPy is installed but the CUDA driver reports no GPU"
            return
        try:
            for prepare in _preparations:
                prepare(module)
        except Exception as error:  # names that CuPy does not promise may be gone in another version
            _cupy_reason = (
                f"CuPy {module.__version__} cannot be made ready for gpunet, which is made for CuPy {CUPY_SINCE}: "
                f"{in_one_line(error)}"
            )
            return
        _cupy = module


def is_cuda_available() -> bool:
    """True if a CUDA GPU can be used: CuPy is installed and its driver reports a device."""
    if _cupy is None:
        _probe_cupy()
    return _cupy is not None


def is_cuda_in_use() -> bool:
    """True if a GPU can be used and something has asked for one: it does not import CuPy to find out."""
    return _cupy is not None


def cuda_unavailable_reason() -> str | None:
    """Why there is no usable GPU, or None if there is one."""
    _probe_cupy()
    return _cupy_reason


def cupy() -> ModuleType:
    """The CuPy module.

    Raises:
        DeviceError: there is no usable GPU; the message says why.
    """
    if _cupy is None:
        _probe_cupy()
    if _cupy is None:
        raise DeviceError(f"device 'cuda' is not available: {_cupy_reason}")
    return _cupy


def device(spec: str | Device | int = "auto", index: int | None = None) -> Device:
    """Return a device from its name.

    Args:
        spec: ``"cpu"``, ``"cpu:1"``, ``"cuda"``, ``"cuda:1"``, ``"meta"``, ``"auto"`` (a usable GPU if there is
            one, else the CPU; ``GPUNET_DEVICE`` decides if it is set), a Device, or a GPU's number.
        index: the device's number, where ``spec`` is a bare type.

    Raises:
        DeviceError: an unknown name, or a GPU that is not there.
    """
    if isinstance(spec, Device):
        return spec
    if isinstance(spec, int) and not isinstance(spec, bool):
        return device("cuda", spec)
    if not isinstance(spec, str):
        raise DeviceError(f"device: expected a name such as 'cpu' or 'cuda:0', got {type(spec).__name__}")
    if spec == "auto":
        wanted = os.environ.get("GPUNET_DEVICE", "").strip().lower()
        if wanted and wanted != "auto":
            return device(wanted)
        return Device("cuda", 0) if is_cuda_available() else CPU
    kind, separator, number = spec.partition(":")
    if kind not in _KINDS or (separator and not number.isdecimal()) or (separator and index is not None):
        raise DeviceError(f"device: unknown device {spec!r}; use 'cpu', 'cpu:1', 'cuda', 'cuda:1', 'meta' or 'auto'")
    chosen = int(number) if separator else (index or 0)
    if chosen < 0:
        raise DeviceError(f"device: the index must not be negative, got {chosen}")
    if kind == "meta":
        return META
    if kind == "cuda":
        count = cupy().cuda.runtime.getDeviceCount()
        if separator == "" and index is None:
            chosen = cupy().cuda.runtime.getDevice()
        if chosen >= count:
            raise DeviceError(f"device: 'cuda:{chosen}' does not exist; this machine has {count} CUDA device(s)")
    return Device(kind, chosen)


class _ThreadState(threading.local):
    def __init__(self) -> None:
        self.default: Device = CPU
        self.before: list[Device] = []  # what `with device:` goes back to


_state = _ThreadState()


def get_default_device() -> Device:
    """The device on which tensors are made when none is named, for this thread."""
    return _state.default


def set_default_device(spec: str | Device) -> None:
    """Set the device on which this thread's tensors are made when none is named."""
    _state.default = device(spec)


def current_device(spec: str | Device | int | None) -> Device:
    """The device a ``device=`` argument means: None is the thread's default."""
    return _state.default if spec is None else device(spec)


def array_module(array: Any) -> Any:
    """NumPy or CuPy, whichever the array belongs to."""
    if isinstance(array, (np.ndarray, np.generic)):
        return np
    if _cupy is not None and isinstance(array, _cupy.ndarray):
        return _cupy
    raise DeviceError(f"expected a NumPy or CuPy array, got {type(array).__name__}")


def gpu_array_type() -> type | None:
    """CuPy's class of arrays; None where no GPU is in use."""
    return None if _cupy is None else _cupy.ndarray


def device_of(array: Any) -> Device:
    """The device an array lives on; a NumPy array counts as ``cpu:0``."""
    if isinstance(array, np.ndarray):
        return CPU
    if isinstance(array, MetaArray):
        return META
    return Device("cuda", int(array.device.id))


def to_numpy(array: Any) -> np.ndarray:
    """The array on the CPU: itself if it is NumPy's, else a copy from the GPU in the same physical order."""
    if isinstance(array, np.ndarray):
        return array
    return np.asarray(_as_it_lies(array, cupy().asnumpy))


def transfer(array: Any, target: Device) -> Any:
    """The array's data on ``target``, keeping its physical order; the array itself where nothing has to move."""
    if target.type == "meta":
        return MetaArray(tuple(array.shape), array.dtype)
    if isinstance(array, MetaArray):
        raise DeviceError(f"a tensor on 'meta' has no data to copy to {str(target)!r}")
    if target.type == "cpu":
        return to_numpy(array)
    module = cupy()
    with module.cuda.Device(target.index):
        if isinstance(array, np.ndarray):
            return _as_it_lies(array, module.asarray)
        source = int(array.device.id)
        return array if source == target.index else _between_gpus(array, source, target.index)


def _between_gpus(array: Any, source: int, target: int) -> Any:
    """A copy on another GPU, lying in memory as the array does.

    The current streams of the two wait for each other, since nothing else orders the work of different GPUs.
    """
    module = cupy()
    order = _physical_order(array)
    with module.cuda.Device(source):
        # One piece of memory goes at a time: a slice is gathered first.
        sent = module.ascontiguousarray(array if order is None else array.transpose(order))
        ready = module.cuda.Event(disable_timing=True)
        ready.record(module.cuda.get_current_stream())
    with module.cuda.Device(target):
        module.cuda.get_current_stream().wait_event(ready)
        copy = module.array(sent, copy=True, order="C")
        copied = module.cuda.Event(disable_timing=True)
        copied.record(module.cuda.get_current_stream())
    with module.cuda.Device(source):
        module.cuda.get_current_stream().wait_event(copied)
    return copy if order is None else copy.transpose(np.argsort(order).tolist())


def _as_it_lies(array: Any, copy: Callable[[Any], Any]) -> Any:
    """A copy whose axes lie in memory in the order in which the array's do.

    CuPy copies between host and device in C order (``order="A"`` knows Fortran's besides): the axes are put into that
    order for it, and back.
    """
    order = _physical_order(array)
    return copy(array) if order is None else copy(array.transpose(order)).transpose(np.argsort(order).tolist())


def _physical_order(array: Any) -> tuple[int, ...] | None:
    """Axes from slowest to fastest; None if that is the plain order, or none, as some repeat their elements."""
    strides = array.strides
    if array.ndim < 2 or array.flags.c_contiguous or 0 in strides:
        return None
    order = tuple(sorted(range(array.ndim), key=lambda axis: -abs(strides[axis])))
    return None if order == tuple(range(array.ndim)) else order


def on_device(target: Device) -> AbstractContextManager[Any]:
    """A block in which a GPU's arrays are made and computed with; on other devices there is nothing to do."""
    return cupy().cuda.Device(target.index) if target.type == "cuda" else _NOTHING


_NOTHING: Final = nullcontext()


def loaded_cupy() -> ModuleType | None:
    """CuPy if something already imported it, without importing it."""
    return sys.modules.get("cupy")
