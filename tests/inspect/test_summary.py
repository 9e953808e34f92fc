"""Summaries: the facts of the classic networks, what a summary must not touch, and what it says to bad input."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.autograd import observer
from gpunet.inspect import Summary, count_params, summary
from gpunet.models import list_models

FACTS = Path(__file__).parents[1] / "models" / "facts"


def facts(name: str) -> list[dict[str, str]]:
    with (FACTS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# The facts -----------------------------------------------------------------------------------------------------------

TYPES = {"LRN": ("TowerNorm", "LocalResponseNorm")}
# Networks whose modules are named as in the tables; of the others the rows are compared in their order.
SAME_NAMES = {"alexnet", "alexnet2012_grouped", "vgg11", "vgg13", "vgg16", "vgg19"}


@pytest.mark.parametrize(
    ("table", "model"),
    [(name, name) for name in (*sorted(SAME_NAMES), "nin_cifar10", "nin_imagenet")] + [("vgg_C", "vgg16_c")],
)
def test_layers(table: str, model: str) -> None:
    """A3, A4, A5, A9, A10: every row of the table is a layer of the summary, with its output, parameters and MACs."""
    wanted = [row for row in facts("layers.csv") if row["model"] == table]
    assert wanted
    size = int(wanted[0]["input"])
    result = summary(model, (3, size, size))
    if table in SAME_NAMES:
        found = [result[row["layer"]] for row in wanted]
    else:
        kinds = {row["type"] for row in wanted}
        found = [layer for layer in result if layer.type in kinds and not layer.operation]
    assert len(found) == len(wanted)
    for row, layer in zip(wanted, found, strict=True):
        shape = layer.output_shape
        assert shape is not None
        assert "x".join(map(str, shape[1:])).removesuffix("x1x1") == row["output"].removesuffix("x1x1"), row["layer"]
        assert (layer.params, layer.macs) == (int(row["params"]), int(row["macs"])), row["layer"]
        assert layer.type in TYPES.get(row["type"], (row["type"],))


@pytest.mark.parametrize("model", sorted({row["model"] for row in facts("stages.csv")}))
def test_stages(model: str) -> None:
    """A7, A8: the stages of ResNets and DenseNets."""
    result = summary(model, (3, 224, 224))
    for row in facts("stages.csv"):
        if row["model"] == model:
            stage = result[row["stage"]]
            assert (stage.params, stage.macs) == (int(row["params"]), int(row["macs"])), row["stage"]
            if row["output"]:
                assert stage.output_shape is not None
                assert "x".join(map(str, stage.output_shape[1:])) == row["output"]


@pytest.mark.parametrize(("model", "column"), [("googlenet", "torchvision"), ("googlenet_paper", "paper")])
def test_inception_blocks(model: str, column: str) -> None:
    """A6: the nine blocks of GoogLeNet."""
    result = summary(model, (3, 224, 224))
    for row in facts("inception.csv"):
        block = result[f"inception{row['block']}"]
        assert (block.params, block.macs) == (int(row[f"params_{column}"]), int(row[f"macs_{column}"])), row["block"]
        assert block.output_shape is not None
        assert block.output_shape[1] == int(row["out"])


@pytest.mark.parametrize(
    ("row", "model", "options"),
    [
        ("alexnet2012_twotower", "alexnet2012", {}),
        ("alexnet_ungrouped", "alexnet2012_grouped", {"groups": 1}),
        ("googlenet", "googlenet", {"aux_logits": False}),
        ("googlenet_aux", "googlenet", {"aux_logits": True, "training": True}),
        ("googlenet_paper_aux", "googlenet_paper", {"training": True}),
        ("cifar_resnet20_A", "cifar_resnet20", {}),
        ("cifar_resnet20_B", "cifar_resnet20", {"shortcut": "B"}),
        ("densenet161", "densenet161", {}),
        ("vgg19_bn", "vgg19_bn", {}),
        ("vgg_C", "vgg16_c", {}),
        ("preresnet50", "preact_resnet50", {}),
    ],
)
def test_totals(row: str, model: str, options: dict[str, Any]) -> None:
    """A1."""
    (wanted,) = (entry for entry in facts("totals.csv") if entry["model"] == row)
    size = int(wanted["input"])
    result = summary(model, (3, size, size), **options)
    assert (result.total_params, result.total_macs) == (int(wanted["params"]), int(wanted["macs"]))
    counts = [sum(layer.type == kind for layer in result) for kind in ("Conv2d", "Linear", "BatchNorm2d")]
    assert counts == [int(wanted["conv"]), int(wanted["fc"]), int(wanted["bn"])]


def test_the_memory_of_vgg16() -> None:
    """B18: 15,237,608 numbers in the input, the convolutions, the poolings and the dense layers; 138 M parameters."""
    result = summary("vgg16")
    assert result.activation_floats == 15_237_608
    assert result.total_params == 138_357_544
    assert summary("vgg16", batch=3).activation_floats == 3 * 15_237_608
    # What is computed besides: ReLU after all but the last; and the pooling to 7x7, which changes nothing at 224.
    relu = 13_547_520 + 2 * 4096
    assert result.activation_bytes == 4 * (15_237_608 - 150_528 + relu + 512 * 7 * 7)


@pytest.mark.parametrize(
    ("model", "params", "percent"),
    [("alexnet2012", 58_631_144, 96.2), ("vgg16", 123_642_856, 89.4), ("resnet50", 2_049_000, 8.0)],
)
def test_the_share_of_the_dense_layers(model: str, params: int, percent: float) -> None:
    """B65: recent networks need fewer of them."""
    share = summary(model).share("Linear")
    assert share.params == params
    assert round(100 * share.params_share, 1) == percent
    assert f"{percent} %" in str(summary(model))


def test_shares_come_to_the_whole() -> None:
    for name in ("resnet18", "densenet121", "lenet"):
        shares = summary(name).shares
        assert sum(share.params_share for share in shares) == pytest.approx(1)
        assert sum(share.macs_share for share in shares) == pytest.approx(1)
    assert summary("resnet18").share("LSTM").params == 0


def test_shapes_of_images_and_filters() -> None:
    """B12: a 5x5 image and a 3x3 filter give 3x3."""
    result = summary(nn.Conv2d(1, 1, 3), (1, 5, 5))
    assert result.output_shape == (1, 1, 3, 3)
    assert result.total_macs == 9 * 9


# What a model is ------------------------------------------------------------------------------------------------------


class Mixed(nn.Module):
    """A layer used twice, one never used, operations of its own, a dict for a result."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.unused = nn.Linear(10, 10)
        self.scale = nn.Parameter(gn.ones(4, 1, 1))
        self.head = nn.Linear(4, 2)

    def forward(self, x: gn.Tensor) -> dict[str, gn.Tensor]:
        y = self.bn(self.conv(x))
        y = self.bn(self.conv(F.relu(y))) + x * self.scale
        return {"scores": self.head(y.mean((2, 3))), "maps": y}


