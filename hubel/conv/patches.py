"""Explicit lowering of a part at a time: the windows of the next part over those of the last.

What vendors' implicit GEMM does in a GPU's shared memory ("on-the-fly patches"), in the cache.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.views import sum_dtype
from hubel.conv.windows import add_windows, filter_matrix, output_rows, window_matrix

__all__ = ["extra_elements", "forward", "grad_input", "grad_weight"]


@dataclass(frozen=True)
class _Part:
    """Some pictures, or some lines of one, as a case of its own."""

    pictures: slice
    lines_in: slice
    lines_out: slice
    case: ConvCase

    def of_input(self, input: Tensor) -> Tensor:
        """The view that this part reads."""
        return input[self.pictures, :, self.lines_in]

    def of_output(self, output: Tensor) -> Tensor:
        """The view that this part makes."""
        return output[self.pictures, :, self.lines_out]


def _parts(case: ConvCase, elements: int) -> Iterator[_Part]:
    """Parts whose windows have about so many elements; lines that see only padding in none."""
    line = math.prod(case.output_size[1:]) * case.num_taps * case.in_channels
    lines = min(case.output_size[0], max(1, elements // line))
    num = max(1, elements // (line * lines)) if lines == case.output_size[0] else 1
    (low, _), s = case.padding[0], case.stride[0]
    span = case.dilation[0] * (case.kernel_size[0] - 1) + 1
    for picture in range(0, case.n, num):
        pictures = slice(picture, min(case.n, picture + num))
        for first in range(0, case.output_size[0], lines):
            last = min(case.output_size[0], first + lines)
            start, stop = first * s - low, (last - 1) * s + span - low
            inside = slice(max(0, start), min(case.size[0], stop))
            if inside.stop <= inside.start:
                continue
            sides = (inside.start - start, stop - inside.stop)
            part = replace(
                case,
                n=pictures.stop - pictures.start,
                size=(inside.stop - inside.start, *case.size[1:]),
                padding=(sides, *case.padding[1:]),
                output_size=(last - first, *case.output_size[1:]),
            )
            yield _Part(pictures, inside, slice(first, last), part)


def extra_elements(case: ConvCase, elements: int) -> int:
    """Of the largest part: windows, the padded input and its copy in order, sums; and weights."""
    worst = 0
    for part in _parts(case, elements):
        pixels = part.case.n * math.prod(part.case.output_size)
        padded = part.case.n * math.prod(part.case.padded_size) * case.in_channels
        windows = pixels * case.num_taps * case.in_channels
        worst = max(worst, windows + 2 * padded + 2 * pixels * case.out_channels)
    return worst + math.prod(case.weight_shape)


def forward(input: Tensor, weight: Tensor, case: ConvCase, elements: int) -> Tensor:
    """Output (n, out_channels, *output_size), channels last in memory."""
    dtype = sum_dtype(input.dtype)
    filters = filter_matrix(weight.to(dtype), case).mT
    output = input.new_zeros(case.n, *case.output_size, case.out_channels).movedim(-1, 1)
    for part in _parts(case, elements):
        rows = window_matrix(part.of_input(input), part.case).to(dtype) @ filters
        # (g, n·P·Q, k / g) -> (n, *output_size, k)
        grid = rows.movedim(0, 1).reshape(part.case.n, *part.case.output_size, -1)
        part.of_output(output).copy_(grid.movedim(-1, 1))
    return output


def grad_input(grad_output: Tensor, weight: Tensor, case: ConvCase, elements: int) -> Tensor:
    """Gradient (n, in_channels, *size), channels last in memory."""
    dtype = sum_dtype(grad_output.dtype)
    filters = filter_matrix(weight.to(dtype), case)
    gradient = grad_output.new_zeros(case.n, *case.size, case.in_channels, dtype=dtype)
    gradient = gradient.movedim(-1, 1)
    for part in _parts(case, elements):
        rows = output_rows(part.of_output(grad_output), part.case).to(dtype)
        part.of_input(gradient).add_(add_windows(rows @ filters, part.case))
    return gradient.to(grad_output.dtype)


def grad_weight(grad_output: Tensor, input: Tensor, case: ConvCase, elements: int) -> Tensor:
    """Gradient (out_channels, in_channels / groups, *kernel_size)."""
    dtype = sum_dtype(input.dtype)
    k, columns = case.out_channels // case.groups, math.prod(case.weight_shape[1:])
    gradient = input.new_zeros(case.groups, k, columns, dtype=dtype)
    for part in _parts(case, elements):
        windows = window_matrix(part.of_input(input), part.case).to(dtype)
        rows = output_rows(part.of_output(grad_output), part.case).to(dtype)
        gradient.baddbmm_(rows.mT, windows)
    # (g, k / g, taps · c / g) -> (k, c / g, *kernel_size)
    by_tap: Tensor = gradient.flatten(0, 1).unflatten(1, (*case.kernel_size, -1))
    return by_tap.movedim(-1, 1).to(input.dtype)
