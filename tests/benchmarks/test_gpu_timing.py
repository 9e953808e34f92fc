"""Medians, ratios and turns, on clocks that are made up."""

import itertools

import pytest

from benchmarks.gpu.timing import Measurement, Sample, Side, geometric_mean, measure, ratio


def measurement(*seconds):
    return Measurement(tuple(Sample(value) for value in seconds), 1)


def test_medians_and_quartiles():
    found = measurement(4.0, 1.0, 3.0, 2.0, 5.0)
    assert found.seconds == 3.0
    assert found.quartiles == (2.0, 4.0)
    assert measurement(7.0).quartiles == (7.0, 7.0)
    assert found.host_seconds is None


def test_the_ratio_is_taken_round_by_round():
    """Both sides slow down by four on the way: every neighbouring pair still says two."""
    ours, theirs = measurement(2.0, 4.0, 8.0), measurement(1.0, 2.0, 4.0)
    assert ratio(ours, theirs) == (2.0, 2.0, 2.0)
    assert ratio(measurement(1.0, 2.0, 3.0), measurement(1.0, 1.0, 1.0)).middle == 2.0


def test_geometric_mean():
    assert geometric_mean([2.0, 0.5]) == pytest.approx(1.0)
    assert geometric_mean([1.0, 10.0, 100.0]) == pytest.approx(10.0)
    for bad in ([], [1.0, 0.0], [-1.0]):
        with pytest.raises(ValueError, match="above 0"):
            geometric_mean(bad)


def test_sides_take_turns():
    order = []
    sides = {name: Side(lambda name=name: order.append(name)) for name in "AB"}

    def stopwatch(call, count):
        for _ in range(count):
            call()
        return Sample(1.0)

    found = measure(sides, stopwatch, rounds=3, round_seconds=2.0)
    turns = [(name, len(list(group))) for name, group in itertools.groupby(order)]
    # Each is warmed up and tried with three calls, then timed in turns of two.
    assert turns == [("A", 6), ("B", 6)] + [("A", 2), ("B", 2)] * 3
    assert {name: (side.calls, len(side.rounds)) for name, side in found.items()} == {"A": (2, 3), "B": (2, 3)}


def test_rounds_have_a_length():
    def calls(seconds):
        sides = {"A": Side(lambda: None)}
        return measure(sides, lambda call, count: Sample(seconds), 1, round_seconds=1.0)["A"].calls

    assert calls(10.0) == 1
    assert calls(0.1) == 10
    assert calls(1e-6) == 64


def test_what_a_first_call_takes_is_not_timed():
    done = []

    def stopwatch(call, count):
        assert done, "timed before it was warm"
        return Sample(1.0)

    measure({"A": Side(lambda: done.append(1))}, stopwatch, 1)
    assert len(done) == 3


def test_a_side_is_prepared_before_each_of_its_turns():
    state = {"precision": None}
    seen = []
    sides = {
        name: Side(
            lambda name=name: seen.append((name, state["precision"])), lambda name=name: state.update(precision=name)
        )
        for name in "AB"
    }
    measure(sides, lambda call, count: (call(), Sample(1.0))[1], rounds=2, round_seconds=0.0)
    assert len(seen) == 2 * (3 + 3)
    assert all(name == precision for name, precision in seen)


def test_waiting_for_the_host_is_told():
    covered = Measurement((Sample(1.0, 0.1), Sample(1.0, 0.3)), 2)
    assert covered.covered
    assert covered.host_seconds == pytest.approx(0.2)
    assert not Measurement((Sample(1.0, 0.1), Sample(1.0, 0.3, False)), 2).covered
