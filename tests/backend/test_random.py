"""Random streams: NumPy's Philox bits under our keys, independent, and a state of a few integers."""

from __future__ import annotations

import json
import pickle
import threading
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet.backend.random import (
    BULK_SIZE,
    Generator,
    default_generator,
    fill_normal,
    fill_uniform,
    get_rng_state,
    keyed_generator,
    manual_seed,
    set_rng_state,
)
from gpunet.ops.dropout import keep_mask

_MASK = (1 << 64) - 1


def philox4x64(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Ten rounds of Philox4x64, from Salmon et al. 2011, in plain integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product0, product1 = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (
            (product1 >> 64) ^ c1 ^ k0, product1 & _MASK, (product0 >> 64) ^ c3 ^ k1, product0 & _MASK,
        )  # fmt: skip
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & _MASK, (k1 + 0xBB67AE8584CAA73B) & _MASK
    return c0, c1, c2, c3


def words(seed: int, stream: int, call: int, blocks: int, high: int = 0, top: int = 0) -> list[int]:
    """The words of one draw. NumPy increments the counter before each block: the first is block 1."""
    return [word for block in range(1, blocks + 1) for word in philox4x64((block, call, high, top), (seed, stream))]


def test_the_known_answer_of_the_paper() -> None:
    """Random123's kat_vectors: philox4x64 10, counter and key zero."""
    assert philox4x64((0, 0, 0, 0), (0, 0)) == (
        0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B,
    )  # fmt: skip


@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (1, 2), (2**63, 3), (-1, 5), (12345678901234567890, 1)])
def test_bits_are_philox(seed: int, stream: int) -> None:
    generator = Generator(seed, stream)
    for call in range(3):
        drawn = generator.numpy().bit_generator.random_raw(8).tolist()
        assert drawn == words(seed & _MASK, stream, call, 2)


def test_the_same_bits_as_numpys_philox() -> None:
    reference = np.random.Generator(
        np.random.Philox(key=np.array((7, 3), np.uint64), counter=np.array((0, 1, 0, 0), np.uint64))
    )
    generator = Generator(7, 3)
    generator.next_counter()
    np.testing.assert_array_equal(generator.numpy().standard_normal(10), reference.standard_normal(10))


def test_dropout_masks_are_the_words_below_the_threshold() -> None:
    numbers = np.array(words(5, 2, 9, 3), np.uint64)
    halves = np.stack([numbers & 0xFFFFFFFF, numbers >> 32], 1).reshape(-1)
    np.testing.assert_array_equal(keep_mask((3, 8), 0.3, (5, 2, 9)), (halves >= round(0.3 * 2**32)).reshape(3, 8))


def test_keyed_generators_depend_on_their_arguments_alone() -> None:
    first = keyed_generator(1, 7, 3, 42).bit_generator.random_raw(4).tolist()
    gn.randn(100)
    assert keyed_generator(1, 7, 3, 42).bit_generator.random_raw(4).tolist() == first
    assert first == words(1, (1 << 63) | 7, 3, 1, 42)
    others = [
        keyed_generator(*key).bit_generator.random_raw(1)[0]
        for key in ((1, 7, 3, 43), (1, 7, 4, 42), (1, 8, 3, 42), (2, 7, 3, 42), (1, 7))
    ]
    assert len({first[0], *others}) == 6
    with pytest.raises(ValueError, match="words: at most three, got 4"):
        keyed_generator(1, 2, 3, 4, 5, 6)


def test_streams_do_not_shift_one_another() -> None:
    def numbers(extra: int) -> list[Any]:
        manual_seed(3)
        gn.nn.Linear(4, 4)
        for _ in range(extra):
            gn.randn(5)
            gn.nn.Linear(3, 3)
        mask = F.dropout(gn.ones(64), 0.5).tolist()
        shuffled = default_generator("data").numpy().permutation(20).tolist()
        return [mask, shuffled]

    assert numbers(0) == numbers(4)


def test_streams_are_uncorrelated() -> None:
    streams = np.array([Generator(0, stream).numpy().standard_normal(20_000) for stream in range(4)])
    calls = Generator(0, 0)
    draws = np.array([calls.numpy().standard_normal(20_000) for _ in range(4)])
    seeds = np.array([Generator(seed, 0).numpy().standard_normal(20_000) for seed in range(4)])
    for numbers in (streams, draws, seeds):
        off_diagonal = np.corrcoef(numbers) - np.eye(4)
        assert np.abs(off_diagonal).max() < 5 / np.sqrt(20_000)


