"""A sheet of explicit lowering: the im2col matrix, which of its cells repeat, and the taps.

Every input pixel has a colour of its own, and every copy of it in the matrix the same one.
"""

from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from hubel.conv.lowered import Lowered, gemm_of, taps
from hubel.draw.cells import CELL_STYLE, Board, sheet_header, short, text_width
from hubel.draw.svg import add, document, text
from hubel.errors import UserError
from hubel.shapes import format_shape

__all__ = ["MAX_CELLS", "MAX_ROWS", "MAX_TAPS", "lowering_sheet"]

MAX_ROWS = 64
"""The most rows of the matrix that a sheet draws."""

MAX_TAPS = 27
"""The most taps whose views a sheet draws."""

MAX_CELLS = 4_000
"""The most cells of a row of the matrix, or of the input, that a sheet draws."""

_MARGIN, _CELL, _SMALL = 24.0, 26.0, 15.0

# Light enough for dark numbers; the same on a dark page.
_STYLE = (
    CELL_STYLE + ".own{stroke:#1b2333;stroke-opacity:.25} .on{fill:#1b2333} .count{font-size:9px} "
    ".tap{fill:none;stroke:$ink;stroke-width:1.5} .line{stroke:$muted} "
)


def lowering_sheet(lowered: Lowered, digits: int = 2) -> Element:
    """The sheet of `lowered`: input with counts, matrix × weights = product, the taps' views.

    `UserError` if the input or a row of the matrix has more than `MAX_CELLS` cells.
    """
    case = lowered.case
    _check(lowered)
    gemm = gemm_of(case)
    rows = min(len(lowered.matrix), MAX_ROWS)
    used, most = int(lowered.counts.sum()), int(lowered.counts.max())
    product = f"M = {gemm.rows}, K = {gemm.inner}, N = {gemm.columns}"
    title = (
        f"im2col of {format_shape(*case.input_shape)} numbers: matrix "
        f"{format_shape(*lowered.matrix.shape)}"
    )
    each = f", {gemm.columns} columns a group" if gemm.count > 1 else ""
    of_groups = f", one for each of {gemm.count} groups" if gemm.count > 1 else ""
    lines = [
        f"GEMM {product}{of_groups}; rows: output pixels, columns: taps, in each tap the channels",
        f"{lowered.input.size} input numbers fill {used} cells, each up to {most} times; "
        f"{lowered.source.size - used} cells are padding",
        "one colour is one input pixel wherever it stands; ×2 under a number: it stands twice",
    ]
    if rows < len(lowered.matrix):
        lines.append(f"the first {rows} of {len(lowered.matrix)} rows")

    top = 62 + 18 * len(lines) + 36
    inputs = _input_boards(lowered, top)
    below = max(board.y + board.height for _, board in inputs) + 60
    matrix = Board(_MARGIN + 66, below, (rows, lowered.matrix.shape[1]), _CELL)
    weights = Board(matrix.x + matrix.width + 40, below, lowered.weights.shape, _CELL)
    output = Board(weights.x + max(weights.width, 70) + 40, below, (rows, case.out_channels), _CELL)
    views = _tap_boards(lowered, max(matrix.y + matrix.height, weights.y + weights.height) + 64)
    width = max(
        output.x + max(output.width, 80),
        max(board.x + board.width for _, board in inputs),
        max(board.x + max(board.width, 110) for _, board in views),
        _MARGIN + text_width(title, 18),
        _MARGIN + max(text_width(line, 12.5) for line in lines),
        _MARGIN + text_width(_implicit(lowered), 13),
    )
    height = max(board.y + board.height for _, board in views) + 30

    svg = document(width + _MARGIN, height, title, ". ".join(lines) + ".", style=_STYLE)
    sheet_header(svg, title, lines)
    _draw_inputs(svg, lowered, inputs, digits)
    _draw_matrix(svg, lowered, matrix, digits)
    for board, numbers, caption in (
        (weights, lowered.weights, f"weights {format_shape(*lowered.weights.shape)}{each}"),
        (output, lowered.product, f"product {format_shape(*lowered.product.shape)}"),
    ):
        board.caption(svg, caption)
        for index in np.ndindex(*board.size):
            board.rect(svg, index, "cell")
            board.number(svg, index, short(float(numbers[index]), digits))
    for board, sign in ((weights, "·"), (output, "=")):
        text(svg, board.x - 24, below + 17, sign, size=18)
    _draw_taps(svg, lowered, views)
    return svg


def _check(lowered: Lowered) -> None:
    for what, cells in (
        ("padded inputs", int(np.prod(lowered.case.padded_size)) * lowered.case.n
                          * lowered.case.in_channels),
        ("rows", lowered.matrix.shape[1]),
        ("weights", lowered.weights.size),
    ):  # fmt: skip
        if cells > MAX_CELLS:
            raise UserError(
                f"--svg draws {what} of at most {MAX_CELLS:,} cells, here they have {cells:,}; "
                f"take a smaller --input, --channels or --kernel"
            )


def _colour(pixel: int, count: int) -> str:
    """Hues that neighbours do not share: steps of the golden angle."""
    hue = pixel * 137.508 % 360
    light = 72 + 12 * (pixel % 2 if count > 1 else 0)
    return f"hsl({hue:.0f},70%,{light}%)"


