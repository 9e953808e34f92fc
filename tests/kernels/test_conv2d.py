"""The implicit GEMM kernels of convolution against the equations in float64: every tile, every direction."""

from typing import NamedTuple

import numpy as np
import pytest

from gpunet.backend.kernels import kernel_file
from gpunet.ops import convolution_cuda as op
from gpunet.ops import convolution_direct_cuda as direct
from gpunet.ops import gemm_cuda, gemm_tiles
from gpunet.ops.convolution import reference_gather, reference_scatter, reference_weight
from gpunet.ops.convolution_window import Geometry, conv_output_size
from gpunet.testing import assert_agreement

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("new_memory_is_nan")]

FILES = ["conv2d_forward", "conv2d_input_grad", "conv2d_weight_grad"]
TILES = [*gemm_tiles._VECTOR_TILES, gemm_tiles._NARROW_TILE, gemm_tiles._ANY_TILE, gemm_tiles._ANY_NARROW_TILE]


class Case(NamedTuple):
    """A convolution; unless it says otherwise, of images with gaps between their pixels."""

    label: str
    channels: tuple[int, int]
    size: tuple[int, int] = (6, 7)
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1))
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    images: int = 2
    gap: int = 4

    @property
    def geometry(self):
        return Geometry(self.stride, self.padding, self.dilation, self.groups)

    @property
    def out_size(self):
        each = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple(conv_output_size(*extents) for extents in each)


