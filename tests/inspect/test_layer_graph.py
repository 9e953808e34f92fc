"""Boxes and arrows: which layer reads which, against the papers' tables and figures."""

from __future__ import annotations

import csv
import functools
import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gpunet as gn
from gpunet import nn
from gpunet.inspect import LayerGraph, layer_graph
from gpunet.nn import functional as F

FACTS = Path(__file__).parents[1] / "models" / "facts"


def facts(name: str) -> list[dict[str, str]]:
    with open(FACTS / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@functools.cache
def drawn(name: str, fold: bool = True) -> LayerGraph:
    return layer_graph(name, fold=fold)


def reads(graph: LayerGraph, target: str) -> list[tuple[str, str]]:
    return [(arrow.source, arrow.kind) for arrow in graph.arrows if arrow.target == target]


def of_type(graph: LayerGraph, *types: str) -> int:
    return sum(box.count for box in graph.boxes if box.type in types)


# The zoo -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alexnet2012_grouped", "alexnet"])
def test_the_boxes_are_the_layers_of_the_facts(name: str) -> None:
    """A4, B92: one box for each row, in the row's order, with its shape; each reads the one before it."""
    rows = [row for row in facts("layers.csv") if row["model"] == name]
    graph = drawn(name)
    layers = [box for box in graph.boxes if box.type not in ("input", "flatten")]
    found = [(box.name, "×".join(map(str, box.output_shape or ()))) for box in layers]
    expected = [(row["layer"], row["output"].replace("x", "×")) for row in rows]
    assert found == expected
    names = [box.name for box in graph.boxes]
    assert [(arrow.source, arrow.target) for arrow in graph.arrows] == list(itertools.pairwise(names))
    assert {arrow.kind for arrow in graph.arrows} == {"flow"}


# Names of the facts that are other than the models'.
ALIASES = {
    "alexnet2012_twotower": "alexnet2012", "vgg_A-LRN": "vgg11_lrn", "vgg_C": "vgg16_c",
    "cifar_densenet_L40_k12_init16": "cifar_densenet40_12",
    "cifar_densenetbc_L100_k12_init24": "cifar_densenet_bc_100_12",
    **{f"cifar_resnet{depth}_A": f"cifar_resnet{depth}" for depth in (20, 32, 44, 56, 110, 1202)},
    **{f"cifar_preresnet{depth}": f"cifar_preact_resnet{depth}" for depth in (20, 56, 110, 164, 1001)},
    **{f"preresnet{depth}": f"preact_resnet{depth}" for depth in (18, 34, 50, 101, 152, 200)},
}  # fmt: skip
COUNTED = [row for row in facts("totals.csv") if ALIASES.get(row["model"], row["model"]) in gn.models.list_models()]


@pytest.mark.parametrize("row", COUNTED, ids=lambda row: row["model"])
def test_every_model_has_its_layers(row: dict[str, str]) -> None:
    """A1 to A12: as many convolutions, dense layers and batch normalisations as in the facts, folded or not."""
    name = ALIASES.get(row["model"], row["model"])
    folded, whole = drawn(name), drawn(name, False)
    for graph in (folded, whole):
        counted = [of_type(graph, "Conv2d"), of_type(graph, "Linear"), of_type(graph, "BatchNorm2d")]
        assert counted == [int(row["conv"]), int(row["fc"]), int(row["bn"])]
    assert sum(box.count for box in folded.boxes) == len(whole.boxes)
    assert all(box.count == 1 for box in whole.boxes)


@pytest.mark.parametrize("name", gn.models.list_models("image"))
def test_every_model_is_one_connected_picture(name: str) -> None:
    graph = drawn(name)
    order = {box.name: number for number, box in enumerate(graph.boxes)}
    assert len(order) == len(graph.boxes)
    assert all(order[arrow.source] < order[arrow.target] for arrow in graph.arrows)
    assert len({(arrow.source, arrow.target) for arrow in graph.arrows}) == len(graph.arrows)
    assert {arrow.target for arrow in graph.arrows} == set(order) - {"input"}
    ends = set(order) - {arrow.source for arrow in graph.arrows}
    assert len(ends) == 1
    # The scores, of ten classes or a thousand.
    assert math.prod(graph[ends.pop()].output_shape or (0,)) == (
        10 if re.match("cifar|lenet|nin_cifar", name) else 1000
    )


def test_the_towers_cross_where_the_paper_has_arrows() -> None:
    """B68 to B75, figure 2 of Krizhevsky et al. 2012: before conv3, fc6, fc7 and fc8, and nowhere else."""
    graph = drawn("alexnet2012")
    assert graph.towers == 2
    crossings = {(arrow.source, arrow.target) for arrow in graph.arrows_of("crossing")}
    both = {("pool2", "conv3"), ("flatten", "fc6"), ("relu6", "fc7")}
    expected = {(f"tower{a}.{source}", f"tower{1 - a}.{target}") for source, target in both for a in (0, 1)}
    assert crossings == expected | {("tower1.relu7", "fc8")}
    with gn.device("meta"):
        assert len(crossings) == len(gn.models.alexnet2012().traffic())
    assert {box.name for box in graph.boxes if box.tower == 1} == {
        box.name for box in graph.boxes if box.name.startswith("tower1.")
    }
    assert reads(graph, "tower1.conv2") == [("tower1.pool1", "flow")]
    assert not [box for box in graph.boxes if box.type in ("cat", "exchange")]


@pytest.mark.parametrize(("name", "size5"), [("googlenet_paper", "5×5"), ("googlenet", "3×3")])
def test_four_branches_of_an_inception_block_are_joined(name: str, size5: str) -> None:
    """A6, B92: nine blocks, four branches each, of the widths of table 1."""
    graph = drawn(name)
    rows = facts("inception.csv")
    joins = [box for box in graph.boxes if box.merge == "concat"]
    assert [box.name for box in joins] == [f"inception{row['block']}.(cat)" for row in rows]
    assert [block.name for block in graph.blocks] == [f"inception{row['block']}" for row in rows]
    for row, join in zip(rows, joins, strict=True):
        sources = reads(graph, join.name)
        assert [kind for _, kind in sources] == ["concat"] * 4
        widths = [(graph[source].output_shape or (0,))[0] for source, _ in sources]
        assert widths == [int(row[key]) for key in ("b1x1", "b3x3", "b5x5", "pool_proj")]
        assert (join.output_shape or (0,))[0] == int(row["out"]) == sum(widths)
        entries = {arrow.source for arrow in graph.arrows if arrow.target.startswith(f"inception{row['block']}.")}
        outside = {source for source in entries if not source.startswith(f"inception{row['block']}.")}
        assert len(outside) == 1
    assert graph["inception3a.branch3.1.conv"].detail == size5
    training = layer_graph(name, training=True)
    ends = {box.name for box in training.boxes} - {arrow.source for arrow in training.arrows}
    assert ends == {"fc", "aux1.fc2", "aux2.fc2"}


@pytest.mark.parametrize(
    ("name", "skips"),
    [
        ("resnet18", 8), ("resnet34", 16), ("resnet50", 16), ("resnet101", 33), ("resnet152", 50), ("plain18", 0),
        ("cifar_resnet20", 9), ("cifar_resnet110", 54), ("preact_resnet50", 16), ("cifar_preact_resnet164", 54),
    ],
)  # fmt: skip
def test_every_residual_block_has_a_skip(name: str, skips: int) -> None:
    """A7 to A9, B92."""
    graph = drawn(name, False)
    assert len(graph.arrows_of("skip")) == skips
    assert sum(box.merge == "sum" for box in graph.boxes) == skips
    if skips:
        assert sum(block.count for block in drawn(name).blocks) == skips


def test_skips_of_resnet18() -> None:
    """A7: identities within a stage, 1x1 convolutions of stride 2 into stages 2 to 4."""
    graph = drawn("resnet18", False)
    skips = [(arrow.source, arrow.target) for arrow in graph.arrows_of("skip")]
    assert skips == [
        ("maxpool", "layer1.0.bn2"), ("layer1.0.bn2", "layer1.1.bn2"),
        ("layer2.0.downsample.1", "layer2.0.bn2"), ("layer2.0.bn2", "layer2.1.bn2"),
        ("layer3.0.downsample.1", "layer3.0.bn2"), ("layer3.0.bn2", "layer3.1.bn2"),
        ("layer4.0.downsample.1", "layer4.0.bn2"), ("layer4.0.bn2", "layer4.1.bn2"),
    ]  # fmt: skip
    assert graph["layer2.0.downsample.0"].detail == "1×1, stride 2"
    assert graph["layer2.0.bn2"].detail == "+ add + ReLU"


def test_equal_blocks_of_resnet152_are_folded() -> None:
    """A7: stages of 3, 8, 36 and 3 bottlenecks, the first of each with a projection."""
    graph = drawn("resnet152")
    counts = {block.name: block.count for block in graph.blocks}
    assert counts == {
        "layer1.0": 1, "layer1.1": 2, "layer2.0": 1, "layer2.1": 7, "layer3.0": 1, "layer3.1": 35, "layer4.0": 1,
        "layer4.1": 2,
    }  # fmt: skip
    # The stage after the folded blocks reads the one that is drawn.
    assert reads(graph, "layer4.0.conv1") == [("layer3.1.bn3", "flow")]
    assert graph["layer3.1.conv2"].count == 35


@pytest.mark.parametrize(("name", "layers"), [("densenet121", (6, 12, 24, 16)), ("cifar_densenet40_12", (12, 12, 12))])
def test_every_dense_layer_is_joined_with_all_before_it(name: str, layers: tuple[int, ...]) -> None:
    """A10, B92: L concatenations of two, the channels growing by the growth rate."""
    graph = drawn(name, False)
    joins = [box for box in graph.boxes if box.merge == "concat"]
    assert len(joins) == sum(layers)
    assert len(graph.arrows_of("concat")) == 2 * sum(layers)
    growth = 32 if name == "densenet121" else 12
    for join in joins:
        old, new = (graph[source].output_shape or (0,) for source, _ in reads(graph, join.name))
        assert (old[0] + growth, new[0]) == ((join.output_shape or (0,))[0], growth)


@pytest.mark.parametrize(("name", "layers"), [("densenet121", (6, 12, 24, 16)), ("cifar_densenet40_12", (12, 12, 12))])
def test_layers_of_a_dense_block_are_folded(name: str, layers: tuple[int, ...]) -> None:
    """A10: they differ by the growth rate alone; a block's boxes say the first one's channels and the last one's."""
    folded, whole = drawn(name), drawn(name, False)
    growth = 32 if name == "densenet121" else 12
    blocks = [block for block in folded.blocks if block.last]
    assert [(block.count, block.growth) for block in blocks] == [(count, growth) for count in layers]
    for number, block in enumerate(blocks, 1):
        inside = f"features.denseblock{number}"
        assert (block.name, block.last) == (f"{inside}.denselayer1", f"{inside}.denselayer{block.count}")
        joins = [box for box in whole.boxes if box.name.startswith(f"{inside}.(cat)")]
        join = folded[block.boxes[-1]]
        assert (join.output_shape, join.last_shape) == (joins[0].output_shape, joins[-1].output_shape)
        assert join.count == block.count == len(joins)
        for box in (folded[one] for one in block.boxes[:-1]):
            last = whole[box.name.replace(block.name, block.last)]
            assert (box.output_shape, box.last_shape or box.output_shape) == (
                whole[box.name].output_shape, last.output_shape,
            )  # fmt: skip
        # What is behind the block reads the concatenation that is drawn.
        behind = next(arrow for arrow in folded.arrows if arrow.source == join.name)
        assert behind.target == (f"features.transition{number}.norm" if number < len(layers) else "features.norm5")
    assert len(folded.boxes) < 45


def test_layers_that_grow_unevenly_are_not_folded() -> None:
    class Dense(nn.Module):
        def __init__(self, *widths: int, inner: int = 0) -> None:
            super().__init__()
            channels = 3
            self.layers = nn.ModuleList()
            for number, width in enumerate(widths):
                between = 4 + inner * number
                self.layers.append(nn.Sequential(nn.Conv2d(channels, between, 1), nn.Conv2d(between, width, 1)))
                channels += width

        def forward(self, x: Any) -> Any:
            for layer in self.layers:
                x = gn.cat([x, layer(x)], 1)
            return x

    def counts(model: nn.Module) -> list[int]:
        return [block.count for block in layer_graph(model, (3, 4, 4)).blocks if block.last]

    assert counts(Dense(2, 2, 2)) == [3]
    assert counts(Dense(2, 2, 5, 5, 5)) == [2, 3]
    assert counts(Dense(2, 3, 4)) == []
    assert counts(Dense(2, 2, 2, inner=1)) == []
    graph = layer_graph(Dense(2, 3, 4), (3, 4, 4))
    assert {box.count for box in graph.boxes} == {1}
    assert graph.boxes == layer_graph(Dense(2, 3, 4), (3, 4, 4), fold=False).boxes


def test_depth_makes_blocks_of_layers() -> None:
    graph = layer_graph("resnet18", depth=2, fold=False)
    assert [box.name for box in graph.boxes if box.type == "BasicBlock"] == [
        f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)
    ]
    assert all(arrow.kind == "flow" for arrow in graph.arrows)
    assert graph["layer2.0"].output_shape == (128, 28, 28)
    assert [box.name for box in layer_graph("resnet18", depth=1).boxes] == [
        "input", "conv1", "bn1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc",
    ]  # fmt: skip


