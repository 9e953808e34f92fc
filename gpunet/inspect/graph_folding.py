"""Folding: the first of equal blocks in a row stands for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunet.inspect.graph_units import Unit, detail_of, drawn, merge_of

__all__ = ["fold"]

Shape = tuple[int, ...]


def fold(root: Unit) -> None:
    """Let the first of equal blocks in a row, each of which reads the one before it alone, stand for all."""
    for part in root.parts:
        fold(part)
    kept: list[Unit] = []
    marks: list[Any] = []
    last: Unit | None = None
    for part in root.parts:
        mark = _mark(part) if part.parts else None
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
    _fold_joined(root)


def _fold_joined(root: Unit) -> None:
    """The same for blocks each of which is concatenated with what it reads, so that the next has more channels."""
    kept: list[Unit] = []
    pairs: set[int] = set()
    last: Unit | None = None
    parts = list(root.parts)
    while parts:
        pair = _pair(parts, root)
        if pair is None:
            kept.append(parts.pop(0))
            last = None
            continue
        del parts[:2]
        first = kept[-1] if last is not None else None
        if first is not None and last is not None and _grows(first, last, pair):
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


def _grows(first: Unit, last: Unit, pair: Unit) -> bool:
    """Whether a block with its join continues a row, with as many more channels as those before it."""
    join, before = pair.parts[1].step.output_shape, last.parts[1].step.output_shape
    if _mark(pair, True) != _mark(first, True) or not _follows(pair, last) or not (join and before):
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


def _mark(unit: Unit, any_channels: bool = False) -> Any:
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
            detail_of(leaf),
            tuple(numbers.get(id(drawn(read)), -1) for read in leaf.reads),
        )
        for leaf in leaves
    )


def _follows(unit: Unit, before: Unit) -> bool:
    """Whether a block reads the one before it, and no other."""
    inside = {id(leaf) for leaf in unit.leaves()}
    allowed = {id(drawn(leaf)) for leaf in before.leaves()}
    outside = {id(drawn(read)) for leaf in unit.leaves() for read in leaf.reads} - inside
    return bool(outside) and outside <= allowed


def _pair(parts: Sequence[Unit], root: Unit) -> Unit | None:
    """A block and the concatenation behind it, as a unit; None if the parts do not begin with such."""
    if len(parts) < 2:
        return None
    block, join = parts[:2]
    joins = not join.parts and join.step.module is None and merge_of(join) == "concat"
    if not block.parts or not joins or block.count > 1 or not any(leaf in join.reads for leaf in block.leaves()):
        return None
    return Unit(block.step, root, [block, join])
