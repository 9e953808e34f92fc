"""The memory of the GPUs: what is used, what was used at most, and the error when there is no more."""

from __future__ import annotations

import random
import threading

import pytest

import gpunet as gn
from gpunet import cuda
from gpunet.backend import devices, gpu_memory
from gpunet.backend.gpu_memory import is_out_of_memory

PIECE = 512


@pytest.fixture
def gpus(two_gpus):
    cuda.init()
    return two_gpus


def test_memory_in_use(gpus):
    first = gpus.allocate(1000)
    gpus.allocate(1)
    with cuda.device(1):
        gpus.allocate(PIECE)
    assert (cuda.memory_allocated(), cuda.memory_allocated(1)) == (3 * PIECE, PIECE)
    first.free()
    assert (cuda.memory_allocated(), cuda.memory_reserved()) == (PIECE, 3 * PIECE)
    assert cuda.mem_get_info() == (61 * PIECE, 64 * PIECE)
    cuda.empty_cache()
    assert (cuda.memory_reserved(), cuda.memory_reserved("cuda:1")) == (PIECE, PIECE)


def test_peaks_are_kept_for_each_gpu(gpus):
    for size in (3, 1):
        gpus.allocate(size * PIECE).free()
    gpus.allocate(2 * PIECE)
    with cuda.device(1):
        gpus.allocate(PIECE)
    assert (cuda.max_memory_allocated(), cuda.max_memory_allocated(1)) == (3 * PIECE, PIECE)
    assert (cuda.max_memory_reserved(), cuda.max_memory_reserved(1)) == (3 * PIECE, PIECE)
    assert (cuda.memory_allocated(), cuda.memory_reserved()) == (2 * PIECE, 3 * PIECE)
    cuda.empty_cache()
    cuda.reset_peak_memory_stats()
    assert (cuda.max_memory_allocated(), cuda.max_memory_reserved()) == (2 * PIECE, 2 * PIECE)
    assert cuda.max_memory_allocated(1) == PIECE


def test_peaks_are_exact_whoever_frees(gpus):
    """Held against counting by hand; the frees come from another thread, whom CuPy's hooks would not see."""
    draw = random.Random(0)
    live, highest = [], 0
    for _ in range(500):
        if live and draw.random() < 0.5:
            thread = threading.Thread(target=live.pop(draw.randrange(len(live))).free)
            thread.start()
            thread.join()
        elif sum(memory.size for memory in live) < 50 * PIECE:
            live.append(gpus.allocate(draw.randint(1, 5) * PIECE))
        highest = max(highest, sum(memory.size for memory in live))
        assert cuda.max_memory_allocated() == highest
    assert highest > 40 * PIECE


def test_the_pool_is_not_asked_each_time(gpus):
    peak = gpus.allocate(32 * PIECE)
    peak.free()
    gpus.pool.asked = 0
    for _ in range(100):  # a training step far below the peak: at most one question for each peak's worth of bytes
        gpus.allocate(PIECE).free()
    assert gpus.pool.asked <= 4
    assert cuda.max_memory_allocated() == 32 * PIECE


def test_memory_used_before_gpunet_counts(two_gpus):
    two_gpus.allocate(4 * PIECE)
    cuda.init()
    two_gpus.allocate(PIECE).free()
    assert cuda.max_memory_allocated() == 5 * PIECE


def test_statistics(gpus):
    gpus.allocate(2 * PIECE).free()
    gpus.allocate(PIECE)
    assert cuda.memory_stats() == {
        "allocated_bytes.all.current": PIECE,
        "allocated_bytes.all.peak": 2 * PIECE,
        "reserved_bytes.all.current": 2 * PIECE,
        "reserved_bytes.all.peak": 2 * PIECE,
        "num_alloc_retries": 0,
        "num_ooms": 0,
    }
    text = cuda.memory_summary(abbreviated=True)
    assert "memory of cuda:0 (GPU 0)" in text
    assert "tried again: 0, failed: 0" in text


