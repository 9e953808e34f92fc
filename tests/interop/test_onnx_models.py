"""Every model of the zoo as an ONNX file: onnx's checker finds no fault, and onnxruntime's outputs are ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gpunet as gn

from .onnx_session import assert_as_exact, assert_same, export, onnx, settle

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


def compare(name: str, folder: Path) -> tuple[gn.nn.Module, Path]:
    """Export a model and hold the file to it, at two batch sizes. Gives both."""
    size = image_size(name)
    rng = np.random.default_rng(11)
    model = gn.models.get_model(name)
    settle(model, rng.standard_normal((4, *size), np.float32))
    exported = export(model, folder, size, check=name in QUICK)
    images = rng.standard_normal((3, *size), np.float32)
    three = (assert_same if name in QUICK else assert_as_exact)(model, exported, images)
    # The same file, another batch.
    (one,) = exported(images[:1])
    np.testing.assert_allclose(one[0], three[0], rtol=0, atol=2e-4 * max(1.0, abs(three).max()))
    if name in QUICK:
        assert_same(model, exported, images[:1])
    # What is compared is no constant, and depends on the image.
    assert np.isfinite(three).all()
    assert three.std() > 1e-4
    assert abs(three[0] - three[1]).max() > 1e-4
    return model, exported.path


@pytest.mark.parametrize("name", sorted(QUICK))
def test_one_of_each_family(name: str, tmp_path: Path) -> None:
    model, path = compare(name, tmp_path)
    tensors = {tensor.name: tuple(tensor.dims) for tensor in onnx.load(path).graph.initializer}
    state = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    used = {key: shape for key, shape in tensors.items() if key in state}
    assert all(shape == state[key] for key, shape in used.items())
    # What evaluation does not use is left out: counters, and the heads that only training has.
    unused = {key for key in state.keys() - used.keys() if not key.startswith("aux")}
    assert all(key.endswith("num_batches_tracked") for key in unused), unused


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(gn.models.list_models("image")) - QUICK))
def test_every_other_model(name: str, tmp_path: Path) -> None:
    _, path = compare(name, tmp_path)
    path.unlink()  # half a gigabyte each, and pytest keeps its folders


def test_quick_models_exist() -> None:
    assert set(gn.models.list_models()) >= QUICK
