"""``gpunet summary`` and the table of ``gpunet models``: what they print, and what they refuse."""

from __future__ import annotations

import csv
import html.parser
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gpunet as gn
from gpunet.cli.models import paper
from gpunet.data import get_dataset
from gpunet.models import list_models
from gpunet.training import Recipe, RunFolder, TrainingConfig, describe_run, evaluation_transform

FACTS = Path(__file__).parents[1] / "models" / "facts"


def test_the_table_of_a_model(gpunet: Callable[..., Any]) -> None:
    """A4: torchvision's AlexNet."""
    done = gpunet("summary", "alexnet")
    assert (done.code, done.err) == (0, "")
    assert re.search(r"^  features\.0 +Conv2d +64x55x55 +23,296 +0\.0 +70,276,800 ", done.out, re.MULTILINE)
    assert "parameters       61,100,840" in done.out
    assert "multiply-adds    714,188,480" in done.out


def test_depth_folds_what_is_deeper(gpunet: Callable[..., Any]) -> None:
    """A7: the stages of resnet18."""
    out = gpunet("summary", "resnet18", "--depth", 1).out
    assert re.search(r"^layer2 +Sequential +128x28x28 +525,568 +4\.5 +411,041,792 ", out, re.MULTILINE)
    assert "layer2.0" not in out