def test_out_of_memory_says_who_has_it(gpus):
    gpus.others[0] = 40 * PIECE
    gpus.allocate(10 * PIECE)
    gpus.allocate(6 * PIECE).free()
    with pytest.raises(cuda.OutOfMemoryError) as caught:
        gpus.allocate(20 * PIECE)
    assert str(caught.value) == (
        "CUDA out of memory on 'cuda:0': 10.00 KiB asked for; arrays use 5.00 KiB and 0 bytes are cached; 7.00 KiB of "
        "the GPU's 32.00 KiB are free; other programs and CUDA itself have 20.00 KiB. Try a smaller batch, "
        "`with gn.no_grad():` where nothing is trained, gn.cuda.empty_cache()"
    )
    assert cuda.memory_stats()["num_ooms"] == 1
    assert cuda.memory_allocated() == 10 * PIECE


def test_out_of_memory_is_every_programs_error(gpus):
    for error in (gn.OutOfMemoryError, RuntimeError, MemoryError, gpus.cuda.memory.OutOfMemoryError):
        with pytest.raises(error, match="CUDA out of memory"):
            gpus.allocate(100 * PIECE)
    assert gn.OutOfMemoryError is cuda.OutOfMemoryError


def test_out_of_memory_on_the_gpu_that_is_asked(gpus):
    with cuda.device(1), pytest.raises(gn.OutOfMemoryError, match=r"on 'cuda:1': 50\.00 KiB asked for"):
        gpus.allocate(100 * PIECE)


def test_cached_memory_is_freed_first(gpus):
    """CuPy does so itself, but not where a limit was set."""
    gpus.pool.limit = 8 * PIECE
    gpus.allocate(5 * PIECE).free()
    real = gpus.pool.malloc
    refused = []

    def fragmented(size):  # what is cached does not fit together
        if not refused:
            refused.append(size)
            raise gpus.cuda.memory.OutOfMemoryError(size, 0, 0)
        return real(size)

    gpus.allocator.allocate = fragmented
    assert gpus.allocate(6 * PIECE).size == 6 * PIECE
    assert gpus.log == ["free 0"]
    assert (cuda.memory_stats()["num_alloc_retries"], cuda.memory_stats()["num_ooms"]) == (1, 0)
    with pytest.raises(gn.OutOfMemoryError, match=r"CuPy is limited to 4.00 KiB \(CUPY_GPU_MEMORY_LIMIT or set_limit"):
        gpus.allocate(3 * PIECE)


def test_other_errors_pass(gpus):
    def broken(size):
        raise ValueError("the GPU fell off the bus")

    gpus.allocator.allocate = broken
    with pytest.raises(ValueError, match="fell off"):
        gpus.allocate(1)
    assert cuda.memory_stats()["num_alloc_retries"] == 0


def test_a_gpu_that_says_nothing(gpus, monkeypatch):
    def broken():
        raise RuntimeError("no context")

    monkeypatch.setattr(gpus.pool, "get_limit", broken)
    with pytest.raises(gn.OutOfMemoryError) as caught:
        gpus.allocate(100 * PIECE)
    assert "the GPU does not say how much it has left" in str(caught.value)
    assert str(caught.value).endswith("ending other programs on this GPU (nvidia-smi lists them)")


def test_other_programs_are_named_where_they_have_much(gpus, monkeypatch):
    monkeypatch.setattr(gpus.cuda.runtime, "memGetInfo", lambda: (1 << 30, 80 << 30))
    with pytest.raises(gn.OutOfMemoryError, match=r"1.00 GiB of the GPU's 80.00 GiB are free; .* \(nvidia-smi lists"):
        gpus.allocate(100 * PIECE)


def test_what_counts_as_out_of_memory():
    runtime = type("CUDARuntimeError", (RuntimeError,), {"status": 2})
    driver = type("CUDADriverError", (RuntimeError,), {"status": 2})
    other = type("CUDARuntimeError", (RuntimeError,), {"status": 35})
    unrelated = type("CUBLASError", (RuntimeError,), {"status": 2})
    assert all(is_out_of_memory(error()) for error in (MemoryError, runtime, driver))
    assert not any(is_out_of_memory(error()) for error in (other, unrelated, ValueError))


