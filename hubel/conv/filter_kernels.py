"""The kernels that filter a picture: by name, in any number of dimensions, or as numbers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from hubel.errors import UserError, suggestion
from hubel.shapes import format_shape

__all__ = [
    "DIRECTIONS",
    "KERNELS",
    "Filter",
    "filter_of",
    "kernel_of_numbers",
    "make_filter",
]

Array: TypeAlias = npt.NDArray[Any]
Combine: TypeAlias = Literal["none", "magnitude", "maximum"]

DIRECTIONS = ("horizontal", "vertical", "depth", "magnitude")

# Said on every sheet, because others name these filters by the edges that they find.
_CHANGES = {
    "horizontal": ": the change from left to right",
    "vertical": ": the change from top to bottom",
    "depth": ": the change from slice to slice",
}
_MAX_NUMBERS = 1 << 22
_MAX_LENGTH = 10_000
# Of the Gabor envelope: its width across over along, and along in wavelengths for one octave
# (Petkov & Kruizinga 1997, Biological Cybernetics 76, section 2.1).
_ASPECT = 0.5
_OCTAVE = 0.56
_LEAST_ENVELOPE = 0.3
_SMOOTHING = {"sobel": (1, 2, 1), "prewitt": (1, 1, 1), "scharr": (3, 10, 3)}


@dataclass(frozen=True)
class Filter:
    """One kernel, or a bank whose responses are combined into one result.

    Attributes
    ----------
    name: as in `KERNELS`, or "numbers".
    title: for people: "Sobel, magnitude".
    kernels: float64 arrays, one axis a spatial dimension.
    labels: what each kernel is called.
    combine: how responses become the result: "none" (there is one), "magnitude" (root of the
        sum of squares) or "maximum" (the largest absolute response at each pixel).
    """

    name: str
    title: str
    kernels: tuple[Array, ...]
    labels: tuple[str, ...]
    combine: Combine = "none"

    @property
    def finds_change(self) -> bool:
        """Whether every kernel's numbers sum to 0, so that even areas answer 0."""
        return all(abs(k.sum()) <= 1e-9 * max(abs(k).sum(), 1e-300) for k in self.kernels)


_LARGEST = 1e12


def make_filter(
    name: str,
    dims: int = 2,
    *,
    direction: str | None = None,
    sigma: float | None = None,
    size: int | None = None,
    orientations: int | None = None,
    wavelength: float | None = None,
) -> Filter:
    """A filter of `KERNELS` in `dims` dimensions.

    Parameters
    ----------
    direction: of sobel, prewitt and scharr: "horizontal" is the change from left to right (it
        answers to upright edges), "vertical" from top to bottom, "depth" from slice to slice,
        "magnitude" (default) the root of the sum of all their squares.
    sigma: in pixels; of gaussian (default 1, cut at 4 sigma as scipy does) and of gabor's
        envelope (default 0.56 wavelengths, a bandwidth of one octave).
    size: side of box in pixels, default 3.
    orientations: how many kernels gabor has, spread over 180 degrees, default 4.
    wavelength: of gabor, in pixels, default 6.

    Raises `UserError` for an unknown name, and for a parameter out of range or not the filter's.
    """
    if not 1 <= dims <= 3:
        raise UserError(f"dims must be 1, 2 or 3, got {dims}")
    if name not in _MAKERS:
        raise UserError(
            f"kernel '{name}' is not known; {suggestion(name, KERNELS)} "
            f'(or give numbers: "1 0 -1; 2 0 -2; 1 0 -1")'
        )
    given = {
        "direction": direction,
        "sigma": sigma,
        "size": size,
        "orientations": orientations,
        "wavelength": wavelength,
    }
    takes, maker = _MAKERS[name]
    for option, value in given.items():
        if value is not None and option not in takes:
            owners = [n for n, (names, _) in _MAKERS.items() if option in names]
            raise UserError(
                f"{option} is for {', '.join(owners)}, got {option} {value} with kernel '{name}'; "
                f"leave it out"
            )
    for option, value in (("sigma", sigma), ("wavelength", wavelength)):
        if value is not None and not 0 < value <= _MAX_LENGTH:  # also true of NaN
            raise UserError(
                f"{option} takes pixels, above 0 and at most {_MAX_LENGTH}, got {value}; try 2.5"
            )
    for option, count in (("size", size), ("orientations", orientations)):
        if count is not None and count < 1:
            raise UserError(f"{option} takes a whole number of at least 1, got {count}; try 3")
    return maker(name, dims, {k: v for k, v in given.items() if v is not None})


