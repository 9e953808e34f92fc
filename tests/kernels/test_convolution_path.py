"""Convolutions and linear layers on the path of a GPU: through the typed launcher and the kernels, run on the CPU.

Every sample of their operations, forward and backward, is held to the float64 reference; whatever is allocated starts
out as NaN, so that an element which no kernel wrote is seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet.backend import kernels, memory
from gpunet.ops import REGISTRY, Context, Op, Sample, base, convolution_cuda
from gpunet.ops.base import is_differentiable_input
from gpunet.testing import agreement_bound, assert_agreement, cuda_on_cpu, relative_error

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("host", "new_memory_is_nan")]

NAMES = ("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "linear")
CASES = [pytest.param(REGISTRY[name], sample, id=f"{name}-{sample.label}") for name in NAMES
         for sample in REGISTRY[name].samples()]  # fmt: skip


def test_new_memory_is_nan() -> None:
    for dtype in (np.float32, np.float64, np.float16):
        for size in (3, 3000):
            assert np.isnan(memory.empty((size, 2), dtype)).all()
            assert np.isnan(np.empty((2, size), dtype, order="F")).all()
    assert np.isnan(np.empty_like(np.zeros((2, 3)).T)).all()


def as_inputs(sample: Sample, dtype: Any) -> tuple[Any, ...]:
    """The sample's inputs in a dtype, in their own order in memory; gaps between their elements are kept."""

    def converted(value: Any) -> Any:
        if value is None:
            return None
        made = np.asarray(value).astype(dtype, order="K")
        if value.ndim < 3 or value.strides[1] != value.itemsize or value.size == 0:
            return made
        pitch = value.strides[-1] // value.itemsize
        if pitch <= value.shape[1]:
            return made
        wide = np.full((value.shape[0], *value.shape[2:], pitch), np.nan, dtype)  # whoever reads the gaps is seen
        wide[..., : value.shape[1]] = np.moveaxis(made, 1, -1)
        return np.moveaxis(wide[..., : value.shape[1]], -1, 1)

    return tuple(map(converted, sample.inputs))


def gradient_of(y: np.ndarray) -> np.ndarray:
    return np.asarray(np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype))


def run(op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> tuple[Any, ...]:
    """The output and the gradients, on the path of a GPU."""
    ctx = Context(tuple(map(is_differentiable_input, inputs)), attributes)
    y = op.forward(ctx, *inputs, **attributes)
    assert ctx.state[0] == "cuda"
    return y, *op.backward(ctx, gradient_of(y))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("op", "sample"), CASES)
def test_kernels_agree_with_the_reference(op: Op, sample: Sample, dtype: Any) -> None:
    exact = as_inputs(sample, np.float64)
    y = op.reference(*exact, **sample.attributes)
    expected = y, *op.reference_backward((gradient_of(y),), exact, **sample.attributes)
    with cuda_on_cpu("both"):
        found = run(op, as_inputs(sample, dtype), sample.attributes)
    # The longest sum of all: over the batch and the pixels, or over the channels and the taps.
    terms = max(int(np.size(value)) for value in (*sample.inputs, y) if value is not None)
    names = ("y", "dx", "dw", "db", "dr")[: len(expected)]
    for name, ours, theirs in zip(names, found, expected, strict=True):
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            assert ours.dtype == dtype
            assert_agreement(ours, theirs, dtype, terms, name)


def random(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape).astype(dtype))


@pytest.fixture
def launched() -> Iterator[list[str]]:
    """The kernels that are launched on NumPy arrays; none of them runs."""
    seen: list[str] = []
    with kernels.on_host(lambda kernel, *rest: seen.append(kernel.name)):
        yield seen


def geometry(rank: int, **options: Any) -> dict[str, Any]:
    plain = {"stride": (1,) * rank, "padding": ((0, 0),) * rank, "dilation": (1,) * rank, "groups": 1}
    return {**plain, **options}


