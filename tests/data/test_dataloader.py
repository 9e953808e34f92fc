import itertools
import json

import numpy as np
import pytest

import gpunet.autograd as gn
from gpunet.backend.errors import CheckpointError
from gpunet.backend.random import Generator, default_generator, manual_seed
from gpunet.data import BatchSampler, DataLoader, Dataset, Digits, RandomSampler, TensorDataset
from gpunet.data.transforms import Compose, RandomHorizontalFlip, RandomShift

WORKERS = [0, 1, 3]


class Numbers(Dataset):
    """Sample i is i."""

    def __init__(self, size=10):
        self.size = size

    def __getitem__(self, index):
        if not 0 <= index < self.size:
            raise IndexError(f"no sample {index}")
        return index

    def __len__(self):
        return self.size


class Noisy(Numbers):
    """Sample i with random numbers from a transform, as a dataset of pictures would have them."""

    flip = RandomHorizontalFlip()

    def __getitem__(self, index):
        image = np.arange(4.0)[None, None]
        return self.flip(image) + self.flip(image)


def values(batches):
    return [batch.tolist() for batch in batches]


@pytest.mark.parametrize("workers", WORKERS)
def test_in_order(workers):
    loader = DataLoader(Numbers(), batch_size=4, num_workers=workers)
    assert values(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(loader) == 3


@pytest.mark.parametrize("workers", WORKERS)
def test_without_the_last(workers):
    loader = DataLoader(Numbers(), batch_size=4, drop_last=True, num_workers=workers)
    assert values(loader) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(loader) == 2


@pytest.mark.parametrize("workers", WORKERS)
def test_single_samples(workers):
    loader = DataLoader(Numbers(3), batch_size=None, num_workers=workers)
    assert list(loader) == [0, 1, 2]
    assert len(loader) == 3


@pytest.mark.parametrize("workers", WORKERS)
def test_own_samplers(workers):
    assert values(DataLoader(Numbers(), 2, sampler=[5, 4, 3], num_workers=workers)) == [[5, 4], [3]]
    loader = DataLoader(Numbers(), batch_sampler=[[1], [2, 3]], num_workers=workers)
    assert values(loader) == [[1], [2, 3]]
    assert len(loader) == 2
    loader = DataLoader(Numbers(), batch_sampler=BatchSampler(RandomSampler(range(10)), 5, False), num_workers=workers)
    assert sorted(itertools.chain(*values(loader))) == list(range(10))


@pytest.mark.parametrize("workers", WORKERS)
def test_own_collate(workers):
    assert list(DataLoader(Numbers(3), 2, collate_fn=sum, num_workers=workers)) == [1, 2]


@pytest.mark.parametrize("workers", WORKERS)
def test_an_empty_dataset_has_no_batches(workers):
    assert list(DataLoader(Numbers(0), num_workers=workers)) == []


def test_the_order_is_a_function_of_seed_and_epoch():
    def passes(seed, workers=0, count=3):
        manual_seed(seed)
        loader = DataLoader(Numbers(40), 8, shuffle=True, num_workers=workers)
        return [values(loader) for _ in range(count)]

    first = passes(0)
    assert all(sorted(itertools.chain(*epoch)) == list(range(40)) for epoch in first)
    assert first[0] != first[1] != first[2]
    assert passes(0, workers=2) == passes(0, workers=5) == first
    assert passes(1) != first
    manual_seed(0)
    default_generator("data").numpy().random(3)
    assert values(DataLoader(Numbers(40), 8, shuffle=True)) == first[0]


def test_the_order_with_an_own_generator():
    def order(seed):
        return values(DataLoader(Numbers(40), 8, shuffle=True, generator=Generator(seed)))

    expected = order(7)
    manual_seed(1)
    assert order(7) == expected
    assert order(8) != expected


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("start", [0, 1, 3, 5])
def test_a_pass_from_the_middle(workers, start):
    whole = DataLoader(Numbers(40), 8, shuffle=True)
    epochs = [values(whole) for _ in range(3)]
    loader = DataLoader(Numbers(40), 8, shuffle=True, num_workers=workers)
    assert values(loader.iterate(2, start_batch=start)) == epochs[2][start:]
    # It does not change what comes next.
    assert values(loader) == epochs[0]
    loader.set_epoch(2)
    assert values(loader) == epochs[2]


def test_what_comes_before_is_not_loaded():
    loaded = []

    class Watched(Numbers):
        def __getitem__(self, index):
            loaded.append(index)
            return index

    list(DataLoader(Watched(10), 2).iterate(0, start_batch=4))
    assert loaded == [8, 9]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("taken", [0, 2, 5, 8])
def test_state_goes_on_where_it_stood(workers, taken):
    def make():
        return DataLoader(Numbers(40), 8, shuffle=True, num_workers=workers)

    loader = make()
    everything = [batch for _ in range(3) for batch in values(loader)]
    loader = make()
    before, batches = [], iter(loader)
    while len(before) < taken:
        try:
            before.append(next(batches).tolist())
        except StopIteration:
            batches = iter(loader)
    state = json.loads(json.dumps(loader.state_dict()))
    resumed = make()
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    rest = [batch for _ in range(3) for batch in values(resumed)]
    assert (before + rest)[: len(everything)] == everything


def test_state_at_the_end_of_a_pass_is_the_start_of_the_next():
    loader = DataLoader(Numbers(10), 5, shuffle=True)
    batches = iter(loader)
    assert loader.state_dict() == {"epoch": 0, "batch": 0, "seed": 0}
    next(batches), next(batches)
    assert loader.state_dict() == {"epoch": 1, "batch": 0, "seed": 0}
    assert list(batches) == []
    assert loader.state_dict() == {"epoch": 1, "batch": 0, "seed": 0}


@pytest.mark.parametrize(
    "state, text",
    [
        ({"epoch": 0, "batch": 0}, "not what DataLoader.state_dict returns: 'seed'"),
        ({"epoch": -1, "batch": 0, "seed": 0}, "epoch: must not be negative"),
        ({"epoch": 0, "batch": 0.5, "seed": 0}, "batch: expected an integer"),
        ({"epoch": 0, "batch": 11, "seed": 0}, "stands at batch 11, but a pass has 10"),
        ({"epoch": 0, "batch": 0, "seed": 4}, r"saved with seed 4, but this loader's is 0; call manual_seed\(4\)"),
        (None, "not what DataLoader.state_dict returns"),
    ],
)
def test_a_state_of_something_else(state, text):
    with pytest.raises(CheckpointError, match=text):
        DataLoader(Numbers(10)).load_state_dict(state)


@pytest.mark.parametrize("make", [lambda: Digits(False, Compose([RandomShift(1)])), Noisy], ids=["gathered", "single"])
def test_augmentation_is_a_function_of_seed_epoch_and_sample(make):
    def first(batch):
        return np.asarray(batch[0].numpy() if isinstance(batch, list) else batch.numpy())

    def epoch(number, workers=0, seed=0, collate=None, batch_size=60, start=0):
        loader = DataLoader(
            make(), batch_size, num_workers=workers, generator=Generator(seed), collate_fn=collate, shuffle=False
        )
        return np.concatenate([first(batch) for batch in loader.iterate(number, start)])

    expected = epoch(1)
    assert np.array_equal(epoch(1, workers=3), expected)
    assert np.array_equal(epoch(1, batch_size=7), expected)
    assert np.array_equal(epoch(1, batch_size=2, start=2), expected[4:])
    assert not np.array_equal(epoch(2), expected)
    assert not np.array_equal(epoch(1, seed=1), expected)
    # Through the general path too, where each sample draws for itself.
    from gpunet.data import default_collate

    assert np.array_equal(epoch(1, collate=lambda samples: default_collate(samples)), expected)


def test_augmentation_does_not_depend_on_the_order():
    dataset = Digits(False, RandomShift(1))
    straight = next(iter(DataLoader(dataset, 360)))[0].numpy()
    backwards = next(iter(DataLoader(dataset, 360, sampler=range(359, -1, -1))))[0].numpy()
    assert np.array_equal(straight, backwards[::-1])


def test_outside_of_a_loader_every_draw_is_new():
    dataset = Digits(False, RandomShift(1))
    images = [dataset[0][0].numpy() for _ in range(20)]
    assert any(not np.array_equal(image, images[0]) for image in images)
    manual_seed(0)
    assert all(np.array_equal(dataset[0][0].numpy(), image) for image in images)


@pytest.mark.parametrize("workers", WORKERS)
def test_a_loader_leaves_no_trace_on_the_thread(workers):
    dataset = Digits(False, RandomShift(1))
    next(iter(DataLoader(dataset, 4, num_workers=workers)))
    images = [dataset[0][0].numpy() for _ in range(20)]
    assert any(not np.array_equal(image, images[0]) for image in images)


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"batch_size": 0}, ValueError, "batch_size: must be a positive integer, got 0"),
        ({"batch_size": 2.0}, ValueError, "batch_size: must be a positive integer, got 2.0"),
        ({"num_workers": -1}, ValueError, "num_workers: must not be negative, got -1"),
        ({"num_workers": 1.0}, TypeError, "num_workers: expected an integer, got float"),
        ({"timeout": -1}, ValueError, "timeout: must be a number of seconds, zero or more, got -1"),
        ({"timeout": float("nan")}, ValueError, "timeout: must be a number of seconds"),
        ({"prefetch_factor": 2}, ValueError, "prefetch_factor: needs num_workers > 0"),
        ({"prefetch_factor": 0, "num_workers": 1}, ValueError, "prefetch_factor: must be at least 1, got 0"),
        ({"persistent_workers": True}, ValueError, "persistent_workers: needs num_workers > 0"),
        ({"multiprocessing_context": "fork"}, ValueError, "multiprocessing_context: must be None"),
        ({"collate_fn": 1}, TypeError, "collate_fn: expected a function, got int"),
        ({"worker_init_fn": 1}, TypeError, "worker_init_fn: expected a function, got int"),
        ({"sampler": [0], "shuffle": True}, ValueError, "sampler: excludes shuffle=True"),
        ({"batch_sampler": [[0]], "batch_size": 2}, ValueError, "batch_sampler: excludes batch_size, shuffle"),
        ({"batch_sampler": [[0]], "drop_last": True}, ValueError, "batch_sampler: excludes batch_size, shuffle"),
        ({"batch_size": None, "drop_last": True}, ValueError, "batch_size: None gives single samples"),
        ({"drop_last": 1}, ValueError, "drop_last: expected a bool"),
        ({"generator": np.random.default_rng(0)}, TypeError, "generator: expected a gpunet.Generator or None"),
    ],
)
def test_wrong_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        DataLoader(Numbers(), **arguments)


