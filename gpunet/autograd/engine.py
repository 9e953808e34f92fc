"""The tape and the walk back along it.

Every recorded operation is a Node that knows its inputs' Nodes. The walk counts how often each node is reached, then
takes nodes whose gradient is complete one after the other: no recursion, time and memory linear in the graph, and
each node lets go of what it kept as soon as it has been used. Gradients are added in the order of the walk, which the
graph alone decides.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunet.autograd.grad_mode import state as grad_state
from gpunet.autograd.observer import Computation, computing
from gpunet.autograd.observer import state as observer_state
from gpunet.backend.devices import Device, cupy, on_device
from gpunet.backend.errors import GradientError, ShapeError
from gpunet.ops.base import Context, Op
from gpunet.ops.dtypes import DType

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Node", "backward"]


class Node(Context):
    """One recorded operation.

    Attributes:
        op: the operation.
        edges: for each input (node, output number), or (leaf, 0), or None where no gradient goes.
        outputs: shape and dtype of each output.
        device: where it ran.
    """

    __slots__ = ("__weakref__", "device", "edges", "freed", "hooks", "op", "outputs", "retained", "versions")

    def __init__(self, op: Op, needs_grad: tuple[bool, ...], attributes: dict[str, Any], device: Device) -> None:
        super().__init__(needs_grad, attributes)
        self.op = op
        self.device = device
        self.edges: list[Any] = []
        self.outputs: tuple[tuple[tuple[int, ...], DType], ...] = ()
        # (version counter, version when saved, place in saved) of saved inputs and outputs
        self.versions: list[tuple[list[int], int, int]] = []
        self.hooks: dict[int, dict[int, Callable[[Any], Any]]] | None = None
        self.retained: dict[int, weakref.ref[Tensor]] | None = None
        self.freed = False

    def check_versions(self) -> None:
        """Raise if a saved array has been written to since.

        Raises:
            GradientError: naming the operation.
        """
        if self.freed:
            raise GradientError(
                f"backward: the graph of {self.op.name!r} has been used and freed; call backward(retain_graph=True) "
                f"the first time to go through it again"
            )
        for counter, version, _ in self.versions:
            if counter[0] != version:
                raise GradientError(
                    f"backward: a tensor that {self.op.name!r} needs for its gradient was modified in place: "
                    f"it is at version {counter[0]}, and {version} was saved; use an operation that makes a new tensor"
                )

    def part_with_output(self) -> None:
        """Before the first output is written to in place: let the operation copy what it saved of it."""
        place = len(self.edges)  # what is saved after the inputs
        others = [entry for entry in self.versions if entry[2] != place]
        if len(others) < len(self.versions):
            with on_device(self.device):
                self.op.part_with_output(self)
            self.versions = others

    def free(self) -> None:
        """Let go of everything kept for backward."""
        self.saved = ()
        self.state = None
        self.edges = []
        self.versions = []
        self.freed = True

    def __repr__(self) -> str:
        return f"<{self.op.name} backward>"


class _Pending:
    """Gradients on their way to a node: the sum so far for each output, and whether the sum is ours to write to."""

    __slots__ = ("arrays", "owned")

    def __init__(self, count: int) -> None:
        self.arrays: list[Any] = [None] * count
        self.owned = [False] * count

    def add(self, index: int, grad: Any) -> None:
        """Add a gradient; the first is taken as it is, since it may be shared with another edge."""
        total = self.arrays[index]
        if total is None:
            self.arrays[index] = grad
            return
        # On a GPU that need not be the current one.
        with nullcontext() if isinstance(total, (np.ndarray, np.generic)) else total.device:
            if self.owned[index]:
                total += grad
                return
            total = total + grad
        self.arrays[index] = np.asarray(total) if isinstance(total, np.generic) else total
        self.owned[index] = True


def backward(
    roots: Sequence[tuple[Any, int, Any]],
    retain_graph: bool = False,
    wanted: Sequence[Tensor] | None = None,
) -> list[Any]:
    """Walk back from the roots and add gradients to the leaves.

    Args:
        roots: (node or leaf, output number, gradient array).
        retain_graph: keep what the nodes saved, for another walk.
        wanted: if given, gradients of these tensors are returned instead, and no leaf is touched.

    Returns:
        the gradient arrays of ``wanted``, None where none arrived.
    """
    dependencies = _count(roots)
    pending: dict[Any, _Pending] = {}
    for target, index, grad in roots:
        found = pending.get(target)
        if found is None:
            found = pending[target] = _Pending(len(target.outputs) if isinstance(target, Node) else 1)
        found.add(index, grad)
    capture: dict[tuple[Any, int], list[int]] = {}
    results: list[Any] = [None] * len(wanted or ())
    for position, tensor in enumerate(wanted or ()):
        key = (tensor, 0) if tensor._node is None else (tensor._node, tensor._index)
        capture.setdefault(key, []).append(position)

    ready = [target for target in dict.fromkeys(root[0] for root in roots) if dependencies[target] == 0]
    before, grad_state.enabled = grad_state.enabled, False
    run = _run_watched if observer_state.observers else _run
    try:
        with np.errstate(all="ignore"):
            while ready:
                target = ready.pop()
                found = pending.pop(target, None)
                if not isinstance(target, Node):
                    if found is not None and found.arrays[0] is not None:
                        _finish_leaf(target, found.arrays[0], wanted is None, capture, results)
                    continue
                gradients: tuple[Any, ...] = ()
                if found is not None:
                    arrays = found.arrays
                    del found
                    if target.hooks or target.retained:
                        _call_hooks(target, arrays)
                    if capture:
                        for index, array in enumerate(arrays):
                            for position in capture.get((target, index), ()):
                                results[position] = array
                    target.check_versions()
                    gradients = run(target, arrays)
                    del arrays
                for position, edge in enumerate(target.edges):
                    if edge is None:
                        continue
                    child, index = edge
                    grad = gradients[position] if gradients else None
                    if grad is not None:
                        waiting = pending.get(child)
                        if waiting is None:
                            size = len(child.outputs) if isinstance(child, Node) else 1
                            waiting = pending[child] = _Pending(size)
                        waiting.add(index, grad)
                    dependencies[child] -= 1
                    if dependencies[child] == 0:
                        ready.append(child)
                if not retain_graph:
                    target.free()
    finally:
        grad_state.enabled = before
    return results


def _count(roots: Sequence[tuple[Any, int, Any]]) -> dict[Any, int]:
    """How many edges of the graph under the roots lead to each node and leaf."""
    dependencies: dict[Any, int] = {}
    stack = []
    for target, _, _ in roots:
        if target not in dependencies:
            dependencies[target] = 0
            stack.append(target)
    while stack:
        target = stack.pop()
        if not isinstance(target, Node):
            continue
        if target.freed:
            target.check_versions()
        for edge in target.edges:
            if edge is None:
                continue
            child = edge[0]
            count = dependencies.get(child)
            if count is None:
                stack.append(child)
                count = 0
            dependencies[child] = count + 1
    return dependencies


def _run(node: Node, arrays: list[Any]) -> tuple[Any, ...]:
    """The gradients of a node's inputs."""
    if all(array is None for array in arrays):
        return ()
    if len(arrays) == 1 or node.op.name in ("split", "exchange", "hook_point"):
        outputs = tuple(arrays)
    else:
        # Operations with several outputs see zeros where no gradient came.
        module = np if node.device.type == "cpu" else cupy()
        outputs = tuple(
            module.zeros(shape, dtype) if array is None else array
            for array, (shape, dtype) in zip(arrays, node.outputs, strict=True)
        )
    if node.device.type == "cuda":
        with cupy().cuda.Device(node.device.index):
            return node.op.backward(node, *outputs)
    return tuple(
        np.asarray(grad) if isinstance(grad, np.generic) else grad for grad in node.op.backward(node, *outputs)
    )


