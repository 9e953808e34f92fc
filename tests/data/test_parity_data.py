"""Data tools beside ``torch.utils.data``: the same batches where the order is given, the same refusals."""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.testing.parity import Case, attempt, case, check_case

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

Point = namedtuple("Point", "x y")


def rows(m: Any, count: int = 10) -> Any:
    """A TensorDataset of ``count`` samples."""
    return m.utils.data.TensorDataset(m.arange(count * 2, dtype=m.float32).reshape(count, 2), m.arange(count))


def numbers(m: Any, count: int = 10) -> Any:
    """A dataset of one's own."""

    class Numbers(m.utils.data.Dataset):
        def __getitem__(self, index: int) -> int:
            if not 0 <= index < count:
                raise IndexError(index)
            return index * 10

        def __len__(self) -> int:
            return count

    return Numbers()


def stream(m: Any, count: int = 10, sharded: bool = True, sized: bool = False) -> Any:
    """A stream, each of whose workers gives every n-th sample."""

    class Stream(m.utils.data.IterableDataset):
        def __iter__(self) -> Any:
            info = m.utils.data.get_worker_info()
            first, step = (0, 1) if info is None or not sharded else (info.id, info.num_workers)
            return iter(range(first, count, step))

    class SizedStream(Stream):
        def __len__(self) -> int:
            return count

    return SizedStream() if sized else Stream()


def batches(m: Any, dataset: Any, *args: Any, **options: Any) -> list[Any]:
    return list(m.utils.data.DataLoader(dataset, *args, **options))


def labels(taken: list[Any]) -> list[int]:
    return sorted(itertools.chain.from_iterable(batch[1].tolist() for batch in taken))


class Text:
    """A callable that scripts have for a collate_fn."""

    def __call__(self, samples: list[Any]) -> str:
        return "-".join(str(sample) for sample in samples)


def stacked(m: Any, **options: Any) -> list[Any]:
    """Samples of one's own type, put together by hand."""
    return batches(m, [m.ones(n + 1) for n in range(4)], 2, collate_fn=lambda s: [len(t) for t in s], **options)


