"""Where there are two GPUs: what is on the second is computed there, and nothing is mixed silently."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import models, optim
from gpunet.ops import sgd
from gpunet.testing import assert_agreement

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _two_gpus() -> Iterator[None]:
    if gn.cuda.device_count() < 2:
        pytest.skip(f"needs two GPUs, CuPy finds {gn.cuda.device_count()}")
    before = gn.cuda.current_device()
    yield
    assert gn.cuda.current_device() == before, "the current device was left changed"


def convolved(device: str) -> list[np.ndarray]:
    """A convolution's output and gradients."""
    rng = np.random.default_rng(0)
    x = gn.tensor(rng.standard_normal((2, 5, 9, 7)).astype(np.float32), device=device, requires_grad=True)
    w = gn.tensor(rng.standard_normal((6, 5, 3, 3)).astype(np.float32), device=device, requires_grad=True)
    b = gn.tensor(rng.standard_normal(6).astype(np.float32), device=device, requires_grad=True)
    y = F.conv2d(x, w, b, stride=2, padding=1)
    (y * y).sum().backward()
    assert {str(t.device) for t in (y, x.grad, w.grad, b.grad)} == {device}
    return [t.detach().cpu().numpy() for t in (y, x.grad, w.grad, b.grad)]


def test_kernels_run_where_their_arrays_are() -> None:
    """Compiled for that device, launched on it, while the first is the current one."""
    for ours, theirs in zip(convolved("cuda:1"), convolved("cpu"), strict=True):
        assert_agreement(ours, theirs, np.float32)
    for ours, theirs in zip(convolved("cuda:1"), convolved("cuda:0"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_optimizer_updates_what_is_on_the_second() -> None:
    from gpunet.backend import devices

    module = devices.cupy()
    with module.cuda.Device(1):
        param, grad = module.ones(100, np.float32), module.full(100, 2.0, np.float32)
    sgd.sgd(param, grad, lr=0.25)
    assert int(param.device.id) == 1
    np.testing.assert_array_equal(module.asnumpy(param), np.full(100, 0.5, np.float32))


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: a + b,
        lambda a, b: a @ b.reshape(4, 4),
        lambda a, b: F.conv2d(a.reshape(1, 4, 2, 2), b.reshape(4, 4, 1, 1)),
        lambda a, b: F.linear(a, b.reshape(4, 4)),
    ],
    ids=["add", "matmul", "conv2d", "linear"],
)
def test_arrays_on_two_gpus_are_not_mixed(call) -> None:
    a, b = gn.ones(4, 4, device="cuda:0"), gn.ones(16, device="cuda:1")
    b = b.reshape(4, 4)
    with pytest.raises(gn.DeviceError, match="cuda:1") as error:
        call(a, b)
    assert "cuda:0" in str(error.value)


def test_copies_between_gpus() -> None:
    values = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    first = gn.tensor(values, device="cuda:0", requires_grad=True)
    second = first.to("cuda:1")
    assert str(second.device) == "cuda:1"
    np.testing.assert_array_equal(second.detach().cpu().numpy(), values)
    (second * 3.0).sum().backward()
    assert str(first.grad.device) == "cuda:0"
    np.testing.assert_array_equal(first.grad.cpu().numpy(), np.full_like(values, 3.0))


def test_memory_is_counted_for_each_gpu() -> None:
    before = gn.cuda.memory_allocated("cuda:0"), gn.cuda.memory_allocated("cuda:1")
    kept = gn.zeros(1 << 20, device="cuda:1")
    assert gn.cuda.memory_allocated("cuda:1") - before[1] >= kept.numel() * 4
    assert gn.cuda.memory_allocated("cuda:0") == before[0]


def test_a_network_trains_on_the_second_as_on_the_cpu() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((8, 1, 8, 8)), rng.integers(0, 10, 8)
    losses = {}
    for device in ("cpu", "cuda:1"):
        gn.manual_seed(0)
        net = models.cifar_resnet20(in_channels=1).double().to(device)
        optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        losses[device] = []
        for _ in range(3):
            loss = F.cross_entropy(net(gn.tensor(images, device=device)), gn.tensor(labels, device=device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[device].append(loss.item())
    assert losses["cuda:1"] == pytest.approx(losses["cpu"], rel=1e-8)
