"""What the README says is so: its commands are there, its code runs, its table and links are right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_commands_for_a_fresh_machine_are_marked() -> None:
    blocks = dict(re.findall(r"<!-- fresh: (run|test) -->\n```sh\n(.*?)```", README, re.DOTALL))
    assert blocks["run"].splitlines()[-1] == "gpunet train"
    assert blocks["test"].splitlines()[-1] == "pytest"


def test_code_runs(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))  # one goes on from the other
    env = os.environ | {"GPUNET_DEVICE": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"test accuracy (\S+)", done.stdout)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.95
    assert "conv2d" in done.stdout.partition(accuracy[0])[2], "the profile's table"


def test_every_extra_is_in_the_table() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (table,) = re.findall(r"\| extra \|.*?\n\n", README, re.DOTALL)
    first_cells = "".join(row.split("|")[1] for row in table.splitlines()[2:] if row)
    assert set(re.findall(r"`(\w+)`", first_cells)) == extras.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []
