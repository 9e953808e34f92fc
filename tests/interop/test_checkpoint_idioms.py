"""Checkpoints as PyTorch scripts write and read them: the same calls, and the training goes on as if never stopped."""

from __future__ import annotations

import io
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn


def start(kind: type[gn.optim.Optimizer]) -> tuple[nn.Module, gn.optim.Optimizer, Any]:
    gn.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = kind(model.parameters(), lr=0.1)
    return model, optimizer, gn.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)


def steps(model: nn.Module, optimizer: gn.optim.Optimizer, scheduler: Any, count: int) -> gn.Tensor:
    x = gn.tensor(np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32))
    for _ in range(count):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), gn.tensor([0, 1] * 4))
        loss.backward()
        optimizer.step()
        scheduler.step()
    return loss


@pytest.mark.parametrize("where", ["path", "string", "open file", "bytes"])
@pytest.mark.parametrize("kind", [gn.optim.SGD, gn.optim.Adam, gn.optim.AdamW])
def test_a_checkpoint_goes_on(kind: type[gn.optim.Optimizer], where: str, tmp_path: Path) -> None:
    whole = start(kind)
    expected = steps(*whole, 6).item()

    model, optimizer, scheduler = start(kind)
    loss = steps(model, optimizer, scheduler, 3)
    checkpoint = {
        "epoch": 3,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": scheduler.state_dict(),
        "loss": loss,
        "best": (0.5, None),
        "history": [{"loss": loss.item(), "rate": scheduler.get_last_lr()}],
        "args": OrderedDict(lr=0.1, name="net"),
        "rng": gn.get_rng_state(),
    }
    path = tmp_path / "checkpoint.pth"
    target: Any = {"path": path, "string": str(path), "open file": path, "bytes": io.BytesIO()}[where]
    if where == "open file":
        with open(path, "wb") as file:
            gn.save(checkpoint, file)
        with open(path, "rb") as file:
            loaded = gn.load(file, map_location="cpu")
    else:
        gn.save(checkpoint, target)
        if where == "bytes":
            target.seek(0)
        loaded = gn.load(target)

    model, optimizer, scheduler = start(kind)
    model.load_state_dict(loaded["model_state_dict"])
    optimizer.load_state_dict(loaded["optimizer_state_dict"])
    scheduler.load_state_dict(loaded["scheduler_state_dict"])
    assert loaded["epoch"] == 3
    assert loaded["loss"].item() == loss.item()
    assert not loaded["loss"].requires_grad
    assert loaded["best"] == (0.5, None)
    assert loaded["history"] == checkpoint["history"]
    assert loaded["args"] == checkpoint["args"]
    assert loaded["rng"] == checkpoint["rng"]
    assert steps(model, optimizer, scheduler, 3).item() == expected
    for ours, theirs in zip(model.parameters(), whole[0].parameters(), strict=True):
        assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize(
    ("map_location", "device"),
    [
        (None, "cpu"),
        ("cpu", "cpu"),
        ("cpu:1", "cpu:1"),
        (gn.device("cpu", 1), "cpu:1"),
        ({"cuda:0": "cuda:1", "cpu": "cpu:1"}, "cpu:1"),
        ({"cuda:0": "cpu:1"}, "cpu"),
        (lambda storage, location: storage, "cpu"),
        (lambda storage, location: None, "cpu"),
        (lambda storage, location: storage.to("cpu:1"), "cpu:1"),
    ],
)
def test_map_location(map_location: Any, device: str) -> None:
    buffer = io.BytesIO()
    gn.save({"model": {"w": gn.ones(2)}, "n": 1}, buffer)
    buffer.seek(0)
    found = gn.load(buffer, map_location=map_location)
    assert str(found["model"]["w"].device) == device
    assert found["model"]["w"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("map_location", "error", "text"),
    [
        ("nowhere", gn.DeviceError, "device: unknown device 'nowhere'"),
        (2.5, TypeError, "map_location: expected a device, a dict or a function, got float"),
    ],
)
def test_wrong_places(map_location: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        gn.load(io.BytesIO(), map_location=map_location)


def test_a_whole_module_is_refused_with_the_call_to_use(tmp_path: Path) -> None:
    model = start(gn.optim.SGD)[0]
    with pytest.raises(TypeError, match=r"save its state: gn.save\(model.state_dict\(\), path\)"):
        gn.save(model, tmp_path / "model.pt")
    with pytest.raises(TypeError, match=r"save its state: obj\['net'\] = model.state_dict\(\)"):
        gn.save({"net": model}, tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_partial_load_as_for_fine_tuning(tmp_path: Path) -> None:
    """Weights of another head are left out by hand, the rest is loaded."""
    model = start(gn.optim.SGD)[0]
    gn.save(model.state_dict(), tmp_path / "pretrained.pt")
    state = gn.load(tmp_path / "pretrained.pt", map_location=lambda storage, location: storage)
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 7))
    own = other.state_dict()
    own.update({key: value for key, value in state.items() if key in own and value.size() == own[key].size()})
    assert str(other.load_state_dict(own)) == "<All keys matched successfully>"
    assert other[0].weight.tolist() == model[0].weight.tolist()
    renamed = {f"module.{key}": value for key, value in state.items()}
    model.load_state_dict({key.removeprefix("module."): value for key, value in renamed.items()})
