"""Threads for the CPU paths.

NumPy releases the interpreter lock inside its loops and its BLAS calls, so blocks of one operation can run on Python
threads. BLAS itself is held to one thread meanwhile: its own workers spin after a product and would take the cores
from ours. How the work is cut into blocks never depends on the number of threads, and each block writes its own part
of the result, so the bits do not depend on scheduling.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["Beside", "get_num_threads", "parallel_for", "set_num_threads", "single_threaded_blas"]


def _default_threads() -> int:
    for name in ("GPUNET_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value) > 0:
            return int(value)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1


_LOOK_AGAIN = 1.0  # seconds

_lock = threading.Lock()
_count = _default_threads()
_pool: _Pool | None = None


class _Pool:
    """Threads that run what they are given, and sleep in between.

    concurrent.futures' pool is not for the main thread, which a signal may interrupt in the middle of ``submit``: the
    pool's own lock then stays locked. A queue of the interpreter's cannot be cut in two.
    """

    def __init__(self, count: int) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0
        with contextlib.suppress(RuntimeError):  # the system allows no more, or the interpreter is shutting down
            while self._threads < count:
                name = f"gpunet_{self._threads}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
                self._threads += 1

    def submit(self, task: Callable[[], None]) -> None:
        """Have a thread run this, which must not raise, as soon as one is free."""
        if self._threads:
            self._queue.put(task)

    def end(self) -> None:
        """Let the threads end when they have run what was submitted."""
        for _ in range(self._threads):
            self._queue.put(None)

    def _run(self) -> None:
        while (task := self._queue.get()) is not None:
            task()
            del task


class _Worker(threading.local):
    busy = False


_worker = _Worker()


def get_num_threads() -> int:
    """Number of CPU threads that operations use."""
    return _count


def set_num_threads(count: int) -> None:
    """Set the number of CPU threads that operations use.

    Raises:
        ValueError: fewer than one.
    """
    global _count, _pool
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"count: the number of threads must be at least 1, got {count!r}")
    with _lock:
        if count != _count:
            old, _pool, _count = _pool, None, count
            if old is not None:
                old.end()


def _get_pool() -> _Pool:
    global _pool
    with _lock:
        if _pool is None:
            _pool = _Pool(max(1, _count - 1))
        return _pool


def _forget_pool() -> None:
    """In a forked child the pool's threads do not exist: start anew."""
    global _pool, _lock
    _lock = threading.Lock()
    _pool = None
    _blas.reset()


def parallel_for(count: int, body: Callable[[int], Any]) -> None:
    """Run ``body(0) ... body(count - 1)``, on several threads when that is allowed and useful.

    The first exception of the lowest index is raised after all threads have stopped. Called from inside a body it runs
    the loop in the calling thread.
    """
    threads = min(_count, count)
    if _worker.busy:
        for index in range(count):
            body(index)
        return
    if threads <= 1:
        with single_threaded_blas():
            for index in range(count):
                body(index)
        return
    counter = itertools.count()
    failures: dict[int, BaseException] = {}

    def drain() -> None:
        while not failures:
            index = next(counter)
            if index >= count:
                return
            try:
                body(index)
            except BaseException as error:
                failures[index] = error

    with Beside() as tasks:
        for _ in range(threads):  # the calling thread takes one itself
            tasks.add(drain)
    if failures:
        raise failures[min(failures)]


