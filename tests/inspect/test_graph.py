"""The graph as DOT: every operation and leaf once, the arrows of the equation, and what cannot be drawn."""

from __future__ import annotations

import re

import pytest

import gpunet as gn
from gpunet import nn
from gpunet.inspect import to_dot


def parts(text: str) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """Labels of the nodes, and the arrows as pairs of labels."""
    labels = dict(re.findall(r'^  (\w+) \[.*label="(.*)"\];$', text, re.MULTILINE))
    arrows = re.findall(r"^  (\w+) -> (\w+)(?: \[.*\])?;$", text, re.MULTILINE)
    return labels, {(labels[start], labels[end]) for start, end in arrows}


def test_the_graph_of_a_sum_times_z() -> None:
    """B59: f = (x + y) z as a graph."""
    x, y, z = (gn.tensor(value, requires_grad=True) for value in (-2.0, 5.0, -4.0))
    text = to_dot((x + y) * z, {"x": x, "y": y, "z": z})
    assert text.startswith("digraph backward {\n")
    assert text.endswith("}\n")
    labels, arrows = parts(text)
    assert sorted(labels.values()) == ["()", "add", "mul", r"x\n()", r"y\n()", r"z\n()"]
    assert arrows == {(r"x\n()", "add"), (r"y\n()", "add"), ("add", "mul"), (r"z\n()", "mul"), ("mul", "()")}


def test_a_model_has_its_parameters_names_and_shapes() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    text = to_dot(model(gn.ones(5, 3)), model.named_parameters())
    labels, arrows = parts(text)
    assert {r"0.weight\n(4, 3)", r"0.bias\n(4)", r"2.weight\n(2, 4)", "relu", "(5, 2)"} <= set(labels.values())
    assert list(labels.values()).count("linear") == 2
    assert (r"2.bias\n(2)", "linear") in arrows
    assert '[label="(5, 4)"]' in text


def test_what_is_used_twice_is_drawn_once() -> None:
    x = gn.ones(2, requires_grad=True)
    shared = x * 2
    labels, _ = parts(to_dot([shared + shared, shared.sum()]))
    assert sorted(labels.values()) == ["()", "(2)", "(2)", "add", "mul", "sum"]
    assert to_dot(shared + shared).count("->") == 4
    assert to_dot(x).count("->") == 1
    assert to_dot(shared + 1) == to_dot(shared + 1)


def test_deep_graphs_are_drawn() -> None:
    x = gn.ones(1, requires_grad=True)
    y = x
    for _ in range(3000):
        y = y + 1
    assert to_dot(y).count('"add"') == 3000


def test_names_are_quoted() -> None:
    x = gn.ones(1, requires_grad=True)
    assert r'label="a \"b\" \\\n(1)"' in to_dot(x * 2, {'a "b" \\': x})


def test_what_cannot_be_drawn() -> None:
    x = gn.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match="to_dot: tensor must be a Tensor or several, got int"):
        to_dot([1])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="to_dot: tensor must require grad"):
        to_dot(x.detach() * 2)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(ValueError, match="to_dot: the graph of 'sum' has been used and freed"):
        to_dot(y)
