"""The names under which models are made."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, TypeVar

from gpunet.nn import Module

__all__ = ["UnknownModelError", "get_model", "list_models", "register_model"]

Factory = TypeVar("Factory", bound=Callable[..., Module])

_FACTORIES: dict[str, Callable[..., Module]] = {}


class UnknownModelError(ValueError):
    """A name that no model has; the message gives the closest ones."""


def register_model(factory: Factory) -> Factory:
    """Make a function reachable by its name; used as a decorator.

    Raises:
        ValueError: the name is taken.
    """
    name = factory.__name__
    if name in _FACTORIES:
        raise ValueError(f"a model named {name!r} is registered already")
    _FACTORIES[name] = factory
    return factory


def list_models() -> list[str]:
    """All names, in alphabetical order."""
    return sorted(_FACTORIES)


def get_model(name: str, **kwargs: Any) -> Module:
    """Make a model.

    Args:
        name: one of ``list_models()``.
        kwargs: passed on to the model's function.

    Raises:
        UnknownModelError: no model has that name.
    """
    factory = _FACTORIES.get(name) if isinstance(name, str) else None
    if factory is None:
        close = difflib.get_close_matches(str(name).lower(), list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(list_models())}"
        raise UnknownModelError(f"unknown model {name!r}; {hint}")
    return factory(**kwargs)
