"""The state of Modules: what ``state_dict`` gives and ``load_state_dict`` takes."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from gpunet.autograd import Tensor, as_tensor, from_dlpack, no_grad
from gpunet.backend.errors import CheckpointError, DTypeError
from gpunet.nn.module_hooks import Hook, ModuleHooks, RemovableHandle, add_hook
from gpunet.nn.parameter import Parameter
from gpunet.nn.uninitialized import is_lazy

if TYPE_CHECKING:
    from gpunet.nn.module import Module

__all__ = ["IncompatibleKeys", "ModuleState"]


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict`` returns: the keys it did not find, and those it could not use."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class ModuleState(ModuleHooks):
    """The part of Module that gives its state as a dict and takes it back."""

    #: Own state keys that a checkpoint may lack, because older ones were written without them.
    _optional_state: ClassVar[frozenset[str]] = frozenset()

    _state_hooks: dict[str, dict[int, Hook]]

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

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Add what this module itself holds; a subclass may add more."""
        for name, tensor in self._own_state():
            destination[prefix + name] = tensor if keep_vars else tensor.detach()
        if _has_extra_state(self):
            destination[prefix + _EXTRA_STATE] = self.get_extra_state()

    def state_dict(
        self, *, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """All parameters and persistent buffers by dotted name, in PyTorch's order.

        Args:
            destination: a dict to add them to.
            prefix: put before each name.
            keep_vars: give the Parameters themselves instead of detached Tensors.

        Returns:
            A dict of Tensors that share their memory with the module, and of what ``get_extra_state`` returned.
        """
        result: dict[str, Any] = OrderedDict() if destination is None else destination
        for hook in self._hooks_of("before saving"):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(result, prefix, keep_vars)
        for name, child in self._modules.items():
            if child is not None:
                child.state_dict(destination=result, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in self._hooks_of("after saving"):
            if hook(self, result, prefix, {}) is not None:
                raise RuntimeError("state_dict: a post-hook changes the dict it is given, and must return None")
        return result

    def get_extra_state(self) -> Any:
        """What a subclass wants in the state dict beside its tensors; a subclass that has any defines this."""
        raise NotImplementedError(f"{type(self).__name__} defines no get_extra_state()")

    def set_extra_state(self, state: Any) -> None:
        """Take back what ``get_extra_state`` gave."""
        raise NotImplementedError(f"{type(self).__name__} defines no set_extra_state()")

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy values into the parameters and buffers: everything, or nothing if anything does not fit.

        Args:
            state_dict: Tensors, NumPy arrays or PyTorch's tensors by dotted name, cast to the module's dtypes.
            strict: raise where keys are missing or unexpected. Values that do not fit are an error in any case.
            assign: put the tensors themselves in the place of the module's, with their dtypes and devices, instead of
                copying: for a model that was made on ``meta``. An optimizer must be made after that.

        Returns:
            The missing and the unexpected keys.

        Raises:
            CheckpointError: one report of all that is missing, unexpected or of another shape. Where PyTorch has
                already copied what did fit, here nothing has been written (unless a post-hook had to see the loaded
                module first).
            TypeError: not a mapping.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict: expected a dict, got {type(state_dict).__name__}")
        state = self._prepared(state_dict, strict)
        expected: dict[str, Tensor] = {}
        owners: dict[str, Module] = {}
        optional: set[str] = set()
        for key, owner, tensor in self._named_state():
            expected[key] = tensor
            owners[key] = owner
            if key.rpartition(".")[2] in owner._optional_state:
                optional.add(key)
        extra = {
            (f"{path}.{_EXTRA_STATE}" if path else _EXTRA_STATE): module
            for path, module in self.named_modules(remove_duplicate=False)
            if _has_extra_state(module)
        }
        missing = [key for key in (*expected, *extra) if key not in state and key not in optional]
        unexpected = [str(key) for key in state if key not in expected and key not in extra]
        values, wrong = _fitting_values(expected, state)
        keys = IncompatibleKeys(missing, unexpected)
        after = [(module, hook) for module in self.modules() for hook in module._hooks_of("after loading")]
        if wrong or (strict and not after and (missing or unexpected)):
            raise CheckpointError(_state_report(type(self).__name__, expected, missing, unexpected, wrong))
        with no_grad():
            for key, value in values.items():
                if assign:
                    _assign(owners[key], key.rpartition(".")[2], value)
                else:
                    held = expected[key]
                    if is_lazy(held):
                        held.materialize(tuple(value.shape))
                    held.copy_(value)
        for key, module in extra.items():
            if key in state:
                module.set_extra_state(state[key])
        for module, hook in reversed(after):  # the ones below first
            if hook(module, keys) is not None:
                raise RuntimeError("load_state_dict: a post-hook changes the keys it is given, and must return None")
        if strict and (keys.missing_keys or keys.unexpected_keys):
            raise CheckpointError(
                _state_report(type(self).__name__, expected, *keys, wrong, "what did fit was loaded, for its hooks")
            )
        return keys

    def _prepared(self, state_dict: Mapping[str, Any], strict: bool) -> Mapping[str, Any]:
        """The state dict as the hooks before loading leave it; the caller's stays as it is."""
        before = [(path, module) for path, module in self.named_modules() if module._hooks_of("before loading")]
        if not before:
            return state_dict
        state: dict[str, Any] = OrderedDict(state_dict)
        errors: list[str] = []
        for path, module in before:
            for hook in module._hooks_of("before loading"):
                hook(module, state, f"{path}." if path else "", {}, strict, [], [], errors)
        if errors:
            raise CheckpointError(f"{type(self).__name__}: " + "; ".join(errors))
        return state

    def _hooks_of(self, when: str) -> list[Callable[..., Any]]:
        return [hook.call for hook in self._state_hooks.get(when, {}).values()]

    def _add_state_hook(self, when: str, hook: Callable[..., Any]) -> RemovableHandle:
        return add_hook(self._state_hooks.setdefault(when, {}), Hook(hook), prepend=False)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before ``state_dict`` collects."""
        return self._add_state_hook("before saving", hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, metadata)`` after collecting; it changes the dict."""
        return self._add_state_hook("after saving", hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call a function before loading; it changes the copy of the state dict that it is given.

        Args:
            hook: called as ``hook(module, state_dict, prefix, metadata, strict, missing_keys, unexpected_keys,
                error_messages)``. What it adds to the messages is raised; metadata and the lists of keys are empty.
        """
        return self._add_state_hook("before loading", hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` after loading; it may clear the lists of keys."""
        return self._add_state_hook("after loading", hook)


_EXTRA_STATE = "_extra_state"


def _has_extra_state(module: ModuleState) -> bool:
    return type(module).get_extra_state is not ModuleState.get_extra_state


def _as_value(value: Any) -> Any:
    """A Tensor or an array as it is; another library's tensor, such as PyTorch's, as a Tensor; None for all else.

    Raises:
        DTypeError: a tensor of a type, or on a device, that gpunet does not have.
    """
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return value
    if not (hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__")):
        return None
    detached = value.detach() if hasattr(value, "detach") else value  # what requires grad is not shared
    try:
        return from_dlpack(detached)
    except DTypeError:
        raise
    except (BufferError, RuntimeError, TypeError, ValueError) as error:  # each library has its own
        kind = getattr(value, "dtype", type(value).__qualname__)
        raise DTypeError(f"cannot take over {kind} from its library ({error}); convert it, or load a file") from error


def _fitting_values(
    expected: Mapping[str, Tensor], state: Mapping[str, Any]
) -> tuple[dict[str, Tensor], list[tuple[str, str]]]:
    """The values for the expected tensors, and what is wrong with the others."""
    values: dict[str, Tensor] = {}
    wrong: list[tuple[str, str]] = []
    for key, tensor in expected.items():
        if key not in state:
            continue
        try:
            value = _as_value(state[key])
        except DTypeError as error:
            wrong.append((key, str(error)))
            continue
        if value is None:
            kind = type(state[key])
            name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
            wrong.append((key, f"expected a Tensor or an array, got {name}"))
            continue
        if is_lazy(value):
            if not is_lazy(tensor):
                wrong.append((key, f"the model has {tuple(tensor.shape)}, the state dict a tensor without a shape yet"))
            continue
        shape = tuple(value.shape)
        if not is_lazy(tensor) and shape != tuple(tensor.shape):
            wrong.append((key, f"the model has {tuple(tensor.shape)}, the state dict {shape}"))
            continue
        try:
            values[key] = value.detach() if isinstance(value, Tensor) else as_tensor(np.asarray(value))
        except DTypeError as error:
            wrong.append((key, str(error)))
    return values, wrong


def _assign(owner: ModuleState, name: str, value: Tensor) -> None:
    held = owner._parameters.get(name)
    if held is None:
        owner._buffers[name] = value
    else:
        owner._parameters[name] = Parameter(value, held.requires_grad)


def _state_report(
    name: str,
    expected: Mapping[str, Tensor],
    missing: Iterable[str],
    unexpected: Iterable[str],
    wrong: Iterable[tuple[str, str]],
    outcome: str = "nothing was loaded",
) -> str:
    missing, unexpected, wrong = list(missing), list(unexpected), list(wrong)
    counts = [
        f"{len(keys)} {what}"
        for keys, what in ((missing, "missing"), (unexpected, "unexpected"), (wrong, "unfit"))
        if keys
    ]
    lines = [f"{name}: the state dict does not fit ({', '.join(counts)}); {outcome}"]
    for key in missing:
        tensor = expected.get(key)
        shape = "any shape" if is_lazy(tensor) else tensor is not None and tuple(tensor.shape)
        what = "extra state" if tensor is None else f"{shape} {tensor.dtype.name}"
        lines.append(f"  missing:    {key}, {what}")
    # Prefer keys that nothing else fills: those are what a renamed key was meant for.
    for key in unexpected:
        close = difflib.get_close_matches(key, missing, n=1) or difflib.get_close_matches(key, list(expected), n=1)
        lines.append(f"  unexpected: {key}" + (f"; did you mean {close[0]}?" if close else ""))
    lines += [f"  unfit:      {key}: {reason}" for key, reason in wrong]
    return "\n".join(lines)
