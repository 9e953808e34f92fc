"""Convolutions of drawn shapes and options, on cpu and meta, with PyTorch as the oracle.

Nothing may crash or differ silently: where PyTorch raises, gpunet raises; where it does not, values, gradients, shapes
and dtypes agree.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.testing.compare import agreement_bound
from gpunet.testing.parity import attempt, compare_outcomes

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")
given, settings, st = hypothesis.given, hypothesis.settings, hypothesis.strategies

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:Using padding='same'")]

EXAMPLES = settings(max_examples=120, deadline=None, derandomize=True, database=None)


@st.composite
def convolutions(draw: Any, dims: int, transposed: bool) -> tuple[Any, ...]:
    """Input, weight and bias shapes, options, and the input's order in memory; most of them fit, some do not."""
    groups = draw(st.sampled_from([1, 1, 2, 3, 4]))
    per_in, per_out = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    most = {1: 12, 2: 7, 3: 5}[dims]
    size = tuple(draw(st.integers(1, most)) for _ in range(dims))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(dims))
    channels = per_in * groups + draw(st.sampled_from([0] * 12 + [1]))
    first, second = (channels, per_out) if transposed else (per_out * groups, per_in)

    def each(low: int, high: int) -> Any:
        if draw(st.booleans()):
            return draw(st.integers(low, high))
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    options: dict[str, Any] = {"groups": groups}
    if draw(st.booleans()):
        options["stride"] = each(1, 4)
    if draw(st.booleans()):
        options["dilation"] = each(1, 3)
    padding = draw(st.sampled_from(["none", "number", "number", "number", "name"]))
    if padding == "number":
        options["padding"] = each(-1 if draw(st.integers(0, 15)) == 0 else 0, 3)
    elif padding == "name" and not transposed:
        options["padding"] = draw(st.sampled_from(["same", "valid"]))
    if transposed and draw(st.booleans()):
        options["output_padding"] = each(0, 2)
    batches = [(), (1,), (2,), (3,)]
    if not transposed:  # a stated difference: PyTorch hardly checks an empty one
        batches.append((0,))
    batch = draw(st.sampled_from(batches))
    bias = (per_out * groups,) if draw(st.booleans()) else None
    order = draw(st.sampled_from(["C", "F", "channels last", "strided"]))
    return (*batch, channels, *size), (first, second, *kernel), bias, options, order


def _ordered(array: np.ndarray, dims: int, order: str) -> np.ndarray:
    if order == "F":
        return np.asarray(array, order="F")
    if order == "channels last":
        axis = array.ndim - dims - 1
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, axis, -1)), -1, axis)
    if order == "strided":
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    return array


def _check(name: str, dims: int, drawn: tuple[Any, ...]) -> None:
    x_shape, w_shape, bias, options, order = drawn
    rng = np.random.default_rng(len(str(drawn)))
    arrays = [rng.standard_normal(shape) for shape in (x_shape, w_shape, bias) if shape is not None]
    arrays[0] = _ordered(arrays[0], dims, order)

    def run(m: Any, x: Any, w: Any, *b: Any) -> Any:
        return getattr(m.nn.functional, name)(x, w, *b, **options)

    ours, theirs = (attempt(m, run, arrays) for m in (gn, torch))
    problems = compare_outcomes(ours, theirs, agreement_bound(np.float64, math.prod(x_shape)))
    assert not problems, f"{drawn}\n" + "\n".join(problems)
    on_meta = attempt(gn, lambda m, *tensors: run(m, *(tensor.to("meta") for tensor in tensors)), arrays, grad=False)
    assert (type(on_meta.error), str(on_meta.error)) == (type(ours.error), str(ours.error)), drawn
    if ours.error is None:
        assert (on_meta.values.shape, on_meta.values.dtype) == (ours.values.shape, ours.values.dtype)


@EXAMPLES
@given(convolutions(1, False))
def test_conv1d(drawn: Any) -> None:
    _check("conv1d", 1, drawn)


@EXAMPLES
@given(convolutions(2, False))
def test_conv2d(drawn: Any) -> None:
    _check("conv2d", 2, drawn)


@EXAMPLES
@given(convolutions(3, False))
def test_conv3d(drawn: Any) -> None:
    _check("conv3d", 3, drawn)


@EXAMPLES
@given(convolutions(1, True))
def test_conv_transpose1d(drawn: Any) -> None:
    _check("conv_transpose1d", 1, drawn)


@EXAMPLES
@given(convolutions(2, True))
def test_conv_transpose2d(drawn: Any) -> None:
    _check("conv_transpose2d", 2, drawn)


@EXAMPLES
@given(convolutions(3, True))
def test_conv_transpose3d(drawn: Any) -> None:
    _check("conv_transpose3d", 3, drawn)


@st.composite
def patches(draw: Any) -> tuple[Any, ...]:
    def two(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    batch = draw(st.sampled_from([(), (0,), (1,), (2,)]))
    size = two(1, 9)
    options = {"kernel_size": two(1, 4), "stride": two(1, 4), "padding": two(0, 2), "dilation": two(1, 3)}
    return (*batch, draw(st.integers(1, 3)), *size), size, options


@EXAMPLES
@given(patches())
def test_unfold_and_fold(drawn: Any) -> None:
    shape, size, options = drawn
    x = np.random.default_rng(1).standard_normal(shape)

    def run(m: Any, x: Any) -> Any:
        columns = m.nn.functional.unfold(x, **options)
        return columns, m.nn.functional.fold(columns * columns, size, **options)

    ours, theirs = (attempt(m, run, [x]) for m in (gn, torch))
    problems = compare_outcomes(ours, theirs, 1e-12)
    assert not problems, f"{drawn}\n" + "\n".join(problems)
