"""Module: what layers and models are made of, with PyTorch's behaviour and names."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, TypeVar, overload

import numpy as np

from gpunet.autograd import Tensor, as_tensor, no_grad, observer
from gpunet.autograd.observer import state as observer_state
from gpunet.backend.devices import Device
from gpunet.backend.devices import device as to_device
from gpunet.backend.errors import CheckpointError, DeviceError, DTypeError
from gpunet.nn.parameter import Parameter
from gpunet.ops.dtypes import canonical_dtype, is_floating

__all__ = ["IncompatibleKeys", "Module", "RemovableHandle"]

ModuleType = TypeVar("ModuleType", bound="Module")


class RemovableHandle:
    """What registering a hook returns: ``remove()`` takes the hook away, and so does leaving ``with handle:``."""

    _next_id: ClassVar[int] = 0

    def __init__(self, hooks: dict[int, Any]) -> None:
        self._hooks = hooks
        self.id = RemovableHandle._next_id
        RemovableHandle._next_id += 1

    def remove(self) -> None:
        """Take the hook away; doing so twice is harmless."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict`` returns: the keys it did not find, and those it could not use."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class _Hook(NamedTuple):
    call: Callable[..., Any]
    with_kwargs: bool
    always_call: bool = False


class Module:
    """Base class of all layers and models.

    A subclass calls ``super().__init__()``, assigns Parameters and Modules as attributes and defines ``forward``;
    calling the module calls ``forward`` and its hooks.

    Attributes:
        training: True in training mode; ``train()`` and ``eval()`` switch it.
    """

    training: bool

    #: Number of devices that a model spreads over; one with more than 1 overrides ``_to_devices``.
    _device_span: ClassVar[int] = 1

    #: Own state keys that a checkpoint may lack, because older ones were written without them.
    _optional_state: ClassVar[frozenset[str]] = frozenset()

    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent_buffers: set[str]
    _forward_hooks: dict[int, _Hook]
    _forward_pre_hooks: dict[int, _Hook]

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
        )

    # Calling -------------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            plain = not self._forward_hooks and not self._forward_pre_hooks
        except AttributeError:
            raise _not_initialised(self, "call the module") from None
        if plain and not observer_state.observers:
            return self.forward(*args, **kwargs)
        return self._call_watched(args, kwargs)

    def _call_watched(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call with hooks, telling observers which module is running."""
        if not observer.active():
            return self._call_with_hooks(args, kwargs)
        observer.push_module(self)
        try:
            return self._call_with_hooks(args, kwargs)
        finally:
            observer.pop_module()

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for pre_hook in list(self._forward_pre_hooks.values()):
            if pre_hook.with_kwargs:
                changed = pre_hook.call(self, args, kwargs)
                if changed is not None:
                    if not (isinstance(changed, tuple) and len(changed) == 2):
                        raise RuntimeError(
                            "a forward pre-hook with kwargs must return None or a pair (args, kwargs), "
                            f"got {type(changed).__name__}"
                        )
                    args, kwargs = changed
            else:
                changed = pre_hook.call(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        called: set[int] = set()
        try:
            result = self.forward(*args, **kwargs)
            for identifier, hook in list(self._forward_hooks.items()):
                called.add(identifier)
                changed = hook.call(self, args, kwargs, result) if hook.with_kwargs else hook.call(self, args, result)
                if changed is not None:
                    result = changed
            return result
        except BaseException:
            for identifier, hook in list(self._forward_hooks.items()):
                if hook.always_call and identifier not in called:
                    if hook.with_kwargs:
                        hook.call(self, args, kwargs, None)
                    else:
                        hook.call(self, args, None)
            raise

    # Attributes ----------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        # Only reached when the ordinary lookup fails.
        attributes = self.__dict__
        for store in ("_parameters", "_buffers", "_modules"):
            found = attributes.get(store)
            if found is not None and name in found:
                return found[name]
        if "_parameters" not in attributes and not name.startswith("__"):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}; was super().__init__() called?"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        attributes = self.__dict__
        parameters = attributes.get("_parameters")
        if isinstance(value, Parameter):
            if parameters is None:
                raise _not_initialised(self, f"assign the parameter {name!r}")
            self._forget(name, keep=parameters)
            self.register_parameter(name, value)
            return
        if parameters is None:
            if isinstance(value, Module):
                raise _not_initialised(self, f"assign the module {name!r}")
            object.__setattr__(self, name, value)
            return
        if name in parameters:
            if value is not None:
                raise TypeError(
                    f"cannot assign a {type(value).__name__} as parameter {name!r}: it takes a Parameter or None"
                )
            parameters[name] = None
            return
        modules: dict[str, Module | None] = attributes["_modules"]
        if isinstance(value, Module):
            self._forget(name, keep=modules)
            modules[name] = value
            return
        if name in modules:
            if value is not None:
                raise TypeError(f"cannot assign a {type(value).__name__} as module {name!r}: it takes a Module or None")
            modules[name] = None
            return
        buffers: dict[str, Tensor | None] = attributes["_buffers"]
        if name in buffers:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"cannot assign a {type(value).__name__} as buffer {name!r}: it takes a Tensor or None")
            buffers[name] = value
            return
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        for store in (self._parameters, self._buffers, self._modules):
            if name in store:
                del store[name]
                self._non_persistent_buffers.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = set(object.__dir__(self))
        names.update(self._parameters, self._buffers, self._modules)
        return sorted(name for name in names if not name[:1].isdigit())

    def _forget(self, name: str, keep: Mapping[str, Any]) -> None:
        """Remove a name from all the places where attributes live, but one."""
        self.__dict__.pop(name, None)
        for store in (self._parameters, self._buffers, self._modules):
            if store is not keep:
                store.pop(name, None)
        self._non_persistent_buffers.discard(name)

    def _check_name(self, kind: str, name: str, store: Mapping[str, Any]) -> None:
        if "_parameters" not in self.__dict__:
            raise _not_initialised(self, f"register the {kind} {name!r}")
        if not isinstance(name, str):
            raise TypeError(f"{kind} name: expected a string, got {type(name).__name__}")
        if "." in name or name == "":
            raise KeyError(f"{kind} name: must not be empty or hold a dot, got {name!r}")
        if name not in store and hasattr(self, name):
            raise KeyError(f"{kind} name: {type(self).__name__} has an attribute {name!r} already")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under a name; None reserves the name.

        Raises:
            TypeError: not a Parameter.
            KeyError: the name is empty, holds a dot or is taken.
            ValueError: the tensor is the result of a computation.
        """
        self._check_name("parameter", name, self.__dict__.get("_parameters", {}))
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"parameter {name!r}: expected a Parameter or None, got {type(param).__name__}")
        if param is not None and not param.is_leaf:
            raise ValueError(
                f"parameter {name!r}: must not be the result of a computation; to compute it from another tensor, "
                "do so in forward()"
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that moves with the module and is no parameter.

        Args:
            name: attribute to reach it by.
            tensor: the tensor; None reserves the name and is left out of the state dict.
            persistent: whether the state dict holds it.

        Raises:
            TypeError: not a Tensor.
            KeyError: the name is empty, holds a dot or is taken.
        """
        self._check_name("buffer", name, self.__dict__.get("_buffers", {}))
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"buffer {name!r}: expected a Tensor or None, got {type(tensor).__name__}")
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent_buffers.discard(name)
        else:
            self._non_persistent_buffers.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child under a name; None reserves the name.

        Raises:
            TypeError: not a Module.
            KeyError: the name is empty, holds a dot or is taken.
        """
        self._check_name("module", name, self.__dict__.get("_modules", {}))
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"module {name!r}: expected a Module or None, got {type(module).__name__}")
        self._modules[name] = module

    register_module = add_module

    # Walking -------------------------------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with their dotted names; one that occurs twice is given once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                below = f"{prefix}.{name}" if prefix else name
                yield from child.named_modules(memo, below, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below, with their names, each once."""
        seen: set[Module] = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> Iterator[Module]:
        """The modules directly below, each once."""
        for _, child in self.named_children():
            yield child

    def _named_members(
        self, store: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, member in getattr(module, store).items():
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(member))
                yield (f"{path}.{name}" if path else name), member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names; a tied one is given once, under its first name."""
        yield from self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """All buffers with their dotted names, each once."""
        yield from self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The module of a dotted name; the empty name is this module.

        Raises:
            AttributeError: there is none.
        """
        module = self
        for name in target.split(".") if target else ():
            child = module._modules.get(name)
            if child is None:
                raise AttributeError(f"{target!r}: {type(module).__name__} has no module {name!r}")
            module = child
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of a dotted name.

        Raises:
            AttributeError: there is none.
        """
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        found = module._parameters.get(name)
        if found is None:
            raise AttributeError(f"{target!r}: {type(module).__name__} has no parameter {name!r}")
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of a dotted name.

        Raises:
            AttributeError: there is none.
        """
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        found = module._buffers.get(name)
        if found is None:
            raise AttributeError(f"{target!r}: {type(module).__name__} has no buffer {name!r}")
        return found

    # State ---------------------------------------------------------------------------------------------------------

    def _own_state(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self._parameters.items():
            if parameter is not None:
                yield name, parameter
        for name, buffer in self._buffers.items():
            if buffer is not None and name not in self._non_persistent_buffers:
                yield name, buffer

    def _named_state(self) -> Iterator[tuple[str, Module, Tensor]]:
        """Key, owner and tensor of everything in the state dict, in its order; a tied tensor under each of its keys."""
        for path, module in self.named_modules(remove_duplicate=False):
            for name, tensor in module._own_state():
                yield (f"{path}.{name}" if path else name), module, tensor

    def state_dict(
        self, *, destination: dict[str, Tensor] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Tensor]:
        """All parameters and persistent buffers by dotted name, in PyTorch's order.

        Args:
            destination: a dict to add them to.
            prefix: put before each name.
            keep_vars: give the Parameters themselves instead of detached Tensors.

        Returns:
            A dict of Tensors that share their memory with the module.
        """
        result: dict[str, Tensor] = OrderedDict() if destination is None else destination
        for key, _, tensor in self._named_state():
            result[prefix + key] = tensor if keep_vars else tensor.detach()
        return result

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values into the parameters and buffers: everything, or nothing if anything does not fit.

        Args:
            state_dict: Tensors or NumPy arrays by dotted name. They are cast to the module's dtypes.
            strict: raise where keys are missing or unexpected. Values that do not fit are an error in any case.

        Returns:
            The missing and the unexpected keys.

        Raises:
            CheckpointError: one report of all that is missing, unexpected or of another shape. Where PyTorch has
                already copied what did fit, here nothing has been written.
            TypeError: not a mapping.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict: expected a dict, got {type(state_dict).__name__}")
        expected: dict[str, Tensor] = {}
        optional: set[str] = set()
        for key, owner, tensor in self._named_state():
            expected[key] = tensor
            if key.rpartition(".")[2] in owner._optional_state:
                optional.add(key)
        missing = [key for key in expected if key not in state_dict and key not in optional]
        unexpected = [str(key) for key in state_dict if key not in expected]
        values: dict[str, Tensor] = {}
        wrong: list[tuple[str, str]] = []
        for key, tensor in expected.items():
            if key not in state_dict:
                continue
            value = state_dict[key]
            if not isinstance(value, (Tensor, np.ndarray, np.generic)):
                wrong.append((key, f"expected a Tensor or an array, got {type(value).__name__}"))
                continue
            shape = tuple(value.shape)
            if shape != tuple(tensor.shape):
                wrong.append((key, f"the model has {tuple(tensor.shape)}, the state dict {shape}"))
                continue
            try:
                values[key] = value.detach() if isinstance(value, Tensor) else as_tensor(np.asarray(value))
            except DTypeError as error:
                wrong.append((key, str(error)))
        if wrong or (strict and (missing or unexpected)):
            raise CheckpointError(_state_report(type(self).__name__, expected, missing, unexpected, wrong))
        with no_grad():
            for key, value in values.items():
                expected[key].copy_(value)
        return IncompatibleKeys(missing, unexpected)

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

    def _apply(self: ModuleType, fn: Callable[[Tensor], Tensor]) -> ModuleType:
        """Replace the data of every parameter, its gradient, and every buffer; Parameters stay the same objects."""
        with no_grad():
            for module in self.modules():
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

        Raises:
            DeviceError: this model lives on one device.
        """
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
        a tuple of devices, ``to((d0, d1))``, and refuses a single one.

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

    def bfloat16(self: ModuleType) -> ModuleType:
        """Cast floating parameters and buffers to bfloat16; needs the ml_dtypes package."""
        return self.to(dtype="bfloat16")

    # Hooks ---------------------------------------------------------------------------------------------------------

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before ``forward``; what it returns, if anything, replaces the arguments.

        Args:
            hook: the function.
            prepend: call it before the hooks registered so far.
            with_kwargs: call ``hook(module, args, kwargs)``, which returns None or a pair.
        """
        return _add_hook(self._forward_pre_hooks, _Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after ``forward``; what it returns, if anything, replaces the output.

        Args:
            hook: the function.
            prepend: call it before the hooks registered so far.
            with_kwargs: call ``hook(module, args, kwargs, output)``.
            always_call: call it, with None for the output, if ``forward`` raised.
        """
        return _add_hook(self._forward_hooks, _Hook(hook, with_kwargs, always_call), prepend)

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


def _add_hook(hooks: dict[int, _Hook], hook: _Hook, prepend: bool) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    if prepend:
        later = dict(hooks)
        hooks.clear()
        hooks[handle.id] = hook
        hooks.update(later)
    else:
        hooks[handle.id] = hook
    return handle


def _not_initialised(module: Module, action: str) -> AttributeError:
    return AttributeError(f"{type(module).__name__}: cannot {action} before super().__init__() is called")


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


def _state_report(
    name: str,
    expected: Mapping[str, Tensor],
    missing: Iterable[str],
    unexpected: Iterable[str],
    wrong: Iterable[tuple[str, str]],
) -> str:
    missing, unexpected, wrong = list(missing), list(unexpected), list(wrong)
    counts = [
        f"{len(keys)} {what}"
        for keys, what in ((missing, "missing"), (unexpected, "unexpected"), (wrong, "unfit"))
        if keys
    ]
    lines = [f"{name}: the state dict does not fit ({', '.join(counts)}); nothing was loaded"]
    for key in missing:
        tensor = expected[key]
        lines.append(f"  missing:    {key}, {tuple(tensor.shape)} {tensor.dtype.name}")
    # Prefer keys that nothing else fills: those are what a renamed key was meant for.
    for key in unexpected:
        close = difflib.get_close_matches(key, missing, n=1) or difflib.get_close_matches(key, list(expected), n=1)
        lines.append(f"  unexpected: {key}" + (f"; did you mean {close[0]}?" if close else ""))
    lines += [f"  unfit:      {key}: {reason}" for key, reason in wrong]
    return "\n".join(lines)
