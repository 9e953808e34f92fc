"""Classes as vectors."""

from __future__ import annotations

from gpunet.autograd import Tensor, arange
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops.dtypes import INT64

__all__ = ["one_hot"]


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Class indices (...) as rows of zeros with a one: (..., num_classes), int64.

    Raises:
        DTypeError: not int64.
        IndexError: an index outside 0..num_classes-1.
    """
    if tensor.dtype != INT64:
        raise DTypeError(f"one_hot: input must be int64, got {tensor.dtype.name}")
    if num_classes == -1:
        if tensor.numel() == 0:
            raise ShapeError("one_hot: num_classes must be given for an empty tensor")
        num_classes = int(tensor.max().item()) + 1
    if (
        tensor.numel()
        and tensor._device.type == "cpu"
        and (int(tensor.min().item()) < 0 or int(tensor.max().item()) >= num_classes)
    ):
        raise IndexError(f"one_hot: indices must lie in 0..{num_classes - 1}")
    return (tensor.unsqueeze(-1) == arange(num_classes, device=tensor.device)).long()
