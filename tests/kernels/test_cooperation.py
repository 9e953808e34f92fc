"""Blocks that wait for each other (grid_barrier.cuh), copies that go on while a thread computes (async_copy.cuh)."""

import numpy as np
import pytest

from gpunet.backend.errors import ShapeError
from gpunet.backend.kernels import get_kernel, launch, read_kernel_file
from gpunet.testing import cuda_on_cpu

from .conftest import HERE, PLACES, launch_at

pytestmark = pytest.mark.kernels


@pytest.fixture(scope="module")
def file():
    return read_kernel_file(HERE / "cooperation.cu")


@pytest.fixture(params=PLACES)
def run(request, file):
    """Launch on the CPU or a GPU, on NumPy arrays either way."""
    return launch_at(request, file)


def after(blocks, rounds):
    """In every round each value is increased by its left neighbour's."""
    values = np.arange(1, blocks + 1)
    for _ in range(rounds):
        values = values + np.roll(values, 1)
    return values


@pytest.mark.parametrize("blocks, threads", [(1, 64), (3, 32), (20, 96)])
def test_grid_barrier(run, blocks, threads):
    """Two launches with one counter, of an odd number of barriers, and what each block keeps in between."""
    counter = np.zeros(1, np.uint32)
    for launches, rounds in enumerate((5, 6), 1):
        values = np.full((2, blocks), -1, np.int32)
        state = np.full((blocks, 2), -1, np.int32)
        run("ring", blocks, threads, values, state, counter, rounds, shared_memory=4 * threads, cooperative=True)
        expected = after(blocks, rounds)
        np.testing.assert_array_equal(values[rounds % 2], expected)
        np.testing.assert_array_equal(state, np.stack([expected, expected], -1))
        barriers = 5 if launches == 1 else 11
        assert counter[0] == (barriers % 2) << 31, "a barrier changes the highest bit and leaves the others"


@pytest.mark.usefixtures("host")
def test_large_grid(file):
    """As many threads as a large GPU would have at once for such a kernel; afterwards their stacks are given back."""
    blocks = 132
    values, state, counter = np.zeros((2, blocks), np.int32), np.zeros((blocks, 2), np.int32), np.zeros(1, np.uint32)
    with cuda_on_cpu():
        launch(
            get_kernel(file, "ring"),
            blocks,
            256,
            (values, state, counter, 3),
            shared_memory=48 * 1024,
            cooperative=True,
        )
    np.testing.assert_array_equal(values[1], after(blocks, 3))


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("cooperative", [False, True])
def test_polling(file, cooperative):
    """Blocks that are there at once may wait for each other in any order; one after the other, in order only."""
    values = np.zeros(6, np.int32)
    with cuda_on_cpu("both" if cooperative else "forward"):
        launch(get_kernel(file, "chain"), 6, 40, (values,), cooperative=cooperative)
    np.testing.assert_array_equal(values, np.arange(1, 7))


@pytest.mark.parametrize("size", [4, 8, 16])
@pytest.mark.parametrize("inside", [192, 100, 0])
def test_copies(run, size, inside):
    words = size // 4
    values = np.random.default_rng(0).integers(1, 2**32, (192, words), np.uint64).astype(np.uint32)
    output = np.zeros_like(values)
    run(f"copy_{size}", 1, 64, output, values, 192, inside)
    values[inside:] = 0
    np.testing.assert_array_equal(output, values.reshape(3, 64, words)[:, ::-1].reshape(192, words))


def test_groups_of_copies(run):
    output = np.full(3, np.nan, np.float32)
    run("groups", 1, 1, output, np.arange(1, 4, dtype=np.float32))
    np.testing.assert_array_equal(output, [1, 2, 3])


@pytest.mark.gpu
def test_more_blocks_than_the_gpu_holds(file):
    import cupy

    values, state, counter = cupy.zeros((2, 10**6), "i"), cupy.zeros((10**6, 2), "i"), cupy.zeros(1, "I")
    with pytest.raises(ShapeError, match="1000000 blocks that wait for each other, but 'cuda:0' holds at most"):
        launch(get_kernel(file, "ring"), 10**6, 32, (values, state, counter, 1), 128, cooperative=True)
