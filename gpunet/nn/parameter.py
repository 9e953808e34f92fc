"""Parameter: a Tensor that a Module counts as its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.autograd import Tensor
from gpunet.backend.devices import Device, transfer
from gpunet.ops.updates import memory_order

__all__ = ["Parameter"]


class Parameter(Tensor):
    """A tensor to be learned: assigned to a Module's attribute, it is one of the module's ``parameters()``.

    Args:
        data: the values, whose memory it shares; nothing gives an empty one.
        requires_grad: whether gradients are asked for.

    Raises:
        TypeError: not a Tensor.
        DTypeError: an integer or bool tensor that is to require a gradient.
    """

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        if data is None:
            super().__init__()
        elif isinstance(data, Tensor):
            self._set(data._array, data.device)
        else:
            raise TypeError(f"data: a Parameter is made from a Tensor, got {type(data).__name__}")
        self.requires_grad_(requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """To another process it goes as a NumPy array, in the order in which it lies in memory."""
        _, (cls, array, device, requires_grad) = super().__reduce_ex__(protocol)
        order = memory_order(array.shape, array.strides, array.itemsize) if isinstance(array, np.ndarray) else None
        if order is not None:
            array = array.transpose(order)
        return _rebuild, (cls, array, order, device, requires_grad)


def _rebuild(
    cls: type[Parameter], array: Any, order: tuple[int, ...] | None, device: Device, requires_grad: bool
) -> Parameter:
    if order is not None:
        array = array.transpose(tuple(np.argsort(order)))
    parameter = cls.__new__(cls)
    parameter._set(transfer(array, device) if device.type == "cuda" else array, device)
    parameter._requires_grad = requires_grad
    return parameter
