"""Threads that load a ``DataLoader``'s batches.

NumPy lets go of the interpreter lock in its larger copies, image decoders and file reads do throughout; and a thread
shares the dataset's memory instead of pickling it. A worker knows only a queue of tasks, never the iterator, so that
an iterator that is dropped half way is collected and stops its workers. Workers are daemons: they never keep the
interpreter alive.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import os
import queue
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Task", "WorkerInfo", "Workers", "get_worker_info"]

# How long the interpreter's exit waits for a worker in the middle of a sample, in seconds.
_LAST_WAIT = 0.5


@dataclass(frozen=True)
class WorkerInfo:
    """Which worker is asking.

    Attributes:
        id: 0 to num_workers - 1.
        num_workers: of this loader.
        seed: a number of its own per worker, for generators that are not gpunet's.
        dataset: shared by all workers; of an ``IterableDataset`` the worker's own (shallow) copy.
    """

    id: int
    num_workers: int
    seed: int
    dataset: Any


_worker = threading.local()


def get_worker_info() -> WorkerInfo | None:
    """Within a ``DataLoader``'s worker its description, elsewhere None."""
    return getattr(_worker, "info", None)


class Task:
    """A batch on its way: filled in by a worker, awaited by the iterator."""

    def __init__(self, fetch: Callable[[Any], Any], indices: Any, worker: int) -> None:
        self.fetch: Callable[[Any], Any] | None = fetch
        self.indices = indices
        self.worker = worker
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


class Workers:
    """Threads that take tasks from a queue until they find None in it.

    Args:
        count: how many.
        init: called with its number on each, before anything else.
        seed: of the loader.
        dataset: what the tasks read.
        streaming: each worker has a queue and a shallow copy of the dataset of its own, instead of one of all.
    """

    def __init__(
        self, count: int, init: Callable[[int], None] | None, seed: int, dataset: Any, streaming: bool = False
    ) -> None:
        shared: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self.queues = [queue.SimpleQueue() if streaming else shared for _ in range(count)]
        self.datasets = [copy.copy(dataset) if streaming else dataset for _ in range(count)]
        self.process = os.getpid()
        self.threads = [
            threading.Thread(
                target=_work,
                args=(self.queues[number], WorkerInfo(number, count, seed + number, self.datasets[number]), init),
                name=f"DataLoader worker {number}",
                daemon=True,
            )
            for number in range(count)
        ]
        for thread in self.threads:
            thread.start()
        self.stop = weakref.finalize(self, _stop, self.queues)
        _running.add(self)

    def put(self, task: Task) -> None:
        """Hand a task to its worker, or to whichever is free first."""
        self.queues[task.worker].put(task)

    def usable(self) -> bool:
        """Whether they work: not after a fork, which takes no threads along, and not when one has died."""
        return self.process == os.getpid() and all(thread.is_alive() for thread in self.threads)


def _stop(queues: list[queue.SimpleQueue[Task | None]]) -> None:
    for tasks in queues:
        with contextlib.suppress(queue.Empty):
            while True:
                tasks.get_nowait()
    for tasks in queues:
        tasks.put(None)


_running: weakref.WeakSet[Workers] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Give workers a moment to leave NumPy before the interpreter is taken down under them."""
    threads = [thread for workers in list(_running) for thread in workers.threads]
    for workers in list(_running):
        workers.stop()
    end = time.monotonic() + _LAST_WAIT
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def _work(tasks: queue.SimpleQueue[Task | None], info: WorkerInfo, init: Callable[[int], None] | None) -> None:
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
                task.result = task.fetch(task.indices)
        except BaseException as error:
            task.error = _WorkerError(error, info.id)
        task.fetch = None
        task.done.set()
        # Do not hold a batch while waiting for the next task.
        del task
