"""Every public name that PyTorch has too is compared with it, and has a row in the compatibility table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gpunet as gn
from gpunet.testing.compatibility import (
    NO_BAD_INPUT,
    NOT_COMPARED,
    Recorder,
    compatibility_page,
    counterpart,
    public_names,
)

PAGE = Path(__file__).parents[1] / "docs" / "compatibility.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not beside the tests")
def test_every_public_name_has_a_row() -> None:
    """Without PyTorch it cannot be told which names are gpunet's own: those are listed by name on the page."""
    text = PAGE.read_text(encoding="utf-8")
    rows: set[str] = set()
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        if title == "gpunet's own":
            rows |= {f"gpunet.{name}" for name in re.findall(r"`([\w.]+)`", body)}
        else:
            rows |= {f"{title}.{name}" for name in re.findall(r"^\| `(\w+)` \|", body, re.MULTILINE)}
    missing = sorted(public_names().keys() - rows)
    assert not missing, " ".join(missing)


def test_exceptions_name_what_exists() -> None:
    assert sorted((NOT_COMPARED.keys() | NO_BAD_INPUT.keys()) - public_names().keys()) == []


def test_every_function_and_layer_is_in_the_error_catalogue(error_calls: dict[str, set[str]]) -> None:
    spaces = ("gpunet.nn", "gpunet.nn.functional", "gpunet.optim", "gpunet.optim.lr_scheduler", "gpunet.utils.data")
    names = [name for name in public_names() if name.rpartition(".")[0] in spaces]
    missing = [name for name in names if name not in error_calls and name not in NO_BAD_INPUT]
    assert not missing, " ".join(missing)


def test_the_recorder_notes_what_a_test_calls_and_nothing_else() -> None:
    x = gn.ones(2, 3, requires_grad=True)
    layer = gn.nn.Linear(3, 2)
    recorder = Recorder()
    with recorder:
        recorder.test = "first"
        layer(x)
        gn.nn.ReLU()
        recorder.test = "second"
        x.T.sum().backward()
        gn.exp(x)
    found = {name: sorted(tests) for name, tests in recorder.calls.items()}
    assert found["gpunet.nn.ReLU"] == ["first"]
    assert found["gpunet.Tensor.sum"] == found["gpunet.Tensor.T"] == found["gpunet.exp"] == ["second"]
    assert "gpunet.nn.functional.linear" not in found
    assert "gpunet.log" not in found


@pytest.mark.parity
def test_every_public_name_is_compared(parity_calls: dict[str, set[str]], request: pytest.FixtureRequest) -> None:
    page = compatibility_page(parity_calls)
    if request.config.getoption("--write-compatibility"):
        PAGE.write_text(page, encoding="utf-8")
    shared = [name for name in public_names() if counterpart(name) is not None]
    missing = [name for name in shared if name not in parity_calls and name not in NOT_COMPARED]
    assert not missing, " ".join(missing)
    if PAGE.exists():
        assert PAGE.read_text(encoding="utf-8") == page, "run pytest -m parity --write-compatibility"
