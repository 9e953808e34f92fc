"""CUDA's __half and __nv_bfloat16 on a CPU: conversions and arithmetic against NumPy's and ml_dtypes' types."""

import ml_dtypes
import numpy as np
import pytest

from gpunet.backend.kernels import get_kernel, launch, read_kernel_file
from gpunet.testing import cuda_on_cpu

from .conftest import HERE

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("host")]

EVERY = np.arange(2**16, dtype=np.uint16)


@pytest.fixture(scope="module")
def file():
    return read_kernel_file(HERE / "small_floats.cu")


@pytest.fixture(params=[("half", np.float16), ("bfloat", ml_dtypes.bfloat16)], ids=["half", "bfloat16"])
def kind(request):
    return request.param


@pytest.fixture
def run(file):
    def run(name, threads, *args):
        with cuda_on_cpu("both"):
            launch(get_kernel(file, name), 1, threads, args)

    return run


def same(got, expected):
    """Equal in every bit, but for which NaN a NaN is."""
    both_nan = np.isnan(got.astype(np.float32)) & np.isnan(expected.astype(np.float32))
    bits = np.dtype(f"u{got.dtype.itemsize}")
    assert ((got.view(bits) == expected.view(bits)) | both_nan).all()


def test_every_number_to_float(run, kind):
    name, dtype = kind
    output = np.zeros(2**16, np.float32)
    run(f"{name}_to_float", 32, output, EVERY.view(dtype), 2**16)
    same(output, EVERY.view(dtype).astype(np.float32))


def near_every_number(dtype):
    """Every finite number, the middle to the next one, and the floats next to the middle."""
    numbers = EVERY.view(dtype).astype(np.float32)
    numbers = np.unique(numbers[np.isfinite(numbers)])
    middle = ((numbers[1:].astype(np.float64) + numbers[:-1]) / 2).astype(np.float32)
    extremes = np.array([np.inf, -np.inf, np.nan, 3.4028235e38, 65519.996, 65520, -65520], np.float32)
    above, below = np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, np.float32(-np.inf))
    return np.concatenate([numbers, middle, above, below, extremes])


def test_floats_round_to_nearest_even(run, kind):
    name, dtype = kind
    x = near_every_number(dtype)
    output = np.zeros(x.size, dtype)
    run(f"float_to_{name}", 32, output, x, x.size)
    with np.errstate(over="ignore"):
        same(output, x.astype(dtype))


def test_doubles_are_rounded_once(run, kind):
    """A double just past the middle between two numbers goes up, though as a float it is the middle."""
    name, dtype = kind
    rng = np.random.default_rng(0)
    low = rng.integers(0x0400, 0x7000, 500).astype(np.uint16)
    down, up = (bits.view(dtype).astype(np.float64) for bits in (low, low + np.uint16(1)))
    middle = (down + up) / 2
    x = np.concatenate([middle * (1 + 2.0**-40), middle * (1 - 2.0**-40), middle])
    output = np.zeros(x.size, dtype)
    run(f"double_to_{name}", 32, output, x, x.size)
    even = np.where(low % 2 == 0, down, up)
    same(output, np.concatenate([up, down, even]).astype(dtype))


def test_arithmetic(run, kind):
    name, dtype = kind
    rng = np.random.default_rng(1)
    x, y, z = (rng.integers(0, 2**16, 20_000).astype(np.uint16).view(dtype) for _ in range(3))
    output = np.zeros((6, x.size), dtype)
    run(f"{name}_arithmetic", 32, output, x, y, z, x.size)
    with np.errstate(all="ignore"):
        x64, y64 = x.astype(np.float64), y.astype(np.float64)
        # Rounding a double sum, product or quotient of such short numbers is rounding the exact one.
        for got, exact in zip(output[:4], (x64 + y64, x64 - y64, x64 * y64, x64 / y64), strict=True):
            same(got, exact.astype(dtype))
        same(output[5], np.fmax(x64, y64).astype(dtype))


def test_multiply_add_is_rounded_once(run, kind):
    """Against exact rational arithmetic."""
    from fractions import Fraction

    name, dtype = kind
    rng = np.random.default_rng(2)
    # Near 1, where the last bits of the product decide, and far apart, where only their being there does.
    x, y = ((1 + rng.random(400)).astype(np.float32).astype(dtype) for _ in range(2))
    z = (2.0 ** rng.integers(-20, 14, 400)).astype(np.float32).astype(dtype)
    output = np.zeros((6, 400), dtype)
    run(f"{name}_arithmetic", 32, output, x, y, z, 400)
    for got, a, b, c in zip(output[4], x, y, z, strict=True):
        exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        bits = got.view(np.uint16)
        distance = abs(Fraction(float(got)) - exact)
        for other in (bits - np.uint16(1), bits + np.uint16(1)):
            other_distance = abs(Fraction(float(other.view(dtype))) - exact)
            assert distance < other_distance or (distance == other_distance and bits % 2 == 0)


def test_pairs(run, kind):
    name, dtype = kind
    x = np.random.default_rng(3).integers(-9, 10, (32, 2)).astype(dtype)
    output = np.zeros((32, 2), dtype)
    run(f"{name}_pairs", 32, output, x)
    expected = -(x.astype(np.float32) ** 2 + x.astype(np.float32))
    np.testing.assert_array_equal(output.astype(np.float32), expected[::-1, ::-1])
