"""A model as boxes and arrows: layers, and which of them reads what another one gives.

What a picture of an architecture is drawn from, and what can be asserted of it without a picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpunet.inspect.batch_axes import batch_axes
from gpunet.inspect.flow import Flow
from gpunet.inspect.graph_folding import fold as fold_units
from gpunet.inspect.graph_units import Unit, detail_of, drawn, merge_of, tree
from gpunet.inspect.summary import run_on_meta
from gpunet.inspect.summary_text import without_batch
from gpunet.inspect.trace import Trace
from gpunet.nn import Module

__all__ = ["Arrow", "Block", "Box", "LayerGraph", "layer_graph"]

Shape = tuple[int, ...]


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
    root = tree(run, flow, depth)
    maker = _Maker(run, training, root)
    if fold:
        fold_units(root)
    return maker.graph(model if isinstance(model, str) else type(model).__name__)


class _Maker:
    """Units to boxes."""

    def __init__(self, run: Trace, training: bool, root: Unit) -> None:
        self.run = run
        self.root = root
        axes = zip(run.steps, batch_axes(run, training), strict=True)
        self._batch_axes = {id(step): found[0] if found else 0 for step, found in axes}
        self.towers = int(getattr(run.model, "_device_span", 1))
        self._hidden: set[int] = set()
        if self.towers > 1:
            self._note_towers()

    # Towers -------------------------------------------------------------------------------------------------------

    def _note_towers(self) -> None:
        """On ``meta`` all towers are in one place, and halves meet in a concatenation instead of an exchange."""
        heads: list[str] = []
        for unit in self.root.leaves():
            sources = [read for read in unit.reads if isinstance(read, Unit)]
            if unit.step.kind == "cat" and unit.parent is self.root and len(sources) == self.towers:
                heads = heads or [source.step.name.partition(".")[0] for source in sources]
                self._hidden.add(id(unit))
        self._tower_of = {head: number for number, head in enumerate(heads)}
        self.towers = max(1, len(heads))

    def tower(self, unit: Unit) -> int:
        # What belongs to no tower, such as the scores, is on the first device.
        return 0 if self.towers == 1 else self._tower_of.get(unit.step.name.partition(".")[0], 0)

    # The graph ----------------------------------------------------------------------------------------------------

    def graph(self, name: str) -> LayerGraph:
        """The boxes, arrows and blocks."""
        inputs = [
            Box(
                "input" if number == 0 else f"input#{number + 1}",
                "input",
                "",
                without_batch(shape, self.run.batch_axis),
            )
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
            merge = merge_of(leaf) if len(sources) > 1 else ""
            tower = self.tower(leaf)
            boxes.append(
                Box(
                    names[id(leaf)], leaf.step.kind, detail_of(leaf),
                    self._sample_shape(leaf, leaf.step.output_shape), merge, tower, _multiplied(leaf),
                    None if leaf.last_shape == leaf.step.output_shape else self._sample_shape(leaf, leaf.last_shape),
                )
            )  # fmt: skip
            arrows.extend(
                Arrow(source, names[id(leaf)], "crossing" if there not in (tower, None) else "flow")
                for source, there in sources
            )
        found = LayerGraph(name, tuple(boxes), tuple(arrows), tuple(self._blocks(names)), self.towers)
        return replace(found, arrows=tuple(_kinds(found)))

    def _sample_shape(self, leaf: Unit, shape: Shape | None) -> Shape | None:
        return None if shape is None else without_batch(shape, self._batch_axes[id(leaf.step)])

    def _sources(self, leaf: Unit, names: dict[int, str], inputs: list[Box]) -> list[tuple[str, int | None]]:
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
                source = drawn(read)
                if source is not leaf:
                    result.setdefault(names[id(source)], self.tower(source))
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
            if unit.count > 1 or any(not part.parts and merge_of(part) for part in unit.parts):
                last = "" if unit.last is None else unit.last.name
                yield Block(unit.step.name, unit.step.kind, inside, unit.count, last, unit.growth)


def _multiplied(leaf: Unit) -> int:
    count, unit = 1, leaf
    while unit.parent is not None:
        count *= unit.count
        unit = unit.parent
    return count


def _names(leaves: Sequence[Unit]) -> dict[int, str]:
    """By the units' identities; a name that comes again gets a number."""
    calls: dict[str, int] = {}
    names = {}
    for leaf in leaves:
        name = leaf.step.name or leaf.step.kind
        calls[name] = calls.get(name, 0) + 1
        names[id(leaf)] = name if calls[name] == 1 else f"{name}#{calls[name]}"
    return names


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
