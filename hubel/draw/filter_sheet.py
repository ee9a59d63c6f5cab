"""A filtered picture as on a slide: original, kernel, result, and each kernel's own response."""

import base64
import io
import math
from typing import Any, TypeAlias
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt
from PIL import Image

from hubel.conv.filters import Filtered, Shown, show_levels
from hubel.draw.cells import Board, sheet_header
from hubel.draw.svg import add, document, text, to_text
from hubel.shapes import format_shape

__all__ = ["PNG_SCALE", "filter_sheet", "picture_limits", "sheet_file", "written"]

Array: TypeAlias = npt.NDArray[Any]

PNG_SCALE = 2
"""Pixels of the PNG for each of the drawing: sharp on screens of twice the density."""

_PANEL, _GAP, _MARGIN = 340.0, 56.0, 24.0
_WIDTH = 2 * _MARGIN + 3 * _PANEL + 2 * _GAP
_LINE = 18.0
_SQUARES = 3  # pixels of the PNG for one of the picture, from which on they are drawn as squares
_LARGEST_CELL = 52.0
_DENOMINATORS = (1, 2, 3, 4, 5, 8, 9, 16, 25, 27, 49)
# Sides up to this are drawn as numbers in cells, longer ones as a picture of their colours.
_MOST_CELLS = 9
_MOST_SLICES = 3
_MOST_COLUMNS = 6
_POSITIVE, _NEGATIVE = (43, 95, 217), (213, 100, 10)  # accent and second of hubel.draw.svg
_STYLE = (
    ".positive{fill:$accent;stroke:$grid} .negative{fill:$second;stroke:$grid} "
    ".zero{fill:none;stroke:$grid} .strong{font-weight:600} .small{fill:$ink} "
    ".operator{fill:none;stroke:$muted;stroke-width:2.5;stroke-linecap:round} "
    ".picture{image-rendering:pixelated} .frame{fill:none;stroke:$grid}"
)
_COMBINED = {
    "none": "",
    "magnitude": "result: the root of the sum of the squared responses",
    "maximum": "result: the largest absolute response at each pixel",
}


def filter_sheet(
    pixels: Array, filtered: Filtered, *, name: str, show: str | None = None
) -> Element:
    """The sheet as an SVG tree (see `hubel.draw.svg.to_text`).

    Parameters
    ----------
    pixels: what was filtered, (h, w, c) or a volume (d, h, w, c), whose middle slice along d
        is drawn; c is 1 or 3.
    filtered: from `hubel.conv.filters.filter_picture`.
    name: of the picture, for the heading.
    show: how values become grey levels; by default `filtered.natural_show`.
    """
    limits = picture_limits(pixels)
    original = show_levels(pixels, "clipped", limits=limits)
    shown = show_levels(filtered.result, show or filtered.natural_show, limits=limits)
    many = len(filtered.responses) > 1
    rows = math.ceil(len(filtered.responses) / _MOST_COLUMNS) if many else 0
    columns = max(3, math.ceil(len(filtered.responses) / max(rows, 1)))
    space = _GAP if columns == 3 else 16.0
    thumb = (_WIDTH - 2 * _MARGIN - (columns - 1) * space) / columns
    picture_height = _fitted(_middle(original.levels), _PANEL)[1]
    height = max(picture_height, 200.0)
    thumb_row = _fitted(_middle(original.levels), thumb)[1] + 2.5 * _LINE
    top = 136.0
    under = top + height + 3.5 * _LINE
    svg = document(
        _WIDTH,
        under + (rows * thumb_row + 1.5 * _LINE if many else 0.0) + 8,
        filtered.filter.title,
        f"{name}: the picture, the kernel and the filtered picture side by side",
        style=_STYLE,
    )
    sheet_header(svg, filtered.filter.title, _facts(pixels, filtered, name), _MARGIN)

    x = _MARGIN
    text(svg, x, top - 10, "original", size=14, classes="strong")
    _picture(svg, _middle(original.levels), x, top, _PANEL)
    _legend(svg, x, top + picture_height, (_original_legend(original),))

    _operator(svg, x + _PANEL + _GAP / 2, top + height / 2, equals=False)
    x += _PANEL + _GAP
    text(svg, x, top - 10, _kernel_caption(filtered), size=14, classes="strong")
    _kernels(svg, filtered, x, top, height)
    words = ("blue above 0, orange below 0", _COMBINED[filtered.filter.combine])
    _legend(svg, x, top + height, words)

    _operator(svg, x + _PANEL + _GAP / 2, top + height / 2, equals=True)
    x += _PANEL + _GAP
    text(svg, x, top - 10, "result", size=14, classes="strong")
    _picture(svg, _middle(shown.levels), x, top, _PANEL)
    result = filtered.result
    spread = f"values {result.min():.4g} to {result.max():.4g}, mean {result.mean():.4g}"
    _legend(svg, x, top + picture_height, (shown.legend, spread))

    if many:
        _responses(svg, filtered, limits, under, columns, space, thumb_row)
    return svg


