"""Parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from gpunet.autograd import Tensor, cat, no_grad
from gpunet.backend.errors import DeviceError, ShapeError

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def _check(parameters: Iterable[Tensor]) -> list[Tensor]:
    given = list(parameters)
    for parameter in given:
        if not isinstance(parameter, Tensor):
            raise TypeError(f"parameters: expected Tensors, got {type(parameter).__name__}")
        if parameter.device is not given[0].device:
            raise DeviceError(
                f"parameters: must be on one device, got {str(given[0].device)!r} and {str(parameter.device)!r}"
            )
    return given


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of the parameters, in logical order, one after the other; differentiable.

    Args:
        parameters: Tensors of any shapes on one device.

    Returns:
        A vector with as many elements as they have together.

    Raises:
        DeviceError: they are on several devices.
        ValueError: there are none.
    """
    given = _check(parameters)
    if not given:
        raise ValueError("parameters: expected at least one Tensor, got none")
    return cat([parameter.reshape(-1) for parameter in given])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write the elements of a vector into the parameters, in the order of ``parameters_to_vector``.

    Where PyTorch lets the parameters share the vector's memory, here they are copied: parameters keep their own memory,
    which optimizers and gradient buffers rely on.

    Args:
        vec: a vector; elements that are left over are passed over.
        parameters: Tensors of any shapes on one device.

    Raises:
        TypeError: not a Tensor.
        ShapeError: not a vector, or one with too few elements; nothing is written.
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"vec: expected a Tensor, got {type(vec).__name__}")
    given = _check(parameters)
    needed = sum(parameter.numel() for parameter in given)
    if vec.ndim != 1 or vec.numel() < needed:
        raise ShapeError(f"vec: must be a vector of at least {needed} elements, got shape {tuple(vec.shape)}")
    position = 0
    with no_grad():
        for parameter in given:
            count = parameter.numel()
            parameter.copy_(vec[position : position + count].reshape(parameter.shape))
            position += count
