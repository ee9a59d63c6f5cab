"""`hubel conv arithmetic`: the sizes of a convolution step by step, its windows and sums."""

import itertools
import json as json_module
import math
import textwrap
from typing import TYPE_CHECKING, Any

import typer

from hubel.cli.conv.options import (
    as_json,
    as_kernel,
    drawn,
    matrix_lines,
    read_numbers,
    sizes,
    sizes_per_dim,
    written_padding,
)
from hubel.cli.output import destination, write_file
from hubel.errors import UserError, printable
from hubel.shapes import Padding, dropped_pixels, format_shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hubel.conv.worked import Operation, Walk, Worked

__all__ = ["arithmetic"]

_WIDTH = 80
_WINDOWS_SHOWN = 16

_POOLS = ("max", "average")


def arithmetic(
    input: str | None = typer.Option(
        None, "--input", help="Size: 5, 5x5 or 4x4x4. Without it: the lecture's picture, 5x5."
    ),
    kernel: str | None = typer.Option(
        None, "--kernel", help="Size: 3 (in every dimension) or 3x3. (default: 3)"
    ),
    stride: str | None = typer.Option(
        None,
        "--stride",
        help="Step of the window: 2 or 2x1. (default: 1; the kernel when pooling; 2 in the "
        "lecture's convolution)",
    ),
    padding: str | None = typer.Option(
        None,
        "--padding",
        help="1, 1x2, low:high pairs 0:1x2, same or valid. (default: 0; 1 in the lecture's "
        "convolution)",
    ),
    dilation: str = typer.Option("1", "--dilation", help="Distance between taps: 2 or 2x1."),
    transposed: bool = typer.Option(False, "--transposed", help="Transposed convolution."),
    output_padding: str = typer.Option(
        "0", "--output-padding", help="Rows and columns added to a transposed output: 1 or 0x1."
    ),
    pool: str | None = typer.Option(
        None, "--pool", help="Pool instead of convolving: max or average.", metavar="max|average"
    ),
    values: str | None = typer.Option(
        None,
        "--values",
        help="Numbers of the input: .npy, or text with a row a line and an empty line between "
        "slices.",
    ),
    kernel_values: str | None = typer.Option(
        None, "--kernel-values", help="Numbers of the kernel, in a file like --values."
    ),
    seed: int | None = typer.Option(
        None,
        "--seed",
        min=0,
        help="Where no numbers are given, draw them with this. (default: the lecture's picture "
        "and kernel where they have the size, else 0)",
    ),
    digits: int | None = typer.Option(
        None,
        "--digits",
        min=0,
        max=6,
        help="Decimals of numbers that are not whole. (default: 2; 1 for averages)",
    ),
    svg: str | None = typer.Option(None, "--svg", help="Draw every window on this sheet."),
    animated: str | None = typer.Option(
        None, "--animated", help="Write an SVG in which the window walks."
    ),
    force: bool = typer.Option(False, "--force", help="Replace files that exist."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """Sizes with the numbers filled in; every window, its products and its sum.

    Without --input and --values: the lecture's picture and kernel, stride 2, padding 1.

    With --pool: the same picture, stride 1, no padding.
    """
    from hubel.conv.worked import LECTURE_INPUT, LECTURE_KERNEL, walk_of, work_out

    operation = _operation(pool, transposed)
    lecture = input is None and values is None
    given = sizes("--input", input) if input is not None else None
    if kernel_values is not None and pool is not None:
        raise UserError("--kernel-values is of a convolution; pooling has no weights: leave it out")
    numbers = read_numbers("--values", values, given) if values is not None else None
    size = given or (numbers.shape if numbers is not None else (5, 5))
    dims = len(size)
    weights = _read_kernel(kernel, kernel_values, dims)
    taps = weights.shape if weights is not None else sizes_per_dim("--kernel", kernel or "3", dims)
    if stride is not None:
        steps = sizes_per_dim("--stride", stride, dims)
    elif pool is None:
        steps = ((2,) if lecture else (1,)) * dims
    else:
        steps = (1,) * dims if lecture else taps
    sides: Padding = 1 if lecture and pool is None else 0
    if padding is not None:
        sides = written_padding("--padding", padding, dims)
    walk = walk_of(
        operation,
        size,
        taps,
        stride=steps,
        padding=sides,
        dilation=sizes_per_dim("--dilation", dilation, dims),
        output_padding=sizes_per_dim("--output-padding", output_padding, dims, least=0),
    )
    if digits is None:
        digits = 1 if operation == "average" else 2

    made_up: dict[str, str] = {}  # what to say of numbers that nobody gave
    worked = None
    if walk.workable or svg is not None or animated is not None:
        import numpy as np

        lectures = seed is None and numbers is None and size == (5, 5)
        if numbers is None and walk.workable:
            drawn_ones = drawn(seed or 0, 0, size, 0, 4)
            numbers = np.array(LECTURE_INPUT, float) if lectures else drawn_ones
            if not lectures:
                made_up["input"] = f" (drawn with seed {seed or 0}; give yours with --values)"
        if weights is None and walk.workable and pool is None:
            plain = lectures and taps == (3, 3)
            weights = np.array(LECTURE_KERNEL, float) if plain else drawn(seed or 0, 1, taps, -1, 3)
            if not plain:
                made_up["kernel"] = f" (drawn with seed {seed or 0}; give yours: --kernel-values)"
        worked = work_out(walk, np.zeros(0) if numbers is None else numbers, weights)
    files = _draw(worked, svg, animated, (values, kernel_values), digits, force)

    if json:
        print(json_module.dumps(_document(walk, worked, files), allow_nan=False))
        return
    for line in _report(walk, worked, digits, made_up):
        print(line)
    for name, path in files.items():
        print(printable(f"{name}: {path}"))


def _operation(pool: str | None, transposed: bool) -> "Operation":
    if pool is None:
        return "transposed convolution" if transposed else "convolution"
    if transposed:
        raise UserError("--transposed and --pool do not go together; leave one out")
    if pool == "max":
        return "max"
    if pool == "average":
        return "average"
    raise UserError(f"--pool takes max or average, got '{pool}'")


def _read_kernel(
    kernel: str | None, kernel_values: str | None, dims: int
) -> "NDArray[np.float64] | None":
    if kernel_values is None:
        return None
    shape = sizes_per_dim("--kernel", kernel, dims) if kernel is not None else None
    return as_kernel(read_numbers("--kernel-values", kernel_values, shape), dims)


def _draw(
    worked: "Worked | None",
    svg: str | None,
    animated: str | None,
    read: tuple[str | None, ...],
    digits: int,
    force: bool,
) -> dict[str, str]:
    """Write what was asked for; both drawings are made before one is written."""
    if worked is None:
        return {}
    made = {}
    if svg is not None:
        from hubel.draw.arithmetic import arithmetic_sheet

        made["svg"] = (
            destination("--svg", svg, (".svg",), read, force),
            arithmetic_sheet(worked, digits),
        )
    if animated is not None:
        from hubel.draw.animated import animated as animation

        made["animated"] = (
            destination("--animated", animated, (".svg",), read, force),
            animation(worked, digits),
        )
    if len({path for path, _ in made.values()}) < len(made):
        raise UserError(f"--svg and --animated both name '{svg}'; give them different names")
    if made:
        from hubel.draw.svg import to_text

        for name, (path, drawing) in made.items():
            write_file(f"--{name}", path, to_text(drawing))
    return {name: str(path) for name, (path, _) in made.items()}


def _listed_unseen(walk: "Walk") -> tuple[tuple[int, ...], ...] | None:
    """`Walk.unseen`, or None where the list would take long to make and nobody would read it."""
    if max(i * k for i, k in zip(walk.size, walk.kernel_size, strict=True)) > 1_000_000:
        return None
    return walk.unseen()


def _document(walk: "Walk", worked: "Worked | None", files: dict[str, str]) -> dict[str, Any]:
    """The document of --json; indices count from 0, null stands for what is not worked out.

    operation, input_size, kernel_size, stride, padding ((low, high) pairs), dilation,
    output_padding, output_size; grid_size: what the window walks over, zeros included;
    steps: for each dimension the formulas as text, and the floor's remainder;
    receptive_field (size, jump, start); num_weights, macs, flops = 2·macs;
    padding_keeping_size; dropped: pixels at the end that no window reads; unseen: all indices
    that none reads, by dimension; files: what was written.
    numbers: input, kernel, grid, output, and windows, each with output_index, grid_start,
    values, products and result. A maximum over no pixel at all is null.
    """
    from hubel.conv.size_steps import receptive_field, same_size_padding, size_steps

    field = receptive_field(walk)
    seen = {} if field is None else {"size": field.size, "jump": field.jump, "start": field.start}
    return {
        "operation": walk.operation,
        "input_size": walk.size,
        "kernel_size": walk.kernel_size,
        "stride": walk.stride,
        "padding": walk.padding,
        "dilation": walk.dilation,
        "output_padding": walk.output_padding,
        "output_size": walk.output_size,
        "grid_size": walk.grid_size,
        "steps": [
            {"axis": step.axis, "remainder": step.remainder}
            | {what.replace(" ", "_"): formula for what, formula in step.lines}
            for step in size_steps(walk)
        ],
        "receptive_field": seen or None,
        "num_weights": 0 if walk.operation in _POOLS else walk.num_taps,
        "macs": walk.macs,
        "flops": 2 * walk.macs,
        "padding_keeping_size": same_size_padding(walk),
        "dropped": _dropped(walk),
        "unseen": _listed_unseen(walk),
        "numbers": None if worked is None else _numbers(worked),
        "files": files,
    }


def _numbers(worked: "Worked") -> dict[str, Any]:
    return {
        "input": as_json(worked.input),
        "kernel": as_json(worked.kernel),
        "grid": as_json(worked.grid),
        "output": as_json(worked.output),
        "windows": [
            {
                "output_index": stop,
                "grid_start": worked.walk.start(stop),
                "values": as_json(worked.values(stop)),
                "products": as_json(worked.products(stop)),
                "result": as_json(worked.output[stop]),
            }
            for stop in worked.walk.stops()
        ],
    }


def _report(
    walk: "Walk", worked: "Worked | None", digits: int, made_up: dict[str, str]
) -> list[str]:
    from hubel.conv.size_steps import receptive_field, same_size_padding, size_steps
    from hubel.conv.worked import MAX_GRID, MAX_PRODUCTS
    from hubel.draw.arithmetic import described

    lines = [*textwrap.wrap(described(walk), 78), ""]
    for step in size_steps(walk):
        for number, (what, formula) in enumerate(step.lines):
            axis = f"{step.axis}s" if number == 0 else ""
            lines.append(f"{axis:<10} {what:<13} {formula}")
    lines.append("")
    facts = [("output", _numbered(walk.output_size))]
    field = receptive_field(walk)
    if field is not None:
        start = ", ".join(str(s).replace("-", "−") for s in field.start)
        facts.append(
            (
                "receptive field",
                f"{format_shape(*field.size)} pixels, jump {format_shape(*field.jump)}, "
                f"start ({start})",
            )
        )
    if walk.macs:
        facts.append(("weights", f"{walk.num_taps:,} (one channel to one, without bias)"))
        facts.append(("MACs", f"{walk.macs:,}"))
        facts.append(("FLOPs", f"{2 * walk.macs:,} (= 2·MACs)"))
    kept = same_size_padding(walk)
    if kept is not None:
        sides = "×".join(str(a) if a == b else f"{a}:{b}" for a, b in kept)
        facts.append(("size is kept by", f"padding {sides}"))
    facts += _unseen_words(walk)
    lines += [f"{name:<18} {words}" for name, words in facts]
    if worked is None:
        lines += [
            "",
            f"No numbers: they are worked out for at most {MAX_GRID:,} padded pixels",
            f"and {MAX_PRODUCTS:,} products.",
        ]
        return lines
    shown = {"input": worked.input, "kernel": worked.kernel, "output": worked.output}
    for name, numbers in shown.items():
        if name == "output":
            lines += _windows(worked, digits)
        if numbers is not None:
            lines += ["", f"{name}{made_up.get(name, '')}", *matrix_lines(numbers, digits)]
    return lines


def _numbered(size: tuple[int, ...]) -> str:
    number = math.prod(size)
    shape = f"{format_shape(*size)} = " if len(size) > 1 else ""
    return f"{shape}{number:,} number{'s' * (number != 1)}"


def _windows(worked: "Worked", digits: int) -> list[str]:
    """A line a window, value·weight for each tap, where they are few and short."""
    from hubel.draw.arithmetic import factors, sum_line

    walk = worked.walk
    if walk.num_outputs > _WINDOWS_SHOWN:
        return []
    taps = list(itertools.product(*map(range, walk.kernel_size)))
    width = max(len(_place(stop)) for stop in walk.stops())
    lines = []
    for stop in walk.stops():
        line = sum_line(worked, stop, digits)
        if worked.kernel is not None:
            terms = " + ".join(factors(worked, stop, tap, digits) for tap in taps)
            line = f"{terms} = {line.rpartition(' = ')[2]}"
        lines.append(f"  {_place(stop):<{width}}  {line}")
    if max(map(len, lines)) > _WIDTH:
        return []
    return ["", "windows, by output (row, column)" if len(taps[0]) == 2 else "windows", *lines]


def _place(stop: tuple[int, ...]) -> str:
    return ",".join(str(index + 1) for index in stop)


def _unseen_words(walk: "Walk") -> list[tuple[str, str]]:
    """The pixels that the floor drops at the end, and those between windows, by name."""
    unseen = _listed_unseen(walk)
    if unseen is None:
        return [("read by no window", "not listed for so large an input")]
    dropped = _dropped(walk)
    ends = [i - n for i, n in zip(walk.size, dropped, strict=True)]
    facts = [
        (
            "dropped at the end",
            _named([[i for i in u if i >= end] for u, end in zip(unseen, ends, strict=True)]),
        )
    ]
    between = [[i for i in u if i < end] for u, end in zip(unseen, ends, strict=True)]
    if any(between):
        facts.append(("between windows", _named(between)))
    return facts


def _dropped(walk: "Walk") -> tuple[int, ...]:
    if walk.operation == "transposed convolution":
        return (0,) * len(walk.size)
    return dropped_pixels(
        walk.size,
        walk.kernel_size,
        stride=walk.stride,
        padding=walk.padding,
        dilation=walk.dilation,
    )


def _named(indices_per_axis: list[list[int]]) -> str:
    from hubel.conv.size_steps import AXES

    parts = []
    for name, indices in zip(AXES[len(indices_per_axis)], indices_per_axis, strict=True):
        if indices:
            named = ", ".join(str(i + 1) for i in indices[:8])
            more = f" and {len(indices) - 8} more" if len(indices) > 8 else ""
            parts.append(f"{name}{'s' * (len(indices) > 1)} {named}{more}")
    return "; ".join(parts) or "no pixel"
