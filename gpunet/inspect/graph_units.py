"""The steps of a run as a tree of units, from which boxes are made, and what is written on those."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gpunet.inspect.flow import Flow, Ran
from gpunet.inspect.trace import Step, Trace

__all__ = ["Unit", "detail_of", "drawn", "merge_of", "tree"]

Shape = tuple[int, ...]

_ADDITIONS = frozenset({"add", "sub"})
_JOINS = frozenset({"cat", "stack"})


@dataclass(slots=True, eq=False)
class Unit:
    """A step with those inside it; one that has none of them becomes a box."""

    step: Step
    parent: Unit | None
    parts: list[Unit] = field(default_factory=list)
    operations: list[Ran] = field(default_factory=list)
    # Units and numbers of inputs.
    reads: list[Any] = field(default_factory=list)
    count: int = 1
    # The unit that is drawn in its place.
    stand_in: Unit | None = None
    # Of several in a row whose channels grow: the last one's shape or step, and by how much.
    last_shape: Shape | None = None
    last: Step | None = None
    growth: int = 0

    def leaves(self) -> Iterator[Unit]:
        """The boxes in it, in the order in which they ran."""
        waiting = [self]
        while waiting:
            unit = waiting.pop()
            if unit.parts:
                waiting.extend(reversed(unit.parts))
            else:
                yield unit


def tree(run: Trace, flow: Flow, depth: int | None) -> Unit:
    """The steps as a tree, cut off at a depth, with what each leaf reads."""
    root = Unit(run.steps[0], None)
    path = [root]
    units = {id(run.steps[0]): root}
    for step in run.steps[1:]:
        if depth is not None and step.depth > depth:
            while path[-1].step.depth > depth:
                path.pop()
            unit = path[-1]
        else:
            while path[-1].step.depth >= step.depth:
                path.pop()
            if step.module is None and step.kind == "reshape":
                continue
            unit = Unit(step, path[-1])
            path[-1].parts.append(unit)
            path.append(unit)
        units[id(step)] = unit
        unit.operations.extend(flow.operations.get(id(step), ()))
    for step in run.steps:
        if id(step) not in units:
            continue
        unit = units[id(step)]
        for maker in flow.reads.get(id(step), ()):
            source = maker if isinstance(maker, int) else units[id(maker)]
            if source is not unit and source not in unit.reads:
                unit.reads.append(source)
    return root


def drawn(read: Any) -> Any:
    """The unit that is drawn where one is read; the number of an input as it is."""
    while isinstance(read, Unit) and read.stand_in is not None:
        read = read.stand_in
    return read


def merge_of(leaf: Unit) -> str:
    """How several layers meet in it; empty if they do not."""
    for ran in leaf.operations:
        if ran.inputs > 1:
            return "concat" if ran.name in _JOINS else "sum" if ran.name in _ADDITIONS or _has_residual(ran) else ""
    return ""


def _has_residual(ran: Ran) -> bool:
    return ran.name == "linear" or ran.name.startswith(("batch_norm", "conv"))


def detail_of(leaf: Unit) -> str:
    """The sizes that a layer's picture in a paper has, and what was fused into it."""
    parts = []
    module = leaf.step.module
    if module is not None:
        kernel = _sizes(getattr(module, "kernel_size", None))
        if kernel:
            parts.append(kernel)
        stride = _sizes(getattr(module, "stride", None))
        if stride and set(stride.split("×")) != {"1"}:
            parts.append(f"stride {stride.split('×')[0] if len(set(stride.split('×'))) == 1 else stride}")
        if getattr(module, "groups", 1) != 1:
            parts.append(f"groups {module.groups}")
    fused = []
    if module is not None and not module._modules:
        for ran in leaf.operations:
            if ran.inputs > 1 and _has_residual(ran):
                fused.append("+ add")
            if ran.attributes.get("activation"):
                fused.append(
                    "+ ReLU" if ran.attributes["activation"] == "relu" else f"+ {ran.attributes['activation']}"
                )
    return " ".join([", ".join(parts), *fused]).strip()


def _sizes(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, tuple, list)):
        return ""
    if isinstance(value, int):
        return f"{value}×{value}"
    return "×".join(map(str, value)) if all(isinstance(one, int) for one in value) else ""
