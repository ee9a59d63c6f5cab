"""Winograd's minimal filtering: transform tiles, multiply few numbers, transform back.

Source: Lavin & Gray 2016, Fast Algorithms for Convolutional Neural Networks (arXiv 1509.09308,
§4). A tile of m outputs of a 3-tap filter needs m·3 multiplications by the definition and m + 2
by F(m, 3): Y = Aᵀ[(G g) ⊙ (Bᵀ d)] for taps g and the m + 2 pixels d under the tile. Nested over d
dimensions (§4.1) this is (3m / (m + 2))^d times fewer, and the sum over channels makes a GEMM of
each of the (m + 2)^d positions: [tiles × C] @ [C × K].

Two methods: `winograd` is F(2, 3), 2.25 times fewer multiplications in 2-D and as exact as the
definition, so it may replace any other method unseen; `winograd4` is F(4, 3), 4 times fewer and
with fewer transformed pixels (2.25 a pixel instead of 4), but it adds rounding. Largest error over
largest output in float32, normally distributed data, 64 channels (16 in 3-D):

    definition 2e-7 to 4e-7 in 1-D and 2-D;
    F(2, 3)    3e-7 in 1-D, 4e-7 in 2-D, 3e-7 in 3-D;
    F(4, 3)    7e-7 in 1-D, 1.6e-6 in 2-D, 2.2e-6 in 3-D; with the paper's points 6e-6 and 1.7e-5.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.method import METHODS, Method
from hubel.conv.views import sum_dtype

__all__ = ["Matrix", "Winograd", "cook_toom"]

Matrix: TypeAlias = tuple[tuple[Fraction, ...], ...]
"""Rows of exact numbers."""

KERNEL = 3
POINTS: dict[int, tuple[Fraction, ...]] = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2)),
}
"""Finite interpolation points of F(m, 3); infinity is always one more.

