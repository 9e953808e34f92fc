"""The ``DataLoader``, after ``torch.utils.data.DataLoader``, with threads for workers.

Order. The samples of pass e come in an order that is a function of (seed, e), and random transforms draw what
is a function of (seed, e, sample): neither depends on the number of workers or on what was loaded before. So
``loader.iterate(epoch=7, start_batch=30)`` gives exactly the batches that the seventh pass had from its
thirtieth on.

Workers. NumPy lets go of the interpreter lock in its larger copies, image decoders and file reads do
throughout; and a thread shares the dataset's memory instead of pickling it. The main thread hands out the
batches' indices in order and takes the results in order. A worker knows only the queue of tasks, never the
iterator, so that an iterator that is dropped half way is collected and stops its workers. Workers are
daemons: they never keep the interpreter alive.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import math
import os
import queue
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gpunet.autograd import is_grad_enabled, set_grad_enabled
from gpunet.backend.devices import get_default_device, set_default_device
from gpunet.backend.errors import CheckpointError
from gpunet.backend.random import Generator

from ._checks import check_count, is_number, length_of
from ._random import loading, sample
from .collate import default_collate, default_convert
from .dataset import Dataset, supports
from .sampler import (
    BatchSampler,
    RandomSampler,
    SequentialSampler,
    check_generator,
    seed_of,
)

__all__ = ["DataLoader", "WorkerInfo", "get_worker_info"]

T_co = TypeVar("T_co", covariant=True)

# How often a waiting loader looks whether its worker still lives, in seconds. Results wake it at once.
_LOOK = 0.5
# How long the interpreter's exit waits for a worker in the middle of a sample, in seconds.
_LAST_WAIT = 0.5


@dataclass(frozen=True)
class WorkerInfo:
    """Which worker is asking.

    Attributes:
        id: 0 to num_workers - 1.
        num_workers: of this loader.
        seed: a number of its own per worker, for generators that are not gpunet's.
        dataset: shared by all workers.
    """

    id: int
    num_workers: int
    seed: int
    dataset: Any


_worker = threading.local()


def get_worker_info() -> WorkerInfo | None:
    """Within a ``DataLoader``'s worker its description, elsewhere None."""
    return getattr(_worker, "info", None)