DATASETS = [
    case("TensorDataset", lambda m: (len(rows(m)), rows(m)[3], rows(m)[-1], rows(m)[2:4])),
    case("TensorDataset lengths", lambda m: len(m.utils.data.TensorDataset(m.ones(2), m.ones(2), m.ones(2)))),
    case("TensorDataset list index", lambda m: rows(m)[[1, 2]]),
    case("Subset", lambda m: (len(m.utils.data.Subset(rows(m), [3, 1])), m.utils.data.Subset(rows(m), [3, 1])[0])),
    case("Subset of a Subset", lambda m: m.utils.data.Subset(m.utils.data.Subset(numbers(m), [5, 6, 7]), [2])[0]),
    case("Subset range", lambda m: [m.utils.data.Subset(numbers(m), range(2, 6))[i] for i in range(4)]),
    case("Subset list index", lambda m: m.utils.data.Subset(rows(m), [4, 5, 6])[[0, 2]]),
    case("Subset __getitems__", lambda m: m.utils.data.Subset(numbers(m), [4, 5, 6]).__getitems__([0, 2])),
    case("Subset beyond", lambda m: m.utils.data.Subset(numbers(m), [4])[1]),
    case("ConcatDataset", lambda m: [m.utils.data.ConcatDataset([numbers(m, 2), numbers(m, 3)])[i]
                                     for i in (*range(5), -1, -5)]),
    case("ConcatDataset sizes", lambda m: m.utils.data.ConcatDataset([numbers(m, 2), numbers(m, 3)]).cumulative_sizes),
    case("ConcatDataset too negative", lambda m: m.utils.data.ConcatDataset([numbers(m, 2)])[-3]),
    case("ConcatDataset beyond", lambda m: m.utils.data.ConcatDataset([numbers(m, 2), numbers(m, 2)])[4]),
    case("Dataset sum", lambda m: len(numbers(m, 2) + numbers(m, 3) + rows(m))),
    case("StackDataset", lambda m: (m.utils.data.StackDataset(numbers(m), rows(m))[2],
                                    len(m.utils.data.StackDataset(numbers(m))))),
    case("StackDataset names", lambda m: list(m.utils.data.StackDataset(a=numbers(m), b=numbers(m))[2].items())),
    case("StackDataset __getitems__", lambda m: m.utils.data.StackDataset(
        numbers(m), m.utils.data.Subset(numbers(m), range(10))).__getitems__([1, 3])),
    case("StackDataset batches", lambda m: batches(m, m.utils.data.StackDataset(numbers(m), rows(m)), 4)),
    case("StackDataset names batches", lambda m: [list(batch.items()) for batch in batches(
        m, m.utils.data.StackDataset(a=numbers(m), b=numbers(m)), 4)]),
    case("StackDataset of nothing", lambda m: m.utils.data.StackDataset()),
    case("StackDataset of both", lambda m: m.utils.data.StackDataset(numbers(m), a=numbers(m))),
    case("StackDataset lengths", lambda m: m.utils.data.StackDataset(numbers(m, 2), numbers(m, 3))),
    case("ChainDataset", lambda m: list(m.utils.data.ChainDataset([stream(m, 2), stream(m, 3)]))),
    case("ChainDataset len", lambda m: len(m.utils.data.ChainDataset([stream(m, 2, sized=True)] * 2))),
    case("IterableDataset sum", lambda m: list(stream(m, 2) + stream(m, 3))),
    case("random_split", lambda m: sorted(i for part in m.utils.data.random_split(numbers(m), [7, 3]) for i in part)),
    case("random_split sizes", lambda m: [
        len(part) for part in m.utils.data.random_split(numbers(m), [0.5, 0.3, 0.2])]),
    case("random_split left over", lambda m: [len(p) for p in m.utils.data.random_split(numbers(m, 11), [0.5, 0.5])]),
    case("random_split with generator", lambda m: [len(part) for part in m.utils.data.random_split(
        numbers(m), [8, 2], generator=m.Generator().manual_seed(42))]),
    case("random_split wrong sum", lambda m: m.utils.data.random_split(numbers(m), [7, 4])),
    case("random_split wrong fractions", lambda m: m.utils.data.random_split(numbers(m), [0.7, 0.4])),
    case("random_split negative", lambda m: m.utils.data.random_split(numbers(m), [11, -1])),
]  # fmt: skip


def order(sampler: Any) -> list[int]:
    return sorted(sampler)


