"""``weights=``: checkpoints of torchvision and timm load by name, and what does not fit is reported."""

from __future__ import annotations

import enum
import inspect
import io
import pydoc
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import models
from gpunet.interop import save_safetensors
from gpunet.models import _weights
from gpunet.models._published import FOLDER, PUBLISHED, published

REFERENCE_ROWS = 23  # table A2 of the facts


def arrays(model: gn.nn.Module) -> dict[str, np.ndarray]:
    """Random values under the model's names."""
    rng = np.random.default_rng(0)
    return {
        key: rng.standard_normal(tensor.shape).astype(tensor.dtype)
        for key, tensor in model.state_dict().items()
    }  # fmt: skip


def check_loaded(model: gn.nn.Module, expected: Mapping[str, np.ndarray]) -> None:
    for key, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), expected[key], err_msg=key)


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """A file of cifar_resnet20."""
    expected = arrays(models.cifar_resnet20())
    save_safetensors(expected, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors", expected


def test_every_model_takes_weights_and_says_so():
    for name in models.list_models():
        factory = getattr(models, name)
        parameters = inspect.signature(factory).parameters
        assert parameters["weights"].default is None, name
        assert parameters["progress"].kind is inspect.Parameter.KEYWORD_ONLY
        text = pydoc.plain(pydoc.render_doc(factory))
        assert "weights: path of a ``.safetensors`` or ``.pth`` file" in text
        assert "gpunet.models.load_weights" in text
        assert factory.__name__ == name


def test_a_safetensors_file(small):
    path, expected = small
    gn.manual_seed(3)
    model = models.cifar_resnet20(weights=path, progress=False)
    check_loaded(model, expected)
    check_loaded(models.get_model("cifar_resnet20", weights=str(path)), expected)
    with open(path, "rb") as file:
        check_loaded(models.cifar_resnet20(weights=file), expected)
    # Nothing was drawn: the next random values are the ones of a fresh start.
    drawn = models.cifar_resnet20().conv1.weight.detach().numpy()
    gn.manual_seed(3)
    np.testing.assert_array_equal(models.cifar_resnet20().conv1.weight.detach().numpy(), drawn)
    path.write_bytes(b"")  # what was loaded does not depend on the file
    check_loaded(model, expected)
    assert all(parameter.requires_grad for parameter in model.parameters())
    model(gn.zeros(2, 3, 32, 32)).sum().backward()


def test_what_gpunet_saved(tmp_path):
    model = models.cifar_resnet20()
    gn.save({"epoch": 3, "model": model.state_dict(), "optimizer": {"state": {0: gn.ones(3)}}}, tmp_path / "x")
    state = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    check_loaded(models.cifar_resnet20(weights=tmp_path / "x"), state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "optimizer": {"state": {}}},
        lambda s: {"model_state_dict": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
        lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {"model": s}},
        lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
        lambda s: {k: v.astype(np.float16) for k, v in s.items()},
    ],
    ids=["state_dict", "model", "parallel", "module", "compiled", "compiled first", "nested", "uncounted", "half"],
)
def test_what_scripts_wrap_weights_in(wrap, tmp_path):
    expected = {key: np.round(value) for key, value in arrays(models.cifar_resnet20()).items()}
    for key in expected:
        if key.endswith("num_batches_tracked"):
            expected[key] = np.zeros_like(expected[key])
    gn.save(wrap(expected), tmp_path / "x")
    check_loaded(models.cifar_resnet20(weights=tmp_path / "x"), expected)


def test_devices_and_dtypes(small):
    path, expected = small
    with gn.device("cpu:1"):
        model = models.cifar_resnet20(weights=path)
    assert str(model.conv1.weight.device) == "cpu:1"
    np.testing.assert_array_equal(model.conv1.weight.detach().to("cpu").numpy(), expected["conv1.weight"])
    with gn.device("meta"):
        models.cifar_resnet20(weights=path)
        with pytest.raises(gn.CheckpointError, match="60 missing"):
            models.cifar_resnet32(weights=path)


