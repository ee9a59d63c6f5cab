"""Colours of classes: the same class has the same colour in every picture that hubel makes."""

import colorsys
from collections.abc import Sequence

__all__ = ["GROUND", "Colour", "class_colour", "css", "ink_on", "is_background"]

Colour = tuple[int, int, int]

GROUND: Colour = (138, 147, 163)
"""Of a class called "background": grey, so that the things on it stand out."""

# Okabe and Ito 2008, "Color Universal Design": told apart with any kind of colour vision. Their
# black is left out, because it is the ground of many a picture.
_BASE: tuple[Colour, ...] = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0),
    (86, 180, 233), (204, 121, 167), (240, 228, 66),
)  # fmt: skip
_LIGHTER, _DARKER = 0.55, 0.5  # what is left of the way to white and to black
_GOLDEN = 0.618033988749895
_BACKGROUND = frozenset(("background", "bg"))


def is_background(name: str) -> bool:
    """Whether a class is what things lie on: its pixels are never painted over.

    >>> is_background("Background"), is_background("backpack")
    (True, False)
    """
    return name.strip().lower() in _BACKGROUND


def class_colour(number: int, classes: Sequence[str] = ()) -> Colour:
    """Red, green and blue (0 to 255) of class `number`, counted from 0: `GROUND` where its name
    in `classes` is that of a background.

    The first seven hold for every reader, the next fourteen are lighter and darker ones of them,
    told apart by lightness. From there on hues are spread as evenly as any number of them can be
    (steps of the golden section), and only a name beside them is certain.

    >>> class_colour(0), class_colour(7)
    ((0, 114, 178), (115, 177, 213))
    """
    if number < 0:
        raise ValueError(f"number must be 0 or more. Got {number} instead.")
    if number < len(classes) and is_background(classes[number]):
        return GROUND
    step, base = divmod(number, len(_BASE))
    if step == 0:
        return _BASE[base]
    if step == 1:
        return _mixed(_BASE[base], 255, _LIGHTER)
    if step == 2:
        return _mixed(_BASE[base], 0, _DARKER)
    rgb = colorsys.hls_to_rgb(number * _GOLDEN % 1, (0.4, 0.6, 0.75)[number % 3], 0.7)
    red, green, blue = (round(255 * c) for c in rgb)
    return red, green, blue


def css(colour: Colour) -> str:
    """A colour as style sheets write it.

    >>> css(class_colour(0))
    'rgb(0, 114, 178)'
    """
    return f"rgb{colour}"


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is read better on `colour`.

    By contrast as WCAG 2 has it: from a relative luminance of 0.18 on, black.

    >>> ink_on((240, 228, 66)), ink_on((0, 0, 128))
    ((0, 0, 0), (255, 255, 255))
    """
    linear = [(c / 255) ** 2.2 for c in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.18 else (255, 255, 255)


def _mixed(colour: Colour, other: int, kept: float) -> Colour:
    red, green, blue = (round(kept * c + (1 - kept) * other) for c in colour)
    return red, green, blue