SAMPLERS = [
    case("SequentialSampler", lambda m: (list(m.utils.data.SequentialSampler("abc")),
                                         len(m.utils.data.SequentialSampler("abc")))),
    case("RandomSampler", lambda m: (order(m.utils.data.RandomSampler(range(20))),
                                     len(m.utils.data.RandomSampler(range(20))))),
    case("RandomSampler more", lambda m: order(m.utils.data.RandomSampler(range(5), num_samples=15))),
    case("RandomSampler fewer", lambda m: len(set(m.utils.data.RandomSampler(range(9), num_samples=4)))),
    case("RandomSampler replacement", lambda m: len(list(m.utils.data.RandomSampler(
        range(5), replacement=True, num_samples=70)))),
    case("RandomSampler attributes", lambda m: (lambda s: (s.replacement, s.num_samples, s.data_source))(
        m.utils.data.RandomSampler("abc", True))),
    case("RandomSampler billions", lambda m: (
        len(m.utils.data.RandomSampler(range(3), True, num_samples=10**10)),
        len(list(itertools.islice(m.utils.data.RandomSampler(range(3), True, num_samples=10**10), 100))),
        len(list(itertools.islice(m.utils.data.RandomSampler(range(3), num_samples=10**10), 100))))),
    case("RandomSampler billions of batches", lambda m: next(iter(m.utils.data.DataLoader(
        rows(m), 4, sampler=m.utils.data.RandomSampler(rows(m), True, num_samples=10**10))))[0].dim()),
    case("RandomSampler generator", lambda m: order(m.utils.data.RandomSampler(
        range(6), generator=m.Generator().manual_seed(1)))),
    case("RandomSampler of nothing", lambda m: m.utils.data.RandomSampler([])),
    case("RandomSampler no samples", lambda m: m.utils.data.RandomSampler("abc", num_samples=0)),
    case("RandomSampler replacement number", lambda m: m.utils.data.RandomSampler("abc", replacement=1)),
    case("SubsetRandomSampler", lambda m: (order(m.utils.data.SubsetRandomSampler([7, 3, 5])),
                                           len(m.utils.data.SubsetRandomSampler([7, 3])))),
    case("SubsetRandomSampler empty", lambda m: list(m.utils.data.SubsetRandomSampler([]))),
    case("SubsetRandomSampler split", lambda m: sum(len(batch[0]) for batch in batches(
        m, rows(m), 3, sampler=m.utils.data.SubsetRandomSampler(list(range(8)))))),
    case("WeightedRandomSampler", lambda m: (len(list(m.utils.data.WeightedRandomSampler([0.5, 1, 0], 30))),
                                             set(m.utils.data.WeightedRandomSampler([0, 1.0, 0], 30)) == {1})),
    case("WeightedRandomSampler weights", lambda m: m.utils.data.WeightedRandomSampler([1, 2], 3).weights),
    case("WeightedRandomSampler of a tensor", lambda m: len(list(m.utils.data.WeightedRandomSampler(m.ones(4), 7)))),
    case("WeightedRandomSampler of doubles", lambda m: len(list(m.utils.data.WeightedRandomSampler(
        m.ones(4, dtype=m.float64), 2, replacement=False)))),
    case("WeightedRandomSampler of an array", lambda m: len(m.utils.data.WeightedRandomSampler(np.ones(4), 7))),
    case("WeightedRandomSampler distinct", lambda m: order(m.utils.data.WeightedRandomSampler([1, 2, 0, 3], 3, False))),
    case("WeightedRandomSampler too many", lambda m: list(m.utils.data.WeightedRandomSampler([1, 2, 0], 3, False))),
    case("WeightedRandomSampler negative", lambda m: list(m.utils.data.WeightedRandomSampler([1, -2], 3))),
    case("WeightedRandomSampler zeros", lambda m: list(m.utils.data.WeightedRandomSampler([0.0, 0.0], 3))),
    case("WeightedRandomSampler no samples", lambda m: m.utils.data.WeightedRandomSampler([1, 2], 0)),
    case("WeightedRandomSampler replacement", lambda m: m.utils.data.WeightedRandomSampler([1, 2], 2, 1)),
    case("WeightedRandomSampler matrix", lambda m: m.utils.data.WeightedRandomSampler([[1, 2], [3, 4]], 2)),
    *[
        case(f"BatchSampler {size} by {batch}, {drop}", lambda m, size=size, batch=batch, drop=drop: (
            list(m.utils.data.BatchSampler(m.utils.data.SequentialSampler(range(size)), batch, drop)),
            len(m.utils.data.BatchSampler(range(size), batch, drop))))
        for size, batch, drop in itertools.product([0, 1, 7, 8], [1, 3, 8, 9], [True, False])
    ],
    case("BatchSampler nothing", lambda m: m.utils.data.BatchSampler([1], 0, False)),
    case("BatchSampler drop number", lambda m: m.utils.data.BatchSampler([1], 1, 1)),
]  # fmt: skip