def test_a_layer_used_twice_counts_once() -> None:
    result = summary(Mixed(), (4, 6, 6))
    first, second = (layer for layer in result if layer.name == "conv")
    assert (first.again, second.again) == (False, True)
    assert result.total_params == 4 * 4 * 9 + 8 + 110 + 4 + 10
    assert result.total_macs == 2 * 36 * 36 * 4 + 8
    assert result.layers[0].outputs == ((1, 2), (1, 4, 6, 6))
    assert [layer.type for layer in result if layer.operation] == ["relu", "mul", "add", "mean"]
    text = str(result)
    assert "Conv2d (again)" in text
    assert text.count("144") == 2  # one row, and the sum by type
    assert result["(add)"].output_shape == (1, 4, 6, 6)
    with pytest.raises(KeyError, match="Mixed has run no layer 'unused'"):
        result["unused"]


class Tagger(nn.Module):
    """Scores of five classes at every step of a sequence of 100 kinds of words."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 4)
        self.lstm = nn.LSTM(4, 8, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 5)

    def forward(self, words: gn.Tensor) -> gn.Tensor:
        return self.head(self.lstm(self.embed(words))[0])


def test_recurrent_layers() -> None:
    """Shapes of the output and both states; a step takes gates * units * (inputs + units) multiply-adds."""
    result = summary(Tagger(), (7,), batch=3, dtype=gn.int64)
    lstm = result["lstm"]
    assert lstm.outputs == ((3, 7, 16), (4, 3, 8), (4, 3, 8))
    assert lstm.leaf
    assert lstm.macs == 3 * 7 * 2 * (4 * 8 * (4 + 8) + 4 * 8 * (16 + 8))
    assert lstm.params == 2 * 4 * (4 * 8 + 8 * 8 + 8 + 8) + 2 * 4 * (16 * 8 + 8 * 8 + 8 + 8) == 2_560
    assert (result.output_shape, result.total_params) == ((3, 7, 5), 3_045)
    assert "7x16 4x8 4x8" in str(result)  # states begin with layers and directions; the batch is their dimension 1
    for cell, gates in ((nn.RNNCell(4, 8), 1), (nn.GRUCell(4, 8), 3), (nn.LSTMCell(4, 8), 4)):
        one = summary(cell, (4,), batch=3)
        assert (one.output_shape, one.total_macs) == ((3, 8), 3 * gates * 8 * (4 + 8))


def test_what_does_not_run_is_named() -> None:
    """A6: GoogLeNet's auxiliary classifiers run in training alone: 3,188,840 and 3,190,888 parameters."""
    result = summary("googlenet_paper")
    assert (result.uncalled, result.uncalled_params) == (("aux1", "aux2"), 3_188_840 + 3_190_888)
    assert "not called       aux1, aux2 with 6,379,728 of the parameters" in str(result)
    assert summary("googlenet_paper", training=True).uncalled == ()
    assert summary("alexnet2012").uncalled == ()  # its towers are called layer by layer
    assert summary(Mixed(), (4, 6, 6)).uncalled == ("unused",)


