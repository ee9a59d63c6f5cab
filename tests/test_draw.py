"""The drawings: well-formed SVG whose numbers are those of the computation."""

import doctest
import importlib
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from hubel.cli.conv import options as conv_options
from hubel.conv.case import ConvCase
from hubel.conv.lowered import lower
from hubel.conv.worked import LECTURE_INPUT, LECTURE_KERNEL, walk_of, work_out
from hubel.draw import arithmetic, cells, svg
from hubel.draw.animated import MAX_STEPS, animated, num_steps, step_s
from hubel.draw.arithmetic import MAX_PANELS, arithmetic_sheet, sum_line
from hubel.draw.cells import Board, short
from hubel.draw.lowering import MAX_ROWS, lowering_sheet
from hubel.draw.svg import add, document, text, to_text
from hubel.errors import UserError

INPUT = np.array(LECTURE_INPUT, float)
KERNEL = np.array(LECTURE_KERNEL, float)
# The package's name for it is the verb, once the command line is loaded.
lower_verb = importlib.import_module("hubel.cli.conv.lower")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("module", [svg, cells, arithmetic, conv_options, lower_verb])
def test_examples_in_docstrings_hold(module):
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed


def lecture():
    return work_out(walk_of("convolution", (5, 5), 3, stride=2, padding=1), INPUT, KERNEL)


def drawn(size, kernel, operation="convolution", **arguments):
    generator = np.random.default_rng(0)
    walk = walk_of(operation, size, kernel, **arguments)
    weights = None
    if operation not in ("max", "average"):
        weights = generator.integers(-2, 3, walk.kernel_size).astype(float)
    return work_out(walk, generator.integers(0, 9, size).astype(float), weights)


CASES = [
    lecture(),
    drawn((8,), 3, stride=3),
    drawn((6, 5), (2, 3), stride=2, dilation=(2, 1)),
    drawn((4, 4, 4), 2, stride=2, padding=((0, 1), 1, 0)),
    drawn((3, 3), 3, "transposed convolution", stride=2, padding=1, output_padding=(0, 1)),
    drawn((5, 5), 3, "max", padding=1),
    drawn((5, 5), 3, "average", stride=2),
]


def parsed(drawing):
    return ElementTree.fromstring(to_text(drawing))


def of_class(root, tag, name):
    return [e for e in root.iter(f"{SVG}{tag}") if name in e.get("class", "").split()]


def words(root):
    return [e.text for e in root.iter(f"{SVG}text")]


def number(word):
    return float(word.replace("−", "-").replace("∞", "inf"))


def test_words_cannot_break_the_drawing():
    svg = document(10, 10, "a <b> & \x1b[31m", 'say "x"', style=".a{fill:$ink}")
    text(svg, 1.0, 2.5, "<script>&amp;\x00", classes="a")
    add(svg, "rect", {"class": '"><script>', "x": 1 / 3})
    root = parsed(svg)
    assert root.find(f"{SVG}title").text == "a <b> & \\x1b[31m"
    assert words(root) == ["<script>&amp;\\x00"]
    assert root.findall(f"{SVG}rect")[-1].attrib == {"class": '"><script>', "x": "0.33"}
    assert root.get("viewBox") == "0 0 10 10"
    assert not list(root.iter(f"{SVG}script"))
    assert "$" not in root.find(f"{SVG}style").text


@pytest.mark.parametrize(
    ("value", "word"),
    [(3.0, "3"), (-0.5, "−0.5"), (-0.0, "0"), (1e-9, "1e−09"), (1234567.0, "1.2e+06")],
)
def test_numbers_in_cells_are_short(value, word):
    assert short(value) == word


def test_slices_lie_side_by_side():
    board = Board(10, 20, (2, 3, 4), 5)
    assert board.place((0, 0, 0)) == (10, 20)
    assert board.place((1, 2, 3)) == (10 + 4.5 * 5 + 15, 30)
    assert (board.width, board.height) == (8.5 * 5, 15)
    assert Board(10, 20, (4,), 5).place((3,)) == (25, 20)


def corner(rect):
    return float(rect.get("x")), float(rect.get("y"))


def cells_at(parent, worked, width):
    """The grid's flat index by its cell's corner: the first rectangles of this width."""
    rects = [r for r in parent if r.tag == f"{SVG}rect" and r.get("width") == width]
    return {corner(rect): index for index, rect in enumerate(rects[: worked.grid.size])}


def flat_cells(worked, stop):
    """Flat grid indices of the window that makes `stop`, by the definition."""
    positions = np.arange(worked.grid.size).reshape(worked.walk.grid_size)
    return positions[worked.cells(stop)].ravel().tolist()


