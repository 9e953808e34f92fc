"""Threads of the CPU paths: every index once, exceptions, nesting, forks, and BLAS put back."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import threadpoolctl

import gpunet as gn
from gpunet.backend.threads import Beside, get_num_threads, parallel_for, set_num_threads, single_threaded_blas


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    before = get_num_threads()
    yield
    set_num_threads(before)


def blas_threads() -> list[int]:
    return [entry["num_threads"] for entry in threadpoolctl.threadpool_info() if entry["user_api"] == "blas"]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_every_index_runs_once(threads: int, count: int) -> None:
    set_num_threads(threads)
    seen: list[int] = []
    parallel_for(count, seen.append)
    assert sorted(seen) == list(range(count))


def test_several_threads_take_part() -> None:
    set_num_threads(3)
    barrier = threading.Barrier(3, timeout=10)
    names = set()

    def body(index: int) -> None:
        barrier.wait()
        names.add(threading.current_thread().name)

    parallel_for(3, body)
    assert len(names) == 3


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    x, w = (gn.tensor(rng.standard_normal(shape).astype(np.float32)) for shape in ((8, 16, 20, 20), (24, 16, 3, 3)))
    bits = []
    for threads in (1, 2, 4):
        set_num_threads(threads)
        v = w.detach().requires_grad_()
        y = gn.nn.functional.conv2d(x, v, padding=1)
        gn.nn.functional.batch_norm(y, None, None, training=True).square().sum().backward()
        assert v.grad is not None
        bits.append((y.detach().numpy().tobytes(), v.grad.numpy().tobytes()))
    assert bits[0] == bits[1] == bits[2]


def test_the_exception_of_the_lowest_index_is_raised_after_all_have_stopped() -> None:
    set_num_threads(4)
    running = []

    def body(index: int) -> None:
        running.append(index)
        try:
            time.sleep(0.02)
            raise ValueError(f"index {index}")
        finally:
            running.remove(index)

    with pytest.raises(ValueError, match="index 0"):
        parallel_for(8, body)
    assert running == []
    seen: list[int] = []
    parallel_for(8, seen.append)
    assert len(seen) == 8


def test_nested_loops_run_in_the_calling_thread() -> None:
    set_num_threads(2)
    inner: list[tuple[int, int, bool]] = []

    def outer(first: int) -> None:
        thread = threading.current_thread()
        parallel_for(3, lambda second: inner.append((first, second, threading.current_thread() is thread)))

    parallel_for(4, outer)
    assert sorted(inner) == [(first, second, True) for first in range(4) for second in range(3)]


def test_two_user_threads_at_once() -> None:
    set_num_threads(2)
    before = blas_threads()
    results: dict[int, list[int]] = {}

    def user(number: int) -> None:
        for _ in range(20):
            found: list[int] = []
            parallel_for(50, found.append)
            results[number] = sorted(found)

    users = [threading.Thread(target=user, args=(number,)) for number in range(3)]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert all(found == list(range(50)) for found in results.values())
    assert len(results) == 3
    assert blas_threads() == before


def test_the_number_can_change_while_others_run() -> None:
    stop = threading.Event()
    failures = []

    def user() -> None:
        while not stop.is_set():
            found: list[int] = []
            parallel_for(20, found.append)
            if sorted(found) != list(range(20)):
                failures.append(found)

    thread = threading.Thread(target=user)
    thread.start()
    for count in (1, 3, 2, 4, 1, 2) * 5:
        set_num_threads(count)
        time.sleep(0.002)
    stop.set()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert failures == []


def test_blas_is_held_to_one_thread_and_put_back() -> None:
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with single_threaded_blas():
            assert all(count == 1 for count in blas_threads())
            with single_threaded_blas():
                pass
            assert all(count == 1 for count in blas_threads())
        assert blas_threads() == before
        with pytest.raises(ZeroDivisionError), single_threaded_blas():
            raise ZeroDivisionError
        assert blas_threads() == before


def test_blas_is_held_to_one_thread_by_each_thread_of_the_user() -> None:
    """threadpoolctl 3.8 lets no thread but the first set OpenBLAS's count while that one lives."""
    counts: list[list[int]] = []

    def user() -> None:
        with single_threaded_blas():
            counts.append(blas_threads())
        counts.append(blas_threads())

    with threadpoolctl.threadpool_limits(2, user_api="blas"):  # the main thread is the first
        before = blas_threads()
        thread = threading.Thread(target=user)
        thread.start()
        thread.join(timeout=30)
        assert counts == [[1] * len(before), before]


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", None])
def test_numbers_that_are_refused(count: object) -> None:
    with pytest.raises(ValueError, match=r"^count: the number of threads must be at least 1, got "):
        set_num_threads(count)  # type: ignore[arg-type]


