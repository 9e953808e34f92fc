"""Module: what layers and models are made of, with PyTorch's behaviour and names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, overload

import numpy as np

from gpunet.autograd import Tensor, no_grad, observer
from gpunet.autograd.observer import state as observer_state
from gpunet.backend.devices import Device, current_device
from gpunet.backend.devices import device as to_device
from gpunet.backend.errors import DeviceError, DTypeError, ShapeError
from gpunet.nn.module_hooks import RemovableHandle
from gpunet.nn.module_state import IncompatibleKeys, ModuleState
from gpunet.nn.module_tree import name_layer, not_initialised
from gpunet.ops.dtypes import canonical_dtype, is_floating

__all__ = ["IncompatibleKeys", "Module", "RemovableHandle"]

ModuleType = TypeVar("ModuleType", bound="Module")


class Module(ModuleState):
    """Base class of all layers and models.

    A subclass calls ``super().__init__()``, assigns Parameters and Modules as attributes and defines ``forward``;
    calling the module calls ``forward`` and its hooks.

    Attributes:
        training: True in training mode; ``train()`` and ``eval()`` switch it.
    """

    training: bool

    #: Number of devices that a model spreads over; one with more than 1 overrides ``_to_devices``.
    _device_span: ClassVar[int] = 1

    def __init__(self) -> None:
        # Written past __setattr__, which needs these to be there.
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _modules={},
            _non_persistent_buffers=set(),
            _forward_hooks={},
            _forward_pre_hooks={},
            _backward_hooks={},
            _backward_pre_hooks={},
            _state_hooks={},
        )

    # Calling -------------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            hooked = self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks
        except AttributeError:
            raise not_initialised(self, "call the module") from None
        try:
            if not hooked and not observer_state.observers:
                return self.forward(*args, **kwargs)
            return self._call_watched(args, kwargs)
        except (ShapeError, DeviceError) as error:
            name_layer(error, self)
            raise

    def _call_watched(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call with hooks, telling observers which module is running."""
        if not observer.active():
            return self._call_with_hooks(args, kwargs)
        observer.push_module(self)
        try:
            return self._call_with_hooks(args, kwargs)
        finally:
            observer.pop_module()

    # Modes ---------------------------------------------------------------------------------------------------------

    def train(self: ModuleType, mode: bool = True) -> ModuleType:
        """Switch this module and all below it to training mode, or out of it."""
        if not isinstance(mode, bool):
            raise ValueError(f"mode: expected True or False, got {mode!r}")
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self: ModuleType) -> ModuleType:
        """Switch to evaluation: ``train(False)``."""
        return self.train(False)

    def requires_grad_(self: ModuleType, requires_grad: bool = True) -> ModuleType:
        """Switch gradients on or off for all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or set them to zero."""
        for parameter in self.parameters():
            parameter.zero_grad_(set_to_none)

    def apply(self: ModuleType, fn: Callable[[Module], Any]) -> ModuleType:
        """Call a function on every module, children first, such as an initialiser."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # Devices and dtypes --------------------------------------------------------------------------------------------

    def _apply(self: ModuleType, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ModuleType:
        """Replace the data of every parameter, its gradient, and every buffer; Parameters stay the same objects."""
        with no_grad():
            for module in self.modules() if recurse else (self,):
                for parameter in module._parameters.values():
                    if parameter is None:
                        continue
                    gradient = parameter.grad
                    moved = fn(parameter)
                    if moved is not parameter:
                        parameter.grad = parameter._grad_buffer = None
                        parameter.data = moved
                        if gradient is not None:
                            parameter.grad = fn(gradient)
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[name] = fn(buffer)
        return self

    def _to_devices(self, devices: tuple[Device, ...]) -> None:
        """Spread over several devices; a model with a ``_device_span`` above 1 overrides this.

        Any other hands them on to the modules within that take them; the rest of it goes to the first device, where
        those take their inputs and give their outputs.

        Raises:
            DeviceError: this model lives on one device.
        """
        children = [child for child in self._modules.values() if child is not None]
        spread = [child for child in children if any(module._device_span > 1 for module in child.modules())]
        if spread:
            for child in spread:  # first: they refuse a wrong number of devices before anything is moved
                child._to_devices(devices)
            for child in children:
                if child not in spread:
                    child.to(devices[0])
            self._apply(lambda tensor: tensor.to(devices[0]), recurse=False)
            return
        names = ", ".join(str(device) for device in devices)
        raise DeviceError(
            f"{type(self).__name__}.to(({names})): this model lives on one device; only a model-parallel one takes a "
            "tuple of devices"
        )

    @overload
    def to(self: ModuleType, device: Any = ..., dtype: Any = ..., non_blocking: bool = ...) -> ModuleType: ...

    @overload
    def to(self: ModuleType, dtype: Any, non_blocking: bool = ...) -> ModuleType: ...

    def to(self: ModuleType, *args: Any, **kwargs: Any) -> ModuleType:
        """Move to a device, cast floating parameters and buffers to a dtype, or both; in place.

        Called as ``to(device)``, ``to(dtype)``, ``to(device, dtype)`` or ``to(tensor)``. A model-parallel model takes
        a tuple of devices, ``to((d0, d1))``, and refuses a single one; so does what such a model is a part of, whose
        other parts go to the first device.

        Returns:
            The module itself.

        Raises:
            DeviceError: no such device, or a number of devices that the model does not spread over.
            DTypeError: not a floating dtype.
        """
        device, dtype = _parse_to(args, kwargs)
        if dtype is not None and not is_floating(dtype):
            raise DTypeError(f"dtype: a module's parameters are floating point, got {dtype.name}")
        if isinstance(device, tuple):
            self._to_devices(device)
            device = None
        elif device is not None:
            for module in self.modules():
                if module._device_span > 1:
                    raise DeviceError(
                        f"device: {type(module).__name__} spreads over {module._device_span} devices, got the single "
                        f"device {str(device)!r}; pass a tuple, .to((d0, d1))"
                    )

        def move(tensor: Tensor) -> Tensor:
            if dtype is not None and is_floating(tensor.dtype):
                return tensor.to(tensor.device if device is None else device, dtype)
            return tensor if device is None else tensor.to(device)

        return self if device is None and dtype is None else self._apply(move)

    def cpu(self: ModuleType) -> ModuleType:
        """Move to the CPU."""
        return self.to("cpu")

    def cuda(self: ModuleType, device: int | str | Device | None = None) -> ModuleType:
        """Move to a GPU, the current one unless named."""
        return self.to("cuda" if device is None else to_device(device))

    def float(self: ModuleType) -> ModuleType:
        """Cast floating parameters and buffers to float32."""
        return self.to(dtype=np.dtype(np.float32))

    def double(self: ModuleType) -> ModuleType:
        """Cast floating parameters and buffers to float64."""
        return self.to(dtype=np.dtype(np.float64))

    def half(self: ModuleType) -> ModuleType:
        """Cast floating parameters and buffers to float16."""
        return self.to(dtype=np.dtype(np.float16))

    def type(self: ModuleType, dst_type: Any) -> ModuleType:
        """Cast all parameters and buffers, integers among them, to a dtype."""
        dtype = canonical_dtype(dst_type)
        return self._apply(lambda tensor: tensor.to(dtype))

    def to_empty(self: ModuleType, *, device: str | Device | None, recurse: bool = True) -> ModuleType:
        """Move to a device without the values, as a module made on ``meta`` needs before its state is loaded.

        Args:
            device: where to; None is the default device.
            recurse: the modules below as well.
        """
        target = current_device(device)
        return self._apply(lambda tensor: tensor.new_empty(tensor.shape, device=target), recurse)

    def bfloat16(self: ModuleType) -> ModuleType:
        """Cast floating parameters and buffers to bfloat16; needs the ml_dtypes package."""
        return self.to(dtype="bfloat16")

    # Text ----------------------------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What stands between the brackets of the module's text; subclasses define it."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {_indent(repr(child))}" for name, child in self._modules.items()]
        return _bracket(self._get_name(), lines, children)


def _indent(text: str) -> str:
    first, *rest = text.split("\n")
    return "\n".join([first, *("  " + line for line in rest)])


def _bracket(name: str, extra: list[str], children: list[str]) -> str:
    lines = extra + children
    if len(extra) == 1 and not children:
        return f"{name}({extra[0]})"
    if not lines:
        return f"{name}()"
    return name + "(\n  " + "\n  ".join(lines) + "\n)"


def _parse_to(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Device | tuple[Device, ...] | None, np.dtype[Any] | None]:
    """Sort out the arguments of ``to``: they may be a device, a dtype, both, or a tensor to be like."""
    unknown = set(kwargs) - {"device", "dtype", "non_blocking", "tensor"}
    if unknown:
        raise TypeError(f"to() got an unexpected argument {sorted(unknown)[0]!r}")
    positional = [value for value in args if not isinstance(value, bool)]  # a bool is non_blocking
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    like = kwargs.get("tensor")
    for value in positional:
        if isinstance(value, Tensor):
            like = value
        elif value is None:
            continue
        elif isinstance(value, (Device, tuple, list, int)) or (isinstance(value, str) and _names_a_device(value)):
            device = value
        else:
            dtype = value
    if like is not None:
        device, dtype = like.device, like.dtype
    if isinstance(device, (tuple, list)):
        found: Any = tuple(to_device(one) for one in device)
    else:
        found = None if device is None else to_device(device)
    return found, None if dtype is None else canonical_dtype(dtype)


def _names_a_device(text: str) -> bool:
    return text.partition(":")[0] in ("cpu", "cuda", "meta", "auto")
