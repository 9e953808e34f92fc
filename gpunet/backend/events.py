"""Timing on a GPU: events that its stream passes, read once everything is done."""

from __future__ import annotations

from typing import Any

from gpunet.backend.devices import Device, cupy

__all__ = ["elapsed_microseconds", "record_event", "wait_for_event"]


def record_event(device: Device) -> Any:
    """Put an event into the current stream of a GPU."""
    module = cupy()
    with module.cuda.Device(device.index):
        event = module.cuda.Event()
        event.record()
    return event


def wait_for_event(event: Any) -> None:
    """Wait until a GPU has passed an event."""
    event.synchronize()


def elapsed_microseconds(start: Any, end: Any) -> float:
    """The time between two events of one GPU that it has passed."""
    return float(cupy().cuda.get_elapsed_time(start, end)) * 1000.0
