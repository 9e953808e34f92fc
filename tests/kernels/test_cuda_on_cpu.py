"""The CUDA-on-CPU layer: what a kernel does there, and that planted faults are seen."""

import threading

import numpy as np
import pytest

from gpunet.backend.kernels import get_kernel, launch, uses_kernels
from gpunet.testing import KernelFault, cuda_on_cpu, executed_kernels, host_library

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("host")]


@pytest.fixture(params=["forward", "reversed", "both"])
def order(request):
    return request.param


@pytest.fixture
def run(machinery):
    def run(name, grid, block, *args, shared_memory=0):
        launch(get_kernel(machinery, name), grid, block, args, shared_memory)

    return run


def nan(*shape, dtype=np.float32):
    return np.full(shape, np.nan, dtype)


# Execution ------------------------------------------------------------------------------------------------------------


def test_thread_and_block_numbers(run, order):
    output = np.full(2 * 3 * 2 * 4 * 3 * 5, -1, np.int32)
    with cuda_on_cpu(order):
        run("number_threads", (2, 3, 2), (4, 3, 5), output)
    np.testing.assert_array_equal(output, np.arange(output.size))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_static_shared_memory_and_barrier(run, order, dtype):
    values = np.arange(192, dtype=dtype)
    output = nan(192, dtype=dtype)
    with cuda_on_cpu(order):
        run(f"reverse_{np.dtype(dtype).name}", 3, 64, output, values)
    np.testing.assert_array_equal(output, values.reshape(3, 64)[:, ::-1].ravel())


