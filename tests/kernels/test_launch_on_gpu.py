"""Launches on a real GPU: streams, devices, shared memory, compilation, and what a launch costs."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import pytest

from gpunet import cuda
from gpunet.backend.errors import DeviceError, ShapeError
from gpunet.backend.kernels import KernelCompileError, KernelFile, get_kernel, launch, read_kernel_file

pytestmark = pytest.mark.gpu


def write_kernel(folder: Path, value: str = "1.0f", body: str = "output[i] = VALUE * factor;") -> KernelFile:
    """A kernel that multiplies what its header says by a factor."""
    (folder / "value.cuh").write_text(f"#define VALUE {value}\n")
    (folder / "fill.cu").write_text(
        '#include "value.cuh"\n'
        'extern "C" __global__ void fill(float* output, float factor, int count) {\n'
        "  const int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
        f"  if (i < count) {body}\n"
        "}\n"
    )
    return read_kernel_file(folder / "fill.cu")


def fill(file, output, factor=2.0, stream=None):
    count = output.size
    launch(get_kernel(file, "fill"), -(-count // 256), 256, (output, factor, count), stream=stream)


def test_a_header_that_changes_is_compiled_again(tmp_path):
    import cupy

    for value, expected in (("1.0f", 2.0), ("3.0f", 6.0), ("1.0f", 2.0)):
        output = cupy.full(1000, np.nan, np.float32)
        fill(write_kernel(tmp_path, value), output)
        assert (output.get() == expected).all()


def test_a_kernel_that_does_not_compile(tmp_path):
    import cupy

    with pytest.raises(KernelCompileError) as caught:
        fill(write_kernel(tmp_path, body="output[i] = undefined_name;"), cupy.zeros(1, np.float32))
    assert "fill.cu(4): error" in str(caught.value)
    assert "output[i] = undefined_name;" in str(caught.value)


def test_streams(tmp_path):
    import cupy

    file = write_kernel(tmp_path)
    first, second = cupy.zeros(1 << 20, np.float32), cupy.zeros(1 << 20, np.float32)
    side = cuda.Stream()
    side.wait_stream(cuda.current_stream())
    with cuda.stream(side):
        fill(file, first, 3.0)
    with cupy.cuda.Stream(non_blocking=True) as other:
        other.wait_event(cupy.cuda.Stream.null.record())
    fill(file, second, 5.0, stream=other)
    side.synchronize()
    other.synchronize()
    assert (first.get() == 3.0).all()
    assert (second.get() == 5.0).all()


@pytest.mark.parametrize("threads", [32, 1024])
def test_dynamic_shared_memory(machinery, threads):
    import cupy

    values = cupy.arange(1000, dtype=np.float32)
    blocks = -(-1000 // threads)
    output = cupy.full(blocks, np.nan, np.float32)
    kernel = get_kernel(machinery, "sum_blocks")
    for size in (4 * threads, 60 << 10, 4 * threads):  # more than a block has without asking, and less again
        output.fill(np.nan)
        launch(kernel, blocks, threads, (output, values, 1000), size)
        assert float(output.sum()) == 999 * 500
    with pytest.raises(ShapeError, match="shared_memory: 1048576 bytes, but a block on 'cuda:0' can have at most"):
        launch(kernel, blocks, threads, (output, values, 1000), 1 << 20)


def test_another_gpu_than_the_current_one(tmp_path):
    import cupy

    if cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    file = write_kernel(tmp_path)
    with cuda.device(1):
        there = cupy.zeros(1000, np.float32)
    here = cupy.zeros(1000, np.float32)
    fill(file, there, 7.0)
    assert cuda.current_device() == 0
    with cuda.device(1):
        assert (there.get() == 7.0).all()
    sgd = get_kernel("sgd", "sgd_update_naive_float32")
    with pytest.raises(DeviceError, match="grad is on 'cuda:1', but param is on 'cuda:0'"):
        launch(sgd, 1, 32, (here, there, None, None, 0.1, None, 1.0, None, True, 0.0, 0.0, 0.0, False, False, 1000))


def test_a_launch_costs_microseconds():
    """Of the host's time: the GPU runs behind. A step has hundreds of them."""
    import cupy

    param, grad, momentum = (cupy.zeros(64, np.float32) for _ in range(3))
    kernel = get_kernel("sgd", "sgd_update_float32")
    times = []
    for _ in range(50):
        cuda.synchronize()
        start = time.perf_counter()
        for _ in range(20):
            arguments = (param, grad, momentum, None, 0.1, None, 1.0, None, False, 0.9, 0.0, 1e-4, False, False, 64)
            launch(kernel, 1, 256, arguments)
        times.append((time.perf_counter() - start) / 20)
    print(f"a launch takes {statistics.median(times) * 1e6:.1f} us")
    assert statistics.median(times) < 100e-6
