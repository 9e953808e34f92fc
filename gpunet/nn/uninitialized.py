"""Parameters and buffers whose shape is not known yet: what lazy layers hold before their first input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, TypeGuard

import numpy as np

from gpunet.autograd import Tensor, empty
from gpunet.backend.devices import Device
from gpunet.nn.parameter import Parameter

__all__ = ["UninitializedBuffer", "UninitializedParameter", "is_lazy"]

Make = Callable[[tuple[int, ...], Any, Any], Tensor]


def _plain(shape: tuple[int, ...], device: Any, dtype: Any) -> Tensor:
    return empty(shape, device=device, dtype=dtype)


class _NoArray:
    """Stands where the array will be. It has a dtype; whoever asks for more reads what to do."""

    __slots__ = ("dtype", "make")

    def __init__(self, dtype: np.dtype[Any], make: Make) -> None:
        self.dtype = dtype
        self.make = make

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(
            "a lazy layer's parameter has no shape and no values before the first input: call the model once "
            "(a dry run) first"
        )


class _Uninitialized:
    """What both kinds share. No Tensor itself, so that what it is mixed into has a Tensor's layout in memory."""

    __slots__ = ()

    #: What it is once it has a shape.
    cls_to_become: ClassVar[type[Tensor]] = Tensor

    def _begin(self: Any, requires_grad: bool, device: Any, dtype: Any, make: Make) -> None:
        like = empty((0,), device=device, dtype=dtype)
        self._set(_NoArray(like.dtype, make), like.device)
        self._requires_grad = requires_grad

    def materialize(self: Any, shape: tuple[int, ...], device: Any = None, dtype: Any = None) -> None:
        """Give it a shape: from now on it is an ordinary tensor, uninitialised, and the same object.

        Args:
            shape: the shape.
            device, dtype: others than it was made with.
        """
        made = self._array.make(
            tuple(shape), self._device if device is None else device, self.dtype if dtype is None else dtype
        )
        self.__class__ = self.cls_to_become
        self._array, self._device = made._array, made._device

    def to(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Another device or dtype for when it has a shape; itself where nothing changes."""
        moved = empty((0,), device=self._device, dtype=self.dtype).to(*args, **kwargs)
        if moved.device is self._device and moved.dtype == self.dtype:
            return self
        return _again(type(self), self._requires_grad, moved.device, moved.dtype, self._array.make)

    def detach(self) -> Any:
        """Itself: there are no values to share."""
        return self

    @property
    def data(self) -> Any:
        """Itself; written, it takes over the other's device and dtype."""
        return self

    @data.setter
    def data(self: Any, value: Any) -> None:
        self._array, self._device = value._array, value._device

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        result = _again(type(self), self._requires_grad, self._device, self.dtype, self._array.make)
        memo[id(self)] = result
        return result

    def __reduce_ex__(self: Any, protocol: Any) -> tuple[Any, ...]:
        return _again, (type(self), self._requires_grad, self._device, self.dtype, self._array.make)


def _again(kind: type[_Uninitialized], requires_grad: bool, device: Device, dtype: Any, make: Make) -> Any:
    result: Any = kind.__new__(kind)
    result._begin(requires_grad, device, dtype, make)
    return result


class UninitializedParameter(_Uninitialized, Parameter):
    """A Parameter whose shape is not known yet. ``materialize(shape)`` makes it an ordinary one.

    Args:
        requires_grad: whether gradients are asked for.
        device: where it will live.
        dtype: its floating type.
        make: makes the tensor from a shape, a device and a dtype, where the order in memory matters.
    """

    cls_to_become = Parameter

    def __init__(
        self, requires_grad: bool = True, device: Any = None, dtype: Any = None, *, make: Make = _plain
    ) -> None:
        self._begin(requires_grad, device, dtype, make)


class UninitializedBuffer(_Uninitialized, Tensor):
    """A buffer whose shape is not known yet. ``materialize(shape)`` makes it an ordinary tensor.

    Args:
        requires_grad: whether gradients are asked for.
        device: where it will live.
        dtype: its type.
    """

    __slots__ = ()

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: Any = None) -> None:
        self._begin(requires_grad, device, dtype, _plain)


def is_lazy(value: Any) -> TypeGuard[UninitializedBuffer | UninitializedParameter]:
    """Whether a parameter or buffer has no shape yet."""
    return isinstance(value, _Uninitialized)
