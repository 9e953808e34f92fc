"""The graph that backward will walk, as text in the DOT language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gpunet.autograd import Tensor
from gpunet.autograd.engine import Node

__all__ = ["to_dot"]


def to_dot(
    tensor: Tensor | Iterable[Tensor], params: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] | None = None
) -> str:
    """The graph of one or several results: leaves and operations as nodes, arrows the way the data went.

    Backward goes against the arrows. Leaves are boxes with their name and shape, operations are ellipses, results are
    double boxes with their shape. Tensors that require no grad are no part of the graph. ``dot -Tsvg`` draws it.

    Args:
        tensor: the results.
        params: names of leaves, such as ``model.named_parameters()``; the others are called by their shape alone.

    Returns:
        The text of a ``digraph``, the same for the same graph.

    Raises:
        TypeError: not a Tensor.
        ValueError: a result requires no grad, so that there is no graph; or its graph has been freed.
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
    for result in results:
        graph.add_result(result)
    return graph.text()


class _Graph:
    """Nodes by number, in the order in which a walk from the results meets them."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.numbers: dict[int, int] = {}
        self.nodes: list[str] = []
        self.arrows: list[str] = []
        self.results = 0

    def add_result(self, result: Tensor) -> None:
        target: Any = result if result.grad_fn is None else result.grad_fn
        self._walk(target)
        name = f"result{self.results}"
        self.results += 1
        self.nodes.append(f"{name} [shape=box, peripheries=2, label={_quoted(_shape(result.shape))}];")
        self.arrows.append(f"n{self.numbers[id(target)]} -> {name};")

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

    def _add(self, node: Any) -> None:
        number = self.numbers[id(node)] = len(self.numbers)
        if isinstance(node, Node):
            self.nodes.append(f"n{number} [shape=ellipse, label={_quoted(node.op.name)}];")
        else:
            name = self.names.get(id(node), "")
            label = f"{name}\n{_shape(node.shape)}" if name else _shape(node.shape)
            self.nodes.append(f"n{number} [shape=box, label={_quoted(label)}];")

    def text(self) -> str:
        lines = ["rankdir=LR;", *self.nodes, *self.arrows]
        return "digraph backward {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _shape(shape: Iterable[int]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