class DataLoader(Generic[T_co]):
    """Batches from a dataset.

    Every ``iter(loader)`` is the next pass, counting from 0 (or from ``set_epoch``).

    Args:
        dataset: with ``__getitem__`` and ``__len__``.
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
        if not hasattr(dataset, "__getitem__"):
            raise TypeError(f"dataset: needs __len__ and __getitem__, got {type(dataset).__name__}")
        if sampler is not None and shuffle:
            raise ValueError("sampler: excludes shuffle=True")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError("batch_sampler: excludes batch_size, shuffle, sampler and drop_last")
        if batch_sampler is None and batch_size is None and drop_last:
            raise ValueError("batch_size: None gives single samples, and excludes drop_last=True")

        self.dataset = dataset
        self.generator = check_generator(generator)
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
        self.collate_fn = collate_fn or (default_convert if batch_sampler is None else default_collate)
        self.epoch = 0
        self._start_batch = 0
        self._latest: _Position | None = None
        self._workers: _Workers | None = None

    def __len__(self) -> int:
        """The number of batches of one pass."""
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
        plan = self._plan
        if hasattr(plan, "set_epoch"):
            plan.set_epoch(epoch)
        tasks = itertools.islice(iter(plan), start_batch, None)
        position = self._latest = _Position(epoch, start_batch, total)
        fetch = _Fetch(self, seed_of(self.generator), epoch)
        if self.num_workers == 0:
            return _DirectIterator(fetch, tasks, position)
        return _WorkerIterator(self._start_workers(), self._ahead, fetch, tasks, position, self.timeout)

    @property
    def _ahead(self) -> int:
        return self.num_workers * (self.prefetch_factor or 2)

    def _length_if_known(self) -> int | None:
        try:
            return len(self)
        except TypeError:
            return None

    def _start_workers(self) -> _Workers:
        if self._workers is not None and self._workers.usable():
            return self._workers
        seed = seed_of(self.generator)
        workers = _Workers(self.num_workers, self.worker_init_fn, seed, self.dataset)
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


class _Position:
    """How far the batches of one pass have been taken."""

    def __init__(self, epoch: int, batch: int, total: int | None) -> None:
        self.epoch, self.batch, self.total = epoch, batch, total
        self.ended = False

    def next(self) -> tuple[int, int]:
        if self.ended or (self.total is not None and self.batch >= self.total):
            return self.epoch + 1, 0
        return self.epoch, self.batch


class _Fetch:
    """Makes one batch of its indices, on any thread, as the thread that began the pass would."""

    def __init__(self, loader: DataLoader[Any], seed: int, epoch: int) -> None:
        dataset = loader.dataset
        self.dataset: Any = dataset
        self.collate = loader.collate_fn
        self.single = loader.batch_sampler is None
        self.seed, self.epoch = seed, epoch
        # Both belong to a thread; a batch must not depend on which thread makes it.
        self.device, self.recorded = get_default_device(), is_grad_enabled()
        self.whole = loader._whole_batches and supports(dataset, "__getbatch__")
        self.several = not self.single and supports(dataset, "__getitems__")

    def on_worker(self, task: Any) -> Any:
        """The batch, with the settings of the thread that began the pass."""
        set_default_device(self.device)
        with set_grad_enabled(self.recorded):
            return self(task)

    def __call__(self, task: Any) -> Any:
        try:
            with loading(self.seed, self.epoch):
                if self.single:
                    with sample(_key(task), outer=True):
                        return self.collate(self.dataset[task])
                if self.whole:
                    return self.dataset.__getbatch__(task)
                return self.collate(self._samples(task))
        except StopIteration as error:
            # Passed on, it would end the pass as if all batches had been there.
            raise RuntimeError(f"the data set raised StopIteration for {task!r}") from error

    def _samples(self, indices: Sequence[Any]) -> list[Any]:
        if self.several:
            # Which sample is being made cannot be seen from here: the first index stands for all.
            with sample(_key(indices[0]) if indices else 0, outer=True):
                return list(self.dataset.__getitems__(indices))
        samples = []
        for index in indices:
            with sample(_key(index), outer=True):
                samples.append(self.dataset[index])
        return samples


def _key(index: Any) -> int:
    """What random numbers are keyed on; indices that are not numbers share one key."""
    return index.__index__() if hasattr(index, "__index__") else 0


class _DirectIterator(Iterator[Any]):
    """The batches of one pass, each loaded when it is asked for."""

    def __init__(self, fetch: _Fetch, tasks: Iterator[Any], position: _Position) -> None:
        self._fetch, self._tasks, self._position = fetch, tasks, position
        self._next: list[Any] = []

    def __next__(self) -> Any:
        try:
            if not self._next:
                self._next.append(next(self._tasks))
        except StopIteration:
            self._position.ended = True
            raise
        try:
            batch = self._fetch(self._next[0])
        except Exception:
            # One that cannot be loaded counts as taken, as with workers: the next call goes on after it.
            self._taken()
            raise
        # After a KeyboardInterrupt it is still to come.
        self._taken()
        return batch

    def _taken(self) -> None:
        self._next.clear()
        self._position.batch += 1


class _Task:
    """A batch on its way: filled in by a worker, awaited by the iterator."""

    def __init__(self, fetch: _Fetch, indices: Any) -> None:
        self.fetch: _Fetch | None = fetch
        self.indices = indices
        self.done = threading.Event()
        self.result: Any = None
        self.error: _WorkerError | None = None
        self.cancelled = False


class _WorkerError:
    """An exception of a worker, with its traceback as text: frames would keep the worker's arrays alive."""

    def __init__(self, error: BaseException, worker: int) -> None:
        text = traceback.format_exc()
        self.message = f"Caught {type(error).__name__} in DataLoader worker thread {worker}.\nOriginal {text}"
        self.error = error.with_traceback(None)

    def raised(self) -> BaseException:
        """An exception of the same class that tells where in the worker it came from."""
        kind = type(self.error)
        if not issubclass(kind, Exception):
            # SystemExit and its like would end the caller, who did not ask for it.
            error: BaseException = RuntimeError(self.message)
        else:
            try:
                error = kind(_Text(self.message) if issubclass(kind, KeyError) else self.message)
            except Exception:
                # A class whose constructor wants something else than a message.
                error = RuntimeError(self.message)
        error.__cause__ = self.error
        return error


class _Text(str):
    """KeyError shows the repr of its argument; this one's is readable over several lines."""

    def __repr__(self) -> str:
        return str(self)