# What does not fit -------------------------------------------------------------------------------------------------


def test_weights_of_another_architecture(small):
    path, _ = small
    with pytest.raises(gn.CheckpointError) as caught:
        models.vgg11(weights=path)
    lines = str(caught.value).split("\n")
    assert lines[0] == f"{path}: these weights do not fit vgg11 (22 missing, 116 unexpected); nothing was loaded"
    assert len(lines) == 12
    assert lines[1] == "  missing:    features.0.weight (64, 3, 3, 3)"
    assert sum(line.startswith("  unexpected: ") for line in lines) == 5
    assert lines[11] == "  and 128 more"


def test_a_wrong_number_of_classes(small):
    path, expected = small
    with pytest.raises(gn.CheckpointError) as caught:
        models.cifar_resnet20(num_classes=7, weights=path)
    assert str(caught.value).split("\n") == [
        f"{path}: these weights do not fit cifar_resnet20 (2 of another shape); nothing was loaded",
        "  the file is for 10 classes and the model has 7: make it with num_classes=10",
        "  shape:      fc.weight, the model has (7, 64), the file (10, 64)",
        "  shape:      fc.bias, the model has (7,), the file (10,)",
    ]
    # The rest can be had, for a new last layer.
    model = models.cifar_resnet20(num_classes=7)
    before = model.fc.weight.detach().numpy().copy()
    with pytest.raises(gn.CheckpointError, match="do not fit CifarResNet"):
        models.load_weights(model, path)
    report = models.load_weights(model, path, strict=False)
    assert not report.fits
    assert report.loaded == len(expected) - 2
    assert [row[0] for row in report.mismatched] == ["fc.weight", "fc.bias"]
    assert f"{report.loaded} tensors were loaded" in str(report)
    np.testing.assert_array_equal(model.conv1.weight.detach().numpy(), expected["conv1.weight"])
    np.testing.assert_array_equal(model.fc.weight.detach().numpy(), before)


def test_nothing_is_loaded_where_something_is_missing(small, tmp_path):
    _, expected = small
    first = expected.pop("layer2.0.conv1.weight")
    expected["layer2.0.conv1.weihgt"] = first
    save_safetensors(expected, tmp_path / "x")
    model = models.cifar_resnet20()
    before = model.conv1.weight.detach().numpy().copy()
    with pytest.raises(gn.CheckpointError, match=r"1 missing, 1 unexpected\); nothing was loaded") as caught:
        models.load_weights(model, tmp_path / "x")
    assert "missing:    layer2.0.conv1.weight (32, 16, 3, 3)" in str(caught.value)
    assert "unexpected: layer2.0.conv1.weihgt (32, 16, 3, 3)" in str(caught.value)
    np.testing.assert_array_equal(model.conv1.weight.detach().numpy(), before)
    report = models.load_weights(model, tmp_path / "x", strict=False)
    assert (report.missing, report.unexpected) == (
        (("layer2.0.conv1.weight", (32, 16, 3, 3)),),
        (("layer2.0.conv1.weihgt", (32, 16, 3, 3)),),
    )


def test_a_report_of_what_fits(small):
    path, expected = small
    report = models.load_weights(models.cifar_resnet20(), path)
    assert report.fits
    assert str(report) == f"{path}: {len(expected)} tensors went into CifarResNet"


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"state_dict": {}}, {"model": {"model": 3}}, 5])
def test_files_without_weights(content, tmp_path):
    gn.save(content, tmp_path / "x")
    with pytest.raises(gn.CheckpointError, match="x: holds no weights: no dict from names to tensors"):
        models.lenet(weights=tmp_path / "x")


