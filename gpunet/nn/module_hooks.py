"""Hooks of Modules: functions called before and after forward, and with the gradients in backward."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from gpunet.autograd import HookHandle, Tensor, apply, is_grad_enabled, no_grad, zeros
from gpunet.nn.module_tree import ModuleTree
from gpunet.ops.hook_point import HOOK_POINT

__all__ = ["ModuleHooks", "RemovableHandle", "add_hook"]


class RemovableHandle(HookHandle):
    """What registering a hook returns: ``remove()`` takes the hook away, and so does leaving ``with handle:``."""

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


class Hook(NamedTuple):
    """A registered function, and how it wants to be called."""

    call: Callable[..., Any]
    with_kwargs: bool = False
    always_call: bool = False


class ModuleHooks(ModuleTree):
    """The part of Module that calls ``forward`` with its hooks."""

    _forward_hooks: dict[int, Hook]
    _forward_pre_hooks: dict[int, Hook]
    _backward_hooks: dict[int, Hook]
    _backward_pre_hooks: dict[int, Hook]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

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
        gradients = None
        if (self._backward_hooks or self._backward_pre_hooks) and is_grad_enabled():
            gradients = _GradientHooks(self)
            args = gradients.watch_inputs(args)
        called: set[int] = set()
        try:
            result = self.forward(*args, **kwargs)
            for identifier, hook in list(self._forward_hooks.items()):
                called.add(identifier)
                changed = hook.call(self, args, kwargs, result) if hook.with_kwargs else hook.call(self, args, result)
                if changed is not None:
                    result = changed
            return result if gradients is None else gradients.watch_outputs(result)
        except BaseException:
            for identifier, hook in list(self._forward_hooks.items()):
                if hook.always_call and identifier not in called:
                    if hook.with_kwargs:
                        hook.call(self, args, kwargs, None)
                    else:
                        hook.call(self, args, None)
            raise

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before ``forward``; what it returns, if anything, replaces the arguments.

        Args:
            hook: the function.
            prepend: call it before the hooks registered so far.
            with_kwargs: call ``hook(module, args, kwargs)``, which returns None or a pair.
        """
        return add_hook(self._forward_pre_hooks, Hook(hook, with_kwargs), prepend)

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
        return add_hook(self._forward_hooks, Hook(hook, with_kwargs, always_call), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when backward has reached the module's inputs.

        Both are tuples with an entry for each positional input and each output, None where no gradient goes, and for
        an output that the loss does not depend on. What the hook returns, if anything, replaces ``grad_input``. Where
        no input requires grad it is called as soon as the gradients of the outputs are there. The module's output
        must be a Tensor or a tuple.

        Args:
            hook: the function.
            prepend: call it before the hooks registered so far.
        """
        return add_hook(self._backward_hooks, Hook(hook), prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` when backward reaches the module; what it returns replaces the gradients.

        Args:
            hook: the function.
            prepend: call it before the hooks registered so far.
        """
        return add_hook(self._backward_pre_hooks, Hook(hook), prepend)


class _GradientHooks:
    """The backward hooks of one call: points in the graph around it, and what passes between them."""

    def __init__(self, module: ModuleHooks) -> None:
        self.module = module
        self.hooks = [hook.call for hook in module._backward_hooks.values()]
        self.pre_hooks = [hook.call for hook in module._backward_pre_hooks.values()]
        self.inputs = 0
        self.inputs_watched = False
        self.grad_outputs: tuple[Any, ...] | None = None

    def watch_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.inputs = len(args)
        places = _requiring_grad(args)
        self.inputs_watched = bool(places)
        return _through_point(args, places, self._at_inputs)

    def watch_outputs(self, result: Any) -> Any:
        outputs = result if isinstance(result, tuple) else (result,)
        watched = _through_point(outputs, _requiring_grad(outputs), self._at_outputs, none_for_missing=True)
        if not isinstance(result, tuple):
            return watched[0]
        return type(result)(*watched) if hasattr(result, "_fields") else watched

    def _at_outputs(self, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in self.pre_hooks:
            gradients = _replaced("a backward pre-hook", hook(self.module, gradients), gradients)
        self.grad_outputs = gradients
        if not self.inputs_watched:
            for hook in self.hooks:
                changed = hook(self.module, (None,) * self.inputs, gradients)
                if changed is not None and any(gradient is not None for gradient in changed):
                    raise RuntimeError("a backward hook must return None where no input requires grad")
        return gradients

    def _at_inputs(self, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.grad_outputs is None:  # a way to the inputs that does not lead through the outputs
            return gradients
        for hook in self.hooks:
            gradients = _replaced("a backward hook", hook(self.module, gradients, self.grad_outputs), gradients)
        self.grad_outputs = None
        return gradients


def _requiring_grad(values: tuple[Any, ...]) -> list[int]:
    return [place for place, value in enumerate(values) if isinstance(value, Tensor) and value.requires_grad]


def _through_point(
    values: tuple[Any, ...],
    places: list[int],
    change: Callable[[tuple[Any, ...]], tuple[Any, ...]],
    none_for_missing: bool = False,
) -> tuple[Any, ...]:
    """The values, those at ``places`` passed through a point of the graph that calls ``change`` in backward.

    Gradients that did not arrive go on as zeros; ``change`` is shown None in their place if ``none_for_missing``.
    """
    if not places:
        return values
    tensors = [values[place] for place in places]
    specs = [(tuple(tensor.shape), tensor.dtype, tensor.device) for tensor in tensors]
    count = len(values)

    def changed_arrays(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
        # It stays with the graph, and must not keep the values alive.
        gradients: list[Any] = [None] * count
        missing: dict[int, Tensor] = {}
        for place, array, (shape, dtype, device) in zip(places, arrays, specs, strict=True):
            if array is None:
                missing[place] = zeros(shape, dtype=dtype, device=device)
            gradients[place] = Tensor._wrap(array, device) if array is not None else missing[place]
        shown = [None if none_for_missing and place in missing else one for place, one in enumerate(gradients)]
        with no_grad():
            changed = change(tuple(shown))
        handed_on = [missing.get(place) if changed[place] is None else changed[place] for place in places]
        return tuple(None if gradient is None else gradient._array for gradient in handed_on)

    outputs = apply(HOOK_POINT, *tensors, change=changed_arrays)
    result = list(values)
    for place, tensor, output in zip(places, tensors, outputs if len(places) > 1 else (outputs,), strict=True):
        # The memory is the same, so a write to one must be seen by who saved the other.
        output._counter = tensor._counter
        result[place] = output
    return tuple(result)


def _replaced(what: str, changed: Any, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
    if changed is None:
        return gradients
    changed = changed if isinstance(changed, tuple) else (changed,)
    if len(changed) != len(gradients):
        raise RuntimeError(f"{what} must return {len(gradients)} gradients, got {len(changed)}")
    return changed


def add_hook(hooks: dict[int, Hook], hook: Hook, prepend: bool) -> RemovableHandle:
    """Register a hook last, or first."""
    handle = RemovableHandle(hooks)
    if prepend:
        later = dict(hooks)
        hooks.clear()
        hooks[handle.id] = hook
        hooks.update(later)
    else:
        hooks[handle.id] = hook
    return handle
