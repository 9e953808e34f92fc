"""The direct convolution kernels, for groups of few channels, against the equations in float64."""

import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest

from gpunet.backend.kernels import kernel_file
from gpunet.ops import convolution_direct_cuda as op
from gpunet.ops.convolution import reference_gather, reference_scatter, reference_weight
from gpunet.ops.convolution_sizes import Sizes2d
from gpunet.ops.convolution_window import Geometry, conv_output_size
from gpunet.testing import assert_agreement

pytestmark = pytest.mark.kernels

DTYPES = [np.float32, np.float64]
DIRECTIONS = ["forward", "input_grad", "weight_grad"]


@pytest.fixture
def launched(monkeypatch):
    """The kernels that run: their names, grids and last four arguments, which of those that walk say how far."""
    names = []
    launch = op.launch

    def record(kernel, grid, block, args):
        names.append((kernel.name, grid, args[-4:]))
        launch(kernel, grid, block, args)

    monkeypatch.setattr(op, "launch", record)
    return names


class Case(NamedTuple):
    """A convolution, and which kernels take it in float32 and in float64."""

    label: str
    float32: str
    float64: str
    groups: int
    size: tuple[int, int] = (7, 9)
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1))
    dilation: tuple[int, int] = (1, 1)
    channels: tuple[int, int] = (1, 1)
    images: int = 2
    gaps: tuple[int, int] = (0, 0)
    offset: int = 0

    @property
    def geometry(self):
        return Geometry(self.stride, self.padding, self.dilation, self.groups)

    @property
    def out_size(self):
        each = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple(conv_output_size(*extents) for extents in each)

    @property
    def sizes(self):
        c, k = self.channels
        into, out = self.groups * c + self.gaps[0], self.groups * k + self.gaps[1]
        before = [pads[0] for pads in self.padding]
        return Sizes2d(
            self.images, *self.size, into, *self.out_size, out, self.groups, c, k, *self.kernel, *self.stride, *before,
            *self.dilation,
        )  # fmt: skip