@pytest.mark.parametrize(
    "wrap, places, first",
    [
        (lambda s: {"model_ema": s, "x": 1}, "'model_ema'", "['model_ema']"),
        (lambda s: {"a": {"ema": s}, "net_g": s, "loss": gn.ones(())}, "['a']['ema'], 'net_g'", "['a']['ema']"),
    ],
)
def test_weights_under_a_name_that_is_not_known(wrap, places, first, small, tmp_path):
    _, expected = small
    gn.save(wrap(expected), tmp_path / "x")
    model = models.cifar_resnet20()
    with pytest.raises(gn.CheckpointError) as caught:
        models.load_weights(model, tmp_path / "x")
    assert str(caught.value) == (
        f"{tmp_path / 'x'}: holds no weights: no dict from names to tensors where one is looked for; there is one "
        f"under {places}: model.load_state_dict(gn.load(path){first})"
    )
    model.load_state_dict(eval("gn.load(path)" + first, {"gn": gn, "path": tmp_path / "x"}))  # noqa: S307
    check_loaded(model, expected)


def test_one_dict_in_a_million_places_is_looked_into_once(monkeypatch):
    names = [str(number) for number in range(1000)]
    content: Any = {"a": 1}
    for _ in range(3):
        content = dict.fromkeys(names, content)
    monkeypatch.setattr(_weights, "read_nested", lambda source, leaf: content)
    start = time.perf_counter()
    with pytest.raises(gn.CheckpointError, match=r"no dict from names to tensors$"):
        models.load_weights(models.lenet(), io.BytesIO(b"x"))
    assert time.perf_counter() - start < 5


def test_two_towers_and_one(tmp_path):
    size: dict[str, Any] = {"width": 1 / 32, "num_classes": 3}
    two, one = models.alexnet2012(**size), models.alexnet2012_grouped(**size)
    for ours, theirs, convert in ((one, two, models.grouped_state), (two, one, models.towers_state)):
        gn.save(theirs.state_dict(), tmp_path / "x")
        with pytest.raises(gn.CheckpointError, match=rf"gn\.models\.{convert.__name__}\(state\) turns the file's"):
            models.load_weights(ours, tmp_path / "x")
        ours.load_state_dict(convert(gn.load(tmp_path / "x")))
    with pytest.raises(gn.CheckpointError) as caught:  # it has a conv1 too
        models.load_weights(two, io.BytesIO(saved(models.cifar_resnet20().state_dict())))
    assert "towers_state" not in str(caught.value)


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    gn.save(content, file)
    return file.getvalue()


def test_a_prefix_before_all_names(small, tmp_path):
    path, expected = small
    names = [key for key in expected if not key.startswith("fc.")]  # a backbone often comes without its head
    gn.save({f"backbone.net.{key}": expected[key] for key in names}, tmp_path / "x")
    with pytest.raises(gn.CheckpointError) as caught:
        models.cifar_resnet20(weights=tmp_path / "x")
    hint = str(caught.value).split("\n")[1]
    assert hint.startswith("  names in the file begin with 'backbone.net.', the model's do not: take it off")
    code = hint[hint.index("{") :]
    found = eval(code, {"state": gn.load(tmp_path / "x")})  # noqa: S307
    assert list(found) == names
    with pytest.raises(gn.CheckpointError, match=r"the model's names begin with '0\.', the file's do not"):
        models.load_weights(gn.nn.Sequential(models.cifar_resnet20()), path)
    with pytest.raises(gn.CheckpointError) as caught:
        models.vgg11(weights=path)
    assert "begin with" not in str(caught.value)


def test_values_that_are_no_tensors_are_unexpected(small, tmp_path):
    _, expected = small
    gn.save({**expected, "version": 3, "fc.bias": "text"}, tmp_path / "x")
    with pytest.raises(
        gn.CheckpointError, match=r"(?s)1 unexpected, 1 of another.*the file is a str.*version is a int"
    ):
        models.cifar_resnet20(weights=tmp_path / "x")


def test_names_that_are_no_names_do_not_break_the_report(small, tmp_path):
    _, expected = small
    save_safetensors({**expected, "a\nb\x1b[31m": np.zeros(1), "x" * 10**5: np.zeros(2)}, tmp_path / "x")
    with pytest.raises(gn.CheckpointError) as caught:
        models.cifar_resnet20(weights=tmp_path / "x")
    lines = sorted(str(caught.value).split("\n"))
    assert lines[:2] == [r"  unexpected: 'a\nb\x1b[31m' (1,)", f"  unexpected: {'x' * 100}... (2,)"]
    assert len(lines) == 3