CASES = [
    Case("plain", (8, 12)),
    Case("no gaps", (8, 12), gap=0),
    Case("several slabs to a tap", (36, 20)),
    Case("stride 2", (8, 12), stride=(2, 2), size=(9, 8)),
    Case("stride 3, 2, uneven padding", (8, 20), stride=(3, 2), padding=((2, 1), (0, 1)), size=(10, 9)),
    Case("stride larger than the kernel", (8, 20), kernel=(2, 1), stride=(4, 3), size=(11, 10)),
    Case("dilation", (8, 12), dilation=(2, 3), padding=((2, 2), (3, 3)), size=(9, 9)),
    Case("dilation 2, stride 3", (8, 12), dilation=(2, 2), stride=(3, 3), size=(11, 12)),
    Case("dilation 2, stride 2", (8, 12), dilation=(2, 2), stride=(2, 2), size=(11, 12)),
    Case("more padding than kernel", (8, 12), kernel=(2, 2), padding=((3, 3), (3, 3)), size=(3, 3)),
    Case("kernel covers the input", (8, 12), padding=((0, 0), (0, 0)), size=(3, 3)),
    Case("one pixel", (20, 20), size=(1, 1), images=3),
    Case("one row", (20, 20), size=(1, 30), kernel=(1, 3), padding=((0, 0), (1, 1))),
    Case("groups", (8, 12), groups=3),
    Case("groups, stride 2", (8, 12), groups=2, stride=(2, 1)),
    Case("1x1 stride 2", (20, 8), kernel=(1, 1), padding=((0, 0), (0, 0)), stride=(2, 2)),
    Case("1x1", (20, 8), kernel=(1, 1), padding=((0, 0), (0, 0))),
    Case("1x1, groups", (8, 20), kernel=(1, 1), padding=((0, 0), (0, 0)), groups=2),
    Case("3 channels, 7x7 stride 2", (3, 12), kernel=(7, 7), stride=(2, 2), padding=((3, 3), (3, 3)), size=(11, 10)),
    Case("odd channels", (7, 13), gap=3),
    Case("1 channel to 37", (1, 37), gap=0),
]


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that run."""
    names = []
    for module in (op, gemm_cuda, direct):
        launch = module.launch

        def record(kernel, *rest, launch=launch):
            names.append(kernel.name)
            launch(kernel, *rest)

        monkeypatch.setattr(module, "launch", record)
    return names


def pixels(machine, array, dtype, gap):
    """(N, C, H, W), physically NHWC with a gap of NaN behind each pixel."""
    n, c, h, w = array.shape
    wide = np.full((n, h, w, c + gap), np.nan, dtype)
    wide[..., :c] = array.transpose(0, 2, 3, 1)
    return machine.module.asarray(wide)[..., :c].transpose(0, 3, 1, 2)


class Problem:
    """Inputs in float64, and what the equations make of them."""

    def __init__(self, case, seed=0):
        rng = np.random.default_rng(seed)
        c, k = (count * case.groups for count in case.channels)
        self.case = case
        self.x = rng.standard_normal((case.images, c, *case.size))
        self.weight = rng.standard_normal((k, case.channels[0], *case.kernel))
        self.dy = rng.standard_normal((case.images, k, *case.out_size))
        self.bias, self.residual = rng.standard_normal(k), rng.standard_normal(self.dy.shape)
        self.shift, self.added = rng.standard_normal(c), rng.standard_normal(self.x.shape)

    def expected(self, file):
        geometry = self.case.geometry
        if file == "conv2d_forward":
            return reference_gather(self.x, self.weight, geometry, self.case.out_size)
        if file == "conv2d_input_grad":
            return reference_scatter(self.dy, self.weight, geometry, self.x.shape)
        return reference_weight(self.dy, self.x, geometry, self.weight.shape)

    def compute(self, machine, file, dtype, naive=False, epilogue=False):
        case, geometry, gap = self.case, self.case.geometry, self.case.gap
        x, dy = (pixels(machine, array, dtype, gap) for array in (self.x, self.dy))
        weight = machine.module.asarray(self.weight.astype(dtype))
        rest = ()
        if epilogue:
            parts = (self.bias, self.residual) if file == "conv2d_forward" else (self.shift, self.added)
            rest = [machine.module.asarray(part.astype(dtype)) for part in parts]
        if file == "conv2d_forward":
            bias, *rest = rest or (None,)
            call = lambda: op.convolve_cuda(  # noqa: E731
                x, weight, bias, geometry, case.out_size, *rest, *(["relu"] if epilogue else []), naive=naive
            )
        elif file == "conv2d_input_grad":
            bias, *rest = rest or (None,)
            call = lambda: op.input_gradient_cuda(  # noqa: E731
                dy, weight, bias, geometry, self.x.shape, *rest, *(["relu"] if epilogue else []), naive=naive
            )
        else:
            call = lambda: op.weight_gradient_cuda(dy, x, self.weight.shape, geometry, naive=naive)  # noqa: E731
        return machine.numpy(machine.run(call))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("naive", [True, False])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_against_the_equations(machine, file, dtype, naive, case):
    problem = Problem(case)
    assert_agreement(problem.compute(machine, file, dtype, naive), problem.expected(file), dtype)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("tile", TILES, ids=lambda tile: tile.name)
@pytest.mark.parametrize("splits", [1, 3])
def test_every_tile(machine, monkeypatch, launched, file, tile, splits):
    monkeypatch.setattr(op, "choose_tile", lambda *args, **kwargs: tile)
    monkeypatch.setattr(op, "choose_splits", lambda *args: splits)
    # More than a tile of pixels (or, for the weight, of taps and channels), and more than one across.
    for changes in ({}, {"stride": (2, 2)}, {"groups": 2, "images": 1, "dilation": (1, 2)}):
        problem = Problem(Case("", (20, tile.columns + 4), size=(10, 9), **changes))
        assert_agreement(problem.compute(machine, file, np.float32), problem.expected(file), np.float32)
    assert f"{file}_{tile.name}_float32" in launched
    assert ("gemm_sum_partials_float32" in launched) == (splits > 1 and file == "conv2d_weight_grad")


@pytest.mark.parametrize("file", FILES[:2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("naive", [True, False])
@pytest.mark.parametrize("case", [CASES[0], CASES[5], CASES[13], CASES[17], CASES[-2]], ids=lambda case: case.label)
def test_epilogue(machine, file, dtype, naive, case):
    problem = Problem(case)
    if file == "conv2d_forward":
        before = problem.expected(file) + problem.bias[:, None, None] + problem.residual
    else:
        before = problem.expected(file) + problem.shift[:, None, None] + problem.added
    assert (before < 0).any()
    got = problem.compute(machine, file, dtype, naive, epilogue=True)
    assert_agreement(got, np.maximum(before, 0), dtype)


@pytest.mark.parametrize("file", FILES)
def test_float64_takes_its_own_tile(machine, launched, file):
    Problem(CASES[0]).compute(machine, file, np.float64)
    assert launched[0] == f"{file}_64x64_any_float64"


@pytest.mark.parametrize(
    "case, gap, expected",
    [
        (CASES[0], 4, "conv2d_forward_128x32_float32"),
        (CASES[0], 3, "conv2d_forward_128x32_any_float32"),
        (CASES[-1]._replace(channels=(3, 64)), 0, "conv2d_forward_64x64_any_float32"),
        (CASES[16], 4, "gemm_nn_128x32_float32"),
        (CASES[0]._replace(channels=(1, 1), groups=8), 0, "conv2d_direct_forward_3x3_float32"),
    ],
    ids=["vectors", "uneven pitch", "3 channels", "1x1", "depthwise"],
)
def test_which_kernel_runs(machine, launched, case, gap, expected):
    Problem(case._replace(gap=gap)).compute(machine, "conv2d_forward", np.float32)
    assert launched == [expected]


def test_a_misaligned_image_takes_another_kernel(machine, launched):
    problem = Problem(CASES[0])
    n, c, h, w = problem.x.shape
    buffer = machine.module.asarray(np.zeros(problem.x.size + 1, np.float32))
    buffer[1:] = machine.module.asarray(problem.x.transpose(0, 2, 3, 1).astype(np.float32).ravel())
    x = buffer[1:].reshape(n, h, w, c).transpose(0, 3, 1, 2)
    weight = machine.module.asarray(problem.weight.astype(np.float32))
    got = machine.run(lambda: op.convolve_cuda(x, weight, None, problem.case.geometry, problem.case.out_size))
    assert launched == ["conv2d_forward_128x32_any_float32"]
    assert_agreement(machine.numpy(got), problem.expected("conv2d_forward"), np.float32)


def test_channels_of_a_wider_image_are_read_in_place(machine, monkeypatch):
    problem = Problem(CASES[0])
    x = pixels(machine, problem.x, np.float32, gap=8)
    assert op._pixels(x).pitch == 16
    monkeypatch.setattr(machine.module, "ascontiguousarray", lambda array: array)  # weights would still be copied
    assert op._pixels(x).flat.size == problem.x.size // 8 * 16 - 8


@pytest.mark.parametrize("layout", ["NCHW", "every other column", "backwards", "broadcast"])
def test_other_layouts_are_copied(machine, layout):
    problem = Problem(CASES[0]._replace(size=(6, 8)))
    xp = machine.module
    if layout == "NCHW":
        x = problem.x
        given = xp.asarray(x)
    elif layout == "every other column":
        wide = np.random.default_rng(1).standard_normal((2, 6, 16, 8))
        x, given = (array[:, :, ::2].transpose(0, 3, 1, 2) for array in (wide, xp.asarray(wide)))
    elif layout == "backwards":
        wide = np.random.default_rng(1).standard_normal((2, 6, 8, 8))
        x, given = (array[:, ::-1].transpose(0, 3, 1, 2) for array in (wide, xp.asarray(wide)))
    else:
        one = np.random.default_rng(1).standard_normal((1, 8, 1, 8))
        x, given = np.broadcast_to(one, (2, 8, 6, 8)), xp.broadcast_to(xp.asarray(one), (2, 8, 6, 8))
    geometry, size = problem.case.geometry, problem.case.out_size
    got = machine.run(lambda: op.convolve_cuda(given, xp.asarray(problem.weight), None, geometry, size))
    assert_agreement(machine.numpy(got), reference_gather(x, problem.weight, geometry, size), np.float64)


def test_the_input_gradient_multiplies_no_zeros(machine):
    """A zero between the outputs of a convolution with a stride would make NaN of infinity."""
    problem = Problem(Case("", (8, 8), stride=(2, 2), size=(12, 12)))
    problem.weight[...] = np.inf
    problem.dy[...] = 1
    inner = problem.compute(machine, "conv2d_input_grad", np.float32)[:, :, 2:-2, 2:-2]
    assert np.isposinf(inner).all()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize(
    "case",
    [
        *CASES,
        *(CASES[0]._replace(label=f"depthwise {n}", channels=(1, 1), groups=8, size=(9, n), padding=((0, 0), (0, 1)),
                            stride=(s, s)) for n in (8, 9) for s in (1, 2)),
    ],
    ids=lambda case: case.label,
)  # fmt: skip
def test_what_is_no_number_stays_where_it_belongs(machine, file, value, case):
    """Zeros that fill up a tile meet no pixel: infinity times zero would be no number."""
    problem = Problem(case)
    image = problem.dy if file == "conv2d_input_grad" else problem.x
    image[0, 0, 0, 0] = image[-1, -1, -1, -1] = image[0, -1, image.shape[2] // 2, -1] = value
    naive = problem.compute(machine, file, np.float32, naive=True)
    got = problem.compute(machine, file, np.float32)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(naive))
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(naive))


@pytest.mark.parametrize("case", [CASES[0], CASES[17], CASES[0]._replace(channels=(1, 1), groups=8)])
def test_bias_gradient(machine, case):
    problem = Problem(case)
    dy = pixels(machine, problem.dy, np.float32, 4)
    got = machine.numpy(machine.run(lambda: op.bias_gradient_cuda(dy)))
    assert_agreement(got, problem.dy.sum((0, 2, 3)), np.float32)


def test_two_runs_give_the_same_bits(machine):
    problem = Problem(Case("", (8, 12), size=(24, 24), images=4))
    for file in FILES:
        np.testing.assert_array_equal(*(problem.compute(machine, file, np.float32) for _ in range(2)))


def test_float32_sums_are_as_exact_as_float32_can_be(machine):
    """A long sum of equal signs: the stretches of the weight gradient keep its rounding small."""
    case = Case("", (4, 4), size=(64, 64), images=2, gap=0)
    problem = Problem(case)
    problem.x, problem.dy = np.abs(problem.x), np.abs(problem.dy)
    assert_agreement(
        problem.compute(machine, "conv2d_weight_grad", np.float32), problem.expected("conv2d_weight_grad"), np.float32
    )


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("file", FILES)
def test_every_kernel_has_a_tile(file):
    fast = {name for name in kernel_file(file).functions if "naive" not in name}
    assert fast == {f"{file}_{tile.name}_float32" for tile in TILES} | {f"{file}_64x64_any_float64"}


@pytest.mark.parametrize(
    "shape, weight, changes, why",
    [
        ((2**20, 3, 64, 64), (8, 3, 3, 3), {}, "pixels"),
        ((1, 2**20, 64, 64), (8, 2**20, 3, 3), {}, "elements in one image"),
        ((1, 2**16, 1, 1), (2**16, 2**16, 1, 1), {}, "weights"),
        ((1, 3, 8, 8), (8, 3, 3, 3), {"stride": (2**29, 1)}, "a window that reaches over"),
        ((1, 3, 8, 8), (8, 3, 3, 3), {"stride": (300, 300)}, "groups times phases of the stride"),
        ((1, 3, 4, 8, 8), (8, 3, 3, 3, 3), {}, "three dimensions"),
    ],
)
def test_what_the_kernels_cannot_count_goes_another_way(shape, weight, changes, why):
    rank = len(shape) - 2
    plain = {"stride": (1,) * rank, "padding": ((1, 1),) * rank, "dilation": (1,) * rank, "groups": 1}
    path, reason = op.supports(shape, weight, Geometry(**{**plain, **changes}), np.dtype(np.float32))
    assert path == "array"
    assert why in reason


def test_the_same_sizes_always_take_the_same_kernel():
    sizes = op._sizes((8, 64, 56, 56), (64, 64, 3, 3), Geometry((1, 1), ((1, 1), (1, 1)), (1, 1), 1))
    assert {op.choose(sizes, np.dtype(np.float32)) for _ in range(3)} == {("tiled", "tiled implicit GEMM, tile 64x64")}
