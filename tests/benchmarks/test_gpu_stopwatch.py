"""Timing with events, on a GPU that is played: a queue that works off what the host asks for, on one made-up clock."""

import types

import pytest

from benchmarks.gpu import machine as machines

CLOCK_RATE = 1.5e9


class PlayedGPU:
    """Work begins when it has been asked for and all before it is done."""

    def __init__(self):
        self.host = self.device = 0.0
        self.cuda = types.SimpleNamespace(
            Event=lambda enable_timing: PlayedEvent(self),
            _sleep=lambda cycles: self.ask(cycles / CLOCK_RATE, 5e-6),
            synchronize=self.wait,
        )

    def ask(self, duration, host_duration):
        self.host += host_duration
        self.device = max(self.device, self.host) + duration

    def wait(self):
        self.host = max(self.host, self.device)


class PlayedEvent:
    def __init__(self, gpu):
        self.gpu = gpu

    def record(self):
        self.gpu.ask(0.0, 1e-6)
        self.time = self.gpu.device

    def synchronize(self):
        self.gpu.wait()

    def elapsed_time(self, end):
        return (end.time - self.time) * 1e3


@pytest.fixture
def played(monkeypatch):
    gpu = object.__new__(machines.GPU)
    gpu.torch, gpu._wait = PlayedGPU(), machines.SHORTEST_WAIT
    monkeypatch.setattr(machines.time, "perf_counter", lambda: gpu.torch.host)
    gpu._calibrate()
    return gpu


def test_the_waiting_kernels_clock_is_measured(played):
    assert played._cycles_per_second == pytest.approx(CLOCK_RATE, rel=1e-2)


@pytest.mark.parametrize("duration", [1e-6, 20e-6, 1e-3])
@pytest.mark.parametrize("host", [2e-6, 50e-6, 500e-6])
def test_the_devices_time_has_no_waiting_for_the_host_in_it(played, duration, host):
    """A kernel of a microsecond that takes half a millisecond to ask for takes a microsecond."""
    sample = played.stopwatch(lambda: played.torch.ask(duration, host), 20)
    assert sample.covered
    assert sample.seconds == pytest.approx(duration, rel=0.1)
    assert sample.host_seconds == pytest.approx(host, rel=0.01)


def test_without_the_wait_the_host_would_be_timed(played):
    """What the fixture plays is not always covered: a call that waits for the device never is."""

    def call():
        played.torch.ask(1e-6, 1e-4)
        played.torch.wait()

    sample = played.stopwatch(call, 20)
    assert not sample.covered
    assert sample.seconds > 5e-5


def test_a_wait_that_was_long_enough_is_tried_first_the_next_time(played):
    asked = []

    def call():
        asked.append(played.torch.host)
        played.torch.ask(1e-6, 1e-4)

    played.stopwatch(call, 50)
    first = len(asked)
    assert first > 50  # five milliseconds of asking were not covered at once
    played.stopwatch(call, 50)
    assert len(asked) == first + 50
