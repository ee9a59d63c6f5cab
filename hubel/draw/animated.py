"""A worked example in motion: the window walks over the grid and the output fills.

One SVG with CSS keyframes and no script: it plays wherever a browser shows pictures, an <img>
included. A reader who prefers reduced motion, and a viewer that knows no animation, sees the
first window and the whole output.
"""

import itertools
from xml.etree.ElementTree import Element

from hubel.conv.size_steps import AXES
from hubel.conv.worked import Worked
from hubel.draw.arithmetic import draw_grid, factors, hatching, heading, legend, sum_line
from hubel.draw.cells import CELL_STYLE, Board, sheet_header, short, text_width
from hubel.draw.svg import add, decimal, document, text
from hubel.errors import UserError
from hubel.shapes import format_shape

__all__ = ["MAX_STEPS", "animated", "num_steps", "step_s"]

MAX_STEPS = 100
"""The most windows that one animation shows."""

_MAX_CELLS = 1_600
_MAX_TAPS = 6_000
_MARGIN = 24.0
_CELL, _PRODUCT_WIDTH, _PRODUCT_HEIGHT = 44.0, 56.0, 44.0

# Of a step's time, the end in which the window glides on; its product stands still before.
_GLIDE = 0.15

# After this part of a step the output's cell holds the sum.
_FILLED = 0.35


