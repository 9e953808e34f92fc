import numpy as np
import pytest

import gpunet.autograd as gn
from gpunet.backend.errors import ShapeError
from gpunet.backend.random import Generator
from gpunet.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset, random_split


class Squares(Dataset):
    def __init__(self, size=10):
        self.size = size

    def __getitem__(self, index):
        if not 0 <= index < self.size:
            raise IndexError(index)
        return index**2

    def __len__(self):
        return self.size


def pairs(size=10):
    features = np.arange(size * 3, dtype=np.float32).reshape(size, 3)
    return TensorDataset(gn.from_numpy(features), gn.from_numpy(np.arange(size)))


def test_tensor_dataset():
    dataset = pairs()
    features, label = dataset[2]
    assert len(dataset) == 10
    assert features.tolist() == [6.0, 7.0, 8.0]
    assert label.item() == 2


@pytest.mark.parametrize(
    "tensors, error, text",
    [
        ([], ShapeError, "expected at least one tensor"),
        ([np.zeros(3)], TypeError, "expected tensors, got ndarray at position 0"),
        ([gn.zeros(3), gn.zeros(4)], ShapeError, r"must have the same length, got \[3, 4\]"),
        ([gn.tensor(1.0)], ShapeError, "position 0 has no dimensions"),
    ],
)
def test_wrong_tensors(tensors, error, text):
    with pytest.raises(error, match=text):
        TensorDataset(*tensors)


def test_subset_and_concat():
    subset = Subset(Squares(), [3, 1, 4])
    assert [subset[i] for i in range(3)] == [9, 1, 16]
    assert subset.__getitems__([2, 0]) == [16, 9]
    joined = subset + Squares(2)
    assert isinstance(joined, ConcatDataset)
    assert [joined[i] for i in range(len(joined))] == [9, 1, 16, 0, 1]
    assert joined[-1] == 1
    for index in (5, -6):
        with pytest.raises(IndexError, match=f"index {index} is out of range for a dataset of 5 samples"):
            joined[index]
    with pytest.raises(ValueError, match="datasets: expected at least one"):
        ConcatDataset([])


def test_a_dataset_must_say_how():
    with pytest.raises(NotImplementedError, match="Dataset must define __getitem__"):
        Dataset()[0]


@pytest.mark.parametrize("lengths", [[7, 3], [0.7, 0.3], [10]])
def test_random_split_is_a_partition(lengths):
    parts = random_split(Squares(), lengths, generator=Generator(3))
    assert sorted(index for part in parts for index in part.indices) == list(range(10))
    again = random_split(Squares(), lengths, generator=Generator(3))
    assert [part.indices for part in parts] == [part.indices for part in again]


def test_random_split_depends_on_the_seed():
    first, second = (random_split(Squares(100), [50, 50], Generator(seed))[0].indices for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize(
    "lengths, error, text",
    [
        ([5, 4], ValueError, "lengths: must sum to the dataset's length 10"),
        ([11, -1], ValueError, "lengths: must not be negative, got -1 at index 1"),
        ([0.5, 0.4], ValueError, "lengths: fractions must sum to 1"),
        (["a"], TypeError, "lengths: expected numbers, got str"),
        ([float("nan"), 0.5], ValueError, "lengths: must not be negative, got nan"),
    ],
)
def test_random_split_lengths_that_do_not_fit(lengths, error, text):
    with pytest.raises(error, match=text):
        random_split(Squares(), lengths)


def test_an_empty_part_is_warned_of():
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        parts = random_split(Squares(2), [0.9, 0.1])
    assert [len(part) for part in parts] == [2, 0]


def test_no_length():
    with pytest.raises(TypeError, match="dataset: needs a length, which Dataset does not have"):
        random_split(Dataset(), [1, 2])


class Doubled(TensorDataset):
    def __getitem__(self, index):
        features, label = super().__getitem__(index)
        return features * 2, label


class Several(Squares):
    """Reads several samples at once."""

    def __getitems__(self, indices):
        return [-self[index] for index in indices]


class Single(Several):
    def __getitem__(self, index):
        return index


class TenMore(Subset):
    def __getitem__(self, index):
        return super().__getitem__(index) + 10


@pytest.mark.parametrize(
    "dataset, expected",
    [
        (Doubled(gn.ones(3, 1), gn.zeros(3)), [[[2.0]] * 3, [0.0] * 3]),
        (Subset(Doubled(gn.ones(3, 1), gn.zeros(3)), [0, 2]), [[[2.0]] * 2, [0.0] * 2]),
        (Several(3), [0, -1, -4]),
        (Subset(Several(3), [2, 1]), [-4, -1]),
        (Single(3), [0, 1, 2]),
        (Subset(Single(3), [2, 1]), [2, 1]),
        (TenMore(Several(3), [2, 1]), [14, 11]),
        (Subset(Subset(pairs(), [4, 5, 6]), [0, 2]), [[[12.0, 13.0, 14.0], [18.0, 19.0, 20.0]], [4, 6]]),
    ],
    ids=["tensors", "subset of them", "items", "subset", "item", "subset of it", "own subset", "subset of a subset"],
)
def test_the_fast_path_never_bypasses_an_override(dataset, expected):
    (batch,) = DataLoader(dataset, batch_size=10)
    found = [part.tolist() for part in batch] if isinstance(batch, list) else batch.tolist()
    assert found == expected


def test_tensor_dataset_gathers_what_would_be_collated():
    fast = list(DataLoader(pairs(), batch_size=4))
    slow = list(DataLoader(Subset(pairs(), range(10)), batch_size=4, collate_fn=lambda samples: samples))
    assert [len(batch[0]) for batch in fast] == [4, 4, 2]
    for (features, labels), samples in zip(fast, slow, strict=True):
        assert labels.dtype == np.int64
        assert features.tolist() == [sample[0].tolist() for sample in samples]
        assert labels.tolist() == [sample[1].item() for sample in samples]


@pytest.mark.parity
@pytest.mark.parametrize(
    "size, lengths",
    [(10, [3, 7]), (10, [0.5, 0.5]), (11, [0.5, 0.5]), (30, [0.3, 0.3, 0.4]), (31, [0.1] * 10), (7, [1.0]), (7, [1])],
)
def test_split_sizes_are_pytorchs(size, lengths):
    torch = pytest.importorskip("torch")
    theirs = torch.utils.data.random_split(range(size), lengths)
    ours = random_split(Squares(size), lengths)
    assert [len(part) for part in ours] == [len(part) for part in theirs]


@pytest.mark.parity
@pytest.mark.parametrize("lengths", [[3, 6], [0.5, 0.6], [0.3, 0.3], [1.5, -0.5]])
def test_splits_pytorch_refuses(lengths):
    torch = pytest.importorskip("torch")
    for split, data in ((torch.utils.data.random_split, range(10)), (random_split, Squares())):
        with pytest.raises(ValueError):  # noqa: PT011  the texts are each one's own
            split(data, lengths)
