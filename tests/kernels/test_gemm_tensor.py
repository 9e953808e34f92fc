"""The large products on tensor cores: every layout and dtype against float64 products of what the operands round to."""

import ml_dtypes
import numpy as np
import pytest

from gpunet.backend.gpu_limits import GPULimits
from gpunet.backend.kernels import kernel_file
from gpunet.ops import gemm_tensor_cuda as op
from gpunet.testing import relative_error

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("new_memory_is_nan")]

LAYOUTS = ["nt", "nn", "tn"]
HALF = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
CASES = [*((layout, np.dtype(np.float32)) for layout in LAYOUTS), *(("nt", dtype) for dtype in HALF)]
# Below, at and past a tile, a slab, and what is loaded at once; the last rows and columns of a tile in part.
SIZES = [(8, 8, 4), (128, 32, 128), (132, 40, 68), (60, 64, 260), (300, 104, 136), (4, 200, 4), (256, 16, 128)]


@pytest.fixture
def launched(monkeypatch):
    """The kernels that run: their names and grids."""
    names = []
    launch = op.launch

    def record(kernel, grid, *rest):
        names.append((kernel.name, grid))
        launch(kernel, grid, *rest)

    monkeypatch.setattr(op, "launch", record)
    return names


def rounded(values):
    """What tensor cores multiply: float32 to nearest with 10 bits behind the point, half types as they are."""
    if values.dtype != np.float32:
        return values.astype(np.float64)
    return ((values.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32).astype(np.float64)


def operands(layout, dtype, m, k, n, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    return (np.asfortranarray(a) if layout[0] == "t" else a), (np.asfortranarray(b) if layout[1] == "t" else b)


def product(machine, a, b, bias=None, **options):
    xp = machine.module

    def there(value):
        if value is None or value.flags.c_contiguous:
            return None if value is None else xp.asarray(value)
        return xp.asarray(np.ascontiguousarray(value.T)).T

    left, right, shift = there(a), there(b), there(bias)
    found = machine.run(lambda: op.tensor_product_cuda(left, right, shift, **{"anyway": True, **options}))
    return None if found is None else machine.numpy(found)


@pytest.mark.parametrize("naive", [False, True], ids=["production", "naive"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("layout", "dtype"), CASES, ids=str)
def test_the_equations(machine, launched, layout, dtype, sizes, naive):
    a, b = operands(layout, dtype, *sizes)
    bias = np.random.default_rng(1).standard_normal(sizes[2]).astype(np.float32)
    kind = "tf32" if dtype == np.float32 else dtype.name
    for shift in (None, bias):
        found = product(machine, a, b, shift, naive=naive)
        expected = rounded(a) @ rounded(b) + (0 if shift is None else shift)
        assert found.dtype == np.float32
        # On a GPU sums are cut off below the largest term's last bit, a few at a time.
        assert relative_error(found, expected) <= 1e-5
    assert launched[0][0] == f"gemm_tensor_{'naive' if naive else layout}_{kind}"


@pytest.mark.parametrize("splits", [2, 5])
@pytest.mark.parametrize(("layout", "dtype"), CASES, ids=str)
def test_sums_in_several_parts(machine, monkeypatch, launched, layout, dtype, splits):
    """Some of them empty; the bias is added once."""
    monkeypatch.setattr(op, "choose_splits", lambda *sizes: splits)
    for depth in (24, 96, 136):
        a, b = operands(layout, dtype, 12, depth, 20)
        bias = np.random.default_rng(1).standard_normal(20).astype(np.float32)
        assert relative_error(product(machine, a, b, bias), rounded(a) @ rounded(b) + bias) <= 1e-5
    assert {grid[2] for _, grid in launched} == {splits}


@pytest.mark.parametrize(("layout", "dtype"), CASES, ids=str)
def test_the_same_bits_twice(machine, layout, dtype):
    a, b = operands(layout, dtype, 136, 160, 132)
    np.testing.assert_array_equal(product(machine, a, b), product(machine, a, b))


@pytest.mark.parametrize(("layout", "dtype"), CASES, ids=str)
def test_non_finite_values_stay_in_their_rows_and_columns(machine, layout, dtype):
    a, b = operands(layout, dtype, 136, 40, 132)
    a[3, 7], b[21, 130] = np.nan, np.inf
    found = product(machine, a, b)
    expected = np.zeros(found.shape, bool)
    expected[3], expected[:, 130] = True, True
    np.testing.assert_array_equal(~np.isfinite(found), expected)


@pytest.mark.parametrize(
    "why, make",
    [
        ("depth", lambda: operands("nt", np.float32, 8, 6, 8)),
        ("columns", lambda: operands("nt", np.float32, 8, 8, 6)),
        ("rows across", lambda: operands("tn", np.float32, 6, 8, 8)),
        ("half pairs", lambda: operands("nt", np.float16, 8, 12, 8)),
        ("half layout", lambda: operands("nn", np.float16, 8, 8, 8)),
        ("both transposed", lambda: operands("tt", np.float32, 8, 8, 12)),
        ("gaps", lambda: (np.zeros((8, 16), np.float32)[:, ::2], np.zeros((8, 8), np.float32))),
        ("address", lambda: (np.zeros(65, np.float32)[1:].reshape(8, 8), np.zeros((8, 8), np.float32))),
        ("nothing", lambda: operands("nt", np.float32, 0, 8, 8)),
    ],
)
def test_what_goes_another_way(host, launched, why, make):
    assert op.tensor_product_cuda(*make(), anyway=True) is None, why
    assert not launched


def test_small_products_and_old_gpus_go_another_way(host, monkeypatch):
    a, b = operands("nt", np.float32, 64, 64, 60)
    assert op.tensor_product_cuda(a, b) is None
    monkeypatch.setattr(op, "gpu_limits", lambda: GPULimits(40, 64 * 1024, 75, True))
    assert op.tensor_product_cuda(*operands("nt", np.float32, 128, 64, 128)) is None


def test_the_kernels_are_those_that_are_launched():
    names = set(kernel_file("gemm_tensor").functions)
    made = {f"gemm_tensor_{layout}_{'tf32' if dtype == np.float32 else dtype.name}" for layout, dtype in CASES}
    assert names == made | {f"gemm_tensor_naive_{kind}" for kind in ("tf32", "float16", "bfloat16")}