def _run_watched(node: Node, arrays: list[Any]) -> tuple[Any, ...]:
    """The same, with observers told when it begins and ends."""
    if all(array is None for array in arrays):
        return ()
    computation = Computation("backward", node.op, node, node.device, tuple(arrays), node.attributes)
    with on_device(node.device), computing(computation):
        computation.results = _run(node, arrays)
    gradients: tuple[Any, ...] = computation.results
    return gradients


def _call_hooks(node: Node, arrays: list[Any]) -> None:
    """Hooks and retained gradients of a node's outputs; a hook's return value replaces the gradient."""
    from gpunet.autograd.tensor import Tensor

    for index, array in enumerate(arrays):
        if array is None:
            continue
        for hook in list((node.hooks or {}).get(index, {}).values()):
            replaced = hook(Tensor._wrap(array, node.device))
            if replaced is not None:
                array = arrays[index] = _replacement(replaced, array)
        reference = (node.retained or {}).get(index)
        tensor = reference() if reference is not None else None
        if tensor is not None:
            tensor._store_grad(array)


def _replacement(replaced: Any, array: Any) -> Any:
    new = replaced._array
    if tuple(new.shape) != tuple(array.shape):
        raise ShapeError(f"hook: must return a gradient of shape {tuple(array.shape)}, got {tuple(new.shape)}")
    return new


def _finish_leaf(leaf: Tensor, grad: Any, accumulate: bool, capture: dict[Any, list[int]], results: list[Any]) -> None:
    """Hooks of a leaf, then its gradient: added to ``.grad``, or handed to whoever asked."""
    from gpunet.autograd.tensor import Tensor

    for hook in list((leaf._hooks or {}).values()):
        replaced = hook(Tensor._wrap(grad, leaf._device))
        if replaced is not None:
            grad = _replacement(replaced, grad)
    for position in capture.get((leaf, 0), ()):
        results[position] = grad
    if accumulate:
        leaf._store_grad(grad)
        for after in list((leaf._after_hooks or {}).values()):
            after(leaf)
