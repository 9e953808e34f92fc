"""The graph that backward will walk, as text in the DOT language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gpunet.autograd import Tensor
from gpunet.autograd.engine import Node
from gpunet.inspect.graph_values import array_text, graph_gradients, graph_values

__all__ = ["to_dot"]


def to_dot(
    tensor: Tensor | Iterable[Tensor],
    params: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] | None = None,
    *,
    values: bool = False,
    grads: bool = False,
) -> str:
    """The graph of one or several results: leaves and operations as nodes, arrows the way the data went.

    Backward goes against the arrows. Leaves are boxes with their name and shape, operations are ellipses, results are
    double boxes with their shape. Tensors that require no grad are no part of the graph. ``dot -Tsvg`` draws it.

    Args:
        tensor: the results.
        params: names of leaves, such as ``model.named_parameters()``; the others are called by their shape alone.
        values: write each value into its node, if it has at most 8 numbers. The tape keeps only what backward needs;
            what is between is computed again, and left out where a constant is not kept.
        grads: write the gradient of the result into each node as well, as backward finds it. The results must have one
            element each. The graph is kept, and no leaf's ``.grad`` is written; hooks of tensors are called, as in
            backward.

    Returns:
        The text of a ``digraph``, the same for the same graph.

    Raises:
        TypeError: not a Tensor.
        ValueError: a result requires no grad, so that there is no graph; its graph has been freed; or with ``values``,
            a leaf has been written to since.
        ShapeError: with ``grads``, a result has several elements.
    """
    results = [tensor] if isinstance(tensor, Tensor) else list(tensor)
    for result in results:
        if not isinstance(result, Tensor):
            raise TypeError(f"to_dot: tensor must be a Tensor or several, got {type(result).__name__}")
        if not result.requires_grad:
            raise ValueError("to_dot: tensor must require grad; there is no graph of one that does not")
    pairs = () if params is None else params.items() if isinstance(params, Mapping) else params
    names = {id(leaf): name for name, leaf in pairs}
    graph = _Graph(names)
    graph.walk(results)
    if values:
        graph.notes["value"] = graph_values(results, graph.sources)
    if grads:
        graph.notes["grad"] = graph_gradients(results, graph.sources)
    return graph.text(results)


class _Graph:
    """Leaves and nodes by number, in the order in which a walk from the results meets them."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.numbers: dict[int, int] = {}
        self.sources: list[Any] = []
        self.arrows: list[str] = []
        # What is written into the nodes besides: for each word, arrays by leaf or node and output.
        self.notes: dict[str, dict[tuple[int, int], Any]] = {}

    def walk(self, results: list[Tensor]) -> None:
        for number, result in enumerate(results):
            target: Any = result if result.grad_fn is None else result.grad_fn
            self._walk(target)
            self.arrows.append(f"n{self.numbers[id(target)]} -> result{number};")

    def _walk(self, start: Any) -> None:
        # A loop, as backward: a graph may be deeper than the stack.
        if id(start) in self.numbers:
            return
        self._add(start)
        waiting = [start]
        while waiting:
            node = waiting.pop()
            if not isinstance(node, Node):
                continue
            if node.freed:
                raise ValueError(
                    f"to_dot: the graph of {node.op.name!r} has been used and freed; draw it before backward"
                )
            for edge in node.edges:
                if edge is None:
                    continue
                source, index = edge
                if id(source) not in self.numbers:
                    self._add(source)
                    waiting.append(source)
                shape = source.outputs[index][0] if isinstance(source, Node) else source.shape
                self.arrows.append(
                    f"n{self.numbers[id(source)]} -> n{self.numbers[id(node)]} [label={_quoted(_shape(shape))}];"
                )

    def _add(self, source: Any) -> None:
        self.numbers[id(source)] = len(self.numbers)
        self.sources.append(source)

    def _noted(self, label: str, place: tuple[int, int]) -> str:
        lines = [f"{word} {array_text(arrays[place])}" for word, arrays in self.notes.items() if place in arrays]
        return _quoted("\n".join([label, *lines]))

    def text(self, results: list[Tensor]) -> str:
        nodes = []
        for number, source in enumerate(self.sources):
            if isinstance(source, Node):
                label = self._noted(source.op.name, (id(source), 0))
                nodes.append(f"n{number} [shape=ellipse, label={label}];")
            else:
                name = self.names.get(id(source), "")
                label = self._noted(
                    f"{name}\n{_shape(source.shape)}" if name else _shape(source.shape), (id(source), 0)
                )
                nodes.append(f"n{number} [shape=box, label={label}];")
        for number, result in enumerate(results):
            place = (id(result), 0) if result.grad_fn is None else (id(result.grad_fn), result._index)
            label = self._noted(_shape(result.shape), place)
            nodes.append(f"result{number} [shape=box, peripheries=2, label={label}];")
        lines = ["rankdir=LR;", *nodes, *self.arrows]
        return "digraph backward {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _shape(shape: Iterable[int]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
