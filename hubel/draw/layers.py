"""The full graph of a network: every layer a row, every connection a line.

Layers that follow one another without a branch share a box. Lines that pass over boxes
(shortcuts, dense connections) run in lanes of their own beside them. A long network goes on
in the next column.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from hubel.draw.graph import Graph
from hubel.draw.layered import Layered, layered
from hubel.draw.palette import Colouring, Palette
from hubel.draw.scene import ON_FILL, Point, Scene
from hubel.draw.sheet import finish, opened
from hubel.draw.structure import Unit, units
from hubel.draw.widths import words_width
from hubel.draw.words import shape_words

__all__ = ["Flow", "draw_flow", "flow_size", "laid_out", "layers_sheet"]

_ROW, _SIZE = 15.0, 10.5
_GAP = 26.0
_BETWEEN = 78.0
_ASPECT = 16 / 9
_STUB = 14.0


@dataclass(frozen=True)
class Flow:
    """Boxes laid out: where each stands, and in which column."""

    graph: Graph
    boxes: tuple[Unit, ...]
    edges: tuple[tuple[int, int], ...]
    layout: Layered
    widths: tuple[float, ...]
    heights: tuple[float, ...]
    """Of the ranks."""
    breaks: tuple[int, ...]
    """The first rank of each column, and the number of ranks."""

    def column(self, rank: int) -> int:
        """The column of a rank."""
        return sum(1 for b in self.breaks[1:-1] if rank >= b)

    @property
    def crossing(self) -> list[int]:
        """For each break between columns, how many boxes have lines over it."""
        rank = self.layout.rank
        return [
            len({s for s, e in self.edges if rank[s] < cut <= rank[e]}) for cut in self.breaks[1:-1]
        ]


def layers_sheet(graph: Graph, colouring: Colouring) -> Scene:
    """The sheet of the whole graph."""
    scene = opened(graph, "Every layer of the network and every connection between them.")
    palette = Palette.of(graph, colouring, ([n] for n in range(len(graph.nodes))))
    flow = laid_out(graph, range(len(graph.nodes)), wrap=True)
    draw_flow(flow, scene, palette, (0.0, 0.0))
    notes = ["a row is a layer with the shape of its output; rows in one box follow each other"]
    if any(flow.layout.lanes):
        notes[0] += "; blue lines are shortcuts past other layers"
    notes[0] = notes[0].capitalize() + "."
    return finish(scene, graph, palette, [node.kind for node in graph.nodes], notes)


def draw_flow(flow: Flow, scene: Scene, palette: Palette, origin: Point) -> None:
    """Draw boxes and lines; `origin` is the upper left corner."""
    _Drawing(flow, scene, palette, origin).draw()


def flow_size(flow: Flow) -> tuple[float, float]:
    """Width and height that boxes and lines take."""
    columns = list(itertools.pairwise(flow.breaks))
    sides = [_extent(flow, first, stop) for first, stop in columns]
    width = sum(right - left for left, right in sides) + _BETWEEN * (len(columns) - 1)
    return width, max(sum(flow.heights[a:b]) + _GAP * (b - a - 1) for a, b in columns)


def _rows(graph: Graph, box: Unit) -> list[tuple[str, str]]:
    """Label and shape of each row; the shape only where it changes."""
    found = []
    before: tuple[int, ...] | None = None
    for index in box.nodes:
        node = graph.nodes[index]
        label = "concatenate" if node.label == "concat" else node.label
        label = "dense" if node.kind == "dense" else label
        label = "add" if label == "+" else "multiply" if label == "×" else label
        found.append((label, shape_words(node.shape) if node.shape != before else ""))
        before = node.shape
    return found


def laid_out(graph: Graph, within: Sequence[int], *, wrap: bool) -> Flow:
    """The layout of the nodes `within`, in columns of about the shape of a slide if `wrap`."""
    boxes = units(graph, within)
    owner = {n: b for b, box in enumerate(boxes) for n in box.nodes}
    edges = sorted(
        {(owner[s], owner[e]) for s, e in graph.edges if s in owner and e in owner
         and owner[s] != owner[e]},
        key=lambda edge: (edge[1], edge[0]),
    )  # fmt: skip
    widths = tuple(_width(_rows(graph, box)) for box in boxes)
    layout = layered(widths, edges)
    heights = [0.0] * (max(layout.rank) + 1)
    for box, rank in zip(boxes, layout.rank, strict=True):
        heights[rank] = max(heights[rank], _ROW * len(box.nodes))
    flow = Flow(
        graph, tuple(boxes), tuple(edges), layout, widths, tuple(heights), (0, len(heights))
    )
    if not wrap:
        return flow
    return Flow(graph, tuple(boxes), tuple(edges), layout, widths, tuple(heights), _breaks(flow))


def _width(rows: list[tuple[str, str]]) -> float:
    """Of a box with these rows, in steps, so that most boxes are alike."""
    widest = max(words_width(a + b, _SIZE) + (26 if b else 12) for a, b in rows)
    return max(120.0, 20 * math.ceil(widest / 20))


def _breaks(flow: Flow) -> tuple[int, ...]:
    """Where the columns begin, so that the sheet has about the shape of a slide."""
    tops = [0.0, *itertools.accumulate(h + _GAP for h in flow.heights)]
    left, right = _extent(flow, 0, len(flow.heights))
    total, width = tops[-1], right - left + _BETWEEN
    columns = min(
        range(1, 17),
        key=lambda n: max(n * width / (total / n) / _ASPECT, _ASPECT * (total / n) / (n * width)),
    )
    passing = [0] * (len(flow.heights) + 1)
    rank = flow.layout.rank
    for start in range(len(flow.boxes)):
        ends = [rank[e] for s, e in flow.edges if s == start]
        for cut in range(rank[start] + 1, max(ends, default=rank[start]) + 1):
            passing[cut] += 1
    found = [0]
    for column in range(1, columns):
        target = column * total / columns
        choices = [c for c in range(found[-1] + 1, len(flow.heights)) if _near(
            tops[c], target, 0.16 * total / columns)]  # fmt: skip
        if choices:
            found.append(min(choices, key=lambda c: 250 * (passing[c] - 1) + abs(tops[c] - target)))
    return (*found, len(flow.heights))


def _near(value: float, target: float, distance: float) -> bool:
    return abs(value - target) <= distance


def _extent(flow: Flow, first: int, stop: int) -> tuple[float, float]:
    """The left and right edge of the ranks from `first` on, lanes included."""
    layout = flow.layout
    edges = [
        (x - w / 2, x + w / 2)
        for x, w, r in zip(layout.x, flow.widths, layout.rank, strict=True)
        if first <= r < stop
    ]
    edges += [(x, x) for (_, r), x in layout.lanes.items() if first <= r < stop]
    return min(e[0] for e in edges), max(e[1] for e in edges)


class _Drawing:
    def __init__(self, flow: Flow, scene: Scene, palette: Palette, origin: Point) -> None:
        self.flow, self.scene, self.palette = flow, scene, palette
        self.top: list[float] = []  # of each rank
        self.shift: list[float] = []  # of each rank, to the right
        self.ends: list[tuple[float, float]] = []  # top and bottom of each column
        self.right: list[float] = []  # of each column
        at = origin[0]
        for first, stop in itertools.pairwise(flow.breaks):
            left, right = _extent(flow, first, stop)
            y = origin[1]
            for rank in range(first, stop):
                self.top.append(y)
                self.shift.append(at - left)
                y += flow.heights[rank] + _GAP
            self.ends.append((origin[1], y - _GAP))
            self.right.append(at + right - left)
            at += right - left + _BETWEEN
        self.crossing = flow.crossing

    def draw(self) -> None:
        far: dict[int, list[int]] = {}
        rank = self.flow.layout.rank
        for start, end in self.flow.edges:
            if rank[end] == rank[start] + 1:
                self._short(start, end)
            else:
                far.setdefault(start, []).append(end)
        for start, ends in far.items():
            self._lane(start, sorted(ends, key=lambda e: rank[e]))
        for number, count in enumerate(self.crossing):
            if count > 1:
                self._say(number)
        for box in range(len(self.flow.boxes)):
            self._box(box)

    def _x(self, box: int, rank: int | None = None) -> float:
        """Of the middle of a box, or of its lane in a rank."""
        own = self.flow.layout.rank[box]
        if rank is None or rank == own:
            return self.flow.layout.x[box] + self.shift[own]
        return self.flow.layout.lanes[(box, rank)] + self.shift[rank]

    def _bottom(self, box: int) -> float:
        return self.top[self.flow.layout.rank[box]] + _ROW * len(self.flow.boxes[box].nodes)

    def _short(self, start: int, end: int) -> None:
        rank = self.flow.layout.rank[start]
        a, b = (self._x(start), self._bottom(start)), (self._x(end), self.top[rank + 1])
        column = self.flow.column(rank)
        if self.flow.column(rank + 1) != column:
            self._over(column, a, b, "muted")
            return
        low = self.top[rank] + self.flow.heights[rank]
        if abs(a[0] - b[0]) < 1:
            self.scene.line([a, b], arrow=True)
            return
        if low > a[1]:
            self.scene.line([a, (a[0], low)])
        middle = (low + b[1]) / 2
        self.scene.curve((a[0], low), (a[0], middle), (b[0], middle), b, arrow=True)

    def _over(self, column: int, a: Point, b: Point, colour: str, *, arrow: bool = True) -> None:
        """A line from the end of one column to the beginning of the next."""
        top, bottom = self.ends[column + 1][0], self.ends[column][1]
        if self.crossing[column] == 1:
            gutter = self.right[column] + _BETWEEN / 2
            points = [a, (a[0], bottom + _STUB), (gutter, bottom + _STUB), (gutter, top - _STUB)]
            points += [(b[0], top - _STUB), b]
            self.scene.line(points, colour, arrow=arrow, radius=8)
            return
        self.scene.line([a, (a[0], bottom + _STUB)], colour)
        self.scene.dot(a[0], bottom + _STUB, 2, colour)
        self.scene.dot(b[0], top - _STUB, 2, colour)
        self.scene.line([(b[0], top - _STUB), b], colour)

    def _say(self, column: int) -> None:
        """How many lines go on from one column in the next."""
        rank, cut = self.flow.layout.rank, self.flow.breaks[column + 1]
        # A box has one line to the next rank, and one lane for all beyond.
        over = [(s, rank[e] == rank[s] + 1) for s, e in self.flow.edges if rank[s] < cut <= rank[e]]
        count = len(set(over))
        top, bottom = self.ends[column + 1][0], self.ends[column][1]
        words = f"{count} lines go on in the next column"
        self.scene.text(self.right[column], bottom + 30, words, 10, "end", "muted")
        words = f"{count} lines from the column before"
        self.scene.text(self.right[column + 1], top - 22, words, 10, "end", "muted")

    def _lane(self, start: int, ends: list[int]) -> None:
        """One line out of a box past others, and from it a tap into each box that it feeds."""
        layout, scene = self.flow.layout, self.scene
        rank = layout.rank[start]
        low = self.top[rank] + self.flow.heights[rank] + 7
        # A line is a shortcut where its start feeds something else, too.
        feeds = sum(1 for s, _ in self.flow.edges if s == start)
        colour = "accent" if feeds > 1 else "muted"
        points: list[Point] = [(self._x(start), self._bottom(start)), (self._x(start), low)]
        for passed in range(rank + 1, layout.rank[ends[-1]]):
            x = self._x(start, passed)
            if self.flow.column(passed) != self.flow.column(passed - 1):
                scene.line(points, colour, radius=6)
                self._over(
                    self.flow.column(passed - 1), points[-1], (x, self.top[passed]), colour,
                    arrow=False,
                )  # fmt: skip
                points = [(x, self.top[passed])]
            elif abs(x - points[-1][0]) > 0.5:
                if passed > rank + 1:
                    points.append((points[-1][0], self.top[passed] - _GAP / 2))
                points.append((x, points[-1][1]))
            points.append((x, self.top[passed] + self.flow.heights[passed]))
        for end in ends:
            before = layout.rank[end] - 1
            x, into = self._x(start, before), self._x(end)
            y = self.top[before + 1] - 9
            last = end == ends[-1]
            bottom = self.top[before] + self.flow.heights[before]
            if self.flow.column(before) != self.flow.column(before + 1):
                if last:
                    scene.line(points, colour, radius=6)
                self._over(
                    self.flow.column(before), (x, bottom), (into, self.top[before + 1]), colour
                )
                continue
            tap = [(x, y), (into, y), (into, self.top[before + 1])]
            if last:
                scene.line([*points, *tap], colour, radius=6, arrow=True)
            else:
                scene.line(tap, colour, radius=6, arrow=True)
                scene.dot(x, y, 2.2, colour)

    def _box(self, box: int) -> None:
        graph, width = self.flow.graph, self.flow.widths[box]
        x, y = self._x(box) - width / 2, self.top[self.flow.layout.rank[box]]
        unit = self.flow.boxes[box]
        for turn, (label, shape) in enumerate(_rows(graph, unit)):
            node = graph.nodes[unit.nodes[turn]]
            fill = self.palette.fill([node])
            self.scene.box(x, y + turn * _ROW, width, _ROW, fill, "#8a8f9c", 0.5)
            base = y + turn * _ROW + 11
            self.scene.text(x + 6, base, label, _SIZE, colour=ON_FILL)
            self.scene.text(x + width - 6, base, shape, _SIZE, "end", ON_FILL)
        self.scene.box(x, y, width, _ROW * len(unit.nodes), None, "#3b4356", 1)