def test_tied_parameters_count_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert summary(model).total_params == count_params(model) == 9 + 6
    assert summary(model).share("Linear").params == 15


def test_sizes_that_models_are_made_for() -> None:
    sizes = {
        "resnet18": (3, 224, 224),
        "alexnet2012": (3, 227, 227),
        "cifar_resnet20": (3, 32, 32),
        "lenet": (1, 32, 32),
    }
    for name, size in sizes.items():
        assert summary(name).input_shapes == ((1, *size),)
    assert summary(nn.Sequential(nn.Flatten(), nn.Linear(12, 3))).input_shapes == ((1, 12),)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nin_cifar10", {}), ("cifar_densenet40_12", {}), ("cifar_densenet_bc_100_12", {}), ("cifar_resnet20", {}),
        ("cifar_preact_resnet20", {}), ("lenet", {"input_size": 8}), ("nin_imagenet", {}), ("vgg11", {}),
        ("alexnet2012", {"width": 1 / 8, "input_size": 67}),
        ("alexnet2012_grouped", {"width": 1 / 8, "input_size": 67}),
    ],
)  # fmt: skip
def test_a_model_says_what_it_is_made_for(name: str, options: dict[str, Any]) -> None:
    """By name, made, and inside another: the size is the same, and so are the multiply-adds."""
    made = {"nin_cifar10": 222_486_528}
    size = options.get("input_size", 32 if "cifar" in name else 224)
    with gn.device("meta"):
        model = gn.models.get_model(name, **options)
    assert model.default_image_size == size
    found, wrapped = summary(model), summary(nn.Sequential(model, nn.ReLU()))
    assert found.input_shapes == wrapped.input_shapes
    assert found.input_shapes[0][2:] == (size, size)
    assert found.total_macs == wrapped.total_macs == made.get(name, found.total_macs)
    if not options:
        assert summary(name).total_macs == found.total_macs


def test_the_size_that_a_model_says_is_the_first_that_is_tried() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3))
    model.default_image_size = 40
    assert summary(model).input_shapes == ((1, 2, 40, 40),)
    assert summary(nn.Sequential(nn.Conv2d(2, 2, 1), model)).input_shapes == ((1, 2, 40, 40),)
    with gn.device("meta"):
        network = gn.models.resnet18()
        network.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3)
        small = gn.models.to_fully_conv(gn.models.alexnet2012_grouped(width=1 / 8, input_size=67))
    assert summary(network).input_shapes == ((1, 1, 224, 224),)
    assert summary(small).input_shapes == ((1, 3, 67, 67),)
    for nothing in (0, -3, True, "32", None):
        model.default_image_size = nothing
        assert summary(model).input_shapes == ((1, 2, 224, 224),)


