import itertools

import pytest

from gpunet.backend.random import Generator, default_generator, manual_seed
from gpunet.data import BatchSampler, RandomSampler, Sampler, SequentialSampler


def test_sequential():
    sampler = SequentialSampler("abc")
    assert list(sampler) == [0, 1, 2]
    assert len(sampler) == 3


def test_random_order_is_a_function_of_seed_and_epoch():
    sampler = RandomSampler(range(50))
    epochs = [list(sampler) for _ in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    sampler.set_epoch(1)
    assert [list(sampler), list(sampler)] == epochs[1:]
    manual_seed(1)
    sampler.set_epoch(1)
    assert list(sampler) != epochs[1]
    manual_seed(0)
    sampler.set_epoch(1)
    assert list(sampler) == epochs[1]


def test_random_order_does_not_depend_on_other_draws():
    expected = list(RandomSampler(range(50)))
    default_generator("data").numpy().random(7)
    assert list(RandomSampler(range(50))) == expected


def test_own_generator():
    generator = Generator(5)
    expected = list(RandomSampler(range(50), generator=generator))
    manual_seed(3)
    assert list(RandomSampler(range(50), generator=generator)) == expected
    assert list(RandomSampler(range(50), generator=Generator(6))) != expected


def test_passes_may_overlap():
    sampler = RandomSampler(range(20))
    alone = [list(sampler), list(sampler)]
    sampler.set_epoch(0)
    mixed = list(zip(iter(sampler), iter(sampler), strict=True))
    assert [list(order) for order in zip(*mixed, strict=True)] == alone


def test_more_samples_than_there_are():
    order = list(RandomSampler(range(4), num_samples=10))
    assert [sorted(order[:4]), sorted(order[4:8])] == [[0, 1, 2, 3]] * 2
    assert len(order) == len(RandomSampler(range(4), num_samples=10)) == 10


def test_replacement():
    order = list(RandomSampler(range(3), replacement=True, num_samples=2000))
    counts = [order.count(index) for index in range(3)]
    # Each is binomial with mean 667 and deviation 21.
    assert all(abs(count - 667) < 105 for count in counts)


@pytest.mark.parametrize("drop_last, sizes", [(False, [3, 3, 3, 1]), (True, [3, 3, 3])])
def test_batches(drop_last, sizes):
    sampler = BatchSampler(SequentialSampler(range(10)), 3, drop_last)
    assert [len(batch) for batch in sampler] == sizes
    assert len(sampler) == len(sizes)
    assert list(itertools.chain(*sampler)) == list(range(sum(sizes)))


def test_batches_pass_the_epoch_on():
    sampler = RandomSampler(range(20))
    batches = BatchSampler(sampler, 6, False)
    batches.set_epoch(4)
    expected = list(itertools.chain(*batches))
    sampler.set_epoch(4)
    assert list(sampler) == expected
    BatchSampler([1, 2], 1, False).set_epoch(3)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: RandomSampler([]), ValueError, "num_samples: must be a positive integer, got 0"),
        (lambda: RandomSampler("ab", num_samples=0), ValueError, "num_samples: must be a positive integer, got 0"),
        (lambda: RandomSampler("ab", num_samples=1.5), ValueError, "num_samples: must be a positive integer"),
        (lambda: RandomSampler("ab", replacement=1), TypeError, "replacement: expected a bool, got 1"),
        (lambda: RandomSampler("ab", generator=3), TypeError, "generator: expected a gpunet.Generator or None"),
        (lambda: RandomSampler("ab").set_epoch(-1), ValueError, "epoch: must not be negative, got -1"),
        (lambda: RandomSampler("ab").set_epoch(1.0), TypeError, "epoch: expected an integer, got float"),
        (lambda: BatchSampler([1], 0, False), ValueError, "batch_size: must be a positive integer, got 0"),
        (lambda: BatchSampler([1], True, False), ValueError, "batch_size: must be a positive integer, got True"),
        (lambda: BatchSampler([1], 1, 1), ValueError, "drop_last: expected a bool, got 1"),
        (lambda: len(BatchSampler(iter([1]), 1, False)), TypeError, "sampler: needs a length"),
        (lambda: iter(Sampler()), NotImplementedError, "Sampler must define __iter__"),
    ],
)
def test_wrong_arguments(make, error, text):
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parity
@pytest.mark.parametrize("size, batch_size, drop_last", list(itertools.product([1, 7, 8], [1, 3, 8, 9], [True, False])))
def test_batches_are_pytorchs(size, batch_size, drop_last):
    data = pytest.importorskip("torch.utils.data")
    theirs = data.BatchSampler(data.SequentialSampler(range(size)), batch_size, drop_last)
    ours = BatchSampler(SequentialSampler(range(size)), batch_size, drop_last)
    assert list(ours) == list(theirs)
    assert len(ours) == len(theirs)