@pytest.mark.parametrize("threads", [32, 256, 1024])
def test_dynamic_shared_memory(run, order, threads):
    values = np.arange(1000, dtype=np.float32)
    blocks = -(-1000 // threads)
    output = nan(blocks)
    with cuda_on_cpu(order):
        run("sum_blocks", blocks, threads, output, values, 1000, shared_memory=4 * threads)
    padded = np.concatenate([values, np.zeros(blocks * threads - 1000, np.float32)])
    np.testing.assert_array_equal(output, padded.reshape(blocks, threads).sum(1))


def test_threads_that_returned_are_not_waited_for(run, order):
    values = np.arange(50, dtype=np.float32)
    output = nan(50)
    with cuda_on_cpu(order):
        run("shift_left", 1, 64, output, values, 50, shared_memory=8 * 64)
    np.testing.assert_array_equal(output, np.roll(values, -1))


def test_shuffles(run, order):
    values = np.random.default_rng(0).integers(-99, 99, 32).astype(np.float64)
    output = nan(66, dtype=np.float64)
    with cuda_on_cpu(order):
        run("shuffle", 1, 32, output, values)
    assert output[0] == output[1] == values.sum()
    np.testing.assert_array_equal(output[2:34], values.reshape(4, 8).cumsum(1).ravel())
    np.testing.assert_array_equal(output[34:], np.repeat(values[[5, 21]], 16))


def test_parts_of_a_warp_go_their_own_way(run, order):
    output = np.full(64, -1, np.int32)
    with cuda_on_cpu(order):
        run("halves", 1, 64, output)
    thread = np.arange(64)
    np.testing.assert_array_equal(output, np.where(thread % 32 < 16, thread ^ 3, thread ^ 8))


@pytest.mark.parametrize("limit", [0, 1, 20, 40, 48])
def test_votes(run, order, limit):
    output = np.zeros((48, 7), np.uint32)
    with cuda_on_cpu(order):
        run("vote", 1, 48, output, limit)
    yes = np.arange(48) < limit
    for warp in (yes[:32], yes[32:]):
        ballot = sum(1 << lane for lane, vote in enumerate(warp) if vote)
        rows, output = output[: warp.size], output[warp.size :]
        everyone = [yes.sum(), yes.any(), yes.all()]
        assert (rows == np.array([ballot, warp.any(), warp.all(), *everyone, warp.sum()], np.uint32)).all()


def test_atomics(run, order):
    values = np.random.default_rng(1).integers(2, 14, 5000).astype(np.int32)
    counts, extremes, largest = np.zeros(16, np.int32), np.array([99, -99], np.int32), np.array([-1], np.float32)
    with cuda_on_cpu(order):
        run("histogram", 4, 128, counts, extremes, largest, values, values.size)
    np.testing.assert_array_equal(counts, np.bincount(values, minlength=16))
    assert (extremes == [values.min(), values.max()]).all()
    assert largest[0] == values.max() / 2


def test_arithmetic(run, order):
    output = nan(10, dtype=np.float64)
    with cuda_on_cpu(order):
        run("arithmetic", 1, 1, output, 4.0, 9.0, 40)
    np.testing.assert_array_equal(output, [0.5, 37, 4, 40, 26, 4, 3, 3, 8, 8])


def test_vector_loads_and_stores(run, order):
    values = np.arange(400, dtype=np.float32)
    output = nan(400)
    with cuda_on_cpu(order):
        run("scale4", 2, 64, output, values, 2.0, 100)
    np.testing.assert_array_equal(output, 2 * values)


def test_scalars_arrive_as_declared(run):
    output = nan(12, dtype=np.float64)
    values = (True, -128, 255, -32768, 65535, -(2**31), 2**32 - 1, -(2**62), 2**63, 0.1, 0.1, None)
    with cuda_on_cpu():
        run("scalars", 1, 1, output, *values)
    expected = [1, *values[1:7], -(2**30), 2**31, float(np.float32(0.1)), 0.1, 1]
    np.testing.assert_array_equal(output, expected)


def test_arrays_that_share_memory_still_do(machinery):
    buffer = np.arange(96, dtype=np.float32)
    with cuda_on_cpu():
        launch(get_kernel(machinery, "reverse_float32"), 1, 64, (buffer[32:], buffer[:64]))
    np.testing.assert_array_equal(buffer, np.concatenate([np.arange(32), np.arange(64)[::-1]]))


def test_what_is_only_read_stays(run):
    values = np.arange(64, dtype=np.float32)
    values.flags.writeable = False
    output = nan(64)
    with cuda_on_cpu():
        run("reverse_float32", 1, 64, output, values)
    assert output[0] == 63


def test_the_executor_belongs_to_the_thread():
    seen = []
    with cuda_on_cpu():
        assert uses_kernels(np.zeros(1))
        thread = threading.Thread(target=lambda: seen.append(uses_kernels(np.zeros(1))))
        thread.start()
        thread.join()
    assert seen == [False]
    assert not uses_kernels(np.zeros(1))


def test_executions_are_counted(run):
    with cuda_on_cpu("both"):
        run("number_threads", 1, 1, np.zeros(1, np.int32))
    assert executed_kernels()["machinery", "number_threads"] == {"forward", "reversed"}


@pytest.mark.parametrize("order", ["sideways", [], None])
def test_unknown_order(order):
    with pytest.raises(ValueError, match="order: expected 'forward', 'reversed' or 'both', got"), cuda_on_cpu(order):
        pass


def test_portable_context_switch(run, monkeypatch):
    """What other processors than x86-64 and ARM use."""
    monkeypatch.setattr(host_library, "FLAGS", (*host_library.FLAGS, "-DCUDA_ON_CPU_UCONTEXT"))
    values = np.arange(64, dtype=np.float32)
    output = nan(64)
    with cuda_on_cpu("both"):
        run("reverse_float32", 1, 64, output, values)
    np.testing.assert_array_equal(output, values[::-1])


def test_warp_extras(run, order):
    """A block of 48 threads, whose second warp is half empty."""
    values = np.arange(48, dtype=np.float32)
    output = np.zeros((48, 4), np.uint32)
    with cuda_on_cpu(order):
        run("warp_extras", 1, 48, output, values)
    np.testing.assert_array_equal(output[:, 0].view(np.float32), 4 * values)
    for first, lanes in ((0, 32), (32, 16)):
        rows = output[first : first + lanes]
        assert (rows[:, 1] == 2**lanes - 1).all()
        for lane, row in enumerate(rows, first):
            assert row[2] == sum(1 << other for other in range(lanes) if (first + other) % 3 == lane % 3)
            assert row[3] == int(f"{lane:032b}"[::-1], 2)


def test_warp_reductions(run, order):
    values = np.random.default_rng(3).integers(-(2**30), 2**30, 32).astype(np.int32)
    output = np.zeros((32, 6), np.int32)
    with cuda_on_cpu(order):
        run("warp_reductions", 1, 32, output, values)
    with np.errstate(over="ignore"):
        total = values.sum(dtype=np.int32)
    bits = [operation.reduce(values) for operation in (np.bitwise_and, np.bitwise_or, np.bitwise_xor)]
    assert (output == [total, values.min(), values.max(), *bits]).all()


def sources(kind, offset, width):
    """Which lane each lane reads, word for word as the PTX ISA manual has it for shfl.sync."""
    segment = ~(width - 1) & 31
    clamp = 0 if kind == "up" else 31
    for lane in range(32):
        value = offset & 31
        most, least = (lane & segment) | (clamp & ~segment), lane & segment
        if kind == "up":
            source, inside = lane - value, lane - value >= most
        elif kind == "down":
            source, inside = lane + value, lane + value <= most
        elif kind == "xor":
            source, inside = lane ^ value, lane ^ value <= most
        else:
            source, inside = least | (value & ~segment), (least | (value & ~segment)) <= most
        yield source if inside else lane


@pytest.mark.parametrize("width", [1, 2, 8, 32])
@pytest.mark.parametrize("offset", [0, 1, 5, 31, 32, 33, 1000, -1, -32, 2**31 - 1, -(2**31)])
def test_shuffles_beyond_the_warp(run, offset, width):
    output = np.full((32, 4), -1, np.int32)
    with cuda_on_cpu("both"):
        run("shuffle_anywhere", 1, 32, output, offset, width)
    for column, kind in enumerate(("idx", "up", "down", "xor")):
        assert output[:, column].tolist() == list(sources(kind, offset, width)), kind


def test_warp_barriers_at_several_lines(run, order):
    output = np.full(32, -1, np.int32)
    with cuda_on_cpu(order):
        run("warp_barriers_in_branches", 1, 32, output)
    np.testing.assert_array_equal(output, np.arange(32)[::-1])


# Faults are in test_planted_faults.py; these are ours ---------------------------------------------------------------


def test_after_a_fault_the_next_launch_is_sound(faults, run):
    with cuda_on_cpu():
        with pytest.raises(KernelFault):
            launch(get_kernel(faults, "divergent_barriers"), 1, 64, (nan(64),))
        output = np.full(4, -1, np.int32)
        run("number_threads", 1, 4, output)
    assert output.tolist() == [0, 1, 2, 3]
