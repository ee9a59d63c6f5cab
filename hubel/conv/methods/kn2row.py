"""kn2row: one 1×1 convolution over the whole picture for each tap, shifted and added up."""

import math
from collections.abc import Iterator

from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.method import METHODS, Method
from hubel.conv.views import crop_padding, tap_matrices, taps, weight_of_taps

__all__ = ["Kn2row"]


class Kn2row(Method):
    """A kernel of R·S taps is R·S matrices (K, C) that multiply the picture as it lies.

    Vasudevan, Anderson & Gregg 2017 (arXiv 1704.04428) shift and add the R·S products; in the
    accumulating form of Anderson et al. 2017 (arXiv 1709.03395) each GEMM adds its product to
    the sums at once. Here the shift is an address: in the padded picture, written as one row of
    H·W pixels, tap (r, s) of output (p, q) is the pixel r·W + s places further than tap (0, 0),
    so that the GEMM of a tap reads the row from there on. Sums are made for every pixel of that
    row, also where the window would run over the picture's edge into the next line, and only
    then the true outputs are picked.

    A stride is not used to save work: sums are made at all pixels and every s-th is kept, which
    costs s² times the multiply-accumulates of the definition in two dimensions. That is the
    method's price, and why it is meant for stride 1.
    """

    summary = (
        "one 1×1 GEMM a tap over all pixels, shifted and accumulated; a stride costs s² times "
        "the work (Vasudevan et al. 2017)"
    )
    extra_memory = "(K + C)·H·W, one sample's; + K·C·R·S/G if R·S > 1"

    def extra_elements(self, case: ConvCase) -> int:
        """Sums and padded picture of one sample, and the weight with its taps first.

        Numbers of 16 bits are worked on as float32, which count double.
        """
        picture = case.in_channels * math.prod(case.padded_size)
        weights = math.prod(case.weight_shape) if case.num_taps > 1 else 0
        return case.out_channels * _span(case) + picture + weights

    def forward(self, input: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Output (n, out_channels, *output_size)."""
        filters = tap_matrices(weight, case)
        picture, sums = _scratch(filters, case)
        output = input.new_empty(case.output_shape)
        for n in range(case.n):
            crop_padding(picture, case).copy_(input[n : n + 1])
            sums.zero_()
            for tap, windows in zip(filters, _shifted(picture, case), strict=True):
                sums.baddbmm_(tap, windows)
            output[n] = _kept(sums, case)
        return output

    def grad_input(self, grad_output: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """The same GEMMs transposed: each adds to the picture at its tap's address."""
        filters = tap_matrices(weight, case)
        picture, sums = _scratch(filters, case)
        gradient = grad_output.new_empty(case.input_shape)
        for n in range(case.n):
            _kept(sums, case).copy_(grad_output[n])
            picture.zero_()
            for tap, windows in zip(filters, _shifted(picture, case), strict=True):
                windows.baddbmm_(tap.mT, sums)
            gradient[n : n + 1] = crop_padding(picture, case)
        return gradient

    def grad_weight(self, grad_output: Tensor, input: Tensor, case: ConvCase) -> Tensor:
        """For each tap, the output's gradient against the picture from the tap's address on."""
        gradient = tap_matrices(input.new_zeros(case.weight_shape), case)
        picture, sums = _scratch(gradient, case)
        for n in range(case.n):
            _kept(sums, case).copy_(grad_output[n])
            crop_padding(picture, case).copy_(input[n : n + 1])
            for tap, windows in zip(gradient, _shifted(picture, case), strict=True):
                tap.baddbmm_(sums, windows.mT)
        return weight_of_taps(gradient, case).to(input.dtype)


METHODS.register("kn2row")(Kn2row())


def _steps(case: ConvCase) -> list[int]:
    """Places in the row between neighbours along each dimension of the padded picture."""
    return [math.prod(case.padded_size[axis + 1 :]) for axis in range(case.dims)]


def _span(case: ConvCase) -> int:
    """Places in the row from the first output to the last, both counted: H·W at most."""
    moves = zip(case.output_size, case.stride, _steps(case), strict=True)
    return sum((o - 1) * s * step for o, s, step in moves) + 1


def _scratch(filters: Tensor, case: ConvCase) -> tuple[Tensor, Tensor]:
    """Zeros for one padded picture (1, C, *padded_size) and its sums (groups, K/G, span)."""
    picture = filters.new_zeros(1, case.in_channels, *case.padded_size)
    return picture, filters.new_zeros(case.groups, filters.shape[2], _span(case))


def _shifted(picture: Tensor, case: ConvCase) -> Iterator[Tensor]:
    """For each tap, the view (groups, C/G, span) of the picture's row that its GEMM reads."""
    row = picture.view(case.groups, -1, math.prod(case.padded_size))
    for tap in taps(case):
        moves = zip(tap, case.dilation, _steps(case), strict=True)
        yield row.narrow(2, sum(t * d * step for t, d, step in moves), _span(case))


def _kept(sums: Tensor, case: ConvCase) -> Tensor:
    """The view (out_channels, *output_size) of the sums (groups, K/G, span) that are outputs."""
    strides = [s * step for s, step in zip(case.stride, _steps(case), strict=True)]
    return sums.as_strided((case.out_channels, *case.output_size), (sums.shape[2], *strides))
