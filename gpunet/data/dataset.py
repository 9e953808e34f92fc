"""Datasets: what has a length and gives a sample for an index. After ``torch.utils.data``.

Three ways to ask for samples, from the general to the fast:

``__getitem__(index)``
    one sample. All that a dataset of your own needs, besides ``__len__``.
``__getitems__(indices)``
    a list of samples, PyTorch's optional protocol for datasets that read several at once more cheaply.
``__getbatch__(indices)``
    a whole batch, as ``default_collate`` would make it from those samples: one fancy index instead of a
    Python object per sample. The ``DataLoader`` uses it when no ``collate_fn`` is given. A dataset that
    sometimes cannot says so by an attribute ``can_gather``.

A class that overrides one of them without the faster ones below it in this list gets its own: a subclass of
``TensorDataset`` with a new ``__getitem__`` is loaded through that ``__getitem__``.
"""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from gpunet.autograd import Tensor
from gpunet.backend.errors import ShapeError
from gpunet.backend.random import Generator, default_generator

from ._checks import length_of

__all__ = [
    "ChainDataset",
    "ConcatDataset",
    "Dataset",
    "IterableDataset",
    "StackDataset",
    "Subset",
    "TensorDataset",
    "random_split",
]

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Dataset(Generic[T_co]):
    """A map from an index to a sample. Subclasses define ``__getitem__`` and ``__len__``."""

    def __getitem__(self, index: int) -> T_co:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    # No default __len__: without one len() raises TypeError, as it should for a dataset of unknown length.

    def __add__(self, other: Dataset[Any]) -> ConcatDataset[Any]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Samples that come one after the other, as from a stream. Subclasses define ``__iter__``, and may ``__len__``.

    With ``num_workers`` in the ``DataLoader`` every worker iterates over a (shallow) copy of the dataset, and all of
    them give everything unless ``__iter__`` asks ``get_worker_info()`` which part is its own.
    """

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")

    def __add__(self, other: Dataset[Any]) -> ChainDataset[Any]:  # type: ignore[override]
        return ChainDataset([self, other])  # type: ignore[list-item]


class ChainDataset(IterableDataset[T_co]):
    """Several streams, one after the other.

    Args:
        datasets: each an ``IterableDataset``.
    """

    def __init__(self, datasets: Iterable[IterableDataset[T_co]]) -> None:
        self.datasets = datasets

    def _checked(self) -> Iterator[IterableDataset[T_co]]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise TypeError(f"ChainDataset: takes IterableDatasets, got {type(dataset).__name__}")
            yield dataset

    def __iter__(self) -> Iterator[T_co]:
        for dataset in self._checked():
            yield from dataset

    def __len__(self) -> int:
        return sum(length_of("datasets", dataset) for dataset in self._checked())


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Samples from tensors of one length: sample i is the tuple of their rows i.

    Args:
        tensors: each of shape (N, ...).

    Raises:
        ShapeError: no tensor, a tensor without dimensions, or lengths that differ.
    """

    tensors: tuple[Tensor, ...]

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors:
            raise ShapeError("TensorDataset: expected at least one tensor, got none")
        for position, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                raise TypeError(
                    f"TensorDataset: expected tensors, got {type(tensor).__name__} at position {position} "
                    f"(gpunet.from_numpy makes a tensor of an array)"
                )
            if tensor.ndim == 0:
                raise ShapeError(f"TensorDataset: the tensor at position {position} has no dimensions to index")
        lengths = [tensor.shape[0] for tensor in tensors]
        if len(set(lengths)) > 1:
            raise ShapeError(f"TensorDataset: all tensors must have the same length, got {lengths}")
        self.tensors = tensors

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __getbatch__(self, indices: Sequence[int]) -> list[Tensor]:
        rows = np.asarray(indices, np.int64)
        return [tensor[rows] for tensor in self.tensors]

    def __len__(self) -> int:
        return self.tensors[0].shape[0]


