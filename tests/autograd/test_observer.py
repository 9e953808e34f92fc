"""Observers see every operation, with its attributes and the path of the module it ran in."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import Tensor, nn
from gpunet.autograd import observe

Call = tuple[Any, tuple[Any, ...], dict[str, Any], tuple[Any, ...], str]


def test_an_observer_sees_operations_in_order() -> None:
    calls: list[Call] = []
    x = gn.ones(2, 3)
    with observe(lambda *call: calls.append(call)):
        y = (x * 2).sum(1)
    x + 1
    assert [call[0].name for call in calls] == ["mul", "sum"]
    _, first_inputs, _, first_outputs, _ = calls[0]
    assert first_inputs[0] is x
    assert first_inputs[1] == 2
    _, inputs, attributes, outputs, path = calls[1]
    assert inputs[0] is first_outputs[0]
    assert attributes["dim"] == 1
    assert outputs[0] is y
    assert path == ""


def test_several_outputs_and_missing_inputs() -> None:
    calls: list[Call] = []
    with observe(lambda *call: calls.append(call)):
        gn.ones(4).split(2)
        F.linear(gn.ones(1, 2), gn.ones(3, 2))
    assert [len(call[3]) for call in calls] == [2, 1]
    assert calls[1][1][2] is None


def test_meta_is_observed_too() -> None:
    calls: list[Call] = []
    with observe(lambda *call: calls.append(call)):
        F.conv2d(gn.empty(1, 3, 8, 8, device="meta"), gn.empty(4, 3, 3, 3, device="meta"))
    (op, inputs, attributes, outputs, _) = calls[0]
    assert outputs[0].shape == (1, 4, 6, 6)
    assert op.infer(*(i if i is None else i._array for i in inputs), **attributes).macs == 4 * 36 * 27


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.first(x)) + x


def test_module_paths() -> None:
    seen: list[tuple[str, str]] = []
    with observe(lambda op, inputs, attributes, outputs, path: seen.append((op.name, path))):
        nn.Sequential(Block(), nn.Flatten())(gn.ones(1, 2))
    assert [entry for entry in seen if entry[0] != "reshape"] == [
        ("linear", "0.first"),
        ("relu", "0.rest.0"),
        ("linear", "0.rest.1"),
        ("add", "0"),
    ]


def test_the_path_is_left_when_a_module_fails() -> None:
    block = Block()
    with pytest.raises(gn.ShapeError):
        block(gn.ones(1, 3))
    seen: list[str] = []
    with observe(lambda *call: seen.append(call[-1])):
        gn.ones(1) + 1
    assert seen == [""]


def test_observers_nest_and_end() -> None:
    outer: list[str] = []
    inner: list[str] = []
    with observe(lambda op, *rest: outer.append(op.name)):
        gn.ones(1) + 1
        with observe(lambda op, *rest: inner.append(op.name)):
            gn.ones(1) * 2
    gn.ones(1) / 2
    assert (outer, inner) == (["add", "mul"], ["mul"])
    with pytest.raises(ZeroDivisionError), observe(lambda *call: outer.append("late")):
        raise ZeroDivisionError
    gn.ones(1) + 1
    assert "late" not in outer


def test_an_observer_belongs_to_its_thread() -> None:
    seen: list[str] = []

    def work() -> None:
        gn.ones(1) + 1

    with observe(lambda op, *rest: seen.append(op.name)):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == []
