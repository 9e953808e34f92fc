"""Known faults planted in kernels, and the CUDA-on-CPU layer sees each of them."""

import re

import numpy as np
import pytest

from gpunet.backend.errors import ShapeError
from gpunet.backend.kernels import get_kernel, launch
from gpunet.testing import KernelFault, cuda_on_cpu

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("host")]


def nan(*shape, dtype=np.float32):
    return np.full(shape, np.nan, dtype)


@pytest.fixture
def fault(faults):
    def run(name, grid, block, *args, shared_memory=0, cooperative=False):
        launch(get_kernel(faults, name), grid, block, args, shared_memory, cooperative=cooperative)

    return run


def test_missing_barrier(fault):
    values = np.arange(64, dtype=np.float32)
    right = np.concatenate([values[:1], values[:-1]])
    output = nan(64)
    with cuda_on_cpu("forward"):
        fault("missing_barrier", 1, 64, output, values)
    assert (output == right).all(), "in order, the fault does not show"
    with cuda_on_cpu("reversed"):
        fault("missing_barrier", 1, 64, output, values)
    assert (output != right).any()
    with cuda_on_cpu("both"), pytest.raises(KernelFault, match=r"output differs in .* reversed order"):
        fault("missing_barrier", 1, 64, output, values)


def test_missing_warp_barrier(fault):
    with cuda_on_cpu("both"), pytest.raises(KernelFault, match="reversed order"):
        fault("missing_warp_barrier", 1, 32, nan(32), np.arange(32, dtype=np.float32))


def test_blocks_that_collide(fault):
    with cuda_on_cpu("both"), pytest.raises(KernelFault, match="two threads write to one place"):
        fault("blocks_collide", 4, 1, nan(1))


def test_store_past_the_end(fault):
    output = nan(16)
    with cuda_on_cpu(), pytest.raises(KernelFault, match="wrote past the end of output, by 1 elements"):
        fault("store_past_end", 1, 32, output, 16)


def test_store_into_the_rest_of_a_larger_array(fault):
    """A view's neighbours are not written either."""
    buffer = nan(32)
    with cuda_on_cpu(), pytest.raises(KernelFault, match="past the end"):
        fault("store_past_end", 1, 32, buffer[:16], 16)
    assert np.isnan(buffer).all()


def test_store_before_the_start(fault):
    with cuda_on_cpu(), pytest.raises(KernelFault, match="wrote before the start of output, by 1 elements"):
        fault("store_before_start", 1, 32, nan(16), 16)


def test_store_to_an_empty_array(fault):
    with cuda_on_cpu(), pytest.raises(KernelFault, match="wrote to an empty array"):
        fault("store_past_end", 1, 32, nan(0), 0)


def test_load_past_the_end(fault):
    output = np.zeros(16, np.float32)
    with cuda_on_cpu():
        fault("load_past_end", 1, 32, output, np.zeros(16, np.float32), 16)
    assert np.isnan(output[15])
    assert (output[:15] == 0).all()


def test_output_left_out(fault):
    output = nan(16)
    with cuda_on_cpu():
        fault("leaves_one_out", 1, 32, output, 16)
    assert np.isnan(output).tolist() == [False] * 15 + [True]


def test_uninitialised_shared_memory(fault):
    output = np.zeros(64, np.float32)
    with cuda_on_cpu():
        for _ in range(2):  # what an earlier launch or block has written there is gone
            fault("reads_uninitialised", 2, 64, output)
            assert np.isnan(output[1::2]).all()
            assert (output[::2] == 1).all()


def test_dynamic_shared_memory_overrun(fault):
    with cuda_on_cpu(), pytest.raises(KernelFault) as caught:
        fault("overruns_shared", 1, 64, nan(64), 1, shared_memory=256)
    assert str(caught.value).endswith("wrote past its 256 bytes of dynamic shared memory, first to byte 256")


@pytest.mark.parametrize("bytes_", [227 * 1024 + 1, 2**32 + 256])
def test_more_shared_memory_than_a_block_has(fault, bytes_):
    """The words are those for a GPU."""
    message = f"overruns_shared: shared_memory: {bytes_} bytes, but a block on 'cpu' can have at most 232448"
    with cuda_on_cpu(), pytest.raises(ShapeError, match=message):
        fault("overruns_shared", 1, 64, nan(64), 1, shared_memory=bytes_)


def test_different_barriers(fault):
    with cuda_on_cpu(), pytest.raises(KernelFault, match=r"different barriers: .*faults.cu:\d+.*faults.cu:\d+"):
        fault("divergent_barriers", 1, 64, nan(64))


def test_deadlock(fault):
    with cuda_on_cpu(), pytest.raises(KernelFault) as caught:
        fault("waits_for_ever", 1, 32, np.zeros(32, np.int32))
    assert "no thread can go on" in str(caught.value)
    assert "__shfl_sync for the lanes of mask 0xffffffff" in str(caught.value)
    assert "in __syncthreads" in str(caught.value)


def test_mask_that_leaves_out_the_caller(fault):
    with cuda_on_cpu(), pytest.raises(KernelFault, match="does not name the calling lane 16"):
        fault("mask_without_itself", 1, 32, np.zeros(32, np.int32))


def test_shuffles_at_different_lines(fault, faults):
    first = line_of(faults, "shuffles_in_branches", "value, 20)")
    second = line_of(faults, "shuffles_in_branches", "value, 4)")
    with cuda_on_cpu(), pytest.raises(KernelFault) as caught:
        fault("shuffles_in_branches", 1, 32, np.zeros(32, np.int32))
    assert re.search(
        r"the lanes of mask 0xffffffff meet at different operations: "
        rf"thread \(0, 0, 0\) at \S*faults.cu:{first} in __shfl_sync, "
        rf"thread \(16, 0, 0\) at \S*faults.cu:{second} in __shfl_sync",
        str(caught.value),
    )


@pytest.mark.parametrize("width", [0, -1, 3, 33, 64])
def test_width_of_a_shuffle(fault, faults, width):
    line = line_of(faults, "shuffles_with_a_width", "__shfl_down_sync")
    message = rf"__shfl_down_sync at \S*faults.cu:{line}: the width is {width}, not a power of two up to 32"
    with cuda_on_cpu(), pytest.raises(KernelFault, match=message):
        fault("shuffles_with_a_width", 1, 32, np.zeros(32, np.int32), width)


def test_assertion(fault, faults):
    line = line_of(faults, "asserts", "assert(")
    message = rf"thread \(7, 0, 0\): assert\(\(int\)threadIdx.x < limit\) failed at \S*faults.cu:{line}$"
    with cuda_on_cpu(), pytest.raises(KernelFault, match=message):
        fault("asserts", 1, 32, np.zeros(32, np.int32), 7)
    output = np.zeros(32, np.int32)
    with cuda_on_cpu():
        fault("asserts", 1, 32, output, 32)
    assert (output == 1).all()


def test_absent_lane(fault):
    output = np.zeros(16, np.float32)
    with cuda_on_cpu():
        fault("reads_absent_lane", 1, 32, output)
    assert np.isnan(output).all()


def test_stack_overrun(fault):
    with cuda_on_cpu(), pytest.raises(KernelFault, match=r"thread \(0, 0, 0\) needs more than the \d+ bytes of stack"):
        fault("large_stack", 1, 2, nan(2), 1)


def test_trap(fault):
    with cuda_on_cpu(), pytest.raises(KernelFault, match=r"thread \(3, 0, 0\): __trap"):
        fault("traps", 1, 32, nan(32))


@pytest.mark.parametrize("order", ["forward", "both"])
def test_write_to_a_constant(fault, order):
    values = np.arange(32, dtype=np.float32)
    with cuda_on_cpu(order), pytest.raises(KernelFault, match="wrote to input, which is declared const: element 5"):
        fault("writes_to_a_constant", 1, 32, nan(32), values)
    assert values[5] == 5
    if order == "forward":  # the memory of another parameter, which may be written to
        with cuda_on_cpu(order):
            fault("writes_to_a_constant", 1, 32, values, values)


def test_overlap_of_restricted_arrays(machinery):
    buffer = np.zeros(128, np.float32)
    with cuda_on_cpu(), pytest.raises(KernelFault, match="output and input overlap, but are declared __restrict__"):
        launch(get_kernel(machinery, "scale4"), 1, 4, (buffer[:16], buffer[4:20], 1.0, 4))


# Local variables ------------------------------------------------------------------------------------------------------


def test_uninitialised_local_variables(fault):
    """They hold the compiler's pattern, which no sum of sensible numbers hides. (Scalars: test_sanitizers.py.)"""
    which = np.arange(64, dtype=np.int32)
    output = np.zeros(64, np.float32)
    with cuda_on_cpu():
        fault("reads_uninitialised_array", 1, 64, output, which)
    assert (output[:32] == 1).all()
    assert not (np.abs(output[32:]) < 1e30).any()


# Asynchronous copies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing_copy_wait", "waits_for_too_few"])
def test_missing_wait(fault, name):
    output = np.zeros(64, np.float32)
    with cuda_on_cpu("both"):
        fault(name, 1, 64, output, np.ones(64, np.float32))
    assert np.isnan(output).all()


@pytest.mark.parametrize("name", ["missing_barrier_after_copy", "copies_into_a_buffer_in_use"])
def test_missing_barrier_beside_a_copy(fault, name):
    values = np.arange(128, dtype=np.float32)
    with cuda_on_cpu("both"), pytest.raises(KernelFault, match="reversed order"):
        fault(name, 1, 64, nan(128), values)


