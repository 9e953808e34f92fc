"""docs/zoo.md: its table is what the models are, its programs run, and the figures in it are the models'.

``python tests/models/test_zoo_page.py`` writes the table anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gpunet as gn
from gpunet.cli.models import describe
from gpunet.models import list_models
from gpunet.models._published import published

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
BEGIN, END = "<!-- models: begin -->", "<!-- models: end -->"


def models_table() -> str:
    """One line for each model of images, from the model as it is built and from the published weights."""
    lines = [
        "| model | image | parameters | multiply-adds | ImageNet top-1, % | recipes | paper |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for name in list_models("image"):
        found = describe(name)
        citation = re.fullmatch(r'(\w+)(.*) (\d{4}) \(".*"\)', found["paper"])
        assert citation, f"{name}: {found['paper']!r}"
        first, others, year = citation.groups()
        paper = f"{first}{' et al.' if ',' in others else others} {year}"
        best = [f"{row.top1:.1f}" for row in published(name) if row.top1]
        cells = [
            f"`{name}`",
            "x".join(map(str, found["input"])),
            f"{found['params']:,}",
            f"{found['macs']:,}",
            ", ".join(best),
            ", ".join(found["recipes"]),
            paper,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page() -> str:
    if not PAGE.is_file():
        pytest.skip("the documentation is not beside the tests")
    return PAGE.read_text(encoding="utf-8")


def test_the_table_is_what_the_models_are() -> None:
    written = page().split(BEGIN)[1].split(END)[0].strip()
    assert written == models_table(), f"run python {Path(__file__).name} to write it anew"


def test_its_programs_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    programs = re.findall(r"```python\n(.*?)```", page(), re.DOTALL)
    assert programs
    for program in programs:
        exec(compile(program, str(PAGE), "exec"), names)  # noqa: S102 (the page is ours)


def test_figures_in_the_text() -> None:
    """Rows B17, B73 and B77: what the page says is what the built models have."""
    text = page()

    def params(name: str, **options: object) -> int:
        with gn.device("meta"):
            return sum(p.numel() for p in gn.models.get_model(name, **options).parameters())

    for count in (
        params("alexnet2012_grouped"),
        params("alexnet2012_grouped", groups=1),
        params("googlenet_paper", aux_logits=False),
        params("cifar_densenet40_12"),
        params("cifar_densenet40_12", num_init_features=24),
        params("preact_resnet50"),
        params("resnet50"),
        3 * 3 * 3 * 64,
        6 * 6 * 256 * 4096,
        13 * 13 * 128 * 2048 * 2,
        13 * 13 * 128 * 2 * 2048 * 2,
        55 * 55 * 96,
        gn.inspect.summary("resnet50").total_macs - gn.inspect.summary("resnet50_v1").total_macs,
    ):
        assert f"{count:,}" in text


if __name__ == "__main__":
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{models_table()}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")
