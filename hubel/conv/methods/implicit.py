"""Channel-first implicit lowering: the GEMM of im2col without its matrix."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.method import METHODS, Method
from hubel.conv.views import sum_dtype

__all__ = ["Implicit"]

# A tile of pixels stays in the cache while all taps pass over it; measured best around 2 MB.
TILE_ELEMENTS = 1 << 19
# It stays far below the matrix that im2col would make, but large enough for a GEMM.
LEAST_PIXELS = 256
LOWERED_PART = 24


class Implicit(Method):
    """A filter of R·S taps is R·S filters of one tap, each a plain GEMM on shifted pixels.

    Zhou et al. 2021 (IISWC, arXiv 2110.03901), section III: with channels last, tap t of output
    pixel q multiplies the C channels of the input pixel q·s + t·d - low. Write this index as
    (q + shift)·s + phase: for one tap the pixels of a whole tile are one matrix, the rows of
    phase `phase` from row `shift` on. Stride and dilation change addresses only, and the C by K
    products of all taps are added up in place.

    Rows of the tile are consecutive in memory, so a shift by one beyond the end of a picture's
    line reads the next line. Those pixels are zeroed for the taps that must not see them (no
    such tap needs them: see `_zeroed`), which is all that is left of padding.
    """

    summary = "one GEMM a tap on shifted views, accumulated; no lowered matrix (Zhou et al. 2021)"
    extra_memory = (
        "one tile: about min(2^19, max(256·C, N·P·Q·R·S·C/24)) of input, as much of output"
    )

    def extra_elements(self, case: ConvCase) -> int:
        """The largest tile, with the margins that shifts run into and the pixels put aside."""
        channels = case.in_channels
        outputs = case.out_channels
        worst = 0
        for tile in _tiles(case):
            cells = tile.num_cells
            worst = max(
                worst,
                (cells + 2 * tile.margin) * channels
                + (0 if tile.in_place(case) else cells * outputs)
                + cells * channels,
            )
        return worst + math.prod(case.weight_shape)

    def forward(self, input: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Output (n, out_channels, *output_size), channels last in memory."""
        pixels = input.movedim(1, -1)
        taps = _taps_first(weight, case)
        output = taps.new_empty(case.n, *case.output_size, case.out_channels)
        tiles = _tiles(case)
        memory = _memory(taps, tiles, case)
        for tile in tiles:
            target = tile.of_output(output)
            in_place = tile.in_place(case)
            # (groups, rows, k / groups)
            sums = (
                target.view(1, -1, case.out_channels) if in_place else tile.new_rows(output, case)
            )
            started = False
            for phase in tile.phases:
                buffer = tile.load(pixels, phase, memory, case)
                for tap, rows in tile.walk(buffer, phase, zero=True):
                    torch.baddbmm(sums, rows, taps[tap], beta=1.0 if started else 0.0, out=sums)
                    started = True
            if not in_place:
                target.copy_(tile.crop(sums, case))
        return output.movedim(-1, 1).to(input.dtype)

    def grad_input(self, grad_output: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Gradient (n, in_channels, *size), channels last in memory."""
        outer = grad_output.movedim(1, -1)
        taps = _taps_first(weight, case)
        gradient = taps.new_zeros(case.n, *case.size, case.in_channels)
        tiles = _tiles(case)
        memory = _memory(taps, tiles, case)
        for tile in tiles:
            sums = tile.spread(tile.of_output(outer), taps.dtype, case)
            for phase in tile.phases:
                buffer = tile.buffer(memory, case).zero_()
                for tap, rows in tile.walk(buffer, phase, zero=False):
                    rows.baddbmm_(sums, taps[tap].mT)
                tile.store(buffer, gradient, phase, case)
        return gradient.movedim(-1, 1).to(grad_output.dtype)

    def grad_weight(self, grad_output: Tensor, input: Tensor, case: ConvCase) -> Tensor:
        """Gradient (out_channels, in_channels / groups, *kernel_size)."""
        pixels, outer = input.movedim(1, -1), grad_output.movedim(1, -1)
        k, c = case.out_channels // case.groups, case.in_channels // case.groups
        dtype = sum_dtype(input.dtype)
        gradient = input.new_zeros(*case.kernel_size, case.groups, c, k, dtype=dtype)
        tiles = _tiles(case)
        memory = _memory(gradient, tiles, case)
        for tile in tiles:
            sums = tile.spread(tile.of_output(outer), dtype, case)
            for phase in tile.phases:
                buffer = tile.load(pixels, phase, memory, case)
                for tap, rows in tile.walk(buffer, phase, zero=True):
                    gradient[tap].baddbmm_(rows.mT, sums)
        # (*kernel, g, c, k) -> (g, k, c, *kernel)
        moved = gradient.movedim((-3, -1, -2), (0, 1, 2))
        return moved.reshape(case.weight_shape).to(input.dtype)


METHODS.register("implicit")(Implicit())


def _memory(like: Tensor, tiles: "list[_Tile]", case: ConvCase) -> Tensor:
    """Room for the buffer of any tile, one for all: fresh memory costs more than its copy."""
    return like.new_empty(max(tile.num_buffer_rows for tile in tiles) * case.in_channels)


def _taps_first(weight: Tensor, case: ConvCase) -> Tensor:
    """(*kernel_size, groups, c, k) in `sum_dtype`: a view where the weight is channels last."""
    weight = weight.to(sum_dtype(weight.dtype))
    if case.groups == 1:
        # (k, *kernel, c): what channels last means for a weight; each tap is then a matrix.
        taps = weight.movedim(1, -1).contiguous().unsqueeze(0)
    else:
        k = case.out_channels // case.groups
        taps = weight.movedim(1, -1).contiguous().unflatten(0, (case.groups, k))
    # (g, k, *kernel, c) -> (*kernel, g, c, k)
    return taps.movedim((0, -1, 1), (-3, -2, -1))


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
class _Tile:
    """Some pictures, or some lines of one, and where each tap finds their pixels."""

    first: int
    num: int
    line: int
    axes: tuple[_Axis, ...]

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

    def buffer(self, memory: Tensor, case: ConvCase) -> Tensor:
        """The view (groups, num_buffer_rows, c / groups) of `memory`."""
        rows = memory[: self.num_buffer_rows * case.in_channels]
        return rows.view(case.groups, self.num_buffer_rows, -1)

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

    def load(self, pixels: Tensor, phase: Sequence[int], memory: Tensor, case: ConvCase) -> Tensor:
        """The buffer with the pixels (n, *size, c) of one phase; zeros beyond the picture."""
        buffer = self.buffer(memory, case)
        inner, outer = self._meeting(phase, case)
        if all(s.stop - s.start == e for s, e in zip(inner, self.extents, strict=True)):
            buffer[:, : self.margin].zero_()
            buffer[:, self.margin + self.num_cells :].zero_()
        else:
            buffer.zero_()
        source = pixels[self.first : self.first + self.num][:, *outer]
        grouped = source.unflatten(-1, (case.groups, -1)).movedim(-2, 0)
        self._grid(buffer)[:, :, *inner] = grouped
        return buffer

    def store(self, buffer: Tensor, gradient: Tensor, phase: Sequence[int], case: ConvCase) -> None:
        """Add the buffer to the pixels (n, *size, c) that it was loaded from."""
        inner, outer = self._meeting(phase, case)
        target = gradient[self.first : self.first + self.num][:, *outer]
        target += self._grid(buffer)[:, :, *inner].movedim(0, -2).flatten(-2)

    def walk(
        self, buffer: Tensor, phase: Sequence[int], zero: bool
    ) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """(tap, the rows (groups, num_rows, c / groups) it multiplies), for all taps of a phase.

        Pixels that a tap must not see are zero while it is at work (`zero`), or put back as
        they were afterwards, whatever it added to them.
        """
        yield from self._walk(self._grid(buffer), buffer, phase, (), self.margin, zero)

    def _walk(
        self,
        grid: Tensor,
        buffer: Tensor,
        phase: Sequence[int],
        done: tuple[int, ...],
        start: int,
        zero: bool,
    ) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        if len(done) == len(self.axes):
            yield done[::-1], buffer[:, start : start + self.num_rows]
            return
        # From the last axis to the first: putting lines aside is cheaper than columns.
        number = len(self.axes) - 1 - len(done)
        axis, stride = self.axes[number], self.strides[number]
        for tap, (of_phase, shift) in enumerate(axis.taps):
            if of_phase == phase[number]:
                with _zeroed(grid, number + 2, axis, shift, zero):
                    yield from self._walk(
                        grid, buffer, phase, (*done, tap), start + shift * stride, zero
                    )


@contextmanager
def _zeroed(grid: Tensor, dim: int, axis: _Axis, shift: int, zero: bool) -> Iterator[None]:
    """Zero what outputs read that fall off this axis's end and on the neighbouring line.

    With shift < 0 the first outputs read the previous line's last pixels; the last output
    itself reads up to count - 1 + shift, so no output needs them. With shift > 0 likewise.
    """
    if shift < 0:
        start, stop = max(0, axis.extent + shift), axis.extent
    else:
        start, stop = 0, min(axis.extent, axis.count + shift - axis.extent)
    if stop <= start:
        yield
        return
    slab = grid.narrow(dim, start, stop - start)
    aside = slab.clone()
    if zero:
        slab.zero_()
    yield
    slab.copy_(aside)


def _tiles(case: ConvCase) -> list[_Tile]:
    """Tiles of whole pictures, or of lines of one where a picture is too large."""
    lowered = case.n * math.prod(case.output_size) * case.num_taps * case.in_channels
    elements = min(TILE_ELEMENTS, max(LEAST_PIXELS * case.in_channels, lowered // LOWERED_PART))
    rest = tuple(_axis(case, axis, 0, case.output_size[axis]) for axis in range(1, case.dims))
    full = _axis(case, 0, 0, case.output_size[0])
    line = math.prod(axis.extent for axis in rest) * case.in_channels
    if full.extent * line <= elements or case.output_size[0] == 1:
        num = max(1, elements // (full.extent * line))
        return [
            _Tile(first, min(num, case.n - first), 0, (full, *rest))
            for first in range(0, case.n, num)
        ]
    lines = max(1, min(case.output_size[0] - 1, elements // line))
    return [
        _Tile(
            first,
            1,
            start,
            (_axis(case, 0, start, min(lines, case.output_size[0] - start)), *rest),
        )
        for first in range(case.n)
        for start in range(0, case.output_size[0], lines)
    ]