def sheet_file(svg: Element, suffix: str = ".png") -> bytes:
    """The sheet as the content of a file: ".svg", or ".png" of `PNG_SCALE` pixels a pixel."""
    words = to_text(svg)
    if suffix.lower() == ".svg":
        return words.encode()
    import vl_convert

    return bytes(vl_convert.svg_to_png(words, scale=PNG_SCALE))


def picture_limits(pixels: Array) -> tuple[float, float]:
    """The values drawn black and white: 0 and 255 of a uint8 picture, else the extremes."""
    if pixels.dtype == np.uint8 and pixels.ndim == 3:
        return 0.0, 255.0
    return float(pixels.min()), float(pixels.max())


def written(kernel: Array) -> Array:
    """A kernel's numbers in few characters: whole or plain fractions where all of them are,
    else decimals, as many as give the largest three digits. An array of str of its shape.

    >>> written(np.array([-2.0, 1 / 9])).tolist(), written(np.array([0.25, 0.1234567])).tolist()
    (['−2', '1/9'], ['0.250', '0.123'])
    """
    plain = [_fraction(float(v)) for v in kernel.flat]
    if None in plain:
        largest = float(abs(kernel).max())
        power = math.floor(math.log10(largest))
        style = f".{max(0, 2 - power)}f" if -4 <= power < 6 else ".2e"
        plain = [f"{v:{style}}" for v in kernel.flat]
    return np.array([str(word).replace("-", "−") for word in plain]).reshape(kernel.shape)


def _fraction(value: float) -> str | None:
    """`value` as 3, 1/9 or -5/16, if it is one of few digits."""
    for denominator in _DENOMINATORS:
        numerator = round(value * denominator)
        if abs(value * denominator - numerator) <= 1e-12 and abs(numerator) < 1e5:
            if value and not numerator:
                return None
            return f"{numerator}" + (f"/{denominator}" if denominator > 1 else "")
    return None


def _facts(pixels: Array, filtered: Filtered, name: str) -> list[str]:
    """The lines of the heading."""
    *size, channels = pixels.shape
    unit, order = ("voxels", "depth × ") if len(size) == 3 else ("pixels", "")
    shown = name if len(name) <= 80 else f"{name[:38]}…{name[-38:]}"
    colour = "each channel by itself"
    if channels == 1:
        colour = "grey"
    elif filtered.colour == "luminance":
        colour = "by luminance (Rec. 601: 0.299 R + 0.587 G + 0.114 B)"
    slid = "kernel flipped (convolution)" if filtered.flip else "kernel as it is (correlation)"
    return [
        f"{shown}, {format_shape(*size)} {unit} ({order}height × width)"
        + (", the middle slice is shown" if len(size) == 3 else ""),
        f"{colour}; {slid}; beyond the border: {filtered.border}",
    ]


def _original_legend(original: Shown) -> str:
    """What black and white are; nothing is cut, because the limits hold every value."""
    return original.legend.removesuffix(", cut beyond")


def _kernel_caption(filtered: Filtered) -> str:
    kernels = filtered.filter.kernels
    shape = format_shape(*kernels[0].shape)
    caption = f"kernel {shape}" if len(kernels) == 1 else f"{len(kernels)} kernels {shape}"
    depth = kernels[0].shape[0] if kernels[0].ndim == 3 else 1
    if depth > 1:
        caption += ", slice by slice" if depth <= _MOST_SLICES else ", the middle slice"
    return caption


def _legend(svg: Element, x: float, y: float, lines: tuple[str, ...]) -> None:
    for i, line in enumerate(filter(None, lines), start=1):
        text(svg, x, y + 2 + i * _LINE, line.replace("-", "−"), classes="muted")


def _operator(svg: Element, x: float, y: float, *, equals: bool) -> None:
    """An asterisk or an equals sign as strokes, which every font has."""
    if equals:
        lines = [(-10.0, dy, 10.0, dy) for dy in (-5.0, 5.0)]
    else:
        tips = [
            (10 * math.cos(t), 10 * math.sin(t)) for t in (math.pi / 2, math.pi / 6, -math.pi / 6)
        ]
        lines = [(-dx, -dy, dx, dy) for dx, dy in tips]
    for x1, y1, x2, y2 in lines:
        ends = {"x1": x + x1, "y1": y + y1, "x2": x + x2, "y2": y + y2}
        add(svg, "line", {**ends, "class": "operator"})


