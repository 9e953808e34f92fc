"""Modules that hold other modules, in order or by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import ItemsView, Iterable, Iterator, KeysView, ValuesView
from typing import Any, overload

from gpunet.nn.module import Module, _bracket, _indent

__all__ = ["ModuleDict", "ModuleList", "Sequential", "position_in", "string_pairs"]


def position_in(container: Module, index: Any, what: str) -> int:
    """An index of a container, negative ones counted from the end.

    Raises:
        TypeError: not an integer.
        IndexError: out of range.
    """
    name = type(container).__name__
    if not hasattr(index, "__index__"):
        raise TypeError(f"{name}: index must be an integer or a slice, got {type(index).__name__}")
    position, length = index.__index__(), len(container)
    if not -length <= position < length:
        raise IndexError(f"{name}: index {position} is out of range for {length} {what}")
    return int(position % length)


def string_pairs(name: str, values: Any) -> list[tuple[Any, Any]]:
    """The pairs of a mapping, or of an iterable of pairs.

    Raises:
        TypeError, ValueError: it is neither.
    """
    if hasattr(values, "items"):
        return list(values.items())
    if not isinstance(values, Iterable):
        raise TypeError(f"{name}.update: takes a mapping or pairs, got {type(values).__name__}")
    pairs = list(values)
    for place, pair in enumerate(pairs):
        if not isinstance(pair, Iterable):
            raise TypeError(f"{name}.update: element {place} must be a pair, got {type(pair).__name__}")
        if len(tuple(pair)) != 2:
            raise ValueError(f"{name}.update: element {place} must be a pair, got {len(tuple(pair))} values")
    return [(key, value) for key, value in pairs]


class _ModuleSequence(Module):
    """What Sequential and ModuleList share: children in order, reached by position."""

    def _check(self, module: Any) -> Module:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: holds Modules, got {type(module).__name__}")
        return module

    def _all(self) -> list[Module]:
        return [module for module in self._modules.values() if module is not None]

    def _position(self, index: Any) -> int:
        return position_in(self, index, "modules")

    def _renumber(self, modules: Iterable[Module]) -> None:
        self._modules = {str(index): module for index, module in enumerate(modules)}

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._all())

    def __setitem__(self, index: int, module: Module) -> None:
        key = list(self._modules)[self._position(index)]
        self._modules[key] = self._check(module)

    def append(self, module: Module) -> Any:
        """Add a module at the end; returns the container."""
        self.add_module(str(len(self)), self._check(module))
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end; returns the container."""
        if isinstance(modules, Module) and not isinstance(modules, _ModuleSequence):
            raise TypeError(f"{type(self).__name__}.extend: takes several Modules, got one {type(modules).__name__}")
        for module in list(modules):
            self.append(module)
        return self

    def pop(self, index: int | slice) -> Any:
        """Remove a module and return it."""
        module = self[index]  # type: ignore[index]
        del self[index]
        return module

    def __delitem__(self, index: int | slice) -> None:
        keys = list(self._modules)
        for key in keys[index] if isinstance(index, slice) else [keys[self._position(index)]]:
            del self._modules[key]
        self._tidy()

    def _tidy(self) -> None:
        """Close the gaps in numbered names."""
        self._renumber(self._all())

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.isdigit()]


class Sequential(_ModuleSequence):
    """Modules called one after another.

    Args:
        modules: the modules, or one OrderedDict of names and modules.
    """

    @overload
    def __init__(self, *modules: Module) -> None: ...

    @overload
    def __init__(self, modules: OrderedDict[str, Module], /) -> None: ...

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], dict):
            for name, module in modules[0].items():
                self.add_module(name, self._check(module))
        else:
            for module in modules:
                self.append(module)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(OrderedDict(list(self._modules.items())[index]))  # type: ignore[arg-type]
        return self._all()[self._position(index)]

    def insert(self, index: int, module: Module) -> Sequential:
        """Put a module before the one at ``index``; the names are numbered anew."""
        if not -len(self) <= index <= len(self):
            raise IndexError(f"Sequential: index {index} is out of range for {len(self)} modules")
        modules = self._all()
        modules.insert(index, self._check(module))
        self._renumber(modules)
        return self

    def _tidy(self) -> None:
        if all(name.isdigit() for name in self._modules):
            self._renumber(self._all())

    def __add__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            return NotImplemented
        return Sequential(*self, *other)

    def __iadd__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            return NotImplemented
        self.extend(list(other))
        return self

    def __mul__(self, times: int) -> Sequential:
        """The same modules several times over; their parameters are shared."""
        return Sequential(*(self._all() * _repetitions(times)))

    __rmul__ = __mul__

    def __imul__(self, times: int) -> Sequential:
        self.extend(self._all() * (_repetitions(times) - 1))
        return self

    def forward(self, input: Any) -> Any:
        """What the last module makes of what the others made of the input."""
        for module in self._modules.values():
            input = module(input)  # type: ignore[misc]
        return input


def _repetitions(times: Any) -> int:
    if not isinstance(times, int):
        raise TypeError(f"Sequential: can be multiplied by an integer, got {type(times).__name__}")
    if times <= 0:
        raise ValueError(f"Sequential: must be multiplied by a positive integer, got {times}")
    return times


class ModuleList(_ModuleSequence):
    """A list of modules whose parameters belong to the model.

    Args:
        modules: the modules, if any.
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(self._all()[index])
        return self._all()[self._position(index)]

    def insert(self, index: int, module: Module) -> None:
        """Put a module before the one at ``index``."""
        modules = self._all()
        modules.insert(index, self._check(module))
        self._renumber(modules)

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        self.extend(modules)
        return self

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """A list of modules computes nothing."""
        raise NotImplementedError("ModuleList: holds modules but computes nothing; call the modules in it")

    def __repr__(self) -> str:
        # Equal neighbours are shown once, with their number.
        runs: list[tuple[int, int, str]] = []
        for position, module in enumerate(self):
            text = repr(module)
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], position, text)
            else:
                runs.append((position, position, text))
        children = [
            f"({start}): {_indent(text)}" if start == end else f"({start}-{end}): {end - start + 1} x {_indent(text)}"
            for start, end, text in runs
        ]
        return _bracket(self._get_name(), [], children)


class ModuleDict(Module):
    """A dict of modules whose parameters belong to the model; keys are strings and keep their order.

    Args:
        modules: a mapping or pairs, if any.
    """

    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def keys(self) -> KeysView[str]:
        """The keys in their order."""
        return self._modules.keys()

    def values(self) -> ValuesView[Any]:
        """The modules in the keys' order."""
        return self._modules.values()

    def items(self) -> ItemsView[str, Any]:
        """Pairs of key and module."""
        return self._modules.items()

    def clear(self) -> None:
        """Remove everything."""
        self._modules.clear()

    def pop(self, key: str) -> Any:
        """Remove a key and return its module."""
        return self._modules.pop(key)

    def update(self, modules: Any) -> None:
        """Set the modules of a mapping or of pairs.

        Raises:
            TypeError, ValueError: neither a mapping nor an iterable of pairs, or a value that is no Module.
        """
        for key, module in string_pairs("ModuleDict", modules):
            self[key] = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """A dict of modules computes nothing."""
        raise NotImplementedError("ModuleDict: holds modules but computes nothing; call the modules in it")