TWO = {"stride": (2, 2)}
FIVE = {"kernel": (5, 5), "padding": ((2, 2), (2, 2))}
STRIPS = [
    Case("3x3", "3x3", "3x3", 8),
    Case("3x3, stride 2", "3x3_stride2", "3x3_stride2", 8, **TWO),
    Case("5x5", "5x5", "5x5", 8, **FIVE),
    Case("5x5, stride 2", "5x5_stride2", "5x5_stride2", 8, **FIVE, **TWO),
]
KINDS = [
    *STRIPS,
    Case("4x7", "groups", "groups", 4, kernel=(4, 7), padding=((1, 2), (3, 3))),
    Case("scalar", "scalar", "scalar", 3, stride=(2, 1)),
]
CASES = [
    *KINDS,
    *(
        case._replace(label=f"{case.label}, {label}", **changes)
        for case in STRIPS
        for label, changes in (
            ("even size", {"size": (8, 6), "groups": 4}),
            ("one pixel", {"size": (1, 1)}),
            ("one column", {"size": (11, 1), "groups": 12, "images": 1}),
            ("no padding", {"padding": ((0, 0), (0, 0)), "size": (9, 11)}),
            ("more padding than kernel", {"padding": ((6, 7), (7, 5)), "size": (2, 3), "groups": 4}),
            ("uneven padding", {"padding": ((0, 2), (3, 1)), "size": (5, 13), "groups": 4}),
            ("pitch", {"gaps": (8, 4), "images": 3}),
            ("many channels", {"groups": 148, "size": (3, 3), "images": 1}),
        )
    ),
    Case("3x3, several blocks of rows", "3x3", "3x3", 4, size=(67, 37), images=3),
    Case("several pieces of a row", "groups", "groups", 4, size=(1, 131), dilation=(1, 2)),
    Case("several pieces of a row, rolling", "groups", "groups", 4, (3, 101), (3, 4)),
    Case("several pieces of a row, scalar", "scalar", "scalar", 1, (3, 101), (3, 4)),
    Case("an even number of channels", "scalar", "3x3", 6),
    Case("a pitch that is no multiple", "scalar", "3x3", 4, gaps=(2, 0)),
    Case("odd pitch of the output", "scalar", "scalar", 4, gaps=(0, 3)),
    Case("misaligned", "scalar", "scalar", 4, offset=1),
    Case("one channel", "scalar", "scalar", 1, size=(5, 37)),
    Case("1x19", "groups", "groups", 4, size=(2, 43), kernel=(1, 19), padding=((0, 0), (9, 9))),
    Case("1x19, stride 2", "groups", "groups", 4, size=(2, 43), kernel=(1, 19), padding=((0, 0), (9, 9)), **TWO),
    Case("1x19, stride 2, dilation 2", "groups", "groups", 4, (2, 71), (1, 19), dilation=(2, 2), **TWO),
    Case("pairs, 2x11", "groups", "groups", 4, (7, 23), (2, 11), channels=(2, 2)),
    Case("pairs, 2x11, stride 2", "groups", "groups", 4, (7, 23), (2, 11), channels=(2, 2), **TWO),
    Case("fours, 1x9, dilation 3", "groups", "scalar", 3, (7, 31), (1, 9), dilation=(1, 3), channels=(4, 4)),
    Case("1x1", "groups", "groups", 8, kernel=(1, 1), padding=((0, 0), (0, 0))),
    Case("1x1, stride 3", "groups", "groups", 4, kernel=(1, 1), padding=((0, 0), (1, 0)), stride=(3, 3)),
    Case("7x7", "groups", "groups", 4, kernel=(7, 7), padding=((3, 3), (3, 3))),
    Case("stride larger than the kernel", "groups", "groups", 4, kernel=(2, 2), stride=(4, 3), size=(13, 11)),
    Case("stride larger than the image", "groups", "groups", 4, stride=(9, 8), size=(3, 4)),
    Case("3x3, strides 1 and 2", "groups", "groups", 4, stride=(1, 2)),
    Case("dilation", "groups", "groups", 4, dilation=(2, 3), padding=((2, 2), (3, 1))),
    Case("dilation 2, stride 2", "groups", "groups", 4, dilation=(2, 2), padding=((2, 2), (2, 1)), **TWO),
    Case("dilation 2, stride 3", "groups", "groups", 4, dilation=(2, 2), stride=(3, 3), size=(11, 13)),
    Case("dilation 3, stride 2", "scalar", "scalar", 3, dilation=(3, 3), size=(11, 13), **TWO),
    Case("multiplier 2", "scalar", "scalar", 4, channels=(1, 2)),
    Case("multiplier 16", "scalar", "scalar", 3, channels=(1, 16), stride=(2, 2)),
    Case("16 to 1", "scalar", "scalar", 2, channels=(16, 1), size=(4, 5)),
    Case("pairs", "groups", "groups", 4, channels=(2, 2)),
    Case("pairs, stride 2", "groups", "groups", 6, channels=(2, 2), gaps=(4, 8), **TWO),
    Case("an odd number of pairs", "scalar", "groups", 3, channels=(2, 2)),
    Case("threes", "scalar", "scalar", 4, channels=(3, 3)),
    Case("fours", "groups", "scalar", 3, channels=(4, 4)),
    Case("fours, stride 2, 5x5", "groups", "scalar", 2, channels=(4, 4), **FIVE, **TWO),
    Case("two to three", "scalar", "scalar", 2, channels=(2, 3), dilation=(1, 2)),
    Case("four to two, stride 3", "scalar", "scalar", 3, channels=(4, 2), stride=(3, 2), images=1),
]


def pixels(machine, values, pitch, dtype, offset=0):
    """Images (N, C, H, W) as the kernels take them, NaN between the pixels: an array, and its view (N, H, W, C)."""
    n, c, h, w = values.shape
    # From a multiple of 64 bytes on, but for the offset.
    itemsize = np.dtype(dtype).itemsize
    buffer = machine.module.full(n * h * w * pitch + 64 + offset, np.nan, dtype)
    address = buffer.ctypes.data if machine.module is np else buffer.data.ptr
    start = -address // itemsize % (64 // itemsize) + offset
    view = buffer[start : start + n * h * w * pitch].reshape(n, h, w, pitch)[..., :c]
    view[...] = machine.module.asarray(values.transpose(0, 2, 3, 1).astype(dtype))
    return buffer[start : start + (n * h * w - 1) * pitch + c], view


