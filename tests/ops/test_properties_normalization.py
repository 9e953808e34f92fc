"""Normalisations of whatever shape, with PyTorch as the oracle: no crash, no silent difference, and meta knows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpunet as gn
from gpunet.testing.parity import attempt, compare_outcomes

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

checks = settings(max_examples=60, deadline=None, derandomize=True, database=None)
sizes = st.integers(0, 5)
spatial = st.lists(st.integers(1, 6), min_size=0, max_size=3)
orders = st.sampled_from(["C", "F", "last", "strided"])


def in_order(values: np.ndarray, order: str) -> np.ndarray:
    """The same numbers in another physical order."""
    if order == "last" and values.ndim > 2:
        moved = np.ascontiguousarray(np.moveaxis(values, 1, -1))
        return np.moveaxis(moved, -1, 1)
    if order == "strided" and values.ndim:
        wide = np.zeros((*values.shape[:-1], 2 * values.shape[-1]), values.dtype)
        wide[..., ::2] = values
        return wide[..., ::2]
    return np.asarray(values, order="F" if order == "F" else "C")


def hold(run: Any, arrays: list[Any], bound: float = 1e-9) -> None:
    """Both libraries agree in float64, and meta gives the same shape and dtype or the same error."""

    def fresh() -> list[Any]:
        return [array.copy(order="K") if isinstance(array, np.ndarray) else array for array in arrays]

    ours, theirs = (attempt(module, run, fresh()) for module in (gn, torch))
    problems = compare_outcomes(ours, theirs, bound)
    assert not problems, "\n".join(problems)
    on_meta = [gn.empty(a.shape, dtype=a.dtype, device="meta") if isinstance(a, np.ndarray) else a for a in arrays]
    raised: Exception | None = None
    result: Any = None
    try:
        result = run(gn, *on_meta)
    except (ValueError, TypeError, IndexError) as error:
        raised = error
    assert (type(raised), str(raised)) == (type(ours.error), str(ours.error))
    if raised is not None:
        return
    assert (result.shape, result.dtype) == (ours.values.shape, ours.values.dtype)


def draw(data: Any, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    return in_order(rng.standard_normal(shape) * 2 + 0.5, data.draw(orders))


def affine(data: Any, shape: tuple[int, ...]) -> tuple[list[Any], bool, bool]:
    """A weight and a bias, each of which may be missing, and rarely of a wrong size."""
    weight, bias = data.draw(st.booleans()), data.draw(st.booleans())
    if shape and data.draw(st.integers(0, 9)) == 0:
        shape = (*shape[:-1], shape[-1] + 1)
    return [draw(data, shape) for wanted in (weight, bias) if wanted], weight, bias


def unpack(rest: tuple[Any, ...], weight: bool, bias: bool) -> tuple[Any, Any]:
    given_weight = rest[0] if weight else None
    return given_weight, rest[-1] if bias else None


@checks
@given(data=st.data())
def test_layer_norm(data: Any) -> None:
    shape = tuple(data.draw(st.lists(sizes, min_size=1, max_size=4)))
    count = data.draw(st.integers(1, len(shape)))
    normalized = shape[len(shape) - count :]
    if 0 in shape or np.prod(normalized) == 1:
        # Nothing to sum, or gradients that are what rounding leaves of 0.
        normalized = tuple(size + 2 for size in normalized)
        shape = (*shape[: len(shape) - count], *normalized)
    if data.draw(st.integers(0, 9)) == 0:
        normalized = (*normalized[:-1], normalized[-1] + 1)
    rest, weight, bias = affine(data, normalized)
    eps = data.draw(st.sampled_from([1e-5, 0.1]))
    hold(
        lambda m, x, *r: m.nn.functional.layer_norm(x, normalized, *unpack(r, weight, bias), eps),
        [draw(data, shape), *rest],
    )


@checks
@given(data=st.data())
def test_rms_norm(data: Any) -> None:
    shape = tuple(data.draw(st.lists(st.integers(2, 5), min_size=1, max_size=4)))
    count = data.draw(st.integers(1, len(shape)))
    normalized = shape[len(shape) - count :]
    weight = draw(data, normalized)
    eps = data.draw(st.sampled_from([None, 0.1]))
    hold(lambda m, x, w: m.nn.functional.rms_norm(x, normalized, w, eps), [draw(data, shape), weight])


@checks
@given(data=st.data())
def test_group_norm(data: Any) -> None:
    groups, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    inner = data.draw(spatial)
    batch = data.draw(st.integers(1, 5))
    if width * int(np.prod(inner)) == 1:
        width = 2  # one value a group has no gradient but what rounding leaves
    channels = groups * width + int(data.draw(st.integers(0, 9)) == 0)
    rest, weight, bias = affine(data, (channels,))
    if bias and not weight:  # an error of PyTorch's backward
        rest, bias = [], False
    hold(
        lambda m, x, *r: m.nn.functional.group_norm(x, groups, *unpack(r, weight, bias)),
        [draw(data, (batch, channels, *inner)), *rest],
    )


@checks
@given(data=st.data())
def test_instance_norm(data: Any) -> None:
    batch, channels = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    inner = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    rest, weight, bias = affine(data, (channels,))

    def run(m: Any, x: Any, *r: Any) -> Any:
        given_weight, given_bias = unpack(r, weight, bias)
        return m.nn.functional.instance_norm(x, weight=given_weight, bias=given_bias)

    hold(run, [draw(data, (batch, channels, *inner)), *rest])


@checks
@given(data=st.data())
def test_batch_norm(data: Any) -> None:
    batch, channels = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    inner = tuple(data.draw(spatial))
    rest, weight, bias = affine(data, (channels,))
    # One value gives an error, two a gradient that is what rounding leaves.
    batch = 3 if batch * int(np.prod(inner)) == 2 else batch
    x = draw(data, (batch, channels, *inner))
    if batch == 1:
        x = np.ascontiguousarray(x)  # in some orders PyTorch's gradient is that of another arrangement
    hold(
        lambda m, x, *r: m.nn.functional.batch_norm(x, None, None, *unpack(r, weight, bias), training=True),
        [x, *rest],
    )


@checks
@given(data=st.data())
def test_local_response_norm(data: Any) -> None:
    shape = (data.draw(st.integers(0, 3)), data.draw(st.integers(1, 9)), *data.draw(spatial))
    size = data.draw(st.integers(1, 11))
    beta, k = data.draw(st.sampled_from([0.75, 0.5, 1.0, 0.6])), data.draw(st.sampled_from([1.0, 2.0]))
    x = draw(data, shape)
    if len(shape) == 5:
        x = np.ascontiguousarray(x)  # PyTorch's own view of the squares fails in other orders
    hold(lambda m, a: m.nn.functional.local_response_norm(a, size, 0.5, beta, k), [x])


@checks
@given(data=st.data())
def test_normalize(data: Any) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    dim = data.draw(st.integers(-len(shape), len(shape)))
    p = data.draw(st.sampled_from([1.0, 2.0, 3.0, float("inf")]))
    # Longer than one element: along one, the gradient is what rounding leaves of 0.
    if dim < len(shape) and shape[dim] == 1:
        shape = tuple(size + 1 for size in shape)
    hold(lambda m, x: m.nn.functional.normalize(x, p, dim), [draw(data, shape)])


@checks
@given(data=st.data())
def test_embedding(data: Any) -> None:
    rows, columns = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    shape = tuple(data.draw(st.lists(sizes, max_size=3)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    index = np.asarray(rng.integers(0, rows, shape))
    padding = data.draw(st.one_of(st.none(), st.integers(-rows, rows - 1)))
    frequency = data.draw(st.booleans())
    hold(
        lambda m, i, w: m.nn.functional.embedding(i, w, padding, scale_grad_by_freq=frequency),
        [index, draw(data, (rows, columns))],
    )