class ConcatDataset(Dataset[T_co]):
    """Several datasets, one after the other.

    Args:
        datasets: at least one, each with a length.
    """

    datasets: list[Dataset[T_co]]
    cumulative_sizes: list[int]

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("datasets: expected at least one, got none")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise TypeError("datasets: an IterableDataset has no indices; ChainDataset joins those")
        self.cumulative_sizes = list(itertools.accumulate(length_of("datasets", dataset) for dataset in self.datasets))

    def __getitem__(self, index: int) -> T_co:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"index {index} is out of range for a dataset of {len(self)} samples")
        which = bisect.bisect_right(self.cumulative_sizes, position)
        start = self.cumulative_sizes[which - 1] if which else 0
        return self.datasets[which][position - start]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class StackDataset(Dataset[Any]):
    """Several datasets of one length, side by side: sample i is a tuple, or a dict, of their samples i.

    Args:
        args: the datasets for a tuple, or
        kwargs: those for a dict.

    Raises:
        ValueError: none, both kinds, or lengths that differ.
    """

    datasets: tuple[Any, ...] | dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise ValueError("StackDataset: takes datasets by position or by name, got " + ("both" if args else "none"))
        self.datasets = args or kwargs
        lengths = [length_of("datasets", dataset) for dataset in self._all()]
        if len(set(lengths)) > 1:
            raise ValueError(f"StackDataset: all datasets must have the same length, got {lengths}")
        self._length = lengths[0]

    def _all(self) -> tuple[Any, ...]:
        return tuple(self.datasets.values()) if isinstance(self.datasets, dict) else self.datasets

    def _together(self, parts: Iterable[Any]) -> Any:
        return dict(zip(self.datasets, parts, strict=True)) if isinstance(self.datasets, dict) else tuple(parts)

    def __getitem__(self, index: int) -> Any:
        return self._together(dataset[index] for dataset in self._all())

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        columns = [_items_of(dataset, indices) for dataset in self._all()]
        for column in columns:
            if len(column) != len(indices):
                raise ValueError(f"StackDataset: a dataset gave {len(column)} samples for {len(indices)} indices")
        return [self._together(parts) for parts in zip(*columns, strict=True)]

    def __len__(self) -> int:
        return self._length


def _items_of(dataset: Any, indices: Sequence[int]) -> list[Any]:
    getitems = getattr(dataset, "__getitems__", None)
    return getitems(indices) if callable(getitems) else [dataset[index] for index in indices]


class Subset(Dataset[T_co]):
    """The samples of a dataset at some indices.

    Args:
        dataset: the whole.
        indices: which of its samples, in which order.
    """

    dataset: Dataset[T_co]
    indices: Sequence[int]

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: int) -> T_co:
        if isinstance(index, list):  # what a dataset that takes lists is asked for
            return self.dataset[[self.indices[position] for position in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: Sequence[int]) -> list[T_co]:
        return _items_of(self.dataset, [self.indices[index] for index in indices])

    def __getbatch__(self, indices: Sequence[int]) -> Any:
        return self.dataset.__getbatch__([self.indices[index] for index in indices])  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(
    dataset: Dataset[T], lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset[T]]:
    """Split a dataset at random into parts that do not overlap.

    Args:
        dataset: with a length.
        lengths: the parts' sizes, which sum to the dataset's; or fractions that sum to 1, each rounded down,
            what is left over going to the parts one by one from the first on.
        generator: the order is drawn from it; the default "data" generator if None. The draws are not
            PyTorch's.

    Raises:
        ValueError: the lengths do not fit.
    """
    total = length_of("dataset", dataset)
    sizes = _split_sizes(lengths, total)
    order = (generator or default_generator("data")).numpy().permutation(total).tolist()
    ends = itertools.accumulate(sizes)
    return [Subset(dataset, order[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def _split_sizes(lengths: Sequence[int | float], total: int) -> list[int]:
    for index, length in enumerate(lengths):
        if isinstance(length, bool) or not isinstance(length, (int, float, np.integer, np.floating)):
            raise TypeError(f"lengths: expected numbers, got {type(length).__name__} at index {index}")
        if not length >= 0:
            raise ValueError(f"lengths: must not be negative, got {length} at index {index}")
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        sizes = [math.floor(total * fraction) for fraction in lengths]
        for index in range(total - sum(sizes)):
            sizes[index % len(sizes)] += 1
        for index, size in enumerate(sizes):
            if size == 0:
                warnings.warn(
                    f"Length of split at index {index} is 0. This might result in an empty dataset.",
                    stacklevel=3,
                )
        return sizes
    if any(not float(length).is_integer() for length in lengths):
        raise ValueError(f"lengths: fractions must sum to 1, got {list(lengths)}, in sum {sum(lengths):g}")
    if sum(lengths) != total:
        raise ValueError(
            f"lengths: must sum to the dataset's length {total}, got {list(lengths)}, in sum {sum(lengths)}"
        )
    return [int(length) for length in lengths]


def supports(dataset: Any, method: str) -> bool:
    """Whether ``__getbatch__`` or ``__getitems__`` may stand in for ``__getitem__``.

    Not when a subclass overrides ``__getitem__`` below the class that brings the faster one, which would bypass
    it.
    """
    for cls in type(dataset).__mro__:
        if method in vars(cls):
            break
        if "__getitem__" in vars(cls) or "__getitems__" in vars(cls):
            return False
    else:
        return False
    if isinstance(dataset, Subset) and cls is Subset:
        return supports(dataset.dataset, method)
    return bool(getattr(dataset, "can_gather", True))
