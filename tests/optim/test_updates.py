"""The update equations on arrays: against their plain forms, in any layout, from device scalars."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet.ops import adam as adam_op
from gpunet.ops import sgd as sgd_op
from gpunet.ops.updates import BLOCK, memory_order

SGD_CASES: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.1},
    {"momentum": 0.9},
    {"momentum": 0.9, "weight_decay": 0.1, "maximize": True},
    {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "grad_scale": 4.0},
    {"grad_scale": 3.0, "maximize": True},
]
ADAM_CASES: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "decoupled": True},
    {"beta1": 0.5, "beta2": 0.9, "eps": 1e-3, "maximize": True},
    {"grad_scale": 4.0, "weight_decay": 0.1, "maximize": True},
]


def draw(shape: tuple[int, ...], seed: int, dtype: Any, layout: str = "C") -> np.ndarray:
    array = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    if layout == "permuted":
        return (
            array.transpose(np.argsort(shape, kind="stable"))
            .copy()
            .transpose(np.argsort(np.argsort(shape, kind="stable")))
        )
    if layout == "strided":
        wide = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    return array


def tolerance(dtype: Any) -> float:
    return {"float16": 5e-3, "float32": 1e-6, "float64": 1e-13}[np.dtype(dtype).name]


def agree(ours: np.ndarray, expected: np.ndarray) -> None:
    assert np.isfinite(ours).all()
    limit = tolerance(ours.dtype) * max(1.0, float(np.abs(expected).max())) * 10
    assert np.abs(ours.astype(np.float64) - expected).max() <= limit


@pytest.mark.parametrize("options", SGD_CASES, ids=range(len(SGD_CASES)))
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("layout", ["C", "permuted", "strided", "mixed"])
@pytest.mark.parametrize("shape", [(5, 3, 7), (2 * BLOCK + 5, 1)], ids=["small", "blocks"])
def test_sgd_is_its_equations(options, dtype, layout, shape):
    first_layout = "permuted" if layout == "mixed" else layout
    param = draw(shape, 0, dtype, first_layout)
    buffer = np.full_like(param, np.nan) if "momentum" in options else None
    theta, b = param.astype(np.float64), None if buffer is None else np.zeros(shape)
    for step in range(3):
        grad = draw(shape, step + 1, dtype, "C" if layout == "mixed" else layout)
        kept = grad.copy()
        sgd_op.sgd(param, grad, buffer, lr=0.1, first=step == 0, **options)
        theta, b = sgd_op.reference(theta, grad.astype(np.float64), b, lr=0.1, first=step == 0, **options)
        np.testing.assert_array_equal(grad, kept)
    agree(param, theta)
    if buffer is not None:
        agree(buffer, b)


@pytest.mark.parametrize("options", ADAM_CASES, ids=range(len(ADAM_CASES)))
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["C", "permuted", "strided"])
@pytest.mark.parametrize("shape", [(5, 3, 7), (2 * BLOCK + 5, 1)], ids=["small", "blocks"])
def test_adam_is_its_equations(options, amsgrad, dtype, layout, shape):
    param = draw(shape, 0, dtype, layout)
    m, v = np.zeros_like(param), np.zeros_like(param)
    w = np.zeros_like(param) if amsgrad else None
    expected = (param.astype(np.float64), np.zeros(shape), np.zeros(shape), np.zeros(shape) if amsgrad else None)
    for step in range(1, 4):
        grad = draw(shape, step, dtype, layout) / step
        adam_op.adam(param, grad, m, v, w, lr=0.1, step=step, **options)
        theta, *moments = expected
        expected = adam_op.reference(theta, grad.astype(np.float64), *moments, lr=0.1, step=step, **options)
    for ours, theirs in zip((param, m, v), expected, strict=False):
        agree(ours, theirs)
    if w is not None:
        agree(w, expected[3])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scalars_may_be_arrays(dtype):
    param, grad, buffer = draw((40, 3), 0, dtype), draw((40, 3), 1, dtype), draw((40, 3), 2, dtype)
    other, other_buffer = param.copy(), buffer.copy()
    sgd_op.sgd(param, grad, buffer, lr=0.1, momentum=0.9, grad_scale=2.0)
    sgd_op.sgd(other, grad, other_buffer, lr=np.array(0.1), momentum=0.9, grad_scale=np.array(2.0, np.float32))
    np.testing.assert_array_equal(param, other)
    m, v = np.zeros_like(param), np.zeros_like(param)
    m2, v2 = m.copy(), v.copy()
    adam_op.adam(param, grad, m, v, lr=0.1, step=1, weight_decay=0.1, decoupled=True, grad_scale=2.0)
    scalars = {"lr": np.array(0.1), "step": np.array(1.0, np.float32), "grad_scale": np.array(2.0)}
    adam_op.adam(other, grad, m2, v2, weight_decay=0.1, decoupled=True, **scalars)
    np.testing.assert_array_equal(param, other)


def test_arrays_without_elements_and_without_dimensions():
    empty = np.zeros((0, 3), np.float32)
    sgd_op.sgd(empty, empty, None, lr=0.1)
    adam_op.adam(empty, empty, empty.copy(), empty.copy(), lr=0.1, step=1)
    param = np.array(1.0)
    sgd_op.sgd(param, np.array(2.0), None, lr=0.1)
    assert float(param) == pytest.approx(0.8)


def test_memory_order():
    array = np.zeros((2, 3, 4, 5))
    assert memory_order(array.shape, array.strides, 8) == (0, 1, 2, 3)
    turned = array.transpose(3, 2, 0, 1)
    assert memory_order(turned.shape, turned.strides, 8) == (2, 3, 1, 0)
    assert memory_order((2, 3), (48, 16), 8) is None  # every second column
    assert memory_order((2, 3), (0, 8), 8) is None  # broadcast
    # Where an axis has one element its stride says nothing.
    assert memory_order((4, 1, 3), (24, 8, 8), 8) == memory_order((4, 1, 3), (24, 999, 8), 8)


@pytest.mark.parametrize("options", SGD_CASES, ids=range(len(SGD_CASES)))
def test_array_module_operations_need_no_blocks(options, monkeypatch):
    # A GPU's arrays are updated whole: the same lines, driven here with NumPy's arrays.
    param, grad = draw((50, 7), 0, "float64"), draw((50, 7), 1, "float64")
    buffer = np.zeros_like(param) if "momentum" in options else None
    expected, _ = sgd_op.reference(param, grad, buffer, lr=0.1, **options)
    monkeypatch.setattr("gpunet.ops.updates.flatten", lambda *arrays: None)
    sgd_op.sgd(param, grad, buffer, lr=0.1, **options)
    np.testing.assert_allclose(param, expected, rtol=1e-13)
