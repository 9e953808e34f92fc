"""Weight normalisation: Salimans and Kingma 2016, equation 2."""

from __future__ import annotations

from typing import Any, TypeVar

from gpunet.autograd import Tensor, no_grad
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter
from gpunet.ops.reduce import normalize_axis

__all__ = ["WeightNorm", "norm_except_dim", "normed_weight", "remove_weight_norm", "weight_norm"]

ModuleType = TypeVar("ModuleType", bound=Module)


def norm_except_dim(v: Tensor, dim: int) -> Tensor:
    """The norm of each slice along ``dim``, with dimensions of size one for the others; of everything for -1."""
    if dim == -1:
        return (v * v).sum().sqrt()
    kept = normalize_axis("weight_norm", dim, v.ndim)
    others = tuple(axis for axis in range(v.ndim) if axis != kept)
    squares = v * v
    return (squares.sum(others, keepdim=True) if others else squares).sqrt()


def normed_weight(v: Tensor, g: Tensor, dim: int) -> Tensor:
    """w = g v / |v|."""
    return v * (g / norm_except_dim(v, dim))


def take_parameter(module: Module, name: str, what: str) -> Parameter:
    """The parameter of a name, which must be there.

    Raises:
        ValueError: there is none.
    """
    found = module._parameters.get(name)
    if found is None:
        raise ValueError(f"{what}: {type(module).__name__} has no parameter {name!r}")
    return found


def find_hook(module: Module, kind: type, name: str) -> int | None:
    """The number of the pre-hook of a kind that computes the weight of a name."""
    for number, hook in module._forward_pre_hooks.items():
        if isinstance(hook.call, kind) and getattr(hook.call, "name", None) == name:
            return number
    return None


class WeightNorm:
    """The pre-hook that computes the weight from its length and its direction before each forward pass."""

    def __init__(self, name: str, dim: int) -> None:
        self.name = name
        self.dim = dim

    def compute_weight(self, module: Module) -> Tensor:
        """w = g v / |v| from the module's parameters."""
        return normed_weight(getattr(module, f"{self.name}_v"), getattr(module, f"{self.name}_g"), self.dim)

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module: ModuleType, name: str = "weight", dim: int | None = 0) -> ModuleType:
    """Replace a weight by a length g and a direction v, w = g v / |v|: Salimans and Kingma 2016.

    The weight is computed anew before each forward pass. PyTorch's newer form is
    ``gpunet.nn.utils.parametrizations.weight_norm``.

    Args:
        module: the layer; it gets the parameters ``<name>_g`` and ``<name>_v``.
        name: of the weight.
        dim: each slice along it has a length of its own; None makes one for the whole weight.

    Returns:
        The module.

    Raises:
        ValueError: it has no such parameter.
        RuntimeError: the weight is normalised already.
    """
    if find_hook(module, WeightNorm, name) is not None:
        raise RuntimeError(f"weight_norm: {name!r} is normalised already")
    weight = take_parameter(module, name, "weight_norm")
    hook = WeightNorm(name, -1 if dim is None else dim)
    with no_grad():
        length = norm_except_dim(weight, hook.dim)
    del module._parameters[name]
    module.register_parameter(f"{name}_g", Parameter(length.detach()))
    module.register_parameter(f"{name}_v", Parameter(weight.detach()))
    hook(module, None)
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: ModuleType, name: str = "weight") -> ModuleType:
    """Make the weight that ``weight_norm`` computes an ordinary parameter again.

    Args:
        module: the layer.
        name: of the weight.

    Returns:
        The module.

    Raises:
        ValueError: the weight is not normalised.
    """
    number = find_hook(module, WeightNorm, name)
    if number is None:
        raise ValueError(f"weight_norm: {name!r} of {type(module).__name__} is not normalised")
    hook: Any = module._forward_pre_hooks[number].call
    with no_grad():
        weight = hook.compute_weight(module)
    delattr(module, name)
    del module._parameters[f"{name}_g"], module._parameters[f"{name}_v"]
    setattr(module, name, Parameter(weight.detach()))
    del module._forward_pre_hooks[number]
    return module