class Beside:
    """Tasks that other threads run beside the calling thread, which has work of its own that cannot be shared out.

        with Beside() as tasks:
            first = tasks.add(body)
            ...
            tasks.wait(first)

    Tasks start in the order they were added in. The calling thread takes its turn when it waits for one and at the
    end of the block, before which all are done. Where no other thread may help, it runs them all there. The exception
    of the first task that failed is raised by ``wait`` or at the end, after all threads have stopped.
    """

    # A signal may interrupt the main thread at any point. So there are plain locks here, which are released whatever
    # happens, and no conditions, whose methods can be cut in two; and who waits looks again after a while, in case
    # the one who should have woken it was interrupted.

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: list[Callable[[], Any] | None] = []
        self._done: list[bool] = []
        self._next = 0
        self._helping = 0  # pool threads that have begun to help, or will
        self._active = 0  # those that run a task
        self._waiting: list[threading.Lock] = []  # each is released at the next change
        self._failures: dict[int, BaseException] = {}

    def __enter__(self) -> Beside:
        _blas.enter()
        self._helpers = 0 if _worker.busy else _count - 1
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if error is not None:
                self._abandon(error)
            interruption: BaseException | None = None
            while True:
                try:
                    while (index := self._claim()) is not None:
                        self._run(index)
                    self._wait_until(lambda: not self._active)
                    break
                except BaseException as signal:  # the others still write to arrays of ours
                    self._abandon(signal)
                    interruption = signal
            failures, self._failures = self._failures, {}
            self._tasks.clear()  # a task may refer to this object, which would keep its arrays alive
            if interruption is not None:
                raise interruption
            if error is None and failures:
                raise failures[min(failures)]
        finally:
            _blas.leave()
            error = interruption = failures = None  # type: ignore[assignment]  # nor may an exception keep this frame

    def add(self, task: Callable[[], Any]) -> int:
        """Leave a task to the others, and return its number."""
        with self._lock:
            self._tasks.append(task)
            self._done.append(False)
            number = len(self._tasks) - 1
            is_needed = self._helping < self._helpers
            self._helping += is_needed
        if is_needed:
            _get_pool().submit(self._help)
        return number

    def wait(self, index: int) -> None:
        """Return when a task is done. A task may wait for one that was added before it."""
        while not self._done[index] and not self._failures:
            claimed = self._claim(index)
            if claimed is None:
                self._wait_until(lambda: self._done[index] or bool(self._failures))
            else:
                self._run(claimed)
        if self._failures:
            raise self._failures[min(self._failures)]

    def _wait_until(self, has_come: Callable[[], bool]) -> None:
        latch = threading.Lock()
        latch.acquire()
        while True:
            with self._lock:
                if has_come():
                    return
                self._waiting.append(latch)
            if not latch.acquire(timeout=_LOOK_AGAIN):
                latch = threading.Lock()
                latch.acquire()

    def _abandon(self, error: BaseException) -> None:
        """Begin no more tasks, and have those that wait for one give up: it may never be done."""
        with self._lock:
            self._failures.setdefault(len(self._tasks), error)
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for latch in waiting:
            latch.release()

    def _claim(self, last: int | None = None, is_helper: bool = False) -> int | None:
        """The next task to run, if there is one (up to the last that is asked for); a helper that gets none ends."""
        with self._lock:
            index = self._next
            if index < len(self._tasks) and not self._failures and (last is None or index <= last):
                self._next += 1
                self._active += is_helper
                return index
            self._helping -= is_helper
            return None

    def _run(self, index: int, is_helper: bool = False) -> None:
        was_busy, failure = _worker.busy, None
        task, self._tasks[index] = self._tasks[index], None
        try:
            _worker.busy = True
            with np.errstate(all="ignore"):
                task()  # type: ignore[misc]
        except BaseException as error:
            failure = error
        finally:
            _worker.busy = was_busy
            with self._lock:
                self._active -= is_helper
                self._done[index] = True
                if failure is not None:
                    self._failures[index] = failure
                self._wake()
            del failure

    def _help(self) -> None:
        while (index := self._claim(is_helper=True)) is not None:
            self._run(index, True)


def _blas_libraries() -> list[Any]:
    """Handles on the BLAS libraries that are loaded, found at the first product rather than at import."""
    before = os.environ.get("KMP_DUPLICATE_LIB_OK")
    threadpoolctl = importlib.import_module("threadpoolctl")
    if before is None:  # threadpoolctl sets it for its own tests; it is not ours to leave behind
        os.environ.pop("KMP_DUPLICATE_LIB_OK", None)
    return [library for library in threadpoolctl.ThreadpoolController().lib_controllers if library.user_api == "blas"]


def _set_blas_threads(library: Any, count: int) -> None:
    """Set a library's thread count, from whichever thread.

    Since threadpoolctl 3.8 OpenBLAS obeys one thread alone, as long as it lives, and ignores others without a word.
    Here all threads agree, since ``_Blas`` counts them; and the user's threads are as free afterwards as before.
    """
    let_go = getattr(library, "clear_controlling_thread", None)
    if let_go is not None:
        let_go(force=True)
    library.set_num_threads(count)
    if let_go is not None:
        let_go(force=True)


class _Blas:
    """BLAS's own thread count, set to one while any of our operations runs and put back afterwards."""

    def __init__(self) -> None:
        self.reset()
        self._libraries: list[Any] | None = None

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._saved: list[int] = []

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            if self._libraries is None:
                self._libraries = _blas_libraries()
            self._saved = [library.get_num_threads() for library in self._libraries]
            for library, threads in zip(self._libraries, self._saved, strict=True):
                if threads != 1:
                    _set_blas_threads(library, 1)

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._libraries is not None:
                for library, threads in zip(self._libraries, self._saved, strict=True):
                    if threads != 1:
                        _set_blas_threads(library, threads)


_blas = _Blas()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold BLAS to one thread inside the block, and restore its setting when the last such block ends."""
    _blas.enter()
    try:
        yield
    finally:
        _blas.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
