"""gn.profile: what it counts is what the operations say, and the times fit into the time that passed."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.autograd import observer
from gpunet.inspect.profile import Event, record_function


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(8 * 6 * 6, 10, bias=False)

    def forward(self, x: gn.Tensor) -> gn.Tensor:
        return self.head(self.features(x).flatten(1))


def one_step(**options: str) -> tuple[gn.profile, float]:
    """A profile of a training step, and the wall time of the block in microseconds."""
    net, x = Net(), gn.randn(4, 3, 6, 6)
    began = time.perf_counter_ns()
    with gn.profile() as prof:
        F.cross_entropy(net(x), gn.tensor([0, 1, 2, 3])).backward()
    return prof, (time.perf_counter_ns() - began) / 1000


def found(prof: gn.profile, name: str, phase: str = "forward") -> Event:
    (event,) = [event for event in prof.events if (event.name, event.phase) == (name, phase)]
    return event


def test_every_operation_is_there_with_its_module_and_path() -> None:
    prof, _ = one_step()
    forward = [(event.name, event.module) for event in prof.events if event.phase == "forward"]
    assert forward == [
        ("conv2d", "features.0"), ("relu", "features.1"), ("reshape", ""), ("linear", "head"), ("cross_entropy", ""),
    ]  # fmt: skip
    backward = [(event.name, event.module) for event in prof.events if event.phase == "backward"]
    assert backward == forward[::-1]
    assert found(prof, "conv2d").path == found(prof, "conv2d", "backward").path == "cpu"
    assert found(prof, "conv2d").shapes == ((4, 3, 6, 6), (8, 3, 3, 3), (8,))
    assert found(prof, "conv2d", "backward").shapes == ((4, 8, 6, 6),)


def test_multiply_adds_are_those_of_the_layers() -> None:
    prof, _ = one_step()
    conv, linear = 4 * 8 * 36 * 27, 4 * 288 * 10
    assert (found(prof, "conv2d").macs, found(prof, "linear").macs) == (conv, linear)
    # The images need no gradient: the convolution's weights alone. The linear layer's input and weights both do.
    assert (found(prof, "conv2d", "backward").macs, found(prof, "linear", "backward").macs) == (conv, 2 * linear)
    assert sum(row.macs for row in prof.key_averages()) == 2 * conv + 3 * linear
    modules = {row.key: row for row in prof.key_averages("module")}
    assert modules["features.0"].macs == 2 * conv
    assert modules["head"].count == 2


def test_bytes_are_those_of_the_arrays() -> None:
    prof, _ = one_step()
    linear = found(prof, "linear")
    assert (linear.read, linear.written) == (4 * (4 * 288 + 10 * 288), 4 * 40)
    back = found(prof, "linear", "backward")
    # The gradient and the two saved arrays come in, their gradients go out.
    assert (back.read, back.written) == (4 * (40 + 4 * 288 + 10 * 288), 4 * (4 * 288 + 10 * 288))
    x = gn.ones(10, 10)
    with gn.profile() as views:
        x[2:4].t()
        x + 1
    assert [event.written for event in views.events] == [0, 0, 400]
    assert [event.read for event in views.events] == [0, 0, 400]


def test_times_fit_into_the_time_that_passed() -> None:
    prof, wall = one_step()
    assert all(event.time > 0 and event.self_time >= 0 for event in prof.events)
    assert sum(event.self_time for event in prof.events) <= wall
    starts = [event.start for event in prof.events]
    assert starts == sorted(starts)
    for before, after in zip(prof.events, prof.events[1:], strict=False):
        assert before.start + before.time <= after.start + 1e-6


def test_ranges_hold_what_runs_inside() -> None:
    with gn.profile() as prof, record_function("outer"):
        x = gn.ones(5)
        with record_function("inner"):
            x + 1
        x * 2
    add, inner, mul, outer = prof.events
    assert (add.name, inner.name, mul.name, outer.name) == ("add", "inner", "mul", "outer")
    assert outer.phase == "range"
    assert outer.start <= inner.start <= add.start
    assert inner.self_time == pytest.approx(inner.time - add.time)
    assert outer.self_time == pytest.approx(outer.time - inner.time - mul.time)
    assert [row.key for row in prof.key_averages("module")] == ["(outside)"]
    with record_function("nobody looks"):
        x + 1
    assert len(prof.events) == 4


def test_operations_inside_an_operation_are_counted_once() -> None:
    """A gradient hook runs operations between those of backward, and a computation inside another is its child."""
    x = gn.ones(3, requires_grad=True)
    with gn.profile() as prof:
        y = x * 2
        y.register_hook(lambda grad: grad * 3)
        y.sum().backward()
    assert [(event.name, event.phase) for event in prof.events] == [
        ("mul", "forward"), ("sum", "forward"), ("sum", "backward"), ("mul", "forward"), ("mul", "backward"),
    ]  # fmt: skip
    layer = nn.Linear(3, 3)
    layer.register_full_backward_hook(lambda module, grad_in, grad_out: (grad_in[0] * 2,))
    with gn.profile() as prof:
        layer(x).sum().backward()
    inner = found(prof, "mul")
    outer = next(e for e in prof.events if e.phase == "backward" and e.start < inner.start < e.start + e.time)
    assert outer.name == "hook_point"
    assert outer.self_time == pytest.approx(outer.time - inner.time)


def test_an_error_inside_leaves_the_profile_usable() -> None:
    prof = gn.profile()
    with pytest.raises(ZeroDivisionError), prof:
        gn.ones(2) + 1 / int(False)
    assert observer.state.observers == []
    layer = nn.ReLU()

    def fail(*_: object) -> None:
        raise RuntimeError("in backward")

    layer.register_full_backward_hook(fail)
    with pytest.raises(RuntimeError, match="in backward"), prof:
        layer(gn.ones(2, requires_grad=True)).sum().backward()
    with prof:
        gn.ones(2) * 2
    assert [event.name for event in prof.events if event.phase == "forward"] == [
        "hook_point", "relu", "hook_point", "sum", "mul",
    ]  # fmt: skip
    assert prof.events[-1].self_time == prof.events[-1].time
    with prof, pytest.raises(RuntimeError, match="profile: is recording already"):
        prof.__enter__()


def test_profiles_nest() -> None:
    with gn.profile() as outer:
        gn.ones(2) + 1
        with gn.profile() as inner:
            gn.ones(2) * 2
        gn.ones(2) - 1
    assert [event.name for event in outer.events] == ["add", "mul", "sub"]
    assert [event.name for event in inner.events] == ["mul"]


def test_a_profile_belongs_to_its_thread() -> None:
    with gn.profile() as prof:
        thread = threading.Thread(target=lambda: gn.ones(2) + 1)
        thread.start()
        thread.join()
        gn.ones(2) * 2
    assert [(event.name, event.thread) for event in prof.events] == [("mul", threading.get_native_id())]


def test_backward_of_an_older_graph_is_recorded_without_its_module() -> None:
    net = Net()
    loss = net(gn.ones(1, 3, 6, 6)).sum()
    with gn.profile() as prof:
        loss.backward()
    assert {event.phase for event in prof.events} == {"backward"}
    assert {(event.module, event.path, event.macs) for event in prof.events} == {("", "", 0)}


def test_meta_is_counted_without_computing() -> None:
    net = Net().to("meta")
    with gn.profile() as prof:
        net(gn.empty(4, 3, 6, 6, device="meta"))
    assert found(prof, "conv2d").macs == 4 * 8 * 36 * 27
    assert found(prof, "conv2d").module == "features.0"
    assert found(prof, "linear").written == 4 * 40
    assert sum(event.time for event in prof.events) == 0
    assert "conv2d" in str(prof)


def test_the_arrays_are_not_kept() -> None:
    x = gn.ones(100)
    counts = sys.getrefcount(x._array)
    with gn.profile() as prof:
        (x * 2).sum()
    after = sys.getrefcount(x._array)
    assert after == counts
    assert len(prof.events) == 2


def test_results_are_the_same_bits() -> None:
    def losses(profiled: bool) -> list[float]:
        gn.manual_seed(0)
        net, x = Net(), gn.randn(4, 3, 6, 6)
        with gn.profile() if profiled else gn.enable_grad():
            loss = F.cross_entropy(net(x), gn.tensor([0, 1, 2, 3]))
            loss.backward()
        return [loss.item(), *net.features[0].weight.grad.flatten().tolist()]

    assert losses(True) == losses(False)


def test_the_table() -> None:
    prof, _ = one_step()
    text = str(prof)
    lines = text.splitlines()
    assert lines[0].split() == [
        "name", "calls", "self", "time", "%", "time", "per", "call", "read", "written", "MACs", "GMAC/s", "path",
    ]  # fmt: skip
    assert sum(line.startswith(("conv2d ", "conv2d backward ")) for line in lines) == 2
    assert lines[-1].startswith(f"{len(prof.events)} events, ")
    assert lines[-1].endswith(" MACs")
    few = prof.table(sort_by="macs", row_limit=2).splitlines()
    assert few[2].startswith("conv2d")
    assert few[4] == "and 8 more rows"
    assert prof.table(sort_by="name", row_limit=-1).splitlines()[2].startswith("conv2d ")
    assert "conv2d 4x3x6x6 8x3x3x3 8" in prof.table(group_by="shape")
    assert prof.key_averages().table("cpu_time_total", 1) == prof.table("time", 1)
    assert gn.profile().table().endswith("0 events, 0.0 us in sum, 0 MACs")
    counts = [row.count for row in sorted(prof.key_averages(), key=lambda row: row.key)]
    assert counts == [1] * 10


def test_wrong_requests() -> None:
    prof, _ = one_step()
    with pytest.raises(ValueError, match=r"sort_by: must be one of 'time', 'self_time', .*, got 'speed'"):
        prof.table(sort_by="speed")
    with pytest.raises(ValueError, match="group_by: must be one of 'op', 'module', 'shape', got 'layer'"):
        prof.key_averages("layer")


def test_the_trace_is_chromes(tmp_path: Path) -> None:
    prof, wall = one_step()
    prof.export_chrome_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    meta, *events = trace["traceEvents"]
    assert meta["ph"] == "M"
    assert len(events) == len(prof.events)
    for written, event in zip(events, prof.events, strict=True):
        assert (written["ph"], written["cat"], written["pid"]) == ("X", event.phase, os.getpid())
        assert written["tid"] == threading.get_native_id()
        assert 0 <= written["ts"] <= written["ts"] + written["dur"] <= wall
        assert (written["ts"], written["dur"]) == (event.start, event.time)
    conv = next(written for written in events if written["name"] == "conv2d")
    assert conv["args"]["module"] == "features.0"
    assert conv["args"]["shapes"] == [[4, 3, 6, 6], [8, 3, 3, 3], [8]]
    assert any(written["name"] == "conv2d backward" for written in events)


def test_where_pytorch_users_look_for_it() -> None:
    from gpunet.profiler import profile
    from gpunet.profiler import record_function as named

    assert profile is gn.profile is gn.profiler.profile
    assert named is record_function


@pytest.mark.gpu
def test_device_times_on_a_gpu() -> None:
    x = gn.randn(512, 512, device="cuda")
    x @ x
    with gn.profile() as prof:
        for _ in range(3):
            x @ x
    assert all(event.device_time > 0 for event in prof.events)
    assert {event.device for event in prof.events} == {"cuda:0"}
    assert "GPU time" in str(prof)
    assert np.isfinite([event.device_time for event in prof.events]).all()
