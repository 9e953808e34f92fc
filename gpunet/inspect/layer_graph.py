"""A model as boxes and arrows: layers, and which of them reads what another one gives.

What a picture of an architecture is drawn from, and what can be asserted of it without a picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gpunet.inspect.flow import Flow, Ran
from gpunet.inspect.summary import run_on_meta
from gpunet.inspect.trace import Step, Trace
from gpunet.nn import Module

__all__ = ["Arrow", "Block", "Box", "LayerGraph", "layer_graph"]

Shape = tuple[int, ...]

_ADDITIONS = frozenset({"add", "sub"})
_JOINS = frozenset({"cat", "stack"})


@dataclass(frozen=True, slots=True)
class Box:
    """A layer, an operation, or with a ``depth`` a whole block.

    Attributes:
        name: the module's dotted path; of an operation, that of its module and ``(operation)``; of an input,
            ``input``. A further call has its number behind it: ``relu#2``.
        type: the module's class, or the operation's name.
        detail: what tells it from others of its type, such as ``7×7, stride 2``.
        output_shape: without the batch; None if it gives no tensor.
        merge: ``"sum"`` or ``"concat"`` if several layers meet here, else empty.
        tower: of a model on several devices, the number of the device; else 0.
        count: how many layers this one stands for, itself included, where equal blocks are folded.
        last_shape: the last one's ``output_shape``, where it is another than the first's; else None.
    """

    name: str
    type: str
    detail: str
    output_shape: Shape | None
    merge: str = ""
    tower: int = 0
    count: int = 1
    last_shape: Shape | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """That a box reads what another one gives.

    Attributes:
        source, target: the boxes' names.
        kind: ``"skip"`` where it comes into a sum past the layers that the sum is added to, ``"concat"`` into a
            concatenation, ``"crossing"`` from one device to another, else ``"flow"``.
    """

    source: str
    target: str
    kind: str = "flow"


@dataclass(frozen=True, slots=True)
class Block:
    """Boxes that belong together: a module in which several layers meet, or one that stands for several equal ones.

    Attributes:
        name, type: the module's.
        boxes: names of those inside.
        count: how many equal modules in a row it stands for.
        last: name of the last of those, if each is joined with what comes before it, as in a dense block; the boxes are
            then the first one's and its concatenation. Else empty.
        growth: channels that each of these joins.
    """

    name: str
    type: str
    boxes: tuple[str, ...]
    count: int = 1
    last: str = ""
    growth: int = 0


@dataclass(frozen=True)
class LayerGraph:
    """A model's boxes in the order in which they ran, which is a topological one, and the arrows between them.

    Attributes:
        model: the model's class, or the name by which it was made.
        boxes: the inputs first.
        arrows: by target, in the order in which it reads.
        blocks: in the order in which they ran.
        towers: on how many devices the layers are.
    """

    model: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    blocks: tuple[Block, ...] = ()
    towers: int = 1

    def __getitem__(self, name: str) -> Box:
        """The box of a name."""
        for box in self.boxes:
            if box.name == name:
                return box
        raise KeyError(f"{self.model} has no box {name!r}")

    def arrows_of(self, kind: str) -> list[Arrow]:
        """The arrows of one kind."""
        return [arrow for arrow in self.arrows if arrow.kind == kind]


def layer_graph(
    model: Module | str,
    input_size: Sequence[Any] | None = None,
    *,
    depth: int | None = None,
    fold: bool = True,
    training: bool = False,
    **kwargs: Any,
) -> LayerGraph:
    """The layers of a model and how they are connected, seen as it runs on shapes alone.

    What only changes an array's shape is left out, unless it is a module such as ``Flatten``.

    Args:
        model: a model, which is only read, or the name of one, which is then made without memory.
        input_size: (C, H, W), as for ``summary``.
        depth: modules at this depth become one box each; the model's children have depth 1. None is all the way down.
        fold: let one block stand for equal ones in a row. Layers of a dense block are equal but for the channels that
            come in: the first with its concatenation stands for all.
        training: run in training mode, where auxiliary classifiers run too.
        kwargs: for the function that makes a model of that name.

    Raises:
        UnknownModelError, ShapeError, TypeError, ValueError: as ``summary``.
    """
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 1):
        raise ValueError(f"depth: must be a whole number of at least 1 or None, got {depth!r}")
    flow = Flow()
    run = run_on_meta(model, input_size, training=training, flow=flow, **kwargs)
    root = _tree(run, flow, depth)
    maker = _Maker(run, flow, root)
    if fold:
        maker.fold(root)
    return maker.graph(model if isinstance(model, str) else type(model).__name__)


@dataclass(slots=True, eq=False)
class _Unit:
    """A step with those inside it; one that has none of them becomes a box."""

    step: Step
    parent: _Unit | None
    parts: list[_Unit] = field(default_factory=list)
    operations: list[Ran] = field(default_factory=list)
    # Units and numbers of inputs.
    reads: list[Any] = field(default_factory=list)
    count: int = 1
    # The unit that is drawn in its place.
    stand_in: _Unit | None = None
    # Of several in a row whose channels grow: the last one's shape or step, and by how much.
    last_shape: Shape | None = None
    last: Step | None = None
    growth: int = 0

    def leaves(self) -> Iterator[_Unit]:
        """The boxes in it, in the order in which they ran."""
        waiting = [self]
        while waiting:
            unit = waiting.pop()
            if unit.parts:
                waiting.extend(reversed(unit.parts))
            else:
                yield unit


def _tree(run: Trace, flow: Flow, depth: int | None) -> _Unit:
    """The steps as a tree, cut off at a depth, with what each leaf reads."""
    root = _Unit(run.steps[0], None)
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
            unit = _Unit(step, path[-1])
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


class _Maker:
    """Units to boxes."""

    def __init__(self, run: Trace, flow: Flow, root: _Unit) -> None:
        self.run = run
        self.root = root
        self.towers = int(getattr(run.model, "_device_span", 1))
        self._hidden: set[int] = set()
        if self.towers > 1:
            self._note_towers()

    # Towers -------------------------------------------------------------------------------------------------------

    def _note_towers(self) -> None:
        """On ``meta`` all towers are in one place, and halves meet in a concatenation instead of an exchange."""
        heads: list[str] = []
        for unit in self.root.leaves():
            sources = [read for read in unit.reads if isinstance(read, _Unit)]
            if unit.step.kind == "cat" and unit.parent is self.root and len(sources) == self.towers:
                heads = heads or [source.step.name.partition(".")[0] for source in sources]
                self._hidden.add(id(unit))
        self._tower_of = {head: number for number, head in enumerate(heads)}
        self.towers = max(1, len(heads))

    def tower(self, unit: _Unit) -> int:
        # What belongs to no tower, such as the scores, is on the first device.
        return 0 if self.towers == 1 else self._tower_of.get(unit.step.name.partition(".")[0], 0)

    # Folding ------------------------------------------------------------------------------------------------------

    def fold(self, root: _Unit) -> None:
        """Let the first of equal blocks in a row, each of which reads the one before it alone, stand for all."""
        for part in root.parts:
            self.fold(part)
        kept: list[_Unit] = []
        marks: list[Any] = []
        last: _Unit | None = None
        for part in root.parts:
            mark = self._mark(part) if part.parts else None
            if mark is not None and marks and mark == marks[-1] and last is not None and _follows(part, last):
                first = kept[-1]
                first.count += 1
                for leaf, original in zip(part.leaves(), first.leaves(), strict=True):
                    leaf.stand_in = original
            else:
                kept.append(part)
                marks.append(mark)
            last = part
        root.parts[:] = kept
        self._fold_joined(root)

    def _fold_joined(self, root: _Unit) -> None:
        """The same for blocks each of which is concatenated with what it reads, so that the next has more channels."""
        kept: list[_Unit] = []
        pairs: set[int] = set()
        last: _Unit | None = None
        parts = list(root.parts)
        while parts:
            pair = _pair(parts, root)
            if pair is None:
                kept.append(parts.pop(0))
                last = None
                continue
            del parts[:2]
            first = kept[-1] if last is not None else None
            if first is not None and last is not None and self._grows(first, last, pair):
                first.count += 1
                first.last = pair.step
                for leaf, original in zip(pair.leaves(), first.leaves(), strict=True):
                    leaf.stand_in = original
                    original.last_shape = leaf.step.output_shape
            else:
                kept.append(pair)
                pairs.add(id(pair))
            last = pair
        root.parts.clear()
        for unit in kept:
            if id(unit) in pairs and not unit.growth:  # it stands for itself alone
                root.parts.extend(unit.parts)
                continue
            root.parts.append(unit)
            if unit.growth:
                for part in unit.parts:
                    part.parent = unit

    def _grows(self, first: _Unit, last: _Unit, pair: _Unit) -> bool:
        """Whether a block with its join continues a row, with as many more channels as those before it."""
        join, before = pair.parts[1].step.output_shape, last.parts[1].step.output_shape
        if self._mark(pair, True) != self._mark(first, True) or not _follows(pair, last) or not (join and before):
            return False
        growth = join[1] - before[1]
        if growth < 1 or first.growth not in (0, growth):
            return False
        for leaf, previous in zip(pair.leaves(), last.leaves(), strict=True):
            shape, old = leaf.step.output_shape, previous.step.output_shape
            if shape and old and shape[1:2] != old[1:2] and shape[1] - old[1] != growth:
                return False
        first.growth = growth
        return True

    def _mark(self, unit: _Unit, any_channels: bool = False) -> Any:
        """What is the same for equal blocks: layers, shapes and arrows, without the names of what is outside."""

        def seen(shape: Shape | None) -> Shape | None:
            return shape[:1] + shape[2:] if any_channels and shape is not None else shape

        leaves = list(unit.leaves())
        numbers = {id(leaf): number for number, leaf in enumerate(leaves)}
        return tuple(
            (
                leaf.step.kind,
                seen(leaf.step.input_shape),
                seen(leaf.step.output_shape),
                leaf.count,
                _detail(leaf),
                tuple(numbers.get(id(_drawn(read)), -1) for read in leaf.reads),
            )
            for leaf in leaves
        )

    # The graph ----------------------------------------------------------------------------------------------------

    def graph(self, name: str) -> LayerGraph:
        """The boxes, arrows and blocks."""
        inputs = [
            Box("input" if number == 0 else f"input#{number + 1}", "input", "", shape[1:])
            for number, shape in enumerate(self.run.inputs)
        ]
        leaves = [leaf for leaf in self.root.leaves() if id(leaf) not in self._hidden]
        if leaves == [self.root] and not self.root.reads:
            leaves = []
        names = _names(leaves)
        boxes = list(inputs)
        arrows: list[Arrow] = []
        for leaf in leaves:
            sources = self._sources(leaf, names, inputs)
            merge = _merge(leaf) if len(sources) > 1 else ""
            tower = self.tower(leaf)
            boxes.append(
                Box(
                    names[id(leaf)], leaf.step.kind, _detail(leaf),
                    None if leaf.step.output_shape is None else leaf.step.output_shape[1:], merge, tower,
                    _multiplied(leaf), _other_shape(leaf),
                )
            )  # fmt: skip
            arrows.extend(
                Arrow(source, names[id(leaf)], "crossing" if there not in (tower, None) else "flow")
                for source, there in sources
            )
        found = LayerGraph(name, tuple(boxes), tuple(arrows), tuple(self._blocks(names)), self.towers)
        return replace(found, arrows=tuple(_kinds(found)))

    def _sources(self, leaf: _Unit, names: dict[int, str], inputs: list[Box]) -> list[tuple[str, int | None]]:
        """Names of what a box reads and their towers, None for an input; each once."""
        result: dict[str, int | None] = {}
        waiting = list(reversed(leaf.reads))
        while waiting:
            read = waiting.pop()
            if isinstance(read, int):
                result.setdefault(inputs[read].name, None)
            elif id(read) in self._hidden:
                waiting.extend(reversed(read.reads))
            else:
                drawn = _drawn(read)
                if drawn is not leaf:
                    result.setdefault(names[id(drawn)], self.tower(drawn))
        return list(result.items())

    def _blocks(self, names: dict[int, str]) -> Iterator[Block]:
        waiting = list(reversed(self.root.parts))
        while waiting:
            unit = waiting.pop()
            if not unit.parts:
                continue
            # A block that is folded with its concatenation has one frame, not two of the same name.
            waiting.extend(reversed(unit.parts[0].parts if unit.growth else unit.parts))
            inside = tuple(names[id(leaf)] for leaf in unit.leaves())
            if unit.count > 1 or any(not part.parts and _merge(part) for part in unit.parts):
                last = "" if unit.last is None else unit.last.name
                yield Block(unit.step.name, unit.step.kind, inside, unit.count, last, unit.growth)


def _drawn(read: Any) -> Any:
    """The unit that is drawn where one is read; the number of an input as it is."""
    while isinstance(read, _Unit) and read.stand_in is not None:
        read = read.stand_in
    return read


def _follows(unit: _Unit, before: _Unit) -> bool:
    """Whether a block reads the one before it, and no other."""
    inside = {id(leaf) for leaf in unit.leaves()}
    allowed = {id(_drawn(leaf)) for leaf in before.leaves()}
    outside = [
        drawn for leaf in unit.leaves() for drawn in (_drawn(read) for read in leaf.reads) if id(drawn) not in inside
    ]
    return bool(outside) and all(id(read) in allowed for read in outside)


def _pair(parts: Sequence[_Unit], root: _Unit) -> _Unit | None:
    """A block and the concatenation behind it, as a unit; None if the parts do not begin with such."""
    if len(parts) < 2:
        return None
    block, join = parts[:2]
    joins = not join.parts and join.step.module is None and _merge(join) == "concat"
    if not block.parts or not joins or block.count > 1 or not any(leaf in join.reads for leaf in block.leaves()):
        return None
    return _Unit(block.step, root, [block, join])


def _other_shape(leaf: _Unit) -> Shape | None:
    shape = leaf.last_shape
    return None if shape is None or shape == leaf.step.output_shape else shape[1:]


def _multiplied(leaf: _Unit) -> int:
    count, unit = 1, leaf
    while unit.parent is not None:
        count *= unit.count
        unit = unit.parent
    return count


def _names(leaves: Sequence[_Unit]) -> dict[int, str]:
    """By the units' identities; a name that comes again gets a number."""
    calls: dict[str, int] = {}
    names = {}
    for leaf in leaves:
        name = leaf.step.name or leaf.step.kind
        calls[name] = calls.get(name, 0) + 1
        names[id(leaf)] = name if calls[name] == 1 else f"{name}#{calls[name]}"
    return names


