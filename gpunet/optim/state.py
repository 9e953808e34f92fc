"""Saving and loading what an optimizer remembers, in PyTorch's format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from gpunet.autograd import Tensor, as_tensor, tensor
from gpunet.backend.errors import CheckpointError

__all__ = ["Saving"]


class Saving:
    """The part of an Optimizer that is saved."""

    defaults: dict[str, Any]
    param_groups: list[dict[str, Any]]
    state: defaultdict[Tensor, dict[str, Any]]

    _numbers: ClassVar[tuple[str, ...]] = ("step",)
    """State that is one float32 number for each parameter, whatever its dtype."""

    _free_shapes: ClassVar[bool] = False
    """Whether state may have other shapes than its parameter's."""

    def state_dict(self) -> dict[str, Any]:
        """The state in PyTorch's format.

        Returns:
            ``"state"``, by the parameter's number in the order of the groups, and ``"param_groups"`` with those
            numbers in place of parameters.
        """
        numbers: dict[int, int] = {}
        state: dict[int, Any] = {}
        groups = []
        count = 0
        for group in self.param_groups:
            for number, param in enumerate(group["params"], count):
                if id(param) not in numbers:
                    numbers[id(param)] = number
                    if self.state.get(param):
                        state[number] = dict(self.state[param])
            count += len(group["params"])
            options = {option: value for option, value in group.items() if option != "params"}
            groups.append({**options, "params": [numbers[id(param)] for param in group["params"]]})
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
        groups = []
        params: dict[Any, tuple[Tensor, dict[str, Any]]] = {}
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            options = {option: _copy_option(value) for option, value in saved.items() if option != "params"}
            if "param_names" in group:
                options.setdefault("param_names", group["param_names"])
            groups.append({**self.defaults, **options, "params": group["params"]})
            params.update(
                {key: (param, groups[-1]) for key, param in zip(saved["params"], group["params"], strict=True)}
            )
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for key, values in state_dict["state"].items():
            if key not in params:
                raise CheckpointError(f"state_dict: holds state of a parameter {key!r} that is in no group")
            param, group = params[key]
            state[param] = {name: self._restored(key, name, value, param, group) for name, value in values.items()}
        self.state = state
        self.param_groups = groups

    def _restored(self, key: Any, name: str, value: Any, param: Tensor, group: dict[str, Any]) -> Any:
        """A value of a saved state, made fit for its parameter."""
        if name in self._numbers:
            number = value if isinstance(value, (Tensor, np.ndarray)) else tensor(float(value))
            return as_tensor(number).detach().clone().to(param.device if group.get("capturable") else "cpu")
        if isinstance(value, (list, tuple)):
            return [self._restored(key, name, part, param, group) for part in value]
        if not isinstance(value, (Tensor, np.ndarray)):
            return value
        saved = as_tensor(value).detach()
        if self._free_shapes:
            return saved.to(param.device).to(param.dtype, copy=True)
        if tuple(saved.shape) != tuple(param.shape):
            raise CheckpointError(
                f"state_dict: {name!r} of parameter {key!r} has shape {tuple(saved.shape)}, but the parameter has "
                f"{tuple(param.shape)}"
            )
        result = self._zeros_like(param)
        result.copy_(saved)
        return result

    @staticmethod
    def _zeros_like(param: Tensor) -> Tensor:
        """A tensor of zeros for the state: the parameter's shape, dtype, device and order in memory."""
        zeros = param.detach().clone()
        return zeros.zero_()


def _copy_option(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    # A file's list of betas becomes the tuple it was.
    return tuple(value) if isinstance(value, (list, tuple)) and all(isinstance(one, float) for one in value) else value
