"""Filters: what a picture becomes under a kernel. numpy alone, no torch.

A filter is one kernel or a small bank of them, slid over a picture or a volume. As in every
convolutional network the kernel is not flipped (cross-correlation); `flip=True` flips it along
every axis, which is the mathematician's convolution. The numbers, the border's words and the
centre of an even kernel are those of scipy.ndimage. Pictures are channels last, (*size, c).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hubel.conv.filter_kernels import Array, Combine, Filter, filter_of, make_filter
from hubel.errors import UserError, suggestion

__all__ = [
    "BORDERS",
    "COLOURS",
    "LUMINANCE",
    "SHOWS",
    "Filtered",
    "Shown",
    "correlate",
    "filter_picture",
    "show_levels",
]


BORDERS = ("reflect", "constant", "nearest", "mirror", "wrap")
"""What lies beyond the edge of a b c d, in scipy.ndimage's words: reflect b a|a b c d|d c,
constant 0 0|a b c d|0 0, nearest a a|a b c d|d d, mirror c b|a b c d|c b, wrap c d|a b c d|a b."""
COLOURS = ("channel", "luminance")
SHOWS = ("signed", "absolute", "clipped")
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in ITU-R BT.601, by which all of hubel makes grey."""

# scipy.ndimage's words in numpy's: the two libraries use "reflect" for different things.
_PAD_MODE: dict[str, Any] = {
    "reflect": "symmetric",
    "constant": "constant",
    "nearest": "edge",
    "mirror": "reflect",
    "wrap": "wrap",
}
# Beyond this many numbers a Fourier transform is faster than one pass a number.
_MAX_TAPS = 128
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Filtered:
    """What became of a picture.

    Attributes
    ----------
    filter, border, colour, flip: how it was made.
    responses: one float64 array (*size, c) a kernel; c is 1 by luminance.
    result: the combined response, (*size, c) float64, in the picture's own units.
    """

    filter: Filter
    border: str
    colour: str
    flip: bool
    responses: tuple[Array, ...]
    result: Array

    @property
    def natural_show(self) -> str:
        """How its values are best seen: combined ones are never negative, changes are signed,
        and the rest is a picture like the one before."""
        if self.filter.combine != "none":
            return "absolute"
        return "signed" if self.filter.finds_change else "clipped"


@dataclass(frozen=True)
class Shown:
    """Values as levels for the eye: uint8 of the values' shape, and what the levels mean."""

    show: str
    levels: Array
    legend: str


_MOST_PIXELS = 1 << 28
_LARGEST = 1e100