def _merge(leaf: _Unit) -> str:
    """How several layers meet in it; empty if they do not."""
    for ran in leaf.operations:
        if ran.inputs > 1:
            return "concat" if ran.name in _JOINS else "sum" if ran.name in _ADDITIONS or _has_residual(ran) else ""
    return ""


def _has_residual(ran: Ran) -> bool:
    return ran.name == "linear" or ran.name.startswith(("batch_norm", "conv"))


def _detail(leaf: _Unit) -> str:
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


def _kinds(graph: LayerGraph) -> Iterator[Arrow]:
    """The arrows with their kinds: of those into a sum, all but the one after the longest way are skips."""
    merges = {box.name: box.merge for box in graph.boxes}
    way: dict[str, int] = {box.name: 0 for box in graph.boxes}
    incoming: dict[str, list[Arrow]] = {box.name: [] for box in graph.boxes}
    for arrow in graph.arrows:
        incoming[arrow.target].append(arrow)
    for name, arrows in incoming.items():
        way[name] = 1 + max((way[arrow.source] for arrow in arrows), default=-1)
        longest = max(arrows, key=lambda arrow: way[arrow.source], default=None)
        for arrow in arrows:
            if arrow.kind == "flow" and merges[name] == "concat":
                yield replace(arrow, kind="concat")
            elif arrow.kind == "flow" and merges[name] == "sum" and arrow is not longest:
                yield replace(arrow, kind="skip")
            else:
                yield arrow