def test_example_inputs() -> None:
    class Two(nn.Module):
        def forward(self, a: gn.Tensor, b: gn.Tensor) -> gn.Tensor:
            return a.sum() + b.sum()

    tokens = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
    assert summary(tokens, example_inputs=np.zeros((2, 7), np.int64)).output_shape == (2, 7, 2)
    both = (gn.zeros(2, 4), np.zeros((2, 7), np.float32))
    assert summary(Two(), example_inputs=both).input_shapes == ((2, 4), (2, 7))
    assert [box.output_shape for box in gn.inspect.layer_graph(Two(), example_inputs=both).boxes][:2] == [(4,), (7,)]
    for given in ({"input_size": (7,)}, {"batch": 2}, {"dtype": gn.int64}):
        with pytest.raises(ValueError, match="example_inputs: goes without input_size, batch and dtype"):
            summary(tokens, example_inputs=gn.zeros(2, 7, dtype=gn.int64), **given)
    with pytest.raises(TypeError, match="example_inputs: expected Tensors or arrays, got int"):
        summary(tokens, example_inputs=(2, 7))
    with pytest.raises(ValueError, match="example_inputs: must hold at least one Tensor"):
        summary(tokens, example_inputs=())
    with pytest.raises(gn.DTypeError, match=r"embedding: .* got float32; give dtype=, .* or example_inputs="):
        summary(tokens, (7,))


def test_several_sizes_that_are_not_in_a_list() -> None:
    with pytest.raises(
        ValueError, match=r"batch: .* got \(6,\); sizes of several inputs go in one list, \[\(4,\), \(6,\)"
    ):
        summary("lenet", (4,), (6,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda x: x * x.max().item(), "item: a tensor on 'meta' has no data"),
        (lambda x: x if x.sum() > 0 else -x, "a tensor on 'meta' has no data"),
        (lambda x: x[x > 0], "index: the result of a mask on 'meta' has no known shape"),
        (lambda x: gn.nonzero(x), "nonzero: the result of a tensor on 'meta' has no known shape"),
    ],
)
def test_what_values_decide_cannot_be_followed(ask: Any, text: str) -> None:
    class Asking(nn.Module):
        def forward(self, x: gn.Tensor) -> gn.Tensor:
            return ask(x)

    for size in ((1, 4, 4), None):
        with pytest.raises(gn.DeviceError, match=rf"{text}.*; in layer 1 \(Asking\): the model runs on shapes alone"):
            summary(nn.Sequential(nn.Conv2d(1, 1, 1), Asking()), size)
    assert not observer.active()


def test_other_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Bilinear(3, 4, 2)

        def forward(self, a: gn.Tensor, b: gn.Tensor) -> gn.Tensor:
            return self.layer(a, b)

    assert summary(Two(), [(3,), (4,)], batch=5).output_shape == (5, 2)
    result = summary(nn.Sequential(nn.Embedding(10, 3), nn.Linear(3, 2)), (7,), dtype=gn.int64)
    assert result.output_shape == (1, 7, 2)
    assert summary(nn.Conv2d(1, 2, 3).double(), (1, 5, 5)).activation_bytes == 2 * 9 * 8
    assert summary(nn.LazyConv2d(4, 3), (2, 5, 5)).total_params == 4 * 2 * 9 + 4


def test_lazy_layers_stay_lazy() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.LazyBatchNorm2d())
    summary(model, (2, 5, 5))
    assert model[0].has_uninitialized_params()
    assert isinstance(model[2], nn.LazyBatchNorm2d)


def test_weights_that_hooks_compute() -> None:
    model = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 3)))
    assert summary(model, (3, 8, 8)).output_shape == (1, 4, 6, 6)
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)))
    assert summary(model, (3, 8, 8)).output_shape == (1, 4, 6, 6)


