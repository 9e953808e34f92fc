"""mma.cuh: where the elements of its fragments lie, what is multiplied, and how exactly."""

import ml_dtypes
import numpy as np
import pytest

from gpunet.backend.kernels import read_kernel_file

from .conftest import HERE, PLACES, launch_at

pytestmark = pytest.mark.kernels

LANE = np.arange(32)
G, T = LANE // 4, LANE % 4


def table(*rows_and_columns):
    """[lane, i, 2]: row and column of element i."""
    return np.stack([np.stack(pair, -1) for pair in rows_and_columns], 1).astype(np.int32)


# The PTX ISA manual, "Matrix Fragments for mma.m16n8k8" and "mma.m16n8k16": row and column of each register's first
# element.
ACCUMULATOR = table((G, 2 * T), (G, 2 * T + 1), (G + 8, 2 * T), (G + 8, 2 * T + 1))
TF32_A = table((G, T), (G + 8, T), (G, T + 4), (G + 8, T + 4))
TF32_B = table((T, G), (T + 4, G))
PAIR_A = table((G, 2 * T), (G + 8, 2 * T), (G, 2 * T + 8), (G + 8, 2 * T + 8))
PAIR_B = table((2 * T, G), (2 * T + 8, G))


@pytest.fixture(scope="module")
def file():
    return read_kernel_file(HERE / "tensor_cores.cu")


@pytest.fixture(params=PLACES)
def run(request, file):
    """Launch on the CPU or a GPU, on NumPy arrays either way."""
    return launch_at(request, file)