def inside_the_picture(root):
    """No rectangle and no text leaves the viewBox (text by the widest that fonts are)."""
    _, _, width, height = map(float, root.get("viewBox").split())
    for rect in root.iter(f"{SVG}rect"):
        if "%" in rect.get("width") or rect in root.iter(f"{SVG}pattern"):
            continue
        assert float(rect.get("x")) + float(rect.get("width")) <= width
        assert float(rect.get("y")) + float(rect.get("height")) <= height
    for line in root.iter(f"{SVG}text"):
        length = 0.6 * float(line.get("font-size")) * len(line.text)
        if "middle" in line.get("class", "").split():
            length /= 2
        if "end" not in line.get("class", "").split():
            assert float(line.get("x")) + length <= width, line.text
        assert float(line.get("y")) <= height


@pytest.mark.parametrize("worked", CASES, ids=lambda w: f"{w.walk.operation}{w.walk.size}")
def test_the_sheet_shows_every_window_with_its_sum(worked):
    root = parsed(arithmetic_sheet(worked))
    panels = of_class(root, "g", "panel")
    stops = list(worked.walk.stops())
    assert len(panels) == len(stops)
    for panel, stop in zip(panels, stops, strict=True):
        (line,) = of_class(panel, "text", "sum")
        assert number(line.text.rpartition(" = ")[2]) == pytest.approx(
            worked.output[stop], abs=0.005
        )
        # The frames mark the window's cells, whatever the dimensions.
        cells = cells_at(panel, worked, "24")
        frames = [cells[corner(frame)] for frame in of_class(panel, "rect", "frame")]
        assert frames == flat_cells(worked, stop)
        if worked.window is not None:
            made = [number(t.text) for t in of_class(panel, "text", "strong")]
            assert made == worked.products(stop).ravel().tolist()
    inside_the_picture(root)


def test_the_sheet_s_overview_has_input_kernel_and_output():
    root = parsed(arithmetic_sheet(lecture()))
    panels = of_class(root, "g", "panel")
    inside = {t for panel in panels for t in panel.iter(f"{SVG}text")}
    cells = [
        t.text
        for t in root.iter(f"{SVG}text")
        if t not in inside and "middle" in t.get("class", "").split()
    ]
    expected = [*INPUT.ravel(), *KERNEL.ravel(), 6, 17, 3, 8, 17, 13, 6, 4, 4]
    assert [number(c) for c in cells] == expected
    assert root.find(f"{SVG}title").text.startswith("Convolution of a 5×5 input")


def test_a_sum_is_written_as_on_paper():
    worked = lecture()
    assert sum_line(worked, (1, 2)) == "0 + 1 + 0 + 4 + 6 + 0 + 0 + 2 + 0 = 13"
    pooled = work_out(walk_of("average", (5, 5), 3), INPUT)
    assert sum_line(pooled, (0, 0), 1) == "(3 + 3 + 2 + 0 + 0 + 1 + 3 + 1 + 2) / 9 = 1.7"
    padded = work_out(walk_of("max", (5, 5), 2, padding=1), -INPUT)
    assert sum_line(padded, (0, 0)) == "max(−3) = −3"


def test_padding_is_dashed_and_unread_pixels_are_hatched():
    worked = drawn((6, 6), 3, stride=2)
    panel = of_class(parsed(arithmetic_sheet(worked)), "g", "panel")[0]
    assert len(of_class(panel, "rect", "unseen")) == 11  # row 6 and column 6
    panel = of_class(parsed(arithmetic_sheet(lecture())), "g", "panel")[0]
    # 49 - 25 cells of padding; five of them once more among the products.
    assert len(of_class(panel, "rect", "pad")) == 24 + 5


def test_a_sheet_of_many_windows_says_how_many_it_shows():
    root = parsed(arithmetic_sheet(drawn((12, 12), 3)))
    assert len(of_class(root, "g", "panel")) == MAX_PANELS
    assert "the first 64 of 100 windows" in words(root)