# What is left alone ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_only_read(training: bool) -> None:
    gn.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 2))
    model[1].eval()
    called = []
    model[0].register_forward_hook(lambda *_: called.append("forward"))
    model.register_forward_pre_hook(lambda *_: called.append("before"))
    model[4].register_full_backward_hook(lambda *_: called.append("backward"))
    model(gn.ones(2, 3, 6, 6)).sum().backward()
    called.clear()
    model.note = {"lock": threading.Lock(), "seen": [model[0]]}
    objects = {name: id(p) for name, p in (*model.named_parameters(), *model.named_buffers())}
    before = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    gradients = [p.grad.numpy().tobytes() for p in model.parameters()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    modes = [m.training for m in model.modules()]
    generator = gn.get_rng_state()

    result = summary(model, (3, 6, 6), batch=4, training=training)

    assert result.output_shape == (4, 2)
    assert called == []
    assert {name: id(p) for name, p in (*model.named_parameters(), *model.named_buffers())} == objects
    assert {name: value.numpy().tobytes() for name, value in model.state_dict().items()} == before
    assert [p.grad.numpy().tobytes() for p in model.parameters()] == gradients
    assert hooks == [
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()
    ]
    assert [m.training for m in model.modules()] == modes
    assert str(gn.get_rng_state()) == str(generator)
    assert not observer.active()
    assert gn.ones(1).device == "cpu"


def test_values_beside_the_parameters_are_left_alone() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)
            self.mask = gn.ones(4, 4)
            self.kept: list[gn.Tensor] = []

        def forward(self, x: gn.Tensor) -> gn.Tensor:
            self.kept.append(x)
            self.mask *= 2
            return self.conv(x) * self.mask

    model = Masked()
    assert summary(model, (1, 4, 4)).output_shape == (1, 1, 4, 4)
    model(gn.ones(1, 1, 4, 4))  # a value in the graph is no obstacle either
    model.kept.append(model.conv(model.kept[0]))
    assert summary(model, (1, 4, 4)).output_shape == (1, 1, 4, 4)
    assert len(model.kept) == 2
    assert np.array_equal(model.mask.numpy(), np.full((4, 4), 2.0))


def test_layers_in_a_plain_list_run_too() -> None:
    """A beginner's mistake that PyTorch is silent about as well: the model does not know them, but they work."""

    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Conv2d(1, 2, 3), nn.Conv2d(2, 4, 3)]
            self.layers[0].friends = self.layers  # and around in a circle

        def forward(self, x: gn.Tensor) -> gn.Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    model = Listed()
    result = summary(model, (1, 8, 8))
    assert (result.output_shape, result.total_params) == ((1, 4, 4, 4), 0)
    assert result.total_macs == 36 * 18 + 16 * 72
    assert model.layers[0].weight.device == "cpu"


def test_threads_do_not_meet() -> None:
    model = Mixed()
    images = gn.ones(1, 4, 6, 6)
    model.eval()
    expected = model(images)["maps"].detach().numpy().copy()
    results: list[dict[str, Any]] = []

    def work() -> None:
        results.extend(summary(model, (4, 6, 6)).to_dict() for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert np.array_equal(model(images)["maps"].detach().numpy(), expected)
    for thread in threads:
        thread.join()
    assert len(results) == 20
    assert all(result == results[0] for result in results)


def test_a_model_on_meta() -> None:
    with gn.device("meta"):
        model = gn.models.lenet()
    assert summary(model).total_params == summary("lenet").total_params == 61706


# What it looks like ---------------------------------------------------------------------------------------------------


def test_columns_come_to_the_totals() -> None:
    """Of a module whose layers are shown only what is its own is in the table, at every depth."""
    for depth in (None, 0, 1, 2, 3):
        table = re.findall(r"<tr>(.*?)</tr>", summary("resnet18", depth=depth).to_html())[1:]
        rows = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in table]
        for column, total in ((3, 11_689_512), (5, 1_814_073_344)):
            assert sum(int(row[column].replace(",", "")) for row in rows if row[column]) == total, depth


def test_json_has_it_all() -> None:
    result = summary("lenet")
    document = json.loads(result.to_json())
    assert document == result.to_dict()
    assert document["total_macs"] == 416_520
    conv1 = document["layers"][1]
    assert conv1["name"] == "conv1"
    assert conv1["output_shape"] == [1, 6, 28, 28]
    assert conv1["receptive_field"] == {"size": [5, 5], "jump": [1, 1], "start": [0, 0]}


