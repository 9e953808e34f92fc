"""Which rows belong to which step of a batch of sequences: padded batches and packed ones, read in one way.

A padded batch has T steps of B rows each. A packed one (``nn.utils.rnn.PackedSequence``) holds sequences of unequal
length, the longest first, step by step: step t has ``batch_sizes[t]`` rows, those of the sequences longer than t, and
``batch_sizes`` never grows. The rows of step t are followed by those of step t + 1, so that both are (N, features).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

__all__ = ["Layout", "Step", "make_layout"]


class Step(NamedTuple):
    """One step of the recurrence.

    Attributes:
        rows: its rows of the input and of the output.
        size: how many sequences take part: the first ``size`` of the batch.
        before: how many of them come from the step before; the others start with their initial state. This differs from
            ``size`` in the backward direction alone, where short sequences start late.
    """

    rows: slice
    size: int
    before: int


class Layout(NamedTuple):
    """The rows of a batch of sequences.

    Attributes:
        batch_sizes: rows of each step, never growing.
        offsets: the first row of each step, and the number of all rows at the end.
        packed: whether sequences differ in length.
    """

    batch_sizes: tuple[int, ...]
    offsets: tuple[int, ...]
    packed: bool

    @property
    def steps(self) -> int:
        """Length of the longest sequence, T."""
        return len(self.batch_sizes)

    @property
    def batch(self) -> int:
        """Number of sequences, B."""
        return self.batch_sizes[0]

    @property
    def rows(self) -> int:
        """Number of all rows, N."""
        return self.offsets[-1]

    def walk(self, reverse: bool) -> Iterator[Step]:
        """The steps in the order of the recurrence: from the first on, or from the last back."""
        order = range(self.steps - 1, -1, -1) if reverse else range(self.steps)
        before = 0
        for step in order:
            size = self.batch_sizes[step]
            # Going forward all who take part were there before, except that all of them start at the first step.
            yield Step(slice(self.offsets[step], self.offsets[step + 1]), size, min(before, size))
            before = size


@lru_cache(maxsize=256)
def make_layout(steps: int, batch: int, batch_sizes: tuple[int, ...] | None) -> Layout:
    """The layout of a padded batch of ``steps`` x ``batch``, or of a packed one if ``batch_sizes`` is given."""
    sizes = (batch,) * steps if batch_sizes is None else batch_sizes
    offsets = [0]
    for size in sizes:
        offsets.append(offsets[-1] + size)
    return Layout(sizes, tuple(offsets), len(set(sizes)) > 1)
