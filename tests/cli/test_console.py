"""What the commands may show on a terminal."""

from __future__ import annotations

import pytest

from gpunet.cli.console import printable


@pytest.mark.parametrize(
    "text", ["a\tb\n", "می\u200cخواهم", "\u200d", "\u00ad", "\u00a0", "\u3000", "and\u0301", "🙂", "\ue000"]
)
def test_what_belongs_to_a_text_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("character", [*"\0\a\b\r\x1b\x7f\x85\x9b", "\u2028", "\u2029", "\u202e", "\u2066", "\ud800"])
def test_what_steers_a_terminal_goes(character: str) -> None:
    assert printable(f"a{character}b") == "a\ufffdb"