class TestChoice:
    """``supports`` alone decides, and says why."""

    @pytest.mark.parametrize("rank", [1, 2])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_kernels_take_one_and_two_dimensions(self, rank: int, dtype: Any, launched: list[str]) -> None:
        x, w = random(2, 3, *(6,) * rank, dtype=dtype), random(4, 3, *(3,) * rank, dtype=dtype)
        path, reason = REGISTRY[f"conv{rank}d"].supports(x, w, None, None, **geometry(rank))
        assert path == "cuda"
        assert reason
        turned = {**geometry(rank), "output_padding": (0,) * rank}
        assert REGISTRY[f"conv_transpose{rank}d"].supports(x, w[:3], None, **turned)[0] == "cuda"
        assert REGISTRY["linear"].supports(x.reshape(2, -1), w[:, 0].reshape(4, -1), None, None)[0] == "cuda"
        assert not launched

    def test_three_dimensions_are_a_matrix_product(self, launched: list[str]) -> None:
        x, w = random(2, 3, 4, 5, 6, dtype=np.float64), random(4, 3, 2, 2, 2, dtype=np.float64)
        op = REGISTRY["conv3d"]
        assert op.supports(x, w, None, None, **geometry(3)) == (
            "array",
            "no kernel has three dimensions: patches and a matrix product",
        )
        context = Context((True, True, False, False), geometry(3))
        y = op.forward(context, x, w, None, None, **geometry(3))
        assert_agreement(y, op.reference(x, w, None, None, **geometry(3)), np.float64)
        op.backward(context, y)
        assert not launched

    def test_integers_have_no_kernel(self, launched: list[str]) -> None:
        x, w = np.arange(6).reshape(2, 3), np.arange(12).reshape(4, 3)
        op = REGISTRY["linear"]
        assert op.supports(x, w, None, None) == (
            "array",
            "the kernel is not built for int64",
        )
        np.testing.assert_array_equal(op.forward(base.NO_GRAD, x, w, None, None), x @ w.T)
        assert not launched

    def test_sizes_past_the_kernels_limits_are_a_matrix_product(self, launched: list[str]) -> None:
        x = np.broadcast_to(np.float32(1), (1, 1, 2**16, 2**16))
        w = np.ones((1, 1, 1, 1), np.float32)
        assert REGISTRY["conv2d"].supports(x, w, None, None, **geometry(2)) == (
            "array",
            f"{2**32} pixels, more than the kernels can count",
        )
        # A transposed convolution's output is what counts.
        small = np.broadcast_to(np.float32(1), (1, 1, 2, 2))
        turned = geometry(2, stride=(2**16, 2**16), output_padding=(0, 0))
        assert REGISTRY["conv_transpose2d"].supports(small, w, None, **turned)[0] == "array"
        assert REGISTRY["conv_transpose2d"].supports(small, w, None, **{**turned, "stride": (2, 2)})[0] == "cuda"
        for rows, outer, inner in ((2, 4, 2_200_000), (2, 2_200_000, 4), (2**31, 4, 4)):
            x, w = (np.broadcast_to(np.float32(1), shape) for shape in ((rows, inner), (outer, inner)))
            path, reason = REGISTRY["linear"].supports(x, w, None, None)
            assert path == "array"
            assert "than the kernel" in reason

    @pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv_transpose2d"])
    def test_past_the_limits_the_result_is_the_same(self, name, launched, monkeypatch) -> None:
        monkeypatch.setattr(convolution_cuda, "_MOST_ELEMENTS", 8)
        op = REGISTRY[name]
        sample = next(iter(op.samples()))
        context = Context((True,) * len(sample.inputs), sample.attributes)
        y = op.forward(context, *sample.inputs, **sample.attributes)
        assert context.state[0] == "array"
        found = y, *op.backward(context, gradient_of(y))
        expected = op.reference_backward((gradient_of(y),), sample.inputs, **sample.attributes)
        for ours, theirs in zip(found, (op.reference(*sample.inputs, **sample.attributes), *expected), strict=True):
            if theirs is not None:
                assert_agreement(ours, theirs, np.float64)
        assert not launched

    def test_outside_of_the_layer_arrays_of_the_cpu_stay_there(self) -> None:
        x, w = random(2, 3, 6, 6), random(4, 3, 3, 3)
        assert REGISTRY["conv2d"].supports(x, w, None, None, **geometry(2))[0] == "cpu"
        assert REGISTRY["linear"].supports(x, w, None, None)[0] == "cpu"

    def test_it_looks_at_no_data(self, launched: list[str]) -> None:
        """The choice is the same for an array that holds nothing yet."""
        op, w = REGISTRY["conv2d"], random(4, 3, 3, 3)
        choices = {
            op.supports(x, w, None, None, **geometry(2)) for x in (random(2, 3, 6, 6), np.empty((2, 3, 6, 6), "f4"))
        }
        assert len(choices) == 1

    @pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv_transpose2d", "linear"])
    def test_the_chosen_path_holds_for_backward(self, name: str, launched: list[str]) -> None:
        sample = next(iter(REGISTRY[name].samples()))
        inputs, op = as_inputs(sample, np.float32), REGISTRY[name]
        context = Context((True,) * len(inputs), sample.attributes)
        with base.use_path("array"):
            y = op.forward(context, *inputs, **sample.attributes)
        op.backward(context, y)
        assert context.state[0] == "array"
        assert not launched

    @pytest.mark.parametrize("name", NAMES)
    def test_every_product_is_a_kernel(self, name: str, launched: list[str]) -> None:
        """One launch or more forward, and for each gradient; the matrix product of NumPy is not called."""
        sample = next(sample for sample in REGISTRY[name].samples() if sample.inputs[2] is not None)
        inputs, op = as_inputs(sample, np.float32), REGISTRY[name]
        counts = []
        for wanted in [(False,) * len(inputs), *(tuple(at == i for i in range(len(inputs))) for at in range(3))]:
            context = Context(wanted, sample.attributes)
            y = op.forward(context, *inputs, **sample.attributes)
            forward = len(launched)
            op.backward(context, y)
            counts.append((forward, len(launched) - forward))
            launched.clear()
        assert all(forward >= 1 for forward, _ in counts)
        assert counts[0][1] == 0
        assert all(backward >= 1 for _, backward in counts[1:]), counts

    def test_the_choice_is_told(self, launched, monkeypatch, capsys) -> None:
        monkeypatch.setattr(base, "_EXPLAIN", True)
        monkeypatch.setattr(base, "_explained", set())
        op, x, w = REGISTRY["conv2d"], random(2, 3, 6, 6), random(4, 3, 3, 3)
        op.forward(base.NO_GRAD, x, w, None, None, **geometry(2))
        reason = op.supports(x, w, None, None, **geometry(2))[1]
        assert capsys.readouterr().err == f"gpunet: conv2d((2, 3, 6, 6), (4, 3, 3, 3)) -> cuda: {reason}\n"


