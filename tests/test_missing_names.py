"""Names that PyTorch has and gpunet does not: the errors say what to do instead, and the table tells the truth."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

import gpunet as gn
from gpunet._missing import INSTEAD
from gpunet.testing.compatibility import compatibility_page, missing_names


def _look_up(root: Any, name: str) -> Any:
    for part in name.split("."):
        root = getattr(root, part)
    return root


@pytest.mark.parametrize("name", sorted(INSTEAD))
def test_a_missing_name_says_what_to_do_instead(name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        _look_up(gn, name)
    place, _, last = name.rpartition(".")
    module = f"gpunet.{place}".rstrip(".").replace("gpunet.utils.data", "gpunet.data")
    assert str(caught.value) == f"module {module!r} has no attribute {last!r}: {INSTEAD[name]}"
    assert caught.value.name == last


# Gone from PyTorch 2, but still met in scripts.
FORMER = {"Variable", "set_deterministic"}


@pytest.mark.parity
@pytest.mark.parametrize("name", sorted(INSTEAD.keys() - FORMER))
def test_pytorch_has_what_the_table_lists(name: str) -> None:
    torch = pytest.importorskip("torch")
    missing = object()
    found = torch
    parts = name.split(".")
    for depth, part in enumerate(parts, 1):
        following = getattr(found, part, missing)
        if following is missing:  # a submodule that is not imported by itself
            assert importlib.util.find_spec(".".join(["torch", *parts[:depth]])) is not None
            return
        found = following


@pytest.mark.parametrize(
    "module", ["", "nn", "nn.functional", "nn.init", "nn.utils", "autograd", "backends", "cuda", "optim", "utils"]
)
def test_a_name_that_nobody_has_gets_pythons_text(module: str) -> None:
    place = _look_up(gn, module) if module else gn
    with pytest.raises(AttributeError) as caught:
        place.no_such_name  # noqa: B018
    assert str(caught.value) == f"module {place.__name__!r} has no attribute 'no_such_name'"
    assert not hasattr(place, "no_such_name")


def test_importing_a_missing_name_is_an_import_error() -> None:
    with pytest.raises(ImportError, match=r"cannot import name 'Variable' from 'gpunet.autograd'"):
        from gpunet.autograd import Variable  # noqa: F401
    with pytest.raises(ImportError, match=r"cannot import name 'CTCLoss' from 'gpunet.nn'"):
        from gpunet.nn import CTCLoss  # noqa: F401


@pytest.mark.parity
def test_the_page_of_names_has_the_table() -> None:
    pytest.importorskip("torch")
    assert missing_names()["torch.nn.DataParallel"] == INSTEAD["nn.DataParallel"]
    page = compatibility_page({}, write_own=list)
    assert "## Not had" in page
    assert f"| `torch.nn.DataParallel` | {INSTEAD['nn.DataParallel']} |" in page