def collated(m: Any, *samples: Any) -> Any:
    """Put together; dicts as lists of pairs, other types by their names, which can be compared."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return [type(value).__name__, *((key, plain(item)) for key, item in value.items())]
        if isinstance(value, (tuple, list)):
            return [type(value).__name__, *map(plain, value)]
        return value

    return plain(m.utils.data.default_collate(list(samples)))


COLLATE = [
    case("default_collate floats", lambda m: collated(m, 1.0, 2.5)),
    case("default_collate integers", lambda m: collated(m, 1, 2)),
    case("default_collate bools", lambda m: collated(m, True, False)),
    case("default_collate strings", lambda m: collated(m, "a", "b")),
    case("default_collate bytes", lambda m: collated(m, b"a", b"b")),
    case("default_collate tensors", lambda m: collated(m, m.ones(2, 3), m.zeros(2, 3))),
    case("default_collate scalar tensors", lambda m: collated(m, m.tensor(1), m.tensor(2))),
    case("default_collate arrays", lambda m: collated(m, np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32))),
    case("default_collate NumPy scalars", lambda m: collated(m, np.float32(1), np.float32(2))),
    case("default_collate NumPy integers", lambda m: collated(m, np.int64(1), np.int64(2))),
    case("default_collate tuples", lambda m: collated(m, (m.ones(2), 1, "a"), (m.zeros(2), 2, "b"))),
    case("default_collate lists", lambda m: collated(m, [m.ones(2), 1], [m.zeros(2), 2])),
    case("default_collate namedtuples", lambda m: collated(m, Point(1, 2.0), Point(3, 4.0))),
    case("default_collate dicts", lambda m: collated(m, {"a": 1, "b": m.ones(2)}, {"a": 2, "b": m.zeros(2)})),
    case("default_collate ordered dicts", lambda m: collated(m, OrderedDict(b=1, a=2), OrderedDict(b=3, a=4))),
    case("default_collate nested", lambda m: collated(
        m, {"a": [1, (2.0, "x")], "b": {"c": m.ones(1)}}, {"a": [3, (4.0, "y")], "b": {"c": m.zeros(1)}})),
    case("default_collate boxes", lambda m: collated(m, [[1, 2], [3, 4]], [[5, 6], [7, 8]])),
    case("default_collate of None", lambda m: collated(m, None, None)),
    case("default_collate of objects", lambda m: collated(m, object(), object())),
    case("default_collate shapes", lambda m: collated(m, m.ones(2), m.ones(3))),
    case("default_collate lengths", lambda m: collated(m, [1, 2], [1])),
    case("default_collate string arrays", lambda m: collated(m, np.array(["a"]), np.array(["b"]))),
    case("default_convert array", lambda m: m.utils.data.default_convert(np.ones(3, np.float32))),
    case("default_convert number", lambda m: m.utils.data.default_convert(1.5)),
    case("default_convert string", lambda m: m.utils.data.default_convert("a")),
    case("default_convert nested", lambda m: m.utils.data.default_convert([np.ones(1), (np.zeros(2), 3)])),
    case("default_convert dict", lambda m: list(m.utils.data.default_convert({"a": np.ones(1)}).items())),
    case("default_convert namedtuple", lambda m: list(m.utils.data.default_convert(Point(np.ones(1), 2)))),
]  # fmt: skip


def attributes(m: Any, **options: Any) -> Any:
    loader = m.utils.data.DataLoader(rows(m), **options)
    return (
        loader.batch_size, loader.num_workers, loader.pin_memory, loader.drop_last, loader.timeout,
        loader.prefetch_factor, loader.persistent_workers, len(loader.dataset), len(loader),
        type(loader.sampler).__name__, type(loader.batch_sampler).__name__, loader.collate_fn.__name__,
    )  # fmt: skip


def changed(m: Any, name: str) -> None:
    setattr(m.utils.data.DataLoader(rows(m), 4), name, 3)


LOADERS = [
    *[
        case(f"DataLoader {options}", lambda m, options=options: batches(m, rows(m), **options))
        for options in (
            {}, {"batch_size": 3}, {"batch_size": 3, "drop_last": True}, {"batch_size": 10}, {"batch_size": 11},
            {"batch_size": 11, "drop_last": True}, {"batch_size": None}, {"batch_size": 4, "sampler": [3, 1, 2]},
            {"batch_size": None, "sampler": [[3, 1], [2]]}, {"batch_sampler": [[1, 2], [0]]}, {"shuffle": False},
            {"pin_memory": False, "batch_size": 5}, {"in_order": True},
        )
    ],
    case("DataLoader workers", lambda m: batches(m, rows(m), 3, num_workers=0)),
    case("DataLoader of a dataset of one's own", lambda m: batches(m, numbers(m), 4)),
    case("DataLoader of a list", lambda m: batches(m, [1.0, 2.0, 3.0], 2)),
    case("DataLoader of dicts", lambda m: [list(batch.items()) for batch in batches(
        m, [{"x": np.ones(2) * i, "y": i, "name": str(i)} for i in range(3)], 2)]),
    case("DataLoader of namedtuples", lambda m: [list(batch) for batch in batches(m, [Point(1, 2.0)] * 3, 2)]),
    case("DataLoader of a Subset", lambda m: batches(m, m.utils.data.Subset(rows(m), [5, 1, 3]), 2)),
    case("DataLoader of a ConcatDataset", lambda m: batches(m, rows(m, 2) + rows(m, 3), 2)),
    case("DataLoader collate_fn", lambda m: batches(m, numbers(m), 4, collate_fn=Text())),
    case("DataLoader collate_fn by hand", stacked),
    case("DataLoader collate_fn single", lambda m: batches(m, numbers(m), None, collate_fn=str)),
    case("DataLoader shuffled", lambda m: labels(batches(m, rows(m), 3, True))),
    case("DataLoader shuffled with generator", lambda m: labels(
        batches(m, rows(m), 3, True, generator=m.Generator().manual_seed(1)))),
    case("DataLoader attributes", lambda m: attributes(m)),
    case("DataLoader attributes shuffled", lambda m: attributes(m, batch_size=4, shuffle=True, drop_last=True)),
    case("DataLoader attributes single", lambda m: attributes(m, batch_size=None)),
    case("DataLoader attributes workers", lambda m: attributes(m, num_workers=2, prefetch_factor=3, timeout=5,
                                                               persistent_workers=True)),
    case("DataLoader attributes batch sampler", lambda m: (lambda loader: (loader.batch_size, loader.drop_last))(
        m.utils.data.DataLoader(rows(m), batch_sampler=[[1]]))),
    case("DataLoader change batch_size", lambda m: changed(m, "batch_size")),
    case("DataLoader change dataset", lambda m: changed(m, "dataset")),
    case("DataLoader change sampler", lambda m: changed(m, "sampler")),
    case("DataLoader two passes", lambda m: (lambda loader: (list(loader), list(loader)))(
        m.utils.data.DataLoader(rows(m), 4))),
    case("DataLoader next", lambda m: next(iter(m.utils.data.DataLoader(rows(m), 4)))),
    case("DataLoader enumerate", lambda m: [i for i, (x, y) in enumerate(m.utils.data.DataLoader(rows(m), 4))]),
    case("DataLoader len of the dataset", lambda m: len(m.utils.data.DataLoader(rows(m), 4).dataset)),
    case("DataLoader empty", lambda m: batches(m, [], 4)),
    case("DataLoader empty shuffled", lambda m: batches(m, [], 4, shuffle=True)),
    case("DataLoader a failing sample", lambda m: batches(m, rows(m), sampler=[11])),
    *[
        case(f"DataLoader refuses {options}", lambda m, options=options: m.utils.data.DataLoader(rows(m), **options))
        for options in (
            {"batch_size": 0}, {"batch_size": -1}, {"batch_size": 1.5}, {"num_workers": -1}, {"timeout": -1},
            {"prefetch_factor": 2}, {"persistent_workers": True}, {"sampler": [0], "shuffle": True},
            {"batch_sampler": [[0]], "shuffle": True}, {"batch_sampler": [[0]], "sampler": [0]},
            {"batch_sampler": [[0]], "batch_size": 2}, {"batch_sampler": [[0]], "drop_last": True},
            {"batch_size": None, "drop_last": True},
        )
    ],
]  # fmt: skip

STREAMS = [
    *[
        case(f"stream {options}", lambda m, options=options: batches(m, stream(m), **options))
        for options in (
            {}, {"batch_size": 3}, {"batch_size": 3, "drop_last": True}, {"batch_size": 10}, {"batch_size": 20},
            {"batch_size": 20, "drop_last": True}, {"batch_size": None}, {"shuffle": False}, {"collate_fn": list},
        )
    ],
    case("stream len", lambda m: [len(m.utils.data.DataLoader(stream(m, sized=True), size, drop_last=drop))
                                  for size, drop in ((3, False), (3, True), (5, False))]),
    case("stream len single", lambda m: len(m.utils.data.DataLoader(stream(m, sized=True), None))),
    case("stream no len", lambda m: len(m.utils.data.DataLoader(stream(m)))),
    case("stream shuffled", lambda m: m.utils.data.DataLoader(stream(m), shuffle=True)),
    case("stream sampler", lambda m: m.utils.data.DataLoader(stream(m), sampler=[1])),
    case("stream batch sampler", lambda m: m.utils.data.DataLoader(stream(m), batch_sampler=[[1]])),
    case("stream batch size", lambda m: m.utils.data.DataLoader(stream(m), batch_size=0)),
    case("stream chained", lambda m: batches(m, m.utils.data.ChainDataset([stream(m, 3), stream(m, 4)]), 4)),
    case("stream of arrays", lambda m: batches(m, m.utils.data.ChainDataset([stream(m, 3)]), None)),
    case("get_worker_info outside", lambda m: m.utils.data.get_worker_info()),
]  # fmt: skip

ALL = [*DATASETS, *SAMPLERS, *COLLATE, *LOADERS, *STREAMS]


@pytest.mark.parametrize("checked", ALL, ids=repr)
def test_parity(checked: Case) -> None:
    """Every case, in both libraries."""
    check_case(checked)


RAISING = {
    "Subset beyond", "ConcatDataset too negative", "ConcatDataset beyond", "StackDataset of nothing",
    "StackDataset of both", "StackDataset lengths", "random_split wrong sum", "random_split wrong fractions",
    "random_split negative", "RandomSampler of nothing", "RandomSampler no samples",
    "RandomSampler replacement number", "WeightedRandomSampler too many", "WeightedRandomSampler negative",
    "WeightedRandomSampler zeros", "WeightedRandomSampler no samples", "WeightedRandomSampler replacement",
    "WeightedRandomSampler matrix", "BatchSampler nothing", "BatchSampler drop number", "default_collate of None",
    "default_collate of objects", "default_collate shapes", "default_collate lengths",
    "default_collate string arrays", "DataLoader change batch_size", "DataLoader change dataset",
    "DataLoader change sampler", "DataLoader empty shuffled", "DataLoader a failing sample", "stream no len",
    "stream shuffled", "stream sampler", "stream batch sampler", "stream batch size",
}  # fmt: skip


def test_no_case_raises_by_accident() -> None:
    """A mistake in a case's line would raise in both libraries, and prove nothing."""
    found = {one.label for one in ALL if attempt(gn, one.run, []).error is not None}
    assert {label for label in found if not label.startswith("DataLoader refuses")} == RAISING
    assert {one.label for one in ALL if one.label.startswith("DataLoader refuses")} <= found


