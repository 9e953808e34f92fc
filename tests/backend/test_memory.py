"""Copies between arrays that lie in memory in different orders."""

from __future__ import annotations

import numpy as np
import pytest

from gpunet.backend.memory import assign


@pytest.mark.parametrize("shape", [(130, 40, 3, 5), (64, 1, 33, 33), (1, 300, 300, 1), (70_000,), (3, 0, 5), ()])
@pytest.mark.parametrize("seed", range(4))
def test_assign_is_assignment(shape: tuple[int, ...], seed: int) -> None:
    """In any order of the axes, with gaps, reversed, repeated and converted."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(shape)) for _ in range(2)]
    arrays = []
    for order in orders:
        lying = np.empty(tuple(shape[axis] for axis in order), np.float32)
        arrays.append(lying.transpose(np.argsort(order)))
    target, source = arrays
    source[...] = rng.random(shape)
    assign(target, source)
    np.testing.assert_array_equal(target, source)
    if shape and target.size:
        assign(target, source[::-1])
        np.testing.assert_array_equal(target, source[::-1])
        assign(target, np.broadcast_to(source[:1], shape))
        np.testing.assert_array_equal(target, np.broadcast_to(source[:1], shape))
        assign(target, source[:1])
        np.testing.assert_array_equal(target, np.broadcast_to(source[:1], shape))
    wide = target.astype(np.float64)
    assign(wide, source)
    np.testing.assert_array_equal(wide, source.astype(np.float64))


def test_overlapping_memory() -> None:
    """As in NumPy's own assignment, what is read is what was there before."""
    square = np.random.default_rng(0).random((300, 300))
    expected = square.T.copy()
    assign(square, square.T)
    np.testing.assert_array_equal(square, expected)
