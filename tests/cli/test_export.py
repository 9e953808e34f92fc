"""``gpunet export``: files that say what the model computes, and one line where it cannot be."""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.training import load_model

DOCS = Path(__file__).parents[2] / "docs" / "export.md"


def test_safetensors_loads_again(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    outcome = gpunet("export", "cifar_resnet20", "--to", "safetensors", "--num-classes", "7")
    assert outcome.code == 0
    assert outcome.out.splitlines()[0] == "cifar_resnet20.safetensors: 1.0 MiB, 269,527 parameters"
    assert "the weights are random" in outcome.out
    model = gn.models.cifar_resnet20(num_classes=7, weights="cifar_resnet20.safetensors")
    outcome = gpunet(
        "export", "cifar_resnet20", "--to", "safetensors", "--weights", "cifar_resnet20.safetensors",
        "--num-classes", 7, "--out", "again.safetensors", "--json",
    )  # fmt: skip
    assert outcome.code == 0
    assert outcome.json["tensors"] == len(model.state_dict())
    assert outcome.json["bytes"] == (tmp_path / "again.safetensors").stat().st_size
    found = gn.interop.load_safetensors("again.safetensors")
    assert sorted(found) == sorted(model.state_dict())
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(found[name], value.numpy())


def test_weights_of_a_run(gpunet: Callable[..., Any], trained_run: Path) -> None:
    outcome = gpunet("export", trained_run, "--to", "safetensors", "--out", "run.safetensors")
    assert outcome.code == 0
    assert "random" not in outcome.out
    found = gn.interop.load_safetensors("run.safetensors")
    for name, value in load_model(trained_run).state_dict().items():
        np.testing.assert_array_equal(found[name], value.numpy())


@pytest.mark.onnx
def test_onnx_of_a_run_predicts_the_same(gpunet: Callable[..., Any], trained_run: Path) -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    outcome = gpunet("export", trained_run, "--to", "onnx", "--out", "run.onnx", "--json")
    assert outcome.code == 0
    assert outcome.json["inputs"] == {"input": ["batch", 1, 8, 8]}
    assert outcome.json["outputs"] == {"output": ["batch", 10]}
    images = np.random.default_rng(1).standard_normal((5, 1, 8, 8), np.float32)
    (scores,) = onnxruntime.InferenceSession("run.onnx").run(None, {"input": images})
    with gn.no_grad():
        wanted = load_model(trained_run)(gn.tensor(images)).numpy()
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-4)
    metadata = {entry.key: entry.value for entry in onnx.load("run.onnx").metadata_props}
    assert len(json.loads(metadata["gpunet.dataset"])["classes"]) == 10


@pytest.mark.onnx
def test_onnx_by_name(gpunet: Callable[..., Any]) -> None:
    pytest.importorskip("onnx")
    outcome = gpunet("export", "lenet", "--to", "onnx")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert re.fullmatch(r"lenet\.onnx: 0\.2 MiB, 61,706 parameters", lines[0])
    assert lines[1:3] == ["  input   input (batch, 1, 32, 32)", "  output  output (batch, 10)"]
    outcome = gpunet("export", "lenet", "--to", "onnx", "--input", "3,28,28", "--fixed-batch", "--opset", 20, "--json")
    assert outcome.json["inputs"] == {"input": [1, 3, 28, 28]}
    assert outcome.json["opset"] == 20
    outcome = gpunet("export", "nin_cifar10", "--to", "onnx", "--json")  # its name says what it is made for
    assert outcome.json["inputs"] == {"input": ["batch", 3, 32, 32]}


def test_a_model_is_made_for_the_input(gpunet: Callable[..., Any]) -> None:
    """As in ``gpunet summary``, whatever the file."""
    for size, shape in (("3,28,28", (6, 3, 5, 5)), ("1,8,8", (6, 1, 5, 5))):
        assert gpunet("export", "lenet", "--to", "safetensors", "--input", size, "--out", "a.safetensors").code == 0
        found = gn.interop.load_safetensors("a.safetensors")
        assert found["conv1.weight"].shape == shape
        summed = gpunet("summary", "lenet", "--input", size, "--json").json
        assert summed["total_params"] == sum(array.size for array in found.values())


