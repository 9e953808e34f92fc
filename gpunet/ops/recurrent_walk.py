"""How a recurrent layer goes through its steps on the CPU: stretches of steps, slices of the batch, what a cell gets.

``recurrent_cpu`` does the going; ``rnn``, ``lstm`` and ``gru`` have the cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from gpunet.backend.threads import parallel_for, single_threaded_blas
from gpunet.ops.recurrent_layout import Layout

__all__ = ["Advance", "Cell", "Kept", "Retreat", "Stretch", "is_shared", "share", "slices_of", "stretches_of"]

_SLICE_ROWS = 16  # sequences of a slice; more where the weights are read from beyond the second-level cache
_WIDE_SLICE_ROWS = 32
_CACHED_WEIGHTS = 1 << 20
_WORTH_A_SLICE = 1 << 24  # multiply-adds of its step: with fewer, threads wait for the interpreter too often
_WORTH_A_THREAD = 1 << 22  # multiply-adds in all


class Cell(Protocol):
    """What an operation says about its cell.

    Attributes:
        gates: blocks of H rows of the weights.
        states: 1 (h), or 2 (h and c).
        buffers: how many (N, H) buffers backward needs: gates, and what else takes part in the products of backward.
        input_gates: for the first buffers, in order: which block of W_ih goes there, and its factor.
        hidden_gates: for each product with h, in order: which block of W_hh it is, and its factor.
        hidden_buffers: the buffers where backward leaves the gradients of the products with h.
        separate: the gate whose b_hh stays with its product with h, or None.
        in_output: whether the one gate is the output, so that there is no buffer.
    """

    gates: int
    states: int
    buffers: int
    input_gates: tuple[tuple[int, float], ...]
    hidden_gates: tuple[tuple[int, float], ...]
    hidden_buffers: slice
    separate: int | None
    in_output: bool

    def advance(self, walk: Advance, attributes: dict[str, Any]) -> tuple[Any, ...]:
        """Run the steps of a stretch; the states after it."""

    def retreat(self, walk: Retreat, attributes: dict[str, Any]) -> None:
        """Run the steps of a stretch backwards, in place."""


class Advance(NamedTuple):
    """A stretch of steps in which the same n sequences take part, in the order of the recurrence.

    Attributes:
        product: writes the products of h (n, H) with the recurrent weights to ``sums``.
        sums: (G, n, H).
        gates: (buffers, steps, n, H): the products with x, to be activated in place.
        y: (steps, n, H), where h goes.
        cells: (steps, n, H), where c goes, or None to keep no more than the last.
        states: (n, H) each. That of c is overwritten where ``cells`` is None.
        bias: (n, H), the bias that stays with its product, or None.
    """

    product: Callable[[Any], None]
    sums: Any
    gates: Any
    y: Any
    cells: Any
    states: tuple[Any, ...]
    bias: Any


class Retreat(NamedTuple):
    """A stretch of steps, in the opposite order.

    Attributes:
        product: writes the products of (G, n, H) gradients with the recurrent weights, gate by gate, to ``sums``.
        sums: (G, n, H).
        gates: (buffers, steps, n, H), activated; to be overwritten with gradients.
        y, y_before: (steps, n, H): h after and before each step.
        cells, cells_before: (steps, n, H), or None.
        grad_y: (steps, n, H).
        grad_states: (n, H) each, in place: of the states after the stretch, then of those before it.
    """

    product: Callable[[Any], None]
    sums: Any
    gates: Any
    y: Any
    y_before: Any
    cells: Any
    cells_before: Any
    grad_y: Any
    grad_states: tuple[Any, ...]


@dataclass
class Kept:
    """What a forward pass leaves for its backward pass, which uses up ``gates``.

    Attributes:
        gates: (buffers, N, H).
        cells: (N, H), or None.
        cells_before: (N, H), c before each step; None where it has to be put together.
        y: (N, H), in the type that states are carried in.
        y_before: (N, H), or None.
        is_used: whether a backward pass has overwritten the gates.
    """

    gates: Any
    cells: Any
    cells_before: Any
    y: Any
    y_before: Any
    is_used: bool = False

    def part_with_y(self) -> None:
        """Take a copy of ``y``, which is about to be written to."""
        self.y, self.y_before = self.y.copy(), None  # the two may be parts of one buffer


class Stretch(NamedTuple):
    """Steps one after another with the same number of rows.

    Attributes:
        row: the first row.
        steps: how many steps.
        size: rows of each.
    """

    row: int
    steps: int
    size: int

    def of(self, rows: Any, first: int, last: int, backwards: bool) -> Any:
        """(..., steps, n, features) of rows (..., N, features): sequences ``first`` to ``last``."""
        part = rows[..., self.row : self.row + self.steps * self.size, :]
        part = part.reshape(*rows.shape[:-2], self.steps, self.size, rows.shape[-1])
        return part[..., :: -1 if backwards else 1, first:last, :]

    def of_input(self, x: Any, first: int, last: int, backwards: bool) -> Any:
        """The same of x, which may be (T, B, I) in any order in memory."""
        if x.ndim == 2:
            return self.of(x, first, last, backwards)
        step = self.row // self.size
        return x[step : step + self.steps][:: -1 if backwards else 1, first:last]


@lru_cache(maxsize=256)
def stretches_of(layout: Layout) -> tuple[Stretch, ...]:
    """All steps, as few stretches as it takes."""
    found: list[Stretch] = []
    for step, size in enumerate(layout.batch_sizes):
        if found and found[-1].size == size:
            found[-1] = found[-1]._replace(steps=found[-1].steps + 1)
        else:
            found.append(Stretch(layout.offsets[step], 1, size))
    return tuple(found)


def slices_of(batch: int, hidden: int, gates: int) -> list[tuple[int, int]]:
    """How the batch is cut: by sizes alone, so that the results do not depend on the number of threads."""
    weights = gates * hidden * hidden
    rows = _SLICE_ROWS if weights <= _CACHED_WEIGHTS >> 2 else _WIDE_SLICE_ROWS
    count = max(1, min(-(-batch // rows), batch * weights // _WORTH_A_SLICE))
    return [(batch * i // count, batch * (i + 1) // count) for i in range(count)]


def is_shared(work: int) -> bool:
    """Whether so many multiply-adds are worth several threads."""
    return work >= _WORTH_A_THREAD


def share(count: int, body: Callable[[int], None], work: int) -> None:
    """Run a loop on threads where so many multiply-adds are worth it.

    One that is not shared out leaves the other threads free for loops within it.
    """
    if count > 1 and is_shared(work):
        parallel_for(count, body)
        return
    with single_threaded_blas():
        for index in range(count):
            body(index)
