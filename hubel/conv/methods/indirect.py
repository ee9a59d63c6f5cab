"""Indirect convolution: a GEMM that finds its rows of pixels through a table of pointers."""

import functools
import math

import torch
from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.method import METHODS, Method
from hubel.conv.views import tap_matrices, weight_of_taps

__all__ = ["Indirect", "pointers"]


def pointers(case: ConvCase, device: torch.device | None = None) -> Tensor:
    """The indirection buffer (taps, output pixels), int64: which input pixel each tap reads.

    Pixels of a sample are counted from 0, the last dimension fastest; their number itself
    points to the row of zeros that stands for all padding. Dukhan 2019 (arXiv 1907.02129),
    section 3. One buffer serves every sample and every input of this size.
    """
    zeros = math.prod(case.size)
    parts = []
    for axis, (low, _) in enumerate(case.padding):
        taps = torch.arange(case.kernel_size[axis], device=device) * case.dilation[axis] - low
        starts = torch.arange(case.output_size[axis], device=device) * case.stride[axis]
        place = taps[:, None] + starts
        beyond = (place < 0) | (place >= case.size[axis])
        part = (place * math.prod(case.size[axis + 1 :])).masked_fill_(beyond, zeros)
        shape = [1] * (2 * case.dims)
        shape[axis], shape[case.dims + axis] = place.shape
        parts.append(part.view(shape))
    # A part beyond the picture alone reaches `zeros`; all others together stay below it.
    table = functools.reduce(torch.add, parts).clamp_(max=zeros)
    return table.view(case.num_taps, -1)


class Indirect(Method):
    """For each tap, gather the rows of C channels it points to, multiply, and add up.

    XNNPACK's kernel follows the pointers inside the GEMM. Here a GEMM is a library call, so the
    rows of one tap are gathered first: P·Q·C numbers, a R·S-th of what im2col copies. Pointers
    need each pixel's channels side by side, so that one sample at a time is copied channels
    last, with the row of zeros at its end.
    """

    summary = "GEMM through a table of row pointers, zeros for padding (Dukhan 2019, XNNPACK)"
    extra_memory = "2·P·Q·R·S (int64 pointers) + (H·W + 1)·C + P·Q·C + K·C·R·S/G if R·S > 1"

    def extra_elements(self, case: ConvCase) -> int:
        """The pointers, one sample's rows (H·W without padding here), those gathered, the weight.

        A pointer of 8 bytes counts as two elements, which it is in float32. Numbers of 16 bits
        are worked on as float32: all but the pointers count double, and the sums are a copy.
        """
        outputs = math.prod(case.output_size)
        rows = math.prod(case.size) + 1
        weights = math.prod(case.weight_shape) if case.num_taps > 1 else 0
        return 2 * outputs * case.num_taps + (rows + outputs) * case.in_channels + weights

    def forward(self, input: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Output (n, out_channels, *output_size), channels last in memory."""
        filters = tap_matrices(weight, case)
        table = pointers(case, input.device)
        rows = _new_rows(filters, case)
        sums = filters.new_zeros(case.n, table.shape[1], case.out_channels)
        for n in range(case.n):
            _pixels(rows, case).copy_(input[n].movedim(0, -1))
            outputs = _by_group(sums[n], case)
            for where, tap in zip(table, filters, strict=True):
                outputs.baddbmm_(_by_group(rows.index_select(0, where), case), tap.mT)
        return torch.unflatten(sums, 1, case.output_size).movedim(-1, 1).to(input.dtype)

    def grad_input(self, grad_output: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Each tap's product goes back to the rows that its pointers name; zeros are dropped."""
        filters = tap_matrices(weight, case)
        table = pointers(case, grad_output.device)
        gradient = grad_output.new_empty(case.n, *case.size, case.in_channels)
        for n in range(case.n):
            grads = _by_group(_rows_of(grad_output[n], filters.dtype), case)
            rows = _new_rows(filters, case)
            for where, tap in zip(table, filters, strict=True):
                rows.index_add_(0, where, (grads @ tap).transpose(0, 1).flatten(1))
            gradient[n] = _pixels(rows, case)
        return gradient.movedim(-1, 1)

    def grad_weight(self, grad_output: Tensor, input: Tensor, case: ConvCase) -> Tensor:
        """For each tap, the output's gradient against the rows that it gathered."""
        table = pointers(case, input.device)
        gradient = tap_matrices(input.new_zeros(case.weight_shape), case)
        rows = _new_rows(gradient, case)
        for n in range(case.n):
            _pixels(rows, case).copy_(input[n].movedim(0, -1))
            grads = _by_group(_rows_of(grad_output[n], gradient.dtype), case).mT
            for where, tap in zip(table, gradient, strict=True):
                tap.baddbmm_(grads, _by_group(rows.index_select(0, where), case))
        return weight_of_taps(gradient, case).to(input.dtype)


METHODS.register("indirect")(Indirect())


def _new_rows(like: Tensor, case: ConvCase) -> Tensor:
    """Zeros (H·W + 1, C): a row for each pixel of one sample, and the row for padding."""
    return like.new_zeros(math.prod(case.size) + 1, case.in_channels)


def _pixels(rows: Tensor, case: ConvCase) -> Tensor:
    """The view (*size, C) of the rows without the one for padding."""
    return rows[:-1].view(*case.size, -1)


def _rows_of(map: Tensor, dtype: torch.dtype) -> Tensor:
    """One map (channels, *spatial) as (pixels, channels)."""
    return map.movedim(0, -1).flatten(0, -2).to(dtype)


def _by_group(rows: Tensor, case: ConvCase) -> Tensor:
    """The view (groups, rows, channels of a group) of (rows, channels)."""
    return torch.unflatten(rows, 1, (case.groups, -1)).transpose(0, 1)
