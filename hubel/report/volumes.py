"""A volume to look at: three slices through it, and its surface as seen along an axis.

Volumes are (d, h, w, c), channels last, uint8 or float; what comes out are pictures
(rows, columns, c) uint8. Nothing but numpy is needed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["enlarged", "preview", "sections", "side_by_side", "slices", "surface", "visible"]

Array = npt.NDArray[Any]
_Field = npt.NDArray[np.float32]

_MOST = 128
"""Of a longer side every second (third, …) voxel is looked at for the surface."""
_BINS = 256
_PAD = 2  # voxels around the volume, so that an object at its edge has a surface there
_LIGHT = np.array([-0.8, -0.45, -0.4], np.float32)  # towards the viewer, up and left
_LIGHT /= np.sqrt(np.square(_LIGHT).sum())
_AMBIENT, _FADED, _DARKEST = 0.3, 0.4, 40
"""Light that comes from everywhere; what the farthest point loses; the least grey of a surface."""


def sections(volume: Array, centre: Sequence[int] | None = None) -> list[Array]:
    """The values across depth, height and width: (h, w, c), (d, w, c) and (d, h, c), as they are.

    Parameters
    ----------
    volume: (d, h, w, c).
    centre: the voxel that the slices meet in; None for the middle one.
    """
    _check(volume)
    z, y, x = centre if centre is not None else (side // 2 for side in volume.shape[:3])
    return [volume[z], volume[:, y], volume[:, :, x]]


def slices(volume: Array, centre: Sequence[int] | None = None) -> list[Array]:
    """`sections` of a volume (d, h, w, c), made `visible`: uint8 (rows, columns, 1 or 3)."""
    return visible(volume, sections(volume, centre))


def visible(whole: Array, parts: Sequence[Array]) -> list[Array]:
    """Parts of a picture or a volume, channels last, as uint8 of 1 or 3 channels.

    uint8 is shown as it is, or as black and white where `whole` holds nothing but 0 and 1; other
    types are stretched from its smallest to its largest finite value. Channels other than 1 and 3
    are averaged to grey.
    """
    if whole.shape[-1] not in (1, 3):
        whole, *parts = [_grey(values) for values in (whole, *parts)]
    if whole.dtype == np.uint8:
        factor = np.uint8(255 if whole.max() <= 1 else 1)
        return [part * factor for part in parts]
    low, high = _range(whole)
    scale = 255.0 / (high - low or 1.0)
    return [((_finite(part) - low) * scale).round().astype(np.uint8) for part in parts]


def enlarged(parts: Sequence[Array], side: int) -> list[Array]:
    """Pictures (rows, columns, c), each pixel of all of them a square of the same whole size, so
    that their longest side is as near to `side` as it can be without being above it."""
    times = max(1, side // max(max(part.shape[:2]) for part in parts))
    return [part.repeat(times, axis=0).repeat(times, axis=1) for part in parts]


def surface(volume: Array, axis: int) -> Array:
    """The surface of what a volume (d, h, w, c) holds, seen along `axis`: (rows, columns, 1).

    An orthographic view from the side where the index is 0: of each ray the first voxel above
    a threshold, lit from the upper left by its normal (the gradient of the smoothed volume)
    and darker the farther away it is; 0 where a ray meets nothing. The threshold is Otsu's
    (1979, IEEE Transactions on Systems, Man, and Cybernetics 9, pp. 62-66). Where most voxels
    at the edge of the volume lie above it, the object is what lies below. Grey volumes are
    smoothed over 3×3×3 voxels first, so that noise is no surface; those of two values are not,
    so that a wall of one voxel stays. Of sides above 128 voxels some are left out.
    """
    _check(volume)
    if axis not in (0, 1, 2):
        raise ValueError(f"axis must be 0, 1 or 2. Got {axis} instead.")
    step = -(-max(volume.shape[:3]) // _MOST)
    values: _Field = np.mean(_finite(volume[::step, ::step, ::step]), axis=-1, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    nothing: Array = np.zeros((*np.delete(values.shape, axis), 1), np.uint8)
    if low == high:
        return nothing
    if not ((values == low) | (values == high)).all():
        values = _smoothed(values)
    threshold = _otsu(values)
    edge = np.ones(values.shape, np.bool_)
    edge[1:-1, 1:-1, 1:-1] = False
    if (values[edge] > threshold).mean() > 0.5:
        values, threshold = -values, -threshold
    values = np.pad(np.moveaxis(values, axis, 0), _PAD, constant_values=values.min())
    inside = values > threshold
    hit = inside.any(axis=0)
    if not hit.any():
        return nothing
    depth = inside.argmax(axis=0)
    field = _smoothed(values)
    place = (depth, *np.indices(depth.shape))
    # Outward is where the values fall.
    slopes: list[_Field] = list(np.gradient(field))
    normal = -np.stack([slope[place] for slope in slopes])
    length: Array = np.sqrt(np.square(normal).sum(axis=0))
    towards_us = np.array([-1.0, 0.0, 0.0], np.float32)[:, None, None]
    normal = np.where(length > 0, normal / np.maximum(length, 1e-12), towards_us)
    lit = _AMBIENT + (1 - _AMBIENT) * np.maximum(0, np.tensordot(_LIGHT, normal, 1))
    nearest, farthest = int(depth[hit].min()), int(depth[hit].max())
    far = (depth - nearest) / max(1, farthest - nearest)
    shade = _DARKEST + (255 - _DARKEST) * lit * (1 - _FADED * far)
    shown = np.where(hit, shade.clip(_DARKEST, 255).round(), 0).astype(np.uint8)
    return shown[_PAD:-_PAD, _PAD:-_PAD, None]


def preview(volume: Array) -> Array:
    """Three middle slices and the surface along depth and along width, side by side."""
    return side_by_side([*slices(volume), surface(volume, 0), surface(volume, 2)])


def side_by_side(parts: Sequence[Array]) -> Array:
    """Pictures (rows, columns, 1 or 3) uint8 as one, with gaps, each in the middle of its height.

    Grey ones among coloured ones become RGB.
    """
    channels = max(part.shape[-1] for part in parts)
    height = max(part.shape[0] for part in parts)
    gap = max(1, height // 24)
    width = sum(part.shape[1] for part in parts) + gap * (len(parts) - 1)
    sheet = np.zeros((height, width, channels), np.uint8)
    left = 0
    for part in parts:
        top = (height - part.shape[0]) // 2
        sheet[top : top + part.shape[0], left : left + part.shape[1]] = part
        left += part.shape[1] + gap
    return sheet


def _check(volume: Array) -> None:
    if volume.ndim != 4 or volume.size == 0:
        raise ValueError(
            f"a volume must be (d, h, w, c) and not empty. Got shape {volume.shape} instead."
        )


def _grey(values: Array) -> Array:
    mean: Array = values.mean(axis=-1, keepdims=True, dtype=np.float32)
    return mean.round().astype(np.uint8) if values.dtype == np.uint8 else mean


def _finite(values: Array) -> _Field:
    return np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _range(volume: Array) -> tuple[float, float]:
    finite = _finite(volume)
    return float(finite.min()), float(finite.max())


def _smoothed(values: _Field) -> _Field:
    """The mean over each voxel and its 26 neighbours, those at the edge repeated."""
    for axis in range(3):
        wide = np.pad(values, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        n = values.shape[axis]
        first, second, third = (wide.take(range(k, k + n), axis) for k in range(3))
        values = (first + second + third) / np.float32(3)
    return values


def _otsu(values: _Field) -> float:
    """The value that splits `values` into two groups with the largest variance between them.

    Where many do equally, as in the gap of a volume of two values, the middle one.
    """
    counts, edges = np.histogram(values, _BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()[:-1]
    above = values.size - below
    total = (counts * centres).cumsum()
    low = total[:-1] / np.maximum(below, 1)
    high = (total[-1] - total[:-1]) / np.maximum(above, 1)
    between = below * above * (low - high) ** 2
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(edges[1 + best[len(best) // 2]])
