"""Whole networks train through the CUDA host path, on the CPU, and stay with the NumPy path.

The two paths add up the same products in another order, so they differ by rounding alone. In float64 five steps leave
every weight within a bound that is far below what one wrong element in a thousand would do. In float32 a ReLU whose
input is within rounding of zero may pass its gradient on one path and stop it on the other (so do two BLAS libraries
among themselves), which no bound on single weights survives: there the first loss is held tightly, the first gradient
as a whole, and the later losses to what such a flip does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.models import cifar_resnet
from gpunet.testing import cuda_on_cpu, relative_error

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("host")]

STEPS = 5
# Relative errors: of the first loss and of the later ones, and of the first gradient in the Euclidean norm.
FIRST_LOSS_BOUND = {np.float32: 1e-5, np.float64: 1e-12}
LOSS_BOUND = {np.float32: 5e-2, np.float64: 1e-12}
GRADIENT_BOUND = {np.float32: 5e-2, np.float64: 1e-11}
# max|a - b| / max|b| of a parameter or a running statistic after the last step, in float64.
WEIGHT_BOUND = 1e-11


def trained(make: Callable[[], nn.Module], images: np.ndarray, dtype: Any, on_kernels: bool) -> tuple[Any, ...]:
    """Train for some steps.

    Returns:
        the losses, the gradients of the first step as one vector, the weights and statistics at the end by name, the
        paths that operations took.
    """
    gn.manual_seed(5)
    model = make().to(dtype)
    labels = gn.tensor(np.arange(len(images)) % 10)
    optimizer = gn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    losses, paths, gradient = [], set(), np.empty(0)
    with cuda_on_cpu("both") if on_kernels else contextlib.nullcontext():
        for _ in range(STEPS):
            with gn.profile() as prof:
                loss = F.cross_entropy(model(gn.from_numpy(images.astype(dtype))), labels)
                optimizer.zero_grad()
                loss.backward()
            if not losses:
                gradient = np.concatenate([p.grad.numpy().ravel().astype(np.float64) for p in model.parameters()])
            optimizer.step()
            losses.append(loss.item())
            paths |= {(event.name, event.path) for event in prof.events if event.phase == "forward"}
    state = {name: value.numpy().astype(np.float64) for name, value in model.state_dict().items()}
    return np.array(losses), gradient, state, paths


def agree(make: Callable[[], nn.Module], images: np.ndarray, dtype: Any) -> set[tuple[str, str]]:
    """Train on both paths and hold one to the other.

    Returns:
        the operations and the paths they took through the kernels.
    """
    losses, gradient, state, paths = trained(make, images, dtype, on_kernels=True)
    expected_losses, expected_gradient, expected_state, plain = trained(make, images, dtype, on_kernels=False)
    assert "cuda" not in {path for _, path in plain}
    assert expected_losses[-1] < expected_losses[0]  # it learns, so that there is something to compare
    errors = np.abs(losses / expected_losses - 1)
    assert errors[0] <= FIRST_LOSS_BOUND[dtype]
    assert errors.max() <= LOSS_BOUND[dtype]
    distance = np.linalg.norm(gradient - expected_gradient)
    assert distance <= GRADIENT_BOUND[dtype] * np.linalg.norm(expected_gradient)
    assert list(state) == list(expected_state)
    if dtype is np.float64:
        for name, value in state.items():
            assert relative_error(value, expected_state[name]) <= WEIGHT_BOUND, name
    return paths


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cifar_resnet20(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At an eighth of its width, on images of 16 pixels."""
    monkeypatch.setattr(cifar_resnet, "WIDTHS", (2, 4, 8))
    paths = agree(lambda: cifar_resnet.CifarResNet(20), random_images(8, 3, 16, 16), dtype)
    assert {("conv2d", "cuda"), ("linear", "cuda")} <= paths


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lenet(dtype: Any) -> None:
    paths = agree(lambda: gn.models.lenet(input_size=16), random_images(8, 1, 16, 16), dtype)
    assert {("conv2d", "cuda"), ("linear", "cuda")} <= paths


class Mixed(nn.Module):
    """What the two others have not: depthwise, grouped, dilated, transposed and one-dimensional convolutions, fused."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 12, 3, padding=2, dilation=2, groups=2)
        self.up = nn.ConvTranspose2d(12, 6, 3, stride=2, padding=1, output_padding=1)
        self.row = nn.Conv1d(6 * 12, 5, 3, padding=1)
        self.back = nn.ConvTranspose1d(5, 4, 2, stride=2)
        self.head = nn.Linear(4 * 24, 10)

    def forward(self, x: gn.Tensor) -> gn.Tensor:
        x = F.relu(self.stem(x))
        deep = self.depthwise
        x = F.conv2d(x, deep.weight, deep.bias, padding=1, groups=8, residual=x, activation="relu")
        x = F.relu(self.grouped(x))
        x = F.relu(self.up(x)).flatten(1, 2)
        return self.head(
            self.back(F.conv1d(x, self.row.weight, self.row.bias, padding=1, activation="relu")).flatten(1)
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_net_of_all_kinds_of_convolutions(dtype: Any) -> None:
    paths = agree(Mixed, random_images(4, 3, 12, 12), dtype)
    names = ("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "linear")
    assert {(name, "cuda") for name in names} <= paths
