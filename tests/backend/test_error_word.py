"""Errors about values: at once on a CPU, at the next synchronisation on a device, with the same class and text."""

from __future__ import annotations

import contextlib
import threading
import types
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

import gpunet as gn
from gpunet.backend import devices, error_word
from gpunet.backend.devices import Device
from gpunet.backend.error_word import check_values, clear_error_words, raise_deferred
from gpunet.testing import cuda_on_cpu, host_compiler_missing


class DeviceArray(np.ndarray):
    """An array that counts how often the host reads a value of it, as a GPU would make the host wait."""

    waits = 0
    device = types.SimpleNamespace(id=0)

    def __int__(self) -> int:
        DeviceArray.waits += 1
        return int(np.asarray(self).item())

    def __bool__(self) -> bool:
        raise AssertionError("the host must not look at a value on the device")


def on_device(values: Any) -> Any:
    missing = host_compiler_missing()
    if missing is not None:
        pytest.skip(missing)
    return np.asarray(values).view(DeviceArray)


def seen_by_kernels(args: Any) -> list[Any]:
    return [np.asarray(value) if isinstance(value, DeviceArray) else value for value in args]


def fake_module() -> types.SimpleNamespace:
    """A stand-in for CuPy: its arrays are NumPy's, its module is another."""
    return types.SimpleNamespace(
        __name__="fake",
        zeros=lambda shape, dtype: np.zeros(shape, dtype).view(DeviceArray),
        ascontiguousarray=lambda array, dtype: array,
    )


@pytest.fixture(autouse=True)
def _fake_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fake = fake_module()
    real = error_word.array_module
    monkeypatch.setattr(
        error_word, "array_module", lambda array: fake if type(array) is not np.ndarray else real(array)
    )
    # The kernels run on the CPU, where the layer may look at whatever it likes.
    launch = error_word.launch
    monkeypatch.setattr(
        error_word, "launch", lambda *where, **rest: launch(*where[:3], seen_by_kernels(where[3]), **rest)
    )
    DeviceArray.waits = 0
    clear_error_words()
    with cuda_on_cpu() if host_compiler_missing() is None else contextlib.nullcontext():
        yield
    clear_error_words()


def test_on_the_cpu_at_once_with_a_detail() -> None:
    with pytest.raises(IndexError, match=r"^target: class indices must lie in 0..C-1 \(or be ignore_index\); got 7$"):
        check_values("target", np.array([False, True]), "got 7")
    check_values("target", np.array([False, False]), "got 7")


def test_on_a_device_later_with_the_same_class_and_text() -> None:
    check_values("target", on_device([False, True]))
    assert DeviceArray.waits == 0
    with pytest.raises(IndexError, match=r"^target: class indices must lie in 0..C-1 \(or be ignore_index\)$"):
        raise_deferred()
    assert DeviceArray.waits == 1


def test_an_error_is_reported_once() -> None:
    check_values("index", on_device([True]))
    with pytest.raises(IndexError, match=r"^index: "):
        raise_deferred()
    raise_deferred()


def test_good_values_report_nothing() -> None:
    check_values("target", on_device([False, False]))
    raise_deferred()
    assert DeviceArray.waits == 1


def test_errors_add_up_until_they_are_seen() -> None:
    check_values("index", on_device([False]))
    check_values("divisor", on_device([True]))
    check_values("target", on_device([True]))
    check_values("target", on_device([False]))
    with pytest.raises(IndexError, match=r"^target: "):
        raise_deferred()


def test_two_devices_have_two_words(monkeypatch: pytest.MonkeyPatch) -> None:
    second = type("SecondDeviceArray", (DeviceArray,), {"device": types.SimpleNamespace(id=1)})
    real = error_word.array_module
    fake = fake_module()
    monkeypatch.setattr(error_word, "array_module", lambda array: fake if isinstance(array, second) else real(array))
    check_values("index", on_device([False]))
    check_values("index", np.array([True]).view(second))
    assert len(error_word._words) == 2
    with pytest.raises(IndexError, match=r"^index: "):
        raise_deferred()


