"""Where the time goes: every operation of a block with its time, memory traffic, multiply-adds, path and module.

    with gn.profile() as prof:
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
    print(prof)                                   # by operation
    print(prof.table(group_by="module"))          # by layer
    prof.export_chrome_trace("trace.json")        # for chrome://tracing or ui.perfetto.dev

It is an observer of operations: nothing is recorded, and no operation is slower, outside the block. Times on the CPU
are those of the arrays' computation alone, without what it costs to dispatch it. On a GPU the time of the device is
taken from CUDA events beside the host's, and waited for at the end of the block.
"""

from __future__ import annotations

import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from gpunet.autograd import Tensor, observer
from gpunet.autograd.observer import Computation
from gpunet.backend.events import elapsed_microseconds, record_event, wait_for_event

__all__ = ["Average", "Averages", "Event", "profile", "record_function"]

Shape = tuple[int, ...]


@dataclass(slots=True)
class Event:
    """One operation that ran, forward or backward; or a range that ``record_function`` named.

    Attributes:
        name: of the operation.
        phase: ``"forward"``, ``"backward"`` or ``"range"``.
        module: dotted path of the module whose forward it belongs to; empty outside.
        path: which implementation ran forward; empty if the forward ran before the profile.
        shapes: of the inputs that are arrays; in backward of the outputs' gradients.
        start: microseconds since the profile began.
        time: microseconds on the host.
        self_time: without the operations that ran inside, as those of a ``Function`` of one's own.
        device_time: microseconds on the GPU; 0 elsewhere.
        read, written: bytes of the arrays that come in and go out; in backward, what forward saved counts as coming
            in. A view neither reads nor writes.
        macs: multiply-adds. In backward as many again for each of the first two inputs that gets a gradient.
        device: where it ran.
        thread: the operating system's number of the thread.
    """

    name: str
    phase: str
    module: str = ""
    path: str = ""
    shapes: tuple[Shape, ...] = ()
    start: float = 0.0
    time: float = 0.0
    self_time: float = 0.0
    device_time: float = 0.0
    read: int = 0
    written: int = 0
    macs: int = 0
    device: str = "cpu"
    thread: int = 0
    _marks: tuple[Any, Any] | None = field(default=None, repr=False)


@dataclass(slots=True)
class Average:
    """The events of one row of the table, together.

    Attributes:
        key: what they have in common.
        count: how many.
        time, self_time, device_time: microseconds in sum.
        read, written, macs: in sum.
        paths: the implementations that ran, in the order in which they first did.
    """

    key: str
    count: int = 0
    time: float = 0.0
    self_time: float = 0.0
    device_time: float = 0.0
    read: int = 0
    written: int = 0
    macs: int = 0
    paths: tuple[str, ...] = ()

    def add(self, event: Event) -> None:
        """Count an event in."""
        self.count += 1
        self.time += event.time
        self.self_time += event.self_time
        self.device_time += event.device_time
        self.read += event.read
        self.written += event.written
        self.macs += event.macs
        if event.path and event.path not in self.paths:
            self.paths = (*self.paths, event.path)


_SORTING: dict[str, Callable[[Average], Any]] = {
    "time": lambda row: -row.time,
    "self_time": lambda row: -row.self_time,
    "device_time": lambda row: -row.device_time,
    "count": lambda row: -row.count,
    "bytes": lambda row: -(row.read + row.written),
    "macs": lambda row: -row.macs,
    "name": lambda row: row.key,
}
# PyTorch's names for the same.
_SORTING |= {
    "cpu_time_total": _SORTING["time"],
    "self_cpu_time_total": _SORTING["self_time"],
    "cuda_time_total": _SORTING["device_time"],
    "self_cuda_time_total": _SORTING["device_time"],
}

_GROUPING: dict[str, Callable[[Event], str]] = {
    "op": lambda event: _title(event),
    "module": lambda event: event.module or "(outside)",
    "shape": lambda event: f"{_title(event)} {' '.join(map(_shape_text, event.shapes))}",
}


def _title(event: Event) -> str:
    return f"{event.name} backward" if event.phase == "backward" else event.name


def _shape_text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "()"


class Averages(list[Average]):
    """Rows of the table, the slowest first."""

    def table(self, sort_by: str | None = "self_time", row_limit: int = 100) -> str:
        """The rows as text.

        Args:
            sort_by: ``"self_time"``, ``"time"``, ``"device_time"``, ``"count"``, ``"bytes"``, ``"macs"``, ``"name"``
                or PyTorch's ``"cpu_time_total"`` and its like; None keeps the order.
            row_limit: at most so many rows; -1 means all.

        Raises:
            ValueError: no such order.
        """
        if sort_by is not None and sort_by not in _SORTING:
            raise ValueError(f"sort_by: must be one of {', '.join(map(repr, _SORTING))}, got {sort_by!r}")
        rows = self if sort_by is None else sorted(self, key=_SORTING[sort_by])
        shown = rows[:row_limit] if row_limit >= 0 else rows
        return _table(shown, self)


