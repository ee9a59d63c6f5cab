"""The figure of a paper: the maps of a network as solids whose sizes are to scale.

A map (c, h, w) is a cuboid: its height and depth are the map's sides, its thickness the
channels. Pooling, activations and shortcuts are drawn where they happen; a block that repeats
is drawn once with how often; vectors are bars.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hubel.draw.graph import Graph, Kind
from hubel.draw.palette import KIND_COLOURS, Colouring, Palette
from hubel.draw.pieces import Piece, Run, runs
from hubel.draw.scene import ON_FILL, Scene, mixed
from hubel.draw.sheet import finish, opened
from hubel.draw.structure import skips
from hubel.draw.widths import words_width
from hubel.draw.words import shape_words

__all__ = ["paper_sheet"]

_SIDE, _THICK, _BAR = 190.0, 56.0, 150.0
"""Pixels of the largest side of a map, of most channels, and of the longest vector."""

_SLANT_X, _SLANT_Y = 0.30, 0.20
"""How far the back of a map stands from its front, as a share of its side."""

_ROW_WIDTH = 1500.0
_LADDER_GAP = 3.5


@dataclass(frozen=True)
class _Solid:
    """A piece on the sheet: the left of its front face, and its sides in pixels."""

    piece: Piece
    x: float
    thick: float
    height: float
    depth: float

    @property
    def slant(self) -> tuple[float, float]:
        return _SLANT_X * self.depth, _SLANT_Y * self.depth

    @property
    def bottom(self) -> float:
        """Below the middle line of the row; half the slant is above it."""
        return self.height / 2 + self.slant[1] / 2

    @property
    def top(self) -> float:
        """Of the front face."""
        return self.bottom - self.height

    @property
    def right(self) -> float:
        """Of the front face."""
        return self.x + self.thick


def paper_sheet(graph: Graph, colouring: Colouring) -> Scene:
    """The sheet of the figure."""
    scene = opened(graph, "The feature maps of the network as blocks, sizes to scale.")
    found = runs(graph)
    pieces = [p for run in found for p in run.pieces]
    palette = Palette.of(graph, colouring, (p.nodes for p in pieces))
    figure = _Figure(graph, scene, palette, found)
    figure.draw()
    kinds: list[Kind] = ["conv" if p.parts else p.kind for p in pieces]
    kinds += ["activation" for p in pieces if p.active]
    return finish(scene, graph, palette, kinds, figure.notes())


class _Figure:
    def __init__(self, graph: Graph, scene: Scene, palette: Palette, found: list[Run]) -> None:
        self.graph, self.scene, self.palette, self.runs = graph, scene, palette, found
        pieces = [p for run in found for p in run.pieces]
        sides = [s for p in pieces if p.is_map for s in p.shape[-2:]]
        maps = [p.channels for p in pieces if p.is_map or len(p.shape) == 2]
        vectors = [p.channels for p in pieces if not p.size]
        self.side, self.smallest = max(sides, default=1), min(sides, default=1)
        self.most, self.longest = max(maps, default=1), max(vectors, default=1)
        # Where sides differ much, their roots are drawn: else the last maps were dots.
        self.linear = self.side <= 8 * self.smallest
        self.skips = skips(graph)
        self.rows = self._rows()

    def _pixels(self, side: float) -> float:
        share = side / self.side
        return max(4.0, _SIDE * (share if self.linear else share**0.5))

    def _solid(self, piece: Piece, x: float) -> _Solid:
        thick = max(2.5, _THICK * (piece.channels / self.most) ** 0.5)
        if piece.is_map:
            height, width = (self._pixels(side) for side in piece.shape[-2:])
            if piece.parts and self._ladder(piece):
                thick = sum(self._slabs(piece)) + _LADDER_GAP * (len(piece.parts) - 1)
            return _Solid(piece, x, thick, height, width)
        if piece.size:
            side = self._pixels(piece.shape[0] ** 0.5)
            return _Solid(piece, x, thick, max(side, 60.0), 26.0)
        height = max(8.0, _BAR * (piece.channels / self.longest) ** 0.5)
        return _Solid(piece, x, 9.0, height, 18.0)

    def _ladder(self, piece: Piece) -> bool:
        return any(run.ladder and piece in run.pieces for run in self.runs)

    def _slabs(self, piece: Piece) -> list[float]:
        return [max(2.5, _THICK * (c / self.most) ** 0.5) for c in piece.parts]

    def _rows(self) -> list[list[tuple[Run, list[_Solid]]]]:
        """Solids placed from left to right; rows are parted where the size changes."""
        flat = self._placed(self.runs)
        total = flat[-1][1][-1].right
        wanted = max(1, round(total / _ROW_WIDTH + 0.2))
        if wanted == 1 or self.skips:
            return [flat]
        parted: list[list[Run]] = [[]]
        limit = total / wanted
        start = 0.0
        for (run, solids), (_, before) in zip(flat, [flat[0], *flat], strict=False):
            changed = solids[0].piece.size != before[-1].piece.size
            far = solids[-1].right - start > limit
            if parted[-1] and changed and far and len(parted) < wanted:
                parted.append([])
                start = solids[0].x
            parted[-1].append(run)
        return [self._placed(row) for row in parted]

    def _placed(self, row: Sequence[Run]) -> list[tuple[Run, list[_Solid]]]:
        found: list[tuple[Run, list[_Solid]]] = []
        before: _Solid | None = None
        for run in row:
            solids = []
            for turn, piece in enumerate(run.pieces):
                solid = self._solid(piece, 0.0)
                x = 0.0
                if before is not None:
                    near = before.piece.size == piece.size and bool(piece.size)
                    apart = 8.0 if near else before.slant[0] + 30.0
                    if near and any(turn == first for first, _ in run.arcs):
                        apart = before.slant[0] * 0.6 + 22.0
                    elif near and run.ladder:
                        apart = 20.0
                    elif near and found and turn == 0 and found[-1][0].arcs:
                        apart = before.slant[0] + 16.0
                    # Numbers below neighbours must not touch.
                    words = (_caption_width(before.piece) + _caption_width(piece)) / 2 + 7
                    x = max(before.right + apart, before.x + before.thick / 2 + words
                            - solid.thick / 2)  # fmt: skip
                solid = self._solid(piece, x)
                solids.append(solid)
                before = solid
            found.append((run, solids))
        return found

    def draw(self) -> None:
        """All rows, one below the other."""
        y = last_y = 0.0
        for number, row in enumerate(self.rows):
            solids = [s for _, members in row for s in members]
            above = max(s.height / 2 + s.slant[1] / 2 for s in solids) + 64
            y += above if number else 0.0
            if number:
                self._turn(self.rows[number - 1], last_y, y, y - above + 6)
            self._row(row, y)
            last_y = y
            y += max(s.bottom for s in solids) + 74

    def _turn(
        self, before: list[tuple[Run, list[_Solid]]], from_y: float, to_y: float, between: float
    ) -> None:
        end = before[-1][1][-1]
        right = end.right + end.slant[0]
        points = [(right + 4, from_y), (right + 24, from_y), (right + 24, between)]
        points += [(-34, between), (-34, to_y), (-6, to_y)]
        self.scene.line(points, arrow=True, radius=8)

    def _row(self, row: list[tuple[Run, list[_Solid]]], y: float) -> None:
        before: _Solid | None = None
        for run, solids in row:
            for solid in solids:
                if before is not None and before.piece.size != solid.piece.size:
                    self._arrow(before, solid, y)
                elif before is not None and not solid.piece.size:
                    self._arrow(before, solid, y)
                self._cuboid(run, solid, y)
                self._caption(solid, y)
                before = solid
            for first, last in run.arcs:
                self._arc(solids[first : last + 1], y)
            self._count(run, solids, y)
        self._sizes([s for _, members in row for s in members], y)
        self._skips([s for _, members in row for s in members], y)

    def _skips(self, solids: list[_Solid], y: float) -> None:
        """Lines over what long shortcuts pass, the inner ones below the outer ones."""
        place = {n: i for i, s in enumerate(solids) for n in s.piece.nodes}
        ends = {(place[a], place[b]) for a, b in self.skips if a in place and b in place}
        levels: list[tuple[int, int, float]] = []
        for first, last in sorted(ends, key=lambda e: e[1] - e[0]):
            past = solids[first : last + 1]
            level = min(s.top - s.slant[1] for s in past) - 14
            inner = [at for a, b, at in levels if a < last and first < b]
            level = min([level, *(at - 10 for at in inner)])
            levels.append((first, last, level))
            (x0, y0), (x1, y1) = (
                (s.x + s.thick / 2 + s.slant[0] / 2, y + s.top - s.slant[1] / 2)
                for s in (solids[first], solids[last])
            )
            self.scene.line([(x0, y0), (x0, y + level), (x1, y + level), (x1, y1)],
                            "accent", 1.4, arrow=True, radius=10)  # fmt: skip

    def _arrow(self, before: _Solid, after: _Solid, y: float) -> None:
        start = before.right + before.slant[0] * 0.75 + 3
        end = after.x - 3
        if end - start > 6:
            self.scene.line([(start, y), (end, y)], arrow=True, width=1.1)

    def _cuboid(self, run: Run, solid: _Solid, y: float) -> None:
        piece = solid.piece
        nodes = [self.graph.nodes[i] for i in piece.nodes]
        by_kind = self.palette.by_kind
        fill = self.palette.fill(nodes, "conv" if piece.parts else piece.kind)
        if run.ladder:
            x = solid.x
            middles = []
            for turn, thick in enumerate(self._slabs(piece)):
                shade = mixed(fill, "#ffffff", 0.45) if turn == 0 and by_kind else fill
                self._faces(x, thick, solid, y, shade, shade)
                middles.append(x + thick / 2 + solid.slant[0] / 2)
                x += thick + _LADDER_GAP
            self._ladder_arcs(middles, solid, y)
            return
        side = KIND_COLOURS["activation"] if piece.active and by_kind else fill
        self._faces(solid.x, solid.thick, solid, y, fill, side)
        if piece.parts:
            self._seams(piece, solid, y, fill)
        elif piece.active and by_kind:
            strip = min(5.0, max(1.6, 0.3 * solid.thick))
            self._faces(solid.right - strip, strip, solid, y, side, side)

    def _faces(self, x: float, thick: float, solid: _Solid, y: float, fill: str, side: str) -> None:
        """The front, the top and the right of a cuboid."""
        dx, dy = solid.slant
        top, bottom, right = y + solid.top, y + solid.bottom, x + thick
        line = "#4a5266"
        self.scene.polygon(
            [(x, top), (x + dx, top - dy), (right + dx, top - dy), (right, top)],
            mixed(fill, "#ffffff", 0.4), line, 0.6,
        )  # fmt: skip
        self.scene.polygon(
            [(right, top), (right + dx, top - dy), (right + dx, bottom - dy), (right, bottom)],
            mixed(side, "#000000", 0.14), line, 0.6,
        )  # fmt: skip
        self.scene.box(x, top, thick, solid.height, fill, line, 0.6)

    def _seams(self, piece: Piece, solid: _Solid, y: float, fill: str) -> None:
        """The branches that a concatenation is put together from, as thick as their channels."""
        dx, dy = solid.slant
        top, x = y + solid.top, solid.x
        for turn, channels in enumerate(piece.parts):
            thick = solid.thick * channels / sum(piece.parts)
            shade = mixed(fill, "#ffffff", 0.5) if turn % 2 else fill
            self.scene.box(x, top, thick, solid.height, shade, "#4a5266", 0.6)
            corners = [(x, top), (x + dx, top - dy), (x + thick + dx, top - dy), (x + thick, top)]
            self.scene.polygon(corners, mixed(shade, "#ffffff", 0.4), "#4a5266", 0.6)
            x += thick

    def _ladder_arcs(self, middles: list[float], solid: _Solid, y: float) -> None:
        base = y + solid.top - solid.slant[1] - 1
        width = 0.9 if len(middles) < 10 else 0.45
        for i, start in enumerate(middles):
            for end in middles[i + 1 :]:
                high = base - 5 - 0.42 * (end - start)
                self.scene.curve((start, base), (start, high), (end, high), (end, base),
                                 "accent", width)  # fmt: skip

    def _arc(self, solids: Sequence[_Solid], y: float) -> None:
        """A shortcut from before the first solid to behind the last."""
        first, last = solids[0], solids[-1]
        tall = max(solids, key=lambda s: s.height)
        base = y + tall.top - tall.slant[1] - 3
        start, end = first.x - 9 + first.slant[0] / 2, last.right + last.slant[0] + 6
        high = base - 22 - 0.06 * (end - start)
        low = y + last.top - last.slant[1] / 2
        self.scene.curve((start, base + 10), (start, high), (end, high), (end, low),
                         "accent", 1.6, arrow=True)  # fmt: skip
        self.scene.dot(end, low + 6.5, 6.5, "#4a5266")
        self.scene.dot(end, low + 6.5, 5.7, KIND_COLOURS["add"])
        self.scene.line([(end - 3.2, low + 6.5), (end + 3.2, low + 6.5)], ON_FILL, 1.2)
        self.scene.line([(end, low + 3.3), (end, low + 9.7)], ON_FILL, 1.2)

    def _count(self, run: Run, solids: list[_Solid], y: float) -> None:
        if run.count == 1:
            return
        left = solids[0].x - 9 + (solids[0].slant[0] / 2 if run.arcs else 0.0)
        right = solids[-1].right + solids[-1].slant[0] + (12 if run.arcs else 0)
        tall = max(solids, key=lambda s: s.height)
        # Above the highest arc: a curve rises by three quarters of what its handles do.
        widest = max((solids[b].right + solids[b].slant[0] - solids[a].x for a, b in run.arcs),
                     default=0.0)  # fmt: skip
        top = y + tall.top - tall.slant[1] - 28 - 0.05 * widest
        top -= 0.32 * (right - left) if run.ladder else 0.0
        corners = [(left, top + 5), (left, top), (right, top), (right, top + 5)]
        self.scene.line(corners, width=0.9)
        self.scene.text((left + right) / 2, top - 6, f"×{run.count}", 15, "middle", bold=True)

    def _caption(self, solid: _Solid, y: float) -> None:
        middle, base = solid.x + solid.thick / 2, y + solid.bottom + 14
        for turn, (words, size) in enumerate(_captions(solid.piece)):
            colour = "ink" if turn == 0 else "muted"
            self.scene.text(middle, base + 12 * turn, words, size, "middle", colour)

    def _sizes(self, solids: list[_Solid], y: float) -> None:
        """A bracket below solids of one size, with the size."""
        at = 0
        while at < len(solids):
            stop = at
            while stop < len(solids) and solids[stop].piece.size == solids[at].piece.size:
                stop += 1
            same = solids[at:stop]
            if same[0].piece.size:
                lines = max(len(_captions(s.piece)) for s in same)
                low = y + max(s.bottom for s in same) + 8 + 12.5 * lines
                left, right = same[0].x - 2, same[-1].right + 2
                self.scene.line([(left, low), (left, low + 4), (right, low + 4), (right, low)],
                                width=0.9)  # fmt: skip
                self.scene.text((left + right) / 2, low + 18, same[0].piece.size, 11.5, "middle",
                                bold=True)  # fmt: skip
            at = stop

    def notes(self) -> list[str]:
        """How to read the figure."""
        root = "" if self.linear else "the square root of "
        notes = [
            f"To scale: heights and depths as {root}the sides of a map, thickness as the square "
            f"root of its channels, bars as the square root of their length. Below each: "
            f"channels, window, /stride."
        ]
        found = self.runs
        more = []
        if any(run.arcs for run in found):
            more.append("arcs are shortcuts that are added")
        if self.skips:
            more.append("blue lines are long shortcuts, to what they are joined with")
        if any(run.ladder for run in found):
            more.append("dense blocks: a slab for each layer, arcs to all layers that read it")
        if any(p.parts for run in found if not run.ladder for p in run.pieces):
            more.append("parts of a block are branches that are concatenated")
        if any(run.count > 1 for run in found):
            more.append("×n: n such blocks in a row, the last is drawn")
        if more:
            notes.append("; ".join(more).capitalize() + ".")
        consumers = self.graph.consumers
        ends = [n for n, read in zip(self.graph.nodes[:-1], consumers, strict=False) if not read]
        if ends:
            others = ", ".join(shape_words(node.shape) for node in ends)
            notes.append(f"Drawn up to the last output; the others: {others}.")
        return notes


def _captions(piece: Piece) -> list[tuple[str, float]]:
    """The lines below a solid, and their sizes: channels, then the window."""
    found = [(shape_words((piece.channels,)), 11.0)]
    if piece.parts and len(piece.parts) > 6:
        found.append((f"{piece.parts[0]} + {len(piece.parts) - 1}×{piece.parts[1]}", 9.5))
    if piece.window and (piece.is_map or piece.kind in ("conv", "attention")):
        found.append((piece.window, 9.5))
    if piece.gated:
        found.append(("+ gate", 9.5))
    return found


def _caption_width(piece: Piece) -> float:
    return max(words_width(words, size) for words, size in _captions(piece))
