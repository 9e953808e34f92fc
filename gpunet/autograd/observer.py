"""Watching operations go by: what export, graph plots, summaries and the profiler are built on.

An observer is called as ``observer(op, inputs, attributes, outputs, module_path)`` after each operation that goes
through ``apply``, in the thread that registered it. Inputs and outputs are Tensors (or scalars and None).

An observer that has the methods ``before(computation)`` and ``after(computation)`` is called with them as well, right
around the arrays' computation, in forward and in backward. One that has ``written(target, result)`` is called where a
Tensor is about to take over the value of a result in place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Computation",
    "Observer",
    "active",
    "computing",
    "module_path",
    "observe",
    "pop_module",
    "push_module",
]

Observer = Callable[[Any, tuple[Any, ...], dict[str, Any], tuple[Any, ...], str], None]


@dataclass
class Computation:
    """What an observer with ``before`` and ``after`` is told about.

    Attributes:
        phase: ``"forward"`` or ``"backward"``.
        op: the operation.
        context: its node, the same object in both phases; in a forward that is not recorded, something else.
        device: where it runs.
        arrays: the inputs, or the gradients of the outputs.
        attributes: the operation's keyword arguments.
        macs: the forward's multiply-adds.
        results: the outputs, or the gradients of the inputs; None until ``after``, and where it raised.
    """

    phase: str
    op: Any
    context: Any
    device: Any
    arrays: tuple[Any, ...]
    attributes: dict[str, Any]
    macs: int = 0
    results: Any = None


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
    # Mostly it is a child; a walk over everything below each parent would take a deep network's time squared.
    for name, child in parent._modules.items():
        if child is module:
            return str(name)
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


@contextmanager
def computing(computation: Computation) -> Iterator[Computation]:
    """Tell those who want to know that a computation begins, and that it has ended, with an error or without."""
    told: list[Any] = [observer for observer in state.observers if hasattr(observer, "before")]
    for observer in told:
        observer.before(computation)
    try:
        yield computation
    finally:
        for observer in reversed(told):
            observer.after(computation)
