"""Where the boxes of a layer graph lie: rows by the longest way from the input, columns by branch.

A row is as low as it can be below everything it reads. What leaves a box by several arrows lies side by side until all
of it meets again (its immediate postdominator); an arrow that goes there at once passes by on the right. Of a model on
several devices, each device has a column.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gpunet.inspect.layer_graph import LayerGraph

__all__ = ["Layout", "layout"]

# Width that an arrow needs which passes by, in columns.
BYPASS = 0.16
# Distance of the towers' columns; their crossings need room.
TOWERS = 1.5


@dataclass
class Layout:
    """Places of the boxes' middles.

    Attributes:
        row: by the box's name, counted from the top.
        column: by the box's name; the input is at 0, and neighbours are 1 apart.
        passing: by (source, target), the column of an arrow that goes past other boxes.
        left, right: the outermost columns' outer edges.
        rows: how many.
    """

    row: dict[str, int] = field(default_factory=dict)
    column: dict[str, float] = field(default_factory=dict)
    passing: dict[tuple[str, str], float] = field(default_factory=dict)
    left: float = -0.5
    right: float = 0.5
    rows: int = 0


def layout(graph: LayerGraph) -> Layout:
    """The places of a graph's boxes."""
    result = Layout()
    reads: dict[str, list[str]] = {box.name: [] for box in graph.boxes}
    for arrow in graph.arrows:
        reads[arrow.target].append(arrow.source)
    for name, sources in reads.items():
        result.row[name] = 1 + max((result.row[source] for source in sources), default=-1)
    result.rows = 1 + max(result.row.values(), default=-1)
    if not _columns_of_towers(graph, result):
        _Branches(list(reads), reads, result).place()
    edges = [*result.column.values()]
    result.left = min([column - 0.5 for column in edges], default=-0.5)
    result.right = max(
        [column + 0.5 for column in edges] + [column + BYPASS / 2 for column in result.passing.values()], default=0.5
    )
    return result


def _columns_of_towers(graph: LayerGraph, result: Layout) -> bool:
    """A column for each device, and the middle for what is alone in its row; False if that is not enough room."""
    if graph.towers == 1:
        return False
    in_row = Counter(result.row.values())
    middle = (graph.towers - 1) / 2
    for box in graph.boxes:
        result.column[box.name] = 0.0 if in_row[result.row[box.name]] == 1 else (box.tower - middle) * TOWERS
    return len({(result.row[name], column) for name, column in result.column.items()}) == len(graph.boxes)


