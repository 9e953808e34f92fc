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
from matplotlib.text import Text

PAGE = Path(__file__).parents[2] / "docs" / "plots.md"
if not PAGE.is_file():
    pytest.skip("the page is not beside the tests", allow_module_level=True)

# B92: what the notes' figures show, and a text that is on its picture.
IDEAS = {
    "a window moves over an image": "output 5×5",
    "stride and padding": "output 4×4",
    "a stack of convolutions": "3×3: sees 7×7",
    "a colour image becomes one map": "their sum: one map",
    "where the gradient of x3 comes from": "dL/dx3 = δ1 w3 + δ2 w2 + δ3 w1 = (1)(2) + (2)(-1) + (-1)(0.5) = -0.5",
    "a blur, and other filters": "blur\nsum 1",
    "an image becomes a small tensor": "16×5×5",
    "the parameters of AlexNet's arrows": "6*6*128*2*2048*2 = 37,748,736 (+4,096 biases)",
    "AlexNet's towers": "→ copied to the other device",
    "VGG": "512×7×7",
    "VGG's memory and parameters": "parameters: 138,357,544 in all",
    "two 3x3 for one 5x5": "3*3*128*128 + 3*3*128*128 = 294,912",
    "a 1x1 convolution": "0.333",
    "1x1 before 3x3 saves parameters": "1*1*128*32 + 3*3*32*128 = 40,960",
    "a small network in place of a kernel": "96×32×32",
    "global average pooling": "5×10×10 → 5×1×1",
    "an inception block": "256×28×28",
    "deeper plain networks train worse": "residual, 32 layers",
    "a residual block": "BatchNorm2d + add + ReLU",
    "a shortcut that changes the channels": "512×7×7",
    "a bottleneck": "256×56×56",
    "a dense block": "192×56×56",
    "a computational graph": "value -12\\ngrad 1",
    "a learning rate too small and too large": "lr 2.1: w = 6.727 after 20 steps",
    "the valley of a loss": "lr 0.02",
    "the family of the optimizers": "NAdam (2016)",
    "the race of the optimizers": "AdaDelta",
    "densities and a likelihood": "μ = 1: 0.3989 at x0",
    "a recurrent network unrolled": "x4",
    "the product that vanishes or explodes": "w = 0.9 product",
    "the gates of an LSTM": "o: what goes out",
}


def rows() -> dict[str, str]:
    table = PAGE.read_text(encoding="utf-8").split("## The pictures of lecture notes")[1]
    found = re.findall(r"^\| ([^|]+) \| (.+) \|$", table, re.MULTILINE)
    return {idea: cell for idea, cell in found if idea != "idea"}


def test_programs_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 10
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
    program.write_text(f"from gpunet.inspect import *\nimport numpy as np\nfigure = {code}\n", encoding="utf-8")
    figure = runpy.run_path(str(program), {"gn": gn})["figure"]
    if isinstance(figure, str):  # a graph as text
        assert IDEAS[idea] in figure
        return
    shown = [text.get_text() for text in figure.findobj(match=Text)]
    assert any(text == IDEAS[idea] or text.endswith(IDEAS[idea]) for text in shown), shown
    figure.savefig(io.BytesIO(), format="png", dpi=20)


def test_no_idea_is_forgotten() -> None:
    assert set(rows()) == set(IDEAS) | {"colour kernels"}