def flat(machine, values, dtype):
    return machine.module.asarray(np.ascontiguousarray(values, dtype).reshape(-1))


def to_kernel(weight):
    """(K, C/G, R, S) as the kernels have it, (R, S, C/G, K)."""
    return weight.transpose(2, 3, 1, 0)


class Problem:
    """Random inputs of a case, rounded to dtype."""

    def __init__(self, case, dtype):
        rng = np.random.default_rng(4)
        (c, k), (n, *_) = case.channels, case.sizes
        draw = lambda *shape: rng.standard_normal(shape).astype(dtype).astype(np.float64)  # noqa: E731
        self.case, self.dtype = case, dtype
        self.x = draw(n, case.groups * c, *case.size)
        self.weight = draw(case.groups * k, c, *case.kernel)
        self.dy = draw(n, case.groups * k, *case.out_size)
        self.bias = {"forward": draw(case.groups * k), "input_grad": draw(case.groups * c)}
        self.residual = {"forward": draw(*self.dy.shape), "input_grad": draw(*self.x.shape)}

    def expected(self, direction):
        case = self.case
        if direction == "forward":
            return reference_gather(self.x, self.weight, case.geometry, case.out_size)
        if direction == "input_grad":
            return reference_scatter(self.dy, self.weight, case.geometry, self.x.shape)
        return reference_weight(self.dy, self.x, case.geometry, self.weight.shape)

    def terms(self, direction):
        size = {"forward": self.weight[0].size, "input_grad": self.weight[:, 0].size}
        return size.get(direction, self.dy[:, 0].size)

    def compute(self, machine, direction, bias=False, residual=False, relu=False, naive=False):
        """The result, with the axes of the reference's; what lies between the pixels must still be NaN."""
        case, sizes, dtype = self.case, self.case.sizes, self.dtype
        weight = flat(machine, to_kernel(self.weight), dtype)
        x, _ = pixels(machine, self.x, sizes.in_pitch, dtype, case.offset)
        dy, _ = pixels(machine, self.dy, sizes.out_pitch, dtype, case.offset)
        if direction == "weight_grad":
            dweight = machine.module.full(weight.size, np.nan, dtype)
            machine.run(lambda: op.weight_gradient(sizes, dy, x, dweight, naive))
            return machine.numpy(dweight).reshape(to_kernel(self.weight).shape).transpose(3, 2, 0, 1)
        of = self.dy if direction == "forward" else self.x
        pitch = sizes.out_pitch if direction == "forward" else sizes.in_pitch
        shift = flat(machine, self.bias[direction], dtype) if bias else None
        added = pixels(machine, self.residual[direction], pitch, dtype, case.offset)[0] if residual else None
        result, view = pixels(machine, np.full(of.shape, np.nan), pitch, dtype, case.offset)
        if direction == "forward":
            machine.run(lambda: op.forward(sizes, x, weight, shift, added, relu, result, naive))
        else:
            machine.run(lambda: op.input_gradient(sizes, dy, weight, shift, added, relu, result, naive))
        values = machine.numpy(view).transpose(0, 3, 1, 2).copy()
        view[...] = 0
        assert int(machine.module.isnan(result).sum()) == result.size - of.size
        return values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_the_equations(machine, launched, case, dtype):
    problem = Problem(case, dtype)
    assert op.is_direct(case.sizes)
    variant = getattr(case, np.dtype(dtype).name)
    for direction in DIRECTIONS:
        result = problem.compute(machine, direction)
        assert_agreement(result, problem.expected(direction), dtype, problem.terms(direction), direction)
        assert launched[0][0] == f"conv2d_direct_{direction}_{variant}_{np.dtype(dtype).name}"
        launched.clear()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.label)
@pytest.mark.parametrize("bias, residual, relu", list(itertools.product([True, False], repeat=3))[:-1])
def test_the_epilogue(machine, case, dtype, bias, residual, relu):
    problem = Problem(case._replace(images=1, size=(3, 5)), dtype)
    for direction in ("forward", "input_grad"):
        expected = problem.expected(direction)
        if bias:
            expected = expected + problem.bias[direction].reshape(-1, 1, 1)
        if residual:
            expected = expected + problem.residual[direction]
        if relu:
            expected = np.maximum(expected, 0)
        result = problem.compute(machine, direction, bias, residual, relu)
        assert_agreement(result, expected, dtype, problem.terms(direction), direction)