class _Branches:
    """Columns of a graph that forks and meets.

    Boxes are numbered in topological order; a source before all of them and a sink behind them make one entry and one
    exit.
    """

    def __init__(self, names: list[str], reads: dict[str, list[str]], result: Layout) -> None:
        self.names = names
        self.result = result
        numbers = {name: number for number, name in enumerate(names, 1)}
        self.sink = len(names) + 1
        self.next: list[list[int]] = [[] for _ in range(self.sink + 1)]
        for name, sources in reads.items():
            for source in [numbers[one] for one in sources] or [0]:
                if numbers[name] not in self.next[source]:
                    self.next[source].append(numbers[name])
        for number in range(1, self.sink):
            if not self.next[number]:
                self.next[number].append(self.sink)
        self.meets = self._postdominators()

    def _postdominators(self) -> list[int]:
        """For each box, the first one that every way from it goes through (Cooper, Harvey and Kennedy 2001)."""
        meets = [self.sink] * (self.sink + 1)
        for number in range(self.sink - 1, -1, -1):
            first, *others = self.next[number] or [self.sink]
            for other in others:
                first = _common(meets, first, other)
            meets[number] = first
        return meets

    def _common(self, a: int, b: int) -> int:
        return _common(self.meets, a, b)

    def place(self) -> None:
        """Give every box its column."""
        _, _, places, passing = self._chain(0, self.sink)
        for number, column in places.items():
            if 0 < number < self.sink:
                self.result.column[self.names[number - 1]] = column
        for (source, target), column in passing.items():
            if source > 0 and target < self.sink:
                self.result.passing[self.names[source - 1], self.names[target - 1]] = column

    def _chain(self, start: int, stop: int) -> tuple[float, float, dict[int, float], dict[tuple[int, int], float]]:
        """From a box to where it ends, without that one: how far it reaches to both sides of the first box's middle.

        With the columns of the boxes, and those of arrows that pass by, as seen from there.
        """
        left = right = 0.5
        places: dict[int, float] = {}
        passing: dict[tuple[int, int], float] = {}
        number = start
        while number != stop:
            places[number] = 0.0
            meet = self.meets[number]
            heads = [one for one in self.next[number] if one != meet]
            if heads:
                a, b = self._fork(number, heads, meet, places, passing)
                left, right = max(left, a), max(right, b)
            number = meet
        return left, right, places, passing

    def _fork(
        self, number: int, heads: list[int], meet: int, places: dict[int, float],
        passing: dict[tuple[int, int], float],
    ) -> tuple[float, float]:  # fmt: skip
        """Branches side by side, under the middle of the box where they begin."""
        groups = self._groups(heads, meet)
        drawn = [self._group(group, region, meet) for group, region in groups]
        sizes = [len(region) for _, region in groups]
        largest = sizes.index(max(sizes))
        if 2 * sizes[largest] > sum(sizes):  # the trunk goes straight on
            at = -drawn[largest][0] - sum(left + right for left, right, _, _ in drawn[:largest])
        else:
            at = -sum(left + right for left, right, _, _ in drawn) / 2
        left = -at
        for a, b, inside, by in drawn:
            at += a
            places.update({key: column + at for key, column in inside.items()})
            passing.update({key: column + at for key, column in by.items()})
            at += b
        if meet in self.next[number]:
            at += BYPASS / 2
            passing[number, meet] = at
            at += BYPASS / 2
        return left, at

    def _groups(self, heads: list[int], meet: int) -> list[tuple[list[int], set[int]]]:
        """The heads with the boxes below them; those that have some in common together."""
        groups: list[tuple[list[int], set[int]]] = []
        for head in heads:
            members, region = [head], self._region(head, meet)
            apart = []
            for group in groups:
                if group[1].isdisjoint(region):
                    apart.append(group)
                else:
                    members, region = group[0] + members, group[1] | region
            groups = [*apart, (members, region)]
        return groups

    def _group(
        self, heads: list[int], region: set[int], meet: int
    ) -> tuple[float, float, dict[int, float], dict[tuple[int, int], float]]:
        """One branch, or several that meet on the way."""
        if len(heads) == 1:
            return self._chain(heads[0], meet)
        between = heads[0]
        for head in heads[1:]:
            between = self._common(between, head)
        if between == meet or between in heads:
            return self._tangle(region)
        places: dict[int, float] = {}
        passing: dict[tuple[int, int], float] = {}
        left, right = self._fork(self.sink, heads, between, places, passing)
        a, b, further, by = self._chain(between, meet)
        return max(left, a), max(right, b), {**places, **further}, {**passing, **by}

    def _region(self, head: int, meet: int) -> set[int]:
        found = {head}
        waiting = [head]
        while waiting:
            for one in self.next[waiting.pop()]:
                if one != meet and one not in found:
                    found.add(one)
                    waiting.append(one)
        return found

    def _tangle(self, region: set[int]) -> tuple[float, float, dict[int, float], dict[tuple[int, int], float]]:
        """Branches that are connected with each other: each row by itself, in the order of what it reads."""
        rows: dict[int, list[int]] = {}
        for one in sorted(region):
            rows.setdefault(self.result.row[self.names[one - 1]], []).append(one)
        reads: dict[int, list[int]] = {}
        for source, targets in enumerate(self.next):
            for target in targets:
                reads.setdefault(target, []).append(source)
        places: dict[int, float] = {}
        widest = max(map(len, rows.values()))
        for row in sorted(rows):
            known = {one: [places[r] for r in reads[one] if r in places] for one in rows[row]}
            ordered = sorted(rows[row], key=lambda one: (sum(known[one]) / len(known[one]) if known[one] else 0.0, one))
            for position, one in enumerate(ordered):
                places[one] = position - (len(ordered) - 1) / 2
        return widest / 2, widest / 2, places, {}


def _common(meets: list[int], a: int, b: int) -> int:
    """The first box that every way from two boxes goes through."""
    while a != b:  # the lower number is further from the exit
        if a < b:
            a = meets[a]
        else:
            b = meets[b]
    return a