class profile:
    """Record the operations of this thread inside a ``with`` block.

    Attributes:
        events: what ran, in the order in which it ended.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._open: list[tuple[Event, int]] = []
        # What a node's forward was, for its backward; a node is forgotten with its graph.
        self._forward: weakref.WeakKeyDictionary[Any, Event] = weakref.WeakKeyDictionary()
        self._began = 0
        self._thread = 0
        self._watching: Any = None
        self._marks: dict[Any, Any] = {}

    # Recording -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> profile:
        if self._watching is not None:
            raise RuntimeError("profile: is recording already; make another one to nest")
        if self._began == 0:
            self._began = time.perf_counter_ns()
        self._thread = threading.get_native_id()
        self._watching = observer.observe(self)
        self._watching.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watching.__exit__(None, None, None)
        self._watching = None
        self._open.clear()
        self._read_marks()

    def __call__(
        self, op: Any, inputs: tuple[Any, ...], attributes: dict[str, Any], outputs: tuple[Any, ...], path: str
    ) -> None:
        """An operation has ended. Those on ``meta`` compute nothing, and are only counted."""
        if not outputs or outputs[0].device.type != "meta":
            return
        arrays = tuple(value._array if isinstance(value, Tensor) else value for value in inputs)
        event = self._new(op.name, "forward", arrays, "meta")
        event.macs = op.infer(*arrays, **attributes).macs
        event.written = 0 if op.is_view else _bytes(tensor._array for tensor in outputs)
        event.start = (time.perf_counter_ns() - self._began) / 1000
        self.events.append(event)

    def before(self, computation: Computation) -> None:
        """A computation begins."""
        op, forward = computation.op, computation.phase == "forward"
        event = self._new(op.name, computation.phase, computation.arrays, str(computation.device))
        if forward:
            event.macs = computation.macs
            if op.is_view:  # touches no element
                event.read = 0
            event.path = op.path(*computation.arrays, **computation.attributes)
        else:
            context = computation.context
            event.read += _bytes(context.saved)
            known = self._forward.get(context)
            event.module = "" if known is None else known.module
            if known is not None:
                event.path = known.path
                event.macs = known.macs * sum(map(bool, context.needs_grad[:2]))
        self._begin(event, computation.device)
        if forward and hasattr(computation.context, "__weakref__"):
            self._forward[computation.context] = event

    def after(self, computation: Computation) -> None:
        """The computation has ended; ``results`` is None where it raised."""
        event = self._end(computation.device)
        results = computation.results
        if (
            event is not None
            and results is not None
            and not (computation.phase == "forward" and computation.op.is_view)
        ):
            event.written = _bytes(results if isinstance(results, tuple) else (results,))

    def _new(self, name: str, phase: str, arrays: Sequence[Any], device: str) -> Event:
        shapes = tuple(tuple(array.shape) for array in arrays if hasattr(array, "shape"))
        return Event(
            name, phase, observer.module_path(), shapes=shapes, device=device, thread=self._thread, read=_bytes(arrays)
        )

    def _begin(self, event: Event, device: Any = None) -> None:
        if device is not None and device.type == "cuda":
            event._marks = (record_event(device), None)
        now = time.perf_counter_ns()
        event.start = (now - self._began) / 1000
        self._open.append((event, now))

    def _end(self, device: Any = None) -> Event | None:
        now = time.perf_counter_ns()
        if not self._open:  # it began before the block
            return None
        event, began = self._open.pop()
        event.time = (now - began) / 1000
        event.self_time += event.time
        if self._open:
            self._open[-1][0].self_time -= event.time
        if event._marks is not None:
            event._marks = (event._marks[0], record_event(device))
        self.events.append(event)
        return event

    def _read_marks(self) -> None:
        marked = [event for event in self.events if event._marks is not None]
        for event in marked:
            start, end = event._marks  # type: ignore[misc]
            wait_for_event(end)
            event.device_time = elapsed_microseconds(start, end)
            event._marks = None

    # Reading -------------------------------------------------------------------------------------------------------

    def key_averages(self, group_by: str = "op") -> Averages:
        """The operations, those that belong together in one row.

        Args:
            group_by: ``"op"`` (forward and backward apart), ``"module"`` (both together) or ``"shape"`` (operation and
                shapes of its inputs).

        Raises:
            ValueError: no such grouping.
        """
        if group_by not in _GROUPING:
            raise ValueError(f"group_by: must be one of {', '.join(map(repr, _GROUPING))}, got {group_by!r}")
        key_of = _GROUPING[group_by]
        rows: dict[str, Average] = {}
        for event in self.events:
            if event.phase == "range" and group_by != "op":
                continue
            key = key_of(event)
            rows.setdefault(key, Average(key)).add(event)
        return Averages(sorted(rows.values(), key=_SORTING["self_time"]))

    def table(self, sort_by: str | None = "self_time", row_limit: int = 100, group_by: str = "op") -> str:
        """The table as text; see ``key_averages`` and ``Averages.table``."""
        return self.key_averages(group_by).table(sort_by, row_limit)

    def __str__(self) -> str:
        return self.table(row_limit=30)

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the events as JSON that chrome://tracing and ui.perfetto.dev show on a time line.

        Args:
            path: of the file; times in it are in microseconds.
        """
        process = os.getpid()
        events: list[dict[str, Any]] = [
            {"name": "process_name", "ph": "M", "pid": process, "tid": 0, "ts": 0, "args": {"name": "gpunet"}}
        ]
        for event in self.events:
            details = {
                "module": event.module, "path": event.path, "shapes": [list(shape) for shape in event.shapes],
                "bytes read": event.read, "bytes written": event.written, "MACs": event.macs, "device": event.device,
                "device time": event.device_time,
            }  # fmt: skip
            events.append({
                "name": _title(event), "cat": event.phase, "ph": "X", "ts": event.start, "dur": event.time,
                "pid": process, "tid": event.thread, "args": details,
            })  # fmt: skip
        text = json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, allow_nan=False)
        Path(path).write_text(text, encoding="utf-8")