@pytest.mark.parametrize(
    "name, message, line",
    [
        ("copy_never_waited_for", "returned without waiting for the asynchronous copy at {}", "async_copy<4>"),
        ("overwrites_a_copy", "the destination of the asynchronous copy at {} was written to", "async_copy<4>"),
        ("changes_a_copys_source", "the source of the asynchronous copy at {} changed before", "async_copy<4>"),
        ("misaligned_copy", "asynchronous copy of 16 bytes at {}: the source is not aligned", "async_copy<16>"),
        ("copies_to_global_memory", "asynchronous copy at {}: the destination is not shared memory", "async_copy<4>"),
    ],
)
def test_wrong_copies(fault, faults, name, message, line):
    with cuda_on_cpu(), pytest.raises(KernelFault) as caught:
        fault(name, 1, 64, np.zeros(64, np.float32), np.zeros(64, np.float32))
    assert re.search(message.format(rf"\S*faults\.cu:{line_of(faults, name, line)}\b"), str(caught.value))


def line_of(file, kernel, text):
    """The first line behind a kernel's declaration that has the text."""
    lines = file.source.splitlines()
    return next(i for i in range(file.functions[kernel].line, len(lines) + 1) if text in lines[i - 1])


# Tensor cores ---------------------------------------------------------------------------------------------------------


def test_wrong_fragment_index(fault):
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (16, 16)).astype(np.float32), rng.integers(-9, 9, (16, 8)).astype(np.float32)
    output = nan(16, 8)
    with cuda_on_cpu("both"):
        fault("wrong_fragment_index", 1, 32, output, a, b)
    assert not np.isnan(output).any()
    assert (output != a @ b).mean() > 0.9


@pytest.mark.parametrize("threads, count", [(32, 20), (20, 20)])
def test_multiplication_by_part_of_a_warp(fault, faults, threads, count):
    line = line_of(faults, "mma_without_all_lanes", "mma_fp16_k8(")
    with cuda_on_cpu(), pytest.raises(KernelFault, match=rf"mma_fp16_k8 at \S*faults.cu:{line} without lane 20"):
        fault("mma_without_all_lanes", 1, threads, nan(32), count)


# Grid barriers --------------------------------------------------------------------------------------------------------


def counter():
    return np.zeros(1, np.uint32)


def test_missing_grid_barrier(fault):
    output = nan(4)
    with cuda_on_cpu("forward"):
        fault("missing_grid_barrier", 4, 32, output, nan(4), counter(), cooperative=True)
    assert np.isnan(output[:3]).all()
    with cuda_on_cpu("both"), pytest.raises(KernelFault, match=r"output differs in .* reversed order"):
        fault("missing_grid_barrier", 4, 32, output, nan(4), counter(), cooperative=True)


def test_block_that_skips_the_grid_barrier(fault, faults):
    line = line_of(faults, "block_skips_grid_barrier", "grid_barrier(counter)")
    with (
        cuda_on_cpu(),
        pytest.raises(
            KernelFault,
            match=rf"block \(3, 0, 0\): returned without reaching the grid barrier at \S*faults.cu:{line}, where block",
        ),
    ):
        fault("block_skips_grid_barrier", 4, 32, nan(4), counter(), cooperative=True)


def test_grid_barrier_that_half_the_block_reaches(fault, faults):
    lines = [line_of(faults, "grid_barrier_in_a_branch", text) for text in ("grid_barrier(counter)", "__syncthreads")]
    with cuda_on_cpu(), pytest.raises(KernelFault, match="not at the grid barrier that others wait at") as caught:
        fault("grid_barrier_in_a_branch", 2, 64, nan(2), counter(), cooperative=True)
    for line in lines:
        assert f"faults.cu:{line}" in str(caught.value)


def test_grid_barrier_in_an_ordinary_launch(fault, faults):
    line = line_of(faults, "missing_grid_barrier", "grid_barrier(counter)")
    with (
        cuda_on_cpu(),
        pytest.raises(KernelFault, match=rf"grid barrier at \S*faults.cu:{line} in a launch that is not cooperative"),
    ):
        fault("missing_grid_barrier", 4, 32, nan(4), nan(4), counter())


def test_counter_that_was_not_zero(fault):
    with cuda_on_cpu(), pytest.raises(KernelFault, match="the counter has to be zero before its first use"):
        fault("missing_grid_barrier", 4, 32, nan(4), nan(4), np.array([7], np.uint32), cooperative=True)


def test_more_cooperative_threads_than_there_is_room_for(fault):
    """The words are those for a GPU: test_more_blocks_than_the_gpu_holds."""
    with cuda_on_cpu(), pytest.raises(ShapeError) as caught:
        fault("missing_grid_barrier", 65, 1024, nan(65), nan(65), counter(), cooperative=True)
    assert str(caught.value) == (
        "faults.cu: missing_grid_barrier: grid: (65, 1, 1) has 65 blocks that wait for each other, but 'cpu' holds at "
        "most 64 of 1024 threads and 0 bytes of dynamic shared memory at once"
    )


@pytest.mark.parametrize("cooperative", [False, True])
def test_polling_for_ever(fault, cooperative):
    with cuda_on_cpu(), pytest.raises(KernelFault, match=r"wait for something that does not happen: .* __nanosleep"):
        fault("polls_for_ever", 1, 1, np.zeros(1, np.int32), cooperative=cooperative)