def test_state_round_trips_through_json() -> None:
    manual_seed(11)
    gn.randn(3)
    F.dropout(gn.ones(3), 0.5)
    state = json.loads(json.dumps(get_rng_state()))

    def draw() -> list[Any]:
        return [
            gn.randn(4).tolist(),
            F.dropout(gn.ones(9), 0.5).tolist(),
            gn.nn.Linear(2, 2).weight.tolist(),
            gn.randperm(6).tolist(),
        ]

    expected = draw()
    manual_seed(99)
    draw()
    set_rng_state(state)
    assert draw() == expected
    assert set(state) == {"default", "init", "dropout", "data"}
    assert all(isinstance(value, int) for stream in state.values() for value in stream.values())


def test_an_incomplete_state_is_refused() -> None:
    state = get_rng_state()
    del state["dropout"]
    with pytest.raises(ValueError, match="state: holds no stream dropout"):
        set_rng_state(state)


def test_generators_cross_process_borders() -> None:
    generator = Generator(3, 1)
    generator.numpy()
    twin = pickle.loads(pickle.dumps(generator))  # noqa: S301
    np.testing.assert_array_equal(twin.numpy().random(5), generator.numpy().random(5))
    restored = Generator().set_state(generator.get_state())
    assert repr(restored) == repr(generator) == "Generator(seed=3, stream=1, calls=2)"
    assert generator.manual_seed(4).get_state() == {"seed": 4, "stream": 1, "calls": 0}


def test_seeds() -> None:
    assert gn.manual_seed(5).initial_seed() == gn.initial_seed() == 5
    assert Generator(np.int64(3)).initial_seed() == 3
    for seed, error in (
        (1.5, TypeError),
        ("1", TypeError),
        (True, TypeError),
        (2**64, ValueError),
        (-(2**63) - 1, ValueError),
    ):
        with pytest.raises(error, match=r"^seed: "):
            Generator(seed)  # type: ignore[arg-type]


def test_threads_never_share_a_draw() -> None:
    generator = Generator(0)
    counters: list[int] = []

    def claim() -> None:
        counters.extend(generator.next_counter() for _ in range(500))

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counters) == list(range(2000))


def test_many_normals_are_box_and_mullers() -> None:
    """Box and Muller 1958, in float64, of the generator's own words."""
    count = BULK_SIZE + 7
    half = (count + 1) // 2
    words = keyed_generator(3, 4).bit_generator.random_raw(half).view(np.uint32)
    radius = np.sqrt(-2 * np.log(np.maximum(words[:half], 0.5) / 2**32))
    angle = 2 * np.pi * words[half:] / 2**32
    expected = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    found = np.full(count, np.nan, np.float32)
    fill_normal(keyed_generator(3, 4), found)
    error = np.abs(found - expected)
    assert error.mean() < 1e-6
    assert error.max() < 2e-4  # where the uniform number is next to 1, and so rounded, its logarithm is next to 0


def test_many_normals_are_normal() -> None:
    found = np.empty(1 << 20, np.float32)
    fill_normal(keyed_generator(1, 2), found)
    values = np.sort(found.astype(np.float64))
    distribution = np.array([NormalDist().cdf(value) for value in values[:: 1 << 6]])
    empirical = (np.arange(len(values)) + 0.5)[:: 1 << 6] / len(values)
    # Kolmogorov and Smirnov: 1.95 / sqrt(n) is exceeded once in a thousand times.
    assert np.abs(distribution - empirical).max() < 1.95 / np.sqrt(len(values))
    assert abs((values**4).mean() - 3) < 0.05
    assert 4.3 < values[-1] < 6.2
    halves = found.reshape(2, -1)
    assert abs(np.corrcoef(halves)[0, 1]) < 0.005  # cosines and sines of the same angles
    assert abs(np.corrcoef(halves**2)[0, 1]) < 0.005


def test_many_uniforms_are_the_words() -> None:
    count = BULK_SIZE + 1
    words = keyed_generator(3, 4).bit_generator.random_raw(count // 2 + 1).view(np.uint32)[:count]
    found = np.full((1, count), np.nan, np.float32)
    fill_uniform(keyed_generator(3, 4), found)
    np.testing.assert_array_equal(found[0], (words >> 8) / 2.0**24)
    assert found.max() < 1.0
    assert abs(found.mean() - 0.5) < 0.005


@pytest.mark.parametrize("dtype, size", [(np.float32, BULK_SIZE - 1), (np.float64, 2 * BULK_SIZE)])
def test_few_numbers_are_numpys(dtype: type, size: int) -> None:
    for fill, method in ((fill_normal, "standard_normal"), (fill_uniform, "random")):
        found = np.empty(size, dtype)
        fill(keyed_generator(5, 6), found)
        np.testing.assert_array_equal(found, getattr(keyed_generator(5, 6), method)(size, dtype=dtype))
