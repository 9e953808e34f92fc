"""What the zoo is counted with, on a net small enough to count by hand."""

from __future__ import annotations

import pytest

import gpunet as gn
from gpunet import nn

from .counting import Layer, Totals, count, fact, fact_input, rows, run


@pytest.fixture
def net():
    with gn.device("meta"):
        return nn.Sequential(
            nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6 * 5 * 5, 7)
        )


def test_a_net_counted_by_hand(net):
    conv, linear = 6 * 25 * 2 * 9, 150 * 7
    params = 6 * 2 * 9 + 6 + 12 + linear + 7
    assert count(net, (4, 5, 5)) == Totals(params, 6, 3, 9, conv + linear, 1, 1, 1)
    assert count(net, (4, 5, 5), training=True) == count(net, (4, 5, 5))
    assert run(net, (4, 5, 5)) == [
        Layer("", "Sequential", (7,), params, conv + linear),
        Layer("0", "Conv2d", (6, 5, 5), 114, conv),
        Layer("1", "BatchNorm2d", (6, 5, 5), 12, 0),
        Layer("2", "Flatten", (150,), 0, 0),
        Layer("3", "Linear", (7,), linear + 7, linear),
    ]


def test_the_facts_are_read():
    assert fact("resnet18").params == 11_689_512
    assert fact_input("cifar_resnet20_A") == (3, 32, 32)
    assert {len(rows(name)) > 5 for name in ("totals", "layers", "stages", "inception")} == {True}