@pytest.mark.parametrize("dtype, bound", [("float16", 2e-3), ("bfloat16", 1.6e-2)])
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d", "linear"])
def test_half_types_are_carried_in_float32(name: str, dtype: str, bound: float) -> None:
    """As far from the exact result of the same inputs as one rounding of the result: 2^-11 and 2^-8, and some room."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    op = REGISTRY[name]
    sample = next(sample for sample in op.samples() if sample.inputs[2] is not None)
    half = getattr(gn, dtype)
    inputs = tuple(None if value is None else np.asarray(value).astype(half) for value in sample.inputs)
    exact = tuple(None if value is None else value.astype(np.float64) for value in inputs)
    y = op.reference(*exact, **sample.attributes)
    context = Context(tuple(value is not None for value in inputs), sample.attributes)
    with cuda_on_cpu():
        found = op.forward(context, *inputs, **sample.attributes)
        grad = gradient_of(y).astype(half)
        gradients = op.backward(context, grad)
    expected = y, *op.reference_backward((grad.astype(np.float64),), exact, **sample.attributes)
    for ours, theirs in zip((found, *gradients), expected, strict=True):
        if ours is not None:
            assert ours.dtype == half
            assert relative_error(ours.astype(np.float64), theirs) < bound


# How x and dy may lie in memory.
ORDERS = {
    "NCHW": lambda a: np.ascontiguousarray(a),
    "NHWC": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1),
    "a slice of channels": lambda a: np.moveaxis(
        np.ascontiguousarray(np.moveaxis(np.concatenate([a * np.nan, a, a * np.nan], 1), 1, -1)), -1, 1
    )[:, a.shape[1] : 2 * a.shape[1]],
    "every second column": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "turned around": lambda a: np.ascontiguousarray(a[:, ::-1, ::-1])[:, ::-1, ::-1],
    "transposed": lambda a: np.ascontiguousarray(a.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0),
    "one value": lambda a: np.broadcast_to(a[:1, :1, :1, :1], a.shape),
}


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
@pytest.mark.parametrize("of_grad", ORDERS)
@pytest.mark.parametrize("of_input", ORDERS)
def test_any_order_in_memory(name: str, of_input: str, of_grad: str) -> None:
    op = REGISTRY[name]
    attributes = geometry(2, padding=((1, 1), (1, 1)))
    x, w, b = random(2, 4, 5, 6), random(4, 4, 3, 3, seed=1), random(4, seed=2)
    rest: tuple[Any, ...] = (b,)
    if name == "conv2d":
        attributes["activation"] = "relu"
        rest = b, ORDERS[of_grad](random(2, 4, 5, 6, seed=4))
    else:
        attributes["output_padding"] = (0, 0)
    x, grad = ORDERS[of_input](x), ORDERS[of_grad](random(2, 4, 5, 6, seed=3))
    inputs = x, w.transpose(1, 0, 3, 2), *rest
    context = Context((True,) * len(inputs), attributes)
    with cuda_on_cpu():
        found = op.forward(context, *inputs, **attributes), *op.backward(context, grad)
    exact = tuple(value.astype(np.float64) for value in inputs)
    expected = (
        op.reference(*exact, **attributes),
        *op.reference_backward((grad.astype(np.float64),), exact, **attributes),
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert_agreement(ours, theirs, np.float32, 60)
    assert found[0].transpose(0, 2, 3, 1).flags.c_contiguous


def test_tensors_take_the_path_and_give_the_same_gradients() -> None:
    arrays = random(2, 3, 7, 8), random(6, 3, 3, 3, seed=1), random(6, seed=2), random(5, 96, seed=3)
    results = []
    for on_gpu in (True, False):
        x, w, b, v = inputs = [gn.tensor(array, requires_grad=True) for array in arrays]

        def step(x=x, w=w, b=b, v=v) -> None:
            y = F.conv2d(x, w, b, stride=2, padding=1, activation="relu")
            y = F.conv2d(y, gn.ones(6, 1, 3, 3), padding=1, groups=6, residual=y)
            F.linear(y.flatten(1), v).square().mean().backward()

        if on_gpu:
            with cuda_on_cpu():
                step()
        else:
            step()
        results.append([value.grad.numpy() for value in inputs])
    for ours, theirs in zip(*results, strict=True):
        assert relative_error(ours, theirs) < agreement_bound(np.float32)


def test_backward_outside_the_block_says_where_it_belongs() -> None:
    x = gn.randn(2, 3, 5, 5, requires_grad=True)
    weight = gn.randn(4, 3, 3, 3, requires_grad=True)
    with cuda_on_cpu():
        y = F.conv2d(x, weight).sum()
    with pytest.raises(gn.DeviceError, match=r"call backward\(\) inside the block that the forward pass was in"):
        y.backward()
    with cuda_on_cpu():
        F.conv2d(x, weight).sum().backward()
    assert weight.grad is not None