@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.label)
def test_relu_lets_nan_through(machine, case):
    problem = Problem(case, np.float32)
    problem.x[0, 1, 2, 3] = problem.dy[0, 2, 0, 1] = np.nan
    for direction in ("forward", "input_grad"):
        expected = np.isnan(problem.expected(direction))
        assert expected.any()
        np.testing.assert_array_equal(np.isnan(problem.compute(machine, direction, relu=True)), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [*STRIPS, KINDS[4]], ids=lambda case: case.label)
def test_the_naive_kernels(machine, launched, case, dtype):
    problem = Problem(case, dtype)
    for direction in DIRECTIONS:
        result = problem.compute(machine, direction, naive=True)
        assert_agreement(result, problem.expected(direction), dtype, problem.terms(direction), direction)
        assert launched[0][0] == f"conv2d_direct_{direction}_scalar_{np.dtype(dtype).name}"
        launched.clear()


@pytest.mark.parametrize("threads", [1, 16])
@pytest.mark.parametrize("case", STRIPS, ids=lambda case: case.label)
def test_long_strips(machine, launched, monkeypatch, case, threads):
    """Large convolutions give a thread up to 32 rows; the result does not depend on it, but for the weight's."""
    problem = Problem(case._replace(size=(71, 10), groups=4, images=1), np.float32)
    short = {direction: problem.compute(machine, direction) for direction in DIRECTIONS}
    launched.clear()
    monkeypatch.setattr(op, "_MANY_THREADS", threads)
    for direction in DIRECTIONS:
        result = problem.compute(machine, direction)
        if direction == "weight_grad":
            assert_agreement(result, problem.expected(direction), np.float32)
        else:
            np.testing.assert_array_equal(result, short[direction])
    assert min(rows for _, _, (_, _, rows, _) in launched) > 2
    assert threads > 1 or min(rows for _, _, (_, _, rows, _) in launched) == 32


@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.label)
def test_more_work_than_one_row_of_the_grid_has(machine, launched, monkeypatch, case):
    problem = Problem(case._replace(images=5), np.float32)
    monkeypatch.setattr(op, "_MOST_THREADS", 25)
    monkeypatch.setattr(op, "_LARGEST_GRID", 2)
    for direction in DIRECTIONS:
        result = problem.compute(machine, direction)
        assert_agreement(result, problem.expected(direction), np.float32, label=direction)
    grids = [grid for name, grid, _ in launched if "weight_grad" not in name]
    assert all(grid[1] > 1 for grid in grids)


@pytest.mark.parametrize("blocks", [1, 60, 512])
@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.label)
def test_splits_of_the_weight_gradient(machine, launched, monkeypatch, case, blocks):
    """However many blocks share the pixels, and the same bits every time."""
    problem = Problem(case._replace(size=(64, 70), images=4), np.float32)
    monkeypatch.setattr(op, "_MANY_BLOCKS", blocks)
    first, second = (problem.compute(machine, "weight_grad") for _ in range(2))
    assert_agreement(first, problem.expected("weight_grad"), np.float32)
    np.testing.assert_array_equal(first, second)
    names = [name for name, _, _ in launched]
    splits = launched[0][1][1]
    assert (splits > 1) == ("conv2d_direct_weight_grad_sum_float32" in names)
    assert splits == 1 if blocks == 1 else 2 < splits <= blocks


@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.label)
def test_the_same_bits_twice(machine, case):
    problem = Problem(case._replace(images=3, size=(12, 21)), np.float32)
    for direction in DIRECTIONS:
        np.testing.assert_array_equal(problem.compute(machine, direction), problem.compute(machine, direction))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_empty_batch(machine, launched, dtype):
    sizes = KINDS[0]._replace(images=0).sizes
    nothing, weight = machine.module.empty(0, dtype), machine.module.ones(9 * 8, dtype)
    dweight = machine.module.full(9 * 8, np.nan, dtype)

    def call():
        op.forward(sizes, nothing, weight, None, None, False, nothing)
        op.input_gradient(sizes, nothing, weight, None, None, False, nothing)
        op.weight_gradient(sizes, nothing, nothing, dweight)

    machine.run(call)
    assert not launched
    np.testing.assert_array_equal(machine.numpy(dweight), 0)


