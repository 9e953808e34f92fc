"""Workers: what goes wrong in them reaches the caller, and nothing that happens makes a loader or Python hang."""

import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import gpunet.autograd as gn
from gpunet.backend.devices import set_default_device
from gpunet.backend.errors import ShapeError
from gpunet.data import DataLoader, Dataset, get_worker_info

pytestmark = pytest.mark.timeout(30)


class Numbers(Dataset):
    def __init__(self, size=10, do=None):
        self.size, self.do = size, do

    def __getitem__(self, index):
        if self.do is not None:
            self.do(index)
        return index

    def __len__(self):
        return self.size


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("DataLoader worker")]


def no_threads_soon():
    end = time.monotonic() + 5
    while threads() and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    return not threads()


@pytest.fixture(autouse=True)
def _nothing_left_behind():
    yield
    assert no_threads_soon()


def test_batches_come_in_order_whoever_is_first():
    def slow_at_first(index):
        time.sleep(0.03 if index < 2 else 0)

    loader = DataLoader(Numbers(8, slow_at_first), batch_size=2, num_workers=4)
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize("workers, factor, ahead", [(1, None, 2), (2, 3, 6), (3, 1, 3)])
def test_as_many_ahead_as_asked_for(workers, factor, ahead):
    started = []
    loader = DataLoader(Numbers(100, started.append), num_workers=workers, prefetch_factor=factor)
    batches = iter(loader)
    for taken in (0, 1, 2):
        end = time.monotonic() + 5
        # The batch just taken, and those ahead; one more may be on its way when the next is asked for.
        while len(started) < ahead + taken and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(0.02)
        assert ahead + taken <= len(started) <= ahead + taken + 1
        next(batches)


def test_workers_work_at_the_same_time():
    # Passes only if both are inside a sample at once.
    barrier = threading.Barrier(2, timeout=10)
    loader = DataLoader(Numbers(2, lambda index: barrier.wait()), num_workers=2)
    assert [batch.tolist() for batch in loader] == [[0], [1]]


def fail_at(where, error):
    def do(index):
        if index == where:
            raise error

    return do


@pytest.mark.parametrize("error", [ValueError("two\nlines"), KeyError("k"), ShapeError("bad"), ZeroDivisionError()])
def test_the_workers_traceback_reaches_the_caller(error):
    loader = DataLoader(Numbers(10, fail_at(5, error)), batch_size=2, num_workers=2)
    batches = iter(loader)
    assert [next(batches).tolist(), next(batches).tolist()] == [[0, 1], [2, 3]]
    with pytest.raises(type(error)) as caught:
        next(batches)
    text = str(caught.value)
    assert text.startswith(f"Caught {type(error).__name__} in DataLoader worker thread ")
    assert "in fail_at" in text or "in do\n    raise error" in text
    assert "Original Traceback (most recent call last):\n" in text
    assert caught.value.__cause__ is error
    # The pass goes on after it, as PyTorch's does.
    assert [batch.tolist() for batch in batches] == [[6, 7], [8, 9]]


def test_without_workers_the_exception_is_raised_as_it_is():
    batches = iter(DataLoader(Numbers(4, fail_at(1, ValueError("as it is")))))
    next(batches)
    with pytest.raises(ValueError, match=r"^as it is$"):
        next(batches)
    assert [batch.tolist() for batch in batches] == [[2], [3]]


class Demanding(Exception):
    def __init__(self, first, second):
        super().__init__(first, second)


def test_an_exception_that_takes_no_message():
    loader = DataLoader(Numbers(2, fail_at(0, Demanding(1, 2))), num_workers=1)
    with pytest.raises(RuntimeError, match="Caught Demanding in DataLoader worker thread 0"):
        next(iter(loader))


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_worker_that_exits_ends_nobody_else(error):
    loader = DataLoader(Numbers(2, fail_at(0, error)), num_workers=1)
    with pytest.raises(RuntimeError, match=f"Caught {type(error).__name__} in DataLoader worker thread 0"):
        next(iter(loader))


def test_collate_fails_on_a_worker():
    def collate(samples):
        raise TypeError("cannot collate")

    with pytest.raises(TypeError, match="cannot collate"):
        next(iter(DataLoader(Numbers(), collate_fn=collate, num_workers=2)))


def test_the_sampler_fails_where_it_would_without_workers():
    class Sampler:
        def __iter__(self):
            yield 0
            yield 1
            raise ValueError("no more")

    for workers in (0, 2):
        batches = iter(DataLoader(Numbers(), sampler=Sampler(), num_workers=workers))
        assert [next(batches).tolist(), next(batches).tolist()] == [[0], [1]]
        with pytest.raises(ValueError, match=r"^no more$"):
            next(batches)
        assert list(batches) == []


def test_worker_init_and_info():
    seen, asked = [], []

    def init(number):
        info = get_worker_info()
        seen.append((number, info.id, info.num_workers, info.dataset, info.seed))

    dataset = Numbers(6, lambda index: asked.append(get_worker_info().id))
    assert len(list(DataLoader(dataset, num_workers=3, worker_init_fn=init))) == 6
    assert sorted(entry[:3] for entry in seen) == [(0, 0, 3), (1, 1, 3), (2, 2, 3)]
    assert all(entry[3] is dataset for entry in seen)
    assert len({entry[4] for entry in seen}) == 3
    assert set(asked) <= {0, 1, 2}
    assert get_worker_info() is None


def test_worker_init_fails():
    def init(number):
        raise OSError("no such camera")

    with pytest.raises(OSError, match="no such camera"):
        next(iter(DataLoader(Numbers(), num_workers=2, worker_init_fn=init)))


