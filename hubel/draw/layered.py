"""A layered layout: ranks by the longest path, few crossings, straight trunk and straight lanes.

The method is Sugiyama's (1981): edges that pass ranks hold a place in each, and ranks are
ordered by the mean place of their neighbours. All long edges out of one box share one lane,
so that a dense block is a ladder and not a web. The longest path is the trunk, one straight
line; everything else moves as near to it as its neighbours leave room.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Layered", "layered"]

_SWEEPS = 8
_LANE = 9.0


@dataclass(frozen=True)
class Layered:
    """Where boxes stand: `rank` from 0, `x` of the middle, the trunk's is 0."""

    rank: tuple[int, ...]
    x: tuple[float, ...]
    lanes: dict[tuple[int, int], float]
    """x of the lane of the long edges out of a box, in a rank that they pass: (box, rank)."""


_Place = tuple[int, int]
"""A box and its rank; the rank is another than the box's own for a place of its lane."""


def layered(
    widths: Sequence[float], edges: Sequence[tuple[int, int]], gap: float = 18.0
) -> Layered:
    """The layout of boxes of `widths`; `edges` (from, to) go from lower to higher numbers."""
    rank = [0] * len(widths)
    for start, end in sorted(edges, key=lambda e: e[1]):
        rank[end] = max(rank[end], rank[start] + 1)
    last = list(rank)
    for start, end in edges:
        last[start] = max(last[start], rank[end] - 1)
    rows: list[list[_Place]] = [[] for _ in range(max(rank, default=0) + 1)]
    for box, at in enumerate(rank):
        rows[at].append((box, at))
    # The newest lane is the innermost: it need not cross those before it.
    for box in range(len(rank) - 1, -1, -1):
        for passed in range(rank[box] + 1, last[box] + 1):
            rows[passed].append((box, passed))
    rows = _ordered(rows, _links(rank, last, edges))
    half = {
        place: widths[place[0]] / 2 + gap / 2 if rank[place[0]] == place[1] else _LANE / 2
        for row in rows
        for place in row
    }
    x = _placed(rows, rank, edges, half)
    return Layered(
        tuple(rank),
        tuple(x[(box, at)] for box, at in enumerate(rank)),
        {place: value for place, value in x.items() if rank[place[0]] != place[1]},
    )


def _links(
    rank: Sequence[int], last: Sequence[int], edges: Sequence[tuple[int, int]]
) -> list[tuple[_Place, _Place]]:
    """Neighbours in adjacent ranks; of a lane only how it goes on, and where it ends."""
    links = [
        ((box, passed - 1), (box, passed))
        for box, at in enumerate(rank)
        for passed in range(at + 1, last[box] + 1)
    ]
    for start, end in edges:
        if rank[end] == rank[start] + 1 or rank[end] - 1 == last[start]:
            links.append(((start, rank[end] - 1), (end, rank[end])))
    return links


def _ordered(
    rows: list[list[_Place]], links: Sequence[tuple[_Place, _Place]]
) -> list[list[_Place]]:
    """Rows whose places stand in the order of their neighbours' mean; the best of all sweeps."""
    up: dict[_Place, list[_Place]] = {}
    down: dict[_Place, list[_Place]] = {}
    for above, below in links:
        up.setdefault(below, []).append(above)
        down.setdefault(above, []).append(below)
    best, fewest = rows, _crossings(rows, down)
    for sweep in range(_SWEEPS):
        if fewest == 0:
            break
        rows = [list(row) for row in rows]
        downwards = sweep % 2 == 0
        near = up if downwards else down
        turns = range(1, len(rows)) if downwards else range(len(rows) - 2, -1, -1)
        for turn in turns:
            other = rows[turn - 1] if downwards else rows[turn + 1]
            place = {p: i for i, p in enumerate(other)}
            own = {p: i for i, p in enumerate(rows[turn])}

            def mean(
                p: _Place,
                place: dict[_Place, int] = place,
                own: dict[_Place, int] = own,
                near: dict[_Place, list[_Place]] = near,
            ) -> float:
                found = [place[q] for q in near.get(p, [])]
                return sum(found) / len(found) if found else float(own[p])

            rows[turn].sort(key=mean)
        crossings = _crossings(rows, down)
        if crossings < fewest:
            best, fewest = rows, crossings
    return best


