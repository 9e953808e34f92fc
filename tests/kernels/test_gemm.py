"""The matrix kernels against float64 products: every tile, every layout, sums cut into stretches, and what is fused."""

import itertools

import numpy as np
import pytest

from gpunet.backend.kernels import kernel_file
from gpunet.ops import gemm_cuda as op
from gpunet.ops import gemm_tiles
from gpunet.ops.gemm_tiles import Tile, choose_splits, choose_tile
from gpunet.testing import assert_agreement

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("new_memory_is_nan")]

TILES = [*gemm_tiles._VECTOR_TILES, gemm_tiles._NARROW_TILE, gemm_tiles._ANY_TILE, gemm_tiles._ANY_NARROW_TILE]
LAYOUTS = ["nn", "nt", "tn"]


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that run."""
    names = []
    launch = op.launch

    def record(kernel, *rest):
        names.append(kernel.name)
        launch(kernel, *rest)

    monkeypatch.setattr(op, "launch", record)
    return names


def force(monkeypatch, tile=None, splits=None):
    if tile is not None:
        monkeypatch.setattr(op, "choose_tile", lambda *args, **kwargs: tile)
    if splits is not None:
        monkeypatch.setattr(op, "choose_splits", lambda *args: splits)


def operands(layout, m, k, n, seed=0):
    """(M, K) and (K, N), stored as the layout says."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    if layout[0] == "t":
        a = np.asfortranarray(a)
    if layout[1] == "t":
        b = np.asfortranarray(b)
    return a, b


def on(machine, array, dtype):
    return None if array is None else machine.module.asarray(array.astype(dtype, order="K"))


