"""Convolutions of odd and of huge shapes through the kernels: on a GPU, and where that is possible on the CPU too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.backend import devices
from gpunet.ops import REGISTRY, Context
from gpunet.ops.convolution_cuda import convolve_cuda, input_gradient_cuda, supports, weight_gradient_cuda
from gpunet.ops.convolution_window import Geometry
from gpunet.testing import assert_agreement, cuda_on_cpu, host_compiler_missing

CONV = REGISTRY["conv2d"]
LAYOUTS = ("NHWC", "NCHW", "pixel pitch")


@pytest.fixture(params=[pytest.param("cpu", marks=pytest.mark.kernels), pytest.param("gpu", marks=pytest.mark.gpu)])
def module(request: pytest.FixtureRequest) -> Iterator[Any]:
    """NumPy, whose arrays go through the kernels on the CPU, or CuPy."""
    if request.param == "gpu":
        yield devices.cupy()
        return
    missing = host_compiler_missing()
    if missing is not None:
        pytest.skip(missing)
    with cuda_on_cpu():
        yield np


def placed(module: Any, values: np.ndarray, layout: str) -> Any:
    """The values (N, C, H, W) in one of the physical orders; the gaps of a pixel pitch are full of NaN."""
    n, c, h, w = values.shape
    if layout == "NCHW":
        return module.asarray(np.ascontiguousarray(values))
    pitch = c if layout == "NHWC" else c + 3
    buffer = module.full((n, h, w, pitch), np.nan, values.dtype)
    view = buffer[..., pitch - c :].transpose(0, 3, 1, 2)
    view[...] = module.asarray(values)
    return view


def check(module: Any, x: Any, w: Any, dtype: Any, layout: str = "NHWC", **attributes: Any) -> None:
    """Output and gradients of one convolution against the equations in float64."""
    given = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1, **attributes}
    rng = np.random.default_rng(5)
    image, weight, bias = (rng.standard_normal(shape).astype(dtype) for shape in (x, w, w[:1]))
    exact = (image.astype(np.float64), weight.astype(np.float64), bias.astype(np.float64), None)
    expected = CONV.reference(*exact, **given)
    grad = rng.standard_normal(expected.shape).astype(dtype)
    inputs = (placed(module, image, layout), module.asarray(weight), module.asarray(bias), None)
    assert CONV.supports(*inputs, **given)[0] == "cuda"
    ctx = Context((True, True, True, False), given)
    y = CONV.forward(ctx, *inputs, **given)
    gradients = CONV.backward(ctx, placed(module, grad, layout))
    terms = w[1] * w[2] * w[3]
    assert_agreement(devices.to_numpy(y), expected, dtype, terms, "output")
    references = CONV.reference_backward((grad.astype(np.float64),), exact, **given)
    sums = (w[0] // given["groups"] * w[2] * w[3], *(grad.size // w[0],) * 2)
    for name, ours, theirs, count in zip(("dx", "dw", "db"), gradients[:3], references[:3], sums, strict=True):
        assert_agreement(devices.to_numpy(ours), theirs, dtype, count, name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [(1, 1), (1, 130), (3, 7), (5, 3), (7, 5), (130, 1), (130, 130)], ids=str)
def test_odd_channels(module: Any, channels: tuple[int, int], layout: str, dtype: Any) -> None:
    c, k = channels
    check(module, (2, c, 5, 7), (k, c, 3, 3), dtype, layout, padding=((1, 1), (1, 1)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    "x, w, attributes",
    [
        ((1, 5, 1, 1), (7, 5, 1, 1), {}),
        ((1, 5, 1, 1), (7, 5, 3, 3), {"padding": ((1, 1), (1, 1))}),
        ((1, 3, 1, 1), (3, 1, 3, 3), {"padding": ((1, 1), (1, 1)), "groups": 3}),
        ((1, 130, 1, 1), (130, 130, 1, 1), {}),
        ((3, 7, 13, 17), (11, 7, 3, 5), {"stride": (2, 3), "padding": ((1, 0), (2, 3))}),
        ((2, 7, 19, 11), (5, 7, 2, 3), {"dilation": (3, 2)}),
        ((1, 3, 1, 257), (5, 3, 1, 7), {"padding": ((0, 0), (3, 3))}),
        ((1, 3, 257, 1), (5, 3, 7, 1), {"stride": (5, 1)}),
        ((2, 15, 7, 7), (25, 3, 3, 3), {"groups": 5}),
        ((2, 130, 7, 5), (130, 1, 3, 3), {"groups": 130, "stride": (2, 2), "padding": ((1, 1), (1, 1))}),
        ((2, 7, 9, 9), (21, 1, 3, 3), {"groups": 7}),
        ((1, 3, 31, 31), (5, 3, 11, 11), {"stride": (4, 4)}),
    ],
    ids=str,
)
def test_odd_sizes(module: Any, x: Any, w: Any, attributes: dict[str, Any], dtype: Any) -> None:
    check(module, x, w, dtype, **attributes)


# ---- more elements than 32 bits count

HUGE = 2**31


@pytest.fixture
def roomy() -> Iterator[Any]:
    """CuPy, with nothing of other tests on the GPU; what a test leaves is freed."""
    module = devices.cupy()
    gn.cuda.empty_cache()
    yield module
    gn.cuda.empty_cache()


def need(module: Any, gigabytes: float) -> None:
    free = module.cuda.runtime.memGetInfo()[0] / 1e9
    if free < gigabytes:
        pytest.skip(f"needs {gigabytes:.0f} GB of GPU memory, {free:.0f} are free")


def last_image_alone(module: Any, shape: tuple[int, ...], seed: int) -> tuple[Any, Any]:
    """Images (N, C, H, W), channels-last and zero but for the last, and the last as one of its own."""
    n, c, h, w = shape
    module.random.seed(seed)
    images = module.zeros((n, h, w, c), np.float32)
    images[-1] = module.random.standard_normal((h, w, c), dtype=np.float32)
    return images.transpose(0, 3, 1, 2), images[-1:].copy().transpose(0, 3, 1, 2)


def assert_only_the_last(module: Any, found: Any, expected: Any) -> None:
    """Image N - 1 is what it is by itself, and nothing was written to the others."""
    assert int(found.size) > HUGE
    error = float(abs(found[-1:] - expected).max() / abs(expected).max())
    assert error <= 1e-5  # false of a NaN
    for image in range(found.shape[0] - 1):
        assert not bool(found[image].any()), f"image {image} was written to"


@pytest.mark.gpu
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "channels, kernel, groups",
    [(8, 3, 1), (8, 1, 1), (8, 3, 8)],
    ids=["tiled", "1x1", "depthwise"],
)
def test_more_than_2_31_elements(roomy: Any, channels: int, kernel: int, groups: int) -> None:
    """An index that is kept in 32 bits reads or writes another image than the last."""
    side, pad = 2048, kernel // 2
    images = HUGE // (channels * side * side) + 1
    shape = (images, channels, side, side)
    need(roomy, 2.3 * 4 * np.prod(shape, dtype=float) / 1e9)
    geometry = Geometry((1, 1), ((pad, pad), (pad, pad)), (1, 1), groups)
    w_shape = (channels, channels // groups, kernel, kernel)
    roomy.random.seed(1)
    weight = roomy.random.standard_normal(w_shape, dtype=np.float32)
    assert supports(shape, w_shape, geometry, np.dtype(np.float32))[0] == "cuda"
    x, alone = last_image_alone(roomy, shape, 2)

    y = convolve_cuda(x, weight, None, geometry, (side, side))
    assert_only_the_last(roomy, y, convolve_cuda(alone, weight, None, geometry, (side, side)))
    del y

    dx = input_gradient_cuda(x, weight, None, geometry, shape)
    assert_only_the_last(roomy, dx, input_gradient_cuda(alone, weight, None, geometry, alone.shape))
    del dx

    dw = weight_gradient_cuda(x, x, w_shape, geometry)
    expected = weight_gradient_cuda(alone, alone, w_shape, geometry)
    terms = side * side
    bound = 2e-5 * max(1.0, (terms / 4096) ** 0.5)  # both are sums in float32, in different orders
    assert float(abs(dw - expected).max() / abs(expected).max()) <= bound


def test_one_huge_image_takes_the_path_that_can_count_it() -> None:
    """One image of more than 2^31 elements is past the kernels' limit, and told so before anything runs."""
    shape, w_shape = (1, 8, 16400, 16400), (8, 8, 3, 3)
    path, reason = supports(shape, w_shape, Geometry((1, 1), ((1, 1), (1, 1)), (1, 1), 1), np.dtype(np.float32))
    assert path == "array"
    assert "elements in one image" in reason


# ---- the same bits twice


@pytest.mark.gpu
@pytest.mark.parametrize("groups", [1, 4, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_two_runs_give_the_same_bits(dtype: Any, groups: int) -> None:
    """The weight gradient above all, whose sums are split over many blocks."""
    module = devices.cupy()
    rng = np.random.default_rng(0)
    x = placed(module, rng.standard_normal((32, 64, 28, 28)).astype(dtype), "NHWC")
    dy = placed(module, rng.standard_normal((32, 64, 28, 28)).astype(dtype), "NHWC")
    weight = module.asarray(rng.standard_normal((64, 64 // groups, 3, 3)).astype(dtype))
    geometry = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1), groups)
    runs = []
    for _ in range(5):
        results = (
            convolve_cuda(x, weight, None, geometry, (28, 28)),
            input_gradient_cuda(dy, weight, None, geometry, x.shape),
            weight_gradient_cuda(dy, x, weight.shape, geometry),
        )
        runs.append([devices.to_numpy(result) for result in results])
    for run in runs[1:]:
        for first, again in zip(runs[0], run, strict=True):
            np.testing.assert_array_equal(first, again)
