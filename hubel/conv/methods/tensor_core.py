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
from hubel.conv.tensor_core import check_place, tensor_core_limits
from hubel.conv.tensor_core_products import conv_forward, conv_grad_input, conv_grad_weight

__all__ = ["TensorCore"]


class TensorCore(Method):
    """CUDA only, or the CPU where TRITON_INTERPRET=1 has Triton interpret its kernels."""

    summary = "implicit GEMM in Triton on tensor cores, taps innermost (Zhou et al. 2021)"
    extra_memory = "0 with channels last, else a copy of input and weight"
    devices = ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)

    def limits(self, case: ConvCase) -> str | None:
        return tensor_core_limits(case)

    def extra_elements(self, case: ConvCase) -> int:
        return math.prod(case.input_shape) + math.prod(case.weight_shape)

    def forward(self, input: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        check_place(input)
        return conv_forward(input, weight, case)

    def grad_input(self, grad_output: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        return conv_grad_input(grad_output, weight, case)

    def grad_weight(self, grad_output: Tensor, input: Tensor, case: ConvCase) -> Tensor:
        return conv_grad_weight(grad_output, input, case)


METHODS.register("tensor_core")(TensorCore())
