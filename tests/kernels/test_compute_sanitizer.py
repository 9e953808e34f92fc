"""The kernel tests on a GPU under NVIDIA's compute-sanitizer, which watches every access to memory.

Slow: everything runs tens of times slower under it. Run with ``pytest -m "gpu and slow"`` or ``-m gpu``.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Not marked `kernels`: the completeness of that suite is judged by the kernels that ran on the CPU.
pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(2400)]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOUND_SOMETHING = 9

# Without CuPy's pool every array is an allocation of its own, whose ends the sanitizer knows.
TESTS = """
import sys
import cupy
cupy.cuda.set_allocator(None)
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""

FAULT = """
from pathlib import Path
import sys
import cupy
cupy.cuda.set_allocator(None)
from gpunet.backend.kernels import get_kernel, launch, read_kernel_file
faults = read_kernel_file(Path(sys.argv[1]))
kernel, count = get_kernel(faults, sys.argv[2]), int(sys.argv[3])
output, values = cupy.zeros(64, cupy.float32), cupy.zeros(64, cupy.float32)
launch(kernel, 1, 128 if kernel.name == "store_past_end" else 64, (output, count if count else values))
cupy.cuda.Device().synchronize()
"""


def find_sanitizer():
    """The program on PATH, or in a toolkit's usual place."""
    places = [os.environ.get("CUDA_HOME", ""), os.environ.get("CUDA_PATH", ""), "/usr/local/cuda"]
    places += sorted(map(str, Path("/usr/local").glob("cuda-*")), reverse=True)
    folders = [f"{place}/{inside}" for place in places if place for inside in ("bin", "compute-sanitizer")]
    return shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=os.pathsep.join(folders))


@pytest.fixture(scope="module")
def sanitize():
    program = find_sanitizer()
    if program is None:
        pytest.skip("compute-sanitizer is neither on PATH nor in a CUDA toolkit's usual place")

    def run(tool, code, *arguments, seconds):
        command = [program, "--tool", tool, "--error-exitcode", str(FOUND_SOMETHING), "--print-limit", "20"]
        done = subprocess.run(
            [*command, sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        if "Device not supported" in done.stdout:
            pytest.skip("compute-sanitizer does not support this machine's GPU or its virtualisation")
        return done.returncode, done.stdout

    return run


@pytest.mark.parametrize(
    "tool, kernel, count", [("memcheck", "store_past_end", 64), ("racecheck", "missing_barrier", 0)]
)
def test_planted_fault_is_found(sanitize, tool, kernel, count):
    """Otherwise silence below would say nothing."""
    code, output = sanitize(tool, FAULT, str(HERE / "faults.cu"), kernel, str(count), seconds=300)
    assert code == FOUND_SOMETHING, output[-4000:]
    assert kernel in output


def test_what_is_right_is_not_reported(sanitize):
    """The same kernel, told of one element less, stays inside."""
    code, output = sanitize("memcheck", FAULT, str(HERE / "faults.cu"), "store_past_end", "63", seconds=300)
    assert code == 0, output[-4000:]


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_kernels_are_clean(sanitize, tool):
    options = ["-q", "-x", "-p", "no:cacheprovider", "-m", "gpu and not slow and not parity", str(HERE)]
    if importlib.util.find_spec("pytest_timeout") is not None:
        options.append("--timeout=900")
    code, output = sanitize(tool, TESTS, *options, seconds=2300)
    assert code == 0, output[-6000:]
    assert " passed" in output
