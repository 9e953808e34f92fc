"""What all optimizers share: parameter groups, state and its saving."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from gpunet.autograd import Tensor, as_tensor, enable_grad
from gpunet.backend.devices import on_device
from gpunet.backend.errors import CheckpointError

__all__ = ["Optimizer"]

ParamsArgument = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


class Optimizer:
    """Base class of the optimizers.

    A subclass gives its defaults to ``__init__`` and defines ``_update``, which updates one parameter.

    Args:
        params: Tensors, pairs (name, Tensor), or dicts with ``"params"`` and options of their own.
        defaults: the options of groups that do not give theirs.

    Attributes:
        param_groups: dicts of ``"params"`` and options; writing an option (``group["lr"] = 0.01``) takes effect at the
            next step.
        state: what the optimizer remembers of each parameter.

    Raises:
        TypeError: not Tensors.
        ValueError: none at all, the same one twice, or one that is the result of a computation.
    """

    def __init__(self, params: ParamsArgument, defaults: dict[str, Any]) -> None:
        if isinstance(params, (Tensor, Mapping)) or not isinstance(params, Iterable):
            raise TypeError(
                f"params: expected an iterable of Tensors or dicts, got {type(params).__name__}; "
                "a single one goes into a list"
            )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._step_count = 0
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError("params: the optimizer got no parameters")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own, such as a part of the model that is trained from now on.

        Args:
            param_group: ``"params"`` and options; the defaults fill in what is not given.

        Raises:
            TypeError: not a dict, or not Tensors.
            ValueError: a parameter that is in a group already, or is the result of a computation.
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
        names: list[str] = []
        if params and all(isinstance(param, tuple) for param in params):
            names = [name for name, _ in params]
            params = [param for _, param in params]
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(f"params: an optimizer takes Tensors, got {type(param).__name__}")
            if not param.is_leaf:
                raise ValueError(
                    "params: an optimizer takes leaves, got the result of a computation; pass the tensor it was "
                    "computed from"
                )
        taken = {id(param) for other in self.param_groups for param in other["params"]}
        if len({id(param) for param in params}) < len(params) or taken.intersection(id(param) for param in params):
            raise ValueError("params: a parameter is given more than once")
        group["params"] = params
        if names:
            group["param_names"] = names
        for option, value in self.defaults.items():
            group.setdefault(option, value)
        self._check_options(group)
        self.param_groups.append(group)

    def _check_options(self, group: dict[str, Any]) -> None:
        """Refuse options that cannot be right; subclasses define it."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or set them to zero."""
        for group in self.param_groups:
            for param in group["params"]:
                param.zero_grad_(set_to_none)

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
        self._step_count += 1
        # A diverging run makes infinities; that is for the loss to show, not for a warning inside the update.
        with np.errstate(all="ignore"):
            for group in self.param_groups:
                for param in group["params"]:
                    gradient = param.grad
                    if gradient is not None:
                        with on_device(param.device):
                            self._update(param, gradient, group, self.state[param])
                        param._bump_version()
        return loss

    def _update(self, param: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        """Update one parameter in place."""
        raise NotImplementedError(f"{type(self).__name__} defines no update")

    # Saving --------------------------------------------------------------------------------------------------------

    def _numbered(self) -> Iterator[tuple[int, Tensor]]:
        number = 0
        for group in self.param_groups:
            for param in group["params"]:
                yield number, param
                number += 1

    def state_dict(self) -> dict[str, Any]:
        """The state in PyTorch's format.

        Returns:
            ``"state"``, by the parameter's number in the order of the groups, and ``"param_groups"`` with those
            numbers in place of parameters.
        """
        numbers = {id(param): number for number, param in self._numbered()}
        groups = [
            {
                **{option: value for option, value in group.items() if option != "params"},
                "params": [numbers[id(param)] for param in group["params"]],
            }
            for group in self.param_groups
        ]
        state = {number: dict(self.state[param]) for number, param in self._numbered() if self.state.get(param)}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state that ``state_dict`` returned, its options included.

        Tensors are copied and cast to the dtype and device of their parameters; arrays will do as well.

        Raises:
            CheckpointError: the groups, or the shapes of the state, are not those of this optimizer; nothing is
                changed.
        """
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
            raise CheckpointError("state_dict: expected a dict with the keys 'state' and 'param_groups'")
        saved_groups = state_dict["param_groups"]
        ours = [len(group["params"]) for group in self.param_groups]
        theirs = [len(group["params"]) for group in saved_groups]
        if ours != theirs:
            raise CheckpointError(
                f"state_dict: holds groups of {theirs} parameters, but the optimizer has groups of {ours}"
            )
        params = {
            key: param
            for group, saved in zip(self.param_groups, saved_groups, strict=True)
            for key, param in zip(saved["params"], group["params"], strict=True)
        }
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for key, values in state_dict["state"].items():
            if key not in params:
                raise CheckpointError(f"state_dict: holds state of a parameter {key!r} that is in no group")
            state[params[key]] = {name: self._restored(key, name, value, params[key]) for name, value in values.items()}
        groups = []
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            options = {option: _copy_option(value) for option, value in saved.items() if option != "params"}
            groups.append({**self.defaults, **options, "params": group["params"]})
        self.state = state
        self.param_groups = groups

    def _restored(self, key: Any, name: str, value: Any, param: Tensor) -> Any:
        """A value of a saved state, made fit for its parameter."""
        if not isinstance(value, (Tensor, np.ndarray)):
            return value
        tensor = as_tensor(value).detach()
        if tuple(tensor.shape) not in ((), tuple(param.shape)):
            raise CheckpointError(
                f"state_dict: {name!r} of parameter {key!r} has shape {tuple(tensor.shape)}, but the parameter has "
                f"{tuple(param.shape)}"
            )
        if name == "step":
            return tensor.clone()
        result = self._zeros_like(param)
        result.copy_(tensor)
        return result

    @staticmethod
    def _zeros_like(param: Tensor) -> Tensor:
        """A tensor of zeros for the state: the parameter's shape, dtype, device and order in memory."""
        zeros = param.detach().clone()
        return zeros.zero_()

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {option}: {group[option]}" for option in sorted(group) if not option.startswith("param")]
        return "\n".join([*lines, ")"])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "state": dict(self.state)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.state = defaultdict(dict, state["state"])


def _copy_option(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    # A file's list of betas becomes the tuple it was.
    return tuple(value) if isinstance(value, (list, tuple)) and all(isinstance(one, float) for one in value) else value


def scalar_of(value: Any) -> Any:
    """An option as the updates take it: a 0-d Tensor as its array, anything else as it is."""
    return value._array if isinstance(value, Tensor) else value


def check_rate(name: str, lr: Any) -> None:
    """Refuse a learning rate that is negative or no number.

    Raises:
        ValueError: naming the optimizer; a Tensor on a GPU is not read back to look.
    """
    if isinstance(lr, Tensor):
        if lr.shape != ():
            raise ValueError(f"{name}: a learning rate given as a Tensor must have no dimensions, got {lr.shape}")
    elif not lr >= 0:
        raise ValueError(f"{name}: lr must not be negative, got {lr}")


def check_not_negative(name: str, group: Mapping[str, Any], *options: str) -> None:
    """Refuse options that are negative or no number.

    Raises:
        ValueError: naming the option.
    """
    for option in options:
        if not group[option] >= 0:
            raise ValueError(f"{name}: {option} must not be negative, got {group[option]}")
