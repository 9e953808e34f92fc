"""Walks the registry: every operation, every sample, every implementation, held to the reference and to differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.autograd import Tensor, apply
from gpunet.ops import REGISTRY, Context, Op, Sample, chunked, use_path, windows
from gpunet.ops.base import is_differentiable_input

CASES = [
    pytest.param(op, sample, id=f"{name}-{sample.label}") for name, op in REGISTRY.items() for sample in op.samples()
]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let samples of moderate size be worked on in several chunks."""
    monkeypatch.setattr(chunked, "_CHUNK_BYTES", 1 << 17)
    monkeypatch.setattr(windows, "_BLOCK_BYTES", 1 << 18)


def inputs_of(sample: Sample, dtype: Any = np.float64) -> tuple[Any, ...]:
    """The sample's inputs, copied, floating arrays as ``dtype`` in their own physical order."""
    return tuple(
        np.asarray(value).astype(dtype, order="K") if is_differentiable_input(value) else value
        for value in sample.inputs
    )


def writes_statistics(op: Op, sample: Sample) -> bool:
    """Whether inputs 3 and 4 are running statistics, which are written in place."""
    flag = {"batch_norm": "training", "instance_norm": "use_input_stats"}.get(op.name)
    return flag is not None and bool(sample.attributes[flag])


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def run(op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> tuple[Any, ...]:
    """Outputs and gradients for a fixed random output gradient."""
    needs = tuple(is_differentiable_input(value) for value in inputs)
    ctx = Context(needs, attributes)
    outputs = as_tuple(op.forward(ctx, *inputs, **attributes))
    if not op.differentiable or not any(needs):
        return outputs
    return *outputs, *op.backward(ctx, *output_gradients(outputs))


def output_gradients(outputs: tuple[Any, ...]) -> tuple[Any, ...]:
    rng = np.random.default_rng(1)
    return tuple(rng.standard_normal(np.shape(output)).astype(np.asarray(output).dtype) for output in outputs)


def assert_agrees(found: Any, expected: Any, terms: int = 4096) -> None:
    """max|a - b| <= bound * max|b|, the design's measure; a NaN never passes."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    if expected.size == 0:
        return
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected)
        return
    bound = (1e-5 if found.dtype == np.float32 else 1e-10) * max(1.0, (terms / 4096) ** 0.5)
    error = np.abs(found.astype(np.float64) - expected).max()
    assert error <= bound * max(1.0, np.abs(expected).max()), f"differs by {error}"


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_infer_says_what_forward_returns(op: Op, sample: Sample) -> None:
    for dtype in (np.float64, np.float32):
        inputs = inputs_of(sample, dtype)
        specs = op.infer(*inputs, **sample.attributes).outputs
        with np.errstate(all="ignore"):
            context = Context((True,) * len(inputs), sample.attributes)
            outputs = as_tuple(op.forward(context, *inputs, **sample.attributes))
        assert len(outputs) == len(specs)
        for output, spec in zip(outputs, specs, strict=True):
            if op.name != "cast":
                assert (np.shape(output), np.asarray(output).dtype) == (spec.shape, spec.dtype)


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_reference_has_the_gradient_of_differences(op: Op, sample: Sample) -> None:
    if not op.differentiable or not sample.differentiable:
        pytest.skip("not differentiable")
    inputs = inputs_of(sample)
    if any(is_differentiable_input(value) and value.size == 0 for value in inputs):
        pytest.skip("nothing to differentiate")
    outputs = [np.asarray(output) for output in as_tuple(op.reference(*inputs_of(sample), **sample.attributes))]
    if all(output.size == 0 for output in outputs):
        pytest.skip("nothing to differentiate")
    weights = output_gradients(tuple(outputs))
    # What rounding the objective alone does to a difference quotient.
    size = sum(float(np.abs(o * w).sum()) for o, w in zip(outputs, weights, strict=True) if o.dtype.kind == "f")
    gradients = op.reference_backward(weights, inputs_of(sample), **sample.attributes)
    rng = np.random.default_rng(2)
    some_gradient = False
    step = 1e-6
    rounding = 1e-6 + 2e-15 * size / step

    def objective(values: tuple[Any, ...]) -> float:
        results = as_tuple(op.reference(*values, **sample.attributes))
        pairs = ((np.asarray(r), w) for r, w in zip(results, weights, strict=True))
        return float(sum((r * w).sum() for r, w in pairs if r.dtype.kind == "f"))

    for position, value in enumerate(inputs):
        gradient = gradients[position]
        if not is_differentiable_input(value) or gradient is None:
            continue
        assert gradient.shape == value.shape
        places = list(np.ndindex(*value.shape))
        count = 40 if max(outputs[0].size, value.size) < 2000 else 8  # references of large samples take their time
        if len(places) > count:
            places = [places[i] for i in rng.choice(len(places), count, replace=False)]
        some_gradient = some_gradient or bool(np.any(gradient != 0))
        for place in places:
            above, below = list(inputs_of(sample)), list(inputs_of(sample))
            above[position][place] += step
            below[position][place] -= step
            numeric = (objective(tuple(above)) - objective(tuple(below))) / (2 * step)
            assert abs(gradient[place] - numeric) <= rounding + 1e-5 * abs(numeric), (position, place)
    assert some_gradient, "a reference whose gradient is zero everywhere proves nothing"


@pytest.mark.parametrize("path", ["cpu", "array"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("op", "sample"), CASES)
def test_every_path_agrees_with_the_reference(op: Op, sample: Sample, dtype: Any, path: str) -> None:
    terms = max((np.size(value) for value in sample.inputs if value is not None), default=1)
    with np.errstate(all="ignore"):
        exact = inputs_of(sample)
        outputs = as_tuple(op.reference(*exact, **sample.attributes))
        expected = outputs
        if op.differentiable and any(map(is_differentiable_input, exact)):
            weights = output_gradients(tuple(np.asarray(output) for output in outputs))
            expected = *outputs, *op.reference_backward(weights, inputs_of(sample), **sample.attributes)
        with use_path(path):
            found = run(op, inputs_of(sample, dtype), sample.attributes)
    if op.name == "cast":
        return
    for ours, theirs in zip(found, expected, strict=False):
        if ours is not None and theirs is not None:
            assert_agrees(ours, theirs, terms)


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_inputs_may_be_strided_and_read_only(op: Op, sample: Sample) -> None:
    if writes_statistics(op, sample):
        pytest.skip("writes its running statistics")
    plain = inputs_of(sample)

    def spread(value: Any) -> Any:
        if not is_differentiable_input(value) or value.ndim == 0:
            return value
        wide = np.full((*value.shape[:-1], 2 * value.shape[-1]), np.nan)
        wide[..., ::2] = value
        view = wide[..., ::2]
        view.flags.writeable = False
        return view

    with np.errstate(all="ignore"):
        expected = run(op, plain, sample.attributes)
        found = run(op, tuple(map(spread, plain)), sample.attributes)
    for ours, theirs in zip(found, expected, strict=True):
        if theirs is not None:
            assert_agrees(ours, theirs)


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_inputs_are_left_alone(op: Op, sample: Sample) -> None:
    inputs = inputs_of(sample)
    before = [np.copy(value) if isinstance(value, np.ndarray) else value for value in inputs]
    with np.errstate(all="ignore"):
        run(op, inputs, sample.attributes)
    written = (3, 4) if writes_statistics(op, sample) else ()
    for position, (value, copy) in enumerate(zip(inputs, before, strict=True)):
        if isinstance(value, np.ndarray) and position not in written:
            np.testing.assert_array_equal(value, copy)


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_meta_knows_shape_and_dtype(op: Op, sample: Sample) -> None:
    if op.name == "to_device":
        pytest.skip("a meta tensor has no data to move")
    if op.name in ("gather_index", "set_index") and any(getattr(v, "dtype", None) == np.bool_ for v in sample.inputs):
        pytest.skip("the shape of a mask's result depends on its values")

    def on(device: str) -> list[Any]:
        return [
            gn.from_numpy(np.array(value)).to(device) if isinstance(value, np.ndarray) else value
            for value in inputs_of(sample)
        ]

    real = as_tuple(apply(op, *on("cpu"), **sample.attributes))
    meta = as_tuple(apply(op, *on("meta"), **sample.attributes))
    for ours, theirs in zip(meta, real, strict=True):
        assert isinstance(ours, Tensor)
        assert ours.device.type == "meta"
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


def test_every_operation_has_samples() -> None:
    assert all(any(True for _ in op.samples()) for op in REGISTRY.values())


def test_empty_batches_are_sampled() -> None:
    batched = {"conv2d", "linear", "matmul", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "batch_norm", "dropout"}
    for name in batched | {"cross_entropy", "softmax", "mse_loss", "add", "exp", "cat", "reshape"}:
        assert any(sample.label == "empty batch" for sample in REGISTRY[name].samples()), name
