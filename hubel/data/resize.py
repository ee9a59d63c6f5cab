"""Bring one sample to a stated size: pictures by Pillow, volumes by the same filter in numpy.

Both are linear interpolation with antialiasing, written down in `axis_taps`: each output
pixel is a weighted mean of the input pixels under a triangle whose half-width is one input
pixel when enlarging (plain bilinear or trilinear interpolation with half-pixel centres)
and one *output* pixel when reducing, so that nothing between two samples is skipped.

A sample is stretched to the stated size, each axis by its own factor: a network needs one
size in a batch, and of the ways to get there only stretching keeps every pixel's content
and adds no border. (Cropping cuts objects off; padding teaches the border.)

Masks, whose values are classes, take each output pixel from the one input pixel that its
centre lies in (nearest neighbour with half-pixel centres, as Pillow's NEAREST), by one rule
for pictures and volumes.

No torch here: the processes that build the cache import this module.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from hubel.data.source import Array

__all__ = ["axis_taps", "resize", "resize_nearest", "resize_separable"]


def resize(pixels: Array, size: tuple[int, ...], interpolate: bool = True) -> Array:
    """`pixels` (*spatial, c) stretched to (*size, c); uint8 stays uint8, float32 float32.

    `interpolate` False picks pixels and mixes none.

    Channels are resized independently, without premultiplied alpha. uint8 results are
    rounded to the nearest level. Where the size is already right, the input is returned.
    """
    if pixels.shape[:-1] == size:
        return pixels
    if not interpolate:
        return resize_nearest(pixels, size)
    if len(size) == 2:
        return _resize_picture(pixels, size)
    return resize_separable(pixels, size)


def _resize_picture(pixels: Array, size: tuple[int, ...]) -> Array:
    width_height = (size[1], size[0])  # Pillow's order
    out = np.empty((*size, pixels.shape[-1]), pixels.dtype)
    if pixels.dtype == np.uint8 and pixels.shape[-1] == 3:
        out[:] = Image.fromarray(pixels).resize(width_height, Image.Resampling.BILINEAR)
        return out
    for c in range(pixels.shape[-1]):  # modes L (uint8) and F (float32)
        channel = Image.fromarray(np.ascontiguousarray(pixels[..., c]))
        out[..., c] = channel.resize(width_height, Image.Resampling.BILINEAR)
    return out


def resize_separable(pixels: Array, size: tuple[int, ...]) -> Array:
    """The same filter for any number of spatial axes, one axis at a time, in float32.

    Sums run in a fixed order without BLAS, so a result never depends on the number of
    threads.
    """
    out: Array = pixels.astype(np.float32)
    # The axis that shrinks most goes first: fewer pixels are left for the others.
    for axis in sorted(range(len(size)), key=lambda a: size[a] / pixels.shape[a]):
        if out.shape[axis] == size[axis]:
            continue
        total: Array = np.zeros((*out.shape[:axis], size[axis], *out.shape[axis + 1 :]), np.float32)
        along = (-1,) + (1,) * (out.ndim - axis - 1)
        for index, weight in axis_taps(out.shape[axis], size[axis]):
            total += np.take(out, index, axis=axis) * weight.reshape(along)
        out = total
    if pixels.dtype == np.uint8:
        return np.floor(np.clip(out, 0, 255) + 0.5).astype(np.uint8)
    return out


def resize_nearest(pixels: Array, size: tuple[int, ...]) -> Array:
    """Output pixel i of an axis is input pixel floor((i + 1/2)·length / new_length).

    >>> resize_nearest(np.array([[[1], [2], [3], [4]]]), (1, 2))[0, :, 0]
    array([2, 4])
    """
    for axis, new_length in enumerate(size):
        # In whole numbers: a product of floats could fall on the wrong side of a border.
        index = (2 * np.arange(new_length) + 1) * pixels.shape[axis] // (2 * new_length)
        pixels = np.take(pixels, index, axis=axis)
    return pixels


def axis_taps(
    length: int, new_length: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """The filter along one axis, tap by tap: (input index, weight), each (new_length,).

    Output pixel i lies at (i + 1/2)·s on the input's axis, s = length / new_length; input
    pixel j lies at j + 1/2 and weighs max(0, 1 - |distance| / max(s, 1)), divided by the
    sum over the input pixels that exist.

    >>> for index, weight in axis_taps(2, 1):
    ...     print(index, weight)
    [0] [0.5]
    [1] [0.5]
    """
    scale = length / new_length
    support = max(scale, 1.0)
    centre = (np.arange(new_length) + 0.5) * scale
    first = np.maximum(np.floor(centre - support + 0.5).astype(np.int64), 0)
    num_taps = min(math.ceil(2 * support) + 1, length)
    index = first[:, None] + np.arange(num_taps)  # (new_length, num_taps)
    weight = np.maximum(1 - np.abs(index + 0.5 - centre[:, None]) / support, 0)
    weight[index >= length] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    index = np.minimum(index, length - 1)
    for tap in range(num_taps):
        if weight[:, tap].any():
            yield index[:, tap], weight[:, tap].astype(np.float32)
