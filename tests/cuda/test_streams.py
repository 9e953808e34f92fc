"""Streams and events: what is waited for, on which GPU, and which stream is current."""

from __future__ import annotations

import threading

import pytest

import gpunet as gn
from gpunet import cuda
from gpunet.backend.errors import DeviceError


@pytest.mark.usefixtures("two_gpus")
def test_a_new_stream():
    stream = cuda.Stream()
    assert stream.device == "cuda:0"
    assert stream._stream.options == (True, None)  # does not wait for the default stream
    assert cuda.Stream(1, priority=-1).device == "cuda:1"
    assert cuda.Stream("cuda:1", -1)._stream.options == (True, -1)
    assert not stream.query()
    stream.synchronize()
    assert stream.query()


@pytest.mark.usefixtures("two_gpus")
def test_the_current_stream():
    assert cuda.current_stream() == cuda.default_stream()
    assert cuda.default_stream().cuda_stream == 0
    assert cuda.default_stream(0) != cuda.default_stream(1)  # each GPU has its own
    first, second = cuda.Stream(), cuda.Stream()
    assert first != second
    assert first != "a stream"
    with cuda.stream(first):
        assert cuda.current_stream() == first
        assert hash(cuda.current_stream()) == hash(first)
        with second:
            assert cuda.current_stream() == second
        assert cuda.current_stream() == first
        with cuda.stream(None):
            assert cuda.current_stream() == first
    assert cuda.current_stream() == cuda.default_stream()
    cuda.set_stream(first)
    assert cuda.current_stream() == first
    cuda.set_stream(None)
    assert cuda.current_stream() == first
    seen = []
    thread = threading.Thread(target=lambda: seen.append(cuda.current_stream() == cuda.default_stream()))
    thread.start()
    thread.join()
    assert seen == [True]  # each thread has its own


@pytest.mark.usefixtures("two_gpus")
def test_a_stream_of_another_gpu():
    stream = cuda.Stream(1)
    with cuda.stream(stream):
        assert cuda.current_device() == 1
        assert cuda.current_stream() == stream
        assert cuda.current_stream(0) == cuda.default_stream(0)
        cuda.set_device(0)
    assert cuda.current_device() == 0
    assert cuda.current_stream(1) == cuda.default_stream(1)
    cuda.set_stream(stream)
    assert cuda.current_device() == 1
    assert cuda.current_stream() == stream


@pytest.mark.usefixtures("two_gpus")
def test_a_block_ends_after_an_error():
    with pytest.raises(KeyError), cuda.Stream(1):
        raise KeyError
    assert cuda.current_device() == 0
    assert cuda.current_stream(1) == cuda.default_stream(1)


@pytest.mark.usefixtures("two_gpus")
def test_one_stream_waits_for_another():
    first, second = cuda.Stream(), cuda.Stream()
    second.wait_stream(first)
    (recorded, event), (waits, awaited) = first._stream.queue[0], second._stream.queue[0]
    assert (recorded, waits) == ("record", "wait")
    assert event is awaited
    event = first.record_event()
    assert isinstance(event, cuda.Event)
    assert first.record_event(event) is event
    second.wait_event(event)
    assert second._stream.queue[1] == ("wait", event._event)
    with second:
        event.wait()
        event.record()
    assert second._stream.queue[2:] == [("wait", event._event), ("record", event._event)]


@pytest.mark.usefixtures("two_gpus")
def test_an_event_belongs_to_the_gpu_it_is_recorded_on():
    event = cuda.Event()
    assert event.device is None
    event.record(cuda.Stream(1))
    assert event.device == "cuda:1"
    assert "cuda:1" in repr(event)
    event.wait()  # another GPU's stream may wait
    with pytest.raises(DeviceError, match="belongs to 'cuda:1', the stream to 'cuda:0'"):
        event.record()


def test_an_event_that_was_never_recorded(two_gpus):
    """As PyTorch's: it is passed, and holds nobody up."""
    event = cuda.Event()
    assert event.query()
    event.synchronize()
    stream = cuda.Stream()
    stream.wait_event(event)
    assert stream._stream.queue == []
    assert two_gpus.log == []
    assert "not recorded" in repr(event)


@pytest.mark.usefixtures("two_gpus")
def test_the_time_between_two_events():
    start, end = cuda.Event(enable_timing=True), cuda.Event(True)
    with pytest.raises(ValueError, match="both events must be recorded first"):
        start.elapsed_time(end)
    start.record()
    end.record()
    with pytest.raises(RuntimeError, match=r"not been passed yet; call end_event.synchronize\(\)"):
        start.elapsed_time(end)
    start.synchronize()
    end.synchronize()
    end._event.time = 2.5
    assert start.elapsed_time(end) == 2.5
    with pytest.raises(ValueError, match="enable_timing=True"):
        start.elapsed_time(cuda.Event())


@pytest.mark.usefixtures("two_gpus")
def test_options_of_an_event():
    event = cuda.Event(blocking=True, interprocess=True)
    event.record()
    assert event._event.options == (True, True, True)
    with pytest.raises(ValueError, match="exclude each other"):
        cuda.Event(enable_timing=True, interprocess=True)


@pytest.mark.gpu
def test_streams_of_a_real_gpu():
    side = cuda.Stream()
    x = gn.ones(1 << 20, device="cuda")
    side.wait_stream(cuda.current_stream())
    with cuda.stream(side):
        assert cuda.current_stream() == side
        y = x * 2
    cuda.current_stream().wait_stream(side)
    assert float((y + 1).sum()) == 3 * (1 << 20)
    side.synchronize()
    assert side.query()
    assert cuda.current_stream() == cuda.default_stream()
    assert side.cuda_stream != 0


@pytest.mark.gpu
def test_times_of_a_real_gpu():
    start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    x = gn.ones(1 << 22, device="cuda")
    start.record()
    for _ in range(20):
        x = x * 1.0
    end.record()
    end.synchronize()
    assert end.query()
    assert 0.0 < start.elapsed_time(end) < 10_000.0
    assert end.elapsed_time(start) <= 0.0
    unrecorded = cuda.Event()
    assert unrecorded.query()
    unrecorded.synchronize()
    unrecorded.wait()
