"""What every way to compute a convolution offers, and the list of them."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.registry import Registry

__all__ = ["METHODS", "Method"]


class Method(ABC):
    """One road from input and weight to output, and back for both gradients.

    Convolution is bilinear, so each of the three functions is a sum over products of the two
    tensors it gets; none of them needs autograd, and none sees a bias. Tensors have the shapes
    of the `ConvCase`; their memory order is free, and so is that of the result.
    """

    summary: str
    """One line: the idea, and its source."""

    extra_memory: str
    """Extra memory of `forward` as a formula in elements; letters as in `extra_elements`."""

    devices: tuple[str, ...] | None = ("cpu", "cuda")
    """torch device types it runs on; None is any."""

    dtypes: tuple[torch.dtype, ...] | None = None
    """What it takes; None is any real floating-point type."""

    def limits(self, case: ConvCase) -> str | None:
        """Why this method cannot do `case` ("takes stride 1 only, got (2, 2)"), or None."""
        return None

    @abstractmethod
    def extra_elements(self, case: ConvCase) -> int:
        """The formula's value: elements allocated at the same time beside the output, at most.

        In float32 or wider: numbers of 16 bits are added up in float32, which takes up to
        twice their bytes and a copy of the output. Letters: N batch, C and K in and out channels,
        P·Q output pixels, R·S taps, H·W padded input pixels, G groups.
        """

    @abstractmethod
    def forward(self, input: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Output (n, out_channels, *output_size)."""

    @abstractmethod
    def grad_input(self, grad_output: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        """Gradient (n, in_channels, *size) from that of the output."""

    @abstractmethod
    def grad_weight(self, grad_output: Tensor, input: Tensor, case: ConvCase) -> Tensor:
        """Gradient (out_channels, in_channels / groups, *kernel_size) from that of the output."""

    def apply(self, input: Tensor, weight: Tensor, bias: Tensor | None, case: ConvCase) -> Tensor:
        """Output with its bias, differentiable as often as one likes."""
        output: Tensor = _Contraction.apply(self, case, "output", input, weight)
        # In place: no gradient needs the sum without its bias.
        return output if bias is None else output.add_(bias.view(-1, *(1,) * case.dims))


METHODS: Registry[Method] = Registry("method", "hubel.conv.methods")

# The convolution is the bilinear part of one trilinear form: sum(conv(input, weight) * output).
# From any two of the three tensors follows the gradient for the third.
_SOURCES = {
    "output": ("input", "weight"),
    "input": ("output", "weight"),
    "weight": ("output", "input"),
}


class _Contraction(torch.autograd.Function):
    """The partial derivative of sum(conv(input, weight) * output) by `wanted`, and its own."""

    @staticmethod
    def forward(
        ctx: Any, method: Method, case: ConvCase, wanted: str, first: Tensor, second: Tensor
    ) -> Tensor:
        ctx.method, ctx.case, ctx.wanted = method, case, wanted
        ctx.save_for_backward(first, second)
        compute = {
            "output": method.forward,
            "input": method.grad_input,
            "weight": method.grad_weight,
        }
        # Tensors have their final dtype: autocast, around a backward pass too, must not change
        # the products inside.
        with _exact(first.device.type):
            return _own(compute[wanted](first, second, case))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        names = _SOURCES[ctx.wanted]
        held = dict(zip(names, ctx.saved_tensors, strict=True)) | {ctx.wanted: grad}
        gradients = [
            _Contraction.apply(ctx.method, ctx.case, name, *(held[s] for s in _SOURCES[name]))
            if needed
            else None
            for name, needed in zip(names, ctx.needs_input_grad[3:], strict=True)
        ]
        return None, None, None, *gradients


def _exact(device_type: str) -> AbstractContextManager[object]:
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def _own(result: Tensor) -> Tensor:
    """`result` as a tensor of its own over the same memory, if it is a view.

    Autograd refuses in-place operations, such as the ReLU after a convolution, on a view that
    a custom function returns.
    """
    if not result._is_view():
        return result
    place = result.untyped_storage(), result.storage_offset(), result.size(), result.stride()
    return result.new_empty(0).set_(*place)