def test_html_escapes_names() -> None:
    class Cells(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: set[str] = set()
            self.text = ""

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            self.tags.add(tag)

        def handle_data(self, data: str) -> None:
            self.text += data

    model = nn.Sequential()
    model.add_module("<script>alert(1)</script>", nn.Linear(2, 2))
    cells = Cells()
    cells.feed(summary(model)._repr_html_())
    assert cells.tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "p", "br"}
    assert "<script>alert(1)</script>" in cells.text


def test_every_model_has_a_summary() -> None:
    deep = {"cifar_resnet1202", "cifar_preact_resnet1001", "preact_resnet200", "preact_resnet152", "densenet201"}
    for name in sorted(set(list_models("image")) - deep):
        result = summary(name)
        assert isinstance(result, Summary)
        assert result.total_params > 50_000
        assert result.layers[0].receptive_field is not None
        assert result.output_shape is not None


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell a process's peak memory")
def test_the_summary_of_resnet152_is_small() -> None:
    """No weight is allocated: they would be 241 MB. The bounds, 200 MB and a second, are benchmarks/inspection.py's."""
    code = (
        "import gpunet as gn; print(gn.inspect.summary('resnet152').total_params); "
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    params, peak_kib = map(int, done.stdout.split())
    assert params == 60_192_808
    assert peak_kib * 1024 < 200e6


# Bad input ------------------------------------------------------------------------------------------------------------


def test_an_input_too_small_names_the_layer() -> None:
    text = r"max_pool2d: .* covers 3 pixels, more than the padded input has \(1\).*in layer features.5 \(MaxPool2d\)"
    with pytest.raises(gn.ShapeError, match=text):
        summary("alexnet", (3, 20, 20))
    assert not observer.active()
    model = gn.models.nin_imagenet()
    with pytest.raises(gn.ShapeError, match=r"in layer features.0.0 \(Conv2d\)"):
        summary(model, (3, 8, 8))
    with pytest.raises(gn.ShapeError, match=r"linear: input must have 400 features .*in layer fc1 \(Linear\)"):
        summary("lenet", (1, 28, 28))


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (("resnet19",), gn.models.UnknownModelError, "unknown model 'resnet19'; did you mean"),
        ((3,), TypeError, "model: must be a Module or the name of one, got int"),
        (("lenet", (1, 0, 3)), ValueError, "input_size: must be whole numbers of at least 1"),
        (("lenet", (1, 2.5, 3)), ValueError, "input_size: must be whole numbers"),
        (("lenet", 32), ValueError, r"input_size: must be whole numbers of at least 1 such as \(3, 224, 224\)"),
        (
            ("lenet", (gn.zeros(1, 1, 28, 28),)),
            TypeError,
            "^input_size: must be sizes, got Tensors or arrays; give those ",
        ),
        (("lenet", gn.zeros(1, 1, 28, 28)), TypeError, "input_size: .* give those as example_inputs=$"),
        (("lenet", None, 0), ValueError, "batch: must be a whole number of at least 1, got 0"),
        (("lenet", None, True), ValueError, "batch: must be a whole number"),
    ],
)
def test_bad_arguments(arguments: tuple[Any, ...], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        summary(*arguments)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="depth: must be a whole number of at least 0 or None, got -1"):
        summary("lenet", depth=-1)
    with pytest.raises(TypeError, match="num_classes: only goes with a model's name"):
        summary(gn.models.lenet(), num_classes=3)
    with pytest.raises(TypeError, match="model: must be a Module or the name of one, got list"):
        count_params([])  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="LeNet has run no layer 'conv9'"):
        summary("lenet")["conv9"]


def test_layers_that_take_steps_first_are_shown_with_their_steps() -> None:
    """One sample is T rows of a time-first layer, whatever the batch: not the batch's size, not as many as samples."""
    for batch in (1, 3, 64):
        result = summary("char_rnn", batch=batch)
        rows = {line.split()[0]: line.split() for line in str(result).splitlines() if line.strip()}
        assert rows["embedding"][2] == "64x64"
        assert rows["rnn"][2:4] == ["64x256", "2x256"]
        assert rows["decoder"][2] == "64x96"
        assert result["rnn"].batch_axis == 1
        assert result.layers[0].batch_axis == 0


def shown(model: nn.Module, *arguments: Any, **options: Any) -> dict[str, list[str]]:
    """The first row's name and what follows its type: the outputs, and then the number of parameters."""
    rows = [line.split() for line in str(summary(model, *arguments, **options)).splitlines()[4:]]
    return {row[0]: row[2:] for row in rows if row}


