"""NumPy's names for keyword arguments, which PyTorch's methods take beside their own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["numpy_names"]

Method = TypeVar("Method", bound=Callable[..., Any])

_NAMES = {"axis": "dim", "keepdims": "keepdim"}


def numpy_names(method: Method) -> Method:
    """Let a method with ``dim`` and ``keepdim`` be called with ``axis`` and ``keepdims`` as well."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            for alias, name in _NAMES.items():
                if alias in kwargs and name not in kwargs:
                    kwargs[name] = kwargs.pop(alias)
        return method(*args, **kwargs)

    return call  # type: ignore[return-value]
