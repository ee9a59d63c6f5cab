"""A drawing of a few kinds of marks, of which SVG and TikZ are two spellings.

Lengths are pixels, y points down. A colour is '#rrggbb', the same for every reader, or the
name of one of `hubel.draw.svg.LIGHT`, which follows the reader's light or dark setting. The
sheet grows to hold all that is on it, so nothing is ever cut off.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from xml.etree.ElementTree import Element

from hubel.draw.svg import add, decimal, document
from hubel.draw.widths import words_width

__all__ = ["ON_FILL", "Anchor", "Line", "Mark", "Point", "Scene", "Words", "mixed"]

Point: TypeAlias = tuple[float, float]
Anchor: TypeAlias = Literal["start", "middle", "end"]

ON_FILL = "#1b2333"
"""Words on a coloured face: all faces are light enough for it."""

_MARGIN = 28.0


@dataclass(frozen=True)
class Line:
    """A path: a point to start at, then points to go straight to, or 3 of a cubic curve."""

    start: Point
    moves: tuple[tuple[Point, ...], ...]
    closed: bool = False
    fill: str | None = None
    stroke: str | None = "muted"
    width: float = 1.0
    dashed: bool = False

    @property
    def points(self) -> list[Point]:
        """All of them, those that only bend a curve, too."""
        return [self.start, *(p for move in self.moves for p in move)]

    def outline(self) -> Iterator[Point]:
        """Points on the path: its corners, and some of each curve."""
        at = self.start
        yield at
        for move in self.moves:
            if len(move) == 3:
                yield from (_on_curve(at, move, turn / 8) for turn in range(1, 8))
            at = move[-1]
            yield at


@dataclass(frozen=True)
class Words:
    """A line of text whose baseline starts, has its middle, or ends at (x, y)."""

    x: float
    y: float
    words: str
    size: float = 12.0
    anchor: Anchor = "start"
    colour: str = "ink"
    bold: bool = False


Mark: TypeAlias = Line | Words


@dataclass
class Scene:
    """A sheet: its title and description for those who do not see it, and its marks in order."""

    title: str
    description: str
    marks: list[Mark] = field(default_factory=list)

    def polygon(
        self, points: Sequence[Point], fill: str | None, stroke: str | None = "#3b4356",
        width: float = 0.8, dashed: bool = False,
    ) -> None:  # fmt: skip
        """A closed shape of straight sides."""
        self.marks.append(
            Line(points[0], tuple((p,) for p in points[1:]), True, fill, stroke, width, dashed)
        )

    def box(
        self, x: float, y: float, width: float, height: float, fill: str | None,
        stroke: str | None = "#3b4356", line: float = 0.8, dashed: bool = False,
    ) -> None:  # fmt: skip
        """A rectangle whose upper left corner is (x, y)."""
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        self.polygon(corners, fill, stroke, line, dashed)

    def line(
        self, points: Sequence[Point], stroke: str = "muted", width: float = 1.2,
        dashed: bool = False, arrow: bool = False, radius: float = 0.0,
    ) -> None:  # fmt: skip
        """Straight pieces, their corners rounded by `radius`, with a head at the end if wanted."""
        moves: list[tuple[Point, ...]] = []
        for before, at, after in zip(points, points[1:], points[2:], strict=False):
            r = min(radius, _length(before, at) / 2, _length(at, after) / 2)
            if r < 0.5:
                moves.append((at,))
                continue
            into, out = _towards(at, before, r), _towards(at, after, r)
            moves += [(into,), (_towards(into, at, r * 0.55), _towards(out, at, r * 0.55), out)]
        moves.append((points[-1],))
        self.marks.append(Line(points[0], tuple(moves), stroke=stroke, width=width, dashed=dashed))
        if arrow:
            self._head(points[-2], points[-1], stroke)

    def curve(
        self, start: Point, first: Point, second: Point, end: Point, stroke: str = "muted",
        width: float = 1.2, arrow: bool = False,
    ) -> None:  # fmt: skip
        """A cubic curve."""
        self.marks.append(Line(start, ((first, second, end),), stroke=stroke, width=width))
        if arrow:
            self._head(second, end, stroke)

    def text(
        self, x: float, y: float, words: str, size: float = 12.0, anchor: Anchor = "start",
        colour: str = "ink", bold: bool = False,
    ) -> None:  # fmt: skip
        """A line of text."""
        self.marks.append(Words(x, y, words, size, anchor, colour, bold))

    def dot(self, x: float, y: float, radius: float, fill: str = "muted") -> None:
        """A filled circle."""
        k = 0.5523 * radius
        moves = (
            ((x + radius, y + k), (x + k, y + radius), (x, y + radius)),
            ((x - k, y + radius), (x - radius, y + k), (x - radius, y)),
            ((x - radius, y - k), (x - k, y - radius), (x, y - radius)),
            ((x + k, y - radius), (x + radius, y - k), (x + radius, y)),
        )
        self.marks.append(Line((x + radius, y), moves, True, fill, None))

    def _head(self, before: Point, end: Point, colour: str) -> None:
        back, size = _towards(end, before, 6.5), 3.0
        length = _length(before, end) or 1.0
        across = (-(end[1] - before[1]) / length * size, (end[0] - before[0]) / length * size)
        left = (back[0] + across[0], back[1] + across[1])
        right = (back[0] - across[0], back[1] - across[1])
        self.polygon([end, left, right], colour, None)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of all marks."""
        xs: list[float] = []
        ys: list[float] = []
        for mark in self.marks:
            if isinstance(mark, Line):
                seen = list(mark.outline())
                xs += [x for x, _ in seen]
                ys += [y for _, y in seen]
                continue
            # A system with neither of the fonts may take one wider still.
            width = 1.08 * words_width(mark.words, mark.size, bold=mark.bold)
            left = mark.x - {"start": 0.0, "middle": width / 2, "end": width}[mark.anchor]
            xs += [left, left + width]
            ys += [mark.y - mark.size, mark.y + 0.3 * mark.size]
        return min(xs, default=0), min(ys, default=0), max(xs, default=0), max(ys, default=0)

    def svg(self) -> Element:
        """The sheet as a drawing of its own."""
        left, top, right, bottom = self.bounds
        width, height = right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN
        roles = ("surface", "ink", "muted", "grid", "accent", "second", "tint")
        style = " ".join(f".f-{r}{{fill:${r}}} .s-{r}{{stroke:${r}}}" for r in roles)
        root = document(width, height, self.title, self.description, style=style)
        move = f"translate({decimal(_MARGIN - left)} {decimal(_MARGIN - top)})"
        sheet = add(root, "g", {"transform": move})
        for mark in self.marks:
            if isinstance(mark, Line):
                _add_line(sheet, mark)
            else:
                _add_words(sheet, mark)
        return root