def product(machine, a, b, dtype, **options):
    given = {
        name: on(machine, value, dtype) if name in ("bias", "residual") else value for name, value in options.items()
    }
    left, right = on(machine, a, dtype), on(machine, b, dtype)
    return machine.numpy(machine.run(lambda: op.matrix_product_cuda(left, right, **given)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tile", TILES, ids=lambda tile: tile.name)
@pytest.mark.parametrize("splits", [1, 3])
def test_every_tile(machine, monkeypatch, launched, layout, tile, splits):
    force(monkeypatch, tile, splits)
    # More than one tile each way, the last ones in part; depths below, at and past a slab; few splits with nothing.
    for m, k, n in ((tile.rows + 4, 36, tile.columns + 8), (8, 4, 4), (tile.rows, 2 * tile.depth, tile.columns)):
        a, b = operands(layout, m, k, n)
        assert_agreement(product(machine, a, b, np.float32), a @ b, np.float32)
    assert f"gemm_{layout}_{tile.name}_float32" in launched
    assert ("gemm_sum_partials_float32" in launched) == (splits > 1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("splits", [1, 2])
def test_any_size(machine, monkeypatch, layout, dtype, splits):
    force(monkeypatch, splits=splits)
    for m, k, n in itertools.product((1, 3, 65), (1, 7, 17), (1, 5, 33, 67)):
        a, b = operands(layout, m, k, n)
        assert_agreement(product(machine, a, b, dtype), a @ b, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_naive_kernel(machine, launched, layout, dtype):
    a, b = operands(layout, 5, 7, 6)
    assert_agreement(product(machine, a, b, dtype, naive=True), a @ b, dtype)
    assert launched == [f"gemm_naive_{np.dtype(dtype).name}"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("naive, splits", [(True, 1), (False, 1), (False, 2)])
@pytest.mark.parametrize("parts", [(), ("bias",), ("residual",), ("bias", "residual")])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_epilogue(machine, monkeypatch, dtype, naive, splits, parts, activation):
    force(monkeypatch, splits=splits)
    rng = np.random.default_rng(1)
    a, b = operands("nn", 20, 40, 12)
    added = {"bias": rng.standard_normal(12), "residual": rng.standard_normal((20, 12))}
    options = {name: added[name] for name in parts}
    expected = a @ b + sum(options.values())
    if activation is not None:
        expected = np.maximum(expected, 0)
        assert (expected == 0).any()
    got = product(machine, a, b, dtype, naive=naive, activation=activation, **options)
    assert_agreement(got, expected, dtype)


def test_relu_lets_nan_through(machine):
    a, b = operands("nn", 4, 4, 4)
    a[2] = np.nan
    got = product(machine, a, b, np.float32, activation="relu")
    assert np.isnan(got).all(1).tolist() == [False, False, True, False]


def test_both_transposed_and_neither_contiguous(machine):
    a, b = operands("tn", 9, 6, 8)
    b = np.asfortranarray(b)
    assert_agreement(product(machine, a, b, np.float64), a @ b, np.float64)
    xp = machine.module
    wide, tall = np.random.default_rng(2).standard_normal((2, 12, 12))
    left, right = xp.asarray(wide)[::2, ::3], xp.asarray(tall)[::3, ::-1]
    got = machine.numpy(machine.run(lambda: op.matrix_product_cuda(left, right)))
    assert_agreement(got, wide[::2, ::3] @ tall[::3, ::-1], np.float64)


def test_rows_of_a_wider_array_are_read_in_place(machine, monkeypatch):
    xp = machine.module
    wide = np.random.default_rng(3).standard_normal((7, 24)).astype(np.float32)
    left, right = xp.asarray(wide)[:, 4:12], xp.asarray(wide)[:, 12:20]
    monkeypatch.setattr(xp, "ascontiguousarray", None)
    got = machine.numpy(machine.run(lambda: op.matrix_product_cuda(left, right.T)))
    monkeypatch.undo()
    assert_agreement(got, wide[:, 4:12].astype(float) @ wide[:, 12:20].T.astype(float), np.float32)


def test_repeated_rows(machine):
    """A broadcast operand has a stride of 0."""
    xp = machine.module
    row = np.random.default_rng(4).standard_normal(8).astype(np.float32)
    left, right = xp.broadcast_to(xp.asarray(row), (5, 8)), xp.asarray(np.eye(8, dtype=np.float32))
    got = machine.numpy(machine.run(lambda: op.matrix_product_cuda(left, right)))
    np.testing.assert_array_equal(got, np.broadcast_to(row, (5, 8)))


def test_misaligned_operands_take_another_kernel(machine, launched):
    xp = machine.module
    buffer = np.random.default_rng(5).standard_normal(16 * 64 + 1).astype(np.float32)
    left = xp.asarray(buffer)[1:].reshape(16, 64)
    right = xp.asarray(buffer)[: 64 * 16].reshape(64, 16)
    got = machine.numpy(machine.run(lambda: op.matrix_product_cuda(left, right)))
    assert launched == ["gemm_nn_128x32_any_float32"]
    expected = buffer[1:].reshape(16, 64).astype(float) @ buffer[:-1].reshape(64, 16).astype(float)
    assert_agreement(got, expected, np.float32)


@pytest.mark.parametrize("layout, which", [("nn", 0), ("nn", 1), ("nt", 0), ("nt", 1), ("tn", 0), ("tn", 1)])
def test_an_uneven_pitch_takes_another_kernel(machine, launched, layout, which):
    """Rows that start at no multiple of sixteen bytes, though the first one and the sizes would allow it."""
    xp = machine.module
    a, b = operands(layout, 16, 64, 16)
    given = [on(machine, operand, np.float32) for operand in (a, b)]
    stored = given[which].T if layout[which] == "t" else given[which]
    wide = xp.zeros((stored.shape[0], stored.shape[1] + 1), np.float32)
    wide[:, :-1] = stored
    given[which] = wide[:, :-1].T if layout[which] == "t" else wide[:, :-1]
    got = machine.numpy(machine.run(lambda: op.matrix_product_cuda(*given)))
    assert launched == [f"gemm_{layout}_128x32_any_float32"]
    assert_agreement(got, a @ b, np.float32)


@pytest.mark.parametrize(
    "name", ["left_batch", "right_batch", "output_batch", "output_pitch", "rows", "depth", "columns"]
)
def test_what_has_to_be_a_multiple_of_four(name):
    sizes = op.Gemm(2, 16, 16, 16, 64, 64, 64, 64, 64, 64)
    assert op._has_vectors("nn", sizes)
    layout = "tn" if name == "rows" else "nn"
    assert not op._has_vectors(layout, sizes._replace(**{name: getattr(sizes, name) + 2}))


def test_no_terms_and_no_outputs(machine):
    xp = machine.module
    for m, k, n in ((3, 0, 4), (0, 3, 4), (3, 4, 0)):
        left, right = xp.ones((m, k), np.float32), xp.ones((k, n), np.float32)
        got = machine.numpy(machine.run(lambda a=left, b=right: op.matrix_product_cuda(a, b)))
        np.testing.assert_array_equal(got, np.zeros((m, n)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("naive", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1000, 16), (257, 33), (5000, 3), (40, 300)])
def test_column_sums(machine, dtype, naive, shape):
    matrix = np.random.default_rng(6).standard_normal(shape)
    for given in (matrix, np.asfortranarray(matrix)):
        there = on(machine, given, dtype)
        got = machine.numpy(machine.run(lambda there=there: op.column_sums_cuda(there, naive)))
        # Unit variance: the bound counts rounding of the terms, not of a sum that happens to be small.
        assert np.abs(got - matrix.sum(0)).max() <= (1e-5 if dtype == np.float32 else 1e-10) * np.sqrt(shape[0])


def test_two_runs_give_the_same_bits(machine):
    a, b = operands("tn", 40, 3000, 24)
    runs = [product(machine, a, b, np.float32) for _ in range(2)]
    np.testing.assert_array_equal(*runs)


def test_the_tiles_are_those_of_the_kernels():
    names = {name.removeprefix("gemm_nn_") for name in kernel_file("gemm").functions if name.startswith("gemm_nn_")}
    assert names == {f"{tile.name}_float32" for tile in TILES} | {f"{gemm_tiles._FLOAT64_TILE.name}_float64"}
    for tile in TILES:
        assert kernel_file("gemm").functions[f"gemm_nt_{tile.name}_float32"].max_threads == tile.threads


@pytest.mark.parametrize(
    "rows, columns, vectors, name",
    [
        (100_000, 512, True, "128x128"),
        (100_000, 64, True, "128x64"),
        (100_000, 16, True, "128x32"),
        (1568, 512, True, "64x64"),
        (32, 1000, True, "64x64"),
        (100_000, 64, False, "64x64_any"),
        (100_000, 10, False, "128x32_any"),
    ],
)
def test_the_choice_of_a_tile(rows, columns, vectors, name):
    assert choose_tile(rows, columns, 1, np.dtype(np.float32), vectors).name == name
    assert choose_tile(rows, columns, 1, np.dtype(np.float64), vectors) == Tile("64x64_any", 64, 64, 8, 256)


def test_the_choice_of_splits():
    tile = Tile("128x128", 128, 128, 8, 256)
    assert choose_splits(tile, 100_000, 512, 1, 4608) == 1, "blocks enough"
    assert choose_splits(tile, 64, 64, 1, 100) == 1, "too short to be cut"
    assert choose_splits(tile, 576, 64, 1, 401_408) == 512 // 5
    assert choose_splits(tile, 64, 64, 1, 3200) == 25


def test_sizes_past_the_limits_go_another_way():
    assert op.supports(10, 10, 10, np.dtype(np.float32)) == ("cuda", "tiled product, tile 128x32_any")
    assert op.supports(2**31, 10, 10, np.dtype(np.float32))[0] == "array"
    assert op.supports(10, 2**22, 10, np.dtype(np.float32))[0] == "array"
    assert op.supports(10, 10, 10, np.dtype(np.float16)) == ("array", "the kernel is not built for float16")
