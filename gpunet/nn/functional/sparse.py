"""Classes as vectors: one-hot, and rows of a table."""

from __future__ import annotations

import math
from typing import Any

from gpunet.autograd import Tensor, apply, arange
from gpunet.backend.devices import array_module, on_device
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops import REGISTRY
from gpunet.ops.dtypes import INT64, compute_dtype
from gpunet.ops.embedding import check_indices

__all__ = ["embedding", "embedding_bag", "one_hot"]


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


def _check_table(op: str, weight: Tensor, index: Tensor, sparse: bool) -> None:
    for name, value in (("input", index), ("weight", weight)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{op}: {name} must be a Tensor, got {type(value).__name__}")
    if sparse:
        raise ValueError(f"{op}: sparse gradients are not supported; use sparse=False")


def _shorten_rows(weight: Tensor, index: Tensor, max_norm: float, norm_type: float) -> None:
    """Scale the rows that are looked up to a norm of at most ``max_norm``, in place."""
    if weight.device.type == "meta":
        return
    with on_device(weight.device):
        table = weight._array
        module = array_module(table)
        rows = module.unique(check_indices(index._array, len(table)))
        chosen = table[rows].astype(compute_dtype(table.dtype), copy=False)
        size = abs(chosen)
        if norm_type == math.inf:
            norms = size.max(axis=1, keepdims=True)
        else:
            norms = (size**norm_type).sum(axis=1, keepdims=True) ** (1.0 / norm_type)
        table[rows] = module.where(norms > max_norm, chosen * (max_norm / (norms + 1e-7)), chosen)
    weight._bump_version()


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of a table: weight[input].

    Args:
        input: indices (...), int64 or int32.
        weight: (num_embeddings, embedding_dim).
        padding_idx: an index that gets no gradient; negative ones count from the end.
        max_norm: rows that are looked up are first shortened to this norm, in place.
        norm_type: order of that norm.
        scale_grad_by_freq: divide each row's gradient by how often it was looked up.
        sparse: not supported.

    Returns:
        (..., embedding_dim). The gradient adds up in a fixed order: the same bits each time.

    Raises:
        IndexError: an index out of range; on a GPU at the next synchronisation.
        ValueError: ``padding_idx`` out of range, or ``sparse=True``.
    """
    _check_table("embedding", weight, input, sparse)
    attributes: dict[str, Any] = {"padding_idx": padding_idx, "scale_grad_by_freq": bool(scale_grad_by_freq)}
    if max_norm is not None:
        REGISTRY["embedding"].infer(weight, input, **attributes)  # before the table is written to
        _shorten_rows(weight, input, float(max_norm), float(norm_type))
    return apply(REGISTRY["embedding"], weight, input, **attributes)


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sums, means or maxima of bags of a table's rows: Joulin et al. 2017.

    Args:
        input: indices (B, L), a bag a row, or (M,), all bags one after the other.
        weight: (num_embeddings, embedding_dim).
        offsets: (B,), where each bag begins in an input (M,); they must not decrease.
        max_norm: rows that are looked up are first shortened to this norm, in place.
        norm_type: order of that norm.
        scale_grad_by_freq: divide each row's gradient by how often it was looked up.
        mode: ``"sum"``, ``"mean"`` or ``"max"``; an empty bag gives zeros.
        sparse: not supported.
        per_sample_weights: of the input's shape, the factor of each row; for ``"sum"`` alone.
        include_last_offset: the last offset is the end of the last bag.
        padding_idx: an index that counts for nothing.

    Returns:
        (B, embedding_dim).

    Raises:
        IndexError: an index out of range; on a GPU at the next synchronisation.
        ShapeError: an input of three dimensions, or offsets that do not fit it.
        ValueError: an unknown mode, arguments that exclude each other, or ``sparse=True``.
    """
    _check_table("embedding_bag", weight, input, sparse)
    if scale_grad_by_freq and mode == "max":
        raise ValueError("embedding_bag: scale_grad_by_freq needs mode 'sum' or 'mean', got 'max'")
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError("embedding_bag: offsets must not be given with an input of 2 dimensions")
        rows, length = input.shape
        if per_sample_weights is not None and per_sample_weights.shape == input.shape:
            per_sample_weights = per_sample_weights.reshape(-1)
        offsets = arange(0, rows * length, length, device=input.device) if length else arange(rows) * 0
        include_last_offset = False
        input = input.reshape(-1)
    elif offsets is None:
        raise ValueError("embedding_bag: offsets must be given with an input of 1 dimension")
    attributes: dict[str, Any] = {
        "mode": mode,
        "padding_idx": padding_idx,
        "scale_grad_by_freq": bool(scale_grad_by_freq),
        "last_offset": bool(include_last_offset),
    }
    if max_norm is not None:
        REGISTRY["embedding_bag"].infer(weight, input, offsets, per_sample_weights, **attributes)
        _shorten_rows(weight, input, float(max_norm), float(norm_type))
    return apply(REGISTRY["embedding_bag"], weight, input, offsets, per_sample_weights, **attributes)
