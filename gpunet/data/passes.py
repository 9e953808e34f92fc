"""One pass over a dataset: what makes a batch, and the iterators that hand the batches out in order."""

from __future__ import annotations

import math
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from gpunet.autograd import is_grad_enabled, set_grad_enabled
from gpunet.backend.devices import get_default_device, set_default_device

from ._random import loading, sample
from .dataset import supports
from .workers import Task, Workers

if TYPE_CHECKING:
    from .dataloader import DataLoader

__all__ = ["DirectIterator", "Fetch", "Position", "Stream", "WorkerIterator", "stream_jobs"]

# How often a waiting loader looks whether its worker still lives, in seconds. Results wake it at once.
_LOOK = 0.5
# What a stream gives when it has nothing more to give.
_END: Final = object()


class Position:
    """How far the batches of one pass have been taken."""

    def __init__(self, epoch: int, batch: int, total: int | None) -> None:
        self.epoch, self.batch, self.total = epoch, batch, total
        self.ended = False

    def next(self) -> tuple[int, int]:
        if self.ended or (self.total is not None and self.batch >= self.total):
            return self.epoch + 1, 0
        return self.epoch, self.batch


class _Maker:
    """Makes a batch, on any thread, as the thread that began the pass would."""

    def __init__(self, seed: int, epoch: int) -> None:
        self.seed, self.epoch = seed, epoch
        # Both belong to a thread; a batch must not depend on which thread makes it.
        self.device, self.recorded = get_default_device(), is_grad_enabled()

    def on_worker(self, task: Any) -> Any:
        """The batch, with the settings of the thread that began the pass."""
        set_default_device(self.device)
        with set_grad_enabled(self.recorded):
            return self(task)

    def __call__(self, task: Any) -> Any:
        raise NotImplementedError


class Fetch(_Maker):
    """Makes one batch of its indices."""

    def __init__(self, loader: DataLoader[Any], seed: int, epoch: int) -> None:
        super().__init__(seed, epoch)
        dataset = loader.dataset
        self.dataset: Any = dataset
        self.collate = loader.collate_fn
        self.single = loader.batch_sampler is None
        self.whole = loader._whole_batches and supports(dataset, "__getbatch__")
        self.several = not self.single and supports(dataset, "__getitems__")

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


class Stream(_Maker):
    """Makes the next batch of one worker's way through an ``IterableDataset``; ``_END`` when it has come to the end.

    What random transforms draw is keyed on the sample's number within the stream and on the worker's: a function of
    the seed, the epoch and the number of workers.
    """

    def __init__(
        self, loader: DataLoader[Any], seed: int, epoch: int, dataset: Any, number: int = 0, count: int = 1
    ) -> None:
        super().__init__(seed, epoch)
        self.dataset = dataset
        self.collate = loader.collate_fn
        self.batch_size, self.drop_last = loader.batch_size, loader.drop_last
        self.key, self.count = number, count
        self.samples: Iterator[Any] | None = None
        self.ended = False

    def __call__(self, task: Any = None) -> Any:
        if self.ended:
            return _END
        with loading(self.seed, self.epoch):
            if self.samples is None:
                # On the thread of the worker, which `get_worker_info` tells about.
                self.samples = iter(self.dataset)
            batch: list[Any] = []
            while len(batch) < (self.batch_size or 1):
                with sample(self.key, outer=True):
                    item = next(self.samples, _END)
                if item is _END:
                    self.ended = True
                    break
                batch.append(item)
                self.key += self.count
            if not batch or (self.drop_last and self.ended):
                return _END
            with sample(self.key, outer=True):
                made: Any = batch[0] if self.batch_size is None else batch
                return self.collate(made)


def stream_jobs(streams: list[Stream], active: set[int]) -> Iterator[tuple[int, Any, Any]]:
    """Whose turn it is: the workers one after the other, those left out that have come to their end."""
    while active:
        for number, stream in enumerate(streams):
            if number in active:
                yield number, stream.on_worker, None


def _key(index: Any) -> int:
    """What random numbers are keyed on; indices that are not numbers share one key."""
    return index.__index__() if hasattr(index, "__index__") else 0


class DirectIterator(Iterator[Any]):
    """The batches of one pass, each loaded when it is asked for."""

    def __init__(self, fetch: Fetch | Stream, tasks: Iterator[Any], position: Position) -> None:
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
        if batch is _END:
            self._position.ended = True
            raise StopIteration
        # After a KeyboardInterrupt it is still to come.
        self._taken()
        return batch

    def _taken(self) -> None:
        self._next.clear()
        self._position.batch += 1


class WorkerIterator(Iterator[Any]):
    """The batches of one pass, in order, loaded ahead by workers.

    Args:
        workers: the threads.
        ahead: how many batches they load ahead.
        jobs: (worker, function, argument) of one batch after the other. With a common queue the worker does not matter.
        active: the workers whose streams have not ended, which the jobs are chosen from.
        position: how far the pass has come.
        timeout: seconds to wait for a batch, 0 for ever.
    """

    def __init__(
        self,
        workers: Workers,
        ahead: int,
        jobs: Iterator[tuple[int, Any, Any]],
        active: set[int],
        position: Position,
        timeout: float,
    ) -> None:
        self._workers: Workers | None = workers
        self._ahead = ahead
        self._jobs: Iterator[tuple[int, Any, Any]] | None = jobs
        self._active = active
        self._jobs_error: Exception | None = None
        self._position = position
        self._timeout = timeout
        self._waiting: deque[Task] = deque()
        weakref.finalize(self, _cancel, self._waiting)
        self._hand_out(ahead)

    def _hand_out(self, limit: int) -> None:
        while self._jobs is not None and len(self._waiting) < limit:
            try:
                worker, make, argument = next(self._jobs)
            except StopIteration:
                self._jobs = None
            except Exception as error:
                # Raised where it belongs: after the batches that the sampler gave before it failed.
                self._jobs, self._jobs_error = None, error
            else:
                task = Task(make, argument, worker)
                self._waiting.append(task)
                assert self._workers is not None
                self._workers.put(task)

    def __next__(self) -> Any:
        while True:
            # The one about to be taken, and as many ahead of it as were asked for.
            self._hand_out(self._ahead + 1)
            if not self._waiting:
                self._workers = None
                error, self._jobs_error = self._jobs_error, None
                if error is not None:
                    raise error
                self._position.ended = True
                raise StopIteration
            # Taken off only once it is there: a KeyboardInterrupt while waiting loses no batch.
            task = self._waiting[0]
            self._wait(task)
            self._waiting.popleft()
            if task.result is _END:
                self._active.discard(task.worker)
                continue
            self._position.batch += 1
            if task.error is not None:
                raise task.error.raised()
            return task.result

    def _wait(self, task: Task) -> None:
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


def _cancel(waiting: deque[Task]) -> None:
    for task in waiting:
        task.cancelled = True
