"""Views that several roads share: grouped channels, padding, and the windows of an input."""

import torch.nn.functional as F
from torch import Tensor

from hubel.conv.case import ConvCase

__all__ = ["crop_padding", "pad_input", "tap_slices"]


def pad_input(input: Tensor, case: ConvCase) -> Tensor:
    """Input with its padding of zeros (n, c, *padded_size); itself where there is none."""
    if not any(low or high for low, high in case.padding):
        return input
    # F.pad counts from the last dimension.
    return F.pad(input, [side for pair in reversed(case.padding) for side in pair])


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
