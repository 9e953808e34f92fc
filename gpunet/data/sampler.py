"""Samplers: in which order a dataset's samples are visited. After ``torch.utils.data``.

A sampler whose order changes from epoch to epoch has ``set_epoch``; the ``DataLoader`` calls it before each
pass. Every sampler here fixes its order when ``iter`` is called on it, so that two passes may overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sized
from typing import Any, Generic, TypeVar

from gpunet.backend.random import Generator, default_generator, keyed_generator

from ._checks import check_count, is_positive, length_of
from ._random import SHUFFLE

__all__ = ["BatchSampler", "RandomSampler", "Sampler", "SequentialSampler"]

T_co = TypeVar("T_co", covariant=True)


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


class RandomSampler(Sampler[int]):
    """A random order, which is a function of the seed and the epoch alone.

    PyTorch's draws its order from wherever the global generator has come to. Here pass number e has the same
    order in every run of one seed, and a resumed run need not replay the passes before it.

    Args:
        data_source: the dataset.
        replacement: draw each index anew from all, instead of going through a shuffled dataset.
        num_samples: how many indices to draw; the dataset's length if None. Without replacement, more than
            that means another shuffle of the whole.
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
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = check_generator(generator)
        self.epoch = 0
        if not is_positive(self.num_samples):
            raise ValueError(f"num_samples: must be a positive integer, got {self.num_samples!r}")

    @property
    def num_samples(self) -> int:
        """How many indices one pass has."""
        return length_of("data_source", self.data_source) if self._num_samples is None else self._num_samples

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; the passes after it count on from there."""
        self.epoch = check_count("epoch", epoch)

    def __iter__(self) -> Iterator[int]:
        source = keyed_generator(seed_of(self.generator), SHUFFLE, self.epoch)
        self.epoch += 1
        total, size = length_of("data_source", self.data_source), self.num_samples
        if total == 0:
            raise ValueError("data_source: cannot draw from an empty dataset")
        if self.replacement:
            return iter(source.integers(total, size=size).tolist())
        orders = (source.permutation(total).tolist() for _ in range(-(-size // total)))
        return itertools.islice(itertools.chain.from_iterable(orders), size)

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
        if not is_positive(batch_size):
            raise ValueError(f"batch_size: must be a positive integer, got {batch_size!r}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last: expected a bool, got {drop_last!r}")
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
