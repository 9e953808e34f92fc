"""Parameters that are computed from others each time they are read.

``register_parametrization(layer, "weight", f)`` makes ``layer.weight`` the value of ``f(original)``, where the original
is a parameter under ``layer.parametrizations.weight``. The layer gets a class of its own whose property does it.
"""

from __future__ import annotations

from typing import Any

from gpunet.autograd import Tensor, no_grad
from gpunet.backend.errors import ShapeError
from gpunet.nn.container import ModuleDict
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter

__all__ = ["ParametrizationList", "is_parametrized", "register_parametrization", "remove_parametrizations"]


class ParametrizationList(Module):
    """The parametrizations of one tensor, and what they are computed from.

    Attributes:
        original: the parameter, or ``original0``, ``original1``, ... if the first parametrization takes several.
    """

    def __init__(self, parametrization: Module, value: Tensor) -> None:
        super().__init__()
        inverse = getattr(parametrization, "right_inverse", None)
        with no_grad():
            found: Any = value.detach() if inverse is None else inverse(value.detach())
        self._several = len(found) if isinstance(found, (tuple, list)) else 0
        if self._several:
            for number, part in enumerate(found):
                self._keep(f"original{number}", Parameter(part.detach()) if isinstance(value, Parameter) else part)
        else:
            if isinstance(value, Parameter) and inverse is not None:
                with no_grad():
                    value.copy_(found)
            self._keep("original", value if isinstance(value, Parameter) else found)
        self.add_module("0", parametrization)

    def _keep(self, name: str, value: Tensor) -> None:
        if isinstance(value, Parameter):
            self.register_parameter(name, value)
        else:
            self.register_buffer(name, value)

    def append(self, parametrization: Module) -> None:
        """Apply another one to the result of those so far."""
        self.add_module(str(len(self._modules)), parametrization)

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Module:
        found = self._modules[str(range(len(self))[index])]
        assert found is not None
        return found

    def _originals(self) -> list[Tensor]:
        if self._several:
            return [getattr(self, f"original{number}") for number in range(self._several)]
        return [self.original]

    def right_inverse(self, value: Tensor) -> None:
        """Write to the originals what makes the result ``value``."""
        with no_grad():
            found: Any = value
            for number in reversed(range(len(self))):
                inverse = getattr(self[number], "right_inverse", None)
                if inverse is None:
                    raise RuntimeError(
                        f"parametrize: {type(self[number]).__name__} has no right_inverse, so that its result cannot "
                        "be assigned"
                    )
                found = inverse(found)
            parts = found if isinstance(found, (tuple, list)) else (found,)
            for original, part in zip(self._originals(), parts, strict=True):
                original.copy_(part)

    def forward(self) -> Tensor:
        """The computed tensor."""
        result: Tensor = self[0](*self._originals())
        for number in range(1, len(self)):
            result = self[number](result)
        return result


def _property(name: str) -> property:
    def read(module: Module) -> Tensor:
        found: Tensor = module.parametrizations[name]()
        return found

    def write(module: Module, value: Tensor) -> None:
        module.parametrizations[name].right_inverse(value)

    return property(read, write)


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a module has parametrizations at all, or of one tensor."""
    found = module._modules.get("parametrizations")
    if not isinstance(found, ModuleDict):
        return False
    return len(found) > 0 if tensor_name is None else tensor_name in found


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Let a parameter or buffer be computed by a module each time it is read.

    Args:
        module: the layer.
        tensor_name: of its parameter or buffer.
        parametrization: a Module from the original tensor to the one to use. With a method ``right_inverse`` the
            original is what that makes of the present value; it may be a tuple.
        unsafe: leave out the check that shape and dtype stay.

    Returns:
        The module.

    Raises:
        ValueError: it has no such tensor.
        ShapeError: the parametrization gives another shape or dtype.
    """
    if is_parametrized(module, tensor_name):
        listed = module.parametrizations[tensor_name]
        listed.append(parametrization)
        return module
    value = module._parameters.get(tensor_name)
    found: Tensor | None = value if value is not None else module._buffers.get(tensor_name)
    if found is None:
        raise ValueError(
            f"register_parametrization: {type(module).__name__} has no parameter or buffer {tensor_name!r}"
        )
    made = ParametrizationList(parametrization, found)
    made.train(module.training)
    if not unsafe:
        with no_grad():
            result = made()
        if result.shape != found.shape or result.dtype != found.dtype:
            raise ShapeError(
                f"register_parametrization: {tensor_name} must keep shape {found.shape} and dtype {found.dtype.name}, "
                f"got {result.shape} and {result.dtype.name}"
            )
    delattr(module, tensor_name)
    if not is_parametrized(module):
        kind = type(module)
        module.__class__ = type(f"Parametrized{kind.__name__}", (kind,), {"__module__": kind.__module__})
        module.add_module("parametrizations", ModuleDict())
    setattr(type(module), tensor_name, _property(tensor_name))
    module.parametrizations[tensor_name] = made
    return module


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make a tensor an ordinary parameter or buffer again.

    Args:
        module: the layer.
        tensor_name: of the tensor.
        leave_parametrized: keep the computed value, else the original one.

    Returns:
        The module.

    Raises:
        ValueError: the tensor is not parametrized, or is computed from several and has no original value.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"remove_parametrizations: {tensor_name!r} of {type(module).__name__} is not parametrized")
    listed: ParametrizationList = module.parametrizations[tensor_name]
    originals = listed._originals()
    if not leave_parametrized and len(originals) > 1:
        raise ValueError(
            f"remove_parametrizations: {tensor_name!r} is computed from {len(originals)} tensors and has no original "
            "value; use leave_parametrized=True"
        )
    kept = originals[0]
    if leave_parametrized:
        with no_grad():
            result = listed().detach()
            if len(originals) == 1:
                kept.copy_(result)
            else:
                kept = Parameter(result) if isinstance(kept, Parameter) else result
    del module.parametrizations[tensor_name]
    delattr(type(module), tensor_name)
    if len(module.parametrizations) == 0:
        del module._modules["parametrizations"]
        module.__class__ = type(module).__mro__[1]
    if isinstance(kept, Parameter):
        module.register_parameter(tensor_name, kept)
    else:
        module.register_buffer(tensor_name, kept)
    return module