@pytest.mark.parametrize(
    ("name", "size", "params"),
    [
        ("lenet", "1,28,28", 61706),  # padded by 2, it ends as 16 maps of 5x5 all the same
        ("lenet", "3,32,32", 61706 + 2 * 25 * 6),
        ("cifar_resnet20", "1,32,32", 269722 - 2 * 9 * 16),  # no input_size
    ],
)
def test_a_model_is_made_for_the_input(gpunet: Callable[..., Any], name: str, size: str, params: int) -> None:
    done = gpunet("summary", name, "--input", size, "--params", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["input_shapes"] == [[1, *map(int, size.split(","))]]
    assert done.json["total_params"] == done.json["params"]["total"] == params


def test_one_json_object(gpunet: Callable[..., Any]) -> None:
    done = gpunet("summary", "lenet", "--json", "--num-classes", 7, "--batch", 2, "--params")
    assert len(done.out.splitlines()) == 1
    document = done.json
    assert document["command"] == "summary"
    assert document["input_shapes"] == [[2, 1, 32, 32]]
    assert document["output_shape"] == [2, 7]
    assert document["params"]["total"] == document["total_params"] == 61706 - 85 * 3


def test_products_of_the_parameters(gpunet: Callable[..., Any]) -> None:
    """B68."""
    out = gpunet("summary", "alexnet2012", "--params", "--depth", 1).out
    assert "11*11*3*48*2 = 34,848 (+96 biases)" in out


def test_the_network_of_a_run(gpunet: Callable[..., Any], trained_run: Path) -> None:
    """8x8 images of one channel in ten classes, as it was trained on them: no option says so."""
    done = gpunet("summary", trained_run, "--json", "--params")
    assert (done.code, done.err) == (0, "")
    assert (done.json["name"], done.json["run"]) == ("cifar_resnet20", str(trained_run))
    assert (done.json["input_shapes"], done.json["output_shape"]) == ([[1, 1, 8, 8]], [1, 10])
    weights = 269_722 - 2 * 9 * 16  # with one channel in place of three
    assert done.json["total_params"] == done.json["params"]["total"] == weights
    shown = gpunet("summary", trained_run).out
    assert shown.startswith(f"cifar_resnet20 of the run {trained_run} (")
    done = gpunet("summary", trained_run, "--input", "1,16,16", "--json")
    assert done.json["input_shapes"] == [[1, 1, 16, 16]]
    for options, named in (
        (("--num-classes", 7), "argument --num-classes: is for a model by name; a run has its own"),
        (("--input", 64), "argument --input: cifar_resnet20 takes images"),
        (("--input", "3,8,8"), "input must have 1 channel"),
    ):
        failed = gpunet("summary", trained_run, *options)
        assert failed.code == 2
        assert named in failed.one_error()


def test_the_input_of_a_run_is_what_comes_to_the_model(gpunet: Callable[..., Any]) -> None:
    """Grey images become RGB for a model that takes nothing else, after they were scaled and cut."""
    config = TrainingConfig(model="resnet18", recipe=Recipe(resize=40, crop=33))
    splits = get_dataset("digits")
    RunFolder.create("here", describe_run(config, splits, gn.device("cpu"))).unlock()
    prepared = evaluation_transform(config.recipe, splits.info, "resnet18")(splits.test[0][0])
    done = gpunet("summary", "here", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["input_shapes"] == [[1, *prepared.shape]] == [[1, 3, 33, 33]]
    assert done.json["total_params"] == 11_689_512 - 513_000 + 5_130  # torchvision's, with ten classes


def test_a_folder_that_is_no_run(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    failed = gpunet("summary", "empty")
    assert failed.code == 2
    assert "argument MODEL: empty is not a run folder: it holds no config.json" in failed.one_error()
    (tmp_path / "lenet").mkdir()  # a model's name is the model
    assert gpunet("summary", "lenet", "--json").json["total_params"] == 61_706
    failed = gpunet("summary", "./lenet")
    assert failed.code == 2
    assert "argument MODEL: lenet is not a run folder" in failed.one_error()


class _Cells(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("br", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_html_is_written_to_a_file(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    done = gpunet("summary", "vgg11", "--html", tmp_path / "vgg.html")
    assert done.code == 0
    cells = _Cells()
    cells.feed((tmp_path / "vgg.html").read_text(encoding="utf-8"))
    assert cells.open == []
    assert {"features.0", "64x224x224", "1,792", "86,704,128"} <= set(cells.texts)


def test_layers_are_drawn_to_a_file(gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("matplotlib")
    done = gpunet("summary", "resnet18", "--plot", "net.svg", "--depth", 2, "--num-classes", 7, "--input", "3,64,64")
    assert (done.code, done.err) == (0, "")
    assert "drawn to net.svg" in done.out
    picture = (tmp_path / "net.svg").read_text(encoding="utf-8")
    assert picture.count('<g id="box ') == 1 + 3 + 8 + 2
    assert ">64×16×16</text>" in picture
    done = gpunet("summary", "lenet", "--plot", "net.png", "--depth", 0, "--json")
    assert done.json["command"] == "summary"
    assert (tmp_path / "net.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    done = gpunet("summary", "lenet", "--plot", "other.svg")
    assert done.code == 2
    assert "argument --plot: the plot needs Matplotlib" in done.one_error()
    assert not (tmp_path / "other.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["resnet5"], "unknown model 'resnet5'; did you mean resnet50"),
        (["vgg11", "--input", "3,20,20"], "in layer features.20 (MaxPool2d)"),
        (["vgg11", "--input", "1,224,224"], "input must have 3 channels"),
        (["vgg11", "--input", "3,0,20"], "expected sizes of at least 1 such as 3,224,224 (channels, height, width), "),
        (["vgg11", "--input", "3,0,20"], ", got '3,0,20'"),
        (["lenet", "--input", "28,28"], "--input: expected sizes"),
        (["lenet", "--input", "1,3,3"], "lenet: input_size: must be at least 4, got 3"),
        (["lenet", "--input", "1,28,20"], "in layer fc1 (Linear)"),
        (["resnet19", "--input", "3,32,32"], "unknown model 'resnet19'"),
        (["vgg11", "--input", "three"], "expected sizes of at least 1"),
        (["vgg11", "--depth", "-1"], "--depth: expected"),
        (["vgg11", "--batch", "0"], "--batch: must be at least 1, got 0"),
        (["vgg11", "--num-classes", "0"], "--num-classes: must be at least 1, got 0"),
        (["vgg11", "--html", "nowhere/a.html"], "there is no folder nowhere"),
        (["vgg11", "--html", "."], "is a folder"),
        (["vgg11", "--plot", "a.gif"], "argument --plot: must end in .svg or .png, got 'a.gif'"),
        (["vgg11", "--plot", "nowhere/a.svg"], "argument --plot: there is no folder nowhere"),
        ([], "the following arguments are required: MODEL"),
    ],
)
def test_bad_arguments(gpunet: Callable[..., Any], arguments: list[str], text: str) -> None:
    done = gpunet("summary", *arguments)
    assert done.code == 2
    assert text in done.one_error()


def test_the_list_of_models_has_their_totals(gpunet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A1, for one model of each family."""
    names = ["alexnet", "vgg16_bn", "nin_imagenet", "resnet50", "resnet50_v1", "densenet121"]
    monkeypatch.setattr("gpunet.cli.models.list_models", lambda kind=None: names if kind is None else [])
    with (FACTS / "totals.csv").open(newline="", encoding="utf-8") as file:
        totals = {row["model"]: row for row in csv.DictReader(file)}
    lines = gpunet("models").out.splitlines()
    document = gpunet("models", "--json").json
    assert document["models"] == names == [line.split()[0] for line in lines]
    for line, entry in zip(lines, document["details"], strict=True):
        facts = totals[entry["name"]]
        assert (entry["params"], entry["macs"]) == (int(facts["params"]), int(facts["macs"]))
        assert entry["input"] == [3, 224, 224]
        assert f" {int(facts['params']):,} parameters" in line
        assert f" {int(facts['macs']) / 1e6:,.1f} M multiply-adds at 3x224x224 " in line


def test_every_model_has_its_paper() -> None:
    papers = {name: paper(name) for name in list_models()}
    assert [name for name, text in papers.items() if not re.fullmatch(r'[A-Z].+ (19|20)\d\d \(".+"\)', text)] == []
    assert papers["lenet"].startswith("LeCun, Bottou, Bengio and Haffner 1998 (")
