"""Channel-first implicit lowering: the GEMM of im2col without its matrix."""

import math

import torch
from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.method import METHODS, Method
from hubel.conv.tiles import Room, tiles_of
from hubel.conv.views import sum_dtype

__all__ = ["Implicit"]

# A tile of input or sums stays in the cache while all taps pass over it: best around 2 MB.
TILE_ELEMENTS = 1 << 19
# It stays far below the matrix that im2col would make, but large enough for a GEMM.
LEAST_PIXELS = 256
LOWERED_PART = 27


class Implicit(Method):
    """A filter of R·S taps is R·S filters of one tap, each a plain GEMM on shifted pixels.

    Zhou et al. 2021 (IISWC, arXiv 2110.03901), section III: with channels last, tap t of output
    pixel q multiplies the C channels of the input pixel q·s + t·d - low. Write this index as
    (q + shift)·s + phase: for one tap the pixels of a whole tile are one matrix, the rows of
    phase `phase` from row `shift` on. Stride and dilation change addresses only, and the C by K
    products of all taps are added up in place.

    Rows of the tile are consecutive in memory, so a shift by one beyond the end of a picture's
    line reads the next line. Those pixels are zeroed for the taps that must not see them (no
    such tap needs them), which is all that is left of padding.
    """

    summary = "one GEMM a tap on shifted views, accumulated; no lowered matrix (Zhou et al. 2021)"
    extra_memory = (
        "R·S·C·K/G the weight + about T·C a tile of T = min(2^19 / max(C, K), "
        "max(256, N·P·Q·R·S/27)) pixels; + T·(C + K) with groups, + T·K where padding does not "
        "keep the size"
    )

    def extra_elements(self, case: ConvCase) -> int:
        """The largest tile with the pixels it puts aside, and sums that are not the output."""
        worst = 0
        for tile in tiles_of(case, _tile_pixels(case)):
            sums = 0 if tile.in_place(case) else tile.num_rows * case.out_channels
            buffer = tile.num_buffer_rows * case.in_channels
            # A batch of GEMMs, one a group, copies rows that do not lie side by side.
            copied = tile.num_rows * case.in_channels if case.groups > 1 else 0
            aside = sum(tile.num_aside) * case.in_channels
            worst = max(worst, buffer + aside + sums + copied)
        return worst + math.prod(case.weight_shape)

    def forward(self, input: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Output (n, out_channels, *output_size), channels last in memory."""
        pixels, taps = input.movedim(1, -1), _taps_first(weight, case)
        output = taps.new_empty(case.n, *case.output_size, case.out_channels)
        tiles = tiles_of(case, _tile_pixels(case))
        room = Room(tiles, taps, case)
        for tile in tiles:
            target = tile.of_output(output)
            in_place = tile.in_place(case)
            # (groups, rows, k / groups)
            sums = (
                target.view(1, -1, case.out_channels) if in_place else tile.new_rows(output, case)
            )
            started = False
            for phase in tile.phases:
                tile.load(room.buffer(tile), pixels, phase, case)
                for tap, rows in room.walk(tile, phase, zero=True):
                    torch.baddbmm(sums, rows, taps[tap], beta=1.0 if started else 0.0, out=sums)
                    started = True
            if not in_place:
                target.copy_(tile.crop(sums, case))
        return output.movedim(-1, 1).to(input.dtype)

    def grad_input(self, grad_output: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Gradient (n, in_channels, *size), channels last in memory."""
        outer, taps = grad_output.movedim(1, -1), _taps_first(weight, case)
        gradient = taps.new_zeros(case.n, *case.size, case.in_channels)
        tiles = tiles_of(case, _tile_pixels(case))
        room = Room(tiles, taps, case)
        for tile in tiles:
            sums = tile.spread(tile.of_output(outer), taps.dtype, case)
            for phase in tile.phases:
                buffer = room.buffer(tile).zero_()
                for tap, rows in room.walk(tile, phase, zero=False):
                    rows.baddbmm_(sums, taps[tap].mT)
                tile.store(buffer, gradient, phase, case)
        return gradient.movedim(-1, 1).to(grad_output.dtype)

    def grad_weight(self, grad_output: Tensor, input: Tensor, case: ConvCase) -> Tensor:
        """Gradient (out_channels, in_channels / groups, *kernel_size)."""
        pixels, outer = input.movedim(1, -1), grad_output.movedim(1, -1)
        k, c = case.out_channels // case.groups, case.in_channels // case.groups
        dtype = sum_dtype(input.dtype)
        gradient = input.new_zeros(*case.kernel_size, case.groups, c, k, dtype=dtype)
        tiles = tiles_of(case, _tile_pixels(case))
        room = Room(tiles, gradient, case)
        for tile in tiles:
            sums = tile.spread(tile.of_output(outer), dtype, case)
            for phase in tile.phases:
                tile.load(room.buffer(tile), pixels, phase, case)
                for tap, rows in room.walk(tile, phase, zero=True):
                    gradient[tap].baddbmm_(rows.mT, sums)
        # (*kernel, g, c, k) -> (g, k, c, *kernel)
        moved = gradient.movedim((-3, -1, -2), (0, 1, 2))
        return moved.reshape(case.weight_shape).to(input.dtype)


METHODS.register("implicit")(Implicit())


def _tile_pixels(case: ConvCase) -> int:
    pixels = TILE_ELEMENTS // max(case.in_channels, case.out_channels)
    lowered = case.n * math.prod(case.output_size) * case.num_taps
    return max(1, min(pixels, max(LEAST_PIXELS, lowered // LOWERED_PART)))


def _taps_first(weight: Tensor, case: ConvCase) -> Tensor:
    """(*kernel_size, groups, c, k) in `sum_dtype`: a view where the weight is channels last."""
    # (k, *kernel, c): what channels last means for a weight; each tap is then a matrix.
    ordered = weight.to(sum_dtype(weight.dtype)).movedim(1, -1).contiguous()
    grouped: Tensor = ordered.unflatten(0, (case.groups, case.out_channels // case.groups))
    # (g, k, *kernel, c) -> (*kernel, g, c, k)
    return grouped.movedim((0, -1, 1), (-3, -2, -1))
