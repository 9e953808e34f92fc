"""Bad inputs of datasets, samplers and loaders, and the one clear error each gives, the same on cpu and meta."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    random_split,
)
from gpunet.testing.bad_input import DEVICES, BadInput


class Stream(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(3))


CATALOGUE = [
    BadInput("TensorDataset of nothing", lambda z, on: TensorDataset(),
             gn.ShapeError, "TensorDataset: expected at least one tensor, got none"),
    BadInput("TensorDataset of an array", lambda z, on: TensorDataset(z(3), np.zeros(3)),
             TypeError, "TensorDataset: expected tensors, got ndarray at position 1 (gpunet.from_numpy makes a tensor "
                        "of an array)"),
    BadInput("TensorDataset lengths", lambda z, on: TensorDataset(z(3), z(4)),
             gn.ShapeError, "TensorDataset: all tensors must have the same length, got [3, 4]"),
    BadInput("TensorDataset rank", lambda z, on: TensorDataset(z()),
             gn.ShapeError, "TensorDataset: the tensor at position 0 has no dimensions to index"),
    BadInput("Dataset", lambda z, on: Dataset()[0], NotImplementedError, "Dataset must define __getitem__"),
    BadInput("IterableDataset", lambda z, on: iter(IterableDataset()),
             NotImplementedError, "IterableDataset must define __iter__"),
    BadInput("ConcatDataset of nothing", lambda z, on: ConcatDataset([]),
             ValueError, "datasets: expected at least one, got none"),
    BadInput("ConcatDataset of a stream", lambda z, on: ConcatDataset([Stream()]),
             TypeError, "datasets: an IterableDataset has no indices; ChainDataset joins those"),
    BadInput("ConcatDataset index", lambda z, on: ConcatDataset([TensorDataset(z(3))])[3],
             IndexError, "index 3 is out of range for a dataset of 3 samples"),
    BadInput("ChainDataset of tensors", lambda z, on: list(ChainDataset([TensorDataset(z(3))])),
             TypeError, "ChainDataset: takes IterableDatasets, got TensorDataset"),
    BadInput("ChainDataset without length", lambda z, on: len(ChainDataset([Stream()])),
             TypeError, "datasets: needs a length, which Stream does not have"),
    BadInput("StackDataset of nothing", lambda z, on: StackDataset(),
             ValueError, "StackDataset: takes datasets by position or by name, got none"),
    BadInput("StackDataset of both", lambda z, on: StackDataset(TensorDataset(z(3)), b=TensorDataset(z(3))),
             ValueError, "StackDataset: takes datasets by position or by name, got both"),
    BadInput("StackDataset lengths", lambda z, on: StackDataset(TensorDataset(z(3)), TensorDataset(z(4))),
             ValueError, "StackDataset: all datasets must have the same length, got [3, 4]"),
    BadInput("Subset index", lambda z, on: Subset(TensorDataset(z(3)), [0])[1], IndexError, "list index out of range"),
    BadInput("random_split sum", lambda z, on: random_split(TensorDataset(z(3)), [1, 1]),
             ValueError, "lengths: must sum to the dataset's length 3, got [1, 1], in sum 2"),
    BadInput("random_split fractions", lambda z, on: random_split(TensorDataset(z(3)), [0.5, 0.6]),
             ValueError, "lengths: fractions must sum to 1, got [0.5, 0.6], in sum 1.1"),
    BadInput("Sampler", lambda z, on: iter(Sampler()), NotImplementedError, "Sampler must define __iter__"),
    BadInput("RandomSampler samples", lambda z, on: RandomSampler("ab", num_samples=-1),
             ValueError, "num_samples: must be a positive integer, got -1"),
    BadInput("RandomSampler replacement", lambda z, on: RandomSampler("ab", replacement=1),
             TypeError, "replacement: expected a bool, got 1"),
    BadInput("RandomSampler generator", lambda z, on: RandomSampler("ab", generator=3),
             TypeError, "generator: expected a gpunet.Generator or None, got builtins.int (gpunet.Generator(seed) "
                        "makes one)"),
    BadInput("SubsetRandomSampler", lambda z, on: SubsetRandomSampler(iter([1])),
             TypeError, "indices: needs a length, which list_iterator does not have"),
    BadInput("WeightedRandomSampler samples", lambda z, on: WeightedRandomSampler([1], 0),
             ValueError, "num_samples: must be a positive integer, got 0"),
    BadInput("WeightedRandomSampler replacement", lambda z, on: WeightedRandomSampler([1], 1, "no"),
             ValueError, "replacement: expected a bool, got 'no'"),
    BadInput("WeightedRandomSampler rank", lambda z, on: WeightedRandomSampler(np.ones((2, 2)), 1),
             ValueError, "weights: must be a sequence of numbers, got shape (2, 2)"),
    BadInput("WeightedRandomSampler negative", lambda z, on: WeightedRandomSampler([1, -1], 1),
             ValueError, "weights: must be finite, not negative, and not all zero"),
    BadInput("WeightedRandomSampler zeros", lambda z, on: WeightedRandomSampler([0, 0], 1),
             ValueError, "weights: must be finite, not negative, and not all zero"),
    BadInput("WeightedRandomSampler NaN", lambda z, on: WeightedRandomSampler([1, float("nan")], 1),
             ValueError, "weights: must be finite, not negative, and not all zero"),
    BadInput("WeightedRandomSampler too many", lambda z, on: WeightedRandomSampler([1, 0, 2], 3, False),
             ValueError, "num_samples: 3 cannot be drawn without replacement from 2 weights above zero"),
    BadInput("BatchSampler size", lambda z, on: BatchSampler([1], 1.5, False),
             ValueError, "batch_size: must be a positive integer, got 1.5"),
    BadInput("BatchSampler drop_last", lambda z, on: BatchSampler([1], 1, None),
             ValueError, "drop_last: expected a bool, got None"),
    BadInput("default_collate shapes", lambda z, on: default_collate([z(2), z(3)]),
             gn.ShapeError, "batch: samples must have equal shapes, got (2,) at position 0 and (3,) at position 1"),
    BadInput("default_collate of nothing", lambda z, on: default_collate([]),
             ValueError, "batch: cannot put an empty list of samples together"),
    BadInput("default_collate strings", lambda z, on: default_collate([np.array(["a"])]),
             gn.DTypeError, "batch: cannot make a tensor of arrays of <U1"),
    BadInput("DataLoader batch size", lambda z, on: DataLoader(TensorDataset(z(3)), 0),
             ValueError, "batch_size: must be a positive integer, got 0"),
    BadInput("DataLoader change", lambda z, on: setattr(DataLoader(TensorDataset(z(3))), "batch_size", 3),
             ValueError, "batch_size: cannot be changed after the DataLoader was made"),
    BadInput("DataLoader shuffled stream", lambda z, on: DataLoader(Stream(), shuffle=True),
             ValueError, "shuffle: an IterableDataset has an order of its own, and excludes shuffle"),
    BadInput("DataLoader stream sampler", lambda z, on: DataLoader(Stream(), sampler=[0]),
             ValueError, "sampler: an IterableDataset has an order of its own, and excludes sampler"),
    BadInput("DataLoader stream batch sampler", lambda z, on: DataLoader(Stream(), batch_sampler=[[0]]),
             ValueError, "batch_sampler: an IterableDataset has an order of its own, and excludes batch_sampler"),
    BadInput("DataLoader stream batch size", lambda z, on: DataLoader(Stream(), batch_size=0),
             ValueError, "batch_size: must be a positive integer, got 0"),
    BadInput("DataLoader stream length", lambda z, on: len(DataLoader(Stream())),
             TypeError, "dataset: needs a length, which Stream does not have"),
]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
def test_bad_input(entry: BadInput, device: str) -> None:
    """The error, word for word, whatever the device."""
    entry.check(device)
