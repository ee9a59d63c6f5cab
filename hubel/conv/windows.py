"""Explicit lowering: every window copied to a row of a matrix, and its adjoint."""

from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.views import crop_padding, pad_input, tap_slices, taps

__all__ = ["add_windows", "filter_matrix", "output_rows", "window_matrix"]


def window_matrix(input: Tensor, case: ConvCase) -> Tensor:
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


def add_windows(matrix: Tensor, case: ConvCase) -> Tensor:
    """The adjoint ("col2im"): every number added to its pixel, (n, in_channels, *size)."""
    # (g, n·P·Q, taps · c / g) -> (n, *output_size, taps, g, c / g)
    grid = matrix.unflatten(1, (case.n, *case.output_size)).unflatten(-1, (case.num_taps, -1))
    grid = grid.movedim(0, -2)
    padded = matrix.new_zeros(case.n, *case.padded_size, case.groups, grid.shape[-1])
    for column, tap in enumerate(taps(case)):
        padded[:, *tap_slices(case, tap)] += grid[..., column, :, :]
    return crop_padding(padded.flatten(-2).movedim(-1, 1), case)


def filter_matrix(weight: Tensor, case: ConvCase) -> Tensor:
    """(groups, k / groups, R·S·C / groups), columns as above; a view where it is channels last."""
    return weight.movedim(1, -1).reshape(case.groups, case.out_channels // case.groups, -1)


def output_rows(output: Tensor, case: ConvCase) -> Tensor:
    """(n, k, *output_size) as (groups, n·P·Q, k / groups); a view where it is channels last."""
    rows = output.movedim(1, -1).reshape(-1, case.groups, case.out_channels // case.groups)
    return rows.movedim(1, 0)
