"""Spectral normalisation: Miyato et al. 2018, algorithm 1."""

from __future__ import annotations

from typing import Any, TypeVar

import gpunet.nn.functional as F
from gpunet.autograd import Tensor, empty, no_grad
from gpunet.nn import init
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter
from gpunet.nn.utils.weight_norm import find_hook, take_parameter
from gpunet.ops.reduce import normalize_axis

__all__ = ["SpectralNorm", "as_matrix", "default_dim", "random_direction", "remove_spectral_norm", "spectral_norm"]

ModuleType = TypeVar("ModuleType", bound=Module)


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    """The weight with ``dim`` as its rows and all others as its columns."""
    if dim != 0:
        weight = weight.permute(dim, *(axis for axis in range(weight.ndim) if axis != dim))
    return weight.reshape(weight.shape[0], -1)


def default_dim(module: Module, dim: int | None) -> int:
    """The dimension of a layer's outputs: the second of transposed convolutions, the first of all others."""
    if dim is not None:
        return dim
    return int(any(kind.__name__.startswith("ConvTranspose") for kind in type(module).__mro__))


def random_direction(size: int, like: Tensor, eps: float) -> Tensor:
    """A random vector of length one."""
    return F.normalize(init.normal_(empty((size,), device=like.device, dtype=like.dtype)), dim=0, eps=eps)


def check_iterations(what: str, count: int) -> int:
    """At least one power iteration.

    Raises:
        ValueError: fewer.
    """
    if count < 1:
        raise ValueError(f"{what}: n_power_iterations must be at least 1, got {count}")
    return count


class SpectralNorm:
    """The pre-hook that divides the weight by its largest singular value before each forward pass."""

    def __init__(self, name: str, n_power_iterations: int, dim: int, eps: float) -> None:
        self.name = name
        self.n_power_iterations = check_iterations("spectral_norm", n_power_iterations)
        self.dim = dim
        self.eps = eps

    def compute_weight(self, module: Module, do_power_iteration: bool) -> Tensor:
        """w / sigma with sigma = u^T W v; u and v have no gradient."""
        weight = getattr(module, f"{self.name}_orig")
        u, v = getattr(module, f"{self.name}_u"), getattr(module, f"{self.name}_v")
        matrix = as_matrix(weight, self.dim)
        with no_grad():
            if do_power_iteration:
                old_u, old_v = u, v
                for _ in range(self.n_power_iterations):
                    v = F.normalize(matrix.T @ u, dim=0, eps=self.eps)
                    u = F.normalize(matrix @ v, dim=0, eps=self.eps)
                old_u.copy_(u)
                old_v.copy_(v)
            else:  # backward needs them as they are now
                u, v = u.clone(), v.clone()
        return weight / (u * (matrix @ v)).sum()

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, module.training))


def spectral_norm(
    module: ModuleType, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> ModuleType:
    """Divide a weight by its largest singular value, estimated by power iteration: Miyato et al. 2018.

    In training each forward pass improves the estimate by ``n_power_iterations``; evaluation keeps it. PyTorch's newer
    form is ``gpunet.nn.utils.parametrizations.spectral_norm``.

    Args:
        module: the layer; it gets the parameter ``<name>_orig`` and the buffers ``<name>_u`` and ``<name>_v``.
        name: of the weight.
        n_power_iterations: how often a training pass iterates.
        eps: the least length to divide by.
        dim: the dimension of the outputs; None means the first, or the second of transposed convolutions.

    Returns:
        The module.

    Raises:
        ValueError: it has no such parameter, or no iterations.
        RuntimeError: the weight is normalised already.
    """
    if find_hook(module, SpectralNorm, name) is not None:
        raise RuntimeError(f"spectral_norm: {name!r} is normalised already")
    weight = take_parameter(module, name, "spectral_norm")
    rows = normalize_axis("spectral_norm", default_dim(module, dim), weight.ndim)
    hook = SpectralNorm(name, n_power_iterations, rows, eps)
    height, width = as_matrix(weight.detach(), rows).shape
    u, v = random_direction(height, weight, eps), random_direction(width, weight, eps)
    del module._parameters[name]
    module.register_parameter(f"{name}_orig", weight)
    setattr(module, name, weight.detach())
    module.register_buffer(f"{name}_u", u)
    module.register_buffer(f"{name}_v", v)
    module.register_forward_pre_hook(hook)
    return module


def remove_spectral_norm(module: ModuleType, name: str = "weight") -> ModuleType:
    """Make the weight that ``spectral_norm`` computes an ordinary parameter again.

    Args:
        module: the layer.
        name: of the weight.

    Returns:
        The module.

    Raises:
        ValueError: the weight is not normalised.
    """
    number = find_hook(module, SpectralNorm, name)
    if number is None:
        raise ValueError(f"spectral_norm: {name!r} of {type(module).__name__} is not normalised")
    hook: Any = module._forward_pre_hooks[number].call
    with no_grad():
        weight = hook.compute_weight(module, False)
    delattr(module, name)
    for suffix in ("_u", "_v", "_orig"):
        delattr(module, name + suffix)
    setattr(module, name, Parameter(weight.detach()))
    del module._forward_pre_hooks[number]
    return module
