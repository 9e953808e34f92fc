"""The ``DataLoader``, after ``torch.utils.data.DataLoader``, with threads for workers.

The samples of pass e come in an order that is a function of (seed, e), and random transforms draw what
is a function of (seed, e, sample): neither depends on the number of workers or on what was loaded before. So
``loader.iterate(epoch=7, start_batch=30)`` gives exactly the batches that the seventh pass had from its
thirtieth on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from gpunet.backend.errors import CheckpointError
from gpunet.backend.random import Generator

from ._checks import check_count, is_number, length_of
from .collate import default_collate, default_convert
from .dataset import Dataset, IterableDataset
from .passes import DirectIterator, Fetch, Position, Stream, WorkerIterator, stream_jobs
from .sampler import (
    BatchSampler,
    RandomSampler,
    SequentialSampler,
    check_batches,
    check_generator,
    seed_of,
)
from .workers import WorkerInfo, Workers, get_worker_info

__all__ = ["DataLoader", "WorkerInfo", "default_collate", "default_convert", "get_worker_info"]

T_co = TypeVar("T_co", covariant=True)

# What cannot be changed once the loader is there: the samplers were made of them.
_FIXED = frozenset({"batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"})


class DataLoader(Generic[T_co]):
    """Batches from a dataset.

    Every ``iter(loader)`` is the next pass, counting from 0 (or from ``set_epoch``).

    Args:
        dataset: with ``__getitem__`` and ``__len__``; or an ``IterableDataset``, which excludes shuffle and samplers,
            and of which every worker gives its own batches, in turn.
        batch_size: samples per batch; None gives the samples one by one, not put together.
        shuffle: a new random order in every pass.
        sampler: any iterable of indices, instead of ``shuffle``.
        batch_sampler: any iterable of lists of indices, instead of batch_size, shuffle, sampler and
            drop_last.
        num_workers: threads that load ahead; 0 loads when asked. The batches are the same.
        collate_fn: makes a batch of a list of samples; ``default_collate`` if None, which for datasets that
            can gather a whole batch at once (``TensorDataset``, ``Digits``) is not called at all.
        pin_memory: taken for PyTorch's sake. Batches are in ordinary memory.
        drop_last: leave out the last batch when it is smaller than the others.
        timeout: seconds to wait for a batch from the workers; 0 waits as long as they live.
        worker_init_fn: called with the worker's number on each worker, before it loads anything.
        multiprocessing_context: taken for PyTorch's sake; must be None, workers are threads.
        generator: its seed decides the order; the seed of ``manual_seed`` if None. Only the seed counts,
            nothing is drawn from it: pass e is the same whatever came before.
        prefetch_factor: batches loaded ahead per worker; 2 if None.
        persistent_workers: keep the threads from one pass to the next.
        pin_memory_device, in_order: taken for PyTorch's sake. Batches always come in order.

    Raises:
        TypeError, ValueError: an argument that is wrong in itself or excludes another.
        RuntimeError: while iterating, when a worker takes longer than ``timeout`` or dies. Any other exception of
            a worker is raised as its own class, with the worker's traceback in its message.
    """

    def __init__(
        self,
        dataset: Dataset[T_co],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: None = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        self.num_workers = check_count("num_workers", num_workers)
        if not (is_number(timeout) and timeout >= 0):
            raise ValueError(f"timeout: must be a number of seconds, zero or more, got {timeout!r}")
        if prefetch_factor is not None:
            if num_workers == 0:
                raise ValueError("prefetch_factor: needs num_workers > 0")
            if check_count("prefetch_factor", prefetch_factor) == 0:
                raise ValueError("prefetch_factor: must be at least 1, got 0")
        if persistent_workers and num_workers == 0:
            raise ValueError("persistent_workers: needs num_workers > 0")
        if multiprocessing_context is not None:
            raise ValueError(
                f"multiprocessing_context: must be None, got {multiprocessing_context!r}: workers are threads"
            )
        for name, function in (("collate_fn", collate_fn), ("worker_init_fn", worker_init_fn)):
            if function is not None and not callable(function):
                raise TypeError(f"{name}: expected a function, got {type(function).__name__}")
        self._streaming = isinstance(dataset, IterableDataset)
        if not hasattr(dataset, "__getitem__"):
            raise TypeError(f"dataset: needs __len__ and __getitem__, got {type(dataset).__name__}")
        if self._streaming:
            _check_streaming(shuffle, sampler, batch_sampler)
        if sampler is not None and shuffle:
            raise ValueError("sampler: excludes shuffle=True")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError("batch_sampler: excludes batch_size, shuffle, sampler and drop_last")
        if batch_sampler is None and batch_size is None and drop_last:
            raise ValueError("batch_size: None gives single samples, and excludes drop_last=True")

        self.dataset = dataset
        self.generator = check_generator(generator)
        single = batch_sampler is None and batch_size is None
        if self._streaming:
            if not single:
                check_batches(batch_size, drop_last)
        else:
            if sampler is None and batch_sampler is None:
                sized: Any = dataset
                sampler = RandomSampler(sized, generator=generator) if shuffle else SequentialSampler(sized)
            if batch_sampler is not None:
                batch_size = None
            elif batch_size is not None:
                assert sampler is not None
                batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size = batch_size
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.drop_last = drop_last
        self.pin_memory = pin_memory
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.prefetch_factor = prefetch_factor if prefetch_factor or not num_workers else 2
        self.persistent_workers = persistent_workers
        self._whole_batches = collate_fn is None and batch_sampler is not None
        self.collate_fn = collate_fn or (default_convert if single else default_collate)
        self.epoch = 0
        self._start_batch = 0
        self._latest: Position | None = None
        self._workers: Workers | None = None
        self._made = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and "_made" in self.__dict__:
            raise ValueError(f"{name}: cannot be changed after the DataLoader was made")
        super().__setattr__(name, value)

    def __len__(self) -> int:
        """The number of batches of one pass; a stream's is what its own length promises."""
        if self._streaming:
            length = length_of("dataset", self.dataset)
            if self.batch_size is None:
                return length
            return length // self.batch_size if self.drop_last else -(-length // self.batch_size)
        return length_of("batch_sampler" if self.batch_sampler is not None else "sampler", self._plan)

    @property
    def _plan(self) -> Iterable[Any]:
        """What gives the indices of one batch after the other."""
        if self.batch_sampler is not None:
            return self.batch_sampler
        assert self.sampler is not None
        return self.sampler

    def __iter__(self) -> Iterator[Any]:
        epoch, start = self.epoch, self._start_batch
        batches = self.iterate(epoch, start)
        self.epoch, self._start_batch = epoch + 1, 0
        return batches

    def set_epoch(self, epoch: int) -> None:
        """Choose which pass the next ``iter`` gives; the ones after it count on from there."""
        self.epoch = check_count("epoch", epoch)
        self._start_batch = 0
        self._latest = None

    def iterate(self, epoch: int, start_batch: int = 0) -> Iterator[Any]:
        """The batches of one pass, from the given one on, without loading those before it.

        Does not change what the next ``iter`` gives.

        Args:
            epoch: which pass, from 0.
            start_batch: which of its batches to begin with, from 0. The number of batches of a pass is
                allowed, and gives none.

        Raises:
            ValueError: a negative number, or more batches than a pass has.
        """
        epoch, start_batch = check_count("epoch", epoch), check_count("start_batch", start_batch)
        total = self._length_if_known()
        if total is not None and start_batch > total:
            raise ValueError(f"start_batch: a pass has {total} batches, got {start_batch}")
        position = self._latest = Position(epoch, start_batch, total)
        seed = seed_of(self.generator)
        if self._streaming:
            return self._stream(seed, epoch, start_batch, position)
        plan = self._plan
        if hasattr(plan, "set_epoch"):
            plan.set_epoch(epoch)
        tasks = itertools.islice(iter(plan), start_batch, None)
        fetch = Fetch(self, seed, epoch)
        if self.num_workers == 0:
            return DirectIterator(fetch, tasks, position)
        jobs = ((0, fetch.on_worker, task) for task in tasks)
        return WorkerIterator(self._start_workers(), self._ahead, jobs, set(), position, self.timeout)

    def _stream(self, seed: int, epoch: int, start_batch: int, position: Position) -> Iterator[Any]:
        position.batch = 0
        batches: Iterator[Any]
        if self.num_workers == 0:
            batches = DirectIterator(Stream(self, seed, epoch, self.dataset), itertools.repeat(None), position)
        else:
            workers = self._start_workers()
            streams = [
                Stream(self, seed, epoch, dataset, number, self.num_workers)
                for number, dataset in enumerate(workers.datasets)
            ]
            active = set(range(self.num_workers))
            jobs = stream_jobs(streams, active)
            batches = WorkerIterator(workers, self._ahead, jobs, active, position, self.timeout)
        # A stream has no way to what comes later but through what comes before.
        for _ in itertools.islice(batches, start_batch):
            pass
        return batches

    @property
    def _ahead(self) -> int:
        return self.num_workers * (self.prefetch_factor or 2)

    def _length_if_known(self) -> int | None:
        try:
            return len(self)
        except TypeError:
            return None

    def _start_workers(self) -> Workers:
        if self._workers is not None and self._workers.usable():
            return self._workers
        seed = seed_of(self.generator)
        workers = Workers(self.num_workers, self.worker_init_fn, seed, self.dataset, self._streaming)
        if self.persistent_workers:
            self._workers = workers
        return workers

    def state_dict(self) -> dict[str, int]:
        """Where the latest pass stands, for ``load_state_dict`` to go on after the last batch taken.

        Returns:
            ``epoch``, ``batch`` (the next one of that epoch) and ``seed``: whole numbers, fit for JSON. What
            the workers have loaded ahead does not count.
        """
        if self._latest is None:
            epoch, batch = self.epoch, self._start_batch
        else:
            epoch, batch = self._latest.next()
        return {"epoch": epoch, "batch": batch, "seed": seed_of(self.generator)}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next ``iter`` go on where the loader of ``state_dict`` stood.

        Raises:
            CheckpointError: the state lacks a number, or comes from another seed, whose order differs.
        """
        try:
            epoch, batch, seed = (check_count(key, state[key]) for key in ("epoch", "batch", "seed"))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"state: not what DataLoader.state_dict returns: {error}") from error
        if seed != seed_of(self.generator):
            raise CheckpointError(
                f"state: saved with seed {seed}, but this loader's is {seed_of(self.generator)}; "
                f"call manual_seed({seed}), or give the loader generator=Generator({seed})"
            )
        total = self._length_if_known()
        if total is not None and batch > total:
            raise CheckpointError(f"state: stands at batch {batch}, but a pass has {total}")
        self.epoch, self._start_batch, self._latest = epoch, batch, None


def _check_streaming(shuffle: Any, sampler: Any, batch_sampler: Any) -> None:
    for name, given in (
        ("shuffle", shuffle),
        ("sampler", sampler is not None),
        ("batch_sampler", batch_sampler is not None),
    ):
        if given:
            raise ValueError(f"{name}: an IterableDataset has an order of its own, and excludes {name}")