def test_wrong_datasets():
    with pytest.raises(TypeError, match="dataset: needs __len__ and __getitem__, got generator"):
        DataLoader(i for i in range(3))
    with pytest.raises(ValueError, match="num_samples: must be a positive integer, got 0"):
        DataLoader(Numbers(0), shuffle=True)


def test_wrong_start():
    loader = DataLoader(Numbers(10), 4)
    with pytest.raises(ValueError, match="start_batch: a pass has 3 batches, got 4"):
        loader.iterate(0, start_batch=4)
    with pytest.raises(ValueError, match="epoch: must not be negative"):
        loader.iterate(-1)


@pytest.mark.parametrize("workers", WORKERS)
def test_a_sampler_without_length(workers):
    loader = DataLoader(Numbers(), 2, sampler=(i for i in (1, 2, 3)), num_workers=workers)
    with pytest.raises(TypeError, match="sampler: needs a length, which generator does not have"):
        len(loader)
    assert values(loader) == [[1, 2], [3]]
    assert loader.state_dict()["epoch"] == 1


def test_a_sampler_may_give_what_the_dataset_takes():
    class Named(Dataset):
        def __getitem__(self, name):
            return len(name)

        def __len__(self):
            return 2

    assert values(DataLoader(Named(), 2, sampler=["a", "bcd"])) == [[1, 3]]


