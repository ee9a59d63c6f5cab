"""`hubel conv lower`: a convolution as a matrix product, in numbers."""

import itertools
import json as json_module
import math
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from hubel.cli.conv.options import (
    MAX_SIZE,
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
from hubel.errors import UserError, printable, suggestion
from hubel.shapes import Padding, format_shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hubel.conv.case import ConvCase
    from hubel.conv.lowered import Lowered

__all__ = ["lower"]

_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
_TAPS_SHOWN = 27
_TAPS_LISTED = 10_000
_LARGEST = 10_000_000_000


def lower(
    input: str | None = typer.Option(
        None, "--input", help="Size: 5, 5x5 or 4x4x4. Without it: the lecture's picture, 5x5."
    ),
    kernel: str | None = typer.Option(None, "--kernel", help="Size: 3 or 3x3. (default: 3)"),
    channels: int = typer.Option(1, "--channels", min=1, max=MAX_SIZE, help="Input channels."),
    out_channels: int = typer.Option(
        1, "--out-channels", min=1, max=MAX_SIZE, help="Output channels."
    ),
    batch: int = typer.Option(1, "--batch", min=1, max=MAX_SIZE, help="Pictures."),
    stride: str | None = typer.Option(
        None, "--stride", help="2 or 2x1. (default: 1; 2 in the lecture's example)"
    ),
    padding: str | None = typer.Option(
        None,
        "--padding",
        help="1, 1x2, low:high pairs 0:1x2, same or valid. (default: 0; 1 in the lecture's "
        "example)",
    ),
    dilation: str = typer.Option("1", "--dilation", help="Distance between taps: 2 or 2x1."),
    groups: int = typer.Option(1, "--groups", min=1, max=MAX_SIZE, help="Groups of channels."),
    values: str | None = typer.Option(
        None,
        "--values",
        help="Numbers of the input: .npy, or text with a row a line and an empty line between "
        "slices or channels.",
    ),
    kernel_values: str | None = typer.Option(
        None, "--kernel-values", help="Numbers of the weights, in a file like --values."
    ),
    seed: int | None = typer.Option(
        None,
        "--seed",
        min=0,
        help="Where no numbers are given, draw them with this. (default: the lecture's picture "
        "and kernel where they have the size, else 0)",
    ),
    dtype: str = typer.Option("float32", "--dtype", help="Count bytes as: " + ", ".join(_BYTES)),
    digits: int = typer.Option(
        2, "--digits", min=0, max=6, help="Decimals of numbers that are not whole."
    ),
    svg: str | None = typer.Option(
        None, "--svg", help="Draw input, matrix, product and taps on this sheet."
    ),
    force: bool = typer.Option(False, "--force", help="Replace files that exist."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """The im2col matrix, its GEMM and its bytes; the taps of the implicit road; each method's
    extra memory.

    Without --input and --values: the lecture's picture and kernel, stride 2, padding 1.
    """
    if dtype not in _BYTES:
        raise UserError(f"--dtype '{dtype}' is not known; {suggestion(dtype, _BYTES)}")
    from hubel.conv.case import ConvCase
    from hubel.conv.lowered import lowerable

    lecture = input is None and values is None
    size = sizes("--input", input) if input is not None else None
    numbers = None
    if values is not None:
        if size is None and batch * channels > 1:
            raise UserError(
                "--values of several pictures or channels needs --input, the size of one picture: "
                "--input 5x5"
            )
        shape = (batch, channels, *size) if size is not None else None
        numbers = read_numbers("--values", values, shape)
        size = numbers.shape if size is None else size
    size = size or (5, 5)
    dims = len(size)
    taps = sizes_per_dim("--kernel", kernel, dims) if kernel is not None else None
    if taps is None and kernel_values is not None and channels == out_channels == 1:
        taps = as_kernel(read_numbers("--kernel-values", kernel_values), dims).shape
    sides: Padding = 1 if lecture else 0
    if padding is not None:
        sides = written_padding("--padding", padding, dims)
    case = ConvCase.of(
        batch,
        channels,
        out_channels,
        size,
        taps or (3,) * dims,
        stride=sizes_per_dim("--stride", stride or ("2" if lecture else "1"), dims),
        padding=sides,
        dilation=sizes_per_dim("--dilation", dilation, dims),
        groups=groups,
    )
    padded = case.n * case.in_channels * math.prod(case.padded_size)
    if max(padded, math.prod(case.weight_shape)) > _LARGEST:
        raise UserError(
            f"a layer of at most {_LARGEST:,} padded input numbers and as many weights is taken, "
            f"got {padded:,} and {math.prod(case.weight_shape):,}; take a smaller --input, "
            f"--batch, --channels or --kernel"
        )
    weights = None
    if kernel_values is not None:
        weights = read_numbers("--kernel-values", kernel_values, case.weight_shape)

    lowered = None
    if svg is not None or lowerable(case):
        lowered = _filled_in(case, numbers, weights, seed)
    files = {}
    if svg is not None and lowered is not None:
        from hubel.draw.lowering import lowering_sheet
        from hubel.draw.svg import to_text

        path = destination("--svg", svg, (".svg",), (values, kernel_values), force)
        write_file("--svg", path, to_text(lowering_sheet(lowered, digits)))
        files["svg"] = str(path)

    if json:
        found = _document(case, dtype)
        found |= {"numbers": None if lowered is None else _numbers(lowered), "files": files}
        print(json_module.dumps(found, allow_nan=False))
        return
    for line in _report(case, lowered, dtype, digits):
        print(line)
    for name, written in files.items():
        print(printable(f"{name}: {written}"))


def _filled_in(
    case: "ConvCase",
    numbers: "NDArray[np.float64] | None",
    weights: "NDArray[np.float64] | None",
    seed: int | None,
) -> "Lowered":
    """The matrix with the numbers given, the lecture's, or drawn ones. `UserError` if too large."""
    import numpy as np

    from hubel.conv.lowered import lower as fill_in
    from hubel.conv.lowered import lowerable
    from hubel.conv.worked import LECTURE_INPUT, LECTURE_KERNEL

    if not lowerable(case):
        return fill_in(case, np.zeros(0), np.zeros(0))  # says why not
    if numbers is None and seed is None and case.input_shape == (1, 1, 5, 5):
        numbers = np.array(LECTURE_INPUT, np.float64).reshape(case.input_shape)
        if weights is None and case.weight_shape == (1, 1, 3, 3):
            weights = np.array(LECTURE_KERNEL, np.float64).reshape(case.weight_shape)
    if numbers is None:
        numbers = drawn(seed or 0, 0, case.input_shape, 0, 4)
    if weights is None:
        weights = drawn(seed or 0, 1, case.weight_shape, -1, 3)
    return fill_in(case, numbers.reshape(case.input_shape), weights.reshape(case.weight_shape))


def _memory(case: "ConvCase", dtype: str) -> list[dict[str, Any]]:
    """What each method allocates beside the output, by its own formula."""
    from hubel.conv.method import METHODS

    rows = []
    for name in METHODS.names():
        method = METHODS[name]
        limit = method.limits(case)
        elements = None if limit else method.extra_elements(case)
        rows.append(
            {
                "method": name,
                "summary": method.summary,
                "extra_memory": method.extra_memory,
                "extra_elements": elements,
                "extra_bytes": None if elements is None else elements * 4,
                "cannot": limit,
            }
        )
    return rows


def _cells(case: "ConvCase") -> tuple[int, int, int]:
    """Matrix cells that hold a pixel; how often a pixel stands in it at least and at most."""
    from hubel.conv.lowered import repeats

    counts = repeats(case)
    filled = case.n * case.in_channels * math.prod(int(c.sum()) for c in counts)
    least, most = (math.prod(int(f(c)) for c in counts) for f in (min, max))
    return filled, least, most


def _document(case: "ConvCase", dtype: str) -> dict[str, Any]:
    """The document of --json but for `numbers` and `files`; indices count from 0.

    The three shapes, stride, padding, dilation, groups; gemm: M, K, N and how many of them;
    macs, flops = 2·macs; matrix and input in elements and in bytes of `dtype`, and their ratio;
    cells_of_pixels and cells_of_padding of the matrix; least_copies and most_copies of a pixel
    in it; taps: position, and start, step and size of its view of the padded input;
    tap_gemm: the product that one tap adds; methods: extra memory by formula, in elements and
    in bytes, or why the method cannot.
    """
    from hubel.conv.lowered import gemm_of, lowered_elements, taps

    gemm = gemm_of(case)
    filled, least, most = _cells(case)
    inputs, cells = math.prod(case.input_shape), lowered_elements(case)
    listed = case.num_taps <= _TAPS_LISTED
    return {
        "input_shape": case.input_shape,
        "weight_shape": case.weight_shape,
        "output_shape": case.output_shape,
        "stride": case.stride,
        "padding": case.padding,
        "dilation": case.dilation,
        "groups": case.groups,
        "gemm": {"M": gemm.rows, "K": gemm.inner, "N": gemm.columns, "num_gemms": gemm.count},
        "macs": case.macs,
        "flops": 2 * case.macs,
        "dtype": dtype,
        "matrix_elements": cells,
        "matrix_bytes": cells * _BYTES[dtype],
        "input_elements": inputs,
        "input_bytes": inputs * _BYTES[dtype],
        "matrix_over_input": cells / inputs,
        "cells_of_pixels": filled,
        "cells_of_padding": cells - filled,
        "least_copies": least,
        "most_copies": most,
        "taps": [
            {"tap": t.position, "start": t.start, "step": t.step, "size": t.size}
            for t in taps(case)
        ]
        if listed
        else None,
        "tap_gemm": {"M": gemm.rows, "K": gemm.inner // case.num_taps, "N": gemm.columns},
        "methods": _memory(case, dtype),
    }


def _numbers(lowered: "Lowered") -> dict[str, Any]:
    """counts: how often each input number stands in the matrix; source: the flat index of the
    input number in each of its cells, -1 for padding."""
    return {
        "input": as_json(lowered.input),
        "counts": lowered.counts.tolist(),
        "matrix": as_json(lowered.matrix),
        "source": lowered.source.tolist(),
        "weights": as_json(lowered.weights),
        "product": as_json(lowered.product),
        "output": as_json(lowered.output),
    }


def _report(case: "ConvCase", lowered: "Lowered | None", dtype: str, digits: int) -> Iterator[str]:
    facts = _document(case, dtype)
    gemm, taps = facts["gemm"], math.prod(case.kernel_size)
    matrix = format_shape(gemm["M"], gemm["K"] * gemm["num_gemms"])
    shapes = (case.input_shape, case.weight_shape, case.output_shape)
    names = ("input", "weights", "output")
    yield ", ".join(f"{n} {format_shape(*s)}" for n, s in zip(names, shapes, strict=True))
    yield ""
    yield "GEMM               (M × K) · (K × N), rows are output pixels"
    yield f"  M = N·P·Q        {gemm['M']:,}"
    yield f"  K = R·S·C/G      {gemm['K']:,} (taps, and in each tap the channels)"
    yield f"  N = out/G        {gemm['N']:,}"
    if gemm["num_gemms"] > 1:
        yield f"  groups           {gemm['num_gemms']:,} such products"
    yield f"MACs               {facts['macs']:,}"
    yield f"FLOPs              {facts['flops']:,} (= 2·MACs)"
    ratio = facts["matrix_over_input"]
    yield f"im2col matrix      {matrix} = {facts['matrix_elements']:,} cells"
    matrix_bytes, input_bytes = _bytes(facts["matrix_bytes"]), _bytes(facts["input_bytes"])
    yield f"  as {dtype:<14}{matrix_bytes}, {ratio:.3g}× the input's {input_bytes}"
    yield f"  hold pixels      {facts['cells_of_pixels']:,}, padding {facts['cells_of_padding']:,}"
    least, most = facts["least_copies"], facts["most_copies"]
    yield f"  one pixel stands {least if least == most else f'{least} to {most}'} times in it"
    yield from _number_lines(lowered, digits)
    yield ""
    product = facts["tap_gemm"]
    left, right = format_shape(product["M"], product["K"]), format_shape(product["K"], product["N"])
    yield f"implicit (Zhou et al. 2021): no matrix. {taps:,} taps, each a view of the padded input,"
    yield f"{left} as a matrix, times its own {right} weights; the products are added up."
    yield ""
    yield from _tap_lines(case)
    yield ""
    yield "extra memory of each method beside the output, at most, as float32 (N samples,"
    yield "C and K in and out channels, H·W padded input, P·Q output, R·S taps, G groups)"
    yield ""
    for row in facts["methods"]:
        size = "cannot" if row["cannot"] else _bytes(row["extra_bytes"])
        words = row["cannot"] or row["extra_memory"]
        yield from textwrap.wrap(
            f"{row['method']:<12} {size:>9}  {words}", 78, subsequent_indent=" " * 24
        )


def _number_lines(lowered: "Lowered | None", digits: int) -> Iterator[str]:
    from hubel.conv.lowered import MAX_LOWERED

    if lowered is None:
        yield ""
        yield f"No numbers: matrices are filled in up to {MAX_LOWERED:,} cells."
        return
    case = lowered.case
    shown = [("how often each pixel stands in it", lowered.counts[0, 0].astype(float))]
    if case.n == case.in_channels == 1:
        shown.insert(0, ("input", lowered.input[0, 0]))
    shown += [
        ("im2col matrix (· is padding)", lowered.matrix),
        ("weights", lowered.weights),
        ("product", lowered.product),
    ]
    for name, numbers in shown:
        yield ""
        yield name
        mask = lowered.source < 0 if numbers is lowered.matrix else None
        yield from matrix_lines(numbers, digits, dots=mask)


def _tap_lines(case: "ConvCase") -> Iterator[str]:
    from hubel.conv.lowered import taps

    yield f"  {'tap':<10} {'view starts at':<16} {'step':<10} size"
    for tap in itertools.islice(taps(case), _TAPS_SHOWN):
        where = ["×".join(map(str, v)) for v in (tap.step, tap.size)]
        places = [",".join(str(i + 1) for i in v) for v in (tap.position, tap.start)]
        yield f"  {places[0]:<10} {places[1]:<16} {where[0]:<10} {where[1]}"
    if case.num_taps > _TAPS_SHOWN:
        yield f"  and {case.num_taps - _TAPS_SHOWN:,} more"


def _bytes(count: int) -> str:
    """`count` bytes in a unit that reads well.

    >>> _bytes(324), _bytes(5_000_000)
    ('324 B', '4.77 MiB')
    """
    value, unit = float(count), 0
    while value >= 1024 and unit < 5:
        value, unit = value / 1024, unit + 1
    return f"{value:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB')[unit]}"