Those of F(2, 3) are the paper's (§4.1). For F(4, 3) the paper takes 0, ±1, ±2 (§4.3), whose powers
make large numbers that cancel; ±3/4 and ±3/2 round 4 times less in 2-D and 8 times less in 3-D at
the same cost, and keep A and B exact in binary.
"""
CHUNK_TILES = 1024
"""Samples are taken together until they have this many tiles: enough rows for a good GEMM."""


def _product(factors: Sequence[Sequence[Fraction]]) -> list[Fraction]:
    """Coefficients, lowest first, of a product of polynomials."""
    result = [Fraction(1)]
    for factor in factors:
        longer = [Fraction(0)] * (len(result) + len(factor) - 1)
        for i, a in enumerate(result):
            for j, b in enumerate(factor):
                longer[i + j] += a * b
        result = longer
    return result


def cook_toom(m: int, r: int, points: Sequence[Fraction | int]) -> tuple[Matrix, Matrix, Matrix]:
    """A, B and G of F(m, r) from m + r - 2 finite points, with one row for each point and for ∞.

    A filter of r taps and a signal of m numbers multiply as polynomials: evaluate both at the
    points, multiply the values, interpolate by Lagrange. The transpose of that map is the
    correlation of the taps with m + r - 1 pixels: with rows a, b, g of a point it is
    y_i = Σ_point a_i · (g · taps) · (b · pixels). So A (points × m) and G (points × r) evaluate,
    G divided by Lagrange's denominator, and B (points × (m + r - 1)), the paper's Bᵀ, holds the
    coefficients of Lagrange's numerators.

    >>> A, B, G = cook_toom(2, 3, (0, 1, -1))
    >>> [int(b) for b in B[1]], [str(g) for g in G[1]]
    ([0, 1, 1, 0], ['1/2', '1/2', '1/2'])
    """
    exact = [Fraction(p) for p in points]
    rows_a, rows_b, rows_g = [], [], []
    for p in exact:
        others = [q for q in exact if q != p]
        denominator = prod((p - q for q in others), start=Fraction(1))
        rows_a.append(tuple(p**i for i in range(m)))
        rows_b.append((*_product([(-q, Fraction(1)) for q in others]), Fraction(0)))
        rows_g.append(tuple(p**i / denominator for i in range(r)))
    # At infinity a polynomial's value is its leading coefficient.
    rows_a.append(tuple(Fraction(i == m - 1) for i in range(m)))
    rows_b.append(tuple(_product([(-q, Fraction(1)) for q in exact])))
    rows_g.append(tuple(Fraction(i == r - 1) for i in range(r)))
    return tuple(rows_a), tuple(rows_b), tuple(rows_g)


def _analyse(maps: Tensor, matrix: Matrix, step: int, i: int, count: int) -> Tensor:
    """Every tile of spatial axis `i` times `matrix`; axes before it are done.

    (g, *positions, *tiles, size, ...) to (g, *positions, position, *tiles, tile, ...). Tile t
    begins at pixel t·step: out[α, t] = Σ_j matrix[α][j] · maps[t·step + j] is a sum of shifted,
    strided views, so the overlapping tiles are never copied out.
    """
    axis = 1 + 2 * i
    shape = list(maps.shape)
    shape[axis] = count
    shape.insert(1 + i, len(matrix))
    out = maps.new_zeros(shape)
    for alpha, row in enumerate(matrix):
        for j, factor in enumerate(row):
            if factor:
                shifted = _every(maps, axis, j, step, count)
                out.select(1 + i, alpha).add_(shifted, alpha=float(factor))
    return out


def _synthesise(tiled: Tensor, matrix: Matrix, step: int, i: int) -> Tensor:
    """The transpose of `_analyse`: axis `i` back from tiles, added up where they overlap."""
    axis = 1 + 2 * i
    shape = list(tiled.shape)
    del shape[1 + i]
    count = shape[axis]
    shape[axis] = (count - 1) * step + len(matrix[0])
    out = tiled.new_zeros(shape)
    for alpha, row in enumerate(matrix):
        for j, factor in enumerate(row):
            if factor:
                target = _every(out, axis, j, step, count)
                target.add_(tiled.select(1 + i, alpha), alpha=float(factor))
    return out


def _every(maps: Tensor, axis: int, start: int, step: int, count: int) -> Tensor:
    """The view of `count` entries of an axis: start, start + step, ..."""
    slices = [slice(None)] * axis + [slice(start, start + (count - 1) * step + 1, step)]
    return maps[tuple(slices)]


class Winograd(Method):
    """F(m, 3) in every dimension: `tile` is m, `points` its m + 1 finite interpolation points.

    Half precisions compute in float32 and round once. Tensors inside are (groups, *spatial,
    samples, channels): every GEMM's operands lie as BLAS likes them, and the taps of a transform
    are long contiguous runs.
    """

    def __init__(self, tile: int, points: Sequence[Fraction | int]) -> None:
        self.tile = tile
        self.a, self.b, self.g = cook_toom(tile, KERNEL, points)
        self.summary = (
            f"transformed tiles, F({tile},3) in each dimension: {3 * tile}/{tile + 2} times fewer "
            "multiplications a dimension (Lavin & Gray 2016)"
        )
        self.extra_memory = (
            f"{tile + 2}^dims·(C·K/G + max(C·K/G, 2·T·max(C, K))), T tiles of {tile} a dimension "
            f"in one sample, or in as many samples as have {CHUNK_TILES}"
        )

    def limits(self, case: ConvCase) -> str | None:
        for name, wanted, got in (
            ("kernel_size", KERNEL, case.kernel_size),
            ("stride", 1, case.stride),
            ("dilation", 1, case.dilation),
        ):
            if any(value != wanted for value in got):
                return f"takes {name} {wanted} in every dimension, got {got}"
        return None

    def multiplications(self, case: ConvCase) -> int:
        """Those of the GEMMs, for the whole batch; compare with `case.macs`."""
        weights = case.out_channels * case.in_channels // case.groups
        return prod(self._positions(case)) * prod(self._tiles(case)) * case.n * weights

    def extra_elements(self, case: ConvCase) -> int:
        weight = case.in_channels * case.out_channels // case.groups
        rows = prod(self._tiles(case)) * self._samples(case)
        tiles = 2 * rows * max(case.in_channels, case.out_channels)
        return prod(self._positions(case)) * (weight + max(weight, tiles))

    def forward(self, input: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        taps = self._taps(weight, case)
        output = input.new_empty(case.output_shape)
        for chunk in self._chunks(case):
            # Nested, without names: what is no longer needed is freed at once.
            self._fold(
                output[chunk],
                torch.bmm(self._input_tiles(input[chunk], case), taps),
                self.a,
                case,
                (0,) * case.dims,
            )
        return output

    def grad_input(self, grad_output: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        taps = self._taps(weight, case)
        grad = grad_output.new_empty(case.input_shape)
        for chunk in self._chunks(case):
            self._fold(
                grad[chunk],
                torch.bmm(self._output_tiles(grad_output[chunk], case), taps.mT),
                self.b,
                case,
                [low for low, _ in case.padding],
            )
        return grad

    def grad_weight(self, grad_output: Tensor, input: Tensor, case: ConvCase) -> Tensor:
        per_group = (case.in_channels // case.groups, case.out_channels // case.groups)
        positions = self._positions(case)
        dtype = sum_dtype(input.dtype)
        grad = input.new_zeros((case.groups * prod(positions), *per_group), dtype=dtype)
        for chunk in self._chunks(case):
            grad.baddbmm_(
                self._input_tiles(input[chunk], case).mT,
                self._output_tiles(grad_output[chunk], case),
            )
        grad = grad.view(case.groups, *positions, *(1,) * case.dims, *per_group)
        for i in reversed(range(case.dims)):
            grad = _synthesise(grad, self.g, 1, i)
        # (g, *kernel, c, k) -> (g, k, c, *kernel)
        return grad.movedim((-1, -2), (1, 2)).reshape(case.weight_shape).to(input.dtype)

    def _positions(self, case: ConvCase) -> tuple[int, ...]:
        """Transformed pixels of one tile along each dimension."""
        return (self.tile + 2,) * case.dims

    def _tiles(self, case: ConvCase) -> tuple[int, ...]:
        """Number of tiles along each dimension; the last may hang over the edge."""
        return tuple(-(-o // self.tile) for o in case.output_size)

    def _samples(self, case: ConvCase) -> int:
        return min(case.n, max(1, CHUNK_TILES // prod(self._tiles(case))))

    def _chunks(self, case: ConvCase) -> Iterator[slice]:
        samples = self._samples(case)
        return (slice(i, min(i + samples, case.n)) for i in range(0, case.n, samples))

    def _taps(self, weight: Tensor, case: ConvCase) -> Tensor:
        """G·weight: (groups · positions, c, k)."""
        # (g, k, c, *kernel) -> (g, *kernel, c, k)
        grouped = _split(weight.to(sum_dtype(weight.dtype)), 0, case.groups)
        taps = grouped.movedim((1, 2), (-1, -2)).contiguous()
        for i in range(case.dims):
            taps = _analyse(taps, self.g, 1, i, 1)
        return taps.view(-1, *taps.shape[-2:])

    def _input_tiles(self, input: Tensor, case: ConvCase) -> Tensor:
        """Bᵀ·pixels: (groups · positions, tiles · samples, c)."""
        size = [t * self.tile + KERNEL - 1 for t in self._tiles(case)]
        start = [low for low, _ in case.padding]
        return self._unfold(_lay(input, case.groups, size, start), self.b, case)

    def _output_tiles(self, grad_output: Tensor, case: ConvCase) -> Tensor:
        """A·gradient, the transpose of the way back: (groups · positions, tiles · samples, k)."""
        size = [t * self.tile for t in self._tiles(case)]
        laid = _lay(grad_output, case.groups, size, (0,) * case.dims)
        return self._unfold(laid, self.a, case)

    def _unfold(self, maps: Tensor, matrix: Matrix, case: ConvCase) -> Tensor:
        """Maps (groups, *size, n, c) to tiles (groups · positions, tiles · samples, c)."""
        for i, count in enumerate(self._tiles(case)):
            maps = _analyse(maps, matrix, self.tile, i, count)
        return maps.view(case.groups * prod(self._positions(case)), -1, maps.shape[-1])

    def _fold(
        self, target: Tensor, tiled: Tensor, matrix: Matrix, case: ConvCase, start: Sequence[int]
    ) -> None:
        """Write tiles (groups · positions, tiles · samples, c) to `target`, cropped at `start`."""
        shape = (case.groups, *self._positions(case), *self._tiles(case), target.shape[0], -1)
        tiled = tiled.view(shape)
        for i in reversed(range(case.dims)):
            tiled = _synthesise(tiled, matrix, self.tile, i)
        for axis, low in enumerate(start):
            tiled = tiled.narrow(1 + axis, low, target.shape[2 + axis])
        # (g, *size, n, c) -> (n, g, c, *size)
        _split(target, 1, case.groups).copy_(tiled.movedim((-2, 0, -1), (0, 1, 2)))


def _lay(maps: Tensor, groups: int, size: Sequence[int], start: Sequence[int]) -> Tensor:
    """Maps (n, c, *spatial) set into zeros at `start`, as (groups, *size, n, c / groups)."""
    n, channels = maps.shape[:2]
    laid = maps.new_zeros((groups, *size, n, channels // groups), dtype=sum_dtype(maps.dtype))
    inner = laid
    for axis, (low, length) in enumerate(zip(start, maps.shape[2:], strict=True)):
        inner = inner.narrow(1 + axis, low, length)
    inner.copy_(_split(maps, 1, groups).movedim((0, 1, 2), (-2, 0, -1)))
    return laid


def _split(tensor: Tensor, axis: int, groups: int) -> Tensor:
    """The view with `axis` cut into (groups, axis / groups)."""
    return tensor.view(*tensor.shape[:axis], groups, -1, *tensor.shape[axis + 1 :])


METHODS.register("winograd")(Winograd(2, POINTS[2]))
METHODS.register("winograd4")(Winograd(4, POINTS[4]))
