"""Values and gradients of everything in a graph, for drawing it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from gpunet.autograd import Tensor
from gpunet.autograd.engine import Node, backward
from gpunet.backend.devices import on_device
from gpunet.ops.base import NO_GRAD

__all__ = ["array_text", "graph_gradients", "graph_values"]

# A leaf, or a node and the number of its output.
Place = tuple[int, int]

# What writes to its inputs as it runs, or keeps the inputs where they cannot be told apart.
_NOT_AGAIN = {"batch_norm", "instance_norm", "set_index", "embedding", "embedding_bag", "hook_point"}
_SHOWN = 8


def graph_values(results: Sequence[Tensor], sources: Sequence[Any]) -> dict[Place, Any]:
    """The value of each leaf and of each node's outputs, by identity and number.

    The tape keeps only what backward needs. The rest is computed again from the leaves, where all inputs of an
    operation are known; an operation on a constant that the tape has not kept is left out, and what follows from it.

    Args:
        results: of the graph.
        sources: its leaves and nodes.

    Raises:
        ValueError: a leaf has been written to since.
    """
    values: dict[Place, Any] = {}
    for source in sources:
        if isinstance(source, Tensor):
            values[id(source), 0] = source._array
    with np.errstate(all="ignore"):
        for node in _in_order(sources):
            inputs = _inputs(node, values)
            if inputs is None or node.op.name in _NOT_AGAIN:
                continue
            with on_device(node.device):
                made = node.op.forward(NO_GRAD, *inputs, **node.attributes)
            for index, array in enumerate(made if isinstance(made, tuple) else (made,)):
                values[id(node), index] = array
    for result in results:
        place = (id(result), 0) if result._node is None else (id(result._node), result._index)
        again = values.get(place)
        if again is not None and not np.allclose(_numpy(again), _numpy(result._array), equal_nan=True):
            raise ValueError("to_dot: a leaf has been written to since; the values are no longer those of the graph")
        values[place] = result._array
    return values


def graph_gradients(results: Sequence[Tensor], sources: Sequence[Any]) -> dict[Place, Any]:
    """The gradient of the results with respect to each leaf and each node's outputs; no ``.grad`` is written.

    Raises:
        ShapeError: a result has more than one element.
        GradientError: something that backward needs was overwritten.
    """
    roots = [(result._node or result, result._index, result._seed(None)) for result in results]
    places: list[Place] = []
    wanted: list[Any] = []
    for source in sources:
        for index in range(len(source.outputs)) if isinstance(source, Node) else (0,):
            places.append((id(source), index))
            # Backward only asks a tensor for its place in the graph.
            wanted.append(SimpleNamespace(_node=source, _index=index) if isinstance(source, Node) else source)
    found = backward(roots, retain_graph=True, wanted=wanted)
    return {place: grad for place, grad in zip(places, found, strict=True) if grad is not None}


def _in_order(sources: Sequence[Any]) -> list[Node]:
    """The nodes, each after those whose outputs it takes."""
    order: list[Node] = []
    done: set[int] = set()
    for start in sources:
        waiting = [(start, False)]
        while waiting:
            source, ready = waiting.pop()
            if not isinstance(source, Node) or id(source) in done:
                continue
            if ready:
                done.add(id(source))
                order.append(source)
                continue
            waiting.append((source, True))
            waiting += [(edge[0], False) for edge in source.edges if edge is not None]
    return order


def _inputs(node: Node, values: dict[Place, Any]) -> list[Any] | None:
    """What the operation took; None where something of it is not known any more."""
    inputs: list[Any] = [None if edge is None else values.get((id(edge[0]), edge[1])) for edge in node.edges]
    constants = [position for position, edge in enumerate(node.edges) if edge is None]
    if any(value is None for position, value in enumerate(inputs) if position not in constants):
        return None
    if constants:
        # An operation that has kept its inputs has them in their order, and nothing else.
        if len(node.saved) != len(inputs) or any(node.saved[position] is None for position in constants):
            return None
        for position, kept in enumerate(node.saved):
            if position in constants:
                inputs[position] = kept
            elif kept is not None and kept is not inputs[position] and not _same(kept, inputs[position]):
                return None
    return inputs


def _same(a: Any, b: Any) -> bool:
    a, b = _numpy(a), _numpy(b)
    return a.shape == b.shape and bool(np.array_equal(a, b))


def _numpy(array: Any) -> np.ndarray:
    return np.asarray(array.get() if hasattr(array, "get") else array)


def array_text(array: Any) -> str:
    """A number, or the numbers of a small array; of a large one none."""
    values = _numpy(array)
    if values.size > _SHOWN:
        return "..."
    return " ".join(f"{value:g}" for value in values.ravel().tolist())