@contextmanager
def record_function(name: str) -> Iterator[None]:
    """Name a range of the program: it stands in the profiles that are recording as an event around its operations."""
    recording = [one for one in observer.state.observers if isinstance(one, profile)]
    for one in recording:
        one._begin(Event(name, "range", observer.module_path(), thread=one._thread))
    try:
        yield
    finally:
        for one in reversed(recording):
            one._end()


def _bytes(arrays: Iterable[Any]) -> int:
    return sum(array.nbytes for array in arrays if hasattr(array, "nbytes"))


_COLUMNS = ("name", "calls", "self time", "%", "time", "per call", "read", "written", "MACs", "GMAC/s", "path")


def _table(rows: Sequence[Average], everything: Sequence[Average]) -> str:
    """Rows under each other, with what all of them sum to below."""
    whole = sum(row.self_time for row in everything)
    on_device = any(row.device_time for row in everything)
    lines = [_cells(row, whole, on_device) for row in rows]
    head = list(_COLUMNS)
    if on_device:
        head.insert(5, "GPU time")
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]

    def text(line: Sequence[str]) -> str:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        cells[0], cells[-1] = line[0].ljust(widths[0]), line[-1]
        return "  ".join(cells).rstrip()

    rule = "-" * max(map(len, map(text, [head, *lines])))
    left_out = len(everything) - len(rows)
    more = [f"and {left_out} more rows"] if left_out else []
    calls, macs = sum(row.count for row in everything), sum(row.macs for row in everything)
    summary = f"{calls} events, {_duration(whole)} in sum, {_scaled(macs)} MACs"
    return "\n".join([text(head), rule, *map(text, lines), *more, rule, summary])


def _cells(row: Average, whole: float, on_device: bool) -> list[str]:
    busy = row.device_time or row.time
    cells = [
        row.key, str(row.count), _duration(row.self_time), f"{100 * row.self_time / whole:.1f}" if whole else "",
        _duration(row.time), _duration(row.time / row.count), _size(row.read), _size(row.written),
        _scaled(row.macs) if row.macs else "", f"{row.macs / busy / 1000:.2f}" if row.macs and busy else "",
        ",".join(row.paths),
    ]  # fmt: skip
    if on_device:
        cells.insert(5, _duration(row.device_time))
    return cells


def _duration(microseconds: float) -> str:
    for limit, factor, unit in ((1e3, 1.0, "us"), (1e6, 1e-3, "ms")):
        if microseconds < limit:
            return f"{microseconds * factor:.1f} {unit}"
    return f"{microseconds * 1e-6:.2f} s"


def _size(count: int) -> str:
    for power, unit in ((0, "B"), (1, "KiB"), (2, "MiB")):
        if count < 1024 ** (power + 1):
            return f"{count / 1024**power:.{min(power, 1)}f} {unit}"
    return f"{count / 1024**3:.2f} GiB"


def _scaled(count: int) -> str:
    for power, unit in ((0, ""), (1, "K"), (2, "M"), (3, "G")):
        if count < 1000 ** (power + 1):
            return f"{count / 1000**power:.{2 if power else 0}f}{unit}"
    return f"{count / 1000**4:.2f}T"
