"""The examples run, and print what they should."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str, timeout: float = 100) -> str:
    environment = {**os.environ, "GPUNET_DEVICE": "cpu"}
    if "PYTHONPATH" in environment:
        environment["PYTHONPATH"] = os.path.abspath(environment["PYTHONPATH"])
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_lenet_learns_the_digits() -> None:
    output = run("lenet_digits.py")
    assert float(output.split()[-1]) >= 0.95


def test_backward_by_hand_agrees() -> None:
    """Rows B02, B03 and B59: the worked numbers of the notes."""
    output = run("backward_by_hand.py")
    assert "f = (x + y) z = -12" in output
    assert "backward gives -4 -4 3" in output
    assert "y  = [4.5 6.  7.5]" in output
    assert "dw by hand [2. 4. 6.] backward [2. 4. 6.]" in output
    assert "dx by hand [ 0.5  0.  -0.5  5.  -2. ] backward [ 0.5  0.  -0.5  5.  -2. ]" in output
    assert "convolution: True" in output


def test_filters_keep_the_mean(tmp_path: Path) -> None:
    """Rows B10, B11 and B29: blurs keep the mean, edges have none, and convolution flips what correlation does not."""
    output = run("filters.py", str(tmp_path / "pictures"))
    lines = {line.split()[0]: line for line in output.splitlines() if line.startswith("  ")}
    mean = output.split("mean ")[1].split(",")[0]
    for name in ("identity", "box", "blur", "gaussian"):
        assert abs(float(lines[name].split()[2].rstrip(",")) - float(mean)) < 0.02
    assert abs(float(lines["sobel_y"].split()[2].rstrip(","))) < 0.02
    assert "flipped when correlated: True" in output
    assert "as it is when convolved: True" in output
    if "Pillow is not installed" not in output:
        assert len(list((tmp_path / "pictures").glob("*.png"))) == 16


# Every family of the zoo, and every form of it that the papers tell apart.
ZOO = (
    "alexnet2012_grouped",
    "alexnet2012",
    "alexnet",
    "vgg11",
    "vgg11_bn",
    "nin",
    "googlenet",
    "googlenet_paper",
    "resnet18",
    "cifar_resnet20",
    "preact_resnet18",
    "cifar_preact_resnet20",
    "densenet",
    "cifar_densenet_bc",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_learns_the_digits(name: str) -> None:
    """Rows B24, B77-B79, B81, B84, B85 and B87: 95 % on the test images; the example prints how long it took."""
    line = run("digits_zoo.py", name, timeout=600)
    assert line.startswith(name)
    assert float(line.split("test accuracy ")[1].split(",")[0]) >= 0.95


@pytest.mark.slow
def test_a_deep_plain_network_trains_worse_than_a_residual_one(tmp_path: Path) -> None:
    """Rows B22 and B83: higher *training* loss, median of three seeds, than its residual twin's and a shallow net's."""
    lines = run("plain_vs_residual.py", "--out", str(tmp_path), timeout=900).splitlines()
    loss = {tuple(line.split()[:2]): float(line.split("training loss ")[1].split()[0]) for line in lines[:4]}
    assert loss["plain", "32"] > 2 * loss["residual", "32"]
    assert loss["plain", "32"] > 2 * loss["plain", "8"]
    table = (tmp_path / "plain_vs_residual.csv").read_text(encoding="utf-8").splitlines()
    assert table[0] == "network,layers,seed,epoch,training loss"
    assert len(table) == 1 + 2 * 2 * 3 * 4  # depths, kinds, seeds, epochs
    assert (tmp_path / "plain_vs_residual.png").exists() == (importlib.util.find_spec("matplotlib") is not None)


def test_every_example_is_run_here() -> None:
    names = {"lenet_digits.py", "backward_by_hand.py", "filters.py", "digits_zoo.py", "plain_vs_residual.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == names


if not EXAMPLES.is_dir():
    pytest.skip("the examples are not beside the tests", allow_module_level=True)
