"""Gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from gpunet.autograd import Tensor, tensor
from gpunet.backend.devices import array_module, on_device, transfer
from gpunet.ops.dtypes import compute_dtype

__all__ = ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for parameter in given:
        if not isinstance(parameter, Tensor):
            raise TypeError(f"parameters: expected Tensors, got {type(parameter).__name__}")
    return [parameter.grad for parameter in given if parameter.grad is not None]


def _norm(array: Any, norm_type: float) -> Any:
    """The norm of an array as a 0-d array, where the array is."""
    module = array_module(array)
    dtype = compute_dtype(array.dtype)
    if norm_type == math.inf:
        norm = module.abs(array).max() if array.size else 0.0
    elif norm_type == 0:
        norm = (array != 0).sum()
    elif norm_type == 2:
        norm = module.sqrt(module.square(array, dtype=dtype).sum())
    else:
        norm = (module.abs(array).astype(dtype, copy=False) ** norm_type).sum() ** (1.0 / norm_type)
    return module.asarray(norm, dtype)


def _check_norm_type(norm_type: float) -> float:
    norm_type = float(norm_type)
    if not norm_type >= 0:
        raise ValueError(f"norm_type: must be a number of at least 0, got {norm_type}")
    return norm_type


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of several tensors taken as one vector.

    Args:
        tensors: a Tensor or several, on any devices.
        norm_type: 2, 1, ``inf``, 0 (the number of elements that are not 0), or any other p above 0.
        error_if_nonfinite: raise if the norm is NaN or infinite.
        foreach: accepted for PyTorch's sake.

    Returns:
        A 0-d Tensor on the first one's device; 0 for none.

    Raises:
        ValueError: a norm_type that is negative or no number.
        RuntimeError: a norm that is not finite, if asked for.
    """
    norm_type = _check_norm_type(norm_type)
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not given:
        return tensor(0.0)
    home = given[0].device
    norms = []
    with np.errstate(all="ignore"):
        for one in given:
            with on_device(one.device):
                norms.append(_norm(one._array, norm_type))
        with on_device(home):
            module = array_module(norms[0])
            total = _norm(module.stack([transfer(norm, home) for norm in norms]), norm_type)
    if error_if_nonfinite and not math.isfinite(float(total)):
        raise RuntimeError(
            f"the gradients' norm of order {norm_type} is {float(total)}, so they cannot be clipped; "
            "error_if_nonfinite=False clips all the same"
        )
    return Tensor._wrap(total, home)


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scale all gradients, in place, by min(1, max_norm / (total_norm + 1e-6)).

    Args:
        parameters: a Tensor or several; those without a gradient are passed over.
        max_norm: the bound.
        total_norm: the norm that the gradients have together, 0-d.
        foreach: accepted for PyTorch's sake.

    Raises:
        ValueError: a bound that is negative or no number.
    """
    max_norm = float(max_norm)
    if not max_norm >= 0:
        raise ValueError(f"max_norm: must be a number of at least 0, got {max_norm}")
    gradients = _gradients(parameters)
    with np.errstate(all="ignore"):
        with on_device(total_norm.device):
            module = array_module(total_norm._array)
            factor = module.asarray(module.minimum(max_norm / (total_norm._array + 1e-6), 1.0))
        for gradient in gradients:
            with on_device(gradient.device):
                gradient._array *= transfer(factor, gradient.device).astype(gradient.dtype)
            gradient._bump_version()


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients, in place, so that their joint norm does not exceed a bound: Pascanu et al. 2013.

    The factor is min(1, max_norm / (norm + 1e-6)), PyTorch's, and stays on the device: nothing is read back unless
    ``error_if_nonfinite`` asks for it.

    Args:
        parameters: a Tensor or several; those without a gradient are passed over.
        max_norm: the bound.
        norm_type: 2, 1, ``inf``, 0 (the number of elements that are not 0), or any other p above 0.
        error_if_nonfinite: raise if the norm is NaN or infinite.
        foreach: accepted for PyTorch's sake.

    Returns:
        The norm before clipping, a 0-d Tensor.

    Raises:
        ValueError: a bound or a norm_type that is negative or no number.
        RuntimeError: a norm that is not finite, if asked for.
    """
    if not float(max_norm) >= 0:
        raise ValueError(f"max_norm: must be a number of at least 0, got {float(max_norm)}")
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    total = get_total_norm(_gradients(given), norm_type, error_if_nonfinite)
    clip_grads_with_norm_(given, max_norm, total)
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Clamp every element of the gradients, in place, to [-clip_value, clip_value].

    Args:
        parameters: a Tensor or several; those without a gradient are passed over.
        clip_value: the bound.
        foreach: accepted for PyTorch's sake.

    Raises:
        ValueError: a bound that is negative or no number.
    """
    clip_value = float(clip_value)
    if not clip_value >= 0:
        raise ValueError(f"clip_value: must be a number of at least 0, got {clip_value}")
    for gradient in _gradients(parameters):
        with on_device(gradient.device):
            array_module(gradient._array).clip(gradient._array, -clip_value, clip_value, out=gradient._array)
        gradient._bump_version()