@pytest.mark.parity
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"batch_size": 3},
        {"batch_size": 3, "drop_last": True},
        {"batch_size": 10},
        {"batch_size": 11, "drop_last": True},
        {"batch_size": None},
        {"batch_size": 4, "sampler": [3, 1, 2]},
        {"batch_sampler": [[1, 2], [0]]},
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_pytorchs(arguments, workers):
    torch = pytest.importorskip("torch")
    array = np.random.default_rng(0).random((10, 2), np.float32)
    labels = np.arange(10)
    data = torch.utils.data
    theirs = data.DataLoader(data.TensorDataset(torch.from_numpy(array), torch.from_numpy(labels)), **arguments)
    ours = DataLoader(TensorDataset(gn.from_numpy(array), gn.from_numpy(labels)), num_workers=workers, **arguments)
    assert len(ours) == len(theirs)
    for our_batch, their_batch in zip(ours, theirs, strict=True):
        assert isinstance(our_batch, type(their_batch))
        for our_part, their_part in zip(our_batch, their_batch, strict=True):
            assert our_part.tolist() == their_part.tolist()
            assert str(our_part.dtype) == str(their_part.dtype).removeprefix("torch.")


@pytest.mark.parity
@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"num_workers": -1},
        {"timeout": -1},
        {"prefetch_factor": 2},
        {"persistent_workers": True},
        {"sampler": [0], "shuffle": True},
        {"batch_sampler": [[0]], "shuffle": True},
        {"batch_sampler": [[0]], "sampler": [0]},
        {"batch_sampler": [[0]], "batch_size": 2},
        {"batch_size": None, "drop_last": True},
    ],
)
def test_what_pytorch_refuses(arguments):
    data = pytest.importorskip("torch.utils.data")
    for loader, dataset in ((data.DataLoader, range(3)), (DataLoader, Numbers(3))):
        with pytest.raises(ValueError):  # noqa: PT011  the texts are each one's own
            loader(dataset, **arguments)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_that_raises_stop_iteration_is_an_error_not_an_end(workers: int) -> None:
    class Stops(Dataset[int]):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> int:
            if index == 9:
                raise StopIteration
            return index

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        list(DataLoader(Stops(), batch_size=4, num_workers=workers))
