"""Worked examples: every window of a small operation with its numbers, products and sum.

All operations here are one walk: a window steps over a *grid* of numbers and makes one output
number at each stop. For a convolution and for pooling the grid is the padded input. For a
transposed convolution it is the input with zeros between its pixels and around them, the
window steps by 1, and the kernel is turned (Dumoulin & Visin 2016, §4.2 and §4.5).
One channel, any number of spatial dimensions, numpy only.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hubel.errors import UserError
from hubel.shapes import (
    Padding,
    PerDim,
    format_shape,
    output_size,
    pad_sides,
    per_dim,
    pooled_size,
    transposed_size,
)

__all__ = [
    "LECTURE_INPUT",
    "LECTURE_KERNEL",
    "MAX_GRID",
    "MAX_PRODUCTS",
    "Operation",
    "Walk",
    "Worked",
    "walk_of",
    "work_out",
]

Numbers: TypeAlias = NDArray[np.float64]
Operation: TypeAlias = Literal["convolution", "transposed convolution", "max", "average"]

MAX_GRID = 10_000
"""Pixels, with padding, of the largest grid whose numbers are worked out."""

MAX_PRODUCTS = 200_000
"""The most products (output pixels times taps) that are worked out."""

# The example of the lecture (Dumoulin & Visin 2016, figures 1.1 and 1.3).
LECTURE_INPUT = (
    (3, 3, 2, 1, 0),
    (0, 0, 1, 3, 1),
    (3, 1, 2, 2, 3),
    (2, 0, 0, 2, 2),
    (2, 0, 0, 0, 1),
)
LECTURE_KERNEL = ((0, 1, 2), (2, 2, 0), (0, 1, 2))


@dataclass(frozen=True)
class Walk:
    """Where a window stops on its grid: sizes only, one entry a spatial dimension.

    `stride`, `padding` and `output_padding` are the operation's own. `step` is how far the
    window moves on the grid, `spread` how far apart the input's pixels lie there, and `offset`
    where the first of them lies: below 0 where padding crops a transposed convolution.
    """

    operation: Operation
    size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    output_size: tuple[int, ...]
    step: tuple[int, ...]
    spread: tuple[int, ...]
    offset: tuple[int, ...]
    grid_size: tuple[int, ...]

    @property
    def num_taps(self) -> int:
        """Positions of the window."""
        return math.prod(self.kernel_size)

    @property
    def num_outputs(self) -> int:
        """Stops of the window."""
        return math.prod(self.output_size)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one channel to one; 0 for pooling.

        A transposed convolution multiplies every input pixel by every weight: the zeros of its
        grid are how to see it, not what is computed.
        """
        if self.operation == "convolution":
            return self.num_outputs * self.num_taps
        if self.operation == "transposed convolution":
            return math.prod(self.size) * self.num_taps
        return 0

    @property
    def workable(self) -> bool:
        """Whether its numbers are within `MAX_GRID` and `MAX_PRODUCTS`."""
        return (
            math.prod(self.grid_size) <= MAX_GRID
            and self.num_outputs * self.num_taps <= MAX_PRODUCTS
        )

    def start(self, index: Sequence[int]) -> tuple[int, ...]:
        """Grid position of the window's first tap when it makes the output at `index`."""
        return tuple(o * s for o, s in zip(index, self.step, strict=True))

    def stops(self) -> Iterator[tuple[int, ...]]:
        """Output indices in the order of the walk."""
        return itertools.product(*map(range, self.output_size))

    def taps(self) -> Iterator[tuple[int, ...]]:
        """Positions inside the window, row by row."""
        return itertools.product(*map(range, self.kernel_size))

    def pixels(self) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Every input pixel that lies on the grid, as (grid position, input index)."""
        for index in itertools.product(*map(range, self.size)):
            at = tuple(o + i * s for o, i, s in zip(self.offset, index, self.spread, strict=True))
            if all(0 <= a < g for a, g in zip(at, self.grid_size, strict=True)):
                yield at, index

    def unseen(self) -> tuple[tuple[int, ...], ...]:
        """Input indices in each dimension that no window reads."""
        found = []
        for i, k, d, out, step, spread, offset in zip(
            self.size, self.kernel_size, self.dilation, self.output_size,
            self.step, self.spread, self.offset, strict=True,
        ):  # fmt: skip
            # Stop o reads the grid at o·step + t·d: pixel `at` is seen if some tap t fits.
            found.append(
                tuple(
                    pixel
                    for pixel in range(i)
                    if not any(
                        (at := offset + pixel * spread - t * d) % step == 0
                        and 0 <= at // step < out
                        for t in range(k)
                    )
                )
            )
        return tuple(found)


def walk_of(
    operation: Operation,
    size: tuple[int, ...],
    kernel_size: PerDim,
    *,
    stride: PerDim = 1,
    padding: Padding = 0,
    dilation: PerDim = 1,
    output_padding: PerDim = 0,
) -> Walk:
    """The walk of one operation, or `UserError` if there is no such operation."""
    dims = len(size)
    if not 1 <= dims <= 3:
        raise UserError(
            f"input takes 1, 2 or 3 spatial dimensions, got {dims}: {format_shape(*size)}"
        )
    kernels = per_dim(kernel_size, dims, "kernel_size")
    strides = per_dim(stride, dims, "stride")
    dilations = per_dim(dilation, dims, "dilation")
    extras = per_dim(output_padding, dims, "output_padding")
    if operation != "transposed convolution" and any(extras):
        raise UserError(
            f"output_padding {format_shape(*extras)} is of a transposed convolution only; "
            f"leave it out, or add --transposed"
        )
    if operation == "transposed convolution":
        out = transposed_size(
            size, kernels, stride=strides, padding=padding, output_padding=extras,
            dilation=dilations,
        )  # fmt: skip
        sides = pad_sides(padding, kernels)
        spans = tuple(d * (k - 1) for k, d in zip(kernels, dilations, strict=True))
        return Walk(
            operation, tuple(size), kernels, strides, sides, dilations, extras, out,
            step=(1,) * dims,
            spread=strides,
            offset=tuple(span - low for span, (low, _) in zip(spans, sides, strict=True)),
            grid_size=tuple(o + span for o, span in zip(out, spans, strict=True)),
        )  # fmt: skip
    out = output_size(size, kernels, stride=strides, padding=padding, dilation=dilations)
    sides = pad_sides(padding, kernels, stride=strides, dilation=dilations)
    if operation in ("max", "average"):
        if any(low != high for low, high in sides):
            raise UserError(f"padding of pooling is the same on both sides, got {sides}")
        lows = tuple(low for low, _ in sides)
        out = pooled_size(size, kernels, stride=strides, padding=lows, dilation=dilations)
    return Walk(
        operation, tuple(size), kernels, strides, sides, dilations, extras, out,
        step=strides,
        spread=(1,) * dims,
        offset=tuple(low for low, _ in sides),
        grid_size=tuple(low + i + high for i, (low, high) in zip(size, sides, strict=True)),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Worked:
    """A walk with its numbers.

    `grid` (*grid_size) is what the windows read, zeros included; `source` (*grid_size) holds
    the flat index of the input pixel in each of its cells, -1 where there is none. `window`
    (*kernel_size) is the kernel as it lies on the grid: turned for a transposed convolution,
    None for pooling.
    """

    walk: Walk
    input: Numbers
    kernel: Numbers | None
    grid: Numbers
    source: NDArray[np.int64]
    window: Numbers | None
    output: Numbers

    def cells(self, index: Sequence[int]) -> tuple[slice, ...]:
        """The grid's cells that make the output at `index`: one slice a dimension."""
        walk = self.walk
        return tuple(
            slice(at, at + (k - 1) * d + 1, d)
            for at, k, d in zip(walk.start(index), walk.kernel_size, walk.dilation, strict=True)
        )

    def values(self, index: Sequence[int]) -> Numbers:
        """What the window sees (*kernel_size)."""
        return self.grid[self.cells(index)]

    def inside(self, index: Sequence[int]) -> NDArray[np.bool_]:
        """Which of the window's cells (*kernel_size) hold a pixel and not padding."""
        return self.source[self.cells(index)] >= 0

    def products(self, index: Sequence[int]) -> Numbers:
        """What is summed: values times kernel (*kernel_size); for pooling the values."""
        values = self.values(index)
        return values if self.window is None else values * self.window


