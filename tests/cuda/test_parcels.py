"""Copies between GPUs on streams of their own: what waits for what, by playing the queues in any order."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest

from gpunet import cuda
from gpunet.backend import devices, parcels
from gpunet.backend.devices import Device
from gpunet.backend.parcels import Parcel

GPUS = Device("cuda", 0), Device("cuda", 1)


class FakeArray(np.ndarray):
    """An array whose ``data`` queues copies on the stream that it is given."""

    @property
    def data(self):
        def copy_from_device_async(source, size, stream):
            assert size == self.nbytes
            stream.queue.append(("copy", source.array, self))

        return SimpleNamespace(array=self, copy_from_device_async=copy_from_device_async)


@pytest.fixture
def gpus(two_gpus, monkeypatch):
    """Two GPUs whose current streams are a queue each."""
    monkeypatch.setattr(parcels, "_STREAMS", {})
    allocated = two_gpus.allocated = []

    def empty(shape, dtype):
        allocated.append((two_gpus.current, two_gpus.cuda.get_current_stream()))
        return np.zeros(shape, dtype).view(FakeArray)

    two_gpus.empty = empty
    two_gpus.ascontiguousarray = lambda array: np.ascontiguousarray(array).view(FakeArray)
    for index in (1, 0):
        cuda.set_stream(cuda.Stream(index))
    yield two_gpus
    for index in (1, 0):
        cuda.set_stream(cuda.default_stream(index))


def current(index: int):
    return cuda.current_stream(index)._stream


def compute(index: int, name: str) -> None:
    current(index).queue.append(("compute", name))


def play(queues, seed: int, preferred: int | None = None) -> list[str]:
    """Run queues as a GPU may: each in its order, otherwise in any; the names of what ran, in order."""
    rng = random.Random(seed)
    waiting = [list(queue) for queue in queues]
    # A wait is for the record of its event that was queued last before it; here no event is recorded twice.
    passed, log = set(), []
    while any(waiting):
        able = [q for q in waiting if q and not (q[0][0] == "wait" and id(q[0][1]) not in passed)]
        assert able, "deadlock"
        favoured = [q for q in able if preferred is not None and q is waiting[preferred]]
        kind, what, *target = rng.choice(favoured or able).pop(0)
        if kind == "record":
            passed.add(id(what))
        elif kind == "copy":
            target[0][...] = what
            log.append("copy")
        elif kind == "compute":
            log.append(what)
    return log


def test_a_copy_waits_for_its_source_alone_and_its_reader_for_the_copy(gpus):
    image = np.arange(2.0 * 3 * 4 * 5).reshape(2, 4, 5, 3).transpose(0, 3, 1, 2)  # channels last
    compute(0, "make")
    compute(1, "before")
    parcel = Parcel(image, *GPUS)
    compute(0, "source goes on")
    compute(1, "target goes on")
    with parcel as arrived:
        compute(1, "read")
    compute(0, "reuse")
    second = Parcel(image, *GPUS)
    with second:
        pass
    copying = parcels._STREAMS[GPUS]
    assert copying.device == "cuda:1"
    assert copying._stream.options == (True, None)  # waits for no default stream
    assert gpus.allocated == [(1, copying._stream)] * 2  # memory that none but this stream is given
    assert gpus.current == 0
    queues = [current(0).queue, current(1).queue, copying._stream.queue]
    for seed in range(50):
        log = play(queues, seed, preferred=seed % 4 if seed % 4 < 3 else None)
        first, last = (i for i, name in enumerate(log) if name == "copy")
        assert log.index("make") < first < log.index("read") < last  # the memory may be the same
        assert first < log.index("reuse")
    # Neither GPU holds up the other until the parcel is opened.
    log = play(queues, 0, preferred=0)
    assert log.index("source goes on") < log.index("before")
    log = play(queues, 0, preferred=1)
    assert log[:2] == ["before", "target goes on"]
    log = play(queues, 0, preferred=2)
    np.testing.assert_array_equal(arrived, image)
    assert arrived.transpose(0, 2, 3, 1).flags.c_contiguous


def test_both_directions_fly_at_once(gpus):
    there, back = Parcel(np.ones((2, 2)), *GPUS), Parcel(np.ones((2, 2)), *GPUS[::-1])
    assert set(parcels._STREAMS) == {GPUS, GPUS[::-1]}
    # Only the copying streams wait: nothing is opened yet.
    assert [kind for kind, *_ in current(0).queue] == [kind for kind, *_ in current(1).queue] == ["record"]
    for parcel in (there, back):
        with parcel:
            pass
    for seed in range(20):
        queues = [current(0).queue, current(1).queue, *(s._stream.queue for s in parcels._STREAMS.values())]
        assert play(queues, seed) == ["copy", "copy"]


def test_a_slice_is_gathered_before_it_is_sent(gpus):
    whole = np.arange(24.0).reshape(2, 12)
    parcel = Parcel(whole[:, 3:7], *GPUS)
    with parcel as arrived:
        pass
    play([current(0).queue, current(1).queue, parcels._STREAMS[GPUS]._stream.queue], 0)
    np.testing.assert_array_equal(arrived, whole[:, 3:7])


def test_a_parcel_between_logical_cpus_is_a_copy():
    image = np.arange(24.0).reshape(2, 3, 4).transpose(0, 2, 1)
    with Parcel(image, Device("cpu", 0), Device("cpu", 1)) as arrived:
        np.testing.assert_array_equal(arrived, image)
        assert not np.shares_memory(arrived, image)
        assert arrived.strides == image.strides


def test_a_plain_copy_orders_both_gpus(gpus):
    """``to`` of a tensor: no stream of its own, and no race where the GPUs' streams are not the default ones."""

    def array(source, copy, order):
        assert (copy, order, gpus.current) == (True, "C", 1)
        made = np.zeros_like(source)
        current(1).queue.append(("copy", source, made))
        return made

    gpus.array = array
    image = np.arange(2.0 * 3 * 4 * 5).reshape(2, 4, 5, 3).transpose(0, 3, 1, 2)[:, 1:]  # channels last, a slice
    compute(0, "make")
    moved = devices._between_gpus(image, 0, 1)
    compute(0, "reuse")
    compute(1, "read")
    assert gpus.current == 0
    for seed in range(20):
        log = play([current(0).queue, current(1).queue], seed, preferred=seed % 2)
        assert log.index("make") < log.index("copy") < min(log.index("read"), log.index("reuse"))
    np.testing.assert_array_equal(moved, image)
    assert moved.transpose(0, 2, 3, 1).flags.c_contiguous