# Small models ------------------------------------------------------------------------------------------------------


class Made(nn.Module):
    """A model of a function of itself and an image."""

    def __init__(self, run: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.same, self.drop, self.relu = nn.Identity(), nn.Dropout(), nn.ReLU(inplace=True)
        self._run = run

    def forward(self, x: Any) -> Any:
        return self._run(self, x)


def graph_of(run: Callable[[Any, Any], Any], **options: Any) -> LayerGraph:
    return layer_graph(Made(run), (3, 8, 8), **options)


def test_what_hands_on_its_input_is_a_box_of_its_own() -> None:
    """Identities and dropout in evaluation give the very tensor that they take; others may read it too."""
    graph = graph_of(lambda m, x: m.a(m.drop(m.same(x))) + m.b(x))
    assert reads(graph, "same") == [("input", "flow")]
    assert reads(graph, "drop") == [("same", "flow")]
    assert reads(graph, "a") == [("drop", "flow")]
    assert reads(graph, "b") == [("input", "flow")]
    assert reads(graph, "(add)") == [("a", "flow"), ("b", "skip")]


def test_values_written_in_place() -> None:
    def run(m: Any, x: Any) -> Any:
        y = m.a(x)
        y += m.b(x)
        return m.relu(y)

    graph = graph_of(run)
    assert reads(graph, "relu") == [("(add)", "flow")]
    assert {source for source, _ in reads(graph, "(add)")} == {"a", "b"}


def test_views_are_no_layers() -> None:
    graph = graph_of(lambda m, x: gn.cat([F.relu(m.a(x)[:, :1]), m.b(x)[:, 1:].flatten(1).reshape(1, 2, 8, 8)], 1))
    assert [box.name for box in graph.boxes] == ["input", "a", "(relu)", "b", "(cat)"]
    assert reads(graph, "(relu)") == [("a", "flow")]
    assert reads(graph, "(cat)") == [("(relu)", "concat"), ("b", "concat")]


def test_a_module_that_is_called_twice_is_two_boxes() -> None:
    graph = graph_of(lambda m, x: m.a(m.a(x)))
    assert [box.name for box in graph.boxes] == ["input", "a", "a#2"]
    assert reads(graph, "a#2") == [("a", "flow")]


def test_parallel_twins_are_not_folded() -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = (nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()) for _ in range(3))

        def forward(self, x: Any) -> Any:
            return self.two(self.one(x)) + self.three(x)

    graph = layer_graph(Twins(), (3, 4, 4))
    assert {block.name: block.count for block in graph.blocks} == {"one": 2}
    assert graph["one.0"].count == 2
    assert graph["three.0"].count == 1
    # The second of the folded ones is read where the first is drawn.
    assert reads(graph, "(add)") == [("one.1", "flow"), ("three.1", "skip")]


