"""The table of stated differences and its page."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpunet.testing.differences import DIFFERENCES, differences_page

PAGE = Path(__file__).parents[2] / "docs" / "differences.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not beside the tests")
def test_the_page_is_written_from_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == differences_page()


def test_every_difference_names_the_cases_that_show_it() -> None:
    assert all(entry.cases and entry.reason for entry in DIFFERENCES)
