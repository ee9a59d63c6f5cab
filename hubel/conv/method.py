"""What every way to compute a convolution offers, and the list of them."""

from abc import ABC, abstractmethod

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

    devices: tuple[str, ...] = ("cpu", "cuda")
    """torch device types it runs on."""

    def limits(self, case: ConvCase) -> str | None:
        """Why this method cannot do `case` ("takes stride 1 only, got (2, 2)"), or None."""
        return None

    @abstractmethod
    def extra_elements(self, case: ConvCase) -> int:
        """The formula's value: elements allocated at the same time beside the output, at most.

        Letters: N batch, C and K in and out channels, P·Q output pixels, R·S taps, H·W padded
        input pixels, G groups.
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


METHODS: Registry[Method] = Registry("method", "hubel.conv.methods")
