"""What a Module holds: parameters, buffers and modules as attributes, and the walks over them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from gpunet.autograd import Tensor
from gpunet.backend.errors import DeviceError, ShapeError
from gpunet.nn.parameter import Parameter

if TYPE_CHECKING:
    from gpunet.nn.module import Module

__all__ = ["ModuleTree", "name_layer", "not_initialised"]


class ModuleTree:
    """The part of Module that keeps parameters, buffers and children, and finds them by name."""

    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent_buffers: set[str]

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
                raise not_initialised(self, f"assign the parameter {name!r}")
            self._forget(name, keep=parameters)
            self.register_parameter(name, value)
            return
        if parameters is None:
            if isinstance(value, ModuleTree):
                raise not_initialised(self, f"assign the module {name!r}")
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
        if isinstance(value, ModuleTree):
            self._forget(name, keep=modules)
            modules[name] = cast("Module", value)
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
            raise not_initialised(self, f"register the {kind} {name!r}")
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
        if module is not None and not isinstance(module, ModuleTree):
            raise TypeError(f"module {name!r}: expected a Module or None, got {type(module).__name__}")
        self._modules[name] = module

    register_module = add_module

    # Walking -------------------------------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with their dotted names; one that occurs twice is given once."""
        memo = set() if memo is None else memo
        module = cast("Module", self)
        if module in memo:
            return
        if remove_duplicate:
            memo.add(module)
        yield prefix, module
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
        modules: Iterable[tuple[str, ModuleTree]] = [(prefix, self)]
        if recurse:
            modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
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
        module = cast("Module", self)
        for name in target.split(".") if target else ():
            child = module._modules.get(name)
            if child is None:
                raise AttributeError(f"{target!r}: {type(module).__name__} has no module {name!r}")
            module = child
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Replace the module of a dotted name, or add one to a parent that is there.

        Args:
            target: the name.
            module: the new module.
            strict: only replace; do not add.

        Raises:
            ValueError: the name is empty, or ``module`` is no Module.
            AttributeError: the parent is not there, the name is another kind of attribute, or with ``strict`` is new.
        """
        if target == "":
            raise ValueError("target: must name a module, got ''")
        if not isinstance(module, ModuleTree):
            raise ValueError(f"module: expected a Module, got {type(module).__name__}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{target!r}: {type(parent).__name__} has no module {name!r}")
        if not isinstance(getattr(parent, name, module), ModuleTree):
            raise AttributeError(f"{target!r}: the attribute {name!r} of {type(parent).__name__} is not a Module")
        setattr(parent, name, module)

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


def not_initialised(module: ModuleTree, action: str) -> AttributeError:
    """The error of a subclass whose ``__init__`` does not call this one's."""
    return AttributeError(f"{type(module).__name__}: cannot {action} before super().__init__() is called")


def name_layer(error: ShapeError | DeviceError, module: ModuleTree) -> None:
    """Let an error that passes through a module's call say which layer below the module refused its input."""
    layer, message = error.__dict__.setdefault("_raised_in", (module, str(error)))
    path = next((path for path, below in module.named_modules() if below is layer), "")
    if path:
        error.args = (f"{message}; in layer {path} ({type(layer).__name__})",)
