"""The tensor-core kernels of `hubel.conv.tensor_core` as one of the roads.

Channel-first implicit GEMM (Zhou et al. 2021, arXiv 2110.03901) in Triton. float32 is multiplied
in tf32 here (10 bits of fraction, sums in float32); `tensor_core_conv` offers exact products, the
other loop order and the fused epilogue.
"""

import math
import os

from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.method import METHODS, Method
from hubel.conv.tensor_core import DTYPES, check_place, tensor_core_conv, tensor_core_limits
from hubel.conv.tensor_core_products import conv_forward, conv_grad_input, conv_grad_weight

__all__ = ["TensorCore"]


class TensorCore(Method):
    """CUDA only, or the CPU where TRITON_INTERPRET=1 has Triton interpret its kernels."""

    summary = "implicit GEMM in Triton on tensor cores, taps innermost (Zhou et al. 2021)"
    extra_memory = "N·C·H·W + R·S·C·K/G where they are not channels last (unpadded), else 0"
    devices = ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)

    dtypes = DTYPES

    def limits(self, case: ConvCase) -> str | None:
        return tensor_core_limits(case)

    def extra_elements(self, case: ConvCase) -> int:
        return math.prod(case.input_shape) + math.prod(case.weight_shape)

    def apply(self, input: Tensor, weight: Tensor, bias: Tensor | None, case: ConvCase) -> Tensor:
        """One kernel, the bias in its epilogue; gradients of the first order."""
        return tensor_core_conv(
            input,
            weight,
            bias,
            stride=case.stride,
            padding=case.padding,
            dilation=case.dilation,
            groups=case.groups,
        )

    def forward(self, input: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        check_place(input)
        return conv_forward(input, weight, case)

    def grad_input(self, grad_output: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        return conv_grad_input(grad_output, weight, case)

    def grad_weight(self, grad_output: Tensor, input: Tensor, case: ConvCase) -> Tensor:
        return conv_grad_weight(grad_output, input, case)


METHODS.register("tensor_core")(TensorCore())
