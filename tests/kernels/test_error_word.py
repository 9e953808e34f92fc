"""Bad values that a kernel meets: left out, noted in the error word, raised at the next synchronisation."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import gpunet as gn
from gpunet.backend import error_word as words
from gpunet.backend.error_word import clear_error_words, error_word, raise_deferred
from gpunet.backend.kernels import KernelFile, blocks_for, get_kernel, kernel_folder, launch, read_kernel_file
from gpunet.testing import cuda_on_cpu

HEADER = "error_word.cuh"


@pytest.fixture(autouse=True)
def _no_words():
    clear_error_words()
    yield
    clear_error_words()


@pytest.fixture
def file(tmp_path: Path) -> KernelFile:
    """The kernel beside the header that it includes."""
    shutil.copy(kernel_folder() / HEADER, tmp_path)
    shutil.copy(Path(__file__).with_name("error_word.cu"), tmp_path)
    return read_kernel_file(tmp_path / "error_word.cu")


def look_up(file, module, rows):
    """table[rows] with table = 0, 10, 20, 30, in the kernel; NaN where nothing was written."""
    table = module.arange(4, dtype=module.float32) * module.float32(10)
    output = module.full(len(rows), np.nan, module.float32)
    word = error_word(output)
    launch(get_kernel(file, "look_up"), 1, 256, (output, table, module.asarray(rows, np.int32), 4, len(rows), word))
    return output


def test_the_header_has_the_bits_of_the_table():
    text = (kernel_folder() / HEADER).read_text(encoding="utf-8")
    found = {name: 1 << int(bit) for name, bit in re.findall(r"constexpr int ERROR_(\w+) = 1 << (\d+);", text)}
    assert found == {kind.upper().replace(" ", "_"): bit for kind, bit in words._BITS.items()}
    assert text.count("ERROR_") == len(found)


def test_a_word_is_an_int32_array_and_stays_the_same():
    word = error_word(np.zeros(3, np.float32))
    assert (word.dtype, word.shape, int(word)) == (np.int32, (), 0)
    assert error_word(np.ones(1)) is word


@pytest.mark.kernels
@pytest.mark.usefixtures("host")
class TestOnTheCpu:
    @pytest.mark.parametrize("order", ["forward", "reversed", "both"])
    def test_good_rows_are_read_and_bad_ones_are_left_out(self, file, order):
        with cuda_on_cpu(order):
            output = look_up(file, np, [3, 0, 4, 1, -1])
        np.testing.assert_array_equal(output, np.float32([30, 0, np.nan, 10, np.nan]))
        with pytest.raises(IndexError, match=r"^embedding: indices must lie in 0..num_embeddings-1$"):
            raise_deferred()
        raise_deferred()  # once

    def test_good_rows_raise_nothing(self, file):
        with cuda_on_cpu():
            look_up(file, np, [3, 0])
        assert int(error_word(np.zeros(1))) == 0
        raise_deferred()

    @pytest.mark.parametrize("wait", [gn.Tensor.item, gn.Tensor.numpy, gn.Tensor.tolist, float])
    def test_the_error_comes_where_the_host_waits(self, file, wait):
        value = gn.tensor(1.0)
        with cuda_on_cpu():
            look_up(file, np, [9])
            doubled = value * 2  # runs on
        with pytest.raises(IndexError, match=r"^embedding: "):
            wait(doubled)
        assert wait(doubled) == 2.0

    def test_operations_of_the_cpu_still_raise_at_once(self, file):
        with cuda_on_cpu():
            look_up(file, np, [0])
        with pytest.raises(IndexError, match=r"^embedding: .*; got 7 with 4 rows"):
            gn.nn.functional.embedding(gn.tensor([7]), gn.zeros(4, 2))


@pytest.mark.kernels
@pytest.mark.parametrize("size", [1, 255, 256, 1000, 70000])
def test_bits_are_reported_where_anything_is_bad(machine, size):
    module = machine.module
    kernel = get_kernel("value_errors", "report_where")
    for bad in ([], [0], [size - 1], [size // 2, size - 1]):
        flags = np.zeros(size, np.bool_)
        flags[bad] = True
        word = module.full((), 8, np.int32)
        args = module.asarray(flags), size, 5, word
        machine.run(lambda args=args: launch(kernel, blocks_for(size, 256, 7), 256, args))
        assert int(word) == (13 if bad else 8)


@pytest.mark.kernels
def test_a_word_is_taken_and_left_empty(machine):
    module = machine.module
    word, taken = module.full((), 37, np.int32), module.full((), -1, np.int32)
    machine.run(lambda: launch(get_kernel("value_errors", "take_error_word"), 2, 32, (word, taken)))
    assert (int(word), int(taken)) == (0, 37)


@pytest.mark.gpu
def test_a_side_stream_on_a_gpu(file):
    """What a stream is asked to do before a read is reported there, however long it takes and whatever stream reads."""
    import cupy

    look_up(file, cupy, [0])  # compiled, and the word made
    raise_deferred()
    x = gn.ones(2048, 2048, device="cuda")
    side = gn.cuda.Stream()
    side.wait_stream(gn.cuda.current_stream())
    with gn.cuda.stream(side):
        for _ in range(50):
            x = (x @ x) * 1e-4
        look_up(file, cupy, [7])
    with pytest.raises(IndexError, match=r"^embedding: "):
        raise_deferred()
    raise_deferred()
    with gn.cuda.stream(side), pytest.raises(IndexError, match=r"^target: "):
        gn.nn.functional.nll_loss(gn.zeros(2, 3, device="cuda"), gn.tensor([0, 3], device="cuda")).item()


@pytest.mark.gpu
def test_on_a_gpu(file):
    import cupy

    output = look_up(file, cupy, [3, 0, 4, 1, -1])
    np.testing.assert_array_equal(output.get(), np.float32([30, 0, np.nan, 10, np.nan]))
    with pytest.raises(IndexError, match=r"^embedding: indices must lie in 0..num_embeddings-1$"):
        gn.ones(2, device="cuda").sum().item()
    assert gn.ones(2, device="cuda").sum().item() == 2.0
    look_up(file, cupy, [0])
    raise_deferred()
