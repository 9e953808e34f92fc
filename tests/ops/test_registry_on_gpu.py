"""Every operation's samples on a GPU, forward and backward, against the reference in float64 on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet.backend import devices
from gpunet.ops import REGISTRY, Context, Op, Sample
from gpunet.ops.base import is_differentiable_input

CASES = [
    pytest.param(op, sample, id=f"{name}-{sample.label}")
    for name, op in REGISTRY.items()
    for sample in op.samples()
    if name not in ("cast", "to_device")  # their results have a dtype or a device of their own
]


def on_gpu(value: Any, dtype: Any, module: Any) -> Any:
    """An array on the GPU with the strides it has on the CPU; floating ones as ``dtype``."""
    if not isinstance(value, np.ndarray):
        return value
    if is_differentiable_input(value):
        value = value.astype(dtype, order="K") if spans_itself(value) else strided_as(value, dtype)
    if not value.size or min(value.strides, default=0) < 0:
        return module.asarray(value)
    span = sum((extent - 1) * stride for extent, stride in zip(value.shape, value.strides, strict=True))
    buffer = module.zeros(span // value.itemsize + 1, value.dtype)
    if module is np:
        view = np.ndarray(value.shape, value.dtype, buffer.data, strides=value.strides)
    else:
        view = module.ndarray(value.shape, value.dtype, buffer.data, value.strides)
    view[...] = module.asarray(value)
    return view


def spans_itself(value: np.ndarray) -> bool:
    """Whether the elements lie without gaps, in whatever order."""
    order = sorted(range(value.ndim), key=lambda axis: -value.strides[axis])
    return value.transpose(order).flags.c_contiguous


def strided_as(value: np.ndarray, dtype: Any) -> np.ndarray:
    """The values in another dtype, with the same gaps between them, counted in elements."""
    size = np.dtype(dtype).itemsize
    strides = tuple(stride // value.itemsize * size for stride in value.strides)
    if not value.size or min(strides) < 0:
        return value.astype(dtype)
    span = sum((extent - 1) * stride for extent, stride in zip(value.shape, strides, strict=True))
    view = np.ndarray(value.shape, dtype, np.zeros(span // size + 1, dtype).data, strides=strides)
    view[...] = value
    return view


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def random_gradients(outputs: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    return tuple(rng.standard_normal(output.shape).astype(output.dtype) for output in outputs)


def expected_results(op: Op, sample: Sample) -> tuple[Any, ...]:
    """Outputs and gradients by the reference, in float64."""

    def inputs() -> tuple[Any, ...]:  # new ones each time: some operations write to theirs
        return tuple(np.array(v) if isinstance(v, np.ndarray) else v for v in sample.inputs)

    outputs = tuple(map(np.asarray, as_tuple(op.reference(*inputs(), **sample.attributes))))
    if not op.differentiable or not any(map(is_differentiable_input, sample.inputs)):
        return outputs
    return *outputs, *op.reference_backward(random_gradients(outputs), inputs(), **sample.attributes)


def found_results(op: Op, sample: Sample, dtype: Any, module: Any) -> tuple[Any, ...]:
    """Outputs and gradients on the GPU, and that they stayed there."""
    inputs = tuple(on_gpu(value, dtype, module) for value in sample.inputs)
    needs = tuple(is_differentiable_input(value) for value in inputs)
    ctx = Context(needs, sample.attributes)
    results = as_tuple(op.forward(ctx, *inputs, **sample.attributes))
    if op.differentiable and any(needs):
        gradients = tuple(module.asarray(gradient) for gradient in random_gradients(results))
        results = *results, *op.backward(ctx, *gradients)
    arrays = (np.ndarray, np.generic) if module is np else module.ndarray  # CuPy has no scalars
    assert all(result is None or isinstance(result, arrays) for result in results), "an array left the GPU"
    return results


def check_sample(op: Op, sample: Sample, dtype: Any, module: Any) -> None:
    """Hold one sample to the design's measure."""
    with np.errstate(all="ignore"):
        expected = expected_results(op, sample)
        found = found_results(op, sample, dtype, module)
    terms = max((np.size(value) for value in sample.inputs if value is not None), default=1)
    bound = (1e-5 if dtype == np.float32 else 1e-10) * max(1.0, (terms / 4096) ** 0.5)
    compared = 0
    for ours, theirs in zip(found, expected, strict=False):
        if ours is None or theirs is None:
            continue
        ours, theirs = np.asarray(ours) if module is np else devices.to_numpy(ours), np.asarray(theirs)
        assert ours.shape == theirs.shape
        compared += 1
        if theirs.dtype.kind != "f":
            np.testing.assert_array_equal(ours, theirs)
        elif theirs.size:
            error = np.abs(ours.astype(np.float64) - theirs).max()
            assert error <= bound * max(1.0, np.abs(theirs).max()), f"differs by {error}"  # never true of a NaN
    assert compared


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("op", "sample"), CASES)
def test_a_gpu_agrees_with_the_reference(op: Op, sample: Sample, dtype: Any) -> None:
    check_sample(op, sample, dtype, devices.cupy())


@pytest.mark.parametrize("module", ["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def test_arrays_keep_their_strides_on_the_way(module: str) -> None:
    """Pixel pitch and channels-last are what many of the samples are there for."""
    pitched = np.arange(2 * 5 * 5 * 7, dtype=np.float64).reshape(2, 5, 5, 7).transpose(0, 3, 1, 2)[:, 2:5]
    sent = on_gpu(pitched, np.float32, np if module == "numpy" else devices.cupy())
    assert sent.strides == tuple(stride // 2 for stride in pitched.strides)
    np.testing.assert_array_equal(devices.to_numpy(sent), pitched)


def some_samples() -> list[Any]:
    return [case for case in CASES if case.values[0].name in ("conv2d", "max_pool2d", "cross_entropy", "batch_norm")]


@pytest.mark.parametrize(("op", "sample"), some_samples())
def test_the_comparison_passes_what_is_right(op: Op, sample: Sample) -> None:
    """On NumPy's arrays, so that the comparison itself is run on every machine."""
    for dtype in (np.float64, np.float32):
        check_sample(op, sample, dtype, np)


@pytest.mark.parametrize("fault", ["forward", "backward", "nan"])
def test_the_comparison_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    op = REGISTRY["conv2d"]
    sample = next(iter(op.samples()))
    forward, backward = op.forward, op.backward
    if fault == "backward":
        monkeypatch.setattr(op, "backward", lambda *grads: tuple(1.001 * g for g in backward(*grads) if g is not None))
    else:
        factor = np.nan if fault == "nan" else 1.001
        monkeypatch.setattr(op, "forward", lambda *inputs, **attributes: forward(*inputs, **attributes) * factor)
    with pytest.raises(AssertionError, match="differs by"):
        check_sample(op, sample, np.float64, np)
