"""Watching operations go by: what export, graph plots, summaries and the profiler are built on.

An observer is called as ``observer(op, inputs, attributes, outputs, module_path)`` after each operation that goes
through ``apply``, in the thread that registered it. Inputs and outputs are Tensors (or scalars and None).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Observer", "active", "module_path", "observe", "pop_module", "push_module"]

Observer = Callable[[Any, tuple[Any, ...], dict[str, Any], tuple[Any, ...], str], None]


class _State(threading.local):
    def __init__(self) -> None:
        self.observers: list[Observer] = []
        self.modules: list[tuple[Any, str]] = []


state = _State()


def active() -> bool:
    """True if anyone watches this thread."""
    return bool(state.observers)


@contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Call ``observer`` for every operation of this thread inside the block."""
    state.observers.append(observer)
    try:
        yield
    finally:
        state.observers.remove(observer)


def push_module(module: Any) -> None:
    """Note that a module's forward begins. Its name is the one its caller knows it by."""
    if not state.modules:
        path = ""
    else:
        parent, above = state.modules[-1]
        name = _name_in(parent, module)
        path = f"{above}.{name}" if above else name
    state.modules.append((module, path))


def _name_in(parent: Any, module: Any) -> str:
    for name, child in parent.named_modules():
        if child is module:
            return str(name)
    return type(module).__name__


def pop_module() -> None:
    """Note that the innermost module's forward has ended."""
    state.modules.pop()


def module_path() -> str:
    """The dotted path of the module whose forward is running, relative to the outermost; empty outside."""
    return state.modules[-1][1] if state.modules else ""
