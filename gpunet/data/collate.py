"""Putting samples together into a batch, after ``torch.utils.data.default_collate``."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

import gpunet.autograd as autograd
from gpunet.autograd import Tensor
from gpunet.backend.errors import DTypeError, ShapeError

__all__ = ["default_collate", "default_convert"]


def default_collate(batch: Sequence[Any]) -> Any:
    """Put a list of samples together.

    ======================  ======================================================
    of                      becomes
    ======================  ======================================================
    tensors, arrays (...)   a tensor (N, ...)
    float, int, bool        a tensor (N,) of float64, int64, bool
    NumPy scalars           a tensor (N,) of their dtype
    str, bytes              the list as it is
    dict                    the same kind of dict, each value put together
    namedtuple              the same kind, each field put together
    tuple                   a list, each position put together (as PyTorch has it)
    list, other sequences   the same kind, each position put together
    ======================  ======================================================

    Raises:
        ShapeError: tensors or arrays of different shapes.
        ValueError: sequences of different lengths, or an empty batch.
        TypeError: samples of a type that is not in the table, None among them.
    """
    if len(batch) == 0:
        raise ValueError("batch: cannot put an empty list of samples together")
    first = batch[0]
    if isinstance(first, Tensor):
        _check_shapes([item.shape for item in batch])
        return autograd.stack(list(batch), 0)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, (np.ndarray, np.generic)):
        return _collate_arrays(batch)
    if isinstance(first, float):
        return autograd.tensor(list(batch), dtype=np.dtype(np.float64))
    if isinstance(first, int):
        return autograd.tensor(list(batch))
    if isinstance(first, Mapping):
        return _collate_mappings(batch)
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(default_collate(items) for items in zip(*batch, strict=True)))
    if isinstance(first, Sequence):
        return _collate_sequences(batch)
    raise TypeError(
        f"batch: samples must be tensors, arrays, numbers, strings, dicts or sequences of them, "
        f"got {type(first).__name__} (a collate_fn can put anything together)"
    )


def default_convert(sample: Any) -> Any:
    """One sample on its own: arrays become tensors, also within dicts and sequences; the rest stays."""
    if isinstance(sample, (Tensor, str, bytes)):
        return sample
    if isinstance(sample, (np.ndarray, np.generic)):
        return sample if sample.dtype.kind in "SUO" else autograd.from_numpy(np.asarray(sample))
    if isinstance(sample, Mapping):
        values = {key: default_convert(value) for key, value in sample.items()}
        try:
            return type(sample)(values)  # type: ignore[call-arg]
        except TypeError:
            return values
    if isinstance(sample, tuple):
        items = [default_convert(item) for item in sample]
        return type(sample)(*items) if hasattr(sample, "_fields") else items
    if isinstance(sample, Sequence):
        items = [default_convert(item) for item in sample]
        try:
            return type(sample)(items)  # type: ignore[call-arg]
        except TypeError:
            return items
    return sample


def _check_shapes(shapes: list[tuple[int, ...]]) -> None:
    for position, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ShapeError(
                f"batch: samples must have equal shapes, got {tuple(shapes[0])} at position 0 "
                f"and {tuple(shape)} at position {position}"
            )


def _collate_arrays(batch: Sequence[Any]) -> Tensor:
    arrays = [np.asarray(item) for item in batch]
    if arrays[0].dtype.kind in "SUO":
        raise DTypeError(f"batch: cannot make a tensor of arrays of {arrays[0].dtype}")
    _check_shapes([array.shape for array in arrays])
    return autograd.from_numpy(np.stack(arrays))


def _collate_mappings(batch: Sequence[Mapping[Any, Any]]) -> Any:
    first = batch[0]
    values = {key: default_collate([item[key] for item in batch]) for key in first}
    try:
        if isinstance(first, MutableMapping):
            # A copy keeps what the type has besides its items.
            clone = copy.copy(first)
            clone.update(values)
            return clone
        return type(first)(values)  # type: ignore[call-arg]
    except TypeError:
        return values


def _collate_sequences(batch: Sequence[Sequence[Any]]) -> Any:
    first = batch[0]
    lengths = [len(item) for item in batch]
    if len(set(lengths)) > 1:
        raise ValueError(f"batch: sequences must have equal lengths, got {lengths}")
    values = [default_collate(items) for items in zip(*batch, strict=True)]
    if isinstance(first, tuple):
        return values
    try:
        if isinstance(first, MutableSequence):
            clone = copy.copy(first)
            for position, value in enumerate(values):
                clone[position] = value
            return clone
        return type(first)(values)  # type: ignore[call-arg]
    except TypeError:
        return values
