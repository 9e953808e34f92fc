"""Every model of the zoo as an ONNX file: onnx's checker finds no fault, and onnxruntime's outputs are ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gpunet as gn

from .onnx_session import assert_same, export, onnx, settle

pytestmark = pytest.mark.onnx

# Those that run by default are small, or stand for their family; the others differ from these in numbers alone.
QUICK = {
    "cifar_densenet40_12", "cifar_preact_resnet20", "cifar_resnet20", "densenet121", "googlenet", "googlenet_paper",
    "lenet", "nin_cifar10", "nin_imagenet", "resnet18",
}  # fmt: skip


def image_size(name: str) -> tuple[int, int, int]:
    """The smallest input that a model takes, or one not much larger."""
    if name == "lenet":
        return 1, 32, 32
    if name.startswith("alexnet2012"):
        return 3, 227, 227
    if "cifar" in name:
        return 3, 32, 32
    return (3, 65, 65) if name.startswith(("alexnet", "nin", "googlenet")) else (3, 33, 33)


def exported_and_compared(name: str, folder: Path) -> None:
    size = image_size(name)
    rng = np.random.default_rng(11)
    model = gn.models.get_model(name)
    settle(model, rng.standard_normal((4, *size), np.float32))
    modes = {path: module.training for path, module in model.named_modules()}
    before = {key: (value, value.numpy().copy()) for key, value in model.state_dict(keep_vars=False).items()}
    exported = export(model, folder, size)
    assert {path: module.training for path, module in model.named_modules()} == modes
    for key, value in model.state_dict().items():
        assert np.shares_memory(value.numpy(), before[key][0].numpy())
        np.testing.assert_array_equal(value.numpy(), before[key][1])

    images = rng.standard_normal((3, *size), np.float32)
    three = assert_same(model, exported, images)
    one = assert_same(model, exported, images[:1])
    np.testing.assert_allclose(one[0], three[0], rtol=1e-4, atol=1e-4)
    assert np.isfinite(three).all()
    # What is compared is no constant, and depends on the image.
    assert three.std() > 1e-4
    assert abs(three[0] - three[1]).max() > 1e-4

    proto = onnx.load(exported.path)
    names = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    state = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    # What evaluation does not use is left out: counters, and the heads that only training has.
    used = {key: shape for key, shape in names.items() if key in state}
    assert all(shape == state[key] for key, shape in used.items())
    unused = {key for key in state.keys() - used.keys() if not key.startswith(("aux", "aux1", "aux2"))}
    assert all(key.endswith("num_batches_tracked") for key in unused), unused


@pytest.mark.parametrize("name", sorted(QUICK & set(gn.models.list_models())))
def test_one_of_each_family(name: str, tmp_path: Path) -> None:
    exported_and_compared(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(gn.models.list_models()) - QUICK))
def test_every_other_model(name: str, tmp_path: Path) -> None:
    exported_and_compared(name, tmp_path)
    (tmp_path / "model.onnx").unlink()  # half a gigabyte each, and pytest keeps its folders


@pytest.mark.parametrize("devices", [None, ("cpu", "cpu:1")])
def test_towers_on_two_devices(devices: tuple[str, str] | None, tmp_path: Path) -> None:
    """A graph has one device: what crosses is joined there."""
    model = gn.models.alexnet2012(num_classes=5, devices=devices, width=1 / 12, input_size=67).eval()
    for parameter in model.parameters():
        parameter.detach().mul_(10)
    images = np.random.default_rng(11).standard_normal((3, 3, 67, 67), np.float32)
    scores = assert_same(model, export(model, tmp_path, (3, 67, 67)), images)
    assert abs(scores[0] - scores[1]).max() > 1e-2


def test_quick_models_exist() -> None:
    assert set(gn.models.list_models()) >= QUICK
