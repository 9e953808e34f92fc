"""Models and optimizers on a GPU: the CPU's numbers, and no array that silently stayed behind."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet as gn
from gpunet import models, optim

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(
    "kind, options",
    [
        (optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}),
        (optim.AdamW, {"lr": 1e-3}),
        (optim.Adam, {"lr": 1e-3, "amsgrad": True, "capturable": True}),
    ],
)
def test_three_steps_are_the_cpus(kind, options):
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((16, 1, 8, 8)), rng.integers(0, 10, 16)
    losses = {}
    for device in ("cpu", "cuda"):
        gn.manual_seed(0)
        net = models.cifar_resnet20(in_channels=1).double().to(device)
        optimizer = kind(net.parameters(), **options)
        losses[device] = []
        for _ in range(3):
            scores = net(gn.tensor(images, device=device))
            loss = gn.nn.functional.cross_entropy(scores, gn.tensor(labels, device=device))
            optimizer.zero_grad()
            loss.backward()
            gn.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            losses[device].append(loss.item())
        state = [value for values in optimizer.state.values() for name, value in values.items() if name != "step"]
        assert {tensor.device.type for tensor in (*net.parameters(), *net.buffers(), *state)} == {device}
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-8)


def test_a_model_drawn_on_the_gpu_has_the_cpus_weights(tmp_path):
    weights = {}
    for device in ("cpu", "cuda"):
        gn.manual_seed(0)
        layer = gn.nn.Conv2d(3, 4, 3, device=device)
        gn.save(layer.state_dict(), tmp_path / device)
        weights[device] = gn.load(tmp_path / device)["weight"].numpy()
    np.testing.assert_array_equal(weights["cpu"], weights["cuda"])
