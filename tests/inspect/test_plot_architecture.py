"""Pictures of architectures: what is on them, that they are the same each time, and what is refused."""

from __future__ import annotations

import functools
import itertools
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

import gpunet as gn
from gpunet import nn
from gpunet.inspect import LayerGraph, PlotUnavailableError, layer_graph, pictures, plot_architecture
from gpunet.inspect.graph_layout import layout

pytest.importorskip("matplotlib")

SVG = "{http://www.w3.org/2000/svg}"


@functools.cache
def picture(name: str, **options: Any) -> Any:
    return plot_architecture(name, **options)


def named(figure: Any, kind: str) -> dict[str, Any]:
    """The figure's artists whose name begins with a word, by the rest of the name."""
    found = [artist for artist in figure.findobj() if str(artist.get_gid() or "").startswith(f"{kind} ")]
    names = {artist.get_gid().removeprefix(f"{kind} "): artist for artist in found}
    assert len(names) == len(found)
    return names


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def bounds(box: Any) -> tuple[float, float, float, float]:
    return box.get_x(), box.get_y(), box.get_x() + box.get_width(), box.get_y() + box.get_height()


def ends(arrow: Any) -> tuple[Any, Any]:
    """Where an arrow begins and ends."""
    vertices = arrow._path_original.vertices
    return vertices[0], vertices[-1]


@pytest.mark.parametrize("name", ["alexnet2012", "resnet18", "googlenet", "nin_cifar10", "vgg16"])
def test_a_box_for_each_layer_and_an_arrow_for_each_reading(name: str) -> None:
    """B92: alexnet1, vggnet, resnet1-4, inception_block."""
    figure, graph = picture(name), layer_graph(name)
    boxes = named(figure, "box")
    assert list(boxes) == [box.name for box in graph.boxes]
    for kind in ("flow", "skip", "concat", "crossing"):
        arrows = [f"{arrow.source} to {arrow.target}" for arrow in graph.arrows_of(kind)]
        assert list(named(figure, kind)) == arrows
    shapes = texts(figure)
    for box in graph.boxes:
        shape = "×".join(map(str, box.output_shape or ()))
        assert sum(text == shape for text in shapes) >= sum(
            other.output_shape == box.output_shape for other in graph.boxes
        )
    # Every arrow goes from the border of its source to that of its target, and down.
    for arrow in graph.arrows:
        drawn = named_arrow(figure, arrow.kind, f"{arrow.source} to {arrow.target}")
        (x0, y0), (x1, y1) = ends(drawn)
        assert y0 < y1
        for (x, y), box in (((x0, y0), boxes[arrow.source]), ((x1, y1), boxes[arrow.target])):
            left, top, right, bottom = bounds(box)
            assert left - 1e-9 <= x <= right + 1e-9
            assert top - 1e-9 <= y <= bottom + 1e-9
            assert min(abs(x - left), abs(x - right), abs(y - top), abs(y - bottom)) < 1e-9


@functools.cache
def _arrows(figure: Any, kind: str) -> dict[str, Any]:
    return named(figure, kind)


def named_arrow(figure: Any, kind: str, name: str) -> Any:
    return _arrows(figure, kind)[name]


@pytest.mark.parametrize(
    ("name", "options"),
    # Folded, the deepest ones are as their shallow twins.
    [(name, {}) for name in gn.models.list_models() if not re.search("1001|1202", name)]
    + [("googlenet_paper", {"training": True}), ("resnet152", {"fold": False})],
)  # fmt: skip
def test_boxes_lie_apart_and_below_what_they_read(name: str, options: dict[str, Any]) -> None:
    graph = layer_graph(name, **options)
    places = layout(graph)
    assert len(places.column) == len(places.row) == len(graph.boxes)
    assert all(places.row[arrow.source] < places.row[arrow.target] for arrow in graph.arrows)
    rows: dict[int, list[float]] = {}
    for box, row in places.row.items():
        rows.setdefault(row, []).append(places.column[box])
    for columns in rows.values():
        columns.sort()
        assert all(right - left > 0.999 for left, right in itertools.pairwise(columns))
    assert min(places.column.values()) >= places.left + 0.5
    assert max(places.column.values()) <= places.right - 0.5
    # Nothing lies on the straight way of an arrow that does not go round.
    taken = {(places.row[box], places.column[box]) for box in places.row}
    for arrow in graph.arrows:
        if (arrow.source, arrow.target) not in places.passing:
            column = places.column[arrow.source]
            between = range(places.row[arrow.source] + 1, places.row[arrow.target])
            assert not [row for row in between if (row, column) in taken], arrow


