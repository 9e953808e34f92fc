"""Tensor: an array, the device it lives on, and its place in the graph."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpunet.autograd import function
from gpunet.autograd.engine import Node, backward
from gpunet.autograd.filling import Filling
from gpunet.autograd.printing import tensor_text
from gpunet.autograd.shapes import Size
from gpunet.autograd.types import TYPED
from gpunet.backend.devices import (
    CPU,
    META,
    Device,
    MetaArray,
    array_module,
    cupy,
    current_device,
    device_of,
    on_device,
    to_numpy,
    transfer,
)
from gpunet.backend.devices import device as to_device
from gpunet.backend.error_word import raise_deferred
from gpunet.backend.errors import DeviceError, DTypeError, GradientError, ShapeError
from gpunet.ops import REGISTRY
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, register
from gpunet.ops.dtypes import canonical_dtype, get_default_dtype, is_floating

__all__ = ["HookHandle", "Tensor"]


class HookHandle:
    """What registering a hook returns; ``remove()`` takes the hook away."""

    _next = 0

    def __init__(self, hooks: dict[int, Any]) -> None:
        self._hooks = hooks
        self.id = HookHandle._next
        HookHandle._next += 1

    def remove(self) -> None:
        """Take the hook away; doing so twice is harmless."""
        self._hooks.pop(self.id, None)


class Transfer(Op):
    """The same values on another device; the gradient travels back."""

    name = "to_device"

    def infer(self, *inputs: Any, target: Device) -> Inferred:
        (x,) = inputs
        return Inferred((Spec(tuple(x.shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, target: Device) -> Any:
        (x,) = inputs
        ctx.state = device_of(x)
        moved = transfer(x, target)
        # Logical CPU devices share the machine's memory, but not a tensor's.
        return moved.copy(order="K") if moved is x else moved

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        return (transfer(grad_outputs[0], ctx.state),)

    def samples(self) -> Iterator[Sample]:
        x = np.random.default_rng(73).standard_normal((2, 3))
        yield Sample("cpu", (x,), {"target": CPU})
        yield Sample("transposed", (x.T,), {"target": CPU})
        yield Sample("empty batch", (x[:0],), {"target": CPU})


TRANSFER = register(Transfer())


class Tensor(Filling):
    """An n-dimensional array of one dtype on one device, that operations can record gradients for.

    Args:
        data: numbers, nested sequences, an array or a Tensor; kept in the default dtype, as ``torch.Tensor(...)`` does.
            Bare integers are sizes of an uninitialised tensor. Use ``gpunet.tensor`` to keep the dtype.

    Attributes:
        grad: the gradient that ``backward`` has accumulated, or None. Its memory is the parameter's for life:
            ``zero_grad_(set_to_none=True)`` hides it and the next backward writes into it again, so take a clone to
            keep an old gradient.
    """

    __slots__ = (
        "__weakref__",
        "_after_hooks",
        "_device",
        "_grad",
        "_grad_buffer",
        "_hooks",
    )

    _device: Device

    # `ndarray * Tensor` must come to Tensor.__rmul__ instead of being spread over the array's elements.
    __array_ufunc__ = None
    __array_priority__ = 1000

    def __init__(self, *data: Any) -> None:
        if len(data) == 1 and not isinstance(data[0], int):
            source = data[0]
            array = source._array if isinstance(source, Tensor) else np.asarray(source)
            self._set(array.astype(get_default_dtype(), copy=not isinstance(source, Tensor)), current_device(None))
        else:
            self._set(np.empty(tuple(data) if data else (0,), get_default_dtype()), current_device(None))
        if self._device is not CPU:
            self._array = transfer(self._array, self._device)

    def _set(self, array: Any, device: Device) -> None:
        self._array = array
        self._device = device
        self._requires_grad = False
        self._node = None
        self._index = 0
        self._grad: Tensor | None = None
        self._grad_buffer: Any = None
        self._counter = [0, 0, None]
        self._hooks: dict[int, Callable[[Tensor], Any]] | None = None
        self._after_hooks: dict[int, Callable[[Tensor], Any]] | None = None
        self._view = None
        self._stamp = 0

    @classmethod
    def _wrap(cls, array: Any, device: Device) -> Tensor:
        """A Tensor around an array, which it shares."""
        tensor = Tensor.__new__(Tensor)
        tensor._array = array
        tensor._device = device
        tensor._requires_grad = False
        tensor._node = None
        tensor._index = 0
        tensor._grad = None
        tensor._grad_buffer = None
        tensor._counter = [0, 0, None]
        tensor._hooks = None
        tensor._after_hooks = None
        tensor._view = None
        tensor._stamp = 0
        return tensor

    # What it is ----------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        """Sizes of the dimensions, in logical order."""
        return Size(self._array.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return int(self._array.ndim)

    def dim(self) -> int:
        """Number of dimensions."""
        return int(self._array.ndim)

    ndimension = dim

    def numel(self) -> int:
        """Number of elements."""
        return int(self._array.size)

    nelement = numel

    def element_size(self) -> int:
        """Bytes of one element."""
        return int(self._array.dtype.itemsize)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return int(self._array.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return int(self._array.nbytes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of the elements."""
        return self._array.dtype

    @property
    def device(self) -> Device:
        """Where the elements live."""
        return self._device

    def get_device(self) -> int:
        """The number of the GPU it is on, -1 on the CPU."""
        return self._device.index if self._device.type == "cuda" else -1

    def data_ptr(self) -> int:
        """The address of the first element; equal for tensors that share it.

        Raises:
            DeviceError: a tensor on ``meta`` has no memory.
        """
        if self._device is META:
            raise DeviceError("data_ptr: a tensor on 'meta' has no data")
        array = self._array
        return int(array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr)

    @property
    def is_cuda(self) -> bool:
        """True on a GPU."""
        return self._device.type == "cuda"

    @property
    def is_meta(self) -> bool:
        """True on the meta device, without data."""
        return self._device is META

    def stride(self, dim: int | None = None) -> Any:
        """Elements from one index to the next along each dimension."""
        strides = tuple(step // self._array.itemsize for step in self._array.strides)
        return strides if dim is None else strides[dim]

    def is_contiguous(self) -> bool:
        """True if the physical order of the elements is the logical one."""
        return bool(self._array.flags.c_contiguous)

    def contiguous(self, *, memory_format: Any = None) -> Tensor:
        """Itself, or a copy whose physical order is the logical one; ``memory_format`` is taken for nothing."""
        return self if self._device is META or self.is_contiguous() else self._contiguous_copy()

    def _contiguous_copy(self) -> Tensor:
        # Reshaping to one dimension puts the elements in logical order.
        return self.reshape(-1).clone().reshape(self.shape)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return (self[index] for index in range(self.shape[0]))

    def __reversed__(self) -> Tensor:
        return self.flip(0) if self.ndim else self

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())

    def __repr__(self) -> str:
        return tensor_text(self)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.ndim == 0 and self._device is not META else format(repr(self), spec)

    # Values --------------------------------------------------------------------------------------------------------

    def item(self) -> Any:
        """The one element as a Python number. On a GPU this waits for it, and reports deferred errors."""
        if self._device is META:
            raise DeviceError("item: a tensor on 'meta' has no data")
        if self.numel() != 1:
            raise ShapeError(f"item: only a tensor of one element can become a number, got shape {self.shape}")
        raise_deferred()
        self._catch_up()
        return self._array.item() if isinstance(self._array, np.ndarray) else to_numpy(self._array).item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self._to_host("tolist").tolist()

    def _to_host(self, caller: str) -> np.ndarray:
        if self._device is META:
            raise DeviceError(f"{caller}: a tensor on 'meta' has no data")
        raise_deferred()
        self._catch_up()
        return to_numpy(self._array)

    def numpy(self) -> np.ndarray:
        """The array itself, shared, not copied.

        Raises:
            GradientError: it requires grad; use ``.detach().numpy()``.
            DeviceError: it is on a GPU; use ``.cpu().numpy()``.
        """
        if self.requires_grad:
            raise GradientError("numpy: the tensor requires grad; use tensor.detach().numpy()")
        if self._device.type == "cuda":
            raise DeviceError(f"numpy: the tensor is on {str(self._device)!r}; use tensor.cpu().numpy()")
        return self._to_host("numpy")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"a copy is needed to convert {array.dtype} to {np.dtype(dtype)}")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **kwargs: Any) -> Any:
        if self.requires_grad:
            raise GradientError("dlpack: the tensor requires grad; use tensor.detach()")
        if self._device is META:
            raise DeviceError("dlpack: a tensor on 'meta' has no data")
        raise_deferred()
        return self._array.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[Any, int]:
        if self._device is META:
            raise DeviceError("dlpack: a tensor on 'meta' has no data")
        return self._array.__dlpack_device__()

    def __bool__(self) -> bool:
        if self.numel() != 1:
            raise ShapeError(f"bool: the truth of a tensor of shape {self.shape} is ambiguous; use .any() or .all()")
        return bool(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"only integer tensors can be indices, got {self.dtype.name}")
        return int(self.item())

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.item(), digits)

    # Where it is ---------------------------------------------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """Another device, another dtype, or both: ``to(device)``, ``to(dtype)``, ``to(device, dtype)``, ``to(other)``.

        Returns itself when nothing changes, unless ``copy=True``. Differentiable.
        """
        copy = kwargs.pop("copy", False)
        kwargs.pop("non_blocking", None)
        kwargs.pop("memory_format", None)  # the order in memory is gpunet's own
        device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
        if kwargs:
            raise TypeError(f"to: unknown argument {next(iter(kwargs))!r}")
        for argument in args:
            if isinstance(argument, Tensor):
                device, dtype = argument._device, argument.dtype
            elif (
                isinstance(argument, Device)
                or (isinstance(argument, int) and not isinstance(argument, bool))
                or (isinstance(argument, str) and argument.partition(":")[0] in ("cpu", "cuda", "meta", "auto"))
            ):
                device = argument
            elif argument is not None and not isinstance(argument, bool):
                dtype = argument
        result = self
        if dtype is not None:
            result = result._cast(canonical_dtype(dtype))
        if device is not None:
            target = to_device(device)
            if target is not result._device:
                if target is META:
                    return Tensor._wrap(MetaArray(result.shape, result.dtype), META)
                if result._device is META:
                    raise DeviceError(f"to: a tensor on 'meta' has no data to copy to {str(target)!r}")
                result = function.apply(TRANSFER, result, target=target, output_device=target)
        return result.clone() if copy and result is self else result

    def cpu(self) -> Tensor:
        """On the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Tensor:
        """On a GPU."""
        return self.to("cuda" if device is None else device)

    def type(self, dtype: Any = None) -> Any:
        """The dtype's name, or the tensor in another dtype, which may be ``LongTensor`` or ``"torch.LongTensor"``."""
        if dtype is None:
            return self.dtype.name
        name = dtype.rpartition(".")[2] if isinstance(dtype, str) else getattr(dtype, "__name__", "")
        return self._cast(canonical_dtype(TYPED.get(name, dtype)))

    def clone(self, *, memory_format: Any = None) -> Tensor:
        """A copy in the same physical order, whatever ``memory_format``; differentiable."""
        return function.apply(REGISTRY["clone"], self)

    # Gradients -----------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are asked for."""
        self._catch_up()
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for gradients, or stop asking.

        Raises:
            DTypeError: an integer or bool tensor.
            GradientError: switching it off on a result of an operation.
        """
        if requires_grad and not is_floating(self.dtype):
            raise DTypeError(f"requires_grad: only floating-point tensors can require grad, got {self.dtype.name}")
        self._catch_up()
        if not requires_grad and self._node is not None:
            raise GradientError("requires_grad: only leaves can stop requiring grad; use tensor.detach()")
        self._requires_grad = bool(requires_grad)
        return self

    @property
    def is_leaf(self) -> bool:
        """True unless an operation that records gradients made it."""
        self._catch_up()
        return self._node is None

    @property
    def grad_fn(self) -> Node | None:
        """The recorded operation that made it."""
        self._catch_up()
        return self._node

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"grad: expected a Tensor or None, got {type(value).__name__}")
            if value.shape != self.shape:
                raise ShapeError(f"grad: must have the tensor's shape {self.shape}, got {value.shape}")
            if value._device is not self._device:
                raise DeviceError(
                    f"grad: must be on the tensor's device {str(self._device)!r}, got {str(value._device)!r}"
                )
            if value.dtype != self.dtype:
                raise DTypeError(f"grad: must have the tensor's dtype {self.dtype.name}, got {value.dtype.name}")
        self._grad = value

    def zero_grad_(self, set_to_none: bool = True) -> None:
        """Hide the gradient (its memory stays and is used again), or fill it with zeros."""
        if self._grad is None:
            return
        if set_to_none:
            self._grad = None
        else:
            self._grad._array[...] = 0
            self._grad._bump_version()

    def _store_grad(self, grad: Any) -> None:
        """Add an incoming gradient to ``.grad``."""
        held = self._grad
        with on_device(self._device):
            if held is not None:
                held._array += grad
                held._bump_version()
                return
            buffer = self._grad_buffer
            if buffer is None or buffer.shape != self._array.shape or buffer.dtype != self._array.dtype:
                # In the tensor's own physical order, whatever order the gradient comes in.
                buffer = self._grad_buffer = array_module(self._array).empty_like(self._array)
            buffer[...] = grad
        self._grad = Tensor._wrap(buffer, self._device)

    def backward(self, gradient: Tensor | None = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add the gradient of this tensor to the ``.grad`` of every leaf it was computed from.

        Args:
            gradient: the gradient of this tensor, of its shape; 1 if it has one element.
            retain_graph: keep the graph for another backward.
            create_graph: not supported: gpunet has first-order gradients only.

        Raises:
            GradientError: it requires no grad, was freed, or something saved was overwritten.
        """
        if create_graph:
            raise GradientError("create_graph: gpunet computes first-order gradients only")
        seed = self._seed(gradient)
        backward([(self._node or self, self._index, seed)], retain_graph)

    def _seed(self, gradient: Any) -> Any:
        if not self.requires_grad:
            raise GradientError("backward: the tensor does not require grad, and was computed from none that does")
        if gradient is None:
            if self.numel() != 1:
                raise ShapeError(
                    f"backward: gradient must be given for a tensor of shape {self.shape}; only one element needs none"
                )
            return array_module(self._array).ones_like(self._array)
        if isinstance(gradient, Tensor):
            if gradient._device is not self._device:
                raise DeviceError(f"backward: gradient must be on {str(self._device)!r}, got {str(gradient._device)!r}")
            gradient = gradient._array
        else:
            gradient = function.to_device_array(np.asarray(gradient), self._device)
        if tuple(gradient.shape) != self.shape:
            raise ShapeError(f"backward: gradient must have shape {self.shape}, got {tuple(gradient.shape)}")
        return gradient.astype(self.dtype, copy=False)

    def detach(self) -> Tensor:
        """The same elements, shared, outside the graph."""
        result = self.data
        result._counter = self._counter
        return result

    def detach_(self) -> Tensor:
        """Leave the graph."""
        if self._view is not None:
            raise GradientError("detach_: a view cannot leave the graph by itself; use detach()")
        self._node, self._index, self._requires_grad = None, 0, False
        self._counter[1] += 1
        return self

    @property
    def data(self) -> Tensor:
        """The same elements, shared, outside the graph and unseen by the version check."""
        self._catch_up()
        result = Tensor._wrap(self._array, self._device)
        if self._view is not None and type(self._stamp) is tuple:  # goes on following what it was copied from
            result._counter = self._counter
            result._view, result._stamp = (*self._view[:2], False), self._stamp
        return result

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"data: expected a Tensor, got {type(value).__name__}")
        self._array, self._device = value._array, value._device

    def retain_grad(self) -> None:
        """Keep the gradient of a result of an operation in ``.grad``, as leaves do."""
        if not self.requires_grad:
            raise GradientError("retain_grad: the tensor does not require grad")
        if self._node is not None:
            if self._node.retained is None:
                self._node.retained = {}
            self._node.retained[self._index] = weakref.ref(self)

    def register_hook(self, hook: Callable[[Tensor], Any]) -> HookHandle:
        """Call ``hook(grad)`` when the gradient of this tensor is complete; what it returns replaces the gradient."""
        if not self.requires_grad:
            raise GradientError("register_hook: the tensor does not require grad")
        if self._node is None:
            hooks: dict[int, Any] = self._hooks if self._hooks is not None else {}
            self._hooks = hooks
        else:
            if self._node.hooks is None:
                self._node.hooks = {}
            hooks = self._node.hooks.setdefault(self._index, {})
        handle = HookHandle(hooks)
        hooks[handle.id] = hook
        return handle

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], Any]) -> HookHandle:
        """Call ``hook(tensor)`` each time a gradient has been added to a leaf's ``.grad``."""
        if not self.requires_grad or self._node is not None:
            raise GradientError("register_post_accumulate_grad_hook: the tensor must be a leaf that requires grad")
        if self._after_hooks is None:
            self._after_hooks = {}
        handle = HookHandle(self._after_hooks)
        self._after_hooks[handle.id] = hook
        return handle

    # Copies and other processes ------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self._node is not None:
            raise GradientError("deepcopy: only leaves can be copied; use tensor.detach().clone()")
        array = self._array if self._device is META else self._array.copy(order="K")
        result = type(self).__new__(type(self))
        Tensor._set(result, array, self._device)
        result._requires_grad = self._requires_grad
        if hasattr(self, "__dict__"):
            result.__dict__.update(self.__dict__)
        if self._grad is not None:
            result._store_grad(self._grad._array)
        memo[id(self)] = result
        return result

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Live tensors cross process borders as NumPy arrays."""
        if self._node is not None:
            raise GradientError("pickle: only leaves can be sent to another process; use tensor.detach()")
        array = self._array if self._device is META else to_numpy(self._array)
        return _rebuild, (type(self), array, self._device, self._requires_grad)


def _rebuild(kind: type[Tensor], array: Any, device: Device, requires_grad: bool) -> Tensor:
    result = kind.__new__(kind)
    Tensor._set(result, transfer(array, device) if device.type == "cuda" else array, device)
    result._requires_grad = requires_grad
    return result


def is_cupy_array(value: Any) -> bool:
    """True for a CuPy array."""
    return type(value).__module__.partition(".")[0] == "cupy" and isinstance(value, cupy().ndarray)
