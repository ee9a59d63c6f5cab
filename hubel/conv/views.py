"""Views that several roads share: grouped channels, padding, and the windows of an input."""

import itertools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from hubel.conv.case import ConvCase

__all__ = [
    "crop_padding",
    "pad_input",
    "padded_elements",
    "sum_dtype",
    "tap_matrices",
    "tap_slices",
    "taps",
    "weight_of_taps",
]


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a method adds up in when it accumulates outside one GEMM: float32, or wider if
    `dtype` is. A 16-bit sum would be rounded again at every tap.
    """
    return torch.promote_types(dtype, torch.float32)


def taps(case: ConvCase) -> Iterator[tuple[int, ...]]:
    """Every kernel position, the last dimension fastest."""
    return itertools.product(*(range(k) for k in case.kernel_size))


def pad_input(input: Tensor, case: ConvCase) -> Tensor:
    """Input with its padding of zeros (n, c, *padded_size); itself where there is none."""
    if not any(low or high for low, high in case.padding):
        return input
    # F.pad counts from the last dimension.
    return F.pad(input, [side for pair in reversed(case.padding) for side in pair])


def padded_elements(case: ConvCase) -> int:
    """Elements that `pad_input` allocates."""
    if case.padded_size == case.size:
        return 0
    return case.n * case.in_channels * math.prod(case.padded_size)


def crop_padding(padded: Tensor, case: ConvCase) -> Tensor:
    """The view (n, c, *size) of a padded map (n, c, *padded_size): the adjoint of padding."""
    for axis, ((low, _), i) in enumerate(zip(case.padding, case.size, strict=True), start=2):
        padded = padded.narrow(axis, low, i)
    return padded


def tap_slices(case: ConvCase, tap: tuple[int, ...]) -> tuple[slice, ...]:
    """Where the padded input meets kernel position `tap`: one slice a spatial dimension.

    ``padded[:, :, *tap_slices(case, tap)]`` is the (n, c, *output_size) view of the pixels that
    this tap multiplies.
    """
    return tuple(
        slice(t * d, t * d + (o - 1) * s + 1, s)
        for t, d, o, s in zip(tap, case.dilation, case.output_size, case.stride, strict=True)
    )


def tap_matrices(weight: Tensor, case: ConvCase) -> Tensor:
    """The weight as one 1×1 filter bank a tap, (taps, groups, K/G, C/G), contiguous for GEMM.

    A copy of the weight's size in `sum_dtype`; none where there is one tap and nothing to widen.
    """
    grouped = weight.reshape(case.groups, -1, *weight.shape[1:]).flatten(3)
    return grouped.movedim(-1, 0).to(sum_dtype(weight.dtype)).contiguous()


def weight_of_taps(matrices: Tensor, case: ConvCase) -> Tensor:
    """The inverse of `tap_matrices`: (out_channels, in_channels / groups, *kernel_size)."""
    return matrices.movedim(0, -1).reshape(case.weight_shape)
