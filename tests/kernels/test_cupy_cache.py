"""CuPy's disk cache of compiled kernels: why the headers' hash is among the options that gpunet compiles with.

It runs CuPy's compiler on a machine without a GPU, so what asks for the GPU is left out.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from gpunet.backend.nvrtc import nvrtc_version

pytestmark = pytest.mark.kernels

PROGRAM = """
import sys
from pathlib import Path
from types import SimpleNamespace
from cupy.cuda import compiler

class Module:  # loading what was compiled needs a GPU
    def load(self, cubin):
        self.cubin = cubin
    def _set_mapping(self, mapping):
        pass

compiler.function = SimpleNamespace(Module=Module)
compiler._get_arch_for_options_for_nvrtc = lambda arch=None: ("-arch=sm_80", "cubin")
folder = Path(sys.argv[1])
source = '#include "value.cuh"\\nextern "C" __global__ void answer(float* output) { output[0] = VALUE; }\\n'

def compiled(value, *options):
    (folder / "value.cuh").write_text(f"#define VALUE {value}.0f\\n")
    return compiler._compile_module_with_cache(source, ("-std=c++17", f"-I{folder}", *options), arch="80").cubin

assert compiled(1) == compiled(2), "CuPy looks into headers by now"
assert compiled(1, "-DGPUNET_HEADERS=0x1") != compiled(2, "-DGPUNET_HEADERS=0x2")
assert len(list((folder / "cache").glob("*.cubin"))) == 3
"""


def test_cupys_key_covers_the_options_and_not_the_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed")
    if nvrtc_version() is None:
        pytest.skip("NVRTC is not installed")
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
