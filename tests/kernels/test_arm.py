"""The CUDA-on-CPU layer on another processor: kernels compiled for 64-bit ARM and run in QEMU."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from gpunet.backend.kernels import get_kernel, launch, on_host, read_kernel_file
from gpunet.testing import host_library

from .conftest import HERE

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
MISSING = [tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.skipif(sys.platform != "linux", reason="cross-compiling for ARM needs Linux"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

# Reads the launch's shape and arguments, runs the kernel, and writes its arrays back. An argument is its size, whether
# it is an array, and its bytes.
MAIN = r"""
static void move(void* data, size_t bytes, bool in) {
  if ((in ? fread(data, 1, bytes, stdin) : fwrite(data, 1, bytes, stdout)) != bytes) exit(3);
}
int main() {
  unsigned shape[10], count, header[2];
  move(shape, sizeof(shape), true);
  move(&count, sizeof(count), true);
  void* values[64];
  void* arrays[64] = {};
  size_t sizes[64];
  for (unsigned i = 0; i < count; ++i) {
    move(header, sizeof(header), true);
    sizes[i] = header[0];
    void* memory = aligned_alloc(256, (header[0] + 256) / 256 * 256);
    move(memory, header[0], true);
    if (header[1]) arrays[i] = memory;
    values[i] = header[1] ? static_cast<void*>(&arrays[i]) : memory;
  }
  char text[2048] = "";
  const int status = cuda_on_cpu_launch_KERNEL(shape, values, text, sizeof(text));
  move(text, sizeof(text), false);
  for (unsigned i = 0; i < count; ++i) {
    if (arrays[i]) move(arrays[i], sizes[i], false);
  }
  return status;
}
"""


def execute(folder):
    """An executor for launches on NumPy arrays: threads in order, then reversed, with the same result."""

    def run(kernel, grid, block, values, shared_memory, cooperative):
        program = folder / f"{kernel.file.name}-{kernel.name}"
        if not program.exists():
            source = program.with_suffix(".cpp")
            source.write_text(host_library.translation_unit(kernel.file) + MAIN.replace("KERNEL", kernel.name))
            flags = [flag for flag in host_library.FLAGS if flag not in ("-shared", "-fPIC")]
            folders = (kernel.file.path.parent, host_library.kernel_folder(), host_library.HEADERS)
            subprocess.run(
                [
                    *(COMPILER, *flags, "-fPIE", "-pie", "-static-libgcc", *(f"-I{path}" for path in folders)),
                    *("-include", host_library.HEADERS / "cuda_on_cpu.h", source, "-o", program),
                ],
                check=True,
                timeout=100,
            )
        answers = []
        for is_reversed in (False, True):
            shape = np.array([*grid, *block, shared_memory, is_reversed, cooperative, 60, len(values)], np.uint32)
            parts = [shape.tobytes()]
            for value in values:
                parts += [np.array([value.nbytes, isinstance(value, np.ndarray)], np.uint32).tobytes(), value.tobytes()]
            done = subprocess.run(
                [EMULATOR, "-L", "/usr/aarch64-linux-gnu", program],
                input=b"".join(parts),
                capture_output=True,
                timeout=100,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(done.stdout.split(b"\0", 1)[0].decode() + done.stderr.decode())
            answers.append(done.stdout[2048:])
        assert answers[0] == answers[1]
        start = 0
        for value in values:
            if isinstance(value, np.ndarray):
                if value.flags.writeable:
                    value.reshape(-1).view(np.uint8)[...] = np.frombuffer(answers[0], np.uint8, value.nbytes, start)
                start += value.nbytes

    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    executor = execute(tmp_path_factory.mktemp("arm"))

    def run(file, name, grid, block, *args, shared_memory=0, cooperative=False):
        with on_host(executor):
            kernel = get_kernel(read_kernel_file(HERE / f"{file}.cu"), name)
            launch(kernel, grid, block, args, shared_memory, cooperative=cooperative)

    return run


def test_shared_memory_and_barriers(run):
    values = np.arange(192, dtype=np.float64)
    output = np.full(192, np.nan)
    run("machinery", "reverse_float64", 3, 64, output, values)
    np.testing.assert_array_equal(output, values.reshape(3, 64)[:, ::-1].ravel())
    sums = np.full(4, np.nan, np.float32)
    run("machinery", "sum_blocks", 4, 256, sums, np.ones(1000, np.float32), 1000, shared_memory=1024)
    assert sums.tolist() == [256, 256, 256, 232]


def test_shuffles(run):
    values = np.random.default_rng(0).integers(-99, 99, 32).astype(np.float64)
    output = np.full(66, np.nan)
    run("machinery", "shuffle", 1, 32, output, values)
    assert output[0] == output[1] == values.sum()
    np.testing.assert_array_equal(output[2:34], values.reshape(4, 8).cumsum(1).ravel())


def test_grid_barrier(run):
    values, state, counter = np.zeros((2, 5), np.int32), np.zeros((5, 2), np.int32), np.zeros(1, np.uint32)
    run("cooperation", "ring", 5, 64, values, state, counter, 3, shared_memory=256, cooperative=True)
    expected = np.arange(1, 6)
    for _ in range(3):
        expected = expected + np.roll(expected, 1)
    np.testing.assert_array_equal(values[1], expected)
    np.testing.assert_array_equal(state, np.stack([expected, expected], -1))


def test_tensor_cores_and_copies(run):
    rng = np.random.default_rng(1)
    a, b = rng.integers(-9, 9, (128, 32)).astype(np.float32), rng.integers(-9, 9, (32, 128)).astype(np.float32)
    c = np.full((128, 128), np.nan, np.float32)
    run("tensor_cores", "gemm_tiled_tf32", 1, 256, c, a, b, 128, 32)
    np.testing.assert_array_equal(c, a @ b)


def test_two_byte_types(run):
    bits = np.arange(2**16, dtype=np.uint16)
    output = np.zeros(2**16, np.float32)
    run("small_floats", "half_to_float", 1, 32, output, bits.view(np.float16), 2**16)
    np.testing.assert_array_equal(output, bits.view(np.float16).astype(np.float32))


def test_faults_are_reported(run):
    with pytest.raises(RuntimeError, match=r"threads meet at different barriers: .*faults.cu:\d+"):
        run("faults", "divergent_barriers", 1, 64, np.zeros(64, np.float32))
    with pytest.raises(RuntimeError, match="needs more than the 65536 bytes of stack"):
        run("faults", "large_stack", 1, 1, np.zeros(1, np.float32), 1)
    with pytest.raises(RuntimeError, match=r"thread \(3, 0, 0\) used an address where there is no memory"):
        run("faults", "wild_pointer", 2, 32, np.zeros(32, np.float32), np.zeros(1, np.float32), -(1 << 30))
    with pytest.raises(RuntimeError, match=r"thread \(3, 0, 0\) needs more than the 65536 bytes of stack"):
        run("faults", "recursion_without_end", 1, 32, np.zeros(32, np.int32), 1)
