"""Ways to run the command: within this process, and as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Ctrl-C reaches a process even where it was started in the background, with SIGINT ignored.
LAUNCH = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from gpunet.cli import main; sys.exit(main(sys.argv[1:]))"
)


@dataclass
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The JSON object on the last line of standard output."""
        document = json.loads(self.out.splitlines()[-1])
        assert isinstance(document, dict)
        return document

    def one_error(self) -> str:
        """The one line on standard error; there is no other output."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("gpunet: error: ")
        assert "Traceback" not in self.out + self.err
        return lines[0]


@pytest.fixture
def gpunet(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Run the command in this process, in a folder of its own."""
    from gpunet.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command as a process, in a folder of its own; what still runs after the test is killed."""
    with contextlib.ExitStack() as stack:

        def run(*arguments: object, **environment: str) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", LAUNCH, *map(str, arguments)],
                    cwd=tmp_path,
                    env=os.environ | environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return process

        yield run


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run on the digits, good enough to tell them apart."""
    from gpunet.cli import main

    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "--epochs", "4", "--device", "cpu", "--quiet", "--out", str(folder)]) == 0
    return folder