def to_tf32(x):
    """To nearest, ties away from zero."""
    bits = x.view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def cut_to_tf32(x):
    return (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def test_tables(run):
    tables = [ACCUMULATOR, TF32_A, TF32_B, PAIR_A, PAIR_B]
    found = [np.full_like(expected, -1) for expected in tables]
    run("fragment_indices", 1, 32, *found)
    for got, expected in zip(found, tables, strict=True):
        np.testing.assert_array_equal(got, expected)


# name, dtype of the elements, elements in a word, tables of a and b, depth
FORMS = [
    ("raw_tf32", np.float32, 1, TF32_A, TF32_B, 8),
    ("raw_bf16", ml_dtypes.bfloat16, 2, PAIR_A, PAIR_B, 16),
    ("raw_fp16", np.float16, 2, PAIR_A, PAIR_B, 16),
    ("raw_fp16_k8", np.float16, 2, PAIR_A[:, :2], PAIR_B[:, :1], 8),
]


@pytest.mark.parametrize("name, dtype, count, table_a, table_b, depth", FORMS, ids=[form[0] for form in FORMS])
def test_where_elements_lie(run, name, dtype, count, table_a, table_b, depth):
    """Small integers, whose products and sums are exact, laid out by the manual's tables."""
    rng = np.random.default_rng(0)
    a = rng.integers(-8, 9, (16, depth)).astype(dtype)
    b = rng.integers(-8, 9, (depth, 8)).astype(dtype)
    c = rng.integers(-99, 99, (16, 8)).astype(np.float32)
    words_a = np.stack([a[table_a[..., 0], table_a[..., 1] + i] for i in range(count)], -1)
    words_b = np.stack([b[table_b[..., 0] + i, table_b[..., 1]] for i in range(count)], -1)
    accumulator = c[ACCUMULATOR[..., 0], ACCUMULATOR[..., 1]].copy()
    run(name, 1, 32, accumulator, words_a.view(np.uint32).copy(), words_b.view(np.uint32).copy())
    expected = c + a.astype(np.float32) @ b.astype(np.float32)
    np.testing.assert_array_equal(accumulator, expected[ACCUMULATOR[..., 0], ACCUMULATOR[..., 1]])


ROUNDINGS = [
    ("gemm_tf32", to_tf32, (True,)),
    ("gemm_tf32", cut_to_tf32, (False,)),
    ("gemm_bf16", lambda x: x.astype(ml_dtypes.bfloat16), ()),
    ("gemm_fp16", lambda x: x.astype(np.float16), ()),
    ("gemm_fp16_k8", lambda x: x.astype(np.float16), ()),
]


@pytest.mark.parametrize("name, rounded, options", ROUNDINGS, ids=["tf32", "tf32-cut", "bf16", "fp16", "fp16-k8"])
def test_products(run, name, rounded, options):
    """As exact as float32 sums of the rounded operands' products are, even if each addition cuts off."""
    rng = np.random.default_rng(1)
    m, n, depth = 48, 24, 64
    a, b = rng.standard_normal((m, depth)).astype(np.float32), rng.standard_normal((depth, n)).astype(np.float32)
    c = np.full((m, n), np.nan, np.float32)
    run(name, (n // 8, m // 16), 32, c, a, b, n, depth, *options)
    a64, b64 = rounded(a).astype(np.float64), rounded(b).astype(np.float64)
    bound = depth * 2.0**-23 * (np.abs(a64) @ np.abs(b64))
    assert (np.abs(c - a64 @ b64) <= bound).all()
    # It is these operands that were multiplied: with those of full precision, most are further away than the bound.
    assert (np.abs(c - a.astype(np.float64) @ b) > bound).mean() > 0.5


def test_split_operands_are_nearly_float32(run):
    rng = np.random.default_rng(2)
    m, n, depth = 32, 16, 64
    a, b = rng.standard_normal((m, depth)).astype(np.float32), rng.standard_normal((depth, n)).astype(np.float32)
    c = np.full((m, n), np.nan, np.float32)
    run("gemm_split_tf32", (n // 8, m // 16), 32, c, a, b, n, depth)
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    # The product of the small parts is left out (2^-22 of a product), and both parts are rounded (2^-22 each).
    bound = (3 * depth * 2.0**-23 + 3 * 2.0**-22) * (np.abs(a64) @ np.abs(b64))
    assert (np.abs(c - a64 @ b64) <= bound).all()


@pytest.mark.parametrize("m, n, depth", [(128, 128, 128), (256, 128, 32)])
def test_tiled_product(run, m, n, depth):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((m, depth)).astype(np.float32), rng.standard_normal((depth, n)).astype(np.float32)
    c, naive = np.full((m, n), np.nan, np.float32), np.full((m, n), np.nan, np.float32)
    run("gemm_tiled_tf32", (n // 128, m // 128), 256, c, a, b, n, depth)
    run("gemm_tf32", (n // 8, m // 16), 32, naive, a, b, n, depth, True)
    np.testing.assert_array_equal(c, naive)


def test_matrices_from_shared_memory(run):
    """The PTX ISA manual, "ldmatrix": lane 4 r + t gets elements (r, 2t) and (r, 2t + 1)."""
    numbers = np.random.default_rng(4).permutation(2**16)[: 4 * 64].astype(np.uint16).reshape(4, 8, 8)
    words = np.full((6, 32, 4), 0xFFFFFFFF, np.uint32)
    run("matrices", 1, 32, words, numbers.view(np.uint32))
    for form, (count, transposed) in enumerate([(1, 0), (2, 0), (4, 0), (1, 1), (2, 1), (4, 1)]):
        matrices = numbers.transpose(0, 2, 1) if transposed else numbers
        for i in range(count):
            pairs = np.stack([matrices[i][G, 2 * T], matrices[i][G, 2 * T + 1]], -1)
            np.testing.assert_array_equal(words[form, :, i], pairs.copy().view(np.uint32)[:, 0])
        assert (words[form, :, count:] == 0xFFFFFFFF).all()


def test_conversions(run):
    """Random bits, and what lies in the middle between two numbers; NumPy and ml_dtypes round the same way."""
    rng = np.random.default_rng(5)
    middle = [np.float32(2**-14 * (1 + k / 2048)) for k in range(32)] + [np.float32(1 + k / 256) for k in range(32)]
    special = [0.0, -0.0, np.inf, -np.inf, 65504, 65519.996, 65520, 3.4e38, 2**-24, 2**-25, 2**-25 * 1.0001, 1e-45]
    bits = rng.integers(0, 2**32, 50_000, np.uint64).astype(np.uint32)
    x = np.concatenate([bits.view(np.float32), np.array(middle + special, np.float32)])
    x = x[~np.isnan(x)]
    tf32, fp16, bf16 = (np.zeros(x.size, np.uint32) for _ in range(3))
    back_fp16, back_bf16 = (np.full((x.size, 2), np.nan, np.float32) for _ in range(2))
    run("conversions", 2, 128, tf32, fp16, bf16, back_fp16, back_bf16, x, x.size)
    finite = np.isfinite(x)
    np.testing.assert_array_equal(tf32[finite] & np.uint32(0xFFFFE000), to_tf32(x)[finite].view(np.uint32))
    np.testing.assert_array_equal(tf32[~finite], x[~finite].view(np.uint32))
    with np.errstate(all="ignore"):
        for words, back, dtype in ((fp16, back_fp16, np.float16), (bf16, back_bf16, ml_dtypes.bfloat16)):
            expected = np.stack([x, -x], -1).astype(dtype)
            np.testing.assert_array_equal(words, expected.view(np.uint32)[:, 0])
            np.testing.assert_array_equal(back, expected.astype(np.float32))


def test_nan_stays_nan(run):
    x = np.array([0x7F800001, 0xFFFFFFFF, 0x7FC00000], np.uint32).view(np.float32)
    tf32, fp16, bf16 = (np.zeros(3, np.uint32) for _ in range(3))
    back_fp16, back_bf16 = (np.zeros((3, 2), np.float32) for _ in range(2))
    run("conversions", 1, 32, tf32, fp16, bf16, back_fp16, back_bf16, x, 3)
    assert np.isnan(np.stack([back_fp16, back_bf16])).all()
    assert np.isnan((tf32 & np.uint32(0xFFFFE000)).view(np.float32)).all()
