import numpy as np
import pytest

from gpunet.testing import agreement_bound, assert_agreement, relative_error


def test_relative_error():
    assert relative_error([1.0, 2.0], [1.0, 4.0]) == 0.5
    assert relative_error([], []) == 0.0
    assert relative_error([0.0], [0.0]) == 0.0
    assert relative_error([1e-30], [0.0]) == np.inf


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_passes_only_where_it_is_expected(odd):
    assert relative_error([odd, 1.0], [odd, 1.0]) == 0.0
    assert relative_error([odd, 1.0], [0.0, 1.0]) == np.inf
    assert relative_error([0.0, 1.0], [odd, 1.0]) == np.inf
    with pytest.raises(AssertionError, match="result: relative error inf"):
        assert_agreement([odd], [1.0], np.float64)


def test_shapes_must_agree():
    with pytest.raises(AssertionError, match=r"shape \(2,\) instead of \(1, 2\)"):
        relative_error([1.0, 2.0], [[1.0, 2.0]])


def test_bound():
    assert agreement_bound(np.float32) == agreement_bound(np.float32, 4096) == 1e-5
    assert agreement_bound("float64", 4 * 4096) == 2e-10
    with pytest.raises(KeyError):
        agreement_bound(np.float16)
    assert_agreement([1.0, 1.000009], [1.0, 1.0], np.float32)
    with pytest.raises(AssertionError, match="weights: relative error 2e-05, allowed 1e-05"):
        assert_agreement([1.0, 1.00002], [1.0, 1.0], np.float32, label="weights")
