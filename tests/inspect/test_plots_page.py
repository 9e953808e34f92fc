"""docs/plots.md: its programs run, and each picture of lecture notes that it promises can be drawn."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from pathlib import Path

import pytest

import gpunet as gn

pytest.importorskip("matplotlib")
PAGE = Path(__file__).parents[2] / "docs" / "plots.md"
if not PAGE.is_file():
    pytest.skip("the page is not beside the tests", allow_module_level=True)

# B92: what the notes' figures show, and a text that is on its picture.
IDEAS = {
    "a window moves over an image": "output 5×5",
    "stride and padding": "output 4×4",
    "a stack of convolutions": "3×3: sees 7×7",
    "an image becomes a small tensor": "16×5×5",
    "AlexNet's towers": "→ copied to the other device",
    "VGG": "512×7×7",
    "an inception block": "256×28×28",
    "a residual block": "BatchNorm2d + add + ReLU",
    "a dense block": "192×56×56",
}


def rows() -> dict[str, str]:
    table = PAGE.read_text(encoding="utf-8").split("## The pictures of lecture notes")[1]
    found = re.findall(r"^\| ([^|]+) \| (.+) \|$", table, re.MULTILINE)
    return {idea: cell for idea, cell in found if idea != "idea"}


def test_programs_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    (tmp_path / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path("page.py")
    assert "tower0.pool2 -> tower1.conv3\n" in printed.getvalue()
    for line in re.findall(r"print\(.*\)  # (.+)$", "\n".join(blocks), re.MULTILINE):
        assert line in printed.getvalue()
    written = {path.name for path in tmp_path.iterdir()} - {"page.py"}
    assert written == set(re.findall(r'"(\w+\.(?:svg|png))"', "\n".join(blocks)))
    for path in tmp_path.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
    for path in tmp_path.glob("*.svg"):
        assert b"<svg " in path.read_bytes()[:600]


@pytest.mark.parametrize("idea", IDEAS)
def test_every_idea_of_the_notes_has_a_picture(idea: str, tmp_path: Path) -> None:
    """B92: one figure per idea, drawn without a window."""
    code = re.findall(r"`([^`]+)`", rows()[idea])
    code = next(one for one in reversed(code) if one.endswith(")"))
    program = tmp_path / "figure.py"
    program.write_text(f"from gpunet.inspect import *\nfigure = {code}\n", encoding="utf-8")
    figure = runpy.run_path(str(program), {"gn": gn})["figure"]
    shown = [text.get_text() for axes in figure.axes for text in [axes.title, *axes.texts]]
    assert any(text == IDEAS[idea] or text.endswith(IDEAS[idea]) for text in shown), shown
    figure.savefig(io.BytesIO(), format="png", dpi=20)


def test_no_idea_is_forgotten() -> None:
    assert set(rows()) == set(IDEAS) | {"colour kernels"}
