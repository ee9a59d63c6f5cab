"""The im2col matrix of a small case in numbers, and how the implicit road walks its taps.

Rows are output pixels, n·P·Q of them; columns run over the R·S taps and, within a tap, over
the channels: "channel-first lowering" in the words of Zhou et al. 2021 (arXiv 2110.03901).
The columns of one tap are then a strided view of the padded input, and that is why an implicit
method never needs the matrix. With groups there is one GEMM a group, of the columns and
weights of its channels.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubel.conv.case import ConvCase
from hubel.errors import UserError
from hubel.shapes import format_shape

__all__ = [
    "MAX_LOWERED",
    "Gemm",
    "Lowered",
    "Tap",
    "gemm_of",
    "lower",
    "lowerable",
    "lowered_elements",
    "repeats",
    "taps",
]

MAX_LOWERED = 200_000
"""Cells of the largest matrix that is filled in."""


@dataclass(frozen=True)
class Gemm:
    """The sizes of one matrix product (rows × inner) by (inner × columns), `count` times."""

    rows: int
    inner: int
    columns: int
    count: int


@dataclass(frozen=True)
class Tap:
    """One position of the kernel: the view of the padded input that it multiplies.

    In each dimension the view starts at `start` and takes every `step`-th pixel, `size` of
    them. As a matrix it is (n·P·Q) × C and meets the tap's C × K weights.
    """

    position: tuple[int, ...]
    start: tuple[int, ...]
    step: tuple[int, ...]
    size: tuple[int, ...]


def gemm_of(case: ConvCase) -> Gemm:
    """The GEMM of explicit lowering: M = n·P·Q rows, R·S·C inner, K columns; one a group."""
    return Gemm(
        rows=case.n * math.prod(case.output_size),
        inner=case.num_taps * (case.in_channels // case.groups),
        columns=case.out_channels // case.groups,
        count=case.groups,
    )


def lowered_elements(case: ConvCase) -> int:
    """Cells of the im2col matrix, those of all groups together."""
    gemm = gemm_of(case)
    return gemm.rows * gemm.inner * gemm.count


def lowerable(case: ConvCase) -> bool:
    """Whether the padded input, the weights, the matrix and the product are small enough."""
    return MAX_LOWERED >= max(
        case.n * case.in_channels * math.prod(case.padded_size),
        math.prod(case.weight_shape),
        lowered_elements(case),
        math.prod(case.output_shape),
    )


def repeats(case: ConvCase) -> tuple[NDArray[np.int64], ...]:
    """How often each index of each dimension is read by the windows; a pixel of every channel
    stands in the im2col matrix the product of its indices' counts often."""
    found = []
    for i, k, s, d, (low, _), o in zip(
        case.size, case.kernel_size, case.stride, case.dilation, case.padding, case.output_size,
        strict=True,
    ):  # fmt: skip
        # Pixel p (padding counted) is read by tap t of the window at (p - t·d) / s, if that is
        # whole and one of the o windows: t lies between two bounds and is the same modulo m.
        p = np.arange(low, low + i, dtype=np.int64)
        common = math.gcd(d, s)
        m = s // common
        residue = p // common % m * pow(d // common, -1, m) % m
        first = np.maximum(0, -(((o - 1) * s - p) // d))
        last = np.minimum(k - 1, p // d)
        count = (last - residue) // m - (first - 1 - residue) // m
        found.append(np.where(p % common == 0, np.maximum(0, count), 0))
    return tuple(found)


def taps(case: ConvCase) -> Iterator[Tap]:
    """Every tap of the kernel in the order of the matrix's columns."""
    for position in itertools.product(*map(range, case.kernel_size)):
        start = tuple(t * d for t, d in zip(position, case.dilation, strict=True))
        yield Tap(position, start, case.stride, case.output_size)


@dataclass(frozen=True, eq=False)
class Lowered:
    """The im2col matrix of one input.

    `source` (n·P·Q, R·S·C) holds the flat index, in the (n, c, *size) input, of the pixel in
    each cell, -1 for padding; `matrix` its number; `counts` (n, c, *size) how often each input
    pixel stands in the matrix. `weights` (R·S·C/G, K) is the GEMM's right side, and `product`
    (n·P·Q, K) what comes out.
    """

    case: ConvCase
    input: NDArray[np.float64]
    source: NDArray[np.int64]
    matrix: NDArray[np.float64]
    counts: NDArray[np.int64]
    weights: NDArray[np.float64]
    product: NDArray[np.float64]

    @property
    def output(self) -> NDArray[np.float64]:
        """The product as a map (n, out_channels, *output_size)."""
        case = self.case
        rows = self.product.reshape(case.n, *case.output_size, case.out_channels)
        return np.moveaxis(rows, -1, 1)


def lower(case: ConvCase, input: NDArray[np.float64], weight: NDArray[np.float64]) -> Lowered:
    """The matrix of `input` (n, c, *size) and its product with `weight` (k, c/G, *kernel_size).

    `UserError` if one of the matrices has more than `MAX_LOWERED` cells (see `lowerable`).
    """
    if not lowerable(case):
        raise UserError(
            f"matrices are filled in up to {MAX_LOWERED:,} cells, got input "
            f"{format_shape(*case.input_shape)}, weights {format_shape(*case.weight_shape)} and an "
            f"im2col matrix of {lowered_elements(case):,}; take a smaller --input or fewer channels"
        )
    sides = ((0, 0), (0, 0), *case.padding)
    indices = np.pad(np.arange(input.size).reshape(input.shape), sides, constant_values=-1)
    columns = []
    for tap in taps(case):
        view = tuple(
            slice(start, start + (size - 1) * step + 1, step)
            for start, step, size in zip(tap.start, tap.step, tap.size, strict=True)
        )
        # (n, c, *output_size) -> (n·P·Q, c)
        seen = np.moveaxis(indices[:, :, *view], 1, -1)
        columns.append(seen.reshape(-1, case.in_channels))
    source = np.concatenate(columns, axis=1)
    inside = source >= 0
    matrix = np.where(inside, input.ravel()[source], 0.0)
    counts = np.bincount(source[inside], minlength=input.size).reshape(input.shape)
    # (k, c/G, *kernel) -> (R·S·C/G, k)
    weights = np.moveaxis(weight, 1, -1).reshape(case.out_channels, -1).T
    product = _product(case, matrix, weights)
    return Lowered(case, input, source, matrix, counts, weights, product)


def _product(
    case: ConvCase, matrix: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    groups = case.groups
    # (rows, taps, g, c/g) -> (g, rows, taps · c/g)
    by_group = matrix.reshape(len(matrix), case.num_taps, groups, -1)
    left = np.moveaxis(by_group, 2, 0).reshape(groups, len(matrix), -1)
    right = np.moveaxis(weights.reshape(len(weights), groups, -1), 1, 0)
    products: NDArray[np.float64] = np.moveaxis(left @ right, 0, 1)
    return products.reshape(len(matrix), case.out_channels)
