"""Matrices as boards of cells: where each cell of a 1-D, 2-D or 3-D array is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from hubel.draw.svg import add, decimal, text

__all__ = ["CELL_STYLE", "Board", "sheet_header", "short", "text_width", "written_sum"]

CELL_STYLE = (
    ".cell{fill:$surface;stroke:$grid;stroke-width:1} "
    ".pad{fill:none;stroke:$grid;stroke-dasharray:3 3} "
    ".seen{fill:$tint;stroke:$accent} .made{fill:$tint;stroke:$accent;stroke-width:2} "
    ".frame{fill:$accent;fill-opacity:.13;stroke:$accent;stroke-width:2} "
    ".unseen{fill:url(#unseen)} .hatch{stroke:$muted;stroke-width:1;opacity:.45} "
    ".zero{fill:$muted} .weight{fill:$second} .strong{font-weight:600} "
)
"""Style of the classes that boards use."""


def short(value: float, digits: int = 2) -> str:
    """A number for a cell: few characters, a true minus.

    >>> short(-2.0), short(1 / 3), short(123456789.0), short(float("-inf"))
    ('−2', '0.33', '1.2e+08', '−∞')
    """
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "−∞"
    large = abs(value) >= 1e6 or 0 < abs(value) < 0.5 * 10**-digits
    return (f"{value:.2g}" if large else decimal(value, digits)).replace("-", "−", 1)


def written_sum(terms: Sequence[float], digits: int = 2) -> str:
    """Terms joined by their signs.

    >>> written_sum([1, -2, 0])
    '1 − 2 + 0'
    """
    words = short(terms[0], digits)
    for term in terms[1:]:
        sign = "−" if term < 0 else "+"
        words += f" {sign} {short(abs(term), digits)}"
    return words


def text_width(words: str, size: float) -> float:
    """Pixels that `words` take at most, roughly: enough to lay out a drawing without clipping."""
    return 0.62 * size * len(words)


@dataclass(frozen=True)
class Board:
    """A grid of cells whose first is drawn at (x, y); slices of a 3-D array lie side by side."""

    x: float
    y: float
    size: tuple[int, ...]
    cell: float
    height_of_cell: float = 0
    """Where cells are not square."""

    @property
    def _slices_rows_columns(self) -> tuple[int, int, int]:
        slices, rows, columns = (1,) * (3 - len(self.size)) + self.size
        return slices, rows, columns

    @property
    def cell_height(self) -> float:
        """Height of a cell."""
        return self.height_of_cell or self.cell

    @property
    def _slice_width(self) -> float:
        return (self._slices_rows_columns[2] + 0.5) * self.cell

    @property
    def width(self) -> float:
        """Of the whole board."""
        return self._slices_rows_columns[0] * self._slice_width - 0.5 * self.cell

    @property
    def height(self) -> float:
        """Of the whole board."""
        return self._slices_rows_columns[1] * self.cell_height

    def place(self, index: Sequence[int]) -> tuple[float, float]:
        """Upper left corner of the cell at `index`."""
        plane, row, column = (0,) * (3 - len(index)) + tuple(index)
        return (
            self.x + plane * self._slice_width + column * self.cell,
            self.y + row * self.cell_height,
        )

    def rect(self, parent: Element, index: Sequence[int], classes: str) -> Element:
        """The cell's rectangle."""
        x, y = self.place(index)
        return add(
            parent,
            "rect",
            {"x": x, "y": y, "width": self.cell, "height": self.cell_height, "class": classes},
        )

    def number(
        self,
        parent: Element,
        index: Sequence[int],
        words: str,
        *,
        size: float = 0,
        classes: str = "",
        down: float = 0.5,
    ) -> Element:
        """`words` in the middle of the cell, `down` of its height, small enough to fit."""
        x, y = self.place(index)
        wanted = size or 0.42 * self.cell
        fitting = min(wanted, (self.cell - 4) / (0.6 * max(1, len(words))))
        return text(
            parent,
            x + self.cell / 2,
            y + down * self.cell_height + 0.35 * fitting,
            words,
            size=fitting,
            classes=f"middle {classes}".strip(),
        )

    def caption(self, parent: Element, words: str) -> None:
        """A line over the board."""
        text(parent, self.x, self.y - 8, words, size=12, classes="muted")


def sheet_header(parent: Element, title: str, lines: Sequence[str], x: float = 24) -> float:
    """A title and lines under it from the drawing's top; returns the y below them."""
    text(parent, x, 38, title, size=18, classes="strong")
    for number, line in enumerate(lines):
        text(parent, x, 62 + 18 * number, line, size=12.5, classes="muted")
    return 62 + 18 * len(lines) + 8