def kernel_of_numbers(text: str, where: str = "kernel") -> Filter:
    """The kernel written in `text`: rows by ';' or lines, entries by blanks or commas.

    Fractions such as 1/9 are numbers too. `where` names the source in errors.

    >>> kernel_of_numbers("1 0 -1; 2 0 -2; 1 0 -1").kernels[0][1]
    array([ 2.,  0., -2.])
    """
    # Slides set the minus sign, which float() does not read.
    lines = text.replace("−", "-").replace("\n", ";").split(";")
    rows = [[_number(w, where) for w in line.replace(",", " ").split()] for line in lines]
    rows = [row for row in rows if row]
    if not rows:
        raise UserError(f'{where} holds no numbers; write rows as in "1 0 -1; 2 0 -2; 1 0 -1"')
    for i, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise UserError(
                f"{where} must be rectangular: row 1 has {len(rows[0])} numbers, row {i} has "
                f"{len(row)}; separate rows by ';' and fill every row"
            )
    return filter_of(np.array(rows), where)


def filter_of(numbers: Array, where: str = "kernel") -> Filter:
    """A filter of one kernel, any numbers. `UserError` where they are not real and finite."""
    if not numbers.size or numbers.dtype.kind not in "buif":
        raise UserError(f"{where} takes real numbers, got {numbers.dtype} of shape {numbers.shape}")
    if np.isfinite(numbers).all() and np.abs(numbers.astype(np.float64)).max() > _LARGEST:
        raise UserError(f"{where} takes numbers up to {_LARGEST:g}; scale the kernel down")
    if not np.isfinite(numbers).all():
        raise UserError(f"{where} takes finite numbers, got one that is not; correct that entry")
    _check_side(numbers.shape, where)
    title = f"{format_shape(*numbers.shape)} kernel"
    return Filter("numbers", title, (numbers.astype(np.float64),), ("kernel",))


def _number(word: str, where: str) -> float:
    above, slash, below = word.partition("/")
    try:
        value = float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        raise UserError(
            f"{where} takes numbers such as -2, 0.5 or 1/9, got '{word}'; correct that entry"
        ) from None
    if not math.isfinite(value):
        raise UserError(f"{where} takes finite numbers, got '{word}'; correct that entry")
    return value


def _check_side(shape: tuple[int, ...], what: str) -> None:
    if math.prod(shape) > _MAX_NUMBERS:
        raise UserError(
            f"{what} makes a kernel of {format_shape(*shape)}, more than {_MAX_NUMBERS:,} numbers; "
            f"choose a smaller one"
        )


def _outer(sides: list[Array]) -> Array:
    """The kernel whose entry is the product of one entry of each side."""
    result: Array = np.ones(())
    for side in sides:
        result = np.multiply.outer(result, side)
    return result


def _one(name: str, title: str, kernel: Array) -> Filter:
    return Filter(name, title, (kernel,), ("kernel",))


def _neighbours(dims: int) -> Array:
    """Steps from the centre of a 3×3×… window along each axis, (dims, 3, 3, …)."""
    return np.indices((3,) * dims) - 1


def _gradient(name: str, dims: int, given: dict[str, Any]) -> Filter:
    """The change along an axis, smoothed along the others."""
    step, smooth = np.array([-1.0, 0, 1]), np.array(_SMOOTHING[name], np.float64)
    axes = dict(zip(DIRECTIONS, reversed(range(dims)), strict=False))
    direction = given.get("direction", "magnitude")
    if direction not in DIRECTIONS:
        raise UserError(
            f"direction '{direction}' is not known; {suggestion(direction, DIRECTIONS)}"
        )
    if direction != "magnitude" and direction not in axes:
        raise UserError(
            f"direction '{direction}' needs more than {dims} dimensions; "
            f"choose from {', '.join(axes)}, magnitude"
        )
    wanted = list(axes) if direction == "magnitude" else [direction]
    kernels = tuple(_outer([step if i == axes[d] else smooth for i in range(dims)]) for d in wanted)
    combine: Combine = "magnitude" if len(kernels) > 1 else "none"
    title = f"{name.capitalize()}, {direction}" + _CHANGES.get(direction, "")
    return Filter(name, title, kernels, tuple(wanted), combine)


