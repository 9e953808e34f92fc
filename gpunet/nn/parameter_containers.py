"""Modules that hold Parameters in a list or a dict."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, KeysView, Mapping
from typing import Any, overload

from gpunet.autograd import Tensor
from gpunet.nn.container import position_in, string_pairs
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter

__all__ = ["ParameterDict", "ParameterList"]


def _as_parameter(value: Any) -> Any:
    """A Tensor as a Parameter; anything else as it is."""
    return Parameter(value) if isinstance(value, Tensor) and not isinstance(value, Parameter) else value


def _line(key: Any, value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"  ({key}): Object of type: {type(value).__name__}"
    size = "x".join(map(str, value.shape))
    place = f" ({value.device})" if value.device.type == "cuda" else ""
    return f"  ({key}): Parameter containing: [{value.dtype.name} of size {size}{place}]"


class ParameterList(Module):
    """A list whose Tensors are Parameters of the model.

    Args:
        values: what it holds, if anything. Tensors become Parameters; other values are kept beside them.
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self._size = 0
        if values is not None:
            self.extend(values)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return iter([self[position] for position in range(len(self))])

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> ParameterList: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return getattr(self, str(position_in(self, index, "values")))

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, str(position_in(self, index, "values")), _as_parameter(value))

    def append(self, value: Any) -> ParameterList:
        """Add a value at the end; returns the list."""
        self._size += 1
        self[self._size - 1] = value
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add values at the end; returns the list.

        Raises:
            TypeError: one Tensor instead of several, or not an iterable.
        """
        if isinstance(values, Tensor) or not isinstance(values, Iterable):
            raise TypeError(f"ParameterList.extend: takes several values, got one {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[Any]) -> ParameterList:
        return self.extend(values)

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.isdigit()]

    def extra_repr(self) -> str:
        return "\n".join(_line(position, value) for position, value in enumerate(self))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A list of parameters computes nothing."""
        raise RuntimeError("ParameterList: holds parameters but computes nothing")


class ParameterDict(Module):
    """A dict with strings for keys, whose Tensors are Parameters of the model.

    Args:
        parameters: a mapping or pairs, if any. Tensors become Parameters; other values are kept beside them. As in
            PyTorch the keys of a plain dict are sorted; those of an OrderedDict or of pairs keep their order.
    """

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        self._keys: dict[str, None] = {}
        if parameters is not None:
            self.update(parameters)

    def __getitem__(self, key: str) -> Any:
        _check_key(key)
        if key not in self._keys:
            raise KeyError(key)
        return getattr(self, key)

    def __setitem__(self, key: str, value: Any) -> None:
        _check_key(key)
        setattr(self, key, _as_parameter(value))
        self._keys[key] = None

    def __delitem__(self, key: str) -> None:
        del self._keys[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def keys(self) -> KeysView[str]:
        """The keys in their order."""
        return self._keys.keys()

    def values(self) -> Iterator[Any]:
        """The values in the keys' order."""
        return iter([self[key] for key in self._keys])

    def items(self) -> Iterator[tuple[str, Any]]:
        """Pairs of key and value."""
        return iter([(key, self[key]) for key in self._keys])

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default where there is none."""
        return self[key] if key in self._keys else default

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of a key, which becomes the default where there was none."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str) -> Any:
        """Remove a key and return its value."""
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Remove the key that was added last, and return it with its value."""
        if not self._keys:
            raise KeyError("ParameterDict: popitem on an empty dict")
        key = next(reversed(self._keys))
        return key, self.pop(key)

    def clear(self) -> None:
        """Remove everything."""
        for key in list(self._keys):
            del self[key]

    def copy(self) -> ParameterDict:
        """Another dict of the same values."""
        return ParameterDict(OrderedDict(self.items()))

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """A new dict of these keys, each with the default."""
        return ParameterDict([(key, default) for key in keys])

    def update(self, parameters: Any) -> None:
        """Set the values of a mapping or of pairs.

        Raises:
            TypeError, ValueError: neither a mapping nor an iterable of pairs.
        """
        pairs = string_pairs("ParameterDict", parameters)
        plain = isinstance(parameters, Mapping) and not isinstance(parameters, OrderedDict)
        for key, value in sorted(pairs, key=lambda pair: pair[0]) if plain else pairs:
            self[key] = value

    def __or__(self, other: Any) -> ParameterDict:
        joined = self.copy()
        joined.update(other)
        return joined

    def __ror__(self, other: Any) -> ParameterDict:
        joined = ParameterDict(other)
        joined.update(self)
        return joined

    def __ior__(self, other: Any) -> ParameterDict:
        self.update(other)
        return self

    def extra_repr(self) -> str:
        return "\n".join(_line(key, value) for key, value in self.items())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A dict of parameters computes nothing."""
        raise RuntimeError("ParameterDict: holds parameters but computes nothing")


def _check_key(key: Any) -> None:
    if not isinstance(key, str):
        raise TypeError(f"ParameterDict: keys must be strings, got {type(key).__name__}")
