"""Convolution on tensor cores: implicit GEMM in Triton, with a fused epilogue and autograd.

The three products are in `hubel.conv.tensor_core_products`, the kernels, their source and their
notation in `hubel.conv.triton_kernels`.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hubel.conv.case import ConvCase, case_of
from hubel.conv.tensor_core_products import (
    Precision,
    TapOrder,
    conv_forward,
    conv_grad_input,
    conv_grad_weight,
    load_kernels,
)
from hubel.errors import UserError
from hubel.shapes import Padding, PerDim

__all__ = ["DTYPES", "check_place", "tensor_core_conv", "tensor_core_limits"]

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def tensor_core_conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: PerDim = 1,
    padding: Padding = 0,
    dilation: PerDim = 1,
    groups: int = 1,
    relu: bool = False,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    taps: TapOrder = "inner",
    precision: Precision = "tf32",
) -> Tensor:
    """Convolution of 1 to 3 dimensions: ``relu((conv(input, weight) + bias) * scale + shift)``.

    Parameters
    ----------
    input: (n, in_channels, *size) on a CUDA device, float16, bfloat16 or float32.
    weight: (out_channels, in_channels / groups, *kernel_size), as input in dtype and device.
    bias: (out_channels,).
    relu: clamp the result at zero, before it is written.
    scale, shift: (out_channels,), both or none: a folded batch normalisation. They are
        constants: gradients go to input, weight and bias only.
    taps: the order of the two inner loops (Zhou et al. 2021): "inner" walks all taps of the
        kernel for each block of channels, "outer" all channels for each tap. The result is
        the same up to the order of summation.
    precision: for float32 only.

    Returns (n, out_channels, *output_size) with channels last in memory. Sums are float32.
    `UserError` for what cannot be computed here; see `tensor_core_limits`.
    """
    case = case_of(
        input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    for name, got, known in (
        ("taps", taps, ("inner", "outer")),
        ("precision", precision, ("tf32", "ieee")),
    ):
        if got not in known:
            raise UserError(f"{name} takes '{known[0]}' or '{known[1]}', got {got!r}")
    _check_affine(scale, shift, input, case)
    check_place(input)
    limits = tensor_core_limits(case)
    if limits is not None:
        raise UserError(f"the tensor-core convolution {limits}")
    result: Tensor = _TensorCoreConv.apply(
        input, weight, bias, scale, shift, case, relu, taps, precision
    )
    return result


def tensor_core_limits(case: ConvCase) -> str | None:
    """Why the kernels do not take `case`, or None."""
    if case.groups > 1 and min(case.in_channels, case.out_channels) == case.groups:
        return (
            f"has no matrix product to compute where a group has a single channel (depthwise), "
            f"got {case.in_channels} to {case.out_channels} channels in {case.groups} groups; "
            f"take another method"
        )
    pixels = max(case.n * math.prod(case.size), case.n * math.prod(case.output_size))
    if pixels > 2**30:
        return f"counts pixels in 32 bits, at most 2^30 a batch, got {pixels}; split the batch"
    return None


class _TensorCoreConv(torch.autograd.Function):
    """The three products behind autograd. Keeps the output only where a ReLU needs its sign."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        shift: Tensor | None,
        case: ConvCase,
        relu: bool,
        taps: TapOrder,
        precision: Precision,
    ) -> Tensor:
        output = conv_forward(
            input,
            weight,
            case,
            bias=bias,
            scale=scale,
            shift=shift,
            relu=relu,
            taps=taps,
            precision=precision,
        )
        ctx.save_for_backward(input, weight, scale, output if relu else None)
        ctx.case, ctx.taps, ctx.precision = case, taps, precision
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, scale, clamped = ctx.saved_tensors
        case, order = ctx.case, {"taps": ctx.taps, "precision": ctx.precision}
        if clamped is not None:
            grad = torch.where(clamped > 0, grad, 0)
        if scale is not None:
            grad = (grad * scale.view(-1, *[1] * case.dims)).to(grad.dtype)
        want_input, want_weight, want_bias = ctx.needs_input_grad[:3]
        if want_input or want_weight:
            grad = _channels_last(grad)
        return (
            conv_grad_input(grad, weight, case, **order) if want_input else None,
            conv_grad_weight(grad, input, case, **order) if want_weight else None,
            grad.sum((0, *range(2, grad.dim()))) if want_bias else None,
            *[None] * 6,
        )


def check_place(input: Tensor) -> None:
    """`UserError` unless the kernels can run where `input` lies, and in its dtype."""
    if input.dtype not in DTYPES:
        raise UserError(
            f"the tensor-core convolution takes float16, bfloat16 or float32, got {input.dtype}; "
            f"convert input and weight, or take another method"
        )
    if input.device.type == "cuda":
        return
    if input.device.type == "cpu" and load_kernels().INTERPRETED:
        return
    raise UserError(
        f"the tensor-core convolution needs a CUDA device, got input on {input.device}; move "
        f"input and weight with .to('cuda'), or take another method (TRITON_INTERPRET=1 runs "
        f"the kernels on a CPU, slowly, to check them)"
    )


def _check_affine(
    scale: Tensor | None, shift: Tensor | None, input: Tensor, case: ConvCase
) -> None:
    if (scale is None) != (shift is None):
        given = "scale" if shift is None else "shift"
        raise UserError(f"scale and shift are given both or not at all, got only {given}")
    for name, vector in (("scale", scale), ("shift", shift)):
        if vector is None:
            continue
        if vector.shape != (case.out_channels,):
            raise UserError(
                f"{name} takes one number for each of the {case.out_channels} output channels, "
                f"got shape {tuple(vector.shape)}"
            )
        if vector.device != input.device:
            raise UserError(
                f"{name} is on {vector.device} and input on {input.device}; they must be on the "
                f"same device: {name}.to(input.device)"
            )
        if vector.requires_grad and torch.is_grad_enabled():
            raise UserError(
                f"{name} is a constant of a folded batch normalisation and takes no gradient; "
                f"give {name}.detach()"
            )


def _channels_last(tensor: Tensor) -> Tensor:
    """The same (n, c, *spatial), with channels last in memory; a copy only if they are not."""
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)