@pytest.mark.parametrize("batch_first", [False, True], ids=["steps first", "batch first"])
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_recurrent_layer_is_shown_with_its_steps_and_states(layers: int, batch: int, batch_first: bool) -> None:
    """A sample (T, I) = (5, 3) of an LSTM with 4 units is (5, 4), with h and c of (layers, 4): 4 H (I + H) products."""
    model = nn.LSTM(3, 4, layers, batch_first=batch_first)
    result = summary(model, (5, 3), batch)
    assert shown(model, (5, 3), batch)["(model)"][:3] == ["5x4", f"{layers}x4", f"{layers}x4"]
    assert result.input_shapes == ((batch, 5, 3) if batch_first else (5, batch, 3),)
    assert result.layers[0].outputs[1:] == ((layers, batch, 4),) * 2
    assert result.layers[0].batch_axes == ((0, 1, 1) if batch_first else (1, 1, 1))
    products = 4 * 4 * (3 + 4) + (layers - 1) * 4 * 4 * (4 + 4)
    assert result.total_macs == 5 * batch * products
    given = gn.zeros(result.input_shapes[0])
    assert str(summary(model, example_inputs=given)) == str(result)


def test_states_that_are_given_have_the_batch_where_the_layer_has_it() -> None:
    """Sizes of a sequence and of the state before it, (layers, H)."""
    result = summary(nn.GRU(3, 4, 2), [(5, 3), (2, 4)], 6)
    assert result.input_shapes == ((5, 6, 3), (2, 6, 4))
    assert result.layers[0].batch_axes == (1, 1)
    same = summary(nn.GRU(3, 4, 2), example_inputs=(gn.zeros(5, 6, 3), gn.zeros(2, 6, 4)))
    assert same.layers[0].batch_axes == (1, 1)


def test_models_that_take_steps_first_are_shown_with_their_steps() -> None:
    """A layer and a head, a loop over a cell, and an encoder: five steps each, whatever the batch is."""

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(1, 8)

        def forward(self, x: gn.Tensor) -> gn.Tensor:
            state = x.new_zeros(x.shape[1], 8)
            for step in x.unbind(0):
                state = self.cell(step, state)
            return state

    for batch in (1, 3):
        rows = shown(gn.models.LatentAR(8), (5, 1), batch)
        assert (rows["rnn"][:2], rows["head"][0]) == (["5x8", "1x8"], "5x1")
        loop = summary(Loop(), (5, 1), batch)
        assert (loop.input_shapes, loop.output_shape) == (((5, batch, 1),), (batch, 8))
        assert [layer.output_shape for layer in loop if layer.name == "cell"] == [(batch, 8)] * 5
        encoder = summary(nn.TransformerEncoderLayer(8, 2, 16), (5, 8), batch)
        assert encoder.output_shape == (5, batch, 8)
        assert encoder["linear1"].batch_axis == 1


def test_a_graph_of_steps_has_the_samples_shapes() -> None:
    graph = gn.inspect.layer_graph(gn.models.LatentAR(8), (5, 1))
    assert {box.name: box.output_shape for box in graph.boxes} == {"input": (5, 1), "rnn": (5, 8), "head": (5, 1)}


class StepsFirst(nn.Module):
    """Five tokens of 8 through an encoder layer that takes (steps, batch, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16)
        self.scores = nn.Linear(8, 3)

    def forward(self, x: gn.Tensor) -> gn.Tensor:
        return self.scores(self.encoder(x.transpose(0, 1)).transpose(0, 1))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_attention_that_takes_steps_first_is_shown_with_its_steps(batch: int) -> None:
    result = summary(StepsFirst(), (5, 8), batch)
    rows = {line.split()[0]: line.split()[2] for line in str(result).splitlines() if "encoder" in line}
    assert rows["encoder"] == rows["encoder.norm1"] == rows["encoder.self_attn"] == "5x8"
    assert rows["encoder.linear1"] == "5x16"
    assert rows["encoder.self_attn.(softmax)"] == "2x5x5"
    assert (result["encoder.linear1"].batch_axis, result["scores"].batch_axis) == (1, 0)
