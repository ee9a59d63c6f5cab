"""The definition, term by term: every product of a pixel and a weight, then their sums."""

import torch
from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.method import METHODS, Method
from hubel.conv.views import (
    crop_padding,
    pad_input,
    padded_elements,
    sum_dtype,
    tap_slices,
    taps,
    weight_of_taps,
)

__all__ = ["Direct"]


class Direct(Method):
    """out[n, k, p] = Σ_c Σ_r weight[k, c, r] · padded[n, c, stride·p + dilation·r].

    One pass over the whole output for each tap and each input channel of a group, by
    elementwise multiply-and-add: no GEMM, nothing lowered. Slow, and the oracle of the others.
    """

    summary = "the definition: multiply and add, tap by tap and channel by channel; the oracle"
    extra_memory = "N·C·H·W if padded, else 0"

    def extra_elements(self, case: ConvCase) -> int:
        """The padded input. Numbers of 16 bits add a float32 copy of the weight and of the sums."""
        return padded_elements(case)

    def forward(self, input: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Output (n, out_channels, *output_size)."""
        pixels = _grouped(pad_input(input, case), case)
        factors = _factors(weight, case)
        sums = factors.new_zeros(case.n, case.groups, factors.shape[2], *case.output_size)
        for tap, of_tap in zip(taps(case), factors, strict=True):
            for c in range(pixels.shape[2]):
                window = pixels[:, :, c : c + 1, *tap_slices(case, tap)]
                sums.addcmul_(window, _each_pixel(of_tap[:, :, c], case))
        return sums.flatten(1, 2).to(input.dtype)

    def grad_input(self, grad_output: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """An output's gradient goes back, times the weight, to every pixel that it saw."""
        grads = _grouped(grad_output, case)
        factors = _factors(weight, case)
        padded = factors.new_zeros(case.n, case.groups, factors.shape[3], *case.padded_size)
        for tap, of_tap in zip(taps(case), factors, strict=True):
            window = padded[:, :, :, *tap_slices(case, tap)]
            for k in range(grads.shape[2]):
                window.addcmul_(grads[:, :, k : k + 1], _each_pixel(of_tap[:, k], case))
        return crop_padding(padded.flatten(1, 2), case).to(grad_output.dtype)

    def grad_weight(self, grad_output: Tensor, input: Tensor, case: ConvCase) -> Tensor:
        """A weight's gradient is the sum over all the places that used it."""
        pixels = _grouped(pad_input(input, case), case)
        grads = _grouped(grad_output, case)
        gradient = _factors(input.new_empty(case.weight_shape), case)
        places = (0, *range(3, 3 + case.dims))
        for tap, of_tap in zip(taps(case), gradient, strict=True):
            for c in range(pixels.shape[2]):
                window = pixels[:, :, c : c + 1, *tap_slices(case, tap)].to(gradient.dtype)
                of_tap[:, :, c] = (grads * window).sum(places)
        return weight_of_taps(gradient, case).to(input.dtype)


METHODS.register("direct")(Direct())


def _grouped(maps: Tensor, case: ConvCase) -> Tensor:
    """(n, channels, *spatial) as (n, groups, channels of a group, *spatial)."""
    return torch.unflatten(maps, 1, (case.groups, -1))


def _factors(weight: Tensor, case: ConvCase) -> Tensor:
    """The view (taps, groups, K/G, C/G) of the weight, in the dtype of sums."""
    grouped = torch.unflatten(weight, 0, (case.groups, -1)).flatten(3)
    return grouped.movedim(-1, 0).to(sum_dtype(weight.dtype))


def _each_pixel(factors: Tensor, case: ConvCase) -> Tensor:
    """(groups, channels) as one factor for all pixels: (1, groups, channels, 1, ...)."""
    return factors.view(1, *factors.shape, *(1,) * case.dims)