def test_damaged_files(tmp_path):
    (tmp_path / "x").write_bytes(b"\x80\x02cos\nsystem\n)R.")
    for content in (tmp_path / "x", io.BytesIO(b"PK\x03\x04")):
        with pytest.raises(gn.CheckpointError):
            models.lenet(weights=content)
    with pytest.raises(FileNotFoundError):
        models.lenet(weights=tmp_path / "nothing.pth")


# Other spellings ---------------------------------------------------------------------------------------------------


def test_old_names_of_densenet(tmp_path):
    with gn.device("meta"):
        shapes = models.densenet121(num_classes=3).state_dict()
    rng = np.random.default_rng(0)
    expected = {key: rng.standard_normal(tuple(t.shape)).astype(t.dtype) for key, t in shapes.items()}
    old = {}
    for key, value in expected.items():
        for part in ("norm1", "conv1", "norm2", "conv2"):
            if ".denselayer" in key:
                key = key.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
        old[key] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    save_safetensors(old, tmp_path / "x")
    model = models.densenet121(num_classes=3)
    report = models.load_weights(model, tmp_path / "x")
    check_loaded(model, expected)
    assert report.notes == ("names of DenseNet's layers are in their old spelling",)


def test_the_head_of_timms_vgg(tmp_path):
    # Reduced; A11: pre_logits.fc1 is a 7x7 convolution, pre_logits.fc2 and head.fc follow.
    options: dict[str, Any] = {"width": 1 / 32, "num_classes": 5}
    expected = arrays(models.vgg11(**options))
    timm = {key: value for key, value in expected.items() if key.startswith("features")}
    units, flat = expected["classifier.0.weight"].shape
    timm["pre_logits.fc1.weight"] = expected["classifier.0.weight"].reshape(units, flat // 49, 7, 7)
    timm["pre_logits.fc1.bias"] = expected["classifier.0.bias"]
    timm["pre_logits.fc2.weight"] = expected["classifier.3.weight"].reshape(units, units, 1, 1)
    timm["pre_logits.fc2.bias"] = expected["classifier.3.bias"]
    timm["head.fc.weight"] = expected["classifier.6.weight"]
    timm["head.fc.bias"] = expected["classifier.6.bias"]
    save_safetensors(timm, tmp_path / "x")
    check_loaded(models.vgg11(weights=tmp_path / "x", **options), expected)
    report = models.load_weights(models.vgg11(**options), tmp_path / "x")
    assert report.notes == ("the dense layers are timm's convolutions",)
    with pytest.raises(gn.CheckpointError, match="for 5 classes and the model has 6: make it with num_classes=5"):
        models.vgg11(weights=tmp_path / "x", width=1 / 32, num_classes=6)


def test_googlenets_auxiliary_heads(tmp_path):
    options: dict[str, Any] = {"width": 1 / 16, "num_classes": 5}
    expected = arrays(models.googlenet(**options))
    assert any(key.startswith("aux1.") for key in expected)
    save_safetensors(expected, tmp_path / "with")
    check_loaded(models.googlenet(weights=tmp_path / "with", transform_input=True, **options), expected)
    check_loaded(
        models.googlenet(weights=tmp_path / "with", transform_input=False, aux_logits=False, **options), expected
    )
    # torchvision turns the images round for its own weights; here it is asked for.
    with pytest.warns(UserWarning, match="googlenet: torchvision's GoogLeNet weights expect images from -1 to 1: pass"):
        model = models.googlenet(weights=tmp_path / "with", aux_logits=False, **options)
    report = models.load_weights(model, tmp_path / "with")
    assert "the auxiliary heads are left out" in report.notes
    assert any("transform_input=True" in note for note in report.notes)
    without = {key: value for key, value in expected.items() if not key.startswith("aux")}
    save_safetensors(without, tmp_path / "without")
    with pytest.raises(gn.CheckpointError, match=r"no auxiliary heads: make the model with aux_logits=False"):
        models.googlenet(weights=tmp_path / "without", **options)
    check_loaded(models.googlenet(weights=tmp_path / "without", aux_logits=False, **options), without)


# Names of weights to download --------------------------------------------------------------------------------------


class ResNet50_Weights(enum.Enum):
    """As torchvision has them."""

    IMAGENET1K_V1 = "one"


@pytest.mark.parametrize(
    "options, text",
    [
        ({"weights": "DEFAULT"}, r"models/resnet50-11ad3fa6\.pth \(torchvision's IMAGENET1K_V2\) and pass "),
        ({"weights": "IMAGENET1K_V1"}, r"fetch https://\S*/resnet50-0676ba61\.pth"),
        ({"weights": "ResNet50_Weights.IMAGENET1K_V2"}, r"resnet50-11ad3fa6\.pth"),
        ({"weights": ResNet50_Weights.IMAGENET1K_V1}, r"resnet50-0676ba61\.pth"),
        ({"weights": True}, r"resnet50-11ad3fa6\.pth"),
        ({"pretrained": True}, r"resnet50-11ad3fa6\.pth"),
        ({"weights": "IMAGENET1K_V7"}, "resnet50 are IMAGENET1K_V1, IMAGENET1K_V2, not IMAGENET1K_V7"),
    ],
)  # fmt: skip
def test_names_of_weights(options, text):
    with pytest.raises(ValueError, match=text) as caught:
        models.resnet50(**options)
    assert str(caught.value).startswith("resnet50: weights: gpunet downloads nothing")
    assert "\n" not in str(caught.value)


def test_names_of_weights_that_nobody_publishes():
    with pytest.raises(ValueError, match="torchvision publishes none for nin_cifar10"):
        models.nin_cifar10(weights="DEFAULT")
    with pytest.raises(TypeError, match=r"lenet: weights must be a path of a \.safetensors or \.pth file, got int"):
        models.lenet(weights=3)
    assert models.lenet(weights=None, pretrained=False).conv1.weight.shape == (6, 1, 5, 5)
    with pytest.raises(TypeError, match="model: expected a Module, got str"):
        models.load_weights("resnet18", "x")  # type: ignore[arg-type]


def test_what_torchvision_publishes():
    assert len(PUBLISHED) == len({row.file for row in PUBLISHED}) == REFERENCE_ROWS
    assert {row.model for row in PUBLISHED} <= set(models.list_models())
    assert [row.weights for row in published("resnet50")] == ["IMAGENET1K_V1", "IMAGENET1K_V2"]
    assert published("vgg16")[-1].top1 == 71.592


@pytest.mark.parity
def test_the_published_table_is_torchvisions():
    from .beside_torchvision import torchvision_models

    enums = {name.lower(): value for name, value in vars(torchvision_models()).items() if name.endswith("_Weights")}
    for row in PUBLISHED:
        weights = enums[f"{row.model}_weights"][row.weights].value
        assert weights.url == FOLDER + row.file
        if row.top1 is not None:
            assert weights.meta["_metrics"]["ImageNet-1K"] == {"acc@1": row.top1, "acc@5": row.top5}


@pytest.mark.parity
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet"])
@pytest.mark.parametrize("new", [True, False])
def test_torchvisions_own_checkpoints(name, new, tmp_path):
    import torch

    from .beside_torchvision import randomise, torchvision_models

    options = {"init_weights": True} if name == "googlenet" else {}
    theirs = getattr(torchvision_models(), name)(num_classes=5, **options)
    randomise(theirs)
    torch.save(theirs.state_dict(), tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    switch = {"transform_input": False} if name == "googlenet" else {}
    ours = models.get_model(name, num_classes=5, weights=tmp_path / "x.pth", **switch).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.eval()(x).numpy()
    with gn.no_grad():
        found = ours(gn.from_numpy(x.numpy())).numpy()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
