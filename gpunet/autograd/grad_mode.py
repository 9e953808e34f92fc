"""Whether operations are recorded for backward: a setting of each thread."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

__all__ = ["enable_grad", "inference_mode", "is_grad_enabled", "no_grad", "set_grad_enabled"]

Function = TypeVar("Function", bound=Callable[..., Any])


class _State(threading.local):
    enabled = True


state = _State()


def is_grad_enabled() -> bool:
    """True if operations of this thread are recorded."""
    return state.enabled


class _GradMode:
    """A setting for a ``with`` block, or, as a decorator, for every call of a function."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(state.enabled)
        state.enabled = self._enabled

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        state.enabled = self._before.pop()

    def __call__(self, function: Function) -> Function:
        enabled = self._enabled
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def stepped(*args: Any, **kwargs: Any) -> Any:
                # The mode holds while the generator runs, and not while whoever iterates over it does.
                generator = function(*args, **kwargs)
                advance, sent = generator.send, None
                while True:
                    try:
                        with _GradMode(enabled):
                            value = advance(sent)
                    except StopIteration as end:
                        return end.value
                    try:
                        advance, sent = generator.send, (yield value)
                    except GeneratorExit:
                        with _GradMode(enabled):
                            generator.close()
                        raise
                    except BaseException as error:
                        advance, sent = generator.throw, error

            return stepped  # type: ignore[return-value]

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with _GradMode(enabled):
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


class no_grad(_GradMode):
    """Record nothing: for evaluation, and for updates of parameters. A context manager and a decorator."""

    def __new__(cls, function: Any = None) -> Any:
        mode = super().__new__(cls)
        if function is not None:  # used as a bare decorator
            _GradMode.__init__(mode, False)
            return mode(function)
        return mode

    def __init__(self, function: Any = None) -> None:
        super().__init__(False)


class enable_grad(no_grad):
    """Record again, inside ``no_grad``. A context manager and a decorator."""

    def __new__(cls, function: Any = None) -> Any:
        mode = object.__new__(cls)
        if function is not None:
            _GradMode.__init__(mode, True)
            return mode(function)
        return mode

    def __init__(self, function: Any = None) -> None:
        _GradMode.__init__(self, True)


class inference_mode(no_grad):
    """As ``no_grad``, or nothing with ``mode=False``. A context manager and a decorator.

    Tensors made in it are ordinary ones here: nothing is gained by forbidding their later use.
    """

    def __new__(cls, mode: Any = True) -> Any:
        made = object.__new__(cls)
        if callable(mode):
            _GradMode.__init__(made, False)
            return made(mode)
        return made

    def __init__(self, mode: Any = True) -> None:
        _GradMode.__init__(self, False if mode else state.enabled)


class set_grad_enabled(_GradMode):
    """Switch recording on or off, at once; as a context manager until the block ends."""

    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        self._first: bool | None = state.enabled
        state.enabled = bool(mode)

    def __enter__(self) -> None:
        # What the block's end restores is what held before the call, not what the call set.
        before = state.enabled if self._first is None else self._first
        self._first = None
        self._before.append(before)
        state.enabled = self._enabled

    def __call__(self, function: Function) -> Function:
        if self._first is not None:
            state.enabled = self._first
            self._first = None
        return super().__call__(function)