def test_weights_of_another_model(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    """The first ten differences and the number of the others: what ``load_weights`` reports, on one line."""
    gn.interop.save_safetensors(gn.models.lenet().state_dict(), tmp_path / "lenet.safetensors")
    with pytest.raises(gn.CheckpointError) as caught:
        gn.models.resnet18(weights="lenet.safetensors")
    outcome = gpunet("export", "resnet18", "--to", "safetensors", "--weights", "lenet.safetensors")
    assert outcome.code == 2
    error = outcome.one_error()
    assert "do not fit resnet18" in error
    assert error == "gpunet: error: " + " ".join(str(caught.value).split())
    missing, unexpected, mismatched = (
        int(re.search(rf"(\d+) {kind}", error).group(1))  # type: ignore[union-attr]
        for kind in ("missing", "unexpected", "of another shape")
    )
    assert len(re.findall("(missing|unexpected|shape): ", error)) == 10
    assert error.endswith(f" and {missing + unexpected + mismatched - 10} more")
    assert os.listdir(tmp_path) == ["lenet.safetensors"]


@pytest.mark.onnx
@pytest.mark.parametrize("arguments, words", [
    (["lenet", "--to", "onnx", "--opset", "3"], "opset: must lie in 18..23, got 3"),
    (["alexnet", "--to", "onnx", "--input", "3,32,32"], "in layer features.12 (MaxPool2d)"),
])  # fmt: skip
def test_bad_onnx(arguments: list[str], words: str, gpunet: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    outcome = gpunet("export", *arguments)
    assert outcome.code == 2
    assert words in outcome.one_error()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("arguments, words", [
    (["resnet1", "--to", "onnx"], "resnet1: neither a model nor the folder of a run; did you mean 'resnet18'"),
    (["lenet"], "the following arguments are required: --to"),
    (["lenet", "--to", "pth"], "invalid choice: 'pth'"),
    (["lenet", "--to", "onnx", "--input", "3,x"], "--input: expected sizes"),
    (["lenet", "--to", "safetensors", "--num-classes", "0"], "--num-classes: must be at least 1"),
    (["lenet", "--to", "safetensors", "--out", "nowhere/a"], "--out: there is no folder nowhere"),
    (["lenet", "--to", "safetensors", "--out", "."], "--out: . is a folder"),
    (["lenet", "--to", "safetensors", "--opset", "18"], "--opset: is for --to onnx"),
    (["lenet", "--to", "safetensors", "--weights", "none.pth"], "--weights: there is no file none.pth"),
    ([".", "--to", "safetensors"], "config.json"),
])  # fmt: skip
def test_bad_arguments(arguments: list[str], words: str, gpunet: Callable[..., Any], tmp_path: Path) -> None:
    if "onnx" in arguments:
        pytest.importorskip("onnx")
    outcome = gpunet("export", *arguments)
    assert outcome.code == 2
    assert words in outcome.one_error()
    assert os.listdir(tmp_path) == []


def test_options_that_are_not_for_a_run(gpunet: Callable[..., Any], trained_run: Path) -> None:
    for option, value in (("--num-classes", 3), ("--weights", "a.pth")):
        outcome = gpunet("export", trained_run, "--to", "safetensors", option, value)
        assert outcome.code == 2
        assert f"argument {option}: is for a model by name" in outcome.one_error()


def test_a_disk_without_space(gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    outcome = gpunet("export", "lenet", "--to", "safetensors")
    assert outcome.code == 1
    assert "cannot write lenet.safetensors: " in outcome.one_error()
    assert "No space left on device" in outcome.one_error()
    assert os.listdir(tmp_path) == []


def test_without_onnx(gpunet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    outcome = gpunet("export", "lenet", "--to", "onnx")
    assert outcome.code == 2
    assert "pip install 'gpunet[onnx]'" in outcome.one_error()


@pytest.mark.onnx
def test_the_documentation_runs(gpunet: Callable[..., Any], trained_run: Path) -> None:
    pytest.importorskip("onnxruntime")
    text = DOCS.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    output = io.StringIO()
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        with contextlib.redirect_stdout(output):
            exec(compile(block, str(DOCS), "exec"), names)  # noqa: S102 - our own documentation
    printed = output.getvalue().splitlines()
    assert printed[0].startswith("model.onnx ")
    assert float(printed[1]) < 1e-5
    assert printed[2] == "True"
    assert Path("classifier.onnx").exists()

    gn.interop.save_safetensors(gn.models.resnet18().state_dict(), "resnet18.safetensors")
    shutil.copytree(trained_run, "runs/digits")
    commands = re.findall(r"^gpunet (export .*?)(?:\s+#.*)?$", text, re.M)
    assert len(commands) == 3
    for command in commands:
        outcome = gpunet(*command.split())
        assert outcome.code == 0, outcome.err
    assert {"resnet18.onnx", "digits.onnx", "lenet.safetensors"} <= set(os.listdir("."))
