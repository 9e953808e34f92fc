"""The commands that only tell: --help, --version, models, info."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize("command", [(), ("train",), ("sample",), ("predict",), ("models",), ("summary",), ("info",)])
def test_help(gpunet: Callable[..., Any], command: tuple[str, ...]) -> None:
    done = gpunet(*command, "--help")
    assert done.code == 0
    assert done.err == ""
    assert done.out.startswith("usage: gpunet")
    assert all(len(line) <= 120 for line in done.out.splitlines())


def test_no_command_shows_the_help(gpunet: Callable[..., Any]) -> None:
    done = gpunet()
    assert done.code == 0
    for command in ("train", "sample", "predict", "models", "info"):
        assert f"    {command} " in done.out


def test_version(gpunet: Callable[..., Any]) -> None:
    import gpunet as package

    assert gpunet("--version").out == f"gpunet {package.__version__}\n"


def test_models(gpunet: Callable[..., Any]) -> None:
    names = gpunet("models", "--names").out.split()
    assert "cifar_resnet20" in names
    assert "lenet" in names
    assert gpunet("models", "--names", "--json").json == {"models": names}


def test_info(gpunet: Callable[..., Any]) -> None:
    import numpy as np

    done = gpunet("info")
    assert done.code == 0
    assert np.__version__ in done.out
    assert done.err == ""


def test_a_command_imports_only_its_own_module() -> None:
    code = (
        "import sys; from gpunet.cli import main; main(['models', '--names']); "
        "assert not {'gpunet.cli.train', 'gpunet.cli.predict', 'gpunet.cli.sample', 'tqdm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


def test_help_into_a_closed_pipe_is_quiet() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "gpunet", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
