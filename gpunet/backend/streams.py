"""Streams and events of a GPU, under PyTorch's names and behaviour, on CuPy's.

Work on one stream runs in order; work on two runs in any order, unless one waits for the other. Every thread has a
current stream on each GPU, at first the default one; what operations do goes there. A new stream does not wait for the
default one by itself: ``stream.wait_stream(gn.cuda.current_stream())`` says so.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from gpunet.backend import devices
from gpunet.backend.cuda_runtime import cuda_index
from gpunet.backend.devices import Device
from gpunet.backend.errors import DeviceError

__all__ = ["Event", "Stream", "StreamContext", "current_stream", "default_stream", "set_stream", "stream"]


class Stream:
    """A queue of work on a GPU, beside its default one.

    ``with stream:`` makes it the current one inside the block, as ``with gn.cuda.stream(stream):`` does.

    Args:
        device: the GPU, as ``"cuda:1"`` or 1; None is the current one.
        priority: 0, or a negative number to be served before others.

    Attributes:
        device: the GPU.
        cuda_stream: the address of its ``cudaStream_t``, for other libraries.

    Raises:
        DeviceError: there is no such GPU; the message says why.
    """

    def __init__(self, device: Device | str | int | None = None, priority: int = 0) -> None:
        index = cuda_index(device)
        module = devices.cupy()
        with module.cuda.Device(index):
            # As PyTorch's streams: they do not wait for the default stream.
            self._stream = module.cuda.Stream(non_blocking=True, priority=priority or None)
        self.device = Device("cuda", index)
        self.priority = priority
        self._entered: list[StreamContext] = []

    @classmethod
    def _of(cls, stream: Any, index: int) -> Stream:
        """A stream of CuPy's, seen as one of these."""
        found = object.__new__(cls)
        found._stream, found.device, found.priority, found._entered = stream, Device("cuda", index), 0, []
        return found

    @property
    def cuda_stream(self) -> int:
        """The address of the ``cudaStream_t``."""
        return int(self._stream.ptr)

    def record_event(self, event: Event | None = None) -> Event:
        """Put an event behind the work that is queued now; returns it.

        Args:
            event: None makes a new one.
        """
        recorded = Event() if event is None else event
        recorded.record(self)
        return recorded

    def wait_event(self, event: Event) -> None:
        """Let work queued from now on wait until an event has been passed. One never recorded holds up nothing."""
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """Let work queued from now on wait for what is queued on another stream now."""
        self.wait_event(stream.record_event())

    def query(self) -> bool:
        """True if everything queued is done."""
        return bool(self._stream.done)

    def synchronize(self) -> None:
        """Wait until everything queued is done."""
        self._stream.synchronize()

    def __enter__(self) -> Stream:
        self._entered.append(StreamContext(self))
        self._entered[-1].__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._entered.pop().__exit__(*error)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stream):
            return NotImplemented
        return self.device is other.device and self.cuda_stream == other.cuda_stream

    def __hash__(self) -> int:
        return hash((self.device, self.cuda_stream))

    def __repr__(self) -> str:
        return f"<gpunet.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


class Event:
    """A mark in a stream that the host and other streams can wait for.

    Made on the GPU of the stream that it is first recorded on.

    Args:
        enable_timing: measure the time, for ``elapsed_time``.
        blocking: let ``synchronize`` sleep rather than spin.
        interprocess: other processes may wait for it; not together with timing.

    Raises:
        DeviceError: there is no usable GPU; the message says why.
        ValueError: both timing and interprocess.
    """

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        if enable_timing and interprocess:
            raise ValueError("Event: enable_timing and interprocess exclude each other")
        devices.cupy()
        self._event: Any = None
        self._options = {"block": blocking, "disable_timing": not enable_timing, "interprocess": interprocess}
        self.device: Device | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Put the event behind the work that is queued now; what it marked before is forgotten.

        Args:
            stream: None is the current one.

        Raises:
            DeviceError: a stream of another GPU than before.
        """
        queue = current_stream() if stream is None else stream
        if self.device is not None and self.device is not queue.device:
            raise DeviceError(f"Event: belongs to {str(self.device)!r}, the stream to {str(queue.device)!r}")
        module = devices.cupy()
        with module.cuda.Device(queue.device.index):
            if self._event is None:
                self._event, self.device = module.cuda.Event(**self._options), queue.device
            self._event.record(queue._stream)

    def wait(self, stream: Stream | None = None) -> None:
        """Let work queued from now on wait until the event has been passed.

        Args:
            stream: whose work; None is the current one. It may be another GPU's.
        """
        if self._event is not None:
            queue = current_stream() if stream is None else stream
            queue._stream.wait_event(self._event)

    def query(self) -> bool:
        """True if the event has been passed, or was never recorded."""
        return self._event is None or bool(self._event.done)

    def synchronize(self) -> None:
        """Let the host wait until the event has been passed."""
        if self._event is not None:
            self._event.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to a later one.

        Raises:
            ValueError: made without ``enable_timing=True``, or not recorded.
            RuntimeError: not passed yet: call ``end_event.synchronize()`` first.
        """
        for event in (self, end_event):
            if event._options["disable_timing"]:
                raise ValueError("elapsed_time: both events must be made with enable_timing=True")
            if event._event is None:
                raise ValueError("elapsed_time: both events must be recorded first")
        if not (self.query() and end_event.query()):
            raise RuntimeError("elapsed_time: an event has not been passed yet; call end_event.synchronize() first")
        return float(devices.cupy().cuda.get_elapsed_time(self._event, end_event._event))

    def __repr__(self) -> str:
        return f"<gpunet.cuda.Event {'not recorded' if self.device is None else f'on {self.device}'}>"


class StreamContext:
    """A block in which a stream, and its GPU, are the current ones of this thread; None changes nothing."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream
        self._device: Any = None

    def __enter__(self) -> None:
        if self.stream is not None:
            self._device = devices.cupy().cuda.Device(self.stream.device.index)
            self._device.__enter__()
            self.stream._stream.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.stream is not None:
            # A program may have changed the current GPU inside of the block.
            devices.cupy().cuda.Device(self.stream.device.index).use()
            self.stream._stream.__exit__(kind, error, trace)
            self._device.__exit__(kind, error, trace)


def stream(stream: Stream | None) -> StreamContext:
    """``with gn.cuda.stream(s):``: a block whose work goes to the stream ``s``; None changes nothing."""
    return StreamContext(stream)


def set_stream(stream: Stream | None) -> None:
    """Make a stream, and its GPU, the current ones of this thread; None changes nothing."""
    if stream is not None:
        devices.cupy().cuda.Device(stream.device.index).use()
        stream._stream.use()


def current_stream(device: Device | str | int | None = None) -> Stream:
    """The stream that this thread's work goes to.

    Args:
        device: on which GPU; None is the current one.

    Raises:
        DeviceError: there is no such GPU; the message says why.
    """
    index = cuda_index(device)
    module = devices.cupy()
    with module.cuda.Device(index):
        return Stream._of(module.cuda.get_current_stream(), index)


def default_stream(device: Device | str | int | None = None) -> Stream:
    """The stream that work goes to where no other was chosen.

    Args:
        device: of which GPU; None is the current one.

    Raises:
        DeviceError: there is no such GPU; the message says why.
    """
    index = cuda_index(device)
    return Stream._of(devices.cupy().cuda.Stream.null, index)
