"""torch's own convolution (oneDNN on x86, cuDNN on CUDA): the baseline, and often the best."""

import math

import torch
from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.method import METHODS, Method
from hubel.conv.views import crop_padding, pad_input

__all__ = ["Torch", "convolution"]


class Torch(Method):
    """The library call; a padding that differs between two sides is added first."""

    summary = "torch.nn.functional's convolution: oneDNN on x86, cuDNN on CUDA"
    extra_memory = (
        "at most N·(H·W·C + P·Q·K) + R·S·C·K/G in the library's memory order; "
        "in float64 on a CPU N·P·Q·R·S·C besides"
    )

    def extra_elements(self, case: ConvCase) -> int:
        """The worst case of `extra_memory`: the library chooses, and says nothing."""
        pixels = math.prod(case.output_size)
        return (
            case.n * case.in_channels * (2 * math.prod(case.padded_size) + pixels * case.num_taps)
            + 2 * math.prod(case.output_shape)
            + 2 * math.prod(case.weight_shape)
        )

    def forward(self, input: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Output (n, out_channels, *output_size)."""
        return convolution(input, weight, None, case)

    def grad_input(self, grad_output: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Gradient (n, in_channels, *size)."""
        # The library asks for the input although its gradient depends on the shape alone.
        like = grad_output.new_empty(1).expand(case.input_shape)
        padded, padding = _even_padding(like, case)
        gradient: Tensor = torch.ops.aten.convolution_backward(
            *(grad_output, padded, weight, None, case.stride, padding, case.dilation),
            *(False, (0,) * case.dims, case.groups, (True, False, False)),
        )[0]
        return gradient if padded is like else crop_padding(gradient, case)

    def grad_weight(self, grad_output: Tensor, input: Tensor, case: ConvCase) -> Tensor:
        """Gradient (out_channels, in_channels / groups, *kernel_size)."""
        like = grad_output.new_empty(1).expand(case.weight_shape)
        padded, padding = _even_padding(input, case)
        gradient: Tensor = torch.ops.aten.convolution_backward(
            *(grad_output, padded, like, None, case.stride, padding, case.dilation),
            *(False, (0,) * case.dims, case.groups, (False, True, False)),
        )[1]
        return gradient


METHODS.register("torch")(Torch())


def convolution(input: Tensor, weight: Tensor, bias: Tensor | None, case: ConvCase) -> Tensor:
    """torch's convolution of `case`, with torch's own gradients."""
    padded, padding = _even_padding(input, case)
    return torch.convolution(
        *(padded, weight, bias, case.stride, padding, case.dilation),
        *(False, (0,) * case.dims, case.groups),
    )


def _even_padding(input: Tensor, case: ConvCase) -> tuple[Tensor, tuple[int, ...]]:
    """The input, and the padding that the library is to add on both sides of each dimension."""
    if all(low == high for low, high in case.padding):
        return input, tuple(low for low, _ in case.padding)
    return pad_input(input, case), (0,) * case.dims
