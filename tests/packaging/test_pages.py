"""The programs in pages of the documentation run as they are written, each page's from top to bottom."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gpunet as gn
from gpunet.cli.entry import make_parser

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = gn.get_float32_matmul_precision()
    yield
    gn.set_float32_matmul_precision(before)


def programs(page: str) -> list[str]:
    found = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return found


def run(code: str, names: dict[str, Any]) -> None:
    exec(compile(code, "page", "exec"), names)  # noqa: S102 (the page is ours)


def test_weights(capsys: pytest.CaptureFixture[str]) -> None:
    gn.save(gn.models.resnet18().state_dict(), "resnet18-f37072fd.pth")
    names: dict[str, Any] = {}
    for code in programs("weights.md"):
        run(code, names)
    # The model's own file stands in for torchvision's.
    assert capsys.readouterr().out.strip() in programs("weights.md")[0]
    with pytest.raises(FileNotFoundError) as caught:
        gn.models.load_weights(names["model"], "resnet50.pth")
    assert not isinstance(caught.value, gn.CheckpointError)


def test_profiling(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for code in programs("profiling.md"):
        run(code, names)
    assert capsys.readouterr().out.count("conv2d") > 3
    assert Path("trace.json").stat().st_size > 1000


@pytest.mark.parametrize("name", ["attention.md", "recurrent.md", "sequences.md"])
def test_programs_print_what_stands_below_them(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / name).read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(found) == len(programs(name))
    names: dict[str, Any] = {}
    for code, printed in found:
        run(code, names)
        assert capsys.readouterr().out == printed


def test_language_models(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for code in programs("language_models.md"):
        run(code, names)
    printed = capsys.readouterr().out
    assert re.search(r"^\d\.\d\d bits per character$", printed, re.MULTILINE)
    page = (DOCS / "language_models.md").read_text(encoding="utf-8")
    commands = re.findall(r"^gpunet (.*)$", page, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(command)
        make_parser(words[0]).parse_args(words)


def test_precision() -> None:
    first, *others = programs("precision.md")
    run(first, {})
    assert gn.get_float32_matmul_precision() == "highest"
    assert [code.split()[:2] for code in others] == [["import", "torch"]]


@pytest.mark.parity
def test_precision_beside_torch() -> None:
    names: dict[str, Any] = {}
    for code in programs("precision.md"):
        run(code, names)
    assert not names["torch"].backends.cudnn.allow_tf32
    assert not names["torch"].backends.cuda.matmul.allow_tf32