def _laplacian(name: str, dims: int, given: dict[str, Any]) -> Filter:
    distance = abs(_neighbours(dims)).sum(axis=0)
    kernel = (distance == 1 if name == "laplacian" else distance > 0).astype(np.float64)
    neighbours = int(kernel.sum())
    kernel[distance == 0] = -neighbours
    return _one(name, f"Laplacian, {neighbours} neighbours", kernel)


def _sharpen(name: str, dims: int, given: dict[str, Any]) -> Filter:
    """The picture minus its Laplacian."""
    kernel = -_laplacian("laplacian", dims, {}).kernels[0]
    kernel[(1,) * dims] += 1
    return _one(name, "Sharpen", kernel)


def _emboss(name: str, dims: int, given: dict[str, Any]) -> Filter:
    """Light from the first corner: the change along the diagonal, on top of the picture."""
    kernel = _neighbours(dims).sum(axis=0).astype(np.float64)
    kernel[(1,) * dims] = 1
    return _one(name, "Emboss", kernel)


def _identity(name: str, dims: int, given: dict[str, Any]) -> Filter:
    return _one(name, "Identity", (abs(_neighbours(dims)).sum(axis=0) == 0).astype(np.float64))


def _box(name: str, dims: int, given: dict[str, Any]) -> Filter:
    shape = (given.get("size", 3),) * dims
    _check_side(shape, f"size {shape[0]}")
    return _one(name, f"Box, mean of {format_shape(*shape)}", np.full(shape, 1 / math.prod(shape)))


def _gaussian(name: str, dims: int, given: dict[str, Any]) -> Filter:
    sigma = given.get("sigma", 1.0)
    radius = int(4 * sigma + 0.5)
    _check_side((2 * radius + 1,) * dims, f"sigma {sigma:g}")
    # Divided before squaring: the square of a tiny sigma is 0.
    side = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return _one(name, f"Gaussian, σ {sigma:g}", _outer([side / side.sum()] * dims))


def _gabor(name: str, dims: int, given: dict[str, Any]) -> Filter:
    """Even Gabor functions without their mean, absolute numbers summing to 1.

    At angle θ the wave runs along θ, counted from left to right towards the top.
    """
    if dims != 2:
        raise UserError(f"kernel 'gabor' is for pictures of 2 dimensions, got {dims}; use sobel")
    count, wavelength = given.get("orientations", 4), given.get("wavelength", 6.0)
    if wavelength < 2:
        raise UserError(
            f"wavelength takes at least 2 pixels, the shortest that a grid holds, got {wavelength}"
        )
    sigma = given.get("sigma", _OCTAVE * wavelength)
    if sigma < _LEAST_ENVELOPE:
        raise UserError(
            f"sigma of gabor takes at least {_LEAST_ENVELOPE} pixels, below which nothing but the "
            f"centre is left, got {sigma}"
        )
    radius = math.ceil(3 * sigma / _ASPECT)
    _check_side((count, 2 * radius + 1, 2 * radius + 1), f"the bank of sigma {sigma:g}")
    y, x = np.mgrid[radius : -radius - 1 : -1, -radius : radius + 1].astype(np.float64)
    kernels, labels = [], []
    for i in range(count):
        angle = math.pi * i / count
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        envelope = np.exp(-((along / sigma) ** 2 + (_ASPECT * across / sigma) ** 2) / 2)
        wave = np.cos(2 * math.pi * along / wavelength)
        kernel = envelope * (wave - (envelope * wave).sum() / envelope.sum())
        kernels.append(kernel / abs(kernel).sum())
        labels.append(f"{180 * i / count:.4g}°")
    title = f"Gabor bank, λ {wavelength:g}, σ {sigma:.3g}"
    return Filter(name, title, tuple(kernels), tuple(labels), "maximum")


_Maker: TypeAlias = Callable[[str, int, dict[str, Any]], Filter]
# What each filter takes, and who makes it.
_MAKERS: dict[str, tuple[tuple[str, ...], _Maker]] = {
    "sobel": (("direction",), _gradient),
    "prewitt": (("direction",), _gradient),
    "scharr": (("direction",), _gradient),
    "laplacian": ((), _laplacian),
    "laplacian8": ((), _laplacian),
    "gaussian": (("sigma",), _gaussian),
    "box": (("size",), _box),
    "sharpen": ((), _sharpen),
    "emboss": ((), _emboss),
    "identity": ((), _identity),
    "gabor": (("sigma", "orientations", "wavelength"), _gabor),
}
KERNELS = tuple(_MAKERS)
"""The names that `make_filter` knows."""