def test_two_towers_with_crossings() -> None:
    """B68 to B75, B92: two columns, and seven magenta arrows from one to the other."""
    figure = picture("alexnet2012")
    columns = {name: (box.get_x(), name.split(".")[0]) for name, box in named(figure, "box").items()}
    places = {tower: {x for x, head in columns.values() if head == tower} for tower in ("tower0", "tower1")}
    assert len(places["tower0"]) == len(places["tower1"]) == 1
    assert places["tower0"] != places["tower1"]
    crossings = named(figure, "crossing")
    assert len(crossings) == 7
    middle = figure.get_size_inches()[0] / 2
    for name, arrow in crossings.items():
        (x0, _), (x1, _) = ends(arrow)
        assert (x0 < middle) == name.startswith("tower0.")
        assert abs(x1 - middle) < 1e-9 if name.endswith("fc8") else (x1 < middle) != (x0 < middle)
        assert arrow.get_edgecolor() != named(figure, "flow")["input to tower0.conv1"].get_edgecolor()
    assert "→ copied to the other device" in texts(figure)


def test_branches_of_inception_lie_side_by_side() -> None:
    """A6, B92."""
    boxes = named(picture("googlenet"), "box")
    heads = ["branch1.conv", "branch2.0.conv", "branch3.0.conv", "branch4.0"]
    places = [bounds(boxes[f"inception3a.{head}"]) for head in heads]
    assert len({top for _, top, _, _ in places}) == 1
    assert all(right < left for (_, _, right, _), (left, _, _, _) in itertools.pairwise(places))
    frame = bounds(named(picture("googlenet"), "block")["inception3a"])
    for name, box in boxes.items():
        left, top, right, bottom = bounds(box)
        inside = frame[0] < left and frame[1] < top and right < frame[2] and bottom < frame[3]
        assert inside == name.startswith("inception3a.")


def test_skips_go_round_their_layers() -> None:
    """A7, B92: eight of them; an identity passes the block's boxes by, a projection has boxes of its own."""
    figure = plot_architecture("resnet18", fold=False)
    skips, boxes = named(figure, "skip"), named(figure, "box")
    assert len(skips) == 8
    identity = skips["layer2.0.bn2 to layer2.1.bn2"]
    right = identity._path_original.vertices[:, 0].max()
    assert all(bounds(boxes[f"layer2.1.{layer}"])[2] < right for layer in ("conv1", "bn1", "conv2", "bn2"))
    assert bounds(boxes["layer2.0.conv1"])[2] < bounds(boxes["layer2.0.downsample.0"])[0]


def test_folded_blocks_say_how_many() -> None:
    """A7: resnet152's stages 2, 8 - 1, 36 - 1."""
    shown = texts(picture("resnet152"))
    assert "layer3.1 · Bottleneck × 35" in shown
    assert "layer2.1 · Bottleneck × 7" in shown
    assert "layer4.0 · Bottleneck" in shown
    assert len(named(picture("resnet152"), "box")) < 70


def test_dense_blocks_join() -> None:
    """A10, B92: a join behind each of the 58 dense layers of densenet121, drawn as blocks."""
    figure = picture("densenet121", depth=3)
    assert len(named(figure, "box")) == 1 + 4 + 58 * 2 + 3 * 3 + 4
    assert len(named(figure, "concat")) == 58 * 2
    assert "features.denseblock3 · DenseBlock" in texts(figure)


def test_folded_dense_layers_say_what_they_add() -> None:
    """A10: densenet121's blocks of 6, 12, 24 and 16, on a picture that one can look at."""
    figure = picture("densenet121")
    assert figure.get_size_inches()[1] < 25
    shown = texts(figure)
    for block, (count, first, last) in enumerate([(6, 96, "256×56"), (12, 160, "512×28"), (24, 288, "1024×14")], 1):
        name = f"features.denseblock{block}.denselayer1 … denselayer{count}"
        assert f"{name}\nDenseLayer × {count}, +32 channels each" in shown
        assert f"{first} … {last}×{last.partition('×')[2]}" in shown
    # Names are cut at a dot.
    assert "…denseblock1.denselayer1.norm1" in shown
    assert not [text for text in shown if "…res." in text]


