import json
from dataclasses import replace

import numpy as np
import pytest

from gpunet.backend.errors import ShapeError
from gpunet.data import DIGITS_INFO, DatasetInfo


def test_description_survives_json():
    restored = DatasetInfo.from_dict(json.loads(json.dumps(DIGITS_INFO.to_dict())))
    assert restored == DIGITS_INFO
    assert restored.num_classes == 10


def test_normalize_per_channel():
    info = DatasetInfo("x", ("a", "b"), (2, 1, 2), mean=(1.0, 2.0), std=(2.0, 4.0))
    images = np.array([[[[1.0, 3.0]], [[2.0, 10.0]]]])
    result = info.normalize(images)
    assert result.dtype == np.float32
    assert result.tolist() == [[[[0.0, 1.0]], [[0.0, 2.0]]]]


@pytest.mark.parametrize(
    "changes, error, text",
    [
        ({"classes": ()}, ValueError, "classes: expected one name per class"),
        ({"input_shape": (8, 8)}, ShapeError, "input_shape: expected (C, H, W)"),
        ({"input_shape": (1, 0, 8)}, ShapeError, "input_shape: expected (C, H, W)"),
        ({"mean": (0.0, 0.0)}, ShapeError, "mean: expected one number per channel (1), got 2"),
        ({"mean": (float("nan"),)}, ValueError, "mean: expected finite numbers"),
        ({"std": (0.0,)}, ValueError, "std: must be positive"),
        ({"value_range": (1.0, 0.0)}, ValueError, "value_range: expected (black, white)"),
        ({"polarity": "bright"}, ValueError, "polarity: expected one of light-on-dark, dark-on-light or None"),
        ({"ink_extent": 1.5}, ValueError, "ink_extent: must be in (0, 1]"),
    ],
)
def test_wrong_description(changes, error, text):
    with pytest.raises(error) as caught:
        replace(DIGITS_INFO, **changes)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda values: values.pop("mean"), "field 'mean' is missing"),
        (lambda values: values.update(colour=1), "unknown field 'colour'"),
        (lambda values: values.update(classes="0123456789"), "classes: expected a list"),
        (lambda values: values.update(name=3), "name: expected text"),
    ],
)
def test_wrong_stored_description(change, text):
    values = DIGITS_INFO.to_dict()
    change(values)
    with pytest.raises(ValueError, match=text):
        DatasetInfo.from_dict(values)


def test_stored_description_of_another_kind():
    with pytest.raises(ValueError, match="expected an object, got list"):
        DatasetInfo.from_dict([])
