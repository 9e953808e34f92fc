"""Programs in the usual idiom of public PyTorch scripts: they run after changing their imports, and learn the same.

The programs stand in ``scripts``, as they would be written for PyTorch. Three names are given to them: ``digits(n)``,
images and labels; ``seeded(model)``, which gives a model the same weights in both libraries; and ``folder``, to save
in. Their random numbers come from one generator, so that the losses can be compared.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.data.digits import load_digits

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

SCRIPTS = sorted(Path(__file__).with_name("scripts").glob("*.py"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """PyTorch's threads spin while they wait: two of them on a busy machine take ten times as long for small images."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_other_imports(script: str) -> str:
    """The script with nothing changed but its imports."""
    lines = script.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"(import|from) torch\b", line):
            whole = re.fullmatch(r"import torch(\.\S+)?", line)
            lines[number] = "import gpunet as torch" if whole else line.replace("torch", "gpunet")
    return "\n".join(lines)


def same_numbers(monkeypatch: pytest.MonkeyPatch, module: Any, from_numpy: Any) -> None:
    """Let a library's normal numbers come from one generator."""
    rng = np.random.default_rng(5)

    def draw(*size: Any, device: Any = None) -> Any:
        return from_numpy(rng.standard_normal(size).astype(np.float32))

    monkeypatch.setattr(module, "randn", draw)
    monkeypatch.setattr(module, "randn_like", lambda tensor: draw(*tensor.shape))


def execute(script: str, folder: Path, from_numpy: Any) -> dict[str, Any]:
    """Run a program; everything it defined, and what it printed."""

    def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
        images, labels = load_digits()
        return images[:count], labels[:count].astype(np.int64)

    def seeded(model: Any) -> Any:
        rng = np.random.default_rng(11)
        state = {}
        for name, value in model.state_dict().items():
            shape = tuple(value.shape)
            drawn = rng.standard_normal(shape).astype(np.float32)
            if len(shape) > 1:  # weights: variance 2 / fan_in
                state[name] = from_numpy(drawn * np.float32((2 / np.prod(shape[1:])) ** 0.5))
            elif name.endswith(("weight", "bias")) or name.rpartition(".")[2].startswith("bias_"):
                state[name] = from_numpy(np.float32(name.endswith("weight")) + np.float32(0.1) * drawn)
            else:
                state[name] = value
        model.load_state_dict(state)
        return model

    folder.mkdir()
    names: dict[str, Any] = {"digits": digits, "seeded": seeded, "folder": str(folder)}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(script, "<script>", "exec"), names)  # noqa: S102
    names["printed"] = printed.getvalue()
    return names


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = path.read_text(encoding="utf-8")
    changed = [a for a, b in zip(script.splitlines(), with_other_imports(script).splitlines(), strict=True) if a != b]
    assert changed
    assert all(line.startswith(("import torch", "from torch")) for line in changed)
    same_numbers(monkeypatch, torch, torch.from_numpy)
    same_numbers(monkeypatch, gn, gn.from_numpy)
    theirs = execute(script, tmp_path / "theirs", torch.from_numpy)
    ours = execute(with_other_imports(script), tmp_path / "ours", gn.from_numpy)
    assert len(theirs["history"]) >= 3
    np.testing.assert_allclose(ours["history"], theirs["history"], rtol=2e-3, atol=2e-4)

    def shape_of(text: str) -> str:  # numbers may differ in their last digit
        return re.sub(r"\d", "0", re.sub(r"[-+]?\d+\.\d+(e[-+]\d+)?", "0.0", text))

    assert shape_of(ours["printed"]).split() == shape_of(theirs["printed"]).split()


def test_there_are_scripts() -> None:
    names = {path.stem for path in SCRIPTS}
    assert names >= {
        "mnist_main",
        "cifar_tutorial",
        "vae",
        "dcgan",
        "super_resolution",
        "resnet_main",
        "sequence_tagger",
    }
