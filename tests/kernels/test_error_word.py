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
from gpunet.backend.kernels import KernelFile, get_kernel, kernel_folder, launch, read_kernel_file
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
