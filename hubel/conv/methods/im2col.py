"""Explicit lowering: every window copied to a row of a matrix, then one GEMM."""

import math

import torch
from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.method import METHODS, Method
from hubel.conv.views import crop_padding, pad_input, tap_slices, taps

__all__ = ["Im2col"]


class Im2col(Method):
    """Chellapilla, Puri & Simard 2006, section 3; Caffe (Jia et al. 2014) made it common."""

    summary = "copy every window to a row of a matrix, then one GEMM (Chellapilla et al. 2006)"
    extra_memory = "N·P·Q·R·S·C the matrix + 2·N·H·W·C the padded input + R·S·C·K/G the weight"

    def extra_elements(self, case: ConvCase) -> int:
        """Padding and changing the memory order may each take a copy of the input."""
        pixels = case.n * math.prod(case.output_size)
        matrix = pixels * case.num_taps * case.in_channels
        padded = case.n * math.prod(case.padded_size) * case.in_channels
        # With groups the product comes group by group and is put in order by a copy.
        ordered = pixels * case.out_channels if case.groups > 1 else 0
        return matrix + 2 * padded + ordered + math.prod(case.weight_shape)

    def forward(self, input: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Output (n, out_channels, *output_size), channels last in memory."""
        products = torch.matmul(_window_matrix(input, case), _filter_matrix(weight, case).mT)
        # (g, n·P·Q, k / g) -> (n, *output_size, k)
        output = products.movedim(0, 1).reshape(case.n, *case.output_size, case.out_channels)
        return output.movedim(-1, 1)

    def grad_input(self, grad_output: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Gradient (n, in_channels, *size): the matrix's gradient, its columns added up."""
        columns = torch.matmul(_output_rows(grad_output, case), _filter_matrix(weight, case))
        return _add_windows(columns, case)

    def grad_weight(self, grad_output: Tensor, input: Tensor, case: ConvCase) -> Tensor:
        """Gradient (out_channels, in_channels / groups, *kernel_size)."""
        products = torch.matmul(_output_rows(grad_output, case).mT, _window_matrix(input, case))
        # (g, k / g, taps · c / g) -> (k, *kernel_size, c / g)
        by_tap: Tensor = products.flatten(0, 1).unflatten(1, (*case.kernel_size, -1))
        return by_tap.movedim(-1, 1)


METHODS.register("im2col")(Im2col())


def _window_matrix(input: Tensor, case: ConvCase) -> Tensor:
    """The im2col matrix (groups, n·P·Q, R·S·C / groups): a row an output pixel.

    Columns run over taps and, within a tap, over channels (channel-first lowering in the words
    of Zhou et al. 2021), so that consecutive numbers of a row are consecutive in memory.
    """
    # (n, *padded, c), copied once where the input is channels first
    pixels = pad_input(input, case).movedim(1, -1).contiguous()
    per_group = case.in_channels // case.groups
    matrix = input.new_empty(case.groups, case.n, *case.output_size, case.num_taps, per_group)
    for column, tap in enumerate(taps(case)):
        # (n, *output_size, c) -> (g, n, *output_size, c / g)
        seen = pixels[:, *tap_slices(case, tap)].unflatten(-1, (case.groups, per_group))
        matrix[..., column, :] = seen.movedim(-2, 0)
    return matrix.flatten(-2).flatten(1, -2)


def _add_windows(matrix: Tensor, case: ConvCase) -> Tensor:
    """The adjoint ("col2im"): every number added to its pixel, (n, in_channels, *size)."""
    # (g, n·P·Q, taps · c / g) -> (n, *output_size, taps, g, c / g)
    grid = matrix.unflatten(1, (case.n, *case.output_size)).unflatten(-1, (case.num_taps, -1))
    grid = grid.movedim(0, -2)
    padded = matrix.new_zeros(case.n, *case.padded_size, case.groups, grid.shape[-1])
    for column, tap in enumerate(taps(case)):
        padded[:, *tap_slices(case, tap)] += grid[..., column, :, :]
    return crop_padding(padded.flatten(-2).movedim(-1, 1), case)


def _filter_matrix(weight: Tensor, case: ConvCase) -> Tensor:
    """(groups, k / groups, R·S·C / groups), columns as above; a view where it is channels last."""
    return weight.movedim(1, -1).reshape(case.groups, case.out_channels // case.groups, -1)


def _output_rows(output: Tensor, case: ConvCase) -> Tensor:
    """(n, k, *output_size) as (groups, n·P·Q, k / groups); a view where it is channels last."""
    rows = output.movedim(1, -1).reshape(-1, case.groups, case.out_channels // case.groups)
    return rows.movedim(1, 0)
