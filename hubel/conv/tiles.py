"""Tiles of a convolution's input, and where in a tile each tap of the kernel finds its pixels.

For `hubel.conv.methods.implicit`, whose docstring has the idea.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from hubel.conv.case import ConvCase

__all__ = ["Room", "Tile", "tiles_of"]


@dataclass(frozen=True)
class _Axis:
    """How one axis of a tile reads the input: outputs first..first+count, input in `phases`."""

    count: int
    """Output pixels of the tile."""
    base: int
    """Index within a phase of the buffer's first pixel."""
    extent: int
    """Pixels of the buffer, and of a row of sums."""
    taps: tuple[tuple[int, int], ...]
    """(phase, shift) of each tap: output q reads buffer pixel q + shift of that phase."""

    def unseen(self, shift: int) -> tuple[int, int]:
        """Pixels (first, last) that a tap must not see: those of outputs that fall off the end.

        With shift < 0 the first outputs read the previous line's last pixels instead; the last
        output itself reads up to count - 1 + shift, so no output needs them. With shift > 0
        likewise.
        """
        if shift < 0:
            return max(0, self.extent + shift), self.extent
        return 0, min(self.extent, self.count + shift - self.extent)


def _axis(case: ConvCase, axis: int, first: int, count: int) -> _Axis:
    i, o, s = case.size[axis], case.output_size[axis], case.stride[axis]
    low, d = case.padding[axis][0], case.dilation[axis]
    # (shift, phase) of q·s + t·d - low = (q + shift)·s + phase
    places = [divmod(t * d - low, s) for t in range(case.kernel_size[axis])]
    if count == o:
        base = 0
        lengths = [min(-(-(i - phase) // s), o + shift) for shift, phase in places]
        extent = max(o, *lengths)
    else:
        base = first + min(shift for shift, _ in places)
        extent = count + max(shift for shift, _ in places) - min(shift for shift, _ in places)
    return _Axis(
        count, base, extent, tuple((phase, first + shift - base) for shift, phase in places)
    )


@dataclass(frozen=True)
class Tile:
    """Some pictures, or some lines of one, and where each tap finds their pixels."""

    first: int
    num: int
    line: int
    axes: tuple[_Axis, ...]

    @property
    def geometry(self) -> object:
        """What the walk through the tile depends on; most tiles of a case have it in common."""
        return self.num, tuple((axis.count, axis.extent, axis.taps) for axis in self.axes)

    @property
    def extents(self) -> tuple[int, ...]:
        return tuple(axis.extent for axis in self.axes)

    @property
    def num_cells(self) -> int:
        return self.num * math.prod(self.extents)

    @property
    def strides(self) -> tuple[int, ...]:
        """Rows between neighbours along each axis."""
        return tuple(math.prod(self.extents[axis + 1 :]) for axis in range(len(self.axes)))

    @property
    def margin(self) -> int:
        """Rows that the largest shift reaches beyond the tile."""
        return sum(
            max(abs(shift) for _, shift in axis.taps) * stride
            for axis, stride in zip(self.axes, self.strides, strict=True)
        )

    @property
    def phases(self) -> list[tuple[int, ...]]:
        """The phases that taps read, one for each axis."""
        return list(product(*(sorted({phase for phase, _ in axis.taps}) for axis in self.axes)))

    @property
    def num_aside(self) -> tuple[int, ...]:
        """Cells of the largest slab that is put aside along each axis."""
        return tuple(
            max(0, *(last - first for first, last in map(axis.unseen, shifts)))
            * (self.num_cells // axis.extent)
            for axis, shifts in ((axis, [shift for _, shift in axis.taps]) for axis in self.axes)
        )

    def of_output(self, output: Tensor) -> Tensor:
        """The tile's part (num, *counts, k) of the output (n, *output_size, k)."""
        return output[
            self.first : self.first + self.num, self.line : self.line + self.axes[0].count
        ]

    def in_place(self, case: ConvCase) -> bool:
        """Whether rows of sums are rows of the output itself: nothing between, nothing beyond."""
        whole = self.num == 1 or self.extents[0] == self.axes[0].count
        return whole and case.groups == 1 and self.extents[1:] == case.output_size[1:]

    @property
    def num_rows(self) -> int:
        """Rows of sums: all cells, or of a single picture the lines that have outputs."""
        if self.num == 1:
            return self.axes[0].count * self.strides[0]
        return self.num_cells

    def new_rows(self, like: Tensor, case: ConvCase) -> Tensor:
        """Room for sums (groups, num_rows, k / groups)."""
        return like.new_empty(case.groups, self.num_rows, case.out_channels // case.groups)

    def _grid_shape(self) -> tuple[int, ...]:
        lines = self.num_rows // (self.num * self.strides[0])
        return (self.num, lines, *self.extents[1:])

    def crop(self, sums: Tensor, case: ConvCase) -> Tensor:
        """The true outputs (num, *counts, k) among the rows (groups, rows, k / groups)."""
        grid: Tensor = sums.unflatten(1, self._grid_shape())
        inside = grid[:, :, *(slice(axis.count) for axis in self.axes)]
        return inside.movedim(0, -2).flatten(-2)

    def spread(self, target: Tensor, dtype: torch.dtype, case: ConvCase) -> Tensor:
        """(num, *counts, k) as rows (groups, rows, k / groups), zeros between."""
        if self.in_place(case) and target.is_contiguous() and target.dtype == dtype:
            return target.view(1, -1, case.out_channels)
        rows = self.new_rows(target.new_empty(0, dtype=dtype), case).zero_()
        grid = rows.unflatten(1, self._grid_shape())
        inside = grid[:, :, *(slice(axis.count) for axis in self.axes)]
        inside.copy_(target.unflatten(-1, (case.groups, -1)).movedim(-2, 0))
        return rows

    @property
    def num_buffer_rows(self) -> int:
        """Every cell, and a margin on both sides that shifts run into."""
        return self.num_cells + 2 * self.margin

    def _grid(self, buffer: Tensor) -> Tensor:
        """The view (groups, num, *extents, c / groups) without the margins."""
        inside = buffer[:, self.margin : self.margin + self.num_cells]
        grid: Tensor = inside.unflatten(1, (self.num, *self.extents))
        return grid

    def _meeting(
        self, phase: Sequence[int], case: ConvCase
    ) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where the buffer and the input meet: the slices of either, one an axis."""
        inner, outer = [], []
        for axis, i, s, a in zip(self.axes, case.size, case.stride, phase, strict=True):
            length = max(0, -(-(i - a) // s))  # pixels of this phase
            start = max(0, axis.base)
            stop = max(start, min(length, axis.base + axis.extent))
            inner.append(slice(start - axis.base, stop - axis.base))
            outer.append(slice(start * s + a, max(start * s + a, (stop - 1) * s + a + 1), s))
        return tuple(inner), tuple(outer)

    def load(self, buffer: Tensor, pixels: Tensor, phase: Sequence[int], case: ConvCase) -> None:
        """Fill the buffer with the pixels (n, *size, c) of one phase; zeros beyond the picture."""
        inner, outer = self._meeting(phase, case)
        if all(s.stop - s.start == e for s, e in zip(inner, self.extents, strict=True)):
            buffer[:, : self.margin].zero_()
            buffer[:, self.margin + self.num_cells :].zero_()
        else:
            buffer.zero_()
        source = pixels[self.first : self.first + self.num][:, *outer]
        grouped = source.unflatten(-1, (case.groups, -1)).movedim(-2, 0)
        self._grid(buffer)[:, :, *inner] = grouped

    def store(self, buffer: Tensor, gradient: Tensor, phase: Sequence[int], case: ConvCase) -> None:
        """Add the buffer to the pixels (n, *size, c) that it was loaded from."""
        inner, outer = self._meeting(phase, case)
        target = gradient[self.first : self.first + self.num][:, *outer]
        target += self._grid(buffer)[:, :, *inner].movedim(0, -2).flatten(-2)

    def walk(self, buffer: Tensor, asides: Sequence[Tensor], phase: Sequence[int]) -> "list[_Step]":
        """What to do, in order, to meet every tap of a phase; `asides` has room for each axis."""
        return list(self._steps(self._grid(buffer), buffer, asides, phase, (), self.margin))

    def _steps(
        self,
        grid: Tensor,
        buffer: Tensor,
        asides: Sequence[Tensor],
        phase: Sequence[int],
        done: tuple[int, ...],
        start: int,
    ) -> "Iterator[_Step]":
        if len(done) == len(self.axes):
            yield _Step(buffer[:, start : start + self.num_rows], tap=done[::-1])
            return
        # From the last axis to the first: putting lines aside is cheaper than columns.
        number = len(self.axes) - 1 - len(done)
        axis, stride = self.axes[number], self.strides[number]
        for tap, (of_phase, shift) in enumerate(axis.taps):
            if of_phase != phase[number]:
                continue
            first, last = axis.unseen(shift)
            inner = self._steps(grid, buffer, asides, phase, (*done, tap), start + shift * stride)
            if last <= first:
                yield from inner
                continue
            slab = grid.narrow(number + 2, first, last - first)
            aside = asides[number][: slab.numel()].view(slab.shape)
            yield _Step(slab, aside=aside)
            yield from inner
            yield _Step(slab, aside=aside, back=True)


@dataclass(frozen=True)
class _Step:
    """Rows for a tap to multiply; or pixels to put aside, or back, that taps must not see."""

    rows: Tensor
    tap: tuple[int, ...] | None = None
    aside: Tensor | None = None
    back: bool = False


class Room:
    """Memory for the buffer of any tile, one for all: fresh memory costs more than its copy."""

    def __init__(self, tiles: Sequence[Tile], like: Tensor, case: ConvCase) -> None:
        self.case = case
        self.memory = like.new_empty(max(t.num_buffer_rows for t in tiles) * case.in_channels)
        cells = [max(numbers) for numbers in zip(*(t.num_aside for t in tiles), strict=True)]
        self.asides = [like.new_empty(number * case.in_channels) for number in cells]
        self.walks: dict[object, list[_Step]] = {}

    def buffer(self, tile: Tile) -> Tensor:
        """(groups, num_buffer_rows, c / groups), whatever was there before."""
        rows = self.memory[: tile.num_buffer_rows * self.case.in_channels]
        return rows.view(self.case.groups, tile.num_buffer_rows, -1)

    def walk(
        self, tile: Tile, phase: Sequence[int], *, zero: bool
    ) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """(tap, the rows (groups, num_rows, c / groups) it multiplies), for all taps of a phase.

        Pixels that a tap must not see are zero while it is at work (`zero`), or put back as
        they were afterwards, whatever was added to them.
        """
        key = (tile.geometry, tuple(phase))
        if key not in self.walks:
            self.walks[key] = tile.walk(self.buffer(tile), self.asides, phase)
        for step in self.walks[key]:
            if step.tap is not None:
                yield step.tap, step.rows
            elif step.aside is not None and step.back:
                step.rows.copy_(step.aside)
            elif step.aside is not None:
                step.aside.copy_(step.rows)
                if zero:
                    step.rows.zero_()


def tiles_of(case: ConvCase, pixels: int) -> list[Tile]:
    """Tiles of whole pictures, or of lines of one, with about so many pixels of input."""
    rest = tuple(_axis(case, axis, 0, case.output_size[axis]) for axis in range(1, case.dims))
    full = _axis(case, 0, 0, case.output_size[0])
    line = math.prod(axis.extent for axis in rest)
    if full.extent * line <= pixels or case.output_size[0] == 1:
        num = max(1, pixels // (full.extent * line))
        return [
            Tile(first, min(num, case.n - first), 0, (full, *rest))
            for first in range(0, case.n, num)
        ]
    lines = max(1, min(case.output_size[0] - 1, pixels // line))
    return [
        Tile(
            first,
            1,
            start,
            (_axis(case, 0, start, min(lines, case.output_size[0] - start)), *rest),
        )
        for first in range(case.n)
        for start in range(0, case.output_size[0], lines)
    ]
