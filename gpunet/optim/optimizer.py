"""What all optimizers share: parameter groups, steps and hooks. Saving is in ``gpunet.optim.state``."""

from __future__ import annotations

import functools
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from operator import is_
from typing import Any

import numpy as np

from gpunet.autograd import HookHandle, Tensor, enable_grad, zeros
from gpunet.backend.devices import array_module, on_device
from gpunet.backend.kernels import uses_kernels
from gpunet.ops.updates import Block, Pieces, apply, apply_all, cut
from gpunet.optim.state import Saving

__all__ = ["Optimizer"]

ParamsArgument = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


def _with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """A class's ``step`` between the hooks, counting itself; a ``super().step()`` inside runs neither again."""
    if getattr(step, "_has_hooks", False):
        return step

    @functools.wraps(step)
    def hooked(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._stepping:
            return step(self, *args, **kwargs)
        self._stepping = True
        try:
            for hook in list(self._pre_hooks.values()):
                changed = hook(self, args, kwargs)
                if changed is not None:
                    if not isinstance(changed, tuple) or len(changed) != 2:
                        raise RuntimeError(
                            f"step hook: must return None or (args, kwargs), got {type(changed).__name__}"
                        )
                    args, kwargs = changed
            result = step(self, *args, **kwargs)
            self._step_count += 1
            for hook in list(self._post_hooks.values()):
                hook(self, args, kwargs)
            return result
        finally:
            self._stepping = False

    hooked._has_hooks = True  # type: ignore[attr-defined]
    return hooked


class Optimizer(Saving):
    """Base class of the optimizers.

    A subclass gives its defaults to ``__init__`` and defines ``step``, as in PyTorch; gpunet's own define the equations
    instead (``_state_names``, ``_begin`` and ``_block``), and this class runs them over all parameters.

    Args:
        params: Tensors, pairs (name, Tensor), or dicts with ``"params"`` and options of their own.
        defaults: the options of groups that do not give theirs.

    Attributes:
        defaults: the options of groups that do not give theirs.
        param_groups: dicts of ``"params"`` and options; writing an option (``group["lr"] = 0.01``) takes effect at the
            next step.
        state: what the optimizer remembers of each parameter.

    Raises:
        TypeError: not Tensors.
        ValueError: none at all, one that is in two groups, or one that is the result of a computation.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.__dict__["step"])  # type: ignore[method-assign]

    def __init__(self, params: ParamsArgument, defaults: dict[str, Any]) -> None:
        if isinstance(params, (Tensor, Mapping)) or not isinstance(params, Iterable):
            raise TypeError(
                f"params: expected an iterable of Tensors or dicts, got {type(params).__name__}; "
                "a single one goes into a list"
            )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._start()
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError("params: the optimizer got no parameters")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _start(self) -> None:
        """What a new or an unpickled optimizer begins with."""
        self._step_count = 0
        self._stepping = False
        self._pre_hooks: dict[int, Callable[..., Any]] = {}
        self._post_hooks: dict[int, Callable[..., Any]] = {}
        # A parameter's arrays, and their pieces: cutting them takes longer than updating a small one.
        self._cuts: dict[Tensor, tuple[tuple[Any, ...], Pieces]] = {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own, such as a part of the model that is trained from now on.

        A parameter that is twice in the group is updated twice, with a warning, as in PyTorch.

        Args:
            param_group: ``"params"`` and options; the defaults fill in what is not given.

        Raises:
            TypeError: not a dict, or not Tensors.
            ValueError: a parameter that is in another group, that is the result of a computation, or that has a name
                where others have none.
        """
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError("param_group: expected a dict with the key 'params'")
        group = dict(param_group)
        params = group["params"]
        if isinstance(params, Tensor):
            params = [params]
        elif isinstance(params, (set, frozenset)):
            raise TypeError("params: a set has no order, so runs would differ; use a list")
        params = list(params)
        names = [param[0] for param in params if isinstance(param, tuple)]
        if names:
            if len(names) < len(params):
                raise ValueError(f"params: all or none must have names, got {len(names)} names of {len(params)}")
            params = [param[1] for param in params]
            group["param_names"] = names
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(f"params: an optimizer takes Tensors, got {type(param).__name__}")
            if not param.is_leaf:
                raise ValueError(
                    "params: an optimizer takes leaves, got the result of a computation; pass the tensor it was "
                    "computed from"
                )
        for other in self.param_groups:
            if ("param_names" in other) != ("param_names" in group):
                raise ValueError("params: all groups or none must have names")
            if not {id(param) for param in other["params"]}.isdisjoint(id(param) for param in params):
                raise ValueError("params: a parameter is in more than one group")
        group["params"] = params
        for option, value in self.defaults.items():
            group.setdefault(option, value)
        self._check_options(group)
        if _has_duplicates(params):
            warnings.warn("params: a parameter is in the group twice, and will be updated twice", stacklevel=3)
        self.param_groups.append(group)

    def _check_options(self, group: dict[str, Any]) -> None:
        """Refuse options that cannot be right; subclasses define it."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or set them to zero."""
        for group in self.param_groups:
            for param in group["params"]:
                param.zero_grad_(set_to_none)

    # Hooks ---------------------------------------------------------------------------------------------------------

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step; it may return new (args, kwargs)."""
        return _registered(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return _registered(self._post_hooks, hook)

    # Steps ---------------------------------------------------------------------------------------------------------

    @_with_hooks
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: computes the gradients anew and returns the loss, before the update.

        Returns:
            The closure's loss, or None.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        # A diverging run makes infinities; that is for the loss to show, not for a warning inside the update.
        with np.errstate(all="ignore"):
            for group in self.param_groups:
                self._update_group(group)
        return loss

    def _update_group(self, group: dict[str, Any]) -> None:
        params = [param for param in group["params"] if param.grad is not None]
        if not params:
            return
        names = self._state_names(group)
        blocks: dict[Hashable, Block] = {}
        updates: list[tuple[Block, Pieces]] = []
        kernels = uses_kernels(_PROBE)  # what runs CUDA kernels on the CPU sees each parameter
        for param in params:
            state = self.state[param]
            if param.device.type != "cpu" or kernels:
                with on_device(param.device):
                    key = self._begin(param, state, group)
                    self._update_alone(group, key, *self._arrays(param, state, names))
            else:
                key = self._begin(param, state, group)
                arrays = self._arrays(param, state, names)
                which = (key, arrays[0].dtype)
                block = blocks.get(which)
                if block is None:
                    block = blocks[which] = self._block(np, arrays[0].dtype, group, key)
                updates.append((block, self._cut(param, arrays)))
            param._bump_version()
        apply_all(updates, threads=not _has_duplicates(params))

    @staticmethod
    def _arrays(param: Tensor, state: dict[str, Any], names: tuple[str | None, ...]) -> tuple[Any, ...]:
        gradient = param.grad
        assert gradient is not None
        return (
            param._array,
            gradient._array,
            *[None if name is None else state[name]._array for name in names],
        )

    def _cut(self, param: Tensor, arrays: tuple[Any, ...]) -> Pieces:
        """The arrays' pieces, from the last step where they are the same arrays."""
        kept = self._cuts.get(param)
        if kept is not None and all(map(is_, kept[0], arrays)):
            return kept[1]
        pieces = cut(*arrays)
        # A gradient that backward did not make may be dropped by whoever made it: its memory is not held here.
        if arrays[1] is param._grad_buffer:
            self._cuts[param] = (arrays, pieces)
        return pieces

    def _update_alone(self, group: dict[str, Any], key: Any, *arrays: Any) -> None:
        """Update one parameter on a GPU."""
        module = array_module(arrays[0])
        apply(self._block(module, arrays[0].dtype, group, key), *arrays)

    def _state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        """Which of a parameter's state the equations work on, in their order; None where a group has none."""
        raise NotImplementedError(f"{type(self).__name__} defines no step()")

    def _begin(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Any:
        """Make the state that is not there, and count the step; where keys are the same, so are the equations."""
        raise NotImplementedError(f"{type(self).__name__} defines no step()")

    def _block(self, module: Any, dtype: Any, group: dict[str, Any], key: Any) -> Block:
        """The equations for a key."""
        raise NotImplementedError(f"{type(self).__name__} defines no step()")

    def _count(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        """The step count, one higher: a float32 tensor on the CPU, or on the parameter's device if ``capturable``."""
        step = state.get("step")
        if step is None:
            step = state["step"] = zeros((), device=param.device if group.get("capturable") else "cpu")
        step._array += 1
        step._bump_version()
        counted: Tensor = step
        return counted

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {option}: {group[option]}" for option in sorted(group) if option != "params"]
            lines.append("")
        return "\n".join([*lines[:-1], ")"])

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": dict(self.state), "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._start()
        self.__dict__.update(state)
        self.state = defaultdict(dict, state["state"])


_PROBE = np.zeros(0)


def _registered(hooks: dict[int, Any], hook: Callable[..., Any]) -> HookHandle:
    if not callable(hook):
        raise TypeError(f"hook: must be callable, got {type(hook).__name__}")
    handle = HookHandle(hooks)
    hooks[handle.id] = hook
    return handle


def _has_duplicates(params: list[Tensor]) -> bool:
    return len({id(param) for param in params}) < len(params)