@pytest.mark.parametrize(
    "synchronise",
    [
        lambda t: t.item(),
        lambda t: t.tolist(),
        lambda t: t.numpy(),
        lambda t: float(t),
        lambda t: bool(t),
        np.asarray,
        np.from_dlpack,
    ],
)
def test_every_synchronisation_reports(synchronise: Any) -> None:
    value = gn.tensor(1.0)
    check_values("target", on_device([True]))
    with pytest.raises(IndexError, match=r"^target: "):
        synchronise(value)
    synchronise(value)


def test_without_a_device_nothing_is_waited_for() -> None:
    gn.tensor(1.0).item()
    assert DeviceArray.waits == 0


class Queued(np.ndarray):
    """A word on a GPU: what kernels have set arrives when their stream, or the whole GPU, has been waited for."""

    device = types.SimpleNamespace(id=0)
    queues: ClassVar[dict[int, int]] = {}
    current = 0

    def __int__(self) -> int:
        arrive(self, [Queued.current])
        return int(np.asarray(self).item())


def arrive(word: Any, streams: list[int]) -> None:
    for stream in streams:
        word |= Queued.queues.pop(stream, 0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """CuPy as far as words go. A bit that another stream sets arrives between a read and what comes behind it."""
    made: list[Any] = []

    def zeros(shape: Any, dtype: Any) -> Any:
        made.append(np.zeros(shape, dtype).view(Queued))
        return made[-1]

    def launch(kernel: Any, grid: int, block: int, args: Any) -> None:
        assert kernel.name == "take_error_word"
        word, taken = args
        np.asarray(word)[...] |= fake.meanwhile
        fake.meanwhile = 0
        np.asarray(taken)[...] = np.asarray(word)
        np.asarray(word)[...] = 0

    fake = types.SimpleNamespace(
        __name__="fake", meanwhile=0, zeros=zeros, empty=lambda shape, dtype: np.empty(shape, dtype),
        cuda=types.SimpleNamespace(
            get_current_stream=lambda index=-1: types.SimpleNamespace(ptr=Queued.current, synchronize=lambda: None),
            runtime=types.SimpleNamespace(deviceSynchronize=lambda: arrive(made[-1], list(Queued.queues))),
        ),
    )  # fmt: skip
    monkeypatch.setattr(devices, "_cupy", fake)
    monkeypatch.setattr(error_word, "array_module", lambda array: fake)
    monkeypatch.setattr(error_word, "device_of", lambda array: Device("cuda", 0))
    monkeypatch.setattr(error_word, "on_device", lambda place: contextlib.nullcontext())
    monkeypatch.setattr(error_word, "launch", launch)
    monkeypatch.setattr(Queued, "queues", {})
    monkeypatch.setattr(Queued, "current", 0)
    return fake


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("reading", [0, 7])
@pytest.mark.parametrize("writing", [0, 7])
def test_a_read_waits_for_the_streams_that_were_given_the_word(writing: int, reading: int) -> None:
    Queued.current = writing
    word = error_word.error_word(np.zeros(1).view(Queued))
    Queued.queues = {writing: 2}
    Queued.current = reading
    with pytest.raises(IndexError, match=r"^index: "):
        raise_deferred()
    raise_deferred()
    assert int(word) == 0
    # A stream stays known: its next kernel may have been given the word before this read.
    Queued.queues = {writing: 4}
    with pytest.raises(IndexError, match=r"^embedding: "):
        raise_deferred()


def test_what_is_set_while_the_word_is_read_is_not_lost(gpu: Any) -> None:
    error_word.error_word(np.zeros(1).view(Queued))
    Queued.queues = {0: 2}
    gpu.meanwhile = 1
    with pytest.raises(IndexError, match=r"^target: "):  # the first of the two
        raise_deferred()
    raise_deferred()


def test_streams_of_threads_are_told_apart_where_they_have_one_address(gpu: Any) -> None:
    Queued.current = 2  # CUDA's per-thread default stream
    x = np.zeros(1).view(Queued)
    thread = threading.Thread(target=error_word.error_word, args=(x,))
    thread.start()
    thread.join()
    error_word.error_word(x)
    waited = []
    gpu.cuda.runtime.deviceSynchronize = lambda: waited.append(True)
    raise_deferred()
    assert waited == [True]