@pytest.mark.parametrize("case", [STRIPS[1], STRIPS[3], KINDS[4]._replace(stride=(2, 3))], ids=lambda case: case.label)
def test_only_the_taps_that_hit_are_multiplied(machine, case):
    """A zero between the outputs of a convolution with a stride would make NaN of infinity."""
    problem = Problem(case._replace(size=(20, 25)), np.float32)
    problem.weight[...] = np.inf
    problem.dy[...] = 1
    inner = problem.compute(machine, "input_grad")[:, :, 4:-4, 4:-4]
    assert inner.size
    np.testing.assert_array_equal(inner, problem.expected("input_grad")[:, :, 4:-4, 4:-4])
    assert np.isinf(inner).any()


def test_which_convolutions_are_direct():
    base = KINDS[0].sizes
    assert "on its own" in op.is_direct(base)
    assert "groups of 4 and 4" in op.is_direct(base._replace(in_channels=4, out_channels=4))
    assert op.is_direct(base._replace(out_channels=16))
    assert op.is_direct(base._replace(in_channels=4, out_channels=5)) is None
    assert op.is_direct(base._replace(in_channels=3, out_channels=64, groups=1)) is None


def test_every_kernel_has_a_case():
    named = {name for case in CASES for name in (case.float32, case.float64)}
    for direction in DIRECTIONS:
        for function in kernel_file(f"conv2d_direct_{direction}").functions:
            variant = function.removeprefix(f"conv2d_direct_{direction}_").rsplit("_", 1)[0]
            assert variant in named | {"sum"}


@pytest.mark.slow
@pytest.mark.parametrize("machine", [pytest.param("gpu", marks=pytest.mark.gpu)], indirect=True)
@pytest.mark.parametrize("stride", [1, 2])
def test_more_than_two_to_the_31_elements(machine, stride):
    """The last image of an array that 32-bit indices do not span is convolved as it is on its own."""
    xp = machine.module
    images, extent, channels = 33, 1024, 64
    if xp.cuda.Device().mem_info[0] < 40e9:
        pytest.skip("needs 40 GB of GPU memory")
    case = Case("huge", "", "", channels, size=(extent, extent), stride=(stride, stride), images=images)
    assert math.prod((images, extent, extent, channels)) > 2**31
    sizes, alone = case.sizes, case._replace(images=1).sizes
    weight = xp.asarray(np.random.default_rng(0).standard_normal(9 * channels).astype(np.float32))
    pixels_in, pixels_out = extent * extent * channels, math.prod(case.out_size) * channels
    last = xp.random.default_rng(0).standard_normal(pixels_in, dtype=np.float32)
    x = xp.zeros(images * pixels_in, np.float32)
    x[-pixels_in:] = last
    y, expected = xp.empty(images * pixels_out, np.float32), xp.empty(pixels_out, np.float32)
    op.forward(sizes, x, weight, None, None, False, y)
    op.forward(alone, last, weight, None, None, False, expected)
    assert bool((y[-pixels_out:] == expected).all())
    assert not bool(y[:-pixels_out].any())
    dweight, expected_dweight = xp.empty_like(weight), xp.empty_like(weight)
    op.weight_gradient(sizes, y, x, dweight)
    op.weight_gradient(alone, expected, last, expected_dweight)
    assert_agreement(machine.numpy(dweight), machine.numpy(expected_dweight), np.float32, terms=2**20)
    del x  # some memory back
    dx, expected_dx = xp.empty(images * pixels_in, np.float32), xp.empty(pixels_in, np.float32)
    op.input_gradient(sizes, y, weight, None, None, False, dx)
    op.input_gradient(alone, expected, weight, None, None, False, expected_dx)
    assert bool((dx[-pixels_in:] == expected_dx).all())
    assert not bool(dx[:-pixels_in].any())