def correlate(
    values: Array, kernel: Array, *, border: str = "reflect", flip: bool = False
) -> Array:
    """Slide `kernel` over `values`, both (*size) of the same rank; the size stays.

    The window's centre is entry k // 2 of each side; with `flip` the kernel is reversed along
    every axis and its centre with it, which equals scipy.ndimage.convolve.

    >>> correlate(np.array([1.0, 2, 4]), np.array([1.0, 0, -1]), border="constant")
    array([-2., -3.,  2.])
    """
    if border not in _PAD_MODE:
        raise UserError(f"border '{border}' is not known; {suggestion(str(border), _PAD_MODE)}")
    if not kernel.size or not values.size:
        raise UserError("kernel and values must hold numbers, got an empty array")
    if kernel.ndim != values.ndim:
        raise UserError(
            f"kernel must have as many axes as the values ({values.ndim}), got {kernel.ndim}"
        )
    lows = [k // 2 for k in kernel.shape]
    if flip:
        kernel = np.flip(kernel)
        lows = [(k - 1) // 2 for k in kernel.shape]
    sides = [(low, k - 1 - low) for low, k in zip(lows, kernel.shape, strict=True)]
    padded = np.pad(values.astype(np.float64), sides, _PAD_MODE[border])
    if kernel.size > _MAX_TAPS:
        return _by_fourier(padded, kernel, values.shape)
    result = np.zeros(values.shape)
    for tap in np.ndindex(kernel.shape):
        if kernel[tap]:
            window = tuple(slice(t, t + s) for t, s in zip(tap, values.shape, strict=True))
            result += kernel[tap] * padded[window]
    return result


def filter_picture(
    pixels: Array,
    kernel: "str | Filter | Array" = "sobel",
    *,
    border: str = "reflect",
    colour: str | None = None,
    flip: bool = False,
) -> Filtered:
    """What `kernel` makes of a picture or a volume.

    Parameters
    ----------
    pixels: (*size, c) of any real dtype, one to three spatial dimensions, channels last.
    kernel: a name of `KERNELS`, a `Filter` of `make_filter`, or an array of numbers; an array
        with fewer axes than the picture acts on each slice by itself.
    border: what lies beyond the edge, see `BORDERS`.
    colour: "channel" filters each channel by itself, "luminance" their grey (`LUMINANCE`).
        By default luminance for filters that find change, else channel.
    flip: convolve in the mathematician's sense.

    Raises `UserError` for an unknown kernel and for pixels that cannot be filtered.

    >>> filter_picture(np.eye(3)[..., None], "box", border="constant").result[1, 1]
    array([0.33333333])
    """
    _check_choice("border", border, BORDERS)
    _check_pixels(pixels)
    dims = pixels.ndim - 1
    if isinstance(kernel, str):
        kernel = make_filter(kernel, dims)
    elif isinstance(kernel, np.ndarray):
        kernel = filter_of(kernel)
    if colour is None:
        colour = "luminance" if kernel.finds_change else "channel"
    _check_choice("colour", colour, COLOURS)
    values: Array = _luminance(pixels) if colour == "luminance" else pixels.astype(np.float64)
    responses = tuple(
        np.stack(
            [
                correlate(values[..., c], _with_axes(k, dims), border=border, flip=flip)
                for c in range(values.shape[-1])
            ],
            axis=-1,
        )
        for k in kernel.kernels
    )
    result = _combined(responses, kernel.combine)
    return Filtered(kernel, border, colour, flip, responses, result)


def show_levels(values: Array, show: str, *, limits: tuple[float, float] = (0.0, 255.0)) -> Shown:
    """Filtered values as grey levels (of each channel), uint8 of the same shape.

    "signed": 0 is level 128, the largest absolute value black or white. "absolute": 0 is black,
    the largest absolute value white. "clipped": `limits` are black and white, beyond is cut.
    `limits` are those of the picture before; what is nothing beside them counts as 0, so that
    rounding is never stretched into a picture.

    >>> show_levels(np.array([-4.0, 0, 2]), "signed").levels
    array([  0, 128, 191], dtype=uint8)
    """
    _check_choice("show", show, SHOWS)
    top = float(abs(values).max())
    if top <= _ROUNDING * max(map(abs, limits)):
        top, values = 0.0, np.zeros_like(values)
    scale = top or 1.0
    levels: Array
    if show == "signed":
        levels = 127.5 + 127.5 * (values / scale)
        legend = f"black {-top:.4g}, grey 0, white {top:.4g}" if top else "grey 0"
    elif show == "absolute":
        levels = 255.0 * (abs(values) / scale)
        legend = f"black 0, white {top:.4g}" if top else "black 0"
        legend += " (absolute value)" if values.min() < 0 else ""
    else:
        low, high = limits
        levels = 255.0 * ((values - low) / ((high - low) or 1.0))
        legend = f"black {low:.4g}, white {high:.4g}, cut beyond"
    return Shown(show, np.rint(levels.clip(0, 255)).astype(np.uint8), legend)


def _by_fourier(padded: Array, kernel: Array, size: tuple[int, ...]) -> Array:
    """The same sums through the correlation theorem; padding keeps the circle from closing."""
    axes = tuple(range(padded.ndim))
    spectrum = np.fft.rfftn(padded) * np.fft.rfftn(kernel, padded.shape, axes).conj()
    whole = np.fft.irfftn(spectrum, padded.shape, axes)[tuple(slice(s) for s in size)].copy()
    # The transforms leave rounding where the sums are 0, which the eye would see as a sign.
    rounding = 4 * np.finfo(np.float64).eps * abs(padded).max() * abs(kernel).sum()
    whole[abs(whole) <= rounding] = 0
    return whole


def _combined(responses: tuple[Array, ...], combine: Combine) -> Array:
    if combine == "magnitude":
        return np.sqrt(sum((r * r for r in responses), np.zeros(())))
    if combine == "maximum":
        return np.max([abs(r) for r in responses], axis=0)  # type: ignore[no-any-return]
    return responses[0]


def _luminance(pixels: Array) -> Array:
    """(*size, 1) float64."""
    if pixels.shape[-1] == 1:
        return pixels.astype(np.float64)
    if pixels.shape[-1] != len(LUMINANCE):
        raise UserError(
            f"colour 'luminance' takes 1 or 3 channels, got {pixels.shape[-1]}; "
            f"choose colour 'channel'"
        )
    grey: Array = pixels.astype(np.float64) @ np.array(LUMINANCE)
    return grey[..., None]


def _with_axes(kernel: Array, dims: int) -> Array:
    """`kernel` as `dims` axes: one of fewer acts within each slice."""
    if kernel.ndim > dims:
        raise UserError(
            f"kernel has {kernel.ndim} axes and the picture {dims}; give a kernel of at most {dims}"
        )
    return kernel.reshape((1,) * (dims - kernel.ndim) + kernel.shape)


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{name} '{value}' is not known; {suggestion(value, known)}")


def _check_pixels(pixels: Array) -> None:
    if not 2 <= pixels.ndim <= 4 or not pixels.size:
        raise UserError(
            f"pixels must be (*size, channels) with 1 to 3 spatial axes and not empty, got shape "
            f"{pixels.shape}; a grey picture needs its channel: pixels[..., None]"
        )
    if pixels.dtype.kind not in "buif":
        raise UserError(f"pixels must be real numbers, got {pixels.dtype}; convert them")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise UserError("pixels hold values that are not finite; replace them: np.nan_to_num")
    if pixels.size > _MOST_PIXELS:
        raise UserError(
            f"pixels hold {pixels.size:,} numbers, at most {_MOST_PIXELS:,} are filtered; cut out "
            f"or shrink the picture"
        )
    if max(abs(pixels.min().astype(float)), abs(pixels.max().astype(float))) > _LARGEST:
        raise UserError(f"pixels must be numbers up to {_LARGEST:g}; scale them down")