def test_the_environment_sets_the_number() -> None:
    for name, value, expected in (("GPUNET_NUM_THREADS", "3", "3"), ("OMP_NUM_THREADS", "2", "2")):
        environment = {
            key: text for key, text in os.environ.items() if key not in ("GPUNET_NUM_THREADS", "OMP_NUM_THREADS")
        }
        environment |= {name: value, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", "import gpunet; print(gpunet.get_num_threads())"],
            capture_output=True, text=True, check=True, env=environment,
        )  # fmt: skip
        assert done.stdout.strip() == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_can_compute() -> None:
    """The pool's threads do not exist in the child, and a lock may have been held: both start anew."""
    set_num_threads(2)
    parallel_for(4, lambda index: None)  # the pool exists
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with single_threaded_blas(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tested
        child = context.Process(target=_in_child, args=(results,))
        child.start()
        try:
            assert results.get(timeout=30) == list(range(50))
        finally:
            child.join(timeout=30)
            if child.is_alive():
                child.kill()
    assert child.exitcode == 0


def _in_child(results: object) -> None:
    found: list[int] = []
    parallel_for(50, found.append)
    results.put(sorted(found))  # type: ignore[attr-defined]


def test_the_environment_is_left_as_it_was() -> None:
    code = (
        "import os; import gpunet as gn; a = gn.ones(300, 300); a @ a; assert 'KMP_DUPLICATE_LIB_OK' not in os.environ"
    )
    environment = {name: value for name, value in os.environ.items() if name != "KMP_DUPLICATE_LIB_OK"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_tasks_beside_are_done_when_waited_for_and_at_the_end(threads: int) -> None:
    set_num_threads(threads)
    done: list[int] = []
    with Beside() as tasks:
        numbers = [tasks.add(lambda index=index: done.append(index)) for index in range(20)]
        tasks.wait(numbers[7])
        assert set(range(8)) <= set(done)
        numbers += [tasks.add(lambda index=index: done.append(index)) for index in range(20, 40)]
    assert numbers == list(range(40))
    assert sorted(done) == list(range(40))


def test_a_task_runs_beside_the_calling_thread() -> None:
    set_num_threads(2)
    barrier = threading.Barrier(2, timeout=10)
    names = []

    def body() -> None:
        names.append(threading.current_thread().name)
        barrier.wait()

    with Beside() as tasks:
        tasks.add(body)
        barrier.wait()
    assert names != [threading.current_thread().name]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_tasks_can_wait_for_those_before_them(threads: int) -> None:
    set_num_threads(threads)
    total = [0.0]

    def add(value: float, before: int | None, tasks: Beside) -> None:
        if before is not None:
            tasks.wait(before)
        total[0] = total[0] / 3 + value

    expected = 0.0
    with Beside() as tasks:
        last = None
        for index in range(200):
            expected = expected / 3 + index
            last = tasks.add(lambda index=index, last=last: add(index, last, tasks))
    assert total[0] == expected


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("is_waited_for", [True, False])
def test_the_exception_of_a_task_is_raised(threads: int, is_waited_for: bool) -> None:
    set_num_threads(threads)
    ran: list[int] = []

    def fail() -> None:
        raise ValueError("task")

    def run() -> None:
        with Beside() as tasks:
            tasks.add(fail)
            last = tasks.add(lambda: None)
            if is_waited_for:
                tasks.wait(last)
                ran.append(1)

    with pytest.raises(ValueError, match="task"):
        run()
    assert not ran


def test_a_block_that_fails_begins_no_more_tasks() -> None:
    set_num_threads(1)
    ran: list[int] = []

    def run() -> None:
        with Beside() as tasks:
            tasks.add(lambda: ran.append(1))
            raise KeyError("block")

    with pytest.raises(KeyError, match="block"):
        run()
    assert not ran


def test_an_interrupted_block_leaves_no_task_waiting() -> None:
    set_num_threads(2)
    gone_on, is_waiting = threading.Event(), threading.Event()

    def run() -> None:
        with Beside() as tasks:
            begun = threading.Event()
            tasks.add(lambda: (begun.set(), gone_on.wait(10)))
            assert begun.wait(10)
            lost = tasks.add(lambda: None)
            assert tasks._claim() == lost  # the interruption comes between taking a task and running it
            tasks.add(lambda: (is_waiting.set(), tasks.wait(lost)))
            gone_on.set()
            assert is_waiting.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()


def test_tasks_inside_a_shared_loop_run_in_its_threads() -> None:
    set_num_threads(3)
    names: dict[int, set[str]] = {}

    def body(index: int) -> None:
        with Beside() as tasks:
            for _ in range(5):
                tasks.add(lambda: names.setdefault(index, set()).add(threading.current_thread().name))
        names[index].add(threading.current_thread().name)

    parallel_for(4, body)
    assert all(len(found) == 1 for found in names.values())


def test_blas_is_held_to_one_thread_beside_tasks_and_put_back() -> None:
    before = blas_threads()
    with Beside() as tasks:
        tasks.add(lambda: None)
        assert set(blas_threads()) <= {1}
    assert blas_threads() == before


@pytest.mark.parametrize("fails", [False, True])
def test_tasks_and_what_they_refer_to_are_let_go_at_the_end(fails: bool) -> None:
    set_num_threads(2)
    held = [np.zeros(8)]
    reference = weakref.ref(held[0])

    def task(array: np.ndarray, tasks: Beside, before: int | None) -> None:
        if before is not None:
            tasks.wait(before)
        array += 1
        if fails:
            raise ValueError("task")

    def run() -> None:
        with Beside() as tasks:
            first = tasks.add(partial(task, held[0], tasks, None))
            tasks.add(partial(task, held[0], tasks, first))

    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            run()
        held.clear()
        assert reference() is None
    finally:
        gc.enable()


def test_who_helps_at_the_end_is_waited_for() -> None:
    set_num_threads(2)
    begun, done = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        time.sleep(0.2)
        done.set()

    with Beside() as tasks:
        tasks.add(slow)
        assert begun.wait(10)
    assert done.is_set()


def test_one_thread_does_it_all_where_there_can_be_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    set_num_threads(1)
    monkeypatch.setattr(threading.Thread, "start", start)
    set_num_threads(3)  # ends the old pool, and a new one cannot begin
    seen: list[int] = []
    parallel_for(10, seen.append)
    with Beside() as tasks:
        tasks.wait(tasks.add(lambda: seen.append(10)))
    assert sorted(seen) == list(range(11))
    set_num_threads(1)


def test_an_interruption_at_any_moment_leaves_nothing_hanging() -> None:
    """A process interrupted hundreds of times ends by itself; concurrent.futures' pool hung in one run of two."""
    program = """
import random, signal, time
import gpunet as gn
from gpunet.backend.threads import Beside, parallel_for

gn.set_num_threads(2)
draw = random.Random(0)


def interrupt(*_):
    raise KeyboardInterrupt


def work():
    parallel_for(4, lambda index: None)
    with Beside() as tasks:
        first = tasks.add(lambda: None)
        tasks.add(lambda: tasks.wait(first))
        tasks.wait(first)


work()
signal.signal(signal.SIGALRM, interrupt)
for _ in range(1000):
    try:
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-5, 3e-4))
        for _ in range(5):
            work()
        time.sleep(0.01)
    except KeyboardInterrupt:
        pass
    signal.setitimer(signal.ITIMER_REAL, 0)
seen = []
parallel_for(100, seen.append)
print(sorted(seen) == list(range(100)))
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert (finished.returncode, finished.stdout.strip()) == (0, "True"), finished.stderr
