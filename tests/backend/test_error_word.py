"""Errors about values: at once on a CPU, at the next synchronisation on a device, with the same class and text."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.backend import error_word
from gpunet.backend.error_word import check_values, clear_error_words, raise_deferred


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
    return np.asarray(values).view(DeviceArray)


@pytest.fixture(autouse=True)
def _fake_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stand-in for CuPy: its arrays are NumPy's, its module is another."""
    fake = types.SimpleNamespace(__name__="fake", zeros=lambda shape, dtype: np.zeros(shape, dtype).view(DeviceArray))
    real = error_word.array_module
    monkeypatch.setattr(error_word, "array_module", lambda array: fake if type(array) is DeviceArray else real(array))
    DeviceArray.waits = 0
    clear_error_words()
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
    fake = types.SimpleNamespace(__name__="fake", zeros=lambda shape, dtype: np.zeros(shape, dtype).view(DeviceArray))
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
