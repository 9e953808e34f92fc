"""How far one result is from another, by the one measure that all tests of kernels and operations use."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["agreement_bound", "assert_agreement", "relative_error"]


def relative_error(actual: Any, expected: Any) -> float:
    """max|actual − expected| / max|expected|, in float64; infinite where a NaN or infinity stands in only one of them.

    Args:
        actual: array to judge.
        expected: array of the same shape to judge it by.

    Raises:
        AssertionError: the shapes differ.
    """
    a, b = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert a.shape == b.shape, f"shape {a.shape} instead of {b.shape}"
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    difference = float(np.abs(a[finite] - b[finite]).max())
    largest = float(np.abs(b[finite]).max())
    if largest == 0.0:
        return 0.0 if difference == 0.0 else float("inf")
    return difference / largest


def agreement_bound(dtype: Any, terms: int = 1) -> float:
    """The error that may be expected of a result of unit-variance inputs.

    Args:
        dtype: what it was computed in: float32 or float64.
        terms: the number of products or values summed to one element.

    Raises:
        KeyError: another dtype: whoever computes in it states a bound.
    """
    bound = {"float32": 1e-5, "float64": 1e-10}[np.dtype(dtype).name]
    return bound * max(1.0, (terms / 4096) ** 0.5)


def assert_agreement(actual: Any, expected: Any, dtype: Any, terms: int = 1, label: str = "result") -> None:
    """Hold a result to ``agreement_bound``. A NaN that is not expected never passes.

    Raises:
        AssertionError: it is further off, or of another shape.
    """
    error, bound = relative_error(actual, expected), agreement_bound(dtype, terms)
    assert error <= bound, f"{label}: relative error {error:.3g}, allowed {bound:.3g}"