def test_layers_that_take_steps_first_are_drawn_with_their_steps() -> None:
    shapes = [text for text in texts(plot_architecture("char_rnn", input_size=(16,))) if re.fullmatch(r"[\d×]+", text)]
    assert shapes == ["16", "16×64", "16×256", "16×256", "16×96"]


def test_long_names_keep_their_ends() -> None:
    model: nn.Module = nn.Sequential(nn.Conv2d(1, 1, 1))
    for name in ("inner", "a_module_with_a_rather_long_name", "outermost"):
        outer = nn.Sequential()
        outer.add_module(name, model)
        model = outer
    long = nn.Sequential()
    long.add_module("x" * 60 + "end", nn.ReLU())
    assert "…inner.0" in texts(plot_architecture(model, input_size=(1, 2, 2)))
    assert "…" + "x" * 30 + "end" in texts(plot_architecture(long, input_size=(1, 2, 2)))


def test_the_input_has_two_lines_around_its_middle() -> None:
    figure = picture("lenet")
    _, top, _, bottom = bounds(named(figure, "box")["input"])
    lines = [text for text in figure.axes[0].texts if top < text.get_position()[1] < bottom]
    assert [text.get_text() for text in lines] == ["input", "1×32×32"]
    places = [text.get_position()[1] for text in lines]
    assert places[1] - places[0] < 0.13
    assert sum(places) / 2 == pytest.approx((top + bottom) / 2)


def test_small_models_and_titles() -> None:
    """B92: stack_of_convolutions, for a model of one's own."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 8, 3, stride=2))
    figure = plot_architecture(model, input_size=(1, 9, 9), title="a stack")
    shown = texts(figure)
    assert shown[0] == "a stack"
    assert [text for text in shown if re.fullmatch(r"\d+×\d+×\d+", text)] == ["1×9×9", "4×7×7", "4×5×5", "8×2×2"]
    assert "Conv2d 3×3, stride 2" in shown
    assert texts(plot_architecture(model, input_size=(1, 9, 9)))[0] == "Sequential"
    assert "title" not in [text.get_gid() for text in plot_architecture(model, None, (1, 9, 9), title="").axes[0].texts]


# Files -------------------------------------------------------------------------------------------------------------


def test_svg_is_the_same_each_time_and_its_text_is_text(tmp_path: Path) -> None:
    figure = plot_architecture("lenet", tmp_path / "a.svg")
    plot_architecture("lenet", str(tmp_path / "b.SVG"))
    first = (tmp_path / "a.svg").read_bytes()
    assert first == (tmp_path / "b.SVG").read_bytes()
    assert b"date" not in first
    root = ElementTree.fromstring(first)
    written = {"".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")}
    assert {"lenet", "Conv2d 5×5", "16×10×10"} <= written
    ids = [group.get("id") for group in root.iter(f"{SVG}g")]
    assert {f"box {box.name}" for box in layer_graph("lenet").boxes} <= set(ids)
    assert len(first) < 40_000
    assert type(figure).__name__ == "Figure"


def test_the_callers_settings_do_not_matter(tmp_path: Path) -> None:
    matplotlib = sys.modules["matplotlib"]
    plot_architecture("lenet", tmp_path / "a.svg")
    with matplotlib.rc_context({"savefig.bbox": "tight", "savefig.facecolor": "black", "svg.hashsalt": "other"}):
        plot_architecture("lenet", tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_png_has_the_figures_size(tmp_path: Path) -> None:
    Image = pytest.importorskip("PIL.Image")
    figure = plot_architecture("lenet", tmp_path / "a.png", title="x")
    plot_architecture("lenet", tmp_path / "b.png", title="x")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        width, height = figure.get_size_inches() * 150
        assert abs(image.width - width) <= 1
        assert abs(image.height - height) <= 1
        assert image.convert("L").getextrema() == (0, 255)


def test_very_long_pictures_fit_into_a_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Agg draws at most 2^16 pixels a side; the limit is lowered, so that little need be drawn."""
    Image = pytest.importorskip("PIL.Image")
    assert pictures.LONGEST_SIDE < 2**16
    monkeypatch.setattr(pictures, "LONGEST_SIDE", 3000)
    figure = plot_architecture(nn.Sequential(*[nn.ReLU() for _ in range(40)]), tmp_path / "long.png", (1, 2, 2))
    assert figure.get_size_inches()[1] * 150 > 3_500
    with Image.open(tmp_path / "long.png") as image:
        assert 2_900 < image.height <= 3_000