# Streams of PyTorch's worker processes cannot read a class made in a function: these are the module's.


class TorchStream(torch.utils.data.IterableDataset):  # type: ignore[misc]
    """The same stream for worker processes."""

    def __iter__(self) -> Any:
        info = torch.utils.data.get_worker_info()
        return iter(range(info.id, 11, info.num_workers))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("batch_size", "drop_last"), [(1, False), (2, False), (2, True), (3, False), (None, False)])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_streams_of_workers_come_in_pytorchs_order(batch_size: int | None, drop_last: bool, workers: int) -> None:
    """Batches of the workers in turn, those left out that have nothing more."""
    options: dict[str, Any] = {"batch_size": batch_size, "drop_last": drop_last, "num_workers": workers}
    theirs = [np.asarray(batch).tolist() for batch in torch.utils.data.DataLoader(TorchStream(), **options)]
    ours = [np.asarray(batch).tolist() for batch in gn.data.DataLoader(stream(gn, 11), **options)]
    assert ours == theirs
    counted = Counter(itertools.chain.from_iterable(ours)) if batch_size else Counter(ours)
    assert drop_last or counted == Counter(range(11))


def test_random_orders_have_the_right_chances() -> None:
    """Drawn counts lie within five deviations of what the weights say."""
    weights = np.array([1.0, 2.0, 0.0, 5.0])
    drawn = np.bincount(list(gn.data.WeightedRandomSampler(weights, 70_000)), minlength=4)  # more than one chunk
    chances = weights / weights.sum()
    assert (np.abs(drawn - 70_000 * chances) <= 5 * np.sqrt(70_000 * chances * (1 - chances))).all()
    sampler = gn.data.WeightedRandomSampler(weights, 1, replacement=False)
    first = np.bincount([next(iter(sampler)) for _ in range(4000)], minlength=4)
    assert (np.abs(first - 4000 * chances) <= 5 * np.sqrt(4000 * chances * (1 - chances))).all()


