"""A CuPy that is old, broken or none at all: one reason, everything on the CPU, and a report that does not break."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CUPYS: dict[str, tuple[str | None, str]] = {
    "old": (
        "__version__ = '13.6.0'\nclass cuda: pass",
        "CuPy 13.6.0 is installed, but gpunet needs CuPy 14 or later: pip install -U 'cupy-cuda13x' (or "
        "'cupy-cuda12x', whichever is there)",
    ),
    "12": ("__version__ = '12.0.0rc1'\nclass cuda: pass", "CuPy 12.0.0rc1 is installed, but gpunet needs CuPy 14"),
    "framed": (
        "raise ImportError('=====\\nFailed to import CuPy.\\n\\nOriginal error:\\n  libfoo.so\\n=====')",
        "CuPy is installed but cannot be imported: ImportError: Failed to import CuPy. Original error: libfoo.so",
    ),
    "half of it gone": (
        "import cupy._core_that_is_gone",
        "CuPy is installed but cannot be imported: ModuleNotFoundError: No module named 'cupy._core_that_is_gone'",
    ),
    "needs what is gone": (
        "import fastrlock_that_is_gone",
        "CuPy is installed but cannot be imported: ModuleNotFoundError: No module named 'fastrlock_that_is_gone'",
    ),
    "says nothing": ("raise AssertionError", "CuPy is installed but cannot be imported: AssertionError"),
    "leaves": ("import sys; sys.exit('no CUDA here')", "CuPy is installed but cannot be imported: SystemExit: no CUDA"),
    "something else": ("", "what is imported as 'cupy' is not CuPy: "),
    "only a folder": (None, "what is imported as 'cupy' is not CuPy: "),
    "lacks names": (
        "__version__ = '14.9.0'\nndarray = type(None)\nclass cuda:\n class runtime:\n  getDeviceCount = lambda: 1",
        "CuPy 14.9.0 cannot be made ready for gpunet, which is made for CuPy 14: AttributeError: ",
    ),
    "no driver": (
        "__version__ = '14.2.0'\nclass cuda:\n class runtime:\n  def getDeviceCount(): raise OSError('no\\ndriver')",
        "CuPy is installed but finds no usable CUDA driver: no driver",
    ),
}

WITH_CUPY = """
import gpunet as gn
print(gn.device("auto"), gn.cuda.is_available(), gn.cuda.device_count(), gn.cuda.memory_allocated())
try:
    gn.zeros(1, device="cuda")
except gn.DeviceError as error:
    print(error)
from gpunet.cli.entry import main
print("exit", main(["info"]))
"""


@pytest.mark.parametrize("name", CUPYS)
def test_a_cupy_that_cannot_be_used_has_one_reason(name: str, tmp_path: Path) -> None:
    text, reason = CUPYS[name]
    if text is None and importlib.util.find_spec("cupy") is not None:
        pytest.skip("CuPy is installed, and Python takes a package before a folder")
    (tmp_path / "cupy").mkdir()
    if text is not None:
        (tmp_path / "cupy" / "__init__.py").write_text(text)
    environment = {key: value for key, value in os.environ.items() if key != "GPUNET_DEVICE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", WITH_CUPY], capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    means, refused, *report = done.stdout.splitlines()
    assert means == "cpu False 0 0"
    assert refused.startswith(f"device 'cuda' is not available: {reason}")
    assert report[-1] == "exit 0"
    whole = refused.removeprefix("device 'cuda' is not available: ")
    assert [line for line in report if "CuPy" in line and "  - " in line][:1] == [f"  - no GPU is used: {whole}"]