def test_several_inputs_and_a_model_without_layers() -> None:
    class Sum(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x + y

    graph = layer_graph(nn.Sequential(), (3, 8, 8))
    assert [box.name for box in graph.boxes][:1] == ["input"]
    graph = layer_graph(Sum(), ((3, 8, 8), (3, 8, 8)))
    assert [arrow.source for arrow in graph.arrows] == ["input", "input#2"]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_layers_that_take_steps_first_have_their_steps(cell: str) -> None:
    """(T, B, H) is T rows of H, as (B, T) is T numbers."""
    graph = layer_graph("char_rnn", (16,), cell=cell)
    assert {box.name: box.output_shape for box in graph.boxes} == {
        "input": (16,), "embedding": (16, 64), "rnn": (16, 256), "dropout": (16, 256), "decoder": (16, 96),
    }  # fmt: skip


def test_attention_that_takes_steps_first_has_its_steps() -> None:
    class Steps(nn.Module):
        def __init__(self, batch_first: bool) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
            self.encoder, self.first = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), batch_first

        def forward(self, x: Any) -> Any:
            return self.encoder(x) if self.first else self.encoder(x.transpose(0, 1)).transpose(0, 1)

    graphs = [layer_graph(Steps(batch_first), (5, 8)) for batch_first in (True, False)]
    shapes = [[(box.name, box.output_shape) for box in graph.boxes] for graph in graphs]
    assert shapes[0] == shapes[1]
    assert dict(shapes[1])["encoder.layers.0.linear1"] == (5, 16)
    assert [block.count for block in graphs[0].blocks] == [block.count for block in graphs[1].blocks]


def test_the_model_is_only_read() -> None:
    model = gn.models.lenet()
    before = {key: value.numpy().copy() for key, value in model.state_dict().items()}
    layer_graph(model.train())
    assert model.training
    assert all((model.state_dict()[key].numpy() == value).all() for key, value in before.items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("depth", [0, -1, 1.5, True, "2"])
def test_bad_depth(depth: Any) -> None:
    with pytest.raises(ValueError, match="depth: must be a whole number of at least 1 or None"):
        layer_graph("lenet", depth=depth)


def test_unknown_names() -> None:
    with pytest.raises(gn.models.UnknownModelError, match="resnet18"):
        layer_graph("resnet17")
    with pytest.raises(KeyError, match="no box 'conv9'"):
        layer_graph("lenet")["conv9"]


def test_a_model_on_several_devices_without_an_exchange_has_one_column() -> None:
    class Spread(nn.Sequential):
        _device_span = 2

    graph = layer_graph(Spread(nn.Conv2d(1, 2, 3), nn.ReLU()), (1, 5, 5))
    assert graph.towers == 1
    assert {arrow.kind for arrow in graph.arrows} == {"flow"}