def _middle(levels: Array) -> Array:
    """(h, w, c) of a picture, or of a volume's middle slice."""
    return levels if levels.ndim == 3 else levels[levels.shape[0] // 2]


def _fitted(levels: Array, box: float) -> tuple[float, float]:
    """Width and height in the drawing: what is small grows by whole steps, so that its pixels
    stay squares; the rest fills the box."""
    h, w = levels.shape[:2]
    steps = int(PNG_SCALE * box) // max(h, w)
    scale = steps / PNG_SCALE if steps >= _SQUARES else box / max(h, w)
    return max(1.0, w * scale), max(1.0, h * scale)


def _picture(svg: Element, levels: Array, x: float, y: float, box: float) -> None:
    """uint8 (h, w, c) as an embedded PNG of exactly the pixels that the drawing's PNG has."""
    width, height = _fitted(levels, box)
    image = Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)
    size = (max(1, round(width * PNG_SCALE)), max(1, round(height * PNG_SCALE)))
    squares = size[0] >= _SQUARES * image.width
    way = Image.Resampling.NEAREST if squares else Image.Resampling.LANCZOS
    buffer = io.BytesIO()
    image.resize(size, way).save(buffer, "PNG", optimize=True)
    place: dict[str, str | float] = {"x": x, "y": y, "width": width, "height": height}
    uri = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    add(svg, "image", {**place, "href": uri, "class": "picture"})
    add(svg, "rect", {**place, "class": "frame"})


def _kernels(svg: Element, filtered: Filtered, x: float, y: float, height: float) -> None:
    """Every kernel as a board, as large as all of them can be in the panel, centred in it."""
    kernels = [_slices(k) for k in filtered.filter.kernels]
    depth, rows, columns = kernels[0].shape
    labelled = _LINE if len(kernels) > 1 else 0.0
    space = 16.0
    units = depth * (columns + 0.5) - 0.5  # a board's width in cells

    def cell(across: int) -> float:
        down = math.ceil(len(kernels) / across)
        wide: float = (_PANEL - (across - 1) * space) / across / units
        high: float = ((height + space) / down - space - labelled) / rows
        return max(0.1, min(wide, high, _LARGEST_CELL))

    across = max(range(1, len(kernels) + 1), key=cell)
    side = cell(across)
    down = math.ceil(len(kernels) / across)
    board_width, board_height = units * side, rows * side + labelled
    left = x + (_PANEL - across * board_width - (across - 1) * space) / 2
    upper = y + (height - down * board_height - (down - 1) * space) / 2
    largest = max(float(abs(k).max()) for k in kernels) or 1.0
    for i, (kernel, label) in enumerate(zip(kernels, filtered.filter.labels, strict=True)):
        row, column = divmod(i, across)
        at_x = left + column * (board_width + space)
        at_y = upper + row * (board_height + space)
        if labelled:
            text(svg, at_x, at_y + 12, label, classes="muted")
        _board(svg, kernel / largest, kernel, at_x, at_y + labelled, side)


def _slices(kernel: Array) -> Array:
    """(depth, rows, columns): all of a thin kernel's slices, of a thick one the middle one."""
    slices = kernel.reshape((1,) * (3 - kernel.ndim) + kernel.shape)
    middle = slices.shape[0] // 2
    return slices if slices.shape[0] <= _MOST_SLICES else slices[middle : middle + 1]


def _board(svg: Element, strength: Array, kernel: Array, x: float, y: float, side: float) -> None:
    """One kernel; `strength` (depth, rows, columns) in -1…1 gives the colours."""
    board = Board(x, y, kernel.shape, side)
    words = written(kernel)
    if max(kernel.shape[1:]) > _MOST_CELLS:
        for plane, slice_ in enumerate(strength):
            at_x, at_y = board.place((plane, 0, 0))
            _picture(svg, _coloured(slice_), at_x, at_y, side * max(slice_.shape))
        return
    for index in np.ndindex(kernel.shape):
        value = float(strength[index])
        rect = board.rect(
            svg, index, "zero" if not value else "negative" if value < 0 else "positive"
        )
        rect.set("fill-opacity", f"{0.1 + 0.45 * abs(value):.3f}")
        if side >= 14:
            size = min(16.0, 0.42 * side)
            board.number(svg, index, str(words[index]), size=size)


def _coloured(strength: Array) -> Array:
    """Colours (h, w, 3) uint8 from white at 0 to blue at 1 and orange at -1."""
    end = np.where(strength[..., None] < 0, _NEGATIVE, _POSITIVE)
    colours: Array = np.rint(255 + (end - 255) * abs(strength[..., None])).astype(np.uint8)
    return colours


def _responses(
    svg: Element,
    filtered: Filtered,
    limits: tuple[float, float],
    top: float,
    columns: int,
    space: float,
    row_height: float,
) -> None:
    """Each kernel's own response, all on one scale so that they can be compared."""
    thumb = (_WIDTH - 2 * _MARGIN - (columns - 1) * space) / columns
    shown = show_levels(np.stack(filtered.responses), "signed", limits=limits)
    words = f"response of each kernel ({shown.legend})"
    text(svg, _MARGIN, top + _LINE, words.replace("-", "−"), size=14, classes="strong")
    for i, (levels, label) in enumerate(zip(shown.levels, filtered.filter.labels, strict=True)):
        row, column = divmod(i, columns)
        x = _MARGIN + column * (thumb + space)
        y = top + 1.5 * _LINE + row * row_height
        _picture(svg, _middle(levels), x, y, thumb)
        below = y + _fitted(_middle(levels), thumb)[1]
        text(svg, x, below + _LINE, label, classes="muted")
