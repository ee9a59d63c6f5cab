"""One convolution to be computed: its sizes, checked once, in the words of the user's arguments."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hubel.errors import UserError
from hubel.shapes import (
    Padding,
    PerDim,
    check_groups,
    conv_macs,
    format_shape,
    output_size,
    pad_sides,
    per_dim,
    require_at_least,
)

if TYPE_CHECKING:
    import torch

__all__ = ["ConvCase", "case_of"]


@dataclass(frozen=True)
class ConvCase:
    """The sizes of one convolution: input (n, in_channels, *size), and how the window moves.

    Every tuple has one entry a spatial dimension; `padding` has (low, high) pairs. Build it
    with `ConvCase.of` or `case_of`, which check.
    """

    n: int
    in_channels: int
    out_channels: int
    size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    output_size: tuple[int, ...]

    @classmethod
    def of(
        cls,
        n: int,
        in_channels: int,
        out_channels: int,
        size: tuple[int, ...],
        kernel_size: PerDim,
        *,
        stride: PerDim = 1,
        padding: Padding = 0,
        dilation: PerDim = 1,
        groups: int = 1,
    ) -> "ConvCase":
        """The case, or `UserError` if there is no such convolution."""
        dims = len(size)
        if not 1 <= dims <= 3:
            raise UserError(f"a convolution here has 1, 2 or 3 spatial dimensions, got {dims}")
        require_at_least("batch size", (n,), 1)
        check_groups(in_channels, out_channels, groups)
        out = output_size(size, kernel_size, stride=stride, padding=padding, dilation=dilation)
        kernels = per_dim(kernel_size, dims, "kernel_size")
        return cls(
            n,
            in_channels,
            out_channels,
            tuple(size),
            kernels,
            per_dim(stride, dims, "stride"),
            pad_sides(padding, kernels, stride=stride, dilation=dilation),
            per_dim(dilation, dims, "dilation"),
            groups,
            out,
        )

    @property
    def dims(self) -> int:
        """Number of spatial dimensions."""
        return len(self.size)

    @property
    def padded_size(self) -> tuple[int, ...]:
        """Spatial size of the input with its padding."""
        return tuple(low + i + high for i, (low, high) in zip(self.size, self.padding, strict=True))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(n, in_channels, *size)."""
        return (self.n, self.in_channels, *self.size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(out_channels, in_channels / groups, *kernel_size)."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(n, out_channels, *output_size)."""
        return (self.n, self.out_channels, *self.output_size)

    @property
    def words(self) -> str:
        """`8 × 64→128, 56×56, 3×3, stride 2, padding 1`: what differs from the plain case.

        >>> ConvCase.of(8, 64, 128, (56, 56), 3, stride=2, padding=1).words
        '8 × 64→128, 56×56, 3×3, stride 2, padding 1'
        """

        def short(values: tuple[object, ...]) -> str:
            return "×".join(map(str, values if len(set(values)) > 1 else values[:1]))

        sides = tuple(str(low) if low == high else f"{low}:{high}" for low, high in self.padding)
        words = [
            f"{self.n} × {self.in_channels}→{self.out_channels}",
            format_shape(*self.size),
            format_shape(*self.kernel_size),
        ]
        words += [f"stride {short(self.stride)}"] * (max(self.stride) > 1)
        words += [f"padding {short(sides)}"] * (set(sides) != {"0"})
        words += [f"dilation {short(self.dilation)}"] * (max(self.dilation) > 1)
        words += [f"groups {self.groups}"] * (self.groups > 1)
        return ", ".join(words)

    @property
    def num_taps(self) -> int:
        """Positions of the kernel, R·S in two dimensions."""
        return math.prod(self.kernel_size)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole batch; FLOPs are twice as many."""
        return self.n * conv_macs(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.output_size,
            groups=self.groups,
        )


def case_of(
    input: "torch.Tensor",
    weight: "torch.Tensor",
    bias: "torch.Tensor | None" = None,
    *,
    stride: PerDim = 1,
    padding: Padding = 0,
    dilation: PerDim = 1,
    groups: int = 1,
) -> ConvCase:
    """The case that these tensors make. `UserError` for wrong ranks, channels, dtypes, devices."""
    if not 3 <= input.dim() <= 5:
        raise UserError(
            f"input takes (n, in_channels, *spatial) with 1 to 3 spatial dimensions, got shape "
            f"{tuple(input.shape)}; a single picture needs its batch axis: input[None]"
        )
    if weight.dim() != input.dim():
        raise UserError(
            f"weight takes (out_channels, in_channels / groups, *kernel_size) with as many "
            f"dimensions as input ({input.dim()}), got shape {tuple(weight.shape)}"
        )
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is None:
            continue
        if tensor.dtype != input.dtype:
            raise UserError(
                f"{name} has dtype {tensor.dtype} and input {input.dtype}; they must be the "
                f"same: {name}.to(input.dtype)"
            )
        if tensor.device != input.device:
            raise UserError(
                f"{name} is on {tensor.device} and input on {input.device}; they must be on the "
                f"same device: {name}.to(input.device)"
            )
    if not input.dtype.is_floating_point or input.dtype.itemsize < 2:
        raise UserError(
            f"input takes real floating-point numbers of 16 bits or more, got {input.dtype}; "
            f"convert it: input.float()"
        )
    n, in_channels, *size = input.shape
    out_channels, per_group, *kernel_size = weight.shape
    check_groups(in_channels, out_channels, groups)
    if per_group * groups != in_channels:
        raise UserError(
            f"weight of shape {tuple(weight.shape)} with groups {groups} takes "
            f"{per_group * groups} input channels, input {format_shape(*input.shape)} has "
            f"{in_channels}; weight.shape[1] must be in_channels / groups"
        )
    if bias is not None and bias.shape != (out_channels,):
        raise UserError(
            f"bias takes one number for each of the {out_channels} output channels, got shape "
            f"{tuple(bias.shape)}"
        )
    return ConvCase.of(
        n,
        in_channels,
        out_channels,
        tuple(size),
        tuple(kernel_size),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
