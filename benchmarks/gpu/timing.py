"""Timing in turns, and what is made of the times: medians, spreads, ratios, geometric means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

__all__ = ["Measurement", "Ratio", "Sample", "Side", "Stopwatch", "geometric_mean", "measure", "ratio"]

WARMUP_CALLS = 3
# A round is long enough that an event's resolution (half a microsecond) does not matter.
ROUND_SECONDS = 4e-3
# More launches than this in one go and the queue to the GPU fills: the host would wait, and be timed.
MOST_CALLS = 64


class Sample(NamedTuple):
    """One round of one side.

    Attributes:
        seconds: a call takes on the device.
        host_seconds: a call takes to be asked for; None where the device is the host.
        covered: whether all calls of the round were asked for before the first of them began, so that ``seconds`` has
            no waiting for the host in it.
    """

    seconds: float
    host_seconds: float | None = None
    covered: bool = True


class Stopwatch(Protocol):
    """What times ``count`` calls of a function: a GPU's events, or the clock of a CPU."""

    def __call__(self, call: Callable[[], Any], count: int) -> Sample: ...


class Side(NamedTuple):
    """What is timed.

    Attributes:
        call: once.
        prepare: what has to be set before, and is not timed.
    """

    call: Callable[[], Any]
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Measurement:
    """A side's rounds.

    Attributes:
        rounds: in the order in which they were taken; rounds of the same number were neighbours.
        calls: in each round.
    """

    rounds: tuple[Sample, ...]
    calls: int

    @property
    def seconds(self) -> float:
        """Median over the rounds."""
        return statistics.median(sample.seconds for sample in self.rounds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper one."""
        low, _, high = _quartiles([sample.seconds for sample in self.rounds])
        return low, high

    @property
    def host_seconds(self) -> float | None:
        """Median over the rounds of the time to ask for a call."""
        times = [sample.host_seconds for sample in self.rounds if sample.host_seconds is not None]
        return statistics.median(times) if times else None

    @property
    def covered(self) -> bool:
        """Whether no round had waiting for the host in it."""
        return all(sample.covered for sample in self.rounds)


class Ratio(NamedTuple):
    """One side's time over another's, round by round: the median, and the quartiles around it."""

    middle: float
    low: float
    high: float


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratio(ours: Measurement, theirs: Measurement) -> Ratio:
    """Our time over theirs; neighbouring rounds are compared, so that a clock that drifts slows both."""
    pairs = zip(ours.rounds, theirs.rounds, strict=True)
    low, middle, high = _quartiles([a.seconds / b.seconds for a, b in pairs])
    return Ratio(middle, low, high)


def geometric_mean(values: Sequence[float]) -> float:
    """exp(mean(log v)): the mean of ratios in which 2 and 1/2 cancel.

    Raises:
        ValueError: there are none, or one is not above 0.
    """
    if not values or min(values) <= 0:
        raise ValueError(f"a geometric mean needs values above 0, got {list(values)}")
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def measure(
    sides: dict[str, Side], stopwatch: Stopwatch, rounds: int, round_seconds: float = ROUND_SECONDS
) -> dict[str, Measurement]:
    """Time the sides in turns, A B C A B C.

    Args:
        sides: under the names they have in the result.
        stopwatch: what times them.
        rounds: how often each side's turn comes.
        round_seconds: how long a round should be, within ``MOST_CALLS``.

    Returns:
        the sides' rounds, under the same names.
    """
    counts = {}
    for name, side in sides.items():
        side.prepare()
        # Not by the stopwatch: what is compiled and chosen in a first call takes the host its time.
        for _ in range(WARMUP_CALLS):
            side.call()
        once = max(stopwatch(side.call, WARMUP_CALLS).seconds, 1e-9)
        counts[name] = max(1, min(math.ceil(round_seconds / once), MOST_CALLS))
    taken: dict[str, list[Sample]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            side.prepare()
            taken[name].append(stopwatch(side.call, counts[name]))
    return {name: Measurement(tuple(samples), counts[name]) for name, samples in taken.items()}
