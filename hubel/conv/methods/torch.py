"""torch's own convolution (oneDNN on x86, cuDNN on CUDA): the baseline, and often the best."""

import math

import torch
from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.method import METHODS, Method
from hubel.conv.views import crop_padding, pad_input

__all__ = ["Torch"]


class Torch(Method):
    """The library call; a padding that differs between two sides is added first."""

    summary = "torch.nn.functional's convolution: oneDNN on x86, cuDNN on CUDA"
    extra_memory = (
        "at most N·(H·W·C + P·Q·K) + 2·R·S·C·K/G in the library's memory order, C and K rounded "
        "up to 16; in float64 on a CPU N·P·Q·R·S·C besides"
    )
    devices = None

    def extra_elements(self, case: ConvCase) -> int:
        """In float32: the library chooses, and says nothing."""
        c, k = (-(-channels // 16) * 16 for channels in (case.in_channels, case.out_channels))
        maps = c * math.prod(case.padded_size) + k * math.prod(case.output_size)
        return case.n * maps + 2 * math.prod(case.weight_shape)

    def apply(self, input: Tensor, weight: Tensor, bias: Tensor | None, case: ConvCase) -> Tensor:
        """The library's own call, which adds the bias and differentiates itself."""
        padded, padding = _even_padding(input, case)
        return torch.convolution(
            *(padded, weight, bias, case.stride, padding, case.dilation),
            *(False, (0,) * case.dims, case.groups),
        )

    def forward(self, input: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Output (n, out_channels, *output_size)."""
        return self.apply(input, weight, None, case)

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


def _even_padding(input: Tensor, case: ConvCase) -> tuple[Tensor, tuple[int, ...]]:
    """The input, and the padding that the library is to add on both sides of each dimension."""
    if all(low == high for low, high in case.padding):
        return input, tuple(low for low, _ in case.padding)
    return pad_input(input, case), (0,) * case.dims
