"""MEC: lowering along the width only, and GEMMs on overlapping views of the lowered matrix."""

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.method import METHODS, Method
from hubel.conv.views import crop_padding, pad_input, padded_elements, sum_dtype, tap_slices

__all__ = ["Mec", "lowered"]


def lowered(input: Tensor, case: ConvCase) -> Tensor:
    """The compact matrix of each group, (groups, n·Q, H·S·C/G); H stands for D·H in 3-D.

    Cho & Brand 2017 (arXiv 1706.06873), section 3: row (n, q) is the vertical strip of the
    padded input that the windows of output column q see. The strip's lines follow each other,
    so that the window of output row p is the row's part from line stride·p on, and windows of
    neighbouring rows overlap instead of being copied twice: im2col's matrix has P·R lines where
    this one has H, about stride / R of it.
    """
    windows = pad_input(input, case).unfold(
        -1, case.dilation[-1] * (case.kernel_size[-1] - 1) + 1, case.stride[-1]
    )
    # (n, groups, C/G, *lines, Q, S) -> (groups, n, Q, *lines, S, C/G)
    grouped = torch.unflatten(windows[..., :: case.dilation[-1]], 1, (case.groups, -1))
    lines = range(3, 2 + case.dims)
    ordered = grouped.permute(1, 0, -2, *lines, -1, 2)
    return ordered.reshape(case.groups, case.n * case.output_size[-1], -1)


class Mec(Method):
    """Lower the last dimension, then one batch of GEMMs for each kernel line.

    The paper multiplies R lines of the matrix at once, which are neighbours only without
    dilation; here each of the R lines has its own GEMM, which adds to the sums, so that any
    dilation and any number of dimensions go the same way. In one dimension there are no lines
    to share and the matrix is that of im2col.
    """

    summary = "lower along the width only; GEMMs on overlapping shifted views (Cho & Brand 2017)"
    extra_memory = "N·C·H·Q·S + the larger of (N·C·H·W if padded) and (K·C·R·S/G if R·S > 1)"

    def extra_elements(self, case: ConvCase) -> int:
        """The matrix beside the padded input it is made from, then beside the sorted weight.

        Numbers of 16 bits are worked on as float32, which count double.
        """
        columns = case.output_size[-1] * case.kernel_size[-1]
        matrix = case.n * case.in_channels * math.prod(case.padded_size[:-1]) * columns
        weights = math.prod(case.weight_shape) if case.num_taps > 1 else 0
        return matrix + max(padded_elements(case), weights)

    def forward(self, input: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Output (n, out_channels, *output_size), rows first in memory."""
        matrix = lowered(input, case).to(sum_dtype(input.dtype))
        filters = _line_filters(weight, case)
        sums = matrix.new_zeros(_sums_shape(case))
        for line, group, windows, outputs in _meetings(matrix, sums, case):
            outputs.baddbmm_(windows, filters[line, group].mT.expand(len(windows), -1, -1))
        # (*lines, n, Q, K) -> (n, K, *lines, Q)
        ordered = torch.unflatten(sums.flatten(-2), -2, (case.n, -1))
        return ordered.permute(-3, -1, *range(case.dims - 1), -2).to(input.dtype)

    def grad_input(self, grad_output: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Back through the GEMMs to the matrix, then from its columns to the pixels."""
        filters = _line_filters(weight, case)
        sums = _as_sums(grad_output, case)
        strip = math.prod(case.padded_size[:-1]) * case.kernel_size[-1]
        matrix = sums.new_zeros(
            case.groups,
            case.n * case.output_size[-1],
            strip * (case.in_channels // case.groups),
        )
        for line, group, windows, outputs in _meetings(matrix, sums, case):
            windows.baddbmm_(outputs, filters[line, group].expand(len(windows), -1, -1))
        return crop_padding(_raised(matrix, case), case).to(grad_output.dtype)

    def grad_weight(self, grad_output: Tensor, input: Tensor, case: ConvCase) -> Tensor:
        """For each kernel line, the output's gradient against the views that it met."""
        matrix = lowered(input, case).to(sum_dtype(input.dtype))
        sums = _as_sums(grad_output, case)
        gradient = _line_filters(input.new_zeros(case.weight_shape), case)
        for line, group, windows, outputs in _meetings(matrix, sums, case):
            gradient[line, group].addbmm_(outputs.mT, windows)
        # (R, groups, K/G, S·C/G) -> (groups, K/G, C/G, R, S)
        columns = torch.unflatten(gradient, -1, (case.kernel_size[-1], -1))
        return columns.permute(1, 2, 4, 0, 3).reshape(case.weight_shape).to(input.dtype)


METHODS.register("mec")(Mec())


def _line_filters(weight: Tensor, case: ConvCase) -> Tensor:
    """The weight as (R, groups, K/G, S·C/G), contiguous: one matrix for each kernel line."""
    grouped = weight.reshape(
        case.groups, -1, weight.shape[1], math.prod(case.kernel_size[:-1]), case.kernel_size[-1]
    )
    ordered = grouped.permute(3, 0, 1, 4, 2).flatten(3)
    return ordered.to(sum_dtype(weight.dtype)).contiguous()


def _sums_shape(case: ConvCase) -> tuple[int, ...]:
    """(*lines of the output, n·Q, groups, K/G)."""
    columns = case.n * case.output_size[-1]
    return (*case.output_size[:-1], columns, case.groups, case.out_channels // case.groups)


def _as_sums(grad_output: Tensor, case: ConvCase) -> Tensor:
    """(n, K, *lines, Q) in the order of the sums."""
    ordered = grad_output.permute(*range(2, 1 + case.dims), 0, -1, 1)
    return ordered.to(sum_dtype(grad_output.dtype)).reshape(_sums_shape(case))


def _meetings(
    matrix: Tensor, sums: Tensor, case: ConvCase
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """(kernel line, group, windows (P, n·Q, S·C/G), outputs (P, n·Q, K/G)): views that meet.

    The windows of one kernel line never overlap each other. Lines of a volume lie in two
    dimensions, which no one stride can walk: there the outer one is walked here.
    """
    strips = torch.unflatten(matrix, 2, (*case.padded_size[:-1], -1))
    kernel_lines = itertools.product(*(range(r) for r in case.kernel_size[:-1]))
    for line, tap in enumerate(kernel_lines):
        lines = tap_slices(case, (*tap, 0))[:-1]
        for group in range(case.groups):
            windows = strips[group][:, *lines].movedim(0, -2)
            outputs = sums[..., group, :]
            if case.dims == 1:
                windows, outputs = windows[None], outputs[None]
            for place in itertools.product(*(range(o) for o in case.output_size[:-2])):
                yield line, group, windows[place], outputs[place]


def _raised(matrix: Tensor, case: ConvCase) -> Tensor:
    """The adjoint of `lowered` on the padded input: every cell added to the pixel it came from."""
    lines = case.padded_size[:-1]
    cells = matrix.view(case.groups, case.n, case.output_size[-1], *lines, case.kernel_size[-1], -1)
    padded = matrix.new_zeros(case.n, case.groups, cells.shape[-1], *case.padded_size)
    # (n, groups, C/G, *lines, W) as (groups, n, W, *lines, C/G)
    pixels = padded.permute(1, 0, -1, *range(3, 2 + case.dims), 2)
    span = (case.output_size[-1] - 1) * case.stride[-1] + 1
    for s in range(case.kernel_size[-1]):
        start = s * case.dilation[-1]
        pixels[:, :, start : start + span : case.stride[-1]] += cells[..., s, :]
    return padded.flatten(1, 2)