def test_no_window_and_no_pyplot(tmp_path: Path) -> None:
    before = "matplotlib.pyplot" in sys.modules
    matplotlib = sys.modules["matplotlib"]
    salt = matplotlib.rcParams["svg.hashsalt"], matplotlib.rcParams["svg.fonttype"]
    plot_architecture("lenet", tmp_path / "a.svg")
    assert ("matplotlib.pyplot" in sys.modules) == before
    assert (matplotlib.rcParams["svg.hashsalt"], matplotlib.rcParams["svg.fonttype"]) == salt


# Bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["a.gif", "a", "a.svg.txt", ""])
def test_unknown_suffix(path: str) -> None:
    with pytest.raises(ValueError, match=r"path: must end in \.svg or \.png, got"):
        plot_architecture("no such model", path)  # before any work


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="path: there is no folder"):
        plot_architecture("lenet", tmp_path / "nowhere" / "a.svg")
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        plot_architecture("lenet", tmp_path / "folder.svg")
    with pytest.raises(TypeError, match="path: must be a path or None, got int"):
        plot_architecture("lenet", 3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="path: there is no folder"):
        plot_architecture("lenet", tmp_path / "folder.svg" / "no" / "a.svg")


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"path: cannot write .*a\.svg: No space left on device"):
        plot_architecture("lenet", tmp_path / "a.svg")


def test_bad_models() -> None:
    with pytest.raises(gn.models.UnknownModelError, match="resnet18"):
        plot_architecture("resnet17")
    with pytest.raises(TypeError, match="model: must be a Module or the name of one, got int"):
        plot_architecture(3)  # type: ignore[arg-type]
    with pytest.raises(gn.ShapeError, match=r"in layer features\.20"):
        plot_architecture("vgg11", input_size=(3, 20, 20))
    with pytest.raises(ValueError, match="input_size: must be whole numbers"):
        plot_architecture("vgg11", input_size=(3, 0, 20))
    with pytest.raises(ValueError, match="depth: must be a whole number of at least 1"):
        plot_architecture("vgg11", depth=0)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(PlotUnavailableError, match=r"pip install 'gpunet\[plot\]'"):
        plot_architecture("no such model")  # before any work


def test_branches_that_are_tangled_still_lie_apart() -> None:
    """Neither in series nor side by side: both halves of the first row read into both of the second."""
    names = ["input", "a", "b", "c", "d", "end"]
    pairs = [("input", "a"), ("input", "b"), ("a", "c"), ("b", "c"), ("a", "d"), ("b", "d"), ("c", "end"), ("d", "end")]
    graph = LayerGraph(
        "tangled",
        tuple(gn.inspect.Box(name, "op", "", (1,)) for name in names),
        tuple(gn.inspect.Arrow(*pair) for pair in sorted(pairs, key=lambda pair: names.index(pair[1]))),
    )
    places = layout(graph)
    assert [places.row[name] for name in names] == [0, 1, 1, 2, 2, 3]
    assert len({(places.row[name], places.column[name]) for name in names}) == len(names)


def test_branches_within_a_tower_get_columns_of_their_own() -> None:
    pairs = [("input", "a"), ("input", "b"), ("a", "a1"), ("a", "a2"), ("a1", "end"), ("a2", "end"), ("b", "end")]
    towers = {"input": 0, "a": 0, "b": 1, "a1": 0, "a2": 0, "end": 0}
    boxes = tuple(gn.inspect.Box(name, "op", "", (1,), tower=tower) for name, tower in towers.items())
    places = layout(LayerGraph("wide", boxes, tuple(gn.inspect.Arrow(*pair) for pair in pairs), towers=2))
    assert len({(places.row[name], places.column[name]) for name in towers}) == len(towers)


def test_auxiliary_heads_lie_beside_a_straight_trunk() -> None:
    """A6: in training two heads leave the trunk behind 4a and 4d; its blocks stay under each other."""
    graph = layer_graph("googlenet_paper", training=True)
    places = layout(graph)
    trunk = [box.name for box in graph.boxes if box.merge or re.match(r"input|maxpool|avgpool|fc$", box.name)]
    assert len(trunk) == 1 + 9 + 4 + 2
    assert {places.column[name] for name in trunk} == {0.0}
    branches = [places.column[box.name] for box in graph.boxes if box.name.startswith("inception")]
    assert (min(branches), max(branches)) == (-1.5, 1.5)
    heads = {places.column[box.name] for box in graph.boxes if box.name.startswith("aux")}
    assert len(heads) == 2
    assert max(heads) < -2
    assert places.right - places.left <= 6.0
