"""Accuracy and running means."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpunet.autograd import tensor
from gpunet.backend.errors import ShapeError
from gpunet.training import RunningMean, accuracy, correct_count


def test_accuracy_counts_the_largest_entries() -> None:
    logits = tensor(np.array([[1.0, 2.0, 0.0], [5.0, 1.0, 4.0], [0.0, 0.0, 1.0], [3.0, 1.0, 2.0]], np.float32))
    labels = tensor(np.array([1, 2, 2, 0]))
    assert correct_count(logits, labels).item() == 3
    assert accuracy(logits, labels) == 0.75


def test_counting_needs_no_gradient() -> None:
    logits = tensor(np.eye(3, dtype=np.float32), requires_grad=True)
    assert not correct_count(logits, tensor(np.arange(3))).requires_grad


def test_accuracy_of_nothing_is_not_a_number() -> None:
    assert math.isnan(accuracy(tensor(np.empty((0, 3), np.float32)), tensor(np.empty(0, np.int64))))


@pytest.mark.parametrize(("logits", "labels"), [((2, 3), (3,)), ((2,), (2,)), ((2, 3), (2, 1))])
def test_shapes_that_do_not_fit(logits: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"logits must be \(N, classes\) and labels \(N,\)"):
        accuracy(tensor(np.zeros(logits, np.float32)), tensor(np.zeros(labels, np.int64)))


def test_running_mean_weighs_by_count() -> None:
    mean = RunningMean()
    assert math.isnan(mean.mean)
    mean.add(6.0, 3)
    mean.add(10.0, 1)
    assert mean.mean == 4.0
    assert RunningMean(mean.total, mean.count).mean == 4.0
