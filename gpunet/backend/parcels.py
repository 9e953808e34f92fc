"""Copies from device to device that computation does not wait for until it needs them.

Between two GPUs a copy runs on a stream of its own. It waits for what was queued on the source before it was sent, and
for nothing on the target: kernels of both GPUs run meanwhile. The target's stream waits for it when it is opened. Its
memory belongs to the copying stream, which waits for the reader before it gives that memory to the next copy; the
source's stream waits for the copy before it may reuse what was sent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.backend import devices
from gpunet.backend.devices import Device, on_device, transfer
from gpunet.backend.streams import Event, Stream, current_stream, stream

__all__ = ["Parcel"]

_STREAMS: dict[tuple[Device, Device], Stream] = {}


class Parcel:
    """An array on its way to another device.

        parcel = Parcel(array, source, target)  # under way from here on
        ...                                     # work that does not need it
        with parcel as arrived:                 # work queued on the target from here on comes after it
            ...

    ``arrived`` may only be read, inside the block alone, by work on the target's current stream. It is opened
    once, in the thread that sent it. One that never is does no harm.

    Args:
        array: on ``source``; not written to before the parcel is opened.
        source: where it is.
        target: another device.
    """

    def __init__(self, array: Any, source: Device, target: Device) -> None:
        self.source, self.target = source, target
        self._copied: Event | None = None
        if source.type == target.type == "cuda":
            self._fly(array)
        else:
            moved = transfer(array, target)
            # Logical CPU devices share the machine's memory, but not an array's.
            self._array = moved.copy(order="K") if moved is array else moved

    def _fly(self, array: Any) -> None:
        module = devices.cupy()
        order = devices._physical_order(array)
        with on_device(self.source):
            # One piece of memory goes at a time: a slice is gathered first.
            self._sent = module.ascontiguousarray(array if order is None else array.transpose(order))
        sent = self._sent
        self._queue = _copying_stream(self.source, self.target)
        self._queue.wait_event(current_stream(self.source).record_event())
        with stream(self._queue):
            landed = module.empty(sent.shape, sent.dtype)
            landed.data.copy_from_device_async(sent.data, sent.nbytes, self._queue._stream)
        self._copied = self._queue.record_event()
        self._array = landed if order is None else landed.transpose(np.argsort(order).tolist())

    def __enter__(self) -> Any:
        if self._copied is not None:
            current_stream(self.target).wait_event(self._copied)
        return self._array

    def __exit__(self, *_: object) -> None:
        if self._copied is not None:
            self._queue.wait_event(current_stream(self.target).record_event())
            current_stream(self.source).wait_event(self._copied)
            self._sent = None
        self._array = None


def _copying_stream(source: Device, target: Device) -> Stream:
    """The stream of the copies from one GPU to another."""
    found = _STREAMS.get((source, target))
    if found is None:
        found = _STREAMS[source, target] = Stream(target)
    return found