def num_steps(worked: Worked) -> int:
    """How many windows the animation shows: all, or the first of them.

    `UserError` if the grid has too many cells to be watched.
    """
    walk = worked.walk
    if worked.grid.size > _MAX_CELLS or walk.num_taps > _MAX_CELLS:
        raise UserError(
            f"--animated shows grids of at most {_MAX_CELLS:,} cells, this one has "
            f"{worked.grid.size:,} ({format_shape(*walk.grid_size)}); take a smaller --input"
        )
    return min(walk.num_outputs, MAX_STEPS, max(1, _MAX_TAPS // walk.num_taps))


def step_s(steps: int) -> float:
    """Seconds that one window stands: calm for few windows, brisk for many."""
    return max(0.5, min(1.6, 40 / steps))


def animated(worked: Worked, digits: int = 2) -> Element:
    """The animation of `worked`, window after window, over and over.

    The window carries the kernel's numbers in the corners of its cells; beside the grid stand
    the products, under it the sum, and the output's cell fills. `UserError` as `num_steps`.
    """
    walk = worked.walk
    shown = num_steps(worked)
    stops = list(itertools.islice(walk.stops(), shown))
    title = heading(walk)
    lines = [words for words in (legend(worked),) if words]
    if shown < walk.num_outputs:
        lines.append(f"the first {shown} of {walk.num_outputs} windows")
    lines.append("rest the pointer on the drawing to pause it")
    top = 62 + 18 * len(lines) + 36

    grid = Board(_MARGIN, top, walk.grid_size, _CELL)
    products = Board(
        grid.x + grid.width + 48, top, walk.kernel_size, _PRODUCT_WIDTH, _PRODUCT_HEIGHT
    )
    output = Board(products.x + max(products.width, 90) + 48, top, walk.output_size, _CELL)
    places = [_place(worked, stop) for stop in stops]
    sums = [sum_line(worked, stop, digits) for stop in stops]
    bottom = top + max(grid.height, products.height, output.height)
    width = max(
        output.x + max(output.width, 90),
        _MARGIN + text_width(title, 18),
        _MARGIN + max(text_width(line, 12.5) for line in lines),
        _MARGIN + max(text_width(words, 17) for words in sums),
    )

    told = (
        f"The window walks over the {format_shape(*walk.grid_size)} grid; each stop makes one of "
        f"the {format_shape(*walk.output_size)} outputs. "
        + " ".join(f"{place}: {words}." for place, words in zip(places, sums, strict=True))
    )
    style = CELL_STYLE + _motion(worked, grid, stops)
    svg = document(width + _MARGIN, bottom + 84, title, told, style=style)
    hatching(svg)
    sheet_header(svg, title, lines)
    grid.caption(svg, _grid_caption(worked))
    products.caption(svg, "in the window" if worked.window is None else "value · weight")
    output.caption(svg, f"output {format_shape(*walk.output_size)}")
    draw_grid(svg, grid, worked, digits)
    for index in walk.stops():
        output.rect(svg, index, "cell")
    _draw_window(svg, worked, grid, digits)
    for number, (stop, place, words) in enumerate(zip(stops, places, sums, strict=True)):
        _draw_step(svg, worked, number, stop, products, output, digits)
        step = svg[-1]
        text(step, _MARGIN, bottom + 32, place, size=13, classes="muted")
        text(step, _MARGIN, bottom + 58, words, size=17, classes="sum strong")
        made = add(svg, "g", {"class": f"fill f{number}"})
        output.number(made, stop, short(float(worked.output[stop]), digits), size=18)
    return svg


def _place(worked: Worked, stop: tuple[int, ...]) -> str:
    names = AXES[len(stop)]
    return "output " + ", ".join(f"{name} {at + 1}" for name, at in zip(names, stop, strict=True))


def _grid_caption(worked: Worked) -> str:
    size, grid = format_shape(*worked.walk.size), format_shape(*worked.walk.grid_size)
    added = "zeros" if worked.walk.operation == "transposed convolution" else "padding"
    return f"input {size}" if size == grid else f"input {size}, with {added} {grid}"


def _motion(worked: Worked, grid: Board, stops: list[tuple[int, ...]]) -> str:
    """The keyframes: where the window stands at each step, when a step shows, a cell fills."""
    steps = len(stops)
    seconds = step_s(steps)
    share = 100 / steps
    x0, y0 = grid.place((0,) * len(grid.size))
    stations = []
    for number, stop in enumerate(stops):
        x, y = grid.place(worked.walk.start(stop))
        at = f"{{transform:translate({decimal(x - x0)}px,{decimal(y - y0)}px)}}"
        leaves = 100 if number == steps - 1 else (number + 1 - _GLIDE) * share
        stations.append(f"{decimal(number * share, 4)}%{at} {decimal(leaves, 4)}%{at}")
    first = grid.place(worked.walk.start(stops[0]))
    fills = " ".join(
        f"@keyframes f{number}{{0%{{opacity:0}} {decimal((number + _FILLED) * share, 4)}%"
        f"{{opacity:1}} 100%{{opacity:1}}}} .f{number}{{animation-name:f{number}}}"
        for number in range(steps)
    )
    lasts = f"{decimal(steps * seconds)}s"
    return (
        f"@keyframes walk{{{' '.join(stations)}}} "
        f".walk{{transform:translate({decimal(first[0] - x0)}px,{decimal(first[1] - y0)}px);"
        f"animation:walk {lasts} linear infinite}} "
        f"@keyframes step{{0%{{opacity:1}} {decimal(share, 4)}%{{opacity:0}} 100%{{opacity:0}}}} "
        f".step{{opacity:0;animation:step {lasts} step-end infinite}} .first{{opacity:1}} "
        f".fill{{animation-duration:{lasts};animation-timing-function:step-end;"
        f"animation-iteration-count:infinite}} {fills} "
        "svg:hover .walk,svg:hover .step,svg:hover .fill{animation-play-state:paused} "
        "@media (prefers-reduced-motion:reduce){.walk,.step,.fill{animation:none}}"
    )


def _draw_window(svg: Element, worked: Worked, grid: Board, digits: int) -> None:
    """The window at the grid's first cell, the kernel's numbers in its corners; it walks."""
    walking = add(svg, "g", {"class": "walk"})
    for tap in worked.walk.taps():
        at = tuple(t * d for t, d in zip(tap, worked.walk.dilation, strict=True))
        grid.rect(walking, at, "frame")
        if worked.window is not None:
            x, y = grid.place(at)
            words = short(float(worked.window[tap]), digits)
            size = min(11.0, (_CELL - 6) / (0.6 * len(words)))
            text(
                walking, x + _CELL - 3, y + _CELL - 4, words, size=size, classes="weight end strong"
            )


def _draw_step(
    svg: Element,
    worked: Worked,
    number: int,
    stop: tuple[int, ...],
    products: Board,
    output: Board,
    digits: int,
) -> None:
    walk = worked.walk
    step = add(
        svg,
        "g",
        {
            "class": "step" if number else "step first",
            "style": f"animation-delay:{decimal(number * step_s(num_steps(worked)), 3)}s",
        },
    )
    made, inside = worked.products(stop), worked.inside(stop)
    for tap in walk.taps():
        products.rect(step, tap, "seen" if inside[tap] else "pad")
        words = short(float(made[tap]), digits)
        if worked.window is None:
            if inside[tap] or walk.operation == "average":
                products.number(step, tap, words, size=17)
            continue
        products.number(
            step, tap, factors(worked, stop, tap, digits), size=11, classes="muted", down=0.25
        )
        products.number(step, tap, words, size=17, classes="strong", down=0.68)
    output.rect(step, stop, "made")