def _input_boards(lowered: Lowered, top: float) -> list[tuple[tuple[int, int], Board]]:
    """A board for each channel of each picture, side by side."""
    boards = []
    x = _MARGIN
    for n in range(lowered.case.n):
        for c in range(lowered.case.in_channels):
            board = Board(x, top, lowered.case.size, _CELL + 4)
            boards.append(((n, c), board))
            x += max(board.width, 90) + 30
    return boards


def _draw_inputs(
    svg: Element, lowered: Lowered, boards: list[tuple[tuple[int, int], Board]], digits: int
) -> None:
    for (n, c), board in boards:
        words = f"picture {n + 1}, " * (lowered.case.n > 1) + f"channel {c + 1}"
        board.caption(svg, f"input {format_shape(*lowered.case.size)}, {words}")
        for index in np.ndindex(*lowered.case.size):
            pixel = int(np.ravel_multi_index((n, c, *index), lowered.input.shape))
            _own_rect(svg, board, index, pixel, lowered.counts.size)
            number = short(float(lowered.input[(n, c, *index)]), digits)
            board.number(svg, index, number, classes="on", down=0.36)
            times = f"×{lowered.counts[(n, c, *index)]}"
            board.number(svg, index, times, size=9, classes="on", down=0.78)


def _own_rect(svg: Element, board: Board, index: tuple[int, ...], pixel: int, total: int) -> None:
    board.rect(svg, index, "own").set("fill", _colour(pixel, total))


def _draw_matrix(svg: Element, lowered: Lowered, board: Board, digits: int) -> None:
    case = lowered.case
    text(svg, _MARGIN, board.y - 26, "im2col matrix", size=13, classes="strong")
    for column, tap in enumerate(taps(case)):
        x, y = board.place((0, column * case.in_channels))
        words = ",".join(str(t + 1) for t in tap.position)
        middle = x + case.in_channels * _CELL / 2
        text(svg, middle, y - 8, words, size=9, classes="muted middle")
        if column:
            end = y + board.height
            add(svg, "line", {"x1": x, "x2": x, "y1": y - 14, "y2": end, "class": "line"})
    positions = list(np.ndindex(case.n, *case.output_size))
    for row in range(board.size[0]):
        _, y = board.place((row, 0))
        at = positions[row] if case.n > 1 else positions[row][1:]
        words = ",".join(str(p + 1) for p in at)
        text(svg, board.x - 8, y + 0.65 * _CELL, words, size=10, classes="muted end")
        for column in range(board.size[1]):
            pixel = int(lowered.source[row, column])
            if pixel < 0:
                board.rect(svg, (row, column), "pad")
                board.number(svg, (row, column), "0", classes="zero")
                continue
            _own_rect(svg, board, (row, column), pixel, lowered.counts.size)
            words = short(float(lowered.matrix[row, column]), digits)
            board.number(svg, (row, column), words, classes="on")


def _tap_boards(lowered: Lowered, top: float) -> list[tuple[tuple[int, ...], Board]]:
    case = lowered.case
    boards: list[tuple[tuple[int, ...], Board]] = []
    sample = Board(0, 0, case.padded_size, _SMALL)
    step = max(sample.width, 110) + 26
    per_row = max(1, int(1180 // step))
    for number, tap in zip(range(MAX_TAPS), taps(case), strict=False):
        row, column = divmod(number, per_row)
        y = top + row * (sample.height + 34) + 26
        boards.append((tap.position, Board(_MARGIN + column * step, y, case.padded_size, _SMALL)))
    return boards


def _draw_taps(svg: Element, lowered: Lowered, boards: list[tuple[tuple[int, ...], Board]]) -> None:
    """Each tap's strided view of the first channel: the pixels that its GEMM takes."""
    case = lowered.case
    text(svg, _MARGIN, boards[0][1].y - 32, _implicit(lowered), size=13, classes="strong")
    pixels = _padded_indices(lowered)
    for tap, (position, board) in zip(taps(case), boards, strict=False):
        board.caption(svg, f"tap {','.join(str(t + 1) for t in position)}")
        view = {
            tuple(a + o * s for a, o, s in zip(tap.start, out, tap.step, strict=True))
            for out in np.ndindex(*case.output_size)
        }
        for index in np.ndindex(*case.padded_size):
            pixel = int(pixels[index])
            if index not in view:
                board.rect(svg, index, "pad" if pixel < 0 else "cell")
            elif pixel < 0:
                board.rect(svg, index, "seen")
            else:
                _own_rect(svg, board, index, pixel, lowered.counts.size)
        for index in view:
            board.rect(svg, index, "tap")


def _implicit(lowered: Lowered) -> str:
    case, gemm = lowered.case, gemm_of(lowered.case)
    channels = gemm.inner // case.num_taps
    shown = f", the first {MAX_TAPS} of {case.num_taps} taps" * (case.num_taps > MAX_TAPS)
    return (
        f"implicit (Zhou et al. 2021): no matrix; each tap adds a ({gemm.rows}×{channels}) · "
        f"({channels}×{gemm.columns}) product of its strided view of the padded input{shown}"
    )


def _padded_indices(lowered: Lowered) -> NDArray[np.int64]:
    """Flat input indices (*padded_size) of the first picture's first channel, -1 in padding."""
    size = lowered.case.size
    first = np.arange(int(np.prod(size)), dtype=np.int64).reshape(size)
    return np.pad(first, lowered.case.padding, constant_values=-1)