def work_out(walk: Walk, input: Numbers, kernel: Numbers | None = None) -> Worked:
    """Every number of `walk` on `input` (*size) and `kernel` (*kernel_size; None for pooling).

    Padding counts as zeros in an average, as torch does by default, and never wins a maximum.
    `UserError` if the walk is larger than `MAX_GRID` or `MAX_PRODUCTS`.
    """
    if not walk.workable:
        raise UserError(
            f"numbers are worked out for at most {MAX_GRID:,} padded pixels and "
            f"{MAX_PRODUCTS:,} products, got {format_shape(*walk.grid_size)} pixels and "
            f"{walk.num_outputs * walk.num_taps:,} products; take a smaller input"
        )
    grid = np.zeros(walk.grid_size)
    source = np.full(walk.grid_size, -1, dtype=np.int64)
    for at, index in walk.pixels():
        grid[at] = input[index]
        source[at] = np.ravel_multi_index(index, walk.size)
    window = kernel
    if kernel is not None and walk.operation == "transposed convolution":
        window = np.flip(kernel)
    worked = Worked(walk, input, kernel, grid, source, window, np.zeros(walk.output_size))
    for stop in walk.stops():
        products = worked.products(stop)
        if walk.operation == "max":
            worked.output[stop] = products[worked.inside(stop)].max(initial=-np.inf)
        elif walk.operation == "average":
            worked.output[stop] = products.mean()
        else:
            worked.output[stop] = products.sum()
    return worked