def test_a_programs_own_allocator_is_kept(two_gpus):
    calls = []

    def own(size):
        calls.append(size)
        return two_gpus.pool.malloc(size)

    two_gpus.cuda.set_allocator(own)
    cuda.init()
    two_gpus.allocate(3)
    assert calls == [3]


def test_a_program_inside_using_allocator(two_gpus):
    def refuse(allocator):
        raise ValueError("Can't change the global allocator inside `using_allocator` context manager")

    two_gpus.cuda.set_allocator = refuse
    cuda.init()
    two_gpus.allocate(PIECE)
    assert cuda.max_memory_allocated() == PIECE  # what is used now is known all the same


def test_a_preparation_that_comes_late_is_done_at_once(gpus, monkeypatch):
    monkeypatch.setattr(devices, "_preparations", [])
    seen = []
    devices.when_cupy_loads(seen.append)
    assert seen == [gpus]


@pytest.mark.kernels
def test_the_real_cupys_error_can_be_combined_with():
    cupy = pytest.importorskip("cupy")
    error = gpu_memory._Allocator(cupy, None).error("text")
    assert isinstance(error, cupy.cuda.memory.OutOfMemoryError)
    assert isinstance(error, gn.OutOfMemoryError)
    assert str(error) == "text"
    assert gn.OutOfMemoryError in type(error).__mro__


@pytest.mark.gpu
def test_memory_of_a_real_gpu():
    cuda.empty_cache()
    cuda.reset_peak_memory_stats()
    before, reserved = cuda.memory_allocated(), cuda.memory_reserved()
    large = [gn.zeros(4 << 20, device="cuda")]
    assert cuda.memory_allocated() - before == 16 << 20
    small = gn.zeros(1 << 20, device="cuda")
    thread = threading.Thread(target=large.clear)  # frees it there
    thread.start()
    thread.join()
    assert cuda.memory_allocated() - before == 4 << 20
    assert cuda.max_memory_allocated() - before >= 20 << 20
    assert cuda.max_memory_reserved() >= cuda.max_memory_allocated()
    assert cuda.memory_reserved() >= cuda.memory_allocated() + (16 << 20)
    cuda.empty_cache()
    assert cuda.memory_reserved() <= reserved + (4 << 20)
    cuda.reset_peak_memory_stats()
    assert cuda.max_memory_allocated() == cuda.memory_allocated()
    del small


@pytest.mark.gpu
def test_out_of_memory_on_a_real_gpu():
    import cupy

    total = cuda.mem_get_info()[1]
    failures = cuda.memory_stats()["num_ooms"]
    before = cuda.memory_allocated()
    with pytest.raises(gn.OutOfMemoryError, match=r"CUDA out of memory on 'cuda:0': .* asked for; arrays use"):
        gn.zeros(total // 2, device="cuda")
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
        cupy.empty(total, "uint8")
    x = gn.zeros(1 << 16, device="cuda")
    with pytest.raises(gn.OutOfMemoryError):  # within an operation
        x.unsqueeze(1) + gn.zeros(total >> 16, device="cuda")
    assert cuda.memory_stats()["num_ooms"] - failures >= 3
    del x
    assert cuda.memory_allocated() <= before + (1 << 20)
    assert float(gn.ones(3, device="cuda").sum()) == 3.0  # and on it goes


@pytest.mark.gpu
def test_peaks_follow_the_pool_on_a_real_gpu():
    import cupy

    draw = random.Random(1)
    cuda.empty_cache()
    cuda.reset_peak_memory_stats()
    pool = cupy.get_default_memory_pool()
    live, highest = [], pool.used_bytes()
    for _ in range(300):
        if live and draw.random() < 0.45:
            live.pop(draw.randrange(len(live)))
        else:
            live.append(cupy.empty(draw.randint(1, 1 << 20), "uint8"))
        highest = max(highest, pool.used_bytes())
        assert cuda.max_memory_allocated() == highest
