"""Fifty steps of training: the losses on a GPU beside the CPU's, and beside what PyTorch's two layouts differ by.

Training amplifies rounding: two correct programs drift apart step by step. How far apart is right is measured, not
guessed: PyTorch trains the same network from the same weights on the same batches in NCHW and in channels_last, and
gpunet's two curves may differ by three times what those two differ by, and by 1e-3 in any case.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import models, optim

STEPS, BATCH = 50, 32
OPTIONS = {"lr": 0.01, "momentum": 0.9}
NETS = ("lenet", "cifar_resnet20")


def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ten classes, each a pattern of 4x4 coloured squares under noise: something to learn in a few steps."""
    rng = np.random.default_rng(3)
    patterns = np.kron(rng.standard_normal((10, 3, 4, 4)), np.ones((8, 8)))
    for _ in range(STEPS):
        labels = rng.integers(0, 10, BATCH)
        yield (patterns[labels] + 0.5 * rng.standard_normal((BATCH, 3, 32, 32))).astype(np.float32), labels


def new_net(name: str) -> Any:
    gn.manual_seed(7)
    return models.get_model(name, in_channels=3)


def our_curve(name: str, device: str) -> tuple[list[float], list[np.ndarray]]:
    """gpunet's losses, and the weights after the last step."""
    net = new_net(name).to(device)
    optimizer = optim.SGD(net.parameters(), **OPTIONS)
    losses = []
    for images, labels in batches():
        loss = F.cross_entropy(net(gn.tensor(images, device=device)), gn.tensor(labels, device=device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [parameter.detach().cpu().numpy() for parameter in net.parameters()]


def torch_nets() -> Any:
    """The peers' networks, which the benchmarks compare with too."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "torch_models.py"
    spec = importlib.util.spec_from_file_location("torch_models_of_the_benchmarks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def torch_curve(name: str, device: str, channels_last: bool) -> list[float]:
    """PyTorch's losses from gpunet's weights, in exact float32."""
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    layout = torch.channels_last if channels_last else torch.contiguous_format
    peers = torch_nets()
    net = peers.lenet() if name == "lenet" else peers.cifar_resnet(20, "A")
    ours, theirs = list(new_net(name).parameters()), list(net.parameters())
    assert [tuple(p.shape) for p in ours] == [tuple(p.shape) for p in theirs]
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            b.copy_(torch.from_numpy(np.ascontiguousarray(a.detach().numpy())))
    net = net.to(device, memory_format=layout)
    optimizer = torch.optim.SGD(net.parameters(), **OPTIONS)
    losses = []
    for images, labels in batches():
        x = torch.from_numpy(images).to(device).contiguous(memory_format=layout)
        loss = torch.nn.functional.cross_entropy(net(x), torch.from_numpy(labels).to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def furthest(one: list[float], other: list[float]) -> float:
    return float(np.abs(np.subtract(one, other)).max())


def assert_follows(name: str, found: list[float], expected: list[float], device: str) -> None:
    """Within three times what PyTorch's layouts differ by on ``device``; a NaN never passes."""
    assert np.mean(expected[-5:]) < 0.7 * np.mean(expected[:5]), "the network did not learn: nothing is compared"
    layouts = furthest(torch_curve(name, device, False), torch_curve(name, device, True))
    bound = max(1e-3, 3 * layouts)
    difference = furthest(found, expected)
    assert difference <= bound, f"losses differ by {difference:.3g}; PyTorch's layouts by {layouts:.3g}"


@pytest.mark.gpu
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NETS)
def test_a_gpu_follows_the_cpu(name: str) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no GPU, and its layouts' difference on one is the bound")
    assert_follows(name, our_curve(name, "cuda")[0], our_curve(name, "cpu")[0], "cuda")


@pytest.mark.gpu
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NETS)
def test_two_runs_on_a_gpu_give_the_same_bits(name: str) -> None:
    (losses, weights), (again, weights_again) = our_curve(name, "cuda"), our_curve(name, "cuda")
    assert losses == again
    for first, second in zip(weights, weights_again, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", ["lenet", pytest.param("cifar_resnet20", marks=pytest.mark.slow)])
def test_the_cpu_follows_pytorch(name: str) -> None:
    """The same comparison where there is no GPU."""
    pytest.importorskip("torch")
    assert_follows(name, our_curve(name, "cpu")[0], torch_curve(name, "cpu", False), "cpu")