def _crossings(rows: list[list[_Place]], down: dict[_Place, list[_Place]]) -> int:
    total = 0
    for row, below in itertools.pairwise(rows):
        place = {p: i for i, p in enumerate(below)}
        ends = [sorted(place[q] for q in down.get(p, [])) for p in row]
        flat: list[int] = []
        for group in ends:
            total += sum(1 for e in group for seen in flat if seen > e)
            flat += group
    return total


def _placed(
    rows: list[list[_Place]],
    rank: Sequence[int],
    edges: Sequence[tuple[int, int]],
    half: dict[_Place, float],
) -> dict[_Place, float]:
    """x of each place: chains of boxes and lanes straight where the order of the rows allows."""
    trunk = _trunk(rank, edges)
    chain = _chains(rank, edges, trunk)
    for straight in (True, False):
        line = {
            place: (chain[place[0]] if rank[place[0]] == place[1] else len(rank) + place[0], 0)
            if straight or (place[0] in trunk and rank[place[0]] == place[1])
            else (place[0], place[1] + 1)
            for row in rows
            for place in row
        }
        x = _packed(rows, trunk, line, half)
        if x is not None:
            return {place: x[line[place]] for place in line}
    raise AssertionError("rows alone can always be packed")


def _trunk(rank: Sequence[int], edges: Sequence[tuple[int, int]]) -> set[int]:
    """The boxes of a longest path: one in each rank."""
    before: dict[int, int] = {}
    for start, end in edges:
        if rank[end] == rank[start] + 1:
            before.setdefault(end, start)
    box = max(range(len(rank)), key=lambda b: (rank[b], b))
    found = {box}
    while box in before:
        box = before[box]
        found.add(box)
    return found


def _chains(rank: Sequence[int], edges: Sequence[tuple[int, int]], trunk: set[int]) -> list[int]:
    """For each box the first of the chain that it stands in line with; the trunk is one."""
    near = [(s, e) for s, e in edges if rank[e] == rank[s] + 1]
    first = list(range(len(rank)))
    outs = [0] * len(rank)
    ins = [0] * len(rank)
    for start, end in near:
        outs[start] += 1
        ins[end] += 1
    for start, end in sorted(near, key=lambda e: e[1]):
        if outs[start] == ins[end] == 1 and start not in trunk and end not in trunk:
            first[end] = first[start]
    root = min(trunk)
    return [root if box in trunk else first[box] for box in range(len(rank))]


def _packed(
    rows: list[list[_Place]],
    trunk: set[int],
    line: dict[_Place, tuple[int, int]],
    half: dict[_Place, float],
) -> dict[tuple[int, int], float] | None:
    """x of each line, packed against the trunk at 0; None if their orders contradict."""
    x = dict.fromkeys(line.values(), 0.0)
    middles = [next(i for i, p in enumerate(row) if p[0] in trunk and line[p][1] == 0
                    and half[p] != _LANE / 2) for row in rows]  # fmt: skip
    for _ in range(len(rows) + 50):
        changed = False
        for row, middle in zip(rows, middles, strict=True):
            for sign, places in ((1, row[middle:]), (-1, row[middle::-1])):
                for near, far in itertools.pairwise(places):
                    least = sign * x[line[near]] + half[near] + half[far]
                    if sign * x[line[far]] < least - 1e-6:
                        x[line[far]] = sign * least
                        changed = True
        if not changed:
            return x
        if max(abs(v) for v in x.values()) > 2 * sum(half.values()):
            return None
    return None