class _Workers:
    """Threads that take tasks from one queue until they find None in it."""

    def __init__(self, count: int, init: Callable[[int], None] | None, seed: int, dataset: Any) -> None:
        self.tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self.process = os.getpid()
        self.threads = [
            threading.Thread(
                target=_work,
                args=(self.tasks, WorkerInfo(number, count, seed + number, dataset), init),
                name=f"DataLoader worker {number}",
                daemon=True,
            )
            for number in range(count)
        ]
        for thread in self.threads:
            thread.start()
        self.stop = weakref.finalize(self, _stop, self.tasks, count)
        _running.add(self)

    def usable(self) -> bool:
        """Not after a fork, which takes no threads along, and not when one has died."""
        return self.process == os.getpid() and all(thread.is_alive() for thread in self.threads)


def _stop(tasks: queue.SimpleQueue[_Task | None], count: int) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            tasks.get_nowait()
    for _ in range(count):
        tasks.put(None)


_running: weakref.WeakSet[_Workers] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Give workers a moment to leave NumPy before the interpreter is taken down under them."""
    threads = [thread for workers in list(_running) for thread in workers.threads]
    for workers in list(_running):
        workers.stop()
    end = time.monotonic() + _LAST_WAIT
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def _work(tasks: queue.SimpleQueue[_Task | None], info: WorkerInfo, init: Callable[[int], None] | None) -> None:
    _worker.info = info
    failed: _WorkerError | None = None
    try:
        if init is not None:
            init(info.id)
    except BaseException as error:
        failed = _WorkerError(error, info.id)
    while (task := tasks.get()) is not None:
        try:
            if failed is not None:
                task.error = failed
            elif not task.cancelled:
                assert task.fetch is not None
                task.result = task.fetch.on_worker(task.indices)
        except BaseException as error:
            task.error = _WorkerError(error, info.id)
        task.fetch = None
        task.done.set()
        # Do not hold a batch while waiting for the next task.
        del task


class _WorkerIterator(Iterator[Any]):
    """The batches of one pass, in order, loaded ahead by workers."""

    def __init__(
        self,
        workers: _Workers,
        ahead: int,
        fetch: _Fetch,
        tasks: Iterator[Any],
        position: _Position,
        timeout: float,
    ) -> None:
        self._workers: _Workers | None = workers
        self._ahead = ahead
        self._fetch = fetch
        self._tasks: Iterator[Any] | None = tasks
        self._tasks_error: Exception | None = None
        self._position = position
        self._timeout = timeout
        self._waiting: deque[_Task] = deque()
        weakref.finalize(self, _cancel, self._waiting)
        self._hand_out(ahead)

    def _hand_out(self, limit: int) -> None:
        while self._tasks is not None and len(self._waiting) < limit:
            try:
                indices = next(self._tasks)
            except StopIteration:
                self._tasks = None
            except Exception as error:
                # Raised where it belongs: after the batches that the sampler gave before it failed.
                self._tasks, self._tasks_error = None, error
            else:
                task = _Task(self._fetch, indices)
                self._waiting.append(task)
                assert self._workers is not None
                self._workers.tasks.put(task)

    def __next__(self) -> Any:
        # The one about to be taken, and as many ahead of it as were asked for.
        self._hand_out(self._ahead + 1)
        if not self._waiting:
            self._workers = None
            error, self._tasks_error = self._tasks_error, None
            if error is not None:
                raise error
            self._position.ended = True
            raise StopIteration
        # Taken off only once it is there: a KeyboardInterrupt while waiting loses no batch.
        task = self._waiting[0]
        self._wait(task)
        self._waiting.popleft()
        self._position.batch += 1
        if task.error is not None:
            raise task.error.raised()
        return task.result

    def _wait(self, task: _Task) -> None:
        assert self._workers is not None
        end = time.monotonic() + self._timeout if self._timeout else math.inf
        while not task.done.wait(min(_LOOK, max(0.0, end - time.monotonic()))):
            dead = [thread.name for thread in self._workers.threads if not thread.is_alive()]
            if task.done.is_set():
                return
            if dead:
                raise RuntimeError(f"{dead[0]} died without a result")
            if time.monotonic() >= end:
                raise RuntimeError(f"DataLoader timed out after {self._timeout:g} seconds")


def _cancel(waiting: deque[_Task]) -> None:
    for task in waiting:
        task.cancelled = True
