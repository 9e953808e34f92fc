"""A stand-in for CuPy with two GPUs: just what gpunet.cuda asks of it, with the rules that the real one has."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from gpunet.backend import devices, gpu_memory, precision

PIECE = 512  # what CuPy's pool rounds sizes up to
CAPACITY = 64 * PIECE  # of each GPU


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class OutOfMemoryError(MemoryError):
    """As CuPy's, made with three numbers."""

    def __init__(self, size: int, total: int, limit: int) -> None:
        super().__init__(f"Out of memory allocating {size} bytes ({total}, {limit})")


class Memory:
    """A piece of the pool's; ``free`` gives it back, as dropping an array does."""

    def __init__(self, pool: Pool, size: int, device_id: int) -> None:
        self.pool, self.size, self.device_id = pool, size, device_id

    def free(self) -> None:
        self.pool.used[self.device_id].remove(self)


class Pool:
    """CuPy's pool: keeps what is freed, takes from the GPU what it has not, and gives back what it is told to."""

    def __init__(self, gpus: FakeCupy) -> None:
        self.gpus = gpus
        self.used: list[list[Memory]] = [[], []]
        self.held = [0, 0]
        self.limit = 0
        self.asked = 0  # how often used_bytes was called, which costs a pass over all arrays

    def malloc(self, size: int) -> Any:
        index = self.gpus.current
        rounded = -(-size // PIECE) * PIECE
        missing = sum(memory.size for memory in self.used[index]) + rounded - self.held[index]
        if missing > 0:
            others = self.gpus.others[index]
            if (self.limit and self.held[index] + missing > self.limit) or (
                self.held[index] + missing + others > CAPACITY
            ):
                raise OutOfMemoryError(rounded, self.held[index], self.limit)
            self.held[index] += missing
        memory = Memory(self, rounded, index)
        self.used[index].append(memory)
        return SimpleNamespace(mem=memory)

    def used_bytes(self) -> int:
        self.asked += 1
        return sum(memory.size for memory in self.used[self.gpus.current])

    def total_bytes(self) -> int:
        return self.held[self.gpus.current]

    def get_limit(self) -> int:
        return self.limit

    def free_all_blocks(self) -> None:
        index = self.gpus.current
        self.gpus.log.append(f"free {index}")
        self.held[index] = sum(memory.size for memory in self.used[index])


class FakeCupy(SimpleNamespace):
    """The module."""

    def __init__(self) -> None:
        gpus = self
        state = threading.local()
        super().__init__(__version__="14.2.0", log=[], others=[0, 0], ndarray=type(None))

        class Device:
            compute_capability = "90"

            def __init__(self, index: int | None = None) -> None:
                self.id = gpus.current if index is None else index
                self.before: list[int] = []

            def __enter__(self) -> Device:
                self.before.append(gpus.current)
                self.use()
                return self

            def __exit__(self, *error: object) -> None:
                state.current = self.before.pop()

            def use(self) -> None:
                state.current = self.id

            def synchronize(self) -> None:
                gpus.log.append(f"synchronize {self.id}")

        class Event:
            def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
                self.options = (block, disable_timing, interprocess)
                self.device_id = gpus.current
                self.done = False
                self.time = 0.0

            def record(self, stream: Any) -> None:
                # CUDA refuses an event on another device's stream.
                assert stream.device_id in (-1, self.device_id)
                assert gpus.current == self.device_id
                stream.queue.append(("record", self))
                self.done = False

            def synchronize(self) -> None:
                gpus.log.append("synchronize event")
                self.done = True

        class Stream:
            def __init__(self, null: bool = False, non_blocking: bool = False, priority: int | None = None) -> None:
                self.ptr = 0 if null else id(self)
                self.device_id = -1 if null else gpus.current
                self.options = (non_blocking, priority)
                self.queue: list[Any] = []
                self.done = False

            def __enter__(self) -> Stream:
                index = gpus.current
                if self.device_id not in (-1, index):
                    raise RuntimeError("the stream's device is not the current one")
                stacks().append((index, streams()[index]))
                streams()[index] = self
                return self

            def __exit__(self, *error: object) -> None:
                index, before = stacks().pop()
                assert gpus.current == index
                streams()[index] = before

            def use(self) -> None:
                assert self.device_id in (-1, gpus.current)
                streams()[gpus.current] = self

            def wait_event(self, event: Any) -> None:
                self.queue.append(("wait", event))

            def synchronize(self) -> None:
                self.done = True

        def streams() -> list[Any]:
            if not hasattr(state, "streams"):
                state.streams = [Stream.null, Stream.null]  # type: ignore[attr-defined]
            return state.streams

        def stacks() -> list[Any]:
            if not hasattr(state, "stacks"):
                state.stacks = []
            return state.stacks

        Stream.null = Stream(null=True)  # type: ignore[attr-defined]
        self._state = state
        self.pool = Pool(self)
        self.allocator = self.pool.malloc
        runtime = SimpleNamespace(
            getDeviceCount=lambda: 2,
            getDevice=lambda: gpus.current,
            getDeviceProperties=lambda index: {
                "name": f"GPU {index}".encode(), "major": 9, "minor": index, "totalGlobalMem": CAPACITY,
                "multiProcessorCount": 100 + index, "warpSize": 32,
            },
            memGetInfo=lambda: (CAPACITY - gpus.pool.total_bytes() - gpus.others[gpus.current], CAPACITY),
            runtimeGetVersion=lambda: 13000,
        )  # fmt: skip

        def set_allocator(allocator: Any) -> None:
            self.allocator = allocator

        self.cuda = SimpleNamespace(
            Device=Device, Event=Event, Stream=Stream, runtime=runtime,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
            get_allocator=lambda: self.allocator, set_allocator=set_allocator,
            get_current_stream=lambda: streams()[gpus.current],
            get_elapsed_time=lambda start, end: end.time - start.time,
        )  # fmt: skip
        pinned = SimpleNamespace(free_all_blocks=lambda: self.log.append("free pinned"))
        self.get_default_memory_pool = lambda: self.pool
        self.get_default_pinned_memory_pool = lambda: pinned
        self.compute_types: list[str] = []
        self._core = SimpleNamespace(
            set_compute_type=lambda dtype, kind: self.compute_types.append(f"{dtype.__name__} {kind}"),
            _routines_linalg=SimpleNamespace(COMPUTE_TYPE_DEFAULT="default", COMPUTE_TYPE_TF32="tf32"),
        )

    @property
    def current(self) -> int:
        """The current GPU of this thread."""
        return getattr(self._state, "current", 0)

    def allocate(self, size: int) -> Memory:
        """What making an array does."""
        return self.allocator(size).mem


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    """A CuPy with two GPUs, to be imported at first use."""
    fake = FakeCupy()
    monkeypatch.delenv("GPUNET_DEVICE", raising=False)
    monkeypatch.setitem(sys.modules, "cupy", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(devices, "_cupy", None)
    monkeypatch.setattr(devices, "_cupy_reason", None)
    monkeypatch.setattr(gpu_memory, "_accounts", {})
    monkeypatch.setattr(precision, "_chosen", dict.fromkeys(precision._chosen, "highest"))
    return fake


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_cupy", None)
    monkeypatch.setattr(devices, "_cupy_reason", "CuPy is not installed")
