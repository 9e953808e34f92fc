"""Weight and spectral normalisation as parametrizations: the weight is computed each time it is read."""

from __future__ import annotations

from typing import TypeVar

import gpunet.nn.functional as F
from gpunet.autograd import Tensor, no_grad
from gpunet.nn.module import Module
from gpunet.nn.utils.parametrize import register_parametrization
from gpunet.nn.utils.spectral_norm import as_matrix, check_iterations, default_dim, random_direction
from gpunet.nn.utils.weight_norm import norm_except_dim, normed_weight
from gpunet.ops.reduce import normalize_axis

__all__ = ["spectral_norm", "weight_norm"]

ModuleType = TypeVar("ModuleType", bound=Module)


class _WeightNorm(Module):
    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return normed_weight(weight_v, weight_g, self.dim)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return norm_except_dim(weight, self.dim), weight


class _SpectralNorm(Module):
    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__()
        self.dim = normalize_axis("spectral_norm", dim, weight.ndim)
        self.n_power_iterations = check_iterations("spectral_norm", n_power_iterations)
        self.eps = eps
        if weight.ndim > 1:
            matrix = as_matrix(weight.detach(), self.dim)
            self.register_buffer("_u", random_direction(matrix.shape[0], weight, eps))
            self.register_buffer("_v", random_direction(matrix.shape[1], weight, eps))
            self._iterate(matrix, 15)  # so that the first passes find a reasonable estimate

    def _iterate(self, matrix: Tensor, count: int) -> None:
        with no_grad():
            u, v = self._u, self._v
            for _ in range(count):
                u = F.normalize(matrix @ v, dim=0, eps=self.eps)
                v = F.normalize(matrix.T @ u, dim=0, eps=self.eps)
            self._u.copy_(u)
            self._v.copy_(v)

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()  # the next pass writes to them, and backward needs them as they are
        return weight / (u * (matrix @ v)).sum()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def weight_norm(module: ModuleType, name: str = "weight", dim: int | None = 0) -> ModuleType:
    """Replace a weight by a length g and a direction v, w = g v / |v|: Salimans and Kingma 2016.

    Args:
        module: the layer; ``parametrizations.<name>.original0`` becomes g, ``original1`` v.
        name: of the weight.
        dim: each slice along it has a length of its own; None makes one for the whole weight.

    Returns:
        The module; ``parametrize.remove_parametrizations`` undoes it.

    Raises:
        ValueError: it has no such parameter.
    """
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)
    return module


def spectral_norm(
    module: ModuleType, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> ModuleType:
    """Divide a weight by its largest singular value, estimated by power iteration: Miyato et al. 2018.

    In training each reading of the weight improves the estimate by ``n_power_iterations``; evaluation keeps it.

    Args:
        module: the layer; ``parametrizations.<name>.original`` is the weight before the division.
        name: of the weight; a vector is divided by its length.
        n_power_iterations: how often a reading in training iterates.
        eps: the least length to divide by.
        dim: the dimension of the outputs; None means the first, or the second of transposed convolutions.

    Returns:
        The module; ``parametrize.remove_parametrizations`` undoes it.

    Raises:
        ValueError: it has no such parameter, or no iterations.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"spectral_norm: {type(module).__name__} has no parameter or buffer {name!r}")
    made = _SpectralNorm(weight, n_power_iterations, default_dim(module, dim), eps)
    register_parametrization(module, name, made)
    return module
