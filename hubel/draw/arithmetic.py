"""A static sheet of a worked example: every window with its numbers, products and sum."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from hubel.conv.size_steps import AXES, size_steps
from hubel.conv.worked import Walk, Worked
from hubel.draw.cells import CELL_STYLE, Board, sheet_header, short, text_width, written_sum
from hubel.draw.svg import add, document, text
from hubel.errors import UserError
from hubel.shapes import format_shape

__all__ = [
    "MAX_PANELS",
    "arithmetic_sheet",
    "described",
    "draw_grid",
    "factors",
    "hatching",
    "heading",
    "legend",
    "num_panels",
    "sum_line",
]

MAX_PANELS = 64
"""The most windows that one sheet draws."""

_MAX_CELLS = 40_000
_MARGIN = 24.0
_LONGEST_SUM = 16


def described(walk: Walk) -> str:
    """One line that names the operation and its arguments.

    >>> from hubel.conv.worked import walk_of
    >>> described(walk_of("max", (5, 5), 3))
    'max pooling of a 5×5 input with a 3×3 window, stride 1, no padding'
    """
    pooling = walk.operation in ("max", "average")
    what = f"{walk.operation} pooling" if pooling else walk.operation
    window = "window" if pooling else "kernel"
    if len(walk.size) == 1:
        words = f"{what} of {walk.size[0]} pixels with a {window} of {walk.kernel_size[0]}"
    else:
        size, taps = format_shape(*walk.size), format_shape(*walk.kernel_size)
        words = f"{what} of a {size} input with a {taps} {window}"
    words += f", stride {_one_or_each(walk.stride)}, "
    sides = [low if low == high else f"{low}:{high}" for low, high in walk.padding]
    padding = _one_or_each(sides)
    words += "no padding" if padding == "0" else f"padding {padding}"
    if set(walk.dilation) != {1}:
        words += f", dilation {_one_or_each(walk.dilation)}"
    if any(walk.output_padding):
        words += f", output padding {_one_or_each(walk.output_padding)}"
    return words


def heading(walk: Walk) -> str:
    """`described` as a title."""
    words = described(walk)
    return words[0].upper() + words[1:]


def _one_or_each(values: Sequence[int | str]) -> str:
    return str(values[0]) if len(set(values)) == 1 else "×".join(map(str, values))


def num_panels(walk: Walk) -> int:
    """How many windows a sheet of `walk` draws: all, or the first that fit it.

    At least one; `UserError` if even one has too many cells to be read.
    """
    cells = math.prod(walk.grid_size) + walk.num_taps
    if cells > _MAX_CELLS // 8:
        raise UserError(
            f"--svg draws grids of at most {_MAX_CELLS // 8:,} cells, this one has {cells:,}; "
            f"take a smaller --input"
        )
    return min(walk.num_outputs, MAX_PANELS, _MAX_CELLS // cells)


def sum_line(worked: Worked, stop: Sequence[int], digits: int = 2) -> str:
    """How the output at `stop` comes out of its products: "0 + 2 + 4 = 6", "max(1, 3) = 3"."""
    operation = worked.walk.operation
    result = short(float(worked.output[tuple(stop)]), digits)
    terms = [float(v) for v in worked.products(stop).ravel()]
    if operation == "max":
        terms = [float(v) for v in worked.products(stop)[worked.inside(stop)].ravel()]
        seen = ", ".join(short(t, digits) for t in terms)
        return f"max({seen}) = {result}" if len(terms) <= _LONGEST_SUM else f"max = {result}"
    if len(terms) > _LONGEST_SUM:
        written = f"sum of {len(terms)} numbers"
    else:
        written = written_sum(terms, digits)
    if operation == "average":
        return f"({written}) / {len(terms)} = {result}"
    return f"{written} = {result}"


def factors(worked: Worked, stop: Sequence[int], tap: tuple[int, ...], digits: int = 2) -> str:
    """What is multiplied at `tap`: "2·(−1)"; for pooling the value alone."""
    value = short(float(worked.values(stop)[tap]), digits)
    if worked.window is None:
        return value
    weight = short(float(worked.window[tap]), digits)
    return f"{value}·({weight})" if weight.startswith("−") else f"{value}·{weight}"


def unseen_cells(walk: Walk) -> NDArray[np.bool_]:
    """Which pixels (*size) no window reads: those in a row, column or slice that none does."""
    unseen = np.zeros(walk.size, dtype=bool)
    for axis, indices in enumerate(walk.unseen()):
        unseen[(slice(None),) * axis + (list(indices),)] = True
    return unseen


def draw_grid(parent: Element, board: Board, worked: Worked, digits: int) -> None:
    """The grid with its numbers: padding dashed, pixels that no window reads hatched."""
    unseen = unseen_cells(worked.walk).ravel()
    for index in np.ndindex(*worked.walk.grid_size):
        pixel = int(worked.source[index])
        padding = pixel < 0
        classes = "pad" if padding else "cell unseen" if unseen[pixel] else "cell"
        board.rect(parent, index, classes)
        if padding and worked.walk.operation == "max":
            continue  # padding takes no part in a maximum
        words = short(float(worked.grid[index]), digits)
        board.number(parent, index, words, classes="zero" if padding else "")


def hatching(svg: Element) -> None:
    """The pattern of pixels that no window reads."""
    pattern = add(
        add(svg, "defs", {}),
        "pattern",
        {"id": "unseen", "width": 6, "height": 6, "patternUnits": "userSpaceOnUse"},
    )
    add(pattern, "path", {"d": "M0 6L6 0", "class": "hatch"})


def legend(worked: Worked) -> str:
    """What the marks of this drawing mean, in words."""
    walk = worked.walk
    words = []
    if walk.operation == "transposed convolution":
        words.append("dashed: zeros between and around the pixels; the kernel is turned by 180°")
    elif (worked.source < 0).any():
        words.append("dashed: padding" + (" (no part in a maximum)" * (walk.operation == "max")))
    if any(walk.unseen()):
        words.append("hatched: pixels that no window reads")
    if len(walk.size) == 3:
        words.append("slices side by side")
    return "; ".join(words)


def arithmetic_sheet(worked: Worked, digits: int = 2) -> Element:
    """The sheet: input, kernel, output, then a panel for each stop of the window.

    A panel shows the window on the grid, value · weight and the product in each of its cells,
    and the sum under them. `UserError` if the grid is too large to be read.
    """
    walk = worked.walk
    shown = num_panels(walk)
    lines = [
        f"{step.axis}s: " + "; ".join(f"{what} {formula}" for what, formula in step.lines)
        for step in size_steps(walk)
    ]
    marks = legend(worked)
    lines += [marks] if marks else []
    if shown < walk.num_outputs:
        lines.append(f"the first {shown} of {walk.num_outputs} windows")

    panel = _panel_layout(worked, shown, digits)
    title = heading(walk)
    top = 62 + 18 * len(lines) + 34
    boards = _overview(worked, top)
    overview_right = max(board.x + board.width for board, _, _ in boards)
    overview_bottom = max(board.y + board.height for board, _, _ in boards)
    per_row = max(1, int((1180 - _MARGIN) // (panel.width + 28)))
    width = max(
        overview_right,
        min(per_row, shown) * (panel.width + 28) - 28 + _MARGIN,
        _MARGIN + max([text_width(title, 18), *(text_width(line, 12.5) for line in lines)]),
    )
    first = overview_bottom + 52
    num_rows = -(-shown // per_row)
    height = first + num_rows * (panel.height + 44)

    told = f"Input, kernel, output, and {shown} windows with products and sums. {'. '.join(lines)}."
    svg = document(width + _MARGIN, height, title, told, style=CELL_STYLE)
    hatching(svg)
    sheet_header(svg, title, lines)
    for board, caption, values in boards:
        board.caption(svg, caption)
        for index in np.ndindex(*values.shape):
            board.rect(svg, index, "cell")
            board.number(svg, index, short(float(values[index]), digits))
    for number, stop in enumerate(itertools.islice(walk.stops(), shown)):
        row, column = divmod(number, per_row)
        x = _MARGIN + column * (panel.width + 28)
        _draw_panel(svg, worked, stop, x, first + row * (panel.height + 44), digits)
    return svg


def _overview(worked: Worked, top: float) -> list[tuple[Board, str, NDArray[np.float64]]]:
    parts = [("input", worked.input)]
    if worked.kernel is not None:
        parts.append(("kernel", worked.kernel))
    parts.append(("output", worked.output))
    boards = []
    x = _MARGIN
    for caption, values in parts:
        board = Board(x, top, values.shape, 30)
        caption = f"{caption} {format_shape(*values.shape)}"
        boards.append((board, caption, values))
        x += max(board.width, text_width(caption, 12)) + 40
    return boards


class _Panel(NamedTuple):
    width: float
    height: float


_GRID_CELL, _PRODUCT_WIDTH, _PRODUCT_HEIGHT, _GAP = 24.0, 46.0, 36.0, 20.0


def _panel_boards(worked: Worked, x: float, y: float) -> tuple[Board, Board]:
    grid = Board(x, y, worked.walk.grid_size, _GRID_CELL)
    products = Board(
        x + grid.width + _GAP, y, worked.walk.kernel_size, _PRODUCT_WIDTH, _PRODUCT_HEIGHT
    )
    return grid, products


def _panel_layout(worked: Worked, shown: int, digits: int) -> _Panel:
    grid, products = _panel_boards(worked, 0, 0)
    sums = (sum_line(worked, stop, digits) for stop in itertools.islice(worked.walk.stops(), shown))
    widest = max(text_width(words, 12.5) for words in sums)
    return _Panel(
        max(products.x + products.width, widest, text_width("column 10, column 10", 12)),
        max(grid.height, products.height) + 26,
    )


def _draw_panel(
    svg: Element, worked: Worked, stop: tuple[int, ...], x: float, y: float, digits: int
) -> None:
    walk = worked.walk
    panel = add(svg, "g", {"class": "panel"})
    grid, products = _panel_boards(worked, x, y)
    names = AXES[len(walk.size)]
    place = ", ".join(f"{name} {at + 1}" for name, at in zip(names, stop, strict=True))
    grid.caption(panel, f"output {place}")
    draw_grid(panel, grid, worked, digits)
    inside, made = worked.inside(stop), worked.products(stop)
    start = walk.start(stop)
    for tap in walk.taps():
        at = tuple(s + t * d for s, t, d in zip(start, tap, walk.dilation, strict=True))
        grid.rect(panel, at, "frame")
        products.rect(panel, tap, "seen" if inside[tap] else "pad")
        if worked.window is None:
            if inside[tap] or walk.operation == "average":
                products.number(panel, tap, short(float(made[tap]), digits), size=14)
            continue
        products.number(
            panel, tap, factors(worked, stop, tap, digits), size=10, classes="muted", down=0.26
        )
        products.number(
            panel, tap, short(float(made[tap]), digits), size=14, classes="strong", down=0.7
        )
    bottom = y + max(grid.height, products.height) + 20
    text(panel, x, bottom, sum_line(worked, stop, digits), size=12.5, classes="sum")