@pytest.mark.parametrize("worked", CASES, ids=lambda w: f"{w.walk.operation}{w.walk.size}")
def test_the_animation_s_steps_window_and_output_agree(worked):
    walk = worked.walk
    root = parsed(animated(worked))
    stops = list(walk.stops())
    assert not list(root.iter(f"{SVG}script"))
    steps = of_class(root, "g", "step")
    fills = of_class(root, "g", "fill")
    assert len(steps) == len(fills) == len(stops)
    style = root.find(f"{SVG}style").text.partition("@media (prefers-color-scheme")[0]
    walking = re.search(r"@keyframes walk\{(.*?\})\}", style)[1]
    stations = re.findall(r"([\d.]+)%\{transform:translate\(([-\d.]+)px,([-\d.]+)px\)\}", walking)
    seconds = len(stops) * step_s(len(stops))
    (window,) = of_class(root, "g", "walk")
    grid = cells_at(root, worked, "44")
    for at, (stop, step, fill) in enumerate(zip(stops, steps, fills, strict=True)):
        delay = float(re.fullmatch(r"animation-delay:([\d.]+)s", step.get("style"))[1])
        assert delay == pytest.approx(at * seconds / len(stops), abs=1e-3)
        # At that time the window stands on the cells of this stop.
        percent, x, y = map(float, stations[2 * at])
        assert percent == pytest.approx(100 * delay / seconds, abs=1e-2)
        corners = [corner(r) for r in window.iter(f"{SVG}rect")]
        assert [grid[cx + x, cy + y] for cx, cy in corners] == flat_cells(worked, stop)
        assert [e.text for e in of_class(step, "text", "sum")] == [sum_line(worked, stop)]
        assert [number(w) for w in words(fill)] == pytest.approx([worked.output[stop]], abs=0.005)
        if worked.window is not None:
            made = [number(t.text) for t in of_class(step, "text", "strong")[: walk.num_taps]]
            assert made == worked.products(stop).ravel().tolist()
    assert "prefers-reduced-motion" in style
    inside_the_picture(root)


def test_the_window_carries_the_kernel_s_numbers():
    (window,) = of_class(parsed(animated(lecture())), "g", "walk")
    assert [number(w) for w in words(window)] == KERNEL.ravel().tolist()
    turned = CASES[4]
    (window,) = of_class(parsed(animated(turned)), "g", "walk")
    assert [number(w) for w in words(window)] == np.flip(turned.kernel).ravel().tolist()


def test_a_long_animation_says_how_much_it_shows():
    worked = drawn((14, 14), 3)
    assert num_steps(worked) == MAX_STEPS
    assert "the first 100 of 144 windows" in words(parsed(animated(worked)))


def test_what_nobody_could_read_is_not_drawn():
    large = drawn((80, 80), 3)
    with pytest.raises(UserError, match="--svg draws grids of at most 5,000 cells, this one has"):
        arithmetic_sheet(large)
    with pytest.raises(UserError, match="--animated shows grids of at most 1,600 cells, this one"):
        animated(large)


def small_lowered(**arguments):
    case = ConvCase.of(1, 2, 3, (4, 5), (3, 2), **arguments)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 9, case.input_shape).astype(float)
    return lower(case, images, generator.integers(-2, 3, case.weight_shape).astype(float))


def test_the_lowering_sheet_colours_a_pixel_and_its_copies_alike():
    lowered = small_lowered(padding=1, stride=2)
    root = parsed(lowering_sheet(lowered))
    pixels, cells = lowered.input.size, int((lowered.source >= 0).sum())
    own = [r.get("fill") for r in of_class(root, "rect", "own")]
    colours = own[:pixels]
    assert len(set(colours)) > pixels / 2
    copies = lowered.source[lowered.source >= 0]
    assert own[pixels : pixels + cells] == [colours[i] for i in copies]
    times = [t.text for t in root.iter(f"{SVG}text") if (t.text or "").startswith("×")]
    assert times == [f"×{c}" for c in lowered.counts.ravel()]
    inside_the_picture(root)


def test_the_lowering_sheet_has_the_matrix_the_weights_and_the_product():
    lowered = small_lowered(padding=1)
    root = parsed(lowering_sheet(lowered))
    numbers = [
        number(t.text)
        for t in root.iter(f"{SVG}text")
        if {"middle", "on"} <= set(t.get("class", "").split()) and not t.text.startswith("×")
    ]
    inside = lowered.matrix[lowered.source >= 0]
    assert numbers == [*lowered.input.ravel(), *inside]
    said = " ".join(w for w in words(root))
    assert "GEMM M = 24, K = 12, N = 3" in said
    assert f"weights {lowered.weights.shape[0]}×3" in said
    assert "(24×2) · (2×3) product" in said


def test_a_tall_matrix_is_cut_and_says_so():
    case = ConvCase.of(1, 1, 1, (10, 10), 3, padding=1)
    lowered = lower(case, np.ones(case.input_shape), np.ones(case.weight_shape))
    assert f"the first {MAX_ROWS} of 100 rows" in words(parsed(lowering_sheet(lowered)))


def test_a_wide_matrix_is_not_drawn():
    case = ConvCase.of(1, 500, 1, (3, 3), 3)
    lowered = lower(case, np.ones(case.input_shape), np.ones(case.weight_shape))
    with pytest.raises(UserError, match="--svg draws padded inputs of at most 4,000 cells"):
        lowering_sheet(lowered)
