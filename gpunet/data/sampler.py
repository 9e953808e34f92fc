"""Samplers: in which order a dataset's samples are visited. After ``torch.utils.data``.

A sampler whose order changes from epoch to epoch has ``set_epoch``; the ``DataLoader`` calls it before each
pass. Every sampler here fixes its order when ``iter`` is called on it, so that two passes may overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import numpy as np

from gpunet.autograd import Tensor, from_numpy
from gpunet.backend.random import Generator, default_generator, keyed_generator

from ._checks import check_count, is_positive, length_of
from ._random import SHUFFLE

__all__ = [
    "BatchSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
]

T_co = TypeVar("T_co", covariant=True)

# Indices drawn at once where they are independent of each other.
_CHUNK = 1 << 16


class Sampler(Generic[T_co]):
    """An iterable of indices, or of lists of indices for a batch sampler."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ... in order.

    Args:
        data_source: the dataset.
    """

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(length_of("data_source", self.data_source)))

    def __len__(self) -> int:
        return length_of("data_source", self.data_source)


class _SeededSampler(Sampler[int]):
    """A sampler whose order is a function of the seed and the epoch alone.

    PyTorch's draw their order from wherever the global generator has come to. Here pass number e has the same
    order in every run of one seed, and a resumed run need not replay the passes before it.
    """

    def __init__(self, generator: Generator | None) -> None:
        self.generator = check_generator(generator)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; the passes after it count on from there."""
        self.epoch = check_count("epoch", epoch)

    def _next_source(self) -> np.random.Generator:
        source = keyed_generator(seed_of(self.generator), SHUFFLE, self.epoch)
        self.epoch += 1
        return source


class RandomSampler(_SeededSampler):
    """A random order.

    Args:
        data_source: the dataset.
        replacement: draw each index anew from all, instead of going through a shuffled dataset.
        num_samples: how many indices to draw; the dataset's length if None. Without replacement, more than
            that means another shuffle of the whole. They are drawn as they are asked for: there may be billions.
        generator: whose seed counts; the default "data" generator's if None.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        if not isinstance(replacement, bool):
            raise TypeError(f"replacement: expected a bool, got {replacement!r}")
        super().__init__(generator)
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        if not is_positive(self.num_samples):
            raise ValueError(f"num_samples: must be a positive integer, got {self.num_samples!r}")

    @property
    def num_samples(self) -> int:
        """How many indices one pass has."""
        return length_of("data_source", self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        source = self._next_source()
        total, size = length_of("data_source", self.data_source), self.num_samples
        if total == 0:
            raise ValueError("data_source: cannot draw from an empty dataset")
        if self.replacement:
            parts = (
                source.integers(total, size=min(_CHUNK, size - start)).tolist() for start in range(0, size, _CHUNK)
            )
        else:
            parts = (source.permutation(total).tolist() for _ in range(-(-size // total)))
        return itertools.islice(itertools.chain.from_iterable(parts), size)

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(_SeededSampler):
    """Some indices in a random order.

    Args:
        indices: which.
        generator: whose seed counts; the default "data" generator's if None.
    """

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        super().__init__(generator)
        length_of("indices", indices)
        self.indices = indices

    def __iter__(self) -> Iterator[int]:
        order = self._next_source().permutation(len(self.indices)).tolist()
        return (self.indices[position] for position in order)

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(_SeededSampler):
    """Indices drawn with probabilities of their own.

    Without replacement, index i comes first with probability w_i / sum w, and so on among those that are left:
    the order of u_i^(1/w_i) for uniform u (Efraimidis and Spirakis 2006).

    Args:
        weights: one per index, not negative; they need not sum to 1. A sequence, an array or a Tensor.
        num_samples: how many indices to draw.
        replacement: whether an index may come again.
        generator: whose seed counts; the default "data" generator's if None.

    Attributes:
        weights: as a float64 Tensor.

    Raises:
        ValueError: weights that are negative, not finite or all zero, or fewer of them above zero than indices to
            draw without replacement; PyTorch finds out when the indices are asked for.
    """

    weights: Tensor

    def __init__(
        self,
        weights: Sequence[float] | np.ndarray | Tensor,
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        if not is_positive(num_samples):
            raise ValueError(f"num_samples: must be a positive integer, got {num_samples!r}")
        if not isinstance(replacement, bool):
            raise ValueError(f"replacement: expected a bool, got {replacement!r}")
        super().__init__(generator)
        held = weights.detach().cpu().numpy() if isinstance(weights, Tensor) else weights
        values = np.array(held, np.float64)
        if values.ndim != 1:
            raise ValueError(f"weights: must be a sequence of numbers, got shape {values.shape}")
        if not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
            raise ValueError("weights: must be finite, not negative, and not all zero")
        possible = int(np.count_nonzero(values))
        if not replacement and num_samples > possible:
            raise ValueError(
                f"num_samples: {num_samples} cannot be drawn without replacement from {possible} weights above zero"
            )
        self.weights = from_numpy(values)
        self.num_samples = num_samples
        self.replacement = replacement

    def __iter__(self) -> Iterator[int]:
        source, weights = self._next_source(), self.weights.numpy()
        if not self.replacement:
            with np.errstate(divide="ignore"):
                keys = np.log(1.0 - source.random(len(weights))) / weights
            keys[weights == 0] = -np.inf
            return iter(np.argsort(-keys, kind="stable")[: self.num_samples].tolist())
        bounds = np.cumsum(weights)
        bounds /= bounds[-1]
        parts = (
            np.searchsorted(bounds, source.random(min(_CHUNK, self.num_samples - start)), "right").tolist()
            for start in range(0, self.num_samples, _CHUNK)
        )
        return itertools.chain.from_iterable(parts)

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of ``batch_size`` indices from another sampler.

    Args:
        sampler: any iterable of indices.
        batch_size: positive.
        drop_last: leave out the last batch when it is smaller than the others.
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        check_batches(batch_size, drop_last)
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def set_epoch(self, epoch: int) -> None:
        """Tell the sampler within, if it wants to know."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        # Ask for the indices now, not at the first batch: their order depends on the sampler's epoch.
        return self._batches(iter(self.sampler))

    def _batches(self, indices: Iterator[int]) -> Iterator[list[int]]:
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield batch

    def __len__(self) -> int:
        length = length_of("sampler", self.sampler)
        return length // self.batch_size if self.drop_last else -(-length // self.batch_size)


def check_batches(batch_size: Any, drop_last: Any) -> None:
    """Raise unless these are a batch's size, and whether to leave out one that is smaller.

    Raises:
        ValueError: naming the argument.
    """
    if not is_positive(batch_size):
        raise ValueError(f"batch_size: must be a positive integer, got {batch_size!r}")
    if not isinstance(drop_last, bool):
        raise ValueError(f"drop_last: expected a bool, got {drop_last!r}")


def check_generator(generator: Any) -> Generator | None:
    """The generator, or None for the default one.

    Raises:
        TypeError: it is something else, such as a NumPy generator, whose seed cannot be asked for.
    """
    if generator is not None and not isinstance(generator, Generator):
        raise TypeError(
            f"generator: expected a gpunet.Generator or None, got {type(generator).__module__}."
            f"{type(generator).__qualname__} (gpunet.Generator(seed) makes one)"
        )
    return generator


def seed_of(generator: Generator | None) -> int:
    """The seed that orders are drawn with."""
    return (default_generator("data") if generator is None else generator).initial_seed()
