from collections import OrderedDict, UserDict, namedtuple
from types import MappingProxyType

import numpy as np
import pytest

import gpunet.autograd as gn
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.data import default_collate, default_convert

Point = namedtuple("Point", "x y")


class Table(dict):
    """A dict with something besides its items."""

    unit = "m"


def plain(value):
    """Tensors (of either kind) as (dtype, values), the containers around them as they are."""
    if hasattr(value, "requires_grad"):
        return str(value.dtype).removeprefix("torch."), value.tolist()
    if isinstance(value, (str, bytes)):
        return value
    if hasattr(value, "items"):
        return type(value).__name__, {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [plain(item) for item in value]
    return value


CASES = {
    "floats": [1.0, 2.0],
    "integers": [1, 2],
    "bools": [True, False],
    "strings": ["a", "b"],
    "bytes": [b"a", b"b"],
    "arrays": [np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)],
    "int arrays": [np.arange(3), np.arange(3)],
    "0-d arrays": [np.array(1.5), np.array(2.5)],
    "numpy scalars": [np.float32(1), np.float32(2)],
    "numpy doubles": [np.float64(1), np.float64(2)],
    "numpy bools": [np.bool_(True), np.bool_(False)],
    "numpy strings": [np.str_("a"), np.str_("b")],
    "tuples": [(1, 2.0, "a"), (3, 4.0, "b")],
    "lists": [[1, 2.0], [3, 4.0]],
    "named": [Point(1, 2.0), Point(3, 4.0)],
    "dicts": [{"a": 1, "b": [1.0]}, {"a": 2, "b": [2.0]}],
    "ordered": [OrderedDict(a=1), OrderedDict(a=2)],
    "user dicts": [UserDict(a=1), UserDict(a=2)],
    "read-only dicts": [MappingProxyType({"a": 1}), MappingProxyType({"a": 2})],
    "dicts with more": [Table(a=1), Table(a=2)],
    "ranges": [range(2), range(2)],
    "nested": [({"x": np.zeros(2, np.float32)}, (1, "k")), ({"x": np.ones(2, np.float32)}, (2, "l"))],
    "empty arrays": [np.zeros((0, 3)), np.zeros((0, 3))],
    "one": [np.zeros(1)],
}


@pytest.mark.parity
@pytest.mark.parametrize("name", CASES)
def test_batches_are_pytorchs(name):
    data = pytest.importorskip("torch.utils.data")
    assert plain(default_collate(CASES[name])) == plain(data.default_collate(CASES[name]))


@pytest.mark.parity
@pytest.mark.parametrize("name", CASES)
def test_single_samples_are_pytorchs(name):
    data = pytest.importorskip("torch.utils.data")
    sample = CASES[name][0]
    assert plain(default_convert(sample)) == plain(data.default_convert(sample))


def test_tensors_are_stacked():
    batch = default_collate([gn.tensor([1.0, 2.0]), gn.tensor([3.0, 4.0])])
    assert batch.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert batch.dtype == np.float32


def test_what_a_dict_has_besides_is_kept():
    samples = [Table(a=1), Table(a=2)]
    samples[0].unit = "cm"
    batch = default_collate(samples)
    assert batch.unit == "cm"
    assert batch["a"].tolist() == [1, 2]
    assert samples[0]["a"] == 1


@pytest.mark.parametrize(
    "batch, error, text",
    [
        ([], ValueError, "batch: cannot put an empty list of samples together"),
        ([None, None], TypeError, "got NoneType"),
        ([np.zeros(2), np.zeros(3)], ShapeError, r"equal shapes, got \(2,\) at position 0 and \(3,\) at position 1"),
        ([gn.zeros(2), gn.zeros(3)], ShapeError, r"equal shapes, got \(2,\) at position 0 and \(3,\) at position 1"),
        ([np.array(["a"])] * 2, DTypeError, "cannot make a tensor of arrays of <U1"),
        ([np.array([None])] * 2, DTypeError, "cannot make a tensor of arrays of object"),
        ([(1, 2), (3,)], ValueError, r"equal lengths, got \[2, 1\]"),
        ([object()], TypeError, "got object"),
        ([{"a": 1}, {"b": 1}], KeyError, "a"),
    ],
)
def test_what_cannot_be_put_together(batch, error, text):
    with pytest.raises(error, match=text):
        default_collate(batch)
