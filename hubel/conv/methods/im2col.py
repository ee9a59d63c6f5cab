"""Explicit lowering: every window copied to a row of a matrix, then one GEMM."""

import math

import torch
from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.method import METHODS, Method
from hubel.conv.windows import add_windows, filter_matrix, output_rows, window_matrix

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
        products = torch.matmul(window_matrix(input, case), filter_matrix(weight, case).mT)
        # (g, n·P·Q, k / g) -> (n, *output_size, k)
        output = products.movedim(0, 1).reshape(case.n, *case.output_size, case.out_channels)
        return output.movedim(-1, 1)

    def grad_input(self, grad_output: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Gradient (n, in_channels, *size): the matrix's gradient, its columns added up."""
        columns = torch.matmul(output_rows(grad_output, case), filter_matrix(weight, case))
        return add_windows(columns, case)

    def grad_weight(self, grad_output: Tensor, input: Tensor, case: ConvCase) -> Tensor:
        """Gradient (out_channels, in_channels / groups, *kernel_size)."""
        products = torch.matmul(output_rows(grad_output, case).mT, window_matrix(input, case))
        # (g, k / g, taps · c / g) -> (k, *kernel_size, c / g)
        by_tap: Tensor = products.flatten(0, 1).unflatten(1, (*case.kernel_size, -1))
        return by_tap.movedim(-1, 1)


METHODS.register("im2col")(Im2col())