def test_new_samplers_are_functions_of_seed_and_epoch() -> None:
    """As RandomSampler: a resumed run need not replay."""
    for sampler in (
        gn.data.SubsetRandomSampler(list(range(30)), gn.Generator(3)),
        gn.data.WeightedRandomSampler(range(1, 30), 20, False, gn.Generator(3)),
        gn.data.RandomSampler(range(30), True, 40, gn.Generator(3)),
    ):
        first, second = list(sampler), list(sampler)
        assert first != second
        sampler.set_epoch(1)
        assert list(sampler) == second


def test_streams_resume_and_repeat() -> None:
    """A pass from the middle, and another pass with workers that stay."""
    for workers in (0, 2):
        loader = gn.data.DataLoader(stream(gn, 11), 2, num_workers=workers, persistent_workers=workers > 0)
        whole = [batch.tolist() for batch in loader]
        assert [batch.tolist() for batch in loader] == whole
        assert [batch.tolist() for batch in loader.iterate(0, start_batch=3)] == whole[3:]
        taken = iter(loader)
        next(taken)
        assert loader.state_dict()["batch"] == 1


class Numbered(gn.data.IterableDataset[int]):
    """A stream whose part the worker's init function sets, as PyTorch's documentation shows it."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end

    def __iter__(self) -> Any:
        return iter(range(self.start, self.end))


def split_by_worker(worker: int) -> None:
    info = gn.data.get_worker_info()
    assert info is not None
    assert info.id == worker
    dataset = info.dataset
    share = -(-(dataset.end - dataset.start) // info.num_workers)
    dataset.start = dataset.start + worker * share
    dataset.end = min(dataset.start + share, dataset.end)


def test_a_worker_has_its_own_stream() -> None:
    """What worker_init_fn writes to the dataset of one worker, the others and the caller do not see."""
    dataset = Numbered(3, 8)
    loader = gn.data.DataLoader(dataset, None, num_workers=2, worker_init_fn=split_by_worker)
    assert list(loader) == [3, 6, 4, 7, 5]
    assert (dataset.start, dataset.end) == (3, 8)


def test_a_stream_that_fails() -> None:
    """The error is raised where it belongs, and names the worker."""

    class Failing(gn.data.IterableDataset[int]):
        def __iter__(self) -> Any:
            yield 1
            raise ZeroDivisionError("no more")

    for workers in (0, 1):
        batches_of_it = iter(gn.data.DataLoader(Failing(), num_workers=workers))
        assert next(batches_of_it).tolist() == [1]
        with pytest.raises(ZeroDivisionError, match="no more"):
            next(batches_of_it)
        assert list(batches_of_it) == []


def test_the_names_scripts_import() -> None:
    """``utils.data`` and its modules are ``gpunet.data`` and its modules, not copies."""
    from gpunet.utils.data import DataLoader, Dataset
    from gpunet.utils.data.dataloader import default_collate
    from gpunet.utils.data.sampler import SubsetRandomSampler

    assert DataLoader is gn.data.DataLoader
    assert Dataset is gn.data.Dataset
    assert default_collate is gn.data.default_collate
    assert SubsetRandomSampler is gn.utils.data.SubsetRandomSampler
