"""Random numbers per sample: a function of (seed, epoch, sample index), whoever loads the sample and when.

A ``DataLoader`` opens a *pass* (seed, epoch) around everything it fetches, on the thread that fetches. Within
it a random transform that asks for numbers gets those of the sample being made; so two runs of one seed
augment alike, whatever the number of workers, and a resumed run goes on where the first one stopped. Outside
of a loader the numbers come from the default "data" generator, one draw after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from gpunet.backend.random import default_generator, keyed_generator

__all__ = ["SERIES", "SHUFFLE", "loading", "sample", "uniforms", "uniforms_of"]

# Streams of the seed, apart from each other.
SHUFFLE = 1
# What a transform of one of our image data sets draws; keyed on the index within that data set.
AUGMENT = 2
# What any other code draws while the loader fetches a sample; keyed on the index that the loader asked for.
AUGMENT_OUTER = 3
# The noise of generated series; keyed on the kind of series.
SERIES = 4


class _Pass(threading.local):
    seed: int | None = None
    epoch: int = 0
    generator: np.random.Generator | None = None


_current = _Pass()


@contextmanager
def loading(seed: int, epoch: int) -> Iterator[None]:
    """Within the block, on this thread, random transforms draw what belongs to (seed, epoch)."""
    before = _current.seed, _current.epoch, _current.generator
    _current.seed, _current.epoch, _current.generator = seed, epoch, None
    try:
        yield
    finally:
        _current.seed, _current.epoch, _current.generator = before


@contextmanager
def sample(index: int, outer: bool = False) -> Iterator[None]:
    """Within the block, random transforms draw the numbers of sample ``index`` of the current pass.

    Without a pass, nothing changes.
    """
    if _current.seed is None:
        yield
        return
    before = _current.generator
    stream = AUGMENT_OUTER if outer else AUGMENT
    _current.generator = keyed_generator(_current.seed, stream, _current.epoch, index)
    try:
        yield
    finally:
        _current.generator = before


def uniforms(count: int) -> np.ndarray:
    """The next ``count`` numbers in [0, 1) of the sample being made."""
    generator = _current.generator
    if generator is None:
        generator = default_generator("data").numpy()
    return generator.random(count)


def uniforms_of(indices: Sequence[int], count: int) -> np.ndarray:
    """The first ``count`` numbers of many samples: row i is what ``uniforms`` gives in ``sample(indices[i])``.

    Returns:
        float64 array (len(indices), count).
    """
    if count == 0:
        return np.empty((len(indices), 0))
    if _current.seed is None:
        return default_generator("data").numpy().random((len(indices), count))
    values = np.empty((len(indices), count))
    # keyed_generator for each index, at a fifth of the time: one generator, whose counter has the index as third word.
    generator = keyed_generator(_current.seed, AUGMENT, _current.epoch, 0)
    state = generator.bit_generator.state
    for row, index in zip(values, indices, strict=True):
        state["state"]["counter"][2] = index
        generator.bit_generator.state = state
        generator.random(out=row)
    return values
