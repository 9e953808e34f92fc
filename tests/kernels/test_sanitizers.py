"""The kernels under AddressSanitizer and the bounds checker, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpunet.testing import sanitizer_environment

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("host")]

HERE = Path(__file__).parent

FAULT = """
import numpy as np
from pathlib import Path
from gpunet.backend.kernels import get_kernel, launch, read_kernel_file
from gpunet.testing import cuda_on_cpu
faults = read_kernel_file(Path({path!r}))
with cuda_on_cpu():
    launch(get_kernel(faults, {name!r}), 1, 64, ({arguments}))
"""


@pytest.fixture(scope="module")
def environment():
    try:
        return os.environ | sanitizer_environment() | {"OPENBLAS_NUM_THREADS": "1"}
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    "name, arguments, report, line",
    [
        ("store_past_end", "np.zeros(16, np.float32), 16", "use-after-poison", "if (i <= count) output[i] = 1.0f;"),
        ("store_before_start", "np.zeros(16, np.float32), 16", "use-after-poison", "output[i - 1] = 1.0f;"),
        (
            "load_past_end",
            "np.zeros(16, np.float32), np.zeros(16, np.float32), 16",
            "use-after-poison",
            "output[i] = input[i + 1];",
        ),
        (
            "overruns_static_shared",
            "np.zeros(64, np.float32), 1",
            "index 64 out of bounds for type 'float [64]'",
            "tile[threadIdx.x + count] = 1.0f;",
        ),
        (
            "misaligned_load",
            "np.zeros(64, np.float32), np.zeros(80, np.float32)",
            "misaligned address",
            "value = *reinterpret_cast<const float4*>(input + threadIdx.x)",
        ),
        (
            "misaligned_store",
            "np.zeros(80, np.float32),",
            "misaligned address",
            "reinterpret_cast<float4*>(output + threadIdx.x)",
        ),
        (
            "misaligned_shared_store",
            "np.zeros(64, np.float32),",
            "misaligned address",
            "reinterpret_cast<float4*>(tile + threadIdx.x)",
        ),
    ],
)
def test_planted_fault_is_reported(environment, name, arguments, report, line):
    code = FAULT.format(path=str(HERE / "faults.cu"), name=name, arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=HERE, capture_output=True, text=True, timeout=100
    )
    assert done.returncode != 0
    assert report in done.stderr
    source = (HERE / "faults.cu").read_text().splitlines()
    number = next(i for i, text in enumerate(source, 1) if line in text)
    assert f"faults.cu:{number}" in done.stderr


def test_uninitialised_scalar(environment):
    """The ordinary build takes the value of the branch that sets it; here it is the compiler's pattern."""
    code = (
        "output = np.zeros(64, np.float32)\n"
        + FAULT.format(path=str(HERE / "faults.cu"), name="reads_uninitialised_local", arguments="output, 16")
        + "assert (output[:16] == 1).all()\nassert not (np.abs(output[16:]) < 1e30).any(), output"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import numpy as np\n" + code],
        env=environment,
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name, arguments, report",
    [
        (
            "barriers_without_end",
            "np.zeros(1, np.int32),",
            "KernelFault: faults.cu: barriers_without_end: block (0, 0, 0)",
        ),
        ("wild_pointer", "np.zeros(64, np.float32), None, 4", "SEGV on unknown address 0x000000000010"),
    ],
)
def test_crashes_are_the_sanitizers_and_the_limit_ours(environment, name, arguments, report):
    code = FAULT.format(path=str(HERE / "faults.cu"), name=name, arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"GPUNET_CUDA_ON_CPU_SECONDS": "1"},
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode != 0
    assert report in done.stderr


@pytest.mark.timeout(620)
@pytest.mark.parametrize(
    "files, left_out",
    [
        pytest.param(("test_sgd.py", "test_cuda_on_cpu.py", "test_planted_faults.py"), (), id="machinery"),
        pytest.param(
            ("test_cooperation.py", "test_error_word.py", "test_tensor_cores.py", "test_small_floats.py"),
            (),
            id="headers",
        ),
        # The longest rows would take as long as all the others, and go through the same kernels.
        pytest.param(("test_convolution_path.py",), ("conv1d-several",), id="convolutions"),
        pytest.param(("test_conv2d.py", "test_gemm.py", "test_gemm_tensor.py"), ("float32_sums",), id="tiles"),
        pytest.param(("test_conv2d_direct.py",), (), id="direct"),
        pytest.param(
            ("test_recurrent.py",), ("states_carry", "each_gradient", "bits_twice", "planted"), id="recurrent"
        ),
        pytest.param(
            ("test_recurrent_persistent.py",), ("equations", "many", "bits", "missing", "lstm-520"), id="persistent"
        ),
    ],
)
def test_kernels_are_clean(environment, files, left_out):
    """What the other kernel tests run, once more under the sanitizers."""
    # Faults stop the process here, and a sanitizer's stack frames are larger.
    marks = "not gpu and not parity"
    faults = "store_past", "store_before", "store_into", "store_to", "load_past", "stack_overrun", "portable"
    names = f"not ({' or '.join((*faults, *left_out))})"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", marks, "-k", names),
            *(str(HERE / file) for file in files),
        ],
        env=environment,
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_asking_without_the_library_is_refused():
    code = FAULT.format(path=str(HERE / "faults.cu"), name="store_past_end", arguments="np.zeros(16, np.float32), 16")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"GPUNET_CUDA_ON_CPU_SANITIZE": "1"},
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "Python was started without AddressSanitizer" in done.stderr
