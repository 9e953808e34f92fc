"""What ``export_onnx`` promises besides numbers: any batch or a refusal, names, the model left alone, whole files."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.interop import ExportError, export_onnx

from .onnx_session import assert_same, export, onnx

pytestmark = pytest.mark.onnx


class Calls(nn.Module):
    """A module whose forward is a function of the module and its inputs."""

    def __init__(self, function: Callable[..., Any], **children: Any) -> None:
        super().__init__()
        self.function = function
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *inputs: gn.Tensor) -> Any:
        return self.function(self, *inputs)


def images(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, *shape), np.float32)


SHAPE = (4, 6, 6)

# Each takes (N, 4, 6, 6) and is right for every N.
ANY_BATCH: dict[str, Callable[..., Any]] = {
    "flatten": lambda m, x: x.flatten(1),
    "view by size": lambda m, x: x.view(x.size(0), -1),
    "reshape by -1": lambda m, x: x.reshape(-1, 4 * 36),
    "batch folded in": lambda m, x: x.reshape(x.shape[0] * 4, 36).sum(1).reshape(x.shape[0], 4),
    "two sizes grow": lambda m, x: x.reshape(x.shape[0] * 2, 2, 36).permute(1, 0, 2).reshape(2, x.shape[0], 72),
    "strided slice": lambda m, x: x[:, :, ::2, 1::2],
    "shortcut A": lambda m, x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)),
    "one channel": lambda m, x: x[:, 1, None] * 0.5 + x[..., -1:, 2, None],
    "expand": lambda m, x: x[:, :1].expand(-1, 3, 6, 6) + x[:1, :1, :1, :1].expand(x.shape[0], 3, 6, 6),
    "squeeze by name": lambda m, x: x.mean((2, 3), keepdim=True).squeeze(3).squeeze(2),
    "chunk and cat": lambda m, x: gn.cat([part * (i + 1) for i, part in enumerate(x.chunk(2, 1))], dim=1),
    "mean over the batch": lambda m, x: x - x.mean(0, keepdim=True),
    "in place": lambda m, x: (x * 2).relu_().add_(1).mul_(x),
    "relu in place": lambda m, x: F.relu(x + 0, inplace=True).flatten(1),
    "zeros like": lambda m, x: gn.cat([x, gn.zeros_like(x)], 1),
    "ones that grow": lambda m, x: gn.cat([x, gn.ones(x.shape[0], 2, 6, 6) * 3], 1),
    "constant": lambda m, x: x * gn.arange(6) + gn.tensor([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]]),
    "comparison": lambda m, x: gn.where(x > 0.5, x, -1.0).clamp(max=2),
    "integers": lambda m, x: x.argmax(1) + (x > 0).sum((1, 2)).unsqueeze(-1),
    "dtypes mixed": lambda m, x: (x > 0) * x + (x * 3).long() / 2,
    "take": lambda m, x: x[:, gn.tensor([3, 0, 1])],
    "unused": lambda m, x: (x.sort(1), x)[1] + 1,
    "untranslated of weights alone": lambda m, x: x.flatten(1)[:, :4] @ m.weight.flatten(1)[:, :4],
}


@pytest.mark.parametrize("name", ANY_BATCH)
def test_any_batch(name: str, tmp_path: Path) -> None:
    model = Calls(ANY_BATCH[name], weight=nn.Parameter(gn.ones(4, 2, 2)))
    exported = export(model, tmp_path, SHAPE)
    for count in (1, 2, 3, 5):
        assert_same(model, exported, images(count, *SHAPE))


# Right for one batch size alone: refused, with what is wrong and where.
REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "squeezed batch": (lambda m, x: x.mean((1, 2, 3), keepdim=True).squeeze(), "dimensions for a batch of"),
    "first samples": (lambda m, x: x[:5], "slice"),
    "half of the batch": (lambda m, x: x[: x.shape[0] // 2], "index is"),
    "divided by the batch": (lambda m, x: x.sum(0) / x.shape[0], "'div' in the model itself takes"),
    "loop over samples": (lambda m, x: gn.stack([s * 2 for s in x]), "does not do the same"),
    "batch as a number of channels": (lambda m, x: x.reshape(4, -1).softmax(0).reshape(x.shape), ""),
    "by value": (lambda m, x: x if x.sum() > 0 else -x, "takes a tensor's value as a number"),
    "item": (lambda m, x: x * x.max().item(), "takes a tensor's value as a number"),
    "numpy": (lambda m, x: x * gn.tensor(x.numpy()), "takes a tensor's value as a number"),
    "mask": (lambda m, x: x[x > 0], "operation 'index' in the model itself selects by a mask"),
    "mask of a module": (lambda m, x: m.masked(x), "operation 'index' in module 'masked' selects by a mask"),
    "item of a module": (lambda m, x: m.item(x), r"takes a tensor's value as a number \(item in module 'item'\)"),
    "random": (lambda m, x: x + gn.tensor(np.random.default_rng().random(6).astype("f")), "values depend on the input"),
    "dropout that stays": (lambda m, x: F.dropout(x, training=True), "random numbers"),
    "untranslated": (lambda m, x: m.inner(x), r"operation 'sort' in module 'inner' has no translation"),
    "index assignment": (lambda m, x: assigned(x * 1), "index assignment"),
    "write through a view": (lambda m, x: written_through(x * 1), "through a view"),
    "copy_": (lambda m, x: (x * 1).copy_(x), "copy_"),
    "own buffer": (lambda m, x: (m.weight.data.add_(1), x)[1] * m.weight, "writes to 'weight'"),
    "no tensor": (lambda m, x: "text", "must return Tensors"),
    "nothing": (lambda m, x: None, "returns no Tensor"),
}


def assigned(x: gn.Tensor) -> gn.Tensor:
    x[:, 0] = 0
    return x


def written_through(x: gn.Tensor) -> gn.Tensor:
    x.reshape(-1).relu_()
    return x + 1


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    function, reason = REFUSED[name]
    inner = Calls(lambda m, x: x.sort(1)[0])
    asking = {"masked": Calls(lambda m, x: x[x > 0]), "item": Calls(lambda m, x: x * x.max().item())}
    model = Calls(function, inner=inner, **asking, weight=nn.Parameter(gn.ones(6)))
    if name == "batch as a number of channels":
        # It mixes samples, but the same way for every batch: that can be said.
        assert_same(model, export(model, tmp_path, SHAPE), images(3, *SHAPE))
        return
    with pytest.raises(ExportError, match=reason):
        export_onnx(model, tmp_path / "model.onnx", SHAPE)
    assert os.listdir(tmp_path) == []
    np.testing.assert_array_equal(model.weight.detach().numpy(), np.ones(6))


def test_the_size_that_the_model_is_made_for(tmp_path: Path) -> None:
    written = export_onnx(nn.Sequential(gn.models.cifar_resnet20(), nn.ReLU()), tmp_path / "net.onnx")
    assert written.inputs == {"input": ("batch", 3, 32, 32)}
    assert export_onnx(nn.Conv2d(3, 1, 9, stride=8), tmp_path / "net.onnx").inputs == {"input": ("batch", 3, 224, 224)}


def test_names_shapes_and_metadata(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
    written = export_onnx(model, tmp_path / "net.onnx", (3, 8, 8), metadata={"classes": "ten"})
    proto = onnx.load(tmp_path / "net.onnx")
    assert written.path == tmp_path / "net.onnx"
    assert written.size == (tmp_path / "net.onnx").stat().st_size
    assert written.inputs == {"input": ("batch", 3, 8, 8)}
    assert written.outputs == {"output": ("batch", 10)}
    names = {tensor.name: tensor for tensor in proto.graph.initializer}
    state = {key: value for key, value in model.state_dict().items() if not key.endswith("tracked")}
    assert set(state) <= set(names)
    for key, value in state.items():
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(names[key]), value.numpy())
    assert [node.op_type for node in proto.graph.node][:3] == ["Conv", "BatchNormalization", "Relu"]
    assert proto.graph.node[0].name.startswith("0/")
    assert {entry.key: entry.value for entry in proto.metadata_props} == {"classes": "ten"}
    assert proto.producer_name == "gpunet"
    assert [opset.version for opset in proto.opset_import] == [18]


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    def forward(module: Any, x: gn.Tensor, places: gn.Tensor) -> dict[str, Any]:
        mixed = module.linear(x) + module.table(places).mean(1)
        return {"scores": mixed, "parts": (mixed.relu(), x)}

    model = Calls(forward, linear=nn.Linear(5, 4), table=nn.Embedding(7, 4))
    examples = (gn.tensor(images(2, 5)), np.array([[0, 6, 2], [1, 1, 3]]))
    exported = export(model, tmp_path, example_inputs=examples)
    assert [output.name for output in exported.session.get_outputs()] == ["scores", "parts_0", "parts_1"]
    x, places = images(4, 5), np.random.default_rng(3).integers(0, 7, (4, 3))
    scores, first, second = exported(x, places)
    wanted = model(gn.tensor(x), gn.tensor(places))
    np.testing.assert_allclose(scores, wanted["scores"].detach().numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(first, np.maximum(scores, 0))
    np.testing.assert_array_equal(second, x)


def test_fixed_batch(tmp_path: Path) -> None:
    model = Calls(lambda m, x: x / x.shape[0])
    exported = export(model, tmp_path, example_inputs=images(4, 3), dynamic_batch=False)
    assert_same(model, exported, images(4, 3))
    assert exported.session.get_inputs()[0].shape == [4, 3]
    assert export(model, tmp_path, (3,), dynamic_batch=False).session.get_inputs()[0].shape == [1, 3]


@pytest.mark.parametrize("opset", (18, 19, 20, 21))
def test_opsets(opset: int, tmp_path: Path) -> None:
    layers = (
        nn.Conv2d(4, 6, 3),
        nn.GroupNorm(2, 6),
        nn.GELU(),
        nn.AvgPool2d(2, padding=1),
        nn.Flatten(),
        nn.LazyLinear(3),
    )
    model = nn.Sequential(*layers)
    model(gn.tensor(images(1, *SHAPE)))
    exported = export(model, tmp_path, SHAPE, opset=opset)
    assert onnx.load(exported.path).opset_import[0].version == opset
    assert_same(model, exported, images(3, *SHAPE))


@pytest.mark.parametrize("dtype", ("float64", "float16"))
def test_other_dtypes(dtype: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.LayerNorm(5)).to(np.dtype(dtype))
    exported = export(model, tmp_path, (6,))
    tolerance = 1e-2 if dtype == "float16" else 1e-9
    assert_same(model, exported, images(3, 6).astype(dtype), tolerance=tolerance)


def test_tied_and_parametrized_weights(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5), nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))
    )
    model[2].weight = model[0].weight
    exported = export(model, tmp_path, (5,))
    assert_same(model, exported, images(3, 5))
    names = [tensor.name for tensor in onnx.load(exported.path).graph.initializer]
    assert "0.weight" in names
    assert "2.weight" not in names
    assert "3.parametrizations.weight.original0" in names


def test_batch_norm_without_statistics_and_fused(tmp_path: Path) -> None:
    def forward(module: Any, x: gn.Tensor) -> gn.Tensor:
        y = module.tracked(x, residual=x, activation="relu")
        return F.conv2d(y, module.weight, residual=module.untracked(x), activation="relu")

    norms = {"tracked": nn.BatchNorm2d(4), "untracked": nn.BatchNorm2d(4, track_running_stats=False)}
    model = Calls(forward, weight=nn.Parameter(gn.randn(4, 4, 1, 1)), **norms)
    model.tracked.running_mean += 0.5
    exported = export(model, tmp_path, SHAPE)
    assert_same(model, exported, images(3, *SHAPE))


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.BatchNorm1d(4))
    model[2].eval()
    parameters = {name: (id(p), id(p._array)) for name, p in model.named_parameters()}
    export_onnx(model, tmp_path / "a.onnx", (4,))
    assert [module.training for module in model] == [True, True, False]
    assert {name: (id(p), id(p._array)) for name, p in model.named_parameters()} == parameters
    assert all(str(tensor.device) == "cpu" for tensor in (*model.parameters(), *model.buffers()))
    broken = nn.Sequential(nn.Linear(4, 4), Calls(lambda m, x: x.sort(1)[0]))
    with pytest.raises(ExportError):
        export_onnx(broken, tmp_path / "b.onnx", (4,))
    assert broken.training
    assert str(broken[0].weight.device) == "cpu"
    broken(gn.tensor(images(2, 4)))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"before")

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left on device; the file that was there is unchanged"):
            export_onnx(nn.Linear(2, 2), path, (2,))
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.onnx"]
    with pytest.raises(FileNotFoundError):
        export_onnx(nn.Linear(2, 2), tmp_path / "nowhere" / "a.onnx", (2,))


def test_bad_arguments(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    for error, match, arguments in (
        (TypeError, "model: expected a Module", {"model": print}),
        (ValueError, "opset: must lie in 18..23, got 9", {"opset": 9}),
        (ValueError, "input_size: must be sizes", {"input_size": (0, 2)}),
        (ValueError, "input_size: must be sizes of at least 1, without the batch, got 5", {"input_size": 5}),
        *(
            (TypeError, "input_size: must be sizes, got Tensors; give those as example_inputs=", {"input_size": given})
            for given in (gn.zeros(1, 2), (gn.zeros(1, 2),), [np.zeros((1, 2), np.float32)])
        ),
        (ValueError, "input_size: must be left out", {"input_size": (2,), "example_inputs": images(1, 2)}),
        (TypeError, "example_inputs: expected Tensors or arrays, got str", {"example_inputs": "x"}),
        (ValueError, "example_inputs: must have one batch size", {"example_inputs": (images(1, 2), images(2, 2))}),
        (ValueError, "example_inputs: must hold at least one", {"example_inputs": ()}),
        (ValueError, "last dimension", {"input_size": (3,)}),
    ):
        with pytest.raises(error, match=match):
            export_onnx(**{"model": nn.Linear(2, 2), "path": path, **arguments})
    with gn.device("meta"):
        empty = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="model: is on 'meta', without weights"):
        export_onnx(empty, path, (2,))
    assert os.listdir(tmp_path) == []


def test_without_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gpunet\[onnx\]'"):
        export_onnx(nn.Linear(2, 2), tmp_path / "a.onnx", (2,))