def _add_line(sheet: Element, line: Line) -> None:
    path = f"M{_pair(line.start)}"
    for move in line.moves:
        path += ("C" if len(move) == 3 else "L") + " ".join(_pair(p) for p in move)
    attributes: dict[str, str | float] = {"d": path + ("Z" if line.closed else "")}
    classes = []
    for name, short, colour in (("fill", "f", line.fill), ("stroke", "s", line.stroke)):
        if colour is None:
            attributes[name] = "none"
        elif colour.startswith("#"):
            attributes[name] = colour
        else:
            classes.append(f"{short}-{colour}")
    if classes:
        attributes["class"] = " ".join(classes)
    if line.stroke is not None:
        attributes |= {"stroke-width": line.width, "stroke-linejoin": "round"}
    if line.dashed:
        attributes["stroke-dasharray"] = "4 3"
    add(sheet, "path", attributes)


def _add_words(sheet: Element, words: Words) -> None:
    attributes: dict[str, str | float] = {"x": words.x, "y": words.y, "font-size": words.size}
    classes: list[str] = [] if words.anchor == "start" else [words.anchor]
    if words.colour.startswith("#"):
        attributes["style"] = f"fill:{words.colour}"  # a style outweighs the sheet's rule for text
    elif words.colour != "ink":
        classes.append(f"f-{words.colour}")
    if words.bold:
        attributes["font-weight"] = "600"
    if classes:
        attributes["class"] = " ".join(classes)
    add(sheet, "text", attributes, words.words)


def _on_curve(start: Point, move: tuple[Point, ...], t: float) -> Point:
    """The point at `t` from 0 to 1 of a cubic curve."""
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
    points = (start, *move)
    return (
        sum(w * x for w, (x, _) in zip(weights, points, strict=True)),
        sum(w * y for w, (_, y) in zip(weights, points, strict=True)),
    )


def _pair(point: Point) -> str:
    return f"{decimal(point[0])} {decimal(point[1])}"


def _length(a: Point, b: Point) -> float:
    return float(((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5)


def _towards(start: Point, end: Point, distance: float) -> Point:
    share = distance / (_length(start, end) or 1.0)
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def mixed(colour: str, other: str, share: float) -> str:
    """`colour` with `share` of `other` in it, both '#rrggbb'.

    >>> mixed("#000000", "#ffffff", 0.5)
    '#808080'
    """
    pairs = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)


def _channels(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
