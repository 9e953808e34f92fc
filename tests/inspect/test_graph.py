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


def test_values_and_gradients() -> None:
    """B59: f = (x + y) z at -2, 5, -4 is -12, and its gradient -4, -4, 3."""
    x, y, z = (gn.tensor(value, requires_grad=True) for value in (-2.0, 5.0, -4.0))
    f = (x + y) * z
    labels, _ = parts(to_dot(f, {"x": x, "y": y, "z": z}, values=True, grads=True))
    assert set(labels.values()) == {
        r"x\n()\nvalue -2\ngrad -4",
        r"y\n()\nvalue 5\ngrad -4",
        r"z\n()\nvalue -4\ngrad 3",
        r"add\nvalue 3\ngrad -4",
        r"mul\nvalue -12\ngrad 1",
        r"()\nvalue -12\ngrad 1",
    }
    assert x.grad is None
    f.backward()  # the graph is still there
    assert x.grad is not None
    assert x.grad.item() == -4


def test_values_of_a_neuron() -> None:
    """1 / (1 + exp(-(w0 x0 + w1 x1 + w2))), the example that courses work through; x0 and x1 are constants."""
    w0, w1, w2 = (gn.tensor(value, requires_grad=True) for value in (2.0, -3.0, -3.0))
    x0, x1 = gn.tensor(-1.0), gn.tensor(-2.0)
    text = to_dot((w0 * x0 + w1 * x1 + w2).sigmoid(), {"w0": w0, "w1": w1, "w2": w2}, values=True, grads=True)
    labels = set(parts(text)[0].values())
    assert r"sigmoid\nvalue 0.731059\ngrad 1" in labels
    assert r"w0\n()\nvalue 2\ngrad -0.196612" in labels
    assert r"w1\n()\nvalue -3\ngrad -0.393224" in labels
    assert r"mul\nvalue 6\ngrad 0.196612" in labels


def test_values_that_are_many_or_not_kept() -> None:
    x = gn.arange(3.0).requires_grad_()
    labels, _ = parts(to_dot((x * 2).sum(), {"x": x}, values=True))
    assert r"x\n(3)\nvalue 0 1 2" in labels.values()
    assert r"()\nvalue 6" in labels.values()
    large = gn.ones(100, requires_grad=True)
    assert r"value ..." in to_dot(large.sum(), values=True)
    bn = nn.BatchNorm1d(3)
    images = gn.randn(4, 3)
    result = bn(images).sum()
    mean = bn.running_mean.numpy().copy()
    text = to_dot(result, bn.named_parameters(), values=True, grads=True)
    assert (bn.running_mean.numpy() == mean).all()
    assert r"batch_norm\ngrad" in text


def test_dropout_shows_the_mask_that_was_drawn() -> None:
    gn.manual_seed(3)
    x = gn.ones(6, requires_grad=True)
    y = nn.Dropout(0.5)(x)
    expected = " ".join(f"{value:g}" for value in y.tolist())
    assert f"dropout\\nvalue {expected}" in to_dot(y.sum(), values=True)


def test_values_that_are_gone() -> None:
    x = gn.ones(2, requires_grad=True)
    y = (x + x).sum()
    with gn.no_grad():
        x.add_(1)
    with pytest.raises(ValueError, match="to_dot: a leaf has been written to since"):
        to_dot(y, values=True)
    with pytest.raises(gn.ShapeError, match="only one element needs none"):
        to_dot(x * x, grads=True)


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
