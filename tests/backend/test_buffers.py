"""Buffers that are used again: never while somebody can see them, always once nobody can."""

from __future__ import annotations

import gc
import os
import random
import threading

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import gpunet as gn
from gpunet.backend import buffers
from gpunet.backend.memory import empty

SIZE = 1 << 20


@pytest.fixture(autouse=True)
def _nothing_idle() -> None:
    gc.collect()
    buffers.release()


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_a_freed_buffer_is_used_again() -> None:
    first = empty((SIZE,), np.uint8)
    where = address(first)
    del first
    assert buffers.kept_bytes() >= SIZE
    second = empty((SIZE // 4,), np.float32)
    assert address(second) == where
    assert buffers.kept_bytes() == 0


@pytest.mark.parametrize(
    "view",
    [
        lambda array: array[5:9],
        lambda array: array.reshape(2, -1).T[3:],
        lambda array: array.view(np.uint8)[::7],
        lambda array: as_strided(array, (3, 4), (8, 4)),
        memoryview,
        lambda array: np.from_dlpack(array),
        lambda array: gn.from_numpy(array)[3:5],
        lambda array: array[10:].base,
        lambda array: array.base[5:],
        lambda array: np.asarray(memoryview(array)[5:50]),
    ],
)
def test_what_can_be_seen_is_not_used_again(view) -> None:
    first = empty((SIZE,), np.float32)
    seen = view(first)
    where = address(first)
    del first
    second = empty((SIZE,), np.float32)
    assert address(second) != where
    del seen
    gc.collect()
    third = empty((SIZE,), np.float32)
    assert address(third) == where


@pytest.mark.parametrize("size", [1024, 65535, 65536, 65537, 1 << 17, 100_001, (1 << 20) + 1, 12_345_678])
def test_aligned_and_of_the_size_asked_for(size: int) -> None:
    for _ in range(3):
        array = empty((size,), np.uint8)
        assert address(array) % 64 == 0
        assert array.shape == (size,)
        assert array.flags.c_contiguous
        assert array.flags.writeable
        array[-1] = 1


def test_at_most_an_eighth_is_wasted() -> None:
    for size in (buffers.KEPT, 70_000, 1 << 20, (1 << 20) + 1, 3_000_001, (1 << 33) + 5):
        assert size <= buffers._rounded(size) <= size * 9 / 8 + 64


def test_contents_stay_over_many_random_lives() -> None:
    """Arrays of several sizes made, viewed and dropped at random by several threads keep what was written to them."""
    failures: list[str] = []

    def live(seed: int) -> None:
        rng = random.Random(seed)
        kept: list[tuple[np.ndarray, int]] = []
        for number in range(400):
            array = empty((rng.choice([20_000, 40_000, 40_100, 90_000]),), np.int32)
            array[...] = seed * 1000 + number
            kept.append((array[rng.randrange(100) :: 3] if rng.random() < 0.5 else array, seed * 1000 + number))
            del array
            while len(kept) > rng.randrange(1, 8):
                values, expected = kept.pop(rng.randrange(len(kept)))
                if not (values == expected).all():
                    failures.append(f"{expected} was overwritten")

    threads = [threading.Thread(target=live, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_what_lies_idle_is_bounded() -> None:
    """Each size once: beside the last no more is kept than a quarter of the most that was in use, and 64 MB."""
    for number in range(60):
        empty(((8 + number) << 20,), np.uint8)
        last = buffers._rounded((8 + number) << 20)
        assert buffers.kept_bytes() <= buffers._Total.most // 4 + (64 << 20) + last


def test_a_step_takes_nothing_from_the_system() -> None:
    """After the first steps of a training no buffer is asked for any more."""
    gn.manual_seed(0)
    model = gn.nn.Sequential(
        gn.nn.Conv2d(3, 16, 3, padding=1), gn.nn.BatchNorm2d(16), gn.nn.ReLU(), gn.nn.MaxPool2d(2), gn.nn.Flatten(),
        gn.nn.Linear(16 * 16 * 16, 10),
    )  # fmt: skip
    optimizer = gn.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, target = gn.randn(16, 3, 32, 32), gn.arange(16) % 10

    def step() -> None:
        optimizer.zero_grad()
        gn.nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()

    for _ in range(3):
        step()
    before = buffers._Total.asked
    for _ in range(5):
        step()
    assert buffers._Total.asked == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_after_a_fork() -> None:
    array = empty((SIZE,), np.uint8)
    array[...] = 7
    with buffers._lock:
        child = os.fork()
        if child == 0:
            other = empty((SIZE + 5000,), np.uint8)
            other[...] = 1
            os._exit(0 if (array == 7).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_sizes_that_no_machine_has() -> None:
    total = buffers._Total.bytes
    with pytest.raises(MemoryError):
        empty((1 << 50,), np.uint8)
    assert buffers._Total.bytes == total