def test_an_abandoned_pass_stops_its_workers():
    loader = DataLoader(Numbers(1000), num_workers=3)
    for _ in range(3):
        for batch in loader:
            if batch.item() == 3:
                break
        assert no_threads_soon()


def test_an_iterator_nobody_ever_asked():
    batches = iter(DataLoader(Numbers(1000), num_workers=3))
    assert len(threads()) == 3
    del batches
    assert no_threads_soon()


def test_a_finished_pass_stops_its_workers_even_if_it_is_kept():
    batches = iter(DataLoader(Numbers(4), num_workers=2))
    assert len(list(batches)) == 4
    assert no_threads_soon()
    assert list(batches) == []


def test_a_pass_abandoned_while_its_workers_are_busy():
    release = threading.Event()
    batches = iter(DataLoader(Numbers(100, lambda index: release.wait(10)), num_workers=2))
    loaded = len(threads())
    start = time.monotonic()
    del batches
    gc.collect()
    assert time.monotonic() - start < 5
    release.set()
    assert loaded == 2


def test_abandoned_tasks_are_not_worked_off():
    started, release = [], threading.Event()

    def do(index):
        started.append(index)
        release.wait(10)

    batches = iter(DataLoader(Numbers(100, do), num_workers=1, prefetch_factor=50))
    while not started:
        time.sleep(0.001)
    del batches
    gc.collect()
    release.set()
    assert no_threads_soon()
    assert started == [0]


def test_overlapping_passes():
    loader = DataLoader(Numbers(6), batch_size=2, shuffle=True, num_workers=2)
    alone = [[batch.tolist() for batch in loader] for _ in range(2)]
    loader.set_epoch(0)
    both = list(zip(iter(loader), iter(loader), strict=True))
    assert [[batch.tolist() for batch in batches] for batches in zip(*both, strict=True)] == alone


@pytest.mark.parametrize("persistent", [False, True])
def test_a_worker_works_with_the_callers_settings(persistent):
    modes = []
    loader = DataLoader(
        Numbers(4, lambda index: modes.append(gn.is_grad_enabled())), num_workers=2, persistent_workers=persistent
    )
    assert {str(batch.device) for batch in loader} == {"cpu"}
    set_default_device("cpu:1")
    try:
        with gn.no_grad():
            assert {str(batch.device) for batch in loader} == {"cpu:1"}
    finally:
        set_default_device("cpu")
    assert modes == [True] * 4 + [False] * 4


def test_persistent_workers_stay():
    loader = DataLoader(Numbers(10), batch_size=2, num_workers=2, persistent_workers=True)
    first = [batch.tolist() for batch in loader]
    before = set(threads())
    assert len(before) == 2
    assert [batch.tolist() for batch in loader] == first
    next(iter(loader))
    assert set(threads()) == before
    del loader
    assert no_threads_soon()


def test_timeout():
    release = threading.Event()
    loader = DataLoader(Numbers(3, lambda index: release.wait(10)), num_workers=1, timeout=0.1)
    batches = iter(loader)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"DataLoader timed out after 0\.1 seconds"):
        next(batches)
    assert time.monotonic() - start < 5
    release.set()
    # Nothing is lost: it was late, and is there now.
    assert next(batches).tolist() == [0]


def test_a_worker_that_dies():
    hold = threading.Event()
    batches = iter(DataLoader(Numbers(3, lambda index: hold.wait(10)), num_workers=1))
    (worker,) = threads()
    # It works off the two batches it has, and is gone when the third is asked for.
    batches._workers.queues[0].put(None)
    hold.set()
    worker.join(5)
    assert [next(batches).tolist(), next(batches).tolist()] == [[0], [1]]
    with pytest.raises(RuntimeError, match="DataLoader worker 0 died without a result"):
        next(batches)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_interrupt_while_waiting_loses_no_batch():
    release = threading.Event()
    batches = iter(DataLoader(Numbers(4, lambda index: release.wait(10)), num_workers=2))
    main = threading.main_thread().ident
    timer = threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    timer.join()
    release.set()
    assert [batch.tolist() for batch in batches] == [[0], [1], [2], [3]]


def test_interrupt_without_workers_loses_no_batch_either():
    interrupts = iter([KeyboardInterrupt()])

    def do(index):
        if index == 1:
            for interrupt in interrupts:
                raise interrupt

    loader = DataLoader(Numbers(3, do))
    batches = iter(loader)
    assert next(batches).tolist() == [0]
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    assert loader.state_dict()["batch"] == 1
    assert [batch.tolist() for batch in batches] == [[1], [2]]


PREFIX = """
import threading, time
from gpunet.data import DataLoader, Dataset

class Numbers(Dataset):
    def __getitem__(self, index):
        BODY
        return index
    def __len__(self):
        return 100
"""


@pytest.mark.parametrize(
    "body, program",
    [
        ("pass", "batches = iter(DataLoader(Numbers(), num_workers=2)); next(batches)"),
        ("time.sleep(60)", "batches = iter(DataLoader(Numbers(), num_workers=2))"),
        ("pass", "loader = DataLoader(Numbers(), num_workers=2, persistent_workers=True); list(loader)"),
        ("sum(range(1000))", "batches = iter(DataLoader(Numbers(), num_workers=4, prefetch_factor=20)); next(batches)"),
        ("pass", "for batch in DataLoader(Numbers(), num_workers=2): raise SystemExit(0)"),
    ],
    ids=["half way", "busy", "persistent", "many", "exit"],
)
def test_the_interpreter_ends(body, program):
    code = textwrap.dedent(PREFIX).replace("BODY", body) + program
    start = time.monotonic()
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, timeout=25, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert time.monotonic() - start < 20
